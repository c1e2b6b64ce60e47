//! A Linux that works all the time, whatever process it is in: it counts, checks its memory and its
//! arithmetic, writes to its disk and talks on its network. At the end everything is compared.
#![allow(clippy::disallowed_methods)] // The rule for threads is for those of the program.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Serial, Vm, VmBuilder, artifacts, disk, seconds};

use crate::cable::{host, in_lab};
use crate::{wait, with_kernel};

const SECTOR: usize = 512;
/// More than are written.
const SECTORS: u64 = 1 << 16;
/// Guest memory in MiB.
const MEMORY_MIB: &str = "160";
/// The host's address on the bridge.
const HOST: &str = "10.78.0.1";
/// So long the host takes for an answer.
const ANSWER: Duration = Duration::from_millis(30);
/// Words of the kernel that tell of a clock or a device that did not come along.
const COMPLAINTS: &str = "unstable|lockup|stall|skew|backwards|hung|BUG|WARNING|Oops|segfault|general protection|\
     traps:|I/O error|timed out|timeout|lost";

/// Copies memory and compares it; adds numbers up and compares the sum.
const MEMORY: &str = "dd if=/dev/urandom of=/tmp/m bs=1M count=2 2>/dev/null; \
     add() { awk 'BEGIN { for (i = 1; i < 4000; i++) s += i / 3; printf \"%.17g\", s }'; }; \
     (s=$(md5sum </tmp/m); f=$(add); [ -n \"$f\" ] || echo BAD awk; while [ -e /tmp/go ]; do cp /tmp/m /tmp/n; \
     [ \"$(md5sum </tmp/n)\" = \"$s\" ] || echo BAD memory; \
     [ \"$(add)\" = \"$f\" ] || echo BAD sum; rm /tmp/n; sleep 0.2; done; echo memory over) & true";

/// Fills one sector after the other with its number.
const DISK: &str = "(i=0; while [ -e /tmp/go ]; do printf '%0512d' $i | \
     dd of=/dev/vda bs=512 seek=$i conv=fsync 2>/dev/null || echo BAD write; i=$((i+1)); done; \
     echo \"wrote $i sectors\") & true";

/// Says a number, how long it runs, and what time it is.
const COUNT: &str = "(i=0; while [ -e /tmp/go ]; do read up idle </proc/uptime; \
     echo \"tick $i $up $EPOCHREALTIME\"; i=$((i+1)); sleep 0.05; done; echo counted) & true";

/// Sends numbers over one TCP connection, each when the one before has come back.
fn talk(port: u16) -> String {
    format!(
        "mkfifo /tmp/in; (nc {HOST} {port} </tmp/in | (exec 3>/tmp/in; i=0; while [ -e /tmp/go ]; do \
         echo $i >&3; read -r back; [ \"$back\" = $i ] || {{ echo \"BAD answer $back to $i\"; break; }}; \
         i=$((i+1)); done; echo over >&3; echo \"talked $i times\")) & true"
    )
}

/// What its memory is made of in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Private,
    /// A file of this process alone.
    Shared,
    /// The file that the process before has.
    SameShared,
}

/// A bridge with the host on it, which answers.
struct Network {
    script: PathBuf,
    port: u16,
    answers: Option<JoinHandle<u64>>,
    /// How many so far.
    answered: Arc<AtomicU64>,
}

