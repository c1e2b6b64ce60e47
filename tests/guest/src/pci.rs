//! Configuration space by the ports 0xcf8 and 0xcfc, for virtio-drivers.

use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot,
};

use crate::board::{read32, write32};

/// The access method.
pub struct Ports;

/// Reads a register.
pub fn read(bus: u8, device: u8, function: u8, register: u8) -> u32 {
    write32(0xcf8, address(bus, device, function, register));
    read32(0xcfc)
}

/// Writes a register.
pub fn write(bus: u8, device: u8, function: u8, register: u8, value: u32) {
    write32(0xcf8, address(bus, device, function, register));
    write32(0xcfc, value);
}

fn address(bus: u8, device: u8, function: u8, register: u8) -> u32 {
    1 << 31
        | u32::from(bus) << 16
        | u32::from(device) << 11
        | u32::from(function) << 8
        | u32::from(register & 0xfc)
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, at: DeviceFunction, register_offset: u8) -> u32 {
        read(at.bus, at.device, at.function, register_offset)
    }

    fn write_word(&mut self, at: DeviceFunction, register_offset: u8, data: u32) {
        write(at.bus, at.device, at.function, register_offset, data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Ports
    }
}

/// Where BARs go that nobody has placed.
const BARS: u32 = 0xe000_0000;

/// The functions, and where the next BAR goes.
pub struct Bus {
    /// For looking at them.
    pub root: PciRoot<Ports>,
    next: u32,
}

impl Bus {
    /// With no BAR placed yet.
    pub fn new() -> Self {
        Bus {
            root: PciRoot::new(Ports),
            next: BARS,
        }
    }

    /// Leaves BARs where firmware put them, places those that nobody did or that lie above what is mapped,
    /// and switches the function on.
    pub fn prepare(&mut self, at: DeviceFunction) {
        let mut index = 0;
        while index < 6 {
            let info = self.root.bar_info(at, index).expect("a BAR");
            let wide = info.as_ref().is_some_and(BarInfo::takes_two_entries);
            if let Some(BarInfo::Memory { address, size, .. }) = info
                && (address == 0 || address >= 1 << 32)
            {
                let size = size as u32;
                self.next = self.next.next_multiple_of(size);
                if wide {
                    self.root.set_bar_64(at, index, u64::from(self.next));
                } else {
                    self.root.set_bar_32(at, index, self.next);
                }
                self.next += size;
            }
            index += if wide { 2 } else { 1 };
        }
        self.root.set_command(
            at,
            Command::IO_SPACE | Command::MEMORY_SPACE | Command::BUS_MASTER,
        );
    }
}
