//! Images that qemu-img makes, opened as a user opens them and compared byte by byte.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::graph::{ChildSpec, DriverSpec, FormatKind, FormatSpec, Graph, NodeSpec};
use crate::image::Specific;
use crate::node::{BlockNode, ExtentKind, NodeExt};
use crate::pool::test_pool;
use crate::request::{IoReq, Op, Token};
use crate::{Aio, Buffers, FileSpec, HostBuffer, Locking, Waker};

const MIB: u64 = 1 << 20;

fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

/// False, and a word on it, where qemu-img is missing.
fn has_qemu_img() -> bool {
    let there = Command::new("qemu-img").arg("--version").output().is_ok();
    if !there {
        println!("skipped: no qemu-img");
    }
    there
}

fn qemu_img(dir: &TempDir, args: &[&str]) -> String {
    let output = Command::new("qemu-img")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}{error}");
    text
}

fn file(path: &Path) -> Box<ChildSpec> {
    Box::new(ChildSpec::Inline(NodeSpec::new(DriverSpec::File(
        FileSpec {
            filename: path.to_str().unwrap().to_owned(),
            aio: Aio::Threads,
            // Programs that other tests are just starting would hold the locks a moment longer.
            locking: Locking::Off,
        },
    ))))
}

fn open(
    path: &Path,
    kind: Option<FormatKind>,
    read_only: bool,
) -> Result<(Graph, Arc<dyn BlockNode>), String> {
    let graph = Graph::new(test_pool());
    let mut spec = NodeSpec::new(match kind {
        Some(kind) => DriverSpec::Format(FormatSpec::new(kind, *file(path))),
        None => DriverSpec::Probe { file: file(path) },
    });
    spec.read_only = Some(read_only);
    graph
        .add(spec.named("image"), &mut opener)
        .map_err(|error| error.to_string())?;
    let node = graph.find("image").unwrap();
    Ok((graph, node))
}

/// A disk with data, holes and zeroes, at the borders of all sizes of clusters.
fn disk(dir: &TempDir, size: u64) {
    let file = File::create(dir.path().join("disk.raw")).unwrap();
    file.set_len(size).unwrap();
    let mut state = size | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let text = "some text that can be compressed, ".repeat(1000);
    for at in [
        0,
        63 * 1024,
        MIB - 512,
        2 * MIB - 4096,
        5 * MIB + 512,
        32 * MIB - 1024,
    ] {
        let mut bytes: Vec<u8> = (0..512).flat_map(|_| random().to_le_bytes()).collect();
        bytes.extend_from_slice(text.as_bytes());
        let room = size.saturating_sub(at).min(bytes.len() as u64);
        file.write_all_at(&bytes[..room as usize], at).unwrap();
    }
}

/// All bytes, by requests of odd sizes through `perform`.
fn content(node: &dyn BlockNode) -> Vec<u8> {
    let size = node.info().size;
    let mut out = vec![0x55; size as usize];
    for chunk in (0..size).step_by(123 * 512) {
        let end = size.min(chunk + 123 * 512);
        node.read_at(chunk, &mut out[chunk as usize..end as usize])
            .unwrap();
    }
    out
}

/// The same through a lane, several requests at once.
fn content_by_lane(node: &dyn BlockNode) -> Vec<u8> {
    let waker = Waker::new().unwrap();
    let mut lane = node.open_lane(8, &waker).unwrap();
    let size = node.info().size;
    let mut out = Vec::new();
    let mut done = Vec::new();
    for (i, offset) in (0..size).step_by(MIB as usize).enumerate() {
        let len = MIB.min(size - offset);
        let buffers = Buffers::owned(Arc::new(HostBuffer::new(len as usize, 4096)));
        let request = IoReq::new(Op::Read { offset }, buffers);
        done.extend(lane.submit(request, Token(i as u64)));
    }
    lane.start();
    while lane.in_flight() > 0 {
        waker.wait();
        waker.clear();
        lane.reap(&mut done);
        lane.start();
    }
    done.sort_by_key(|done| done.token.0);
    for done in done {
        done.result.unwrap();
        let mut bytes = vec![0; done.request.buffers.len() as usize];
        done.request.buffers.read_at(0, &mut bytes);
        out.extend(bytes);
    }
    out
}

