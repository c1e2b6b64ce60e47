use std::fs::{File, OpenOptions};
use std::io;

use tempfile::TempDir;

use super::*;
use crate::format::fake;
use crate::graph::{ChildSpec, DriverSpec, FormatKind, FormatSpec, NodeSpec};
use crate::pool::test_pool;
use crate::{Aio, FileSpec, Locking, NullSpec, RawWindow};

fn opener(path: &str, flags: i32) -> io::Result<File> {
    let write = flags & libc::O_ACCMODE == libc::O_RDWR;
    OpenOptions::new().read(true).write(write).open(path)
}

/// An image in a node of that name.
fn image(directory: &TempDir, name: &str) -> NodeSpec {
    let path = directory.path().join(name);
    std::fs::write(&path, fake::image("")).unwrap();
    let file = NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Threads,
        locking: Locking::On,
    }));
    let file = ChildSpec::Inline(file);
    NodeSpec::new(DriverSpec::Format(FormatSpec::new(FormatKind::Qcow2, file))).named(name)
}

fn view(name: &str) -> SnapshotView {
    SnapshotView {
        name: name.to_owned(),
        ..SnapshotView::default()
    }
}

#[test]
fn what_is_written_is_kept_where_it_lies() {
    let (directory, graph) = (TempDir::new().unwrap(), Graph::new(test_pool()));
    let add = |spec: NodeSpec| graph.add(spec, &mut opener).unwrap();
    add(image(&directory, "a"));
    add(NodeSpec {
        read_only: Some(true),
        ..image(&directory, "ro")
    });
    add(image(&directory, "below"));
    add(NodeSpec::new(DriverSpec::Raw {
        file: Box::new(ChildSpec::Reference("below".to_owned())),
        window: RawWindow::default(),
        probed: false,
    })
    .named("above"));
    add(NodeSpec::new(DriverSpec::Null(NullSpec::default())).named("n"));
    let disks = graph.snapshot_disks(None).unwrap();
    let found: Vec<(&str, Option<&str>)> = disks
        .iter()
        .map(|disk| (disk.node.as_str(), disk.image.as_deref()))
        .collect();
    let wanted = [("a", Some("a")), ("above", Some("below")), ("n", None)];
    assert_eq!(found, wanted);
    let named = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        graph
            .snapshot_disks(Some(&names))
            .map_err(|e| e.to_string())
    };
    assert_eq!(named(&["ro"]).unwrap()[0].image, None);
    assert_eq!(named(&["z"]).unwrap_err(), "No block device node 'z'");
    assert_eq!(
        named(&[]).unwrap_err(),
        "At least one device is required for snapshot"
    );
    // All or none: the third cannot.
    let refused = graph.change(&[], &mut opener, |changes| {
        disks
            .iter()
            .try_for_each(|disk| changes.add_to_machine(disk, &view("s")))
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Device 'n' is writable but does not support snapshots"
    );
    let count = || -> Vec<usize> {
        let disks = graph.snapshot_disks(None).unwrap();
        disks.iter().map(|disk| disk.snapshots.len()).collect()
    };
    assert_eq!(count(), [0, 0, 0]);
    let done = graph.change(&[], &mut opener, |changes| {
        disks[..2]
            .iter()
            .try_for_each(|disk| changes.add_to_machine(disk, &view("s")))
    });
    done.unwrap();
    assert_eq!(count(), [1, 1, 0]);
    let done = graph.change(&[], &mut opener, |changes| {
        changes
            .return_to(&disks[1], "s")
            .map(|resized| resized.len())
    });
    assert_eq!(done.unwrap(), 0);
    for _ in 0..2 {
        let done = graph.change(&[], &mut opener, |changes| {
            changes.forget_named(&disks[1], "s")
        });
        done.unwrap();
    }
    assert_eq!(count(), [1, 0, 0]);
    let hold = graph.keep("a").unwrap();
    assert!(graph.del("a").is_err());
    drop(hold);
    graph.del("a").unwrap();
}
