use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::tests::{Served, Wakes, noise, read_all, until, write_all};
use super::*;

fn unix(path: &std::path::Path) -> UnixAddress {
    UnixAddress::path(path.to_str().unwrap())
}

fn inet(port: u16) -> InetAddress {
    InetAddress {
        host: "localhost".into(),
        port: port.to_string(),
        ..InetAddress::default()
    }
}

#[test]
fn a_server_serves_one_client_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    std::fs::write(&path, "left behind").unwrap();
    let served = Served::new();
    let chardev = served.start(Source::Server(Listener::unix(&unix(&path)).unwrap()));
    let name = format!("unix:{},server=on", path.display());
    assert_eq!(chardev.filename(), format!("disconnected:{name}"));
    let port = chardev.take_frontend().unwrap();
    let wakes = Arc::new(Wakes::default());
    port.set_waker(Some(wakes.clone()));
    // Without a client all is swallowed, and the client sees none of it.
    write_all(&port, &noise(1 << 20));
    for round in 0..3 {
        let mut client = UnixStream::connect(&path).unwrap();
        until("open", || port.is_open());
        assert_eq!(chardev.filename(), name);
        let mut second = UnixStream::connect(&path).unwrap();
        write_all(&port, b"hello");
        let mut got = [0; 5];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        client.write_all(b"bye").unwrap();
        drop(client);
        assert_eq!(read_all(&port, 3), b"bye", "round {round}");
        second.write_all(b"2nd").unwrap();
        assert_eq!(read_all(&port, 3), b"2nd");
        drop(second);
        until("closed", || !port.is_open());
    }
    assert!(wakes.0.load(Ordering::SeqCst) >= 6);
    drop(port);
    drop(chardev);
    assert!(!path.exists());
}

/// Holds the thread up in its wake.
struct Holds {
    reached: std::sync::mpsc::Sender<()>,
    go_on: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

impl CharWaker for Holds {
    fn wake(&self) {
        if let Some(go_on) = self.go_on.lock().unwrap().take() {
            self.reached.send(()).unwrap();
            let _ = go_on.recv_timeout(Duration::from_secs(10));
        }
    }
}

/// Runs `act` while the thread does nothing.
fn while_held_up(served: &Served, act: impl FnOnce()) {
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel();
    let (mut near, far) = UnixStream::pair().unwrap();
    let other = Dialer::passed(OwnedFd::from(far), "fd0", false).unwrap();
    let other = served.start(Source::Client(other));
    let port = other.take_frontend().unwrap();
    until("open", || port.is_open());
    port.set_waker(Some(Arc::new(Holds {
        reached,
        go_on: Mutex::new(Some(wait)),
    })));
    near.write_all(b"x").unwrap();
    is_reached.recv_timeout(Duration::from_secs(10)).unwrap();
    act();
    go_on.send(()).unwrap();
}

#[test]
fn output_after_a_connect_reaches_the_client_even_if_the_thread_is_late() {
    let folder = tempfile::tempdir().unwrap();
    for logged in [false, true] {
        let path = folder.path().join("sock");
        let log = folder.path().join("log");
        let served = Served::new();
        let file = logged.then(|| File::create(&log).unwrap());
        let source = Source::Server(Listener::unix(&unix(&path)).unwrap());
        let chardev = served.start_logged(source, file);
        let port = chardev.take_frontend().unwrap();
        let mut client = None;
        while_held_up(&served, || {
            // Without a client it goes nowhere but into the log, now or soon.
            if !logged {
                write_all(&port, b"lost");
            }
            client = Some(UnixStream::connect(&path).unwrap());
            for byte in b"hello" {
                write_all(&port, &[*byte]);
            }
        });
        let mut client = client.unwrap();
        let mut got = [0; 5];
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        drop(client);
        until("closed", || !port.is_open());
        write_all(&port, b"!");
        if logged {
            until("the log", || std::fs::read(&log).unwrap() == b"hello!");
        }
    }
}

#[test]
fn output_after_a_connect_reaches_the_client_even_before_the_thread_knows_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let (server, handle) = ChardevServer::new().unwrap();
    let mut chardev = Chardev::new(Source::Server(Listener::unix(&unix(&path)).unwrap()), None);
    let port = chardev.take_frontend().unwrap();
    chardev.start(&handle);
    write_all(&port, b"lost");
    let mut client = UnixStream::connect(&path).unwrap();
    write_all(&port, b"hello");
    std::thread::spawn(move || server.run());
    let _served = Served(handle);
    let mut got = [0; 5];
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
}

