//! The guest's time, and timers on it.

use std::sync::Arc;

/// The virtual clock: runs while the guest runs, stands still while it is stopped; under the
/// qtest accelerator it moves only when stepped.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the machine was made.
    fn now_ns(&self) -> u64;
    /// Seconds and nanoseconds of the wall clock that the RTC counts in (`-rtc base=`, `clock=`).
    fn wall_ns(&self) -> i128;
}

/// What a timer calls. Runs on the thread that owns the timers, with no lock held.
pub trait TimerTarget: Send + Sync {
    /// The deadline has passed.
    fn expired(&self);
}

/// One timer on the virtual clock. Dropping it cancels it.
pub trait Timer: Send + Sync {
    /// Calls the target once `now_ns` reaches `deadline_ns`; replaces an earlier deadline.
    fn arm(&self, deadline_ns: u64);
    /// Forgets the deadline.
    fn cancel(&self);
}

/// Makes timers.
pub trait Timers: Send + Sync {
    /// A new timer, not armed. `target` is held for as long as the timer lives.
    fn timer(&self, target: Arc<dyn TimerTarget>) -> Box<dyn Timer>;
}
