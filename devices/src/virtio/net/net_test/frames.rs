//! Frames both ways, and how they lie in buffers.

use proptest::prelude::*;

use super::*;
use crate::virtio::common::status;
use crate::virtio::net::config::feature;

const OWN: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

#[test]
fn a_frame_goes_out_with_its_header_or_without() {
    for (traits, skip) in [(WITH_HEADER, 0), (BARE, HEADER)] {
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, traits);
        let sent = with_header(&frame(OWN, 100));
        let head = bench.transmit(1, DATA, &sent);
        bench.kick(1);
        assert_eq!(bench.wires[0].receive().unwrap(), sent[skip..]);
        let used = bench.rings[1].take_used(&guest);
        assert_eq!(used, Some((u32::from(head), 0)));
        assert!(bench.wires[0].receive().is_none());
    }
}

#[test]
fn a_frame_in_pieces_goes_out_whole() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let sent = with_header(&frame(OWN, 300));
    guest.write(DATA, &sent[..5]);
    guest.write(DATA + 0x1000, &sent[5..20]);
    guest.write(DATA + 0x2000, &sent[20..]);
    let pieces = [
        Buffer::Out(DATA, 5),
        Buffer::Out(DATA + 0x1000, 15),
        Buffer::Out(DATA + 0x2000, sent.len() as u32 - 20),
    ];
    bench.rings[1].add_indirect(&guest, 0xf000, &pieces);
    bench.kick(1);
    assert_eq!(bench.wires[0].receive().unwrap(), headerless(&sent));
}

#[test]
fn frames_come_in_with_a_header_from_there_or_from_here() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, WITH_HEADER);
    let given = bench.give(0, &[2000, 2000]);
    bench.wires[0].send(&with_header(&frame(OWN, 90)));
    bench.run();
    let mut expected = with_header(&frame(OWN, 90));
    expected[10..12].copy_from_slice(&[1, 0]);
    assert_eq!(bench.got(0, &given).unwrap(), expected);

    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let given = bench.give(0, &[2000]);
    guest.write(DATA, &[0xff; 12]);
    bench.wires[0].send(&frame(OWN, 90));
    bench.run();
    let mut expected = vec![0; HEADER];
    expected[10] = 1;
    expected.extend(frame(OWN, 90));
    assert_eq!(bench.got(0, &given).unwrap(), expected);
}

#[test]
fn frames_that_come_before_buffers_wait() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    bench.wires[0].send(&frame(OWN, 60));
    bench.wires[0].send(&frame(OWN, 61));
    bench.run();
    let given = bench.give(0, &[500]);
    assert_eq!(bench.got(0, &given).unwrap().len(), HEADER + 60);
    assert!(bench.got(0, &given).is_none());
    let given = bench.give(0, &[500]);
    assert_eq!(bench.got(0, &given).unwrap().len(), HEADER + 61);
}

#[test]
fn without_mergeable_buffers_a_frame_has_to_fit_into_one() {
    let guest = FakeGuest::new();
    let features = !feature::MRG_RXBUF;
    let mut bench = Bench::with(&guest, BARE, (1, ""), features);
    let given = bench.give(0, &[112, 112]);
    bench.wires[0].send(&frame(OWN, 101));
    bench.run();
    assert!(bench.got(0, &given).is_none());
    bench.wires[0].send(&frame(OWN, 100));
    bench.run();
    let got = bench.got(0, &given).unwrap();
    assert_eq!(headerless(&got), frame(OWN, 100));
    assert_eq!(got[10..12], [1, 0]);
}

#[test]
fn a_long_frame_waits_for_the_buffers_that_it_lacks() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let long = frame(OWN, 9000);
    let first = bench.give(0, &[1000, 1000]);
    bench.wires[0].send(&long);
    bench.run();
    assert!(bench.rings[0].take_used(&guest).is_none());
    let mut at = DATA + 0x10_0000;
    let mut given = first;
    for _ in 0..8 {
        let head = bench.rings[0].add(&guest, &[Buffer::In(at, 1000)]);
        given.push((head, at, 1000));
        at += 0x1000;
    }
    bench.kick(0);
    let got = bench.got(0, &given).unwrap();
    assert_eq!(headerless(&got), long);
    assert_eq!(got[10..12], [10, 0]);
    // Now the room is as large from the start.
    let mut given = Vec::new();
    for len in [3000; 5] {
        let head = bench.rings[0].add(&guest, &[Buffer::In(at, len)]);
        given.push((head, at, len));
        at += 0x1000;
    }
    bench.kick(0);
    bench.wires[0].send(&long);
    bench.run();
    assert_eq!(headerless(&bench.got(0, &given).unwrap()), long);
}

