//! The back end `socket`, the older face of `stream` and `dgram`: addresses are `host:port`.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use api_spec::{NetdevSocketOptions, QmpError, QmpResult};
use devices::backend::net::{DgramSocket, Way};
use devices::backend::socket::{Dialer, InetAddress, Listener, Place, SocketKind, system_words};

use super::dgram::{first, in_group, made_of, udp};
use super::service::{LinkStyle, open_stream};
use super::{NetOpenCx, Opened};

/// Makes it. Blocks for names of hosts.
///
/// # Errors
/// When not exactly one way is given, or it cannot be used.
pub fn open(id: &str, options: &NetdevSocketOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let NetdevSocketOptions {
        fd,
        listen,
        connect,
        mcast,
        localaddr,
        udp,
    } = options;
    let refuse = |text: &str| Err(QmpError::generic(text));
    let ways = [fd, listen, connect, mcast, udp];
    if ways.iter().filter(|way| way.is_some()).count() != 1 {
        return refuse("exactly one of listen=, connect=, mcast= or udp= is required");
    }
    if localaddr.is_some() && mcast.is_none() && udp.is_none() {
        return refuse("localaddr= is only valid with mcast= or udp=");
    }
    match (fd, listen, connect, mcast, udp) {
        (Some(name), ..) => passed(id, name, cx),
        (_, Some(address), ..) => listening(id, address, cx),
        (_, _, Some(address), ..) => connecting(id, address, cx),
        (_, _, _, Some(group), _) => multicast(id, group, localaddr.as_deref()),
        (_, _, _, _, Some(remote)) => datagrams(id, remote, localaddr.as_deref()),
        (None, None, None, None, None) => {
            refuse("exactly one of listen=, connect=, mcast= or udp= is required")
        }
    }
}

fn passed(id: &str, name: &str, cx: &NetOpenCx) -> QmpResult<Opened> {
    let fd = cx.take_fd(name)?;
    let refuse = |_| QmpError::generic("can't get socket option SO_TYPE");
    match SocketKind::of(&fd).map_err(refuse)? {
        SocketKind::Stream => stream_passed(id, name, fd, cx),
        SocketKind::Datagrams => {
            let made = DgramSocket::passed(fd).map_err(refuse)?;
            Ok(made_of(id, "socket", format!("socket: fd={name}"), made))
        }
        SocketKind::Other => Err(QmpError::generic(format!(
            "socket type of fd={name} is not supported"
        ))),
    }
}

fn stream_passed(id: &str, name: &str, fd: OwnedFd, cx: &NetOpenCx) -> QmpResult<Opened> {
    let way = Way::Dial(Dialer::passed(fd, name, true)?);
    open_stream(id, way, style(|_| "socket: fd".into()), cx)
}

fn listening(id: &str, address: &str, cx: &NetOpenCx) -> QmpResult<Opened> {
    let address = host_and_port(address)?;
    let at = first(&address)?;
    let listener = Listener::tcp(at).map_err(|error| {
        let (ip, why) = (at.ip(), system_words(&error));
        QmpError::generic(format!("can't bind ip={ip} to socket: {why}"))
    })?;
    let connected = |place: &Place| format!("socket: connection from {}", plain(place));
    open_stream(id, Way::Listen(listener), style(connected), cx)
}

fn connecting(id: &str, address: &str, cx: &NetOpenCx) -> QmpResult<Opened> {
    let at = first(&host_and_port(address)?)?;
    let known = InetAddress {
        host: at.ip().to_string(),
        port: at.port().to_string(),
        ..InetAddress::default()
    };
    let connected = |place: &Place| format!("socket: connect to {}", plain(place));
    let way = Way::Dial(Dialer::inet_later(&known, None)?);
    open_stream(id, way, style(connected), cx)
}

fn multicast(id: &str, group: &str, own: Option<&str>) -> QmpResult<Opened> {
    let at = first(&host_and_port(group)?)?;
    let SocketAddr::V4(at) = at else {
        return Err(no_group(&at));
    };
    if !at.ip().is_multicast() {
        return Err(no_group(&at.into()));
    }
    let own = match own {
        None => None,
        Some(own) => Some(own.parse::<Ipv4Addr>().map_err(|_| {
            QmpError::generic(format!("localaddr '{own}' is not a valid IPv4 address"))
        })?),
    };
    in_group(id, "socket", format!("socket: mcast={at}"), at, own)
}

fn no_group(at: &SocketAddr) -> QmpError {
    let ip = at.ip();
    let number = match ip {
        std::net::IpAddr::V4(ip) => u32::from(ip),
        std::net::IpAddr::V6(_) => 0,
    };
    QmpError::generic(format!(
        "specified mcastaddr {ip} ({number:#010x}) does not contain a multicast address"
    ))
}

fn datagrams(id: &str, remote: &str, local: Option<&str>) -> QmpResult<Opened> {
    let local = local.ok_or_else(|| QmpError::generic("localaddr= is mandatory with udp="))?;
    let local = first(&host_and_port(local)?)?;
    let remote = first(&host_and_port(remote)?)?;
    udp(id, "socket", format!("socket: udp={remote}"), local, remote)
}

fn style(connected: fn(&Place) -> String) -> LinkStyle {
    LinkStyle {
        kind: "socket",
        idle: "",
        connected,
        events: false,
    }
}

/// `host:port`; IPv6 addresses may stand in brackets.
fn host_and_port(text: &str) -> QmpResult<InetAddress> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| {
        QmpError::generic(format!(
            "host address '{text}' doesn't contain ':' separating host from port"
        ))
    })?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    Ok(InetAddress {
        host: bare.unwrap_or(host).to_owned(),
        port: port.to_owned(),
        ..InetAddress::default()
    })
}

fn plain(place: &Place) -> String {
    let text = place.describe();
    text.strip_prefix("tcp:").unwrap_or(&text).to_owned()
}
