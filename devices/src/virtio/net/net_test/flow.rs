//! What happens when one side does not keep up, stops, or goes.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use block::Buffers;

use super::*;
use crate::backend::net::{NetPort, Sent};
use crate::effect::Effect;

const OWN: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// Bytes of frames of which the host takes only some at a time.
const LARGE: usize = 20_000;
const STRIDE: u64 = 0x6000;

/// Gives such frames to the driver's ring: 40, of different lengths.
fn transmit_many(bench: &mut Bench) {
    for at in 0..40 {
        let bytes = with_header(&frame(OWN, LARGE + at));
        bench.transmit(1, DATA + at as u64 * STRIDE, &bytes);
    }
    bench.kick(1);
    let used = bench.rings[1].used_index(bench.guest);
    assert!((1..40).contains(&used), "{used} of 40 frames fit");
}

/// Reads what is there; how many frames.
fn drain(bench: &Bench) -> usize {
    std::iter::from_fn(|| bench.wires[0].receive()).count()
}

#[test]
fn a_back_end_without_room_keeps_frames_waiting() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    transmit_many(&mut bench);
    assert_eq!(guest.thread.timeouts().len(), 1);
    let mut lengths = Vec::new();
    for _ in 0..40 {
        while let Some(frame) = bench.wires[0].receive() {
            lengths.push(frame.len());
        }
        bench.run();
    }
    assert_eq!(lengths, (LARGE..LARGE + 40).collect::<Vec<_>>());
    assert_eq!(bench.rings[1].used_index(&guest), 40);
    assert!(guest.thread.timeouts().is_empty());
}

#[test]
fn a_frame_that_waits_is_tried_again_after_a_time() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    transmit_many(&mut bench);
    let before = bench.rings[1].used_index(&guest);
    guest.thread.pass_timeouts();
    assert_eq!(bench.rings[1].used_index(&guest), before);
    assert_eq!(guest.thread.timeouts().len(), 1);
    assert_eq!(drain(&bench), usize::from(before));
    guest.thread.pass_timeouts();
    assert!(bench.rings[1].used_index(&guest) > before);
}

/// Takes half of a frame, and the rest when it is asked and may.
struct Halves {
    fd: std::os::fd::OwnedFd,
    open: Arc<AtomicBool>,
    rest: Arc<AtomicBool>,
}

impl NetPort for Halves {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, _room: &Buffers) -> io::Result<Option<usize>> {
        self.flush();
        Ok(None)
    }

    fn flush(&mut self) -> bool {
        if self.open.load(Ordering::SeqCst) {
            self.rest.store(false, Ordering::SeqCst);
        }
        !self.rest.load(Ordering::SeqCst)
    }

    fn send(&mut self, _frame: &Buffers) -> Sent {
        assert!(!self.rest.swap(true, Ordering::SeqCst));
        Sent::Done
    }
}

#[test]
fn the_rest_of_a_frame_leaves_while_the_driver_gives_no_buffers() {
    let guest = FakeGuest::new();
    let (open, rest) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (quiet, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let port = Halves {
        fd: quiet.into(),
        open: open.clone(),
        rest: rest.clone(),
    };
    let mut bench = Bench::on(&guest, BARE, vec![Box::new(port)], "");
    bench.start(u64::MAX);
    bench.transmit(1, DATA, &with_header(&frame(OWN, 90)));
    bench.kick(1);
    assert!(bench.rings[1].take_used(&guest).is_some());
    assert!(rest.load(Ordering::SeqCst));
    guest.thread.pass_timeouts();
    assert_eq!(guest.thread.timeouts().len(), 1);
    open.store(true, Ordering::SeqCst);
    guest.thread.pass_timeouts();
    assert!(!rest.load(Ordering::SeqCst));
    assert!(guest.thread.timeouts().is_empty());
}

#[test]
fn a_stop_loses_and_doubles_nothing_that_waits() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    transmit_many(&mut bench);
    let given = bench.give(0, &[500; 4]);
    bench.driver.carry_out(Effect::StopQueues);
    assert!(guest.thread.is_empty());
    bench.wires[0].send(&frame(OWN, 70));
    bench.driver.carry_out(Effect::StartQueues);
    let mut lengths = Vec::new();
    for _ in 0..40 {
        while let Some(frame) = bench.wires[0].receive() {
            lengths.push(frame.len());
        }
        bench.run();
    }
    assert_eq!(lengths, (LARGE..LARGE + 40).collect::<Vec<_>>());
    assert_eq!(bench.got(0, &given).unwrap().len(), HEADER + 70);
    assert!(bench.got(0, &given).is_none());
}

