//! The driver beside the real QEMU tools, and against a plain copy of the disk in memory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::file::{Aio, FileSpec, Locking};
use crate::graph::{ChildSpec, DriverSpec, FormatKind, FormatSpec, Graph, NodeSpec, Qcow2Options};
use crate::node::{BlockNode, IoLane, NodeExt};
use crate::pool::test_pool;
use crate::{Buffers, Discard, Done, Durability, HostBuffer, IoReq, Op, Token, Unmap, Waker};

pub(super) fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

fn dir() -> TempDir {
    TempDir::new_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
}

/// Runs a QEMU tool; its output.
pub(super) fn tool(name: &str, args: &[&str]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let run = || Command::new(name).args(args).output().unwrap();
    let mut output = run();
    // A process that another test is just starting has this one's files, too, for a moment.
    for _ in 0..100 {
        if output.status.success() || !text(&output.stderr).contains("\"write\" lock") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        output = run();
    }
    assert!(
        output.status.success(),
        "{name} {args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(super) fn create(path: &Path, options: &str, size: u64) {
    let size = size.to_string();
    let mut args = vec!["create", "-q", "-f", "qcow2"];
    if !options.is_empty() {
        args.extend(["-o", options]);
    }
    args.extend([text(path), &size]);
    tool("qemu-img", &args);
}

/// No damage and no leaks.
pub(super) fn check(path: &Path) {
    tool("qemu-img", &["check", "-q", "-f", "qcow2", text(path)]);
}

fn spec(path: &Path, qcow2: Qcow2Options, direct: bool) -> NodeSpec {
    let file = NodeSpec::new(DriverSpec::File(FileSpec {
        filename: text(path).to_owned(),
        aio: Aio::Threads,
        // Programs that other tests are just starting would hold the locks a moment longer.
        locking: Locking::Off,
    }));
    let mut format = FormatSpec::new(FormatKind::Qcow2, ChildSpec::Inline(file));
    format.qcow2 = qcow2;
    let mut spec = NodeSpec::new(DriverSpec::Format(format)).named("q");
    spec.discard = Some(Discard::Unmap);
    spec.direct = Some(direct);
    spec
}

struct Disk {
    graph: Graph,
    node: Arc<dyn BlockNode>,
}

impl Disk {
    fn open_spec(spec: NodeSpec) -> Result<Disk, crate::BlockError> {
        let graph = Graph::new(test_pool());
        graph.add(spec, &mut opener)?;
        let node = graph.find("q").unwrap();
        Ok(Disk { graph, node })
    }

    fn open(path: &Path) -> Disk {
        Self::open_spec(spec(path, Qcow2Options::default(), false)).unwrap()
    }

    fn close(self) {
        self.node.image().unwrap().close().unwrap();
        drop(self.node);
        drop(self.graph);
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; len];
        self.node.read_at(offset, &mut bytes).unwrap();
        bytes
    }
}

/// A small generator of numbers (xorshift).
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

const SECTOR: u64 = 512;

#[test]
fn what_is_written_is_there_after_opening_again() {
    let dir = dir();
    let path = dir.path().join("a.qcow2");
    create(&path, "", 8 << 20);
    let disk = Disk::open(&path);
    assert_eq!(disk.read(0, 4096), vec![0; 4096]);
    disk.node.write_at(1 << 20, &[7; 4096]).unwrap();
    disk.node
        .write_at((1 << 20) + 12345 * 512, &[9; 512])
        .unwrap();
    assert_eq!(disk.read(1 << 20, 4096), vec![7; 4096]);
    disk.node.flush().unwrap();
    check_with_leaks(&path);
    disk.close();
    check(&path);
    let disk = Disk::open(&path);
    assert_eq!(disk.read(1 << 20, 4096), vec![7; 4096]);
    assert_eq!(disk.read((1 << 20) + 12345 * 512, 512), vec![9; 512]);
    let raw = dir.path().join("a.raw");
    disk.close();
    tool(
        "qemu-img",
        &["convert", "-O", "raw", text(&path), text(&raw)],
    );
    let bytes = std::fs::read(&raw).unwrap();
    assert_eq!(bytes[1 << 20..(1 << 20) + 4096], vec![7; 4096]);
}

