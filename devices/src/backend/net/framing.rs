//! Frames in a stream of bytes: four bytes of length, big-endian, and then the bare Ethernet
//! frame, as QEMU, passt and others write them.

/// Bytes of the length before each frame.
pub(super) const PREFIX: usize = 4;
/// Longest frame that is sent or taken: what QEMU takes, a segment of 64 KiB and its headers.
pub(super) const MOST_FRAME: usize = (64 << 10) + (4 << 10);
/// Bytes that are read at once. More than the longest frame, so that this always fits.
const ROOM: usize = 128 << 10;

/// What stands next in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A whole frame.
    Frame(&'a [u8]),
    /// Not enough yet.
    More,
    /// No frame is as long as this: the peer speaks something else.
    TooLong(u32),
}

/// Collects bytes and gives out frames.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Empty until the first byte is to come.
    room: Vec<u8>,
    start: usize,
    end: usize,
}

impl Assembler {
    /// The next frame, which is then gone. A frame of no bytes is none.
    pub fn next(&mut self) -> Next<'_> {
        loop {
            let waiting = self.room.get(self.start..self.end).unwrap_or_default();
            let Some((prefix, rest)) = waiting.split_first_chunk::<PREFIX>() else {
                return Next::More;
            };
            let told = u32::from_be_bytes(*prefix);
            let len = match usize::try_from(told) {
                Ok(len) if len <= MOST_FRAME => len,
                _ => return Next::TooLong(told),
            };
            if rest.len() < len {
                return Next::More;
            }
            let first = self.start.saturating_add(PREFIX);
            self.start = first.saturating_add(len);
            if len > 0 {
                return Next::Frame(self.room.get(first..self.start).unwrap_or_default());
            }
        }
    }

    /// Whether [`Self::next`] has something to say without more bytes.
    pub fn has_more(&self) -> bool {
        let waiting = self.room.get(self.start..self.end).unwrap_or_default();
        waiting
            .split_first_chunk::<PREFIX>()
            .is_some_and(|(prefix, rest)| {
                let len = u32::from_be_bytes(*prefix);
                usize::try_from(len).is_ok_and(|len| len > MOST_FRAME || len <= rest.len())
            })
    }

    /// Where the next bytes go to; never empty after [`Next::More`].
    pub fn space(&mut self) -> &mut [u8] {
        if self.room.is_empty() {
            self.room = vec![0; ROOM];
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if ROOM.saturating_sub(self.start) < PREFIX.saturating_add(MOST_FRAME) {
            // What has begun fits behind this, whatever its length is.
            self.room.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        self.room.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were put there.
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.room.len());
    }

    /// Forgets everything, for another connection.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
#[path = "framing_test.rs"]
mod tests;
