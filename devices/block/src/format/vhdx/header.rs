//! Headers, region table, metadata, and a look at the log.

use crate::error::BlockError;
use crate::format::fields::{field, le16, le32, le64, put, read};
use crate::node::{BlockNode, SECTOR};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const SIGNATURE: &[u8; 8] = b"vhdxfile";
/// Where the two headers and the two region tables are (section 2.2), and how long.
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const HEADER_LEN: u64 = 4 * KIB;
const REGIONS: [u64; 2] = [192 * KIB, 256 * KIB];
const REGION_LEN: u64 = 64 * KIB;
const MAX_REGIONS: u32 = 2047;
const METADATA_LEN: u64 = 64 * KIB;
const MAX_ITEMS: u16 = 2047;
const MAX_DISK: u64 = 64 * TIB;
/// The log is looked through in steps of this; its entries begin at multiples of 4 KiB.
const LOG_STEP: u64 = MIB;
const LOG_SECTOR: usize = 4096;

type Guid = [u8; 16];

/// A GUID as it is stored: the first three parts little-endian.
const fn guid(a: u32, b: u16, c: u16, rest: [u8; 8]) -> Guid {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rest;
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r0, r1, r2, r3, r4, r5, r6, r7,
    ]
}

const BAT: Guid = guid(
    0x2dc2_7766,
    0xf623,
    0x4200,
    [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08],
);
const METADATA: Guid = guid(
    0x8b7c_a206,
    0x4790,
    0x4b9a,
    [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e],
);
const FILE_PARAMETERS: Guid = guid(
    0xcaa1_6737,
    0xfa36,
    0x4d43,
    [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b],
);
const DISK_SIZE: Guid = guid(
    0x2fa5_4224,
    0xcd1b,
    0x4876,
    [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8],
);
const DISK_ID: Guid = guid(
    0xbeca_12ab,
    0xb2e6,
    0x4523,
    [0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46],
);
const LOGICAL_SECTOR: Guid = guid(
    0x8141_bf1d,
    0xa96f,
    0x4709,
    [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f],
);
const PHYSICAL_SECTOR: Guid = guid(
    0xcda3_48c7,
    0x445d,
    0x4471,
    [0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56],
);
const PARENT: Guid = guid(
    0xa8d3_5f2d,
    0xb30b,
    0x454d,
    [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c],
);

fn bad(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

fn get(storage: &dyn BlockNode, offset: u64, len: u64) -> Result<Vec<u8>, BlockError> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > storage.info().size) {
        return Err(bad(format!(
            "VHDX image is truncated: {len} bytes at {offset} are outside of the file"
        )));
    }
    read(storage, offset, len).map_err(|error| BlockError::host("Could not read VHDX image", error))
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of a block; a power of two.
    pub block_size: u64,
    /// Bytes of the disk.
    pub disk_size: u64,
    bat: Region,
    /// Blocks between two entries for bitmaps.
    chunk: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    offset: u64,
    len: u64,
}

impl Layout {
    /// Reads it from an image.
    pub fn read(storage: &dyn BlockNode) -> Result<Self, BlockError> {
        if storage.info().size < SECTOR || !get(storage, 0, SECTOR)?.starts_with(SIGNATURE) {
            return Err(bad("Image not in VHDX format"));
        }
        let header = Header::current(storage)?;
        header.check_log(storage)?;
        let (bat, metadata) = regions(storage)?;
        let items = Items::read(storage, metadata)?;
        items.layout(bat)
    }

    /// Where the entry of a block is (section 2.5).
    pub fn entry_offset(&self, block: u64) -> Option<u64> {
        let bitmaps = block.checked_div(self.chunk)?;
        let at = block.checked_add(bitmaps)?.checked_mul(8)?;
        let at = Some(at).filter(|at| at.saturating_add(8) <= self.bat.len)?;
        self.bat.offset.checked_add(at)
    }
}

struct Header {
    log_id: Guid,
    log_len: u64,
    log: u64,
}

