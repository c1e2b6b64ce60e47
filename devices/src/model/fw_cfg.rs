//! `fw_cfg_io`: configuration for firmware and guest tools (the "QEMU Firmware Configuration
//! (fw_cfg) Device" interface): items by key, files by name, read through ports or by DMA.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vmstate::{Snapshot, StateError};

use super::registers::{is_default, show, written};
use crate::bus::{Access, BusDevice};
use crate::effect::Effect;
use crate::guest_errors;
use crate::ram::{GuestRam, RamHandle};
use crate::registry::Region;

const SELECT: u16 = 0;
const DMA: u16 = 1;

/// Keys of items.
pub mod key {
    #![allow(missing_docs)] // the names are the interface's
    pub const SIGNATURE: u16 = 0x00;
    pub const ID: u16 = 0x01;
    pub const UUID: u16 = 0x02;
    pub const RAM_SIZE: u16 = 0x03;
    pub const NO_GRAPHIC: u16 = 0x04;
    pub const CPUS: u16 = 0x05;
    pub const MAX_CPUS: u16 = 0x0f;
    pub const FILE_DIR: u16 = 0x19;
    pub const FILE_FIRST: u16 = 0x20;
    /// Items that only one architecture has.
    pub const ARCH_LOCAL: u16 = 0x8000;
}

/// Bit 14 of a key selects writing, which no item takes any more.
const KEY_BITS: u16 = 0xbfff;
/// Files at most.
const FILES: usize = 0x20;
/// Bytes of a file's name with the zero at its end.
const NAME: usize = 56;
/// ID: the ports work, and DMA does.
const FEATURES: u32 = 1 | 2;
/// What the DMA register reads as.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// Bits of a DMA request's control word; the key is in the upper half.
mod control {
    pub const ERROR: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const SKIP: u32 = 1 << 2;
    pub const SELECT: u32 = 1 << 3;
    pub const WRITE: u32 = 1 << 4;
}

/// Why a file cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FwCfgError {
    /// Another file has the name.
    #[error("duplicate fw_cfg file name: {0}")]
    Duplicate(String),
    /// The name does not fit.
    #[error("name too long (max. {} char)", NAME - 1)]
    NameTooLong,
    /// A file without a name.
    #[error("Invalid argument value: fw_cfg file name is empty")]
    NoName,
    /// There are as many as there can be.
    #[error("fw_cfg file slots exhausted (at most {FILES} files)")]
    Full,
    /// Sizes have 32 bits.
    #[error("fw_cfg file '{0}' is too large")]
    TooLarge(String),
}

/// What the items say of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of RAM.
    pub ram_size: u64,
    /// Processors present.
    pub cpus: u16,
    /// Processors at most.
    pub max_cpus: u16,
    /// The machine's UUID.
    pub uuid: [u8; 16],
}

/// The device.
pub struct FwCfg {
    ram: RamHandle,
    items: BTreeMap<u16, Vec<u8>>,
    /// By name; they have keys in this order.
    files: BTreeMap<String, Vec<u8>>,
    selected: Selected,
    /// Upper half of the address of a DMA request.
    dma_high: u32,
}

/// What is being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Selected {
    key: u16,
    offset: u32,
}

