//! The machine's state on its way into an image and out of it, in pieces that images like.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use block::{BlockError, Buffers, HostBuffer};

use super::Progress;
use crate::control::blockdev::StateNode;
use crate::event::MailSender;
use crate::threads::{self, ThreadKind};

/// Bytes that are written at once: whole clusters of any image.
const PIECE: usize = 4 << 20;
/// Pieces there are: one is filled while the others are written.
const PIECES: usize = 3;
/// For direct I/O.
const ALIGN: usize = 4096;

/// A piece with its place in the state.
type Placed = (u64, Buffers);

/// Writes the state that the next snapshot is to have. A thread of its own writes, while whoever
/// has this gathers the next piece.
pub struct StateWriter {
    full: SyncSender<Placed>,
    empty: Receiver<Buffers>,
    /// Where the piece begins.
    at: u64,
    piece: Buffers,
    /// Bytes of the piece.
    filled: usize,
    thread: JoinHandle<Option<io::Result<()>>>,
}

impl StateWriter {
    /// Begins. Nobody else uses the image until [`Self::finish`].
    ///
    /// # Errors
    /// When the host is out of threads.
    pub fn new(image: StateNode, mail: MailSender) -> io::Result<Self> {
        let (full, taken) = sync_channel(PIECES);
        let (given, empty) = sync_channel(PIECES);
        let piece = || Buffers::owned(Arc::new(HostBuffer::new(PIECE, ALIGN)));
        for _ in 1..PIECES {
            // There is room for all.
            let _ = given.send(piece());
        }
        let body = move || write_pieces(&image, &taken, &given);
        let thread = threads::spawn(ThreadKind::Worker, "snapshot", Some(mail), body)?;
        Ok(StateWriter {
            full,
            empty,
            at: 0,
            piece: piece(),
            filled: 0,
            thread,
        })
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// The image's.
    pub fn finish(self) -> io::Result<()> {
        drop((self.full, self.empty));
        match self.thread.join() {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => Err(gone()),
        }
    }

    fn send_piece(&mut self) -> io::Result<()> {
        let next = self.empty.recv().map_err(|_| gone())?;
        let piece = std::mem::replace(&mut self.piece, next);
        let len = std::mem::take(&mut self.filled) as u64;
        let placed = (self.at, piece.slice(0, len));
        self.at = self.at.saturating_add(len);
        self.full.send(placed).map_err(|_| gone())
    }
}

/// The thread has ended; it says why.
fn gone() -> io::Error {
    io::Error::other("nobody writes it")
}

fn write_pieces(
    image: &StateNode,
    taken: &Receiver<Placed>,
    given: &SyncSender<Buffers>,
) -> io::Result<()> {
    let snapshots = image.snapshots().map_err(io::Error::other)?;
    for (at, piece) in taken {
        snapshots.write_vm_state(at, &piece).map_err(cause)?;
        // At the end nobody waits for it. A short piece was the last one.
        let _ = given.send(piece);
    }
    Ok(())
}

impl Write for StateWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.piece.slice(self.filled as u64, u64::MAX);
        let taken = room.write_at(0, bytes);
        self.filled = self.filled.saturating_add(taken);
        if room.len() == taken as u64 {
            self.send_piece()?;
        }
        Ok(taken)
    }

    /// Lets the last piece be written, which may be short.
    fn flush(&mut self) -> io::Result<()> {
        match self.filled {
            0 => Ok(()),
            _ => self.send_piece(),
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
