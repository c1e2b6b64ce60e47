use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, elf};

use super::super::guest::tests::two_pieces;
use super::super::{Compression, Layout};
use super::*;
use crate::vcpu::view::CpuView;

const LOW: u64 = 0x10_0000;
const HIGH: u64 = 1 << 32;

/// 2 MiB, half of it at 4 GiB, with a pattern in each tenth page.
fn pattern() -> Vec<u8> {
    let mut bytes = vec![0u8; 2 << 20];
    for (number, page) in bytes.chunks_mut(4096).enumerate() {
        if number % 10 == 3 {
            page.fill(u8::try_from(number % 251).unwrap() + 1);
        }
    }
    bytes
}

fn long_mode(cr3: u64) -> CpuView {
    let mut cpu = CpuView::power_on(true);
    let sregs = &mut cpu.sregs;
    (sregs.cr0, sregs.cr3) = (1 << 31 | 1, cr3);
    (sregs.efer, sregs.cr4) = (1 << 10, 1 << 5);
    cpu.regs.rip = 0xffff_8000_0000_1000;
    cpu
}

fn dumped(dump: &Dump) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let progress = Progress::default();
    dump.write(file.try_clone().unwrap(), &progress).unwrap();
    assert_eq!(progress.done(), dump.part.size());
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn dump(memory: &GuestMemory, part: GuestMemory, cpus: Vec<CpuView>, paging: bool) -> Vec<u8> {
    dumped(&Dump {
        layout: Layout::Elf { paging },
        all: memory.clone(),
        part,
        cpus,
    })
}

/// Virtual and physical address and data of each piece, as somebody else reads them.
fn loads(core: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let file = ElfFile64::<Endianness>::parse(core).expect("an ELF file");
    let endian = Endianness::Little;
    assert_eq!(file.elf_header().e_type(endian), elf::ET_CORE);
    let headers = file.elf_program_headers().iter();
    let loads = headers.filter(|header| header.p_type(endian) == elf::PT_LOAD);
    loads
        .map(|header| {
            let data = header.data(endian, core).expect("data in the file");
            (header.p_vaddr(endian), header.p_paddr(endian), data)
        })
        .collect()
}

fn notes_of(core: &[u8]) -> Vec<(Vec<u8>, u32, usize)> {
    let file = ElfFile64::<Endianness>::parse(core).unwrap();
    let endian = Endianness::Little;
    let mut found = Vec::new();
    for header in file.elf_program_headers() {
        if let Some(mut notes) = header.notes(endian, core).unwrap() {
            while let Some(note) = notes.next().unwrap() {
                found.push((
                    note.name().to_vec(),
                    note.n_type(endian).0,
                    note.desc().len(),
                ));
            }
        }
    }
    found
}

#[test]
fn physical_memory_is_found_at_its_addresses() {
    let bytes = pattern();
    let memory = two_pieces(&bytes, LOW, HIGH);
    let cpus = vec![CpuView::power_on(true), CpuView::power_on(false)];
    let core = dump(&memory, memory.clone(), cpus, false);
    let (low, high) = bytes.split_at(LOW as usize);
    assert!(loads(&core) == [(0, 0, low), (HIGH, HIGH, high)]);
    let core_note = (b"CORE".to_vec(), 1, 144);
    let qemu_note = (b"QEMU".to_vec(), 0, 440);
    let both = [&core_note, &core_note, &qemu_note, &qemu_note];
    assert!(notes_of(&core).iter().eq(both));
}

#[test]
fn a_part_of_memory() {
    let bytes = pattern();
    let memory = two_pieces(&bytes, LOW, HIGH);
    let part = memory.part(0x3001, HIGH - 0x3001 + 0x5003);
    let core = dump(&memory, part, vec![CpuView::power_on(true)], false);
    let (low, high) = bytes.split_at(LOW as usize);
    let expected = [
        (0x3001, 0x3001, &low[0x3001..]),
        (HIGH, HIGH, &high[..0x5003]),
    ];
    assert!(loads(&core) == expected);
}

