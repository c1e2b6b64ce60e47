use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// A running thread, ended when dropped.
pub(super) struct Served(pub ChardevHandle);

impl Served {
    pub fn new() -> Self {
        let (server, handle) = ChardevServer::new().unwrap();
        std::thread::spawn(move || server.run());
        Served(handle)
    }

    pub fn start(&self, source: Source) -> Chardev {
        self.start_logged(source, None)
    }

    pub fn start_logged(&self, source: Source, log: Option<File>) -> Chardev {
        let mut chardev = Chardev::new(source, log);
        chardev.start(&self.0);
        chardev
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Counts wakes.
#[derive(Default)]
pub(super) struct Wakes(pub AtomicUsize);

impl CharWaker for Wakes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn read_all(port: &CharFrontend, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    until("input", || {
        let got = port.read(&mut buffer);
        all.extend_from_slice(&buffer[..got]);
        all.len() >= count
    });
    all
}

pub(super) fn write_all(port: &CharFrontend, mut data: &[u8]) {
    until("room", || {
        loop {
            let taken = port.write(data);
            data = &data[taken..];
            if taken == 0 || data.is_empty() {
                return data.is_empty();
            }
        }
    });
}

pub(super) fn noise(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn null_swallows_everything_without_a_thread() {
    let chardev = Chardev::new(Source::Null, None);
    assert!(!chardev.needs_start());
    assert_eq!(chardev.filename(), "null");
    let port = chardev.take_frontend().unwrap();
    assert!(port.is_open());
    assert_eq!(port.write(&noise(1 << 20)), 1 << 20);
    assert_eq!(port.read(&mut [0; 4]), 0);
}

#[test]
fn a_front_end_is_exclusive_and_comes_back() {
    let chardev = Chardev::new(Source::Null, None);
    let port = chardev.take_frontend().unwrap();
    assert!(chardev.take_frontend().is_none());
    assert!(chardev.is_taken());
    port.set_frontend_open(true);
    assert!(chardev.frontend_open());
    drop(port);
    assert!(!chardev.frontend_open());
    assert!(chardev.take_frontend().is_some());
}

#[test]
fn a_ring_buffer_keeps_the_newest_bytes() {
    for size in [0, -4, 3, i64::MIN] {
        assert_eq!(
            ringbuf_size(Some(size)).unwrap_err().desc,
            "size of ringbuf chardev must be power of two"
        );
    }
    // More than any address space has.
    assert_eq!(
        ringbuf_size(Some(1 << 62)).unwrap_err().desc,
        "Cannot allocate memory for a ring of 4611686018427387904 bytes"
    );
    let chardev = Chardev::new(
        Source::Ringbuf {
            size: ringbuf_size(Some(8)).unwrap(),
        },
        None,
    );
    assert_eq!(chardev.filename(), "ringbuf");
    let port = chardev.take_frontend().unwrap();
    assert_eq!(port.write(b"0123456789"), 10);
    assert_eq!(chardev.read_memory(3).unwrap(), b"234");
    chardev.write_memory(b"abcd").unwrap();
    assert_eq!(
        chardev.read_memory(usize::MAX).unwrap(),
        b"6789abcd"[..].to_vec()
    );
    assert_eq!(chardev.read_memory(9).unwrap(), b"");
    assert!(Chardev::new(Source::Null, None).read_memory(1).is_none());
}

#[test]
fn a_file_gets_the_output_and_gives_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let (out, input) = (folder.path().join("out"), folder.path().join("in"));
    std::fs::write(&input, noise(100_000)).unwrap();
    let served = Served::new();
    let chardev = served.start(Source::File {
        output: File::create(&out).unwrap(),
        input: Some(File::open(&input).unwrap()),
    });
    let port = chardev.take_frontend().unwrap();
    assert_eq!(read_all(&port, 100_000), noise(100_000));
    let data = noise(1 << 20);
    write_all(&port, &data);
    until("the file", || std::fs::read(&out).unwrap() == data);
    assert_eq!(chardev.filename(), "file");
}

#[test]
fn the_end_does_not_lose_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let served = Served::new();
    let chardev = served.start(Source::File {
        output: File::create(&path).unwrap(),
        input: None,
    });
    let port = chardev.take_frontend().unwrap();
    port.write(b"last words");
    served.0.shutdown();
    assert_eq!(std::fs::read(&path).unwrap(), b"last words");
    // And what comes after it does no harm.
    port.write(b"!");
    drop(port);
    drop(chardev);
}

#[test]
fn everything_is_logged_also_without_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in [
        ("null", Source::Null),
        ("ringbuf", Source::Ringbuf { size: 16 }),
        ("socket", {
            let path = folder.path().join("s");
            let address = UnixAddress::path(path.to_str().unwrap());
            Source::Server(Listener::unix(&address).unwrap())
        }),
    ] {
        let path = folder.path().join(name);
        let served = Served::new();
        let chardev = served.start_logged(source, Some(File::create(&path).unwrap()));
        let port = chardev.take_frontend().unwrap();
        let data = noise(200_000);
        write_all(&port, &data);
        until("the log", || std::fs::read(&path).unwrap() == data);
        if let Some(memory) = chardev.read_memory(100) {
            assert_eq!(memory, data[data.len() - 16..]);
        }
    }
}

