//! Flushes and closes that fail, or that others come between.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use super::Qcow2;
use super::crash_tests::{Disk, try_open};
use super::meta::Keep;
use super::peer::{Bench, is_here};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::filter::Event;
use crate::format::{Format, OpenFormat, Piece, Plan, What};
use crate::gate::{Discard, Policy, Screen};
use crate::graph::{Perms, Qcow2Options};
use crate::image::Image;
use crate::node::{BlockNode, Extent, IoLane, NodeExt, NodeInfo};
use crate::notice::Reporter;
use crate::pool::test_pool;
use crate::{Buffers, Durability, HostBuffer, Op, Waker};

const CLUSTER: u64 = 64 << 10;

/// An image of 8 MiB with clusters of 64 KiB, on a disk.
fn disk(options: &[&str]) -> Option<Disk> {
    if !is_here() {
        return None;
    }
    let bench = Bench::new();
    let args = ["create", "-q", "-f", "qcow2"];
    bench.img(&[&args, options, &["a", "8M"]].concat());
    Some(Disk::new(std::fs::read(bench.path("a")).unwrap()))
}

fn image(disk: &Disk) -> Qcow2 {
    try_open(disk, Qcow2Options::default(), Reporter::silent(), false).unwrap()
}

fn fail(disk: &Disk, of_a_thousand: u64) {
    disk.fails.store(of_a_thousand, Ordering::Relaxed);
}

fn bytes(fill: u8, len: u64) -> Buffers {
    Buffers::owned(HostBuffer::from_bytes(&vec![fill; len as usize], 4096))
}

fn write(image: &Qcow2, offset: u64, fill: u8, len: u64) -> std::io::Result<()> {
    let durability = Durability::Cached;
    image.perform(Op::Write { offset, durability }, &bytes(fill, len))
}

fn read(image: &Qcow2, offset: u64) -> Vec<u8> {
    let buffers = bytes(0xee, 4096);
    image.perform(Op::Read { offset }, &buffers).unwrap();
    let mut all = vec![0; 4096];
    buffers.read_at(0, &mut all);
    all
}

fn flush(image: &Qcow2) -> std::io::Result<()> {
    image.perform(Op::Flush, &Buffers::new())
}

/// A read that is on its way, and where it reads.
fn read_on_its_way(image: &Qcow2, offset: u64) -> (Keep, u64) {
    let mut pieces: Vec<Piece> = Vec::new();
    let Plan::Pieces(keep) = image.plan(Op::Read { offset }, &bytes(0, 4096), &mut pieces) else {
        panic!("it is in memory");
    };
    match pieces[0].what {
        What::Below(_, Op::Read { offset }) => (keep, offset),
        what => panic!("{what:?}"),
    }
}

fn refcount(image: &Qcow2, host: u64) -> u64 {
    image.refcount(&mut image.work(), host / CLUSTER).unwrap()
}

#[test]
fn a_failed_flush_does_not_give_back_what_an_earlier_request_reads() {
    let Some(disk) = disk(&[]) else { return };
    let image = image(&disk);
    write(&image, 0, 1, CLUSTER).unwrap();
    flush(&image).unwrap();
    let (keep, host) = read_on_its_way(&image, 0);
    let len = CLUSTER;
    image
        .perform(Op::Discard { offset: 0, len }, &Buffers::new())
        .unwrap();
    fail(&disk, 1000);
    flush(&image).unwrap_err();
    fail(&disk, 0);
    flush(&image).unwrap();
    flush(&image).unwrap();
    assert_eq!(refcount(&image, host), 1);
    image.ended(keep, Ok(())).unwrap();
    flush(&image).unwrap();
    assert_eq!(refcount(&image, host), 0);
}

#[test]
fn a_flush_of_a_damaged_image_promises_nothing_that_is_not_written() {
    let Some(disk) = disk(&[]) else { return };
    let image = image(&disk);
    write(&image, 0, 1, CLUSTER).unwrap();
    flush(&image).unwrap();
    image.corrupt("Damage".to_owned(), None);
    flush(&image).unwrap();
    drop(image);

    let Some(disk) = self::disk(&[]) else { return };
    let image = self::image(&disk);
    write(&image, 0, 1, CLUSTER).unwrap();
    image.corrupt("Damage".to_owned(), None);
    let plan = image.plan(Op::Flush, &Buffers::new(), &mut Vec::new());
    assert!(matches!(plan, Plan::Slow), "{plan:?}");
    flush(&image).unwrap_err();
    flush(&image).unwrap_err();
    image.close().unwrap_err();
}

#[test]
fn an_image_that_cannot_be_closed_goes_on_with_all_it_has() {
    for options in [&[][..], &["-o", "lazy_refcounts=on"]] {
        let Some(disk) = disk(options) else { return };
        let image = image(&disk);
        write(&image, 0, 7, 2 * CLUSTER).unwrap();
        fail(&disk, 1000);
        image.close().unwrap_err();
        image.reopen(false).unwrap();
        fail(&disk, 0);
        assert!(read(&image, CLUSTER) == [7; 4096]);
        write(&image, 4 * CLUSTER, 8, CLUSTER).unwrap();
        image.close().unwrap();
        let image = self::image(&disk);
        assert!(read(&image, CLUSTER) == [7; 4096]);
        assert!(read(&image, 4 * CLUSTER) == [8; 4096]);
    }
}

