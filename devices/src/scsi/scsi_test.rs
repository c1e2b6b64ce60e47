//! Commands decided on, without a device around.

use api_spec::OnOffAuto;
use block::{Account, Durability, Op, Unmap, WriteCache};
use proptest::prelude::*;

use super::cdb::{Command, Transfer};
use super::identity::{CD_BLOCK, Identity, Kind};
use super::progress::{Io, Memory, Progress};
use super::sense::Sense;
use super::target::{Action, Medium, View, decide_without_unit, list_luns};
use super::tray::Tray;

const MIB: u64 = 1 << 20;

fn identity(kind: Kind) -> Identity {
    Identity {
        kind,
        removable: kind == Kind::Cd,
        vendor: "QEMU".into(),
        product: "QEMU HARDDISK".into(),
        version: "2.5+".into(),
        serial: Some("abc".into()),
        device_id: Some("drive0".into()),
        wwn: 0x5000_c500_1234_5678,
        port_wwn: 0,
        port_index: 0,
        scsi_version: 5,
        block: if kind == Kind::Cd { CD_BLOCK } else { 512 },
        physical: 4096,
        min_io: 8,
        opt_io: 64,
        max_io: 4_194_303,
        discard_granularity: if kind == Kind::Cd { 0 } else { 4096 },
        max_unmap: 2048,
        rotation_rate: 1,
        dpofua: false,
        write_cache: OnOffAuto::Auto,
    }
}

/// A unit with 1 MiB in it.
struct Bench {
    identity: Identity,
    medium: Option<Medium>,
    tray: Tray,
    cache: WriteCache,
}

impl Bench {
    fn new(kind: Kind) -> Self {
        Bench {
            identity: identity(kind),
            medium: Some(Medium {
                bytes: MIB,
                read_only: kind == Kind::Cd,
            }),
            tray: Tray::default(),
            cache: WriteCache::Back,
        }
    }

    fn with(&self, block: &[u8], out: &[u8]) -> Action {
        let view = View {
            identity: &self.identity,
            medium: self.medium,
            tray: self.tray,
            write_cache: self.cache,
            default_write_cache: WriteCache::Back,
        };
        match Command::decode(block) {
            Ok(command) => view.decide(&command, &out),
            Err(sense) => Action::Check(sense),
        }
    }

    fn run(&self, block: &[u8]) -> Action {
        self.with(block, &[])
    }

