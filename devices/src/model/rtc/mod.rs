//! `mc146818rtc`: the clock and the memory that its battery keeps (Motorola MC146818A; Intel
//! ICH9, section 13.6).
//!
//! While the clock runs nothing ticks here: date, time and flags are worked out when the guest
//! looks, from the wall clock and an offset to it. A timer is set only for an interrupt that the
//! guest has enabled and not yet been told of.

mod calendar;
mod cmos;
#[cfg(test)]
mod rtc_test;
pub mod state;

use std::sync::{Arc, Mutex};

use calendar::{Alarm, Fields, Format};
pub use cmos::CmosMemory;

use super::timed::{Timed, with_timer};
use crate::bus::{Access, BusDevice};
use crate::clock::{Clock, Timer};
use crate::cx::BuildCx;
use crate::effect::{Effect, Notice};
use crate::irq::IrqLine;
use crate::registry::Region;

const IRQ: u8 = 8;
const SECOND: i128 = 1_000_000_000;
/// Ticks of the crystal in a second.
const CRYSTAL: u128 = 32_768;
/// "Update in progress" comes this much before the registers change.
const UPDATE_NS: i128 = 244_140;
/// After the divider was held in reset, the first update comes half a second later.
const AFTER_DIVIDER_RESET: i128 = SECOND / 2;

/// Bytes of both banks.
const MEMORY: usize = 256;

/// Places of the registers.
mod at {
    pub const SECOND: u8 = 0x00;
    pub const SECOND_ALARM: u8 = 0x01;
    pub const MINUTE: u8 = 0x02;
    pub const MINUTE_ALARM: u8 = 0x03;
    pub const HOUR: u8 = 0x04;
    pub const HOUR_ALARM: u8 = 0x05;
    pub const WEEKDAY: u8 = 0x06;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const A: u8 = 0x0a;
    pub const B: u8 = 0x0b;
    pub const C: u8 = 0x0c;
    pub const D: u8 = 0x0d;
    pub const CENTURY: u8 = 0x32;
    /// The same, where the PS/2 had it.
    pub const CENTURY_PS2: u8 = 0x37;
}

/// Bits of register A.
mod a {
    pub const UPDATING: u8 = 0x80;
    /// Both set: the divider is held in reset.
    pub const DIVIDER_RESET: u8 = 0x60;
    pub const RATE: u8 = 0x0f;
    /// The usual crystal, 1024 Hz.
    pub const AT_RESET: u8 = 0x26;
}

/// Bits of register B.
mod b {
    pub const SET: u8 = 0x80;
    pub const UPDATE: u8 = 0x10;
    pub const BINARY: u8 = 0x04;
    pub const HOURS_24: u8 = 0x02;
    pub const AT_RESET: u8 = HOURS_24;
}

/// Bits of register C; those of the sources are the same in B.
mod c {
    pub const REQUEST: u8 = 0x80;
    pub const PERIODIC: u8 = 0x40;
    pub const ALARM: u8 = 0x20;
    pub const UPDATE: u8 = 0x10;
    pub const SOURCES: u8 = PERIODIC | ALARM | UPDATE;
}

/// Register D: the battery is good.
const BATTERY: u8 = 0x80;

/// How far the flags in register C are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Checked {
    /// The second that the clock showed.
    second: i64,
    /// The crystal's ticks since the machine was made.
    ticks: u64,
}

/// The clock at ports 0x70 to 0x73.
pub struct Rtc {
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    line: Arc<dyn IrqLine>,
    /// Selected byte of each bank.
    index: [u8; 2],
    /// Both banks. Date and time are in it while the clock is held.
    memory: [u8; MEMORY],
    /// What the running clock is ahead of the wall clock, in nanoseconds.
    offset: i128,
    checked: Checked,
    /// The second that date and time in `memory` stand for.
    shown: Option<i64>,
}

