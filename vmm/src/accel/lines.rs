//! Inputs of the interrupt controllers, and the sources that share them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use devices::irq::IrqLine;

/// Inputs of the I/O APIC.
pub const INPUTS: usize = 24;

/// Drives one input of the interrupt controllers.
pub trait Pins: Send + Sync {
    /// Called when the OR of all sources changed, with the order of changes kept.
    fn drive(&self, gsi: u8, level: bool);
}

/// All inputs.
pub struct Inputs<P> {
    pins: P,
    /// How many sources raise each input. Each lock is held while its pin is driven, so that
    /// changes reach the controller in order; a leaf.
    raised: [Mutex<u32>; INPUTS],
}

impl<P: Pins> Inputs<P> {
    pub fn new(pins: P) -> Self {
        Inputs {
            pins,
            raised: Default::default(),
        }
    }

    pub fn pins(&self) -> &P {
        &self.pins
    }

    /// The level of an input.
    #[cfg(test)]
    pub fn level(&self, gsi: u8) -> bool {
        let raised = self.raised.get(usize::from(gsi));
        raised.is_some_and(|raised| *raised.lock().unwrap_or_else(PoisonError::into_inner) > 0)
    }

    fn change(&self, gsi: u8, level: bool) {
        let Some(raised) = self.raised.get(usize::from(gsi)) else {
            return;
        };
        let mut raised = raised.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *raised > 0;
        *raised = match level {
            true => raised.saturating_add(1),
            false => raised.saturating_sub(1),
        };
        if (*raised > 0) != before {
            self.pins.drive(gsi, level);
        }
    }
}

/// One source on an input. Lowers it when dropped.
pub struct Source<P: Pins> {
    inputs: Arc<Inputs<P>>,
    gsi: u8,
    level: AtomicBool,
}

impl<P: Pins> Source<P> {
    pub fn new(inputs: &Arc<Inputs<P>>, gsi: u8) -> Self {
        Source {
            inputs: inputs.clone(),
            gsi,
            level: AtomicBool::new(false),
        }
    }
}

impl<P: Pins> IrqLine for Source<P> {
    fn set(&self, level: bool) {
        if self.level.swap(level, Ordering::SeqCst) != level {
            self.inputs.change(self.gsi, level);
        }
    }
}

impl<P: Pins> Drop for Source<P> {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Log(Mutex<Vec<(u8, bool)>>);

    impl Pins for Log {
        fn drive(&self, gsi: u8, level: bool) {
            self.0.lock().unwrap().push((gsi, level));
        }
    }

    #[test]
    fn sources_of_one_input_are_ored() {
        let inputs = Arc::new(Inputs::new(Log(Mutex::default())));
        let (a, b) = (Source::new(&inputs, 5), Source::new(&inputs, 5));
        let nowhere = Source::new(&inputs, 99);
        nowhere.set(true);
        a.set(true);
        a.set(true);
        b.set(true);
        assert!(inputs.level(5));
        a.set(false);
        assert!(inputs.level(5));
        drop(b);
        assert!(!inputs.level(5));
        assert_eq!(*inputs.pins().0.lock().unwrap(), [(5, true), (5, false)]);
    }
}
