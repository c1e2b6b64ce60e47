//! Saved state of earlier versions of this program, and of this one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vmstate::Section;

use super::rig::{DEVICES, PC, Q35, Rig};

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

/// What the kernel has. Time goes on in some of it, and a processor's goes into one of its kind
/// only: that much is not compared.
#[test]
fn what_kvm_saved_can_be_restored() {
    let kvm = DEVICES.replace("-accel qtest", "-accel kvm");
    let Ok(mut rig) = Rig::try_new(&[&kvm, Q35]) else {
        eprintln!("No KVM here");
        return;
    };
    rig.use_all();
    let machine = rig.machine();
    let accel = machine.accel.save().unwrap();
    let vcpus = machine.vcpus.save().unwrap();
    assert!(!accel.is_empty() && !vcpus.is_empty());
    for section in accel.iter().chain(vcpus.first()) {
        let mut restore = |golden: &Section| -> Result<Section, String> {
            if golden.id == "cpu" {
                let restored = machine.vcpus.restore(golden);
                // What a kernel refuses is said with the processor in front.
                let error = restored.err().filter(|error| error.starts_with("Section"));
                return error.map_or_else(|| Ok(golden.clone()), Err);
            }
            machine.accel.restore(golden)?;
            if ["i8254", "kvm-clock"].contains(&golden.id.as_str()) {
                return Ok(golden.clone());
            }
            let key = |section: &Section| (section.id.clone(), section.instance.clone());
            let mut saved = machine.accel.save()?.into_iter();
            let found = saved.find(|saved| key(saved) == key(golden));
            found.ok_or_else(|| "it is not saved again".into())
        };
        let case = ["kvm", &short(&section.instance)].join("-");
        golden::check(case.trim_end_matches('-'), section, &mut restore);
    }
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
