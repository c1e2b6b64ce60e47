//! The service manager above us: what it passes in ([`activation`]), and what it is told
//! ([`notify`]). Both come in variables of the environment, which are taken out of it, so that no
//! program that we start believes them to be meant for it.

pub mod activation;
pub mod notify;

use std::ffi::OsString;

use crate::sys;
use activation::PassedSockets;
use notify::Notifier;

/// What the environment says of a service manager.
#[derive(Debug, Default)]
pub struct Service {
    /// The sockets that it passed.
    pub sockets: PassedSockets,
    /// Where it listens.
    pub notifier: Notifier,
}

impl Service {
    /// Takes the variables of sd_notify(3) and sd_listen_fds(3) out of the environment. Must run
    /// before any thread is started, and before the process goes to the background: the sockets
    /// are for the process that was started.
    pub fn take() -> Self {
        let text = |name| take_variable(name).and_then(|value| value.into_string().ok());
        let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(text);
        take_variable("LISTEN_PIDFDID");
        Service {
            sockets: PassedSockets::take(pid.as_deref(), count.as_deref(), names.as_deref()),
            notifier: Notifier::new(take_variable("NOTIFY_SOCKET")),
        }
    }
}

fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    sys::remove_variable(name);
    Some(value)
}
