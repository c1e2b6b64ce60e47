//! Birth, nonsense, and the ways to end.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use usernet::wire::{Ask, Protocol, Target};

use super::guest::Guest;
use super::network::{Network, SERVER, config, forward, guest_forward, noise};

fn ends(network: &mut Network) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = network.child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < end, "the child lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_ends_with_the_control_socket() {
    let (mut network, frames) = Network::start(&config());
    network.control.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(ends(&mut network), Some(0));
    drop(frames);
}

#[test]
fn it_ends_with_the_frames_socket() {
    let (mut network, frames) = Network::start(&config());
    drop(frames);
    assert_eq!(ends(&mut network), Some(0));
}

#[test]
fn it_ends_when_it_is_told_nonsense() {
    for nonsense in ["{}\n", "nonsense\n", "\"Info\"\n"] {
        let (mut network, _frames) = Network::spawn();
        network.control.write_all(nonsense.as_bytes()).unwrap();
        assert_eq!(ends(&mut network), Some(1), "{nonsense:?}");
    }
    let (mut network, _frames) = Network::start(&config());
    network.control.write_all(b"\"Nothing\"\n").unwrap();
    assert_eq!(ends(&mut network), Some(1));
}

#[test]
fn it_is_not_for_hands() {
    let output = Command::new(env!("CARGO_BIN_EXE_qvmd-usernet"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not by hand"));
}

#[test]
fn programs_are_no_longer_run_when_it_is_killed() {
    let mut config = config();
    config.guest_forwards = vec![guest_forward(7, Target::Command("cat".into()))];
    let (mut network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let socket = guest.connect(SERVER, 7);
    guest.converse(socket, b"x", 1);
    let pid = network.child.id();
    let launcher = children(pid);
    assert_eq!(launcher.len(), 1);
    let programs = children(launcher[0]);
    assert_eq!(programs.len(), 1);
    network.child.kill().unwrap();
    assert_eq!(ends(&mut network), None);
    let end = Instant::now() + Duration::from_secs(10);
    for pid in [launcher[0], programs[0]] {
        while alive(pid) {
            assert!(Instant::now() < end, "{pid} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Not counting one whose parent does not look.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

#[test]
fn garbage_of_a_guest_harms_nobody() {
    let (forward, address) = forward(Protocol::Tcp, 80);
    let mut config = config();
    config.host_forwards = vec![forward];
    let (mut network, frames) = Network::start(&config);
    let mut guest = Guest::new(frames);
    let noise = noise(1 << 20);
    let mut at = 0;
    // Frames that get ever further into the stack: bare noise, then with a good beginning.
    let ether = [0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
    let starts: [&[u8]; 6] = [
        &[],
        &[0x08, 0x06],
        &[0x08, 0x00, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6],
        &[0x08, 0x00, 0x45, 0, 5, 0, 0, 0, 0x20, 0, 64, 17],
        &[0x08, 0x00, 0x4f, 0, 0, 20, 0, 0, 0, 0, 64, 1],
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 255],
    ];
    for round in 0..3000 {
        let start = starts[round % starts.len()];
        let len = 1 + usize::from(noise[at]) * 6 % 1500;
        at = (at + len) % (noise.len() - 2048);
        let mut frame = if round % 7 == 0 {
            Vec::new()
        } else {
            [&ether, start].concat()
        };
        frame.extend_from_slice(&noise[at..at + len]);
        guest.wire.send(&frame);
    }
    guest.wire.send(&[0; 65_000]);
    while guest.wire.receive().is_some() {}
    assert!(network.ask(&Ask::Info).is_ok());
    let socket = guest.listen(80);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"still here").unwrap();
    assert_eq!(guest.converse(socket, b"", 10), b"still here");
}

#[test]
fn it_has_given_up_what_it_does_not_need() {
    let (network, _frames) = Network::start(&config());
    let status = fs::read_to_string(format!("/proc/{}/status", network.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    // At most what ports below 1024 take.
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    assert_eq!(capabilities & !(1 << 10), 0);
    assert_eq!(field("CapPrm:"), field("CapEff:"));
}
