//! PCI by configuration mechanism 1, as a driver without firmware uses it.

use crate::qtest::Qtest;

/// A function on bus 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Slot and function as in bits 7 to 3 and 2 to 0.
    pub devfn: u8,
}

/// Offsets in configuration space.
pub mod reg {
    /// Vendor.
    pub const VENDOR: u8 = 0x00;
    /// Device.
    pub const DEVICE: u8 = 0x02;
    /// Command.
    pub const COMMAND: u8 = 0x04;
    /// Status.
    pub const STATUS: u8 = 0x06;
    /// First base address.
    pub const BAR0: u8 = 0x10;
    /// Subsystem.
    pub const SUBSYSTEM: u8 = 0x2e;
    /// First capability.
    pub const CAPABILITIES: u8 = 0x34;
    /// Interrupt line.
    pub const LINE: u8 = 0x3c;
    /// Interrupt pin.
    pub const PIN: u8 = 0x3d;
}

/// I/O, memory and bus mastering.
pub const ENABLE: u16 = 0x7;

impl Function {
    /// Slot and function.
    pub const fn at(slot: u8, function: u8) -> Self {
        Function {
            devfn: slot << 3 | function,
        }
    }

    /// The whole offset goes to 0xcf8 and the access to 0xcfc, so low bits of the address count.
    fn select(self, t: &mut Qtest, offset: u8) {
        t.outl(
            0xcf8,
            1 << 31 | u32::from(self.devfn) << 8 | u32::from(offset),
        );
    }

    /// Reads a byte.
    pub fn read8(self, t: &mut Qtest, offset: u8) -> u8 {
        self.select(t, offset);
        t.inb(0xcfc)
    }

    /// Reads two bytes.
    pub fn read16(self, t: &mut Qtest, offset: u8) -> u16 {
        self.select(t, offset);
        t.inw(0xcfc)
    }

    /// Reads four bytes.
    pub fn read32(self, t: &mut Qtest, offset: u8) -> u32 {
        self.select(t, offset);
        t.inl(0xcfc)
    }

    /// Writes a byte.
    pub fn write8(self, t: &mut Qtest, offset: u8, value: u8) {
        self.select(t, offset);
        t.outb(0xcfc, value);
    }

    /// Writes two bytes.
    pub fn write16(self, t: &mut Qtest, offset: u8, value: u16) {
        self.select(t, offset);
        t.outw(0xcfc, value);
    }

    /// Writes four bytes.
    pub fn write32(self, t: &mut Qtest, offset: u8, value: u32) {
        self.select(t, offset);
        t.outl(0xcfc, value);
    }

    /// Offsets and ids of its capabilities.
    ///
    /// # Panics
    /// When their list does not end.
    pub fn capabilities(self, t: &mut Qtest) -> Vec<(u8, u8)> {
        let mut list = Vec::new();
        let mut at = self.read8(t, reg::CAPABILITIES) & 0xfc;
        while at != 0 {
            list.push((self.read8(t, at), at));
            assert!(list.len() < 48, "a loop of capabilities");
            at = self.read8(t, at + 1) & 0xfc;
        }
        list
    }

    /// Offset of a capability.
    pub fn capability(self, t: &mut Qtest, id: u8) -> Option<u8> {
        let list = self.capabilities(t);
        list.iter()
            .find(|(found, _)| *found == id)
            .map(|(_, at)| *at)
    }

    /// Size of what a base address register decodes; None where it decodes nothing.
    pub fn bar_size(self, t: &mut Qtest, bar: u8) -> Option<u32> {
        let at = reg::BAR0 + bar * 4;
        let before = self.read32(t, at);
        self.write32(t, at, 0xffff_ffff);
        let mask = self.read32(t, at);
        self.write32(t, at, before);
        let bits = if mask & 1 == 1 { mask & !3 } else { mask & !15 };
        (bits != 0).then(|| (!bits).wrapping_add(1))
    }

    /// Places a base address register; only its low half is written.
    pub fn place(self, t: &mut Qtest, bar: u8, address: u32) {
        self.write32(t, reg::BAR0 + bar * 4, address);
    }

    /// Switches decoding and bus mastering on, and checks that they are.
    ///
    /// # Panics
    /// When a bit does not stay.
    pub fn enable(self, t: &mut Qtest) {
        let command = self.read16(t, reg::COMMAND);
        self.write16(t, reg::COMMAND, command | ENABLE);
        assert_eq!(self.read16(t, reg::COMMAND) & ENABLE, ENABLE);
    }
}

/// Every function on bus 0.
pub fn functions(t: &mut Qtest) -> Vec<Function> {
    (0..=255)
        .map(|devfn| Function { devfn })
        .filter(|f| f.read16(t, reg::VENDOR) != 0xffff)
        .collect()
}
