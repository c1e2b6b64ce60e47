//! The driver's properties, checked.

use api_spec::{OnOffAuto, QmpError, QmpResult, VirtioBlkPciProps};
use block::{Attachment, WriteCache};

use super::config::feature;
use crate::disk::{BlockSizes, SizeChoice};
use crate::virtio::layout;

/// Largest queue.
const MAX_QUEUE_SIZE: u16 = 1024;
/// Segments of a request where they do not follow the queue's size.
const DEFAULT_SEGMENTS: u32 = 126;
/// Bytes of the serial number (Virtio 1.2, section 5.2.6).
pub(super) const SERIAL_LEN: usize = 20;
/// Most sectors of a discard or a request for zeroes: 2 GiB less one sector.
const MAX_SECTORS: u32 = (i32::MAX as u32) >> 9;

/// What the device is like, once and for all.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub queues: u16,
    pub queue_size: u16,
    pub segments: u32,
    pub read_only: bool,
    pub discard: bool,
    pub write_zeroes: bool,
    pub config_wce: bool,
    /// Neighbouring requests may become one.
    pub merging: bool,
    /// How it begins.
    pub write_cache: WriteCache,
    pub serial: [u8; SERIAL_LEN],
    /// Bytes of a logical block.
    pub logical: u32,
    /// Bytes of a physical block.
    pub physical: u32,
    /// In logical blocks.
    pub min_io: u16,
    /// In logical blocks.
    pub opt_io: u32,
    /// In sectors.
    pub max_discard: u32,
    /// In sectors.
    pub max_write_zeroes: u32,
    /// In sectors.
    pub discard_alignment: u32,
}

impl Disk {
    /// # Errors
    /// In QEMU's words where it refuses them, too.
    pub fn check(props: &VirtioBlkPciProps, vcpus: u64, node: &Attachment) -> QmpResult<Self> {
        let blocks = BlockSizes::check(SizeChoice {
            logical: props.logical_block_size.0,
            physical: props.physical_block_size.0,
            min_io: props.min_io_size.0,
            opt_io: props.opt_io_size.0,
            discard_granularity: props.discard_granularity.map(|size| size.0),
        })?;
        let queue_size = check_queue_size(props.queue_size)?;
        let write_cache = match props.write_cache {
            OnOffAuto::On => WriteCache::Back,
            OnOffAuto::Off => WriteCache::Through,
            OnOffAuto::Auto => node.write_cache(),
        };
        Ok(Disk {
            queues: queues(props.num_queues, vcpus)?,
            queue_size,
            segments: match props.seg_max_adjust {
                true => u32::from(queue_size.saturating_sub(2)),
                false => DEFAULT_SEGMENTS,
            },
            read_only: node.is_read_only(),
            discard: props.discard,
            write_zeroes: props.write_zeroes,
            config_wce: props.config_wce,
            merging: props.request_merging,
            write_cache,
            serial: serial(props.serial.as_deref()),
            logical: blocks.logical,
            physical: blocks.physical,
            min_io: blocks.min_io,
            opt_io: blocks.opt_io,
            max_discard: check_sectors("max-discard-sectors", props.max_discard_sectors)?,
            max_write_zeroes: check_sectors(
                "max-write-zeroes-sectors",
                props.max_write_zeroes_sectors,
            )?,
            discard_alignment: discard_alignment(props, &blocks),
        })
    }

    /// The features it offers (Virtio 1.2, section 5.2.3).
    pub fn features(&self) -> u64 {
        let when = |on: bool, bit: u64| if on { bit } else { 0 };
        feature::SEG_MAX
            | feature::GEOMETRY
            | feature::BLK_SIZE
            | feature::TOPOLOGY
            | when(self.read_only, feature::RO)
            | when(
                self.write_cache == WriteCache::Back || self.config_wce,
                feature::FLUSH,
            )
            | when(self.config_wce, feature::CONFIG_WCE)
            | when(self.queues > 1, feature::MQ)
            | when(self.discard, feature::DISCARD)
            | when(self.write_zeroes, feature::WRITE_ZEROES)
    }
}

/// In sectors.
fn discard_alignment(props: &VirtioBlkPciProps, blocks: &BlockSizes) -> u32 {
    let reported = blocks
        .discard_granularity
        .filter(|_| props.report_discard_granularity);
    let alignment = reported.unwrap_or(blocks.logical.into()) >> 9;
    u32::try_from(alignment).unwrap_or(1).max(1)
}

fn check_queue_size(size: u16) -> QmpResult<u16> {
    let refused = |why: &str| {
        Err(QmpError::generic(format!(
            "invalid queue-size property ({size}), must be {why}"
        )))
    };
    if size <= 2 {
        return refused("> 2");
    }
    if size > MAX_QUEUE_SIZE || !size.is_power_of_two() {
        return refused("a power of 2 (max 1024)");
    }
    Ok(size)
}

fn queues(asked: Option<u16>, vcpus: u64) -> QmpResult<u16> {
    let most = u16::try_from(layout::MAX_QUEUES).unwrap_or(u16::MAX);
    match asked {
        Some(0) => Err(QmpError::generic(
            "num-queues property must be larger than 0",
        )),
        Some(count) if count > most => Err(QmpError::generic(format!(
            "num-queues property ({count}) must be at most {most}"
        ))),
        // QEMU's way to say "leave it to the device" is the largest number, refused above.
        Some(count) => Ok(count),
        None => Ok(u16::try_from(vcpus).unwrap_or(most).clamp(1, most)),
    }
}

fn check_sectors(name: &str, sectors: u32) -> QmpResult<u32> {
    if (1..=MAX_SECTORS).contains(&sectors) {
        return Ok(sectors);
    }
    Err(QmpError::generic(format!(
        "invalid {name} property ({sectors}), must be between 1 and {MAX_SECTORS}"
    )))
}

/// The serial number, cut to its room as QEMU cuts it, filled up with zeroes.
fn serial(text: Option<&str>) -> [u8; SERIAL_LEN] {
    let mut serial = [0; SERIAL_LEN];
    for (to, from) in serial.iter_mut().zip(text.unwrap_or("").bytes()) {
        *to = from;
    }
    serial
}
