//! The program as a service: what its manager hears and passes, the background, signals at bad
//! moments, and the start after a violent end.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::binary::skip_on_stand_in;
use tests::{Qmp, Vm, VmBuilder, disk, seconds, sys};

const NOT_THERE: &str = "the reference knows nothing of service managers";

fn told(manager: &UnixDatagram) -> String {
    manager
        .set_read_timeout(Some(seconds(20)))
        .expect("a limit");
    let mut text = [0; 512];
    let size = manager.recv(&mut text).expect("a word");
    String::from_utf8_lossy(&text[..size]).into_owned()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + seconds(20);
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A builder without defaults, whose options name all there is.
fn plain() -> VmBuilder {
    VmBuilder::bare().args(["-nodefaults", "-no-user-config", "-display", "none"])
}

fn daemon() -> VmBuilder {
    plain().arg("-daemonize")
}

fn listener(path: &Path) -> OwnedFd {
    UnixListener::bind(path).expect("a socket").into()
}

#[test]
fn a_manager_hears_how_the_machine_is() {
    if skip_on_stand_in(NOT_THERE) {
        return;
    }
    let builder = VmBuilder::new().stopped();
    let path = builder.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let mut vm = builder.env("NOTIFY_SOCKET", &path).start();
    assert_eq!(told(&manager), "READY=1\nSTATUS=prelaunch\n");
    vm.query("cont");
    assert_eq!(told(&manager), "STATUS=running\n");
    vm.query("stop");
    assert_eq!(told(&manager), "STATUS=paused\n");
    vm.signal(libc::SIGTERM);
    let mut word = told(&manager);
    if word.starts_with("STATUS=") {
        word = told(&manager);
    }
    assert_eq!(word, "STOPPING=1\n");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn an_abstract_socket_hears_of_the_background_too() {
    if skip_on_stand_in(NOT_THERE) {
        return;
    }
    let name = format!("qvmd-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a socket");
    let builder = daemon().none().env("NOTIFY_SOCKET", format!("@{name}"));
    let pid_file = builder.path("pid");
    let mut vm = builder.arg("-pidfile").arg(&pid_file).spawn();
    assert_eq!(vm.wait().status, Some(0));
    let pid = adopt(&mut vm, &pid_file);
    let expected = format!("MAINPID={pid}\nREADY=1\nSTATUS=running\n");
    assert_eq!(told(&manager), expected);
    vm.signal(libc::SIGTERM);
    assert!(told(&manager).contains("STOPPING=1"));
    eventually("its end", || !sys::alive(pid));
}

fn adopt(vm: &mut Vm, pid_file: &Path) -> u32 {
    let text = fs::read_to_string(pid_file).expect("a pid file");
    let pid = text.trim().parse().expect("a number");
    vm.adopt_daemon(pid);
    pid
}

#[test]
fn a_manager_that_is_gone_harms_nobody() {
    for name in ["/no/such/socket", "@", "vsock:2:1234"] {
        let mut vm = VmBuilder::new().none().env("NOTIFY_SOCKET", name).start();
        vm.assert_alive();
    }
}

#[test]
fn programs_hear_nothing_of_the_manager() {
    if skip_on_stand_in(NOT_THERE) {
        return;
    }
    let builder = VmBuilder::new().stopped();
    let (path, list) = (builder.path("notify"), builder.path("environment"));
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let socket = listener(&builder.path("unused"));
    let mut vm = builder
        .env("NOTIFY_SOCKET", &path)
        .activated(vec![socket], "unused")
        .args(["-incoming", "defer"])
        .start();
    told(&manager);
    let uri = format!("exec:env >{0}.new; mv {0}.new {0}", list.display());
    vm.exec("migrate-incoming", json!({"uri": uri}));
    eventually("the list", || list.exists());
    let text = fs::read_to_string(&list).expect("a list");
    assert!(text.contains("PATH="), "{text}");
    for name in ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS"] {
        assert!(!text.contains(name), "{text}");
    }
}

#[test]
fn sockets_are_taken_by_name_and_by_number() {
    if skip_on_stand_in(NOT_THERE) {
        return;
    }
    let builder = plain().none();
    let paths = ["qmp", "serial", "later"].map(|name| builder.path(name));
    let sockets = paths.iter().map(|path| listener(path)).collect();
    // Who comes early is served.
    let early = UnixStream::connect(&paths[0]).expect("a connection");
    let vm = builder
        .activated(sockets, "control:console:later")
        .args(["-qmp", "fd:control"])
        .args(["-chardev", "socket,id=c,fd=4,server=on,wait=off"])
        .spawn();
    let mut qmp = Qmp::over_socket(early.into());
    qmp.negotiate();
    let listed = qmp.query("query-chardev");
    let names: Vec<_> = listed.as_array().into_iter().flatten().collect();
    assert!(names.iter().any(|entry| entry["label"] == "c"), "{names:?}");
    let add = |name: &str| {
        json!({"id": name, "backend": {"type": "socket", "data": {"wait": false,
            "addr": {"type": "fd", "data": {"str": name}}}}})
    };
    qmp.exec("chardev-add", add("later"));
    let error = qmp.refused("chardev-add", add("other"));
    assert_eq!(
        error.desc,
        "Failed to add chardev 'other': File descriptor named 'other' has not been found"
    );
    for path in &paths[1..] {
        UnixStream::connect(path).expect("somebody listens");
    }
    let stderr = vm.stderr();
    assert!(
        stderr.contains("warning: Nothing uses the socket 'later'"),
        "{stderr}"
    );
    qmp.query("quit");
    // They belong to the manager.
    assert!(paths.iter().all(|path| path.exists()));
}

#[test]
fn sockets_that_are_not_there_are_missed() {
    if skip_on_stand_in(NOT_THERE) {
        return;
    }
    let refused = |builder: VmBuilder, option: &str| {
        let exit = builder.none().args(["-qmp", option]).run();
        let name = option.strip_prefix("fd:").unwrap_or(option);
        exit.assert_refused()
            .assert_says(&format!("File descriptor '{name}' is not a socket"));
    };
    let builder = plain();
    let socket = listener(&builder.path("s"));
    refused(builder.activated(vec![socket], "qmp"), "fd:other");
    // Meant for another process.
    let builder = plain();
    let socket = listener(&builder.path("s"));
    let builder = builder.fd(sys::out_of_the_way(&socket), 3);
    let builder = builder
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "qmp");
    refused(builder, "fd:qmp");
    refused(plain(), "fd:qmp");
    refused(plain(), "fd:77");
    // A pipe is no socket, and a connection does not listen.
    let null = fs::File::open("/dev/null").expect("a file");
    refused(plain().activated(vec![null.into()], "qmp"), "fd:qmp");
    let (one, _other) = UnixStream::pair().expect("a pair");
    let exit = plain()
        .none()
        .activated(vec![one.into()], "qmp")
        .args(["-qmp", "fd:qmp"])
        .run();
    exit.assert_refused()
        .assert_says("File descriptor 'qmp' is not a listening socket");
}

