//! Queues that the kernel serves, next to ones that this program serves: interfaces and sockets that
//! come and go under Linux.

use std::fs;
use std::time::Instant;

use serde_json::json;
use tests::{Serial, Vm};

use crate::boot;
use crate::cable::{LIMIT, besides, dry, exchange, flood, host, in_lab, reaches, until};

/// Each interface is alone with the host on a network of its own.
struct Nic {
    id: &'static str,
    tap: &'static str,
    vhost: &'static str,
    net: u8,
}

const NICS: [Nic; 2] = [
    Nic {
        id: "user",
        tap: "qvu",
        vhost: "off",
        net: 81,
    },
    Nic {
        id: "kernel",
        tap: "qvk",
        vhost: "on",
        net: 82,
    },
];

impl Nic {
    fn here(&self) -> String {
        format!("10.{}.0.1", self.net)
    }

    fn there(&self) -> String {
        format!("10.{}.0.2", self.net)
    }

    fn mac(&self) -> String {
        format!("52:54:00:00:00:{}", self.net)
    }

    fn netdev(&self) -> String {
        let Nic { id, tap, vhost, .. } = self;
        format!("tap,id={id},ifname={tap},script=no,downscript=no,vhost={vhost}")
    }

    fn port(&self) -> String {
        format!("pcie-root-port,id=rp-{},chassis={}", self.id, self.net)
    }

    fn plug(&self, vm: &mut Vm) {
        let Nic { id, .. } = self;
        vm.exec(
            "device_add",
            json!({"driver": "virtio-net-pci", "id": format!("nic-{id}"), "netdev": id,
                "bus": format!("rp-{id}"), "mac": self.mac()}),
        );
    }

    /// Waits until Linux has it, and gives it its address.
    fn take(&self, serial: &mut Serial) {
        let found = format!("grep -ls {} /sys/class/net/*/address", self.mac());
        until(serial, &format!("{found} >/dev/null"));
        serial.run(&format!(
            "dev=$(basename $(dirname $({found}))); ip addr add {}/24 dev $dev; ip link set $dev mtu 9000 up",
            self.there()
        ));
        reaches(serial, &self.here(), 8900);
    }

    fn exchange(&self, serial: &mut Serial) {
        exchange(serial, &self.here(), &self.there());
    }
}

fn plug_vsock(vm: &mut Vm) {
    vm.exec(
        "device_add",
        json!({"driver": "vhost-vsock-pci", "id": "vsock", "bus": "rp-vsock", "guest-cid": 77}),
    );
}

/// Linux has the socket device (type 19), or has it not.
fn vsock(serial: &mut Serial, there: bool) {
    let not = if there { "" } else { "! " };
    until(
        serial,
        &format!("{not}grep -q 0x0013 /sys/bus/virtio/devices/*/device"),
    );
}

