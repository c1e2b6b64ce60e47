use std::sync::{Arc, Mutex};

use api_spec::IsaSerialProps;
use proptest::prelude::*;
use vmstate::{Snapshot, StateAccess};

use super::isa_serial::{Place, build, place};
use super::serial::{SerialV1, Uart};
use crate::bus::{Access, BusDevice, lock};
use crate::irq::TestLine;
use crate::registry::Attachable;
use crate::testing::{FakeChar, FakeGuest, FakeTimers, conformance};

struct Bench {
    uart: Arc<Mutex<Uart>>,
    line: Arc<TestLine>,
    host: FakeChar,
    timers: FakeTimers,
}

impl Bench {
    fn new() -> Self {
        let (host, line) = (FakeChar::open(), Arc::new(TestLine::default()));
        let timers = FakeTimers::default();
        let uart = Uart::new(
            Some(host.frontend()),
            line.clone(),
            Arc::new(timers.clone()),
            &timers,
        );
        Bench {
            uart,
            line,
            host,
            timers,
        }
    }

    fn out(&self, offset: u64, value: u8) {
        let access = Access { region: 0, offset };
        assert!(lock(&self.uart).write(access, &[value]).is_none());
    }

    fn inb(&self, offset: u64) -> u8 {
        let mut data = [0];
        lock(&self.uart).read(Access { region: 0, offset }, &mut data);
        data[0]
    }

    fn level(&self) -> bool {
        self.line.level()
    }

    fn state(&self) -> SerialV1 {
        lock(&self.uart).save()
    }
}

#[test]
fn registers_after_power_on() {
    let bench = Bench::new();
    let expected = [0, 0, 0x01, 0, 0x08, 0x60, 0xb0, 0];
    for (offset, value) in expected.into_iter().enumerate() {
        assert_eq!(bench.inb(offset as u64), value, "register {offset}");
    }
    bench.out(3, 0x80);
    assert_eq!((bench.inb(0), bench.inb(1)), (12, 0));
    assert!(bench.host.frontend_open());
}

#[test]
fn what_is_written_is_read_as_the_chip_keeps_it() {
    let bench = Bench::new();
    for (offset, written, read) in [
        (1, 0xff, 0x0f),
        (1, 0x00, 0x00),
        (3, 0x1b, 0x1b),
        (4, 0xff, 0x1f),
        (4, 0x00, 0x00),
        (5, 0xff, 0x60),
        (6, 0xff, 0xb0),
        (7, 0xa5, 0xa5),
        (2, 0x01, 0xc1),
        (2, 0xc6, 0x01),
        (2, 0xc7, 0xc1),
    ] {
        bench.out(offset, written);
        assert_eq!(bench.inb(offset), read, "{written:#x} to register {offset}");
    }
    bench.out(3, 0x80);
    bench.out(0, 0x34);
    bench.out(1, 0x12);
    assert_eq!((bench.inb(0), bench.inb(1)), (0x34, 0x12));
    bench.out(3, 0x03);
    assert_eq!(bench.inb(1), 0, "the divisor is not the enable register");
    assert!(bench.host.take().is_empty(), "and not data");
}

#[test]
fn characters_go_out_at_once_and_break_does_nothing() {
    let bench = Bench::new();
    for byte in b"hello" {
        bench.out(0, *byte);
        assert_eq!(bench.inb(5), 0x60);
    }
    bench.out(3, 0x43);
    bench.out(3, 0x03);
    assert_eq!(bench.host.take(), b"hello");
}

/// The checks of drivers that look for faulty transmitter interrupts.
#[test]
fn the_transmitter_interrupt_comes_each_time_it_is_enabled() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.out(1, 2);
        assert!(bench.level());
        assert_eq!(bench.inb(2), 0x02);
        assert!(!bench.level(), "reading its identification clears it");
        assert_eq!(bench.inb(2), 0x01);
        bench.out(1, 0);
    }
    bench.out(1, 2);
    assert_eq!(bench.inb(2), 0x02);
    bench.out(1, 2);
    assert_eq!(bench.inb(2), 0x01, "only the change counts");
    bench.out(0, b'x');
    assert!(bench.level());
    assert_eq!(bench.inb(2), 0x02);
    bench.out(0, b'x');
    bench.out(1, 0);
    assert!(!bench.level());
}

