//! Each thread may make the system calls that its kind needs, and no other.
//!
//! The rules stand in `filters.json`, each with its reason. The build makes programs for the
//! kernel of them, so that starting costs no more than handing them over. A call that is not in a
//! thread's filter ends the process, and says so ([`super::trap`]).
//!
//! A thread inherits the filters of the thread that starts it, and can only add to them. Hence all
//! threads but the first ones are started by one that does nothing else
//! ([`crate::threads::spawner`]): its filter allows what any kind needs.
#![allow(unsafe_code)] // the kernel is given programs

use std::io;
use std::sync::OnceLock;

use super::calls;
use super::plan::SandboxPlan;
use super::trap;
use crate::threads::ThreadKind;

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// How threads are confined; not set where they are not: in a library's tests, and after
/// `-sandbox off`.
static POLICY: OnceLock<Policy> = OnceLock::new();

#[derive(Debug)]
struct Policy {
    /// `resourcecontrol=deny`.
    strict: bool,
    /// `allow=`.
    allowed: Vec<Allowed>,
}

/// A call that the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    call: u16,
    /// All of them where none is named.
    kind: Option<ThreadKind>,
}

/// From now on threads get filters. To be called before any thread is started.
///
/// # Errors
/// When the kernel has no filters, or the plan allows what is no system call.
pub fn arm(plan: &SandboxPlan) -> Result<(), String> {
    if !plan.on {
        return Ok(());
    }
    let allowed = plan
        .allow
        .iter()
        .map(|text| allow(text))
        .collect::<Result<Vec<_>, _>>()?;
    available().map_err(|error| {
        format!("This kernel has no filters of system calls ({error}); -sandbox off does without")
    })?;
    for text in &plan.allow {
        log::warn!("The system call {text} is allowed beyond the filters");
    }
    no_new_privileges().map_err(|error| format!("Cannot set no_new_privs: {error}"))?;
    // The standard hook may print a backtrace, for which it opens files.
    std::panic::set_hook(Box::new(|panic| {
        let name = trap::own_name();
        log::error!("Thread '{name}' failed: {panic}");
    }));
    settle_allocator().map_err(|error| format!("Cannot start a thread: {error}"))?;
    let strict = !plan.resource_control;
    let _ = POLICY.set(Policy { strict, allowed });
    Ok(())
}

/// Puts the calling thread under the filter of `kind`, from here to its end.
///
/// # Errors
/// When the kernel does not take it.
pub fn install(kind: ThreadKind, name: &str) -> io::Result<()> {
    trap::introduce(kind, name);
    let Some(policy) = POLICY.get() else {
        return Ok(());
    };
    #[cfg(debug_assertions)]
    if super::provoke::learns(kind) {
        return Ok(());
    }
    let filter = filter(kind, policy.strict);
    let extra = widening(policy, kind);
    if extra.is_empty() {
        load(filter)
    } else {
        load(&[extra.as_slice(), filter].concat())
    }
}

/// The program of a kind.
fn filter(kind: ThreadKind, strict: bool) -> &'static [libc::sock_filter] {
    match (kind, strict) {
        (ThreadKind::Control, false) => &CONTROL,
        (ThreadKind::Control, true) => &CONTROL_STRICT,
        (ThreadKind::Spawner, false) => &SPAWNER,
        (ThreadKind::Spawner, true) => &SPAWNER_STRICT,
        (ThreadKind::Qmp, false) => &QMP,
        (ThreadKind::Qmp, true) => &QMP_STRICT,
        (ThreadKind::Chardev, false) => &CHARDEV,
        (ThreadKind::Chardev, true) => &CHARDEV_STRICT,
        (ThreadKind::Net, false) => &NET,
        (ThreadKind::Net, true) => &NET_STRICT,
        (ThreadKind::Io, false) => &IO,
        (ThreadKind::Io, true) => &IO_STRICT,
        (ThreadKind::Vcpu, false) => &VCPU,
        (ThreadKind::Vcpu, true) => &VCPU_STRICT,
        (ThreadKind::Qtest, false) => &QTEST,
        (ThreadKind::Qtest, true) => &QTEST_STRICT,
        (ThreadKind::Worker, false) => &WORKER,
        (ThreadKind::Worker, true) => &WORKER_STRICT,
        (ThreadKind::Block, false) => &BLOCK,
        (ThreadKind::Block, true) => &BLOCK_STRICT,
        (ThreadKind::Migration, false) => &MIGRATION,
        (ThreadKind::Migration, true) => &MIGRATION_STRICT,
    }
}

/// `SYSCALL[:KIND]`.
fn allow(text: &str) -> Result<Allowed, String> {
    let (call, kind) = match text.split_once(':') {
        Some((call, kind)) => (call, Some(kind)),
        None => (text, None),
    };
    // The table may be older than the kernel.
    let number = calls::number(call).or_else(|| call.parse().ok());
    let number = number.ok_or_else(|| format!("There is no system call '{call}'"))?;
    let kind = match kind {
        None => None,
        Some(name) => Some(ThreadKind::named(name).ok_or_else(|| {
            let all = ThreadKind::ALL.map(ThreadKind::name).join(", ");
            format!("There is no kind of thread '{name}'; there are {all}")
        })?),
    };
    Ok(Allowed { call: number, kind })
}

/// What stands before the filter of a kind, to let through what the operator allows.
fn widening(policy: &Policy, kind: ThreadKind) -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let concerns = |allowed: &&Allowed| match allowed.kind {
        // What it starts inherits its filter.
        _ if kind == ThreadKind::Spawner => true,
        Some(named) => named == kind,
        None => true,
    };
    let mut program = Vec::new();
    for Allowed { call, .. } in policy.allowed.iter().filter(concerns) {
        // Of seccomp_data: the architecture (the numbers of other ones mean other calls), then
        // the number.
        program.push(instruction(LOAD, 0, 0, 4));
        program.push(instruction(JUMP_EQUAL, 0, 3, AUDIT_ARCH_X86_64));
        program.push(instruction(LOAD, 0, 0, 0));
        program.push(instruction(JUMP_EQUAL, 0, 1, u32::from(*call)));
        program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    }
    program
}

/// linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

fn available() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_TRAP;
    // SAFETY: the kernel reads the number behind the pointer, which lives across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    succeeded(result)
}

/// The first time that glibc gives memory of a thread's heap back, it reads
/// /proc/sys/vm/overcommit_memory, whichever thread that is: it is to do so now.
#[cfg(target_env = "gnu")]
#[allow(clippy::disallowed_methods)] // its end is waited for
fn settle_allocator() -> io::Result<()> {
    let body = || {
        // Below what is mapped by itself, and together more than is kept.
        let pieces: Vec<Vec<u8>> = (0..8).map(|_| Vec::with_capacity(64 << 10)).collect();
        drop(std::hint::black_box(pieces));
    };
    let thread = std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(body)?;
    let _ = thread.join();
    Ok(())
}

#[cfg(not(target_env = "gnu"))]
fn settle_allocator() -> io::Result<()> {
    Ok(())
}

fn no_new_privileges() -> io::Result<()> {
    // SAFETY: no pointers.
    succeeded(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

fn load(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies as many instructions as `len` says, and writes none; they live
    // across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    succeeded(result)
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[path = "seccomp_test.rs"]
mod tests;
