use std::collections::BTreeMap;

use super::*;

/// Bytes out of memory that is known by its eight-byte pieces.
fn fill(entry: &dyn Fn(u64) -> Option<u64>, address: u64, bytes: &mut [u8]) -> bool {
    let mut at = address & !7;
    let mut skip = usize::try_from(address & 7).unwrap();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(value) = entry(at) else { return false };
        let piece = &value.to_le_bytes()[skip..];
        let len = piece.len().min(rest.len());
        let (now, later) = rest.split_at_mut(len);
        now.copy_from_slice(&piece[..len]);
        (rest, skip, at) = (later, 0, at.wrapping_add(8));
    }
    true
}

/// Memory of entries.
#[derive(Default)]
struct Tables(BTreeMap<u64, u64>);

impl Tables {
    fn set(&mut self, table: u64, index: u64, entry: u64) {
        self.0.insert(table + index * 8, entry);
    }

    fn set32(&mut self, table: u64, index: u64, entry: u32) {
        let address = table + index * 4;
        let pair = self.0.entry(address & !7).or_default();
        let shift = (address & 4) * 8;
        *pair = *pair & !(0xffff_ffff << shift) | u64::from(entry) << shift;
    }

    /// Addresses below 1 MiB are RAM; what was not set is zero.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let entry = |at: u64| (at < 1 << 20).then(|| self.0.get(&at).copied().unwrap_or(0));
        fill(&entry, address, bytes)
    }

    fn leaves(&self, paging: Paging) -> Vec<(u64, u64, u64, &'static str)> {
        let mut found = Vec::new();
        let read = |address, bytes: &mut [u8]| self.read(address, bytes);
        let walked = paging.walk(&read, &mut |leaf| {
            let rights = match (leaf.user, leaf.write) {
                (true, true) => "uw",
                (true, false) => "u-",
                (false, true) => "-w",
                (false, false) => "--",
            };
            found.push((leaf.virt, leaf.phys, leaf.size, rights));
            Go::On
        });
        walked.unwrap();
        for (virt, phys, size, _) in &found {
            assert_eq!(paging.translate(&read, *virt), Some(*phys));
            assert_eq!(
                paging.translate(&read, virt + size - 1),
                Some(phys + size - 1)
            );
        }
        found
    }
}

fn cpu(cr0: u64, cr4: u64, efer: u64) -> CpuView {
    let mut cpu = CpuView::default();
    (cpu.sregs.cr0, cpu.sregs.cr4, cpu.sregs.efer) = (cr0, cr4, efer);
    cpu.sregs.cr3 = 0x1018;
    cpu
}

#[test]
fn the_registers_say_how() {
    let root = |cpu: &CpuView| Paging::of(cpu).map(|paging| (paging.mode, paging.root));
    assert_eq!(root(&cpu(1, 0, 0)), None);
    let pg = 1 | 1 << 31;
    assert_eq!(root(&cpu(pg, 0, 0)), Some((Mode::Bits32(false), 0x1000)));
    assert_eq!(
        root(&cpu(pg, 1 << 4, 0)),
        Some((Mode::Bits32(true), 0x1000))
    );
    assert_eq!(root(&cpu(pg, 1 << 5, 0)), Some((Mode::Pae, 0x1000)));
    let long = |cr4| root(&cpu(pg, cr4, 1 << 10));
    assert_eq!(long(1 << 5), Some((Mode::Level4, 0x1000)));
    assert_eq!(long(1 << 5 | 1 << 12), Some((Mode::Level5, 0x1000)));
}

#[test]
fn four_levels_with_pages_of_each_size() {
    let mut tables = Tables::default();
    tables.set(0x1000, 0, 0x2007);
    tables.set(0x1000, 511, 0x2003);
    tables.set(0x2000, 0, 0x3007);
    tables.set(0x2000, 1, 0x4000_0085);
    tables.set(0x3000, 0, 0x4007);
    tables.set(0x3000, 2, 0x8000_0000_0060_00e3);
    tables.set(0x4000, 5, 0x9007);
    tables.set(0x4000, 6, 0x9001);
    tables.set(0x4000, 7, 0x9006);
    let paging = Paging {
        mode: Mode::Level4,
        root: 0x1000,
    };
    let top = 0xffff_ff80_0000_0000;
    let expected = [
        (0x5000, 0x9000, 0x1000, "uw"),
        (0x6000, 0x9000, 0x1000, "--"),
        (0x40_0000, 0x60_0000, 0x20_0000, "-w"),
        (0x4000_0000, 0x4000_0000, 0x4000_0000, "u-"),
        (top + 0x5000, 0x9000, 0x1000, "-w"),
        (top + 0x6000, 0x9000, 0x1000, "--"),
        (top + 0x40_0000, 0x60_0000, 0x20_0000, "-w"),
        (top + 0x4000_0000, 0x4000_0000, 0x4000_0000, "--"),
    ];
    assert_eq!(tables.leaves(paging), expected);
    let translate = |virt| paging.translate(&|at, bytes: &mut [u8]| tables.read(at, bytes), virt);
    assert_eq!(translate(0x7000), None);
    assert_eq!(translate(0x5123), Some(0x9123));
    // No canonical address.
    assert_eq!(translate(0x0000_ff80_0000_5000), None);
}