#[test]
fn a_full_peer_makes_the_transmitter_busy_and_loses_nothing_before_sixteen() {
    let bench = Bench::new();
    bench.out(2, 1);
    bench.out(1, 2);
    bench.inb(2);
    bench.host.set_room(2);
    for byte in b"abcdef" {
        bench.out(0, *byte);
    }
    assert_eq!(bench.host.take(), b"ab");
    assert_eq!(bench.inb(5), 0);
    assert!(!bench.level());
    bench.host.set_room(1);
    assert_eq!(bench.inb(5), 0);
    bench.host.set_room(100);
    assert_eq!(bench.host.take(), b"cdef");
    assert_eq!(bench.inb(5), 0x60);
    assert!(bench.level());
    assert_eq!(bench.inb(2), 0xc2);
    // A driver that does not look loses the oldest.
    bench.host.set_room(0);
    for byte in 0..20 {
        bench.out(0, byte);
    }
    bench.host.set_room(100);
    assert_eq!(bench.host.take(), (4..20).collect::<Vec<u8>>());
}

#[test]
fn the_receiver_without_fifos_holds_one_character() {
    let bench = Bench::new();
    bench.out(1, 1);
    bench.host.send(b"abc");
    assert_eq!(bench.host.unread(), 2);
    assert!(bench.level());
    assert_eq!((bench.inb(2), bench.inb(5)), (0x04, 0x61));
    assert_eq!(bench.inb(0), b'a');
    assert!(bench.level(), "the next one is there already");
    assert_eq!((bench.inb(0), bench.inb(0)), (b'b', b'c'));
    assert_eq!((bench.inb(2), bench.inb(5)), (0x01, 0x60));
    assert!(!bench.level());
    assert_eq!(bench.inb(0), b'c', "an empty receiver shows the last one");
}

#[test]
fn a_break_is_a_zero_and_an_error_of_the_line() {
    let bench = Bench::new();
    bench.out(1, 5);
    bench.host.send_break();
    assert!(bench.level());
    assert_eq!(bench.inb(2), 0x06, "line status first");
    assert_eq!(bench.inb(5), 0x71);
    assert_eq!(bench.inb(2), 0x04, "then the character");
    assert_eq!((bench.inb(0), bench.inb(5)), (0, 0x60));
    assert!(!bench.level());
    bench.host.send(b"a");
    bench.host.send_break();
    assert_eq!(
        (bench.inb(5), bench.inb(0)),
        (0x73, b'a'),
        "no room: overrun"
    );
    // It is heard once.
    assert_eq!(bench.inb(5), 0x60);
}

#[test]
fn trigger_levels_and_the_timeout() {
    for (bits, trigger) in [(0x00, 1), (0x40, 4), (0x80, 8), (0xc0, 14)] {
        let bench = Bench::new();
        bench.out(2, bits | 1);
        bench.out(1, 1);
        bench.host.send(&vec![b'x'; trigger - 1]);
        assert!(!bench.level(), "{trigger}");
        if trigger > 1 {
            assert_eq!(bench.inb(2), 0xc1);
            // 4 characters of 10 bits at 9600 per second: 4.17 ms.
            bench.timers.advance(4_000_000);
            assert!(!bench.level());
            bench.timers.advance(200_000);
            assert_eq!(bench.inb(2), 0xcc);
            assert!(bench.level());
            bench.inb(0);
            assert!(!bench.level(), "reading a character ends it");
            bench.host.send(b"y");
        }
        bench.host.send(b"z");
        assert_eq!(bench.inb(2), 0xc4);
        bench.inb(0);
        assert!(!bench.level());
        assert_eq!(bench.inb(2), 0xc1);
    }
}

