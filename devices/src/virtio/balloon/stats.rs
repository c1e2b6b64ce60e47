//! What the guest tells of its memory (Virtio 1.2, section 5.5.6.3).

/// Bytes of one statistic: a tag and a value.
pub const ENTRY: usize = 10;

/// Their names, by tag.
pub const NAMES: [&str; 16] = [
    "stat-swap-in",
    "stat-swap-out",
    "stat-major-faults",
    "stat-minor-faults",
    "stat-free-memory",
    "stat-total-memory",
    "stat-available-memory",
    "stat-disk-caches",
    "stat-htlb-pgalloc",
    "stat-htlb-pgfail",
    "stat-oom-kills",
    "stat-alloc-stalls",
    "stat-async-scans",
    "stat-direct-scans",
    "stat-async-reclaims",
    "stat-direct-reclaims",
];

/// The newest statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestStats {
    /// Values by tag; all ones where the guest did not say.
    pub values: [u64; NAMES.len()],
    /// Seconds since 1970 at which they came; 0 for never.
    pub last_update: i64,
}

impl Default for GuestStats {
    fn default() -> Self {
        GuestStats {
            values: [u64::MAX; NAMES.len()],
            last_update: 0,
        }
    }
}

impl GuestStats {
    /// Reads what the driver wrote; tags that are not known, and half an entry at the end, are
    /// passed over.
    pub fn parse(bytes: &[u8], now: i64) -> Self {
        let mut stats = GuestStats {
            last_update: now,
            ..GuestStats::default()
        };
        for entry in bytes.chunks_exact(ENTRY) {
            let (Some(tag), Some(value)) = (entry.first_chunk::<2>(), entry.last_chunk::<8>())
            else {
                continue;
            };
            let tag = usize::from(u16::from_le_bytes(*tag));
            if let Some(place) = stats.values.get_mut(tag) {
                *place = u64::from_le_bytes(*value);
            }
        }
        stats
    }

    /// Names and values.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.into_iter().zip(self.values.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tags_are_taken() {
        let mut bytes = Vec::new();
        for (tag, value) in [(4u16, 1000u64), (0xffff, 7), (15, 5), (16, 9), (4, 2000)] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0, 0, 1]);
        let stats = GuestStats::parse(&bytes, 12);
        assert_eq!(stats.last_update, 12);
        for (tag, value) in stats.values.into_iter().enumerate() {
            let expected = match tag {
                4 => 2000,
                15 => 5,
                _ => u64::MAX,
            };
            assert_eq!(value, expected, "{tag}");
        }
        assert_eq!(stats.named().nth(4), Some(("stat-free-memory", 2000)));
        assert_eq!(GuestStats::parse(&[], 0), GuestStats::default());
    }
}
