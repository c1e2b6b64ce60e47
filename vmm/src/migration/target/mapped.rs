//! Out of a file in which each page has its place: read, or mapped.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api_spec::RunState;

use super::{RamLoad, Target};
use crate::machine::saved::MachineConfig;
use crate::memory::mapping;
use crate::migration::host::{Broken, Counters, Stopped};
use crate::migration::link::{Fate, failure};
use crate::migration::load::{Place, empty_sets, read_sections};
use crate::migration::pages::{Run, Span, clear};
use crate::migration::placed::{At, RECORDS_AT, SEAL_AT, SEAL_LEN, Seal, Use, lock, read_span};
use crate::migration::ram::{PAGE, PageSet, RamBlock, RamView};
use crate::migration::records::{Receiver, misplaced};
use crate::migration::untouched::Ground;
use crate::migration::wire::{BlockEntry, Features, Fields, HELLO_LEN, Hello, Kind, MAGIC, refuse};
use crate::threads::{self, ThreadKind};

/// Pages that a thread reads at once.
const AT_ONCE: u64 = 1024;
/// Threads, whatever the file says.
const MOST_THREADS: u16 = 16;

/// Whether the file was written with `mapped-ram`.
pub fn is_mapped(fd: &impl AsFd, offset: u64) -> bool {
    let Ok(copy) = fd.as_fd().try_clone_to_owned() else {
        return false;
    };
    match read_hello(&File::from(copy), offset) {
        Ok(hello) => hello.features.has(Features::MAPPED),
        Err(_) => false,
    }
}

/// Takes the machine out of the file.
pub fn load(target: Target, fate: Fate, offset: u64) -> Result<RunState, Broken> {
    let Target {
        main,
        ram,
        ram_load,
        counters,
        mut host,
        ..
    } = target;
    let file = Arc::new(File::from(main.fd));
    lock(&file, offset, Use::Read)?;
    let hello = read_hello(&file, offset)?;
    let seal = read_seal(&file, offset)?;
    let heads = At::new(
        file.clone(),
        offset.saturating_add(RECORDS_AT),
        fate.clone(),
    );
    let mut heads = Receiver::new(heads);
    let mut check = |config: &MachineConfig| host.check(config);
    let place = Place::read(&mut heads, hello.features, &ram, &mut check)?;
    check_places(place.entries(), &seal)?;
    let tail = At::new(file.clone(), offset.saturating_add(seal.tail), fate.clone());
    let (present, stopped) = read_tail(Receiver::new(tail), &ram)?;
    let image = Image {
        file,
        offset,
        entries: place.entries().to_vec(),
        ram,
        present,
        fate,
        counters,
    };
    match ram_load {
        RamLoad::Map => image.map()?,
        RamLoad::Read => Arc::new(image).read(hello.channels)?,
    }
    let state = stopped.state;
    host.load(stopped).map_err(Broken::Failed)?;
    host.activate().map_err(Broken::Failed)?;
    Ok(state)
}

fn read_hello(file: &File, offset: u64) -> Result<Hello, Broken> {
    let mut bytes = [0; HELLO_LEN];
    let whole = file.read_exact_at(&mut bytes, offset);
    whole.map_err(|error| failure("Cannot read the file", &error))?;
    if !bytes.starts_with(&MAGIC) {
        return Err(refuse("hello", "magic", "this is not a file of qvmd"));
    }
    Hello::decode(&bytes)
}

fn read_seal(file: &File, offset: u64) -> Result<Seal, Broken> {
    let mut bytes = [0; SEAL_LEN];
    let whole = file.read_exact_at(&mut bytes, offset.saturating_add(SEAL_AT));
    whole.map_err(|error| failure("Cannot read the file", &error))?;
    let seal = Seal::decode(&bytes)?;
    let found = file
        .metadata()
        .map_err(|error| failure("Cannot read the file", &error))?;
    let wanted = offset.checked_add(seal.end);
    if found.is_file() && wanted.is_none_or(|wanted| wanted > found.len()) {
        let text = format!("the file is cut off at {:#x}", found.len());
        return Err(refuse("seal", "end", &text));
    }
    Ok(seal)
}

/// Each block lies between the heads and the tail.
fn check_places(entries: &[BlockEntry], seal: &Seal) -> Result<(), Broken> {
    for entry in entries.iter().filter(|entry| !entry.left_out) {
        let end = entry.place.checked_add(entry.len);
        let inside = end.is_some_and(|end| end <= seal.tail);
        if !inside || entry.place < RECORDS_AT {
            let text = format!("{:#x} of '{}'", entry.place, entry.name);
            return Err(refuse("blocks", "place", &text));
        }
    }
    Ok(())
}

/// Which pages are there, and the devices.
fn read_tail(
    mut receiver: Receiver<At>,
    view: &RamView,
) -> Result<(Vec<PageSet>, Stopped), Broken> {
    let mut sets = empty_sets(view);
    loop {
        let record = receiver.record()?;
        match record.kind {
            Kind::Present => read_present(&record.payload, &mut sets)?,
            Kind::State => {
                let stopped = read_sections(&mut receiver, &record.payload)?;
                return Ok((sets, stopped));
            }
            other => return Err(misplaced(other, "present or state")),
        }
    }
}

