//! qed: QEMU's older format with few features. QEMU, docs/interop/qed_spec.
//!
//! Changes of tables stay in memory until a flush, or until there are many. They are written in
//! this order, so that the file makes sense at every moment and leaks clusters at worst:
//!
//! ```text
//! data, new (empty) tables, the need-check bit -> sync -> entries that lead to them -> sync
//! ```
//!
//! Two locks: `work` is held by whoever reads or changes tables with I/O, `state` (a leaf, taken
//! after it) for single looks at what is in memory.

mod check;
mod create;
mod header;
mod image;
mod tables;
mod write;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::read_only::{backing_pieces, read_backing};
use super::{Below, Format, FormatNode, Linked, OpenFormat, Piece, Plan, What, fields};
use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::gate::Screen;
use crate::image::{Image as _, Repair};
use crate::node::{Activity, BlockNode, Extent, ExtentKind, NodeExt, SECTOR};
use crate::request::{Durability, Op};
pub use create::{QedCreate, create};
use header::{BACKING_FILE, Header, NO_PROBE};
use tables::{Entry, Found, Run, SLICE, SLICE_BYTES, Tables};

/// What the image says is below it: its backing file, raw or to be found out.
///
/// # Errors
/// When it is no such image, or damaged.
pub(super) fn linked(storage: &dyn BlockNode) -> Result<Linked, BlockError> {
    let header = read_header(storage)?;
    let format = raw_format(&header);
    let name = read_name(storage, &header)?;
    Ok(Linked {
        backing: name.map(|name| (name, format)),
        ..Linked::default()
    })
}

fn raw_format(header: &Header) -> Option<String> {
    (header.features & NO_PROBE != 0).then(|| "raw".to_owned())
}

fn unreadable(error: io::Error) -> BlockError {
    BlockError::host("Could not read QED image", error)
}

fn unwritable(error: io::Error) -> BlockError {
    BlockError::host("Could not write QED image", error)
}

fn read_header(storage: &dyn BlockNode) -> Result<Header, BlockError> {
    let bytes = fields::read_up_to(storage, 0, SECTOR).map_err(unreadable)?;
    Header::parse(&bytes, storage.info().size)
}

fn read_name(storage: &dyn BlockNode, header: &Header) -> Result<Option<String>, BlockError> {
    if header.features & BACKING_FILE == 0 {
        return Ok(None);
    }
    let (offset, len) = (header.name_offset.into(), header.name_size.into());
    let bytes = fields::read(storage, offset, len).map_err(unreadable)?;
    match String::from_utf8(bytes) {
        Ok(name) if !name.contains('\0') => Ok(Some(name)),
        Ok(_) | Err(_) => Err(BlockError::Unsupported(
            "QED name of the backing file is no text".to_owned(),
        )),
    }
}

/// The L1 table, as far as a disk of `size` bytes needs it, in whole pieces.
fn read_l1(storage: &dyn BlockNode, header: &Header, size: u64) -> Result<Vec<u64>, BlockError> {
    let entries = header.l1_entries(size).next_multiple_of(SLICE);
    let len = entries.min(header.entries()).saturating_mul(8);
    let bytes = fields::read(storage, header.l1_offset, len).map_err(unreadable)?;
    let entries = bytes.chunks(8).map(|entry| fields::le64(entry, 0));
    Ok(entries.collect())
}

fn read_state(storage: &dyn BlockNode) -> Result<State, BlockError> {
    let header = read_header(storage)?;
    let backing_file = read_name(storage, &header)?;
    let l1 = read_l1(storage, &header, header.image_size)?;
    let end = storage.info().size / header.cluster() * header.cluster();
    Ok(State {
        tables: Tables::new(header, l1, end),
        backing_file,
        allocated: None,
    })
}

/// Opens an image; one that was not closed cleanly is checked and mended first, if it is to be
/// written.
///
/// # Errors
/// When it is no such image, damaged beyond repair, or of a kind that is not understood.
pub(super) fn open(with: OpenFormat) -> Result<FormatNode<Qed>, BlockError> {
    let storage = with.storage.node().ok_or(BlockError::Empty)?;
    let state = read_state(&*storage)?;
    with.screen.set_size(state.tables.header.image_size);
    let qed = Qed {
        // Until it is activated it is as if it were closed.
        read_only: AtomicBool::new(
            with.screen.policy().read_only || with.activity == Activity::Inactive,
        ),
        storage: with.storage,
        backing: with.backing,
        screen: with.screen,
        state: Mutex::new(state),
        work: Mutex::default(),
        complained: AtomicBool::new(false),
    };
    qed.make_sound()?;
    Ok(FormatNode::new(qed, &with.pool))
}

