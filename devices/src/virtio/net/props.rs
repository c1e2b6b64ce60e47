//! The driver's properties, checked.

use api_spec::{QmpError, QmpResult, VirtioNetPciProps};

use super::config::{Duplex, feature, not_offered};
use super::{FIRST_MAC, Mac, default_mac};
use crate::backend::net::{NetAttachment, NetTraits};
use crate::virtio::layout;

/// Sizes of queues, as QEMU takes them.
const MIN_QUEUE_SIZE: u16 = 256;
const MAX_QUEUE_SIZE: u16 = 1024;
/// Most queue pairs: one queue is for control.
const MAX_PAIRS: usize = (layout::MAX_QUEUES - 1) / 2;
/// Frames of one queue before others have their turn.
const MAX_BURST: i32 = 256;

/// What the interface is like, once and for all.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub mac: Mac,
    /// Offered to drivers that know of several.
    pub pairs: u16,
    pub rx_size: u16,
    pub tx_size: u16,
    pub mtu: u16,
    pub speed: Option<u32>,
    pub duplex: Option<Duplex>,
    /// Device-specific ones.
    pub features: u64,
    /// Frames of one queue before others have their turn.
    pub burst: usize,
}

impl Choice {
    /// `free` is the last byte of an address that no interface has.
    ///
    /// # Errors
    /// In QEMU's words where it refuses them, too.
    pub fn check(
        props: &VirtioNetPciProps,
        netdev: Option<&NetAttachment>,
        free: Option<u64>,
    ) -> QmpResult<Self> {
        let refused = [
            (props.failover, "failover"),
            (props.rss, "rss"),
            (props.hash, "hash"),
            (props.guest_rsc_ext, "guest_rsc_ext"),
        ];
        if let Some((_, name)) = refused.iter().find(|(on, _)| *on) {
            return Err(QmpError::generic(format!(
                "Property '{name}' cannot be on: it is not supported"
            )));
        }
        if let Some(tx) = props
            .tx
            .as_deref()
            .filter(|tx| !matches!(*tx, "timer" | "bh"))
        {
            log::warn!("virtio-net: Unknown option tx={tx}, valid options: \"timer\" \"bh\"");
        }
        let most_tx = match netdev.map(|netdev| netdev.netdev().kind()) {
            Some("vhost-user" | "vhost-vdpa") => MAX_QUEUE_SIZE,
            // What the kernel takes in one vector has room for as many buffers.
            Some(_) | None => MIN_QUEUE_SIZE,
        };
        let pairs = netdev.map_or(1, |netdev| netdev.netdev().pairs()).max(1);
        if pairs > MAX_PAIRS {
            return Err(QmpError::generic(format!(
                "Invalid number of queue pairs (= {pairs}), must be a positive integer less than \
                 {MAX_PAIRS}."
            )));
        }
        let burst = props.x_txburst.clamp(1, MAX_BURST);
        Ok(Choice {
            mac: mac(props.mac.as_deref(), free)?,
            pairs: match props.mq {
                true => u16::try_from(pairs).unwrap_or(1),
                false => 1,
            },
            rx_size: check_size("rx_queue_size", props.rx_queue_size, MAX_QUEUE_SIZE, ".")?,
            tx_size: check_size("tx_queue_size", props.tx_queue_size, most_tx, "")?,
            mtu: props.host_mtu,
            speed: speed(props.speed)?,
            duplex: duplex(props.duplex.as_deref())?,
            features: features(props, netdev),
            burst: usize::try_from(burst).unwrap_or(1),
        })
    }
}

