//! What the process may still do once it is set up: users, capabilities, files.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::binary::{program, skip_on_stand_in};
use tests::{Vm, VmBuilder, disk, sys};

/// A user that owns nothing.
const STRANGER: u32 = 54_321;
const STRANGERS: u32 = 54_322;
/// No capabilities.
const NONE: &str = "0000000000000000";
/// As libvirt says it: nothing that root may is kept.
const UNPRIVILEGED: &str = "on,elevateprivileges=deny";

fn skipped() -> bool {
    skip_on_stand_in("what a process gives up is its own affair")
}

/// Only root can become somebody else.
fn is_root() -> bool {
    let root = sys::user_id() == 0;
    if !root {
        println!("skipped: not root");
    }
    root
}

/// A line of the status of each thread: its name, and the words behind `key`.
fn of_threads(pid: u32, key: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let status = |path: &Path| fs::read_to_string(path.join("status")).unwrap_or_default();
    let word = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let words = line.unwrap_or_default().trim_start_matches(':');
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    tasks
        .flatten()
        .map(|task| status(&task.path()))
        .map(|text| (word(&text, "Name"), word(&text, key)))
        .collect()
}

fn assert_threads(vm: &Vm, key: &str, expected: &str) {
    let found = of_threads(vm.pid(), key);
    assert!(found.len() > 1, "{found:?}");
    let other: Vec<_> = found
        .iter()
        .filter(|(_, words)| words != expected)
        .collect();
    assert!(other.is_empty(), "{key}: not {expected:?} in {other:?}");
}

fn busy() -> VmBuilder {
    VmBuilder::new().stopped().args([
        "-object",
        "iothread,id=io1",
        "-chardev",
        "ringbuf,id=c",
        "-device",
        "virtio-rng-pci",
    ])
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o777)).expect("its owner");
}

fn add_file(vm: &mut Vm, node: &str, path: &Path, read_only: bool) -> Result<Value, String> {
    let arguments = json!({
        "driver": "file", "node-name": node, "filename": path, "read-only": read_only,
        "auto-read-only": false,
    });
    let done = vm.qmp().try_exec("blockdev-add", arguments);
    done.map_err(|error| format!("{error:?}"))
}

fn assert_denied(result: Result<Value, String>) {
    let error = result.expect_err("it was opened");
    assert!(error.contains("Permission denied"), "{error}");
}

#[test]
fn no_thread_has_privileges() {
    if skipped() {
        return;
    }
    let mut vm = busy().args(["-sandbox", UNPRIVILEGED]).start();
    for key in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_threads(&vm, key, NONE);
    }
    assert_threads(&vm, "NoNewPrivs", "1");
    vm.exec("object-add", json!({"qom-type": "iothread", "id": "io2"}));
    assert_threads(&vm, "CapEff", NONE);
    vm.quit();
}

#[test]
fn as_root_those_who_open_things_keep_what_that_takes() {
    if skipped() || !is_root() {
        return;
    }
    let mut vm = busy().start();
    vm.exec("object-add", json!({"qom-type": "iothread", "id": "io2"}));
    let main = fs::read_to_string(format!("/proc/{}/comm", vm.pid())).expect("a process");
    for key in ["CapPrm", "CapEff"] {
        for (thread, left) in of_threads(vm.pid(), key) {
            // CAP_DAC_OVERRIDE and CAP_NET_ADMIN.
            let opens = [main.trim_end(), "spawner", "worker"].contains(&&*thread);
            let expected = if opens { "0000000000001002" } else { NONE };
            assert_eq!(left, expected, "{key} of {thread}");
        }
    }
    for key in ["CapInh", "CapAmb"] {
        assert_threads(&vm, key, NONE);
    }
    vm.quit();
}

