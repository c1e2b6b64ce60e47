//! A virtio driver: finds the structures through the capabilities, as guests do.

use std::sync::{Arc, Mutex};

use super::FakeGuest;
use crate::bus::lock;
use crate::effect::Effect;
use crate::pci::PciFunction;
use crate::virtio::{VirtioPci, common, layout};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A buffer of a chain: guest address and length, and whether the device writes it.
#[derive(Debug, Clone, Copy)]
pub enum Buffer {
    /// The device reads it.
    Out(u64, u32),
    /// The device writes it.
    In(u64, u32),
}

/// Drives one function.
pub struct Driver<'a> {
    guest: &'a FakeGuest,
    function: Arc<Mutex<VirtioPci>>,
    /// Features agreed on.
    pub features: u64,
}

impl<'a> Driver<'a> {
    /// A driver that has done nothing yet.
    pub fn new(guest: &'a FakeGuest, function: VirtioPci) -> Self {
        Driver {
            guest,
            function: Arc::new(Mutex::new(function)),
            features: 0,
        }
    }

    /// Another driver of the same function, that has done nothing yet.
    pub fn from_shared(guest: &'a FakeGuest, function: Arc<Mutex<VirtioPci>>) -> Self {
        Driver {
            guest,
            function,
            features: 0,
        }
    }

    /// The function.
    pub fn function(&self) -> &Arc<Mutex<VirtioPci>> {
        &self.function
    }

    /// Writes the virtio BAR and carries the effects out, as a vCPU and control do.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let effect = lock(&self.function).bar_write(layout::BAR, offset, data);
        self.carry_out(effect);
    }

    /// Carries an effect out.
    pub fn carry_out(&self, effect: Effect) {
        let mut function = lock(&self.function);
        match (effect, function.queues()) {
            (Effect::StartQueues, Some(host)) => host.start_queues(),
            (Effect::StopQueues, Some(host)) => host.stop_queues(),
            _ => {}
        }
    }

    /// Reads the virtio BAR.
    pub fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        lock(&self.function).bar_read(layout::BAR, offset, &mut data);
        data
    }

    /// Reads device configuration.
    pub fn config<const N: usize>(&self, offset: u64) -> [u8; N] {
        self.read(layout::DEVICE + offset)
    }

    /// Reads 16 bits of common configuration.
    pub fn common16(&self, offset: u64) -> u16 {
        u16::from_le_bytes(self.read(offset))
    }

    /// Device status.
    pub fn status(&self) -> u8 {
        self.read::<1>(0x14)[0]
    }

    /// Sets bits of device status.
    pub fn set_status(&self, bits: u8) {
        self.write(0x14, &[bits]);
    }

    /// What the device offers.
    pub fn offered(&self) -> u64 {
        let half = |select: u32| {
            self.write(0x00, &select.to_le_bytes());
            u64::from(u32::from_le_bytes(self.read(0x04)))
        };
        half(0) | half(1) << 32
    }

    /// Resets, agrees on `features` as far as they are offered, and sets FEATURES_OK.
    pub fn negotiate(&mut self, features: u64) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.set_status(common::status::ACKNOWLEDGE | common::status::DRIVER);
        self.features = (self.offered() & features) | common::feature::VERSION_1;
        for select in [0u32, 1] {
            self.write(0x08, &select.to_le_bytes());
            let half = (self.features >> (32 * select)) as u32;
            self.write(0x0c, &half.to_le_bytes());
        }
        self.set_status(0x0b);
        assert_eq!(self.status(), 0x0b, "FEATURES_OK sticks");
    }

    /// Sets up queue `index` with rings at `at` (a page), `size` entries.
    pub fn queue(&self, index: u16, at: u64, size: u16) -> Ring {
        let ring = Ring {
            index,
            size,
            desc: at,
            avail: at + 16 * u64::from(size),
            used: (at + 18 * u64::from(size) + 6).next_multiple_of(4),
            event_idx: self.features & common::feature::EVENT_IDX != 0,
            next_desc: 0,
            next_used: 0,
            next_avail: 0,
        };
        let len = (ring.used - at) as usize + 8 * usize::from(size) + 6;
        self.guest.write(at, &vec![0; len]);
        self.write(0x16, &index.to_le_bytes());
        self.write(0x18, &size.to_le_bytes());
        self.write(0x20, &ring.desc.to_le_bytes());
        self.write(0x28, &ring.avail.to_le_bytes()[..4]);
        self.write(0x2c, &ring.avail.to_le_bytes()[4..]);
        self.write(0x30, &ring.used.to_le_bytes());
        self.write(0x1c, &1u16.to_le_bytes());
        ring
    }

    /// Sets DRIVER_OK.
    pub fn go(&self) {
        self.set_status(0x0f);
    }

    /// Kicks a queue and lets the workers run.
    pub fn kick(&self, ring: &Ring) {
        let offset = layout::NOTIFY + u64::from(ring.index) * layout::NOTIFY_STEP;
        self.write(offset, &ring.index.to_le_bytes());
        self.guest.thread.run();
    }

    /// Sends one chain and waits until the device gave it back; the number of bytes it wrote.
    pub fn request(&self, ring: &mut Ring, buffers: &[Buffer]) -> u32 {
        let head = ring.add(self.guest, buffers);
        self.kick(ring);
        let mut used = ring.take_used(self.guest);
        self.guest.thread.run_until(|| {
            used = used.or_else(|| ring.take_used(self.guest));
            used.is_some()
        });
        let (id, len) = used.expect("waited for");
        assert_eq!(id, u32::from(head));
        len
    }

    /// Reads ISR status, which clears it.
    pub fn isr(&self) -> u8 {
        self.read::<1>(layout::ISR)[0]
    }
}

