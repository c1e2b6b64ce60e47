//! Names of the program's crates and modules, from the files that they are in: what `-d` can name.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Crates that the program is made of, and where their files are, seen from `vmm`.
pub const CRATES: [(&str, &str); 10] = [
    ("api_spec", "../api-spec/src"),
    ("block", "../devices/block/src"),
    ("bulk", "bulk/src"),
    ("descriptors", "../descriptors/src"),
    ("devices", "../devices/src"),
    ("qmp", "../qmp/src"),
    ("tls", "../tls/src"),
    ("trace", "../trace/src"),
    ("vmm", "src"),
    ("vmstate", "../devices/vmstate/src"),
];

/// All names, each once, in order, with spaces between them.
///
/// # Errors
/// When a directory cannot be read.
pub fn names() -> io::Result<String> {
    let mut names = BTreeSet::new();
    for (name, directory) in CRATES {
        names.insert(name.to_owned());
        gather(Path::new(directory), &mut names)?;
    }
    Ok(names.into_iter().collect::<Vec<_>>().join(" "))
}

fn gather(directory: &Path, names: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        // Programs of their own, and what is there for tests only.
        let others = ["bin", "testing"].contains(&name) || name.ends_with("_test");
        if others {
            continue;
        }
        if path.is_dir() {
            gather(&path, names)?;
        } else if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        if !["lib", "main", "mod"].contains(&name) {
            names.insert(name.to_owned());
        }
    }
    Ok(())
}
