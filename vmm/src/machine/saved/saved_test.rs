use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devices::bus::{Access, BusDevice};
use devices::effect::Effect;
use devices::model::{Generation, GenerationState};
use devices::registry::Attachable;
use vmstate::{Section, StateAccess};

use super::super::plug::BusKind;
use super::rig::{DEVICES, PC, Q35, Rig};
use super::*;
use crate::vcpu::Entry;
use crate::vcpu::state::PROTECTED_GDT;

const BOARDS: [&str; 2] = [Q35, PC];

fn save(rig: &mut Rig) -> Vec<Section> {
    rig.machine().save().unwrap()
}

/// A section's body, for messages.
fn text(section: &Section) -> String {
    let value: ciborium::Value = ciborium::from_reader(section.body.as_slice()).unwrap();
    format!("{} of {}: {value:?}", section.id, section.instance)
}

fn assert_same(one: &[Section], other: &[Section], what: &str) {
    let texts = |sections: &[Section]| sections.iter().map(text).collect::<Vec<_>>();
    for (one, other) in texts(one).into_iter().zip(texts(other)) {
        assert_eq!(one, other, "{what}");
    }
    assert_eq!(one, other, "{what}");
}

#[test]
fn every_device_is_saved_or_says_that_it_keeps_nothing() {
    for board in BOARDS {
        let mut rig = Rig::full(board);
        let sections = save(&mut rig);
        let names: BTreeSet<&str> = sections.iter().map(|s| s.instance.as_str()).collect();
        let machine = rig.machine();
        assert_eq!(machine.migration_blockers(), Vec::<String>::new());
        for device in &machine.devices {
            let bus = machine.buses.iter().find(|bus| bus.name == device.bus);
            // Those travel with the device that they are in.
            let inside = matches!(bus.unwrap().kind, BusKind::Child { .. });
            let stateless = parts::STATELESS.contains(&device.options.driver.name());
            let saved = names.contains(device.instance().as_str());
            let times = [inside, stateless, saved].iter().filter(|is| **is).count();
            assert_eq!(times, 1, "{}", device.instance());
        }
        for fixed in &machine.fixed {
            let saved = names.contains(machine.instance_of(&fixed.key).as_str());
            assert_ne!(
                saved,
                parts::STATELESS.contains(&fixed.driver),
                "{}",
                fixed.key
            );
        }
        for plugged in machine.pci.functions() {
            let name = machine.instance_of(&plugged.id);
            assert!(names.contains(name.as_str()), "{name}");
        }
        let keys: BTreeSet<_> = sections.iter().map(|s| (&s.id, &s.instance)).collect();
        assert_eq!(keys.len(), sections.len(), "a name is there twice");
    }
}

