//! Netdevs with sockets, both ends in this process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use block::{Buffers, HostBuffer};
use proptest::prelude::*;

use super::*;
use crate::backend::socket::{Dialer, InetAddress, Listener, UnixAddress, sys};

const LONG: Duration = Duration::from_secs(10);

struct Served(NetHandle, Option<std::thread::JoinHandle<()>>);

impl Served {
    #[allow(clippy::disallowed_methods)] // a test
    fn start() -> Self {
        let errands: crate::backend::socket::Errands = Arc::new(|errand| {
            std::thread::spawn(errand);
            Ok(())
        });
        let (server, handle) = NetServer::new(errands).unwrap();
        Served(handle, Some(std::thread::spawn(move || server.run())))
    }

    fn open(&self, way: Way) -> End {
        let (sender, news) = channel();
        let names = LinkNames {
            id: "n".into(),
            kind: "stream",
            description: String::new(),
        };
        let tell: LinkTell = Box::new(move |netdev: &Weak<Netdev>, told| {
            if let Some(netdev) = netdev.upgrade() {
                netdev.set_connected(matches!(told, LinkNews::Connected(_)));
            }
            let _ = sender.send(told);
        });
        let (netdev, guard) = open_link(&self.0, way, names, tell).unwrap();
        End {
            _guard: guard,
            netdev,
            news,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.shutdown();
        self.1.take().unwrap().join().unwrap();
    }
}

struct End {
    _guard: NetGuard,
    netdev: Arc<Netdev>,
    news: Receiver<LinkNews>,
}

impl End {
    fn connected(&self) {
        let told = self.news.recv_timeout(LONG).unwrap();
        assert!(matches!(told, LinkNews::Connected(_)), "{told:?}");
    }

    fn disconnected(&self) {
        assert_eq!(
            self.news.recv_timeout(LONG).unwrap(),
            LinkNews::Disconnected
        );
    }
}

fn buffers(bytes: &[u8]) -> Buffers {
    Buffers::owned(HostBuffer::from_bytes(bytes, 1))
}

fn ready(port: &dyn NetPort, wait: Duration) -> bool {
    sys::poll(port.fd(), libc::POLLIN, wait.as_millis() as i32) != 0
}

/// As a worker would: waits for the descriptor, then asks.
fn receive(port: &mut dyn NetPort) -> Vec<u8> {
    let room = Arc::new(HostBuffer::new(70_000, 1));
    let until = Instant::now() + LONG;
    loop {
        if let Some(len) = port.receive(&Buffers::owned(room.clone())).unwrap() {
            let mut bytes = room.to_vec();
            bytes.truncate(len);
            return bytes;
        }
        assert!(Instant::now() < until, "no frame");
        ready(port, LONG);
    }
}

/// As a worker would: when there is no room, waits for the descriptor.
fn send(port: &mut dyn NetPort, frame: &[u8]) {
    while port.send(&buffers(frame)) == Sent::Full {
        assert!(ready(port, LONG), "no room");
        // Takes note, as a worker does that looks for frames.
        let _ = port.receive(&Buffers::new()).unwrap();
    }
}

fn path(dir: &tempfile::TempDir) -> UnixAddress {
    UnixAddress::path(dir.path().join("s").to_str().unwrap())
}

fn pair(served: &Served, dir: &tempfile::TempDir) -> (End, End) {
    let server = served.open(Way::Listen(Listener::unix(&path(dir)).unwrap()));
    let again = Some(Duration::from_millis(20));
    let client = served.open(Way::Dial(Dialer::unix_later(path(dir), again).unwrap()));
    server.connected();
    client.connected();
    (server, client)
}

#[test]
fn frames_go_both_ways_through_a_connection() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let (server, client) = pair(&served, &dir);
    assert!(server.netdev.link_up() && client.netdev.link_up());
    let (a, b) = (
        server.netdev.attach().unwrap(),
        client.netdev.attach().unwrap(),
    );
    let (mut a, mut b) = (a.port(0).unwrap(), b.port(0).unwrap());
    for len in [1, 60, 1514, 9014, 65_550] {
        send(&mut *a, &vec![len as u8; len]);
        assert_eq!(receive(&mut *b), vec![len as u8; len]);
        send(&mut *b, &vec![7; len]);
        assert_eq!(receive(&mut *a), vec![7; len]);
    }
    // A frame in more pieces than the kernel takes at once.
    let memory = Arc::new(HostBuffer::new(100, 1));
    Buffers::owned(memory.clone()).write_at(0, &[9; 100]);
    let whole = Buffers::owned(memory.clone());
    let first = whole.parts().first().unwrap().address() as *mut u8;
    let mut pieces = Buffers::new();
    pieces.begin(memory);
    for at in 0..100 {
        // SAFETY: inside the allocation, which the keeper keeps.
        #[allow(unsafe_code)]
        unsafe {
            pieces.push(first.wrapping_add(at), 1);
        }
    }
    assert_eq!(a.send(&pieces), Sent::Done);
    assert_eq!(receive(&mut *b), [9; 100]);
}

