use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use api_spec::{InetSocketAddress, UnixSocketAddress};

use super::super::listen::Door;
use super::*;
use crate::armour::launcher::on_a_thread;

const GREETING: &[u8] = b"greeting";

fn path(name: &str) -> PathBuf {
    let name = format!("qvmd-transport-{}-{name}", std::process::id());
    std::env::temp_dir().join(name)
}

fn unix_address(path: &std::path::Path) -> Address {
    Address::Unix(UnixSocketAddress {
        path: path.display().to_string(),
        r#abstract: None,
        tight: None,
    })
}

fn tcp_address(port: &str) -> Address {
    Address::Tcp(InetSocketAddress {
        host: "127.0.0.1".into(),
        port: port.into(),
        numeric: None,
        to: None,
        ipv4: None,
        ipv6: None,
        keep_alive: None,
    })
}

fn outward(address: Address) -> QmpResult<Route> {
    Route::outward(address, &mut FdStore::default(), 0, &on_a_thread())
}

fn inward(address: Address) -> QmpResult<Door> {
    Door::inward(address, &mut FdStore::default(), 0, &on_a_thread())
}

/// Sends over the first channel, and over one more, and reads on the other side.
fn travel(from: Address, door: Door) {
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let cancel = &cancel;
        scope.spawn(move || {
            let mut link = outward(from).unwrap().open(cancel).unwrap();
            File::from(link.main.fd).write_all(GREETING).unwrap();
            let more = (link.more)(cancel).unwrap();
            File::from(more.fd).write_all(b"more").unwrap();
        });
        let mut link = door.open(GREETING, cancel).unwrap();
        let mut text = String::new();
        File::from(link.main.fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "greeting");
        text.clear();
        let more = (link.more)(cancel).unwrap();
        assert_eq!(more.kind, ChannelKind::Duplex);
        File::from(more.fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "more");
    });
}

#[test]
fn over_tcp_at_a_port_of_the_systems_choice() {
    let door = inward(tcp_address("0")).unwrap();
    let at = door.listens_at().unwrap();
    let api_spec::SocketAddressBranch::Inet(at) = at.r#type else {
        panic!("{at:?}");
    };
    assert_ne!(at.port, "0");
    travel(tcp_address(&at.port), door);
    let cancel = Cancel::new().unwrap();
    let error = outward(tcp_address(&at.port)).unwrap().open(&cancel);
    let why = format!(
        "Failed to connect to '127.0.0.1:{}': Connection refused",
        at.port
    );
    assert_eq!(error.err(), Some(Broken::Failed(why)));
}

#[test]
fn over_a_unix_socket_whose_path_goes() {
    let path = path("unix");
    let door = inward(unix_address(&path)).unwrap();
    assert!(path.exists());
    travel(unix_address(&path), door);
    assert!(!path.exists());
    let cancel = Cancel::new().unwrap();
    let error = outward(unix_address(&path)).unwrap().open(&cancel);
    let why = format!(
        "Failed to connect to '{}': No such file or directory",
        path.display()
    );
    assert_eq!(error.err(), Some(Broken::Failed(why)));
}

#[test]
fn strangers_are_sent_away() {
    let path = path("strangers");
    let door = inward(unix_address(&path)).unwrap();
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        let at = &path;
        scope.spawn(move || {
            let mut stranger = UnixStream::connect(at).unwrap();
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            drop(UnixStream::connect(at).unwrap());
            let mut half = UnixStream::connect(at).unwrap();
            half.write_all(b"gree").unwrap();
            half.shutdown(std::net::Shutdown::Write).unwrap();
            let mut friend = UnixStream::connect(at).unwrap();
            friend.write_all(GREETING).unwrap();
            assert_eq!(stranger.read(&mut [0; 8]).unwrap_or(0), 0);
        });
        let link = door.open(GREETING, &cancel).unwrap();
        let mut text = [0; 8];
        File::from(link.main.fd).read_exact(&mut text).unwrap();
        assert_eq!(text, GREETING);
    });
}

#[test]
fn a_wait_is_called_off() {
    let begun = Instant::now();
    let path = path("wait");
    let door = inward(unix_address(&path)).unwrap();
    let cancel = Cancel::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            cancel.cancel();
        });
        let end = door.open(GREETING, &cancel).err();
        assert_eq!(end, Some(Broken::Cancelled));
    });
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_file_keeps_what_is_before_the_offset() {
    let path = path("file");
    std::fs::write(&path, b"0123456789").unwrap();
    let address = |offset| Address::File {
        path: path.display().to_string(),
        offset,
    };
    let cancel = Cancel::new().unwrap();
    let link = outward(address(4)).unwrap().open(&cancel).unwrap();
    assert_eq!(link.main.kind, ChannelKind::File { offset: 4 });
    assert_eq!(std::fs::read(&path).unwrap(), b"0123");
    let mut link = inward(address(4)).unwrap().open(GREETING, &cancel).unwrap();
    assert_eq!((link.more)(&cancel).unwrap().kind, link.main.kind);
    std::fs::remove_file(&path).unwrap();
    let error = inward(address(0)).err().unwrap();
    let why = format!(
        "Could not open '{}': No such file or directory",
        path.display()
    );
    assert_eq!(error.desc, why);
}

#[test]
fn a_file_that_somebody_has_mapped_is_not_emptied() {
    let path = path("mapped");
    std::fs::write(&path, b"0123456789").unwrap();
    let address = || Address::File {
        path: path.display().to_string(),
        offset: 0,
    };
    let reader = File::open(&path).unwrap();
    placed::lock(&reader, 0, Use::Read).unwrap();
    let error = outward(address()).err().unwrap();
    let why = format!(
        "Could not create '{}': The file is in use by another process",
        path.display()
    );
    assert_eq!(error.desc, why);
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
    drop(reader);
    assert!(outward(address()).is_ok());
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_pipe_among_the_files_is_not_waited_for() {
    let path = path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let address = || Address::File {
        path: path.display().to_string(),
        offset: 0,
    };
    let error = outward(address()).err().unwrap();
    let why = format!(
        "Could not create '{}': No such device or address",
        path.display()
    );
    assert_eq!(error.desc, why);
    assert!(inward(address()).is_ok());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn descriptors_are_what_they_are() {
    let (a, _b) = UnixStream::pair().unwrap();
    assert_eq!(channel_of(a.into()).unwrap().kind, ChannelKind::Duplex);
    let (read, _write) = sys::pipe().unwrap();
    assert_eq!(channel_of(read).unwrap().kind, ChannelKind::OneWay);
    let (a, _b) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(channel_of(a.into()).is_err());
    let here = File::open("/tmp").unwrap();
    assert!(channel_of(here.into()).is_err());
    let mut fds = FdStore::default();
    let error = take_fd(&mut fds, 0, "nix").unwrap_err();
    assert_eq!(error.desc, "File descriptor named 'nix' has not been found");
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    let (_, number) = fds.add_fd(None, None, vec![file]).unwrap();
    take_fd(&mut fds, 0, &number.to_string()).unwrap();
    assert!(take_fd(&mut fds, 0, "987654").is_err());
}
