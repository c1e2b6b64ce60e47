//! Character devices that carry monitors: the qmp thread owns their sockets.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use api_spec::{ChardevBackendKind, QmpError, QmpResult};
use devices::backend::chardev::{Attempt, Dialer, ListenSocket, Peer, Source, system_words};
use qmp::server::{Endpoint, stdio};

/// An endpoint from the host side of the character device `id`.
///
/// # Errors
/// When that is in use, or cannot carry a monitor.
pub(super) fn make(
    id: &str,
    kind: ChardevBackendKind,
    source: Option<Source>,
    insecure: bool,
) -> QmpResult<Endpoint> {
    let gate = match &source {
        Some(Source::Server(listener)) => listener.gate().cloned(),
        Some(Source::Client(dialer)) => dialer.gate().cloned(),
        _ => None,
    };
    if gate.is_none() && !insecure {
        check_reach(id, source.as_ref())?;
    }
    let endpoint = plain(id, kind, source)?;
    Ok(match gate {
        Some(gate) => Endpoint::Secured(Box::new(endpoint), gate),
        None => endpoint,
    })
}

/// Whoever reaches a monitor owns the machine: without TLS nobody else's host may.
fn check_reach(id: &str, source: Option<&Source>) -> QmpResult<()> {
    let addresses = match source {
        Some(Source::Server(listener)) => listener.tcp_address().into_iter().collect(),
        Some(Source::Client(dialer)) => dialer.tcp_addresses(),
        _ => Vec::new(),
    };
    match addresses.iter().find(|address| !is_local(address)) {
        None => Ok(()),
        Some(address) => Err(QmpError::generic(format!(
            "chardev '{id}' cannot carry a monitor: {address} is open to other hosts, and nothing \
             is encrypted. Use a unix socket, localhost or tls-creds=; insecure=on allows it"
        ))),
    }
}

fn is_local(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn plain(id: &str, kind: ChardevBackendKind, source: Option<Source>) -> QmpResult<Endpoint> {
    let host = |error: io::Error| QmpError::generic(format!("{id}: {}", system_words(&error)));
    match source {
        // Nothing ever happens there, but it is a place.
        None | Some(Source::Null) if kind == ChardevBackendKind::Null => {
            let null = null().map_err(host)?;
            Ok(Endpoint::Pair(null.try_clone().map_err(host)?, null))
        }
        Some(Source::Stdio(taken)) => {
            // Puts the terminal's settings back: a monitor is typed at in lines.
            drop(taken);
            stdio().map_err(host)
        }
        Some(Source::File { output, input }) => {
            let input = match input {
                Some(input) => input.into(),
                None => null().map_err(host)?,
            };
            Ok(Endpoint::Pair(input, output.into()))
        }
        Some(Source::Server(listener)) => Ok(match listener.into_parts() {
            (ListenSocket::Unix(socket), path) => Endpoint::Unix(socket, path),
            (ListenSocket::Tcp(socket), _) => Endpoint::Tcp(socket),
        }),
        Some(Source::Client(dialer)) => connecting(id, dialer),
        Some(Source::Null | Source::Ringbuf { .. } | Source::Pty(_)) | None => {
            let kind = kind.name();
            Err(QmpError::generic(format!(
                "chardev '{id}' of type '{kind}' cannot carry a monitor"
            )))
        }
    }
}

fn connecting(id: &str, dialer: Dialer) -> QmpResult<Endpoint> {
    match dialer.into_parts() {
        (_, Some(Attempt::Connected(fd)), _) => Ok(Endpoint::Connected(fd)),
        (Peer::Unix(address), _, again) if !address.is_abstract => {
            Ok(Endpoint::ConnectUnix(address.path.into(), again))
        }
        (Peer::Inet(addresses), _, again) => match addresses.first() {
            Some(address) => Ok(Endpoint::ConnectTcp(*address, again)),
            None => Err(no_monitor(id)),
        },
        (Peer::Unix(_) | Peer::Passed, _, _) => Err(no_monitor(id)),
    }
}

fn no_monitor(id: &str) -> QmpError {
    QmpError::generic(format!(
        "chardev '{id}' cannot carry a monitor: its socket cannot be connected again"
    ))
}

fn null() -> io::Result<OwnedFd> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into())
}
