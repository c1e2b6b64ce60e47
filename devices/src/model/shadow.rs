//! Shadow memory: RAM between 768 KiB and 1 MiB, where ROMs are on a PC. The host bridge's attribute
//! map says for each segment whether reads and writes of the processor reach it (Intel 3 Series
//! Express Chipset, section 5.1.19). What the accelerator does not map ends here.

use crate::bus::{Access, BusDevice};
use crate::effect::Effect;
use crate::ram::RamHandle;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

/// First address.
pub const BASE: u64 = 0xc_0000;
/// Bytes.
pub const LEN: u64 = 0x4_0000;
/// Bytes of a segment; the last four have one setting.
const SEGMENT: u64 = 0x4000;
/// Segments.
const COUNT: usize = 16;

/// What reaches the RAM of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// Reads do; others give ones.
    pub read: bool,
    /// Writes do; others are lost.
    pub write: bool,
}

/// The settings of all segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modes([Mode; COUNT]);

/// Neighbouring segments with the same setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
    /// The setting.
    pub mode: Mode,
}

impl Modes {
    /// All of it plain RAM.
    pub const RAM: Modes = Modes(
        [Mode {
            read: true,
            write: true,
        }; COUNT],
    );

    /// From the host bridge's attribute map, PAM0 to PAM6.
    pub fn from_attributes(map: [u8; 7]) -> Self {
        let mode = |bits: u8| Mode {
            read: bits & 1 != 0,
            write: bits & 2 != 0,
        };
        let [top, rest @ ..] = map;
        let mut modes = [mode(top >> 4); COUNT];
        let halves = rest.into_iter().flat_map(|byte| [byte & 0xf, byte >> 4]);
        for (place, bits) in modes.iter_mut().zip(halves) {
            *place = mode(bits);
        }
        Modes(modes)
    }

    /// Neighbours with the same setting, put together.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (index, mode) in (0u64..).zip(self.0) {
            match runs.last_mut().filter(|last| last.mode == mode) {
                Some(last) => last.len = last.len.saturating_add(SEGMENT),
                None => runs.push(Run {
                    base: BASE.saturating_add(index.saturating_mul(SEGMENT)),
                    len: SEGMENT,
                    mode,
                }),
            }
        }
        runs
    }

    fn at(&self, offset: u64) -> Mode {
        let index = usize::try_from(offset / SEGMENT).unwrap_or(COUNT);
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// Answers where the accelerator maps nothing.
pub struct ShadowRam {
    ram: RamHandle,
    modes: Modes,
}

impl ShadowRam {
    /// With nothing let through.
    pub fn new(ram: RamHandle) -> Self {
        ShadowRam {
            ram,
            modes: Modes::default(),
        }
    }

    /// Follows the host bridge. Whether anything changed.
    pub fn set_modes(&mut self, modes: Modes) -> bool {
        std::mem::replace(&mut self.modes, modes) != modes
    }
}

impl BusDevice for ShadowRam {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        data.fill(0xff);
        if self.modes.at(access.offset).read {
            let address = GuestAddress(BASE.saturating_add(access.offset));
            // Fails only where RAM ends below: the ones stay.
            let _ = self.ram.memory().read_slice(data, address);
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        if self.modes.at(access.offset).write {
            let address = GuestAddress(BASE.saturating_add(access.offset));
            let _ = self.ram.memory().write_slice(data, address);
        }
        Effect::None
    }

    /// The host bridge's reset closes it: [`ShadowRam::set_modes`] follows.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeGuest;

    const READ: Mode = Mode {
        read: true,
        write: false,
    };

    #[test]
    fn the_attribute_map_names_each_segment() {
        let closed = Modes::from_attributes([0; 7]);
        assert_eq!(closed.runs().len(), 1);
        assert_eq!(
            Modes::from_attributes([0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33]),
            Modes::RAM
        );
        let runs = Modes::from_attributes([0x10, 0x31, 0, 0, 0, 0, 0x10]).runs();
        let seen: Vec<_> = runs
            .iter()
            .map(|run| (run.base, run.len, run.mode))
            .collect();
        let closed = Mode::default();
        let expected = [
            (0xc_0000, 0x4000, READ),
            (
                0xc_4000,
                0x4000,
                Mode {
                    read: true,
                    write: true,
                },
            ),
            (0xc_8000, 0x2_4000, closed),
            (0xe_c000, 0x1_4000, READ),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn reads_and_writes_reach_ram_as_the_map_says() {
        let guest = FakeGuest::new();
        guest.write(BASE, &[7]);
        let mut shadow = ShadowRam::new(guest.ram.clone());
        let at = |offset| Access { region: 0, offset };
        let mut byte = [0];
        shadow.read(at(0), &mut byte);
        assert_eq!(byte, [0xff]);
        assert!(shadow.set_modes(Modes::from_attributes([0, 1, 0, 0, 0, 0, 0])));
        let _ = shadow.write(at(0), &[9]);
        shadow.read(at(0), &mut byte);
        assert_eq!(byte, [7]);
        assert!(shadow.set_modes(Modes::from_attributes([0, 2, 0, 0, 0, 0, 0])));
        let _ = shadow.write(at(0), &[9]);
        shadow.read(at(0), &mut byte);
        assert_eq!((byte, guest.read(BASE, 1)), ([0xff], vec![9]));
        // Beyond the window nothing happens.
        shadow.read(at(LEN), &mut byte);
        let _ = shadow.write(at(u64::MAX), &[1]);
    }
}