#[test]
fn output_after_an_accept_reaches_the_server_even_if_the_thread_is_late() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = inet(listener.local_addr().unwrap().port());
    let again = Some(Duration::from_secs(3600));
    let served = Served::new();
    let mut chardev = Chardev::new(
        Source::Client(Dialer::inet(&address, false, again).unwrap()),
        None,
    );
    let port = chardev.take_frontend().unwrap();
    chardev.start(&served.0);
    let mut server = listener.accept().unwrap().0;
    // It may be in the middle of it here.
    write_all(&port, b"hello");
    let mut got = [0; 5];
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
}

#[test]
fn a_client_that_left_before_it_was_let_in_takes_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let served = Served::new();
    let chardev = served.start(Source::Server(Listener::unix(&unix(&path)).unwrap()));
    let port = chardev.take_frontend().unwrap();
    while_held_up(&served, || {
        drop(UnixStream::connect(&path).unwrap());
        write_all(&port, b"old");
    });
    until("seen", || port.peers() == 1 && !port.is_open());
    let mut client = UnixStream::connect(&path).unwrap();
    write_all(&port, b"new");
    let mut got = [0; 3];
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"new");
}

#[test]
fn ten_megabytes_go_both_ways_with_a_slow_peer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let served = Served::new();
    let chardev = served.start(Source::Server(Listener::unix(&unix(&path)).unwrap()));
    let port = chardev.take_frontend().unwrap();
    let data = noise(10 << 20);
    let client = UnixStream::connect(&path).unwrap();
    until("open", || port.is_open());
    let (mut reader, mut writer) = (client.try_clone().unwrap(), client);
    let sent = data.clone();
    let write = std::thread::spawn(move || writer.write_all(&sent).map(|()| writer));
    let read = std::thread::spawn(move || {
        let mut all = vec![0; 10 << 20];
        let mut done = 0;
        while done < all.len() {
            let end = (done + 30_000).min(all.len());
            reader.read_exact(&mut all[done..end]).unwrap();
            done = end;
            if done.is_multiple_of(900_000) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        all
    });
    let mut got = Vec::new();
    let mut out = 0;
    let mut buffer = [0; 1000];
    until("both", || {
        for _ in 0..1000 {
            out += port.write(&data[out..(out + 700).min(data.len())]);
            let count = port.read(&mut buffer);
            got.extend_from_slice(&buffer[..count]);
        }
        out == data.len() && got.len() == data.len()
    });
    assert!(got == data);
    assert!(read.join().unwrap() == data);
    write.join().unwrap().unwrap();
}

