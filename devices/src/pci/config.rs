//! Configuration space, built from data: every byte has a value after reset, a mask of the bits
//! that the guest can write, and a mask of the bits that it clears by writing ones.

use serde::{Deserialize, Serialize};
use vmstate::{Blob, Snapshot, StateError};

use super::bar::{Bar, BarAddress, BarKind};
use super::regs::*;

/// Bytes of conventional configuration space.
const CONVENTIONAL: usize = 256;
/// Bytes of PCI Express configuration space.
const EXTENDED: usize = 4096;
/// Where the capability list begins; everything below is the header.
const FIRST_CAPABILITY: usize = 0x40;

/// Who a function says it is (PCI Local Bus 3.0, section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and programming interface, 24 bits.
    pub class: u32,
    /// Subsystem vendor; bridges carry it in a capability of their own, or not at all.
    pub subsystem_vendor: u16,
    /// Subsystem.
    pub subsystem: u16,
}

/// Layout of the first 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderKind {
    /// Type 0: an endpoint or host bridge.
    Endpoint,
    /// Type 1: a bridge to another bus.
    Bridge,
}

/// What a write changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "a changed decode asks for a new address map"]
pub struct ConfigChange {
    /// BARs that are decoded, decode enables, bridge windows or bus numbers changed.
    pub decode: bool,
}

/// The bus numbers and windows of a bridge (PCI-to-PCI Bridge Architecture 1.2, section 3.2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BridgeWindows {
    /// Bus on the near side.
    pub primary: u8,
    /// Bus on the far side; 0 while not set up.
    pub secondary: u8,
    /// Highest bus behind.
    pub subordinate: u8,
    /// Nothing gets through, whatever the rest says: what is behind has no power.
    pub cut_off: bool,
    /// Ports, first and last.
    pub io: Option<(u64, u64)>,
    /// Memory, first and last.
    pub memory: Option<(u64, u64)>,
    /// Prefetchable memory, first and last.
    pub prefetchable: Option<(u64, u64)>,
}

/// Configuration space of one function.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    kind: HeaderKind,
    express: bool,
    bars: [Option<Bar>; 6],
    bytes: Box<[u8]>,
    after_reset: Box<[u8]>,
    writable: Box<[u8]>,
    write_one_clears: Box<[u8]>,
    /// Bits that the function itself changes.
    driven: Box<[u8]>,
    next_capability: usize,
    last_link: usize,
    cut_off: bool,
}

