//! The server over real sockets, with a small sink behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use api_spec::{Command, CommandContext, Event, MonitorId, QmpError, QmpResult, Responder, Value};
use descriptors::SocketPath;
use qmp::client::{Client, ClientError};
use qmp::{CommandSink, Endpoint, MonitorOptions, Server, ServerHandle};
use serde_json::json;

/// Answers on another thread: names, descriptors that came along, and `stop` only when told.
struct Sink(mpsc::Sender<(CommandContext, Command, Responder)>);

impl CommandSink for Sink {
    fn submit(&mut self, cx: CommandContext, command: Command, responder: Responder) {
        let _ = self.0.send((cx, command, responder));
    }
    fn try_fast(&mut self, command: &Command) -> Option<QmpResult<String>> {
        matches!(command, Command::QueryVersion).then(|| Ok("\"fast\"".into()))
    }
}

struct Setup {
    handle: ServerHandle,
    server: Option<std::thread::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

#[allow(clippy::disallowed_methods)] // tests may start threads
fn setup() -> Setup {
    let (sender, receiver) = mpsc::channel::<(CommandContext, Command, Responder)>();
    let (server, handle) = Server::new(Box::new(Sink(sender)), "test \u{e4}").expect("server");
    let events = handle.clone();
    std::thread::spawn(move || {
        let mut held: Vec<Responder> = Vec::new();
        for (cx, command, responder) in receiver {
            match command {
                Command::Stop => held.push(responder),
                Command::Cont => {
                    held.drain(..).for_each(|r| r.send(Ok("{}".into())));
                    events.broadcast(Event::Resume);
                    responder.send(Ok("{}".into()));
                }
                Command::QueryName => responder.send(Ok("{\"name\": \"\\u00e4\"}".into())),
                Command::QueryUuid => responder.send(Err(QmpError::device_not_found("\u{e4}"))),
                Command::Getfd(args) => {
                    responder.send(Ok(format!("\"{} {}\"", args.fdname, cx.fds.len())));
                }
                Command::Quit => {
                    drop(responder);
                }
                _ => responder.send(Ok("{}".into())),
            }
        }
    });
    let server = std::thread::spawn(move || server.run());
    Setup {
        handle,
        server: Some(server),
        folder: tempfile::tempdir().expect("folder"),
    }
}

impl Setup {
    fn listen(&self, id: u32) -> String {
        let path = self.folder.path().join(format!("m{id}"));
        let listener = UnixListener::bind(&path).expect("bind");
        let endpoint = Endpoint::Unix(listener, Some(SocketPath::new(path.clone())));
        self.handle
            .add_monitor(MonitorId(id), endpoint, MonitorOptions::default());
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(server) = self.server.take() {
            server.join().expect("the server ends");
        }
    }
}

fn raw(path: &str) -> UnixStream {
    let stream = UnixStream::connect(path).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("timeout");
    stream
}

/// Reads until `count` lines came.
fn lines(stream: &mut impl Read, count: usize) -> Vec<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while text.iter().filter(|b| **b == b'\n').count() < count {
        assert_eq!(
            stream.read(&mut byte).expect("read"),
            1,
            "{}",
            String::from_utf8_lossy(&text)
        );
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).expect("utf8");
    assert!(text.is_ascii());
    text.split_terminator("\r\n").map(str::to_string).collect()
}

#[test]
fn greets_and_answers_a_client_that_does_not_wait() {
    let setup = setup();
    let path = setup.listen(1);
    let mut stream = raw(&path);
    stream
        .write_all(
            b"{'execute':'qmp_capabilities'}{\"execute\":\"query-name\",\"id\":{\"a\":[null]}}",
        )
        .expect("write");
    let got = lines(&mut stream, 3);
    assert!(got[0].contains("\"capabilities\": [\"oob\"]") && got[0].contains("test \\u00e4"));
    assert_eq!(got[1], "{\"return\": {}}");
    assert_eq!(
        got[2],
        "{\"return\": {\"name\": \"\\u00e4\"}, \"id\": {\"a\": [null]}}"
    );
}

