//! Options in both notations, and what comes of them as QMP tells it.

use serde_json::json;
use tests::binary::is_stand_in;
use tests::{Vm, VmBuilder, disk};

fn idle_on(args: &[&str]) -> Vm {
    VmBuilder::new()
        .args(["-accel", "qtest", "-S"])
        .args(args)
        .start()
}

#[test]
fn machine_by_name_alias_or_property() {
    for form in [
        "q35",
        "pc-q35-10.0",
        "type=q35",
        "pc-q35-10.0,",
        "q35,usb=off,vmport=off,hpet=off",
    ] {
        let mut vm = idle_on(&["-machine", form]);
        let kind = vm.exec("qom-get", json!({"path": "/machine", "property": "type"}));
        assert_eq!(kind, "pc-q35-10.0-machine", "{form}");
    }
    idle_on(&["-M", "q35"]).assert_alive();
}

#[test]
fn several_machine_options_add_up() {
    let mut vm = idle_on(&[
        "-machine",
        "q35",
        "-machine",
        "dump-guest-core=off",
        "-m",
        "64",
    ]);
    let kind = vm.exec("qom-get", json!({"path": "/machine", "property": "type"}));
    assert_eq!(kind, "pc-q35-10.0-machine");
}

#[test]
fn memory_in_every_spelling() {
    for (form, mib) in [
        ("64", 64),
        ("64M", 64),
        ("size=64", 64),
        ("0.125G", 128),
        ("size=128M", 128),
        ("65536K", 64),
    ] {
        let mut vm = idle_on(&["-machine", "q35", "-m", form]);
        let summary = vm.query("query-memory-size-summary");
        assert_eq!(
            summary["base-memory"],
            u64::from(mib as u32) << 20,
            "{form}"
        );
    }
}

#[test]
fn processors_in_every_spelling() {
    for (form, count) in [
        ("1", 1),
        ("2", 2),
        ("cpus=3", 3),
        ("4,sockets=2,cores=2,threads=1", 4),
        ("sockets=2,cores=2", 4),
        ("cpus=2,maxcpus=4", 2),
        ("8,dies=2,cores=2,threads=2", 8),
    ] {
        let mut vm = idle_on(&["-machine", "q35", "-smp", form]);
        let cpus = vm.query("query-cpus-fast");
        assert_eq!(cpus.as_array().map(Vec::len), Some(count), "{form}");
    }
}

#[test]
fn objects_in_both_notations() {
    let mut vm = idle_on(&[
        "-machine",
        "q35",
        "-object",
        "iothread,id=a",
        "-object",
        "qom-type=iothread,id=b,poll-max-ns=7",
        "-object",
        r#"{"qom-type":"iothread","id":"c","poll-max-ns":8}"#,
        "-object",
        "memory-backend-ram,id=m,size=2M,merge=off,dump=off",
        "-object",
        "memory-backend-memfd,id=n,size=4M,share=on,seal=on",
        "-object",
        "rng-random,id=r,filename=/dev/urandom",
        "-object",
        "rng-builtin,id=s",
    ]);
    let threads = vm.query("query-iothreads");
    let threads = threads.as_array().expect("a list");
    let polls: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|id| {
            threads
                .iter()
                .find(|t| t["id"] == *id)
                .map(|t| t["poll-max-ns"].clone())
        })
        .collect();
    assert_eq!(polls, [Some(json!(32768)), Some(json!(7)), Some(json!(8))]);
    let memory = vm.query("query-memdev");
    let find = |id: &str| {
        memory
            .as_array()
            .expect("a list")
            .iter()
            .find(|m| m["id"] == id)
            .cloned()
            .expect("listed")
    };
    assert_eq!(find("m")["merge"], false);
    assert_eq!(find("m")["size"], 2 << 20);
    assert_eq!(find("n")["share"], true);
}

