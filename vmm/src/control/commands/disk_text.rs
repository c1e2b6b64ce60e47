//! Text commands about disks.

use std::fmt::Write;

use api_spec::keyval::{self, Flags};
use api_spec::{
    BlockDeviceInfo, BlockIOThrottle, BlockInfo, BlockResizeArgs, BlockdevChangeMediumArgs,
    BlockdevDetectZeroesOptions, BlockdevOptions, BlockdevSnapshotDeleteInternalSyncArgs,
    BlockdevSnapshotInternal, BlockdevSnapshotSync, Mode, NewImageMode, QmpError, QmpResult, Reply,
    Value, decode_value,
};

use super::text::said;
use crate::control::Control;
use crate::control::hmp::{self, BlockQuery, DiskLine};

fn answer(result: QmpResult<()>) -> QmpResult<String> {
    Ok(hmp::wire(&said(result.map(|()| String::new()))))
}

/// What drive_add and drive_del say has nothing before it; management software compares it.
fn said_plainly(result: QmpResult<String>) -> String {
    result.unwrap_or_else(|error| format!("{}\n", error.desc))
}

fn answer_plainly(result: QmpResult<()>) -> QmpResult<String> {
    Ok(hmp::wire(&said_plainly(result.map(|()| String::new()))))
}

impl Control {
    pub(super) fn run_disk(&mut self, line: DiskLine, reply: Reply<String>) {
        match line {
            DiskLine::Eject { device, force } => {
                let place = self.place(Some(&device), None);
                self.with_place(place, reply, answer, move |place| place.eject(force));
            }
            DiskLine::Change {
                device,
                file,
                format,
                mode,
                force,
            } => {
                let args = BlockdevChangeMediumArgs {
                    device: Some(device),
                    id: None,
                    filename: file,
                    format,
                    force: Some(force),
                    read_only_mode: Some(mode),
                };
                self.change_medium(args, reply, answer);
            }
            DiskLine::Resize { device, size } => {
                let args = BlockResizeArgs {
                    device: Some(device),
                    node_name: None,
                    size,
                };
                self.change_graph(reply, move |graph| answer(graph.resize(&args)));
            }
            DiskLine::Throttle { device, limits } => {
                let set = self.blockdevs.set_io_throttle(&throttle(device, limits));
                reply.send(answer(set.map_err(QmpError::from)));
            }
            DiskLine::Snapshot {
                device,
                file,
                format,
                reuse,
            } => {
                let args = BlockdevSnapshotSync {
                    device: Some(device),
                    node_name: None,
                    snapshot_file: file,
                    snapshot_node_name: None,
                    format,
                    mode: Some(match reuse {
                        true => NewImageMode::Existing,
                        false => NewImageMode::AbsolutePaths,
                    }),
                };
                self.change_graph(reply, |graph| answer(graph.snapshot_sync(args)));
            }
            DiskLine::InternalSnapshot { device, name } => {
                let args = BlockdevSnapshotInternal { device, name };
                self.change_graph(reply, |graph| answer(graph.snapshot_internal(args)));
            }
            DiskLine::DeleteSnapshot { device, name, id } => {
                let args = BlockdevSnapshotDeleteInternalSyncArgs {
                    device,
                    id,
                    name: Some(name),
                };
                self.change_graph(reply, move |graph| {
                    answer(graph.delete_snapshot(&args).map(drop))
                });
            }
            DiskLine::DriveAdd { options, node } => {
                let added = match node {
                    true => self.add_node_text(&options).map(|()| String::new()),
                    false => self
                        .blockdevs
                        .hot_drive(&options, &mut self.fds.opener())
                        .map(|()| "OK\n".to_owned())
                        .map_err(QmpError::from),
                };
                reply.send(Ok(hmp::wire(&said_plainly(added))));
            }
            DiskLine::DriveDel { id } => {
                if self.blockdevs.has_node(&id) {
                    return self.delete_node(&id, reply, answer_plainly);
                }
                let place = self.place(Some(&id), None);
                self.with_place(place, reply, answer_plainly, |place| place.abandon());
            }
        }
    }