impl ConfigSpace {
    /// A type 0 header without BARs or capabilities.
    pub fn endpoint(identity: Identity) -> Self {
        let mut space = Self::header(HeaderKind::Endpoint, identity);
        space.init(SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        space.init(SUBSYSTEM, &identity.subsystem.to_le_bytes());
        space
    }

    /// A type 1 header: bus numbers, windows (32-bit ports, 64-bit prefetchable memory).
    pub fn bridge(identity: Identity) -> Self {
        let mut space = Self::header(HeaderKind::Bridge, identity);
        space.init(HEADER_TYPE, &[1]);
        space.allow(PRIMARY_BUS, &[0xff; 3]);
        space.allow(SECONDARY_LATENCY, &[0xff]);
        space.init(IO_BASE, &[0x01, 0x01]);
        space.allow(IO_BASE, &[0xf0, 0xf0]);
        space.clear_by_one(SECONDARY_STATUS, &0xf900_u16.to_le_bytes());
        space.allow(MEMORY_BASE, &[0xf0, 0xff, 0xf0, 0xff]);
        space.init(PREFETCH_BASE, &[0x01, 0, 0x01, 0]);
        space.allow(PREFETCH_BASE, &[0xf0, 0xff, 0xf0, 0xff]);
        space.allow(PREFETCH_BASE_UPPER, &[0xff; 8]);
        space.allow(IO_BASE_UPPER, &[0xff; 4]);
        space.allow(BRIDGE_CONTROL, &[0x7f, 0x0f]);
        space
    }

    fn header(kind: HeaderKind, identity: Identity) -> Self {
        let zeros = || vec![0u8; CONVENTIONAL].into_boxed_slice();
        let mut space = ConfigSpace {
            kind,
            express: false,
            bars: [None; 6],
            bytes: zeros(),
            after_reset: zeros(),
            writable: zeros(),
            write_one_clears: zeros(),
            driven: zeros(),
            next_capability: FIRST_CAPABILITY,
            last_link: usize::from(CAPABILITIES),
            cut_off: false,
        };
        space.init(VENDOR, &identity.vendor.to_le_bytes());
        space.init(DEVICE, &identity.device.to_le_bytes());
        space.init(REVISION, &[identity.revision]);
        let class = identity.class.to_le_bytes();
        space.init(CLASS, class.get(..3).unwrap_or(&[]));
        // All of these read back on every function, whichever BARs it has: drivers and tests
        // check that they stick.
        let command = command::IO
            | command::MEMORY
            | command::MASTER
            | command::PARITY
            | command::SERR
            | command::INTX_DISABLE;
        space.allow(COMMAND, &command.to_le_bytes());
        space.clear_by_one(STATUS, &0xf900_u16.to_le_bytes());
        space.drive(STATUS, &status::INTERRUPT.to_le_bytes());
        space.allow(CACHE_LINE, &[0xff]);
        space.allow(LATENCY, &[0xff]);
        space.allow(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Makes it one of several functions in its slot.
    pub fn multifunction(&mut self) {
        let kind = self.after_reset.get(usize::from(HEADER_TYPE)).copied();
        self.init(HEADER_TYPE, &[kind.unwrap_or(0) | 0x80]);
    }

    /// Gives it an interrupt pin: 1 for INTA to 4 for INTD.
    pub fn interrupt_pin(&mut self, pin: u8) {
        self.init(INTERRUPT_PIN, &[pin]);
    }

    /// Adds a BAR of `size` bytes, a power of two (ports: at least 4 bytes, memory: at least 16).
    /// A 64-bit BAR takes two places. Indexes that do not exist are left out.
    pub fn add_bar(&mut self, index: u8, kind: BarKind, size: u64) {
        let last = match self.kind {
            HeaderKind::Endpoint => 5,
            HeaderKind::Bridge => 1,
        };
        let bar = Bar::new(kind, size);
        let Some(place) = self.bars.get_mut(usize::from(index)) else {
            return;
        };
        if index > last {
            return;
        }
        *place = Some(bar);
        let at = bar_offset(index);
        self.init(at, &bar.kind.flags().to_le_bytes());
        let mask = bar.address_mask().to_le_bytes();
        self.allow(at, mask.get(..bar.kind.bytes()).unwrap_or(&[]));
    }

    /// Adds a capability and returns its offset: `body` follows the two link bytes, `writable`
    /// says which of its bits the guest can write. `None` when there is no room left.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Option<u16> {
        let at = self.next_capability;
        let end = at.checked_add(2)?.checked_add(body.len())?;
        if end > CONVENTIONAL {
            return None;
        }
        let offset = u16::try_from(at).ok()?;
        let link = u8::try_from(at).ok()?;
        self.init(offset, &[id, 0]);
        self.init(offset.checked_add(2)?, body);
        self.allow(offset.checked_add(2)?, writable);
        self.init(u16::try_from(self.last_link).ok()?, &[link]);
        self.init(STATUS, &status::CAPABILITIES.to_le_bytes());
        self.last_link = at.checked_add(1)?;
        self.next_capability = end.next_multiple_of(4);
        Some(offset)
    }

    /// Makes it a PCI Express function: 4096 bytes are readable, those behind 256 as zeros, which
    /// says that there is no extended capability.
    pub(super) fn set_express(&mut self) {
        self.express = true;
    }

    /// Value after reset, and now.
    pub(crate) fn init(&mut self, offset: u16, value: &[u8]) {
        put(&mut self.after_reset, offset, value);
        put(&mut self.bytes, offset, value);
    }

    /// Lets the guest write these bits.
    pub fn allow(&mut self, offset: u16, mask: &[u8]) {
        put(&mut self.writable, offset, mask);
    }

    /// Lets the guest clear these bits by writing ones.
    pub fn clear_by_one(&mut self, offset: u16, mask: &[u8]) {
        put(&mut self.write_one_clears, offset, mask);
    }

    /// Says that the function changes these bits itself.
    pub fn drive(&mut self, offset: u16, mask: &[u8]) {
        put(&mut self.driven, offset, mask);
    }

    /// Bytes that the guest sees and this function keeps.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its header's layout.
    pub fn kind(&self) -> HeaderKind {
        self.kind
    }

    /// Guest access: reads; bytes that do not exist are all ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let limit = if self.express { EXTENDED } else { CONVENTIONAL };
        for (at, byte) in (usize::from(offset)..).zip(data) {
            let beyond = if at < limit { 0 } else { 0xff };
            *byte = self.bytes.get(at).copied().unwrap_or(beyond);
        }
    }

    /// Guest access: writes what the masks allow.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> ConfigChange {
        let before = self.decode_state();
        for (at, value) in (usize::from(offset)..).zip(data) {
            let masks = (self.writable.get(at), self.write_one_clears.get(at));
            if let ((Some(writable), Some(clears)), Some(byte)) = (masks, self.bytes.get_mut(at)) {
                *byte = ((*byte & !writable) | (value & writable)) & !(value & clears);
            }
        }
        ConfigChange {
            decode: before != self.decode_state(),
        }
    }

