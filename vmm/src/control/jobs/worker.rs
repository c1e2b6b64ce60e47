//! A job's thread and what it shares with control.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use devices::bus::lock;

use super::JobNumber;
use super::state::{Ask, Input};
use crate::event::{Mail, MailSender};
use crate::threads::{self, ThreadKind};

/// A job's last step: what makes its work count. Dropped when that is not to be. Both block, and
/// are done by a worker thread.
pub type LastStep = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// A job's work, up to its last step.
pub type Body = Box<dyn FnOnce(&JobCx) -> Result<Option<LastStep>, String> + Send>;

/// Steps done, and to be done.
#[derive(Debug, Default)]
struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

#[derive(Debug, Default)]
struct Asked {
    pause: bool,
    cancel: bool,
    complete: bool,
}

/// What control and the job's thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    progress: Progress,
    /// A leaf.
    asked: Mutex<Asked>,
    /// Something was asked.
    told: Condvar,
}

impl Shared {
    /// Tells the thread.
    pub fn ask(&self, what: Ask) {
        let mut asked = lock(&self.asked);
        match what {
            Ask::Pause => asked.pause = true,
            Ask::Resume => asked.pause = false,
            Ask::Complete => asked.complete = true,
            Ask::Cancel => {
                asked.cancel = true;
                asked.pause = false;
            }
        }
        self.told.notify_all();
    }

    /// Steps done, and in all.
    pub fn progress(&self) -> (u64, u64) {
        let done = self.progress.done.load(Ordering::Relaxed);
        (done, self.progress.total.load(Ordering::Relaxed).max(done))
    }
}

/// What a job's work sees of the job. Its thread's own.
pub struct JobCx {
    shared: Arc<Shared>,
    mail: MailSender,
    number: JobNumber,
}

impl JobCx {
    /// Says how many steps are left.
    pub fn set_remaining(&self, steps: u64) {
        let progress = &self.shared.progress;
        let done = progress.done.load(Ordering::Relaxed);
        let total = done.saturating_add(steps);
        progress.total.store(total, Ordering::Relaxed);
    }

    /// Steps done, and in all.
    pub fn progress(&self) -> (u64, u64) {
        self.shared.progress()
    }

    /// Says that some steps were done.
    pub fn advance(&self, steps: u64) {
        self.shared
            .progress
            .done
            .fetch_add(steps, Ordering::Relaxed);
    }

    /// Whether to end at once.
    pub fn is_cancelled(&self) -> bool {
        lock(&self.shared.asked).cancel
    }

    /// Waits here while the job is paused. True to go on, false when it was cancelled.
    pub fn pause_point(&self) -> bool {
        let asked = lock(&self.shared.asked);
        if !asked.pause {
            return !asked.cancel;
        }
        drop(asked);
        self.tell(Input::Paused);
        let asked = self.wait_while(|asked| asked.pause && !asked.cancel);
        let goes_on = !asked.cancel;
        drop(asked);
        self.tell(Input::Resumed);
        goes_on
    }

    /// Says that the job is ready.
    pub fn ready(&self) {
        self.tell(Input::Ready);
    }

    /// Waits until the job is to come to its end. True for its end, false when it was cancelled.
    pub fn wait_for_completion(&self) -> bool {
        loop {
            if !self.pause_point() {
                return false;
            }
            let asked = self.wait_while(|asked| !asked.pause && !asked.cancel && !asked.complete);
            if asked.complete && !asked.pause && !asked.cancel {
                return true;
            }
        }
    }

    fn wait_while(&self, condition: impl Fn(&Asked) -> bool) -> MutexGuard<'_, Asked> {
        let asked = lock(&self.shared.asked);
        let waited = self.shared.told.wait_while(asked, |asked| condition(asked));
        waited.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tell(&self, input: Input) {
        let number = self.number;
        let told = move |control: &mut super::Control| control.job_step(number, input);
        self.mail.send(Mail::Done(Box::new(told)));
    }
}

/// Begins a job's work on a thread of its own.
pub(super) fn start(
    number: JobNumber,
    shared: &Arc<Shared>,
    mail: &MailSender,
    body: Body,
) -> std::io::Result<JoinHandle<Option<()>>> {
    let cx = JobCx {
        shared: shared.clone(),
        mail: mail.clone(),
        number,
    };
    let work = move || {
        let ended = body(&cx);
        let told = move |control: &mut super::Control| control.job_ended(number, ended);
        cx.mail.send(Mail::Done(Box::new(told)));
    };
    threads::spawn(ThreadKind::Worker, "job", Some(mail.clone()), work)
}
