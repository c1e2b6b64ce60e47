//! What firmware would do, for a kernel that is started without any: PCI set up, tables and the
//! kernel in memory.

use anyhow::{Context, Result, anyhow};
use devices::bus::lock;
use devices::pci::{DevFn, HeaderKind, Windows, assign, swizzle};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use super::Machine;
use crate::acpi::{self, AcpiConfig, SerialPort};
use crate::layout::{self, Window};
use crate::smbios::{self, SmbiosConfig};
use crate::vcpu::Entry;

/// Bus numbers are told of in steps of this.
const SPARE_BUSES: u8 = 4;

impl Machine {
    /// Sets the machine up for its kernel and loads that; says where the first vCPU starts.
    pub(super) fn boot(&mut self) -> Result<Entry> {
        if self.boot.is_none() {
            return Ok(Entry::Halted);
        }
        self.chipset.set_up();
        let buses = self.assign_pci();
        for (address, bytes) in self.tables(buses)? {
            let memory = self.ram.handle.memory();
            memory
                .write_slice(&bytes, GuestAddress(address))
                .context("The firmware tables do not fit into guest memory")?;
        }
        self.write_generation()?;
        let boot = self.boot.as_mut().ok_or_else(|| anyhow!("No kernel"))?;
        Ok(boot.load(&self.ram.handle, acpi::RSDP)?)
    }

    /// 64-bit BARs go behind RAM, where the processors reach that.
    fn high_window(&self) -> Option<Window> {
        let window = self.ram.layout.mmio64();
        let reach = 1u64.checked_shl(self.phys_bits).unwrap_or(u64::MAX);
        (window.end() <= reach).then_some(window)
    }

    /// Returns how many buses have a number.
    fn assign_pci(&self) -> u8 {
        let high = self.high_window();
        let low = self.ram.layout.mmio32();
        let windows = Windows {
            io: (layout::IO.base, layout::IO.last()),
            memory: (low.base, low.last()),
            // First behind last: nothing.
            prefetchable: high.map_or((1, 0), |window| (window.base, window.last())),
        };
        let line = |devfn: DevFn, pin: u8| self.chipset.isa_irq(devfn, pin.wrapping_sub(1));
        assign(&self.pci, &windows, &line)
    }

    /// ACPI and SMBIOS tables with their addresses.
    fn tables(&self, buses: u8) -> Result<Vec<(u64, Vec<u8>)>> {
        let config = AcpiConfig {
            layout: self.ram.layout,
            apic_ids: self.apic_ids.clone(),
            serial: self.serial_ports(),
            pvpanic: self.pvpanic_port(),
            generation: self.generation().is_some(),
            keyboard: self.spec.i8042,
            // Some to spare, for bridges that come later.
            last_bus: buses
                .checked_next_multiple_of(SPARE_BUSES)
                .unwrap_or(0)
                .wrapping_sub(1),
            mmio64: self.high_window(),
            bridges: self.bridge_slots(),
        };
        let tables = acpi::build(&config)
            .ok_or_else(|| anyhow!("The ACPI tables do not fit below 1 MiB"))?;
        let smbios = smbios::build(&SmbiosConfig {
            uuid: self.uuid,
            product: self.spec.kind.description().to_owned(),
            version: self.spec.kind.name().to_owned(),
            layout: self.ram.layout,
            topology: self.spec.topology,
            signature: self.cpu_signature,
        });
        Ok(tables.parts.into_iter().chain(smbios).collect())
    }

    /// The slots of the root bus that bridges are in, a bit each.
    fn bridge_slots(&self) -> u32 {
        let bridges = self.pci.behind(None).filter(|plugged| {
            let kind = lock(&plugged.function).config().kind();
            kind == HeaderKind::Bridge
        });
        bridges.fold(0, |slots, plugged| slots | 1 << plugged.devfn.slot())
    }

    /// The serial ports at their usual places, which the tables tell of.
    fn serial_ports(&self) -> Vec<SerialPort> {
        self.devices
            .iter()
            .filter_map(|device| device.serial)
            .collect()
    }

    fn pvpanic_port(&self) -> Option<u16> {
        self.devices.iter().find_map(|device| device.pvpanic)
    }
}

/// The I/O APIC input of a pin (0 for INTA) of a function whose slots on each bus, from the
/// function up to the root bus, are `slots`.
pub(super) fn gsi_of(slots: &[u8], pin: u8) -> (u8, u8) {
    let mut pin = pin & 3;
    let (Some((root, behind)), true) = (slots.split_last(), !slots.is_empty()) else {
        return (0, pin);
    };
    for slot in behind {
        pin = swizzle(DevFn::new(*slot, 0), pin + 1).wrapping_sub(1) & 3;
    }
    (*root, pin)
}
