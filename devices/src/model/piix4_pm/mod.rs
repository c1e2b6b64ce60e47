//! `PIIX4_PM`: power management of the older PC (Intel 82371AB, function 3): power button, power
//! management timer, ACPI mode, and the ports by which ACPI code plugs and unplugs PCI functions.

#[cfg(test)]
mod piix4_pm_test;

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::hotplug_ports::{self, HotplugPorts, state::HotplugPortsV1};
use super::pm::{self, Family, PmBlock};
use super::registers::{is_default, show};
use super::timed::{Timed, with_timer};
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::map::Space;
use crate::pci::{ConfigSpace, ConfigSpaceV1, Decode, Identity, PciFunction, regs};
use crate::registry::Region;

/// Configuration registers (section 7.1).
mod register {
    pub const PM_BASE: u16 = 0x40;
    pub const DEVICE_ACTIVITY: u16 = 0x58;
    pub const PM_MISCELLANEOUS: u16 = 0x80;
    pub const SMBUS_BASE: u16 = 0x90;
}

/// PMREGMISC: the PM block answers.
const PM_ENABLED: u8 = 1 << 0;
/// DEVACTB: an SMI for writes to the APM port. On from the start: firmware that finds it so leaves
/// system management mode alone, which this machine does not have.
const APM_SMI: u32 = 1 << 25;
/// The SCI is wired to that interrupt.
const SCI: u8 = 9;
/// The input of [`PmBlock::choose_sci`] for it.
const SCI_CHOICE: u8 = 0;

/// The windows' numbers.
mod window {
    pub const PM: u16 = 6;
    pub const APM: u16 = 7;
    pub const GENERAL: u16 = 8;
    pub const HOTPLUG: u16 = 9;
}

/// The block of general purpose events.
const GENERAL_BASE: u64 = 0xafe0;
/// The general purpose event of the hot-plug ports.
const HOTPLUG_EVENT: u8 = 1;

/// 8086:7113 at 00:01.3.
pub struct Piix4Pm {
    config: ConfigSpace,
    pm: PmBlock,
    /// Command and status.
    apm: [u8; 2],
    hotplug: HotplugPorts,
}

impl Piix4Pm {
    /// After power-on: power management not decoded. `fixed` are the slots of the root bus, a bit
    /// each, whose functions cannot go.
    pub fn new(cx: &BuildCx, fixed: u32) -> Arc<Mutex<Self>> {
        with_timer(&*cx.timers, |timer| Piix4Pm {
            config: config(),
            pm: PmBlock::new(Family::Piix4, cx.clock.clone(), timer, &*cx.irqs),
            apm: [0; 2],
            hotplug: HotplugPorts::new(fixed),
        })
    }

    /// Does what firmware does for a guest that is started without: puts the power management
    /// block at the port `base`, a multiple of 64; the FADT says the same. The address map has to
    /// be made anew afterwards.
    pub fn set_up(&mut self, base: u16) {
        let base = u32::from(base & 0xffc0) | 1;
        self.config.set(register::PM_BASE, &base.to_le_bytes());
        self.config.set(register::PM_MISCELLANEOUS, &[PM_ENABLED]);
        self.config.set(regs::INTERRUPT_LINE, &[SCI]);
    }

    /// Presses the power button: system_powerdown. Nothing happens in a guest that does not
    /// listen to it.
    pub fn power_button(&mut self) {
        self.pm.power_button();
    }

    /// Raises general purpose event `index`, 0 to 15 (`_Lxx` or `_Exx` in the DSDT).
    pub fn general_event(&mut self, index: u8) {
        self.pm.general_event(index);
    }

    /// Tells the guest that something was plugged in `slot` of the root bus.
    pub fn announce_plug(&mut self, slot: u8) {
        self.hotplug.announce(slot);
        self.pm.general_event(HOTPLUG_EVENT);
    }

    /// Asks the guest to let go of what is in `slot` of the root bus. Its answer comes as
    /// [`Effect::EjectSlots`].
    pub fn request_eject(&mut self, slot: u8) {
        self.hotplug.ask_for(slot);
        self.pm.general_event(HOTPLUG_EVENT);
    }

