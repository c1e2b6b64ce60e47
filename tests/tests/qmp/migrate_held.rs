//! Migrations while the machine is held for something else, and the other way round.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::Command;

use serde_json::json;
use tests::binary::skip_on_stand_in;
use tests::migrate::{enable, go, listen, wait};
use tests::{Vm, VmBuilder};

fn disable_pause(vm: &mut Vm) {
    let off = json!([{"capability": "pause-before-switchover", "state": false}]);
    vm.exec("migrate-set-capabilities", json!({ "capabilities": off }));
}

#[test]
fn a_dump_and_a_migration_exclude_each_other() {
    let mut vm = VmBuilder::new().idle().start();
    // A dump that nobody reads is under way.
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let given = (vm.qmp()).try_exec_fds("getfd", json!({"fdname": "d"}), &[writer.as_fd()]);
    assert_eq!(given, Ok(json!({})));
    drop(writer);
    let detached = json!({"paging": false, "protocol": "fd:d", "detach": true});
    vm.exec("dump-guest-memory", detached);
    let out = json!({"uri": "exec:cat > /dev/null"});
    let refused = vm.refused("migrate", out.clone());
    assert_eq!(
        refused.desc,
        "Live migration disabled: dump-guest-memory in progress"
    );
    std::io::copy(&mut reader, &mut std::io::sink()).expect("a dump");
    vm.qmp().event("DUMP_COMPLETED");
    enable(&mut vm, &["pause-before-switchover"]);
    vm.exec("migrate", out);
    wait(&mut vm, "pre-switchover");
    let dump = json!({"paging": false, "protocol": "file:/dev/null"});
    let refused = vm.refused("dump-guest-memory", dump.clone());
    assert_eq!(
        refused.desc,
        "disallowing migration blocker (migration/snapshot in progress) for: Live migration \
         disabled: dump-guest-memory in progress"
    );
    vm.query("migrate_cancel");
    wait(&mut vm, "cancelled");
    assert_eq!(vm.query("query-status")["status"], "running");
    vm.exec("dump-guest-memory", dump);
    vm.quit();
}

#[test]
fn no_machine_goes_while_its_memory_is_kept_or_replaced() {
    if skip_on_stand_in("it does nothing else meanwhile") {
        return;
    }
    let builder = VmBuilder::new();
    let (image, ram) = (builder.path("a.qcow2"), builder.path("ram"));
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&image)
        .arg("16M")
        .status();
    if !made.is_ok_and(|made| made.success()) {
        println!("skipped: no qemu-img");
        return;
    }
    // Something to write and to read: not zeroes.
    let size = 96u64 << 20;
    let mut noise = File::open("/dev/urandom").expect("noise").take(size);
    let mut file = File::create(&ram).expect("a file");
    std::io::copy(&mut noise, &mut file).expect("memory");
    let memory = format!(
        "memory-backend-file,id=m,size={size},share=on,mem-path={}",
        ram.display()
    );
    let node = json!({
        "driver": "qcow2",
        "node-name": "a",
        "file": {"driver": "file", "filename": image},
    });
    let mut vm = builder
        .args(["-object", &memory, "-machine", "q35,memory-backend=m"])
        .args(["-accel", "qtest", "-m", "96"])
        .args(["-blockdev", &node.to_string()])
        .args(["-device", "virtio-blk-pci,drive=a"])
        .start();
    let out = json!({"uri": "exec:cat > /dev/null"});
    for (command, state) in [
        ("snapshot-save", "save-vm"),
        ("snapshot-load", "restore-vm"),
    ] {
        let arguments = json!({"job-id": "j", "tag": "t", "vmstate": "a", "devices": ["a"]});
        vm.exec(command, arguments);
        while vm.query("query-status")["status"] != state {
            let jobs = vm.query("query-jobs");
            assert_ne!(jobs[0]["status"], "concluded", "{jobs}");
        }
        let refused = vm.refused("migrate", out.clone());
        assert_eq!(refused.desc, format!("The machine is in state '{state}'"));
        while vm.query("query-jobs")[0]["status"] != "concluded" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let jobs = vm.query("query-jobs");
        assert_eq!(jobs[0].get("error"), None, "{jobs}");
        vm.exec("job-dismiss", json!({"id": "j"}));
    }
    enable(&mut vm, &["pause-before-switchover"]);
    vm.exec("migrate", out);
    wait(&mut vm, "pre-switchover");
    for line in ["savevm u", "loadvm t"] {
        assert_eq!(
            vm.qmp().hmp(line),
            "Error: There's a migration process in progress\r\n"
        );
    }
    vm.query("migrate_cancel");
    wait(&mut vm, "cancelled");
    assert_eq!(vm.query("query-status")["status"], "running");
    assert_eq!(vm.qmp().hmp("savevm u"), "");
    // A machine that has gone is kept as it is: it may have to go on here.
    disable_pause(&mut vm);
    let state = format!("file:{}", vm.path("state").display());
    go(&mut vm, &state);
    for line in ["savevm v", "loadvm t", "delvm t"] {
        assert_eq!(
            vm.qmp().hmp(line),
            "Error: Device 'a' is inactive: another program may use it\r\n"
        );
    }
    assert_eq!(vm.query("query-status")["status"], "postmigrate");
    vm.query("cont");
    assert_eq!(vm.qmp().hmp("loadvm t"), "");
    assert_eq!(vm.query("query-status")["status"], "running");
    vm.quit();
}

#[test]
fn disks_that_come_after_the_machine_are_its_own() {
    let mut source = VmBuilder::new().idle().start();
    let builder = VmBuilder::new().idle().args(["-incoming", "defer", "-S"]);
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = builder.start();
    // It left its disks to the other side until `cont`, and had none.
    enable(&mut target, &["late-block-activate"]);
    listen(&mut target, &uri);
    go(&mut source, &uri);
    wait(&mut target, "completed");
    target.query("cont");
    target.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n", "size": 4096, "read-zeroes": true}),
    );
    let nodes = target.query("query-named-block-nodes");
    assert_eq!(nodes[0]["active"], true, "{nodes}");
}
