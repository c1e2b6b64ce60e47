//! CRC-32 as in ISO 3309 (polynomial 0x04C11DB7, reflected), eight bytes at a time.

/// A checksum in the making.
#[derive(Debug, Clone, Copy)]
pub struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Crc(u32::MAX)
    }
}

const TABLES: [[u32; 256]; 8] = tables();

impl Crc {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> u32 {
        let mut crc = Crc::default();
        crc.add(bytes);
        crc.value()
    }

    /// Goes on with these bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let mixed = u64::from_le_bytes(*eight) ^ u64::from(self.0);
            let mut next = 0;
            for (table, byte) in TABLES.iter().rev().zip(mixed.to_le_bytes()) {
                next ^= entry(table, byte);
            }
            self.0 = next;
        }
        for byte in rest {
            let low = self.0.to_le_bytes()[0] ^ byte;
            self.0 = self.0 >> 8 ^ entry(&TABLES[0], low);
        }
    }

    /// The checksum.
    pub const fn value(self) -> u32 {
        !self.0
    }
}

fn entry(table: &[u32; 256], byte: u8) -> u32 {
    table[usize::from(byte)]
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ 0xedb8_8320
            } else {
                value >> 1
            };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 255) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(Crc::of(b""), 0);
        assert_eq!(Crc::of(b"123456789"), 0xcbf4_3926);
        let long: Vec<u8> = (0..1000u32).map(|at| (at * 7) as u8).collect();
        for cut in [0, 1, 7, 8, 9, 500, 999] {
            let mut parts = Crc::default();
            parts.add(&long[..cut]);
            parts.add(&long[cut..]);
            assert_eq!(parts.value(), Crc::of(&long));
        }
    }
}
