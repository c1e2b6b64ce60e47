//! Snapshots made here and by QEMU, each used by the other.

use std::sync::Arc;

use super::super::peer::{Bench, image, is_here};
use super::super::recorder::{Recorder, crashes};
use super::super::store::Store;
use super::table::Table;
use crate::buffers::{Buffers, HostBuffer};
use crate::error::BlockError;
use crate::image::{SnapshotView, Snapshots};
use crate::node::{BlockNode, NodeExt};

const MIB: u64 = 1 << 20;

const KINDS: [&str; 9] = [
    "cluster_size=64k",
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=2M",
    "cluster_size=4k,refcount_bits=4",
    "cluster_size=4k,refcount_bits=64",
    "extended_l2=on,cluster_size=16k",
    "lazy_refcounts=on",
    "compression_type=zstd,cluster_size=8k,refcount_bits=8",
];

fn snapshots(node: &Arc<dyn BlockNode>) -> &dyn Snapshots {
    node.image().unwrap().snapshots().unwrap()
}

fn named(name: &str) -> SnapshotView {
    SnapshotView {
        name: name.to_owned(),
        date_sec: 1_700_000_000,
        date_nsec: 5,
        vm_clock_nsec: 3_661_000_000_000,
        ..SnapshotView::default()
    }
}

fn write_state(shots: &dyn Snapshots, offset: u64, data: &[u8]) {
    let buffers = Buffers::owned(HostBuffer::from_bytes(data, 4096));
    shots.write_vm_state(offset, &buffers).unwrap();
}

fn read_state(shots: &dyn Snapshots, id: &str) -> Vec<u8> {
    let mut state = Vec::new();
    let mut reader = shots.read_vm_state(id).unwrap();
    reader.read_to_end(&mut state).unwrap();
    state
}

/// Everything that the disk has.
fn content(node: &dyn BlockNode) -> Vec<u8> {
    let mut bytes = vec![0; node.info().size as usize];
    node.read_at(0, &mut bytes).unwrap();
    bytes
}

fn close(node: Arc<dyn BlockNode>) {
    node.image().unwrap().close().unwrap();
}

#[test]
fn qemu_uses_what_is_made_here() {
    if !is_here() {
        return;
    }
    for options in KINDS {
        let bench = Bench::new();
        bench.img(&["create", "-f", "qcow2", "-o", options, "a", "8M"]);
        let node = image(&bench.path("a"));
        node.write_at(MIB, &[1; 300_000 / 512 * 512]).unwrap();
        assert_eq!(snapshots(&node).create(&named("one")).unwrap(), "1");
        let first = content(&*node);
        node.write_at(MIB + 65536, &[2; 200_192]).unwrap();
        node.write_at(5 * MIB, &[3; 512]).unwrap();
        assert_eq!(snapshots(&node).create(&named("two")).unwrap(), "2");
        let second = content(&*node);
        node.write_at(0, &[4; 65536]).unwrap();
        let third = content(&*node);
        close(node);
        bench.is_clean("a");
        let list = bench.img(&["snapshot", "-l", "a"]);
        assert!(list.contains("one") && list.contains("two"), "{list}");
        assert!(list.contains("01:01:01.000"), "{list}");
        let info = bench.info("a");
        let entry = &info["snapshots"][1];
        assert_eq!(entry["date-sec"], 1_700_000_000);
        assert_eq!(entry["date-nsec"], 5);
        for (name, bytes) in [("1", &first), ("2", &second)] {
            std::fs::write(bench.path("raw"), bytes).unwrap();
            let chosen = format!("snapshot.id={name}");
            let args = [
                "convert", "-l", &chosen, "-f", "qcow2", "-O", "raw", "a", "b",
            ];
            bench.img(&args);
            assert!(
                std::fs::read(bench.path("b")).unwrap() == *bytes,
                "{options} {name}"
            );
        }
        std::fs::write(bench.path("raw"), &third).unwrap();
        bench.img(&["compare", "-f", "qcow2", "-F", "raw", "a", "raw"]);
        bench.img(&["snapshot", "-a", "1", "a"]);
        std::fs::write(bench.path("raw"), &first).unwrap();
        bench.img(&["compare", "-f", "qcow2", "-F", "raw", "a", "raw"]);
        bench.is_clean("a");
        bench.img(&["snapshot", "-d", "one", "a"]);
        bench.img(&["snapshot", "-d", "two", "a"]);
        bench.is_clean("a");
    }
}

