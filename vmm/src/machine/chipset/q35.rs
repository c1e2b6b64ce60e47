//! What is particular to q35 and ICH9.

use std::sync::{Arc, Mutex};

use devices::bus::lock;
use devices::model::{Lpc, LpcSetup as Setup};
use devices::pci::{DevFn, HostBridge, InterruptRouter};

use super::{Function, Hardware, Parts};
use crate::layout::Board;

/// Where the host bridge is.
const HOST_BRIDGE: DevFn = DevFn::new(0, 0);
/// Where the ISA bridge is.
const LPC: DevFn = DevFn::new(31, 0);

pub struct Q35 {
    host: Arc<Mutex<HostBridge>>,
    lpc: Arc<Mutex<Lpc>>,
}

impl Q35 {
    pub fn new(parts: &Parts<'_>, router: Arc<InterruptRouter>) -> Self {
        Q35 {
            host: Arc::new(Mutex::new(HostBridge::new())),
            lpc: Lpc::new(&parts.cx("/ICH9-LPC"), router),
        }
    }
}

impl Hardware for Q35 {
    fn functions(&self) -> Vec<Function> {
        vec![
            Function::alone("mch", HOST_BRIDGE, self.host.clone()),
            Function::alone("ICH9-LPC", LPC, self.lpc.clone()),
        ]
    }

    fn attributes(&self) -> [u8; 7] {
        lock(&self.host).attributes()
    }

    fn set_up(&self) {
        if let Some(ecam) = Board::Q35.ecam() {
            lock(&self.host).set_up(ecam.base);
        }
        lock(&self.lpc).set_up(&Setup::DEFAULT);
    }

    fn isa_irq(&self, at: DevFn, pin: u8) -> u8 {
        let link = usize::from(Board::Q35.pirq(at.slot(), pin));
        Setup::DEFAULT.links.get(link).copied().unwrap_or(0)
    }

    fn power_button(&self) {
        lock(&self.lpc).power_button();
    }

    fn general_event(&self, index: u8) {
        lock(&self.lpc).general_event(index);
    }

    /// No bus here has hot-plug by ACPI.
    fn announce_plug(&self, _slot: u8) {}

    fn request_eject(&self, _slot: u8) {}
}
