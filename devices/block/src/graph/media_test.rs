use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::graph::{ChildSpec, DriverSpec, NodeSpec, Sharing};
use crate::node::IoLane;
use crate::pool::test_pool;
use crate::request::{IoReq, Op, Token};
use crate::waker::Waker;
use crate::{Buffers, NullSpec};

/// A tray without a device.
#[derive(Default)]
struct Fake {
    tray: Mutex<TrayView>,
    changes: AtomicU32,
}

impl MediaDevice for Fake {
    fn tray(&self) -> Option<TrayView> {
        Some(*self.tray.lock().unwrap())
    }

    fn open_tray(&self, force: bool) -> Result<bool, TrayLocked> {
        let mut tray = self.tray.lock().unwrap();
        if tray.locked && !force {
            return Err(TrayLocked);
        }
        Ok(!std::mem::replace(&mut tray.open, true))
    }

    fn close_tray(&self) -> bool {
        std::mem::replace(&mut self.tray.lock().unwrap().open, false)
    }

    fn medium_changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

fn opener(path: &str, _flags: i32) -> std::io::Result<std::fs::File> {
    std::fs::File::open(path)
}

fn null(name: &str, size: u64) -> NodeSpec {
    let spec = NullSpec {
        size,
        ..NullSpec::default()
    };
    NodeSpec::new(DriverSpec::Null(spec)).named(name)
}

fn graph() -> Graph {
    let graph = Graph::new(test_pool());
    for (name, size) in [("a", 1 << 20), ("b", 2 << 20)] {
        graph.add(null(name, size), &mut opener).unwrap();
    }
    graph
}

const READER: AttachOptions = AttachOptions {
    sharing: Sharing::Exclusive,
    read_only: true,
};
const WRITER: AttachOptions = AttachOptions {
    sharing: Sharing::Exclusive,
    read_only: false,
};
const PATH: &str = "/machine/peripheral/cd";

fn slot(graph: &Graph) -> Slot {
    graph.slot(BackendName::Device(PATH)).unwrap()
}

#[test]
fn media_are_exchanged_under_a_device() {
    let graph = graph();
    let cd = graph.attach_removable(None, PATH, READER).unwrap();
    assert!(!cd.has_medium());
    let waker = Waker::new().unwrap();
    let mut lane = cd.open_lane(4, &waker).unwrap();
    let mut flush = || {
        let request = IoReq::new(Op::Flush, Buffers::new());
        lane.submit(request, Token(1)).unwrap().result
    };
    let code = flush().unwrap_err().raw_os_error();
    assert_eq!(code, Some(libc::ENOMEDIUM));
    let slot = slot(&graph);
    assert!(slot.is_removable() && slot.medium().is_none());
    slot.put_in("a", &slot.drain()).unwrap();
    assert_eq!(slot.medium().unwrap(), "a");
    assert_eq!(cd.info().size, 1 << 20);
    flush().unwrap();
    let refused = slot.put_in("b", &slot.drain()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "There already is a medium in the device"
    );
    assert_eq!(graph.del("a").unwrap_err().to_string(), "Node a is in use");
    drop(slot.take_out(&slot.drain()).unwrap());
    drop(slot.take_out(&slot.drain()).unwrap());
    flush().unwrap_err();
    slot.put_in("b", &slot.drain()).unwrap();
    assert_eq!(cd.info().size, 2 << 20);
    flush().unwrap();
    // It stays where somebody wants to put it in again.
    let kept = slot.keep().unwrap();
    drop(slot.take_out(&slot.drain()).unwrap());
    assert_eq!(kept.name(), "b");
    slot.put_in("b", &slot.drain()).unwrap();
    drop(kept);
    drop(graph.del("a").unwrap());
    drop(slot.take_out(&slot.drain()).unwrap());
    assert!(slot.keep().is_none());
    let missing = slot.put_in("a", &slot.drain()).unwrap_err();
    assert_eq!(missing.to_string(), "Node 'a' not found");
}

#[test]
fn the_next_medium_is_opened_as_the_last_one() {
    let graph = Graph::new(test_pool());
    let spec = NodeSpec {
        no_flush: Some(true),
        ..null("a", 512)
    };
    graph.add(spec, &mut opener).unwrap();
    let _disk = graph.attach_removable(Some("a"), PATH, WRITER).unwrap();
    let slot = slot(&graph);
    let habits = Habits {
        no_flush: true,
        ..Habits::default()
    };
    assert_eq!(slot.habits(), habits);
    drop(slot.take_out(&slot.drain()).unwrap());
    assert_eq!(slot.habits(), habits);
    let cd = "/machine/peripheral/cd1";
    let _cd = graph.attach_removable(None, cd, READER).unwrap();
    let slot = graph.slot(BackendName::Device(cd)).unwrap();
    assert!(slot.habits().read_only);
}

#[test]
fn what_others_do_not_allow_is_undone() {
    let graph = graph();
    let disk = graph.attach_removable(None, PATH, WRITER).unwrap();
    let other = graph.attach("a", "/machine/peripheral/d", WRITER).unwrap();
    let slot = slot(&graph);
    let refused = slot.put_in("a", &slot.drain()).unwrap_err().to_string();
    assert!(refused.starts_with("Permission conflict on node 'a'"));
    assert!(slot.medium().is_none() && !disk.has_medium());
    drop(other);
    slot.put_in("a", &slot.drain()).unwrap();
    // What is in it is allowed for as long as it is in it.
    let refused = graph.attach("a", "/machine/peripheral/d", WRITER);
    assert!(refused.is_err());
    drop(slot.take_out(&slot.drain()).unwrap());
    graph.attach("a", "/machine/peripheral/d", WRITER).unwrap();
}

#[test]
fn trays_are_shown() {
    let graph = graph();
    let cd = graph.attach_removable(Some("a"), PATH, READER).unwrap();
    let fake = Arc::new(Fake::default());
    let media: Arc<dyn MediaDevice> = fake.clone();
    cd.set_media(Arc::downgrade(&media));
    drop(media);
    let view = |graph: &Graph| graph.backends().remove(0);
    let shut = Some(TrayView::default());
    assert_eq!((view(&graph).removable, view(&graph).tray), (true, shut));
    fake.tray.lock().unwrap().locked = true;
    let slot = slot(&graph);
    let media = slot.media().unwrap();
    assert_eq!(media.open_tray(false), Err(TrayLocked));
    assert_eq!(media.open_tray(true), Ok(true));
    assert!(view(&graph).tray.unwrap().open);
    assert!(media.close_tray());
    media.medium_changed();
    assert_eq!(fake.changes.load(Ordering::Relaxed), 1);
    // The device goes first.
    drop(slot);
    drop(fake);
    assert_eq!(view(&graph).tray, None);
    assert!(
        graph
            .slot(BackendName::Device("/machine/peripheral/c"))
            .is_none()
    );
    // What is above devices is none of them.
    for above in ["/", "/machine", "/machine/peripheral", ""] {
        assert!(graph.slot(BackendName::Device(above)).is_none(), "{above}");
    }
    assert!(graph.slot(BackendName::Device("cd")).is_some());
    let _by_id = graph.attach_removable(None, "cd7", READER).unwrap();
    for name in ["cd7", "/machine/peripheral/cd7"] {
        let slot = graph.slot(BackendName::Device(name)).unwrap();
        assert_eq!(slot.device(), Some("cd7"));
    }
}

#[test]
fn fixed_devices_need_a_medium() {
    let graph = graph();
    let options = crate::DriveOptions {
        write_cache: crate::WriteCache::Back,
    };
    graph.add_drive("em", None, options, &mut opener).unwrap();
    let refused = graph.attach("em", PATH, READER).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "Device needs media, but drive is empty"
    );
    // A drive without a device can be filled, too.
    let slot = graph.slot(BackendName::Drive("em")).unwrap();
    assert!(slot.is_removable() && slot.device().is_none());
    slot.put_in("a", &slot.drain()).unwrap();
    let disk = graph.attach("em", PATH, WRITER).unwrap();
    let slot = graph.slot(BackendName::Drive("em")).unwrap();
    assert!(!slot.is_removable());
    drop(disk);
    // The drive went with its device.
    let gone = slot.take_out(&slot.drain()).unwrap_err();
    assert_eq!(gone.to_string(), "The device is not there any more");
    let gone = slot.put_in("a", &slot.drain()).unwrap_err();
    assert_eq!(gone.to_string(), "The device is not there any more");
}