#[test]
fn a_client_comes_back_to_a_server_that_was_away() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let (server, client) = pair(&served, &dir);
    let attachment = client.netdev.attach().unwrap();
    let mut port = attachment.port(0).unwrap();
    drop(server);
    // Its worker finds the end, or the thread does.
    assert!(ready(&*port, LONG));
    assert_eq!(port.receive(&Buffers::new()).unwrap(), None);
    client.disconnected();
    assert!(!client.netdev.link_up());
    assert_eq!(port.send(&buffers(&[1; 60])), Sent::Done);
    let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
    server.connected();
    client.connected();
    let other = server.netdev.attach().unwrap();
    let mut other = other.port(0).unwrap();
    send(&mut *port, &[5; 60]);
    assert_eq!(receive(&mut *other), [5; 60]);
}

#[test]
fn the_next_client_comes_when_the_first_has_left() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
    let first = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    let second = UnixStream::connect(dir.path().join("s")).unwrap();
    drop(first);
    server.disconnected();
    server.connected();
    drop(second);
    server.disconnected();
    assert!(server.news.try_recv().is_err());
}

#[test]
fn a_name_is_looked_up_and_all_its_addresses_are_tried() {
    let served = Served::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |host: &str| InetAddress {
        host: host.into(),
        port: listener.local_addr().unwrap().port().to_string(),
        ..InetAddress::default()
    };
    let client = served.open(Way::Dial(
        Dialer::inet_later(&address("localhost"), None).unwrap(),
    ));
    client.connected();
    let lost = served.open(Way::Dial(
        Dialer::inet_later(&address("nowhere.invalid"), None).unwrap(),
    ));
    let told = lost.news.recv_timeout(Duration::from_secs(60)).unwrap();
    let LinkNews::Failed(why) = told else {
        panic!("{told:?}")
    };
    assert!(
        why.starts_with("address resolution failed for nowhere.invalid:"),
        "{why}"
    );
}

#[test]
fn nobody_there_is_told_once() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let client = served.open(Way::Dial(Dialer::unix_later(path(&dir), None).unwrap()));
    let told = client.news.recv_timeout(LONG).unwrap();
    let at = path(&dir).path;
    let why = format!("Failed to connect to '{at}': No such file or directory");
    assert_eq!(told, LinkNews::Failed(why));
}

#[test]
fn a_stalled_peer_costs_no_memory_and_gets_every_byte_in_the_end() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let client = served.open(Way::Dial(Dialer::unix_later(path(&dir), None).unwrap()));
    let (mut peer, _) = listener.accept().unwrap();
    client.connected();
    let attachment = client.netdev.attach().unwrap();
    let mut port = attachment.port(0).unwrap();
    let mut sent = 0u32;
    while port.send(&buffers(&[&sent.to_be_bytes()[..], &[0xab; 1510]].concat())) == Sent::Done {
        sent += 1;
        assert!(sent < 100_000);
    }
    assert!(!ready(&*port, Duration::from_millis(20)));
    let reader = move |count: u32| {
        for index in 0..count {
            let mut frame = [0; 4 + 1514];
            peer.read_exact(&mut frame).unwrap();
            assert_eq!(frame[..4], 1514u32.to_be_bytes());
            assert_eq!(frame[4..8], index.to_be_bytes());
        }
        peer
    };
    #[allow(clippy::disallowed_methods)] // a test
    let reader = std::thread::spawn(move || reader(sent + 1));
    // The one that had no room is sent again.
    send(
        &mut *port,
        &[&sent.to_be_bytes()[..], &[0xab; 1510]].concat(),
    );
    // What began is finished, also when nothing more is sent.
    while !reader.is_finished() {
        ready(&*port, Duration::from_millis(50));
        let _ = port.receive(&Buffers::new()).unwrap();
    }
    let peer = reader.join().unwrap();
    assert!(
        !ready(&*port, Duration::from_millis(20)),
        "it is quiet again"
    );
    drop(peer);
}