    /// `drive_add -n`: what `-blockdev` has.
    fn add_node_text(&mut self, text: &str) -> QmpResult<()> {
        let parsed = keyval::parse(text, Some("driver"), Flags::Refused)?;
        let options: BlockdevOptions = match parsed {
            keyval::Argument::Json(object) => decode_value(Value::Object(object), Mode::Strict)?,
            text @ (keyval::Argument::Text(_) | keyval::Argument::Help(_)) => text.decode()?,
        };
        Ok(self.add_block_node(options)?)
    }

    pub(super) fn tell_block(&self, query: &BlockQuery) -> String {
        let mut parts = Vec::new();
        if query.nodes {
            for node in self.blockdevs.query_named_block_nodes(false) {
                if is_wanted(query, node.node_name.as_deref()) {
                    parts.push(block(None, Some(&node), query.verbose));
                }
            }
        } else {
            for info in self.blockdevs.query_block() {
                if is_wanted(query, Some(&info.device)) {
                    parts.push(block(Some(&info), info.inserted.as_ref(), query.verbose));
                }
            }
        }
        parts.join("\n")
    }

    pub(super) fn tell_block_stats(&self) -> String {
        let mut text = String::new();
        for entry in self.blockdevs.query_blockstats(false) {
            let stats = &entry.stats;
            let _ = writeln!(
                text,
                "{}: rd_bytes={} wr_bytes={} rd_operations={} wr_operations={} \
                 flush_operations={} wr_total_time_ns={} rd_total_time_ns={} \
                 flush_total_time_ns={} rd_merged={} wr_merged={} idle_time_ns={}",
                entry.device.as_deref().unwrap_or_default(),
                stats.rd_bytes,
                stats.wr_bytes,
                stats.rd_operations,
                stats.wr_operations,
                stats.flush_operations,
                stats.wr_total_time_ns,
                stats.rd_total_time_ns,
                stats.flush_total_time_ns,
                stats.rd_merged,
                stats.wr_merged,
                stats.idle_time_ns.unwrap_or(0),
            );
        }
        text
    }
}

fn throttle(device: String, limits: [i64; 6]) -> BlockIOThrottle {
    let [bps, bps_rd, bps_wr, iops, iops_rd, iops_wr] = limits;
    BlockIOThrottle {
        device: Some(device),
        id: None,
        bps,
        bps_rd,
        bps_wr,
        iops,
        iops_rd,
        iops_wr,
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
    }
}

fn is_wanted(query: &BlockQuery, name: Option<&str>) -> bool {
    query.only.is_none() || query.only.as_deref() == name
}

/// A device, or a node.
fn block(device: Option<&BlockInfo>, inserted: Option<&BlockDeviceInfo>, verbose: bool) -> String {
    let node = inserted.and_then(|node| node.node_name.as_deref());
    let drive = device.map(|device| device.device.as_str());
    let mut text = match (drive.filter(|name| !name.is_empty()), node) {
        (Some(drive), Some(node)) => format!("{drive} ({node})"),
        (Some(drive), None) => drive.to_owned(),
        (None, Some(node)) => node.to_owned(),
        (None, None) => {
            let qdev = device.and_then(|device| device.qdev.as_deref());
            qdev.unwrap_or("<anonymous>").to_owned()
        }
    };
    match inserted {
        None => text.push_str(": [not inserted]\n"),
        Some(node) => {
            let (file, driver) = (&node.file, &node.drv);
            let read_only = if node.ro { ", read-only" } else { "" };
            let _ = writeln!(text, ": {file} ({driver}{read_only})");
        }
    }
    if let Some(device) = device {
        device_lines(&mut text, device);
    }
    if let Some(node) = inserted {
        node_lines(&mut text, node);
        if verbose {
            image_lines(&mut text, node);
        }
    }
    text
}

fn device_lines(text: &mut String, device: &BlockInfo) {
    if let Some(qdev) = &device.qdev {
        let _ = writeln!(text, "    Attached to:      {qdev}");
    }
    if let Some(status) = device.io_status
        && status != api_spec::BlockDeviceIoStatus::Ok
    {
        let _ = writeln!(text, "    I/O status:       {}", status.name());
    }
    if device.removable {
        let not = if device.locked { "" } else { "not " };
        let tray = match device.tray_open {
            Some(true) => "open",
            Some(false) | None => "closed",
        };
        let _ = writeln!(text, "    Removable device: {not}locked, tray {tray}");
    }
}