#[test]
fn root_opens_files_of_others_later_unless_told_otherwise() {
    if skipped() || !is_root() {
        return;
    }
    for (sandbox, opens) in [
        ("on", true),
        ("on,elevateprivileges=allow", true),
        (UNPRIVILEGED, false),
        ("on,elevateprivileges=children", false),
    ] {
        let builder = busy().args(["-sandbox", sandbox]);
        let file = disk::raw(builder.dir(), "theirs", 1 << 20);
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its owner");
        std::os::unix::fs::chown(&file, Some(STRANGER), Some(STRANGERS)).expect("root");
        let mut vm = builder.start();
        let result = add_file(&mut vm, "theirs", &file, false);
        match opens {
            true => drop(result.expect(sandbox)),
            false => assert_denied(result),
        }
        vm.quit();
    }
}

#[test]
fn root_makes_taps_later_unless_told_otherwise() {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    if skipped() || !is_root() || tun.is_err() {
        println!("skipped: no taps");
        return;
    }
    let tap = || json!({"type": "tap", "id": "t", "script": "no", "downscript": "no"});
    let mut vm = busy().start();
    vm.exec("netdev_add", tap());
    assert!(vm.qmp().hmp("info network").contains("ifname=tap"));
    vm.quit();
    for sandbox in [UNPRIVILEGED, "on,elevateprivileges=children"] {
        let mut vm = busy().args(["-sandbox", sandbox]).start();
        vm.refused("netdev_add", tap());
        vm.quit();
    }
}

#[test]
fn without_a_sandbox_it_says_so() {
    if skipped() {
        return;
    }
    let vm = busy().args(["-sandbox", "off"]).start();
    assert_threads(&vm, "NoNewPrivs", "0");
    let exit = vm.quit();
    assert!(exit.stderr.contains("The sandbox is off"), "{exit:?}");
}

#[test]
fn another_user_has_what_root_opened() {
    if skipped() || !is_root() {
        return;
    }
    let builder = busy();
    open_to_all(builder.dir());
    let first = disk::raw(builder.dir(), "first", 1 << 20);
    let second = disk::raw(builder.dir(), "second", 1 << 20);
    for path in [&first, &second] {
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its owner");
    }
    let pid_dir = builder.path("run");
    fs::create_dir(&pid_dir).expect("a directory");
    let pid_file = pid_dir.join("pid");
    let mut vm = builder
        .args(["-runas", &format!("{STRANGER}:{STRANGERS}")])
        .arg("-blockdev")
        .arg(format!("file,node-name=first,filename={}", first.display()))
        .arg("-pidfile")
        .arg(&pid_file)
        .start();
    let four = |id: u32| format!("{id} {id} {id} {id}");
    assert_threads(&vm, "Uid", &four(STRANGER));
    assert_threads(&vm, "Gid", &four(STRANGERS));
    assert_threads(&vm, "Groups", &STRANGERS.to_string());
    assert_threads(&vm, "CapEff", NONE);
    assert_threads(&vm, "CapPrm", NONE);
    // Not to be traced: what shows its memory is root's.
    let memory = fs::metadata(format!("/proc/{}/mem", vm.pid())).expect("a process");
    assert_eq!(memory.uid(), 0);
    let socket = fs::metadata(vm.monitor(0)).expect("a socket");
    assert_eq!((socket.uid(), socket.gid()), (STRANGER, STRANGERS));
    assert_denied(add_file(&mut vm, "second", &second, false));
    vm.signal(libc::SIGTERM);
    assert_eq!(vm.wait().status, Some(0));
    // The directory is root's: what cannot be removed tells of nobody.
    assert_eq!(fs::read_to_string(&pid_file).expect("a pid file"), "");
}

