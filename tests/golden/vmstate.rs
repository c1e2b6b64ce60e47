// Golden files of saved state, for the tests of the crates whose devices have any: this file is a
// module of each of them, so that none needs another one's features. See docs/saved-state.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ciborium::Value as Cbor;
use serde_json::{Map, Value as Json};
use vmstate::Section;

/// Set to `write`: files are made, or made anew, rather than compared.
const VARIABLE: &str = "QVMD_GOLDEN";

fn folder() -> PathBuf {
    // Crates are one or two folders below the workspace.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = own.ancestors().map(|at| at.join("tests/golden/vmstate"));
    found
        .into_iter()
        .find(|at| at.is_dir())
        .expect("there is such a folder")
}

/// Checks the files of this kind and case: each goes into a device, and what the device then saves
/// is the file again, unless that is of an older version. `used` is what this program saves; where
/// there is no file of its version the test fails. `restore` puts a section into a new device and
/// saves that.
pub fn check(
    case: &str,
    used: &Section,
    restore: &mut dyn FnMut(&Section) -> Result<Section, String>,
) {
    let current = name(used, case);
    if std::env::var(VARIABLE).as_deref() == Ok("write") {
        return write(&current, used);
    }
    let own: Vec<String> = names()
        .into_iter()
        .filter(|name| name.starts_with(&format!("{}-v", used.id)))
        .filter(|name| name.ends_with(&format!("-{case}.cbor")))
        .collect();
    assert!(
        own.contains(&current),
        "There is no golden file {current}: run the test with {VARIABLE}=write"
    );
    for name in own {
        let golden = read(&name);
        let shown = folder().join(&name).with_extension("json");
        let text = fs::read_to_string(&shown).unwrap_or_default();
        assert_eq!(
            text,
            describe(&golden),
            "{name}: its description is of something else"
        );
        let saved = restore(&golden).unwrap_or_else(|error| panic!("{name}: {error}"));
        if versions(&golden) == versions(used) {
            assert_eq!(describe(&saved), text, "{name}: saved again");
            assert_eq!(saved, golden, "{name}: saved again");
        }
    }
}

/// Kinds and versions that there are files of, those inside of other sections included.
#[allow(dead_code)] // one crate asks for all
pub fn covered() -> BTreeSet<(String, u32)> {
    names()
        .iter()
        .flat_map(|name| versions(&read(name)))
        .collect()
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("a folder that can be read");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.retain(|name| name.ends_with(".cbor"));
    names.sort();
    names
}

/// `KIND-vN-CASE.cbor`, with kinds and versions of what is inside in between.
fn name(section: &Section, case: &str) -> String {
    let kinds: Vec<String> = ordered_versions(section)
        .into_iter()
        .map(|(id, version)| format!("{id}-v{version}"))
        .collect();
    format!("{}-{case}.cbor", kinds.join("-"))
}

fn versions(section: &Section) -> BTreeSet<(String, u32)> {
    ordered_versions(section).into_iter().collect()
}

fn ordered_versions(section: &Section) -> Vec<(String, u32)> {
    let mut all = vec![(section.id.clone(), section.version)];
    if let Some(inner) = inside(section) {
        all.extend(ordered_versions(&inner));
    }
    all
}

/// The section of the device behind a transport.
fn inside(section: &Section) -> Option<Section> {
    let body: Cbor = ciborium::from_reader(section.body.as_slice()).ok()?;
    let fields = body.into_map().ok()?;
    let (_, inner) = fields
        .into_iter()
        .find(|(key, _)| key.as_text() == Some("device"))?;
    inner.deserialized().ok()
}

fn read(name: &str) -> Section {
    let bytes = fs::read(folder().join(name)).expect("a file that can be read");
    ciborium::from_reader(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn write(name: &str, section: &Section) {
    let mut bytes = Vec::new();
    ciborium::into_writer(section, &mut bytes).expect("a section can be encoded");
    let path = folder().join(name);
    fs::write(&path, bytes).expect("a file that can be written");
    fs::write(path.with_extension("json"), describe(section)).expect("the same");
}

/// A section for people, and for who looks at a difference.
fn describe(section: &Section) -> String {
    let mut text = serde_json::to_string_pretty(&section_json(section)).expect("plain data");
    text.push('\n');
    text
}

fn section_json(section: &Section) -> Json {
    let body: Cbor = ciborium::from_reader(section.body.as_slice()).expect("a body in CBOR");
    let mut members = Map::new();
    members.insert("id".into(), section.id.as_str().into());
    members.insert("instance".into(), section.instance.as_str().into());
    members.insert("version".into(), section.version.into());
    let body = match (json(&body), inside(section)) {
        (Json::Object(mut fields), Some(inner)) => {
            fields.insert("device".into(), section_json(&inner));
            Json::Object(fields)
        }
        (body, _) => body,
    };
    members.insert("body".into(), body);
    Json::Object(members)
}

fn json(value: &Cbor) -> Json {
    match value {
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            i64::try_from(number)
                .map(Json::from)
                .or_else(|_| u64::try_from(number).map(Json::from))
                .unwrap_or_else(|_| number.to_string().into())
        }
        Cbor::Bytes(bytes) => hex(bytes).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bool(flag) => (*flag).into(),
        Cbor::Array(list) => list.iter().map(json).collect::<Vec<_>>().into(),
        Cbor::Map(map) => {
            let member = |(key, value): &(Cbor, Cbor)| {
                let key = key
                    .as_text()
                    .map_or_else(|| format!("{key:?}"), str::to_owned);
                (key, json(value))
            };
            Json::Object(map.iter().map(member).collect())
        }
        Cbor::Null => Json::Null,
        other => format!("{other:?}").into(),
    }
}

/// Bytes in hexadecimal; a run of more than eight that are the same as one.
fn hex(bytes: &[u8]) -> String {
    let mut pieces = Vec::new();
    for run in bytes.chunk_by(|one, other| one == other) {
        let byte = format!("{:02x}", run[0]);
        match run.len() {
            0..=8 => pieces.extend(std::iter::repeat_n(byte, run.len())),
            times => pieces.push(format!("{byte}*{times}")),
        }
    }
    pieces.join(" ")
}
