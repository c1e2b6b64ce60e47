//! Measures a disk: keeps requests in flight on its queue and takes the answers by polling, so that what
//! is measured is the device and not the handling of interrupts.
//!
//! A word `disk=DISK:WORK:DEPTH:LIMIT` is one measurement. DISK counts the virtio disks from 0; WORK is one
//! of `randread4k`, `randwrite4k`, `seqread1m`, `seqwrite1m`, `flush` (by turns 4 KiB are written and the
//! disk flushed), `alloc4k` (4 KiB into each 64 KiB once, in a scattered order), `sync` (flushes only);
//! DEPTH is the number of requests in flight; LIMIT is a time (`500ms`) or a number of requests (a multiple
//! of 8, and of 256 above that). A line says when it begins; another one what came out.
//!
//! There are hosts whose KVM takes a microsecond for an instruction of this guest. So requests are written
//! in advance, a ring full of them, and while the clock runs only the available index moves on.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use crate::devices::Flat;
use crate::pci::{self, Bus, Ports};
use crate::{board, say};

/// Memory behind the heap: a megabyte for each request in flight, then the rings.
pub const BUFFERS_AT: u64 = 0x100_0000;
pub const RINGS_AT: usize = 0x300_0000;
const BUFFERS: u16 = 32;
const BUFFER_LEN: u64 = 1 << 20;
const SECTOR: u64 = 512;
const CLUSTER: u64 = 64 << 10;

/// Most entries of a queue.
pub const ENTRIES: usize = 1024;
pub const NEXT: u16 = 1;
pub const WRITABLE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// Of the available ring: the driver polls. Of the used ring: the device looks by itself.
pub const NO_SIGNAL: u16 = 1;
const VIRTIO_F_VERSION_1: u64 = 1 << 32;
const VIRTIO_F_INDIRECT_DESC: u64 = 1 << 28;
const VIRTIO_BLK_F_FLUSH: u64 = 1 << 9;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
/// What eight status bytes hold until the device writes zeroes for success.
const NO_STATUS_8: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Random,
    Sequential,
    /// Each cluster once.
    Scattered,
}

#[derive(Clone, Copy)]
struct Work {
    kind: u32,
    order: Order,
    len: u64,
    flushes: Flushes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushes {
    None,
    /// Every other request.
    Half,
    All,
}

impl Work {
    fn named(name: &str) -> Self {
        let (kind, order, len) = match name {
            "randread4k" => (READ, Order::Random, 4096),
            "randwrite4k" | "flush" | "sync" => (WRITE, Order::Random, 4096),
            "seqread1m" => (READ, Order::Sequential, BUFFER_LEN),
            "seqwrite1m" => (WRITE, Order::Sequential, BUFFER_LEN),
            "alloc4k" => (WRITE, Order::Scattered, 4096),
            other => panic!("no such work: {other}"),
        };
        Work {
            kind,
            order,
            len,
            flushes: match name {
                "flush" => Flushes::Half,
                "sync" => Flushes::All,
                _ => Flushes::None,
            },
        }
    }

    /// What entry `i` of the queue does.
    fn kind_of(self, i: usize) -> u32 {
        match self.flushes {
            Flushes::Half if i % 2 == 1 => FLUSH,
            Flushes::All => FLUSH,
            _ => self.kind,
        }
    }

    /// Requests that are written at once.
    fn round(self) -> u64 {
        if self.len == BUFFER_LEN || self.flushes != Flushes::None {
            256
        } else {
            ENTRIES as u64
        }
    }
}

/// Where a measurement ends.
#[derive(Clone, Copy)]
enum Limit {
    Requests(u64),
    Milliseconds(u64),
}

impl Limit {
    fn named(text: &str) -> Self {
        match text.strip_suffix("ms") {
            Some(time) => Limit::Milliseconds(time.parse().expect("milliseconds")),
            None => {
                let count: u64 = text.parse().expect("a number of requests");
                assert_eq!(count % if count < 256 { 8 } else { 256 }, 0, "whole rounds");
                Limit::Requests(count)
            }
        }
    }
}

/// Virtio 1.2, section 2.7.5.
#[repr(C)]
pub struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    /// With these fields.
    pub fn new(address: u64, len: u32, flags: u16, next: u16) -> Self {
        Descriptor {
            address,
            len,
            flags,
            next,
        }
    }
}