#[test]
fn a_monitor_on_a_socket_that_is_there_by_number() {
    if skip_on_stand_in("-qmp fd: is not known to the reference") {
        return;
    }
    let builder = plain().none();
    let path = builder.path("s");
    let socket = sys::out_of_the_way(&listener(&path));
    let mut vm = builder.fd(socket, 9).args(["-qmp", "fd:9"]).spawn();
    let stream = vm.connect_when_ready(&path);
    let mut qmp = Qmp::over_socket(stream.into());
    qmp.negotiate();
}

#[test]
fn options_come_from_a_file() {
    if skip_on_stand_in("-config is not known to the reference") {
        return;
    }
    let builder = plain();
    let (file, socket) = (builder.path("vm.conf"), builder.path("qmp"));
    let text = format!(
        "# A machine.\nmachine none\n\n-name guest=from a file, \\\n  process=abc\n\
         qmp unix:{},server=on,\\\n    wait=off\n",
        socket.display()
    );
    fs::write(&file, text.replace("file, ", "file,")).expect("a file");
    let mut vm = builder.arg("-config").arg(&file).spawn();
    let stream = vm.connect_when_ready(&socket);
    let mut qmp = Qmp::over_socket(stream.into());
    qmp.negotiate();
    assert_eq!(qmp.query("query-name"), json!({"name": "from a file"}));
    let builder = plain();
    let file = builder.path("vm.conf");
    fs::write(&file, "machine none\nmachine q36\n").expect("a file");
    let exit = builder.arg("-config").arg(&file).run();
    exit.assert_refused()
        .assert_says(&format!("{}:2: machine q36: ", file.display()));
    let exit = plain().args(["-config", "/no/such/file"]).run();
    exit.assert_refused()
        .assert_says("Cannot read '/no/such/file': No such file or directory");
}

