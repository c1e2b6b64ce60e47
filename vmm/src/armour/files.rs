//! Which files may be opened while the guest runs: Landlock.
//!
//! Rules are gathered in two steps. [`begin`] knows the command line and comes before any thread:
//! threads that are started while the machine is built get these ([`enter_thread`]). [`finish`]
//! adds the files that were opened meanwhile, with their backing files, and [`restrict`] puts all
//! of it in force for the main thread and for those that come later.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result};
use usernet::landlock::{Place, Rights, Ruleset, Scope};

use super::plan::{Files, SandboxPlan};
use crate::sys;
use crate::threads::ThreadKind;

/// What the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A file that is read.
    Read(PathBuf),
    /// A file that is written, too.
    Write(PathBuf),
    /// A directory in which files are made, or a file that is written.
    Inside(PathBuf),
    /// A socket or a file that is made, and removed in the end.
    Made(PathBuf),
}

/// Where helper programs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// This process starts them itself: they may be executed, and get signals.
    Ours,
    /// Another process does.
    Elsewhere,
}

/// Directories of the system, where nothing is written in any mode.
const SYSTEM: [&str; 7] = ["/etc", "/usr", "/bin", "/sbin", "/boot", "/proc", "/sys"];
/// The same, by how they begin: /lib, /lib64, /libx32.
const LIBRARIES: &str = "/lib";

/// Devices that commands at run time may need, whatever was named: they give nothing that belongs
/// to somebody.
const DEVICES: [&str; 9] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/net/tun",
    "/dev/vhost-net",
    "/dev/vhost-vsock",
    "/dev/ptmx",
];
/// Terminals that we make.
const TERMINALS: &str = "/dev/pts";

/// What the C library reads to look up the name of a host or the time zone, and the modules it
/// loads for that; and what we read for the group of a socket.
const LOOKUPS: [&str; 9] = [
    "/etc/group",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/resolv.conf",
    "/etc/ld.so.cache",
];
const MODULES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// The rules of the process, once they are known.
static RULES: OnceLock<Rules> = OnceLock::new();
/// The main thread obeys them, and with it all that it starts.
static INHERITED: AtomicBool = AtomicBool::new(false);

/// Refusals that were explained.
static HINTS: Hints = Hints {
    minute: AtomicU64::new(0),
    said: AtomicU32::new(0),
};
/// How many are explained in a minute where everybody sees it.
const MOST_HINTS: u32 = 16;

/// What was said in which minute.
struct Hints {
    minute: AtomicU64,
    said: AtomicU32,
}

impl Hints {
    /// Whether one more may be said. Two threads at the turn of a minute may say one too many.
    fn allow(&self, minute: u64) -> bool {
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            self.said.store(0, Ordering::Relaxed);
        }
        self.said.fetch_add(1, Ordering::Relaxed) < MOST_HINTS
    }
}

/// Minutes of the system's clock.
fn minute() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 60)
}

struct Rules {
    own: Ruleset,
    /// For threads that open nothing.
    none: Ruleset,
    mode: Files,
}

/// Gathers what is known before anything is made. Without Landlock, and without a sandbox, there
/// are no rules.
///
/// # Errors
/// In words: when the kernel refuses, or a directory of the plan is not there.
pub fn begin(plan: &SandboxPlan, named: &[Named], programs: Programs) -> Result<()> {
    if !plan.on {
        return Ok(());
    }
    let (kept, scope) = match programs {
        Programs::Ours => (Rights::EXECUTE, Scope::Nobody),
        Programs::Elsewhere => (Rights::NONE, Scope::Signals),
    };
    let handled = Rights::ALL.without(kept);
    let made = |handled, scope| Ruleset::new(handled, scope).context("Cannot restrict files");
    let (Some(own), Some(none)) = (made(handled, scope)?, made(handled, scope)?) else {
        log::info!(
            "There is no Landlock: what may be opened is for the system's permissions to say"
        );
        return Ok(());
    };
    let rules = Rules {
        own,
        none,
        mode: plan.files,
    };
    match plan.files {
        Files::Any => rules.allow_any()?,
        Files::Named => rules.allow_what_all_need()?,
    }
    for directory in &plan.directories {
        let rights = match directory.read_only {
            true => USING,
            false => WRITING,
        };
        let added = rules.try_allow(&directory.path, rights);
        let why = |error| directory.arg.error(crate::process::errno(&error));
        added.map_err(why)?;
    }
    rules.add(named)?;
    let _ = RULES.set(rules);
    Ok(())
}

/// Adds what was opened since.
///
/// # Errors
/// In words, when the kernel refuses.
pub fn finish(named: &[Named]) -> Result<()> {
    RULES.get().map_or(Ok(()), |rules| rules.add(named))
}

