//! A virtio device as a PCI function (Virtio 1.2, section 4.1; the interface of version 1 only).
//!
//! The registers live here under the function's lock; queues live with their workers while the
//! device runs, and the positions in their rings come back when it stops.

use std::sync::Arc;

use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::common::{CommonConfig, Request, feature};
use super::signals::{QueueInterrupt, Signals};
use super::{ActiveQueue, ActiveQueues, DeviceSignals, VirtioDevice, layout};
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::pci::regs::{STATUS, status as pci_status};
use crate::pci::{BarIoEvent, ConfigSpace, ExpressRole, Identity, Msix, PciFunction, QueueHost};
use crate::ram::RamHandle;
use crate::vhost::Writers;
use crate::worker::{IoThread, QueueState, WorkerId};

/// The vendor of all virtio functions.
const VENDOR: u16 = 0x1af4;
/// Device ids begin here; the virtio device type is added.
const FIRST_DEVICE: u16 = 0x1040;
/// What QEMU's functions carry when their device says nothing else.
const SUBSYSTEM: u16 = 0x1100;

/// What can be chosen of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioPciProps {
    /// MSI-X vectors; `None` leaves it to the device, 0 means the pin alone.
    pub vectors: Option<u16>,
    /// Behind a port, where functions are PCI Express endpoints; not so on the root bus.
    pub express: bool,
    /// One of several functions in its slot.
    pub multifunction: bool,
    /// Offer indirect descriptors.
    pub indirect_desc: bool,
    /// Offer event indexes.
    pub event_idx: bool,
    /// Let the accelerator deliver kicks.
    pub ioeventfd: bool,
}

impl Default for VirtioPciProps {
    fn default() -> Self {
        VirtioPciProps {
            vectors: None,
            express: false,
            multifunction: false,
            indirect_desc: true,
            event_idx: true,
            ioeventfd: true,
        }
    }
}

/// Where the queues are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Here.
    Stopped,
    /// The driver is ready; the control thread is about to hand them out.
    Starting,
    /// With their workers.
    Running,
}

/// The function.
pub struct VirtioPci {
    pub(super) config: ConfigSpace,
    pub(super) msix: Option<Msix>,
    pub(super) common: CommonConfig,
    pub(super) signals: Arc<Signals>,
    pub(super) device: Box<dyn VirtioDevice>,
    /// The capability through which configuration space reaches the BAR.
    window: u16,
    config_len: usize,
    ioeventfd: bool,
    ram: RamHandle,
    writers: Writers,
    iothreads: Vec<Arc<dyn IoThread>>,
    workers: Vec<(Arc<dyn IoThread>, WorkerId)>,
    phase: Phase,
    /// The driver wrote 0 to status; done once the workers are back.
    reset_asked: bool,
}

