//! Data through every kind of door.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smoltcp::socket::{tcp, udp};
use smoltcp::wire::IpEndpoint;
use usernet::wire::{Ask, Failure, Protocol, Started, Target};

use super::guest::Guest;
use super::network::{HOST, Network, SERVER, assert_same, config, forward, guest_forward, noise};

const MEGABYTES: usize = 4 << 20;

#[allow(clippy::disallowed_methods)] // a test's peer
fn peer<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(body)
}

/// Sends and receives at once; what was received.
fn talk(stream: TcpStream, data: Vec<u8>, wanted: usize) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = peer(move || sender.write_all(&data).unwrap());
    let mut got = vec![0; wanted];
    (&stream).read_exact(&mut got).unwrap();
    sending.join().unwrap();
    got
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

#[test]
fn megabytes_go_both_ways_through_a_host_forward() {
    let (forward, address) = forward(Protocol::Tcp, 80);
    let mut config = config();
    config.host_forwards = vec![forward];
    let (mut network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let socket = guest.listen(80);
    let data = noise(MEGABYTES);
    let (to_guest, to_host) = (data.clone(), reversed(&data));
    let host = peer(move || talk(TcpStream::connect(address).unwrap(), to_guest, MEGABYTES));
    assert_same(&guest.converse(socket, &to_host, MEGABYTES), &data);
    assert_same(&host.join().unwrap(), &to_host);

    let info = network.ask(&Ask::Info).unwrap();
    let line = info
        .lines()
        .find(|line| line.contains("TCP[HOST_FORWARD]"))
        .unwrap();
    assert!(
        line.contains(&address.port().to_string()) && line.contains("10.0.2.15"),
        "{info}"
    );
}

#[test]
fn megabytes_go_both_ways_out_to_the_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_network, frames) = Network::start(&config());
    let mut guest = Guest::new(frames);
    let socket = guest.connect(HOST, port);
    let data = noise(MEGABYTES);
    let (to_guest, to_host) = (data.clone(), reversed(&data));
    let host = peer(move || talk(listener.accept().unwrap().0, to_guest, MEGABYTES));
    assert_same(&guest.converse(socket, &to_host, MEGABYTES), &data);
    assert_same(&host.join().unwrap(), &to_host);
}

#[test]
fn ipv6_leads_to_the_host_as_well() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("no IPv6 here: not tested");
    };
    let port = listener.local_addr().unwrap().port();
    let config = config();
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let socket = guest.connect(config.ipv6.host, port);
    let host = peer(move || talk(listener.accept().unwrap().0, b"in".to_vec(), 3));
    assert_eq!(guest.converse(socket, b"out", 2), b"in");
    assert_eq!(host.join().unwrap(), b"out");
}

#[test]
fn datagrams_go_both_ways() {
    let (forward, address) = forward(Protocol::Udp, 3000);
    let mut config = config();
    config.host_forwards = vec![forward];
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let socket = guest.udp(3000);

    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    host.send_to(b"question", address).unwrap();
    guest.until("the question", |guest| {
        let socket = guest.sockets.get_mut::<udp::Socket>(socket);
        let (data, from) = socket.recv().ok()?;
        assert_eq!(data, b"question");
        socket.send_slice(b"answer", from.endpoint).unwrap();
        Some(())
    });
    let mut room = [0; 64];
    assert_eq!(host.recv(&mut room).unwrap(), 6);

    // Out to the host, and the answer.
    let own = guest.udp(4000);
    let to = IpEndpoint::new(HOST.into(), host.local_addr().unwrap().port());
    let echo = peer(move || {
        let (len, from) = host.recv_from(&mut room).unwrap();
        host.send_to(&room[..len], from).unwrap();
    });
    assert_eq!(guest.exchange(own, to, b"ping").0, b"ping");
    echo.join().unwrap();
}

#[test]
fn a_restricted_guest_reaches_only_what_is_forwarded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (forward, address) = forward(Protocol::Tcp, 80);
    let mut config = config();
    config.restrict = true;
    config.host_forwards = vec![forward];
    config.guest_forwards = vec![guest_forward(7, Target::Command("cat".into()))];
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);

    let denied = guest.connect(HOST, port);
    let came = guest.within(Duration::from_millis(700), |guest| {
        guest
            .sockets
            .get_mut::<tcp::Socket>(denied)
            .may_send()
            .then_some(())
    });
    assert!(came.is_none() && listener.accept().is_err());

    let served = guest.listen(80);
    let host = peer(move || talk(TcpStream::connect(address).unwrap(), b"in".to_vec(), 3));
    assert_eq!(guest.converse(served, b"out", 2), b"in");
    assert_eq!(host.join().unwrap(), b"out");
    let echo = guest.connect(SERVER, 7);
    assert_eq!(guest.converse(echo, b"echo", 4), b"echo");
}

