//! The first half of a check: all that an image leads to is counted.

use std::collections::BTreeMap;
use std::io;

use super::super::geometry::{
    COMPRESSED, COPIED, Geometry, L1_RESERVED, L2_RESERVED, OFFSET, ZERO,
};
use super::super::header::{Header, MAX_L1_BYTES, autoclear};
use super::super::io::{be64, put64};
use super::super::refcount::TABLE_OFFSET;
use super::super::snapshot::table::{Snapshot, Table};
use super::super::store::Store;
use super::bitmaps;
use super::counts::Counts;
use crate::image::CheckReport;

/// Most messages that are kept.
const MESSAGES: usize = 1000;

/// How many tables lead to an L2 table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uses {
    /// Entries of the active L1 table.
    pub active: u64,
    /// Of all L1 tables.
    pub all: u64,
}

/// A walk through an image.
pub(super) struct Walk<'a> {
    pub store: Store<'a>,
    pub header: &'a Header,
    pub geometry: Geometry,
    /// Entries that are wrong and hold no data are set right.
    pub mend: bool,
    /// How often each cluster is used.
    pub counts: Counts,
    pub report: CheckReport,
    /// Refcounts have to be made anew.
    pub rebuild: bool,
    /// Of the file, in bytes.
    size: u64,
    tables: BTreeMap<u64, Uses>,
    /// Clusters of the refcount structures that were counted.
    pub structures: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    pub fn new(store: Store<'a>, header: &'a Header, geometry: Geometry, mend: bool) -> Self {
        Walk {
            store,
            header,
            geometry,
            mend,
            counts: Counts::default(),
            report: CheckReport::default(),
            rebuild: false,
            size: store.size(),
            tables: BTreeMap::new(),
            structures: Vec::new(),
        }
    }

    /// Clusters of the file.
    pub fn clusters(&self) -> u64 {
        self.geometry.clusters(self.size).max(self.counts.end())
    }

    pub fn say(&mut self, message: String) {
        if self.report.messages.len() < MESSAGES {
            self.report.messages.push(message);
        }
    }

    pub fn corrupt(&mut self, times: u64, message: String) {
        self.report.corruptions = self.report.corruptions.saturating_add(times);
        self.say(format!("ERROR {message}"));
    }

    pub fn unreadable(&mut self, what: &str, error: &io::Error) {
        self.report.check_errors = self.report.check_errors.saturating_add(1);
        self.say(format!("ERROR: {what} cannot be read: {error}"));
    }

    /// Something of `len` bytes at `offset` is used so many times more.
    pub fn count(&mut self, offset: u64, len: u64, times: u64) {
        let Some(last) = len.checked_sub(1) else {
            return;
        };
        // The last cluster of a file may be there in part.
        let end = offset.saturating_add(len);
        if end.saturating_sub(self.size) >= self.geometry.cluster() {
            let text = format!(
                "counting reference for region exceeding the end of the file by one cluster or \
                 more: offset {offset:#x} size {len:#x}"
            );
            return self.corrupt(times, text);
        }
        let most = self.geometry.max_refcount();
        let bits = self.geometry.cluster_bits;
        for cluster in offset >> bits..=offset.saturating_add(last) >> bits {
            let count = self.counts.add(cluster, times);
            let before = count.saturating_sub(times);
            let over = count.saturating_sub(most.max(before));
            if over > 0 {
                let text = format!("overflow cluster offset={:#x}", cluster << bits);
                self.corrupt(over, text);
            }
        }
    }

    /// Counts everything.
    pub fn run(&mut self, snapshots: &Table, refcounts: &[u64]) -> io::Result<()> {
        let header = self.header;
        let size = header.size;
        self.report.total_clusters = Some(self.geometry.clusters(size));
        self.report.allocated_clusters = Some(0);
        self.report.fragmented_clusters = Some(0);
        self.report.compressed_clusters = Some(0);
        self.count(0, self.geometry.cluster(), 1);
        self.l1(header.l1_offset, header.l1_size, true);
        if self.geometry.external && !snapshots.snapshots.is_empty() {
            let count = snapshots.snapshots.len();
            self.corrupt(1, format!("{count} snapshots in image with data file"));
        }
        for snapshot in &snapshots.snapshots {
            self.snapshot(snapshot);
        }
        self.count(header.snapshots_offset, snapshots.len, 1);
        let tables = std::mem::take(&mut self.tables);
        for (offset, uses) in tables {
            self.l2(offset, uses)?;
        }
        let len = u64::from(header.refcount_table_clusters) << header.cluster_bits;
        self.structure(header.refcount_table_offset, len);
        if header.autoclear & autoclear::BITMAPS != 0 {
            bitmaps::count(self);
        }
        self.refcount_blocks(refcounts);
        Ok(())
    }

    fn structure(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        if end.saturating_sub(self.size) < self.geometry.cluster() {
            self.structures.push((offset, len));
        }
        self.count(offset, len, 1);
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        let name = format!("{} ({})", snapshot.view.id, snapshot.view.name);
        if self.geometry.inside(snapshot.l1_offset) != 0 {
            let text = format!(
                "snapshot {name} l1_offset={:#x}: L1 table is not cluster aligned; snapshot table \
                 entry corrupted",
                snapshot.l1_offset
            );
            return self.corrupt(1, text);
        }
        if u64::from(snapshot.l1_size) > MAX_L1_BYTES / 8 {
            let text = format!(
                "snapshot {name} l1_size={:#x}: L1 table is too large; snapshot table entry \
                 corrupted",
                snapshot.l1_size
            );
            return self.corrupt(1, text);
        }
        self.l1(snapshot.l1_offset, snapshot.l1_size, false);
    }

    fn l1(&mut self, offset: u64, entries: u32, active: bool) {
        let entries = u64::from(entries);
        self.count(offset, entries.saturating_mul(8), 1);
        // What is beyond the file's end reads as zeroes.
        let there = self.size.saturating_sub(offset).div_ceil(8).min(entries);
        let words = match self.store.words(offset, there) {
            Ok(words) => words,
            Err(error) => return self.unreadable("An L1 table", &error),
        };
        for word in words.into_iter().filter(|word| *word != 0) {
            if word & L1_RESERVED != 0 {
                self.corrupt(
                    1,
                    format!("found L1 entry with reserved bits set: {word:x}"),
                );
            }
            let table = word & OFFSET;
            self.count(table, self.geometry.cluster(), 1);
            if self.geometry.inside(table) != 0 {
                let text = format!(
                    "l2_offset={table:x}: Table is not cluster aligned; L1 entry corrupted"
                );
                self.corrupt(1, text);
            }
            let uses = self.tables.entry(table).or_default();
            uses.all = uses.all.saturating_add(1);
            uses.active = uses.active.saturating_add(active.into());
        }
    }

    fn l2(&mut self, offset: u64, uses: Uses) -> io::Result<()> {
        let mut table = vec![0; self.geometry.cluster() as usize];
        if let Err(error) = self.store.read(offset, &mut table) {
            self.unreadable("An L2 table", &error);
            return Ok(());
        }
        if table.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let bytes = 1usize << self.geometry.entry_bits();
        let mut run = Run::default();
        let mut mended = false;
        for index in 0..table.len() / bytes {
            let at = index.saturating_mul(bytes);
            let word = be64(&table, at);
            let bitmap = match self.geometry.extended {
                true => be64(&table, at.saturating_add(8)),
                false => 0,
            };
            if (word | bitmap) != 0 && self.entry(word, bitmap, uses, &mut run) {
                self.make_zero(&mut table, at);
                mended = true;
            }
        }
        self.sum_up(&run, uses.active);
        if mended {
            self.store.write(offset, &table)?;
        }
        Ok(())
    }

    fn sum_up(&mut self, run: &Run, times: u64) {
        let more = |sum: &mut Option<u64>, count: u64| {
            *sum = Some(sum.unwrap_or(0).saturating_add(count.saturating_mul(times)));
        };
        more(&mut self.report.allocated_clusters, run.allocated);
        more(&mut self.report.fragmented_clusters, run.fragmented);
        more(&mut self.report.compressed_clusters, run.compressed);
    }

    /// A wrong entry that holds no data becomes one that reads as zeroes.
    fn make_zero(&self, table: &mut [u8], at: usize) {
        match self.geometry.extended {
            true => {
                put64(table, at, 0);
                put64(table, at.saturating_add(8), 0xffff_ffff << 32);
            }
            false => put64(table, at, ZERO),
        }
    }

    /// Looks at an entry; whether it is to be set right.
    fn entry(&mut self, word: u64, bitmap: u64, uses: Uses, run: &mut Run) -> bool {
        if word & COMPRESSED != 0 {
            self.compressed(word, bitmap, uses, run);
            return false;
        }
        if word & L2_RESERVED != 0 {
            self.corrupt(
                uses.all,
                format!("found l2 entry with reserved bits set: {word:x}"),
            );
        }
        let host = word & OFFSET;
        let allocated = bitmap & 0xffff_ffff != 0;
        let zero = word & ZERO != 0 && !self.geometry.extended;
        if host == 0 && (zero || !(self.geometry.external && word & COPIED != 0)) {
            if allocated {
                let text = "Unallocated cluster has non-zero subcluster allocation map";
                self.corrupt(uses.all, text.to_owned());
            }
            return false;
        }
        if bitmap >> 32 & bitmap & 0xffff_ffff != 0 {
            let text = format!(
                "offset={host:x}: Allocated cluster with corrupted subcluster allocation bitmap"
            );
            self.corrupt(uses.all, text);
        }
        if self.geometry.inside(host) != 0 {
            let holds = match self.geometry.extended {
                true => allocated,
                false => !zero,
            };
            let kind = if holds {
                "Data cluster"
            } else {
                "Preallocated cluster"
            };
            let text =
                format!("offset={host:x}: {kind} is not properly aligned; L2 entry corrupted.");
            self.corrupt(uses.all, text);
            if !holds && self.mend {
                return self.mended(uses);
            }
        }
        run.plain(host, self.geometry.cluster());
        if !self.geometry.external {
            self.count(host, self.geometry.cluster(), uses.all);
        }
        false
    }

    fn mended(&mut self, uses: Uses) -> bool {
        let report = &mut self.report;
        report.corruptions = report.corruptions.saturating_sub(uses.all);
        report.corruptions_fixed = report.corruptions_fixed.saturating_add(uses.all);
        true
    }

    fn compressed(&mut self, word: u64, bitmap: u64, uses: Uses, run: &mut Run) {
        let (offset, len) = self.geometry.compressed(word);
        if word & COPIED != 0 {
            let text = format!(
                "coffset={offset:#x}: copied flag must never be set for compressed clusters"
            );
            self.corrupt(uses.all, text);
        }
        if self.geometry.external {
            let text = format!("compressed cluster with data file, entry={word:#x}");
            return self.corrupt(uses.all, text);
        }
        if bitmap != 0 {
            let text = format!(
                "compressed cluster with non-zero subcluster allocation bitmap, entry={word:#x}"
            );
            return self.corrupt(uses.all, text);
        }
        self.count(offset, len, uses.all);
        run.allocated = run.allocated.saturating_add(1);
        run.compressed = run.compressed.saturating_add(1);
        run.fragmented = run.fragmented.saturating_add(1);
    }

    fn refcount_blocks(&mut self, table: &[u64]) {
        let cluster = self.geometry.cluster();
        for (index, word) in table.iter().copied().enumerate() {
            let offset = word & TABLE_OFFSET;
            if word != offset {
                self.corrupt(
                    1,
                    format!("refcount table entry {index} has reserved bits set"),
                );
                self.rebuild = true;
            } else if self.geometry.inside(offset) != 0 {
                let text = format!(
                    "refcount block {index} is not cluster aligned; refcount table entry corrupted"
                );
                self.corrupt(1, text);
                self.rebuild = true;
            } else if offset >> self.geometry.cluster_bits >= self.clusters() {
                self.corrupt(1, format!("refcount block {index} is outside image"));
                self.rebuild = true;
            } else if offset != 0 {
                self.structure(offset, cluster);
                let count = self.counts.get(offset >> self.geometry.cluster_bits);
                if count != 1 {
                    self.corrupt(1, format!("refcount block {index} refcount={count}"));
                    self.rebuild = true;
                }
            }
        }
    }
}

/// What an L2 table has.
#[derive(Default)]
struct Run {
    allocated: u64,
    fragmented: u64,
    compressed: u64,
    /// Where the next cluster would follow; 0 before the first.
    next: u64,
}

impl Run {
    fn plain(&mut self, host: u64, cluster: u64) {
        self.allocated = self.allocated.saturating_add(1);
        if self.next != 0 && host != self.next {
            self.fragmented = self.fragmented.saturating_add(1);
        }
        self.next = host.saturating_add(cluster);
    }
}
