//! Finding clusters that are not used, and giving them back.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::Qcow2;
use super::cache::{Cache, Set};
use super::geometry::OFFSET;
use super::io::eio;
use super::meta::{Freed, Why};
use super::refcount::TABLE_OFFSET;
use crate::buffers::Buffers;
use crate::filter::Event;
use crate::node::ExtentKind;
use crate::request::{Op, Unmap};

/// What needs the tables' file: refcounts, and where metadata is.
#[derive(Debug)]
pub(super) struct Work {
    /// The refcount table.
    pub(super) table: Vec<u64>,
    pub(super) table_offset: u64,
    pub(super) table_clusters: u32,
    /// Sectors of it that have to be written.
    pub(super) table_dirty: BTreeSet<u64>,
    /// Where the table was, until the header says where it is.
    pub(super) moved_table: Option<(u64, u64)>,
    /// Pieces of refcount blocks.
    pub(super) refs: Cache,
    /// No cluster before this one is free.
    pub(super) hint: u64,
    /// Bytes that are reserved the next time.
    pub(super) refill: u64,
    /// Clusters of tables, for which no guest's cluster may be taken.
    pub(super) metadata: Set,
    /// When unused pieces of tables are let go of the next time.
    pub(super) next_clean: Option<Instant>,
    /// The storage was made longer by us.
    pub(super) grown: bool,
}

/// Most bytes that are reserved at once.
const REFILL: u64 = 16 << 20;
/// And most clusters.
const REFILL_CLUSTERS: u64 = 1024;
/// Bytes that are given up before they are made to come back.
const FREES: u64 = 32 << 20;
/// Seconds.
const CLEAN_INTERVAL: u64 = 600;

impl Qcow2 {
    /// Finds `count` clusters that follow each other, or fewer but at least `least`, and counts
    /// them as used. What is in them is not known. Gives the offset of the first, and how many.
    ///
    /// # Errors
    /// The host's; EFBIG beyond what offsets can say; EIO for damage.
    pub(super) fn alloc_some(
        &self,
        work: &mut Work,
        least: u64,
        count: u64,
    ) -> io::Result<(u64, u64)> {
        self.storage.event(Event::ClusterAlloc);
        self.set_dirty_bit()?;
        loop {
            let (first, found) = self.find_free(work, least, count)?;
            let end = first.checked_add(found).ok_or_else(eio)?;
            if end > OFFSET >> self.geometry.cluster_bits {
                return Err(io::Error::from_raw_os_error(libc::EFBIG));
            }
            for cluster in first..end {
                if cluster == 0 || work.metadata.contains(&cluster) {
                    let offset = cluster << self.geometry.cluster_bits;
                    let text = format!(
                        "Preventing invalid allocation of a cluster at offset {offset:#x} that \
                         has a table in it"
                    );
                    return Err(self.corrupt(text, Some((offset, self.geometry.cluster()))));
                }
            }
            self.ensure_blocks(work, first, found)?;
            // The blocks may have been put where the clusters were found.
            let offset = first << self.geometry.cluster_bits;
            let mut free = true;
            for cluster in first..end {
                free &= self.refcount(work, cluster)? == 0;
            }
            if free {
                let len = found << self.geometry.cluster_bits;
                self.change_refcount(work, offset, len, true)?;
                if work.hint >= first && work.hint < end {
                    work.hint = end;
                }
                return Ok((offset, found));
            }
        }
    }

    /// The first run of free clusters of at least `least`, at most `count`.
    fn find_free(&self, work: &mut Work, least: u64, count: u64) -> io::Result<(u64, u64)> {
        let (mut at, mut run) = (work.hint, 0u64);
        let mut first_free = None;
        loop {
            if at > OFFSET >> self.geometry.cluster_bits {
                return Err(io::Error::from_raw_os_error(libc::EFBIG));
            }
            match self.refcount(work, at)? {
                0 => {
                    first_free.get_or_insert(at);
                    run += 1;
                    if run >= count {
                        break;
                    }
                }
                _ if run >= least => {
                    at -= 1;
                    break;
                }
                _ => run = 0,
            }
            at = at.checked_add(1).ok_or_else(eio)?;
        }
        work.hint = first_free.unwrap_or(work.hint);
        Ok((at + 1 - run, run))
    }

