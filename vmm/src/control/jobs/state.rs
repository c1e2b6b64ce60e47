//! The states of a job, as plain data: what happened goes in, what is to be done comes out.
//!
//! ```text
//!              .--> paused      .--> standby
//!              |      |         |      |
//!   created -> running -------> ready <'
//!              |     '------.     |
//!              v            v     v
//!           aborting <---- waiting -> pending -> concluded -> null
//!              '--------------------------------^
//! ```
//!
//! States, verbs and their names are QEMU's (qapi/job.json).

use api_spec::{JobStatus as Status, JobVerb as Verb};

/// How a job behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Its last step is done as soon as it can be; otherwise job-finalize is waited for.
    pub auto_finalize: bool,
    /// It is forgotten once it has concluded; otherwise job-dismiss is waited for.
    pub auto_dismiss: bool,
    /// It gets ready, and then goes on until job-complete.
    pub completable: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Its thread runs.
    Started,
    /// A client wants something.
    Verb(Verb),
    /// Its thread waits, as it was asked to.
    Paused,
    /// Its thread goes on.
    Resumed,
    /// All is done but for what a client may want to wait for.
    Ready,
    /// Its thread has ended.
    Ended(Result<(), String>),
    /// Its last step is done.
    Finalized(Result<(), String>),
}

/// What its thread is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To wait where it can.
    Pause,
    /// To go on.
    Resume,
    /// To end at once.
    Cancel,
    /// To come to its end.
    Complete,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Clients are told of the state.
    Tell(Status),
    /// The thread is told.
    Ask(Ask),
    /// The last step is done, and its end comes back as [`Input::Finalized`].
    Finalize,
    /// There will be no last step.
    Abandon,
    /// Nobody knows the job any more.
    Forget,
}

/// Why a client's wish is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not in this state.
    State(Status, Verb),
    /// It was paused already.
    AlreadyPaused,
    /// It was not paused.
    NotPaused,
    /// It comes to its end by itself, or was cancelled.
    NotCompletable,
}

impl Refusal {
    /// What the client is told, in QEMU's words.
    pub fn describe(self, id: &str) -> String {
        match self {
            Refusal::State(status, verb) => format!(
                "Job '{id}' in state '{}' cannot accept command verb '{}'",
                status.name(),
                verb.name()
            ),
            Refusal::AlreadyPaused => "Job is already paused".to_owned(),
            Refusal::NotPaused => "Can't resume a job that was not paused".to_owned(),
            Refusal::NotCompletable => {
                format!("The active block job '{id}' cannot be completed")
            }
        }
    }
}

/// The error of a job that a client cancelled.
const CANCELLED: &str = "Operation canceled";

/// Where a job is, and what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    behaviour: Behaviour,
    status: Status,
    paused: bool,
    cancelled: bool,
    /// The last step is under way.
    finalizing: bool,
    error: Option<String>,
}

