//! The guest's clocks, and timers on its virtual one.
//!
//! The virtual clock counts nanoseconds of the machine's running time. Under KVM it follows the
//! host's monotonic clock and stands still while the machine is stopped; under qtest it moves
//! only when the test says so.

mod saved;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use devices::clock::{Clock, Timer, TimerTarget, Timers};
use vmm_sys_util::timerfd::TimerFd;

use crate::sys;

/// What the RTC shows at start (`-rtc base=`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WallBase {
    /// Universal time.
    #[default]
    Utc,
    /// The host's local time.
    LocalTime,
    /// This date, in seconds since 1970.
    At(i64),
}

/// What the RTC follows (`-rtc clock=`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WallSource {
    /// The host's wall clock, with its adjustments.
    #[default]
    Host,
    /// The host's monotonic clock.
    Rt,
    /// The virtual clock: it stands still with the guest.
    Vm,
}

/// What moves the virtual clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// The host's time, while the machine runs.
    Host,
    /// A test, by [`GuestClock::advance_to`].
    Stepped,
}

/// Set in [`GuestClock::state`] while the clock runs.
const RUNNING: u64 = 1 << 63;
const TIME: u64 = RUNNING - 1;

/// The virtual clock, the wall clock, and the timers.
pub struct GuestClock {
    motion: Motion,
    start: Instant,
    /// While running: `RUNNING` and what to take from the host's time since `start`; while
    /// stopped: the time at which it stands. One word, so that vCPUs read it without a lock.
    state: AtomicU64,
    wall_source: WallSource,
    /// What the wall clock showed at time 0 of its source, in nanoseconds since 1970; for the
    /// host's clock, what to add to it. A leaf.
    wall_base: Mutex<i128>,
    queue: Mutex<Queue>,
    fd: RawFd,
}

/// Protects the deadlines; held for one change. Leaf.
struct Queue {
    deadlines: BTreeSet<(u64, u64)>,
    timers: HashMap<u64, Entry>,
    next_id: u64,
    /// Readable when the earliest deadline has passed.
    alarm: TimerFd,
    /// Whether the alarm is on.
    armed: bool,
}

struct Entry {
    deadline: Option<u64>,
    target: Arc<dyn TimerTarget>,
}

impl GuestClock {
    /// A clock that stands at 0.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(motion: Motion, base: WallBase, source: WallSource) -> std::io::Result<Arc<Self>> {
        let alarm = TimerFd::new()?;
        let real = real_ns();
        let seconds = i64::try_from(real / 1_000_000_000).unwrap_or(0);
        let shown = match base {
            WallBase::Utc => real,
            WallBase::LocalTime => real + i128::from(sys::utc_offset(seconds)) * 1_000_000_000,
            WallBase::At(seconds) => i128::from(seconds) * 1_000_000_000,
        };
        Ok(Arc::new(GuestClock {
            motion,
            start: Instant::now(),
            state: AtomicU64::new(0),
            wall_source: source,
            wall_base: Mutex::new(match source {
                WallSource::Host => shown - real,
                WallSource::Rt | WallSource::Vm => shown,
            }),
            fd: alarm.as_raw_fd(),
            queue: Mutex::new(Queue {
                deadlines: BTreeSet::new(),
                timers: HashMap::new(),
                next_id: 0,
                alarm,
                armed: false,
            }),
        }))
    }

    /// Lets the virtual clock run, and its timers with it. Nothing under qtest.
    pub fn start(&self) {
        let state = self.state.load(Ordering::Acquire);
        if self.motion == Motion::Host && state & RUNNING == 0 {
            let skipped = self.host_ns().wrapping_sub(state) & TIME;
            self.state.store(RUNNING | skipped, Ordering::Release);
            self.set_alarm(&mut self.queue());
        }
    }

    /// Stops it.
    pub fn stop(&self) {
        if self.running() {
            self.state.store(self.now_ns() & TIME, Ordering::Release);
            self.set_alarm(&mut self.queue());
        }
    }

    /// Whether it runs.
    pub fn running(&self) -> bool {
        self.state.load(Ordering::Acquire) & RUNNING != 0
    }

    /// The earliest deadline of all timers.
    pub fn next_deadline(&self) -> Option<u64> {
        self.queue()
            .deadlines
            .first()
            .map(|(deadline, _)| *deadline)
    }

    /// Calls the targets of all timers whose time has come. For the one thread that watches the
    /// descriptor of this clock (readable, level-triggered), or that moves it.
    ///
    /// A timer whose time comes meanwhile has its turn with the next call: a guest can have one
    /// set anew as fast as it is looked at, and the thread has other things to do.
    pub fn fire_expired(&self) {
        trace::point!(TIMERLIST_RUN);
        if self.motion == Motion::Host && !self.running() {
            return;
        }
        let now = self.now_ns();
        let due = self.queue().deadlines.range(..=(now, u64::MAX)).count();
        for _ in 0..due {
            let target = self.queue().pop(now);
            if let Some(target) = target {
                target.expired();
            }
        }
        self.set_alarm(&mut self.queue());
    }

    /// Moves a stepped clock forward, firing every timer at its own time.
    pub fn advance_to(&self, ns: u64) {
        if self.motion != Motion::Stepped {
            return;
        }
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= ns) {
            self.state.fetch_max(deadline & TIME, Ordering::AcqRel);
            self.fire_expired();
        }
        self.state.fetch_max(ns & TIME, Ordering::AcqRel);
    }

    /// What the wall clock's source shows.
    fn wall_since(&self) -> i128 {
        match self.wall_source {
            WallSource::Host => real_ns(),
            WallSource::Rt => i128::from(self.host_ns()),
            WallSource::Vm => i128::from(self.now_ns()),
        }
    }

    fn wall_base(&self) -> MutexGuard<'_, i128> {
        self.wall_base
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn host_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX) & TIME
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the alarm to the earliest deadline, or off.
    fn set_alarm(&self, queue: &mut Queue) {
        let first = queue.deadlines.first().map(|(deadline, _)| *deadline);
        let wanted = first.filter(|_| self.running());
        let result = match wanted {
            Some(deadline) => {
                // Zero would switch it off.
                let wait = deadline.saturating_sub(self.now_ns()).max(1);
                queue.alarm.reset(Duration::from_nanos(wait), None)
            }
            None if queue.armed => queue.alarm.clear(),
            None => Ok(()),
        };
        queue.armed = wanted.is_some();
        if let Err(error) = result {
            log::error!("Cannot set the timer of the virtual clock: {error}");
        }
    }
}

