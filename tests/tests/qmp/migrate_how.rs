//! How machines move: every capability, and what a target does before and after.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::binary::is_stand_in;
use tests::migrate::{arrive, enable, go, listen, statuses, wait};
use tests::{Serial, Vm, VmBuilder, seconds};

use crate::churner::{Churner, directory, new_disk, side, slowly, waiting};

/// Moves it once, with these capabilities and parameters on both sides.
fn moves(with: &dyn Fn(VmBuilder) -> VmBuilder, capabilities: &[&str], parameters: &Value) {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(with(builder));
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(with(builder));
    let serial = target.serial();
    for vm in [&mut churner.vm, &mut target] {
        enable(vm, capabilities);
        vm.exec("migrate-set-parameters", parameters.clone());
    }
    listen(&mut target, &uri);
    let info = go(&mut churner.vm, &uri);
    if capabilities.contains(&"multifd") {
        assert!(
            info["ram"]["multifd-bytes"].as_u64() > Some(10_000),
            "{info}"
        );
    }
    arrive(&mut target);
    churner.went_to(target, serial).end();
}

#[test]
fn several_channels() {
    for channels in [1, 2, 16] {
        moves(
            &|b| b,
            &["multifd"],
            &json!({ "multifd-channels": channels }),
        );
    }
}

#[test]
fn several_channels_that_compress() {
    if is_stand_in() {
        return;
    }
    let parameters = json!({"multifd-channels": 3, "multifd-compression": "zstd"});
    moves(&|b| b, &["multifd"], &parameters);
}

#[test]
fn memory_that_both_sides_have() {
    let directory = directory();
    let memory = format!(
        "memory-backend-file,id=m,size=64M,share=on,mem-path={}",
        directory.path().join("memory").display()
    );
    let with =
        |builder: VmBuilder| builder.args(["-object", &memory, "-machine", "memory-backend=m"]);
    moves(&with, &["x-ignore-shared"], &json!({}));
}

#[test]
fn processors_that_are_held_back() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let serial = target.serial();
    listen(&mut target, &uri);
    enable(&mut churner.vm, &["auto-converge"]);
    // It writes more than may go over: it would never be done by itself.
    let slow = json!({"max-bandwidth": 2_000_000, "downtime-limit": 1, "cpu-throttle-initial": 50});
    churner.vm.exec("migrate-set-parameters", slow);
    churner.vm.exec("migrate", json!({ "uri": uri }));
    let end = Instant::now() + seconds(60);
    let held = loop {
        let info = churner.vm.query("query-migrate");
        match info["cpu-throttle-percentage"].as_u64() {
            Some(percent) => break percent,
            None => assert!(Instant::now() < end, "{info}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(held >= 50, "{held}");
    churner.lives();
    let fast = json!({"max-bandwidth": 0, "downtime-limit": 2000});
    churner.vm.exec("migrate-set-parameters", fast);
    wait(&mut churner.vm, "completed");
    arrive(&mut target);
    churner.went_to(target, serial).end();
}

#[test]
fn a_file_that_is_mapped() {
    if is_stand_in() {
        return;
    }
    let directory = directory();
    let uri = format!("file:{}", directory.path().join("state").display());
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    enable(&mut churner.vm, &["mapped-ram"]);
    go(&mut churner.vm, &uri);
    // As many as there is a wish for, each with its own memory from there on.
    for _ in 0..2 {
        let Some(builder) = side(None) else { return };
        let mut clone = waiting(builder);
        let mut serial = clone.serial();
        enable(&mut clone, &["mapped-ram"]);
        let begun = Instant::now();
        clone.exec("migrate-incoming", json!({"uri": uri, "ram-load": "map"}));
        arrive(&mut clone);
        println!("there after {:?}", begun.elapsed());
        clone.query("cont");
        serial.expect("beat ");
        serial.send(b"q");
        serial.expect("churned ");
        assert_eq!(clone.wait().status, Some(crate::churner::SUCCESS));
    }
    // A stream is no such file.
    let Some(builder) = side(None) else { return };
    let mut other = waiting(builder);
    let plain = directory.path().join("plain");
    fs::write(&plain, b"QVMDSTRMxxxxxxxxxxxxxxxxxxxxxxxx").expect("a file can be made");
    let uri = format!("file:{}", plain.display());
    other.exec("migrate-incoming", json!({"uri": uri, "ram-load": "map"}));
    other.wait().assert_refused();
}

#[test]
fn a_target_that_listens_from_the_start() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let path = builder.path("migration.sock");
    let uri = format!("unix:{}", path.display());
    let mut target = builder.args(["-incoming", &uri]).start();
    let serial = target.serial();
    assert_eq!(target.query("query-status")["status"], "inmigrate");
    let info = target.query("query-migrate");
    let at = json!([{"type": "unix", "path": path}]);
    assert_eq!(
        (&info["status"], &info["socket-address"]),
        (&json!("setup"), &at)
    );
    go(&mut churner.vm, &uri);
    arrive(&mut target);
    churner.went_to(target, serial).end();
}

#[test]
fn the_command_line_is_refused_what_cannot_be() {
    for (way, words) in [
        ("foo:bar", "unknown migration protocol: foo:bar"),
        ("file:/nonexistent/file", "No such file or directory"),
        ("fd:77", "77"),
        ("unix:/nonexistent/sock", "No such file or directory"),
    ] {
        let exit = VmBuilder::new().idle().args(["-incoming", way]).run();
        exit.assert_refused().assert_says(words);
    }
    let exit = VmBuilder::new()
        .idle()
        .args(["-incoming", "exec:exit 3"])
        .run();
    exit.assert_refused()
        .assert_says("load of migration failed");
    let exit = VmBuilder::new()
        .idle()
        .args(["-incoming", "exec:echo nonsense"])
        .run();
    exit.assert_refused()
        .assert_says("load of migration failed");
}

#[test]
fn disks_that_wait_for_cont() {
    let directory = directory();
    let disk = new_disk(&directory);
    let Some(builder) = side(Some(&disk)) else {
        return;
    };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(Some(&disk)) else {
        return;
    };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let serial = target.serial();
    enable(&mut target, &["late-block-activate"]);
    listen(&mut target, &uri);
    go(&mut churner.vm, &uri);
    arrive(&mut target);
    // Nobody has the image now.
    let third = VmBuilder::new()
        .stopped()
        .arg("-blockdev")
        .arg(format!("file,node-name=d,filename={}", disk.display()))
        .args(["-device", "virtio-blk-pci,drive=d"]);
    if !is_stand_in() {
        let third = third.start();
        let refused = target.refused("cont", json!({}));
        assert!(refused.desc.contains("lock"), "{refused}");
        assert_eq!(target.query("query-status")["status"], "paused");
        third.quit();
    }
    churner.went_to(target, serial).end();
}

#[test]
fn a_machine_that_stands_still_arrives_so() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    churner.vm.query("stop");
    churner.vm.qmp().pending_events();
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let serial = target.serial();
    enable(&mut churner.vm, &["events"]);
    target.query("cont");
    listen(&mut target, &uri);
    go(&mut churner.vm, &uri);
    arrive(&mut target);
    let events = statuses(&churner.vm.qmp().pending_events());
    assert!(!events.contains(&"STOP".to_owned()), "{events:?}");
    assert_eq!(target.query("query-status")["status"], "paused");
    churner.went_to(target, serial).end();
}