#[test]
fn what_qemu_made_is_used_here() {
    if !is_here() {
        return;
    }
    for options in KINDS {
        let bench = Bench::new();
        bench.img(&["create", "-f", "qcow2", "-o", options, "a", "8M"]);
        bench.io("a", &["write -P 1 1M 300k", "write -z 3M 64k"]);
        bench.img(&["snapshot", "-c", "one", "a"]);
        bench.io("a", &["write -P 2 1M 100k", "write -P 3 5M 64k"]);
        bench.img(&["snapshot", "-c", "two", "a"]);
        bench.io("a", &["write -P 4 0 1M"]);
        bench.img(&[
            "convert", "-l", "one", "-f", "qcow2", "-O", "raw", "a", "one",
        ]);
        bench.img(&[
            "convert", "-l", "two", "-f", "qcow2", "-O", "raw", "a", "two",
        ]);
        let one = std::fs::read(bench.path("one")).unwrap();
        let two = std::fs::read(bench.path("two")).unwrap();
        let node = image(&bench.path("a"));
        let list = snapshots(&node).list();
        let names: Vec<&str> = list.iter().map(|view| view.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(list[0].disk_size, Some(8 * MIB));
        let now = content(&*node);
        snapshots(&node).apply("1").unwrap();
        assert!(content(&*node) == one, "{options}");
        node.write_at(MIB, &[9; 4096]).unwrap();
        snapshots(&node).apply("2").unwrap();
        assert!(content(&*node) == two, "{options}");
        snapshots(&node).apply("1").unwrap();
        assert!(content(&*node) == one, "{options}");
        assert!(now != one);
        snapshots(&node).delete("1").unwrap();
        assert!(content(&*node) == one, "{options}");
        assert_eq!(snapshots(&node).create(&named("three")).unwrap(), "3");
        node.write_at(MIB, &[8; 4096]).unwrap();
        close(node);
        bench.is_clean("a");
        let node = image(&bench.path("a"));
        snapshots(&node).delete("2").unwrap();
        snapshots(&node).apply("3").unwrap();
        assert!(content(&*node) == one, "{options}");
        snapshots(&node).delete("3").unwrap();
        assert!(snapshots(&node).list().is_empty());
        close(node);
        bench.is_clean("a");
    }
}

#[test]
fn compressed_clusters_are_shared() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    bench.img(&["create", "-f", "raw", "r", "4M"]);
    bench.ok("qemu-io", &["-f", "raw", "-c", "write -P 1 0 3M", "r"]);
    bench.img(&["convert", "-c", "-O", "qcow2", "r", "a"]);
    let node = image(&bench.path("a"));
    let before = content(&*node);
    snapshots(&node).create(&named("s")).unwrap();
    node.write_at(65536, &[2; 65536]).unwrap();
    close(node);
    bench.is_clean("a");
    let node = image(&bench.path("a"));
    snapshots(&node).apply("1").unwrap();
    assert!(content(&*node) == before);
    snapshots(&node).delete("1").unwrap();
    close(node);
    bench.is_clean("a");
}

