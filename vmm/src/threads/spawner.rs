//! The thread that starts threads.
//!
//! A thread inherits the filter of system calls of the one that starts it. Control, which hears
//! clients and the guest, is not to be allowed all that workers and vCPUs need: so there is a
//! thread with no other task than to start others. It waits for nobody, and whoever wants a
//! thread waits for it.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::{ThreadKind, builder};
use crate::armour::seccomp;

type Errand = Box<dyn FnOnce() + Send>;

/// Set once the thread runs; before that, threads are started by who wants them.
static ERRANDS: OnceLock<Sender<Errand>> = OnceLock::new();

/// From now on it starts all threads. It has what the calling thread has: filters, capabilities,
/// blocked signals.
///
/// # Errors
/// When the host gives no thread, or takes no filter.
pub fn begin() -> io::Result<()> {
    let (errands, wanted) = channel::<Errand>();
    let (ready, started) = channel();
    let body = move || {
        let installed = seccomp::install(ThreadKind::Spawner, "spawner");
        let failed = installed.is_err();
        let _ = ready.send(installed);
        if failed {
            return;
        }
        #[cfg(debug_assertions)]
        crate::armour::provoke(ThreadKind::Spawner);
        for errand in wanted {
            errand();
        }
    };
    start(builder(ThreadKind::Spawner, "spawner"), body)?;
    started.recv().map_err(|_| gone())??;
    let _ = ERRANDS.set(errands);
    Ok(())
}

/// Starts a thread.
///
/// # Errors
/// When the host gives none.
pub(super) fn spawn<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let Some(errands) = ERRANDS.get() else {
        return start(builder, body);
    };
    let (answer, answered) = channel();
    let errand = move || {
        let _ = answer.send(start(builder, body));
    };
    errands.send(Box::new(errand)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

#[allow(clippy::disallowed_methods)] // the one place that may
fn start<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    builder.spawn(body)
}

fn gone() -> io::Error {
    io::Error::other("The thread that starts threads is gone")
}
