//! Reading command blocks: operation codes and the fields behind them.

use super::{Command, Compare, Extent, ModeForm, PageControl};
use crate::scsi::sense::Sense;

/// The longest block that is looked at.
const MAX_LEN: usize = 16;

/// Operation codes.
mod op {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0a;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const RESERVE_6: u8 = 0x16;
    pub const RELEASE_6: u8 = 0x17;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const SEEK_10: u8 = 0x2b;
    pub const WRITE_VERIFY_10: u8 = 0x2e;
    pub const VERIFY_10: u8 = 0x2f;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const WRITE_SAME_10: u8 = 0x41;
    pub const UNMAP: u8 = 0x42;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS: u8 = 0x4a;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const RESERVE_10: u8 = 0x56;
    pub const RELEASE_10: u8 = 0x57;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_16: u8 = 0x88;
    pub const WRITE_16: u8 = 0x8a;
    pub const WRITE_VERIFY_16: u8 = 0x8e;
    pub const VERIFY_16: u8 = 0x8f;
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub const WRITE_SAME_16: u8 = 0x93;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub const REPORT_LUNS: u8 = 0xa0;
    pub const READ_12: u8 = 0xa8;
    pub const WRITE_12: u8 = 0xaa;
    pub const WRITE_VERIFY_12: u8 = 0xae;
    pub const VERIFY_12: u8 = 0xaf;
    pub const MECHANISM_STATUS: u8 = 0xbd;
}

/// Service action of SERVICE ACTION IN(16).
const READ_CAPACITY_16: u8 = 0x10;

