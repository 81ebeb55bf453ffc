//! The CPU time another process has used, all its threads together.
//!
//! `/proc/PID/task/TID/schedstat` gives nanoseconds on a CPU as its first field, where
//! `/proc/PID/stat` counts clock ticks of 10 ms.

use std::fs;
use std::io;

/// Nanoseconds on a CPU since the process began; threads that have ended are not in it.
pub(crate) fn nanos(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(entry?.path().join("schedstat")) {
            Ok(text) => total += first_field(&text)?,
            // The thread ended between the listing and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

fn first_field(text: &str) -> io::Result<u64> {
    text.split_ascii_whitespace()
        .next()
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("schedstat holds no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_time_grows() {
        let pid = std::process::id();
        let before = nanos(pid).expect("procfs");
        let mut sum = 0_u64;
        // The kernel brings the figure up to date at its own tick: work until it has.
        for round in 0..10_000_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(round));
            if round % 1_000_000 == 0 && nanos(pid).expect("procfs") > before {
                return;
            }
        }
        panic!("the time stood still: {sum}");
    }

    #[test]
    fn no_such_process_is_an_error() {
        assert!(nanos(u32::MAX).is_err());
    }
}
