//! Programs that are started for the VMM, and the process that starts them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::sys::{self, launcher, programs};
use tests::{Vm, VmBuilder, binary, seconds};

const DENIED: &str = "Programs may not be started (-sandbox spawn=deny)";

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + seconds(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn helper(directory: &Path, lines: &str) -> String {
    let path = directory.join("helper");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.to_str().expect("UTF-8").to_owned()
}

fn bridge(helper: &str) -> Value {
    json!({"type": "bridge", "id": "b", "helper": helper})
}

/// A line of /proc/PID/status.
fn status(pid: impl std::fmt::Display, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.and_then(|line| line.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// What a program that is started finds, said by the program as its last words.
fn said(vm: &mut Vm, lines: &str) -> String {
    let helper = helper(vm.dir(), &format!("exec >&2; {lines}; exit 1"));
    let error = vm.refused("netdev_add", bridge(&helper)).desc;
    let words = error.strip_prefix("bridge helper failed: ");
    words.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn the_launcher_has_nothing_and_shows_nothing() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let vm = Vm::stopped();
    let pid = launcher(vm.pid()).expect("a launcher");
    if sys::user_id() == 0 {
        // Others may not look.
        has_its_socket_alone(pid);
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).expect("words");
    let words = String::from_utf8_lossy(&words);
    assert_eq!(words.trim_end_matches('\0'), "qvmd-launcher");
    assert_eq!(status(pid, "Threads"), "1");
    assert_eq!(status(pid, "NoNewPrivs"), "0");
    let resident = status(pid, "RssAnon");
    let kib: u64 = resident.trim_end_matches(" kB").parse().expect("a number");
    println!(
        "the launcher: {} resident, {kib} KiB its own",
        status(pid, "VmRSS")
    );
    assert!(kib < 1536, "{resident}");
}

fn has_its_socket_alone(pid: u32) {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let list: Vec<String> = list
        .map(|fd| fd.expect("one").path())
        .map(|fd| fs::read_link(fd).expect("a link").display().to_string())
        .collect();
    let count = |name: &str| list.iter().filter(|file| file.starts_with(name)).count();
    assert_eq!(list.len(), 6, "{list:?}");
    assert_eq!(count("/dev/null"), 4, "{list:?}");
    assert_eq!(count("socket:"), 1, "{list:?}");
    let ends = list.iter().filter(|file| file.contains("pidfd")).count();
    assert_eq!(ends, 1, "{list:?}");
}

#[test]
fn a_program_has_what_it_is_given_and_no_more() {
    let mut vm = Vm::none();
    let fds = said(&mut vm, "ls /proc/self/fd");
    // 3 is the list's own; 10 is a shell's own script.
    let fds: Vec<_> = fds.split(' ').filter(|fd| *fd != "10").collect();
    assert_eq!(fds, ["0", "1", "2", "3"]);
    // What whoever started us ignores stays ignored; Rust's runtime adds SIGPIPE, for us alone.
    let ignored = u64::from_str_radix(&status("self", "SigIgn"), 16).expect("a mask");
    let ignored = ignored & !(1 << (libc::SIGPIPE - 1));
    assert_eq!(
        said(&mut vm, "grep -E 'SigBlk|SigIgn' /proc/self/status"),
        format!("SigBlk: 0000000000000000 SigIgn: {ignored:016x}")
    );
    assert_eq!(
        said(&mut vm, "grep Seccomp: /proc/self/status"),
        "Seccomp: 0"
    );
}

#[test]
fn privileges_are_for_programs_unless_they_are_denied() {
    let ask = "grep NoNewPrivs /proc/self/status";
    for (sandbox, expected) in [
        ("on", "NoNewPrivs: 0"),
        ("off", "NoNewPrivs: 0"),
        ("on,elevateprivileges=allow", "NoNewPrivs: 0"),
        ("on,elevateprivileges=children", "NoNewPrivs: 1"),
        ("on,elevateprivileges=deny", "NoNewPrivs: 1"),
    ] {
        if binary::is_stand_in() && sandbox == "on,elevateprivileges=deny" {
            // There it is about the calls that change users.
            continue;
        }
        let mut vm = VmBuilder::new().args(["-sandbox", sandbox]).none().start();
        assert_eq!(said(&mut vm, ask), expected, "{sandbox}");
    }
}

#[test]
fn nothing_is_started_where_nothing_may_be() {
    if binary::skip_on_stand_in("there it is killed") {
        return;
    }
    let mut vm = VmBuilder::new()
        .args(["-sandbox", "on,spawn=deny"])
        .stopped()
        .start();
    assert!(sys::children(vm.pid()).is_empty());
    for (netdev, error) in [
        (
            json!({"type": "user", "id": "n"}),
            format!("Cannot start the network 'n': {DENIED}"),
        ),
        (
            bridge("/bin/true"),
            format!("bridge helper failed: {DENIED}"),
        ),
        (
            json!({"type": "tap", "id": "n", "helper": "/bin/true"}),
            format!("bridge helper failed: {DENIED}"),
        ),
    ] {
        assert_eq!(vm.refused("netdev_add", netdev).desc, error);
    }
    let error = vm.refused("migrate", json!({"uri": "exec:cat > /dev/null"}));
    assert_eq!(error.desc, format!("Unable to run '/bin/sh': {DENIED}"));
    vm.assert_alive();
}

#[test]
fn a_command_line_that_needs_programs_is_refused_where_there_are_none() {
    if binary::skip_on_stand_in("there it is killed") {
        return;
    }
    let refused = |words: &[&str]| {
        let builder = VmBuilder::new().args(["-sandbox", "on,spawn=deny"]);
        builder.stopped().args(words).run()
    };
    refused(&["-netdev", "user,id=n"])
        .assert_refused()
        .assert_says(DENIED);
    refused(&["-netdev", "bridge,id=n"])
        .assert_refused()
        .assert_says(DENIED);
    refused(&["-incoming", "exec:cat /dev/null"])
        .assert_refused()
        .assert_says(DENIED);
    if !has_taps() {
        return;
    }
    for (tap, script) in [
        ("tap,id=n,script=/etc/up", "/etc/up"),
        ("tap,id=n,script=no,downscript=/etc/down", "/etc/down"),
    ] {
        let words = format!("network script {script} could not be run: {DENIED}");
        refused(&["-netdev", tap])
            .assert_refused()
            .assert_says(&words);
    }
    // Nobody insists on the script for the end.
    let builder = VmBuilder::new().args(["-sandbox", "on,spawn=deny"]);
    let tap = ["-netdev", "tap,id=n,script=no"];
    builder.none().args(tap).start().quit();
}

/// Whether taps can be made by a command line.
fn has_taps() -> bool {
    let tun = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    tun.is_ok() && sys::user_id() == 0
}

/// Up, while the command line is carried out, and down, when all privileges are gone.
#[test]
fn scripts_of_a_tap_run_at_its_begin_and_end() {
    if !has_taps() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let said = directory.path().join("said");
    let line = format!("echo $1 >> {}; test -e /sys/class/net/$1", said.display());
    let script = helper(directory.path(), &line);
    let name = format!("qs{}", std::process::id() % 1_000_000);
    let tap = format!("tap,id=n,ifname={name},script={script},downscript={script}");
    let vm = VmBuilder::new().none().args(["-netdev", &tap]).start();
    let expected = format!("{name}\n");
    assert_eq!(fs::read_to_string(&said).expect("words"), expected);
    let exit = vm.quit();
    assert_eq!(exit.status, Some(0), "{exit:?}");
    let both = expected.repeat(2);
    assert_eq!(fs::read_to_string(&said).expect("words"), both, "{exit:?}");
}

/// As whom the programs of a VMM run that has dropped root.
#[test]
fn programs_run_as_the_user_of_the_vmm() {
    if sys::user_id() != 0 {
        return;
    }
    let builder = VmBuilder::new().args(["-runas", "12345:12346"]);
    let mut vm = builder.none().start();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(vm.dir(), open).expect("its mode");
    let ids = said(&mut vm, "grep -E 'Uid|Gid|CapEff|Groups' /proc/self/status");
    let numbers = |id: u32| format!("{id} {id} {id} {id}");
    let expected = format!(
        "Uid: {} Gid: {} Groups: 12346 CapEff: 0000000000000000",
        numbers(12345),
        numbers(12346)
    );
    assert_eq!(ids, expected);
    if let Some(launcher) = launcher(vm.pid()) {
        assert_eq!(status(launcher, "CapPrm"), "0000000000000000");
    }
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let mut vm = Vm::none();
    let error = vm.refused("netdev_add", bridge("/nonexistent/helper")).desc;
    assert!(error.starts_with("bridge helper failed"), "{error}");
    if !binary::is_stand_in() {
        assert_eq!(error, "bridge helper failed: No such file or directory");
    }
}

/// However the VMM ends, also when nobody could say a word.
#[test]
fn a_kill_ends_the_launcher_and_its_programs() {
    if binary::skip_on_stand_in("the processes are ours") {
        return;
    }
    let mut vm = Vm::stopped();
    vm.exec("netdev_add", json!({"type": "user", "id": "n"}));
    let started = vm.path("started");
    let line = format!("echo $$ > {}; exec sleep 1000", started.display());
    vm.exec("migrate", json!({"uri": format!("exec:{line}")}));
    until("started", || started.exists());
    let launcher = launcher(vm.pid()).expect("a launcher");
    let programs = programs(vm.pid());
    assert_eq!(programs.len(), 2);
    sys::kill(vm.pid(), libc::SIGKILL);
    until("the launcher", || !sys::alive(launcher));
    for program in programs {
        until("a program", || !sys::alive(program));
    }
}

/// What a service manager or a terminal sends to all processes of a service.
#[test]
fn signals_for_everybody_leave_the_launcher_to_its_work() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut vm = Vm::none();
    let pid = launcher(vm.pid()).expect("a launcher");
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGTSTP,
        libc::SIGUSR1,
    ] {
        sys::kill(pid, signal);
    }
    assert_eq!(said(&mut vm, "echo here"), "here");
    let exit = vm.quit();
    assert_eq!(exit.status, Some(0));
    until("gone", || !sys::alive(pid));
}

#[test]
fn without_its_launcher_a_vmm_goes_on() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut vm = Vm::none();
    vm.exec("netdev_add", json!({"type": "user", "id": "n"}));
    let pid = launcher(vm.pid()).expect("a launcher");
    let programs = programs(vm.pid());
    sys::kill(pid, libc::SIGKILL);
    for program in programs {
        until("a program", || !sys::alive(program));
    }
    let error = vm.refused("netdev_add", bridge("/bin/true")).desc;
    assert_eq!(
        error,
        "bridge helper failed: The process that starts programs has ended"
    );
    vm.exec("netdev_del", json!({"id": "n"}));
    vm.assert_alive();
}
