//! Memory and page tables as text, in the layout that people know from QEMU.

use std::fmt::Write;

use super::hmp::memory::Wish;
use crate::dump::guest::GuestMemory;
use crate::dump::paging::{Go, Leaf, Paging};

/// The most lines that a description of page tables has.
const MOST_LINES: u32 = 1 << 18;

/// How values are shown: as the last command had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextFormat {
    /// o, d, u, x, i or c.
    pub letter: char,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
}

impl Default for TextFormat {
    fn default() -> Self {
        TextFormat {
            letter: 'x',
            size: 4,
        }
    }
}

impl TextFormat {
    /// With what was wished for.
    pub fn with(self, wish: Wish) -> Self {
        TextFormat {
            letter: wish.letter.unwrap_or(self.letter),
            size: wish.size.unwrap_or(self.size),
        }
    }
}

/// `count` values from `address` on, in rows; ends where there is no memory.
pub(super) fn memory(
    memory: &GuestMemory,
    paging: Option<Paging>,
    address: u64,
    format: TextFormat,
    count: u64,
) -> String {
    let row = if format.size == 1 { 8 } else { 16 };
    let size = match format.letter {
        'c' => 1,
        _ => usize::from(format.size),
    };
    let (mut text, mut at) = (String::new(), address);
    let mut left = count.saturating_mul(u64::from(format.size));
    while left > 0 {
        let len = usize::try_from(left).map_or(row, |left| left.min(row));
        let mut bytes = vec![0; len];
        let _ = write!(text, "{at:016x}:");
        if !read(memory, paging, at, &mut bytes) {
            text.push_str(" Cannot access memory\n");
            break;
        }
        for value in bytes.chunks(size) {
            text.push(' ');
            one(&mut text, format.letter, value);
        }
        text.push('\n');
        at = at.wrapping_add(len as u64);
        left = left.saturating_sub(len as u64);
    }
    text
}

/// Reads through page tables, which may lead elsewhere at every 4 KiB.
fn read(memory: &GuestMemory, paging: Option<Paging>, at: u64, bytes: &mut [u8]) -> bool {
    let Some(paging) = paging else {
        return memory.read(at, bytes);
    };
    let (mut at, mut rest) = (at, bytes);
    while !rest.is_empty() {
        let in_page = 4096u64.saturating_sub(at % 4096).min(rest.len() as u64);
        let (now, later) = rest.split_at_mut(usize::try_from(in_page).unwrap_or(0));
        let physical = paging.translate(&|gpa, bytes: &mut [u8]| memory.read(gpa, bytes), at);
        if !physical.is_some_and(|physical| memory.read(physical, now)) {
            return false;
        }
        at = at.wrapping_add(in_page);
        rest = later;
    }
    true
}

/// One value of memory, as wide as the widest of its size.
fn one(text: &mut String, letter: char, bytes: &[u8]) {
    let mut long = [0; 8];
    for (to, from) in long.iter_mut().zip(bytes) {
        *to = *from;
    }
    let value = u64::from_le_bytes(long);
    let bits = bytes.len().saturating_mul(8);
    let decimals = bits.saturating_mul(10).div_ceil(33);
    let _ = match letter {
        'o' => write!(text, "{:>1$}", octal(value), bits.div_ceil(3)),
        'd' if bits == 64 => write!(text, "{:>decimals$}", value.cast_signed()),
        'd' | 'u' => write!(text, "{value:>decimals$}"),
        'c' => write!(text, "{}", character(value)),
        _ => write!(text, "0x{value:0width$x}", width = bits / 4),
    };
}

fn octal(value: u64) -> String {
    match value {
        0 => "0".into(),
        value => format!("0{value:o}"),
    }
}

fn character(value: u64) -> String {
    let shown = match u8::try_from(value) {
        Ok(b'\'') => "\\'".into(),
        Ok(b'\\') => "\\\\".into(),
        Ok(b'\n') => "\\n".into(),
        Ok(b'\r') => "\\r".into(),
        Ok(byte @ 32..=126) => char::from(byte).to_string(),
        _ => format!("\\x{value:02x}"),
    };
    format!("'{shown}'")
}

/// A value as print shows it.
pub(super) fn value(letter: char, value: i64) -> String {
    let bits = value.cast_unsigned();
    match (letter, bits) {
        ('o', _) => format!("{}\n", octal(bits)),
        ('x', 0) => "0\n".into(),
        ('x', _) => format!("{bits:#x}\n"),
        ('u', _) => format!("{bits}\n"),
        ('c', _) => format!("{}\n", character(bits)),
        _ => format!("{value}\n"),
    }
}

/// The physical address behind a virtual one.
pub(super) fn physical(memory: &GuestMemory, paging: Option<Paging>, address: u64) -> String {
    let found = match paging {
        Some(paging) => paging.translate(&|gpa, bytes: &mut [u8]| memory.read(gpa, bytes), address),
        None => Some(address),
    };
    match found {
        Some(0) => "gpa: 0\n".into(),
        Some(found) => format!("gpa: {found:#x}\n"),
        None => "Unmapped\n".into(),
    }
}

