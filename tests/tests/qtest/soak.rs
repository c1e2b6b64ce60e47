//! Devices of all kinds come and go for a while, with options that fit and others that do not:
//! nothing is left of them.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::pci::Function;
use tests::qtest::Qtest;

/// Before the first count, so that what is made once is there.
const WARM_UP: usize = 60;
/// How long it goes on then.
const TIME: Duration = Duration::from_secs(4);
/// Slot control of a slot: indicator blinks, on, off; power on, off.
const ON: [u16; 3] = [0x6c0, 0x2c0, 0x1c0];
const OFF: [u16; 3] = [0x2c0, 0x6c0, 0x7c0];

/// Numbers that look like chance and are the same each time (xorshift, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len())]
    }
}

/// What a driver can name, made for it and taken back after it.
const BACK_ENDS: [(&str, &str, &str, &str); 5] = [
    (
        "blockdev-add",
        r#"{"driver":"null-co","node-name":"node","size":1048576}"#,
        "blockdev-del",
        r#"{"node-name":"node"}"#,
    ),
    (
        "chardev-add",
        r#"{"id":"char","backend":{"type":"null","data":{}}}"#,
        "chardev-remove",
        r#"{"id":"char"}"#,
    ),
    (
        "netdev_add",
        r#"{"type":"hubport","id":"net","hubid":0}"#,
        "netdev_del",
        r#"{"id":"net"}"#,
    ),
    (
        "object-add",
        r#"{"qom-type":"rng-random","id":"rng","filename":"/dev/urandom"}"#,
        "object-del",
        r#"{"id":"rng"}"#,
    ),
    (
        "object-add",
        r#"{"qom-type":"iothread","id":"io"}"#,
        "object-del",
        r#"{"id":"io"}"#,
    ),
];

/// Options that fit, without id and place.
const GOOD: [&str; 19] = [
    r#"{"driver":"virtio-blk-pci","drive":"node"}"#,
    r#"{"driver":"virtio-blk-pci","drive":"node","iothread":"io","num-queues":3,"serial":"x"}"#,
    r#"{"driver":"virtio-scsi-pci"}"#,
    r#"{"driver":"virtio-scsi-pci","iothread":"io","num_queues":2}"#,
    r#"{"driver":"virtio-serial-pci","max_ports":4}"#,
    r#"{"driver":"virtio-rng-pci","rng":"rng"}"#,
    r#"{"driver":"virtio-rng-pci"}"#,
    r#"{"driver":"virtio-net-pci","netdev":"net"}"#,
    r#"{"driver":"virtio-net-pci","netdev":"net","mac":"52:54:00:00:00:01","vectors":0}"#,
    r#"{"driver":"virtio-net-pci"}"#,
    r#"{"driver":"virtio-balloon-pci"}"#,
    r#"{"driver":"virtio-balloon-pci","free-page-reporting":true,"iothread":"io"}"#,
    r#"{"driver":"i6300esb"}"#,
    r#"{"driver":"pvpanic-pci"}"#,
    r#"{"driver":"scsi-hd","drive":"node","bus":"scsi0.0","scsi-id":1,"lun":2}"#,
    r#"{"driver":"scsi-cd","drive":"node","bus":"scsi0.0"}"#,
    r#"{"driver":"scsi-cd","bus":"scsi0.0"}"#,
    r#"{"driver":"virtconsole","chardev":"char","bus":"ser0.0"}"#,
    r#"{"driver":"virtserialport","chardev":"char","bus":"ser0.0","name":"a.b","nr":3}"#,
];

