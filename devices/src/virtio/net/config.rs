//! Device configuration space and feature bits (Virtio 1.2, sections 5.1.3 and 5.1.4).

use crate::backend::net::Offloads;

/// Feature bits.
pub(super) mod feature {
    #![allow(missing_docs)] // the names are the specification's
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const GUEST_ECN: u64 = 1 << 9;
    pub const GUEST_UFO: u64 = 1 << 10;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const HOST_ECN: u64 = 1 << 13;
    pub const HOST_UFO: u64 = 1 << 14;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const CTRL_RX: u64 = 1 << 18;
    pub const CTRL_VLAN: u64 = 1 << 19;
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub const MQ: u64 = 1 << 22;
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
    pub const GUEST_USO4: u64 = 1 << 54;
    pub const GUEST_USO6: u64 = 1 << 55;
    pub const HOST_USO: u64 = 1 << 56;
    pub const SPEED_DUPLEX: u64 = 1 << 63;

    /// What frames for the driver may need it to do.
    pub const GUEST_OFFLOADS: u64 =
        GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_UFO | GUEST_USO4 | GUEST_USO6;
    /// What frames of the driver may need the other side to do.
    pub const HOST_OFFLOADS: u64 = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_UFO | HOST_USO;
    /// What needs the control queue.
    pub const CONTROLLED: u64 = CTRL_RX
        | CTRL_VLAN
        | CTRL_RX_EXTRA
        | GUEST_ANNOUNCE
        | MQ
        | CTRL_MAC_ADDR
        | CTRL_GUEST_OFFLOADS;
    /// What whoever serves the data queues has to know of.
    pub const DATA: u64 = GUEST_OFFLOADS | HOST_OFFLOADS | MRG_RXBUF | MTU;
}

/// Bits of the link's status.
pub(super) const LINK_UP: u16 = 1;
pub(super) const ANNOUNCE: u16 = 2;

/// Bytes.
pub(super) const LEN: usize = 17;
/// No speed is told.
const SPEED_UNKNOWN: u32 = u32::MAX;
/// Neither half nor full.
const DUPLEX_UNKNOWN: u8 = 0xff;

/// Half or full (Virtio 1.2, section 5.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplex {
    Half = 0,
    Full = 1,
}

/// What configuration space shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigSpace {
    pub mac: [u8; 6],
    pub status: u16,
    pub pairs: u16,
    pub mtu: u16,
    /// In Mb/s.
    pub speed: Option<u32>,
    pub duplex: Option<Duplex>,
}

impl ConfigSpace {
    pub fn bytes(&self) -> [u8; LEN] {
        let ConfigSpace {
            mac,
            status,
            pairs,
            mtu,
            speed,
            duplex,
        } = self;
        let words = [*status, *pairs, *mtu];
        let speed = speed.unwrap_or(SPEED_UNKNOWN).to_le_bytes();
        let duplex = duplex.map_or(DUPLEX_UNKNOWN, |duplex| duplex as u8);
        let bytes = mac
            .iter()
            .copied()
            .chain(words.into_iter().flat_map(u16::to_le_bytes))
            .chain(speed)
            .chain([duplex]);
        let mut space = [0; LEN];
        space
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        space
    }
}

/// Feature bits that need what a back end cannot do.
pub(super) fn not_offered(can: Offloads) -> u64 {
    let when = |missing: bool, bits: u64| if missing { bits } else { 0 };
    use feature::*;
    when(!can.csum, HOST_OFFLOADS | GUEST_OFFLOADS)
        | when(!can.tso4, HOST_TSO4 | GUEST_TSO4)
        | when(!can.tso6, HOST_TSO6 | GUEST_TSO6)
        | when(!can.ecn, HOST_ECN | GUEST_ECN)
        | when(!can.ufo, HOST_UFO | GUEST_UFO)
        | when(!can.uso, HOST_USO | GUEST_USO4 | GUEST_USO6)
}

/// What guest offloads of these feature bits let a back end do.
pub(super) fn guest_offloads(bits: u64) -> Offloads {
    let has = |bit: u64| bits & bit != 0;
    Offloads {
        csum: has(feature::GUEST_CSUM),
        tso4: has(feature::GUEST_TSO4),
        tso6: has(feature::GUEST_TSO6),
        ecn: has(feature::GUEST_ECN),
        ufo: has(feature::GUEST_UFO),
        // A tap has one switch for both, as drivers have in effect.
        uso: has(feature::GUEST_USO4) && has(feature::GUEST_USO6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_end_without_checksums_is_offered_nothing() {
        let none = not_offered(Offloads::default());
        assert_eq!(none, feature::GUEST_OFFLOADS | feature::HOST_OFFLOADS);
        let all = Offloads::ALL;
        assert_eq!(not_offered(all), 0);
        assert_eq!(guest_offloads(feature::GUEST_OFFLOADS), all);
    }

    #[test]
    fn unknown_speed_and_duplex_are_all_ones() {
        let mut space = ConfigSpace {
            mac: [1, 2, 3, 4, 5, 6],
            status: LINK_UP,
            pairs: 0x203,
            mtu: 1500,
            speed: None,
            duplex: None,
        };
        let bytes = space.bytes();
        assert_eq!(bytes[..6], [1, 2, 3, 4, 5, 6]);
        assert_eq!(bytes[6..12], [1, 0, 3, 2, 0xdc, 5]);
        assert_eq!(bytes[12..], [0xff; 5]);
        space.speed = Some(10_000);
        space.duplex = Some(Duplex::Full);
        assert_eq!(space.bytes()[12..], [0x10, 0x27, 0, 0, 1]);
    }
}
