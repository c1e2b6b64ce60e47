use super::*;
use crate::pool::test_pool;
use crate::{
    Aio, Buffers, FileSpec, HostBuffer, IoReq, Locking, NullSpec, Op, RawWindow, Token, Waker,
};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use tempfile::TempDir;

fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

fn graph() -> Graph {
    Graph::new(test_pool())
}

fn null(name: &str) -> NodeSpec {
    NodeSpec::new(DriverSpec::Null(NullSpec::default())).named(name)
}

fn file(path: &std::path::Path) -> NodeSpec {
    NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Threads,
        locking: Locking::Auto,
    }))
}

fn raw(child: ChildSpec) -> NodeSpec {
    NodeSpec::new(DriverSpec::Raw {
        file: Box::new(child),
        window: RawWindow::default(),
        probed: false,
    })
}

fn over(name: &str) -> NodeSpec {
    raw(ChildSpec::Reference(name.to_owned()))
}

fn add(graph: &Graph, spec: NodeSpec) -> Result<(), String> {
    graph
        .add(spec, &mut opener)
        .map_err(|error| error.to_string())
}

fn attach(graph: &Graph, drive: &str, device: &str) -> Result<Attachment, String> {
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    let path = format!("/machine/peripheral/{device}/virtio-backend");
    graph
        .attach(drive, &path, options)
        .map_err(|error| error.to_string())
}

fn image(dir: &TempDir, name: &str) -> std::path::PathBuf {
    let path = dir.path().join(name);
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    path
}

#[test]
fn names_are_checked() {
    let graph = graph();
    add(&graph, null("a")).unwrap();
    for (spec, message) in [
        (null("a"), "Duplicate nodes with node-name='a'"),
        (null(&"x".repeat(32)), "Node name too long"),
        (null("1x"), "Invalid node-name: '1x'"),
        (null(""), "Invalid node-name: ''"),
        (
            over("nope").named("b"),
            "Cannot find device='nope' nor node-name='nope'",
        ),
        (over(""), "'node-name' must be specified for the root node"),
        (
            over("").named("b"),
            "Cannot find device='' nor node-name=''",
        ),
        (
            raw(ChildSpec::Inline(null("same"))).named("same"),
            "Duplicate nodes with node-name='same'",
        ),
    ] {
        assert_eq!(add(&graph, spec).unwrap_err(), message);
    }
    assert_eq!(graph.nodes().len(), 1, "nothing is left of refused nodes");
    let error = graph.del("b").unwrap_err().to_string();
    assert_eq!(error, "Failed to find node with node-name='b'");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "a.img");
    let graph = graph();
    let mut native = file(&path).named("n");
    native.driver = DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Native,
        locking: Locking::Auto,
    });
    let mut shared = file(&path).named("n");
    shared.force_share = Some(true);
    let mut zeroes = null("n");
    zeroes.detect_zeroes = crate::DetectZeroes::Unmap;
    let missing = dir.path().join("nope");
    let window = |offset, size| {
        let file = Box::new(ChildSpec::Inline(file(&path)));
        let window = RawWindow { offset, size };
        NodeSpec::new(DriverSpec::Raw {
            file,
            window,
            probed: false,
        })
        .named("n")
    };
    let device = NodeSpec::new(match file(&path).driver {
        DriverSpec::File(spec) => DriverSpec::HostDevice(spec),
        other => other,
    });
    let text = path.to_str().unwrap();
    for (spec, message) in [
        (
            native,
            "aio=native was specified, but it requires cache.direct=on, which was not specified."
                .to_owned(),
        ),
        (
            shared,
            "force-share=on can only be used with read-only images".to_owned(),
        ),
        (
            zeroes,
            "setting detect-zeroes to unmap is not allowed without setting discard operation to \
             unmap"
                .to_owned(),
        ),
        (
            file(&missing).named("n"),
            format!(
                "Could not open '{}': No such file or directory",
                missing.display()
            ),
        ),
        (
            file(dir.path()).named("n"),
            format!("Could not open '{}': Is a directory", dir.path().display()),
        ),
        (
            file("/dev/null".as_ref()).named("n"),
            "'file' driver requires '/dev/null' to be a regular file".to_owned(),
        ),
        (
            device.named("n"),
            format!(
                "'host_device' driver requires '{text}' to be either a character or block device"
            ),
        ),
        (
            window(512, Some(100)),
            "Specified size is not multiple of 512".to_owned(),
        ),
        (
            window(2 << 20, None),
            "Offset (2097152) cannot be greater than size of the containing file (1048576)"
                .to_owned(),
        ),
        (
            window(512, Some(1 << 20)),
            "The sum of offset (512) and size (1048576) has to be smaller or equal to the  actual \
             size of the containing file (1048576)"
                .to_owned(),
        ),
    ] {
        assert_eq!(add(&graph, spec).unwrap_err(), message);
    }
    assert!(graph.nodes().is_empty());
}