impl VirtioPci {
    /// A function around `device`.
    ///
    /// # Errors
    /// When the accelerator has no interrupt routes left, or the device has too many queues.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        props: VirtioPciProps,
        cx: &BuildCx,
    ) -> std::io::Result<Self> {
        let traits = device.traits();
        if traits.queue_sizes.len() > layout::MAX_QUEUES {
            return Err(std::io::Error::other("Too many queues"));
        }
        let mut config = ConfigSpace::endpoint(Identity {
            vendor: VENDOR,
            device: FIRST_DEVICE.saturating_add(traits.device_type),
            revision: 1,
            class: traits.class,
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
        });
        if props.multifunction {
            config.multifunction();
        }
        config.interrupt_pin(1);
        let msix = match props.vectors.unwrap_or(traits.vectors) {
            0 => None,
            count => Some(Msix::new(&mut config, layout::MSIX_BAR, count, &*cx.irqs)?),
        };
        let no_room = || std::io::Error::other("No room for a capability");
        let window = layout::add_to(&mut config).ok_or_else(no_room)?;
        if props.express {
            config
                .add_express(ExpressRole::Endpoint)
                .ok_or_else(no_room)?;
            config.add_power_management().ok_or_else(no_room)?;
        }
        let vectors = msix
            .as_ref()
            .map_or_else(Vec::new, |msix| msix.vectors().to_vec());
        let signals = Arc::new(Signals::new(&cx.id, cx.intx.clone(), vectors));
        let offered = traits.features
            | feature::VERSION_1
            | if props.indirect_desc {
                feature::INDIRECT_DESC
            } else {
                0
            }
            | if props.event_idx {
                feature::EVENT_IDX
            } else {
                0
            };
        Ok(VirtioPci {
            config,
            msix,
            common: CommonConfig::new(offered, &traits.queue_sizes, signals.clone()),
            signals,
            device,
            window,
            config_len: traits.config_len,
            ioeventfd: props.ioeventfd,
            ram: cx.ram.clone(),
            writers: cx.writers.clone(),
            iothreads: cx.iothreads.clone(),
            workers: Vec::new(),
            phase: Phase::Stopped,
            reset_asked: false,
        })
    }

    /// The device behind the registers.
    pub fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut *self.device
    }

    /// Whether workers have the queues.
    pub fn running(&self) -> bool {
        self.phase == Phase::Running
    }

    fn common_write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let request = self.common.write(offset, data);
        self.make_kicks();
        match request {
            None => Effect::None,
            Some(Request::DriverOk) => {
                self.phase = Phase::Starting;
                self.signals.set_driver_ok(true);
                Effect::StartQueues
            }
            Some(Request::Reset) => match self.phase {
                Phase::Stopped => {
                    self.reset_device();
                    Effect::None
                }
                Phase::Starting | Phase::Running => {
                    self.reset_asked = true;
                    Effect::StopQueues
                }
            },
        }
    }

    /// Gives each enabled queue its kick, so that one that comes before DRIVER_OK is not lost.
    fn make_kicks(&mut self) {
        let queues = self.common.queues.iter_mut();
        for queue in queues.filter(|queue| queue.enabled && queue.kick.is_none()) {
            match EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC) {
                Ok(kick) => queue.kick = Some(Arc::new(kick)),
                Err(error) => {
                    self.signals
                        .needs_reset(&format!("no eventfd for a queue: {error}"));
                    queue.enabled = false;
                }
            }
        }
    }

    fn notify(&self, offset: u64) {
        let index = usize::try_from(offset / layout::NOTIFY_STEP).unwrap_or(usize::MAX);
        let queue = self.common.queues.get(index);
        if let Some(kick) = queue.and_then(|queue| queue.kick.as_ref()) {
            // Fails only when the counter is full, and then the kick is known already.
            let _ = kick.write(1);
        }
    }

    /// The device's own reset, with no worker out.
    fn reset_device(&mut self) {
        self.reset_asked = false;
        self.phase = Phase::Stopped;
        self.common.reset();
        self.device.reset();
    }

    fn active_queues(&self) -> Result<ActiveQueues, u16> {
        let event_idx = self.common.accepted & feature::EVENT_IDX != 0;
        let mut queues = Vec::new();
        for (index, setup) in (0u16..).zip(&self.common.queues) {
            let (true, Some(kick)) = (setup.enabled, &setup.kick) else {
                continue;
            };
            let queue = setup.to_queue(event_idx).ok_or(index)?;
            let memory = self.ram.memory();
            if !super::queue::rings_in_ram(&queue, &memory) {
                return Err(index);
            }
            queues.push(ActiveQueue {
                index,
                queue,
                kick: kick.clone(),
                interrupt: Arc::new(QueueInterrupt::new(
                    self.signals.clone(),
                    setup.vector.clone(),
                )),
                again: setup.again.clone(),
            });
        }
        Ok(ActiveQueues {
            features: self.common.accepted,
            ram: self.ram.clone(),
            queues,
            device: self.signals.clone(),
            writers: self.writers.clone(),
        })
    }

    fn hand_out(&mut self) -> Result<(), String> {
        let queues = self
            .active_queues()
            .map_err(|index| format!("the rings of queue {index} are not in memory"))?;
        let workers = self
            .device
            .start(queues)
            .map_err(|error| error.to_string())?;
        for placed in workers {
            let count = self.iothreads.len().max(1);
            let thread = self.iothreads.get(placed.thread % count);
            let thread = thread.ok_or("there is no I/O thread")?.clone();
            let id = thread
                .attach(placed.worker)
                .map_err(|error| error.to_string())?;
            self.workers.push((thread, id));
        }
        Ok(())
    }

    fn take_back(&mut self) {
        let mut states: Vec<QueueState> = Vec::new();
        for (thread, id) in self.workers.drain(..) {
            states.extend(thread.detach(id).unwrap_or_default());
        }
        for state in &states {
            if let Some(queue) = self.common.queues.get_mut(usize::from(state.index)) {
                queue.next_avail = state.next_avail;
                queue.next_used = state.next_used;
                queue.again.clone_from(&state.again);
            }
        }
        self.device.stopped(&states);
    }

    fn after_config_write(&mut self) {
        if let Some(msix) = &mut self.msix {
            msix.config_written(&self.config);
            self.signals.set_msix(msix.enabled());
        }
        self.signals.set_pin_enabled(self.config.intx_enabled());
    }

    /// Brings the rest in line with registers that were restored.
    pub(super) fn after_restore(&mut self) {
        self.phase = Phase::Stopped;
        self.reset_asked = false;
        self.make_kicks();
        let kicks = self.common.queues.iter().filter_map(|q| q.kick.as_ref());
        // Kicks do not travel: who serves a queue looks into it once.
        kicks.for_each(|kick| _ = kick.write(1));
        self.after_config_write();
    }

    /// Whether an access to configuration space touches the window's data bytes.
    fn touches_window(&self, offset: u16, len: usize) -> bool {
        let data = usize::from(self.window).saturating_add(16);
        let start = usize::from(offset);
        start < data + 4 && data < start.saturating_add(len)
    }
}

