//! What it offers beyond data.

use std::sync::atomic::Ordering;

use super::header::{BACKING_FILE, LEN, MAX_NAME, NEED_CHECK, NO_PROBE};
use super::{Qed, raw_format, read_state, unreadable, unwritable};
use crate::error::BlockError;
use crate::format::fields::{self, put};
use crate::image::{CheckReport, Image, ImageView, Repair};
use crate::node::{NodeExt, SECTOR};

/// Where names of backing files are put: the one that is not in use, so that a crash leaves
/// either. Both are within the smallest cluster.
const NAME_PLACES: [u64; 2] = [LEN as u64, 2048];

impl Image for Qed {
    fn view(&self) -> ImageView {
        let state = self.state();
        let header = &state.tables.header;
        ImageView {
            cluster_size: Some(header.cluster()),
            backing_file: state.backing_file.clone(),
            backing_format: raw_format(header),
            dirty: header.needs_check(),
            compressed: false,
            specific: None,
        }
    }

    fn check(&self, repair: Repair) -> Result<CheckReport, BlockError> {
        let writable = !self.read_only.load(Ordering::Acquire);
        if !writable && repair != Repair::No {
            return Err(BlockError::ReadOnly);
        }
        self.look(repair, writable)
    }

    fn change_backing(&self, file: Option<&str>, format: Option<&str>) -> Result<(), BlockError> {
        if self.read_only.load(Ordering::Acquire) {
            return Err(BlockError::ReadOnly);
        }
        let work = self.work();
        let mut header = self.state().tables.header;
        if header.compat_features != 0 {
            // They may depend on what is changed here.
            return Err(BlockError::Unsupported(
                "QED image has features that are not understood".to_owned(),
            ));
        }
        header.features &= !(BACKING_FILE | NO_PROBE);
        (header.name_offset, header.name_size) = (0, 0);
        if let Some(name) = file {
            header.name_size = name_size(name)?;
            header.name_offset = self.put_name(name)?;
            header.features |= BACKING_FILE;
            if format == Some("raw") {
                header.features |= NO_PROBE;
            }
        }
        self.write_out(&work).map_err(unwritable)?;
        let before = self.state().tables.header;
        // Writing out may have set or cleared the bit.
        header.features = header.features & !NEED_CHECK | before.features & NEED_CHECK;
        self.state().tables.header = header;
        let written = self
            .write_header()
            .and_then(|()| self.storage.there()?.flush());
        if let Err(error) = written {
            self.state().tables.header = before;
            return Err(unwritable(error));
        }
        self.state().backing_file = file.map(str::to_owned);
        Ok(())
    }

    fn close(&self) -> Result<(), BlockError> {
        if self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        let work = self.work();
        self.write_out(&work).map_err(unwritable)?;
        self.mark_clean().map_err(unwritable)?;
        let flushed = self.storage.there().and_then(|node| node.flush());
        flushed.map_err(unwritable)?;
        self.read_only.store(true, Ordering::Release);
        Ok(())
    }

    fn reopen(&self, read_only: bool) -> Result<(), BlockError> {
        if !read_only && !self.read_only.load(Ordering::Acquire) {
            // It could not be closed, and still holds what the file does not have.
            return Ok(());
        }
        let node = self.storage.node().ok_or(BlockError::Empty)?;
        {
            let _work = self.work();
            let state = read_state(&*node)?;
            self.screen.set_size(state.tables.header.image_size);
            *self.state() = state;
        }
        self.read_only.store(read_only, Ordering::Release);
        self.make_sound()
    }
}

/// # Errors
/// When it is too long.
pub(super) fn name_size(name: &str) -> Result<u32, BlockError> {
    let len = u32::try_from(name.len()).ok();
    len.filter(|len| *len <= MAX_NAME)
        .ok_or_else(|| BlockError::Unsupported("Backing file name too long".to_owned()))
}

impl Qed {
    /// Writes a name into the header's clusters, apart from the one in use; where.
    fn put_name(&self, name: &str) -> Result<u32, BlockError> {
        let old = self.state().tables.header;
        let in_use = (old.features & BACKING_FILE != 0).then_some(u64::from(old.name_offset));
        let used_end = in_use.map(|at| at.saturating_add(old.name_size.into()));
        let free = |place: &u64| match in_use.zip(used_end) {
            None => true,
            Some((start, end)) => end <= *place || start >= place.saturating_add(MAX_NAME.into()),
        };
        let place = NAME_PLACES.into_iter().find(free);
        let place = place.ok_or_else(|| {
            BlockError::Unsupported("No room for another name of a backing file".to_owned())
        })?;
        let node = self.storage.node().ok_or(BlockError::Empty)?;
        let start = place / SECTOR * SECTOR;
        let end = place.saturating_add(name.len() as u64);
        let len = end.next_multiple_of(SECTOR).saturating_sub(start);
        let mut bytes = fields::read(&*node, start, len).map_err(unreadable)?;
        put(
            &mut bytes,
            place.saturating_sub(start) as usize,
            name.as_bytes(),
        );
        let written = node.write_at(start, &bytes).and_then(|()| node.flush());
        written.map_err(unwritable)?;
        Ok(u32::try_from(place).unwrap_or(0))
    }
}
