//! SMBIOS 3 tables (DMTF DSP0134 3.6): what the machine is called, and how its memory and
//! processors are arranged. Manufacturer and product are those of QEMU's machines, by which programs
//! in guests tell what they run on.

use crate::layout::{RamLayout, Window};
use crate::machine::topology::Topology;

/// The entry point: behind the ACPI root pointer, in the area that guests search.
pub const ENTRY: u64 = 0xf_0040;
/// The structures.
pub const STRUCTURES: u64 = 0xf_0080;
/// Bytes of memory in one memory device at most.
const DEVICE_MAX: u64 = 16 << 30;

/// What the tables say.
#[derive(Debug, Clone)]
pub struct SmbiosConfig {
    /// The machine's UUID.
    pub uuid: Option<uuid::Uuid>,
    /// The machine type's description.
    pub product: String,
    /// The machine type's versioned name.
    pub version: String,
    /// Where RAM is.
    pub layout: RamLayout,
    /// How processors are arranged.
    pub topology: Topology,
    /// CPUID leaf 1, EAX and EDX: the processors' signature.
    pub signature: (u32, u32),
}

/// One structure under construction (section 6.1).
struct Structure {
    formatted: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Structure {
            formatted: vec![kind, 0, low, high],
            strings: Vec::new(),
            count: 0,
        }
    }

    fn u8(mut self, value: u8) -> Self {
        self.formatted.push(value);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.formatted.extend_from_slice(bytes);
        self
    }

    fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn text(mut self, text: &str) -> Self {
        if text.is_empty() {
            return self.u8(0);
        }
        self.strings.extend(text.bytes().filter(|byte| *byte != 0));
        self.strings.push(0);
        self.count = self.count.saturating_add(1);
        let number = self.count;
        self.u8(number)
    }

    fn finish(mut self, into: &mut Vec<u8>) {
        let len = u8::try_from(self.formatted.len()).unwrap_or(u8::MAX);
        if let Some(place) = self.formatted.get_mut(1) {
            *place = len;
        }
        into.extend_from_slice(&self.formatted);
        into.extend_from_slice(&self.strings);
        // An empty set of strings has two end marks.
        into.extend_from_slice(if self.count == 0 { &[0, 0] } else { &[0] });
    }
}

const MAKER: &str = "QEMU";

/// Entry point and structures with their addresses.
pub fn build(config: &SmbiosConfig) -> [(u64, Vec<u8>); 2] {
    let mut table = Vec::new();
    bios(&mut table);
    system(config, &mut table);
    chassis(config, &mut table);
    processors(config, &mut table);
    memory(config, &mut table);
    // System boot: no error (section 7.33).
    Structure::new(32, 0x2000)
        .bytes(&[0; 6])
        .u8(0)
        .finish(&mut table);
    Structure::new(127, 0x7f00).finish(&mut table);
    [(ENTRY, entry_point(table.len())), (STRUCTURES, table)]
}

/// Section 5.2.2.
fn entry_point(len: usize) -> Vec<u8> {
    let mut entry = b"_SM3_".to_vec();
    entry.extend_from_slice(&[0, 24, 3, 0, 0, 1, 0]);
    entry.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    entry.extend_from_slice(&STRUCTURES.to_le_bytes());
    let sum = entry.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(place) = entry.get_mut(5) {
        *place = sum.wrapping_neg();
    }
    entry
}

/// Section 7.1.
fn bios(into: &mut Vec<u8>) {
    const CHARACTERISTICS_UNSUPPORTED: u64 = 1 << 3;
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    Structure::new(0, 0)
        .text("qvmd")
        .text(env!("CARGO_PKG_VERSION"))
        .u16(0xe000) // start segment
        .text("01/01/2026")
        .u8(0) // 64 KiB
        .u64(CHARACTERISTICS_UNSUPPORTED)
        .u8(0)
        .u8(VIRTUAL_MACHINE)
        .bytes(&[0, 0, 0xff, 0xff])
        .finish(into);
}

