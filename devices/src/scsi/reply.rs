//! Building answers, byte by byte in the order of the standards (big-endian).

/// An answer under construction.
#[derive(Debug, Default)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// `len` zeroes.
    pub fn zeroes(len: usize) -> Self {
        Reply(vec![0; len])
    }

    /// Puts bytes at `at`; those that do not fit are left out.
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        self
    }

    /// One byte.
    pub fn byte(self, at: usize, value: u8) -> Self {
        self.put(at, &[value])
    }

    /// Two bytes.
    pub fn word(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    /// Four bytes.
    pub fn long(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    /// Eight bytes.
    pub fn wide(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    /// Text, cut or filled up with spaces to `len` bytes.
    pub fn text(self, at: usize, len: usize, text: &str) -> Self {
        let bytes: Vec<u8> = text
            .bytes()
            .chain(std::iter::repeat(b' '))
            .take(len)
            .collect();
        self.put(at, &bytes)
    }

    /// Appends bytes.
    pub fn push(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Says at `at` how many bytes follow those two.
    pub fn length_after(self, at: usize) -> Self {
        let rest = self.0.len().saturating_sub(at.saturating_add(2));
        self.word(at, u16::try_from(rest).unwrap_or(u16::MAX))
    }

    /// The bytes.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}
