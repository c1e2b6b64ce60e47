//! Machines that move between two processes: over every way, back and forth, and what happens when
//! something is in the way.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::binary::is_stand_in;
use tests::migrate::{arrive, enable, go, listen, migrate_to, statuses, wait};
use tests::{Serial, Vm, VmBuilder, disk, seconds};

use crate::churner::{Churner, SUCCESS, directory, new_disk, side, slowly, waiting};

#[test]
fn back_and_forth_over_a_unix_socket() {
    let directory = directory();
    let disk = new_disk(&directory);
    let Some(builder) = side(Some(&disk)) else {
        return;
    };
    let mut churner = Churner::start(builder);
    for _ in 0..4 {
        let Some(builder) = side(Some(&disk)) else {
            return;
        };
        let path = builder.path("serial.sock");
        let uri = format!("unix:{}", builder.path("migration.sock").display());
        let mut target = waiting(builder);
        let serial = Serial::over(target.connect_when_ready(&path));
        listen(&mut target, &uri);
        go(&mut churner.vm, &uri);
        arrive(&mut target);
        assert!(!target.path("migration.sock").exists());
        assert_eq!(churner.vm.query("query-status")["status"], "postmigrate");
        churner = churner.went_to(target, serial);
    }
    churner.end();
}

#[test]
fn events_and_figures() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let mut target = waiting(builder);
    let serial = target.serial();
    enable(&mut churner.vm, &["events"]);
    enable(&mut target, &["events"]);
    target.query("cont");
    listen(&mut target, "tcp:127.0.0.1:0");
    let info = target.query("query-migrate");
    assert_eq!(info["status"], "setup");
    let at = &info["socket-address"][0];
    assert_eq!(
        (&at["type"], &at["host"]),
        (&json!("inet"), &json!("127.0.0.1"))
    );
    let port = at["port"].as_str().expect("a port").to_owned();
    let instances = target.query("query-yank");
    assert!(instances.to_string().contains("migration"), "{instances}");
    churner.vm.qmp().pending_events();
    let info = go(&mut churner.vm, &format!("tcp:127.0.0.1:{port}"));
    for key in ["total-time", "downtime", "setup-time"] {
        assert!(info[key].is_u64(), "{key} in {info}");
    }
    let ram = &info["ram"];
    for key in [
        "transferred",
        "remaining",
        "total",
        "duplicate",
        "normal",
        "dirty-sync-count",
    ] {
        assert!(ram[key].is_u64(), "{key} in {info}");
    }
    assert!(ram["mbps"].is_number());
    assert_eq!(
        (&ram["remaining"], &ram["page-size"]),
        (&json!(0), &json!(4096))
    );
    assert!(ram["total"].as_u64() >= Some(64 << 20), "{info}");
    assert!(ram["duplicate"].as_u64() > Some(1000), "{info}");
    arrive(&mut target);
    // An answer comes behind every event of before.
    churner.vm.query("query-status");
    let mut events = statuses(&churner.vm.qmp().pending_events());
    events.retain(|name| name != "MIGRATION_PASS");
    assert_eq!(events, ["setup", "active", "STOP", "device", "completed"]);
    target.query("query-status");
    let events = statuses(&target.qmp().pending_events());
    assert_eq!(events, ["setup", "active", "RESUME", "completed"]);
    assert_eq!(target.query("query-status")["status"], "running");
    let refused = churner.vm.refused("migrate", json!({"uri": "exec:true"}));
    assert_eq!(
        refused.desc,
        "Can't migrate the vm that was paused due to previous migration"
    );
    target.query("stop");
    churner.went_to(target, serial).end();
}

#[test]
fn over_a_descriptor() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let mut target = waiting(builder);
    let serial = target.serial();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    for (vm, fd) in [(&mut churner.vm, &ours), (&mut target, &theirs)] {
        let given = vm
            .qmp()
            .try_exec_fds("getfd", json!({"fdname": "m"}), &[fd.as_fd()]);
        assert_eq!(given, Ok(json!({})));
    }
    drop((ours, theirs));
    let refused = churner.vm.refused("migrate", json!({"uri": "fd:nix"}));
    assert!(refused.desc.contains("nix"), "{refused}");
    listen(&mut target, "fd:m");
    go(&mut churner.vm, "fd:m");
    arrive(&mut target);
    churner.went_to(target, serial).end();
}