fn open_terminal(path: &str) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .unwrap();
    sys::set_nonblocking(&file).unwrap();
    file
}

fn read_terminal(file: &mut File, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    until("the terminal", || {
        if let Ok(got) = file.read(&mut buffer) {
            all.extend_from_slice(&buffer[..got]);
        }
        all.len() >= count
    });
    all
}

#[test]
fn a_terminal_without_a_reader_never_stalls_and_comes_to_life() {
    let served = Served::new();
    let pty = Pty::open().unwrap();
    let path = pty.path().to_owned();
    let chardev = served.start(Source::Pty(pty));
    assert_eq!(chardev.filename(), format!("pty:{path}"));
    let port = chardev.take_frontend().unwrap();
    let wakes = Arc::new(Wakes::default());
    port.set_waker(Some(wakes.clone()));
    assert!(!port.is_open());
    write_all(&port, &noise(1 << 20));

    // Typing is noticed at once, opening alone within a second or two.
    let mut terminal = open_terminal(&path);
    terminal.write_all(b"hello\r\xff").unwrap();
    assert_eq!(read_all(&port, 7), b"hello\r\xff");
    assert!(port.is_open());
    write_all(&port, b"\x00world\n");
    assert_eq!(read_terminal(&mut terminal, 7), b"\x00world\n");

    drop(terminal);
    until("closed", || !port.is_open());
    write_all(&port, &noise(1 << 20));
    let mut terminal = open_terminal(&path);
    until("open", || port.is_open());
    write_all(&port, b"again");
    assert!(read_terminal(&mut terminal, 5).ends_with(b"again"));
    assert!(wakes.0.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_terminal_with_a_slow_reader_exerts_back_pressure() {
    let served = Served::new();
    let pty = Pty::open().unwrap();
    let mut terminal = open_terminal(pty.path());
    let chardev = served.start(Source::Pty(pty));
    let port = chardev.take_frontend().unwrap();
    until("open", || port.is_open());
    let data = noise(400_000);
    let mut sent = 0;
    let quiet = || std::thread::sleep(Duration::from_millis(20));
    loop {
        let taken = port.write(&data[sent..]);
        sent += taken;
        if taken == 0 {
            quiet();
            if port.write(&data[sent..sent + 1]) == 0 {
                break;
            }
            sent += 1;
        }
    }
    assert!(sent < 200_000, "{sent} bytes were taken");
    // A reader who leaves releases the device.
    assert!(!read_terminal(&mut terminal, 1000).is_empty());
    drop(terminal);
    until("room", || port.write(b"x") == 1);
}

#[test]
fn a_boot_log_costs_few_looks() {
    let (read, write) = std::os::unix::net::UnixStream::pair().unwrap();
    let served = Served::new();
    let dialer = Dialer::passed(OwnedFd::from(write), "3", false).unwrap();
    let chardev = served.start(Source::Client(dialer));
    let port = chardev.take_frontend().unwrap();
    until("open", || port.is_open());
    read.set_nonblocking(true).unwrap();
    for _ in 0..2000 {
        assert_eq!(port.write(b"x"), 1);
    }
    // What a reader gets at once is what was written at once.
    let mut pieces = 0;
    let mut total = 0;
    let mut buffer = [0; 1 << 16];
    until("everything", || {
        if let Ok(got) = (&read).read(&mut buffer) {
            pieces += 1;
            total += got;
        }
        total == 2000
    });
    assert!(pieces < 200, "{pieces} pieces");
}
