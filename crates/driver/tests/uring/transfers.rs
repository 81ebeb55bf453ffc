//! Reads and writes of regular files by the ring.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::task::Poll;

use oxlip_core::file::{Transfer, Transferred, Way};
use oxlip_core::op::{Completion, Op};
use oxlip_driver::Driver;
use oxlip_driver::uring::Uring;

use crate::world::{driver, wait};

/// A file of this test, which is removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &[u8]) -> (Self, File) {
        let name = format!("oxlip-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).expect("write");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("open");
        (Self(path), file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn submit(driver: &mut Uring, key: u64, file: &File, at: Option<u64>, way: Way, bytes: Vec<u8>) {
    let transfer = Box::new(Transfer {
        key,
        descriptor: file.as_raw_fd(),
        offset: at,
        way,
        bytes,
    });
    assert!(driver.submit(Op::File(transfer)).is_pending());
}

fn ended(driver: &mut Uring, count: usize) -> Vec<Transferred> {
    let mut ended = Vec::new();
    while ended.len() < count {
        for completion in wait(driver) {
            match completion {
                Completion::File(transferred) => ended.push(*transferred),
                other => panic!("{other:?}"),
            }
        }
    }
    ended.sort_by_key(|transferred| transferred.key);
    ended
}

#[test]
fn what_is_written_is_read() {
    let Some(mut driver) = driver() else { return };
    let (_scratch, file) = Scratch::new("both-ways", b"");
    submit(&mut driver, 7, &file, Some(3), Way::Write, b"some".to_vec());
    let written = ended(&mut driver, 1).remove(0);
    assert_eq!((written.key, written.outcome.expect("write")), (7, 4));
    assert_eq!(written.bytes, b"some");
    submit(&mut driver, 8, &file, Some(0), Way::Read, vec![9; 100]);
    let read = ended(&mut driver, 1).remove(0);
    assert_eq!(read.outcome.expect("read"), 7);
    assert_eq!(read.bytes[..7], *b"\0\0\0some");
    submit(&mut driver, 9, &file, Some(7), Way::Read, vec![9; 100]);
    assert_eq!(ended(&mut driver, 1)[0].outcome.as_ref().ok(), Some(&0));
}

#[test]
fn without_an_offset_the_descriptor_moves() {
    let Some(mut driver) = driver() else { return };
    let (scratch, file) = Scratch::new("moving", b"");
    for part in [b"one", b"two"] {
        submit(&mut driver, 0, &file, None, Way::Write, part.to_vec());
        ended(&mut driver, 1).remove(0).outcome.expect("write");
    }
    assert_eq!(fs::read(&scratch.0).expect("read"), b"onetwo");
}

#[test]
fn more_than_the_ring_has_room_for() {
    let Some(mut driver) = driver() else { return };
    let (scratch, file) = Scratch::new("many", b"");
    for key in 0..1000 {
        let bytes = u16::try_from(key).expect("small").to_le_bytes().to_vec();
        submit(&mut driver, key, &file, Some(2 * key), Way::Write, bytes);
    }
    let ended = ended(&mut driver, 1000);
    assert!(ended.iter().all(|one| matches!(one.outcome, Ok(2))));
    let expected: Vec<u8> = (0..1000_u16).flat_map(u16::to_le_bytes).collect();
    assert_eq!(fs::read(&scratch.0).expect("read"), expected);
}

#[test]
fn errors_are_the_systems() {
    let Some(mut driver) = driver() else { return };
    let (scratch, _) = Scratch::new("refused", b"some");
    let file = File::open(&scratch.0).expect("open");
    submit(&mut driver, 0, &file, Some(0), Way::Write, b"x".to_vec());
    let error = ended(&mut driver, 1)
        .remove(0)
        .outcome
        .expect_err("read-only");
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

/// The end of the driver waits for the kernel, or the bytes outlive it.
#[test]
fn a_driver_dropped_with_transfers_under_way() {
    let (scratch, file) = Scratch::new("dropped", &vec![1; 1 << 20]);
    for round in 0..20 {
        let Some(mut driver) = driver() else { return };
        for key in 0..16 {
            let way = if key % 2 == 0 { Way::Read } else { Way::Write };
            submit(
                &mut driver,
                key,
                &file,
                Some(key << 16),
                way,
                vec![1; 1 << 16],
            );
        }
        if round % 2 == 0 {
            let mut completions = Vec::new();
            driver
                .wait(Some(std::time::Duration::ZERO), &mut completions)
                .expect("wait");
        }
        drop(driver);
    }
    assert_eq!(fs::read(&scratch.0).expect("read"), vec![1; 1 << 20]);
}

/// A loop at rest may go on in another thread, which gets a ring of its own.
#[test]
fn a_driver_that_changes_its_thread() {
    let Some(mut driver) = driver() else { return };
    let (_scratch, file) = Scratch::new("moved", b"some");
    submit(&mut driver, 0, &file, Some(0), Way::Read, vec![0; 4]);
    ended(&mut driver, 1);
    submit(&mut driver, 1, &file, Some(0), Way::Read, vec![0; 4]);
    let moved = std::thread::spawn(move || {
        let one = ended(&mut driver, 1).remove(0);
        assert_eq!(one.outcome.expect("read"), 4);
        assert!(matches!(
            driver.submit(Op::File(Box::new(Transfer {
                key: 2,
                descriptor: file.as_raw_fd(),
                offset: Some(1),
                way: Way::Read,
                bytes: vec![0; 4],
            }))),
            Poll::Pending
        ));
        assert_eq!(ended(&mut driver, 1).remove(0).bytes, b"ome\0");
    });
    moved.join().expect("no panic");
}
