//! Programs for guest forwards (`guestfwd=...-cmd:PROGRAM`).
//!
//! A small process beside the network runs them, because the network itself may not: it is made
//! before the sandbox, knows the commands, and is reached only by connecting to a socket for each
//! of them. So whoever takes the network over can run what the user configured, and nothing else.
//! It ends when the network does.
#![allow(unsafe_code)] // fork, and what is done between fork and exec

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::words;

/// How soon programs that have ended are looked after.
const REAP_MS: i32 = 1000;

/// The network's side: the launcher ends when it is dropped.
pub struct Launcher {
    _lifeline: OwnedFd,
    paths: Vec<CString>,
}

impl Launcher {
    /// Starts the process for `commands`. Only while this process has one thread.
    ///
    /// # Errors
    /// When there is no place for the sockets, or no process.
    pub fn start(commands: Vec<String>) -> io::Result<Self> {
        let directory = Directory::new()?;
        let (mut doors, mut paths) = (Vec::new(), Vec::new());
        for (index, command) in commands.into_iter().enumerate() {
            let path = directory.0.join(index.to_string());
            doors.push((UnixListener::bind(&path)?, command));
            paths.push(CString::new(path.as_os_str().as_bytes())?);
        }
        let (near, far) = UnixStream::pair()?;
        // SAFETY: the process has one thread, so no lock is held by one that vanishes.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(near);
                serve(&doors, &far);
                drop(directory);
                // SAFETY: does not return: what this process had of its parent is dropped by nobody.
                unsafe { libc::_exit(0) }
            }
            _ => {
                // Its other owner removes it.
                std::mem::forget(directory);
                Ok(Launcher {
                    _lifeline: near.into(),
                    paths,
                })
            }
        }
    }

    /// The sockets' paths, one for each command.
    pub fn paths(&self) -> &[CString] {
        &self.paths
    }
}

/// A directory that nobody else may enter; removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        let template = std::env::temp_dir().join("qvmd-usernet-XXXXXX");
        let mut name = CString::new(template.as_os_str().as_bytes())?.into_bytes_with_nul();
        // SAFETY: the name ends, and is changed in place.
        if unsafe { libc::mkdtemp(name.as_mut_ptr().cast()) }.is_null() {
            return Err(io::Error::last_os_error());
        }
        name.pop();
        let path = Path::new(std::ffi::OsStr::from_bytes(&name)).to_owned();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The launcher's life: until the network's end of `lifeline` is closed.
fn serve(doors: &[(UnixListener, String)], lifeline: &UnixStream) {
    keep_only(
        doors
            .iter()
            .map(|(door, _)| door.as_raw_fd())
            .chain([lifeline.as_raw_fd()]),
    );
    let poll = |fd: RawFd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut fds: Vec<libc::pollfd> = doors
        .iter()
        .map(|(door, _)| poll(door.as_raw_fd()))
        .collect();
    fds.push(poll(lifeline.as_raw_fd()));
    let mut running: Vec<Child> = Vec::new();
    loop {
        running.retain_mut(|program| matches!(program.try_wait(), Ok(None)));
        let timeout = if running.is_empty() { -1 } else { REAP_MS };
        let ready = match crate::poll(&mut fds, timeout) {
            Ok(ready) => ready,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(_) => return,
        };
        if ready > 0 && fds.last().is_none_or(|lifeline| lifeline.revents != 0) {
            return;
        }
        for ((door, command), fd) in doors.iter().zip(&fds) {
            if ready == 0 || fd.revents == 0 {
                continue;
            }
            match door
                .accept()
                .and_then(|(connection, _)| run(command, connection))
            {
                Ok(program) => running.push(program),
                Err(error) => {
                    eprintln!("qvmd-usernet: Cannot run '{command}' for the guest: {error}");
                }
            }
        }
    }
}

/// The network's own sockets must not stay open here: their ends are signs of its life.
fn keep_only(kept: impl Iterator<Item = RawFd>) {
    let mut kept: Vec<RawFd> = kept.chain([libc::STDERR_FILENO]).collect();
    kept.sort_unstable();
    let mut from = 0;
    for fd in kept.into_iter().chain([RawFd::MAX]) {
        if fd > from {
            // SAFETY: none of these is used by anything that lives on in this process.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd.saturating_sub(1), 0) };
        }
        from = fd.saturating_add(1);
    }
}

fn run(command: &str, connection: UnixStream) -> io::Result<Child> {
    let words = words::split(command).ok_or(io::ErrorKind::InvalidInput)?;
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let connection = OwnedFd::from(connection);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::from(connection.try_clone()?))
        .stdout(Stdio::from(connection.try_clone()?))
        .stderr(Stdio::from(connection));
    // SAFETY: a few system calls, which may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            crate::sandbox::as_the_parent_had_it();
            Ok(())
        });
    }
    command.spawn()
}
