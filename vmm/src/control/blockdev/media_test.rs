use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use api_spec::{BlockdevOptions, decode_value};
use block::{AttachOptions, Attachment, MediaDevice, Sharing, TrayView};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const EXCLUSIVE: block::AttachOptions = block::AttachOptions {
    sharing: block::Sharing::Exclusive,
    read_only: false,
};
use crate::control::blockdev::pool;
use crate::control::fds::FdStore;
use crate::event::Mailbox;

/// A drive without a guest.
struct Fake {
    /// `None`: media are put in without a tray.
    tray: Mutex<Option<TrayView>>,
    changes: AtomicU32,
}

impl MediaDevice for Fake {
    fn tray(&self) -> Option<TrayView> {
        *self.tray.lock().unwrap()
    }

    fn open_tray(&self, force: bool) -> Result<bool, TrayLocked> {
        let mut tray = self.tray.lock().unwrap();
        let tray = tray.as_mut().unwrap();
        if tray.locked && !force {
            return Err(TrayLocked);
        }
        tray.locked = false;
        Ok(!std::mem::replace(&mut tray.open, true))
    }

    fn close_tray(&self) -> bool {
        let mut tray = self.tray.lock().unwrap();
        tray.as_mut()
            .is_some_and(|tray| std::mem::replace(&mut tray.open, false))
    }

    fn medium_changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bench {
    blocks: Blockdevs,
    fds: FdStore,
    dir: TempDir,
    fake: Arc<Fake>,
    cd: Option<Arc<Attachment>>,
    _mail: Mailbox,
}

impl Bench {
    /// An empty CD-ROM drive `cd`, and the nodes `a` and `b`.
    fn new() -> Self {
        let mail = Mailbox::new().unwrap();
        let mut blocks = Blockdevs::new(pool(mail.sender()));
        let fds = FdStore::default();
        for name in ["a", "b"] {
            let options = json!({"driver": "null-co", "node-name": name, "read-only": true});
            let options: BlockdevOptions = decode_value(options, api_spec::Mode::Strict).unwrap();
            blocks.add(options, &mut fds.opener()).unwrap();
        }
        let fake = Arc::new(Fake {
            tray: Mutex::new(Some(TrayView::default())),
            changes: AtomicU32::new(0),
        });
        let mut bench = Bench {
            blocks,
            fds,
            dir: TempDir::new().unwrap(),
            fake,
            cd: None,
            _mail: mail,
        };
        bench.cd = Some(bench.attach(None, "cd", true));
        bench
    }

    fn attach(&self, drive: Option<&str>, id: &str, read_only: bool) -> Arc<Attachment> {
        let options = AttachOptions {
            sharing: Sharing::Exclusive,
            read_only,
        };
        let path = format!("/machine/peripheral/{id}");
        let attached = self
            .blocks
            .attach_removable(drive, &path, options, "scsi-cd")
            .unwrap();
        let media: Arc<dyn MediaDevice> = self.fake.clone();
        attached.set_media(Arc::downgrade(&media));
        attached
    }

    fn place(&self) -> Place {
        self.blocks.place(BackendName::Device("cd")).unwrap()
    }

    fn lock(&self) {
        self.fake.tray.lock().unwrap().as_mut().unwrap().locked = true;
    }

    fn change(&self, file: &str, format: Option<&str>, mode: Mode) -> QmpResult<Vec<bool>> {
        let mut place = self.place();
        let opener = &mut self.fds.opener();
        let medium = self.blocks.new_medium(&place, file, format, mode, opener)?;
        place.change(&medium, false)?;
        Ok(moves(&place))
    }

