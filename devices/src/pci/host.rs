//! The memory controller hub of q35 as a PCI function: where the ECAM window is, and the
//! registers with which firmware shadows ROM.

use super::config::{ConfigSpace, Identity};
use super::{Decode, PciFunction};
use crate::effect::Effect;

/// Base, length and enable of the ECAM window, 8 bytes (Intel 3 Series Express Chipset, section
/// 5.1.13).
const PCIEXBAR: u16 = 0x60;
/// Programmable attribute map, 7 bytes: reads and writes of 0xc0000 to 0xfffff to RAM or not.
const PAM: u16 = 0x90;
/// System management RAM control, and its extension (sections 5.1.24 and 5.1.25). Kept without
/// effect: there is no such mode here.
const SMRAM: u16 = 0x9d;
/// SMRAM: both registers are read-only from now on, and the RAM is closed.
const SMRAM_LOCK: u8 = 1 << 4;
/// SMRAM: the RAM is open to everybody.
const SMRAM_OPEN: u8 = 1 << 6;
const MIB: u64 = 1 << 20;

/// 8086:29c0 at 00:00.0.
pub struct HostBridge {
    config: ConfigSpace,
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl HostBridge {
    /// A host bridge after power-on: no ECAM window.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(Identity {
            vendor: 0x8086,
            device: 0x29c0,
            revision: 0,
            class: 0x06_0000,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        config.init(PCIEXBAR, &0xb000_0000_u64.to_le_bytes());
        config.allow(PCIEXBAR, &[0x07, 0, 0, 0xfc, 0x0f, 0, 0, 0]);
        config.allow(PAM, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33]);
        config.init(SMRAM, &[0x02, 0x38]);
        config.allow(SMRAM, &[0x78, 0x87]);
        HostBridge { config }
    }

    /// Does what firmware does for a guest that is started without: opens a 256 MiB ECAM window
    /// at `base`, a multiple of that, and makes all shadow memory plain RAM.
    pub fn set_up(&mut self, base: u64) {
        self.enable_ecam(base);
        self.config
            .set(PAM, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33]);
    }

    /// Opens a 256 MiB ECAM window, as firmware does; `base` is a multiple of that.
    pub fn enable_ecam(&mut self, base: u64) {
        self.config.set(PCIEXBAR, &(base | 1).to_le_bytes());
    }

    /// The ECAM window, while it is open.
    pub fn ecam(&self) -> Option<(u64, u64)> {
        let low = self.config.dword(PCIEXBAR);
        let register = u64::from(low) | u64::from(self.config.dword(PCIEXBAR + 4)) << 32;
        let len = match low >> 1 & 3 {
            0 => 256 * MIB,
            1 => 128 * MIB,
            2 => 64 * MIB,
            _ => return None,
        };
        let base = register & !(len - 1);
        (low & 1 != 0 && base != 0).then_some((base, len))
    }

    /// After a write: what was locked before stays as it was until reset.
    fn keep_lock(&mut self, before: [u8; 2]) {
        let [control, _] = before;
        let now = self.config.byte(SMRAM);
        if control & SMRAM_LOCK != 0 {
            self.config.set(SMRAM, &before);
        } else if now & SMRAM_LOCK != 0 {
            self.config.set(SMRAM, &[now & !SMRAM_OPEN]);
        }
    }

    /// The attribute map's bytes.
    pub fn attributes(&self) -> [u8; 7] {
        std::array::from_fn(|index| self.config.byte(PAM.saturating_add(index as u16)))
    }
}