/// Where in this process guest memory is.
pub(super) fn host(memory: &GuestMemory, address: u64) -> String {
    let found = memory.find(address).and_then(|range| {
        let host = range.host(address.saturating_sub(range.base), 1)?;
        Some((range.backend(), host))
    });
    match found {
        Some((backend, host)) => {
            format!("Host virtual address for {address:#x} ({backend}) is {host:#x}\n")
        }
        None => format!("No memory is mapped at address {address:#x}\n"),
    }
}

const MORE: &str = "... (there is more)\n";

/// Each page that is mapped, a line each.
pub(super) fn pages(memory: &GuestMemory, paging: Paging) -> String {
    let (mut text, mut left) = (String::new(), MOST_LINES);
    let walked = paging.walk(
        &|gpa, bytes: &mut [u8]| memory.read(gpa, bytes),
        &mut |leaf| {
            let Some(fewer) = left.checked_sub(1) else {
                text.push_str(MORE);
                return Go::Stop;
            };
            left = fewer;
            // The bits of the entry (Intel SDM 3A, table 5-20): no execution, global, large page,
            // dirty, accessed, cache disabled, write-through, user, writable.
            let bits = [
                (63, 'X'),
                (8, 'G'),
                (7, 'P'),
                (6, 'D'),
                (5, 'A'),
                (4, 'C'),
                (3, 'T'),
                (2, 'U'),
                (1, 'W'),
            ];
            let letters = bits.map(|(bit, letter)| match leaf.entry >> bit & 1 {
                0 => '-',
                _ => letter,
            });
            let letters = String::from_iter(letters);
            let _ = writeln!(text, "{:016x}: {:016x} {letters}", leaf.virt, leaf.phys);
            Go::On
        },
    );
    if walked.is_err() {
        text.push_str(MORE);
    }
    text
}

/// Stretches of virtual memory with the same rights.
pub(super) fn mapped(memory: &GuestMemory, paging: Paging) -> String {
    let (mut text, mut left) = (String::new(), MOST_LINES);
    let mut last: Option<Leaf> = None;
    let walked = paging.walk(
        &|gpa, bytes: &mut [u8]| memory.read(gpa, bytes),
        &mut |leaf| {
            match &mut last {
                Some(last) if goes_on(last, &leaf) => {
                    last.size = last.size.saturating_add(leaf.size)
                }
                _ => {
                    let Some(fewer) = left.checked_sub(1) else {
                        text.push_str(MORE);
                        last = None;
                        return Go::Stop;
                    };
                    left = fewer;
                    if let Some(last) = last.replace(leaf) {
                        stretch(&mut text, &last);
                    }
                }
            }
            Go::On
        },
    );
    if let Some(last) = last {
        stretch(&mut text, &last);
    }
    if walked.is_err() {
        text.push_str(MORE);
    }
    text
}

fn goes_on(last: &Leaf, next: &Leaf) -> bool {
    last.virt.checked_add(last.size) == Some(next.virt)
        && (last.user, last.write) == (next.user, next.write)
}

