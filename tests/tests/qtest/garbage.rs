//! What a driver may do wrong: the program lives, other clients are served, a reset makes it good.

use tests::VmBuilder;
use tests::pci::{Function, functions};
use tests::qtest::Qtest;
use tests::virtio::{Device, INDIRECT, NEXT, Queue, WRITE, status};

const ARGS: &[&str] = &[
    "-blockdev",
    "null-co,node-name=n,size=1048576,read-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=n,addr=4.0",
    "-device",
    "virtio-rng-pci,addr=5.0",
    "-chardev",
    "null,id=c0",
    "-device",
    "virtio-serial-pci,addr=6.0",
    "-device",
    "virtconsole,chardev=c0",
    "-device",
    "virtio-balloon-pci,addr=7.0,free-page-reporting=on",
];
const SLOTS: [u8; 4] = [4, 5, 6, 7];

fn driven(t: &mut Qtest, slot: u8) -> (Device, Queue) {
    t.free_all();
    let mut device = Device::find(t, slot);
    device.negotiate(t, u64::MAX);
    // The transmit queue of the serial device, the only one of the others.
    let queue = device.queue(t, if slot == 6 { 1 } else { 0 }, None);
    device.drive(t);
    (device, queue)
}

/// Whether the device works: it finishes a plain request.
fn works(t: &mut Qtest, slot: u8) {
    let (_, mut queue) = driven(t, slot);
    let at = t.alloc(4096);
    match slot {
        4 => queue.add(
            t,
            &[(at, 16, false), (at + 512, 512, true), (at + 16, 1, true)],
        ),
        5 => queue.add(t, &[(at, 64, true)]),
        _ => queue.add(t, &[(at, 16, false)]),
    };
    queue.kick(t);
    queue.wait(t);
}

/// Lets each device suffer it; then each must work again after a reset.
fn suffer(what: impl Fn(&mut Qtest, &mut Device, &mut Queue)) {
    let mut t = Qtest::start(ARGS);
    for slot in SLOTS {
        let (mut device, mut queue) = driven(&mut t, slot);
        what(&mut t, &mut device, &mut queue);
        t.vm.assert_alive();
        t.vm.query("query-block");
        works(&mut t, slot);
    }
}

#[test]
fn a_chain_that_bites_its_tail() {
    suffer(|t, _, queue| {
        let at = t.alloc(4096);
        queue.descriptor(t, 0, at, 16, NEXT, 1);
        queue.descriptor(t, 1, at, 16, NEXT, 0);
        queue.offer(t, 0);
        queue.kick(t);
    });
}

#[test]
fn a_chain_that_points_behind_the_table() {
    suffer(|t, _, queue| {
        let at = t.alloc(4096);
        queue.descriptor(t, 0, at, 16, NEXT, queue.size);
        queue.offer(t, 0);
        queue.kick(t);
    });
}

#[test]
fn a_head_that_is_not_in_the_table() {
    suffer(|t, _, queue| {
        queue.offer(t, queue.size);
        queue.offer(t, 0xffff);
        queue.kick(t);
    });
}

#[test]
fn buffers_that_are_not_memory() {
    suffer(|t, _, queue| {
        for (address, length) in [
            (0xffff_ffff_ffff_f000, 4096),
            (0xffff_ffff_ffff_ffff, 16),
            (0xf000_0000, 16),
            (0x1000_0000_0000, 512),
            (0x3ff_fff0, 4096),
            (0, u32::MAX),
        ] {
            for flags in [0, WRITE] {
                queue.descriptor(t, 0, address, length, flags, 0);
                queue.offer(t, 0);
                queue.kick(t);
            }
        }
    });
}

#[test]
fn buffers_of_no_length() {
    suffer(|t, _, queue| {
        let at = t.alloc(4096);
        queue.add(t, &[(at, 0, false), (at, 0, true)]);
        queue.kick(t);
        queue.add(t, &[(at, 0, true)]);
        queue.kick(t);
    });
}

#[test]
fn writable_before_readable() {
    suffer(|t, _, queue| {
        let at = t.alloc(4096);
        queue.add(
            t,
            &[(at, 16, true), (at + 512, 512, false), (at + 16, 1, true)],
        );
        queue.kick(t);
    });
}

#[test]
fn tables_in_tables_and_tables_of_odd_sizes() {
    suffer(|t, _, queue| {
        let at = t.alloc(4096);
        for length in [0, 1, 15, 17, 0x10_0000, u32::MAX] {
            queue.descriptor(t, 0, at, length, INDIRECT, 0);
            queue.offer(t, 0);
            queue.kick(t);
        }
        // A table that holds a table, and one that is followed by more.
        t.writeq(at, at);
        t.writel(at + 8, 16);
        t.writew(at + 12, INDIRECT);
        queue.descriptor(t, 0, at, 16, INDIRECT, 0);
        queue.descriptor(t, 1, at, 16, INDIRECT | NEXT, 0);
        for head in 0..2 {
            queue.offer(t, head);
            queue.kick(t);
        }
        // One that bites its tail.
        t.writew(at + 12, NEXT);
        t.writew(at + 14, 0);
        queue.offer(t, 0);
        queue.kick(t);
    });
}

#[test]
fn an_index_that_runs_away() {
    suffer(|t, _, queue| {
        let index = queue.size + 7;
        queue.set_available_index(t, index);
        queue.kick(t);
        queue.set_available_index(t, 0xffff);
        queue.kick(t);
    });
}

