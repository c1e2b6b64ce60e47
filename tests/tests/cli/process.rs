//! The program as a process: background, pid file, signals, what ends it.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tests::binary::is_stand_in;
use tests::{Qmp, VmBuilder, sys};

#[test]
fn going_to_the_background() {
    let builder = VmBuilder::bare().args([
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-daemonize",
    ]);
    let (socket, pid_file) = (builder.path("qmp.sock"), builder.path("pid"));
    let mut vm = builder
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .arg("-pidfile")
        .arg(&pid_file)
        .spawn();
    let exit = vm.wait();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    // By now all sockets listen and the file is written.
    let pid: u32 = fs::read_to_string(&pid_file)
        .expect("a pid file")
        .trim()
        .parse()
        .expect("a number");
    vm.adopt_daemon(pid);
    assert!(sys::alive(pid));
    let mut qmp = Qmp::connect(&socket);
    qmp.query("query-status");
    // It has left its terminal and its session.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    assert_ne!(
        fields[1],
        std::process::id().to_string(),
        "its parent is still the shell"
    );
    qmp.query("quit");
    let end = std::time::Instant::now() + tests::seconds(10);
    while sys::alive(pid) {
        assert!(std::time::Instant::now() < end, "it still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!pid_file.exists(), "the pid file is still there");
    assert!(!socket.exists(), "the socket is still there");
}

#[test]
fn a_failure_before_the_background_is_told() {
    let builder = VmBuilder::bare().args([
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-daemonize",
    ]);
    let exit = builder
        .args(["-qmp", "unix:/no/such/dir/sock,server=on,wait=off"])
        .run();
    exit.assert_refused().assert_says("/no/such/dir/sock");
}

#[test]
fn a_pid_file() {
    let builder = VmBuilder::new().none();
    let path = builder.path("pid");
    let vm = builder.arg("-pidfile").arg(&path).start();
    let text = fs::read_to_string(&path).expect("a pid file");
    assert_eq!(text.trim(), vm.pid().to_string());
    // It is locked while the program runs.
    let exit = VmBuilder::new().none().arg("-pidfile").arg(&path).run();
    exit.assert_refused().assert_says("pid");
    vm.quit();
    assert!(!path.exists());
    VmBuilder::new()
        .none()
        .args(["-pidfile", "/no/such/dir/pid"])
        .run()
        .assert_refused();
}

#[test]
fn signals_end_it_with_status_0() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        for builder in [
            VmBuilder::new().none(),
            VmBuilder::new().stopped(),
            VmBuilder::new().idle(),
        ] {
            let mut vm = builder.start();
            vm.signal(signal);
            let exit = vm.wait();
            assert_eq!(exit.status, Some(0), "signal {signal}: {exit:?}");
            assert!(
                exit.stderr
                    .contains(&format!("terminating on signal {signal}")),
                "{exit:?}"
            );
            assert!(!vm.monitor(0).exists(), "the socket is still there");
        }
    }
}