fn stretch(text: &mut String, leaf: &Leaf) {
    let end = leaf.virt.wrapping_add(leaf.size);
    let user = if leaf.user { 'u' } else { '-' };
    let write = if leaf.write { 'w' } else { '-' };
    let _ = writeln!(
        text,
        "{:016x}-{end:016x} {:016x} {user}r{write}",
        leaf.virt, leaf.size
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::guest::tests::two_pieces;
    use crate::vcpu::view::CpuView;

    /// The reset vector of some firmware, and what follows it.
    const BYTES: [u8; 16] = [
        0xea, 0x5b, 0xe0, 0x00, 0xf0, 0x30, 0x36, 0x2f, 0x32, 0x33, 0x2f, 0x39, 0x39, 0x00, 0xfc,
        0x00,
    ];

    #[test]
    fn memory_is_shown_as_the_reference_shows_it() {
        let mut bytes = vec![0; 4096];
        bytes.extend(BYTES);
        let ram = two_pieces(&bytes, 4096, 0xffff_fff0);
        for (letter, size, count, wanted) in [
            (
                'x',
                1,
                20,
                "00000000fffffff0: 0xea 0x5b 0xe0 0x00 0xf0 0x30 0x36 0x2f\n\
                 00000000fffffff8: 0x32 0x33 0x2f 0x39 0x39 0x00 0xfc 0x00\n\
                 0000000100000000: Cannot access memory\n",
            ),
            ('x', 4, 2, "00000000fffffff0: 0x00e05bea 0x2f3630f0\n"),
            ('d', 1, 4, "00000000fffffff0: 234  91 224   0\n"),
            ('d', 2, 4, "00000000fffffff0: 23530   224 12528 12086\n"),
            (
                'd',
                8,
                2,
                "00000000fffffff0:  3401960375889976298    70931939903615794\n",
            ),
            (
                'o',
                8,
                2,
                "00000000fffffff0: 0274661417000070055752   03740003447113631462\n",
            ),
            ('o', 2, 4, "00000000fffffff0: 055752   0340 030360 027466\n"),
            ('o', 1, 4, "00000000fffffff0: 0352 0133 0340   0\n"),
            (
                'c',
                2,
                8,
                "00000000fffffff0: '\\xea' '[' '\\xe0' '\\x00' '\\xf0' '0' '6' '/' '2' '3' '/' '9' \
                 '9' '\\x00' '\\xfc' '\\x00'\n",
            ),
            ('x', 4, 0, ""),
        ] {
            let format = TextFormat { letter, size };
            let shown = memory(&ram, None, 0xffff_fff0, format, count);
            assert_eq!(shown, wanted, "{letter} {size}");
        }
    }

    #[test]
    fn values_are_shown_as_the_reference_shows_them() {
        for (letter, number, wanted) in [
            ('x', 0, "0\n"),
            ('x', -1, "0xffffffffffffffff\n"),
            ('u', -1, "18446744073709551615\n"),
            ('d', -1, "-1\n"),
            ('i', 5, "5\n"),
            ('o', 8, "010\n"),
            ('o', 0, "0\n"),
            ('c', 65, "'A'\n"),
            ('c', 10, "'\\n'\n"),
            ('c', 0x4142_4344, "'\\x41424344'\n"),
        ] {
            assert_eq!(value(letter, number), wanted);
        }
    }

    #[test]
    fn page_tables_are_shown() {
        let mut bytes = vec![0u8; 0x8000];
        let mut set = |table: usize, index: usize, entry: u64| {
            let at = table + index * 8;
            bytes[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        };
        set(0x1000, 0, 0x2007);
        set(0x1000, 256, 0x2003);
        set(0x2000, 0, 0x3007);
        set(0x3000, 0, 0x4007);
        set(0x3000, 1, 0x8000_0000_0020_00e3);
        set(0x4000, 1, 0x5067);
        set(0x4000, 2, 0x6065);
        set(0x4000, 3, 0x7165);
        let ram = two_pieces(&bytes, 0x8000 - 16, 1 << 32);
        let mut cpu = CpuView::power_on(true);
        (cpu.sregs.cr0, cpu.sregs.cr3) = (1 << 31 | 1, 0x1000);
        (cpu.sregs.cr4, cpu.sregs.efer) = (1 << 5, 1 << 10);
        let paging = Paging::of(&cpu).unwrap();
        let all = pages(&ram, paging);
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "0000000000001000: 0000000000005000 ---DA--UW",
                "0000000000002000: 0000000000006000 ---DA--U-",
                "0000000000003000: 0000000000007000 -G-DA--U-",
                "0000000000200000: 0000000000200000 X-PDA---W",
            ]
        );
        assert_eq!((lines.len(), &lines[4][..16]), (8, "ffff800000001000"));
        assert_eq!(
            mapped(&ram, paging),
            "0000000000001000-0000000000002000 0000000000001000 urw\n\
             0000000000002000-0000000000004000 0000000000002000 ur-\n\
             0000000000200000-0000000000400000 0000000000200000 -rw\n\
             ffff800000001000-ffff800000002000 0000000000001000 -rw\n\
             ffff800000002000-ffff800000004000 0000000000002000 -r-\n\
             ffff800000200000-ffff800000400000 0000000000200000 -rw\n"
        );
        assert_eq!(physical(&ram, Some(paging), 0x1234), "gpa: 0x5234\n");
        assert_eq!(physical(&ram, Some(paging), 0x4000), "Unmapped\n");
        assert_eq!(physical(&ram, None, 0), "gpa: 0\n");
        let format = TextFormat::default();
        let shown = memory(&ram, Some(paging), 0x1ff8, format, 2);
        assert_eq!(shown, "0000000000001ff8: 0x00000000 0x00000000\n");
        let at_end = memory(&ram, Some(paging), 0x3ffc, format, 2);
        assert_eq!(at_end, "0000000000003ffc: Cannot access memory\n");
        assert!(
            host(&ram, 1 << 32).starts_with("Host virtual address for 0x100000000 (pc.ram) is 0x")
        );
        assert_eq!(
            host(&ram, 0x8000),
            "No memory is mapped at address 0x8000\n"
        );
    }

    #[test]
    fn endless_tables_are_cut_off() {
        let mut bytes = vec![0u8; 0x2000];
        for entry in bytes.chunks_mut(8) {
            entry.copy_from_slice(&0x1003u64.to_le_bytes());
        }
        let ram = two_pieces(&bytes, 0x2000, 1 << 32);
        let mut cpu = CpuView::power_on(true);
        (cpu.sregs.cr0, cpu.sregs.cr3) = (1 << 31 | 1, 0x1000);
        cpu.sregs.efer = 1 << 10;
        let paging = Paging::of(&cpu).unwrap();
        let text = pages(&ram, paging);
        assert!(text.ends_with(MORE));
        assert_eq!(text.lines().count(), (1 << 18) + 1);
    }
}
