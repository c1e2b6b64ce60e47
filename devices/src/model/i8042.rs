//! `i8042`: the keyboard controller (IBM PS/2 Hardware Interface Technical Reference, "Keyboard
//! and auxiliary device controller"), with nothing plugged into its two connectors.
//!
//! Every command answers at once, and what is sent to a keyboard or mouse comes back as a
//! time-out, so that a driver that probes ends quickly. What guests want of it is the reset line.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::registers::is_default;
use crate::bus::{Access, BusDevice};
use crate::cx::BuildCx;
use crate::effect::{Effect, PowerEffect};
use crate::irq::IrqLine;
use crate::registry::Region;

const DATA: u16 = 0;
const COMMAND: u16 = 1;

const KEYBOARD_IRQ: u8 = 1;
const AUX_IRQ: u8 = 12;

/// Bits of the status register.
mod status {
    pub const OUTPUT_FULL: u8 = 1 << 0;
    pub const SELF_TESTED: u8 = 1 << 2;
    pub const LAST_WAS_COMMAND: u8 = 1 << 3;
    pub const UNLOCKED: u8 = 1 << 4;
    pub const FROM_AUX: u8 = 1 << 5;
    pub const TIMED_OUT: u8 = 1 << 6;
    /// Those that describe the byte for the guest.
    pub const OUTPUT: u8 = OUTPUT_FULL | FROM_AUX | TIMED_OUT;
}

/// Bits of the command byte.
mod mode {
    pub const KEYBOARD_IRQ: u8 = 1 << 0;
    pub const AUX_IRQ: u8 = 1 << 1;
    pub const KEYBOARD_OFF: u8 = 1 << 4;
    pub const AUX_OFF: u8 = 1 << 5;
    pub const AT_RESET: u8 = KEYBOARD_IRQ | AUX_IRQ;
}

/// Bits of the output port.
mod output_port {
    /// The reset line, active low.
    pub const RUN: u8 = 1 << 0;
    /// A20 is let through. It always is; the bit is only remembered.
    pub const A20: u8 = 1 << 1;
    pub const AT_RESET: u8 = 0xcc | RUN | A20;
}

/// Commands.
mod command {
    pub const READ_MODE: u8 = 0x20;
    pub const WRITE_MODE: u8 = 0x60;
    pub const AUX_DISABLE: u8 = 0xa7;
    pub const AUX_ENABLE: u8 = 0xa8;
    pub const AUX_TEST: u8 = 0xa9;
    pub const SELF_TEST: u8 = 0xaa;
    pub const KEYBOARD_TEST: u8 = 0xab;
    pub const KEYBOARD_DISABLE: u8 = 0xad;
    pub const KEYBOARD_ENABLE: u8 = 0xae;
    pub const READ_INPUT_PORT: u8 = 0xc0;
    pub const READ_OUTPUT_PORT: u8 = 0xd0;
    pub const WRITE_OUTPUT_PORT: u8 = 0xd1;
    pub const LOOP_KEYBOARD: u8 = 0xd2;
    pub const LOOP_AUX: u8 = 0xd3;
    pub const SEND_AUX: u8 = 0xd4;
    pub const A20_OFF: u8 = 0xdd;
    pub const A20_ON: u8 = 0xdf;
    /// Pulses the output port's low bits where this command's are zero.
    pub const PULSE: u8 = 0xf0;
}

const SELF_TEST_PASSED: u8 = 0x55;
const KEYBOARD_TEST_PASSED: u8 = 0x00;
/// The clock line of the connector is stuck low: what a test finds where no port is fitted.
const AUX_TEST_FAILED: u8 = 0x01;
/// What the controller reports when a device does not answer.
const RESEND: u8 = 0xfe;
/// Keyboard not inhibited.
const INPUT_PORT: u8 = 0x80;

/// The registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registers {
    self_tested: bool,
    mode: u8,
    output_port: u8,
    /// A command, and whether data for it is awaited.
    last_command: u8,
    awaiting: bool,
    last_was_command: bool,
    /// The last byte for the guest, which can be read again.
    output: u8,
    /// Status bits that describe it; OUTPUT_FULL until it is read.
    output_status: u8,
}

const AT_RESET: Registers = Registers {
    self_tested: false,
    mode: mode::AT_RESET,
    output_port: output_port::AT_RESET,
    last_command: 0,
    awaiting: false,
    last_was_command: true,
    output: 0,
    output_status: 0,
};

/// The controller.
pub struct I8042 {
    keyboard: Arc<dyn IrqLine>,
    aux: Arc<dyn IrqLine>,
    registers: Registers,
}