impl State {
    /// A job that was made and does nothing yet.
    pub fn new(behaviour: Behaviour) -> Self {
        State {
            behaviour,
            status: Status::Created,
            paused: false,
            cancelled: false,
            finalizing: false,
            error: None,
        }
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why it failed.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Takes note of what happened, and says what is to be done.
    ///
    /// # Errors
    /// When a client wants what cannot be now; nothing has changed then.
    pub fn step(&mut self, input: Input) -> Result<Vec<Action>, Refusal> {
        let mut out = Vec::new();
        match input {
            Input::Verb(verb) => self.verb(verb, &mut out)?,
            Input::Started => self.go_if(Status::Created, Status::Running, &mut out),
            Input::Paused => {
                self.go_if(Status::Running, Status::Paused, &mut out);
                self.go_if(Status::Ready, Status::Standby, &mut out);
            }
            Input::Resumed => self.resumed(&mut out),
            Input::Ready => self.go_if(Status::Running, Status::Ready, &mut out),
            Input::Ended(result) => self.ended(result, &mut out),
            Input::Finalized(result) => self.finalized(result, &mut out),
        }
        Ok(out)
    }

    fn go(&mut self, status: Status, out: &mut Vec<Action>) {
        if self.status != status {
            self.status = status;
            out.push(Action::Tell(status));
        }
    }

    fn go_if(&mut self, from: Status, to: Status, out: &mut Vec<Action>) {
        if self.status == from {
            self.go(to, out);
        }
    }

    fn resumed(&mut self, out: &mut Vec<Action>) {
        self.go_if(Status::Paused, Status::Running, out);
        self.go_if(Status::Standby, Status::Ready, out);
    }

    fn verb(&mut self, verb: Verb, out: &mut Vec<Action>) -> Result<(), Refusal> {
        if verb == Verb::Resume && !self.paused {
            return Err(Refusal::NotPaused);
        }
        if self.finalizing || !accepts(self.status, verb) {
            return Err(Refusal::State(self.status, verb));
        }
        match verb {
            Verb::Pause if self.paused => return Err(Refusal::AlreadyPaused),
            Verb::Pause => {
                self.paused = true;
                out.push(Action::Ask(Ask::Pause));
            }
            Verb::Resume => {
                self.paused = false;
                out.push(Action::Ask(Ask::Resume));
            }
            Verb::Complete if self.cancelled || !self.behaviour.completable => {
                return Err(Refusal::NotCompletable);
            }
            Verb::Complete => out.push(Action::Ask(Ask::Complete)),
            Verb::Cancel => self.cancel(out),
            Verb::Finalize => self.finalize(out),
            Verb::Dismiss => self.dismiss(out),
            // How fast it goes, and other options, are its driver's affair.
            Verb::SetSpeed | Verb::Change => {}
        }
        Ok(())
    }

    fn cancel(&mut self, out: &mut Vec<Action>) {
        self.cancelled = true;
        self.paused = false;
        match self.status {
            // Its thread has ended.
            Status::Waiting | Status::Pending => self.fail(None, out),
            _ => out.push(Action::Ask(Ask::Cancel)),
        }
    }

    fn ended(&mut self, result: Result<(), String>, out: &mut Vec<Action>) {
        self.resumed(out);
        match result {
            Ok(()) if !self.cancelled => {
                self.go(Status::Waiting, out);
                self.go(Status::Pending, out);
                if self.behaviour.auto_finalize {
                    self.finalize(out);
                }
            }
            result => self.fail(result.err(), out),
        }
    }

    fn finalize(&mut self, out: &mut Vec<Action>) {
        self.finalizing = true;
        out.push(Action::Finalize);
    }

    fn finalized(&mut self, result: Result<(), String>, out: &mut Vec<Action>) {
        self.finalizing = false;
        match result {
            Ok(()) => self.conclude(out),
            Err(error) => self.fail(Some(error), out),
        }
    }

    fn fail(&mut self, error: Option<String>, out: &mut Vec<Action>) {
        self.error = Some(error.unwrap_or_else(|| CANCELLED.to_owned()));
        self.go(Status::Aborting, out);
        out.push(Action::Abandon);
        self.conclude(out);
    }

    fn conclude(&mut self, out: &mut Vec<Action>) {
        self.go(Status::Concluded, out);
        if self.behaviour.auto_dismiss {
            self.dismiss(out);
        }
    }

    fn dismiss(&mut self, out: &mut Vec<Action>) {
        self.go(Status::Null, out);
        out.push(Action::Forget);
    }
}

/// Which verbs make sense in which state.
fn accepts(status: Status, verb: Verb) -> bool {
    let lives = matches!(
        status,
        Status::Created | Status::Running | Status::Paused | Status::Ready | Status::Standby
    );
    match verb {
        Verb::Cancel => lives || matches!(status, Status::Waiting | Status::Pending),
        Verb::Pause | Verb::Resume | Verb::SetSpeed => lives,
        Verb::Complete => matches!(status, Status::Created | Status::Ready),
        Verb::Finalize => status == Status::Pending,
        Verb::Dismiss => status == Status::Concluded,
        Verb::Change => lives && status != Status::Created,
    }
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