#[test]
fn nodes_live_as_long_as_they_are_held() {
    let dir = TempDir::new().unwrap();
    let graph = graph();
    let inline = file(&image(&dir, "a.img"));
    add(&graph, raw(ChildSpec::Inline(inline)).named("top")).unwrap();
    add(&graph, over("top").named("above")).unwrap();
    let inner = graph.nodes()[0].name.clone();
    assert!(inner.starts_with("#block"), "{inner}");
    let refused = |name: &str| graph.del(name).unwrap_err().to_string();
    assert_eq!(refused("top"), "Block device top is in use");
    assert_eq!(
        refused(&inner),
        format!("Node {inner} is not owned by the monitor")
    );
    let device = attach(&graph, "above", "d0").unwrap();
    assert_eq!(refused("above"), "Node above is in use");
    drop(device);
    graph.del("above").unwrap();
    assert_eq!(graph.nodes().len(), 2);
    graph.del("top").unwrap();
    assert!(graph.nodes().is_empty());
}

#[test]
fn writers_are_exclusive_unless_they_share() {
    let graph = graph();
    add(&graph, null("n0")).unwrap();
    add(&graph, over("n0").named("r2")).unwrap();
    let device = attach(&graph, "r2", "d0").unwrap();
    assert_eq!(
        attach(&graph, "r2", "d1").err().unwrap(),
        "Permission conflict on node 'r2': permissions 'write' are both required by block device \
         '/machine/peripheral/d0/virtio-backend' (uses node 'r2' as 'root' child) and unshared by \
         block device '/machine/peripheral/d1/virtio-backend' (uses node 'r2' as 'root' child)."
    );
    assert_eq!(
        attach(&graph, "n0", "d1").err().unwrap(),
        "Permission conflict on node 'n0': permissions 'write' are both required by node 'r2' \
         (uses node 'n0' as 'file' child) and unshared by block device \
         '/machine/peripheral/d1/virtio-backend' (uses node 'n0' as 'root' child)."
    );
    assert_eq!(
        graph.backends().len(),
        1,
        "nothing is left of refused devices"
    );
    drop(device);
    let both = AttachOptions {
        sharing: Sharing::Writers,
        read_only: false,
    };
    let one = graph.attach("r2", "a", both).unwrap();
    let two = graph.attach("n0", "b", both).unwrap();
    assert!(attach(&graph, "n0", "c").is_err());
    assert_eq!(graph.written().len(), 2);
    drop((one, two));
    assert!(graph.written().is_empty());
    attach(&graph, "n0", "c").unwrap();
}

#[test]
fn what_cannot_be_written_is_only_read() {
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "a.img");
    let graph = graph();
    let mut spec = file(&path).named("ro");
    spec.read_only = Some(true);
    add(&graph, spec).unwrap();
    add(&graph, over("ro").named("top")).unwrap();
    assert_eq!(
        attach(&graph, "top", "d").err().unwrap(),
        "Block node is read-only"
    );
    let device = attach(&graph, "ro", "d").unwrap();
    assert!(device.is_read_only());
    let mut falls_back = over("ro").named("auto");
    falls_back.auto_read_only = Some(true);
    add(&graph, falls_back).unwrap();
    assert!(attach(&graph, "auto", "e").unwrap().is_read_only());
}

