//! Saved state of a balloon.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::Device;
use super::hint::{Hinting, Phase};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A balloon. How often the guest is asked for statistics is the host's business and not saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalloonV1 {
    /// Pages that the host wants.
    #[serde(skip_serializing_if = "is_default")]
    pub target: u32,
    /// Pages that the driver gave.
    #[serde(skip_serializing_if = "is_default")]
    pub actual: u32,
    /// What the driver fills free pages with.
    #[serde(skip_serializing_if = "is_default")]
    pub poison: u32,
    /// Where hints are: 0 stopped, 1 asked for, 2 running, 3 done.
    #[serde(skip_serializing_if = "is_default")]
    pub hint_phase: u8,
    /// The number of the newest round of hints; 0 before the first.
    #[serde(skip_serializing_if = "is_default")]
    pub hint_id: u32,
}

impl Snapshot for Device {
    type State = BalloonV1;
    const ID: &'static str = "virtio-balloon";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let hinting = self.balloon.hinting();
        let fresh = hinting == Hinting::default();
        BalloonV1 {
            target: self.balloon.target.load(Ordering::Acquire),
            actual: self.balloon.actual(),
            poison: self.balloon.poison.load(Ordering::Acquire),
            hint_phase: match hinting.phase() {
                Phase::Stopped => 0,
                Phase::Requested => 1,
                Phase::Running => 2,
                Phase::Done => 3,
            },
            hint_id: if fresh { 0 } else { hinting.id() },
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let BalloonV1 {
            target,
            actual,
            poison,
            hint_phase,
            hint_id,
        } = state;
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        let phase = match hint_phase {
            0 => Phase::Stopped,
            1 => Phase::Requested,
            2 => Phase::Running,
            3 => Phase::Done,
            other => return Err(refuse(format!("hint_phase: {other}"))),
        };
        self.balloon.target.store(target, Ordering::Release);
        self.balloon.actual.store(actual, Ordering::Release);
        self.balloon.poison.store(poison, Ordering::Release);
        self.balloon.stats_kept.store(false, Ordering::Release);
        self.balloon.set_hinting(Hinting::new(phase, hint_id));
        self.balloon.restored.store(true, Ordering::Release);
        self.balloon.untold.store(false, Ordering::Release);
        Ok(())
    }
}