fn node_lines(text: &mut String, node: &BlockDeviceInfo) {
    let cache = &node.cache;
    let mode = match cache.writeback {
        true => "writeback",
        false => "writethrough",
    };
    let direct = if cache.direct { ", direct" } else { "" };
    let flush = match cache.no_flush {
        true => ", ignore flushes",
        false => "",
    };
    let _ = writeln!(text, "    Cache mode:       {mode}{direct}{flush}");
    if let Some(file) = &node.backing_file {
        let depth = node.backing_file_depth;
        let _ = writeln!(text, "    Backing file:     {file} (chain depth: {depth})");
    }
    if node.detect_zeroes != BlockdevDetectZeroesOptions::Off {
        let _ = writeln!(text, "    Detect zeroes:    {}", node.detect_zeroes.name());
    }
    if let Some(group) = &node.group {
        limits_line(text, node, group);
    }
}

/// What limits a disk.
fn limits_line(text: &mut String, info: &BlockDeviceInfo, group: &str) {
    let max = |value: Option<i64>| value.unwrap_or(0);
    let numbers = [
        ("bps", info.bps),
        ("bps_rd", info.bps_rd),
        ("bps_wr", info.bps_wr),
        ("bps_max", max(info.bps_max)),
        ("bps_rd_max", max(info.bps_rd_max)),
        ("bps_wr_max", max(info.bps_wr_max)),
        ("iops", info.iops),
        ("iops_rd", info.iops_rd),
        ("iops_wr", info.iops_wr),
        ("iops_max", max(info.iops_max)),
        ("iops_rd_max", max(info.iops_rd_max)),
        ("iops_wr_max", max(info.iops_wr_max)),
        ("iops_size", max(info.iops_size)),
    ];
    text.push_str("    I/O throttling:  ");
    for (name, value) in numbers {
        let _ = write!(text, " {name}={value}");
    }
    let _ = writeln!(text, " group={group}");
}

fn image_lines(text: &mut String, node: &BlockDeviceInfo) {
    let image = &node.image;
    let size = u64::try_from(image.virtual_size).unwrap_or(0);
    let stored = image.actual_size.and_then(|size| u64::try_from(size).ok());
    let _ = writeln!(text, "\nImages:\nimage: {}", image.filename);
    let _ = writeln!(text, "file format: {}", image.format);
    let _ = writeln!(text, "virtual size: {} ({size} bytes)", human(size));
    let stored = stored.map_or("unavailable".to_owned(), human);
    let _ = writeln!(text, "disk size: {stored}");
    if let Some(size) = image.cluster_size {
        let _ = writeln!(text, "cluster_size: {size}");
    }
    if image.dirty_flag == Some(true) {
        text.push_str("cleanly shut down: no\n");
    }
    if let Some(file) = &image.backing_filename {
        let full = image.full_backing_filename.as_deref();
        let full = full.filter(|full| full != file);
        let full = full.map_or(String::new(), |full| format!(" (actual path: {full})"));
        let _ = writeln!(text, "backing file: {file}{full}");
    }
    if let Some(format) = &image.backing_filename_format {
        let _ = writeln!(text, "backing file format: {format}");
    }
}

/// Bytes with three digits and a binary unit.
pub(in crate::control) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut unit = 0;
    let mut value = bytes as f64;
    // 1000 of a unit would need a fourth digit.
    while value >= 999.5 && unit < 6 {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number = match digits {
        0 => number.as_str(),
        _ => number.trim_end_matches('0').trim_end_matches('.'),
    };
    format!("{number} {}B", UNITS.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1000, "0.98 KiB"),
            (1024, "1 KiB"),
            (196_608, "192 KiB"),
            (1 << 30, "1 GiB"),
            (1_610_612_736, "1.5 GiB"),
            (10_995_116_277_760, "10 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