#[repr(C, align(16))]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

/// The driver's ring.
#[repr(C)]
pub struct Available {
    pub flags: u16,
    pub index: u16,
    pub ring: [u16; ENTRIES],
}

/// In a page of its own, as only the device writes it.
#[repr(C, align(4096))]
pub struct Used {
    pub flags: u16,
    pub index: u16,
    ring: [[u32; 2]; ENTRIES],
}

/// The split virtqueue (Virtio 1.2, section 2.7) with the small parts of all requests. Entry N of either
/// ring and of the table is request N, whose three parts are a table of their own.
#[repr(C, align(4096))]
pub struct Rings {
    pub descriptors: [Descriptor; ENTRIES],
    pub available: Available,
    pub used: Used,
    pub parts: [[Descriptor; 3]; ENTRIES],
    headers: [Header; ENTRIES],
    /// A byte to each request.
    statuses: [u64; ENTRIES / 8],
}

/// A queue that runs, of one disk.
struct Queue {
    rings: *mut Rings,
    entries: usize,
    /// Register that a kick is written to.
    doorbell: *mut u16,
    /// Of both rings, while nothing is in flight.
    index: u16,
}

impl Queue {
    fn new(entries: usize, doorbell: *mut u16, work: Work) -> Self {
        let rings = RINGS_AT as *mut Rings;
        // SAFETY: nothing else uses this memory, and the device does not have it yet.
        let all = unsafe {
            rings.write_bytes(0, 1);
            &mut *rings
        };
        all.available.flags = NO_SIGNAL;
        for i in 0..entries {
            let buffer = BUFFERS_AT + i as u64 % u64::from(BUFFERS) * BUFFER_LEN;
            let direction = if work.kind == READ { WRITABLE } else { 0 };
            let status = &raw const all.statuses as u64 + i as u64;
            let kind = work.kind_of(i);
            all.headers[i].kind = kind;
            all.parts[i] = [
                Descriptor::new(&raw const all.headers[i] as u64, 16, NEXT, 1),
                Descriptor::new(buffer, work.len as u32, NEXT | direction, 2),
                Descriptor::new(status, 1, WRITABLE, 0),
            ];
            // A flush has no data.
            all.parts[i][0].next = if kind == FLUSH { 2 } else { 1 };
            let parts = &raw const all.parts[i] as u64;
            all.descriptors[i] = Descriptor::new(parts, 48, INDIRECT, 0);
            all.available.ring[i] = i as u16;
        }
        Queue {
            rings,
            entries,
            doorbell,
            index: 0,
        }
    }

    /// Writes the next `count` requests, which are not yet given to the device. With as few instructions
    /// as it takes.
    fn write(&mut self, count: u16, path: &mut Path) {
        let first = usize::from(self.index) % self.entries;
        for i in first..first + usize::from(count) {
            if path.work.kind_of(i) != FLUSH {
                let sector = path.next_sector();
                // SAFETY: nothing is in flight, and a round does not reach over the end of the queue.
                unsafe { (&raw mut (*self.rings).headers[i].sector).write_volatile(sector) };
            }
        }
        for status in self.statuses(count) {
            *status = NO_STATUS_8;
        }
    }

    /// The status bytes of the next `count` requests, eight at a time.
    fn statuses(&mut self, count: u16) -> &mut [u64] {
        let first = usize::from(self.index) % self.entries / 8;
        // SAFETY: nothing is in flight, and they are aligned.
        let all = unsafe { &mut (*self.rings).statuses };
        &mut all[first..][..usize::from(count / 8)]
    }

