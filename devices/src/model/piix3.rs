//! `PIIX3`: the ISA bridge of the older PC (Intel 82371SB). It routes PCI interrupts, and holds the
//! reset register.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::registers::{is_default, show};
use crate::effect::{Effect, PowerEffect};
use crate::map::Space;
use crate::pci::{ConfigSpace, ConfigSpaceV1, Decode, Identity, InterruptRouter, PciFunction};
use crate::registry::Region;

/// Configuration registers (section 3.1).
mod register {
    pub const IO_RECOVERY: u16 = 0x4c;
    pub const XBUS_SELECT: u16 = 0x4e;
    pub const PIRQ_A: u16 = 0x60;
    pub const TOP_OF_MEMORY: u16 = 0x69;
    pub const MISCELLANEOUS: u16 = 0x6a;
    pub const MOTHERBOARD_IRQ: u16 = 0x70;
    pub const MOTHERBOARD_DMA: u16 = 0x76;
    pub const CHIP_SELECT: u16 = 0x78;
    pub const APIC_BASE: u16 = 0x80;
    pub const LATENCY: u16 = 0x82;
    pub const SMI_CONTROL: u16 = 0xa0;
    pub const SMI_ENABLE: u16 = 0xa2;
    pub const SYSTEM_EVENT: u16 = 0xa4;
    pub const FAST_OFF: u16 = 0xa8;
}

/// A PIRQ register: not routed.
const NOT_ROUTED: u8 = 0x80;
/// Interrupt links A to D.
const LINKS: u8 = 4;

/// The window's number.
const RESET: u16 = 6;
/// The reset control register (section 3.5.3.1).
const RESET_CONTROL: u64 = 0xcf9;
/// Resets the machine.
const RESET_NOW: u8 = 1 << 2;
/// What it keeps: kind of reset.
const RESET_KIND: u8 = 1 << 1;

/// 8086:7000 at 00:01.0.
pub struct Piix3 {
    config: ConfigSpace,
    router: Arc<InterruptRouter>,
    reset_control: u8,
}

impl Piix3 {
    /// Old interrupts of links A to D after [`Piix3::set_up`]; the functions' INTERRUPT_LINE says
    /// the same.
    pub const LINKS: [u8; 4] = [10, 10, 11, 11];

    /// A bridge after power-on: links not routed.
    pub fn new(router: Arc<InterruptRouter>) -> Self {
        Piix3 {
            config: config(),
            router,
            reset_control: 0,
        }
    }

    /// Does what firmware does for a guest that is started without: routes the links.
    pub fn set_up(&mut self) {
        for (offset, irq) in pirq_registers().zip(Self::LINKS) {
            self.config.set(offset, &[irq]);
        }
        self.follow_config();
    }

    /// Routes links as the registers say.
    fn follow_config(&mut self) {
        for (link, offset) in (0u8..).zip(pirq_registers()) {
            self.router.route(link, self.config.byte(offset));
        }
    }
}

fn pirq_registers() -> impl Iterator<Item = u16> {
    register::PIRQ_A..register::PIRQ_A + u16::from(LINKS)
}

fn config() -> ConfigSpace {
    let mut config = ConfigSpace::endpoint(Identity {
        vendor: 0x8086,
        device: 0x7000,
        revision: 0,
        class: 0x06_0100,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
    });
    // Power management is its function 3.
    config.multifunction();
    let mut register = |offset: u16, value: &[u8], writable: &[u8]| {
        config.init(offset, value);
        config.allow(offset, writable);
    };
    for offset in pirq_registers() {
        register(offset, &[NOT_ROUTED], &[0x8f]);
    }
    // Kept, without effect, as nothing here depends on them.
    register(register::IO_RECOVERY, &[0x4d], &[0xff]);
    register(register::XBUS_SELECT, &[0x03, 0], &[0xff, 0x01]);
    register(register::TOP_OF_MEMORY, &[0x02], &[0xfe]);
    register(register::MISCELLANEOUS, &[0; 2], &[0x11, 0x80]);
    register(register::MOTHERBOARD_IRQ, &[0x80; 1], &[0xef]);
    register(register::MOTHERBOARD_DMA, &[0x0c; 2], &[0x8f; 2]);
    register(register::CHIP_SELECT, &[0x02, 0], &[0xff; 2]);
    register(register::APIC_BASE, &[0], &[0x7f]);
    register(register::LATENCY, &[0], &[0x0f]);
    register(register::SMI_CONTROL, &[0x08], &[0x1f]);
    register(register::SMI_ENABLE, &[0; 2], &[0xff, 0]);
    register(register::SYSTEM_EVENT, &[0; 4], &[0xfb, 0xff, 0, 0xe0]);
    register(register::FAST_OFF, &[0x0f], &[0xff]);
    config
}

