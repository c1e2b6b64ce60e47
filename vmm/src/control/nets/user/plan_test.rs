use super::*;

fn options(text: &str) -> NetdevUserOptions {
    let mut options = NetdevUserOptions::default();
    for (key, value) in text.split(',').filter_map(|part| part.split_once('=')) {
        let own = value.to_owned();
        let flag = Some(value == "on");
        let wrapped = StringWrapper { str: own.clone() };
        match key {
            "net" => options.net = Some(own),
            "ip" => options.ip = Some(own),
            "host" => options.host = Some(own),
            "dns" => options.dns = Some(own),
            "dhcpstart" => options.dhcpstart = Some(own),
            "restrict" => options.restrict = flag,
            "ipv4" => options.ipv4 = flag,
            "ipv6" => options.ipv6 = flag,
            "ipv6-prefix" => options.ipv6_prefix = Some(own),
            "ipv6-prefixlen" => options.ipv6_prefixlen = value.parse().ok(),
            "ipv6-host" => options.ipv6_host = Some(own),
            "ipv6-dns" => options.ipv6_dns = Some(own),
            "smb" => options.smb = Some(own),
            "smbserver" => options.smbserver = Some(own),
            "domainname" => options.domainname = Some(own),
            "hostname" => options.hostname = Some(own),
            "tftp-server-name" => options.tftp_server_name = Some(own),
            "bootfile" => options.bootfile = Some(own),
            "hostfwd" => options.hostfwd.get_or_insert_default().push(wrapped),
            "guestfwd" => options.guestfwd.get_or_insert_default().push(wrapped),
            "dnssearch" => options.dnssearch.get_or_insert_default().push(wrapped),
            other => panic!("{other}"),
        }
    }
    options
}

fn plan(text: &str) -> Plan {
    Plan::new(&options(text)).unwrap_or_else(|error| panic!("{text}: {}", error.desc))
}

#[test]
fn the_usual_network() {
    let plan = plan("");
    let Ipv4 {
        enabled,
        network,
        mask,
        host,
        dhcp_start,
        dns,
    } = plan.config.ipv4;
    assert!(enabled && plan.config.ipv6.enabled);
    assert_eq!(network, Ipv4Addr::new(10, 0, 2, 0));
    assert_eq!(mask, Ipv4Addr::new(255, 255, 255, 0));
    assert_eq!(host, Ipv4Addr::new(10, 0, 2, 2));
    assert_eq!(dns, Ipv4Addr::new(10, 0, 2, 3));
    assert_eq!(dhcp_start, Ipv4Addr::new(10, 0, 2, 15));
    let Ipv6 {
        prefix,
        prefix_len,
        host,
        dns,
        ..
    } = plan.config.ipv6;
    assert_eq!((prefix.to_string().as_str(), prefix_len), ("fec0::", 64));
    assert_eq!(
        (host.to_string().as_str(), dns.to_string().as_str()),
        ("fec0::2", "fec0::3")
    );
    assert_eq!(plan.description, "net=10.0.2.0,restrict=off");
}

#[test]
fn networks_without_a_mask_have_that_of_their_class() {
    for (net, network, mask) in [
        ("11.0.0.0", "11.0.0.0", "255.0.0.0"),
        ("172.16.3.0", "172.16.0.0", "255.240.0.0"),
        ("172.32.3.0", "172.32.0.0", "255.255.0.0"),
        ("130.1.0.0", "130.1.0.0", "255.255.0.0"),
        ("192.168.1.0", "192.168.0.0", "255.255.0.0"),
        ("198.19.0.0", "198.18.0.0", "255.254.0.0"),
        ("193.3.3.3", "193.3.3.0", "255.255.255.0"),
        ("224.0.0.0", "224.0.0.0", "255.255.255.240"),
        ("10.2.0.0/8", "10.0.0.0", "255.0.0.0"),
        ("10.0.0.0/255.255.0.0", "10.0.0.0", "255.255.0.0"),
        ("010.0.2.0/+24", "8.0.2.0", "255.255.255.0"),
    ] {
        let four = plan(&format!("net={net}")).config.ipv4;
        assert_eq!(four.network.to_string(), network, "{net}");
        assert_eq!(four.mask.to_string(), mask, "{net}");
    }
    let four = plan("net=10.2.0.0/8").config.ipv4;
    assert_eq!(four.dhcp_start, Ipv4Addr::new(10, 0, 2, 15));
}

