//! Checks of good and of damaged images beside `qemu-img check`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use super::super::peer::{Bench, file, is_here};
use super::super::store::Store;
use super::*;

/// An open image file to be damaged.
struct Victim {
    file: File,
    header: Header,
}

impl Victim {
    fn open(bench: &Bench) -> Self {
        let path = bench.path("a");
        let node = file(&path);
        let (header, _) = Store::new(&*node).header().unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        Victim { file, header }
    }

    fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_be_bytes(bytes)
    }

    fn set(&self, offset: u64, word: u64) {
        self.file.write_all_at(&word.to_be_bytes(), offset).unwrap();
    }

    fn change(&self, offset: u64, by: impl Fn(u64) -> u64) {
        self.set(offset, by(self.word(offset)));
    }

    fn l1(&self) -> u64 {
        self.header.l1_offset
    }

    fn l2(&self) -> u64 {
        self.word(self.l1()) & OFFSET
    }

    /// The place of an entry of the first L2 table.
    fn entry(&self, index: u64) -> u64 {
        let geometry = super::super::geometry::Geometry::of(&self.header);
        self.l2() + (index << geometry.entry_bits())
    }

    fn block(&self) -> u64 {
        self.word(self.header.refcount_table_offset)
    }
}

use super::super::geometry::{COPIED, OFFSET};

/// A file in which some bytes cannot be read.
struct Scratched {
    node: std::sync::Arc<dyn BlockNode>,
    at: u64,
}

impl BlockNode for Scratched {
    fn info(&self) -> crate::NodeInfo {
        self.node.info()
    }

    fn allocated(&self) -> Option<u64> {
        None
    }

    fn open_lane(
        &self,
        depth: u32,
        waker: &crate::Waker,
    ) -> Result<Box<dyn crate::IoLane>, BlockError> {
        self.node.open_lane(depth, waker)
    }