/// The driver's side of a queue.
#[derive(Debug, Clone)]
pub struct Ring {
    /// Index in the device.
    pub index: u16,
    /// Entries.
    pub size: u16,
    /// Descriptor table.
    pub desc: u64,
    /// Available ring.
    pub avail: u64,
    /// Used ring.
    pub used: u64,
    event_idx: bool,
    next_desc: u16,
    next_avail: u16,
    next_used: u16,
}

impl Ring {
    /// Writes a descriptor.
    pub fn set_descriptor(
        &self,
        guest: &FakeGuest,
        index: u16,
        (address, len, flags, next): (u64, u32, u16, u16),
    ) {
        put_descriptor(
            guest,
            self.desc + 16 * u64::from(index),
            (address, len, flags, next),
        );
    }

    /// Makes a chain available from descriptors not yet used in this turn; returns its head.
    pub fn add(&mut self, guest: &FakeGuest, buffers: &[Buffer]) -> u16 {
        let head = self.next_desc % self.size;
        for (place, buffer) in buffers.iter().enumerate() {
            let index = self.next_desc % self.size;
            self.next_desc = (index + 1) % self.size;
            let more = place + 1 < buffers.len();
            let (address, len, flags) = parts(*buffer);
            let flags = flags | if more { NEXT } else { 0 };
            self.set_descriptor(guest, index, (address, len, flags, self.next_desc));
        }
        self.offer(guest, head);
        head
    }

    /// The same from descriptors that nothing else uses, `head` and those behind it.
    pub fn add_at(&mut self, guest: &FakeGuest, head: u16, buffers: &[Buffer]) -> u16 {
        self.next_desc = head;
        self.add(guest, buffers)
    }

    /// The same through a table at `table`.
    pub fn add_indirect(&mut self, guest: &FakeGuest, table: u64, buffers: &[Buffer]) -> u16 {
        for (place, buffer) in (0u16..).zip(buffers) {
            let more = usize::from(place) + 1 < buffers.len();
            let (address, len, flags) = parts(*buffer);
            let flags = flags | if more { NEXT } else { 0 };
            let at = table + 16 * u64::from(place);
            put_descriptor(guest, at, (address, len, flags, place + 1));
        }
        let head = self.next_desc % self.size;
        self.next_desc = (head + 1) % self.size;
        let len = 16 * buffers.len() as u32;
        self.set_descriptor(guest, head, (table, len, INDIRECT, 0));
        self.offer(guest, head);
        head
    }

    /// Puts a head into the available ring.
    pub fn offer(&mut self, guest: &FakeGuest, head: u16) {
        let slot = self.avail + 4 + 2 * u64::from(self.next_avail % self.size);
        guest.write16(slot, head);
        self.next_avail = self.next_avail.wrapping_add(1);
        guest.write16(self.avail + 2, self.next_avail);
        if self.event_idx {
            let used_event = self.avail + 4 + 2 * u64::from(self.size);
            guest.write16(used_event, self.next_used);
        }
    }

    /// The next chain that the device gave back: head and bytes written.
    pub fn take_used(&mut self, guest: &FakeGuest) -> Option<(u32, u32)> {
        if guest.read16(self.used + 2) == self.next_used {
            return None;
        }
        let slot = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        let entry = guest.read(slot, 8);
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("4 bytes"));
        Some((word(0), word(4)))
    }

    /// How many chains the device gave back in all, modulo 65536.
    pub fn used_index(&self, guest: &FakeGuest) -> u16 {
        guest.read16(self.used + 2)
    }
}

fn parts(buffer: Buffer) -> (u64, u32, u16) {
    match buffer {
        Buffer::Out(address, len) => (address, len, 0),
        Buffer::In(address, len) => (address, len, WRITE),
    }
}

fn put_descriptor(guest: &FakeGuest, at: u64, (address, len, flags, next): (u64, u32, u16, u16)) {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&address.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&next.to_le_bytes());
    guest.write(at, &bytes);
}
