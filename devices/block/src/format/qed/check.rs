//! Looking for damage (qed_spec, section "Consistency checking").

use std::collections::HashMap;

use super::header::Header;
use super::tables::{ZERO, encode};
use super::{Qed, unreadable, unwritable};
use crate::error::BlockError;
use crate::format::fields;
use crate::image::{CheckReport, Repair};
use crate::node::{BlockNode, ExtentKind, NodeExt};

/// Bytes of a table that are looked at at once.
const CHUNK: u64 = 64 << 10;
/// Most things that are told one by one.
const MOST_MESSAGES: usize = 100;

impl Qed {
    /// As [`crate::Image::check`]. What leads nowhere is taken away; a cluster that is used twice
    /// cannot be mended, because nobody knows whose it is.
    pub(super) fn look(&self, repair: Repair, writable: bool) -> Result<CheckReport, BlockError> {
        let node = self.storage.node().ok_or(BlockError::Empty)?;
        let work = self.work();
        if writable {
            self.write_out(&work).map_err(unwritable)?;
        }
        let fix = writable && repair == Repair::All;
        let (header, l1, end) = {
            let state = self.state();
            let tables = &state.tables;
            (tables.header, tables.l1().to_vec(), tables.end)
        };
        let mut scan = Scan {
            node: &*node,
            header,
            fix,
            is_place: &|offset, len| self.state().tables.is_place(offset, len),
            used: Used::default(),
            last: None,
            report: CheckReport::default(),
        };
        for (index, place) in l1.iter().enumerate().filter(|(_, place)| **place != 0) {
            if scan.table(index, *place)? == Verdict::Nowhere && fix {
                self.state().tables.clear_table(index);
            }
        }
        let report = scan.finish(end);
        if fix {
            self.state().tables.forget_pieces();
            self.write_out(&work).map_err(unwritable)?;
            if report.corruptions == 0 {
                self.mark_clean().map_err(unwritable)?;
                node.flush().map_err(unwritable)?;
            }
        }
        Ok(report)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It cannot be there.
    Nowhere,
    /// Something else is there.
    Twice,
}

struct Scan<'a> {
    node: &'a dyn BlockNode,
    header: Header,
    fix: bool,
    is_place: &'a dyn Fn(u64, u64) -> bool,
    used: Used,
    /// The cluster before.
    last: Option<u64>,
    report: CheckReport,
}

impl Scan<'_> {
    fn table(&mut self, index: usize, place: u64) -> Result<Verdict, BlockError> {
        let verdict = self.claim(place, self.header.table_bytes(), || {
            format!("L1 entry {index} leads to {place}")
        });
        if verdict != Verdict::Good {
            return Ok(verdict);
        }
        let len = self.header.table_bytes();
        let mut at = 0;
        while at < len {
            let from = place.saturating_add(at);
            let chunk = CHUNK.min(len.saturating_sub(at));
            // Holes have no entries, and can be large.
            let extent = self
                .node
                .extent(from, len.saturating_sub(at))
                .map_err(unreadable)?;
            if extent.kind == ExtentKind::Zero && extent.len >= 4096 {
                at = at.saturating_add(extent.len / 4096 * 4096);
                continue;
            }
            self.entries(from, chunk)?;
            at = at.saturating_add(chunk);
        }
        Ok(Verdict::Good)
    }

    fn entries(&mut self, place: u64, len: u64) -> Result<(), BlockError> {
        let bytes = fields::read(self.node, place, len).map_err(unreadable)?;
        let mut entries: Vec<u64> = bytes
            .chunks(8)
            .map(|entry| fields::le64(entry, 0))
            .collect();
        let mut changed = false;
        let cluster = self.header.cluster();
        for (number, entry) in entries.iter_mut().enumerate() {
            if matches!(*entry, 0 | ZERO) {
                continue;
            }
            let verdict = self.claim(*entry, cluster, || {
                format!("L2 entry at {place} + 8 * {number} leads to {entry}")
            });
            match verdict {
                Verdict::Good | Verdict::Twice => self.count(*entry),
                Verdict::Nowhere if self.fix => {
                    *entry = 0;
                    changed = true;
                }
                Verdict::Nowhere => {}
            }
        }
        if changed {
            let written = self.node.write_at(place, &encode(&entries));
            written.map_err(unwritable)?;
        }
        Ok(())
    }

    fn count(&mut self, place: u64) {
        let report = &mut self.report;
        let count = |count: &mut Option<u64>| *count = Some(count.unwrap_or(0).saturating_add(1));
        count(&mut report.allocated_clusters);
        let next = self
            .last
            .and_then(|last| last.checked_add(self.header.cluster()));
        if next.is_some_and(|next| next != place) {
            count(&mut report.fragmented_clusters);
        }
        self.last = Some(place);
    }

    /// Notes clusters as used, by what `what` says.
    fn claim(&mut self, place: u64, len: u64, what: impl Fn() -> String) -> Verdict {
        if !(self.is_place)(place, len) {
            let count = match self.fix {
                true => &mut self.report.corruptions_fixed,
                false => &mut self.report.corruptions,
            };
            *count = count.saturating_add(1);
            self.say(|| format!("{}, where nothing can be", what()));
            return Verdict::Nowhere;
        }
        let cluster = self.header.cluster();
        let clusters = place / cluster..place.saturating_add(len) / cluster;
        let before = self.used.count;
        let count = clusters.end.saturating_sub(clusters.start);
        clusters.for_each(|cluster| self.used.set(cluster));
        if self.used.count < before.saturating_add(count) {
            self.report.corruptions = self.report.corruptions.saturating_add(1);
            self.say(|| format!("{}, which is used already", what()));
            return Verdict::Twice;
        }
        Verdict::Good
    }

    fn say(&mut self, what: impl Fn() -> String) {
        if self.report.messages.len() < MOST_MESSAGES {
            self.report.messages.push(what());
        }
    }

    fn finish(mut self, end: u64) -> CheckReport {
        let cluster = self.header.cluster();
        let tables = u64::from(self.header.table_size);
        let used = self.used.count.saturating_add(tables);
        let used = used.saturating_add(self.header.header_size.into());
        self.report.leaks = (end / cluster).saturating_sub(used);
        self.report.total_clusters = Some(self.header.image_size.div_ceil(cluster));
        self.report.allocated_clusters.get_or_insert(0);
        self.report.fragmented_clusters.get_or_insert(0);
        self.report
    }
}

/// Clusters that something leads to. Its memory goes with their number, not with the file's size,
/// which a sparse file gives away for nothing.
#[derive(Default)]
struct Used {
    words: HashMap<u64, u64>,
    count: u64,
}

impl Used {
    fn set(&mut self, cluster: u64) {
        let word = self.words.entry(cluster / 64).or_insert(0);
        let bit = 1u64 << (cluster % 64);
        self.count = self.count.saturating_add(u64::from(*word & bit == 0));
        *word |= bit;
    }
}