#[test]
fn drives_go_with_their_devices() {
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "a.img");
    let graph = graph();
    let options = DriveOptions {
        write_cache: WriteCache::Through,
    };
    let drive = |name: &str, spec: Option<NodeSpec>| {
        let made = graph.add_drive(name, spec, options, &mut opener);
        made.map_err(|error| error.to_string())
    };
    drive("disk", Some(raw(ChildSpec::Inline(file(&path))))).unwrap();
    drive("empty", None).unwrap();
    assert_eq!(
        drive("disk", None).unwrap_err(),
        "Duplicate ID 'disk' for drive"
    );
    add(&graph, null("node")).unwrap();
    let error = drive("node", None).unwrap_err();
    assert_eq!(
        error,
        "Device name 'node' conflicts with an existing node name"
    );
    let error = add(&graph, null("disk")).unwrap_err();
    assert_eq!(error, "node-name=disk is conflicting with a device id");

    let error = attach(&graph, "empty", "d").err().unwrap();
    assert_eq!(error, "Device needs media, but drive is empty");
    let error = attach(&graph, "nope", "d").err().unwrap();
    assert_eq!(
        error,
        "Property 'virtio-blk-device.drive' can't find value 'nope'"
    );
    let device = attach(&graph, "disk", "d").unwrap();
    assert_eq!(device.write_cache(), WriteCache::Through);
    let error = attach(&graph, "disk", "e").err().unwrap();
    assert_eq!(error, "Drive 'disk' is already in use by another device");
    assert_eq!(graph.nodes().len(), 3);
    drop(device);
    assert_eq!(graph.nodes().len(), 1);
    graph.del_drive("empty").unwrap();
    assert!(graph.backends().is_empty());
}

#[test]
fn a_refused_drive_stays_free() {
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "a.img");
    let graph = graph();
    let options = DriveOptions {
        write_cache: WriteCache::Back,
    };
    for name in ["one", "two"] {
        let spec = Some(raw(ChildSpec::Inline(file(&path))));
        graph.add_drive(name, spec, options, &mut opener).unwrap();
    }
    let first = attach(&graph, "one", "d").unwrap();
    let error = attach(&graph, "two", "e").err().unwrap();
    assert_eq!(error, "Failed to get \"write\" lock");
    drop(first);
    attach(&graph, "two", "e").unwrap();
}

#[test]
fn force_share_holds_for_nodes_above() {
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "a.img");
    let graph = graph();
    add(&graph, file(&path).named("writer")).unwrap();
    let _writer = attach(&graph, "writer", "w").unwrap();
    let mut spec = raw(ChildSpec::Inline(file(&path))).named("reader");
    spec.read_only = Some(true);
    spec.force_share = Some(true);
    add(&graph, spec).unwrap();
    attach(&graph, "reader", "r").unwrap();
}

#[test]
fn names_by_content_are_paths_or_json() {
    let dir = TempDir::new().unwrap();
    let path = image(&dir, "a.img");
    let graph = graph();
    add(&graph, file(&path).named("f")).unwrap();
    add(&graph, over("f").named("r")).unwrap();
    let window = RawWindow {
        offset: 1000,
        size: Some(512),
    };
    let file = Box::new(ChildSpec::Reference("f".into()));
    add(
        &graph,
        NodeSpec::new(DriverSpec::Raw {
            file,
            window,
            probed: false,
        })
        .named("w"),
    )
    .unwrap();
    let name = |node: &str| graph.node(node).unwrap().filename;
    let text = path.to_str().unwrap();
    assert_eq!(name("r"), text);
    assert_eq!(
        name("w"),
        format!(
            "json:{{\"offset\": 1000, \"driver\": \"raw\", \"size\": 512, \"file\": \
             {{\"driver\": \"file\", \"filename\": \"{text}\"}}}}"
        )
    );
    assert_eq!(
        graph.node("r").unwrap().children,
        [(Role::Filtered, "f".to_owned())]
    );
}

