//! The file drivers on real files, with each engine, and beside the real QEMU tools.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::host_tests::large_blocks;
use super::*;
use crate::node::NodeExt;
use crate::pool::test_pool;
use crate::{
    Account, AttachOptions, DetectZeroes, Discard, Done, DriverSpec, Durability, Graph, IoReq,
    NodeSpec, Op, Sharing, Token, Unmap,
};

const SIZE: u64 = 4 << 20;

fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
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

fn spec(path: &Path, aio: Aio, direct: bool) -> NodeSpec {
    let mut spec = NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio,
        locking: Locking::Auto,
    }));
    spec.direct = Some(direct);
    spec.named("f")
}

/// A node alone, and the graph that keeps it.
fn node(spec: NodeSpec) -> (Graph, Arc<dyn BlockNode>) {
    let graph = Graph::new(test_pool());
    graph.add(spec, &mut opener).unwrap();
    let node = graph.find("f").unwrap();
    (graph, node)
}

const ENGINES: [(Aio, bool); 5] = [
    (Aio::Threads, false),
    (Aio::Threads, true),
    (Aio::Native, true),
    (Aio::IoUring, false),
    (Aio::IoUring, true),
];

/// A lane with its waker.
struct Way {
    lane: Box<dyn IoLane>,
    waker: Waker,
}

impl std::ops::Deref for Way {
    type Target = dyn IoLane;

    fn deref(&self) -> &Self::Target {
        &*self.lane
    }
}

impl std::ops::DerefMut for Way {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.lane
    }
}

fn way(node: &dyn BlockNode, depth: u32) -> Way {
    let waker = Waker::new().unwrap();
    let lane = node.open_lane(depth, &waker).unwrap();
    Way { lane, waker }
}

/// Waits for all that is in flight.
fn finish(lane: &mut Way) -> HashMap<u64, Done> {
    let mut all = Vec::new();
    lane.start();
    while lane.in_flight() > 0 {
        lane.waker.wait();
        lane.waker.clear();
        lane.reap(&mut all);
    }
    all.into_iter().map(|done| (done.token.0, done)).collect()
}

fn run(lane: &mut Way, op: Op, buffers: Buffers) -> Done {
    match lane.submit(IoReq::new(op, buffers), Token(7)) {
        Some(done) => done,
        None => finish(lane).remove(&7).unwrap(),
    }
}

fn write(lane: &mut Way, offset: u64, data: &[u8]) -> io::Result<()> {
    let buffers = Buffers::owned(HostBuffer::from_bytes(data, 4096));
    let op = Op::Write {
        offset,
        durability: Durability::Cached,
    };
    run(lane, op, buffers).result
}

fn read(lane: &mut Way, offset: u64, len: usize) -> Vec<u8> {
    let memory = HostBuffer::from_bytes(&vec![0xee; len], 4096);
    let done = run(lane, Op::Read { offset }, Buffers::owned(memory.clone()));
    done.result.unwrap();
    memory.to_vec()
}

/// Two pieces of one allocation that no direct I/O takes as they are.
#[allow(unsafe_code)] // parts of an allocation that is the keeper
fn crooked(data: &[u8]) -> (Arc<HostBuffer>, Buffers) {
    let memory = Arc::new(HostBuffer::new(data.len() + 64, 4096));
    let whole = Buffers::owned(memory.clone());
    let first = (data.len() / 3) | 1;
    let base = whole.parts()[0].address() as *mut u8;
    let mut buffers = Buffers::new();
    buffers.begin(memory.clone());
    // SAFETY: both pieces are inside the allocation, which is the keeper.
    unsafe {
        buffers.push(base.add(3), first);
        buffers.push(base.add(3 + first + 11), data.len() - first);
    }
    buffers.write_at(0, data);
    (memory, buffers)
}

