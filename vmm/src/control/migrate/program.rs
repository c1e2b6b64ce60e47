//! `exec:`: a program that takes the stream on its standard input, or gives it on its standard
//! output.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use api_spec::{QmpError, QmpResult};

use super::wait;
use crate::armour::launcher::{self, Group, Launcher, Request};
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

/// What is to be run, and who starts it.
#[derive(Debug)]
pub(super) struct Order {
    words: Vec<String>,
    launcher: Launcher,
}

impl Order {
    /// For these words.
    ///
    /// # Errors
    /// When no program may be started.
    pub fn new(words: Vec<String>, launcher: &Launcher) -> QmpResult<Self> {
        let program = words.first().map_or("", String::as_str);
        let allowed = launcher.check();
        allowed.map_err(|error| QmpError::generic(unable(program, &error)))?;
        Ok(Order {
            words,
            launcher: launcher.clone(),
        })
    }
}

/// A program that runs. It and what it started in turn are killed when this is dropped before
/// its end.
#[derive(Debug)]
pub(super) struct Program(launcher::Program);

impl Program {
    /// Starts it; gives our end of the stream as well.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(order: &Order, side: Side) -> Result<(Self, OwnedFd), String> {
        let Some((program, rest)) = order.words.split_first() else {
            return Err("There is no program to run".to_owned());
        };
        let fail = |error: io::Error| unable(program, &error);
        let (read, write) = sys::pipe().map_err(fail)?;
        let request = Request::new(program).args(rest).group(Group::Leader);
        let (request, ours) = match side {
            Side::Input => (request.fd(0, read), write),
            Side::Output => (request.fd(1, write), read),
        };
        let started = order.launcher.start_program(request).map_err(fail)?;
        Ok((Program(started), ours))
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
        match self.0.try_wait() {
            Ok(status) => status.map(judge),
            Err(error) => Some(Err(format!(
                "Cannot wait for the program: {}",
                errno(&error)
            ))),
        }
    }
}

fn unable(program: &str, error: &io::Error) -> String {
    format!("Unable to run '{program}': {}", errno(error))
}

fn judge(status: ExitStatus) -> Result<(), String> {
    match status.success() {
        true => Ok(()),
        false => Err(format!("The program failed ({status})")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;
    use crate::armour::launcher::on_a_thread;

    fn order(words: &[&str]) -> Order {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Order::new(words, &on_a_thread()).unwrap()
    }

    fn shell(line: &str) -> Order {
        order(&["/bin/sh", "-c", line])
    }

    #[test]
    fn nothing_is_run_where_nothing_may_be() {
        let error = Order::new(vec!["/bin/sh".into()], &Launcher::denied()).unwrap_err();
        let why = "Unable to run '/bin/sh': Programs may not be started (-sandbox spawn=deny)";
        assert_eq!(error.desc, why);
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
        let none = order(&["/nonexistent/program"]);
        let error = Program::start(&none, Side::Input).unwrap_err();
        let why = "Unable to run '/nonexistent/program': No such file or directory";
        assert_eq!(error, why);
        assert!(Program::start(&order(&[]), Side::Input).is_err());
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
