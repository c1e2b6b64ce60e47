//! How the owner of a lane learns that there is something to reap.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::error::BlockError;
use crate::sys;

/// An event, shared by a lane and all lanes below it; clones are the same event.
///
/// Whoever opens the topmost lane makes it, watches [`Self::fd`], and on an event first clears it
/// and then reaps. Lanes only ever signal it: what ends while they are looked at signals again.
///
/// Whoever waits for the lane to become empty hurries it: while it is hurried, no lane below lets
/// requests wait for limits on their rate.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    event: EventFd,
    /// How many hurry it.
    hurried: AtomicUsize,
}

impl Waker {
    /// A new event, not signalled.
    ///
    /// # Errors
    /// When the host has no room for a descriptor.
    pub fn new() -> Result<Self, BlockError> {
        EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map(|event| {
                let hurried = AtomicUsize::new(0);
                Waker(Arc::new(Inner { event, hurried }))
            })
            .map_err(|error| BlockError::host("Could not make an eventfd", error))
    }

    /// Readable (level-triggered) while it is signalled. Stays the same.
    pub fn fd(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }

    /// Signals it. Any thread.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.0.event.write(1);
    }

    /// Takes the signal back; before reaping.
    pub fn clear(&self) {
        let _ = self.0.event.read();
    }

    /// Lets nothing wait for limits from now on, and wakes the lane. Any thread.
    pub fn hurry(&self) {
        self.0.hurried.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Takes one [`Self::hurry`] back.
    pub fn calm(&self) {
        self.0.hurried.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.0.hurried.load(Ordering::SeqCst) > 0
    }

    /// Whether the two are the same event.
    pub(crate) fn is(&self, other: &Waker) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes the signal back; whether there was one.
    #[cfg(test)]
    pub(crate) fn take(&self) -> bool {
        self.0.event.read().is_ok()
    }

    /// Blocks until it is signalled.
    pub fn wait(&self) {
        sys::wait_readable(self.fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_stays_until_it_is_cleared() {
        let waker = Waker::new().unwrap();
        waker.clone().wake();
        waker.wake();
        waker.wait();
        waker.clear();
        assert!(!waker.take());
    }
}
