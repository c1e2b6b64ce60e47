//! Two graphs on the same images are two programs: locks are those of open file descriptions.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use tempfile::TempDir;

use super::super::*;
use crate::pool::test_pool;
use crate::{
    Aio, ChildSpec, DriverSpec, FileSpec, FormatKind, FormatSpec, Limits, Locking, NullSpec,
    RawWindow,
};

const SIZE: u64 = 1 << 20;

fn opener(path: &str, flags: i32) -> io::Result<File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

fn has_qemu_img() -> bool {
    Command::new("qemu-img").arg("--version").output().is_ok()
}

fn qemu_img(args: &[&str]) {
    let output = Command::new("qemu-img").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
}

fn image(dir: &TempDir, format: &str, options: &[&str]) -> PathBuf {
    let path = dir.path().join(format!("disk.{format}"));
    let mut args = vec!["create", "-q", "-f", format];
    args.extend_from_slice(options);
    let size = SIZE.to_string();
    args.extend([path.to_str().unwrap(), &size]);
    qemu_img(&args);
    path
}

fn file(path: &Path) -> ChildSpec {
    ChildSpec::Inline(NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Threads,
        locking: Locking::On,
    })))
}

fn raw(path: &Path) -> NodeSpec {
    over(file(path)).named("d")
}

fn over(file: ChildSpec) -> NodeSpec {
    NodeSpec::new(DriverSpec::Raw {
        file: Box::new(file),
        window: RawWindow::default(),
        probed: false,
    })
}

fn format(kind: FormatKind, path: &Path) -> NodeSpec {
    let mut spec = NodeSpec::new(DriverSpec::Format(FormatSpec::new(kind, file(path))));
    spec.read_only = (!kind.is_writable()).then_some(true);
    spec.named("d")
}

/// A program that uses the image.
fn user(spec: NodeSpec) -> Graph {
    let graph = Graph::new(test_pool());
    graph.add(spec, &mut opener).unwrap();
    graph
}

/// A program that waits for it.
fn waiter(spec: NodeSpec) -> Graph {
    let graph = Graph::new(test_pool());
    graph.set_incoming(true);
    graph.add(spec, &mut opener).unwrap();
    graph
}

fn device(graph: &Graph) -> Attachment {
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    graph.attach("d", "/machine/d", options).unwrap()
}

fn node(graph: &Graph) -> Arc<dyn BlockNode> {
    graph.find("d").unwrap()
}

fn write(graph: &Graph, offset: u64, byte: u8) -> io::Result<()> {
    node(graph).write_at(offset, &[byte; 4096])
}

fn byte(graph: &Graph, offset: u64) -> u8 {
    let mut byte = [0; 4096];
    node(graph).read_at(offset, &mut byte).unwrap();
    assert!(byte.iter().all(|other| *other == byte[0]));
    byte[0]
}

fn is_active(graph: &Graph, name: &str) -> bool {
    graph.node(name).unwrap().activity == Activity::Active
}

/// The image goes to and fro, and each side sees what the other wrote.
fn hand_over(spec: NodeSpec, check: impl Fn()) {
    let one = user(spec.clone());
    let other = waiter(spec);
    let (_first, _second) = (device(&one), device(&other));
    assert!(is_active(&one, "d") && !is_active(&other, "d"));
    let denied = write(&other, 0, 1).unwrap_err();
    assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
    other.deactivate(None).unwrap();
    for (turn, at) in (1..5u8).zip([0, 256 << 10, 512 << 10, 0]) {
        let (user, waiter) = match turn % 2 {
            1 => (&one, &other),
            _ => (&other, &one),
        };
        write(user, at, turn).unwrap();
        let refused = waiter.activate(None).unwrap_err();
        assert!(refused.to_string().contains("Failed to get"), "{refused}");
        assert!(refused.hint().unwrap().contains("another process"));
        assert!(
            !waiter
                .nodes()
                .iter()
                .any(|n| n.activity == Activity::Active)
        );
        user.deactivate(None).unwrap();
        check();
        let denied = write(user, at, 99).unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
        node(user).flush().unwrap();
        waiter.activate(None).unwrap();
        assert_eq!(byte(waiter, at), turn);
    }
    assert_eq!((byte(&one, 0), byte(&one, 256 << 10)), (4, 2));
    assert_eq!(byte(&one, 512 << 10), 3);
    drop(one.close());
    drop(other.close());
    check();
}

#[test]
fn a_raw_image_goes_to_and_fro() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    hand_over(raw(&path), || ());
}