#[test]
fn block_nodes_in_both_notations() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 1 << 20);
    let path = path.display();
    let mut vm = builder
        .stopped()
        .arg("-blockdev")
        .arg(format!("driver=file,node-name=a,filename={path},cache.direct=off,cache.no-flush=on,locking=off"))
        .arg("-blockdev")
        .arg(format!(
            r#"{{"driver":"file","node-name":"b","filename":"{path}","cache":{{"no-flush":true}},"locking":"off"}}"#
        ))
        .arg("-blockdev")
        .arg(format!("raw,node-name=c,file.driver=file,file.filename={path},file.locking=off,read-only=on"))
        .args(["-blockdev", "null-co,node-name=d,size=1048576"])
        .start();
    let nodes = vm.query("query-named-block-nodes");
    let find = |id: &str| {
        nodes
            .as_array()
            .expect("a list")
            .iter()
            .find(|m| m["node-name"] == id)
            .cloned()
            .expect("listed")
    };
    assert_eq!(find("a")["cache"]["no-flush"], true);
    assert_eq!(find("b")["cache"]["no-flush"], true);
    assert_eq!(find("c")["drv"], "raw");
    assert_eq!(find("c")["ro"], true);
    assert_eq!(find("d")["image"]["virtual-size"], 1 << 20);
}

#[test]
fn a_comma_in_a_value_is_doubled() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "a,b=c.img", 4096);
    let doubled = path.display().to_string().replace(',', ",,");
    let mut vm = builder
        .stopped()
        .arg("-blockdev")
        .arg(format!("file,node-name=a,filename={doubled}"))
        .args(["-name", "x,,y"])
        .start();
    assert_eq!(vm.query("query-named-block-nodes")[0]["file"], json!(path));
    assert_eq!(vm.query("query-name")["name"], "x,y");
}

#[test]
fn drives() {
    let builder = VmBuilder::new();
    let one = disk::raw(builder.dir(), "1.img", 1 << 20);
    let two = disk::raw(builder.dir(), "2.img", 2 << 20);
    let mut vm = builder
        .stopped()
        .arg("-drive")
        .arg(format!(
            "file={},if=none,id=d1,format=raw,cache=none,aio=threads,discard=unmap",
            one.display()
        ))
        .args(["-device", "virtio-blk-pci,drive=d1,id=disk1"])
        .arg("-drive")
        .arg(format!(
            "file={},if=virtio,format=raw,readonly=on",
            two.display()
        ))
        .start();
    let blocks = vm.query("query-block");
    let blocks = blocks.as_array().expect("a list");
    let first = blocks.iter().find(|b| b["device"] == "d1").expect("d1");
    assert_eq!(first["inserted"]["image"]["virtual-size"], 1 << 20);
    assert_eq!(first["inserted"]["cache"]["direct"], true);
    let second = blocks
        .iter()
        .find(|b| b["device"] == "virtio0")
        .expect("virtio0");
    assert_eq!(second["inserted"]["ro"], true);
}

#[test]
fn devices_in_both_notations() {
    let mut vm = idle_on(&[
        "-machine",
        "q35",
        "-blockdev",
        "null-co,node-name=n0",
        "-blockdev",
        "null-co,node-name=n1",
        "-device",
        "virtio-blk-pci,drive=n0,id=d0,addr=4.0,serial=abc,num-queues=2,queue-size=128",
        "-device",
        r#"{"driver":"virtio-blk-pci","drive":"n1","id":"d1","addr":"0x5","num-queues":3}"#,
        "-device",
        "driver=virtio-rng-pci,id=r0,addr=06,max-bytes=1024,period=1000",
        "-device",
        "virtio-serial-pci,id=s0,max_ports=4",
        "-chardev",
        "null,id=c0",
        "-chardev",
        "ringbuf,id=c1,size=1024",
        "-chardev",
        "null,id=c2",
        "-device",
        "virtconsole,chardev=c0,bus=s0.0",
        "-device",
        "virtserialport,chardev=c1,name=org.test.0,nr=2,bus=s0.0,id=p0",
        "-device",
        "isa-serial,chardev=c2,id=com2,index=1",
        "-device",
        "pcie-root-port,id=rp0,chassis=1,slot=1",
        "-device",
        "virtio-rng-pci,bus=rp0",
        "-device",
        "pvpanic",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
    ]);
    let get = |vm: &mut Vm, path: &str, property: &str| {
        vm.exec("qom-get", json!({"path": path, "property": property}))
    };
    assert_eq!(get(&mut vm, "/machine/peripheral/d0", "serial"), "abc");
    assert_eq!(get(&mut vm, "/machine/peripheral/d0", "num-queues"), 2);
    assert_eq!(get(&mut vm, "/machine/peripheral/d0", "queue-size"), 128);
    assert_eq!(get(&mut vm, "/machine/peripheral/d1", "num-queues"), 3);
    assert_eq!(get(&mut vm, "/machine/peripheral/r0", "max-bytes"), 1024);
    assert_eq!(get(&mut vm, "/machine/peripheral/p0", "name"), "org.test.0");
    let pci = vm.query("query-pci");
    let devices = pci[0]["devices"].as_array().expect("a list");
    for (slot, id) in [(4, "d0"), (5, "d1"), (6, "r0")] {
        assert!(
            devices
                .iter()
                .any(|d| d["slot"] == slot && d["qdev_id"] == id),
            "{id}"
        );
    }
    assert!(
        devices
            .iter()
            .any(|d| d["qdev_id"] == "rp0" && d.get("pci_bridge").is_some())
    );
}