impl Queue {
    /// The clock was `before` and is `now`: what was left of each timer is left of it still.
    fn shift(&mut self, before: u64, now: u64) {
        let moved = |deadline: u64| now.saturating_add(deadline.saturating_sub(before));
        for entry in self.timers.values_mut() {
            entry.deadline = entry.deadline.map(moved);
        }
        let all = std::mem::take(&mut self.deadlines).into_iter();
        self.deadlines = all.map(|(deadline, id)| (moved(deadline), id)).collect();
    }

    /// Takes the earliest timer if it is due.
    fn pop(&mut self, now: u64) -> Option<Arc<dyn TimerTarget>> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        let entry = self.timers.get_mut(&id)?;
        entry.deadline = None;
        Some(entry.target.clone())
    }
}

impl AsRawFd for GuestClock {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Clock for GuestClock {
    fn now_ns(&self) -> u64 {
        let state = self.state.load(Ordering::Acquire);
        if state & RUNNING == 0 {
            state
        } else {
            self.host_ns().wrapping_sub(state & TIME) & TIME
        }
    }

    fn wall_ns(&self) -> i128 {
        let base = *self.wall_base();
        base + self.wall_since()
    }
}

fn real_ns() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => i128::try_from(before.duration().as_nanos()).map_or(0, |ns| -ns),
    }
}

/// Makes timers on a [`GuestClock`].
pub struct ClockTimers(pub Arc<GuestClock>);

impl Timers for ClockTimers {
    fn timer(&self, target: Arc<dyn TimerTarget>) -> Box<dyn Timer> {
        let mut queue = self.0.queue();
        let id = queue.next_id;
        queue.next_id = id.wrapping_add(1);
        queue.timers.insert(
            id,
            Entry {
                deadline: None,
                target,
            },
        );
        Box::new(ClockTimer {
            clock: self.0.clone(),
            id,
        })
    }
}

struct ClockTimer {
    clock: Arc<GuestClock>,
    id: u64,
}

impl ClockTimer {
    fn set(&self, deadline: Option<u64>) {
        let mut queue = self.clock.queue();
        let first = queue.deadlines.first().copied();
        let Some(entry) = queue.timers.get_mut(&self.id) else {
            return;
        };
        let old = std::mem::replace(&mut entry.deadline, deadline);
        if let Some(old) = old {
            queue.deadlines.remove(&(old, self.id));
        }
        if let Some(new) = deadline {
            queue.deadlines.insert((new, self.id));
        }
        if queue.deadlines.first().copied() != first {
            self.clock.set_alarm(&mut queue);
        }
    }
}

impl Timer for ClockTimer {
    fn arm(&self, deadline_ns: u64) {
        self.set(Some(deadline_ns));
    }
    fn cancel(&self) {
        self.set(None);
    }
}

impl Drop for ClockTimer {
    fn drop(&mut self) {
        self.set(None);
        let entry = self.clock.queue().timers.remove(&self.id);
        // The target may own timers itself: dropped after the lock was let go.
        drop(entry);
    }
}

#[cfg(test)]
#[path = "clock_test.rs"]
mod tests;
