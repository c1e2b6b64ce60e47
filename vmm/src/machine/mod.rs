//! The machine: what is plugged where, and how it runs, stops and begins anew. Owned by control.

mod build;
mod chipset;
mod dirty;
mod firmware;
mod generation;
mod look;
mod pci_info;
mod plug;
mod properties;
pub mod qom;
mod qtree;
pub mod saved;
pub mod slots;
pub mod spec;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod ticket;
pub mod topology;
mod units;
mod unplug;
mod wants;

use std::sync::Arc;

use anyhow::{Context, Result};
use devices::bus::{SharedDevice, lock};
use devices::map::{MapBuilder, Space};
use devices::pci::PciTopology;
use devices::registry::Region;

use crate::accel::{Accel, IoEvents, SharedMap};
use crate::boot::Boot;
use crate::clock::{ClockTimers, GuestClock};
use crate::event::MailSender;
use crate::layout;
use crate::memory::{Backend, BackendOptions, MachineRam, RamSlot};
use crate::threads::io_thread::IoThread;
use crate::vcpu::{Entry, Vcpus};
use chipset::Chipset;
use dirty::Foreign;
use plug::{Bus, Device};
use spec::MachineSpec;
use unplug::Leaving;

pub use build::ChosenAccel;
pub use unplug::{Gone, Removed};
pub use wants::{References, VhostWant, Wants, wants};

/// A device at fixed addresses.
struct Fixed {
    key: Arc<str>,
    /// Its type's name.
    driver: &'static str,
    device: SharedDevice,
    regions: Vec<(Space, Region)>,
}

/// The first of the accelerator's slots for shadow memory; the others follow.
const SHADOW_SLOT: u32 = 16;

/// The memory behind the guest's RAM.
enum RamBackend {
    /// Made for `-m`.
    Own(Box<Backend>),
    /// An object.
    Object(Arc<Backend>),
}

impl RamBackend {
    fn options(&self) -> &BackendOptions {
        match self {
            RamBackend::Own(backend) => backend.options(),
            RamBackend::Object(backend) => backend.options(),
        }
    }
}

/// A whole machine.
pub struct Machine {
    spec: MachineSpec,
    /// First in order, so that no vCPU runs while the rest goes.
    vcpus: Vcpus,
    apic_ids: Vec<u32>,
    /// CPUID leaf 1 of the processors, EAX and EDX.
    cpu_signature: (u32, u32),
    phys_bits: u32,
    accel: Arc<dyn Accel>,
    map: Arc<SharedMap>,
    io_events: IoEvents,
    ram: MachineRam,
    ram_backend: RamBackend,
    boot: Option<Boot>,
    uuid: Option<uuid::Uuid>,
    clock: Arc<GuestClock>,
    timers: Arc<ClockTimers>,
    mail: MailSender,
    chipset: Chipset,
    fixed: Vec<Fixed>,
    pci: PciTopology,
    buses: Vec<Bus>,
    devices: Vec<Device>,
    /// Number of the next device without an id.
    anonymous: usize,
    /// Devices that are out of their places, and still let go of what they use.
    leaving: Vec<Leaving>,
    /// Names the next ones.
    next_leave: u64,
    /// Everything that was there at the start is plugged.
    ready: bool,
    /// Shadow memory as the accelerator has it, from [`SHADOW_SLOT`] on.
    shadow: Vec<RamSlot>,
    /// Between `resume` and `quiesce`.
    running: bool,
    /// Pages that others than processors and this process write.
    foreign: Foreign,
    /// Those who write RAM and are neither processors nor this process. They mark what they write
    /// where [`devices::vhost::Writers::set_log`] says.
    writers: devices::vhost::Writers,
    /// Serves the queues of devices without an I/O thread of their own; made for the first one.
    io_thread: Option<Arc<IoThread>>,
}

impl Machine {
    /// The virtual clock.
    pub fn clock(&self) -> &Arc<GuestClock> {
        &self.clock
    }

    /// Bytes of RAM.
    pub fn ram_size(&self) -> u64 {
        self.ram.layout.size()
    }

    /// The memory backend that the machine made for itself.
    pub fn own_memory(&self) -> Option<&BackendOptions> {
        match &self.ram_backend {
            RamBackend::Own(backend) => Some(backend.options()),
            RamBackend::Object(_) => None,
        }
    }

    /// How many processors there are.
    pub fn cpu_count(&self) -> usize {
        self.vcpus.count()
    }

    /// Sends an NMI to every processor.
    ///
    /// # Errors
    /// When none takes one.
    pub fn inject_nmi(&self) -> Result<(), String> {
        self.vcpus.inject_nmi()
    }

    /// Asks all vCPUs to park; whether all are parked already.
    pub fn request_pause(&self) -> bool {
        self.vcpus.request_pause()
    }

    /// Whether all vCPUs are parked.
    pub fn all_parked(&self) -> bool {
        self.vcpus.all_parked()
    }

    /// Queues to their workers, clocks on, vCPUs on.
    pub fn resume(&mut self) {
        self.running = true;
        for plugged in self.pci.functions() {
            if let Some(queues) = lock(&plugged.function).queues() {
                queues.start_queues();
            }
        }
        self.accel.clock_start();
        self.clock.start();
        self.vcpus.resume();
    }

    /// Clocks off, queues back from their workers. The vCPUs are parked.
    pub fn quiesce(&mut self) {
        self.running = false;
        self.clock.stop();
        self.accel.clock_stop();
        self.take_queues_back();
    }

