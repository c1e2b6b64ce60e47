//! Into a file in which each page has its place (`mapped-ram`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::carrier::{Inline, Pool};
use super::lane::Lane;
use super::places::{FileLane, Past, Placed};
use super::{Parts, course, put_sections, random_id, take_back};
use crate::migration::direct;
use crate::migration::host::{Broken, Channel, ChannelKind, Counters, SourceEnd, Stopped};
use crate::migration::link::failure;
use crate::migration::load::empty_sets;
use crate::migration::placed::{ALIGN, At, RECORDS_AT, SEAL_AT, Seal, Use, lock, set_direct};
use crate::migration::ram::{PAGE, PageSet};
use crate::migration::records::Sender;
use crate::migration::wire::{Features, Hello, Kind, Out, put_blocks, put_config};

/// Words of a bitmap in one record.
const WORDS: usize = 8192;
/// Threads that write past the page cache, where nobody asked for others: one's end is the other's
/// middle.
const WRITERS: u8 = 2;

/// Writes the machine into the file.
pub fn send(main: Channel, parts: &mut Parts) -> SourceEnd {
    let ChannelKind::File { offset } = main.kind else {
        let text = "'mapped-ram' needs a file ('file:')";
        return SourceEnd::Here(Broken::Failed(text.to_owned()));
    };
    let file = Arc::new(File::from(main.fd));
    let mut sealed = Sealing {
        offset,
        file,
        tail: 0,
    };
    let result = sealed.write_ram(parts).and_then(|(stopped, present)| {
        let sender = sealed.write_tail(&stopped, &present, parts)?;
        parts.host.hand_over()?;
        Ok(sender)
    });
    let sender = match result {
        Ok(sender) => sender,
        Err(broken) => return SourceEnd::Here(parts.shared.fate.reason(broken)),
    };
    match sealed.seal(sender) {
        Ok(()) => SourceEnd::Completed,
        Err(broken) => take_back(broken, parts),
    }
}

/// A file that is not complete yet.
struct Sealing {
    offset: u64,
    file: Arc<File>,
    tail: u64,
}

impl Sealing {
    /// Everything before and with RAM.
    fn write_ram(&mut self, parts: &mut Parts) -> Result<(Stopped, Vec<PageSet>), Broken> {
        if direct::appends(&self.file) {
            let text = "'mapped-ram' needs a file that is not open for appending";
            return Err(Broken::Failed(text.to_owned()));
        }
        lock(&self.file, self.offset, Use::Write)?;
        let sparse = self.file.metadata().is_ok_and(|found| found.is_file());
        if sparse {
            // Whatever was there before must not look like RAM.
            self.set_len(self.offset)?;
        }
        self.write_heads(parts)?;
        if sparse {
            self.set_len(self.offset.saturating_add(self.tail))?;
        }
        let past = self.leave_cache_alone(parts.options.direct_io, sparse)?;
        let present = Arc::new(Mutex::new(empty_sets(&parts.shared.view)));
        let shared = parts.shared.clone();
        let lane = || FileLane {
            file: self.file.clone(),
            offset: self.offset,
            shared: shared.clone(),
            present: present.clone(),
            sparse,
            past,
            runs: Vec::new(),
        };
        let stopped = self.carry(past, &lane, parts);
        if past != Past::Never {
            let through = set_direct(&self.file, false);
            through.map_err(|error| failure("Cannot write the file", &error))?;
        }
        let stopped = stopped?;
        let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((stopped, std::mem::take(&mut *present)))
    }

    /// All of RAM, until the machine stands still.
    fn carry(
        &self,
        past: Past,
        lane: &dyn Fn() -> FileLane,
        parts: &mut Parts,
    ) -> Result<Stopped, Broken> {
        let (name, count) = match parts.options.multifd {
            Some(count) => ("multifd-send", count),
            None if past == Past::Never => ("", 0),
            None => ("mapped-write", WRITERS),
        };
        if count == 0 {
            return course::run(&mut Inline(Box::new(lane())), parts);
        }
        let lanes = (0..count).map(|_| Box::new(lane()) as Box<dyn Lane>);
        let mut carrier = Placed {
            pool: Pool::start(name, lanes.collect(), parts.shared.clone())?,
            file: self.file.clone(),
            past,
        };
        let stopped = course::run(&mut carrier, parts)?;
        carrier.pool.finish()?;
        Ok(stopped)
    }