#[test]
fn the_background_tells_what_went_wrong() {
    let nowhere = "/no/such/dir";
    let table: [(&[&str], &str); 9] = [
        (&["-kernel", "/no/such/kernel"], "/no/such/kernel"),
        (&["-qmp", "unix:/no/such/dir/s,server=on,wait=off"], nowhere),
        (&["-chardev", "socket,id=c,path=/no/such/dir/s"], nowhere),
        (&["-pidfile", "/no/such/dir/pid"], nowhere),
        (&["-D", "/no/such/dir/log"], nowhere),
        (
            &["-blockdev", "file,node-name=d,filename=/no/such/dir/d"],
            nowhere,
        ),
        (&["-device", "virtio-blk-pci,drive=none"], "none"),
        (&["-incoming", "unix:/no/such/dir/s"], nowhere),
        (&["-loadvm", "snap"], "snap"),
    ];
    for (options, words) in table {
        let builder = daemon().stopped();
        let (pid_file, socket) = (builder.path("pid"), builder.path("other"));
        let exit = builder
            .arg("-pidfile")
            .arg(&pid_file)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .args(options)
            .run();
        exit.assert_refused();
        // The reference has no blocks to load from, and says so.
        if options[0] != "-loadvm" {
            exit.assert_says(words);
        }
        assert!(!socket.exists(), "{options:?} leaves a socket behind");
        assert!(!pid_file.exists(), "{options:?} leaves a pid file behind");
    }
}

#[test]
fn the_background_waits_for_clients_before_it_is_ready() {
    let builder = daemon().none();
    let (socket, pid_file) = (builder.path("console"), builder.path("pid"));
    let option = format!("socket,id=c,path={},server=on,wait=on", socket.display());
    let builder = builder.arg("-pidfile").arg(&pid_file);
    let mut vm = builder.arg("-chardev").arg(&option).spawn();
    eventually("a socket", || socket.exists());
    assert!(vm.wait_within(Duration::from_millis(200)).is_none());
    let _client = UnixStream::connect(&socket).expect("a connection");
    assert_eq!(vm.wait().status, Some(0));
    let pid = adopt(&mut vm, &pid_file);
    vm.signal(libc::SIGTERM);
    eventually("its end", || !sys::alive(pid));
    assert!(!socket.exists() && !pid_file.exists());
}