#[test]
fn sizes_of_the_disk_come_back() {
    if !is_here() {
        return;
    }
    for (first, second) in [("8M", "2G"), ("2G", "8M")] {
        let bench = Bench::new();
        bench.img(&["create", "-f", "qcow2", "a", first]);
        bench.io("a", &["write -P 1 7M 64k"]);
        bench.img(&["snapshot", "-c", "s", "a"]);
        bench.img(&["resize", "--shrink", "a", second]);
        bench.io("a", &["write -P 2 6M 64k"]);
        let node = image(&bench.path("a"));
        let size = node.info().size;
        let id = snapshots(&node).create(&named("t")).unwrap();
        snapshots(&node).apply("1").unwrap();
        assert_ne!(node.info().size, size);
        close(node);
        bench.is_clean("a");
        bench.io("a", &["read -P 1 7M 64k", "read -P 0 6M 64k"]);
        let node = image(&bench.path("a"));
        snapshots(&node).apply(&id).unwrap();
        assert_eq!(node.info().size, size);
        close(node);
        bench.is_clean("a");
        bench.io("a", &["read -P 2 6M 64k"]);
        bench.img(&["snapshot", "-a", "1", "a"]);
        bench.is_clean("a");
        bench.io("a", &["read -P 1 7M 64k"]);
    }
}

#[test]
fn the_machines_state_is_beside_the_disk() {
    if !is_here() {
        return;
    }
    for options in [
        "cluster_size=64k",
        "cluster_size=512",
        "extended_l2=on",
        "lazy_refcounts=on",
    ] {
        let bench = Bench::new();
        bench.img(&["create", "-f", "qcow2", "-o", options, "a", "3M"]);
        let node = image(&bench.path("a"));
        node.write_at(0, &[1; 4096]).unwrap();
        let state: Vec<u8> = (0..1_000_003u32).map(|at| (at / 7) as u8).collect();
        let shots = snapshots(&node);
        write_state(shots, 500_000, &state[500_000..]);
        write_state(shots, 0, &state[..500_000]);
        let view = SnapshotView {
            vm_state_size: state.len() as u64,
            icount: Some(77),
            ..named("vm")
        };
        let id = shots.create(&view).unwrap();
        assert_eq!(shots.list()[0].icount, Some(77));
        assert!(read_state(shots, &id) == state, "{options}");
        node.write_at(0, &[2; 4096]).unwrap();
        close(node);
        bench.is_clean("a");
        let info = bench.info("a");
        assert_eq!(info["snapshots"][0]["vm-state-size"], state.len());
        assert_eq!(info["snapshots"][0]["icount"], 77);
        let node = image(&bench.path("a"));
        let shots = snapshots(&node);
        shots.apply(&id).unwrap();
        assert!(read_state(shots, &id) == state, "{options}");
        // The active tables do not share it: it is written again without being copied.
        write_state(shots, 0, &state[..500_000]);
        let other = shots.create(&view).unwrap();
        shots.delete(&id).unwrap();
        let id = other;
        assert!(read_state(shots, &id)[..500_000] == state[..500_000]);
        assert!(
            read_state(shots, &id)[500_000..]
                .iter()
                .all(|byte| *byte == 0)
        );
        let mut bytes = vec![0; 4096];
        node.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, vec![1; 4096]);
        shots.delete(&id).unwrap();
        close(node);
        bench.is_clean("a");
    }
}

#[test]
fn what_cannot_be_leaves_the_image_as_it_was() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    bench.img(&["create", "-f", "qcow2", "-o", "refcount_bits=1", "a", "8M"]);
    bench.io("a", &["write -P 1 0 1M"]);
    let before = std::fs::read(bench.path("a")).unwrap();
    let node = image(&bench.path("a"));
    let error = snapshots(&node).create(&named("s")).unwrap_err();
    assert!(matches!(error, BlockError::Host { .. }), "{error}");
    let error = snapshots(&node).apply("7").unwrap_err().to_string();
    assert_eq!(error, "Can't find snapshot '7'");
    assert!(snapshots(&node).delete("7").is_err());
    let mut bytes = vec![0; 4096];
    node.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, vec![1; 4096]);
    close(node);
    bench.is_clean("a");
    let after = std::fs::read(bench.path("a")).unwrap();
    assert!(after[..before.len()] == before);
}

/// All that an image has: the disk, and what snapshots there are.
fn state(storage: &Recorder) -> (Vec<u8>, Vec<String>, u64) {
    let own = Recorder::new(storage.bytes());
    let node = super::super::peer::image_with(Arc::new(own), Default::default()).unwrap();
    let list = snapshots(&node).list();
    let names = list.into_iter().map(|view| view.name).collect();
    let size = node.info().size;
    (content(&*node), names, size)
}

