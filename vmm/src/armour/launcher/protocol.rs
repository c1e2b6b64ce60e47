//! What the VMM and the launcher say to each other. Pure.
//!
//! On the launcher's socket there are orders, each a packet with one descriptor in front: the
//! line on which the launcher answers. What else comes along are the program's descriptors. An
//! order to start a program keeps its line: the launcher says on it how the program ended, and
//! the VMM can have it killed there.
//!
//! ```text
//! order:  kind                                     u8
//! start:  lifetime, group                          u8, u8
//!         numbers of arguments, variables, targets u16, u16, u16   little endian, as all numbers
//!         targets                                  u16 each
//!         program, arguments, variables            bytes, a zero behind each
//! answer: kind, value, words                       u8, i32, UTF-8
//! ```
//! An order comes over the border of a sandbox: nothing is believed of it, and a zero can be in
//! no word.

use std::ffi::CString;

/// The longest order: a little more than what the kernel lets one word of a command line be.
pub const ORDER_MAX: usize = 160 << 10;
/// The longest answer.
pub const ANSWER_MAX: usize = 512;
/// Arguments and variables at most.
const WORDS_MAX: usize = 1024;
/// A program's descriptors have numbers below this one.
pub const TARGET_LIMIT: u16 = 64;
/// Descriptors of a program at most.
pub const TARGETS_MAX: usize = 16;
/// On the line of a program: it is to be killed.
pub const KILL: &[u8] = b"kill";

/// When a program ends if not by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// With its line, which the VMM closes at its own end at the latest.
    Line,
    /// It goes on to its own end.
    Own,
}

/// Whom killing it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// It leads a group of its own: what it started as well.
    Leader,
    /// Itself alone. The terminal's signals are for it as they are for us.
    Ours,
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Searched for in PATH when there is no slash in it.
    pub program: CString,
    /// Without the program's name.
    pub arguments: Vec<CString>,
    /// `NAME=value`, beside what the launcher has.
    pub environment: Vec<CString>,
    /// The number that each descriptor which comes along has in the program.
    pub targets: Vec<u16>,
    /// When it ends.
    pub lifetime: Lifetime,
    /// Whom killing reaches.
    pub group: Group,
}

/// What the VMM wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A program.
    Start(Start),
    /// To be in the root directory, as a daemon is.
    LeaveDirectory,
    /// The machine is built: to be the user that the VMM is, and below its root directory.
    DropPrivileges,
}

/// Why an order is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early, or goes on behind its end.
    #[error("an order has the wrong length")]
    Length,
    /// There is no order of this kind.
    #[error("there is no order of kind {0}")]
    Kind(u8),
    /// A member has no such value.
    #[error("an order has an unknown lifetime or group")]
    Flag,
    /// More than a program may have.
    #[error("a program is to have too many words or descriptors")]
    TooMany,
    /// A program cannot have it there, or has it twice.
    #[error("a program cannot have a descriptor {0}, or has it already")]
    Target(u16),
    /// It cannot be an environment variable.
    #[error("an environment variable has no name")]
    Variable,
    /// Nothing is to be run.
    #[error("a program has no name")]
    NoProgram,
}

const START: u8 = 1;
const LEAVE_DIRECTORY: u8 = 2;
const DROP_PRIVILEGES: u8 = 3;

impl Order {
    /// As a packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Order::Start(start) => start.encode(),
            Order::LeaveDirectory => vec![LEAVE_DIRECTORY],
            Order::DropPrivileges => vec![DROP_PRIVILEGES],
        }
    }

    /// Out of a packet.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Rest(bytes);
        let order = match rest.byte()? {
            START => Order::Start(Start::decode(&mut rest)?),
            LEAVE_DIRECTORY => Order::LeaveDirectory,
            DROP_PRIVILEGES => Order::DropPrivileges,
            kind => return Err(Malformed::Kind(kind)),
        };
        match rest.0 {
            [] => Ok(order),
            _ => Err(Malformed::Length),
        }
    }
}

