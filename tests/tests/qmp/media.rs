//! Trays and media of CD-ROM drives, and the options that make them.

use serde_json::{Value, json};
use tests::{Vm, VmBuilder, disk};

fn moved(vm: &mut Vm) -> (String, String, bool) {
    let event = vm.qmp().event("DEVICE_TRAY_MOVED");
    let data = &event["data"];
    let text = |key: &str| data[key].as_str().expect("text").to_owned();
    let open = data["tray-open"].as_bool().expect("a flag");
    (text("device"), text("id"), open)
}

fn drive(vm: &mut Vm, index: usize) -> Value {
    vm.query("query-block")[index].clone()
}

#[test]
fn a_cdrom_option_makes_a_drive_with_a_controller() {
    let mut vm = VmBuilder::new().stopped();
    let iso = disk::raw(vm.dir(), "a,b.iso", 1 << 20);
    let hd = disk::raw(vm.dir(), "hd.img", 1 << 20);
    vm = vm.arg("-cdrom").arg(&iso).arg("-hda").arg(&hd);
    let mut vm = vm.args(["-drive", "media=cdrom,id=empty"]).start();
    let cd = drive(&mut vm, 0);
    assert_eq!(cd["device"], "scsi0-cd2");
    assert_eq!(cd["removable"], true);
    assert_eq!(
        (&cd["locked"], &cd["tray_open"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(cd["inserted"]["file"], json!(iso));
    assert_eq!(
        (&cd["inserted"]["ro"], &cd["inserted"]["drv"]),
        (&json!(true), &json!("raw"))
    );
    let hd = drive(&mut vm, 1);
    assert_eq!(
        (&hd["device"], &hd["removable"]),
        (&json!("virtio0"), &json!(false))
    );
    let empty = drive(&mut vm, 2);
    assert_eq!(
        (&empty["device"], empty.get("inserted")),
        (&json!("empty"), None)
    );
    let tree = vm.qmp().hmp("info qtree");
    for words in ["auto-scsi0", "scsi-cd", "virtio-blk-pci"] {
        assert!(tree.contains(words), "{words} in {tree}");
    }
    assert_eq!(tree.matches("dev: virtio-scsi-pci").count(), 1, "{tree}");
    vm.exec("eject", json!({"device": "scsi0-cd2"}));
    let (device, id, open) = moved(&mut vm);
    assert_eq!((device.as_str(), open), ("scsi0-cd2", true));
    assert_eq!(json!(id), cd["qdev"]);
    let cd = drive(&mut vm, 0);
    assert_eq!((cd.get("inserted"), &cd["tray_open"]), (None, &json!(true)));
    // Its file is let go of.
    assert_eq!(
        vm.query("query-named-block-nodes").as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn media_are_exchanged_step_by_step() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-device", "virtio-scsi-pci,id=scsi0"])
        .args(["-device", "scsi-cd,id=cd0,bus=scsi0.0"])
        .args(["-blockdev", "null-co,node-name=n,read-only=on,size=1048576"])
        .args(["-blockdev", "null-co,node-name=m,read-only=on"])
        .start();
    let id = json!({"id": "cd0"});
    let insert = |node: &str| json!({"id": "cd0", "node-name": node});
    let error = vm.refused("blockdev-insert-medium", insert("n"));
    assert_eq!(error.desc, "Tray of the device is not open");
    let error = vm.refused("blockdev-remove-medium", id.clone());
    assert_eq!(error.desc, "Tray of device 'cd0' is not open");
    vm.exec("blockdev-open-tray", id.clone());
    assert_eq!(moved(&mut vm), (String::new(), "cd0".to_owned(), true));
    vm.exec("blockdev-open-tray", id.clone());
    vm.exec("blockdev-remove-medium", id.clone());
    let error = vm.refused("blockdev-insert-medium", insert("x"));
    assert_eq!(error.desc, "Node 'x' not found");
    vm.exec("blockdev-insert-medium", insert("n"));
    let error = vm.refused("blockdev-insert-medium", insert("n"));
    assert_eq!(error.desc, "Node 'n' is already in use");
    let error = vm.refused("blockdev-insert-medium", insert("m"));
    assert_eq!(error.desc, "There already is a medium in the device");
    let error = vm.refused("blockdev-del", json!({"node-name": "n"}));
    assert_eq!(error.desc, "Node n is in use");
    vm.exec("blockdev-close-tray", id.clone());
    assert_eq!(moved(&mut vm), (String::new(), "cd0".to_owned(), false));
    vm.exec("blockdev-close-tray", id.clone());
    let cd = drive(&mut vm, 0);
    assert_eq!((&cd["qdev"], &cd["device"]), (&json!("cd0"), &json!("")));
    assert_eq!(cd["inserted"]["node-name"], "n");
    vm.qmp().assert_silent(std::time::Duration::from_millis(50));
    let path = json!({"id": "/machine/peripheral/cd0", "force": true});
    vm.exec("eject", path);
    assert!(moved(&mut vm).2);
    vm.exec("blockdev-del", json!({"node-name": "n"}));
}

#[test]
fn files_are_changed() {
    let vm = VmBuilder::new().stopped();
    let one = disk::raw(vm.dir(), "one.iso", 1 << 20);
    let two = disk::raw(vm.dir(), "two.iso", 2 << 20);
    let mut vm = vm
        .args(["-device", "virtio-scsi-pci", "-device", "scsi-cd,id=cd0"])
        .start();
    let change = |file: &std::path::Path, format: &str| json!({"id": "cd0", "filename": file, "format": format});
    vm.exec("blockdev-change-medium", change(&one, "raw"));
    assert!(moved(&mut vm).2);
    assert!(!moved(&mut vm).2);
    let cd = drive(&mut vm, 0);
    assert_eq!(cd["inserted"]["file"], json!(one));
    assert_eq!(
        (&cd["inserted"]["ro"], &cd["tray_open"]),
        (&json!(true), &json!(false))
    );
    vm.exec(
        "blockdev-change-medium",
        json!({"id": "cd0", "filename": two}),
    );
    assert_eq!(
        drive(&mut vm, 0)["inserted"]["image"]["virtual-size"],
        2 << 20
    );
    for (arguments, message) in [
        (change(&vm.path("nope"), "raw"), "No such file or directory"),
        (change(&one, "foo"), "Unknown driver 'foo'"),
        (change(&one, "qcow2"), "Image is not in qcow2 format"),
        (
            json!({"id": "cd0", "filename": one, "read-only-mode": "foo"}),
            "does not accept value 'foo'",
        ),
    ] {
        let error = vm.refused("blockdev-change-medium", arguments);
        assert!(error.desc.ends_with(message), "{error}");
        assert_eq!(drive(&mut vm, 0)["inserted"]["file"], json!(two));
    }
}

#[test]
fn a_temporary_image_takes_what_is_written() {
    let vm = VmBuilder::new().stopped();
    let path = disk::raw(vm.dir(), "hd.img", 1 << 20);
    let mut vm = vm.arg("-hda").arg(&path).arg("-snapshot").start();
    let hd = drive(&mut vm, 0);
    assert_eq!(hd["inserted"]["drv"], "qcow2");
    assert_eq!(hd["inserted"]["image"]["virtual-size"], 1 << 20);
    let overlay = hd["inserted"]["file"].as_str().expect("a name");
    assert!(!std::path::Path::new(overlay).exists());
    drop(vm);
}
