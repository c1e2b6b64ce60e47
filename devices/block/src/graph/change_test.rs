use super::*;
use crate::format::fake;
use crate::graph::{AttachOptions, Attachment, ChildSpec, FormatKind, FormatSpec, Sharing};
use crate::pool::test_pool;
use crate::{Aio, Buffers, Durability, FileSpec, HostBuffer, IoReq, Locking, NullSpec, Op};
use crate::{Done, RawWindow, Token, Waker};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

fn opener(path: &str, flags: i32) -> io::Result<File> {
    let write = flags & libc::O_ACCMODE == libc::O_RDWR;
    OpenOptions::new().read(true).write(write).open(path)
}

fn file(path: &Path) -> NodeSpec {
    NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Threads,
        locking: Locking::On,
    }))
}

fn format(path: &Path) -> NodeSpec {
    let file = ChildSpec::Inline(file(path));
    NodeSpec::new(DriverSpec::Format(FormatSpec::new(FormatKind::Qcow2, file)))
}

fn raw(below: &str) -> NodeSpec {
    NodeSpec::new(DriverSpec::Raw {
        file: Box::new(ChildSpec::Reference(below.to_owned())),
        window: RawWindow::default(),
        probed: false,
    })
}

fn null(name: &str) -> NodeSpec {
    NodeSpec::new(DriverSpec::Null(NullSpec::default())).named(name)
}

struct Fixture {
    dir: TempDir,
    graph: Graph,
}

impl Fixture {
    fn new() -> Self {
        Fixture {
            dir: TempDir::new().unwrap(),
            graph: Graph::new(test_pool()),
        }
    }

    fn image(&self, name: &str, backing: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, fake::image(backing)).unwrap();
        path
    }

    fn plain(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, vec![0; fake::SIZE as usize]).unwrap();
        path
    }

    fn add(&self, spec: NodeSpec) {
        self.graph.add(spec, &mut opener).unwrap();
    }

    fn attach(&self, node: &str) -> Attachment {
        let options = AttachOptions {
            sharing: Sharing::Exclusive,
            read_only: false,
        };
        let device = format!("/machine/peripheral/{node}");
        self.graph.attach(node, &device, options).unwrap()
    }

    fn change<T>(
        &self,
        act: impl FnOnce(&mut Changes<'_>) -> Result<T, BlockError>,
    ) -> Result<T, String> {
        let changed = self.graph.change(&[], &mut opener, act);
        changed.map_err(|error| error.to_string())
    }

    fn reopen(&self, spec: NodeSpec) -> Result<(), String> {
        self.change(|changes| changes.reopen(vec![spec]))
    }

    fn children(&self, node: &str) -> Vec<(Role, String)> {
        self.graph.node(node).unwrap().children
    }

    fn read_only(&self, node: &str) -> bool {
        self.graph.find(node).unwrap().info().read_only
    }
}

fn state(path: &Path) -> u8 {
    std::fs::read(path).unwrap()[fake::STATE as usize]
}

/// A device's lane.
struct Lane(Box<dyn crate::IoLane>, Waker);

impl Lane {
    fn open(attachment: &Attachment) -> Self {
        let waker = Waker::new().unwrap();
        Lane(attachment.open_lane(4, &waker).unwrap(), waker)
    }

    fn run(&mut self, op: Op, buffers: Buffers) -> io::Result<()> {
        let mut done: Vec<Done> = Vec::new();
        done.extend(self.0.submit(IoReq::new(op, buffers), Token(0)));
        self.0.start();
        while done.is_empty() {
            self.1.wait();
            self.1.clear();
            self.0.reap(&mut done);
        }
        done.pop().unwrap().result
    }

    fn write(&mut self, offset: u64, byte: u8) -> io::Result<()> {
        let buffers = Buffers::owned(HostBuffer::from_bytes(&[byte; 4096], 4096));
        let durability = Durability::Cached;
        self.run(Op::Write { offset, durability }, buffers)
    }
}

fn byte_at(graph: &Graph, node: &str, offset: u64) -> u8 {
    let mut byte = [0];
    graph
        .find(node)
        .unwrap()
        .read_at(offset, &mut byte)
        .unwrap();
    byte[0]
}