    #[track_caller]
    fn data(&self, block: &[u8]) -> Vec<u8> {
        match self.run(block) {
            Action::Good(data) => data,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(&self, block: &[u8], out: &[u8], sense: Sense) {
        assert_eq!(self.with(block, out), Action::Check(sense));
    }
}

fn good() -> Action {
    Action::Good(Vec::new())
}

/// A block with fields in it: offset and bytes.
fn block(code: u8, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let len = match code >> 5 {
        0 => 6,
        4 => 16,
        5 => 12,
        _ => 10,
    };
    let mut bytes = vec![0; len];
    bytes[0] = code;
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

#[test]
fn blocks_that_are_cut_off_or_unknown_are_refused() {
    let disk = Bench::new(Kind::Disk);
    disk.check(&[], &[], Sense::INVALID_OPCODE);
    disk.check(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], Sense::INVALID_FIELD);
    disk.check(&block(0x04, &[]), &[], Sense::INVALID_OPCODE);
    disk.check(&[0x7f; 16], &[], Sense::INVALID_OPCODE);
    disk.check(&[0xc0; 16], &[], Sense::INVALID_OPCODE);
    // NACA.
    disk.check(&[0, 0, 0, 0, 0, 4], &[], Sense::INVALID_FIELD);
    // What is behind the block does not count.
    assert_eq!(disk.run(&[0; 32]), good());
}

#[test]
fn inquiry_says_who_it_is() {
    let disk = Bench::new(Kind::Disk);
    let data = disk.data(&block(0x12, &[(4, &[96])]));
    assert_eq!(data[..5], [0, 0, 5, 0x12, 31]);
    assert_eq!(&data[8..36], b"QEMU    QEMU HARDDISK   2.5+");
    let cd = Bench::new(Kind::Cd);
    assert_eq!(cd.data(&block(0x12, &[(4, &[36])]))[..2], [5, 0x80]);
    // A page without the bit for pages, a page that is not there.
    disk.check(&block(0x12, &[(2, &[0x80])]), &[], Sense::INVALID_FIELD);
    disk.check(&block(0x12, &[(1, &[1, 0x85])]), &[], Sense::INVALID_FIELD);
}

#[test]
fn pages_of_vital_product_data() {
    let mut disk = Bench::new(Kind::Disk);
    let page = |bench: &Bench, page: u8| bench.data(&block(0x12, &[(1, &[1, page, 0, 255])]));
    assert_eq!(page(&disk, 0)[3..], [6, 0, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    assert_eq!(page(&disk, 0x80)[..], *b"\0\x80\0\x03abc");
    let names = page(&disk, 0x83);
    assert_eq!(names[4..8], [2, 0, 0, 6]);
    assert_eq!(&names[8..14], b"drive0");
    assert_eq!(names[14..18], [1, 3, 0, 8]);
    assert_eq!(names[18..26], 0x5000_c500_1234_5678u64.to_be_bytes());
    assert_eq!(usize::from(names[3]), names.len() - 4);
    let limits = page(&disk, 0xb0);
    assert_eq!(limits[3], 0x3c);
    assert_eq!(limits[4..8], [1, 0, 0, 8]);
    assert_eq!(limits[12..16], 64u32.to_be_bytes());
    assert_eq!(limits[20..24], 2048u32.to_be_bytes());
    assert_eq!(limits[24..28], 255u32.to_be_bytes());
    assert_eq!(limits[28..32], 8u32.to_be_bytes());
    assert_eq!(page(&disk, 0xb1)[4..6], [0, 1]);
    assert_eq!(page(&disk, 0xb2)[3..7], [4, 0, 0xe0, 2]);
    disk.identity.discard_granularity = 0;
    assert_eq!(page(&disk, 0xb2)[3..7], [4, 0, 0, 1]);
    disk.identity.serial = None;
    assert_eq!(page(&disk, 0)[3..5], [5, 0]);
    disk.check(&block(0x12, &[(1, &[1, 0x80])]), &[], Sense::INVALID_FIELD);
    let cd = Bench::new(Kind::Cd);
    assert_eq!(page(&cd, 0)[..], [5, 0, 0, 3, 0, 0x80, 0x83]);
    cd.check(&block(0x12, &[(1, &[1, 0xb0])]), &[], Sense::INVALID_FIELD);
}

#[test]
fn readiness_follows_medium_and_tray() {
    let mut cd = Bench::new(Kind::Cd);
    let ready = [0; 6];
    assert_eq!(cd.run(&ready), good());
    cd.tray.open = true;
    cd.check(&ready, &[], Sense::NO_MEDIUM_TRAY_OPEN);
    cd.check(&block(0x28, &[(8, &[1])]), &[], Sense::NO_MEDIUM_TRAY_OPEN);
    cd.tray.open = false;
    cd.medium = None;
    for code in [0x00, 0x25, 0x28, 0x43, 0x51] {
        cd.check(&block(code, &[]), &[], Sense::NO_MEDIUM_TRAY_CLOSED);
    }
    // Who it is can be asked all the same.
    assert_eq!(cd.data(&block(0x12, &[(4, &[36])])).len(), 36);
    let mut disk = Bench::new(Kind::Disk);
    disk.medium = None;
    disk.check(&ready, &[], Sense::NO_MEDIUM);
}

#[test]
fn capacity_in_both_sizes() {
    let mut disk = Bench::new(Kind::Disk);
    let short = block(0x25, &[]);
    let long = block(0x9e, &[(1, &[0x10]), (13, &[32])]);
    assert_eq!(disk.data(&short)[..], [0, 0, 7, 0xff, 0, 0, 2, 0]);
    let data = disk.data(&long);
    assert_eq!(data.len(), 32);
    assert_eq!(data[..8], 2047u64.to_be_bytes());
    assert_eq!(data[8..12], 512u32.to_be_bytes());
    assert_eq!(data[13..15], [3, 0x80]);
    disk.medium = Some(Medium {
        bytes: 4 << 40,
        read_only: false,
    });
    assert_eq!(disk.data(&short)[..4], [0xff; 4]);
    assert_eq!(disk.data(&long)[..8], ((8u64 << 30) - 1).to_be_bytes());
    disk.check(&block(0x25, &[(2, &[1])]), &[], Sense::INVALID_FIELD);
    disk.check(&block(0x9e, &[(1, &[0x12])]), &[], Sense::INVALID_OPCODE);
    let cd = Bench::new(Kind::Cd);
    assert_eq!(cd.data(&short)[..], [0, 0, 1, 0xff, 0, 0, 8, 0]);
}

#[test]
fn reads_and_writes_of_all_sizes() {
    let disk = Bench::new(Kind::Disk);
    let read = |at, len| Action::Io(Io::Read { at, len });
    let write = |at, len| {
        Action::Io(Io::Write {
            at,
            len,
            durability: Durability::Cached,
        })
    };
    let six = block(0x08, &[(1, &[0, 0, 2, 3])]);
    assert_eq!(disk.run(&six), read(1024, 1536));
    let all = block(0x08, &[]);
    assert_eq!(disk.run(&all), read(0, 256 * 512));
    let ten = |code| block(code, &[(5, &[7]), (8, &[2])]);
    let twelve = |code| block(code, &[(5, &[7]), (9, &[2])]);
    let sixteen = |code| block(code, &[(9, &[7]), (13, &[2])]);
    for block in [ten(0x28), twelve(0xa8), sixteen(0x88)] {
        assert_eq!(disk.run(&block), read(7 * 512, 1024));
        let command = Command::decode(&block).unwrap();
        assert_eq!(command.transfer(512), Transfer::In(1024));
    }
    for block in [ten(0x2a), twelve(0xaa), sixteen(0x8a)] {
        assert_eq!(disk.run(&block), write(7 * 512, 1024));
        let command = Command::decode(&block).unwrap();
        assert_eq!(command.transfer(512), Transfer::Out(1024));
    }
    assert_eq!(disk.run(&block(0x28, &[])), good());
    // The last block, and beyond it.
    let last = block(0x28, &[(4, &[7, 0xff]), (8, &[1])]);
    assert_eq!(disk.run(&last), read(MIB - 512, 512));
    for code in [0x28, 0x2a] {
        let beyond = block(code, &[(4, &[7, 0xff]), (8, &[2])]);
        disk.check(&beyond, &[], Sense::LBA_OUT_OF_RANGE);
        let protected = block(code, &[(1, &[0x20]), (8, &[1])]);
        disk.check(&protected, &[], Sense::INVALID_FIELD);
    }
    let far = block(0x88, &[(2, &[0xff; 12])]);
    disk.check(&far, &[], Sense::LBA_OUT_OF_RANGE);
}

#[test]
fn forced_and_through_writes_are_durable() {
    let mut disk = Bench::new(Kind::Disk);
    let durable = Action::Io(Io::Write {
        at: 0,
        len: 512,
        durability: Durability::Durable,
    });
    let forced = |code| block(code, &[(1, &[8]), (8, &[1])]);
    assert_eq!(disk.run(&forced(0x2a)), durable);
    assert_eq!(disk.run(&block(0x2e, &[(8, &[1])])), durable);
    assert_eq!(
        disk.run(&forced(0x28)),
        Action::Io(Io::FlushedRead { at: 0, len: 512 })
    );
    disk.cache = WriteCache::Through;
    assert_eq!(disk.run(&block(0x2a, &[(8, &[1])])), durable);
    assert_eq!(disk.run(&block(0x35, &[])), Action::Io(Io::Flush));
    assert_eq!(disk.run(&block(0x91, &[])), Action::Io(Io::Flush));
    assert_eq!(disk.run(&block(0x1b, &[])), Action::Io(Io::Flush));
    assert_eq!(disk.run(&block(0x1b, &[(4, &[1])])), good());
}

#[test]
fn what_is_write_protected_is_not_written() {
    let mut disk = Bench::new(Kind::Disk);
    disk.medium = Some(Medium {
        bytes: MIB,
        read_only: true,
    });
    let zero = [0; 512];
    disk.check(&block(0x2a, &[(8, &[1])]), &zero, Sense::WRITE_PROTECTED);
    disk.check(&block(0x41, &[(8, &[1])]), &zero, Sense::WRITE_PROTECTED);
    disk.check(&block(0x42, &[(8, &[8])]), &zero, Sense::WRITE_PROTECTED);
    assert_eq!(disk.data(&block(0x1a, &[(2, &[8]), (4, &[255])]))[2], 0x80);
    let cd = Bench::new(Kind::Cd);
    cd.check(&block(0x2a, &[(8, &[1])]), &zero, Sense::WRITE_PROTECTED);
    cd.check(&block(0x41, &[(8, &[1])]), &zero, Sense::INVALID_OPCODE);
}

#[test]
fn verify_looks_or_compares() {
    let disk = Bench::new(Kind::Disk);
    for code in [0x2f, 0xaf, 0x8f] {
        assert_eq!(disk.run(&block(code, &[])), good());
    }
    let compare = block(0x2f, &[(1, &[2]), (8, &[2])]);
    assert_eq!(
        disk.run(&compare),
        Action::Io(Io::Compare { at: 0, len: 1024 })
    );
    disk.check(&block(0x2f, &[(1, &[6])]), &[], Sense::INVALID_FIELD);
    let beyond = block(0x2f, &[(4, &[8]), (8, &[1])]);
    disk.check(&beyond, &[], Sense::LBA_OUT_OF_RANGE);
    assert_eq!(disk.run(&block(0x2b, &[(4, &[7, 0xff])])), good());
    disk.check(&block(0x2b, &[(4, &[8])]), &[], Sense::LBA_OUT_OF_RANGE);
}

#[test]
fn one_block_again_and_again() {
    let disk = Bench::new(Kind::Disk);
    let same = |flags: u8| block(0x41, &[(1, &[flags]), (5, &[4]), (8, &[8])]);
    let zero = |unmap| {
        Action::Io(Io::Zero {
            at: 2048,
            len: 4096,
            unmap,
            durability: Durability::Cached,
        })
    };
    assert_eq!(disk.with(&same(0), &[0; 512]), zero(Unmap::Keep));
    assert_eq!(disk.with(&same(8), &[0; 512]), zero(Unmap::May));
    assert_eq!(
        disk.with(&same(8), &[7; 512]),
        Action::Io(Io::Fill {
            at: 2048,
            len: 4096,
            pattern: [7; 512].into(),
            durability: Durability::Cached,
        })
    );
    let without = block(0x93, &[(1, &[9]), (9, &[4]), (13, &[8])]);
    assert_eq!(disk.run(&without), zero(Unmap::May));
    assert_eq!(
        Command::decode(&without).unwrap().transfer(512),
        Transfer::None
    );
    // ANCHOR; no blocks; no such blocks; a block that is cut off.
    disk.check(&same(0x10), &[0; 512], Sense::INVALID_FIELD);
    disk.check(&block(0x41, &[]), &[0; 512], Sense::INVALID_FIELD);
    let beyond = block(0x41, &[(4, &[8]), (8, &[1])]);
    disk.check(&beyond, &[0; 512], Sense::LBA_OUT_OF_RANGE);
    disk.check(&same(0), &[0; 100], Sense::INVALID_FIELD);
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut list = Vec::new();
    let len = 16 * ranges.len() as u16;
    list.extend((len + 6).to_be_bytes());
    list.extend(len.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

#[test]
fn unmap_takes_lists() {
    let mut disk = Bench::new(Kind::Disk);
    let unmap = |list: &[u8]| block(0x42, &[(7, &(list.len() as u16).to_be_bytes())]);
    let run = |disk: &Bench, ranges: &[(u64, u32)]| {
        let list = unmap_list(ranges);
        disk.with(&unmap(&list), &list)
    };
    assert_eq!(
        run(&disk, &[(8, 8), (64, 0), (100, 1)]),
        Action::Io(Io::Discard(vec![(4096, 4096), (51200, 512)]))
    );
    assert_eq!(run(&disk, &[]), good());
    assert_eq!(disk.run(&block(0x42, &[])), good());
    let check = Action::Check;
    assert_eq!(
        run(&disk, &[(0, 8), (2040, 9)]),
        check(Sense::LBA_OUT_OF_RANGE)
    );
    assert_eq!(
        run(&disk, &[(0, 2048), (0, 1)]),
        check(Sense::INVALID_PARAMETER)
    );
    assert_eq!(run(&disk, &[(0, 1); 256]), check(Sense::INVALID_PARAMETER));
    // Cut off: the header, the descriptors, the data of the initiator.
    disk.check(&block(0x42, &[(8, &[4])]), &[0; 4], Sense::PARAMETER_LENGTH);
    let mut list = unmap_list(&[(0, 1)]);
    list[3] = 32;
    disk.check(&unmap(&list), &list, Sense::PARAMETER_LENGTH);
    disk.check(&unmap(&list), &list[..10], Sense::PARAMETER_LENGTH);
    disk.check(&block(0x42, &[(1, &[1])]), &[], Sense::INVALID_FIELD);
    disk.identity.discard_granularity = 0;
    assert_eq!(run(&disk, &[(0, 1)]), check(Sense::INVALID_OPCODE));
}

#[test]
fn mode_pages() {
    let mut disk = Bench::new(Kind::Disk);
    let caching = |control: u8| block(0x1a, &[(1, &[8]), (2, &[control << 6 | 8]), (4, &[255])]);
    let page = disk.data(&caching(0));
    assert_eq!(page.len(), 4 + 20);
    assert_eq!(page[..7], [23, 0, 0, 0, 8, 18, 4]);
    disk.cache = WriteCache::Through;
    assert_eq!(disk.data(&caching(0))[6], 0);
    assert_eq!(disk.data(&caching(1))[6], 4);
    assert_eq!(disk.data(&caching(2))[6], 4);
    disk.check(&caching(3), &[], Sense::SAVING_NOT_SUPPORTED);
    // With its block descriptor, in the longer form.
    let all = disk.data(&block(0x5a, &[(2, &[0x3f]), (8, &[255])]));
    assert_eq!(usize::from(all[1]), all.len() - 2);
    assert_eq!(all[6..16], [0, 8, 0, 0, 8, 0, 0, 0, 2, 0]);
    assert_eq!(all[16..18], [1, 10]);
    let control = disk.data(&block(0x1a, &[(1, &[8, 0x0a]), (4, &[255])]));
    assert_eq!(control[4..8], [0x0a, 10, 0, 0x10]);
    disk.check(&block(0x1a, &[(2, &[0x2a])]), &[], Sense::INVALID_FIELD);
    disk.check(&block(0x1a, &[(2, &[8, 1])]), &[], Sense::INVALID_FIELD);
    disk.identity.dpofua = true;
    assert_eq!(disk.data(&caching(0))[2], 0x10);
    let cd = Bench::new(Kind::Cd);
    let page = cd.data(&block(0x5a, &[(2, &[0x2a]), (8, &[255])]));
    assert_eq!(page[8..10], [0x2a, 20]);
    assert_eq!(page[8 + 6], 0x29);
}

#[test]
fn mode_select_switches_the_cache_and_nothing_else() {
    let disk = Bench::new(Kind::Disk);
    let select = |list: &[u8]| block(0x15, &[(1, &[0x10]), (4, &[list.len() as u8])]);
    let run = |list: &[u8]| disk.with(&select(list), list);
    let caching = |flags: u8| {
        let mut list = vec![0; 4 + 20];
        list[4..7].copy_from_slice(&[8, 18, flags]);
        list
    };
    assert_eq!(run(&caching(0)), Action::SetWriteCache(WriteCache::Through));
    assert_eq!(run(&caching(4)), Action::SetWriteCache(WriteCache::Back));
    assert_eq!(run(&[]), good());
    assert_eq!(run(&[0; 4]), good());
    // In the longer form, with a block descriptor.
    let mut long = vec![0; 8 + 8 + 20];
    long[7] = 8;
    long[16..19].copy_from_slice(&[8, 18, 0]);
    let block10 = block(0x55, &[(1, &[0x10]), (8, &[36])]);
    assert_eq!(
        disk.with(&block10, &long),
        Action::SetWriteCache(WriteCache::Through)
    );
    let check = Action::Check;
    assert_eq!(run(&caching(1)), check(Sense::INVALID_PARAMETER));
    assert_eq!(run(&caching(0)[..20]), check(Sense::PARAMETER_LENGTH));
    assert_eq!(run(&[0; 3]), check(Sense::PARAMETER_LENGTH));
    assert_eq!(run(&[0, 0, 0, 16]), check(Sense::INVALID_PARAMETER));
    assert_eq!(
        run(&[0, 0, 0, 0, 0x2a, 20]),
        check(Sense::INVALID_PARAMETER)
    );
    let mut wrong = caching(0);
    wrong[5] = 10;
    assert_eq!(run(&wrong), check(Sense::INVALID_PARAMETER));
    // Not in the standard's form, or to be saved.
    disk.check(&block(0x15, &[(4, &[4])]), &[0; 4], Sense::INVALID_FIELD);
    disk.check(&block(0x15, &[(1, &[0x11])]), &[], Sense::INVALID_FIELD);
}

#[test]
fn trays_and_reservations() {
    let cd = Bench::new(Kind::Cd);
    assert_eq!(cd.run(&block(0x1b, &[(4, &[2])])), Action::Eject);
    assert_eq!(cd.run(&block(0x1b, &[(4, &[3])])), Action::Load);
    assert_eq!(cd.run(&block(0x1b, &[(4, &[0x32])])), good());
    assert_eq!(cd.run(&block(0x1e, &[(4, &[1])])), Action::Lock(true));
    assert_eq!(cd.run(&block(0x1e, &[])), Action::Lock(false));
    let disk = Bench::new(Kind::Disk);
    assert_eq!(disk.run(&block(0x1e, &[(4, &[1])])), good());
    for code in [0x16, 0x17, 0x56, 0x57] {
        assert_eq!(disk.run(&block(code, &[])), good());
        let third_party = block(code, &[(1, &[0x10])]);
        disk.check(&third_party, &[], Sense::INVALID_FIELD);
    }
}

#[test]
fn tables_of_contents() {
    let cd = Bench::new(Kind::Cd);
    let toc = |flags: u8, format: u8, track: u8| {
        block(0x43, &[(1, &[flags, format]), (6, &[track]), (8, &[255])])
    };
    let data = cd.data(&toc(0, 0, 0));
    assert_eq!(data[..4], [0, 18, 1, 1]);
    assert_eq!(data[4..12], [0, 0x14, 1, 0, 0, 0, 0, 0]);
    assert_eq!(data[12..20], [0, 0x14, 0xaa, 0, 0, 0, 2, 0]);
    let minutes = cd.data(&toc(2, 0, 0));
    assert_eq!(minutes[8..12], [0, 0, 2, 0]);
    // 512 blocks and two seconds.
    assert_eq!(minutes[16..20], [0, 0, 8, 62]);
    assert_eq!(cd.data(&toc(0, 0, 0xaa))[..4], [0, 10, 1, 1]);
    assert_eq!(cd.data(&toc(0, 1, 0))[..4], [0, 10, 1, 1]);
    let raw = cd.data(&toc(2, 2, 0));
    assert_eq!(usize::from(raw[1]), raw.len() - 2);
    assert_eq!(raw[4 + 2 * 11 + 8..4 + 3 * 11], [0, 8, 62]);
    cd.check(&toc(0, 0, 2), &[], Sense::INVALID_FIELD);
    cd.check(&toc(0, 4, 0), &[], Sense::INVALID_FIELD);
    Bench::new(Kind::Disk).check(&toc(0, 0, 0), &[], Sense::INVALID_OPCODE);
}

#[test]
fn what_a_drive_can() {
    let mut cd = Bench::new(Kind::Cd);
    let ask = |request: u8, first: u8| block(0x46, &[(1, &[request, 0, first]), (8, &[255])]);
    let data = cd.data(&ask(0, 0));
    assert_eq!(usize::from(data[3]), data.len() - 4);
    assert_eq!(data[6..8], [0, 8]);
    assert_eq!(data[8..12], [0, 0, 3, 8]);
    assert_eq!(cd.data(&ask(2, 3))[8..12], [0, 3, 0x0b, 4]);
    assert_eq!(cd.data(&ask(2, 0x77)).len(), 8);
    cd.check(&ask(3, 0), &[], Sense::INVALID_FIELD);
    cd.medium = Some(Medium {
        bytes: 4 << 30,
        read_only: true,
    });
    assert_eq!(cd.data(&ask(0, 0))[6..8], [0, 0x10]);
    cd.medium = None;
    assert_eq!(cd.data(&ask(0, 0))[6..8], [0, 0]);
    let information = block(0x51, &[(8, &[34])]);
    cd.check(&information, &[], Sense::NO_MEDIUM_TRAY_CLOSED);
    let cd = Bench::new(Kind::Cd);
    assert_eq!(cd.data(&information)[..3], [0, 32, 0x0e]);
    cd.check(&block(0x51, &[(1, &[1])]), &[], Sense::INVALID_FIELD);
    assert_eq!(cd.data(&block(0xbd, &[(9, &[8])])).len(), 8);
    let event = |polled: u8, classes: u8| block(0x4a, &[(1, &[polled]), (4, &[classes])]);
    assert_eq!(cd.run(&event(1, 0x10)), Action::TakeEvent { media: true });
    assert_eq!(cd.run(&event(1, 2)), Action::TakeEvent { media: false });
    cd.check(&event(0, 0x10), &[], Sense::INVALID_FIELD);
}

#[test]
fn targets_without_the_unit() {
    let decide = |bytes: &[u8]| decide_without_unit(&Command::decode(bytes).unwrap(), 7);
    let Action::Good(data) = decide(&block(0x12, &[(4, &[36])])) else {
        panic!("refused");
    };
    assert_eq!(data[0], 0x7f);
    assert_eq!(decide(&[0; 6]), Action::Check(Sense::NO_UNIT));
    assert_eq!(
        decide(&block(0xa0, &[(9, &[16])])),
        Action::ReportLuns { select: 0 }
    );
    let short = block(0xa0, &[(9, &[15])]);
    assert_eq!(decide(&short), Action::Check(Sense::INVALID_FIELD));
    let data = list_luns(&[300, 2], 0);
    assert_eq!(data[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
    assert_eq!(data[8..10], [0, 0]);
    assert_eq!(data[16..18], [0, 2]);
    assert_eq!(data[24..26], [0x41, 44]);
    assert_eq!(list_luns(&[1], 1), [0; 8]);
}

/// What the steps of a command do, with its data from `out`.
fn steps(io: Io, out: &[u8], disk: &mut [u8]) -> (Vec<(Account, u64)>, Option<Sense>) {
    let mut progress = Progress::new(io);
    let mut seen = Vec::new();
    while let Some(step) = progress.next() {
        seen.push((step.account, step.len));
        let range = |offset: u64| offset as usize..(offset + step.len) as usize;
        match (step.op, &step.memory) {
            (Op::Read { offset }, Memory::Own(memory)) => {
                block::Buffers::owned(memory.clone()).write_at(0, &disk[range(offset)]);
            }
            (Op::Write { offset, .. }, Memory::Own(memory)) => {
                disk[range(offset)].copy_from_slice(&memory.to_vec());
            }
            _ => {}
        }
        if let Err(sense) = progress.ended(&out) {
            return (seen, Some(sense));
        }
    }
    (seen, None)
}

#[test]
fn commands_come_to_steps() {
    let mut disk: Vec<u8> = (0..300u32 << 10).map(|i| (i / 300) as u8).collect();
    let forced = Io::FlushedRead { at: 512, len: 1024 };
    assert_eq!(
        steps(forced, &[], &mut disk).0,
        [(Account::Flush, 0), (Account::Read, 1024)]
    );
    let ranges = vec![(0, 512), (1024, 2048)];
    assert_eq!(
        steps(Io::Discard(ranges), &[], &mut disk).0,
        [(Account::Unmap, 512), (Account::Unmap, 2048)]
    );
    let len = disk.len() as u64;
    let out = disk.clone();
    let compare = Io::Compare { at: 0, len };
    let (seen, sense) = steps(compare.clone(), &out, &mut disk);
    assert_eq!((seen.len(), sense), (3, None));
    disk[len as usize - 1] ^= 1;
    let (seen, sense) = steps(compare, &out, &mut disk);
    assert_eq!((seen.len(), sense), (3, Some(Sense::MISCOMPARE)));
    let pattern: Vec<u8> = (0..512u32).map(|i| (i % 251) as u8).collect();
    let fill = Io::Fill {
        at: 512,
        len: len - 1024,
        pattern: pattern.clone().into(),
        durability: Durability::Durable,
    };
    let (seen, _) = steps(fill, &[], &mut disk);
    assert_eq!(seen.iter().map(|step| step.1).sum::<u64>(), len - 1024);
    let filled = disk[512..disk.len() - 512].as_chunks::<512>().0;
    assert!(filled.iter().all(|block| block[..] == pattern));
    assert_eq!(disk[..512], out[..512]);
}

proptest! {
    #[test]
    fn no_block_is_too_odd(
        bytes in proptest::collection::vec(any::<u8>(), 0..20),
        out in proptest::collection::vec(any::<u8>(), 0..600),
        cd in any::<bool>(),
        open in any::<bool>(),
    ) {
        let mut bench = Bench::new(if cd { Kind::Cd } else { Kind::Disk });
        bench.tray.open = open;
        let action = bench.with(&bytes, &out);
        // Whatever is done is inside of the medium.
        let end = match action {
            Action::Io(Io::Read { at, len } | Io::FlushedRead { at, len } | Io::Compare { at, len })
            | Action::Io(Io::Write { at, len, .. } | Io::Zero { at, len, .. })
            | Action::Io(Io::Fill { at, len, .. }) => at + len,
            Action::Io(Io::Discard(ranges)) => ranges.iter().map(|(at, len)| at + len).max().unwrap(),
            _ => 0,
        };
        prop_assert!(end <= MIB);
    }
}
