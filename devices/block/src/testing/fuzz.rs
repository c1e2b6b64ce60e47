//! What fuzz targets do with images: patch good ones, open what comes out, and use it as a guest
//! and as the monitor would. Nothing of that may panic, hang, or take much memory.

use std::path::Path;
use std::sync::Arc;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::{MemoryImage, MemoryNode, open_image};
use crate::buffers::Buffers;
use crate::format::vhdx_checksums;
use crate::graph::{FormatKind, Qcow2Options};
use crate::image::{Repair, SnapshotView};
use crate::node::{BlockNode, NodeExt, SECTOR};
use crate::request::{Durability, IoReq, Op, Token, Unmap};
use crate::waker::Waker;

/// Largest image.
const MOST: u64 = 24 << 20;
/// What a hand that wants to do harm writes into a field.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x200,
    0x1000,
    0xffff,
    0x1_0000,
    0x10_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    1 << 62,
    1 << 63,
    u64::MAX,
];

/// Good images of a format, out of a folder of deflated ones: name and bytes.
pub fn seeds(kind: FormatKind, folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        if name.starts_with(&format!("{}-", kind.name()))
            && let Ok(bytes) = decompress_to_vec_zlib_with_limit(&bytes, MOST as usize)
        {
            out.push((name, bytes));
        }
    }
    out.sort();
    out
}

/// A good image with what may be patched in it.
pub struct Seed {
    kind: FormatKind,
    bytes: Vec<u8>,
    /// Sectors that are not all zeroes: tables are among them.
    hot: Vec<usize>,
}

impl Seed {
    /// A seed of these bytes.
    pub fn new(kind: FormatKind, bytes: Vec<u8>) -> Self {
        let sectors = bytes.chunks(SECTOR as usize).enumerate();
        let hot = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        let hot = hot.map(|(number, _)| number).collect();
        Seed { kind, bytes, hot }
    }

    /// The image with patches that `data` describes, six bytes each.
    pub fn patched(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for patch in data.chunks_exact(6) {
            self.patch(&mut bytes, patch);
        }
        if self.kind == FormatKind::Vhdx {
            // Otherwise nothing but the checksums would be looked at.
            vhdx_checksums(&mut bytes);
        }
        bytes
    }

    fn patch(&self, bytes: &mut Vec<u8>, patch: &[u8]) {
        let [how, high, low, within, one, two] = *patch else {
            return;
        };
        let number = usize::from(u16::from_be_bytes([high, low]));
        let sector = match how & 0x80 {
            0 => self.hot.get(number % self.hot.len().max(1)).copied(),
            _ => Some(number % (bytes.len() / 512).max(1)),
        };
        let (sector, within) = match how & 0x40 {
            0 => (sector, usize::from(within)),
            // A header, mostly.
            _ => (self.hot.get(number % 4).copied(), usize::from(within % 64)),
        };
        let at = sector.unwrap_or(0) * 512 + within * 2 + usize::from(how & 1);
        let value = match one & 0x80 {
            0 => NUMBERS[usize::from(one) % NUMBERS.len()].wrapping_add(u64::from(two) & 3),
            _ => u64::from(two) << (one % 64),
        };
        let value = match (how >> 4) & 3 {
            0 => value,
            1 => value.wrapping_mul(512),
            2 => value.wrapping_add(bytes.len() as u64),
            _ => value.wrapping_sub(1),
        };
        let mut put = |data: &[u8]| {
            for (i, byte) in data.iter().enumerate() {
                if let Some(place) = bytes.get_mut(at + i) {
                    *place = *byte;
                }
            }
        };
        match (how >> 1) & 7 {
            0 => put(&[two]),
            1 => put(&(value as u32).to_be_bytes()),
            2 => put(&(value as u32).to_le_bytes()),
            3 => put(&value.to_be_bytes()),
            4 => put(&value.to_le_bytes()),
            5 => put(&(value as u16).to_be_bytes()),
            6 => {
                let from = usize::from(one) * 512 % bytes.len().max(1);
                let other = bytes.get(from..from + 64).unwrap_or(&[]).to_vec();
                for (place, byte) in bytes.iter_mut().skip(at).zip(other) {
                    *place = byte;
                }
            }
            _ if two < 32 => bytes.truncate(at),
            _ => put(&[one, two]),
        }
    }
}

/// Opens an image and does with it what can be done, in ways that `data` chooses. Whether it could
/// be opened.
pub fn exercise(kind: FormatKind, bytes: Vec<u8>, data: &[u8]) -> bool {
    let choice = data.first().copied().unwrap_or(0);
    let storage = MemoryNode::new(bytes, MOST);
    let other: Arc<dyn BlockNode> = Arc::new(MemoryNode::new(vec![0xbb; 64 << 10], 64 << 10));
    let with = MemoryImage {
        read_only: !kind.is_writable() || choice & 1 == 0,
        backing: (choice & 2 != 0).then(|| other.clone()),
        extents: vec![other; 4],
        qcow2: Qcow2Options {
            // Small, so that tables come and go.
            l2_cache_size: (choice & 4 != 0).then_some(4096),
            ..Qcow2Options::default()
        },
    };
    let Ok(node) = open_image(kind, Arc::new(storage), &with) else {
        return false;
    };
    look(&*node);
    if !with.read_only {
        change(&*node, data);
    }
    lane(&*node, data);
    if let Some(image) = node.image() {
        let _ = image.check(match choice & 24 {
            0 => Repair::All,
            8 => Repair::Leaks,
            _ => Repair::No,
        });
        let _ = image.close();
    }
    true
}