#[test]
fn queues_reset_in_mid_flight_begin_anew() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    transmit_many(&mut bench);
    bench.give(0, &[1000]);
    // A frame that waits for more buffers.
    bench.wires[0].send(&frame(OWN, 5000));
    bench.run();
    bench.start(u64::MAX);
    drain(&bench);
    let given = bench.give(0, &[1000]);
    bench.wires[0].send(&frame(OWN, 80));
    bench.transmit(1, DATA + 0x8000, &with_header(&frame(OWN, 90)));
    bench.kick(1);
    assert_eq!(bench.got(0, &given).unwrap().len(), HEADER + 80);
    assert_eq!(bench.wires[0].receive().unwrap().len(), 90);
}

#[test]
fn without_a_link_frames_go_nowhere() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    let given = bench.give(0, &[500; 4]);
    assert_eq!(bench.status(), 1);
    let generation = bench.driver.read::<1>(0x15);
    bench.nic.set_link(false);
    assert_eq!(bench.status(), 0);
    assert_ne!(bench.driver.read::<1>(0x15), generation);
    bench.wires[0].send(&frame(OWN, 60));
    bench.transmit(1, DATA + 0x8000, &with_header(&frame(OWN, 90)));
    bench.kick(1);
    assert!(bench.rings[1].take_used(&guest).is_some());
    assert!(bench.wires[0].receive().is_none());
    bench.netdev.set_plugged_in(true);
    assert_eq!(bench.status(), 1);
    bench.run();
    assert!(bench.got(0, &given).is_none(), "it came before the link");
    bench.wires[0].send(&frame(OWN, 61));
    bench.run();
    assert_eq!(bench.got(0, &given).unwrap().len(), HEADER + 61);
}

#[test]
fn a_frame_that_waits_is_dropped_with_the_link() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    transmit_many(&mut bench);
    bench.nic.set_link(false);
    bench.run();
    assert_eq!(bench.rings[1].used_index(&guest), 40);
    assert!(drain(&bench) < 40);
}

#[test]
fn a_broken_back_end_is_left_alone_and_the_driver_can_still_send() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    bench.give(0, &[500]);
    bench.wires[0].break_down();
    bench.wires[0].send(&frame(OWN, 60));
    bench.run();
    bench.transmit(1, DATA + 0x8000, &with_header(&frame(OWN, 90)));
    bench.kick(1);
    assert_eq!(bench.wires[0].receive().unwrap().len(), 90);
}

#[test]
fn a_flood_of_one_direction_leaves_room_for_the_other() {
    let guest = FakeGuest::new();
    let mut bench = Bench::with(&guest, BARE, (1, ",x-txburst=2"), u64::MAX);
    let given = bench.give(0, &[500; 8]);
    for _ in 0..4 {
        bench.wires[0].send(&frame(OWN, 60));
    }
    for at in 0..9u64 {
        bench.transmit(1, DATA + 0x8000 + at * 0x100, &with_header(&frame(OWN, 90)));
    }
    bench.kick(1);
    for _ in 0..4 {
        assert!(bench.got(0, &given).is_some());
    }
    assert_eq!(drain(&bench), 9);
}

#[test]
fn a_netdev_that_is_gone_leaves_an_interface_without_a_network() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, BARE);
    bench.give(0, &[500]);
    bench.netdev.close();
    assert_eq!(bench.status(), 0);
    bench.driver.carry_out(Effect::StopQueues);
    bench.driver.carry_out(Effect::StartQueues);
    assert!(!bench.wires[0].offer(&[0; 60]), "the port is gone");
    bench.transmit(1, DATA + 0x8000, &with_header(&frame(OWN, 90)));
    bench.kick(1);
    assert!(bench.rings[1].take_used(&guest).is_some());
    bench.nic.set_link(true);
    bench.nic.announce();
    bench.run();
}

#[test]
fn the_netdev_is_free_when_the_interface_is_gone() {
    let guest = FakeGuest::new();
    let bench = Bench::new(&guest, BARE);
    bench.driver.carry_out(Effect::StopQueues);
    let Bench {
        netdev,
        driver,
        nic,
        wires: _wires,
        ..
    } = bench;
    assert!(netdev.in_use());
    let shared = Arc::downgrade(&nic);
    drop((driver, nic));
    assert!(!netdev.in_use());
    assert!(shared.upgrade().is_none(), "nothing holds it");
    assert!(netdev.attach().unwrap().port(0).is_some());
}
