//! Where things are in the guest's physical address space: the maps of q35 and i440FX, as QEMU lays
//! them out.

/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First address.
    pub base: u64,
    /// Bytes; never zero.
    pub len: u64,
}

impl Window {
    /// From the first address and the first one behind.
    pub const fn new(base: u64, end: u64) -> Self {
        Window {
            base,
            len: end.saturating_sub(base),
        }
    }
    /// The last address.
    pub const fn last(self) -> u64 {
        self.base.saturating_add(self.len.saturating_sub(1))
    }
    /// The first address behind.
    pub const fn end(self) -> u64 {
        self.base.saturating_add(self.len)
    }
    /// Whether `addr` is inside.
    pub const fn contains(self, addr: u64) -> bool {
        addr >= self.base && addr <= self.last()
    }
}

/// The slots of the i440FX's root bus that the chipset is in, a bit each.
pub const I440FX_SLOTS: u32 = 0b11;

/// What the machine is built around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// q35 and ICH9: PCI Express.
    Q35,
    /// i440FX, PIIX3 and the power management of PIIX4: PCI.
    I440fx,
}

/// Ports of power management, and what is written to them: what the FADT tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PmPorts {
    /// First port of general purpose events.
    pub gpe0: u16,
    /// Bytes of general purpose events: status, and enable behind it.
    pub gpe0_len: u8,
    /// Written to [`SMI_COMMAND`] to enter ACPI mode.
    pub acpi_enable: u8,
    /// Written to [`SMI_COMMAND`] to leave it.
    pub acpi_disable: u8,
}

impl Board {
    /// See [`PmPorts`].
    pub const fn pm_ports(self) -> PmPorts {
        match self {
            Board::Q35 => PmPorts {
                gpe0: PM_BASE + 0x20,
                gpe0_len: 16,
                acpi_enable: 2,
                acpi_disable: 3,
            },
            Board::I440fx => PmPorts {
                gpe0: 0xafe0,
                gpe0_len: 4,
                acpi_enable: 0xf1,
                acpi_disable: 0xf0,
            },
        }
    }

    /// Interrupt links of PCI functions.
    pub const fn links(self) -> u8 {
        match self {
            Board::Q35 => 8,
            Board::I440fx => 4,
        }
    }

    /// Which interrupt link (0 for A) a pin of a slot on the root bus is wired to, as on QEMU's
    /// machines. Pins count from 0 for INTA. On q35 slots 0 to 24 take turns on E to H, 25 to 29
    /// and 31 have A to D in order, 30 has E to H in order. On i440FX all take turns on A to D.
    pub const fn pirq(self, slot: u8, pin: u8) -> u8 {
        let pin = pin & 3;
        match (self, slot & 31) {
            (Board::I440fx, slot) => (slot + pin + 3) & 3,
            (Board::Q35, slot @ 0..=24) => 4 + ((slot + pin) & 3),
            (Board::Q35, 30) => 4 + pin,
            (Board::Q35, _) => pin,
        }
    }

    /// The window in memory that shows configuration space.
    pub const fn ecam(self) -> Option<Window> {
        match self {
            Board::Q35 => Some(ECAM),
            Board::I440fx => None,
        }
    }
}

/// Enhanced configuration access: 256 buses of 1 MiB each (PCI Express Base, section 7.2.2).
const ECAM: Window = Window::new(0xb000_0000, 0xc000_0000);
/// The I/O APIC's registers, where the windows for BARs below 4 GiB end.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Where I/O BARs go.
pub const IO: Window = Window::new(0xc000, 0x1_0000);
/// The local APICs' registers, and where MSIs are written to.
pub const LAPIC: Window = Window::new(0xfee0_0000, 0xfef0_0000);
/// Three pages that Intel's KVM needs for real mode. Below the firmware's 16 MiB at most.
pub const TSS: u64 = 0xfeff_d000;
/// One page that Intel's KVM needs for real mode without paging.
pub const IDENTITY_MAP: u64 = 0xfeff_c000;
/// Bytes of the window for 64-bit BARs.
const MMIO64_LEN: u64 = 32 * GIB;

/// The ACPI power management block.
pub const PM_BASE: u16 = 0x600;
/// The PM1a event block.
pub const PM1A_EVENT: u16 = PM_BASE;
/// The PM1a control block.
pub const PM1A_CONTROL: u16 = PM_BASE + 4;
/// The power management timer.
pub const PM_TIMER: u16 = PM_BASE + 8;
/// SMI command port, where the guest asks for ACPI mode.
pub const SMI_COMMAND: u16 = 0xb2;
/// The system control interrupt.
pub const SCI: u8 = 9;
/// The chipset's reset register; writing [`RESET_VALUE`] resets the machine.
pub const RESET_PORT: u16 = 0xcf9;
/// See [`RESET_PORT`].
pub const RESET_VALUE: u8 = 0x0f;

/// Interrupt links A to H of q35 are inputs 16 to 23 of the I/O APIC.
pub const PIRQ_GSI: u8 = 16;

