//! The capability by which a bridge asks firmware to keep room behind it for what may be plugged
//! in later (vendor-specific capability, type "resource reserve").

use super::config::ConfigSpace;
use super::regs::{CAPABILITIES, capability};

/// Its type among the vendor-specific ones.
const RESOURCE_RESERVE: u8 = 1;
/// Bytes with the header.
const LEN: u8 = 32;

/// What to keep; `None` leaves it to firmware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Bus numbers.
    pub buses: Option<u32>,
    /// Bytes of ports.
    pub io: Option<u64>,
    /// Bytes of memory below 4 GiB.
    pub memory: Option<u32>,
    /// Bytes of prefetchable memory anywhere.
    pub prefetchable: Option<u64>,
}

impl Reserve {
    fn body(self) -> Vec<u8> {
        let mut body = vec![LEN, RESOURCE_RESERVE];
        body.extend(self.buses.unwrap_or(u32::MAX).to_le_bytes());
        body.extend(self.io.unwrap_or(u64::MAX).to_le_bytes());
        body.extend(self.memory.unwrap_or(u32::MAX).to_le_bytes());
        // Prefetchable memory below 4 GiB: not asked for.
        body.extend(u32::MAX.to_le_bytes());
        body.extend(self.prefetchable.unwrap_or(u64::MAX).to_le_bytes());
        body
    }
}

impl ConfigSpace {
    /// Adds the capability, unless there is nothing to ask for; false when there is no room.
    pub fn add_reserve(&mut self, reserve: Reserve) -> bool {
        reserve == Reserve::default()
            || self
                .add_capability(capability::VENDOR, &reserve.body(), &[])
                .is_some()
    }

    /// What a bridge asks for, as firmware finds it.
    pub fn reserve(&self) -> Reserve {
        let mut at = u16::from(self.byte(CAPABILITIES));
        // There is room for so many capabilities at most.
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let field = |offset: u16| at.saturating_add(offset);
            let here = [0, 2, 3].map(|offset| self.byte(field(offset)));
            if here == [capability::VENDOR, LEN, RESOURCE_RESERVE] {
                let long = |offset: u16| {
                    let low = u64::from(self.dword(field(offset)));
                    low | u64::from(self.dword(field(offset.saturating_add(4)))) << 32
                };
                let short = |offset: u16| self.dword(field(offset));
                return Reserve {
                    buses: Some(short(4)).filter(|buses| *buses != u32::MAX),
                    io: Some(long(8)).filter(|bytes| *bytes != u64::MAX),
                    memory: Some(short(16)).filter(|bytes| *bytes != u32::MAX),
                    prefetchable: Some(long(24)).filter(|bytes| *bytes != u64::MAX),
                };
            }
            at = u16::from(self.byte(field(1)));
        }
        Reserve::default()
    }
}
