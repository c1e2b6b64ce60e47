//! Netdevs with sockets: how they come to their peers, and what clients hear of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use serde_json::{Value, json};
use tests::Vm;

fn stream(id: &str, addr: Value, more: Value) -> Value {
    let mut options = json!({"type": "stream", "id": id, "addr": addr});
    let more = more.as_object().expect("an object").clone();
    options.as_object_mut().expect("an object").extend(more);
    options
}

fn unix(vm: &Vm, name: &str) -> Value {
    json!({"type": "unix", "path": vm.path(name)})
}

/// Waits until `info network` says so of a netdev.
fn shows(vm: &mut Vm, line: &str) {
    for _ in 0..200 {
        let text = vm.qmp().hmp("info network");
        if text.lines().any(|other| other.trim_end() == line) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{line:?} is not in {:?}", vm.qmp().hmp("info network"));
}

#[test]
fn a_server_takes_one_client_after_the_other() {
    let mut vm = Vm::none();
    let addr = unix(&vm, "s");
    vm.exec(
        "netdev_add",
        stream("n", addr.clone(), json!({"server": true})),
    );
    shows(&mut vm, "n: index=0,type=stream,listening");
    for _ in 0..3 {
        let client = UnixStream::connect(vm.path("s")).expect("it listens");
        let told = vm.qmp().event("NETDEV_STREAM_CONNECTED");
        assert_eq!(told["data"], json!({"netdev-id": "n", "addr": addr}));
        let line = format!("n: index=0,type=stream,unix:{}", vm.path("s").display());
        shows(&mut vm, &line);
        drop(client);
        let told = vm.qmp().event("NETDEV_STREAM_DISCONNECTED");
        assert_eq!(told["data"], json!({"netdev-id": "n"}));
        shows(&mut vm, "n: index=0,type=stream,listening");
    }
    vm.exec("netdev_del", json!({"id": "n"}));
    assert!(!vm.path("s").exists());
    vm.exec("netdev_add", stream("n", addr, json!({"server": true})));
}

#[test]
fn a_client_connects_and_comes_back() {
    let mut vm = Vm::none();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    let addr = json!({"type": "inet", "host": "localhost", "port": port});
    vm.exec("netdev_add", stream("n", addr, json!({"reconnect-ms": 50})));
    for _ in 0..3 {
        let (mut peer, _) = listener.accept().expect("it connects");
        let told = vm.qmp().event("NETDEV_STREAM_CONNECTED");
        let place = json!({"type": "inet", "host": "127.0.0.1", "port": port, "ipv4": true});
        assert_eq!(told["data"], json!({"netdev-id": "n", "addr": place}));
        // Frames for nobody, and then a lie.
        let frames = [&[0, 0, 5, 234][..], &[7; 1514]].concat().repeat(300);
        peer.write_all(&frames).expect("they are taken");
        peer.write_all(&[0xff; 4]).expect("it is taken");
        vm.qmp().event("NETDEV_STREAM_DISCONNECTED");
        assert_eq!(peer.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    drop(listener);
    shows(&mut vm, "n: index=0,type=stream,connecting");
}

#[test]
fn a_client_says_why_it_gave_up() {
    let mut vm = Vm::none();
    let addr = unix(&vm, "nobody");
    vm.exec("netdev_add", stream("n", addr, json!({})));
    let path = vm.path("nobody");
    let line = format!(
        "n: index=0,type=stream,error: Failed to connect to '{}': No such file or directory",
        path.display()
    );
    shows(&mut vm, &line);
}

#[test]
fn a_name_that_nobody_knows_holds_nobody_up() {
    let mut vm = Vm::none();
    let addr = json!({"type": "inet", "host": "nowhere.invalid", "port": "1"});
    vm.exec("netdev_add", stream("n", addr, json!({})));
    let line = "n: index=0,type=stream,error: address resolution failed for nowhere.invalid:1: \
                Name or service not known";
    shows(&mut vm, line);
}

#[test]
fn a_passed_socket_is_a_peer() {
    let mut vm = Vm::none();
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    let qmp = vm.qmp();
    qmp.try_exec_fds("getfd", json!({"fdname": "net"}), &[theirs.as_fd()])
        .expect("it is taken");
    drop(theirs);
    vm.exec(
        "netdev_add",
        stream("n", json!({"type": "fd", "str": "net"}), json!({})),
    );
    vm.qmp().event("NETDEV_STREAM_CONNECTED");
    drop(ours);
    vm.qmp().event("NETDEV_STREAM_DISCONNECTED");
}

#[test]
fn options_of_streams_that_contradict_each_other() {
    let mut vm = Vm::none();
    let addr = unix(&vm, "s");
    let both = "'reconnect' and 'reconnect-ms' options are incompatible with socket in server mode";
    for (more, text) in [
        (json!({"server": true, "reconnect-ms": 1}), both),
        (json!({"server": true, "reconnect": 1}), both),
        (
            json!({"reconnect": 1, "reconnect-ms": 1}),
            "'reconnect' and 'reconnect-ms' are mutually exclusive",
        ),
    ] {
        let error = vm.refused("netdev_add", stream("n", addr.clone(), more));
        assert_eq!(error.to_string(), format!("GenericError: {text}"));
    }
    let error = vm.refused("netdev_add", json!({"type": "stream", "id": "n"}));
    assert_eq!(error.desc, "Parameter 'addr' is missing");
    // What a server cannot listen at is told at once.
    let addr = json!({"type": "unix", "path": "/nowhere/s"});
    let error = vm.refused("netdev_add", stream("n", addr, json!({"server": true})));
    assert_eq!(
        error.desc,
        "Failed to bind socket to /nowhere/s: No such file or directory"
    );
    // The id is free after all that.
    vm.exec(
        "netdev_add",
        stream("n", unix(&vm, "s"), json!({"server": true})),
    );
}

#[test]
fn datagrams_have_two_addresses_or_a_group() {
    let mut vm = Vm::none();
    let free = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("an address").port().to_string()
    };
    let inet = |host: &str, port: &str| json!({"type": "inet", "host": host, "port": port});
    let (one, two, group) = (free(), free(), free());
    for (options, text) in [
        (json!({}), "dgram requires local= parameter".to_owned()),
        (
            json!({"remote": inet("127.0.0.1", "5000")}),
            "dgram requires local= parameter".into(),
        ),
        (
            json!({"local": inet("127.0.0.1", "5000")}),
            "type=inet or type=unix requires remote parameter".into(),
        ),
        (
            json!({"local": inet("127.0.0.1", "5000"), "remote": unix(&vm, "r")}),
            "remote and local types must be the same".into(),
        ),
        (
            json!({"local": {"type": "fd", "str": "7"}, "remote": inet("127.0.0.1", "5000")}),
            "don't set remote with local.fd".into(),
        ),
        (
            json!({"local": inet("127.0.0.1", "x"), "remote": inet("127.0.0.1", "5000")}),
            "port number 'x' is invalid".into(),
        ),
        (
            json!({"local": inet("nowhere.invalid", "1"), "remote": inet("127.0.0.1", "5000")}),
            "can't resolve host address 'nowhere.invalid'".into(),
        ),
        (
            json!({"local": inet("1.2.3.4", "5016"), "remote": inet("127.0.0.1", "5000")}),
            "can't bind ip=1.2.3.4 to socket: Cannot assign requested address".into(),
        ),
        (
            json!({"remote": inet("230.0.0.1", "5000"), "local": unix(&vm, "l")}),
            "only support inet or fd type for local".into(),
        ),
    ] {
        let mut all = json!({"type": "dgram", "id": "n"});
        let more = options.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(more);
        let error = vm.refused("netdev_add", all);
        assert_eq!(error.to_string(), format!("GenericError: {text}"));
    }
    let (here, there) = (inet("127.0.0.1", &one), inet("127.0.0.1", &two));
    vm.exec(
        "netdev_add",
        json!({"type": "dgram", "id": "u", "local": here, "remote": there}),
    );
    shows(
        &mut vm,
        &format!("u: index=0,type=dgram,udp=127.0.0.1:{one}/127.0.0.1:{two}"),
    );
    let here = inet("127.0.0.1", &group);
    let there = inet("230.0.0.1", &group);
    vm.exec(
        "netdev_add",
        json!({"type": "dgram", "id": "m", "local": here, "remote": there}),
    );
    shows(
        &mut vm,
        &format!("m: index=0,type=dgram,mcast=230.0.0.1:{group}"),
    );
    let (local, remote) = (unix(&vm, "l"), unix(&vm, "r"));
    vm.exec(
        "netdev_add",
        json!({"type": "dgram", "id": "x", "local": local, "remote": remote}),
    );
    let (local, remote) = (vm.path("l"), vm.path("r"));
    let line = format!(
        "x: index=0,type=dgram,udp={}:{}",
        local.display(),
        remote.display()
    );
    shows(&mut vm, &line);
    let peer = UnixDatagram::bind(&remote).expect("a socket");
    peer.send_to(&[1; 60], &local).expect("it is taken");
    for id in ["u", "m", "x"] {
        vm.exec("netdev_del", json!({"id": id}));
    }
}

#[test]
fn the_older_face_of_sockets() {
    let mut vm = Vm::none();
    let one = "exactly one of listen=, connect=, mcast= or udp= is required";
    for (options, text) in [
        (json!({}), one),
        (json!({"listen": ":0", "connect": ":4"}), one),
        (
            json!({"listen": ":0", "localaddr": "127.0.0.1"}),
            "localaddr= is only valid with mcast= or udp=",
        ),
        (
            json!({"connect": "127.0.0.1"}),
            "host address '127.0.0.1' doesn't contain ':' separating host from port",
        ),
        (
            json!({"connect": "nowhere.invalid:4"}),
            "can't resolve host address 'nowhere.invalid'",
        ),
        (
            json!({"mcast": "127.0.0.1:4"}),
            "specified mcastaddr 127.0.0.1 (0x7f000001) does not contain a multicast address",
        ),
        (
            json!({"mcast": "230.0.0.1:4", "localaddr": "xx"}),
            "localaddr 'xx' is not a valid IPv4 address",
        ),
        (
            json!({"udp": "127.0.0.1:4"}),
            "localaddr= is mandatory with udp=",
        ),
        (
            json!({"listen": "1.2.3.4:44"}),
            "can't bind ip=1.2.3.4 to socket: Cannot assign requested address",
        ),
        (
            json!({"listen": "127.0.0.1:x"}),
            "port number 'x' is invalid",
        ),
        (
            json!({"fd": "nn"}),
            "File descriptor named 'nn' has not been found",
        ),
    ] {
        let mut all = json!({"type": "socket", "id": "n"});
        let more = options.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(more);
        let error = vm.refused("netdev_add", all);
        assert_eq!(error.to_string(), format!("GenericError: {text}"));
    }
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let at = format!("127.0.0.1:{port}");
    vm.exec(
        "netdev_add",
        json!({"type": "socket", "id": "n", "listen": at}),
    );
    let client = TcpStream::connect(&at).expect("it listens");
    let from = client.local_addr().expect("an address");
    shows(
        &mut vm,
        &format!("n: index=0,type=socket,socket: connection from {from}"),
    );
    drop(client);
    shows(&mut vm, "n: index=0,type=socket,");
    vm.exec(
        "netdev_add",
        json!({"type": "socket", "id": "c", "connect": at}),
    );
    shows(
        &mut vm,
        &format!("c: index=0,type=socket,socket: connect to {at}"),
    );
    assert!(vm.qmp().pending_events().is_empty());
}

#[test]
fn a_netdev_is_in_one_hub() {
    let mut vm = Vm::none();
    let hub = |id: &str, more: Value| {
        let mut all = json!({"type": "hubport", "id": id, "hubid": 1});
        let more = more.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(more);
        all
    };
    vm.exec("netdev_add", hub("h1", json!({})));
    let error = vm.refused("netdev_add", hub("h2", json!({"netdev": "zz"})));
    assert_eq!(error.desc, "netdev 'zz' not found");
    let addr = unix(&vm, "s");
    vm.exec("netdev_add", stream("n", addr, json!({"server": true})));
    vm.exec("netdev_add", hub("h2", json!({"netdev": "n"})));
    let error = vm.refused("netdev_add", hub("h3", json!({"netdev": "n"})));
    assert_eq!(error.desc, "netdev 'n' is in use");
    // In the hub it is served, too.
    drop(UnixStream::connect(vm.path("s")).expect("it listens"));
    vm.qmp().event("NETDEV_STREAM_CONNECTED");
    vm.qmp().event("NETDEV_STREAM_DISCONNECTED");
    vm.exec("netdev_del", json!({"id": "h2"}));
    vm.exec("netdev_add", hub("h3", json!({"netdev": "n"})));
    for id in ["n", "h3", "h1"] {
        vm.exec("netdev_del", json!({"id": id}));
    }
}

#[test]
fn many_come_and_go_without_a_trace() {
    let mut vm = Vm::none();
    let descriptors = |vm: &Vm| {
        let dir = format!("/proc/{}/fd", vm.pid());
        std::fs::read_dir(dir).expect("a directory").count()
    };
    let listener = UnixListener::bind(vm.path("l")).expect("a socket");
    let mut before = 0;
    for round in 0..30 {
        let server = unix(&vm, "s");
        vm.exec("netdev_add", stream("a", server, json!({"server": true})));
        let client = unix(&vm, "l");
        vm.exec("netdev_add", stream("b", client, json!({"reconnect": 1})));
        vm.qmp().event("NETDEV_STREAM_CONNECTED");
        let (peer, _) = listener.accept().expect("it connects");
        let _client = UnixStream::connect(vm.path("s")).expect("it listens");
        vm.qmp().event("NETDEV_STREAM_CONNECTED");
        vm.exec("netdev_del", json!({"id": "a"}));
        vm.exec("netdev_del", json!({"id": "b"}));
        drop(peer);
        if round == 4 {
            before = descriptors(&vm);
        }
    }
    assert_eq!(descriptors(&vm), before);
}
