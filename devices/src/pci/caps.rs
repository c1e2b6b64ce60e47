//! Capabilities that several kinds of functions carry.

use super::config::ConfigSpace;
use super::regs::capability;
use super::slot::SlotState;

/// Registers of the PCI Express capability, from its start (PCI Express Base 3.0, section 7.8).
pub mod express {
    #![allow(missing_docs)] // the names are the specification's
    pub const DEVICE_CONTROL: u16 = 0x08;
    pub const DEVICE_STATUS: u16 = 0x0a;
    pub const LINK_CONTROL: u16 = 0x10;
    pub const LINK_STATUS: u16 = 0x12;
    pub const SLOT_CAPABILITIES: u16 = 0x14;
    pub const SLOT_CONTROL: u16 = 0x18;
    pub const SLOT_STATUS: u16 = 0x1a;
    pub const ROOT_CONTROL: u16 = 0x1c;
    pub const ROOT_STATUS: u16 = 0x20;
    pub const DEVICE_CONTROL_2: u16 = 0x28;
    pub const LINK_CONTROL_2: u16 = 0x30;
    /// Bytes behind the two link bytes.
    pub const BODY: usize = 0x3a;
}

/// What a PCI Express function is to its fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressRole {
    /// Below a port.
    Endpoint,
    /// On the root complex itself.
    IntegratedEndpoint,
    /// A port of the root complex.
    RootPort {
        /// Port number in the link capabilities.
        port: u8,
        /// The slot that it leads to.
        slot: Slot,
    },
}

/// A slot behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Physical slot number, unique in the chassis; 13 bits.
    pub number: u16,
    /// Devices come and go while the machine runs.
    pub hot_plug: bool,
}

/// Slot capabilities: the slot takes commands one after the other without delay, and does not tell
/// of each that it was carried out (section 7.8.9).
const NO_COMMAND_COMPLETED: u32 = 1 << 18;
/// Slot status: the button, a presence change, and so on: cleared by writing ones.
const SLOT_STATUS_CLEARS: u16 = 0x010f;
/// Slot status: presence detect state and data link layer state.
const SLOT_STATUS_DRIVEN: u16 = 0x010f | 1 << 5 | 1 << 6 | 1 << 7;
/// Link status: the data link layer is up.
pub const LINK_ACTIVE: u16 = 1 << 13;
/// 2.5 GT/s, one lane.
const LINK: u16 = 0x0011;

impl ConfigSpace {
    /// Adds power management (PCI Power Management 1.2, section 3.2): D0 and D3hot, no soft reset
    /// between them, no PME.
    pub fn add_power_management(&mut self) -> Option<u16> {
        let body = [0x03, 0x00, 0x08, 0x00, 0x00, 0x00];
        self.add_capability(capability::POWER, &body, &[0, 0, 0x03, 0, 0, 0])
    }

    /// Adds the subsystem capability of bridges.
    pub fn add_bridge_subsystem(&mut self, vendor: u16, device: u16) -> Option<u16> {
        let [v0, v1] = vendor.to_le_bytes();
        let [d0, d1] = device.to_le_bytes();
        self.add_capability(capability::SUBSYSTEM, &[0, 0, v0, v1, d0, d1], &[])
    }

    /// Adds the PCI Express capability, version 2, and returns its offset.
    pub fn add_express(&mut self, role: ExpressRole) -> Option<u16> {
        let at = self.add_capability(capability::EXPRESS, &[0; express::BODY], &[])?;
        self.set_express();
        let (kind, link) = match role {
            ExpressRole::Endpoint => (0, true),
            ExpressRole::IntegratedEndpoint => (9, false),
            ExpressRole::RootPort { .. } => (4, true),
        };
        let slot_there = u16::from(matches!(role, ExpressRole::RootPort { .. })) << 8;
        let mut field = |offset: u16, value: &[u8]| self.init(at.saturating_add(offset), value);
        field(0x02, &(2 | kind << 4 | slot_there).to_le_bytes());
        // Role-based error reporting, 128-byte payloads.
        field(0x04, &(1u32 << 15).to_le_bytes());
        // Completion timeouts can be disabled; extended fmt and TLP prefixes are not there.
        field(0x24, &(1u32 << 4).to_le_bytes());
        if link {
            field(0x12, &LINK.to_le_bytes());
            field(0x2c, &2u32.to_le_bytes());
            field(0x30, &1u16.to_le_bytes());
        }
        self.express_masks(at, link);
        match role {
            ExpressRole::RootPort { port, slot } => self.express_port(at, port, slot),
            ExpressRole::Endpoint => self.init(at.saturating_add(0x0c), &LINK.to_le_bytes()),
            ExpressRole::IntegratedEndpoint => {}
        }
        Some(at)
    }

    fn express_masks(&mut self, at: u16, link: bool) {
        let at = |offset: u16| at.saturating_add(offset);
        // Error reporting, payload and read sizes, no-snoop, relaxed ordering.
        self.allow(at(express::DEVICE_CONTROL), &0x78ff_u16.to_le_bytes());
        self.clear_by_one(at(express::DEVICE_STATUS), &[0x0f]);
        self.allow(at(express::DEVICE_CONTROL_2), &[0x1f]);
        if link {
            self.allow(at(express::LINK_CONTROL), &0x01db_u16.to_le_bytes());
            self.allow(at(express::LINK_CONTROL_2), &[0x0f]);
        }
    }

    fn express_port(&mut self, cap: u16, port: u8, slot: Slot) {
        let at = |offset: u16| cap.saturating_add(offset);
        let link = u32::from(LINK) | 1 << 20 | u32::from(port) << 24;
        self.init(at(0x0c), &link.to_le_bytes());
        // Attention button, power controller, indicators: what operating systems expect of a
        // slot in which cards may come and go. A command is carried out with the write: guests
        // need not wait for word that it was.
        let features = if slot.hot_plug {
            0x7b | NO_COMMAND_COMPLETED
        } else {
            0
        };
        let slot_bits = u32::from(slot.number & 0x1fff) << 19 | features;
        self.init(at(express::SLOT_CAPABILITIES), &slot_bits.to_le_bytes());
        let empty = SlotState::new(slot.hot_plug, false);
        self.init(at(express::SLOT_CONTROL), &empty.control.to_le_bytes());
        self.allow(at(express::SLOT_CONTROL), &0x17ef_u16.to_le_bytes());
        self.clear_by_one(at(express::SLOT_STATUS), &SLOT_STATUS_CLEARS.to_le_bytes());
        self.drive(at(express::SLOT_STATUS), &SLOT_STATUS_DRIVEN.to_le_bytes());
        self.drive(at(express::LINK_STATUS), &0xffff_u16.to_le_bytes());
        self.allow(at(express::ROOT_CONTROL), &[0x1f]);
        self.clear_by_one(at(express::ROOT_STATUS), &[0, 0, 1, 0]);
        self.drive(at(express::ROOT_STATUS), &[0xff, 0xff, 0x03, 0]);
    }
}
