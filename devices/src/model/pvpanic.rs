//! `pvpanic`: the guest tells of its panic (the "PVPANIC DEVICE" interface). One port: it reads
//! as the events that are offered, and takes those that happened.

use std::sync::{Arc, Mutex};

use api_spec::{PvpanicProps, QmpError, QmpResult};

use crate::bus::{Access, BusDevice};
use crate::cx::BuildCx;
use crate::effect::{Effect, PowerEffect};
use crate::guest_errors;
use crate::registry::{Attachable, Region};

/// The guest panicked.
const PANICKED: u8 = 1 << 0;
/// The guest panicked, and its crash kernel takes over.
const CRASH_LOADED: u8 = 1 << 1;
/// The guest switches itself off.
const SHUTDOWN: u8 = 1 << 2;
const KNOWN: u8 = PANICKED | CRASH_LOADED | SHUTDOWN;

/// The device.
#[derive(Debug)]
pub struct Pvpanic {
    offered: u8,
}

/// Builds the device and says at which port it is.
///
/// # Errors
/// For events that do not exist.
pub fn build(props: &PvpanicProps, _cx: &BuildCx) -> QmpResult<Attachable> {
    let device = Pvpanic::new(props.events)?;
    let region = Region {
        region: 0,
        base: props.ioport.into(),
        len: 1,
    };
    Ok(Attachable::isa(Arc::new(Mutex::new(device)), vec![region]))
}

impl Pvpanic {
    fn new(events: u8) -> QmpResult<Self> {
        check_events("pvpanic", events)?;
        Ok(Pvpanic { offered: events })
    }
}

/// Refuses events that do not exist, of the driver `driver`.
pub(super) fn check_events(driver: &str, events: u8) -> QmpResult<()> {
    if events & !KNOWN != 0 {
        return Err(QmpError::generic(format!(
            "Property '{driver}.events' cannot be {events}: supported are the bits {KNOWN:#x}"
        )));
    }
    Ok(())
}

/// What a written event asks for; of several the worst one counts.
pub(super) fn effect_of(event: u8) -> Effect {
    trace::point!(PVPANIC_EVENT, event = trace::Hex(event.into()));
    let known = [
        (PANICKED, PowerEffect::Panicked),
        (CRASH_LOADED, PowerEffect::CrashLoaded),
        (SHUTDOWN, PowerEffect::PvShutdown),
    ];
    let found = known.into_iter().find(|(bit, _)| event & bit != 0);
    match found {
        Some((_, effect)) => Effect::Power(effect),
        None => {
            let what = format_args!("unknown event {event:#x}");
            guest_errors::count("pvpanic", guest_errors::Kind::BadRegister, what);
            Effect::None
        }
    }
}

impl BusDevice for Pvpanic {
    fn read(&mut self, _access: Access, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(byte) = data.first_mut() {
            *byte = self.offered;
        }
    }

    fn write(&mut self, _access: Access, data: &[u8]) -> Effect {
        effect_of(data.first().copied().unwrap_or(0))
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeGuest, conformance};

    #[test]
    fn events_become_effects() {
        let guest = FakeGuest::new();
        let props = PvpanicProps {
            ioport: 0x505,
            events: 3,
        };
        let Attachable::Isa { device, ports } = build(&props, &guest.cx("p")).unwrap() else {
            panic!("not an ISA device");
        };
        assert_eq!(
            ports,
            [Region {
                region: 0,
                base: 0x505,
                len: 1
            }]
        );
        let mut device = device.lock().unwrap();
        let at = Access {
            region: 0,
            offset: 0,
        };
        let mut data = [0; 1];
        device.read(at, &mut data);
        assert_eq!(data, [3]);
        for (byte, effect) in [
            (0, Effect::None),
            (1, Effect::Power(PowerEffect::Panicked)),
            (2, Effect::Power(PowerEffect::CrashLoaded)),
            (3, Effect::Power(PowerEffect::Panicked)),
            (4, Effect::Power(PowerEffect::PvShutdown)),
            (6, Effect::Power(PowerEffect::CrashLoaded)),
            (0xf8, Effect::None),
        ] {
            assert_eq!(device.write(at, &[byte]), effect);
        }
    }

    #[test]
    fn conforms() {
        let ports = [Region {
            region: 0,
            base: 0x505,
            len: 1,
        }];
        conformance::bus_device(&ports, conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(Pvpanic::new(1).unwrap()))
        });
    }

    #[test]
    fn unknown_events_are_refused() {
        for events in [0, 1, 2, 3, 4, 7] {
            assert!(Pvpanic::new(events).is_ok());
        }
        let error = Pvpanic::new(8).unwrap_err();
        assert_eq!(
            error.desc,
            "Property 'pvpanic.events' cannot be 8: supported are the bits 0x7"
        );
    }
}
