//! Ranges of a file that writes in flight cover, where the host's blocks are larger than sectors.
//!
//! A write of part of a block has to read the block first. While it does, no other write may
//! touch the block, or its data would be overwritten with what was there before.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::waker::Waker;

/// How a range is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Whole blocks: together with others of the kind.
    Shared,
    /// Parts of blocks: alone.
    Alone,
}

#[derive(Debug)]
struct Held {
    id: u64,
    start: u64,
    end: u64,
    hold: Hold,
}

/// What is held; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    held: Vec<Held>,
    next: u64,
    /// Lanes with requests that wait for a range.
    waiting: Vec<Waker>,
}

impl Ranges {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a range. When it cannot be had, `wake` is signalled once something was let go.
    pub fn try_hold(&self, start: u64, end: u64, hold: Hold, wake: &Waker) -> Option<RangeHold> {
        let mut inner = self.lock();
        let clash = |held: &Held| {
            held.start < end
                && start < held.end
                && (held.hold == Hold::Alone || hold == Hold::Alone)
        };
        if inner.held.iter().any(clash) {
            if !inner.waiting.iter().any(|other| other.is(wake)) {
                inner.waiting.push(wake.clone());
            }
            return None;
        }
        inner.next = inner.next.wrapping_add(1);
        let id = inner.next;
        inner.held.push(Held {
            id,
            start,
            end,
            hold,
        });
        drop(inner);
        Some(RangeHold {
            ranges: self.clone(),
            id,
        })
    }

    /// Takes a range, and waits for it where it cannot be had at once.
    ///
    /// # Errors
    /// When the host has no descriptor to wait with.
    pub fn hold(&self, start: u64, end: u64, hold: Hold) -> io::Result<RangeHold> {
        let wake = Waker::new().map_err(|error| io::Error::other(error.to_string()))?;
        loop {
            if let Some(held) = self.try_hold(start, end, hold, &wake) {
                return Ok(held);
            }
            wake.wait();
            wake.clear();
        }
    }
}

/// A range that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct RangeHold {
    ranges: Ranges,
    id: u64,
}

impl Drop for RangeHold {
    fn drop(&mut self) {
        let mut inner = self.ranges.lock();
        if let Some(at) = inner.held.iter().position(|held| held.id == self.id) {
            inner.held.swap_remove(at);
        }
        for wake in inner.waiting.drain(..) {
            wake.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_blocks_are_held_alone() {
        let ranges = Ranges::default();
        let wake = Waker::new().unwrap();
        let whole = ranges.try_hold(0, 4096, Hold::Shared, &wake).unwrap();
        let other = ranges.try_hold(0, 4096, Hold::Shared, &wake).unwrap();
        assert!(ranges.try_hold(0, 4096, Hold::Alone, &wake).is_none());
        assert!(ranges.try_hold(4096, 8192, Hold::Alone, &wake).is_some());
        assert!(wake.take(), "the range beside it was let go");
        drop(whole);
        assert!(ranges.try_hold(0, 4096, Hold::Alone, &wake).is_none());
        drop(other);
        assert!(wake.take());
        let alone = ranges.try_hold(0, 4096, Hold::Alone, &wake).unwrap();
        assert!(ranges.try_hold(4095, 8192, Hold::Shared, &wake).is_none());
        drop(alone);
        assert!(ranges.try_hold(0, 8192, Hold::Shared, &wake).is_some());
    }
}
