//! A virtio driver, modern and with split queues, played over the qtest protocol.
//!
//! Offsets are those of virtio 1.2, section 4.1.4 (PCI transport) and 2.7 (split virtqueues).

use crate::pci::{Function, reg};
use crate::qtest::Qtest;

/// Device status bits.
pub mod status {
    /// The device was noticed.
    pub const ACKNOWLEDGE: u8 = 1;
    /// There is a driver.
    pub const DRIVER: u8 = 2;
    /// It drives.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The device is lost until reset.
    pub const NEEDS_RESET: u8 = 64;
}

/// Feature bits that no driver here takes.
const EVENT_IDX: u64 = 1 << 29;
const BAD_FEATURE: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
const FORBIDDEN: u64 = 1 << 33 | 1 << 34 | 1 << 35 | 1 << 38;

/// Entry of a descriptor table: more follow.
pub const NEXT: u16 = 1;
/// The device writes.
pub const WRITE: u16 = 2;
/// It points to a table.
pub const INDIRECT: u16 = 4;
const NO_VECTOR: u16 = 0xffff;

/// A virtio function with its structures mapped.
#[derive(Debug)]
pub struct Device {
    /// Its function.
    pub function: Function,
    common: u64,
    notify: u64,
    notify_multiplier: u32,
    isr: u64,
    device: u64,
    msix: Option<u64>,
    /// Features agreed on.
    pub features: u64,
}

/// A split queue.
#[derive(Debug, Clone)]
pub struct Queue {
    index: u16,
    /// Entries.
    pub size: u16,
    /// Descriptor table.
    pub table: u64,
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
    notify: u64,
    next_descriptor: u16,
    next_available: u16,
    last_used: u16,
}

/// Where the first device's structures are put; each has a window of its own.
const WINDOW: u32 = 0xe000_0000;
const WINDOW_SIZE: u32 = 0x20_0000;
const IO_WINDOW: u32 = 0xc000;

/// Capability ids.
const VENDOR_SPECIFIC: u8 = 9;
const MSIX: u8 = 0x11;

impl Device {
    /// Finds the device in a slot, places its BARs and reads where its structures are.
    ///
    /// # Panics
    /// When it is not a modern virtio device as drivers expect it.
    pub fn find(t: &mut Qtest, slot: u8) -> Self {
        let function = Function::at(slot, 0);
        assert_eq!(function.read16(t, reg::VENDOR), 0x1af4);
        let window = WINDOW + u32::from(slot) * WINDOW_SIZE;
        let (mut memory, mut bar) = (window, 0);
        let mut bases = [0u64; 6];
        while bar < 6 {
            let at = reg::BAR0 + bar * 4;
            let kind = function.read32(t, at);
            if let Some(size) = function.bar_size(t, bar) {
                if kind & 1 == 1 {
                    function.place(t, bar, IO_WINDOW + u32::from(slot) * 0x100);
                } else {
                    memory = memory.next_multiple_of(size);
                    function.place(t, bar, memory);
                    bases[usize::from(bar)] = u64::from(memory);
                    memory += size;
                }
            }
            bar += if kind & 7 == 4 { 2 } else { 1 };
        }
        function.enable(t);
        Self::structures(t, function, bases)
    }

    fn structures(t: &mut Qtest, function: Function, bases: [u64; 6]) -> Self {
        let mut found = [None; 5];
        let mut notify_multiplier = 0;
        let mut used_bar = None;
        let mut msix = None;
        for (id, at) in function.capabilities(t) {
            if id == VENDOR_SPECIFIC {
                let kind = usize::from(function.read8(t, at + 3));
                let bar = usize::from(function.read8(t, at + 4));
                let offset = u64::from(function.read32(t, at + 8));
                if !(1..=4).contains(&kind) || found[kind].is_some() {
                    continue;
                }
                found[kind] = Some(bases[bar] + offset);
                assert_eq!(
                    *used_bar.get_or_insert(bar),
                    bar,
                    "structures lie in more than one BAR"
                );
                if kind == 2 {
                    notify_multiplier = function.read32(t, at + 16);
                }
            } else if id == MSIX {
                let table = function.read32(t, at + 4);
                msix = Some((
                    table & 7,
                    bases[(table & 7) as usize] + u64::from(table & !7),
                ));
            }
        }
        let get = |kind: usize| found[kind].unwrap_or_else(|| panic!("no structure {kind}"));
        assert_ne!(
            msix.map(|(bar, _)| bar as usize),
            used_bar,
            "the MSI-X table is with the structures"
        );
        Device {
            function,
            common: get(1),
            notify: get(2),
            notify_multiplier,
            isr: get(3),
            device: get(4),
            msix: msix.map(|(_, at)| at),
            features: 0,
        }
    }

