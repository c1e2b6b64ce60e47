//! Devices with a timer that calls them back under their lock.

use std::sync::{Arc, Mutex, Weak};

use crate::bus::lock;
use crate::clock::{Timer, TimerTarget, Timers};

/// A device with a timer.
pub(super) trait Timed: Send {
    /// The time it asked for has passed. Called with the device's lock held.
    fn timer_expired(&mut self);
}

/// Makes a device around its timer.
pub(super) fn with_timer<T: Timed + 'static>(
    timers: &dyn Timers,
    make: impl FnOnce(Box<dyn Timer>) -> T,
) -> Arc<Mutex<T>> {
    Arc::new_cyclic(|device| {
        let target = Arc::new(Target(device.clone()));
        Mutex::new(make(timers.timer(target)))
    })
}

struct Target<T>(Weak<Mutex<T>>);

impl<T: Timed> TimerTarget for Target<T> {
    fn expired(&self) {
        if let Some(device) = self.0.upgrade() {
            lock(&device).timer_expired();
        }
    }
}
