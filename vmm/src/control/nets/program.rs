//! Programs that set taps up: scripts, and the privileged helper that opens a tap on a bridge.
//! Everything here blocks until the program has ended.

use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use api_spec::{QmpError, QmpResult};
use devices::backend::net::Tap;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::armour::launcher::{Launcher, Lifetime, Request};
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
    /// When it is not there or fails, or none may be run.
    pub fn run(&self, launcher: &Launcher) -> QmpResult<()> {
        let request = Request::new(&self.path).args([&self.device]);
        // Half of what it does would be worse than all of it or nothing.
        let started = launcher.start_program(request.lifetime(Lifetime::Own));
        let status = started.and_then(|mut program| program.wait());
        let path = &self.path;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(QmpError::generic(format!(
                "network script {path} failed with status {}",
                status.into_raw()
            ))),
            Err(error) => Err(self.not_run(&error)),
        }
    }

    fn not_run(&self, error: &io::Error) -> QmpError {
        let (path, why) = (&self.path, errno(error));
        QmpError::generic(format!("network script {path} could not be run: {why}"))
    }
}

/// A script that is called when this is dropped.
pub(super) struct DownScript {
    script: Script,
    launcher: Launcher,
    /// The user named it, so that its absence is worth a word.
    named: bool,
    /// Keeps the device until then.
    _device: Arc<OwnedFd>,
}

impl DownScript {
    /// For a device that `device` is open on. None where no program may be run and the user does
    /// not insist on this one.
    ///
    /// # Errors
    /// When none may be run, and the user does.
    pub fn new(
        script: Script,
        launcher: &Launcher,
        named: bool,
        device: Arc<OwnedFd>,
    ) -> QmpResult<Option<Self>> {
        match launcher.check() {
            Ok(()) => Ok(Some(DownScript {
                script,
                launcher: launcher.clone(),
                named,
                _device: device,
            })),
            Err(error) if named => Err(script.not_run(&error)),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for DownScript {
    fn drop(&mut self) {
        if !self.named && !Path::new(&self.script.path).exists() {
            return;
        }
        if let Err(error) = self.script.run(&self.launcher) {
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
/// When the helper fails, with its last words; when none may be run.
pub(super) fn run_helper(
    launcher: &Launcher,
    helper: &str,
    bridge: Option<&str>,
) -> QmpResult<Tap> {
    let bridge = bridge.unwrap_or(BRIDGE);
    let failed = |why: &str| {
        let gap = if why.is_empty() { "" } else { ": " };
        QmpError::generic(format!("bridge helper failed{gap}{why}"))
    };
    let host = |error: io::Error| failed(&errno(&error));
    let (ours, theirs) = UnixStream::pair().map_err(host)?;
    let mut words = memfd(None, false).map_err(host)?;
    let (program, arguments) = helper_command(helper, bridge);
    let request = Request::new(program)
        .args(arguments)
        .fd(0, theirs)
        .fd(2, words.try_clone().map_err(host)?)
        .lifetime(Lifetime::Own);
    let mut program = launcher.start_program(request).map_err(host)?;
    let passed = receive(&ours);
    let status = program.wait().map_err(host)?;
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

/// The program, and its arguments.
fn helper_command<'a>(helper: &'a str, bridge: &str) -> (&'a str, Vec<String>) {
    if !helper.contains([' ', '\t']) {
        let fixed = ["--use-vnet", "--fd=0"].map(str::to_owned);
        let arguments = fixed.into_iter().chain([format!("--br={bridge}")]);
        return (helper, arguments.collect());
    }
    let mut line = format!("{helper} --use-vnet --fd=0");
    if !helper.contains("--br=") {
        line.push_str(&format!(" --br={bridge}"));
    }
    ("/bin/sh", vec!["-c".to_owned(), line])
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

#[cfg(test)]
#[path = "program_test.rs"]
mod tests;
