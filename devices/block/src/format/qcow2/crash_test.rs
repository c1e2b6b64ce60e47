//! Images on a disk that loses power, or fails, at any moment.
//!
//! The disk below keeps what was written since the last flush apart. A crash takes a random part
//! of it, sector by sector, in any order that the disk may have had. Whatever is left must be
//! whole for `qemu-img check` but for leaks, and have every byte that was flushed.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::Qcow2;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::format::{FormatNode, OpenFormat};
use crate::gate::{Discard, Policy, Screen};
use crate::graph::{Perms, Qcow2Options};
use crate::node::{BlockNode, Extent, ExtentKind, IoLane, NodeExt, NodeInfo};
use crate::notice::Reporter;
use crate::pool::test_pool;
use crate::{Buffers, Done, Durability, HostBuffer, IoReq, Op, Token, Unmap, Waker};

const SECTOR: usize = 512;
const SIZE: u64 = 2 << 20;

/// A generator of numbers (xorshift).
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

/// What the disk has.
#[derive(Clone, Default)]
pub(super) struct Plates {
    pub bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last flush, in order.
    since: Vec<(usize, Vec<u8>)>,
    /// It never crashes: nothing needs to be kept apart.
    steady: bool,
}

impl Plates {
    fn write(&mut self, offset: u64, data: &[u8]) {
        let start = offset as usize;
        let end = start + data.len();
        self.bytes[start..end].copy_from_slice(data);
        if self.steady {
            return;
        }
        for (at, sector) in data.chunks(SECTOR).enumerate() {
            self.since.push((start + at * SECTOR, sector.to_vec()));
        }
    }

    fn flush(&mut self) {
        if self.steady {
            return;
        }
        self.durable = self.bytes.clone();
        self.since.clear();
    }

    /// What may be left of it.
    fn crash(&self, dice: &mut Dice) -> Vec<u8> {
        let mut left = self.durable.clone();
        left.resize(self.bytes.len(), 0);
        // The length may be the old one, too.
        let mut end = match dice.roll(2) {
            0 => self.bytes.len(),
            _ => self.durable.len(),
        };
        let part = dice.roll(101);
        for (at, sector) in &self.since {
            if dice.roll(100) < part {
                left[*at..*at + sector.len()].copy_from_slice(sector);
                end = end.max(*at + sector.len());
            }
        }
        left.truncate(end);
        left
    }
}

/// The disk.
#[derive(Clone)]
pub(super) struct Disk {
    /// It cannot be longer.
    pub most: u64,
    pub plates: Arc<Mutex<Plates>>,
    /// Of a thousand writes and flushes, so many fail.
    pub fails: Arc<AtomicU64>,
    dice: Arc<Mutex<Dice>>,
}

impl Disk {
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Disk {
            most: 64 << 20,
            plates: Arc::new(Mutex::new(Plates {
                durable: bytes.clone(),
                bytes,
                since: Vec::new(),
                steady: false,
            })),
            fails: Arc::default(),
            dice: Arc::new(Mutex::new(Dice(1))),
        }
    }

    fn fails(&self) -> bool {
        self.dice.lock().unwrap().roll(1000) < self.fails.load(Ordering::Relaxed)
    }
}