    fn image(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The medium as query-block shows it: name of the file and whether it is read-only.
    fn shown(&self) -> Option<(String, bool)> {
        let info = self.blocks.query_block().remove(0);
        info.inserted.map(|node| (node.file, node.ro))
    }
}

fn moves(place: &Place) -> Vec<bool> {
    place.moved.iter().map(|moved| moved.open).collect()
}

fn desc(result: QmpResult<()>) -> String {
    result.unwrap_err().desc
}

#[test]
fn media_go_in_and_out() {
    let bench = Bench::new();
    let mut place = bench.place();
    assert_eq!(desc(place.insert("a")), "Tray of the device is not open");
    assert_eq!(desc(place.remove()), "Tray of device 'cd' is not open");
    place.open(false).unwrap();
    place.open(false).unwrap();
    place.remove().unwrap();
    place.insert("a").unwrap();
    assert_eq!(
        desc(place.insert("b")),
        "There already is a medium in the device"
    );
    place.close().unwrap();
    place.close().unwrap();
    assert_eq!(
        place.moved,
        [true, false].map(|open| TrayMoved {
            drive: String::new(),
            device: "cd".to_owned(),
            open,
        })
    );
    let info = bench.blocks.query_block().remove(0);
    assert_eq!((info.removable, info.tray_open), (true, Some(false)));
    assert_eq!(info.inserted.unwrap().node_name.as_deref(), Some("a"));
    let refused = bench.blocks.check_free("a").unwrap_err().to_string();
    assert_eq!(refused, "Node 'a' is already in use");
    let refused = bench.blocks.check_free("x").unwrap_err().to_string();
    assert_eq!(refused, "Node 'x' not found");
    bench.blocks.check_free("b").unwrap();
    let mut place = bench.place();
    place.eject(false).unwrap();
    assert_eq!(moves(&place), [true]);
    let info = bench.blocks.query_block().remove(0);
    assert_eq!((info.inserted, info.tray_open), (None, Some(true)));
    // All is as it should be already.
    place.eject(false).unwrap();
}

#[test]
fn a_guests_lock_counts() {
    let bench = Bench::new();
    bench.lock();
    let mut place = bench.place();
    let locked = "Device 'cd' is locked and force was not specified, wait for tray to open and \
                  try again";
    assert_eq!(desc(place.eject(false)), locked);
    // The guest was asked, which is what was wanted.
    place.open(false).unwrap();
    assert!(place.moved.is_empty());
    let file = bench.image("a.iso");
    let refused = bench.change(&file, Some("raw"), Mode::Retain);
    assert_eq!(refused.unwrap_err().desc, locked);
    assert!(bench.blocks.query_block()[0].locked);
    place.eject(true).unwrap();
    assert_eq!(moves(&place), [true]);
    assert!(!bench.blocks.query_block()[0].locked);
}

#[test]
fn fixed_disks_are_left_alone() {
    let mut bench = Bench::new();
    let path = "/machine/peripheral/d/virtio-backend";
    let _disk = bench
        .blocks
        .attach("a", path, EXCLUSIVE, "scsi-hd")
        .unwrap();
    let mut place = bench.blocks.place(BackendName::Device("d")).unwrap();
    for refused in [
        place.eject(true),
        place.open(true),
        place.close(),
        place.remove(),
    ] {
        assert_eq!(desc(refused), "Device 'd' is not removable");
    }
    assert_eq!(desc(place.insert("b")), "Device is not removable");
    assert!(bench.blocks.place(BackendName::Device(path)).is_some());
    assert!(bench.blocks.place(BackendName::Device("x")).is_none());
    assert!(bench.blocks.place(BackendName::Drive("d")).is_none());
    assert!(bench.blocks.place(BackendName::Drive("")).is_none());
}

#[test]
fn one_name_is_needed() {
    assert_eq!(backend_name(Some("a"), None), Ok(BackendName::Drive("a")));
    assert_eq!(backend_name(None, Some("a")), Ok(BackendName::Device("a")));
    for (device, id) in [(None, None), (Some("a"), Some("b"))] {
        let refused = backend_name(device, id).unwrap_err().desc;
        assert_eq!(refused, "Need exactly one of 'device' and 'id'");
    }
}

#[test]
fn files_are_changed() {
    let bench = Bench::new();
    let (one, two) = (bench.image("1.iso"), bench.image("2.iso"));
    let moved = bench.change(&one, Some("raw"), Mode::Retain).unwrap();
    assert_eq!(moved, [true, false]);
    assert_eq!(bench.shown(), Some((one.clone(), true)));
    // Found out.
    bench.change(&two, None, Mode::Retain).unwrap();
    assert_eq!(bench.shown(), Some((two.clone(), true)));
    let info = bench.blocks.query_block().remove(0);
    assert_eq!(info.inserted.unwrap().drv, "raw");
    // The node of the one before went with it.
    assert_eq!(bench.blocks.query_named_block_nodes(true).len(), 4);
    for (file, format, message) in [
        (
            "/nope.iso",
            Some("raw"),
            "Could not open '/nope.iso': No such file or directory",
        ),
        (two.as_str(), Some("foo"), "Unknown driver 'foo'"),
        ("nbd:x", None, "Unknown protocol 'nbd'"),
    ] {
        let refused = bench.change(file, format, Mode::Retain).unwrap_err();
        assert_eq!(refused.desc, message);
        assert_eq!(bench.shown(), Some((two.clone(), true)), "nothing moved");
    }
}

#[test]
fn media_that_are_written_must_be_free() {
    let mut bench = Bench::new();
    drop(bench.cd.take());
    let disk = bench.attach(None, "cd", false);
    let (one, two) = (bench.image("1.img"), bench.image("2.img"));
    bench.change(&one, Some("raw"), Mode::Retain).unwrap();
    assert_eq!(bench.shown(), Some((one.clone(), false)));
    bench.change(&two, Some("raw"), Mode::ReadOnly).unwrap();
    assert_eq!(bench.shown(), Some((two.clone(), true)));
    bench.change(&one, Some("raw"), Mode::Retain).unwrap();
    assert_eq!(bench.shown(), Some((one.clone(), true)));
    bench.change(&one, Some("raw"), Mode::ReadWrite).unwrap();
    assert_eq!(bench.shown(), Some((one.clone(), false)));
    // Somebody else writes it: the former one is put in again.
    let options = json!({"driver": "file", "node-name": "f", "filename": two});
    let options: BlockdevOptions =
        decode_value::<BlockdevOptions>(Value::clone(&options), api_spec::Mode::Strict).unwrap();
    bench.blocks.add(options, &mut bench.fds.opener()).unwrap();
    let other = bench
        .blocks
        .attach("f", "/machine/peripheral/o", EXCLUSIVE, "scsi-hd");
    let refused = bench.change(&two, Some("raw"), Mode::Retain).unwrap_err();
    assert_eq!(refused.desc, "Failed to get \"write\" lock");
    assert_eq!(bench.shown(), Some((one, false)));
    drop(other);
    drop(disk);
}

#[test]
fn drives_need_no_device_and_devices_no_tray() {
    let mut bench = Bench::new();
    let file = bench.image("a.img");
    let drive = format!("if=none,id=x,format=raw,file={file}");
    bench.blocks.drive(&drive, &mut bench.fds.opener()).unwrap();
    let mut place = bench.blocks.place(BackendName::Drive("x")).unwrap();
    place.eject(false).unwrap();
    place.eject(false).unwrap();
    place.insert("a").unwrap();
    place.close().unwrap();
    assert!(place.moved.is_empty());
    place.remove().unwrap();
    let _floppy = bench.attach(Some("x"), "f", false);
    *bench.fake.tray.lock().unwrap() = None;
    let mut place = bench.blocks.place(BackendName::Drive("x")).unwrap();
    place.open(false).unwrap();
    place.insert("a").unwrap();
    place.eject(false).unwrap();
    assert!(place.moved.is_empty());
    assert_eq!(bench.fake.changes.load(Ordering::Relaxed), 2);
}

#[test]
fn commands_about_media_wait_for_each_other() {
    let bench = Bench::new();
    let file = bench.image("one.iso");
    std::thread::scope(|scope| {
        let begun = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..2 {
            let begun = begun.clone();
            let (bench, file) = (&bench, &file);
            scope.spawn(move || {
                begun.wait();
                for _ in 0..200 {
                    let mut place = bench.place();
                    let opener = &mut bench.fds.opener();
                    let medium = bench
                        .blocks
                        .new_medium(&place, file, Some("raw"), Mode::ReadOnly, opener)
                        .unwrap();
                    place.in_turn(|place| place.change(&medium, false)).unwrap();
                }
            });
        }
        let bench = &bench;
        scope.spawn(move || {
            begun.wait();
            for _ in 0..200 {
                bench.place().in_turn(Place::close).unwrap();
            }
        });
    });
    assert_eq!(bench.shown(), Some((file, true)));
}