#[test]
fn through_programs_and_files() {
    let directory = directory();
    let file = directory.path().join("state");
    let packed = format!("exec:gzip -1 > {}", file.display());
    let unpacked = format!("exec:gzip -dc {}", file.display());
    let plain = format!("file:{},offset=4096", file.display());
    for (out, back, mapped) in [
        (&packed, &unpacked, false),
        (&plain, &plain, false),
        (&plain, &plain, true),
    ] {
        if mapped && is_stand_in() {
            continue;
        }
        let Some(builder) = side(None) else { return };
        let mut churner = Churner::start(builder);
        let Some(builder) = side(None) else { return };
        let mut target = waiting(builder);
        let serial = target.serial();
        if mapped {
            enable(&mut churner.vm, &["mapped-ram"]);
            enable(&mut target, &["mapped-ram"]);
        }
        go(&mut churner.vm, out);
        listen(&mut target, back);
        arrive(&mut target);
        churner.went_to(target, serial).end();
        fs::remove_file(&file).expect("the file is there");
    }
}

#[test]
fn what_fails_leaves_the_guest_alone() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    for (uri, why) in [
        ("exec:exit 3", "3"),
        ("exec:dd of=/dev/full bs=64k 2>/dev/null", "1"),
        (
            "unix:/nonexistent/sock",
            "Failed to connect to '/nonexistent/sock'",
        ),
        ("tcp:127.0.0.1:1", "Connection refused"),
    ] {
        churner.vm.exec("migrate", json!({ "uri": uri }));
        let info = wait(&mut churner.vm, "failed");
        let said = info["error-desc"].as_str().unwrap_or_default();
        assert!(is_stand_in() || said.contains(why), "{uri}: {info}");
        churner.lives();
    }
    let vm = &mut churner.vm;
    let refused = vm.refused("migrate", json!({"uri": "file:/nonexistent/file"}));
    assert!(
        refused.desc.contains("No such file or directory"),
        "{refused}"
    );
    churner.end();
}

#[test]
fn cancelled_and_then_sent_again() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    listen(&mut target, &uri);
    enable(&mut churner.vm, &["events"]);
    slowly(&mut churner.vm);
    churner.vm.exec("migrate", json!({ "uri": uri }));
    wait(&mut churner.vm, "active");
    // Whom it waited for is there: it listens to nobody else.
    let end = Instant::now() + seconds(60);
    while target.path("migration.sock").exists() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    let vm = &mut churner.vm;
    for (command, arguments, why) in [
        (
            "migrate",
            json!({ "uri": uri }),
            "There's a migration process in progress",
        ),
        (
            "device_add",
            json!({"driver": "virtio-rng-pci"}),
            "device_add not allowed while migrating",
        ),
        (
            "migrate-continue",
            json!({"state": "pre-switchover"}),
            "Migration not in expected state: active",
        ),
    ] {
        assert_eq!(vm.refused(command, arguments).desc, why);
    }
    assert_eq!(vm.query("query-status")["status"], "running");
    vm.query("migrate_cancel");
    wait(&mut churner.vm, "cancelled");
    churner.lives();
    churner.vm.query("migrate_cancel");
    let events = statuses(&churner.vm.qmp().pending_events());
    let end = events.iter().rev().take(2).rev().collect::<Vec<_>>();
    assert_eq!(end, ["cancelling", "cancelled"]);
    // The other side has lost it.
    let exit = target.wait();
    assert_eq!(exit.status, Some(1), "{exit:?}");
    exit.assert_says("load of migration failed");
    churner
        .vm
        .exec("migrate-set-parameters", json!({"max-bandwidth": 0}));
    let Some(builder) = side(None) else { return };
    let path = builder.path("serial.sock");
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let serial = Serial::over(target.connect_when_ready(&path));
    listen(&mut target, &uri);
    go(&mut churner.vm, &uri);
    arrive(&mut target);
    churner.went_to(target, serial).end();
}

