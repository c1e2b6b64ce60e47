//! Saved state of the controller and its logical units beyond the transport's.

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::Scsi;
use super::config::Sizes;
use crate::scsi::{Place, UnitV1};

/// The controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VirtioScsiV1 {
    /// Bytes of sense data that the driver wants.
    pub sense_size: u32,
    /// Bytes of command blocks that the driver sends.
    pub cdb_size: u32,
    /// The driver does not know of all that happened on the bus.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub events_missed: bool,
    /// Logical units, in order of their places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<UnitV1>,
}

impl Default for VirtioScsiV1 {
    fn default() -> Self {
        let Sizes { sense, cdb } = Sizes::default();
        VirtioScsiV1 {
            sense_size: sense,
            cdb_size: cdb,
            events_missed: false,
            units: Vec::new(),
        }
    }
}

impl Snapshot for Scsi {
    type State = VirtioScsiV1;
    const ID: &'static str = "virtio-scsi";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Scsi {
            choice: _,
            sizes: Sizes { sense, cdb },
            shared,
        } = self;
        VirtioScsiV1 {
            sense_size: *sense,
            cdb_size: *cdb,
            events_missed: shared.has_untold(),
            units: shared.units().iter().map(|unit| unit.save()).collect(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let VirtioScsiV1 {
            sense_size,
            cdb_size,
            events_missed,
            units,
        } = state;
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        let sizes = Sizes::checked(sense_size, cdb_size)
            .ok_or_else(|| refuse(format!("sizes: {sense_size}, {cdb_size}")))?;
        let own = self.shared.units();
        let here: Vec<Place> = own.iter().map(|unit| unit.place()).collect();
        let given: Vec<Place> = units.iter().map(UnitV1::place).collect();
        if here != given {
            return Err(refuse(format!("units: {given:?}, {here:?} here")));
        }
        self.sizes = sizes;
        // What happens on the bus before the queues start is told then. A driver that begins resets
        // the device first.
        self.shared.set_live(false);
        self.shared.set_live(true);
        self.shared.set_missed(events_missed);
        for (unit, state) in own.iter().zip(units) {
            unit.restore(state).map_err(refuse)?;
        }
        Ok(())
    }
}
