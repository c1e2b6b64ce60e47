//! Dumps and looking at memory, on a machine that no processor runs.
#![allow(clippy::disallowed_methods)] // The rule for threads is for those of the program.

use std::fs;
use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};
use tests::binary::{is_stand_in, skip_on_stand_in};
use tests::qmp::QmpError;
use tests::{Vm, VmBuilder};

const MIB: u64 = 1 << 20;

/// A machine whose memory is a file, so that there is a pattern in it.
fn patterned(size: u64, state: &str) -> (Vm, Vec<u8>) {
    let mut pattern = vec![0; usize::try_from(size).expect("a size")];
    for (number, page) in pattern.chunks_mut(4096).enumerate() {
        if number % 7 == 3 {
            let bytes = number.to_le_bytes().into_iter().cycle();
            page.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
    }
    let mut vm = VmBuilder::new();
    let file = vm.path("ram");
    fs::write(&file, &pattern).expect("a file of memory");
    let mem = format!(
        "memory-backend-file,id=mem,mem-path={},size={size},share=on",
        file.display()
    );
    vm = vm.args(["-object", &mem, "-machine", "q35,memory-backend=mem"]);
    vm = vm.args(["-accel", accel(), "-m", &format!("{}", size / MIB), "-S"]);
    let mut vm = vm.args(["-nodefaults"]).start();
    if state == "running" {
        vm.query("cont");
    }
    (vm, pattern)
}

/// The reference has no processor-less accelerator for programs other than its own tests.
fn accel() -> &'static str {
    if is_stand_in() { "kvm" } else { "qtest" }
}

fn to_file(path: &Path) -> Value {
    json!({"paging": false, "protocol": format!("file:{}", path.display())})
}

fn with(mut arguments: Value, more: Value) -> Value {
    let all = arguments.as_object_mut().expect("an object");
    all.extend(more.as_object().expect("an object").clone());
    arguments
}

fn long(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).expect("an offset");
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn word(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).expect("an offset");
    u64::from(u32::from_le_bytes(
        bytes[at..at + 4].try_into().expect("four bytes"),
    ))
}

/// Physical addresses and data of the pieces of an ELF core.
fn loads(core: &[u8]) -> Vec<(u64, &[u8])> {
    assert!(core.starts_with(b"\x7fELF\x02\x01\x01"));
    let (first, count) = (long(core, 32), word(core, 56) & 0xffff);
    let headers = (0..count).map(|number| first + number * 56);
    let loads = headers.filter(|at| word(core, *at) == 1);
    loads
        .map(|at| {
            let (offset, len) = (long(core, at + 8), long(core, at + 32));
            let data = &core[offset as usize..(offset + len) as usize];
            (long(core, at + 24), data)
        })
        .collect()
}

/// What a core has at a physical address.
fn found(core: &[u8], address: u64, len: u64) -> &[u8] {
    let loads = loads(core);
    let piece = loads
        .iter()
        .find(|(base, data)| *base <= address && address + len <= base + data.len() as u64);
    let (base, data) = piece.expect("the address");
    &data[(address - base) as usize..][..len as usize]
}

fn completed(total: u64) -> Value {
    json!({"status": "completed", "completed": total, "total": total})
}

#[test]
fn memory_is_in_the_file() {
    let (mut vm, pattern) = patterned(16 * MIB, "running");
    assert_eq!(
        vm.query("query-dump"),
        json!({"status": "none", "completed": 0, "total": 0})
    );
    let path = vm.path("core");
    assert_eq!(vm.exec("dump-guest-memory", to_file(&path)), json!({}));
    // The guest was held meanwhile, and goes on.
    vm.qmp().event("STOP");
    let event = vm.qmp().event("DUMP_COMPLETED");
    vm.qmp().event("RESUME");
    let result = vm.query("query-dump");
    assert_eq!(event["data"], json!({"result": result}));
    assert_eq!(result["status"], "completed");
    assert_eq!(result["completed"], result["total"]);
    let core = fs::read(&path).expect("a dump");
    let above = MIB..16 * MIB;
    assert!(found(&core, MIB, 15 * MIB) == &pattern[above.start as usize..above.end as usize]);
    assert!(found(&core, 0x3000, 4096) == &pattern[0x3000..0x4000]);
    assert_eq!(vm.query("query-status")["status"], "running");
    assert_eq!(
        fs::metadata(&path).expect("a file").permissions().mode() & 0o777,
        0o400
    );
    if !is_stand_in() {
        assert_eq!(result, completed(16 * MIB));
        // What is zero takes no room.
        assert!(fs::metadata(&path).expect("a file").blocks() * 512 < 8 * MIB);
    }
}

