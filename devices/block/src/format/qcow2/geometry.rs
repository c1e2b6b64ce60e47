//! Sizes that follow from the header, and what table entries mean.

use super::header::{Header, incompatible};

/// Set in L1 and L2 entries whose cluster has a refcount of exactly one.
pub(super) const COPIED: u64 = 1 << 63;
/// Set in L2 entries of compressed clusters.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// Set in L2 entries of clusters that read as zeroes.
pub(super) const ZERO: u64 = 1;
/// Bits 9 to 55.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bits of L1 entries that are 0.
pub(super) const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// Bits of L2 entries of plain clusters that are 0.
pub(super) const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;

/// Sizes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub version: u32,
    pub cluster_bits: u32,
    pub refcount_order: u32,
    /// L2 entries have subclusters.
    pub extended: bool,
    /// Guest clusters are in a file of their own, each at its own place.
    pub external: bool,
}

impl Geometry {
    pub fn of(header: &Header) -> Self {
        Geometry {
            version: header.version,
            cluster_bits: header.cluster_bits,
            refcount_order: header.refcount_order,
            extended: header.has(incompatible::EXTENDED_L2),
            external: header.has(incompatible::DATA_FILE),
        }
    }

    /// Bytes of a cluster.
    pub const fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The offset's place in its cluster.
    pub const fn inside(&self, offset: u64) -> u64 {
        offset & (self.cluster() - 1)
    }

    /// Where the offset's cluster begins.
    pub const fn start(&self, offset: u64) -> u64 {
        offset & !(self.cluster() - 1)
    }

    /// Clusters for so many bytes.
    pub const fn clusters(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster())
    }

    /// Bytes of an L2 entry, as a power of two.
    pub const fn entry_bits(&self) -> u32 {
        if self.extended { 4 } else { 3 }
    }

    /// Entries of an L2 table, as a power of two.
    pub const fn l2_bits(&self) -> u32 {
        self.cluster_bits - self.entry_bits()
    }

    /// Guest bytes that one L2 table describes, as a power of two.
    pub const fn l1_shift(&self) -> u32 {
        self.cluster_bits + self.l2_bits()
    }

    /// L1 entries of a disk of that size.
    pub fn l1_entries(&self, size: u64) -> u64 {
        size.div_ceil(1 << self.l1_shift())
    }

    pub const fn l1_index(&self, guest: u64) -> u64 {
        guest >> self.l1_shift()
    }

    /// The place of a guest cluster's entry in its L2 table, in bytes.
    pub const fn l2_place(&self, guest: u64) -> u64 {
        ((guest >> self.cluster_bits) & ((1 << self.l2_bits()) - 1)) << self.entry_bits()
    }

    /// Refcounts in a block, as a power of two.
    pub const fn refcount_bits(&self) -> u32 {
        self.cluster_bits + 3 - self.refcount_order
    }

    /// The largest refcount.
    pub const fn max_refcount(&self) -> u64 {
        match self.refcount_order {
            6 => u64::MAX,
            order => (1 << (1 << order)) - 1,
        }
    }

    /// Bytes of a subcluster; of a cluster, where there are none.
    pub const fn unit_bits(&self) -> u32 {
        if self.extended {
            self.cluster_bits - 5
        } else {
            self.cluster_bits
        }
    }

    /// Where a compressed cluster's bytes are: offset in the file, and the most bytes it can
    /// have.
    pub fn compressed(&self, word: u64) -> (u64, u64) {
        let shift = 62 - (self.cluster_bits - 8);
        let offset = word & ((1 << shift) - 1) & ((1 << 56) - 1);
        let more = (word & (COMPRESSED - 1)) >> shift;
        let len = (more + 1) * 512 - (offset & 511);
        (offset, len)
    }

    /// The bits of the subclusters that `len` bytes from `guest` on touch; all of them in the
    /// same cluster.
    pub fn mask(&self, guest: u64, len: u64) -> u32 {
        if !self.extended || len == 0 {
            return u32::MAX;
        }
        let bits = self.unit_bits();
        let first = self.inside(guest) >> bits;
        let last = (self.inside(guest) + (len - 1)).min(self.cluster() - 1) >> bits;
        let count = last - first + 1;
        let ones = if count >= 32 {
            u32::MAX
        } else {
            (1 << count) - 1
        };
        ones << first
    }
}