impl I8042 {
    /// Its ports.
    pub const PORTS: &'static [Region] = &[
        Region {
            region: DATA,
            base: 0x60,
            len: 1,
        },
        Region {
            region: COMMAND,
            base: 0x64,
            len: 1,
        },
    ];

    /// A controller after power-on.
    pub fn new(cx: &BuildCx) -> Self {
        I8042 {
            keyboard: cx.irqs.isa_line(KEYBOARD_IRQ),
            aux: cx.irqs.isa_line(AUX_IRQ),
            registers: AT_RESET,
        }
    }

    fn status(&self) -> u8 {
        let registers = &self.registers;
        let mut value = status::UNLOCKED | registers.output_status;
        if registers.self_tested {
            value |= status::SELF_TESTED;
        }
        if registers.last_was_command {
            value |= status::LAST_WAS_COMMAND;
        }
        value
    }

    fn answer(&mut self, byte: u8, describes: u8) {
        self.registers.output = byte;
        self.registers.output_status = status::OUTPUT_FULL | describes;
    }

    fn take_output(&mut self) -> u8 {
        self.registers.output_status = 0;
        self.drive();
        self.registers.output
    }

    fn drive(&self) {
        let registers = &self.registers;
        let full = registers.output_status & status::OUTPUT_FULL != 0;
        let from_aux = registers.output_status & status::FROM_AUX != 0;
        let enabled = |bit: u8| registers.mode & bit != 0;
        self.keyboard
            .set(full && !from_aux && enabled(mode::KEYBOARD_IRQ));
        self.aux.set(full && from_aux && enabled(mode::AUX_IRQ));
    }

    fn set_mode(&mut self, bit: u8, on: bool) {
        let mode = &mut self.registers.mode;
        *mode = if on { *mode | bit } else { *mode & !bit };
    }

    fn set_output_port(&mut self, value: u8) -> Effect {
        self.registers.output_port = value;
        if value & output_port::RUN == 0 {
            return Effect::Power(PowerEffect::Reset);
        }
        Effect::None
    }

    fn command(&mut self, byte: u8) -> Effect {
        self.registers.last_was_command = true;
        self.registers.last_command = byte;
        self.registers.awaiting = false;
        match byte {
            command::READ_MODE => self.answer(self.registers.mode, 0),
            command::WRITE_MODE
            | command::WRITE_OUTPUT_PORT
            | command::LOOP_KEYBOARD
            | command::LOOP_AUX
            | command::SEND_AUX => self.registers.awaiting = true,
            command::AUX_DISABLE => self.set_mode(mode::AUX_OFF, true),
            command::AUX_ENABLE => self.set_mode(mode::AUX_OFF, false),
            command::AUX_TEST => self.answer(AUX_TEST_FAILED, 0),
            command::SELF_TEST => {
                self.registers.self_tested = true;
                self.answer(SELF_TEST_PASSED, 0);
            }
            command::KEYBOARD_TEST => self.answer(KEYBOARD_TEST_PASSED, 0),
            command::KEYBOARD_DISABLE => self.set_mode(mode::KEYBOARD_OFF, true),
            command::KEYBOARD_ENABLE => self.set_mode(mode::KEYBOARD_OFF, false),
            command::READ_INPUT_PORT => self.answer(INPUT_PORT, 0),
            command::READ_OUTPUT_PORT => self.answer(self.registers.output_port, 0),
            command::A20_OFF => self.registers.output_port &= !output_port::A20,
            command::A20_ON => self.registers.output_port |= output_port::A20,
            pulse @ command::PULSE.. if pulse & output_port::RUN == 0 => {
                return Effect::Power(PowerEffect::Reset);
            }
            // The others do not exist, or pulse lines that lead nowhere.
            _ => {}
        }
        Effect::None
    }

    fn data(&mut self, byte: u8) -> Effect {
        self.registers.last_was_command = false;
        let awaiting = std::mem::take(&mut self.registers.awaiting);
        match self.registers.last_command {
            command::WRITE_MODE if awaiting => self.registers.mode = byte,
            command::WRITE_OUTPUT_PORT if awaiting => return self.set_output_port(byte),
            command::LOOP_KEYBOARD if awaiting => self.answer(byte, 0),
            // Without a port for it, the answer does not come from there.
            command::LOOP_AUX if awaiting => self.answer(RESEND, status::TIMED_OUT),
            command::SEND_AUX if awaiting => {
                self.answer(RESEND, status::TIMED_OUT | status::FROM_AUX);
            }
            // To the keyboard.
            _ => {
                self.set_mode(mode::KEYBOARD_OFF, false);
                self.answer(RESEND, status::TIMED_OUT);
            }
        }
        Effect::None
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(byte) = data.first_mut() {
            *byte = match access.region {
                DATA => self.take_output(),
                _ => self.status(),
            };
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        let Some(&byte) = data.first() else {
            return Effect::None;
        };
        let effect = match access.region {
            DATA => self.data(byte),
            _ => self.command(byte),
        };
        self.drive();
        effect
    }

    fn reset(&mut self) {
        self.registers = AT_RESET;
        self.drive();
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// The registers.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct I8042V1 {
        /// The self test was run.
        #[serde(skip_serializing_if = "is_default")]
        pub self_tested: bool,
        /// The command byte.
        pub mode: u8,
        /// The output port.
        pub output_port: u8,
        /// The last command.
        #[serde(skip_serializing_if = "is_default")]
        pub last_command: u8,
        /// Data for it is awaited.
        #[serde(skip_serializing_if = "is_default")]
        pub awaiting: bool,
        /// The last write was a command.
        #[serde(skip_serializing_if = "is_default")]
        pub last_was_command: bool,
        /// The last byte for the guest.
        #[serde(skip_serializing_if = "is_default")]
        pub output: u8,
        /// Status bits of it.
        #[serde(skip_serializing_if = "is_default")]
        pub output_status: u8,
    }
}

