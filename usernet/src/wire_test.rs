use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;

fn forward() -> HostForward {
    HostForward {
        protocol: Protocol::Tcp,
        host: Ipv4Addr::LOCALHOST,
        host_port: 8080,
        guest: Ipv4Addr::UNSPECIFIED,
        guest_port: 80,
    }
}

#[test]
fn values_arrive_in_order_and_in_pieces() {
    let (here, there) = UnixStream::pair().unwrap();
    send(&here, &Ask::Info, &[]).unwrap();
    send(&here, &Ask::AddHostForward(forward()), &[]).unwrap();
    let mut reader = Reader::new();
    assert_eq!(reader.next::<Ask>(&there).unwrap(), Some(Ask::Info));
    let second = reader.next::<Ask>(&there).unwrap();
    assert_eq!(second, Some(Ask::AddHostForward(forward())));

    (&here).write_all(b"\"In").unwrap();
    there.set_nonblocking(true).unwrap();
    let early = reader.next::<Ask>(&there).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    (&here).write_all(b"fo\"\n").unwrap();
    assert_eq!(reader.next::<Ask>(&there).unwrap(), Some(Ask::Info));
    drop(here);
    assert_eq!(reader.next::<Ask>(&there).unwrap(), None);
}

#[test]
fn descriptors_come_along() {
    let (here, there) = UnixStream::pair().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    send(&here, &Answer::Ok("x".into()), &[far.as_fd(), near.as_fd()]).unwrap();
    drop((near, far));
    let mut reader = Reader::new();
    assert_eq!(reader.next::<Answer>(&there).unwrap(), Some(Ok("x".into())));
    let fds = reader.take_fds();
    let [far, near]: [OwnedFd; 2] = fds.try_into().unwrap();
    UnixStream::from(far).write_all(b"hello").unwrap();
    let mut text = String::new();
    UnixStream::from(near).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn nonsense_is_refused() {
    for nonsense in [
        "\n",
        "{}\n",
        "nonsense\n",
        "\"Info\" \"Info\"\n",
        "{\"AddHostForward\":{}}\n",
    ] {
        let (here, there) = UnixStream::pair().unwrap();
        (&here).write_all(nonsense.as_bytes()).unwrap();
        let error = Reader::new().next::<Ask>(&there).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{nonsense:?}");
    }
    let (here, _there) = UnixStream::pair().unwrap();
    let many = vec![here.as_fd(); FDS_MAX + 1];
    assert!(send(&here, &Ask::Info, &many).is_err());
}
