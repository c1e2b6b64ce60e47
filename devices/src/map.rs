//! The address map: an immutable snapshot of what answers where, rebuilt by the control thread
//! whenever a device says [`Effect::Remap`]. A vCPU loads it, finds one target by binary search
//! and takes that one device's lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::bus::{Access, SharedDevice, lock};
use crate::effect::Effect;
use crate::pci::{BarKind, Decode, DevFn, Seen, SeenFunction, SharedFunction};
use crate::registry::Region;

/// CONFIG_ADDRESS; answers to 32-bit accesses only, so that the reset register at 0xcf9 can be
/// inside it (PCI Local Bus 3.0, section 3.2.2.3.2).
const CONFIG_ADDRESS: u64 = 0xcf8;
/// CONFIG_DATA, four bytes.
const CONFIG_DATA: u64 = 0xcfc;
/// Set in CONFIG_ADDRESS while CONFIG_DATA leads to configuration space.
const CONFIG_ENABLE: u32 = 1 << 31;
/// Bytes of configuration space in an ECAM window.
const ECAM_FUNCTION: u64 = 4096;

/// One of the two address spaces of the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Ports, 64 KiB.
    Port,
    /// Physical memory.
    Memory,
}

impl Space {
    const fn name(self) -> &'static str {
        match self {
            Space::Port => "port",
            Space::Memory => "memory",
        }
    }
}

/// Who raised an effect.
#[derive(Clone)]
pub struct Source {
    /// The device's id.
    pub id: Arc<str>,
    /// The function, for PCI devices.
    pub function: Option<SharedFunction>,
}

/// An effect that the maker of the access has to carry out.
#[must_use = "an effect must be carried out by the caller"]
pub struct Raised {
    /// What to do.
    pub effect: Effect,
    /// Whose it is.
    pub source: Source,
}

/// A short cut for the accelerator: a write of any width to `address` only signals `event`.
#[derive(Clone)]
pub struct IoEvent {
    /// Port or memory space.
    pub space: Space,
    /// Address of the write.
    pub address: u64,
    /// What to signal.
    pub event: Arc<EventFd>,
}

/// Two fixed ranges collide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Address {base:#x} (length {len:#x}) of '{id}' is in use")]
pub struct Overlap {
    /// The device that came second.
    pub id: String,
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

enum Target {
    /// Left to others (RAM): nothing of a device is put there.
    Reserved,
    Device(Source, SharedDevice, u16),
    /// A function's BAR or window, by its index in the list of functions.
    Function(usize, u8),
    Ecam,
    ConfigData,
}

struct Entry {
    first: u64,
    last: u64,
    target: Target,
}

/// What answers where.
pub struct AddressMap {
    ports: Vec<Entry>,
    memory: Vec<Entry>,
    functions: Vec<Source>,
    /// Bus, device and function of each function that can be reached, and its index; sorted.
    by_address: Vec<(u16, usize)>,
    config_address: Option<Arc<AtomicU32>>,
    io_events: Vec<IoEvent>,
}

impl AddressMap {
    /// Where the accelerator may take short cuts.
    pub fn io_events(&self) -> &[IoEvent] {
        &self.io_events
    }

    /// Whether a device answers at `address`.
    pub fn claims(&self, space: Space, address: u64) -> bool {
        let claimed = |entry: &Entry| !matches!(entry.target, Target::Reserved);
        self.find(space, address).is_ok_and(claimed)
    }

    /// Reads; bytes that nobody answers for are all ones.
    pub fn read(&self, space: Space, address: u64, data: &mut [u8]) {
        self.read_all(space, address, data);
        trace::point!(
            MEMORY_REGION_OPS_READ,
            space = space.name(),
            addr = trace::Hex(address),
            value = trace::Bytes(data),
            size = data.len()
        );
    }

    fn read_all(&self, space: Space, address: u64, data: &mut [u8]) {
        if let Some(register) = self.config_register(space, address, data.len()) {
            data.copy_from_slice(&register.load(Ordering::Relaxed).to_le_bytes());
            return;
        }
        let mut rest = data;
        let mut at = address;
        while !rest.is_empty() {
            let (entry, here) = self.piece(space, at, rest.len());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(here);
            match entry {
                Some(entry) => self.read_piece(entry, at, now),
                None => now.fill(0xff),
            }
            rest = later;
            at = at.wrapping_add(here as u64);
        }
    }

    /// Writes. What nobody answers for is dropped. The effects, mostly none, are for the caller.
    #[must_use = "effects must be carried out by the caller"]
    pub fn write(&self, space: Space, address: u64, data: &[u8]) -> Vec<Raised> {
        trace::point!(
            MEMORY_REGION_OPS_WRITE,
            space = space.name(),
            addr = trace::Hex(address),
            value = trace::Bytes(data),
            size = data.len()
        );
        if let Some(register) = self.config_register(space, address, data.len()) {
            let bytes = data.try_into().unwrap_or([0; 4]);
            register.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
            return Vec::new();
        }
        let mut raised = Vec::new();
        let mut rest = data;
        let mut at = address;
        while !rest.is_empty() {
            let (entry, here) = self.piece(space, at, rest.len());
            let (now, later) = rest.split_at(here);
            let outcome = entry.and_then(|entry| self.write_piece(entry, at, now));
            raised.extend(outcome);
            rest = later;
            at = at.wrapping_add(here as u64);
        }
        raised
    }

