//! Another host side for a front end that stays.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tests::{Served, Wakes, read_all, until, write_all};
use super::*;

fn listener(dir: &tempfile::TempDir, name: &str) -> Source {
    let path = dir.path().join(name);
    Source::Server(Listener::unix(&UnixAddress::path(path.to_str().unwrap())).unwrap())
}

fn connect(dir: &tempfile::TempDir, name: &str) -> UnixStream {
    UnixStream::connect(dir.path().join(name)).unwrap()
}

#[test]
fn the_front_end_goes_on_with_the_next_host_side() {
    let (served, dir) = (Served::new(), tempfile::tempdir().unwrap());
    let mut chardev = served.start(listener(&dir, "a"));
    let port = chardev.take_frontend().unwrap();
    let wakes = Arc::new(Wakes::default());
    port.set_waker(Some(wakes.clone()));
    let mut first = connect(&dir, "a");
    until("the first peer", || port.is_open());
    write_all(&port, b"one");
    let mut got = [0; 3];
    first.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one");

    let peers = port.peers();
    chardev.change(listener(&dir, "b"), None);
    assert!(!port.is_open());
    assert!(!dir.path().join("a").exists());
    assert_eq!(first.read(&mut got).unwrap(), 0, "it is closed");
    chardev.start(&served.0);
    assert!(chardev.filename().starts_with("disconnected:unix:"));
    let before = wakes.0.load(Ordering::SeqCst);
    let mut second = connect(&dir, "b");
    until("the second peer", || port.is_open());
    assert_ne!(port.peers(), peers);
    second.write_all(b"two").unwrap();
    assert_eq!(read_all(&port, 3), b"two");
    assert!(wakes.0.load(Ordering::SeqCst) > before);
    assert!(chardev.is_taken());

    // A ring buffer is one from now on, and no longer when it is something else.
    assert_eq!(chardev.read_memory(9), None);
    chardev.change(Source::Ringbuf { size: 16 }, None);
    assert!(port.is_open() && !chardev.needs_start());
    assert_eq!(chardev.filename(), "ringbuf");
    write_all(&port, b"kept");
    assert_eq!(chardev.read_memory(9).unwrap(), b"kept");
    chardev.change(Source::Null, None);
    write_all(&port, b"gone");
    assert_eq!(chardev.read_memory(9), None);
}

#[test]
fn a_path_stays_with_who_took_it_last() {
    let (served, dir) = (Served::new(), tempfile::tempdir().unwrap());
    let mut chardev = served.start(listener(&dir, "a"));
    let port = chardev.take_frontend().unwrap();
    chardev.change(listener(&dir, "a"), None);
    chardev.start(&served.0);
    let _peer = connect(&dir, "a");
    until("a peer", || port.is_open());
    drop((port, chardev));
    assert!(!dir.path().join("a").exists());
}

#[test]
fn a_yanked_connection_is_one_whose_peer_left() {
    let (served, dir) = (Served::new(), tempfile::tempdir().unwrap());
    let chardev = served.start(listener(&dir, "a"));
    let yank = chardev.yanker().unwrap();
    yank();
    let port = chardev.take_frontend().unwrap();
    for _ in 0..3 {
        let mut peer = connect(&dir, "a");
        until("a peer", || port.is_open());
        // It takes nothing, and so much waits for it.
        while port.write(&[0; 4096]) > 0 {}
        yank();
        until("its end", || !port.is_open());
        // What was on its way, and then the end.
        assert!(peer.read_to_end(&mut Vec::new()).is_ok());
    }
    drop(chardev);
    yank();
    assert!(Chardev::new(Source::Null, None).yanker().is_none());
}

#[test]
fn a_break_is_heard_once() {
    let chardev = Chardev::new(Source::Null, None);
    let port = chardev.take_frontend().unwrap();
    let wakes = Arc::new(Wakes::default());
    port.set_waker(Some(wakes.clone()));
    assert!(!port.take_break());
    chardev.send_break();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(port.take_break() && !port.take_break());
}
