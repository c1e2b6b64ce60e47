use super::*;
use crate::test_certificates::Setup;
use crate::{Gate, Role};
use std::io::Write;
use std::net::TcpListener;

struct Place {
    setup: Setup,
    listener: TcpListener,
    server: Gate,
    lobby: Lobby,
}

impl Place {
    fn new(limits: Limits) -> Self {
        let setup = Setup::new();
        let server = setup.gate(Role::Server, true);
        Place {
            setup,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            server,
            lobby: Lobby::new("test", limits).unwrap(),
        }
    }

    /// A peer, and its other end in the lobby.
    fn peer(&mut self) -> TcpStream {
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (ours, from) = self.listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let session = self.server.open().unwrap();
        self.lobby.admit(ours.into(), session, from.to_string());
        peer
    }

    fn turn(&mut self) -> Vec<Guest> {
        self.lobby.turn();
        std::iter::from_fn(|| self.lobby.next_guest()).collect()
    }

    fn shake(&mut self, peer: &mut TcpStream) -> Vec<Guest> {
        peer.set_nonblocking(true).unwrap();
        let mut session = self.setup.gate(Role::Client, true).open().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            session.shake_hands(peer).unwrap();
            let guests = self.turn();
            if !guests.is_empty() {
                return guests;
            }
        }
        Vec::new()
    }
}

#[test]
fn those_who_stall_do_not_keep_others_out() {
    let mut place = Place::new(Limits::default());
    let _silent: Vec<TcpStream> = (0..5).map(|_| place.peer()).collect();
    let mut noisy = place.peer();
    noisy.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut peer = place.peer();
    let guests = place.shake(&mut peer);
    assert_eq!(guests.len(), 1);
    assert_eq!(guests[0].session.identity(), Some("O=Test,CN=client"));
    assert_eq!(place.lobby.strangers.len(), 5);
    place.lobby.clear();
    assert!(place.lobby.is_empty());
}

#[test]
fn time_is_limited() {
    let time = Duration::from_millis(50);
    let mut place = Place::new(Limits {
        time,
        ..Limits::default()
    });
    let mut peer = place.peer();
    assert!(place.turn().is_empty());
    let deadline = place.lobby.deadline().unwrap();
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    assert!(place.turn().is_empty());
    assert!(place.lobby.is_empty());
    let mut rest = Vec::new();
    // It was told goodbye, or at least is alone.
    let _ = io::Read::read_to_end(&mut peer, &mut rest);
}

#[test]
fn a_flood_pushes_out_its_own() {
    let limits = Limits {
        all: 8,
        from_one: 4,
        ..Limits::default()
    };
    let mut place = Place::new(limits);
    let flood: Vec<TcpStream> = (0..100).map(|_| place.peer()).collect();
    assert_eq!(place.lobby.strangers.len(), 4);
    let mut peer = place.peer();
    assert_eq!(place.shake(&mut peer).len(), 1);
    drop(flood);
    place.lobby.turn();
    assert!(place.lobby.is_empty());
}

#[test]
fn the_descriptor_tells_of_news() {
    let mut place = Place::new(Limits::default());
    let poll = Poll::new().unwrap();
    let raw = place.lobby.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&raw), Token(0), Interest::READABLE)
        .unwrap();
    let mut poll = poll;
    let mut events = Events::with_capacity(4);
    let mut told = |poll: &mut Poll| {
        poll.poll(&mut events, Some(Duration::from_millis(200)))
            .unwrap();
        !events.is_empty()
    };
    let mut peer = place.peer();
    assert!(told(&mut poll));
    place.lobby.turn();
    for _ in 0..3 {
        assert!(!told(&mut poll));
        peer.write_all(&[0x16]).unwrap();
        assert!(told(&mut poll));
        place.lobby.turn();
    }
}
