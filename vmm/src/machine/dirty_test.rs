use super::*;
use crate::accel::Accel;
use crate::memory::RamSlot;
use crate::vcpu::tests::{Lab, lab};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

fn log_of(lab: &Lab) -> MachineLog {
    MachineLog {
        slots: lab.accel.dirty_log(),
        ram: lab.ram.handle.clone(),
        blocks: vec![lab.block.clone()],
        foreign: Foreign::default(),
        writers: Writers::default(),
        layout: lab.ram.layout,
        on: false,
    }
}

fn collect(log: &mut MachineLog) -> Vec<u64> {
    let mut sets = [PageSet::none(log.blocks[0].pages())];
    log.collect(&mut sets).unwrap();
    let pages = 0..sets[0].pages();
    pages.filter(|page| sets[0].contains(*page)).collect()
}

/// Stores into 16 pages from 2 MiB on, then goes round in circles.
const WRITER: [u8; 22] = [
    0xb9, 0x10, 0, 0, 0, // mov ecx, 16
    0xbb, 0, 0, 0x20, 0, // mov ebx, 0x200000
    0x89, 0x0b, // mov [ebx], ecx
    0x81, 0xc3, 0, 0x10, 0, 0, // add ebx, 4096
    0xe2, 0xf6, // loop
    0xeb, 0xfe, // jmp self
];

/// Lets the writer write all its pages.
fn write(lab: &Lab) {
    lab.vcpus.set_entry(crate::vcpu::tests::ENTRY).unwrap();
    let memory = lab.ram.handle.memory();
    memory.write_obj(0u32, GuestAddress(0x20_f000)).unwrap();
    lab.vcpus.resume();
    let start = Instant::now();
    while memory.read_obj::<u32>(GuestAddress(0x20_f000)).unwrap() == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    lab.pause();
}

#[test]
fn what_processors_and_devices_write_is_found() {
    let Some(lab) = lab(&WRITER) else {
        return;
    };
    let memory = lab.ram.handle.memory();
    let mut log = log_of(&lab);
    write(&lab);
    log.start().unwrap();
    assert!(collect(&mut log).is_empty());
    write(&lab);
    // As devices do.
    memory.write_obj(5u8, GuestAddress(0x30_0fff)).unwrap();
    memory.write_obj(5u64, GuestAddress(0x10_0ffc)).unwrap();
    let mut expected = vec![0x100, 0x101, 0x300];
    expected.extend(0x200..0x210);
    expected.sort_unstable();
    assert_eq!(collect(&mut log), expected);
    assert!(collect(&mut log).is_empty());
    // The writer's last page is written by this test as well.
    write(&lab);
    assert_eq!(collect(&mut log), (0x200..0x210).collect::<Vec<_>>());
    log.stop();
    log.start().unwrap();
    assert!(collect(&mut log).is_empty());
}

#[test]
fn memory_that_is_mapped_and_unmapped_is_logged() {
    let Some(lab) = lab(&WRITER) else {
        return;
    };
    let mut log = log_of(&lab);
    log.start().unwrap();
    let shadow = lab.ram.shadow;
    let part = RamSlot {
        guest: shadow.guest + 0x4000,
        len: 0x4000,
        host: shadow.host + 0x4000,
        readonly: false,
    };
    lab.accel.map_ram(20, part).unwrap();
    assert!(collect(&mut log).is_empty());
    // What the processors wrote there is not known any more: all counts.
    lab.accel.unmap_ram(20).unwrap();
    let first = part.guest / PAGE;
    assert_eq!(collect(&mut log), (first..first + 4).collect::<Vec<_>>());
    assert!(collect(&mut log).is_empty());
    // What only this process writes, vm-memory knows of.
    let readonly = RamSlot {
        readonly: true,
        ..part
    };
    lab.accel.map_ram(20, readonly).unwrap();
    lab.accel.map_ram(20, readonly).unwrap();
    lab.accel.unmap_ram(20).unwrap();
    assert!(collect(&mut log).is_empty());
}

#[test]
fn what_others_mark_is_found() {
    let Some(lab) = lab(&WRITER) else {
        return;
    };
    let mut log = log_of(&lab);
    log.start().unwrap();
    let shared = log.foreign.log(lab.ram.layout).unwrap();
    assert!(shared.len >= 128);
    let again = log.foreign.log(lab.ram.layout).unwrap();
    assert_eq!(shared.address, again.address);
    // Pages 0, 0x207 and the last; and one that is no memory.
    for (page, bit) in [(0usize, 1u8), (0x207, 1 << 7), (0x3ff, 1 << 7), (0x400, 1)] {
        let at = u64::try_from(page / 8).unwrap();
        shared.file.write_at(&[bit], at).unwrap();
    }
    assert_eq!(collect(&mut log), [0, 0x207, 0x3ff]);
    assert!(collect(&mut log).is_empty());
    shared.file.write_at(&[1], 8).unwrap();
    log.start().unwrap();
    assert!(collect(&mut log).is_empty());
}

