//! The second half of a check: what was counted beside what is written.

use std::io;

use super::super::stored::Stored;
use super::counts::Counts;
use super::walk::Walk;
use crate::image::Repair;

/// A cluster whose refcount is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Difference {
    cluster: u64,
    /// What is written.
    count: u64,
    /// How often it is used.
    used: u64,
}

/// What may be found at a cluster.
enum Found {
    /// In use, and counted so.
    Used,
    Wrong(Difference),
    /// Its refcount cannot be read.
    Unreadable,
}

/// Counts leaks and damage; touches nothing. Whether the refcount structures have to be made
/// anew shows in the walk.
pub(super) fn compare(walk: &mut Walk<'_>, stored: &mut Stored<'_>) {
    let clusters = walk.clusters();
    let counts = std::mem::take(&mut walk.counts);
    let most = walk.geometry.max_refcount();
    let mut highest = 0;
    for range in ranges(&counts, stored, walk.geometry.refcount_bits(), clusters) {
        scan(&counts, stored, most, range, |cluster, found| match found {
            Found::Used => highest = cluster,
            Found::Unreadable => {
                walk.report.check_errors = walk.report.check_errors.saturating_add(1);
                walk.say(format!("Can't get refcount for cluster {cluster}"));
            }
            Found::Wrong(wrong) => {
                highest = cluster;
                walk.rebuild |= wrong.count == 0;
                tell(walk, wrong);
            }
        });
    }
    walk.counts = counts;
    let end = highest.saturating_add(1) << walk.geometry.cluster_bits;
    walk.report.image_end_offset = Some(end);
}

fn tell(walk: &mut Walk<'_>, wrong: Difference) {
    let Difference {
        cluster,
        count,
        used,
    } = wrong;
    let text = format!("cluster {cluster} refcount={count} reference={used}");
    if count < used {
        return walk.corrupt(1, text);
    }
    walk.report.leaks = walk.report.leaks.saturating_add(1);
    walk.say(format!("Leaked {text}"));
}

/// Sets refcounts right where they are, as far as `repair` says; those that have a place.
///
/// # Errors
/// The host's.
pub(super) fn mend(walk: &mut Walk<'_>, stored: &mut Stored<'_>, repair: Repair) -> io::Result<()> {
    let nothing = walk.report.leaks == 0 && walk.report.corruptions == 0;
    if repair == Repair::No || nothing {
        return Ok(());
    }
    let (clusters, bits) = (walk.clusters(), walk.geometry.refcount_bits());
    let most = walk.geometry.max_refcount();
    for (first, last) in ranges(&walk.counts, stored, bits, clusters) {
        for block in first >> bits..=last >> bits {
            let range = (
                first.max(block << bits),
                last.min((block << bits) | ((1 << bits) - 1)),
            );
            let mut changes = Vec::new();
            scan(&walk.counts, stored, most, range, |_, found| {
                if let Found::Wrong(wrong) = found
                    && (wrong.count > wrong.used || repair == Repair::All)
                {
                    changes.push(wrong);
                }
            });
            if changes.iter().any(|wrong| wrong.count > 0) {
                changes.retain(|wrong| wrong.count > 0);
                apply(walk, stored, &changes)?;
            }
        }
    }
    walk.store.flush()
}

fn apply(walk: &mut Walk<'_>, stored: &mut Stored<'_>, changes: &[Difference]) -> io::Result<()> {
    let counts: Vec<(u64, u64)> = changes
        .iter()
        .map(|wrong| (wrong.cluster, wrong.used))
        .collect();
    stored.set(&counts)?;
    let leaks = changes.iter().filter(|wrong| wrong.count > wrong.used);
    let leaks = leaks.count() as u64;
    let others = (changes.len() as u64).saturating_sub(leaks);
    let report = &mut walk.report;
    report.leaks = report.leaks.saturating_sub(leaks);
    report.leaks_fixed = report.leaks_fixed.saturating_add(leaks);
    report.corruptions = report.corruptions.saturating_sub(others);
    report.corruptions_fixed = report.corruptions_fixed.saturating_add(others);
    Ok(())
}

/// Looks at all clusters of a range, and tells of those that are used or said to be.
fn scan(
    counts: &Counts,
    stored: &mut Stored<'_>,
    most: u64,
    (first, last): (u64, u64),
    mut tell: impl FnMut(u64, Found),
) {
    for cluster in first..=last {
        let used = counts.get(cluster).min(most);
        match stored.get(cluster) {
            Err(_) => tell(cluster, Found::Unreadable),
            Ok(count) if count == used && used > 0 => tell(cluster, Found::Used),
            Ok(count) if count == used => {}
            Ok(count) => tell(
                cluster,
                Found::Wrong(Difference {
                    cluster,
                    count,
                    used,
                }),
            ),
        }
    }
}

/// Ranges of clusters outside of which nothing is used and nothing is said to be.
fn ranges(counts: &Counts, stored: &Stored<'_>, bits: u32, clusters: u64) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = counts.ranges().collect();
    let blocks = stored.table().iter().enumerate();
    let blocks = blocks.filter(|(_, word)| **word != 0);
    all.extend(blocks.map(|(index, _)| {
        let first = (index as u64) << bits;
        (first, first | ((1 << bits) - 1))
    }));
    all.retain(|(first, _)| *first < clusters);
    all.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in all {
        let last = last.min(clusters.saturating_sub(1));
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged
}
