//! Images that are truncated, cyclic, overlapping, or absurd: a clear error, and nothing worse.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use miniz_oxide::inflate::decompress_to_vec_zlib;
use tempfile::TempDir;

use super::vhdx_checksums;
use crate::graph::{ChildSpec, DriverSpec, FormatKind, FormatSpec, Graph, NodeSpec};
use crate::image::Repair;
use crate::node::{BlockNode, NodeExt};
use crate::pool::test_pool;
use crate::testing::{MemoryImage, MemoryNode, open_image};
use crate::{Aio, FileSpec, Locking};

const MIB: usize = 1 << 20;

/// A good image, as fuzzing begins with.
fn seed(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds");
    let bytes = std::fs::read(Path::new(folder).join(format!("{name}.z"))).unwrap();
    decompress_to_vec_zlib(&bytes).unwrap()
}

fn kind_of(name: &str) -> FormatKind {
    FormatKind::by_name(name.split('-').next().unwrap()).unwrap()
}

fn open(kind: FormatKind, bytes: Vec<u8>) -> Result<Arc<dyn BlockNode>, String> {
    let with = MemoryImage {
        read_only: true,
        ..MemoryImage::default()
    };
    let node = Arc::new(MemoryNode::new(bytes, 0));
    open_image(kind, node, &with).map_err(|error| error.to_string())
}

/// The seed with bytes put at places.
fn patched(name: &str, patches: &[(usize, &[u8])]) -> Result<Arc<dyn BlockNode>, String> {
    let mut bytes = seed(name);
    for (at, patch) in patches {
        bytes[*at..at + patch.len()].copy_from_slice(patch);
    }
    if kind_of(name) == FormatKind::Vhdx {
        vhdx_checksums(&mut bytes);
    }
    open(kind_of(name), bytes)
}

#[track_caller]
fn refused(name: &str, at: usize, patch: &[u8], message: &str) {
    let error = patched(name, &[(at, patch)]).err();
    let error = error.unwrap_or_else(|| panic!("{name} opens with {patch:?} at {at}"));
    assert!(error.contains(message), "{error}");
}

