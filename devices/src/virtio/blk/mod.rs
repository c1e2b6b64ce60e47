//! `virtio-blk-pci`: a disk (Virtio 1.2, section 5.2) on a block node.

mod config;
mod merge;
mod props;
mod request;
mod state;
mod worker;

use std::io;
use std::sync::Arc;

use api_spec::{QmpError, QmpResult, VirtioBlkPciProps};
use block::{Attachment, SizeWatcher, WriteCache};

use super::{ActiveQueues, PlacedWorker, VirtioDevice, VirtioPci, VirtioTraits};
use crate::cx::BuildCx;
use crate::disk_failure::{self, Failures};
use crate::effect::Effect;
use crate::model::registers::show;
use crate::worker::QueueState;
use config::{ConfigSpace, WRITEBACK, feature};
use props::Disk;
use worker::BlkWorker;

const DEVICE_TYPE: u16 = 2;
/// PCI class "SCSI storage controller", which QEMU gives it.
const CLASS: u32 = 0x01_0000;

/// Builds the function around `cx.node`. Without `num-queues`, it has a queue for each of the
/// `vcpus` in `cx.hints`.
///
/// # Errors
/// For properties that make no sense or are not supported, in QEMU's words where it refuses them,
/// too; and when there are no interrupt routes left.
pub fn build(props: &VirtioBlkPciProps, cx: &BuildCx) -> QmpResult<VirtioPci> {
    let transport = crate::virtio_pci_props!(props, cx)?;
    let Some(node) = cx.node.clone() else {
        return Err(QmpError::generic("drive property not set"));
    };
    let vcpus = cx.hints.get("vcpus").copied().unwrap_or(1);
    let disk = Disk::check(props, vcpus, &node)?;
    node.set_write_cache(disk.write_cache);
    disk_failure::set_policy(&node, props.rerror, props.werror);
    let failures = Failures::new(&node, cx);
    let device = Blk {
        disk,
        node,
        failures,
        watcher: None,
        seen: None,
    };
    VirtioPci::new(Box::new(device), transport, cx)
        .map_err(|error| QmpError::generic(error.to_string()))
}

struct Blk {
    disk: Disk,
    /// Also has the switch of the write cache, which the workers look at.
    node: Arc<Attachment>,
    failures: Failures,
    /// Kept for the attachment.
    watcher: Option<Arc<dyn SizeWatcher>>,
    /// Bytes of the disk when the driver's state came from elsewhere: nobody tells it of changes
    /// before its queues start.
    seen: Option<u64>,
}

impl Blk {
    fn config(&self) -> ConfigSpace<'_> {
        ConfigSpace {
            disk: &self.disk,
            bytes: self.node.info().size,
            write_cache: self.node.write_cache(),
        }
    }
}

/// Tells the driver of a new size: the capacity is part of configuration space (Virtio 1.2,
/// section 5.2.5).
struct ConfigWatcher(Arc<dyn super::DeviceSignals>);

impl SizeWatcher for ConfigWatcher {
    fn resized(&self) {
        self.0.config_changed();
    }
}

/// The cache is on, or writes are durable when they are done.
fn cache(on: bool) -> WriteCache {
    match on {
        true => WriteCache::Back,
        false => WriteCache::Through,
    }
}

impl VirtioDevice for Blk {
    fn traits(&self) -> VirtioTraits {
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: self.disk.features(),
            queue_sizes: vec![self.disk.queue_size; usize::from(self.disk.queues)],
            // One for each queue, and one for changes of the configuration.
            vectors: self.disk.queues.saturating_add(1),
            class: CLASS,
            config_len: config::LEN,
        }
    }

    fn config_read(&self, offset: usize, data: &mut [u8]) {
        let space = self.config().bytes();
        show(0, &space, offset as u64, data);
    }

    fn config_write(&mut self, offset: usize, data: &[u8]) -> Effect {
        // Only `writeback` is the driver's to write (Virtio 1.2, section 5.2.5.2).
        let value = WRITEBACK.checked_sub(offset).and_then(|at| data.get(at));
        if let Some(value) = value.filter(|_| self.disk.config_wce) {
            self.node.set_write_cache(cache(*value != 0));
        }
        Effect::None
    }

    fn start(&mut self, active: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let ActiveQueues {
            features,
            ram,
            queues,
            device,
            writers: _,
        } = active;
        if features & feature::CONFIG_WCE == 0 {
            // A driver that knows neither the switch nor flushes gets durable writes (Virtio
            // 1.2, section 5.2.6.2).
            self.node
                .set_write_cache(cache(features & feature::FLUSH != 0));
        }
        let watcher: Arc<dyn SizeWatcher> = Arc::new(ConfigWatcher(device.clone()));
        self.node.watch_size(Arc::downgrade(&watcher));
        self.watcher = Some(watcher);
        let size = self.node.info().size;
        if self.seen.take().is_some_and(|seen| seen != size) {
            device.config_changed();
        }
        let worker = |queue: super::ActiveQueue| {
            let thread = usize::from(queue.index);
            let queue = super::Virtqueue::new(queue, &ram, &device);
            let failures = self.failures.clone();
            let worker = BlkWorker::new(queue, self.disk.clone(), self.node.clone(), failures);
            let worker = worker.map_err(|error| io::Error::other(error.to_string()))?;
            Ok(PlacedWorker {
                thread,
                worker: Box::new(worker),
            })
        };
        queues.into_iter().map(worker).collect()
    }

    fn stopped(&mut self, _states: &[QueueState]) {}

    fn reset(&mut self) {
        self.seen = None;
        self.node.set_write_cache(self.disk.write_cache);
    }

    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        Some(self)
    }

    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}
