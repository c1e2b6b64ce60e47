//! Entropy sources: rng-random and rng-builtin objects.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};

/// A source of random bytes. May be shared by several devices.
pub trait Entropy: Send + Sync {
    /// Fills the front of `buffer` and returns how much; 0 when none is at hand right now.
    /// Never blocks.
    ///
    /// # Errors
    /// When the source failed for good.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// A descriptor that is readable when bytes are at hand, for sources that can run dry.
    fn event_fd(&self) -> Option<RawFd> {
        None
    }
}

/// `rng-builtin`: the kernel's generator, which never runs dry once it is seeded.
#[derive(Debug, Default)]
pub struct BuiltinEntropy;

impl Entropy for BuiltinEntropy {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        super::kernel_random::fill(buffer)
    }
}

/// `rng-random`: a file or device; `/dev/urandom` unless the user chose another.
#[derive(Debug)]
pub struct FileEntropy {
    file: File,
}

impl FileEntropy {
    /// Takes a file opened for reading, without blocking (`O_NONBLOCK`).
    pub fn new(file: File) -> Self {
        FileEntropy { file }
    }
}

impl Entropy for FileEntropy {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.file).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Ok(0) if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            result => result,
        }
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}