impl Header {
    /// The valid one with the larger sequence number (section 2.2.2).
    fn current(storage: &dyn BlockNode) -> Result<Self, BlockError> {
        let mut best: Option<(u64, Vec<u8>)> = None;
        for at in HEADERS {
            let bytes = get(storage, at, HEADER_LEN)?;
            let sequence = le64(&bytes, 8);
            let valid = bytes.starts_with(b"head") && checked(&bytes);
            if valid && best.as_ref().is_none_or(|(other, _)| sequence > *other) {
                best = Some((sequence, bytes));
            }
        }
        let (_, bytes) = best.ok_or_else(|| bad("No valid VHDX header found"))?;
        if le16(&bytes, 66) != 1 {
            return Err(bad(format!(
                "Unsupported VHDX version {}",
                le16(&bytes, 66)
            )));
        }
        Ok(Header {
            log_id: field(&bytes, 48),
            log_len: u64::from(le32(&bytes, 68)),
            log: le64(&bytes, 72),
        })
    }

    /// Refuses an image with changes that are only in its log (section 2.3).
    fn check_log(&self, storage: &dyn BlockNode) -> Result<(), BlockError> {
        if self.log_id == Guid::default() || self.log_len == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at < self.log_len {
            let len = LOG_STEP.min(self.log_len.saturating_sub(at));
            let bytes = get(storage, self.log.saturating_add(at), len)?;
            if bytes.chunks(LOG_SECTOR).any(|entry| self.is_entry(entry)) {
                return Err(bad(
                    "VHDX image file opened read-only, but contains a log that needs to be \
                     replayed",
                ));
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Whether an entry of the present log begins here that has something to write.
    fn is_entry(&self, bytes: &[u8]) -> bool {
        let descriptors = le32(bytes, 24);
        bytes.starts_with(b"loge") && descriptors > 0 && field::<16>(bytes, 32) == self.log_id
    }
}

/// Whether the CRC-32C at byte 4 is that of the rest.
fn checked(bytes: &[u8]) -> bool {
    let stored = le32(bytes, 4);
    let mut bytes = bytes.to_vec();
    put(&mut bytes, 4, &[0; 4]);
    crc32c(&bytes) == stored
}

/// What a byte adds to a CRC-32C.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let index = usize::from(crc.to_le_bytes()[0] ^ byte);
        (crc >> 8) ^ CRC.get(index).unwrap_or(&0)
    };
    !bytes.iter().fold(!0, step)
}

/// Makes the checksums of an image right after it was patched.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn put_checksums(bytes: &mut [u8]) {
    let headers = HEADERS.map(|at| (at, HEADER_LEN));
    let regions = REGIONS.map(|at| (at, REGION_LEN));
    for (at, len) in headers.into_iter().chain(regions) {
        let (start, end) = (at as usize, at.saturating_add(len) as usize);
        if let Some(part) = bytes.get_mut(start..end) {
            put(part, 4, &[0; 4]);
            let sum = crc32c(part);
            put(part, 4, &sum.to_le_bytes());
        }
    }
}

/// The block table and the metadata, as the first valid region table has them (section 2.2.3).
fn regions(storage: &dyn BlockNode) -> Result<(Region, Region), BlockError> {
    for at in REGIONS {
        let bytes = get(storage, at, REGION_LEN)?;
        if bytes.starts_with(b"regi") && checked(&bytes) {
            return regions_in(&bytes, storage.info().size);
        }
    }
    Err(bad("No valid VHDX region table found"))
}

