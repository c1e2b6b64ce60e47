//! The image as such: marks in its header, closing and opening it again.

use std::io;
use std::sync::atomic::Ordering;

use super::Qcow2;
use super::header::{Compression, Header, compatible, extension, incompatible};
use super::io::{eio, put64};
use crate::error::BlockError;
use crate::image::{CheckReport, Image, ImageView, Qcow2View, Repair, Snapshots, Specific};

impl Qcow2 {
    /// Changes fields of the header in the file, and here when that has worked. They are not
    /// durable yet.
    ///
    /// # Errors
    /// The host's; EIO when the image is closed, as the file may have become another one since.
    pub(super) fn patch_header(&self, change: impl FnOnce(&mut Header)) -> io::Result<()> {
        if self.is_closed() {
            return Err(eio());
        }
        let mut header = self.header();
        let mut next = header.clone();
        change(&mut next);
        // All fields are in the first sector, which is written as one; the rest stays.
        let mut sector = vec![0; 512];
        self.read_meta(0, &mut sector)?;
        let mut put32 = |at: usize, value: u32| {
            if let Some(place) = sector.get_mut(at..at.saturating_add(4)) {
                place.copy_from_slice(&value.to_be_bytes());
            }
        };
        put32(36, next.l1_size);
        put32(56, next.refcount_table_clusters);
        put32(60, next.snapshot_count);
        put64(&mut sector, 24, next.size);
        put64(&mut sector, 40, next.l1_offset);
        put64(&mut sector, 48, next.refcount_table_offset);
        put64(&mut sector, 64, next.snapshots_offset);
        if next.version >= 3 {
            put64(&mut sector, 72, next.incompatible);
            put64(&mut sector, 80, next.compatible);
            put64(&mut sector, 88, next.autoclear);
        }
        self.write_meta(0, &sector)?;
        *header = next;
        Ok(())
    }

    /// Writes the header with its extensions anew, and makes it durable.
    ///
    /// # Errors
    /// The host's; when it does not fit into the first cluster.
    pub(super) fn rewrite_header(
        &self,
        change: impl FnOnce(&mut Header),
    ) -> Result<(), BlockError> {
        let failed = |error| BlockError::host("Could not update the qcow2 header", error);
        if self.is_closed() {
            return Err(failed(eio()));
        }
        let mut header = self.header();
        let mut next = header.clone();
        change(&mut next);
        let mut bytes = next.to_bytes()?;
        // What was there before is gone as far as it went.
        let before = header.to_bytes()?.len();
        if bytes.len() < before {
            bytes.resize(before, 0);
        }
        let written = self.write_meta(0, &bytes).and_then(|()| self.sync());
        written.map_err(failed)?;
        *header = next;
        Ok(())
    }

    /// Damage was found: it is told, and nothing is written any more.
    pub(super) fn corrupt(&self, message: String, range: Option<(u64, u64)>) -> io::Error {
        let first = !self.broken.swap(true, Ordering::AcqRel);
        if first {
            let fatal = !self.is_read_only();
            log::error!("qcow2: {message}");
            if fatal
                && self.header().version >= 3
                && let Err(error) =
                    self.patch_header(|header| header.incompatible |= incompatible::CORRUPT)
            {
                log::error!("A damaged image could not be marked as such: {error}");
            }
            self.reporter.corrupted(message, range, fatal);
        }
        eio()
    }

    /// Whether refcounts are put off.
    pub(super) fn is_lazy(&self) -> bool {
        let header = self.header();
        let of_image = header.compatible & compatible::LAZY_REFCOUNTS != 0;
        header.version >= 3 && self.options.lazy_refcounts.unwrap_or(of_image)
    }

    /// Marks refcounts as out of date, where they are put off.
    pub(super) fn set_dirty_bit(&self) -> io::Result<()> {
        if !self.is_lazy() || self.header().has(incompatible::DIRTY) {
            return Ok(());
        }
        self.patch_header(|header| header.incompatible |= incompatible::DIRTY)?;
        self.sync()
    }

