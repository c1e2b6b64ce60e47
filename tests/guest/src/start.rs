//! What the PVH entry tells of the machine (Xen, `arch-x86/hvm/start_info.h`).

use core::ffi::CStr;

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

/// The start information.
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modules_at: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

impl StartInfo {
    /// Takes the address that was handed over.
    pub fn at(address: u64) -> &'static Self {
        // SAFETY: the entry protocol puts it there, in memory that nothing else uses.
        let info = unsafe { &*(address as *const StartInfo) };
        assert_eq!(info.magic, MAGIC, "no start information");
        info
    }

    /// The words for the kernel.
    pub fn command_line(&self) -> &'static str {
        if self.command_line == 0 {
            return "";
        }
        // SAFETY: by the entry protocol it is a text that ends in a zero.
        let text = unsafe { CStr::from_ptr(self.command_line as *const _) };
        text.to_str().unwrap_or("")
    }

    /// Bytes of memory in the map.
    pub fn memory(&self) -> u64 {
        // SAFETY: by the entry protocol there are so many entries.
        let map = unsafe {
            core::slice::from_raw_parts(
                self.memory_map as *const MapEntry,
                self.memory_map_entries as usize,
            )
        };
        map.iter()
            .filter(|entry| entry.kind == RAM)
            .map(|entry| entry.size)
            .sum()
    }

    /// Whether there is a root pointer of ACPI, with its signature and a sum of zero.
    pub fn has_acpi(&self) -> bool {
        if self.rsdp == 0 {
            return false;
        }
        // SAFETY: by the entry protocol a root pointer lies there; its first part has 20 bytes.
        let bytes = unsafe { core::slice::from_raw_parts(self.rsdp as *const u8, 20) };
        bytes.starts_with(b"RSD PTR ")
            && bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }
}
