//! Where a dump goes: a file, in which zeroes need not be written, or a pipe.
#![allow(unsafe_code)] // writes guest memory from where it lies

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use super::guest::GuestRange;
use crate::sys;

/// Zeroes that are written at once, at most.
const ZEROES: usize = 64 << 10;

/// A file that is written from front to back, or by offset.
pub struct Output {
    file: File,
    /// Where in the file it begins; `None` for what has no places.
    start: Option<u64>,
    /// What is skipped reads as zeroes.
    holes: bool,
    /// Bytes written and skipped.
    at: u64,
    /// The last ones were skipped.
    hole: bool,
}

impl Output {
    /// Writes into a file from where it stands.
    pub fn new(file: File) -> Self {
        let start = start(&file);
        let behind_all = |start| {
            let found = file.metadata();
            found.is_ok_and(|found| found.is_file() && found.len() <= start)
        };
        Output {
            holes: start.is_some_and(behind_all),
            file,
            start,
            at: 0,
            hole: false,
        }
    }

    /// How many bytes there are.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Writes behind what there is.
    ///
    /// # Errors
    /// The host's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the bytes of a slice are readable.
        unsafe { self.push(bytes.as_ptr() as u64, bytes.len() as u64) }
    }

    /// Writes at an offset; what is there already stays.
    ///
    /// # Errors
    /// The host's; where there are no places.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = self.start.ok_or(io::ErrorKind::NotSeekable)?;
        self.file.write_all_at(bytes, start.saturating_add(offset))
    }

    /// Zeroes behind what there is.
    ///
    /// # Errors
    /// The host's.
    pub fn zeroes(&mut self, len: u64) -> io::Result<()> {
        if self.holes {
            self.went_on(len, true);
            return Ok(());
        }
        let most = usize::try_from(len).map_or(ZEROES, |len| len.min(ZEROES));
        // Not a constant: it would be in the program's file.
        let zeroes = vec![0; most];
        let mut left = len;
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX);
            let some = zeroes.get(..some).unwrap_or(&zeroes);
            self.write(some)?;
            left = left.saturating_sub(some.len() as u64);
        }
        Ok(())
    }

    /// Guest memory behind what there is; `len` bytes of `range` from `from` on, which it has.
    ///
    /// # Errors
    /// The host's.
    pub fn memory(&mut self, range: &GuestRange, from: u64, len: u64) -> io::Result<()> {
        let address = range.host(from, len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: guest memory, as `GuestRange::host` checked, which stays mapped until the process
        // ends; the kernel copies it whatever the guest writes there.
        unsafe { self.push(address, len) }
    }

    /// Writes `len` bytes from `address` on, behind what there is.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn push(&mut self, address: u64, len: u64) -> io::Result<()> {
        let mut done = 0u64;
        while done < len {
            let (from, left) = (address.wrapping_add(done), len.saturating_sub(done));
            // SAFETY: part of the bytes that the caller speaks for.
            match unsafe { self.write_some(from, left) } {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => {
                    self.went_on(wrote, false);
                    done = done.saturating_add(wrote);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Somebody else's pipe; blocking or not is theirs to say.
                    let mut wait = [sys::poll_entry(self.file.as_raw_fd(), libc::POLLOUT)];
                    sys::poll(&mut wait, None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One write(2), or pwrite(2) where the file has places.
    ///
    /// # Safety
    /// `len` bytes from `address` on are readable.
    unsafe fn write_some(&self, address: u64, len: u64) -> io::Result<u64> {
        let pointer = address as *const libc::c_void;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let fd = self.file.as_raw_fd();
        let wrote = match self.start {
            Some(start) => {
                let offset = i64::try_from(start.saturating_add(self.at));
                let offset = offset.map_err(|_| io::ErrorKind::FileTooLarge)?;
                // SAFETY: readable, says the caller.
                unsafe { libc::pwrite(fd, pointer, len, offset) }
            }
            // SAFETY: as above.
            None => unsafe { libc::write(fd, pointer, len) },
        };
        u64::try_from(wrote).map_err(|_| io::Error::last_os_error())
    }

    fn went_on(&mut self, bytes: u64, hole: bool) {
        self.at = self.at.saturating_add(bytes);
        if bytes > 0 {
            self.hole = hole;
        }
    }

    /// The end: a hole there is part of the file.
    ///
    /// # Errors
    /// The host's.
    pub fn finish(&mut self) -> io::Result<()> {
        match (self.hole, self.start) {
            (true, Some(start)) => self.file.set_len(start.saturating_add(self.at)),
            _ => Ok(()),
        }
    }
}

/// Where a file stands; `None` where parts cannot be written by offset.
pub fn start(mut file: &File) -> Option<u64> {
    let appends = sys::status_flags(file).is_ok_and(|flags| flags & libc::O_APPEND != 0);
    file.stream_position().ok().filter(|_| !appends)
}

#[cfg(test)]
mod tests {
    use super::super::guest::tests::two_pieces;
    use super::*;
    use std::io::{Read, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_new_file_has_holes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        let bytes = vec![7u8; 8192];
        let memory = two_pieces(&bytes, 4096, 1 << 20);
        let mut out = Output::new(file.try_clone().unwrap());
        assert_eq!(start(&file), Some(6));
        out.write(b"head").unwrap();
        out.zeroes(1 << 20).unwrap();
        out.memory(&memory.ranges()[1], 4000, 96).unwrap();
        out.zeroes(1 << 20).unwrap();
        out.finish().unwrap();
        assert_eq!(out.position(), 4 + (2 << 20) + 96);
        assert!(out.memory(&memory.ranges()[1], 4000, 97).is_err());
        let mut found = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut found).unwrap();
        let mut expected = b"beforehead".to_vec();
        expected.resize(expected.len() + (1 << 20), 0);
        expected.extend([7; 96]);
        expected.resize(expected.len() + (1 << 20), 0);
        assert!(found == expected);
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn what_was_there_does_not_shine_through() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[9; 300_000]).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut out = Output::new(file.try_clone().unwrap());
        out.zeroes(200_000).unwrap();
        out.finish().unwrap();
        let mut found = vec![1; 200_001];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found.iter().take(200_000).all(|byte| *byte == 0));
        assert_eq!(found.last(), Some(&9));
    }

    #[test]
    fn a_pipe_gets_all_bytes() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        let bytes = vec![7u8; 8192];
        let memory = two_pieces(&bytes, 4096, 1 << 20);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        crate::sys::set_nonblocking(&file).unwrap();
        assert_eq!(start(&file), None);
        let mut out = Output::new(file);
        for _ in 0..100 {
            out.memory(&memory.ranges()[0], 0, 4096).unwrap();
            out.write(&[8; 4096]).unwrap();
        }
        assert!(out.write_at(0, b"x").is_err());
        out.finish().unwrap();
        drop(out);
        let all = reading.join().unwrap();
        assert_eq!(all.len(), 819_200);
    }

    #[test]
    fn a_full_disk_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut out = Output::new(full);
        let error = out.write(b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let bytes = [7u8; 64];
        let memory = two_pieces(&bytes, 32, 1 << 20);
        let error = out.memory(&memory.ranges()[0], 0, 32).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
