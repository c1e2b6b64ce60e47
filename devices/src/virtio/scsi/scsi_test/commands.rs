//! Data that moves.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use block::{
    Account, Aio, BlockError, BlockNode, Buffers, Done, Extent, IoLane, IoReq, NodeInfo, Op, Perms,
    Token, Waker, WriteCache,
};

use super::*;
use crate::effect::Notice;
use crate::scsi::{Force, Locked, Moved};
use crate::virtio::blk_test::{SIZE, attach, dir, engines, file_spec, image, null, small};

#[test]
fn data_is_written_and_read_back_by_every_engine() {
    for (aio, direct) in engines() {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = attach(file_spec(&path, aio, direct), WriteCache::Back);
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, |bus| {
            add_hd(&guest, bus, "hd0", &node, "");
        });
        let data: Vec<u8> = (0..4096u32).map(|i| (i / 13) as u8).collect();
        let ended = bench.write(&ten(0x2a, 3, 8), &data);
        assert_eq!((ended.outcome(), ended.residual), (GOOD, 0));
        assert_eq!(ended.written, 108.min(ended.written));
        assert_eq!(bench.read(&ten(0x28, 3, 8), 4096), data);
        // More room than blocks.
        assert_eq!(bench.read(&ten(0x28, 3, 2), 4096), data[..1024]);
        assert_eq!(bench.command(&ten(0x35, 0, 0), &[]).outcome(), GOOD);
        assert_eq!(bench.write(&ten(0x2e, 11, 1), &[9; 512]).outcome(), GOOD);
        bench.close();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[3 * 512..11 * 512], data);
        assert_eq!(bytes[11 * 512..12 * 512], [9; 512]);
    }
}

#[test]
fn commands_of_many_steps() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Through);
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "hd0", &node, "");
    });
    // 2 MiB and a bit of one pattern, then of zeroes.
    let mut pattern = vec![7; 512];
    pattern[0] = 1;
    let blocks = 4097;
    assert_eq!(bench.write(&ten(0x41, 1, blocks), &pattern).outcome(), GOOD);
    let bytes = std::fs::read(&path).unwrap();
    let (filled, _) = bytes[512..].as_chunks::<512>();
    assert!(filled[..4097].iter().all(|block| block[..] == pattern));
    assert!(filled[4097..].iter().all(|block| *block == [0; 512]));
    // Compared.
    let mut compare = ten(0x2f, 1, 600);
    compare[1] = 2;
    let mut data = pattern.repeat(600);
    assert_eq!(bench.write(&compare, &data).outcome(), GOOD);
    data[300_000] ^= 1;
    assert_eq!(
        bench.write(&compare, &data).outcome(),
        Ended::check(0xe, 0x1d, 0)
    );
    let mut forced = ten(0x28, 1, 1);
    forced[1] = 8;
    assert_eq!(bench.read(&forced, 512), pattern);
    assert_eq!(bench.write(&ten(0x41, 2, 100), &[0; 512]).outcome(), GOOD);
    let mut unmap = vec![0, 22, 0, 16, 0, 0, 0, 0];
    unmap.extend(8u64.to_be_bytes());
    unmap.extend(8u32.to_be_bytes());
    unmap.extend([0; 4]);
    assert_eq!(bench.write(&ten(0x42, 0, 24), &unmap).outcome(), GOOD);
    bench.close();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[1024..102 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[102 * 512..103 * 512], pattern);
}

#[test]
fn long_commands_that_end_at_once_leave_others_their_turn() {
    let node = null(small());
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "hd0", &node, "");
    });
    let mut pattern = vec![0; 512];
    pattern[1] = 1;
    let blocks = (SIZE / 512) as u16;
    assert_eq!(bench.write(&ten(0x41, 0, blocks), &pattern).outcome(), GOOD);
}