/// Somebody who writes memory unseen.
#[derive(Default)]
struct Unseen(std::sync::Mutex<Option<devices::vhost::DirtyLog>>);

impl devices::vhost::Writer for Unseen {
    fn set_log(&self, log: Option<&devices::vhost::DirtyLog>) -> io::Result<()> {
        *devices::bus::lock(&self.0) = log.cloned();
        Ok(())
    }
}

#[test]
fn others_are_told_where_to_mark() {
    let Some(lab) = lab(&WRITER) else {
        return;
    };
    let mut log = log_of(&lab);
    let unseen = Arc::new(Unseen::default());
    let joins = unseen.clone();
    let member = log.writers.join(|log| {
        assert!(log.is_none());
        Ok(joins)
    });
    let mark = |page: u64| {
        let log = devices::bus::lock(&unseen.0).clone().expect("a log");
        log.file.write_at(&[1 << (page % 8)], page / 8).unwrap();
    };
    for _ in 0..2 {
        log.start().unwrap();
        mark(0x123);
        assert_eq!(collect(&mut log), [0x123]);
        mark(0x124);
        mark(0x3ff);
        assert_eq!(collect(&mut log), [0x124, 0x3ff]);
        log.stop();
        assert!(devices::bus::lock(&unseen.0).is_none());
    }
    drop(member);
    log.start().unwrap();
    assert!(devices::bus::lock(&unseen.0).is_none());
}

#[test]
fn bitmaps_that_begin_anywhere_are_added() {
    let block = |host, len| RamBlock {
        name: "ram".into(),
        len,
        host,
        shared: false,
        file: None,
    };
    let blocks = [block(1 << 30, 300 * PAGE), block(1 << 31, 100 * PAGE)];
    let mut sets = [PageSet::none(300), PageSet::none(100)];
    let mut marks = Marks {
        blocks: &blocks,
        sets: &mut sets,
    };
    marks.add((1 << 30) + 100 * PAGE, &[1 | 1 << 63, 0b10]);
    marks.add((1 << 31) + 64 * PAGE, &[u64::MAX]);
    marks.add((1 << 31) + 100 * PAGE, &[u64::MAX]);
    marks.add(5, &[u64::MAX]);
    let pages = |set: &PageSet| {
        (0..300)
            .filter(|page| set.contains(*page))
            .collect::<Vec<_>>()
    };
    assert_eq!(pages(&sets[0]), [100, 163, 165]);
    assert_eq!(pages(&sets[1]), (64..100).collect::<Vec<_>>());
}

/// Counts, and stores the count into 256 pages from 2 MiB on, one after the other, for ever.
const RESTLESS: [u8; 29] = [
    0x31, 0xc9, // xor ecx, ecx
    0xbb, 0, 0, 0x20, 0,    // mov ebx, 0x200000
    0x41, // inc ecx
    0x89, 0x0b, // mov [ebx], ecx
    0x81, 0xc3, 0, 0x10, 0, 0, // add ebx, 4096
    0x81, 0xfb, 0, 0, 0x30, 0, // cmp ebx, 0x300000
    0x72, 0xef, // jb to the inc
    0xeb, 0xe8, // jmp to the first mov
    0x90, 0x90, 0x90,
];

#[test]
fn a_copy_made_while_the_guest_runs_is_whole() {
    let Some(lab) = lab(&RESTLESS) else {
        return;
    };
    let mut log = log_of(&lab);
    let (block, page_len) = (&lab.block, PAGE as usize);
    let mut copied = vec![0; usize::try_from(block.len).unwrap()];
    let copy = |copied: &mut [u8], pages: &[u64]| {
        for &page in pages {
            let at = usize::try_from(page).unwrap() * page_len;
            assert!(block.read(page * PAGE, &mut copied[at..at + page_len]));
        }
    };
    lab.vcpus.resume();
    log.start().unwrap();
    copy(&mut copied, &(0..block.pages()).collect::<Vec<_>>());
    let (mut rounds, start) = (0, Instant::now());
    while rounds < 20 {
        std::thread::sleep(Duration::from_millis(2));
        let pages = collect(&mut log);
        rounds += usize::from(!pages.is_empty());
        copy(&mut copied, &pages);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    lab.pause();
    let last = collect(&mut log);
    copy(&mut copied, &last);
    let mut memory = vec![0; copied.len()];
    assert!(block.read(0, &mut memory));
    let differs = |page: &u64| {
        let at = usize::try_from(*page).unwrap() * page_len;
        memory[at..at + page_len] != copied[at..at + page_len]
    };
    assert_eq!((0..block.pages()).find(differs), None);
}