impl Snapshot for I8042 {
    type State = state::I8042V1;
    const ID: &'static str = "i8042";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Registers {
            self_tested,
            mode,
            output_port,
            last_command,
            awaiting,
            last_was_command,
            output,
            output_status,
        } = self.registers;
        state::I8042V1 {
            self_tested,
            mode,
            output_port,
            last_command,
            awaiting,
            last_was_command,
            output,
            output_status,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::I8042V1 {
            self_tested,
            mode,
            output_port,
            last_command,
            awaiting,
            last_was_command,
            output,
            output_status,
        } = state;
        self.registers = Registers {
            self_tested,
            mode,
            output_port,
            last_command,
            awaiting,
            last_was_command,
            output,
            output_status: output_status & status::OUTPUT,
        };
        self.drive();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::{FakeGuest, conformance};

    fn read(device: &mut I8042, region: u16) -> u8 {
        let mut data = [0; 1];
        device.read(Access { region, offset: 0 }, &mut data);
        data[0]
    }

    fn write(device: &mut I8042, region: u16, byte: u8) -> Effect {
        device.write(Access { region, offset: 0 }, &[byte])
    }

    #[test]
    fn conforms() {
        let guest = FakeGuest::new();
        conformance::bus_device(I8042::PORTS, conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(I8042::new(&guest.cx("i8042"))))
        });
    }

    #[test]
    fn commands_answer_at_once() {
        let guest = FakeGuest::new();
        let mut device = I8042::new(&guest.cx("i8042"));
        assert_eq!(read(&mut device, COMMAND), 0x18);
        // Command, data for it, answer with the status that announces it.
        for (command, data, answer) in [
            (0xaa, None, Some((0x1d, 0x55))),
            (0x20, None, Some((0x1d, 0x03))),
            (0x60, Some(0x65), None),
            (0x20, None, Some((0x1d, 0x65))),
            (0xa7, None, None),
            (0xae, None, None),
            (0x20, None, Some((0x1d, 0x65))),
            (0xa9, None, Some((0x1d, 0x01))),
            (0xab, None, Some((0x1d, 0x00))),
            (0xc0, None, Some((0x1d, 0x80))),
            (0xd0, None, Some((0x1d, 0xcf))),
            (0xdd, None, None),
            (0xd0, None, Some((0x1d, 0xcd))),
            (0xd1, Some(0x03), None),
            (0xd0, None, Some((0x1d, 0x03))),
            (0xd2, Some(0x12), Some((0x15, 0x12))),
            (0xd3, Some(0x5a), Some((0x55, 0xfe))),
            (0xd4, Some(0xf2), Some((0x75, 0xfe))),
            (0x77, None, None),
            (0xff, None, None),
        ] {
            assert_eq!(write(&mut device, COMMAND, command), Effect::None);
            if let Some(data) = data {
                assert_eq!(write(&mut device, DATA, data), Effect::None);
            }
            let status = read(&mut device, COMMAND);
            let full = (status & 1 != 0).then(|| (status, read(&mut device, DATA)));
            assert_eq!(full, answer, "{command:#x}");
            assert_eq!(read(&mut device, COMMAND) & 0x63, 0);
        }
    }

    #[test]
    fn a_keyboard_that_is_not_there_interrupts_with_a_time_out() {
        let guest = FakeGuest::new();
        let mut device = I8042::new(&guest.cx("i8042"));
        assert_eq!(write(&mut device, DATA, 0xf2), Effect::None);
        assert_eq!(read(&mut device, COMMAND), 0x51);
        assert!(guest.irqs.level(1));
        assert_eq!(read(&mut device, DATA), 0xfe);
        assert!(!guest.irqs.level(1));
        // Interrupts can be switched off while one is pending.
        let _ = write(&mut device, COMMAND, 0xd4);
        let _ = write(&mut device, DATA, 0xff);
        assert!(guest.irqs.level(12));
        let _ = write(&mut device, COMMAND, 0x60);
        let _ = write(&mut device, DATA, 0x01);
        assert!(!guest.irqs.level(12));
    }

    #[test]
    fn resets() {
        let guest = FakeGuest::new();
        let reset = Effect::Power(PowerEffect::Reset);
        for (command, data, effect) in [
            (0xfe, None, &reset),
            (0xf0, None, &reset),
            (0xff, None, &Effect::None),
            (0xf1, None, &Effect::None),
            (0xd1, Some(0xfe), &reset),
            (0xd1, Some(0xff), &Effect::None),
        ] {
            let mut device = I8042::new(&guest.cx("i8042"));
            let mut last = write(&mut device, COMMAND, command);
            if let Some(data) = data {
                last = write(&mut device, DATA, data);
            }
            assert_eq!(&last, effect, "{command:#x}");
        }
    }
}