#[test]
fn every_engine_reads_writes_and_flushes() {
    for (aio, direct) in ENGINES {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = node(spec(&path, aio, direct));
        let mut lane = way(&*node, 16);
        let data: Vec<u8> = (0..8192u32).map(|n| (n / 7) as u8).collect();
        write(&mut lane, 4096, &data).unwrap();
        assert_eq!(read(&mut lane, 4096, 8192), data, "{aio:?} {direct}");
        assert_eq!(read(&mut lane, 512, 512), [0; 512]);
        run(&mut lane, Op::Flush, Buffers::new()).result.unwrap();
        let durable = Op::Write {
            offset: 512,
            durability: Durability::Durable,
        };
        let buffers = Buffers::owned(HostBuffer::from_bytes(&[9; 512], 4096));
        run(&mut lane, durable, buffers).result.unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[512..1024], [9; 512]);
        node.flush().unwrap();
        let stats = _graph.node("f").unwrap().stats;
        assert_eq!(stats.counts(Account::Write).operations, 2);
        assert_eq!(stats.counts(Account::Write).bytes, 8192 + 512);
        assert_eq!(stats.counts(Account::Flush).operations, 2);
        assert_eq!(stats.highest_offset(), 4096 + 8192);
    }
}

#[test]
fn memory_that_direct_io_refuses_is_taken_all_the_same() {
    for (aio, direct) in ENGINES {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = node(spec(&path, aio, direct));
        let mut lane = way(&*node, 16);
        let data: Vec<u8> = (0..3 << 20).map(|n: u32| (n / 11) as u8).collect();
        let (_, buffers) = crooked(&data);
        let op = Op::Write {
            offset: 1536,
            durability: Durability::Durable,
        };
        run(&mut lane, op, buffers).result.unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[1536..][..data.len()], data);
        let (_, buffers) = crooked(&vec![0; data.len()]);
        let done = run(&mut lane, Op::Read { offset: 1536 }, buffers);
        done.result.unwrap();
        let mut back = vec![0; data.len()];
        done.request.buffers.read_at(0, &mut back);
        assert!(back == data, "{aio:?} {direct}");
    }
}

#[test]
fn more_parts_than_one_call_takes() {
    for (aio, direct) in ENGINES {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = node(spec(&path, aio, direct));
        let mut lane = way(&*node, 4);
        let memory = HostBuffer::from_bytes(&[5; 512 * 1500], 4096);
        let whole = Buffers::owned(memory.clone());
        let mut buffers = Buffers::new();
        buffers.begin(memory);
        for part in 0..1500 {
            let base = whole.parts()[0].address() as *mut u8;
            // SAFETY: inside the allocation, which is the keeper.
            #[allow(unsafe_code)]
            unsafe {
                buffers.push(base.add(512 * part), 512);
            }
        }
        let op = Op::Write {
            offset: 0,
            durability: Durability::Cached,
        };
        run(&mut lane, op, buffers).result.unwrap();
        assert_eq!(
            read(&mut lane, 512 * 1499, 1024),
            [[5; 512], [0; 512]].concat()
        );
    }
}

#[test]
fn more_requests_than_the_lane_is_deep_all_end() {
    for (aio, direct) in ENGINES {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = node(spec(&path, aio, direct));
        let mut lane = way(&*node, 4);
        for n in 0..200u64 {
            let buffers = Buffers::owned(HostBuffer::from_bytes(&[n as u8; 4096], 4096));
            let op = Op::Write {
                offset: n * 4096,
                durability: Durability::Cached,
            };
            assert!(lane.submit(IoReq::new(op, buffers), Token(n)).is_none());
            if n % 7 == 0 {
                lane.start();
            }
        }
        let done = finish(&mut lane);
        assert_eq!(done.len(), 200);
        assert!(done.values().all(|done| done.result.is_ok()));
        let bytes = std::fs::read(&path).unwrap();
        for n in 0..200usize {
            assert_eq!(
                bytes[n * 4096..][..4096],
                [n as u8; 4096],
                "{aio:?} {direct}"
            );
        }
    }
}

#[test]
fn a_dropped_lane_leaves_nothing_in_flight() {
    for (aio, direct) in ENGINES {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = node(spec(&path, aio, direct));
        let memory = Arc::new(HostBuffer::new(1 << 20, 4096));
        let mut lane = way(&*node, 8);
        for n in 0..8 {
            let buffers = Buffers::owned(memory.clone());
            assert!(
                lane.submit(IoReq::new(Op::Read { offset: 0 }, buffers), Token(n))
                    .is_none()
            );
        }
        lane.start();
        drop(lane);
        assert_eq!(Arc::strong_count(&memory), 1, "{aio:?} {direct}");
    }
}