#[test]
fn a_signal_with_no_shutdown_ends_it_all_the_same() {
    let mut vm = VmBuilder::new().idle().arg("-no-shutdown").start();
    vm.signal(libc::SIGTERM);
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_broken_pipe_is_no_reason_to_end() {
    let mut vm = VmBuilder::new().none().start();
    vm.signal(libc::SIGPIPE);
    vm.assert_alive();
}

#[test]
fn no_reboot_makes_a_reset_an_end() {
    let mut vm = VmBuilder::new().idle().arg("-no-reboot").start();
    vm.query("system_reset");
    let event = vm.qmp().event("SHUTDOWN");
    assert_eq!(
        event["data"],
        json!({"guest": false, "reason": "host-qmp-system-reset"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn no_reboot_and_no_shutdown_make_a_reset_a_pause() {
    let mut vm = VmBuilder::new()
        .idle()
        .args(["-no-reboot", "-no-shutdown"])
        .start();
    vm.query("system_reset");
    vm.qmp().event("SHUTDOWN");
    vm.qmp().event("STOP");
    assert_eq!(
        vm.query("query-status"),
        json!({"running": false, "status": "shutdown"})
    );
    let error = vm.refused("cont", json!({}));
    assert_eq!(error.desc, "Resetting the Virtual Machine is required");
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn action_does_what_the_short_options_do() {
    let mut vm = VmBuilder::new()
        .idle()
        .args(["-action", "reboot=shutdown,shutdown=pause"])
        .start();
    vm.query("system_reset");
    vm.qmp().event("STOP");
    assert_eq!(vm.query("query-status")["status"], "shutdown");
    let mut vm = VmBuilder::new().idle().start();
    vm.exec("set-action", json!({"reboot": "shutdown"}));
    vm.query("system_reset");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn nothing_is_printed_where_nothing_is_wrong() {
    let mut vm = VmBuilder::new().stopped().start();
    vm.query("cont");
    let exit = vm.quit();
    assert_eq!((exit.stdout.as_str(), exit.stderr.as_str()), ("", ""));
}

#[test]
fn threads_have_telling_names() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args([
            "-name",
            "x,debug-threads=on",
            "-smp",
            "2",
            "-object",
            "iothread,id=io7",
        ])
        .start();
    let cpus = vm.query("query-cpus-fast");
    assert_eq!(cpus.as_array().map(Vec::len), Some(2));
    let thread = vm.query("query-iothreads")[0]["thread-id"]
        .as_u64()
        .expect("a number");
    let name =
        fs::read_to_string(format!("/proc/{}/task/{thread}/comm", vm.pid())).expect("a thread");
    assert!(name.contains("io7"), "{name}");
}

#[test]
fn a_terminal_is_announced() {
    let mut vm = VmBuilder::new()
        .none()
        .args(["-chardev", "pty,id=p"])
        .start();
    let chardevs = vm.query("query-chardev");
    let entry = chardevs.as_array().into_iter().flatten();
    let entry = entry
        .into_iter()
        .find(|entry| entry["label"] == "p")
        .cloned();
    let name = entry.expect("a terminal")["filename"].clone();
    let path = name.as_str().and_then(|name| name.strip_prefix("pty:"));
    let path = path.expect("a path").to_owned();
    let exit = vm.quit();
    let line = format!("char device redirected to {path} (label p)\n");
    assert_eq!(exit.stdout, line);
}

#[test]
fn who_waits_for_a_client_says_so_and_can_be_ended() {
    let builder = VmBuilder::bare().args(["-machine", "none", "-nodefaults", "-display", "none"]);
    let socket = builder.path("console");
    let option = format!("socket,id=c,path={},server=on,wait=on", socket.display());
    let mut vm = builder.arg("-chardev").arg(&option).spawn();
    let end = std::time::Instant::now() + tests::seconds(10);
    while !socket.exists() {
        assert!(std::time::Instant::now() < end, "no socket");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    vm.signal(libc::SIGTERM);
    let exit = vm.wait();
    exit.assert_says(&format!(
        "-chardev {option}: info: QEMU waiting for connection on: disconnected:unix:{},server=on",
        socket.display()
    ));
    assert_ne!(exit.status, Some(0), "{exit:?}");
    if !is_stand_in() {
        exit.assert_refused()
            .assert_says("terminating on signal 15 from pid");
        assert!(!socket.exists(), "the socket is still there");
    }
}

#[test]
fn threads_bear_the_name_of_the_process_if_asked_to() {
    let mut vm = VmBuilder::new()
        .none()
        .args(["-name", "x,process=tenant,debug-threads=off"])
        .start();
    vm.query("query-status");
    for task in fs::read_dir(format!("/proc/{}/task", vm.pid())).expect("threads") {
        let comm = task.expect("a thread").path().join("comm");
        let name = fs::read_to_string(comm).expect("a name");
        assert_eq!(name.trim(), "tenant");
    }
}
