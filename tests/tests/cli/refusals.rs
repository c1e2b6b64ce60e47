//! Whatever is wrong ends with a message and status 1, before anything was made.

use std::fs;

use tests::binary::{has_kvm, is_stand_in, skip_on_stand_in};
use tests::{VmBuilder, disk, sys};

/// What is wrong with how the program takes these arguments, which it must refuse with these words.
fn fault(args: &[&str], words: &str) -> Option<String> {
    let exit = VmBuilder::new()
        .args(["-accel", "qtest", "-m", "64"])
        .args(args)
        .run();
    let panicked = exit.stderr.contains("panicked at");
    let fine = exit.status == Some(1) && !exit.stderr.trim().is_empty() && !panicked;
    (!fine || !exit.stderr.contains(words)).then(|| format!("{args:?}: no {words:?} in {exit:?}"))
}

fn refused(args: &[&str], words: &str) {
    assert_eq!(fault(args, words), None);
}

fn all_refused(table: &[(&[&str], &str)]) {
    let faults: Vec<_> = table
        .iter()
        .filter_map(|(args, words)| fault(args, words))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unknown_things() {
    all_refused(&[
        (&["-bogus"][..], "-bogus: invalid option"),
        (&["--bogus"], "bogus"),
        (&["bogus.img", "other.img"], ""),
        (&["-machine", "bogus"], "unsupported machine type"),
        (&["-machine", "q35,bogus=1"], "bogus"),
        (&["-cpu", "bogus"], "bogus"),
        (&["-cpu", "qemu64,+bogus"], "bogus"),
        (
            &["-device", "bogus"],
            "'bogus' is not a valid device model name",
        ),
        (
            &["-device", "virtio-rng-pci,bogus=1"],
            "Property 'virtio-rng-pci.bogus' not found",
        ),
        (
            &["-device", r#"{"driver":"virtio-rng-pci","bogus":1}"#],
            "Property 'virtio-rng-pci.bogus' not found",
        ),
        (&["-object", "bogus,id=x"], "bogus"),
        (&["-object", "iothread,id=x,bogus=1"], "'bogus'"),
        (&["-blockdev", "bogus,node-name=x"], "bogus"),
        (
            &["-blockdev", "null-co,node-name=x,bogus=1"],
            "Parameter 'bogus' is unexpected",
        ),
        (
            &["-chardev", "bogus,id=x"],
            "'bogus' is not a valid char driver name",
        ),
        (
            &["-chardev", "null,id=x,bogus=1"],
            "Invalid parameter 'bogus'",
        ),
        (&["-serial", "bogus"], "bogus"),
        (&["-smp", "2,bogus=1"], "bogus"),
        (&["-m", "64,bogus=1"], "bogus"),
        (&["-rtc", "bogus=1"], "bogus"),
        (&["-rtc", "base=bogus"], "invalid datetime format"),
        (&["-name", "x,bogus=1"], "bogus"),
        (&["-action", "bogus=1"], "bogus"),
        (&["-action", "reboot=bogus"], "bogus"),
        (&["-msg", "bogus=1"], "bogus"),
        (&["-drive", "if=bogus"], "bogus"),
        (&["-drive", "if=none,bogus=1"], "bogus"),
        (
            &["-mon", "chardev=nobody,mode=control"],
            "chardev \"nobody\" not found",
        ),
        (&["-mon", "chardev=serial0,mode=bogus"], "bogus"),
    ]);
}

#[test]
fn missing_things() {
    all_refused(&[
        (&["-machine"][..], "requires an argument"),
        (&["-device"], "requires an argument"),
        (&["-device", "id=x"], "driver"),
        (&["-object", "iothread"], "Parameter 'id' is missing"),
        (&["-blockdev", "null-co"], "node-name"),
        (
            &["-blockdev", "file,node-name=x"],
            "Parameter 'filename' is missing",
        ),
        (&["-chardev", "null"], "id"),
        (&["-chardev", "socket,id=x"], "chardev"),
        (&["-device", "virtio-blk-pci"], "drive property not set"),
        (
            &["-device", "virtserialport"],
            "No 'virtio-serial-bus' bus found for device 'virtserialport'",
        ),
        (
            &["-device", "scsi-hd"],
            "No 'SCSI' bus found for device 'scsi-hd'",
        ),
        (
            &["-device", "virtio-scsi-pci", "-device", "scsi-hd"],
            "drive property not set",
        ),
        (
            &[
                "-device",
                "virtio-scsi-pci",
                "-device",
                "scsi-hd,drive=nobody",
            ],
            "Property 'scsi-hd.drive' can't find value 'nobody'",
        ),
        (
            &["-device", "virtio-blk-pci,drive=nobody"],
            "Property 'virtio-blk-device.drive' can't find value 'nobody'",
        ),
        (
            &["-device", "virtio-rng-pci,bus=nobody"],
            "Bus 'nobody' not found",
        ),
        (&["-device", "virtio-rng-pci,rng=nobody"], "nobody"),
        (
            &["-device", "isa-serial,chardev=nobody"],
            ".chardev' can't find value 'nobody'",
        ),
        (
            &["-machine", "q35,memory-backend=nobody"],
            "Memory backend 'nobody' not found",
        ),
    ]);
}

#[test]
fn wrong_values() {
    all_refused(&[
        (&["-m", "bogus"][..], "bogus"),
        (&["-m", "-1"], ""),
        (&["-smp", "0"], "Invalid CPU topology"),
        (&["-smp", "bogus"], "cpus"),
        (
            &["-smp", "3,sockets=1,cores=2,threads=1"],
            "Invalid CPU topology",
        ),
        (&["-smp", "4,maxcpus=2"], ""),
        (&["-smp", "100000"], "100000"),
        (&["-uuid", "bogus"], "UUID"),
        (&["-device", "virtio-rng-pci,max-bytes=bogus"], "max-bytes"),
        (&["-device", "virtio-rng-pci,addr=33"], "addr"),
        (
            &["-device", "virtio-scsi-pci,num_queues=0"],
            "Invalid number of queues (= 0), must be a positive integer less than 1022.",
        ),
        (
            &[
                "-device",
                "virtio-scsi-pci,id=s",
                "-device",
                "scsi-cd,scsi-id=1,id=a",
                "-device",
                "scsi-cd,scsi-id=1,lun=0",
            ],
            "lun already used by 'a'",
        ),
        (
            &["-device", "virtio-scsi-pci", "-device", "scsi-cd,lun=16384"],
            "bad scsi device lun: 16384",
        ),
        (
            &[
                "-device",
                "virtio-scsi-pci,id=s",
                "-device",
                "virtio-rng-pci,bus=s.0",
            ],
            "Device 'virtio-rng-pci' can't go on SCSI bus",
        ),
        (
            &[
                "-device",
                "virtio-rng-pci,addr=4.0",
                "-device",
                "virtio-rng-pci,addr=4.0",
            ],
            "in use",
        ),
        (
            &[
                "-device",
                "virtio-rng-pci,id=a",
                "-device",
                "virtio-rng-pci,id=a",
            ],
            "uplicate",
        ),
        (
            &["-object", "iothread,id=a", "-object", "iothread,id=a"],
            "uplicate",
        ),
        (
            &["-chardev", "null,id=a", "-chardev", "null,id=a"],
            "Duplicate ID 'a' for chardev",
        ),
        (
            &["-object", r#"{"qom-type":"iothread","id":"a""#],
            "JSON parse error",
        ),
        (
            &["-object", r#"{"qom-type":"iothread","id":1}"#],
            "Invalid parameter type for 'id', expected: string",
        ),
        (
            &["-device", r#"{"driver":"virtio-rng-pci","period":"x"}"#],
            "period",
        ),
        (&["-blockdev", "null-co,node-name=x,size=bogus"], "size"),
        (&["-blockdev", "null-co,node-name=1x"], "1x"),
        (
            &["-blockdev", "null-co,node-name=x,read-only=bogus"],
            "read-only",
        ),
        (
            &[
                "-blockdev",
                "null-co,node-name=n",
                "-device",
                "virtio-blk-pci,drive=n,num-queues=0",
            ],
            "num-queues",
        ),
        (
            &[
                "-blockdev",
                "null-co,node-name=n",
                "-device",
                "virtio-blk-pci,drive=n,queue-size=3",
            ],
            "queue",
        ),
        (
            &[
                "-blockdev",
                "null-co,node-name=n",
                "-device",
                "virtio-blk-pci,drive=n,logical_block_size=500",
            ],
            "logical_block_size",
        ),
    ]);
}

#[test]
fn a_missing_kernel_or_initrd() {
    let directory = tempfile::tempdir().expect("a directory");
    let junk = directory.path().join("junk");
    fs::write(&junk, b"this is no kernel").expect("a file");
    let junk = junk.to_str().expect("a name");
    let q35 = ["-machine", "q35"];
    refused(
        &[&q35[..], &["-kernel", "/no/such/kernel"]].concat(),
        "/no/such/kernel",
    );
    if is_stand_in() {
        // It runs what is no kernel, and finds out later.
        return;
    }
    refused(&[&q35[..], &["-kernel", junk]].concat(), junk);
    refused(
        &[
            &q35[..],
            &["-kernel", directory.path().to_str().expect("a name")],
        ]
        .concat(),
        "",
    );
    refused(
        &[&q35[..], &["-append", "x"]].concat(),
        "-append only allowed with -kernel",
    );
    refused(
        &[&q35[..], &["-initrd", junk]].concat(),
        "-initrd only allowed with -kernel",
    );
}

#[test]
fn nothing_was_made_before_a_refusal() {
    let builder = VmBuilder::new();
    let (socket, pid, log) = (
        builder.path("qmp.sock"),
        builder.path("pid"),
        builder.path("log"),
    );
    let directory = tempfile::tempdir().expect("a directory");
    let serial = directory.path().join("serial");
    let exit = builder
        .args(["-machine", "q35", "-accel", "qtest"])
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .arg("-chardev")
        .arg(format!("file,id=f,path={}", serial.display()))
        .arg("-pidfile")
        .arg(&pid)
        .arg("-D")
        .arg(&log)
        .args(["-bogus"])
        .run();
    exit.assert_refused();
    assert!(!serial.exists(), "the file of a character device was made");
}

#[test]
fn memory_that_the_host_cannot_give() {
    let exit = VmBuilder::new()
        .args(["-machine", "q35", "-accel", "qtest", "-m", "64M"])
        .address_space(48 << 20)
        .run();
    if is_stand_in() {
        // With so little it does not even come up.
        assert_ne!(exit.status, Some(0));
        return;
    }
    exit.assert_refused().assert_says("Cannot allocate memory");
    refused(
        &[
            "-machine",
            "q35",
            "-object",
            "memory-backend-memfd,id=m,size=64M,hugetlb=on,hugetlbsize=1G",
            "-machine",
            "memory-backend=m",
        ],
        "",
    );
}

#[test]
fn more_memory_than_any_host_has() {
    refused(&["-machine", "q35", "-m", "64P"], "");
    refused(
        &[
            "-machine",
            "q35",
            "-object",
            "memory-backend-ram,id=m,size=64P",
        ],
        "Cannot allocate memory",
    );
}

#[test]
fn an_image_that_cannot_be_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 4096);
    let read_only = directory.path().join("none.img");
    let q35 = ["-machine", "q35", "-blockdev"];
    let node = format!("file,node-name=x,filename={}", read_only.display());
    refused(&[&q35[..], &[&node]].concat(), "No such file or directory");
    let node = format!("file,node-name=x,filename={},aio=native", path.display());
    refused(
        &[&q35[..], &[&node]].concat(),
        "aio=native was specified, but it requires cache.direct=on",
    );
    let drive = format!("file={},if=none,format=bogus", path.display());
    refused(&["-machine", "q35", "-drive", &drive], "bogus");
}

#[test]
fn kvm_that_is_not_permitted() {
    if sys::user_id() != 0 || !has_kvm() {
        println!("skipped: needs root and /dev/kvm");
        return;
    }
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/dev/kvm").is_ok_and(|meta| meta.mode() & 0o006 == 0o006) {
        println!("skipped: everyone may use /dev/kvm");
        return;
    }
    let exit = VmBuilder::new()
        .user(65534)
        .args(["-machine", "q35", "-accel", "kvm"])
        .run();
    exit.assert_refused().assert_says("Permission denied");
    if skip_on_stand_in("the reference does not say what would help") {
        return;
    }
    // The group that owns the device, by name or number.
    exit.assert_says("group");
}

#[test]
fn the_message_names_the_program_and_the_option() {
    let exit = VmBuilder::new()
        .args(["-machine", "q35", "-device", "bogus"])
        .run();
    let first = exit.stderr.lines().next().unwrap_or_default();
    let name = if is_stand_in() {
        "qemu-system-x86_64: "
    } else {
        "qvmd: "
    };
    assert!(first.starts_with(name), "{first}");
    assert!(first.contains("-device bogus: "), "{first}");
}

#[test]
fn messages_may_begin_with_the_time() {
    let exit = VmBuilder::new()
        .args([
            "-msg",
            "timestamp=on",
            "-machine",
            "q35",
            "-device",
            "bogus",
        ])
        .run();
    exit.assert_refused();
    let first = exit.stderr.lines().next().unwrap_or_default();
    let stamp = first.split(' ').next().unwrap_or_default();
    // 2026-01-02T03:04:05.678901Z
    assert!(
        stamp.len() == 27 && stamp.ends_with('Z') && stamp.as_bytes()[10] == b'T',
        "{first}"
    );
}

#[test]
fn the_background_has_no_terminal() {
    let none = ["-machine", "none", "-daemonize"];
    let words = "cannot use stdio with -daemonize";
    for more in [
        &["-chardev", "stdio,id=x"][..],
        &["-qmp", "stdio"],
        &["-serial", "stdio"],
    ] {
        refused(&[&none[..], more].concat(), words);
    }
    refused(
        &[&none[..], &["-nographic"]].concat(),
        "-nographic cannot be used with -daemonize",
    );
}

#[test]
fn a_machine_comes_from_one_place() {
    let options = ["-machine", "none", "-incoming", "defer", "-loadvm", "x"];
    let words = "'incoming' and 'loadvm' options are mutually exclusive";
    refused(&options, words);
}

#[test]
fn descriptors_that_were_not_inherited() {
    let words = "fd is not valid or already in use";
    // Free, and one that the program opened itself.
    for fd in ["fd=77,set=1", "fd=3,set=1", "fd=4,set=1"] {
        refused(&["-machine", "none", "-add-fd", fd], words);
    }
}

#[test]
fn a_start_that_fails_leaves_no_sockets() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let exit = VmBuilder::bare()
        .args(["-machine", "q35", "-accel", "qtest", "-display", "none"])
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", path("qmp").display()))
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,path={},server=on,wait=off",
            path("c").display()
        ))
        .arg("-pidfile")
        .arg(path("pid"))
        // Seen when the devices are made.
        .args(["-device", "virtio-rng-pci,bus=nobody"])
        .run();
    exit.assert_refused();
    if skip_on_stand_in("the reference leaves its sockets behind") {
        return;
    }
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn words_that_are_not_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    if is_stand_in() {
        return;
    }
    let word = std::ffi::OsStr::from_bytes(b"a\xff");
    let exit = VmBuilder::bare().arg("-name").arg(word).run();
    exit.assert_refused().assert_says("is not UTF-8");
}

#[test]
fn words_that_clients_and_people_know() {
    all_refused(&[
        (
            &["-object", "iothread,id=a", "-object", "iothread,id=a"][..],
            "Duplicate ID 'a' for object",
        ),
        (
            &[
                "-device",
                "virtio-rng-pci,id=a",
                "-device",
                "virtio-rng-pci,id=a",
            ],
            "Duplicate ID 'a' for device",
        ),
        (
            &["-device", "virtio-rng-pci,bus=isa.0"],
            "Device 'virtio-rng-pci' can't go on ISA bus",
        ),
        (
            &["-device", "virtconsole,chardev=nobody"],
            "No 'virtio-serial-bus' bus found for device 'virtconsole'",
        ),
        (
            &["-object", "iothread,id=1"],
            "Identifiers consist of letters, digits",
        ),
        (
            &["-serial", "chardev:nobody"],
            "could not connect serial device to character backend 'chardev:nobody'",
        ),
        (
            &["-pidfile", "/no/such/pid"],
            "cannot create PID file: Could not create '/no/such/pid': No such file or directory\n",
        ),
        (
            &["-kernel", "/no/such/kernel"],
            "could not open kernel file '/no/such/kernel': No such file or directory\n",
        ),
    ]);
}
