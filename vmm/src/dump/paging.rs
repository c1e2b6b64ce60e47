//! The page tables of a processor (Intel SDM 3A, chapter 5), as a pure function of memory. Guests
//! make them, so nothing in them is trusted: what a walk looks at is bounded.

use crate::vcpu::view::CpuView;

/// Reads bytes at a guest physical address; false where some of them are no memory.
pub type Read<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

/// Bytes of the largest table.
const TABLE: usize = 4096;

/// The most tables that one walk looks into; 512 GiB in pages of 4 KiB have so many.
const MAX_TABLES: u32 = 1 << 18;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;
/// Bits 12 to 51 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// How tables are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Two levels of 1024 entries of four bytes; with large pages or not (CR4.PSE).
    Bits32(bool),
    /// Three levels, of which the first has four entries.
    Pae,
    /// Four levels of 512 entries.
    Level4,
    /// Five of them.
    Level5,
}

/// A level of tables.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// The lowest bit of a virtual address that it decodes.
    shift: u32,
    /// How many bits it decodes.
    bits: u32,
    /// An entry may lead to a page here.
    large: bool,
    /// Entries have rights.
    rights: bool,
}

const fn level(shift: u32, bits: u32, large: bool) -> Level {
    Level {
        shift,
        bits,
        large,
        rights: true,
    }
}

const PT: Level = level(12, 9, true);
const PD: Level = level(21, 9, true);
const PDPT: Level = level(30, 9, true);
const PML4: Level = level(39, 9, false);
const PML5: Level = level(48, 9, false);
const PAE_TOP: Level = Level {
    rights: false,
    ..level(30, 2, false)
};

impl Mode {
    const fn levels(self) -> &'static [Level] {
        const BITS32: [Level; 2] = [level(22, 10, true), level(12, 10, true)];
        const BITS32_SMALL: [Level; 2] = [level(22, 10, false), level(12, 10, true)];
        match self {
            Mode::Bits32(true) => &BITS32,
            Mode::Bits32(false) => &BITS32_SMALL,
            Mode::Pae => &[PAE_TOP, PD, PT],
            Mode::Level4 => &[PML4, PDPT, PD, PT],
            Mode::Level5 => &[PML5, PML4, PDPT, PD, PT],
        }
    }

    /// Bits of a virtual address; the last is repeated above.
    const fn width(self) -> u32 {
        match self {
            Mode::Bits32(_) | Mode::Pae => 32,
            Mode::Level4 => 48,
            Mode::Level5 => 57,
        }
    }
}

/// Where a processor finds its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    mode: Mode,
    root: u64,
}

/// A page that is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its virtual address.
    pub virt: u64,
    /// Its guest physical address.
    pub phys: u64,
    /// Bytes.
    pub size: u64,
    /// The entry that maps it.
    pub entry: u64,
    /// All entries on the way let programs read it.
    pub user: bool,
    /// All entries on the way let it be written.
    pub write: bool,
}

/// The tables lead in circles, or map more than anybody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// Says that a walk may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// On.
    On,
    /// No further.
    Stop,
}

impl Paging {
    /// How this processor translates; `None` where virtual addresses are physical ones.
    pub fn of(cpu: &CpuView) -> Option<Self> {
        let sregs = &cpu.sregs;
        if sregs.cr0 & CR0_PG == 0 {
            return None;
        }
        let (mode, mask) = if sregs.efer & EFER_LMA != 0 {
            match sregs.cr4 & CR4_LA57 {
                0 => (Mode::Level4, ADDRESS),
                _ => (Mode::Level5, ADDRESS),
            }
        } else if sregs.cr4 & CR4_PAE != 0 {
            (Mode::Pae, 0xffff_ffe0)
        } else {
            (Mode::Bits32(sregs.cr4 & CR4_PSE != 0), 0xffff_f000)
        };
        Some(Paging {
            mode,
            root: sregs.cr3 & mask,
        })
    }

    /// The guest physical address behind a virtual one.
    pub fn translate(self, read: Read, virt: u64) -> Option<u64> {
        if self.mode.width() > 32 && self.canonical(virt) != virt {
            return None;
        }
        let mut table = self.root;
        let (last, levels) = self.mode.levels().split_last()?;
        for level in levels {
            let entry = self.entry(read, table, index(*level, virt))?;
            if entry & PRESENT == 0 {
                return None;
            }
            if level.large && entry & LARGE != 0 {
                return Some(self.page(*level, entry) | virt & (size(*level) - 1));
            }
            table = entry & ADDRESS;
        }
        let entry = self.entry(read, table, index(*last, virt))?;
        (entry & PRESENT != 0).then(|| self.page(*last, entry) | virt & (size(*last) - 1))
    }

