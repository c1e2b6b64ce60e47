//! `ICH9-LPC`: the bridge to what is left of the ISA bus (Intel ICH9, section 13). It routes PCI
//! interrupts, and holds power management, ACPI mode and the reset register.

#[cfg(test)]
mod lpc_test;

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::pm::{self, Family, PmBlock};
use super::registers::{is_default, show};
use super::timed::{Timed, with_timer};
use crate::cx::BuildCx;
use crate::effect::{Effect, PowerEffect};
use crate::map::Space;
use crate::pci::{ConfigSpace, ConfigSpaceV1, Decode, Identity, InterruptRouter, PciFunction};
use crate::registry::Region;

/// Configuration registers (section 13.1).
mod register {
    pub const PM_BASE: u16 = 0x40;
    pub const ACPI_CONTROL: u16 = 0x44;
    pub const PIRQ_A: u16 = 0x60;
    pub const SERIAL_IRQ: u16 = 0x64;
    pub const PIRQ_E: u16 = 0x68;
    pub const IO_DECODE: u16 = 0x80;
    pub const PM_CONFIG_1: u16 = 0xa0;
    pub const ROOT_COMPLEX: u16 = 0xf0;
}

/// ACPI_CNTL: the PM block answers.
const ACPI_ENABLED: u8 = 1 << 7;
/// A PIRQ register: not routed.
const NOT_ROUTED: u8 = 0x80;
/// GEN_PMCON_1: the global SMI switch is locked; stays set until reset.
const SMI_LOCK: u8 = 1 << 4;

/// The windows' numbers.
mod window {
    pub const PM: u16 = 6;
    pub const APM: u16 = 7;
    pub const RESET: u16 = 8;
    pub const ROOT_COMPLEX: u16 = 9;
}

/// The reset control register (section 13.7.5).
const RESET_CONTROL: u64 = 0xcf9;
/// Resets the processor, or with the other bits the machine.
const RESET_NOW: u8 = 1 << 2;
/// What it keeps: kind of reset.
const RESET_KINDS: u8 = 0x0a;

const ROOT_COMPLEX_LEN: u64 = 16 << 10;

/// What firmware sets up before an operating system starts, and again after each reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// First port of the power management block, a multiple of 128; the FADT says the same.
    pub pm_base: u16,
    /// Old interrupts of links A to H, for guests without ACPI; the functions' INTERRUPT_LINE
    /// says the same.
    pub links: [u8; 8],
}

impl Setup {
    /// The usual place, and interrupts 10 and 11 in turns of two.
    pub const DEFAULT: Setup = Setup {
        pm_base: 0x600,
        links: [10, 10, 11, 11, 10, 10, 11, 11],
    };
}

/// 8086:2918 at 00:1f.0.
pub struct Lpc {
    config: ConfigSpace,
    pm: PmBlock,
    router: Arc<InterruptRouter>,
    /// Command and status.
    apm: [u8; 2],
    reset_control: u8,
}

impl Lpc {
    /// A bridge after power-on: links not routed, power management not decoded.
    pub fn new(cx: &BuildCx, router: Arc<InterruptRouter>) -> Arc<Mutex<Self>> {
        with_timer(&*cx.timers, |timer| Lpc {
            config: config(),
            pm: PmBlock::new(Family::Ich9, cx.clock.clone(), timer, &*cx.irqs),
            router,
            apm: [0; 2],
            reset_control: 0,
        })
    }

    /// Does what firmware does for a guest that is started without. The address map has to be
    /// made anew afterwards.
    pub fn set_up(&mut self, setup: &Setup) {
        let base = u32::from(setup.pm_base & 0xff80) | 1;
        self.config.set(register::PM_BASE, &base.to_le_bytes());
        self.config.set(register::ACPI_CONTROL, &[ACPI_ENABLED]);
        for (offset, irq) in pirq_registers().zip(setup.links) {
            self.config.set(offset, &[irq & 0xf]);
        }
        let root_complex = ROOT_COMPLEX_BASE | 1;
        self.config
            .set(register::ROOT_COMPLEX, &root_complex.to_le_bytes());
        self.follow_config();
    }

    /// Presses the power button: system_powerdown. Nothing happens in a guest that does not
    /// listen to it.
    pub fn power_button(&mut self) {
        self.pm.power_button();
    }

    /// Raises general purpose event `index`, 0 to 63 (`_Lxx` or `_Exx` in the DSDT).
    pub fn general_event(&mut self, index: u8) {
        self.pm.general_event(index);
    }

    fn smi_locked(&self) -> bool {
        self.config.byte(register::PM_CONFIG_1) & SMI_LOCK != 0
    }

    fn pm_base(&self) -> Option<u64> {
        let base = u64::from(self.config.word(register::PM_BASE) & 0xff80);
        let on = self.config.byte(register::ACPI_CONTROL) & ACPI_ENABLED != 0;
        (on && base != 0).then_some(base)
    }

    fn root_complex(&self) -> Option<u64> {
        let value = self.config.dword(register::ROOT_COMPLEX);
        (value & 1 != 0).then_some(u64::from(value & 0xffff_c000))
    }

    /// Routes links and SCI as the registers say.
    fn follow_config(&mut self) {
        for (link, offset) in (0u8..).zip(pirq_registers()) {
            self.router.route(link, self.config.byte(offset));
        }
        self.pm.choose_sci(self.config.byte(register::ACPI_CONTROL));
    }

    fn write_reset_control(&mut self, data: &[u8]) -> Effect {
        let value = data.first().copied().unwrap_or(0);
        if value & RESET_NOW != 0 {
            return Effect::Power(PowerEffect::Reset);
        }
        self.reset_control = value & RESET_KINDS;
        Effect::None
    }
}

