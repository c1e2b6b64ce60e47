use serde_json::json;
use tempfile::TempDir;

use super::*;

fn decode<T: api_spec::Decode>(value: serde_json::Value) -> T {
    api_spec::decode_value(value, Mode::Strict).unwrap()
}

#[test]
fn lists_are_read_from_files() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("list");
    let read = |text: &str, refresh: Option<bool>| {
        std::fs::write(&path, text).unwrap();
        let properties = AuthZListFileProperties {
            filename: path.to_str().unwrap().to_owned(),
            refresh,
        };
        list_file(&properties, &Opener::default()).map_err(|error| error.desc)
    };
    let text = r#"{"policy":"deny","rules":[{"match":"CN=*","policy":"allow","format":"glob"}]}"#;
    let made = read(text, None).unwrap();
    assert!(made.list.allows("CN=x") && !made.list.allows("O=x"));
    assert!(read(text, Some(false)).is_ok());
    assert!(read(text, Some(true)).err().unwrap().contains("refresh=on"));
    for (text, words) in [
        ("", "Unable to parse '"),
        ("[]", "Unable to parse '"),
        (
            r#"{"rules":[{"match":"a"}]}"#,
            "'rules[0].policy' is missing",
        ),
        (r#"{"policy":"x"}"#, "'policy' does not accept value 'x'"),
    ] {
        let error = read(text, None).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
    let nowhere = AuthZListFileProperties {
        filename: "/nowhere".into(),
        refresh: None,
    };
    let error = list_file(&nowhere, &Opener::default()).err().unwrap();
    assert_eq!(
        error.desc,
        "Unable to read '/nowhere': No such file or directory"
    );
}

#[test]
fn lists_can_be_changed_and_files_cannot() {
    let mut one = simple("CN=a");
    assert_eq!(one.set("identity", &json!("CN=b")), Ok(true));
    assert!(one.list.allows("CN=b") && !one.list.allows("CN=a"));
    assert!(one.set("identity", &json!(1)).is_err());
    assert_eq!(one.set("rules", &json!([])), Ok(false));
    let mut many = list(&decode(json!({})));
    assert!(!many.list.allows("CN=a"));
    assert_eq!(many.set("policy", &json!("allow")), Ok(true));
    assert!(many.list.allows("CN=a"));
    let rules = json!([{"match": "CN=a", "policy": "deny"}]);
    assert_eq!(many.set("rules", &rules), Ok(true));
    assert!(!many.list.allows("CN=a") && many.list.allows("CN=b"));
    assert!(many.set("rules", &json!([{"match": "x"}])).is_err());
    assert_eq!(many.set("identity", &json!("x")), Ok(false));
}

#[test]
fn credentials_need_a_directory_and_know_no_secrets() {
    let load = |value| {
        credentials(&decode(value), &Opener::default())
            .unwrap_err()
            .desc
    };
    assert_eq!(load(json!({})), "Missing 'dir' property value");
    assert_eq!(
        load(json!({"dir": "/", "passwordid": "s"})),
        "No secret with id 's'"
    );
    assert!(load(json!({"dir": "/nowhere"})).contains("/nowhere/ca-cert.pem"));
    let opener = Opener::default();
    assert!(contents(Path::new("/dev/zero"), &opener).is_err());
}

#[test]
fn the_vault_tells_what_an_object_is() {
    let vault = Vault::default();
    let gate = |id: &str| vault.gate(id, None, Role::Server, None).unwrap_err().desc;
    assert_eq!(gate("x"), "No TLS credentials with id 'x'");
    vault.add("x", None);
    assert_eq!(gate("x"), "Object with id 'x' is not TLS credentials");
    vault.remove("x");
    assert_eq!(gate("x"), "No TLS credentials with id 'x'");
}
