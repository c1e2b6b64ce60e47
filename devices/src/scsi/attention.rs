//! What a logical unit wants its initiator to know before anything else (SAM-5, section 5.14).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sense::Sense;
use crate::bus::lock;

/// Unit attentions that wait, in order. There is one initiator.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// Leaf lock, held for a look.
    waiting: Mutex<Vec<Sense>>,
    /// Whether there are any, so that commands look without a lock.
    any: AtomicBool,
}

impl Attention {
    /// Puts one behind the others. One about the medium replaces older ones, and none waits
    /// twice.
    pub fn raise(&self, sense: Sense) {
        let about_medium =
            |sense: Sense| matches!(sense, Sense::MEDIUM_CHANGED | Sense::MEDIUM_REMOVED);
        let mut waiting = lock(&self.waiting);
        waiting.retain(|old| *old != sense && !(about_medium(*old) && about_medium(sense)));
        waiting.push(sense);
        self.any.store(true, Ordering::Release);
    }

    /// After a reset nothing else is worth telling (SAM-5, section 5.14.3).
    pub fn reset(&self) {
        self.set(vec![Sense::RESET]);
    }

    /// The first one, which is told now.
    pub fn take(&self) -> Option<Sense> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut waiting = lock(&self.waiting);
        let first = (!waiting.is_empty()).then(|| waiting.remove(0));
        self.any.store(!waiting.is_empty(), Ordering::Release);
        first
    }

    /// All of them.
    pub fn waiting(&self) -> Vec<Sense> {
        lock(&self.waiting).clone()
    }

    /// Puts them back, for restoring saved state.
    pub fn set(&self, all: Vec<Sense>) {
        let mut waiting = lock(&self.waiting);
        self.any.store(!all.is_empty(), Ordering::Release);
        *waiting = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_told_once_and_in_order() {
        let attention = Attention::default();
        assert_eq!(attention.take(), None);
        attention.raise(Sense::MEDIUM_REMOVED);
        attention.raise(Sense::CAPACITY_CHANGED);
        attention.raise(Sense::CAPACITY_CHANGED);
        attention.raise(Sense::MEDIUM_CHANGED);
        assert_eq!(attention.take(), Some(Sense::CAPACITY_CHANGED));
        assert_eq!(attention.take(), Some(Sense::MEDIUM_CHANGED));
        assert_eq!(attention.take(), None);
        attention.raise(Sense::MEDIUM_CHANGED);
        attention.reset();
        assert_eq!(attention.take(), Some(Sense::RESET));
        assert_eq!(attention.take(), None);
    }
}
