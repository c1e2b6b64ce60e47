//! The NMI status and control port 0x61, also called port B (Intel ICH9, section 13.7.1). KVM
//! answers it itself, together with its timer; this one answers where there is no KVM.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::registers::is_default;
use crate::bus::{Access, BusDevice};
use crate::clock::Clock;
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::registry::Region;

/// What can be written: the speaker timer's gate, the speaker, and the NMI masks.
const WRITABLE: u8 = 0x0f;
/// Changes with each refresh of RAM.
const REFRESH: u8 = 1 << 4;
/// Time between two refreshes.
const REFRESH_NS: u64 = 15_085;

/// The port.
pub struct Port61 {
    clock: Arc<dyn Clock>,
    control: u8,
}

impl Port61 {
    /// Its port.
    pub const PORTS: &'static [Region] = &[Region {
        region: 0,
        base: 0x61,
        len: 1,
    }];

    /// Speaker off.
    pub fn new(cx: &BuildCx) -> Self {
        Port61 {
            clock: cx.clock.clone(),
            control: 0,
        }
    }
}

impl BusDevice for Port61 {
    fn read(&mut self, _access: Access, data: &mut [u8]) {
        data.fill(0xff);
        let odd = self.clock.now_ns() / REFRESH_NS % 2 == 1;
        if let Some(byte) = data.first_mut() {
            *byte = self.control | if odd { REFRESH } else { 0 };
        }
    }

    fn write(&mut self, _access: Access, data: &[u8]) -> Effect {
        if let Some(byte) = data.first() {
            self.control = byte & WRITABLE;
        }
        Effect::None
    }

    fn reset(&mut self) {
        self.control = 0;
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// The register.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Port61V1 {
        /// The bits that were written.
        #[serde(skip_serializing_if = "is_default")]
        pub control: u8,
    }
}

impl Snapshot for Port61 {
    type State = state::Port61V1;
    const ID: &'static str = "port61";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Port61 { clock: _, control } = self;
        state::Port61V1 { control: *control }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::Port61V1 { control } = state;
        self.control = control & WRITABLE;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::{FakeGuest, conformance};

    #[test]
    fn conforms() {
        let guest = FakeGuest::new();
        conformance::bus_device(Port61::PORTS, conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(Port61::new(&guest.cx("port61"))))
        });
    }

    #[test]
    fn refresh_goes_on_and_off() {
        let guest = FakeGuest::new();
        let mut port = Port61::new(&guest.cx("port61"));
        let at = Access {
            region: 0,
            offset: 0,
        };
        assert_eq!(port.write(at, &[0xff]), Effect::None);
        let mut data = [0; 1];
        for expected in [0x0f, 0x1f, 0x0f] {
            port.read(at, &mut data);
            assert_eq!(data, [expected]);
            guest.timers.advance(REFRESH_NS);
        }
    }
}
