use std::sync::{Arc, Mutex};

use super::{CmosMemory, Rtc};
use crate::bus::{Access, BusDevice, lock};
use crate::clock::Clock;
use crate::effect::{Effect, Notice};
use crate::testing::{FakeGuest, conformance};

const SECOND: u64 = 1_000_000_000;
/// 2025-11-25 19:03:06, a Tuesday.
const START: u64 = 1_764_097_386;

struct Bench {
    guest: FakeGuest,
    rtc: Arc<Mutex<Rtc>>,
}

impl Bench {
    fn new() -> Self {
        let guest = FakeGuest::new();
        guest.timers.advance(START * SECOND);
        let rtc = Rtc::new(&guest.cx("rtc"), CmosMemory::default());
        Bench { guest, rtc }
    }

    fn port(&self, port: u64, byte: u8) -> Effect {
        let at = Access {
            region: 0,
            offset: port - 0x70,
        };
        lock(&self.rtc).write(at, &[byte])
    }

    fn read(&self, place: u8) -> u8 {
        assert_eq!(self.port(0x70, place), Effect::None);
        let at = Access {
            region: 0,
            offset: 1,
        };
        let mut data = [0; 1];
        lock(&self.rtc).read(at, &mut data);
        data[0]
    }

    fn write(&self, place: u8, byte: u8) -> Effect {
        assert_eq!(self.port(0x70, place), Effect::None);
        self.port(0x71, byte)
    }

    /// Century, year, month, day, hour, minute, second.
    fn date(&self) -> [u8; 7] {
        [0x32, 9, 8, 7, 4, 2, 0].map(|place| self.read(place))
    }

    fn raised(&self) -> bool {
        self.guest.irqs.level(8)
    }

    fn advance(&self, ns: u64) {
        self.guest.timers.advance(ns);
    }
}

fn changed(offset: i64) -> Effect {
    Effect::Notice(Notice::RtcChange { offset })
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    guest.timers.advance(START * SECOND + 5);
    conformance::bus_device(Rtc::PORTS, conformance::AfterReset::Kept, || {
        Rtc::new(&guest.cx("rtc"), CmosMemory::default())
    });
}