/// Bytes of a block with this operation code; `None` where that is the vendor's business.
fn block_len(code: u8) -> Option<usize> {
    match code >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

impl Command {
    /// Reads a block. Bytes behind its end do not count.
    ///
    /// # Errors
    /// With what the initiator is told: a command that is not there, a block that was cut off, a
    /// field with a value that has no meaning here.
    pub fn decode(block: &[u8]) -> Result<Self, Sense> {
        let code = *block.first().ok_or(Sense::INVALID_OPCODE)?;
        let len = block_len(code).ok_or(Sense::INVALID_OPCODE)?;
        let given = block.get(..len).ok_or(Sense::INVALID_FIELD)?;
        let mut bytes = [0; MAX_LEN];
        for (to, from) in bytes.iter_mut().zip(given) {
            *to = *from;
        }
        let cdb = Block(bytes);
        // NACA.
        if given.last().is_some_and(|control| control & 4 != 0) {
            return Err(Sense::INVALID_FIELD);
        }
        match code {
            op::TEST_UNIT_READY => Ok(Command::TestUnitReady),
            op::REQUEST_SENSE => Ok(Command::RequestSense {
                descriptor: cdb.bit(1, 1),
                room: cdb.byte(4).into(),
            }),
            op::INQUIRY => cdb.inquiry(),
            op::MODE_SENSE_6 => cdb.mode_sense(ModeForm::Six, cdb.byte(4).into()),
            op::MODE_SENSE_10 => cdb.mode_sense(ModeForm::Ten, cdb.word(7)),
            op::MODE_SELECT_6 => cdb.mode_select(ModeForm::Six, cdb.byte(4).into()),
            op::MODE_SELECT_10 => cdb.mode_select(ModeForm::Ten, cdb.word(7)),
            // For a third party or with extents there is none.
            op::RESERVE_6 | op::RELEASE_6 if cdb.bit(1, 0x11) => Err(Sense::INVALID_FIELD),
            op::RESERVE_10 | op::RELEASE_10 if cdb.bit(1, 0x13) => Err(Sense::INVALID_FIELD),
            op::RESERVE_6 | op::RELEASE_6 | op::RESERVE_10 | op::RELEASE_10 => Ok(Command::Reserve),
            op::START_STOP_UNIT => Ok(Command::StartStop {
                start: cdb.bit(4, 1),
                load_eject: cdb.bit(4, 2),
                power: cdb.byte(4) >> 4,
            }),
            op::ALLOW_MEDIUM_REMOVAL => Ok(Command::PreventRemoval {
                prevent: cdb.bit(4, 1),
            }),
            op::REPORT_LUNS => Ok(Command::ReportLuns {
                select: cdb.byte(2),
                room: cdb.long(6),
            }),
            _ => cdb
                .decode_blocks()
                .or_else(|| cdb.decode_optical())
                .unwrap_or(Err(Sense::INVALID_OPCODE)),
        }
    }
}

/// A command block, filled up with zeroes.
struct Block([u8; MAX_LEN]);

impl Block {
    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn bit(&self, at: usize, mask: u8) -> bool {
        self.byte(at) & mask != 0
    }

    /// Big-endian bytes.
    fn number(&self, at: usize, len: usize) -> u64 {
        let bytes = self.0.iter().skip(at).take(len);
        bytes.fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }

    fn word(&self, at: usize) -> u32 {
        self.number(at, 2) as u32
    }

    fn long(&self, at: usize) -> u32 {
        self.number(at, 4) as u32
    }

    fn extent(&self) -> Extent {
        match self.byte(0) >> 5 {
            0 => Extent {
                lba: self.number(1, 3) & 0x1f_ffff,
                blocks: match self.byte(4) {
                    // SBC-4, section 5.11.
                    0 => 256,
                    blocks => blocks.into(),
                },
            },
            4 => Extent {
                lba: self.number(2, 8),
                blocks: self.long(10),
            },
            5 => Extent {
                lba: self.number(2, 4),
                blocks: self.long(6),
            },
            _ => Extent {
                lba: self.number(2, 4),
                blocks: self.word(7),
            },
        }
    }

    /// BYTCHK.
    fn compare(&self) -> Result<Compare, Sense> {
        match (self.byte(1) >> 1) & 3 {
            0 => Ok(Compare::Nothing),
            1 => Ok(Compare::Data),
            _ => Err(Sense::INVALID_FIELD),
        }
    }

    fn write_same(&self, no_data: bool) -> Result<Command, Sense> {
        // ANCHOR, PBDATA and LBDATA are not there.
        if self.bit(1, 0x16) {
            return Err(Sense::INVALID_FIELD);
        }
        Ok(Command::WriteSame {
            extent: self.extent(),
            unmap: self.bit(1, 0x08),
            no_data,
        })
    }

    fn mode_sense(&self, form: ModeForm, room: u32) -> Result<Command, Sense> {
        Ok(Command::ModeSense {
            form,
            control: match self.byte(2) >> 6 {
                0 => PageControl::Current,
                1 => PageControl::Changeable,
                2 => PageControl::Default,
                _ => return Err(Sense::SAVING_NOT_SUPPORTED),
            },
            page: self.byte(2) & 0x3f,
            subpage: self.byte(3),
            bare: self.bit(1, 0x08),
            room,
        })
    }

    fn mode_select(&self, form: ModeForm, len: u32) -> Result<Command, Sense> {
        // Pages as the standard has them, and not to be saved.
        match self.byte(1) & 0x11 {
            0x10 => Ok(Command::ModeSelect { form, len }),
            _ => Err(Sense::INVALID_FIELD),
        }
    }

    fn inquiry(&self) -> Result<Command, Sense> {
        let vital = self.bit(1, 1);
        if !vital && self.byte(2) != 0 || self.bit(1, 2) {
            return Err(Sense::INVALID_FIELD);
        }
        Ok(Command::Inquiry {
            page: vital.then_some(self.byte(2)),
            room: self.word(3),
        })
    }
}

impl Block {
    /// SBC-4.
    fn decode_blocks(&self) -> Option<Result<Command, Sense>> {
        // RDPROTECT, WRPROTECT, VRPROTECT: there is no protection information.
        let protected = self.byte(0) >> 5 != 0 && self.byte(1) >> 5 != 0;
        let extent = self.extent();
        let force = self.byte(0) >> 5 != 0 && self.bit(1, 0x08);
        let plain = match self.byte(0) {
            op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 => {
                Ok(Command::Read { extent, force })
            }
            op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16 => Ok(Command::Write {
                extent,
                force,
                verify: false,
            }),
            // What was written is on the medium, where else would it be verified.
            op::WRITE_VERIFY_10 | op::WRITE_VERIFY_12 | op::WRITE_VERIFY_16 => {
                self.compare().map(|_| Command::Write {
                    extent,
                    force: true,
                    verify: true,
                })
            }
            op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => self
                .compare()
                .map(|compare| Command::Verify { extent, compare }),
            op::WRITE_SAME_10 => self.write_same(false),
            op::WRITE_SAME_16 => self.write_same(self.bit(1, 1)),
            _ => return self.decode_plain_blocks(),
        };
        match protected {
            true => Some(Err(Sense::INVALID_FIELD)),
            false => Some(plain),
        }
    }

    fn decode_plain_blocks(&self) -> Option<Result<Command, Sense>> {
        Some(match self.byte(0) {
            op::READ_CAPACITY_10 => match (self.bit(8, 1), self.long(2)) {
                // PMI, or an address without it.
                (false, 0) => Ok(Command::ReadCapacity10),
                _ => Err(Sense::INVALID_FIELD),
            },
            op::SERVICE_ACTION_IN_16 if self.byte(1) & 0x1f == READ_CAPACITY_16 => {
                match (self.bit(14, 1), self.number(2, 8)) {
                    (false, 0) => Ok(Command::ReadCapacity16 {
                        room: self.long(10),
                    }),
                    _ => Err(Sense::INVALID_FIELD),
                }
            }
            op::SEEK_10 => Ok(Command::Seek {
                lba: self.number(2, 4),
            }),
            op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 => Ok(Command::Flush),
            op::UNMAP => match self.bit(1, 1) {
                // ANCHOR.
                true => Err(Sense::INVALID_FIELD),
                false => Ok(Command::Unmap { len: self.word(7) }),
            },
            _ => return None,
        })
    }

    /// MMC-6.
    fn decode_optical(&self) -> Option<Result<Command, Sense>> {
        Some(Ok(match self.byte(0) {
            op::READ_TOC => Command::ReadToc {
                minutes: self.bit(1, 2),
                // Old drivers have it in the control byte.
                format: match self.byte(2) & 0xf {
                    0 => self.byte(9) >> 6,
                    format => format,
                },
                track: self.byte(6),
                room: self.word(7),
            },
            op::GET_CONFIGURATION => Command::GetConfiguration {
                request: self.byte(1) & 3,
                first: self.number(2, 2) as u16,
                room: self.word(7),
            },
            op::GET_EVENT_STATUS => Command::GetEventStatus {
                polled: self.bit(1, 1),
                classes: self.byte(4),
                room: self.word(7),
            },
            op::READ_DISC_INFORMATION => Command::ReadDiscInformation {
                kind: self.byte(1) & 7,
                room: self.word(7),
            },
            op::MECHANISM_STATUS => Command::MechanismStatus { room: self.word(8) },
            _ => return None,
        }))
    }
}
