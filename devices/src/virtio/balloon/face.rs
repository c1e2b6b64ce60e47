//! What commands reach a balloon by, and what its registers and its worker share.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use api_spec::{QmpError, QmpResult};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::hint::{Hinting, Phase};
use super::stats::GuestStats;
use crate::bus::lock;
use crate::clock::{Clock, Timer, TimerTarget, Timers};
use crate::virtio::DeviceSignals;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Takes pages that the guest says are free. Called on an I/O thread; must not block for long.
pub trait FreePages: Send + Sync {
    /// `len` bytes from guest address `address` on need not be kept.
    fn free(&self, address: u64, len: u64);
}

/// A balloon.
pub struct Balloon {
    /// Pages that the host wants in the balloon.
    pub(super) target: AtomicU32,
    /// Pages that the driver says are in it.
    pub(super) actual: AtomicU32,
    /// What the driver fills free pages with, where it told.
    pub(super) poison: AtomicU32,
    /// Protects what the guest told last; a leaf.
    stats: Mutex<GuestStats>,
    /// The chain of statistics was looked at, and comes again.
    pub(super) stats_kept: AtomicBool,
    pub(super) polling: Polling,
    /// Protects the state of hints and who takes them; a leaf.
    hints: Mutex<Hints>,
    hinting_offered: bool,
    /// Protects the way to the driver; a leaf. There since the driver was ready first.
    signals: Mutex<Option<Arc<dyn DeviceSignals>>>,
    /// Its state came from elsewhere, and the driver cannot be reached before its queues start.
    pub(super) restored: AtomicBool,
    /// Something changed while the driver could not be reached.
    pub(super) untold: AtomicBool,
}

#[derive(Default)]
struct Hints {
    state: Hinting,
    taker: Option<Arc<dyn FreePages>>,
}

/// How often the guest is asked for statistics.
pub(super) struct Polling {
    /// Seconds; 0 is never.
    interval: AtomicU32,
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    due: Arc<Due>,
}

/// Tells the worker that it is time to ask.
struct Due(EventFd);

impl TimerTarget for Due {
    fn expired(&self) {
        // Fails only when it was signalled ever so often and not looked at.
        let _ = self.0.write(1);
    }
}

impl Polling {
    fn new(clock: &Arc<dyn Clock>, timers: &dyn Timers) -> io::Result<Self> {
        let due = Arc::new(Due(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?));
        Ok(Polling {
            interval: AtomicU32::new(0),
            clock: clock.clone(),
            timer: timers.timer(due.clone()),
            due,
        })
    }

    /// Signalled when it is time to ask.
    pub(super) fn due(&self) -> &EventFd {
        &self.due.0
    }

    /// Asks again after the interval, if there is one.
    pub(super) fn again(&self) {
        let interval = self.interval.load(Ordering::Acquire);
        if interval > 0 {
            self.arm(interval);
        }
    }

    /// Whether the guest is asked at all.
    pub(super) fn enabled(&self) -> bool {
        self.interval.load(Ordering::Acquire) > 0
    }

    fn arm(&self, seconds: u32) {
        let after = u64::from(seconds).saturating_mul(NS_PER_SECOND);
        self.timer.arm(self.clock.now_ns().saturating_add(after));
    }

    fn set(&self, interval: u32) {
        let was = self.interval.swap(interval, Ordering::AcqRel);
        match (was, interval) {
            (was, new) if was == new => {}
            (_, 0) => {
                self.timer.cancel();
                let _ = self.due.0.read();
            }
            // The first answer comes at once.
            (0, _) => self.arm(0),
            (_, new) => self.arm(new),
        }
    }
}

impl Balloon {
    pub(super) fn new(
        clock: &Arc<dyn Clock>,
        timers: &dyn Timers,
        hinting_offered: bool,
    ) -> io::Result<Self> {
        Ok(Balloon {
            target: AtomicU32::new(0),
            actual: AtomicU32::new(0),
            poison: AtomicU32::new(0),
            stats: Mutex::default(),
            stats_kept: AtomicBool::new(false),
            polling: Polling::new(clock, timers)?,
            hints: Mutex::default(),
            hinting_offered,
            signals: Mutex::default(),
            restored: AtomicBool::new(false),
            untold: AtomicBool::new(false),
        })
    }

