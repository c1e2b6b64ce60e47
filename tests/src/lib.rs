//! Judges the program from outside: it is started as a process and spoken to over its sockets, as any
//! client would. Nothing in here knows how it is made.
//!
//! Environment:
//! - `QVMD`: the program under test; `target/debug/qvmd` of this workspace by default. With a QEMU
//!   here the suites check themselves against the reference.
//! - `QVMD_GUEST`: directory with `bzImage`, `vmlinux` and `initrd`, as `scripts/guest-artifacts`
//!   makes them. Where it is set the guest suite runs.
//! - `QVMD_GUEST_ACCEL`: accelerator of guests, `kvm` by default.
//! - `QVMD_TIME_FACTOR`: stretches every time limit, for slow or emulated hosts.

pub mod artifacts;
pub mod baremetal;
pub mod binary;
pub mod certificates;
pub mod disk;
pub mod iso;
pub mod migrate;
pub mod pci;
pub mod qmp;
pub mod qtest;
pub mod serial;
pub mod sys;
pub mod virtio;
pub mod vm;
pub mod vsock;

pub use qmp::{Qmp, QmpError};
pub use serial::Serial;
pub use vm::{Exit, Vm, VmBuilder};

use std::time::Duration;

/// `seconds`, stretched by `QVMD_TIME_FACTOR`.
pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds).mul_f64(time_factor())
}

/// By how much slower than a plain machine this one is taken to be.
pub fn time_factor() -> f64 {
    std::env::var("QVMD_TIME_FACTOR")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|factor: &f64| *factor >= 1.0)
        .unwrap_or(1.0)
}
