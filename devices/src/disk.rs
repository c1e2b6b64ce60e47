//! What the properties of all disks have in common.

use api_spec::{QmpError, QmpResult};
use block::SECTOR;

/// The properties about sizes, in bytes.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // named after the properties
pub(crate) struct SizeChoice {
    pub logical: u64,
    pub physical: u64,
    pub min_io: u64,
    pub opt_io: u64,
    pub discard_granularity: Option<u64>,
}

/// Sizes of blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSizes {
    /// Bytes.
    pub logical: u32,
    /// Bytes.
    pub physical: u32,
    /// In logical blocks.
    pub min_io: u16,
    /// In logical blocks.
    pub opt_io: u32,
    /// Bytes, where it was given.
    pub discard_granularity: Option<u64>,
}

impl BlockSizes {
    /// # Errors
    /// In QEMU's words.
    pub fn check(choice: SizeChoice) -> QmpResult<Self> {
        let logical = block_size("logical_block_size", choice.logical)?;
        let physical = block_size("physical_block_size", choice.physical)?;
        if logical > physical {
            let desc = "logical_block_size > physical_block_size not supported";
            return Err(QmpError::generic(desc));
        }
        let blocks = |name: &str, bytes: u64, most: u64| {
            let count = bytes / u64::from(logical);
            if !bytes.is_multiple_of(logical.into()) {
                let desc = format!("{name} must be a multiple of logical_block_size");
                return Err(QmpError::generic(desc));
            }
            if count > most {
                let desc = format!("{name} must not exceed {most} logical blocks");
                return Err(QmpError::generic(desc));
            }
            Ok(count)
        };
        let min_io = blocks("min_io_size", choice.min_io, u16::MAX.into())?;
        let opt_io = blocks("opt_io_size", choice.opt_io, u32::MAX.into())?;
        // All ones is QEMU's way to say "leave it to the device".
        let granularity = choice
            .discard_granularity
            .filter(|size| *size != u64::from(u32::MAX));
        if let Some(size) = granularity {
            blocks("discard_granularity", size, u32::MAX.into())?;
        }
        Ok(BlockSizes {
            logical,
            physical,
            min_io: u16::try_from(min_io).unwrap_or(0),
            opt_io: u32::try_from(opt_io).unwrap_or(0),
            discard_granularity: granularity,
        })
    }
}

/// 0 is the node's choice; every node takes requests of single sectors.
fn block_size(name: &str, bytes: u64) -> QmpResult<u32> {
    if bytes == 0 {
        return Ok(SECTOR as u32);
    }
    let size = u32::try_from(bytes).ok();
    size.filter(|size| size.is_power_of_two() && (512..=2 << 20).contains(size))
        .ok_or_else(|| {
            QmpError::generic(format!(
                "parameter {name} must be a power of 2 between 512 and 2097152"
            ))
        })
}
