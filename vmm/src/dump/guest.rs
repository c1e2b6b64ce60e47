//! Guest RAM by guest physical address.

use crate::migration::ram::RamBlock;

/// A piece of guest RAM: one range of guest physical addresses, one piece of a memory backend.
#[derive(Debug, Clone)]
pub struct GuestRange {
    /// Its first guest physical address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
    block: RamBlock,
    offset: u64,
}

impl GuestRange {
    /// `len` bytes of `block` from `offset` on, at guest physical address `base`; `None` where the
    /// block has not so many.
    pub fn new(base: u64, len: u64, block: RamBlock, offset: u64) -> Option<Self> {
        base.checked_add(len)?;
        block.address(offset, len)?;
        Some(GuestRange {
            base,
            len,
            block,
            offset,
        })
    }

    /// Behind its last address.
    pub const fn end(&self) -> u64 {
        self.base.saturating_add(self.len)
    }

    /// Copies bytes out, from `at` bytes behind its beginning on; false where they are not all
    /// inside.
    pub fn read(&self, at: u64, data: &mut [u8]) -> bool {
        let inside = at
            .checked_add(data.len() as u64)
            .is_some_and(|end| end <= self.len);
        inside && self.block.read(self.offset.saturating_add(at), data)
    }

    /// The address in this process of `len` bytes at `at`; `None` where they are not all inside.
    pub fn host(&self, at: u64, len: u64) -> Option<u64> {
        if at.checked_add(len)? > self.len {
            return None;
        }
        self.block.address(self.offset.checked_add(at)?, len)
    }

    /// The backend's name.
    pub fn backend(&self) -> &str {
        &self.block.name
    }

    fn cut(&self, begin: u64, end: u64) -> Option<Self> {
        let (first, last) = (self.base.max(begin), self.end().min(end));
        let len = last.checked_sub(first).filter(|len| *len > 0)?;
        let skipped = first.checked_sub(self.base)?;
        let offset = self.offset.checked_add(skipped)?;
        GuestRange::new(first, len, self.block.clone(), offset)
    }
}

/// All RAM of a guest, or part of it. Cheap to clone; any thread.
#[derive(Debug, Clone, Default)]
pub struct GuestMemory {
    /// In order of address, without overlaps.
    ranges: Vec<GuestRange>,
}

impl GuestMemory {
    /// These ranges, which do not overlap.
    pub fn new(mut ranges: Vec<GuestRange>) -> Self {
        ranges.retain(|range| range.len > 0);
        ranges.sort_by_key(|range| range.base);
        GuestMemory { ranges }
    }

    /// In order of address.
    pub fn ranges(&self) -> &[GuestRange] {
        &self.ranges
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        let add = |sum: u64, range: &GuestRange| sum.saturating_add(range.len);
        self.ranges.iter().fold(0, add)
    }

    /// Behind the last address.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, GuestRange::end)
    }

    /// What of it lies in `len` bytes from `begin` on.
    pub fn part(&self, begin: u64, len: u64) -> Self {
        let end = begin.saturating_add(len);
        let cut = |range: &GuestRange| range.cut(begin, end);
        GuestMemory::new(self.ranges.iter().filter_map(cut).collect())
    }

    /// The range in which an address is.
    pub fn find(&self, address: u64) -> Option<&GuestRange> {
        let behind = self.ranges.partition_point(|range| range.base <= address);
        let range = self.ranges.get(behind.checked_sub(1)?)?;
        (address < range.end()).then_some(range)
    }

    /// Copies bytes out; false where some of them are no RAM.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let (mut at, mut rest) = (address, data);
        while !rest.is_empty() {
            let Some(range) = self.find(at) else {
                return false;
            };
            let here = range.end().saturating_sub(at).min(rest.len() as u64);
            let here = usize::try_from(here).unwrap_or(rest.len());
            let (now, later) = rest.split_at_mut(here);
            if !range.read(at.saturating_sub(range.base), now) {
                return false;
            }
            at = at.saturating_add(here as u64);
            rest = later;
        }
        true
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RAM in two pieces, at 0 and at `high`, of a vector that lives as long as the test.
    pub(crate) fn two_pieces(bytes: &[u8], low: u64, high: u64) -> GuestMemory {
        let block = RamBlock {
            name: "pc.ram".into(),
            len: bytes.len() as u64,
            host: bytes.as_ptr() as u64,
            shared: false,
            file: None,
        };
        let rest = block.len - low;
        GuestMemory::new(vec![
            GuestRange::new(high, rest, block.clone(), low).unwrap(),
            GuestRange::new(0, low, block, 0).unwrap(),
        ])
    }

    #[test]
    fn addresses_find_their_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let memory = two_pieces(&bytes, 100, 1000);
        assert_eq!((memory.size(), memory.end()), (256, 1156));
        let read = |at, len| {
            let mut data = vec![0; len];
            memory.read(at, &mut data).then_some(data)
        };
        assert_eq!(read(98, 2), Some(vec![98, 99]));
        assert_eq!(read(98, 3), None);
        assert_eq!(read(1000, 2), Some(vec![100, 101]));
        assert_eq!(read(1155, 1), Some(vec![255]));
        assert_eq!(read(1156, 1), None);
        assert_eq!(read(u64::MAX, 2), None);
        assert_eq!(read(7, 0), Some(vec![]));
    }

    #[test]
    fn a_part_of_it() {
        let bytes: Vec<u8> = (0..=255).collect();
        let memory = two_pieces(&bytes, 100, 1000);
        let shape = |part: &GuestMemory| -> Vec<_> {
            let shape = |range: &GuestRange| (range.base, range.len);
            part.ranges().iter().map(shape).collect()
        };
        let part = memory.part(50, 1000);
        assert_eq!(shape(&part), [(50, 50), (1000, 50)]);
        let mut byte = [0];
        assert!(part.read(1049, &mut byte) && byte == [149]);
        assert!(!part.read(1050, &mut byte) && !part.read(49, &mut byte));
        assert_eq!(shape(&memory.part(100, 900)), []);
        assert_eq!(shape(&memory.part(u64::MAX, u64::MAX)), []);
        assert_eq!(shape(&memory.part(1100, u64::MAX)), [(1100, 56)]);
    }

    #[test]
    fn adjacent_ranges_are_read_as_one() {
        let bytes: Vec<u8> = (0..=255).collect();
        let memory = two_pieces(&bytes, 100, 100);
        let mut data = [0; 4];
        assert!(memory.read(98, &mut data));
        assert_eq!(data, [98, 99, 100, 101]);
    }
}