#[test]
fn locked_memory_stays_within_no_limit() {
    if skipped() || !is_root() {
        return;
    }
    for when in ["mem-lock=on", "mem-lock=on-fault"] {
        let builder = busy().args(["-overcommit", when, "-m", "16"]);
        open_to_all(builder.dir());
        let mut vm = builder
            .args(["-runas", &format!("{STRANGER}:{STRANGERS}")])
            .start();
        // Threads that come later find memory for their stacks, which is locked.
        for id in ["a", "b", "c", "d"] {
            vm.exec("object-add", json!({"qom-type": "iothread", "id": id}));
        }
        // Where the limit cannot be lifted, that one capability stays.
        for (thread, left) in of_threads(vm.pid(), "CapEff") {
            let fine = [NONE, "0000000000004000"].contains(&&*left);
            assert!(fine, "{thread}: {left}");
        }
        vm.quit();
    }
}

#[test]
fn a_tap_is_made_before_privileges_go() {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    if skipped() || !is_root() || tun.is_err() {
        println!("skipped: no taps");
        return;
    }
    let builder = busy().args(["-netdev", "tap,id=t,script=no,downscript=no"]);
    open_to_all(builder.dir());
    let mut vm = builder
        .args(["-runas", &format!("{STRANGER}:{STRANGERS}")])
        .start();
    assert!(vm.qmp().hmp("info network").contains("ifname=tap"));
    assert_threads(&vm, "CapEff", NONE);
    let late = json!({"type": "tap", "id": "u", "script": "no", "downscript": "no"});
    vm.refused("netdev_add", late);
    vm.quit();
}

