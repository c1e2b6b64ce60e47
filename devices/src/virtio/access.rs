//! Looks into guest memory that mostly lies in one region: then one search for it does. What lies in
//! several is left to vm-memory.

use vm_memory::bitmap::Bitmap;
use vm_memory::volatile_memory::VolatileMemory;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::ram::GuestRam;
use crate::written::Written;

/// A part of guest memory that is one piece in the host.
type Piece<'a> = VolatileSlice<'a, vm_memory::bitmap::BS<'a, Written>>;

/// The memory there, where all of it is one piece.
pub fn piece(memory: &GuestRam, at: GuestAddress, len: usize) -> Option<Piece<'_>> {
    memory.get_slice(at, len).ok()
}

/// Whether all of it is memory.
pub fn is_memory(memory: &GuestRam, at: GuestAddress, len: usize) -> bool {
    piece(memory, at, len).is_some() || memory.check_range(at, len)
}

/// Reads an object that the driver may be changing.
pub fn read_obj<T: ByteValued>(memory: &GuestRam, at: GuestAddress) -> Option<T> {
    let whole = piece(memory, at, size_of::<T>());
    match whole.as_ref().map(|piece| piece.get_ref::<T>(0)) {
        Some(Ok(object)) => Some(object.load()),
        _ => memory.read_obj(at).ok(),
    }
}

/// Writes one.
pub fn write_obj<T: ByteValued>(memory: &GuestRam, object: T, at: GuestAddress) -> Option<()> {
    let whole = piece(memory, at, size_of::<T>());
    match whole.as_ref().map(|piece| piece.get_ref::<T>(0)) {
        Some(Ok(place)) => {
            place.store(object);
            Some(())
        }
        _ => memory.write_obj(object, at).ok(),
    }
}

/// Reads bytes. `None` where not all of it is memory.
pub fn read(memory: &GuestRam, into: &mut [u8], at: GuestAddress) -> Option<()> {
    match piece(memory, at, into.len()) {
        Some(piece) => piece.read_slice(into, 0).ok(),
        None => memory.read_slice(into, at).ok(),
    }
}

/// Writes bytes. `None` where not all of it is memory.
pub fn write(memory: &GuestRam, from: &[u8], at: GuestAddress) -> Option<()> {
    match piece(memory, at, from.len()) {
        Some(piece) => piece.write_slice(from, 0).ok(),
        None => memory.write_slice(from, at).ok(),
    }
}

/// Each piece of `len` bytes from `at` on. False when some of it is no memory.
pub fn each_piece(
    memory: &GuestRam,
    at: GuestAddress,
    len: usize,
    mut each: impl FnMut(Piece<'_>),
) -> bool {
    if let Some(piece) = piece(memory, at, len) {
        each(piece);
        return true;
    }
    memory
        .get_slices(at, len)
        .all(|piece| piece.map(&mut each).is_ok())
}

/// Marks it as changed, after data landed there past vm-memory.
pub fn mark_dirty(memory: &GuestRam, at: GuestAddress, len: usize) {
    each_piece(memory, at, len, |piece| {
        piece.bitmap().mark_dirty(0, piece.len());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    /// Two regions side by side, and one apart.
    fn memory() -> GuestRam {
        let regions = [(0, 0x1000), (0x1000, 0x1000), (0x4000, 0x1000)];
        GuestMemoryMmap::from_ranges(&regions.map(|(at, len)| (GuestAddress(at), len))).unwrap()
    }

    #[test]
    fn what_lies_in_two_regions_is_found() {
        let memory = memory();
        let across = GuestAddress(0xffc);
        assert!(piece(&memory, across, 8).is_none() && is_memory(&memory, across, 8));
        assert_eq!(
            write_obj(&memory, 0x1122_3344_5566_7788_u64, across),
            Some(())
        );
        assert_eq!(
            read_obj::<u64>(&memory, across),
            Some(0x1122_3344_5566_7788)
        );
        assert_eq!(
            read_obj::<u32>(&memory, GuestAddress(0x1000)),
            Some(0x1122_3344)
        );
        let mut bytes = [0; 8];
        assert_eq!(write(&memory, b"together", across), Some(()));
        assert_eq!(read(&memory, &mut bytes, across), Some(()));
        assert_eq!(&bytes, b"together");
        let mut pieces = Vec::new();
        assert!(each_piece(&memory, across, 8, |piece| pieces.push(piece.len())));
        assert_eq!(pieces, [4, 4]);
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let memory = memory();
        for at in [0x1ffc, 0x2000, 0x3ffc, 0x4ffc, u64::MAX - 3].map(GuestAddress) {
            assert!(!is_memory(&memory, at, 8), "{at:?}");
            assert_eq!(read_obj::<u64>(&memory, at), None);
            assert_eq!(write_obj(&memory, 0u64, at), None);
            assert_eq!(read(&memory, &mut [0; 8], at), None);
            assert_eq!(write(&memory, &[0; 8], at), None);
            assert!(!each_piece(&memory, at, 8, |_| ()));
        }
    }

    #[test]
    fn what_is_written_is_marked() {
        let memory = memory();
        let dirty = |at: u64| {
            let (region, at) = memory.to_region_addr(GuestAddress(at)).unwrap();
            vm_memory::GuestMemoryRegion::bitmap(region).dirty_at(at.0 as usize)
        };
        assert_eq!(write_obj(&memory, 1u16, GuestAddress(0x10)), Some(()));
        assert!(dirty(0x10) && !dirty(0x1000) && !dirty(0x4000));
        mark_dirty(&memory, GuestAddress(0x1ff0), 0x10);
        assert_eq!(write(&memory, &[1], GuestAddress(0x4fff)), Some(()));
        assert!(dirty(0x1ff0) && dirty(0x4fff));
    }
}
