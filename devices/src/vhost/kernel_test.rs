//! The kernel's own vhost, where it is there.
#![allow(unsafe_code)] // sockets that the standard library does not have

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use vm_memory::{FileOffset, GuestAddress, MmapRegion};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::irq::NullInterrupt;
use crate::testing::{FakeGuest, RAM_HIGH, RAM_SIZE};
use crate::virtio::ActiveQueue;

const CID: u32 = 0x5a17;
const BUFFER: u64 = 0x8_0000;
const VERSION_1: u64 = 1 << 32;

/// Where a queue's tables are; the used ring is in the last of three pages.
fn place(index: u16) -> u64 {
    0x1_0000 + 0x4000 * u64::from(index)
}

fn ring(index: u16) -> Ring {
    let mut queue = Queue::new(256).unwrap();
    let at = place(index);
    queue.set_size(8);
    queue.try_set_desc_table_address(GuestAddress(at)).unwrap();
    let [avail, used] = [at + 0x1000, at + 0x2000].map(GuestAddress);
    queue.try_set_avail_ring_address(avail).unwrap();
    queue.try_set_used_ring_address(used).unwrap();
    let active = ActiveQueue {
        index,
        queue,
        kick: Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap()),
        interrupt: Arc::new(NullInterrupt),
        again: Vec::new(),
    };
    Ring::new(active, index).unwrap()
}

/// The driver gives a buffer to the receive queue.
fn give_buffer(guest: &FakeGuest, number: u16) {
    let descriptor = place(0) + 16 * u64::from(number);
    let address = BUFFER + 0x1000 * u64::from(number);
    guest.write(descriptor, &address.to_le_bytes());
    guest.write(descriptor + 8, &4096u32.to_le_bytes());
    guest.write(descriptor + 12, &2u16.to_le_bytes());
    let avail = place(0) + 0x1000;
    guest.write(avail + 4 + 2 * u64::from(number), &number.to_le_bytes());
    guest.write(avail + 2, &(number + 1).to_le_bytes());
}

/// Somebody on the host wants to speak to the guest.
fn knock() -> OwnedFd {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    assert!(fd >= 0);
    // SAFETY: the kernel just made it for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: plain data, of which zeroes are valid.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as u16;
    address.svm_cid = CID;
    address.svm_port = 1234;
    let len = size_of_val(&address) as u32;
    // SAFETY: the address is as long as is said. That it cannot be done at once is no matter.
    unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) };
    socket
}

fn until(mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Bitmap {
    map: MmapRegion,
    log: DirtyLog,
}

impl Bitmap {
    fn new() -> Self {
        let len = (RAM_HIGH + RAM_SIZE) / 4096 / 8;
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(len).unwrap();
        let offset = FileOffset::from_arc(file.clone(), 0);
        let map = MmapRegion::from_file(offset, len as usize).unwrap();
        let address = map.as_ptr() as u64;
        let log = DirtyLog { address, len, file };
        Bitmap { map, log }
    }

    fn has(&self, address: u64) -> bool {
        let page = address / 4096;
        // SAFETY: inside of the mapping, which the kernel writes a bit at a time.
        let byte = unsafe { self.map.as_ptr().add((page / 8) as usize).read_volatile() };
        byte >> (page % 8) & 1 == 1
    }
}

#[test]
fn the_kernel_marks_the_pages_it_writes() {
    let Ok(device) = File::options()
        .read(true)
        .write(true)
        .open("/dev/vhost-vsock")
    else {
        println!("skipped: no /dev/vhost-vsock");
        return;
    };
    let kernel = Kernel::new(device.into(), Kind::Vsock).unwrap();
    assert_eq!(blocked_by_features(kernel.features()), None);
    kernel.set_guest_cid(CID).unwrap();
    let guest = FakeGuest::new();
    let rings = [ring(0), ring(1)];
    let arrived = |number: u64| guest.read16(place(0) + 0x2002) as u64 == number;
    let bitmap = Bitmap::new();
    // Switched on while it runs.
    kernel.start(VERSION_1, &guest.ram, &rings, None).unwrap();
    give_buffer(&guest, 0);
    let _first = knock();
    until(|| arrived(1));
    assert!(!bitmap.has(rings[0].used));
    kernel
        .set_log(&guest.ram, &rings, Some(&bitmap.log))
        .unwrap();
    give_buffer(&guest, 1);
    let _second = knock();
    until(|| arrived(2));
    // The buffers are another matter: sockets do not log them.
    assert!(!kernel.logs_buffers());
    until(|| bitmap.has(rings[0].used));
    assert!(!bitmap.has(place(0)));
    // And off.
    kernel.set_log(&guest.ram, &rings, None).unwrap();
    give_buffer(&guest, 2);
    let _third = knock();
    until(|| arrived(3));
    let stood = kernel.stop(&rings);
    assert_eq!(stood, [Some(3), Some(0)]);
    // It begins with it.
    let mut rings = [ring(0), ring(1)];
    rings[0].next_avail = 3;
    let bitmap = Bitmap::new();
    kernel
        .start(VERSION_1, &guest.ram, &rings, Some(&bitmap.log))
        .unwrap();
    give_buffer(&guest, 3);
    let _fourth = knock();
    until(|| arrived(4));
    until(|| bitmap.has(rings[0].used));
    kernel.stop(&rings);
    kernel.start(VERSION_1, &guest.ram, &rings, None).unwrap();
    kernel.stop(&rings);
}