#[test]
fn a_machine_that_stands_still_stays_so() {
    let (mut vm, pattern) = patterned(16 * MIB, "stopped");
    let before = vm.query("query-status");
    let path = vm.path("core");
    vm.exec("dump-guest-memory", to_file(&path));
    assert_eq!(vm.query("query-status"), before);
    let part = json!({"begin": 0x20_1001, "length": 0x6003});
    // What was there goes, if it may be written.
    let writable = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&path, writable).expect("its owner");
    vm.exec("dump-guest-memory", with(to_file(&path), part));
    let core = fs::read(&path).expect("a dump");
    assert_eq!(loads(&core), [(0x20_1001, &pattern[0x20_1001..0x20_7004])]);
    assert_eq!(vm.query("query-dump"), completed(0x6003));
    // Beyond the end of memory there is nothing.
    let end = json!({"begin": 16 * MIB - 4096, "length": 8192});
    vm.exec("dump-guest-memory", with(to_file(&path), end));
    assert_eq!(vm.query("query-dump"), completed(4096));
    let events = vm.qmp().pending_events();
    assert!(
        events
            .iter()
            .all(|event| event["event"] == "DUMP_COMPLETED")
    );
}

#[test]
fn descriptors_are_written_to() {
    let (mut vm, pattern) = patterned(16 * MIB, "stopped");
    let mut reader = pipe_from(&mut vm);
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("a dump");
        all
    });
    let dump = json!({"paging": false, "protocol": "fd:d"});
    vm.exec("dump-guest-memory", dump.clone());
    let core = reading.join().expect("a reader");
    assert!(found(&core, MIB, 15 * MIB) == &pattern[MIB as usize..]);
    // It was the dump's.
    let error = vm.refused("dump-guest-memory", dump.clone());
    assert_eq!(error.desc, "File descriptor named 'd' has not been found");
    // A pipe has no places.
    for format in ["kdump-raw-zlib", "kdump-raw-snappy"] {
        if !makes(&mut vm, format) {
            continue;
        }
        let raw = with(dump.clone(), json!({"format": format}));
        let _reader = pipe_from(&mut vm);
        let error = vm.refused("dump-guest-memory", raw);
        assert!(error.desc.ends_with("require a seekable file"), "{error}");
    }
}

/// A pipe whose other end the program knows as `d`, and nobody else has.
fn pipe_from(vm: &mut Vm) -> PipeReader {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let named = vm
        .qmp()
        .try_exec_fds("getfd", json!({"fdname": "d"}), &[writer.as_fd()]);
    named.expect("getfd");
    reader
}

/// Whether it can make such dumps. The program must; of the reference that is a choice of who built it.
fn makes(vm: &mut Vm, format: &str) -> bool {
    let can = vm.query("query-dump-guest-memory-capability");
    let formats = can["formats"].as_array().expect("a list");
    !is_stand_in() || formats.contains(&json!(format))
}

/// The pages of a kdump-compressed dump by number.
fn pages(dump: &[u8]) -> Vec<(u64, Vec<u8>)> {
    assert!(dump.starts_with(b"KDUMP   \x06\0\0\0"));
    let (block, sub_blocks, bitmap_blocks) = (4096, word(dump, 432), word(dump, 436));
    let frames = long(dump, block + 96);
    let second = (1 + sub_blocks + bitmap_blocks / 2) * block;
    let mut descriptor = (1 + sub_blocks + bitmap_blocks) * block;
    let mut found = Vec::new();
    for frame in 0..frames {
        if dump[(second + frame / 8) as usize] >> (frame % 8) & 1 == 0 {
            continue;
        }
        let (offset, size) = (long(dump, descriptor), word(dump, descriptor + 8));
        let data = &dump[offset as usize..(offset + size) as usize];
        let page = match word(dump, descriptor + 12) {
            0 => data.to_vec(),
            1 => inflate(data),
            4 => unsnap(data),
            other => panic!("flags {other}"),
        };
        found.push((frame, page));
        descriptor += 24;
    }
    found
}

