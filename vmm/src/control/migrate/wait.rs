//! Waiting on the thread of a migration: for a descriptor or for a moment, and never beyond the
//! word that all is over.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use crate::migration::host::{Broken, Cancel};
use crate::process::errno;
use crate::sys;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The descriptor has something, or an error.
    Ready,
    /// The time is over.
    Late,
}

/// Waits until the descriptor is ready for any of `events` (as in poll(2)), for `limit` at most.
///
/// # Errors
/// When it was cancelled, or the host cannot wait.
pub(super) fn ready(
    fd: &impl AsRawFd,
    events: i16,
    limit: Option<Duration>,
    cancel: &Cancel,
) -> Result<Waited, Broken> {
    wait(Some((fd.as_raw_fd(), events)), limit, cancel)
}

/// Waits so long.
///
/// # Errors
/// When it was cancelled.
pub(super) fn pause(time: Duration, cancel: &Cancel) -> Result<(), Broken> {
    wait(None, Some(time), cancel).map(drop)
}

/// An error of the host, said as what was tried.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Broken {
    let what = what.into();
    move |error| Broken::Failed(format!("{what}: {}", errno(&error)))
}

fn wait(
    fd: Option<(RawFd, i16)>,
    limit: Option<Duration>,
    cancel: &Cancel,
) -> Result<Waited, Broken> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        // Rounded up, so that it is over when poll says so.
        let left = left.map(|left| i32::try_from(left.as_millis().saturating_add(1)));
        let left = left.map(|left| left.unwrap_or(i32::MAX));
        let mut entries = vec![sys::poll_entry(cancel.event().as_raw_fd(), libc::POLLIN)];
        entries.extend(fd.map(|(fd, events)| sys::poll_entry(fd, events)));
        sys::poll(&mut entries, left).map_err(failed("Cannot wait"))?;
        let came = |at: usize| entries.get(at).is_some_and(|entry| entry.revents != 0);
        if came(0) {
            return Err(Broken::Cancelled);
        }
        if came(1) {
            return Ok(Waited::Ready);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(Waited::Late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_by_the_descriptor_the_time_or_the_word() {
        let cancel = Cancel::new().unwrap();
        let (read, write) = sys::pipe().unwrap();
        let short = Some(Duration::from_millis(5));
        let wait = |cancel: &Cancel| ready(&read, libc::POLLIN, short, cancel);
        assert_eq!(wait(&cancel), Ok(Waited::Late));
        assert_eq!(pause(Duration::from_millis(1), &cancel), Ok(()));
        drop(write);
        assert_eq!(wait(&cancel), Ok(Waited::Ready));
        cancel.cancel();
        assert_eq!(wait(&cancel), Err(Broken::Cancelled));
        let long = Duration::from_secs(60);
        assert_eq!(pause(long, &cancel), Err(Broken::Cancelled));
    }
}