#[test]
fn a_peer_that_never_reads_costs_bounded_memory_and_no_data() {
    let served = Served::new();
    let (mut near, far) = UnixStream::pair().unwrap();
    let dialer = Dialer::passed(OwnedFd::from(far), "fd0", false).unwrap();
    let chardev = served.start(Source::Client(dialer));
    let port = chardev.take_frontend().unwrap();
    let wakes = Arc::new(Wakes::default());
    port.set_waker(Some(wakes.clone()));
    until("open", || port.is_open());
    let data = noise(4 << 20);
    let mut sent = 0;
    let mut idle = 0;
    while idle < 20 {
        let taken = port.write(&data[sent..]);
        sent += taken;
        idle = if taken == 0 { idle + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(sent < 1 << 20, "{sent}");
    let before = wakes.0.load(Ordering::SeqCst);
    let mut got = vec![0; sent];
    near.read_exact(&mut got).unwrap();
    assert!(got == data[..sent]);
    until("a wake", || wakes.0.load(Ordering::SeqCst) > before);
    assert!(port.write(b"x") == 1);
    // The same in the other direction: the device does not read.
    near.set_nonblocking(true).unwrap();
    let mut pushed = 0;
    let mut idle = 0;
    while idle < 20 {
        match near.write(&data[pushed..]) {
            Ok(count) => (pushed, idle) = (pushed + count, 0),
            Err(_) => idle += 1,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(pushed < 1 << 20, "{pushed}");
    assert!(read_all(&port, pushed) == data[..pushed]);
}

#[test]
fn nothing_is_read_before_there_is_a_front_end() {
    let served = Served::new();
    let (mut near, far) = UnixStream::pair().unwrap();
    let dialer = Dialer::passed(OwnedFd::from(far), "fd0", false).unwrap();
    let chardev = served.start(Source::Client(dialer));
    near.write_all(b"early").unwrap();
    assert!(chardev.wait_open(std::time::Duration::from_secs(10)));
    let port = chardev.take_frontend().unwrap();
    assert_eq!(read_all(&port, 5), b"early");
    drop(port);
    drop(near);
    until("closed", || !chardev.is_open());
}

#[test]
fn a_client_connects_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let served = Served::new();
    let again = Some(Duration::from_millis(20));
    let chardev = served.start(Source::Client(Dialer::unix(unix(&path), again).unwrap()));
    assert_eq!(
        chardev.filename(),
        format!("disconnected:unix:{}", path.display())
    );
    let port = chardev.take_frontend().unwrap();
    for _ in 0..3 {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"hi").unwrap();
        assert_eq!(read_all(&port, 2), b"hi");
        assert_eq!(chardev.filename(), format!("unix:{}", path.display()));
        drop(peer);
        drop(listener);
        until("closed", || !port.is_open());
    }
}

#[test]
fn refusals_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let refuse = |dialer: QmpResult<Dialer>| dialer.unwrap_err().desc;
    assert_eq!(
        refuse(Dialer::unix(unix(&path), None)),
        format!(
            "Failed to connect to '{}': No such file or directory",
            path.display()
        )
    );
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(
        refuse(Dialer::unix(unix(&path), None)),
        format!(
            "Failed to connect to '{}': Connection refused",
            path.display()
        )
    );
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    assert_eq!(
        refuse(Dialer::inet(&inet(free), false, None)),
        format!("Failed to connect to 'localhost:{free}': Connection refused")
    );
    let long = UnixAddress::path("x".repeat(200));
    assert!(refuse(Dialer::unix(long, None)).contains("is too long"));
    let zero = UnixAddress::path("a\0b");
    assert!(refuse(Dialer::unix(zero, None)).contains("zero byte"));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(
        refuse(Dialer::passed(file.into(), "7", false)),
        "File descriptor '7' is not a socket"
    );
    let mut unknown = inet(1);
    unknown.port = "http?".into();
    assert!(refuse(Dialer::inet(&unknown, false, None)).starts_with("address resolution failed"));
}

#[test]
fn listeners_that_cannot_be_are_refused() {
    let refuse = |listener: QmpResult<Listener>| listener.unwrap_err().desc;
    assert_eq!(
        refuse(Listener::unix(&UnixAddress::path("/none/such/x"))),
        "Failed to bind socket to /none/such/x: No such file or directory"
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(
        refuse(Listener::inet(&inet(port), false)),
        "Failed to find an available port: Address already in use"
    );
    let mut range = inet(port);
    range.to = Some(port.saturating_add(20));
    Listener::inet(&range, false).unwrap();
    let (one, _) = UnixStream::pair().unwrap();
    assert_eq!(
        refuse(Listener::passed(one.into(), "9", false)),
        "File descriptor '9' is not a listening socket"
    );
}

#[test]
fn tcp_names_both_ends() {
    let served = Served::new();
    let listener = Listener::inet(&inet(0), true).unwrap();
    let chardev = served.start(Source::Server(listener));
    let port: u16 = {
        let name = chardev.filename();
        let rest = name.strip_prefix("disconnected:tcp:127.0.0.1:").unwrap();
        rest.strip_suffix(",server=on").unwrap().parse().unwrap()
    };
    let front = chardev.take_frontend().unwrap();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(chardev.wait_open(std::time::Duration::from_secs(10)));
    let own = client.local_addr().unwrap();
    assert_eq!(
        chardev.filename(),
        format!("tcp:127.0.0.1:{port},server=on <-> {own}")
    );
    let other = served.start(Source::Client(
        Dialer::passed(OwnedFd::from(client), "c", true).unwrap(),
    ));
    let far = other.take_frontend().unwrap();
    write_all(&front, b"ping");
    assert_eq!(read_all(&far, 4), b"ping");
}

#[test]
fn abstract_names_and_passed_listeners_work() {
    let served = Served::new();
    let name = format!("qvmd-test-{}", std::process::id());
    for tight in [true, false] {
        let address = UnixAddress {
            path: name.clone(),
            is_abstract: true,
            tight,
        };
        let server = served.start(Source::Server(Listener::unix(&address).unwrap()));
        let client = served.start(Source::Client(Dialer::unix(address, None).unwrap()));
        let (a, b) = (
            server.take_frontend().unwrap(),
            client.take_frontend().unwrap(),
        );
        until("both", || a.is_open() && b.is_open());
        write_all(&a, b"abc");
        assert_eq!(read_all(&b, 3), b"abc");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let bound = UnixListener::bind(&path).unwrap();
    let passed = Listener::passed(bound.into(), "3", false).unwrap();
    let chardev = served.start(Source::Server(passed));
    assert_eq!(chardev.filename(), "disconnected:fd:3,server=on");
    let _client = UnixStream::connect(&path).unwrap();
    assert!(chardev.wait_open(std::time::Duration::from_secs(10)));
    assert_eq!(
        chardev.filename(),
        format!("unix:{},server=on", path.display())
    );
    drop(chardev);
    assert!(path.exists(), "somebody else's path stays");
}

#[test]
fn a_slow_connection_does_not_hold_the_caller() {
    // An address that nobody answers for, if there is a way out at all.
    let nowhere = InetAddress {
        host: "192.0.2.1".into(),
        port: "9".into(),
        ..InetAddress::default()
    };
    let start = Instant::now();
    let _ = Dialer::inet(&nowhere, false, None);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn removal_and_the_end_are_quick_in_every_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let start = Instant::now();
    for round in 0..20 {
        let served = Served::new();
        let chardev = served.start(Source::Server(Listener::unix(&unix(&path)).unwrap()));
        let port = chardev.take_frontend().unwrap();
        let client = (round % 2 == 0).then(|| UnixStream::connect(&path).unwrap());
        drop(port);
        drop(chardev);
        assert!(!path.exists());
        // At once again at the same place.
        let again = Listener::unix(&unix(&path)).unwrap();
        drop((again, client));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Nanoseconds that a thread of ours has run.
fn ran(thread: i32) -> u64 {
    let path = format!("/proc/self/task/{thread}/schedstat");
    let text = std::fs::read_to_string(path).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
#[allow(unsafe_code)] // asks for the thread's number
fn nothing_is_done_while_nothing_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let (server, handle) = ChardevServer::new().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: no pointers.
        tell.send(unsafe { libc::gettid() }).unwrap();
        server.run();
    });
    let thread = told.recv().unwrap();
    let start = |source| {
        let mut chardev = Chardev::new(source, None);
        chardev.start(&handle);
        let front = chardev.take_frontend().unwrap();
        (chardev, front)
    };
    // A peer that does not read, and a device that does not.
    let (mut near, far) = UnixStream::pair().unwrap();
    let full = start(Source::Client(
        Dialer::passed(far.into(), "a", false).unwrap(),
    ));
    until("open", || full.0.is_open());
    near.set_nonblocking(true).unwrap();
    for _ in 0..100 {
        full.1.write(&noise(50_000));
        let _ = near.write(&noise(50_000));
        std::thread::sleep(Duration::from_millis(1));
    }
    // Nobody at a terminal; somebody who does not read at another.
    let gone = Pty::open().unwrap();
    let kept = Pty::open().unwrap();
    let reader = std::fs::File::options()
        .read(true)
        .write(true)
        .open(kept.path())
        .unwrap();
    let (gone, kept) = (start(Source::Pty(gone)), start(Source::Pty(kept)));
    gone.1.write(b"x");
    until("open", || kept.0.is_open());
    kept.1.write(&noise(60_000));
    // A file at its end; a server with a second client; a client that waits to try again; one
    // whose peer has left.
    let file = start(Source::File {
        output: std::fs::File::create(folder.path().join("out")).unwrap(),
        input: Some(std::fs::File::open("/dev/null").unwrap()),
    });
    let path = folder.path().join("s");
    let listener = start(Source::Server(Listener::unix(&unix(&path)).unwrap()));
    let clients = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    let again = Some(Duration::from_secs(60));
    let none = unix(&folder.path().join("none"));
    let waiting = start(Source::Client(Dialer::unix(none, again).unwrap()));
    let (left, far) = UnixStream::pair().unwrap();
    let lost = start(Source::Client(
        Dialer::passed(far.into(), "b", false).unwrap(),
    ));
    until("open", || lost.0.is_open());
    drop(left);
    until("closed", || !lost.0.is_open());
    std::thread::sleep(Duration::from_millis(100));
    let before = ran(thread);
    std::thread::sleep(Duration::from_millis(1000));
    let used = ran(thread) - before;
    assert!(used < 20_000_000, "{used} ns of CPU for nothing");
    drop((full, gone, kept, file, listener, waiting, lost));
    drop((clients, reader));
    handle.shutdown();
}
