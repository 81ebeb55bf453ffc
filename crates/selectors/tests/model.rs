//! Random sequences of registering, traffic and closing, against a model: after every step each
//! backend reports what the model says, so all of them agree.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use oxlip_selectors::backend::Backend;
use oxlip_selectors::backend::epoll::Epoll;
use oxlip_selectors::backend::poll::Poll;
use oxlip_selectors::backend::select::Select;
use oxlip_selectors::event::Event;
use oxlip_selectors::interest::Interest;
use oxlip_selectors::key::Key;
use oxlip_selectors::selector::{Selector, SelectorError};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, proptest};
use rustix::net::sockopt::set_socket_send_buffer_size;

proptest! {
    #[test]
    fn every_backend_follows_the_model(steps in collection::vec((0..SOCKETS, step()), 1..60)) {
        run(&steps, Bare::<Epoll>::new);
        run(&steps, Bare::<Poll>::new);
        run(&steps, Bare::<Select>::new);
    }

    #[test]
    fn every_selector_follows_the_model(steps in collection::vec((0..SOCKETS, step()), 1..60)) {
        run(&steps, || Selector::<Epoll, u32>::new().unwrap());
        run(&steps, || Selector::<Poll, u32>::new().unwrap());
        run(&steps, || Selector::<Select, u32>::new().unwrap());
    }
}

/// What happens to one of the sockets.
#[derive(Clone, Copy, Debug)]
enum Step {
    Register(Interest, u32),
    Modify(Interest, u32),
    Unregister,
    /// The peer sends something.
    Send,
    /// We read all there is.
    Drain,
    /// We write until no more fits.
    Fill,
    /// The peer reads all there is.
    PeerDrain,
    PeerClose,
    /// We unregister and close. The next connection may get the number.
    Replace,
}

fn step() -> impl Strategy<Value = Step> {
    let interest = || {
        prop_oneof![
            Just(Interest::READ),
            Just(Interest::WRITE),
            Just(Interest::BOTH)
        ]
    };
    prop_oneof![
        4 => (interest(), any::<u32>()).prop_map(|(interest, data)| Step::Register(interest, data)),
        4 => (interest(), any::<u32>()).prop_map(|(interest, data)| Step::Modify(interest, data)),
        2 => Just(Step::Unregister),
        2 => Just(Step::Send),
        1 => Just(Step::Drain),
        2 => Just(Step::Fill),
        1 => Just(Step::PeerDrain),
        1 => Just(Step::PeerClose),
        1 => Just(Step::Replace),
    ]
}

/// One connection, with what we know of it.
struct Socket {
    ours: UnixStream,
    theirs: Option<UnixStream>,
    data_waits: bool,
    full: bool,
    registered: Option<(Interest, u32)>,
}

impl Socket {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        set_socket_send_buffer_size(&ours, 4096).unwrap();
        Self {
            ours,
            theirs: Some(theirs),
            data_waits: false,
            full: false,
            registered: None,
        }
    }

    fn ready(&self) -> Interest {
        let gone = self.theirs.is_none();
        let mut ready = Interest::NONE;
        if self.data_waits || gone {
            ready |= Interest::READ;
        }
        if !self.full || gone {
            ready |= Interest::WRITE;
        }
        ready
    }
}

fn run<W: Watcher>(steps: &[(usize, Step)], new: impl Fn() -> W) {
    let mut watcher = new();
    let mut sockets: Vec<_> = (0..SOCKETS).map(|_| Socket::new()).collect();
    for (index, &(socket, step)) in steps.iter().enumerate() {
        take(step, &mut sockets[socket], &mut watcher);
        let mut expected: Vec<_> = sockets
            .iter()
            .filter_map(|socket| {
                let (asked, data) = socket.registered?;
                let ready = socket.ready() & asked;
                (!ready.is_empty()).then_some((data, ready))
            })
            .collect();
        let mut found = watcher.ready();
        let order = |&(data, ready): &(u32, Interest)| (data, ready.bits());
        expected.sort_by_key(order);
        found.sort_by_key(order);
        assert_eq!(found, expected, "{} after step {index}, {step:?}", W::NAME);
    }
}

