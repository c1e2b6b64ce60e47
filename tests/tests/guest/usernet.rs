//! A user network as Linux takes it: an address, a file from the host, a file to it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;
use tests::Vm;

use crate::boot;

/// As much again goes each way.
const KIB: usize = 600;

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Bytes that are not alike.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

fn plug(vm: &mut Vm, port: u16, tftp: &std::path::Path) {
    let options = json!({
        "type": "user", "id": "n", "tftp": tftp, "bootfile": "file", "hostname": "tux",
        "hostfwd": [{"str": format!("tcp:127.0.0.1:{port}-:80")}],
        "guestfwd": [{"str": "tcp:10.0.2.100:7-cmd:cat"}],
    });
    vm.exec("netdev_add", options);
    vm.exec(
        "device_add",
        json!({"driver": "virtio-net-pci", "netdev": "n", "id": "nic", "bus": "rp"}),
    );
}

#[test]
fn usernet_carries_files_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let content = noise(KIB << 10);
    fs::write(directory.path().join("file"), &content).unwrap();
    let args = ["-device", "pcie-root-port,id=rp,chassis=1"];
    let Some((mut vm, mut serial)) = boot("256", &args) else {
        return;
    };
    let port = free_port();
    plug(&mut vm, port, directory.path());
    serial.run("n=0; until ip link set eth0 up 2>/dev/null; do sleep 0.1; n=$((n+1)); test $n -lt 200 || break; done");
    // The script that takes the lease only shows it; the kernel is told by hand.
    serial.run("printf '#!/bin/sh\\n[ $1 = bound ] && ifconfig $interface $ip netmask $subnet && route add default gw $router && echo $ip $router $dns $boot_file $hostname >/lease\\n:\\n' >/take; chmod +x /take");
    serial.run("udhcpc -q -n -t 20 -T 1 -i eth0 -s /take -O hostname >/dev/null 2>&1");
    assert_eq!(
        serial.run("cat /lease").trim(),
        "10.0.2.15 10.0.2.2 10.0.2.3 file tux"
    );

    serial.run("tftp -g -b 1428 -r file -l /file 10.0.2.2");
    let wanted = serial.run("wc -c </file; md5sum </file | cut -c1-32");
    assert!(wanted.starts_with(&content.len().to_string()), "{wanted}");

    // Back to the host through the forward, and there it is the same as it was.
    serial.run("mkdir -p /www && mv /file /www/ && httpd -p 80 -h /www");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let got = &answer[head + 4..];
    assert!(
        got == content.as_slice(),
        "{} of {} bytes",
        got.len(),
        content.len()
    );

    // Into a program of the host's and back.
    serial.run("head -c 200000 /www/file | nc 10.0.2.100 7 >/echo & n=0; until [ $(wc -c </echo) -ge 200000 ] || [ $n = 100 ]; do sleep 0.2; n=$((n+1)); done; kill $!; true");
    assert_eq!(serial.run("wc -c </echo").trim(), "200000");
    let same = serial.run("head -c 200000 /www/file | cmp - /echo && echo same");
    assert_eq!(same.trim(), "same");

    // Without its process the guest goes on, without a carrier.
    let info = vm.qmp().hmp("info usernet");
    assert!(info.contains("TCP[HOST_FORWARD]"), "{info}");
    vm.exec("netdev_del", json!({"id": "n"}));
    assert_eq!(
        serial
            .run("sleep 1; cat /sys/class/net/eth0/carrier")
            .trim(),
        "0"
    );
}
