//! Reads `api-spec/schema/*.json`, checks it, and writes everything that follows from it.
//!
//! `api-spec-gen ROOT` writes, `api-spec-gen ROOT --check` only compares and fails when stale.

mod commands;
mod completion;
mod docs;
mod drivers;
mod introspect;
mod load;
mod man;
mod model;
mod names;
mod tables;
mod types;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (root, check) = match args.as_slice() {
        [root] => (root, false),
        [root, flag] if flag == "--check" => (root, true),
        _ => bail!("Usage: api-spec-gen ROOT [--check]"),
    };
    let root = Path::new(root);
    let schema = load::load(&root.join("api-spec/schema"))?;
    let outputs = [
        ("api-spec/src/generated/mod.rs", MOD.to_string()),
        (
            "api-spec/src/generated/types.rs",
            rustfmt(&types::emit(&schema))?,
        ),
        (
            "api-spec/src/generated/commands.rs",
            rustfmt(&commands::emit(&schema))?,
        ),
        (
            "api-spec/src/generated/drivers.rs",
            rustfmt(&drivers::emit(&schema))?,
        ),
        (
            "api-spec/src/generated/tables.rs",
            rustfmt(&tables::emit(&schema))?,
        ),
        (
            "api-spec/src/generated/qmp_schema.json",
            introspect::emit(&schema),
        ),
        ("docs/qmp-reference.md", docs::emit(&schema)),
        ("packaging/generated/qvmd.1", man::emit(&schema)),
        ("packaging/generated/qvm-qmp.1", man::CLIENT.to_string()),
        ("packaging/generated/qvmd.bash", completion::bash(&schema)),
        ("packaging/generated/_qvmd", completion::zsh(&schema)),
    ];
    let mut stale = false;
    for (path, text) in outputs {
        stale |= settle(&root.join(path), &text, check)?;
    }
    Ok(if check && stale {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

const MOD: &str = "//! Written by api-spec-gen; change `schema/` instead.

mod commands;
mod drivers;
mod tables;
mod types;

pub use commands::*;
pub use drivers::*;
pub use tables::*;
pub use types::*;

/// The answer of query-qmp-schema.
pub static QUERY_QMP_SCHEMA_JSON: &str = include_str!(\"qmp_schema.json\");
";

/// Writes or compares one output; says whether it was stale.
fn settle(path: &PathBuf, text: &str, check: bool) -> Result<bool> {
    let same = std::fs::read_to_string(path).is_ok_and(|old| old == text);
    if same {
        return Ok(false);
    }
    if check {
        eprintln!("{} is stale: run scripts/regen-api", path.display());
    } else {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text).with_context(|| format!("Cannot write {}", path.display()))?;
    }
    Ok(true)
}

/// Formats Rust text, so that the committed output passes the formatting check.
#[allow(clippy::disallowed_methods)] // a tool of the build, no daemon
fn rustfmt(text: &str) -> Result<String> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("rustfmt")
        .args([
            "--edition",
            "2024",
            "--config",
            "max_width=100,use_field_init_shorthand=true,use_try_shorthand=true",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("Cannot run rustfmt")?;
    let mut input = child.stdin.take().context("rustfmt has no input")?;
    let text = text.to_string();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    if !output.status.success() {
        bail!("rustfmt failed");
    }
    Ok(String::from_utf8(output.stdout)?)
}
