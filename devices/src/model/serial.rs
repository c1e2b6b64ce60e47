//! A 16550A UART (National Semiconductor PC16550D data sheet, 1995).
//!
//! Transmission takes no time: a character is in the character device's ring when the guest's
//! write returns. Only while that ring is full do characters wait in the transmit FIFO, and the
//! guest sees a busy transmitter. Input waits with the character device until the receive FIFO
//! has room, so none is ever lost.

mod state;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

pub use state::SerialV1;

use crate::backend::chardev::{CharFrontend, CharWaker};
use crate::bus::{Access, BusDevice, lock};
use crate::clock::{Clock, Timer, TimerTarget, Timers};
use crate::effect::Effect;
use crate::irq::IrqLine;

/// Ports of one UART.
pub const PORTS: u64 = 8;
/// Characters in each FIFO.
const FIFO: usize = 16;
/// What a divisor of 1 gives, in bits per second.
const BASE_RATE: u64 = 115_200;
const DEFAULT_DIVISOR: u16 = 12;

/// Interrupt enable.
mod ier {
    pub const RECEIVED: u8 = 1;
    pub const TRANSMITTER_EMPTY: u8 = 2;
    pub const LINE_STATUS: u8 = 4;
    pub const MODEM_STATUS: u8 = 8;
    pub const ALL: u8 = 0x0f;
}

/// Interrupt identification.
mod iir {
    pub const NONE: u8 = 1;
    pub const MODEM_STATUS: u8 = 0;
    pub const TRANSMITTER_EMPTY: u8 = 2;
    pub const RECEIVED: u8 = 4;
    pub const LINE_STATUS: u8 = 6;
    pub const TIMEOUT: u8 = 0x0c;
    pub const FIFOS_ON: u8 = 0xc0;
}

/// FIFO control.
mod fcr {
    pub const ENABLE: u8 = 1;
    pub const CLEAR_RECEIVER: u8 = 2;
    pub const CLEAR_TRANSMITTER: u8 = 4;
    /// Bits that stay.
    pub const KEPT: u8 = 0xc9;
}

/// Line control.
mod lcr {
    pub const DIVISOR_ACCESS: u8 = 0x80;
}

/// Modem control.
mod mcr {
    pub const OUT2: u8 = 8;
    pub const LOOP: u8 = 0x10;
    pub const ALL: u8 = 0x1f;
}

/// Line status.
mod lsr {
    pub const DATA_READY: u8 = 1;
    pub const OVERRUN: u8 = 2;
    pub const BREAK: u8 = 0x10;
    /// What reading clears.
    pub const ERRORS: u8 = 0x1e;
    pub const HOLDING_EMPTY: u8 = 0x20;
    pub const TRANSMITTER_EMPTY: u8 = 0x40;
}

/// Modem status.
mod msr {
    /// Clear to send, data set ready, carrier: somebody is always at the other end.
    pub const CONNECTED: u8 = 0xb0;
    pub const DELTAS: u8 = 0x0f;
}

/// A FIFO of the chip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fifo {
    data: [u8; FIFO],
    start: usize,
    len: usize,
}

impl Fifo {
    fn push(&mut self, byte: u8) {
        let at = (self.start + self.len) % FIFO;
        if let Some(slot) = self.data.get_mut(at).filter(|_| self.len < FIFO) {
            *slot = byte;
            self.len += 1;
        }
    }

    fn front(&self) -> Option<u8> {
        self.data.get(self.start).copied().filter(|_| self.len > 0)
    }

    fn pop(&mut self) -> Option<u8> {
        let byte = self.front()?;
        self.start = (self.start + 1) % FIFO;
        self.len -= 1;
        Some(byte)
    }

    fn clear(&mut self) {
        *self = Fifo::default();
    }

    fn to_vec(self) -> Vec<u8> {
        let mut rest = self;
        std::iter::from_fn(|| rest.pop()).collect()
    }

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut fifo = Fifo::default();
        bytes.iter().for_each(|byte| fifo.push(*byte));
        (bytes.len() <= FIFO).then_some(fifo)
    }
}