/// Places that are worth a look.
fn places(size: u64) -> [u64; 8] {
    let down = |at: u64| at / SECTOR * SECTOR;
    [
        0,
        4096,
        65536,
        131_072,
        down(size / 2),
        down(size / 3),
        700 << 10,
        size.saturating_sub(8192),
    ]
}

fn look(node: &dyn BlockNode) {
    let size = node.info().size;
    let mut bytes = vec![0; 8192];
    for at in places(size) {
        let _ = node.read_at(at, &mut bytes);
    }
    let mut at = 0;
    for _ in 0..64 {
        match node.extent(at, size.saturating_sub(at)) {
            Ok(extent) if extent.len > 0 => at += extent.len,
            Ok(_) | Err(_) => break,
        }
    }
    if let Some(image) = node.image() {
        let _ = image.view();
        let _ = image.snapshots().map(|snapshots| snapshots.list());
    }
}

fn change(node: &dyn BlockNode, data: &[u8]) {
    let size = node.info().size;
    let places = places(size);
    for step in data.chunks(2).take(24) {
        let (what, how) = (step[0], step.get(1).copied().unwrap_or(0));
        let offset = places[usize::from(how) % places.len()];
        let len = (u64::from(how >> 3) + 1) * SECTOR;
        match what % 8 {
            0..3 => {
                let _ = node.write_at(offset, &vec![how; len as usize]);
            }
            3 => {
                let unmap = if how & 1 == 0 {
                    Unmap::May
                } else {
                    Unmap::Keep
                };
                let op = Op::WriteZeroes {
                    offset,
                    len: len * 128,
                    unmap,
                    durability: Durability::Cached,
                };
                let _ = node.perform(op, &Buffers::new());
            }
            4 => {
                let len = len * 128;
                let _ = node.perform(Op::Discard { offset, len }, &Buffers::new());
            }
            5 => {
                let _ = node.flush();
            }
            6 => {
                let _ = node.resize(node.info().size.saturating_add(len));
            }
            _ => snapshot(node, how),
        }
    }
    let _ = node.flush();
    look(node);
}

fn snapshot(node: &dyn BlockNode, how: u8) {
    let Some(image) = node.image() else {
        return;
    };
    let Some(snapshots) = image.snapshots() else {
        let _ = image.change_backing(Some("x"), Some("raw"));
        return;
    };
    let first = snapshots.list().first().map(|view| view.id.clone());
    match (how % 3, first) {
        (0, _) | (_, None) => {
            let view = SnapshotView {
                name: "s".to_owned(),
                ..SnapshotView::default()
            };
            let _ = snapshots.create(&view);
        }
        (1, Some(id)) => {
            let _ = snapshots.apply(&id);
        }
        (_, Some(id)) => {
            let _ = snapshots.delete(&id);
        }
    }
}

fn lane(node: &dyn BlockNode, data: &[u8]) {
    let waker = Waker::new().expect("an event");
    let Ok(mut lane) = node.open_lane(4, &waker) else {
        return;
    };
    let mut done = Vec::new();
    for (number, byte) in data.iter().take(8).enumerate() {
        let offset = places(node.info().size)[usize::from(*byte) % 8];
        let buffers = Buffers::owned(crate::HostBuffer::from_bytes(&[*byte; 1024], 512));
        let op = match byte & 0xc0 {
            0 => Op::Write {
                offset,
                durability: Durability::Durable,
            },
            _ => Op::Read { offset },
        };
        done.extend(lane.submit(IoReq::new(op, buffers), Token(number as u64)));
    }
    lane.start();
    while lane.in_flight() > 0 {
        waker.wait();
        waker.clear();
        lane.reap(&mut done);
    }
}

/// A disk as it should be.
struct Model {
    bytes: Vec<u8>,
    /// Bytes that may be anything: discarded, or written in vain.
    unknown: Vec<bool>,
}

impl Model {
    fn of(node: &dyn BlockNode) -> Self {
        let mut bytes = vec![0; node.info().size as usize];
        node.read_at(0, &mut bytes).expect("a good image");
        let unknown = vec![false; bytes.len()];
        Model { bytes, unknown }
    }

    fn put(&mut self, offset: u64, len: u64, fill: Option<u8>) {
        let range = offset as usize..(offset + len) as usize;
        self.bytes[range.clone()].fill(fill.unwrap_or(0));
        self.unknown[range].fill(fill.is_none());
    }

