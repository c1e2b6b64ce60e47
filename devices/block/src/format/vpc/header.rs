//! The footer and the header of dynamic images.

use crate::error::BlockError;
use crate::format::fields::{be32, be64, field, read};
use crate::node::{BlockNode, SECTOR};

const FOOTER: &[u8; 8] = b"conectix";
const DYNAMIC: &[u8; 8] = b"cxsparse";
const FOOTER_LEN: u64 = 512;
const DYNAMIC_LEN: u64 = 1024;
/// Largest disk of the format: 2040 GiB.
const MAX_SIZE: u64 = 0xff00_0000 * SECTOR;
/// Cylinders, heads and sectors of a disk that is too large for them.
const MAX_GEOMETRY: u64 = 65535 * 16 * 255;
/// Programs that mean the size in the footer; all others mean the geometry, which can be smaller.
const BY_SIZE: [&[u8; 4]; 6] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0"];

/// Kinds of image that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fixed,
    Dynamic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub kind: Kind,
    /// Bytes of the disk.
    pub size: u64,
    /// Where the header of dynamic images is.
    data_offset: u64,
}

fn bad(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

fn unreadable(error: std::io::Error) -> BlockError {
    BlockError::host("Could not read VHD image", error)
}

impl Footer {
    /// The footer, or its copy at the start.
    pub fn find(storage: &dyn BlockNode) -> Result<Self, BlockError> {
        let size = storage.info().size;
        let end = size
            .checked_sub(FOOTER_LEN)
            .ok_or_else(|| bad("invalid VPC image: file too small"))?;
        for at in [0, end] {
            let bytes = read(storage, at, FOOTER_LEN).map_err(unreadable)?;
            if bytes.starts_with(FOOTER) {
                return Self::parse(&bytes);
            }
        }
        Err(bad("invalid VPC image"))
    }

    /// Section "Hard Disk Footer Format".
    fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let stored = be32(bytes, 64);
        if stored != checksum(bytes, 64) {
            log::warn!("The header checksum of a VHD image is incorrect");
        }
        let kind = match be32(bytes, 60) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => return Err(bad("Differencing VHD images are not supported")),
            other => return Err(bad(format!("Unknown VHD disk type {other}"))),
        };
        let [high, low] = field::<2>(bytes, 56);
        let cylinders = u64::from(u16::from_be_bytes([high, low]));
        let [heads, sectors] = field::<2>(bytes, 58);
        // At most 2^32.
        let geometry = cylinders * u64::from(heads) * u64::from(sectors);
        let by_size = BY_SIZE.contains(&&field::<4>(bytes, 28)) || geometry == MAX_GEOMETRY;
        let size = match by_size {
            true => be64(bytes, 48) / SECTOR * SECTOR,
            false => geometry * SECTOR,
        };
        if size > MAX_SIZE {
            return Err(bad(format!(
                "VHD image of {size} bytes is larger than the format allows"
            )));
        }
        Ok(Footer {
            kind,
            size,
            data_offset: be64(bytes, 16),
        })
    }

    /// Whether the disk is in a file of that size.
    pub fn check_fixed(&self, file: u64) -> Result<(), BlockError> {
        match self.size.checked_add(FOOTER_LEN) {
            Some(end) if end <= file => Ok(()),
            Some(_) | None => Err(bad(format!(
                "VHD image is truncated: a disk of {} bytes in a file of {file}",
                self.size
            ))),
        }
    }
}

/// The one's complement of the sum of all bytes but those of the checksum itself at `at`.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let own = at..at.saturating_add(4);
    let others = bytes.iter().enumerate().filter(|(i, _)| !own.contains(i));
    !others.fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

/// The header of a dynamic image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dynamic {
    /// Bytes; a power of two.
    pub block_size: u64,
    /// Bytes in front of a block.
    pub bitmap_size: u64,
    table: u64,
    entries: u64,
}

impl Dynamic {
    /// Section "Dynamic Disk Header Format".
    pub fn read(storage: &dyn BlockNode, footer: &Footer) -> Result<Self, BlockError> {
        let file = storage.info().size;
        let end = footer.data_offset.checked_add(DYNAMIC_LEN);
        if end.is_none_or(|end| end > file) {
            return Err(bad(
                "VHD image is truncated: its header is outside of the file",
            ));
        }
        let bytes = read(storage, footer.data_offset, DYNAMIC_LEN).map_err(unreadable)?;
        if !bytes.starts_with(DYNAMIC) {
            return Err(bad("invalid VPC image: no header of a dynamic disk"));
        }
        let block_size = u64::from(be32(&bytes, 32));
        if !block_size.is_power_of_two() || block_size < SECTOR {
            return Err(bad(format!("Invalid block size {block_size}")));
        }
        let header = Dynamic {
            block_size,
            // A bit per sector, in whole sectors.
            bitmap_size: (block_size / SECTOR).div_ceil(8).next_multiple_of(SECTOR),
            table: be64(&bytes, 16),
            entries: u64::from(be32(&bytes, 28)),
        };
        if footer.size.div_ceil(block_size) > header.entries {
            return Err(bad(format!(
                "Page table too small: {} blocks of {block_size} bytes for {} bytes",
                header.entries, footer.size
            )));
        }
        let table_end = header.table.checked_add(header.entries.saturating_mul(4));
        if table_end.is_none_or(|end| end > file) {
            return Err(bad(
                "VHD image is truncated: its table is outside of the file",
            ));
        }
        Ok(header)
    }

    /// Where the entry of a block is.
    pub fn entry_offset(&self, block: u64) -> Option<u64> {
        let block = Some(block).filter(|block| *block < self.entries)?;
        self.table.checked_add(block.checked_mul(4)?)
    }
}
