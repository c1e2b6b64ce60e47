//! The control queue.

use api_spec::RxState;

use super::*;
use crate::effect::{Effect, Notice};
use crate::virtio::common::status;
use crate::virtio::net::config::feature;

const OWN: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 9, 9, 9];
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const OK: u8 = 0;
const ERR: u8 = 1;

/// Class MAC, command TABLE_SET.
fn table(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    for list in [unicast, multicast] {
        bytes.extend((list.len() as u32).to_le_bytes());
        bytes.extend(list.concat());
    }
    bytes
}

/// Which of these frames the driver gets.
fn passes(bench: &mut Bench, frames: &[Vec<u8>]) -> Vec<bool> {
    let mut passed = Vec::new();
    for frame in frames {
        let given = bench.give(0, &[500]);
        bench.wires[0].send(frame);
        bench.run();
        match bench.rings[0].take_used(bench.guest) {
            Some(_) => passed.push(true),
            None => {
                passed.push(false);
                // Uses the buffer up.
                bench.wires[0].send(&super::frame(OWN, 60));
                bench.run();
                assert!(bench.got(0, &given).is_some());
            }
        }
    }
    passed
}

fn tagged(vlan: u16) -> Vec<u8> {
    let mut bytes = frame(OWN, 64);
    bytes[12..14].copy_from_slice(&[0x81, 0]);
    bytes[14..16].copy_from_slice(&vlan.to_be_bytes());
    bytes
}

#[test]
fn modes_tables_and_vlans_decide_what_comes_in() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let frames = [
        frame(OWN, 60),
        frame(OTHER, 60),
        frame(GROUP, 60),
        frame([0xff; 6], 60),
        tagged(7),
    ];
    assert_eq!(passes(&mut bench, &frames), [true; 5]);
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    assert_eq!(
        passes(&mut bench, &frames),
        [true, false, false, true, false]
    );
    assert_eq!(bench.command(&table(&[OTHER], &[GROUP])), OK);
    assert_eq!(passes(&mut bench, &frames), [true, true, true, true, false]);
    assert_eq!(bench.command(&[2, 0, 7, 0]), OK);
    assert_eq!(passes(&mut bench, &frames), [true; 5]);
    assert_eq!(bench.command(&[2, 1, 7, 0]), OK);
    assert_eq!(bench.command(&table(&[], &[])), OK);
    assert_eq!(bench.command(&[0, 5, 1]), OK);
    assert_eq!(
        passes(&mut bench, &frames),
        [true, false, false, false, false]
    );
    for (command, passing) in [(1, 2), (2, 1)] {
        assert_eq!(bench.command(&[0, command, 1]), OK);
        assert!(passes(&mut bench, &frames)[passing]);
    }
    for command in [3, 4] {
        assert_eq!(bench.command(&[0, command, 1]), OK);
    }
    let filter = bench.nic.rx_filter().unwrap();
    assert_eq!(
        (filter.multicast, filter.unicast),
        (RxState::None, RxState::None)
    );
    assert!(!filter.broadcast_allowed && !filter.promiscuous);
}

#[test]
fn a_filter_sees_frames_with_headers_and_in_pieces() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, WITH_HEADER);
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    let given = bench.give(0, &[12; 20]);
    bench.wires[0].send(&with_header(&frame(OTHER, 60)));
    bench.wires[0].send(&with_header(&frame(OWN, 61)));
    bench.run();
    let got = bench.got(0, &given).unwrap();
    assert_eq!(headerless(&got), frame(OWN, 61));
    // Too few buffers for what decides: it is in the spare room.
    bench.start(u64::MAX);
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    let given = bench.give(0, &[16]);
    bench.wires[0].send(&with_header(&frame(OTHER, 60)));
    bench.wires[0].send(&with_header(&frame(OWN, 61)));
    bench.run();
    assert!(bench.rings[0].take_used(&guest).is_none());
    let at = DATA + 0x1000;
    let head = bench.rings[0].add(&guest, &[Buffer::In(at, 100)]);
    bench.kick(0);
    let given = [given[0], (head, at, 100)];
    assert_eq!(headerless(&bench.got(0, &given).unwrap()), frame(OWN, 61));
}

#[test]
fn tables_that_are_too_long_let_everything_of_their_kind_in() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    let many: Vec<_> = (0..65).map(|last| [0x52, 0, 0, 0, 1, last]).collect();
    let groups: Vec<_> = (0..65).map(|last| [0x33, 0x33, 0, 0, 1, last]).collect();
    let state = |bench: &Bench| {
        let filter = bench.nic.rx_filter().unwrap();
        (
            (filter.unicast_table.len(), filter.unicast_overflow),
            (filter.multicast_table.len(), filter.multicast_overflow),
        )
    };
    for (unicast, multicast, expected) in [
        (64, 0, ((64, false), (0, false))),
        (65, 1, ((0, true), (1, false))),
        (60, 4, ((60, false), (4, false))),
        (60, 5, ((60, false), (0, true))),
        (65, 65, ((0, true), (0, true))),
        (0, 64, ((0, false), (64, false))),
    ] {
        let bytes = table(&many[..unicast], &groups[..multicast]);
        assert_eq!(bench.command(&bytes), OK);
        assert_eq!(state(&bench), expected);
    }
    assert_eq!(bench.command(&table(&many, &groups)), OK);
    let frames = [frame(OTHER, 60), frame(GROUP, 60)];
    assert_eq!(passes(&mut bench, &frames), [true; 2]);
}

