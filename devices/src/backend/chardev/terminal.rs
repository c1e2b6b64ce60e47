//! Pseudo-terminals, and the terminal that the program was started from.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use api_spec::QmpResult;

use super::sys;
use crate::backend::socket::refused;

/// A pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    pub(super) master: OwnedFd,
    path: String,
}

impl Pty {
    /// A new one, which passes every byte unchanged.
    ///
    /// # Errors
    /// When the system has none left.
    pub fn open() -> QmpResult<Self> {
        let open = || -> io::Result<Self> {
            let (master, path) = sys::open_pty()?;
            // Opened and closed once, or the master would not know that nobody is there.
            let slave = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOCTTY)
                .open(&path)?;
            let mut settings = sys::terminal_settings(&slave)?;
            sys::make_raw(&mut settings);
            sys::set_terminal(&slave, &settings)?;
            Ok(Pty {
                master: master.into(),
                path,
            })
        };
        open().map_err(|error| refused("Failed to create PTY", &error))
    }

    /// The path for others to open.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Standard input and output.
pub struct Stdio {
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) terminal: Option<SavedTerminal>,
}

impl Stdio {
    /// Takes both. A terminal passes every key at once and unseen, until this is dropped; it
    /// makes signals out of Control-C and the like if `signal`.
    ///
    /// # Errors
    /// When they are closed.
    pub fn open(signal: bool) -> QmpResult<Self> {
        let open = || -> io::Result<Self> {
            let (input, output) = (sys::duplicate(0)?, sys::duplicate(1)?);
            let terminal = SavedTerminal::quiet(&input, signal).ok();
            Ok(Stdio {
                input: private(input)?,
                output: private(output)?,
                terminal,
            })
        };
        open().map_err(|error| refused("Failed to open standard input and output", &error))
    }
}

/// The same file as an open file of our own, so that its not blocking is not felt by those who
/// share the original (a shell, say). Regular files never block and keep their shared position.
fn private(fd: OwnedFd) -> io::Result<OwnedFd> {
    let file = File::from(fd);
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(file.into());
    }
    if kind.is_fifo() || kind.is_char_device() {
        let access = sys::status_flags(&file)? & libc::O_ACCMODE;
        let reopened = OpenOptions::new()
            .read(access != libc::O_WRONLY)
            .write(access != libc::O_RDONLY)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if let Ok(reopened) = reopened {
            return Ok(reopened.into());
        }
    }
    sys::set_nonblocking(&file)?;
    Ok(file.into())
}

/// The settings that a terminal had, put back when this is dropped.
pub(super) struct SavedTerminal {
    terminal: OwnedFd,
    settings: sys::Termios,
}

impl SavedTerminal {
    fn quiet(terminal: &OwnedFd, signal: bool) -> io::Result<Self> {
        let settings = sys::terminal_settings(terminal)?;
        let mut quiet = settings;
        let output = quiet.c_oflag;
        let signals = quiet.c_lflag & libc::ISIG;
        sys::make_raw(&mut quiet);
        quiet.c_oflag = output | libc::OPOST;
        if signal {
            quiet.c_lflag |= signals;
        }
        sys::set_terminal(terminal, &quiet)?;
        Ok(SavedTerminal {
            terminal: terminal.as_fd().try_clone_to_owned()?,
            settings,
        })
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = sys::set_terminal(&self.terminal, &self.settings);
    }
}