#[test]
fn a_reset_in_the_middle() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let mut serial = target.serial();
    listen(&mut target, &uri);
    slowly(&mut churner.vm);
    churner.vm.exec("migrate", json!({ "uri": uri }));
    wait(&mut churner.vm, "active");
    churner.vm.query("system_reset");
    churner.serial.expect("baremetal-guest up");
    churner.lives();
    churner
        .vm
        .exec("migrate-set-parameters", json!({"max-bandwidth": 0}));
    wait(&mut churner.vm, "completed");
    arrive(&mut target);
    churner.vm.quit();
    target.query("cont");
    serial.expect("beat ");
    serial.send(b"q");
    serial.expect("churned ");
    let exit = target.wait_within(seconds(30));
    assert_eq!(
        exit.and_then(|exit| exit.status),
        Some(crate::churner::SUCCESS)
    );
}

#[test]
fn a_machine_that_came_is_reset_like_any_other() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let mut serial: Serial = target.serial();
    listen(&mut target, &uri);
    go(&mut churner.vm, &uri);
    arrive(&mut target);
    target.query("cont");
    serial.expect("beat ");
    target.query("system_reset");
    serial.expect("baremetal-guest up");
    serial.expect("beat ");
    target.quit();
}

#[test]
fn disks_change_hands() {
    let directory = directory();
    let disk = new_disk(&directory);
    let drive = |builder: VmBuilder| {
        builder
            .arg("-blockdev")
            .arg(format!("file,node-name=d,filename={}", disk.display()))
            .args(["-device", "virtio-blk-pci,drive=d"])
    };
    let mut source: Vm = drive(VmBuilder::new().idle()).start();
    let mut target = drive(VmBuilder::new().idle())
        .args(["-incoming", "defer"])
        .start();
    listen(&mut target, "unix:sock");
    let uri = format!("unix:{}", target.path("sock").display());
    go(&mut source, &uri);
    arrive(&mut target);
    assert_eq!(target.query("query-status")["status"], "running");
    // What is not here any more is not written here.
    let named = source.query("query-named-block-nodes");
    assert_eq!(named[0]["active"], false, "{named}");
    let named = target.query("query-named-block-nodes");
    assert_eq!(named[0]["active"], true, "{named}");
}
