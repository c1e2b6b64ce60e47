//! The function as a whole: what it offers, refuses and saves.

use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vmstate::StateAccess;

use super::*;
use crate::effect::Effect;
use crate::pci::PciFunction;
use crate::testing::conformance;
use crate::virtio::net::config::feature;
use crate::virtio::{ActiveQueues, PlacedWorker};

fn offered(traits: NetTraits, text: &str) -> u64 {
    let guest = FakeGuest::new();
    Bench::cold(&guest, traits, 1, text).driver.offered()
}

/// Device-specific features, in the words of the defaults.
fn own(features: u64) -> u64 {
    features & !(0xff << 24 | 1 << 32)
}

#[test]
fn offers_what_the_back_end_can() {
    let control = feature::CTRL_VQ
        | feature::CTRL_RX
        | feature::CTRL_VLAN
        | feature::CTRL_RX_EXTRA
        | feature::GUEST_ANNOUNCE
        | feature::CTRL_MAC_ADDR;
    let plain = feature::MAC | feature::STATUS | feature::MRG_RXBUF;
    let offloads = feature::GUEST_OFFLOADS | feature::HOST_OFFLOADS | feature::CTRL_GUEST_OFFLOADS;
    let full = plain | control | offloads;
    assert_eq!(own(offered(WITH_HEADER, "")), full);
    assert_eq!(own(offered(BARE, "")), plain | control);
    let without =
        |text: &str, missing: u64| assert_eq!(own(offered(WITH_HEADER, text)), full & !missing);
    without(",mrg_rxbuf=off", feature::MRG_RXBUF);
    without(",status=off", feature::STATUS);
    without(
        ",guest_tso4=off,guest_ecn=off",
        feature::GUEST_TSO4 | feature::GUEST_ECN,
    );
    without(",csum=off", feature::HOST_OFFLOADS);
    without(
        ",guest_csum=off",
        feature::GUEST_OFFLOADS | feature::CTRL_GUEST_OFFLOADS,
    );
    without(",ctrl_vq=off", control | feature::CTRL_GUEST_OFFLOADS);
    without(
        ",host_tso4=off,host_tso6=off",
        feature::HOST_TSO4 | feature::HOST_TSO6 | feature::HOST_ECN,
    );
    for (text, more) in [
        (",host_mtu=9000", feature::MTU),
        (",mq=on", feature::MQ),
        (",speed=0", feature::SPEED_DUPLEX),
        (",duplex=half", feature::SPEED_DUPLEX),
    ] {
        assert_eq!(own(offered(WITH_HEADER, text)), full | more, "{text}");
    }
}

#[test]
fn configuration_space() {
    let guest = FakeGuest::new();
    let text = ",mac=02:03:04:05:06:07,host_mtu=9000,speed=10000,duplex=full,mq=on";
    let bench = Bench::cold(&guest, WITH_HEADER, 4, text);
    let space: [u8; 20] = bench.driver.config(0);
    let expected = [
        2, 3, 4, 5, 6, 7, 1, 0, 4, 0, 0x28, 0x23, 0x10, 0x27, 0, 0, 1, 0, 0, 0,
    ];
    assert_eq!(space, expected);
    // The driver cannot write it.
    bench.driver.write(crate::virtio::layout::DEVICE, &[9; 6]);
    assert_eq!(bench.driver.config::<20>(0), expected);
}

#[test]
fn vectors_and_queues_follow_the_pairs() {
    for (text, queues, vectors) in [("", 3, 4), (",mq=on", 9, 10), (",mq=on,vectors=3", 9, 3)] {
        let guest = FakeGuest::new();
        let bench = Bench::cold(&guest, WITH_HEADER, 4, text);
        assert_eq!(bench.driver.common16(0x12), queues, "{text}");
        assert_eq!(guest.irqs.routes().len(), vectors, "{text}");
    }
}

#[test]
fn properties_without_sense_are_refused() {
    let guest = FakeGuest::new();
    let refuse = |text: &str| build(&props(text), &mut guest.cx("n")).err().unwrap().desc;
    for (text, expected) in [
        (
            ",mac=zz",
            "Property 'virtio-net-device.mac' doesn't take value 'zz'",
        ),
        (
            ",rx_queue_size=100",
            "Invalid rx_queue_size (= 100), must be a power of 2 between 256 and 1024.",
        ),
        (
            ",rx_queue_size=2048",
            "Invalid rx_queue_size (= 2048), must be a power of 2 between 256 and 1024.",
        ),
        (
            ",tx_queue_size=1024",
            "Invalid tx_queue_size (= 1024), must be a power of 2 between 256 and 256",
        ),
        (",duplex=x", "'duplex' must be 'half' or 'full'"),
        (",speed=-2", "'speed' must be between 0 and INT_MAX"),
        (
            ",failover=on",
            "Property 'failover' cannot be on: it is not supported",
        ),
        (
            ",rss=on",
            "Property 'rss' cannot be on: it is not supported",
        ),
        (
            ",hash=on",
            "Property 'hash' cannot be on: it is not supported",
        ),
    ] {
        assert_eq!(refuse(text), expected);
    }
}

