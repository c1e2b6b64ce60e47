//! User-mode networks: options and refusals, forwards, and what becomes of their process. What
//! goes through them is tested with the process alone (`usernet`) and with guests.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::sys::{self, programs};
use tests::{Vm, VmBuilder, binary, seconds};

const TABLE: &str =
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n";

fn user(id: &str, more: Value) -> Value {
    let mut options = json!({"type": "user", "id": id});
    options
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    options
}

fn rules(list: &[&str]) -> Value {
    list.iter().map(|rule| json!({"str": rule})).collect()
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn all_options_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut vm = Vm::none();
    let options = json!({
        "hostname": "tux", "restrict": true, "ipv4": true, "ipv6": true, "net": "10.2.0.0/8",
        "host": "10.0.2.6", "tftp": directory.path(), "bootfile": "pxelinux.0",
        "dhcpstart": "10.0.2.20", "dns": "10.0.2.7", "dnssearch": [{"str": "a.example"}],
        "domainname": "example.org", "ipv6-prefix": "fec1::", "ipv6-prefixlen": 60,
        "ipv6-host": "fec1::9", "ipv6-dns": "fec1::a", "smbserver": "10.0.2.8",
        "tftp-server-name": "boot", "hostfwd": rules(&[&format!("udp::{}-:53", free_port())]),
        "guestfwd": rules(&["tcp:10.0.2.100:7-cmd:cat", "tcp:10.0.2.101:8-null"]),
    });
    vm.exec("netdev_add", user("n", options));
    vm.exec("netdev_del", json!({"id": "n"}));
    // What was made for it is gone as well.
    let chardevs = vm.query("query-chardev");
    assert!(!chardevs.to_string().contains("guestfwd"), "{chardevs}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp:127.0.0.1:{}-:22", taken.local_addr().unwrap().port());
    let taken = taken.as_str();
    let mut vm = Vm::none();
    for (options, error) in [
        (json!({"net": "zz"}), "Failed to parse netmask"),
        (
            json!({"net": "10.0.0.0/3"}),
            "Invalid netmask provided (must be in range 4-32)",
        ),
        (json!({"host": "1.2.3.4"}), "Host doesn't belong to network"),
        (
            json!({"dns": "10.0.2.2"}),
            "DNS must be different from host",
        ),
        (
            json!({"dhcpstart": "x"}),
            "Failed to parse DHCP start address",
        ),
        (
            json!({"ipv4": false, "ipv6": false}),
            "IPv4 and IPv6 disabled",
        ),
        (
            json!({"ipv6-host": "fe80::1"}),
            "IPv6 Host doesn't belong to network",
        ),
        (
            json!({"domainname": ""}),
            "'domainname' parameter cannot be empty",
        ),
        (
            json!({"hostfwd": rules(&["x"])}),
            "Invalid host forwarding rule 'x' (No : separators)",
        ),
        (
            json!({"hostfwd": rules(&["x", "tcp::1-"])}),
            "Invalid host forwarding rule 'tcp::1-' (Missing guest address)",
        ),
        (
            json!({"hostfwd": rules(&[taken])}),
            &format!("Could not set up host forwarding rule '{taken}'"),
        ),
        (
            json!({"hostfwd": ["x"]}),
            "Invalid parameter type for 'hostfwd[0]', expected: object",
        ),
        (
            json!({"guestfwd": rules(&["tcp"])}),
            "Invalid guest forwarding rule 'tcp'",
        ),
        (
            json!({"guestfwd": rules(&["tcp:10.0.2.2:1-cmd:cat"])}),
            "Conflicting/invalid host:port in guest forwarding rule 'tcp:10.0.2.2:1-cmd:cat'",
        ),
        (
            json!({"guestfwd": rules(&["tcp:10.0.2.100:1-nosuch"])}),
            "Could not open guest forwarding device 'guestfwd.tcp.1'",
        ),
        (
            json!({"guestfwd": rules(&["tcp:10.0.2.100:1-chardev:x"])}),
            "Could not open guest forwarding device 'guestfwd.tcp.1'",
        ),
        (
            json!({"guestfwd": rules(&["tcp:10.0.2.100:1-null", "tcp:10.0.2.101:1-null"])}),
            "Could not open guest forwarding device 'guestfwd.tcp.1'",
        ),
        (
            json!({"guestfwd": rules(&["tcp:10.0.2.2:1-null"])}),
            "Conflicting/invalid host:port in guest forwarding rule 'tcp:10.0.2.2:1-null'",
        ),
        (json!({"foo": 1}), "Parameter 'foo' is unexpected"),
    ] {
        let refused = vm.refused("netdev_add", user("n", options.clone()));
        assert_eq!(refused.desc, error, "{options}");
    }
    // Nothing is left of them: the id is free, and so is what was made for a forward.
    let options = json!({"guestfwd": rules(&["tcp:10.0.2.100:1-null"])});
    vm.exec("netdev_add", user("n", options.clone()));
    let error = vm.refused("netdev_add", user("n", json!({"hostfwd": rules(&["x"])})));
    assert_eq!(error.desc, "Duplicate ID 'n'");
}