#[test]
fn a_worker_that_waits_for_room_is_woken_when_the_peer_is_gone() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let client = served.open(Way::Dial(Dialer::unix_later(path(&dir), None).unwrap()));
    let (peer, _) = listener.accept().unwrap();
    client.connected();
    let attachment = client.netdev.attach().unwrap();
    let mut port = attachment.port(0).unwrap();
    while port.send(&buffers(&[1; 1514])) == Sent::Done {}
    drop(peer);
    assert!(ready(&*port, LONG));
    send(&mut *port, &[1; 1514]);
    client.disconnected();
}

#[test]
fn a_length_that_no_frame_has_ends_the_connection() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
    let attachment = server.netdev.attach().unwrap();
    let mut port = attachment.port(0).unwrap();
    let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    peer.write_all(&[0, 0, 0, 3, 1, 2, 3, 0x7f, 0, 0, 0])
        .unwrap();
    assert_eq!(receive(&mut *port), [1, 2, 3]);
    assert_eq!(port.receive(&buffers(&[0; 100])).unwrap(), None);
    server.disconnected();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    // The next one is served as if nothing had been.
    let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    peer.write_all(&[0, 0, 0, 2, 8, 9]).unwrap();
    assert_eq!(receive(&mut *port), [8, 9]);
}

#[test]
fn without_an_interface_frames_are_dropped_and_a_leave_is_seen() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
    let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    let frame = [&[0, 0, 0x10, 0][..], &[3; 4096]].concat();
    for _ in 0..1000 {
        peer.write_all(&frame).unwrap();
    }
    drop(peer);
    server.disconnected();
    let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    // With an interface that does not run, they wait for it.
    let attachment = server.netdev.attach().unwrap();
    peer.write_all(&[0, 0, 0, 1, 4]).unwrap();
    drop(peer);
    assert!(
        server
            .news
            .recv_timeout(Duration::from_millis(400))
            .is_err()
    );
    let mut port = attachment.port(0).unwrap();
    assert_eq!(receive(&mut *port), [4]);
    assert_eq!(port.receive(&Buffers::new()).unwrap(), None);
    server.disconnected();
    drop(port);
    // One that sent nothing is missed at once.
    let peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    drop(peer);
    server.disconnected();
}

#[test]
fn frames_that_the_driver_has_no_room_for_are_dropped() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
    let attachment = server.netdev.attach().unwrap();
    let mut port = attachment.port(0).unwrap();
    let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    let long = [&[0, 0, 0, 20][..], &[3; 20]].concat();
    peer.write_all(&[long.clone(), long, vec![0, 0, 0, 2, 8, 9]].concat())
        .unwrap();
    let room = buffers(&[0; 10]);
    while port.receive(&room).unwrap().is_none() {
        assert!(ready(&*port, LONG));
    }
    let mut got = [0; 2];
    room.read_at(0, &mut got);
    assert_eq!(got, [8, 9]);
}