fn inflate(data: &[u8]) -> Vec<u8> {
    let inflated = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(data, 4096);
    inflated.expect("a page")
}

fn unsnap(data: &[u8]) -> Vec<u8> {
    let page = snap::raw::Decoder::new().decompress_vec(data);
    page.expect("a page")
}

/// The records of makedumpfile's flattened format, each at its place.
fn rearranged(flat: &[u8]) -> Vec<u8> {
    assert!(flat.starts_with(b"makedumpfile\0"));
    let (mut whole, mut rest) = (Vec::new(), &flat[4096..]);
    loop {
        let (head, data) = rest.split_at(16);
        let number = |at: usize| i64::from_be_bytes(head[at..at + 8].try_into().expect("eight"));
        let (Ok(offset), Ok(len)) = (usize::try_from(number(0)), usize::try_from(number(8))) else {
            assert!(data.is_empty());
            return whole;
        };
        whole.resize(whole.len().max(offset + len), 0);
        whole[offset..offset + len].copy_from_slice(&data[..len]);
        rest = &data[len..];
    }
}

#[test]
fn compressed_dumps_have_every_page() {
    let (mut vm, pattern) = patterned(16 * MIB, "stopped");
    for (format, flat, flag) in [
        ("kdump-zlib", true, 1),
        ("kdump-raw-zlib", false, 1),
        ("kdump-snappy", true, 4),
        ("kdump-raw-snappy", false, 4),
    ] {
        if !makes(&mut vm, format) {
            continue;
        }
        let path = vm.path(format);
        let args = with(to_file(&path), json!({"format": format}));
        vm.exec("dump-guest-memory", args);
        let dump = fs::read(&path).expect("a dump");
        assert!((dump.len() as u64) < 3 * MIB, "{}", dump.len());
        let dump = if flat { rearranged(&dump) } else { dump };
        assert_eq!(word(&dump, 424), flag, "{format}");
        let found = pages(&dump);
        // Firmware of the reference has the last MiB below 1 MiB.
        let above = |frame: u64| frame < 0xa0 || (0x100..0x1000).contains(&frame);
        let expected = (0u64..).zip(pattern.chunks(4096).map(<[u8]>::to_vec));
        let expected: Vec<_> = expected.filter(|(frame, _)| above(*frame)).collect();
        let found: Vec<_> = found
            .into_iter()
            .filter(|(frame, _)| above(*frame))
            .collect();
        assert!(found == expected, "{format}");
    }
}

#[test]
fn a_dump_in_the_background_is_told_of() {
    if skip_on_stand_in("it answers nobody while a pipe is full") {
        return;
    }
    let (mut vm, _) = patterned(16 * MIB, "running");
    // Nobody reads: it takes as long as we like.
    let mut reader = pipe_from(&mut vm);
    let dump = json!({"paging": false, "protocol": "fd:d", "detach": true});
    assert_eq!(vm.exec("dump-guest-memory", dump), json!({}));
    let info = vm.query("query-dump");
    assert_eq!(info["status"], "active");
    assert_eq!(vm.query("query-status")["status"], "save-vm");
    let text = vm.qmp().hmp("info dump");
    assert!(text.starts_with("Status: active\r\nFinished: "), "{text}");
    let core = vm.path("core");
    let error = vm.refused("dump-guest-memory", to_file(&core));
    assert_eq!(error.desc, "There is a dump in process, please wait.");
    assert!(!core.exists());
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("a dump");
    let event = vm.qmp().event("DUMP_COMPLETED");
    assert_eq!(event["data"]["result"]["status"], "completed");
    assert_eq!(vm.query("query-status")["status"], "running");
    assert_eq!(vm.qmp().hmp("info dump"), "Status: completed\r\n");
    vm.exec("dump-guest-memory", to_file(&core));
}

