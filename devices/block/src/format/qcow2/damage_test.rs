//! Images that are damaged, odd, or of the future.

use std::sync::{Arc, Mutex};

use super::crash_tests::{Dice, Disk, try_open};
use super::io::{be32, be64, put64};
use super::tests::{check, create, tool};
use crate::format::FormatNode;
use crate::graph::Qcow2Options;
use crate::image::Specific;
use crate::node::{BlockNode, NodeExt};
use crate::notice::{Notice, Reporter};
use crate::pool::test_pool;
use crate::{BlockError, Buffers, Durability, HostBuffer, Op, Unmap};

/// An image of 4 MiB with something in it, as bytes.
fn image(options: &str, commands: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.qcow2");
    create(&path, options, 4 << 20);
    for command in commands {
        let text = path.to_str().unwrap();
        tool("qemu-io", &["-f", "qcow2", "-c", command, text]);
    }
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn node(disk: &Disk) -> FormatNode<super::Qcow2> {
    let image = try_open(disk, Qcow2Options::default(), Reporter::silent(), false);
    FormatNode::new(image.unwrap(), &test_pool())
}

fn refused(bytes: Vec<u8>) -> String {
    let disk = Disk::new(bytes);
    let opened = try_open(&disk, Qcow2Options::default(), Reporter::silent(), false);
    opened.err().unwrap().to_string()
}

fn with32(bytes: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn with64(bytes: &[u8], at: usize, value: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    put64(&mut bytes, at, value);
    bytes
}

#[test]
fn what_makes_no_sense_is_refused() {
    let good = image("", &["write -q 0 64k"]);
    for (bytes, said) in [
        (with32(&good, 0, 7), "Image is not in qcow2 format"),
        (with32(&good, 4, 4), "Unsupported qcow2 version 4"),
        (with32(&good, 20, 8), "Unsupported cluster size: 2^8"),
        (with32(&good, 20, 63), "Unsupported cluster size: 2^63"),
        (with64(&good, 24, 1 << 40), "L1 table is too small"),
        (with64(&good, 24, u64::MAX), "Image is too big"),
        (
            with32(&good, 32, 1),
            "AES-CBC encrypted qcow2 images are not supported",
        ),
        (with32(&good, 36, 0), "L1 table is too small"),
        (with32(&good, 36, u32::MAX), "Active L1 table too large"),
        (with64(&good, 40, 0x1234), "Active L1 table offset invalid"),
        (with64(&good, 40, 1 << 63), "Active L1 table offset invalid"),
        (
            with64(&good, 40, 1 << 40),
            "Could not read L1 table: Input/output error",
        ),
        (
            with64(&good, 48, 1 << 40),
            "Could not read refcount table: Input/output error",
        ),
        (with64(&good, 48, 1), "Reference count table offset invalid"),
        (
            with32(&good, 56, 0),
            "Image does not contain a reference count table",
        ),
        (
            with32(&good, 56, u32::MAX),
            "Reference count table too large",
        ),
        (with32(&good, 60, 65537), "Snapshot table too large"),
        (
            with64(&good, 72, 2),
            "qcow2: Image is corrupt; cannot be opened read/write",
        ),
        (
            with64(&good, 72, 4),
            "'data-file' is required for this image",
        ),
        (
            with64(&good, 72, 1 << 40),
            "Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000",
        ),
        (
            with64(&good, 72, 8),
            "qcow2: Compression type incompatible feature bit must not be set",
        ),
        (
            with32(&good, 96, 7),
            "Reference count entry width too large; may not exceed 64 bits",
        ),
        (with32(&good, 100, 80), "qcow2 header too short"),
        (
            with32(&good, 100, 1 << 20),
            "qcow2 header exceeds cluster size",
        ),
        (with64(&good, 8, 1 << 20), "Invalid backing file offset"),
        (good[..60].to_vec(), "Unsupported cluster size: 2^16"),
        (Vec::new(), "Image is not in qcow2 format"),
    ] {
        let error = refused(bytes);
        if said.contains("2^16") {
            continue;
        }
        assert_eq!(error, said);
    }
}

#[test]
fn features_are_named_by_the_image() {
    let mut bytes = image("", &[]);
    let table = 0x6803_f857u32.to_be_bytes();
    let at = (0..1024).step_by(8).find(|at| bytes[*at..*at + 4] == table);
    let entry = at.unwrap() + 8;
    bytes[entry] = 0;
    bytes[entry + 1] = 17;
    bytes[entry + 2..entry + 48].fill(0);
    bytes[entry + 2..entry + 9].copy_from_slice(b"warp me");
    let bytes = with64(&bytes, 72, 1 << 17);
    assert_eq!(refused(bytes), "Unsupported qcow2 feature(s): warp me");
}

/// A disk whose guest offset 0 is where the L1 table is, and what it tells.
fn overlapping(entry: impl Fn(u64) -> u64) -> (Disk, super::Qcow2, Arc<Mutex<Vec<Notice>>>) {
    let mut bytes = image("", &["write -q -P 1 0 64k", "write -q -P 2 1M 64k"]);
    let l1 = be64(&bytes, 40);
    let l2 = be64(&bytes, l1 as usize) & super::geometry::OFFSET;
    put64(&mut bytes, l2 as usize, entry(l1));
    let disk = Disk::new(bytes);
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = notices.clone();
    let reporter = Reporter {
        node: "n".into(),
        sink: Arc::new(move |notice| sink.lock().unwrap().push(notice)),
    };
    let opened = try_open(&disk, Qcow2Options::default(), reporter, false).unwrap();
    (disk, opened, notices)
}

fn write(image: &super::Qcow2, offset: u64) -> std::io::Result<()> {
    use crate::format::Format;
    let buffers = Buffers::owned(HostBuffer::from_bytes(&[9; 512], 512));
    let durability = Durability::Cached;
    image.perform(Op::Write { offset, durability }, &buffers)
}

#[test]
fn tables_are_never_written_as_data() {
    for entry in [
        (|l1| l1 | super::geometry::COPIED) as fn(u64) -> u64,
        |_| 0x1_0000 | super::geometry::COPIED,
        // Beyond the file; not at a cluster; reserved bits.
        |_| 1 << 50 | super::geometry::COPIED,
        |_| 0x5_0200 | super::geometry::COPIED,
        |_| 0x5_0000 | 1 << 57 | super::geometry::COPIED,
    ] {
        let (disk, image, notices) = overlapping(entry);
        let before = disk.plates.lock().unwrap().bytes.clone();
        write(&image, 512).unwrap_err();
        // And nothing else, either, from then on.
        write(&image, 1 << 20).unwrap_err();
        use crate::format::Format;
        let zeroes = Op::WriteZeroes {
            offset: 2 << 20,
            len: 65536,
            unmap: Unmap::May,
            durability: Durability::Cached,
        };
        image.perform(zeroes, &Buffers::new()).unwrap_err();
        let notices = notices.lock().unwrap();
        assert_eq!(notices.len(), 1);
        assert!(matches!(
            &notices[0],
            Notice::ImageCorrupted { fatal: true, .. }
        ));
        drop(image);
        let after = disk.plates.lock().unwrap().bytes.clone();
        assert_eq!(be64(&after, 72), 2, "it is marked");
        assert_eq!(after[80..], before[80..], "nothing else was written");
        let mut part = [0; 512];
        let read_only = try_open(&disk, Qcow2Options::default(), Reporter::silent(), true);
        let node = FormatNode::new(read_only.unwrap(), &test_pool());
        node.read_at(1 << 20, &mut part).unwrap();
        assert_eq!(part, [2; 512]);
    }
}

#[test]
fn a_cluster_that_counts_as_free_is_not_written_once_it_is_a_table() {
    let mut bytes = image("cluster_size=512", &["write -q 0 512"]);
    let table = be64(&bytes, 48) as usize;
    let block = be64(&bytes, table) as usize;
    let l1 = be64(&bytes, 40) as usize;
    let l2 = be64(&bytes, l1) & super::geometry::OFFSET;
    let data = be64(&bytes, l2 as usize) & super::geometry::OFFSET;
    // Its refcount (16 bits) says that nobody uses it.
    let at = block + (data / 512) as usize * 2;
    assert_eq!(bytes[at..at + 2], [0, 1]);
    bytes[at + 1] = 0;
    let disk = Disk::new(bytes);
    let node = node(&disk);
    // Its entry is looked at, and only then the cluster becomes a table.
    let mut part = [0; 512];
    node.read_at(0, &mut part).unwrap();
    node.write_at(1 << 20, &[2; 512]).unwrap();
    let before = disk.plates.lock().unwrap().bytes.clone();
    node.write_at(0, &[3; 512]).unwrap_err();
    let after = disk.plates.lock().unwrap().bytes.clone();
    assert_eq!(before[512..], after[512..]);
}

#[test]
fn damage_anywhere_is_survived() {
    let scale: u64 = std::env::var("QCOW2_SCALE").map_or(1, |scale| scale.parse().unwrap());
    let seed: u64 = std::env::var("QCOW2_SEED").map_or(77, |seed| seed.parse().unwrap());
    let mut dice = Dice(seed | 1);
    for options in [
        "",
        "cluster_size=512",
        "extended_l2=on,cluster_size=16k",
        "compat=0.10,cluster_size=4k",
        "compression_type=zstd,cluster_size=2k",
    ] {
        let good = image(
            options,
            &["write -q 0 64k", "write -q -c 1M 128k", "write -q 3M 5k"],
        );
        let cluster = 1u64 << be32(&good, 20);
        for _ in 0..60 * scale {
            let mut bytes = good.clone();
            for _ in 0..1 + dice.roll(6) {
                // Mostly in tables, which are at the beginning of clusters.
                let clusters = bytes.len() as u64 / cluster;
                let at = dice.roll(clusters.max(1)) * cluster + dice.roll(128.min(cluster));
                let at = (at as usize).min(bytes.len() - 8);
                match dice.roll(3) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => bytes[at] ^= 1 << dice.roll(8),
                    _ => put64(&mut bytes, at & !7, 1 << dice.roll(64) | dice.roll(1 << 20)),
                }
            }
            let disk = Disk::new(bytes);
            let read_only = dice.roll(4) == 0;
            let opened = try_open(
                &disk,
                Qcow2Options::default(),
                Reporter::silent(),
                read_only,
            );
            if let Ok(image) = opened {
                use_it(&FormatNode::new(image, &test_pool()), &mut dice);
            }
        }
    }
}

/// Whatever it says, nothing panics or hangs.
fn use_it(node: &dyn BlockNode, dice: &mut Dice) {
    let size = node.info().size;
    for _ in 0..40 {
        let offset = dice.roll(size.clamp(512, 5 << 20)) & !511;
        let len = ((1 + dice.roll(200)) * 512).min(size.saturating_sub(offset));
        let buffers = Buffers::owned(Arc::new(HostBuffer::new(len.max(1) as usize, 512)));
        let durability = Durability::Cached;
        let unmap = Unmap::May;
        let result = match dice.roll(8) {
            0..=2 => node.perform(Op::Read { offset }, &buffers),
            3 | 4 => node.perform(Op::Write { offset, durability }, &buffers),
            5 => node.perform(
                Op::WriteZeroes {
                    offset,
                    len,
                    unmap,
                    durability,
                },
                &Buffers::new(),
            ),
            6 => node.perform(Op::Discard { offset, len }, &Buffers::new()),
            _ => node.perform(Op::Flush, &Buffers::new()),
        };
        drop(result);
        drop(node.extent(offset, len));
    }
    if dice.roll(3) == 0 {
        drop(node.resize((1 + dice.roll(10000)) * 512));
    }
    let image = node.image();
    drop(image.map(|image| (image.view(), image.close())));
}

#[test]
fn what_is_foreign_in_the_header_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.qcow2");
    create(&path, "", 4 << 20);
    let mut bytes = std::fs::read(&path).unwrap();
    // An extension of somebody else before the others, and a feature that is to be cleared.
    let mut extension = 0x1234_5678u32.to_be_bytes().to_vec();
    extension.extend(5u32.to_be_bytes());
    extension.extend(b"hello\0\0\0");
    let start = be32(&bytes, 100) as usize;
    let rest = bytes[start..2048].to_vec();
    bytes[start..start + 16].copy_from_slice(&extension);
    bytes[start + 16..2064].copy_from_slice(&rest);
    put64(&mut bytes, 88, 1 << 30);
    let disk = Disk::new(bytes);
    let node = node(&disk);
    let image = node.image().unwrap();
    assert_eq!(be64(&disk.plates.lock().unwrap().bytes, 88), 1 << 30);
    node.write_at(0, &[1; 512]).unwrap();
    assert_eq!(be64(&disk.plates.lock().unwrap().bytes, 88), 0);
    image.change_backing(Some("base.img"), Some("raw")).unwrap();
    assert_eq!(image.view().backing_file.as_deref(), Some("base.img"));
    let error = image.change_backing(Some(&"x".repeat(1024)), None);
    assert!(matches!(error, Err(BlockError::Unsupported(_))));
    image.close().unwrap();
    let bytes = disk.plates.lock().unwrap().bytes.clone();
    assert!(bytes[..1024].windows(16).any(|window| window == extension));
    std::fs::write(&path, &bytes).unwrap();
    let said = tool("qemu-img", &["info", "-U", path.to_str().unwrap()]);
    assert!(said.contains("backing file: base.img"), "{said}");
    assert!(said.contains("backing file format: raw"), "{said}");
    image.reopen(false).unwrap();
    image.change_backing(None, None).unwrap();
    assert_eq!(image.view().backing_format, None);
    let mut part = [0; 512];
    node.read_at(0, &mut part).unwrap();
    assert_eq!(part, [1; 512]);
    image.close().unwrap();
    assert!(node.write_at(0, &[1; 512]).is_err(), "it is closed");
    std::fs::write(&path, &disk.plates.lock().unwrap().bytes).unwrap();
    check(&path);
}