/// The UART.
pub struct Uart {
    port: Option<CharFrontend>,
    line: Arc<dyn IrqLine>,
    level: bool,
    clock: Arc<dyn Clock>,
    /// Runs while characters wait below the trigger level.
    idle: Box<dyn Timer>,
    divisor: u16,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    /// Errors that were not read yet; the other bits follow from the FIFOs.
    errors: u8,
    msr: u8,
    scratch: u8,
    /// The last character read, which an empty receiver shows again.
    last: u8,
    receiver: Fifo,
    /// Characters that the character device had no room for.
    transmitter: Fifo,
    /// The transmitter became empty and nobody was told.
    empty_pending: bool,
    /// Characters wait for longer than four of them take.
    timed_out: bool,
    /// It was restored, and the interrupt controller was not yet: its state says nothing of what
    /// comes meanwhile, and the line would rise unseen.
    settling: bool,
    /// Characters that had come in before the state did; the guest has them still to come.
    early: VecDeque<u8>,
}

impl Uart {
    /// A UART after power-on, connected to `port`, if there is one.
    pub fn new(
        port: Option<CharFrontend>,
        line: Arc<dyn IrqLine>,
        clock: Arc<dyn Clock>,
        timers: &dyn Timers,
    ) -> Arc<Mutex<Self>> {
        let uart = Arc::new_cyclic(|weak: &Weak<Mutex<Uart>>| {
            let hook = Arc::new(Hook(weak.clone()));
            if let Some(port) = &port {
                port.set_waker(Some(hook.clone()));
                port.set_frontend_open(true);
            }
            Mutex::new(Uart {
                port,
                line,
                level: false,
                clock,
                idle: timers.timer(hook),
                divisor: DEFAULT_DIVISOR,
                ier: 0,
                fcr: 0,
                lcr: 0,
                mcr: mcr::OUT2,
                errors: 0,
                msr: msr::CONNECTED,
                scratch: 0,
                last: 0,
                receiver: Fifo::default(),
                transmitter: Fifo::default(),
                empty_pending: false,
                timed_out: false,
                settling: false,
                early: VecDeque::new(),
            })
        });
        lock(&uart).attend();
        uart
    }

    fn read_register(&mut self, register: u64) -> u8 {
        let divisor = self.lcr & lcr::DIVISOR_ACCESS != 0;
        match register {
            0 if divisor => self.divisor.to_le_bytes()[0],
            0 => self.read_data(),
            1 if divisor => self.divisor.to_le_bytes()[1],
            1 => self.ier,
            2 => {
                let value = self.identify();
                if value & !iir::FIFOS_ON == iir::TRANSMITTER_EMPTY {
                    self.empty_pending = false;
                    self.drive_line();
                }
                value
            }
            3 => self.lcr,
            4 => self.mcr,
            5 => {
                if self.transmitter.len > 0 {
                    self.transmit();
                }
                let value = self.line_status();
                if self.errors != 0 {
                    self.errors = 0;
                    self.drive_line();
                }
                value
            }
            6 => self.read_modem_status(),
            7 => self.scratch,
            _ => 0xff,
        }
    }

    fn write_register(&mut self, register: u64, value: u8) {
        trace::point!(
            SERIAL_WRITE,
            addr = register,
            val = trace::Hex(value.into())
        );
        let divisor = self.lcr & lcr::DIVISOR_ACCESS != 0;
        let [low, high] = self.divisor.to_le_bytes();
        match register {
            0 if divisor => self.divisor = u16::from_le_bytes([value, high]),
            0 => self.write_data(value),
            1 if divisor => self.divisor = u16::from_le_bytes([low, value]),
            1 => self.write_enable(value),
            2 => self.write_fifo_control(value),
            3 => self.lcr = value,
            4 => {
                let was_loop = self.is_loop();
                self.mcr = value & mcr::ALL;
                if was_loop && !self.is_loop() {
                    self.attend();
                }
            }
            7 => self.scratch = value,
            // Line and modem status are for reading.
            _ => {}
        }
    }

    /// Input came, output has room, or the UART is ready for either again.
    fn attend(&mut self) {
        if self.settling {
            return;
        }
        if self.transmitter.len > 0 {
            self.transmit();
        }
        let broken = self.port.as_ref().is_some_and(|port| port.take_break());
        if broken {
            self.receive_break();
        }
        if self.pull() || broken {
            self.received();
        }
    }

    // Receiver.

