//! What was asked for: `-sandbox`, `-runas`, `-run-with`, `-add-dir`.

use std::path::PathBuf;

use crate::cli::args::Arg;

/// How the process is confined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPlan {
    /// False after `-sandbox off`: nothing below holds then.
    pub on: bool,
    /// `obsolete=allow`: kept, and of no effect. System calls that nobody needs are never allowed.
    pub obsolete: bool,
    /// `elevateprivileges=`.
    pub elevate: Elevate,
    /// `spawn=allow`: helper programs may be started.
    pub spawn: bool,
    /// `resourcecontrol=allow`: priorities, affinities and limits may be set.
    pub resource_control: bool,
    /// `files=`.
    pub files: Files,
    /// `allow=SYSCALL[:KIND]`: system calls that threads may make beyond their filters.
    pub allow: Vec<String>,
    /// `-add-dir`: beside what the configuration names.
    pub directories: Vec<Directory>,
    /// `-runas`, `-run-with user=`.
    pub user: Option<UserPlan>,
    /// `-run-with chroot=`, `-chroot`.
    pub chroot: Option<PathBuf>,
    /// `-run-with exit-with-parent=on`.
    pub exit_with_parent: bool,
}

impl Default for SandboxPlan {
    fn default() -> Self {
        SandboxPlan {
            on: true,
            obsolete: false,
            elevate: Elevate::Allow,
            spawn: true,
            resource_control: true,
            files: Files::Any,
            allow: Vec::new(),
            directories: Vec::new(),
            user: None,
            chroot: None,
            exit_with_parent: false,
        }
    }
}

/// Whether more privileges may be had than the process has. Ours never may; it is about the
/// programs we start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elevate {
    /// They may be set-user-ID programs.
    Allow,
    /// Nobody may.
    Deny,
    /// As QEMU has it: the process may, its children may not.
    Children,
}

/// Which files may be opened while the guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Any that the user may open, but for those of the system, which are read only; nothing is
    /// executed.
    Any,
    /// What the configuration names and what lies below the directories of `-add-dir`.
    Named,
}

/// One `-add-dir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The directory, or a file.
    pub path: PathBuf,
    /// Nothing below it is written.
    pub read_only: bool,
    /// The option, to be blamed when there is no such directory.
    pub arg: Arg,
}

/// Who the process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPlan {
    /// A name, or `uid:gid`.
    pub name: String,
    /// The option, to be blamed when there is no such user.
    pub arg: Arg,
}
