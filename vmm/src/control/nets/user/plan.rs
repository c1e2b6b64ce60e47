//! The options of a network: checked, with QEMU's defaults, in QEMU's order and words.

use std::net::{Ipv4Addr, Ipv6Addr};

use api_spec::{NetdevUserOptions, QmpError, QmpResult, StringWrapper};
use usernet::wire::{Config, GuestForward, Ipv4, Ipv6, Target};

use super::numbers::{address, number};
use super::rules::{self, GuestRule, GuestTarget};

/// The longest text that DHCP carries in an option.
const OPTION_MAX: usize = 255;
/// The room for the boot file's name in DHCP (RFC 2131, section 2), with its end.
const BOOTFILE_ROOM: usize = 128;

/// What the options ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For the child.
    pub config: Config,
    /// [`Config::guest_forwards`], as they are written and as they were read.
    pub guest_rules: Vec<(String, GuestRule)>,
    /// [`Config::host_forwards`], as they are written.
    pub host_rules: Vec<String>,
    /// As `info network` has it.
    pub description: String,
}

impl Plan {
    /// Reads the options.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn new(options: &NetdevUserOptions) -> QmpResult<Self> {
        let restrict = options.restrict.unwrap_or(false);
        let (ipv4, ipv6) = networks(options, restrict)?;
        names(options)?;
        if options.smb.is_some() {
            return Err(refused(
                "Parameter 'smb' is not supported: no SMB server is run for guests",
            ));
        }
        let description = format!(
            "net={},restrict={}",
            ipv4.network,
            if restrict { "on" } else { "off" }
        );
        let mut plan = Plan {
            config: Config {
                restrict,
                ipv4,
                ipv6,
                hostname: options.hostname.clone(),
                tftp_server_name: options.tftp_server_name.clone(),
                tftp: options.tftp.clone(),
                bootfile: options.bootfile.clone(),
                dns_search: texts(options.dnssearch.as_deref())
                    .map(str::to_owned)
                    .collect(),
                domain_name: options.domainname.clone(),
                guest_forwards: Vec::new(),
                host_forwards: Vec::new(),
            },
            guest_rules: Vec::new(),
            host_rules: Vec::new(),
            description,
        };
        plan.add_forwards(options)?;
        Ok(plan)
    }

    /// The last one is made first, as QEMU does; guest forwards before host forwards.
    fn add_forwards(&mut self, options: &NetdevUserOptions) -> QmpResult<()> {
        for text in texts(options.guestfwd.as_deref()).rev() {
            let rule = rules::guest_forward(text)?;
            self.config.guest_forwards.push(GuestForward {
                server: rule.server,
                port: rule.port,
                to: match &rule.to {
                    GuestTarget::Command(command) => Target::Command(command.clone()),
                    GuestTarget::Chardev(_) => Target::Stream,
                },
            });
            self.guest_rules.push((text.to_owned(), rule));
        }
        for text in texts(options.hostfwd.as_deref()).rev() {
            self.config.host_forwards.push(rules::host_forward(text)?);
            self.host_rules.push(text.to_owned());
        }
        Ok(())
    }
}

fn texts(list: Option<&[StringWrapper]>) -> impl DoubleEndedIterator<Item = &str> {
    list.unwrap_or_default()
        .iter()
        .map(|wrapper| wrapper.str.as_str())
}

fn refused(text: &str) -> QmpError {
    QmpError::generic(text)
}

fn networks(options: &NetdevUserOptions, restrict: bool) -> QmpResult<(Ipv4, Ipv6)> {
    let network = network_text(options);
    // IPv6 alone means that IPv4 was not asked for, and the other way round.
    let enabled4 = options.ipv4.unwrap_or(options.ipv6 != Some(true));
    let enabled6 = options.ipv6.unwrap_or(options.ipv4 != Some(true));
    let parts4 = network.is_some() || options.host.is_some() || options.dns.is_some();
    if !enabled4 && parts4 {
        return Err(refused("IPv4 disabled but netmask/host/dns provided"));
    }
    let parts6 = [&options.ipv6_prefix, &options.ipv6_host, &options.ipv6_dns];
    if !enabled6 && parts6.iter().any(|part| part.is_some()) {
        return Err(refused("IPv6 disabled but prefix/host6/dns6 provided"));
    }
    if !enabled4 && !enabled6 {
        return Err(refused("IPv4 and IPv6 disabled"));
    }
    let four = ipv4(options, enabled4, network.as_deref(), restrict)?;
    if let Some(server) = &options.smbserver
        && address(server).is_none()
    {
        return Err(refused("Failed to parse SMB address"));
    }
    Ok((four, ipv6(options, enabled6, restrict)?))
}

/// `ip` is how `net` was once called, without its length.
fn network_text(options: &NetdevUserOptions) -> Option<String> {
    let old = options.ip.as_ref().map(|ip| format!("{ip}/24"));
    options.net.clone().or(old)
}