/// Where firmware puts its tables: the ACPI root pointer and the SMBIOS entry point are looked
/// for in the upper half.
pub const TABLES: Window = Window::new(0xe_0000, 0x10_0000);
/// What programs leave alone: video memory and option ROMs.
pub const LEGACY_HOLE: Window = Window::new(0xa_0000, 0x10_0000);

/// Where RAM is, and the room for BARs behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamLayout {
    /// Whose map it is.
    pub board: Board,
    /// Bytes from address 0 on.
    pub below_4g: u64,
    /// Bytes from 4 GiB on.
    pub above_4g: u64,
}

impl RamLayout {
    /// The map of `board` for `size` bytes of RAM. q35: up to 2.75 GiB in one piece below the
    /// ECAM; of more RAM than that only 2 GiB stay below, and the rest begins at 4 GiB. i440FX:
    /// up to 3.5 GiB in one piece; of more than that 3 GiB stay below.
    pub const fn new(board: Board, size: u64) -> Self {
        let (whole, split) = match board {
            Board::Q35 => (ECAM.base, 2 * GIB),
            Board::I440fx => (0xe000_0000, 3 * GIB),
        };
        let limit = if size >= whole { split } else { whole };
        let below_4g = if size < limit { size } else { limit };
        RamLayout {
            board,
            below_4g,
            above_4g: size - below_4g,
        }
    }

    /// Where BARs below 4 GiB go: behind RAM and ECAM, up to the I/O APIC.
    pub const fn mmio32(self) -> Window {
        let first = match self.board {
            Board::I440fx if self.below_4g > 3 * GIB => 0xe000_0000,
            Board::I440fx | Board::Q35 => 0xc000_0000,
        };
        Window::new(first, IOAPIC)
    }

    /// All RAM.
    pub const fn size(self) -> u64 {
        self.below_4g.saturating_add(self.above_4g)
    }

    /// The RAM ranges in order.
    pub fn ranges(self) -> impl Iterator<Item = Window> {
        let low = Window {
            base: 0,
            len: self.below_4g,
        };
        let high = Window {
            base: 4 * GIB,
            len: self.above_4g,
        };
        [low, high].into_iter().filter(|range| range.len > 0)
    }

    /// Where 64-bit BARs go: from the next gibibyte behind RAM on.
    pub fn mmio64(self) -> Window {
        let base = (4 * GIB)
            .saturating_add(self.above_4g)
            .div_ceil(GIB)
            .saturating_mul(GIB);
        Window {
            base,
            len: MMIO64_LEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_leaves_the_pci_hole_free() {
        use Board::{I440fx, Q35};
        const MIB: u64 = 1 << 20;
        for (board, size, below, above, mmio64) in [
            (Q35, 128 * MIB, 128 * MIB, 0, 4 * GIB),
            (Q35, 2 * GIB, 2 * GIB, 0, 4 * GIB),
            (Q35, 0xaff0_0000, 0xaff0_0000, 0, 4 * GIB),
            (Q35, 0xb000_0000, 2 * GIB, 0x3000_0000, 5 * GIB),
            (Q35, 4 * GIB, 2 * GIB, 2 * GIB, 6 * GIB),
            (Q35, 8 * GIB + 4096, 2 * GIB, 6 * GIB + 4096, 11 * GIB),
            (I440fx, 128 * MIB, 128 * MIB, 0, 4 * GIB),
            (I440fx, 3 * GIB, 3 * GIB, 0, 4 * GIB),
            (I440fx, 3 * GIB + MIB, 3 * GIB + MIB, 0, 4 * GIB),
            (I440fx, 0xdfff_0000, 0xdfff_0000, 0, 4 * GIB),
            (I440fx, 0xe000_0000, 3 * GIB, 512 * MIB, 5 * GIB),
            (I440fx, 4 * GIB, 3 * GIB, GIB, 5 * GIB),
        ] {
            let layout = RamLayout::new(board, size);
            assert_eq!((layout.below_4g, layout.above_4g), (below, above));
            assert_eq!(layout.mmio64().base, mmio64);
            assert_eq!(layout.size(), size);
            assert_eq!(layout.ranges().map(|range| range.len).sum::<u64>(), size);
            let window = layout.mmio32();
            assert!(
                window.base >= below && window.end() == IOAPIC,
                "{window:x?}"
            );
            let ecam = board.ecam();
            assert!(ecam.is_none_or(|ecam| ecam.base >= below && ecam.end() <= window.base));
        }
    }

    #[test]
    fn pins_are_wired_as_on_qemus_machines() {
        use Board::{I440fx, Q35};
        for (board, slot, pin, link) in [
            (Q35, 0, 0, 4),
            (Q35, 3, 1, 4),
            (Q35, 4, 3, 7),
            (Q35, 31, 0, 0),
            (Q35, 30, 2, 6),
            (Q35, 25, 3, 3),
            (I440fx, 0, 0, 3),
            (I440fx, 1, 0, 0),
            (I440fx, 1, 3, 3),
            (I440fx, 3, 0, 2),
            (I440fx, 4, 3, 2),
            (I440fx, 31, 0, 2),
        ] {
            assert_eq!(board.pirq(slot, pin), link, "{board:?} {slot}.{pin}");
            assert!(link < board.links());
        }
    }
}
