//! The chipset's power management registers (Intel ICH9, section 13.8.3; Intel PIIX4, section 7;
//! ACPI 6.5, section 4.8): power button, power management timer, sleep control, general purpose
//! events.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::registers::{is_default, show, written};
use crate::clock::{Clock, Timer};
use crate::effect::{Effect, PowerEffect};
use crate::irq::{IrqLine, IrqProvider};

/// Whose block it is. The fixed registers are in the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// General purpose events and SMI registers are in the block.
    Ich9,
    /// General purpose events, 16 of them, are in a block of their own: see
    /// [`PmBlock::read_general`]. There are no SMI registers.
    Piix4,
}

impl Family {
    /// Bytes of the block.
    pub const fn len(self) -> u64 {
        match self {
            Family::Ich9 => 128,
            Family::Piix4 => 64,
        }
    }

    /// SMI enable at power-on.
    const fn smi_at_reset(self) -> u32 {
        match self {
            Family::Ich9 => SMI_AT_RESET,
            Family::Piix4 => 0,
        }
    }

    /// Commands to the APM port that firmware answers by entering and leaving ACPI mode, as the
    /// FADT says.
    const fn acpi_commands(self) -> (u8, u8) {
        match self {
            Family::Ich9 => (2, 3),
            Family::Piix4 => (0xf1, 0xf0),
        }
    }

    /// The general purpose events that there are.
    const fn general_events(self) -> u64 {
        match self {
            Family::Ich9 => u64::MAX,
            Family::Piix4 => 0xffff,
        }
    }
}

/// The APM ports: command and status.
pub(super) const APM: u64 = 0xb2;

/// Bytes of the PIIX4's block of general purpose events: status and enable.
pub(super) const GENERAL_LEN: u64 = 4;

const PM1_STATUS: u64 = 0x00;
const PM1_ENABLE: u64 = 0x02;
const PM1_CONTROL: u64 = 0x04;
const PM_TIMER: u64 = 0x08;
const GPE_STATUS: u64 = 0x20;
const GPE_ENABLE: u64 = 0x28;
const SMI_ENABLE: u64 = 0x30;
const SMI_STATUS: u64 = 0x34;

/// Bits of PM1 status and enable.
mod event {
    pub const TIMER: u16 = 1 << 0;
    pub const GLOBAL: u16 = 1 << 5;
    pub const POWER_BUTTON: u16 = 1 << 8;
    pub const CLOCK: u16 = 1 << 10;
    /// Those that can interrupt.
    pub const ALL: u16 = TIMER | GLOBAL | POWER_BUTTON | CLOCK;
}

/// PM1 control: events interrupt the operating system, not firmware.
const SCI_ENABLE: u16 = 1 << 0;
/// PM1 control: go to sleep now; reads as zero.
const SLEEP_ENABLE: u16 = 1 << 13;
/// Bits of PM1 control that keep what is written.
const CONTROL_BITS: u64 = 0x1c03;
/// SLP_TYP of soft off, as the DSDT's `_S5` says.
const SOFT_OFF: u16 = 0;

/// SMI enable: the global switch, locked by GEN_PMCON_1.
const SMI_GLOBAL: u32 = 1 << 0;
/// SMI enable: firmware lets go of the global lock; sets GLOBAL, reads as zero.
const SMI_RELEASE: u32 = 1 << 7;
/// SMI enable at power-on: "writes to the APM port are taken care of". Firmware that finds it so
/// leaves system management mode alone, which this machine does not have.
const SMI_AT_RESET: u32 = 1 << 5;

/// Of the timer: ticks in a second, and bits of the counter.
const FREQUENCY: u128 = 3_579_545;
const COUNTER: u64 = 0xff_ffff;
/// The timer's event is bit 23 of the counter changing.
const HALF: u64 = 1 << 23;

/// The inputs that the SCI can be led to, by ACPI_CNTL bits 2:0.
const SCI_INPUTS: [Option<u8>; 8] = [
    Some(9),
    Some(10),
    Some(11),
    None,
    Some(20),
    Some(21),
    None,
    None,
];

/// The registers, which live as long as the chipset has power.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registers {
    /// Without TIMER, which follows from `overflow`.
    status: u16,
    enable: u16,
    control: u16,
    /// The tick at which TIMER is set.
    overflow: u64,
    gpe_status: u64,
    gpe_enable: u64,
    smi_enable: u32,
}

impl Registers {
    fn at_power_on(family: Family, ticks: u64) -> Self {
        Registers {
            status: 0,
            enable: 0,
            control: 0,
            overflow: next_overflow(ticks),
            gpe_status: 0,
            gpe_enable: 0,
            smi_enable: family.smi_at_reset(),
        }
    }
}

/// The block.
pub(super) struct PmBlock {
    family: Family,
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    sci: [Option<Arc<dyn IrqLine>>; 8],
    sci_choice: usize,
    registers: Registers,
}