impl PciFunction for HostBridge {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let before = (self.ecam(), self.attributes());
        let smram = self.config.word(SMRAM).to_le_bytes();
        let changed = self.config.write(offset, data);
        self.keep_lock(smram);
        if changed.decode || before != (self.ecam(), self.attributes()) {
            Effect::Remap
        } else {
            Effect::None
        }
    }

    fn reset(&mut self) {
        self.config.reset();
    }

    fn decodes(&self) -> Vec<Decode> {
        self.ecam()
            .map(|(base, len)| Decode::Ecam { base, len })
            .into_iter()
            .collect()
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

    fn read(bridge: &mut HostBridge, offset: u16) -> u8 {
        let mut data = [0; 1];
        bridge.config_read(offset, &mut data);
        data[0]
    }

    #[test]
    fn conforms() {
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(HostBridge::new()))
        });
    }

    #[test]
    fn registers_keep_what_can_be_written() {
        let mut bridge = HostBridge::new();
        for (offset, at_reset, all_ones) in [
            (0x00, 0x86, 0x86),
            (0x01, 0x80, 0x80),
            (0x02, 0xc0, 0xc0),
            (0x03, 0x29, 0x29),
            (0x0a, 0x00, 0x00),
            (0x0b, 0x06, 0x06),
            (0x60, 0x00, 0x07),
            (0x63, 0xb0, 0xfc),
            (0x64, 0x00, 0x0f),
            (0x65, 0x00, 0x00),
            (0x90, 0x00, 0x30),
            (0x91, 0x00, 0x33),
            (0x96, 0x00, 0x33),
            (0x97, 0x00, 0x00),
            (0x9e, 0x38, 0xbf),
            (0x9d, 0x02, 0x3a),
        ] {
            assert_eq!(read(&mut bridge, offset), at_reset, "{offset:#x}");
            let _ = bridge.config_write(offset, &[0xff]);
            assert_eq!(read(&mut bridge, offset), all_ones, "{offset:#x}");
        }
        let _ = bridge.config_write(PAM, &[0xff; 7]);
        assert_eq!(
            bridge.attributes(),
            [0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33]
        );
        bridge.reset();
        assert_eq!(bridge.attributes(), [0; 7]);
    }

    #[test]
    fn locked_smram_stays_until_reset() {
        let mut bridge = HostBridge::new();
        let _ = bridge.config_write(SMRAM, &[0x4a]);
        assert_eq!(read(&mut bridge, SMRAM), 0x4a, "open");
        let _ = bridge.config_write(SMRAM, &[0x5a, 0x01]);
        assert_eq!(read(&mut bridge, SMRAM), 0x1a, "locked, and closed with it");
        let _ = bridge.config_write(SMRAM, &[0x40, 0x87]);
        assert_eq!(read(&mut bridge, SMRAM), 0x1a);
        assert_eq!(read(&mut bridge, SMRAM + 1), 0x39);
        bridge.reset();
        let _ = bridge.config_write(SMRAM, &[0x4a]);
        assert_eq!(read(&mut bridge, SMRAM), 0x4a);
    }

    #[test]
    fn the_window_follows_its_register() {
        const MIB: u64 = 1 << 20;
        let mut bridge = HostBridge::new();
        for (low, window) in [
            (0xb000_0000_u32, None),
            (0xb000_0001, Some((0xb000_0000, 256 * MIB))),
            (0xb800_0001, Some((0xb000_0000, 256 * MIB))),
            (0xb800_0003, Some((0xb800_0000, 128 * MIB))),
            (0xbc00_0005, Some((0xbc00_0000, 64 * MIB))),
            (0xb000_0007, None),
            (0x0000_0001, None),
        ] {
            let _ = bridge.config_write(PCIEXBAR, &low.to_le_bytes());
            assert_eq!(bridge.ecam(), window, "{low:#x}");
        }
        assert_eq!(
            bridge.config_write(PCIEXBAR, &[1, 0, 0, 0xb0]),
            Effect::Remap
        );
        assert_eq!(
            bridge.config_write(PCIEXBAR, &[1, 0, 0, 0xb0]),
            Effect::None
        );
        assert_eq!(bridge.config_write(PAM, &[0x30; 7]), Effect::Remap);
        assert_eq!(bridge.config_write(PAM, &[0x30; 7]), Effect::None);
        bridge.reset();
        assert_eq!(bridge.ecam(), None);
        bridge.enable_ecam(0xb000_0000);
        assert_eq!(bridge.ecam(), Some((0xb000_0000, 256 * MIB)));
    }
}
