//! What a disk makes of requests, good and bad.

use std::process::Command;

use block::Account;
use proptest::prelude::*;
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryBackend};

use super::*;
use crate::testing::{RAM_HIGH, RAM_SIZE};

#[test]
fn what_is_written_is_read_back_and_is_in_the_file() {
    for (aio, direct) in engines() {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = attach(file_spec(&path, aio, direct), WriteCache::Back);
        let guest = FakeGuest::new();
        let mut disk = Disk::new(&guest, &node);
        let data: Vec<u8> = (0..8192u32).map(|n| (n / 5) as u8).collect();
        assert_eq!(disk.write(3, &data), OK);
        assert_eq!(disk.request(FLUSH, 0, &[]), (OK, 1));
        assert_eq!(disk.read(3, 8192), data, "{aio:?} {direct}");
        assert_eq!(std::fs::read(&path).unwrap()[1536..][..8192], data);
        let stats = node.stats();
        assert_eq!(stats.counts(Account::Write).bytes, 8192);
        assert_eq!(stats.counts(Account::Read).operations, 1);
        assert_eq!(stats.counts(Account::Flush).operations, 1);
        assert_eq!(stats.highest_offset(), 1536 + 8192);
        disk.close();
        drop(node);
        let output = Command::new("qemu-io")
            .args([
                "-f",
                "raw",
                "-c",
                "read -P 0 0 1536",
                path.to_str().unwrap(),
            ])
            .output();
        if let Ok(output) = output {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && !text.contains("failed"),
                "{text}"
            );
        }
    }
}

#[test]
fn what_the_device_writes_is_marked_for_migration() {
    for (aio, direct) in engines() {
        let dir = dir();
        let (_graph, node) = attach(file_spec(&image(&dir), aio, direct), WriteCache::Back);
        let guest = FakeGuest::new();
        let mut disk = Disk::new(&guest, &node);
        disk.header(IN, 8);
        // One buffer is aligned for direct I/O, the other is not.
        let (whole, odd) = (RAM_HIGH + 0x4000, DATA + 8);
        let buffers = [
            Buffer::Out(HEADER, 16),
            Buffer::In(whole, 4096),
            Buffer::In(odd, 4096),
            Buffer::In(STATUS, 1),
        ];
        disk.ring.add(&guest, &buffers);
        let memory = guest.ram.memory();
        memory.iter().for_each(|region| (**region).bitmap().reset());
        disk.driver.kick(&disk.ring);
        guest
            .thread
            .run_until(|| disk.ring.take_used(&guest).is_some());
        let dirty = |at: u64| {
            let (region, offset) = memory.to_region_addr(GuestAddress(at)).unwrap();
            (**region).bitmap().dirty_at(offset.0 as usize)
        };
        for at in [whole, odd, odd + 4095, STATUS, disk.ring.used] {
            assert!(dirty(at), "{aio:?} {direct} {at:#x}");
        }
        for at in [HEADER, whole + 4096, whole - 1, DATA + 8192] {
            assert!(!dirty(at), "{aio:?} {direct} {at:#x}");
        }
    }
}

#[test]
fn qemu_io_reads_what_the_guest_wrote() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::IoUring, true), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut disk = Disk::new(&guest, &node);
    assert_eq!(disk.write(8, &[0xab; 4096]), OK);
    let read = |flags: &[&str], what: &str| {
        let mut command = Command::new("qemu-io");
        command
            .args(flags)
            .args(["-f", "raw", "-c", what])
            .arg(&path);
        command.output().ok().map(|output| {
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        })
    };
    let Some((ok, text)) = read(&["-r"], "read -P 0xab 4096 4096") else {
        eprintln!("There is no qemu-io here");
        return;
    };
    assert!(ok && text.contains("read 4096/4096"), "{text}");
    let (ok, text) = read(&[], "write 0 512").unwrap();
    assert!(
        !ok && text.contains("Failed to get \"write\" lock"),
        "{text}"
    );
    disk.close();
    drop(node);
    let (ok, text) = read(&[], "write -P 1 0 512").unwrap();
    assert!(ok, "{text}");
}

