//! Pages to their places in a file.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use super::carrier::{Carrier, Pool};
use super::lane::{Job, Lane, Shared};
use crate::migration::direct;
use crate::migration::host::Broken;
use crate::migration::link::failure;
use crate::migration::pages::{Run, Span};
use crate::migration::placed::{punch, set_direct, write_span};
use crate::migration::ram::PageSet;

/// Pages in one job: past the page cache, each write has its price.
const JOB_PAGES: u64 = 1024;
/// So many pages between others that are written anyway cost less than a further write.
const BRIDGE: u64 = 8;

/// Whether pages go past the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// That is not possible.
    Never,
    /// In the first pass, if it is possible. What the guest writes meanwhile is scattered, and goes
    /// faster through the cache. No page is on its way in both ways: between passes nothing is.
    First,
    /// It was asked for.
    Always,
}

/// Lanes that write one file side by side.
pub struct Placed {
    /// The lanes.
    pub pool: Pool,
    /// Where all of them write.
    pub file: Arc<File>,
    /// How.
    pub past: Past,
}

impl Carrier for Placed {
    fn carry(&mut self, job: Job) -> Result<(), Broken> {
        self.pool.carry(job)
    }

    fn end_pass(&mut self, number: u32) -> Result<(), Broken> {
        self.pool.end_pass(number)?;
        if self.past == Past::First && number == 1 {
            let through = set_direct(&self.file, false);
            through.map_err(|error| failure("Cannot write the file", &error))?;
        }
        Ok(())
    }

    fn job_pages(&self) -> u64 {
        JOB_PAGES
    }
}

/// One of them.
pub struct FileLane {
    /// The file.
    pub file: Arc<File>,
    /// Where the stream begins in it.
    pub offset: u64,
    /// What all lanes share.
    pub shared: Arc<Shared>,
    /// Which pages have data there. Rank: a leaf.
    pub present: Arc<Mutex<Vec<PageSet>>>,
    /// Zeroes are holes.
    pub sparse: bool,
    /// How it writes.
    pub past: Past,
    /// Of the job before, for their room.
    pub runs: Vec<Run>,
}

impl FileLane {
    fn put(&self, job: &Job, run: &Run) -> Result<u64, Broken> {
        let block = self.shared.view.blocks.get(job.block);
        let entry = self.shared.entries.get(job.block);
        let (Some(block), Some(entry)) = (block, entry) else {
            return Ok(0);
        };
        let at = self
            .offset
            .saturating_add(entry.place)
            .saturating_add(run.offset());
        let cannot = |error| failure("Cannot write the file", &error);
        let Some(span) = Span::of(block, run) else {
            return Ok(0);
        };
        if !run.zero || !self.sparse {
            self.mark(job.block, run, true);
            self.write(&span, at)?;
            return Ok(run.bytes());
        }
        if !self.mark(job.block, run, false) {
            return Ok(0);
        }
        match punch(&self.file, at, run.bytes()) {
            Ok(()) => Ok(0),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                // Aligned, as direct I/O needs it. What is no zero any more comes again.
                self.write(&span, at)?;
                Ok(run.bytes())
            }
            Err(error) => Err(cannot(error)),
        }
    }

    fn write(&self, span: &Span, at: u64) -> Result<(), Broken> {
        let result = match write_span(&self.file, span, at) {
            // It is not possible after all.
            Err(error) if self.past == Past::First && direct::is_refusal(&error) => {
                set_direct(&self.file, false).and_then(|()| write_span(&self.file, span, at))
            }
            result => result,
        };
        result.map_err(|error| failure("Cannot write the file", &error))
    }

    /// Remembers whether a run has data; returns whether any of it had.
    fn mark(&self, block: usize, run: &Run, data: bool) -> bool {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = present.get_mut(block) else {
            return false;
        };
        if data {
            set.insert_run(run.first, u64::from(run.count));
            return true;
        }
        let end = run.first.saturating_add(u64::from(run.count));
        let mut any = false;
        while let Some(page) = set.next(run.first).filter(|page| *page < end) {
            set.remove(page);
            any = true;
        }
        any
    }
}

impl Lane for FileLane {
    fn work(&mut self, job: &Job) -> Result<(), Broken> {
        let mut runs = std::mem::take(&mut self.runs);
        self.shared.scan(job, &mut runs);
        let bridged = match self.past {
            Past::Never => None,
            Past::First | Past::Always => Some(bridge(&runs)),
        };
        let mut bytes = 0u64;
        for run in bridged.as_ref().unwrap_or(&runs) {
            self.shared.fate.check()?;
            bytes = bytes.saturating_add(self.put(job, run)?);
        }
        let result = self.shared.account(job, &runs, bytes);
        self.runs = runs;
        result
    }

    fn end_pass(&mut self, _: u32) -> Result<(), Broken> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

/// Joins runs of data that have few pages between them: zeroes, or pages of which the file has the
/// same already. No other job of the pass has those.
fn bridge(runs: &[Run]) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::with_capacity(runs.len());
    let mut data = None;
    for run in runs {
        if run.zero {
            out.push(*run);
            continue;
        }
        let before = data.and_then(|at: usize| Some((at, out.get_mut(at)?)));
        if let Some((at, before)) = before {
            let end = before.first.saturating_add(u64::from(before.count));
            let whole = run.first.saturating_sub(before.first);
            let whole = whole.saturating_add(u64::from(run.count));
            if run.first.saturating_sub(end) <= BRIDGE
                && let Ok(count) = u32::try_from(whole)
            {
                before.count = count;
                out.truncate(at.saturating_add(1));
                continue;
            }
        }
        data = Some(out.len());
        out.push(*run);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pages_between_others_are_written_with_them() {
        let run = |first, count, zero| Run { first, count, zero };
        let found = bridge(&[
            run(0, 5, true),
            run(5, 1, false),
            run(6, 8, true),
            run(14, 2, false),
            run(20, 1, false),
            run(21, 9, true),
            run(30, 1, false),
            run(31, 3, true),
        ]);
        let wanted = [
            run(0, 5, true),
            run(5, 16, false),
            run(21, 9, true),
            run(30, 1, false),
            run(31, 3, true),
        ];
        assert_eq!(found, wanted);
        assert_eq!(bridge(&[]), []);
    }
}
