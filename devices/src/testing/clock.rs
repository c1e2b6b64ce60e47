//! A clock that moves when told to.

use std::sync::{Arc, Mutex, Weak};

use crate::bus::lock;
use crate::clock::{Clock, Timer, TimerTarget, Timers};

#[derive(Default)]
struct Shared {
    now: u64,
    armed: Vec<(u64, Weak<FakeTimer>)>,
}

/// A virtual clock and its timers.
#[derive(Clone, Default)]
pub struct FakeTimers(Arc<Mutex<Shared>>);

impl FakeTimers {
    /// Moves the clock and calls what is due, in order.
    pub fn advance(&self, nanoseconds: u64) {
        let until = lock(&self.0).now.saturating_add(nanoseconds);
        loop {
            let mut shared = lock(&self.0);
            let due = shared
                .armed
                .iter()
                .enumerate()
                .min_by_key(|(_, entry)| entry.0);
            let Some(index) = due
                .filter(|(_, entry)| entry.0 <= until)
                .map(|(index, _)| index)
            else {
                shared.now = until;
                return;
            };
            let (deadline, timer) = shared.armed.swap_remove(index);
            shared.now = shared.now.max(deadline);
            drop(shared);
            if let Some(timer) = timer.upgrade() {
                timer.target.expired();
            }
        }
    }
}

impl Clock for FakeTimers {
    fn now_ns(&self) -> u64 {
        lock(&self.0).now
    }

    fn wall_ns(&self) -> i128 {
        lock(&self.0).now.into()
    }
}

impl Timers for FakeTimers {
    fn timer(&self, target: Arc<dyn TimerTarget>) -> Box<dyn Timer> {
        Box::new(Handle(Arc::new(FakeTimer {
            target,
            shared: self.0.clone(),
        })))
    }
}

struct FakeTimer {
    target: Arc<dyn TimerTarget>,
    shared: Arc<Mutex<Shared>>,
}

struct Handle(Arc<FakeTimer>);

impl Timer for Handle {
    fn arm(&self, deadline_ns: u64) {
        self.cancel();
        let entry = (deadline_ns, Arc::downgrade(&self.0));
        lock(&self.0.shared).armed.push(entry);
    }

    fn cancel(&self) {
        let own = Arc::downgrade(&self.0);
        lock(&self.0.shared)
            .armed
            .retain(|entry| !entry.1.ptr_eq(&own));
    }
}