#[test]
fn scattered_memory_is_used_as_it_is() {
    for (aio, direct) in engines() {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = attach(file_spec(&path, aio, direct), WriteCache::Back);
        let guest = FakeGuest::new();
        let mut disk = Disk::new(&guest, &node);
        guest.write(DATA + 1, &[1; 100]);
        guest.write(RAM_HIGH + 7, &[2; 412]);
        let data = [Buffer::Out(DATA + 1, 100), Buffer::Out(RAM_HIGH + 7, 412)];
        assert_eq!(disk.request(OUT, 1, &data), (OK, 1));
        let expected = [vec![1; 100], vec![2; 412]].concat();
        assert_eq!(std::fs::read(&path).unwrap()[512..1024], expected);
        let data = [
            Buffer::In(DATA + 1001, 300),
            Buffer::In(RAM_HIGH + 1003, 212),
        ];
        assert_eq!(disk.request(IN, 1, &data), (OK, 513));
        let back = [
            guest.read(DATA + 1001, 300),
            guest.read(RAM_HIGH + 1003, 212),
        ]
        .concat();
        assert_eq!(back, expected, "{aio:?} {direct}");
    }
}

#[test]
fn header_data_and_status_may_share_buffers() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut disk = Disk::new(&guest, &node);
    // One readable buffer with header and data, split at an odd place.
    disk.header(OUT, 2);
    guest.write(HEADER + 16, &[5; 512]);
    let chain = [
        Buffer::Out(HEADER, 7),
        Buffer::Out(HEADER + 7, 521),
        Buffer::In(STATUS, 1),
    ];
    assert_eq!(disk.driver.request(&mut disk.ring, &chain), 1);
    assert_eq!(guest.read(STATUS, 1), [OK]);
    // One writable buffer with data and status; through an indirect table.
    disk.header(IN, 2);
    let chain = [Buffer::Out(HEADER, 16), Buffer::In(DATA, 513)];
    disk.ring.add_indirect(&guest, 0xa000, &chain);
    disk.driver.kick(&disk.ring);
    let mut used = None;
    guest.thread.run_until(|| {
        used = used.or_else(|| disk.ring.take_used(&guest));
        used.is_some()
    });
    assert_eq!(used.unwrap().1, 513);
    assert_eq!(guest.read(DATA, 513), [vec![5; 512], vec![OK]].concat());
}

#[test]
fn zeroes_and_discards_reach_the_file() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut disk = Disk::new(&guest, &node);
    assert_eq!(disk.write(0, &[1; 64 << 10]), OK);
    assert_eq!(disk.segment(WRITE_ZEROES, 1, 2, 0), OK);
    assert_eq!(disk.segment(WRITE_ZEROES, 8, 8, 1), OK);
    assert_eq!(disk.segment(DISCARD, 64, 64, 0), OK);
    let bytes = std::fs::read(&path).unwrap();
    let sector = |n: usize| bytes[n * 512];
    assert_eq!([0, 1, 2, 3, 8, 15, 16].map(sector), [1, 0, 0, 1, 0, 0, 1]);
    assert_eq!(node.stats().counts(Account::Unmap).bytes, 32 << 10);
    // Flags that mean nothing, lengths that are not offered, places that are not there.
    assert_eq!(disk.segment(DISCARD, 0, 1, 1), UNSUPP);
    assert_eq!(disk.segment(WRITE_ZEROES, 0, 1, 2), UNSUPP);
    assert_eq!(disk.segment(DISCARD, 0, 4_194_304, 0), IOERR);
    assert_eq!(disk.segment(WRITE_ZEROES, SIZE / 512, 1, 0), IOERR);
    assert_eq!(disk.segment(WRITE_ZEROES, u64::MAX, 1, 0), IOERR);
    // Two segments.
    let answer = disk.request(DISCARD, 0, &[Buffer::Out(DATA, 32)]);
    assert_eq!(answer, (UNSUPP, 1));
    assert!(!disk.broken());
}

