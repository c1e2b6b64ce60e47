use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api_spec::{Decode, Mode, decode_value};
use serde_json::{Value, json};

use super::*;
use crate::control::fds::FdStore;
use crate::threads::{ThreadKind, spawn};

struct Bench {
    chardevs: Chardevs,
    fds: FdStore,
    /// Threads started.
    threads: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let (fds, threads) = (FdStore::default(), Arc::new(AtomicUsize::new(0)));
        let count = threads.clone();
        let start: SpawnChardev = Box::new(move |server| {
            count.fetch_add(1, Ordering::SeqCst);
            spawn(ThreadKind::Chardev, "chardev", None, || server.run()).map(drop)
        });
        Bench {
            chardevs: Chardevs::new(fds.opener(), start),
            fds,
            threads,
        }
    }

    fn add_as(
        &mut self,
        caller: Caller,
        id: &str,
        kind: &str,
        data: Value,
    ) -> QmpResult<ChardevReturn> {
        let backend: ChardevBackend = decode(json!({"type": kind, "data": data}));
        let fds = &mut self.fds;
        let mut find = |name: &str| fds.take(0, name).ok();
        self.chardevs.add(caller, id, &backend, &mut find)
    }

    fn add(&mut self, id: &str, kind: &str, data: Value) -> QmpResult<ChardevReturn> {
        self.add_as(Caller::Command, id, kind, data)
    }

    fn refused(&mut self, kind: &str, data: Value) -> String {
        let error = self.add("x", kind, data.clone()).unwrap_err().desc;
        let plain = self
            .add_as(Caller::CommandLine, "x", kind, data)
            .unwrap_err()
            .desc;
        if plain.starts_with("File descriptor") {
            return error;
        }
        assert_eq!(error, format!("Failed to add chardev 'x': {plain}"));
        plain
    }

    fn filenames(&self) -> Vec<(String, String, bool)> {
        let infos = self.chardevs.query(&|_| true).into_iter();
        infos
            .map(|info| (info.label, info.filename, info.frontend_open))
            .collect()
    }

    fn read(&self, device: &str, size: i64, format: Option<DataFormat>) -> QmpResult<String> {
        self.chardevs.ringbuf_read(&RingbufReadArgs {
            device: device.into(),
            size,
            format,
        })
    }

    fn write(&self, device: &str, data: &str, format: Option<DataFormat>) -> QmpResult<()> {
        self.chardevs.ringbuf_write(&RingbufWriteArgs {
            device: device.into(),
            data: data.into(),
            format,
        })
    }
}

fn decode<T: Decode>(value: Value) -> T {
    decode_value(value, Mode::Strict).unwrap()
}

fn unix(path: &Path) -> Value {
    json!({"type": "unix", "data": {"path": path}})
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn devices_are_made_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    let out = folder.path().join("out");
    bench.add("n", "null", json!({})).unwrap();
    bench.add("r", "ringbuf", json!({"size": 64})).unwrap();
    bench.add("m", "memory", json!({})).unwrap();
    bench.add("f", "file", json!({"out": out})).unwrap();
    let pty = bench.add("p", "pty", json!({})).unwrap().pty.unwrap();
    let sock = folder.path().join("sock");
    bench
        .add("s", "socket", json!({"addr": unix(&sock)}))
        .unwrap();
    let text = |text: &str| text.to_owned();
    let expected = [
        ("f", text("file")),
        ("m", text("memory")),
        ("n", text("null")),
        ("p", format!("pty:{pty}")),
        ("r", text("ringbuf")),
        (
            "s",
            format!("disconnected:unix:{},server=on", sock.display()),
        ),
    ];
    let expected = expected.map(|(id, name)| (id.to_owned(), name, false));
    assert_eq!(bench.filenames(), expected);
    assert_eq!(
        bench.add("n", "null", json!({})).unwrap_err().desc,
        "Chardev with id 'n' already exists"
    );
    let remove = |bench: &mut Bench, id: &str| bench.chardevs.remove(id).map_err(|e| e.desc);
    assert_eq!(
        remove(&mut bench, "zz"),
        Err("Chardev 'zz' not found".into())
    );
    let front = bench.chardevs.take_frontend("n").unwrap();
    assert_eq!(remove(&mut bench, "n"), Err("Chardev 'n' is busy".into()));
    drop(front);
    assert_eq!(remove(&mut bench, "n"), Ok(()));
    assert_eq!(remove(&mut bench, "s"), Ok(()));
    assert!(!sock.exists());
}

