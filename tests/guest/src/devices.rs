//! The devices, driven by virtio-drivers. Each prints what it found; a panic is a failure.

use core::ptr::NonNull;

use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::device::console::VirtIOConsole;
use virtio_drivers::device::net::VirtIONet;
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::device::socket::{
    SocketError, VMADDR_CID_HOST, VirtIOSocket, VsockAddr, VsockConnectionManager, VsockEventType,
};
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr};

use crate::say;

/// Memory is mapped one to one.
pub struct Flat;

// SAFETY: pages come zeroed from the allocator and are given back once; addresses are the same on both
// sides, so nothing needs to be mapped or copied.
unsafe impl Hal for Flat {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout has a size.
        let at = unsafe { alloc::alloc::alloc_zeroed(layout(pages)) };
        let at = NonNull::new(at).expect("memory");
        (at.as_ptr() as PhysAddr, at)
    }

    unsafe fn dma_dealloc(_: PhysAddr, at: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: it came from dma_alloc with as many pages.
        unsafe { alloc::alloc::dealloc(at.as_ptr(), layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as *mut u8).expect("an address")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

fn layout(pages: usize) -> core::alloc::Layout {
    core::alloc::Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("a layout")
}

/// Drives what it knows.
pub fn drive(transport: PciTransport) {
    match transport.device_type() {
        DeviceType::Block => block(transport),
        DeviceType::Console => console(transport),
        DeviceType::EntropySource => entropy(transport),
        DeviceType::Network => network(transport),
        DeviceType::Socket => socket(transport),
        other => say!("unknown device {other:?}"),
    }
}

/// The disk's sectors are numbered: sector N begins with N, as eight bytes.
fn block(transport: PciTransport) {
    let mut disk = VirtIOBlk::<Flat, _>::new(transport).expect("a disk");
    let capacity = disk.capacity() as usize;
    say!("disk of {capacity} sectors, read-only {}", disk.readonly());
    let mut id = [0; 20];
    let length = disk.device_id(&mut id).expect("its serial number");
    say!(
        "disk serial {}",
        core::str::from_utf8(&id[..length]).unwrap_or("?")
    );
    let mut sectors = [0u8; 4096];
    for first in [0, 8, capacity - 8] {
        disk.read_blocks(first, &mut sectors).expect("reading");
        for (i, sector) in sectors.chunks(512).enumerate() {
            let number = u64::from_le_bytes(sector[..8].try_into().expect("eight bytes"));
            assert_eq!(number, (first + i) as u64, "what the sector holds");
        }
    }
    assert!(
        disk.read_blocks(capacity, &mut sectors[..512]).is_err(),
        "behind the end"
    );
    if disk.readonly() {
        assert!(
            disk.write_blocks(1, &[0x5a; 512]).is_err(),
            "a read-only disk was written"
        );
    } else {
        disk.write_blocks(1, &[0x5a; 512]).expect("writing");
        disk.flush().expect("flushing");
        disk.read_blocks(1, &mut sectors[..512]).expect("reading");
        assert!(sectors[..512].iter().all(|byte| *byte == 0x5a));
    }
    say!("disk fine");
}

/// Says a line, hears a line, and says that one in capitals.
fn console(transport: PciTransport) {
    let mut console = VirtIOConsole::<Flat, _>::new(transport).expect("a console");
    console
        .send_bytes(b"hello from the guest\n")
        .expect("sending");
    say!("console said hello");
    loop {
        let Some(byte) = console.recv(true).expect("receiving") else {
            continue;
        };
        console.send(byte.to_ascii_uppercase()).expect("sending");
        if byte == b'\n' {
            break;
        }
    }
    say!("console fine");
}

/// The type of the frame that ends it.
const END: [u8; 2] = [0x88, 0xb6];

/// Sends back each frame that comes, with the addresses exchanged, up to one of the type [`END`].
fn network(transport: PciTransport) {
    let mut card = VirtIONet::<Flat, _, 64>::new(transport, 2048).expect("an interface");
    let mac = card.mac_address();
    say!("interface {mac:02x?}");
    let mut hello = card.new_tx_buffer(60);
    hello.packet_mut()[..6].fill(0xff);
    hello.packet_mut()[6..12].copy_from_slice(&mac);
    card.send(hello).expect("sending");
    let mut count = 0u32;
    loop {
        while !card.can_recv() {
            core::hint::spin_loop();
        }
        let received = card.receive().expect("receiving");
        let frame = received.packet();
        let ends = frame[12..14] == END;
        let mut answer = card.new_tx_buffer(frame.len());
        let packet = answer.packet_mut();
        packet.copy_from_slice(frame);
        packet[..6].copy_from_slice(&frame[6..12]);
        packet[6..12].copy_from_slice(&frame[..6]);
        card.recycle_rx_buffer(received).expect("giving it back");
        card.send(answer).expect("sending");
        count += 1;
        if ends {
            break;
        }
    }
    say!("{count} frames");
    say!("interface fine");
}

fn entropy(transport: PciTransport) {
    let mut source = VirtIORng::<Flat, _>::new(transport).expect("an entropy source");
    let mut bytes = [0u8; 256];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += source
            .request_entropy(&mut bytes[filled..])
            .expect("entropy");
    }
    let distinct = (0..=255u8).filter(|value| bytes.contains(value)).count();
    say!("entropy of {distinct} distinct bytes");
    assert!(distinct > 64, "that is not random");
    say!("entropy fine");
}

/// Where the guest listens, and where it connects to.
const GUEST_PORT: u32 = 5000;
const HOST_PORT: u32 = 5001;

/// The sum of a stream's bytes, each with its place.
fn add(sum: u64, at: usize, bytes: &[u8]) -> u64 {
    let weigh = |sum: u64, (offset, byte): (usize, &u8)| {
        let place = (at + offset) as u64 + 1;
        sum.wrapping_add(place.wrapping_mul(u64::from(*byte)))
    };
    bytes.iter().enumerate().fold(sum, weigh)
}

/// Takes a stream: eight bytes that say how long it is, and that many bytes. Answers with their sum
/// and as many bytes of its own; then connects to the host and closes that.
fn socket(transport: PciTransport) {
    let driver = VirtIOSocket::<Flat, _>::new(transport).expect("a socket device");
    let mut sockets = VsockConnectionManager::new_with_capacity(driver, 64 << 10);
    say!("socket of guest {}", sockets.guest_cid());
    sockets.listen(GUEST_PORT);
    say!("socket listens");
    let mut room = [0; 4096];
    let (mut taken, mut head, mut sum) = (0usize, [0u8; 8], 0u64);
    let peer = loop {
        let Some(event) = sockets.poll().expect("polling") else {
            continue;
        };
        if !matches!(event.event_type, VsockEventType::Received { .. }) {
            continue;
        }
        let peer = event.source;
        loop {
            let got = sockets
                .recv(peer, GUEST_PORT, &mut room)
                .expect("receiving");
            if got == 0 {
                break;
            }
            let in_head = 8usize.saturating_sub(taken).min(got);
            head[taken.min(8)..][..in_head].copy_from_slice(&room[..in_head]);
            let data = (taken + in_head).saturating_sub(8);
            sum = add(sum, data, &room[in_head..got]);
            taken += got;
        }
        sockets.update_credit(peer, GUEST_PORT).expect("credit");
        if taken >= 8 && taken as u64 - 8 == u64::from_le_bytes(head) {
            break peer;
        }
    };
    say!("socket took {taken} bytes");
    let mut left = taken - 8;
    send(&mut sockets, peer, &sum.to_le_bytes());
    let mut next = 1u32;
    while left > 0 {
        let count = left.min(room.len());
        for byte in &mut room[..count] {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (next >> 24) as u8;
        }
        send(&mut sockets, peer, &room[..count]);
        left -= count;
    }
    await_end(&mut sockets);
    let host = VsockAddr {
        cid: VMADDR_CID_HOST,
        port: HOST_PORT,
    };
    sockets.connect(host, 6000).expect("connecting");
    await_end(&mut sockets);
    say!("socket fine");
}

type Sockets = VsockConnectionManager<Flat, PciTransport>;

/// Sends all of it, as fast as the peer takes it.
fn send(sockets: &mut Sockets, peer: VsockAddr, bytes: &[u8]) {
    loop {
        match sockets.send(peer, GUEST_PORT, bytes) {
            Ok(()) => return,
            Err(Error::SocketDeviceError(SocketError::InsufficientBufferSpaceInPeer)) => {
                let _ = sockets.poll().expect("polling");
            }
            Err(error) => panic!("sending: {error}"),
        }
    }
}

fn await_end(sockets: &mut Sockets) {
    loop {
        let event = sockets.poll().expect("polling");
        let kind = event.map(|event| event.event_type);
        if let Some(VsockEventType::Disconnected { .. }) = kind {
            return;
        }
    }
}
