//! Programs that set taps up: scripts, and the privileged helper that opens a tap on a bridge.
//! Everything here blocks until the program has ended.

use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use api_spec::{QmpError, QmpResult};
use devices::backend::net::Tap;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::memory::mapping::memfd;
use crate::process::errno;
use crate::sys;

/// Where distributions have the helper.
const HELPER: &str = "/usr/lib/qemu/qemu-bridge-helper";
const BRIDGE: &str = "br0";
/// What is said of a helper's last words at most.
const LAST_WORDS: usize = 400;

/// A program that is called with the name of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    path: String,
    device: String,
}

impl Script {
    /// The program at `path` for `device`; none for `no`, or no path.
    pub fn new(path: &str, device: &str) -> Option<Self> {
        let wanted = !path.is_empty() && path != "no";
        wanted.then(|| Script {
            path: path.to_owned(),
            device: device.to_owned(),
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it is not there or fails.
    pub fn run(&self) -> QmpResult<()> {
        let mut command = Command::new(&self.path);
        command
            .arg(&self.device)
            .stdin(Stdio::null())
            .stdout(to_stderr());
        sys::start_afresh(&mut command);
        let status = command.status();
        let path = &self.path;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(QmpError::generic(format!(
                "network script {path} failed with status {}",
                status.into_raw()
            ))),
            Err(error) => Err(QmpError::generic(format!(
                "network script {path} could not be run: {}",
                errno(&error)
            ))),
        }
    }
}

/// A script that is called when this is dropped.
pub(super) struct DownScript {
    script: Script,
    /// The user named it, so that its absence is worth a word.
    named: bool,
    /// Keeps the device until then.
    _device: OwnedFd,
}

impl DownScript {
    /// For a device that `device` is open on.
    pub fn new(script: Script, named: bool, device: OwnedFd) -> Self {
        DownScript {
            script,
            named,
            _device: device,
        }
    }
}

impl Drop for DownScript {
    fn drop(&mut self) {
        if !self.named && !Path::new(&self.script.path).exists() {
            return;
        }
        if let Err(error) = self.script.run() {
            log::warn!("{}", error.desc);
        }
    }
}

/// Where the helper is unless the user says so.
pub(super) fn default_helper() -> &'static str {
    HELPER
}

/// The bridge unless the user says so.
pub(super) fn default_bridge() -> &'static str {
    BRIDGE
}

/// Has a helper open a tap on a bridge. It gets its socket as its standard input, and says so
/// with `--fd=0`. One with spaces in its name is a line for the shell.
///
/// # Errors
/// When the helper fails; with its last words.
pub(super) fn run_helper(helper: &str, bridge: Option<&str>) -> QmpResult<Tap> {
    let bridge = bridge.unwrap_or(BRIDGE);
    let failed = |why: &str| {
        let gap = if why.is_empty() { "" } else { ": " };
        QmpError::generic(format!("bridge helper failed{gap}{why}"))
    };
    let host = |error: io::Error| failed(&errno(&error));
    let (ours, theirs) = UnixStream::pair().map_err(host)?;
    let mut words = memfd(None, false).map_err(host)?;
    let mut command = helper_command(helper, bridge);
    command
        .stdin(OwnedFd::from(theirs))
        .stdout(to_stderr())
        .stderr(words.try_clone().map_err(host)?);
    sys::start_afresh(&mut command);
    let mut child = command.spawn().map_err(host)?;
    // Our copy of its socket; with it nobody would notice that it ends.
    drop(command);
    let passed = receive(&ours);
    let status = child.wait().map_err(host)?;
    let last = last_words(&mut words);
    if !last.is_empty() {
        log::warn!("{helper}: {last}");
    }
    if !ExitStatus::success(&status) {
        return Err(failed(&last));
    }
    let passed = passed.map_err(|error| match error.raw_os_error() {
        Some(_) => host(error),
        None => QmpError::generic("failed to recv file descriptor"),
    })?;
    Tap::passed(passed).map_err(|error| QmpError::generic(error.to_string()))
}

fn helper_command(helper: &str, bridge: &str) -> Command {
    if !helper.contains([' ', '\t']) {
        let mut command = Command::new(helper);
        command.args(["--use-vnet", "--fd=0"]);
        command.arg(format!("--br={bridge}"));
        return command;
    }
    let mut line = format!("{helper} --use-vnet --fd=0");
    if !helper.contains("--br=") {
        line.push_str(&format!(" --br={bridge}"));
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &line]);
    command
}

/// The descriptor that came; an error without a number when the socket ended without one.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 1];
    loop {
        match socket.recv_with_fd(&mut byte) {
            Ok((_, Some(file))) => {
                sys::close_on_exec(&file)?;
                return Ok(file.into());
            }
            Ok((0, None)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, None)) => {}
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(io::Error::from_raw_os_error(error.errno())),
        }
    }
}

fn last_words(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(1 << 16).read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(LAST_WORDS).collect()
}

/// Standard output may carry a monitor.
fn to_stderr() -> Stdio {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => fd.into(),
        Err(_) => Stdio::null(),
    }
}

#[cfg(test)]
#[path = "program_test.rs"]
mod tests;
