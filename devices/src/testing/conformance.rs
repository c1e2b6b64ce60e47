//! What every device has to stand, whatever it is. Each check takes a closure that builds the
//! device anew, always in the same way, so that a whole registry can be driven through it:
//!
//! - accesses of all widths, anywhere, with any values, never panic;
//! - save, restore into a new device, save: both states are equal, and so is what can be read;
//! - a reset after any of that leaves a device like a new one;
//! - a damaged state is refused or taken, but never panics.
//!
//! The clock must stand still while a check runs: devices are compared by what they read as.

use vmstate::{Section, StateAccess};

use crate::bus::{Access, SharedDevice, lock};
use crate::effect::Effect;
use crate::pci::{Decode, SharedFunction};
use crate::registry::Region;

/// Runs with different accesses.
const ROUNDS: u64 = 24;
/// Accesses in a run.
const ACCESSES: usize = 600;
/// Bytes of a region that are compared one by one; of larger ones, only the beginning.
const COMPARED: u64 = 4096;

/// What a reset leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterReset {
    /// A device like a new one.
    Fresh,
    /// What a battery keeps: only a new device stays as it is, and two resets are as good as one.
    Kept,
}

/// Checks a device with registers at `regions`.
///
/// # Panics
/// When the device fails.
pub fn bus_device(regions: &[Region], after: AfterReset, make: impl Fn() -> SharedDevice) {
    check(after, || Bus {
        device: make(),
        regions: regions.to_vec(),
    });
}

/// Checks a PCI function: configuration space, BARs, and the windows it decodes.
///
/// # Panics
/// When the function fails.
pub fn pci_function(after: AfterReset, make: impl Fn() -> SharedFunction) {
    check(after, || Pci(make()));
}

/// What the checks do to a device.
trait Subject {
    /// Where it can be accessed now: number and bytes.
    fn areas(&self) -> Vec<(u16, u64)>;
    fn read(&self, area: u16, offset: u64, data: &mut [u8]);
    fn write(&self, area: u16, offset: u64, data: &[u8]);
    fn save(&self) -> Option<Section>;
    fn restore(&self, section: &Section) -> Result<(), String>;
    fn reset(&self);
    /// Takes workers back: before the state is looked at.
    fn quiesce(&self) {}
}

fn check<S: Subject>(after: AfterReset, make: impl Fn() -> S) {
    let fresh = make();
    fresh.reset();
    assert_same(&fresh, &make(), "reset of a new device");
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let device = make();
        poke(&device, &mut dice);
        if let Some(section) = device.save() {
            let other = make();
            assert_eq!(other.restore(&section), Ok(()), "its own state");
            assert_eq!(other.save(), Some(section.clone()), "save after restore");
            damage(&make, &section, &mut dice);
            assert_same(&device, &other, "restored device");
        }
        poke(&device, &mut dice);
        device.reset();
        match after {
            AfterReset::Fresh => assert_same(&device, &make(), "reset"),
            AfterReset::Kept => {
                let once = device.save();
                device.reset();
                assert_eq!(device.save(), once, "second reset");
            }
        }
    }
}

/// Accesses a device at random and leaves it quiesced.
fn poke(device: &impl Subject, dice: &mut Dice) {
    for _ in 0..ACCESSES {
        let areas = device.areas();
        let Some(&(area, len)) = areas.get(dice.below(areas.len() as u64) as usize) else {
            return;
        };
        let width = (1u64 << dice.below(4)).min(len);
        // Most registers are at the beginning of their region.
        let reach = if dice.below(2) == 0 {
            len.min(256)
        } else {
            len
        };
        let offset = dice.below(reach).min(len - width);
        let mut data = [0; 8];
        let data = &mut data[..width as usize];
        if dice.below(3) == 0 {
            device.read(area, offset, data);
            continue;
        }
        let kind = dice.below(6);
        for byte in data.iter_mut() {
            *byte = match kind {
                0 => 0,
                1 => 0xff,
                2 => 1 << dice.below(8),
                _ => dice.below(256) as u8,
            };
        }
        device.write(area, offset, data);
    }
    device.quiesce();
}

