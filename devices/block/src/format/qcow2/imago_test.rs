//! The driver beside imago, an implementation that shares nothing with it, and a copy of the disk
//! in memory. Needs no other program.

use std::sync::Arc;

use super::imago_peer::{self, Disk, Hand, Imago, Ours};
use super::peer::{Below, Bench, file, image_with};
use super::tests::{Dice, scale, seed};
use super::{Compat, Qcow2Create, check, create};
use crate::image::SnapshotView;
use crate::node::{BlockNode, NodeExt, SECTOR};
use crate::{Preallocation, Repair, Unmap};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 3 * MIB + 1536;
/// The backing file ends in the middle of the disk, and of a cluster.
const BASE_SIZE: u64 = 2 * MIB - 2560;

/// What is below an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backing {
    None,
    Raw,
    Qcow2,
}

/// A kind of image.
#[derive(Clone)]
struct Kind {
    what: String,
    options: Qcow2Create,
    backing: Backing,
    /// Has an internal snapshot from its beginning.
    snapshot: bool,
}

impl Kind {
    fn can_be_made_by(&self, hand: Hand) -> bool {
        let options = &self.options;
        let plain = options.compat == Compat::V3 && !options.lazy_refcounts;
        hand == Hand::Ours || plain && !options.data_file_raw
    }

    /// imago takes the mark away that a data file is raw.
    fn can_be_written_by(&self, hand: Hand) -> bool {
        hand == Hand::Ours || !self.options.data_file_raw
    }

    fn can_be_resized_by(&self, hand: Hand) -> bool {
        let old = self.options.compat == Compat::V2;
        match hand {
            // Snapshots of version 2 have no size of their own.
            Hand::Ours => !(old && self.snapshot),
            // There are no zeroes for what is new.
            Hand::Imago => !old,
        }
    }
}

/// All that imago can open.
fn kinds() -> Vec<Kind> {
    let plain = Kind {
        what: String::new(),
        options: Qcow2Create {
            size: SIZE,
            ..Qcow2Create::default()
        },
        backing: Backing::None,
        snapshot: false,
    };
    let mut all = Vec::new();
    let mut kind = |what: &str, change: &dyn Fn(&mut Kind)| {
        let mut kind = plain.clone();
        what.clone_into(&mut kind.what);
        change(&mut kind);
        all.push(kind);
    };
    for (bits, refcount_bits) in [(9, 1), (9, 16), (12, 64), (13, 4), (16, 16), (21, 2)] {
        let what = format!("clusters of 2^{bits}, refcounts of {refcount_bits}");
        kind(&what, &|kind| {
            kind.options.cluster_size = 1 << bits;
            kind.options.refcount_bits = refcount_bits;
        });
    }
    kind("version 2", &|kind| kind.options.compat = Compat::V2);
    kind("version 2, backed", &|kind| {
        (kind.options.compat, kind.options.cluster_size) = (Compat::V2, 1024);
        kind.backing = Backing::Raw;
    });
    kind("lazy refcounts", &|kind| kind.options.lazy_refcounts = true);
    kind("tables preallocated", &|kind| {
        kind.options.preallocation = Preallocation::Metadata;
    });
    kind("all preallocated", &|kind| {
        (kind.options.preallocation, kind.options.cluster_size) = (Preallocation::Full, 4096);
    });
    kind("raw backing file", &|kind| kind.backing = Backing::Raw);
    kind("qcow2 backing file", &|kind| {
        (kind.backing, kind.options.cluster_size) = (Backing::Qcow2, 8192);
    });
    kind("data file", &|kind| {
        (kind.options.data_file, kind.options.cluster_size) = (Some("d".into()), 4096);
    });
    kind("raw data file", &|kind| {
        (kind.options.data_file, kind.options.data_file_raw) = (Some("d".into()), true);
    });
    kind("snapshot", &|kind| {
        (kind.snapshot, kind.options.cluster_size) = (true, 4096);
    });
    kind("snapshot, version 2", &|kind| {
        (kind.snapshot, kind.options.compat) = (true, Compat::V2);
    });
    kind("snapshot, backed", &|kind| {
        (kind.snapshot, kind.backing) = (true, Backing::Qcow2);
        kind.options.refcount_bits = 2;
    });
    all
}

/// An image, and what should be in it.
struct Scene {
    bench: Bench,
    kind: Kind,
    copy: Vec<u8>,
    base: Vec<u8>,
    dice: Dice,
    what: String,
}