#[test]
fn lines_about_forwards_without_a_network() {
    let mut vm = Vm::none();
    for (line, answer) in [
        ("info usernet", ""),
        (
            "hostfwd_add tcp::1-:1",
            "user mode network stack not in use\r\n",
        ),
        (
            "hostfwd_remove tcp::1",
            "user mode network stack not in use\r\n",
        ),
        ("hostfwd_add n tcp::1-:1", "unrecognized netdev id 'n'\r\n"),
        ("hostfwd_remove n tcp::1", "unrecognized netdev id 'n'\r\n"),
        (
            "hostfwd_add",
            "hostfwd_add: string expected\r\nTry \"help hostfwd_add\" for more information\r\n",
        ),
    ] {
        // QEMU has a network of its own where none was asked for.
        if binary::is_stand_in() && answer.is_empty() | answer.starts_with("user") {
            continue;
        }
        assert_eq!(vm.qmp().hmp(line), answer, "{line}");
    }
}

#[test]
fn forwards_by_lines() {
    let (one, two) = (free_port(), free_port());
    let mut vm = Vm::none();
    vm.exec("netdev_add", user("n", json!({})));
    vm.exec("netdev_add", user("m", json!({"restrict": true})));
    let hub = json!({"type": "hubport", "id": "hub", "hubid": 3});
    vm.exec("netdev_add", hub);
    let mut say = |line: &str| vm.qmp().hmp(line);
    assert_eq!(
        say("info usernet"),
        format!("Hub -1 (n):\r\n{TABLE}Hub -1 (m):\r\n{TABLE}")
    );
    let add = format!("hostfwd_add tcp:127.0.0.1:{one}-:22");
    assert_eq!(say(&add), "");
    let rule = add.trim_start_matches("hostfwd_add ");
    assert_eq!(
        say(&add),
        format!("Could not set up host forwarding rule '{rule}'\r\n")
    );
    assert_eq!(say(&format!("hostfwd_add m udp::{two}-10.0.2.20:53")), "");
    let info = say("info usernet");
    let line = format!("127.0.0.1 {one:>5}       10.0.2.15    22     0     0\r\n");
    assert!(
        info.contains("  TCP[HOST_FORWARD]") && info.contains(&line),
        "{info}"
    );
    let (_, of_m) = info.split_once("(m):").unwrap();
    assert!(
        of_m.contains("  UDP[HOST_FORWARD]") && of_m.contains("10.0.2.20    53"),
        "{info}"
    );

    for (line, answer) in [
        (
            "hostfwd_add x".into(),
            "Invalid host forwarding rule 'x' (No : separators)".into(),
        ),
        (
            "hostfwd_add hub tcp::1-:1".into(),
            "invalid device specified".into(),
        ),
        (
            "hostfwd_remove hub tcp::1".into(),
            "invalid device specified".into(),
        ),
        ("hostfwd_remove tcp".into(), "invalid format".into()),
        ("hostfwd_remove tcp::1x".into(), "invalid format".into()),
        (
            "hostfwd_remove tcp::70000".into(),
            "host forwarding rule for tcp::70000 not found".into(),
        ),
        (
            format!("hostfwd_remove m tcp:127.0.0.1:{one}"),
            format!("host forwarding rule for tcp:127.0.0.1:{one} not found"),
        ),
        (
            format!("hostfwd_remove n tcp:127.0.0.1:{one}"),
            format!("host forwarding rule for tcp:127.0.0.1:{one} removed"),
        ),
        (
            format!("hostfwd_remove m udp::{two}"),
            format!("host forwarding rule for udp::{two} removed"),
        ),
    ] {
        assert_eq!(say(&line), format!("{answer}\r\n"), "{line}");
    }
    assert!(TcpStream::connect(("127.0.0.1", one)).is_err());

    let port = json!({"type": "hubport", "id": "port", "hubid": 3, "netdev": "n"});
    vm.exec("netdev_add", port);
    let info = vm.qmp().hmp("info usernet");
    assert!(info.starts_with("Hub 3 (n):"), "{info}");
}