    /// Has the device do `count` requests, `depth` at a time.
    fn go(&mut self, count: u16, depth: u16) {
        let end = self.index.wrapping_add(count);
        // SAFETY: only addresses are taken.
        let (available, used, flags) = unsafe {
            (
                &raw mut (*self.rings).available.index,
                &raw const (*self.rings).used.index,
                &raw const (*self.rings).used.flags,
            )
        };
        let mut ended = self.index;
        let mut given = self.index;
        loop {
            // The distance to the end is the smaller one near it.
            let more = depth.min(end.wrapping_sub(ended));
            let next = ended.wrapping_add(more);
            if next != given {
                given = next;
                fence(Ordering::Release);
                // SAFETY: the index is ours to write, the flags are the device's; the doorbell is a
                // register.
                unsafe {
                    available.write_volatile(given);
                    fence(Ordering::SeqCst);
                    if flags.read_volatile() & NO_SIGNAL == 0 {
                        self.doorbell.write_volatile(0);
                    }
                }
            }
            if ended == end {
                break;
            }
            // SAFETY: the device writes it.
            let mut now = unsafe { used.read_volatile() };
            while now == ended {
                // SAFETY: as before. No pause: it costs an instruction, and nobody waits for this one.
                now = unsafe { used.read_volatile() };
            }
            ended = now;
        }
        fence(Ordering::Acquire);
    }

    /// Sees whether the `count` requests that were done last went well, and moves on.
    fn check(&mut self, count: u16) {
        let bad = self
            .statuses(count)
            .iter()
            .fold(0, |bad, status| bad | *status);
        assert_eq!(bad, 0, "the status of some request");
        self.index = self.index.wrapping_add(count);
    }
}

/// Where requests go, one after the other.
struct Path {
    work: Work,
    /// In requests of the work's length, or in clusters; fewer than 2^32.
    places: u64,
    count: u64,
    random: u64,
}

