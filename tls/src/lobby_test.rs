use super::*;
use crate::test_certificates::Maker;
use crate::{Credentials, CredentialsOptions, Gate, Role};
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use tempfile::TempDir;

fn gate(dir: &TempDir, role: Role) -> Gate {
    let options = CredentialsOptions {
        dir: dir.path().to_owned(),
        role,
        verify_peer: true,
        sanity_check: true,
        priority: None,
    };
    let credentials = Credentials::load(options, &|path| std::fs::read(path)).unwrap();
    Gate::new(Arc::new(credentials), role, Some("127.0.0.1"), None).unwrap()
}

struct Setup {
    dir: TempDir,
    listener: TcpListener,
    server: Gate,
    lobby: Lobby,
}

impl Setup {
    fn new(limits: Limits) -> Self {
        let dir = TempDir::new().unwrap();
        Maker::new().fill(dir.path());
        let server = gate(&dir, Role::Server);
        Setup {
            dir,
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
        let mut session = gate(&self.dir, Role::Client).open().unwrap();
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
    let mut setup = Setup::new(Limits::default());
    let _silent: Vec<TcpStream> = (0..5).map(|_| setup.peer()).collect();
    let mut noisy = setup.peer();
    noisy.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut peer = setup.peer();
    let guests = setup.shake(&mut peer);
    assert_eq!(guests.len(), 1);
    assert_eq!(guests[0].session.identity(), Some("O=Test,CN=client"));
    assert_eq!(setup.lobby.strangers.len(), 5);
    setup.lobby.clear();
    assert!(setup.lobby.is_empty());
}

#[test]
fn time_is_limited() {
    let time = Duration::from_millis(50);
    let mut setup = Setup::new(Limits {
        time,
        ..Limits::default()
    });
    let mut peer = setup.peer();
    assert!(setup.turn().is_empty());
    let deadline = setup.lobby.deadline().unwrap();
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    assert!(setup.turn().is_empty());
    assert!(setup.lobby.is_empty());
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
    let mut setup = Setup::new(limits);
    let flood: Vec<TcpStream> = (0..100).map(|_| setup.peer()).collect();
    assert_eq!(setup.lobby.strangers.len(), 4);
    let mut peer = setup.peer();
    assert_eq!(setup.shake(&mut peer).len(), 1);
    drop(flood);
    setup.lobby.turn();
    assert!(setup.lobby.is_empty());
}

#[test]
fn the_descriptor_tells_of_news() {
    let mut setup = Setup::new(Limits::default());
    let poll = Poll::new().unwrap();
    let raw = setup.lobby.as_raw_fd();
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
    let mut peer = setup.peer();
    assert!(told(&mut poll));
    setup.lobby.turn();
    for _ in 0..3 {
        assert!(!told(&mut poll));
        peer.write_all(&[0x16]).unwrap();
        assert!(told(&mut poll));
        setup.lobby.turn();
    }
}