#[test]
fn the_rest_of_the_last_sector_is_zeroes() {
    for (aio, direct) in ENGINES {
        let dir = dir();
        let path = dir.path().join("odd.img");
        std::fs::write(&path, [7; 1000]).unwrap();
        let (_graph, node) = node(spec(&path, aio, direct));
        assert_eq!(node.info().size, 1024);
        let mut lane = way(&*node, 4);
        let expected = [vec![7; 1000], vec![0; 24]].concat();
        assert_eq!(read(&mut lane, 0, 1024), expected, "{aio:?} {direct}");
        write(&mut lane, 512, &[1; 512]).unwrap();
        assert_eq!(read(&mut lane, 512, 512), [1; 512]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
        let outside = write(&mut lane, 1024, &[1; 512]).unwrap_err();
        assert_eq!(outside.raw_os_error(), Some(libc::EIO));
        assert!(write(&mut lane, u64::MAX - 511, &[1; 512]).is_err());
    }
}

#[test]
fn zeroes_and_discards_change_what_is_read_and_what_is_stored() {
    for (aio, direct) in ENGINES {
        for discard in [Discard::Ignore, Discard::Unmap] {
            let dir = dir();
            let path = image(&dir);
            let mut spec = spec(&path, aio, direct);
            spec.discard = Some(discard);
            let (_graph, node) = node(spec);
            let mut lane = way(&*node, 4);
            write(&mut lane, 0, &[1; 1 << 20]).unwrap();
            node.flush().unwrap();
            let full = node.allocated().unwrap();
            assert!(full >= 1 << 20);
            let zeroes = |offset, len, unmap| Op::WriteZeroes {
                offset,
                len,
                unmap,
                durability: Durability::Durable,
            };
            let keep = zeroes(512, 1024, Unmap::Keep);
            run(&mut lane, keep, Buffers::new()).result.unwrap();
            assert_eq!(read(&mut lane, 0, 512), [1; 512]);
            assert_eq!(read(&mut lane, 512, 1024), [0; 1024]);
            assert_eq!(read(&mut lane, 1536, 512), [1; 512]);
            let may = zeroes(64 << 10, 64 << 10, Unmap::May);
            run(&mut lane, may, Buffers::new()).result.unwrap();
            assert_eq!(read(&mut lane, 64 << 10, 64 << 10), vec![0; 64 << 10]);
            let op = Op::Discard {
                offset: 512 << 10,
                len: 256 << 10,
            };
            run(&mut lane, op, Buffers::new()).result.unwrap();
            let left = node.allocated().unwrap();
            match discard {
                Discard::Ignore => assert_eq!(read(&mut lane, 512 << 10, 512), [1; 512]),
                Discard::Unmap => assert!(left <= full - (320 << 10), "{left} of {full}"),
            }
        }
    }
}

#[test]
fn written_zeroes_are_detected() {
    let dir = dir();
    let path = image(&dir);
    let mut spec = spec(&path, Aio::Threads, false);
    spec.discard = Some(Discard::Unmap);
    spec.detect_zeroes = DetectZeroes::Unmap;
    let (_graph, node) = node(spec);
    let mut lane = way(&*node, 4);
    write(&mut lane, 0, &[1; 1 << 20]).unwrap();
    write(&mut lane, 0, &[0; 512 << 10]).unwrap();
    assert_eq!(read(&mut lane, 0, 4096), [0; 4096]);
    assert!(node.allocated().unwrap() <= 520 << 10);
}

#[test]
fn what_is_read_only_is_not_written() {
    let dir = dir();
    let path = image(&dir);
    let mut spec = spec(&path, Aio::Threads, false);
    spec.read_only = Some(true);
    let (_graph, node) = node(spec);
    let mut lane = way(&*node, 4);
    let refused = write(&mut lane, 0, &[1; 512]).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    run(&mut lane, Op::Flush, Buffers::new()).result.unwrap();
    assert!(matches!(node.resize(0), Err(BlockError::ReadOnly)));
}

#[test]
fn a_file_that_fell_back_is_read_only() {
    let dir = dir();
    let path = image(&dir);
    let mut spec = spec(&path, Aio::Threads, false);
    spec.auto_read_only = Some(true);
    let mut refusing = |path: &str, flags: i32| match flags & libc::O_ACCMODE {
        libc::O_RDWR => Err(io::Error::from_raw_os_error(libc::EROFS)),
        _ => opener(path, flags),
    };
    let graph = Graph::new(test_pool());
    graph.add(spec.clone(), &mut refusing).unwrap();
    assert!(graph.find("f").unwrap().info().read_only);
    spec.auto_read_only = None;
    let error = graph
        .add(spec.named("g"), &mut refusing)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("Read-only file system"), "{error}");
}

