//! `qvmd-usernet`: the network of `netdev user`. Started by qvmd, never by hand; see the library.

mod clock;
mod frames;
mod launcher;
mod sandbox;
mod serve;
mod stack;
mod start;
mod words;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

pub use start::poll;

/// What a guest can make us say at most.
const GUEST_ERRORS: u32 = 100;

fn main() -> ExitCode {
    let Some((control, frames)) = start::sockets() else {
        eprintln!(
            "qvmd-usernet {}: started by qvmd for -netdev user, not by hand",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::from(2);
    };
    let served = sandbox::leave_parent().map_err(std::io::Error::other);
    match served.and_then(|()| serve::run(control, frames)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qvmd-usernet: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells of nonsense that the guest sent, as long as it is not too much.
fn log_guest_error(text: &str) {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    match TOLD.fetch_add(1, Ordering::Relaxed) {
        ..GUEST_ERRORS => eprintln!("qvmd-usernet: The guest's network: {text}"),
        GUEST_ERRORS => eprintln!("qvmd-usernet: The guest's network: more is not told"),
        // Never back to zero.
        _ => TOLD.store(GUEST_ERRORS + 1, Ordering::Relaxed),
    }
}
