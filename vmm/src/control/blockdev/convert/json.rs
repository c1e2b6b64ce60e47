//! `json:` names: a node's options as images name others by them.

use api_spec::keyval::parse_json;
use api_spec::{BlockdevOptions, BlockdevRef, Mode, Object, QmpError, QmpResult, Value};
use block::{DriverSpec, NodeSpec};

/// The node of a `json:` name; `text` is what stands after the colon. As blockdev-add's options,
/// but keys may be dotted, and numbers and switches may be text. Without a driver, what is in
/// `file` is looked at.
///
/// # Errors
/// When it is no such description.
pub(in super::super) fn node(text: &str) -> QmpResult<NodeSpec> {
    let object =
        parse_json(text).map_err(|_| QmpError::generic("Could not parse the JSON options"))?;
    let mut object = nested(object)?;
    if object.contains_key("driver") {
        let options: BlockdevOptions =
            api_spec::decode_value(Value::Object(object), Mode::Lenient)?;
        return super::node(options);
    }
    let file = object
        .remove("file")
        .ok_or_else(|| QmpError::generic("Parameter 'driver' is missing"))?;
    if let Some(key) = object.keys().next() {
        return Err(QmpError::generic(format!(
            "Parameter '{key}' is unexpected without 'driver'"
        )));
    }
    let file: BlockdevRef = api_spec::decode_value(file, Mode::Lenient)?;
    let file = Box::new(super::child(file)?);
    Ok(NodeSpec::new(DriverSpec::Probe { file }))
}

/// Dotted keys made objects within objects.
fn nested(object: Object) -> QmpResult<Object> {
    let mut root = Object::new();
    for (key, value) in object {
        let value = match value {
            Value::Object(inner) => Value::Object(nested(inner)?),
            other => other,
        };
        insert(&mut root, &key, value)?;
    }
    Ok(root)
}

/// Most parts of a key; no sensible name comes near it.
const MAX_DEPTH: usize = 100;

fn insert(root: &mut Object, key: &str, value: Value) -> QmpResult<()> {
    let parts: Vec<&str> = key.split('.').collect();
    let inconsistent = || QmpError::generic(format!("Parameters '{key}' used inconsistently"));
    let (last, above) = parts.split_last().ok_or_else(inconsistent)?;
    if above.len() > MAX_DEPTH {
        return Err(QmpError::generic("A key has too many parts"));
    }
    let mut object = root;
    for part in above {
        let next = object
            .entry(*part)
            .or_insert_with(|| Value::Object(Object::new()));
        object = next.as_object_mut().ok_or_else(inconsistent)?;
    }
    match (object.get_mut(*last), value) {
        (None, value) => {
            object.insert((*last).to_owned(), value);
            Ok(())
        }
        (Some(Value::Object(there)), Value::Object(more)) => {
            for (key, value) in more {
                if there.insert(key, value).is_some() {
                    return Err(inconsistent());
                }
            }
            Ok(())
        }
        (Some(_), _) => Err(inconsistent()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{BackingSpec, ChildSpec, FormatKind};

    fn file_of(spec: &NodeSpec) -> &NodeSpec {
        let child = match &spec.driver {
            DriverSpec::Raw { file, .. } | DriverSpec::Probe { file } => &**file,
            DriverSpec::Format(format) => &*format.file,
            other => panic!("{other:?}"),
        };
        match child {
            ChildSpec::Inline(spec) => spec,
            ChildSpec::Reference(name) => panic!("{name}"),
        }
    }

    #[test]
    fn keys_are_nested_or_dotted_and_numbers_may_be_text() {
        let nested = r#"{"driver": "raw", "offset": 512, "read-only": true,
            "file": {"driver": "file", "filename": "a.img"}}"#;
        let dotted = r#"{"driver": "raw", "offset": "512", "read-only": "on",
            "file.driver": "file", "file.filename": "a.img"}"#;
        let mixed = r#"{"driver": "raw", "offset": "512", "read-only": "on",
            "file": {"driver": "file"}, "file.filename": "a.img"}"#;
        let spec = node(nested).unwrap();
        assert_eq!(spec, node(dotted).unwrap());
        // The object is there when the dotted key comes.
        assert_eq!(spec, node(mixed).unwrap());
        assert_eq!(file_of(&spec).driver_name(), "file");
        assert_eq!(spec.read_only, Some(true));
    }

    #[test]
    fn formats_have_backing_files() {
        let text = r#"{"driver": "qed", "file": "f", "backing": null}"#;
        let DriverSpec::Format(format) = node(text).unwrap().driver else {
            panic!("no format");
        };
        assert_eq!(format.kind, FormatKind::Qed);
        assert_eq!(format.backing, Some(BackingSpec::Nothing));
    }

    #[test]
    fn without_a_driver_the_file_is_looked_at() {
        let spec = node(r#"{"file": {"driver": "file", "filename": "a.img"}}"#).unwrap();
        assert!(matches!(spec.driver, DriverSpec::Probe { .. }));
        assert_eq!(file_of(&spec).driver_name(), "file");
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, message) in [
            ("", "Could not parse the JSON options"),
            ("[]", "Could not parse the JSON options"),
            ("{}", "Parameter 'driver' is missing"),
            (r#"{"driver": "file"}"#, "Parameter 'filename' is missing"),
            (
                r#"{"driver": "raw", "file": "x", "file.driver": "file"}"#,
                "Parameters 'file.driver' used inconsistently",
            ),
            (
                r#"{"driver": "nope"}"#,
                "Parameter 'driver' does not accept value 'nope'",
            ),
            (
                r#"{"file": "x", "offset": 1}"#,
                "Parameter 'offset' is unexpected without 'driver'",
            ),
        ] {
            assert_eq!(node(text).unwrap_err().desc, message, "{text}");
        }
        let deep = format!(r#"{{"{}x": 1}}"#, "a.".repeat(200));
        assert!(node(&deep).is_err());
    }
}
