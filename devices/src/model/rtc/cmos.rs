//! What the clock's memory says about the machine.

/// What firmware would write into the memory about the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CmosMemory {
    /// Bytes of RAM from address 0 on.
    pub below_4g: u64,
    /// Bytes of RAM from 4 GiB on.
    pub above_4g: u64,
    /// Processors present.
    pub cpus: u32,
}

impl CmosMemory {
    /// Places and bytes, as PC firmware has them since the AT.
    pub(super) fn bytes(self) -> Vec<(u8, u8)> {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        let word = |value: u64| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        let [base0, base1] = word((self.below_4g / KIB).min(640));
        let [extended0, extended1] = word(self.below_4g.saturating_sub(MIB) / KIB);
        let [high0, high1] = word(self.below_4g.saturating_sub(16 * MIB) / (64 * KIB));
        let [above0, above1, above2, ..] = (self.above_4g / (64 * KIB)).to_le_bytes();
        let cpus = u8::try_from(self.cpus.saturating_sub(1)).unwrap_or(u8::MAX);
        vec![
            // A coprocessor is there.
            (0x14, 0x02),
            (0x15, base0),
            (0x16, base1),
            (0x17, extended0),
            (0x18, extended1),
            (0x30, extended0),
            (0x31, extended1),
            (0x34, high0),
            (0x35, high1),
            (0x5b, above0),
            (0x5c, above1),
            (0x5d, above2),
            (0x5f, cpus),
        ]
    }
}