#[test]
fn an_address_is_given_out_by_default() {
    let guest = FakeGuest::new();
    let mut cx = guest.cx("/anonymous/0");
    cx.hints.insert("mac", 0x58);
    cx.hints.insert("nic-index", 2);
    let (_, nic) = build(&props(""), &mut cx).unwrap();
    assert_eq!(nic.mac(), Some([0x52, 0x54, 0, 0x12, 0x34, 0x58]));
    assert_eq!(nic.rx_filter().unwrap().name, "virtio-net-pci.2");
}

#[test]
fn an_interface_without_a_netdev_sends_nowhere() {
    let guest = FakeGuest::new();
    let (function, nic) = build(&props(""), &mut guest.cx("n")).unwrap();
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(u64::MAX);
    driver.queue(0, RINGS, SIZE);
    let mut ring = driver.queue(1, RINGS + RING_STEP, SIZE);
    driver.go();
    assert_eq!(driver.config::<2>(6), [1, 0]);
    guest.write(DATA, &with_header(&frame([0xff; 6], 60)));
    assert_eq!(driver.request(&mut ring, &[Buffer::Out(DATA, 72)]), 0);
    nic.announce();
    nic.set_link(false);
}

#[test]
fn the_state_of_a_driver_moves_to_another_interface() {
    let guest = FakeGuest::new();
    let mut bench = Bench::with(&guest, WITH_HEADER, (2, ",mq=on"), u64::MAX);
    for command in [
        &[0, 0, 0][..],
        &[0, 3, 1],
        &[1, 1, 2, 0, 0, 0, 0, 9],
        &[1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 8, 0, 0, 0, 0],
        &[2, 0, 5, 0],
        &[4, 0, 2, 0],
        &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(bench.command(command), 0);
    }
    bench.nic.announce();
    let given = bench.give(2, &[500; 3]);
    bench.driver.carry_out(Effect::StopQueues);
    let section = lock(bench.driver.function()).save_section("x").unwrap();

    // Another interface, in the same memory.
    let mut other = Bench::cold(&guest, WITH_HEADER, 2, ",mq=on");
    lock(other.driver.function())
        .restore_section(&section)
        .unwrap();
    let saved = lock(other.driver.function()).save_section("x").unwrap();
    assert_eq!(saved, section);
    other.driver.features = bench.driver.features;
    other.rings = bench.rings.clone();
    other.driver.carry_out(Effect::StartQueues);
    let filter = other.nic.rx_filter().unwrap();
    assert_eq!(filter, {
        let mut expected = bench.nic.rx_filter().unwrap();
        expected.name = filter.name.clone();
        expected
    });
    assert_eq!(filter.unicast_table, ["02:00:00:00:00:08"]);
    assert_eq!(filter.vlan_table, [5]);
    assert_eq!(other.status(), 3);
    assert_eq!(other.wires[1].told().enabled, Some(true));
    assert_eq!(
        other.wires[0].told().offloads,
        Some(Offloads {
            csum: true,
            ..Offloads::default()
        })
    );
    other.wires[1].send(&with_header(&frame([2, 0, 0, 0, 0, 9], 60)));
    other.run();
    assert!(other.got(2, &given).is_some());
    // One with fewer pairs does not take it.
    let small = Bench::cold(&guest, WITH_HEADER, 1, ",mq=on");
    assert!(
        lock(small.driver.function())
            .restore_section(&section)
            .is_err()
    );
}