#[test]
fn one_byte_at_a_time_and_garbage_between() {
    let setup = setup();
    let path = setup.listen(1);
    let mut stream = raw(&path);
    for byte in
        b"{\"execute\":\"qmp_capabilities\"}\r\n nonsense\n{\"execute\":\"query-uuid\",\"id\":1}"
    {
        stream.write_all(&[*byte]).expect("write");
    }
    let got = lines(&mut stream, 4);
    assert!(got[2].starts_with("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse"));
    assert_eq!(
        got[3],
        "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device '\\u00e4' not found\"}, \"id\": 1}"
    );
}

#[test]
fn monitors_are_independent_and_reconnectable() {
    let setup = setup();
    let (a, b) = (setup.listen(1), setup.listen(2));
    let fds = || std::fs::read_dir("/proc/self/fd").expect("fds").count();
    let mut client = Client::connect(&b).expect("connect");
    for _ in 0..20 {
        drop(Client::connect(&a).expect("connect"));
    }
    let before = fds();
    for _ in 0..300 {
        let mut client = Client::connect(&a).expect("connect");
        client.execute("query-name", None).expect("answer");
    }
    client.execute("query-name", None).expect("answer");
    assert!(
        fds() <= before + 4,
        "{} descriptors, {before} before",
        fds()
    );
}

#[test]
fn a_second_client_waits_for_the_first_to_leave() {
    let setup = setup();
    let path = setup.listen(1);
    let first = Client::connect(&path).expect("connect");
    let mut second = raw(&path);
    second
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("timeout");
    assert!(second.read(&mut [0]).is_err(), "no greeting yet");
    drop(first);
    second
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("timeout");
    assert!(lines(&mut second, 1)[0].starts_with("{\"QMP\""));
}

#[test]
fn the_next_client_gets_nothing_that_was_meant_for_the_one_before() {
    let setup = setup();
    let path = setup.listen(0);
    for _ in 0..20 {
        // It leaves without reading: the first answer finds nobody, and the rest is void.
        let mut first = raw(&path);
        let second = raw(&path);
        let commands = "{\"execute\": \"query-version\"}".repeat(50);
        let greeting = "{\"execute\": \"qmp_capabilities\"}".to_owned() + &commands;
        first.write_all(greeting.as_bytes()).expect("commands");
        drop(first);
        let mut second = second;
        let hello = lines(&mut second, 1);
        assert!(hello[0].contains("QMP"), "{hello:?}");
        second
            .write_all(b"{\"execute\": \"qmp_capabilities\", \"id\": 7}")
            .expect("a command");
        let answer = lines(&mut second, 1);
        assert!(answer[0].contains("\"id\": 7"), "{answer:?}");
    }
}

#[test]
#[allow(clippy::disallowed_methods)] // tests may start threads
fn a_reader_of_a_pipe_that_is_stuck_holds_up_nobody_else() {
    let setup = setup();
    let path = setup.listen(0);
    // Two sockets in the place of pipes: one for each direction.
    let (mut commands, input) = UnixStream::pair().expect("sockets");
    let (answers, output) = UnixStream::pair().expect("sockets");
    output.set_nonblocking(true).expect("a socket");
    let endpoint = Endpoint::Pair(input.into(), output.into());
    setup
        .handle
        .add_monitor(MonitorId(1), endpoint, MonitorOptions::default());
    let count = 20_000;
    let writer = std::thread::spawn(move || {
        commands
            .write_all(b"{\"execute\": \"qmp_capabilities\"}")
            .expect("a command");
        for _ in 0..count {
            commands
                .write_all(b"{\"execute\": \"query-version\"}")
                .expect("commands");
        }
        commands
    });
    std::thread::sleep(Duration::from_millis(100));
    let mut other = raw(&path);
    assert!(lines(&mut other, 1)[0].contains("QMP"));
    // Nothing was lost meanwhile.
    answers
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket");
    let got = BufReader::new(answers).lines().take(count + 2);
    let got = got.filter(|line| line.as_ref().expect("a line").contains("fast"));
    assert_eq!(got.count(), count);
    writer.join().expect("all sent");
}

