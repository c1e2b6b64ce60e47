//! Making an image (qcow2 specification, "Header" and "Host cluster management").
//!
//! ```text
//! header | refcount table | refcount blocks | L1 table | L2 tables | data
//! ```

use std::io;
use std::sync::Arc;

use super::geometry::{COPIED, Geometry};
use super::header::{
    self, Header, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES, autoclear, compatible, extension,
    incompatible,
};
use super::io::put64;
use super::refcount;
use super::store::Store;
use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::file::Preallocation;
use crate::node::{BlockNode, NodeExt, SECTOR};
use crate::request::{Durability, Op, Unmap};

/// The version of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compat {
    /// `0.10`, `v2`.
    V2,
    /// `1.1`, `v3`.
    #[default]
    V3,
}

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionKind {
    /// Deflate.
    #[default]
    Zlib,
    /// Zstandard.
    Zstd,
}

/// What an image is to be.
#[derive(Clone)]
pub struct Qcow2Create {
    /// Bytes of the disk.
    pub size: u64,
    /// Version.
    pub compat: Compat,
    /// The name of its backing file.
    pub backing_file: Option<String>,
    /// The backing file's format.
    pub backing_format: Option<String>,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// L2 entries have subclusters.
    pub extended_l2: bool,
    /// What is allocated from the start.
    pub preallocation: Preallocation,
    /// Refcounts are brought up to date only when the image is closed.
    pub lazy_refcounts: bool,
    /// Bits of a refcount.
    pub refcount_bits: u64,
    /// The name of its data file.
    pub data_file: Option<String>,
    /// The data file itself, which is made as long as the disk where that is needed.
    pub data_node: Option<Arc<dyn BlockNode>>,
    /// The data file can be read as a raw image.
    pub data_file_raw: bool,
    /// How clusters are compressed.
    pub compression: CompressionKind,
}

impl Default for Qcow2Create {
    /// QEMU's defaults, without a size.
    fn default() -> Self {
        Qcow2Create {
            size: 0,
            compat: Compat::V3,
            backing_file: None,
            backing_format: None,
            cluster_size: 65536,
            extended_l2: false,
            preallocation: Preallocation::Off,
            lazy_refcounts: false,
            refcount_bits: 16,
            data_file: None,
            data_node: None,
            data_file_raw: false,
            compression: CompressionKind::Zlib,
        }
    }
}

/// Makes an image in `target`, whatever was there before. Blocks.
///
/// # Errors
/// For options that cannot be or do not go together, in QEMU's words; and the host's. There is no
/// image then.
pub fn create(target: &dyn BlockNode, options: &Qcow2Create) -> Result<(), BlockError> {
    create_while(target, options, &|| true)
}

/// The same; `goes_on` is asked now and then.
///
/// # Errors
/// As [`create`], and ECANCELED when it is not to go on.
pub fn create_while(
    target: &dyn BlockNode,
    options: &Qcow2Create,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), BlockError> {
    check(options)?;
    let layout = Layout::of(options)?;
    let header = header_of(options, &layout);
    let bytes = header
        .to_bytes()
        .map_err(|error| name_too_long(options, error))?;
    let store = Store::new(target);
    write_tables(&store, &layout, &bytes, goes_on)
        .map_err(|error| BlockError::host("Could not write qcow2 image", error))?;
    prepare_data(&store, options, &layout, goes_on)?;
    // The header makes an image of it: last.
    store
        .flush()
        .and_then(|()| store.write(0, &bytes))
        .and_then(|()| store.flush())
        .map_err(|error| BlockError::host("Could not write qcow2 header", error))
}

fn refuse(text: impl Into<String>) -> Result<(), BlockError> {
    Err(BlockError::Unsupported(text.into()))
}

const LATER: &str = "compatibility level 1.1 and above (use version=v3 or greater)";
/// Largest disk of any format.
const MAX_SIZE: u64 = 0x7fff_ffff_c000_0000;
const MAX_NAME: usize = 1023;

