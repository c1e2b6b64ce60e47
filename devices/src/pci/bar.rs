//! Base address registers.

/// What a BAR decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes two registers.
    Memory64 {
        /// Reads have no side effects, so it may lie in a bridge's prefetchable window.
        prefetchable: bool,
    },
}

impl BarKind {
    /// The read-only low bits of the register.
    pub(super) const fn flags(self) -> u32 {
        match self {
            BarKind::Io => 1,
            BarKind::Memory32 => 0,
            BarKind::Memory64 { prefetchable } => 4 | (prefetchable as u32) << 3,
        }
    }

    /// Bytes of configuration space that it takes.
    pub(super) const fn bytes(self) -> usize {
        match self {
            BarKind::Io | BarKind::Memory32 => 4,
            BarKind::Memory64 { .. } => 8,
        }
    }

    const fn smallest(self) -> u64 {
        match self {
            BarKind::Io => 4,
            BarKind::Memory32 | BarKind::Memory64 { .. } => 16,
        }
    }
}

/// A BAR as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bar {
    pub kind: BarKind,
    pub size: u64,
}

impl Bar {
    /// Sizes are rounded up to what the hardware can express.
    pub fn new(kind: BarKind, size: u64) -> Self {
        let size = size.max(kind.smallest());
        Bar {
            kind,
            size: size.checked_next_power_of_two().unwrap_or(1 << 63),
        }
    }

    /// The address bits that can be written.
    pub const fn address_mask(self) -> u64 {
        let mask = !(self.size - 1);
        match self.kind {
            BarKind::Io | BarKind::Memory32 => mask & 0xffff_ffff,
            BarKind::Memory64 { .. } => mask,
        }
    }
}

/// A BAR and where the guest put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarAddress {
    /// Index of its (first) register, 0 to 5.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// Bytes, a power of two.
    pub size: u64,
    /// The address in the register.
    pub base: u64,
}

impl BarAddress {
    /// The last address.
    pub const fn last(self) -> u64 {
        self.base.saturating_add(self.size - 1)
    }

    /// Whether the address makes sense: 0 is "nowhere" (what a reset leaves), and what touches
    /// the end of the space is what sizing leaves.
    pub const fn is_placed(self) -> bool {
        let end = match self.kind {
            BarKind::Io => 0x1_0000,
            BarKind::Memory32 => 0xffff_ffff,
            BarKind::Memory64 { .. } => u64::MAX,
        };
        self.base != 0 && self.last() < end
    }
}
