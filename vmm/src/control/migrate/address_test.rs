use api_spec::{MigrationCapabilityStatus, Mode, Value, decode_value};

use super::*;
use crate::control::migrate::settings::Activity;

fn parse(uri: &str) -> Result<Address, String> {
    Address::parse_uri(uri).map_err(|error| error.desc)
}

fn inet(host: &str, port: &str) -> InetSocketAddress {
    InetSocketAddress {
        host: host.into(),
        port: port.into(),
        numeric: None,
        to: None,
        ipv4: None,
        ipv6: None,
        keep_alive: None,
    }
}

fn channels(json: &str) -> QmpResult<Vec<MigrationChannel>> {
    decode_value(serde_json::from_str::<Value>(json).unwrap(), Mode::Strict)
}

#[test]
fn uris() {
    for (uri, expected) in [
        ("tcp:1.2.3.4:5", Address::Tcp(inet("1.2.3.4", "5"))),
        ("tcp::0", Address::Tcp(inet("", "0"))),
        ("tcp:0:4446", Address::Tcp(inet("0", "4446"))),
        ("tcp:[::1]:5", Address::Tcp(inet("::1", "5"))),
        (
            "tcp:a:5,to=9,ipv4,ipv6=off,keep-alive=on",
            Address::Tcp(InetSocketAddress {
                to: Some(9),
                ipv4: Some(true),
                ipv6: Some(false),
                keep_alive: Some(true),
                ..inet("a", "5")
            }),
        ),
        (
            "unix:/a:b,c",
            Address::Unix(UnixSocketAddress {
                path: "/a:b,c".into(),
                r#abstract: None,
                tight: None,
            }),
        ),
        ("fd:migrate", Address::Fd("migrate".into())),
        ("fd:7", Address::Fd("7".into())),
        (
            "exec:cat > 'a:b'",
            Address::Exec(vec!["/bin/sh".into(), "-c".into(), "cat > 'a:b'".into()]),
        ),
        (
            "file:/a,b",
            Address::File {
                path: "/a,b".into(),
                offset: 0,
            },
        ),
        (
            "file:/a,b,offset=1k",
            Address::File {
                path: "/a,b".into(),
                offset: 1024,
            },
        ),
        (
            "file:/dev/fdset/3,offset=0x10",
            Address::File {
                path: "/dev/fdset/3".into(),
                offset: 16,
            },
        ),
    ] {
        assert_eq!(parse(uri), Ok(expected), "{uri}");
    }
}

#[test]
fn uris_that_make_no_sense() {
    for (uri, message) in [
        ("", "unknown migration protocol: "),
        ("tcp", "unknown migration protocol: tcp"),
        ("foo:bar", "unknown migration protocol: foo:bar"),
        ("vsock:1:2", "Migration protocol 'vsock' is not supported"),
        ("rdma:h:1", "Migration protocol 'rdma' is not supported"),
        ("tcp:", "error parsing address ''"),
        ("tcp:host", "error parsing address 'host'"),
        ("tcp:host:", "error parsing address 'host:'"),
        ("tcp::", "error parsing port in address ':'"),
        ("tcp:[::1:4", "error parsing IPv6 address '[::1:4'"),
        ("tcp:[]:4", "error parsing IPv6 address '[]:4'"),
        ("tcp:[::1]:4,ipv4=foo", "error parsing 'ipv4' flag '=foo'"),
        ("tcp:a:1,to=x", "error parsing to= argument"),
        ("tcp:a:1,to=70000", "error parsing to= argument"),
        ("tcp:a:1,bar=1", "Invalid parameter 'bar'"),
        ("unix:", "invalid Unix socket address"),
        ("fd:", "invalid file descriptor address"),
        (
            "file:/a,offset=x",
            "file URI has bad offset x: Invalid argument",
        ),
        (
            "file:/a,offset=-1",
            "file URI has bad offset -1: Invalid argument",
        ),
        (
            "file:/a,offset=8E",
            "file URI has bad offset 8E: Invalid argument",
        ),
    ] {
        assert_eq!(parse(uri), Err(message.to_owned()), "{uri}");
    }
}