/// It opens, but the first bytes cannot be read.
#[track_caller]
fn unreadable(name: &str, at: usize, patch: &[u8]) {
    let image = patched(name, &[(at, patch)]).unwrap();
    let error = image.read_at(0, &mut [0; 512]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    let mut last = [0; 512];
    let _ = image.read_at(image.info().size - 512, &mut last);
}

const ALL: [&str; 12] = [
    "qcow2-plain",
    "qcow2-snapshot",
    "qcow2-zlib",
    "qed-plain",
    "qed-backed",
    "vmdk-monolithicSparse",
    "vmdk-streamOptimized",
    "vmdk-monolithicFlat",
    "vpc-fixed",
    "vpc-dynamic",
    "vhdx-fixed",
    "vhdx-dynamic",
];

#[test]
fn images_that_are_truncated_anywhere_do_no_harm() {
    for name in ALL {
        let bytes = seed(name);
        let step = (bytes.len() / 64).next_multiple_of(512);
        let lengths = [0, 1, 511, 512, 1024].into_iter();
        for len in lengths.chain((0..bytes.len()).step_by(step)) {
            let cut = bytes[..len.min(bytes.len())].to_vec();
            let Ok(image) = open(kind_of(name), cut) else {
                continue;
            };
            let mut some = [0; 4096];
            for at in (0..image.info().size.saturating_sub(4096)).step_by(65536) {
                let _ = image.read_at(at, &mut some);
            }
            let _ = image.image().map(|image| image.check(Repair::No));
        }
    }
}

#[test]
fn no_format_is_taken_for_another() {
    for name in ALL {
        for kind in FormatKind::ALL {
            let opened = open(kind, seed(name));
            assert!(
                opened.is_err() || kind == kind_of(name),
                "{name} as {kind:?}"
            );
        }
    }
    for kind in FormatKind::ALL {
        assert!(open(kind, Vec::new()).is_err());
        assert!(open(kind, vec![0; 4 * MIB]).is_err());
        assert!(open(kind, vec![0xff; 64 << 10]).is_err());
    }
}

#[test]
fn qed_headers_that_make_no_sense_are_refused() {
    let bad = |at, patch: &[u8], message| refused("qed-plain", at, patch, message);
    bad(0, b"QEX\0", "Image not in QED format");
    bad(4, &0u32.to_le_bytes(), "QED cluster size");
    bad(4, &4097u32.to_le_bytes(), "QED cluster size");
    bad(4, &(1u32 << 31).to_le_bytes(), "QED cluster size");
    bad(8, &0u32.to_le_bytes(), "QED table size");
    bad(8, &u32::MAX.to_le_bytes(), "QED table size");
    bad(12, &0u32.to_le_bytes(), "QED header size is zero");
    bad(12, &u32::MAX.to_le_bytes(), "no L1 table");
    bad(
        16,
        &(1u64 << 63).to_le_bytes(),
        "Unsupported QED features: 8000000000000000",
    );
    bad(40, &0u64.to_le_bytes(), "no L1 table");
    bad(40, &(1u64 << 62).to_le_bytes(), "no L1 table");
    bad(40, &4097u64.to_le_bytes(), "no L1 table");
    bad(48, &(1u64 << 63).to_le_bytes(), "QED image size");
    bad(48, &u64::MAX.to_le_bytes(), "QED image size");
    bad(48, &513u64.to_le_bytes(), "QED image size");
    let bad = |at, patch: &[u8], message| refused("qed-backed", at, patch, message);
    bad(56, &u32::MAX.to_le_bytes(), "QED name of the backing file");
    bad(60, &u32::MAX.to_le_bytes(), "QED name of the backing file");
    bad(60, &2048u32.to_le_bytes(), "QED name of the backing file");
    bad(64, b"\xff\0", "QED name of the backing file is no text");
}

#[test]
fn qed_tables_that_overlap_or_lead_out_of_the_file_are_not_followed() {
    // Itself, the header, beyond the end, between clusters, the end of the numbers.
    for place in [
        4096u64,
        0x1000 + 1,
        1,
        1 << 30,
        u64::MAX,
        u64::MAX - 4095,
        512,
    ] {
        unreadable("qed-plain", 4096, &place.to_le_bytes());
    }
    let l2 = u64::from_le_bytes(seed("qed-plain")[4096..4104].try_into().unwrap());
    for place in [4096u64, 8192, 1 << 30, u64::MAX, 4097] {
        unreadable("qed-plain", l2 as usize, &place.to_le_bytes());
    }
    // An L2 table as data, and a table as its own: nothing worse than nonsense is read.
    let image = patched("qed-plain", &[(l2 as usize, &l2.to_le_bytes())]).unwrap();
    image.read_at(0, &mut [0; 512]).unwrap();
    let report = image.image().unwrap().check(Repair::No).unwrap();
    assert_eq!(report.corruptions, 1);
    // Every L1 entry leads to the same table.
    let mut bytes = seed("qed-plain");
    bytes[48..56].copy_from_slice(&(1u64 << 32).to_le_bytes());
    let entry = bytes[4096..4104].to_vec();
    for at in (4096..3 * 4096).step_by(8) {
        bytes[at..at + 8].copy_from_slice(&entry);
    }
    let image = open(FormatKind::Qed, bytes).unwrap();
    let report = image.image().unwrap().check(Repair::No).unwrap();
    assert_eq!(report.corruptions, 1023, "each is looked at once");
}

#[test]
fn vmdk_headers_that_make_no_sense_are_refused() {
    let bad = |at, patch: &[u8], message| refused("vmdk-monolithicSparse", at, patch, message);
    let max = u64::MAX.to_le_bytes();
    bad(0, b"XXXX", "Image not in VMDK format");
    bad(0, b"COWD", "COWD");
    bad(4, &4u32.to_le_bytes(), "Unsupported VMDK version 4");
    bad(12, &max, "a number is too large");
    bad(12, &(1u64 << 54).to_le_bytes(), "L1 size too big");
    bad(
        12,
        &(1u64 << 53).to_le_bytes(),
        "directory is outside of the file",
    );
    bad(20, &0u64.to_le_bytes(), "Invalid granularity");
    bad(20, &3u64.to_le_bytes(), "Invalid granularity");
    bad(20, &(1u64 << 40).to_le_bytes(), "Invalid granularity");
    bad(28, &max, "a number is too large");
    bad(28, &(1u64 << 40).to_le_bytes(), "outside of the file");
    bad(36, &(1u64 << 40).to_le_bytes(), "outside of the file");
    bad(44, &0u32.to_le_bytes(), "L2 table size");
    bad(44, &u32::MAX.to_le_bytes(), "L2 table size");
    bad(
        56,
        &(1u64 << 50).to_le_bytes(),
        "directory is outside of the file",
    );
    bad(56, &max, "invalid VMDK footer");
    bad(
        512,
        b"# nothing of the kind",
        "invalid VMDK image descriptor",
    );
    refused(
        "vmdk-streamOptimized",
        77,
        &[2, 0],
        "Unsupported compression",
    );
    refused(
        "vmdk-streamOptimized",
        20,
        &(1u64 << 20).to_le_bytes(),
        "Invalid granularity",
    );
}

#[test]
fn vmdk_tables_that_lead_out_of_the_file_are_not_followed() {
    // The directory at sector 26, and its first table.
    let directory = 26 * 512;
    let bytes = seed("vmdk-monolithicSparse");
    let table = u32::from_le_bytes(bytes[directory..directory + 4].try_into().unwrap());
    for place in [u32::MAX, 1 << 20] {
        unreadable("vmdk-monolithicSparse", directory, &place.to_le_bytes());
        unreadable(
            "vmdk-monolithicSparse",
            table as usize * 512,
            &place.to_le_bytes(),
        );
    }
    // A directory that is its own table.
    let own = (directory as u32 / 512).to_le_bytes();
    let image = patched("vmdk-monolithicSparse", &[(directory, &own)]).unwrap();
    let _ = image.read_at(0, &mut [0; 512]);
}

#[test]
fn vmdk_grains_that_do_not_unpack_are_errors() {
    let name = "vmdk-streamOptimized";
    let bytes = seed(name);
    let directory = 26 * 512;
    let table = u32::from_le_bytes(bytes[directory..directory + 4].try_into().unwrap());
    let entry = table as usize * 512;
    let grain = u32::from_le_bytes(bytes[entry..entry + 4].try_into().unwrap()) as usize * 512;
    unreadable(name, grain, &7u64.to_le_bytes());
    unreadable(name, grain + 8, &0u32.to_le_bytes());
    unreadable(name, grain + 8, &u32::MAX.to_le_bytes());
    unreadable(name, grain + 12, &[0xff; 16]);
    // More than a grain comes out.
    let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 16 * MIB], 9);
    let len = (bomb.len() as u32).to_le_bytes();
    let mut image = bytes.clone();
    image.resize(grain + 12 + bomb.len(), 0);
    image[grain + 8..grain + 12].copy_from_slice(&len);
    image[grain + 12..grain + 12 + bomb.len()].copy_from_slice(&bomb);
    let image = open(FormatKind::Vmdk, image).unwrap();
    assert!(image.read_at(0, &mut [0; 512]).is_err());
}

