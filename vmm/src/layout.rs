//! Where things are in the guest's physical address space: the q35 map, as QEMU lays it out.

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

/// Enhanced configuration access: 256 buses of 1 MiB each (PCI Express Base, section 7.2.2).
pub const ECAM: Window = Window::new(0xb000_0000, 0xc000_0000);
/// Where BARs below 4 GiB go: behind the ECAM, up to the I/O APIC.
pub const MMIO32: Window = Window::new(0xc000_0000, 0xfec0_0000);
/// Where I/O BARs go.
pub const IO: Window = Window::new(0xc000, 0x1_0000);
/// The I/O APIC's registers.
pub const IOAPIC: u64 = 0xfec0_0000;
/// The local APICs' registers, and where MSIs are written to.
pub const LAPIC: Window = Window::new(0xfee0_0000, 0xfef0_0000);
/// Three pages that Intel's KVM needs for real mode. Below the firmware's 16 MiB at most.
pub const TSS: u64 = 0xfeff_d000;
/// One page that Intel's KVM needs for real mode without paging.
pub const IDENTITY_MAP: u64 = 0xfeff_c000;
/// Bytes of the window for 64-bit BARs.
const MMIO64_LEN: u64 = 32 * GIB;

/// The ACPI power management block (ICH9 PMBASE).
pub const PM_BASE: u16 = 0x600;
/// The PM1a event block.
pub const PM1A_EVENT: u16 = PM_BASE;
/// The PM1a control block.
pub const PM1A_CONTROL: u16 = PM_BASE + 4;
/// The power management timer.
pub const PM_TIMER: u16 = PM_BASE + 8;
/// General purpose events; status and enable, 8 bytes each.
pub const GPE0: u16 = PM_BASE + 0x20;
/// Bytes of the GPE0 block.
pub const GPE0_LEN: u8 = 16;
/// SMI command port, where the guest asks for ACPI mode.
pub const SMI_COMMAND: u16 = 0xb2;
/// Written to [`SMI_COMMAND`] to enter ACPI mode.
pub const ACPI_ENABLE: u8 = 2;
/// Written to [`SMI_COMMAND`] to leave it.
pub const ACPI_DISABLE: u8 = 3;
/// The system control interrupt.
pub const SCI: u8 = 9;
/// The chipset's reset register; writing [`RESET_VALUE`] resets the machine.
pub const RESET_PORT: u16 = 0xcf9;
/// See [`RESET_PORT`].
pub const RESET_VALUE: u8 = 0x0f;

/// PCI interrupt links A to H are inputs 16 to 23 of the I/O APIC.
pub const PIRQ_GSI: u8 = 16;

/// Which interrupt link (0 for A to 7 for H) a pin of a slot on the root bus is wired to, as on
/// QEMU's q35: slots 0 to 24 take turns on E to H, 25 to 29 and 31 have A to D in order, 30 has
/// E to H in order. Pins count from 0 for INTA.
pub const fn pirq(slot: u8, pin: u8) -> u8 {
    let pin = pin & 3;
    match slot & 31 {
        slot @ 0..=24 => 4 + ((slot + pin) & 3),
        30 => 4 + pin,
        _ => pin,
    }
}

/// The I/O APIC input that a pin of a slot on the root bus is wired to.
pub const fn intx_gsi(slot: u8, pin: u8) -> u8 {
    PIRQ_GSI + pirq(slot, pin)
}

/// Where firmware puts its tables: the ACPI root pointer and the SMBIOS entry point are looked
/// for in the upper half.
pub const TABLES: Window = Window::new(0xe_0000, 0x10_0000);
/// What programs leave alone: video memory and option ROMs.
pub const LEGACY_HOLE: Window = Window::new(0xa_0000, 0x10_0000);

/// Where RAM is, and the room for BARs behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamLayout {
    /// Bytes from address 0 on.
    pub below_4g: u64,
    /// Bytes from 4 GiB on.
    pub above_4g: u64,
}

impl RamLayout {
    /// The q35 map for `size` bytes of RAM: up to 2.75 GiB in one piece below the ECAM; of more
    /// RAM than that only 2 GiB stay below, and the rest begins at 4 GiB.
    pub const fn q35(size: u64) -> Self {
        let limit = if size >= ECAM.base {
            0x8000_0000
        } else {
            ECAM.base
        };
        let below_4g = if size < limit { size } else { limit };
        RamLayout {
            below_4g,
            above_4g: size - below_4g,
        }
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
        for (size, below, above, mmio64) in [
            (128 << 20, 128 << 20, 0, 4 * GIB),
            (2 * GIB, 2 * GIB, 0, 4 * GIB),
            (0xaff0_0000, 0xaff0_0000, 0, 4 * GIB),
            (0xb000_0000, 2 * GIB, 0x3000_0000, 5 * GIB),
            (4 * GIB, 2 * GIB, 2 * GIB, 6 * GIB),
            (8 * GIB + 4096, 2 * GIB, 6 * GIB + 4096, 11 * GIB),
        ] {
            let layout = RamLayout::q35(size);
            assert_eq!((layout.below_4g, layout.above_4g), (below, above));
            assert_eq!(layout.mmio64().base, mmio64);
            assert_eq!(layout.size(), size);
            assert_eq!(layout.ranges().map(|range| range.len).sum::<u64>(), size);
        }
    }
}
