//! Images of all kinds, handed to and fro between this driver and QEMU's tools.

use std::sync::Arc;

use serde_json::Value;

use super::peer::{Below, Bench, file, image_with, is_here};
use super::recorder::Recorder;
use super::{Compat, CompressionKind, Qcow2Create, check, create, snapshot};
use crate::Preallocation;
use crate::image::{Image, Qcow2View, SnapshotView, Specific};
use crate::node::{BlockNode, NodeExt};
use crate::{Buffers, Durability, HostBuffer, Op, Repair, Unmap};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 6 * MIB + 1536;

/// Options, as QEMU's tools and as this driver have them.
fn kinds() -> Vec<(String, Qcow2Create)> {
    let plain = || Qcow2Create {
        size: SIZE,
        ..Qcow2Create::default()
    };
    let mut all = Vec::new();
    for (bits, refcount_bits) in [(9, 1), (9, 16), (12, 64), (16, 1), (16, 16), (21, 64)] {
        let kind = Qcow2Create {
            cluster_size: 1 << bits,
            refcount_bits,
            ..plain()
        };
        let text = format!("cluster_size={},refcount_bits={refcount_bits}", 1 << bits);
        all.push((text, kind));
    }
    let mut more = |text: &str, change: &dyn Fn(&mut Qcow2Create)| {
        let mut kind = plain();
        change(&mut kind);
        all.push((text.to_owned(), kind));
    };
    more("compat=0.10", &|kind| kind.compat = Compat::V2);
    more("compat=0.10,cluster_size=1k", &|kind| {
        (kind.compat, kind.cluster_size) = (Compat::V2, 1024);
    });
    more("lazy_refcounts=on", &|kind| kind.lazy_refcounts = true);
    more("compression_type=zstd", &|kind| {
        kind.compression = CompressionKind::Zstd
    });
    for bits in [14, 16, 21] {
        more(
            &format!("extended_l2=on,cluster_size={}", 1 << bits),
            &|kind| {
                (kind.extended_l2, kind.cluster_size) = (true, 1 << bits);
            },
        );
    }
    for (text, how) in [
        ("metadata", Preallocation::Metadata),
        ("falloc", Preallocation::Falloc),
        ("full", Preallocation::Full),
    ] {
        more(&format!("preallocation={text}"), &|kind| {
            kind.preallocation = how
        });
        more(&format!("preallocation={text},extended_l2=on"), &|kind| {
            (kind.preallocation, kind.extended_l2) = (how, true);
        });
    }
    more("data_file=d", &|kind| kind.data_file = Some("d".into()));
    more("data_file=d,data_file_raw=on", &|kind| {
        (kind.data_file, kind.data_file_raw) = (Some("d".into()), true);
    });
    all
}

/// The image, with its data file where it has one.
fn open(bench: &Bench) -> Arc<dyn BlockNode> {
    let storage = file(&bench.path("a"));
    let linked = super::linked(&*storage).unwrap();
    let below = Below {
        data: linked.data_file.map(|name| file(&bench.path(&name))),
        ..Below::default()
    };
    image_with(storage, below).unwrap()
}

fn close(node: Arc<dyn BlockNode>) {
    node.image().unwrap().close().unwrap();
}

fn facts(image: &dyn Image) -> Qcow2View {
    match image.view().specific {
        Some(Specific::Qcow2(view)) => view,
        other => panic!("{other:?}"),
    }
}

/// Both say the same of it.
fn same_facts(node: &dyn BlockNode, info: &Value, what: &str) {
    let image = node.image().unwrap();
    let (view, ours) = (image.view(), facts(image));
    let theirs = &info["format-specific"]["data"];
    assert_eq!(info["virtual-size"], node.info().size, "{what}");
    assert_eq!(info["cluster-size"], view.cluster_size.unwrap(), "{what}");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(text(&info["backing-filename"]), view.backing_file, "{what}");
    assert_eq!(
        text(&info["backing-filename-format"]),
        view.backing_format,
        "{what}"
    );
    assert_eq!(info["dirty-flag"], view.dirty, "{what}");
    assert_eq!(theirs["compat"], ours.compat, "{what}");
    assert_eq!(theirs["refcount-bits"], ours.refcount_bits, "{what}");
    assert_eq!(theirs["compression-type"], ours.compression, "{what}");
    assert_eq!(text(&theirs["data-file"]), ours.data_file, "{what}");
    if ours.compat == "1.1" {
        assert_eq!(theirs["lazy-refcounts"], ours.lazy_refcounts, "{what}");
        assert_eq!(theirs["extended-l2"], ours.extended_l2, "{what}");
        assert_eq!(theirs["corrupt"], ours.corrupt, "{what}");
    }
}

