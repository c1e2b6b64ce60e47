//! A program that writes an image is killed at any moment; what was flushed is there, and the
//! image is whole.
//!
//! The writer is this very test program, started again. What it does follows from a number, so
//! that whoever kills it knows what it may have done; it tells of each flush that has ended.
//! `BLOCK_TEST_KILLS` is how often it is killed in all.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::peer::{Below, Bench, file, image_with, is_here};
use crate::node::{BlockNode, IoLane, NodeExt};
use crate::{Buffers, Durability, HostBuffer, IoReq, Op, Token, Unmap, Waker};

const SECTOR: u64 = 512;
const SIZE: u64 = 3 << 20;
const SECTORS: usize = (SIZE / SECTOR) as usize;
const KILLS: usize = 308;

/// An image to be written.
struct Kind {
    options: &'static str,
    made: Made,
    /// Each write is durable when it has ended.
    through: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Empty,
    /// Over another image.
    Backed,
    /// Full of compressed clusters.
    Compressed,
    /// With an internal snapshot that shares its clusters.
    Snapshot,
    /// With a data file.
    Data,
}

const fn kind(options: &'static str, made: Made, through: bool) -> Kind {
    Kind {
        options,
        made,
        through,
    }
}

const KINDS: [Kind; 14] = [
    kind("cluster_size=64k", Made::Empty, false),
    kind("cluster_size=64k", Made::Empty, true),
    kind("lazy_refcounts=on", Made::Empty, false),
    kind("lazy_refcounts=on", Made::Snapshot, true),
    kind("extended_l2=on", Made::Empty, false),
    kind("extended_l2=on,cluster_size=16k", Made::Backed, true),
    kind("cluster_size=64k", Made::Backed, false),
    kind("cluster_size=512", Made::Empty, false),
    kind("cluster_size=4k,refcount_bits=64", Made::Backed, true),
    kind("compat=0.10", Made::Empty, false),
    kind(
        "cluster_size=8k,compression_type=zstd",
        Made::Compressed,
        false,
    ),
    kind("cluster_size=4k", Made::Snapshot, false),
    kind("preallocation=metadata", Made::Empty, true),
    kind("cluster_size=64k", Made::Data, false),
];

/// A generator of numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Write,
    Zero(Unmap),
    Discard,
}

/// A request: sectors, and what they are to have.
#[derive(Debug, Clone, Copy)]
struct Act {
    what: What,
    first: usize,
    count: usize,
    tag: u64,
}

/// What is done at once, and whether a flush follows.
struct Batch {
    acts: Vec<Act>,
    flush: bool,
}

/// Everything that the writer does, in order.
struct Script {
    dice: Dice,
    tag: u64,
}

impl Script {
    fn new(seed: u64) -> Self {
        Script {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            // Different from what any other run writes.
            tag: seed << 32,
        }
    }

    fn batch(&mut self) -> Batch {
        let mut acts: Vec<Act> = Vec::new();
        for _ in 0..=self.dice.roll(6) {
            let first = self.dice.roll(SECTORS as u64) as usize;
            let most = if self.dice.roll(4) == 0 { 300 } else { 9 };
            let count = 1 + self.dice.roll(most) as usize;
            let count = count.min(SECTORS - first);
            let what = match self.dice.roll(12) {
                0 => What::Zero(Unmap::Keep),
                1 => What::Zero(Unmap::May),
                2 => What::Discard,
                _ => What::Write,
            };
            let overlaps = |act: &Act| first < act.first + act.count && act.first < first + count;
            if acts.iter().any(overlaps) {
                continue;
            }
            self.tag += 1;
            acts.push(Act {
                what,
                first,
                count,
                tag: if what == What::Write { self.tag } else { 0 },
            });
        }
        let flush = self.dice.roll(3) == 0;
        Batch { acts, flush }
    }
}

impl Act {
    fn request(&self, durability: Durability) -> (Op, Buffers) {
        let (offset, len) = (self.first as u64 * SECTOR, self.count as u64 * SECTOR);
        match self.what {
            What::Write => {
                let data = self.tag.to_le_bytes().repeat(len as usize / 8);
                let data = Buffers::owned(HostBuffer::from_bytes(&data, 4096));
                (Op::Write { offset, durability }, data)
            }
            What::Zero(unmap) => {
                let op = Op::WriteZeroes {
                    offset,
                    len,
                    unmap,
                    durability,
                };
                (op, Buffers::new())
            }
            What::Discard => (Op::Discard { offset, len }, Buffers::new()),
        }
    }
}

