//! The requests of the block layer that a command takes, one after the other.

use std::sync::Arc;

use block::{Account, Buffers, Durability, HostBuffer, Op, Unmap};

use super::sense::Sense;
use super::target::DataOut;

/// Bytes of memory for one command at most, unless a single block has more.
const CHUNK: u64 = 128 << 10;
/// Satisfies direct I/O.
const ALIGN: usize = 4096;

/// What a command does to the medium; places and lengths in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // a place and a length each
pub enum Io {
    /// To the initiator.
    Read { at: u64, len: u64 },
    /// The same from the medium itself: what is cached goes there before.
    FlushedRead { at: u64, len: u64 },
    /// From the initiator.
    Write {
        at: u64,
        len: u64,
        durability: Durability,
    },
    /// What was written becomes durable.
    Flush,
    /// With what the initiator sends.
    Compare { at: u64, len: u64 },
    /// One block again and again.
    Fill {
        at: u64,
        len: u64,
        pattern: Box<[u8]>,
        durability: Durability,
    },
    /// Zeroes.
    Zero {
        at: u64,
        len: u64,
        unmap: Unmap,
        durability: Durability,
    },
    /// Places and lengths that are of no use any more.
    Discard(Vec<(u64, u64)>),
}

/// The memory of a step.
#[derive(Clone)]
pub enum Memory {
    /// None.
    None,
    /// The initiator's, so many bytes from its beginning.
    Initiator(u64),
    /// Our own, whole.
    Own(Arc<HostBuffer>),
}

/// One request of the block layer.
pub struct Step {
    /// What to do.
    pub op: Op,
    /// With which memory.
    pub memory: Memory,
    /// How it is counted.
    pub account: Account,
    /// Bytes.
    pub len: u64,
}

/// How far a command has come.
pub struct Progress {
    io: Io,
    /// Steps that were begun.
    step: usize,
    /// Bytes that were dealt with.
    done: u64,
    /// What is to be compared when the step has ended.
    compare: Option<Arc<HostBuffer>>,
}

impl Progress {
    /// At the beginning.
    pub fn new(io: Io) -> Self {
        Progress {
            io,
            step: 0,
            done: 0,
            compare: None,
        }
    }

    /// The bytes that go to the initiator.
    pub fn incoming(&self) -> u64 {
        match &self.io {
            Io::Read { len, .. } | Io::FlushedRead { len, .. } => *len,
            Io::Write { .. }
            | Io::Flush
            | Io::Compare { .. }
            | Io::Fill { .. }
            | Io::Zero { .. }
            | Io::Discard(_) => 0,
        }
    }

    /// The next step; `None` behind the last one.
    pub fn next(&mut self) -> Option<Step> {
        let step = self.step;
        self.step = step.saturating_add(1);
        match &self.io {
            Io::Read { at, len } if step == 0 => Some(read(*at, *len)),
            Io::FlushedRead { .. } if step == 0 => Some(flush()),
            Io::FlushedRead { at, len } if step == 1 => Some(read(*at, *len)),
            Io::Flush if step == 0 => Some(flush()),
            Io::Write {
                at,
                len,
                durability,
            } if step == 0 => Some(Step {
                op: Op::Write {
                    offset: *at,
                    durability: *durability,
                },
                memory: Memory::Initiator(*len),
                account: Account::Write,
                len: *len,
            }),
            Io::Zero {
                at,
                len,
                unmap,
                durability,
            } if step == 0 => Some(Step {
                op: Op::WriteZeroes {
                    offset: *at,
                    len: *len,
                    unmap: *unmap,
                    durability: *durability,
                },
                memory: Memory::None,
                account: Account::Write,
                len: *len,
            }),
            Io::Discard(ranges) => {
                let (offset, len) = ranges.get(step).copied()?;
                Some(Step {
                    op: Op::Discard { offset, len },
                    memory: Memory::None,
                    account: Account::Unmap,
                    len,
                })
            }
            Io::Compare { .. } => self.next_compare(),
            Io::Fill { .. } => self.next_fill(),
            Io::Read { .. }
            | Io::FlushedRead { .. }
            | Io::Flush
            | Io::Write { .. }
            | Io::Zero { .. } => None,
        }
    }

    fn next_compare(&mut self) -> Option<Step> {
        let Io::Compare { at, len } = self.io else {
            return None;
        };
        let rest = len.checked_sub(self.done).filter(|rest| *rest > 0)?;
        let part = rest.min(CHUNK);
        let memory = Arc::new(HostBuffer::new(part as usize, ALIGN));
        self.compare = Some(memory.clone());
        Some(Step {
            op: Op::Read {
                offset: at.saturating_add(self.done),
            },
            memory: Memory::Own(memory),
            account: Account::Read,
            len: part,
        })
    }

    fn next_fill(&mut self) -> Option<Step> {
        let Io::Fill {
            at,
            len,
            pattern,
            durability,
        } = &self.io
        else {
            return None;
        };
        let rest = len.checked_sub(self.done).filter(|rest| *rest > 0)?;
        let block = (pattern.len() as u64).max(1);
        let part = rest.min((CHUNK / block).max(1).saturating_mul(block));
        let bytes: Vec<u8> = pattern
            .iter()
            .copied()
            .cycle()
            .take(part as usize)
            .collect();
        let step = Step {
            op: Op::Write {
                offset: at.saturating_add(self.done),
                durability: *durability,
            },
            memory: Memory::Own(HostBuffer::from_bytes(&bytes, ALIGN)),
            account: Account::Write,
            len: part,
        };
        self.done = self.done.saturating_add(part);
        Some(step)
    }

    /// The step last begun has ended well.
    ///
    /// # Errors
    /// When it did not read what the initiator sent.
    pub fn ended(&mut self, out: &dyn DataOut) -> Result<(), Sense> {
        let Some(memory) = self.compare.take() else {
            return Ok(());
        };
        let read = memory.to_vec();
        let mut sent = vec![0; read.len()];
        let given = out.read(self.done, &mut sent);
        self.done = self.done.saturating_add(read.len() as u64);
        match given == sent.len() && sent == read {
            true => Ok(()),
            false => Err(Sense::MISCOMPARE),
        }
    }
}

impl Step {
    /// The memory as the block layer takes it, where it is our own.
    pub fn own_buffers(&self) -> Option<Buffers> {
        match &self.memory {
            Memory::None => Some(Buffers::new()),
            Memory::Own(memory) => Some(Buffers::owned(memory.clone())),
            Memory::Initiator(_) => None,
        }
    }
}

fn read(at: u64, len: u64) -> Step {
    Step {
        op: Op::Read { offset: at },
        memory: Memory::Initiator(len),
        account: Account::Read,
        len,
    }
}

fn flush() -> Step {
    Step {
        op: Op::Flush,
        memory: Memory::None,
        account: Account::Flush,
        len: 0,
    }
}
