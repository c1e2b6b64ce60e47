use super::*;
use api_spec::{DeviceDriver, NetdevBranch};

fn args(name: &'static str, values: &[&str]) -> Vec<Arg> {
    let one = |value: &&str| Arg {
        name,
        value: (*value).to_owned(),
        location: format!("-{name} {value}"),
    };
    values.iter().map(one).collect()
}

fn net(values: &[&str]) -> Result<NetOrders, String> {
    orders(vec![], vec![], args("net", values)).map_err(|error| error.to_string())
}

fn nic_args(values: &[&str]) -> Result<NetOrders, String> {
    orders(vec![], args("nic", values), vec![]).map_err(|error| error.to_string())
}

/// `netdev id (type)` and `nic on netdev`, in order.
fn shape(orders: &NetOrders) -> Vec<String> {
    let netdev = |(_, netdev): &(Arg, Netdev)| {
        let other = match &netdev.r#type {
            NetdevBranch::Hubport(port) => port.netdev.clone().unwrap_or_default(),
            _ => String::new(),
        };
        format!("{}:{}:{other}", netdev.r#type.kind().name(), netdev.id)
    };
    let nic = |(_, device): &(Arg, DeviceOptions)| match &device.driver {
        DeviceDriver::VirtioNetPci(nic) => format!(
            "nic:{}:{}:{}",
            device.id.as_deref().unwrap_or_default(),
            nic.netdev.as_deref().unwrap_or_default(),
            nic.mac.as_deref().unwrap_or_default()
        ),
        _ => panic!("no interface"),
    };
    orders
        .netdevs
        .iter()
        .map(netdev)
        .chain(orders.nics.iter().map(nic))
        .collect()
}

#[test]
fn lists_are_collected_and_flags_are_on() {
    let made = netdev("user,id=u,hostfwd=tcp::2222-:22,restrict,hostfwd=tcp::80-:80").unwrap();
    let NetdevBranch::User(user) = &made.r#type else {
        panic!("another kind")
    };
    let forwards: Vec<&str> = user
        .hostfwd
        .iter()
        .flatten()
        .map(|text| text.str.as_str())
        .collect();
    assert_eq!(forwards, ["tcp::2222-:22", "tcp::80-:80"]);
    assert_eq!(user.restrict, Some(true));
    let made = netdev(r#"{"type":"user","id":"u","hostfwd":[{"str":"tcp::1-:2"}]}"#).unwrap();
    assert_eq!(made.id, "u");
}

#[test]
fn dotted_keys_are_for_new_kinds() {
    let made = netdev("stream,id=s,addr.type=unix,addr.path=/run/x,server=on").unwrap();
    assert!(matches!(made.r#type, NetdevBranch::Stream(_)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, words) in [
        ("foo,id=x", "Parameter 'type' does not accept value 'foo'"),
        (
            "l2tpv3,id=x",
            "Parameter 'type' does not accept value 'l2tpv3'",
        ),
        ("tap", "Parameter 'id' is missing"),
        ("tap,id=x,foo=1", "Parameter 'foo' is unexpected"),
        (
            "{\"type\":\"tap\",\"id\":1}",
            "Invalid parameter type for 'id', expected: string",
        ),
    ] {
        assert_eq!(netdev(text).unwrap_err().desc, words, "{text}");
    }
}

#[test]
fn nic_is_a_netdev_and_an_interface() {
    let made = nic_args(&[
        "tap,ifname=t0,model=virtio,mac=52:54:00:11:22:33,id=n",
        "user",
    ])
    .unwrap();
    assert_eq!(
        shape(&made),
        [
            "tap:n:",
            "user:nic1-netdev:",
            "nic::n:52:54:00:11:22:33",
            "nic::nic1-netdev:"
        ]
    );
    assert!(shape(&nic_args(&["none"]).unwrap()).is_empty());
    for (text, words) in [
        (
            "user,model=e1000",
            "Unsupported NIC model: e1000 (supported are virtio and virtio-net-pci)",
        ),
        ("user,mac=x", "invalid syntax for ethernet address"),
        (
            "user,mac=01:00:00:00:00:00",
            "NIC cannot have multicast MAC address (odd 1st byte)",
        ),
    ] {
        let error = nic_args(&[text]).err().unwrap();
        assert_eq!(error, format!("-nic {text}: {words}"));
    }
}

#[test]
fn one_nic_and_one_netdev_need_no_hub() {
    let made = net(&[
        "nic,vlan=1,macaddr=00:16:35:AF:94:4B,model=virtio,name=ncard1",
        "user,vlan=1,name=user_net1,restrict=yes",
    ]);
    // `yes` is `on`.
    assert_eq!(
        shape(&made.unwrap()),
        ["user:user_net1:", "nic:ncard1:user_net1:00:16:35:AF:94:4B"]
    );
    let made = net(&["nic,model=virtio,netdev=guest0,macaddr=00:16:35:AF:94:4B"]).unwrap();
    assert_eq!(shape(&made), ["nic::guest0:00:16:35:AF:94:4B"]);
}

#[test]
fn more_meet_at_a_hub() {
    let made = net(&["nic", "nic", "user", "socket,listen=:1"]).unwrap();
    assert_eq!(
        shape(&made),
        [
            "user:user.hub0-0:",
            "socket:socket.hub0-1:",
            "hubport:hub0port0:user.hub0-0",
            "hubport:hub0port1:socket.hub0-1",
            "hubport:hub0port2:",
            "hubport:hub0port3:",
            "nic::hub0port2:",
            "nic::hub0port3:"
        ]
    );
    assert!(shape(&net(&["none"]).unwrap()).is_empty());
    assert_eq!(
        net(&["nic,foo=1"]).err().unwrap(),
        "-net nic,foo=1: Invalid parameter 'foo'"
    );
}