    fn config_register(&self, space: Space, address: u64, len: usize) -> Option<&AtomicU32> {
        let here = space == Space::Port && address == CONFIG_ADDRESS && len == 4;
        self.config_address.as_deref().filter(|_| here)
    }

    fn entries(&self, space: Space) -> &[Entry] {
        match space {
            Space::Port => &self.ports,
            Space::Memory => &self.memory,
        }
    }

    /// The entry at `address`, or the first one behind it.
    fn find(&self, space: Space, address: u64) -> Result<&Entry, Option<&Entry>> {
        let entries = self.entries(space);
        let index = entries.partition_point(|entry| entry.last < address);
        match entries.get(index) {
            Some(entry) if entry.first <= address => Ok(entry),
            next => Err(next),
        }
    }

    /// Who answers at `address`, and for how many of the `len` bytes.
    fn piece(&self, space: Space, address: u64, len: usize) -> (Option<&Entry>, usize) {
        let limit = |last: u64| {
            let left = last.saturating_sub(address).saturating_add(1);
            usize::try_from(left).map_or(len, |left| len.min(left))
        };
        match self.find(space, address) {
            Ok(entry) => {
                let last = match entry.target {
                    Target::Ecam => entry.last.min(address | (ECAM_FUNCTION - 1)),
                    _ => entry.last,
                };
                (Some(entry), limit(last))
            }
            Err(Some(next)) => (None, limit(next.first.saturating_sub(1))),
            Err(None) => (None, len),
        }
    }

    fn function(&self, index: usize) -> Option<(&Source, &SharedFunction)> {
        let source = self.functions.get(index)?;
        Some((source, source.function.as_ref()?))
    }

    fn by_bdf(&self, bdf: u16) -> Option<(&Source, &SharedFunction)> {
        let at = self
            .by_address
            .binary_search_by_key(&bdf, |entry| entry.0)
            .ok()?;
        self.function(self.by_address.get(at)?.1)
    }

    /// The function and register that CONFIG_DATA leads to. Bits 1:0 of CONFIG_ADDRESS count:
    /// there are drivers that leave the byte offset in them.
    fn config_data(&self, port: u64) -> Option<(&Source, &SharedFunction, u16)> {
        let address = self.config_address.as_ref()?.load(Ordering::Relaxed);
        if address & CONFIG_ENABLE == 0 {
            return None;
        }
        let [register, devfn, bus, _] = address.to_le_bytes();
        let (source, function) = self.by_bdf(u16::from_be_bytes([bus, devfn]))?;
        let register = u16::from(register) | (port & 3) as u16;
        Some((source, function, register))
    }

    fn ecam(&self, entry: &Entry, address: u64) -> Option<(&Source, &SharedFunction, u16)> {
        let offset = address.saturating_sub(entry.first);
        let bdf = u16::try_from(offset / ECAM_FUNCTION).ok()?;
        let (source, function) = self.by_bdf(bdf)?;
        Some((source, function, (offset % ECAM_FUNCTION) as u16))
    }

    fn read_piece(&self, entry: &Entry, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        let offset = address.saturating_sub(entry.first);
        let config = match &entry.target {
            Target::Reserved => return,
            Target::Device(_, device, region) => {
                let region = *region;
                return lock(device).read(Access { region, offset }, data);
            }
            Target::Function(index, bar) => {
                if let Some((_, function)) = self.function(*index) {
                    lock(function).bar_read(*bar, offset, data);
                }
                return;
            }
            Target::Ecam => self.ecam(entry, address),
            Target::ConfigData => self.config_data(address),
        };
        if let Some((source, function, register)) = config {
            lock(function).config_read(register, data);
            trace::point!(
                PCI_CFG_READ,
                dev = source.id,
                offset = trace::Hex(register.into()),
                value = trace::Bytes(data)
            );
        }
    }