/// What it offers (Virtio 1.2, section 5.1.3): what was asked for, as far as the back end can, and
/// nothing without what it needs (section 5.1.3.1).
fn features(props: &VirtioNetPciProps, netdev: Option<&NetAttachment>) -> u64 {
    let asked = [
        (props.csum, feature::CSUM),
        (props.guest_csum, feature::GUEST_CSUM),
        (props.ctrl_guest_offloads, feature::CTRL_GUEST_OFFLOADS),
        (props.host_mtu != 0, feature::MTU),
        (props.guest_tso4, feature::GUEST_TSO4),
        (props.guest_tso6, feature::GUEST_TSO6),
        (props.guest_ecn, feature::GUEST_ECN),
        (props.guest_ufo, feature::GUEST_UFO),
        (props.host_tso4, feature::HOST_TSO4),
        (props.host_tso6, feature::HOST_TSO6),
        (props.host_ecn, feature::HOST_ECN),
        (props.host_ufo, feature::HOST_UFO),
        (props.mrg_rxbuf, feature::MRG_RXBUF),
        (props.status, feature::STATUS),
        (props.ctrl_vq, feature::CTRL_VQ),
        (props.ctrl_rx, feature::CTRL_RX),
        (props.ctrl_vlan, feature::CTRL_VLAN),
        (props.ctrl_rx_extra, feature::CTRL_RX_EXTRA),
        (props.guest_announce, feature::GUEST_ANNOUNCE),
        (props.mq, feature::MQ),
        (props.ctrl_mac_addr, feature::CTRL_MAC_ADDR),
        (props.guest_uso4, feature::GUEST_USO4),
        (props.guest_uso6, feature::GUEST_USO6),
        (props.host_uso, feature::HOST_USO),
        (
            props.speed >= 0 || props.duplex.is_some(),
            feature::SPEED_DUPLEX,
        ),
    ];
    let mut features = feature::MAC;
    for (_, bit) in asked.iter().filter(|(on, _)| *on) {
        features |= bit;
    }
    let traits = netdev.map_or_else(NetTraits::default, |netdev| netdev.netdev().traits());
    let can = match traits.header {
        true => traits.offloads,
        false => Default::default(),
    };
    features &= !not_offered(can);
    if let Some(vhost) = netdev.and_then(NetAttachment::vhost) {
        features &= vhost.features() | !feature::DATA;
    }
    let needs = [
        (feature::CTRL_VQ, feature::CONTROLLED),
        (feature::CSUM, feature::HOST_OFFLOADS),
        (feature::GUEST_CSUM, feature::GUEST_OFFLOADS),
        (feature::GUEST_OFFLOADS, feature::CTRL_GUEST_OFFLOADS),
    ];
    for (needed, by) in needs {
        if features & needed == 0 {
            features &= !by;
        }
    }
    if features & (feature::GUEST_TSO4 | feature::GUEST_TSO6) == 0 {
        features &= !feature::GUEST_ECN;
    }
    if features & (feature::HOST_TSO4 | feature::HOST_TSO6) == 0 {
        features &= !feature::HOST_ECN;
    }
    features
}

fn check_size(name: &str, size: u16, most: u16, end: &str) -> QmpResult<u16> {
    if (MIN_QUEUE_SIZE..=most).contains(&size) && size.is_power_of_two() {
        return Ok(size);
    }
    Err(QmpError::generic(format!(
        "Invalid {name} (= {size}), must be a power of 2 between {MIN_QUEUE_SIZE} and {most}{end}"
    )))
}

fn speed(speed: i32) -> QmpResult<Option<u32>> {
    match speed {
        -1 => Ok(None),
        speed => u32::try_from(speed)
            .map(Some)
            .map_err(|_| QmpError::generic("'speed' must be between 0 and INT_MAX")),
    }
}

fn duplex(duplex: Option<&str>) -> QmpResult<Option<Duplex>> {
    match duplex {
        None => Ok(None),
        Some("half") => Ok(Some(Duplex::Half)),
        Some("full") => Ok(Some(Duplex::Full)),
        Some(_) => Err(QmpError::generic("'duplex' must be 'half' or 'full'")),
    }
}

fn mac(text: Option<&str>, free: Option<u64>) -> QmpResult<Mac> {
    let chosen = text.map(|text| {
        parse_mac(text).ok_or_else(|| {
            QmpError::generic(format!(
                "Property 'virtio-net-device.mac' doesn't take value '{text}'"
            ))
        })
    });
    let last = free.and_then(|free| u8::try_from(free).ok());
    let default = default_mac(last.unwrap_or(FIRST_MAC));
    // All zeroes mean that none is asked for.
    let chosen = chosen.transpose()?.filter(|mac| *mac != [0; 6]);
    Ok(chosen.unwrap_or(default))
}

/// Six bytes in hexadecimal with two digits each, between colons or hyphens.
fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next()?;
        if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let good = [0x52, 0x54, 0, 0x12, 0x34, 0xAB];
        assert_eq!(parse_mac("52:54:00:12:34:ab"), Some(good));
        assert_eq!(parse_mac("52-54-00-12-34-AB"), Some(good));
        for bad in [
            "",
            "zz",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:+5",
            "525400123456",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
        assert_eq!(mac(None, Some(0x58)), Ok(default_mac(0x58)));
        assert_eq!(
            mac(Some("00:00:00:00:00:00"), None),
            Ok(default_mac(FIRST_MAC))
        );
        assert_eq!(
            mac(Some("zz"), None).unwrap_err().desc,
            "Property 'virtio-net-device.mac' doesn't take value 'zz'"
        );
    }
}