#[test]
fn a_full_disk_takes_what_needs_no_room_while_the_reserve_runs_low() {
    let Some(mut disk) = disk(&[]) else { return };
    let used = disk.info().size;
    disk.most = used.next_multiple_of(CLUSTER) + 16 * CLUSTER;
    let image = image(&disk);
    let mut at = 0;
    while write(&image, at, 1, CLUSTER).is_ok() {
        at += CLUSTER;
    }
    assert!(at > 0);
    image.meta().refilling = true;
    write(&image, 0, 2, CLUSTER).unwrap();
    image.meta().refilling = true;
    write(&image, at, 2, CLUSTER).unwrap_err();
    assert!(read(&image, 0) == [2; 4096]);
}

#[test]
fn what_was_given_up_is_used_again_on_a_full_disk_without_a_flush() {
    let Some(mut disk) = disk(&[]) else { return };
    let used = disk.info().size;
    disk.most = used.next_multiple_of(CLUSTER) + 16 * CLUSTER;
    let image = image(&disk);
    let mut at = 0;
    while write(&image, at, 1, CLUSTER).is_ok() {
        at += CLUSTER;
    }
    let discard = Op::Discard {
        offset: 0,
        len: 4 * CLUSTER,
    };
    image.perform(discard, &Buffers::new()).unwrap();
    for number in 0..4 {
        write(&image, at + number * CLUSTER, 2, CLUSTER).unwrap();
    }
    write(&image, at + 4 * CLUSTER, 2, CLUSTER).unwrap_err();
}

#[test]
fn what_is_left_behind_the_end_does_not_show_when_the_disk_grows() {
    let Some(disk) = disk(&[]) else { return };
    let image = image(&disk);
    write(&image, 6 << 20, 7, 4 * CLUSTER).unwrap();
    flush(&image).unwrap();
    // It was made smaller, and could not be cleaned up.
    image.patch_header(|header| header.size = 4 << 20).unwrap();
    image.close().unwrap();
    image.reopen(false).unwrap();
    Format::resize(&image, 8 << 20).unwrap();
    assert!(read(&image, 6 << 20) == [0; 4096]);
    image.close().unwrap();

    // The state of a machine, of which no snapshot was made.
    image.reopen(false).unwrap();
    let snapshots = image.snapshots().unwrap();
    let state = Buffers::owned(HostBuffer::from_bytes(&[9; 4096], 4096));
    snapshots.write_vm_state(0, &state).unwrap();
    Format::resize(&image, 1 << 30).unwrap();
    assert!(read(&image, 512 << 20) == [0; 4096]);
    image.close().unwrap();
    let node = Arc::new(disk);
    let report = super::check(&*node, crate::image::Repair::No).unwrap();
    assert_eq!((report.leaks, report.corruptions), (0, 0));
}

#[test]
fn a_closed_image_does_not_write_the_header_it_remembers() {
    let Some(disk) = disk(&[]) else { return };
    let closed = image(&disk);
    write(&closed, 0, 1, CLUSTER).unwrap();
    closed.close().unwrap();
    let image = image(&disk);
    let view = crate::image::SnapshotView::default();
    image.snapshots().unwrap().create(&view).unwrap();
    image.close().unwrap();
    let before = disk.plates.lock().unwrap().bytes.clone();
    closed.change_backing(Some("base"), None).unwrap_err();
    closed.corrupt("Damage".to_owned(), None);
    assert!(disk.plates.lock().unwrap().bytes == before);
}

#[test]
fn an_image_that_cannot_be_read_anew_is_not_read_from_old_tables() {
    let Some(disk) = disk(&[]) else { return };
    let image = image(&disk);
    write(&image, 0, 1, CLUSTER).unwrap();
    let header = disk.plates.lock().unwrap().bytes[..512].to_vec();
    let spoiled = image.exclusively(|node| {
        let spoiled = node.write_at(0, &[0; 512]);
        spoiled.map_err(|error| BlockError::host("Spoiled", error))
    });
    spoiled.unwrap_err();
    let offset = 0;
    let read_it = |image: &Qcow2| image.perform(Op::Read { offset }, &bytes(0, 4096));
    read_it(&image).unwrap_err();
    let plan = image.plan(Op::Read { offset }, &bytes(0, 4096), &mut Vec::new());
    assert!(matches!(plan, Plan::Slow), "{plan:?}");
    write(&image, 0, 1, CLUSTER).unwrap_err();
    disk.write_at(0, &header).unwrap();
    image.reopen(false).unwrap();
    read_it(&image).unwrap();
    write(&image, 0, 1, CLUSTER).unwrap();
}

