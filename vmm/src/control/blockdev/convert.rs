//! From the interface's options to the block layer's descriptions.

mod format;
pub(super) mod json;

use api_spec::{
    BlockdevAioOptions, BlockdevDetectZeroesOptions, BlockdevDiscardOptions, BlockdevOptions,
    BlockdevOptionsBranch, BlockdevOptionsFile, BlockdevOptionsNull, BlockdevOptionsRaw,
    BlockdevRef, OnOffAuto, QmpError, QmpResult,
};
use block::{
    Aio, ChildSpec, DetectZeroes, Discard, DriverSpec, FileSpec, FormatKind, Locking, NodeSpec,
    NullSpec, RawWindow,
};

use super::convert_blkdebug::blkdebug;

/// A node with all those inside of it.
///
/// # Errors
/// For numbers that are none of bytes, and for what is not here.
pub(super) fn node(options: BlockdevOptions) -> QmpResult<NodeSpec> {
    let BlockdevOptions {
        node_name,
        discard,
        cache,
        read_only,
        auto_read_only,
        force_share,
        detect_zeroes,
        active,
        driver,
    } = options;
    let cache = cache.as_ref();
    Ok(NodeSpec {
        name: node_name,
        read_only,
        auto_read_only,
        force_share,
        discard: discard.map(|discard| match discard {
            BlockdevDiscardOptions::Ignore => Discard::Ignore,
            BlockdevDiscardOptions::Unmap => Discard::Unmap,
        }),
        detect_zeroes: match detect_zeroes {
            None | Some(BlockdevDetectZeroesOptions::Off) => DetectZeroes::Off,
            Some(BlockdevDetectZeroesOptions::On) => DetectZeroes::On,
            Some(BlockdevDetectZeroesOptions::Unmap) => DetectZeroes::Unmap,
        },
        direct: cache.and_then(|cache| cache.direct),
        no_flush: cache.and_then(|cache| cache.no_flush),
        active,
        driver: match driver {
            BlockdevOptionsBranch::File(options) => DriverSpec::File(file(options)?),
            BlockdevOptionsBranch::HostDevice(options) => DriverSpec::HostDevice(file(options)?),
            BlockdevOptionsBranch::NullCo(options) => DriverSpec::Null(null(&options)?),
            BlockdevOptionsBranch::Raw(options) => raw(options)?,
            BlockdevOptionsBranch::Qcow2(options) => format::qcow2(options)?,
            BlockdevOptionsBranch::Qed(options) => format::with_backing(FormatKind::Qed, options)?,
            BlockdevOptionsBranch::Vmdk(options) => {
                format::with_backing(FormatKind::Vmdk, options)?
            }
            BlockdevOptionsBranch::Vpc(options) => format::plain(FormatKind::Vpc, options)?,
            BlockdevOptionsBranch::Vhdx(options) => format::plain(FormatKind::Vhdx, options)?,
            BlockdevOptionsBranch::Throttle(options) => DriverSpec::Throttle {
                file: Box::new(child(options.file)?),
                group: options.throttle_group,
            },
            BlockdevOptionsBranch::CopyOnRead(options) => DriverSpec::CopyOnRead {
                file: Box::new(child(options.file)?),
            },
            BlockdevOptionsBranch::Blkdebug(options) => blkdebug(options)?,
        },
    })
}

fn file(options: BlockdevOptionsFile) -> QmpResult<FileSpec> {
    let BlockdevOptionsFile {
        filename,
        pr_manager,
        locking,
        aio,
        // How many requests go to the kernel at once is the engine's own affair.
        aio_max_batch: _,
    } = options;
    if let Some(name) = pr_manager {
        return Err(QmpError::generic(format!("No object with id '{name}'")));
    }
    Ok(FileSpec {
        // A protocol's prefix is allowed in names.
        filename: match filename.strip_prefix("file:") {
            Some(path) => path.to_owned(),
            None => filename,
        },
        aio: match aio {
            None | Some(BlockdevAioOptions::Threads) => Aio::Threads,
            Some(BlockdevAioOptions::Native) => Aio::Native,
            Some(BlockdevAioOptions::IoUring) => Aio::IoUring,
        },
        locking: match locking {
            None | Some(OnOffAuto::Auto) => Locking::Auto,
            Some(OnOffAuto::On) => Locking::On,
            Some(OnOffAuto::Off) => Locking::Off,
        },
    })
}

fn null(options: &BlockdevOptionsNull) -> QmpResult<NullSpec> {
    let BlockdevOptionsNull {
        size,
        latency_ns,
        read_zeroes,
    } = options;
    let default = NullSpec::default();
    Ok(NullSpec {
        size: bytes("size", *size)?.unwrap_or(default.size),
        latency_ns: latency_ns.unwrap_or(default.latency_ns),
        read_zeroes: read_zeroes.unwrap_or(default.read_zeroes),
    })
}

fn raw(options: BlockdevOptionsRaw) -> QmpResult<DriverSpec> {
    let BlockdevOptionsRaw { file, offset, size } = options;
    Ok(DriverSpec::Raw {
        file: Box::new(child(file)?),
        window: RawWindow {
            offset: bytes("offset", offset)?.unwrap_or(0),
            size: bytes("size", size)?,
        },
        probed: false,
    })
}

/// A node below.
///
/// # Errors
/// As [`node`].
pub(super) fn child(child: BlockdevRef) -> QmpResult<ChildSpec> {
    Ok(match child {
        BlockdevRef::Reference(name) => ChildSpec::Reference(name),
        BlockdevRef::Definition(options) => ChildSpec::Inline(node(*options)?),
    })
}

pub(super) fn bytes(name: &str, value: Option<i64>) -> QmpResult<Option<u64>> {
    let Some(value) = value else {
        return Ok(None);
    };
    u64::try_from(value).map(Some).map_err(|_| {
        QmpError::generic(format!(
            "Value '{value}' is out of range for parameter '{name}'"
        ))
    })
}
