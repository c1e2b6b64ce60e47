//! Machines for tests: memory that threads write, hosts that note what was asked of them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use api_spec::RunState;
use vmstate::Section;

use super::host::*;
use super::ram::{DirtyLog, PAGE, PageSet, RamBlock, RamView};
use super::source::Source;
use super::target::{RamLoad, Target};
use crate::machine::saved::MachineConfig;
use crate::memory::mapping::{self, Mapping, Sharing};

/// RAM of a machine that is none.
pub struct Memory {
    pub view: RamView,
    _mappings: Vec<Mapping>,
}

impl Memory {
    /// Blocks of so many pages, anonymous.
    pub fn new(pages: &[u64]) -> Self {
        let make = |(number, pages): (usize, &u64)| {
            let len = pages * PAGE;
            let source = mapping::Source::Anonymous;
            let mapping = map(source, Sharing::Private, len);
            (block(number, len, &mapping, None), mapping)
        };
        let (blocks, _mappings) = pages.iter().enumerate().map(make).unzip();
        Memory {
            view: RamView { blocks },
            _mappings,
        }
    }

    /// One block of a memfd.
    pub fn shared(file: Arc<File>, pages: u64) -> Self {
        let len = pages * PAGE;
        let mapping = map(mapping::Source::File(&file, 0), Sharing::Shared, len);
        let blocks = vec![block(0, len, &mapping, Some((file, 0)))];
        Memory {
            view: RamView { blocks },
            _mappings: vec![mapping],
        }
    }

    /// Fills some pages with noise, by `seed`; others stay as they are.
    pub fn fill(&self, seed: u64) {
        let mut noise = Noise(seed | 1);
        for block in &self.view.blocks {
            for page in 0..block.pages() {
                if !noise.next().is_multiple_of(3) {
                    block.write(page * PAGE, &noise.page());
                }
            }
        }
    }

    /// Everything, to be compared.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        let all = |block: &RamBlock| {
            let mut bytes = vec![0; block.len as usize];
            assert!(block.read(0, &mut bytes));
            bytes
        };
        self.view.blocks.iter().map(all).collect()
    }

    /// Bytes of the host's memory that it takes.
    pub fn resident(&self) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut sum = 0;
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            let hex = |text: &str| u64::from_str_radix(text, 16).ok();
            if let Some((Some(from), Some(_))) = range.map(|(a, b)| (hex(a), hex(b))) {
                let holds = |block: &RamBlock| (block.host..block.host + block.len).contains(&from);
                inside = self.view.blocks.iter().any(holds);
            }
            if let (true, Some(rest)) = (inside, line.strip_prefix("Rss:")) {
                let kib: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap();
                sum += kib << 10;
            }
        }
        sum
    }
}

fn map(source: mapping::Source<'_>, sharing: Sharing, len: u64) -> Mapping {
    Mapping::new(source, sharing, len as usize, 4096, false).unwrap()
}

fn block(number: usize, len: u64, mapping: &Mapping, file: Option<(Arc<File>, u64)>) -> RamBlock {
    RamBlock {
        name: format!("block{number}"),
        len,
        host: mapping.addr() as u64,
        shared: file.is_some(),
        file,
    }
}

/// Bytes without a pattern (xorshift64).
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn page(&mut self) -> Vec<u8> {
        let words = (0..PAGE / 8).flat_map(|_| self.next().to_le_bytes());
        words.collect()
    }
}

/// A guest that writes: after a page was written, it is in the log.
pub struct Guest {
    halt: Arc<AtomicBool>,
    log: Log,
    threads: Vec<JoinHandle<()>>,
}