#[test]
fn writes_to_parts_of_a_sector_keep_each_others_bytes() {
    const THREADS: u64 = 4;
    const ROUNDS: u32 = 4000;
    let Some(disk) = disk(&[]) else { return };
    let image = image(&disk);
    write(&image, 0, 1, CLUSTER).unwrap();
    std::thread::scope(|scope| {
        for own in 0..THREADS {
            let image = &image;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let round = round as u8;
                    write(image, own * 128, round, 128).unwrap();
                    let mut found = vec![0; 128];
                    let buffers = bytes(0xee, 128);
                    let offset = own * 128;
                    image.perform(Op::Read { offset }, &buffers).unwrap();
                    buffers.read_at(0, &mut found);
                    assert!(found == [round; 128], "{own}: {round} {found:?}");
                }
            });
        }
    });
}

/// A disk that looks at the image on it at every step.
struct Watched {
    disk: Disk,
    image: Mutex<Weak<Qcow2>>,
    /// Steps at which a flush would only have been passed on.
    passed: Mutex<Vec<Event>>,
    /// Its length changed since the last flush: what it was then.
    was: Mutex<Option<u64>>,
    /// Places within that length that were written meanwhile.
    early: Mutex<Vec<u64>>,
}

impl Watched {
    fn new(disk: Disk) -> Arc<Self> {
        Arc::new(Watched {
            disk,
            image: Mutex::default(),
            passed: Mutex::default(),
            was: Mutex::default(),
            early: Mutex::default(),
        })
    }
}

impl BlockNode for Watched {
    fn info(&self) -> NodeInfo {
        self.disk.info()
    }

    fn allocated(&self) -> Option<u64> {
        None
    }

    fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        self.disk.open_lane(depth, waker)
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> std::io::Result<()> {
        let was = *self.was.lock().unwrap();
        match op {
            Op::Flush => *self.was.lock().unwrap() = None,
            Op::Write { offset, .. } if was.is_some_and(|was| offset < was) => {
                self.early.lock().unwrap().push(offset);
            }
            _ => {}
        }
        self.disk.perform(op, buffers)
    }

    fn extent(&self, offset: u64, len: u64) -> std::io::Result<Extent> {
        self.disk.extent(offset, len)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        let now = self.disk.info().size;
        self.was.lock().unwrap().get_or_insert(now);
        self.disk.resize(size)
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, _: crate::node::Activity) -> Result<(), BlockError> {
        Ok(())
    }

    fn event(&self, event: Event) {
        let Some(image) = self.image.lock().unwrap().upgrade() else {
            return;
        };
        let plan = image.plan(Op::Flush, &Buffers::new(), &mut Vec::new());
        if matches!(plan, Plan::Pieces(_)) {
            self.passed.lock().unwrap().push(event);
        }
    }
}

fn on(watched: &Arc<Watched>) -> Arc<Qcow2> {
    let policy = Policy {
        discard: Discard::Unmap,
        ..Policy::default()
    };
    let image = Qcow2::open(OpenFormat {
        storage: Edge::new(Some(watched.clone())),
        data: None,
        backing: None,
        extents: Vec::new(),
        screen: Screen::new(policy, 0, Arc::default()),
        pool: test_pool(),
        reporter: Reporter::silent(),
        qcow2: Qcow2Options::default(),
        activity: crate::node::Activity::Active,
    });
    Arc::new(image.unwrap())
}

#[test]
fn a_flush_waits_for_tables_that_are_just_being_written() {
    let Some(disk) = disk(&[]) else { return };
    let watched = Watched::new(disk);
    let image = on(&watched);
    write(&image, 0, 1, CLUSTER).unwrap();
    // Only the L2 table has changed, then only the L1 table.
    flush(&image).unwrap();
    write(&image, CLUSTER, 1, CLUSTER).unwrap();
    *watched.image.lock().unwrap() = Arc::downgrade(&image);
    flush(&image).unwrap();
    image.meta().l1_dirty.insert(0);
    flush(&image).unwrap();
    *watched.image.lock().unwrap() = Weak::new();
    assert_eq!(watched.passed.lock().unwrap().as_slice(), []);
}

#[test]
fn tables_lead_to_what_is_new_in_a_file_once_its_length_is_durable() {
    // There are no refcounts to be written first.
    let Some(disk) = disk(&["-o", "lazy_refcounts=on"]) else {
        return;
    };
    let watched = Watched::new(disk);
    let image = on(&watched);
    write(&image, 0, 1, CLUSTER).unwrap();
    flush(&image).unwrap();
    for number in 1..40 {
        write(&image, number * CLUSTER, 1, CLUSTER).unwrap();
    }
    assert!(watched.was.lock().unwrap().is_some());
    // Only tables are where there was something before.
    watched.early.lock().unwrap().clear();
    flush(&image).unwrap();
    assert_eq!(watched.early.lock().unwrap().as_slice(), [0; 0]);
}