impl Scene {
    fn new(kind: &Kind, made_by: Hand, number: usize) -> Scene {
        let dice = Dice((seed() ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        let mut scene = Scene {
            bench: Bench::new(),
            kind: kind.clone(),
            copy: vec![0; SIZE as usize],
            base: Vec::new(),
            dice,
            what: format!("{}, made by {made_by:?}", kind.what),
        };
        scene.make_base();
        scene.make(made_by);
        scene.look();
        scene
    }

    fn path(&self) -> std::path::PathBuf {
        self.bench.path("a")
    }

    fn make_base(&mut self) {
        if self.kind.backing == Backing::None {
            return;
        }
        let path = self.bench.path("base");
        let blank = Qcow2Create {
            size: BASE_SIZE,
            cluster_size: 4096,
            ..Qcow2Create::default()
        };
        let node = file(&path);
        let node = match self.kind.backing {
            Backing::Qcow2 => {
                create(&*node, &blank).unwrap();
                image_with(node, Below::default()).unwrap()
            }
            Backing::Raw | Backing::None => {
                node.resize(BASE_SIZE).unwrap();
                node
            }
        };
        self.base = vec![0; BASE_SIZE as usize];
        for _ in 0..20 {
            let (offset, bytes) = self.data(BASE_SIZE);
            node.write_at(offset, &bytes).unwrap();
            self.base[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        if let Some(image) = node.image() {
            image.close().unwrap();
        }
        self.copy[..BASE_SIZE as usize].copy_from_slice(&self.base);
    }

    fn backing(&self) -> Option<(&'static str, &'static str)> {
        match self.kind.backing {
            Backing::None => None,
            Backing::Raw => Some(("base", "raw")),
            Backing::Qcow2 => Some(("base", "qcow2")),
        }
    }

    fn make(&self, made_by: Hand) {
        let mut options = self.kind.options.clone();
        if let Some((name, format)) = self.backing() {
            options.backing_file = Some(name.to_owned());
            options.backing_format = Some(format.to_owned());
        }
        if made_by == Hand::Imago {
            imago_peer::create(&self.bench.path(""), "a", &options);
            return;
        }
        let data = options.data_file.as_ref();
        options.data_node = data.map(|name| file(&self.bench.path(name)));
        create(&*file(&self.path()), &options).unwrap();
    }

    fn node(&self, read_only: bool) -> Arc<dyn BlockNode> {
        let backing = self.backing().map(|(name, format)| {
            let node = file(&self.bench.path(name));
            match format {
                "qcow2" => image_with(
                    node,
                    Below {
                        read_only: true,
                        ..Below::default()
                    },
                )
                .unwrap(),
                _ => node,
            }
        });
        let data = self.kind.options.data_file.as_ref();
        let below = Below {
            data: data.map(|name| file(&self.bench.path(name))),
            backing,
            read_only,
        };
        image_with(file(&self.path()), below).unwrap()
    }

    fn open(&self, hand: Hand, read_only: bool) -> Box<dyn Disk> {
        if hand == Hand::Ours {
            return Box::new(Ours(self.node(read_only)));
        }
        let imago = Imago::open(&self.path(), self.kind.options.compat, read_only);
        assert_eq!(imago.size(), self.copy.len() as u64, "{}", self.what);
        Box::new(imago)
    }

    /// Opens, does something, and closes.
    fn turn(&mut self, hand: Hand, acts: u64) {
        let mut disk = self.open(hand, false);
        for _ in 0..acts {
            self.act(&mut *disk, hand);
        }
        disk.close();
    }

    fn act(&mut self, disk: &mut dyn Disk, hand: Hand) {
        let size = self.copy.len() as u64;
        let unmap = match self.dice.roll(2) {
            0 => Unmap::Keep,
            _ => Unmap::May,
        };
        match self.dice.roll(20) {
            0..=9 => {
                let (offset, bytes) = self.data(size);
                disk.write(offset, &bytes);
                self.copy[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            10..=13 => {
                let (offset, len) = self.range(size);
                disk.zero(offset, len, unmap);
                self.copy[offset as usize..][..len as usize].fill(0);
            }
            14..=15 => {
                let (offset, len) = self.range(size);
                disk.discard(offset, len, unmap);
                self.learn(disk, offset, len);
            }
            16..=17 => {
                let (offset, len) = self.range(size);
                let mut bytes = vec![0xee; len as usize];
                disk.read(offset, &mut bytes);
                let wanted = &self.copy[offset as usize..][..len as usize];
                assert!(bytes == wanted, "{}: {hand:?} at {offset:#x}", self.what);
            }
            18 => disk.flush(),
            _ if self.kind.can_be_resized_by(hand) => {
                // imago counts wrongly in a disk that is smaller than a cluster.
                let least = MIB.max(self.kind.options.cluster_size);
                let size = least + self.dice.roll(3 * MIB) / SECTOR * SECTOR;
                disk.resize(size);
                self.copy.resize(size as usize, 0);
            }
            _ => {}
        }
    }

    /// Sectors from anywhere, a few or many.
    fn range(&mut self, size: u64) -> (u64, u64) {
        let sectors = size / SECTOR;
        let first = self.dice.roll(sectors);
        let most = match self.dice.roll(4) {
            0 => 600,
            1 => 128,
            _ => 16,
        };
        let count = 1 + self.dice.roll(most.min(sectors - first));
        (first * SECTOR, count * SECTOR)
    }

    /// The same, with bytes for it.
    fn data(&mut self, size: u64) -> (u64, Vec<u8>) {
        let (offset, len) = self.range(size);
        let byte = self.dice.roll(256) as u8;
        let mut bytes = vec![0; len as usize];
        for (number, sector) in bytes.chunks_mut(SECTOR as usize).enumerate() {
            sector.fill(byte ^ number as u8);
        }
        (offset, bytes)
    }

    /// After a discard, sectors are as before, zero, or as in the backing file.
    fn learn(&mut self, disk: &mut dyn Disk, offset: u64, len: u64) {
        let mut bytes = vec![0xee; len as usize];
        disk.read(offset, &mut bytes);
        for at in (0..len).step_by(SECTOR as usize) {
            let sector = &bytes[at as usize..][..SECTOR as usize];
            let place = (offset + at) as usize..(offset + at + SECTOR) as usize;
            let is_zero = *sector == [0; SECTOR as usize];
            let is_base = self.base.get(place.clone()) == Some(sector);
            let is_kept = self.copy[place.clone()] == *sector;
            assert!(is_zero || is_base || is_kept, "{}: {place:?}", self.what);
            self.copy[place].copy_from_slice(sector);
        }
    }

    /// Both find it as it should be, and it is without damage and leaks.
    fn look(&self) {
        let found = check(&*file(&self.path()), Repair::No).unwrap();
        let faults = (found.check_errors, found.corruptions, found.leaks);
        assert_eq!(faults, (0, 0, 0), "{}: {:?}", self.what, found.messages);
        for hand in [Hand::Ours, Hand::Imago] {
            let mut bytes = vec![0xee; self.copy.len()];
            let mut disk = self.open(hand, true);
            disk.read(0, &mut bytes);
            let differs = |at: &u64| {
                let place = *at as usize..(at + SECTOR) as usize;
                bytes.get(place.clone()) != self.copy.get(place)
            };
            let wrong = (0..self.copy.len() as u64)
                .step_by(SECTOR as usize)
                .find(differs);
            assert_eq!(wrong, None, "{}: read by {hand:?}", self.what);
        }
    }

    /// A snapshot is made first, where there is to be one, and gone back to in the end.
    fn play(&mut self, turns: &[Hand], acts: u64) {
        let kept = self.kind.snapshot.then(|| {
            self.turn(turns[0], acts);
            let node = self.node(false);
            let image = node.image().unwrap();
            let name = SnapshotView {
                name: "s".into(),
                ..SnapshotView::default()
            };
            let id = image.snapshots().unwrap().create(&name).unwrap();
            image.close().unwrap();
            (id, self.copy.clone())
        });
        for (number, hand) in turns.iter().enumerate() {
            let begun = self.what.clone();
            self.what = format!("{begun}, turn {number} of {hand:?}");
            self.turn(*hand, acts);
            self.look();
            self.what = begun;
        }
        if let Some((id, copy)) = kept {
            let node = self.node(false);
            let image = node.image().unwrap();
            image.snapshots().unwrap().apply(&id).unwrap();
            image.close().unwrap();
            drop(node);
            self.copy = copy;
            self.what.push_str(", back at the snapshot");
            self.look();
        }
    }
}

#[test]
fn imago_reads_what_is_written_here() {
    for (number, kind) in kinds().iter().enumerate() {
        let turns = vec![Hand::Ours; 2 * scale() as usize];
        Scene::new(kind, Hand::Ours, number).play(&turns, 40);
    }
}

#[test]
fn what_imago_writes_is_read_here() {
    for (number, kind) in kinds().iter().enumerate() {
        if kind.can_be_made_by(Hand::Imago) {
            let turns = vec![Hand::Imago; 2 * scale() as usize];
            Scene::new(kind, Hand::Imago, number).play(&turns, 40);
        }
    }
}

#[test]
fn both_write_in_turns() {
    for (number, kind) in kinds().iter().enumerate() {
        if !kind.can_be_written_by(Hand::Imago) {
            continue;
        }
        let by_imago = number % 2 == 0 && kind.can_be_made_by(Hand::Imago);
        let hands = match by_imago {
            true => [Hand::Imago, Hand::Ours],
            false => [Hand::Ours, Hand::Imago],
        };
        let turns = hands.repeat(4 * scale() as usize);
        Scene::new(kind, hands[0], number + 100).play(&turns, 12);
    }
}
