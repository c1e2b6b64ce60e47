//! What is particular to i440FX, PIIX3 and the power management of PIIX4.

use std::sync::{Arc, Mutex};

use devices::bus::lock;
use devices::model::{Piix3, Piix4Pm};
use devices::pci::{DevFn, I440fx as HostBridge, InterruptRouter};

use super::{Function, Hardware, Parts};
use crate::layout::{self, Board};

/// Where the host bridge is.
const HOST_BRIDGE: DevFn = DevFn::new(0, 0);
/// Where the ISA bridge is.
const ISA_BRIDGE: DevFn = DevFn::new(1, 0);
/// Where power management is.
const POWER: DevFn = DevFn::new(1, 3);

pub struct I440fx {
    host: Arc<Mutex<HostBridge>>,
    isa: Arc<Mutex<Piix3>>,
    power: Arc<Mutex<Piix4Pm>>,
}

impl I440fx {
    pub fn new(parts: &Parts<'_>, router: Arc<InterruptRouter>) -> Self {
        I440fx {
            host: Arc::new(Mutex::new(HostBridge::new())),
            isa: Arc::new(Mutex::new(Piix3::new(router))),
            power: Piix4Pm::new(&parts.cx("/PIIX4_PM"), layout::I440FX_SLOTS),
        }
    }
}

impl Hardware for I440fx {
    fn functions(&self) -> Vec<Function> {
        vec![
            Function::alone("i440FX", HOST_BRIDGE, self.host.clone()),
            Function {
                multifunction: true,
                ..Function::alone("PIIX3", ISA_BRIDGE, self.isa.clone())
            },
            Function::alone("PIIX4_PM", POWER, self.power.clone()),
        ]
    }

    fn attributes(&self) -> [u8; 7] {
        lock(&self.host).attributes()
    }

    fn set_up(&self) {
        lock(&self.host).set_up();
        lock(&self.isa).set_up();
        lock(&self.power).set_up(layout::PM_BASE);
    }

    fn isa_irq(&self, at: DevFn, pin: u8) -> u8 {
        // Its pin is the SCI, which no link leads to.
        if at == POWER {
            return layout::SCI;
        }
        let link = usize::from(Board::I440fx.pirq(at.slot(), pin));
        Piix3::LINKS.get(link).copied().unwrap_or(0)
    }

    fn power_button(&self) {
        lock(&self.power).power_button();
    }

    fn general_event(&self, index: u8) {
        lock(&self.power).general_event(index);
    }

    fn announce_plug(&self, slot: u8) {
        lock(&self.power).announce_plug(slot);
    }

    fn request_eject(&self, slot: u8) {
        lock(&self.power).request_eject(slot);
    }
}