impl Start {
    fn encode(&self) -> Vec<u8> {
        let lifetime = match self.lifetime {
            Lifetime::Line => 0,
            Lifetime::Own => 1,
        };
        let group = match self.group {
            Group::Ours => 0,
            Group::Leader => 1,
        };
        let mut bytes = vec![START, lifetime, group];
        // What does not fit is refused at the other side: a number that cannot be said is one
        // that is too large.
        let count = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        bytes.extend(count(self.arguments.len()));
        bytes.extend(count(self.environment.len()));
        bytes.extend(count(self.targets.len()));
        for target in &self.targets {
            bytes.extend(target.to_le_bytes());
        }
        let words = std::iter::once(&self.program)
            .chain(&self.arguments)
            .chain(&self.environment);
        for word in words {
            bytes.extend(word.as_bytes_with_nul());
        }
        bytes
    }

    fn decode(rest: &mut Rest<'_>) -> Result<Self, Malformed> {
        let lifetime = match rest.byte()? {
            0 => Lifetime::Line,
            1 => Lifetime::Own,
            _ => return Err(Malformed::Flag),
        };
        let group = match rest.byte()? {
            0 => Group::Ours,
            1 => Group::Leader,
            _ => return Err(Malformed::Flag),
        };
        let arguments = rest.count(WORDS_MAX)?;
        let environment = rest.count(WORDS_MAX)?;
        let targets = rest.count(TARGETS_MAX)?;
        let targets = rest.targets(targets)?;
        let program = rest.word()?;
        if program.is_empty() {
            return Err(Malformed::NoProgram);
        }
        let arguments = rest.words(arguments)?;
        let environment = rest.words(environment)?;
        let named = |word: &CString| word.as_bytes().iter().position(|byte| *byte == b'=');
        if !environment
            .iter()
            .all(|word| named(word).is_some_and(|at| at > 0))
        {
            return Err(Malformed::Variable);
        }
        Ok(Start {
            program,
            arguments,
            environment,
            targets,
            lifetime,
            group,
        })
    }
}

/// What is left of an order.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = usize::from(self.number()?);
        match count <= most {
            true => Ok(count),
            false => Err(Malformed::TooMany),
        }
    }

    fn targets(&mut self, count: usize) -> Result<Vec<u16>, Malformed> {
        let mut targets = Vec::new();
        for _ in 0..count {
            let target = self.number()?;
            if target >= TARGET_LIMIT || targets.contains(&target) {
                return Err(Malformed::Target(target));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    fn words(&mut self, count: usize) -> Result<Vec<CString>, Malformed> {
        (0..count).map(|_| self.word()).collect()
    }

    fn word(&mut self) -> Result<CString, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let (word, rest) = end
            .and_then(|end| self.0.split_at_checked(end.saturating_add(1)))
            .ok_or(Malformed::Length)?;
        self.0 = rest;
        CString::from_vec_with_nul(word.to_vec()).map_err(|_| Malformed::Length)
    }
}

/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done: the program runs, and has this number.
    Done(i32),
    /// The system's word against it.
    Failed(i32),
    /// The launcher's words against it.
    Refused(String),
    /// The program has ended, with this status of wait(2).
    Ended(i32),
}

impl Answer {
    /// As a packet.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, value, words) = match self {
            Answer::Done(pid) => (0, *pid, ""),
            Answer::Failed(error) => (1, *error, ""),
            Answer::Refused(words) => (2, 0, words.as_str()),
            Answer::Ended(status) => (3, *status, ""),
        };
        let mut bytes = vec![kind];
        bytes.extend(value.to_le_bytes());
        bytes.extend(words.as_bytes());
        bytes.truncate(ANSWER_MAX);
        bytes
    }

    /// Out of a packet; `None` where it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (value, words) = rest.split_first_chunk::<4>()?;
        let value = i32::from_le_bytes(*value);
        Some(match kind {
            0 => Answer::Done(value),
            1 => Answer::Failed(value),
            2 => Answer::Refused(String::from_utf8_lossy(words).into_owned()),
            3 => Answer::Ended(value),
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "protocol_test.rs"]
mod tests;