    fn pm_base(&self) -> Option<u64> {
        let base = u64::from(self.config.word(register::PM_BASE) & 0xffc0);
        let on = self.config.byte(register::PM_MISCELLANEOUS) & PM_ENABLED != 0;
        (on && base != 0).then_some(base)
    }
}

fn config() -> ConfigSpace {
    let mut config = ConfigSpace::endpoint(Identity {
        vendor: 0x8086,
        device: 0x7113,
        revision: 3,
        class: 0x06_8000,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
    });
    config.interrupt_pin(1);
    let mut register = |offset: u16, value: &[u8], writable: &[u8]| {
        config.init(offset, value);
        config.allow(offset, writable);
    };
    register(register::PM_BASE, &[1, 0, 0, 0], &[0xc0, 0xff, 0, 0]);
    let activity = APM_SMI.to_le_bytes();
    register(register::DEVICE_ACTIVITY, &activity, &[0xff, 0xff, 0xff, 3]);
    register(register::PM_MISCELLANEOUS, &[0], &[PM_ENABLED]);
    // Kept without effect: there is no bus for system management.
    register(register::SMBUS_BASE, &[1, 0, 0, 0], &[0xf0, 0xff, 0, 0]);
    config
}

impl Timed for Piix4Pm {
    fn timer_expired(&mut self) {
        self.pm.timer_expired();
    }
}

impl PciFunction for Piix4Pm {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let before = self.pm_base();
        let changed = self.config.write(offset, data);
        if changed.decode || before != self.pm_base() {
            Effect::Remap
        } else {
            Effect::None
        }
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        match u16::from(bar) {
            window::PM => self.pm.read(offset, data),
            window::APM => show(0, &self.apm, offset, data),
            window::GENERAL => self.pm.read_general(offset, data),
            window::HOTPLUG => self.hotplug.read(offset, data),
            _ => {}
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        match u16::from(bar) {
            window::PM => return self.pm.write(offset, data, false),
            window::APM => self.pm.write_apm(&mut self.apm, offset, data),
            window::GENERAL => self.pm.write_general(offset, data),
            window::HOTPLUG => {
                let ejected = self.hotplug.write(offset, data);
                return ejected.map_or(Effect::None, Effect::EjectSlots);
            }
            _ => {}
        }
        Effect::None
    }

    fn reset(&mut self) {
        self.config.reset();
        self.pm.reset();
        self.apm = [0; 2];
        self.hotplug.reset();
    }

    fn decodes(&self) -> Vec<Decode> {
        let window = |region, base, len| Decode::Window {
            space: Space::Port,
            region: Region { region, base, len },
        };
        let mut decodes = vec![
            window(window::APM, pm::APM, 2),
            window(window::GENERAL, GENERAL_BASE, pm::GENERAL_LEN),
            window(window::HOTPLUG, hotplug_ports::BASE, hotplug_ports::LEN),
        ];
        let len = Family::Piix4.len();
        decodes.extend(self.pm_base().map(|base| window(window::PM, base, len)));
        decodes
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
    pub struct Piix4PmV1 {
        /// Configuration space.
        pub config: ConfigSpaceV1,
        /// Power management.
        pub pm: pm::state::PmV1,
        /// APM command and status.
        #[serde(default, skip_serializing_if = "is_default")]
        pub apm: [u8; 2],
        /// The hot-plug ports.
        #[serde(default, skip_serializing_if = "is_default")]
        pub hotplug: HotplugPortsV1,
    }
}

impl Snapshot for Piix4Pm {
    type State = state::Piix4PmV1;
    const ID: &'static str = "PIIX4_PM";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Piix4Pm {
            config,
            pm,
            apm,
            hotplug,
        } = self;
        state::Piix4PmV1 {
            config: config.save(),
            pm: pm.save(),
            apm: *apm,
            hotplug: hotplug.save(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::Piix4PmV1 {
            config,
            pm,
            apm,
            hotplug,
        } = state;
        self.config.restore(config)?;
        self.apm = apm;
        self.hotplug.restore(hotplug);
        self.pm.restore(pm, SCI_CHOICE);
        Ok(())
    }
}