impl FwCfg {
    /// Its ports.
    pub const PORTS: &'static [Region] = &[
        Region {
            region: SELECT,
            base: 0x510,
            len: 2,
        },
        Region {
            region: DMA,
            base: 0x514,
            len: 8,
        },
    ];

    /// The fixed items, and no files.
    pub fn new(ram: RamHandle, machine: &Machine) -> Self {
        let mut device = FwCfg {
            ram,
            items: BTreeMap::new(),
            files: BTreeMap::new(),
            selected: Selected::default(),
            dma_high: 0,
        };
        device.set(key::SIGNATURE, b"QEMU");
        device.set(key::ID, &FEATURES.to_le_bytes());
        device.set(key::UUID, &machine.uuid);
        device.set(key::RAM_SIZE, &machine.ram_size.to_le_bytes());
        // There is no screen.
        device.set(key::NO_GRAPHIC, &1u16.to_le_bytes());
        device.set(key::CPUS, &machine.cpus.to_le_bytes());
        device.set(key::MAX_CPUS, &machine.max_cpus.to_le_bytes());
        device.set(key::FILE_DIR, &directory(&device.files));
        device
    }

    /// Sets the item of a key below the files, or an architecture's own.
    pub fn set(&mut self, key: u16, bytes: &[u8]) {
        self.items.insert(key & KEY_BITS, bytes.to_vec());
    }

    /// Adds a file. Keys go by name, so all files have to be there before the guest starts.
    ///
    /// # Errors
    /// When the name is taken, empty or too long, or there is no room.
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), FwCfgError> {
        if name.is_empty() {
            return Err(FwCfgError::NoName);
        }
        if name.len() >= NAME {
            return Err(FwCfgError::NameTooLong);
        }
        if self.files.contains_key(name) {
            return Err(FwCfgError::Duplicate(name.to_owned()));
        }
        if self.files.len() >= FILES {
            return Err(FwCfgError::Full);
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(FwCfgError::TooLarge(name.to_owned()));
        }
        self.files.insert(name.to_owned(), bytes);
        self.set(key::FILE_DIR, &directory(&self.files));
        Ok(())
    }

    /// The names of the files in the order of their keys.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn item(&self, key: u16) -> Option<&[u8]> {
        let item = match key.checked_sub(key::FILE_FIRST) {
            Some(file) if usize::from(file) < FILES => self.files.values().nth(usize::from(file)),
            _ => self.items.get(&key),
        };
        item.map(Vec::as_slice)
    }

    fn select(&mut self, key: u16) {
        trace::point!(FW_CFG_SELECT, key = trace::Hex(key.into()));
        self.selected = Selected {
            key: key & KEY_BITS,
            offset: 0,
        };
    }

    /// The rest of the selected item.
    fn rest(&self) -> &[u8] {
        let offset = usize::try_from(self.selected.offset).unwrap_or(usize::MAX);
        let item = self.item(self.selected.key).unwrap_or(&[]);
        item.get(offset..).unwrap_or(&[])
    }

    fn skip(&mut self, len: u32) {
        let offset = self.selected.offset.saturating_add(len);
        let end = self.item(self.selected.key).map_or(0, <[u8]>::len);
        self.selected.offset = u32::try_from(end).map_or(offset, |end| offset.min(end));
    }

    /// Behind the end, items read as zeros.
    fn read_data(&mut self, data: &mut [u8]) {
        data.fill(0);
        let rest = self.rest();
        let len = rest.len().min(data.len());
        for (byte, value) in data.iter_mut().zip(rest) {
            *byte = *value;
        }
        self.skip(u32::try_from(len).unwrap_or(u32::MAX));
    }

    fn write_dma(&mut self, offset: u64, data: &[u8]) {
        // Big endian: the first byte is the highest.
        if let Some(new) = written(0, 4, offset, data) {
            let old = u64::from(self.dma_high.swap_bytes());
            self.dma_high = (new.over(old, u64::from(u32::MAX)) as u32).swap_bytes();
        }
        // The lower half starts the request. Only a whole one makes sense.
        if let Some(new) = written(4, 4, offset, data)
            && new.mask == u64::from(u32::MAX)
        {
            let low = (new.value as u32).swap_bytes();
            let high = std::mem::take(&mut self.dma_high);
            self.request(u64::from(high) << 32 | u64::from(low));
        }
    }

    /// Carries out the request at `address`: control word, length and address, big endian. The
    /// control word is written back: zero, or the error bit.
    fn request(&mut self, address: u64) {
        let memory = self.ram.memory();
        let mut bytes = [0; 16];
        let read = memory.read_slice(&mut bytes, GuestAddress(address));
        let result = match read {
            Ok(()) => self.transfer(&memory, Request::parse(bytes)),
            Err(_) => control::ERROR,
        };
        if let Err(error) = memory.write_slice(&result.to_be_bytes(), GuestAddress(address)) {
            let what = format_args!("no place for a DMA request's result: {error}");
            guest_errors::count("fw_cfg", guest_errors::Kind::BadRequest, what);
        }
    }

    fn transfer(&mut self, memory: &GuestRam, request: Request) -> u32 {
        if request.control & control::SELECT != 0 {
            self.select((request.control >> 16) as u16);
        }
        if request.control & control::READ != 0 {
            self.copy_out(memory, request)
        } else if request.control & control::WRITE != 0 {
            // No item can be written.
            if request.len == 0 { 0 } else { control::ERROR }
        } else {
            if request.control & control::SKIP != 0 {
                self.skip(request.len);
            }
            0
        }
    }

    fn copy_out(&mut self, memory: &GuestRam, request: Request) -> u32 {
        const ZEROS: [u8; 4096] = [0; 4096];
        let rest = self.rest();
        let total = usize::try_from(request.len).unwrap_or(usize::MAX);
        let head = rest.get(..rest.len().min(total)).unwrap_or(&[]);
        let mut at = GuestAddress(request.address);
        let mut left = total.saturating_sub(head.len());
        let taken = u32::try_from(head.len()).unwrap_or(u32::MAX);
        let mut put = |bytes: &[u8]| {
            let done = memory.write_slice(bytes, at).is_ok();
            at = GuestAddress(at.0.saturating_add(bytes.len() as u64));
            done
        };
        // Zeros behind the end, page by page until there is no RAM any more.
        let mut fits = put(head);
        while fits && left > 0 {
            let page = ZEROS.get(..left.min(ZEROS.len())).unwrap_or(&ZEROS);
            left = left.saturating_sub(page.len());
            fits = put(page);
        }
        self.skip(taken);
        if fits { 0 } else { control::ERROR }
    }
}