#[test]
fn qcow2_goes_to_and_fro() {
    if !has_qemu_img() {
        return;
    }
    for options in [
        &[][..],
        &["-o", "lazy_refcounts=on"],
        &["-o", "extended_l2=on"],
        &["-o", "cluster_size=4096,refcount_bits=1"],
    ] {
        let dir = TempDir::new().unwrap();
        let path = image(&dir, "qcow2", options);
        hand_over(format(FormatKind::Qcow2, &path), || {
            qemu_img(&["check", "-q", "-U", "-f", "qcow2", path.to_str().unwrap()]);
        });
    }
}

#[test]
fn qed_goes_to_and_fro() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "qed", &[]);
    hand_over(format(FormatKind::Qed, &path), || {
        qemu_img(&["check", "-q", "-U", "-f", "qed", path.to_str().unwrap()]);
    });
}

#[test]
fn filters_follow_what_is_below_them() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let top = |name: &str, driver: DriverSpec| NodeSpec::new(driver).named(name);
    let make = |incoming: bool| {
        let graph = Graph::new(test_pool());
        graph.set_incoming(incoming);
        let group = graph.make_throttle_group("t", Limits::default()).unwrap();
        std::mem::forget(group);
        graph.add(raw(&path).named("r"), &mut opener).unwrap();
        let below = |name: &str| Box::new(ChildSpec::Reference(name.to_owned()));
        let debug = DriverSpec::Blkdebug {
            image: below("r"),
            spec: Default::default(),
        };
        let throttle = DriverSpec::Throttle {
            file: below("b"),
            group: "t".to_owned(),
        };
        let copies = DriverSpec::CopyOnRead { file: below("t") };
        for spec in [top("b", debug), top("t", throttle), top("d", copies)] {
            graph.add(spec, &mut opener).unwrap();
        }
        graph
    };
    let (one, other) = (make(false), make(true));
    let (_first, _second) = (device(&one), device(&other));
    write(&one, 0, 7).unwrap();
    one.deactivate(None).unwrap();
    // The image grew meanwhile.
    let longer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    longer.set_len(2 * SIZE).unwrap();
    assert_eq!(node(&other).info().size, SIZE);
    other.activate(None).unwrap();
    assert_eq!(node(&other).info().size, 2 * SIZE);
    assert_eq!(byte(&other, 0), 7);
    write(&other, SIZE, 8).unwrap();
    other.deactivate(None).unwrap();
    one.activate(None).unwrap();
    assert_eq!(byte(&one, SIZE), 8);
}

#[test]
fn images_that_are_only_read_are_read_anew() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("s.img");
    std::fs::write(&source, vec![5; SIZE as usize]).unwrap();
    for kind in [FormatKind::Vmdk, FormatKind::Vpc, FormatKind::Vhdx] {
        let path = dir.path().join(format!("i.{}", kind.name()));
        let (from, to) = (source.to_str().unwrap(), path.to_str().unwrap());
        qemu_img(&["convert", "-f", "raw", "-O", kind.name(), from, to]);
        let graph = waiter(format(kind, &path));
        assert_eq!(byte(&graph, 0), 5, "{kind:?}");
        graph.activate(None).unwrap();
        assert_eq!(byte(&graph, 4096), 5, "{kind:?}");
        graph.deactivate(None).unwrap();
        let own = write(&graph, 0, 1).unwrap_err();
        assert_eq!(own.raw_os_error(), Some(libc::EPERM));
        // Another image in its place is not taken for it.
        std::fs::write(&path, b"nothing of the kind").unwrap();
        assert!(graph.activate(None).is_err(), "{kind:?}");
        assert!(!is_active(&graph, "d"));
    }
}

#[test]
fn null_nodes_are_given_up_too() {
    let graph = user(NodeSpec::new(DriverSpec::Null(NullSpec::default())).named("d"));
    graph.deactivate(Some("d")).unwrap();
    assert!(write(&graph, 0, 1).is_err());
    graph.activate(Some("d")).unwrap();
    write(&graph, 0, 1).unwrap();
    let unknown = graph.activate(Some("e")).unwrap_err().to_string();
    assert_eq!(unknown, "Failed to find node with node-name='e'");
}

