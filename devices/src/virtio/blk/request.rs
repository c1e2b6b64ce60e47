//! From descriptor chains to requests (Virtio 1.2, section 5.2.6). The header is copied once and
//! decided on then; what the driver changes afterwards does not count.

use block::{Account, Durability, Op, SECTOR, Unmap};

use super::config::feature;
use super::props::Disk;
use crate::ram::GuestRam;
use crate::virtio::Chain;

const HEADER_LEN: u64 = 16;
/// Bytes of a segment of a discard or a request for zeroes.
const SEGMENT_LEN: u64 = 16;
/// Longest request, as QEMU has it.
const MAX_LEN: u64 = (i32::MAX as u64) / SECTOR * SECTOR;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

/// Flag of a segment: storage may be given back.
const FLAG_UNMAP: u32 = 1;

/// The last byte of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// Memory that goes with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    None,
    /// Bytes from this offset of the readable buffers on.
    Readable(u64, u64),
    /// Bytes from this offset of the writable buffers on.
    Writable(u64, u64),
}

/// What a chain asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Something for the node.
    Io {
        op: Op,
        data: Data,
        account: Account,
        /// Bytes.
        len: u64,
    },
    /// The serial number.
    GetId,
    /// Nothing to be done; the driver gets this status.
    Refused {
        status: Status,
        account: Option<Account>,
    },
}

/// What requests are checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits<'a> {
    pub disk: &'a Disk,
    /// Bytes of the disk.
    pub size: u64,
    pub durability: Durability,
}

/// # Errors
/// With what the driver did wrong, when there is no place for a status.
pub(super) fn parse(
    chain: &Chain,
    memory: &GuestRam,
    limits: &Limits<'_>,
) -> Result<Request, &'static str> {
    let mut header = [0; HEADER_LEN as usize];
    if chain.readable.read(memory, 0, &mut header) < header.len() {
        return Err("a request has no header");
    }
    let room = chain.writable.len().checked_sub(1);
    let room = room.ok_or("a request has no room for its status")?;
    let sector = word64(&header, 8);
    let given = chain.readable.len().saturating_sub(HEADER_LEN);
    Ok(match word32(&header, 0) {
        T_IN => limits.transfer(sector, room, Account::Read),
        T_OUT => limits.transfer(sector, given, Account::Write),
        T_FLUSH => Request::Io {
            op: Op::Flush,
            data: Data::None,
            account: Account::Flush,
            len: 0,
        },
        T_GET_ID => Request::GetId,
        T_DISCARD if limits.disk.features() & feature::DISCARD != 0 => {
            limits.segment(chain, memory, Account::Unmap)?
        }
        T_WRITE_ZEROES if limits.disk.features() & feature::WRITE_ZEROES != 0 => {
            limits.segment(chain, memory, Account::Write)?
        }
        _ => refused(Status::Unsupported, None),
    })
}

fn refused(status: Status, account: Option<Account>) -> Request {
    Request::Refused { status, account }
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    u32::from_le_bytes(word.copied().unwrap_or_default())
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    u64::from_le_bytes(word.copied().unwrap_or_default())
}

impl Limits<'_> {
    /// First byte of `len` bytes from `sector` on, if they are whole blocks of the disk.
    fn place(&self, sector: u64, len: u64) -> Option<u64> {
        let offset = sector.checked_mul(SECTOR)?;
        let end = offset.checked_add(len)?;
        let whole = (offset | len).is_multiple_of(self.disk.logical.into());
        (whole && len <= MAX_LEN && end <= self.size).then_some(offset)
    }

    fn transfer(&self, sector: u64, len: u64, account: Account) -> Request {
        let read = account == Account::Read;
        let Some(offset) = self.place(sector, len) else {
            return refused(Status::IoError, Some(account));
        };
        if !read && self.disk.read_only {
            return refused(Status::IoError, Some(account));
        }
        let durability = self.durability;
        Request::Io {
            op: match read {
                true => Op::Read { offset },
                false => Op::Write { offset, durability },
            },
            data: match read {
                true => Data::Writable(0, len),
                false => Data::Readable(HEADER_LEN, len),
            },
            account,
            len,
        }
    }

    /// A discard or a request for zeroes. One segment is offered and taken; more are not
    /// supported, as in QEMU.
    fn segment(
        &self,
        chain: &Chain,
        memory: &GuestRam,
        account: Account,
    ) -> Result<Request, &'static str> {
        let mut segment = [0; SEGMENT_LEN as usize];
        if chain.readable.read(memory, HEADER_LEN, &mut segment) < segment.len() {
            return Err("a discard or a request for zeroes has no segment");
        }
        let (sector, count, flags) = (
            word64(&segment, 0),
            word32(&segment, 8),
            word32(&segment, 12),
        );
        let zeroes = account == Account::Write;
        let known = if zeroes { FLAG_UNMAP } else { 0 };
        if chain.readable.len() > HEADER_LEN + SEGMENT_LEN || flags & !known != 0 {
            return Ok(refused(Status::Unsupported, None));
        }
        let most = match zeroes {
            true => self.disk.max_write_zeroes,
            false => self.disk.max_discard,
        };
        let len = u64::from(count).saturating_mul(SECTOR);
        let offset = self.place(sector, len).filter(|_| count <= most);
        let Some(offset) = offset.filter(|_| !self.disk.read_only) else {
            return Ok(refused(Status::IoError, Some(account)));
        };
        let op = match zeroes {
            true => Op::WriteZeroes {
                offset,
                len,
                unmap: match flags & FLAG_UNMAP {
                    0 => Unmap::Keep,
                    _ => Unmap::May,
                },
                durability: self.durability,
            },
            false => Op::Discard { offset, len },
        };
        Ok(Request::Io {
            op,
            data: Data::None,
            account,
            len,
        })
    }
}