#[test]
fn ids_of_options_are_identifiers() {
    let mut bench = Bench::new();
    let mut add = |id| bench.add_as(Caller::CommandLine, id, "null", json!({}));
    add("a.b-c_1").unwrap();
    let mut refuse = |id| add(id).unwrap_err().desc;
    assert_eq!(refuse("a.b-c_1"), "Duplicate ID 'a.b-c_1' for chardev");
    for id in ["", "1a", "a b", "-a", "ä"] {
        assert_eq!(refuse(id), "Parameter 'id' expects an identifier");
    }
    bench.add("1 ä", "null", json!({})).unwrap();
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut bench = Bench::new();
    let addr = unix(&path);
    let fd = |name: &str| json!({"type": "fd", "data": {"str": name}});
    let none = path.display();
    for (kind, data, message) in [
        (
            "ringbuf",
            json!({"size": 3}),
            "size of ringbuf chardev must be power of two".to_owned(),
        ),
        (
            "file",
            json!({"out": "/none/x"}),
            "Could not open '/none/x': No such file or directory".into(),
        ),
        (
            "file",
            json!({"out": folder.path().join("o"), "in": "/none/y"}),
            "Could not open '/none/y': No such file or directory".into(),
        ),
        (
            "file",
            json!({"out": folder.path()}),
            format!(
                "Could not open '{}': Is a directory",
                folder.path().display()
            ),
        ),
        (
            "file",
            json!({"out": "/dev/fdset/5"}),
            "Could not open '/dev/fdset/5': No such file or directory".into(),
        ),
        (
            "null",
            json!({"logfile": "/none/l"}),
            "Could not create '/none/l': No such file or directory".into(),
        ),
        (
            "socket",
            json!({"addr": unix(Path::new("/none/x"))}),
            "Failed to bind socket to /none/x: No such file or directory".into(),
        ),
        (
            "socket",
            json!({"addr": addr, "server": false}),
            format!("Failed to connect to '{none}': No such file or directory"),
        ),
        (
            "socket",
            json!({"addr": addr, "reconnect": 1}),
            "'reconnect' option is incompatible with socket in server listen mode".into(),
        ),
        (
            "socket",
            json!({"addr": addr, "server": false, "wait": false}),
            "'wait' option is incompatible with socket in client connect mode".into(),
        ),
        (
            "socket",
            json!({"addr": addr, "server": false, "reconnect": 1, "reconnect-ms": 1}),
            "'reconnect' and 'reconnect-ms' are mutually exclusive".into(),
        ),
        (
            "socket",
            json!({"addr": fd("a"), "server": false, "reconnect": 1}),
            "'reconnect' option is incompatible with 'fd' address type".into(),
        ),
        (
            "socket",
            json!({"addr": addr, "server": false, "websocket": true}),
            "Websocket client is not implemented".into(),
        ),
        (
            "socket",
            json!({"addr": addr, "telnet": true}),
            "'telnet' option is not supported".into(),
        ),
        (
            "socket",
            json!({"addr": addr, "websocket": true}),
            "'websocket' option is not supported".into(),
        ),
        (
            "socket",
            json!({"addr": fd("nofd")}),
            "Failed to add chardev 'x': File descriptor named 'nofd' has not been found".into(),
        ),
    ] {
        assert_eq!(bench.refused(kind, data), message);
    }
    assert_eq!(bench.threads.load(Ordering::SeqCst), 0);
    assert!(bench.filenames().is_empty());
}

