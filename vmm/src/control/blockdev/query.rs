//! What queries answer.

mod image;

use api_spec::{
    BlockDeviceInfo, BlockDeviceIoStatus, BlockDeviceStats, BlockInfo, BlockLatencyHistogramInfo,
    BlockStats, BlockStatsSpecific, BlockStatsSpecificBranch, BlockStatsSpecificFile,
    BlockdevCacheInfo, BlockdevDetectZeroesOptions,
};
use block::{
    Account, Activity, BackendView, DetectZeroes, Discard, Histogram, IoStatus, Limits, Measure,
    NodeView, Stats, WriteCache,
};

pub(super) use image::snapshot_info;

use super::media::device_id;

pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether queries tell of what is below as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// They do not.
    Flat,
    /// They do.
    Nested,
}

/// A node, as a user with this write cache sees it; `nodes` are all.
pub(super) fn node_info(
    node: &NodeView,
    nodes: &[NodeView],
    depth: Depth,
    write_cache: WriteCache,
) -> BlockDeviceInfo {
    BlockDeviceInfo {
        file: node.filename.clone(),
        node_name: Some(node.name.clone()),
        ro: node.info.read_only,
        drv: node.driver.to_owned(),
        backing_file: image::backing(node, nodes).map(|below| below.filename.clone()),
        backing_file_depth: match depth {
            Depth::Flat => 0,
            Depth::Nested => image::depth(node, nodes),
        },
        encrypted: false,
        detect_zeroes: match node.spec.detect_zeroes {
            DetectZeroes::Off => BlockdevDetectZeroesOptions::Off,
            DetectZeroes::On => BlockdevDetectZeroesOptions::On,
            DetectZeroes::Unmap => BlockdevDetectZeroesOptions::Unmap,
        },
        bps: 0,
        bps_rd: 0,
        bps_wr: 0,
        iops: 0,
        iops_rd: 0,
        iops_wr: 0,
        bps_max: None,
        bps_rd_max: None,
        bps_wr_max: None,
        iops_max: None,
        iops_rd_max: None,
        iops_wr_max: None,
        bps_max_length: None,
        bps_rd_max_length: None,
        bps_wr_max_length: None,
        iops_max_length: None,
        iops_rd_max_length: None,
        iops_wr_max_length: None,
        iops_size: None,
        group: None,
        image: image::info(node, nodes, depth),
        active: Some(node.activity == Activity::Active),
        cache: BlockdevCacheInfo {
            writeback: write_cache == WriteCache::Back,
            direct: node.spec.direct.unwrap_or(false),
            no_flush: node.spec.no_flush.unwrap_or(false),
        },
        write_threshold: number(node.stats.write_threshold()),
    }
}

/// Fills in what limits a back end. Bursts are shown where there are some.
fn set_limits(info: &mut BlockDeviceInfo, (group, limits): (String, Limits)) {
    let average = |measure| number(limits.rate(measure).average);
    let max = |measure| Some(number(limits.rate(measure).max)).filter(|max| *max > 0);
    let length = |measure| {
        let rate = limits.rate(measure);
        Some(number(rate.max_length)).filter(|_| rate.max > 0)
    };
    info.bps = average(Measure::BpsTotal);
    info.bps_rd = average(Measure::BpsRead);
    info.bps_wr = average(Measure::BpsWrite);
    info.iops = average(Measure::IopsTotal);
    info.iops_rd = average(Measure::IopsRead);
    info.iops_wr = average(Measure::IopsWrite);
    info.bps_max = max(Measure::BpsTotal);
    info.bps_rd_max = max(Measure::BpsRead);
    info.bps_wr_max = max(Measure::BpsWrite);
    info.iops_max = max(Measure::IopsTotal);
    info.iops_rd_max = max(Measure::IopsRead);
    info.iops_wr_max = max(Measure::IopsWrite);
    info.bps_max_length = length(Measure::BpsTotal);
    info.bps_rd_max_length = length(Measure::BpsRead);
    info.bps_wr_max_length = length(Measure::BpsWrite);
    info.iops_max_length = length(Measure::IopsTotal);
    info.iops_rd_max_length = length(Measure::IopsRead);
    info.iops_wr_max_length = length(Measure::IopsWrite);
    info.iops_size = Some(number(limits.iops_size)).filter(|size| *size > 0);
    info.group = Some(group);
}

/// A back end. Its status is told where failures may stop the machine.
pub(super) fn block_info(backend: BackendView, nodes: &[NodeView]) -> BlockInfo {
    let BackendView {
        name,
        device,
        root,
        stats: _,
        write_cache,
        throttle,
        error_policy,
        io_status,
        removable,
        tray,
    } = backend;
    let inserted = root.map(|root| {
        let mut info = node_info(&root, nodes, Depth::Nested, write_cache);
        if let Some(throttle) = throttle {
            set_limits(&mut info, throttle);
        }
        info
    });
    let told = device.is_some() && error_policy.may_stop();
    BlockInfo {
        device: name,
        r#type: "unknown".to_owned(),
        removable,
        locked: tray.is_some_and(|tray| tray.locked),
        inserted,
        tray_open: tray.map(|tray| tray.open),
        io_status: told.then_some(match io_status {
            IoStatus::Ok => BlockDeviceIoStatus::Ok,
            IoStatus::Failed => BlockDeviceIoStatus::Failed,
            IoStatus::NoSpace => BlockDeviceIoStatus::Nospace,
        }),
        qdev: device.as_deref().map(shown),
    }
}