/// A DMA request.
#[derive(Debug, Clone, Copy)]
struct Request {
    control: u32,
    len: u32,
    address: u64,
}

impl Request {
    fn parse(bytes: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Request {
            control: (all >> 96) as u32,
            len: (all >> 64) as u32,
            address: all as u64,
        }
    }
}

/// The file directory: how many, then size, key and name of each, big endian.
fn directory(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = number(files.len()).to_vec();
    for (key, (name, file)) in (key::FILE_FIRST..).zip(files) {
        bytes.extend(number(file.len()));
        bytes.extend(key.to_be_bytes());
        bytes.extend([0; 2]);
        let end = bytes.len().saturating_add(NAME);
        bytes.extend(name.as_bytes());
        bytes.resize(end, 0);
    }
    bytes
}

impl BusDevice for FwCfg {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        match access.region {
            DMA => {
                data.fill(0);
                show(0, &DMA_SIGNATURE, access.offset, data);
            }
            _ => self.read_data(data),
        }
    }

    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        match (access.region, data) {
            (DMA, data) => self.write_dma(access.offset, data),
            // Only a 16-bit write selects; the data port takes nothing.
            (_, [low, high]) if access.offset == 0 => {
                self.select(u16::from_le_bytes([*low, *high]));
            }
            _ => {}
        }
        Effect::None
    }

    fn reset(&mut self) {
        self.selected = Selected::default();
        self.dma_high = 0;
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// What is being read; the items come from the machine's options.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct FwCfgV1 {
        /// Selected key.
        #[serde(skip_serializing_if = "is_default")]
        pub key: u16,
        /// The next byte of the item.
        #[serde(skip_serializing_if = "is_default")]
        pub offset: u32,
        /// Upper half of the address of a DMA request.
        #[serde(skip_serializing_if = "is_default")]
        pub dma_high: u32,
    }
}

impl Snapshot for FwCfg {
    type State = state::FwCfgV1;
    const ID: &'static str = "fw_cfg";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let FwCfg {
            ram: _,
            items: _,
            files: _,
            selected: Selected { key, offset },
            dma_high,
        } = self;
        state::FwCfgV1 {
            key: *key,
            offset: *offset,
            dma_high: *dma_high,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::FwCfgV1 {
            key,
            offset,
            dma_high,
        } = state;
        self.select(key);
        self.skip(offset);
        self.dma_high = dma_high;
        Ok(())
    }
}