fn check(options: &Qcow2Create) -> Result<(), BlockError> {
    let old = options.compat == Compat::V2;
    let cluster = options.cluster_size;
    if !options.size.is_multiple_of(SECTOR) {
        return refuse("Image size must be a multiple of 512 bytes");
    }
    if !cluster.is_power_of_two() || !(512..=2 << 20).contains(&cluster) {
        return refuse("Cluster size must be a power of two between 512 and 2048k");
    }
    if options.extended_l2 && old {
        return refuse(format!(
            "Extended L2 entries are only supported with {LATER}"
        ));
    }
    if options.extended_l2 && cluster < 16384 {
        return refuse(
            "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
        );
    }
    check_backing(options)?;
    if options.lazy_refcounts && old {
        return refuse(format!("Lazy refcounts only supported with {LATER}"));
    }
    if options.refcount_bits > 64 || !options.refcount_bits.is_power_of_two() {
        return refuse("Refcount width must be a power of two and may not exceed 64 bits");
    }
    if options.refcount_bits != 16 && old {
        return refuse(
            "Different refcount widths than 16 bits require compatibility level 1.1 or above \
             (use version=v3 or greater)",
        );
    }
    check_data_file(options)?;
    if options.compression != CompressionKind::Zlib && old {
        return refuse(format!(
            "Non-zlib compression type is only supported with {LATER}"
        ));
    }
    if options.size > MAX_SIZE {
        return refuse(format!(
            "Could not resize image: offset({}) exceeds maximum({MAX_SIZE})",
            options.size
        ));
    }
    Ok(())
}

fn check_backing(options: &Qcow2Create) -> Result<(), BlockError> {
    let Some(name) = &options.backing_file else {
        return match options.backing_format {
            Some(_) => refuse("Backing format cannot be used without backing file"),
            None => Ok(()),
        };
    };
    if options.preallocation != Preallocation::Off && !options.extended_l2 {
        return refuse(
            "Backing file and preallocation can only be used at the same time if extended_l2 is on",
        );
    }
    if name.len() > MAX_NAME {
        return Err(no_backing(options, name, libc::EINVAL));
    }
    Ok(())
}

fn check_data_file(options: &Qcow2Create) -> Result<(), BlockError> {
    let Some(name) = &options.data_file else {
        return match options.data_file_raw {
            true => refuse("data-file-raw requires data-file"),
            false => Ok(()),
        };
    };
    if options.compat == Compat::V2 {
        return refuse(format!(
            "External data files are only supported with {LATER}"
        ));
    }
    if options.data_file_raw && options.backing_file.is_some() {
        return refuse("Backing file and data-file-raw cannot be used at the same time");
    }
    if name.len() > MAX_NAME {
        return refuse("Data file name too long");
    }
    Ok(())
}

/// What does not fit into the first cluster is one of the names.
fn name_too_long(options: &Qcow2Create, error: BlockError) -> BlockError {
    match &options.backing_file {
        Some(name) => no_backing(options, name, libc::ENOSPC),
        None => error,
    }
}

fn no_backing(options: &Qcow2Create, name: &str, code: i32) -> BlockError {
    let what = match &options.backing_format {
        Some(format) => format!("Could not assign backing file '{name}' with format '{format}'"),
        None => format!("Could not assign backing file '{name}'"),
    };
    BlockError::host(what, io::Error::from_raw_os_error(code))
}

/// How many clusters of each kind there are, in the order of the file.
struct Layout {
    geometry: Geometry,
    l1_entries: u64,
    refcount_table: u64,
    refcount_blocks: u64,
    l1: u64,
    l2: u64,
    /// Of the disk; in this file or in the data file.
    mapped: u64,
    /// Of the disk, in this file.
    data: u64,
}

impl Layout {
    fn of(options: &Qcow2Create) -> Result<Self, BlockError> {
        let too_large = || {
            BlockError::host(
                "Could not resize image: Failed to grow the L1 table",
                io::Error::from_raw_os_error(libc::EFBIG),
            )
        };
        let geometry = Geometry {
            version: if options.compat == Compat::V2 { 2 } else { 3 },
            cluster_bits: options.cluster_size.trailing_zeros(),
            refcount_order: options.refcount_bits.trailing_zeros(),
            extended: options.extended_l2,
            external: options.data_file.is_some(),
        };
        let entries = geometry.l1_entries(options.size).max(1);
        if entries > MAX_L1_BYTES / 8 {
            return Err(too_large());
        }
        let preallocates = needed_preallocation(options) != Preallocation::Off;
        let clusters = geometry.clusters(options.size);
        let mut layout = Layout {
            geometry,
            l1_entries: entries,
            refcount_table: 1,
            refcount_blocks: 1,
            l1: geometry.clusters(entries.saturating_mul(8)),
            l2: if preallocates {
                geometry.l1_entries(options.size)
            } else {
                0
            },
            mapped: if preallocates { clusters } else { 0 },
            data: if preallocates && !geometry.external {
                clusters
            } else {
                0
            },
        };
        // Both only grow, and refcounts take far less room than what they count.
        loop {
            let blocks = layout.clusters().div_ceil(1 << geometry.refcount_bits());
            let table = geometry.clusters(blocks.saturating_mul(8));
            if table.saturating_mul(geometry.cluster()) > MAX_REFCOUNT_TABLE_BYTES {
                return Err(too_large());
            }
            if blocks <= layout.refcount_blocks && table <= layout.refcount_table {
                return Ok(layout);
            }
            layout.refcount_blocks = layout.refcount_blocks.max(blocks);
            layout.refcount_table = layout.refcount_table.max(table);
        }
    }

