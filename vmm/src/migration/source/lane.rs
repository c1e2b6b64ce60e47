//! One thread's work on pages: look at them, send them.

use std::sync::Arc;

use bulk::zstd::Packer;

use super::pace::Pace;
use crate::migration::host::{Broken, Counters, Tunables};
use crate::migration::link::{Fate, Link};
use crate::migration::pages::{self, Run, Zeroes, data_len, data_spans};
use crate::migration::ram::RamView;
use crate::migration::records::Sender;
use crate::migration::untouched::Ground;
use crate::migration::wire::{BlockEntry, Kind, MOST_DATA_PAGES, put_pass};

/// Pages in one job: so much is read from memory, and then sent while it is in the cache.
pub const JOB_PAGES: u64 = 128;
/// Where the disk takes them from memory itself, each job has its price.
pub const GATHERED_PAGES: u64 = MOST_DATA_PAGES;

/// What all lanes share.
#[derive(Debug)]
pub struct Shared {
    /// All RAM.
    pub view: RamView,
    /// As the stream names it.
    pub entries: Vec<BlockEntry>,
    /// One for each block.
    pub grounds: Vec<Ground>,
    /// max-bandwidth.
    pub pace: Pace,
    /// What may change.
    pub tunables: Arc<Tunables>,
    /// What was done.
    pub counters: Arc<Counters>,
    /// Which pages of zeroes are seen.
    pub zeroes: Zeroes,
    /// How it stands.
    pub fate: Fate,
}

/// Pages of one block that are to be sent: first and count, ascending.
#[derive(Debug, Default)]
pub struct Job {
    /// Which block.
    pub block: usize,
    /// At most so many together as the carrier wants.
    pub ranges: Vec<(u64, u32)>,
}

impl Job {
    /// How many pages.
    pub fn pages(&self) -> u64 {
        self.ranges.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

/// Where jobs are done.
pub trait Lane: Send {
    /// Does one.
    ///
    /// # Errors
    /// When the other side is gone, the disk is full, or it was cancelled.
    fn work(&mut self, job: &Job) -> Result<(), Broken>;
    /// Nothing of an earlier pass is kept back.
    ///
    /// # Errors
    /// As [`Lane::work`].
    fn end_pass(&mut self, number: u32) -> Result<(), Broken>;
    /// There are no more jobs.
    ///
    /// # Errors
    /// As [`Lane::work`].
    fn finish(&mut self) -> Result<(), Broken>;
}

impl Shared {
    /// Looks at a job's pages.
    pub fn scan(&self, job: &Job, runs: &mut Vec<Run>) {
        runs.clear();
        let block = self.view.blocks.get(job.block);
        if let (Some(block), Some(ground)) = (block, self.grounds.get(job.block)) {
            for (first, count) in &job.ranges {
                let zeroes = self.zeroes;
                pages::scan(block, ground, *first, *count, zeroes, runs);
            }
        }
    }

    /// A job is done that made so many bytes: counts, and holds the lane back.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn account(&self, job: &Job, runs: &[Run], bytes: u64) -> Result<(), Broken> {
        let data = data_len(runs) / crate::migration::ram::PAGE;
        let counters = &self.counters;
        Counters::add(&counters.normal_pages, data);
        Counters::add(&counters.zero_pages, job.pages().saturating_sub(data));
        Counters::add(&counters.transferred, bytes);
        let done = job.pages().saturating_mul(crate::migration::ram::PAGE);
        let less = |left: u64| Some(left.saturating_sub(done));
        let order = std::sync::atomic::Ordering::Relaxed;
        let _ = counters.remaining.fetch_update(order, order, less);
        self.pace.spend(bytes, &self.fate)
    }
}

/// Pages into a stream.
pub struct StreamLane {
    sender: Sender<Link>,
    shared: Arc<Shared>,
    packer: Option<Packer>,
    extra: bool,
    runs: Vec<Run>,
}

impl StreamLane {
    /// Over this channel; `extra` when it is one of multifd's.
    pub fn new(sender: Sender<Link>, shared: Arc<Shared>, extra: bool, zstd: bool) -> Self {
        StreamLane {
            sender,
            shared,
            packer: zstd.then(Packer::default),
            extra,
            runs: Vec::new(),
        }
    }

    /// The channel.
    pub const fn sender(&mut self) -> &mut Sender<Link> {
        &mut self.sender
    }

    /// Gives the channel back.
    pub fn into_sender(self) -> Sender<Link> {
        self.sender
    }

    fn send(&mut self, job: &Job) -> Result<(), Broken> {
        let Some(block) = self.shared.view.blocks.get(job.block) else {
            return Ok(());
        };
        let spans = data_spans(block, &self.runs);
        if let Some(packer) = self.packer.as_mut().filter(|_| !spans.is_empty()) {
            // A copy, which the guest cannot change while it is packed.
            let plain = packer.plain();
            for span in &spans {
                span.append_to(plain);
            }
            if let Some(packed) = packer.pack() {
                return self.sender.packed(job.block, &self.runs, &packed);
            }
        }
        self.sender.pages(job.block, &self.runs, &spans)
    }
}

impl Lane for StreamLane {
    fn work(&mut self, job: &Job) -> Result<(), Broken> {
        let mut runs = std::mem::take(&mut self.runs);
        self.shared.scan(job, &mut runs);
        self.runs = runs;
        let before = self.sender.sent();
        self.send(job)?;
        let bytes = self.sender.sent().saturating_sub(before);
        if self.extra {
            Counters::add(&self.shared.counters.multifd_bytes, bytes);
        }
        self.shared.account(job, &self.runs, bytes)
    }

    fn end_pass(&mut self, number: u32) -> Result<(), Broken> {
        self.sender.record(Kind::Pass, &put_pass(number))?;
        self.sender.flush()
    }

    fn finish(&mut self) -> Result<(), Broken> {
        if self.extra {
            self.sender.record(Kind::End, &[])?;
        }
        self.sender.flush()
    }
}
