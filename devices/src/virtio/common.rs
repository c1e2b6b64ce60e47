//! The common configuration structure (Virtio 1.2, section 4.1.4.3): feature negotiation, status
//! and the set-up of queues.
//!
//! ```text
//! 0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK      (bits only add up)
//! any -- driver writes 0 --> reset: the queues stop, then status reads 0
//! any -- driver breaks the rules --> + NEEDS_RESET
//! ```

use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::signals::{NO_VECTOR, QueueVector, Signals};

/// Bytes of the structure.
pub const LEN: usize = 0x38;

/// Bits of device status (Virtio 1.2, section 2.1).
pub mod status {
    #![allow(missing_docs)] // the names are the specification's
    pub const ACKNOWLEDGE: u8 = 1;
    pub const DRIVER: u8 = 2;
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 64;
    pub const FAILED: u8 = 128;
}

/// Feature bits of the transport (Virtio 1.2, section 6).
pub mod feature {
    #![allow(missing_docs)] // the names are the specification's
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
}

/// What a write asks the transport for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The driver resets the device.
    Reset,
    /// The driver is ready.
    DriverOk,
}

/// A queue as the driver set it up.
#[derive(Debug, Clone)]
pub struct QueueSetup {
    /// Most entries.
    pub max_size: u16,
    /// Entries; a power of two.
    pub size: u16,
    /// MSI-X vector, shared with the queue's interrupt.
    pub vector: Arc<QueueVector>,
    /// The driver finished setting it up.
    pub enabled: bool,
    /// Guest address of the descriptor table.
    pub desc: u64,
    /// Guest address of the available ring.
    pub driver: u64,
    /// Guest address of the used ring.
    pub device: u64,
    /// Next entry of the available ring, while no worker has it.
    pub next_avail: u16,
    /// Next entry of the used ring, while no worker has it.
    pub next_used: u16,
    /// Heads to take before what is in the ring, while no worker has it.
    pub again: Vec<u16>,
    /// Signalled by kicks; there while the queue is enabled.
    pub kick: Option<Arc<EventFd>>,
}

impl QueueSetup {
    fn new(max_size: u16) -> Self {
        QueueSetup {
            max_size,
            size: max_size,
            vector: Arc::default(),
            enabled: false,
            desc: 0,
            driver: 0,
            device: 0,
            next_avail: 0,
            next_used: 0,
            again: Vec::new(),
            kick: None,
        }
    }

    fn reset(&mut self, signals: &Signals) {
        signals.move_queue(&self.vector, NO_VECTOR);
        *self = QueueSetup {
            vector: self.vector.clone(),
            ..Self::new(self.max_size)
        };
    }

