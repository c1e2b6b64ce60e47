//! Device configuration space and feature bits (Virtio 1.2, sections 5.2.3 and 5.2.4).

use block::WriteCache;

use super::props::Disk;

/// Feature bits.
pub(super) mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const GEOMETRY: u64 = 1 << 4;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Bytes, up to and with what belongs to WRITE_ZEROES.
pub(super) const LEN: usize = 60;
/// Offset of `writeback`.
pub(super) const WRITEBACK: usize = 32;

/// What configuration space is made of.
pub(super) struct ConfigSpace<'a> {
    pub disk: &'a Disk,
    /// Of the whole disk.
    pub bytes: u64,
    pub write_cache: WriteCache,
}

impl ConfigSpace<'_> {
    /// As the driver reads it.
    pub fn bytes(&self) -> [u8; LEN] {
        let disk = self.disk;
        let sectors = self.bytes / 512;
        let mut space = [0; LEN];
        let mut put = |at: usize, value: &[u8]| {
            for (to, from) in space.iter_mut().skip(at).zip(value) {
                *to = *from;
            }
        };
        put(0, &sectors.to_le_bytes());
        put(12, &disk.segments.to_le_bytes());
        let (cylinders, heads, per_track) = geometry(sectors, disk.logical);
        put(16, &cylinders.to_le_bytes());
        put(18, &[heads, per_track]);
        put(20, &disk.logical.to_le_bytes());
        let exponent = disk.physical.ilog2().saturating_sub(disk.logical.ilog2());
        put(24, &[u8::try_from(exponent).unwrap_or(0), 0]);
        put(26, &disk.min_io.to_le_bytes());
        put(28, &disk.opt_io.to_le_bytes());
        put(WRITEBACK, &[u8::from(self.write_cache == WriteCache::Back)]);
        put(34, &disk.queues.to_le_bytes());
        if disk.discard {
            put(36, &disk.max_discard.to_le_bytes());
            // One segment for each request.
            put(40, &1u32.to_le_bytes());
            put(44, &disk.discard_alignment.to_le_bytes());
        }
        if disk.write_zeroes {
            put(48, &disk.max_write_zeroes.to_le_bytes());
            put(52, &1u32.to_le_bytes());
            // Storage may be given back.
            put(56, &[1]);
        }
        space
    }
}

/// Cylinders, heads and sectors, as disks of such a size pretend to have.
fn geometry(sectors: u64, logical: u32) -> (u16, u8, u8) {
    const HEADS: u8 = 16;
    const PER_TRACK: u8 = 63;
    let cylinders = sectors / (u64::from(HEADS) * u64::from(PER_TRACK));
    let cylinders = u16::try_from(cylinders.clamp(2, 16383)).unwrap_or(16383);
    // A multiple of a block's sectors.
    let mask = u8::try_from((logical / 512).saturating_sub(1)).unwrap_or(u8::MAX);
    (cylinders, HEADS, PER_TRACK & !mask)
}