#[test]
fn sizes_change() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = node(spec(&path, Aio::Threads, false));
    let mut lane = way(&*node, 4);
    assert!(write(&mut lane, SIZE, &[1; 512]).is_err());
    node.resize(SIZE + 512).unwrap();
    write(&mut lane, SIZE, &[1; 512]).unwrap();
    node.resize(512).unwrap();
    assert!(write(&mut lane, 512, &[1; 512]).is_err());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 512);
}

#[test]
fn a_window_is_all_that_is_seen() {
    for (offset, direct) in [(1536, true), (1000, false)] {
        let dir = dir();
        let path = image(&dir);
        let (graph, _) = node(spec(&path, Aio::Threads, direct));
        let window = crate::RawWindow {
            offset,
            size: Some(1024),
        };
        let file = Box::new(crate::ChildSpec::Reference("f".into()));
        let raw = NodeSpec::new(DriverSpec::Raw {
            file,
            window,
            probed: false,
        })
        .named("w");
        graph.add(raw, &mut opener).unwrap();
        let mut lane = way(&*graph.find("w").unwrap(), 1);
        write(&mut lane, 512, &[1; 512]).unwrap();
        assert!(write(&mut lane, 1024, &[1; 512]).is_err());
        let at = offset as usize + 512;
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[at..at + 512], [1; 512]);
        assert_eq!((bytes[at - 1], bytes[at + 512]), (0, 0));
        assert_eq!(
            graph.find("w").unwrap().resize(0).unwrap_err().to_string(),
            "Cannot resize fixed-size raw disks"
        );
    }
}

/// A lane on a file whose host is said to have blocks of 4096 bytes.
fn coarse(path: &Path, aio: Aio) -> (Arc<HostFile>, Way) {
    let file = opener(path.to_str().unwrap(), libc::O_RDWR | libc::O_DIRECT).unwrap();
    let host = Arc::new(HostFile {
        aio,
        ..large_blocks(file, true)
    });
    let lane = coarse_lane(&host);
    (host, lane)
}

fn coarse_lane(host: &Arc<HostFile>) -> Way {
    let waker = Waker::new().unwrap();
    let lane = FileLane::open(host.clone(), &test_pool(), 32, &waker).unwrap();
    Way {
        lane: Box::new(lane),
        waker,
    }
}

#[test]
fn sectors_of_one_block_written_at_once_are_all_kept() {
    for aio in [Aio::Threads, Aio::Native, Aio::IoUring] {
        let dir = dir();
        let path = image(&dir);
        let (host, mut one) = coarse(&path, aio);
        let mut two = coarse_lane(&host);
        for n in 0..64u64 {
            let buffers = Buffers::owned(HostBuffer::from_bytes(&[n as u8 + 1; 512], 4096));
            let op = Op::Write {
                offset: n * 512,
                durability: Durability::Cached,
            };
            let lane = if n % 2 == 0 { &mut one } else { &mut two };
            assert!(lane.submit(IoReq::new(op, buffers), Token(n)).is_none());
        }
        let mut done = Vec::new();
        while one.in_flight() + two.in_flight() > 0 {
            for lane in [&mut one, &mut two] {
                lane.start();
                lane.reap(&mut done);
            }
        }
        assert_eq!(done.len(), 64);
        let bytes = std::fs::read(&path).unwrap();
        for n in 0..64usize {
            assert_eq!(bytes[n * 512..][..512], [n as u8 + 1; 512], "{aio:?} {n}");
        }
    }
}

