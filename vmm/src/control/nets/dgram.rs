//! The back end `dgram`: each frame is a datagram, from one socket to another or among a group.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use api_spec::{
    InetSocketAddress, NetdevDgramOptions, QmpError, QmpResult, SocketAddress,
    SocketAddressBranch as At,
};
use devices::backend::net::{DgramSocket, NetTraits, Netdev, NetdevOptions};
use devices::backend::socket::{InetAddress, system_words};

use super::{NetOpenCx, Opened};
use crate::control::addresses::{inet, unix};

/// Makes it. Blocks for names of hosts.
///
/// # Errors
/// When addresses are missing, do not go together, or cannot be used.
pub fn open(id: &str, options: &NetdevDgramOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let NetdevDgramOptions { local, remote } = options;
    if let Some(group) = group(remote.as_ref())? {
        return multicast(id, group, local.as_ref(), cx);
    }
    let refuse = |text: &str| Err(QmpError::generic(text));
    let Some(local) = local else {
        return refuse("dgram requires local= parameter");
    };
    match (&local.r#type, remote.as_ref().map(|remote| &remote.r#type)) {
        (At::Fd(_), Some(_)) => refuse("don't set remote with local.fd"),
        (At::Fd(fd), None) => {
            let name = &fd.str;
            let made = DgramSocket::passed(cx.take_fd(name)?)
                .map_err(|error| passed_error(id, name, &error))?;
            Ok(made_of(id, "dgram", format!("fd={name}"), made))
        }
        (At::Inet(_) | At::Unix(_), None) => {
            refuse("type=inet or type=unix requires remote parameter")
        }
        (At::Unix(local), Some(At::Unix(remote))) => {
            let made = DgramSocket::unix(&unix(local), &unix(remote)).map_err(|error| {
                let what = format!("can't bind unix={} to socket", local.path);
                failed(&what, &error)
            })?;
            let description = format!("udp={}:{}", local.path, remote.path);
            Ok(made_of(id, "dgram", description, made))
        }
        (At::Inet(local), Some(At::Inet(remote))) => {
            let (local, remote) = (one(local)?, one(remote)?);
            udp(id, "dgram", format!("udp={local}/{remote}"), local, remote)
        }
        (At::Inet(_) | At::Unix(_), Some(At::Inet(_) | At::Unix(_) | At::Fd(_))) => {
            refuse("remote and local types must be the same")
        }
    }
}

/// The group that datagrams are to go to, if it is one.
fn group(remote: Option<&SocketAddress>) -> QmpResult<Option<SocketAddrV4>> {
    let Some(At::Inet(remote)) = remote.map(|remote| &remote.r#type) else {
        return Ok(None);
    };
    // Other hosts are looked up once it is known what for.
    let numeric = remote.host.parse::<Ipv4Addr>().ok();
    match numeric.filter(Ipv4Addr::is_multicast) {
        Some(host) => Ok(Some(SocketAddrV4::new(host, port(&remote.port)?))),
        None => Ok(None),
    }
}

fn multicast(
    id: &str,
    group: SocketAddrV4,
    local: Option<&SocketAddress>,
    cx: &NetOpenCx,
) -> QmpResult<Opened> {
    let description = format!("mcast={group}");
    let own = match local.map(|local| &local.r#type) {
        None => None,
        Some(At::Inet(local)) => match one(local)?.ip() {
            std::net::IpAddr::V4(own) => Some(own),
            std::net::IpAddr::V6(_) => return Err(unknown_host(&local.host)),
        },
        Some(At::Fd(fd)) => {
            let name = &fd.str;
            let made = DgramSocket::passed_for(cx.take_fd(name)?, group)
                .map_err(|error| passed_error(id, name, &error))?;
            return Ok(made_of(id, "dgram", description, made));
        }
        Some(At::Unix(_)) => {
            return Err(QmpError::generic("only support inet or fd type for local"));
        }
    };
    in_group(id, "dgram", description, group, own)
}

/// A netdev in a group.
///
/// # Errors
/// What the host says.
pub(super) fn in_group(
    id: &str,
    kind: &'static str,
    description: String,
    group: SocketAddrV4,
    own: Option<Ipv4Addr>,
) -> QmpResult<Opened> {
    let made = DgramSocket::multicast(group, own)
        .map_err(|error| failed(&format!("can't use the group {group}"), &error))?;
    Ok(made_of(id, kind, description, made))
}

/// A netdev between two addresses.
///
/// # Errors
/// When the local one cannot be bound to, or the two are of different families.
pub(super) fn udp(
    id: &str,
    kind: &'static str,
    description: String,
    local: SocketAddr,
    remote: SocketAddr,
) -> QmpResult<Opened> {
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(QmpError::generic("remote and local types must be the same"));
    }
    let made = DgramSocket::udp(local, remote)
        .map_err(|error| failed(&format!("can't bind ip={} to socket", local.ip()), &error))?;
    Ok(made_of(id, kind, description, made))
}

/// The netdev of a finished socket.
pub(super) fn made_of(
    id: &str,
    kind: &'static str,
    description: String,
    made: DgramSocket,
) -> Opened {
    Opened {
        netdev: Netdev::new(NetdevOptions {
            id: id.to_owned(),
            kind,
            description,
            traits: NetTraits::default(),
            ports: vec![made.into_port()],
            vhost: None,
            link_up: true,
        }),
        keep: Box::new(()),
    }
}

/// What is wrong with a descriptor that somebody passed.
fn passed_error(id: &str, name: &str, error: &io::Error) -> QmpError {
    match error.raw_os_error() {
        Some(libc::ENOTSOCK) => failed("Unable to query local socket address", error),
        _ => failed(&format!("{id}: Can't use file descriptor {name}"), error),
    }
}

fn failed(what: &str, error: &io::Error) -> QmpError {
    QmpError::generic(format!("{what}: {}", system_words(error)))
}

fn unknown_host(host: &str) -> QmpError {
    QmpError::generic(format!("can't resolve host address '{host}'"))
}

fn port(text: &str) -> QmpResult<u16> {
    text.parse()
        .map_err(|_| QmpError::generic(format!("port number '{text}' is invalid")))
}

/// The first address of a host; any of ours for no name. Blocks.
fn one(address: &InetSocketAddress) -> QmpResult<SocketAddr> {
    first(&inet(address))
}

/// The first address of a host. Blocks.
///
/// # Errors
/// When the port is no number, or the host is not known.
pub(super) fn first(address: &InetAddress) -> QmpResult<SocketAddr> {
    port(&address.port)?;
    let found = address.resolve().ok();
    let first = found.and_then(|found| found.first().copied());
    first.ok_or_else(|| unknown_host(&address.host))
}

#[cfg(test)]
#[path = "dgram_test.rs"]
mod tests;
