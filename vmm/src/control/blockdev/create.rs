//! blockdev-create: new images.

use api_spec::{
    BlockdevCreateOptions, BlockdevCreateOptionsBranch as Branch, BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQcow2, BlockdevCreateOptionsQed, BlockdevQcow2Version, BlockdevRef,
    PreallocMode, Qcow2CompressionType, QmpError, QmpResult,
};
use block::{
    BlockError, FileCreate, FileOpener, Hold, NewFile, Perms, Preallocation, Qcow2Compat,
    Qcow2Compression, Qcow2Create, QedCreate,
};

use super::{Blockdevs, Refusal, convert};

/// An image to make: all files are open, and nobody else uses them.
pub enum NewImage {
    /// A file.
    File(NewFile),
    /// A qcow2 image.
    Qcow2 {
        /// The node that it is written into.
        target: Hold,
        /// The node that its data go to, if they are apart.
        data: Option<Hold>,
        /// What it is to be.
        options: Box<Qcow2Create>,
    },
    /// A qed image.
    Qed {
        /// The node that it is written into.
        target: Hold,
        /// What it is to be.
        options: QedCreate,
    },
}

impl NewImage {
    /// Makes it. Blocks. `goes_on` is asked now and then.
    ///
    /// # Errors
    /// The host's, and options that the format does not have.
    pub fn make(self, goes_on: &dyn Fn() -> bool) -> Result<(), BlockError> {
        match self {
            NewImage::File(file) => file.fill(goes_on),
            NewImage::Qcow2 {
                target,
                data: _data,
                options,
            } => block::create_qcow2_while(&*target.node(), &options, goes_on),
            NewImage::Qed { target, options } => block::create_qed(&*target.node(), &options),
        }
    }
}

/// Whether images of that kind can be made at all.
///
/// # Errors
/// When they cannot.
pub fn check_creatable(options: &BlockdevCreateOptions) -> QmpResult<()> {
    match &options.driver {
        Branch::File(_) | Branch::Qcow2(_) | Branch::Qed(_) => Ok(()),
        _ => Err(not_creatable()),
    }
}

fn not_creatable() -> QmpError {
    QmpError::generic("Driver does not support blockdev-create")
}

impl Blockdevs {
    /// Opens what an image is to be made in.
    ///
    /// # Errors
    /// In QEMU's words. A file that was not there before may be there then, and is empty.
    pub fn new_image(
        &self,
        options: BlockdevCreateOptions,
        opener: &mut dyn FileOpener,
    ) -> Result<NewImage, Refusal> {
        match options.driver {
            Branch::File(options) => Ok(NewImage::File(NewFile::open(file(options), opener)?)),
            Branch::Qcow2(options) => self.new_qcow2(options, opener),
            Branch::Qed(options) => {
                let (file, options) = qed(options)?;
                let target = self.target(file, opener)?;
                Ok(NewImage::Qed { target, options })
            }
            _ => Err(not_creatable().into()),
        }
    }

    fn new_qcow2(
        &self,
        options: BlockdevCreateOptionsQcow2,
        opener: &mut dyn FileOpener,
    ) -> Result<NewImage, Refusal> {
        let (file, data_file, mut options) = qcow2(options)?;
        let target = self.target(file, opener)?;
        let data = match data_file {
            Some(file) => Some(self.target(file, opener)?),
            None => None,
        };
        if let Some(data) = &data {
            let view = self.graph.node(data.name());
            options.data_file = view.map(|view| view.filename);
            options.data_node = Some(data.node().clone());
        }
        Ok(NewImage::Qcow2 {
            target,
            data,
            options: Box::new(options),
        })
    }

    /// The node that a format is written into.
    fn target(&self, file: BlockdevRef, opener: &mut dyn FileOpener) -> Result<Hold, Refusal> {
        let child = convert::child(file)?;
        Ok(self.graph.hold(child, Perms::overwriter(), opener)?)
    }
}

fn file(options: BlockdevCreateOptionsFile) -> FileCreate {
    let BlockdevCreateOptionsFile {
        filename,
        size,
        preallocation,
        nocow,
        extent_size_hint,
    } = options;
    FileCreate {
        filename: match filename.strip_prefix("file:") {
            Some(path) => path.to_owned(),
            None => filename,
        },
        size: size.0,
        preallocation: preallocated(preallocation),
        nocow: nocow.unwrap_or(false),
        extent_size_hint: extent_size_hint.map(|size| size.0),
    }
}

/// The nodes for tables and for data, and all else; a data file's name is not there yet.
fn qcow2(
    options: BlockdevCreateOptionsQcow2,
) -> QmpResult<(BlockdevRef, Option<BlockdevRef>, Qcow2Create)> {
    let BlockdevCreateOptionsQcow2 {
        file,
        data_file,
        data_file_raw,
        extended_l2,
        size,
        version,
        backing_file,
        backing_fmt,
        cluster_size,
        preallocation,
        lazy_refcounts,
        refcount_bits,
        compression_type,
    } = options;
    let default = Qcow2Create::default();
    let options = Qcow2Create {
        size: size.0,
        compat: match version {
            Some(BlockdevQcow2Version::V2) => Qcow2Compat::V2,
            None | Some(BlockdevQcow2Version::V3) => Qcow2Compat::V3,
        },
        backing_file,
        backing_format: backing_fmt.map(|format| format.name().to_owned()),
        cluster_size: cluster_size.map_or(default.cluster_size, |size| size.0),
        extended_l2: extended_l2.unwrap_or(false),
        preallocation: preallocated(preallocation),
        lazy_refcounts: lazy_refcounts.unwrap_or(false),
        refcount_bits: convert::bytes("refcount-bits", refcount_bits)?
            .unwrap_or(default.refcount_bits),
        data_file_raw: data_file_raw.unwrap_or(false),
        compression: match compression_type {
            None | Some(Qcow2CompressionType::Zlib) => Qcow2Compression::Zlib,
            Some(Qcow2CompressionType::Zstd) => Qcow2Compression::Zstd,
        },
        ..default
    };
    Ok((file, data_file, options))
}

fn qed(options: BlockdevCreateOptionsQed) -> QmpResult<(BlockdevRef, QedCreate)> {
    let BlockdevCreateOptionsQed {
        file,
        size,
        backing_file,
        backing_fmt,
        cluster_size,
        table_size,
    } = options;
    let options = QedCreate {
        size: size.0,
        backing_file,
        backing_format: backing_fmt.map(|format| format.name().to_owned()),
        cluster_size: cluster_size.map(|size| size.0),
        table_size: convert::bytes("table-size", table_size)?,
    };
    Ok((file, options))
}

fn preallocated(mode: Option<PreallocMode>) -> Preallocation {
    match mode {
        None | Some(PreallocMode::Off) => Preallocation::Off,
        Some(PreallocMode::Metadata) => Preallocation::Metadata,
        Some(PreallocMode::Falloc) => Preallocation::Falloc,
        Some(PreallocMode::Full) => Preallocation::Full,
    }
}