    fn compare(&self, node: &dyn BlockNode) {
        let mut bytes = vec![0; self.bytes.len()];
        node.read_at(0, &mut bytes).expect("a good image");
        let wrong = (0..bytes.len()).find(|at| !self.unknown[*at] && bytes[*at] != self.bytes[*at]);
        assert_eq!(wrong, None, "a byte is not what was written");
    }
}

fn close(node: &dyn BlockNode) {
    let image = node.image().expect("a format");
    image.close().expect("there is room");
}

/// Does things with a good image that `data` chooses, with errors of the host among them, and
/// compares with a disk in memory.
pub fn operations(seed: &Seed, data: &[u8]) {
    let storage = MemoryNode::new(seed.bytes.clone(), MOST);
    let open = || {
        let with = MemoryImage::default();
        open_image(seed.kind, Arc::new(storage.clone()), &with).expect("a good image")
    };
    let mut node = open();
    let mut model = Model::of(&*node);
    for step in data.chunks_exact(4).take(64) {
        let [what, at, len, fill] = *step else {
            break;
        };
        let size = node.info().size;
        let offset = u64::from(at) * 9 * SECTOR % size;
        let len = (u64::from(len) + 1) * SECTOR;
        let len = len.min(size - offset);
        match what % 10 {
            0..3 => {
                let result = node.write_at(offset, &vec![fill; len as usize]);
                model.put(offset, len, result.ok().map(|()| fill));
            }
            3 | 4 => {
                let op = Op::WriteZeroes {
                    offset,
                    len,
                    unmap: if fill & 1 == 0 {
                        Unmap::May
                    } else {
                        Unmap::Keep
                    },
                    durability: Durability::Durable,
                };
                let result = node.perform(op, &Buffers::new());
                model.put(offset, len, result.ok().map(|()| 0));
            }
            5 => {
                let _ = node.perform(Op::Discard { offset, len }, &Buffers::new());
                model.put(offset, len, None);
            }
            6 => {
                let _ = node.flush();
            }
            7 if size < 2 << 20 => {
                if node.resize(size + len).is_ok() {
                    model.bytes.resize((size + len) as usize, 0);
                    model.unknown.resize((size + len) as usize, false);
                }
            }
            8 => storage.fail_after((fill & 1 == 0).then_some(u64::from(fill >> 1))),
            _ => {
                storage.fail_after(None);
                close(&*node);
                node = open();
            }
        }
    }
    storage.fail_after(None);
    model.compare(&*node);
    node.flush().expect("there is room");
    let report = node.image().map(|image| image.check(Repair::No));
    if let Some(Ok(report)) = report {
        assert_eq!(report.corruptions, 0, "{:?}", report.messages);
    }
    close(&*node);
    drop(node);
    model.compare(&*open());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the seeds are, which fuzz targets begin with, too.
    const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds");

    fn mutate(kind: FormatKind, rounds: u32) {
        let seeds = seeds(kind, Path::new(SEEDS));
        assert!(!seeds.is_empty());
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let each = rounds / seeds.len() as u32;
        let mut opened = 0;
        for (name, bytes) in seeds {
            let seed = Seed::new(kind, bytes);
            assert!(exercise(kind, seed.patched(&[]), &[1]), "{name}");
            for _ in 0..each {
                let patches = random() % 4 * 6;
                let data: Vec<u8> = (0..patches + 8).map(|_| random() as u8).collect();
                opened += u32::from(exercise(kind, seed.patched(&data), &data));
            }
        }
        // Otherwise nothing is tested.
        assert!((rounds / 5..rounds * 19 / 20).contains(&opened), "{opened}");
    }

    fn work(kind: FormatKind, rounds: u32) {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for (_, bytes) in seeds(kind, Path::new(SEEDS)) {
            let seed = Seed::new(kind, bytes);
            for _ in 0..rounds {
                let data: Vec<u8> = (0..160)
                    .map(|_| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        state as u8
                    })
                    .collect();
                operations(&seed, &data);
            }
        }
    }

    #[test]
    fn qed_holds_what_was_written_with_errors_in_between() {
        work(FormatKind::Qed, 20);
    }

    #[test]
    fn qcow2_holds_what_was_written_with_errors_in_between() {
        work(FormatKind::Qcow2, 5);
    }

    #[test]
    fn qcow2_images_with_random_patches_do_no_harm() {
        mutate(FormatKind::Qcow2, 2000);
    }

    #[test]
    fn qed_images_with_random_patches_do_no_harm() {
        mutate(FormatKind::Qed, 2000);
    }

    #[test]
    fn vmdk_images_with_random_patches_do_no_harm() {
        mutate(FormatKind::Vmdk, 3000);
    }

    #[test]
    fn vpc_images_with_random_patches_do_no_harm() {
        mutate(FormatKind::Vpc, 2000);
    }

    #[test]
    fn vhdx_images_with_random_patches_do_no_harm() {
        mutate(FormatKind::Vhdx, 200);
    }
}