impl Network {
    fn new(directory: &Path) -> Option<Self> {
        if !in_lab() {
            return None;
        }
        // With an address of its own: by itself a bridge takes that of one of its ports, which come and go.
        host(&format!(
            "ip link add qvmove address 52:54:00:78:00:01 type bridge && ip addr add {HOST}/24 dev qvmove && \
             ip link set qvmove up"
        ));
        let script = directory.join("up");
        fs::write(&script, "#!/bin/sh\nip link set $1 master qvmove up\n").expect("a script");
        host(&format!("chmod +x {}", script.display()));
        let listener = TcpListener::bind((HOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let answered = Arc::new(AtomicU64::new(0));
        let count = answered.clone();
        let answers = std::thread::spawn(move || answer(&listener, &count));
        Some(Network {
            script,
            port,
            answers: Some(answers),
            answered,
        })
    }
}

impl Network {
    /// The guest goes on talking.
    fn lives(&self) {
        let (before, begun) = (self.answered.load(Ordering::Relaxed), Instant::now());
        while self.answered.load(Ordering::Relaxed) < before + 2 {
            assert!(begun.elapsed() < seconds(60), "it is silent after {before}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["link", "del", "qvmove"])
            .status();
    }
}

/// Sends back what comes: numbers, of which none is missing and none comes twice.
fn answer(listener: &TcpListener, count: &AtomicU64) -> u64 {
    let (mut stream, _) = listener.accept().expect("the guest");
    let limit = Some(seconds(120));
    stream.set_read_timeout(limit).expect("a limit");
    let lines = BufReader::new(stream.try_clone().expect("the other half")).lines();
    let mut next = 0;
    for line in lines {
        let line = line.expect("a line of the guest");
        if line == "over" {
            break;
        }
        assert_eq!(line, next.to_string(), "on the network");
        std::thread::sleep(ANSWER);
        writeln!(stream, "{line}").expect("the guest takes it");
        next += 1;
        count.store(next, Ordering::Relaxed);
    }
    next
}

/// The machine, whatever process it is in.
pub struct Traveller {
    pub vm: Vm,
    pub serial: Serial,
    /// What it said in the processes before.
    said: String,
    /// What both sides have.
    share: TempDir,
    cpus: u32,
    network: Option<Network>,
    /// How many there were, with the one it is in.
    pub processes: u32,
    pub memory: Memory,
    /// Whether the second disk is plugged in.
    pub plugged: bool,
    /// In which process it was.
    plugged_in: u32,
}

impl Traveller {
    /// Boots it and puts it to work; `None` where there is no guest.
    pub fn start(cpus: u32) -> Option<Self> {
        artifacts::guest()?;
        let share = tempfile::tempdir().expect("a temporary directory");
        for name in ["disk.img", "hot.img"] {
            disk::raw(share.path(), name, SECTORS * SECTOR as u64);
        }
        let network = Network::new(share.path());
        let begun = Instant::now();
        let mut vm = builder(share.path(), cpus, network.as_ref(), 0, false)?.start();
        let mut serial = vm.serial();
        wait(&mut serial);
        println!("up after {:.0} s", begun.elapsed().as_secs_f64());
        let mut traveller = Traveller {
            vm,
            serial,
            said: String::new(),
            share,
            cpus,
            network,
            processes: 1,
            memory: Memory::Private,
            plugged: false,
            plugged_in: 0,
        };
        traveller.work();
        println!("at work after {:.0} s", begun.elapsed().as_secs_f64());
        Some(traveller)
    }

    fn work(&mut self) {
        let serial = &mut self.serial;
        serial.run("until test -b /dev/vda; do sleep 0.1; done");
        serial.run("dmesg -c >/dev/null; mkdir -p /tmp; touch /tmp/go");
        if let Some(network) = &self.network {
            serial.run("ip link set eth0 up; ip addr add 10.78.0.2/24 dev eth0");
            serial.run(&talk(network.port));
        }
        for line in [MEMORY, DISK, COUNT] {
            serial.run(line);
        }
        serial.expect("tick 2 ");
    }

    /// A file that both sides can reach.
    pub fn path(&self, name: &str) -> PathBuf {
        self.share.path().join(name)
    }

    /// Another process for it, with memory of this kind. `stopped`: it is not to go on there by itself.
    pub fn waiting(&self, memory: Memory, stopped: bool) -> Vm {
        let (share, network) = (self.share.path(), self.network.as_ref());
        let builder = builder(share, self.cpus, network, self.processes, self.plugged);
        let mut builder = builder.expect("a guest, as before");
        let file = self.path("memory");
        match memory {
            Memory::Private => {}
            Memory::Shared => fs::remove_file(&file).unwrap_or_default(),
            Memory::SameShared => assert_ne!(self.memory, Memory::Private),
        }
        if memory != Memory::Private {
            let object = format!(
                "memory-backend-file,id=pc.ram,size={MEMORY_MIB}M,share=on,mem-path={}",
                file.display()
            );
            builder = builder.args(["-object", &object, "-machine", "memory-backend=pc.ram"]);
        }
        if stopped {
            builder = builder.arg("-S");
        }
        builder.args(["-incoming", "defer"]).start()
    }

    /// It is in this process now, whose memory is of this kind, and works there. The one before ends.
    pub fn went_to(&mut self, target: Vm, serial: Serial, memory: Memory) {
        assert_eq!(self.vm.query("query-status")["status"], "postmigrate");
        self.hear_all();
        let before = std::mem::replace(&mut self.vm, target);
        before.quit();
        self.serial.rest();
        self.said.push_str(self.serial.seen());
        self.serial = serial;
        self.processes += 1;
        self.memory = memory;
        for _ in 0..2 {
            self.serial.expect("tick ");
        }
        assert_eq!(self.vm.query("query-status")["status"], "running");
        if let Some(network) = &self.network {
            network.lives();
        }
    }

    /// Reads the console until nothing more comes. The machine stands still here, and nobody has read while it
    /// was on its way: what does not fit into the socket waits in the program, and ends with it.
    fn hear_all(&mut self) {
        let mut heard = 0;
        while self.serial.seen().len() > heard {
            heard = self.serial.seen().len();
            self.serial.comes("\0", Duration::from_millis(500));
        }
    }

    /// Plugs the second disk in, and writes to it.
    pub fn plug(&mut self) {
        let device = json!({"driver": "virtio-blk-pci", "id": "hot", "drive": "h", "bus": "rp"});
        self.vm.exec("device_add", device);
        self.plugged = true;
        let serial = &mut self.serial;
        serial.run("until test -b /dev/vdb; do sleep 0.1; done; until dd if=/dev/vdb of=/dev/null bs=512 count=1 2>/dev/null; do sleep 0.1; done");
        let number = self.processes;
        println!("a disk is plugged in, in process {number}");
        serial.run(&format!(
            "echo from {number:04} | dd of=/dev/vdb bs=512 conv=sync,fsync 2>/dev/null"
        ));
        self.plugged_in = number;
    }

    /// Looks at what was written to the second disk, writes, and takes the disk out.
    pub fn unplug(&mut self) {
        let serial = &mut self.serial;
        let (before, after) = (self.plugged_in, self.processes);
        serial.run(&format!(
            "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb bs=512 count=1 2>/dev/null | grep -q 'from {before:04}'"
        ));
        serial.run(&format!(
            "echo from {after:04} | dd of=/dev/vdb bs=512 seek=1 conv=sync,fsync 2>/dev/null"
        ));
        self.vm.exec("device_del", json!({"id": "hot"}));
        let until = Instant::now() + seconds(90);
        let gone = |event: Value| event["data"]["device"] == "hot";
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.vm.qmp().event_within("DEVICE_DELETED", left);
            if gone(event.expect("the disk is taken out")) {
                break;
            }
        }
        self.plugged = false;
        self.serial.run("! test -b /dev/vdb");
        let image = fs::read(self.path("hot.img")).expect("the second disk");
        for (at, number) in [(0, before), (SECTOR, after)] {
            let wanted = format!("from {number:04}\n\0");
            assert!(
                image[at..].starts_with(wanted.as_bytes()),
                "at {at}: {wanted}"
            );
        }
        println!("and is taken out in process {after}");
    }

    /// Ends its work and compares everything.
    pub fn end(mut self) {
        self.serial.send(b"rm /tmp/go\n");
        self.serial.expect("counted");
        self.serial
            .run("wait; sync; echo 3 >/proc/sys/vm/drop_caches");
        self.said.push_str(self.serial.seen());
        let said = &self.said;
        assert!(!said.contains("BAD"), "{said}");
        assert!(said.contains("memory over"), "{said}");
        check_ticks(said);
        let sectors = number(said, "wrote ");
        check_disk(&self.path("disk.img"), sectors);
        let sum = self.serial.run("md5sum </dev/vda");
        let image = self.path("disk.img");
        assert_eq!(
            sum,
            host(&format!("md5sum <{}", image.display())).trim_end()
        );
        let mut talked = 0;
        if let Some(answers) = self.network.as_mut().and_then(|it| it.answers.take()) {
            talked = number(said, "talked ");
            assert_eq!(answers.join().expect("the host's side"), talked);
        }
        assert_eq!(complaints(&mut self.serial), "");
        println!("{sectors} sectors written, {talked} times talked");
        self.vm.quit();
    }
}

/// What the kernel complained of.
pub fn complaints(serial: &mut Serial) -> String {
    serial.run(&format!("dmesg | grep -iE '{COMPLAINTS}'; true"))
}

/// A process of the machine; those after each other have interfaces of different names.
fn builder(
    share: &Path,
    cpus: u32,
    network: Option<&Network>,
    number: u32,
    plugged: bool,
) -> Option<VmBuilder> {
    let guest = artifacts::guest()?;
    let disk = |node: &str, name: &str| {
        let path = share.join(name);
        format!("file,node-name={node},filename={}", path.display())
    };
    // What is free is zero, and is not carried.
    let mut builder = with_kernel(VmBuilder::new(), &guest, "init_on_free=1")
        .args(["-m", MEMORY_MIB, "-smp", &cpus.to_string()])
        .args([
            "-blockdev",
            &disk("d", "disk.img"),
            "-blockdev",
            &disk("h", "hot.img"),
        ])
        .args(["-device", "virtio-blk-pci,drive=d"])
        .args(["-device", "virtio-rng-pci"])
        .args(["-device", "virtio-balloon-pci"])
        .args(["-device", "pcie-root-port,id=rp,chassis=1"]);
    if let Some(network) = network {
        let script = network.script.display();
        let tap = format!("tap,id=n,ifname=qvmove{number},script={script},downscript=no");
        builder = builder.args(["-netdev", &tap]);
        builder = builder.args(["-device", "virtio-net-pci,netdev=n,mac=52:54:00:78:00:02"]);
    }
    if plugged {
        builder = builder.args(["-device", "virtio-blk-pci,id=hot,drive=h,bus=rp"]);
    }
    Some(builder)
}

/// The number that comes behind these words.
fn number(said: &str, words: &str) -> u64 {
    let line = said.lines().find_map(|line| line.split_once(words));
    let number = line.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {words:?} in {said}"))
}

/// Numbers follow each other, and no clock goes back.
fn check_ticks(said: &str) {
    let ticks: Vec<(u64, f64, f64)> = said
        .lines()
        .filter_map(|line| {
            let mut words = line.trim().split_once("tick ")?.1.split(' ');
            let number = words.next()?.parse().ok()?;
            Some((
                number,
                words.next()?.parse().ok()?,
                words.next()?.parse().ok()?,
            ))
        })
        .collect();
    assert!(ticks.len() > 5, "{said}");
    for pair in ticks.windows(2) {
        assert_eq!(pair[1].0, pair[0].0 + 1, "{said}");
        assert!(pair[1].1 >= pair[0].1 && pair[1].2 >= pair[0].2, "{pair:?}");
    }
}

/// Each sector that was written has its number in it, and nothing is behind them.
fn check_disk(path: &Path, sectors: u64) {
    assert!((1..SECTORS).contains(&sectors), "{sectors}");
    let image = fs::read(path).expect("the disk");
    for (at, sector) in (0..).zip(image.chunks(SECTOR)) {
        let wanted = match at < sectors {
            true => format!("{at:0512}").into_bytes(),
            false => vec![0; SECTOR],
        };
        assert!(sector == wanted, "sector {at} of {sectors}");
    }
}
