//! What tests of networks have in common: networks of the host, and bytes that go over them.
#![allow(clippy::disallowed_methods)] // The rule for threads is for those of the program.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::Serial;

/// A busy lab takes its time.
pub const LIMIT: Duration = Duration::from_secs(90);
/// So much goes each way.
const PAYLOAD: usize = 1 << 20;

/// Runs a program of the host that must succeed.
pub fn host(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", line]).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {text}{errors}");
    text
}

/// Networks are made only where nobody else is.
pub fn in_lab() -> bool {
    let lab = std::env::var_os("QVMD_LAB").is_some() && Path::new("/dev/net/tun").exists();
    if !lab {
        eprintln!("skipped: networks of the host are changed in the lab only");
    }
    lab
}

/// Waits in the guest until a test of its shell holds.
pub fn until(serial: &mut Serial, test: &str) {
    let limit = LIMIT.as_secs();
    serial.run(&format!(
        "end=$(($(date +%s)+{limit})); until {test} || [ $(date +%s) -gt $end ]; do sleep 0.1; done; {test}"
    ));
}

/// Waits until an interface's cable is in (1) or out (0).
pub fn carrier(serial: &mut Serial, interface: &str, there: u8) {
    until(
        serial,
        &format!("test $(cat /sys/class/net/{interface}/carrier) = {there}"),
    );
}

/// Waits until the guest reaches that address, in frames of this size.
pub fn reaches(serial: &mut Serial, address: &str, size: u32) {
    until(
        serial,
        &format!("ping -c 1 -W 1 -s {size} {address} >/dev/null"),
    );
}

/// Bytes that are not the same twice.
fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// As `md5sum` prints it.
fn checksum(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bytes");
    fs::write(&path, bytes).expect("a file");
    host(&format!("md5sum <{}", path.display()))
        .trim_end()
        .to_owned()
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.set_write_timeout(Some(LIMIT)).expect("a limit");
    stream
}

/// Calls the guest until it answers.
fn connect(address: &str) -> TcpStream {
    let end = Instant::now() + LIMIT;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return limited(stream),
            Err(error) => assert!(Instant::now() < end, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let port = listener.local_addr().expect("its number").port();
    (listener, port)
}

/// The same bytes to the guest, which has `there`, and back to the host, which has `here`.
pub fn exchange(serial: &mut Serial, here: &str, there: &str) {
    let bytes = payload(PAYLOAD);
    let sender = {
        let (bytes, address) = (bytes.clone(), format!("{there}:5000"));
        std::thread::spawn(move || connect(&address).write_all(&bytes).expect("sent"))
    };
    // With the console as its input it would be stopped when something is typed.
    serial.run("nc -l -p 5000 </dev/null >/got");
    sender.join().expect("the sender");
    assert_eq!(serial.run("wc -c </got"), PAYLOAD.to_string());
    assert_eq!(serial.run("md5sum </got"), checksum(&bytes));

    let (listener, port) = listen(here);
    let receiver = std::thread::spawn(move || {
        let mut back = Vec::new();
        let mut stream = limited(listener.accept().expect("the guest").0);
        stream.read_to_end(&mut back).expect("all of it");
        back
    });
    serial.run(&format!("nc {here} {port} </got; rm /got"));
    let back = receiver.join().expect("the receiver");
    assert!(
        back == bytes,
        "what came back differs: {} bytes",
        back.len()
    );
}

/// A file from one guest to another, which has that address. Who listens has an input that does not
/// end, or it would end the connection.
pub fn transfer(from: &mut Serial, to: &mut Serial, address: &str) {
    from.run(&format!(
        "dd if=/dev/urandom of=/sent bs={PAYLOAD} count=1 2>/dev/null"
    ));
    let sum = from.run("md5sum </sent");
    to.run("test -p /open || mkfifo /open");
    std::thread::scope(|scope| {
        scope.spawn(|| to.run("nc -l -p 7000 <>/open >/got"));
        from.run(&format!(
            "until nc {address} 7000 </sent; do sleep 0.2; done"
        ));
    });
    assert_eq!(to.run("wc -c </got"), PAYLOAD.to_string());
    assert_eq!(to.run("md5sum </got"), sum);
}

/// Runs a line of the guest's shell besides. It is no child of the shell, which does not wait for it.
pub fn besides(serial: &mut Serial, line: &str) {
    serial.run(&format!("({line} &)"));
}

/// Bytes without end from the guest to the host, which has that address; begun when this returns.
/// The result is how many came until the connection broke or nothing came for some seconds.
pub fn flood(serial: &mut Serial, here: &str) -> JoinHandle<u64> {
    let (listener, port) = listen(here);
    besides(
        serial,
        &format!("nc {here} {port} </dev/zero >/dev/null 2>&1"),
    );
    let (mut stream, _) = listener.accept().expect("the guest");
    let quiet = Some(Duration::from_secs(5));
    stream.set_read_timeout(quiet).expect("a limit");
    let mut buffer = vec![0; 1 << 16];
    let first = stream.read(&mut buffer).expect("its first bytes");
    std::thread::spawn(move || {
        let mut total = first as u64;
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            total += len as u64;
        }
        total
    })
}

/// Ends what [`flood`] began in the guest.
pub fn dry(serial: &mut Serial) {
    serial.run("killall -9 nc; true");
}