/// Options that do not fit, each in its own way and as late as can be.
const BAD: [&str; 27] = [
    r#"{"driver":"virtio-blk-pci"}"#,
    r#"{"driver":"virtio-blk-pci","drive":"other"}"#,
    r#"{"driver":"virtio-blk-pci","drive":"node","iothread":"other"}"#,
    r#"{"driver":"virtio-blk-pci","drive":"node","num-queues":0}"#,
    r#"{"driver":"virtio-blk-pci","drive":"node","queue-size":3}"#,
    r#"{"driver":"virtio-blk-pci","drive":"node","logical_block_size":3}"#,
    r#"{"driver":"virtio-blk-pci","drive":"node","iothread":"io","addr":"3.0"}"#,
    r#"{"driver":"virtio-scsi-pci","iothread":"io","num_queues":0}"#,
    r#"{"driver":"virtio-serial-pci","max_ports":0}"#,
    r#"{"driver":"virtio-serial-pci","max_ports":1000000}"#,
    r#"{"driver":"virtio-rng-pci","rng":"rng","max-bytes":0}"#,
    r#"{"driver":"virtio-rng-pci","rng":"node"}"#,
    r#"{"driver":"virtio-net-pci","netdev":"other"}"#,
    r#"{"driver":"virtio-net-pci","netdev":"net","rx_queue_size":3}"#,
    r#"{"driver":"virtio-net-pci","netdev":"net","mac":"x"}"#,
    r#"{"driver":"virtio-net-pci","netdev":"net","addr":"0.1","bus":"rp9"}"#,
    r#"{"driver":"virtio-rng-pci","bus":"fixed"}"#,
    r#"{"driver":"virtio-rng-pci","bus":"pcie.0"}"#,
    r#"{"driver":"isa-serial","chardev":"char"}"#,
    r#"{"driver":"vmgenid"}"#,
    r#"{"driver":"pvpanic"}"#,
    r#"{"driver":"vhost-vsock-pci","guest-cid":1}"#,
    r#"{"driver":"scsi-hd","bus":"scsi0.0"}"#,
    r#"{"driver":"scsi-hd","drive":"node","bus":"scsi0.0","scsi-id":0,"lun":0}"#,
    r#"{"driver":"scsi-hd","drive":"node","bus":"scsi0.0","lun":20000}"#,
    r#"{"driver":"virtserialport","chardev":"char","bus":"ser0.0","nr":99}"#,
    r#"{"driver":"virtserialport","chardev":"other","bus":"ser0.0"}"#,
];

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What is counted.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    descriptors: usize,
    threads: usize,
    tree: String,
    peripherals: Value,
    anonymous: Value,
    objects: Value,
    functions: String,
}

struct Soak {
    t: Qtest,
    chance: Chance,
    /// The port that guests drive.
    port: Function,
    express: u8,
    /// Something has power there.
    on: bool,
    next: usize,
}

impl Soak {
    fn start() -> Self {
        let mut t = Qtest::start(&[
            "-device",
            "pcie-root-port,id=rp0,chassis=1,addr=3",
            "-device",
            "pcie-root-port,id=fixed,chassis=2,addr=4,hotplug=off",
            "-device",
            "virtio-scsi-pci,id=scsi0,addr=5",
            "-device",
            "scsi-cd,id=cd0,bus=scsi0.0,scsi-id=0,lun=0",
            "-device",
            "virtio-serial-pci,id=ser0,addr=6",
        ]);
        let port = Function::at(3, 0);
        let express = port.capability(&mut t, 0x10).expect("a port");
        port.enable(&mut t);
        Soak {
            t,
            chance: Chance(0x9e37_79b9_7f4a_7c15),
            port,
            express,
            on: false,
            next: 0,
        }
    }

    /// What the driver says about the slot.
    fn power(&mut self, commands: [u16; 3]) {
        let control = self.express + 0x18;
        for command in commands {
            self.port.write16(&mut self.t, control, command);
        }
    }

    fn round(&mut self) {
        for (add, arguments, ..) in BACK_ENDS {
            self.t.vm.exec(add, parse(arguments));
        }
        for _ in 0..3 {
            match self.chance.below(2) {
                0 => self.refuse(),
                _ => self.come_and_go(),
            }
        }
        // Whoever still had one of them would be noticed here.
        for (.., remove, arguments) in BACK_ENDS.into_iter().rev() {
            self.t.vm.exec(remove, parse(arguments));
        }
    }

