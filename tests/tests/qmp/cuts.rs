//! The link between two processes is cut, anywhere: afterwards the machine runs on exactly one side, or the
//! source says that it does not know, and then it does not run there by itself. `QVMD_CUTS` says how often,
//! `QVMD_HOPS` how often a machine goes to and fro without an accident, `QVMD_SEED` which accidents.
#![allow(clippy::disallowed_methods)] // threads of a test

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::binary::is_stand_in;
use tests::migrate::{enable, go, listen, wait};
use tests::{Serial, Vm, VmBuilder, seconds};

use crate::churner::{Churner, directory, new_disk, side, waiting};

/// When the link is cut.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// After so many bytes to the target, over all channels.
    Bytes(u64),
    /// After so long.
    Time(Duration),
    /// After so many bytes of the target's answers: `Ready` and `Running` are 20 each.
    Answer(u64),
    /// So many bytes to the target behind its first answer: `Go` is 20.
    Go(u64),
}

#[derive(Debug)]
struct Wire {
    plan: Plan,
    there: u64,
    back: u64,
    /// Bytes to the target when it answered first.
    answered: Option<u64>,
    cut: bool,
    sockets: Vec<UnixStream>,
}

impl Wire {
    /// How many of these bytes go on, and whether the link is cut behind them.
    fn take(&mut self, back: bool, len: u64) -> (u64, bool) {
        if self.cut {
            return (0, true);
        }
        let most = match (self.plan, back) {
            (Plan::Bytes(most), false) => most.saturating_sub(self.there),
            (Plan::Answer(most), true) => most.saturating_sub(self.back),
            (Plan::Go(most), false) => match self.answered {
                Some(before) => (before + most).saturating_sub(self.there),
                None => u64::MAX,
            },
            _ => u64::MAX,
        };
        let taken = len.min(most);
        if back {
            self.answered.get_or_insert(self.there);
            self.back += taken;
        } else {
            self.there += taken;
        }
        // What is exactly at the end is all of it: the next byte is the one that is lost.
        (
            taken,
            len > most || matches!(self.plan, Plan::Go(0)) && back,
        )
    }