    /// The rings as a queue for a worker; `None` when addresses or size break the rules
    /// (Virtio 1.2, section 2.7).
    pub fn to_queue(&self, event_idx: bool) -> Option<Queue> {
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(self.size).ok()?;
        queue
            .try_set_desc_table_address(GuestAddress(self.desc))
            .ok()?;
        queue
            .try_set_avail_ring_address(GuestAddress(self.driver))
            .ok()?;
        queue
            .try_set_used_ring_address(GuestAddress(self.device))
            .ok()?;
        queue.set_event_idx(event_idx);
        queue.set_next_avail(self.next_avail);
        queue.set_next_used(self.next_used);
        queue.set_ready(true);
        Some(queue)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    NumQueues,
    Status,
    Generation,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOff,
    QueueDesc,
    QueueDriver,
    QueueDevice,
}

const FIELDS: [(Field, usize, usize); 16] = [
    (Field::DeviceFeatureSelect, 0x00, 4),
    (Field::DeviceFeature, 0x04, 4),
    (Field::DriverFeatureSelect, 0x08, 4),
    (Field::DriverFeature, 0x0c, 4),
    (Field::ConfigVector, 0x10, 2),
    (Field::NumQueues, 0x12, 2),
    (Field::Status, 0x14, 1),
    (Field::Generation, 0x15, 1),
    (Field::QueueSelect, 0x16, 2),
    (Field::QueueSize, 0x18, 2),
    (Field::QueueVector, 0x1a, 2),
    (Field::QueueEnable, 0x1c, 2),
    (Field::QueueNotifyOff, 0x1e, 2),
    (Field::QueueDesc, 0x20, 8),
    (Field::QueueDriver, 0x28, 8),
    (Field::QueueDevice, 0x30, 8),
];

/// The registers.
pub struct CommonConfig {
    /// What the device offers.
    pub offered: u64,
    /// What the driver took.
    pub accepted: u64,
    /// Status, without NEEDS_RESET.
    pub status: u8,
    /// The queues.
    pub queues: Vec<QueueSetup>,
    /// Which 32 bits of `offered` are shown.
    pub device_feature_select: u32,
    /// Which 32 bits of `accepted` are shown.
    pub driver_feature_select: u32,
    /// Which queue is shown.
    pub queue_select: u16,
    signals: Arc<Signals>,
}

impl CommonConfig {
    /// Registers of a device that offers `offered` and has queues of at most these sizes.
    pub fn new(offered: u64, queue_sizes: &[u16], signals: Arc<Signals>) -> Self {
        CommonConfig {
            offered,
            accepted: 0,
            status: 0,
            queues: queue_sizes
                .iter()
                .map(|size| QueueSetup::new(*size))
                .collect(),
            device_feature_select: 0,
            driver_feature_select: 0,
            queue_select: 0,
            signals,
        }
    }

    /// Whether the driver is ready and the features were agreed on.
    pub fn is_live(&self) -> bool {
        let both = status::DRIVER_OK | status::FEATURES_OK;
        self.status & both == both
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        self.accepted = 0;
        self.status = 0;
        self.device_feature_select = 0;
        self.driver_feature_select = 0;
        self.queue_select = 0;
        let signals = &*self.signals;
        self.queues
            .iter_mut()
            .for_each(|queue| queue.reset(signals));
        self.signals.reset();
    }

    /// Reads registers; bytes behind them are zero.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        let image = self.image();
        for (at, byte) in (offset..).zip(data) {
            *byte = image.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes registers.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Option<Request> {
        let mut image = self.image();
        let end = offset.saturating_add(data.len());
        for (at, value) in (offset..).zip(data) {
            if let Some(byte) = image.get_mut(at) {
                *byte = *value;
            }
        }
        let mut request = None;
        for (field, at, len) in FIELDS {
            if at < end && offset < at + len {
                let mut value = [0; 8];
                let bytes = image.get(at..at + len).unwrap_or(&[]);
                value
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = *from);
                request = self.set(field, u64::from_le_bytes(value)).or(request);
            }
        }
        request
    }

    fn image(&self) -> [u8; LEN] {
        let mut image = [0; LEN];
        for (field, at, len) in FIELDS {
            let value = self.get(field).to_le_bytes();
            if let Some(bytes) = image.get_mut(at..at + len) {
                bytes
                    .iter_mut()
                    .zip(value)
                    .for_each(|(to, from)| *to = from);
            }
        }
        image
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::from(self.queue_select))
    }

    fn get(&self, field: Field) -> u64 {
        let queue = |of: fn(&QueueSetup) -> u64| self.queue().map_or(0, of);
        match field {
            Field::DeviceFeatureSelect => self.device_feature_select.into(),
            Field::DeviceFeature => half(self.offered, self.device_feature_select),
            Field::DriverFeatureSelect => self.driver_feature_select.into(),
            Field::DriverFeature => half(self.accepted, self.driver_feature_select),
            Field::ConfigVector => self.signals.config_vector().into(),
            Field::NumQueues => self.queues.len() as u64,
            Field::Status => self.shown_status().into(),
            Field::Generation => self.signals.generation().into(),
            Field::QueueSelect => self.queue_select.into(),
            Field::QueueSize => queue(|queue| queue.size.into()),
            Field::QueueVector => self
                .queue()
                .map_or(NO_VECTOR, |queue| queue.vector.number())
                .into(),
            Field::QueueEnable => queue(|queue| queue.enabled.into()),
            Field::QueueNotifyOff => self.queue().map_or(0, |_| self.queue_select).into(),
            Field::QueueDesc => queue(|queue| queue.desc),
            Field::QueueDriver => queue(|queue| queue.driver),
            Field::QueueDevice => queue(|queue| queue.device),
        }
    }