#[test]
fn without_the_features_discards_are_not_supported() {
    let guest = FakeGuest::new();
    let node = null(small());
    let off = props(|props| {
        props.discard = false;
        props.write_zeroes = false;
    });
    let mut disk = Disk::with(&guest, &node, off, u64::MAX);
    assert_eq!(disk.segment(DISCARD, 0, 1, 0), UNSUPP);
    assert_eq!(disk.segment(WRITE_ZEROES, 0, 1, 0), UNSUPP);
    assert_eq!(disk.driver.config::<4>(36), [0; 4]);
    assert_eq!(disk.driver.config::<4>(48), [0; 4]);
}

#[test]
fn the_serial_number_is_told() {
    let guest = FakeGuest::new();
    let node = null(small());
    let serial = props(|props| props.serial = Some("disk-0001-and-more-than-fits".into()));
    let mut disk = Disk::with(&guest, &node, serial, u64::MAX);
    guest.write(DATA, &[0xee; 32]);
    assert_eq!(disk.request(GET_ID, 0, &[Buffer::In(DATA, 20)]), (OK, 21));
    assert_eq!(guest.read(DATA, 20), b"disk-0001-and-more-t");
    guest.write(DATA, &[0xee; 32]);
    assert_eq!(disk.request(GET_ID, 0, &[Buffer::In(DATA, 4)]), (OK, 5));
    assert_eq!(guest.read(DATA, 5), b"disk\xee");
    assert_eq!(disk.request(GET_ID, 0, &[Buffer::In(DATA, 32)]), (OK, 21));
}

#[test]
fn requests_that_make_no_sense_fail_alone() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut disk = Disk::new(&guest, &node);
    let last = SIZE / 512;
    for (sector, len, expected) in [
        (last - 1, 512, OK),
        (last, 512, IOERR),
        (last - 1, 1024, IOERR),
        (u64::MAX, 512, IOERR),
        (u64::MAX / 512, 512, IOERR),
        (0, 511, IOERR),
        (0, 513, IOERR),
    ] {
        let read = disk.request(IN, sector, &[Buffer::In(DATA, len)]);
        assert_eq!(read.0, expected, "{sector} {len}");
        let written = disk.request(OUT, sector, &[Buffer::Out(DATA, len)]);
        assert_eq!(written, (expected, 1), "{sector} {len}");
    }
    for kind in [2, 3, 5, 7, 9, 12, 14, 0x8000_0000, u32::MAX] {
        let answer = disk.request(kind, 0, &[Buffer::In(DATA, 512)]);
        assert_eq!(answer, (UNSUPP, 1), "{kind:#x}");
    }
    assert_eq!(node.stats().counts(Account::Read).invalid, 6);
    assert_eq!(disk.read(0, 512).len(), 512);
    assert!(!disk.broken());
}

#[test]
fn blocks_larger_than_sectors_are_not_split() {
    let guest = FakeGuest::new();
    let node = null(small());
    let large = props(|props| {
        props.logical_block_size = api_spec::decode::Size(4096);
        props.physical_block_size = api_spec::decode::Size(8192);
    });
    let mut disk = Disk::with(&guest, &node, large, u64::MAX);
    assert_eq!(disk.request(IN, 8, &[Buffer::In(DATA, 4096)]).0, OK);
    assert_eq!(disk.request(IN, 1, &[Buffer::In(DATA, 4096)]).0, IOERR);
    assert_eq!(disk.request(IN, 8, &[Buffer::In(DATA, 512)]).0, IOERR);
    assert_eq!(disk.driver.config::<4>(20), 4096u32.to_le_bytes());
    assert_eq!(disk.driver.config::<1>(24), [1]);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let dir = dir();
    let path = image(&dir);
    let mut spec = file_spec(&path, Aio::Threads, false);
    spec.read_only = Some(true);
    let (_graph, node) = attach(spec, WriteCache::Back);
    let guest = FakeGuest::new();
    let mut disk = Disk::new(&guest, &node);
    assert_ne!(disk.driver.offered() & 1 << 5, 0);
    assert_eq!(disk.write(0, &[1; 512]), IOERR);
    assert_eq!(disk.segment(WRITE_ZEROES, 0, 1, 0), IOERR);
    assert_eq!(disk.segment(DISCARD, 0, 1, 0), IOERR);
    assert_eq!(disk.request(FLUSH, 0, &[]).0, OK);
    assert_eq!(disk.read(0, 512), [0; 512]);
}

