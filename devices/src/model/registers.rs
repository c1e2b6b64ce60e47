//! Registers of up to eight bytes, and accesses of any width that touch them.

/// What an access writes to a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// The bits, in their places; zeros where nothing is written.
    pub value: u64,
    /// Ones where something is written.
    pub mask: u64,
}

impl Written {
    /// The register's new value when only `writable` bits can be changed.
    pub const fn over(self, old: u64, writable: u64) -> u64 {
        let mask = self.mask & writable;
        (old & !mask) | (self.value & mask)
    }
}

/// What an access at `offset` writes to the register of `len` bytes (8 at most) at `at`; `None`
/// when it does not touch it.
pub(super) fn written(at: u64, len: u64, offset: u64, data: &[u8]) -> Option<Written> {
    let mut written = Written { value: 0, mask: 0 };
    for (index, byte) in (0u64..).zip(data) {
        let lane = offset.wrapping_add(index).wrapping_sub(at);
        if lane < len.min(8) {
            let shift = 8 * lane as u32;
            written.value |= u64::from(*byte) << shift;
            written.mask |= 0xff << shift;
        }
    }
    (written.mask != 0).then_some(written)
}

/// Puts the bytes of the register at `at` into what an access at `offset` reads.
pub(crate) fn show(at: u64, register: &[u8], offset: u64, data: &mut [u8]) {
    for (index, byte) in (0u64..).zip(data) {
        let lane = offset.wrapping_add(index).wrapping_sub(at);
        let lane = usize::try_from(lane).ok();
        if let Some(value) = lane.and_then(|lane| register.get(lane)) {
            *byte = *value;
        }
    }
}

/// For fields of saved state.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_meet_registers() {
        for (at, len, offset, data, expected) in [
            (4, 2, 4, &[1, 2][..], Some((0x0201, 0xffff))),
            (4, 2, 5, &[1, 2][..], Some((0x0100, 0xff00))),
            (4, 2, 2, &[1, 2, 3, 4][..], Some((0x0403, 0xffff))),
            (4, 2, 6, &[1, 2][..], None),
            (4, 2, 0, &[1, 2][..], None),
            (0, 8, 7, &[9][..], Some((9 << 56, 0xff << 56))),
            (0, 4, u64::MAX, &[1, 2][..], Some((2, 0xff))),
        ] {
            let written = written(at, len, offset, data);
            assert_eq!(written.map(|w| (w.value, w.mask)), expected);
        }
        let written = written(0, 2, 1, &[0xf0]).unwrap();
        assert_eq!(written.over(0x1234, 0x3fff), 0x3034);
        let mut data = [0xff; 4];
        show(4, &[1, 2], 3, &mut data);
        assert_eq!(data, [0xff, 1, 2, 0xff]);
    }
}