#[test]
fn state_goes_into_another_machine_of_the_kind() {
    for board in BOARDS {
        let (mut source, mut target) = (Rig::full(board), Rig::full(board));
        let fresh = save(&mut source);
        source.use_all();
        let saved = save(&mut source);
        let changed = fresh.iter().zip(&saved).filter(|(a, b)| a != b).count();
        assert!(changed + 4 >= saved.len(), "{changed} of {}", saved.len());
        assert_eq!(
            target.machine().check_config(&source.machine().config()),
            Ok(())
        );
        assert_eq!(target.machine().restore(saved.clone()), Ok(()));
        assert_same(&save(&mut target), &saved, "restored");
        // Queues go out, to devices that have nothing to do, and come back.
        for rig in [&mut source, &mut target] {
            rig.machine().resume();
            rig.machine().quiesce();
        }
        assert_same(&save(&mut target), &save(&mut source), "after a while");
        // An older state goes into a machine that was used.
        assert_eq!(target.machine().restore(fresh.clone()), Ok(()));
        assert_same(&save(&mut target), &fresh, "restored over another one");
        target.machine().reset().unwrap();
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let mut rig = Rig::full(Q35);
    let saved = save(&mut rig);
    let with = |change: &dyn Fn(&mut Vec<Section>)| {
        let mut sections = saved.clone();
        change(&mut sections);
        sections
    };
    let at = |name: &str| saved.iter().position(|s| s.instance == name).unwrap();
    let disk = at("/machine/peripheral/disk0");
    let cases: [(Vec<Section>, &str); 8] = [
        (
            with(&|sections| drop(sections.remove(disk))),
            "Section 'virtio-pci' of /machine/peripheral/disk0 is missing",
        ),
        (
            with(&|sections| sections.push(sections[disk].clone())),
            "Section 'virtio-pci' of /machine/peripheral/disk0 is there twice",
        ),
        (
            with(&|sections| sections[disk].instance.push('x')),
            "Section 'virtio-pci' of /machine/peripheral/disk0 is missing",
        ),
        (
            with(&|sections| {
                let mut more = sections[disk].clone();
                more.instance = "/machine/peripheral/other".into();
                sections.push(more);
            }),
            "Section 'virtio-pci' of /machine/peripheral/other: there is no such thing here",
        ),
        (
            with(&|sections| sections[disk].id = "rtl8139".into()),
            "Section 'virtio-pci' of /machine/peripheral/disk0 is missing",
        ),
        (
            with(&|sections| sections[disk].version = 7),
            "Device /machine/peripheral/disk0: Section 'virtio-pci': version 7 is not supported \
             (supported: 1)",
        ),
        (
            with(&|sections| {
                let generation = Generation::build(&api_spec::VmgenidProps {
                    guid: "auto".into(),
                });
                let state = GenerationState(generation.unwrap());
                sections[disk].body = state.save_section("").unwrap().body;
            }),
            "Device /machine/peripheral/disk0: Section 'virtio-pci': Semantic(None, \"unknown \
             field `guid`, expected one of `config`, `msix`, `offered`, `accepted`, `status`, \
             `isr`, `generation`, `config_vector`, `selectors`, `queues`, `device`\")",
        ),
        (Vec::new(), "Section 'machine' of /machine is missing"),
    ];
    for (sections, error) in cases {
        assert_eq!(rig.machine().restore(sections), Err(error.into()));
    }
    assert_eq!(rig.machine().restore(saved.clone()), Ok(()));
}

/// A device that has nothing to save and is in no list of such.
struct Silent;

impl BusDevice for Silent {
    fn read(&mut self, _access: Access, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _access: Access, _data: &[u8]) -> Effect {
        Effect::None
    }

    fn reset(&mut self) {}
}

/// Counts how often it was told that all is restored.
#[derive(Default)]
struct Waits(u32);

impl vmstate::Snapshot for Waits {
    type State = u32;
    const ID: &'static str = "waits";
    const VERSION: u32 = 1;

    fn save(&self) -> u32 {
        0
    }

    fn restore(&mut self, _state: u32) -> Result<(), vmstate::StateError> {
        self.0 = 0;
        Ok(())
    }
}

impl BusDevice for Waits {
    fn read(&mut self, _access: Access, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _access: Access, _data: &[u8]) -> Effect {
        Effect::None
    }

    fn reset(&mut self) {}

    fn state(&mut self) -> Option<&mut dyn StateAccess> {
        Some(self)
    }

    fn settle(&mut self) {
        self.0 += 1;
    }
}

#[test]
fn devices_hear_when_all_is_restored() {
    let mut rig = Rig::full(Q35);
    let waits = Arc::new(Mutex::new(Waits::default()));
    rig.machine().fixed.push(super::super::Fixed {
        key: "/waits".into(),
        driver: "waits",
        device: waits.clone(),
        regions: Vec::new(),
    });
    let mut saved = save(&mut rig);
    assert_eq!(rig.machine().restore(saved.clone()), Ok(()));
    assert_eq!(waits.lock().unwrap().0, 1);
    // What could not be restored as a whole has nothing to go on from.
    saved.push(Section::pack("more", "/machine", 1, &0).unwrap());
    assert!(rig.machine().restore(saved).is_err());
    assert_eq!(waits.lock().unwrap().0, 0);
}

#[test]
fn what_keeps_a_machine_is_told_and_refused() {
    for (options, strict) in [("-only-migratable", true), ("", false)] {
        let mut rig = Rig::new(&[DEVICES, Q35, options]);
        let machine = rig.machine();
        let check = |machine: &Machine, driver: &str, built: &Attachable, before: &[String]| {
            let checked = machine.check_migratable(driver, built, before);
            checked.map_err(|error| error.desc)
        };
        let refused = |text: &str| if strict { Err(text.to_owned()) } else { Ok(()) };
        let why = "it is bound to its place".to_owned();
        let own = why.clone();
        let held = machine.writers.block(Box::new(move || Some(own.clone())));
        assert_eq!(machine.migration_blockers().first(), Some(&why));
        assert_eq!(
            check(machine, "net", &Attachable::Port, &[]),
            refused(
                "disallowing migration blocker (--only-migratable) for: it is bound to its place"
            )
        );
        assert_eq!(check(machine, "net", &Attachable::Port, &[why]), Ok(()));
        drop(held);
        let silent = || Attachable::isa(Arc::new(Mutex::new(Silent)), Vec::new());
        assert_eq!(
            check(machine, "silent", &silent(), &[]),
            refused("Device silent is not migratable, but --only-migratable was specified")
        );
        assert_eq!(check(machine, "pvpanic", &silent(), &[]), Ok(()));
    }
}

/// States come from anywhere: a damaged one is refused, or taken and lived with.
#[test]
fn damaged_state_does_no_harm() {
    for board in BOARDS {
        let mut source = Rig::full(board);
        source.use_all();
        let saved = save(&mut source);
        let mut target = Rig::full(board);
        let (mut refused, mut dice) = (0, 0x9e37_79b9_7f4a_7c15_u64);
        let mut below = |end: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) as usize % end
        };
        for round in 0..400 {
            let mut sections = saved.clone();
            let section = &mut sections[below(saved.len())];
            let at = below(section.body.len());
            match below(8) {
                0 => section.body.truncate(at),
                1 => section.body.insert(at, below(256) as u8),
                _ => section.body[at] ^= 1 << below(8),
            }
            match target.machine().restore(sections) {
                Err(_) => refused += 1,
                Ok(()) if round % 8 == 0 => {
                    target.machine().resume();
                    target.machine().quiesce();
                }
                Ok(()) => {}
            }
        }
        assert!(refused > 50, "{refused}");
        assert_eq!(target.machine().restore(saved.clone()), Ok(()));
        assert_same(&save(&mut target), &saved, "restored after all of that");
    }
}

