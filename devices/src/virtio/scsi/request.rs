//! Requests and answers in guest memory (Virtio 1.2, sections 5.6.6.1 to 5.6.6.3). A header is
//! copied once and decided on then.

use super::config::Sizes;
use crate::ram::GuestRam;
use crate::scsi::sense::Sense;
use crate::scsi::target::{DataOut, lun_address};
use crate::scsi::{Place, sense};
use crate::virtio::Chain;

/// Bytes in front of the command block.
const HEADER: usize = 19;
/// Bytes in front of the sense data of an answer.
const ANSWER: usize = 12;
/// Bytes of a command block that are looked at.
const BLOCK: usize = 32;
/// SAM status.
const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;

/// What became of a request on its way, whatever its command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Response {
    /// It reached its logical unit; of task management: done.
    Ok = 0,
    /// The buffers are shorter than the command says.
    Overrun = 1,
    /// It was aborted.
    Aborted = 2,
    /// There is no such target.
    BadTarget = 3,
    /// Its logical unit was reset.
    Reset = 4,
    /// Something else.
    Failure = 9,
    /// Of task management: there is such a task.
    Succeeded = 10,
    /// Of task management: there is no such thing.
    Rejected = 11,
    /// Of task management: there is no such logical unit.
    IncorrectLun = 12,
}

/// Who a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(pub [u8; 8]);

impl Address {
    /// The place it names, if it is one on this bus.
    pub fn place(self) -> Option<Place> {
        let [1, target, high, low, ..] = self.0 else {
            return None;
        };
        // Peripheral or flat addressing.
        match high {
            0 | 0x40..0x80 => Some(Place {
                target,
                lun: u16::from_be_bytes([high & 0x3f, low]),
            }),
            _ => None,
        }
    }

    /// The address of a place.
    pub fn of(place: Place) -> Self {
        let [high, low] = lun_address(place.lun);
        Address([1, place.target, high, low, 0, 0, 0, 0])
    }
}

/// A request.
pub(super) struct Request {
    pub address: Address,
    pub tag: u64,
    block: [u8; BLOCK],
    block_len: usize,
    /// Where data of the driver begins in its buffers.
    pub out_at: u64,
    /// Bytes of it.
    pub out_len: u64,
    /// Where data for the driver begins in its buffers.
    pub in_at: u64,
    /// Bytes of it at most.
    pub in_len: u64,
}

impl Request {
    /// # Errors
    /// With what the driver did wrong, when there is no place for an answer.
    pub fn parse(chain: &Chain, memory: &GuestRam, sizes: Sizes) -> Result<Self, &'static str> {
        let out_at = (HEADER as u64).saturating_add(sizes.cdb.into());
        let in_at = (ANSWER as u64).saturating_add(sizes.sense.into());
        let too_short = "a request or the room for its answer is too short";
        let out_len = chain.readable.len().checked_sub(out_at).ok_or(too_short)?;
        let in_len = chain.writable.len().checked_sub(in_at).ok_or(too_short)?;
        let mut header = [0; HEADER + BLOCK];
        let got = chain.readable.read(memory, 0, &mut header);
        let (head, rest) = header.split_first_chunk::<HEADER>().ok_or(too_short)?;
        let address = *head.first_chunk().ok_or(too_short)?;
        let tag = head.get(8..).and_then(|tag| tag.first_chunk());
        let mut block = [0; BLOCK];
        for (to, from) in block.iter_mut().zip(rest) {
            *to = *from;
        }
        let given = got.saturating_sub(HEADER);
        Ok(Request {
            address: Address(address),
            tag: u64::from_le_bytes(*tag.ok_or(too_short)?),
            block,
            block_len: given.min(sizes.cdb as usize).min(BLOCK),
            out_at,
            out_len,
            in_at,
            in_len,
        })
    }

    /// The command block.
    pub fn block(&self) -> &[u8] {
        self.block.get(..self.block_len).unwrap_or(&[])
    }
}

/// Data of the driver, behind the header.
pub(super) struct Out<'a> {
    pub chain: &'a Chain,
    pub memory: &'a GuestRam,
    pub at: u64,
    pub len: u64,
}

impl DataOut for Out<'_> {
    fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let rest = self.len.saturating_sub(offset);
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(into.len());
        let into = into.get_mut(..len).unwrap_or_default();
        let at = self.at.saturating_add(offset);
        self.chain.readable.read(self.memory, at, into)
    }
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub response: Response,
    /// CHECK CONDITION with this, or GOOD.
    pub sense: Option<Sense>,
    /// Bytes of the buffers for data that were not used.
    pub residual: u64,
}

impl Answer {
    /// Writes it; the number of bytes.
    pub fn write(&self, chain: &Chain, memory: &GuestRam, sizes: Sizes) -> u64 {
        let data = self.sense.map(Sense::fixed);
        let sense: &[u8] = data.as_ref().map_or(&[], |data| data);
        let room = usize::try_from(sizes.sense).unwrap_or(usize::MAX);
        let sense = sense.get(..sense::FIXED_LEN.min(room)).unwrap_or(&[]);
        let status = match self.sense {
            Some(_) => CHECK_CONDITION,
            None => GOOD,
        };
        let sense_len = u32::try_from(sense.len()).unwrap_or(0);
        let residual = u32::try_from(self.residual).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(ANSWER.saturating_add(sense.len()));
        bytes.extend(sense_len.to_le_bytes());
        bytes.extend(residual.to_le_bytes());
        bytes.extend([0, 0, status, self.response as u8]);
        bytes.extend(sense);
        chain.writable.write(memory, 0, &bytes) as u64
    }
}
