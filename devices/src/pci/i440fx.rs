//! The host bridge of a PC with PIIX3 (Intel 440FX, 82441FX PMC): the registers with which
//! firmware shadows ROM. It has no memory window to configuration space.

use super::PciFunction;
use super::config::{ConfigSpace, Identity};
use crate::effect::Effect;

/// Programmable attribute map, 7 bytes: reads and writes of 0xc0000 to 0xfffff to RAM or not
/// (section 3.2.18).
const PAM: u16 = 0x59;
/// All shadow memory is plain RAM.
const PAM_RAM: [u8; 7] = [0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33];
/// System management RAM control (section 3.2.23). Kept without effect: there is no such mode
/// here.
const SMRAM: u16 = 0x72;
/// SMRAM: the register is read-only from now on, and the RAM is closed.
const SMRAM_LOCK: u8 = 1 << 4;
/// SMRAM: the RAM is open to everybody.
const SMRAM_OPEN: u8 = 1 << 6;

/// 8086:1237 at 00:00.0.
pub struct I440fx {
    config: ConfigSpace,
}

impl Default for I440fx {
    fn default() -> Self {
        Self::new()
    }
}

impl I440fx {
    /// A host bridge after power-on.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(Identity {
            vendor: 0x8086,
            device: 0x1237,
            revision: 2,
            class: 0x06_0000,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        config.allow(PAM, &PAM_RAM);
        config.init(SMRAM, &[0x02]);
        config.allow(SMRAM, &[0x78]);
        I440fx { config }
    }

    /// Does what firmware does for a guest that is started without: makes all shadow memory plain
    /// RAM.
    pub fn set_up(&mut self) {
        self.config.set(PAM, &PAM_RAM);
    }

    /// The attribute map's bytes.
    pub fn attributes(&self) -> [u8; 7] {
        std::array::from_fn(|index| self.config.byte(PAM.saturating_add(index as u16)))
    }

    /// After a write: what was locked before stays as it was until reset.
    fn keep_lock(&mut self, before: u8) {
        let now = self.config.byte(SMRAM);
        if before & SMRAM_LOCK != 0 {
            self.config.set(SMRAM, &[before]);
        } else if now & SMRAM_LOCK != 0 {
            self.config.set(SMRAM, &[now & !SMRAM_OPEN]);
        }
    }
}

impl PciFunction for I440fx {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let before = self.attributes();
        let smram = self.config.byte(SMRAM);
        let changed = self.config.write(offset, data);
        self.keep_lock(smram);
        if changed.decode || before != self.attributes() {
            Effect::Remap
        } else {
            Effect::None
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
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::testing::conformance;

    fn read(bridge: &mut I440fx, offset: u16) -> u8 {
        let mut data = [0; 1];
        bridge.config_read(offset, &mut data);
        data[0]
    }

    #[test]
    fn conforms() {
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(I440fx::new()))
        });
    }

    #[test]
    fn registers_keep_what_can_be_written() {
        let mut bridge = I440fx::new();
        for (offset, at_reset, all_ones) in [
            (0x00, 0x86, 0x86),
            (0x01, 0x80, 0x80),
            (0x02, 0x37, 0x37),
            (0x03, 0x12, 0x12),
            (0x08, 0x02, 0x02),
            (0x0b, 0x06, 0x06),
            (0x58, 0x00, 0x00),
            (0x59, 0x00, 0x30),
            (0x5a, 0x00, 0x33),
            (0x5f, 0x00, 0x33),
            (0x60, 0x00, 0x00),
            (0x72, 0x02, 0x3a),
            (0x90, 0x00, 0x00),
        ] {
            assert_eq!(read(&mut bridge, offset), at_reset, "{offset:#x}");
            let _ = bridge.config_write(offset, &[0xff]);
            assert_eq!(read(&mut bridge, offset), all_ones, "{offset:#x}");
        }
        bridge.reset();
        assert_eq!(bridge.attributes(), [0; 7]);
        bridge.set_up();
        assert_eq!(bridge.attributes(), PAM_RAM);
    }

    #[test]
    fn shadow_memory_is_mapped_anew_when_its_attributes_change() {
        let mut bridge = I440fx::new();
        assert_eq!(bridge.config_write(PAM + 1, &[0x31]), Effect::Remap);
        assert_eq!(bridge.config_write(PAM + 1, &[0x31]), Effect::None);
        // Two of them with one access.
        assert_eq!(
            bridge.config_write(PAM - 1, &[9, 0x10, 0x33]),
            Effect::Remap
        );
        assert_eq!(bridge.attributes(), [0x10, 0x33, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn locked_smram_stays_until_reset() {
        let mut bridge = I440fx::new();
        let _ = bridge.config_write(SMRAM, &[0x4a]);
        assert_eq!(read(&mut bridge, SMRAM), 0x4a, "open");
        let _ = bridge.config_write(SMRAM, &[0x5a]);
        assert_eq!(read(&mut bridge, SMRAM), 0x1a, "locked, and closed with it");
        let _ = bridge.config_write(SMRAM, &[0x40]);
        assert_eq!(read(&mut bridge, SMRAM), 0x1a);
        bridge.reset();
        let _ = bridge.config_write(SMRAM, &[0x4a]);
        assert_eq!(read(&mut bridge, SMRAM), 0x4a);
    }
}
