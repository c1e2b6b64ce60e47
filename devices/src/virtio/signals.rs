//! How a device reaches its driver: ISR status with the interrupt pin, or MSI-X vectors. Any
//! thread, no lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use super::DeviceSignals;
use crate::bus::lock;
use crate::guest_errors::{self, Kind};
use crate::irq::{Interrupt, IrqLine};
use crate::pci::MsixVector;

/// The vector number that means none (Virtio 1.2, section 4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;
/// ISR status: a queue used buffers (Virtio 1.2, section 4.1.4.5).
pub const ISR_QUEUE: u8 = 1;
/// ISR status: configuration changed.
pub const ISR_CONFIG: u8 = 2;

/// The MSI-X vector of one queue, which the driver may change at any time, and what signals it
/// without this process.
#[derive(Debug)]
pub struct QueueVector {
    number: AtomicU16,
    /// Held while `number` changes. Before the vectors' locks.
    direct: Mutex<Option<Arc<EventFd>>>,
}

impl Default for QueueVector {
    fn default() -> Self {
        QueueVector {
            number: AtomicU16::new(NO_VECTOR),
            direct: Mutex::new(None),
        }
    }
}

impl QueueVector {
    /// Its number, or [`NO_VECTOR`].
    pub fn number(&self) -> u16 {
        self.number.load(Ordering::Relaxed)
    }
}

/// What the transport's registers and the queues' workers share.
pub struct Signals {
    id: String,
    vectors: Vec<Arc<MsixVector>>,
    line: Arc<dyn IrqLine>,
    msix: AtomicBool,
    pin_enabled: AtomicBool,
    isr: AtomicU8,
    config_vector: AtomicU16,
    generation: AtomicU8,
    driver_ok: AtomicBool,
    needs_reset: AtomicBool,
}

impl Signals {
    /// For the device `id`, with the line of its pin and its vectors, if it has any.
    pub fn new(id: &str, line: Arc<dyn IrqLine>, vectors: Vec<Arc<MsixVector>>) -> Self {
        Signals {
            id: id.to_owned(),
            vectors,
            line,
            msix: AtomicBool::new(false),
            pin_enabled: AtomicBool::new(true),
            isr: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            generation: AtomicU8::new(0),
            driver_ok: AtomicBool::new(false),
            needs_reset: AtomicBool::new(false),
        }
    }

    /// How many vectors there are.
    pub fn vector_count(&self) -> u16 {
        u16::try_from(self.vectors.len()).unwrap_or(u16::MAX)
    }

    /// The vector the driver may have asked for, or none if there is no such vector.
    pub fn existing_vector(&self, vector: u16) -> u16 {
        if vector < self.vector_count() {
            vector
        } else {
            NO_VECTOR
        }
    }

    /// Gives a queue another vector, or none. What signals it directly goes along.
    pub fn move_queue(&self, queue: &QueueVector, vector: u16) {
        let direct = lock(&queue.direct);
        let old = queue.number.swap(vector, Ordering::Relaxed);
        if let Some(event) = direct.as_ref().filter(|_| old != vector) {
            if let Some(old) = self.vectors.get(usize::from(old)) {
                old.remove_direct(event);
            }
            if let Some(new) = self.vectors.get(usize::from(vector)) {
                new.add_direct(event);
            }
        }
    }

    fn set_direct(&self, queue: &QueueVector, event: Option<&Arc<EventFd>>) {
        let mut direct = lock(&queue.direct);
        let vector = self.vectors.get(usize::from(queue.number()));
        if let (Some(old), Some(vector)) = (direct.take(), vector) {
            vector.remove_direct(&old);
        }
        if let (Some(new), Some(vector)) = (event, vector) {
            vector.add_direct(new);
        }
        *direct = event.cloned();
    }

