//! Closures on descriptors that the loop does not own.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use oxlip::{AnyDriver, LocalLoop, Sim};

fn pair() -> (Rc<UnixStream>, UnixStream) {
    let (one, other) = UnixStream::pair().expect("socketpair");
    (Rc::new(one), other)
}

fn loops() -> impl Iterator<Item = LocalLoop> {
    ["epoll", "io_uring", "poll", "select"]
        .into_iter()
        .map(|name| LocalLoop::with_driver(AnyDriver::new(Some(name)).expect("a driver")))
}

#[test]
fn a_reader_is_called_while_there_is_something_to_read() {
    for owner in loops() {
        let (one, mut other) = pair();
        let calls = Rc::new(Cell::new(0));
        let (counted, lp, reading) = (calls.clone(), owner.handle(), one.clone());
        owner
            .add_reader(&*one, move || {
                counted.set(counted.get() + 1);
                if counted.get() == 3 {
                    let mut buffer = [0; 8];
                    assert_eq!((&*reading).read(&mut buffer).expect("read"), 4);
                    lp.stop();
                }
            })
            .expect("a socket");
        other.write_all(b"ping").expect("write");
        owner.run();
        assert_eq!(calls.get(), 3);
        let lp = owner.handle();
        owner.call_later(Duration::from_millis(1), move || lp.stop());
        owner.run();
        assert_eq!(calls.get(), 3, "nothing is left");
        assert!(owner.remove_reader(&*one));
        assert!(!owner.remove_reader(&*one));
    }
}

#[test]
fn a_removed_callback_is_not_called_even_if_due() {
    for owner in loops() {
        let (one, _other) = pair();
        let calls = Rc::new(Cell::new(0));
        let (counted, lp, watched) = (calls.clone(), owner.handle(), one.clone());
        owner
            .add_writer(&*one, move || {
                counted.set(counted.get() + 1);
                assert!(lp.remove_writer(&*watched));
                lp.stop();
            })
            .expect("a socket");
        let (lp, watched, counted) = (owner.handle(), one.clone(), calls.clone());
        let (second, _other) = pair();
        owner
            .add_writer(&*second, move || {
                // Both are due in the same tick: whichever is called first, the other is not.
                if counted.get() == 0 {
                    assert!(lp.remove_writer(&*watched));
                    counted.set(-1);
                }
                lp.stop();
            })
            .expect("a socket");
        owner.run();
        assert!(matches!(calls.get(), 1 | -1));
    }
}

#[test]
fn reader_and_writer_of_one_descriptor_are_apart() {
    for owner in loops() {
        let (one, mut other) = pair();
        let (lp, watched) = (owner.handle(), one.clone());
        let seen = Rc::new(Cell::new((false, false)));
        let noted = seen.clone();
        owner
            .add_writer(&*one, move || {
                noted.set((noted.get().0, true));
                assert!(lp.remove_writer(&*watched));
                other.write_all(b"x").expect("write");
            })
            .expect("a socket");
        let (lp, noted) = (owner.handle(), seen.clone());
        owner
            .add_reader(&*one, || unreachable!("replaced"))
            .expect("a socket");
        owner
            .add_reader(&*one, move || {
                noted.set((true, noted.get().1));
                lp.stop();
            })
            .expect("a socket");
        owner.run();
        assert_eq!(seen.get(), (true, true));
    }
}

#[test]
fn what_cannot_be_watched_is_an_error_and_leaves_nothing() {
    let owner = LocalLoop::with_driver(AnyDriver::new(Some("epoll")).expect("a driver"));
    let file = std::fs::File::open("/proc/self/exe").expect("a file");
    let error = owner.add_reader(&file, || ()).expect_err("a regular file");
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(!owner.remove_reader(&file));
    let simulated = LocalLoop::with_driver(AnyDriver::simulating(Sim::new(0)));
    let error = simulated
        .add_reader(&file, || ())
        .expect_err("no descriptors there");
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}
