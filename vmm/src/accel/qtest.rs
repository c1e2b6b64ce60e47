//! No processor runs: a test plays the guest over a socket (see [`super::qtest_server`]).
//!
//! What the kernel does under KVM is done here: a message-signalled interrupt is a write of four
//! bytes to its address, there are no irqfds (so queues' workers pass signals on), lines only remember their level
//! and are reported where the test asked for it.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use devices::bus::lock;
use devices::irq::{Interrupt, IrqLine, IrqProvider, MsiRoute};
use devices::map::{IoEvent, Space};
use devices::model::shadow;
use devices::ram::RamHandle;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};
use vmstate::Section;

use super::lines::{Inputs, Pins, Source};
use super::{Accel, AccelKind, AccelState, SharedMap, SlotLog};
use crate::control::Control;
use crate::event::{Mail, MailSender};
use crate::memory::RamSlot;
use crate::sys::Poll;

/// The accelerator without a processor.
pub struct QtestAccel {
    pub(super) shared: Arc<Shared>,
}

/// Told of interrupt lines that change while the test listens to them.
pub(super) type LineSink = Box<dyn Fn(u8, bool) + Send + Sync>;

/// What accelerator, interrupts and server share.
pub(super) struct Shared {
    pub map: Arc<SharedMap>,
    pub ram: RamHandle,
    pub mail: MailSender,
    pub inputs: Arc<Inputs<Reporter>>,
    pub poll: Poll,
}

/// Reports lines to the test.
#[derive(Default)]
pub(super) struct Reporter(OnceLock<LineSink>);

impl Reporter {
    /// Reports from now on; false where that is so already.
    pub fn report_to(&self, sink: LineSink) -> bool {
        self.0.set(sink).is_ok()
    }
}

impl Pins for Reporter {
    fn drive(&self, gsi: u8, level: bool) {
        if let Some(sink) = self.0.get() {
            sink(gsi, level);
        }
    }
}

impl QtestAccel {
    /// An accelerator over this RAM and address map.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(ram: RamHandle, map: Arc<SharedMap>, mail: MailSender) -> io::Result<Self> {
        Ok(QtestAccel {
            shared: Arc::new(Shared {
                map,
                ram,
                mail,
                inputs: Arc::new(Inputs::new(Reporter::default())),
                poll: Poll::new()?,
            }),
        })
    }
}

impl QtestAccel {
    /// An accelerator with neither RAM nor devices, for a program without a machine.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn empty(mail: MailSender) -> io::Result<Self> {
        let ram = RamHandle::new(devices::ram::GuestRam::new());
        let map = devices::map::MapBuilder::new().build();
        QtestAccel::new(ram, Arc::new(SharedMap::from_pointee(map)), mail)
    }
}

impl Shared {
    /// Writes memory as a device would: RAM, or whoever is at that address. Devices are written
    /// by control, later: who signals may hold the lock of the very device that is there.
    fn deliver(self: &Arc<Self>, address: u64, data: u32) {
        let memory = self.ram.memory();
        let bytes = data.to_le_bytes();
        if memory.write_slice(&bytes, GuestAddress(address)).is_ok() {
            return;
        }
        if self.map.load().claims(Space::Memory, address) {
            let shared = self.clone();
            let write = move |control: &mut Control| {
                let all = shared.map.load().write(Space::Memory, address, &bytes);
                for raised in all {
                    control.effect(&raised.source.id, raised.effect, None);
                }
            };
            self.mail.send(Mail::Done(Box::new(write)));
        }
    }

    /// How many bytes from `addr` on are RAM, at most `len`; or how many are not. Shadow memory is
    /// a device's: it depends on the host bridge.
    pub fn piece(&self, addr: u64, len: usize) -> (bool, usize) {
        let memory = self.ram.memory();
        let behind = shadow::BASE.saturating_add(shadow::LEN);
        let border = [shadow::BASE, behind]
            .into_iter()
            .find(|border| addr < *border);
        let to_border = border.map_or(u64::MAX, |border| border.saturating_sub(addr));
        let cut =
            |left: u64| usize::try_from(left.min(to_border)).map_or(len, |left| left.min(len));
        if (shadow::BASE..behind).contains(&addr) {
            return (false, cut(u64::MAX));
        }
        let mut before_next = u64::MAX;
        for region in memory.iter() {
            use vm_memory::{Address, GuestMemoryRegion};
            let (start, last) = (
                region.start_addr().raw_value(),
                region.last_addr().raw_value(),
            );
            if (start..=last).contains(&addr) {
                return (true, cut((last - addr).saturating_add(1)));
            }
            if start > addr {
                before_next = before_next.min(start - addr);
            }
        }
        (false, cut(before_next))
    }
}

impl Accel for QtestAccel {
    fn kind(&self) -> AccelKind {
        AccelKind::Qtest
    }

    fn irqs(&self) -> Arc<dyn IrqProvider> {
        Arc::new(QtestIrqs(self.shared.clone()))
    }

    fn map_ram(&self, _slot: u32, _ram: RamSlot) -> io::Result<()> {
        // Reached through the handle.
        Ok(())
    }

    fn unmap_ram(&self, _slot: u32) -> io::Result<()> {
        Ok(())
    }

    fn add_io_event(&self, _event: &IoEvent) -> io::Result<()> {
        // The plain write signals it.
        Ok(())
    }

    fn remove_io_event(&self, _event: &IoEvent) -> io::Result<()> {
        Ok(())
    }

    fn dirty_log(&self) -> Option<Arc<dyn SlotLog>> {
        None
    }
}

impl AccelState for QtestAccel {
    fn clock_start(&self) {}

    fn clock_stop(&self) {}

    fn reset(&self) -> io::Result<()> {
        Ok(())
    }

    fn parts(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn save(&self) -> Result<Vec<Section>, String> {
        // Lines are the devices', who drive them again when they are restored.
        Ok(Vec::new())
    }

    fn restore(&self, section: &Section) -> Result<(), String> {
        Err(format!(
            "Section '{}' is of another accelerator",
            section.id
        ))
    }
}

struct QtestIrqs(Arc<Shared>);

impl IrqProvider for QtestIrqs {
    fn isa_line(&self, irq: u8) -> Arc<dyn IrqLine> {
        self.gsi_line(irq)
    }

    fn gsi_line(&self, gsi: u8) -> Arc<dyn IrqLine> {
        Arc::new(Source::new(&self.0.inputs, gsi))
    }

    fn msi_route(&self) -> io::Result<Arc<dyn MsiRoute>> {
        Ok(Arc::new(Route {
            shared: self.0.clone(),
            message: Mutex::default(),
        }))
    }
}

struct Route {
    shared: Arc<Shared>,
    /// Address and data; `None` while out of service. A leaf.
    message: Mutex<Option<(u64, u32)>>,
}

impl Interrupt for Route {
    fn signal(&self) {
        let message = *lock(&self.message);
        if let Some((address, data)) = message {
            self.shared.deliver(address, data);
        }
    }
}

impl MsiRoute for Route {
    fn enable(&self, address: u64, data: u32) {
        *lock(&self.message) = Some((address, data));
    }

    fn disable(&self) {
        *lock(&self.message) = None;
    }
}
