//! The name server in the guest's network passes questions on to the host's.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use smoltcp::wire::IpEndpoint;

use super::guest::Guest;
use super::network::{Network, config};

const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04qvmd\x04test\0\0\x01\0\x01";

/// In a network and a file system of its own, where the host's name server is ours.
#[test]
fn questions_are_passed_on_to_the_hosts_name_server() {
    let ways = [
        &["--net", "--mount"][..],
        &["--user", "--map-root-user", "--net", "--mount"],
    ];
    let allowed = |way: &&[&str]| {
        let tried = Command::new("unshare").args(*way).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    };
    let Some(way) = ways.into_iter().find(allowed) else {
        return eprintln!("no namespaces here: not tested");
    };
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let test = std::env::current_exe().unwrap();
    let script = "ip link set lo up && mount --bind \"$0\" \"$(realpath /etc/resolv.conf)\" \
        && exec \"$1\" --ignored --exact names::inside --nocapture";
    let output = Command::new("unshare")
        .args(way)
        .args(["sh", "-c", script])
        .args([file.as_os_str(), test.as_os_str()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{output:?}"
    );
}

#[test]
#[ignore = "run by the test before it, in namespaces"]
fn inside() {
    let server = UdpSocket::bind("127.0.0.1:53").unwrap();
    let (_network, frames) = Network::start(&config());
    let mut guest = Guest::new(frames);
    let socket = guest.udp(4000);
    #[allow(clippy::disallowed_methods)] // a test's peer
    let serving = std::thread::spawn(move || {
        let mut room = [0; 512];
        let (len, from) = server.recv_from(&mut room).unwrap();
        let mut answer = room[..len].to_vec();
        answer[2] |= 0x80;
        answer.extend_from_slice(b"answered");
        server.send_to(&answer, from).unwrap();
        len
    });
    let to = IpEndpoint::new(Ipv4Addr::new(10, 0, 2, 3).into(), 53);
    let (answer, from) = guest.exchange(socket, to, QUESTION);
    assert_eq!(serving.join().unwrap(), QUESTION.len());
    assert_eq!(from, to);
    assert!(answer.ends_with(b"answered"));
}