#[test]
#[allow(clippy::disallowed_methods)] // The size of the stack counts here.
fn nodes_are_above_each_other_to_a_depth_and_no_further() {
    let graph = graph();
    let chain = |levels: usize| {
        let bottom = NodeSpec::new(DriverSpec::Null(NullSpec::default()));
        (0..levels).fold(bottom, |below, _| raw(ChildSpec::Inline(below)))
    };
    let text = |most| format!("More than {most} nodes above each other");
    assert_eq!(add(&graph, chain(100).named("a")).unwrap_err(), text(100));
    assert!(graph.nodes().is_empty());
    add(&graph, chain(99).named("n99")).unwrap();
    for number in 100..200 {
        let below = format!("n{}", number - 1);
        add(&graph, over(&below).named(&format!("n{number}"))).unwrap();
    }
    assert_eq!(add(&graph, over("n199").named("b")).unwrap_err(), text(200));
    assert_eq!(graph.nodes().len(), 200);
    // With as much stack as the threads have that serve requests.
    let attached = attach(&graph, "n199", "d").unwrap();
    let reads = move || {
        let waker = Waker::new().unwrap();
        let mut lane = attached.open_lane(1, &waker).unwrap();
        let buffers = Buffers::owned(Arc::new(HostBuffer::new(512, 512)));
        let request = IoReq::new(Op::Read { offset: 0 }, buffers);
        let mut done: Vec<_> = lane.submit(request, Token(1)).into_iter().collect();
        while done.is_empty() {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
        }
        assert!(done.pop().unwrap().result.is_ok());
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(reads).unwrap().join().unwrap();
    let node = graph.find("n199").unwrap();
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let waits = thread.spawn(move || node.read_at(0, &mut [0; 512]).unwrap());
    waits.unwrap().join().unwrap();
}

#[test]
fn pipes_keep_nobody_waiting() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let name = path.to_str().unwrap();
    let pipe = |driver: DriverSpec| NodeSpec {
        read_only: Some(true),
        ..NodeSpec::new(driver).named("p")
    };
    let spec = FileSpec {
        filename: name.to_owned(),
        aio: Aio::Threads,
        locking: Locking::Auto,
    };
    assert_eq!(
        add(&graph(), pipe(DriverSpec::File(spec.clone()))).unwrap_err(),
        format!("'file' driver requires '{name}' to be a regular file")
    );
    assert!(add(&graph(), pipe(DriverSpec::HostDevice(spec))).is_err());
}

#[test]
fn nodes_below_overlays_are_busy() {
    let dir = TempDir::new().unwrap();
    let graph = graph();
    add(&graph, null("base")).unwrap();
    add(&graph, file(&image(&dir, "i")).named("f")).unwrap();
    let node = graph.find("f").unwrap();
    let options = crate::Qcow2Create {
        size: 1 << 20,
        ..crate::Qcow2Create::default()
    };
    crate::create_qcow2(&*node, &options).unwrap();
    drop(node);
    let mut format = FormatSpec::new(FormatKind::Qcow2, ChildSpec::Reference("f".to_owned()));
    let below = Box::new(ChildSpec::Reference("base".to_owned()));
    format.backing = Some(BackingSpec::Node(below));
    add(
        &graph,
        NodeSpec::new(DriverSpec::Format(format)).named("top"),
    )
    .unwrap();
    assert_eq!(
        graph.del("base").unwrap_err().to_string(),
        "Node 'base' is busy: node is used as backing hd of 'top'"
    );
    drop(graph.del("top").unwrap());
    drop(graph.del("base").unwrap());
}
