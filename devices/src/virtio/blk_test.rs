//! A disk under the fake guest, on files with each engine and on null nodes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use api_spec::{BlockdevOnError, DeviceDriver, OnOffAuto, VirtioBlkPciProps};
use block::{
    Account, Aio, AttachOptions, Attachment, ChildSpec, Discard, DriveOptions, DriverSpec,
    FileSpec, Graph, Locking, NodeSpec, NullSpec, Pool, RawWindow, Sharing, WriteCache,
};
use proptest::prelude::*;
use tempfile::TempDir;
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryBackend};

use super::blk::build;
use super::common::status;
use crate::testing::{Buffer, Driver, FakeGuest, RAM_HIGH, RAM_SIZE, Ring};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

const HEADER: u64 = 0x8000;
const STATUS: u64 = 0x9000;
const DATA: u64 = 0x10_0000;

const SIZE: u64 = 4 << 20;

fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

fn pool() -> Pool {
    let spawner: block::Spawner = Arc::new(|name, body| {
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder.spawn(body).map(drop)
    });
    Pool::new(spawner, 4)
}

fn props(change: impl FnOnce(&mut VirtioBlkPciProps)) -> VirtioBlkPciProps {
    let flags = api_spec::keyval::Flags::Refused;
    let options: api_spec::DeviceOptions =
        api_spec::keyval::decode_keyval("virtio-blk-pci", Some("driver"), flags).unwrap();
    let DeviceDriver::VirtioBlkPci(mut props) = options.driver else {
        panic!("another driver");
    };
    change(&mut props);
    props
}

/// A directory beside the test program: unlike /tmp, a file system with direct I/O.
fn dir() -> TempDir {
    TempDir::new_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
}

fn image(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("a.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    path
}

fn file_spec(path: &Path, aio: Aio, direct: bool) -> NodeSpec {
    let file = NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio,
        locking: Locking::Auto,
    }));
    let mut spec = NodeSpec::new(DriverSpec::Raw {
        file: Box::new(ChildSpec::Inline(file)),
        window: RawWindow::default(),
    });
    spec.direct = Some(direct);
    spec.discard = Some(Discard::Unmap);
    spec
}

fn attach(spec: NodeSpec, write_cache: WriteCache) -> (Graph, Arc<Attachment>) {
    let graph = Graph::new(pool());
    let options = DriveOptions { write_cache };
    graph
        .add_drive("d", Some(spec), options, &mut opener)
        .unwrap();
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    let attachment = graph.attach("d", "/machine/peripheral/d", options).unwrap();
    (graph, Arc::new(attachment))
}

fn null(spec: NullSpec) -> Arc<Attachment> {
    attach(NodeSpec::new(DriverSpec::Null(spec)), WriteCache::Back).1
}

fn small() -> NullSpec {
    NullSpec {
        size: SIZE,
        ..NullSpec::default()
    }
}

/// A disk that is ready, with its first queue.
struct Disk<'a> {
    guest: &'a FakeGuest,
    driver: Driver<'a>,
    ring: Ring,
}

impl<'a> Disk<'a> {
    fn new(guest: &'a FakeGuest, node: &Arc<Attachment>) -> Self {
        Self::with(guest, node, props(|_| {}), u64::MAX)
    }

    fn with(
        guest: &'a FakeGuest,
        node: &Arc<Attachment>,
        props: VirtioBlkPciProps,
        features: u64,
    ) -> Self {
        let mut cx = guest.cx("disk0");
        cx.node = Some(node.clone());
        let mut driver = Driver::new(guest, build(&props, &cx).unwrap());
        driver.negotiate(features);
        let ring = driver.queue(0, 0x1000, 64);
        driver.go();
        Disk {
            guest,
            driver,
            ring,
        }
    }

    fn header(&self, kind: u32, sector: u64) {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.guest.write(HEADER, &header);
        self.guest.write(STATUS, &[0xff]);
    }