/// No damage; clusters may be leaked, because the image is open.
fn check_with_leaks(path: &Path) {
    let args = ["check", "-q", "-U", "-f", "qcow2", text(path)];
    let output = Command::new("qemu-img").args(args).output().unwrap();
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 3)),
        "{code:?} {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A lane with its waker, and a copy of the disk.
struct Model {
    disk: Option<Disk>,
    path: PathBuf,
    options: Qcow2Options,
    bytes: Vec<u8>,
    dice: Dice,
    lanes: Vec<(Box<dyn IoLane>, Waker)>,
    resizes: bool,
    direct: bool,
}

impl Model {
    fn new(path: &Path, options: Qcow2Options, bytes: Vec<u8>, seed: u64, direct: bool) -> Self {
        let mut model = Model {
            disk: None,
            path: path.to_owned(),
            options,
            bytes,
            dice: Dice(seed | 1),
            lanes: Vec::new(),
            resizes: true,
            direct,
        };
        model.open();
        model
    }

    fn open(&mut self) {
        let disk = Disk::open_spec(spec(&self.path, self.options, self.direct)).unwrap();
        for _ in 0..3 {
            let waker = Waker::new().unwrap();
            let lane = disk.node.open_lane(16, &waker).unwrap();
            self.lanes.push((lane, waker));
        }
        self.disk = Some(disk);
    }

    fn close(&mut self) {
        self.lanes.clear();
        self.disk.take().unwrap().close();
    }

    fn node(&self) -> &dyn BlockNode {
        &*self.disk.as_ref().unwrap().node
    }

    fn range(&mut self, most: u64) -> (u64, u64) {
        let sectors = self.bytes.len() as u64 / SECTOR;
        let start = self.dice.roll(sectors);
        let most = (sectors - start).min(most / SECTOR).max(1);
        let most = if self.dice.roll(4) == 0 {
            most
        } else {
            most.min(16)
        };
        let count = 1 + self.dice.roll(most);
        (start * SECTOR, count.min(sectors - start) * SECTOR)
    }

    /// A batch of requests that do not overlap, on all lanes at once.
    fn batch(&mut self) {
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let mut reads: HashMap<u64, (u64, Arc<HostBuffer>)> = HashMap::new();
        let count = 1 + self.dice.roll(12);
        for number in 0..count {
            let (offset, len) = self.range(256 << 10);
            if taken
                .iter()
                .any(|(start, end)| offset < *end && *start < offset + len)
            {
                continue;
            }
            taken.push((offset, offset + len));
            let (op, buffers) = self.request(offset, len, number, &mut reads);
            let lane = self.dice.roll(3) as usize;
            let done = self.lanes[lane]
                .0
                .submit(IoReq::new(op, buffers), Token(number));
            if let Some(done) = done {
                self.check_done(done, &mut reads);
            }
        }
        for lane in 0..3 {
            let mut done = Vec::new();
            let (io, waker) = &mut self.lanes[lane];
            io.start();
            while io.in_flight() > 0 {
                waker.wait();
                waker.clear();
                io.reap(&mut done);
                io.start();
            }
            io.reap(&mut done);
            for done in done {
                self.check_done(done, &mut reads);
            }
        }
        assert!(reads.is_empty());
    }

    fn request(
        &mut self,
        offset: u64,
        len: u64,
        number: u64,
        reads: &mut HashMap<u64, (u64, Arc<HostBuffer>)>,
    ) -> (Op, Buffers) {
        let durability = match self.dice.roll(50) {
            0 => Durability::Durable,
            _ => Durability::Cached,
        };
        let range = offset as usize..(offset + len) as usize;
        match self.dice.roll(100) {
            0..=39 => {
                let memory = HostBuffer::from_bytes(&vec![0xee; len as usize], 4096);
                reads.insert(number, (offset, memory.clone()));
                (Op::Read { offset }, Buffers::owned(memory))
            }
            40..=79 => {
                let byte = 1 + self.dice.roll(255) as u8;
                let data: Vec<u8> = (0..len).map(|at| byte ^ (at / 512) as u8).collect();
                self.bytes[range].copy_from_slice(&data);
                let buffers = Buffers::owned(HostBuffer::from_bytes(&data, 4096));
                (Op::Write { offset, durability }, buffers)
            }
            80..=92 => {
                self.bytes[range].fill(0);
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
                (op, Buffers::new())
            }
            93..=97 => {
                // What is read afterwards is not defined; zeroes make it so.
                self.bytes[range].fill(0);
                let op = Op::WriteZeroes {
                    offset,
                    len,
                    unmap: Unmap::May,
                    durability,
                };
                (op, Buffers::new())
            }
            _ => (Op::Flush, Buffers::new()),
        }
    }

