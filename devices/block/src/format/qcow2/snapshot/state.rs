//! The machine's state beside the disk: written for the snapshot that is to be, read from any.

use std::io;

use super::super::Qcow2;
use super::super::geometry::{Entry, L1_RESERVED, OFFSET, Stored};
use super::super::header::MAX_L1_BYTES;
use super::super::io::{be64, eio, memory, read as read_below};
use super::super::store::Store;
use super::super::zero::Wish;
use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::request::Durability;

/// Bytes that are read at once.
const CHUNK: u64 = 2 << 20;
/// L1 entries that are added at once, at least: each time costs flushes.
const MORE_L1: u64 = 64;

impl Qcow2 {
    /// Where the machine's state begins, beside a disk of that size: behind all that L2 tables of
    /// the disk describe.
    fn state_start(&self, disk: u64) -> io::Result<u64> {
        let entries = self.geometry.l1_entries(disk);
        entries
            .checked_mul(1 << self.geometry.l1_shift())
            .ok_or_else(eio)
    }

    pub(super) fn write_state(&self, offset: u64, data: &Buffers) -> io::Result<()> {
        if self.geometry.external {
            return Err(io::Error::from_raw_os_error(libc::ENOTSUP));
        }
        let first = self.state_start(self.header().size)?;
        let start = first.checked_add(offset).ok_or_else(eio)?;
        let end = start.checked_add(data.len()).ok_or_else(eio)?;
        let entries = self.geometry.l1_entries(end);
        let most = MAX_L1_BYTES / 8;
        if entries > most {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        self.prepare_to_write()?;
        if entries > self.meta().l1.len() as u64 {
            let own = entries.saturating_sub(self.geometry.l1_entries(first));
            self.grow_l1(entries.saturating_add(own.max(MORE_L1)).min(most))?;
        }
        self.write(start, data, Durability::Cached)
    }

    /// Gives back all that is behind the disk.
    pub(super) fn drop_state(&self) -> io::Result<()> {
        let start = self.state_start(self.header().size)?;
        let entries = self.meta().l1.len() as u64;
        let end = entries.checked_mul(1 << self.geometry.l1_shift());
        let end = end.ok_or_else(eio)?;
        if end <= start {
            return Ok(());
        }
        self.prepare_to_write()?;
        self.change_clusters(start, end, Wish::Drop)?;
        self.flush()
    }

    /// The state of a snapshot, from its beginning on.
    ///
    /// # Errors
    /// When there is no such snapshot, or the image cannot be read.
    pub(super) fn open_state(&self, id: &str) -> Result<StateReader<'_>, BlockError> {
        let failed = |error| BlockError::host("Could not read the machine's state", error);
        let node = self.storage.there().map_err(failed)?;
        let table = super::read(&*node)?;
        let mut all = table.snapshots.into_iter();
        let snapshot = all
            .find(|snapshot| snapshot.view.id == id)
            .ok_or_else(|| BlockError::Unsupported(format!("Can't find snapshot '{id}'")))?;
        let disk = snapshot.view.disk_size.filter(|size| *size > 0);
        let disk = disk.unwrap_or(self.header().size);
        let l1 = Store::new(&*node).words(snapshot.l1_offset, snapshot.l1_size.into());
        Ok(StateReader {
            image: self,
            l1: l1.map_err(failed)?,
            table: None,
            start: self.state_start(disk).map_err(failed)?,
            len: snapshot.view.vm_state_size,
            at: 0,
            chunk: memory(CHUNK).map_err(failed)?,
            ready: 0,
        })
    }
}

/// Reads a snapshot's state one piece after the other. What a snapshot leads to stays as it is, so
/// that it is read past the image's own tables.
pub(super) struct StateReader<'a> {
    image: &'a Qcow2,
    l1: Vec<u64>,
    /// An L2 table, with the number of its L1 entry.
    table: Option<(u64, Vec<u8>)>,
    /// Where the state begins, beside the disk.
    start: u64,
    len: u64,
    /// What was given out.
    at: u64,
    /// The last bytes of it have what comes next.
    chunk: Buffers,
    /// How many of them.
    ready: u64,
}

/// Bytes that are stored in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Zeroes(u64),
    /// In the file, from there on.
    Data(u64, u64),
    /// As the entry says.
    Other(Entry, u64),
}