#[test]
fn a_worker_may_stop_after_any_frame_and_wait() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
    let attachment = server.netdev.attach().unwrap();
    let mut port = attachment.port(0).unwrap();
    let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
    server.connected();
    peer.write_all(&[0, 0, 0, 2, 8, 9].repeat(50)).unwrap();
    for _ in 0..50 {
        assert!(ready(&*port, LONG));
        assert_eq!(receive(&mut *port), [8, 9]);
    }
    assert_eq!(port.receive(&Buffers::new()).unwrap(), None);
    assert!(!ready(&*port, Duration::from_millis(20)));
    // Also when a lie is what it holds.
    peer.write_all(&[0, 0, 0, 2, 8, 9, 0xff, 0, 0, 0]).unwrap();
    assert_eq!(receive(&mut *port), [8, 9]);
    assert!(ready(&*port, Duration::ZERO));
    assert_eq!(port.receive(&Buffers::new()).unwrap(), None);
    server.disconnected();
}

#[test]
fn datagrams_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| UnixAddress::path(dir.path().join(name).to_str().unwrap());
    let mut a = DgramSocket::unix(&at("a"), &at("b")).unwrap().into_port();
    // Nobody is there yet.
    assert_eq!(a.send(&buffers(&[1; 60])), Sent::Done);
    let mut b = DgramSocket::unix(&at("b"), &at("a")).unwrap().into_port();
    for len in [1, 60, 1514, 9014, 65_550] {
        send(&mut *a, &vec![3; len]);
        assert_eq!(receive(&mut *b), vec![3; len]);
        send(&mut *b, &vec![4; len]);
        assert_eq!(receive(&mut *a), vec![4; len]);
    }
    drop(b);
    assert!(!dir.path().join("b").exists());
    assert_eq!(a.send(&buffers(&[1; 60])), Sent::Done);
}

#[test]
fn a_crowded_receiver_of_datagrams_is_waited_for_without_spinning() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| UnixAddress::path(dir.path().join(name).to_str().unwrap());
    let mut a = DgramSocket::unix(&at("a"), &at("b")).unwrap().into_port();
    let mut b = DgramSocket::unix(&at("b"), &at("a")).unwrap().into_port();
    let mut sent = 0;
    while a.send(&buffers(&[3; 60])) == Sent::Done {
        sent += 1;
    }
    // It is told of soon, and not for ever when nobody tries again.
    let mut told = 0;
    while ready(&*a, Duration::from_millis(100)) {
        assert_eq!(a.receive(&Buffers::new()).unwrap(), None);
        told += 1;
        assert!(told < 10);
    }
    assert!(told > 1);
    assert_eq!(a.send(&buffers(&[3; 60])), Sent::Full);
    for _ in 0..sent {
        receive(&mut *b);
    }
    assert!(ready(&*a, Duration::from_secs(5)));
    assert_eq!(a.send(&buffers(&[4; 60])), Sent::Done);
    assert_eq!(receive(&mut *b), [4; 60]);
    drop(b);
    // Another one at the same place is heard, and hears.
    let mut b = DgramSocket::unix(&at("b"), &at("a")).unwrap().into_port();
    send(&mut *b, &[5; 60]);
    assert_eq!(receive(&mut *a), [5; 60]);
    send(&mut *a, &[6; 60]);
    assert_eq!(receive(&mut *b), [6; 60]);
}

#[test]
fn datagrams_are_not_lost_while_both_receivers_are_crowded() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| UnixAddress::path(dir.path().join(name).to_str().unwrap());
    let mut a = DgramSocket::unix(&at("a"), &at("b")).unwrap().into_port();
    let mut b = DgramSocket::unix(&at("b"), &at("a")).unwrap().into_port();
    // Frames carry their number; both sides send until they must not, and then take what came.
    let fill = |from: &mut dyn NetPort, next: &mut u32| {
        while from.send(&buffers(&next.to_be_bytes())) == Sent::Done {
            *next += 1;
        }
    };
    let (mut sent_a, mut sent_b, mut got_a, mut got_b) = (0, 0, 0, 0);
    for _ in 0..50 {
        fill(&mut *a, &mut sent_a);
        fill(&mut *b, &mut sent_b);
        while got_b < sent_a {
            assert_eq!(receive(&mut *b), u32::to_be_bytes(got_b));
            got_b += 1;
            // Room for one: what waits for it goes, and takes nothing away.
            if b.send(&buffers(&sent_b.to_be_bytes())) == Sent::Done {
                sent_b += 1;
            }
        }
        while got_a < sent_b {
            assert_eq!(receive(&mut *a), u32::to_be_bytes(got_a));
            got_a += 1;
        }
    }
    assert!(sent_a > 50 && sent_b > 50);
}

