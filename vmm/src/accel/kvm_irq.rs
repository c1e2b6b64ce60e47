//! Interrupts through KVM.
//!
//! Messages go by KVM_SIGNAL_MSI, which needs no route: masking a vector or moving it to another
//! processor costs no system call then. Only where the kernel or another process is to signal a
//! route by itself there are irqfds, and with them an entry in the routing table.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use devices::bus::lock;
use devices::irq::{Interrupt, IrqLine, IrqProvider, MsiRoute};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_irqchip,
    kvm_irq_routing_msi, kvm_msi,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use super::lines::{INPUTS, Inputs, Pins, Source};

/// Most entries of the kernel's table.
const MAX_ROUTES: usize = 4096;

/// Lines and messages of one virtual machine.
pub struct KvmIrqs {
    vm: Arc<VmFd>,
    inputs: Arc<Inputs<VmPins>>,
    table: Arc<Table>,
}

impl KvmIrqs {
    /// Routes the ISA interrupts as on a PC: to both interrupt controllers, with the timer at
    /// input 2 of the I/O APIC.
    pub fn new(vm: Arc<VmFd>) -> Result<Self, kvm_ioctls::Error> {
        let table = Table {
            vm: vm.clone(),
            messages: Mutex::default(),
        };
        table.publish(&[])?;
        Ok(KvmIrqs {
            inputs: Arc::new(Inputs::new(VmPins(vm.clone()))),
            table: Arc::new(table),
            vm,
        })
    }
}

struct VmPins(Arc<VmFd>);

impl Pins for VmPins {
    fn drive(&self, gsi: u8, level: bool) {
        trace::point!(KVM_SET_IRQ, irq = gsi, level = level);
        // Fails only for an input that does not exist.
        let _ = self.0.set_irq_line(u32::from(gsi), level);
    }
}

impl IrqProvider for KvmIrqs {
    fn isa_line(&self, irq: u8) -> Arc<dyn IrqLine> {
        self.gsi_line(irq)
    }

    fn gsi_line(&self, gsi: u8) -> Arc<dyn IrqLine> {
        Arc::new(Source::new(&self.inputs, gsi))
    }

    fn msi_route(&self) -> io::Result<Arc<dyn MsiRoute>> {
        Ok(Arc::new(Route {
            vm: self.vm.clone(),
            table: self.table.clone(),
            message: Mutex::default(),
            index: OnceLock::new(),
        }))
    }
}

/// Where a message goes, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    address: u64,
    data: u32,
}

impl Message {
    const fn low(self) -> u32 {
        (self.address & 0xffff_ffff) as u32
    }
    const fn high(self) -> u32 {
        (self.address >> 32) as u32
    }
}

/// The kernel's routing table.
struct Table {
    vm: Arc<VmFd>,
    /// Entries behind the fixed ones; `None` where free. Held while the kernel's table is
    /// replaced. Taken after a route's message, never before.
    messages: Mutex<Vec<Option<Entry>>>,
}

/// A routing entry in use, with or without a message.
type Entry = Option<Message>;

impl Table {
    fn set(&self, index: usize, entry: Option<Entry>) -> io::Result<()> {
        let mut messages = lock(&self.messages);
        let Some(place) = messages.get_mut(index) else {
            return Ok(());
        };
        if *place != entry {
            *place = entry;
            self.publish(&messages)?;
        }
        Ok(())
    }

    fn allocate(&self) -> Option<usize> {
        let mut messages = lock(&self.messages);
        let free = messages.iter().position(Option::is_none);
        let index = free.unwrap_or(messages.len());
        if index >= MAX_ROUTES - 2 * INPUTS {
            return None;
        }
        match messages.get_mut(index) {
            Some(place) => *place = Some(None),
            None => messages.push(Some(None)),
        }
        Some(index)
    }

    fn publish(&self, messages: &[Option<Entry>]) -> Result<(), kvm_ioctls::Error> {
        let mut entries = fixed_routes();
        for (index, entry) in messages.iter().enumerate() {
            if let Some(Some(message)) = entry {
                let mut route = kvm_irq_routing_entry {
                    gsi: gsi_of(index),
                    type_: KVM_IRQ_ROUTING_MSI,
                    ..Default::default()
                };
                route.u.msi = kvm_irq_routing_msi {
                    address_lo: message.low(),
                    address_hi: message.high(),
                    data: message.data,
                    ..Default::default()
                };
                entries.push(route);
            }
        }
        let routing = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| kvm_ioctls::Error::new(libc::ENOSPC))?;
        self.vm.set_gsi_routing(&routing)
    }
}