/// Section 7.2.
fn system(config: &SmbiosConfig, into: &mut Vec<u8>) {
    const POWER_SWITCH: u8 = 6;
    let uuid = config.uuid.unwrap_or_default();
    Structure::new(1, 0x100)
        .text(MAKER)
        .text(&config.product)
        .text(&config.version)
        .text("")
        .bytes(&uuid.to_bytes_le())
        .u8(POWER_SWITCH)
        .text("")
        .text("")
        .finish(into);
}

/// Section 7.4.
fn chassis(config: &SmbiosConfig, into: &mut Vec<u8>) {
    const OTHER: u8 = 1;
    const SAFE: u8 = 3;
    const UNKNOWN: u8 = 2;
    Structure::new(3, 0x300)
        .text(MAKER)
        .u8(OTHER)
        .text(&config.version)
        .text("")
        .text("")
        .bytes(&[SAFE, SAFE, SAFE, UNKNOWN])
        .u32(0)
        .bytes(&[0; 4])
        .text("")
        .finish(into);
}

/// Section 7.5: one structure for each socket.
fn processors(config: &SmbiosConfig, into: &mut Vec<u8>) {
    const CENTRAL: u8 = 3;
    const OTHER: u8 = 1;
    const ENABLED: u8 = 0x41;
    let t = &config.topology;
    let cores = t.dies.saturating_mul(t.modules).saturating_mul(t.cores);
    let threads = cores.saturating_mul(t.threads);
    let byte = |number: u32| u8::try_from(number).unwrap_or(0xff);
    let word = |number: u32| u16::try_from(number).unwrap_or(0xffff);
    for socket in 0..t.sockets {
        let handle = 0x400u16.saturating_add(word(socket));
        Structure::new(4, handle)
            .text(&format!("CPU {socket}"))
            .bytes(&[CENTRAL, OTHER])
            .text(MAKER)
            .u32(config.signature.0)
            .u32(config.signature.1)
            .text(&config.version)
            .u8(0) // voltage
            .bytes(&[0; 2]) // clock
            .u16(2000) // most MHz
            .u16(2000) // MHz now
            .bytes(&[ENABLED, OTHER])
            .bytes(&[0xff; 6]) // caches
            .text("")
            .text("")
            .text("")
            .bytes(&[byte(cores), byte(cores), byte(threads)])
            .u16(4) // 64 bits
            .u16(1) // family: other
            .u16(word(cores))
            .u16(word(cores))
            .u16(word(threads))
            .finish(into);
    }
}

/// Sections 7.17, 7.18 and 7.20.
fn memory(config: &SmbiosConfig, into: &mut Vec<u8>) {
    const ARRAY: u16 = 0x1000;
    let size = config.layout.size();
    let count = size.div_ceil(DEVICE_MAX).max(1);
    let kib = u32::try_from(size >> 10)
        .ok()
        .filter(|kib| *kib < 0x8000_0000);
    Structure::new(16, ARRAY)
        .bytes(&[1, 3, 6]) // elsewhere, system memory, several bits corrected
        .u32(kib.unwrap_or(0x8000_0000))
        .u16(0xfffe)
        .u16(u16::try_from(count).unwrap_or(u16::MAX))
        .u64(if kib.is_some() { 0 } else { size })
        .finish(into);
    for (index, number) in (0..count.min(64)).zip(0u16..) {
        let part = size
            .saturating_sub(index.saturating_mul(DEVICE_MAX))
            .min(DEVICE_MAX);
        memory_device(number, part, ARRAY, into);
    }
    for (range, number) in config.layout.ranges().zip(0u16..) {
        mapped_range(number, range, ARRAY, into);
    }
}