#[test]
fn disks_with_other_blocks_are_told_apart() {
    let with = |options: &str| {
        let disk = format!("-machine pc -device virtio-blk-pci,drive=d0,id=disk0{options}");
        Rig::new(&[DEVICES, &disk]).machine().config()
    };
    let plain = with("");
    assert_eq!(plain.check(&with(",logical_block_size=512")), Ok(()));
    let large = with(",logical_block_size=4096,physical_block_size=4096");
    assert_eq!(
        plain.check(&large),
        Err(
            "Property 'logical_block_size' of device /machine/peripheral/disk0 received is \
             '4096' and local is '512'"
                .into()
        )
    );
}

fn config() -> MachineConfig {
    let device = |name: &str, vectors: &str| DeviceConfig {
        path: format!("/machine/peripheral/{name}"),
        driver: "virtio-blk-pci".into(),
        place: "pcie.0/02.0".into(),
        properties: [("vectors".to_owned(), vectors.to_owned())].into(),
    };
    MachineConfig {
        machine: "pc-q35-10.0".into(),
        accel: "kvm".into(),
        cpus: 2,
        topology: [2, 1, 1, 1, 1, 2],
        cpu: "host".into(),
        kernel: true,
        uuid: None,
        ram: vec![("pc.ram".into(), 0x800_0000)],
        devices: vec![device("x", "3"), device("y", "4")],
    }
}

#[test]
fn machines_that_are_not_alike_are_told_apart() {
    type Change<'a> = &'a dyn Fn(&mut MachineConfig);
    let cases: [(Change, &str); 14] = [
        (
            &|c| c.machine = "pc-i440fx-10.0".into(),
            "Machine type received is 'pc-i440fx-10.0' and local is 'pc-q35-10.0'",
        ),
        (
            &|c| c.accel = "qtest".into(),
            "Accelerator received is 'qtest' and local is 'kvm'",
        ),
        (
            &|c| c.cpu = "qemu64".into(),
            "CPU model received is 'qemu64' and local is 'host'",
        ),
        (
            &|c| c.cpus = 1,
            "Number of CPUs received is '1' and local is '2'",
        ),
        (
            &|c| c.topology = [1, 1, 1, 2, 1, 2],
            "CPU topology received is 'sockets=1,dies=1,modules=1,cores=2,threads=1,maxcpus=2' and \
             local is 'sockets=2,dies=1,modules=1,cores=1,threads=1,maxcpus=2'",
        ),
        (
            &|c| c.kernel = false,
            "Kernel received is 'absent' and local is 'present'",
        ),
        (
            &|c| c.ram[0].1 = 0x1000_0000,
            "Size mismatch: pc.ram: 0x10000000 != 0x8000000: Invalid argument",
        ),
        (
            &|c| c.ram[0].0 = "mem0".into(),
            "Unknown ramblock \"mem0\", cannot accept migration",
        ),
        (&|c| c.ram.clear(), "The state has no RAM block \"pc.ram\""),
        (
            &|c| c.devices[1].path = "/machine/peripheral/z".into(),
            "Device /machine/peripheral/z (virtio-blk-pci) is missing here",
        ),
        (
            &|c| c.devices.truncate(1),
            "Device /machine/peripheral/y (virtio-blk-pci) is here, and the state has none",
        ),
        (
            &|c| c.devices[0].driver = "virtio-net-pci".into(),
            "Type of device /machine/peripheral/x received is 'virtio-net-pci' and local is \
             'virtio-blk-pci'",
        ),
        (
            &|c| c.devices[0].place = "pcie.0/05.0".into(),
            "Place of device /machine/peripheral/x received is 'pcie.0/05.0' and local is \
             'pcie.0/02.0'",
        ),
        (
            &|c| _ = c.devices[1].properties.insert("vectors".into(), "9".into()),
            "Property 'vectors' of device /machine/peripheral/y received is '9' and local is '4'",
        ),
    ];
    for (change, error) in cases {
        let mut received = config();
        change(&mut received);
        assert_eq!(config().check(&received), Err(error.into()));
    }
    let twice = MachineConfig {
        devices: [config().devices, config().devices].concat(),
        ..config()
    };
    assert_eq!(
        config().check(&twice),
        Err("A device is there twice".into())
    );
    let mut other = config();
    other.uuid = Some("a".into());
    other.devices[0].properties.insert("new".into(), "1".into());
    assert_eq!(config().check(&other), Ok(()));
}

