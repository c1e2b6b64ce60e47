//! The header of an image and its extensions (qcow2 specification, "Header" and "Header
//! extensions").

use super::io::be32;
use super::io::be64;
use crate::error::BlockError;

/// `QFI\xfb`.
pub(in crate::format) const MAGIC: u32 = 0x5146_49fb;

/// Incompatible features.
pub(super) mod incompatible {
    /// Refcounts may be wrong.
    pub const DIRTY: u64 = 1;
    /// Anything may be wrong.
    pub const CORRUPT: u64 = 1 << 1;
    /// Guest clusters are in a file of their own.
    pub const DATA_FILE: u64 = 1 << 2;
    /// Clusters are not compressed by deflate.
    pub const COMPRESSION: u64 = 1 << 3;
    /// L2 entries have subclusters.
    pub const EXTENDED_L2: u64 = 1 << 4;
    /// All that are understood.
    pub const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
}

/// Compatible features.
pub(super) mod compatible {
    /// Refcounts are written when the image is closed.
    pub const LAZY_REFCOUNTS: u64 = 1;
}

/// Features that are cleared by who does not understand them.
pub(super) mod autoclear {
    /// The bitmaps extension is consistent.
    pub const BITMAPS: u64 = 1;
    /// The data file can be read as a raw image.
    pub const DATA_FILE_RAW: u64 = 1 << 1;
    /// All that are understood.
    pub const KNOWN: u64 = BITMAPS | DATA_FILE_RAW;
}

/// Types of header extensions.
pub(super) mod extension {
    pub const END: u32 = 0;
    pub const BACKING_FORMAT: u32 = 0xe279_2aca;
    pub const FEATURE_NAMES: u32 = 0x6803_f857;
    pub const BITMAPS: u32 = 0x2385_2875;
    pub const DATA_FILE: u32 = 0x4441_5441;
}

/// Largest tables, as QEMU has them.
pub(super) const MAX_L1_BYTES: u64 = 32 << 20;
pub(super) const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
pub(super) const MAX_SNAPSHOTS: u32 = 65536;
const MAX_BACKING_NAME: u32 = 1023;
const MIN_CLUSTER_BITS: u32 = 9;
pub(super) const MAX_CLUSTER_BITS: u32 = 21;

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate.
    Zlib,
    Zstd,
}

/// The header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub version: u32,
    pub cluster_bits: u32,
    /// Bytes of the disk.
    pub size: u64,
    /// Entries.
    pub l1_size: u32,
    pub l1_offset: u64,
    pub refcount_table_offset: u64,
    pub refcount_table_clusters: u32,
    pub snapshot_count: u32,
    pub snapshots_offset: u64,
    pub incompatible: u64,
    pub compatible: u64,
    pub autoclear: u64,
    pub refcount_order: u32,
    pub compression: Compression,
    pub backing_file: Option<String>,
    /// In the order of the file, without the end.
    pub extensions: Vec<(u32, Vec<u8>)>,
    /// Fields behind the ones that are understood.
    pub more: Vec<u8>,
}