#[test]
fn addresses_and_lengths_that_make_no_sense() {
    let node = null(small());
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "hd0", &node, ",scsi-id=2,lun=3");
    });
    (bench.target, bench.lun) = (1, 0);
    assert_eq!(bench.command(&[0; 6], &[]).response, BAD_TARGET);
    (bench.target, bench.lun) = (2, 0);
    assert_eq!(bench.ready(), Ended::check(5, 0x25, 0));
    assert_eq!(bench.read(&[0x12, 0, 0, 0, 36, 0], 36)[0], 0x3f);
    bench.lun = 1;
    assert_eq!(bench.read(&[0x12, 0, 0, 0, 36, 0], 36)[0], 0x7f);
    let luns = bench.read(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], 64);
    assert_eq!(luns.len(), 24);
    assert_eq!(luns[16..18], [0, 3]);
    bench.lun = 3;
    assert_eq!(bench.ready(), GOOD);
    // The last block, one behind it.
    let last = (SIZE / 512 - 1) as u32;
    assert_eq!(bench.read(&ten(0x28, last, 1), 512).len(), 512);
    let beyond = bench.command(&ten(0x28, last, 2), &[Buffer::In(DATA, 1024)]);
    assert_eq!(beyond.outcome(), Ended::check(5, 0x21, 0));
    assert_eq!(beyond.residual, 1024);
    // Buffers that are shorter than the command says, or for both directions.
    let short = bench.command(&ten(0x28, 0, 2), &[Buffer::In(DATA, 512)]);
    assert_eq!(short.response, OVERRUN);
    let wrong_way = bench.command(&ten(0x28, 0, 1), &[Buffer::Out(DATA, 512)]);
    assert_eq!(wrong_way.response, OVERRUN);
    let both = [Buffer::Out(DATA, 512), Buffer::In(DATA, 512)];
    assert_eq!(bench.command(&ten(0x28, 0, 1), &both).response, FAILURE);
    let counts = node.stats().counts(Account::Read);
    assert_eq!((counts.operations, counts.invalid), (1, 1));
    // A request without room for its answer.
    assert!(!bench.broken());
    let chain = bench.request_at(0, &[0; 6], &[]);
    bench.requests.add(&guest, &chain[..1]);
    bench.driver.kick(&bench.requests);
    assert!(bench.broken());
}

/// A node whose requests fail with this error number; 0 is none.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicI32>);

impl Broken {
    fn result(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl BlockNode for Broken {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: SIZE,
            read_only: false,
            granule: 512,
        }
    }

    fn allocated(&self) -> Option<u64> {
        None
    }

    fn open_lane(&self, _: u32, _: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        Ok(Box::new(self.clone()))
    }

    fn perform(&self, _: Op, _: &Buffers) -> io::Result<()> {
        self.result()
    }

    fn extent(&self, _: u64, len: u64) -> io::Result<Extent> {
        let kind = block::ExtentKind::Data;
        self.result().map(|()| Extent { len, kind })
    }

    fn resize(&self, _: u64) -> Result<(), BlockError> {
        Err(BlockError::NoResize)
    }

    fn set_perms(&self, _: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, _: block::Activity) -> Result<(), BlockError> {
        Ok(())
    }
}

impl IoLane for Broken {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let result = self.result();
        Some(Done {
            token,
            result,
            request,
        })
    }

    fn start(&mut self) {}

    fn reap(&mut self, _: &mut Vec<Done>) {}

    fn in_flight(&self) -> usize {
        0
    }
}

#[test]
fn errors_of_the_host_are_told() {
    for (errno, sense) in [
        (libc::EIO, (0xb, 0, 6)),
        (libc::ENOSPC, (7, 0x27, 7)),
        (libc::ENOMEDIUM, (2, 0x3a, 0)),
    ] {
        let broken = Broken::default();
        let node = Arc::new(Attachment::alone(Arc::new(broken.clone())));
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, |bus| {
            add_hd(&guest, bus, "hd0", &node, ",werror=report");
        });
        broken.0.store(errno, Ordering::Relaxed);
        let expected = Ended::check(sense.0, sense.1, sense.2);
        let read = bench.command(&ten(0x28, 0, 1), &[Buffer::In(DATA, 512)]);
        assert_eq!((read.outcome(), read.residual), (expected, 512));
        assert_eq!(bench.write(&ten(0x2a, 0, 1), &[1; 512]).outcome(), expected);
        assert_eq!(bench.write(&ten(0x41, 0, 9), &[1; 512]).outcome(), expected);
        assert_eq!(bench.command(&ten(0x35, 0, 0), &[]).outcome(), expected);
        let failed = |account| node.stats().counts(account).failed;
        assert_eq!(failed(Account::Read), 1);
        assert_eq!(failed(Account::Write), 2);
        assert_eq!(failed(Account::Flush), 1);
        // Those that are alike are told of once.
        assert!(guest.take_effects().len() >= 2);
    }
}