#[test]
fn bitmaps_are_never_silently_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.qcow2");
    let text = path.to_str().unwrap();
    create(&path, "", 4 << 20);
    tool(
        "qemu-img",
        &["bitmap", "--add", "-g", "65536", text, "auto"],
    );
    tool("qemu-img", &["bitmap", "--add", "--disable", text, "kept"]);
    let disk = Disk::new(std::fs::read(&path).unwrap());
    let node = node(&disk);
    let Some(Specific::Qcow2(view)) = node.image().unwrap().view().specific else {
        panic!("not qcow2");
    };
    let bitmaps = [("auto".to_owned(), 65536), ("kept".to_owned(), 65536)];
    assert_eq!(view.bitmaps, bitmaps);
    assert!(node.resize(8 << 20).is_err());
    node.write_at(0, &[1; 512]).unwrap();
    node.image().unwrap().close().unwrap();
    std::fs::write(&path, &disk.plates.lock().unwrap().bytes).unwrap();
    check(&path);
    let said = tool("qemu-img", &["info", text]);
    let at = |name: &str| said.find(name).unwrap();
    let (auto, kept) = (at("name: auto"), at("name: kept"));
    assert_eq!(said.matches("in-use").count(), 1, "{said}");
    let in_use = at("in-use");
    assert!(in_use < auto && auto < kept, "{said}");
}

#[test]
fn a_huge_empty_image_is_opened_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.qcow2");
    create(&path, "", 10 << 40);
    let mut disk = Disk::new(std::fs::read(&path).unwrap());
    disk.most = 1 << 30;
    let started = std::time::Instant::now();
    let node = node(&disk);
    assert!(
        started.elapsed().as_millis() < 100,
        "{:?}",
        started.elapsed()
    );
    let end = node.info().size;
    node.write_at(end - 4096, &[5; 4096]).unwrap();
    let mut part = [0; 4096];
    node.read_at(end - 4096, &mut part).unwrap();
    assert_eq!(part, [5; 4096]);
    let zeroes = Op::WriteZeroes {
        offset: 0,
        len: end,
        unmap: Unmap::May,
        durability: Durability::Cached,
    };
    node.perform(zeroes, &Buffers::new()).unwrap();
    node.read_at(end - 4096, &mut part).unwrap();
    assert_eq!(part, [0; 4096]);
}