    /// A break comes as a character of zeros, and is told with the line's errors.
    fn receive_break(&mut self) {
        self.errors |= lsr::BREAK;
        if self.receiver_room() == 0 {
            self.errors |= lsr::OVERRUN;
        } else {
            self.receiver.push(0);
        }
    }

    fn fifos_on(&self) -> bool {
        self.fcr & fcr::ENABLE != 0
    }

    fn is_loop(&self) -> bool {
        self.mcr & mcr::LOOP != 0
    }

    fn receiver_room(&self) -> usize {
        let depth = if self.fifos_on() { FIFO } else { 1 };
        depth.saturating_sub(self.receiver.len)
    }

    /// Characters that make an interrupt by their number alone.
    fn trigger(&self) -> usize {
        match self.fcr >> 6 {
            _ if !self.fifos_on() => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    /// Fills the receiver. Whether something came.
    fn pull(&mut self) -> bool {
        let mut buffer = [0; FIFO];
        if self.receiver_room() == 0 || self.is_loop() {
            return false;
        }
        let before = self.receiver.len;
        while self.receiver_room() > 0
            && let Some(byte) = self.early.pop_front()
        {
            self.receiver.push(byte);
        }
        let early = self.receiver.len > before;
        let room = self.receiver_room();
        let Some(port) = self.port.as_ref().filter(|_| room > 0) else {
            return early;
        };
        let part = buffer.get_mut(..room).unwrap_or_default();
        let count = port.read(part);
        for byte in part.iter().take(count) {
            self.receiver.push(*byte);
        }
        early || count > 0
    }

    fn received(&mut self) {
        self.wind_up();
        self.drive_line();
    }

    /// Begins to wait for the timeout, when it would make a difference.
    fn wind_up(&mut self) {
        let waits = (1..self.trigger()).contains(&self.receiver.len);
        if waits && self.ier & ier::RECEIVED != 0 && !self.timed_out {
            let now = self.clock.now_ns();
            self.idle.arm(now.saturating_add(self.four_characters()));
        }
    }

    /// Nanoseconds that four characters of ten bits take.
    fn four_characters(&self) -> u64 {
        let divisor = u64::from(self.divisor.max(1));
        40 * 1_000_000_000 / BASE_RATE * divisor
    }

    fn read_data(&mut self) -> u8 {
        if let Some(byte) = self.receiver.pop() {
            self.last = byte;
            if self.receiver.len == 0 {
                self.pull();
            }
            self.timed_out = false;
            self.wind_up();
            self.drive_line();
        }
        self.last
    }

    fn expired(&mut self) {
        if self.receiver.len > 0 && self.fifos_on() {
            self.timed_out = true;
            self.drive_line();
        }
    }

    // Transmitter.

    fn write_data(&mut self, value: u8) {
        if self.is_loop() {
            if self.receiver_room() == 0 {
                self.errors |= lsr::OVERRUN;
            } else {
                self.receiver.push(value);
            }
            self.empty_pending = true;
            return self.received();
        }
        let sent = self.transmitter.len == 0
            && match &self.port {
                Some(port) => port.write(&[value]) == 1,
                None => true,
            };
        if !sent {
            let depth = if self.fifos_on() { FIFO } else { 1 };
            // A driver that does not look whether there is room loses the oldest.
            while self.transmitter.len >= depth {
                self.transmitter.pop();
            }
            self.transmitter.push(value);
        }
        self.empty_pending = sent;
        self.drive_line();
    }

    /// Hands over what waits.
    fn transmit(&mut self) {
        let Some(port) = &self.port else {
            return self.transmitter.clear();
        };
        while let Some(byte) = self.transmitter.front() {
            if port.write(&[byte]) == 0 {
                return;
            }
            self.transmitter.pop();
        }
        self.empty_pending = true;
        self.drive_line();
    }

    // Status and control.

    fn line_status(&self) -> u8 {
        let mut value = self.errors;
        if self.receiver.len > 0 {
            value |= lsr::DATA_READY;
        }
        if self.transmitter.len == 0 {
            value |= lsr::HOLDING_EMPTY | lsr::TRANSMITTER_EMPTY;
        }
        value
    }

    fn read_modem_status(&mut self) -> u8 {
        if self.is_loop() {
            // DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD.
            let mcr = self.mcr;
            return (mcr & 0x0c) << 4 | (mcr & 0x02) << 3 | (mcr & 0x01) << 5;
        }
        let value = self.msr;
        if value & msr::DELTAS != 0 {
            self.msr &= !msr::DELTAS;
            self.drive_line();
        }
        value
    }

    fn write_enable(&mut self, value: u8) {
        let value = value & ier::ALL;
        let begun = value & !self.ier;
        self.ier = value;
        // Drivers tell good chips from bad ones by this: to enable the interrupt while the
        // transmitter is empty raises it, each time.
        if begun & ier::TRANSMITTER_EMPTY != 0 && self.transmitter.len == 0 {
            self.empty_pending = true;
        }
        if begun & ier::RECEIVED != 0 {
            self.wind_up();
        }
        self.drive_line();
    }

    fn write_fifo_control(&mut self, value: u8) {
        let switched = (value ^ self.fcr) & fcr::ENABLE != 0;
        if switched || value & fcr::CLEAR_RECEIVER != 0 {
            self.receiver.clear();
            self.timed_out = false;
            self.idle.cancel();
        }
        if (switched || value & fcr::CLEAR_TRANSMITTER != 0) && self.transmitter.len > 0 {
            self.transmitter.clear();
            self.empty_pending = true;
        }
        self.fcr = if value & fcr::ENABLE != 0 {
            value & fcr::KEPT
        } else {
            0
        };
        self.drive_line();
        self.attend();
    }

    /// The most urgent reason for an interrupt, without the bits that say the FIFOs are on.
    fn reason(&self) -> u8 {
        let enabled = |bit| self.ier & bit != 0;
        if enabled(ier::LINE_STATUS) && self.errors != 0 {
            iir::LINE_STATUS
        } else if enabled(ier::RECEIVED) && self.timed_out {
            iir::TIMEOUT
        } else if enabled(ier::RECEIVED) && self.receiver.len >= self.trigger() {
            iir::RECEIVED
        } else if enabled(ier::TRANSMITTER_EMPTY) && self.empty_pending {
            iir::TRANSMITTER_EMPTY
        } else if enabled(ier::MODEM_STATUS) && self.msr & msr::DELTAS != 0 {
            iir::MODEM_STATUS
        } else {
            iir::NONE
        }
    }

    fn identify(&self) -> u8 {
        let fifos = if self.fifos_on() { iir::FIFOS_ON } else { 0 };
        self.reason() | fifos
    }

    /// The line changes seldom, and only a change costs something.
    fn drive_line(&mut self) {
        let level = self.reason() != iir::NONE;
        if level != self.level {
            self.level = level;
            self.line.set(level);
        }
    }
}

impl BusDevice for Uart {
    /// Wider accesses are as many of one byte.
    fn read(&mut self, access: Access, data: &mut [u8]) {
        for (register, byte) in (access.offset..).zip(data) {
            *byte = self.read_register(register);
            trace::point!(
                SERIAL_READ,
                addr = register,
                val = trace::Hex((*byte).into())
            );
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        for (register, byte) in (access.offset..).zip(data) {
            self.write_register(register, *byte);
        }
        Effect::None
    }

    fn reset(&mut self) {
        self.divisor = DEFAULT_DIVISOR;
        self.ier = 0;
        self.fcr = 0;
        self.lcr = 0;
        self.mcr = mcr::OUT2;
        self.errors = 0;
        self.msr = msr::CONNECTED;
        self.scratch = 0;
        self.last = 0;
        self.receiver.clear();
        self.transmitter.clear();
        self.empty_pending = false;
        self.timed_out = false;
        self.settling = false;
        self.idle.cancel();
        self.drive_line();
        self.attend();
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }

    fn settle(&mut self) {
        self.settling = false;
        self.attend();
    }
}

/// Lets the character device and the timer reach the UART. Holds it weakly: it may be unplugged.
struct Hook(Weak<Mutex<Uart>>);

impl CharWaker for Hook {
    fn wake(&self) {
        if let Some(uart) = self.0.upgrade() {
            lock(&uart).attend();
        }
    }
}

impl TimerTarget for Hook {
    fn expired(&self) {
        if let Some(uart) = self.0.upgrade() {
            lock(&uart).expired();
        }
    }
}
