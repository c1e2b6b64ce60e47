//! INQUIRY: who a logical unit is (SPC-5, sections 6.7 and 7.7; SBC-4, section 6.6).

use super::identity::{Identity, Kind};
use super::reply::Reply;
use super::sense::Sense;

/// Pages of vital product data.
mod page {
    pub const SUPPORTED: u8 = 0x00;
    pub const SERIAL: u8 = 0x80;
    pub const IDENTIFIERS: u8 = 0x83;
    pub const BLOCK_LIMITS: u8 = 0xb0;
    pub const BLOCK_CHARACTERISTICS: u8 = 0xb1;
    pub const PROVISIONING: u8 = 0xb2;
}

/// Bytes of the standard answer.
const STANDARD: usize = 36;
/// Descriptors of UNMAP that are taken at once.
pub const MAX_UNMAP_DESCRIPTORS: u32 = 255;
/// A logical unit that is not there, and one that is not there now (SPC-5, table 141).
const NO_UNIT: u8 = 0x7f;
const NOT_NOW: u8 = 0x3f;

/// The answer, whole.
///
/// # Errors
/// For a page that is not there.
pub fn answer(identity: &Identity, page: Option<u8>) -> Result<Vec<u8>, Sense> {
    match page {
        None => Ok(standard(identity)),
        Some(page) => vital(identity, page),
    }
}

/// The answer of a target for a logical unit that it does not have.
///
/// # Errors
/// For pages.
pub fn answer_without_unit(page: Option<u8>, lun: u16) -> Result<Vec<u8>, Sense> {
    // Initiators begin with the first one, and are not to give up there.
    let who = if lun == 0 { NOT_NOW } else { NO_UNIT };
    match page {
        None => Ok(Reply::zeroes(STANDARD)
            .byte(0, who)
            .byte(2, 5)
            .byte(3, 0x12)
            .byte(4, (STANDARD - 5) as u8)
            .byte(7, 0x12)
            .text(8, 8, "QEMU")
            .text(16, 16, "QEMU TARGET")
            .text(32, 4, "2.5+")
            .done()),
        Some(page::SUPPORTED) => Ok(vec![who, 0, 0, 1, 0]),
        Some(_) => Err(Sense::INVALID_FIELD),
    }
}

fn standard(identity: &Identity) -> Vec<u8> {
    Reply::zeroes(STANDARD)
        .byte(0, identity.kind.device_type())
        .byte(1, if identity.removable { 0x80 } else { 0 })
        .byte(2, identity.scsi_version)
        // Addresses of any length, data as the standard has it.
        .byte(3, 0x12)
        .byte(4, (STANDARD - 5) as u8)
        // Commands can be queued.
        .byte(7, 0x12)
        .text(8, 8, &identity.vendor)
        .text(16, 16, &identity.product)
        .text(32, 4, &identity.version)
        .done()
}

fn vital(identity: &Identity, page: u8) -> Result<Vec<u8>, Sense> {
    let disk = identity.kind == Kind::Disk;
    let header = Reply::zeroes(4)
        .byte(0, identity.kind.device_type())
        .byte(1, page);
    let body = match page {
        page::SUPPORTED => header.push(&supported(identity)),
        page::SERIAL => {
            let serial = identity.serial.as_deref().ok_or(Sense::INVALID_FIELD)?;
            header.push(serial.as_bytes())
        }
        page::IDENTIFIERS => header.push(&identifiers(identity)),
        page::BLOCK_LIMITS if disk => header.push(&block_limits(identity)),
        page::BLOCK_CHARACTERISTICS if disk => {
            header.push(&Reply::zeroes(0x3c).word(0, identity.rotation_rate).done())
        }
        page::PROVISIONING if disk => header.push(&provisioning(identity)),
        _ => return Err(Sense::INVALID_FIELD),
    };
    Ok(body.length_after(2).done())
}

fn supported(identity: &Identity) -> Vec<u8> {
    let mut pages = vec![page::SUPPORTED];
    if identity.serial.is_some() {
        pages.push(page::SERIAL);
    }
    pages.push(page::IDENTIFIERS);
    if identity.kind == Kind::Disk {
        pages.extend([
            page::BLOCK_LIMITS,
            page::BLOCK_CHARACTERISTICS,
            page::PROVISIONING,
        ]);
    }
    pages
}

/// Designation descriptors (SPC-5, section 7.7.6).
fn identifiers(identity: &Identity) -> Vec<u8> {
    let mut all = Vec::new();
    // Code set and protocol; what is named and how; the name.
    let mut add = |code_set: u8, kind: u8, name: &[u8]| {
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        all.extend([code_set, kind, 0, len]);
        all.extend(name.iter().take(len.into()));
    };
    const BINARY: u8 = 1;
    const ASCII: u8 = 2;
    const SAS: u8 = 6 << 4;
    const OF_PORT: u8 = 0x90;
    const NAA: u8 = 3;
    const RELATIVE_PORT: u8 = 4;
    if let Some(name) = &identity.device_id {
        add(ASCII, 0, name.as_bytes());
    }
    if identity.wwn != 0 {
        add(BINARY, NAA, &identity.wwn.to_be_bytes());
    }
    if identity.port_wwn != 0 {
        add(
            SAS | BINARY,
            OF_PORT | NAA,
            &identity.port_wwn.to_be_bytes(),
        );
    }
    if identity.port_index != 0 {
        let [high, low] = identity.port_index.to_be_bytes();
        add(SAS | BINARY, OF_PORT | RELATIVE_PORT, &[0, 0, high, low]);
    }
    all
}

/// SBC-4, section 6.6.4; offsets count from behind the header.
fn block_limits(identity: &Identity) -> Vec<u8> {
    let granularity = identity.discard_granularity.checked_div(identity.block);
    Reply::zeroes(0x3c)
        // WRITE SAME of no blocks is not taken to mean all that follow.
        .byte(0, 1)
        .word(2, identity.min_io)
        .long(4, identity.max_io)
        .long(8, identity.opt_io)
        .long(16, identity.max_unmap)
        .long(20, MAX_UNMAP_DESCRIPTORS)
        .long(24, granularity.unwrap_or(0))
        .wide(32, identity.max_io.into())
        .done()
}

/// SBC-4, section 6.6.7.
fn provisioning(identity: &Identity) -> Vec<u8> {
    let thin = identity.discard_granularity != 0;
    Reply::zeroes(4)
        // UNMAP, and WRITE SAME with UNMAP in both sizes.
        .byte(1, if thin { 0xe0 } else { 0 })
        .byte(2, if thin { 2 } else { 1 })
        .done()
}
