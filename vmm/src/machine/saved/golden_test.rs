//! Saved state of earlier versions of this program, and of this one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vmstate::Section;

use super::rig::{PC, Q35, Rig};

#[path = "../../../../tests/golden/vmstate.rs"]
pub mod golden;

/// The last part of an instance, in letters that file names have.
fn short(instance: &str) -> String {
    let last = instance.trim_start_matches("/machine").trim_matches('/');
    let last = last
        .trim_start_matches("peripheral/")
        .trim_start_matches("chipset/");
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '.' };
    last.chars().map(letter).collect()
}

fn check_board(board: &str, name: &str) {
    let mut source = Rig::full(board);
    source.use_all();
    let all = source.machine().save().unwrap();
    let mut target = Rig::full(board);
    for section in &all {
        let mut restore = |golden: &Section| -> Result<Section, String> {
            let key = |section: &Section| (section.id.clone(), section.instance.clone());
            let others = all.iter().filter(|other| key(other) != key(golden));
            let sections = others.chain([golden]).cloned().collect();
            target.machine().restore(sections)?;
            let saved = target.machine().save()?;
            let found = saved.into_iter().find(|saved| key(saved) == key(golden));
            found.ok_or_else(|| "it is not saved again".into())
        };
        let case = [name, &short(&section.instance)].join("-");
        golden::check(case.trim_end_matches('-'), section, &mut restore);
    }
}

#[test]
fn what_was_saved_can_be_restored() {
    check_board(Q35, "q35");
    check_board(PC, "pc");
}

/// Kinds and versions of all sections, from the sources.
fn known(folder: &Path, found: &mut BTreeSet<(String, u32)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() {
            if name != "testing" {
                known(&path, found);
            }
            continue;
        }
        if !name.ends_with(".rs") || name.ends_with("_test.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let id = line.strip_prefix("const ID: &'static str = \"");
            let Some(id) = id.and_then(|rest| rest.strip_suffix("\";")) else {
                continue;
            };
            let version = lines.next().and_then(|line| {
                let number = line.strip_prefix("const VERSION: u32 = ")?;
                number.strip_suffix(';')?.parse().ok()
            });
            found.insert((id.to_owned(), version.expect("its version stands below")));
        }
    }
}

#[test]
fn every_kind_and_version_has_a_file() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeSet::new();
    known(&own.join("src"), &mut all);
    known(&own.join("../devices/src"), &mut all);
    assert!(all.len() >= 20, "{all:?}");
    let covered = golden::covered();
    let missing: Vec<_> = all.difference(&covered).collect();
    assert!(
        missing.is_empty(),
        "There are no golden files of {missing:?}: see docs/saved-state.md"
    );
}