#[test]
fn a_guest_forward_leads_into_a_stream() {
    let (near, far) = UnixStream::pair().unwrap();
    let mut config = config();
    config.guest_forwards = vec![guest_forward(9, Target::Stream)];
    let (_network, frames, started) = Network::begin(&config, &[far]);
    assert_eq!(started, Started::Ready);
    let mut guest = Guest::new(frames);
    let socket = guest.connect(SERVER, 9);
    let data = noise(1 << 20);
    let (to_guest, to_host) = (data.clone(), reversed(&data));
    let host = peer(move || {
        let mut sender = near.try_clone().unwrap();
        let sending = peer(move || sender.write_all(&to_guest).unwrap());
        let mut got = vec![0; 1 << 20];
        (&near).read_exact(&mut got).unwrap();
        sending.join().unwrap();
        got
    });
    assert_same(&guest.converse(socket, &to_host, 1 << 20), &data);
    assert_same(&host.join().unwrap(), &to_host);
}

#[test]
fn a_guest_forward_runs_a_program_for_each_connection() {
    let mut config = config();
    let command = "sh -c 'echo \"hello  $0\"; read line; echo \"$line\"; exec cat' guest";
    config.guest_forwards = vec![
        guest_forward(7, Target::Command(command.into())),
        guest_forward(8, Target::Command("/nonexistent/program".into())),
        guest_forward(9, Target::Command("'".into())),
    ];
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    for _ in 0..3 {
        let socket = guest.connect(SERVER, 7);
        let got = guest.converse(socket, b"one\ntwo", 20);
        assert_eq!(String::from_utf8(got).unwrap(), "hello  guest\none\ntwo");
    }
    for port in [8, 9] {
        let socket = guest.connect(SERVER, port);
        guest.until("the end", |guest| {
            (!guest.sockets.get_mut::<tcp::Socket>(socket).may_recv()).then_some(())
        });
    }
    // Those that come later are served all the same.
    let socket = guest.connect(SERVER, 7);
    guest.converse(socket, b"", 13);
}

#[test]
fn programs_have_what_the_monitor_has() {
    let line = "umask; grep SigIgn /proc/self/status";
    let mut own = std::process::Command::new("sh");
    let expected = own.args(["-c", line]).output().unwrap().stdout;
    let mut config = config();
    let command = format!("sh -c '{line}'");
    config.guest_forwards = vec![guest_forward(7, Target::Command(command))];
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let socket = guest.connect(SERVER, 7);
    let got = guest.converse(socket, b"", expected.len());
    assert_eq!(
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(&expected)
    );
}

#[test]
fn forwards_come_and_go() {
    let (forward, address) = forward(Protocol::Tcp, 80);
    let (mut network, frames) = Network::start(&config());
    let mut guest = Guest::new(frames);
    assert!(TcpStream::connect(address).is_err());
    network.ask(&Ask::AddHostForward(forward)).unwrap();
    assert!(network.ask(&Ask::AddHostForward(forward)).is_err());
    let socket = guest.listen(80);
    let host = peer(move || talk(TcpStream::connect(address).unwrap(), b"in".to_vec(), 3));
    assert_eq!(guest.converse(socket, b"out", 2), b"in");
    host.join()
        .unwrap()
        .as_slice()
        .eq(b"out")
        .then_some(())
        .unwrap();
    let remove = Ask::RemoveHostForward {
        protocol: forward.protocol,
        host: forward.host,
        host_port: forward.host_port,
    };
    network.ask(&remove).unwrap();
    assert!(network.ask(&remove).is_err());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn forwards_that_cannot_be_had_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (free, _) = forward(Protocol::Tcp, 80);
    let mut forward = free;
    forward.host_port = taken.local_addr().unwrap().port();
    let mut configuration = config();
    configuration.host_forwards = vec![free, forward];
    let (_, _, started) = Network::begin(&configuration, &[]);
    assert_eq!(started, Started::Failed(Failure::HostForward(1)));

    let mut configuration = config();
    let mut bad = guest_forward(7, Target::Command("cat".into()));
    bad.server = HOST;
    configuration.guest_forwards = vec![guest_forward(7, Target::Command("cat".into())), bad];
    let (_, _, started) = Network::begin(&configuration, &[]);
    assert_eq!(started, Started::Failed(Failure::GuestForward(1)));
}

#[test]
fn a_connection_half_closed_still_carries_the_rest() {
    let (forward, address) = forward(Protocol::Tcp, 80);
    let mut config = config();
    config.host_forwards = vec![forward];
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let socket = guest.listen(80);
    let host = peer(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"all").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    let got = guest.converse(socket, b"", 3);
    assert_eq!(got, b"all");
    guest.until("the host's end", |guest| {
        (!guest.sockets.get_mut::<tcp::Socket>(socket).may_recv()).then_some(())
    });
    guest.converse(socket, b"rest", 0);
    guest.sockets.get_mut::<tcp::Socket>(socket).close();
    guest.until("our end", |_| host.is_finished().then_some(()));
    assert_eq!(host.join().unwrap(), b"rest");
}