    fn perform(&self, op: crate::Op, buffers: &crate::Buffers) -> io::Result<()> {
        match op {
            crate::Op::Read { offset } if offset <= self.at && self.at < offset + buffers.len() => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => self.node.perform(op, buffers),
        }
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<crate::Extent> {
        self.node.extent(offset, len)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        self.node.resize(size)
    }

    fn set_perms(&self, perms: crate::graph::Perms) -> Result<(), BlockError> {
        self.node.set_perms(perms)
    }

    fn set_activity(&self, _: crate::node::Activity) -> Result<(), BlockError> {
        Ok(())
    }
}

#[test]
fn what_a_table_that_cannot_be_read_leads_to_is_no_leak() {
    if !is_here() {
        return;
    }
    for repair in [Repair::Leaks, Repair::All] {
        let bench = Bench::new();
        bench.img(&["create", "-q", "-f", "qcow2", "a", "8M"]);
        bench.io("a", &["write -P 7 0 1M"]);
        let at = Victim::open(&bench).l2();
        let before = std::fs::read(bench.path("a")).unwrap();
        let node = file(&bench.path("a"));
        let checked = check(&Scratched { node, at }, repair);
        assert!(checked.is_err(), "{checked:?}");
        assert!(before == std::fs::read(bench.path("a")).unwrap());
    }
}

fn number(report: &Value, name: &str) -> u64 {
    report.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// What both say of the image, without mending; they must agree.
fn agree(bench: &Bench, what: &str) -> CheckReport {
    let ours = check(&*file(&bench.path("a")), Repair::No).unwrap();
    let (_, theirs) = bench.check("a", &[]);
    if theirs.is_null() {
        assert!(ours.check_errors + ours.corruptions > 0, "{what}: {ours:?}");
        return ours;
    }
    let pairs = [
        (ours.check_errors, "check-errors"),
        (ours.corruptions, "corruptions"),
        (ours.leaks, "leaks"),
        (ours.total_clusters.unwrap(), "total-clusters"),
        (ours.allocated_clusters.unwrap(), "allocated-clusters"),
        (ours.fragmented_clusters.unwrap(), "fragmented-clusters"),
        (ours.compressed_clusters.unwrap(), "compressed-clusters"),
        (ours.image_end_offset.unwrap(), "image-end-offset"),
    ];
    for (ours_is, name) in pairs {
        assert_eq!(
            ours_is,
            number(&theirs, name),
            "{what}: {name} {ours:?}\n{theirs}"
        );
    }
    ours
}

/// Both mend it, from the same state; gives what both fixed. Then QEMU finds nothing in ours.
fn mended(bench: &Bench, what: &str, repair: Repair) -> CheckReport {
    let (path, copy) = (bench.path("a"), bench.path("copy"));
    std::fs::copy(&path, &copy).unwrap();
    let how = if repair == Repair::All {
        "all"
    } else {
        "leaks"
    };
    let (_, theirs) = bench.check("copy", &["-r", how]);
    let ours = check(&*file(&path), repair).unwrap();
    // QEMU cannot, or makes the file as long as the damage says.
    if theirs.is_null() || what.contains("block outside") {
        return ours;
    }
    for (ours_is, name) in [
        (ours.corruptions_fixed, "corruptions-fixed"),
        (ours.leaks_fixed, "leaks-fixed"),
        (ours.corruptions, "corruptions"),
        (ours.leaks, "leaks"),
    ] {
        assert_eq!(
            ours_is,
            number(&theirs, name),
            "{what}: {name} {ours:?}\n{theirs}"
        );
    }
    ours
}

const KINDS: [&[&str]; 9] = [
    &["-o", "cluster_size=64k"],
    &["-o", "compat=0.10"],
    &["-o", "cluster_size=512"],
    &["-o", "cluster_size=2M"],
    &["-o", "cluster_size=4k,refcount_bits=1"],
    &["-o", "cluster_size=4k,refcount_bits=64"],
    &["-o", "extended_l2=on,cluster_size=16k"],
    &["-o", "lazy_refcounts=on"],
    &[
        "-o",
        "compression_type=zstd,cluster_size=8k,refcount_bits=8",
    ],
];

/// An image with data, zeroes and holes.
fn image(bench: &Bench, options: &[&str]) {
    let _ = std::fs::remove_file(bench.path("a"));
    let mut args = vec!["create", "-f", "qcow2"];
    args.extend(options);
    args.extend(["a", "2G"]);
    bench.img(&args);
    bench.io(
        "a",
        &[
            "write -P 1 0 1M",
            "write -P 2 3M 100k",
            "write -P 3 5M 64k",
            "write -P 4 2M 128k",
        ],
    );
}

#[test]
fn good_images_are_good() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    for options in KINDS {
        let what = options.join(" ");
        image(&bench, options);
        let ours = agree(&bench, &what);
        assert_eq!((ours.corruptions, ours.leaks), (0, 0), "{ours:?}");
        if !what.contains("0.10") {
            bench.io(
                "a",
                &["write -z 0 128k", "write -z 1M 64k", "discard 64k 64k"],
            );
        }
        if !what.contains("bits=1") || what.contains("bits=16") {
            bench.img(&["snapshot", "-c", "s1", "a"]);
            bench.io("a", &["write -P 5 0 300k", "write -P 6 9M 64k"]);
            bench.img(&["snapshot", "-c", "s2", "a"]);
            bench.io("a", &["write -P 7 9M 64k"]);
        }
        agree(&bench, &what);
        if what.contains("0.10") {
            continue;
        }
        bench.img(&["bitmap", "--add", "a", "b0"]);
        bench.img(&["bitmap", "--add", "-g", "4k", "a", "b1"]);
        bench.io("a", &["write -P 8 7M 1M"]);
        agree(&bench, &what);
        let args = ["convert", "-c", "-f", "qcow2", "-O", "qcow2"];
        let mut args = args.to_vec();
        args.extend(options);
        args.extend(["a", "b"]);
        bench.img(&args);
        std::fs::rename(bench.path("b"), bench.path("a")).unwrap();
        let ours = agree(&bench, &what);
        assert!(ours.compressed_clusters.unwrap() > 0);
    }
}

type Damage = (&'static str, fn(&Victim));

const DAMAGE: [Damage; 23] = [
    ("leak", |v| {
        v.file.set_len(64 << 16).unwrap();
        v.set(v.block() + 80, 0x0001_0001_0001_0001);
    }),
    ("all refcounts zero", |v| {
        (0..64).for_each(|i| v.set(v.block() + i * 8, 0));
    }),
    ("one refcount zero", |v| {
        v.change(v.block() + 8, |w| w & !0xffff)
    }),
    ("refcounts too large", |v| {
        v.change(v.block(), |w| w + 0x0003_0000_0002)
    }),
    ("no refcount block", |v| {
        v.set(v.header.refcount_table_offset, 0)
    }),
    ("refcount block unaligned", |v| {
        v.change(v.header.refcount_table_offset, |w| w + 512)
    }),
    ("refcount table reserved", |v| {
        v.change(v.header.refcount_table_offset, |w| w | 1)
    }),
    ("refcount block outside", |v| {
        v.set(v.header.refcount_table_offset, 1 << 40)
    }),
    ("second refcount block outside", |v| {
        v.set(v.header.refcount_table_offset + 8, 1 << 40)
    }),
    ("refcount block used as data", |v| {
        v.change(v.l2(), |_| v.block() | COPIED)
    }),
    ("two entries for a cluster", |v| {
        v.set(v.entry(1), v.word(v.entry(0)))
    }),
    ("not copied", |v| v.change(v.l2(), |w| w & !COPIED)),
    ("L2 not copied", |v| v.change(v.l1(), |w| w & !COPIED)),
    ("data unaligned", |v| v.change(v.l2(), |w| w + 512)),
    ("data outside", |v| v.set(v.l2(), 1 << 40 | COPIED)),
    ("L2 reserved bits", |v| v.change(v.l2(), |w| w | 1 << 57)),
    ("L1 reserved bits", |v| v.change(v.l1(), |w| w | 1 << 57)),
    ("L1 unaligned", |v| v.change(v.l1(), |w| w + 512)),
    ("L2 outside", |v| v.set(v.l1(), 1 << 40 | COPIED)),
    ("compressed and copied", |v| {
        v.change(v.entry(0), |w| w | 1 << 62)
    }),
    ("unaligned without data", |v| {
        v.change(v.entry(0), |w| (w + 512) | 1)
    }),
    ("two L1 entries for a table", |v| {
        v.set(v.l1() + 8, v.word(v.l1()))
    }),
    ("table of tables", |v| v.set(v.l1() + 8, v.l1())),
];

#[test]
fn damage_is_found_and_mended_as_by_qemu() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    for options in [KINDS[0], KINDS[1], &["-o", "extended_l2=on"]] {
        for (name, damage) in DAMAGE {
            if name.contains("without data") && options != KINDS[0] {
                // Only entries of version 3 without subclusters can be so.
                continue;
            }
            let what = format!("{} {name}", options.join(" "));
            image(&bench, options);
            damage(&Victim::open(&bench));
            let found = agree(&bench, &what);
            assert!(
                found.corruptions + found.leaks + found.check_errors > 0,
                "{what}"
            );
            std::fs::copy(bench.path("a"), bench.path("before")).unwrap();
            mended(&bench, &what, Repair::All);
            agree(&bench, &format!("{what} mended"));
            std::fs::copy(bench.path("before"), bench.path("a")).unwrap();
            mended(&bench, &format!("{what} leaks"), Repair::Leaks);
        }
    }
}

#[test]
fn subclusters_are_looked_at() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    let damage: [Damage; 4] = [
        ("both", |v| v.change(v.entry(0) + 8, |w| w | 1 << 32)),
        ("allocated nowhere", |v| v.set(v.entry(40) + 8, 1)),
        ("compressed with bits", |v| {
            v.change(v.entry(0), |w| (w | 1 << 62) & !COPIED)
        }),
        ("unaligned", |v| {
            v.change(v.entry(0), |w| w + 512);
            v.set(v.entry(0) + 8, 0);
        }),
    ];
    for (name, damage) in damage {
        image(&bench, &["-o", "extended_l2=on"]);
        damage(&Victim::open(&bench));
        let found = agree(&bench, name);
        assert!(found.corruptions > 0, "{name}");
        mended(&bench, name, Repair::All);
        agree(&bench, &format!("{name} mended"));
    }
}

