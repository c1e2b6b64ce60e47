//! Dumps of a running Linux: its banner is found in them by the address that the kernel tells.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use object::Endianness;
use object::elf::PT_LOAD;
use object::read::elf::{ElfFile64, ProgramHeader};
use serde_json::json;
use tests::Vm;

use crate::boot;

const BANNER: &str = "Linux version ";

/// What a core has at a virtual address.
fn at_virtual(core: &[u8], address: u64, len: u64) -> &[u8] {
    let file = ElfFile64::<Endianness>::parse(core).expect("an ELF file");
    let endian = Endianness::Little;
    let headers = file.elf_program_headers().iter();
    let mut loads = headers.filter(|header| header.p_type(endian) == PT_LOAD);
    let piece = loads.find(|header| {
        let (first, size) = (header.p_vaddr(endian), header.p_filesz(endian));
        first <= address && address - first < size
    });
    let piece = piece.expect("the address");
    let data = piece.data(endian, core).expect("its data");
    let from = usize::try_from(address - piece.p_vaddr(endian)).expect("an offset");
    &data[from..from + usize::try_from(len).expect("a length")]
}

/// The page of a kdump-compressed dump that has this number.
fn page(dump: &[u8], wanted: u64) -> Vec<u8> {
    let long = |at: u64| {
        let at = usize::try_from(at).expect("an offset");
        u64::from_le_bytes(dump[at..at + 8].try_into().expect("eight bytes"))
    };
    let word = |at: u64| long(at) & 0xffff_ffff;
    assert!(dump.starts_with(b"KDUMP   "));
    let (block, sub_blocks, bitmap_blocks) = (4096, word(432), word(436));
    let second = (1 + sub_blocks + bitmap_blocks / 2) * block;
    let there = |frame: u64| {
        let byte = usize::try_from(second + frame / 8).expect("an offset");
        dump[byte] >> (frame % 8) & 1 == 1
    };
    assert!(there(wanted));
    let before = (0..wanted).filter(|frame| there(*frame)).count();
    let descriptor = (1 + sub_blocks + bitmap_blocks) * block + 24 * before as u64;
    let from = usize::try_from(long(descriptor)).expect("an offset");
    let size = usize::try_from(word(descriptor + 8)).expect("a size");
    let data = &dump[from..from + size];
    match word(descriptor + 12) {
        0 => data.to_vec(),
        _ => miniz_oxide::inflate::decompress_to_vec_zlib(data).expect("a page"),
    }
}

/// What gdb says of a core; `None` where there is no gdb.
fn gdb(core: &Path, address: u64) -> Option<String> {
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-ex"])
        .arg(format!("core-file {}", core.display()))
        .args(["-ex", "info threads", "-ex", "info registers rip"])
        .args(["-ex", &format!("x/s {address:#x}")])
        .output()
        .ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn dump(vm: &mut Vm, path: &Path, paging: bool, format: &str) {
    let protocol = format!("file:{}", path.display());
    let args = json!({"paging": paging, "protocol": protocol, "format": format});
    vm.exec("dump-guest-memory", args);
    assert_eq!(vm.query("query-dump")["status"], "completed");
    assert_eq!(vm.query("query-status")["status"], "running");
}

#[test]
fn the_kernel_is_found_in_dumps() {
    let Some((mut vm, mut serial)) = boot("128", &["-smp", "2"]) else {
        return;
    };
    let symbol = serial.run("grep ' linux_banner$' /proc/kallsyms");
    let address = symbol.split_whitespace().next().unwrap_or_default();
    let address = u64::from_str_radix(address, 16).expect("an address");
    assert_ne!(address, 0, "{symbol}");
    // Linux maps a stack for each processor 65536 times (espfix): that takes a while in the lab.
    vm.qmp().set_limit(Duration::from_secs(120));
    let core = vm.path("core");
    dump(&mut vm, &core, true, "elf");
    let bytes = fs::read(&core).expect("a dump");
    let banner = at_virtual(&bytes, address, 14);
    assert_eq!(String::from_utf8_lossy(banner), BANNER);
    if let Some(said) = gdb(&core, address) {
        assert!(said.contains(BANNER), "{said}");
        assert!(said.contains("* 1 ") && said.contains("  2 "), "{said}");
        assert!(said.contains("rip            0x"), "{said}");
    }
    fs::remove_file(&core).expect("room again");

    let hmp = |vm: &mut Vm, line: &str| vm.qmp().hmp(line).replace('\r', "");
    let physical = hmp(&mut vm, &format!("gva2gpa {address:#x}"));
    let physical = physical.trim().trim_start_matches("gpa: 0x");
    let physical = u64::from_str_radix(physical, 16).expect("an address");
    let kdump = vm.path("kdump");
    dump(&mut vm, &kdump, false, "kdump-raw-zlib");
    let page = page(&fs::read(&kdump).expect("a dump"), physical / 4096);
    let from = usize::try_from(physical % 4096).expect("an offset");
    assert!(page[from..].starts_with(BANNER.as_bytes()));

    // "Linux ve".
    let shown = hmp(&mut vm, &format!("x/1xg {address:#x}"));
    assert_eq!(shown, format!("{address:016x}: 0x65762078756e694c\n"));
    let shown = hmp(&mut vm, &format!("xp/5c {physical:#x}"));
    assert!(shown.contains(": 'L' 'i' 'n' 'u' 'x'"), "{shown}");
    let piece = vm.path("piece");
    let args = json!({"val": address.cast_signed(), "size": 14, "filename": piece});
    vm.exec("memsave", args);
    assert_eq!(fs::read(&piece).expect("a file"), BANNER.as_bytes());
    let mem = hmp(&mut vm, "info mem");
    let covers = |line: &str| {
        let (first, rest) = line.split_once('-').unwrap_or_default();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let end = number(rest.get(..16).unwrap_or_default());
        (number(first)..end).contains(&address) && line.contains(" -r")
    };
    assert!(mem.lines().any(covers), "{}", mem.len());
    let registers = hmp(&mut vm, "info registers -a");
    assert!(registers.contains("CPU#1\nRAX="), "{registers}");
    assert_eq!(serial.run("echo alive"), "alive");
}
