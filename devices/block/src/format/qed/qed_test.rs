use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::graph::FormatKind;
use crate::image::CheckReport;
use crate::node::NodeExt;
use crate::request::Unmap;
use crate::testing::{MemoryImage, MemoryNode, open_image};

const MIB: u64 = 1 << 20;

/// An empty image with small clusters and tables.
fn small(size: u64) -> MemoryNode {
    let node = MemoryNode::new(Vec::new(), 64 * MIB);
    let options = QedCreate {
        size,
        cluster_size: Some(4096),
        table_size: Some(1),
        ..QedCreate::default()
    };
    create(&node, &options).unwrap();
    node.keeping()
}

fn open_with(node: &MemoryNode, backing: Option<Vec<u8>>) -> Result<Arc<dyn BlockNode>, String> {
    let backing =
        backing.map(|bytes| -> Arc<dyn BlockNode> { Arc::new(MemoryNode::new(bytes, 0)) });
    let with = MemoryImage {
        backing,
        ..MemoryImage::default()
    };
    open_image(FormatKind::Qed, Arc::new(node.clone()), &with).map_err(|error| error.to_string())
}

fn open(node: &MemoryNode) -> Arc<dyn BlockNode> {
    open_with(node, None).unwrap()
}

fn check(image: &Arc<dyn BlockNode>, repair: Repair) -> CheckReport {
    image.image().unwrap().check(repair).unwrap()
}

fn content(image: &Arc<dyn BlockNode>) -> Vec<u8> {
    let mut bytes = vec![0x55; image.info().size as usize];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

fn zeroes(offset: u64, len: u64) -> Op {
    Op::WriteZeroes {
        offset,
        len,
        unmap: Unmap::May,
        durability: Durability::Cached,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, u64, u8),
    Zeroes(u64, u64),
    Discard(u64, u64),
    Flush,
    Reopen,
    Grow(u64),
}

fn range(size: u64) -> impl Strategy<Value = (u64, u64)> {
    let sectors = size / SECTOR;
    (0..sectors, 1u64..40)
        .prop_map(move |(start, len)| (start * SECTOR, len.min(sectors - start) * SECTOR))
}

fn step(size: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (range(size), 1u8..).prop_map(|((at, len), fill)| Step::Write(at, len, fill)),
        2 => range(size).prop_map(|(at, len)| Step::Zeroes(at, len)),
        1 => range(size).prop_map(|(at, len)| Step::Discard(at, len)),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => (1u64..64).prop_map(|sectors| Step::Grow(sectors * SECTOR)),
    ]
}