impl BlockNode for Disk {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.plates.lock().unwrap().bytes.len() as u64,
            read_only: false,
            granule: 512,
        }
    }

    fn allocated(&self) -> Option<u64> {
        None
    }

    fn open_lane(&self, _depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        Ok(Box::new(Way {
            disk: self.clone(),
            waker: waker.clone(),
            waiting: VecDeque::new(),
        }))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        let size = self.info().size;
        if let Some((offset, len)) = op.range(buffers) {
            assert!(offset + len <= size, "{op:?} {buffers:?} of {size}");
            assert!((offset | len).is_multiple_of(512), "{op:?} {buffers:?}");
        }
        let failed = !matches!(op, Op::Read { .. }) && self.fails();
        let mut plates = self.plates.lock().unwrap();
        match op {
            Op::Read { offset } => {
                let range = offset as usize..(offset + buffers.len()) as usize;
                buffers.write_at(0, &plates.bytes[range]);
            }
            Op::Write { offset, durability } => {
                let mut data = vec![0; buffers.len() as usize];
                buffers.read_at(0, &mut data);
                if failed {
                    // Some of it may have been written all the same.
                    data.truncate(data.len() / SECTOR / 2 * SECTOR);
                }
                plates.write(offset, &data);
                if durability == Durability::Durable && !failed {
                    plates.flush();
                }
            }
            Op::Flush if !failed => plates.flush(),
            Op::WriteZeroes { offset, len, .. } if !failed => {
                plates.write(offset, &vec![0; len as usize]);
            }
            Op::Flush | Op::WriteZeroes { .. } => {}
            // What is there then is anything.
            Op::Discard { offset, len } if !failed => {
                plates.write(offset, &vec![0xdd; len as usize]);
            }
            Op::Discard { .. } => {}
        }
        match failed {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }

    fn extent(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        let kind = ExtentKind::Zero;
        Ok(Extent { len, kind })
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        if size > self.most {
            let error = io::Error::from_raw_os_error(libc::EFBIG);
            return Err(BlockError::host("Too large", error));
        }
        let mut plates = self.plates.lock().unwrap();
        plates.bytes.resize(size as usize, 0);
        plates.since.retain(|(at, _)| *at < size as usize);
        let durable = plates.durable.len().min(size as usize);
        plates.durable.truncate(durable);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, _: crate::node::Activity) -> Result<(), BlockError> {
        Ok(())
    }
}

/// Requests are done when they are reaped, in any order.
struct Way {
    disk: Disk,
    waker: Waker,
    waiting: VecDeque<(IoReq, Token)>,
}

