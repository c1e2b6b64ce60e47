//! New refcount structures from what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::super::geometry::Geometry;
use super::super::header::{Header, MAX_REFCOUNT_TABLE_BYTES};
use super::super::refcount;
use super::super::store::Store;
use super::counts::Counts;

/// Writes a refcount table and blocks for `counts` to clusters that are not used, and makes the
/// header lead there. `old` are the places of the former ones, which were counted. At any moment
/// the image has the old structures or the new ones.
///
/// # Errors
/// The host's; EFBIG when something that is used is too far behind.
pub(super) fn rebuild(
    store: Store<'_>,
    geometry: Geometry,
    header: &mut Header,
    counts: &mut Counts,
    old: &[(u64, u64)],
) -> io::Result<Vec<u64>> {
    let (table_at, table_clusters, places) = find_places(geometry, counts, old)?;
    for (offset, len) in old {
        let first = offset >> geometry.cluster_bits;
        for cluster in first..geometry.clusters(offset.saturating_add(*len)) {
            counts.take(cluster, 1);
        }
    }
    let cluster = geometry.cluster();
    for (index, place) in &places {
        store.write(
            place.saturating_mul(cluster),
            &block(geometry, counts, *index),
        )?;
    }
    let entries = table_clusters.saturating_mul(cluster) / 8;
    let table: Vec<u64> = (0..entries)
        .map(|index| {
            places
                .get(&index)
                .map_or(0, |place| place.saturating_mul(cluster))
        })
        .collect();
    store.write_words(table_at.saturating_mul(cluster), &table)?;
    store.flush()?;
    header.refcount_table_offset = table_at.saturating_mul(cluster);
    header.refcount_table_clusters = table_clusters as u32;
    store.write_header(header)?;
    store.flush()?;
    Ok(table)
}

type Places = (u64, u64, BTreeMap<u64, u64>);

/// Where the table and the blocks go (cluster numbers), which count themselves.
fn find_places(geometry: Geometry, counts: &mut Counts, old: &[(u64, u64)]) -> io::Result<Places> {
    let bits = geometry.refcount_bits();
    let mut needed = BTreeSet::new();
    let is_old = |cluster: u64| {
        let offset = cluster << geometry.cluster_bits;
        old.iter()
            .any(|(start, len)| offset >= *start && offset - *start < *len)
    };
    let ranges: Vec<(u64, u64)> = counts.ranges().collect();
    for (first, last) in ranges {
        for index in first >> bits..=last >> bits {
            let clusters = first.max(index << bits)..=last.min((index << bits) | ((1 << bits) - 1));
            let mut used = clusters.filter(|cluster| counts.get(*cluster) > 0);
            // Old structures alone need no block: they are given up.
            if used.any(|cluster| counts.get(cluster) > 1 || !is_old(cluster)) {
                needed.insert(index);
            }
        }
    }
    let mut places: BTreeMap<u64, u64> = BTreeMap::new();
    let mut table = (0u64, 0u64);
    let mut from = 0;
    loop {
        for index in std::mem::take(&mut needed) {
            if places.contains_key(&index) {
                continue;
            }
            let place = counts.free(from, 1);
            from = place;
            counts.add(place, 1);
            places.insert(index, place);
            needed.insert(place >> bits);
        }
        needed.retain(|index| !places.contains_key(index));
        if !needed.is_empty() {
            continue;
        }
        let last = places.last_key_value().map_or(0, |(index, _)| *index);
        let wanted = geometry.clusters(last.saturating_add(1).saturating_mul(8));
        if wanted.saturating_mul(geometry.cluster()) > MAX_REFCOUNT_TABLE_BYTES {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        if wanted <= table.1 {
            return Ok((table.0, table.1, places));
        }
        // The former place was too small: it is free again.
        (table.0..table.0.saturating_add(table.1)).for_each(|cluster| counts.take(cluster, 1));
        table = (counts.free(0, wanted), wanted);
        for cluster in table.0..table.0.saturating_add(wanted) {
            counts.add(cluster, 1);
            needed.insert(cluster >> bits);
        }
    }
}

fn block(geometry: Geometry, counts: &Counts, index: u64) -> Vec<u8> {
    let mut bytes = vec![0; geometry.cluster() as usize];
    let bits = geometry.refcount_bits();
    for place in 0..1u64 << bits {
        let count = counts
            .get((index << bits) | place)
            .min(geometry.max_refcount());
        if count > 0 {
            refcount::set(&mut bytes, place as usize, geometry.refcount_order, count);
        }
    }
    bytes
}
