//! What is done when a device's request fails on the host: the policy of a back end, and how its
//! requests have ended.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// What is to be done about failures of one kind (`rerror`, `werror`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The guest is told.
    Report,
    /// The guest is told that it worked.
    Ignore,
    /// The machine stops when there is no space; the guest is told of all else.
    Enospc,
    /// The machine stops.
    Stop,
}

impl OnError {
    const ALL: [OnError; 4] = [
        OnError::Report,
        OnError::Ignore,
        OnError::Enospc,
        OnError::Stop,
    ];

    fn may_stop(self) -> bool {
        matches!(self, OnError::Enospc | OnError::Stop)
    }
}

/// The policy of a back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorPolicy {
    /// When a read fails.
    pub read: OnError,
    /// When something else fails.
    pub write: OnError,
}

impl Default for ErrorPolicy {
    /// QEMU's.
    fn default() -> Self {
        ErrorPolicy {
            read: OnError::Report,
            write: OnError::Enospc,
        }
    }
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// A read.
    Read,
    /// Something else.
    Write,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorAction {
    /// The guest is told.
    Report,
    /// The guest is told that it worked.
    Ignore,
    /// The request is kept, the machine stops, and the request is tried again when it goes on.
    Stop,
}

impl ErrorPolicy {
    /// What is to be done about that failure.
    pub fn action(self, failed: Failed, error: &io::Error) -> ErrorAction {
        let policy = match failed {
            Failed::Read => self.read,
            Failed::Write => self.write,
        };
        match policy {
            OnError::Report => ErrorAction::Report,
            OnError::Ignore => ErrorAction::Ignore,
            OnError::Stop => ErrorAction::Stop,
            OnError::Enospc if is_no_space(error) => ErrorAction::Stop,
            OnError::Enospc => ErrorAction::Report,
        }
    }

    /// Whether some failure stops the machine, so that there is a status to tell.
    pub fn may_stop(self) -> bool {
        self.write.may_stop() || self.read == OnError::Stop
    }
}

/// Whether the host is out of space.
pub fn is_no_space(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}

/// How requests have ended since the machine last went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoStatus {
    /// Nothing stopped the machine.
    Ok,
    /// A failure did.
    Failed,
    /// Lack of space did.
    NoSpace,
}

/// Policy and status of a back end; any thread.
#[derive(Debug)]
pub(crate) struct ErrorState {
    /// Places in [`OnError::ALL`].
    read: AtomicU8,
    write: AtomicU8,
    status: AtomicU8,
}

impl Default for ErrorState {
    fn default() -> Self {
        let state = ErrorState {
            read: AtomicU8::new(0),
            write: AtomicU8::new(0),
            status: AtomicU8::new(0),
        };
        state.set_policy(ErrorPolicy::default());
        state
    }
}

impl ErrorState {
    pub fn policy(&self) -> ErrorPolicy {
        let load = |place: &AtomicU8| {
            let at = usize::from(place.load(Ordering::Relaxed));
            OnError::ALL.get(at).copied().unwrap_or(OnError::Report)
        };
        ErrorPolicy {
            read: load(&self.read),
            write: load(&self.write),
        }
    }

    pub fn set_policy(&self, policy: ErrorPolicy) {
        self.read.store(policy.read as u8, Ordering::Relaxed);
        self.write.store(policy.write as u8, Ordering::Relaxed);
    }

    pub fn status(&self) -> IoStatus {
        match self.status.load(Ordering::Relaxed) {
            0 => IoStatus::Ok,
            1 => IoStatus::Failed,
            _ => IoStatus::NoSpace,
        }
    }

    pub fn reset(&self) {
        self.status.store(IoStatus::Ok as u8, Ordering::Relaxed);
    }

    /// Decides about a failure; the first that stops the machine becomes the status.
    pub fn failed(&self, failed: Failed, error: &io::Error) -> ErrorAction {
        let action = self.policy().action(failed, error);
        if action == ErrorAction::Stop {
            let status = match is_no_space(error) {
                true => IoStatus::NoSpace,
                false => IoStatus::Failed,
            };
            let (was, is) = (IoStatus::Ok as u8, status as u8);
            // It fails where an earlier one is told already.
            let _ = self
                .status
                .compare_exchange(was, is, Ordering::Relaxed, Ordering::Relaxed);
        }
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide_by_kind_and_error() {
        use ErrorAction::*;
        let errors = [libc::ENOSPC, libc::EIO].map(io::Error::from_raw_os_error);
        for (policy, expected) in [
            (OnError::Report, [Report, Report]),
            (OnError::Ignore, [Ignore, Ignore]),
            (OnError::Stop, [Stop, Stop]),
            (OnError::Enospc, [Stop, Report]),
        ] {
            let state = ErrorState::default();
            for (error, expected) in errors.iter().zip(expected) {
                state.set_policy(ErrorPolicy {
                    read: OnError::Report,
                    write: policy,
                });
                assert_eq!(state.failed(Failed::Write, error), expected, "{policy:?}");
                assert_eq!(state.failed(Failed::Read, error), Report);
                state.set_policy(ErrorPolicy {
                    read: policy,
                    write: OnError::Report,
                });
                assert_eq!(state.failed(Failed::Read, error), expected, "{policy:?}");
            }
        }
    }

    #[test]
    fn the_first_failure_that_stops_is_the_status() {
        let state = ErrorState::default();
        let error = io::Error::from_raw_os_error;
        assert_eq!(
            state.failed(Failed::Write, &error(libc::EIO)),
            ErrorAction::Report
        );
        assert_eq!(state.status(), IoStatus::Ok);
        let _ = state.failed(Failed::Write, &error(libc::ENOSPC));
        state.set_policy(ErrorPolicy {
            read: OnError::Stop,
            write: OnError::Stop,
        });
        let _ = state.failed(Failed::Read, &error(libc::EIO));
        assert_eq!(state.status(), IoStatus::NoSpace);
        state.reset();
        let _ = state.failed(Failed::Read, &error(libc::EIO));
        assert_eq!(state.status(), IoStatus::Failed);
    }
}