/// Extents cover the disk, and what is said to be zero is.
fn check_extents(node: &dyn BlockNode, content: &[u8]) {
    let mut at = 0;
    while at < node.info().size {
        let extent = node.extent(at, node.info().size - at).unwrap();
        assert!(extent.len > 0);
        let bytes = &content[at as usize..(at + extent.len) as usize];
        if extent.kind != ExtentKind::Data {
            assert!(bytes.iter().all(|byte| *byte == 0), "at {at}");
        }
        at += extent.len;
    }
}

#[test]
fn what_qemu_img_converts_reads_the_same() {
    if !has_qemu_img() {
        return;
    }
    for (kind, options) in [
        (FormatKind::Vmdk, "subformat=monolithicSparse"),
        (
            FormatKind::Vmdk,
            "subformat=monolithicSparse,zeroed_grain=on",
        ),
        (FormatKind::Vmdk, "subformat=monolithicFlat"),
        (FormatKind::Vmdk, "subformat=streamOptimized"),
        (FormatKind::Vmdk, "subformat=twoGbMaxExtentSparse"),
        (FormatKind::Vmdk, "subformat=twoGbMaxExtentFlat"),
        (FormatKind::Vpc, "subformat=fixed,force_size=on"),
        (FormatKind::Vpc, "subformat=dynamic,force_size=on"),
        (FormatKind::Vpc, "subformat=fixed"),
        (FormatKind::Vpc, "subformat=dynamic"),
        (FormatKind::Vhdx, "subformat=fixed"),
        (FormatKind::Vhdx, "subformat=dynamic"),
        (FormatKind::Vhdx, "subformat=dynamic,block_size=2M"),
        (FormatKind::Qed, "cluster_size=4096,table_size=2"),
        (FormatKind::Qed, "cluster_size=1M"),
    ] {
        // qemu-img rounds odd sizes of vhdx in its own way.
        let odd = if kind == FormatKind::Vhdx { 0 } else { 512 };
        for size in [MIB, 32 * MIB + odd] {
            let dir = TempDir::new().unwrap();
            disk(&dir, size);
            let args = ["convert", "-f", "raw", "-O", kind.name(), "-o", options];
            qemu_img(&dir, &[&args[..], &["disk.raw", "image"]].concat());
            // What qemu-img itself reads, of the size that it makes of it.
            let args = [
                "convert",
                "-f",
                kind.name(),
                "-O",
                "raw",
                "image",
                "back.raw",
            ];
            qemu_img(&dir, &args);
            let wanted = std::fs::read(dir.path().join("back.raw")).unwrap();
            let (_graph, node) = open(&dir.path().join("image"), Some(kind), true).unwrap();
            let name = format!("{kind:?} {options} {size}");
            assert_eq!(node.info().size, wanted.len() as u64, "{name}");
            assert!(content_by_lane(&*node) == wanted, "{name}, by lane");
            assert!(content(&*node) == wanted, "{name}");
            assert!(
                content_by_lane(&*node) == wanted,
                "{name}, with tables in memory"
            );
            check_extents(&*node, &wanted);
            let probed = open(&dir.path().join("image"), None, true).unwrap().1;
            let fixed = options.starts_with("subformat=fixed") && kind == FormatKind::Vpc;
            assert_eq!(probed.image().is_none(), fixed, "{name}: as QEMU probes it");
        }
    }
}