impl Rtc {
    /// Its ports.
    pub const PORTS: &'static [Region] = &[Region {
        region: 0,
        base: 0x70,
        len: 4,
    }];

    /// A clock that shows the wall clock's time.
    pub fn new(cx: &BuildCx, machine: CmosMemory) -> Arc<Mutex<Self>> {
        with_timer(&*cx.timers, |timer| {
            let mut rtc = Rtc {
                clock: cx.clock.clone(),
                timer,
                line: cx.irqs.isa_line(IRQ),
                index: [0; 2],
                memory: [0; MEMORY],
                offset: 0,
                checked: Checked::default(),
                shown: None,
            };
            for (place, byte) in machine.bytes() {
                rtc.put(place, byte);
            }
            rtc.put(at::A, a::AT_RESET);
            rtc.put(at::B, b::AT_RESET);
            rtc.checked = rtc.now();
            rtc
        })
    }

    fn byte(&self, place: u8) -> u8 {
        self.memory.get(usize::from(place)).copied().unwrap_or(0)
    }

    fn put(&mut self, place: u8, byte: u8) {
        if let Some(old) = self.memory.get_mut(usize::from(place)) {
            *old = byte;
        }
    }

    fn read_byte(&mut self, place: u8) -> u8 {
        match place {
            at::A => {
                let updating = self.running() && self.fraction() >= SECOND - UPDATE_NS;
                self.byte(at::A) | if updating { a::UPDATING } else { 0 }
            }
            at::C => self.take_flags(),
            at::D => BATTERY,
            at::CENTURY_PS2 => self.read_byte(at::CENTURY),
            place => {
                if is_time(place) && self.running() {
                    self.show_time();
                }
                self.byte(place)
            }
        }
    }

    fn write_byte(&mut self, place: u8, byte: u8) -> Effect {
        match place {
            at::A => self.write_a(byte),
            at::B => self.write_b(byte),
            at::C | at::D => Effect::None,
            at::CENTURY_PS2 => self.write_byte(at::CENTURY, byte),
            at::SECOND_ALARM | at::MINUTE_ALARM | at::HOUR_ALARM => {
                self.check();
                self.put(place, byte);
                self.rearm();
                Effect::None
            }
            place if is_time(place) && self.running() => {
                self.show_time();
                self.put(place, byte);
                let fraction = self.fraction();
                self.resume(fraction)
            }
            place => {
                self.put(place, byte);
                Effect::None
            }
        }
    }

    fn write_a(&mut self, byte: u8) -> Effect {
        self.check();
        self.hold_time();
        let was_reset = self.divider_reset();
        self.put(at::A, byte & !a::UPDATING);
        let effect = if was_reset && self.running() {
            self.resume(AFTER_DIVIDER_RESET)
        } else {
            Effect::None
        };
        self.rearm();
        effect
    }

    fn write_b(&mut self, byte: u8) -> Effect {
        self.check();
        self.hold_time();
        let was_set = self.byte(at::B) & b::SET != 0;
        // Setting SET stops update interrupts (register B, UIE).
        let stops = if byte & b::SET != 0 { b::UPDATE } else { 0 };
        self.put(at::B, byte & !stops);
        self.shown = None;
        let effect = if was_set && self.running() {
            let fraction = self.fraction();
            self.resume(fraction)
        } else {
            Effect::None
        };
        self.rearm();
        effect
    }

    fn divider_reset(&self) -> bool {
        self.byte(at::A) & a::DIVIDER_RESET == a::DIVIDER_RESET
    }

    /// Whether date and time advance.
    fn running(&self) -> bool {
        self.byte(at::B) & b::SET == 0 && !self.divider_reset()
    }

    fn format(&self) -> Format {
        let control = self.byte(at::B);
        Format {
            bcd: control & b::BINARY == 0,
            hours24: control & b::HOURS_24 != 0,
        }
    }

    /// The running clock, in nanoseconds since 1970.
    fn time(&self) -> i128 {
        self.clock.wall_ns().saturating_add(self.offset)
    }

    fn fraction(&self) -> i128 {
        self.time().rem_euclid(SECOND)
    }

    fn now(&self) -> Checked {
        let ticks = u128::from(self.clock.now_ns()) * CRYSTAL / SECOND.unsigned_abs();
        Checked {
            second: seconds(self.time()),
            ticks: u64::try_from(ticks).unwrap_or(u64::MAX),
        }
    }

    /// Brings date and time in the memory up to date.
    fn show_time(&mut self) {
        let second = seconds(self.time());
        if self.shown != Some(second) {
            let fields = self.format().encode(second);
            for (place, byte) in places(fields) {
                self.put(place, byte);
            }
            self.shown = Some(second);
        }
    }

    /// Before the clock may be held: leaves its last date and time in the memory.
    fn hold_time(&mut self) {
        if self.running() {
            self.show_time();
        }
    }

    fn held_second(&self) -> i64 {
        self.format().decode(Fields {
            second: self.byte(at::SECOND),
            minute: self.byte(at::MINUTE),
            hour: self.byte(at::HOUR),
            weekday: self.byte(at::WEEKDAY),
            day: self.byte(at::DAY),
            month: self.byte(at::MONTH),
            year: self.byte(at::YEAR),
            century: self.byte(at::CENTURY),
        })
    }

    /// The clock goes on from date and time in the memory, `fraction` nanoseconds into the
    /// second. Watchers are told how far it is from the wall clock.
    fn resume(&mut self, fraction: i128) -> Effect {
        let second = self.held_second();
        let wall = self.clock.wall_ns();
        self.offset = (i128::from(second) * SECOND + fraction).saturating_sub(wall);
        self.shown = None;
        // The seconds that were skipped did not pass: no alarm rings for them.
        self.checked.second = second;
        self.rearm();
        Effect::Notice(Notice::RtcChange {
            offset: second.saturating_sub(seconds(wall)),
        })
    }

    /// The periodic interrupt's period in ticks of the crystal (register A, RS).
    fn period(&self) -> Option<u64> {
        match self.byte(at::A) & a::RATE {
            _ if self.divider_reset() => None,
            0 => None,
            // The two lowest mean 256 and 128 Hz.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn alarm(&self) -> Alarm {
        let [hour, minute, second] =
            [at::HOUR_ALARM, at::MINUTE_ALARM, at::SECOND_ALARM].map(|place| self.byte(place));
        Alarm::new(self.format(), hour, minute, second)
    }

    /// Sets the flags for what happened since the last time.
    fn check(&mut self) {
        let before = self.checked;
        let now = self.now();
        let mut flags = self.byte(at::C);
        if let Some(period) = self.period()
            && now.ticks / period > before.ticks / period
        {
            flags |= c::PERIODIC;
        }
        if self.running() && now.second > before.second {
            flags |= c::UPDATE;
            let alarm = self.alarm().next(before.second);
            if alarm.is_some_and(|alarm| alarm <= now.second) {
                flags |= c::ALARM;
            }
        }
        self.put(at::C, flags);
        self.checked = now;
    }

    /// Register C as it reads; reading clears it.
    fn take_flags(&mut self) -> u8 {
        self.check();
        let flags = self.byte(at::C);
        let request = if self.requested() { c::REQUEST } else { 0 };
        self.put(at::C, 0);
        self.rearm();
        flags | request
    }

    fn requested(&self) -> bool {
        self.byte(at::C) & self.byte(at::B) & c::SOURCES != 0
    }

    /// Drives the line, and sets the timer for the next interrupt. There is none while the guest
    /// has not yet read of the last one.
    fn rearm(&self) {
        let requested = self.requested();
        self.line.set(requested);
        let next = if requested { None } else { self.next_event() };
        match next {
            Some(deadline) => self.timer.arm(deadline),
            None => self.timer.cancel(),
        }
    }

    /// When an enabled source comes next, in virtual time.
    fn next_event(&self) -> Option<u64> {
        let enabled = self.byte(at::B);
        let now = self.clock.now_ns();
        let mut next = None;
        let mut sooner = |deadline: u64| {
            next = Some(next.map_or(deadline, |next: u64| next.min(deadline)));
        };
        if enabled & c::PERIODIC != 0
            && let Some(period) = self.period()
        {
            let ticks = (self.checked.ticks / period).saturating_add(1);
            let ns = u128::from(ticks.saturating_mul(period)) * SECOND.unsigned_abs();
            sooner(u64::try_from(ns.div_ceil(CRYSTAL)).unwrap_or(u64::MAX));
        }
        // The wall clock may be set, or go on while the machine is stopped: an alarm looks at it
        // once a second.
        if enabled & (c::UPDATE | c::ALARM) != 0 && self.running() {
            let rest = u64::try_from(SECOND - self.fraction()).unwrap_or(1);
            sooner(now.saturating_add(rest.max(1)));
        }
        next
    }
}