impl PciFunction for Piix3 {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let changed = self.config.write(offset, data);
        self.follow_config();
        if changed.decode {
            Effect::Remap
        } else {
            Effect::None
        }
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if u16::from(bar) == RESET {
            show(0, &[self.reset_control], offset, data);
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        let (RESET, 0, Some(value)) = (u16::from(bar), offset, data.first()) else {
            return Effect::None;
        };
        if value & RESET_NOW != 0 {
            return Effect::Power(PowerEffect::Reset);
        }
        self.reset_control = value & RESET_KIND;
        Effect::None
    }

    fn reset(&mut self) {
        self.config.reset();
        self.reset_control = 0;
        self.follow_config();
    }

    fn decodes(&self) -> Vec<Decode> {
        vec![Decode::Window {
            space: Space::Port,
            region: Region {
                region: RESET,
                base: RESET_CONTROL,
                len: 1,
            },
        }]
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// All registers.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Piix3V1 {
        /// Configuration space.
        pub config: ConfigSpaceV1,
        /// Reset control.
        #[serde(default, skip_serializing_if = "is_default")]
        pub reset_control: u8,
    }
}

impl Snapshot for Piix3 {
    type State = state::Piix3V1;
    const ID: &'static str = "PIIX3";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Piix3 {
            config,
            router: _,
            reset_control,
        } = self;
        state::Piix3V1 {
            config: config.save(),
            reset_control: *reset_control,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::Piix3V1 {
            config,
            reset_control,
        } = state;
        self.config.restore(config)?;
        self.reset_control = reset_control & RESET_KIND;
        self.follow_config();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::irq::IrqLine;
    use crate::testing::{FakeGuest, conformance};

    fn bench() -> (FakeGuest, Arc<InterruptRouter>, Piix3) {
        let guest = FakeGuest::new();
        let router = InterruptRouter::old_only(&*guest.irqs);
        let bridge = Piix3::new(router.clone());
        (guest, router, bridge)
    }

    #[test]
    fn conforms() {
        let guest = FakeGuest::new();
        let router = InterruptRouter::old_only(&*guest.irqs);
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(Piix3::new(router.clone())))
        });
    }

    #[test]
    fn registers_at_power_on() {
        let (_, _, mut bridge) = bench();
        for (offset, expected) in [
            (0x00, [0x86, 0x80, 0x00, 0x70]),
            (0x08, [0, 0, 1, 6]),
            (0x0c, [0, 0, 0x80, 0]),
            (0x2c, [0xf4, 0x1a, 0x00, 0x11]),
            (0x4c, [0x4d, 0, 0x03, 0]),
            (0x60, [0x80; 4]),
            (0x68, [0, 0x02, 0, 0]),
            (0xa8, [0x0f, 0, 0, 0]),
        ] {
            let mut data = [0; 4];
            bridge.config_read(offset, &mut data);
            assert_eq!(data, expected, "{offset:#x}");
        }
    }

    #[test]
    fn links_lead_where_the_registers_say() {
        let (guest, router, mut bridge) = bench();
        let pins: Vec<Arc<dyn IrqLine>> = (0..4).map(|link| router.pin(link)).collect();
        let raised = || -> Vec<u8> { (0..24).filter(|gsi| guest.irqs.level(*gsi)).collect() };
        pins[1].set(true);
        assert!(raised().is_empty());
        bridge.set_up();
        assert_eq!(raised(), [10]);
        pins[3].set(true);
        assert_eq!(raised(), [10, 11]);
        assert_eq!(bridge.config_write(0x61, &[5]), Effect::None);
        assert_eq!(raised(), [5, 11]);
        let _ = bridge.config_write(0x60, &[0x80; 4]);
        assert!(raised().is_empty());
        let saved = bridge.save();
        bridge.set_up();
        assert_eq!(raised(), [10, 11]);
        bridge.restore(saved).unwrap();
        assert!(raised().is_empty());
        bridge.set_up();
        bridge.reset();
        assert!(raised().is_empty());
    }

    #[test]
    fn the_reset_register() {
        let (_, _, mut bridge) = bench();
        let window = RESET as u8;
        assert_eq!(bridge.bar_write(window, 0, &[0xfa]), Effect::None);
        let mut byte = [0];
        bridge.bar_read(window, 0, &mut byte);
        assert_eq!(byte, [2]);
        assert_eq!(
            bridge.bar_write(window, 0, &[6]),
            Effect::Power(PowerEffect::Reset)
        );
        assert_eq!(bridge.bar_write(window, 1, &[6]), Effect::None);
        assert_eq!(bridge.bar_write(0, 0, &[6]), Effect::None);
    }
}