/// An L2 entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    pub word: u64,
    /// Of extended entries: allocation below, zeroes above.
    pub bitmap: u64,
}

/// How bytes of a cluster are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// The backing file's.
    Unallocated,
    Zero,
    /// In the cluster that begins there.
    Data(u64),
    Compressed,
    /// The entry makes no sense.
    Bad,
}

impl Entry {
    /// A plain cluster at `host` that is used once.
    pub fn data(host: u64, geometry: &Geometry) -> Self {
        Entry {
            word: host | COPIED,
            bitmap: if geometry.extended { 0xffff_ffff } else { 0 },
        }
    }

    /// A cluster of zeroes; `host` stays its place.
    pub fn zero(host: Option<u64>, geometry: &Geometry) -> Self {
        let word = host.map_or(0, |host| host | COPIED);
        match geometry.extended {
            true => Entry {
                word,
                bitmap: 0xffff_ffff_0000_0000,
            },
            false => Entry {
                word: word | ZERO,
                bitmap: 0,
            },
        }
    }

    pub fn is_compressed(&self) -> bool {
        self.word & COMPRESSED != 0
    }

    /// Used once: it may be written in place.
    pub fn is_copied(&self) -> bool {
        self.word & COPIED != 0 && !self.is_compressed()
    }

    /// The plain cluster it has, whether that is read or not.
    pub fn host(&self, geometry: &Geometry) -> Option<u64> {
        if self.is_compressed() {
            return None;
        }
        let offset = self.word & OFFSET;
        (offset != 0 || (geometry.external && self.word & COPIED != 0)).then_some(offset)
    }

    pub fn allocated(&self) -> u32 {
        self.bitmap as u32
    }

    pub fn zeroes(&self) -> u32 {
        (self.bitmap >> 32) as u32
    }

    /// Whether its bits can be so.
    pub fn is_sound(&self, geometry: &Geometry) -> bool {
        if self.is_compressed() {
            return !geometry.external;
        }
        let zero_flag = self.word & ZERO != 0 && (geometry.extended || geometry.version < 3);
        let host = self.host(geometry);
        let both = self.allocated() & self.zeroes() != 0;
        let nowhere = geometry.extended && self.allocated() != 0 && host.is_none();
        self.word & L2_RESERVED == 0
            && !zero_flag
            && !both
            && !nowhere
            && host.is_none_or(|host| host.is_multiple_of(geometry.cluster()))
    }

    /// How the unit (subcluster, or the whole) with that number is stored.
    pub fn stored(&self, unit: u32, geometry: &Geometry) -> Stored {
        if !self.is_sound(geometry) {
            return Stored::Bad;
        }
        if self.is_compressed() {
            return Stored::Compressed;
        }
        let host = self.host(geometry);
        if geometry.extended {
            let bit = 1u32.checked_shl(unit).unwrap_or(0);
            return match host {
                _ if self.zeroes() & bit != 0 => Stored::Zero,
                Some(host) if self.allocated() & bit != 0 => Stored::Data(host),
                Some(_) | None => Stored::Unallocated,
            };
        }
        match host {
            _ if self.word & ZERO != 0 => Stored::Zero,
            Some(host) => Stored::Data(host),
            None => Stored::Unallocated,
        }
    }

    /// How the bytes at `guest` are stored, and how many bytes of the cluster from there on are
    /// stored so.
    pub fn at(&self, guest: u64, geometry: &Geometry) -> (Stored, u64) {
        let inside = geometry.inside(guest);
        let left = geometry.cluster() - inside;
        let bits = geometry.unit_bits();
        let first = (inside >> bits) as u32;
        let stored = self.stored(first, geometry);
        if !geometry.extended || matches!(stored, Stored::Compressed | Stored::Bad) {
            return (stored, left);
        }
        let same = (first..32).take_while(|unit| self.stored(*unit, geometry) == stored);
        let end = (u64::from(first) + same.count() as u64) << bits;
        (stored, end.saturating_sub(inside).max(1))
    }

