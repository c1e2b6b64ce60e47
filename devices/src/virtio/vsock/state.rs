//! Saved state of the device: connections are not saved, so there is nothing but the fact.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::Vsock;

/// The device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockV1 {}

impl Snapshot for Vsock {
    type State = VsockV1;
    const ID: &'static str = "vhost-vsock";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        // Whether the driver was told of an earlier restore does not matter: it is told of this one.
        let Vsock {
            party: _,
            cid: _,
            features: _,
            restored: _,
            _blocker: _,
        } = self;
        VsockV1 {}
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let VsockV1 {} = state;
        self.restored.store(true, Ordering::Release);
        Ok(())
    }
}
