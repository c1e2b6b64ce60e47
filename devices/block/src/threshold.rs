//! An offset behind which a write is told of, once (block-set-write-threshold).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::notice::Reporter;

/// The threshold of a node. Off costs one load.
#[derive(Default)]
pub(crate) struct Threshold {
    /// 0 is off.
    offset: AtomicU64,
    /// A leaf.
    told: Mutex<Option<Reporter>>,
}

impl std::fmt::Debug for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threshold({})", self.get())
    }
}

impl Threshold {
    pub fn get(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    pub fn set(&self, offset: u64, told: Reporter) {
        let mut place = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(told).filter(|_| offset > 0);
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// A write is about to end at `end`. The threshold is off once it was exceeded.
    pub fn look(&self, end: u64) {
        let offset = self.offset.load(Ordering::Relaxed);
        if offset == 0 || end <= offset {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been here, or set another one.
        if self.offset.load(Ordering::Relaxed) != offset {
            return;
        }
        self.offset.store(0, Ordering::Relaxed);
        let told = told.take();
        if let Some(told) = told {
            told.over_threshold(offset, end.saturating_sub(offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Notice;
    use std::sync::Arc;

    #[test]
    fn the_first_write_behind_it_is_told_of() {
        let threshold = Threshold::default();
        threshold.look(u64::MAX);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        let tell = Reporter {
            node: "n".into(),
            sink: Arc::new(move |notice| told.lock().unwrap().push(notice)),
        };
        threshold.set(4096, tell.clone());
        threshold.look(4096);
        assert_eq!(threshold.get(), 4096);
        threshold.look(4608);
        threshold.look(8192);
        let expected = Notice::WriteThreshold {
            node: "n".into(),
            threshold: 4096,
            amount: 512,
        };
        assert_eq!(*heard.lock().unwrap(), [expected]);
        assert_eq!(threshold.get(), 0);
        threshold.set(1, tell.clone());
        threshold.set(0, tell);
        threshold.look(8192);
        assert_eq!(heard.lock().unwrap().len(), 1, "switched off");
    }
}
