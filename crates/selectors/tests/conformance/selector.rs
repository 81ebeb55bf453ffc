//! Python's semantics: `Selector` over every backend.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use oxlip_selectors::backend::Backend;
use oxlip_selectors::interest::Interest;
use oxlip_selectors::key::Key;
use oxlip_selectors::selector::{Selector, SelectorError};
use rustix::io::{Errno, dup2};

use crate::fixture::{FIRST_RESERVED, Reserved, fill, pair};

on_every_backend! {
    a_key_is_registered_once_and_found
    a_key_carries_its_data_to_the_wait
    interest_and_data_can_be_modified
    nothing_is_no_interest
    unknown_descriptors_are_not_registered
    a_bad_descriptor_is_refused_and_not_kept
    a_hang_up_is_what_was_asked_for
    unregistering_works_after_closing
    unregistering_works_after_closing_and_reuse
    an_old_registration_is_not_taken_for_a_new_one
    a_failed_modify_unregisters
    the_map_follows_the_registrations
    a_closed_selector_refuses
}

fn a_key_is_registered_once_and_found<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, _theirs) = pair();
    let fd = ours.as_raw_fd();
    let expected = Key {
        fd,
        interest: Interest::READ,
        data: "a",
    };
    assert_eq!(
        *selector.register(fd, Interest::READ, "a").unwrap(),
        expected
    );
    let again = selector.register(fd, Interest::WRITE, "b");
    assert!(matches!(again, Err(SelectorError::Registered(number)) if number == fd));
    assert_eq!(*selector.get_key(fd).unwrap(), expected);
    assert_eq!(selector.unregister(fd).unwrap(), expected);
    let again = selector.unregister(fd);
    assert!(matches!(again, Err(SelectorError::NotRegistered(number)) if number == fd));
}

fn a_key_carries_its_data_to_the_wait<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (a, mut b) = pair();
    selector
        .register(a.as_raw_fd(), Interest::BOTH, "both")
        .unwrap();
    selector
        .register(b.as_raw_fd(), Interest::READ, "read")
        .unwrap();
    assert_eq!(found(&mut selector), [("both", Interest::WRITE)]);
    b.write_all(b"x").unwrap();
    (&a).write_all(b"x").unwrap();
    assert_eq!(
        found(&mut selector),
        [("both", Interest::BOTH), ("read", Interest::READ)]
    );
}

fn interest_and_data_can_be_modified<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, _theirs) = pair();
    let fd = ours.as_raw_fd();
    selector.register(fd, Interest::READ, "a").unwrap();
    assert_eq!(found(&mut selector), []);
    let key = selector.modify(fd, Interest::WRITE, "a").unwrap();
    assert_eq!(
        *key,
        Key {
            fd,
            interest: Interest::WRITE,
            data: "a"
        }
    );
    assert_eq!(found(&mut selector), [("a", Interest::WRITE)]);
    selector.modify(fd, Interest::WRITE, "b").unwrap();
    assert_eq!(found(&mut selector), [("b", Interest::WRITE)]);
    selector.modify(fd, Interest::READ, "c").unwrap();
    assert_eq!(found(&mut selector), []);
    assert_eq!(selector.get_key(fd).unwrap().data, "c");
}

fn nothing_is_no_interest<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, _theirs) = pair();
    let fd = ours.as_raw_fd();
    let refused = selector.register(fd, Interest::NONE, "");
    assert!(matches!(refused, Err(SelectorError::NoInterest)));
    assert!(selector.get_key(fd).is_err());
    selector.register(fd, Interest::WRITE, "a").unwrap();
    let refused = selector.modify(fd, Interest::NONE, "b");
    assert!(matches!(refused, Err(SelectorError::NoInterest)));
    assert_eq!(found(&mut selector), [("a", Interest::WRITE)]);
}

fn unknown_descriptors_are_not_registered<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    for fd in [0, 7, i32::MAX, -1] {
        for refused in [
            selector.unregister(fd).err(),
            selector.get_key(fd).err(),
            selector.modify(fd, Interest::READ, "").err(),
        ] {
            let Some(SelectorError::NotRegistered(number)) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(number, fd);
        }
    }
}

fn a_bad_descriptor_is_refused_and_not_kept<B: Backend>() {
    let _reserved = Reserved::new();
    let mut selector = Selector::<B, _>::new().unwrap();
    for fd in [FIRST_RESERVED, -1] {
        let Err(SelectorError::System(error)) = selector.register(fd, Interest::READ, "") else {
            panic!("{fd} is not open")
        };
        assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
        assert!(matches!(
            selector.get_key(fd),
            Err(SelectorError::NotRegistered(_))
        ));
    }
    assert!(selector.get_map().unwrap().is_empty());
}

fn a_hang_up_is_what_was_asked_for<B: Backend>() {
    for asked in [Interest::READ, Interest::WRITE, Interest::BOTH] {
        let mut selector = Selector::<B, _>::new().unwrap();
        let (ours, theirs) = pair();
        fill(&ours);
        selector.register(ours.as_raw_fd(), asked, "").unwrap();
        assert_eq!(found(&mut selector), []);
        drop(theirs);
        assert_eq!(found(&mut selector), [("", asked)]);
    }
}