#[test]
fn the_other_side_is_killed() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    listen(&mut target, &uri);
    slowly(&mut churner.vm);
    churner.vm.exec("migrate", json!({ "uri": uri }));
    wait(&mut churner.vm, "active");
    target.signal(9);
    let info = wait(&mut churner.vm, "failed");
    assert!(info["error-desc"].is_string(), "{info}");
    churner.lives();
    churner.end();
}

#[test]
fn a_client_says_when() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    let serial = target.serial();
    listen(&mut target, &uri);
    enable(&mut churner.vm, &["events", "pause-before-switchover"]);
    let vm = &mut churner.vm;
    let refused = vm.refused("migrate-continue", json!({"state": "pre-switchover"}));
    assert_eq!(refused.desc, "Migration not in expected state: none");
    vm.exec("migrate", json!({"uri": "exec:cat > /dev/null"}));
    wait(vm, "pre-switchover");
    assert_eq!(vm.query("query-status")["status"], "finish-migrate");
    assert_eq!(
        vm.refused("cont", json!({})).desc,
        "Migration is not finalized yet"
    );
    vm.query("migrate_cancel");
    wait(vm, "cancelled");
    churner.lives();
    let vm = &mut churner.vm;
    vm.qmp().pending_events();
    vm.exec("migrate", json!({ "uri": uri }));
    wait(vm, "pre-switchover");
    let refused = vm.refused("migrate-continue", json!({"state": "device"}));
    assert_eq!(
        refused.desc,
        "Migration not in expected state: pre-switchover"
    );
    vm.exec("migrate-continue", json!({"state": "pre-switchover"}));
    wait(vm, "completed");
    let mut events = statuses(&vm.qmp().pending_events());
    events.retain(|name| name != "MIGRATION_PASS");
    let wanted = [
        "setup",
        "active",
        "STOP",
        "pre-switchover",
        "device",
        "completed",
    ];
    assert_eq!(events, wanted);
    arrive(&mut target);
    churner.went_to(target, serial).end();
}

#[test]
fn a_machine_that_is_made_otherwise_is_refused() {
    let Some(builder) = side(None) else { return };
    let builder = builder.args(["-device", "virtio-rng-pci,id=rng"]);
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    listen(&mut target, &uri);
    churner.vm.exec("migrate", json!({ "uri": uri }));
    wait(&mut churner.vm, "failed");
    churner.lives();
    let exit = target.wait();
    exit.assert_refused().assert_says("rng");
    churner.end();
}

#[test]
fn a_disk_that_somebody_else_has() {
    let directory = directory();
    let (here, there) = (
        new_disk(&directory),
        disk::raw(directory.path(), "other.img", 1 << 20),
    );
    let Some(builder) = side(Some(&here)) else {
        return;
    };
    let mut churner = Churner::start(builder);
    let owner = VmBuilder::new()
        .stopped()
        .arg("-blockdev")
        .arg(format!("file,node-name=d,filename={}", there.display()))
        .args(["-device", "virtio-blk-pci,drive=d"])
        .start();
    let Some(builder) = side(Some(&there)) else {
        return;
    };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    target.exec(
        "migrate-incoming",
        json!({"uri": uri, "exit-on-error": false}),
    );
    churner.vm.exec("migrate", json!({ "uri": uri }));
    if is_stand_in() {
        return;
    }
    let info = wait(&mut churner.vm, "failed");
    assert!(info["error-desc"].to_string().contains("lock"), "{info}");
    churner.lives();
    let info = wait(&mut target, "failed");
    assert!(info["error-desc"].to_string().contains("lock"), "{info}");
    assert_eq!(target.query("query-status")["status"], "inmigrate");
    let refused = target.refused("migrate-incoming", json!({ "uri": uri }));
    assert_eq!(
        refused.desc,
        "The incoming migration has already been started"
    );
    owner.quit();
    churner.end();
}