#[test]
fn the_receiver_takes_sixteen_and_the_rest_waits() {
    let bench = Bench::new();
    bench.out(2, 0xc1);
    bench.host.send(&(0..100).collect::<Vec<u8>>());
    assert_eq!(bench.host.unread(), 84);
    let read: Vec<u8> = (0..100).map(|_| bench.inb(0)).collect();
    assert_eq!(read, (0..100).collect::<Vec<u8>>());
    bench.host.send(b"old");
    bench.out(2, 0xc3);
    assert_eq!(
        bench.inb(5),
        0x60,
        "clearing the receiver drops what it holds"
    );
}

/// How drivers find out that there is a chip at all.
#[test]
fn loopback() {
    let bench = Bench::new();
    bench.out(4, 0x1a);
    assert_eq!(bench.inb(6) & 0xf0, 0x90);
    bench.out(4, 0x15);
    assert_eq!(bench.inb(6) & 0xf0, 0x60);
    bench.host.send(b"outside");
    bench.out(1, 5);
    bench.out(0, b'q');
    assert_eq!((bench.inb(2), bench.inb(5)), (0x04, 0x61));
    bench.out(0, b'r');
    assert_eq!(bench.inb(2), 0x06);
    assert_eq!(bench.inb(5), 0x63, "overrun");
    assert_eq!(bench.inb(5), 0x61);
    assert_eq!(bench.inb(0), b'q');
    assert_eq!(bench.inb(5), 0x60);
    assert!(bench.host.take().is_empty());
    bench.out(4, 0);
    assert_eq!(bench.inb(0), b'o', "what came meanwhile has waited");
}

#[test]
fn a_reset_is_like_power_on_and_keeps_what_waits_outside() {
    let bench = Bench::new();
    let fresh = bench.state();
    for (offset, value) in [
        (3, 0x83),
        (0, 1),
        (3, 3),
        (2, 0xc1),
        (1, 0xf),
        (4, 3),
        (7, 9),
    ] {
        bench.out(offset, value);
    }
    assert!(bench.level());
    lock(&bench.uart).reset();
    assert_eq!(bench.state(), fresh);
    assert!(!bench.level());
}

#[test]
fn saved_state_is_put_back() {
    let bench = Bench::new();
    bench.out(2, 0xc1);
    bench.out(1, 3);
    bench.host.send(b"typed");
    bench.host.set_room(0);
    bench.out(0, b'o');
    let section = lock(&bench.uart).save_section("com1").unwrap();
    let other = Bench::new();
    other.host.set_room(0);
    lock(&other.uart).restore_section(&section).unwrap();
    lock(&other.uart).settle();
    assert_eq!(other.state(), bench.state());
    other.timers.advance(10_000_000);
    assert!(other.level(), "the timeout runs again");
    other.host.set_room(9);
    assert_eq!(other.host.take(), b"o");
    let read: Vec<u8> = (0..5).map(|_| other.inb(0)).collect();
    assert_eq!(read, b"typed");

    let mut bad = bench.state();
    bad.receiver.0 = vec![0; 17];
    let error = lock(&other.uart).restore(bad).unwrap_err();
    assert!(error.to_string().contains("receiver"), "{error}");
}

/// The interrupt controller is restored behind the UART, and would not see the line rise.
#[test]
fn what_was_typed_before_the_machine_came_interrupts_when_all_is_there() {
    let bench = Bench::new();
    bench.out(2, 0xc1);
    bench.out(1, 1);
    let section = lock(&bench.uart).save_section("com1").unwrap();
    let other = Bench::new();
    other.out(2, 0x01);
    other.host.set_room(0);
    other.out(0, b'o');
    let typed: Vec<u8> = (b'0'..b'Z').collect();
    other.host.send(&typed);
    assert_eq!(other.state().receiver.0, typed[..16]);
    lock(&other.uart).restore_section(&section).unwrap();
    other.host.send(b"y");
    other.host.set_room(9);
    assert!(!other.level());
    assert_eq!(other.state(), bench.state());
    lock(&other.uart).settle();
    assert!(other.level());
    let read: Vec<u8> = typed.iter().map(|_| other.inb(0)).collect();
    assert_eq!(read, typed);
    assert_eq!((other.inb(0), other.inb(5) & 1), (b'y', 0));
    // A machine that could not be restored is reset.
    other.host.send(b"ab");
    lock(&other.uart).restore_section(&section).unwrap();
    lock(&other.uart).reset();
    assert_eq!((other.inb(5) & 1, other.inb(0)), (1, b'a'));
    assert_eq!(other.inb(0), b'b');
}