#[test]
fn udp_goes_to_one_and_to_a_group() {
    let free = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let (one, two) = (free(), free());
    let mut a = DgramSocket::udp(one, two).unwrap().into_port();
    let mut b = DgramSocket::udp(two, one).unwrap().into_port();
    send(&mut *a, &[3; 1514]);
    assert_eq!(receive(&mut *b), [3; 1514]);
    assert_eq!(
        b.send(&buffers(&vec![1; 70_000])),
        Sent::Done,
        "too long for a datagram"
    );
    let group = std::net::SocketAddrV4::new([239, 77, 1, 9].into(), free().port());
    let own = Some(std::net::Ipv4Addr::LOCALHOST);
    let members: Option<Vec<_>> = (0..3)
        .map(|_| {
            DgramSocket::multicast(group, own)
                .ok()
                .map(DgramSocket::into_port)
        })
        .collect();
    let mut members = members.unwrap();
    send(&mut *members[0], &[8; 60]);
    for member in &mut members {
        assert_eq!(receive(&mut **member), [8; 60]);
    }
}

#[test]
fn a_hub_gives_each_frame_to_all_others() {
    let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
    let (server, client) = pair(&served, &dir);
    let mut hubs = Hubs::default();
    let hub = hubs.get(3);
    let mut nics = [hub.port("a").unwrap(), hub.port("b").unwrap()];
    let member = hub
        .connect("c", server.netdev.attach().unwrap(), &served.0)
        .unwrap();
    assert_eq!(hub.ports(), ["c", "b", "a"]);
    let far = client.netdev.attach().unwrap();
    let mut far = far.port(0).unwrap();
    send(&mut *nics[0], &[1; 60]);
    assert_eq!(receive(&mut *nics[1]), [1; 60]);
    assert_eq!(receive(&mut *far), [1; 60]);
    assert_eq!(nics[0].receive(&buffers(&[0; 60])).unwrap(), None);
    assert!(!ready(&*nics[1], Duration::ZERO));
    send(&mut *far, &[2; 60]);
    for nic in &mut nics {
        assert_eq!(receive(&mut **nic), [2; 60]);
    }
    // Nobody takes these: some are kept, the others are dropped.
    for _ in 0..5000 {
        send(&mut *nics[0], &[9; 60]);
    }
    let room = buffers(&[0; 60]);
    let kept = std::iter::from_fn(|| nics[1].receive(&room).unwrap()).count();
    assert_eq!(kept, 512);
    let [first, last] = nics;
    drop((first, member));
    assert!(!server.netdev.in_use());
    assert_eq!(hub.ports(), ["b"]);
    drop((hub, last));
    assert!(hubs.all().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A peer that closes at any byte, and the next one from the beginning.
    #[test]
    fn a_connection_may_be_cut_anywhere(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 1..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let (served, dir) = (Served::start(), tempfile::tempdir().unwrap());
        let server = served.open(Way::Listen(Listener::unix(&path(&dir)).unwrap()));
        let attachment = server.netdev.attach().unwrap();
        let mut port = attachment.port(0).unwrap();
        let mut bytes = Vec::new();
        let ends: Vec<usize> = frames.iter().map(|frame| {
            bytes.extend((frame.len() as u32).to_be_bytes());
            bytes.extend(frame);
            bytes.len()
        }).collect();
        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
        server.connected();
        peer.write_all(&bytes[..cut]).unwrap();
        for frame in &frames[..whole] {
            prop_assert_eq!(&receive(&mut *port), frame);
        }
        drop(peer);
        ready(&*port, LONG);
        prop_assert_eq!(port.receive(&buffers(&[0; 3000])).unwrap(), None);
        server.disconnected();
        let mut peer = UnixStream::connect(dir.path().join("s")).unwrap();
        server.connected();
        peer.write_all(&bytes).unwrap();
        for frame in &frames {
            prop_assert_eq!(&receive(&mut *port), frame);
        }
    }
}
