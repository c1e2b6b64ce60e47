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
/// System management RAM control, 2 bytes.
const SMRAM: u16 = 0x9d;
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
        config.init(SMRAM, &[0x02]);
        config.allow(SMRAM, &[0x78, 0xff]);
        HostBridge { config }
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
        let before = self.ecam();
        let changed = self.config.write(offset, data);
        if changed.decode || before != self.ecam() {
            Effect::Remap
        } else {
            Effect::None
        }
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn bar_read(&mut self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) -> Effect {
        Effect::None
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