#[test]
fn a_dump_that_nobody_reads_does_not_hold_up_the_end() {
    let (mut vm, _) = patterned(16 * MIB, "running");
    let reader = pipe_from(&mut vm);
    let dump = json!({"paging": false, "protocol": "fd:d", "detach": true});
    vm.exec("dump-guest-memory", dump);
    vm.quit();
    drop(reader);
}

#[test]
fn what_goes_wrong_is_told_and_the_guest_goes_on() {
    let (mut vm, _) = patterned(16 * MIB, "running");
    let full = Path::new("/dev/full");
    for format in ["elf", "kdump-zlib", "kdump-raw-zlib", "kdump-snappy"] {
        if !makes(&mut vm, format) {
            continue;
        }
        let args = with(to_file(full), json!({"format": format}));
        let error = vm.refused("dump-guest-memory", args);
        assert!(error.desc.starts_with("dump: failed to write "), "{error}");
        if !is_stand_in() {
            assert!(error.desc.ends_with(": No space left on device"), "{error}");
        }
        let event = vm.qmp().event("DUMP_COMPLETED");
        assert_eq!(event["data"]["error"], error.desc);
        assert_eq!(event["data"]["result"], vm.query("query-dump"));
        assert_eq!(vm.query("query-dump")["status"], "failed");
        assert_eq!(vm.query("query-status")["status"], "running");
    }
    // In the background only the event tells.
    let args = with(to_file(full), json!({"detach": true}));
    vm.exec("dump-guest-memory", args);
    let event = vm.qmp().event("DUMP_COMPLETED");
    assert_eq!(event["data"]["result"]["status"], "failed");
    if is_stand_in() {
        return;
    }
    // A reader that goes away.
    let reader = pipe_from(&mut vm);
    drop(reader);
    let error = vm.refused(
        "dump-guest-memory",
        json!({"paging": false, "protocol": "fd:d"}),
    );
    assert!(error.desc.starts_with("dump: failed to "), "{error}");
    vm.wait_status("running");
}

#[test]
fn nonsense_is_refused() {
    let (mut vm, _) = patterned(16 * MIB, "stopped");
    let core = vm.path("core");
    let file = to_file(&core);
    let not_whole = "kdump-compressed format doesn't support paging or filter";
    for (more, text) in [
        (
            json!({"protocol": "foo:x"}),
            "parameter 'protocol' must start with 'file:' or 'fd:'",
        ),
        (
            json!({"protocol": "fd:x"}),
            "File descriptor named 'x' has not been found",
        ),
        (
            json!({"protocol": "file:/nonexistent/x"}),
            "Could not create '/nonexistent/x': No such file or directory",
        ),
        (json!({"begin": 0}), "Parameter 'length' is missing"),
        (json!({"length": 0}), "Parameter 'begin' is missing"),
        (
            json!({"begin": 0, "length": 0}),
            "parameter 'length' expects a non-zero size",
        ),
        (
            json!({"begin": 0x1000_0000, "length": 4096}),
            "dump: no guest memory to dump",
        ),
        (json!({"paging": true, "format": "kdump-zlib"}), not_whole),
        (
            json!({"begin": 0, "length": 4096, "format": "kdump-raw-zlib"}),
            not_whole,
        ),
        (json!({"paging": true, "format": "kdump-snappy"}), not_whole),
        (
            json!({"format": "x"}),
            "Parameter 'format' does not accept value 'x'",
        ),
    ] {
        let error = vm.refused("dump-guest-memory", with(file.clone(), more));
        assert_eq!(error.desc, text);
    }
    let error = vm.refused("dump-guest-memory", json!({"protocol": "file:/x"}));
    assert_eq!(error.desc, "Parameter 'paging' is missing");
    let formats = vm.query("query-dump-guest-memory-capability")["formats"].clone();
    let formats = formats.as_array().expect("a list").clone();
    assert!(formats.contains(&json!("elf")) && formats.contains(&json!("kdump-zlib")));
    if is_stand_in() {
        return;
    }
    let all = [
        "elf",
        "kdump-zlib",
        "kdump-raw-zlib",
        "kdump-snappy",
        "kdump-raw-snappy",
    ];
    assert_eq!(formats, all);
    for format in ["kdump-lzo", "kdump-raw-lzo", "win-dmp"] {
        assert!(!formats.contains(&json!(format)));
        let error = vm.refused(
            "dump-guest-memory",
            with(file.clone(), json!({"format": format})),
        );
        let name = format.replace("raw-", "");
        assert_eq!(error.desc, format!("{name} is not available now"));
    }
    // Nothing of it left a trace.
    assert!(!core.exists());
    assert_eq!(vm.query("query-dump")["status"], "none");
    let mut none = Vm::none();
    let error = none.refused("dump-guest-memory", to_file(&core));
    assert_eq!(error.desc, "dump: no guest memory to dump");
}