type Step = (&'static str, fn(&Recorder) -> Result<(), BlockError>);

const STEPS: [Step; 7] = [
    ("create", |disk| {
        super::create(disk, &named("new")).map(drop)
    }),
    ("create again", |disk| {
        super::create(disk, &named("newer")).map(drop)
    }),
    ("apply", |disk| super::apply(disk, "1", true)),
    ("apply the other", |disk| super::apply(disk, "2", false)),
    ("delete", |disk| super::delete(disk, "1", true)),
    ("delete the other", |disk| super::delete(disk, "2", true)),
    ("create once more", |disk| {
        super::create(disk, &named("newest")).map(drop)
    }),
];

/// An image with snapshots in all stages, before each step.
fn with_data(bench: &Bench, options: &str) -> Recorder {
    bench.img(&["create", "-f", "qcow2", "-o", options, "a", "1M"]);
    bench.io("a", &["write -P 1 0 200k"]);
    bench.img(&["snapshot", "-c", "one", "a"]);
    bench.io("a", &["write -P 2 100k 200k"]);
    bench.img(&["snapshot", "-c", "two", "a"]);
    bench.io("a", &["write -P 3 700k 100k", "write -P 4 0 10k"]);
    Recorder::new(std::fs::read(bench.path("a")).unwrap())
}

#[test]
fn a_crash_leaves_what_was_or_what_is_to_be() {
    if !is_here() {
        return;
    }
    for options in [
        "cluster_size=4k",
        "cluster_size=512",
        "cluster_size=64k,compat=0.10",
        "cluster_size=16k,extended_l2=on,lazy_refcounts=on",
    ] {
        let bench = Bench::new();
        let disk = with_data(&bench, options);
        let mut dice = 1u64;
        for (name, step) in STEPS {
            let (before, bytes) = (state(&disk), disk.bytes());
            disk.events();
            step(&disk).unwrap();
            let events = disk.events();
            let after = state(&disk);
            let loses = |number: usize| {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(number as u64);
                dice >> 63 == 0
            };
            let all = crashes(&bytes, &events, loses);
            let last = all.len();
            for (moment, bytes) in all.into_iter().enumerate() {
                let what = format!("{options}: {name} at {moment} of {last}");
                let left = Recorder::new(bytes);
                let found = super::super::check::check(&left, crate::Repair::No).unwrap();
                let damage = (found.check_errors, found.corruptions, found.leaks);
                assert_eq!(damage, (0, 0, 0), "{what}: {found:?}");
                let now = state(&left);
                assert!(now == before || now == after, "{what}");
                if moment % 16 == 0 {
                    std::fs::write(bench.path("a"), left.bytes()).unwrap();
                    bench.is_clean("a");
                }
            }
        }
    }
}

#[test]
fn damaged_tables_are_refused() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    let good = with_data(&bench, "cluster_size=4k").bytes();
    let disk = Recorder::new(good.clone());
    let (header, _) = Store::new(&disk).header().unwrap();
    let at = header.snapshots_offset as usize;
    let second = at + Table::read(&Store::new(&disk), &header).unwrap().len as usize / 2;
    let damages: [(&str, usize, &[u8]); 9] = [
        ("count", 60, &[0xff; 4]),
        ("a few too many", 60, &[0, 0, 0xff, 0xff]),
        ("table outside", 64, &[0, 0, 0xff, 0, 0, 0, 0, 0]),
        ("table unaligned", 71, &[1]),
        ("L1 unaligned", at + 7, &[1]),
        ("L1 outside", at, &[0, 0, 0xff, 0]),
        ("L1 too large", at + 8, &[0xff; 4]),
        ("extra data", at + 36, &[0, 0xff, 0xff, 0xff]),
        ("names", second + 12, &[0xff; 4]),
    ];
    for (name, offset, bytes) in damages {
        let mut bad = good.clone();
        bad[offset..offset + bytes.len()].copy_from_slice(bytes);
        let disk = Recorder::new(bad.clone());
        let refused = super::create(&disk, &named("s")).is_err()
            && super::delete(&disk, "1", true).is_err()
            && super::apply(&disk, "1", true).is_err();
        if name != "names" {
            assert!(refused, "{name}");
            assert!(disk.bytes() == bad, "{name}");
        }
        let _ = super::super::check::check(&disk, crate::Repair::All);
    }
    // A snapshot that leads to what is not counted as used, and one that is the active table.
    let l1 = header.l1_offset.to_be_bytes();
    for (name, bytes) in [("free", [0, 0, 0, 0, 0, 0x40, 0, 0]), ("active", l1)] {
        let mut bad = good.clone();
        bad.resize(0x60_0000, 0);
        bad[at..at + 8].copy_from_slice(&bytes);
        let disk = Recorder::new(bad);
        let result = super::delete(&disk, "1", true);
        let found = super::super::check::check(&disk, crate::Repair::No).unwrap();
        assert!(
            result.is_err() || found.check_errors == 0,
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_name_that_has_become_too_long_is_not_written() {
    let mut table = Table::default();
    let snapshot = |len: usize| super::table::Snapshot {
        l1_offset: 0,
        l1_size: 0,
        view: named(&"x".repeat(len)),
        more: Vec::new(),
        extra_len: 0,
    };
    table.snapshots.push(snapshot(65535));
    table.to_bytes().unwrap();
    table.snapshots.push(snapshot(65536));
    table.to_bytes().unwrap_err();
}

#[test]
fn a_state_that_no_snapshot_has_is_given_back() {
    if !is_here() {
        return;
    }
    for options in ["cluster_size=64k", "cluster_size=512", "extended_l2=on"] {
        let bench = Bench::new();
        bench.img(&["create", "-f", "qcow2", "-o", options, "a", "3M"]);
        let node = image(&bench.path("a"));
        node.write_at(0, &[1; 4096]).unwrap();
        write_state(snapshots(&node), 0, &vec![7; 2_000_000]);
        snapshots(&node).drop_vm_state().unwrap();
        close(node);
        bench.is_clean("a");
        let size = std::fs::metadata(bench.path("a")).unwrap().len();
        // With small clusters there are tables behind what was given back.
        assert!(options == "cluster_size=512" || size < 1_000_000, "{size}");
        let node = image(&bench.path("a"));
        snapshots(&node).drop_vm_state().unwrap();
        assert!(snapshots(&node).read_vm_state("1").is_err());
        close(node);
    }
}

#[test]
fn a_state_is_read_while_the_disk_changes() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    bench.img(&["create", "-f", "qcow2", "-o", "cluster_size=4k", "a", "8M"]);
    let node = image(&bench.path("a"));
    let state: Vec<u8> = (0..9_000_000u32).map(|at| (at / 4099) as u8).collect();
    // Pieces of no particular size, with a gap, one over another.
    for (from, to) in [
        (0, 5_000_001),
        (4_000_000, 4_100_000),
        (6_000_000, 9_000_000),
    ] {
        write_state(snapshots(&node), from as u64, &state[from..to]);
    }
    let view = SnapshotView {
        vm_state_size: state.len() as u64,
        ..named("vm")
    };
    let id = snapshots(&node).create(&view).unwrap();
    let mut reader = snapshots(&node).read_vm_state(&id).unwrap();
    let mut back = vec![0; 1_000_000];
    reader.read_exact(&mut back).unwrap();
    node.write_at(0, &[3; 1 << 20]).unwrap();
    snapshots(&node).apply(&id).unwrap();
    reader.read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), state.len());
    assert!(back[..5_000_001] == state[..5_000_001]);
    assert!(back[5_000_001..6_000_000].iter().all(|byte| *byte == 0));
    assert!(back[6_000_000..] == state[6_000_000..]);
    drop(reader);
    close(node);
    bench.is_clean("a");
}