#[test]
fn snapshots_and_bitmaps_are_counted() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    let damage: [Damage; 6] = [
        ("snapshot's L1 unaligned", |v| {
            v.change(v.header.snapshots_offset, |w| w + 512)
        }),
        ("snapshot's L1 outside", |v| {
            v.set(v.header.snapshots_offset, 1 << 40)
        }),
        ("snapshot's L1 is the active one", |v| {
            v.set(v.header.snapshots_offset, v.l1())
        }),
        ("no extra data", |v| {
            v.change(v.header.snapshots_offset + 32, |w| w & !0xffff_ffff)
        }),
        ("bitmap directory", |v| v.set(bitmaps(v), 1 << 40)),
        ("bitmap table", |v| v.set(v.word(bitmaps(v)), 512 | 1)),
    ];
    for (name, damage) in damage {
        image(&bench, KINDS[0]);
        bench.img(&["snapshot", "-c", "s1", "a"]);
        bench.io("a", &["write -P 5 0 300k"]);
        bench.img(&["bitmap", "--add", "a", "b0"]);
        bench.io("a", &["write -P 5 0 30k"]);
        damage(&Victim::open(&bench));
        let found = agree(&bench, name);
        assert!(found.corruptions > 0, "{name} {found:?}");
    }
}

/// Where the directory of bitmaps is.
fn bitmaps(victim: &Victim) -> u64 {
    let extension = victim.header.extension(0x2385_2875).unwrap();
    super::super::io::be64(extension, 16)
}

#[test]
fn what_snapshots_lack_is_added() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    image(&bench, KINDS[0]);
    bench.img(&["snapshot", "-c", "s1", "a"]);
    let victim = Victim::open(&bench);
    let at = victim.header.snapshots_offset;
    // No extra data: what follows them moves up.
    victim.file.set_len(at + 4096).unwrap();
    let mut entry = [0; 24];
    victim.file.read_exact_at(&mut entry, at + 64).unwrap();
    victim.file.write_all_at(&entry, at + 40).unwrap();
    victim.change(at + 32, |word| word & !0xffff_ffff);
    let found = agree(&bench, "no extra data");
    assert_eq!(found.corruptions, 1, "{found:?}");
    let found = mended(&bench, "no extra data", Repair::All);
    assert_eq!((found.corruptions, found.corruptions_fixed), (0, 1));
    bench.is_clean("a");
    assert_eq!(bench.info("a")["snapshots"][0]["name"], "s1");
}