#[test]
fn a_machine_tells_what_it_is_made_of() {
    let mut rig = Rig::full(Q35);
    let config = rig.machine().config();
    assert_eq!(config.machine, "pc-q35-10.0");
    assert_eq!((config.accel.as_str(), config.cpus), ("qtest", 2));
    assert_eq!(config.ram, [("pc.ram".to_owned(), 16 << 20)]);
    assert!(!config.kernel);
    let found = |path: &str| config.devices.iter().find(|d| d.path == path);
    let disk = found("/machine/peripheral/disk0").unwrap();
    assert_eq!(
        (disk.driver.as_str(), disk.place.as_str()),
        ("virtio-blk-pci", "rp0/00.0")
    );
    assert_eq!(disk.properties["num-queues"], "2");
    assert_eq!(disk.properties["vectors"], "3");
    for (path, driver) in [
        ("/machine/anonymous/isa.0/0x3f8", "isa-serial"),
        ("/machine/anonymous/isa.0/0x505", "pvpanic"),
        ("/machine/anonymous/isa.0/0x501", "isa-debug-exit"),
        ("/machine/peripheral/gen0", "vmgenid"),
    ] {
        assert_eq!(
            found(path).map(|d| d.driver.as_str()),
            Some(driver),
            "{path}"
        );
    }
    // As it travels.
    let mut bytes = Vec::new();
    ciborium::into_writer(&config, &mut bytes).unwrap();
    let back: MachineConfig = ciborium::from_reader(bytes.as_slice()).unwrap();
    assert_eq!(back, config);
    let other = MachineConfig { uuid: None, ..back };
    assert_eq!(rig.machine().check_config(&other), Ok(()));
    let nil = "00000000-0000-0000-0000-000000000000";
    assert_eq!(
        rig.machine().check_uuid(&other),
        Err(format!(
            "UUID received is '{nil}' and local is '12345678-1234-1234-1234-123456789abc'"
        ))
    );
    assert_eq!(rig.machine().check_uuid(&config), Ok(()));
}

#[test]
fn no_device_keeps_a_machine_without_other_processes() {
    for board in BOARDS {
        let mut rig = Rig::full(&format!("{board} -only-migratable"));
        assert_eq!(rig.machine().migration_blockers(), Vec::<String>::new());
    }
}

#[test]
fn devices_that_came_and_went_are_where_they_are() {
    const BARE: &str = "-accel qtest -nodefaults -m 16";
    // One comes into a slot; the other machine has it from the start.
    let ports = "-machine q35 -device pcie-root-port,id=rp0,chassis=1";
    let mut source = Rig::new(&[BARE, ports]);
    source.plug("virtio-rng-pci,id=rng0,bus=rp0");
    let mut target = Rig::new(&[BARE, ports, "-device virtio-rng-pci,id=rng0,bus=rp0"]);
    let moved = |source: &mut Rig, target: &mut Rig| {
        let config = source.machine().config();
        assert_eq!(target.machine().check_config(&config), Ok(()));
        let saved = save(source);
        assert_ne!(save(target), saved);
        assert_eq!(target.machine().restore(saved.clone()), Ok(()));
        assert_same(&save(target), &saved, "moved");
    };
    moved(&mut source, &mut target);
    assert!(
        target
            .machine()
            .devices
            .iter()
            .any(|device| device.hotplugged)
    );

    // The first one without an id goes; the other machine never had it.
    let devices = "-machine pc -device virtio-rng-pci,addr=5 -device virtio-balloon-pci,addr=6";
    let mut source = Rig::new(&[BARE, devices]);
    let first = "/machine/peripheral-anon/device[0]";
    assert!(source.machine().request_unplug(first).unwrap().is_none());
    let removed = source.machine().eject_slots(1 << 5).unwrap();
    removed.stop_queues();
    let ticket = removed.ticket;
    removed.free();
    source.machine().has_left(ticket);
    source.out(0x70, 0x2f);
    let mut target = Rig::new(&[BARE, "-machine pc -device virtio-balloon-pci,addr=6"]);
    moved(&mut source, &mut target);
    let mut other = Rig::new(&[BARE, devices]);
    let config = source.machine().config();
    assert_eq!(
        other.machine().check_config(&config),
        Err(
            "Device /machine/anonymous/pci.0/05.0 (virtio-rng-pci) is here, and the state has none"
                .into()
        )
    );
}

