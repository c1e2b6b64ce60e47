//! Virtqueues served by the kernel (vhost) or by another process (vhost-user).
//!
//! ```text
//! device -- start --> worker on an I/O thread, holds the rings         control: stop, reset, unplug
//!                       | register: Party::start                             | detach
//!                       v                                                    v
//! driver -- kick eventfd (ioeventfd) --> party          quiesce: Party::stop, positions come back
//! driver <-- irqfd -- call eventfd    <-- party
//!            or: call eventfd -> worker -> Interrupt::signal, where the vector is masked,
//!            moved or not there (INTx), and under accelerators without irqfds
//! ```
//!
//! The worker watches each call eventfd all the time. While the accelerator has it as an irqfd the
//! kernel takes what is signalled before this process sees it; whenever it does not, the worker
//! passes it on. So the guest may mask and move vectors while the queues run, and nothing is lost.

mod kernel;
mod memory;
mod net;
mod ring;
pub mod user;
mod worker;
mod writers;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod kernel_test;
#[cfg(test)]
mod net_test;

pub use kernel::{Kernel, Kind};
pub use memory::{MemoryTable, Region};
pub use net::{NetOptions, vhost_net};
pub use ring::Ring;
pub use worker::VhostWorker;
pub use writers::{Blocker, Membership, Writer, Writers};

use std::io;

use crate::ram::RamHandle;

/// Whoever serves rings in this process's place. Calls come from one thread at a time and take no
/// longer than the kernel does.
pub trait Party: Send + Sync {
    /// Begins to serve these rings. `features` are those agreed on with the driver; the party takes
    /// the ones it knows. Pages that it writes are marked in `log` from the first one on.
    ///
    /// # Errors
    /// When it refuses: then it serves none of them.
    fn start(
        &self,
        features: u64,
        ram: &RamHandle,
        rings: &[Ring],
        log: Option<&DirtyLog>,
    ) -> io::Result<()>;
    /// Stops serving them. For each ring the entry of the available ring it would take next; `None`
    /// where it does not say. Afterwards it touches no guest memory any more.
    fn stop(&self, rings: &[Ring]) -> Vec<Option<u16>>;
    /// Marks the pages it writes in `log` from now on, or no longer, while it serves `rings`: for
    /// migration.
    ///
    /// # Errors
    /// When it cannot.
    fn set_log(&self, ram: &RamHandle, rings: &[Ring], log: Option<&DirtyLog>) -> io::Result<()>;
    /// Whether the log has the buffers that it fills. If not, it has used rings only, and buffers
    /// that the driver may not have looked at count as written when the party stops.
    fn logs_buffers(&self) -> bool {
        true
    }
}

/// Bit of a party's features: it can log what it writes (linux/vhost.h).
pub(crate) const F_LOG_ALL: u64 = 1 << 26;

/// Why a machine with a party of these features cannot migrate, in QEMU's words.
pub(crate) fn blocked_by_features(features: u64) -> Option<String> {
    (features & F_LOG_ALL == 0)
        .then(|| "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature.".to_owned())
}

/// Where a party marks the pages that it wrote: a bit for each 4096 bytes of guest address space,
/// set atomically, in little-endian words of 64 bits.
#[derive(Debug, Clone)]
pub struct DirtyLog {
    /// Address in this process; mapped as long as the log is in use.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// The file behind it, which other processes map from its start.
    pub file: std::sync::Arc<std::fs::File>,
}