#[test]
fn ring_buffers_speak_both_notations() {
    let mut bench = Bench::new();
    bench.add("r", "ringbuf", json!({})).unwrap();
    bench.add("n", "null", json!({})).unwrap();
    bench.write("r", "abc\u{e9}\n", None).unwrap();
    assert_eq!(bench.read("r", 4, None).unwrap(), "abc\u{fffd}");
    bench.read("r", 100, None).unwrap();
    bench.write("r", "AP9h", Some(DataFormat::Base64)).unwrap();
    assert_eq!(
        bench.read("r", 100, Some(DataFormat::Base64)).unwrap(),
        "AP9h"
    );
    assert_eq!(bench.read("r", 100, None).unwrap(), "");
    let refused = |result: QmpResult<String>, text: &str| {
        assert_eq!(result, Err(QmpError::generic(text)));
    };
    refused(bench.read("r", 0, None), "size must be greater than zero");
    refused(bench.read("r", -1, None), "size must be greater than zero");
    refused(bench.read("zz", 1, None), "Device 'zz' not found");
    refused(bench.read("n", 1, None), "n is not a ringbuf device");
    let write = bench.write("n", "x", None).map(|()| String::new());
    refused(write, "n is not a ringbuf device");
    let write = bench.write("r", "!!!", Some(DataFormat::Base64));
    refused(
        write.map(|()| String::new()),
        "Base64 data contains invalid characters",
    );
    // What a device writes is read in the same place.
    let front = bench.chardevs.take_frontend("r").unwrap();
    front.write(b"from the guest");
    assert_eq!(bench.read("r", i64::MAX, None).unwrap(), "from the guest");
    assert_eq!(
        bench.threads.load(Ordering::SeqCst),
        0,
        "no thread for that"
    );
}

#[test]
fn a_front_end_is_handed_out_once() {
    let mut bench = Bench::new();
    bench.add("c", "null", json!({})).unwrap();
    let refuse = |bench: &mut Bench, id: &str| {
        let error = bench.chardevs.take_frontend(id).err().unwrap();
        error.describe("serial").desc
    };
    assert_eq!(
        refuse(&mut bench, "zz"),
        "Property 'serial.chardev' can't find value 'zz'"
    );
    let front = bench.chardevs.take_frontend("c").unwrap();
    front.set_frontend_open(true);
    assert_eq!(bench.filenames(), [("c".into(), "null".into(), true)]);
    assert_eq!(
        refuse(&mut bench, "c"),
        "Property 'serial.chardev' can't take value 'c': chardev 'c' is already in use"
    );
    assert!(bench.chardevs.take_endpoint("c").is_err());
    drop(front);
    bench.chardevs.take_frontend("c").unwrap();
}

#[test]
fn files_come_from_sets_and_are_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, "old ").unwrap();
    let mut bench = Bench::new();
    bench
        .add("a", "file", json!({"out": path, "append": true}))
        .unwrap();
    let set: OwnedFd = File::options().append(true).open(&path).unwrap().into();
    bench.fds.add_fd(Some(3), None, vec![set]).unwrap();
    bench
        .add("b", "file", json!({"out": "/dev/fdset/3"}))
        .unwrap();
    for id in ["a", "b"] {
        let front = bench.chardevs.take_frontend(id).unwrap();
        front.write(id.as_bytes());
        drop(front);
    }
    until("both", || std::fs::read(&path).unwrap().len() == 6);
    bench.chardevs.shutdown();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text == "old ab" || text == "old ba", "{text}");
    bench.add("c", "file", json!({"out": path})).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"", "truncated");
}

#[test]
fn a_pipe_of_the_file_system_does_not_end_with_its_first_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("fifo"), folder.path().join("out"));
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let mut bench = Bench::new();
    bench
        .add("f", "file", json!({"out": out, "in": path}))
        .unwrap();
    let front = bench.chardevs.take_frontend("f").unwrap();
    for text in ["one", "two"] {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 8];
        until("input", || {
            let count = front.read(&mut buffer);
            got.extend_from_slice(&buffer[..count]);
            got.len() == 3
        });
        assert_eq!(got, text.as_bytes());
    }
}

#[test]
fn passed_sockets_are_used_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut bench = Bench::new();
    let listener = UnixListener::bind(&path).unwrap();
    bench.fds.get_fd(0, "lst", vec![listener.into()]).unwrap();
    let data = json!({"addr": {"type": "fd", "data": {"str": "lst"}}, "wait": true});
    bench.add("s", "socket", data).unwrap();
    assert!(bench.fds.take(0, "lst").is_err());
    assert_eq!(
        bench.chardevs.waiting(),
        [("s".into(), "disconnected:fd:lst,server=on".into(), false)]
    );
    let mut client = UnixStream::connect(&path).unwrap();
    bench.chardevs.begin().unwrap();
    let time = std::time::Duration::from_secs(10);
    assert!(bench.chardevs.wait_connected("s", time));
    client.write_all(b"x").unwrap();
    let front = bench.chardevs.take_frontend("s").unwrap();
    until("input", || front.read(&mut [0; 4]) == 1);
    assert_eq!(
        bench.filenames(),
        [(
            "s".into(),
            format!("unix:{},server=on", path.display()),
            false
        )]
    );
}

