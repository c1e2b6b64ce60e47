//! Monitors and serial ports over TLS.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tests::binary::{is_stand_in, tree};
use tests::certificates::credentials;
use tests::{Qmp, Vm, VmBuilder, seconds};

fn bare() -> VmBuilder {
    VmBuilder::bare().args(["-machine", "none", "-nodefaults", "-display", "none"])
}

fn object(id: &str, dir: &Path, endpoint: &str) -> String {
    format!(
        "tls-creds-x509,id={id},dir={},endpoint={endpoint}",
        dir.display()
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// A program with a unix monitor, and one over TLS at the port.
fn with_tls(builder: VmBuilder, dir: &Path, port: u16, more: &str) -> Vm {
    let plain = builder.path("plain.sock");
    builder
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", plain.display()))
        .arg("-object")
        .arg(object("t", dir, "server"))
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=t{more}"
        ))
        .args(["-mon", "chardev=c,mode=control"])
        .spawn()
}

fn plain(vm: &mut Vm) -> Qmp {
    let path = vm.path("plain.sock");
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&path).into());
    qmp.negotiate();
    qmp
}

#[test]
fn a_monitor_over_tls_and_those_who_are_not_let_in() {
    if tests::binary::skip_on_stand_in("floods") {
        return;
    }
    let (dir, strangers) = (credentials("Ours"), credentials("Theirs"));
    let port = free_port();
    let builder = bare().args([
        "-object",
        r#"{"qom-type":"authz-list","id":"a","rules":[{"match":"O=Ours,*","format":"glob","policy":"allow"}]}"#,
    ]);
    let mut vm = with_tls(builder, dir.path(), port, ",tls-authz=a");
    let mut qmp = plain(&mut vm);
    let out = Command::new("python3")
        .arg(tree().join("tests/clients/tls.py"))
        .arg(dir.path())
        .arg(port.to_string())
        .arg(strangers.path())
        .output()
        .expect("python3");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}\n{}", vm.stderr());
    // Nothing else was disturbed.
    qmp.query("query-status");
    let said = vm.stderr();
    assert!(said.contains("No certificate was found."), "{said}");
    assert!(said.contains("127.0.0.1:"), "{said}");
}