#[test]
fn drives_are_abandoned() {
    let graph = graph();
    let options = crate::DriveOptions {
        write_cache: crate::WriteCache::Back,
    };
    let abandon = |graph: &Graph, name| {
        let slot = graph.slot(BackendName::Drive(name)).unwrap();
        slot.abandon(&slot.drain()).map(drop)
    };
    let spec = Some(null("c", 512));
    graph
        .add_drive("x", spec.clone(), options, &mut opener)
        .unwrap();
    abandon(&graph, "x").unwrap();
    assert!(graph.backends().is_empty() && graph.find("c").is_none());
    graph.add_drive("x", spec, options, &mut opener).unwrap();
    let disk = graph.attach("x", PATH, WRITER).unwrap();
    abandon(&graph, "x").unwrap();
    assert!(!disk.has_medium() && graph.find("c").is_none());
    let view = graph.backends().remove(0);
    assert_eq!(
        (view.name.as_str(), view.device.as_deref()),
        ("", Some(PATH))
    );
    assert!(graph.slot(BackendName::Drive("x")).is_none());
    drop(disk);
    assert!(graph.backends().is_empty());
}

#[test]
fn requests_in_flight_end_before_an_exchange() {
    let graph = Graph::new(test_pool());
    let slow = NullSpec {
        latency_ns: 30_000_000,
        ..NullSpec::default()
    };
    let spec = NodeSpec::new(DriverSpec::Null(slow)).named("slow");
    graph.add(spec, &mut opener).unwrap();
    let cd = graph.attach_removable(Some("slow"), PATH, READER).unwrap();
    let waker = Waker::new().unwrap();
    let mut lane = cd.open_lane(4, &waker).unwrap();
    let request = || IoReq::new(Op::Flush, Buffers::new());
    assert!(lane.submit(request(), Token(1)).is_none());
    lane.start();
    let slot = slot(&graph);
    let exchange = std::thread::scope(|scope| {
        let exchange = scope.spawn(|| {
            let quiet = slot.drain();
            slot.take_out(&quiet).map(drop)
        });
        let mut done = Vec::new();
        while done.is_empty() {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
        }
        assert!(done[0].result.is_ok(), "it was done before");
        exchange.join().unwrap()
    });
    exchange.unwrap();
    let ended = lane.submit(request(), Token(2)).unwrap();
    assert!(ended.result.is_err());
}

