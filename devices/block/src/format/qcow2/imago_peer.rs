//! imago, another implementation of qcow2 that shares nothing with this driver, and this driver,
//! used in the same way.

use std::path::Path;
use std::sync::Arc;

use imago::file::File;
use imago::format::PreallocateMode;
use imago::qcow2::Qcow2;
use imago::{
    FormatAccess, FormatCreateBuilder, FormatDriverBuilder, PermissiveImplicitOpenGate, Storage,
    StorageCreateOptions,
};

use super::{Compat, Qcow2Create};
use crate::node::{BlockNode, NodeExt};
use crate::{Buffers, Durability, Op, Preallocation, Unmap};

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    Ours,
    Imago,
}

/// Who does something to an image that is open.
pub(super) trait Disk {
    fn read(&mut self, offset: u64, bytes: &mut [u8]);
    fn write(&mut self, offset: u64, bytes: &[u8]);
    /// May unmap what was there, or keeps it allocated.
    fn zero(&mut self, offset: u64, len: u64, unmap: Unmap);
    /// With `Unmap::May`, imago lets the backing file show.
    fn discard(&mut self, offset: u64, len: u64, unmap: Unmap);
    fn resize(&mut self, size: u64);
    fn flush(&mut self);
    fn close(self: Box<Self>);
}

pub(super) struct Ours(pub Arc<dyn BlockNode>);

impl Disk for Ours {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) {
        self.0.read_at(offset, bytes).unwrap();
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.0.write_at(offset, bytes).unwrap();
    }

    fn zero(&mut self, offset: u64, len: u64, unmap: Unmap) {
        let op = Op::WriteZeroes {
            offset,
            len,
            unmap,
            durability: Durability::Cached,
        };
        self.0.perform(op, &Buffers::new()).unwrap();
    }

    fn discard(&mut self, offset: u64, len: u64, _: Unmap) {
        let op = Op::Discard { offset, len };
        self.0.perform(op, &Buffers::new()).unwrap();
    }

    fn resize(&mut self, size: u64) {
        self.0.resize(size).unwrap();
    }

    fn flush(&mut self) {
        self.0.flush().unwrap();
    }

    fn close(self: Box<Self>) {
        self.0.image().unwrap().close().unwrap();
    }
}

pub(super) struct Imago {
    access: FormatAccess<File>,
    /// It neither zeroes nor discards clusters of version 2.
    compat: Compat,
}

impl Imago {
    /// With what is below it, as it is written in the image.
    pub fn open(path: &Path, compat: Compat, read_only: bool) -> Imago {
        let image = Qcow2::<File>::builder_path(path)
            .write(!read_only)
            .open(PermissiveImplicitOpenGate::default())
            .unwrap();
        let access = FormatAccess::new(image);
        Imago { access, compat }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.access.size()
    }

    /// False where it says that it does not do this.
    fn is_done(&self, result: std::io::Result<()>) -> bool {
        match result {
            Err(error) if self.compat == Compat::V2 => {
                assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
                false
            }
            result => {
                result.unwrap();
                true
            }
        }
    }
}

impl Disk for Imago {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) {
        self.access.read(bytes, offset).unwrap();
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.access.write(bytes, offset).unwrap();
    }

    fn zero(&mut self, offset: u64, len: u64, unmap: Unmap) {
        let result = match unmap {
            Unmap::Keep => self.access.write_zeroes(offset, len),
            Unmap::May => self.access.discard_to_zero(offset, len),
        };
        if !self.is_done(result) {
            self.write(offset, &vec![0; len as usize]);
        }
    }

    fn discard(&mut self, offset: u64, len: u64, unmap: Unmap) {
        let result = match unmap {
            Unmap::Keep => self.access.discard_to_any(offset, len),
            Unmap::May => self.access.discard_to_backing(offset, len),
        };
        self.is_done(result);
    }

    fn resize(&mut self, size: u64) {
        self.access.resize(size, PreallocateMode::Zero).unwrap();
    }

    fn flush(&mut self) {
        self.access.flush().unwrap();
    }

    fn close(self: Box<Self>) {
        // What `drop` does would not tell of errors.
        self.access.flush().unwrap();
    }
}

/// Makes an image with imago; a data file beside it.
///
/// # Panics
/// With options that imago does not have.
pub(super) fn create(folder: &Path, name: &str, options: &Qcow2Create) {
    assert!(options.compat == Compat::V3 && !options.lazy_refcounts);
    assert!(!options.extended_l2 && !options.data_file_raw);
    let mut builder = Qcow2::<File>::create_builder(blank(&folder.join(name)))
        .size(options.size)
        .cluster_size(options.cluster_size as usize)
        .refcount_width(options.refcount_bits as usize)
        .preallocate(match options.preallocation {
            Preallocation::Off => PreallocateMode::None,
            Preallocation::Metadata => PreallocateMode::FormatAllocate,
            Preallocation::Falloc => PreallocateMode::FullAllocate,
            Preallocation::Full => PreallocateMode::WriteData,
        });
    if let (Some(name), Some(format)) = (&options.backing_file, &options.backing_format) {
        builder = builder.backing(name.clone(), format.clone());
    }
    if let Some(name) = &options.data_file {
        builder = builder.data_file(name.clone(), blank(&folder.join(name)));
    }
    builder.create().unwrap();
}

fn blank(path: &Path) -> File {
    File::create_open(StorageCreateOptions::new().filename(path).overwrite(true)).unwrap()
}
