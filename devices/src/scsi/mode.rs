//! Mode pages (SPC-5, section 7.5; SBC-4, section 6.5; MMC-6, section 7).

use block::WriteCache;

use super::cdb::{ModeForm, PageControl};
use super::identity::Kind;
use super::reply::Reply;
use super::sense::Sense;
use super::target::View;

/// Page codes.
mod page {
    pub const ERROR_RECOVERY: u8 = 0x01;
    pub const CACHING: u8 = 0x08;
    pub const CONTROL: u8 = 0x0a;
    pub const CAPABILITIES: u8 = 0x2a;
    pub const ALL: u8 = 0x3f;
}

/// Subpage code of all subpages.
const ALL_SUBPAGES: u8 = 0xff;
/// The write cache is on, in the third byte of the caching page.
const WCE: u8 = 0x04;
/// Bytes of a block descriptor.
const DESCRIPTOR: usize = 8;
/// Device-specific parameter: write protected.
const PROTECTED: u8 = 0x80;
/// The same: single writes can be forced to the medium.
const DPOFUA: u8 = 0x10;

/// The pages that units of a kind have, in order.
fn pages(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Disk => &[page::ERROR_RECOVERY, page::CACHING, page::CONTROL],
        Kind::Cd => &[
            page::ERROR_RECOVERY,
            page::CACHING,
            page::CONTROL,
            page::CAPABILITIES,
        ],
    }
}

/// A page with its header.
fn page(view: &View<'_>, control: PageControl, code: u8) -> Vec<u8> {
    let len = match code {
        page::CACHING => 20,
        page::CAPABILITIES => 22,
        _ => 12,
    };
    let reply = Reply::zeroes(len)
        .byte(0, code)
        .byte(1, u8::try_from(len.saturating_sub(2)).unwrap_or(0));
    match (code, control) {
        (page::CACHING, _) => {
            let on = match control {
                PageControl::Current => view.write_cache == WriteCache::Back,
                PageControl::Changeable => true,
                PageControl::Default => view.default_write_cache == WriteCache::Back,
            };
            reply.byte(2, if on { WCE } else { 0 }).done()
        }
        (_, PageControl::Changeable) => reply.done(),
        // Defects are dealt with when blocks are written.
        (page::ERROR_RECOVERY, _) => {
            let reply = reply.byte(2, 0x80);
            match view.identity.kind {
                Kind::Disk => reply.done(),
                Kind::Cd => reply.byte(3, 0x20).done(),
            }
        }
        // Commands may be done in any order.
        (page::CONTROL, _) => reply.byte(3, 0x10).done(),
        (page::CAPABILITIES, _) => capabilities(view, reply),
        _ => reply.done(),
    }
}

/// MMC-3, section 5.5.10: what drives could in its time.
fn capabilities(view: &View<'_>, reply: Reply) -> Vec<u8> {
    // 50 times the speed of a CD, in kB/s.
    const SPEED: u16 = 50 * 176;
    const TRAY: u8 = 1 << 5;
    const EJECT: u8 = 1 << 3;
    const CAN_LOCK: u8 = 1;
    let locked = if view.tray.locked { 1 << 1 } else { 0 };
    reply
        // CD-R, CD-RW and DVD-ROM can be read.
        .byte(2, 0x3b)
        // Audio, sectors of either mode, several sessions.
        .byte(4, 0x7f)
        .byte(5, 0xff)
        .byte(6, TRAY | EJECT | CAN_LOCK | locked)
        .word(8, SPEED)
        .word(10, 2)
        .word(12, 2048)
        .word(14, SPEED)
        .word(18, SPEED)
        .word(20, SPEED)
        .done()
}