    fn refuse(&mut self) {
        let mut options = parse(self.chance.one(&BAD));
        self.name(&mut options);
        self.t.vm.refused("device_add", options);
    }

    /// Gives a device an id, mostly, and a place if it has none.
    fn name(&mut self, options: &mut Value) -> String {
        self.next += 1;
        // Few enough to come again.
        let id = format!("d{}", self.next % 7);
        options["id"] = id.as_str().into();
        if options.get("bus").is_none() {
            options["bus"] = "rp0".into();
        }
        id
    }

    fn come_and_go(&mut self) {
        let mut options = parse(self.chance.one(&GOOD));
        let id = self.name(&mut options);
        let behind_port = options["bus"] == "rp0";
        self.t.vm.exec("device_add", options.clone());
        let again = self.t.vm.refused("device_add", options.clone());
        assert!(again.desc.contains(&id), "{options}: {}", again.desc);
        self.add_child(&options, &id);
        self.on = behind_port && self.chance.below(2) == 0;
        if self.on {
            self.power(ON);
        }
        if self.chance.below(8) == 0 {
            self.t.vm.exec("stop", json!({}));
            self.t.vm.exec("cont", json!({}));
        }
        self.t.vm.exec("device_del", json!({"id": id}));
        match (self.on, self.chance.below(4)) {
            (true, 0) => {
                self.t.vm.exec("system_reset", json!({}));
            }
            (true, _) => self.power(OFF),
            (false, _) => {}
        }
        loop {
            let event = self.t.vm.qmp().event("DEVICE_DELETED");
            if event["data"]["device"] == id.as_str() {
                break;
            }
        }
        let gone = self.t.vm.refused("device_del", json!({"id": id}));
        assert_eq!(gone.desc, format!("Device '{id}' not found"));
    }

    /// Something on the bus inside, which goes with it.
    fn add_child(&mut self, options: &Value, id: &str) {
        let child = match options["driver"].as_str() {
            Some("virtio-scsi-pci") => json!({"driver": "scsi-hd", "drive": "node"}),
            Some("virtio-serial-pci") => json!({"driver": "virtserialport", "chardev": "char"}),
            _ => return,
        };
        let mut child = child;
        child["bus"] = format!("{id}.0").into();
        if self.chance.below(2) == 0 {
            child["id"] = format!("{id}-child").into();
        }
        self.t.vm.exec("device_add", child);
    }

    fn counts(&mut self) -> Counts {
        let pid = self.t.vm.pid();
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{what}"));
            entries.map_or(0, Iterator::count)
        };
        let mut list = |path: &str| self.t.vm.exec("qom-list", json!({"path": path}));
        let (peripherals, anonymous) = (
            list("/machine/peripheral"),
            list("/machine/peripheral-anon"),
        );
        let objects = list("/objects");
        Counts {
            descriptors: count("fd"),
            threads: count("task"),
            peripherals,
            anonymous,
            objects,
            tree: self.t.vm.qmp().hmp("info qtree"),
            functions: self.t.vm.query("query-pci").to_string(),
        }
    }

    /// Kilobytes that the program has changed and keeps.
    fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.t.vm.pid()));
        let text = text.expect("a process");
        let line = text.lines().find(|line| line.starts_with("Private_Dirty:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number
            .and_then(|number| number.parse().ok())
            .expect("a figure")
    }
}

#[test]
fn nothing_is_left_of_what_came_and_went() {
    let mut soak = Soak::start();
    for _ in 0..WARM_UP {
        soak.round();
    }
    let (before, memory) = (soak.counts(), soak.memory());
    let end = Instant::now() + TIME;
    let mut rounds = 0;
    while Instant::now() < end {
        soak.round();
        rounds += 1;
    }
    // Threads that told of their end may need a moment for it.
    let mut after = soak.counts();
    for _ in 0..50 {
        if after == before {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        after = soak.counts();
    }
    assert_eq!(after, before, "after {rounds} rounds");
    let more = soak.memory().saturating_sub(memory);
    assert!(more < 2048, "{more} KiB more after {rounds} rounds");
}