    /// Whether nothing of it is data, here or in a file: bytes written to a cluster of zeroes
    /// need no others beside them. `bare`: there is nothing in the backing file either.
    pub fn is_blank(&self, bare: bool, geometry: &Geometry) -> bool {
        if self.is_compressed() || self.host(geometry).is_some() {
            return false;
        }
        match geometry.extended {
            true => self.zeroes() == u32::MAX || (bare && self.allocated() == 0),
            false => self.word & ZERO != 0 || bare,
        }
    }

    /// With the subclusters of `mask` written to the cluster at `host`.
    pub fn linked(&self, host: u64, mask: u32, geometry: &Geometry) -> Self {
        let bitmap = match geometry.extended {
            true => (self.bitmap & !(u64::from(mask) << 32)) | u64::from(mask),
            false => 0,
        };
        Entry {
            word: host | COPIED,
            bitmap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32, extended: bool) -> Geometry {
        Geometry {
            version: 3,
            cluster_bits,
            refcount_order: 4,
            extended,
            external: false,
        }
    }

    #[test]
    fn places_in_tables() {
        let plain = geometry(16, false);
        assert_eq!((plain.l2_bits(), plain.l1_shift()), (13, 29));
        assert_eq!(plain.l2_place((1 << 29) + (5 << 16) + 7), 40);
        assert_eq!(plain.l1_entries((1 << 29) + 1), 2);
        let extended = geometry(16, true);
        assert_eq!(extended.l1_shift(), 28);
        assert_eq!(extended.l2_place(5 << 16), 80);
        assert_eq!(extended.mask(2048, 2048), 0b10);
        assert_eq!(extended.mask(2047, 2), 0b11);
        assert_eq!(extended.mask(0, 1 << 16), u32::MAX);
        assert_eq!(plain.mask(2048, 2048), u32::MAX);
    }

    #[test]
    fn compressed_clusters_say_how_long_they_are() {
        let (offset, len) = geometry(16, false).compressed(COMPRESSED | 3 << 54 | 0x5_0123);
        assert_eq!((offset, len), (0x5_0123, 4 * 512 - 0x123));
        let (offset, len) = geometry(9, false).compressed(COMPRESSED | 1 << 61 | 0x200);
        assert_eq!((offset, len), (0x200, 1024));
    }

    #[test]
    fn subclusters_are_stored_apart() {
        let extended = geometry(16, true);
        let entry = Entry {
            word: 0x5_0000 | COPIED,
            bitmap: 0b0011 | 0b1100 << 32,
        };
        assert_eq!(entry.at(0, &extended), (Stored::Data(0x5_0000), 4096));
        assert_eq!(entry.at(4096 + 512, &extended), (Stored::Zero, 4096 - 512));
        assert_eq!(
            entry.at(8192, &extended),
            (Stored::Unallocated, (1 << 16) - 8192)
        );
        let linked = entry.linked(0x5_0000, 0b0110, &extended);
        assert_eq!(linked.bitmap, 0b0111 | 0b1000 << 32);
        let both = Entry {
            bitmap: 1 | 1 << 32,
            ..entry
        };
        assert_eq!(both.at(0, &extended).0, Stored::Bad);
        let nowhere = Entry { word: 0, bitmap: 1 };
        assert!(!nowhere.is_sound(&extended));
    }

    #[test]
    fn entries_that_make_no_sense() {
        let plain = geometry(16, false);
        let is_sound = |word| Entry { word, bitmap: 0 }.is_sound(&plain);
        assert!(is_sound(0) && is_sound(ZERO) && is_sound(0x5_0000 | COPIED | ZERO));
        assert!(!is_sound(0x5_0200) && !is_sound(0x5_0002) && !is_sound(0x5_0000 | 1 << 56));
        let old = Geometry {
            version: 2,
            ..plain
        };
        assert!(
            !Entry {
                word: ZERO,
                bitmap: 0
            }
            .is_sound(&old)
        );
    }
}
