//! From addresses as commands have them to sockets, and back.

use std::time::Duration;

use api_spec::{
    FdSocketAddress, InetSocketAddress, QmpError, QmpResult, SocketAddress, SocketAddressBranch,
    UnixSocketAddress,
};
use devices::backend::socket::{InetAddress, Place, UnixAddress};

/// A unix socket's address.
pub fn unix(address: &UnixSocketAddress) -> UnixAddress {
    let UnixSocketAddress {
        path,
        r#abstract,
        tight,
    } = address;
    UnixAddress {
        path: path.clone(),
        is_abstract: r#abstract.unwrap_or(false),
        tight: tight.unwrap_or(true),
    }
}

/// A host and a port.
pub fn inet(address: &InetSocketAddress) -> InetAddress {
    let InetSocketAddress {
        host,
        port,
        numeric: _,
        to,
        ipv4,
        ipv6,
        keep_alive,
    } = address;
    InetAddress {
        host: host.clone(),
        port: port.clone(),
        to: *to,
        ipv4: *ipv4,
        ipv6: *ipv6,
        keep_alive: keep_alive.unwrap_or(false),
    }
}

/// How long a client waits until it tries again; not at all for zero.
///
/// # Errors
/// When both are given.
pub fn retry_after(seconds: Option<i64>, milliseconds: Option<i64>) -> QmpResult<Option<Duration>> {
    let wait = match (seconds, milliseconds) {
        (Some(_), Some(_)) => {
            return Err(QmpError::generic(
                "'reconnect' and 'reconnect-ms' are mutually exclusive",
            ));
        }
        (Some(seconds), None) => seconds.saturating_mul(1000),
        (None, Some(milliseconds)) => milliseconds,
        (None, None) => 0,
    };
    // Longer than a year is for ever.
    const YEAR_MS: u64 = 366 * 86_400 * 1000;
    let wait = u64::try_from(wait).unwrap_or(0).min(YEAR_MS);
    Ok((wait > 0).then_some(Duration::from_millis(wait)))
}

/// Where somebody is, for events.
pub fn of_place(place: &Place) -> SocketAddress {
    let r#type = match place {
        Place::Unix(address) => SocketAddressBranch::Unix(UnixSocketAddress {
            path: address.path.clone(),
            r#abstract: address.is_abstract.then_some(true),
            tight: address.is_abstract.then_some(address.tight),
        }),
        Place::Inet(address) => SocketAddressBranch::Inet(InetSocketAddress {
            host: address.ip().to_string(),
            port: address.port().to_string(),
            numeric: None,
            to: None,
            ipv4: address.is_ipv4().then_some(true),
            ipv6: address.is_ipv6().then_some(true),
            keep_alive: None,
        }),
        Place::Fd(number) => SocketAddressBranch::Fd(FdSocketAddress {
            str: number.to_string(),
        }),
    };
    SocketAddress { r#type }
}
