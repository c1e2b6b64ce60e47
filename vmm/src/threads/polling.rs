//! Adaptive polling of an I/O thread: it looks for events for a while before it sleeps, because a
//! sleeping thread wakes late. The window follows the pauses between events, with QEMU's rules: it
//! grows while events come a little later than it ends, up to its limit, and shrinks when they
//! come so late that looking was in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// The first window that is tried.
const FIRST_NS: i64 = 4_000;
/// The factor where none is given.
const GROW: i64 = 2;

/// What an I/O thread was asked for, as others may change it while it runs.
#[derive(Debug, Default)]
pub struct Settings {
    /// The longest window; 0 does not poll.
    max_ns: AtomicI64,
    grow: AtomicI64,
    shrink: AtomicI64,
    /// How often they were changed: a window begins anew then.
    version: AtomicU64,
}

impl Settings {
    /// Changes them.
    pub fn set(&self, max_ns: i64, grow: i64, shrink: i64) {
        self.max_ns.store(max_ns, Ordering::Relaxed);
        self.grow.store(grow, Ordering::Relaxed);
        self.shrink.store(shrink, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// When the first event of a round came; written and read by the thread itself.
#[derive(Debug)]
pub struct Arrival {
    start: Instant,
    /// Nanoseconds since `start`, plus one; 0 while nothing came. All ones: nobody asks.
    at: AtomicU64,
}

const NOBODY_ASKS: u64 = u64::MAX;

impl Default for Arrival {
    fn default() -> Self {
        Arrival {
            start: Instant::now(),
            at: AtomicU64::new(NOBODY_ASKS),
        }
    }
}

impl Arrival {
    /// An event came.
    pub fn note(&self) {
        if self.at.load(Ordering::Relaxed) == 0 {
            self.at
                .store(self.now().saturating_add(1), Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(NOBODY_ASKS - 1)
    }

    fn begin(&self) -> u64 {
        self.at.store(0, Ordering::Relaxed);
        self.now()
    }

    /// Nanoseconds from `since` to the event, if there was one.
    fn end(&self, since: u64) -> Option<i64> {
        let at = self
            .at
            .swap(NOBODY_ASKS, Ordering::Relaxed)
            .checked_sub(1)?;
        i64::try_from(at.saturating_sub(since)).ok()
    }
}

/// The window of one thread.
pub struct Polling {
    settings: Arc<Settings>,
    arrival: Arc<Arrival>,
    version: u64,
    window_ns: i64,
}

impl Polling {
    /// No window yet.
    pub fn new(settings: Arc<Settings>, arrival: Arc<Arrival>) -> Self {
        Polling {
            settings,
            arrival,
            version: 0,
            window_ns: 0,
        }
    }

    /// One round: `look` handles what is there and says whether there was something, `sleep`
    /// waits for it.
    pub fn round(&mut self, mut look: impl FnMut() -> bool, sleep: impl FnOnce()) {
        let max_ns = self.settings.max_ns.load(Ordering::Relaxed);
        if max_ns <= 0 {
            return sleep();
        }
        let version = self.settings.version.load(Ordering::Acquire);
        if std::mem::replace(&mut self.version, version) != version {
            self.window_ns = 0;
        }
        let since = self.arrival.begin();
        let window = u64::try_from(self.window_ns).unwrap_or(0);
        let mut found = false;
        while !found && self.arrival.now().saturating_sub(since) < window {
            found = look();
            std::hint::spin_loop();
        }
        if !found {
            sleep();
        }
        if let Some(blocked) = self.arrival.end(since) {
            let grow = self.settings.grow.load(Ordering::Relaxed);
            let shrink = self.settings.shrink.load(Ordering::Relaxed);
            self.window_ns = adapt(self.window_ns, blocked, (max_ns, grow, shrink));
        }
    }
}

/// The next window, after an event came `blocked` nanoseconds after the thread began to wait.
fn adapt(window: i64, blocked: i64, (max, grow, shrink): (i64, i64, i64)) -> i64 {
    if blocked <= window {
        return window.min(max);
    }
    if blocked > max {
        return window.checked_div(shrink).unwrap_or(0);
    }
    let factor = if grow == 0 { GROW } else { grow };
    match window {
        0 => FIRST_NS.min(max),
        window => window.saturating_mul(factor).min(max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_pauses() {
        for (window, blocked, limits, next) in [
            // It was long enough.
            (8_000, 8_000, (32_768, 0, 0), 8_000),
            // A little longer would have done.
            (0, 20_000, (32_768, 0, 0), 4_000),
            (4_000, 20_000, (32_768, 0, 0), 8_000),
            (4_000, 20_000, (32_768, 4, 0), 16_000),
            (20_000, 30_000, (32_768, 0, 0), 32_768),
            (0, 1_000, (2_000, 0, 0), 2_000),
            // In vain.
            (32_768, 40_000, (32_768, 0, 0), 0),
            (32_768, 40_000, (32_768, 0, 2), 16_384),
            (0, i64::MAX, (32_768, 0, 2), 0),
            (i64::MAX - 1, i64::MAX, (i64::MAX, i64::MAX, 0), i64::MAX),
        ] {
            assert_eq!(adapt(window, blocked, limits), next, "{window} {blocked}");
        }
    }

    #[test]
    fn it_looks_before_it_sleeps() {
        let (settings, arrival) = (Arc::new(Settings::default()), Arc::new(Arrival::default()));
        let mut polling = Polling::new(settings.clone(), arrival.clone());
        let mut slept = 0;
        polling.round(|| panic!("it does not poll"), || slept += 1);
        assert_eq!(slept, 1);
        settings.set(1_000_000_000, 0, 0);
        // The first round has no window yet; its event makes one.
        polling.round(|| panic!("not yet"), || arrival.note());
        assert_eq!(polling.window_ns, FIRST_NS);
        polling.window_ns = 1_000_000_000;
        let mut looks = 0;
        let look = || {
            looks += 1;
            if looks == 3 {
                arrival.note();
            }
            looks == 3
        };
        polling.round(look, || panic!("it was there"));
        assert_eq!((looks, polling.window_ns), (3, 1_000_000_000));
        // Other settings, another beginning.
        settings.set(2_000, 0, 0);
        polling.round(|| panic!("not yet"), || ());
        assert_eq!(polling.window_ns, 0);
    }
}
