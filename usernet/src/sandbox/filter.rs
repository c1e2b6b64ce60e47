//! The system calls that the network makes, and no other.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Calls without a condition.
const FREE: &[i64] = &[
    // Descriptors that are there already.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_poll,
    libc::SYS_ppoll,
    // Sockets.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    // Oneself.
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Flags of open that make or change a file.
const WRITING: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;

/// Puts the filter in force for this process, for good.
///
/// # Errors
/// In words.
pub fn install() -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| format!("Cannot filter system calls: {error}");
    let filter = SeccompFilter::new(
        rules().map_err(|error| words(&error))?,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .map_err(|error| words(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error| words(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| words(&error))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules() -> seccompiler::Result<Rules> {
    let mut rules: Rules = FREE.iter().map(|call| (*call, Vec::new())).collect();
    let one_of =
        |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
            values
                .iter()
                .map(|value| rule(argument, SeccompCmpOp::Eq, *value))
                .collect()
        };
    let none_of =
        |argument: u8, bits: u64| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
            Ok(vec![rule(argument, SeccompCmpOp::MaskedEq(bits), 0)?])
        };
    let number = |value: i32| u64::from(value.cast_unsigned());
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].map(number);
    rules.insert(libc::SYS_socket, one_of(0, &families)?);
    rules.insert(libc::SYS_open, none_of(1, number(WRITING))?);
    rules.insert(libc::SYS_openat, none_of(2, number(WRITING))?);
    rules.insert(libc::SYS_mmap, none_of(2, number(libc::PROT_EXEC))?);
    rules.insert(libc::SYS_mprotect, none_of(2, number(libc::PROT_EXEC))?);
    rules.insert(
        libc::SYS_ioctl,
        one_of(1, &[libc::FIONREAD, libc::FIONBIO, libc::TIOCOUTQ])?,
    );
    let fcntls = [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD].map(number);
    rules.insert(libc::SYS_fcntl, one_of(1, &fcntls)?);
    // abort(3).
    let own = number(std::process::id().cast_signed());
    rules.insert(libc::SYS_tgkill, one_of(0, &[own])?);
    Ok(rules)
}

fn rule(
    argument: u8,
    operation: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
    SeccompRule::new(vec![condition])
}
