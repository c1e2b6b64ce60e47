//! Works on its memory and its disk for as long as it is let, and checks all that it wrote: what a machine
//! that is saved, restored or moved meanwhile must not notice.
//!
//! A word `churn=MIB:BLOCKS` is the work on so much memory and on so many blocks of 4 KiB of the first virtio
//! disk (0 for none). Each page and each block says which it is and how often it was written; a table says how
//! often that was. In each round a few pages, chosen by chance, are checked and written anew, then one block is read and
//! checked, and another one written. Time, by the processor and by the power management timer, goes forward
//! only. A line `churn N` tells of rounds every now and then; a `q` on the serial port ends it, with a check of
//! everything and the line `churned N rounds`. Whatever is wrong is a panic, and so a failure.
//!
//! There are hosts whose KVM takes a microsecond for an instruction of this guest: so every 64th word of a page
//! speaks for all.

use alloc::vec;
use alloc::vec::Vec;
use core::arch::x86_64::_rdtsc;

use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use crate::board::Serial;
use crate::devices::Flat;
use crate::pci::Bus;
use crate::say;

/// Behind everything else.
const MEMORY_AT: usize = 0x200_0000;
const WORDS: usize = 512;
const STEP: usize = 64;
const PAGES_IN_A_ROUND: usize = 4;
const SECTORS_OF_A_BLOCK: usize = 8;

type Page = [u64; WORDS];
type Disk = VirtIOBlk<Flat, PciTransport>;

/// Runs what a word asks for.
pub fn run(bus: &mut Bus, words: &str) {
    let (mib, blocks) = words.split_once(':').unwrap_or((words, "0"));
    let mib: usize = mib.parse().expect("how much memory");
    let blocks: usize = blocks.parse().expect("how many blocks");
    Churn::new(mib << 8, (blocks > 0).then(|| (first_disk(bus), blocks))).run();
}

fn first_disk(bus: &mut Bus) -> Disk {
    let found = bus
        .root
        .enumerate_bus(0)
        .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block));
    let (at, _) = found.expect("a disk");
    bus.prepare(at);
    let transport = PciTransport::new::<Flat, _>(&mut bus.root, at).expect("a transport");
    Disk::new(transport).expect("a disk")
}

struct Churn {
    /// How often each page was written.
    pages: Vec<u32>,
    /// How often each block was written.
    blocks: Vec<u32>,
    disk: Option<Disk>,
    chance: u64,
    time: u64,
}

impl Churn {
    fn new(pages: usize, disk: Option<(Disk, usize)>) -> Self {
        let (disk, blocks) = disk.map_or((None, 0), |(disk, blocks)| (Some(disk), blocks));
        for number in 0..pages {
            fill(page(number), number, 0);
        }
        Churn {
            pages: vec![0; pages],
            blocks: vec![0; blocks],
            disk,
            chance: 0x9e37_79b9_7f4a_7c15,
            time: 0,
        }
    }

    fn run(&mut self) {
        say!("churning");
        let mut rounds = 0u64;
        while Serial::receive() != Some(b'q') {
            self.round();
            rounds += 1;
            if rounds.is_power_of_two() || rounds % 256 == 0 {
                say!("churn {rounds}");
            }
        }
        for number in 0..self.pages.len() {
            check(page(number), number, self.pages[number], "page");
        }
        for number in 0..self.blocks.len() {
            self.check_block(number);
        }
        say!("churned {rounds} rounds");
    }

    fn round(&mut self) {
        for _ in 0..PAGES_IN_A_ROUND {
            let number = self.choose(self.pages.len());
            let times = &mut self.pages[number];
            check(page(number), number, *times, "page");
            *times += 1;
            fill(page(number), number, *times);
        }
        if !self.blocks.is_empty() {
            let number = self.choose(self.blocks.len());
            self.check_block(number);
            let number = self.choose(self.blocks.len());
            self.write_block(number);
        }
        // SAFETY: every processor of ours has it.
        let now = unsafe { _rdtsc() };
        assert!(
            now > self.time,
            "time went back from {} to {now}",
            self.time
        );
        self.time = now;
    }

    /// A number below `limit` (xorshift64).
    fn choose(&mut self, limit: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance % limit as u64) as usize
    }

    fn check_block(&mut self, number: usize) {
        let times = self.blocks[number];
        let Some(disk) = self.disk.as_mut().filter(|_| times > 0) else {
            return;
        };
        let mut block = Block([0; WORDS]);
        disk.read_blocks(number * SECTORS_OF_A_BLOCK, block.bytes())
            .expect("reading");
        check(&block.0, number, times, "block");
    }

    fn write_block(&mut self, number: usize) {
        self.blocks[number] += 1;
        let mut block = Block([0; WORDS]);
        fill(&mut block.0, number, self.blocks[number]);
        let disk = self.disk.as_mut().expect("a disk");
        disk.write_blocks(number * SECTORS_OF_A_BLOCK, block.bytes())
            .expect("writing");
    }
}

fn page(number: usize) -> &'static mut Page {
    // SAFETY: memory behind all that is used otherwise, one to one; who calls holds one page at a time.
    unsafe { &mut *((MEMORY_AT + number * 4096) as *mut Page) }
}

/// What a disk reads and writes.
struct Block(Page);

impl Block {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: words are bytes, as many as this says, and every byte is valid.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), WORDS * 8) }
    }
}

fn seed(number: usize, times: u32) -> u64 {
    (number as u64).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ u64::from(times) << 32 ^ 0x5bd1_e995
}

fn fill(page: &mut Page, number: usize, times: u32) {
    let seed = seed(number, times);
    for (i, word) in page.iter_mut().enumerate().step_by(STEP) {
        *word = seed.wrapping_add(i as u64);
    }
}

fn check(page: &Page, number: usize, times: u32, what: &str) {
    let seed = seed(number, times);
    for (i, word) in page.iter().enumerate().step_by(STEP) {
        let wanted = seed.wrapping_add(i as u64);
        assert!(
            *word == wanted,
            "{what} {number}, written {times} times, word {i}: {word:#x}, not {wanted:#x}"
        );
    }
}