    /// Pages go past the page cache, where that is wanted or possible.
    fn leave_cache_alone(&self, wanted: bool, sparse: bool) -> Result<Past, Broken> {
        if wanted {
            set_direct(&self.file, true)
                .map_err(|error| failure("Cannot use 'direct-io' for the file", &error))?;
            return Ok(Past::Always);
        }
        // Pages stay where they are while they are written, and the guest may change them.
        let fit = sparse && direct::is_fit(&self.file);
        let fit = fit && direct::takes_changing_memory(&self.file);
        match fit && set_direct(&self.file, true).is_ok() {
            true => Ok(Past::First),
            false => Ok(Past::Never),
        }
    }

    /// What stands before RAM; finds places for the blocks.
    fn write_heads(&mut self, parts: &mut Parts) -> Result<(), Broken> {
        let hello = Hello {
            features: Features::MAPPED.with(Features::IGNORE_SHARED, parts.options.ignore_shared),
            id: random_id()?,
            channel: 0,
            channels: u16::from(parts.options.multifd.unwrap_or(0)),
        };
        let config = put_config(&parts.host.config())?;
        let mut entries = parts.shared.entries.clone();
        let room = put_blocks(&entries).len().saturating_add(config.len());
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        let mut at = self.align(RECORDS_AT.saturating_add(room).saturating_add(PAGE));
        for entry in entries.iter_mut().filter(|entry| !entry.left_out) {
            entry.place = at;
            at = self.align(at.saturating_add(entry.len));
        }
        self.tail = at;
        let mut head = vec![0; usize::try_from(RECORDS_AT).unwrap_or(4096)];
        for (to, from) in head.iter_mut().zip(hello.encode()) {
            *to = from;
        }
        self.write(&head, 0)?;
        let at = self.offset.saturating_add(RECORDS_AT);
        let fate = parts.shared.fate.clone();
        let mut sender = Sender::new(At::new(self.file.clone(), at, fate));
        sender.record(Kind::Config, &config)?;
        sender.record(Kind::Blocks, &put_blocks(&entries))?;
        sender.flush()?;
        let sent = RECORDS_AT.saturating_add(sender.sent());
        Counters::add(&parts.shared.counters.transferred, sent);
        let Some(shared) = Arc::get_mut(&mut parts.shared) else {
            let text = "The blocks of RAM are in use".to_owned();
            return Err(Broken::Failed(text));
        };
        shared.entries = entries;
        Ok(())
    }

    /// What stands behind RAM, without the end.
    fn write_tail(
        &self,
        stopped: &Stopped,
        present: &[PageSet],
        parts: &Parts,
    ) -> Result<Sender<At>, Broken> {
        let at = self.offset.saturating_add(self.tail);
        let fate = parts.shared.fate.clone();
        let mut sender = Sender::new(At::new(self.file.clone(), at, fate));
        for (block, set) in present.iter().enumerate() {
            let mut first = 0u64;
            for words in set.words().chunks(WORDS) {
                let mut out = Out::default();
                out.u32(u32::try_from(block).unwrap_or(u32::MAX)).u32(0);
                out.u64(first);
                for word in words {
                    out.u64(*word);
                    first = first.saturating_add(64);
                }
                sender.record(Kind::Present, &out.0)?;
            }
        }
        put_sections(&mut sender, stopped)?;
        sender.flush()?;
        self.sync()?;
        Counters::add(&parts.shared.counters.transferred, sender.sent());
        Ok(sender)
    }

    /// Completes it: only what is on the disk is said to be there.
    fn seal(&self, mut sender: Sender<At>) -> Result<(), Broken> {
        sender.record(Kind::End, &[])?;
        sender.flush()?;
        self.sync()?;
        let seal = Seal {
            tail: self.tail,
            end: sender.sink().position().saturating_sub(self.offset),
        };
        self.write(&seal.encode(), SEAL_AT)?;
        self.sync()
    }

    /// The next place, from the stream's beginning, that is aligned in the file.
    fn align(&self, at: u64) -> u64 {
        let in_file = self.offset.saturating_add(at);
        let up = in_file.checked_next_multiple_of(ALIGN).unwrap_or(in_file);
        up.saturating_sub(self.offset)
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), Broken> {
        let at = self.offset.saturating_add(at);
        let written = self.file.write_all_at(bytes, at);
        written.map_err(|error| failure("Cannot write the file", &error))
    }

    fn set_len(&self, len: u64) -> Result<(), Broken> {
        let set = self.file.set_len(len);
        set.map_err(|error| failure("Cannot write the file", &error))
    }

    fn sync(&self) -> Result<(), Broken> {
        let synced = self.file.sync_all();
        synced.map_err(|error| failure("Cannot write the file", &error))
    }
}