#[test]
fn ports_are_free_after_the_netdev_is_gone() {
    let port = free_port();
    let mut vm = Vm::none();
    let options = json!({"hostfwd": rules(&[&format!("tcp:127.0.0.1:{port}-:22")])});
    for _ in 0..20 {
        vm.exec("netdev_add", user("n", options.clone()));
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        vm.exec("netdev_del", json!({"id": "n"}));
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + seconds(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_is_left_of_a_netdev() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut vm = Vm::none();
    let pid = vm.pid();
    let options = json!({
        "guestfwd": rules(&["tcp:10.0.2.100:7-cmd:cat", "tcp:10.0.2.101:8-null"]),
    });
    let once = |vm: &mut Vm| {
        vm.exec("netdev_add", user("n", options.clone()));
        assert_eq!(programs(pid).len(), 1);
        vm.exec("netdev_del", json!({"id": "n"}));
        assert_eq!(programs(pid).len(), 0);
    };
    once(&mut vm);
    let before = open_files(pid);
    for _ in 0..10 {
        once(&mut vm);
    }
    assert_eq!(open_files(pid), before);
}

#[test]
fn a_network_that_is_killed_takes_nobody_along() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut vm = Vm::none();
    let pid = vm.pid();
    vm.exec("netdev_add", user("n", json!({})));
    let [child] = programs(pid)[..] else {
        panic!("not one child")
    };
    sys::kill(child, libc::SIGKILL);
    until("reaped", || programs(pid).is_empty());
    assert_eq!(
        vm.qmp().hmp("hostfwd_add tcp::0-:1"),
        "Could not set up host forwarding rule 'tcp::0-:1'\r\n"
    );
    assert_eq!(
        vm.qmp().hmp("info usernet"),
        "Hub -1 (n):\r\nError: The network has ended\r\n"
    );
    vm.exec("netdev_del", json!({"id": "n"}));
    vm.exec("netdev_add", user("n", json!({})));
    assert_eq!(
        vm.qmp().hmp("info usernet"),
        format!("Hub -1 (n):\r\n{TABLE}")
    );
}

#[test]
fn a_network_that_hangs_holds_nobody_up() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut vm = Vm::none();
    let pid = vm.pid();
    vm.exec("netdev_add", user("n", json!({})));
    let [child] = programs(pid)[..] else {
        panic!("not one child")
    };
    sys::kill(child, libc::SIGSTOP);
    let line = json!({"execute": "human-monitor-command", "id": "slow",
        "arguments": {"command-line": "info usernet"}});
    vm.qmp().send(format!("{line}\n").as_bytes());
    let began = Instant::now();
    assert_eq!(vm.qmp().recv()["id"], "slow");
    assert!(began.elapsed() >= seconds(2));
    vm.exec("netdev_del", json!({"id": "n"}));
    assert_eq!(programs(pid).len(), 0);
}

#[test]
fn it_ends_with_the_program() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut vm = Vm::none();
    vm.exec("netdev_add", user("n", json!({})));
    let [child] = programs(vm.pid())[..] else {
        panic!("not one child")
    };
    sys::kill(vm.pid(), libc::SIGKILL);
    until("gone", || !sys::alive(child));
}

#[test]
fn without_its_program_a_network_is_refused() {
    if binary::skip_on_stand_in("the program is ours") {
        return;
    }
    let mut vm = VmBuilder::new()
        .stopped()
        .env("QVMD_USERNET", "/nonexistent/usernet")
        .start();
    let error = vm.refused("netdev_add", user("n", json!({})));
    assert!(
        error
            .desc
            .starts_with("Cannot find the program 'qvmd-usernet'"),
        "{}",
        error.desc
    );
    assert!(
        error.desc.contains("/nonexistent/usernet"),
        "{}",
        error.desc
    );
}

#[test]
fn a_guest_forward_opens_its_character_device() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut vm = Vm::none();
    let rule = format!("tcp:10.0.2.100:7-unix:{}", path.display());
    vm.exec(
        "netdev_add",
        user("n", json!({"guestfwd": rules(&[&rule])})),
    );
    let (mut peer, _) = listener.accept().unwrap();
    let listed = vm.query("query-chardev");
    let entry = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|dev| dev["label"] == "guestfwd.tcp.7");
    assert_eq!(entry.unwrap()["frontend-open"], true);
    peer.write_all(b"nobody listens in the guest").unwrap();
    vm.exec("netdev_del", json!({"id": "n"}));
    // The end, or a reset with what was not read.
    let _ = peer.read_to_end(&mut Vec::new());
}
