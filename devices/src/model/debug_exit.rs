//! `isa-debug-exit`: a write to its ports ends the program, for test kernels.

use std::sync::{Arc, Mutex};

use api_spec::{IsaDebugExitProps, QmpError, QmpResult};

use crate::bus::{Access, BusDevice};
use crate::cx::BuildCx;
use crate::effect::{Effect, PowerEffect};
use crate::registry::{Attachable, Region};

/// Ports there are.
const PORTS: u32 = 0x1_0000;

/// The device.
#[derive(Debug, Default)]
pub struct DebugExit;

/// Builds the device and says at which ports it is.
///
/// # Errors
/// When there are no such ports.
pub fn build(props: &IsaDebugExitProps, _cx: &BuildCx) -> QmpResult<Attachable> {
    let (base, len) = (props.iobase, props.iosize);
    if len == 0 {
        let desc = "Property 'isa-debug-exit.iosize' cannot be 0";
        return Err(QmpError::generic(desc));
    }
    if base.checked_add(len).is_none_or(|end| end > PORTS) {
        return Err(QmpError::generic(format!(
            "Ports {base:#x} (length {len:#x}) of 'isa-debug-exit' are beyond the last port, 0xffff"
        )));
    }
    let region = Region {
        region: 0,
        base: base.into(),
        len: len.into(),
    };
    let device = Arc::new(Mutex::new(DebugExit));
    Ok(Attachable::isa(device, vec![region]))
}

impl BusDevice for DebugExit {
    fn read(&mut self, _access: Access, data: &mut [u8]) {
        data.fill(0);
    }

    /// The status is always odd, so that it differs from that of any other end.
    fn write(&mut self, _access: Access, data: &[u8]) -> Effect {
        let value = data.first().copied().unwrap_or(0);
        Effect::Power(PowerEffect::Exit(value.wrapping_shl(1) | 1))
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeGuest, conformance};

    #[test]
    fn the_status_is_the_value_and_a_one() {
        let at = Access {
            region: 0,
            offset: 0,
        };
        for (data, status) in [
            (&[0][..], 1),
            (&[0x10], 0x21),
            (&[0xff], 0xff),
            (&[0x80], 1),
            (&[3, 1, 0, 0], 7),
        ] {
            let effect = DebugExit.write(at, data);
            assert_eq!(effect, Effect::Power(PowerEffect::Exit(status)));
        }
    }

    #[test]
    fn conforms() {
        let ports = [Region {
            region: 0,
            base: 0x501,
            len: 2,
        }];
        conformance::bus_device(&ports, conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(DebugExit))
        });
    }

    #[test]
    fn ports_have_to_exist() {
        let guest = FakeGuest::new();
        for (iobase, iosize, fits) in [
            (0x501, 2, true),
            (0xffff, 1, true),
            (0xffff, 2, false),
            (0x1_0000, 1, false),
            (u32::MAX, u32::MAX, false),
            (0x501, 0, false),
        ] {
            let props = IsaDebugExitProps { iobase, iosize };
            let built = build(&props, &guest.cx("d"));
            assert_eq!(built.is_ok(), fits, "{iobase:#x} {iosize:#x}");
        }
    }
}