impl Guest {
    /// With so many processors, each of which waits so many microseconds between two writes.
    pub fn new(view: &RamView, processors: u64, pause: u64) -> Self {
        let halt = Arc::new(AtomicBool::new(false));
        let log = Log::new(view);
        let threads = (0..processors).map(|number| {
            let (halt, log, view) = (halt.clone(), log.clone(), view.clone());
            std::thread::spawn(move || {
                let mut noise = Noise(number + 1);
                while !halt.load(Ordering::SeqCst) {
                    let which = noise.next() as usize % view.blocks.len();
                    let block = &view.blocks[which];
                    let page = noise.next() % block.pages();
                    let data = match noise.next() % 4 {
                        0 => vec![0; PAGE as usize],
                        _ => noise.page(),
                    };
                    block.write(page * PAGE, &data);
                    log.sets.lock().unwrap()[which].insert(page);
                    std::thread::sleep(std::time::Duration::from_micros(pause));
                }
            })
        });
        let threads = threads.collect();
        Guest { halt, log, threads }
    }

    pub fn log(&self) -> Log {
        self.log.clone()
    }

    pub fn halt(&mut self) {
        self.halt.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A log that is told.
#[derive(Clone)]
pub struct Log {
    pub sets: Arc<Mutex<Vec<PageSet>>>,
    pub running: Arc<AtomicBool>,
}

impl Log {
    pub fn new(view: &RamView) -> Self {
        Log {
            sets: Arc::new(Mutex::new(super::load::empty_sets(view))),
            running: Arc::default(),
        }
    }
}

impl DirtyLog for Log {
    fn start(&mut self) -> io::Result<()> {
        self.running.store(true, Ordering::SeqCst);
        for set in self.sets.lock().unwrap().iter_mut() {
            *set = PageSet::none(set.pages());
        }
        Ok(())
    }

    fn collect(&mut self, sets: &mut [PageSet]) -> io::Result<()> {
        assert!(self.running.load(Ordering::SeqCst));
        for (to, from) in sets.iter_mut().zip(self.sets.lock().unwrap().iter_mut()) {
            to.insert_words(0, from.words());
            *from = PageSet::none(from.pages());
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.running.store(false, Ordering::SeqCst);
    }
}

/// What a host was asked, in order.
pub type Notes = Arc<Mutex<Vec<String>>>;

pub fn note(notes: &Notes, text: &str) {
    notes.lock().unwrap().push(text.to_owned());
}

/// Control on the source's side.
pub struct FakeSource {
    pub config: MachineConfig,
    pub guest: Option<Guest>,
    pub notes: Notes,
    pub sections: Vec<Section>,
    /// Fails there: `stop`, `hand_over`, `take_back`.
    pub fails: &'static str,
    pub passes: Arc<AtomicU64>,
}

impl SourceHost for FakeSource {
    fn config(&self) -> MachineConfig {
        self.config.clone()
    }

    fn pass(&mut self, number: u64) {
        assert_eq!(self.passes.fetch_add(1, Ordering::SeqCst) + 1, number);
    }

    fn throttle(&mut self, percent: u8) {
        note(&self.notes, &format!("throttle {percent}"));
    }

    fn stop(&mut self) -> Result<Stopped, Broken> {
        if let Some(mut guest) = self.guest.take() {
            guest.halt();
        }
        note(&self.notes, "stop");
        self.fail("stop")?;
        Ok(Stopped {
            state: RunState::Running,
            sections: self.sections.clone(),
        })
    }

    fn hand_over(&mut self) -> Result<(), Broken> {
        note(&self.notes, "hand_over");
        self.fail("hand_over")
    }

    fn take_back(&mut self) -> Result<(), Broken> {
        note(&self.notes, "take_back");
        self.fail("take_back")
    }
}

impl FakeSource {
    fn fail(&self, at: &str) -> Result<(), Broken> {
        match self.fails == at {
            true => Err(Broken::Failed(format!("{at} failed"))),
            false => Ok(()),
        }
    }
}

/// Control on the target's side.
pub struct FakeTarget {
    pub config: MachineConfig,
    pub notes: Notes,
    pub loaded: Arc<Mutex<Vec<Section>>>,
    /// Fails there: `load`, `activate`.
    pub fails: &'static str,
}

impl TargetHost for FakeTarget {
    fn check(&mut self, config: &MachineConfig) -> Result<(), String> {
        match *config == self.config {
            true => Ok(()),
            false => Err(format!("machine '{}' is another one", config.machine)),
        }
    }

    fn load(&mut self, stopped: Stopped) -> Result<(), String> {
        note(&self.notes, "load");
        *self.loaded.lock().unwrap() = stopped.sections;
        match self.fails == "load" {
            true => Err("Section 'x': load failed".into()),
            false => Ok(()),
        }
    }

    fn activate(&mut self) -> Result<(), String> {
        note(&self.notes, "activate");
        match self.fails == "activate" {
            true => Err("activate failed".into()),
            false => Ok(()),
        }
    }
}

pub fn sections() -> Vec<Section> {
    let section = |number: u32| Section {
        id: "device".into(),
        instance: format!("/machine/device{number}"),
        version: number,
        body: vec![number as u8; number as usize * 1000],
    };
    (0..5).map(section).collect()
}

pub fn config() -> MachineConfig {
    MachineConfig {
        machine: "pc-q35-10.0".into(),
        cpus: 2,
        ..MachineConfig::default()
    }
}

/// Both ends of a migration, ready to run.
pub struct Pair {
    pub source: Source,
    pub target: Target,
    pub said: Notes,
    pub loaded: Arc<Mutex<Vec<Section>>>,
}

pub fn tunables() -> Arc<Tunables> {
    let tunables = Tunables::default();
    tunables.downtime_limit.store(300, Ordering::Relaxed);
    tunables.throttle_trigger.store(50, Ordering::Relaxed);
    tunables.throttle_initial.store(20, Ordering::Relaxed);
    tunables.throttle_increment.store(10, Ordering::Relaxed);
    tunables.throttle_max.store(99, Ordering::Relaxed);
    Arc::new(tunables)
}

/// Of these ends of channels; the first is the main one.
pub fn pair(
    from: &Memory,
    to: &Memory,
    guest: Option<Guest>,
    options: SendOptions,
    mut channels: Vec<(Channel, Channel)>,
) -> Pair {
    let (main_out, main_in) = channels.remove(0);
    let (out, into): (Vec<Channel>, Vec<Channel>) = channels.into_iter().unzip();
    let said = Notes::default();
    let loaded = Arc::<Mutex<Vec<Section>>>::default();
    let log = match &guest {
        Some(guest) => guest.log(),
        None => Log::new(&from.view),
    };
    let source = Source {
        main: main_out,
        more: give(out),
        ram: from.view.clone(),
        log: Box::new(log),
        options,
        tunables: tunables(),
        counters: Arc::default(),
        cancel: Cancel::new().unwrap(),
        host: Box::new(FakeSource {
            config: config(),
            guest,
            notes: said.clone(),
            sections: sections(),
            fails: "",
            passes: Arc::default(),
        }),
    };
    let target = Target {
        main: main_in,
        more: give(into),
        ram: to.view.clone(),
        ram_load: RamLoad::Read,
        counters: Arc::default(),
        cancel: Cancel::new().unwrap(),
        host: Box::new(FakeTarget {
            config: config(),
            notes: said.clone(),
            loaded: loaded.clone(),
            fails: "",
        }),
    };
    Pair {
        source,
        target,
        said,
        loaded,
    }
}

fn give(mut channels: Vec<Channel>) -> MoreChannels {
    Box::new(move |_| match channels.is_empty() {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(channels.remove(0)),
    })
}

/// Two ends of a socket.
pub fn sockets(count: usize) -> Vec<(Channel, Channel)> {
    let make = |_| {
        let (a, b) = UnixStream::pair().unwrap();
        (duplex(a), duplex(b))
    };
    (0..count).map(make).collect()
}

pub fn duplex(end: impl Into<OwnedFd>) -> Channel {
    Channel {
        fd: end.into(),
        kind: ChannelKind::Duplex,
    }
}

pub fn one_way(end: impl Into<OwnedFd>) -> Channel {
    Channel {
        fd: end.into(),
        kind: ChannelKind::OneWay,
    }
}

impl Pair {
    /// Runs both.
    pub fn run(self) -> (SourceEnd, Result<RunState, Broken>) {
        let Pair { source, target, .. } = self;
        let target = std::thread::spawn(|| target.run());
        let end = source.run();
        (end, target.join().unwrap())
    }
}