/// Counts in a register, and writes that to memory and to the UART's scratch register.
const COUNTER: [u8; 14] = [
    0x43, // inc ebx
    0x89, 0x1d, 0x00, 0x00, 0x02, 0x00, // mov [0x20000], ebx
    0x88, 0xd8, // mov al, bl
    0xee, // out dx, al
    0xeb, 0xf4, // jmp to the start
    0x90, 0x90,
];
const CODE: u64 = 0x8000;
const GDT: u64 = 0x5000;
const COUNT: u64 = 0x20000;

fn count(rig: &mut Rig) -> u32 {
    let mut bytes = [0; 4];
    let ram = rig.machine().ram_view();
    assert!(ram.blocks[0].read(COUNT, &mut bytes));
    u32::from_le_bytes(bytes)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn registers_of(rig: &mut Rig) -> String {
    let view = rig.machine().cpu(0).unwrap();
    format!("{:?} {:?}", view.regs, view.sregs)
}

fn stop(rig: &mut Rig) {
    let machine = rig.machine();
    machine.request_pause();
    wait_until("parked", || machine.all_parked());
    machine.quiesce();
}

#[test]
fn a_guest_goes_on_in_another_machine() {
    let kvm = DEVICES.replace("-accel qtest", "-accel kvm");
    for board in BOARDS {
        let make = || Rig::try_new(&[&kvm, board]);
        let Ok(mut source) = make() else {
            eprintln!("No KVM here");
            return;
        };
        source.use_all();
        let ram = source.machine().ram_view();
        ram.blocks[0].write(CODE, &COUNTER);
        let table: Vec<u8> = PROTECTED_GDT.iter().flat_map(|e| e.to_le_bytes()).collect();
        ram.blocks[0].write(GDT, &table);
        let entry = Entry::Protected {
            eip: CODE as u32,
            ebx: 0,
            esi: 0,
            gdt: GDT,
        };
        source.machine().vcpus.reset(entry).unwrap();
        source.machine().resume();
        wait_until("it counts", || count(&mut source) > 1000);
        stop(&mut source);
        let (saved, at) = (save(&mut source), count(&mut source));
        let registers = registers_of(&mut source);

        let mut target = make().unwrap();
        let config = source.machine().config();
        assert_eq!(target.machine().check_config(&config), Ok(()));
        let (from, to) = (source.machine().ram_view(), target.machine().ram_view());
        let mut bytes = vec![0; from.blocks[0].len as usize];
        assert!(from.blocks[0].read(0, &mut bytes) && to.blocks[0].write(0, &bytes));
        drop(source);
        assert_eq!(target.machine().restore(saved.clone()), Ok(()));
        assert_eq!(count(&mut target), at, "it does not run yet");
        assert_eq!(registers_of(&mut target), registers);
        // Counters of processors and timers go on at once.
        let still = |sections: &[Section]| -> Vec<Section> {
            let moves = ["cpu", "kvm-clock", "i8254"];
            let still = sections.iter().filter(|s| !moves.contains(&s.id.as_str()));
            still.cloned().collect()
        };
        assert_same(&still(&save(&mut target)), &still(&saved), "restored");
        target.machine().resume();
        wait_until("it goes on", || count(&mut target) > at.wrapping_add(1000));
        stop(&mut target);
        // And back to where it was.
        assert_ne!(registers_of(&mut target), registers);
        assert_eq!(target.machine().restore(saved.clone()), Ok(()));
        assert_eq!(registers_of(&mut target), registers);
        assert_same(&still(&save(&mut target)), &still(&saved), "restored again");
        target.machine().reset().unwrap();
    }
}
