//! Taps under Linux guests: on a bridge with the host and another guest, several queues, macvtap, by
//! descriptor, through the bridge helper. Payload is checked at both ends.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tests::{Serial, Vm, VmBuilder, artifacts};

use crate::cable::{carrier, dry, exchange, flood, host, in_lab, reaches, transfer};
use crate::{wait, with_kernel};

const HELPER: &str = "/usr/lib/qemu/qemu-bridge-helper";

/// A bridge of the host with an address; removed when dropped.
struct Bridge(&'static str);

impl Bridge {
    fn new(name: &'static str, address: &str) -> Self {
        host(&format!(
            "ip link add {name} type bridge && ip addr add {address} dev {name} && \
             ip link set {name} mtu 9000 up"
        ));
        Bridge(name)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", self.0]).status();
    }
}

/// A guest on this command line, at its shell, with an address on its first interface.
fn guest(args: &[String], address: &str) -> (Vm, Serial) {
    let guest = artifacts::guest().expect("a guest");
    let mut vm = with_kernel(VmBuilder::new(), &guest, "")
        .args(["-m", "256M"])
        .args(args)
        .start();
    let mut serial = vm.serial();
    wait(&mut serial);
    serial.run(&format!(
        "ip link set eth0 mtu 9000 up; ip addr add {address} dev eth0"
    ));
    (vm, serial)
}

fn nic(netdev: &str, mac: u8) -> [String; 2] {
    let device = format!("virtio-net-pci,id=nic,netdev={netdev},mac=52:54:00:77:00:{mac:02x}");
    ["-device".into(), device]
}

#[test]
fn guests_and_host_meet_on_a_bridge() {
    if artifacts::guest().is_none() || !in_lab() {
        return;
    }
    let _bridge = Bridge::new("qvbr", "10.77.0.1/24");
    let directory = tempfile::tempdir().expect("a directory");
    let up = directory.path().join("up");
    let script = "#!/bin/sh\nip link set $1 mtu 9000 master qvbr up\n";
    fs::write(&up, script).expect("a script");
    host(&format!("chmod +x {}", up.display()));
    let tap = |name: &str, more: &str| {
        let up = up.display();
        let text = format!("tap,id=net,ifname={name},script={up},downscript=no{more}");
        vec!["-netdev".to_owned(), text]
    };

    let args = [tap("qva", ""), nic("net", 1).to_vec()].concat();
    let (mut first, mut one) = guest(&args, "10.77.0.2/24");
    reaches(&mut one, "10.77.0.1", 8000);
    exchange(&mut one, "10.77.0.1", "10.77.0.2");

    // Another one, with two queues.
    let mut args = [tap("qvb", ",queues=2"), nic("net", 2).to_vec()].concat();
    args.extend(["-smp".into(), "2".into()]);
    if let Some(device) = args.get_mut(3) {
        device.push_str(",mq=on");
    }
    let (mut second, mut two) = guest(&args, "10.77.0.3/24");
    reaches(&mut two, "10.77.0.2", 8000);
    exchange(&mut two, "10.77.0.1", "10.77.0.3");
    let queues = two.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l");
    assert_eq!(queues, "2");

    // From guest to guest.
    transfer(&mut one, &mut two, "10.77.0.3");

    // The cable.
    for name in ["nic", "net"] {
        first.exec("set_link", json!({"name": name, "up": false}));
        carrier(&mut one, "eth0", 0);
        first.exec("set_link", json!({"name": name, "up": true}));
        carrier(&mut one, "eth0", 1);
        reaches(&mut one, "10.77.0.1", 100);
    }

    // The tap goes away in the middle of a transfer.
    let sent = flood(&mut one, "10.77.0.1");
    first.exec("netdev_del", json!({"id": "net"}));
    assert!(!Path::new("/sys/class/net/qva").exists());
    carrier(&mut one, "eth0", 0);
    first.assert_alive();
    dry(&mut one);
    assert!(sent.join().expect("the reader") > 0);
    second.assert_alive();
}

#[test]
fn descriptors_are_passed_as_management_does() {
    if artifacts::guest().is_none() || !in_lab() {
        return;
    }
    // A macvtap on one end of a cable, the host on the other.
    host(
        "ip link add qvc type veth peer name qvd && ip addr add 10.78.0.1/24 dev qvc && \
         ip link set qvc mtu 9000 up && ip link set qvd mtu 9000 up && \
         ip link add link qvd name qvm address 52:54:00:77:00:03 mtu 9000 type macvtap mode bridge && \
         ip link set qvm up",
    );
    let index = fs::read_to_string("/sys/class/net/qvm/ifindex").expect("an index");
    let node = format!("/dev/tap{}", index.trim());
    let mut vm = {
        let guest = artifacts::guest().expect("a guest");
        with_kernel(VmBuilder::new(), &guest, "")
            .args([
                "-m",
                "256M",
                "-S",
                "-device",
                "pcie-root-port,id=rp,chassis=1",
            ])
            .start()
    };
    let tap = File::options().read(true).write(true).open(&node);
    let tap = tap.unwrap_or_else(|error| panic!("{node}: {error}"));
    vm.qmp()
        .try_exec_fds("getfd", json!({"fdname": "net0"}), &[tap.as_fd()])
        .expect("getfd");
    drop(tap);
    vm.exec(
        "netdev_add",
        json!({"type": "tap", "id": "net", "fds": "net0"}),
    );
    vm.exec(
        "device_add",
        json!({"driver": "virtio-net-pci", "id": "nic", "netdev": "net", "bus": "rp",
            "mac": "52:54:00:77:00:03"}),
    );
    vm.query("cont");
    let mut serial = vm.serial();
    wait(&mut serial);
    serial.run("ip link set eth0 mtu 9000 up; ip addr add 10.78.0.2/24 dev eth0");
    reaches(&mut serial, "10.78.0.1", 8000);
    exchange(&mut serial, "10.78.0.1", "10.78.0.2");
    drop(vm);
    host("ip link del qvm; ip link del qvc");
}

#[test]
fn the_bridge_helper_opens_taps() {
    if !in_lab() || !Path::new(HELPER).exists() {
        return;
    }
    let _bridge = Bridge::new("qvbh", "10.79.0.1/24");
    // Ours alone: the lab's file system is another machine's.
    host(
        "mkdir -p $TMPDIR/etc-upper/qemu $TMPDIR/etc-work && \
         echo 'allow qvbh' >$TMPDIR/etc-upper/qemu/bridge.conf && \
         mount -t tmpfs none $TMPDIR/etc-work && mkdir $TMPDIR/etc-work/u $TMPDIR/etc-work/w && \
         cp -r $TMPDIR/etc-upper/qemu $TMPDIR/etc-work/u/ && \
         mount -t overlay overlay -o lowerdir=/etc,upperdir=$TMPDIR/etc-work/u,workdir=$TMPDIR/etc-work/w /etc",
    );
    let mut vm = Vm::none();
    vm.exec(
        "netdev_add",
        json!({"type": "bridge", "id": "b", "br": "qvbh"}),
    );
    let members = || {
        fs::read_dir("/sys/class/net/qvbh/brif")
            .expect("members")
            .count()
    };
    assert_eq!(members(), 1);
    let shown = vm.qmp().hmp("info network");
    assert_eq!(
        shown,
        format!("b: index=0,type=bridge,helper={HELPER},br=qvbh\r\n")
    );
    let error = vm.refused(
        "netdev_add",
        json!({"type": "bridge", "id": "c", "br": "other"}),
    );
    assert!(error.desc.starts_with("bridge helper failed"), "{error}");
    assert!(error.desc.contains("access denied by acl file"), "{error}");
    vm.exec("netdev_del", json!({"id": "b"}));
    assert_eq!(members(), 0);
    drop(vm);
    host("umount /etc && umount $TMPDIR/etc-work");
}