fn memory_device(number: u16, size: u64, array: u16, into: &mut Vec<u8>) {
    const EXTENDED: u16 = 0x7fff;
    let mib = size >> 20;
    let short = u16::try_from(mib).ok().filter(|mib| *mib < EXTENDED);
    Structure::new(17, 0x1100u16.saturating_add(number))
        .u16(array)
        .u16(0xfffe)
        .u16(0xffff) // total width unknown
        .u16(0xffff)
        .u16(short.unwrap_or(EXTENDED))
        .bytes(&[9, 0]) // DIMM, of no set
        .text(&format!("DIMM {number}"))
        .text("")
        .u8(7) // RAM
        .u16(2) // detail: other
        .u16(0) // speed
        .text(MAKER)
        .text("")
        .text("")
        .text("")
        .u8(0) // rank
        .u32(if short.is_some() { 0 } else { u32::try_from(mib).unwrap_or(u32::MAX) })
        .bytes(&[0; 8]) // configured speed, voltages
        .finish(into);
}

fn mapped_range(number: u16, range: Window, array: u16, into: &mut Vec<u8>) {
    let (first, last) = (range.base >> 10, range.last() >> 10);
    let short = u32::try_from(first).ok().zip(u32::try_from(last).ok());
    let (first, last) = short.unwrap_or((u32::MAX, u32::MAX));
    let long = if short.is_some() {
        (0, 0)
    } else {
        (range.base, range.last())
    };
    Structure::new(19, 0x1300u16.saturating_add(number))
        .u32(first)
        .u32(last)
        .u16(array)
        .u8(1)
        .u64(long.0)
        .u64(long.1)
        .finish(into);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, formatted part and strings of each structure.
    fn parse(mut table: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while !table.is_empty() {
            let (formatted, rest) = table.split_at(usize::from(table[1]));
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let text = String::from_utf8(rest[..end].to_vec()).unwrap();
            let strings = text.split('\0').map(str::to_owned).collect();
            found.push((formatted[0], formatted.to_vec(), strings));
            table = &rest[end + 2..];
        }
        found
    }

    fn config(size: u64) -> SmbiosConfig {
        SmbiosConfig {
            uuid: Some(uuid::uuid!("00112233-4455-6677-8899-aabbccddeeff")),
            product: "Standard PC".into(),
            version: "pc-q35-10.0".into(),
            layout: RamLayout::new(crate::layout::Board::Q35, size),
            topology: Topology {
                sockets: 2,
                cores: 4,
                ..Topology::default()
            },
            signature: (0x663, 0x178b_fbff),
        }
    }

    #[test]
    fn every_structure_is_where_it_is_looked_for() {
        let [(at, entry), (_, table)] = build(&config(4 << 30));
        assert_eq!(at % 16, 0);
        assert_eq!(entry.len(), 24);
        assert_eq!(
            entry.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
            0
        );
        let found = parse(&table);
        let kinds: Vec<u8> = found.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [0, 1, 3, 4, 4, 16, 17, 19, 19, 32, 127]);
        let lens: Vec<usize> = found.iter().map(|(_, bytes, _)| bytes.len()).collect();
        assert_eq!(lens, [24, 27, 22, 48, 48, 23, 40, 31, 31, 11, 4]);
        assert_eq!(found[1].2, ["QEMU", "Standard PC", "pc-q35-10.0"]);
        assert_eq!(found[1].1[8..12], [0x33, 0x22, 0x11, 0]);
        assert_eq!(found[6].1[12..14], 4096u16.to_le_bytes());
    }

    #[test]
    fn large_memory_is_several_devices() {
        let [_, (_, table)] = build(&config(5 << 40));
        let found = parse(&table);
        assert_eq!(found.iter().filter(|(kind, ..)| *kind == 17).count(), 64);
        let range = found.iter().rfind(|(kind, ..)| *kind == 19).unwrap();
        assert_eq!(range.1[4..8], [0xff; 4]);
        assert_eq!(range.1[15..23], (4u64 << 30).to_le_bytes());
    }
}