fn take(step: Step, socket: &mut Socket, watcher: &mut impl Watcher) {
    match step {
        Step::Register(interest, data) => {
            let done = watcher.register(socket.ours.as_raw_fd(), interest, data);
            assert_eq!(done, socket.registered.is_none());
            socket.registered = socket.registered.or(Some((interest, data)));
        }
        Step::Modify(interest, data) => {
            let done = watcher.modify(socket.ours.as_raw_fd(), interest, data);
            assert_eq!(done, socket.registered.is_some());
            socket.registered = socket.registered.and(Some((interest, data)));
        }
        Step::Unregister => {
            let done = watcher.unregister(socket.ours.as_raw_fd());
            assert_eq!(done, socket.registered.is_some());
            socket.registered = None;
        }
        Step::Send => {
            if let Some(peer) = &mut socket.theirs {
                peer.write_all(b"x").unwrap();
                socket.data_waits = true;
            }
        }
        Step::Drain => {
            drain(&socket.ours);
            socket.data_waits = false;
        }
        Step::Fill => {
            while socket.theirs.is_some() && (&socket.ours).write(&[0; 4096]).is_ok() {}
            socket.full = true;
        }
        Step::PeerDrain => {
            if let Some(peer) = &socket.theirs {
                drain(peer);
                socket.full = false;
            }
        }
        Step::PeerClose => socket.theirs = None,
        Step::Replace => {
            if socket.registered.is_some() {
                assert!(watcher.unregister(socket.ours.as_raw_fd()));
            }
            *socket = Socket::new();
        }
    }
}

/// What the model is compared with. The answers are whether it was done: the only reasons not to are
/// that the descriptor is registered already, or is not.
trait Watcher {
    const NAME: &'static str;
    fn register(&mut self, fd: RawFd, interest: Interest, data: u32) -> bool;
    fn modify(&mut self, fd: RawFd, interest: Interest, data: u32) -> bool;
    fn unregister(&mut self, fd: RawFd) -> bool;
    fn ready(&mut self) -> Vec<(u32, Interest)>;
}

/// A backend, and who asked for what: its events only say what is ready.
struct Bare<B> {
    backend: B,
    asked: BTreeMap<u64, Interest>,
    tokens: BTreeMap<RawFd, u64>,
}

impl<B: Backend> Bare<B> {
    fn new() -> Self {
        Self {
            backend: B::new().unwrap(),
            asked: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    fn note(&mut self, fd: RawFd, asked: Option<(u64, Interest)>) {
        if let Some(token) = self.tokens.remove(&fd) {
            self.asked.remove(&token);
        }
        if let Some((token, interest)) = asked {
            self.tokens.insert(fd, token);
            self.asked.insert(token, interest);
        }
    }
}

impl<B: Backend> Watcher for Bare<B> {
    const NAME: &'static str = B::NAME;

    fn register(&mut self, fd: RawFd, interest: Interest, data: u32) -> bool {
        let token = token(fd, data);
        match self.backend.add(fd, token, interest) {
            Ok(()) => {
                self.note(fd, Some((token, interest)));
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                false
            }
        }
    }

    fn modify(&mut self, fd: RawFd, interest: Interest, data: u32) -> bool {
        let token = token(fd, data);
        match self.backend.modify(fd, token, interest) {
            Ok(()) => {
                self.note(fd, Some((token, interest)));
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                false
            }
        }
    }

    fn unregister(&mut self, fd: RawFd) -> bool {
        match self.backend.delete(fd) {
            Ok(()) => {
                self.note(fd, None);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                false
            }
        }
    }

    fn ready(&mut self) -> Vec<(u32, Interest)> {
        let mut events = Vec::new();
        self.backend
            .wait(Some(Duration::ZERO), &mut events)
            .unwrap();
        let answer = |event: &Event| {
            let data = u32::try_from(event.token & u64::from(u32::MAX)).unwrap();
            (data, event.readiness.answers(self.asked[&event.token]))
        };
        events.iter().map(answer).collect()
    }
}

fn token(fd: RawFd, data: u32) -> u64 {
    u64::from(fd.cast_unsigned()) << 32 | u64::from(data)
}

impl<B: Backend> Watcher for Selector<B, u32> {
    const NAME: &'static str = B::NAME;

    fn register(&mut self, fd: RawFd, interest: Interest, data: u32) -> bool {
        match self.register(fd, interest, data) {
            Ok(key) => {
                assert_eq!(*key, Key { fd, interest, data });
                true
            }
            Err(error) => {
                assert!(matches!(error, SelectorError::Registered(number) if number == fd));
                false
            }
        }
    }

    fn modify(&mut self, fd: RawFd, interest: Interest, data: u32) -> bool {
        done(self.modify(fd, interest, data), fd)
    }

    fn unregister(&mut self, fd: RawFd) -> bool {
        done(self.unregister(fd), fd)
    }

    fn ready(&mut self) -> Vec<(u32, Interest)> {
        let ready = self.select(Some(Duration::ZERO)).unwrap();
        ready.map(|(key, interest)| (key.data, interest)).collect()
    }
}

fn done<K>(result: Result<K, SelectorError>, fd: RawFd) -> bool {
    match result {
        Ok(_) => true,
        Err(SelectorError::NotRegistered(number)) => {
            assert_eq!(number, fd);
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn drain(mut stream: &UnixStream) {
    while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
}

const SOCKETS: usize = 5;