pub(super) struct Qed {
    storage: Edge,
    backing: Option<Edge>,
    screen: Screen,
    /// A leaf.
    state: Mutex<State>,
    /// Taken before `state`.
    work: Mutex<()>,
    /// It is opened so, or closed.
    read_only: AtomicBool,
    complained: AtomicBool,
}

struct State {
    tables: Tables,
    backing_file: Option<String>,
    /// When a cluster was last allocated since the image was marked as clean.
    allocated: Option<Instant>,
}

fn damaged() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Qed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn header(&self) -> Header {
        self.state().tables.header
    }

    /// Whether a flush has more to do than to pass it on.
    fn has_to_write(&self) -> bool {
        let state = self.state();
        state.tables.is_dirty() || state.is_quiet()
    }

    /// What is at `offset`; reads the table that tells. Blocks.
    fn run(&self, offset: u64, len: u64) -> io::Result<Run> {
        let found = self.state().tables.find(offset, len);
        match found {
            Found::Run(run) => Ok(run),
            Found::NotLoaded(_) => self.run_with(&self.work(), offset, len),
            Found::Damaged => Err(self.complain(offset)),
        }
    }

    fn run_with(&self, _work: &MutexGuard<'_, ()>, offset: u64, len: u64) -> io::Result<Run> {
        loop {
            let found = self.state().tables.find(offset, len);
            match found {
                Found::Run(run) => return Ok(run),
                Found::NotLoaded(number) => self.load(number)?,
                Found::Damaged => return Err(self.complain(offset)),
            }
        }
    }

    /// Reads a piece of a table. The work lock is held, so that nobody changes it meanwhile.
    fn load(&self, number: u64) -> io::Result<()> {
        let place = self.state().tables.piece_place(number);
        let node = self.storage.there()?;
        let bytes = fields::read(&*node, place.ok_or_else(damaged)?, SLICE_BYTES)?;
        let mut state = self.state();
        if !state.tables.has_piece(number) {
            state.tables.insert(number, &bytes);
        }
        Ok(())
    }

    fn complain(&self, offset: u64) -> io::Error {
        if !self.complained.swap(true, Ordering::Relaxed) {
            log::error!(
                "A QED image is damaged: the tables make no sense for byte {offset} of the disk"
            );
        }
        damaged()
    }

    fn read(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let mut at = 0;
        while at < buffers.len() {
            let from = offset.saturating_add(at);
            let run = self.run(from, buffers.len().saturating_sub(at))?;
            let part = buffers.slice(at, run.len);
            match run.entry {
                Entry::Zero => part.zero_from(0),
                Entry::Unallocated => read_backing(self.backing.as_ref(), from, &part)?,
                Entry::Data(offset) => self.storage.perform(Op::Read { offset }, &part)?,
            }
            at = at.saturating_add(run.len.max(1));
        }
        Ok(())
    }

    /// Pieces of a read; `None` when it must be done slowly.
    fn plan_read(&self, offset: u64, len: u64, pieces: &mut Vec<Piece>) -> Option<()> {
        let mut state = self.state();
        let mut at = 0;
        while at < len {
            let from = offset.checked_add(at)?;
            let Found::Run(run) = state.tables.find(from, len.saturating_sub(at)) else {
                return None;
            };
            match run.entry {
                Entry::Zero => pieces.push(piece(at, run.len, What::Zeroes)),
                Entry::Unallocated => {
                    backing_pieces(self.backing.as_ref(), from, at, run.len, pieces);
                }
                Entry::Data(offset) => {
                    let what = What::Below(Below::Data, Op::Read { offset });
                    pieces.push(piece(at, run.len, what));
                }
            }
            at = at.saturating_add(run.len.max(1));
        }
        Some(())
    }

    /// Pieces of a change of clusters that are there, and stay where they are; `None` when it
    /// must be done slowly.
    fn plan_write(&self, op: Op, buffers: &Buffers, pieces: &mut Vec<Piece>) -> Option<()> {
        let (offset, len) = op.range(buffers)?;
        let mut state = self.state();
        if is_durable(op) && state.tables.is_dirty() {
            return None;
        }
        let mut at = 0;
        while at < len {
            let from = offset.checked_add(at)?;
            let Found::Run(run) = state.tables.find(from, len.saturating_sub(at)) else {
                return None;
            };
            let Entry::Data(place) = run.entry else {
                return None;
            };
            let what = What::Below(Below::Data, moved(op, place, run.len));
            pieces.push(piece(at, run.len, what));
            at = at.saturating_add(run.len.max(1));
        }
        Some(())
    }
}

