//! virtio-blk by its rings (virtio 1.2, section 5.2).

use std::path::PathBuf;

use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, disk};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

const SECTORS: u64 = 2048;
const SLOT: u8 = 4;

struct Disk {
    t: Qtest,
    device: Device,
    queue: Queue,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    fn start(node: &str, device: &str, mask: u64) -> Self {
        Self::start_with(VmBuilder::new(), node, device, mask)
    }

    fn start_with(builder: VmBuilder, node: &str, device: &str, mask: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = disk::numbered(directory.path(), "disk.img", SECTORS);
        let builder = builder
            .idle()
            .arg("-blockdev")
            .arg(format!(
                "file,node-name=f,filename={}{node}",
                path.display()
            ))
            .args(["-object", "iothread,id=io0"])
            .arg("-device")
            .arg(format!("virtio-blk-pci,drive=f,id=disk0,addr=4.0{device}"));
        let mut t = Qtest::start_with(builder, &[]);
        let (device, queue) = drive(&mut t, mask);
        Disk {
            t,
            device,
            queue,
            path,
            _directory: directory,
        }
    }

    /// One request; `data` is written for OUT and the like, and `length` bytes are read for IN.
    fn request(&mut self, kind: u32, sector: u64, data: &[u8], length: u32) -> (u8, Vec<u8>) {
        let t = &mut self.t;
        let at = t.alloc(16 + data.len() as u64 + u64::from(length) + 1);
        let (header, out, input) = (at, at + 16, at + 16 + data.len() as u64);
        let status = input + u64::from(length);
        t.writel(header, kind);
        t.writeq(header + 8, sector);
        t.writeb(status, 0xff);
        let mut chain = vec![(header, 16, false)];
        if !data.is_empty() {
            t.write(out, data);
            chain.push((out, data.len() as u32, false));
        }
        if length > 0 {
            chain.push((input, length, true));
        }
        chain.push((status, 1, true));
        let head = self.queue.add(t, &chain);
        self.queue.kick(t);
        let (done, written) = self.queue.wait(t);
        assert_eq!(done, head);
        let status = t.readb(status);
        if status == OK {
            assert_eq!(written, length + 1, "bytes written into the chain");
        }
        (status, t.read(input, length as usize))
    }
}

fn drive(t: &mut Qtest, mask: u64) -> (Device, Queue) {
    let mut device = Device::find(t, SLOT);
    device.negotiate(t, mask);
    let queue = device.queue(t, 0, None);
    device.drive(t);
    (device, queue)
}

#[test]
fn reads_and_writes() {
    for device in ["", ",iothread=io0"] {
        let mut disk = Disk::start("", device, u64::MAX);
        assert_eq!(disk.t.readq(disk.device.config()), SECTORS);
        let (status, bytes) = disk.request(IN, 5, &[], 1024);
        assert_eq!(status, OK);
        assert_eq!(&bytes[..512], disk::numbered_sector(5));
        assert_eq!(&bytes[512..], disk::numbered_sector(6));
        let (status, _) = disk.request(OUT, 7, &[0xa5; 512], 0);
        assert_eq!(status, OK);
        assert_eq!(disk.request(FLUSH, 0, &[], 0).0, OK);
        assert_eq!(disk::read(&disk.path, 7 * 512, 512), [0xa5; 512]);
        assert_eq!(
            disk::read(&disk.path, 8 * 512, 512),
            disk::numbered_sector(8)
        );
        assert_eq!(disk.request(IN, 7, &[], 512).1, [0xa5; 512]);
    }
}

#[test]
fn every_engine() {
    for node in [
        ",aio=threads",
        ",aio=io_uring",
        ",aio=native,cache.direct=on",
        ",cache.direct=on",
        ",cache.no-flush=on",
    ] {
        if node.contains("direct") && !disk::takes_direct_io(&std::env::temp_dir()) {
            continue;
        }
        let mut disk = Disk::start(node, "", u64::MAX);
        // Buffers that are not aligned, with sizes that are no power of two.
        let data: Vec<u8> = (0..512 * 5).map(|i| (i / 7) as u8).collect();
        assert_eq!(disk.request(OUT, 3, &data, 0).0, OK, "{node}");
        assert_eq!(disk.request(IN, 3, &[], 512 * 5), (OK, data), "{node}");
        assert_eq!(disk.request(FLUSH, 0, &[], 0).0, OK, "{node}");
    }
}

#[test]
fn the_serial_number() {
    let mut disk = Disk::start("", ",serial=abc-123", u64::MAX);
    let (status, bytes) = disk.request(GET_ID, 0, &[], 20);
    assert_eq!(status, OK);
    assert_eq!(&bytes[..8], b"abc-123\0");
}