    /// See [`Image::close`].
    pub(super) fn close_image(&self) -> io::Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        if self.is_read_only() || self.is_broken() {
            self.closed.store(true, Ordering::Release);
            // What leads to data that were written is not brought into a damaged file any more.
            return match self.meta().is_dirty() {
                true => Err(eio()),
                false => Ok(()),
            };
        }
        let mut work = self.work();
        let prepared = self.meta().prepared;
        if prepared || work.grown || self.meta().is_dirty() {
            let reserve = std::mem::take(&mut self.meta().reserve);
            for (start, end) in reserve {
                self.change_refcount(&mut work, start, end.saturating_sub(start), false)?;
            }
            self.flush_with(&mut work)?;
            self.write_refs(&mut work)?;
            self.sync()?;
            self.cut_tail(&mut work)?;
            if self.header().has(incompatible::DIRTY) {
                self.patch_header(|header| header.incompatible &= !incompatible::DIRTY)?;
                self.sync()?;
            }
        }
        self.closed.store(true, Ordering::Release);
        // The next write looks.
        self.meta().prepared = false;
        Ok(())
    }

    /// Makes the file end behind the last cluster that is used, where it was made longer.
    fn cut_tail(&self, work: &mut super::alloc::Work) -> io::Result<()> {
        if !work.grown {
            return Ok(());
        }
        let node = self.storage.there()?;
        let before = node.info().size;
        let mut end = self.geometry.clusters(before);
        while end > 0 && self.refcount(work, end - 1)? == 0 {
            end -= 1;
        }
        let size = end << self.geometry.cluster_bits;
        if size < before
            && let Err(error) = node.resize(size)
        {
            log::debug!("An image keeps its length: {error}");
        }
        let mut meta = self.meta();
        if !self.geometry.external {
            meta.data_end = node.info().size;
        }
        work.grown = false;
        Ok(())
    }
}

impl Image for Qcow2 {
    fn view(&self) -> ImageView {
        let bitmaps = self.meta().bitmaps.clone();
        let header = self.header();
        let specific = Qcow2View {
            compat: if header.version >= 3 { "1.1" } else { "0.10" },
            data_file: header.data_file(),
            data_file_raw: header.is_data_file_raw(),
            lazy_refcounts: header.compatible & compatible::LAZY_REFCOUNTS != 0,
            refcount_bits: 1 << header.refcount_order,
            corrupt: header.has(incompatible::CORRUPT),
            extended_l2: header.has(incompatible::EXTENDED_L2),
            compression: match header.compression {
                Compression::Zlib => "zlib",
                Compression::Zstd => "zstd",
            },
            bitmaps,
        };
        ImageView {
            cluster_size: Some(1 << header.cluster_bits),
            backing_file: header.backing_file.clone(),
            backing_format: header.backing_format(),
            dirty: header.has(incompatible::DIRTY),
            compressed: false,
            specific: Some(Specific::Qcow2(specific)),
        }
    }

    fn check(&self, repair: Repair) -> Result<CheckReport, BlockError> {
        if repair != Repair::No && self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        if self.is_read_only() {
            // Nothing changes meanwhile: others go on reading.
            let node = self.storage.node().ok_or(BlockError::Empty)?;
            return super::check::check(&*node, repair);
        }
        self.exclusively(|node| super::check::check(node, repair))
    }

    fn change_backing(&self, file: Option<&str>, format: Option<&str>) -> Result<(), BlockError> {
        if self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        if file.is_some_and(|file| file.len() > 1023) {
            return Err(BlockError::Unsupported("Backing file name too long".into()));
        }
        if file.is_some() && self.header().is_data_file_raw() {
            return Err(BlockError::Unsupported(
                "Backing files are incompatible with raw external data files".into(),
            ));
        }
        self.rewrite_header(|header| {
            header.backing_file = file.map(str::to_owned);
            let format = format.filter(|_| file.is_some());
            header.set_extension(extension::BACKING_FORMAT, format.map(str::as_bytes));
        })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        // Their data are not in the image, and would be overwritten.
        (!self.geometry.external).then_some(self as &dyn Snapshots)
    }

    fn close(&self) -> Result<(), BlockError> {
        self.close_image()
            .map_err(|error| BlockError::host("Could not close the image", error))
    }

    fn reopen(&self, read_only: bool) -> Result<(), BlockError> {
        let mut policy = self.screen.policy();
        if !self.is_closed() && policy.read_only == read_only {
            // It could not be closed, and still holds what the file does not have.
            return Ok(());
        }
        policy.read_only = read_only;
        self.load_image(read_only)?;
        self.screen.set_policy(policy);
        self.closed.store(false, Ordering::Release);
        Ok(())
    }
}