    /// A byte as the guest sees it.
    pub fn byte(&self, offset: u16) -> u8 {
        self.bytes.get(usize::from(offset)).copied().unwrap_or(0xff)
    }

    /// 16 bits as the guest sees them.
    pub fn word(&self, offset: u16) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset.saturating_add(1))])
    }

    /// 32 bits as the guest sees them.
    pub fn dword(&self, offset: u16) -> u32 {
        u32::from(self.word(offset)) | u32::from(self.word(offset.saturating_add(2))) << 16
    }

    /// Sets bytes from the function's side, past the masks.
    pub fn set(&mut self, offset: u16, value: &[u8]) {
        put(&mut self.bytes, offset, value);
    }

    /// Sets 16 bits from the function's side.
    pub fn set_word(&mut self, offset: u16, value: u16) {
        self.set(offset, &value.to_le_bytes());
    }

    /// Sets or clears bits of a 16-bit register from the function's side.
    pub fn set_bits(&mut self, offset: u16, bits: u16, on: bool) {
        let old = self.word(offset);
        self.set_word(offset, if on { old | bits } else { old & !bits });
    }

    /// The COMMAND register.
    pub fn command(&self) -> u16 {
        self.word(COMMAND)
    }

    /// Whether the guest lets the function use its interrupt pin.
    pub fn intx_enabled(&self) -> bool {
        self.command() & command::INTX_DISABLE == 0
    }

    /// The BARs that the function has, decoded or not, in order of index.
    pub fn bars(&self) -> impl Iterator<Item = BarAddress> + '_ {
        (0u8..).zip(&self.bars).filter_map(|(index, bar)| {
            let bar = (*bar)?;
            Some(BarAddress {
                index,
                kind: bar.kind,
                size: bar.size,
                base: self.bar_base(index, bar),
            })
        })
    }

    /// The BARs that answer now: decoding is on, and they have a place.
    pub fn active_bars(&self) -> impl Iterator<Item = BarAddress> + '_ {
        let command = self.command();
        self.bars().filter(move |bar| {
            let enable = match bar.kind {
                BarKind::Io => command::IO,
                BarKind::Memory32 | BarKind::Memory64 { .. } => command::MEMORY,
            };
            command & enable != 0 && bar.is_placed()
        })
    }

    /// Places a BAR, as firmware does; false when it has no such BAR or it does not fit there.
    pub fn place_bar(&mut self, index: u8, base: u64) -> bool {
        let Some(bar) = self.bars.get(usize::from(index)).copied().flatten() else {
            return false;
        };
        if base & !bar.address_mask() != 0 {
            return false;
        }
        let value = (base | u64::from(bar.kind.flags())).to_le_bytes();
        self.set(
            bar_offset(index),
            value.get(..bar.kind.bytes()).unwrap_or(&[]),
        );
        true
    }

    fn bar_base(&self, index: u8, bar: Bar) -> u64 {
        let at = bar_offset(index);
        let low = u64::from(self.dword(at));
        let high = match bar.kind {
            BarKind::Memory64 { .. } => u64::from(self.dword(at.saturating_add(4))) << 32,
            BarKind::Io | BarKind::Memory32 => 0,
        };
        (low | high) & bar.address_mask()
    }

    /// Bus numbers and windows, of a bridge.
    pub fn bridge_windows(&self) -> Option<BridgeWindows> {
        if self.kind != HeaderKind::Bridge {
            return None;
        }
        let command = self.command();
        let window = |base: u64, last: u64, enable: u16| {
            (command & enable != 0 && base <= last).then_some((base, last))
        };
        let io = |low: u16, high: u16| {
            u64::from(self.byte(low) & 0xf0) << 8 | u64::from(self.word(high)) << 16
        };
        let memory = |at: u16| u64::from(self.word(at) & 0xfff0) << 16;
        let upper = |at: u16| u64::from(self.dword(at)) << 32;
        Some(BridgeWindows {
            primary: self.byte(PRIMARY_BUS),
            secondary: self.byte(SECONDARY_BUS),
            subordinate: self.byte(SUBORDINATE_BUS),
            cut_off: self.cut_off,
            io: window(
                io(IO_BASE, IO_BASE_UPPER),
                io(IO_LIMIT, IO_LIMIT_UPPER) | 0xfff,
                command::IO,
            ),
            memory: window(
                memory(MEMORY_BASE),
                memory(MEMORY_LIMIT) | 0xf_ffff,
                command::MEMORY,
            ),
            prefetchable: window(
                memory(PREFETCH_BASE) | upper(PREFETCH_BASE_UPPER),
                memory(PREFETCH_LIMIT) | upper(PREFETCH_LIMIT_UPPER) | 0xf_ffff,
                command::MEMORY,
            ),
        })
    }

    /// Says whether anything gets through a bridge at all. True when that is new, which asks for a
    /// new address map.
    pub fn set_cut_off(&mut self, cut_off: bool) -> bool {
        std::mem::replace(&mut self.cut_off, cut_off) != cut_off
    }

    fn decode_state(&self) -> ([Option<u64>; 6], Option<BridgeWindows>) {
        let mut bars = [None; 6];
        for bar in self.active_bars() {
            if let Some(slot) = bars.get_mut(usize::from(bar.index)) {
                *slot = Some(bar.base);
            }
        }
        (bars, self.bridge_windows())
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        self.bytes.copy_from_slice(&self.after_reset);
    }
}