#[test]
fn what_is_used_above_stays() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let graph = Graph::new(test_pool());
    let ChildSpec::Inline(below) = file(&path) else {
        return;
    };
    graph.add(below.named("f"), &mut opener).unwrap();
    let reference = || ChildSpec::Reference("f".to_owned());
    for name in ["d", "e"] {
        graph
            .add(over(reference()).named(name), &mut opener)
            .unwrap();
    }
    let refused = graph.deactivate(Some("f")).unwrap_err().to_string();
    assert_eq!(refused, "Node has active parent node");
    graph.deactivate(Some("d")).unwrap();
    assert!(!is_active(&graph, "d") && is_active(&graph, "f"));
    graph.deactivate(Some("e")).unwrap();
    assert!(!is_active(&graph, "f"), "nothing uses it any more");
    let refused = graph.add(over(reference()).named("g"), &mut opener);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Inactive 'f' can't be a file child of active 'g'"
    );
    let mut inactive = over(reference()).named("g");
    inactive.active = Some(false);
    graph.add(inactive, &mut opener).unwrap();
    // Taking one takes what is below.
    graph.activate(Some("g")).unwrap();
    assert!(is_active(&graph, "f") && !is_active(&graph, "d"));
    let refused = graph.resize(None, Some("d"), 1 << 16, &mut opener);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Permission 'resize' unavailable on inactive node"
    );
}

#[test]
fn what_the_program_writes_itself_stays() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let graph = user(raw(&path));
    let reference = || ChildSpec::Reference("d".to_owned());
    let hold = graph
        .hold(reference(), Perms::overwriter(), &mut opener)
        .unwrap();
    let refused = graph.deactivate(None).unwrap_err().to_string();
    assert_eq!(
        refused,
        "Node 'd' is being written and cannot be inactivated"
    );
    drop(hold);
    graph.deactivate(None).unwrap();
    let refused = graph.hold(reference(), Perms::overwriter(), &mut opener);
    assert_eq!(
        refused.err().unwrap().to_string(),
        "Permission 'write, resize' unavailable on inactive node"
    );
}

#[test]
fn locks_of_all_are_given_back_when_one_is_not_to_be_had() {
    let dir = TempDir::new().unwrap();
    let paths: Vec<PathBuf> = (0..3)
        .map(|n| dir.path().join(format!("{n}.img")))
        .collect();
    let graph = Graph::new(test_pool());
    graph.set_incoming(true);
    for (number, path) in paths.iter().enumerate() {
        File::create(path).unwrap().set_len(SIZE).unwrap();
        let spec = raw(path).named(&format!("n{number}"));
        graph.add(spec, &mut opener).unwrap();
        let options = AttachOptions {
            sharing: Sharing::Exclusive,
            read_only: false,
        };
        let device = graph.attach(&format!("n{number}"), "/machine/d", options);
        // The graph keeps the device's permissions.
        std::mem::forget(device.unwrap());
    }
    let free = |path: &Path| {
        let other = user(raw(path));
        let _device = device(&other);
    };
    let other = user(raw(&paths[1]));
    let held = device(&other);
    let refused = graph.activate(None).unwrap_err().to_string();
    let path = paths[1].to_str().unwrap();
    assert!(refused.contains(path), "{refused}");
    assert!(
        refused.ends_with("Failed to get \"write\" lock"),
        "{refused}"
    );
    free(&paths[0]);
    free(&paths[2]);
    drop(held);
    drop(other);
    graph.activate(None).unwrap();
    assert!(graph.nodes().iter().all(|n| n.activity == Activity::Active));
}

#[test]
fn nothing_is_given_up_when_one_cannot_be_written_out() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "qcow2", &["-o", "lazy_refcounts=on"]);
    let config = dir.path().join("faults");
    // What is put off until the image is closed, and not what a flush writes.
    let faults = "[inject-error]\nevent = \"refblock_update_part\"\nonce = \"on\"\n";
    std::fs::write(&config, faults).unwrap();
    let spec = DriverSpec::Blkdebug {
        image: Box::new(file(&path)),
        spec: crate::BlkdebugSpec {
            config: Some(config.to_str().unwrap().to_owned()),
            ..Default::default()
        },
    };
    let debug = ChildSpec::Inline(NodeSpec::new(spec).named("b"));
    let spec = NodeSpec::new(DriverSpec::Format(FormatSpec::new(
        FormatKind::Qcow2,
        debug,
    )));
    let graph = user(spec.named("d"));
    let _device = device(&graph);
    write(&graph, 0, 1).unwrap();
    let refused = graph.deactivate(None).unwrap_err().to_string();
    assert!(
        refused.starts_with("Could not inactivate node 'd'"),
        "{refused}"
    );
    assert!(graph.nodes().iter().all(|n| n.activity == Activity::Active));
    write(&graph, 4096, 2).unwrap();
    assert_eq!((byte(&graph, 0), byte(&graph, 4096)), (1, 2));
    // What failed once does not fail again.
    graph.deactivate(None).unwrap();
    qemu_img(&["check", "-q", "-f", "qcow2", path.to_str().unwrap()]);
}

