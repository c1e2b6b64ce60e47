//! The disks change hands.

use std::sync::{Arc, Mutex};

use api_spec::{QmpError, QmpResult, RunState};
use devices::bus::lock;

use crate::control::life::Input;
use crate::control::{Control, Waiter};
use crate::process::errno;

/// What is done once the disks have changed hands, or could not.
type Then = Box<dyn FnOnce(&mut Control, Result<(), String>) + Send>;

impl Control {
    /// Writes all disks out and lets go of their locks, on a worker thread.
    pub(super) fn deactivate_disks(
        &mut self,
        then: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        match self.give_up_disks() {
            Ok(work) => self.with_disks(work, Box::new(then)),
            Err(error) => then(self, Err(error.desc)),
        }
    }

    /// Takes all disks, on a worker thread.
    pub(super) fn activate_disks(
        &mut self,
        then: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let work = self.blockdevs.activate();
        self.with_disks(work, Box::new(then));
    }

    fn with_disks(&mut self, work: impl FnOnce() -> QmpResult<()> + Send + 'static, then: Then) {
        if self.blockdevs.has_none() {
            // Nothing that blocks, and the machine stands still.
            return then(self, work().map_err(|error| error.desc));
        }
        let underway = self.unfinished.begin();
        let work = move || {
            let done = work().map_err(|error| error.desc);
            drop(underway);
            done
        };
        // Shared, so that it can be called where there is no thread for the work.
        let then = Arc::new(Mutex::new(Some(then)));
        let later = then.clone();
        if let Err(error) = self.do_slowly(work, move |control, done| control.call(&later, done)) {
            let text = format!("Cannot start a thread: {}", errno(&error));
            self.call(&then, Err(text));
        }
    }

    fn call(&mut self, then: &Mutex<Option<Then>>, done: Result<(), String>) {
        let then = lock(then).take();
        if let Some(then) = then {
            then(self, done);
        }
    }

    /// cont: a machine that went elsewhere and runs on here takes its disks first.
    pub(in crate::control) fn continue_machine(&mut self, waiter: Waiter) {
        let waits = matches!(
            self.life.state(),
            RunState::Inmigrate | RunState::FinishMigrate
        );
        if waits || !self.blockdevs.any_inactive() {
            return self.feed_cont(waiter);
        }
        self.activate_disks(|control, done| match done {
            Ok(()) => control.feed_cont(waiter),
            Err(why) => waiter(Err(QmpError::generic(why))),
        });
    }

    fn feed_cont(&mut self, waiter: Waiter) {
        let ticket = self.ticket(waiter);
        self.feed(Input::Cont(Some(ticket)));
    }
}
