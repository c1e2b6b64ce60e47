//! What a command comes to: pure decisions, carried out by [`super::unit`] and whoever moves the
//! data.

mod blocks;

use block::{Durability, WriteCache};

use super::cdb::{Command, Extent};
use super::identity::{Identity, Kind};
use super::progress::Io;
use super::reply::Reply;
use super::sense::Sense;
use super::tray::{Loaded, Tray};
use super::{disc, inquiry, mode};

/// Longest transfer in bytes.
const MAX_LEN: u64 = i32::MAX as u64 / 512 * 512;

/// What is in a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Medium {
    /// Bytes.
    pub bytes: u64,
    /// It cannot be written.
    pub read_only: bool,
}

/// A logical unit as it is at the beginning of a command.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What it is.
    pub identity: &'a Identity,
    /// What is in it, whether the tray is open or not.
    pub medium: Option<Medium>,
    /// Its tray; closed for what has none.
    pub tray: Tray,
    /// How writes are treated.
    pub write_cache: WriteCache,
    /// How they are treated after a reset.
    pub default_write_cache: WriteCache,
}

/// What the initiator sends along.
pub trait DataOut {
    /// Copies bytes from `offset` on; returns how many there were.
    fn read(&self, offset: u64, into: &mut [u8]) -> usize;
}

impl DataOut for &[u8] {
    fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = self.get(offset..).unwrap_or(&[]);
        for (to, from) in into.iter_mut().zip(from) {
            *to = *from;
        }
        from.len().min(into.len())
    }
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Done; data for the initiator, still whole.
    Good(Vec<u8>),
    /// CHECK CONDITION.
    Check(Sense),
    /// Something for the medium.
    Io(Io),
    /// The write cache is switched; off only after a flush.
    SetWriteCache(WriteCache),
    /// The tray is locked or not.
    Lock(bool),
    /// The tray is to open; what was written is on the medium before.
    Eject,
    /// The tray is to close.
    Load,
    /// Sense data that waits is fetched.
    TakeSense {
        /// In descriptor format.
        descriptor: bool,
    },
    /// The next event is fetched.
    TakeEvent {
        /// Whether events about the medium were asked for.
        media: bool,
    },
    /// The logical units of the target are listed.
    ReportLuns {
        /// Which.
        select: u8,
    },
}

impl View<'_> {
    fn loaded(&self) -> Loaded {
        match self.medium {
            Some(_) => Loaded::Medium,
            None => Loaded::Empty,
        }
    }

    /// The medium, if it can be used.
    fn ready(&self) -> Result<Medium, Sense> {
        if self.identity.removable {
            self.tray.check_ready(self.loaded())?;
        }
        self.medium.ok_or(Sense::NO_MEDIUM)
    }

    /// The medium, if it can be written.
    fn writable(&self) -> Result<Medium, Sense> {
        let medium = self.ready()?;
        match medium.read_only {
            true => Err(Sense::WRITE_PROTECTED),
            false => Ok(medium),
        }
    }

    /// Blocks of the medium.
    pub(super) fn blocks(&self) -> u64 {
        let bytes = self.medium.map_or(0, |medium| medium.bytes);
        bytes.checked_div(self.identity.block.into()).unwrap_or(0)
    }

    /// First byte and number of bytes of blocks that are there.
    fn place(&self, extent: Extent) -> Result<(u64, u64), Sense> {
        let end = extent.lba.checked_add(extent.blocks.into());
        if end.is_none_or(|end| end > self.blocks()) {
            return Err(Sense::LBA_OUT_OF_RANGE);
        }
        let block = u64::from(self.identity.block);
        let len = u64::from(extent.blocks).saturating_mul(block);
        // No overflow: its blocks are there.
        Ok((extent.lba.saturating_mul(block), len))
    }

    /// The same for a transfer.
    fn transfer(&self, extent: Extent) -> Result<(u64, u64), Sense> {
        let (at, len) = self.place(extent)?;
        match len > MAX_LEN {
            true => Err(Sense::INVALID_FIELD),
            false => Ok((at, len)),
        }
    }

    fn durability(&self, force: bool) -> Durability {
        match force || self.write_cache == WriteCache::Through {
            true => Durability::Durable,
            false => Durability::Cached,
        }
    }

    /// Decides on a command. `out` is what the initiator sends along; its length was checked
    /// against [`Command::transfer`].
    pub fn decide(&self, command: &Command, out: &dyn DataOut) -> Action {
        let decided = match command {
            Command::TestUnitReady => self.ready().map(|_| good()),
            Command::RequestSense { descriptor, .. } => Ok(Action::TakeSense {
                descriptor: *descriptor,
            }),
            Command::Inquiry { page, .. } => {
                inquiry::answer(self.identity, *page).map(Action::Good)
            }
            Command::ModeSense {
                form,
                control,
                page,
                subpage,
                bare,
                room: _,
            } => mode::sense(self, *form, *control, (*page, *subpage), *bare).map(Action::Good),
            Command::ModeSelect { form, len } => {
                let mut list = vec![0; *len as usize];
                let given = out.read(0, &mut list);
                list.truncate(given);
                mode::select(self, *form, &list)
                    .map(|cache| cache.map_or_else(good, Action::SetWriteCache))
            }
            Command::Reserve => Ok(good()),
            Command::StartStop {
                start,
                load_eject,
                power,
            } => Ok(self.start_stop(*start, *load_eject, *power)),
            Command::PreventRemoval { prevent } => Ok(match self.identity.removable {
                true => Action::Lock(*prevent),
                false => good(),
            }),
            Command::ReportLuns { select, room } => report_luns(*select, *room),
            Command::ReadCapacity10 | Command::ReadCapacity16 { .. } => self.capacity(command),
            Command::Read { .. }
            | Command::Write { .. }
            | Command::Verify { .. }
            | Command::Seek { .. }
            | Command::Flush
            | Command::WriteSame { .. }
            | Command::Unmap { .. } => self.blocks_command(command, out),
            Command::ReadToc { .. }
            | Command::GetConfiguration { .. }
            | Command::GetEventStatus { .. }
            | Command::ReadDiscInformation { .. }
            | Command::MechanismStatus { .. } => self.optical(command),
        };
        decided.unwrap_or_else(Action::Check)
    }

    fn start_stop(&self, start: bool, load_eject: bool, power: u8) -> Action {
        match (load_eject && self.identity.removable, start, power) {
            // Other power conditions look like this one.
            (_, _, 1..) => good(),
            (true, false, 0) => Action::Eject,
            (true, true, 0) => Action::Load,
            (false, true, 0) => good(),
            // A disk that stops keeps nothing in its cache (SBC-4, section 5.25).
            (false, false, 0) => match self.ready() {
                Ok(_) => Action::Io(Io::Flush),
                Err(_) => good(),
            },
        }
    }

    fn capacity(&self, command: &Command) -> Result<Action, Sense> {
        self.ready()?;
        let last = self
            .blocks()
            .checked_sub(1)
            .ok_or(Sense::LBA_OUT_OF_RANGE)?;
        let identity = self.identity;
        if *command == Command::ReadCapacity10 {
            // All ones: ask for more (SBC-4, section 5.20.2).
            let last = u32::try_from(last).unwrap_or(u32::MAX);
            let reply = Reply::zeroes(8).long(0, last).long(4, identity.block);
            return Ok(Action::Good(reply.done()));
        }
        if identity.kind == Kind::Cd {
            return Err(Sense::INVALID_OPCODE);
        }
        let exponent = identity
            .physical
            .ilog2()
            .saturating_sub(identity.block.ilog2());
        let exponent = u8::try_from(exponent).unwrap_or(0) & 0xf;
        let thin = identity.discard_granularity != 0;
        let reply = Reply::zeroes(32)
            .wide(0, last)
            .long(8, identity.block)
            .byte(13, exponent)
            .byte(14, if thin { 0x80 } else { 0 });
        Ok(Action::Good(reply.done()))
    }

    fn optical(&self, command: &Command) -> Result<Action, Sense> {
        if self.identity.kind != Kind::Cd {
            return Err(Sense::INVALID_OPCODE);
        }
        let reply = match *command {
            Command::ReadToc {
                minutes,
                format,
                track,
                room: _,
            } => {
                self.ready()?;
                disc::toc(self.blocks(), minutes, format, track)?
            }
            Command::GetConfiguration { request, first, .. } => {
                let blocks = self.ready().ok().map(|_| self.blocks());
                disc::configuration(blocks, request, first)?
            }
            Command::GetEventStatus {
                polled, classes, ..
            } => {
                // Only polling: there is no other way to tell.
                if !polled {
                    return Err(Sense::INVALID_FIELD);
                }
                return Ok(Action::TakeEvent {
                    media: classes & (1 << 4) != 0,
                });
            }
            Command::ReadDiscInformation { kind, .. } => {
                self.ready()?;
                disc::information(kind)?
            }
            Command::MechanismStatus { .. } => disc::mechanism(self.tray.open),
            _ => return Err(Sense::INVALID_OPCODE),
        };
        Ok(Action::Good(reply))
    }
}

