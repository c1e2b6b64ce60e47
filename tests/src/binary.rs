//! Which program is judged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program: `QVMD`, or what the workspace built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = std::env::var_os("QVMD").map_or_else(built, PathBuf::from);
        let name_only = path.components().count() == 1;
        assert!(
            name_only || path.exists(),
            "no program at {}: build it, or name one in QVMD",
            path.display()
        );
        path
    })
}

/// The target directory is where the test itself lies: `target/debug/deps/test-1234`.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a path of the test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a target directory");
    profile.join("qvmd")
}

/// The root of the source tree.
pub fn tree() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// Where fetched and made things are kept.
pub fn cache() -> PathBuf {
    std::env::var_os("QVMD_CACHE").map_or_else(|| tree().join(".cache"), PathBuf::from)
}

/// Whether the reference implementation stands in for the program.
pub fn is_stand_in() -> bool {
    static STAND_IN: OnceLock<bool> = OnceLock::new();
    *STAND_IN.get_or_init(|| !first_line_of_version().contains("qvmd"))
}

/// The first line that `-version` prints.
pub fn first_line_of_version() -> &'static str {
    static LINE: OnceLock<String> = OnceLock::new();
    LINE.get_or_init(|| {
        let output = Command::new(program())
            .arg("-version")
            .output()
            .expect("the program can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().unwrap_or_default().to_owned()
    })
}

/// Ends a test that judges a wanted departure from the reference, where the reference stands in.
///
/// Use: `if skip_on_stand_in("why") { return; }`
pub fn skip_on_stand_in(reason: &str) -> bool {
    if is_stand_in() {
        println!("skipped: {reason}");
    }
    is_stand_in()
}

/// Ends a test that needs what only a program built for debugging has: hooks by which its threads
/// misbehave.
pub fn skip_without_hooks() -> bool {
    let profile = program().parent().and_then(Path::file_name);
    let without = is_stand_in() || profile.is_none_or(|name| name != "debug");
    if without {
        println!("skipped: the program has no hooks for it");
    }
    without
}

/// Whether /dev/kvm is there and may be opened.
pub fn has_kvm() -> bool {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}