#[test]
fn errors_of_the_host_are_ignored_or_stop_the_machine() {
    let broken = Broken::default();
    let node = Arc::new(Attachment::alone(Arc::new(broken.clone())));
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "hd0", &node, ",rerror=ignore");
    });
    let fail = |errno| broken.0.store(errno, Ordering::Relaxed);
    fail(libc::EIO);
    assert_eq!(bench.read(&ten(0x28, 0, 1), 512).len(), 512);
    // Without space the machine stops: the second of three requests is kept, the third waits.
    let ask = |bench: &mut Bench<'_>, slot: u64, code: u8| {
        let data = match code {
            0x28 => [Buffer::In(DATA, 512)],
            _ => [Buffer::Out(DATA, 512)],
        };
        let chain = bench.request_at(slot, &ten(code, 0, 1), &data);
        bench.requests.add(&guest, &chain);
    };
    fail(libc::ENOSPC);
    guest.take_effects();
    let before = bench.requests.used_index(&guest);
    for (slot, code) in (0u64..).zip([0x28, 0x2a, 0x28]) {
        ask(&mut bench, slot, code);
    }
    bench.driver.kick(&bench.requests);
    assert_eq!(bench.requests.used_index(&guest), before + 1);
    let effects = guest.take_effects();
    assert_eq!(effects.len(), 2);
    assert!(matches!(
        &effects[1].1,
        Effect::DiskFailed(failure) if failure.action == block::ErrorAction::Stop
    ));
    bench.driver.carry_out(Effect::StopQueues);
    fail(0);
    bench.driver.carry_out(Effect::StartQueues);
    guest.thread.run();
    assert_eq!(bench.requests.used_index(&guest), before + 3);
    for slot in 0..3 {
        assert_eq!(bench.ended_at(slot, 0).outcome(), GOOD);
    }
}

#[test]
fn an_optical_drive_is_read() {
    let dir = dir();
    let path = image(&dir);
    std::fs::write(&path, vec![0x5a; SIZE as usize]).unwrap();
    let (_graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_cd(&guest, bus, "cd0", Some(&node));
    });
    let capacity = bench.read(&ten(0x25, 0, 0), 8);
    assert_eq!(capacity[..], [0, 0, 7, 0xff, 0, 0, 8, 0]);
    assert_eq!(bench.read(&ten(0x28, 2047, 1), 2048), [0x5a; 2048]);
    let toc = bench.read(&[0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0], 20);
    assert_eq!(toc[12..20], [0, 0x14, 0xaa, 0, 0, 0, 8, 0]);
    assert_eq!(
        bench.write(&ten(0x41, 0, 1), &[0; 2048]).outcome(),
        Ended::check(5, 0x20, 0)
    );
}

fn event(bench: &mut Bench<'_>) -> Vec<u8> {
    bench.read(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 8)
}

const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 3, 0];

#[test]
fn the_guest_moves_the_tray() {
    let node = null(small());
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_cd(&guest, bus, "cd0", Some(&node));
    });
    let lock = |on: u8| [0x1e, 0, 0, 0, on, 0];
    assert_eq!(event(&mut bench)[..6], [0, 6, 4, 0x10, 0, 2]);
    assert_eq!(bench.command(&lock(1), &[]).outcome(), GOOD);
    assert_eq!(
        bench.command(&EJECT, &[]).outcome(),
        Ended::check(5, 0x53, 2)
    );
    assert_eq!(bench.command(&lock(0), &[]).outcome(), GOOD);
    assert!(guest.take_effects().is_empty());
    assert_eq!(bench.command(&EJECT, &[]).outcome(), GOOD);
    let moved = |open| {
        let device = "cd0".to_owned();
        (
            "cd0".to_owned(),
            Effect::Notice(Notice::TrayMoved { device, open }),
        )
    };
    assert_eq!(guest.take_effects(), [moved(true)]);
    assert_eq!(bench.ready(), Ended::check(2, 0x3a, 2));
    assert_eq!(event(&mut bench)[4..6], [3, 1]);
    assert_eq!(bench.command(&LOAD, &[]).outcome(), GOOD);
    assert_eq!(guest.take_effects(), [moved(false)]);
    assert_eq!(bench.ready(), GOOD);
    assert_eq!(event(&mut bench)[4..6], [2, 2]);
    // A reset closes it.
    assert_eq!(bench.command(&EJECT, &[]).outcome(), GOOD);
    bench.driver.set_status(0);
    assert_eq!(guest.take_effects(), [moved(true), moved(false)]);
}