fn invalid(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

/// Bytes that are needed to see how long the header is.
pub(super) const FIRST: usize = 112;

impl Header {
    /// Bits of a cluster's size, from the first [`FIRST`] bytes.
    ///
    /// # Errors
    /// When it is no qcow2 image, or one that is not understood.
    pub fn cluster_bits(start: &[u8]) -> Result<u32, BlockError> {
        if be32(start, 0) != MAGIC {
            return Err(invalid("Image is not in qcow2 format"));
        }
        let version = be32(start, 4);
        if !matches!(version, 2 | 3) {
            return Err(invalid(format!("Unsupported qcow2 version {version}")));
        }
        let bits = be32(start, 20);
        if !(MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&bits) {
            return Err(invalid(format!("Unsupported cluster size: 2^{bits}")));
        }
        Ok(bits)
    }

    /// Reads the header from the first cluster.
    ///
    /// # Errors
    /// When it is no qcow2 image, damaged, or of a kind that is not understood. What needs the
    /// file (where tables are) is checked by [`Self::check`].
    pub fn parse(cluster: &[u8]) -> Result<Self, BlockError> {
        let cluster_bits = Self::cluster_bits(cluster)?;
        let version = be32(cluster, 4);
        let length = match version {
            2 => 72,
            _ => be32(cluster, 100),
        };
        if version >= 3 && length < 104 {
            return Err(invalid("qcow2 header too short"));
        }
        if length as usize > cluster.len() {
            return Err(invalid("qcow2 header exceeds cluster size"));
        }
        let field = |at: usize| match version {
            2 => 0,
            _ => be64(cluster, at),
        };
        let mut header = Header {
            version,
            cluster_bits,
            size: be64(cluster, 24),
            l1_size: be32(cluster, 36),
            l1_offset: be64(cluster, 40),
            refcount_table_offset: be64(cluster, 48),
            refcount_table_clusters: be32(cluster, 56),
            snapshot_count: be32(cluster, 60),
            snapshots_offset: be64(cluster, 64),
            incompatible: field(72),
            compatible: field(80),
            autoclear: field(88),
            refcount_order: if version == 2 { 4 } else { be32(cluster, 96) },
            compression: Compression::Zlib,
            backing_file: None,
            extensions: Vec::new(),
            more: cluster
                .get(FIRST..(length as usize).max(FIRST))
                .unwrap_or(&[])
                .to_vec(),
        };
        header.read_extensions(cluster, length as usize)?;
        header.check_features(cluster, length)?;
        header.read_backing(cluster)?;
        if be32(cluster, 32) != 0 {
            return Err(invalid(match be32(cluster, 32) {
                1 => "AES-CBC encrypted qcow2 images are not supported".to_owned(),
                2 => "LUKS encrypted qcow2 images are not supported".to_owned(),
                other => format!("Unsupported encryption method {other}"),
            }));
        }
        Ok(header)
    }

    fn read_extensions(&mut self, cluster: &[u8], mut at: usize) -> Result<(), BlockError> {
        let end = match be64(cluster, 8) {
            0 => cluster.len(),
            offset => cluster.len().min(offset as usize),
        };
        while at.saturating_add(8) <= end {
            let kind = be32(cluster, at);
            if kind == extension::END {
                break;
            }
            let len = be32(cluster, at.saturating_add(4)) as usize;
            at = at.saturating_add(8);
            let data = at
                .checked_add(len)
                .filter(|last| *last <= end)
                .and_then(|last| cluster.get(at..last));
            let Some(data) = data else {
                return Err(invalid("Header extension too large"));
            };
            self.extensions.push((kind, data.to_vec()));
            at = at.saturating_add(len.next_multiple_of(8));
        }
        Ok(())
    }

    fn check_features(&mut self, cluster: &[u8], length: u32) -> Result<(), BlockError> {
        let unknown = self.incompatible & !incompatible::KNOWN;
        if unknown != 0 {
            return Err(invalid(format!(
                "Unsupported qcow2 feature(s): {}",
                self.feature_names(unknown)
            )));
        }
        if self.refcount_order > 6 {
            return Err(invalid(
                "Reference count entry width too large; may not exceed 64 bits",
            ));
        }
        let compression = match length {
            ..=104 => 0,
            _ => cluster.get(104).copied().unwrap_or(0),
        };
        let other = self.has(incompatible::COMPRESSION);
        self.compression = match (compression, other) {
            (0, false) => Compression::Zlib,
            (1, true) => Compression::Zstd,
            (0, true) => {
                return Err(invalid(
                    "qcow2: Compression type incompatible feature bit must not be set",
                ));
            }
            (1, false) => {
                return Err(invalid(
                    "qcow2: Compression type incompatible feature bit must be set",
                ));
            }
            (kind, _) => {
                return Err(invalid(format!("qcow2: unknown compression type: {kind}")));
            }
        };
        if self.has(incompatible::EXTENDED_L2) && self.cluster_bits < 14 {
            return Err(invalid(
                "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
            ));
        }
        if self.is_data_file_raw() && !self.has(incompatible::DATA_FILE) {
            // Without a data file there is nothing that it could speak of.
            self.autoclear &= !autoclear::DATA_FILE_RAW;
        }
        Ok(())
    }

    fn feature_names(&self, unknown: u64) -> String {
        let table = self.extension(extension::FEATURE_NAMES).unwrap_or(&[]);
        let mut left = unknown;
        let mut names = Vec::new();
        for entry in table.chunks_exact(48) {
            let (Some(0), Some(bit @ 0..=63)) = (entry.first(), entry.get(1)) else {
                continue;
            };
            if left & (1 << bit) != 0 {
                left &= !(1 << bit);
                let name = entry.get(2..).unwrap_or(&[]);
                let end = name.iter().position(|byte| *byte == 0);
                let name = name.get(..end.unwrap_or(name.len())).unwrap_or(&[]);
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        if left != 0 {
            names.push(format!("Unknown incompatible feature: {left:x}"));
        }
        names.join(", ")
    }

    fn read_backing(&mut self, cluster: &[u8]) -> Result<(), BlockError> {
        let offset = be64(cluster, 8);
        if offset == 0 {
            return Ok(());
        }
        let len = be32(cluster, 16);
        if offset > cluster.len() as u64 {
            return Err(invalid("Invalid backing file offset"));
        }
        let room = (cluster.len() as u64).saturating_sub(offset);
        if len > MAX_BACKING_NAME || u64::from(len) > room {
            return Err(invalid("Backing file name too long"));
        }
        let name = cluster.get(offset as usize..(offset as usize).saturating_add(len as usize));
        self.backing_file = text(name.unwrap_or(&[]));
        Ok(())
    }

    /// Whether an incompatible feature is on.
    pub fn has(&self, feature: u64) -> bool {
        self.incompatible & feature != 0
    }

    pub fn is_data_file_raw(&self) -> bool {
        self.autoclear & autoclear::DATA_FILE_RAW != 0
    }

    /// The data of an extension.
    pub fn extension(&self, kind: u32) -> Option<&[u8]> {
        let found = self.extensions.iter().find(|(other, _)| *other == kind);
        found.map(|(_, data)| data.as_slice())
    }

    /// Sets an extension, or takes it away.
    pub fn set_extension(&mut self, kind: u32, data: Option<&[u8]>) {
        let place = self.extensions.iter().position(|(other, _)| *other == kind);
        match (place, data) {
            (Some(at), Some(data)) => {
                if let Some(slot) = self.extensions.get_mut(at) {
                    slot.1 = data.to_vec();
                }
            }
            (Some(at), None) => {
                self.extensions.remove(at);
            }
            (None, Some(data)) => self.extensions.push((kind, data.to_vec())),
            (None, None) => {}
        }
    }

    pub fn backing_format(&self) -> Option<String> {
        text(self.extension(extension::BACKING_FORMAT)?)
    }

    pub fn data_file(&self) -> Option<String> {
        text(self.extension(extension::DATA_FILE)?)
    }

    /// The bytes of the header with all that follows it in the first cluster, padded to sectors.
    ///
    /// # Errors
    /// When they do not fit into a cluster.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BlockError> {
        let mut bytes = vec![0; 72];
        put32(&mut bytes, 0, MAGIC);
        put32(&mut bytes, 4, self.version);
        put32(&mut bytes, 20, self.cluster_bits);
        put64(&mut bytes, 24, self.size);
        put32(&mut bytes, 36, self.l1_size);
        put64(&mut bytes, 40, self.l1_offset);
        put64(&mut bytes, 48, self.refcount_table_offset);
        put32(&mut bytes, 56, self.refcount_table_clusters);
        put32(&mut bytes, 60, self.snapshot_count);
        put64(&mut bytes, 64, self.snapshots_offset);
        if self.version >= 3 {
            bytes.resize(FIRST, 0);
            put64(&mut bytes, 72, self.incompatible);
            put64(&mut bytes, 80, self.compatible);
            put64(&mut bytes, 88, self.autoclear);
            put32(&mut bytes, 96, self.refcount_order);
            bytes.extend_from_slice(&self.more);
            let length = bytes.len() as u32;
            put32(&mut bytes, 100, length);
            if let (Compression::Zstd, Some(byte)) = (self.compression, bytes.get_mut(104)) {
                *byte = 1;
            }
        }
        for (kind, data) in &self.extensions {
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.resize(bytes.len().saturating_add(8), 0);
        if let Some(name) = &self.backing_file {
            let at = bytes.len() as u64;
            put64(&mut bytes, 8, at);
            put32(&mut bytes, 16, name.len() as u32);
            bytes.extend_from_slice(name.as_bytes());
            if name.len() > MAX_BACKING_NAME as usize {
                return Err(invalid("Backing file name too long"));
            }
        }
        if bytes.len() > 1 << self.cluster_bits {
            return Err(invalid("Header does not fit into the first cluster"));
        }
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Ok(bytes)
    }

    /// Checks sizes and places of tables.
    ///
    /// # Errors
    /// QEMU's words.
    pub fn check(&self) -> Result<(), BlockError> {
        let cluster = 1u64 << self.cluster_bits;
        let table = |offset: u64, bytes: u64, most: u64, name: &str| {
            if bytes > most {
                return Err(invalid(format!("{name} too large")));
            }
            let inside = offset
                .checked_add(bytes)
                .is_some_and(|end| end <= i64::MAX as u64);
            if !inside || !offset.is_multiple_of(cluster) {
                return Err(invalid(format!("{name} offset invalid")));
            }
            Ok(())
        };
        if self.refcount_table_clusters == 0 {
            return Err(invalid("Image does not contain a reference count table"));
        }
        let bytes = u64::from(self.refcount_table_clusters).saturating_mul(cluster);
        let offset = self.refcount_table_offset;
        table(
            offset,
            bytes,
            MAX_REFCOUNT_TABLE_BYTES,
            "Reference count table",
        )?;
        if self.refcount_table_offset == 0 {
            return Err(invalid("Reference count table offset invalid"));
        }
        if self.snapshot_count > MAX_SNAPSHOTS {
            return Err(invalid("Snapshot table too large"));
        }
        let bytes = u64::from(self.snapshot_count).saturating_mul(40);
        table(self.snapshots_offset, bytes, u64::MAX, "Snapshot table")?;
        let bytes = u64::from(self.l1_size).saturating_mul(8);
        table(self.l1_offset, bytes, MAX_L1_BYTES, "Active L1 table")?;
        if self.size > i64::MAX as u64 - cluster {
            return Err(invalid("Image is too big"));
        }
        let needed = super::geometry::Geometry::of(self).l1_entries(self.size);
        if needed > MAX_L1_BYTES / 8 {
            return Err(invalid("Image is too big"));
        }
        if needed > u64::from(self.l1_size) {
            return Err(invalid("L1 table is too small"));
        }
        if self.l1_size > 0 && self.l1_offset == 0 {
            return Err(invalid("Active L1 table offset invalid"));
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len()))?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn put64(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(8)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