fn good() -> Action {
    Action::Good(Vec::new())
}

/// SPC-5, section 6.33.
fn report_luns(select: u8, room: u32) -> Result<Action, Sense> {
    match select {
        0..=2 if room >= 16 => Ok(Action::ReportLuns { select }),
        _ => Err(Sense::INVALID_FIELD),
    }
}

/// The answer to REPORT LUNS of a target with these logical units.
pub fn list_luns(luns: &[u16], select: u8) -> Vec<u8> {
    const WELL_KNOWN: u8 = 1;
    let mut luns: Vec<u16> = match select {
        WELL_KNOWN => Vec::new(),
        _ => luns.to_vec(),
    };
    // Initiators begin at logical unit 0, whether it is there or not.
    if select != WELL_KNOWN && !luns.contains(&0) {
        luns.push(0);
    }
    luns.sort_unstable();
    let len = u32::try_from(luns.len().saturating_mul(8)).unwrap_or(0);
    luns.iter()
        .fold(Reply::zeroes(8).long(0, len), |reply, lun| {
            reply.push(&lun_address(*lun)).push(&[0; 6])
        })
        .done()
}

/// The first two bytes of a logical unit number (SAM-5, section 4.7.7.5).
pub fn lun_address(lun: u16) -> [u8; 2] {
    let [high, low] = lun.to_be_bytes();
    match lun {
        0..256 => [0, low],
        _ => [0x40 | high, low],
    }
}

/// What a target answers for a logical unit that it does not have.
pub fn decide_without_unit(command: &Command, lun: u16) -> Action {
    match *command {
        Command::Inquiry { page, .. } => match inquiry::answer_without_unit(page, lun) {
            Ok(reply) => Action::Good(reply),
            Err(sense) => Action::Check(sense),
        },
        Command::ReportLuns { select, room } => {
            report_luns(select, room).unwrap_or_else(Action::Check)
        }
        Command::RequestSense { descriptor, .. } => {
            Action::Good(encode_sense(Sense::NO_UNIT, descriptor))
        }
        _ => Action::Check(Sense::NO_UNIT),
    }
}

/// Sense data as REQUEST SENSE gives it.
pub fn encode_sense(sense: Sense, descriptor: bool) -> Vec<u8> {
    match descriptor {
        true => sense.descriptor().to_vec(),
        false => sense.fixed().to_vec(),
    }
}