#[test]
fn the_link_moves_as_the_driver_saw_it() {
    let guest = FakeGuest::new();
    let bench = Bench::new(&guest, WITH_HEADER);
    let save = |bench: &Bench| lock(bench.driver.function()).save_section("x").unwrap();
    // Pulled by somebody: it is pulled at the other end as well, without a word to the driver.
    bench.nic.set_link(false);
    bench.driver.isr();
    bench.driver.carry_out(Effect::StopQueues);
    let pulled = save(&bench);
    let mut other = Bench::cold(&guest, WITH_HEADER, 1, "");
    let restore = |other: &Bench, section: &vmstate::Section| {
        let restored = lock(other.driver.function()).restore_section(section);
        restored.unwrap();
    };
    restore(&other, &pulled);
    assert_eq!(save(&other), pulled);
    other.driver.features = bench.driver.features;
    other.driver.carry_out(Effect::StartQueues);
    assert_eq!((other.status(), other.driver.isr()), (0, 0));
    other.nic.set_link(true);
    assert_eq!((other.status(), other.driver.isr()), (1, 2));

    // Without a peer, which is there at the other end: the driver is told when its queues start.
    bench.nic.set_link(true);
    bench.driver.carry_out(Effect::StartQueues);
    bench.netdev.set_connected(false);
    bench.driver.isr();
    bench.driver.carry_out(Effect::StopQueues);
    let alone = save(&bench);
    let mut third = Bench::cold(&guest, WITH_HEADER, 1, "");
    restore(&third, &alone);
    assert_eq!(save(&third), alone);
    assert_eq!((third.status(), third.driver.isr()), (1, 0));
    third.driver.features = bench.driver.features;
    third.driver.carry_out(Effect::StartQueues);
    assert_eq!((third.status(), third.driver.isr()), (1, 2));
    bench.driver.carry_out(Effect::StartQueues);
    assert_eq!((bench.status(), bench.driver.isr()), (0, 0));

    // Somebody pulls the plug before the queues start, or does so and thinks better of it.
    for (links, told) in [(&[false][..], (0, 2)), (&[false, true], (1, 0))] {
        bench.netdev.set_connected(true);
        bench.driver.isr();
        bench.driver.carry_out(Effect::StopQueues);
        let up = save(&bench);
        let mut fourth = Bench::cold(&guest, WITH_HEADER, 1, "");
        restore(&fourth, &up);
        links.iter().for_each(|up| fourth.nic.set_link(*up));
        assert_eq!(fourth.driver.isr(), 0);
        fourth.driver.features = bench.driver.features;
        fourth.driver.carry_out(Effect::StartQueues);
        assert_eq!((fourth.status(), fourth.driver.isr()), told);
        bench.driver.carry_out(Effect::StartQueues);
    }
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    for traits in [WITH_HEADER, BARE] {
        // Each has a netdev of its own, which lives as long as the interface.
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            let (netdev, _) = netdev(traits, 2, None);
            let mut cx = guest.cx("n");
            cx.netdev = netdev.attach();
            let (function, _) = build(&props(",mq=on"), &mut cx).unwrap();
            Arc::new(Mutex::new(function))
        });
    }
}

/// Offers what an interface on [`WITH_HEADER`] has, takes two frames of the first transmit queue,
/// and then refuses.
struct Refuses {
    insists: bool,
}

impl VhostBackend for Refuses {
    fn features(&self) -> u64 {
        u64::MAX
    }

    fn start(&self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let at = GuestAddress(queues.queues[1].queue.used_ring() + 2);
        queues.ram.memory().write_obj(2u16, at).unwrap();
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn queue_pairs(&self) -> u16 {
        1
    }

    fn insists(&self) -> bool {
        self.insists
    }

    fn migration_blocker(&self) -> Option<String> {
        self.insists.then(|| "It is bound to its place".to_owned())
    }
}

#[test]
fn an_interface_migrates_as_its_netdev_does() {
    let guest = FakeGuest::new();
    for (insists, why) in [(false, None), (true, Some("It is bound to its place"))] {
        let (netdev, _) = netdev(WITH_HEADER, 1, Some(Arc::new(Refuses { insists })));
        let mut cx = guest.cx("net0");
        cx.netdev = netdev.attach();
        let writers = cx.writers.clone();
        let made = build(&props(""), &mut cx).unwrap();
        assert_eq!(writers.blockers(), Vec::from_iter(why));
        drop(made);
        assert_eq!(writers.blockers(), Vec::<String>::new());
    }
}

#[test]
fn the_ports_take_the_place_of_a_party_that_refuses() {
    for insists in [false, true] {
        let guest = FakeGuest::new();
        let vhost = Arc::new(Refuses { insists });
        let (netdev, wires) = netdev(WITH_HEADER, 1, Some(vhost));
        let mut cx = guest.cx("net0");
        cx.netdev = netdev.attach();
        let (function, nic) = build(&props(""), &mut cx).unwrap();
        let mut bench = Bench {
            guest: &guest,
            driver: Driver::new(&guest, function),
            nic,
            netdev,
            wires,
            rings: Vec::new(),
        };
        bench.driver.negotiate(u64::MAX);
        bench.rings = (0..3)
            .map(|index| {
                let at = RINGS + RING_STEP * u64::from(index);
                bench.driver.queue(index, at, SIZE)
            })
            .collect();
        for number in 0..4u8 {
            let bytes = with_header(&frame([2, 0, 0, 0, 0, number], 60));
            bench.transmit(1, DATA + 0x100 * u64::from(number), &bytes);
        }
        bench.driver.go();
        guest.thread.run();
        let sent: Vec<_> = std::iter::from_fn(|| bench.wires[0].receive()).collect();
        // Those that the other party took are not sent once more.
        let to: Vec<u8> = sent.iter().map(|frame| headerless(frame)[5]).collect();
        assert_eq!(to, if insists { vec![] } else { vec![2, 3] });
        assert_eq!(bench.driver.status() & 0x40 != 0, insists);
    }
}

/// Serves nothing, and remembers which queues it was given, and how many pairs are in use.
#[derive(Default)]
struct FakeVhost(Mutex<Vec<u16>>, Mutex<u16>);

impl VhostBackend for FakeVhost {
    fn features(&self) -> u64 {
        use crate::virtio::common::feature as transport;
        feature::MRG_RXBUF | feature::CSUM | feature::GUEST_CSUM | transport::EVENT_IDX
    }