    fn check_done(&mut self, done: Done, reads: &mut HashMap<u64, (u64, Arc<HostBuffer>)>) {
        done.result.as_ref().unwrap();
        let Some((offset, memory)) = reads.remove(&done.token.0) else {
            return;
        };
        let got = memory.to_vec();
        let want = &self.bytes[offset as usize..offset as usize + got.len()];
        if got != want {
            let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap();
            panic!(
                "at {:#x}: {:#x} for {:#x} ({:?})",
                offset as usize + at,
                got[at],
                want[at],
                done.request.op
            );
        }
    }

    /// A discard, and what it left behind.
    fn discard(&mut self) {
        let (offset, len) = self.range(1 << 20);
        let op = Op::Discard { offset, len };
        self.node().perform(op, &Buffers::new()).unwrap();
        let mut after = vec![0; len as usize];
        self.node().read_at(offset, &mut after).unwrap();
        self.bytes[offset as usize..(offset + len) as usize].copy_from_slice(&after);
    }

    fn compare(&mut self) {
        let mut all = vec![0xee; self.bytes.len()];
        self.node().read_at(0, &mut all).unwrap();
        let differs = all.iter().zip(&self.bytes).position(|(a, b)| a != b);
        assert_eq!(differs, None);
    }

    fn resize(&mut self) {
        let sectors = self.bytes.len() as u64 / SECTOR;
        let size = (sectors / 2 + self.dice.roll(sectors)).max(64) * SECTOR;
        let size = size.min(12 << 20);
        self.node().resize(size).unwrap();
        self.bytes.resize(size as usize, 0);
    }

    fn run(&mut self, batches: u64) {
        for number in 0..batches {
            self.batch();
            match self.dice.roll(60) {
                0 => self.discard(),
                1 if self.resizes => self.resize(),
                2 => {
                    self.close();
                    check(&self.path);
                    self.open();
                }
                3 => check_with_leaks_after_flush(self),
                _ => {}
            }
            if number % 64 == 0 {
                self.compare();
            }
        }
        self.compare();
        self.close();
        check(&self.path);
        let raw = self.path.with_extension("raw");
        std::fs::write(&raw, &self.bytes).unwrap();
        tool(
            "qemu-img",
            &[
                "compare",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "raw",
                text(&self.path),
                text(&raw),
            ],
        );
    }
}

fn check_with_leaks_after_flush(model: &mut Model) {
    model.node().flush().unwrap();
    // Refcounts that are put off are wrong in the file, and it says so.
    if !model.node().image().unwrap().view().dirty {
        check_with_leaks(&model.path);
    }
}

pub(super) fn seed() -> u64 {
    match std::env::var("QCOW2_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 0x1234_5678_9abc_def1,
    }
}

/// More with `QCOW2_SCALE`.
pub(super) fn scale() -> u64 {
    let scale = std::env::var("QCOW2_SCALE");
    scale.map_or(1, |scale| scale.parse().unwrap())
}

/// Images made and filled by QEMU, gone on with here.
struct Origin<'a> {
    options: &'a str,
    size: u64,
    /// Commands of qemu-io.
    filled: &'a [&'a str],
    /// Bytes of a backing file.
    backing: Option<u64>,
    snapshot: bool,
    qcow2: Qcow2Options,
    direct: bool,
}

impl Default for Origin<'_> {
    fn default() -> Self {
        Origin {
            options: "",
            size: 4 << 20,
            filled: &[
                "write -q -P 0x11 0 4k",
                "write -q -P 0x12 100k 300k",
                "write -q -P 0x13 1M 128k",
                "write -q -z 1100k 20k",
                "write -q -P 0x14 3M 700k",
                "discard -q 3100k 200k",
            ],
            backing: None,
            snapshot: false,
            qcow2: Qcow2Options::default(),
            direct: false,
        }
    }
}