#[test]
fn devices_hear_of_another_size() {
    struct Watcher(Mutex<u32>);
    impl SizeWatcher for Watcher {
        fn resized(&self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let graph = waiter(raw(&path));
    let device = device(&graph);
    let watcher = Arc::new(Watcher(Mutex::new(0)));
    let weak: std::sync::Weak<dyn SizeWatcher> =
        Arc::downgrade(&(watcher.clone() as Arc<dyn SizeWatcher>));
    device.watch_size(weak);
    graph.activate(None).unwrap();
    graph.deactivate(None).unwrap();
    assert_eq!(*watcher.0.lock().unwrap(), 0);
    let longer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    longer.set_len(2 * SIZE).unwrap();
    graph.activate(None).unwrap();
    assert_eq!(*watcher.0.lock().unwrap(), 1);
    assert_eq!(device.info().size, 2 * SIZE);
}

#[test]
fn nothing_is_written_when_an_image_is_opened_for_later() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    for (kind, options) in [
        (FormatKind::Qcow2, &["-o", "lazy_refcounts=on"][..]),
        (FormatKind::Qed, &[]),
    ] {
        let path = image(&dir, kind.name(), options);
        // Somebody has it and did not close it.
        let user = user(format(kind, &path));
        write(&user, 0, 3).unwrap();
        node(&user).flush().unwrap();
        let before = std::fs::read(&path).unwrap();
        let graph = waiter(format(kind, &path));
        let dirty = graph.node("d").unwrap().image.unwrap().dirty;
        assert!(dirty, "{kind:?}");
        assert_eq!(byte(&graph, 0), 3);
        drop(graph.close());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        drop(user.close());
    }
}

#[test]
fn an_image_that_is_being_changed_can_wait() {
    if !has_qemu_img() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "qcow2", &[]);
    let whole = std::fs::read(&path).unwrap();
    // The table that the header names is not there yet.
    let mut torn = whole.clone();
    torn[40..48].copy_from_slice(&(1u64 << 30).to_be_bytes());
    std::fs::write(&path, &torn).unwrap();
    let graph = waiter(format(FormatKind::Qcow2, &path));
    assert_eq!(node(&graph).info().size, SIZE);
    let mut bytes = [0; 512];
    assert!(node(&graph).read_at(0, &mut bytes).is_err());
    assert!(graph.activate(None).is_err());
    std::fs::write(&path, &whole).unwrap();
    graph.activate(None).unwrap();
    write(&graph, 0, 1).unwrap();
    assert_eq!(byte(&graph, 0), 1);
}

#[test]
fn other_options_for_what_is_inactive() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let named = |read_only: bool| {
        let ChildSpec::Inline(mut below) = file(&path) else {
            panic!("it is made here");
        };
        below.read_only = Some(read_only);
        below.named("f")
    };
    let graph = waiter(named(false));
    let reference = ChildSpec::Reference("f".to_owned());
    graph.add(over(reference).named("d"), &mut opener).unwrap();
    let _device = device(&graph);
    let other = user(raw(&path));
    let held = device(&other);
    // Neither is locked, nor does it become so.
    let mut uncached = named(false);
    uncached.no_flush = Some(true);
    let specs = vec![uncached];
    let reopened = graph.change(&["f"], &mut opener, |changes| changes.reopen(specs));
    reopened.unwrap();
    assert!(!is_active(&graph, "f") && !is_active(&graph, "d"));
    assert!(write(&graph, 0, 1).is_err());
    assert!(graph.activate(None).is_err());
    drop(held);
    drop(other);
    graph.activate(None).unwrap();
    write(&graph, 0, 1).unwrap();
    let refused = user_of(&path).err().unwrap().to_string();
    assert!(refused.contains("Failed to get"), "{refused}");
}

/// A device of another program on a raw image.
fn user_of(path: &Path) -> Result<Attachment, BlockError> {
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    user(raw(path)).attach("d", "/machine/d", options)
}

#[test]
fn what_the_program_makes_for_itself_is_in_use_at_once() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("d.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    let graph = Graph::new(test_pool());
    graph.set_incoming(true);
    let used = graph.hold(file(&path), Perms::overwriter(), &mut opener);
    let used = used.unwrap();
    used.node().write_at(0, &[1; 512]).unwrap();
    drop(used);
    let kept = graph.hold(file(&path), Perms::NONE, &mut opener).unwrap();
    assert!(kept.node().write_at(0, &[1; 512]).is_err());
}
