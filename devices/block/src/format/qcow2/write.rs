//! Whole writes on a thread that may block.

use std::io;
use std::sync::PoisonError;

use super::Qcow2;
use super::alloc::Work;
use super::geometry::{Entry, ZERO};
use super::io::{eio, memory, write as write_below};
use super::meta::{Alloc, Allocs, Keep, Pending, Why};
use crate::buffers::Buffers;
use crate::filter::Event;
use crate::node::SECTOR;
use crate::request::Durability;

/// What one step of a write does.
enum Step {
    /// So many bytes go to that place below.
    Place { host: u64, len: u64, keep: Keep },
    /// Part of a cluster gets a new place, together with what was there before.
    Alone { entry: Entry, len: u64, keep: Keep },
    /// Another request has the cluster for itself.
    Wait,
}

/// A cluster with its new content in place, which the table does not say yet.
struct Moved {
    entry: Entry,
    /// The new place, to be given back when the table cannot say it.
    host: Option<u64>,
}

/// A cluster that a request has for itself until this is dropped.
struct Alone<'a> {
    image: &'a Qcow2,
    guest: u64,
    /// It has been written.
    done: bool,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.image.end_alone(self.guest, self.done);
    }
}

impl Qcow2 {
    pub(super) fn write(
        &self,
        offset: u64,
        buffers: &Buffers,
        durability: Durability,
    ) -> io::Result<()> {
        self.prepare_to_write()?;
        trace::point!(
            QCOW2_WRITEV_START_REQ,
            offset = trace::Hex(offset),
            bytes = buffers.len()
        );
        let mut at = 0u64;
        while at < buffers.len() {
            let guest = offset.checked_add(at).ok_or_else(eio)?;
            let left = buffers.len() - at;
            match self.step(guest, left)? {
                Step::Wait => self.wait_for(guest),
                Step::Place { host, len, keep } => {
                    let result = self.write_data(host, &buffers.slice(at, len), durability);
                    self.settle(&keep, result.is_ok());
                    result?;
                    at += len;
                }
                Step::Alone { entry, len, keep } => {
                    let mut alone = Alone {
                        image: self,
                        guest,
                        done: false,
                    };
                    self.write_alone(entry, guest, &buffers.slice(at, len))?;
                    alone.done = true;
                    drop(keep);
                    at += len;
                }
            }
        }
        match durability {
            // So that the tables lead to it for sure.
            Durability::Durable if self.meta().is_dirty() => self.flush(),
            Durability::Durable | Durability::Cached => Ok(()),
        }
    }