#[test]
fn what_is_sent_is_logged() {
    let setup = setup();
    let path = setup.folder.path().join("logged");
    let log = setup.folder.path().join("log");
    let listener = UnixListener::bind(&path).expect("bind");
    let endpoint = Endpoint::Unix(listener, Some(SocketPath::new(path.clone())));
    let file = std::fs::File::create(&log).expect("a file");
    let endpoint = Endpoint::Logged(Box::new(endpoint), file);
    setup
        .handle
        .add_monitor(MonitorId(3), endpoint, MonitorOptions::default());
    let mut all = Vec::new();
    for _ in 0..2 {
        let mut client = raw(&path.to_string_lossy());
        client
            .write_all(b"{\"execute\": \"qmp_capabilities\"}")
            .expect("a command");
        all.extend(lines(&mut client, 2));
    }
    // The client may be faster than the log.
    let end = Instant::now() + Duration::from_secs(10);
    let logged = || std::fs::read_to_string(&log).expect("a log");
    while logged().lines().count() < all.len() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(logged().lines().collect::<Vec<_>>(), all);
}

#[test]
fn events_reach_negotiated_clients_only_and_keep_their_order() {
    let setup = setup();
    let (a, b) = (setup.listen(1), setup.listen(2));
    let mut client = Client::connect(&a).expect("connect");
    let mut silent = raw(&b);
    lines(&mut silent, 1);
    client
        .write(b"{\"execute\":\"stop\",\"id\":\"s\"}", &[])
        .expect("write");
    let mut other = Client::connect(&setup.listen(3)).expect("connect");
    other.execute("cont", None).expect("answer");
    let deadline = Instant::now() + Duration::from_secs(10);
    assert_eq!(client.message(deadline).expect("answer")["id"], "s");
    let event = client.message(deadline).expect("event");
    assert_eq!(event["event"], "RESUME");
    assert!(event.get("data").is_none() && event["timestamp"]["seconds"].is_u64());
    silent
        .write_all(b"{\"execute\":\"qmp_capabilities\"}")
        .expect("write");
    assert_eq!(lines(&mut silent, 1)[0], "{\"return\": {}}");
}

#[test]
fn guests_cannot_flood_monitors_with_events() {
    let setup = setup();
    let mut client = Client::connect(&setup.listen(1)).expect("connect");
    for i in 0..100 {
        setup.handle.broadcast(Event::VserportChange {
            id: "p".into(),
            open: i % 2 == 0,
        });
    }
    let first = client.event(Duration::from_secs(5)).expect("first");
    assert_eq!(first["data"]["open"], true);
    let last = client.event(Duration::from_secs(5)).expect("last");
    assert_eq!(last["data"]["open"], false);
    assert!(
        client.event(Duration::from_millis(1200)).is_err(),
        "no third"
    );
}

#[test]
fn descriptors_go_with_their_commands() {
    let setup = setup();
    let mut client = Client::connect(&setup.listen(1)).expect("connect");
    let file = std::fs::File::open("/dev/null").expect("open");
    let fds = [file.as_fd(), file.as_fd()];
    let name = |n: &str| Some(json!({ "fdname": n }));
    assert_eq!(
        client
            .execute_with_fds("getfd", name("a"), &fds)
            .expect("a"),
        "a 2"
    );
    assert_eq!(client.execute("getfd", name("b")).expect("b"), "b 0");
}

#[test]
fn out_of_band_does_not_wait() {
    let setup = setup();
    let mut stream = raw(&setup.listen(1));
    stream
        .write_all(b"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}{\"execute\":\"stop\",\"id\":1}{\"exec-oob\":\"query-status\",\"id\":2}")
        .expect("write");
    let got = lines(&mut stream, 3);
    assert!(got[2].contains("does not support OOB") && got[2].ends_with("\"id\": 2}"));
}