#[test]
fn rings_that_are_not_in_memory() {
    let mut t = Qtest::start(ARGS);
    for slot in SLOTS {
        for address in [0u64, 0xffff_ffff_ffff_fff0, 0xf000_0000, 0x3ff_fff0] {
            let mut device = Device::find(&mut t, slot);
            device.negotiate(&mut t, u64::MAX);
            let common = device.common();
            t.writew(common + 22, 0);
            for offset in [32, 40, 48] {
                t.writel(common + offset, address as u32);
                t.writel(common + offset + 4, (address >> 32) as u32);
            }
            t.writew(common + 28, 1);
            let all =
                status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
            device.set_status(&mut t, all);
            t.vm.assert_alive();
        }
        works(&mut t, slot);
    }
}

#[test]
fn a_queue_that_is_not_there() {
    suffer(|t, device, _| {
        let common = device.common();
        for index in [1024u16, 0x8000, 0xffff] {
            t.writew(common + 22, index);
            // The reference stays with the queue that was chosen before.
            assert!(
                t.readw(common + 24) == 0 || tests::binary::is_stand_in(),
                "a queue {index}"
            );
            t.writew(common + 24, 4);
            t.writew(common + 28, 1);
        }
    });
}

#[test]
fn a_kick_before_there_is_a_driver() {
    let mut t = Qtest::start(ARGS);
    for slot in SLOTS {
        let (device, queue) = driven(&mut t, slot);
        device.reset(&mut t);
        queue.kick(&mut t);
        t.vm.assert_alive();
        works(&mut t, slot);
    }
}

#[test]
fn sizes_that_are_no_power_of_two_or_grow() {
    suffer(|t, device, _| {
        device.reset(t);
        let common = device.common();
        t.writew(common + 22, 0);
        for size in [0u16, 3, 1025, 0x8000, 0xffff] {
            t.writew(common + 24, size);
            let got = t.readw(common + 24);
            assert!(got <= 1024, "{size} gave {got}");
        }
    });
}

#[test]
fn features_that_were_not_offered() {
    suffer(|t, device, _| {
        device.reset(t);
        device.set_status(t, status::ACKNOWLEDGE | status::DRIVER);
        let common = device.common();
        for half in 0..4 {
            t.writel(common + 8, half);
            t.writel(common + 12, u32::MAX);
        }
        let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        device.set_status(t, wanted);
        if !tests::binary::is_stand_in() {
            assert_eq!(device.status(t) & status::FEATURES_OK, 0);
        }
    });
}

#[test]
fn every_register_of_every_structure_with_anything() {
    suffer(|t, device, _| {
        let base = device.common() & !0xffff;
        let mut state = 99u32;
        for _ in 0..600 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = base + u64::from(state >> 16 & 0x3fff);
            match state >> 8 & 3 {
                0 => t.writeb(at, state as u8),
                1 => t.writew(at & !1, state as u16),
                2 => t.writel(at & !3, state),
                _ => {
                    t.readl(at & !3);
                }
            }
        }
    });
}

#[test]
fn configuration_space_with_anything() {
    for builder in [VmBuilder::new().idle(), VmBuilder::new().idle_pc()] {
        scribble_over_configuration_space(Qtest::start_with(builder, ARGS));
    }
}

fn scribble_over_configuration_space(mut t: Qtest) {
    let mut state = 7u32;
    for f in functions(&mut t) {
        for offset in (0..=255u8).step_by(4) {
            // PCIEXBAR and the base of power management may lie over what the test itself uses.
            let chipset = [0, 1, 31].contains(&(f.devfn >> 3));
            if chipset && (0x40..0xa0).contains(&offset) {
                continue;
            }
            for value in [0xffff_ffff, 0, state] {
                f.write32(&mut t, offset, value);
                f.read32(&mut t, offset);
            }
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        }
        t.vm.assert_alive();
    }
    t.vm.query("query-pci");
    t.reset();
    for slot in SLOTS {
        works(&mut t, slot);
    }
}

#[test]
fn hot_plug_ports_with_anything() {
    let mut t = Qtest::start_with(VmBuilder::new().idle_pc(), ARGS);
    let mut state = 11u32;
    for port in (0xae00..0xae14).chain(0xafe0..0xafe4) {
        for value in [0, 0xff, 2, state as u8] {
            // What lets go of the devices is another test's matter.
            if !(0xae08..0xae0c).contains(&port) {
                t.outb(port, value);
            }
            t.inb(port);
            t.inl(port);
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    }
    t.reset();
    for slot in SLOTS {
        works(&mut t, slot);
    }
    t.outl(0xae08, u32::MAX);
    for slot in 0..=u8::MAX {
        t.outl(0xae08, 1 << (slot & 31));
    }
    t.vm.qmp().event("DEVICE_DELETED");
    t.vm.query("query-pci");
    t.reset();
    for slot in SLOTS {
        assert_eq!(Function::at(slot, 0).read16(&mut t, 0), 0xffff);
    }
}

#[test]
fn base_addresses_over_everything_else() {
    let mut t = Qtest::start(ARGS);
    for slot in SLOTS {
        let f = Function::at(slot, 0);
        // Over memory, over the interrupt controllers, over each other, at the end of all addresses.
        for address in [
            0u32,
            0x10_0000,
            0xfec0_0000,
            0xfee0_0000,
            0xe000_0000,
            0xffff_f000,
        ] {
            for bar in 0..6 {
                f.place(&mut t, bar, address);
            }
            f.enable(&mut t);
            t.readl(u64::from(address));
            t.vm.query("query-pci");
        }
    }
    t.vm.assert_alive();
    t.reset();
    for slot in SLOTS {
        works(&mut t, slot);
    }
}