    fn cut(&mut self) {
        self.cut = true;
        for socket in self.sockets.drain(..) {
            // Whoever is gone already needs no telling.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Stands between a source and the socket of its target.
struct Proxy {
    path: PathBuf,
    wire: Arc<Mutex<Wire>>,
    threads: Vec<JoinHandle<()>>,
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    fn new(directory: &Path, number: usize, target: PathBuf, plan: Plan) -> Self {
        let path = directory.join(format!("wire{number}"));
        let listener = UnixListener::bind(&path).expect("a socket");
        let wire = Arc::new(Mutex::new(Wire {
            plan,
            there: 0,
            back: 0,
            answered: None,
            cut: false,
            sockets: Vec::new(),
        }));
        let mut threads = Vec::new();
        let shared = wire.clone();
        threads.push(std::thread::spawn(move || {
            serve(&listener, &target, &shared)
        }));
        if let Plan::Time(time) = plan {
            let shared = wire.clone();
            threads.push(std::thread::spawn(move || {
                std::thread::sleep(time);
                lock(&shared).cut();
            }));
        }
        Proxy {
            path,
            wire,
            threads,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.wire).cut();
        // It waits for callers.
        let _ = UnixStream::connect(&self.path);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, target: &Path, wire: &Arc<Mutex<Wire>>) {
    let mut pumps = Vec::new();
    for caller in listener.incoming() {
        let mut held = lock(wire);
        let (Ok(caller), false) = (caller, held.cut) else {
            break;
        };
        let Ok(callee) = UnixStream::connect(target) else {
            break;
        };
        for (from, to, back) in [(&caller, &callee, false), (&callee, &caller, true)] {
            let copy = |socket: &UnixStream| socket.try_clone().expect("a descriptor");
            held.sockets.push(copy(from));
            let (from, to, wire) = (copy(from), copy(to), wire.clone());
            pumps.push(std::thread::spawn(move || pump(from, to, back, &wire)));
        }
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream, back: bool, wire: &Mutex<Wire>) {
    let mut bytes = [0; 16384];
    while let Ok(got @ 1..) = from.read(&mut bytes) {
        let (taken, cut) = lock(wire).take(back, got as u64);
        let written = to.write_all(&bytes[..taken as usize]);
        if cut {
            lock(wire).cut();
        }
        if cut || written.is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

struct Noise(u64);

impl Noise {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn plan(noise: &mut Noise, whole: u64) -> Plan {
    match noise.below(6) {
        0 | 1 => Plan::Bytes(noise.below(whole)),
        // Devices are there, and the end.
        2 => Plan::Bytes(whole.saturating_sub(noise.below(40_000))),
        3 => Plan::Time(Duration::from_micros(noise.below(150_000))),
        4 => Plan::Answer(noise.below(41)),
        _ => Plan::Go(noise.below(21)),
    }
}

fn small(disk: &Path) -> Option<VmBuilder> {
    Some(side(Some(disk))?.args(["-m", "32"]))
}

/// A target that runs what comes to it, and its console.
fn target(disk: &Path) -> Option<(Vm, Serial)> {
    let builder = small(disk)?;
    let console = builder.path("serial.sock");
    let mut vm = waiting(builder);
    let serial = Serial::over(vm.connect_when_ready(&console));
    vm.query("cont");
    Some((vm, serial))
}

/// How a migration ended; what it is now, where it has not after a while.
fn ended(vm: &mut Vm, limit: Duration) -> (String, Value) {
    let end = Instant::now() + limit;
    loop {
        let info = vm.query("query-migrate");
        let status = info["status"].as_str().unwrap_or("none").to_owned();
        let over = ["completed", "failed", "cancelled"].contains(&status.as_str());
        if over || Instant::now() > end {
            return (status, info);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn state(vm: &mut Vm) -> String {
    vm.query("query-status")["status"]
        .as_str()
        .unwrap_or("?")
        .to_owned()
}

/// What became of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Stayed,
    Went,
    UnknownAndWent,
    UnknownAndStayed,
}

fn outcome(source: &mut Vm, target: &mut Vm) -> Outcome {
    let (status, info) = ended(source, seconds(30));
    let here = state(source);
    match (status.as_str(), here.as_str()) {
        ("completed", "postmigrate") => {
            wait(target, "completed");
            assert_eq!(state(target), "running", "{info}");
            Outcome::Went
        }
        ("failed", "running") => {
            // Whoever never said what a migration begins with has not called: the target waits on.
            let (there, said) = ended(target, seconds(2));
            assert!(there == "failed" || there == "setup", "{info}, {said}");
            assert_eq!(state(target), "inmigrate", "{info}, {said}");
            Outcome::Stayed
        }
        ("failed", "postmigrate") => {
            let why = info["error-desc"].to_string();
            assert!(why.contains("had been told that it may run"), "{info}");
            let (there, said) = ended(target, seconds(30));
            match (there.as_str(), state(target).as_str()) {
                ("completed", "running") => {
                    let refused = source.refused("cont", json!({}));
                    assert!(refused.desc.contains("lock"), "{refused}");
                    Outcome::UnknownAndWent
                }
                ("failed", "inmigrate") => Outcome::UnknownAndStayed,
                other => panic!("{other:?}: {info}, {said}"),
            }
        }
        other => panic!("{other:?}: {info}; {}", source.stderr()),
    }
}

/// One migration over a link with an accident.
fn attempt(
    churner: Churner,
    (mut vm, serial): (Vm, Serial),
    proxy: Proxy,
    channels: u64,
) -> (Churner, Outcome) {
    let mut churner = churner;
    for vm in [&mut churner.vm, &mut vm] {
        let on = json!([{"capability": "multifd", "state": channels > 0}]);
        vm.exec("migrate-set-capabilities", json!({ "capabilities": on }));
        if channels > 0 {
            let count = json!({ "multifd-channels": channels });
            vm.exec("migrate-set-parameters", count);
        }
    }
    let uri = format!("unix:{}", vm.path("migration.sock").display());
    let quietly = json!({"uri": uri, "exit-on-error": false});
    vm.exec("migrate-incoming", quietly);
    let uri = format!("unix:{}", proxy.path.display());
    churner.vm.exec("migrate", json!({ "uri": uri }));
    let outcome = outcome(&mut churner.vm, &mut vm);
    drop(proxy);
    match outcome {
        Outcome::Went | Outcome::UnknownAndWent => {
            vm.query("stop");
            return (churner.went_to(vm, serial), outcome);
        }
        Outcome::UnknownAndStayed => {
            vm.quit();
            churner.vm.query("cont");
        }
        Outcome::Stayed => drop(vm.quit()),
    }
    churner.lives();
    (churner, outcome)
}

#[test]
fn the_link_is_cut_anywhere() {
    if is_stand_in() {
        return;
    }
    let directory = directory();
    let disk = new_disk(&directory);
    let Some(builder) = small(&disk) else { return };
    let mut churner = Churner::start(builder);
    let seed = u64::from(std::process::id()) << 20 | 1;
    let seed = number("QVMD_SEED", seed);
    let mut noise = Noise(seed);
    // How much there is to be sent: one that goes well.
    let mut whole = 0;
    let mut outcomes = Vec::new();
    for number in 0..=number("QVMD_CUTS", 200) as usize {
        let plan = match number {
            0 => Plan::Bytes(u64::MAX),
            _ => plan(&mut noise, whole),
        };
        let channels = match number % 4 {
            3 => 1 + noise.below(3),
            _ => 0,
        };
        println!("{number} of seed {seed}: {plan:?}, {channels} more channels");
        let Some(target) = target(&disk) else { return };
        let at = target.0.path("migration.sock");
        let proxy = Proxy::new(directory.path(), number, at, plan);
        let wire = proxy.wire.clone();
        let (next, outcome) = attempt(churner, target, proxy, channels);
        println!("    {outcome:?}");
        churner = next;
        match number {
            0 => whole = lock(&wire).there,
            _ => outcomes.push(outcome),
        }
    }
    let count = |wanted| outcomes.iter().filter(|found| **found == wanted).count();
    for outcome in [
        Outcome::Stayed,
        Outcome::Went,
        Outcome::UnknownAndWent,
        Outcome::UnknownAndStayed,
    ] {
        println!("{outcome:?}: {}", count(outcome));
    }
    if outcomes.len() >= 20 {
        // Otherwise nothing was cut.
        assert!(count(Outcome::Stayed) > 0, "seed {seed}: {outcomes:?}");
    }
    churner.end();
}

/// Descriptors and threads that a process has.
fn belongings(vm: &Vm) -> [usize; 2] {
    ["fd", "task"].map(|what| {
        let list = std::fs::read_dir(format!("/proc/{}/{what}", vm.pid()));
        list.expect("a process").count()
    })
}

#[test]
fn nothing_is_left_of_migrations_that_fail() {
    if is_stand_in() {
        return;
    }
    let directory = directory();
    let mut vm = VmBuilder::new().idle().start();
    let mut before = None;
    for round in 0..6 {
        for channels in [0, 3] {
            let on = json!([{"capability": "multifd", "state": channels > 0}]);
            vm.exec("migrate-set-capabilities", json!({ "capabilities": on }));
            vm.exec("migrate-set-parameters", json!({"multifd-channels": 3}));
            let mut target = VmBuilder::new().idle().args(["-incoming", "defer"]).start();
            let uri = format!("unix:{}", target.path("migration.sock").display());
            target.exec(
                "migrate-incoming",
                json!({"uri": uri, "exit-on-error": false}),
            );
            let number = round * 10 + channels;
            let plan = Plan::Bytes([100, 1000, 3000][round % 3]);
            let at = target.path("migration.sock");
            let proxy = Proxy::new(directory.path(), number, at, plan);
            let uri = format!("unix:{}", proxy.path.display());
            vm.exec("migrate", json!({ "uri": uri }));
            let (status, info) = ended(&mut vm, seconds(30));
            assert_eq!(
                (status.as_str(), state(&mut vm).as_str()),
                ("failed", "running"),
                "{info}"
            );
            let (status, info) = ended(&mut target, seconds(30));
            assert_eq!(status, "failed", "{info}");
            drop(proxy);
            // One that waits for a machine has what any program has, and no thread more.
            let mut fresh = VmBuilder::new().idle().args(["-incoming", "defer"]).start();
            fresh.query("query-status");
            assert_eq!(belongings(&target)[1], belongings(&fresh)[1]);
            fresh.quit();
            target.quit();
        }
        let off = json!([{"capability": "multifd", "state": false}]);
        vm.exec("migrate-set-capabilities", json!({ "capabilities": off }));
        vm.exec("migrate", json!({"uri": "unix:/nonexistent/x"}));
        wait(&mut vm, "failed");
        enable(&mut vm, &["pause-before-switchover"]);
        let file = format!("file:{}", directory.path().join("state").display());
        for uri in ["exec:cat > /dev/null", &file] {
            vm.exec("migrate", json!({ "uri": uri }));
            wait(&mut vm, "pre-switchover");
            vm.query("migrate_cancel");
            wait(&mut vm, "cancelled");
        }
        let off = json!([{"capability": "pause-before-switchover", "state": false}]);
        vm.exec("migrate-set-capabilities", json!({ "capabilities": off }));
        assert_eq!(state(&mut vm), "running");
        let now = belongings(&vm);
        assert_eq!(*before.get_or_insert(now), now, "descriptors and threads");
    }
    vm.quit();
}

#[test]
fn to_and_fro() {
    let directory = directory();
    let disk = new_disk(&directory);
    let Some(builder) = small(&disk) else { return };
    let mut churner = Churner::start(builder);
    for hop in 0..number("QVMD_HOPS", 12) {
        let Some((mut vm, serial)) = target(&disk) else {
            return;
        };
        let uri = format!("unix:{}", vm.path("migration.sock").display());
        for vm in [&mut churner.vm, &mut vm] {
            let on = json!([{"capability": "multifd", "state": hop % 3 == 2}]);
            vm.exec("migrate-set-capabilities", json!({ "capabilities": on }));
        }
        listen(&mut vm, &uri);
        go(&mut churner.vm, &uri);
        wait(&mut vm, "completed");
        assert_eq!(state(&mut vm), "running");
        vm.query("stop");
        churner = churner.went_to(vm, serial);
    }
    churner.end();
}