/// How the device with that QOM path is shown.
fn shown(path: &str) -> String {
    device_id(path).to_owned()
}

/// A back end's counters, with those of the nodes below it.
pub(super) fn device_stats(backend: &BackendView, nodes: &[NodeView]) -> BlockStats {
    BlockStats {
        device: Some(backend.name.clone()),
        qdev: backend.device.as_deref().map(shown),
        node_name: backend.root.as_ref().map(|root| root.name.clone()),
        stats: BlockDeviceStats {
            account_invalid: true,
            account_failed: true,
            ..counters(&backend.stats)
        },
        driver_specific: backend.root.as_ref().and_then(specific),
        parent: backend.root.as_ref().and_then(|root| below(root, nodes)),
        backing: backend
            .root
            .as_ref()
            .and_then(|root| backing_stats(root, nodes)),
    }
}

/// A node's counters, with those of the nodes below it.
pub(super) fn node_stats(node: &NodeView, nodes: &[NodeView]) -> BlockStats {
    BlockStats {
        device: None,
        qdev: None,
        node_name: Some(node.name.clone()),
        stats: counters(&node.stats),
        driver_specific: specific(node),
        parent: below(node, nodes),
        backing: None,
    }
}

/// What only files count.
fn specific(node: &NodeView) -> Option<BlockStatsSpecific> {
    let unmap = node.stats.counts(Account::Unmap);
    // Those that are ignored are counted with the others, but not here.
    let done = |count: u64| match node.spec.discard {
        Some(Discard::Unmap) => count,
        Some(Discard::Ignore) | None => 0,
    };
    let file = BlockStatsSpecificFile {
        discard_nb_ok: done(unmap.operations),
        discard_nb_failed: done(unmap.failed),
        discard_bytes_ok: done(unmap.bytes),
    };
    let driver = match node.driver {
        "file" => BlockStatsSpecificBranch::File(file),
        "host_device" => BlockStatsSpecificBranch::HostDevice(file),
        _ => return None,
    };
    Some(BlockStatsSpecific { driver })
}

/// The same of a device's image, with those of the images below it.
fn chain_stats(node: &NodeView, nodes: &[NodeView]) -> BlockStats {
    BlockStats {
        backing: backing_stats(node, nodes),
        ..node_stats(node, nodes)
    }
}

fn backing_stats(node: &NodeView, nodes: &[NodeView]) -> Option<Box<BlockStats>> {
    let below = image::chained(node, nodes)?;
    Some(Box::new(chain_stats(below, nodes)))
}

fn below(node: &NodeView, nodes: &[NodeView]) -> Option<Box<BlockStats>> {
    let (_, name) = node
        .children
        .iter()
        .find(|(role, _)| role.name() == "file")?;
    let child = nodes.iter().find(|node| node.name == *name)?;
    Some(Box::new(node_stats(child, nodes)))
}

fn counters(stats: &Stats) -> BlockDeviceStats {
    let read = stats.counts(Account::Read);
    let write = stats.counts(Account::Write);
    let flush = stats.counts(Account::Flush);
    let unmap = stats.counts(Account::Unmap);
    BlockDeviceStats {
        rd_bytes: number(read.bytes),
        wr_bytes: number(write.bytes),
        zone_append_bytes: 0,
        unmap_bytes: number(unmap.bytes),
        rd_operations: number(read.operations),
        wr_operations: number(write.operations),
        zone_append_operations: 0,
        flush_operations: number(flush.operations),
        unmap_operations: number(unmap.operations),
        rd_total_time_ns: number(read.total_time_ns),
        wr_total_time_ns: number(write.total_time_ns),
        zone_append_total_time_ns: 0,
        flush_total_time_ns: number(flush.total_time_ns),
        unmap_total_time_ns: number(unmap.total_time_ns),
        wr_highest_offset: number(stats.highest_offset()),
        // Requests are never merged here.
        rd_merged: 0,
        wr_merged: 0,
        zone_append_merged: 0,
        unmap_merged: 0,
        idle_time_ns: stats.idle_ns().map(number),
        failed_rd_operations: number(read.failed),
        failed_wr_operations: number(write.failed),
        failed_zone_append_operations: 0,
        failed_flush_operations: number(flush.failed),
        failed_unmap_operations: number(unmap.failed),
        invalid_rd_operations: number(read.invalid),
        invalid_wr_operations: number(write.invalid),
        invalid_zone_append_operations: 0,
        invalid_flush_operations: number(flush.invalid),
        invalid_unmap_operations: number(unmap.invalid),
        account_invalid: false,
        account_failed: false,
        timed_stats: Vec::new(),
        rd_latency_histogram: stats.histogram(Account::Read).map(histogram),
        wr_latency_histogram: stats.histogram(Account::Write).map(histogram),
        zone_append_latency_histogram: stats.zone_append_histogram().map(histogram),
        flush_latency_histogram: stats.histogram(Account::Flush).map(histogram),
    }
}

fn histogram(histogram: Histogram) -> BlockLatencyHistogramInfo {
    let Histogram { boundaries, bins } = histogram;
    BlockLatencyHistogramInfo { boundaries, bins }
}
