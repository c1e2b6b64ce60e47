//! How the launcher comes into being, and what it gives up.
#![allow(unsafe_code)] // prctl, close_range, and writing over our own command line

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};

use super::exec::pidfd;
use super::serve::Server;
use super::{Launcher, packet};
use crate::armour::plan::{Elevate, SandboxPlan};
use crate::armour::privileges;
use crate::process::with_causes;
use crate::sys::{self, Forked};

/// As `ps` shows it.
const NAME: &str = "qvmd-launcher";
/// Where its socket is. Above it nothing is open.
const SOCKET: RawFd = 3;

/// Starts the launcher, unless no program may be started. Only before any thread is started, in
/// the process that stays, and before anything is open that is nobody else's business.
///
/// # Errors
/// When the host gives no process.
pub fn start(plan: &SandboxPlan) -> Result<Launcher> {
    if plan.on && !plan.spawn {
        return Ok(Launcher::denied());
    }
    let failed = "Cannot start the process that starts programs";
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.context(failed)?;
    let (near, far) = packet::pair().context(failed)?;
    let parent = std::process::id();
    if let Forked::Parent(child) = sys::fork().context(failed)? {
        return Ok(Launcher::process(near, Some(child)));
    }
    // Nothing of what the VMM has is dropped here, and nothing of it is called.
    let lived = catch_unwind(AssertUnwindSafe(|| live(&far, &null, parent, plan)));
    sys::exit_now(match lived {
        Ok(Ok(())) => 0,
        Ok(Err(_)) | Err(_) => 1,
    })
}

/// The launcher's life. Where it cannot give up what it is to give up, it ends before it serves.
fn live(far: &OwnedFd, null: &File, parent: u32, plan: &SandboxPlan) -> io::Result<()> {
    // Its file, if there is one, is closed here.
    log::set_max_level(log::LevelFilter::Off);
    sys::set_process_name(NAME);
    // The terminal's and the service manager's are for the VMM, which ends us. Programs begin
    // with none blocked.
    block_signals()?;
    for standard in 0..3 {
        sys::redirect(null, standard)?;
    }
    let orders = keep_only(far)?;
    let vmm = watch_parent(parent)?;
    privacy(plan)?;
    rename();
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let plan = plan.clone();
    let drop_privileges = move || {
        let left = privileges::leave_for_programs(&plan);
        left.map_err(|error| io::Error::other(with_causes(&error)))?;
        // The kernel makes it root's to decide when the user changes.
        privacy(&plan)
    };
    Server::new(orders, null.into(), Some(vmm), Box::new(drop_privileges)).run();
    Ok(())
}

fn block_signals() -> io::Result<()> {
    // SAFETY: the set is initialised by sigfillset before use and lives across the calls.
    let failed = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut())
    };
    match failed {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Closes everything but the standard descriptors and `socket`, which moves.
fn keep_only(socket: &OwnedFd) -> io::Result<OwnedFd> {
    if socket.as_raw_fd() != SOCKET {
        // What was there, belongs to somebody who does not run in this process.
        sys::redirect(socket, SOCKET)?;
    }
    // SAFETY: no pointers. Whoever owns one of them does not run in this process.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, SOCKET + 1, u32::MAX, 0) };
    if closed != 0 {
        close_each(SOCKET)?;
    }
    // SAFETY: it is open, and its owner does not run in this process.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET) };
    sys::close_on_exec(&socket)?;
    Ok(socket)
}

/// For kernels before 5.9.
fn close_each(last: RawFd) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > last)
        .collect();
    for fd in open {
        // SAFETY: no pointers; as above. The one that the directory was read by is closed already.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Whoever the VMM has become by then, and whatever it may send signals to: its end is seen.
fn watch_parent(parent: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(parent).map_err(io::Error::other)?;
    let fd = pidfd(number)?;
    if std::os::unix::process::parent_id() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(fd)
}

/// Nobody looks into it, and where privileges may not be had, its programs cannot get any.
fn privacy(plan: &SandboxPlan) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    if plan.on && plan.elevate != Elevate::Allow {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    }
    Ok(())
}

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: these options take a number.
    match unsafe { libc::prctl(option, value, none, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the VMM's words off the process's command line: it would look like a second VMM, to
/// people and to whoever ends processes by their words.
fn rename() {
    let Some((start, end)) = command_line() else {
        return;
    };
    // A last byte that is no zero would tell the kernel to go on behind it.
    let name = NAME.bytes().take(end - start - 1);
    for (at, byte) in (start..end).zip(name.chain(std::iter::repeat(0))) {
        // SAFETY: between the two the kernel put the words of our command line, on our stack and
        // writable. Nobody looks at them any more: std made copies, or is not asked again.
        unsafe { (at as *mut u8).write_volatile(byte) };
    }
}

/// Where it is (proc_pid_stat(5), fields 48 and 49), if that is to be known.
fn command_line() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    (start != 0 && start < end).then_some((start, end))
}