#[test]
fn discard_and_write_zeroes() {
    let mut disk = Disk::start(",discard=unmap", "", u64::MAX);
    let range = |sector: u64, sectors: u32, flags: u32| {
        [
            &sector.to_le_bytes()[..],
            &sectors.to_le_bytes(),
            &flags.to_le_bytes(),
        ]
        .concat()
    };
    let before = disk::allocated(&disk.path);
    assert_eq!(disk.request(DISCARD, 0, &range(1024, 1024, 0), 0).0, OK);
    assert_eq!(disk.request(FLUSH, 0, &[], 0).0, OK);
    assert!(
        disk::allocated(&disk.path) < before,
        "nothing was given back"
    );
    assert_eq!(disk.request(IN, 1024, &[], 512).1, [0; 512]);
    for (sector, flags) in [(8, 0), (64, 1)] {
        assert_eq!(
            disk.request(WRITE_ZEROES, 0, &range(sector, 8, flags), 0).0,
            OK
        );
        assert_eq!(disk.request(IN, sector, &[], 4096).1, [0; 4096]);
        assert_eq!(
            disk.request(IN, sector + 8, &[], 512).1,
            disk::numbered_sector(sector + 8)
        );
    }
    // Ranges that are not there, and flags that are not known.
    for bad in [
        range(SECTORS, 1, 0),
        range(0, SECTORS as u32 + 1, 0),
        range(u64::MAX - 1, 8, 0),
    ] {
        assert_ne!(disk.request(DISCARD, 0, &bad, 0).0, OK);
        assert_ne!(disk.request(WRITE_ZEROES, 0, &bad, 0).0, OK);
    }
    assert_eq!(
        disk.request(WRITE_ZEROES, 0, &range(0, 1, 2), 0).0,
        UNSUPPORTED
    );
    assert_eq!(disk.request(DISCARD, 0, &range(0, 1, 1), 0).0, UNSUPPORTED);
    disk.t.vm.assert_alive();
}

#[test]
fn what_lies_behind_the_end_is_an_error() {
    let mut disk = Disk::start("", "", u64::MAX);
    for (sector, length) in [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (1 << 55, 512),
    ] {
        assert_eq!(disk.request(IN, sector, &[], length).0, IOERR, "{sector}");
        assert_eq!(
            disk.request(OUT, sector, &vec![1; length as usize], 0).0,
            IOERR,
            "{sector}"
        );
    }
    assert_eq!(disk.request(IN, 0, &[], 100).0, IOERR, "no whole sector");
    assert_eq!(disk.request(99, 0, &[], 0).0, UNSUPPORTED);
    assert_eq!(disk.request(IN, SECTORS - 1, &[], 512).0, OK);
    assert_eq!(
        std::fs::metadata(&disk.path).expect("the image").len(),
        SECTORS * 512
    );
}

#[test]
fn a_read_only_disk_cannot_be_written() {
    let mut disk = Disk::start(",read-only=on", "", u64::MAX);
    assert_ne!(disk.device.features & (1 << 5), 0, "VIRTIO_BLK_F_RO");
    assert_eq!(disk.request(OUT, 0, &[1; 512], 0).0, IOERR);
    assert_eq!(disk.request(IN, 0, &[], 512).1, disk::numbered_sector(0));
    assert_eq!(disk::read(&disk.path, 0, 512), disk::numbered_sector(0));
}

#[test]
fn descriptors_in_a_table_of_their_own() {
    let mut disk = Disk::start("", "", u64::MAX);
    let t = &mut disk.t;
    let at = t.alloc(4096);
    t.writel(at, IN);
    t.writeq(at + 8, 9);
    let head = disk.queue.add_indirect(
        t,
        &[
            (at, 16, false),
            (at + 512, 256, true),
            (at + 1024, 256, true),
            (at + 2048, 1, true),
        ],
    );
    disk.queue.kick(t);
    assert_eq!(disk.queue.wait(t), (head, 513));
    assert_eq!(t.readb(at + 2048), OK);
    assert_eq!(t.readq(at + 512), 9);
    assert_eq!(t.readb(at + 1024), 9);
}

#[test]
fn headers_and_data_in_any_pieces() {
    let mut disk = Disk::start("", "", u64::MAX);
    let t = &mut disk.t;
    let at = t.alloc(4096);
    t.writel(at, OUT);
    t.writeq(at + 8, 11);
    t.write(at + 16, &[0x77; 512]);
    // The header in two, and the first part of the data behind it in one piece.
    let chain = [
        (at, 7, false),
        (at + 7, 109, false),
        (at + 116, 412, false),
        (at + 2048, 1, true),
    ];
    disk.queue.add(t, &chain);
    disk.queue.kick(t);
    disk.queue.wait(t);
    assert_eq!(t.readb(at + 2048), OK);
    assert_eq!(disk::read(&disk.path, 11 * 512, 512), [0x77; 512]);
}