    /// Shows every page that is mapped, in order of virtual address.
    ///
    /// # Errors
    /// When there is no end of tables.
    pub fn walk(self, read: Read, visit: &mut dyn FnMut(Leaf) -> Go) -> Result<(), TooMany> {
        self.walk_within(MAX_TABLES, read, visit)
    }

    fn walk_within(
        self,
        tables: u32,
        read: Read,
        visit: &mut dyn FnMut(Leaf) -> Go,
    ) -> Result<(), TooMany> {
        let mut walk = Walk {
            paging: self,
            read,
            visit,
            left: tables,
        };
        let all = (USER | WRITE, 0);
        walk.table(self.mode.levels(), self.root, all).map(|_| ())
    }

    /// With the highest bit repeated above, as addresses of 64 bits are written.
    const fn canonical(self, virt: u64) -> u64 {
        let width = self.mode.width();
        if width == 32 {
            return virt;
        }
        let unused = 64 - width;
        ((virt << unused).cast_signed() >> unused).cast_unsigned()
    }

    /// Bytes of an entry.
    const fn entry_size(self) -> usize {
        match self.mode {
            Mode::Bits32(_) => 4,
            Mode::Pae | Mode::Level4 | Mode::Level5 => 8,
        }
    }

    fn entry(self, read: Read, table: u64, index: u64) -> Option<u64> {
        let size = self.entry_size();
        let at = table.checked_add(index.checked_mul(size as u64)?)?;
        let mut bytes = [0; 8];
        let found = read(at, bytes.get_mut(..size)?);
        found.then(|| u64::from_le_bytes(bytes))
    }

    /// The address of the page that an entry leads to.
    fn page(self, level: Level, entry: u64) -> u64 {
        match self.mode {
            // Bits 13 to 20 are bits 32 to 39 of the address (SDM 3A, table 5-4).
            Mode::Bits32(_) if level.shift == 22 => {
                entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32
            }
            Mode::Bits32(_) => entry & 0xffff_f000,
            Mode::Pae | Mode::Level4 | Mode::Level5 => entry & ADDRESS & !(size(level) - 1),
        }
    }
}

const fn size(level: Level) -> u64 {
    1 << level.shift
}

const fn index(level: Level, virt: u64) -> u64 {
    virt >> level.shift & ((1 << level.bits) - 1)
}

/// An entry of four or eight bytes, lowest first.
fn number(bytes: &[u8]) -> u64 {
    let mut long = [0; 8];
    for (to, from) in long.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(long)
}

struct Walk<'a> {
    paging: Paging,
    read: Read<'a>,
    visit: &'a mut dyn FnMut(Leaf) -> Go,
    /// How many tables may still be looked into.
    left: u32,
}

impl Walk<'_> {
    fn table(
        &mut self,
        levels: &[Level],
        table: u64,
        (rights, base): (u64, u64),
    ) -> Result<Go, TooMany> {
        let Some((level, below)) = levels.split_first() else {
            return Ok(Go::On);
        };
        self.left = self.left.checked_sub(1).ok_or(TooMany)?;
        let size_of_entry = self.paging.entry_size();
        let len = size_of_entry.checked_shl(level.bits).unwrap_or(0);
        let mut bytes = [0; TABLE];
        let Some(bytes) = bytes.get_mut(..len) else {
            return Ok(Go::On);
        };
        // What is no memory maps nothing.
        if !(self.read)(table, bytes) {
            return Ok(Go::On);
        }
        for (index, entry) in (0u64..).zip(bytes.chunks(size_of_entry)) {
            let entry = number(entry);
            if entry & PRESENT == 0 {
                continue;
            }
            let virt = base | index << level.shift;
            let rights = match level.rights {
                true => rights & entry,
                false => rights,
            };
            let leaf = below.is_empty() || level.large && entry & LARGE != 0;
            let go = if leaf {
                (self.visit)(Leaf {
                    virt: self.paging.canonical(virt),
                    phys: self.paging.page(*level, entry),
                    size: size(*level),
                    entry,
                    user: rights & USER != 0,
                    write: rights & WRITE != 0,
                })
            } else {
                self.table(below, entry & ADDRESS, (rights, virt))?
            };
            if go == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        Ok(Go::On)
    }
}

#[cfg(test)]
#[path = "paging_test.rs"]
mod tests;