    fn start(&self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        lock(&self.0).extend(queues.queues.iter().map(|queue| queue.index));
        Ok(Vec::new())
    }

    fn use_pairs(&self, pairs: u16) {
        *lock(&self.1) = pairs;
    }

    fn queue_pairs(&self) -> u16 {
        2
    }
}

#[test]
fn another_party_serves_the_data_queues() {
    let guest = FakeGuest::new();
    let vhost = Arc::new(FakeVhost::default());
    let (netdev, wires) = netdev(WITH_HEADER, 2, Some(vhost.clone()));
    let mut cx = guest.cx("net0");
    cx.netdev = netdev.attach();
    let (function, nic) = build(&props(",mq=on"), &mut cx).unwrap();
    let mut bench = Bench {
        guest: &guest,
        driver: Driver::new(&guest, function),
        nic,
        netdev,
        wires,
        rings: Vec::new(),
    };
    let offered = bench.driver.offered();
    assert_eq!(offered & feature::GUEST_OFFLOADS, feature::GUEST_CSUM);
    assert_eq!(offered & crate::virtio::common::feature::INDIRECT_DESC, 0);
    bench.start(u64::MAX);
    assert_eq!(*lock(&vhost.0), [0, 1, 2, 3]);
    assert_eq!(guest.thread.len(), 1, "the control queue's worker");
    assert_eq!(bench.wires[1].told().enabled, Some(false));
    assert_eq!(*lock(&vhost.1), 1);
    assert_eq!(bench.command(&[4, 0, 2, 0]), 0);
    assert_eq!(bench.wires[1].told().enabled, Some(true));
    assert_eq!(*lock(&vhost.1), 2);
    assert_eq!(bench.command(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(bench.wires[0].told().offloads, Some(Offloads::default()));
    let _ = lock(bench.driver.function()).config();
}

#[test]
fn another_party_serves_no_interface_whose_plug_is_pulled() {
    let guest = FakeGuest::new();
    let vhost = Arc::new(FakeVhost::default());
    let (netdev, wires) = netdev(WITH_HEADER, 1, Some(vhost.clone()));
    let mut cx = guest.cx("net0");
    cx.netdev = netdev.attach();
    let (function, nic) = build(&props(""), &mut cx).unwrap();
    let mut bench = Bench {
        guest: &guest,
        driver: Driver::new(&guest, function),
        nic,
        netdev,
        wires,
        rings: Vec::new(),
    };
    bench.start(u64::MAX);
    assert!(!bench.nic.wants_restart());
    let restart = |bench: &Bench| {
        assert!(bench.nic.wants_restart());
        lock(&vhost.0).clear();
        bench.driver.carry_out(Effect::StopQueues);
        bench.driver.carry_out(Effect::StartQueues);
        assert!(!bench.nic.wants_restart());
    };
    // By the netdev's name, and by the interface's.
    for round in 0..2 {
        let pull = |bench: &Bench, up| match round {
            0 => bench.netdev.set_plugged_in(up),
            _ => bench.nic.set_link(up),
        };
        pull(&bench, false);
        restart(&bench);
        assert!(lock(&vhost.0).is_empty());
        bench.transmit(1, DATA, &with_header(&frame([2; 6], 60)));
        bench.kick(1);
        assert!(bench.rings[1].take_used(&guest).is_some());
        assert!(bench.wires[0].receive().is_none());
        pull(&bench, true);
        restart(&bench);
        assert_eq!(*lock(&vhost.0), [0, 1]);
    }
    // A peer that went away finds the queues when it comes back.
    bench.netdev.set_connected(false);
    assert!(!bench.nic.wants_restart());
}