/// The writer, when it is started as such: goes on until it is killed.
#[test]
fn writer() {
    let Ok(text) = std::env::var("BLOCK_TEST_WRITER") else {
        return;
    };
    let mut words = text.split(' ');
    let seed: u64 = words.next().unwrap().parse().unwrap();
    let kind = &KINDS[words.next().unwrap().parse::<usize>().unwrap()];
    let folder = Path::new(words.next().unwrap());
    let node = open(folder, kind.made, false);
    let waker = Waker::new().unwrap();
    let mut lane = node.open_lane(16, &waker).unwrap();
    let mut script = Script::new(seed);
    let durability = match kind.through {
        true => Durability::Durable,
        false => Durability::Cached,
    };
    println!("@ready");
    for number in 0.. {
        let batch = script.batch();
        match seed % 3 {
            0 => batch.acts.iter().for_each(|act| {
                let (op, buffers) = act.request(durability);
                node.perform(op, &buffers).unwrap();
            }),
            _ => run(&mut *lane, &waker, &batch.acts, durability),
        }
        if batch.flush {
            node.flush().unwrap();
        }
        if batch.flush || kind.through {
            let mut out = std::io::stdout().lock();
            out.write_all(format!("@{number}\n").as_bytes()).unwrap();
            out.flush().unwrap();
        }
    }
}

fn run(lane: &mut dyn IoLane, waker: &Waker, acts: &[Act], durability: Durability) {
    let mut done = Vec::new();
    for (number, act) in acts.iter().enumerate() {
        let (op, buffers) = act.request(durability);
        done.extend(lane.submit(IoReq::new(op, buffers), Token(number as u64)));
    }
    lane.start();
    while lane.in_flight() > 0 {
        waker.wait();
        waker.clear();
        lane.reap(&mut done);
        lane.start();
    }
    assert_eq!(done.len(), acts.len());
    done.into_iter().for_each(|done| done.result.unwrap());
}

fn open(folder: &Path, made: Made, read_only: bool) -> Arc<dyn BlockNode> {
    let below = Below {
        data: (made == Made::Data).then(|| file(&folder.join("d"))),
        backing: (made == Made::Backed).then(|| file(&folder.join("base"))),
        read_only,
    };
    image_with(file(&folder.join("a")), below).unwrap()
}

fn make(bench: &Bench, kind: &Kind) {
    for name in ["a", "d"] {
        let _ = std::fs::remove_file(bench.path(name));
    }
    let size = SIZE.to_string();
    if kind.made == Made::Backed || kind.made == Made::Compressed {
        let pattern: Vec<u8> = (0..SIZE / 8)
            .flat_map(|at| (at / 64).to_le_bytes())
            .collect();
        std::fs::write(bench.path("base"), pattern).unwrap();
    }
    let data = format!("{},data_file=d", kind.options);
    let mut args = vec!["create", "-q", "-f", "qcow2", "-o", kind.options];
    match kind.made {
        Made::Empty | Made::Snapshot => args.extend(["a", &size]),
        Made::Backed => args.extend(["-b", "base", "-F", "raw", "a", &size]),
        Made::Data => {
            args[5] = &data;
            args.extend(["a", &size]);
        }
        Made::Compressed => {
            args = vec![
                "convert",
                "-c",
                "-f",
                "raw",
                "-O",
                "qcow2",
                "-o",
                kind.options,
            ];
            args.extend(["base", "a"]);
        }
    }
    bench.img(&args);
    if kind.made == Made::Snapshot {
        bench.io("a", &["write -P 7 0 1M", "write -P 9 2M 100k"]);
        bench.img(&["snapshot", "-c", "s", "a"]);
    }
}

/// The values that a sector may have: a tag, or something else.
type Values = Vec<u64>;

/// What the writer may have done.
struct Expected {
    sectors: Vec<Values>,
}

impl Expected {
    /// After `flushed` is known to be flushed, if anything is; the writer did no more than until
    /// two flushes later.
    fn after(now: &[u64], seed: u64, flushed: Option<u64>, through: bool) -> Self {
        let mut sectors: Vec<Values> = now.iter().map(|value| vec![*value]).collect();
        let mut script = Script::new(seed);
        let mut number = 0;
        let mut more = 2;
        loop {
            let batch = script.batch();
            let known = flushed.is_some_and(|last| number <= last);
            for act in &batch.acts {
                for values in &mut sectors[act.first..act.first + act.count] {
                    match act.what {
                        // It may stay as it was, and is anything then only by a write.
                        What::Discard => values.push(0),
                        What::Write | What::Zero(_) if known => *values = vec![act.tag],
                        What::Write | What::Zero(_) => values.push(act.tag),
                    }
                }
            }
            if !known && (batch.flush || through) {
                more -= 1;
                if more == 0 {
                    return Expected { sectors };
                }
            }
            number += 1;
        }
    }
}