    fn write_data(&self, host: u64, data: &Buffers, durability: Durability) -> io::Result<()> {
        let end = host.checked_add(data.len()).ok_or_else(eio)?;
        super::io::grow(&self.data, end)?;
        {
            let mut meta = self.meta();
            meta.data_end = meta.data_end.max(end);
        }
        let _part = match (host | data.len()).is_multiple_of(SECTOR) {
            true => None,
            // Two of them in one sector must not undo each other.
            false => Some(self.parts.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        write_below(&self.data, host, data, durability)
    }

    /// Waits until no request has the cluster of `guest` for itself. Such a request is on a
    /// thread of its own and waits for nobody.
    pub(super) fn wait_for(&self, guest: u64) {
        let start = self.geometry.start(guest);
        let mut meta = self.meta();
        while let Some(Pending::Alone) = meta.pending.get(&start) {
            let woken = self.settled.wait(meta);
            meta = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end_alone(&self, guest: u64, done: bool) {
        let start = self.geometry.start(guest);
        let mut meta = self.meta();
        meta.pending.remove(&start);
        if !done {
            meta.fresh.remove(&start);
        }
        drop(meta);
        self.settled.notify_all();
    }

    /// Decides on the first bytes of what is left of a write.
    fn step(&self, guest: u64, left: u64) -> io::Result<Step> {
        if self.is_broken() {
            return Err(eio());
        }
        let geometry = &self.geometry;
        let mut work = self.work();
        let (slot, place) = self.load_for_write(&mut work, guest)?;
        let run = (geometry.cluster() - geometry.inside(guest)).min(left);
        let (refilling, empty) = {
            let meta = self.meta();
            (meta.refilling, meta.reserve.is_empty())
        };
        if refilling {
            // What is left may do, when there is no room for more.
            let filled = self.refill(&mut work, left);
            self.meta().refilling = false;
            if let Err(error) = filled {
                log::debug!("The reserve of an image is not filled up: {error}");
            }
        }
        if empty && self.meta().reserve.is_empty() && !geometry.external {
            self.needs_reserve(&mut work, guest, slot, place, left)?;
        }
        let mut meta = self.meta();
        if let Some(Pending::Alone) = meta.pending.get(&geometry.start(guest)) {
            return Ok(Step::Wait);
        }
        if let Some((host, new)) = self.place_of(&mut meta, guest, run, 0) {
            let mut allocs = Allocs::None;
            let mut take = |meta: &mut super::meta::Meta, guest, run, host, new| {
                let Some((slot, fresh)) = new else { return };
                let alloc = Alloc {
                    guest: geometry.start(guest),
                    host,
                    mask: geometry.mask(guest, run),
                };
                meta.join(&alloc, slot, fresh, geometry);
                allocs.push(alloc);
            };
            if host >= meta.data_end.next_multiple_of(geometry.cluster()) && !geometry.external {
                drop(meta);
                return Err(self.outside(host));
            }
            take(&mut meta, guest, run, host, new);
            // And the clusters that follow, as long as they follow each other below, too.
            let first = host.checked_add(geometry.inside(guest)).ok_or_else(eio)?;
            let mut len = run;
            while len < left {
                let next = guest.checked_add(len).ok_or_else(eio)?;
                let run = geometry.cluster().min(left - len);
                match self.place_of(&mut meta, next, run, 0) {
                    Some((host, new)) if Some(host) == first.checked_add(len) => {
                        take(&mut meta, next, run, host, new);
                        len += run;
                    }
                    Some(_) | None => break,
                }
            }
            let keep = Keep {
                _generation: meta.generation.clone(),
                allocs,
            };
            let host = first;
            return Ok(Step::Place { host, len, keep });
        }
        let entry = meta.entry(slot, place, geometry);
        if !entry.is_sound(geometry) {
            drop(meta);
            return Err(self.bad_entry(entry, guest));
        }
        if let Some(host) = self.overlap(&work, &entry) {
            drop(meta);
            return Err(self.overlapping(host));
        }
        let end = meta.data_end.next_multiple_of(geometry.cluster());
        let place = entry.host(geometry).filter(|_| entry.is_copied());
        if let Some(host) = place.filter(|host| *host >= end && !geometry.external) {
            drop(meta);
            return Err(self.outside(host));
        }
        if let Some(Pending::Shared { .. }) = meta.pending.get(&geometry.start(guest)) {
            // Its piece of the table is suspect, for other entries than this one.
            meta.revoke(geometry.start(guest), geometry);
        }
        meta.pending.insert(geometry.start(guest), Pending::Alone);
        let keep = Keep {
            _generation: meta.generation.clone(),
            allocs: Allocs::None,
        };
        Ok(Step::Alone {
            entry,
            len: run,
            keep,
        })
    }

    fn needs_reserve(
        &self,
        work: &mut Work,
        guest: u64,
        slot: usize,
        place: usize,
        left: u64,
    ) -> io::Result<()> {
        let geometry = &self.geometry;
        let start = geometry.start(guest);
        let blank = {
            let meta = self.meta();
            let entry = meta.entry(slot, place, geometry);
            let bare = self.backing_size() <= start;
            entry.is_blank(bare, geometry) && !meta.pending.contains_key(&start)
        };
        match blank {
            true => self.refill(work, left.saturating_add(geometry.inside(guest))),
            false => Ok(()),
        }
    }

    /// Where an entry leads to, if there is a table.
    fn overlap(&self, work: &Work, entry: &Entry) -> Option<u64> {
        let geometry = &self.geometry;
        let host = entry.host(geometry)?;
        let table = work.metadata.contains(&(host >> geometry.cluster_bits));
        (table && !geometry.external && self.checks_overlap()).then_some(host)
    }

    fn outside(&self, host: u64) -> io::Error {
        let text = format!("Data cluster offset {host:#x} outside of the file");
        self.corrupt(text, Some((host, self.geometry.cluster())))
    }

    fn overlapping(&self, host: u64) -> io::Error {
        let text = "Preventing invalid write on metadata (overlaps with a table)".to_owned();
        self.corrupt(text, Some((host, self.geometry.cluster())))
    }

    /// Writes part of a cluster that no other request changes meanwhile.
    fn write_alone(&self, entry: Entry, guest: u64, data: &Buffers) -> io::Result<()> {
        let geometry = &self.geometry;
        let moved = match entry.host(geometry) {
            Some(host) if entry.is_copied() => self.fill(entry, host, guest, data)?,
            Some(_) | None => self.relocate(entry, guest, data)?,
        };
        let mut work = self.work();
        let loaded = self.load_for_write(&mut work, guest);
        let mut meta = self.meta();
        let (slot, place) = match (loaded, moved.host) {
            (Ok(loaded), _) => loaded,
            (Err(error), None) => return Err(error),
            (Err(error), Some(host)) => {
                meta.free(host, geometry.cluster(), Why::Other);
                return Err(error);
            }
        };
        meta.set_entry(slot, place, moved.entry, geometry);
        // The new place must have its content before the table leads there.
        meta.unsynced = true;
        if moved.host.is_some() {
            meta.free_entry(&entry, geometry, Why::Other);
        }
        Ok(())
    }

    /// Writes to a cluster that has its place, where not all of it is data yet.
    fn fill(&self, entry: Entry, host: u64, guest: u64, data: &Buffers) -> io::Result<Moved> {
        let geometry = &self.geometry;
        let end = guest.checked_add(data.len()).ok_or_else(eio)?;
        let bits = geometry.unit_bits();
        let unit = 1u64 << bits;
        // What is data may be written by others at the same time: of that, only these bytes.
        let is_data = |at: u64| {
            let number = geometry.inside(at) >> bits;
            match geometry.extended {
                true => entry.allocated() >> number & 1 != 0,
                false => entry.word & ZERO == 0,
            }
        };
        let from = if is_data(guest) {
            guest
        } else {
            guest & !(unit - 1)
        };
        let to = if is_data(end - 1) {
            end
        } else {
            ((end - 1) | (unit - 1)) + 1
        };
        let whole = self.compose(entry, from, to, guest, data)?;
        let place = host.checked_add(geometry.inside(from)).ok_or_else(eio)?;
        self.write_data(place, &whole, Durability::Cached)?;
        let mask = geometry.mask(guest, data.len());
        Ok(Moved {
            entry: entry.linked(host, mask, geometry),
            host: None,
        })
    }

    /// Writes to a cluster that gets a place, or another one.
    fn relocate(&self, entry: Entry, guest: u64, data: &Buffers) -> io::Result<Moved> {
        let geometry = &self.geometry;
        let start = geometry.start(guest);
        let end = guest.checked_add(data.len()).ok_or_else(eio)?;
        let host = match geometry.external {
            true => start,
            false => self.reserved_cluster(&mut self.work())?,
        };
        let bits = geometry.unit_bits();
        let unit = 1u64 << bits;
        let mask = geometry.mask(guest, data.len());
        let nowhere = entry.host(geometry).is_none() && !entry.is_compressed();
        let (from, to, new) = match geometry.extended && nowhere {
            true => (
                guest & !(unit - 1),
                ((end - 1) | (unit - 1)) + 1,
                entry.linked(host, mask, geometry),
            ),
            false => {
                let mut new = entry.linked(host, mask, geometry);
                if entry.is_compressed() {
                    new = Entry::data(host, geometry);
                }
                (start, start + geometry.cluster(), new)
            }
        };
        let written = self
            .compose(entry, from, to, guest, data)
            .and_then(|whole| {
                let place = host.checked_add(geometry.inside(from)).ok_or_else(eio)?;
                self.write_data(place, &whole, Durability::Cached)
            });
        let own = (!geometry.external).then_some(host);
        match (written, own) {
            (Ok(()), host) => Ok(Moved { entry: new, host }),
            (Err(error), Some(host)) => {
                self.meta().free(host, geometry.cluster(), Why::Other);
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The bytes from `from` to `to`, all in one cluster, with `data` at `guest` in them.
    fn compose(
        &self,
        entry: Entry,
        from: u64,
        to: u64,
        guest: u64,
        data: &Buffers,
    ) -> io::Result<Buffers> {
        let end = guest.checked_add(data.len()).ok_or_else(eio)?;
        if (from, to) == (guest, end) {
            return Ok(data.clone());
        }
        self.storage.event(Event::CowRead);
        let whole = memory(to.saturating_sub(from))?;
        if from < guest {
            self.read_cluster(entry, from, &whole.slice(0, guest - from))?;
        }
        if end < to {
            self.read_cluster(entry, end, &whole.slice(end - from, to - end))?;
        }
        let mut bytes = vec![0; data.len() as usize];
        data.read_at(0, &mut bytes);
        whole.write_at(guest.saturating_sub(from), &bytes);
        Ok(whole)
    }

    /// As it reads; a cluster of zeroes that has a place as zeroes.
    fn read_cluster(&self, entry: Entry, guest: u64, buffers: &Buffers) -> io::Result<()> {
        if !self.geometry.extended && entry.word & ZERO != 0 && !entry.is_compressed() {
            buffers.zero_from(0);
            return Ok(());
        }
        self.read_entry(entry, guest, buffers)
    }
}