#[test]
fn memory_says_what_firmware_would() {
    const MIB: u64 = 1 << 20;
    for (below, above, cpus, expected) in [
        (
            128 * MIB,
            0,
            1,
            [0x80, 2, 0xff, 0xff, 0xff, 0xff, 0, 7, 0, 0, 0, 0],
        ),
        (
            2048 * MIB,
            6144 * MIB,
            8,
            [0x80, 2, 0xff, 0xff, 0xff, 0xff, 0, 0x7f, 0, 0x80, 1, 7],
        ),
        (MIB / 2, 0, 1, [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let guest = FakeGuest::new();
        let memory = CmosMemory {
            below_4g: below,
            above_4g: above,
            cpus,
        };
        let rtc = Rtc::new(&guest.cx("rtc"), memory);
        let bench = Bench { guest, rtc };
        let places = [
            0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35, 0x5b, 0x5c, 0x5d, 0x5f,
        ];
        assert_eq!(places.map(|place| bench.read(place)), expected);
    }
}

#[test]
fn date_and_time_in_all_formats() {
    let bench = Bench::new();
    let bcd = [0x20, 0x25, 0x11, 0x25, 0x19, 0x03, 0x06];
    assert_eq!(bench.date(), bcd);
    assert_eq!(bench.read(6), 3, "Tuesday");
    assert_eq!(bench.read(0x37), 0x20);
    assert_eq!(
        (bench.read(0xa), bench.read(0xb), bench.read(0xd)),
        (0x26, 2, 0x80)
    );
    for (format, date) in [
        (0x06, [20, 25, 11, 25, 19, 3, 6]),
        (0x04, [20, 25, 11, 25, 0x87, 3, 6]),
        (0x00, [0x20, 0x25, 0x11, 0x25, 0x87, 0x03, 0x06]),
        (0x02, bcd),
    ] {
        assert_eq!(bench.write(0xb, format), Effect::None);
        assert_eq!(bench.date(), date, "{format}");
    }
    bench.advance(54 * SECOND);
    assert_eq!(bench.date()[5..], [0x04, 0x00]);
}

#[test]
fn a_program_reads_the_time_without_waiting() {
    // What Linux does: no update in progress before, and the same second after.
    let bench = Bench::new();
    for _ in 0..3 {
        let second = bench.read(0);
        assert_eq!(bench.read(0xa) & 0x80, 0);
        bench.date();
        assert_eq!(bench.read(0xa) & 0x80, 0);
        assert_eq!(bench.read(0), second);
        bench.advance(SECOND);
    }
    // Only just before the second is over an update is announced.
    bench.advance(SECOND - 244_141);
    assert_eq!(bench.read(0xa), 0x26);
    bench.advance(1);
    assert_eq!(bench.read(0xa), 0xa6);
    bench.advance(244_140);
    assert_eq!(bench.read(0xa), 0x26);
}

#[test]
fn the_clock_is_set_as_linux_does() {
    let bench = Bench::new();
    bench.advance(SECOND / 4);
    // SET, divider reset, the fields, SET off, divider on.
    assert_eq!(bench.write(0xb, 0x82), Effect::None);
    assert_eq!(bench.write(0xa, 0x76), Effect::None);
    for (place, byte) in [
        (9, 0x26),
        (8, 0x01),
        (7, 0x31),
        (4, 0x23),
        (2, 0x59),
        (0, 0x58),
        (0x32, 0x20),
    ] {
        assert_eq!(bench.write(place, byte), Effect::None);
        assert_eq!(bench.read(place), byte);
    }
    bench.advance(SECOND);
    assert_eq!(bench.write(0xb, 0x02), Effect::None);
    bench.advance(SECOND);
    assert_eq!(bench.date()[6], 0x58, "the divider is held");
    // 2026-01-31 23:59:58 instead of 2025-11-25 19:03:08.
    assert_eq!(bench.write(0xa, 0x26), changed(5_806_610));
    // The first update comes after half a second.
    assert_eq!(bench.date()[6], 0x58);
    bench.advance(SECOND / 2);
    assert_eq!(bench.date()[6], 0x59);
    bench.advance(SECOND);
    assert_eq!(bench.date(), [0x20, 0x26, 0x02, 0x01, 0, 0, 0]);
}

#[test]
fn a_running_clock_can_be_set() {
    let bench = Bench::new();
    assert_eq!(bench.write(4, 0x20), changed(3600));
    assert_eq!(bench.write(0x37, 0x19), changed(3600 - 3_155_760_000));
    assert_eq!(bench.date(), [0x19, 0x25, 0x11, 0x25, 0x20, 0x03, 0x06]);
    // The battery keeps that, also when the guest is reset while it holds the clock.
    assert_eq!(bench.write(0xb, 0x82), Effect::None);
    bench.advance(5 * SECOND);
    lock(&bench.rtc).reset();
    assert_eq!(bench.date(), [0x19, 0x25, 0x11, 0x25, 0x20, 0x03, 0x06]);
    bench.advance(SECOND);
    assert_eq!(bench.date()[6], 0x07);
}

#[test]
fn periodic_interrupts() {
    let bench = Bench::new();
    // 1024 Hz.
    assert_eq!(bench.write(0xb, 0x42), Effect::None);
    for _ in 0..3 {
        assert!(!bench.raised());
        bench.advance(SECOND / 1024 + 1);
        assert!(bench.raised());
        assert_eq!(bench.read(0xc), 0xc0);
        assert_eq!(bench.read(0xc), 0);
    }
    // The two lowest rates are 256 and 128 Hz; 0 is none.
    for (rate, hertz) in [(1, 256), (2, 128), (3, 8192), (15, 2)] {
        assert_eq!(bench.write(0xa, 0x20 | rate), Effect::None);
        let period = SECOND / hertz;
        // All of them come in step with the second.
        let now = bench.guest.timers.now_ns();
        bench.advance(SECOND - now % SECOND + 1);
        bench.read(0xc);
        bench.advance(period);
        assert!(bench.raised(), "{hertz}");
        bench.read(0xc);
        bench.advance(period / 2);
        assert!(!bench.raised(), "{hertz}");
    }
    assert_eq!(bench.write(0xa, 0x20), Effect::None);
    bench.read(0xc);
    bench.advance(10 * SECOND);
    assert!(!bench.raised());
}

#[test]
fn flags_can_be_polled_without_interrupts() {
    let bench = Bench::new();
    bench.read(0xc);
    bench.advance(SECOND);
    // The alarm is at 00:00:00.
    assert_eq!(bench.read(0xc), 0x50);
    assert_eq!(bench.read(0xc), 0x00);
    assert!(!bench.raised());
}

#[test]
fn alarm_and_update_interrupts() {
    let bench = Bench::new();
    for (place, byte) in [(1, 0x10), (3, 0x03), (5, 0xff)] {
        assert_eq!(bench.write(place, byte), Effect::None);
    }
    assert_eq!(bench.write(0xb, 0x22), Effect::None);
    bench.advance(4 * SECOND - 1);
    assert!(!bench.raised());
    bench.advance(1);
    assert!(bench.raised());
    assert_eq!(bench.read(0xc) & !0x40, 0xb0);
    bench.advance(3599 * SECOND);
    assert!(!bench.raised());
    bench.advance(SECOND);
    assert!(bench.raised(), "once an hour");
    // A flag that is up already interrupts as soon as it is enabled; SET takes updates back.
    bench.read(0xc);
    assert_eq!(bench.write(0xb, 0x02), Effect::None);
    bench.advance(SECOND);
    let _ = bench.write(1, 0);
    assert!(!bench.raised());
    assert_eq!(bench.write(0xb, 0x12), Effect::None);
    assert!(bench.raised());
    assert_eq!(bench.write(0xb, 0x92), Effect::None);
    assert_eq!(bench.read(0xb), 0x82);
    assert!(!bench.raised());
}

#[test]
fn the_second_bank_is_memory() {
    let bench = Bench::new();
    for (index, byte) in [(0u8, 0x11), (0x0c, 0x22), (0x7f, 0x33), (0x80, 0x44)] {
        assert_eq!(bench.port(0x72, index), Effect::None);
        assert_eq!(bench.port(0x73, byte), Effect::None);
    }
    let mut data = [0; 4];
    let at = Access {
        region: 0,
        offset: 0,
    };
    let _ = bench.port(0x70, 0x0d);
    lock(&bench.rtc).read(at, &mut data);
    assert_eq!(data, [0xff, 0x80, 0xff, 0x44], "bit 7 does not count");
    lock(&bench.rtc).reset();
    let _ = bench.port(0x72, 0x0c);
    lock(&bench.rtc).read(at, &mut data);
    assert_eq!(data[3], 0x22);
}