/// Where firmware puts the root complex register block.
const ROOT_COMPLEX_BASE: u32 = 0xfed1_c000;

fn pirq_registers() -> impl Iterator<Item = u16> {
    let first = register::PIRQ_A..register::PIRQ_A + 4;
    first.chain(register::PIRQ_E..register::PIRQ_E + 4)
}

fn config() -> ConfigSpace {
    let mut config = ConfigSpace::endpoint(Identity {
        vendor: 0x8086,
        device: 0x2918,
        revision: 2,
        class: 0x06_0100,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
    });
    let mut register = |offset: u16, value: &[u8], writable: &[u8]| {
        config.init(offset, value);
        config.allow(offset, writable);
    };
    register(register::PM_BASE, &[1, 0, 0, 0], &[0x80, 0xff, 0, 0]);
    register(register::ACPI_CONTROL, &[0], &[0x87]);
    for offset in pirq_registers() {
        register(offset, &[NOT_ROUTED], &[0x8f]);
    }
    register(register::SERIAL_IRQ, &[0x10], &[0xff]);
    // Ranges that go to the LPC bus: kept, without effect, as nothing there depends on them.
    register(register::IO_DECODE, &[0; 4], &[0x77, 0x03, 0x0f, 0x3f]);
    for generic in 1..5 {
        let offset = register::IO_DECODE + 4 * generic;
        register(offset, &[0; 4], &[0xfd, 0xff, 0xfc, 0]);
    }
    register(register::PM_CONFIG_1, &[0; 2], &[0xbf, 0x0e]);
    register(register::ROOT_COMPLEX, &[0; 4], &[0x01, 0xc0, 0xff, 0xff]);
    config
}

/// The root complex register block (section 10.1). Read-only: the wiring of the interrupt pins
/// is fixed, the I/O APIC always on, the chipset's watchdog switched off by a strap.
fn read_root_complex(offset: u64, data: &mut [u8]) {
    /// Slots 25 to 29 and 31: pins A to D to links A to D.
    const WIRING: [u8; 2] = 0x3210_u16.to_le_bytes();
    /// Slot 30: to links E to H.
    const WIRING_30: [u8; 2] = 0x7654_u16.to_le_bytes();
    const ROUTES: [u64; 6] = [0x3140, 0x3144, 0x3146, 0x3148, 0x314c, 0x3150];
    const ROUTE_30: u64 = 0x3142;
    const IO_APIC_ON: u64 = 0x31ff;
    const STRAPS: u64 = 0x3410;
    const NO_REBOOT: u8 = 1 << 5;
    data.fill(0);
    for at in ROUTES {
        show(at, &WIRING, offset, data);
    }
    show(ROUTE_30, &WIRING_30, offset, data);
    show(IO_APIC_ON, &[1], offset, data);
    show(STRAPS, &[NO_REBOOT], offset, data);
}

impl Timed for Lpc {
    fn timer_expired(&mut self) {
        self.pm.timer_expired();
    }
}

impl PciFunction for Lpc {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let before = (self.pm_base(), self.root_complex());
        let locked = self.smi_locked();
        let changed = self.config.write(offset, data);
        if locked {
            let value = self.config.byte(register::PM_CONFIG_1) | SMI_LOCK;
            self.config.set(register::PM_CONFIG_1, &[value]);
        }
        self.follow_config();
        if changed.decode || before != (self.pm_base(), self.root_complex()) {
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
            window::RESET => show(0, &[self.reset_control], offset, data),
            window::ROOT_COMPLEX => read_root_complex(offset, data),
            _ => {}
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        match u16::from(bar) {
            window::PM => return self.pm.write(offset, data, self.smi_locked()),
            window::APM => self.pm.write_apm(&mut self.apm, offset, data),
            window::RESET => return self.write_reset_control(data),
            _ => {}
        }
        Effect::None
    }

    fn reset(&mut self) {
        self.config.reset();
        self.pm.reset();
        self.apm = [0; 2];
        self.reset_control = 0;
        self.follow_config();
    }

    fn decodes(&self) -> Vec<Decode> {
        let window = |space, region, base, len| Decode::Window {
            space,
            region: Region { region, base, len },
        };
        let mut decodes = vec![
            window(Space::Port, window::APM, pm::APM, 2),
            window(Space::Port, window::RESET, RESET_CONTROL, 1),
        ];
        let pm = self.pm_base();
        decodes.extend(pm.map(|base| window(Space::Port, window::PM, base, Family::Ich9.len())));
        decodes.extend(self.root_complex().map(|base| {
            let number = window::ROOT_COMPLEX;
            window(Space::Memory, number, base, ROOT_COMPLEX_LEN)
        }));
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
    pub struct LpcV1 {
        /// Configuration space.
        pub config: ConfigSpaceV1,
        /// Power management.
        pub pm: pm::state::PmV1,
        /// APM command and status.
        #[serde(default, skip_serializing_if = "is_default")]
        pub apm: [u8; 2],
        /// Reset control.
        #[serde(default, skip_serializing_if = "is_default")]
        pub reset_control: u8,
    }
}

impl Snapshot for Lpc {
    type State = state::LpcV1;
    const ID: &'static str = "ICH9-LPC";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Lpc {
            config,
            pm,
            router: _,
            apm,
            reset_control,
        } = self;
        state::LpcV1 {
            config: config.save(),
            pm: pm.save(),
            apm: *apm,
            reset_control: *reset_control,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::LpcV1 {
            config,
            pm,
            apm,
            reset_control,
        } = state;
        self.config.restore(config)?;
        self.apm = apm;
        self.reset_control = reset_control & RESET_KINDS;
        let sci = self.config.byte(register::ACPI_CONTROL);
        self.pm.restore(pm, sci);
        self.follow_config();
        Ok(())
    }
}