/// Whole seconds.
fn seconds(ns: i128) -> i64 {
    let seconds = ns.div_euclid(SECOND);
    i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
}

const fn is_time(place: u8) -> bool {
    matches!(
        place,
        at::SECOND
            | at::MINUTE
            | at::HOUR
            | at::WEEKDAY
            | at::DAY
            | at::MONTH
            | at::YEAR
            | at::CENTURY
    )
}

fn places(fields: Fields) -> [(u8, u8); 8] {
    [
        (at::SECOND, fields.second),
        (at::MINUTE, fields.minute),
        (at::HOUR, fields.hour),
        (at::WEEKDAY, fields.weekday),
        (at::DAY, fields.day),
        (at::MONTH, fields.month),
        (at::YEAR, fields.year),
        (at::CENTURY, fields.century),
    ]
}

/// What a port is: the index or the data of a bank.
fn port(offset: u64) -> (usize, bool) {
    (usize::from(offset & 2 != 0), offset & 1 != 0)
}

impl Rtc {
    /// The place in the memory that the data port of a bank leads to.
    fn place(&self, bank: usize) -> u8 {
        let index = self.index.get(bank).copied().unwrap_or(0) & 0x7f;
        index | if bank == 1 { 0x80 } else { 0 }
    }

    fn write_port(&mut self, offset: u64, byte: u8) -> Effect {
        let (bank, is_data) = port(offset);
        if is_data {
            return self.write_byte(self.place(bank), byte);
        }
        if let Some(index) = self.index.get_mut(bank) {
            // Bit 7 of the first index masks NMIs, of which there are none.
            *index = byte & 0x7f;
        }
        Effect::None
    }
}

impl Timed for Rtc {
    fn timer_expired(&mut self) {
        self.check();
        self.rearm();
    }
}

impl BusDevice for Rtc {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        for (offset, byte) in (access.offset..).zip(data) {
            let (bank, is_data) = port(offset);
            *byte = if is_data {
                self.read_byte(self.place(bank))
            } else {
                0xff
            };
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        let mut effect = Effect::None;
        for (offset, byte) in (access.offset..).zip(data) {
            let new = self.write_port(offset, *byte);
            if !new.is_none() {
                effect = new;
            }
        }
        effect
    }

    /// Interrupts off and the format back; the battery keeps the rest. A guest that was reset
    /// while it held the clock finds it going on.
    fn reset(&mut self) {
        if !self.running() {
            // Nothing that the guest asked for, so watchers are not told.
            let _ = self.resume(0);
        }
        self.put(at::A, a::AT_RESET);
        self.put(at::B, b::AT_RESET);
        self.put(at::C, 0);
        self.index = [0; 2];
        self.shown = None;
        self.checked = self.now();
        self.rearm();
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}