/// Asks for devices back. A guest that is about to switch a slot on still is asked again.
fn del(vm: &mut Vm, id: &str) {
    let end = Instant::now() + LIMIT;
    while let Err(error) = vm.qmp().try_exec("device_del", json!({ "id": id })) {
        let busy = error.desc.contains("guest is busy");
        assert!(busy && Instant::now() < end, "{id}: {error}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn wait_deleted(vm: &mut Vm, mut left: Vec<&str>) {
    while !left.is_empty() {
        let event = vm.qmp().event_within("DEVICE_DELETED", LIMIT);
        let event = event.unwrap_or_else(|| panic!("{left:?} are still there"));
        left.retain(|id| event["data"]["device"] != *id);
    }
}

/// How many of its descriptors are vhost devices of the kernel's.
fn vhosts(vm: &Vm) -> usize {
    let fds = fs::read_dir(format!("/proc/{}/fd", vm.pid())).expect("its descriptors");
    let link = |fd: std::io::Result<fs::DirEntry>| fs::read_link(fd.ok()?.path()).ok();
    fds.filter_map(link)
        .filter(|path| path.to_string_lossy().starts_with("/dev/vhost"))
        .count()
}

#[test]
fn vhost_and_taps_come_and_go_in_the_middle_of_transfers() {
    if !in_lab() {
        return;
    }
    let mut args = vec![
        "-device".to_owned(),
        "pcie-root-port,id=rp-vsock,chassis=1".to_owned(),
    ];
    for nic in &NICS {
        args.extend(["-netdev".into(), nic.netdev(), "-device".into(), nic.port()]);
        let device = format!(
            "virtio-net-pci,id=nic-{0},netdev={0},bus=rp-{0},mac={1}",
            nic.id,
            nic.mac()
        );
        args.extend(["-device".into(), device]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((mut vm, mut serial)) = boot("256", &args) else {
        return;
    };
    serial.set_limit(LIMIT);
    // What the boot had to say is for others to look at.
    serial.run("dmesg -c >/boot.log");
    for nic in &NICS {
        host(&format!(
            "ip addr add {}/24 dev {tap}; ip link set {tap} mtu 9000 up",
            nic.here(),
            tap = nic.tap
        ));
    }
    assert_eq!(vhosts(&vm), 1);

    // While other things are done, the socket device is plugged, and unplugged, in three rounds.
    let plug = |vm: &mut Vm, serial: &mut Serial| {
        plug_vsock(vm);
        vsock(serial, true);
        assert_eq!(vhosts(vm), 2);
        del(vm, "vsock");
    };
    let unplugged = |vm: &mut Vm, serial: &mut Serial| {
        wait_deleted(vm, vec!["vsock"]);
        vsock(serial, false);
        assert_eq!(vhosts(vm), 1);
    };
    for nic in &NICS {
        nic.take(&mut serial);
        nic.exchange(&mut serial);
    }

    // A stop in the middle: nothing is lost.
    plug(&mut vm, &mut serial);
    let [_, kernel] = &NICS;
    let ping = format!(
        "(ping -c 20 -i 0.1 {} >/pings 2>&1; touch /pinged)",
        kernel.here()
    );
    besides(&mut serial, &ping);
    let sent = flood(&mut serial, &kernel.here());
    for _ in 0..3 {
        vm.query("stop");
        vm.query("cont");
    }
    until(&mut serial, "test -e /pinged");
    serial.run("grep -q ' 0% packet loss' /pings || { cat /pings; false; }");
    kernel.exchange(&mut serial);
    dry(&mut serial);
    assert!(sent.join().expect("the reader") > 0);
    unplugged(&mut vm, &mut serial);

    // Both go in the middle of a transfer, and come again.
    plug(&mut vm, &mut serial);
    let sent: Vec<_> = NICS
        .iter()
        .map(|nic| flood(&mut serial, &nic.here()))
        .collect();
    for nic in &NICS {
        del(&mut vm, &format!("nic-{}", nic.id));
    }
    wait_deleted(&mut vm, vec!["nic-user", "nic-kernel", "vsock"]);
    until(&mut serial, "! ls /sys/class/net | grep -q eth");
    dry(&mut serial);
    for sent in sent {
        assert!(sent.join().expect("the reader") > 0);
    }
    plug(&mut vm, &mut serial);
    for nic in &NICS {
        nic.plug(&mut vm);
        nic.take(&mut serial);
        nic.exchange(&mut serial);
    }
    unplugged(&mut vm, &mut serial);
    let faults = "dmesg | grep -iE 'bug:|oops|call trace|not responding' | head -3 || true";
    assert_eq!(serial.run(faults), "");

    // A reset in the middle.
    let sent = flood(&mut serial, &kernel.here());
    vm.query("system_reset");
    crate::wait(&mut serial);
    assert!(sent.join().expect("the reader") > 0);
    for nic in &NICS {
        nic.take(&mut serial);
        nic.exchange(&mut serial);
    }
    vm.quit();
}