fn regions_in(bytes: &[u8], file: u64) -> Result<(Region, Region), BlockError> {
    let count = le32(bytes, 8);
    if count > MAX_REGIONS {
        return Err(bad(format!("VHDX region table has {count} entries")));
    }
    let (mut bat, mut metadata) = (None, None);
    for number in 0..count as usize {
        let at = number.saturating_mul(32).saturating_add(16);
        let region = Region {
            offset: le64(bytes, at.saturating_add(16)),
            len: u64::from(le32(bytes, at.saturating_add(24))),
        };
        let required = le32(bytes, at.saturating_add(28)) & 1 != 0;
        let place = match field::<16>(bytes, at) {
            BAT => &mut bat,
            METADATA => &mut metadata,
            _ if required => return Err(bad("VHDX image has an unknown region that is required")),
            _ => continue,
        };
        let end = region.offset.checked_add(region.len);
        if end.is_none_or(|end| end > file) {
            return Err(bad(
                "VHDX image is truncated: a region is outside of the file",
            ));
        }
        if region.offset < MIB {
            return Err(bad("VHDX region overlaps the headers"));
        }
        if place.replace(region).is_some() {
            return Err(bad("VHDX image has a region twice"));
        }
    }
    bat.zip(metadata)
        .ok_or_else(|| bad("VHDX image has no block table or no metadata"))
}

/// Items of the metadata (section 2.6).
#[derive(Default)]
struct Items {
    parameters: Option<(u32, u32)>,
    disk_size: Option<u64>,
    sector: Option<u32>,
}

impl Items {
    fn read(storage: &dyn BlockNode, region: Region) -> Result<Self, BlockError> {
        if region.len < METADATA_LEN {
            return Err(bad("VHDX metadata is too short"));
        }
        let table = get(storage, region.offset, METADATA_LEN)?;
        let count = le16(&table, 10);
        if !table.starts_with(b"metadata") || count > MAX_ITEMS {
            return Err(bad("VHDX metadata is damaged"));
        }
        let mut items = Items::default();
        for number in 0..usize::from(count) {
            let at = number.saturating_add(1).saturating_mul(32);
            let id = field::<16>(&table, at);
            let offset = u64::from(le32(&table, at.saturating_add(16)));
            let required = le32(&table, at.saturating_add(24)) & 4 != 0;
            let known = matches!(id, FILE_PARAMETERS | DISK_SIZE | LOGICAL_SECTOR);
            if !known {
                let harmless = matches!(id, DISK_ID | PHYSICAL_SECTOR | PARENT);
                if required && !harmless {
                    return Err(bad("VHDX image has unknown metadata that is required"));
                }
                continue;
            }
            if offset.saturating_add(8) > region.len {
                return Err(bad("VHDX metadata is damaged"));
            }
            let value = get(storage, region.offset.saturating_add(offset), 8)?;
            match id {
                FILE_PARAMETERS => items.parameters = Some((le32(&value, 0), le32(&value, 4))),
                DISK_SIZE => items.disk_size = Some(le64(&value, 0)),
                _ => items.sector = Some(le32(&value, 0)),
            }
        }
        Ok(items)
    }

    fn layout(&self, bat: Region) -> Result<Layout, BlockError> {
        let (Some((block_size, flags)), Some(disk_size), Some(sector)) =
            (self.parameters, self.disk_size, self.sector)
        else {
            return Err(bad("VHDX metadata is incomplete"));
        };
        if flags & 2 != 0 {
            return Err(bad("Differencing VHDX images are not supported"));
        }
        let block_size = u64::from(block_size);
        if !block_size.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_size) {
            return Err(bad(format!("Invalid VHDX block size {block_size}")));
        }
        if !matches!(sector, 512 | 4096) {
            return Err(bad(format!("Invalid VHDX sector size {sector}")));
        }
        if disk_size > MAX_DISK || !disk_size.is_multiple_of(sector.into()) {
            return Err(bad(format!("Invalid VHDX disk size {disk_size}")));
        }
        let layout = Layout {
            block_size,
            disk_size,
            bat,
            chunk: (u64::from(sector) << 23) / block_size,
        };
        let last = disk_size.div_ceil(block_size).checked_sub(1);
        if last.is_some_and(|last| layout.entry_offset(last).is_none()) {
            return Err(bad("VHDX block table is too small for the disk"));
        }
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
