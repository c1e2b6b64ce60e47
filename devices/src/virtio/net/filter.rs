//! Which frames the driver wants (Virtio 1.2, sections 5.1.6.5.1 to 5.1.6.5.3).

use super::Mac;

/// Most addresses in both tables together.
pub(super) const MAX_MACS: usize = 64;
/// Numbers of VLANs.
pub(super) const MAX_VLAN: u16 = 4096;
/// Bytes of a frame that decide: both addresses, the type, and a VLAN's tag.
pub(super) const PEEK: usize = 18;

const BROADCAST: Mac = [0xff; 6];
/// The type of tagged frames (IEEE 802.1Q).
const TAGGED: [u8; 2] = [0x81, 0x00];

/// Addresses beside the interface's own, or that there were too many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MacList {
    pub macs: Vec<Mac>,
    pub overflow: bool,
}

impl MacList {
    fn has(&self, mac: &[u8]) -> bool {
        self.overflow || self.macs.iter().any(|own| own == mac)
    }
}

/// VLANs by number.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Vlans([u64; MAX_VLAN as usize / 64]);

impl Default for Vlans {
    fn default() -> Self {
        Vlans([0; MAX_VLAN as usize / 64])
    }
}

impl std::fmt::Debug for Vlans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Vlans {
    /// Adds or removes one; false when there is no such number.
    pub fn set(&mut self, id: u16, member: bool) -> bool {
        let Some(word) = self.0.get_mut(usize::from(id / 64)) else {
            return false;
        };
        let bit = 1u64 << (id % 64);
        *word = if member { *word | bit } else { *word & !bit };
        true
    }

    pub fn has(&self, id: u16) -> bool {
        let word = self.0.get(usize::from(id / 64)).copied().unwrap_or(0);
        word & 1 << (id % 64) != 0
    }

    pub fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        (0..MAX_VLAN).filter(|id| self.has(*id))
    }
}

/// The filter. It begins by taking everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RxFilter {
    pub promisc: bool,
    pub all_multi: bool,
    pub all_uni: bool,
    pub no_multi: bool,
    pub no_uni: bool,
    pub no_broadcast: bool,
    pub unicast: MacList,
    pub multicast: MacList,
    pub vlans: Vlans,
}

impl Default for RxFilter {
    fn default() -> Self {
        RxFilter {
            promisc: true,
            all_multi: false,
            all_uni: false,
            no_multi: false,
            no_uni: false,
            no_broadcast: false,
            unicast: MacList::default(),
            multicast: MacList::default(),
            vlans: Vlans::default(),
        }
    }
}

impl RxFilter {
    /// Whether the frame that begins like this is for the interface with the address `own`.
    /// `by_vlan` when the driver chose VLANs. What is missing of a short frame counts as zeroes.
    pub fn takes(&self, frame: &[u8; PEEK], own: &Mac, by_vlan: bool) -> bool {
        if self.promisc {
            return true;
        }
        let [d0, d1, d2, d3, d4, d5, _, _, _, _, _, _, t0, t1, v0, v1, ..] = *frame;
        let to = [d0, d1, d2, d3, d4, d5];
        if by_vlan && [t0, t1] == TAGGED && !self.vlans.has(u16::from_be_bytes([v0, v1]) & 0xfff) {
            return false;
        }
        if to == BROADCAST {
            return !self.no_broadcast;
        }
        if d0 & 1 != 0 {
            return !self.no_multi && (self.all_multi || self.multicast.has(&to));
        }
        !self.no_uni && (self.all_uni || to == *own || self.unicast.has(&to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [0x52, 0x54, 0, 1, 2, 3];
    const OTHER: Mac = [0x52, 0x54, 0, 9, 9, 9];
    const GROUP: Mac = [0x01, 0, 0x5e, 1, 2, 3];

    fn frame(to: Mac, vlan: Option<u16>) -> [u8; PEEK] {
        let mut bytes = [0; PEEK];
        bytes[..6].copy_from_slice(&to);
        if let Some(vlan) = vlan {
            bytes[12..14].copy_from_slice(&TAGGED);
            bytes[14..16].copy_from_slice(&vlan.to_be_bytes());
        }
        bytes
    }

    fn strict() -> RxFilter {
        RxFilter {
            promisc: false,
            ..RxFilter::default()
        }
    }

    fn takes(filter: &RxFilter, to: Mac) -> bool {
        filter.takes(&frame(to, None), &OWN, true)
    }

    #[test]
    fn kinds_of_frames() {
        let all = [OWN, OTHER, GROUP, BROADCAST];
        let taken = |filter: RxFilter| all.map(|to| takes(&filter, to));
        assert_eq!(taken(RxFilter::default()), [true; 4]);
        assert_eq!(taken(strict()), [true, false, false, true]);
        for (change, expected) in [
            (
                (|f: &mut RxFilter| f.all_multi = true) as fn(&mut RxFilter),
                [true, false, true, true],
            ),
            (|f| f.all_uni = true, [true, true, false, true]),
            (|f| f.no_uni = true, [false, false, false, true]),
            (|f| f.no_broadcast = true, [true, false, false, false]),
            (|f| f.unicast.macs.push(OTHER), [true, true, false, true]),
            (|f| f.multicast.macs.push(GROUP), [true, false, true, true]),
            (|f| f.unicast.overflow = true, [true, true, false, true]),
            (|f| f.multicast.overflow = true, [true, false, true, true]),
            (
                |f| {
                    f.all_multi = true;
                    f.no_multi = true;
                },
                [true, false, false, true],
            ),
        ] {
            let mut filter = strict();
            change(&mut filter);
            assert_eq!(taken(filter.clone()), expected, "{filter:?}");
        }
    }

    #[test]
    fn vlans_count_where_the_driver_chose_them() {
        let mut filter = strict();
        let takes =
            |filter: &RxFilter, by_vlan| filter.takes(&frame(OWN, Some(0x3005)), &OWN, by_vlan);
        assert!(!takes(&filter, true));
        assert!(takes(&filter, false));
        assert!(filter.vlans.set(5, true));
        assert!(takes(&filter, true));
        assert_eq!(filter.vlans.ids().collect::<Vec<_>>(), [5]);
        assert!(filter.vlans.set(5, false));
        assert!(!takes(&filter, true));
        assert!(!filter.vlans.set(MAX_VLAN, true));
        assert!(filter.vlans.set(4095, true));
    }
}
