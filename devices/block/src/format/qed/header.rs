//! The header, and what follows from it.

use crate::error::BlockError;
use crate::format::fields::{le32, le64, put};

pub(super) const MAGIC: &[u8; 4] = b"QED\0";
/// Bytes of the header; it is read and written as a whole sector.
pub(super) const LEN: usize = 64;
pub(super) const MIN_CLUSTER: u32 = 1 << 12;
pub(super) const MAX_CLUSTER: u32 = 1 << 26;
pub(super) const MAX_TABLE: u32 = 16;
/// Longest name of a backing file (as QEMU has it).
pub(super) const MAX_NAME: u32 = 1023;

/// Feature bits.
pub(super) const BACKING_FILE: u64 = 1;
pub(super) const NEED_CHECK: u64 = 2;
pub(super) const NO_PROBE: u64 = 4;
const FEATURES: u64 = BACKING_FILE | NEED_CHECK | NO_PROBE;

/// The header's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub cluster_size: u32,
    /// In clusters.
    pub table_size: u32,
    /// In clusters.
    pub header_size: u32,
    pub features: u64,
    pub compat_features: u64,
    pub autoclear_features: u64,
    pub l1_offset: u64,
    pub image_size: u64,
    pub name_offset: u32,
    pub name_size: u32,
}

fn bad(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

impl Header {
    /// Reads and checks it; `file` is the file's size.
    ///
    /// # Errors
    /// When it is no such header, or one that makes no sense.
    pub fn parse(bytes: &[u8], file: u64) -> Result<Self, BlockError> {
        if !bytes.starts_with(MAGIC) || bytes.len() < LEN {
            return Err(bad("Image not in QED format"));
        }
        let header = Header {
            cluster_size: le32(bytes, 4),
            table_size: le32(bytes, 8),
            header_size: le32(bytes, 12),
            features: le64(bytes, 16),
            compat_features: le64(bytes, 24),
            autoclear_features: le64(bytes, 32),
            l1_offset: le64(bytes, 40),
            image_size: le64(bytes, 48),
            name_offset: le32(bytes, 56),
            name_size: le32(bytes, 60),
        };
        let unknown = header.features & !FEATURES;
        if unknown != 0 {
            return Err(bad(format!("Unsupported QED features: {unknown:x}")));
        }
        header.check(file)?;
        Ok(header)
    }

    fn check(&self, file: u64) -> Result<(), BlockError> {
        check_cluster(self.cluster_size.into())?;
        check_table(self.table_size.into())?;
        if self.header_size == 0 {
            return Err(bad("QED header size is zero"));
        }
        self.check_size(self.image_size)?;
        let cluster = u64::from(self.cluster_size);
        let end = self.l1_offset.checked_add(self.table_bytes());
        let inside = end.is_some_and(|end| end <= file / cluster * cluster);
        let aligned = self.l1_offset.is_multiple_of(cluster);
        if !inside || !aligned || self.l1_offset < self.header_end() {
            return Err(bad(format!(
                "QED image is damaged or truncated: no L1 table at {}",
                self.l1_offset
            )));
        }
        if self.features & BACKING_FILE != 0 {
            let end = u64::from(self.name_offset) + u64::from(self.name_size);
            if self.name_size > MAX_NAME || end > self.header_end() {
                return Err(bad("QED name of the backing file is too long"));
            }
        }
        Ok(())
    }

    /// Whether the disk may have that size.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_size(&self, size: u64) -> Result<(), BlockError> {
        let most = u128::from(self.entries()) * u128::from(self.covered());
        if !size.is_multiple_of(crate::node::SECTOR) || size >= 1 << 63 || u128::from(size) > most {
            return Err(bad(format!(
                "QED image size must be a non-zero multiple of cluster size and less than {most} \
                 bytes"
            )));
        }
        Ok(())
    }

    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        put(&mut out, 0, MAGIC);
        put(&mut out, 4, &self.cluster_size.to_le_bytes());
        put(&mut out, 8, &self.table_size.to_le_bytes());
        put(&mut out, 12, &self.header_size.to_le_bytes());
        put(&mut out, 16, &self.features.to_le_bytes());
        put(&mut out, 24, &self.compat_features.to_le_bytes());
        put(&mut out, 32, &self.autoclear_features.to_le_bytes());
        put(&mut out, 40, &self.l1_offset.to_le_bytes());
        put(&mut out, 48, &self.image_size.to_le_bytes());
        put(&mut out, 56, &self.name_offset.to_le_bytes());
        put(&mut out, 60, &self.name_size.to_le_bytes());
        out
    }

    pub fn cluster(&self) -> u64 {
        self.cluster_size.into()
    }

    /// Bytes of a table; at most 1 GiB.
    pub fn table_bytes(&self) -> u64 {
        u64::from(self.cluster_size) * u64::from(self.table_size)
    }

    /// Entries of a table.
    pub fn entries(&self) -> u64 {
        self.table_bytes() / 8
    }

    /// Bytes of the disk that one L2 table covers; at most 2^53.
    pub fn covered(&self) -> u64 {
        self.entries().saturating_mul(self.cluster())
    }

    /// L1 entries in use for a disk of that size.
    pub fn l1_entries(&self, size: u64) -> u64 {
        size.div_ceil(self.covered().max(1))
    }

    /// Where clusters begin; at most 2^58.
    pub fn header_end(&self) -> u64 {
        u64::from(self.header_size) * u64::from(self.cluster_size)
    }

    pub fn needs_check(&self) -> bool {
        self.features & NEED_CHECK != 0
    }
}

/// # Errors
/// When clusters cannot be of that size.
pub(super) fn check_cluster(size: u64) -> Result<(), BlockError> {
    match size.is_power_of_two() && (u64::from(MIN_CLUSTER)..=MAX_CLUSTER.into()).contains(&size) {
        true => Ok(()),
        false => Err(bad(format!(
            "QED cluster size must be within range [{MIN_CLUSTER}, {MAX_CLUSTER}] and power of 2"
        ))),
    }
}

/// # Errors
/// When tables cannot be of that size.
pub(super) fn check_table(size: u64) -> Result<(), BlockError> {
    match size.is_power_of_two() && size <= MAX_TABLE.into() {
        true => Ok(()),
        false => Err(bad(format!(
            "QED table size must be within range [1, {MAX_TABLE}] and power of 2"
        ))),
    }
}
