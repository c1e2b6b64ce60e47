//! A guest without an operating system: entered by PVH, drives virtio devices over PCI, reports on the
//! serial port and ends by the exit device. Words of its command line: `drive` (every virtio device),
//! `tick` (a line every 20 ms until a `q` comes), `churn` (see `churn.rs`), `flush` and `verify=N` (see `flushed.rs`),
//! `disk=...` (see `bench.rs`), `net=...` (see `net.rs`), `serve` (a word in each line
//! that comes on the serial port, up to an empty one), `reset` (once), `poweroff`, `panic`, `halt`; with
//! none of them it ends at once. Status 33 is success, 5 a failure.
#![no_std]
#![no_main]

extern crate alloc;

mod bench;
mod board;
mod churn;
mod devices;
mod entry;
mod flushed;
mod net;
mod pci;
mod start;

use alloc::string::String;

use linked_list_allocator::LockedHeap;
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use crate::board::Serial;
use crate::pci::Bus;
use crate::start::StartInfo;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Above the image, below what the smallest machine of the tests has.
const HEAP_AT: usize = 0x80_0000;
const HEAP_SIZE: usize = 0x80_0000;
const SUCCESS: u8 = 0x10;
const FAILURE: u8 = 0x02;

extern "C" fn main64(start: u64) -> ! {
    Serial::init();
    let info = StartInfo::at(start);
    // SAFETY: nothing else uses this memory, and it happens once.
    unsafe { HEAP.lock().init(HEAP_AT as *mut u8, HEAP_SIZE) };
    say!(
        "baremetal-guest up, {} KiB, acpi {}",
        info.memory() / 1024,
        info.has_acpi()
    );
    let (year, seconds) = board::clock();
    say!("clock {year:02x} {seconds:02x}");
    let mut bus = Bus::new();
    for word in info.command_line().split_whitespace() {
        act(word, &mut bus);
    }
    say!("all fine");
    board::exit(SUCCESS)
}

fn act(word: &str, bus: &mut Bus) {
    if let Some(words) = word.strip_prefix("disk=") {
        return bench::run(bus, words);
    }
    if let Some(round) = word.strip_prefix("verify=") {
        return flushed::verify(bus, round);
    }
    if let Some(words) = word.strip_prefix("net=") {
        return net::run(bus, words);
    }
    match word {
        "drive" => drive(bus),
        "tick" => tick(),
        "churn" => churn::run(bus),
        "flush" => flushed::write_for_ever(bus),
        "serve" => serve(bus),
        "reset" => board::reset(),
        "poweroff" => board::power_off(),
        "panic" => board::panic_device(),
        "halt" => {
            say!("halting");
            board::halt()
        }
        other => say!("unknown word {other}"),
    }
}

fn drive(bus: &mut Bus) {
    for number in 0..2 {
        for (at, info) in bus.root.enumerate_bus(number) {
            let Some(kind) = virtio_device_type(&info) else {
                continue;
            };
            say!("{at}: {kind:?}");
            bus.prepare(at);
            let transport =
                PciTransport::new::<devices::Flat, _>(&mut bus.root, at).expect("a transport");
            devices::drive(transport);
        }
    }
}

fn serve(bus: &mut Bus) {
    say!("serving");
    loop {
        let mut word = String::new();
        loop {
            match Serial::receive() {
                Some(b'\n') => break,
                Some(byte) => word.push(char::from(byte)),
                None => {}
            }
        }
        if word.is_empty() {
            return;
        }
        act(&word, bus);
    }
}

fn tick() {
    let mut count = 0u32;
    while Serial::receive() != Some(b'q') {
        say!("tick {count}");
        count += 1;
        board::wait_milliseconds(20);
    }
}

#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say!("{info}");
    board::exit(FAILURE)
}