    /// Resets it and agrees on all offered features that are in `mask`.
    ///
    /// # Panics
    /// When it offers what it should not by default, or does not agree.
    pub fn negotiate(&mut self, t: &mut Qtest, mask: u64) {
        self.reset(t);
        self.set_status(t, status::ACKNOWLEDGE);
        self.set_status(t, status::ACKNOWLEDGE | status::DRIVER);
        let offered = self.offered(t);
        assert_eq!(offered & FORBIDDEN, 0, "features {offered:#x}");
        assert_ne!(offered & VERSION_1, 0, "features {offered:#x}");
        self.features = offered & mask & !BAD_FEATURE & !EVENT_IDX | VERSION_1;
        for half in 0..2 {
            t.writel(self.common + 8, half);
            t.writel(self.common + 12, (self.features >> (half * 32)) as u32);
        }
        let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set_status(t, wanted);
        assert_eq!(self.status(t), wanted);
    }

    /// Features it offers.
    pub fn offered(&self, t: &mut Qtest) -> u64 {
        t.writel(self.common, 0);
        let low = u64::from(t.readl(self.common + 4));
        t.writel(self.common, 1);
        low | u64::from(t.readl(self.common + 4)) << 32
    }

    /// Its status.
    pub fn status(&self, t: &mut Qtest) -> u8 {
        t.readb(self.common + 20)
    }

    /// Writes its status.
    pub fn set_status(&self, t: &mut Qtest, value: u8) {
        t.writeb(self.common + 20, value);
    }

    /// Resets it and waits until that is done.
    pub fn reset(&self, t: &mut Qtest) {
        self.set_status(t, 0);
        t.until("device reset", |t| t.readb(self.common + 20) == 0);
    }

    /// Begins to drive it.
    pub fn drive(&self, t: &mut Qtest) {
        let all = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.set_status(t, all);
        assert_eq!(self.status(t), all);
    }

    /// Number of its queues.
    pub fn queues(&self, t: &mut Qtest) -> u16 {
        t.readw(self.common + 18)
    }

    /// Address of its common structure.
    pub fn common(&self) -> u64 {
        self.common
    }

    /// Address of its own configuration.
    pub fn config(&self) -> u64 {
        self.device
    }

    /// Reads and so clears the interrupt status.
    pub fn isr(&self, t: &mut Qtest) -> u8 {
        t.readb(self.isr)
    }

    /// Sets a queue up with the size that it has.
    ///
    /// # Panics
    /// When its size is no power of two.
    pub fn queue(&self, t: &mut Qtest, index: u16, vector: Option<u16>) -> Queue {
        t.writew(self.common + 22, index);
        let size = t.readw(self.common + 24);
        assert!(size.is_power_of_two(), "queue {index} has {size} entries");
        assert_eq!(t.readw(self.common + 28), 0, "the queue is enabled already");
        let table = t.alloc(u64::from(size) * 16);
        let available = t.alloc(u64::from(size) * 2 + 6);
        let used = t.alloc(u64::from(size) * 8 + 6);
        if let Some(vector) = vector {
            t.writew(self.common + 26, vector);
            assert_eq!(t.readw(self.common + 26), vector);
        }
        for (offset, address) in [(32, table), (40, available), (48, used)] {
            t.writel(self.common + offset, address as u32);
            t.writel(self.common + offset + 4, (address >> 32) as u32);
        }
        let place = t.readw(self.common + 30);
        t.writew(self.common + 28, 1);
        assert_eq!(t.readw(self.common + 28), 1);
        Queue {
            index,
            size,
            table,
            available,
            used,
            notify: self.notify + u64::from(place) * u64::from(self.notify_multiplier),
            next_descriptor: 0,
            next_available: 0,
            last_used: 0,
        }
    }

    /// Switches MSI-X on and lets a vector write `data` to `address`.
    ///
    /// # Panics
    /// When there is no MSI-X.
    pub fn message(&self, t: &mut Qtest, vector: u16, address: u64, data: u32) {
        let table = self.msix.expect("MSI-X");
        let at = self.function.capability(t, MSIX).expect("MSI-X");
        let control = self.function.read16(t, at + 2);
        assert!(vector <= control & 0x7ff, "vector {vector} of {control:#x}");
        self.function.write16(t, at + 2, control | 0x8000);
        let entry = table + u64::from(vector) * 16;
        t.writel(entry, address as u32);
        t.writel(entry + 4, (address >> 32) as u32);
        t.writel(entry + 8, data);
        t.writel(entry + 12, 0);
    }

    /// Masks or unmasks a vector.
    pub fn mask(&self, t: &mut Qtest, vector: u16, masked: bool) {
        let table = self.msix.expect("MSI-X");
        t.writel(table + u64::from(vector) * 16 + 12, masked.into());
    }