impl IoLane for Way {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        self.waiting.push_back((request, token));
        self.waker.wake();
        None
    }

    fn start(&mut self) {}

    fn reap(&mut self, done: &mut Vec<Done>) {
        let count = self.waiting.len() as u64;
        let at = self.disk.dice.lock().unwrap().roll(count) as usize;
        if let Some((request, token)) = self.waiting.remove(at) {
            let result = self.disk.perform(request.op, &request.buffers);
            done.push(Done {
                token,
                result,
                request,
            });
        }
        if !self.waiting.is_empty() {
            self.waker.wake();
        }
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

fn open(disk: &Disk, options: Qcow2Options) -> Arc<dyn BlockNode> {
    let image = try_open(disk, options, Reporter::silent(), false).unwrap();
    Arc::new(FormatNode::new(image, &test_pool()))
}

pub(super) fn try_open(
    disk: &Disk,
    options: Qcow2Options,
    reporter: Reporter,
    read_only: bool,
) -> Result<Qcow2, BlockError> {
    let policy = Policy {
        discard: Discard::Unmap,
        read_only,
        ..Policy::default()
    };
    Qcow2::open(OpenFormat {
        storage: Edge::new(Some(Arc::new(disk.clone()))),
        data: None,
        backing: None,
        extents: Vec::new(),
        screen: Screen::new(policy, 0, Arc::default()),
        pool: test_pool(),
        reporter,
        qcow2: options,
        activity: crate::node::Activity::Active,
    })
}

/// What a sector may be: the first one, if nothing was written since the last flush.
#[derive(Clone, Default)]
struct Sector {
    flushed: u64,
    since: Vec<u64>,
    /// A write failed, or it was discarded: it may be anything.
    wild: bool,
    /// The last write failed.
    failed: bool,
}

impl Sector {
    fn allows(&self, tag: u64) -> bool {
        self.wild || self.flushed == tag || self.since.contains(&tag)
    }

    fn now(&self) -> u64 {
        self.since.last().copied().unwrap_or(self.flushed)
    }
}

struct Trial {
    disk: Disk,
    node: Arc<dyn BlockNode>,
    lane: Option<Box<dyn IoLane>>,
    waker: Waker,
    sectors: Vec<Sector>,
    dice: Dice,
    tag: u64,
    path: std::path::PathBuf,
    lazy: bool,
}

fn tool(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("qemu-img").args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

impl Trial {
    fn new(dir: &Path, options: &str, qcow2: Qcow2Options, seed: u64) -> Self {
        let path = dir.join("a.qcow2");
        let text = path.to_str().unwrap();
        let size = SIZE.to_string();
        let mut args = vec!["create", "-q", "-f", "qcow2"];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        args.extend([text, &size]);
        assert_eq!(tool(&args).0, Some(0));
        let mut disk = Disk::new(std::fs::read(&path).unwrap());
        disk.dice = Arc::new(Mutex::new(Dice(seed | 1)));
        let node = open(&disk, qcow2);
        let waker = Waker::new().unwrap();
        let lane = node.open_lane(32, &waker).unwrap();
        Trial {
            disk,
            node,
            lane: Some(lane),
            waker,
            sectors: vec![Sector::default(); SIZE as usize / SECTOR],
            dice: Dice(seed.rotate_left(17) | 1),
            tag: 0,
            path,
            lazy: options.contains("lazy"),
        }
    }

    fn range(&mut self) -> (usize, usize) {
        let start = self.dice.roll(self.sectors.len() as u64) as usize;
        let most = match self.dice.roll(5) {
            0 => 400,
            _ => 8,
        };
        let count = 1 + self.dice.roll(most) as usize;
        (start, count.min(self.sectors.len() - start))
    }

    /// Requests of one batch, all in flight at once; crashes while they are.
    fn batch(&mut self, crash: bool) {
        let mut lane = self.lane.take().unwrap();
        let mut active: Vec<(u64, usize, usize, Op, u64)> = Vec::new();
        for number in 0..1 + self.dice.roll(8) {
            let (first, count) = self.range();
            let overlaps = |other: &(u64, usize, usize, Op, u64)| {
                first < other.1 + other.2 && other.1 < first + count
            };
            if active.iter().any(overlaps) {
                continue;
            }
            let (op, buffers, tag) = self.request(first, count);
            for sector in &mut self.sectors[first..first + count] {
                sector.since.push(tag);
            }
            active.push((number, first, count, op, tag));
            let done = lane.submit(IoReq::new(op, buffers), Token(number));
            if let Some(done) = done {
                self.ended(&done, &mut active);
            }
        }
        lane.start();
        let mut done = Vec::new();
        while lane.in_flight() > 0 {
            if crash && self.dice.roll(4) == 0 {
                self.crash();
            }
            self.waker.wait();
            self.waker.clear();
            lane.reap(&mut done);
            for done in done.drain(..) {
                self.ended(&done, &mut active);
            }
            lane.start();
        }
        assert!(active.is_empty());
        self.lane = Some(lane);
    }

    fn request(&mut self, first: usize, count: usize) -> (Op, Buffers, u64) {
        let (offset, len) = ((first * SECTOR) as u64, (count * SECTOR) as u64);
        let durability = match self.dice.roll(20) {
            0 => Durability::Durable,
            _ => Durability::Cached,
        };
        if self.dice.roll(5) == 0 {
            let unmap = match self.dice.roll(2) {
                0 => Unmap::Keep,
                _ => Unmap::May,
            };
            let op = Op::WriteZeroes {
                offset,
                len,
                unmap,
                durability,
            };
            return (op, Buffers::new(), 0);
        }
        self.tag += 1;
        let data = self.tag.to_le_bytes().repeat(len as usize / 8);
        let buffers = Buffers::owned(HostBuffer::from_bytes(&data, 4096));
        (Op::Write { offset, durability }, buffers, self.tag)
    }

    fn ended(&mut self, done: &Done, active: &mut Vec<(u64, usize, usize, Op, u64)>) {
        let at = active
            .iter()
            .position(|other| other.0 == done.token.0)
            .unwrap();
        let (_, first, count, op, tag) = active.swap_remove(at);
        let durable = matches!(
            op,
            Op::Write {
                durability: Durability::Durable,
                ..
            } | Op::WriteZeroes {
                durability: Durability::Durable,
                ..
            }
        );
        for sector in &mut self.sectors[first..first + count] {
            match &done.result {
                Ok(()) if durable => {
                    *sector = Sector {
                        flushed: tag,
                        ..Sector::default()
                    };
                }
                Ok(()) => sector.failed = false,
                Err(_) => (sector.wild, sector.failed) = (true, true),
            }
        }
    }

    fn flush(&mut self) {
        if self.node.flush().is_ok() {
            for sector in &mut self.sectors {
                if let Some(last) = sector.since.last().copied() {
                    sector.flushed = last;
                    sector.since.clear();
                }
                // Written as a whole since it failed: it is known again.
                sector.wild = sector.failed;
            }
        }
    }

    /// What is left when the power goes now.
    fn crash(&mut self) {
        let left = self.disk.plates.lock().unwrap().crash(&mut self.dice);
        self.look_at(&left);
    }

    /// Looks at an image that was not closed.
    fn look_at(&mut self, bytes: &[u8]) {
        std::fs::write(&self.path, bytes).unwrap();
        let text = self.path.to_str().unwrap();
        let (code, said) = match self.lazy {
            true => tool(&["check", "-q", "-r", "all", "-f", "qcow2", text]),
            false => tool(&["check", "-q", "-f", "qcow2", text]),
        };
        assert!(matches!(code, Some(0 | 3)), "{code:?} {said}");
        let bytes = std::fs::read(&self.path).unwrap();
        let disk = Disk::new(bytes);
        let node = open(&disk, Qcow2Options::default());
        let mut all = vec![0; self.sectors.len() * SECTOR];
        node.read_at(0, &mut all).unwrap();
        for (at, (found, sector)) in all.chunks(SECTOR).zip(&self.sectors).enumerate() {
            let tag = u64::from_le_bytes(found[..8].try_into().unwrap());
            let whole = found.chunks(8).all(|eight| eight == &found[..8]);
            assert!(
                sector.wild || (whole && sector.allows(tag)),
                "sector {at}: {tag:#x}, not {:#x} or {:x?}",
                sector.flushed,
                sector.since
            );
        }
    }

    /// What is cut off is gone, and what is new are zeroes, for good.
    fn resize(&mut self) {
        let sectors = 64 + self.dice.roll(6000) as usize;
        self.node.resize((sectors * SECTOR) as u64).unwrap();
        self.sectors.resize(sectors, Sector::default());
    }

    /// All that was written is there.
    fn compare(&mut self) {
        let mut all = vec![0; self.sectors.len() * SECTOR];
        self.node.read_at(0, &mut all).unwrap();
        for (at, (found, sector)) in all.chunks(SECTOR).zip(&self.sectors).enumerate() {
            let tag = u64::from_le_bytes(found[..8].try_into().unwrap());
            assert!(
                sector.failed || sector.now() == tag,
                "sector {at}: {tag:#x}"
            );
        }
    }

    /// Closes it; there are no leaks then.
    fn close(mut self, clean: bool) {
        self.lane = None;
        self.flush();
        self.node.image().unwrap().close().unwrap();
        let bytes = self.disk.plates.lock().unwrap().bytes.clone();
        self.lazy &= !clean;
        self.look_at(&bytes);
        let text = self.path.to_str().unwrap();
        let (code, said) = tool(&["check", "-q", "-f", "qcow2", text]);
        assert!(
            code == Some(0) || (!clean && code == Some(3)),
            "{code:?} {said}"
        );
    }
}

fn scale() -> u64 {
    let scale = std::env::var("QCOW2_SCALE");
    scale.map_or(1, |scale| scale.parse().unwrap())
}

fn seed() -> u64 {
    match std::env::var("QCOW2_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 0x6a09_e667_f3bc_c909,
    }
}

fn crashes(options: &str, qcow2: Qcow2Options) {
    let dir = tempfile::tempdir().unwrap();
    let mut trial = Trial::new(dir.path(), options, qcow2, seed());
    for number in 0..150 * scale() {
        let crash = number % 10 == 0;
        trial.batch(crash);
        if trial.dice.roll(6) == 0 {
            trial.flush();
        }
        if trial.dice.roll(12) == 0 {
            trial.resize();
        }
        if number % 15 == 0 {
            trial.crash();
            trial.compare();
        }
    }
    trial.close(true);
}

#[test]
fn a_crash_leaves_every_flushed_byte() {
    for options in [
        "",
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=64",
        "extended_l2=on,cluster_size=16k",
        "compat=0.10,cluster_size=2k",
        "lazy_refcounts=on,cluster_size=1k",
    ] {
        crashes(options, Qcow2Options::default());
    }
}

#[test]
fn a_crash_with_little_memory_leaves_every_flushed_byte() {
    let qcow2 = Qcow2Options {
        l2_cache_size: Some(1024),
        l2_cache_entry_size: Some(512),
        refcount_cache_size: Some(1024),
        pass_discard_other: Some(true),
        ..Qcow2Options::default()
    };
    crashes("cluster_size=512,refcount_bits=64", qcow2);
    crashes("cluster_size=1k", qcow2);
}

fn failures(options: &str, rate: u64, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut trial = Trial::new(dir.path(), options, Qcow2Options::default(), seed);
    for round in 0..8 * scale() {
        trial.disk.fails.store(rate, Ordering::Relaxed);
        for _ in 0..10 {
            trial.batch(false);
            if trial.dice.roll(6) == 0 {
                trial.flush();
            }
        }
        if round % 2 == 0 {
            trial.crash();
        }
        trial.disk.fails.store(0, Ordering::Relaxed);
        trial.batch(false);
        trial.node.flush().unwrap();
        trial.flush();
        trial.compare();
        trial.crash();
    }
    trial.close(false);
}

#[test]
fn writes_that_fail_leave_the_image_whole() {
    for (at, options) in [
        "",
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=64",
        "extended_l2=on,cluster_size=16k",
    ]
    .into_iter()
    .enumerate()
    {
        failures(options, 30, seed().wrapping_add(at as u64));
        failures(options, 300, seed().wrapping_mul(3).wrapping_add(at as u64));
    }
}

/// More with `QCOW2_SCALE`.
fn many(options: &str, batches: u64) {
    let dir = tempfile::tempdir().unwrap();
    let qcow2 = Qcow2Options::default();
    let mut trial = Trial::new(dir.path(), options, qcow2, seed());
    trial.disk.plates.lock().unwrap().steady = true;
    for number in 0..batches * scale() {
        trial.batch(false);
        if trial.dice.roll(20) == 0 {
            trial.flush();
        }
        if number % 500 == 0 {
            trial.compare();
        }
    }
    trial.close(true);
}

#[test]
fn many_requests_in_any_order() {
    many("", 12000);
    many("cluster_size=512", 6000);
    many("extended_l2=on,cluster_size=16k", 6000);
}

#[test]
fn a_full_disk_leaves_the_image_whole() {
    let dir = tempfile::tempdir().unwrap();
    let qcow2 = Qcow2Options::default();
    let mut trial = Trial::new(dir.path(), "cluster_size=4k", qcow2, seed());
    trial.node.resize(16 << 20).unwrap();
    trial.lane = None;
    trial.node.image().unwrap().close().unwrap();
    let chunk = vec![0x11; 64 << 10];
    let mut disk = trial.disk.clone();
    disk.most = 4 << 20;
    let node = open(&disk, qcow2);
    let mut at = 0;
    let error = loop {
        match node.write_at(at, &chunk) {
            Ok(()) => at += chunk.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    assert!(at >= 3 << 20, "{at:#x}");
    node.flush().unwrap();
    // Room is made, and used.
    let discard = Op::Discard {
        offset: 0,
        len: 1 << 20,
    };
    node.perform(discard, &Buffers::new()).unwrap();
    node.flush().unwrap();
    node.flush().unwrap();
    for step in 0..8 {
        node.write_at((8 << 20) + step * chunk.len() as u64, &chunk)
            .unwrap();
    }
    node.image().unwrap().close().unwrap();
    std::fs::write(&trial.path, &disk.plates.lock().unwrap().bytes).unwrap();
    let (code, said) = tool(&["check", "-q", trial.path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn writes_to_new_clusters_need_no_thread() {
    use crate::format::{Format, Plan};
    for options in ["", "cluster_size=4k", "extended_l2=on", "lazy_refcounts=on"] {
        let dir = tempfile::tempdir().unwrap();
        let trial = Trial::new(dir.path(), options, Qcow2Options::default(), seed());
        let disk = trial.disk.clone();
        let image = try_open(&disk, Qcow2Options::default(), Reporter::silent(), false).unwrap();
        let buffers = Buffers::owned(HostBuffer::from_bytes(&[7; 4096], 4096));
        let mut slow = 0;
        for step in 0..SIZE / 4096 {
            let op = Op::Write {
                offset: step * 4096,
                durability: Durability::Cached,
            };
            let mut pieces = Vec::new();
            match image.plan(op, &buffers, &mut pieces) {
                Plan::Pieces(keep) => {
                    assert_eq!(pieces.len(), 1);
                    image.ended(keep, Ok(())).unwrap();
                }
                Plan::Slow => {
                    slow += 1;
                    image.perform(op, &buffers).unwrap();
                }
            }
        }
        assert!(slow <= 16, "{options}: {slow} of {}", SIZE / 4096);
    }
}