#[test]
fn a_signal_at_the_start_in_the_background_is_told() {
    if skip_on_stand_in("the reference waits on") {
        return;
    }
    for (signal, words) in [
        (libc::SIGHUP, "terminating on signal 1 from pid"),
        (
            libc::SIGKILL,
            "The process in the background was killed before it was ready",
        ),
    ] {
        let builder = daemon().none();
        let (socket, pid_file) = (builder.path("console"), builder.path("pid"));
        let option = format!("socket,id=c,path={},server=on,wait=on", socket.display());
        let builder = builder.arg("-pidfile").arg(&pid_file);
        let mut vm = builder.arg("-chardev").arg(&option).spawn();
        eventually("a message", || {
            vm.stderr().contains("waiting for connection")
        });
        let text = fs::read_to_string(&pid_file).expect("a pid file");
        sys::kill(text.trim().parse().expect("a number"), signal);
        let exit = vm.wait();
        exit.assert_refused().assert_says(words);
        let left = signal == libc::SIGKILL;
        assert_eq!((socket.exists(), pid_file.exists()), (left, left));
    }
}

#[test]
fn names_without_a_directory_are_found_again_in_the_background() {
    if skip_on_stand_in("the reference leaves them behind") {
        return;
    }
    let builder = daemon().none().args(["-pidfile", "pid"]);
    let builder = builder.args(["-qmp", "unix:q,server=on,wait=off"]);
    let builder = builder.args(["-chardev", "socket,id=c,path=c,server=on,wait=off"]);
    let paths = ["pid", "q", "c"].map(|name| builder.path(name));
    let mut vm = builder.spawn();
    assert_eq!(vm.wait().status, Some(0));
    let pid = adopt(&mut vm, &paths[0]);
    assert!(paths.iter().all(|path| path.exists()));
    vm.signal(libc::SIGINT);
    eventually("its end", || !sys::alive(pid));
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn the_event_names_the_host() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut vm = VmBuilder::new().idle().start();
        vm.signal(signal);
        let event = vm.qmp().event("SHUTDOWN");
        let expected = json!({"guest": false, "reason": "host-signal"});
        assert_eq!(event["data"], expected);
        assert_eq!(vm.wait().status, Some(0));
    }
}

/// Ends it, twice, and checks that the second signal neither hurts nor hangs.
fn end(mut vm: Vm, limit: Duration) {
    let socket = vm.monitor(0);
    vm.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(20));
    vm.signal(libc::SIGTERM);
    let exit = vm.wait_within(limit).expect("an end");
    assert_eq!(exit.status, Some(0), "{exit:?}");
    assert!(!exit.stderr.contains("panicked"), "{exit:?}");
    assert!(!socket.exists(), "the socket is still there");
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let builder = VmBuilder::new().idle().monitors(2);
    let mut vm = builder.start();
    let mut deaf = Qmp::connect(&vm.monitor(1));
    let question = json!({"execute": "query-qmp-schema"}).to_string();
    for _ in 0..200 {
        if deaf.try_send(question.as_bytes()).is_err() {
            break;
        }
    }
    vm.query("query-status");
    end(vm, seconds(10));
}

#[test]
fn a_slow_disk_is_flushed_before_the_end() {
    let disk = "null-co,node-name=d,latency-ns=300000000";
    let builder = VmBuilder::new().idle().args(["-blockdev", disk]);
    let vm = builder.args(["-device", "virtio-blk-pci,drive=d"]).start();
    end(vm, seconds(20));
}

#[test]
fn a_migration_that_stands_still_does_not_hold_up_the_end() {
    let builder = VmBuilder::new().idle();
    let path = builder.path("nobody-reads");
    let _listener = UnixListener::bind(&path).expect("a socket");
    let mut vm = builder.start();
    let uri = format!("unix:{}", path.display());
    vm.exec("migrate", json!({"uri": uri}));
    std::thread::sleep(Duration::from_millis(100));
    end(vm, seconds(20));
}

#[test]
fn a_target_that_waits_does_not_hold_up_the_end() {
    let builder = VmBuilder::new().stopped();
    let path = builder.path("incoming");
    let option = format!("unix:{}", path.display());
    let vm = builder.arg("-incoming").arg(&option).start();
    eventually("a socket", || path.exists());
    let _source = UnixStream::connect(&path).expect("a connection");
    end(vm, seconds(20));
}