#[test]
fn devices_are_served_at_once_after_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let mut bench = Bench::new();
    bench
        .add("one", "socket", json!({"addr": unix(&one)}))
        .unwrap();
    let _client = UnixStream::connect(&one).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(bench.filenames()[0].1.starts_with("disconnected:"));
    bench.chardevs.begin().unwrap();
    until("accepted", || bench.filenames()[0].1.starts_with("unix:"));
    bench
        .add("two", "socket", json!({"addr": unix(&two)}))
        .unwrap();
    let _client = UnixStream::connect(&two).unwrap();
    until("accepted", || bench.filenames()[1].1.starts_with("unix:"));
    assert_eq!(bench.threads.load(Ordering::SeqCst), 1);
    bench.chardevs.shutdown();
    assert!(!one.exists() && !two.exists());
}

#[test]
fn monitors_get_their_sockets_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qmp");
    let peer = folder.path().join("peer");
    let listener = UnixListener::bind(&peer).unwrap();
    let mut bench = Bench::new();
    let data = json!({"addr": unix(&path), "wait": true});
    bench.add("srv", "socket", data).unwrap();
    let data = json!({"addr": unix(&peer), "server": false, "reconnect-ms": 5000});
    bench.add("again", "socket", data).unwrap();
    let data = json!({"addr": unix(&peer), "server": false});
    bench.add("once", "socket", data).unwrap();
    let tcp = json!({"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}});
    bench.add("tcp", "socket", tcp).unwrap();
    bench.add("n", "null", json!({})).unwrap();
    bench.add("r", "ringbuf", json!({})).unwrap();
    bench.add("p", "pty", json!({})).unwrap();
    let mut take = |id| bench.chardevs.take_endpoint(id);
    match take("srv").unwrap() {
        Endpoint::Unix(socket, Some(kept)) => {
            assert_eq!(kept.path(), path);
            let _client = UnixStream::connect(&path).unwrap();
            socket.accept().unwrap();
            assert!(path.exists(), "it goes with the endpoint");
        }
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
    match take("again").unwrap() {
        Endpoint::ConnectUnix(to, Some(wait)) => {
            assert_eq!((to, wait), (peer.clone(), Duration::from_secs(5)));
        }
        other => panic!("{other:?}"),
    }
    match take("once").unwrap() {
        Endpoint::Connected(fd) => {
            // The only connection that was made.
            let (mut other, _) = listener.accept().unwrap();
            UnixStream::from(fd).write_all(b"hi").unwrap();
            let mut got = String::new();
            other.read_to_string(&mut got).unwrap();
            assert_eq!(got, "hi");
            listener.set_nonblocking(true).unwrap();
            listener.accept().unwrap_err();
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(take("tcp"), Ok(Endpoint::Tcp(_))));
    assert!(matches!(take("n"), Ok(Endpoint::Pair(..))));
    for id in ["r", "p"] {
        assert!(
            take(id)
                .unwrap_err()
                .desc
                .contains("cannot carry a monitor")
        );
    }
    assert_eq!(take("zz").unwrap_err().desc, "chardev \"zz\" not found");
    assert_eq!(
        take("srv").unwrap_err().desc,
        "chardev 'srv' is already in use"
    );
    assert!(matches!(
        bench.chardevs.take_frontend("srv"),
        Err(FrontendError::InUse(_))
    ));
    assert_eq!(
        bench.chardevs.remove("srv").unwrap_err().desc,
        "Chardev 'srv' is busy"
    );
    let name = format!("unix:{},server=on", path.display());
    let waiting = bench.chardevs.waiting();
    assert_eq!(
        waiting,
        [("srv".into(), format!("disconnected:{name}"), true)]
    );
    let info = |connected| {
        let all = bench.chardevs.query(&move |_| connected);
        let one = all.into_iter().find(|info| info.label == "srv").unwrap();
        (one.filename, one.frontend_open)
    };
    assert_eq!(info(true), (name.clone(), true));
    assert_eq!(info(false), (format!("disconnected:{name}"), true));
    assert_eq!(bench.threads.load(Ordering::SeqCst), 0);
}