#[test]
fn vmdk_says_what_it_is() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    disk(&dir, 3 * MIB);
    let convert = |options: &str, name: &str| {
        let args = [
            "convert", "-f", "raw", "-O", "vmdk", "-o", options, "disk.raw", name,
        ];
        qemu_img(&dir, &args);
        let (graph, node) = open(&dir.path().join(name), None, true).unwrap();
        let view = node.image().unwrap().view();
        drop(graph);
        view
    };
    let view = convert("subformat=streamOptimized", "a.vmdk");
    assert!(view.compressed);
    assert_eq!(view.cluster_size, Some(65536));
    let Some(Specific::Vmdk(vmdk)) = view.specific else {
        panic!("{view:?}");
    };
    assert_eq!(vmdk.create_type, "streamOptimized");
    assert_eq!(vmdk.parent_cid, u32::MAX);
    let view = convert("subformat=monolithicFlat", "b.vmdk");
    let Some(Specific::Vmdk(vmdk)) = view.specific else {
        panic!("{view:?}");
    };
    assert_eq!(vmdk.extents, [("b-flat.vmdk".to_owned(), 3 * MIB, "FLAT")]);
    let (_graph, node) = open(&dir.path().join("b.vmdk"), None, true).unwrap();
    assert!(node.allocated().unwrap() > 100_000, "the data count, too");
}

#[test]
fn vmdk_reads_its_parent_unless_that_has_changed() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    disk(&dir, 3 * MIB);
    qemu_img(
        &dir,
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "vmdk",
            "disk.raw",
            "base.vmdk",
        ],
    );
    qemu_img(
        &dir,
        &[
            "create",
            "-f",
            "vmdk",
            "-b",
            "base.vmdk",
            "-F",
            "vmdk",
            "top.vmdk",
        ],
    );
    qemu_io(&dir, "top.vmdk", "write -P 7 65536 65536");
    qemu_img(
        &dir,
        &["convert", "-f", "vmdk", "-O", "raw", "top.vmdk", "back.raw"],
    );
    let wanted = std::fs::read(dir.path().join("back.raw")).unwrap();
    let (graph, node) = open(&dir.path().join("top.vmdk"), None, true).unwrap();
    assert!(content(&*node) == wanted);
    assert!(content_by_lane(&*node) == wanted);
    assert_eq!(
        node.image().unwrap().view().backing_file.as_deref(),
        Some("base.vmdk")
    );
    drop((graph, node));
    // A write gives the parent a new content id.
    qemu_io(&dir, "base.vmdk", "write -P 8 0 512");
    let error = open(&dir.path().join("top.vmdk"), None, true)
        .err()
        .unwrap();
    assert!(
        error.starts_with("The parent of a VMDK image has changed"),
        "{error}"
    );
}