#[test]
fn one_interrupt_for_a_batch() {
    let guest = FakeGuest::new();
    // Without event indexes each notification counts.
    let features = !crate::virtio::common::feature::EVENT_IDX;
    let mut bench = Bench::with(&guest, BARE, (1, ""), features);
    for vector in 0..4u32 {
        enable_vector(&bench, vector);
    }
    bench.driver.write(0x16, &0u16.to_le_bytes());
    bench.driver.write(0x1a, &1u16.to_le_bytes());
    let given = bench.give(0, &[500; 8]);
    for _ in 0..8 {
        bench.wires[0].send(&frame(OWN, 60));
    }
    bench.run();
    for _ in 0..8 {
        assert!(bench.got(0, &given).is_some());
    }
    assert_eq!(guest.irqs.routes()[1].signals(), 1);
}

/// Turns MSI-X on and directs an entry somewhere.
fn enable_vector(bench: &Bench, vector: u32) {
    use crate::pci::PciFunction;
    let mut function = lock(bench.driver.function());
    let at = function.config().byte(0x34);
    let mut at = u16::from(at);
    while function.config().byte(at) != 0x11 {
        at = u16::from(function.config().byte(at + 1));
    }
    let _ = function.config_write(at + 2, &0x8000u16.to_le_bytes());
    let entry = u64::from(vector) * 16;
    let _ = function.bar_write(1, entry, &0xfee0_0000u32.to_le_bytes());
    let _ = function.bar_write(1, entry + 8, &(0x40 + vector).to_le_bytes());
    let _ = function.bar_write(1, entry + 12, &0u32.to_le_bytes());
}

#[test]
fn what_is_no_frame_goes_nowhere() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    bench.transmit(1, DATA, &[0; HEADER]);
    let long = vec![0; HEADER + super::super::MAX_FRAME as usize + 1];
    bench.transmit(1, DATA + 0x1000, &long);
    bench.kick(1);
    assert!(bench.rings[1].take_used(&guest).is_some());
    assert!(bench.rings[1].take_used(&guest).is_some());
    assert!(bench.wires[0].receive().is_none());
    assert_eq!(bench.driver.status() & status::NEEDS_RESET, 0);
    bench.transmit(1, DATA, &[0; HEADER - 1]);
    bench.kick(1);
    assert_ne!(bench.driver.status() & status::NEEDS_RESET, 0);
}

#[test]
fn a_buffer_without_room_for_a_header_breaks_the_device() {
    for len in [11u32, 0] {
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, BARE);
        bench.give(0, &[len]);
        bench.wires[0].send(&frame(OWN, 60));
        bench.run();
        assert_ne!(bench.driver.status() & status::NEEDS_RESET, 0);
        // A reset makes it good.
        bench.start(u64::MAX);
        bench.give(0, &[500]);
        bench.wires[0].send(&frame(OWN, 60));
        bench.run();
        assert_eq!(bench.rings[0].used_index(&guest), 1);
    }
}

#[test]
fn a_queue_that_can_never_hold_a_frame_drops_it() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let given = bench.give(0, &[12; SIZE as usize]);
    bench.wires[0].send(&frame(OWN, 9000));
    bench.wires[0].send(&frame(OWN, 60));
    bench.run();
    let got = bench.got(0, &given).unwrap();
    assert_eq!(headerless(&got), frame(OWN, 60));
    assert_eq!(got[10..12], [6, 0]);
}

proptest! {
    /// Frames of any length in buffers of any length: the driver gets each whole or not at all, in
    /// order, with the number of buffers that it needs and no more.
    #[test]
    fn frames_are_scattered_as_the_model_says(
        header in any::<bool>(),
        buffers in proptest::collection::vec(12u32..3000, 1..60),
        frames in proptest::collection::vec(14usize..9000, 1..10),
    ) {
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, if header { WITH_HEADER } else { BARE });
        let given = bench.give(0, &buffers);
        let mut left = buffers.iter();
        for len in frames {
            let sent = frame(OWN, len);
            if header {
                bench.wires[0].send(&with_header(&sent));
            } else {
                bench.wires[0].send(&sent);
            }
            bench.run();
            let mut need = (len + HEADER) as i64;
            let mut count = 0u16;
            while need > 0 {
                let Some(buffer) = left.next() else { break };
                need -= i64::from(*buffer);
                count += 1;
            }
            let got = bench.got(0, &given);
            if need > 0 {
                prop_assert!(got.is_none());
                break;
            }
            let got = got.unwrap();
            prop_assert_eq!(headerless(&got), &sent[..]);
            prop_assert_eq!(&got[10..12], &count.to_le_bytes());
        }
    }
}