#[test]
fn many_requests_at_once() {
    let mut disk = Disk::start("", ",iothread=io0", u64::MAX);
    let t = &mut disk.t;
    let rounds = 5 * u32::from(disk.queue.size);
    let batch = u32::from(disk.queue.size) / 3;
    let area = t.alloc(u64::from(batch) * 1024);
    let mut sector = 0u64;
    for _ in 0..rounds / batch {
        for slot in 0..u64::from(batch) {
            let at = area + slot * 1024;
            t.writel(at, IN);
            t.writeq(at + 8, (sector + slot) % SECTORS);
            disk.queue.add(
                t,
                &[(at, 16, false), (at + 512, 512, true), (at + 16, 1, true)],
            );
        }
        disk.queue.kick(t);
        for _ in 0..batch {
            assert_eq!(disk.queue.wait(t).1, 513);
        }
        for slot in 0..u64::from(batch) {
            assert_eq!(t.readq(area + slot * 1024 + 512), (sector + slot) % SECTORS);
        }
        sector += u64::from(batch);
    }
}

#[test]
fn several_queues() {
    let mut disk = Disk::start("", ",num-queues=4", 0);
    assert_eq!(disk.device.queues(&mut disk.t), 4);
    let t = &mut disk.t;
    let mut device = Device::find(t, SLOT);
    device.negotiate(t, u64::MAX);
    t.free_all();
    let mut queues: Vec<_> = (0..4).map(|index| device.queue(t, index, None)).collect();
    device.drive(t);
    for (sector, queue) in (20u64..).zip(&mut queues) {
        let at = t.alloc(2048);
        t.writel(at, IN);
        t.writeq(at + 8, sector);
        queue.add(
            t,
            &[(at, 16, false), (at + 512, 512, true), (at + 16, 1, true)],
        );
        queue.kick(t);
        queue.wait(t);
        assert_eq!(t.readq(at + 512), sector);
    }
}

#[test]
fn the_interrupt_status_tells_of_a_finished_request() {
    let mut disk = Disk::start("", "", u64::MAX);
    disk.device.isr(&mut disk.t);
    disk.request(IN, 0, &[], 512);
    let device = &disk.device;
    disk.t.until("interrupt status", |t| device.isr(t) & 1 == 1);
    assert_eq!(
        disk.device.isr(&mut disk.t),
        0,
        "it was not cleared by reading"
    );
}

#[test]
fn a_message_goes_to_memory() {
    let mut disk = Disk::start("", "", 0);
    let t = &mut disk.t;
    let word = t.alloc(4096);
    let mut device = Device::find(t, SLOT);
    device.negotiate(t, u64::MAX);
    device.message(t, 0, word, 0x1234_5678);
    let mut queue = device.queue(t, 0, Some(0));
    device.drive(t);
    let at = t.alloc(2048);
    t.writel(at, IN);
    let mut request = |t: &mut Qtest| {
        queue.add(
            t,
            &[(at, 16, false), (at + 512, 512, true), (at + 16, 1, true)],
        );
        queue.kick(t);
        queue.wait(t);
    };
    request(t);
    t.until("the message", |t| t.readl(word) == 0x1234_5678);
    // Masked it waits, and comes when it is unmasked.
    t.writel(word, 0);
    device.mask(t, 0, true);
    request(t);
    t.until("the pending bit", |t| device.pending(t, 0));
    assert_eq!(t.readl(word), 0);
    device.mask(t, 0, false);
    t.until("the message", |t| t.readl(word) == 0x1234_5678);
    assert!(!device.pending(t, 0));
}

#[test]
fn no_message_where_none_is_wanted() {
    let mut disk = Disk::start("", "", 0);
    let t = &mut disk.t;
    let word = t.alloc(4096);
    let mut device = Device::find(t, SLOT);
    device.negotiate(t, u64::MAX);
    device.message(t, 0, word, 7);
    let mut queue = device.queue(t, 0, Some(0));
    queue.set_no_interrupt(t, true);
    device.drive(t);
    let at = t.alloc(2048);
    t.writel(at, IN);
    queue.add(
        t,
        &[(at, 16, false), (at + 512, 512, true), (at + 16, 1, true)],
    );
    queue.kick(t);
    queue.wait(t);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(t.readl(word), 0);
}

