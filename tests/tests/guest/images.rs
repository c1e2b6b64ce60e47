//! Images of every format that is written, under a Linux guest with a journalling file system: what it
//! synced is there after a loss of power, what it discards is given back, a new size is seen at once. The
//! images are made and looked at by qemu-img and e2fsprogs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tests::{Serial, Vm, VmBuilder, disk, seconds, sys};

use crate::boot_with;

/// A kind of image: what qemu-img makes of a raw one.
struct Kind {
    name: &'static str,
    format: &'static str,
    /// `-o` of qemu-img convert.
    options: &'static str,
    /// An overlay on the raw image rather than a copy of it.
    overlay: bool,
}

const fn copy(name: &'static str, format: &'static str, options: &'static str) -> Kind {
    Kind {
        name,
        format,
        options,
        overlay: false,
    }
}

const KINDS: [Kind; 9] = [
    copy("plain", "raw", ""),
    copy("v3", "qcow2", ""),
    copy("v2", "qcow2", "compat=0.10,cluster_size=4k"),
    copy("subclusters", "qcow2", "extended_l2=on,cluster_size=128k"),
    copy("lazy", "qcow2", "lazy_refcounts=on"),
    copy("large", "qcow2", "cluster_size=2M,refcount_bits=1"),
    copy("zstd", "qcow2", "compression_type=zstd"),
    copy("qed", "qed", ""),
    Kind {
        name: "overlay",
        format: "qcow2",
        options: "",
        overlay: true,
    },
];

fn tool(program: &str, args: &[&str]) -> (i32, String) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

fn done(program: &str, args: &[&str]) -> String {
    let (status, text) = tool(program, args);
    assert_eq!(status, 0, "{program} {args:?}: {text}");
    text
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a name in UTF-8")
}

/// Bytes of a disk.
const SIZE: u64 = 24 << 20;

/// An image of each kind with an ext4 file system.
fn images(directory: &Path) -> Vec<PathBuf> {
    let base = disk::raw(directory, "base.raw", SIZE);
    done(
        "mke2fs",
        &["-q", "-t", "ext4", "-E", "nodiscard", words(&base)],
    );
    let image = |kind: &Kind| {
        let path = directory.join(format!("{}.{}", kind.name, kind.format));
        let (base, to) = (words(&base), words(&path));
        match (kind.overlay, kind.options) {
            (true, _) => done(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    kind.format,
                    "-b",
                    base,
                    "-F",
                    "raw",
                    to,
                ],
            ),
            (false, "") => done("qemu-img", &["convert", "-O", kind.format, base, to]),
            (false, options) => done(
                "qemu-img",
                &["convert", "-O", kind.format, "-o", options, base, to],
            ),
        };
        path
    };
    KINDS.iter().map(image).collect()
}

fn arguments(images: &[PathBuf]) -> Vec<String> {
    let device = |(at, (kind, path)): (usize, (&Kind, &PathBuf))| {
        let node = json!({
            "driver": kind.format, "node-name": kind.name, "discard": "unmap",
            "file": {"driver": "file", "filename": path, "discard": "unmap",
                     "aio": if at % 2 == 0 { "threads" } else { "io_uring" }},
        });
        let device = format!(
            "virtio-blk-pci,drive={0},serial={0},num-queues=2,id=d-{0}",
            kind.name
        );
        [
            "-blockdev".to_owned(),
            node.to_string(),
            "-device".to_owned(),
            device,
        ]
    };
    KINDS
        .iter()
        .zip(images)
        .enumerate()
        .flat_map(device)
        .collect()
}

/// Starts a guest with all images and mounts them at /mnt/NAME.
fn start(builder: VmBuilder, images: &[PathBuf]) -> Option<(Vm, Serial)> {
    let args = arguments(images);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["-smp", "2"]);
    let (vm, mut serial) = boot_with(builder, "512", &args, "")?;
    serial.set_limit(seconds(240));
    serial.run(
        "for d in /sys/block/vd*; do n=$(cat $d/serial); mkdir -p /mnt/$n; \
         mount -t ext4 -o discard /dev/${d##*/} /mnt/$n || exit 1; done",
    );
    assert_eq!(serial.run("ls /mnt | wc -w"), KINDS.len().to_string());
    Some((vm, serial))
}

/// Nothing is damaged in the image; leaks are allowed after a loss of power only.
fn check_image(kind: &Kind, path: &Path, leaks_allowed: bool) {
    if kind.format == "raw" {
        return;
    }
    let check = ["check", "-f", kind.format, words(path)];
    let lazy = kind.options.contains("lazy") || kind.format == "qed";
    // These say themselves that they were not closed; mending is what their next user does.
    if leaks_allowed && lazy {
        tool(
            "qemu-img",
            &["check", "-r", "all", "-f", kind.format, words(path)],
        );
    }
    let (status, text) = tool("qemu-img", &check);
    let fine = status == 0 || (leaks_allowed && status == 3);
    assert!(fine, "{}: {status} {text}", kind.name);
}

/// The file system in the image is whole; gives it as a raw image.
fn check_file_system(kind: &Kind, path: &Path) -> PathBuf {
    let flat = match kind.format {
        "raw" => path.to_owned(),
        format => {
            let flat = path.with_extension("flat");
            let to = ["-O", "raw", words(path), words(&flat)];
            done("qemu-img", &[&["convert", "-f", format][..], &to].concat());
            flat
        }
    };
    // The journal is played back, as the next mount would do it; then all is looked at, and there is
    // nothing to mend but counts.
    let (status, text) = tool("e2fsck", &["-fp", words(&flat)]);
    assert!(status <= 1, "{}: {text}", kind.name);
    flat
}