#[test]
fn back_where_it_came_from() {
    // The source goes on with what it has when a client says so: the file was a copy.
    let directory = directory();
    let disk = new_disk(&directory);
    let Some(builder) = side(Some(&disk)) else {
        return;
    };
    let mut churner = Churner::start(builder);
    let file = format!("file:{}", directory.path().join("state").display());
    go(&mut churner.vm, &file);
    churner.vm.query("cont");
    churner.lives();
    churner.end();
}

#[test]
fn a_broken_connection() {
    let Some(builder) = side(None) else { return };
    let mut churner = Churner::start(builder);
    let Some(builder) = side(None) else { return };
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = waiting(builder);
    listen(&mut target, &uri);
    slowly(&mut churner.vm);
    churner.vm.exec("migrate", json!({ "uri": uri }));
    wait(&mut churner.vm, "active");
    let instances = json!({"instances": [{"type": "migration"}]});
    churner.vm.exec("yank", instances.clone());
    wait(&mut churner.vm, "failed");
    churner.lives();
    let refused = churner.vm.refused("yank", instances);
    assert_eq!(refused.class, "DeviceNotFound");
    assert_eq!(target.wait().status, Some(1));
    churner.end();
}

#[test]
fn the_end_in_the_middle() {
    for (word, status) in [("quit", Some(0)), ("guest", Some(SUCCESS))] {
        let Some(builder) = side(None) else { return };
        let mut churner = Churner::start(builder);
        let Some(builder) = side(None) else { return };
        let uri = format!("unix:{}", builder.path("migration.sock").display());
        let mut target = waiting(builder);
        listen(&mut target, &uri);
        slowly(&mut churner.vm);
        churner.vm.exec("migrate", json!({ "uri": uri }));
        wait(&mut churner.vm, "active");
        match word {
            "quit" => drop(churner.vm.query("quit")),
            _ => churner.serial.send(b"q"),
        }
        assert_eq!(churner.vm.wait().status, status);
        target.wait().assert_refused();
    }
}

#[test]
fn refusals() {
    let mut vm = VmBuilder::new().idle().start();
    let refused =
        |vm: &mut Vm, command: &str, arguments: Value| vm.refused(command, arguments).desc;
    let uri = |uri: &str| json!({ "uri": uri });
    assert_eq!(
        refused(&mut vm, "migrate-incoming", uri("unix:x")),
        "'-incoming' was not specified on the command line"
    );
    assert_eq!(
        refused(&mut vm, "migrate", uri("foo:bar")),
        "unknown migration protocol: foo:bar"
    );
    assert_eq!(vm.query("query-migrate"), json!({}));
    let mut target = VmBuilder::new().idle().args(["-incoming", "defer"]).start();
    assert_eq!(target.query("query-status")["status"], "inmigrate");
    assert_eq!(
        refused(&mut target, "migrate", uri("exec:true")),
        "Guest is waiting for an incoming migration"
    );
    assert!(
        refused(&mut target, "migrate-incoming", uri("file:/nonexistent/x"))
            .contains("No such file")
    );
    listen(&mut target, "unix:sock");
    assert_eq!(
        refused(&mut target, "migrate-incoming", uri("unix:sock")),
        "The incoming migration has already been started"
    );
    // It waits on, whoever else calls.
    if !is_stand_in() {
        use std::io::Write;
        let mut stranger = target.connect_when_ready(&target.path("sock"));
        stranger
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .expect("it listens");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(target.query("query-status")["status"], "inmigrate");
    target.quit();
    vm.quit();
}

#[test]
fn an_idle_machine_moves() {
    if is_stand_in() {
        return;
    }
    let mut source = VmBuilder::new().idle().start();
    let mut target = migrate_to(&mut source, VmBuilder::new().idle());
    assert_eq!(target.query("query-status")["status"], "running");
    let mut third = migrate_to(&mut target, VmBuilder::new().idle());
    third.query("stop");
    let mut fourth = migrate_to(&mut third, VmBuilder::new().idle());
    assert_eq!(fourth.query("query-status")["status"], "paused");
}