    /// Sends a request; its status and how many bytes the device says it wrote.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        self.header(kind, sector);
        let first = [Buffer::Out(HEADER, 16)];
        let last = [Buffer::In(STATUS, 1)];
        let chain = [&first[..], data, &last].concat();
        let len = self.driver.request(&mut self.ring, &chain);
        (self.guest.read(STATUS, 1)[0], len)
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.guest.write(DATA, data);
        self.request(OUT, sector, &[Buffer::Out(DATA, data.len() as u32)])
            .0
    }

    fn read(&mut self, sector: u64, len: u32) -> Vec<u8> {
        let answer = self.request(IN, sector, &[Buffer::In(DATA, len)]);
        assert_eq!(answer, (OK, len + 1));
        self.guest.read(DATA, len as usize)
    }

    fn segment(&mut self, kind: u32, sector: u64, count: u32, flags: u32) -> u8 {
        let (count, flags) = (count.to_le_bytes(), flags.to_le_bytes());
        let segment = [&sector.to_le_bytes()[..], &count, &flags].concat();
        self.guest.write(DATA, &segment);
        self.request(kind, 0, &[Buffer::Out(DATA, 16)]).0
    }

    /// Stops it as an unplug does.
    fn close(self) {
        self.driver.carry_out(crate::effect::Effect::StopQueues);
    }

    fn broken(&self) -> bool {
        self.driver.status() & status::NEEDS_RESET != 0
    }
}

fn engines() -> impl Iterator<Item = (Aio, bool)> {
    [
        (Aio::Threads, false),
        (Aio::Threads, true),
        (Aio::Native, true),
        (Aio::IoUring, false),
        (Aio::IoUring, true),
    ]
    .into_iter()
}

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
fn what_is_left_to_the_device_is_as_qemu_leaves_it() {
    let guest = FakeGuest::new();
    let node = null(small());
    let given = props(|_| {});
    let left = (given.logical_block_size.0, given.physical_block_size.0);
    assert_eq!(left, (0, 0));
    assert_eq!((given.rerror, given.rombar), (BlockdevOnError::Auto, -1));
    let reports = props(|props| {
        props.rerror = BlockdevOnError::Report;
        props.werror = BlockdevOnError::Report;
        props.physical_block_size = api_spec::decode::Size(4096);
    });
    for (props, exponent) in [(given, 0), (reports, 3)] {
        let disk = Disk::with(&guest, &node, props, u64::MAX);
        assert_eq!(disk.driver.config::<4>(20), 512u32.to_le_bytes());
        assert_eq!(disk.driver.config::<1>(24), [exponent]);
        disk.close();
    }
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

#[test]
fn a_batch_is_answered_with_one_interrupt() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut disk = Disk::with(&guest, &node, props(|_| {}), !(1 << 29));
    disk.header(FLUSH, 0);
    let chain = [Buffer::Out(HEADER, 16), Buffer::In(STATUS, 1)];
    for _ in 0..20 {
        disk.ring.add(&guest, &chain);
    }
    disk.driver.kick(&disk.ring);
    assert_eq!(disk.ring.used_index(&guest), 20);
    assert_eq!(disk.driver.isr(), 1);
}

#[test]
fn a_stop_waits_for_what_is_in_flight_and_loses_nothing() {
    let guest = FakeGuest::new();
    let node = null(NullSpec {
        latency_ns: 20_000_000,
        ..small()
    });
    let mut disk = Disk::new(&guest, &node);
    disk.header(FLUSH, 0);
    let chain = [Buffer::Out(HEADER, 16), Buffer::In(STATUS, 1)];
    for _ in 0..10 {
        disk.ring.add(&guest, &chain);
    }
    disk.driver.kick(&disk.ring);
    assert_eq!(disk.ring.used_index(&guest), 0);
    disk.driver.carry_out(crate::effect::Effect::StopQueues);
    assert_eq!(disk.ring.used_index(&guest), 10);
    for _ in 0..3 {
        disk.ring.add(&guest, &chain);
    }
    disk.driver.carry_out(crate::effect::Effect::StartQueues);
    guest
        .thread
        .run_until(|| disk.ring.used_index(&guest) == 13);
}