fn piece(at: u64, len: u64, what: What) -> Piece {
    Piece { at, len, what }
}

fn is_durable(op: Op) -> bool {
    match op {
        Op::Write { durability, .. } | Op::WriteZeroes { durability, .. } => {
            durability == Durability::Durable
        }
        Op::Read { .. } | Op::Flush | Op::Discard { .. } => false,
    }
}

/// The same elsewhere, with another length.
fn moved(op: Op, offset: u64, len: u64) -> Op {
    match op {
        Op::Read { .. } => Op::Read { offset },
        Op::Write { durability, .. } => Op::Write { offset, durability },
        Op::Flush => Op::Flush,
        Op::Discard { .. } => Op::Discard { offset, len },
        Op::WriteZeroes {
            unmap, durability, ..
        } => Op::WriteZeroes {
            offset,
            len,
            unmap,
            durability,
        },
    }
}

impl Format for Qed {
    type Keep = ();

    fn plan(&self, op: Op, buffers: &Buffers, pieces: &mut Vec<Piece>) -> Plan<()> {
        let planned = match op {
            Op::Read { offset } => self.plan_read(offset, buffers.len(), pieces),
            _ if self.read_only.load(Ordering::Acquire) => None,
            // A request that has ended has changed the tables before.
            Op::Flush if self.has_to_write() => None,
            Op::Flush => {
                pieces.push(piece(0, 0, What::Below(Below::Storage, op)));
                Some(())
            }
            Op::Write { .. } | Op::WriteZeroes { .. } | Op::Discard { .. } => {
                self.plan_write(op, buffers, pieces)
            }
        };
        match planned {
            Some(()) => Plan::Pieces(()),
            None => Plan::Slow,
        }
    }

    fn ended(&self, (): (), result: io::Result<()>) -> io::Result<()> {
        result
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        match op {
            Op::Read { offset } => return self.read(offset, buffers),
            Op::Flush if self.read_only.load(Ordering::Acquire) => return Ok(()),
            _ if self.read_only.load(Ordering::Acquire) => {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            Op::Flush => return self.write_out(&self.work()),
            Op::Write { offset, .. } => self.write(offset, buffers)?,
            Op::WriteZeroes {
                offset, len, unmap, ..
            } => self.write_zeroes(offset, len, unmap)?,
            Op::Discard { offset, len } => self.discard(offset, len)?,
        }
        match is_durable(op) {
            true => self.write_out(&self.work()),
            false => Ok(()),
        }
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        if len == 0 {
            let kind = ExtentKind::Zero;
            return Ok(Extent { len, kind });
        }
        let kind = |entry| match entry {
            Entry::Unallocated => ExtentKind::Unallocated,
            Entry::Zero => ExtentKind::Zero,
            Entry::Data(_) => ExtentKind::Data,
        };
        let first = self.run(offset, len)?;
        let mut extent = Extent {
            len: first.len,
            kind: kind(first.entry),
        };
        // A shorter run than there is does no harm; this only bounds the time.
        for _ in 0..1024 {
            let left = len.saturating_sub(extent.len);
            if left == 0 {
                break;
            }
            // Damage further on is told to whoever asks there.
            match self.run(offset.saturating_add(extent.len), left) {
                Ok(run) if kind(run.entry) == extent.kind => {
                    extent.len = extent.len.saturating_add(run.len);
                }
                Ok(_) | Err(_) => break,
            }
        }
        Ok(extent)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        self.grow_disk(size)
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        match below {
            Below::Storage | Below::Data => Some(&self.storage),
            Below::Backing => self.backing.as_ref(),
            Below::Extent(_) => None,
        }
    }

    fn screen(&self) -> &Screen {
        &self.screen
    }
}

impl Qed {
    /// Mends an image that was not closed cleanly, if it is to be written.
    fn make_sound(&self) -> Result<(), BlockError> {
        let header = self.header();
        if self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        if header.needs_check() {
            let report = self.check(Repair::All)?;
            if report.corruptions > 0 || report.check_errors > 0 {
                return Err(BlockError::Unsupported(format!(
                    "QED image was not closed cleanly and cannot be repaired: {} corruptions, {} \
                     errors",
                    report.corruptions, report.check_errors
                )));
            }
        }
        if header.autoclear_features != 0 {
            self.state().tables.header.autoclear_features = 0;
            let written = self
                .write_header()
                .and_then(|()| self.storage.there()?.flush());
            written.map_err(unwritable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "qed_test.rs"]
mod tests;