#[test]
fn a_file_that_ends_inside_of_a_block_keeps_its_size() {
    let dir = dir();
    let path = dir.path().join("short.img");
    std::fs::write(&path, [3; 1024]).unwrap();
    let (_host, mut lane) = coarse(&path, Aio::Threads);
    write(&mut lane, 512, &[4; 512]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [[3; 512], [4; 512]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is done to a file, it reads as an array of bytes to which the same was done.
    #[test]
    fn a_file_is_an_array_of_sectors(
        engine in 0usize..ENGINES.len(),
        coarse_blocks in any::<bool>(),
        steps in proptest::collection::vec((0u8..4, 0u64..60, 1u64..8, any::<u8>()), 1..25),
    ) {
        let (aio, direct) = ENGINES[engine];
        let dir = dir();
        let path = image(&dir);
        let mut plain = spec(&path, aio, direct);
        plain.discard = Some(Discard::Unmap);
        let (_graph, node) = node(plain);
        let mut lane = match coarse_blocks && direct {
            true => coarse(&path, aio).1,
            false => way(&*node, 4),
        };
        let mut model = vec![0u8; SIZE as usize];
        for (what, sector, count, value) in steps {
            let (offset, len) = (sector * 512, count * 512);
            let range = offset as usize..(offset + len) as usize;
            match what {
                0 => {
                    write(&mut lane, offset, &vec![value; len as usize]).unwrap();
                    model[range].fill(value);
                }
                1 => {
                    let (_, buffers) = crooked(&vec![value; len as usize]);
                    let op = Op::Write { offset, durability: Durability::Durable };
                    run(&mut lane, op, buffers).result.unwrap();
                    model[range].fill(value);
                }
                2 => {
                    let unmap = if value % 2 == 0 { Unmap::May } else { Unmap::Keep };
                    let op = Op::WriteZeroes { offset, len, unmap, durability: Durability::Cached };
                    run(&mut lane, op, Buffers::new()).result.unwrap();
                    model[range].fill(0);
                }
                _ => prop_assert_eq!(&read(&mut lane, offset, len as usize), &model[range]),
            }
        }
        prop_assert!(read(&mut lane, 0, 128 << 10) == model[..128 << 10]);
    }
}

fn tool(name: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(name).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn writer(sharing: Sharing) -> AttachOptions {
    AttachOptions {
        sharing,
        read_only: false,
    }
}

#[test]
fn qemu_tools_respect_our_locks() {
    let dir = dir();
    let path = image(&dir);
    let text = path.to_str().unwrap();
    let write = ["-f", "raw", "-c", "write -P 7 0 512", text];
    let Some((ok, output)) = tool("qemu-io", &write) else {
        eprintln!("There is no qemu-io here");
        return;
    };
    assert!(ok, "{output}");
    let (graph, node) = node(spec(&path, Aio::Threads, false));
    let mut lane = way(&*node, 1);
    assert_eq!(
        read(&mut lane, 0, 512),
        [7; 512],
        "what it wrote is read here"
    );
    // Nobody uses the node, so nothing is locked.
    assert!(tool("qemu-io", &write).unwrap().0);
    let device = graph.attach("f", "d", writer(Sharing::Exclusive)).unwrap();
    let (ok, output) = tool("qemu-io", &write).unwrap();
    assert!(
        !ok && output.contains("Failed to get \"write\" lock"),
        "{output}"
    );
    let (ok, output) = tool("qemu-img", &["resize", "-f", "raw", text, "8M"]).unwrap();
    assert!(!ok && output.contains("lock"), "{output}");
    assert!(
        tool("qemu-io", &["-r", "-f", "raw", "-c", "read 0 512", text])
            .unwrap()
            .0
    );
    drop(device);
    assert!(tool("qemu-io", &write).unwrap().0);
}

/// A program that is ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A qemu-storage-daemon that exports the image, and with that holds its locks.
fn daemon(path: &Path, writable: &str) -> Option<Daemon> {
    let socket = path.with_extension("socket");
    let child = Command::new("qemu-storage-daemon")
        .arg("--blockdev")
        .arg(format!(
            "driver=file,node-name=f,filename={}",
            path.display()
        ))
        .arg("--nbd-server")
        .arg(format!("addr.type=unix,addr.path={}", socket.display()))
        .arg("--export")
        .arg(format!("type=nbd,id=e,node-name=f,writable={writable}"))
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let daemon = Daemon(child);
    let file = File::open(path).unwrap();
    for _ in 0..500 {
        if sys::is_locked_by_other(&file, 100).unwrap() {
            return Some(daemon);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("qemu-storage-daemon does not lock the image");
}

#[test]
fn we_respect_the_locks_of_qemu_storage_daemon() {
    let dir = dir();
    let path = image(&dir);
    let Some(running) = daemon(&path, "on") else {
        eprintln!("There is no qemu-storage-daemon here");
        return;
    };
    let (graph, _node) = node(spec(&path, Aio::Threads, false));
    let error = graph
        .attach("f", "d", writer(Sharing::Exclusive))
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "Failed to get shared \"write\" lock");
    let hint = error.hint().unwrap();
    let expected = format!("Is another process using the image [{}]?", path.display());
    assert_eq!(hint, expected);
    // It lets others write, so two who share get along.
    drop(graph.attach("f", "d", writer(Sharing::Writers)).unwrap());
    drop(running);
    let running = daemon(&path, "off").unwrap();
    graph.attach("f", "d", writer(Sharing::Exclusive)).unwrap();
    drop(running);
    graph.attach("f", "d", writer(Sharing::Exclusive)).unwrap();
}

/// A loop device on the image; gone with the test.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = tool("losetup", &["--detach", &self.0]);
    }
}

fn loop_device(path: &Path, sector: &str) -> Option<Loop> {
    let arguments = [
        "--find",
        "--show",
        "--sector-size",
        sector,
        path.to_str().unwrap(),
    ];
    let (ok, output) = tool("losetup", &arguments)?;
    if !ok {
        eprintln!("There are no loop devices here: {output}");
        return None;
    }
    Some(Loop(output.trim().to_owned()))
}

#[test]
fn devices_of_the_host_are_disks() {
    for (sector, direct) in [
        ("512", false),
        ("512", true),
        ("4096", true),
        ("4096", false),
    ] {
        for aio in [Aio::Threads, Aio::Native, Aio::IoUring] {
            if aio == Aio::Native && !direct {
                continue;
            }
            let dir = dir();
            let path = image(&dir);
            let Some(device) = loop_device(&path, sector) else {
                return;
            };
            let mut spec = spec(device.0.as_ref(), aio, direct);
            spec.driver = match spec.driver {
                DriverSpec::File(file) => DriverSpec::HostDevice(file),
                other => other,
            };
            spec.discard = Some(Discard::Unmap);
            let (graph, node) = node(spec);
            assert_eq!(node.info().size, SIZE);
            let mut lane = way(&*node, 16);
            let data: Vec<u8> = (0..16384u32).map(|n| (n / 7) as u8 | 1).collect();
            write(&mut lane, 4096, &data).unwrap();
            // Part of a block, for which the rest has to be read.
            write(&mut lane, 4608, &[9; 512]).unwrap();
            run(&mut lane, Op::Flush, Buffers::new()).result.unwrap();
            let mut expected = data.clone();
            expected[512..1024].fill(9);
            assert_eq!(
                read(&mut lane, 4096, 16384),
                expected,
                "{sector} {direct} {aio:?}"
            );
            for unmap in [Unmap::Keep, Unmap::May] {
                let zeroes = Op::WriteZeroes {
                    offset: 8192,
                    len: 4096,
                    unmap,
                    durability: Durability::Durable,
                };
                run(&mut lane, zeroes, Buffers::new()).result.unwrap();
                assert_eq!(read(&mut lane, 8192, 4096), [0; 4096]);
                write(&mut lane, 8192, &[1; 4096]).unwrap();
            }
            // Half a block of zeroes; no device has a command for it.
            let zeroes = Op::WriteZeroes {
                offset: 8192,
                len: 512,
                unmap: Unmap::May,
                durability: Durability::Cached,
            };
            run(&mut lane, zeroes, Buffers::new()).result.unwrap();
            let half = [vec![0; 512], vec![1; 512]].concat();
            assert_eq!(
                read(&mut lane, 8192, 1024),
                half,
                "{sector} {direct} {aio:?}"
            );
            let discard = Op::Discard {
                offset: 12288,
                len: 4096,
            };
            run(&mut lane, discard, Buffers::new()).result.unwrap();
            let outside = write(&mut lane, SIZE, &[1; 512]).unwrap_err();
            assert_eq!(outside.raw_os_error(), Some(libc::EIO));
            assert!(node.resize(SIZE + 512).is_err());
            let attached = graph.attach("f", "d", writer(Sharing::Exclusive)).unwrap();
            if let Some((ok, output)) = tool("qemu-io", &["-f", "raw", "-c", "quit", &device.0]) {
                assert!(!ok && output.contains("\"write\" lock"), "{output}");
            }
            drop((attached, lane, node, graph));
        }
    }
}
