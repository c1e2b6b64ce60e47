//! What a logical unit says when a command ends badly (SPC-5, section 4.4).

use std::io;

/// A sense key with its additional code and qualifier (SPC-5, tables 27 and F.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// What kind of trouble it is.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

/// Bytes of sense data in fixed format, as far as it is used here.
pub const FIXED_LEN: usize = 18;
/// Bytes of sense data in descriptor format without descriptors.
const DESCRIPTOR_LEN: usize = 8;

const fn sense(key: u8, asc: u8, ascq: u8) -> Sense {
    Sense { key, asc, ascq }
}

impl Sense {
    /// Nothing to tell.
    pub const NONE: Sense = sense(0x0, 0x00, 0x00);
    /// Not ready: no medium.
    pub const NO_MEDIUM: Sense = sense(0x2, 0x3a, 0x00);
    /// Not ready: no medium, and the tray is closed.
    pub const NO_MEDIUM_TRAY_CLOSED: Sense = sense(0x2, 0x3a, 0x01);
    /// Not ready: no medium, and the tray is open.
    pub const NO_MEDIUM_TRAY_OPEN: Sense = sense(0x2, 0x3a, 0x02);
    /// Not ready: the tray is locked, and empty.
    pub const EMPTY_REMOVAL_PREVENTED: Sense = sense(0x2, 0x53, 0x02);
    /// Medium error: an unrecovered read error.
    pub const READ_ERROR: Sense = sense(0x3, 0x11, 0x00);
    /// Hardware error: an internal failure.
    pub const TARGET_FAILURE: Sense = sense(0x4, 0x44, 0x00);
    /// Illegal request: a list of parameters has a wrong length.
    pub const PARAMETER_LENGTH: Sense = sense(0x5, 0x1a, 0x00);
    /// Illegal request: no such command.
    pub const INVALID_OPCODE: Sense = sense(0x5, 0x20, 0x00);
    /// Illegal request: no such block.
    pub const LBA_OUT_OF_RANGE: Sense = sense(0x5, 0x21, 0x00);
    /// Illegal request: a field of the command block.
    pub const INVALID_FIELD: Sense = sense(0x5, 0x24, 0x00);
    /// Illegal request: no such logical unit.
    pub const NO_UNIT: Sense = sense(0x5, 0x25, 0x00);
    /// Illegal request: a field of a list of parameters.
    pub const INVALID_PARAMETER: Sense = sense(0x5, 0x26, 0x00);
    /// Illegal request: saved parameters are not kept.
    pub const SAVING_NOT_SUPPORTED: Sense = sense(0x5, 0x39, 0x00);
    /// Illegal request: the tray is locked.
    pub const REMOVAL_PREVENTED: Sense = sense(0x5, 0x53, 0x02);
    /// Unit attention: the medium may be another.
    pub const MEDIUM_CHANGED: Sense = sense(0x6, 0x28, 0x00);
    /// Unit attention: power on or reset.
    pub const RESET: Sense = sense(0x6, 0x29, 0x00);
    /// Unit attention: another size.
    pub const CAPACITY_CHANGED: Sense = sense(0x6, 0x2a, 0x09);
    /// Unit attention: the medium was taken out.
    pub const MEDIUM_REMOVED: Sense = sense(0x6, 0x3a, 0x00);
    /// Unit attention: other logical units came or went.
    pub const LUNS_CHANGED: Sense = sense(0x6, 0x3f, 0x0e);
    /// Data protect: write protected.
    pub const WRITE_PROTECTED: Sense = sense(0x7, 0x27, 0x00);
    /// Data protect: no room is left.
    pub const NO_SPACE: Sense = sense(0x7, 0x27, 0x07);
    /// Aborted command: the host failed.
    pub const IO_ERROR: Sense = sense(0xb, 0x00, 0x06);
    /// Miscompare: what was verified is something else.
    pub const MISCOMPARE: Sense = sense(0xe, 0x1d, 0x00);

    /// What an error of the host looks like to the guest.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOMEDIUM) => Sense::NO_MEDIUM,
            Some(libc::ENOMEM) => Sense::TARGET_FAILURE,
            Some(libc::EINVAL) => Sense::INVALID_FIELD,
            Some(libc::ENOSPC | libc::EDQUOT) => Sense::NO_SPACE,
            Some(libc::ENODATA) => Sense::READ_ERROR,
            Some(libc::EPERM | libc::EROFS) => Sense::WRITE_PROTECTED,
            Some(_) | None => Sense::IO_ERROR,
        }
    }

    /// In fixed format (SPC-5, section 4.4.3).
    pub fn fixed(self) -> [u8; FIXED_LEN] {
        let mut data = [0; FIXED_LEN];
        data[0] = 0x70;
        data[2] = self.key;
        data[7] = (FIXED_LEN - 8) as u8;
        data[12] = self.asc;
        data[13] = self.ascq;
        data
    }

    /// In descriptor format (SPC-5, section 4.4.2).
    pub fn descriptor(self) -> [u8; DESCRIPTOR_LEN] {
        [0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_say_the_same() {
        let fixed = Sense::CAPACITY_CHANGED.fixed();
        assert_eq!(
            [fixed[0], fixed[2], fixed[12], fixed[13]],
            [0x70, 6, 0x2a, 9]
        );
        assert_eq!(usize::from(fixed[7]) + 8, fixed.len());
        assert_eq!(
            Sense::CAPACITY_CHANGED.descriptor()[..4],
            [0x72, 6, 0x2a, 9]
        );
    }

    #[test]
    fn errors_of_the_host_have_their_sense() {
        let of = |errno| Sense::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::ENOSPC), Sense::NO_SPACE);
        assert_eq!(of(libc::ENOMEDIUM), Sense::NO_MEDIUM);
        assert_eq!(of(libc::EIO), Sense::IO_ERROR);
        assert_eq!(Sense::of(&io::Error::other("odd")), Sense::IO_ERROR);
    }
}