#[test]
fn vpc_headers_that_make_no_sense_are_refused() {
    let bad = |at, patch: &[u8], message| refused("vpc-dynamic", at, patch, message);
    let end = seed("vpc-dynamic").len() - 512;
    assert!(patched("vpc-dynamic", &[(0, b"x"), (end, b"x")]).is_err());
    bad(16, &u64::MAX.to_be_bytes(), "header is outside of the file");
    bad(
        48,
        &(1u64 << 63).to_be_bytes(),
        "larger than the format allows",
    );
    bad(48, &(1u64 << 40).to_be_bytes(), "Page table too small");
    bad(
        60,
        &4u32.to_be_bytes(),
        "Differencing VHD images are not supported",
    );
    bad(60, &9u32.to_be_bytes(), "Unknown VHD disk type 9");
    bad(512, b"x", "no header of a dynamic disk");
    bad(
        512 + 16,
        &u64::MAX.to_be_bytes(),
        "table is outside of the file",
    );
    bad(512 + 28, &0u32.to_be_bytes(), "Page table too small");
    bad(
        512 + 28,
        &u32::MAX.to_be_bytes(),
        "table is outside of the file",
    );
    bad(512 + 32, &0u32.to_be_bytes(), "Invalid block size 0");
    bad(512 + 32, &0x30_0000u32.to_be_bytes(), "Invalid block size");
    let end = seed("vpc-fixed").len() - 512;
    let size = (1u64 << 30).to_be_bytes();
    refused("vpc-fixed", end + 48, &size, "VHD image is truncated");
    // A block beyond the end of the file, and one in the table.
    unreadable("vpc-dynamic", 1536, &(u32::MAX - 1).to_be_bytes());
    let image = patched("vpc-dynamic", &[(1536, &0u32.to_be_bytes())]).unwrap();
    image.read_at(0, &mut [0; 512]).unwrap();
}