#[test]
fn a_dump_that_nobody_reads_does_not_hold_up_the_end() {
    if skip_on_stand_in("the reference waits for its dump") {
        return;
    }
    let mut vm = VmBuilder::new().idle().start();
    let (_reader, writer) = UnixStream::pair().expect("a pair");
    let writer = OwnedFd::from(writer);
    vm.qmp()
        .try_exec_fds("getfd", json!({"fdname": "dump"}), &[as_fd(&writer)])
        .expect("a descriptor");
    let dump = json!({"paging": false, "protocol": "fd:dump", "detach": true});
    vm.exec("dump-guest-memory", dump);
    std::thread::sleep(Duration::from_millis(100));
    end(vm, seconds(20));
}

fn as_fd(fd: &OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    use std::os::fd::AsFd;
    fd.as_fd()
}

#[test]
fn a_snapshot_that_is_cut_short_leaves_the_image_whole() {
    let builder = VmBuilder::new().idle();
    let image = builder.path("d.qcow2");
    qcow2(&image);
    let option = format!(
        "qcow2,node-name=d,file.driver=file,file.filename={}",
        image.display()
    );
    let builder = builder.arg("-blockdev").arg(&option);
    let mut vm = builder.args(["-device", "virtio-blk-pci,drive=d"]).start();
    let save = json!({"job-id": "j", "tag": "t", "vmstate": "d", "devices": ["d"]});
    vm.exec("snapshot-save", save);
    vm.signal(libc::SIGTERM);
    let exit = vm.wait_within(seconds(20)).expect("an end");
    assert_eq!(exit.status, Some(0), "{exit:?}");
    let check = std::process::Command::new("qemu-img")
        .arg("check")
        .arg(&image)
        .output()
        .expect("qemu-img");
    assert!(check.status.success(), "{check:?}");
}

fn qcow2(path: &Path) {
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(path)
        .arg("16M")
        .status();
    assert!(made.is_ok_and(|status| status.success()), "qemu-img");
}

#[test]
fn the_same_command_line_works_after_a_kill() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name).display().to_string();
    qcow2(&folder.path().join("d.qcow2"));
    disk::raw(folder.path(), "e.raw", 1 << 20);
    let qcow2_option = format!(
        "qcow2,node-name=d,file.driver=file,file.filename={},file.locking=on",
        path("d.qcow2")
    );
    let raw_option = format!("file,node-name=e,filename={},locking=on", path("e.raw"));
    let monitor = folder.path().join("qmp");
    let begin = || {
        let mut vm = plain()
            .stopped()
            .args(["-pidfile", &path("pid")])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", path("qmp"))])
            .args([
                "-chardev",
                &format!("socket,id=c,path={},server=on,wait=off", path("c")),
            ])
            .args(["-serial", "chardev:c"])
            .args(["-blockdev", &qcow2_option, "-blockdev", &raw_option])
            .args(["-device", "virtio-blk-pci,drive=d"])
            .args(["-device", "virtio-blk-pci,drive=e"])
            .spawn();
        let mut qmp = Qmp::over_socket(vm.connect_when_ready(&monitor).into());
        qmp.negotiate();
        (vm, qmp)
    };
    for _ in 0..3 {
        let (mut vm, mut qmp) = begin();
        assert_eq!(qmp.query("query-status")["running"], Value::Bool(false));
        let pid = fs::read_to_string(path("pid")).expect("a pid file");
        assert_eq!(pid.trim(), vm.pid().to_string());
        vm.signal(libc::SIGKILL);
        assert_eq!(vm.wait().signal, Some(libc::SIGKILL));
        assert!(monitor.exists() && Path::new(&path("pid")).exists());
    }
    let (mut vm, mut qmp) = begin();
    qmp.query("quit");
    assert_eq!(vm.wait().status, Some(0));
    for name in ["pid", "qmp", "c"] {
        assert!(!Path::new(&path(name)).exists(), "{name} is still there");
    }
}
