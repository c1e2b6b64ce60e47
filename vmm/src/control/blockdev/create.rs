//! blockdev-create: new images.

use api_spec::{
    BlockdevCreateOptions, BlockdevCreateOptionsBranch as Branch, BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQed, BlockdevRef, PreallocMode, QmpError, QmpResult,
};
use block::{BlockError, FileCreate, FileOpener, Hold, NewFile, Perms, Preallocation, QedCreate};

use super::{Blockdevs, Refusal, convert};

/// An image to make: all files are open, and nobody else uses them.
pub enum NewImage {
    /// A file.
    File(NewFile),
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
            NewImage::Qed { target, options } => block::create_qed(&**target.node(), &options),
        }
    }
}

/// Whether images of that kind can be made at all.
///
/// # Errors
/// When they cannot.
pub fn check_creatable(options: &BlockdevCreateOptions) -> QmpResult<()> {
    match &options.driver {
        Branch::File(_) | Branch::Qed(_) => Ok(()),
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
            Branch::Qed(options) => {
                let (file, options) = qed(options)?;
                let target = self.target(file, opener)?;
                Ok(NewImage::Qed { target, options })
            }
            _ => Err(not_creatable().into()),
        }
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
