//! The machine's state on its way into an image and out of it, in pieces that images like.

use std::io::{self, Read, Write};
use std::sync::Arc;

use block::{BlockError, Buffers, HostBuffer, Snapshots};

use super::Progress;

/// Bytes that are written at once: whole clusters of any image.
const PIECE: usize = 4 << 20;
/// For direct I/O.
const ALIGN: usize = 4096;

/// Writes the state that the next snapshot is to have.
pub struct StateWriter<'a> {
    image: &'a dyn Snapshots,
    /// Where the piece begins.
    at: u64,
    piece: Buffers,
    /// Bytes of the piece.
    filled: usize,
}

impl<'a> StateWriter<'a> {
    pub fn new(image: &'a dyn Snapshots) -> Self {
        StateWriter {
            image,
            at: 0,
            piece: Buffers::owned(Arc::new(HostBuffer::new(PIECE, ALIGN))),
            filled: 0,
        }
    }

    fn write_piece(&mut self) -> io::Result<()> {
        let len = self.filled as u64;
        let piece = self.piece.slice(0, len);
        self.image.write_vm_state(self.at, &piece).map_err(cause)?;
        self.at = self.at.saturating_add(len);
        self.filled = 0;
        Ok(())
    }
}

impl Write for StateWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self
            .piece
            .slice(self.filled as u64, u64::MAX)
            .write_at(0, bytes);
        self.filled = self.filled.saturating_add(taken);
        if self.filled >= PIECE {
            self.write_piece()?;
        }
        Ok(taken)
    }

    /// Writes the last piece. More can only be written where that was a whole one.
    fn flush(&mut self) -> io::Result<()> {
        match self.filled {
            0 => Ok(()),
            _ => self.write_piece(),
        }
    }
}

/// The host's own words, where it has said something.
fn cause(error: BlockError) -> io::Error {
    match error {
        BlockError::Host { source, .. } => source,
        error => io::Error::other(error.to_string()),
    }
}

/// Reads a state, and tells how far it is.
pub struct StateReader<'a> {
    pub state: Box<dyn Read + 'a>,
    pub done: u64,
    pub total: u64,
    pub progress: Progress<'a>,
}

impl Read for StateReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.state.read(into)?;
        self.done = self.done.saturating_add(len as u64);
        // Nothing ends it: half of a machine is none.
        let _ = (self.progress)(self.done, self.total);
        Ok(len)
    }
}