#[test]
fn what_breaks_in_the_midst() {
    if is_stand_in() {
        return;
    }
    let (mut vm, _) = patterned(16 * MIB, "running");
    // A reader that leaves does what a full disk does.
    let reader = pipe_from(&mut vm);
    let mut part = reader;
    let gone = std::thread::spawn(move || {
        let mut some = vec![0; 1 << 20];
        part.read_exact(&mut some).expect("the beginning");
    });
    let error = vm.refused(
        "dump-guest-memory",
        json!({"paging": false, "protocol": "fd:d"}),
    );
    gone.join().expect("a reader");
    assert_eq!(error.desc, "dump: failed to save memory: Broken pipe");
    assert_eq!(vm.query("query-status")["status"], "running");
    let info = vm.query("query-dump");
    assert_eq!(info["status"], "failed");
}

#[test]
fn pieces_of_memory_go_into_files() {
    let (mut vm, pattern) = patterned(16 * MIB, "stopped");
    let file = vm.path("piece");
    let save = |vm: &mut Vm, command: &str, val: i64, size: i64| -> Result<Vec<u8>, QmpError> {
        let args = json!({"val": val, "size": size, "filename": file});
        vm.qmp().try_exec(command, args)?;
        Ok(fs::read(&file).expect("a file"))
    };
    let at = 0x20_0ffd;
    let piece = &pattern[at..at + 10_000];
    for command in ["pmemsave", "memsave"] {
        let saved = save(&mut vm, command, at as i64, 10_000).expect("saved");
        assert!(saved == piece, "{command}");
        assert!(save(&mut vm, command, 0, 0).expect("saved").is_empty());
    }
    // Where there is no memory there are zeroes; no virtual address leads there.
    let behind = save(&mut vm, "pmemsave", 16 * MIB as i64 - 4, 8).expect("saved");
    assert_eq!(behind[..4], pattern[16 * MIB as usize - 4..]);
    assert_eq!(behind[4..], [0; 4]);
    let error = save(&mut vm, "memsave", 0xf0_0000_0000, 4096).expect_err("no memory");
    let text = "Invalid addr 0x000000f000000000/size 4096 specified";
    assert_eq!(error.desc, text);
    for command in ["pmemsave", "memsave"] {
        let args = json!({"val": 0, "size": 1, "filename": "/nonexistent/x"});
        let error = vm.refused(command, args);
        let text = "Could not open '/nonexistent/x': No such file or directory";
        assert_eq!(error.desc, text);
    }
    let args = json!({"val": 0, "size": MIB, "filename": "/dev/full"});
    let error = vm.refused("pmemsave", args);
    assert_eq!(error.desc, "writing memory to '/dev/full' failed");
    for index in [3, -3] {
        let args = json!({"val": 0, "size": 1, "filename": file, "cpu-index": index});
        let error = vm.refused("memsave", args);
        assert_eq!(error.desc, "Parameter 'cpu-index' expects a CPU number");
    }
    if !is_stand_in() {
        let error = save(&mut vm, "pmemsave", 0, -1).expect_err("no size");
        assert_eq!(error.desc, "Parameter 'size' expects a size");
    }
}