#[test]
fn character_devices() {
    let builder = VmBuilder::new();
    let path = |name: &str| builder.path(name).display().to_string();
    let (socket, file, log) = (path("c.sock"), path("out"), path("log"));
    let mut vm = builder
        .stopped()
        .args([
            "-chardev",
            "null,id=a",
            "-chardev",
            "ringbuf,id=b,size=4096",
            "-chardev",
            "pty,id=c",
        ])
        .arg("-chardev")
        .arg(format!(
            "socket,id=d,path={socket},server=on,wait=off,logfile={log}"
        ))
        .arg("-chardev")
        .arg(format!("file,id=e,path={file}"))
        .args([
            "-chardev",
            "socket,id=f,host=127.0.0.1,port=0,server=on,wait=off",
        ])
        .start();
    let list = vm.query("query-chardev");
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| c["label"].clone())
        .collect();
    for label in ["a", "b", "c", "d", "e", "f"] {
        assert!(names.contains(&json!(label)), "{label} in {names:?}");
    }
}

#[test]
fn serial_ports() {
    let builder = VmBuilder::new();
    let file = builder.path("out");
    let mut vm = builder
        .stopped()
        .arg("-serial")
        .arg(format!("file:{}", file.display()))
        .args(["-serial", "null"])
        .start();
    let list = vm.query("query-chardev");
    for label in ["serial0", "serial1"] {
        assert!(
            list.as_array()
                .expect("a list")
                .iter()
                .any(|c| c["label"] == label),
            "{label}"
        );
    }
    assert!(file.exists());
}

#[test]
fn options_may_have_two_dashes() {
    let mut vm = VmBuilder::new()
        .args(["--machine", "none", "--name", "x"])
        .start();
    assert_eq!(vm.query("query-name")["name"], "x");
}

#[test]
fn the_clock_and_the_rest() {
    let builder = VmBuilder::new();
    let log = builder.path("log");
    let mut vm = builder
        .stopped()
        .args([
            "-rtc",
            "base=2020-02-03T04:05:06,clock=vm",
            "-msg",
            "timestamp=on",
        ])
        .args([
            "-action",
            "reboot=shutdown,shutdown=pause,panic=none",
            "-no-reboot",
        ])
        .arg("-D")
        .arg(&log)
        .args(["-overcommit", "mem-lock=off"])
        .start();
    vm.assert_alive();
}

#[test]
fn the_first_accelerator_that_works_is_taken() {
    let mut vm = VmBuilder::new()
        .args([
            "-machine", "q35", "-S", "-accel", "bogus", "-accel", "qtest",
        ])
        .spawn();
    let path = vm.monitor(0);
    drop(vm.connect_when_ready(&path));
}

