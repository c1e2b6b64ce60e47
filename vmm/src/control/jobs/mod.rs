//! Jobs: work that takes its time, which clients watch and steer (job-pause and so on). Each has
//! a thread of its own; its states are control's.

mod state;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;

use api_spec::{Event, JobInfo, JobStatus, JobType, JobVerb, QmpError, QmpResult};

use super::Control;
use super::objects::is_identifier;
use crate::process::errno;
pub use state::Behaviour;
use state::{Action, Ask, Input, State};
use worker::Shared;
pub use worker::{Body, JobCx, LastStep};

/// A job's number; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobNumber(u64);

/// A job to begin.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Its name.
    pub id: String,
    /// What it does.
    pub kind: JobType,
    /// How it ends.
    pub behaviour: Behaviour,
}

struct Job {
    number: JobNumber,
    spec: JobSpec,
    state: State,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Option<()>>>,
    last_step: Option<LastStep>,
}

/// All jobs, oldest first.
#[derive(Default)]
pub struct Jobs {
    list: Vec<Job>,
    next: u64,
}

impl Jobs {
    /// query-jobs.
    pub fn query(&self) -> Vec<JobInfo> {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let info = |job: &Job| {
            let (done, total) = job.shared.progress();
            JobInfo {
                id: job.spec.id.clone(),
                r#type: job.spec.kind,
                status: job.state.status(),
                current_progress: number(done),
                total_progress: number(total),
                error: job.state.error().map(str::to_owned),
            }
        };
        self.list.iter().rev().map(info).collect()
    }

    /// Refuses names that no new job can have.
    ///
    /// # Errors
    /// When it is none, or taken.
    pub(super) fn check(&self, id: &str) -> QmpResult<()> {
        if !is_identifier(id) {
            return Err(QmpError::generic(format!("Invalid job ID '{id}'")));
        }
        match self.find(id) {
            Some(_) => Err(QmpError::generic(format!("Job ID '{id}' already in use"))),
            None => Ok(()),
        }
    }

    fn find(&self, id: &str) -> Option<JobNumber> {
        let job = self.list.iter().find(|job| job.spec.id == id);
        job.map(|job| job.number)
    }

    fn get(&mut self, number: JobNumber) -> Option<&mut Job> {
        self.list.iter_mut().find(|job| job.number == number)
    }

    /// A job that has not come to its end, by name.
    pub(super) fn at_work(&self) -> Option<&str> {
        let ended = |status| matches!(status, JobStatus::Concluded | JobStatus::Null);
        let mut jobs = self.list.iter();
        let found = jobs.find(|job| !ended(job.state.status()));
        found.map(|job| job.spec.id.as_str())
    }

    /// Cancels all and waits for their threads.
    pub fn shut_down(&mut self) {
        for job in &self.list {
            job.shared.ask(Ask::Cancel);
        }
        for mut job in self.list.drain(..) {
            if let Some(thread) = job.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Control {
    /// Begins a job.
    ///
    /// # Errors
    /// When its name is none or taken, or the host is out of threads. Nothing is left then.
    pub(super) fn start_job(&mut self, spec: JobSpec, body: Body) -> QmpResult<()> {
        self.jobs.check(&spec.id)?;
        let number = JobNumber(self.jobs.next);
        self.jobs.next = self.jobs.next.wrapping_add(1);
        let shared = Arc::<Shared>::default();
        let started = worker::start(number, &shared, &self.mail, body);
        let thread = started.map_err(|error| {
            QmpError::generic(format!("Cannot start a thread: {}", errno(&error)))
        })?;
        let state = State::new(spec.behaviour);
        self.tell_job(&spec.id, state.status());
        self.jobs.list.push(Job {
            number,
            spec,
            state,
            shared,
            thread: Some(thread),
            last_step: None,
        });
        // What the thread says comes later, through the mailbox.
        self.job_step(number, Input::Started);
        Ok(())
    }

    /// job-cancel and the like.
    ///
    /// # Errors
    /// When there is no such job, or it does not take the verb now.
    pub(super) fn job_verb(&mut self, id: &str, verb: JobVerb) -> QmpResult<()> {
        let found = self.jobs.find(id);
        let number = found.ok_or_else(|| QmpError::generic("Job not found"))?;
        let Some(job) = self.jobs.get(number) else {
            return Ok(());
        };
        let actions = job
            .state
            .step(Input::Verb(verb))
            .map_err(|refusal| QmpError::generic(refusal.describe(id)))?;
        self.job_act(number, actions);
        Ok(())
    }

    /// Something happened to a job, if it is still there.
    fn job_step(&mut self, number: JobNumber, input: Input) {
        if let Some(job) = self.jobs.get(number) {
            // Only verbs are refused.
            let actions = job.state.step(input).unwrap_or_default();
            self.job_act(number, actions);
        }
    }

    fn job_ended(&mut self, number: JobNumber, ended: Result<Option<LastStep>, String>) {
        let result = match ended {
            Ok(last_step) => {
                if let Some(job) = self.jobs.get(number) {
                    job.last_step = last_step;
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.job_step(number, Input::Ended(result));
    }

    fn job_act(&mut self, number: JobNumber, actions: Vec<Action>) {
        for action in actions {
            let Some(job) = self.jobs.get(number) else {
                return;
            };
            match action {
                Action::Ask(ask) => job.shared.ask(ask),
                Action::Tell(status) => {
                    let id = job.spec.id.clone();
                    self.tell_job(&id, status);
                }
                Action::Finalize => self.finalize_job(number),
                Action::Abandon => {
                    if let Some(last_step) = job.last_step.take() {
                        self.let_go(last_step);
                    }
                }
                Action::Forget => self.jobs.list.retain(|job| job.number != number),
            }
        }
    }

    fn tell_job(&mut self, id: &str, status: JobStatus) {
        trace::point!(JOB_STATE_TRANSITION, id = id, s1 = status.name());
        self.emit(Event::JobStatusChange {
            id: id.to_owned(),
            status,
        });
    }

    /// Does the last step; at once where there is none.
    fn finalize_job(&mut self, number: JobNumber) {
        let last_step = self.jobs.get(number).and_then(|job| job.last_step.take());
        let Some(last_step) = last_step else {
            return self.job_step(number, Input::Finalized(Ok(())));
        };
        let started = self.do_slowly(last_step, move |control, result| {
            control.job_step(number, Input::Finalized(result));
        });
        if let Err(error) = started {
            let text = format!("Cannot start a thread: {}", errno(&error));
            self.job_step(number, Input::Finalized(Err(text)));
        }
    }

    /// Drops something whose end blocks, on a worker thread where there is one to have.
    pub(super) fn let_go<T: Send + 'static>(&self, thing: T) {
        let underway = self.unfinished.begin();
        let end = move || {
            drop(thing);
            drop(underway);
        };
        if let Err(error) = self.do_slowly(end, |_, ()| {}) {
            log::warn!("No thread to let go of something: {error}");
        }
    }
}

#[cfg(test)]
#[path = "jobs_test.rs"]
mod tests;