/// The files of a file system are what the guest saw; `sums` is what md5sum said of KIND/FILE.
fn check_files(kind: &Kind, flat: &Path, sums: &str) {
    let out = flat.with_extension("files");
    std::fs::create_dir(&out).expect("a directory");
    done(
        "debugfs",
        &["-R", &format!("rdump / {}", words(&out)), words(flat)],
    );
    let prefix = format!("{}/", kind.name);
    let of_kind = |line: &'_ str| {
        let (sum, file) = line.trim().split_once("  ").expect("a sum and a name");
        let file = file.strip_prefix(&prefix)?;
        Some((sum.to_owned(), words(&out.join(file)).to_owned()))
    };
    let expected: Vec<(String, String)> = sums.lines().filter_map(of_kind).collect();
    assert!(!expected.is_empty(), "{}", kind.name);
    let files: Vec<&str> = expected.iter().map(|(_, file)| file.as_str()).collect();
    let found = done("md5sum", &files);
    let found: Vec<_> = found
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, file)| (sum.to_owned(), file.to_owned()))
        .collect();
    assert_eq!(found, expected, "{}", kind.name);
}

#[test]
fn power_is_lost_while_every_kind_of_image_is_written() {
    let builder = VmBuilder::new();
    let directory = builder.dir().to_owned();
    if tests::artifacts::guest().is_none() {
        return;
    }
    let images = images(&directory);
    let base = disk::read(&directory.join("base.raw"), 0, SIZE as usize);
    let Some((mut vm, mut serial)) = start(builder, &images) else {
        return;
    };
    // Random bytes are dear where the processor is emulated.
    serial.run("dd if=/dev/urandom of=/random bs=37k count=72 2>/dev/null");
    serial.run(
        "for m in /mnt/*; do for i in 0 1 2 3 4 5 6 7; do \
         dd if=/random of=$m/f$i bs=37k count=9 skip=$((9 * i)) 2>/dev/null; done; \
         rm $m/f3 $m/f5; done; sync",
    );
    let sums = serial.run("cd /mnt; md5sum */f*; cd /");
    assert_eq!(sums.lines().count(), KINDS.len() * 6, "{sums}");
    // From now on all is in flux.
    serial.send(
        b"for m in /mnt/*; do (while :; do dd if=/random of=$m/g bs=64k; sync; \
          rm $m/g; done) >/dev/null 2>&1 & done\n",
    );
    std::thread::sleep(seconds(3));
    sys::kill(vm.pid(), libc::SIGKILL);
    vm.wait();
    for (kind, path) in KINDS.iter().zip(&images) {
        check_image(kind, path, true);
        let flat = check_file_system(kind, path);
        check_files(kind, &flat, &sums);
    }
    let now = disk::read(&directory.join("base.raw"), 0, SIZE as usize);
    assert!(now == base, "a backing file is never written");
}

#[test]
fn images_shrink_and_grow_under_a_guest() {
    let builder = VmBuilder::new();
    let directory = builder.dir().to_owned();
    if tests::artifacts::guest().is_none() {
        return;
    }
    let images = images(&directory);
    let Some((mut vm, mut serial)) = start(builder, &images) else {
        return;
    };
    serial.run("dd if=/dev/urandom of=/random bs=1M count=8 2>/dev/null");
    serial.run("for m in /mnt/*; do cp /random $m/big; done; sync");
    let full: Vec<u64> = images.iter().map(|path| disk::allocated(path)).collect();
    serial.run("rm /mnt/*/big; sync; sleep 1; sync");
    serial.run("for m in /mnt/*; do umount $m; done; sync");
    vm.query("stop");
    for ((kind, path), full) in KINDS.iter().zip(&images).zip(full) {
        // Clusters of qed are never given back, and large ones only whole.
        if kind.format == "qed" || kind.name == "large" {
            continue;
        }
        let now = disk::allocated(path);
        assert!(now + (5 << 20) < full, "{}: {now} of {full}", kind.name);
    }
    vm.query("cont");
    let (size, sectors) = (2 * SIZE, 2 * SIZE / 512);
    for kind in &KINDS {
        vm.exec(
            "block_resize",
            json!({"node-name": kind.name, "size": size}),
        );
    }
    // One command for all: the console is slow.
    let seen = serial.run(&format!(
        "for d in /sys/block/vd*; do for i in 1 2 3 4 5 6 7 8 9; do [ $(cat $d/size) = {sectors} ] && break; \
         sleep 1; done; cat $d/size; \
         echo the-end | dd of=/dev/${{d##*/}} bs=512 seek={} conv=fsync 2>/dev/null || exit 1; done",
        sectors - 1
    ));
    let expected = vec![sectors.to_string(); KINDS.len()];
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
    for (kind, path) in KINDS.iter().zip(&images) {
        check_image(kind, path, false);
        let flat = check_file_system(kind, path);
        let length = std::fs::metadata(&flat).expect("a file").len();
        assert_eq!(length, size, "{}", kind.name);
        assert_eq!(
            disk::read(&flat, size - 512, 7),
            b"the-end",
            "{}",
            kind.name
        );
    }
}