fn read_present(payload: &[u8], sets: &mut [PageSet]) -> Result<(), Broken> {
    let mut fields = Fields::new("present", payload);
    let block = fields.u32("block")?;
    let reserved = fields.u32("reserved")?;
    let first = fields.u64("first")?;
    let set = usize::try_from(block).ok();
    let Some(set) = set.and_then(|block| sets.get_mut(block)) else {
        return Err(fields.refuse("block", &format!("{block} is not there")));
    };
    if reserved != 0 || !first.is_multiple_of(64) {
        return Err(fields.refuse("first", &format!("{first} is no multiple of 64")));
    }
    let (words, rest) = fields.rest().as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let pages = u64::try_from(words.len())
        .unwrap_or(u64::MAX)
        .saturating_mul(64);
    let end = first.checked_add(pages);
    let most = set.pages().next_multiple_of(64);
    if !rest.is_empty() || end.is_none_or(|end| end > most) {
        return Err(fields.refuse("words", "more than the block has pages"));
    }
    set.insert_words(first, &words);
    Ok(())
}

/// RAM in a file.
struct Image {
    file: Arc<File>,
    offset: u64,
    entries: Vec<BlockEntry>,
    ram: RamView,
    present: Vec<PageSet>,
    fate: Fate,
    counters: Arc<Counters>,
}

impl Image {
    /// Shows the file where RAM is. Before anything runs.
    fn map(&self) -> Result<(), Broken> {
        for (block, entry) in self.ram.blocks.iter().zip(&self.entries) {
            if !entry.left_out {
                self.map_block(block, entry)?;
            }
        }
        Ok(())
    }

    fn map_block(&self, block: &RamBlock, entry: &BlockEntry) -> Result<(), Broken> {
        let name = &block.name;
        let cannot = |why: &str| {
            let text = format!("RAM '{name}' cannot be mapped from the file: {why}");
            Err(Broken::Failed(text))
        };
        if block.shared || block.file.is_some() {
            return cannot("it is shared, or of a file or huge pages; read it instead");
        }
        let at = self.offset.saturating_add(entry.place);
        if !at.is_multiple_of(PAGE) {
            return cannot("the offset is no multiple of 4096");
        }
        if !self.file.metadata().is_ok_and(|found| found.is_file()) {
            return cannot("it is no regular file");
        }
        let shown = mapping::show_file(block, &self.file, at);
        shown.map_err(|error| {
            let what = format!("RAM '{name}' cannot be mapped from the file");
            failure(&what, &error)
        })?;
        devices::discard::declare_copies(block.host, block.len);
        Ok(())
    }

    /// Reads all of it.
    fn read(self: Arc<Self>, threads: u16) -> Result<(), Broken> {
        let jobs = Arc::new(self.jobs());
        let next = Arc::new(AtomicUsize::new(0));
        let mut others = Vec::new();
        for number in 1..threads.min(MOST_THREADS) {
            let (image, jobs, next) = (self.clone(), jobs.clone(), next.clone());
            let body = move || {
                let result = image.work(&jobs, &next);
                if let Err(broken) = &result {
                    image.fate.fail(broken);
                }
                result.is_ok()
            };
            let name = format!("mapped-read-{number}");
            match threads::spawn(ThreadKind::Migration, &name, None, body) {
                Ok(thread) => others.push(thread),
                // Fewer do as well.
                Err(_) => break,
            }
        }
        let mut result = self.work(&jobs, &next);
        if let Err(broken) = &result {
            self.fate.fail(broken);
        }
        for thread in others {
            if !matches!(thread.join(), Ok(Some(true))) && result.is_ok() {
                let unknown = Broken::Failed("A thread that reads RAM failed".to_owned());
                result = Err(self.fate.reason(unknown));
            }
        }
        result
    }

    /// All pages, in pieces.
    fn jobs(&self) -> Vec<(usize, Run)> {
        let mut jobs = Vec::new();
        let blocks = self.entries.iter().zip(&self.present).enumerate();
        for (block, (_, set)) in blocks.filter(|(_, (entry, _))| !entry.left_out) {
            let mut at = 0;
            while at < set.pages() {
                let zero = !set.contains(at);
                let most = set.pages().min(at.saturating_add(AT_ONCE));
                let mut end = at.saturating_add(1);
                while end < most && set.contains(end) != zero {
                    end = end.saturating_add(1);
                }
                let count = u32::try_from(end.saturating_sub(at)).unwrap_or(0);
                jobs.push((
                    block,
                    Run {
                        first: at,
                        count,
                        zero,
                    },
                ));
                at = end;
            }
        }
        jobs
    }

    fn work(&self, jobs: &[(usize, Run)], next: &AtomicUsize) -> Result<(), Broken> {
        let grounds: Vec<Ground> = self.ram.blocks.iter().map(Ground::of).collect();
        while let Some((block, run)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            self.fate.check()?;
            let ram = self.ram.blocks.get(*block);
            let (Some(ram), Some(entry)) = (ram, self.entries.get(*block)) else {
                continue;
            };
            if run.zero {
                if let Some(ground) = grounds.get(*block) {
                    clear(ram, ground, run);
                }
                continue;
            }
            let Some(span) = Span::of(ram, run) else {
                continue;
            };
            let place = self.offset.saturating_add(entry.place);
            match read_span(&self.file, &span, place.saturating_add(run.offset())) {
                Ok(true) => Counters::add(&self.counters.transferred, run.bytes()),
                Ok(false) => return Err(refuse("blocks", "place", "the file ends too early")),
                Err(error) => return Err(failure("Cannot read the file", &error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "../mapped_test.rs"]
mod tests;
