//! Where a monitor can be.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use tests::{Qmp, Vm, VmBuilder, seconds};

fn bare() -> VmBuilder {
    VmBuilder::bare().args(["-machine", "none", "-nodefaults", "-display", "none"])
}

/// Accepts one connection within the limit.
fn accept(listener: &UnixListener) -> UnixStream {
    use std::os::fd::AsFd;
    assert!(
        tests::sys::wait_readable(listener.as_fd(), seconds(20)),
        "nobody connected"
    );
    listener.accept().expect("a connection").0
}

#[test]
fn a_unix_socket_by_qmp_or_by_mon_and_chardev() {
    let builder = bare();
    let (a, b) = (builder.path("a.sock"), builder.path("b.sock"));
    let mut vm = builder
        .arg("-qmp")
        .arg(format!("unix:{},server,nowait", a.display()))
        .arg("-chardev")
        .arg(format!(
            "socket,path={},id=char0,server=on,wait=off",
            b.display()
        ))
        .args(["-mon", "chardev=char0,mode=control"])
        .spawn();
    for path in [&a, &b] {
        let mut qmp = Qmp::over_socket(vm.connect_when_ready(path).into());
        qmp.negotiate();
        qmp.query("query-status");
    }
    // The sockets go with the program.
    let mut qmp = Qmp::connect(&a);
    qmp.query("quit");
    assert_eq!(vm.wait().status, Some(0));
    assert!(!a.exists() && !b.exists(), "the sockets are still there");
}

#[test]
fn a_socket_that_another_program_took_over_stays_when_the_first_ends() {
    if tests::binary::is_stand_in() {
        return;
    }
    let builder = bare();
    let path = builder.path("a.sock");
    let mut vm = builder
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", path.display()))
        .spawn();
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&path).into());
    qmp.negotiate();
    std::fs::remove_file(&path).expect("the socket");
    let other = UnixListener::bind(&path).expect("a socket");
    qmp.query("quit");
    assert_eq!(vm.wait().status, Some(0));
    let _client = UnixStream::connect(&path).expect("the other program's socket");
    accept(&other);
}

#[test]
fn a_file_that_lies_at_the_path_is_replaced() {
    let builder = bare();
    let path = builder.path("a.sock");
    drop(UnixListener::bind(&path).expect("a dead socket"));
    let mut vm = builder
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", path.display()))
        .spawn();
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&path).into());
    qmp.negotiate();
}

#[test]
fn tcp() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port();
    let _vm = bare()
        .arg("-qmp")
        .arg(format!("tcp:127.0.0.1:{port},server=on,wait=off"))
        .spawn();
    let end = std::time::Instant::now() + seconds(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < end, "nobody listens");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut qmp = Qmp::connect_tcp(&format!("127.0.0.1:{port}"));
    qmp.negotiate();
    qmp.query("query-status");
}

#[test]
fn a_tcp_port_in_use_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let exit = bare()
        .arg("-qmp")
        .arg(format!("tcp:127.0.0.1:{port},server=on,wait=off"))
        .run();
    exit.assert_refused().assert_says("Address already in use");
}

