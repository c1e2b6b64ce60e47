//! Device configuration space and feature bits (Virtio 1.2, sections 5.6.3 and 5.6.4).

use api_spec::{QmpError, QmpResult, VirtioScsiPciProps};

use crate::scsi::BusLimits;

/// Feature bits.
pub(super) mod feature {
    /// Logical units come and go, and the driver is told.
    pub const HOTPLUG: u64 = 1 << 1;
    /// Logical units change, and the driver is told.
    pub const CHANGE: u64 = 1 << 2;
}

/// Bytes.
pub(super) const LEN: usize = 36;
/// Offsets of what the driver writes.
const SENSE_SIZE: usize = 20;
const CDB_SIZE: usize = 24;
/// Bytes of an event.
pub(super) const EVENT_LEN: usize = 16;

const DEFAULT_SENSE: u32 = 96;
const DEFAULT_CDB: u32 = 32;
/// What drivers may choose at most.
const MOST_SENSE: u32 = 65536;
const MOST_CDB: u32 = 255;

/// Queues beside those for requests: for control and for events.
pub(super) const FIXED_QUEUES: u16 = 2;
/// Request queues, as many as QEMU takes.
const MAX_QUEUES: u32 = 1022;
const MAX_QUEUE_SIZE: u32 = 1024;
/// Segments of a request where they do not follow the queue's size.
const DEFAULT_SEGMENTS: u32 = 126;

/// The largest numbers on the bus.
pub(super) const LIMITS: BusLimits = BusLimits {
    channel: 0,
    target: 255,
    lun: 16383,
};

/// What the controller is like, once and for all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// For requests.
    pub queues: u16,
    pub queue_size: u16,
    pub segments: u32,
    pub max_sectors: u32,
    pub per_lun: u32,
    pub hotplug: bool,
    pub param_change: bool,
}

impl Choice {
    /// # Errors
    /// In QEMU's words where it refuses them, too.
    pub fn check(props: &VirtioScsiPciProps, vcpus: u64) -> QmpResult<Self> {
        // QEMU's way to say "leave it to the device" is the largest number.
        let asked = props.num_queues.filter(|count| *count != u32::MAX);
        let most = u64::from(MAX_QUEUES.saturating_sub(1));
        let automatic = u32::try_from(vcpus.clamp(1, most)).unwrap_or(1);
        let queues = asked.unwrap_or(automatic);
        if queues == 0 || queues >= MAX_QUEUES {
            return Err(QmpError::generic(format!(
                "Invalid number of queues (= {queues}), must be a positive integer less than \
                 {MAX_QUEUES}."
            )));
        }
        let size = props.virtqueue_size;
        if size <= 2 {
            return Err(QmpError::generic(format!(
                "invalid virtqueue_size property (= {size}), must be > 2"
            )));
        }
        if size > MAX_QUEUE_SIZE || !size.is_power_of_two() {
            return Err(QmpError::generic(format!(
                "invalid virtqueue_size property (= {size}), must be a power of 2 (max \
                 {MAX_QUEUE_SIZE})"
            )));
        }
        Ok(Choice {
            queues: u16::try_from(queues).unwrap_or(1),
            queue_size: u16::try_from(size).unwrap_or(u16::MAX),
            segments: match props.seg_max_adjust {
                true => size.saturating_sub(2),
                false => DEFAULT_SEGMENTS,
            },
            max_sectors: props.max_sectors,
            per_lun: props.cmd_per_lun,
            hotplug: props.hotplug,
            param_change: props.param_change,
        })
    }

    /// The features it offers.
    pub fn features(&self) -> u64 {
        let when = |on: bool, bit: u64| if on { bit } else { 0 };
        when(self.hotplug, feature::HOTPLUG) | when(self.param_change, feature::CHANGE)
    }
}

/// What the driver chooses: bytes in requests and in their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub sense: u32,
    pub cdb: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            sense: DEFAULT_SENSE,
            cdb: DEFAULT_CDB,
        }
    }
}

impl Sizes {
    /// `None` for sizes that no request can have.
    pub fn checked(sense: u32, cdb: u32) -> Option<Self> {
        (sense <= MOST_SENSE && cdb <= MOST_CDB).then_some(Sizes { sense, cdb })
    }

    /// The same after the driver wrote to configuration space. Sizes that no request can have
    /// are left alone, as writes of other widths are.
    pub fn written(self, offset: usize, data: &[u8]) -> Self {
        let Ok(bytes) = <[u8; 4]>::try_from(data) else {
            return self;
        };
        let value = u32::from_le_bytes(bytes);
        let sizes = match offset {
            SENSE_SIZE => Sizes::checked(value, self.cdb),
            CDB_SIZE => Sizes::checked(self.sense, value),
            _ => None,
        };
        sizes.unwrap_or(self)
    }
}

/// Configuration space as the driver reads it.
pub(super) fn space(choice: &Choice, sizes: Sizes) -> [u8; LEN] {
    let mut space = [0; LEN];
    let words = [
        choice.queues.into(),
        choice.segments,
        choice.max_sectors,
        choice.per_lun,
        EVENT_LEN as u32,
        sizes.sense,
        sizes.cdb,
        // The largest channel and the largest target, two bytes each.
        LIMITS.channel & 0xffff | u32::from(LIMITS.target) << 16,
        LIMITS.lun.into(),
    ];
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    for (to, from) in space.iter_mut().zip(bytes) {
        *to = from;
    }
    space
}