#[test]
fn heads_offered_again_and_again_do_not_pile_up() {
    let guest = FakeGuest::new();
    let node = null(NullSpec {
        latency_ns: 1_000_000,
        ..small()
    });
    let mut disk = Disk::new(&guest, &node);
    disk.header(FLUSH, 0);
    let head = disk
        .ring
        .add(&guest, &[Buffer::Out(HEADER, 16), Buffer::In(STATUS, 1)]);
    for _ in 0..10 {
        for _ in 0..60 {
            disk.ring.offer(&guest, head);
        }
        disk.driver.kick(&disk.ring);
    }
    guest
        .thread
        .run_until(|| disk.ring.used_index(&guest) == 601 || disk.broken());
}

#[test]
fn each_queue_works_for_itself() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::Native, true), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut cx = guest.cx("disk0");
    cx.node = Some(node.clone());
    cx.hints.insert("vcpus", 4);
    let mut driver = Driver::new(&guest, build(&props(|_| {}), &cx).unwrap());
    driver.negotiate(u64::MAX);
    assert_eq!(driver.config::<2>(34), 4u16.to_le_bytes());
    let mut rings: Vec<Ring> = (0..4u16)
        .map(|index| driver.queue(index, 0x1000 + 0x1000 * u64::from(index), 16))
        .collect();
    driver.go();
    assert_eq!(guest.thread.len(), 4);
    for (n, ring) in (0u64..).zip(&mut rings) {
        let at = DATA + 0x1000 * n;
        let header = [&OUT.to_le_bytes()[..], &[0; 4], &n.to_le_bytes()].concat();
        guest.write(at, &header);
        guest.write(at + 512, &[n as u8 + 1; 512]);
        let chain = [
            Buffer::Out(at, 16),
            Buffer::Out(at + 512, 512),
            Buffer::In(at + 1024, 1),
        ];
        assert_eq!(driver.request(ring, &chain), 1);
        assert_eq!(guest.read(at + 1024, 1), [OK]);
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        [0, 512, 1024, 1536].map(|at: usize| bytes[at]),
        [1, 2, 3, 4]
    );
}

#[test]
fn configuration_says_what_the_disk_is() {
    let guest = FakeGuest::new();
    let node = null(NullSpec::default());
    let disk = Disk::new(&guest, &node);
    let driver = &disk.driver;
    assert_eq!(driver.config::<8>(0), (2u64 << 20).to_le_bytes());
    assert_eq!(driver.config::<4>(12), 254u32.to_le_bytes());
    assert_eq!(driver.config::<4>(20), 512u32.to_le_bytes());
    assert_eq!(driver.config::<2>(34), 1u16.to_le_bytes());
    assert_eq!(driver.config::<4>(36), 4_194_303u32.to_le_bytes());
    assert_eq!(driver.config::<4>(44), 1u32.to_le_bytes());
    assert_eq!(driver.config::<4>(48), 4_194_303u32.to_le_bytes());
    assert_eq!(driver.config::<1>(56), [1]);
    // MQ is for more than one queue.
    assert_eq!(driver.offered() & 0xffff, 0x6e54);
}

fn write_cache(graph: &Graph) -> WriteCache {
    graph.backends()[0].write_cache
}