/// Changes, cuts and extends the state; a device that takes it goes on.
fn damage<S: Subject>(make: &impl Fn() -> S, section: &Section, dice: &mut Dice) {
    for _ in 0..8 {
        let mut section = section.clone();
        let at = dice.below(section.body.len().max(1) as u64) as usize;
        match dice.below(4) {
            0 => section.body.truncate(at),
            1 => section.body.push(dice.below(256) as u8),
            _ => {
                if let Some(byte) = section.body.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
        let device = make();
        if device.restore(&section).is_ok() {
            poke(&device, dice);
            device.reset();
        }
    }
    let device = make();
    let mut wrong = section.clone();
    wrong.version += 1;
    assert!(device.restore(&wrong).is_err(), "a version from the future");
    wrong.version -= 1;
    wrong.id.push('x');
    assert!(device.restore(&wrong).is_err(), "another device's state");
}

/// Two devices are in the same state and read the same. Reading may change both, in the same way.
fn assert_same(one: &impl Subject, other: &impl Subject, what: &str) {
    assert_eq!(one.save(), other.save(), "{what}: saved state");
    assert_eq!(one.areas(), other.areas(), "{what}: regions");
    for (area, len) in one.areas() {
        for offset in 0..len.min(COMPARED) {
            let (mut a, mut b) = ([0], [0]);
            one.read(area, offset, &mut a);
            other.read(area, offset, &mut b);
            assert_eq!(a, b, "{what}: region {area}, offset {offset:#x}");
        }
    }
    assert_eq!(one.save(), other.save(), "{what}: saved state after reads");
}

fn restore_into(state: Option<&mut dyn StateAccess>, section: &Section) -> Result<(), String> {
    let state = state.ok_or("no state is expected")?;
    let restored = state.restore_section(section);
    restored.map_err(|error| error.to_string())
}

struct Bus {
    device: SharedDevice,
    regions: Vec<Region>,
}

impl Subject for Bus {
    fn areas(&self) -> Vec<(u16, u64)> {
        let areas = self.regions.iter();
        areas.map(|region| (region.region, region.len)).collect()
    }

    fn read(&self, region: u16, offset: u64, data: &mut [u8]) {
        lock(&self.device).read(Access { region, offset }, data);
    }

    fn write(&self, region: u16, offset: u64, data: &[u8]) {
        let _ = lock(&self.device).write(Access { region, offset }, data);
    }

    fn save(&self) -> Option<Section> {
        let mut device = lock(&self.device);
        device.state().map(|state| {
            let section = state.save_section("test");
            section.expect("state can be encoded")
        })
    }

    fn restore(&self, section: &Section) -> Result<(), String> {
        let mut device = lock(&self.device);
        restore_into(device.state(), section)?;
        device.settle();
        Ok(())
    }

    fn reset(&self) {
        lock(&self.device).reset();
    }
}

/// The number of configuration space; BARs and windows have their own.
const CONFIG: u16 = u16::MAX;

struct Pci(SharedFunction);

impl Pci {
    /// Carries out what concerns the function itself, as control does.
    fn carry_out(&self, effect: Effect) {
        let mut function = lock(&self.0);
        match (effect, function.queues()) {
            (Effect::StartQueues, Some(host)) => host.start_queues(),
            (Effect::StopQueues, Some(host)) => host.stop_queues(),
            _ => {}
        }
    }
}

impl Subject for Pci {
    fn areas(&self) -> Vec<(u16, u64)> {
        let mut function = lock(&self.0);
        let bars: Vec<_> = function.config().bars().collect();
        let mut areas = vec![(CONFIG, 4096)];
        areas.extend(bars.iter().map(|bar| (bar.index.into(), bar.size)));
        areas.extend(function.decodes().iter().filter_map(|decode| match decode {
            Decode::Window { region, .. } => Some((region.region, region.len)),
            Decode::Device { .. } | Decode::Ecam { .. } => None,
        }));
        areas
    }

    fn read(&self, area: u16, offset: u64, data: &mut [u8]) {
        let mut function = lock(&self.0);
        match u8::try_from(area) {
            Ok(bar) => function.bar_read(bar, offset, data),
            Err(_) => function.config_read(offset as u16, data),
        }
    }

    fn write(&self, area: u16, offset: u64, data: &[u8]) {
        let mut function = lock(&self.0);
        let effect = match u8::try_from(area) {
            Ok(bar) => function.bar_write(bar, offset, data),
            Err(_) => function.config_write(offset as u16, data),
        };
        drop(function);
        self.carry_out(effect);
    }

    fn save(&self) -> Option<Section> {
        let mut function = lock(&self.0);
        function.state().map(|state| {
            let section = state.save_section("test");
            section.expect("state can be encoded")
        })
    }

    fn restore(&self, section: &Section) -> Result<(), String> {
        let mut function = lock(&self.0);
        let state = function.state();
        restore_into(state, section)
    }

    fn reset(&self) {
        self.quiesce();
        lock(&self.0).reset();
    }

    fn quiesce(&self) {
        if let Some(host) = lock(&self.0).queues() {
            host.stop_queues();
        }
    }
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    /// A number below `end`; 0 when that is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde::{Deserialize, Serialize};
    use vmstate::{Snapshot, StateError};

    use super::*;
    use crate::bus::BusDevice;

    const REGIONS: &[Region] = &[Region {
        region: 0,
        base: 0,
        len: 4,
    }];

    /// What is wrong with it.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        KeepsAtReset,
        ForgetsInState,
        Panics,
    }

    struct Memory(u8, Fault);

    #[derive(Serialize, Deserialize)]
    struct MemoryV1(u8);

    impl BusDevice for Memory {
        fn read(&mut self, _access: Access, data: &mut [u8]) {
            data.fill(self.0);
        }

        fn write(&mut self, _access: Access, data: &[u8]) -> Effect {
            self.0 = data.last().copied().unwrap_or(0);
            assert!(self.1 != Fault::Panics || self.0 != 0x80);
            Effect::None
        }

        fn reset(&mut self) {
            if self.1 != Fault::KeepsAtReset {
                self.0 = 0;
            }
        }

        fn state(&mut self) -> Option<&mut dyn StateAccess> {
            Some(self)
        }
    }

    impl Snapshot for Memory {
        type State = MemoryV1;
        const ID: &'static str = "memory";
        const VERSION: u32 = 1;

        fn save(&self) -> MemoryV1 {
            MemoryV1(self.0)
        }

        fn restore(&mut self, MemoryV1(byte): MemoryV1) -> Result<(), StateError> {
            if self.1 != Fault::ForgetsInState {
                self.0 = byte;
            }
            Ok(())
        }
    }

    fn conforms(fault: Fault, after: AfterReset) -> bool {
        let check = || bus_device(REGIONS, after, || Arc::new(Mutex::new(Memory(0, fault))));
        std::panic::catch_unwind(check).is_ok()
    }

    #[test]
    fn faults_are_found() {
        for (fault, fresh, kept) in [
            (Fault::None, true, true),
            (Fault::KeepsAtReset, false, true),
            (Fault::ForgetsInState, false, false),
            (Fault::Panics, false, false),
        ] {
            assert_eq!(conforms(fault, AfterReset::Fresh), fresh);
            assert_eq!(conforms(fault, AfterReset::Kept), kept);
        }
    }
}
