//! Interrupts that are only counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use crate::bus::lock;
use crate::irq::{Interrupt, IrqLine, IrqProvider, MsiRoute, TestLine};

/// Hands out routes and lines, and keeps them for a look at them.
#[derive(Default)]
pub struct FakeIrqs {
    routes: Mutex<Vec<Arc<FakeRoute>>>,
    lines: Mutex<Vec<(u8, Arc<TestLine>)>>,
}

impl FakeIrqs {
    /// The routes handed out, in order.
    pub fn routes(&self) -> Vec<Arc<FakeRoute>> {
        lock(&self.routes).clone()
    }

    /// The level of an input: the OR of all lines handed out for it.
    pub fn level(&self, gsi: u8) -> bool {
        let lines = lock(&self.lines);
        lines
            .iter()
            .any(|(input, line)| *input == gsi && line.level())
    }
}

impl IrqProvider for FakeIrqs {
    fn isa_line(&self, irq: u8) -> Arc<dyn IrqLine> {
        self.gsi_line(irq)
    }

    fn gsi_line(&self, gsi: u8) -> Arc<dyn IrqLine> {
        let line = Arc::new(TestLine::default());
        lock(&self.lines).push((gsi, line.clone()));
        line
    }

    fn msi_route(&self) -> std::io::Result<Arc<dyn MsiRoute>> {
        let route = Arc::new(FakeRoute::default());
        lock(&self.routes).push(route.clone());
        Ok(route)
    }
}

/// A route that counts.
#[derive(Default)]
pub struct FakeRoute {
    message: Mutex<Option<(u64, u32)>>,
    enables: AtomicU64,
    signals: AtomicU64,
    attached: AtomicU64,
}

impl FakeRoute {
    /// Address and data, while enabled.
    pub fn message(&self) -> Option<(u64, u32)> {
        *lock(&self.message)
    }

    /// How often it was enabled.
    pub fn enables(&self) -> u64 {
        self.enables.load(Ordering::SeqCst)
    }

    /// How many eventfds it would read by itself; it does not, so their workers pass signals on.
    pub fn attached(&self) -> u64 {
        self.attached.load(Ordering::SeqCst)
    }

    /// How often it was signalled while enabled.
    pub fn signals(&self) -> u64 {
        self.signals.load(Ordering::SeqCst)
    }
}

impl Interrupt for FakeRoute {
    fn signal(&self) {
        if self.message().is_some() {
            self.signals.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl MsiRoute for FakeRoute {
    fn enable(&self, address: u64, data: u32) {
        *lock(&self.message) = Some((address, data));
        self.enables.fetch_add(1, Ordering::SeqCst);
    }

    fn disable(&self) {
        *lock(&self.message) = None;
    }

    fn attach(&self, _event: &EventFd) -> std::io::Result<()> {
        assert!(self.message().is_some(), "a route without a message");
        self.attached.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn detach(&self, _event: &EventFd) {
        self.attached.fetch_sub(1, Ordering::SeqCst);
    }
}
