//! Every thread of the process starts here: with a name, a small stack, signals blocked, a filter
//! of system calls, and a word to control when it panics.

pub mod io_thread;
pub mod polling;
pub mod spawner;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::armour::{files, privileges, seccomp};
use crate::event::{MachineEvent, MailSender};

/// What a thread does; decides on its stack, and on the system calls that it may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
    /// The first thread: owns the machine, carries out commands.
    Control,
    /// Starts the others.
    Spawner,
    /// Serves the monitors.
    Qmp,
    /// Serves character devices.
    Chardev,
    /// Serves the sockets of networks.
    Net,
    /// Runs queue workers.
    Io,
    /// Runs a vCPU.
    Vcpu,
    /// Serves the qtest protocol.
    Qtest,
    /// Does slow work for control.
    Worker,
    /// Does a disk's system calls that block.
    Block,
    /// Moves the machine's state out or in.
    Migration,
}

impl ThreadKind {
    /// All of them.
    pub const ALL: [ThreadKind; 11] = [
        ThreadKind::Control,
        ThreadKind::Spawner,
        ThreadKind::Qmp,
        ThreadKind::Chardev,
        ThreadKind::Net,
        ThreadKind::Io,
        ThreadKind::Vcpu,
        ThreadKind::Qtest,
        ThreadKind::Worker,
        ThreadKind::Block,
        ThreadKind::Migration,
    ];

    /// As it is called in messages, in `filters.json` and in `-sandbox allow=`.
    pub const fn name(self) -> &'static str {
        match self {
            ThreadKind::Control => "control",
            ThreadKind::Spawner => "spawner",
            ThreadKind::Qmp => "qmp",
            ThreadKind::Chardev => "chardev",
            ThreadKind::Net => "net",
            ThreadKind::Io => "io",
            ThreadKind::Vcpu => "vcpu",
            ThreadKind::Qtest => "qtest",
            ThreadKind::Worker => "worker",
            ThreadKind::Block => "block",
            ThreadKind::Migration => "migration",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes of stack; touched pages only count.
    const fn stack(self) -> usize {
        match self {
            // Decoding recurses over nested JSON, and block nodes are made within each other, as
            // deep as clients and images have it.
            ThreadKind::Control | ThreadKind::Qmp => 2 << 20,
            ThreadKind::Worker => 4 << 20,
            // Requests go down from node to node.
            ThreadKind::Io | ThreadKind::Block | ThreadKind::Migration => 1 << 20,
            ThreadKind::Qtest => 512 << 10,
            ThreadKind::Spawner => 128 << 10,
            ThreadKind::Chardev | ThreadKind::Net | ThreadKind::Vcpu => 256 << 10,
        }
    }
}

/// Whether threads get names of their own; otherwise they bear the process's.
static NAMED: AtomicBool = AtomicBool::new(true);

/// `-name debug-threads=`: on unless it says off. Names cost nothing, and tell who is busy.
pub fn set_naming(on: bool) {
    NAMED.store(on, Ordering::Relaxed);
}

/// Starts a thread. When `body` panics, `mail` tells control.
///
/// # Errors
/// When the host gives no thread.
pub fn spawn<T: Send + 'static>(
    kind: ThreadKind,
    name: &str,
    mail: Option<MailSender>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<Option<T>>> {
    let builder = builder(kind, name);
    let name = name.to_owned();
    spawner::spawn(builder, move || {
        // Unconfined it does nothing.
        let result = match confine(kind, &name) {
            Ok(()) => catch_unwind(AssertUnwindSafe(|| {
                #[cfg(debug_assertions)]
                crate::armour::provoke(kind);
                body()
            }))
            .ok(),
            Err(error) => {
                log::error!("Thread '{name}' cannot be confined: {error}");
                None
            }
        };
        if let (None, Some(mail)) = (&result, mail) {
            mail.event(MachineEvent::ThreadPanicked { name });
        }
        result
    })
}

/// The calling thread gives up what its kind does not need.
fn confine(kind: ThreadKind, name: &str) -> io::Result<()> {
    files::enter_thread(kind)?;
    privileges::enter_thread(kind)?;
    seccomp::install(kind, name)
}

fn builder(kind: ThreadKind, name: &str) -> Builder {
    let builder = Builder::new().stack_size(kind.stack());
    match NAMED.load(Ordering::Relaxed) {
        true => builder.name(name.to_owned()),
        false => builder,
    }
}