    /// Whether a vector waits to be unmasked.
    pub fn pending(&self, t: &mut Qtest, vector: u16) -> bool {
        let at = self.function.capability(t, MSIX).expect("MSI-X");
        let table = self.function.read32(t, at + 4);
        let place = self.function.read32(t, at + 8);
        assert_eq!(
            table & 7,
            place & 7,
            "table and pending bits lie in different BARs"
        );
        let base = self.msix.expect("MSI-X") - u64::from(table & !7);
        let word = t.readq(base + u64::from(place & !7) + u64::from(vector / 64) * 8);
        word >> (vector % 64) & 1 == 1
    }

    /// Which vector tells of a changed configuration; [`Device::no_vector`] for none.
    pub fn set_config_vector(&self, t: &mut Qtest, vector: u16) -> u16 {
        t.writew(self.common + 16, vector);
        t.readw(self.common + 16)
    }

    /// The number that stands for no vector.
    pub const fn no_vector() -> u16 {
        NO_VECTOR
    }
}

impl Queue {
    /// Writes one descriptor.
    pub fn descriptor(
        &self,
        t: &mut Qtest,
        index: u16,
        address: u64,
        length: u32,
        flags: u16,
        next: u16,
    ) {
        write_descriptor(
            t,
            self.table + u64::from(index) * 16,
            address,
            length,
            flags,
            next,
        );
    }

    /// Makes a chain of buffers available: address, length, whether the device writes. Returns its head.
    pub fn add(&mut self, t: &mut Qtest, buffers: &[(u64, u32, bool)]) -> u16 {
        let head = self.next_descriptor;
        for (i, (address, length, writes)) in buffers.iter().enumerate() {
            let last = i + 1 == buffers.len();
            let flags = if last { 0 } else { NEXT } | if *writes { WRITE } else { 0 };
            let next = (self.next_descriptor + 1) % self.size;
            self.descriptor(
                t,
                self.next_descriptor,
                *address,
                *length,
                flags,
                if last { 0 } else { next },
            );
            self.next_descriptor = next;
        }
        self.offer(t, head);
        head
    }

    /// Makes a chain available whose descriptors lie in a table of their own.
    pub fn add_indirect(&mut self, t: &mut Qtest, buffers: &[(u64, u32, bool)]) -> u16 {
        let table = t.alloc(buffers.len() as u64 * 16);
        for (i, (address, length, writes)) in (0u16..).zip(buffers) {
            let last = usize::from(i) + 1 == buffers.len();
            let flags = if last { 0 } else { NEXT } | if *writes { WRITE } else { 0 };
            write_descriptor(
                t,
                table + u64::from(i) * 16,
                *address,
                *length,
                flags,
                if last { 0 } else { i + 1 },
            );
        }
        let head = self.next_descriptor;
        self.descriptor(t, head, table, buffers.len() as u32 * 16, INDIRECT, 0);
        self.next_descriptor = (head + 1) % self.size;
        self.offer(t, head);
        head
    }

    /// Puts a head, right or wrong, into the available ring.
    pub fn offer(&mut self, t: &mut Qtest, head: u16) {
        let slot = u64::from(self.next_available % self.size);
        t.writew(self.available + 4 + slot * 2, head);
        self.next_available = self.next_available.wrapping_add(1);
        t.writew(self.available + 2, self.next_available);
    }

    /// Sets the ring's index to anything.
    pub fn set_available_index(&mut self, t: &mut Qtest, index: u16) {
        self.next_available = index;
        t.writew(self.available + 2, index);
    }

    /// Asks for no interrupts.
    pub fn set_no_interrupt(&self, t: &mut Qtest, quiet: bool) {
        t.writew(self.available, quiet.into());
    }

    /// Tells the device.
    pub fn kick(&self, t: &mut Qtest) {
        t.writew(self.notify, self.index);
    }

    /// The next finished chain, if there is one: its head and how much was written.
    pub fn poll(&mut self, t: &mut Qtest) -> Option<(u16, u32)> {
        if t.readw(self.used + 2) == self.last_used {
            return None;
        }
        let at = self.used + 4 + u64::from(self.last_used % self.size) * 8;
        self.last_used = self.last_used.wrapping_add(1);
        Some((t.readl(at) as u16, t.readl(at + 4)))
    }

    /// Waits for the next finished chain.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait(&mut self, t: &mut Qtest) -> (u16, u32) {
        let mut done = None;
        t.until("a finished chain", |t| {
            done = self.poll(t);
            done.is_some()
        });
        done.expect("a chain")
    }
}

fn write_descriptor(t: &mut Qtest, at: u64, address: u64, length: u32, flags: u16, next: u16) {
    t.writeq(at, address);
    t.writel(at + 8, length);
    t.writew(at + 12, flags);
    t.writew(at + 14, next);
}