/// What is done to image and copy alike.
fn change(node: &dyn BlockNode, copy: &mut [u8], seed: u64) {
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    for number in 0..30 {
        let start = roll(node.info().size / 512 - 1) * 512;
        let most = (node.info().size - start).min(if number % 5 == 0 { MIB } else { 70_000 });
        let len = (1 + roll(most / 512)) * 512;
        let range = start as usize..(start + len) as usize;
        if roll(6) == 0 {
            let op = Op::WriteZeroes {
                offset: start,
                len,
                unmap: if number % 2 == 0 {
                    Unmap::May
                } else {
                    Unmap::Keep
                },
                durability: Durability::Cached,
            };
            node.perform(op, &crate::Buffers::new()).unwrap();
            copy[range].fill(0);
        } else {
            let data = vec![(1 + roll(255)) as u8; len as usize];
            node.write_at(start, &data).unwrap();
            copy[range].copy_from_slice(&data);
        }
    }
}

/// QEMU finds it whole, and the same as the copy.
fn same_content(bench: &Bench, copy: &[u8], what: &str) {
    bench.is_clean("a");
    std::fs::write(bench.path("raw"), copy).unwrap();
    let said = bench.img(&["compare", "-f", "qcow2", "-F", "raw", "a", "raw"]);
    assert!(said.contains("identical"), "{what}: {said}");
}

#[test]
fn images_go_to_and_fro() {
    if !is_here() {
        return;
    }
    for (number, (text, options)) in kinds().into_iter().enumerate() {
        for theirs in [false, true] {
            // Other tests begin with images of QEMU's, too; all with `QCOW2_SCALE` above 1.
            if theirs && number % 2 == 1 && super::tests::scale() == 1 {
                continue;
            }
            let bench = Bench::new();
            let what = format!("{text}, made by {}", if theirs { "QEMU" } else { "us" });
            if theirs {
                bench.img(&[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-o",
                    &text,
                    "a",
                    &SIZE.to_string(),
                ]);
            } else {
                let data_node = options
                    .data_file
                    .as_ref()
                    .map(|name| file(&bench.path(name)));
                let options = Qcow2Create {
                    data_node,
                    ..options.clone()
                };
                create(&*file(&bench.path("a")), &options).unwrap();
            }
            let node = open(&bench);
            same_facts(&*node, &bench.info("a"), &what);
            let mut copy = vec![0; SIZE as usize];
            change(&*node, &mut copy, number as u64 + 1);
            close(node);
            same_content(&bench, &copy, &what);
            bench.io(
                "a",
                &[
                    "write -P 77 1M 300k",
                    "write -z 3M 64k",
                    "write -P 78 5M 512",
                ],
            );
            copy[MIB as usize..][..300 << 10].fill(77);
            copy[3 * MIB as usize..][..64 << 10].fill(0);
            copy[5 * MIB as usize..][..512].fill(78);
            let node = open(&bench);
            let mut bytes = vec![0; SIZE as usize];
            node.read_at(0, &mut bytes).unwrap();
            assert!(bytes == copy, "{what}");
            let found = node.image().unwrap().check(Repair::No).unwrap();
            assert_eq!(
                (found.corruptions, found.leaks),
                (0, 0),
                "{what}: {found:?}"
            );
            node.read_at(0, &mut bytes).unwrap();
            assert!(bytes == copy, "{what}: after a check");
            change(&*node, &mut copy, number as u64 + 100);
            resized(&bench, node, copy, &what);
        }
    }
}

/// Both change its size, in turn.
fn resized(bench: &Bench, node: Arc<dyn BlockNode>, mut copy: Vec<u8>, what: &str) {
    let raw_data = facts(node.image().unwrap()).data_file_raw;
    node.resize(9 * MIB).unwrap();
    copy.resize(9 * MIB as usize, 0);
    change(&*node, &mut copy, 7);
    close(node);
    same_content(bench, &copy, what);
    if raw_data {
        assert!(
            std::fs::read(bench.path("d")).unwrap() == copy,
            "{what}: the data file"
        );
    }
    bench.img(&["resize", "-q", "a", "11M"]);
    copy.resize(11 * MIB as usize, 0);
    let node = open(bench);
    same_facts(&*node, &bench.info("a"), what);
    change(&*node, &mut copy, 8);
    node.resize(4 * MIB).unwrap();
    copy.truncate(4 * MIB as usize);
    node.resize(5 * MIB).unwrap();
    copy.resize(5 * MIB as usize, 0);
    close(node);
    same_content(bench, &copy, what);
    bench.img(&["resize", "-q", "--shrink", "a", "2M"]);
    copy.truncate(2 * MIB as usize);
    let node = open(bench);
    change(&*node, &mut copy, 9);
    close(node);
    same_content(bench, &copy, what);
}