#[test]
fn the_address_changes_and_comes_back_with_a_reset() {
    let guest = FakeGuest::new();
    let mut bench = Bench::with(&guest, BARE, (1, ",mac=52:54:00:12:34:56"), u64::MAX);
    assert_eq!(bench.driver.config::<6>(0), OWN);
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    assert_eq!(bench.command(&[&[1, 1][..], &OTHER].concat()), OK);
    assert_eq!(bench.driver.config::<6>(0), OTHER);
    let frames = [frame(OTHER, 60)];
    assert_eq!(passes(&mut bench, &frames), [true]);
    assert_eq!(bench.nic.rx_filter().unwrap().main_mac, "52:54:00:09:09:09");
    assert_eq!(bench.nic.mac(), Some(OWN));
    assert_eq!(
        bench.nic.describe(),
        "model=virtio-net-pci,macaddr=52:54:00:12:34:56"
    );
    bench.driver.negotiate(u64::MAX);
    assert_eq!(bench.driver.config::<6>(0), OWN);
    assert!(bench.nic.rx_filter().unwrap().promiscuous);
}

#[test]
fn commands_without_sense_are_refused() {
    let guest = FakeGuest::new();
    let mut bench = Bench::with(&guest, WITH_HEADER, (2, ",mq=on"), u64::MAX);
    let cut = |mut bytes: Vec<u8>, by: usize| {
        bytes.truncate(bytes.len() - by);
        bytes
    };
    let full = table(&[OTHER], &[GROUP]);
    let mut lying = table(&[OTHER], &[]);
    lying[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut longer = full.clone();
    longer.push(0);
    for bad in [
        vec![0, 0],
        vec![0, 6, 1],
        cut(full.clone(), 1),
        cut(full.clone(), 7),
        vec![1, 0],
        vec![1, 0, 0, 0],
        lying,
        longer,
        vec![1, 1, 1, 2, 3, 4, 5],
        vec![1, 1, 1, 2, 3, 4, 5, 6, 7],
        vec![1, 2, 1, 2, 3, 4, 5, 6],
        vec![2, 0, 1],
        vec![2, 0, 0, 0x10],
        vec![2, 2, 1, 0],
        vec![3, 0],
        vec![3, 1],
        vec![4, 0, 0, 0],
        vec![4, 0, 3, 0],
        vec![4, 0, 1],
        vec![4, 1, 1, 0],
        vec![5, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        vec![5, 1, 2, 0, 0, 0, 0, 0, 0, 0],
        vec![6, 0, 0],
        vec![0xff, 0xff, 0xff],
    ] {
        let before = bench.nic.rx_filter().unwrap();
        assert_eq!(bench.command(&bad), ERR, "{bad:?}");
        assert_eq!(bench.nic.rx_filter().unwrap(), before, "{bad:?}");
    }
    // Behind the data that counts, there may be more.
    assert_eq!(bench.command(&[0, 0, 1, 9, 9]), OK);
}

#[test]
fn a_command_without_a_header_or_an_answer_breaks_the_device() {
    for buffers in [
        &[Buffer::Out(COMMAND, 1), Buffer::In(COMMAND + 64, 1)][..],
        &[Buffer::Out(COMMAND, 3)],
        &[Buffer::In(COMMAND, 3)],
    ] {
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, BARE);
        bench.rings[2].add(&guest, buffers);
        bench.kick(2);
        assert_ne!(bench.driver.status() & status::NEEDS_RESET, 0);
    }
}

#[test]
fn watchers_are_told_once_until_they_ask() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let told = |guest: &FakeGuest| {
        let changed = Notice::RxFilterChanged {
            device: "net0".into(),
        };
        let effects = guest.take_effects();
        let wanted = ("net0".to_owned(), Effect::Notice(changed));
        assert!(
            effects.iter().all(|effect| *effect == wanted),
            "{effects:?}"
        );
        effects.len()
    };
    assert_eq!(bench.command(&[3, 0]), ERR);
    assert_eq!(bench.command(&[0, 9, 0]), ERR);
    assert_eq!(told(&guest), 0);
    for _ in 0..3 {
        assert_eq!(bench.command(&[0, 1, 1]), OK);
        assert_eq!(bench.command(&[2, 0, 1, 0]), OK);
    }
    assert_eq!(told(&guest), 1);
    let filter = bench.nic.rx_filter().unwrap();
    assert_eq!(filter.name, "net0");
    assert_eq!(filter.vlan_table, [1]);
    assert_eq!(filter.vlan, RxState::Normal);
    assert_eq!(bench.command(&[1, 1, 2, 0, 0, 0, 0, 1]), OK);
    assert_eq!(told(&guest), 1);
}