/// The text monitor's answers, with the reference's on the same memory.
#[test]
fn memory_is_shown() {
    let (mut vm, pattern) = patterned(16 * MIB, "stopped");
    let at = 3 * 4096usize + 0x20_0000 - 0x20_0000 % (7 * 4096);
    let mut hmp = |line: &str| vm.qmp().hmp(line).replace('\r', "");
    let word = |at: usize| u32::from_le_bytes(pattern[at..at + 4].try_into().expect("four"));
    let (first, second) = (word(at), word(at + 4));
    let line = format!("{at:016x}: 0x{first:08x} 0x{second:08x}\n");
    for command in ["x", "xp"] {
        assert_eq!(hmp(&format!("{command}/2xw {at}")), line);
        assert_eq!(hmp(&format!("{command} /2xw {at:#x} + 0")), line);
    }
    // The last format still holds.
    assert_eq!(
        hmp(&format!("x {at}")),
        format!("{at:016x}: 0x{first:08x}\n")
    );
    assert_eq!(
        hmp(&format!("xp/1d {at}")),
        format!("{at:016x}: {first:>10}\n")
    );
    assert_eq!(
        hmp("xp/2xb 0xf000000000"),
        "000000f000000000: Cannot access memory\n"
    );
    assert_eq!(hmp("x/0x 0"), "");
    for (line, text) in [
        ("p/x $pc", "0xfffffff0\n"),
        ("print/x $eip", "0xfff0\n"),
        ("p/x $cs*16", "0xf0000\n"),
        ("p/d 7/-2", "-3\n"),
        ("p/c 65", "'A'\n"),
        ("p/o 8", "010\n"),
        ("p/x ~0", "0xffffffffffffffff\n"),
        ("gva2gpa 0x1000", "gpa: 0x1000\n"),
        (
            "gpa2hva 0xf000000000",
            "No memory is mapped at address 0xf000000000\n",
        ),
        ("cpu 0", ""),
        ("cpu 1", "invalid CPU index\n"),
        ("info mem", "PG disabled\n"),
        ("info tlb", "PG disabled\n"),
        ("info registers 1", "CPU#1 not available\n"),
        (
            "p/d 7/0",
            "division by zero\nTry \"help p\" for more information\n",
        ),
        (
            "p $foo",
            "unknown register\nTry \"help p\" for more information\n",
        ),
        (
            "cpu -1",
            "'cpu' has failed: integer is for 32-bit values\n\
             Try \"help cpu\" for more information\n",
        ),
        (
            "p 1 2",
            "print|p: extraneous characters at the end of line\n\
             Try \"help p\" for more information\n",
        ),
    ] {
        assert_eq!(hmp(line), text, "{line}");
    }
    let mem = hmp("gpa2hva 0x1000");
    assert!(
        mem.starts_with("Host virtual address for 0x1000 (mem) is 0x"),
        "{mem}"
    );
    let registers = hmp("info registers -a");
    for part in [
        "\nCPU#0\nEAX=00000000 EBX=00000000 ECX=00000000 EDX=",
        "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n",
        "CS =f000 ffff0000 0000ffff 00009b00\n",
        "TR =0000 00000000 0000ffff 00008b00\nGDT=     00000000 0000ffff\n",
        "DR6=00000000ffff0ff0 DR7=0000000000000400\nEFER=0000000000000000\n",
        "FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80\n",
        "XMM06=0000000000000000 0000000000000000 XMM07=0000000000000000 0000000000000000\n",
    ] {
        assert!(registers.contains(part), "{part} in {registers}");
    }
}

