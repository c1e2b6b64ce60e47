//! What is told of images, and of those below them.

use api_spec::{
    ImageInfo, ImageInfoSpecific, ImageInfoSpecificBranch as Branch, ImageInfoSpecificFile,
    ImageInfoSpecificFileWrapper, ImageInfoSpecificQCow2, ImageInfoSpecificQCow2Wrapper,
    ImageInfoSpecificVmdk, ImageInfoSpecificVmdkWrapper, Qcow2BitmapInfo, Qcow2CompressionType,
    SnapshotInfo, VmdkExtentInfo,
};
use block::{NodeView, Qcow2View, Role, SnapshotView, Specific, VmdkView};

use super::{Depth, number};

const SECOND: u64 = 1_000_000_000;

fn child<'a>(node: &NodeView, nodes: &'a [NodeView], part: Role) -> Option<&'a NodeView> {
    let (_, name) = node.children.iter().find(|(role, _)| *role == part)?;
    nodes.iter().find(|node| node.name == *name)
}

/// An image's backing file.
pub(super) fn backing<'a>(node: &NodeView, nodes: &'a [NodeView]) -> Option<&'a NodeView> {
    child(node, nodes, Role::Backing)
}

/// The image below: the backing file, or what a filter is on.
pub(super) fn chained<'a>(node: &NodeView, nodes: &'a [NodeView]) -> Option<&'a NodeView> {
    match node.driver {
        "throttle" => child(node, nodes, Role::Filtered),
        "copy-on-read" => child(node, nodes, Role::Copied),
        "blkdebug" => child(node, nodes, Role::Image),
        _ => backing(node, nodes),
    }
}

/// How many images are below it.
pub(super) fn depth(node: &NodeView, nodes: &[NodeView]) -> i64 {
    let mut below = chained(node, nodes);
    let mut depth = 0i64;
    while let Some(next) = below {
        depth = depth.saturating_add(1);
        below = chained(next, nodes);
    }
    depth
}

/// The node that knows of clusters and damage: the image itself, or what filters are on. Nodes
/// without storage know nothing of it.
fn knowing<'a>(node: &'a NodeView, nodes: &'a [NodeView]) -> Option<&'a NodeView> {
    let mut node = node;
    loop {
        let part = match node.driver {
            "null-co" | "blkdebug" => return None,
            "raw" | "throttle" => Role::Filtered,
            "copy-on-read" => Role::Copied,
            _ => return Some(node),
        };
        node = child(node, nodes, part)?;
    }
}

/// An image, with those below it.
pub(super) fn info(node: &NodeView, nodes: &[NodeView], depth: Depth) -> ImageInfo {
    let below = chained(node, nodes).filter(|_| depth == Depth::Nested);
    let image = node.image.clone().unwrap_or_default();
    let known = knowing(node, nodes).map(|node| node.image.clone().unwrap_or_default());
    let snapshots: Vec<_> = node.snapshots.iter().map(snapshot_info).collect();
    ImageInfo {
        filename: node.filename.clone(),
        format: node.driver.to_owned(),
        dirty_flag: known.as_ref().map(|image| image.dirty),
        actual_size: node
            .allocated
            .filter(|_| node.driver != "blkdebug")
            .map(number),
        virtual_size: number(node.info.size),
        cluster_size: known.and_then(|image| image.cluster_size).map(number),
        encrypted: None,
        compressed: Some(image.compressed).filter(|compressed| *compressed),
        backing_filename: image.backing_file,
        full_backing_filename: node.full_backing.clone(),
        backing_filename_format: image.backing_format,
        snapshots: Some(snapshots).filter(|snapshots| !snapshots.is_empty()),
        backing_image: below.map(|below| Box::new(info(below, nodes, depth))),
        format_specific: specific(node.driver, image.specific),
    }
}

/// A snapshot inside of an image.
pub(in super::super) fn snapshot_info(view: &SnapshotView) -> SnapshotInfo {
    SnapshotInfo {
        id: view.id.clone(),
        name: view.name.clone(),
        vm_state_size: number(view.vm_state_size),
        date_sec: i64::from(view.date_sec),
        date_nsec: i64::from(view.date_nsec),
        vm_clock_sec: number(view.vm_clock_nsec / SECOND),
        vm_clock_nsec: number(view.vm_clock_nsec % SECOND),
        icount: view.icount.map(number),
    }
}

fn specific(driver: &str, facts: Option<Specific>) -> Option<ImageInfoSpecific> {
    let branch = match facts {
        Some(Specific::Qcow2(view)) => {
            Branch::Qcow2(ImageInfoSpecificQCow2Wrapper { data: qcow2(view) })
        }
        Some(Specific::Vmdk(view)) => {
            Branch::Vmdk(ImageInfoSpecificVmdkWrapper { data: vmdk(view) })
        }
        None if driver == "file" => Branch::File(ImageInfoSpecificFileWrapper {
            data: ImageInfoSpecificFile {
                extent_size_hint: None,
            },
        }),
        None => return None,
    };
    Some(ImageInfoSpecific { r#type: branch })
}

/// Version 2 knows nothing of most of it.
fn qcow2(view: Qcow2View) -> ImageInfoSpecificQCow2 {
    let newer = view.compat != "0.10";
    let bitmap = |(name, granularity): (String, u64)| Qcow2BitmapInfo {
        name,
        granularity: u32::try_from(granularity).unwrap_or(u32::MAX),
        flags: Vec::new(),
    };
    let bitmaps: Vec<_> = view.bitmaps.into_iter().map(bitmap).collect();
    ImageInfoSpecificQCow2 {
        compat: view.compat.to_owned(),
        data_file_raw: view.data_file.as_ref().map(|_| view.data_file_raw),
        data_file: view.data_file,
        extended_l2: newer.then_some(view.extended_l2),
        lazy_refcounts: newer.then_some(view.lazy_refcounts),
        corrupt: newer.then_some(view.corrupt),
        refcount_bits: i64::from(view.refcount_bits),
        bitmaps: Some(bitmaps).filter(|bitmaps| !bitmaps.is_empty()),
        compression_type: match view.compression {
            "zstd" => Qcow2CompressionType::Zstd,
            _ => Qcow2CompressionType::Zlib,
        },
    }
}

fn vmdk(view: VmdkView) -> ImageInfoSpecificVmdk {
    let extent = |(filename, size, format): (String, u64, &str)| VmdkExtentInfo {
        filename,
        format: format.to_owned(),
        virtual_size: number(size),
        cluster_size: None,
        compressed: None,
    };
    ImageInfoSpecificVmdk {
        create_type: view.create_type,
        cid: i64::from(view.cid),
        parent_cid: i64::from(view.parent_cid),
        extents: view.extents.into_iter().map(extent).collect(),
    }
}
