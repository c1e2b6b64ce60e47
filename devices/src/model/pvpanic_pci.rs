//! `pvpanic-pci`: the same as `pvpanic`, as a PCI function with one register in memory.

use std::sync::{Arc, Mutex};

use api_spec::{PvpanicPciProps, QmpError, QmpResult};

use super::pvpanic::{check_events, effect_of};
use crate::effect::Effect;
use crate::pci::{BarKind, ConfigSpace, Identity, PciFunction};

const BAR: u8 = 0;
/// The register is a byte; memory BARs begin at 16.
const BAR_SIZE: u64 = 16;

/// 1b36:0011.
pub struct PvpanicPci {
    config: ConfigSpace,
    offered: u8,
}

/// Builds the function.
///
/// # Errors
/// For events that do not exist, and what such a function does not have.
pub fn build(props: &PvpanicPciProps) -> QmpResult<Arc<Mutex<PvpanicPci>>> {
    if let Some(file) = props.romfile.as_ref().filter(|file| !file.is_empty()) {
        return Err(QmpError::generic(format!(
            "Property 'pvpanic-pci.romfile' cannot be '{file}': not supported"
        )));
    }
    check_events("pvpanic-pci", props.events)?;
    let function = PvpanicPci::new(props.events, props.multifunction);
    Ok(Arc::new(Mutex::new(function)))
}

impl PvpanicPci {
    fn new(offered: u8, multifunction: bool) -> Self {
        let mut config = ConfigSpace::endpoint(Identity {
            vendor: 0x1b36,
            device: 0x0011,
            revision: 1,
            class: 0x08_8000,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        if multifunction {
            config.multifunction();
        }
        config.add_bar(BAR, BarKind::Memory32, BAR_SIZE);
        PvpanicPci { config, offered }
    }
}

impl PciFunction for PvpanicPci {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        match self.config.write(offset, data).decode {
            true => Effect::Remap,
            false => Effect::None,
        }
    }

    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, Some(byte)) = (offset, data.first_mut()) {
            *byte = self.offered;
        }
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) -> Effect {
        match (offset, data.first()) {
            (0, Some(event)) => effect_of(*event),
            _ => Effect::None,
        }
    }

    fn reset(&mut self) {
        self.config.reset();
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(&mut self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::PowerEffect;
    use crate::testing::conformance;

    #[test]
    fn events_become_effects() {
        let mut function = PvpanicPci::new(5, false);
        let mut data = [1; 4];
        function.bar_read(BAR, 0, &mut data);
        assert_eq!(data, [5, 0, 0, 0]);
        function.bar_read(BAR, 1, &mut data);
        assert_eq!(data, [0; 4]);
        let panicked = Effect::Power(PowerEffect::Panicked);
        assert_eq!(function.bar_write(BAR, 0, &[1]), panicked);
        assert_eq!(function.bar_write(BAR, 1, &[1]), Effect::None);
    }

    #[test]
    fn conforms() {
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(PvpanicPci::new(7, false)))
        });
    }
}