/// Whether `bytes` is what the model says; 0xdd of the model may be anything.
fn same(bytes: &[u8], model: &[u8], unknown: &[bool]) -> bool {
    bytes.len() == model.len()
        && bytes
            .iter()
            .zip(model)
            .zip(unknown)
            .all(|((byte, wanted), unknown)| *unknown || byte == wanted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn images_hold_what_was_written(
        steps in proptest::collection::vec(step(MIB), 1..60),
        backing_sectors in proptest::option::of(0u64..3000),
    ) {
        let node = small(MIB);
        let backing = backing_sectors.map(|sectors| vec![0xbb; (sectors * SECTOR) as usize]);
        let mut model = vec![0; MIB as usize];
        for (to, from) in model.iter_mut().zip(backing.iter().flatten()) {
            *to = *from;
        }
        let mut unknown = vec![false; model.len()];
        let mut image = open_with(&node, backing.clone()).unwrap();
        for step in steps {
            match step {
                Step::Write(at, len, fill) => {
                    image.write_at(at, &vec![fill; len as usize]).unwrap();
                    model[at as usize..(at + len) as usize].fill(fill);
                    unknown[at as usize..(at + len) as usize].fill(false);
                }
                Step::Zeroes(at, len) => {
                    image.perform(zeroes(at, len), &Buffers::new()).unwrap();
                    model[at as usize..(at + len) as usize].fill(0);
                    unknown[at as usize..(at + len) as usize].fill(false);
                }
                Step::Discard(at, len) => {
                    let op = Op::Discard { offset: at, len };
                    image.perform(op, &Buffers::new()).unwrap();
                    unknown[at as usize..(at + len) as usize].fill(true);
                }
                Step::Flush => image.flush().unwrap(),
                Step::Reopen => {
                    image.image().unwrap().close().unwrap();
                    prop_assert!(!image.image().unwrap().view().dirty);
                    image = open_with(&node, backing.clone()).unwrap();
                }
                Step::Grow(more) => {
                    image.resize(model.len() as u64 + more).unwrap();
                    model.resize(model.len() + more as usize, 0);
                    unknown.resize(model.len(), false);
                }
            }
        }
        prop_assert!(same(&content(&image), &model, &unknown));
        let report = check(&image, Repair::No);
        prop_assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report);
    }

    #[test]
    fn a_crash_leaks_at_most_and_flushed_bytes_are_there(
        steps in proptest::collection::vec(step(MIB), 1..40),
        backed in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let node = small(MIB);
        let backing = backed.then(|| vec![0xbb; MIB as usize]);
        let image = open_with(&node, backing.clone()).unwrap();
        // What each sector may be: what was flushed, or anything written after that.
        let first = if backed { 0xbb } else { 0 };
        let mut allowed = vec![vec![first]; (MIB / SECTOR) as usize];
        for step in steps {
            let (at, len, fill) = match step {
                Step::Write(at, len, fill) => {
                    image.write_at(at, &vec![fill; len as usize]).unwrap();
                    (at, len, fill)
                }
                Step::Zeroes(at, len) => {
                    image.perform(zeroes(at, len), &Buffers::new()).unwrap();
                    (at, len, 0)
                }
                Step::Flush => {
                    image.flush().unwrap();
                    for allowed in &mut allowed {
                        allowed.drain(..allowed.len() - 1);
                    }
                    continue;
                }
                Step::Discard(..) | Step::Reopen | Step::Grow(_) => continue,
            };
            for sector in at / SECTOR..(at + len) / SECTOR {
                allowed[sector as usize].push(fill);
            }
        }
        let mut state = seed | 1;
        let keep = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(2)
        };
        let left = MemoryNode::new(node.crash(keep), 64 * MIB);
        let with = MemoryImage { read_only: true, ..MemoryImage::default() };
        let image = open_image(FormatKind::Qed, Arc::new(left.clone()), &with).unwrap();
        let report = check(&image, Repair::No);
        prop_assert_eq!(report.corruptions, 0, "{:?}", report);
        let image = open_with(&left, backing).unwrap();
        prop_assert!(!image.image().unwrap().view().dirty, "it was checked");
        for (at, (sector, allowed)) in content(&image).chunks(512).zip(&allowed).enumerate() {
            let one = sector.iter().all(|byte| *byte == sector[0]);
            prop_assert!(one && allowed.contains(&sector[0]), "sector {at}: none of {allowed:?}");
        }
    }
}

#[test]
fn the_bit_is_set_before_tables_lead_to_new_clusters() {
    let node = small(MIB);
    let image = open(&node);
    image.write_at(0, &[1; 512]).unwrap();
    assert!(
        !image.image().unwrap().view().dirty,
        "nothing leads there yet"
    );
    image.flush().unwrap();
    assert!(image.image().unwrap().view().dirty);
    let on_disk = Header::parse(&node.bytes()[..512], node.info().size).unwrap();
    assert!(on_disk.needs_check());
    let flushes = node.flushes();
    image.write_at(512, &[2; 512]).unwrap();
    image.flush().unwrap();
    assert_eq!(
        node.flushes(),
        flushes + 1,
        "there is nothing but data to make durable"
    );
    image.image().unwrap().close().unwrap();
    let on_disk = Header::parse(&node.bytes()[..512], node.info().size).unwrap();
    assert!(!on_disk.needs_check());
    let error = image.write_at(0, &[3; 512]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "it is closed");
    image.image().unwrap().reopen(false).unwrap();
    image.write_at(0, &[3; 512]).unwrap();
}