/// MODE SENSE.
///
/// # Errors
/// For pages that are not there.
pub fn sense(
    view: &View<'_>,
    form: ModeForm,
    control: PageControl,
    (code, subpage): (u8, u8),
    bare: bool,
) -> Result<Vec<u8>, Sense> {
    let own = pages(view.identity.kind);
    let wanted: &[u8] = match (code, subpage) {
        (page::ALL, 0 | ALL_SUBPAGES) => own,
        (_, 0 | ALL_SUBPAGES) => {
            let found = own.iter().position(|own| *own == code);
            found
                .and_then(|at| own.get(at..=at))
                .ok_or(Sense::INVALID_FIELD)?
        }
        _ => return Err(Sense::INVALID_FIELD),
    };
    let descriptor = match (bare, view.identity.kind) {
        (false, Kind::Disk) => block_descriptor(view),
        (true, _) | (false, Kind::Cd) => Vec::new(),
    };
    let specific = match view.identity.kind {
        Kind::Disk => {
            let protected = view.medium.is_some_and(|medium| medium.read_only);
            let forced = view.identity.dpofua;
            (u8::from(protected) * PROTECTED) | (u8::from(forced) * DPOFUA)
        }
        Kind::Cd => 0,
    };
    let described = u8::try_from(descriptor.len()).unwrap_or(0);
    let header = match form {
        ModeForm::Six => Reply::zeroes(4).byte(2, specific).byte(3, described),
        ModeForm::Ten => Reply::zeroes(8).byte(3, specific).byte(7, described),
    };
    let reply = wanted.iter().fold(header.push(&descriptor), |reply, code| {
        reply.push(&page(view, control, *code))
    });
    Ok(match form {
        ModeForm::Six => {
            let bytes = reply.done();
            let rest = u8::try_from(bytes.len().saturating_sub(1)).unwrap_or(u8::MAX);
            Reply::default().push(&bytes).byte(0, rest).done()
        }
        ModeForm::Ten => reply.length_after(0).done(),
    })
}

/// Number and length of blocks, as far as they fit.
fn block_descriptor(view: &View<'_>) -> Vec<u8> {
    let blocks = view.blocks();
    let count = u32::try_from(blocks)
        .ok()
        .filter(|blocks| *blocks <= 0xff_ffff);
    Reply::zeroes(DESCRIPTOR)
        .long(0, count.unwrap_or(0))
        .long(4, view.identity.block & 0xff_ffff)
        .done()
}

/// MODE SELECT: what the write cache is to be, if that is said.
///
/// # Errors
/// For lists that are cut off, pages that are not there, and values that cannot be changed.
pub fn select(view: &View<'_>, form: ModeForm, list: &[u8]) -> Result<Option<WriteCache>, Sense> {
    if list.is_empty() {
        return Ok(None);
    }
    let at = |index: usize| list.get(index).copied().ok_or(Sense::PARAMETER_LENGTH);
    let (header, described) = match form {
        ModeForm::Six => (4, usize::from(at(3)?)),
        ModeForm::Ten => (8, usize::from(u16::from_be_bytes([at(6)?, at(7)?]))),
    };
    if described != 0 && described != DESCRIPTOR {
        return Err(Sense::INVALID_PARAMETER);
    }
    let mut rest = list
        .get(header + described..)
        .ok_or(Sense::PARAMETER_LENGTH)?;
    let mut cache = None;
    while let Some(code) = rest.first() {
        // Pages with subpages are not there.
        if code & 0x40 != 0 {
            return Err(Sense::INVALID_PARAMETER);
        }
        let code = code & 0x3f;
        if !pages(view.identity.kind).contains(&code) {
            return Err(Sense::INVALID_PARAMETER);
        }
        let current = page(view, PageControl::Current, code);
        let given = rest.get(..current.len()).ok_or(Sense::PARAMETER_LENGTH)?;
        if given.get(1) != current.get(1) {
            return Err(Sense::INVALID_PARAMETER);
        }
        cache = changed(view, code, given, &current)?.or(cache);
        rest = rest.get(current.len()..).unwrap_or(&[]);
    }
    Ok(cache)
}

/// What a page changes; only what can be changed may differ.
fn changed(
    view: &View<'_>,
    code: u8,
    given: &[u8],
    current: &[u8],
) -> Result<Option<WriteCache>, Sense> {
    let masks = page(view, PageControl::Changeable, code);
    let fixed = given.iter().zip(current).zip(&masks).skip(2);
    if fixed
        .into_iter()
        .any(|((new, old), mask)| (new ^ old) & !mask != 0)
    {
        return Err(Sense::INVALID_PARAMETER);
    }
    if code != page::CACHING {
        return Ok(None);
    }
    let on = given.get(2).is_some_and(|flags| flags & WCE != 0);
    Ok(Some(match on {
        true => WriteCache::Back,
        false => WriteCache::Through,
    }))
}
