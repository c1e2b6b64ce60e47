//! No faster than max-bandwidth.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::migration::host::{Broken, Tunables};
use crate::migration::link::Fate;

/// What was not used may be used up so much later.
const SLACK: Duration = Duration::from_millis(20);
/// A new limit acts after so many milliseconds at the latest.
const SLICE: u64 = 20;

/// Holds all lanes of a migration back together.
#[derive(Debug)]
pub struct Pace {
    tunables: Arc<Tunables>,
    /// Rank: a leaf. Bytes that are too many by now, and when that was.
    debt: Mutex<(f64, Instant)>,
    free: AtomicBool,
}

impl Pace {
    /// By `max_bandwidth`.
    pub fn new(tunables: Arc<Tunables>) -> Self {
        Pace {
            tunables,
            debt: Mutex::new((0.0, Instant::now())),
            free: AtomicBool::new(false),
        }
    }

    /// The machine stands still: as fast as it can be.
    pub fn release(&self) {
        self.free.store(true, Ordering::Relaxed);
    }

    /// So many bytes went out: waits for as long as they should have taken.
    ///
    /// # Errors
    /// When the migration is cancelled or has failed elsewhere.
    pub fn spend(&self, bytes: u64, fate: &Fate) -> Result<(), Broken> {
        let mut new = bytes;
        loop {
            let wait = self.owed(new);
            new = 0;
            if wait == 0 {
                return Ok(());
            }
            let slice = i32::try_from(wait.min(SLICE)).unwrap_or(1);
            fate.sleep(slice)?;
        }
    }

    /// Adds bytes; how many milliseconds are owed.
    fn owed(&self, bytes: u64) -> u64 {
        let limit = self.tunables.max_bandwidth.load(Ordering::Relaxed);
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if limit == 0 || self.free.load(Ordering::Relaxed) {
            *debt = (0.0, now);
            return 0;
        }
        let limit = limit as f64;
        let paid = now.saturating_duration_since(debt.1).as_secs_f64() * limit;
        let least = -SLACK.as_secs_f64() * limit;
        let left = (debt.0 - paid).max(least) + bytes as f64;
        *debt = (left, now);
        match left > 0.0 {
            true => ((left / limit * 1000.0).ceil() as u64).max(1),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::host::Cancel;

    #[test]
    fn the_limit_holds_and_can_be_changed() {
        let tunables = Arc::new(Tunables::default());
        let pace = Pace::new(tunables.clone());
        let cancel = Cancel::new().unwrap();
        let fate = Fate::new(cancel.clone()).unwrap();
        let took = |bytes| {
            let begun = Instant::now();
            let result = pace.spend(bytes, &fate);
            (begun.elapsed().as_millis(), result)
        };
        // Wherever it would wait if it were wrong, it would for days: others may be busy, too.
        assert!(took(1 << 40).0 < 5000, "there is no limit");
        tunables.max_bandwidth.store(1_000_000, Ordering::Relaxed);
        // 100 ms, but for the slack.
        let (time, result) = took(100_000);
        assert!((75..5000).contains(&time), "{time} ms");
        assert_eq!(result, Ok(()));
        let later = tunables.clone();
        let change = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            later.max_bandwidth.store(0, Ordering::Relaxed);
        });
        assert!(took(1 << 40).0 < 5000, "a new limit does not act");
        change.join().unwrap();
        tunables.max_bandwidth.store(1, Ordering::Relaxed);
        cancel.cancel();
        let (time, result) = took(1 << 40);
        assert!(time < 5000 && result == Err(Broken::Cancelled));
        pace.release();
        assert_eq!(took(1 << 40).1, Ok(()));
    }
}
