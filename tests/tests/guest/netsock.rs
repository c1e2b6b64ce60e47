//! Two guests on a cable that is a stream between two programs, and breaks.

use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use serde_json::{Value, json};
use tests::{Serial, Vm};

use crate::boot;
use crate::cable::{LIMIT, besides, carrier, dry, reaches, transfer, until};

/// A guest with a slot for an interface.
fn guest() -> Option<(Vm, Serial)> {
    boot("256", &["-device", "pcie-root-port,id=rp,chassis=1"])
}

/// Plugs an interface in at one end of the cable, with an address on it.
fn join(vm: &mut Vm, serial: &mut Serial, path: &Path, more: &Value, host: u8) {
    let addr = json!({"type": "unix", "path": path});
    let mut options = json!({"type": "stream", "id": "n", "addr": addr});
    let more = more.as_object().expect("an object").clone();
    options.as_object_mut().expect("an object").extend(more);
    vm.exec("netdev_add", options);
    let mac = format!("52:54:00:00:00:0{host}");
    let card = json!({
        "driver": "virtio-net-pci", "id": "net0", "netdev": "n", "bus": "rp", "mac": mac,
    });
    vm.exec("device_add", card);
    until(serial, "test -e /sys/class/net/eth0");
    serial.run(&format!(
        "ip addr add 10.9.0.{host}/24 dev eth0; ip link set eth0 mtu 9000 up"
    ));
}

/// The next frame, which has its length before it.
fn frame(peer: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    peer.read_exact(&mut length).expect("a length");
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    peer.read_exact(&mut frame).expect("a frame");
    frame
}

/// Whom an ARP frame asks for (RFC 826).
fn arp_target(frame: &[u8]) -> Option<[u8; 4]> {
    let is_arp = frame.get(12..14) == Some(&[8, 6]);
    is_arp.then(|| frame.get(38..42)?.try_into().ok()).flatten()
}

fn event(vm: &mut Vm, name: &str) {
    let event = vm.qmp().event_within(name, LIMIT);
    assert!(event.is_some(), "no {name}");
}

#[test]
fn tcp_between_two_guests_over_a_stream_that_breaks() {
    let Some((mut near, mut a)) = guest() else {
        return;
    };
    let Some((mut far, mut b)) = guest() else {
        return;
    };
    // In the directory of the one that stays.
    let path = far.path("cable");
    join(&mut near, &mut a, &path, &json!({"server": true}), 1);
    join(&mut far, &mut b, &path, &json!({"reconnect-ms": 100}), 2);
    event(&mut far, "NETDEV_STREAM_CONNECTED");
    for serial in [&mut a, &mut b] {
        carrier(serial, "eth0", 1);
    }
    reaches(&mut a, "10.9.0.2", 8900);
    transfer(&mut a, &mut b, "10.9.0.2");
    transfer(&mut b, &mut a, "10.9.0.1");

    // One of them dies in the middle of a transfer.
    besides(&mut a, "nc -l -p 7001 <>/open >/dev/null");
    besides(
        &mut b,
        "until nc 10.9.0.1 7001 </dev/zero >/dev/null 2>&1; do sleep 0.1; done",
    );
    until(
        &mut a,
        "netstat -tn | grep -q '10.9.0.1:7001 .*ESTABLISHED'",
    );
    drop((near, a));
    event(&mut far, "NETDEV_STREAM_DISCONNECTED");
    carrier(&mut b, "eth0", 0);
    dry(&mut b);

    // Somebody else takes its place, and the guest speaks to it.
    fs::remove_file(&path).expect("what the dead one left");
    let listener = UnixListener::bind(&path).expect("the path");
    let (mut peer, _) = listener.accept().expect("the program");
    event(&mut far, "NETDEV_STREAM_CONNECTED");
    carrier(&mut b, "eth0", 1);
    besides(&mut b, "ping -c 100 10.9.0.9 >/dev/null 2>&1");
    peer.set_read_timeout(Some(LIMIT)).expect("a limit");
    while arp_target(&frame(&mut peer)) != Some([10, 9, 0, 9]) {}

    // The netdev goes while the interface is in use.
    far.exec("netdev_del", json!({"id": "n"}));
    carrier(&mut b, "eth0", 0);
    peer.read_to_end(&mut Vec::new()).expect("its end");
    far.quit();
}