#[test]
fn the_write_cache_is_the_drivers_to_switch() {
    let dir = dir();
    let path = image(&dir);
    let (graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut disk = Disk::new(&guest, &node);
    assert_eq!(disk.driver.config::<1>(32), [1]);
    disk.driver.write(super::layout::DEVICE + 32, &[0]);
    assert_eq!(disk.driver.config::<1>(32), [0]);
    assert_eq!(write_cache(&graph), WriteCache::Through);
    assert_eq!(disk.write(0, &[1; 512]), OK);
    disk.driver.set_status(0);
    assert_eq!(disk.driver.config::<1>(32), [1]);
    drop(disk);

    // Neither the switch nor flushes: writes are durable.
    let plain = Disk::with(&guest, &node, props(|_| {}), !(1 << 9 | 1 << 11));
    assert_eq!(plain.driver.config::<1>(32), [0]);
    drop(plain);
    let fixed = props(|props| {
        props.config_wce = false;
        props.write_cache = OnOffAuto::Off;
    });
    let disk = Disk::with(&guest, &node, fixed, u64::MAX);
    assert_eq!(disk.driver.offered() & (1 << 9 | 1 << 11), 0);
    disk.driver.write(super::layout::DEVICE + 32, &[1]);
    assert_eq!(disk.driver.config::<1>(32), [0]);
}

#[test]
fn properties_that_make_no_sense_are_refused() {
    let guest = FakeGuest::new();
    let refused = |node: Option<Arc<Attachment>>, change: &dyn Fn(&mut VirtioBlkPciProps)| {
        let mut cx = guest.cx("disk0");
        cx.node = node;
        build(&props(|props| change(props)), &cx)
            .err()
            .unwrap()
            .desc
    };
    assert_eq!(refused(None, &|_| {}), "drive property not set");
    let size = api_spec::decode::Size;
    type Change<'a> = &'a dyn Fn(&mut VirtioBlkPciProps);
    let cases: [(Change<'_>, &str); 17] = [
        (
            &|p| p.num_queues = Some(0),
            "num-queues property must be larger than 0",
        ),
        (
            &|p| p.num_queues = Some(2000),
            "num-queues property (2000) must be at most 1024",
        ),
        (
            &|p| p.queue_size = 2,
            "invalid queue-size property (2), must be > 2",
        ),
        (
            &|p| p.queue_size = 100,
            "invalid queue-size property (100), must be a power of 2 (max 1024)",
        ),
        (
            &|p| p.queue_size = 2048,
            "invalid queue-size property (2048), must be a power of 2 (max 1024)",
        ),
        (
            &|p| p.logical_block_size = size(1000),
            "parameter logical_block_size must be a power of 2 between 512 and 2097152",
        ),
        (
            &|p| p.physical_block_size = size(4 << 20),
            "parameter physical_block_size must be a power of 2 between 512 and 2097152",
        ),
        (
            &|p| p.logical_block_size = size(4096),
            "logical_block_size > physical_block_size not supported",
        ),
        (
            &|p| p.min_io_size = size(1000),
            "min_io_size must be a multiple of logical_block_size",
        ),
        (
            &|p| p.min_io_size = size(512 << 16),
            "min_io_size must not exceed 65535 logical blocks",
        ),
        (
            &|p| p.opt_io_size = size(1000),
            "opt_io_size must be a multiple of logical_block_size",
        ),
        (
            &|p| p.discard_granularity = Some(size(1000)),
            "discard_granularity must be a multiple of logical_block_size",
        ),
        (
            &|p| p.max_discard_sectors = 0,
            "invalid max-discard-sectors property (0), must be between 1 and 4194303",
        ),
        (
            &|p| p.max_write_zeroes_sectors = 1 << 31,
            "invalid max-write-zeroes-sectors property (2147483648), must be between 1 and 4194303",
        ),
        (
            &|p| p.werror = BlockdevOnError::Stop,
            "Property 'werror' cannot be 'stop': only 'report' is supported",
        ),
        (
            &|p| p.rerror = BlockdevOnError::Enospc,
            "Property 'rerror' cannot be 'enospc': only 'report' is supported",
        ),
        (
            &|p| p.packed = true,
            "Property 'packed' cannot be on: it is not supported",
        ),
    ];
    for (change, message) in cases {
        assert_eq!(refused(Some(null(small())), change), message);
    }
}

#[test]
fn state_is_saved_and_restored() {
    use vmstate::Snapshot;
    let guest = FakeGuest::new();
    let node = null(small());
    let disk = Disk::new(&guest, &node);
    disk.driver.write(super::layout::DEVICE + 32, &[0]);
    disk.driver.carry_out(crate::effect::Effect::StopQueues);
    let state = crate::bus::lock(disk.driver.function()).save();
    let mut cx = guest.cx("disk0");
    cx.node = Some(node.clone());
    let mut other = build(&props(|_| {}), &cx).unwrap();
    other.restore(state.clone()).unwrap();
    assert_eq!(other.save(), state);
    let mut config = [0; 1];
    crate::pci::PciFunction::bar_read(
        &mut other,
        super::layout::BAR,
        super::layout::DEVICE + 32,
        &mut config,
    );
    assert_eq!(config, [0]);
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