fn unregistering_works_after_closing<B: Backend>() {
    let reserved = Reserved::new();
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, _theirs) = pair();
    let closed = reserved.duplicate(ours);
    let fd = closed.as_raw_fd();
    selector.register(fd, Interest::READ, "a").unwrap();
    drop(closed);
    assert_eq!(selector.unregister(fd).unwrap().data, "a");
    assert_eq!(found(&mut selector), []);
    assert!(selector.get_map().unwrap().is_empty());
}

fn unregistering_works_after_closing_and_reuse<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let mut number = OwnedFd::from(reader);
    let (ours, _theirs) = pair();
    selector
        .register(number.as_raw_fd(), Interest::READ, "a")
        .unwrap();
    dup2(&ours, &mut number).unwrap();
    assert_eq!(selector.unregister(number.as_raw_fd()).unwrap().data, "a");
    selector
        .register(number.as_raw_fd(), Interest::WRITE, "b")
        .unwrap();
    assert_eq!(found(&mut selector), [("b", Interest::WRITE)]);
}

/// The first file lives on through a duplicate, so epoll keeps reporting it: to nobody.
fn an_old_registration_is_not_taken_for_a_new_one<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    let mut number = rustix::io::dup(&ours).unwrap();
    selector
        .register(number.as_raw_fd(), Interest::READ, "old")
        .unwrap();
    assert_eq!(found(&mut selector), [("old", Interest::READ)]);
    let (reader, mut writer) = io::pipe().unwrap();
    dup2(&reader, &mut number).unwrap();
    selector.unregister(number.as_raw_fd()).unwrap();
    selector
        .register(number.as_raw_fd(), Interest::READ, "new")
        .unwrap();
    assert_eq!(found(&mut selector), []);
    writer.write_all(b"x").unwrap();
    assert_eq!(found(&mut selector), [("new", Interest::READ)]);
}

fn a_failed_modify_unregisters<B: Backend>() {
    let reserved = Reserved::new();
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, _theirs) = pair();
    let closed = reserved.duplicate(ours);
    let fd = closed.as_raw_fd();
    selector.register(fd, Interest::READ, "a").unwrap();
    drop(closed);
    let modified = selector
        .modify(fd, Interest::WRITE, "b")
        .map(|key| key.data);
    if B::NAME == "epoll" {
        assert!(matches!(modified, Err(SelectorError::System(_))));
        assert!(selector.get_key(fd).is_err());
    } else {
        assert_eq!(modified.unwrap(), "b");
        assert_eq!(found(&mut selector), [("b", Interest::WRITE)]);
    }
}

fn the_map_follows_the_registrations<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (a, b) = pair();
    let (low, high) = if a.as_raw_fd() < b.as_raw_fd() {
        (&a, &b)
    } else {
        (&b, &a)
    };
    selector
        .register(high.as_raw_fd(), Interest::READ, "high")
        .unwrap();
    selector
        .register(low.as_raw_fd(), Interest::READ, "low")
        .unwrap();
    let map = selector.get_map().unwrap();
    assert_eq!(map.len(), 2);
    assert_eq!(map.get(low.as_raw_fd()).unwrap().data, "low");
    assert_eq!(
        map.iter().map(|key| key.data).collect::<Vec<_>>(),
        ["low", "high"]
    );
    selector.unregister(low.as_raw_fd()).unwrap();
    let map = selector.get_map().unwrap();
    assert_eq!((map.len(), map.is_empty()), (1, false));
    assert!(map.get(low.as_raw_fd()).is_none());
    assert_eq!(map.iter().map(|key| key.data).collect::<Vec<_>>(), ["high"]);
}

fn a_closed_selector_refuses<B: Backend>() {
    let mut selector = Selector::<B, _>::new().unwrap();
    let (ours, _theirs) = pair();
    let fd = ours.as_raw_fd();
    selector.register(fd, Interest::READ, "a").unwrap();
    assert!(selector.backend().is_some());
    selector.close();
    selector.close();
    assert!(selector.get_map().is_none());
    assert!(selector.backend().is_none());
    for refused in [
        selector.register(fd, Interest::READ, "a").err(),
        selector.modify(fd, Interest::READ, "a").err(),
        selector.unregister(fd).err(),
        selector.get_key(fd).err(),
        selector.select(None).err(),
    ] {
        assert!(
            matches!(refused, Some(SelectorError::Closed)),
            "{refused:?}"
        );
    }
}

/// What is ready now, in the order of the data.
fn found<B: Backend>(selector: &mut Selector<B, &'static str>) -> Vec<(&'static str, Interest)> {
    let ready = selector.select(Some(Duration::ZERO)).unwrap();
    let mut found: Vec<_> = ready.map(|(key, interest)| (key.data, interest)).collect();
    found.sort_by_key(|&(data, _)| data);
    found
}