    fn clusters(&self) -> u64 {
        let tables = [
            1,
            self.refcount_table,
            self.refcount_blocks,
            self.l1,
            self.l2,
        ];
        tables
            .iter()
            .fold(self.data, |sum, more| sum.saturating_add(*more))
    }

    fn at(&self, clusters: u64) -> u64 {
        clusters.saturating_mul(self.geometry.cluster())
    }

    fn refcount_blocks_at(&self) -> u64 {
        self.at(self.refcount_table.saturating_add(1))
    }

    fn l1_at(&self) -> u64 {
        self.refcount_blocks_at()
            .saturating_add(self.at(self.refcount_blocks))
    }

    fn l2_at(&self) -> u64 {
        self.l1_at().saturating_add(self.at(self.l1))
    }

    /// Where guest cluster 0 is.
    fn data_at(&self) -> u64 {
        match self.geometry.external {
            true => 0,
            false => self.l2_at().saturating_add(self.at(self.l2)),
        }
    }
}

/// A raw data file is read without the tables, so that they must not say that anything is not
/// there.
fn needed_preallocation(options: &Qcow2Create) -> Preallocation {
    match options.preallocation {
        Preallocation::Off if options.data_file_raw => Preallocation::Metadata,
        asked => asked,
    }
}

fn header_of(options: &Qcow2Create, layout: &Layout) -> Header {
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    let zstd = options.compression == CompressionKind::Zstd;
    let mut header = Header {
        version: layout.geometry.version,
        cluster_bits: layout.geometry.cluster_bits,
        size: options.size,
        l1_size: layout.l1_entries as u32,
        l1_offset: layout.l1_at(),
        refcount_table_offset: layout.geometry.cluster(),
        refcount_table_clusters: layout.refcount_table as u32,
        snapshot_count: 0,
        snapshots_offset: 0,
        incompatible: flag(options.data_file.is_some(), incompatible::DATA_FILE)
            | flag(zstd, incompatible::COMPRESSION)
            | flag(options.extended_l2, incompatible::EXTENDED_L2),
        compatible: flag(options.lazy_refcounts, compatible::LAZY_REFCOUNTS),
        autoclear: flag(options.data_file_raw, autoclear::DATA_FILE_RAW),
        refcount_order: layout.geometry.refcount_order,
        compression: match options.compression {
            CompressionKind::Zlib => header::Compression::Zlib,
            CompressionKind::Zstd => header::Compression::Zstd,
        },
        backing_file: options.backing_file.clone(),
        extensions: Vec::new(),
        more: Vec::new(),
    };
    let format = options.backing_format.as_ref().map(|name| name.as_bytes());
    header.set_extension(extension::BACKING_FORMAT, format);
    let data_file = options.data_file.as_ref().map(|name| name.as_bytes());
    header.set_extension(extension::DATA_FILE, data_file);
    // In small clusters the room is better left to names.
    if options.compat == Compat::V3 && options.cluster_size >= 4096 {
        header.set_extension(extension::FEATURE_NAMES, Some(&feature_names()));
    }
    header
}

/// For programs that do not know a feature and have to say which.
fn feature_names() -> Vec<u8> {
    const NAMES: [(u8, u64, &str); 8] = [
        (0, incompatible::DIRTY, "dirty bit"),
        (0, incompatible::CORRUPT, "corrupt bit"),
        (0, incompatible::DATA_FILE, "external data file"),
        (0, incompatible::COMPRESSION, "compression type"),
        (0, incompatible::EXTENDED_L2, "extended L2 entries"),
        (1, compatible::LAZY_REFCOUNTS, "lazy refcounts"),
        (2, autoclear::BITMAPS, "bitmaps"),
        (2, autoclear::DATA_FILE_RAW, "raw external data"),
    ];
    let mut table = Vec::new();
    for (kind, mask, name) in NAMES {
        let end = table.len().saturating_add(48);
        table.extend([kind, mask.trailing_zeros() as u8]);
        table.extend_from_slice(name.as_bytes());
        table.resize(end, 0);
    }
    table
}