#[test]
fn a_full_disk_does_no_harm() {
    for left in 0..12 {
        let node = small(MIB);
        let image = open_with(&node, Some(vec![0xbb; MIB as usize])).unwrap();
        image.write_at(0, &[1; 512]).unwrap();
        image.flush().unwrap();
        node.fail_after(Some(left));
        for at in [0, 9 * 512, 100 * 512, 2000 * 512] {
            let _ = image.write_at(at, &[2; 1024]);
            let _ = image.flush();
        }
        node.fail_after(None);
        image.flush().unwrap();
        let report = check(&image, Repair::No);
        assert_eq!(report.corruptions, 0, "{left}: {report:?}");
        let bytes = content(&image);
        assert!(bytes[..512].iter().all(|byte| matches!(byte, 1 | 2)));
        let rest = bytes.iter().skip(1024);
        assert!(rest.clone().all(|byte| matches!(byte, 0xbb | 2)), "{left}");
        image.write_at(0, &vec![7; MIB as usize]).unwrap();
        assert_eq!(content(&image), vec![7; MIB as usize]);
    }
}

#[test]
fn what_leads_nowhere_is_taken_away() {
    let node = small(MIB);
    let image = open(&node);
    image.write_at(0, &[1; 8192]).unwrap();
    image.image().unwrap().close().unwrap();
    // The L1 table is the second cluster, the L2 table the third.
    for (place, value) in [
        (2 * 4096, 1u64 << 40),
        (2 * 4096 + 16, 12345),
        (4096 + 8, 4096),
    ] {
        node.write_at(place / 512 * 512, &{
            let mut sector = fields::read(&node, place / 512 * 512, 512).unwrap();
            fields::put(&mut sector, (place % 512) as usize, &value.to_le_bytes());
            sector
        })
        .unwrap();
    }
    let image = open(&node);
    let mut byte = [0; 512];
    assert!(image.read_at(0, &mut byte).is_err());
    image.read_at(4096, &mut byte).unwrap();
    assert_eq!(check(&image, Repair::No).corruptions, 3);
    let report = check(&image, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 3));
    image.read_at(0, &mut byte).unwrap();
    assert_eq!(byte, [0; 512]);
    let report = check(&image, Repair::No);
    assert_eq!((report.corruptions, report.leaks), (0, 1));
}

#[test]
fn a_dirty_image_with_clusters_used_twice_is_not_written() {
    let node = small(MIB);
    let image = open(&node);
    image.write_at(0, &[1; 8192]).unwrap();
    image.flush().unwrap();
    let mut sector = fields::read(&node, 2 * 4096, 512).unwrap();
    let first = sector[..8].to_vec();
    fields::put(&mut sector, 8, &first);
    node.write_at(2 * 4096, &sector).unwrap();
    let error = open_with(&node, None).err().unwrap();
    assert_eq!(
        error,
        "QED image was not closed cleanly and cannot be repaired: 1 corruptions, 0 errors"
    );
    let with = MemoryImage {
        read_only: true,
        ..MemoryImage::default()
    };
    open_image(FormatKind::Qed, Arc::new(node), &with).unwrap();
}

#[test]
fn backing_files_are_changed() {
    let node = small(MIB);
    let image = open(&node);
    let face = image.image().unwrap();
    for (file, format) in [
        (Some("a.img"), Some("raw")),
        (Some("b.qcow2"), Some("qcow2")),
        (None, None),
        (Some("c"), None),
    ] {
        face.change_backing(file, format).unwrap();
        let again = open(&node);
        let view = again.image().unwrap().view();
        assert_eq!(view.backing_file.as_deref(), file);
        assert_eq!(
            view.backing_format.as_deref(),
            format.filter(|name| *name == "raw")
        );
    }
    let long = "x".repeat(1024);
    let error = face.change_backing(Some(&long), None).unwrap_err();
    assert_eq!(error.to_string(), "Backing file name too long");
    assert_eq!(face.view().backing_file.as_deref(), Some("c"));
}

