//! Measures a network interface: keeps frames in flight on its queues and sees by polling what became of
//! them, as `bench.rs` does with disks.
//!
//! A word `net=WORK:SIZE:DEPTH:TIME` is one measurement of the first interface. SIZE counts the bytes of a
//! frame from its Ethernet header on; DEPTH is the number of frames in flight; TIME is in milliseconds. WORK
//! says what the frames are, and where they end:
//!
//! ```text
//! send     UDP, or a TCP segment to be cut where it is long, to an address that nobody has; ends once the
//!          device has used its buffers
//! echo     ICMP echo request to the host, whose kernel answers; ends with the answer
//! mirror   the same frames as `send`, to an address behind the interface's own bridge port, which sends
//!          them back; ends when it is here again
//! ```
//!
//! All frames of a measurement are the same, and so are written once. Receive buffers go back to the device
//! as they were, because it uses them in order.

use core::sync::atomic::{Ordering, fence};

use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use crate::bench::{
    self, BUFFERS_AT, Descriptor, ENTRIES, INDIRECT, NEXT, NO_SIGNAL, RINGS_AT, Rings, WRITABLE,
    calibrate, now,
};
use crate::devices::Flat;
use crate::pci::Bus;
use crate::say;

/// Who the host is, and where nobody is.
const HOST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xbe, 0x0c, 0x01];
const HOST: [u8; 4] = [10, 9, 7, 1];
const NOBODY: [u8; 4] = [10, 9, 7, 9];
/// Who this guest is, and who the bridge says is behind its port.
const OWN_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xbe, 0x0c, 0x02];
const OWN: [u8; 4] = [10, 9, 7, 2];
const MIRRORED_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xbe, 0x0c, 0x03];

const VIRTIO_NET_F_CSUM: u64 = 1;
const VIRTIO_NET_F_GUEST_CSUM: u64 = 1 << 1;
const VIRTIO_NET_F_GUEST_TSO4: u64 = 1 << 7;
const VIRTIO_NET_F_HOST_TSO4: u64 = 1 << 11;
const VIRTIO_NET_F_MRG_RXBUF: u64 = 1 << 15;
/// What long frames need.
const OFFLOADS: u64 =
    VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_HOST_TSO4;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// `struct virtio_net_hdr` (Virtio 1.2, section 5.1.6).
const HEADER: usize = 12;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
/// A longer frame is a TCP segment that is to be cut into such parts.
const MTU: usize = 1500;
const MSS: u16 = 1460;
const ETHERNET: usize = 14;
const IP: usize = 20;
const TCP: usize = 20;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const TCP_NUMBER: u8 = 6;
/// Each receive buffer, and each part of a frame.
const PAGE: usize = 4096;
/// Behind the receive buffers.
const FRAME_AT: u64 = BUFFERS_AT + (ENTRIES * PAGE) as u64;
const MAX_FRAME: usize = 65_549;
/// Frames between two looks at the clock.
const ROUND: u16 = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Send,
    Echo,
    Mirror,
}

