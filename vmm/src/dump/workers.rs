//! Threads that compress pages. Batches go to them in turn and come back in the same order.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::compressor::{Compressor, PAGE};
use super::elf::is_zero;
use super::guest::GuestRange;
use super::{Compression, DumpError};
use crate::threads::{self, ThreadKind};

/// How many batches a thread may be ahead.
const AHEAD: usize = 4;

/// Pages of a range that are compressed together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub range: GuestRange,
    /// Bytes from the range's beginning.
    pub from: u64,
    pub len: u64,
}

/// A page as it goes into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    /// Only zeroes: nothing is kept.
    Zero,
    /// So many bytes, as they are.
    Plain(usize),
    /// So many bytes, compressed.
    Small(usize),
}

/// The pages of a batch, one behind the other.
pub(super) struct Done {
    pub pages: Vec<Packed>,
    pub bytes: Vec<u8>,
}

/// The threads.
pub(super) struct Workers {
    list: Vec<(SyncSender<Batch>, Receiver<Done>)>,
    given: usize,
    taken: usize,
}

impl Workers {
    /// As many as there are processors, up to four.
    pub fn start(compression: Compression) -> Result<Self, DumpError> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let mut list = Vec::new();
        for _ in 0..count.min(4) {
            let (batches, input) = sync_channel::<Batch>(AHEAD);
            let (output, done) = sync_channel(AHEAD);
            let body = move || {
                let mut compressor = Compressor::new(compression);
                for batch in input {
                    if output.send(pack(&mut compressor, &batch)).is_err() {
                        break;
                    }
                }
            };
            threads::spawn(ThreadKind::Worker, "dump", None, body).map_err(DumpError::Threads)?;
            list.push((batches, done));
        }
        Ok(Workers {
            list,
            given: 0,
            taken: 0,
        })
    }

    /// Whether another batch finds room.
    pub fn have_room(&self) -> bool {
        let underway = self.given.wrapping_sub(self.taken);
        underway < self.list.len().saturating_mul(AHEAD)
    }

    pub fn give(&mut self, batch: Batch) -> Result<(), DumpError> {
        let at = self.given.checked_rem(self.list.len()).unwrap_or(0);
        let (batches, _) = self.list.get(at).ok_or(DumpError::Lost)?;
        batches.send(batch).map_err(|_| DumpError::Lost)?;
        self.given = self.given.wrapping_add(1);
        Ok(())
    }

    /// The next one that is done, in order; `None` when there is none under way.
    pub fn take(&mut self) -> Result<Option<Done>, DumpError> {
        if self.given == self.taken {
            return Ok(None);
        }
        let at = self.taken.checked_rem(self.list.len()).unwrap_or(0);
        let (_, done) = self.list.get(at).ok_or(DumpError::Lost)?;
        let done = done.recv().map_err(|_| DumpError::Lost)?;
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(done))
    }
}

fn pack(compressor: &mut Compressor, batch: &Batch) -> Done {
    let mut done = Done {
        pages: Vec::new(),
        bytes: Vec::new(),
    };
    let mut page = [0; PAGE];
    let mut at = batch.from;
    let end = batch.from.saturating_add(batch.len);
    while at < end {
        let size = usize::try_from(end.saturating_sub(at)).map_or(PAGE, |left| left.min(PAGE));
        page.fill(0);
        if let Some(part) = page.get_mut(..size) {
            batch.range.read(at, part);
        }
        at = at.saturating_add(PAGE as u64);
        if is_zero(&page) {
            done.pages.push(Packed::Zero);
            continue;
        }
        let (kind, bytes) = match compressor.smaller(&page) {
            Some(small) => (Packed::Small(small.len()), small),
            None => (Packed::Plain(PAGE), &page[..]),
        };
        done.pages.push(kind);
        done.bytes.extend_from_slice(bytes);
    }
    done
}