#[test]
fn five_levels() {
    let mut tables = Tables::default();
    tables.set(0x1000, 256, 0x2003);
    tables.set(0x2000, 0, 0x3003);
    tables.set(0x3000, 0, 0x83);
    let paging = Paging {
        mode: Mode::Level5,
        root: 0x1000,
    };
    let expected = [(0xff00_0000_0000_0000, 0, 1 << 30, "-w")];
    assert_eq!(tables.leaves(paging), expected);
}

#[test]
fn three_levels_of_which_the_first_has_no_rights() {
    let mut tables = Tables::default();
    tables.set(0x1020, 3, 0x2081);
    tables.set(0x1020, 4, 0x2001);
    tables.set(0x2000, 0, 0x3007);
    tables.set(0x2000, 511, 0x1_0020_00e7);
    tables.set(0x3000, 1, 0x5005);
    let paging = Paging {
        mode: Mode::Pae,
        root: 0x1020,
    };
    let expected = [
        (0xc000_1000, 0x5000, 0x1000, "u-"),
        (0xffe0_0000, 0x1_0020_0000, 0x20_0000, "uw"),
    ];
    assert_eq!(tables.leaves(paging), expected);
}

#[test]
fn two_levels_of_four_bytes() {
    let mut tables = Tables::default();
    tables.set32(0x1000, 1, 0x2007);
    tables.set32(0x1000, 1023, 0x0040_4083);
    tables.set32(0x2000, 3, 0xffff_f001);
    let mut paging = Paging {
        mode: Mode::Bits32(true),
        root: 0x1000,
    };
    let small = (0x40_3000, 0xffff_f000, 0x1000, "--");
    let large = (0xffc0_0000, 0x2_0040_0000, 0x40_0000, "-w");
    assert_eq!(tables.leaves(paging), [small, large]);
    // Without large pages it is a table, and one that is not there.
    paging.mode = Mode::Bits32(false);
    assert_eq!(tables.leaves(paging), [small]);
}

#[test]
fn tables_in_circles_come_to_an_end() {
    let entry = |address: u64| Some(address & !0xfff | 3);
    let circle = |address: u64, bytes: &mut [u8]| fill(&entry, address, bytes);
    for mode in [Mode::Level4, Mode::Level5] {
        let paging = Paging { mode, root: 0x1000 };
        let mut seen = 0u64;
        let walked = paging.walk_within(5000, &circle, &mut |_| {
            seen += 1;
            Go::On
        });
        assert_eq!(walked, Err(TooMany));
        assert!(seen <= 5000 * 512);
        assert_eq!(paging.translate(&circle, 0x1234), Some(0x1234));
        let mut seen = 0;
        let stopped = paging.walk(&circle, &mut |_| {
            seen += 1;
            if seen == 1000 { Go::Stop } else { Go::On }
        });
        assert_eq!((stopped, seen), (Ok(()), 1000));
    }
}

#[test]
fn what_is_no_memory_maps_nothing() {
    let odd = |address: u64| Some(address.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let ones = |address: u64| (address < 0x2000).then_some(u64::MAX);
    let nothing = |_: u64, _: &mut [u8]| false;
    let junk = |address: u64, bytes: &mut [u8]| fill(&odd, address, bytes);
    let far = |address: u64, bytes: &mut [u8]| fill(&ones, address, bytes);
    let modes = [
        Mode::Bits32(false),
        Mode::Bits32(true),
        Mode::Pae,
        Mode::Level4,
        Mode::Level5,
    ];
    for mode in modes {
        let paging = Paging { mode, root: 0x1000 };
        paging.walk(&nothing, &mut |_| panic!("a page")).unwrap();
        assert_eq!(paging.translate(&nothing, 0), None);
        for read in [&junk as Read, &far as Read] {
            let mut left = 100_000;
            let _ = paging.walk(read, &mut |_| {
                left -= 1;
                if left == 0 { Go::Stop } else { Go::On }
            });
            paging.translate(read, u64::MAX);
        }
        let end = Paging {
            mode,
            root: u64::MAX - 7,
        };
        end.walk(&junk, &mut |_| Go::Stop).unwrap();
    }
}