fn qemu_io(dir: &TempDir, image: &str, command: &str) {
    let args = ["-f", "vmdk", "-c", command, image];
    let output = Command::new("qemu-io")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn images_that_are_only_read_are_not_opened_for_writing() {
    if !has_qemu_img() {
        return;
    }
    for kind in [FormatKind::Vmdk, FormatKind::Vpc, FormatKind::Vhdx] {
        let dir = TempDir::new().unwrap();
        qemu_img(&dir, &["create", "-f", kind.name(), "image", "8M"]);
        let path = dir.path().join("image");
        let error = open(&path, Some(kind), false).err().unwrap();
        let wanted = format!(
            "Driver '{}' can only be used for read-only devices",
            kind.name()
        );
        assert_eq!(error, wanted);
        let graph = Graph::new(test_pool());
        let mut spec = NodeSpec::new(DriverSpec::Format(FormatSpec::new(kind, *file(&path))));
        spec.auto_read_only = Some(true);
        graph.add(spec.named("image"), &mut opener).unwrap();
        let node = graph.find("image").unwrap();
        assert!(node.info().read_only);
        let error = node.write_at(0, &[0; 512]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let error = node.resize(MIB).unwrap_err().to_string();
        assert_eq!(error, "Block node is read-only");
    }
}

#[test]
fn qed_has_a_backing_file_in_both_directions() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    disk(&dir, 33 * MIB);
    let args = [
        "create", "-f", "qed", "-b", "disk.raw", "-F", "raw", "top.qed", "40M",
    ];
    qemu_img(&dir, &args);
    let path = dir.path().join("top.qed");
    let (graph, node) = open(&path, None, false).unwrap();
    let mut wanted = std::fs::read(dir.path().join("disk.raw")).unwrap();
    wanted.resize(40 << 20, 0);
    assert!(content(&*node) == wanted);
    for (at, len) in [
        (100, 1000),
        (65536, 65536),
        (33 * MIB - 512, 4096),
        (39 * MIB, MIB),
    ] {
        let (at, len) = (at / 512 * 512, len / 512 * 512);
        node.write_at(at, &vec![7; len as usize]).unwrap();
        wanted[at as usize..(at + len) as usize].fill(7);
    }
    assert!(content_by_lane(&*node) == wanted);
    node.image().unwrap().close().unwrap();
    drop((graph, node));
    qemu_img(&dir, &["check", "-f", "qed", "top.qed"]);
    std::fs::write(dir.path().join("wanted.raw"), &wanted).unwrap();
    qemu_img(
        &dir,
        &["compare", "-f", "qed", "-F", "raw", "top.qed", "wanted.raw"],
    );
    let info = qemu_img(&dir, &["info", "--output=json", "top.qed"]);
    assert!(
        info.contains("\"backing-filename-format\": \"raw\""),
        "{info}"
    );
    assert!(!info.contains("\"dirty-flag\": true"), "{info}");
}

/// Requests of four lanes on four threads, of which each writes every fourth sector.
#[test]
fn qed_is_written_by_several_threads_at_once() {
    const SECTORS: u64 = 3000;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.qed");
    File::create(&path).unwrap();
    disk(&dir, MIB);
    {
        let graph = Graph::new(test_pool());
        let ChildSpec::Inline(spec) = *file(&path) else {
            panic!("no file");
        };
        graph.add(spec.named("file"), &mut opener).unwrap();
        let options = crate::QedCreate {
            size: SECTORS * 512,
            cluster_size: Some(4096),
            table_size: Some(2),
            backing_file: Some("disk.raw".to_owned()),
            backing_format: Some("raw".to_owned()),
        };
        crate::create_qed(&*graph.find("file").unwrap(), &options).unwrap();
    }
    let (graph, node) = open(&path, None, false).unwrap();
    let work = |number: u64, node: &dyn BlockNode| {
        let waker = Waker::new().unwrap();
        let mut lane = node.open_lane(8, &waker).unwrap();
        let mut done = Vec::new();
        for sector in (number..SECTORS).step_by(4) {
            let fill = vec![(sector % 251) as u8; 512];
            let buffers = Buffers::owned(HostBuffer::from_bytes(&fill, 512));
            let op = match sector % 97 {
                0 => Op::Flush,
                _ => Op::Write {
                    offset: sector * 512,
                    durability: crate::Durability::Cached,
                },
            };
            done.extend(lane.submit(IoReq::new(op, buffers), Token(sector)));
            lane.start();
            while lane.in_flight() > 6 {
                waker.wait();
                waker.clear();
                lane.reap(&mut done);
            }
        }
        while lane.in_flight() > 0 {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
        }
        assert!(done.iter().all(|done| done.result.is_ok()));
    };
    #[allow(clippy::disallowed_methods)] // a test's own threads
    std::thread::scope(|scope| {
        for number in 0..4 {
            let node = &node;
            scope.spawn(move || work(number, &**node));
        }
    });
    let mut wanted = std::fs::read(dir.path().join("disk.raw")).unwrap();
    wanted.resize((SECTORS * 512) as usize, 0);
    for sector in (0..SECTORS).filter(|sector| sector % 97 != 0) {
        let at = (sector * 512) as usize;
        wanted[at..at + 512].fill((sector % 251) as u8);
    }
    assert!(content(&*node) == wanted);
    node.image().unwrap().close().unwrap();
    drop((graph, node));
    if has_qemu_img() {
        qemu_img(&dir, &["check", "-f", "qed", "a.qed"]);
        std::fs::write(dir.path().join("wanted.raw"), &wanted).unwrap();
        let args = ["compare", "-f", "qed", "-F", "raw", "a.qed", "wanted.raw"];
        qemu_img(&dir, &args);
    }
}