#[test]
fn virtual_memory_is_found_at_its_addresses() {
    let mut bytes = pattern();
    let mut set = |table: usize, index: usize, entry: u64| {
        let at = table + index * 8;
        bytes[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    };
    // Two pages in reverse order, two in a row, one that is no RAM; the same for both processors.
    for root in [0x1000, 0x2000] {
        set(root, 256, 0x3003);
    }
    set(0x2000, 0, 0x3003);
    set(0x3000, 0, 0x4003);
    set(0x4000, 0, 0x5003);
    set(0x5000, 1, 0xd003);
    set(0x5000, 2, 0x3003);
    set(0x5000, 10, HIGH | 3);
    set(0x5000, 11, HIGH | 0x1003);
    set(0x5000, 12, 0x8000_0003);
    let memory = two_pieces(&bytes, LOW, HIGH);
    let cpus = vec![
        long_mode(0x1000),
        long_mode(0x2000),
        CpuView::power_on(false),
    ];
    let core = dump(&memory, memory.clone(), cpus.clone(), true);
    let page = |at: usize, len: usize| &bytes[at..at + len];
    let (kernel, high) = (0xffff_8000_0000_0000, LOW as usize);
    let mut expected = Vec::new();
    for base in [0, kernel] {
        expected.extend([
            (base + 0x1000, 0xd000, page(0xd000, 4096)),
            (base + 0x2000, 0x3000, page(0x3000, 4096)),
            (base + 0xa000, HIGH, page(high, 8192)),
        ]);
    }
    assert!(loads(&core) == expected);
    assert_eq!(notes_of(&core)[0], (b"CORE".to_vec(), 1, 336));
    // Part of it; addresses stay with their bytes.
    let core = dump(&memory, memory.part(0xd800, 0x100), cpus, true);
    let piece = page(0xd800, 0x100);
    assert!(loads(&core) == [(0x1800, 0xd800, piece), (kernel + 0x1800, 0xd800, piece)]);
}

#[test]
fn page_tables_without_end_are_refused() {
    let mut bytes = vec![0; 2 << 20];
    for entry in bytes[0x1000..0x2000].chunks_mut(8) {
        entry.copy_from_slice(&0x1003u64.to_le_bytes());
    }
    let memory = two_pieces(&bytes, LOW, HIGH);
    let dump = Dump {
        layout: Layout::Elf { paging: true },
        all: memory.clone(),
        part: memory,
        cpus: vec![long_mode(0x1000)],
    };
    let refused = dump.write(tempfile::tempfile().unwrap(), &Progress::default());
    let text = refused.unwrap_err().to_string();
    assert_eq!(
        text,
        "dump: the guest's page tables map more than a dump can list"
    );
}

#[test]
fn many_headers_are_counted_elsewhere() {
    let bytes = vec![0u8; 8192];
    let memory = two_pieces(&bytes, 4096, HIGH);
    let mapping = |number: u64| Mapping {
        virt: number * 8192,
        phys: 0,
        len: 4096,
    };
    for (count, first) in [(65534, 0xffff), (65533, 65534), (100_000, 0xffff)] {
        let mappings: Vec<_> = (0..count).map(mapping).collect();
        let headers = Headers::new(&memory, &mappings, 0);
        let mut file = headers.file_header(Width::Bits64);
        let number = u16::from_le_bytes([file[56], file[57]]);
        assert_eq!(number, first);
        file.extend(headers.program_headers());
        file.extend(headers.sections(file.len() as u64));
        file.resize(usize::try_from(headers.memory).unwrap() + 8192, 0);
        let read = loads(&file);
        assert_eq!(read.len() as u64, count);
        assert_eq!(read.last().unwrap().0, (count - 1) * 8192);
    }
}

#[test]
fn a_full_disk_and_an_end_are_told() {
    let bytes = pattern();
    let memory = two_pieces(&bytes, LOW, HIGH);
    let dump = |layout| Dump {
        layout,
        all: memory.clone(),
        part: memory.clone(),
        cpus: Vec::new(),
    };
    let elf = Layout::Elf { paging: false };
    let kdump = |flattened| Layout::Kdump {
        compression: Compression::Zlib,
        flattened,
    };
    for (layout, what) in [
        (elf, "write elf header"),
        (kdump(true), "write start flat header"),
        (kdump(false), "write disk dump header"),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = dump(layout).write(full, &Progress::default()).unwrap_err();
        let expected = format!("dump: failed to {what}: No space left on device");
        assert_eq!(error.to_string(), expected);
    }
    let progress = Progress::default();
    progress.end();
    let ended = dump(elf).write(tempfile::tempfile().unwrap(), &progress);
    assert!(matches!(ended, Err(DumpError::Ended)));
}

#[test]
fn pieces_are_merged_where_they_are_the_same() {
    let piece = |virt, phys, len| Mapping { virt, phys, len };
    let merged = merge(vec![
        piece(0x5000, 0x1000, 0x1000),
        piece(0x1000, 0x1000, 0x2000),
        piece(0x1000, 0x1000, 0x1000),
        piece(0x3000, 0x3000, 0x1000),
        piece(0x2000, 0x9000, 0x1000),
    ]);
    assert_eq!(
        merged,
        [
            piece(0x1000, 0x1000, 0x2000),
            piece(0x2000, 0x9000, 0x1000),
            piece(0x3000, 0x3000, 0x1000),
            piece(0x5000, 0x1000, 0x1000),
        ]
    );
}