/// Does what a word says behind its `net=`.
pub fn run(bus: &mut Bus, word: &str) {
    let mut parts = word.split(':');
    let mut part = || parts.next().expect("net=WORK:SIZE:DEPTH:TIME");
    let work = match part() {
        "send" => Work::Send,
        "echo" => Work::Echo,
        "mirror" => Work::Mirror,
        other => panic!("no such work: {other}"),
    };
    let size: usize = part().parse().expect("a size");
    let depth: u16 = part().parse().expect("a depth");
    let time: u64 = part().parse().expect("milliseconds");
    assert!((60..=MAX_FRAME).contains(&size), "the size");

    let at = bench::find(bus, DeviceType::Network, 0).expect("no interface");
    let mut transport = PciTransport::new::<Flat, _>(&mut bus.root, at).expect("a transport");
    let features = if size > MTU + ETHERNET { OFFLOADS } else { 0 };
    bench::negotiate(&mut transport, VIRTIO_NET_F_MRG_RXBUF | features);
    let mut queue = |index, fill: &dyn Fn(&mut Rings, usize)| {
        let doorbell = bench::doorbell(&mut bus.root, at, index).expect("a doorbell");
        Queue::new(&mut transport, index, doorbell, fill)
    };
    let receive = queue(RECEIVE, &fill_receive);
    let transmit = queue(TRANSMIT, &|rings, entries| {
        fill_transmit(rings, entries, HEADER + size)
    });
    write_frame(work, size);
    transport.finish_init();

    let buffers = (HEADER + size).div_ceil(PAGE) as u16;
    assert!(
        (1..=receive.entries / buffers / 2).contains(&depth),
        "the depth"
    );
    let mut line = Line {
        back: work != Work::Send,
        buffers,
        receive,
        transmit,
        ended: 0,
    };
    let ticks = calibrate();
    line.receive.give(line.receive.entries);
    say!("begin net {word}");
    let (mut frames, begin) = (0u64, now());
    while now() - begin < time * ticks {
        line.go(ROUND, depth);
        frames += u64::from(ROUND);
    }
    let nanoseconds = u128::from(now() - begin) * 1_000_000 / u128::from(ticks);
    say!("end net {word} frames {frames} ns {nanoseconds}");
    transport.set_status(DeviceStatus::empty());
    while !transport.get_status().is_empty() {}
}

/// One queue.
struct Queue {
    rings: *mut Rings,
    entries: u16,
    index: u16,
    /// Register that a kick is written to.
    doorbell: *mut u16,
}

impl Queue {
    fn new(
        transport: &mut PciTransport,
        index: u16,
        doorbell: *mut u16,
        fill: &dyn Fn(&mut Rings, usize),
    ) -> Self {
        let rings = (RINGS_AT as *mut Rings).wrapping_add(usize::from(index));
        let entries = transport.max_queue_size(index).min(ENTRIES as u32);
        // SAFETY: nothing else uses this memory, and the device does not have it yet.
        let all = unsafe {
            rings.write_bytes(0, 1);
            &mut *rings
        };
        all.available.flags = NO_SIGNAL;
        for i in 0..entries as u16 {
            all.available.ring[usize::from(i)] = i;
        }
        fill(all, entries as usize);
        transport.queue_set(
            index,
            entries,
            &raw const all.descriptors as u64,
            &raw const all.available as u64,
            &raw const all.used as u64,
        );
        Queue {
            rings,
            entries: entries as u16,
            index,
            doorbell,
        }
    }

    /// Has the device take buffers up to `index`.
    fn give(&mut self, index: u16) {
        fence(Ordering::Release);
        // SAFETY: the index is ours to write, the flags are the device's; the doorbell is a register.
        unsafe {
            (&raw mut (*self.rings).available.index).write_volatile(index);
            fence(Ordering::SeqCst);
            if (&raw const (*self.rings).used.flags).read_volatile() & NO_SIGNAL == 0 {
                self.doorbell.write_volatile(self.index);
            }
        }
    }
}

/// An interface that runs.
struct Line {
    /// Frames come back.
    back: bool,
    /// How many receive buffers one fills.
    buffers: u16,
    receive: Queue,
    transmit: Queue,
    /// Frames that ended; what was sent, while nothing is in flight.
    ended: u16,
}

impl Line {
    /// Sends `count` frames, `depth` at a time, and waits for their ends. With as few instructions from
    /// the end of one to the beginning of the next as it takes.
    fn go(&mut self, count: u16, depth: u16) {
        let first = self.ended;
        let end = first.wrapping_add(count);
        let mut given = first.wrapping_add(depth.min(count));
        let (counted, buffers) = match self.back {
            true => (self.receive.rings, self.buffers),
            false => (self.transmit.rings, 1),
        };
        // SAFETY: only an address is taken.
        let used = unsafe { &raw const (*counted).used.index };
        // SAFETY: the device writes it.
        let mut seen = unsafe { used.read_volatile() };
        self.transmit.give(given);
        while self.ended != end {
            // SAFETY: as before.
            let ended = unsafe { used.read_volatile() }.wrapping_sub(seen);
            if ended < buffers {
                continue;
            }
            let frames = if buffers == 1 { ended } else { ended / buffers };
            self.ended = self.ended.wrapping_add(frames);
            if given != end {
                let left = end.wrapping_sub(self.ended);
                given = self.ended.wrapping_add(depth.min(left));
                self.transmit.give(given);
            }
            seen = seen.wrapping_add(frames * buffers);
            if self.back {
                self.receive.give(seen.wrapping_add(self.receive.entries));
            }
        }
    }
}