    /// Clusters that follow each other, for tables. What is in them is not known.
    ///
    /// # Errors
    /// As [`Self::alloc_some`].
    pub(super) fn alloc_clusters(&self, work: &mut Work, count: u64) -> io::Result<u64> {
        let (offset, count) = self.alloc_some(work, count, count)?;
        self.grow_storage(offset.saturating_add(count << self.geometry.cluster_bits))?;
        self.note_table(work, offset, count << self.geometry.cluster_bits);
        Ok(offset)
    }

    /// No guest's cluster may be there.
    pub(super) fn note_table(&self, work: &mut Work, offset: u64, len: u64) {
        let first = offset >> self.geometry.cluster_bits;
        let end = self.geometry.clusters(offset.saturating_add(len));
        work.metadata.extend(first..end);
        self.meta().new_tables.extend(first..end);
    }

    /// There is no table any more.
    pub(super) fn forget_table(&self, work: &mut Work, offset: u64, len: u64) {
        let first = offset >> self.geometry.cluster_bits;
        let end = self.geometry.clusters(offset.saturating_add(len));
        let mut meta = self.meta();
        for cluster in first..end {
            work.metadata.remove(&cluster);
            meta.new_tables.remove(&cluster);
        }
    }

    /// Puts clusters of zeroes into the reserve; at least `bytes`, and more as more was needed
    /// lately.
    ///
    /// # Errors
    /// As [`Self::alloc_some`].
    pub(super) fn refill(&self, work: &mut Work, bytes: u64) -> io::Result<()> {
        // Clusters that were given up come back through flushes, which may never be asked for.
        let given_up = self.meta().frees.gathered();
        if given_up >= FREES {
            self.flush_with(work)?;
        } else {
            self.apply_frees(work)?;
        }
        let cluster = self.geometry.cluster();
        let most = REFILL
            .min(cluster.saturating_mul(REFILL_CLUSTERS))
            .max(cluster);
        let ahead = work.refill.clamp(cluster, most);
        work.refill = ahead.saturating_mul(2).min(most);
        let wanted = bytes.min(most).max(ahead).div_ceil(cluster).max(1);
        let reserved = match self.reserve_clusters(work, wanted) {
            // There may be room for what is needed now.
            Err(error) if wanted > 1 && !self.is_broken() => {
                log::debug!("An image takes fewer clusters at once: {error}");
                work.refill = 0;
                self.reserve_clusters(work, 1)
            }
            result => result,
        };
        let given_up = self.meta().frees.gathered();
        match reserved {
            // What was given up may do.
            Err(error) if given_up > 0 && !self.is_broken() => {
                self.flush_with(work).map_err(|_| error)?;
                self.reserve_clusters(work, 1)
            }
            result => result,
        }
    }

    fn reserve_clusters(&self, work: &mut Work, wanted: u64) -> io::Result<()> {
        let (offset, count) = self.alloc_some(work, 1, wanted)?;
        let len = count << self.geometry.cluster_bits;
        if let Err(error) = self.make_zero(work, offset, len) {
            self.change_refcount(work, offset, len, false)?;
            return Err(error);
        }
        let range = (offset, offset.saturating_add(len));
        let mut meta = self.meta();
        meta.reserve.push_back(range);
        // Of a few clusters, all are used first.
        meta.low = if count >= 16 { len / 4 } else { 0 };
        Ok(())
    }

    /// Clusters that are not used yet are to read as zeroes.
    fn make_zero(&self, work: &mut Work, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or_else(eio)?;
        let before = self.storage.info().size;
        if end > before {
            self.grow_storage(end)?;
            work.grown = true;
        }
        // What has just been added to a file are zeroes, and the host knows it.
        let mut at = offset;
        while at < end {
            let extent = match at >= before {
                true => self.storage.extent(at, end - at)?,
                false => crate::node::Extent {
                    len: before.min(end) - at,
                    kind: ExtentKind::Data,
                },
            };
            if extent.len == 0 {
                return Err(eio());
            }
            if extent.kind == ExtentKind::Data {
                self.zero_below(&self.storage, at, extent.len, Unmap::May)?;
                self.meta().unsynced = true;
            }
            at = at.saturating_add(extent.len);
        }
        Ok(())
    }