fn write_tables(
    store: &Store<'_>,
    layout: &Layout,
    header: &[u8],
    goes_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let geometry = &layout.geometry;
    let end = layout.at(layout.clusters());
    // Old content must not show in what is allocated later. Not everything can be cut.
    if store.node().resize(0).is_err() || store.size() > 0 {
        log::debug!("An image is made where something was before");
    }
    store.grow(end)?;
    store.write(0, &vec![0; header.len()])?;
    let places = (0..layout.refcount_blocks)
        .map(|block| layout.refcount_blocks_at().saturating_add(layout.at(block)));
    write_padded(
        store,
        geometry.cluster(),
        &places.collect::<Vec<_>>(),
        layout.refcount_table,
        geometry,
    )?;
    write_refcounts(store, layout)?;
    let table = |index| match index < layout.l2 {
        true => layout.l2_at().saturating_add(layout.at(index)) | COPIED,
        false => 0,
    };
    let l1: Vec<u64> = (0..layout.l1_entries).map(table).collect();
    write_padded(store, layout.l1_at(), &l1, layout.l1, geometry)?;
    for index in 0..layout.l2 {
        check_wanted(goes_on)?;
        let place = layout.l2_at().saturating_add(layout.at(index));
        store.write(place, &l2_table(layout, index))?;
    }
    Ok(())
}

/// Writes a table with zeroes up to the end of its clusters.
fn write_padded(
    store: &Store<'_>,
    offset: u64,
    words: &[u64],
    clusters: u64,
    geometry: &Geometry,
) -> io::Result<()> {
    let mut words = words.to_vec();
    words.resize(
        (clusters.saturating_mul(geometry.cluster()) / 8) as usize,
        0,
    );
    store.write_words(offset, &words)
}

fn write_refcounts(store: &Store<'_>, layout: &Layout) -> io::Result<()> {
    let geometry = &layout.geometry;
    let per_block = 1u64 << geometry.refcount_bits();
    let block = |used: u64| {
        let mut bytes = vec![0; geometry.cluster() as usize];
        for index in 0..used {
            refcount::set(&mut bytes, index as usize, geometry.refcount_order, 1);
        }
        bytes
    };
    let full = block(per_block);
    for index in 0..layout.refcount_blocks {
        let place = layout.refcount_blocks_at().saturating_add(layout.at(index));
        let first = index.saturating_mul(per_block);
        match layout.clusters().saturating_sub(first) {
            used if used >= per_block => store.write(place, &full)?,
            used => store.write(place, &block(used))?,
        }
    }
    Ok(())
}

/// The L2 table with that number: all clusters of the disk have a place. Subclusters are still
/// the backing file's, or zeroes.
fn l2_table(layout: &Layout, index: u64) -> Vec<u8> {
    let geometry = &layout.geometry;
    let entries = 1u64 << geometry.l2_bits();
    let mut bytes = vec![0; geometry.cluster() as usize];
    let first = index.saturating_mul(entries);
    let last = first.saturating_add(entries).min(layout.mapped);
    for (place, cluster) in (first..last).enumerate() {
        let host = layout.data_at().saturating_add(layout.at(cluster));
        put64(&mut bytes, place << geometry.entry_bits(), host | COPIED);
    }
    bytes
}

/// Written at once.
const PIECE: u64 = 2 << 20;

fn prepare_data(
    store: &Store<'_>,
    options: &Qcow2Create,
    layout: &Layout,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), BlockError> {
    let preallocation = needed_preallocation(options);
    let (node, start, len) = match &options.data_node {
        _ if preallocation == Preallocation::Off => return Ok(()),
        None if options.data_file.is_some() => return Ok(()),
        None => (store.node(), layout.data_at(), layout.at(layout.data)),
        Some(node) => (&**node, 0, options.size),
    };
    let failed = |error| BlockError::host("Could not preallocate data", error);
    let end = start.saturating_add(len);
    if node.info().size < end {
        node.resize(end)?;
    }
    fill(node, (start, len), preallocation, goes_on)
        .and_then(|()| node.flush())
        .map_err(failed)
}

fn check_wanted(goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    match goes_on() {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
    }
}

fn fill(
    node: &dyn BlockNode,
    (start, len): (u64, u64),
    how: Preallocation,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let zeroes = vec![0; PIECE.min(len) as usize];
    let mut done = 0u64;
    while done < len {
        check_wanted(goes_on)?;
        let piece = PIECE.min(len.saturating_sub(done));
        let offset = start.saturating_add(done);
        match how {
            Preallocation::Off | Preallocation::Metadata => return Ok(()),
            Preallocation::Falloc => {
                let op = Op::WriteZeroes {
                    offset: start,
                    len,
                    unmap: Unmap::Keep,
                    durability: Durability::Cached,
                };
                return node.perform(op, &Buffers::new());
            }
            Preallocation::Full => {
                let bytes = zeroes.get(..piece as usize).unwrap_or(&zeroes);
                node.write_at(offset, bytes)?;
            }
        }
        done = done.saturating_add(piece);
    }
    Ok(())
}

#[cfg(test)]
#[path = "create_test.rs"]
mod tests;
