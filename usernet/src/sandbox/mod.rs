//! What the network may still do once it serves.
//!
//! 1. No new privileges, no debugger, no core, no files written, and of all capabilities the one
//!    to listen on low ports.
//! 2. Landlock, where the kernel has it: below the TFTP directory reading; in the directories of
//!    `/etc/resolv.conf` reading, since that file is exchanged while we run; nothing else.
//! 3. Seccomp: sockets of IP and to its launcher, memory, time; files for reading. No processes,
//!    no programs, no memory that can be executed. What is not on the list fails with EPERM.
#![allow(unsafe_code)] // prctl, capset, setrlimit

mod files;
mod filter;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the monitor has.
static OLD_UMASK: AtomicU32 = AtomicU32::new(0o077);

/// Gives a program of the user's what [`leave_parent`] took from this process. Between fork and
/// exec.
pub fn as_the_parent_had_it() {
    // SAFETY: no pointers.
    unsafe {
        libc::umask(OLD_UMASK.load(Ordering::Relaxed));
        libc::signal(libc::SIGHUP, libc::SIG_DFL);
        libc::signal(libc::SIGINT, libc::SIG_DFL);
    }
}

/// Before anything is read: what costs nothing to give up at once.
///
/// # Errors
/// In words.
pub fn leave_parent() -> Result<(), String> {
    // SAFETY: no pointers.
    unsafe {
        // The terminal's signals are for the monitor, which ends us. Fails where we lead already.
        libc::setsid();
        OLD_UMASK.store(libc::umask(0o077), Ordering::Relaxed);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
    }
    prctl(
        libc::PR_SET_PDEATHSIG,
        libc::SIGKILL as u64,
        "PR_SET_PDEATHSIG",
    )?;
    prctl(libc::PR_SET_DUMPABLE, 0, "PR_SET_DUMPABLE")
}

/// Closes the doors. `tftp` is the directory that is served.
///
/// # Errors
/// In words: nobody is served outside of the sandbox.
pub fn enter(tftp: Option<&str>) -> Result<(), String> {
    for (resource, name) in [(libc::RLIMIT_CORE, "cores"), (libc::RLIMIT_FSIZE, "files")] {
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `none` lives across the call.
        if unsafe { libc::setrlimit(resource, &raw const none) } < 0 {
            return Err(failed(&format!("Cannot limit {name}")));
        }
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")?;
    drop_capabilities()?;
    files::restrict(tftp).map_err(|error| format!("Cannot restrict files: {error}"))?;
    filter::install()
}

fn prctl(option: i32, value: u64, name: &str) -> Result<(), String> {
    // SAFETY: these options take a number.
    match unsafe { libc::prctl(option, value, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(failed(&format!("Cannot set {name}"))),
    }
}

fn failed(what: &str) -> String {
    format!("{what}: {}", io::Error::last_os_error())
}

/// To listen on ports below 1024.
const CAP_NET_BIND_SERVICE: u32 = 10;
/// `_LINUX_CAPABILITY_VERSION_3`: two sets of 32.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn drop_capabilities() -> Result<(), String> {
    let header = [CAPABILITY_VERSION, 0];
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: header and data have the shapes of version 3.
    if unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) } < 0 {
        return Err(failed("Cannot read capabilities"));
    }
    let [first, second] = &mut data;
    let kept = first.permitted & (1 << CAP_NET_BIND_SERVICE);
    *first = CapabilityData {
        effective: kept,
        permitted: kept,
        inheritable: 0,
    };
    *second = CapabilityData::default();
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } < 0 {
        return Err(failed("Cannot drop capabilities"));
    }
    Ok(())
}
