//! `virtio-scsi-pci`: a bus of logical units (Virtio 1.2, section 5.6).
//!
//! The function is a bus; its disks are devices of their own, which may come and go while the
//! driver runs. Each request queue has a worker, which owns a lane into each logical unit that it
//! uses; one more serves the control queue and the event queue. Task management goes from there
//! to the others as orders, which their wakers announce.

mod config;
mod control;
mod lanes;
mod orders;
mod request;
mod state;
mod worker;

#[cfg(test)]
#[path = "scsi_test/mod.rs"]
mod tests;

use std::io;
use std::sync::Arc;

use api_spec::{QmpError, QmpResult, VirtioScsiPciProps};
use block::{BlockError, Waker};

pub use state::VirtioScsiV1;

use super::{ActiveQueue, ActiveQueues, PlacedWorker, VirtioDevice, VirtioPci, VirtioTraits};
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::model::registers::show;
use crate::scsi::{ScsiBus, Shared};
use crate::virtio::Virtqueue;
use crate::virtio_pci_props;
use crate::worker::QueueState;
use config::{Choice, FIXED_QUEUES, LIMITS, Sizes};
use control::{ControlState, ControlWorker};
use orders::{Inbox, Letterbox};
use worker::RequestWorker;

const DEVICE_TYPE: u16 = 8;
/// PCI class "SCSI storage controller".
const CLASS: u32 = 0x01_0000;

/// Builds the function, and the bus to put logical units on. Without `num_queues`, it has a
/// request queue for each of the `vcpus` in `cx.hints`.
///
/// # Errors
/// For properties that make no sense or are not supported, in QEMU's words where it refuses them,
/// too; and when the host is out of descriptors or interrupt routes.
pub fn build(props: &VirtioScsiPciProps, cx: &BuildCx) -> QmpResult<(VirtioPci, Arc<ScsiBus>)> {
    let transport = virtio_pci_props!(props, cx)?;
    let vcpus = cx.hints.get("vcpus").copied().unwrap_or(1);
    let choice = Choice::check(props, vcpus)?;
    let bus = ScsiBus::new(LIMITS).map_err(|error| QmpError::generic(error.to_string()))?;
    let bus = Arc::new(bus);
    let device = Scsi {
        choice,
        sizes: Sizes::default(),
        shared: bus.shared(),
    };
    let function = VirtioPci::new(Box::new(device), transport, cx)
        .map_err(|error| QmpError::generic(error.to_string()))?;
    Ok((function, bus))
}

/// The device behind the function.
struct Scsi {
    choice: Choice,
    /// What the driver chose.
    sizes: Sizes,
    shared: Arc<Shared>,
}

impl Scsi {
    fn request_worker(
        &self,
        queue: ActiveQueue,
        active: (&crate::ram::RamHandle, &Arc<dyn super::DeviceSignals>),
        (waker, letterbox): (Waker, Arc<Letterbox>),
    ) -> PlacedWorker {
        // The first request queue goes to the first thread.
        let thread = usize::from(queue.index.saturating_sub(FIXED_QUEUES));
        let queue = Virtqueue::new(queue, active.0, active.1);
        let inbox = Inbox(letterbox);
        let worker = RequestWorker::new(queue, self.sizes, self.shared.clone(), waker, inbox);
        PlacedWorker {
            thread,
            worker: Box::new(worker),
        }
    }
}

impl VirtioDevice for Scsi {
    fn traits(&self) -> VirtioTraits {
        let queues = self.choice.queues.saturating_add(FIXED_QUEUES);
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: self.choice.features(),
            queue_sizes: vec![self.choice.queue_size; usize::from(queues)],
            // One for each queue, and one for changes of the configuration.
            vectors: queues.saturating_add(1),
            class: CLASS,
            config_len: config::LEN,
        }
    }

    fn config_read(&self, offset: usize, data: &mut [u8]) {
        let space = config::space(&self.choice, self.sizes);
        show(0, &space, offset as u64, data);
    }

    fn config_write(&mut self, offset: usize, data: &[u8]) -> Effect {
        self.sizes = self.sizes.written(offset, data);
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
        let host = |error: BlockError| io::Error::other(error.to_string());
        let (mut control, mut events) = (None, None);
        let (mut workers, mut boxes, mut watchers) = (Vec::new(), Vec::new(), Vec::new());
        for queue in queues {
            match queue.index {
                0 => control = Some(Virtqueue::new(queue, &ram, &device)),
                1 => events = Some(Virtqueue::new(queue, &ram, &device)),
                _ => {
                    let waker = Waker::new().map_err(host)?;
                    let letterbox = Letterbox::new(waker.clone());
                    boxes.push(letterbox.clone());
                    watchers.push(waker.clone());
                    let ends = (waker, letterbox);
                    workers.push(self.request_worker(queue, (&ram, &device), ends));
                }
            }
        }
        self.shared.set_live(true);
        self.shared.set_watchers(watchers);
        if control.is_some() || events.is_some() {
            let worker = ControlWorker {
                control,
                events,
                features,
                shared: self.shared.clone(),
                boxes,
                waker: Waker::new().map_err(host)?,
                state: ControlState::default(),
            };
            // Behind the others: it is stopped when they are, so that it never waits for a
            // queue that is served no more.
            workers.push(PlacedWorker {
                thread: 0,
                worker: Box::new(worker),
            });
        }
        Ok(workers)
    }

    fn stopped(&mut self, _states: &[QueueState]) {
        self.shared.set_watchers(Vec::new());
    }

    fn reset(&mut self) {
        self.sizes = Sizes::default();
        self.shared.set_live(false);
        self.shared.reset();
    }

    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        Some(self)
    }

    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}
