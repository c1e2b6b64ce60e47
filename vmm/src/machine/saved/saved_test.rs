use std::collections::BTreeSet;

use devices::model::{Generation, GenerationState};
use vmstate::{Section, StateAccess};

use super::super::plug::BusKind;
use super::rig::{DEVICES, PC, Q35, Rig};
use super::*;

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
        assert_eq!(names.len(), sections.len(), "an instance is there twice");
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
fn what_keeps_a_machine_is_told_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer");
    let peer = format!(
        "-machine q35,memory-backend=m0 -accel qtest -nodefaults -m 16 \
         -object memory-backend-memfd,id=m0,size=16M,share=on \
         -chardev socket,id=peer,path={},server=on,wait=off \
         -netdev vhost-user,chardev=peer,id=n0 -device virtio-net-pci,netdev=n0,id=net0",
        path.display()
    );
    let why =
        "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature.";
    let mut rig = Rig::new(&[&peer]);
    assert_eq!(rig.machine().migration_blockers(), [why]);
    drop(rig);
    let refused = Rig::try_new(&[&peer, "-only-migratable"]).err().unwrap();
    assert_eq!(
        refused,
        format!(
            "-device virtio-net-pci,netdev=n0,id=net0: disallowing migration blocker \
             (--only-migratable) for: {why}"
        )
    );
    // All others migrate.
    let mut rig = Rig::new(&[DEVICES, Q35, "-only-migratable"]);
    assert_eq!(rig.machine().migration_blockers(), Vec::<String>::new());
}
