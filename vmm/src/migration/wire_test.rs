use super::*;

fn hello() -> Hello {
    Hello {
        features: Features::ANSWERS.with(Features::ZSTD, true),
        id: *b"0123456789abcdef",
        channel: 1,
        channels: 2,
    }
}

fn text<T: std::fmt::Debug>(result: Result<T, Broken>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn openings() {
    let bytes = hello().encode();
    assert_eq!(Hello::decode(&bytes), Ok(hello()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes;
            bad[at] ^= 1 << bit;
            assert!(Hello::decode(&bad).is_err(), "byte {at}, bit {bit}");
        }
    }
    let refusal = |change: &dyn Fn(&mut [u8; HELLO_LEN])| {
        let mut bad = bytes;
        change(&mut bad);
        let crc = Crc::of(&bad[..36]);
        bad[36..].copy_from_slice(&crc.to_le_bytes());
        text(Hello::decode(&bad))
    };
    let start = "Migration stream: record 'hello', field ";
    for (change, reason) in [
        (
            (&|bad: &mut [u8; HELLO_LEN]| bad[0] = b'X') as &dyn Fn(&mut [u8; HELLO_LEN]),
            "'magic': this is not a migration stream of qvmd",
        ),
        (
            &|bad| bad[8] = 9,
            "'version': 9 is not supported (supported: 1)",
        ),
        (
            &|bad| bad[15] = 1,
            "'features': 0x1000000 are not known to this version",
        ),
        (&|bad| bad[32] = 3, "'channel': 3 of 2"),
        (
            &|bad| bad[35] = 1,
            "'channels': 258 are over the limit of 255",
        ),
    ] {
        assert_eq!(refusal(change), format!("{start}{reason}"));
    }
}

#[test]
fn heads_of_records() {
    let mut bytes = Vec::new();
    Head::put(&mut bytes, Kind::Pass, 7, &[1, 0, 0, 0], 0);
    let head: [u8; HEAD_LEN] = bytes[..HEAD_LEN].try_into().unwrap();
    let decoded = Head::decode(&head, 7).unwrap();
    assert_eq!(
        (decoded.kind, decoded.len, decoded.data),
        (Kind::Pass, 4, 0)
    );
    decoded.check(&bytes[HEAD_LEN..]).unwrap();
    assert_eq!(
        text(decoded.check(&[2, 0, 0, 0])),
        "Migration stream: record 'pass', field 'crc': does not match"
    );
    let start = "Migration stream: record 'pass', field ";
    assert_eq!(
        text(Head::decode(&head, 8)),
        format!("{start}'sequence': 7 where 8 was expected")
    );
    let with = |kind, len: u32, data: u32| {
        let mut out = Out::default();
        out.bytes(kind).u32(0).u32(len).u32(data).u32(0);
        text(Head::decode(&out.0.try_into().unwrap(), 0))
    };
    for (kind, len, data, reason) in [
        (
            b"PASS",
            5,
            0,
            "record 'pass', field 'len': 5 is over the limit of 4",
        ),
        (
            b"SECT",
            u32::MAX,
            0,
            "record 'section', field 'len': 4294967295 is over the limit of 268435456",
        ),
        (
            b"DONE",
            0,
            1,
            "record 'end', field 'data': 1 is over the limit of 0",
        ),
        (
            b"PAGE",
            8,
            u32::MAX,
            "record 'pages', field 'data': 4294967295 is over the limit of 4194304",
        ),
        (
            b"\0\n\xffX",
            0,
            0,
            "record 'record', field 'kind': '\\x00\\n\\xffX' is not known",
        ),
    ] {
        let wanted = format!("Migration stream: {reason}");
        assert_eq!(with(kind, len, data), wanted);
    }
}

#[test]
fn every_payload_comes_back_and_is_refused_when_cut() {
    let blocks = vec![
        BlockEntry {
            name: "pc.ram".into(),
            len: 4096,
            left_out: false,
            place: 0,
        },
        BlockEntry {
            name: "shared".into(),
            len: 1 << 40,
            left_out: true,
            place: 1 << 21,
        },
    ];
    let config = MachineConfig {
        machine: "pc-q35-10.0".into(),
        ram: vec![("pc.ram".into(), 4096)],
        ..MachineConfig::default()
    };
    let section = Section {
        id: "i8042".into(),
        instance: "/machine/i8042".into(),
        version: 3,
        body: vec![1, 2, 3],
    };
    let bytes = put_blocks(&blocks);
    assert_eq!(get_blocks(&bytes), Ok(blocks));
    for cut in 0..bytes.len() {
        assert!(get_blocks(&bytes[..cut]).is_err());
    }
    let bytes = put_config(&config).unwrap();
    assert_eq!(get_config(&bytes), Ok(config));
    for cut in 0..bytes.len() {
        assert!(get_config(&bytes[..cut]).is_err());
    }
    let bytes = put_state(RunState::Paused, 9);
    assert_eq!(get_state(&bytes), Ok((RunState::Paused, 9)));
    for cut in 0..bytes.len() {
        assert!(get_state(&bytes[..cut]).is_err());
    }
    let mut bytes = vec![7; 3];
    put_section(&section, &mut bytes).unwrap();
    assert_eq!(get_section(bytes.clone()), Ok(section));
    for cut in 0..bytes.len() - 3 {
        assert!(get_section(bytes[..cut].to_vec()).is_err());
    }
    get_pass(&put_pass(3), 3).unwrap();
    assert!(get_pass(&put_pass(3), 4).is_err());
    assert_eq!(
        get_reason(&put_reason("no\n such\x07 device")),
        "no such device"
    );
    assert_eq!(put_reason(&"ä".repeat(600)).len(), 1024);
}

#[test]
fn hostile_payloads() {
    // Nested deeper than anything of ours: no stack is used up.
    let bomb = vec![0x81; 100_000];
    assert!(text(get_config(&bomb)).contains("record 'config', field 'machine'"));
    // A text that claims more than there is.
    assert!(get_config(&[0xa1, 0x67, b'm', b'a', b'c', b'h', b'i', b'n', b'e', 0x7b]).is_err());
    let many = u32::MAX.to_le_bytes();
    assert!(text(get_blocks(&many)).contains("'count': 4294967295 is over the limit"));
    let mut out = Out::default();
    out.u32(u32::MAX).text("running");
    assert!(text(get_state(&out.0)).contains("'sections': 4294967295 is over"));
    let mut out = Out::default();
    out.u32(0).text("flying");
    assert!(text(get_state(&out.0)).contains("'state': 'flying' is not known"));
    let mut out = Out::default();
    out.u16(2).bytes(&[0xff, 0xfe]);
    assert!(text(get_section(out.0)).contains("'id': is not UTF-8"));
}
