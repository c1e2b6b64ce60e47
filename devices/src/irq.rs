//! How devices interrupt the guest, whichever accelerator carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// An edge-like interrupt source: an MSI vector, or a closure in tests.
///
/// `signal` may be called from any thread and never blocks.
pub trait Interrupt: Send + Sync {
    /// Tells the guest.
    fn signal(&self);
    /// Lets whoever signals `event` (the kernel, another process) reach the guest without this
    /// process, while the interrupt is in a state where that is right. In any other state, and
    /// where that cannot be done at all, `event` becomes readable as eventfds do: whoever connects
    /// it watches it too, and calls `signal` after each read that gave something. So nothing is
    /// lost, whatever the guest does to vectors meanwhile. One event at a time.
    fn connect(&self, _event: &Arc<EventFd>) {}
    /// The end of that.
    fn disconnect(&self) {}
}

/// A level-triggered line: one input of the interrupt controllers.
///
/// Calls are idempotent; the implementation ORs the sources that share an input.
pub trait IrqLine: Send + Sync {
    /// Drives the line.
    fn set(&self, level: bool);
}

/// A message-signalled interrupt route of the accelerator. Dropping it frees the route.
pub trait MsiRoute: Interrupt {
    /// Directs the route at `address` with `data` (PCI Local Bus 3.0, section 6.8).
    fn enable(&self, address: u64, data: u32);
    /// Takes the route out of service; later signals go nowhere.
    fn disable(&self);
    /// From now on the accelerator itself reads `event` and signals the route (irqfd). What was
    /// signalled before counts. Called while the route is enabled.
    ///
    /// # Errors
    /// When the accelerator has no such thing, or no room for more.
    fn attach(&self, _event: &EventFd) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    /// The end of that. What is signalled from now on stays in `event`.
    fn detach(&self, _event: &EventFd) {}
}

/// What the accelerator and chipset offer to devices in the way of interrupts.
pub trait IrqProvider: Send + Sync {
    /// A new source on the ISA interrupt `irq` (0 to 15).
    fn isa_line(&self, irq: u8) -> Arc<dyn IrqLine>;
    /// A new source on the I/O APIC input `gsi` (0 to 23).
    fn gsi_line(&self, gsi: u8) -> Arc<dyn IrqLine>;
    /// A new MSI route, not yet enabled.
    ///
    /// # Errors
    /// When the accelerator has no route left.
    fn msi_route(&self) -> std::io::Result<Arc<dyn MsiRoute>>;
}

/// An interrupt that goes nowhere.
#[derive(Debug, Default)]
pub struct NullInterrupt;

impl Interrupt for NullInterrupt {
    fn signal(&self) {}
}

impl IrqLine for NullInterrupt {
    fn set(&self, _level: bool) {}
}

/// A line that remembers its level, for tests.
#[derive(Debug, Default)]
pub struct TestLine(AtomicBool);

impl TestLine {
    /// The level last driven.
    pub fn level(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl IrqLine for TestLine {
    fn set(&self, level: bool) {
        self.0.store(level, Ordering::SeqCst);
    }
}
