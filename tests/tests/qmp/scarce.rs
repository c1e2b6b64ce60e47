//! What becomes of those who come while the program has no descriptors left.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::binary::skip_on_stand_in;
use tests::certificates::credentials;
use tests::{Qmp, Vm, VmBuilder, seconds, sys};

/// Fewer than the program has, and enough again.
const TOO_FEW: u64 = 3;
const ENOUGH: u64 = 1024;

fn skipped() -> bool {
    skip_on_stand_in("it waits for the next client, or goes round and round")
}

/// What the processor did for it, in the ticks of /proc.
fn work(vm: &Vm) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", vm.pid())).expect("a process");
    let words = stat.rsplit(')').next().unwrap_or_default();
    let numbers = words.split_whitespace().map(|word| word.parse::<u64>());
    // utime and stime are the 14th and 15th of all.
    numbers.skip(11).take(2).map(|n| n.unwrap_or(0)).sum()
}

fn connected(vm: &mut Vm, label: &str) -> bool {
    let list = vm.query("query-chardev");
    let list = list.as_array().expect("a list");
    let entry = list.iter().find(|entry| entry["label"] == label);
    let name = entry.expect("listed")["filename"].as_str().expect("a name");
    !name.starts_with("disconnected:")
}

#[test]
fn a_port_takes_its_client_when_there_are_descriptors_again() {
    if skipped() {
        return;
    }
    let builder = VmBuilder::new().idle();
    let path = builder.path("port.sock");
    let mut vm = builder
        .arg("-chardev")
        .arg(format!(
            "socket,id=port,path={},server=on,wait=off",
            path.display()
        ))
        .args([
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtserialport,chardev=port",
        ])
        .start();
    sys::limit_descriptors(vm.pid(), TOO_FEW);
    let _client = UnixStream::connect(&path).expect("it listens");
    let before = work(&vm);
    std::thread::sleep(Duration::from_millis(500));
    // It looks again now and then, and not all the time.
    assert!(work(&vm) - before < 25, "it is busy");
    assert!(!connected(&mut vm, "port"));
    sys::limit_descriptors(vm.pid(), ENOUGH);
    let until = Instant::now() + seconds(10);
    while !connected(&mut vm, "port") {
        assert!(Instant::now() < until, "nobody takes the client");
        std::thread::sleep(Duration::from_millis(20));
    }
    vm.quit();
}

#[test]
fn a_monitor_greets_its_client_when_there_are_descriptors_again() {
    if skipped() {
        return;
    }
    let mut vm = VmBuilder::new().none().monitors(2).start();
    sys::limit_descriptors(vm.pid(), TOO_FEW);
    let mut late = Qmp::connect_raw(&vm.monitor(1));
    let before = work(&vm);
    std::thread::sleep(Duration::from_millis(500));
    assert!(work(&vm) - before < 25, "it is busy");
    vm.query("query-status");
    // What needs a descriptor is refused, and nothing else is.
    let error = vm.refused(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": "/dev/null"}),
    );
    assert!(error.desc.contains("Too many open files"), "{error}");
    sys::limit_descriptors(vm.pid(), ENOUGH);
    late.set_limit(seconds(10));
    late.negotiate();
    late.query("query-status");
    vm.quit();
}

fn descriptors(vm: &Vm) -> Vec<u64> {
    let list = std::fs::read_dir(format!("/proc/{}/fd", vm.pid())).expect("descriptors");
    let names = list.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// Both are at the door at once, and there is room for one.
#[test]
fn the_second_of_two_strangers_is_not_forgotten() {
    if skipped() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let door = listener.local_addr().expect("its address");
    drop(listener);
    let keys = credentials("Ours");
    let mut vm = VmBuilder::new()
        .none()
        .arg("-object")
        .arg(format!(
            "tls-creds-x509,id=tls,endpoint=server,dir={}",
            keys.path().display()
        ))
        .arg("-chardev")
        .arg(format!(
            "socket,id=port,host=127.0.0.1,port={},server=on,wait=off,tls-creds=tls",
            door.port()
        ))
        .start();
    vm.query("query-status");
    let before = descriptors(&vm);
    let free = (0..).find(|number| !before.contains(number));
    vm.signal(libc::SIGSTOP);
    let _both = [(); 2].map(|()| TcpStream::connect(door).expect("it listens"));
    sys::limit_descriptors(vm.pid(), free.expect("a number") + 1);
    vm.signal(libc::SIGCONT);
    let until = Instant::now() + seconds(5);
    let reaches = |vm: &Vm, count| {
        while descriptors(vm).len() < count {
            assert!(Instant::now() < until, "it does not come to {count}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    reaches(&vm, before.len() + 1);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(descriptors(&vm).len(), before.len() + 1);
    sys::limit_descriptors(vm.pid(), ENOUGH);
    reaches(&vm, before.len() + 2);
    vm.quit();
}
