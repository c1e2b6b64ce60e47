//! What the process is allowed to do by who it is.
//!
//! [`begin`] comes before anything of the host is opened, [`finish`] when everything is. Between
//! them the main thread has the capabilities it was started with, so that a user without any may
//! be given files, networks and locked memory that only root may have. All other threads drop
//! theirs before they do anything ([`enter_thread`]). Where no user was named and privileges may be
//! had, the threads that open things for clients keep two of them ([`FOR_OPENING`]).
#![allow(unsafe_code)] // prctl and chroot

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Result, anyhow, bail};

use super::capabilities;
use super::plan::{Elevate, SandboxPlan};
use super::user::User;
use crate::process::errno;
use crate::threads::ThreadKind;
use crate::{own_process, sys};

/// Whether threads give up their capabilities. Never under the unit tests, which are threads of
/// one process.
static DROPPING: AtomicBool = AtomicBool::new(false);

/// Capabilities that threads keep all the same.
static KEPT: AtomicU32 = AtomicU32::new(0);

/// Capabilities that those keep besides that open what clients name.
static OPENERS_KEEP: AtomicU32 = AtomicU32::new(0);

/// What root's clients count on at run time: a tap by its name (`netdev_add`), a disk that belongs
/// to another user (`blockdev-add`).
const FOR_OPENING: u32 = capabilities::OPEN_TAPS | capabilities::OPEN_ANY_FILE;

/// Gives up at once what is not even needed to set things up, and becomes the user of the plan.
/// `parent` is who started us. Only for a process with one thread.
///
/// # Errors
/// In words: when there is no such user, the host refuses, or the parent is gone already.
pub fn begin(plan: &SandboxPlan, parent: u32) -> Result<()> {
    // Before these files become root's.
    own_process::open();
    if let Some(user) = &plan.user {
        let found = User::find(&user.name).map_err(|error| user.arg.error(error))?;
        found.become_it().map_err(|error| user.arg.error(error))?;
    }
    if plan.on {
        set(libc::PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")?;
        set(libc::PR_SET_DUMPABLE, 0, "PR_SET_DUMPABLE")?;
    } else {
        log::warn!("The sandbox is off: a guest that breaks out has all that this process has");
    }
    DROPPING.store(plan.on || plan.user.is_some(), Ordering::Relaxed);
    if plan.user.is_none() && plan.elevate == Elevate::Allow {
        OPENERS_KEEP.store(FOR_OPENING, Ordering::Relaxed);
    }
    if plan.exit_with_parent {
        // After the change of user, which takes it back.
        let signal = libc::SIGTERM.cast_unsigned().into();
        set(libc::PR_SET_PDEATHSIG, signal, "PR_SET_PDEATHSIG")?;
        if std::os::unix::process::parent_id() != parent {
            bail!(
                "The process that started this one is gone, and so is this one (exit-with-parent)"
            );
        }
    }
    Ok(())
}

/// The launcher's way to where the VMM is after [`begin`] and [`finish`]: below the root
/// directory of the plan, as its user, without capabilities. Where there is no user it keeps
/// them: scripts that set devices up need them.
///
/// # Errors
/// In words.
pub fn leave_for_programs(plan: &SandboxPlan) -> Result<()> {
    // Below the new root there may be no user database.
    let user = plan.user.as_ref().map(|user| User::find(&user.name));
    let user = user.transpose()?;
    if let Some(directory) = &plan.chroot {
        enter_root(directory)?;
    }
    if let Some(user) = user {
        user.become_it()?;
        capabilities::drop_all_but(0)?;
    }
    Ok(())
}

/// Everything is open: goes below the root directory of the plan, and drops the capabilities of the
/// main thread.
///
/// # Errors
/// In words.
pub fn finish(plan: &SandboxPlan) -> Result<()> {
    if let Some(directory) = &plan.chroot {
        enter_root(directory)?;
    }
    let dropped = enter_thread(ThreadKind::Control);
    dropped.map_err(|error| anyhow!("Cannot drop capabilities: {error}"))
}

/// The calling thread, of this kind, gives up its capabilities.
///
/// # Errors
/// Those of capset(2).
pub fn enter_thread(kind: ThreadKind) -> io::Result<()> {
    match DROPPING.load(Ordering::Relaxed) {
        true => capabilities::drop_all_but(kept_by(kind)),
        false => Ok(()),
    }
}

fn kept_by(kind: ThreadKind) -> u32 {
    let all = KEPT.load(Ordering::Relaxed);
    match kind {
        // The spawner opens nothing, but workers have no more than it has.
        ThreadKind::Control | ThreadKind::Spawner | ThreadKind::Worker => {
            all | OPENERS_KEEP.load(Ordering::Relaxed)
        }
        ThreadKind::Qmp
        | ThreadKind::Chardev
        | ThreadKind::Net
        | ThreadKind::Io
        | ThreadKind::Vcpu
        | ThreadKind::Qtest
        | ThreadKind::Block
        | ThreadKind::Migration => all,
    }
}

/// All memory is to be locked, and what is mapped later counts against the limit once capabilities
/// are gone. Lifts the limit; where that may not be, threads keep the capability to pass it by.
pub fn prepare_memory_lock() {
    if sys::lift_memory_limit().is_err() {
        KEPT.store(capabilities::LOCK_MEMORY, Ordering::Relaxed);
    }
}

fn set(option: libc::c_int, value: libc::c_ulong, name: &str) -> Result<()> {
    // SAFETY: these options take a number.
    match unsafe { libc::prctl(option, value, 0, 0, 0) } {
        0 => Ok(()),
        _ => {
            let why = errno(&io::Error::last_os_error());
            Err(anyhow!("Cannot set {name}: {why}"))
        }
    }
}

fn enter_root(directory: &Path) -> Result<()> {
    change_root(directory).map_err(|error| {
        let why = errno(&error);
        anyhow!("chroot to '{}' failed: {why}", directory.display())
    })
}

fn change_root(directory: &Path) -> io::Result<()> {
    std::os::unix::fs::chroot(directory)?;
    std::env::set_current_dir("/")
}