fn ticks_at(ns: u64) -> u64 {
    let ticks = u128::from(ns) * FREQUENCY / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The first nanosecond of a tick.
fn ns_of(ticks: u64) -> u64 {
    let ns = (u128::from(ticks) * 1_000_000_000).div_ceil(FREQUENCY);
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn next_overflow(ticks: u64) -> u64 {
    (ticks | (HALF - 1)).saturating_add(1)
}

impl PmBlock {
    pub fn new(
        family: Family,
        clock: Arc<dyn Clock>,
        timer: Box<dyn Timer>,
        irqs: &dyn IrqProvider,
    ) -> Self {
        let ticks = ticks_at(clock.now_ns());
        PmBlock {
            family,
            clock,
            timer,
            sci: SCI_INPUTS.map(|input| input.map(|gsi| irqs.gsi_line(gsi))),
            sci_choice: 0,
            registers: Registers::at_power_on(family, ticks),
        }
    }

    pub fn read(&self, offset: u64, data: &mut [u8]) {
        // What is not a register reads as zero, as on the chipset.
        data.fill(0);
        let ticks = ticks_at(self.clock.now_ns());
        let Registers {
            status: _,
            enable,
            control,
            overflow: _,
            gpe_status,
            gpe_enable,
            smi_enable,
        } = &self.registers;
        let counter = ((ticks & COUNTER) as u32).to_le_bytes();
        let status = self.status(ticks).to_le_bytes();
        show(PM1_STATUS, &status, offset, data);
        show(PM1_ENABLE, &enable.to_le_bytes(), offset, data);
        show(PM1_CONTROL, &control.to_le_bytes(), offset, data);
        show(PM_TIMER, &counter, offset, data);
        if self.family == Family::Ich9 {
            show(GPE_STATUS, &gpe_status.to_le_bytes(), offset, data);
            show(GPE_ENABLE, &gpe_enable.to_le_bytes(), offset, data);
            show(SMI_ENABLE, &smi_enable.to_le_bytes(), offset, data);
            // No SMI ever happens.
            show(SMI_STATUS, &[0; 4], offset, data);
        }
    }

    /// Reads the PIIX4's block of general purpose events: two bytes of status, two of enable.
    pub fn read_general(&self, offset: u64, data: &mut [u8]) {
        let [a, b, ..] = self.registers.gpe_status.to_le_bytes();
        let [c, d, ..] = self.registers.gpe_enable.to_le_bytes();
        show(0, &[a, b, c, d], offset, data);
    }

    /// Writes it.
    pub fn write_general(&mut self, offset: u64, data: &[u8]) {
        if let Some(clears) = written(0, 2, offset, data) {
            self.registers.gpe_status &= !clears.value;
        }
        if let Some(new) = written(2, 2, offset, data) {
            self.registers.gpe_enable = new.over(self.registers.gpe_enable, 0xffff);
        }
        self.update();
    }

    /// `smi_locked`: the global SMI switch cannot be changed any more.
    pub fn write(&mut self, offset: u64, data: &[u8], smi_locked: bool) -> Effect {
        let ticks = ticks_at(self.clock.now_ns());
        let registers = &mut self.registers;
        if let Some(clears) = written(PM1_STATUS, 2, offset, data) {
            registers.status &= !(clears.value as u16);
            if clears.value as u16 & event::TIMER != 0 && ticks >= registers.overflow {
                registers.overflow = next_overflow(ticks);
            }
        }
        if let Some(new) = written(PM1_ENABLE, 2, offset, data) {
            let old = u64::from(registers.enable);
            registers.enable = new.over(old, u64::from(event::ALL)) as u16;
        }
        if self.family == Family::Ich9 {
            self.write_ich9(offset, data, smi_locked);
        }
        let effect = self.write_control(offset, data);
        self.update();
        effect
    }

    /// General purpose events and SMI.
    fn write_ich9(&mut self, offset: u64, data: &[u8], smi_locked: bool) {
        let registers = &mut self.registers;
        if let Some(clears) = written(GPE_STATUS, 8, offset, data) {
            registers.gpe_status &= !clears.value;
        }
        if let Some(new) = written(GPE_ENABLE, 8, offset, data) {
            registers.gpe_enable = new.over(registers.gpe_enable, u64::MAX);
        }
        if let Some(new) = written(SMI_ENABLE, 4, offset, data) {
            let fixed = SMI_RELEASE | if smi_locked { SMI_GLOBAL } else { 0 };
            let old = u64::from(registers.smi_enable);
            registers.smi_enable = new.over(old, u64::from(!fixed)) as u32;
            if new.value as u32 & SMI_RELEASE != 0 {
                registers.status |= event::GLOBAL;
            }
        }
    }

    fn write_control(&mut self, offset: u64, data: &[u8]) -> Effect {
        let Some(new) = written(PM1_CONTROL, 2, offset, data) else {
            return Effect::None;
        };
        let registers = &mut self.registers;
        registers.control = new.over(u64::from(registers.control), CONTROL_BITS) as u16;
        let sleep = new.value as u16 & SLEEP_ENABLE != 0;
        // The DSDT offers no other sleep.
        if sleep && registers.control >> 10 & 7 == SOFT_OFF {
            return Effect::Power(PowerEffect::Shutdown);
        }
        Effect::None
    }

    /// Enters or leaves ACPI mode, as firmware does when the APM port asks for it.
    fn set_acpi_mode(&mut self, on: bool) {
        let control = &mut self.registers.control;
        *control = if on {
            *control | SCI_ENABLE
        } else {
            *control & !SCI_ENABLE
        };
        self.update();
    }

    /// Leads the SCI to the input that ACPI_CNTL bits 2:0 name.
    pub fn choose_sci(&mut self, choice: u8) {
        let choice = usize::from(choice & 7);
        if choice != self.sci_choice {
            self.drive_sci(false);
            self.sci_choice = choice;
            self.update();
        }
    }

    /// Presses the power button, for a guest that listens to it.
    pub fn power_button(&mut self) {
        trace::point!(ACPI_POWER_BUTTON);
        let registers = &mut self.registers;
        if registers.enable & event::POWER_BUTTON != 0 {
            registers.status |= event::POWER_BUTTON;
            self.update();
        }
    }

    /// A write to the APM ports, whose registers are `apm`: commands switch ACPI mode.
    pub fn write_apm(&mut self, apm: &mut [u8; 2], offset: u64, data: &[u8]) {
        let (enable, disable) = self.family.acpi_commands();
        for (index, byte) in (0u64..).zip(data) {
            let place = usize::try_from(offset.saturating_add(index)).unwrap_or(usize::MAX);
            if let Some(register) = apm.get_mut(place) {
                *register = *byte;
            }
            match (place, *byte) {
                (0, command) if command == enable => self.set_acpi_mode(true),
                (0, command) if command == disable => self.set_acpi_mode(false),
                _ => {}
            }
        }
    }

    /// Raises general purpose event `index`, 0 to 63.
    pub fn general_event(&mut self, index: u8) {
        trace::point!(ACPI_GENERAL_EVENT, gpe = index);
        let event = 1u64.checked_shl(u32::from(index)).unwrap_or(0);
        self.registers.gpe_status |= event & self.family.general_events();
        self.update();
    }

    pub fn timer_expired(&mut self) {
        self.update();
    }

    pub fn reset(&mut self) {
        let ticks = ticks_at(self.clock.now_ns());
        self.registers = Registers::at_power_on(self.family, ticks);
        self.drive_sci(false);
        self.sci_choice = 0;
        self.update();
    }

    fn status(&self, ticks: u64) -> u16 {
        let overflowed = ticks >= self.registers.overflow;
        self.registers.status | if overflowed { event::TIMER } else { 0 }
    }

    fn drive_sci(&self, level: bool) {
        if let Some(Some(line)) = self.sci.get(self.sci_choice) {
            line.set(level);
        }
    }

    fn update(&self) {
        let status = self.status(ticks_at(self.clock.now_ns()));
        let registers = &self.registers;
        let fixed = status & registers.enable & event::ALL != 0;
        let general = registers.gpe_status & registers.gpe_enable != 0;
        self.drive_sci(registers.control & SCI_ENABLE != 0 && (fixed || general));
        if registers.enable & event::TIMER != 0 && status & event::TIMER == 0 {
            self.timer.arm(ns_of(registers.overflow));
        } else {
            self.timer.cancel();
        }
    }

    pub fn save(&self) -> state::PmV1 {
        let Registers {
            status,
            enable,
            control,
            overflow,
            gpe_status,
            gpe_enable,
            smi_enable,
        } = self.registers;
        state::PmV1 {
            status,
            enable,
            control,
            overflow,
            gpe_status,
            gpe_enable,
            smi_enable,
        }
    }

    /// Also drives the line and sets the timer.
    pub fn restore(&mut self, state: state::PmV1, sci_choice: u8) {
        let state::PmV1 {
            status,
            enable,
            control,
            overflow,
            gpe_status,
            gpe_enable,
            smi_enable,
        } = state;
        self.registers = Registers {
            status: status & event::ALL & !event::TIMER,
            enable: enable & event::ALL,
            control: control & CONTROL_BITS as u16,
            overflow,
            gpe_status: gpe_status & self.family.general_events(),
            gpe_enable: gpe_enable & self.family.general_events(),
            smi_enable,
        };
        self.choose_sci(sci_choice);
        self.update();
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// The registers.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct PmV1 {
        /// PM1 status without the timer's bit.
        #[serde(skip_serializing_if = "is_default")]
        pub status: u16,
        /// PM1 enable.
        #[serde(skip_serializing_if = "is_default")]
        pub enable: u16,
        /// PM1 control.
        #[serde(skip_serializing_if = "is_default")]
        pub control: u16,
        /// The tick of the virtual clock at which the timer's bit is set.
        pub overflow: u64,
        /// General purpose event status.
        #[serde(skip_serializing_if = "is_default")]
        pub gpe_status: u64,
        /// General purpose event enable.
        #[serde(skip_serializing_if = "is_default")]
        pub gpe_enable: u64,
        /// SMI enable.
        #[serde(skip_serializing_if = "is_default")]
        pub smi_enable: u32,
    }
}
