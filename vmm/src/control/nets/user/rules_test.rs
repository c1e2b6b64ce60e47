use super::*;

#[test]
fn host_forwards_are_read() {
    let forward = |rule: &str| host_forward(rule).unwrap();
    let plain = HostForward {
        protocol: Protocol::Tcp,
        host: Ipv4Addr::UNSPECIFIED,
        host_port: 2222,
        guest: Ipv4Addr::UNSPECIFIED,
        guest_port: 22,
    };
    assert_eq!(forward("tcp::2222-:22"), plain);
    assert_eq!(forward("::2222-:22"), plain);
    assert_eq!(forward("tcp:: 2222x-:22x"), plain);
    assert_eq!(forward("tcp::0x8ae-:026"), plain);
    let udp = forward("udp:127.0.0.1:53-10.0.2.20:5353");
    assert_eq!(udp.protocol, Protocol::Udp);
    assert_eq!(udp.host, Ipv4Addr::LOCALHOST);
    assert_eq!(udp.guest, Ipv4Addr::new(10, 0, 2, 20));
    assert_eq!(forward("tcp::0-:80").host_port, 0);
}

#[test]
fn host_forwards_are_refused_with_a_reason() {
    for (rule, reason) in [
        ("", "No : separators"),
        ("tcp", "No : separators"),
        ("x:", "Bad protocol name"),
        ("unix:/tmp/a-:80", "Bad protocol name"),
        ("tcp:", "Missing : separator"),
        ("tcp:x:", "Bad host address"),
        ("tcp:[::1]:5555-:22", "Bad host address"),
        ("tcp::", "Bad host port separator"),
        ("tcp::x-", "Bad host port"),
        ("tcp::-:80", "Bad host port"),
        ("tcp::-1-:22", "Bad host port"),
        ("tcp::70000-:80", "Bad host port"),
        ("tcp::5-", "Missing guest address"),
        ("tcp::5555-80", "Missing guest address"),
        ("tcp::5555-x:80", "Bad guest address"),
        ("tcp::5555-:0", "Bad guest port"),
        ("tcp::5555-:0x", "Bad guest port"),
        ("tcp::5555-:", "Bad guest port"),
        ("tcp::5555-:65536", "Bad guest port"),
    ] {
        let error = host_forward(rule).unwrap_err().desc;
        assert_eq!(
            error,
            format!("Invalid host forwarding rule '{rule}' ({reason})")
        );
    }
}

#[test]
fn ends_to_be_removed_are_read() {
    let end = host_end("tcp:127.0.0.1:80").unwrap();
    assert_eq!((end.host, end.port), (Ipv4Addr::LOCALHOST, Some(80)));
    assert_eq!(host_end("udp::53").unwrap().protocol, Protocol::Udp);
    assert_eq!(host_end("::70000").unwrap().port, None);
    for text in [
        "tcp",
        "tcp:5555",
        "x::5555",
        "tcp:x:5555",
        "tcp::x",
        "tcp::",
        "tcp::1x",
        "tcp::0x1",
        "tcp::5555-:22",
    ] {
        assert_eq!(host_end(text), None, "{text}");
    }
}

#[test]
fn guest_forwards_are_read() {
    let rule = guest_forward("tcp:10.0.2.100:7-cmd:nc -q0 a 1").unwrap();
    assert_eq!(rule.server, Ipv4Addr::new(10, 0, 2, 100));
    assert_eq!(rule.to, GuestTarget::Command("nc -q0 a 1".into()));
    let rule = guest_forward("::07-unix:/a-b").unwrap();
    assert_eq!(rule.server, Ipv4Addr::UNSPECIFIED);
    assert_eq!(rule.to, GuestTarget::Chardev("unix:/a-b".into()));
    assert_eq!(rule.chardev_id(), "guestfwd.tcp.7");
}

#[test]
fn guest_forwards_are_refused() {
    for rule in [
        "",
        "tcp",
        "udp:10.0.2.100:1-cmd:cat",
        "tcp:x:1-cmd:cat",
        "tcp:10.0.2.100:x-cmd:cat",
        "tcp:10.0.2.100:1x-cmd:cat",
        "tcp:10.0.2.100:0x10-cmd:cat",
        "tcp:10.0.2.100:0-cmd:cat",
        "tcp:10.0.2.100:-1-cmd:cat",
        "tcp:10.0.2.100:65536-cmd:cat",
        "tcp:10.0.2.100:1",
        "tcp:10.0.2.100-cmd:cat",
    ] {
        let error = guest_forward(rule).unwrap_err().desc;
        assert_eq!(error, format!("Invalid guest forwarding rule '{rule}'"));
    }
}
