//! Network interfaces as Linux drives them: two in one guest, each at one end of a cable of
//! datagrams, the second one in a network namespace of its own.

use std::os::unix::net::UnixDatagram;

use serde_json::{Value, json};
use tests::{Serial, Vm, VmBuilder};

use crate::boot_with;

/// Runs a command in the second interface's namespace.
const THERE: &str = "nsenter -t $PEER -n";

/// A guest with both interfaces up and addresses on them. None where there is no guest.
fn boot() -> Option<(Vm, Serial)> {
    let (one, two) = UnixDatagram::pair().expect("a cable");
    let builder = VmBuilder::new().fd(one, 40).fd(two, 41);
    let args = [
        "-smp",
        "2",
        "-netdev",
        "dgram,id=a,local.type=fd,local.str=40",
        "-device",
        "virtio-net-pci,id=net0,netdev=a,mac=52:54:00:00:00:01",
        "-netdev",
        "dgram,id=b,local.type=fd,local.str=41",
        "-device",
        "virtio-net-pci,id=net1,netdev=b,mac=52:54:00:00:00:02",
    ];
    let (vm, mut serial) = boot_with(builder, "512", &args, "")?;
    serial.run("until test -e /sys/class/net/eth1; do sleep 0.1; done");
    serial.run("mkfifo /run/open");
    serial.run("unshare -n sleep 100000 & PEER=$!; sleep 0.3");
    serial
        .run("ip link set eth1 netns $PEER; ip addr add 10.9.0.1/24 dev eth0; ip link set eth0 up");
    serial.run(&format!(
        "{THERE} ip addr add 10.9.0.2/24 dev eth1; {THERE} ip link set eth1 up"
    ));
    Some((vm, serial))
}

/// Sends a file over TCP both ways; what arrives is the same. Who listens has an input that does not
/// end, or it would end the connection.
fn exchange(serial: &mut Serial, mib: u32) {
    serial.run(&format!(
        "dd if=/dev/urandom of=/run/sent bs=1M count={mib} 2>/dev/null"
    ));
    let sum = serial.run("md5sum < /run/sent");
    for (listens, calls, address) in [(THERE, "", "10.9.0.2"), ("", THERE, "10.9.0.1")] {
        serial.run(&format!(
            "{listens} nc -l -p 7000 <>/run/open >/run/got & sleep 0.5; \
             {calls} nc {address} 7000 </run/sent; wait $!"
        ));
        let bytes = (mib << 20).to_string();
        assert_eq!(serial.run("wc -c < /run/got"), bytes, "to {address}");
        assert_eq!(serial.run("md5sum < /run/got"), sum, "to {address}");
    }
}

#[test]
fn linux_on_both_ends_of_a_cable() {
    let Some((mut vm, mut serial)) = boot() else {
        return;
    };
    assert_eq!(
        serial.run("cat /sys/class/net/eth0/address"),
        "52:54:00:00:00:01"
    );
    assert_eq!(serial.run("cat /sys/class/net/eth0/carrier"), "1");
    exchange(&mut serial, 4);
    // Frames larger than a page.
    serial.run(&format!(
        "ip link set eth0 mtu 9000; {THERE} ip link set eth1 mtu 9000"
    ));
    assert_eq!(
        serial.run("ping -q -c 2 -s 8900 10.9.0.2 | grep -o ' 0% packet loss'"),
        " 0% packet loss"
    );
    exchange(&mut serial, 4);

    // The cable is pulled and plugged.
    vm.exec("set_link", json!({"name": "net0", "up": false}));
    serial.run("until test $(cat /sys/class/net/eth0/carrier) = 0; do sleep 0.1; done");
    vm.exec("set_link", json!({"name": "net0", "up": true}));
    serial.run("until test $(cat /sys/class/net/eth0/carrier) = 1; do sleep 0.1; done");
    assert_eq!(
        serial.run("ping -q -c 2 10.9.0.2 | grep -o ' 0% packet loss'"),
        " 0% packet loss"
    );

    // What the driver lets through.
    let filter =
        |vm: &mut Vm| -> Value { vm.exec("query-rx-filter", json!({"name": "net0"}))[0].clone() };
    let before = filter(&mut vm);
    assert_eq!(before["promiscuous"], false);
    assert_eq!(before["main-mac"], "52:54:00:00:00:01");
    let groups = before["multicast-table"].as_array().expect("a table");
    assert!(groups.contains(&json!("01:00:5e:00:00:01")), "{groups:?}");
    vm.qmp().pending_events();
    serial.run("ip link set eth0 promisc on");
    vm.qmp().event("NIC_RX_FILTER_CHANGED");
    assert_eq!(filter(&mut vm)["promiscuous"], true);
    serial.run("ip link set eth0 promisc off; ip link set eth0 address 52:54:00:00:00:09");
    let after = filter(&mut vm);
    assert_eq!(after["promiscuous"], false);
    assert_eq!(after["main-mac"], "52:54:00:00:00:09");
    assert_eq!(
        serial.run("ping -q -c 2 10.9.0.2 | grep -o ' 0% packet loss'"),
        " 0% packet loss"
    );

    // A stop in the middle.
    serial.run("ping -c 20 -i 0.2 10.9.0.2 >/run/pings &");
    vm.query("stop");
    vm.query("cont");
    serial.run("wait $!");
    assert_eq!(
        serial.run("grep -o ' 0% packet loss' /run/pings"),
        " 0% packet loss"
    );
    vm.query("system_reset");
    crate::wait(&mut serial);
    assert_eq!(
        serial.run("cat /sys/class/net/eth0/address"),
        "52:54:00:00:00:01"
    );
    vm.quit();
}