/// Offers a chain that breaks the rules; the device must ask for its reset and work after it.
fn breaks(offer: impl FnOnce(&FakeGuest, &mut Ring)) {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut disk = Disk::new(&guest, &node);
    disk.header(IN, 0);
    offer(&guest, &mut disk.ring);
    disk.driver.kick(&disk.ring);
    assert!(disk.broken());
    assert_eq!(disk.ring.take_used(&guest), None);
    assert_eq!(guest.read(STATUS, 1), [0xff]);
    disk.driver.negotiate(u64::MAX);
    disk.ring = disk.driver.queue(0, 0x1000, 64);
    disk.driver.go();
    assert!(!disk.broken());
    assert_eq!(disk.request(FLUSH, 0, &[]).0, OK);
}

#[test]
fn chains_that_break_the_rules_break_the_queue() {
    let header = Buffer::Out(HEADER, 16);
    let last = Buffer::In(STATUS, 1);
    // A loop.
    breaks(|guest, ring| {
        ring.set_descriptor(guest, 0, (HEADER, 16, 1, 1));
        ring.set_descriptor(guest, 1, (DATA, 512, 3, 1));
        ring.offer(guest, 0);
    });
    // Outside memory.
    for address in [RAM_SIZE - 100, RAM_HIGH - 1, u64::MAX - 100] {
        breaks(|guest, ring| {
            ring.add(guest, &[header, Buffer::In(address, 512), last]);
        });
    }
    // A header that is too short, none, no place for the status.
    breaks(|guest, ring| {
        ring.add(guest, &[Buffer::Out(HEADER, 15), last]);
    });
    breaks(|guest, ring| {
        ring.add(guest, &[Buffer::In(DATA, 512), last]);
    });
    breaks(|guest, ring| {
        ring.add(guest, &[header, Buffer::Out(DATA, 512)]);
    });
    breaks(|guest, ring| {
        ring.add(guest, &[header, Buffer::In(STATUS, 0)]);
    });
    // Readable behind writable.
    breaks(|guest, ring| {
        ring.add(
            guest,
            &[header, Buffer::In(DATA, 512), Buffer::Out(DATA, 512), last],
        );
    });
    // A segment that is too short.
    breaks(|guest, ring| {
        guest.write(HEADER, &DISCARD.to_le_bytes());
        ring.add(guest, &[header, Buffer::Out(DATA, 15), last]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in the rings, the device neither panics nor hangs, and works after a reset.
    #[test]
    fn garbage_in_the_rings_does_no_harm(
        words in proptest::collection::vec(any::<u32>(), 512),
        plausible in proptest::collection::vec((0u64..0x4000, 0u32..2000, 0u16..8, 0u16..64), 32),
        kind in 0u32..16,
        heads in proptest::collection::vec(0u16..80, 1..64),
    ) {
        let guest = FakeGuest::new();
        let node = null(small());
        let mut disk = Disk::new(&guest, &node);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        guest.write(0x2000, &bytes);
        guest.write(0x2000, &kind.to_le_bytes());
        for (index, (address, len, flags, next)) in (0u16..).zip(plausible) {
            disk.ring.set_descriptor(&guest, index * 2, (0x1f00 + address, len, flags, next));
        }
        for head in heads {
            disk.ring.offer(&guest, head);
        }
        disk.driver.kick(&disk.ring);
        guest.thread.run();
        disk.driver.negotiate(u64::MAX);
        disk.ring = disk.driver.queue(0, 0x1000, 64);
        disk.driver.go();
        prop_assert_eq!(disk.request(FLUSH, 0, &[]).0, OK);
    }
}