fn props(index: Option<u32>, iobase: Option<u32>, irq: Option<u32>) -> IsaSerialProps {
    IsaSerialProps {
        chardev: None,
        index,
        iobase,
        irq,
        wakeup: false,
    }
}

#[test]
fn ports_have_their_usual_places() {
    let usual = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
    for (index, (iobase, irq)) in (0..).zip(usual) {
        let place_of = Place { index, iobase, irq };
        assert_eq!(place(&props(None, None, None), index), Ok(place_of));
        assert_eq!(place(&props(Some(index), None, None), 9), Ok(place_of));
    }
    let moved = place(&props(None, Some(0x1000), Some(10)), 1).unwrap();
    assert_eq!((moved.iobase, moved.irq), (0x1000, 10));
    for (props, message) in [
        (
            props(Some(4), None, None),
            "Max. supported number of ISA serial ports is 4.",
        ),
        (
            props(None, None, Some(16)),
            "Maximum value for \"irq\" is: 15",
        ),
        (
            props(None, Some(0xfff9), None),
            "Maximum value for \"iobase\" is: 65528",
        ),
    ] {
        assert_eq!(place(&props, 0).unwrap_err().desc, message);
    }
    assert!(place(&props(None, None, None), 4).is_err());
}

#[test]
fn a_built_port_works_without_a_character_device() {
    let guest = FakeGuest::new();
    let mut cx = guest.cx("s0");
    cx.hints.insert("serial-index", 2);
    let built = build(&props(None, None, None), &mut cx).unwrap();
    let Attachable::Isa { device, ports } = built else {
        panic!("an ISA device");
    };
    assert_eq!((ports[0].base, ports[0].len), (0x3e8, 8));
    let mut device = lock(&*device);
    let access = |offset| Access { region: 0, offset };
    assert!(device.write(access(0), b"x").is_none());
    let mut data = [0; 4];
    device.read(access(4), &mut data);
    assert_eq!(data, [0x08, 0x60, 0xb0, 0], "four registers at once");
}

#[test]
fn it_stands_what_every_device_has_to() {
    let guest = FakeGuest::new();
    let build = || match build(&props(None, None, None), &mut guest.cx("s0")) {
        Ok(Attachable::Isa { device, ports }) => (device, ports),
        _ => panic!("an ISA device"),
    };
    let (_, ports) = build();
    conformance::bus_device(&ports, conformance::AfterReset::Fresh, || build().0);
}

proptest! {
    /// Whatever a guest does: no panic, and the line says what the registers say.
    #[test]
    fn garbage_is_survived(steps in prop::collection::vec((any::<bool>(), 0u64..8, prop::collection::vec(any::<u8>(), 1..9), 0usize..40), 0..200)) {
        let bench = Bench::new();
        for (write, offset, mut data, noise) in steps {
            let access = Access { region: 0, offset };
            if write {
                let _ = lock(&bench.uart).write(access, &data);
            } else {
                lock(&bench.uart).read(access, &mut data);
            }
            if noise > 30 {
                bench.host.send(&data);
            } else if noise > 20 {
                bench.host.set_room(noise % 3);
            } else if noise > 15 {
                bench.timers.advance(noise as u64 * 1_000_000);
            }
            let state = bench.state();
            prop_assert!(state.receiver.0.len() <= 16 && state.transmitter.0.len() <= 16);
            let level = bench.level();
            prop_assert_eq!(level, bench.inb(2) & 1 == 0);
        }
        let saved = bench.state();
        let other = Bench::new();
        other.host.set_room(0);
        lock(&other.uart).restore(saved.clone()).unwrap();
        prop_assert_eq!(other.state(), saved);
    }
}
