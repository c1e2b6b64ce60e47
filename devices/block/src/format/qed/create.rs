//! Making an empty image.

use super::header::{
    BACKING_FILE, Header, LEN, MAX_NAME, MIN_CLUSTER, NO_PROBE, check_cluster, check_table,
};
use super::image::name_size;
use super::unwritable;
use crate::error::BlockError;
use crate::format::fields::put;
use crate::node::{BlockNode, NodeExt};

const DEFAULT_CLUSTER: u64 = 64 << 10;
const DEFAULT_TABLE: u64 = 4;

/// An image to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QedCreate {
    /// Bytes of the disk.
    pub size: u64,
    /// The name of its backing file.
    pub backing_file: Option<String>,
    /// The backing file's format; of these only raw is kept.
    pub backing_format: Option<String>,
    /// Bytes of a cluster; 64 KiB by default.
    pub cluster_size: Option<u64>,
    /// Clusters of a table; 4 by default.
    pub table_size: Option<u64>,
}

/// Makes an empty image in `target`, whatever was in there before. Blocks.
///
/// # Errors
/// In QEMU's words; when sizes are out of range, or `target` cannot be resized and written.
pub fn create(target: &dyn BlockNode, options: &QedCreate) -> Result<(), BlockError> {
    let header = header(options)?;
    let mut start = vec![0; MIN_CLUSTER as usize];
    put(&mut start, 0, &header.encode());
    let name = options.backing_file.as_deref().unwrap_or("");
    put(&mut start, LEN, name.as_bytes());
    // The L1 table is zeroes, as all of the new file is.
    target.resize(0)?;
    target.resize(header.l1_offset.saturating_add(header.table_bytes()))?;
    let written = target.write_at(0, &start).and_then(|()| target.flush());
    written.map_err(unwritable)
}

fn header(options: &QedCreate) -> Result<Header, BlockError> {
    let cluster = options.cluster_size.unwrap_or(DEFAULT_CLUSTER);
    let table = options.table_size.unwrap_or(DEFAULT_TABLE);
    check_cluster(cluster)?;
    check_table(table)?;
    let mut header = Header {
        cluster_size: u32::try_from(cluster).unwrap_or(MIN_CLUSTER),
        table_size: u32::try_from(table).unwrap_or(1),
        header_size: 1,
        features: 0,
        compat_features: 0,
        autoclear_features: 0,
        l1_offset: cluster,
        image_size: options.size,
        name_offset: 0,
        name_size: 0,
    };
    header.check_size(options.size)?;
    if let Some(name) = &options.backing_file {
        header.features |= BACKING_FILE;
        header.name_offset = LEN as u32;
        header.name_size = name_size(name)?;
        if options.backing_format.as_deref() == Some("raw") {
            header.features |= NO_PROBE;
        }
    }
    Ok(header)
}

/// The name fits behind the header in the smallest cluster.
const _: () = assert!(LEN as u32 + MAX_NAME <= MIN_CLUSTER);
