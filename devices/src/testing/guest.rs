//! The fake guest's RAM and hardware.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic};

use super::{FakeIrqs, FakeTimers, InlineThread};
use crate::bus::lock;
use crate::cx::{BuildCx, EffectSink};
use crate::effect::Effect;
use crate::irq::TestLine;
use crate::ram::{GuestRam, RamHandle};
use crate::vhost::Writers;

/// Bytes of RAM from 0 on.
pub const RAM_SIZE: u64 = 16 << 20;
/// Where another [`RAM_SIZE`] bytes begin.
pub const RAM_HIGH: u64 = 4 << 30;

/// Remembers the effects that devices raised by themselves.
#[derive(Default)]
struct Effects(Mutex<Vec<(String, Effect)>>);

impl EffectSink for Effects {
    fn raise(&self, id: &str, effect: Effect) {
        lock(&self.0).push((id.to_owned(), effect));
    }
}

/// RAM, interrupts, one I/O thread, a clock.
pub struct FakeGuest {
    /// RAM, at 0 and at 4 GiB.
    pub ram: RamHandle,
    /// Interrupt routes.
    pub irqs: Arc<FakeIrqs>,
    /// The interrupt pin's line.
    pub line: Arc<TestLine>,
    /// The I/O thread.
    pub thread: Arc<InlineThread>,
    /// The clock.
    pub timers: FakeTimers,
    /// Those who write its RAM unseen.
    pub writers: Writers,
    effects: Arc<Effects>,
}

impl Default for FakeGuest {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeGuest {
    /// A guest with RAM full of zeros.
    pub fn new() -> Self {
        let ranges = [
            (GuestAddress(0), RAM_SIZE as usize),
            (GuestAddress(RAM_HIGH), RAM_SIZE as usize),
        ];
        let ram = GuestRam::from_ranges(&ranges).expect("RAM for a test");
        FakeGuest {
            ram: GuestMemoryAtomic::new(ram),
            irqs: Arc::default(),
            line: Arc::default(),
            thread: Arc::default(),
            timers: FakeTimers::default(),
            writers: Writers::default(),
            effects: Arc::default(),
        }
    }

    /// What a device called `id` may use.
    pub fn cx(&self, id: &str) -> BuildCx {
        BuildCx {
            id: id.to_owned(),
            ram: self.ram.clone(),
            irqs: self.irqs.clone(),
            express: false,
            intx: self.line.clone(),
            clock: Arc::new(self.timers.clone()),
            timers: Arc::new(self.timers.clone()),
            effects: self.effects.clone(),
            iothreads: vec![self.thread.clone()],
            chardev: None,
            node: None,
            drive_name: None,
            entropy: None,
            netdev: None,
            vhost: None,
            writers: self.writers.clone(),
            hints: HashMap::new(),
        }
    }

    /// Effects raised since the last call.
    pub fn take_effects(&self) -> Vec<(String, Effect)> {
        std::mem::take(&mut lock(&self.effects.0))
    }

    /// Writes RAM.
    pub fn write(&self, at: u64, data: &[u8]) {
        self.ram
            .memory()
            .write_slice(data, GuestAddress(at))
            .expect("an address in RAM");
    }

    /// Reads RAM.
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.ram
            .memory()
            .read_slice(&mut data, GuestAddress(at))
            .expect("an address in RAM");
        data
    }

    /// Reads 16 bits.
    pub fn read16(&self, at: u64) -> u16 {
        self.ram
            .memory()
            .read_obj(GuestAddress(at))
            .expect("an address in RAM")
    }

    /// Writes 16 bits.
    pub fn write16(&self, at: u64, value: u16) {
        self.write(at, &value.to_le_bytes());
    }
}