    /// The vector for configuration changes.
    pub fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Ordering::Relaxed);
    }

    /// Says whether MSI-X is on; the pin is not used then.
    pub fn set_msix(&self, on: bool) {
        self.msix.store(on, Ordering::Release);
        self.drive_line();
    }

    /// Says whether the guest lets the pin be used.
    pub fn set_pin_enabled(&self, on: bool) {
        self.pin_enabled.store(on, Ordering::Release);
        self.drive_line();
    }

    /// Reads ISR status, which clears it and lets go of the line.
    pub fn take_isr(&self) -> u8 {
        let isr = self.isr.swap(0, Ordering::AcqRel);
        self.line.set(false);
        // A worker may have raised it between the two steps; its line must not be lost.
        if self.isr.load(Ordering::Acquire) != 0 {
            self.drive_line();
        }
        isr
    }

    /// ISR status without clearing it.
    pub fn isr(&self) -> u8 {
        self.isr.load(Ordering::Acquire)
    }

    /// Puts ISR status back, for restoring saved state.
    pub fn set_isr(&self, isr: u8) {
        self.isr.store(isr, Ordering::Release);
        self.drive_line();
    }

    /// Whether the pin asks for an interrupt.
    pub fn pin_asserted(&self) -> bool {
        self.isr() != 0 && !self.msix.load(Ordering::Acquire)
    }

    /// How often configuration changed, modulo 256.
    pub fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts it back.
    pub fn set_generation(&self, generation: u8) {
        self.generation.store(generation, Ordering::Release);
    }

    /// Whether the device waits for a reset.
    pub fn is_broken(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Sets or clears that without telling the driver.
    pub fn set_broken(&self, broken: bool) {
        self.needs_reset.store(broken, Ordering::Release);
    }

    /// Says whether the driver is ready; it is told nothing before.
    pub fn set_driver_ok(&self, ok: bool) {
        self.driver_ok.store(ok, Ordering::Release);
    }

    /// Back to the state after power-on, except for what configuration space says.
    pub fn reset(&self) {
        self.set_driver_ok(false);
        self.set_broken(false);
        self.set_config_vector(NO_VECTOR);
        self.set_isr(0);
        self.line.set(false);
    }

    fn drive_line(&self) {
        self.line
            .set(self.pin_asserted() && self.pin_enabled.load(Ordering::Acquire));
    }

    fn raise(&self, bit: u8, vector: u16) {
        if self.msix.load(Ordering::Acquire) {
            if let Some(vector) = self.vectors.get(usize::from(vector)) {
                vector.signal();
            }
            return;
        }
        self.isr.fetch_or(bit, Ordering::AcqRel);
        self.drive_line();
    }
}

impl DeviceSignals for Signals {
    fn config_changed(&self) {
        trace::point!(VIRTIO_NOTIFY_CONFIG, vdev = self.id);
        if self.driver_ok.load(Ordering::Acquire) {
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.raise(ISR_CONFIG, self.config_vector());
        }
    }

    fn needs_reset(&self, why: &str) {
        trace::point!(VIRTIO_ERROR, vdev = self.id, why = why);
        if !self.needs_reset.swap(true, Ordering::AcqRel) {
            guest_errors::count(&self.id, Kind::NeedsReset, format_args!("{why}"));
            if self.driver_ok.load(Ordering::Acquire) {
                self.raise(ISR_CONFIG, self.config_vector());
            }
        }
    }

    fn bad_request(&self, what: &str) {
        guest_errors::count(&self.id, Kind::BadRequest, format_args!("{what}"));
    }
}

/// The interrupt of one queue.
pub struct QueueInterrupt {
    signals: Arc<Signals>,
    vector: Arc<QueueVector>,
}

impl QueueInterrupt {
    /// Follows `vector`, which the driver may change at any time.
    pub fn new(signals: Arc<Signals>, vector: Arc<QueueVector>) -> Self {
        QueueInterrupt { signals, vector }
    }
}

impl Interrupt for QueueInterrupt {
    fn signal(&self) {
        self.signals.raise(ISR_QUEUE, self.vector.number());
    }

    fn connect(&self, event: &Arc<EventFd>) {
        self.signals.set_direct(&self.vector, Some(event));
    }

    fn disconnect(&self) {
        self.signals.set_direct(&self.vector, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::NullInterrupt;

    #[test]
    fn a_driver_that_resets_and_breaks_is_counted_each_time() {
        let signals = Signals::new("one-that-breaks", Arc::new(NullInterrupt), Vec::new());
        for _ in 0..1000 {
            signals.needs_reset("as the test wants it");
            assert!(signals.is_broken());
            signals.reset();
        }
        let all = guest_errors::list();
        let own: Vec<_> = all
            .iter()
            .filter(|c| c.device == "one-that-breaks")
            .collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].kind, own[0].count), (Kind::NeedsReset, 1000));
        assert_eq!(own[0].last, "as the test wants it");
    }
}
