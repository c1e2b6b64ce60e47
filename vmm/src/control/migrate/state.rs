//! A machine on its way out, as clients see it: a pure state machine.
//!
//! ```text
//!  setup -- active -+- pre-switchover -+- device -- completed
//!    |        |     |        |         |    |
//!    |        |     +--------|---------+    |
//!    +--------+--------------+--------------+--- failed
//!    +--------+--------------+--------------+--- cancelling -- cancelled
//! ```
//! The machine is held from the moment it stands still (`stop`) until all is decided.

use api_spec::{MigrationStatus as Status, RunState};

use crate::control::life::Release;
use crate::migration::host::{Broken, SourceEnd};

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// The way is open, and RAM begins to travel.
    Travels,
    /// The machine is to stand still now.
    Stop,
    /// It does; `wait` when a client wants to say when it goes on.
    Still {
        /// The capability pause-before-switchover.
        wait: bool,
    },
    /// It cannot be held now; why.
    NotHeld(String),
    /// migrate-continue.
    Continue,
    /// migrate_cancel.
    Cancel,
    /// The thread of the migration has ended.
    Ended(SourceEnd),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell watchers.
    Tell(Status),
    /// Remember why it fails.
    Blame(String),
    /// Remember that the guest stands still from now on.
    Stopped,
    /// Hold the machine.
    Hold,
    /// Save the machine's state and hand it over to the thread.
    Save,
    /// Refuse that to the thread.
    RefuseSave(Broken),
    /// Tell the thread to end.
    Cancel,
    /// The machine may go on like that.
    Release(Release),
}

/// Where the machine is with regard to being held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nobody asked for it.
    Free,
    /// It was asked for.
    Coming,
    /// It stands still.
    Held,
}

/// One migration, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Outgoing {
    status: Status,
    hold: Hold,
    /// What is to become of the machine, decided while it was on its way to being held.
    verdict: Option<Release>,
}

impl Outgoing {
    /// It begins.
    pub fn begin() -> (Self, Vec<Action>) {
        let outgoing = Outgoing {
            status: Status::Setup,
            hold: Hold::Free,
            verdict: None,
        };
        (outgoing, vec![Action::Tell(Status::Setup)])
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        // Also while the machine is still to be let go.
        self.verdict.is_some() || !is_end(self.status)
    }

    /// Takes in what happened; says what to do, in order.
    pub fn on(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Travels => {
                if self.status == Status::Setup {
                    self.go(Status::Active, &mut out);
                }
            }
            Input::Stop => match (self.status, self.hold) {
                (Status::Cancelling, _) => out.push(Action::RefuseSave(Broken::Cancelled)),
                (_, Hold::Free) => {
                    self.hold = Hold::Coming;
                    out.push(Action::Hold);
                }
                (_, Hold::Coming | Hold::Held) => {}
            },
            Input::Still { wait } => self.still(wait, &mut out),
            Input::NotHeld(why) => {
                self.hold = Hold::Free;
                self.verdict = None;
                out.push(Action::RefuseSave(Broken::Failed(why)));
            }
            Input::Continue => {
                if self.status == Status::PreSwitchover {
                    self.go(Status::Device, &mut out);
                    out.push(Action::Save);
                }
            }
            Input::Cancel => self.cancel(&mut out),
            Input::Ended(end) => self.end(end, &mut out),
        }
        out
    }

    fn go(&mut self, status: Status, out: &mut Vec<Action>) {
        self.status = status;
        out.push(Action::Tell(status));
    }

    fn still(&mut self, wait: bool, out: &mut Vec<Action>) {
        self.hold = Hold::Held;
        out.push(Action::Stopped);
        if let Some(verdict) = self.verdict.take() {
            self.release(verdict, out);
            return;
        }
        match self.status {
            Status::Active | Status::Setup if wait => self.go(Status::PreSwitchover, out),
            Status::Active | Status::Setup => {
                self.go(Status::Device, out);
                out.push(Action::Save);
            }
            _ => out.push(Action::RefuseSave(Broken::Cancelled)),
        }
    }

    fn cancel(&mut self, out: &mut Vec<Action>) {
        if is_end(self.status) || self.status == Status::Cancelling {
            return;
        }
        let waits = self.status == Status::PreSwitchover;
        self.go(Status::Cancelling, out);
        if waits {
            out.push(Action::RefuseSave(Broken::Cancelled));
        }
        out.push(Action::Cancel);
    }

    fn end(&mut self, end: SourceEnd, out: &mut Vec<Action>) {
        let cancelled = self.status == Status::Cancelling;
        let (status, release) = match end {
            // What is there cannot be called back.
            SourceEnd::Completed => (Status::Completed, Release::Stay(RunState::Postmigrate)),
            SourceEnd::Here(Broken::Cancelled) => (Status::Cancelled, Release::Back),
            SourceEnd::Here(Broken::Failed(_)) if cancelled => (Status::Cancelled, Release::Back),
            SourceEnd::Here(Broken::Failed(why)) => {
                out.push(Action::Blame(why));
                (Status::Failed, Release::Back)
            }
            SourceEnd::Unknown(why) => {
                out.push(Action::Blame(unknown(&why)));
                (Status::Failed, Release::Stay(RunState::Postmigrate))
            }
        };
        // Watchers learn of the machine first.
        match self.hold {
            Hold::Free => {}
            Hold::Coming => self.verdict = Some(release),
            Hold::Held => self.release(release, out),
        }
        self.go(status, out);
    }

    fn release(&mut self, how: Release, out: &mut Vec<Action>) {
        self.hold = Hold::Free;
        out.push(Action::Release(how));
    }
}

/// Whether nothing comes after it.
pub(super) fn is_end(status: Status) -> bool {
    matches!(
        status,
        Status::None | Status::Completed | Status::Failed | Status::Cancelled
    )
}

fn unknown(why: &Broken) -> String {
    format!(
        "{why}. The other side had been told that it may run, and has not said that it does: see \
         whether the machine runs there. If it does not, and is ended, 'cont' lets it run on here"
    )
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