fn put(bytes: &mut [u8], offset: u16, value: &[u8]) {
    for (byte, value) in bytes.iter_mut().skip(usize::from(offset)).zip(value) {
        *byte = *value;
    }
}

const fn bar_offset(index: u8) -> u16 {
    BAR0 + 4 * index as u16
}

/// Saved state.
pub mod state {
    use super::*;

    /// Configuration space as the guest sees it.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ConfigSpaceV1 {
        /// The bytes, from 0 on.
        pub bytes: Blob,
    }
}

impl Snapshot for ConfigSpace {
    type State = state::ConfigSpaceV1;
    const ID: &'static str = "pci-config";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        state::ConfigSpaceV1 {
            bytes: Blob(self.bytes.to_vec()),
        }
    }

    /// Refuses bytes that are fixed in this function and differ in the state: the state belongs
    /// to another device, or to one with other capabilities.
    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::ConfigSpaceV1 { bytes } = state;
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        if bytes.0.len() != self.bytes.len() {
            let lengths = (bytes.0.len(), self.bytes.len());
            return Err(refuse(format!("bytes: {} of {}", lengths.0, lengths.1)));
        }
        for (at, new) in bytes.0.iter().enumerate() {
            let mask = |masks: &[u8]| masks.get(at).copied().unwrap_or(0);
            let free = mask(&self.writable) | mask(&self.write_one_clears) | mask(&self.driven);
            if (new ^ mask(&self.after_reset)) & !free != 0 {
                return Err(refuse(format!("bytes: offset {at:#x} is {new:#04x}")));
            }
        }
        self.bytes.copy_from_slice(&bytes.0);
        Ok(())
    }
}
