//! What a drive says of an optical medium: one session with one track of data, complete, that
//! cannot be written (MMC-6).

use super::reply::Reply;
use super::sense::Sense;
use super::tray::{Loaded, MediaEvent};

/// Blocks of the longest CD, 80 minutes; more are a DVD.
const MAX_CD: u64 = 80 * 60 * 75;
/// Profiles (MMC-6, table 92).
const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;
/// Number of the lead-out "track".
const LEAD_OUT: u8 = 0xaa;
/// Blocks before the first one that is counted in minutes.
const PREGAP: u64 = 150;
/// Q sub-channel: a track of data that may not be copied; its place is encoded.
const ADR_CONTROL: u8 = 0x14;

/// A place on the medium, as READ TOC has it.
fn place(lba: u64, minutes: bool) -> [u8; 4] {
    let lba32 = u32::try_from(lba).unwrap_or(u32::MAX);
    if !minutes {
        return lba32.to_be_bytes();
    }
    let at = lba.saturating_add(PREGAP);
    let part = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    [0, part(at / (75 * 60)), part(at / 75 % 60), part(at % 75)]
}

/// READ TOC/PMA/ATIP (MMC-6, section 6.25).
///
/// # Errors
/// For formats and tracks that are not there.
pub fn toc(blocks: u64, minutes: bool, format: u8, track: u8) -> Result<Vec<u8>, Sense> {
    match format {
        0 => tracks(blocks, minutes, track),
        // One session: its number, and where its first track begins.
        1 => Ok(Reply::zeroes(12)
            .byte(2, 1)
            .byte(3, 1)
            .byte(5, ADR_CONTROL)
            .byte(6, 1)
            .put(8, &place(0, minutes))
            .length_after(0)
            .done()),
        2 => Ok(raw_toc(blocks)),
        _ => Err(Sense::INVALID_FIELD),
    }
}

fn tracks(blocks: u64, minutes: bool, from: u8) -> Result<Vec<u8>, Sense> {
    let entry = |number: u8, lba: u64| {
        Reply::zeroes(8)
            .byte(1, ADR_CONTROL)
            .byte(2, number)
            .put(4, &place(lba, minutes))
            .done()
    };
    let header = Reply::zeroes(4).byte(2, 1).byte(3, 1);
    let reply = match from {
        0 | 1 => header.push(&entry(1, 0)),
        LEAD_OUT => header,
        _ => return Err(Sense::INVALID_FIELD),
    };
    let reply = reply.push(&entry(LEAD_OUT, blocks));
    Ok(reply.length_after(0).done())
}

/// The Q sub-channel of the lead-in (MMC-6, section 6.25.3.4): first track, last track, lead-out,
/// the track. Always in minutes.
fn raw_toc(blocks: u64) -> Vec<u8> {
    let entry = |point: u8, at: [u8; 3]| {
        Reply::zeroes(11)
            .byte(0, 1)
            .byte(1, ADR_CONTROL)
            .byte(3, point)
            .put(8, &at)
            .done()
    };
    let [_, minute, second, frame] = place(blocks, true);
    let [_, m0, s0, f0] = place(0, true);
    Reply::zeroes(4)
        .byte(2, 1)
        .byte(3, 1)
        .push(&entry(0xa0, [1, 0, 0]))
        .push(&entry(0xa1, [1, 0, 0]))
        .push(&entry(0xa2, [minute, second, frame]))
        .push(&entry(1, [m0, s0, f0]))
        .length_after(0)
        .done()
}

/// GET CONFIGURATION (MMC-6, section 6.5). `blocks` of the medium, if there is one.
///
/// # Errors
/// For a way to ask that is not there.
pub fn configuration(blocks: Option<u64>, request: u8, first: u16) -> Result<Vec<u8>, Sense> {
    let current = match blocks {
        None => 0,
        Some(blocks) if blocks > MAX_CD => DVD_ROM,
        Some(_) => CD_ROM,
    };
    let profile = |number: u16| {
        let [high, low] = number.to_be_bytes();
        [high, low, u8::from(number == current), 0]
    };
    const PERSISTENT: u8 = 1 << 1;
    const CURRENT: u8 = 1;
    let header = |number: u16, version: u8, flags: u8, len: u8| {
        let [high, low] = number.to_be_bytes();
        [high, low, (version << 2) | flags, len]
    };
    let any = if blocks.is_some() { CURRENT } else { 0 };
    let both = PERSISTENT | CURRENT;
    let features: [(u16, u8, Vec<u8>); 4] = [
        // Profiles.
        (
            0,
            both,
            [header(0, 0, both, 8), profile(DVD_ROM), profile(CD_ROM)].concat(),
        ),
        // Core: the transport is of the SCSI family, events can be polled.
        (
            1,
            both,
            [header(1, 2, both, 8), [0, 0, 0, 1], [1, 0, 0, 0]].concat(),
        ),
        // The medium can be taken out: a tray that can be ejected and locked.
        (3, both, [header(3, 2, both, 4), [0x29, 0, 0, 0]].concat()),
        // Blocks can be read at random: their length, how many at once.
        (
            0x10,
            any,
            [header(0x10, 0, any, 8), [0, 0, 8, 0], [0, 1, 0, 0]].concat(),
        ),
    ];
    let wanted = |number: u16, flags: u8| match request {
        0 => Ok(number >= first),
        1 => Ok(number >= first && flags & CURRENT != 0),
        2 => Ok(number == first),
        _ => Err(Sense::INVALID_FIELD),
    };
    let mut reply = Reply::zeroes(8).word(6, current);
    for (number, flags, feature) in &features {
        if wanted(*number, *flags)? {
            reply = reply.push(feature);
        }
    }
    let bytes = reply.done();
    let rest = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(0);
    Ok(Reply::default().push(&bytes).long(0, rest).done())
}

/// GET EVENT STATUS NOTIFICATION (MMC-6, section 6.6): there are events about the medium alone.
pub fn event_status(event: Option<MediaEvent>, open: bool, loaded: Loaded) -> Vec<u8> {
    const MEDIA: u8 = 4;
    const NO_EVENT: u8 = 0x80;
    let header = Reply::zeroes(4).byte(3, 1 << MEDIA);
    let Some(event) = event else {
        return header.byte(2, NO_EVENT).length_after(0).done();
    };
    let present = loaded == Loaded::Medium && !open;
    let status = u8::from(open) | u8::from(present) << 1;
    header
        .byte(2, MEDIA)
        .push(&[event.code(), status, 0, 0])
        .length_after(0)
        .done()
}

/// READ DISC INFORMATION (MMC-6, section 6.21).
///
/// # Errors
/// For other information than the standard one.
pub fn information(kind: u8) -> Result<Vec<u8>, Sense> {
    if kind != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    Ok(Reply::zeroes(34)
        // The last session is complete, and so is the disc.
        .byte(2, 0x0e)
        // First track; sessions; first and last track of the last session.
        .put(3, &[1, 1, 1, 1])
        // It may be used as it is.
        .byte(7, 0x20)
        // Where the lead-in of a next session would be, and the last possible lead-out: nowhere.
        .put(16, &[0xff; 8])
        .length_after(0)
        .done())
}

/// MECHANISM STATUS (MMC-6, section 6.9): a drive with one slot.
pub fn mechanism(open: bool) -> Vec<u8> {
    Reply::zeroes(8).byte(1, u8::from(open) << 4).done()
}
