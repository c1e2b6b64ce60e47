//! Descriptor chains, read once and checked.

use vm_memory::GuestAddress;

use super::access;
use crate::ram::GuestRam;

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Most buffers in one chain, direct or indirect: as many as the host takes in one vector.
pub const MAX_SEGMENTS: usize = 1024;

/// Virtio 1.2, section 2.7.5.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl From<u128> for Descriptor {
    fn from(raw: u128) -> Self {
        let raw = u128::from_le(raw);
        Descriptor {
            address: raw as u64,
            len: (raw >> 64) as u32,
            flags: (raw >> 96) as u16,
            next: (raw >> 112) as u16,
        }
    }
}

/// A buffer in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest address.
    pub address: GuestAddress,
    /// Bytes, at least one.
    pub len: u32,
}

/// Buffers one behind the other.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    list: Vec<Segment>,
    len: u64,
}

impl Segments {
    /// Bytes in all of them.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buffers.
    pub fn list(&self) -> &[Segment] {
        &self.list
    }

    fn clear(&mut self) {
        self.list.clear();
        self.len = 0;
    }

    fn push(&mut self, segment: Segment) {
        self.list.push(segment);
        self.len = self.len.saturating_add(u64::from(segment.len));
    }

    /// The parts that cover `len` bytes from `offset` on; fewer when they end before.
    pub fn range(&self, offset: u64, len: u64) -> impl Iterator<Item = Segment> + '_ {
        let end = offset.saturating_add(len);
        let mut at = 0u64;
        self.list.iter().filter_map(move |segment| {
            let start = at;
            at = at.saturating_add(u64::from(segment.len));
            let (first, last) = (start.max(offset), at.min(end));
            let bytes = last.checked_sub(first).filter(|bytes| *bytes > 0)?;
            Some(Segment {
                address: GuestAddress(segment.address.0.checked_add(first - start)?),
                len: u32::try_from(bytes).ok()?,
            })
        })
    }

    /// Copies out of guest memory from `offset` on; returns how many bytes there were.
    pub fn read(&self, memory: &GuestRam, offset: u64, into: &mut [u8]) -> usize {
        let mut done = 0usize;
        for part in self.range(offset, into.len() as u64) {
            let end = done.saturating_add(part.len as usize);
            let Some(to) = into.get_mut(done..end) else {
                break;
            };
            if access::read(memory, to, part.address).is_none() {
                break;
            }
            done = end;
        }
        done
    }

    /// Copies into guest memory from `offset` on; returns how many bytes fitted.
    pub fn write(&self, memory: &GuestRam, offset: u64, from: &[u8]) -> usize {
        let mut done = 0usize;
        for part in self.range(offset, from.len() as u64) {
            let end = done.saturating_add(part.len as usize);
            let Some(bytes) = from.get(done..end) else {
                break;
            };
            if access::write(memory, bytes, part.address).is_none() {
                break;
            }
            done = end;
        }
        done
    }

    /// Marks `len` bytes from `offset` on as changed, after data landed there past vm-memory.
    pub fn mark_dirty(&self, memory: &GuestRam, offset: u64, len: u64) {
        for part in self.range(offset, len) {
            access::mark_dirty(memory, part.address, part.len as usize);
        }
    }

    /// Host addresses of `len` bytes from `offset` on, appended to `out`. They stay valid while
    /// `memory` lives. False when a part is outside memory, which `fill` has ruled out.
    pub fn host(
        &self,
        memory: &GuestRam,
        offset: u64,
        len: u64,
        mut out: impl FnMut(*mut u8, usize),
    ) -> bool {
        self.range(offset, len).all(|part| {
            access::each_piece(memory, part.address, part.len as usize, |piece| {
                out(piece.ptr_guard_mut().as_ptr(), piece.len());
            })
        })
    }
}

/// One request of the driver. Meant to be used again and again: its lists keep their room.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    head: u16,
    /// It was taken before, and did not come from the ring this time.
    pub(super) again: bool,
    /// What the driver says.
    pub readable: Segments,
    /// Where the answer goes.
    pub writable: Segments,
}

impl Chain {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the used ring calls it.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Reads the chain that begins at `head` of the table with `size` descriptors.
    ///
    /// # Errors
    /// With what the driver did wrong.
    pub(super) fn fill(
        &mut self,
        memory: &GuestRam,
        table: GuestAddress,
        size: u16,
        head: u16,
    ) -> Result<(), &'static str> {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        let mut table = Table {
            memory,
            base: table,
            entries: u32::from(size),
            indirect: false,
        };
        let mut index = head;
        let mut left = table.entries;
        loop {
            left = left.checked_sub(1).ok_or("a descriptor chain loops")?;
            let descriptor = table.get(index)?;
            let flags = descriptor.flags;
            if flags & INDIRECT != 0 {
                table = table.enter(descriptor)?;
                (index, left) = (0, table.entries);
                continue;
            }
            self.add(memory, descriptor)?;
            if flags & NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
    }

    fn add(&mut self, memory: &GuestRam, descriptor: Descriptor) -> Result<(), &'static str> {
        let segment = Segment {
            address: GuestAddress(descriptor.address),
            len: descriptor.len,
        };
        if segment.len == 0 {
            return Ok(());
        }
        if segment
            .address
            .0
            .checked_add(u64::from(segment.len))
            .is_none()
            || !access::is_memory(memory, segment.address, segment.len as usize)
        {
            return Err("a buffer is outside memory");
        }
        if descriptor.flags & WRITE != 0 {
            self.writable.push(segment);
        } else if self.writable.is_empty() {
            self.readable.push(segment);
        } else {
            return Err("a readable buffer follows a writable one");
        }
        let total = self.readable.len.saturating_add(self.writable.len);
        if total > u64::from(u32::MAX) {
            return Err("a descriptor chain is longer than 4 GiB");
        }
        if self
            .readable
            .list
            .len()
            .saturating_add(self.writable.list.len())
            > MAX_SEGMENTS
        {
            return Err("a descriptor chain has too many buffers");
        }
        Ok(())
    }
}

/// A table of descriptors in guest memory.
struct Table<'a> {
    memory: &'a GuestRam,
    base: GuestAddress,
    entries: u32,
    indirect: bool,
}

impl<'a> Table<'a> {
    fn get(&self, index: u16) -> Result<Descriptor, &'static str> {
        if u32::from(index) >= self.entries {
            return Err("a descriptor is outside its table");
        }
        let offset = u64::from(index) * DESCRIPTOR;
        let at = self.base.0.checked_add(offset).map(GuestAddress);
        let at = at.ok_or("a descriptor table is outside memory")?;
        access::read_obj::<u128>(self.memory, at)
            .map(Descriptor::from)
            .ok_or("a descriptor table is outside memory")
    }

    /// Goes on in the table that `descriptor` points to (Virtio 1.2, section 2.7.5.3).
    fn enter(self, descriptor: Descriptor) -> Result<Table<'a>, &'static str> {
        let len = descriptor.len;
        if self.indirect || descriptor.flags & NEXT != 0 {
            return Err("an indirect descriptor is inside a table or in a chain");
        }
        if len == 0 || !u64::from(len).is_multiple_of(DESCRIPTOR) {
            return Err("an indirect table has a wrong length");
        }
        Ok(Table {
            memory: self.memory,
            base: GuestAddress(descriptor.address),
            entries: (len / DESCRIPTOR as u32).min(MAX_SEGMENTS as u32 + 1),
            indirect: true,
        })
    }
}