#[test]
fn vhdx_headers_that_make_no_sense_are_refused() {
    let bad = |at, patch: &[u8], message| refused("vhdx-dynamic", at, patch, message);
    bad(0, b"x", "Image not in VHDX format");
    let both = [(64 << 10, &b"x"[..]), (128 << 10, &b"x"[..])];
    let error = patched("vhdx-dynamic", &both).err().unwrap();
    assert_eq!(error, "No valid VHDX header found");
    let both = [(192 << 10, &b"x"[..]), (256 << 10, &b"x"[..])];
    let error = patched("vhdx-dynamic", &both).err().unwrap();
    assert_eq!(error, "No valid VHDX region table found");
    // The region table: two entries of 32 bytes.
    let regions = 192 << 10;
    bad(regions + 8, &u32::MAX.to_le_bytes(), "entries");
    bad(
        regions + 8,
        &1u32.to_le_bytes(),
        "no block table or no metadata",
    );
    let mut entry = [9; 32];
    bad(regions + 16, &entry, "unknown region that is required");
    entry[28] = 8;
    bad(regions + 16, &entry, "no block table or no metadata");
    bad(
        regions + 32,
        &(1u64 << 63).to_le_bytes(),
        "outside of the file",
    );
    bad(regions + 32, &0u64.to_le_bytes(), "overlaps the headers");
    bad(regions + 40, &u32::MAX.to_le_bytes(), "outside of the file");
    bad(regions + 40, &0u32.to_le_bytes(), "too small for the disk");
    // The metadata are at 3 MiB; their items begin 64 KiB further on.
    let table = 3 * MIB;
    bad(table, b"x", "metadata is damaged");
    bad(table + 10, &u16::MAX.to_le_bytes(), "metadata is damaged");
    bad(table + 10, &0u16.to_le_bytes(), "incomplete");
    bad(
        table + 32 + 16,
        &u32::MAX.to_le_bytes(),
        "metadata is damaged",
    );
    let items = table + (64 << 10);
    bad(items, &0u32.to_le_bytes(), "Invalid VHDX block size 0");
    bad(
        items,
        &(1u32 << 31).to_le_bytes(),
        "Invalid VHDX block size",
    );
    bad(
        items + 4,
        &2u32.to_le_bytes(),
        "Differencing VHDX images are not supported",
    );
    bad(
        items + 8,
        &(1u64 << 63).to_le_bytes(),
        "Invalid VHDX disk size",
    );
    bad(items + 8, &1000u64.to_le_bytes(), "Invalid VHDX disk size");
    bad(
        items + 8,
        &(1u64 << 46).to_le_bytes(),
        "too small for the disk",
    );
}

#[test]
fn vhdx_with_changes_in_its_log_is_refused() {
    let mut entry = b"loge".to_vec();
    entry.resize(64, 0);
    entry[24] = 1;
    entry[32..48].fill(9);
    // Both headers name that log, which is at 1 MiB.
    let patches: &[(usize, &[u8])] = &[
        ((64 << 10) + 48, &[9; 16]),
        ((128 << 10) + 48, &[9; 16]),
        (MIB + 4096, &entry),
    ];
    let error = patched("vhdx-dynamic", patches).err().unwrap();
    assert!(
        error.contains("contains a log that needs to be replayed"),
        "{error}"
    );
    // Entries of another log are old.
    patched("vhdx-dynamic", &patches[2..]).unwrap();
    patched("vhdx-dynamic", &patches[..2]).unwrap();
}

#[test]
fn vhdx_blocks_outside_of_the_file_are_not_read() {
    let table = 2 * MIB;
    for entry in [6u64, 7, (1 << 63) | 6, u64::MAX - 1, (1 << 40) | 6] {
        unreadable("vhdx-dynamic", table, &entry.to_le_bytes());
    }
}