impl PciFunction for VirtioPci {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let changed = self.config.write(offset, data);
        self.after_config_write();
        if self.touches_window(offset, data.len())
            && let Some((bar, at, len)) = layout::window_target(&self.config, self.window)
        {
            let start = usize::from(self.window.saturating_add(16).saturating_sub(offset));
            if let Some(data) = data.get(start..start + len) {
                return self.bar_write(bar, at, data);
            }
        }
        if changed.decode {
            Effect::Remap
        } else {
            Effect::None
        }
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        let asserted = self.signals.pin_asserted();
        self.config
            .set_bits(STATUS, pci_status::INTERRUPT, asserted);
        if self.touches_window(offset, data.len())
            && let Some((bar, at, len)) = layout::window_target(&self.config, self.window)
        {
            let mut value = [0; 4];
            if let Some(value) = value.get_mut(..len) {
                self.bar_read(bar, at, value);
            }
            self.config.set(self.window.saturating_add(16), &value);
        }
        self.config.read(offset, data);
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if bar == layout::MSIX_BAR {
            if let Some(msix) = &self.msix {
                msix.read(offset, data);
            }
            return;
        }
        if bar != layout::BAR {
            return;
        }
        let at = usize::try_from(offset % layout::ROOM).unwrap_or(usize::MAX);
        match offset - offset % layout::ROOM {
            layout::COMMON => self.common.read(at, data),
            layout::ISR if at == 0 => {
                if let Some(isr) = data.first_mut() {
                    *isr = self.signals.take_isr();
                }
            }
            layout::DEVICE => {
                let len = self.config_len.saturating_sub(at).min(data.len());
                if let Some(data) = data.get_mut(..len) {
                    self.device.config_read(at, data);
                }
            }
            _ => {}
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        if bar == layout::MSIX_BAR {
            if let Some(msix) = &mut self.msix {
                msix.write(offset, data);
            }
            return Effect::None;
        }
        if bar != layout::BAR {
            return Effect::None;
        }
        let at = offset % layout::ROOM;
        match offset - at {
            layout::COMMON => self.common_write(at, data),
            layout::DEVICE => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let len = self.config_len.saturating_sub(at).min(data.len());
                self.device.config_write(at, data.get(..len).unwrap_or(&[]))
            }
            layout::NOTIFY => {
                self.notify(at);
                Effect::None
            }
            _ => Effect::None,
        }
    }

    fn reset(&mut self) {
        self.config.reset();
        if let Some(msix) = &mut self.msix {
            msix.reset();
        }
        self.after_config_write();
        self.reset_device();
    }

    fn io_events(&self) -> Vec<BarIoEvent> {
        let queues = (0u64..).zip(&self.common.queues).filter(|_| self.ioeventfd);
        let event = |(index, queue): (u64, &super::common::QueueSetup)| {
            Some(BarIoEvent {
                bar: layout::BAR,
                offset: layout::NOTIFY + index * layout::NOTIFY_STEP,
                event: queue.kick.clone()?,
            })
        };
        queues.filter_map(event).collect()
    }

    fn queues(&mut self) -> Option<&mut dyn QueueHost> {
        Some(self)
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

impl QueueHost for VirtioPci {
    fn start_queues(&mut self) {
        if self.phase == Phase::Running || self.reset_asked || !self.common.is_live() {
            return;
        }
        // After stop and cont, or a restore, it waits for its reset still.
        if self.signals.is_broken() {
            return;
        }
        self.phase = Phase::Running;
        trace::point!(VIRTIO_PCI_START_QUEUES);
        if let Err(why) = self.hand_out() {
            self.take_back();
            self.signals.needs_reset(&why);
        }
    }

    fn stop_queues(&mut self) {
        trace::point!(VIRTIO_PCI_STOP_QUEUES);
        if self.phase == Phase::Running {
            self.take_back();
            self.phase = Phase::Stopped;
        }
        if self.reset_asked {
            self.reset_device();
        }
    }
}