#[test]
fn text_commands_write_files() {
    let (mut vm, pattern) = patterned(16 * MIB, "stopped");
    let file = vm.path("file");
    let quoted = format!("\"{}\"", file.display());
    let mut hmp = |line: &str| vm.qmp().hmp(line).replace('\r', "");
    assert_eq!(hmp("info dump"), "Status: none\n");
    assert_eq!(hmp(&format!("pmemsave 0x200000 4096*2 {quoted}")), "");
    assert_eq!(
        fs::read(&file).expect("a file"),
        &pattern[0x20_0000..0x20_2000]
    );
    assert_eq!(hmp(&format!("memsave 0x201000 16 {quoted}")), "");
    assert_eq!(
        fs::read(&file).expect("a file"),
        &pattern[0x20_1000..0x20_1010]
    );
    let name = file.display();
    assert_eq!(
        hmp(&format!("dump-guest-memory {name} 0x300000 0x2000")),
        ""
    );
    let core = fs::read(&file).expect("a file");
    assert_eq!(
        found(&core, 0x30_0000, 0x2000),
        &pattern[0x30_0000..0x30_2000]
    );
    assert_eq!(hmp("info dump"), "Status: completed\n");
    for (line, text) in [
        (
            "dump-guest-memory -z -l f",
            "Error: only one of '-z|-l|-s|-w' can be set\n",
        ),
        (
            "dump-guest-memory /nonexistent/x",
            "Error: Could not create '/nonexistent/x': No such file or directory\n",
        ),
        (
            "dump-guest-memory -p -z f",
            "Error: kdump-compressed format doesn't support paging or filter\n",
        ),
        (
            "memsave 0 16 \"/nonexistent/x\"",
            "Error: Could not open '/nonexistent/x': No such file or directory\n",
        ),
    ] {
        assert_eq!(hmp(line), text);
    }
}

#[test]
fn text_commands_choose_the_compression() {
    let (mut vm, _) = patterned(16 * MIB, "stopped");
    let file = vm.path("file");
    for (switches, format, flag) in [
        ("-z", "kdump-zlib", 1),
        ("-z -R", "kdump-raw-zlib", 1),
        ("-s", "kdump-snappy", 4),
        ("-R -s", "kdump-raw-snappy", 4),
    ] {
        if !makes(&mut vm, format) {
            continue;
        }
        let line = format!("dump-guest-memory {switches} {}", file.display());
        assert_eq!(vm.qmp().hmp(&line), "", "{switches}");
        let dump = fs::read(&file).expect("a file");
        let flat = !switches.contains('R');
        let dump = if flat { rearranged(&dump) } else { dump };
        assert!(dump.starts_with(b"KDUMP   "), "{switches}");
        assert_eq!(word(&dump, 424), flag, "{switches}");
    }
    if !is_stand_in() {
        let text = vm.qmp().hmp("dump-guest-memory -l f").replace('\r', "");
        assert_eq!(text, "Error: kdump-lzo is not available now\n");
    }
}

#[test]
fn a_fifo_that_nobody_reads_is_not_waited_for() {
    if skip_on_stand_in("the reference waits") {
        return;
    }
    let (mut vm, _) = patterned(16 * MIB, "stopped");
    let fifo = vm.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let name = fifo.display();
    let why = format!("Could not create '{name}': No such device or address");
    assert_eq!(vm.refused("dump-guest-memory", to_file(&fifo)).desc, why);
    let arguments = json!({"val": 0, "size": 16, "filename": fifo});
    let why = format!("Could not open '{name}': No such device or address");
    assert_eq!(vm.refused("pmemsave", arguments.clone()).desc, why);
    let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo);
    let mut reader = reader.expect("a FIFO");
    vm.exec("pmemsave", arguments);
    let mut bytes = [1; 16];
    reader.read_exact(&mut bytes).expect("memory");
    assert_eq!(bytes, [0; 16]);
}

#[test]
fn the_end_by_memory_that_is_lost_is_said() {
    if skip_on_stand_in("the reference says nothing") {
        return;
    }
    let (mut vm, _) = patterned(16 * MIB, "stopped");
    let file = fs::OpenOptions::new().write(true).open(vm.path("ram"));
    file.expect("a file of memory")
        .set_len(MIB)
        .expect("a shorter one");
    vm.qmp().send(
        b"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"xp 0x300000\"}}",
    );
    let exit = vm.wait();
    assert_eq!(exit.signal, Some(7), "{exit:?}");
    exit.assert_says(") touched memory at 0x");
}
