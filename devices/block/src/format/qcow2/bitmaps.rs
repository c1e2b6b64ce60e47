//! What is to be done before the first write: dirty bitmaps in the image are kept right.
//!
//! Bitmaps are not updated here. One that is to be kept up with every write (`auto`) is marked as
//! in use before the first, so that whoever opens the image next knows that it says nothing any
//! more; all others stay as they are.

use std::io;

use super::Qcow2;
use super::header::{autoclear, extension};
use super::io::{be32, be64, eio};

/// Flags of a bitmap (qcow2 specification, "Bitmap directory").
const IN_USE: u32 = 1;
const AUTO: u32 = 1 << 1;
const ENTRY: usize = 24;
const MAX_DIRECTORY: u64 = 64 << 20;

/// A bitmap's entry in the directory.
struct Bitmap {
    /// Where it begins.
    at: usize,
    flags: u32,
    granularity_bits: u8,
    name: String,
}

impl Qcow2 {
    /// The directory's place, if there is one that makes sense.
    fn directory_range(&self) -> Option<(u64, u64)> {
        let header = self.header();
        let data = header.extension(extension::BITMAPS)?;
        if header.autoclear & autoclear::BITMAPS == 0 || data.len() < 24 {
            return None;
        }
        let (len, offset) = (be64(data, 8), be64(data, 16));
        drop(header);
        let end = offset.checked_add(len)?;
        let inside =
            end <= self.storage.info().size && offset.is_multiple_of(self.geometry.cluster());
        (inside && len <= MAX_DIRECTORY && offset > 0).then_some((offset, len))
    }

    fn read_directory(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Some((offset, len)) = self.directory_range() else {
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| eio())?];
        self.read_meta(offset, &mut bytes)?;
        Ok(Some((offset, bytes)))
    }

    /// Reads what bitmaps there are, to tell of them.
    pub(super) fn load_bitmaps(&self) {
        let read = self.read_directory().ok().flatten();
        let found = read
            .and_then(|(_, bytes)| entries(&bytes))
            .unwrap_or_default();
        let views = found.into_iter().map(|bitmap| {
            let granularity = 1u64.checked_shl(bitmap.granularity_bits.into());
            (bitmap.name, granularity.unwrap_or(0))
        });
        let views = views.collect();
        self.meta().bitmaps = views;
    }

    /// Does what has to be done before the first write.
    ///
    /// # Errors
    /// The host's; EIO for an image that is damaged or closed.
    pub(super) fn prepare_to_write(&self) -> io::Result<()> {
        if self.is_broken() || self.is_closed() {
            return Err(eio());
        }
        if self.meta().prepared {
            return Ok(());
        }
        let work = self.work();
        if self.meta().prepared {
            return Ok(());
        }
        let mut keep = autoclear::KNOWN;
        match self.mark_bitmaps() {
            Ok(()) => {}
            Err(error) => {
                log::warn!("Bitmaps of an image are given up: {error}");
                keep &= !autoclear::BITMAPS;
            }
        }
        let now = self.header().autoclear;
        if now & !keep != 0 {
            self.patch_header(|header| header.autoclear &= keep)?;
        }
        self.sync()?;
        if self.geometry.external {
            super::io::grow(&self.data, self.size())?;
            let end = self.data.info().size;
            self.meta().data_end = end;
        }
        self.meta().prepared = true;
        drop(work);
        Ok(())
    }

    fn mark_bitmaps(&self) -> io::Result<()> {
        if self.header().autoclear & autoclear::BITMAPS == 0 {
            return Ok(());
        }
        let (offset, mut bytes) = self.read_directory()?.ok_or_else(eio)?;
        let found = entries(&bytes).ok_or_else(eio)?;
        let mut changed = false;
        for bitmap in found {
            if bitmap.flags & AUTO != 0 && bitmap.flags & IN_USE == 0 {
                let flags = (bitmap.flags | IN_USE).to_be_bytes();
                let at = bitmap.at.saturating_add(12);
                let place = bytes.get_mut(at..at.saturating_add(4)).ok_or_else(eio)?;
                place.copy_from_slice(&flags);
                changed = true;
            }
        }
        match changed {
            true => self.write_meta(offset, &bytes),
            false => Ok(()),
        }
    }
}

/// The directory's entries; `None` when it makes no sense.
fn entries(bytes: &[u8]) -> Option<Vec<Bitmap>> {
    let mut found = Vec::new();
    let mut at = 0usize;
    while at < bytes.len() {
        let entry = bytes.get(at..)?;
        let fixed = entry.get(..ENTRY)?;
        let name_len = be32(fixed, 16) as usize & 0xffff;
        let extra = be32(fixed, 20) as usize;
        let name_at = ENTRY.checked_add(extra)?;
        let end = name_at.checked_add(name_len)?;
        let name = entry.get(name_at..end)?;
        found.push(Bitmap {
            at,
            flags: be32(fixed, 12),
            granularity_bits: *fixed.get(17)?,
            name: String::from_utf8_lossy(name).into_owned(),
        });
        at = at.checked_add(end.checked_next_multiple_of(8)?)?;
    }
    Some(found)
}
