#![allow(unsafe_code)] // epoll, which std does not offer
//! An epoll set as a descriptor of its own, so that it can be watched in its turn.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::sys::check;

/// Events of one look at most.
const MOST: usize = 64;

/// What one of the descriptors in the set is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) struct Ready {
    /// As it was given with the descriptor.
    pub token: u64,
    /// EPOLLIN and so on.
    pub events: u32,
}

/// An epoll set. Closing it takes nothing else along.
#[derive(Debug)]
pub(in crate::backend) struct Epoll(OwnedFd);

impl Epoll {
    /// An empty one.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, belongs to nobody else.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches a descriptor for `events`.
    ///
    /// # Errors
    /// For what cannot be watched, and for what is watched already.
    pub fn add(&self, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, token)
    }

    /// Watches it for others.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn change(&self, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    /// Watches it no longer. To be called before the descriptor is closed: somebody else may hold
    /// the same open file.
    pub fn remove(&self, fd: RawFd) {
        // It may have gone already.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, what: i32, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events.cast_unsigned(),
            u64: token,
        };
        // SAFETY: `event` lives across the call.
        check(unsafe { libc::epoll_ctl(self.as_raw_fd(), what, fd, &mut event) }).map(drop)
    }

    /// Waits for events, for ever without a timeout, and puts them in the place of what was in
    /// `into`.
    ///
    /// # Errors
    /// Those of epoll_wait(2), without EINTR.
    pub fn wait(&self, timeout: Option<Duration>, into: &mut Vec<Ready>) -> io::Result<()> {
        into.clear();
        // Rounded up, so that the time has come when this returns.
        let milliseconds = timeout.map_or(-1, |time| {
            let whole = time.as_nanos().div_ceil(1_000_000);
            i32::try_from(whole).unwrap_or(i32::MAX)
        });
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        // SAFETY: the kernel writes at most `MOST` entries.
        let result = check(unsafe {
            libc::epoll_wait(
                self.as_raw_fd(),
                events.as_mut_ptr(),
                MOST as i32,
                milliseconds,
            )
        });
        let count = match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => usize::try_from(result?).unwrap_or(0),
        };
        into.extend(events.iter().take(count).map(|event| Ready {
            token: event.u64,
            events: event.events,
        }));
        Ok(())
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