/// What a client of openssl's reads.
fn openssl(dir: &Path, port: u16) -> String {
    let file = |name: &str| dir.join(name).into_os_string();
    let out = Command::new("timeout")
        .args(["2", "openssl", "s_client", "-quiet", "-connect"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-CAfile")
        .arg(file("ca-cert.pem"))
        .arg("-cert")
        .arg(file("client-cert.pem"))
        .arg("-key")
        .arg(file("client-key.pem"))
        .stdin(std::process::Stdio::piped())
        .output()
        .expect("openssl");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_list_is_asked_for_each_client() {
    let dir = credentials("Ours");
    let port = free_port();
    let mut vm = with_tls(bare(), dir.path(), port, ",tls-authz=later");
    let mut qmp = plain(&mut vm);
    assert_eq!(openssl(dir.path(), port), "");
    let identity = "O=Ours,CN=client";
    let list = json!({"qom-type": "authz-simple", "id": "later", "identity": identity});
    qmp.exec("object-add", list);
    assert!(openssl(dir.path(), port).contains("QMP"));
    let set = json!({"path": "/objects/later", "property": "identity", "value": "CN=x"});
    qmp.exec("qom-set", set);
    assert_eq!(openssl(dir.path(), port), "");
}

#[test]
fn both_ends_of_a_serial_line() {
    let dir = credentials("Ours");
    let port = free_port();
    let socket = |id: &str, more: &str| {
        format!("socket,id={id},host=localhost,port={port},tls-creds={id}{more}")
    };
    // Until there is something that writes by itself, query-chardev tells of the connection.
    let mut server = VmBuilder::new()
        .none()
        .arg("-object")
        .arg(object("s", dir.path(), "server"))
        .arg("-chardev")
        .arg(socket("s", ",server=on,wait=off"))
        .start();
    let mut client = VmBuilder::new()
        .none()
        .arg("-object")
        .arg(object("k", dir.path(), "client"))
        .arg("-chardev")
        .arg(socket("k", ",reconnect-ms=50"))
        .start();
    let connected = |vm: &mut Vm, id: &str| {
        let until = std::time::Instant::now() + seconds(20);
        loop {
            let list = vm.query("query-chardev");
            let list = list.as_array().expect("a list").clone();
            let one = list.iter().find(|one| one["label"] == id).expect("it");
            let name = one["filename"].as_str().expect("a name");
            if !name.starts_with("disconnected") {
                return name.to_owned();
            }
            assert!(std::time::Instant::now() < until, "not connected");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    assert!(connected(&mut server, "s").starts_with("tcp:127.0.0.1:"));
    assert!(connected(&mut client, "k").starts_with("tcp:127.0.0.1:"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let dir = credentials("Ours");
    let refused = |args: &[&str], words: &str| {
        let server = object("s", dir.path(), "server");
        let client = object("k", dir.path(), "client");
        let exit = bare()
            .args(["-object", &server, "-object", &client])
            .args(args)
            .run();
        exit.assert_refused().assert_says(words);
    };
    let inet = "socket,id=c,host=127.0.0.1,port=0,server=on,wait=off";
    for (more, words) in [
        ("tls-creds=x", "No TLS credentials with id 'x'"),
        (
            "tls-creds=k",
            "Expected TLS credentials for a server endpoint",
        ),
        (
            "tls-authz=a",
            "'tls_authz' option requires 'tls_creds' option",
        ),
    ] {
        refused(&["-chardev", &format!("{inet},{more}")], words);
    }
    refused(
        &[
            "-chardev",
            "socket,id=c,path=/nowhere,server=on,wait=off,tls-creds=s",
        ],
        "'tls_creds' option is incompatible with 'unix' address type",
    );
    refused(
        &[
            "-object",
            "rng-builtin,id=r",
            "-object",
            "authz-simple,id=a,identity=x",
            "-chardev",
            &format!("{inet},tls-creds=a"),
        ],
        "Object with id 'a' is not TLS credentials",
    );
    for (options, words) in [
        ("tls-creds-x509,id=t", "Missing 'dir' property value"),
        (
            "tls-creds-x509,id=t,dir=/nowhere,endpoint=server",
            "Unable to access credentials /nowhere/ca-cert.pem: No such file or directory",
        ),
        ("authz-simple,id=t", "Parameter 'identity' is missing"),
        (
            "tls-creds-x509,id=t,dir=/nowhere,endpoint=both",
            "Parameter 'endpoint' does not accept value 'both'",
        ),
    ] {
        refused(&["-object", options], words);
    }
    if !is_stand_in() {
        for kind in ["tls-creds-anon", "tls-creds-psk"] {
            let words = format!("Parameter 'qom-type' does not accept value '{kind}'");
            refused(&["-object", &format!("{kind},id=t")], &words);
        }
    }
}

#[test]
fn objects_show_what_they_were_made_with() {
    let dir = credentials("Ours");
    let mut vm = bare();
    let path = vm.path("plain.sock");
    vm = vm
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", path.display()));
    let mut vm = vm.spawn();
    let mut qmp = plain(&mut vm);
    let rules = json!([{"match": "CN=a*", "policy": "allow", "format": "glob"}]);
    qmp.exec(
        "object-add",
        json!({"qom-type": "authz-list", "id": "l", "rules": rules}),
    );
    let get = |qmp: &mut Qmp, id: &str, property: &str| {
        let path = format!("/objects/{id}");
        qmp.exec("qom-get", json!({"path": path, "property": property}))
    };
    assert_eq!(get(&mut qmp, "l", "rules"), rules);
    assert_eq!(get(&mut qmp, "l", "policy"), "deny");
    let dir = dir.path().to_str().expect("a path");
    qmp.exec(
        "object-add",
        json!({"qom-type": "tls-creds-x509", "id": "t", "dir": dir, "endpoint": "server"}),
    );
    for (property, value) in [
        ("dir", json!(dir)),
        ("endpoint", json!("server")),
        ("verify-peer", json!(true)),
        ("sanity-check", json!(true)),
        ("priority", json!("")),
    ] {
        assert_eq!(get(&mut qmp, "t", property), value, "{property}");
    }
    qmp.exec("object-del", json!({"id": "t"}));
    let socket = json!({"type": "socket", "data": {"server": true, "tls-creds": "t", "addr":
        {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}}});
    let error = qmp.refused("chardev-add", json!({"id": "c", "backend": socket}));
    assert!(
        error.desc.ends_with("No TLS credentials with id 't'"),
        "{}",
        error.desc
    );
}

#[test]
fn unix_sockets_have_the_mode_and_group_that_was_asked_for() {
    use std::os::unix::fs::MetadataExt;
    if tests::binary::skip_on_stand_in("options of our own") {
        return;
    }
    let builder = bare();
    let (a, b) = (builder.path("a.sock"), builder.path("b.sock"));
    // The group of this very process, which anybody may give.
    let group = std::fs::metadata("/proc/self").expect("a process").gid();
    let mut vm = builder
        .arg("-qmp")
        .arg(format!(
            "unix:{},server=on,wait=off,mode=0660,group={group}",
            a.display()
        ))
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,path={},server=on,wait=off,mode=0777,group=root",
            b.display()
        ))
        .spawn();
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&a).into());
    qmp.negotiate();
    let modes = |path: &Path| std::fs::metadata(path).expect("a socket").mode() & 0o7777;
    assert_eq!((modes(&a), modes(&b)), (0o660, 0o777));
    let socket = |more: serde_json::Value| {
        let path = a.with_extension("x");
        let mut data = json!({"server": true, "wait": false, "addr":
            {"type": "unix", "data": {"path": path}}});
        let members = data.as_object_mut().expect("members");
        members.extend(more.as_object().expect("members").clone());
        json!({"id": "x", "backend": {"type": "socket", "data": data}})
    };
    for (more, words) in [
        (
            json!({"mode": "0999"}),
            "Parameter 'mode' expects permission bits in octal",
        ),
        (
            json!({"mode": "4755"}),
            "Parameter 'mode' expects permission bits in octal",
        ),
        (
            json!({"group": "no such group"}),
            "Group 'no such group' is not known",
        ),
        (
            json!({"server": false, "wait": null, "mode": "0600"}),
            "'mode' and 'group' are options of a listening unix socket with a path",
        ),
    ] {
        let mut arguments = socket(more);
        let data = arguments.pointer_mut("/backend/data").expect("data");
        data.as_object_mut()
            .expect("members")
            .retain(|_, value| !value.is_null());
        let error = qmp.refused("chardev-add", arguments);
        assert!(error.desc.contains(words), "{}", error.desc);
    }
    qmp.exec("chardev-add", socket(json!({"mode": "0600"})));
    assert_eq!(modes(&a.with_extension("x")), 0o600);
}

#[test]
fn a_plain_monitor_stays_on_this_host_unless_asked_for_by_name() {
    if tests::binary::skip_on_stand_in("a rule of our own") {
        return;
    }
    let words = "is open to other hosts, and nothing is encrypted";
    for at in ["tcp:0.0.0.0:0", "tcp::0", "tcp:[::]:0"] {
        let exit = bare()
            .args(["-qmp", &format!("{at},server=on,wait=off")])
            .run();
        exit.assert_refused().assert_says(words);
    }
    // One that connects; nobody has to be there.
    let at = "tcp:192.0.2.1:4444,reconnect-ms=1000";
    bare()
        .args(["-qmp", at])
        .run()
        .assert_refused()
        .assert_says(words);
    // A socket that was passed.
    let passed = TcpListener::bind("0.0.0.0:0").expect("a socket");
    bare()
        .fd(passed, 7)
        .args([
            "-chardev",
            "socket,id=c,fd=7,server=on,wait=off",
            "-mon",
            "chardev=c,mode=control",
        ])
        .run()
        .assert_refused()
        .assert_says(words);
    for at in [
        "tcp:127.0.0.1:0,server=on,wait=off",
        "tcp:localhost:0,server=on,wait=off",
        "tcp:[::1]:0,server=on,wait=off",
        "tcp:0.0.0.0:0,server=on,wait=off,insecure=on",
    ] {
        let builder = bare();
        let path = builder.path("plain.sock");
        let mut vm = builder
            .args(["-qmp", at, "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", path.display()))
            .spawn();
        plain(&mut vm).query("query-status");
    }
    // Other character devices may be anywhere.
    let builder = bare();
    let path = builder.path("plain.sock");
    let mut vm = builder
        .args([
            "-chardev",
            "socket,id=c,host=0.0.0.0,port=0,server=on,wait=off",
            "-qmp",
        ])
        .arg(format!("unix:{},server=on,wait=off", path.display()))
        .spawn();
    plain(&mut vm).query("query-status");
}

#[test]
fn the_log_says_who_came_and_left() {
    if tests::binary::skip_on_stand_in("a log of our own") {
        return;
    }
    let dir = credentials("Ours");
    let port = free_port();
    let builder = bare().env("QVMD_LOG", "info");
    let mut vm = with_tls(builder, dir.path(), port, "");
    let mut qmp = plain(&mut vm);
    assert!(openssl(dir.path(), port).contains("QMP"));
    qmp.query("query-status");
    drop(qmp);
    let mut qmp = plain(&mut vm);
    qmp.query("query-status");
    let said = vm.stderr();
    let pid = std::process::id();
    for words in [
        format!("client: process {pid} ("),
        format!("client left: process {pid} ("),
        "client: 127.0.0.1:".to_owned(),
        ", O=Ours,CN=client".to_owned(),
    ] {
        assert!(said.contains(&words), "{words} is missing in {said}");
    }
}

#[test]
fn only_who_is_let_in_has_come() {
    if tests::binary::skip_on_stand_in("noise at the handshake") {
        return;
    }
    use std::io::Write;
    let dir = credentials("Ours");
    let port = free_port();
    let builder = bare();
    let path = builder.path("plain.sock");
    let mut vm = builder
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", path.display()))
        .arg("-object")
        .arg(object("t", dir.path(), "server"))
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,host=127.0.0.1,port={port},server=on,wait=on,tls-creds=t"
        ))
        .args(["-mon", "chardev=c,mode=control"])
        .spawn();
    let mut qmp = Qmp::over_socket(vm.connect_when_ready(&path).into());
    let mut noise = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    noise.write_all(b"{}\n").expect("noise goes");
    qmp.send(b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"query-chardev\"}\n");
    qmp.greeting();
    qmp.answer();
    // Control serves nobody before.
    assert!(qmp.recv_within(seconds(1)).is_none());
    assert!(openssl(dir.path(), port).contains("QMP"));
    assert!(qmp.answer()["return"].is_array());
}
