//! What tests and the audit ask of a program that was built for debugging: never in a release.
#![allow(unsafe_code)] // system calls that are forbidden

use std::sync::OnceLock;

use crate::threads::ThreadKind;

/// How the audit knows the kind of a thread among the traced calls: a write to no descriptor, of
/// as many bytes as the kind's place in [`ThreadKind::ALL`].
const MARK: usize = 0x5ec0_c0de;

/// What is asked for in the environment.
#[derive(Debug, Default)]
struct Wish {
    /// `QVMD_AUDIT=1`: filters are not installed, but where they would be is marked.
    audit: bool,
    /// `QVMD_AUDIT=names`: marked by the thread's name, for a kernel that counts calls by it.
    names: bool,
    /// `QVMD_PROVOKE=KIND:forbidden`, `QVMD_PROVOKE=KIND:panic`.
    kind: Option<ThreadKind>,
    panic: bool,
}

fn wish() -> &'static Wish {
    static WISH: OnceLock<Wish> = OnceLock::new();
    WISH.get_or_init(|| {
        let provoke = std::env::var("QVMD_PROVOKE").unwrap_or_default();
        let (kind, what) = provoke.split_once(':').unwrap_or_default();
        Wish {
            audit: std::env::var_os("QVMD_AUDIT").is_some(),
            names: std::env::var_os("QVMD_AUDIT").is_some_and(|how| how == "names"),
            kind: ThreadKind::named(kind),
            panic: what == "panic",
        }
    })
}

/// Whether the thread goes without a filter, to have its calls learned.
pub fn learns(kind: ThreadKind) -> bool {
    let audit = wish().audit;
    if audit {
        let place = ThreadKind::ALL.iter().position(|other| *other == kind);
        // SAFETY: no descriptor has this number, so that nothing is read.
        unsafe { libc::syscall(libc::SYS_write, -1, MARK, place.unwrap_or(0)) };
    }
    if wish().names {
        let name = format!("audit-{}\0", kind.name());
        // SAFETY: the text ends with a zero, and lives across the call.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
    audit
}

/// A thread of the kind that was asked for does what it was asked to do.
pub fn provoke(kind: ThreadKind) {
    let wish = wish();
    if wish.kind != Some(kind) {
        return;
    }
    if wish.panic {
        panic!("This was asked for");
    }
    // SAFETY: without a path nothing is executed.
    unsafe { libc::syscall(libc::SYS_execve, 0, 0, 0) };
}
