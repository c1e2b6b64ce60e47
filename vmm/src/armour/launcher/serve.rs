//! The launcher's loop: takes orders, starts programs, tells how they ended.
//!
//! ```text
//! order --> Process (forked) -- its report ends --> Done --> its end --> Ended
//!                            -- an error comes --> Failed
//! line ends, or says so --> killed;  the VMM ends --> those that live as long as their lines
//!                                                     are killed, and the launcher ends
//! ```
//! It never waits for anything but all of that: programs are slow, and so are the file systems
//! that they are on.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use super::exec::Process;
use super::packet::{self, Wait};
use super::protocol::{Answer, KILL, Lifetime, ORDER_MAX, Order, Start};
use crate::sys;

/// Programs at the same time. A machine has one for each of its user networks, and few others.
pub const PROGRAMS_MAX: usize = 256;

/// Gives up what the launcher is to give up when the machine is built.
pub type DropPrivileges = Box<dyn Fn() -> io::Result<()> + Send>;

/// The launcher.
pub struct Server {
    orders: OwnedFd,
    /// `/dev/null`.
    null: OwnedFd,
    /// Readable when the VMM has ended. Its socket alone would not do: a program may have been
    /// given the other end.
    vmm: Option<OwnedFd>,
    drop_privileges: DropPrivileges,
    programs: Vec<Program>,
}

/// A program that was started.
struct Program {
    process: Process,
    /// The VMM's line; `None` once it has hung up.
    line: Option<OwnedFd>,
    lifetime: Lifetime,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It may still turn out not to be there.
    Starting,
    /// It is its program.
    Runs,
    /// It could not be started, which was said.
    Failed,
}

/// What woke the launcher.
struct Woken {
    orders: bool,
    vmm: bool,
    /// Report, line and end of each program.
    programs: Vec<[bool; 3]>,
}

impl Server {
    /// Takes orders from this socket.
    pub fn new(
        orders: OwnedFd,
        null: OwnedFd,
        vmm: Option<OwnedFd>,
        drop_privileges: DropPrivileges,
    ) -> Self {
        Server {
            orders,
            null,
            vmm,
            drop_privileges,
            programs: Vec::new(),
        }
    }

    /// Serves until the VMM is gone.
    pub fn run(mut self) {
        while let Ok(woken) = self.wait() {
            for (program, woken) in self.programs.iter_mut().zip(&woken.programs) {
                program.see_to(*woken);
            }
            self.programs.retain(|program| !program.tell_end());
            let gone = woken.orders && self.take_order().is_err();
            if gone || woken.vmm {
                break;
            }
        }
        for program in &self.programs {
            program.hung_up();
        }
    }

    fn wait(&self) -> io::Result<Woken> {
        let vmm = self.vmm.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut fds = vec![
            sys::poll_entry(self.orders.as_raw_fd(), libc::POLLIN),
            sys::poll_entry(vmm, libc::POLLIN),
        ];
        for program in &self.programs {
            fds.extend(program.awaits().map(|fd| sys::poll_entry(fd, libc::POLLIN)));
        }
        sys::poll(&mut fds, None)?;
        let mut ready = fds.iter().map(|fd| fd.revents != 0);
        let mut next = || ready.next().unwrap_or_default();
        Ok(Woken {
            orders: next(),
            vmm: next(),
            programs: self
                .programs
                .iter()
                .map(|_| [next(), next(), next()])
                .collect(),
        })
    }

    /// An error when the VMM is gone.
    fn take_order(&mut self) -> io::Result<()> {
        let len = match packet::next_len(&self.orders, Wait::No) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let came = packet::receive(&self.orders, len.min(ORDER_MAX), Wait::No)?;
        let mut fds = came.fds.into_iter();
        // Without a line nobody could be told.
        let Some(line) = fds.next() else {
            return Ok(());
        };
        let order = match came.cut {
            true => Err("an order is too long".to_owned()),
            false => Order::decode(&came.bytes).map_err(|error| error.to_string()),
        };
        let answer = match order {
            Ok(Order::Start(start)) => return self.start(&start, fds.collect(), line),
            Ok(Order::LeaveDirectory) => done(std::env::set_current_dir("/")),
            Ok(Order::DropPrivileges) => done((self.drop_privileges)()),
            Err(why) => Answer::Refused(why),
        };
        tell(&line, &answer);
        Ok(())
    }

    fn start(&mut self, start: &Start, fds: Vec<OwnedFd>, line: OwnedFd) -> io::Result<()> {
        let refuse = |why: String| {
            tell(&line, &Answer::Refused(why));
            Ok(())
        };
        if self.programs.len() >= PROGRAMS_MAX {
            return refuse(format!("{PROGRAMS_MAX} programs run already"));
        }
        if fds.len() != start.targets.len() {
            return refuse("a program's descriptors did not come along".to_owned());
        }
        match Process::start(start, &fds, &self.null) {
            Ok(process) => self.programs.push(Program {
                process,
                line: Some(line),
                lifetime: start.lifetime,
                stage: Stage::Starting,
            }),
            Err(error) => tell(&line, &failed(&error)),
        }
        Ok(())
    }
}

impl Program {
    /// Report, line and end, as far as they are waited for.
    fn awaits(&self) -> [i32; 3] {
        let starting = self.stage == Stage::Starting;
        [
            starting.then(|| self.process.report.as_raw_fd()),
            self.line.as_ref().map(AsRawFd::as_raw_fd),
            Some(self.process.end.as_raw_fd()),
        ]
        .map(|fd| fd.unwrap_or(-1))
    }

    fn see_to(&mut self, [report, line, _]: [bool; 3]) {
        if report {
            self.take_report();
        }
        if line {
            self.take_line();
        }
    }

    /// It is its program now, or cannot be.
    fn take_report(&mut self) {
        let mut error = [0; 4];
        let told = (&self.process.report).read(&mut error);
        let answer = match told {
            Ok(4) => {
                self.stage = Stage::Failed;
                Answer::Failed(i32::from_ne_bytes(error))
            }
            _ => {
                self.stage = Stage::Runs;
                Answer::Done(self.process.id())
            }
        };
        if let Some(line) = &self.line {
            tell(line, &answer);
        }
    }

    fn take_line(&mut self) {
        let Some(line) = &self.line else {
            return;
        };
        match packet::receive(line, KILL.len(), Wait::No) {
            Ok(came) if came.bytes == KILL => self.process.kill(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // What is no word is an end as well.
            Ok(_) | Err(_) => {
                self.hung_up();
                self.line = None;
            }
        }
    }

    fn hung_up(&self) {
        if self.lifetime == Lifetime::Line {
            self.process.kill();
        }
    }

    /// Whether it has ended; says so. What could not start has been told.
    fn tell_end(&self) -> bool {
        if self.stage == Stage::Starting {
            return false;
        }
        let Some(status) = self.process.reap() else {
            return false;
        };
        if let (Stage::Runs, Some(line)) = (self.stage, &self.line) {
            tell(line, &Answer::Ended(status));
        }
        true
    }
}

/// Whoever does not read what it is told is not waited for.
fn tell(line: &OwnedFd, answer: &Answer) {
    let _ = packet::send(line, &answer.encode(), &[], Wait::No);
}

fn done(result: io::Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Done(0),
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(number) => Answer::Failed(number),
        None => Answer::Refused(error.to_string()),
    }
}
