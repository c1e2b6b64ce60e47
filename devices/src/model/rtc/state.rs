//! Saved state of the clock.

use serde::{Deserialize, Serialize};
use vmstate::{Blob, Snapshot, StateError};

use super::{Checked, MEMORY, Rtc, SECOND, seconds};
use crate::model::registers::is_default;

/// Memory, and how far the clock is from the wall clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtcV1 {
    /// Selected byte of each bank.
    #[serde(default, skip_serializing_if = "is_default")]
    pub index: [u8; 2],
    /// Both banks with the registers.
    pub memory: Blob,
    /// What the clock is ahead of the wall clock: seconds and nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offset: (i64, u32),
    /// The second up to which the flags are right.
    pub checked_second: i64,
    /// The tick of the crystal up to which they are right.
    pub checked_ticks: u64,
}

impl Snapshot for Rtc {
    type State = RtcV1;
    const ID: &'static str = "mc146818rtc";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Rtc {
            clock: _,
            timer: _,
            line: _,
            index,
            memory,
            offset: _,
            checked,
            shown: _,
        } = self;
        RtcV1 {
            index: *index,
            memory: Blob(memory.to_vec()),
            offset: self.save_offset(),
            checked_second: checked.second,
            checked_ticks: checked.ticks,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let RtcV1 {
            index,
            memory,
            offset: (whole, nanoseconds),
            checked_second,
            checked_ticks,
        } = state;
        let memory: [u8; MEMORY] = memory.0.try_into().map_err(|_| StateError::Body {
            id: Self::ID.into(),
            reason: format!("memory: not {MEMORY} bytes"),
        })?;
        self.memory = memory;
        self.index = index;
        self.offset = i128::from(whole) * SECOND + i128::from(nanoseconds);
        self.checked = Checked {
            second: checked_second,
            ticks: checked_ticks,
        };
        self.shown = None;
        self.rearm();
        Ok(())
    }
}

impl Rtc {
    fn save_offset(&self) -> (i64, u32) {
        let nanoseconds = u32::try_from(self.offset.rem_euclid(SECOND)).unwrap_or(0);
        (seconds(self.offset), nanoseconds)
    }
}