#[test]
fn pairs_are_used_when_the_driver_says_so() {
    let guest = FakeGuest::new();
    let mut bench = Bench::with(&guest, WITH_HEADER, (3, ",mq=on"), u64::MAX);
    assert_eq!(bench.rings.len(), 7);
    assert_eq!(bench.driver.config::<2>(8), [3, 0]);
    let enabled = |bench: &Bench| -> Vec<_> {
        let told = bench.wires.iter().map(|wire| wire.told().enabled.unwrap());
        told.collect()
    };
    assert_eq!(enabled(&bench), [true, false, false]);
    // What comes for a pair that is not in use stays where it is.
    let given = bench.give(2, &[500]);
    bench.wires[1].send(&with_header(&frame(OWN, 60)));
    bench.run();
    assert!(bench.got(2, &given).is_none());
    bench.transmit(3, DATA + 0x8000, &with_header(&frame(OWN, 90)));
    bench.kick(3);
    assert!(bench.wires[1].receive().is_none());
    assert_eq!(bench.command(&[4, 0, 2, 0]), OK);
    assert_eq!(enabled(&bench), [true, true, false]);
    assert!(bench.got(2, &given).is_some());
    bench.transmit(3, DATA + 0x8000, &with_header(&frame(OWN, 90)));
    bench.kick(3);
    assert!(bench.wires[1].receive().is_some());
    assert_eq!(bench.command(&[4, 0, 1, 0]), OK);
    assert_eq!(enabled(&bench), [true, false, false]);
}

#[test]
fn a_driver_that_knows_of_one_pair_has_its_control_queue_behind_that() {
    let guest = FakeGuest::new();
    let mut bench = Bench::with(&guest, WITH_HEADER, (2, ",mq=on"), !feature::MQ);
    // The ring of index 2 is the one that commands go to.
    bench.rings.truncate(3);
    assert_eq!(bench.command(&[0, 1, 1]), OK);
    assert_eq!(bench.command(&[4, 0, 2, 0]), ERR);
    assert_eq!(bench.wires[1].told().enabled, Some(false));
}

#[test]
fn the_driver_chooses_what_it_receives_unfinished() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, WITH_HEADER);
    assert_eq!(bench.wires[0].told().offloads, Some(ALL));
    let set = |bits: u64| [&[5, 0][..], &bits.to_le_bytes()].concat();
    assert_eq!(
        bench.command(&set(feature::GUEST_CSUM | feature::GUEST_TSO4)),
        OK
    );
    let some = Offloads {
        csum: true,
        tso4: true,
        ..Offloads::default()
    };
    assert_eq!(bench.wires[0].told().offloads, Some(some));
    assert_eq!(bench.command(&set(feature::MRG_RXBUF)), ERR);
    // Kept over a stop, not over a reset.
    bench.driver.carry_out(Effect::StopQueues);
    bench.driver.carry_out(Effect::StartQueues);
    assert_eq!(bench.wires[0].told().offloads, Some(some));
    bench.start(!(feature::GUEST_TSO6 | feature::GUEST_UFO));
    let others = Offloads {
        tso6: false,
        ufo: false,
        ..ALL
    };
    assert_eq!(bench.wires[0].told().offloads, Some(others));
    assert_eq!(bench.command(&set(feature::GUEST_TSO6)), ERR);
}

#[test]
fn an_interface_is_announced_by_a_frame_and_by_its_driver() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, WITH_HEADER);
    bench.nic.announce();
    bench.run();
    let sent = bench.wires[0].receive().unwrap();
    assert_eq!(sent[..HEADER], [0; HEADER]);
    let rarp = &sent[HEADER..];
    assert_eq!(rarp.len(), 60);
    assert_eq!(rarp[..6], [0xff; 6]);
    assert_eq!(rarp[6..12], OWN);
    assert_eq!(rarp[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    assert_eq!(rarp[22..28], OWN);
    assert_eq!(rarp[32..38], OWN);
    assert!(bench.wires[0].receive().is_none());
    assert_eq!(bench.status(), 3);
    assert_eq!(bench.command(&[3, 0]), OK);
    assert_eq!(bench.status(), 1);
    assert_eq!(bench.command(&[3, 0]), ERR);
    // With no driver, by the frame alone.
    bench.driver.negotiate(0);
    bench.nic.announce();
    assert_eq!(bench.wires[0].receive().unwrap().len(), HEADER + 60);
    assert_eq!(bench.status(), 1);
    bench.nic.set_link(false);
    bench.netdev.set_plugged_in(false);
    bench.nic.announce();
    assert!(bench.wires[0].receive().is_none());
}