#[test]
fn options_of_a_file_change_under_its_device() {
    let f = Fixture::new();
    let path = f.plain("a.img");
    f.add(file(&path).named("f"));
    f.add(raw("f").named("r"));
    let attachment = f.attach("r");
    let mut lane = Lane::open(&attachment);
    lane.write(0, 1).unwrap();
    let mut other = file(&path).named("f");
    other.no_flush = Some(true);
    other.detect_zeroes = crate::DetectZeroes::On;
    f.reopen(other.clone()).unwrap();
    lane.write(4096, 2).unwrap();
    assert_eq!(byte_at(&f.graph, "r", 0), 1);
    assert_eq!(byte_at(&f.graph, "r", 4096), 2);
    assert_eq!(f.graph.node("f").unwrap().spec.no_flush, Some(true));
    // The lock was handed on: nobody else may write still.
    let others = Graph::new(test_pool());
    others.add(file(&path).named("f"), &mut opener).unwrap();
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    let error = others.attach("f", "/d", options).err().unwrap();
    assert_eq!(error.to_string(), "Failed to get \"write\" lock");
    other.read_only = Some(true);
    assert_eq!(
        f.reopen(other.clone()).unwrap_err(),
        "Read-only block node 'f' cannot support read-write users"
    );
    lane.write(0, 3).unwrap();
    assert_eq!(byte_at(&f.graph, "f", 0), 3);
    drop(lane);
    drop(attachment);
    f.reopen(other).unwrap();
    assert!(f.read_only("f"));
    f.reopen(file(&path).named("f")).unwrap();
    assert!(!f.read_only("f"));
}

#[test]
fn a_device_that_only_reads_does_not_begin_to_write() {
    let f = Fixture::new();
    let mut read_only = null("n");
    read_only.read_only = Some(true);
    f.add(read_only);
    let attachment = f.attach("n");
    assert!(attachment.is_read_only());
    f.reopen(null("n")).unwrap();
    assert!(!f.read_only("n"));
    assert!(attachment.is_read_only(), "it holds no permission to write");
}

#[test]
fn what_cannot_change_is_refused() {
    let f = Fixture::new();
    let path = f.plain("a.img");
    let other = f.plain("b.img");
    f.add(file(&path).named("f"));
    f.add(raw("f").named("r"));
    f.add(null("n"));
    let mut shared = file(&path).named("f");
    shared.force_share = Some(true);
    let mut unlocked = file(&path).named("f");
    if let DriverSpec::File(spec) = &mut unlocked.driver {
        spec.locking = Locking::Off;
    }
    let mut zeroes = file(&path).named("f");
    zeroes.detect_zeroes = crate::DetectZeroes::Unmap;
    let inline = NodeSpec::new(DriverSpec::Raw {
        file: Box::new(ChildSpec::Inline(file(&path))),
        window: RawWindow::default(),
        probed: false,
    });
    for (spec, message) in [
        (
            file(&other).named("f"),
            "Cannot change the option 'filename'",
        ),
        (unlocked, "Cannot change the option 'locking'"),
        (shared, "Cannot change the option 'force-share'"),
        (null("f"), "Cannot change the option 'driver'"),
        (
            zeroes,
            "setting detect-zeroes to unmap is not allowed without setting discard operation to \
             unmap",
        ),
        (null("q"), "Failed to find node with node-name='q'"),
        (file(&path), "node-name not specified"),
        (
            raw("r").named("r"),
            "Making 'r' a file child of 'r' would create a cycle",
        ),
        (
            raw("z").named("r"),
            "Cannot find device='' nor node-name='z'",
        ),
        (inline.named("r"), "Cannot change the option 'file.driver'"),
    ] {
        assert_eq!(f.reopen(spec).unwrap_err(), message);
    }
    assert_eq!(f.children("r"), [(Role::Filtered, "f".to_owned())]);
}

#[test]
fn several_nodes_change_together_or_not_at_all() {
    let f = Fixture::new();
    f.add(null("n"));
    f.add(null("m"));
    f.add(raw("n").named("r"));
    let mut read_only = null("m");
    read_only.read_only = Some(true);
    let both = |last: NodeSpec| {
        let specs = vec![raw("m").named("r"), read_only.clone(), last];
        f.change(|changes| changes.reopen(specs))
    };
    assert!(both(raw("r").named("q")).is_err());
    assert_eq!(f.children("r"), [(Role::Filtered, "n".to_owned())]);
    assert!(!f.read_only("m"));
    both(null("n")).unwrap();
    assert_eq!(f.children("r"), [(Role::Filtered, "m".to_owned())]);
    assert!(f.read_only("m"));
    // Undone from behind.
    let failed: Result<(), String> = f.change(|changes| {
        changes.reopen(vec![raw("n").named("r"), null("m")])?;
        changes.replace("n", "m")?;
        Err(BlockError::Empty)
    });
    assert!(failed.is_err());
    assert_eq!(f.children("r"), [(Role::Filtered, "m".to_owned())]);
    assert!(f.read_only("m"));
}

