//! What files and nodes keep to whatever the lanes do: failed flushes, the length.

use std::time::Duration;

use super::*;
use crate::pool::test_pool;
use crate::{Durability, Op};

/// A file whose blocks are larger than sectors, as its user sees it.
pub(super) fn large_blocks(file: File, direct: bool) -> HostFile {
    HostFile {
        file,
        kind: FileKind::Regular,
        direct,
        memory_align: 512,
        align: 4096,
        ranges: Ranges::default(),
        aio: Aio::Threads,
        length: Mutex::default(),
        lost: AtomicI32::new(0),
    }
}

#[test]
fn after_a_failed_flush_none_succeeds() {
    let good = || tempfile::tempfile().unwrap();
    let bad = || File::from(std::os::fd::OwnedFd::from(std::io::pipe().unwrap().1));
    let flush = |host: &HostFile| perform::perform(host, Op::Flush, &Buffers::new(), 0);
    let mut host = large_blocks(bad(), false);
    let first = flush(&host).unwrap_err();
    host.file = good();
    let second = flush(&host).unwrap_err();
    assert_eq!(first.raw_os_error(), second.raw_os_error());
    // One that the kernel has done well meanwhile is no better.
    assert!(host.has_lost() && host.synced(Ok(())).is_err());
    let mut host = large_blocks(bad(), true);
    assert!(flush(&host).is_err());
    host.file = good();
    flush(&host).unwrap();
}

#[test]
fn a_new_size_is_not_undone_by_a_write_to_the_end() {
    const OLD: u64 = 21 * 512;
    const NEW: u64 = 1 << 20;
    let file = tempfile::tempfile().unwrap();
    let image = ImageLock::new(&file, "a", Locking::Off).unwrap();
    let host = Arc::new(large_blocks(file, true));
    let node = Arc::new(FileNode {
        lock: Arc::new(NodeLock {
            image,
            host: host.clone(),
        }),
        host,
        path: "a".into(),
        pool: test_pool(),
        screen: Screen::new(Policy::default(), 0, Arc::default()),
    });
    let len = || node.host.file.metadata().unwrap().len();
    let write = |host: &HostFile| {
        let op = Op::Write {
            offset: OLD - 512,
            durability: Durability::Cached,
        };
        let data = Buffers::owned(HostBuffer::from_bytes(&[7; 512], 512));
        perform::perform(host, op, &data, 0).unwrap();
    };
    node.resize(OLD).unwrap();
    write(&node.host);
    assert_eq!(len(), OLD, "it ends where it ended");
    // Neither of the two does its part while the other is at it.
    let (sender, receiver) = std::sync::mpsc::channel();
    let length = node.host.length();
    let (writer, done) = (node.clone(), sender.clone());
    node.pool.run(Box::new(move || {
        write(&writer.host);
        done.send(()).unwrap();
    }));
    let resizer = node.clone();
    node.pool.run(Box::new(move || {
        resizer.resize(NEW).unwrap();
        sender.send(()).unwrap();
    }));
    assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
    drop(length);
    assert_eq!(receiver.iter().count(), 2);
    assert_eq!(len(), NEW);
}