#[test]
fn bad_sizes_are_refused() {
    let node = MemoryNode::new(Vec::new(), 64 * MIB);
    let make = |size, cluster_size, table_size| {
        let options = QedCreate {
            size,
            cluster_size,
            table_size,
            ..QedCreate::default()
        };
        create(&node, &options).map_err(|error| error.to_string())
    };
    for (size, cluster, table, message) in [
        (
            MIB,
            Some(0),
            None,
            "QED cluster size must be within range [4096, 67108864] and power of 2",
        ),
        (
            MIB,
            Some(5000),
            None,
            "QED cluster size must be within range [4096, 67108864] and power of 2",
        ),
        (
            MIB,
            None,
            Some(0),
            "QED table size must be within range [1, 16] and power of 2",
        ),
        (
            MIB,
            None,
            Some(32),
            "QED table size must be within range [1, 16] and power of 2",
        ),
        (
            1 << 63,
            None,
            None,
            "QED image size must be a non-zero multiple of cluster size and less than \
             70368744177664 bytes",
        ),
    ] {
        assert_eq!(make(size, cluster, table).unwrap_err(), message);
    }
    make(MIB, None, None).unwrap();
    let image = open(&node);
    let error = image.resize(512).unwrap_err().to_string();
    assert_eq!(error, "Shrinking images is currently not supported");
    assert!(image.resize(1 << 60).is_err());
    assert_eq!(image.info().size, MIB);
}

#[test]
fn qemu_img_agrees() {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        println!("skipped: no qemu-img");
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new("qemu-img")
            .args(args)
            .current_dir(&dir)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    for cluster in [4096, 65536, 1 << 20] {
        let node = MemoryNode::new(Vec::new(), 512 * MIB);
        let options = QedCreate {
            size: 40 * MIB + 512,
            cluster_size: Some(cluster),
            table_size: Some(2),
            ..QedCreate::default()
        };
        create(&node, &options).unwrap();
        let image = open(&node);
        let size = image.info().size;
        for (i, at) in [0, 12345 * 512, 20 * MIB, size - 512]
            .into_iter()
            .enumerate()
        {
            image.write_at(at, &[i as u8 + 1; 512]).unwrap();
        }
        image
            .perform(zeroes(19 * MIB, 2 * MIB), &Buffers::new())
            .unwrap();
        image.image().unwrap().close().unwrap();
        std::fs::write(dir.path().join("a.qed"), node.bytes()).unwrap();
        std::fs::write(dir.path().join("a.raw"), content(&image)).unwrap();
        let (code, text) = run(&["check", "-f", "qed", "a.qed"]);
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = run(&["compare", "-f", "qed", "-F", "raw", "a.qed", "a.raw"]);
        assert_eq!(code, Some(0), "{text}");
        // And the other way round.
        let options = format!("cluster_size={cluster},table_size=2");
        let convert = [
            "convert", "-f", "raw", "-O", "qed", "-o", &options, "a.raw", "b.qed",
        ];
        assert_eq!(run(&convert).0, Some(0));
        let bytes = std::fs::read(dir.path().join("b.qed")).unwrap();
        let other = open(&MemoryNode::new(bytes, 512 * MIB));
        assert_eq!(content(&other), content(&image));
        assert_eq!(check(&other, Repair::No).leaks, 0);
    }
}

#[test]
fn an_image_that_cannot_be_closed_goes_on_with_all_it_has() {
    let node = small(MIB);
    let image = open(&node);
    image.write_at(0, &[7; 8192]).unwrap();
    node.fail_after(Some(0));
    image.image().unwrap().close().unwrap_err();
    image.image().unwrap().reopen(false).unwrap();
    node.fail_after(None);
    image.write_at(1 << 19, &[8; 4096]).unwrap();
    image.image().unwrap().close().unwrap();
    let image = open(&node);
    let all = content(&image);
    assert!(all[..8192].iter().all(|byte| *byte == 7));
    assert!(all[1 << 19..][..4096].iter().all(|byte| *byte == 8));
    assert_eq!(check(&image, Repair::No).leaks, 0);
}