#[test]
fn holds_keep_nodes_and_permissions() {
    let graph = graph();
    let overwriter = Perms::overwriter();
    let hold = |child| {
        let held = graph.hold(child, overwriter, &mut opener);
        held.map_err(|error| error.to_string())
    };
    let held = hold(ChildSpec::Reference("a".to_owned())).unwrap();
    assert_eq!((held.name(), held.node().info().size), ("a", 1 << 20));
    assert!(graph.backends().is_empty(), "it is nobody's drive");
    assert!(graph.is_in_use("a").unwrap());
    assert_eq!(graph.del("a").unwrap_err().to_string(), "Node a is in use");
    let refused = graph.attach("a", PATH, READER).err().unwrap().to_string();
    assert!(
        refused.contains("required by an unnamed block device"),
        "{refused}"
    );
    drop(held);
    let disk = graph.attach("a", PATH, WRITER).unwrap();
    let refused = hold(ChildSpec::Reference("a".to_owned())).err().unwrap();
    assert!(refused.starts_with("Permission conflict"), "{refused}");
    drop(disk);
    assert!(!graph.is_in_use("a").unwrap());
    // One that is made goes again.
    let made = hold(ChildSpec::Inline(null("c", 512))).unwrap();
    assert!(graph.find("c").is_some());
    drop(made);
    assert!(graph.find("c").is_none());
    let missing = hold(ChildSpec::Reference("c".to_owned())).err().unwrap();
    assert_eq!(missing, "Cannot find device='c' nor node-name='c'");
    let read_only = NodeSpec {
        read_only: Some(true),
        ..null("c", 512)
    };
    let refused = hold(ChildSpec::Inline(read_only)).err().unwrap();
    assert_eq!(refused, "Block node is read-only");
    assert!(graph.find("c").is_none());
}