#[test]
fn names_of_backing_files_are_changed_by_both() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    for name in ["base", "other"] {
        bench.img(&["create", "-q", "-f", "raw", name, "1M"]);
    }
    bench.img(&[
        "create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "a",
    ]);
    let node = open(&bench);
    same_facts(&*node, &bench.info("a"), "made");
    let image = node.image().unwrap();
    image.change_backing(Some("other"), Some("raw")).unwrap();
    same_facts(&*node, &bench.info("a"), "changed");
    assert_eq!(bench.info("a")["backing-filename"], "other");
    image.change_backing(None, None).unwrap();
    same_facts(&*node, &bench.info("a"), "taken away");
    assert!(image.change_backing(Some(&"x".repeat(2000)), None).is_err());
    close(node);
    bench.img(&["rebase", "-u", "-b", "base", "-F", "raw", "a"]);
    let node = open(&bench);
    same_facts(&*node, &bench.info("a"), "rebased");
    close(node);
    bench.is_clean("a");
}

#[test]
fn amended_images_are_understood() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    bench.img(&["create", "-q", "-f", "qcow2", "a", "4M"]);
    bench.io("a", &["write -P 5 0 1M"]);
    for options in [
        "compat=0.10",
        "compat=1.1",
        "lazy_refcounts=on",
        "lazy_refcounts=off",
        "refcount_bits=8",
        "refcount_bits=64",
    ] {
        bench.img(&["amend", "-q", "-f", "qcow2", "-o", options, "a"]);
        let node = open(&bench);
        same_facts(&*node, &bench.info("a"), options);
        let mut bytes = vec![0; 4096];
        node.read_at(MIB - 4096, &mut bytes).unwrap();
        assert_eq!(bytes, vec![5; 4096]);
        node.write_at(2 * MIB, &[6; 4096]).unwrap();
        close(node);
        bench.is_clean("a");
    }
}

/// The first image of QEMU's with a bit of everything.
fn varied(bench: &Bench, options: &str) -> Vec<u8> {
    bench.img(&["create", "-q", "-f", "qcow2", "-o", options, "a", "2M"]);
    bench.io(
        "a",
        &["write -P 1 0 300k", "write -z 64k 64k", "write -P 3 1M 64k"],
    );
    if !options.contains("0.10") {
        bench.img(&["bitmap", "--add", "a", "b"]);
    }
    bench.img(&["snapshot", "-c", "s", "a"]);
    bench.io("a", &["write -P 4 100k 100k"]);
    std::fs::read(bench.path("a")).unwrap()
}

/// Everything there is, done to whatever it is. Nothing panics, or takes long.
fn use_all(bytes: Vec<u8>) {
    let start = std::time::Instant::now();
    let disk = || Recorder::new(bytes.clone());
    for repair in [Repair::No, Repair::Leaks, Repair::All] {
        let _ = check(&disk(), repair);
    }
    let _ = snapshot::create(&disk(), &SnapshotView::default());
    let _ = snapshot::apply(&disk(), "1", true);
    let _ = snapshot::delete(&disk(), "1", true);
    if let Ok(node) = image_with(Arc::new(disk()), Below::default()) {
        let mut data = vec![0; 4096];
        let _ = node.read_at(0, &mut data);
        let _ = node.write_at(0, &data);
        let _ = node.resize(64 * MIB);
        let _ = node.flush();
        let image = node.image().unwrap();
        let _ = image.check(Repair::All);
        if let Some(snapshots) = image.snapshots() {
            let state = Buffers::owned(HostBuffer::from_bytes(&data, 4096));
            let _ = snapshots.write_vm_state(0, &state);
            let _ = snapshots.drop_vm_state();
            if let Ok(mut reader) = snapshots.read_vm_state("1") {
                let _ = reader.read_exact(&mut data);
            }
            let _ = snapshots.create(&SnapshotView::default());
        }
        let _ = image.close();
    }
    let took = start.elapsed();
    assert!(took.as_secs() < 20, "{took:?}");
}

#[test]
fn absurd_headers_are_refused() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    for options in ["cluster_size=4k", "extended_l2=on,cluster_size=16k"] {
        let _ = std::fs::remove_file(bench.path("a"));
        let good = varied(&bench, options);
        for offset in (4..112).step_by(4) {
            for value in [0u32, 1, 9, 0x1_0001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                let mut bad = good.clone();
                bad[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
                use_all(bad);
            }
        }
    }
}

