//! Properties of devices in the object tree, as they turned out.

use serde_json::{Value, json};
use tests::VmBuilder;

#[test]
fn properties_show_what_was_chosen() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-smp", "2", "-chardev", "null,id=c0"])
        .args(["-device", "isa-serial,id=s0,chardev=c0"])
        .args(["-blockdev", "null-co,node-name=n"])
        .args(["-object", "iothread,id=io0"])
        .args(["-device", "virtio-blk-pci,drive=n,id=d0,iothread=io0"])
        .args(["-object", "rng-builtin,id=r"])
        .args(["-device", "virtio-rng-pci,id=r0,rng=r"])
        .args(["-device", "virtio-serial-pci,id=vs"])
        .args(["-device", "virtserialport,id=p0"])
        .args(["-blockdev", "null-co,node-name=m"])
        .args(["-device", "virtio-scsi-pci,id=vscsi"])
        .args(["-device", "scsi-hd,id=h0,drive=m,scsi-id=2,serial=abc"])
        .args(["-device", "scsi-cd,id=c0"])
        .start();
    let faults: Vec<_> = [
        ("s0", "index", json!(0)),
        ("s0", "iobase", json!(0x3f8)),
        ("s0", "irq", json!(4)),
        ("d0", "num-queues", json!(2)),
        ("d0", "vectors", json!(3)),
        ("d0", "bootindex", json!(-1)),
        ("d0", "rerror", json!("auto")),
        ("d0", "drive", json!("n")),
        ("d0", "iothread", json!("/objects/io0")),
        ("d0", "parent_bus", json!("/machine/q35/pcie.0")),
        ("r0", "rng", json!("/objects/r")),
        ("p0", "nr", json!(1)),
        ("vscsi", "num_queues", json!(2)),
        ("vscsi", "vectors", json!(5)),
        ("h0", "scsi-id", json!(2)),
        ("h0", "lun", json!(0)),
        ("h0", "channel", json!(0)),
        ("h0", "product", json!("QEMU HARDDISK")),
        ("h0", "ver", json!("2.5+")),
        ("h0", "device_id", json!("abc")),
        ("h0", "discard_granularity", json!(4096)),
        ("h0", "max_unmap_size", json!(1 << 30)),
        ("h0", "drive", json!("m")),
        ("c0", "scsi-id", json!(0)),
        ("c0", "product", json!("QEMU CD-ROM")),
        ("c0", "drive", json!("")),
        (
            "h0",
            "parent_bus",
            json!("/machine/peripheral/vscsi/virtio-backend/vscsi.0"),
        ),
        (
            "p0",
            "parent_bus",
            json!("/machine/peripheral/vs/virtio-backend/vs.0"),
        ),
    ]
    .into_iter()
    .filter_map(|(id, property, expected)| {
        let path = format!("/machine/peripheral/{id}");
        let got = vm.exec("qom-get", json!({"path": path, "property": property}));
        (got != expected).then(|| format!("{id}.{property}: {got} is not {expected}"))
    })
    .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // What links name is there.
    for path in [
        "/machine/q35/pcie.0",
        "/machine/peripheral/d0/virtio-backend",
    ] {
        vm.exec("qom-list", json!({"path": path}));
    }
    let tree = vm.exec(
        "human-monitor-command",
        json!({"command-line": "info qtree"}),
    );
    let tree = tree.as_str().unwrap_or_default();
    assert!(tree.contains("iobase = 1016 (0x3f8)"), "{tree}");
    assert!(tree.contains("irq = 4 (0x4)"), "{tree}");
}

#[test]
fn a_processor_has_no_die_where_there_is_one_only() {
    let die = |smp: &str| -> Value {
        let mut vm = VmBuilder::new().stopped().args(["-smp", smp]).start();
        let cpus = vm.query("query-cpus-fast");
        cpus[1]["props"]["die-id"].clone()
    };
    assert_eq!(die("2"), Value::Null);
    assert_eq!(die("2,dies=2"), json!(1));
}