#[test]
fn standard_input_and_output() {
    let mut vm = bare().pipes().args(["-qmp", "stdio"]).spawn();
    let output: OwnedFd = vm.stdin.take().expect("a pipe").into();
    let input: OwnedFd = vm.stdout.take().expect("a pipe").into();
    let mut qmp = Qmp::over_pipes(input, output);
    qmp.greeting();
    // As one client does it: both at once, without a newline.
    qmp.send(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\",\"id\":1}");
    assert!(qmp.answer().get("return").is_some());
    assert_eq!(qmp.answer()["id"], 1);
    qmp.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_listening_socket_that_was_handed_down() {
    let builder = bare();
    let path = builder.path("a.sock");
    let listener = UnixListener::bind(&path).expect("a listener");
    // It may be connected to before the program has come up.
    let early = UnixStream::connect(&path).expect("a connection");
    let _vm = builder
        .fd(listener, 9)
        .args([
            "-chardev",
            "socket,id=c,fd=9,server=on,wait=off",
            "-mon",
            "chardev=c,mode=control",
        ])
        .spawn();
    let mut qmp = Qmp::over_socket(early.into());
    qmp.negotiate();
    drop(qmp);
    Qmp::connect(&path).query("query-status");
}

#[test]
fn a_listening_socket_that_was_handed_down_to_qmp() {
    let builder = bare();
    let path = builder.path("a.sock");
    let listener = UnixListener::bind(&path).expect("a listener");
    let _vm = builder
        .fd(listener, 9)
        .args(["-qmp", "unix:fd=9,server=on,wait=off"])
        .spawn();
    let mut qmp = Qmp::connect(&path);
    qmp.query("query-status");
}

#[test]
fn a_connected_socket_that_was_handed_down() {
    let (here, there) = UnixStream::pair().expect("a pair");
    let _vm = bare()
        .fd(there, 9)
        .args([
            "-chardev",
            "socket,id=c,fd=9",
            "-mon",
            "chardev=c,mode=control",
        ])
        .spawn();
    let mut qmp = Qmp::over_socket(here.into());
    qmp.negotiate();
    qmp.query("query-status");
}

#[test]
fn connecting_out_again_and_again() {
    let builder = bare();
    let path = builder.path("peer.sock");
    let listener = UnixListener::bind(&path).expect("a listener");
    let _vm = builder
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,path={},reconnect-ms=50",
            path.display()
        ))
        .args(["-mon", "chardev=c,mode=control"])
        .spawn();
    for _ in 0..3 {
        let mut qmp = Qmp::over_socket(accept(&listener).into());
        qmp.negotiate();
        qmp.query("query-status");
    }
    // The peer goes away and comes back.
    drop(listener);
    std::fs::remove_file(&path).expect("the socket");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let listener = UnixListener::bind(&path).expect("a listener");
    let mut qmp = Qmp::over_socket(accept(&listener).into());
    qmp.negotiate();
}

#[test]
fn connecting_out_to_nobody_waits_with_reconnect_and_fails_without() {
    let builder = bare();
    let path = builder.path("peer.sock");
    let mut vm = builder
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,path={},reconnect-ms=50",
            path.display()
        ))
        .args(["-mon", "chardev=c,mode=control"])
        .spawn();
    assert!(
        vm.wait_within(std::time::Duration::from_millis(300))
            .is_none(),
        "it gave up"
    );
    let listener = UnixListener::bind(&path).expect("a listener");
    let mut qmp = Qmp::over_socket(accept(&listener).into());
    qmp.negotiate();
    let exit = bare()
        .args([
            "-chardev",
            "socket,id=c,path=/no/such/peer",
            "-mon",
            "chardev=c,mode=control",
        ])
        .run();
    exit.assert_refused()
        .assert_says("Failed to connect to '/no/such/peer'");
}

#[test]
fn a_server_that_waits_lets_nothing_happen_before_its_client() {
    let builder = bare();
    let path = builder.path("a.sock");
    let mut vm = builder
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=on", path.display()))
        .spawn();
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&path).into());
    qmp.negotiate();
    qmp.query("query-status");
}

#[test]
fn indented_answers_where_they_are_asked_for() {
    let builder = bare();
    let path = builder.path("a.sock");
    let mut vm = builder
        .arg("-chardev")
        .arg(format!(
            "socket,path={},id=char0,server=on,wait=off",
            path.display()
        ))
        .args(["-mon", "chardev=char0,mode=control,pretty=on"])
        .spawn();
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&path).into());
    let first = qmp.recv_bytes().expect("a line");
    assert_eq!(first, b"{\r\n", "{}", String::from_utf8_lossy(&first));
}

#[test]
fn a_monitor_that_vanishes_leaves_the_program_running() {
    let mut vm = Vm::none();
    drop(vm.take_qmp());
    assert!(
        vm.wait_within(std::time::Duration::from_millis(200))
            .is_none()
    );
}