/// The value of each sector; one that is not of one value has none.
fn values(bytes: &[u8]) -> Vec<u64> {
    let sectors = bytes.chunks_exact(SECTOR as usize);
    let value = |sector: &[u8]| {
        let (first, rest) = sector.split_at(8);
        let same = rest.chunks_exact(8).all(|word| word == first);
        match same {
            true => u64::from_le_bytes(first.try_into().unwrap()),
            false => u64::MAX,
        }
    };
    sectors.map(value).collect()
}

fn content(node: &dyn BlockNode) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    node.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Starts a writer, and kills it a while after it has told of so many flushes; the last one it
/// told of.
fn kill(bench: &Bench, seed: u64, kind: usize, flushes: usize, after: Duration) -> Option<u64> {
    let folder = bench.path("");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "format::qcow2::kill_tests::writer",
            "--exact",
            "--nocapture",
        ])
        .env(
            "BLOCK_TEST_WRITER",
            format!("{seed} {kind} {}", folder.to_str().unwrap()),
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("@ready"));
    assert!(ready, "the writer did not begin");
    let first: Vec<String> = lines.by_ref().map_while(Result::ok).take(flushes).collect();
    std::thread::sleep(after);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success(), "the writer ended on its own");
    assert_eq!(status.code(), None, "the writer failed");
    let told = first.into_iter().chain(lines.map_while(Result::ok));
    let numbers = told.filter_map(|line| line.strip_prefix('@')?.parse().ok());
    numbers.last()
}

fn look(bench: &Bench, kind: &Kind, with_qemu: bool, what: &str) -> Vec<u8> {
    let found = super::check::check(&*file(&bench.path("a")), crate::Repair::No).unwrap();
    let lazy = kind.options.contains("lazy");
    assert_eq!(found.check_errors, 0, "{what}: {found:?}");
    assert!(lazy || found.corruptions == 0, "{what}: {found:?}");
    let ours = content(&*open(&bench.path(""), kind.made, true));
    if !with_qemu {
        return ours;
    }
    let mut image = "a";
    if lazy {
        std::fs::copy(bench.path("a"), bench.path("copy")).unwrap();
        bench.img(&["check", "-q", "-f", "qcow2", "-r", "all", "copy"]);
        image = "copy";
    }
    let (code, report) = bench.check(image, &[]);
    assert!(code == 0 || code == 3, "{what}: {report}");
    bench.img(&["convert", "-f", "qcow2", "-O", "raw", image, "raw"]);
    let theirs = std::fs::read(bench.path("raw")).unwrap();
    assert!(ours == theirs, "{what}: QEMU reads something else");
    ours
}

#[test]
fn nothing_that_was_flushed_is_lost() {
    if !is_here() {
        return;
    }
    let kills = std::env::var("BLOCK_TEST_KILLS").ok();
    let kills: usize = kills.and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut seed = u64::from(std::process::id()) << 8;
    for (number, kind) in KINDS.iter().enumerate() {
        let bench = Bench::new();
        let mut told = 0u64;
        let mut now = Vec::new();
        for round in 0..kills.div_ceil(KINDS.len()) {
            // Several on the same image: what a kill leaves behind is written again.
            if round % 8 == 0 {
                make(&bench, kind);
                now = values(&content(&*open(&bench.path(""), kind.made, true)));
            }
            seed += 1;
            let mut dice = Dice(seed);
            let after = Duration::from_micros(dice.roll(8_000));
            let flushes = dice.roll(6) as usize;
            let what = format!("{} {number} round {round} seed {seed}", kind.options);
            let flushed = kill(&bench, seed, number, flushes, after);
            told += flushed.map_or(0, |last| last + 1);
            let bytes = look(&bench, kind, round % 3 == 0, &what);
            let expected = Expected::after(&now, seed, flushed, kind.through);
            now = values(&bytes);
            for (at, (value, allowed)) in now.iter().zip(&expected.sectors).enumerate() {
                assert!(
                    allowed.contains(value),
                    "{what}: sector {at} has {value:x}, not one of {allowed:x?} ({flushed:?})"
                );
            }
        }
        assert!(
            told > 0 || kills < KINDS.len() * 4,
            "{}: never flushed",
            kind.options
        );
    }
}