#[test]
fn channels_name_the_same() {
    let address = |json: &str| {
        let channels = channels(json).map_err(|error| error.desc)?;
        Address::from_channels(&channels).map_err(|error| error.desc)
    };
    let main = |addr: &str| format!(r#"[{{"channel-type": "main", "addr": {addr}}}]"#);
    let tcp = r#"{"transport": "socket", "type": "inet", "host": "::1", "port": "5"}"#;
    let unix = r#"{"transport": "socket", "type": "unix", "path": "/a"}"#;
    let fd = r#"{"transport": "socket", "type": "fd", "str": "7"}"#;
    let exec = r#"{"transport": "exec", "args": ["/bin/sh", "-c", "x"]}"#;
    let file = r#"{"transport": "file", "filename": "/a", "offset": 3}"#;
    for (addr, uri) in [
        (tcp, "tcp:[::1]:5"),
        (unix, "unix:/a"),
        (fd, "fd:7"),
        (exec, "exec:x"),
        (file, "file:/a,offset=3"),
    ] {
        assert_eq!(address(&main(addr)), parse(uri), "{addr}");
    }
    let empty = r#"{"transport": "exec", "args": []}"#;
    let rdma = r#"{"transport": "rdma", "host": "a", "port": "5"}"#;
    let no_fd = r#"{"transport": "socket", "type": "fd", "str": ""}"#;
    let cpr = main(unix).replace("main", "cpr");
    let two = format!("{},{}", main(unix), main(unix)).replace("],[", ",");
    for (json, message) in [
        (
            main(empty),
            "Parameter 'args' expects a program and its arguments",
        ),
        (
            main(rdma),
            "Parameter 'transport' does not accept value 'rdma'",
        ),
        (main(no_fd), "invalid file descriptor address"),
        (cpr, "Migration channel type 'cpr' is not supported"),
        (two, "Channel list has more than one main entry"),
        ("[]".to_owned(), "Channel list has no main entry"),
    ] {
        assert_eq!(address(&json), Err(message.to_owned()), "{json}");
    }
}

#[test]
fn one_of_both_names_it() {
    let of = |uri, channels: Option<&[MigrationChannel]>| {
        Address::of(uri, channels).map_err(|error| error.desc)
    };
    let list = channels(
        r#"[{"channel-type": "main", "addr": {"transport": "socket", "type": "unix", "path": "/a"}}]"#,
    )
    .unwrap();
    let neither = Err("need either 'uri' or 'channels' argument".to_owned());
    assert_eq!(of(None, None), neither);
    assert_eq!(of(None, Some(&[])), neither);
    assert_eq!(of(Some("unix:/a"), Some(&list)), neither);
    assert_eq!(of(Some("unix:/a"), Some(&[])), parse("unix:/a"));
    assert_eq!(of(None, Some(&list)), parse("unix:/a"));
}

#[test]
fn not_every_stream_goes_everywhere() {
    use MigrationCapability as C;
    let check = |uri: &str, capabilities: &[C]| {
        let mut settings = Settings::default();
        let on = |&capability: &C| MigrationCapabilityStatus {
            capability,
            state: true,
        };
        let changes: Vec<_> = capabilities.iter().map(on).collect();
        settings.set_capabilities(&changes, Activity::Idle).unwrap();
        let address = Address::parse_uri(uri).unwrap();
        address.check(&settings).map_err(|error| error.desc)
    };
    let seekable = Err("Migration requires seekable transport (e.g. file)".to_owned());
    let several = Err("Migration requires multi-channel URIs (e.g. tcp)".to_owned());
    for uri in ["tcp:a:1", "unix:/a", "fd:7", "exec:x", "file:/a"] {
        assert_eq!(check(uri, &[]), Ok(()), "{uri}");
    }
    for (uri, capabilities, expected) in [
        ("file:/a", &[C::MappedRam] as &[C], Ok(())),
        ("tcp:a:1", &[C::MappedRam], seekable.clone()),
        ("exec:x", &[C::MappedRam], seekable),
        ("tcp:a:1", &[C::Multifd], Ok(())),
        ("unix:/a", &[C::Multifd], Ok(())),
        ("file:/a", &[C::Multifd, C::MappedRam], Ok(())),
        ("file:/a", &[C::Multifd], several.clone()),
        ("fd:7", &[C::Multifd], several.clone()),
        ("exec:x", &[C::Multifd], several),
    ] {
        assert_eq!(check(uri, capabilities), expected, "{uri}");
    }
}

#[test]
fn only_files_are_mapped() {
    use MigrationRamLoad::{Map, Read};
    for (uri, map) in [("tcp:a:1", false), ("fd:7", false), ("file:/a", true)] {
        let address = Address::parse_uri(uri).unwrap();
        assert!(address.check_ram_load(Read).is_ok());
        assert_eq!(address.check_ram_load(Map).is_ok(), map, "{uri}");
    }
}
