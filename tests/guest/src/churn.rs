//! A guest that can tell whether a single byte of it was lost: it rewrites pages of its memory and checks
//! others, writes numbered sectors to its first disk and reads others back, and watches that no clock goes
//! back. A line `beat N` tells of each round; a `q` ends it.

use core::arch::x86_64::_rdtsc;

use alloc::vec;
use alloc::vec::Vec;

use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use crate::board::Serial;
use crate::devices::Flat;
use crate::pci::Bus;
use crate::{board, say};

/// Memory behind the heap.
const AT: usize = 0x100_0000;
const PAGES: usize = 0x80_0000 / PAGE;
const PAGE: usize = 4096;
/// The words of a page that are in use. There are hosts whose KVM takes a microsecond for an instruction of
/// this guest.
const WORDS: [usize; 4] = [0, 100, 301, PAGE / 8 - 1];
/// Pages that are rewritten in a round.
const WRITES: usize = 8;
const CHECKS: usize = 8;
const SECTOR: usize = 512;

/// Its first disk.
pub type Disk = VirtIOBlk<Flat, PciTransport>;

/// Churns until it is told to end.
pub fn run(bus: &mut Bus) {
    let mut disk = disk(bus);
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let mut memory = Memory::new();
    let mut written: Vec<u64> = disk
        .as_ref()
        .map_or_else(Vec::new, |disk| vec![0; disk.capacity().min(512) as usize]);
    let mut last = 0;
    let mut round = 0u64;
    while Serial::receive() != Some(b'q') {
        for _ in 0..WRITES {
            memory.rewrite(next(&mut random) as usize % PAGES);
        }
        for _ in 0..CHECKS {
            memory.check(next(&mut random) as usize % PAGES);
        }
        if let Some(disk) = &mut disk {
            let at = next(&mut random) as usize % written.len();
            write(disk, at, round + 1);
            written[at] = round + 1;
            let at = next(&mut random) as usize % written.len();
            if written[at] != 0 {
                check(disk, at, written[at]);
            }
        }
        // SAFETY: every processor has it.
        let now = unsafe { _rdtsc() };
        assert!(now >= last, "the clock went back from {last} to {now}");
        last = now;
        say!("beat {round}");
        round += 1;
        board::wait_milliseconds(4);
    }
    for page in 0..PAGES {
        memory.check(page);
    }
    if let Some(disk) = &mut disk {
        for (at, round) in written.iter().enumerate() {
            if *round != 0 {
                check(disk, at, *round);
            }
        }
    }
    say!("churned {round}");
}

struct Memory {
    /// How often each page was written.
    times: Vec<u32>,
}

impl Memory {
    fn new() -> Self {
        let mut memory = Memory {
            times: vec![0; PAGES],
        };
        // The others stay as they are at first: pages of zeroes. After a reset they are not.
        for page in PAGES / 4..PAGES {
            for word in WORDS {
                // SAFETY: as in `rewrite`.
                unsafe {
                    if place(page, word).read_volatile() != 0 {
                        place(page, word).write_volatile(0);
                    }
                }
            }
        }
        for page in 0..PAGES / 4 {
            memory.rewrite(page);
        }
        memory
    }

    fn rewrite(&mut self, page: usize) {
        self.times[page] += 1;
        let times = self.times[page];
        for word in WORDS {
            // SAFETY: nothing else uses this memory, which is there.
            unsafe { place(page, word).write_volatile(value(page, word, times)) };
        }
    }

    fn check(&self, page: usize) {
        let times = self.times[page];
        for word in WORDS {
            // SAFETY: as above.
            let found = unsafe { place(page, word).read_volatile() };
            let wanted = if times == 0 {
                0
            } else {
                value(page, word, times)
            };
            assert_eq!(
                found, wanted,
                "word {word} of page {page}, written {times} times"
            );
        }
    }
}

fn place(page: usize, word: usize) -> *mut u64 {
    (AT + page * PAGE + word * 8) as *mut u64
}

fn value(page: usize, word: usize, times: u32) -> u64 {
    ((page as u64) << 40 | (word as u64) << 28 | u64::from(times))
        .wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// A number that looks like chance (xorshift, Marsaglia 2003).
pub fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 8
}

/// The first disk there is.
pub fn disk(bus: &mut Bus) -> Option<Disk> {
    let found = bus
        .root
        .enumerate_bus(0)
        .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block));
    let (at, _) = found?;
    bus.prepare(at);
    let transport = PciTransport::new::<Flat, _>(&mut bus.root, at).expect("a transport");
    Some(Disk::new(transport).expect("a disk"))
}

/// What a sector holds that was written in this round.
pub fn sector(at: usize, round: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    for (i, word) in bytes.chunks_mut(8).enumerate() {
        word.copy_from_slice(&value(at, i, round as u32).to_le_bytes());
    }
    bytes
}

fn write(disk: &mut Disk, at: usize, round: u64) {
    disk.write_blocks(at, &sector(at, round)).expect("writing");
}

fn check(disk: &mut Disk, at: usize, round: u64) {
    assert!(
        check_at(disk, at, &sector(at, round)),
        "sector {at}, written in round {round}"
    );
}

/// Whether these bytes are there.
pub fn check_at(disk: &mut Disk, at: usize, wanted: &[u8; SECTOR]) -> bool {
    let mut bytes = [0; SECTOR];
    disk.read_blocks(at, &mut bytes).expect("reading");
    bytes == *wanted
}