#[test]
fn kvm() {
    if !tests::binary::has_kvm() {
        println!("skipped: no /dev/kvm");
        return;
    }
    for form in [
        &["-machine", "q35,accel=kvm"][..],
        &["-machine", "q35", "-accel", "kvm"],
        &["-machine", "q35", "-enable-kvm"],
    ] {
        let mut vm = VmBuilder::new().args(form).args(["-S", "-m", "64"]).start();
        assert_eq!(
            vm.query("query-kvm"),
            json!({"enabled": true, "present": true})
        );
        vm.quit();
    }
    // Not every host lets the reference set the registers of its own models.
    let models: &[&str] = &[
        "qemu64",
        "kvm64",
        "qemu64,+rdrand,-sse3",
        "host",
        "max",
        "host,-avx2",
        "max,migratable=off",
    ];
    for model in if is_stand_in() { &models[..3] } else { models } {
        let mut vm = VmBuilder::new()
            .args([
                "-machine", "q35", "-accel", "kvm", "-S", "-m", "64", "-cpu", model, "-smp", "2",
            ])
            .start();
        vm.assert_alive();
        vm.quit();
    }
}

#[test]
fn no_graphics_puts_the_serial_port_on_standard_output() {
    let mut vm = VmBuilder::bare()
        .args([
            "-nographic",
            "-machine",
            "q35",
            "-accel",
            "qtest",
            "-S",
            "-m",
            "64",
            "-no-user-config",
        ])
        .args(["-vga", "none"])
        .monitors(1)
        .start();
    let list = vm.query("query-chardev");
    let labels: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| c["label"].clone())
        .collect();
    assert!(
        labels
            .iter()
            .any(|label| label.as_str().is_some_and(|l| l.starts_with("serial0"))),
        "{labels:?}"
    );
}

#[test]
fn inherited_descriptors_in_sets() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 1 << 20);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("an image");
    let mut vm = builder
        .stopped()
        .fd(file, 11)
        .args(["-add-fd", "fd=11,set=2,opaque=rdwr:disk"])
        .args(["-blockdev", "file,node-name=f,filename=/dev/fdset/2"])
        .start();
    assert_eq!(vm.query("query-fdsets")[0]["fds"][0]["opaque"], "rdwr:disk");
    assert_eq!(
        vm.query("query-named-block-nodes")[0]["image"]["virtual-size"],
        1 << 20
    );
}

#[test]
fn a_monitor_on_a_character_device_by_its_short_name() {
    let builder = VmBuilder::bare().args(["-machine", "none", "-nodefaults", "-display", "none"]);
    let path = builder.path("a.sock");
    let mut vm = builder
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,path={},server=on,wait=off",
            path.display()
        ))
        .args(["-qmp", "chardev:c"])
        .spawn();
    let mut qmp = tests::Qmp::over_socket(vm.connect_when_ready(&path).into());
    qmp.negotiate();
    assert_eq!(qmp.query("query-chardev")[0]["label"], "c");
}

/// The command line of the reference's own device tests: the program connects to both sockets.
#[test]
fn the_command_line_of_device_tests() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    let builder = VmBuilder::bare();
    let (qtest, qmp) = (builder.path("qtest.sock"), builder.path("qmp.sock"));
    let listeners = [&qtest, &qmp].map(|path| UnixListener::bind(path).expect("a listener"));
    let _vm = builder
        .arg("-qtest")
        .arg(format!("unix:{}", qtest.display()))
        .args(["-qtest-log", "/dev/null", "-chardev"])
        .arg(format!("socket,path={},id=char0", qmp.display()))
        .args([
            "-mon",
            "chardev=char0,mode=control",
            "-display",
            "none",
            "-audio",
            "none",
        ])
        .args(["-machine", "q35", "-nodefaults", "-accel", "qtest"])
        .spawn();
    let (stream, _) = listeners[0].accept().expect("a connection");
    let (monitor, _) = listeners[1].accept().expect("a connection");
    let mut monitor = tests::Qmp::over_socket(monitor.into());
    monitor.negotiate();
    let mut input = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut output = stream;
    for (command, answer) in [
        ("endianness", "OK little"),
        ("inl 0xcf8", "OK 0x"),
        ("bogus", "FAIL"),
    ] {
        output
            .write_all(format!("{command}\n").as_bytes())
            .expect("it takes commands");
        let mut line = String::new();
        input.read_line(&mut line).expect("an answer");
        assert!(line.starts_with(answer), "{command}: {line}");
    }
}