impl Origin<'_> {
    fn make(&self, dir: &Path) -> (PathBuf, Vec<u8>) {
        let path = dir.join("a.qcow2");
        let mut options = self.options.to_owned();
        if let Some(bytes) = self.backing {
            let base = dir.join("base.raw");
            let data: Vec<u8> = (0..bytes).map(|at| (at >> 9) as u8 | 1).collect();
            std::fs::write(&base, data).unwrap();
            let comma = if options.is_empty() { "" } else { "," };
            options += &format!("{comma}backing_file={},backing_fmt=raw", text(&base));
        }
        let options = options.replace("DIR", text(dir));
        create(&path, &options, self.size);
        for (number, command) in self.filled.iter().enumerate() {
            if number == 2 && self.snapshot {
                tool("qemu-img", &["snapshot", "-c", "one", text(&path)]);
            }
            tool(
                "qemu-io",
                &["-f", "qcow2", "-d", "unmap", "-c", command, text(&path)],
            );
        }
        check(&path);
        let raw = dir.join("filled.raw");
        tool(
            "qemu-img",
            &["convert", "-O", "raw", text(&path), text(&raw)],
        );
        let bytes = std::fs::read(&raw).unwrap();
        (path, bytes)
    }

    fn run(&self, batches: u64) {
        let dir = dir();
        let (path, bytes) = self.make(dir.path());
        let mut model = Model::new(&path, self.qcow2, bytes.clone(), seed(), self.direct);
        model.resizes = !(self.snapshot && self.options.contains("0.10"));
        model.compare();
        model.run(batches * scale());
        if self.snapshot {
            tool("qemu-img", &["snapshot", "-a", "one", text(&path)]);
            check(&path);
            let at_snapshot = Origin {
                filled: &self.filled[..2],
                snapshot: false,
                ..*self
            };
            let again = tempfile::tempdir().unwrap();
            let (other, _) = at_snapshot.make(again.path());
            tool("qemu-img", &["compare", "-q", text(&path), text(&other)]);
        }
    }
}

fn run(options: &str, batches: u64) {
    let origin = Origin {
        options,
        ..Origin::default()
    };
    origin.run(batches);
}

#[test]
fn random_requests_on_a_default_image() {
    run("", 250);
}

#[test]
fn random_requests_on_small_clusters() {
    run("cluster_size=512,refcount_bits=64", 120);
}

#[test]
fn random_requests_on_large_clusters() {
    run("cluster_size=2M,refcount_bits=8", 60);
}

#[test]
fn random_requests_on_subclusters() {
    run("extended_l2=on,cluster_size=16k", 200);
}

#[test]
fn random_requests_with_lazy_refcounts() {
    run("lazy_refcounts=on,cluster_size=4k,refcount_bits=1", 120);
}

#[test]
fn random_requests_on_version_2() {
    run("compat=0.10,cluster_size=8k", 150);
}

#[test]
fn random_requests_on_preallocated_images() {
    run(
        "preallocation=metadata,cluster_size=32k,refcount_bits=32",
        150,
    );
    run("preallocation=falloc,extended_l2=on", 100);
}

#[test]
fn random_requests_over_a_backing_file() {
    for options in [
        "",
        "extended_l2=on,cluster_size=32k",
        "compat=0.10",
        "cluster_size=1k,refcount_bits=4",
    ] {
        let origin = Origin {
            options,
            backing: Some((2 << 20) + 5 * 512),
            ..Origin::default()
        };
        origin.run(60);
    }
}

#[test]
fn random_requests_over_compressed_clusters() {
    for options in [
        "",
        "compression_type=zstd,cluster_size=16k",
        "cluster_size=4k,compat=0.10",
        "extended_l2=on",
    ] {
        let origin = Origin {
            options,
            filled: &[
                "write -q -c -P 0x21 0 64k",
                "write -q -c -P 0x22 512k 1M",
                "write -q -c -P 0x23 2M 1M",
                "write -q -P 0x24 3M 64k",
            ],
            ..Origin::default()
        };
        origin.run(60);
    }
}