#[test]
fn users_are_led_to_another_node() {
    let f = Fixture::new();
    f.add(null("n"));
    f.add(null("m"));
    f.add(raw("n").named("r"));
    let attachment = f.attach("r");
    let mut lane = Lane::open(&attachment);
    f.change(|changes| changes.replace("r", "m")).unwrap();
    lane.write(0, 1).unwrap();
    assert_eq!(f.graph.backends()[0].root.as_ref().unwrap().name, "m");
    // A filter put in: its own edge stays.
    f.add(raw("m").named("over"));
    f.change(|changes| changes.replace("m", "over")).unwrap();
    assert_eq!(f.graph.backends()[0].root.as_ref().unwrap().name, "over");
    assert_eq!(f.children("over"), [(Role::Filtered, "m".to_owned())]);
    let error = f.change(|changes| changes.replace("m", "z")).unwrap_err();
    assert_eq!(error, "Cannot find device='' nor node-name='z'");
    lane.write(0, 1).unwrap();
}

#[test]
fn an_overlay_takes_the_writes() {
    let f = Fixture::new();
    let (base, over) = (f.image("base", ""), f.image("over", "base"));
    f.add(format(&base).named("b"));
    f.add(without_backing(format(&over)).named("o"));
    let attachment = f.attach("b");
    let mut lane = Lane::open(&attachment);
    lane.write(0, 1).unwrap();
    assert_eq!(state(&base), b'D');
    f.change(|changes| changes.snapshot("b", "o")).unwrap();
    assert_eq!(state(&base), b'C', "it is closed for writing");
    assert!(f.read_only("b"));
    lane.write(4096, 2).unwrap();
    assert_eq!(
        (byte_at(&f.graph, "o", 0), byte_at(&f.graph, "o", 4096)),
        (1, 2)
    );
    assert_eq!(
        (byte_at(&f.graph, "b", 0), byte_at(&f.graph, "b", 4096)),
        (1, 0)
    );
    assert_eq!(f.graph.backends()[0].root.as_ref().unwrap().name, "o");
    for (node, overlay, message) in [
        (
            "b",
            "o",
            "Node 'b' is busy: node is used as backing hd of 'o'",
        ),
        ("z", "o", "Cannot find device='z' nor node-name='z'"),
        ("o", "z", "Cannot find device='z' nor node-name='z'"),
        ("o", "o", "The overlay is already in use"),
    ] {
        let refused = f.change(|changes| changes.snapshot(node, overlay));
        assert_eq!(refused.unwrap_err(), message);
    }
    f.add(null("n"));
    let refused = f.change(|changes| changes.snapshot("o", "n")).unwrap_err();
    assert_eq!(refused, "The overlay does not support backing images");
    drop(lane);
    drop(attachment);
    drop(f.graph.del("o").unwrap());
    assert_eq!(state(&over), b'C');
}

#[test]
fn a_refused_snapshot_leaves_all_as_it_was() {
    let f = Fixture::new();
    let (base, over) = (f.image("base", ""), f.image("over", ""));
    f.add(format(&base).named("b"));
    let attachment = f.attach("b");
    let mut lane = Lane::open(&attachment);
    let mut spec = without_backing(format(&over));
    spec.read_only = Some(true);
    let refused: Result<(), String> = f.change(|changes| {
        let name = changes.open(spec)?;
        changes.snapshot("b", &name)
    });
    assert_eq!(refused.unwrap_err(), "Block node is read-only");
    assert!(!f.read_only("b"));
    assert_eq!(state(&base), b'D');
    lane.write(0, 1).unwrap();
    assert_eq!(f.graph.nodes().len(), 2, "the overlay is gone");
    assert_eq!(byte_at(&f.graph, "b", 0), 1);
}

