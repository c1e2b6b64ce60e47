//! What disks do when a request fails on the host: the back end's policy decides, watchers are
//! told, and what is to wait is tried again when the machine goes on.
//!
//! ```text
//! lane ends with an error -> failed(..) -> Report: the guest is told
//!                                       -> Ignore: the guest is told that it worked
//!                                       -> Stop:   Virtqueue::keep(head), nothing else
//! ```

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_spec::BlockdevOnError;
use block::{Account, Attachment, ErrorAction, ErrorPolicy, Failed, OnError};

use crate::bus::lock;
use crate::cx::{BuildCx, EffectSink};
use crate::effect::{DiskFailure, Effect};

/// Takes the properties `rerror` and `werror` over; `auto` leaves what the drive was made with.
pub(crate) fn set_policy(node: &Attachment, rerror: BlockdevOnError, werror: BlockdevOnError) {
    let drive = node.error_policy();
    node.set_error_policy(ErrorPolicy {
        read: on_error(rerror).unwrap_or(drive.read),
        write: on_error(werror).unwrap_or(drive.write),
    });
}

fn on_error(property: BlockdevOnError) -> Option<OnError> {
    match property {
        BlockdevOnError::Auto => None,
        BlockdevOnError::Report => Some(OnError::Report),
        BlockdevOnError::Ignore => Some(OnError::Ignore),
        BlockdevOnError::Enospc => Some(OnError::Enospc),
        BlockdevOnError::Stop => Some(OnError::Stop),
    }
}

/// What failed, for the policy: all but reads counts as a write.
pub(crate) fn kind(account: Account) -> Failed {
    match account {
        Account::Read => Failed::Read,
        Account::Write | Account::Flush | Account::Unmap => Failed::Write,
    }
}

/// Failures that are alike are told of once in so long, far more often than clients learn of them.
const QUIET: Duration = Duration::from_millis(100);

/// A disk's way to deal with failures. Clones are for its workers.
#[derive(Clone)]
pub(crate) struct Failures {
    node: Arc<Attachment>,
    effects: Arc<dyn EffectSink>,
    id: Arc<str>,
    /// What was told last, and when; a leaf.
    last: Arc<Mutex<Option<(DiskFailure, Instant)>>>,
}

impl Failures {
    pub fn new(node: &Arc<Attachment>, cx: &BuildCx) -> Self {
        Failures {
            node: node.clone(),
            effects: cx.effects.clone(),
            id: cx.id.as_str().into(),
            last: Arc::default(),
        }
    }

    /// A request failed; what the worker has to do about it. Tells watchers, and has the machine
    /// stopped where the request is to wait for that. Any thread; does not block.
    pub fn failed(&self, failed: Failed, error: &io::Error) -> ErrorAction {
        let action = self.node.failed(failed, error);
        let failure = DiskFailure {
            qom_path: self.node.device().to_owned(),
            failed,
            action,
            errno: error.raw_os_error().unwrap_or(0),
        };
        if action == ErrorAction::Stop || self.is_news(&failure) {
            self.effects.raise(&self.id, Effect::DiskFailed(failure));
        }
        action
    }

    /// A disk that fails all the time must not flood whoever is told.
    fn is_news(&self, failure: &DiskFailure) -> bool {
        let now = Instant::now();
        let mut last = lock(&self.last);
        let told = last.as_ref().is_some_and(|(last, at)| {
            last == failure && now.saturating_duration_since(*at) < QUIET
        });
        if !told {
            *last = Some((failure.clone(), now));
        }
        !told
    }
}