#[test]
fn a_user_by_name_has_its_groups() {
    if skipped() || !is_root() {
        return;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(line) = users.lines().find(|line| line.starts_with("nobody:")) else {
        println!("skipped: there is no nobody");
        return;
    };
    let ids: Vec<&str> = line.split(':').skip(2).take(2).collect();
    let builder = busy().args(["-run-with", "user=nobody"]);
    open_to_all(builder.dir());
    let vm = builder.start();
    let four = |id: &str| [id; 4].join(" ");
    assert_threads(&vm, "Uid", &four(ids[0]));
    assert_threads(&vm, "Gid", &four(ids[1]));
    for (_, groups) in of_threads(vm.pid(), "Groups") {
        assert!(groups.split(' ').any(|group| group == ids[1]), "{groups}");
    }
    vm.quit();
}

#[test]
fn a_plain_user_needs_no_more() {
    if skipped() || !is_root() {
        return;
    }
    let builder = busy().user(STRANGER);
    open_to_all(builder.dir());
    let vm = builder.start();
    assert_threads(&vm, "NoNewPrivs", "1");
    vm.quit();
    let builder = busy().user(STRANGER).args(["-runas", "1:1"]);
    open_to_all(builder.dir());
    builder
        .run()
        .assert_refused()
        .assert_says("Operation not permitted");
}

#[test]
fn what_cannot_be_is_refused() {
    if skipped() {
        return;
    }
    for (args, words) in [
        (
            &["-runas", "no-such-user"][..],
            "-runas no-such-user: User \"no-such-user\" doesn't exist (and is not <uid>:<gid>)",
        ),
        (
            &["-run-with", "user=1:2:3"],
            "User \"1:2:3\" doesn't exist (and is not <uid>:<gid>)",
        ),
        (&["-run-with", "bogus=1"], "Invalid parameter 'bogus'"),
        (&["-run-with", "async-teardown=on"], "is not supported"),
        (
            &["-run-with", "exit-with-parent=maybe"],
            "Parameter 'exit-with-parent' expects 'on' or 'off'",
        ),
        (
            &["-run-with", "exit-with-parent=on", "-daemonize"],
            "exit-with-parent cannot be used with -daemonize",
        ),
        (
            &["-sandbox", "maybe"],
            "Parameter 'enable' expects 'on' or 'off'",
        ),
        (&["-sandbox", "on,spawn=on"], "invalid argument for spawn"),
        (
            &["-sandbox", "on,elevateprivileges=child"],
            "invalid argument for elevateprivileges",
        ),
        (&["-sandbox", "on,files=all"], "invalid argument for files"),
        (&["-sandbox", "on,bogus=1"], "Invalid parameter 'bogus'"),
        (
            &["-add-dir", "/no/such/dir"],
            "-add-dir /no/such/dir: No such file or directory",
        ),
        (
            &["-chroot", "/no/such/dir"],
            "chroot to '/no/such/dir' failed",
        ),
        (
            &["-overcommit", "mem-lock=maybe"],
            "parameter 'mem-lock' expects one of 'on', 'off', 'on-fault'",
        ),
    ] {
        let exit = VmBuilder::new().none().args(args).run();
        exit.assert_refused().assert_says(words);
    }
    if is_root() {
        let exit = VmBuilder::new().none().args(["-runas", "root"]).run();
        exit.assert_refused()
            .assert_says("Dropping privileges failed");
    }
}

#[test]
fn what_libvirt_says_is_understood() {
    let text = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    let mut vm = busy().args(["-sandbox", text]).start();
    vm.assert_alive();
    vm.quit();
}

#[test]
fn below_another_root_paths_begin_there() {
    if skipped() || !is_root() {
        return;
    }
    let builder = busy();
    let root = builder.path("root");
    fs::create_dir(&root).expect("a directory");
    open_to_all(&root);
    let arg = format!("chroot={},user={STRANGER}:{STRANGERS}", root.display());
    open_to_all(builder.dir());
    let mut vm = builder.args(["-run-with", &arg]).start();
    let backend = json!({"type": "file", "data": {"out": "/made"}});
    vm.exec("chardev-add", json!({"id": "x", "backend": backend}));
    assert_eq!(
        fs::metadata(root.join("made")).expect("a file").uid(),
        STRANGER
    );
    let backend = json!({"type": "file", "data": {"in": "/etc/hostname", "out": "/b"}});
    let error = vm.refused("chardev-add", json!({"id": "y", "backend": backend}));
    assert!(format!("{error:?}").contains("No such file"), "{error:?}");
    vm.quit();
}

#[test]
fn it_ends_with_the_process_that_started_it() {
    if skipped() {
        return;
    }
    let builder = VmBuilder::new().none();
    let (socket, pid_file) = (builder.path("sock"), builder.path("pid"));
    let script = format!(
        "'{}' -machine none -nodefaults -display none -run-with exit-with-parent=on -pidfile {} \
         -qmp unix:{},server=on,wait=off & wait",
        program().display(),
        pid_file.display(),
        socket.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stderr(Stdio::null());
    let mut shell = shell.spawn().expect("a shell");
    let end = std::time::Instant::now() + tests::seconds(20);
    while !socket.exists() {
        assert!(std::time::Instant::now() < end, "it does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut qmp = tests::Qmp::connect(&socket);
    qmp.query("query-status");
    let pid: u32 = fs::read_to_string(&pid_file)
        .expect("a pid file")
        .trim()
        .parse()
        .expect("a number");
    assert!(sys::alive(pid));
    shell.kill().expect("our child");
    shell.wait().expect("our child");
    let end = std::time::Instant::now() + tests::seconds(20);
    while sys::alive(pid) {
        assert!(std::time::Instant::now() < end, "it still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!socket.exists(), "it did not end in order");
}

#[test]
fn directories_of_the_system_are_read_only() {
    if skipped() {
        return;
    }
    let builder = busy();
    let inside = disk::raw(builder.dir(), "inside", 1 << 20);
    let mut vm = builder.start();
    add_file(&mut vm, "inside", &inside, false).expect("a file of ours");
    add_file(&mut vm, "system", Path::new("/etc/passwd"), true).expect("a file to be read");
    let backend = json!({"type": "file", "data": {"out": "/etc/qvmd-was-here"}});
    let error = vm.refused("chardev-add", json!({"id": "x", "backend": backend}));
    assert!(
        format!("{error:?}").contains("Permission denied"),
        "{error:?}"
    );
    assert!(!Path::new("/etc/qvmd-was-here").exists());
    vm.quit();
}

#[test]
fn only_what_was_named_is_opened() {
    if skipped() {
        return;
    }
    let builder = busy();
    let named = disk::raw(builder.dir(), "named", 1 << 20);
    let other = disk::raw(builder.dir(), "other", 1 << 20);
    for name in ["open", "readable"] {
        fs::create_dir(builder.path(name)).expect("a directory");
    }
    let inside = disk::raw(&builder.path("open"), "disk", 1 << 20);
    let readable = disk::raw(&builder.path("readable"), "disk", 1 << 20);
    let open = builder.path("open");
    let log = builder.path("log");
    let mut vm = builder
        .args(["-sandbox", "on,files=named"])
        .arg("-D")
        .arg(&log)
        .arg("-blockdev")
        .arg(format!("file,node-name=named,filename={}", named.display()))
        .arg("-add-dir")
        .arg(&open)
        .arg("-add-dir")
        .arg(format!(
            "path={},readonly=on",
            readable.parent().expect("a directory").display()
        ))
        .start();
    assert_denied(add_file(&mut vm, "other", &other, false));
    assert_denied(add_file(&mut vm, "other", &other, true));
    assert_denied(add_file(&mut vm, "system", Path::new("/etc/passwd"), true));
    let words = fs::read_to_string(&log).expect("a log");
    assert!(words.contains("-sandbox files=named"), "{words}");
    add_file(&mut vm, "inside", &inside, false).expect("in an added directory");
    add_file(&mut vm, "readable", &readable, true).expect("in a directory to be read");
    assert_denied(add_file(&mut vm, "readable2", &readable, false));
    // What was named can be opened again.
    vm.exec("blockdev-del", json!({"node-name": "named"}));
    add_file(&mut vm, "named", &named, false).expect("what was named");
    // Files are made in an added directory, and nowhere else.
    let create = |id: &str, path: &Path| {
        let data = json!({"out": path});
        json!({"id": id, "backend": {"type": "file", "data": data}})
    };
    vm.exec("chardev-add", create("x", &open.join("new")));
    let outside = vm.path("new");
    let error = vm.refused("chardev-add", create("y", &outside));
    assert!(
        format!("{error:?}").contains("Permission denied"),
        "{error:?}"
    );
    // A descriptor needs no permission.
    let file = File::options().read(true).write(true).open(&other);
    let file = file.expect("a file of ours");
    let added = vm
        .qmp()
        .try_exec_fds("add-fd", json!({"fdset-id": 7}), &[file.as_fd()]);
    added.expect("a set");
    add_file(&mut vm, "passed", Path::new("/dev/fdset/7"), false).expect("what was passed");
    // A terminal and a socket that come later.
    vm.exec(
        "chardev-add",
        json!({"id": "pty", "backend": {"type": "pty", "data": {}}}),
    );
    let address = json!({"type": "unix", "data": {"path": open.join("sock")}});
    let data = json!({"addr": address, "server": true, "wait": false});
    vm.exec(
        "chardev-add",
        json!({"id": "sock", "backend": {"type": "socket", "data": data}}),
    );
    let socket = vm.monitor(0);
    vm.signal(libc::SIGTERM);
    assert_eq!(vm.wait().status, Some(0));
    assert!(
        !socket.exists() && !open.join("sock").exists(),
        "sockets are left"
    );
}

#[test]
fn a_disk_of_the_host_that_is_read_can_be_opened_again() {
    if skipped() || !is_root() {
        return;
    }
    let builder = busy();
    let image = disk::raw(builder.dir(), "image", 1 << 20);
    let made = Command::new("losetup")
        .args(["--find", "--show", "--read-only"])
        .arg(&image)
        .output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else {
        println!("skipped: no loop devices");
        return;
    };
    let device = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let node = json!({
        "driver": "host_device", "node-name": "d", "filename": device, "read-only": true,
    });
    let mut vm = builder
        .args(["-sandbox", "on,files=named", "-blockdev"])
        .arg(node.to_string())
        .start();
    // It goes when nobody has it any more.
    let detached = Command::new("losetup")
        .arg("--detach")
        .arg(&device)
        .status();
    assert!(detached.expect("losetup").success());
    vm.exec("blockdev-add", {
        let mut second = node.clone();
        second["node-name"] = "e".into();
        second
    });
    vm.exec("blockdev-del", json!({"node-name": "d"}));
    vm.quit();
}

#[test]
fn sockets_that_are_made_later_are_given_to_groups_by_name() {
    if skipped() {
        return;
    }
    // A group that anybody may give: our own.
    let own = fs::metadata("/proc/self").expect("a process").gid();
    let groups = fs::read_to_string("/etc/group").expect("groups");
    let name = groups.lines().find_map(|line| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)?.parse() == Ok(own)).then_some(name)
    });
    let name = name.expect("a group with a name");
    for sandbox in ["on", "on,files=named"] {
        let builder = busy().args(["-sandbox", sandbox]);
        let path = builder.path("later.sock");
        let directory = format!("path={}", builder.dir().display());
        let mut vm = builder.args(["-add-dir", &directory]).start();
        vm.exec(
            "chardev-add",
            json!({"id": "x", "backend": {"type": "socket", "data": {
                "addr": {"type": "unix", "data": {"path": path}}, "server": true, "wait": false,
                "mode": "0620", "group": name}}}),
        );
        let made = fs::metadata(&path).expect("a socket");
        assert_eq!((made.mode() & 0o7777, made.gid()), (0o620, own));
        vm.quit();
    }
}

#[test]
fn images_below_a_named_one_are_named() {
    if skipped() {
        return;
    }
    let builder = busy();
    let make = |name: &str, backing: Option<&str>| {
        let path = builder.path(name);
        let mut maker = Command::new("qemu-img");
        maker.args(["create", "-q", "-f", "qcow2"]);
        if let Some(backing) = backing {
            maker.args(["-b", backing, "-F", "qcow2"]);
        }
        maker.arg(&path).arg("1M");
        maker.status().is_ok_and(|status| status.success())
    };
    if !make("base", None) || !make("top", Some("base")) {
        println!("skipped: no qemu-img");
        return;
    }
    let top = builder.path("top");
    let base = builder.path("base");
    let mut vm = builder
        .args(["-sandbox", "on,files=named", "-drive"])
        .arg(format!("if=none,id=d,format=qcow2,file={}", top.display()))
        .args(["-device", "virtio-blk-pci,drive=d"])
        .start();
    add_file(&mut vm, "base", &base, true).expect("what is below was named");
    // As it was opened, and no more.
    assert_denied(add_file(&mut vm, "base2", &base, false));
    vm.quit();
}

#[test]
fn a_kill_leaves_nothing_that_stops_the_next_start() {
    let builder = VmBuilder::new().stopped();
    let image = disk::raw(builder.dir(), "disk", 1 << 20);
    let pid_file = builder.path("pid");
    let socket = builder.path("sock");
    let with = |builder: VmBuilder| {
        builder
            .arg("-blockdev")
            .arg(format!("file,node-name=d,filename={}", image.display()))
            .args(["-device", "virtio-blk-pci,drive=d", "-pidfile"])
            .arg(&pid_file)
            .arg("-chardev")
            .arg(format!(
                "socket,id=s,path={},server=on,wait=off",
                socket.display()
            ))
    };
    let mut first = with(builder).start();
    first.signal(libc::SIGKILL);
    first.wait();
    let mut second = with(VmBuilder::new().stopped()).start();
    second.assert_alive();
    second.signal(libc::SIGTERM);
    assert_eq!(second.wait().status, Some(0));
    assert!(!pid_file.exists() && !socket.exists());
}
