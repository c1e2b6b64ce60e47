use super::*;
use serde_json::json;

fn text(s: &str, implied: Option<&str>) -> Value {
    match parse(s, implied, Flags::Refused).expect(s) {
        Argument::Text(o) | Argument::Json(o) | Argument::Help(o) => Value::Object(o),
    }
}

#[test]
fn dotted_keys_lists_and_escapes() {
    assert_eq!(
        text("raw,file.driver=file,file.filename=/a,,b", Some("driver")),
        json!({"driver": "raw", "file": {"driver": "file", "filename": "/a,b"}})
    );
    assert_eq!(text("l.0=a,l.1=b", None), json!({"l": ["a", "b"]}));
    assert_eq!(text("a=1,a=2", None), json!({"a": "2"}));
    assert_eq!(text("a=", None), json!({"a": ""}));
    assert_eq!(text("id=x,", None), json!({"id": "x"}));
    assert_eq!(
        text("{'a': \"it's\", 'b': 'say \"x\"'}", None),
        json!({"a": "it's", "b": "say \"x\""})
    );
}

#[test]
fn malformed_keys_are_refused() {
    for bad in [
        "a",
        "a..b=1",
        ".a=1",
        "a=1,a.b=2",
        "a.b=1,a=2",
        "l.0=1,l.x=2",
        "l.1=1",
        "{",
        "{}x",
    ] {
        assert!(parse(bad, None, Flags::Refused).is_err(), "{bad}");
    }
}

#[test]
fn flags_of_old_options() {
    let Argument::Text(o) =
        parse("socket,server,nowait,id=a", Some("backend"), Flags::OnOff).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        Value::Object(o),
        json!({"backend": "socket", "server": "on", "wait": "off", "id": "a"})
    );
    assert!(matches!(
        parse("help", Some("type"), Flags::OnOff),
        Ok(Argument::Help(_))
    ));
    assert!(matches!(
        parse("virtio-blk-pci,help", Some("driver"), Flags::Refused),
        Ok(Argument::Help(_))
    ));
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", Some(0)),
        ("4096", Some(4096)),
        ("64k", Some(65536)),
        ("1.5G", Some(3 << 29)),
        ("0x10", Some(16)),
        ("8E", Some(8 << 60)),
        ("16E", None),
        ("1.5", None),
        ("", None),
        ("12x", None),
        ("-1", None),
        ("M", None),
    ] {
        assert_eq!(parse_size(text), bytes, "{text}");
    }
    assert_eq!(parse_size_with("128", 1 << 20), Some(128 << 20));
    assert_eq!(parse_size_with("128B", 1 << 20), Some(128));
}
