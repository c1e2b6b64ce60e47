//! Forwarding rules: text into what the child takes.

use std::net::Ipv4Addr;

use api_spec::QmpError;
use usernet::wire::{HostForward, Protocol};

use super::numbers::{address, before, number};

/// Reads `[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport`.
///
/// # Errors
/// In QEMU's words.
pub fn host_forward(rule: &str) -> Result<HostForward, QmpError> {
    parse_host_forward(rule).map_err(|reason| {
        QmpError::generic(format!("Invalid host forwarding rule '{rule}' ({reason})"))
    })
}

/// What is said of a rule that the host does not allow.
pub fn host_forward_refused(rule: &str) -> QmpError {
    QmpError::generic(format!("Could not set up host forwarding rule '{rule}'"))
}

fn parse_host_forward(rule: &str) -> Result<HostForward, &'static str> {
    let (protocol, rest) = before(rule, ':').ok_or("No : separators")?;
    let protocol = protocol_named(protocol).ok_or("Bad protocol name")?;
    let (host, rest) = before(rest, ':').ok_or("Missing : separator")?;
    let host = maybe_address(host).ok_or("Bad host address")?;
    let (host_port, rest) = before(rest, '-').ok_or("Bad host port separator")?;
    let host_port = port(host_port, 0).ok_or("Bad host port")?;
    let (guest, guest_port) = before(rest, ':').ok_or("Missing guest address")?;
    let guest = maybe_address(guest).ok_or("Bad guest address")?;
    let guest_port = port(guest_port, 1).ok_or("Bad guest port")?;
    Ok(HostForward {
        protocol,
        host,
        host_port,
        guest,
        guest_port,
    })
}

fn protocol_named(name: &str) -> Option<Protocol> {
    match name {
        "" | "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

fn maybe_address(text: &str) -> Option<Ipv4Addr> {
    if text.is_empty() {
        Some(Ipv4Addr::UNSPECIFIED)
    } else {
        address(text)
    }
}

/// What is behind the number does not count.
fn port(text: &str, least: u16) -> Option<u16> {
    let (port, _) = number(text, 0)?;
    u16::try_from(port).ok().filter(|port| *port >= least)
}

/// Which host forward is to go, as hostfwd_remove names it: `[tcp|udp]:[hostaddr]:hostport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostEnd {
    /// What it carries.
    pub protocol: Protocol,
    /// Where the host listens.
    pub host: Ipv4Addr,
    /// The port; `None` for one that cannot be.
    pub port: Option<u16>,
}

/// Reads it; `None` when it has no such form.
pub fn host_end(text: &str) -> Option<HostEnd> {
    let (protocol, rest) = before(text, ':')?;
    let protocol = protocol_named(protocol)?;
    let (host, port) = before(rest, ':')?;
    let host = maybe_address(host)?;
    let (port, rest) = number(port, 10)?;
    let port = u16::try_from(port).ok();
    rest.is_empty().then_some(HostEnd {
        protocol,
        host,
        port,
    })
}

/// A guest forward as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestRule {
    /// Its address; unspecified for the network's choice.
    pub server: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Where it leads.
    pub to: GuestTarget,
}

/// Where a guest forward leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestTarget {
    /// `cmd:PROGRAM`.
    Command(String),
    /// A character device, in the short form.
    Chardev(String),
}

impl GuestRule {
    /// The id of a character device that is made for it.
    pub fn chardev_id(&self) -> String {
        format!("guestfwd.tcp.{}", self.port)
    }
}

/// Reads `[tcp]:server:port-dev` or `[tcp]:server:port-cmd:program`.
///
/// # Errors
/// In QEMU's words.
pub fn guest_forward(rule: &str) -> Result<GuestRule, QmpError> {
    parse_guest_forward(rule)
        .ok_or_else(|| QmpError::generic(format!("Invalid guest forwarding rule '{rule}'")))
}

/// What is said of a rule that the network does not allow.
pub fn guest_forward_refused(rule: &str) -> QmpError {
    QmpError::generic(format!(
        "Conflicting/invalid host:port in guest forwarding rule '{rule}'"
    ))
}

fn parse_guest_forward(rule: &str) -> Option<GuestRule> {
    let (protocol, rest) = before(rule, ':')?;
    if !matches!(protocol, "" | "tcp") {
        return None;
    }
    let (server, rest) = before(rest, ':')?;
    let server = maybe_address(server)?;
    let (port, target) = before(rest, '-')?;
    let (port, behind) = number(port, 10)?;
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port > 0 && behind.is_empty())?;
    let to = match target.strip_prefix("cmd:") {
        Some(command) => GuestTarget::Command(command.to_owned()),
        None => GuestTarget::Chardev(target.to_owned()),
    };
    Some(GuestRule { server, port, to })
}

#[cfg(test)]
#[path = "rules_test.rs"]
mod tests;
