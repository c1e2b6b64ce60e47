//! Histograms of how long requests take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of requests by how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Nanoseconds, ascending, where one bin ends and the next begins.
    pub boundaries: Vec<u64>,
    /// Requests in each; one more than boundaries.
    pub bins: Vec<u64>,
}

/// A histogram that is switched on and off. Off costs one load.
#[derive(Debug, Default)]
pub(crate) struct HistogramSlot {
    on: AtomicBool,
    /// A leaf.
    histogram: Mutex<Option<Histogram>>,
}

impl HistogramSlot {
    fn histogram(&self) -> MutexGuard<'_, Option<Histogram>> {
        let histogram = self.histogram.lock();
        histogram.unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count anew between these boundaries, or stops. False when they do not ascend
    /// from above 0; nothing changes then.
    pub fn set(&self, boundaries: Option<&[u64]>) -> bool {
        let made = match boundaries {
            None => None,
            Some(boundaries) => {
                let ascend = boundaries.iter().is_sorted_by(|one, two| one < two);
                if !ascend || boundaries.first() == Some(&0) {
                    return false;
                }
                Some(Histogram {
                    boundaries: boundaries.to_vec(),
                    bins: vec![0; boundaries.len().saturating_add(1)],
                })
            }
        };
        let mut histogram = self.histogram();
        self.on.store(made.is_some(), Ordering::Relaxed);
        *histogram = made;
        true
    }

    pub fn get(&self) -> Option<Histogram> {
        self.histogram().clone()
    }

    pub fn count(&self, nanoseconds: u64) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        if let Some(histogram) = &mut *self.histogram() {
            let bin = histogram
                .boundaries
                .partition_point(|boundary| *boundary <= nanoseconds);
            if let Some(bin) = histogram.bins.get_mut(bin) {
                *bin = bin.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_to_their_bins() {
        let slot = HistogramSlot::default();
        slot.count(5);
        assert_eq!(slot.get(), None);
        assert!(slot.set(Some(&[10, 20])));
        for time in [0, 9, 10, 19, 20, u64::MAX] {
            slot.count(time);
        }
        assert_eq!(slot.get().unwrap().bins, [2, 2, 2]);
        assert!(slot.set(Some(&[5])));
        assert_eq!(slot.get().unwrap().bins, [0, 0]);
        assert!(slot.set(None));
        assert_eq!(slot.get(), None);
    }

    #[test]
    fn boundaries_ascend() {
        let slot = HistogramSlot::default();
        for bad in [&[0, 1][..], &[5, 5], &[2, 1]] {
            assert!(!slot.set(Some(bad)), "{bad:?}");
        }
        assert!(slot.set(Some(&[])), "one bin");
    }
}