/// Places of tables in the image.
fn metadata(bytes: &[u8]) -> Vec<usize> {
    let disk = Recorder::new(bytes.to_vec());
    let (header, geometry) = super::store::Store::new(&disk).header().unwrap();
    let word = |at: u64| super::io::be64(bytes, at as usize) & super::geometry::OFFSET;
    let tables = [
        header.l1_offset,
        header.refcount_table_offset,
        header.snapshots_offset,
        word(header.l1_offset),
        word(header.refcount_table_offset),
        word(header.snapshots_offset),
        0,
    ];
    assert!(tables.iter().all(|at| geometry.inside(*at) == 0));
    tables.into_iter().map(|at| at as usize).collect()
}

#[test]
fn what_is_mended_here_is_whole_for_qemu() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    let mut dice = 0x1234_5678_9abc_def1u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below as u64) as usize
    };
    let mut mended = 0;
    for options in [
        "cluster_size=4k",
        "compat=0.10",
        "extended_l2=on,cluster_size=16k",
    ] {
        let _ = std::fs::remove_file(bench.path("a"));
        let good = varied(&bench, options);
        let tables = metadata(&good);
        for round in 0..60 {
            let mut bad = good.clone();
            for _ in 0..=roll(3) {
                let at = tables[roll(tables.len())] + roll(300);
                bad[at] = match roll(3) {
                    0 => 0,
                    1 => bad[at] ^ (1 << roll(8)),
                    _ => roll(256) as u8,
                };
            }
            let disk = Recorder::new(bad.clone());
            let Ok(found) = check(&disk, Repair::All) else {
                continue;
            };
            if (found.check_errors, found.corruptions, found.leaks) == (0, 0, 0) {
                mended += 1;
                std::fs::write(bench.path("a"), disk.bytes()).unwrap();
                let said = bench.run("qemu-img", &["check", "-f", "qcow2", "a"]);
                let stderr = String::from_utf8_lossy(&said.stderr);
                // Names and extensions in the header may be such that QEMU does not take them.
                let taken = !stderr.contains("Could not open");
                assert!(
                    !taken || said.status.success(),
                    "{options} {round}: {found:?} {said:?}"
                );
            }
            use_all(bad);
        }
    }
    assert!(mended > 30, "{mended}");
}

/// With it goes what was behind the end, so that nobody who makes the disk larger finds it.
#[test]
fn a_data_file_ends_with_its_disk() {
    for data_file_raw in [false, true] {
        let bench = Bench::new();
        let options = Qcow2Create {
            size: 4 * MIB,
            data_file: Some("d".into()),
            data_node: Some(file(&bench.path("d"))),
            data_file_raw,
            ..Qcow2Create::default()
        };
        create(&*file(&bench.path("a")), &options).unwrap();
        let node = open(&bench);
        node.write_at(0, &[5; 4 << 20]).unwrap();
        let less = MIB + 7 * 512;
        node.resize(less).unwrap();
        assert_eq!(std::fs::metadata(bench.path("d")).unwrap().len(), less);
        node.resize(4 * MIB).unwrap();
        close(node);
        let mut copy = vec![0; 4 << 20];
        copy[..less as usize].fill(5);
        let mut bytes = vec![1; 4 << 20];
        open(&bench).read_at(0, &mut bytes).unwrap();
        assert!(bytes == copy);
    }
}

#[test]
fn an_image_over_itself_is_refused() {
    if !is_here() {
        return;
    }
    use crate::graph::{ChildSpec, DriverSpec, FormatKind, FormatSpec, Graph, NodeSpec};
    let bench = Bench::new();
    let itself = Qcow2Create {
        size: MIB,
        backing_file: Some("a".into()),
        backing_format: Some("qcow2".into()),
        ..Qcow2Create::default()
    };
    create(&*file(&bench.path("a")), &itself).unwrap();
    let storage = NodeSpec::new(DriverSpec::File(crate::FileSpec {
        filename: bench.path("a").to_str().unwrap().to_owned(),
        aio: crate::Aio::Threads,
        locking: crate::Locking::Off,
    }));
    let format = FormatSpec::new(FormatKind::Qcow2, ChildSpec::Inline(storage));
    let mut spec = NodeSpec::new(DriverSpec::Format(format)).named("q");
    spec.read_only = Some(true);
    let graph = Graph::new(crate::pool::test_pool());
    // With as much stack as the thread has that opens images; tests have less.
    #[allow(clippy::disallowed_methods)]
    let open = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(move || {
            let mut opener = |path: &str, _: i32| std::fs::File::open(path);
            graph.add(spec, &mut opener).unwrap_err()
        });
    let error = open.unwrap().join().unwrap();
    assert_eq!(error.to_string(), "More than 100 nodes above each other");
}