#[test]
fn random_requests_beside_a_snapshot() {
    for options in [
        "",
        "extended_l2=on,cluster_size=16k",
        "compat=0.10,cluster_size=4k",
    ] {
        let origin = Origin {
            options,
            snapshot: true,
            ..Origin::default()
        };
        origin.run(60);
    }
}

#[test]
fn random_requests_with_a_data_file() {
    for options in [
        "data_file=DIR/a.data",
        "data_file=DIR/a.data,data_file_raw=on",
        "data_file=DIR/a.data,extended_l2=on,cluster_size=16k",
    ] {
        let origin = Origin {
            options,
            ..Origin::default()
        };
        origin.run(60);
    }
}

#[test]
fn random_requests_with_little_memory() {
    let origin = Origin {
        options: "cluster_size=512",
        qcow2: Qcow2Options {
            l2_cache_size: Some(2048),
            l2_cache_entry_size: Some(512),
            refcount_cache_size: Some(1024),
            ..Qcow2Options::default()
        },
        ..Origin::default()
    };
    origin.run(200);
}

#[test]
fn random_requests_whose_discards_keep_their_place() {
    let origin = Origin {
        qcow2: Qcow2Options {
            discard_no_unref: Some(true),
            pass_discard_other: Some(true),
            ..Qcow2Options::default()
        },
        ..Origin::default()
    };
    origin.run(150);
}

#[test]
fn random_requests_past_the_page_cache() {
    for options in ["", "cluster_size=512"] {
        let origin = Origin {
            options,
            direct: true,
            ..Origin::default()
        };
        origin.run(100);
    }
}

#[test]
fn a_table_that_the_file_ends_in_is_whole() {
    let dir = dir();
    let path = dir.path().join("a.qcow2");
    create(&path, "", 1 << 30);
    tool(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -q -z 0 64k", text(&path)],
    );
    // Only what was ever written of the last cluster, which is the table.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(0x4_0000 + 4096).unwrap();
    drop(file);
    let disk = Disk::open(&path);
    assert_eq!(disk.read(500 << 20, 4096), vec![0; 4096]);
    disk.node.write_at(400 << 20, &[3; 4096]).unwrap();
    assert_eq!(disk.read(400 << 20, 4096), vec![3; 4096]);
    disk.close();
    check(&path);
}

#[test]
fn memory_for_tables_is_as_asked_for() {
    let dir = dir();
    let path = dir.path().join("a.qcow2");
    create(&path, "cluster_size=4k", 64 << 20);
    for (options, said) in [
        (
            Qcow2Options {
                cache_size: Some(1 << 20),
                l2_cache_size: Some(1 << 19),
                refcount_cache_size: Some(1 << 19),
                ..Qcow2Options::default()
            },
            "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
        ),
        (
            Qcow2Options {
                cache_size: Some(1 << 20),
                l2_cache_size: Some(1 << 21),
                ..Qcow2Options::default()
            },
            "l2-cache-size may not exceed cache-size",
        ),
        (
            Qcow2Options {
                cache_size: Some(1 << 20),
                refcount_cache_size: Some(1 << 21),
                ..Qcow2Options::default()
            },
            "refcount-cache-size may not exceed cache-size",
        ),
        (
            Qcow2Options {
                l2_cache_entry_size: Some(8192),
                ..Qcow2Options::default()
            },
            "L2 cache entry size must be a power of two between 512 and the cluster size (4096)",
        ),
    ] {
        let refused = Disk::open_spec(spec(&path, options, false));
        assert_eq!(refused.err().unwrap().to_string(), said);
    }
    let options = Qcow2Options {
        cache_size: Some(64 << 10),
        ..Qcow2Options::default()
    };
    let disk = Disk::open_spec(spec(&path, options, false)).unwrap();
    for at in 0..64 {
        disk.node.write_at(at << 20, &[at as u8; 512]).unwrap();
    }
    for at in 0..64 {
        assert_eq!(disk.read(at << 20, 512), vec![at as u8; 512]);
    }
    disk.close();
    check(&path);
}

#[path = "meet_test.rs"]
mod meet;
