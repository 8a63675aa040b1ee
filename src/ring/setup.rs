//! Making rings where memory is scarce.
//!
//! The kernel wants the memory of a queue in one piece. On a host whose memory is nearly all page
//! cache there may be no such piece for a moment, though plenty could be freed: smaller queues do
//! as well, and a moment later there is more.

use std::{io, thread, time::Duration};

/// Entries of a ring's two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entries {
    /// What one system call carries: a full submission queue is submitted at once.
    pub(super) submission: u32,
    /// What may complete between two turns without the kernel having to keep an overflow list.
    pub(super) completion: u32,
}

/// What is tried, the best first.
const SIZES: [Entries; 3] = [
    Entries { submission: 2048, completion: 16_384 },
    Entries { submission: 512, completion: 4096 },
    Entries { submission: 128, completion: 1024 },
];

/// How often all sizes are tried.
const ATTEMPTS: u32 = 10;

/// What the kernel gets to free memory between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// Has `make` make a ring, with the largest queues that there is memory for. It may take a second.
///
/// # Errors
/// `ENOMEM` if there is none for the smallest, others at once.
pub(super) fn sized<T>(make: impl Fn(Entries) -> io::Result<T>) -> io::Result<T> {
    sized_with(make, || thread::sleep(PAUSE))
}

fn sized_with<T>(make: impl Fn(Entries) -> io::Result<T>, pause: impl Fn()) -> io::Result<T> {
    for attempt in 1..=ATTEMPTS {
        for entries in SIZES {
            match make(entries) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
                made => return made,
            }
        }
        if attempt < ATTEMPTS {
            pause();
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn no_memory<T>() -> io::Result<T> {
        Err(io::Error::from_raw_os_error(libc::ENOMEM))
    }

    #[test]
    fn queues_are_as_large_as_there_is_memory_for() {
        let tried = RefCell::new(Vec::new());
        let made = sized_with(
            |entries| {
                tried.borrow_mut().push(entries);
                if entries.completion > 4096 { no_memory() } else { Ok(entries) }
            },
            || panic!("a smaller size was left"),
        );
        assert_eq!(made.expect("the second size fits"), SIZES[1]);
        assert_eq!(*tried.borrow(), SIZES[..2]);
    }

    #[test]
    fn memory_that_is_there_a_moment_later_is_used() {
        let pauses = Cell::new(0);
        let made = sized_with(
            |entries| if pauses.get() < 3 { no_memory() } else { Ok(entries) },
            || pauses.set(pauses.get() + 1),
        );
        assert_eq!(made.expect("there is memory by then"), SIZES[0]);
    }

    #[test]
    fn without_memory_it_ends_after_a_bounded_time() {
        let pauses = Cell::new(0);
        let made = sized_with(|_| no_memory::<()>(), || pauses.set(pauses.get() + 1));
        assert_eq!(made.expect_err("there is none").raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(pauses.get(), ATTEMPTS - 1);
    }

    #[test]
    fn another_error_is_told_at_once() {
        let calls = Cell::new(0);
        let made = sized_with(
            |_| {
                calls.set(calls.get() + 1);
                Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM))
            },
            || panic!("waiting helps nobody"),
        );
        assert_eq!(made.expect_err("it is forbidden").raw_os_error(), Some(libc::EPERM));
        assert_eq!(calls.get(), 1);
    }
}