#[test]
fn one_family_alone() {
    let enabled = |text: &str| {
        let config = plan(text).config;
        (config.ipv4.enabled, config.ipv6.enabled)
    };
    assert_eq!(enabled("ipv4=on"), (true, false));
    assert_eq!(enabled("ipv6=on"), (false, true));
    assert_eq!(enabled("ipv4=off"), (false, true));
    assert_eq!(enabled("ipv6=off"), (true, false));
    assert_eq!(enabled("ipv4=on,ipv6=on"), (true, true));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let long = "a".repeat(256);
    for (text, error) in [
        ("net=1.2.3.4/x", "Failed to parse netmask (trailing chars)"),
        ("ip=10.0.3.0/24", "Failed to parse netmask (trailing chars)"),
        ("net=zz", "Failed to parse netmask"),
        ("net=zz/8", "Failed to parse netmask"),
        ("net=", "Failed to parse netmask"),
        (
            "net=10.0.0.0/3",
            "Invalid netmask provided (must be in range 4-32)",
        ),
        (
            "net=10.0.0.0/33",
            "Invalid netmask provided (must be in range 4-32)",
        ),
        (
            "net=10.0.2.0/",
            "Invalid netmask provided (must be in range 4-32)",
        ),
        (
            "net=10.0.2.0/30",
            "DHCP must be different from host and DNS",
        ),
        ("net=10.0.2.0/32", "DNS must be different from host"),
        ("host=x", "Failed to parse host"),
        ("host=1.2.3.4", "Host doesn't belong to network"),
        ("dns=x", "Failed to parse DNS"),
        ("dns=8.8.8.8,restrict=on", "DNS doesn't belong to network"),
        ("dns=10.0.2.2", "DNS must be different from host"),
        ("dhcpstart=x", "Failed to parse DHCP start address"),
        ("dhcpstart=1.1.1.1", "DHCP doesn't belong to network"),
        (
            "dhcpstart=10.0.2.3",
            "DHCP must be different from host and DNS",
        ),
        ("ipv4=off,ipv6=off", "IPv4 and IPv6 disabled"),
        (
            "ipv4=off,host=10.0.2.2",
            "IPv4 disabled but netmask/host/dns provided",
        ),
        (
            "ipv6=on,net=10.0.0.0/8",
            "IPv4 disabled but netmask/host/dns provided",
        ),
        (
            "ipv6=off,ipv6-dns=::1",
            "IPv6 disabled but prefix/host6/dns6 provided",
        ),
        ("ipv6-prefix=x", "Failed to parse IPv6 prefix"),
        (
            "ipv6-prefixlen=127",
            "Invalid IPv6 prefix provided (IPv6 prefix length must be between 0 and 126)",
        ),
        (
            "ipv6-prefixlen=-1",
            "Invalid IPv6 prefix provided (IPv6 prefix length must be between 0 and 126)",
        ),
        ("ipv6-host=x", "Failed to parse IPv6 host"),
        ("ipv6-host=fe80::1", "IPv6 Host doesn't belong to network"),
        ("ipv6-dns=x", "Failed to parse IPv6 DNS"),
        (
            "ipv6-dns=fe80::1,restrict=on",
            "IPv6 DNS doesn't belong to network",
        ),
        ("smbserver=x,domainname=", "Failed to parse SMB address"),
        (
            "smbserver=x,dhcpstart=x",
            "Failed to parse DHCP start address",
        ),
        ("domainname=", "'domainname' parameter cannot be empty"),
        (
            &format!("domainname={long}"),
            "'domainname' parameter cannot exceed 255 bytes",
        ),
        (
            &format!("hostname={long}"),
            "'vhostname' parameter cannot exceed 255 bytes",
        ),
        (
            &format!("tftp-server-name={long}"),
            "'tftp-server-name' parameter cannot exceed 255 bytes",
        ),
        (
            &format!("bootfile={}", &long[..128]),
            "'bootfile' parameter cannot exceed 127 bytes",
        ),
        (
            "smb=/tmp",
            "Parameter 'smb' is not supported: no SMB server is run for guests",
        ),
        ("hostfwd=x,guestfwd=", "Invalid guest forwarding rule ''"),
        (
            "hostfwd=x,hostfwd=y",
            "Invalid host forwarding rule 'y' (No : separators)",
        ),
    ] {
        let refused = Plan::new(&options(text)).map(|_| ()).unwrap_err();
        assert_eq!(refused.desc, error, "{text}");
    }
    plan("dns=8.8.8.8");
    plan("ipv6-dns=fe80::1");
    plan("ip=10.0.3.0,net=10.0.4.0/24");
    plan(&format!("hostname=,bootfile={}", &long[..127]));
}

#[test]
fn forwards_are_made_from_the_last_to_the_first() {
    let plan = plan("hostfwd=::1-:1,guestfwd=::5-null,hostfwd=::2-:2,guestfwd=::6-cmd:cat");
    let ports: Vec<u16> = plan
        .config
        .host_forwards
        .iter()
        .map(|rule| rule.host_port)
        .collect();
    assert_eq!(ports, [2, 1]);
    assert_eq!(plan.host_rules, ["::2-:2", "::1-:1"]);
    let targets: Vec<&Target> = plan
        .config
        .guest_forwards
        .iter()
        .map(|rule| &rule.to)
        .collect();
    assert_eq!(targets, [&Target::Command("cat".into()), &Target::Stream]);
}