#[test]
fn a_vector_that_is_not_there_is_refused() {
    let mut disk = Disk::start("", "", u64::MAX);
    let none = Device::no_vector();
    assert_eq!(disk.device.set_config_vector(&mut disk.t, 0x7ff), none);
    assert_eq!(disk.device.set_config_vector(&mut disk.t, 0), 0);
    assert_eq!(disk.device.set_config_vector(&mut disk.t, none), none);
}

#[test]
fn reset_and_used_again() {
    let mut disk = Disk::start("", ",iothread=io0", u64::MAX);
    for _ in 0..3 {
        assert_eq!(disk.request(IN, 3, &[], 512).1, disk::numbered_sector(3));
        let function = disk.device.function;
        disk.t.reset();
        let t = &mut disk.t;
        assert_eq!(
            function.read16(t, tests::pci::reg::COMMAND) & 7,
            0,
            "COMMAND"
        );
        for bar in 0..6 {
            let value = function.read32(t, tests::pci::reg::BAR0 + bar * 4);
            assert_eq!(value & !0xf, 0, "BAR {bar}");
        }
        let (device, queue) = drive(t, u64::MAX);
        (disk.device, disk.queue) = (device, queue);
    }
    // The device's own reset is enough too.
    let mut device = Device::find(&mut disk.t, SLOT);
    device.reset(&mut disk.t);
    assert_eq!(device.status(&mut disk.t), 0);
    disk.t.free_all();
    device.negotiate(&mut disk.t, u64::MAX);
    disk.queue = device.queue(&mut disk.t, 0, None);
    device.drive(&mut disk.t);
    assert_eq!(disk.request(IN, 4, &[], 512).1, disk::numbered_sector(4));
}

#[test]
fn requests_wait_while_the_machine_is_stopped() {
    if tests::binary::skip_on_stand_in("its queues run on where no I/O thread is stopped with them")
    {
        return;
    }
    let mut disk = Disk::start("", "", u64::MAX);
    disk.t.vm.query("stop");
    let t = &mut disk.t;
    let at = t.alloc(2048);
    t.writel(at, IN);
    t.writeq(at + 8, 6);
    disk.queue.add(
        t,
        &[(at, 16, false), (at + 512, 512, true), (at + 16, 1, true)],
    );
    disk.queue.kick(t);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(disk.queue.poll(&mut disk.t), None);
    disk.t.vm.query("cont");
    disk.queue.wait(&mut disk.t);
    assert_eq!(disk.t.readq(at + 512), 6);
}

#[test]
fn what_was_done_is_counted() {
    let mut disk = Disk::start("", "", u64::MAX);
    disk.request(IN, 0, &[], 1024);
    disk.request(OUT, 0, &[1; 512], 0);
    disk.request(FLUSH, 0, &[], 0);
    let stats = disk.t.vm.query("query-blockstats")[0]["stats"].clone();
    assert_eq!(
        (&stats["rd_bytes"], &stats["rd_operations"]),
        (&1024.into(), &1.into())
    );
    assert_eq!(
        (&stats["wr_bytes"], &stats["wr_operations"]),
        (&512.into(), &1.into())
    );
    assert_eq!(stats["flush_operations"], 1);
}

#[test]
fn the_driver_may_switch_the_cache() {
    let mut disk = Disk::start("", "", u64::MAX);
    assert_ne!(
        disk.device.features & (1 << 11),
        0,
        "VIRTIO_BLK_F_CONFIG_WCE"
    );
    let at = disk.device.config() + 32;
    assert_eq!(disk.t.readb(at), 1);
    disk.t.writeb(at, 0);
    assert_eq!(disk.t.readb(at), 0);
    assert_eq!(disk.request(OUT, 0, &[2; 512], 0).0, OK);
    assert_eq!(disk::read(&disk.path, 0, 512), [2; 512]);
}

#[test]
fn a_thread_of_the_disk_that_does_what_it_may_not_ends_it() {
    if tests::binary::skip_without_hooks() {
        return;
    }
    for (wish, words) in [
        (
            "forbidden",
            "thread 'blk-1' (block) made system call 59 (execve)",
        ),
        ("panic", "This was asked for"),
    ] {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let builder = VmBuilder::new().env("QVMD_PROVOKE", format!("block:{wish}"));
        let builder = builder.arg("-D").arg(log.path());
        // It ends at the first request that blocks, whoever makes it.
        let request = std::panic::AssertUnwindSafe(|| {
            let mut disk = Disk::start_with(builder, "", "", u64::MAX);
            disk.request(OUT, 7, &[0xa5; 512], 0);
        });
        assert!(std::panic::catch_unwind(request).is_err(), "{wish}");
        let told = std::fs::read_to_string(log.path()).expect("the log");
        assert!(told.contains(words), "{told}");
    }
}
