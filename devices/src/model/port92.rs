//! System control port A at 0x92: a second way to the A20 gate and to a processor reset (Intel
//! ICH9, section 13.7.3).

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::registers::is_default;
use crate::bus::{Access, BusDevice};
use crate::effect::{Effect, PowerEffect};
use crate::registry::Region;

/// Resets when it goes from 0 to 1.
const RESET: u8 = 1 << 0;
/// A20 is let through. It always is; the bit is only remembered.
const A20: u8 = 1 << 1;

/// The port.
#[derive(Debug)]
pub struct Port92 {
    value: u8,
}

impl Default for Port92 {
    fn default() -> Self {
        Port92 { value: A20 }
    }
}

impl Port92 {
    /// Its port.
    pub const PORTS: &'static [Region] = &[Region {
        region: 0,
        base: 0x92,
        len: 1,
    }];

    /// With A20 let through.
    pub fn new() -> Self {
        Self::default()
    }
}

impl BusDevice for Port92 {
    fn read(&mut self, _access: Access, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(byte) = data.first_mut() {
            *byte = self.value;
        }
    }

    fn write(&mut self, _access: Access, data: &[u8]) -> Effect {
        let Some(&new) = data.first() else {
            return Effect::None;
        };
        let old = std::mem::replace(&mut self.value, new);
        if new & !old & RESET != 0 {
            return Effect::Power(PowerEffect::Reset);
        }
        Effect::None
    }

    fn reset(&mut self) {
        *self = Self::default();
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
    pub struct Port92V1 {
        /// As it reads.
        #[serde(skip_serializing_if = "is_default")]
        pub value: u8,
    }
}

impl Snapshot for Port92 {
    type State = state::Port92V1;
    const ID: &'static str = "port92";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Port92 { value } = self;
        state::Port92V1 { value: *value }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::Port92V1 { value } = state;
        self.value = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::testing::conformance;

    #[test]
    fn conforms() {
        conformance::bus_device(Port92::PORTS, conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(Port92::new()))
        });
    }

    #[test]
    fn only_an_edge_resets() {
        let mut port = Port92::new();
        let at = Access {
            region: 0,
            offset: 0,
        };
        let reset = Effect::Power(PowerEffect::Reset);
        for (value, effect) in [
            (0x00, Effect::None),
            (0x02, Effect::None),
            (0x03, reset.clone()),
            (0x01, Effect::None),
            (0x02, Effect::None),
            (0x01, reset),
        ] {
            assert_eq!(port.write(at, &[value]), effect, "{value}");
            let mut data = [0; 1];
            port.read(at, &mut data);
            assert_eq!(data, [value]);
        }
    }
}
