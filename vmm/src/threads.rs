//! Every thread of the process starts here: with a name, a small stack, signals blocked, and a
//! word to control when it panics.

pub mod io_thread;
pub mod polling;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::armour::{files, privileges};
use crate::event::{MachineEvent, MailSender};

/// What a thread does; decides on its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
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
    /// Bytes of stack; touched pages only count.
    const fn stack(self) -> usize {
        match self {
            // Decoding recurses over nested JSON, and block nodes are made within each other, as
            // deep as clients and images have it.
            ThreadKind::Qmp => 2 << 20,
            ThreadKind::Worker => 4 << 20,
            // Requests go down from node to node.
            ThreadKind::Io | ThreadKind::Block | ThreadKind::Migration => 1 << 20,
            ThreadKind::Qtest => 512 << 10,
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
#[allow(clippy::disallowed_methods)] // the one place that may
pub fn spawn<T: Send + 'static>(
    kind: ThreadKind,
    name: &str,
    mail: Option<MailSender>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<Option<T>>> {
    let name = name.to_owned();
    let mut builder = Builder::new().stack_size(kind.stack());
    if NAMED.load(Ordering::Relaxed) {
        builder = builder.name(name.clone());
    }
    builder.spawn(move || {
        let entered = files::enter_thread(kind).and_then(|()| privileges::enter_thread());
        if let Err(error) = entered {
            // Both need nothing but a kernel that has them. Without, nothing is run.
            log::error!("Thread '{name}' cannot give up its privileges: {error}");
            std::process::abort();
        }
        let result = catch_unwind(AssertUnwindSafe(body));
        match result {
            Ok(value) => Some(value),
            Err(_) => {
                if let Some(mail) = mail {
                    mail.event(MachineEvent::ThreadPanicked { name });
                }
                None
            }
        }
    })
}