    /// Device status as the driver reads it.
    pub fn shown_status(&self) -> u8 {
        let broken = if self.signals.is_broken() {
            status::NEEDS_RESET
        } else {
            0
        };
        self.status | broken
    }

    fn set(&mut self, field: Field, value: u64) -> Option<Request> {
        match field {
            Field::DeviceFeatureSelect => self.device_feature_select = value as u32,
            Field::DriverFeatureSelect => self.driver_feature_select = value as u32,
            Field::DriverFeature => self.accept(value as u32),
            Field::ConfigVector => {
                let vector = self.signals.existing_vector(value as u16);
                self.signals.set_config_vector(vector);
            }
            Field::Status => return self.set_status(value as u8),
            Field::QueueSelect => self.queue_select = value as u16,
            Field::QueueVector => {
                let vector = self.signals.existing_vector(value as u16);
                if let Some(queue) = self.queue() {
                    self.signals.move_queue(&queue.vector, vector);
                }
            }
            Field::QueueEnable => self.enable_queue(value),
            Field::QueueSize => {
                let size = value as u16;
                self.edit_ring(|queue| {
                    if size.is_power_of_two() && size <= queue.max_size {
                        queue.size = size;
                    }
                });
            }
            Field::QueueDesc => self.edit_ring(|queue| queue.desc = value),
            Field::QueueDriver => self.edit_ring(|queue| queue.driver = value),
            Field::QueueDevice => self.edit_ring(|queue| queue.device = value),
            Field::DeviceFeature | Field::NumQueues | Field::Generation | Field::QueueNotifyOff => {
            }
        }
        None
    }

    fn accept(&mut self, value: u32) {
        if self.status & status::FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match self.driver_feature_select {
            0 => self.accepted = (self.accepted & !0xffff_ffff) | value,
            1 => self.accepted = (self.accepted & 0xffff_ffff) | value << 32,
            _ => {}
        }
    }

    fn set_status(&mut self, value: u8) -> Option<Request> {
        trace::point!(
            VIRTIO_SET_STATUS,
            val = trace::Hex(value.into()),
            was = trace::Hex(self.status.into())
        );
        if value == 0 {
            return Some(Request::Reset);
        }
        let mut new = self.status | (value & !status::NEEDS_RESET);
        // A refused set of features does not stick (Virtio 1.2, section 3.1.1).
        let acceptable =
            self.accepted & !self.offered == 0 && self.accepted & feature::VERSION_1 != 0;
        if self.status & status::FEATURES_OK == 0 && !acceptable {
            new &= !status::FEATURES_OK;
        }
        let was_live = self.is_live();
        self.status = new;
        (self.is_live() && !was_live).then_some(Request::DriverOk)
    }

    /// A queue's place cannot change any more once it is enabled.
    fn edit_ring(&mut self, edit: impl FnOnce(&mut QueueSetup)) {
        let queue = self.queues.get_mut(usize::from(self.queue_select));
        if let Some(queue) = queue.filter(|queue| !queue.enabled) {
            edit(queue);
        }
    }

    fn enable_queue(&mut self, value: u64) {
        let live = self.is_live();
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return;
        };
        // The driver must not write anything but 1, and only before DRIVER_OK.
        if value == 1 && !live {
            queue.enabled = true;
        }
    }
}

fn half(features: u64, select: u32) -> u64 {
    match select {
        0 => features & 0xffff_ffff,
        1 => features >> 32,
        _ => 0,
    }
}
