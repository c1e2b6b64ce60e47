use super::*;
use crate::memory::{Backend, BackendOptions, MachineRam};
use std::io::Write;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("qvmd-boot-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ram(size: u64) -> MachineRam {
    MachineRam::new(
        crate::layout::Board::Q35,
        &Backend::new(BackendOptions::ram(size)).unwrap(),
    )
    .unwrap()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A bzImage of one sector of set-up and some code.
fn bzimage(long: bool) -> Vec<u8> {
    let mut bytes = vec![0u8; 1024];
    bytes[0x1f1] = 1;
    put(&mut bytes, 0x200, &[0xeb, 0x66]);
    put(&mut bytes, 0x202, b"HdrS");
    put(&mut bytes, 0x206, &0x20fu16.to_le_bytes());
    bytes[0x211] = 1;
    put(&mut bytes, 0x214, &0x10_0000u32.to_le_bytes());
    put(&mut bytes, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut bytes, 0x236, &u16::from(long).to_le_bytes());
    put(&mut bytes, 0x238, &100u32.to_le_bytes());
    put(&mut bytes, 0x260, &0x1000u32.to_le_bytes());
    bytes.extend_from_slice(b"the compressed kernel");
    bytes
}

/// An ELF with one segment of 4 bytes in the file and 8 in memory, and perhaps a PVH note.
fn elf(pvh: bool) -> Vec<u8> {
    let mut bytes = vec![0u8; 64];
    put(&mut bytes, 0, &[0x7f, b'E', b'L', b'F', 2, 1]);
    put(&mut bytes, 18, &62u16.to_le_bytes());
    put(&mut bytes, 24, &0x100_0000u64.to_le_bytes());
    put(&mut bytes, 32, &64u64.to_le_bytes());
    put(&mut bytes, 54, &56u16.to_le_bytes());
    put(&mut bytes, 56, &(1 + u16::from(pvh)).to_le_bytes());
    let mut segment = |kind: u32, offset: u64, addr: u64, file: u64, memory: u64| {
        for part in [u64::from(kind), offset, addr, addr, file, memory, 4] {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
    };
    segment(1, 256, 0x100_0000, 4, 8);
    if pvh {
        segment(4, 264, 0, 20, 0);
    }
    bytes.resize(256, 0);
    bytes.extend_from_slice(b"code\0\0\0\0");
    for part in [4u32, 4, 18] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    bytes.extend_from_slice(b"Xen\0");
    bytes.extend_from_slice(&0x100_0002u32.to_le_bytes());
    bytes
}

fn word(ram: &MachineRam, at: u64) -> u64 {
    ram.handle.memory().read_obj(GuestAddress(at)).unwrap()
}

#[test]
fn a_bzimage_is_entered_by_its_protocol() {
    let dir = Dir::new("bz");
    let ram = ram(64 << 20);
    let initrd = dir.file("initrd", &[7; 5000]);
    let kernel = dir.file("bz64", &bzimage(true));
    let mut boot = Boot::open(&kernel, Some(&initrd), "console=ttyS0", ram.layout).unwrap();
    let entry = boot.load(&ram.handle, 0xf_0000).unwrap();
    let Entry::Long {
        rip,
        rsi,
        page_tables,
        ..
    } = entry
    else {
        panic!("{entry:?}")
    };
    assert_eq!((rip, rsi), (0x10_0200, PARAMS));
    assert_eq!(word(&ram, page_tables), 0xa003);
    assert_eq!(word(&ram, 0xb008), 0x20_0083);
    let memory = ram.handle.memory();
    let mut text = [0u8; 14];
    memory
        .read_slice(&mut text, GuestAddress(0x10_0000))
        .unwrap();
    assert_eq!(&text, b"the compressed");
    memory.read_slice(&mut text, GuestAddress(CMDLINE)).unwrap();
    assert_eq!(&text, b"console=ttyS0\0");
    assert_eq!(word(&ram, PARAMS + 0x70), 0xf_0000);
    let image: u32 = memory.read_obj(GuestAddress(PARAMS + 0x218)).unwrap();
    assert_eq!(image, (64 << 20) - 0x2000);
    let first: u8 = memory.read_obj(GuestAddress(u64::from(image))).unwrap();
    assert_eq!(first, 7);
    let entries: u8 = memory.read_obj(GuestAddress(PARAMS + 0x1e8)).unwrap();
    assert_eq!(entries, 6);
    let kernel = dir.file("bz32", &bzimage(false));
    let entry = Boot::open(&kernel, None, "", ram.layout)
        .unwrap()
        .load(&ram.handle, 0)
        .unwrap();
    let expected = Entry::Protected {
        eip: 0x10_0000,
        ebx: 0,
        esi: low(PARAMS),
        gdt: GDT,
    };
    assert_eq!(entry, expected);
}

#[test]
fn an_elf_is_entered_by_its_note_and_loaded_again() {
    let dir = Dir::new("elf");
    let ram = ram(64 << 20);
    let kernel = dir.file("pvh", &elf(true));
    let mut boot = Boot::open(&kernel, None, "quiet", ram.layout).unwrap();
    let expected = Entry::Protected {
        eip: 0x100_0002,
        ebx: low(PARAMS),
        esi: 0,
        gdt: GDT,
    };
    assert_eq!(boot.load(&ram.handle, 0xf_0000).unwrap(), expected);
    assert_eq!(word(&ram, 0x100_0000), u64::from_le_bytes(*b"code\0\0\0\0"));
    assert_eq!(word(&ram, PARAMS) & 0xffff_ffff, 0x336e_c578);
    assert_eq!(word(&ram, PARAMS + 32), 0xf_0000);
    // The guest writes over itself and is reset.
    ram.handle
        .memory()
        .write_obj(u64::MAX, GuestAddress(0x100_0000))
        .unwrap();
    std::fs::remove_file(&kernel).unwrap();
    boot.load(&ram.handle, 0xf_0000).unwrap();
    assert_eq!(word(&ram, 0x100_0000), u64::from_le_bytes(*b"code\0\0\0\0"));
    let kernel = dir.file("plain", &elf(false));
    let entry = Boot::open(&kernel, None, "", ram.layout)
        .unwrap()
        .load(&ram.handle, 0)
        .unwrap();
    assert!(
        matches!(
            entry,
            Entry::Long {
                rip: 0x100_0000,
                ..
            }
        ),
        "{entry:?}"
    );
}

#[test]
fn what_cannot_be_booted_is_refused() {
    let dir = Dir::new("bad");
    let layout = RamLayout::new(crate::layout::Board::Q35, 64 << 20);
    let refusal = |kernel: &Path, initrd: Option<&Path>, line: &str, layout| {
        Boot::open(kernel, initrd, line, layout)
            .err()
            .unwrap()
            .to_string()
    };
    let missing = Path::new("/nonexistent/vmlinuz");
    assert_eq!(
        refusal(missing, None, "", layout),
        "could not open kernel file '/nonexistent/vmlinuz': No such file or directory"
    );
    let good = dir.file("good", &bzimage(true));
    let initrd = Path::new("/nonexistent/initrd");
    assert_eq!(
        refusal(&good, Some(initrd), "", layout),
        "error reading initrd /nonexistent/initrd: No such file or directory"
    );
    for (name, bytes) in [
        ("empty", vec![]),
        ("text", b"#!/bin/sh\n".to_vec()),
        ("cut", bzimage(true)[..700].to_vec()),
        ("elf-cut", elf(true)[..100].to_vec()),
        ("elf-only-magic", vec![0x7f, b'E', b'L', b'F']),
    ] {
        let path = dir.file(name, &bytes);
        assert_eq!(
            refusal(&path, None, "", layout),
            format!(
                "could not load kernel '{}': invalid kernel header",
                path.display()
            ),
            "{name}"
        );
    }
    let long = "x".repeat(101);
    assert_eq!(
        refusal(&good, None, &long, layout),
        "kernel command line is too long (max: 100, need 101)"
    );
    let huge = dir.file("huge", &[]);
    File::options()
        .write(true)
        .open(&huge)
        .unwrap()
        .set_len(65 << 20)
        .unwrap();
    assert_eq!(
        refusal(&good, Some(&huge), "", layout),
        format!(
            "initrd is too large, cannot support.(max: {}, need {})",
            64 << 20,
            65 << 20
        )
    );
    let small = RamLayout::new(crate::layout::Board::Q35, 1 << 20);
    assert_eq!(
        refusal(&good, None, "", small),
        "guest memory is too small to boot a kernel"
    );
}
