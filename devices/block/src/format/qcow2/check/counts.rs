//! How often clusters are used, in little memory: what a check counts.

use std::collections::BTreeMap;

/// Clusters of a chunk, as a power of two.
const CHUNK_BITS: u32 = 15;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Numbers of one width as long as they do.
enum Chunk {
    /// Two bits each.
    Narrow(Box<[u8]>),
    /// A byte each.
    Bytes(Box<[u8]>),
    Wide(Box<[u64]>),
}

impl Chunk {
    fn new() -> Self {
        Chunk::Narrow(vec![0; CHUNK / 4].into())
    }

    fn get(&self, place: usize) -> u64 {
        match self {
            Chunk::Narrow(bytes) => {
                let byte = bytes.get(place / 4).copied().unwrap_or(0);
                u64::from(byte >> (place % 4 * 2) & 3)
            }
            Chunk::Bytes(bytes) => bytes.get(place).copied().unwrap_or(0).into(),
            Chunk::Wide(words) => words.get(place).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, place: usize, value: u64) {
        if value > self.most() {
            *self = self.widened(value);
        }
        match self {
            Chunk::Narrow(bytes) => {
                if let Some(byte) = bytes.get_mut(place / 4) {
                    let shift = place % 4 * 2;
                    *byte = (*byte & !(3 << shift)) | ((value as u8 & 3) << shift);
                }
            }
            Chunk::Bytes(bytes) => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value as u8;
                }
            }
            Chunk::Wide(words) => {
                if let Some(word) = words.get_mut(place) {
                    *word = value;
                }
            }
        }
    }

    fn most(&self) -> u64 {
        match self {
            Chunk::Narrow(_) => 3,
            Chunk::Bytes(_) => 255,
            Chunk::Wide(_) => u64::MAX,
        }
    }

    fn widened(&self, for_value: u64) -> Self {
        let all = (0..CHUNK).map(|place| self.get(place));
        match for_value {
            ..=255 => Chunk::Bytes(all.map(|value| value as u8).collect()),
            _ => Chunk::Wide(all.collect()),
        }
    }
}

/// Counts by the number of the cluster; memory is taken only where something is counted, two
/// bits a cluster as long as its neighbours are used no more than three times.
#[derive(Default)]
pub(in crate::format::qcow2) struct Counts {
    chunks: BTreeMap<u64, Chunk>,
    /// One more than the last cluster that was ever counted.
    end: u64,
}

impl Counts {
    pub fn get(&self, cluster: u64) -> u64 {
        let chunk = self.chunks.get(&(cluster >> CHUNK_BITS));
        chunk.map_or(0, |chunk| chunk.get(place(cluster)))
    }

    /// Gives the new count.
    pub fn add(&mut self, cluster: u64, times: u64) -> u64 {
        let chunk = self.chunks.entry(cluster >> CHUNK_BITS);
        let chunk = chunk.or_insert_with(Chunk::new);
        let value = chunk.get(place(cluster)).saturating_add(times);
        chunk.set(place(cluster), value);
        self.end = self.end.max(cluster.saturating_add(1));
        value
    }

    pub fn take(&mut self, cluster: u64, times: u64) {
        if let Some(chunk) = self.chunks.get_mut(&(cluster >> CHUNK_BITS)) {
            let value = chunk.get(place(cluster)).saturating_sub(times);
            chunk.set(place(cluster), value);
        }
    }

    /// One more than the last cluster that was ever counted.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The ranges, in order and apart from each other, outside of which nothing is counted.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let chunks = self.chunks.keys();
        chunks.map(|chunk| {
            (
                chunk << CHUNK_BITS,
                (chunk << CHUNK_BITS) | (CHUNK as u64 - 1),
            )
        })
    }

    /// The first cluster from `from` on that is not used, with `count - 1` behind it that are
    /// not either.
    pub fn free(&self, from: u64, count: u64) -> u64 {
        let (mut first, mut at) = (from, from);
        while at < self.end && at.saturating_sub(first) < count {
            at = at.saturating_add(1);
            if self.get(at.saturating_sub(1)) > 0 {
                first = at;
            }
        }
        first
    }
}

const fn place(cluster: u64) -> usize {
    (cluster & (CHUNK as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_those_of_a_map(
            steps in proptest::collection::vec(
                (0u64..70_000, prop_oneof![1u64..4, 200u64..300, Just(u64::MAX / 2)], any::<bool>()),
                0..200,
            )
        ) {
            let mut counts = Counts::default();
            let mut map: HashMap<u64, u64> = HashMap::new();
            for (cluster, times, up) in steps {
                let value = map.entry(cluster).or_default();
                if up {
                    *value = value.saturating_add(times);
                    prop_assert_eq!(counts.add(cluster, times), *value);
                } else {
                    *value = value.saturating_sub(times);
                    counts.take(cluster, times);
                }
            }
            for (cluster, value) in &map {
                prop_assert_eq!(counts.get(*cluster), *value);
            }
        }
    }

    #[test]
    fn free_runs_are_found() {
        let mut counts = Counts::default();
        for cluster in [0, 1, 3, 4, 7] {
            counts.add(cluster, 1);
        }
        assert_eq!(counts.free(0, 1), 2);
        assert_eq!(counts.free(0, 2), 5);
        assert_eq!(counts.free(0, 3), 8);
        assert_eq!(counts.free(3, 1), 5);
        assert_eq!(counts.free(100, 5), 100);
        assert_eq!(counts.ranges().collect::<Vec<_>>(), [(0, 32767)]);
    }
}