    /// A cluster from the reserve.
    pub(super) fn reserved_cluster(&self, work: &mut Work) -> io::Result<u64> {
        let cluster = self.geometry.cluster();
        let taken = self.meta().take_reserved(cluster);
        if let Some(host) = taken {
            return Ok(host);
        }
        self.refill(work, cluster)?;
        let taken = self.meta().take_reserved(cluster);
        taken.ok_or_else(eio)
    }

    /// Gives clusters back that were dropped long enough ago.
    ///
    /// # Errors
    /// The host's; EIO for damage. What was not given back is leaked.
    pub(super) fn apply_frees(&self, work: &mut Work) -> io::Result<()> {
        loop {
            let mut meta = self.meta();
            let Some((generation, _)) = meta.frees.waiting.front() else {
                return Ok(());
            };
            if Arc::strong_count(generation) > 1 {
                return Ok(());
            }
            // With whoever let go of it last.
            fence(Ordering::Acquire);
            let Some((_, frees)) = meta.frees.waiting.pop_front() else {
                return Ok(());
            };
            drop(meta);
            for freed in frees {
                self.give_back(work, freed)?;
            }
        }
    }

    fn give_back(&self, work: &mut Work, freed: Freed) -> io::Result<()> {
        let geometry = &self.geometry;
        self.storage.event(Event::ClusterFree);
        self.change_refcount(work, freed.offset, freed.len, false)?;
        if !self.passes(freed.why) {
            return Ok(());
        }
        let size = self.storage.info().size;
        let first = freed.offset >> geometry.cluster_bits;
        let end = geometry.clusters(freed.offset.saturating_add(freed.len).min(size));
        for cluster in first..end {
            if self.refcount(work, cluster)? == 0 {
                let offset = cluster << geometry.cluster_bits;
                let len = geometry.cluster().min(size.saturating_sub(offset));
                let op = Op::Discard { offset, len };
                // A hint to the host, which may not take it.
                if let Err(error) = self.storage.perform(op, &Buffers::new()) {
                    log::debug!("A discard was not passed on: {error}");
                }
            }
        }
        Ok(())
    }

    /// Whether what is freed is discarded below.
    pub(super) fn passes(&self, why: Why) -> bool {
        let policy = self.screen.policy();
        let unmap = policy.discard == crate::gate::Discard::Unmap;
        match why {
            Why::Request => self.options.pass_discard_request.unwrap_or(unmap),
            Why::Snapshot => self.options.pass_discard_snapshot.unwrap_or(true),
            Why::Other => self.options.pass_discard_other.unwrap_or(false),
        }
    }

    /// Lets go of tables that were not used for the time that the options say; QEMU's time where
    /// they say nothing. Nobody holds numbers of pieces.
    pub(super) fn clean_caches(&self, work: &mut Work) {
        let interval = self.options.cache_clean_interval.unwrap_or(CLEAN_INTERVAL);
        if interval == 0 {
            return;
        }
        let now = Instant::now();
        match work.next_clean {
            Some(due) if now < due => return,
            Some(_) => {
                work.refs.clean();
                self.meta().l2.clean();
            }
            None => {}
        }
        work.next_clean = now.checked_add(Duration::from_secs(interval));
    }

    /// Where tables are, from what is in memory.
    pub(super) fn collect_metadata(&self, work: &mut Work) {
        let geometry = &self.geometry;
        let (l1_offset, l1_bytes, tables) = {
            let meta = self.meta();
            let words = meta.l1.iter().map(|word| word & OFFSET);
            let tables: Vec<u64> = words.filter(|offset| *offset != 0).collect();
            (meta.l1_offset, meta.l1.len() as u64 * 8, tables)
        };
        let (snapshots, count) = {
            let header = self.header();
            (header.snapshots_offset, header.snapshot_count)
        };
        work.metadata.clear();
        work.metadata.insert(0);
        self.note_table(work, l1_offset, l1_bytes);
        if count > 0 {
            self.note_table(work, snapshots, u64::from(count).saturating_mul(40));
        }
        let len = u64::from(work.table_clusters) << geometry.cluster_bits;
        self.note_table(work, work.table_offset, len);
        let blocks = work.table.iter().map(|word| word & TABLE_OFFSET);
        let blocks = blocks.filter(|offset| *offset != 0);
        let clusters = blocks.chain(tables);
        let clusters: Vec<u64> = clusters
            .map(|offset| offset >> geometry.cluster_bits)
            .collect();
        work.metadata.extend(clusters);
        self.meta().new_tables.clear();
    }
}