    fn take_queues_back(&mut self) {
        for plugged in self.pci.functions() {
            if let Some(queues) = lock(&plugged.function).queues() {
                queues.stop_queues();
            }
        }
    }

    /// The driver of the device `id` made its queues ready.
    pub fn start_queues(&mut self, id: &str) {
        trace::point!(MACHINE_START_QUEUES, device = id);
        // While the machine is stopped they are handed out when it goes on.
        if self.running {
            self.with_queues(id, |queues| queues.start_queues());
        }
        self.remap();
    }

    /// The driver of the device `id` reset it.
    pub fn stop_queues(&mut self, id: &str) {
        self.with_queues(id, |queues| queues.stop_queues());
        self.remap();
    }

    /// Takes the queues of the device `id` back and hands them out again: what its workers hold
    /// of the host may have changed.
    pub fn restart_queues(&mut self, id: &str) {
        let running = self.running;
        self.with_queues(id, |queues| {
            queues.stop_queues();
            if running {
                queues.start_queues();
            }
        });
    }

    fn with_queues(&self, id: &str, act: impl FnOnce(&mut dyn devices::pci::QueueHost)) {
        if let Some(plugged) = self.pci.find(id)
            && let Some(queues) = lock(&plugged.function).queues()
        {
            act(queues);
        }
    }

    /// Makes the address map anew from what the devices decode now.
    pub fn remap(&mut self) {
        self.map_shadow();
        self.map_devices();
    }

    /// The same without shadow memory, which costs the kernel time: for a machine that nobody runs.
    fn map_devices(&mut self) {
        trace::point!(MACHINE_REMAP);
        let map = self.address_map();
        self.io_events.apply(&*self.accel, map.io_events());
        self.map.store(Arc::new(map));
    }

    /// Maps shadow memory as the host bridge's attribute map says. While it changes, the guest's
    /// accesses end at the device behind it, which knows the new settings.
    fn map_shadow(&mut self) {
        let whole = self.ram.shadow;
        let wanted: Vec<RamSlot> = self
            .chipset
            .shadow_runs()
            .into_iter()
            .filter(|run| run.mode.read)
            .map(|run| RamSlot {
                guest: run.base,
                len: run.len,
                host: whole
                    .host
                    .saturating_add(run.base.saturating_sub(whole.guest)),
                readonly: !run.mode.write,
            })
            .collect();
        if wanted == self.shadow {
            return;
        }
        let old = std::mem::take(&mut self.shadow);
        for (slot, _) in (SHADOW_SLOT..).zip(old) {
            if let Err(error) = self.accel.unmap_ram(slot) {
                log::warn!("Cannot unmap shadow memory: {error}");
            }
        }
        for (slot, ram) in (SHADOW_SLOT..).zip(&wanted) {
            // Without a mapping the device behind it answers: slower, and right.
            if let Err(error) = self.accel.map_ram(slot, *ram) {
                log::warn!("Cannot map shadow memory: {error}");
            }
        }
        self.shadow = wanted;
    }

    fn address_map(&self) -> devices::map::AddressMap {
        let mut builder = MapBuilder::new();
        for slot in &self.ram.slots {
            // Video memory's place is RAM too: there is no video.
            builder.reserve(Space::Memory, slot.guest, slot.len);
        }
        builder.reserve(Space::Memory, layout::IOAPIC, 0x1000);
        let lapic = layout::LAPIC;
        builder.reserve(Space::Memory, lapic.base, lapic.len);
        for fixed in &self.fixed {
            for (space, region) in &fixed.regions {
                // Checked when it was plugged; what the chipset moved in its way wins.
                if let Err(overlap) = builder.device(&fixed.key, *space, *region, &fixed.device) {
                    log::debug!("{overlap}");
                }
            }
        }
        builder.pci(self.pci.see());
        builder.build()
    }

    /// Everything as after power-on, and the kernel loaded again. The machine is quiet.
    ///
    /// # Errors
    /// When the kernel's files are not what they were, or the accelerator refuses.
    pub fn reset(&mut self) -> Result<()> {
        self.reset_devices()?;
        let entry = self.prepare()?;
        self.vcpus.reset(entry)?;
        Ok(())
    }

    /// The same without what firmware does, and without the processors.
    fn reset_devices(&mut self) -> Result<()> {
        self.take_queues_back();
        for fixed in &self.fixed {
            lock(&fixed.device).reset();
        }
        for plugged in self.pci.functions() {
            lock(&plugged.function).reset();
        }
        // What came while a slot had no power, has it now.
        self.mark_occupied();
        self.accel
            .reset()
            .context("Cannot reset the interrupt controllers")
    }

    /// The first start: everything is as after power-on already.
    ///
    /// # Errors
    /// As [`Machine::reset`].
    pub fn power_on(&mut self) -> Result<()> {
        self.mark_occupied();
        self.ready = true;
        let entry = self.prepare()?;
        self.vcpus.set_entry(entry)?;
        Ok(())
    }

    fn prepare(&mut self) -> Result<Entry> {
        let entry = self.boot()?;
        self.remap();
        Ok(entry)
    }

    /// Presses the power button.
    pub fn power_button(&mut self) {
        self.chipset.power_button();
    }

    /// Nothing answers the guest any more: interrupts of the accelerator without a processor lead
    /// to the devices that have them.
    fn empty_map(&self) {
        self.map.store(Arc::new(MapBuilder::new().build()));
    }

    /// Ends the machine: no vCPU and no queue runs any more.
    pub fn end(&mut self) {
        self.vcpus.stop();
        self.take_queues_back();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.empty_map();
    }
}
