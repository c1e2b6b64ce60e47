//! Bringing the file up to what is in memory, in the order that keeps it whole.

use std::io;
use std::sync::Arc;

use super::Qcow2;
use super::alloc::Work;
use super::io::eio;
use super::refcount::sector_of;
use crate::filter::Event;

/// Bytes of tables that are copied for writing at once.
const ROUND: usize = 1 << 20;

/// What one round writes: places in the file, with their bytes.
type Round = Vec<(u64, Vec<u8>)>;

impl Qcow2 {
    /// Makes all durable that was completed before.
    ///
    /// # Errors
    /// The host's; what could not be written is kept and tried again the next time.
    pub(super) fn flush(&self) -> io::Result<()> {
        trace::point!(QCOW2_CACHE_FLUSH);
        if self.is_closed() {
            return self.sync();
        }
        if self.is_broken() {
            // What leads to data that were written is not brought into a damaged file any more.
            let lost = self.meta().is_dirty();
            self.sync()?;
            return if lost { Err(eio()) } else { Ok(()) };
        }
        let mut work = self.work();
        self.flush_with(&mut work)?;
        self.clean_caches(&mut work);
        Ok(())
    }

    /// The same for who does work on tables.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub(super) fn flush_with(&self, work: &mut Work) -> io::Result<()> {
        // What was dropped before now is not led to any more once this is through.
        let batch = std::mem::take(&mut self.meta().frees.gathering);
        let result = self.write_back(work).and_then(|()| self.sync());
        let mut meta = self.meta();
        meta.loose &= result.is_err();
        if !batch.is_empty() {
            match &result {
                // All requests that were planned up to now may lead there.
                Ok(()) => {
                    let old = std::mem::replace(&mut meta.generation, Arc::new(()));
                    meta.frees.waiting.push_back((old, batch));
                }
                Err(_) => {
                    let since = std::mem::replace(&mut meta.frees.gathering, batch);
                    meta.frees.gathering.extend(since);
                }
            }
        }
        drop(meta);
        result?;
        if let Err(error) = self.apply_frees(work) {
            log::warn!("Clusters of an image are leaked: {error}");
        }
        Ok(())
    }

    /// Writes all tables that changed. They are not durable yet.
    ///
    /// # Errors
    /// The host's; what could not be written is kept.
    pub(super) fn write_back(&self, work: &mut Work) -> io::Result<()> {
        match self.is_lazy() {
            true => self.write_table(work)?,
            false => self.write_refs(work)?,
        }
        let offsets = self.meta().l2.dirty_offsets();
        let per_round = (ROUND / self.l2_slice as usize).max(1);
        for chunk in offsets.chunks(per_round) {
            let round = {
                let mut meta = self.meta();
                // From now on what counts as written is not durable: a flush has to wait.
                meta.loose = true;
                let mut round = Round::with_capacity(chunk.len());
                for offset in chunk {
                    if let Some(data) = meta.l2.take_dirty(*offset) {
                        append(&mut round, *offset, data);
                    }
                }
                round
            };
            self.storage.event(Event::L2Update);
            if let Err(error) = self.write_round(&round) {
                let mut meta = self.meta();
                chunk.iter().for_each(|offset| meta.l2.set_dirty(*offset));
                return Err(error);
            }
        }
        self.write_l1()
    }

    fn write_l1(&self) -> io::Result<()> {
        let (sectors, round) = {
            let mut meta = self.meta();
            let sectors = std::mem::take(&mut meta.l1_dirty);
            meta.loose |= !sectors.is_empty();
            let mut round = Round::new();
            for sector in &sectors {
                let offset = meta.l1_offset.saturating_add(sector * 512);
                append(&mut round, offset, &sector_of(&meta.l1, *sector));
            }
            (sectors, round)
        };
        if !round.is_empty() {
            self.storage.event(Event::L1Update);
        }
        let result = self.write_round(&round);
        if result.is_err() {
            self.meta().l1_dirty.extend(sectors);
        }
        result
    }

    /// Writes tables, after what they lead to is durable.
    fn write_round(&self, round: &Round) -> io::Result<()> {
        if round.is_empty() {
            return Ok(());
        }
        let unsynced = std::mem::replace(&mut self.meta().unsynced, false);
        if unsynced && let Err(error) = self.sync() {
            self.meta().unsynced = true;
            return Err(error);
        }
        for (offset, bytes) in round {
            self.write_meta(*offset, bytes)?;
        }
        Ok(())
    }
}

/// Adds bytes to the last place where they follow it.
fn append(round: &mut Round, offset: u64, bytes: &[u8]) {
    if let Some((start, before)) = round.last_mut()
        && start.checked_add(before.len() as u64) == Some(offset)
    {
        before.extend_from_slice(bytes);
        return;
    }
    round.push((offset, bytes.to_vec()));
}