    fn write_piece(&self, entry: &Entry, address: u64, data: &[u8]) -> Option<Raised> {
        let offset = address.saturating_sub(entry.first);
        let (effect, source) = match &entry.target {
            Target::Reserved => return None,
            Target::Device(source, device, region) => {
                let region = *region;
                (lock(device).write(Access { region, offset }, data), source)
            }
            Target::Function(index, bar) => {
                let (source, function) = self.function(*index)?;
                (lock(function).bar_write(*bar, offset, data), source)
            }
            Target::Ecam => {
                let (source, function, register) = self.ecam(entry, address)?;
                told_write(source, register, data);
                (lock(function).config_write(register, data), source)
            }
            Target::ConfigData => {
                let (source, function, register) = self.config_data(address)?;
                told_write(source, register, data);
                (lock(function).config_write(register, data), source)
            }
        };
        (!effect.is_none()).then(|| Raised {
            effect,
            source: source.clone(),
        })
    }
}

fn told_write(source: &Source, register: u16, data: &[u8]) {
    trace::point!(
        PCI_CFG_WRITE,
        dev = source.id,
        offset = trace::Hex(register.into()),
        value = trace::Bytes(data)
    );
}

/// Puts a map together: first what is fixed, then the PCI functions. A BAR that overlaps what is
/// there already is left out, so that a guest cannot hide a fixed device.
pub struct MapBuilder {
    map: AddressMap,
}

impl Default for MapBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl MapBuilder {
    /// An empty map.
    pub fn new() -> Self {
        MapBuilder {
            map: AddressMap {
                ports: Vec::new(),
                memory: Vec::new(),
                functions: Vec::new(),
                by_address: Vec::new(),
                config_address: None,
                io_events: Vec::new(),
            },
        }
    }

    /// Keeps device windows out of a range (RAM, the interrupt controllers in the kernel).
    pub fn reserve(&mut self, space: Space, base: u64, len: u64) {
        self.insert(space, base, len, Target::Reserved);
    }

    /// Adds a region of a device with a fixed place.
    ///
    /// # Errors
    /// When something is there already.
    pub fn device(
        &mut self,
        id: &Arc<str>,
        space: Space,
        region: Region,
        device: &SharedDevice,
    ) -> Result<(), Overlap> {
        let source = Source {
            id: id.clone(),
            function: None,
        };
        let target = Target::Device(source, device.clone(), region.region);
        if self.insert(space, region.base, region.len, target) {
            return Ok(());
        }
        Err(Overlap {
            id: id.to_string(),
            base: region.base,
            len: region.len,
        })
    }

    /// Adds configuration mechanism #1 and what the functions decode.
    pub fn pci(&mut self, seen: Seen) {
        self.map.config_address = Some(seen.address);
        self.insert(Space::Port, CONFIG_DATA, 4, Target::ConfigData);
        // Chipset windows come before BARs.
        for (index, function) in seen.functions.iter().enumerate() {
            self.decodes(index, function);
        }
        for (index, function) in seen.functions.into_iter().enumerate() {
            self.bars(index, &function);
            if let Some(bus) = function.bus {
                let DevFn(devfn) = function.devfn;
                self.map
                    .by_address
                    .push((u16::from_be_bytes([bus, devfn]), index));
            }
            self.map.functions.push(Source {
                id: function.id,
                function: Some(function.function),
            });
        }
        // Of two functions at one bus number, the first one answers.
        self.map.by_address.sort_by_key(|entry| entry.0);
        self.map.by_address.dedup_by_key(|entry| entry.0);
    }

    /// The map.
    pub fn build(self) -> AddressMap {
        self.map
    }

    fn decodes(&mut self, index: usize, function: &SeenFunction) {
        for decode in &function.decodes {
            let (space, base, len, target) = match decode {
                Decode::Window { space, region } => {
                    let number = u8::try_from(region.region).unwrap_or(u8::MAX);
                    let target = Target::Function(index, number);
                    (*space, region.base, region.len, target)
                }
                Decode::Device {
                    space,
                    region,
                    device,
                } => {
                    let source = Source {
                        id: function.id.clone(),
                        function: Some(function.function.clone()),
                    };
                    let target = Target::Device(source, device.clone(), region.region);
                    (*space, region.base, region.len, target)
                }
                Decode::Ecam { base, len } => (Space::Memory, *base, *len, Target::Ecam),
            };
            self.insert(space, base, len, target);
        }
    }

    fn bars(&mut self, index: usize, function: &SeenFunction) {
        for bar in &function.bars {
            let space = match bar.kind {
                BarKind::Io => Space::Port,
                BarKind::Memory32 | BarKind::Memory64 { .. } => Space::Memory,
            };
            let target = Target::Function(index, bar.index);
            if !self.insert(space, bar.base, bar.size, target) {
                log::debug!("BAR {} of '{}' overlaps", bar.index, function.id);
                continue;
            }
            for event in function
                .io_events
                .iter()
                .filter(|event| event.bar == bar.index)
            {
                self.map.io_events.push(IoEvent {
                    space,
                    address: bar.base.saturating_add(event.offset),
                    event: event.event.clone(),
                });
            }
        }
    }

    fn insert(&mut self, space: Space, first: u64, len: u64, target: Target) -> bool {
        let Some(last) = len.checked_sub(1).and_then(|rest| first.checked_add(rest)) else {
            return false;
        };
        let entries = match space {
            Space::Port => &mut self.map.ports,
            Space::Memory => &mut self.map.memory,
        };
        let index = entries.partition_point(|entry| entry.last < first);
        if entries.get(index).is_some_and(|next| next.first <= last) {
            return false;
        }
        entries.insert(
            index,
            Entry {
                first,
                last,
                target,
            },
        );
        true
    }
}
