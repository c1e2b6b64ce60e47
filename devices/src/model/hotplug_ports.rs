//! The ports by which ACPI code plugs and unplugs PCI functions on the root bus of a PC with PIIX4
//! (QEMU, docs/specs/acpi_pci_hotplug): what came, what is to go, and "this slot is empty now".
//!
//! ```text
//! plugged:    up set    -> event -> guest reads up (which clears it), finds the function
//! unplugging: down set  -> event -> guest reads down, lets go of it, writes eject -> slot ejected
//! ```

use serde::{Deserialize, Serialize};

use super::registers::{is_default, show, written};

/// First port.
pub(super) const BASE: u64 = 0xae00;
/// Bytes.
pub(super) const LEN: u64 = 0x14;

/// Slots with something new, a bit each; cleared by reading.
const UP: u64 = 0x00;
/// Slots whose function is to go.
const DOWN: u64 = 0x04;
/// Written: these slots are let go. Read: features, of which there are none.
const EJECT: u64 = 0x08;
/// Slots whose function can go.
const REMOVABLE: u64 = 0x0c;
/// The bus that the others are about; 0 is the root bus.
const SELECT: u64 = 0x10;
/// The number of the one bus that there is.
const ROOT_BUS: u32 = 0;

/// The registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HotplugPorts {
    /// Slots of functions that stay, which the machine's wiring says.
    fixed: u32,
    up: u32,
    down: u32,
    selected: u32,
}

fn bit(slot: u8) -> u32 {
    1u32.checked_shl(u32::from(slot)).unwrap_or(0)
}

impl HotplugPorts {
    /// Nothing came and nothing is to go. `fixed` are the slots, a bit each, whose functions
    /// stay.
    pub const fn new(fixed: u32) -> Self {
        HotplugPorts {
            fixed,
            up: 0,
            down: 0,
            selected: ROOT_BUS,
        }
    }

    /// Something was plugged in `slot`, 0 to 31.
    pub fn announce(&mut self, slot: u8) {
        self.up |= bit(slot) & !self.fixed;
    }

    /// What is in `slot` is to go.
    pub fn ask_for(&mut self, slot: u8) {
        self.down |= bit(slot) & !self.fixed;
    }

    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        show(SELECT, &self.selected.to_le_bytes(), offset, data);
        if self.selected != ROOT_BUS {
            return;
        }
        show(UP, &self.up.to_le_bytes(), offset, data);
        show(DOWN, &self.down.to_le_bytes(), offset, data);
        show(REMOVABLE, &(!self.fixed).to_le_bytes(), offset, data);
        // What was read of it is known now.
        let len = data.len().min(8);
        if let Some(seen) = written(UP, 4, offset, [0xff; 8].get(..len).unwrap_or(&[])) {
            self.up &= !(seen.mask as u32);
        }
    }

    /// Returns the slot that the guest lets go of: the lowest of those that it names, as one is
    /// done at a time.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<u32> {
        if let Some(new) = written(SELECT, 4, offset, data) {
            self.selected = new.over(u64::from(self.selected), u64::from(u32::MAX)) as u32;
        }
        let named = written(EJECT, 4, offset, data)?.value as u32 & !self.fixed;
        if named == 0 || self.selected != ROOT_BUS {
            return None;
        }
        let slot = 1u32.checked_shl(named.trailing_zeros())?;
        self.up &= !slot;
        self.down &= !slot;
        Some(slot)
    }

    pub fn reset(&mut self) {
        *self = Self::new(self.fixed);
    }

    pub fn save(&self) -> state::HotplugPortsV1 {
        let HotplugPorts {
            fixed: _,
            up,
            down,
            selected,
        } = *self;
        state::HotplugPortsV1 { up, down, selected }
    }

    pub fn restore(&mut self, state: state::HotplugPortsV1) {
        let state::HotplugPortsV1 { up, down, selected } = state;
        self.up = up & !self.fixed;
        self.down = down & !self.fixed;
        self.selected = selected;
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// The registers.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct HotplugPortsV1 {
        /// Slots with something new.
        #[serde(skip_serializing_if = "is_default")]
        pub up: u32,
        /// Slots whose function is to go.
        #[serde(skip_serializing_if = "is_default")]
        pub down: u32,
        /// The bus selected.
        #[serde(skip_serializing_if = "is_default")]
        pub selected: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ports: &mut HotplugPorts, offset: u64) -> u32 {
        let mut data = [0; 4];
        ports.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn what_came_is_told_once() {
        let mut ports = HotplugPorts::new(3);
        ports.announce(6);
        ports.announce(31);
        ports.announce(1);
        ports.announce(40);
        let mut byte = [0];
        ports.read(UP, &mut byte);
        assert_eq!(byte, [1 << 6]);
        assert_eq!(read(&mut ports, UP), 1 << 31);
        assert_eq!(read(&mut ports, UP), 0);
        assert_eq!(read(&mut ports, REMOVABLE), 0xffff_fffc);
        assert_eq!(read(&mut ports, EJECT), 0);
        ports.read(u64::MAX, &mut []);
    }

    #[test]
    fn one_slot_is_ejected_at_a_time() {
        let mut ports = HotplugPorts::new(3);
        ports.ask_for(6);
        ports.ask_for(7);
        assert_eq!(read(&mut ports, DOWN), 0xc0);
        assert_eq!(read(&mut ports, DOWN), 0xc0, "until it is done");
        assert_eq!(ports.write(EJECT, &0xc3u32.to_le_bytes()), Some(1 << 6));
        assert_eq!(read(&mut ports, DOWN), 0x80);
        // Nobody asked for this one: the guest may all the same.
        assert_eq!(ports.write(EJECT, &(1u32 << 9).to_le_bytes()), Some(1 << 9));
        for nothing in [0u32, 1, 3] {
            assert_eq!(ports.write(EJECT, &nothing.to_le_bytes()), None);
        }
        assert_eq!(ports.write(DOWN, &[0xff; 4]), None);
        assert_eq!(read(&mut ports, DOWN), 0x80);
        ports.reset();
        assert_eq!(read(&mut ports, DOWN), 0);
    }

    #[test]
    fn another_bus_has_nothing() {
        let mut ports = HotplugPorts::new(0);
        ports.announce(2);
        ports.ask_for(3);
        assert_eq!(ports.write(SELECT, &5u32.to_le_bytes()), None);
        assert_eq!(read(&mut ports, SELECT), 5);
        for offset in [UP, DOWN, REMOVABLE] {
            assert_eq!(read(&mut ports, offset), 0);
        }
        assert_eq!(ports.write(EJECT, &[8]), None);
        ports.write(SELECT, &[0]);
        assert_eq!((read(&mut ports, UP), read(&mut ports, DOWN)), (4, 8));
    }
}