#[test]
fn backing_files_are_put_in_and_taken_out() {
    let f = Fixture::new();
    let (base, over) = (f.plain("base"), f.image("over", "base"));
    f.add(file(&base).named("b"));
    f.add(without_backing(format(&over)).named("o"));
    f.change(|changes| changes.set_backing("o", Some("b")))
        .unwrap();
    assert_eq!(f.children("o")[1], (Role::Backing, "b".to_owned()));
    let without = |backing: Option<BackingSpec>| {
        let mut spec = format(&over).named("o");
        if let DriverSpec::Format(format) = &mut spec.driver {
            format.backing = backing;
        }
        f.reopen(spec)
    };
    assert_eq!(without(None).unwrap_err(), "backing is missing for 'o'");
    let node = |name: &str| Box::new(ChildSpec::Reference(name.to_owned()));
    assert_eq!(
        without(Some(BackingSpec::Node(node("o")))).unwrap_err(),
        "Making 'o' a backing child of 'o' would create a cycle"
    );
    without(Some(BackingSpec::Nothing)).unwrap();
    assert_eq!(f.children("o").len(), 1);
    without(Some(BackingSpec::Node(node("b")))).unwrap();
    let renamed = f.change(|changes| changes.rename_backing("o", "o", "other"));
    renamed.unwrap();
    let view = f.graph.find("o").unwrap().image().unwrap().view();
    assert_eq!(view.backing_file.as_deref(), Some("other"));
    for (device, image, message) in [
        ("z", "o", "Cannot find device='z' nor node-name='z'"),
        ("o", "z", "Cannot find device='' nor node-name='z'"),
        ("b", "o", "Need a root block node"),
        (
            "o",
            "b",
            "not allowing backing file change on an image without a backing file",
        ),
    ] {
        let refused = f.change(|changes| changes.rename_backing(device, image, "x"));
        assert_eq!(refused.unwrap_err(), message);
    }
}

#[test]
fn an_image_and_its_file_become_read_only_together() {
    let f = Fixture::new();
    let path = f.image("a", "");
    f.add(format(&path).named("a"));
    let file = f.children("a")[0].1.clone();
    let mut spec = format(&path).named("a");
    spec.read_only = Some(true);
    f.reopen(spec).unwrap();
    assert!(f.read_only("a") && f.read_only(&file));
    assert_eq!(state(&path), b'C');
    f.reopen(format(&path).named("a")).unwrap();
    assert!(!f.read_only("a") && !f.read_only(&file));
    assert_eq!(state(&path), b'D');
}

#[test]
fn snapshots_in_images() {
    let f = Fixture::new();
    let path = f.image("a", "");
    f.add(format(&path).named("a"));
    f.add(null("n"));
    let view = |name: &str| SnapshotView {
        name: name.to_owned(),
        ..SnapshotView::default()
    };
    f.change(|changes| changes.take_snapshot("a", &view("s")))
        .unwrap();
    for (device, name, message) in [
        (
            "a",
            "s",
            "Snapshot with name 's' already exists on device 'a'",
        ),
        ("a", "", "Name is empty"),
        ("z", "s", "Cannot find device='z' nor node-name='z'"),
        (
            "n",
            "s",
            "Block format 'null-co' used by device 'n' does not support internal snapshots",
        ),
    ] {
        let refused = f.change(|changes| changes.take_snapshot(device, &view(name)));
        assert_eq!(refused.unwrap_err(), message);
    }
    let undone: Result<(), String> = f.change(|changes| {
        changes.take_snapshot("a", &view("t"))?;
        Err(BlockError::Empty)
    });
    assert!(undone.is_err());
    let list = || {
        f.graph
            .find("a")
            .unwrap()
            .image()
            .unwrap()
            .snapshots()
            .unwrap()
            .list()
    };
    assert_eq!(list().len(), 1);
    let delete = |id: Option<&str>, name: Option<&str>| {
        f.change(|changes| changes.delete_snapshot("a", id, name))
    };
    assert_eq!(
        delete(None, None).unwrap_err(),
        "Name or id must be provided"
    );
    assert_eq!(
        delete(Some("9"), None).unwrap_err(),
        "Snapshot with id '9' and name 'null' does not exist on device 'a'"
    );
    assert_eq!(delete(Some("1"), Some("s")).unwrap().name, "s");
    assert!(list().is_empty());
}

