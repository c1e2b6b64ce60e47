//! Where lines go: a file, or whatever standard error is. Nobody waits for it: what a pipe or a
//! full disk does not take is kept, up to a bound, and what is beyond that is counted.

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, FromRawFd};

use crate::sys;

/// Bytes that wait at most.
const ROOM: usize = 256 << 10;
/// What a pipe takes whole (PIPE_BUF): others may write into it too.
const AT_ONCE: usize = 4096;

/// One place that takes lines.
pub struct Output {
    target: Option<File>,
    /// Whether it may not take what is written, and has to be asked. Found out before threads
    /// write that may ask the kernel for nothing else.
    slow: bool,
    waiting: Vec<u8>,
    lost: u64,
}

impl Output {
    /// Standard error, whatever that is.
    pub const fn stderr() -> Self {
        Output {
            target: None,
            slow: true,
            waiting: Vec::new(),
            lost: 0,
        }
    }

    /// A file.
    pub fn file(file: File) -> Self {
        Output {
            slow: is_slow(&file),
            target: Some(file),
            waiting: Vec::new(),
            lost: 0,
        }
    }

    /// Takes a whole line, with its end.
    pub fn put(&mut self, line: &str) {
        self.drain();
        if self.waiting.len().saturating_add(line.len()) > ROOM {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        if self.lost > 0 && self.waiting.len() < ROOM / 2 {
            let lost = std::mem::take(&mut self.lost);
            let text = super::line(&format!("warning: {lost} messages were lost"));
            self.waiting.extend_from_slice(text.as_bytes());
        }
        self.waiting.extend_from_slice(line.as_bytes());
        self.drain();
    }

    /// Whether nothing waits any more.
    pub fn drained(&mut self) -> bool {
        self.drain();
        self.waiting.is_empty()
    }

    fn drain(&mut self) {
        let mut done = 0;
        while let Some(rest) = self.waiting.get(done..).filter(|rest| !rest.is_empty()) {
            match write(self.target.as_ref(), self.slow, rest) {
                Ok(count) if count > 0 => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Full, broken, or not ready: the next line tries again.
                Ok(_) | Err(_) => break,
            }
        }
        self.waiting.drain(..done);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(AT_ONCE);
        }
    }
}

/// Files on disks take all, or tell at once that they do not.
fn is_slow(file: &File) -> bool {
    !file.metadata().is_ok_and(|meta| meta.is_file())
}

/// Writes as much as is taken without waiting.
fn write(target: Option<&File>, slow: bool, bytes: &[u8]) -> io::Result<usize> {
    match target {
        Some(file) => write_to(file, slow, bytes),
        None => write_to(&stderr(), slow, bytes),
    }
}

/// Standard error without the lock and the buffer of the standard library.
#[allow(unsafe_code)] // a descriptor by number
fn stderr() -> ManuallyDrop<File> {
    // SAFETY: it is never closed by this value; if it is closed all the same, writes fail.
    ManuallyDrop::new(unsafe { File::from_raw_fd(2) })
}

fn write_to(mut file: &File, slow: bool, bytes: &[u8]) -> io::Result<usize> {
    if !slow {
        return file.write(bytes);
    }
    if !sys::takes_output(file.as_fd()) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // Whole lines, as many as a pipe takes at once; a longer one in pieces.
    let part = bytes.get(..AT_ONCE.min(bytes.len())).unwrap_or(bytes);
    let end = part.iter().rposition(|byte| *byte == b'\n');
    let whole = end.and_then(|end| part.get(..=end)).unwrap_or(part);
    file.write(whole)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut output = Output::file(file);
        let line = format!("{}\n", "x".repeat(99));
        for _ in 0..10_000 {
            output.put(&line);
        }
        assert!(output.waiting.len() <= ROOM);
        assert!(output.lost > 1000);
        // The reader comes back: all that was kept arrives, in whole lines.
        let reading = std::thread::scope(|scope| {
            let all = scope.spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            while !output.drained() {}
            output.put("last\n");
            drop(output);
            all.join().unwrap()
        });
        let lines: Vec<_> = reading.lines().collect();
        assert_eq!(*lines.last().unwrap(), "last");
        let told = |line: &&&str| line.contains("messages were lost");
        assert_eq!(lines.iter().filter(told).count(), 1);
        let kept = lines.iter().filter(|line| line.len() == 99).count();
        assert_eq!(kept, lines.len() - 2);
    }

    #[test]
    fn a_full_disk_and_a_broken_pipe_are_survived() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let broken = File::from(std::os::fd::OwnedFd::from(writer));
        for file in [full, broken] {
            let mut output = Output::file(file);
            for _ in 0..100_000 {
                output.put("a message\n");
            }
            assert!(output.waiting.len() <= ROOM && output.lost > 0);
        }
    }
}
