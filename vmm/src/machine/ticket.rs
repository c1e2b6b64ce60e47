//! A device on its way into its place. What was done for it is undone, unless all of it worked.

use std::sync::Arc;

use api_spec::{DeviceOptions, QmpResult};
use devices::pci::DevFn;

use super::Machine;
use super::plug::{Branch, BusKind, Device};

/// The machine while a device is plugged.
pub(super) struct PlugTicket<'m> {
    pub machine: &'m mut Machine,
    /// Slot and function that were given to it, on a PCI bus.
    pub devfn: Option<DevFn>,
    key: Arc<str>,
    bus: usize,
    /// There was no I/O thread for all yet.
    first_thread: bool,
    committed: bool,
}

impl<'m> PlugTicket<'m> {
    /// Takes a place for a device.
    ///
    /// # Errors
    /// In QEMU's words, when there is none.
    pub fn open(
        machine: &'m mut Machine,
        key: Arc<str>,
        bus: usize,
        options: &DeviceOptions,
    ) -> QmpResult<Self> {
        let devfn = machine.claim_slot(bus, options)?;
        Ok(PlugTicket {
            first_thread: machine.io_thread.is_none(),
            machine,
            devfn,
            key,
            bus,
            committed: false,
        })
    }

    /// The device is in its place for good.
    pub fn commit(mut self, device: Device) {
        if matches!(device.branch, Branch::Anonymous(_)) {
            self.machine.anonymous = self.machine.anonymous.saturating_add(1);
        }
        self.machine.devices.push(device);
        self.committed = true;
    }
}

impl Drop for PlugTicket<'_> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let machine = &mut *self.machine;
        machine.buses.retain(|bus| !bus.kind.is_of(&self.key));
        machine.fixed.retain(|fixed| fixed.key != self.key);
        drop(machine.pci.unplug(&self.key));
        if let (Some(bus), Some(devfn)) = (machine.buses.get_mut(self.bus), self.devfn)
            && let BusKind::Pci { slots, .. } = &mut bus.kind
        {
            slots.release(devfn);
        }
        if self.first_thread {
            machine.io_thread = None;
        }
    }
}