    /// Wants `pages` pages of 4 KiB in the balloon, and tells the driver.
    pub fn set_target(&self, pages: u32) {
        trace::point!(VIRTIO_BALLOON_TO_TARGET, pages = pages);
        self.target.store(pages, Ordering::Release);
        self.config_changed();
    }

    /// Pages of 4 KiB that the driver says are in the balloon.
    pub fn actual(&self) -> u32 {
        self.actual.load(Ordering::Acquire)
    }

    /// What the guest told last.
    pub fn stats(&self) -> GuestStats {
        *lock(&self.stats)
    }

    /// Seconds between two questions for statistics; 0 is never.
    pub fn polling_interval(&self) -> u32 {
        self.polling.interval.load(Ordering::Acquire)
    }

    /// Changes that.
    ///
    /// # Errors
    /// QEMU's words for a number that is no such interval.
    pub fn set_polling_interval(&self, seconds: i64) -> QmpResult<()> {
        if seconds < 0 {
            return Err(QmpError::generic("timer value must be greater than zero"));
        }
        let seconds = u32::try_from(seconds);
        let seconds = seconds.map_err(|_| QmpError::generic("timer value is too big"))?;
        self.polling.set(seconds);
        Ok(())
    }

    /// Asks the guest to name its free pages to `taker`; whether it can. What it names may have
    /// been written to before it is named, and is written to again only after
    /// [`Self::finish_hints`] (unless the guest is short of memory): whoever drops such pages
    /// clears them from its list of what is to be sent.
    pub fn start_hints(&self, taker: Arc<dyn FreePages>) -> bool {
        if !self.hinting_offered || lock(&self.signals).is_none() {
            return false;
        }
        let mut hints = lock(&self.hints);
        hints.state.start();
        hints.taker = Some(taker);
        drop(hints);
        self.config_changed();
        true
    }

    /// Takes no more names from now on. When it returns, the taker is not called any more.
    pub fn stop_hints(&self) {
        let mut hints = lock(&self.hints);
        hints.taker = None;
        let changed = hints.state.stop();
        drop(hints);
        if changed {
            self.config_changed();
        }
    }

    /// The pages that were named may be used again.
    pub fn finish_hints(&self) {
        let mut hints = lock(&self.hints);
        hints.taker = None;
        let asked = hints.state.phase() != Phase::Done;
        hints.state.finish();
        drop(hints);
        if asked {
            self.config_changed();
        }
    }

    /// What the driver reads of hints.
    pub(super) fn hint_command(&self) -> u32 {
        lock(&self.hints).state.command()
    }

    pub(super) fn hinting(&self) -> Hinting {
        lock(&self.hints).state
    }

    pub(super) fn set_hinting(&self, state: Hinting) {
        *lock(&self.hints) = Hints { state, taker: None };
    }

    /// The driver sent a number of a round.
    pub(super) fn hint_number(&self, id: u32) {
        lock(&self.hints).state.driver_says(id);
    }

    /// The driver named free memory.
    pub(super) fn hint_pages(&self, address: u64, len: u64) {
        let hints = lock(&self.hints);
        if hints.state.phase() == Phase::Running
            && let Some(taker) = &hints.taker
        {
            taker.free(address, len);
        }
    }

    pub(super) fn told(&self, bytes: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let stats = GuestStats::parse(bytes, i64::try_from(now).unwrap_or(i64::MAX));
        *lock(&self.stats) = stats;
    }

    /// The driver can be reached. One that was there before this machine was learns now of what
    /// has changed since.
    pub(super) fn set_signals(&self, signals: Arc<dyn DeviceSignals>) {
        *lock(&self.signals) = Some(signals);
        let untold = self.untold.swap(false, Ordering::AcqRel);
        if self.restored.swap(false, Ordering::AcqRel) && untold {
            self.config_changed();
        }
    }

    /// The driver reset the device: it has all its memory.
    pub(super) fn reset(&self) {
        self.actual.store(0, Ordering::Release);
        self.poison.store(0, Ordering::Release);
        self.stats_kept.store(false, Ordering::Release);
        lock(&self.hints).state.stop();
        *lock(&self.signals) = None;
        self.restored.store(false, Ordering::Release);
        self.untold.store(false, Ordering::Release);
    }

    fn config_changed(&self) {
        let signals = lock(&self.signals).clone();
        match signals {
            Some(signals) => signals.config_changed(),
            None => self.untold.store(true, Ordering::Release),
        }
    }
}