#[test]
fn sizes_reach_the_device() {
    let f = Fixture::new();
    let path = f.plain("a.img");
    f.add(file(&path).named("f"));
    f.add(raw("f").named("r"));
    let attachment = f.attach("r");
    #[derive(Default)]
    struct Guest(AtomicUsize);
    impl SizeWatcher for Guest {
        fn resized(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let guest = Arc::new(Guest::default());
    let watcher: Arc<dyn SizeWatcher> = guest.clone();
    attachment.watch_size(Arc::downgrade(&watcher));
    let either = |device: Option<&str>, node: Option<&str>, size| {
        let resized = f.graph.resize(device, node, size, &mut opener);
        resized.map_err(|error| error.to_string())
    };
    let resize = |node: &str, size: i64| either(None, Some(node), size);
    resize("f", 1 << 20).unwrap();
    assert_eq!(attachment.info().size, 1 << 20);
    resize("r", 1 << 19).unwrap();
    assert_eq!(attachment.info().size, 1 << 19);
    assert_eq!(guest.0.load(Ordering::Relaxed), 2);
    let mut lane = Lane::open(&attachment);
    resize("f", 1 << 20).unwrap();
    lane.write((1 << 20) - 4096, 7).unwrap();
    for (device, node, size, message) in [
        (None, None, 1, "Cannot find device='' nor node-name=''"),
        (
            Some("z"),
            None,
            1,
            "Cannot find device='z' nor node-name=''",
        ),
        (None, Some("r"), -1, "Parameter 'size' expects a >0 size"),
    ] {
        assert_eq!(either(device, node, size).unwrap_err(), message);
    }
    let mut fixed = null("n");
    fixed.read_only = Some(true);
    f.add(fixed);
    assert_eq!(resize("n", 512).unwrap_err(), "Image is read-only");
    let image = f.image("i", "");
    f.add(format(&image).named("i"));
    let inner = f.children("i")[0].1.clone();
    let refused = resize(&inner, 512).unwrap_err();
    assert!(
        refused.contains("permissions 'resize' are both required"),
        "{refused}"
    );
    assert!(
        resize("i", 512)
            .unwrap_err()
            .contains("does not support resize")
    );
}

/// A device that writes and reads back all the time. Gives how often.
fn busy(attachment: &Attachment, ends: &AtomicUsize, first: u64) -> usize {
    let mut lane = Lane::open(attachment);
    let mut count = 0;
    loop {
        count += 1;
        let (offset, byte) = (first + (count as u64 % 4) * 4096, count as u8);
        lane.write(offset, byte).unwrap();
        let memory = Arc::new(HostBuffer::new(4096, 4096));
        let buffers = Buffers::owned(memory);
        lane.run(Op::Read { offset }, buffers.clone()).unwrap();
        let mut data = [0; 4096];
        buffers.read_at(0, &mut data);
        assert_eq!(data, [byte; 4096], "request {count}");
        if ends.load(Ordering::Acquire) != 0 {
            return count;
        }
    }
}

#[test]
fn requests_go_on_while_nodes_change() {
    let f = Fixture::new();
    let (path, base) = (f.plain("a.img"), f.image("base", ""));
    f.add(file(&path).named("f"));
    f.add(raw("f").named("one"));
    f.add(raw("f").named("two"));
    f.add(format(&base).named("b"));
    let (plain, image) = (f.attach("one"), f.attach("b"));
    let ends = AtomicUsize::new(0);
    let counts = std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| busy(&plain, &ends, 0)),
            scope.spawn(|| busy(&image, &ends, 8192)),
        ];
        for turn in 0..100usize {
            let mut other = file(&path).named("f");
            other.no_flush = Some(turn % 2 == 0);
            other.detect_zeroes = crate::DetectZeroes::On;
            f.reopen(other).unwrap();
            let (from, to) = if turn % 2 == 0 {
                ("one", "two")
            } else {
                ("two", "one")
            };
            f.graph
                .change(&[from], &mut opener, |changes| changes.replace(from, to))
                .unwrap();
            let again = f.graph.change(&["b"], &mut opener, |changes| {
                changes.reopen(vec![format(&base).named("b")])
            });
            again.unwrap();
            let mut read_only = format(&base).named("b");
            read_only.read_only = Some(true);
            f.reopen(read_only).unwrap_err();
        }
        // Overlay upon overlay.
        for turn in 0..10 {
            let top = f.graph.backends()[1].root.as_ref().unwrap().name.clone();
            let over = f.image(&["over", &turn.to_string()].concat(), "");
            let spec = without_backing(format(&over));
            f.graph
                .change(&[&top], &mut opener, |changes| {
                    let name = changes.open(spec)?;
                    changes.snapshot(&top, &name)
                })
                .unwrap();
        }
        ends.store(1, Ordering::Release);
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    drop(f.graph.drain(&[]).unwrap());
}