#[test]
fn a_client_that_never_reads_or_floods_harms_nobody() {
    let setup = setup();
    let (a, b) = (setup.listen(1), setup.listen(2));
    let mut deaf = raw(&a);
    deaf.set_write_timeout(Some(Duration::from_millis(200)))
        .expect("timeout");
    deaf.write_all(b"{\"execute\":\"qmp_capabilities\"}")
        .expect("write");
    let request = b"{\"execute\":\"query-name\"}".repeat(1000);
    for _ in 0..200 {
        if deaf.write_all(&request).is_err() {
            break;
        }
    }
    let mut client = Client::connect(&b).expect("connect");
    let start = Instant::now();
    for _ in 0..100 {
        client.execute("query-name", None).expect("answer");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn huge_and_deep_input_is_refused_while_others_are_served() {
    let setup = setup();
    let (a, b) = (setup.listen(1), setup.listen(2));
    let mut client = Client::connect(&b).expect("connect");
    let mut stream = raw(&a);
    lines(&mut stream, 1);
    stream.write_all(&[b'['; 10_000]).expect("write");
    assert!(lines(&mut stream, 1)[0].contains("nesting"));
    drop(stream);
    let mut stream = raw(&a);
    lines(&mut stream, 1);
    stream.write_all(b"{\"execute\": \"").expect("write");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        stream.write_all(&chunk).expect("write");
    }
    assert!(lines(&mut stream, 1)[0].contains("size limit"));
    client.execute("query-name", None).expect("answer");
    drop(raw(&a).write_all(b"{\"execute\": \"qu"));
    client.execute("query-name", None).expect("answer");
}

#[test]
fn tcp_and_connecting_out_with_retries() {
    let setup = setup();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    setup.handle.add_monitor(
        MonitorId(1),
        Endpoint::Tcp(listener),
        MonitorOptions::default(),
    );
    let mut client =
        Client::over(OwnedFd::from(TcpStream::connect(address).expect("connect"))).expect("client");
    client.execute("query-name", None).expect("answer");

    let path = setup.folder.path().join("out");
    let endpoint = Endpoint::ConnectUnix(path.clone(), Some(Duration::from_millis(20)));
    setup
        .handle
        .add_monitor(MonitorId(2), endpoint, MonitorOptions::default());
    std::thread::sleep(Duration::from_millis(60));
    let listener = UnixListener::bind(&path).expect("bind");
    for _ in 0..3 {
        let (stream, _) = listener.accept().expect("it comes back");
        let mut client = Client::over(stream.into()).expect("client");
        client.execute("query-name", None).expect("answer");
    }
}

#[test]
fn inherited_sockets_and_pretty_output() {
    let setup = setup();
    let (mine, theirs) = UnixStream::pair().expect("pair");
    let endpoint = Endpoint::Connected(theirs.into());
    setup
        .handle
        .add_monitor(MonitorId(1), endpoint, MonitorOptions { pretty: true });
    assert!(
        setup
            .handle
            .wait_connected(MonitorId(1), Duration::from_secs(10))
    );
    assert!(setup.handle.is_connected(MonitorId(1)));
    assert!(!setup.handle.is_connected(MonitorId(2)));
    let mut client = Client::over(mine.into()).expect("client");
    assert_eq!(
        client.execute("query-name", None).expect("answer")["name"],
        "\u{e4}"
    );
    assert_eq!(
        client.execute("query-version", None).expect("answer"),
        "fast"
    );
    drop(client);
    let end = Instant::now() + Duration::from_secs(5);
    while setup.handle.is_connected(MonitorId(1)) {
        assert!(Instant::now() < end, "it left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn abandoned_commands_are_answered_and_the_path_goes_at_the_end() {
    let setup = setup();
    let path = setup.listen(1);
    let mut client = Client::connect(&path).expect("connect");
    match client.execute("quit", None) {
        Err(ClientError::Refused(class, _)) => assert_eq!(class, "GenericError"),
        other => panic!("{other:?}"),
    }
    setup.handle.broadcast(Event::Stop);
    drop(setup);
    assert_eq!(
        client.event(Duration::from_secs(1)).expect("flushed")["event"],
        "STOP"
    );
    assert!(client.event(Duration::from_secs(1)).is_err(), "closed");
    assert!(!Path::new(&path).exists());
    let _: Value = json!(null);
}

#[test]
fn a_path_that_another_program_took_over_stays() {
    let mut setup = setup();
    let path = setup.listen(1);
    drop(Client::connect(&path).expect("connect"));
    std::fs::remove_file(&path).expect("the socket");
    let other = UnixListener::bind(&path).expect("bind");
    setup.handle.shutdown();
    let server = setup.server.take().expect("a server");
    server.join().expect("the server ends");
    let _client = raw(&path);
    other.accept().expect("a client");
}
