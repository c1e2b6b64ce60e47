//! Files for guests that boot from the network.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;

use super::guest::Guest;
use super::network::{HOST, Network, assert_same, config, noise};

/// RFC 1350: asks for a file; its bytes, or the error's number.
fn fetch(guest: &mut Guest, port: u16, name: &str) -> Result<Vec<u8>, u8> {
    let socket = guest.udp(port);
    let mut ask = vec![0, 1];
    ask.extend_from_slice(name.as_bytes());
    ask.extend_from_slice(b"\0octet\0");
    let mut to = IpEndpoint::new(HOST.into(), 69);
    let mut content = Vec::new();
    loop {
        let (data, from) = guest.exchange(socket, to, &ask);
        match data[1] {
            3 => {
                content.extend_from_slice(&data[4..]);
                ask = vec![0, 4, data[2], data[3]];
                to = from;
                if data.len() < 4 + 512 {
                    guest
                        .sockets
                        .get_mut::<udp::Socket>(socket)
                        .send_slice(&ask, to)
                        .unwrap();
                    return Ok(content);
                }
            }
            5 => return Err(data[3]),
            other => panic!("operation {other}"),
        }
    }
}

#[test]
fn files_of_the_directory_are_served_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let content = noise(300_000);
    std::fs::write(directory.path().join("kernel"), &content).unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    std::fs::write(directory.path().join("sub/small"), b"x").unwrap();
    symlink("/etc/hostname", directory.path().join("outside")).unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    symlink(secret.path(), directory.path().join("secret")).unwrap();

    let mut config = config();
    config.tftp = Some(directory.path().to_str().unwrap().to_owned());
    config.ipv4.dhcp_start = Ipv4Addr::new(10, 0, 2, 40);
    let (_network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    assert_same(&fetch(&mut guest, 2000, "kernel").unwrap(), &content);
    assert_same(&fetch(&mut guest, 2001, "/sub/small").unwrap(), b"x");
    assert_eq!(fetch(&mut guest, 2002, "missing"), Err(1));
    assert!(fetch(&mut guest, 2003, "../../../../etc/hostname").is_err());
    if landlock() {
        assert!(fetch(&mut guest, 2004, "secret").is_err());
    }
}

#[allow(unsafe_code)] // a system call
fn landlock() -> bool {
    // SAFETY: asks for the version, with no memory.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) > 0 }
}