fn fill_receive(rings: &mut Rings, entries: usize) {
    for i in 0..entries {
        let at = BUFFERS_AT + (i * PAGE) as u64;
        rings.descriptors[i] = Descriptor::new(at, PAGE as u32, WRITABLE, 0);
    }
}

/// Each entry is the same frame, in a table of its own parts where it is longer than one.
fn fill_transmit(rings: &mut Rings, entries: usize, len: usize) {
    let count = len.div_ceil(PAGE);
    let parts = rings.parts.as_flattened_mut();
    for (i, part) in parts.iter_mut().take(count).enumerate() {
        let here = PAGE.min(len - i * PAGE) as u32;
        let next = if i + 1 < count { NEXT } else { 0 };
        *part = Descriptor::new(FRAME_AT + (i * PAGE) as u64, here, next, i as u16 + 1);
    }
    let table = &raw const rings.parts as u64;
    for i in 0..entries {
        rings.descriptors[i] = match count {
            1 => Descriptor::new(FRAME_AT, len as u32, 0, 0),
            _ => Descriptor::new(table, 16 * count as u32, INDIRECT, 0),
        };
    }
}

/// The frame with its header.
fn write_frame(work: Work, size: usize) {
    // SAFETY: nothing else uses this memory, and the device does not have it yet.
    let all = unsafe { core::slice::from_raw_parts_mut(FRAME_AT as *mut u8, HEADER + size) };
    all.fill(0x5a);
    let (header, frame) = all.split_at_mut(HEADER);
    header.fill(0);
    let long = size > MTU + ETHERNET;
    let (protocol, to) = match work {
        Work::Echo => (ICMP, HOST),
        _ if long => (TCP_NUMBER, NOBODY),
        _ => (UDP, NOBODY),
    };
    frame[..6].copy_from_slice(match work {
        Work::Mirror => &MIRRORED_MAC,
        _ => &HOST_MAC,
    });
    frame[6..12].copy_from_slice(&OWN_MAC);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (ip, inner) = frame[ETHERNET..].split_at_mut(IP);
    let len = (IP + inner.len()) as u16;
    ip.fill(0);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    (ip[8], ip[9]) = (64, protocol);
    ip[12..16].copy_from_slice(&OWN);
    ip[16..20].copy_from_slice(&to);
    let sum = checksum(ip);
    ip[10..12].copy_from_slice(&sum);
    match protocol {
        ICMP => {
            inner[..8].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 1]);
            let sum = checksum(inner);
            inner[2..4].copy_from_slice(&sum);
        }
        TCP_NUMBER => {
            inner[..TCP].fill(0);
            // Ports, the length of this header, ACK, a window.
            inner[..4].copy_from_slice(&[0x13, 0x88, 0x13, 0x89]);
            inner[12..16].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
            (header[0], header[1]) = (NEEDS_CSUM, GSO_TCPV4);
            let fields = [
                (ETHERNET + IP + TCP) as u16,
                MSS,
                (ETHERNET + IP) as u16,
                16,
            ];
            for (to, field) in header[2..10].chunks_exact_mut(2).zip(fields) {
                to.copy_from_slice(&field.to_le_bytes());
            }
        }
        _ => {
            inner[..4].copy_from_slice(&[0x13, 0x88, 0, 9]);
            inner[4..6].copy_from_slice(&(len - IP as u16).to_be_bytes());
            // No checksum.
            inner[6..8].fill(0);
        }
    }
}

/// The checksum of the internet (RFC 1071).
fn checksum(data: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = data.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