/// Puts the rules in force for the calling thread, and all that it starts from here on.
///
/// # Errors
/// In words, when the kernel refuses.
pub fn restrict() -> Result<()> {
    if let Some(rules) = RULES.get() {
        rules.own.restrict().context("Cannot restrict files")?;
        INHERITED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// The calling thread, of this kind, obeys the rules as far as they are known.
///
/// # Errors
/// Those of landlock_restrict_self(2).
pub fn enter_thread(kind: ThreadKind) -> io::Result<()> {
    let Some(rules) = RULES.get() else {
        return Ok(());
    };
    match kind {
        // Their files are opened for them.
        ThreadKind::Io | ThreadKind::Vcpu => rules.none.restrict(),
        ThreadKind::Control
        | ThreadKind::Spawner
        | ThreadKind::Qmp
        | ThreadKind::Chardev
        | ThreadKind::Net
        | ThreadKind::Qtest
        | ThreadKind::Worker
        | ThreadKind::Block
        | ThreadKind::Migration => match INHERITED.load(Ordering::Relaxed) {
            true => Ok(()),
            false => rules.own.restrict(),
        },
    }
}

/// What to say to somebody who was refused a file, where that may be our doing.
pub fn hint(path: &str, error: &io::Error) {
    let ours = error.raw_os_error() == Some(libc::EACCES) && INHERITED.load(Ordering::Relaxed);
    if let (true, Some(rules)) = (ours, RULES.get()) {
        let what = match rules.mode {
            Files::Any => "-sandbox (system directories are read only)",
            Files::Named => {
                "-sandbox files=named (neither the configuration nor -add-dir names it)"
            }
        };
        let level = match HINTS.allow(minute()) {
            true => log::Level::Warn,
            // A client could fill the log.
            false => log::Level::Debug,
        };
        log::log!(
            level,
            "Cannot open {path}: denied by its permissions or by {what}"
        );
    }
}

const READING: Rights = Rights::READ.or(Rights::LIST);
/// Of a disk of the host its size is asked for, too, by those who only read it.
const USING: Rights = READING.or(Rights::CONTROL);
const WRITING: Rights = READING
    .or(Rights::WRITE)
    .or(Rights::MAKE)
    .or(Rights::CONTROL);

impl Rules {
    /// Everything is read; all but the directories of the system is written, by what is in the root
    /// directory.
    fn allow_any(&self) -> Result<()> {
        // What comes there later is read at least.
        self.allow(Path::new("/"), READING)?;
        let entries = std::fs::read_dir("/").context("Cannot restrict files: /")?;
        for entry in entries.flatten() {
            let path = entry.path();
            // A link leads where it leads.
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let is_root = real.parent().is_none();
            if !(is_root || is_system(&path) || is_system(&real)) && real.is_dir() {
                self.allow(&path, WRITING)?;
            }
        }
        Ok(())
    }

    fn allow_what_all_need(&self) -> Result<()> {
        for device in DEVICES {
            self.allow(
                Path::new(device),
                Rights::READ | Rights::WRITE | Rights::CONTROL,
            )?;
        }
        let terminals = Path::new(TERMINALS);
        self.allow(terminals, Rights::READ | Rights::WRITE | Rights::CONTROL)?;
        for file in LOOKUPS {
            self.allow(Path::new(file), Rights::READ)?;
        }
        for directory in MODULES {
            self.allow(Path::new(directory), Rights::READ)?;
        }
        // It is exchanged while we run.
        let real = std::fs::canonicalize("/etc/resolv.conf").ok();
        match real.as_deref().and_then(Path::parent) {
            Some(directory) if directory != Path::new("/etc") => {
                self.allow(directory, Rights::READ)
            }
            _ => Ok(()),
        }
    }

    fn add(&self, named: &[Named]) -> Result<()> {
        for one in named {
            match one {
                Named::Read(path) => self.allow(path, USING)?,
                Named::Write(path) => {
                    let rights = READING | Rights::WRITE | Rights::CONTROL;
                    self.allow(path, rights)?;
                }
                Named::Inside(path) => self.allow(path, WRITING)?,
                Named::Made(path) => {
                    let directory = match path.parent() {
                        Some(directory) if directory != Path::new("") => directory,
                        _ => Path::new("."),
                    };
                    self.allow(directory, Rights::MAKE_SOCKET | Rights::REMOVE)?;
                }
            }
        }
        Ok(())
    }

    /// What is not there need not be allowed.
    fn allow(&self, path: &Path, rights: Rights) -> Result<()> {
        match self.try_allow(path, rights) {
            Err(error) if is_absence(&error) => Ok(()),
            other => other.with_context(|| format!("Cannot restrict files: {}", path.display())),
        }
    }

    fn try_allow(&self, path: &Path, rights: Rights) -> io::Result<()> {
        let place: File = sys::open_place(path)?;
        let kind = match place.metadata()?.is_dir() {
            true => Place::Directory,
            false => Place::File,
        };
        self.own.allow(&place, kind, rights)
    }
}

fn is_absence(error: &io::Error) -> bool {
    let absences = [
        libc::ENOENT,
        libc::ENOTDIR,
        libc::EACCES,
        libc::ELOOP,
        libc::ENXIO,
    ];
    error
        .raw_os_error()
        .is_some_and(|error| absences.contains(&error))
}

/// Whether a path is in a directory of the system.
fn is_system(path: &Path) -> bool {
    let in_one = SYSTEM.iter().any(|directory| path.starts_with(directory));
    let text = path.as_os_str().as_encoded_bytes();
    in_one || text.starts_with(LIBRARIES.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_known_by_its_directories() {
        for path in ["/etc", "/usr/local", "/lib64", "/libx32", "/proc/self"] {
            assert!(is_system(Path::new(path)), "{path}");
        }
        for path in ["/", "/home", "/tmp", "/var/lib", "/dev", "/etcetera"] {
            assert!(!is_system(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn hints_are_few_in_each_minute() {
        let hints = Hints {
            minute: AtomicU64::new(0),
            said: AtomicU32::new(0),
        };
        for minute in [5, 6] {
            let said = (0..100).filter(|_| hints.allow(minute)).count();
            assert_eq!(said, MOST_HINTS as usize);
        }
    }
}
