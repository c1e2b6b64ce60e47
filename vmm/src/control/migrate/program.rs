//! `exec:`: a program that takes the stream on its standard input, or gives it on its standard
//! output.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait;
use crate::migration::host::{Broken, Cancel};
use crate::process::errno;
use crate::sys;

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Where the stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Into its standard input.
    Input,
    /// Out of its standard output.
    Output,
}

/// A program that runs. It and what it started in turn are killed when this is dropped before
/// its end.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    /// It has ended: its number may be another's.
    ended: bool,
}

impl Program {
    /// Starts it; gives our end of the stream as well.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(words: &[String], side: Side) -> Result<(Self, OwnedFd), String> {
        let Some((program, rest)) = words.split_first() else {
            return Err("There is no program to run".to_owned());
        };
        let fail = |error: io::Error| format!("Unable to run '{program}': {}", errno(&error));
        let (read, write) = sys::pipe().map_err(fail)?;
        let mut command = Command::new(program);
        command.args(rest).process_group(0);
        let ours = match side {
            Side::Input => {
                command.stdin(Stdio::from(read)).stdout(to_stderr());
                write
            }
            Side::Output => {
                command.stdin(Stdio::null()).stdout(Stdio::from(write));
                read
            }
        };
        sys::start_afresh(&mut command);
        let child = command.spawn().map_err(fail)?;
        Ok((
            Program {
                child,
                ended: false,
            },
            ours,
        ))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it failed, or it was cancelled: then it goes on until this is dropped.
    pub fn settle(&mut self, cancel: &Cancel) -> Result<(), Broken> {
        loop {
            if let Some(verdict) = self.verdict() {
                return verdict.map_err(Broken::Failed);
            }
            wait::pause(LOOK, cancel)?;
        }
    }

    /// What it ends with, if it does so within a moment.
    pub fn verdict_soon(&mut self) -> Option<Result<(), String>> {
        for _ in 0..50 {
            if let Some(verdict) = self.verdict() {
                return Some(verdict);
            }
            std::thread::sleep(LOOK);
        }
        None
    }

    /// What it has ended with, if it has.
    pub fn verdict(&mut self) -> Option<Result<(), String>> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => {
                self.ended = true;
                Some(judge(status))
            }
            Err(error) => {
                self.ended = true;
                Some(Err(format!(
                    "Cannot wait for the program: {}",
                    errno(&error)
                )))
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        sys::kill_group(self.child.id());
        // It is dead: this takes no time.
        let _ = self.child.wait();
    }
}

fn judge(status: ExitStatus) -> Result<(), String> {
    match status.success() {
        true => Ok(()),
        false => Err(format!("The program failed ({status})")),
    }
}

/// Standard output may carry a monitor.
fn to_stderr() -> Stdio {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => fd.into(),
        Err(_) => Stdio::null(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;

    fn shell(line: &str) -> Vec<String> {
        ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
    }

    #[test]
    fn bytes_go_in_and_come_out() {
        let cancel = Cancel::new().unwrap();
        let path = std::env::temp_dir().join(format!("qvmd-exec-{}", std::process::id()));
        let line = format!("cat > {}", path.display());
        let (mut program, fd) = Program::start(&shell(&line), Side::Input).unwrap();
        File::from(fd).write_all(b"stream").unwrap();
        assert_eq!(program.settle(&cancel), Ok(()));
        let line = format!("cat {}", path.display());
        let (mut program, fd) = Program::start(&shell(&line), Side::Output).unwrap();
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "stream");
        assert_eq!(program.settle(&cancel), Ok(()));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn failures_have_words() {
        let cancel = Cancel::new().unwrap();
        let (mut program, _fd) = Program::start(&shell("exit 3"), Side::Input).unwrap();
        let error = Broken::Failed("The program failed (exit status: 3)".into());
        assert_eq!(program.settle(&cancel), Err(error));
        let none = ["/nonexistent/program".to_owned()];
        let error = Program::start(&none, Side::Input).unwrap_err();
        let why = "Unable to run '/nonexistent/program': No such file or directory";
        assert_eq!(error, why);
        assert!(Program::start(&[], Side::Input).is_err());
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let begun = Instant::now();
        let cancel = Cancel::new().unwrap();
        let (mut program, _fd) = Program::start(&shell("sleep 60; true"), Side::Input).unwrap();
        assert_eq!(program.verdict(), None);
        cancel.cancel();
        assert_eq!(program.settle(&cancel), Err(Broken::Cancelled));
        drop(program);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