impl Path {
    fn new(work: Work, bytes: u64) -> Self {
        let unit = match work.order {
            Order::Scattered => CLUSTER,
            _ => work.len,
        };
        Path {
            work,
            places: bytes / unit,
            count: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn next_sector(&mut self) -> u64 {
        let count = self.count;
        self.count += 1;
        match self.work.order {
            Order::Sequential => count % self.places * (self.work.len / SECTOR),
            // An odd number of steps visits each of a power of two once.
            Order::Scattered => count * 0x9e37_79b1 % self.places * (CLUSTER / SECTOR),
            Order::Random => {
                // Knuth's linear congruence, of which the upper half is good.
                self.random = self
                    .random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (((self.random >> 32) * self.places) >> 32) * (self.work.len / SECTOR)
            }
        }
    }
}

/// Does what a word says behind its `disk=`.
pub fn run(bus: &mut Bus, word: &str) {
    let mut parts = word.split(':');
    let mut part = || parts.next().expect("disk=DISK:WORK:DEPTH:LIMIT");
    let number: usize = part().parse().expect("a disk's number");
    let name = part();
    let depth: u16 = part().parse().expect("a depth");
    assert!((1..=BUFFERS).contains(&depth), "the depth");
    let (work, limit) = (Work::named(name), Limit::named(part()));

    let at = find(bus, DeviceType::Block, number).expect("no such disk");
    let mut transport = PciTransport::new::<Flat, _>(&mut bus.root, at).expect("a transport");
    negotiate(&mut transport, VIRTIO_BLK_F_FLUSH);
    let half = |at| u64::from(transport.read_config_space::<u32>(at).expect("a capacity"));
    let bytes = (half(0) | half(4) << 32) * SECTOR;
    let entries = transport.max_queue_size(0).min(ENTRIES as u32);
    let doorbell = doorbell(&mut bus.root, at, 0).expect("a doorbell");
    let mut queue = Queue::new(entries as usize, doorbell, work);
    let rings = queue.rings;
    // SAFETY: only addresses are taken.
    let (descriptors, available, used) = unsafe {
        (
            &raw const (*rings).descriptors as u64,
            &raw const (*rings).available as u64,
            &raw const (*rings).used as u64,
        )
    };
    transport.queue_set(0, entries, descriptors, available, used);
    transport.finish_init();

    let ticks = calibrate();
    say!("begin disk {word}");
    let (requests, time) = measure(&mut queue, &mut Path::new(work, bytes), depth, limit, ticks);
    let nanoseconds = u128::from(time) * 1_000_000 / u128::from(ticks);
    say!("end disk {word} requests {requests} ns {nanoseconds}");
    // A reset: the device lets go of the queue.
    transport.set_status(DeviceStatus::empty());
    while !transport.get_status().is_empty() {}
}

/// From a reset to the features that are wanted: these, and what all devices have.
pub fn negotiate(transport: &mut PciTransport, features: u64) {
    let begun = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    transport.set_status(DeviceStatus::empty());
    while !transport.get_status().is_empty() {}
    transport.set_status(begun);
    let wanted = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | features;
    assert_eq!(
        transport.read_device_features() & wanted,
        wanted,
        "features"
    );
    transport.write_driver_features(wanted);
    transport.set_status(begun | DeviceStatus::FEATURES_OK);
}

/// Rounds of requests up to the limit: how many there were, and ticks while some were in flight.
fn measure(queue: &mut Queue, path: &mut Path, depth: u16, limit: Limit, ticks: u64) -> (u64, u64) {
    let (mut requests, mut time) = (0, 0);
    loop {
        let left = match limit {
            Limit::Requests(count) => count - requests,
            Limit::Milliseconds(most) if time >= most * ticks => 0,
            Limit::Milliseconds(_) => u64::MAX,
        };
        let count = left.min(path.work.round()).min(queue.entries as u64);
        if count == 0 {
            return (requests, time);
        }
        queue.write(count as u16, path);
        let begin = now();
        queue.go(count as u16, depth);
        time += now() - begin;
        queue.check(count as u16);
        requests += count;
    }
}

/// Ticks of the processor's counter in a millisecond. The least of some measurements: this processor may
/// be taken away between two instructions, which makes a time longer and never shorter.
pub fn calibrate() -> u64 {
    const TIME: u32 = 10;
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    if KNOWN.load(Ordering::Relaxed) == 0 {
        let measured = (0..10).map(|_| {
            let begin = now();
            board::wait_milliseconds(TIME);
            (now() - begin) / u64::from(TIME)
        });
        KNOWN.store(measured.min().unwrap_or(1), Ordering::Relaxed);
    }
    KNOWN.load(Ordering::Relaxed)
}

pub fn now() -> u64 {
    // SAFETY: every processor of 64 bits has it.
    unsafe { _rdtsc() }
}

/// The device of this kind and number, switched on.
pub fn find(bus: &mut Bus, kind: DeviceType, number: usize) -> Option<DeviceFunction> {
    let such = |(at, info)| (virtio_device_type(&info) == Some(kind)).then_some(at);
    let at = bus.root.enumerate_bus(0).filter_map(such).nth(number)?;
    bus.prepare(at);
    Some(at)
}

/// The register for kicks of a queue (Virtio 1.2, sections 4.1.4.3 and 4.1.4.4).
pub fn doorbell(root: &mut PciRoot<Ports>, at: DeviceFunction, queue: u16) -> Option<*mut u16> {
    let common = capability(root, at, COMMON)?;
    let notify = capability(root, at, NOTIFY)?;
    let multiplier = pci::read(at.bus, at.device, at.function, notify.at + 16);
    let (select, offset) = (common.address + 0x16, common.address + 0x1e);
    // SAFETY: both are registers of the device.
    let offset = unsafe {
        (select as *mut u16).write_volatile(queue);
        (offset as *const u16).read_volatile()
    };
    let address = notify.address + u64::from(multiplier) * u64::from(offset);
    Some(address as *mut u16)
}

/// A capability that tells of a part of a BAR.
struct Capability {
    /// Where it is in configuration space.
    at: u8,
    /// Where the part is in memory.
    address: u64,
}

const VENDOR: u8 = 9;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;

fn capability(root: &mut PciRoot<Ports>, at: DeviceFunction, kind: u8) -> Option<Capability> {
    let found = root
        .capabilities(at)
        .find(|found| found.id == VENDOR && (found.private_header >> 8) as u8 == kind)?;
    let word = |register| pci::read(at.bus, at.device, at.function, found.offset + register);
    let (bar, offset) = (word(4) as u8, word(8));
    match root.bar_info(at, bar).ok()?? {
        BarInfo::Memory { address, .. } => Some(Capability {
            at: found.offset,
            address: address + u64::from(offset),
        }),
        BarInfo::IO { .. } => None,
    }
}
