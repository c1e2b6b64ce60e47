//! The process as the operating system sees it: going into the background, the pid file, signals.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::logging;
use crate::sys::{self, Forked, Signal};

/// The signals that end us.
const TERMINATION: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// What the background process owes its parent: the parent waits for a byte of this pipe.
pub struct Daemon {
    report: File,
    /// /dev/null, which may be out of reach in the end.
    null: File,
}

/// Goes into the background: the parent stays until [`Daemon::ready`] and then exits with status
/// 0, or with status 1 when we fail or end before. Must run before any thread is started.
///
/// # Errors
/// When the host cannot fork.
pub fn daemonize() -> Result<Daemon> {
    let (read, write) = sys::pipe()?;
    if let Forked::Parent(_) = sys::fork().context("Cannot go into the background")? {
        drop(write);
        let mut verdict = [1u8];
        let told = File::from(read).read_exact(&mut verdict);
        sys::exit_now(match told {
            Ok(()) => i32::from(verdict[0]),
            Err(_) => {
                logging::report("The process in the background was killed before it was ready");
                1
            }
        });
    }
    drop(read);
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.context("Cannot open /dev/null")?;
    sys::new_session()?;
    if let Forked::Parent(_) = sys::fork().context("Cannot go into the background")? {
        sys::exit_now(0);
    }
    Ok(Daemon {
        report: File::from(write),
        null,
    })
}

impl Daemon {
    /// Everything is set up: lets the parent go and leaves terminal and directory.
    ///
    /// # Errors
    /// Those of chdir(2) and dup2(2).
    pub fn ready(&mut self) -> Result<()> {
        std::env::set_current_dir("/")?;
        for target in 0..3 {
            sys::redirect(&self.null, target)?;
        }
        self.tell(0);
        Ok(())
    }

    /// The start failed, and has said why.
    pub fn failed(mut self) {
        self.tell(1);
    }

    fn tell(&mut self, status: u8) {
        // The parent may be gone, which is no concern of ours.
        let _ = self.report.write_all(&[status]);
    }
}

/// The pid file: locked while we live, removed at the end.
pub struct PidFile {
    /// Held open: the path may lead nowhere after a change of the root directory.
    directory: File,
    name: CString,
    locked: File,
}

impl PidFile {
    /// Writes our process id to `path`.
    ///
    /// # Errors
    /// When the file cannot be made, or a living process has it.
    pub fn create(path: &Path) -> Result<Self> {
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(|error| {
                    let (path, why) = (path.display(), errno(&error));
                    anyhow::anyhow!("cannot create PID file: Could not create '{path}': {why}")
                })?;
            if let Err(error) = sys::lock_file(&file) {
                let why = errno(&error);
                bail!("cannot create PID file: Cannot lock pid file: {why}");
            }
            // Its last owner may have removed it between our open and our lock.
            if !same_file(&file, path) {
                continue;
            }
            file.set_len(0)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
            let path = path.canonicalize()?;
            let directory = path.parent().unwrap_or(Path::new("/"));
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            return Ok(PidFile {
                directory: sys::open_place(directory)?,
                name: CString::new(name)?,
                locked: file,
            });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Who removed ours may have let another process put its own there.
        let there = sys::identity_in(&self.directory, &self.name).ok();
        let is_ours = there.is_some() && there == self.locked.metadata().ok().map(|m| identity(&m));
        // Who has changed users since may not remove it. It tells of no process, then.
        if !is_ours || sys::remove_in(&self.directory, &self.name).is_err() {
            let _ = self.locked.set_len(0);
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(a), Ok(b)) => identity(&a) == identity(&b),
        _ => false,
    }
}

/// Device and inode.
fn identity(of: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (of.dev(), of.ino())
}

pub use errno_text::errno_text as errno;

/// An error with its causes, each told once: some of ours repeat in their words what the host
/// said.
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let words = cause.split(" (os error ").next().unwrap_or_default();
        if text.is_empty() {
            text.push_str(&cause);
        } else if !text.contains(words) {
            text.push_str(": ");
            text.push_str(words);
        }
    }
    text
}

/// Blocks the signals that end us and gives a descriptor that tells of them.
///
/// # Errors
/// When the host is out of descriptors.
pub fn termination_signals() -> std::io::Result<OwnedFd> {
    sys::signal_fd(&TERMINATION)
}

/// Says which signal ends us, and who sent it.
pub fn describe_signal(signal: Signal) -> String {
    let Signal { number, sender } = signal;
    if sender == 0 {
        return format!("terminating on signal {number}");
    }
    let words = std::fs::read(format!("/proc/{sender}/cmdline")).unwrap_or_default();
    let name = words.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = match String::from_utf8_lossy(name) {
        name if name.is_empty() => "<unknown process>".into(),
        name => name,
    };
    format!("terminating on signal {number} from pid {sender} ({name})")
}

/// How often somebody who waits looks whether a signal came.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for something during the start, when nobody looks at that descriptor yet. `wait` waits
/// so long at most, and says whether what it waits for has come.
///
/// # Errors
/// When a signal comes that is to end us.
pub fn interruptibly(mut wait: impl FnMut(Duration) -> bool) -> Result<(), Interrupted> {
    while !wait(LOOK) {
        if let Some(signal) = sys::take_signal(&TERMINATION) {
            return Err(Interrupted(signal));
        }
    }
    Ok(())
}

/// A signal ended the start.
#[derive(Debug, Clone, Copy)]
pub struct Interrupted(Signal);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&describe_signal(self.0))
    }
}

impl std::error::Error for Interrupted {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_locked_and_removed() {
        let path = std::env::temp_dir().join(format!("qvmd-pid-test-{}", std::process::id()));
        let file = PidFile::create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        let error = PidFile::create(&path).err().unwrap().to_string();
        assert_eq!(
            error,
            "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable"
        );
        drop(file);
        assert!(!path.exists());
        // Somebody took it away, and another process came.
        let (first, second) = {
            let first = PidFile::create(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            (first, PidFile::create(&path).unwrap())
        };
        drop(first);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_signal_names_its_sender() {
        let describe = |sender| describe_signal(Signal { number: 15, sender });
        assert_eq!(describe(0), "terminating on signal 15");
        let own = describe(std::process::id());
        let begin = format!(
            "terminating on signal 15 from pid {} (/",
            std::process::id()
        );
        assert!(own.starts_with(&begin), "{own}");
        assert!(describe(u32::MAX).ends_with(" (<unknown process>)"));
    }

    #[test]
    fn causes_are_told_once() {
        let host = || std::io::Error::from_raw_os_error(libc::ENOENT);
        let own = anyhow::Error::new(host()).context("no kernel: No such file or directory");
        assert_eq!(with_causes(&own), "no kernel: No such file or directory");
        let own = anyhow::Error::new(host()).context("no kernel");
        assert_eq!(with_causes(&own), "no kernel: No such file or directory");
    }

    #[test]
    fn errors_lose_their_number() {
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(errno(&error), "No such file or directory");
    }
}