fn gsi_of(index: usize) -> u32 {
    u32::try_from(INPUTS.saturating_add(index)).unwrap_or(u32::MAX)
}

fn fixed_routes() -> Vec<kvm_irq_routing_entry> {
    let mut entries = Vec::with_capacity(2 * INPUTS);
    let mut add = |gsi: u32, irqchip: u32, pin: u32| {
        let mut entry = kvm_irq_routing_entry {
            gsi,
            type_: KVM_IRQ_ROUTING_IRQCHIP,
            ..Default::default()
        };
        entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
        entries.push(entry);
    };
    for gsi in 0..24 {
        match gsi {
            0..8 => add(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
            8..16 => add(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
            _ => {}
        }
        match gsi {
            0 => add(0, KVM_IRQCHIP_IOAPIC, 2),
            2 => {}
            _ => add(gsi, KVM_IRQCHIP_IOAPIC, gsi),
        }
    }
    entries
}

/// One message-signalled interrupt.
struct Route {
    vm: Arc<VmFd>,
    table: Arc<Table>,
    /// `None` while out of service. A leaf, but for the table's lock.
    message: Mutex<Option<Message>>,
    /// The entry of the table, once an eventfd was attached; `None` when there was none left.
    index: OnceLock<Option<usize>>,
}

impl Route {
    fn set(&self, new: Option<Message>) {
        let mut message = lock(&self.message);
        *message = new;
        if let Some(Some(index)) = self.index.get()
            && let Err(error) = self.table.set(*index, Some(new))
        {
            log::warn!("Cannot route an interrupt: {error}");
        }
    }
}

impl Interrupt for Route {
    fn signal(&self) {
        let Some(message) = *lock(&self.message) else {
            return;
        };
        trace::point!(
            KVM_SEND_MSI,
            addr = trace::Hex(u64::from(message.high()) << 32 | u64::from(message.low())),
            data = trace::Hex(message.data.into())
        );
        // The guest may have named a processor that is not there.
        let _ = self.vm.signal_msi(kvm_msi {
            address_lo: message.low(),
            address_hi: message.high(),
            data: message.data,
            ..Default::default()
        });
    }
}

impl MsiRoute for Route {
    fn enable(&self, address: u64, data: u32) {
        trace::point!(
            KVM_IRQCHIP_UPDATE_MSI_ROUTE,
            addr = trace::Hex(address),
            data = trace::Hex(data.into())
        );
        self.set(Some(Message { address, data }));
    }

    fn disable(&self) {
        self.set(None);
    }

    fn attach(&self, event: &EventFd) -> io::Result<()> {
        let index = *self.index.get_or_init(|| self.table.allocate());
        let index = index.ok_or(io::ErrorKind::StorageFull)?;
        // The message may have changed before there was an entry for it.
        let message = lock(&self.message);
        self.table.set(index, Some(*message))?;
        // What is in the counter already is delivered by this call.
        self.vm.register_irqfd(event, gsi_of(index))?;
        trace::point!(KVM_IRQCHIP_ADD_IRQFD, virq = gsi_of(index));
        Ok(())
    }

    fn detach(&self, event: &EventFd) {
        if let Some(Some(index)) = self.index.get() {
            // Fails where attaching failed.
            let _ = self.vm.unregister_irqfd(event, gsi_of(*index));
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Some(Some(index)) = self.index.get() {
            let _ = self.table.set(*index, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_at_input_2() {
        let routes = fixed_routes();
        let pins: Vec<(u32, u32)> = routes
            .iter()
            .filter_map(|entry| {
                // Every fixed entry is of this kind.
                #[allow(unsafe_code)]
                // SAFETY: the variant was set by `fixed_routes`; both are plain numbers.
                let chip = unsafe { entry.u.irqchip };
                (chip.irqchip == KVM_IRQCHIP_IOAPIC).then_some((entry.gsi, chip.pin))
            })
            .collect();
        assert_eq!(pins[..3], [(0, 2), (1, 1), (3, 3)]);
        assert_eq!(pins.len(), 23);
        assert_eq!(routes.len(), 39);
    }
}