impl Run {
    fn len(&self) -> u64 {
        match self {
            Run::Zeroes(len) | Run::Data(_, len) | Run::Other(_, len) => *len,
        }
    }

    /// Both together, where they follow each other.
    fn join(&self, next: &Run) -> Option<Run> {
        match (*self, *next) {
            (Run::Zeroes(len), Run::Zeroes(more)) => Some(Run::Zeroes(len.checked_add(more)?)),
            (Run::Data(host, len), Run::Data(next, more)) if host.checked_add(len)? == next => {
                Some(Run::Data(host, len.checked_add(more)?))
            }
            _ => None,
        }
    }
}

impl StateReader<'_> {
    /// How the bytes at `guest` are stored, and at most `most` behind them.
    fn run(&mut self, guest: u64, most: u64) -> io::Result<Run> {
        let mut run = self.piece(guest, most)?;
        while run.len() < most {
            let next = guest.checked_add(run.len()).ok_or_else(eio)?;
            let piece = self.piece(next, most - run.len())?;
            let Some(longer) = run.join(&piece) else {
                break;
            };
            run = longer;
        }
        Ok(run)
    }

    /// The same, of one cluster at most.
    fn piece(&mut self, guest: u64, most: u64) -> io::Result<Run> {
        let geometry = self.image.geometry;
        let left = geometry.cluster() - geometry.inside(guest);
        let entry = self.entry(guest)?;
        let (stored, same) = entry.at(guest, &geometry);
        let same = same.min(most);
        Ok(match stored {
            Stored::Unallocated | Stored::Zero => Run::Zeroes(same),
            Stored::Data(host) => {
                let place = host.checked_add(geometry.inside(guest)).ok_or_else(eio)?;
                Run::Data(place, same)
            }
            Stored::Compressed => Run::Other(entry, left.min(most)),
            Stored::Bad => return Err(eio()),
        })
    }

    fn entry(&mut self, guest: u64) -> io::Result<Entry> {
        let geometry = self.image.geometry;
        let index = geometry.l1_index(guest);
        let word = usize::try_from(index).ok().and_then(|at| self.l1.get(at));
        let word = word.copied().unwrap_or(0);
        let offset = word & OFFSET;
        if word & L1_RESERVED != 0 || geometry.inside(offset) != 0 {
            return Err(eio());
        }
        if offset == 0 {
            return Ok(Entry::default());
        }
        if self.table.as_ref().is_none_or(|(of, _)| *of != index) {
            let node = self.image.storage.there()?;
            let mut bytes = vec![0; geometry.cluster() as usize];
            Store::new(&*node).read(offset, &mut bytes)?;
            self.table = Some((index, bytes));
        }
        let bytes = self.table.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let place = usize::try_from(geometry.l2_place(guest)).map_err(|_| eio())?;
        Ok(Entry {
            word: be64(bytes, place),
            bitmap: match geometry.extended {
                true => be64(bytes, place.saturating_add(8)),
                false => 0,
            },
        })
    }

    /// Reads what comes next into the end of the chunk.
    fn fill(&mut self) -> io::Result<()> {
        let len = self.len.saturating_sub(self.at).min(CHUNK);
        let chunk = self.chunk.slice(CHUNK - len, len);
        let mut done = 0u64;
        while done < len {
            let guest = self.start.checked_add(self.at).ok_or_else(eio)?;
            let guest = guest.checked_add(done).ok_or_else(eio)?;
            let run = self.run(guest, len - done)?;
            let part = chunk.slice(done, run.len());
            match run {
                Run::Zeroes(_) => part.zero_from(0),
                Run::Data(host, _) => read_below(&self.image.data, host, &part)?,
                Run::Other(entry, _) => self.image.read_entry(entry, guest, &part)?,
            }
            done = done.saturating_add(run.len());
        }
        self.ready = len;
        Ok(())
    }
}

impl io::Read for StateReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready == 0 {
            self.fill()?;
        }
        let len = into.len().min(self.ready as usize);
        let Some(into) = into.get_mut(..len) else {
            return Ok(0);
        };
        self.chunk.read_at(CHUNK.saturating_sub(self.ready), into);
        self.ready = self.ready.saturating_sub(len as u64);
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }
}