#[test]
fn qcow2_headers_that_make_no_sense_are_refused() {
    for (at, patch) in [
        (4, &9u32.to_be_bytes()[..]),
        (20, &0u32.to_be_bytes()),
        (20, &8u32.to_be_bytes()),
        (20, &22u32.to_be_bytes()),
        (20, &63u32.to_be_bytes()),
        (24, &(1u64 << 63).to_be_bytes()),
        (24, &u64::MAX.to_be_bytes()),
        (32, &1u32.to_be_bytes()),
        (36, &u32::MAX.to_be_bytes()),
        (36, &0u32.to_be_bytes()),
        (40, &1u64.to_be_bytes()),
        (40, &(1u64 << 60).to_be_bytes()),
        (48, &(1u64 << 60).to_be_bytes()),
        (48, &1u64.to_be_bytes()),
        (56, &u32::MAX.to_be_bytes()),
        (60, &u32::MAX.to_be_bytes()),
        (72, &(1u64 << 62).to_be_bytes()),
        (96, &7u32.to_be_bytes()),
        (100, &u32::MAX.to_be_bytes()),
    ] {
        refused("qcow2-plain", at, patch, "");
    }
}

fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

fn open_file(path: &Path, kind: FormatKind) -> Result<(), String> {
    let file = NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Threads,
        locking: Locking::Off,
    }));
    let mut spec = NodeSpec::new(DriverSpec::Format(FormatSpec::new(
        kind,
        ChildSpec::Inline(file),
    )));
    spec.read_only = Some(true);
    // With as much stack as the thread has that opens images; tests have less.
    #[allow(clippy::disallowed_methods)]
    let opened = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(move || Graph::new(test_pool()).add(spec.named("image"), &mut opener));
    let opened = opened.unwrap().join().unwrap();
    opened.map_err(|error| error.to_string())
}

/// On a stack like the one of the thread that opens nodes.
#[test]
#[allow(clippy::disallowed_methods)] // a test's own thread
fn images_that_are_their_own_backing_file_are_refused() {
    let thread = std::thread::Builder::new().stack_size(8 * MIB);
    thread.spawn(own_backing_files).unwrap().join().unwrap();
}

fn own_backing_files() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("own.img");
    let too_deep = "More than 100 nodes above each other";

    let mut qed = seed("qed-backed");
    qed[60..64].copy_from_slice(&7u32.to_le_bytes());
    qed[64..71].copy_from_slice(b"own.img");
    // Not raw: to be looked at.
    qed[16..24].copy_from_slice(&1u64.to_le_bytes());
    std::fs::write(&path, &qed).unwrap();
    assert_eq!(open_file(&path, FormatKind::Qed).unwrap_err(), too_deep);

    let mut vmdk = seed("vmdk-monolithicSparse");
    let text = String::from_utf8_lossy(&vmdk[512..512 + 20 * 512]).into_owned();
    let text = text.trim_end_matches('\0').replace(
        "parentCID=ffffffff",
        "parentCID=00000001\nparentFileNameHint=\"own.img\"",
    );
    vmdk[512..512 + text.len()].copy_from_slice(text.as_bytes());
    std::fs::write(&path, &vmdk).unwrap();
    assert_eq!(open_file(&path, FormatKind::Vmdk).unwrap_err(), too_deep);
}

#[test]
fn vmdk_extents_that_are_the_descriptor_itself_or_too_short_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("own.vmdk");
    let open = |extent: &str| {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n\
             createType=\"monolithicFlat\"\n{extent}\n"
        );
        std::fs::write(&path, text).unwrap();
        open_file(&path, FormatKind::Vmdk)
    };
    let error = open("RW 1 SPARSE \"own.vmdk\"").unwrap_err();
    assert_eq!(error, "Image not in VMDK format");
    let error = open("RW 100 FLAT \"own.vmdk\" 0").unwrap_err();
    assert_eq!(
        error,
        "VMDK extent 'own.vmdk' is truncated: 512 bytes of 51200"
    );
    let error = open("RW 1 FLAT \"own.vmdk\" 36028797018963967").unwrap_err();
    assert!(error.contains("truncated"), "{error}");
    let error = open("RW 1 FLAT \"nope.vmdk\" 0").unwrap_err();
    assert!(
        error.ends_with("nope.vmdk': No such file or directory"),
        "{error}"
    );
    let error = open("RW 18014398509481983 ZERO\nRW 18014398509481983 ZERO").unwrap_err();
    assert_eq!(error, "VMDK image is too large");
    open("RW 1 FLAT \"own.vmdk\" 0\nRW 100 ZERO").unwrap();
}