fn ipv4(
    options: &NetdevUserOptions,
    enabled: bool,
    network: Option<&str>,
    restrict: bool,
) -> QmpResult<Ipv4> {
    let (network, mask) = match network {
        Some(text) => network_and_mask(text)?,
        None => (Ipv4Addr::new(10, 0, 2, 0), Ipv4Addr::new(255, 255, 255, 0)),
    };
    let network = network & mask;
    let inside = |address: Ipv4Addr| address & mask == network;
    // The last two parts of the addresses that everybody knows.
    let known = |last: u8| network | (Ipv4Addr::new(0, 0, 2, last) & !mask);
    let host = chosen(options.host.as_deref(), known(2), "Failed to parse host")?;
    if !inside(host) {
        return Err(refused("Host doesn't belong to network"));
    }
    let dns = chosen(options.dns.as_deref(), known(3), "Failed to parse DNS")?;
    if restrict && !inside(dns) {
        return Err(refused("DNS doesn't belong to network"));
    }
    if dns == host {
        return Err(refused("DNS must be different from host"));
    }
    let start = options.dhcpstart.as_deref();
    let dhcp_start = chosen(start, known(15), "Failed to parse DHCP start address")?;
    if !inside(dhcp_start) {
        return Err(refused("DHCP doesn't belong to network"));
    }
    if dhcp_start == host || dhcp_start == dns {
        return Err(refused("DHCP must be different from host and DNS"));
    }
    Ok(Ipv4 {
        enabled,
        network,
        mask,
        host,
        dhcp_start,
        dns,
    })
}

fn chosen(text: Option<&str>, default: Ipv4Addr, error: &str) -> QmpResult<Ipv4Addr> {
    match text {
        None => Ok(default),
        Some(text) => address(text).ok_or_else(|| refused(error)),
    }
}

fn network_and_mask(text: &str) -> QmpResult<(Ipv4Addr, Ipv4Addr)> {
    let bad = || refused("Failed to parse netmask");
    let Some((network, mask)) = text.split_once('/') else {
        let network = address(text).ok_or_else(bad)?;
        return Ok((network, usual_mask(network)));
    };
    let network = address(network).ok_or_else(bad)?;
    // An empty number is zero.
    let (bits, rest) = number(mask, 10).unwrap_or((0, mask));
    if !rest.is_empty() {
        let mask = address(mask);
        let mask = mask.ok_or_else(|| refused("Failed to parse netmask (trailing chars)"))?;
        return Ok((network, mask));
    }
    let bits = u32::try_from(bits)
        .ok()
        .filter(|bits| (4..=32).contains(bits));
    let bits = bits.ok_or_else(|| refused("Invalid netmask provided (must be in range 4-32)"))?;
    let mask = u32::MAX
        .checked_shl(32u32.saturating_sub(bits))
        .unwrap_or(0);
    Ok((network, Ipv4Addr::from_bits(mask)))
}

/// The mask of a network that is given without one, by its class (RFC 791) and the ranges for
/// private use (RFC 1918) and for measurements (RFC 2544).
fn usual_mask(network: Ipv4Addr) -> Ipv4Addr {
    let octets = match network.octets() {
        [..128, ..] => [255, 0, 0, 0],
        [172, 16..32, ..] => [255, 240, 0, 0],
        [198, 18..20, ..] => [255, 254, 0, 0],
        [128..192, ..] | [192, 168, ..] => [255, 255, 0, 0],
        [192..224, ..] => [255, 255, 255, 0],
        [224..=255, ..] => [255, 255, 255, 240],
    };
    Ipv4Addr::from(octets)
}

fn ipv6(options: &NetdevUserOptions, enabled: bool, restrict: bool) -> QmpResult<Ipv6> {
    let parse = |text: &str, error: &str| text.parse::<Ipv6Addr>().map_err(|_| refused(error));
    let prefix = options.ipv6_prefix.as_deref().unwrap_or("fec0::");
    let prefix = parse(prefix, "Failed to parse IPv6 prefix")?;
    // Zero is as good as nothing.
    let len = options.ipv6_prefixlen.filter(|len| *len != 0).unwrap_or(64);
    let len = u8::try_from(len)
        .ok()
        .filter(|len| *len <= 126)
        .ok_or_else(|| {
            refused("Invalid IPv6 prefix provided (IPv6 prefix length must be between 0 and 126)")
        })?;
    let mask = Ipv6Addr::from_bits(
        u128::MAX
            .checked_shl(128u32.saturating_sub(len.into()))
            .unwrap_or(0),
    );
    let inside = |address: Ipv6Addr| address & mask == prefix & mask;
    let known = |last: u128| Ipv6Addr::from_bits(prefix.to_bits() | last);
    let host = match &options.ipv6_host {
        None => known(2),
        Some(text) => {
            let host = parse(text, "Failed to parse IPv6 host")?;
            if !inside(host) {
                return Err(refused("IPv6 Host doesn't belong to network"));
            }
            host
        }
    };
    let dns = match &options.ipv6_dns {
        None => known(3),
        Some(text) => {
            let dns = parse(text, "Failed to parse IPv6 DNS")?;
            if restrict && !inside(dns) {
                return Err(refused("IPv6 DNS doesn't belong to network"));
            }
            dns
        }
    };
    Ok(Ipv6 {
        enabled,
        prefix,
        prefix_len: len,
        host,
        dns,
    })
}

/// The texts that DHCP tells.
fn names(options: &NetdevUserOptions) -> QmpResult<()> {
    if options.domainname.as_deref() == Some("") {
        return Err(refused("'domainname' parameter cannot be empty"));
    }
    for (name, text) in [
        ("domainname", &options.domainname),
        ("vhostname", &options.hostname),
        ("tftp-server-name", &options.tftp_server_name),
    ] {
        if text.as_ref().is_some_and(|text| text.len() > OPTION_MAX) {
            return Err(refused(&format!(
                "'{name}' parameter cannot exceed 255 bytes"
            )));
        }
    }
    // QEMU ends here.
    if options
        .bootfile
        .as_ref()
        .is_some_and(|name| name.len() >= BOOTFILE_ROOM)
    {
        return Err(refused("'bootfile' parameter cannot exceed 127 bytes"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