#[test]
fn the_monitor_moves_the_tray() {
    let node = null(small());
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_cd(&guest, bus, "cd0", Some(&node));
    });
    let media = bench.bus.units()[0].media().unwrap().clone();
    assert_eq!(bench.command(&[0x1e, 0, 0, 0, 1, 0], &[]).outcome(), GOOD);
    assert!(media.is_locked() && !media.is_open());
    assert_eq!(media.open_tray(Force::No), Err(Locked));
    assert_eq!(event(&mut bench)[4..6], [1, 2]);
    assert_eq!(media.open_tray(Force::Yes), Ok(Moved::Opened));
    assert_eq!(media.open_tray(Force::No), Ok(Moved::Not));
    assert!(media.is_open() && !media.is_locked());
    assert_eq!(bench.ready(), Ended::check(6, 0x3a, 0));
    assert_eq!(bench.ready(), Ended::check(2, 0x3a, 2));
    media.medium_changed();
    assert_eq!(media.close_tray(), Moved::Closed);
    assert_eq!(media.close_tray(), Moved::Not);
    assert_eq!(bench.ready(), Ended::check(6, 0x28, 0));
    assert_eq!(event(&mut bench)[4..6], [2, 2]);
    media.medium_changed();
    assert_eq!(bench.ready(), Ended::check(6, 0x28, 0));
    assert!(guest.take_effects().is_empty());
}

#[test]
fn an_optical_drive_without_a_drive_is_empty() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_cd(&guest, bus, "cd0", None);
    });
    assert_eq!(bench.ready(), Ended::check(2, 0x3a, 1));
    let read = bench.command(&ten(0x28, 0, 1), &[Buffer::In(DATA, 2048)]);
    assert_eq!(read.outcome(), Ended::check(2, 0x3a, 1));
    assert_eq!(event(&mut bench)[4..6], [0, 0]);
    assert_eq!(bench.command(&EJECT, &[]).outcome(), GOOD);
    assert_eq!(bench.ready(), Ended::check(2, 0x3a, 2));
}

#[test]
fn request_sense_takes_what_waits() {
    let node = null(small());
    let guest = FakeGuest::new();
    let mut bench = Bench::cold(&guest, "", u64::MAX, |bus| {
        add_hd(&guest, bus, "hd0", &node, "");
    });
    assert_eq!(bench.read(&[0x12, 0, 0, 0, 36, 0], 36).len(), 36);
    let sense = bench.read(&[3, 0, 0, 0, 18, 0], 18);
    assert_eq!([sense[2], sense[12]], [6, 0x29]);
    assert_eq!(bench.ready(), GOOD);
    assert_eq!(
        bench.read(&[3, 1, 0, 0, 18, 0], 18),
        [0x72, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn the_write_cache_is_switched_by_mode_select() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "hd0", &node, "");
    });
    let mut list = vec![0; 24];
    list[4..6].copy_from_slice(&[8, 18]);
    let flushes = node.stats().counts(Account::Flush).operations;
    assert_eq!(
        bench.write(&[0x15, 0x10, 0, 0, 24, 0], &list).outcome(),
        GOOD
    );
    assert_eq!(node.write_cache(), WriteCache::Through);
    let after = node.stats().counts(Account::Flush).operations;
    assert_eq!(after, flushes + 1);
    list[6] = 4;
    assert_eq!(
        bench.write(&[0x15, 0x10, 0, 0, 24, 0], &list).outcome(),
        GOOD
    );
    assert_eq!(node.write_cache(), WriteCache::Back);
    bench.close();
    let off = hd(",write-cache=off");
    let (_, bus) = build(&controller(""), &guest.cx("scsi1")).unwrap();
    let mut cx = guest.cx("hd1");
    cx.node = Some(node.clone());
    plug_disk(&off, &bus, cx).unwrap();
    assert_eq!(node.write_cache(), WriteCache::Through);
}
