//! Image formats.

use api_spec::{
    BlockdevOptionsGenericCOWFormat, BlockdevOptionsGenericFormat, BlockdevOptionsQcow2,
    BlockdevRefOrNull, Qcow2OverlapCheckFlags, Qcow2OverlapCheckMode, Qcow2OverlapChecks, QmpError,
    QmpResult,
};
use block::{
    BackingSpec, ChildSpec, DriverSpec, FormatKind, FormatSpec, OverlapCheck, OverlapFlags,
    Qcow2Options,
};

use super::{bytes, child, node};

/// A format without options.
pub(super) fn plain(
    kind: FormatKind,
    options: BlockdevOptionsGenericFormat,
) -> QmpResult<DriverSpec> {
    let BlockdevOptionsGenericFormat { file } = options;
    Ok(DriverSpec::Format(FormatSpec::new(kind, child(file)?)))
}

/// A format with a backing file.
pub(super) fn with_backing(
    kind: FormatKind,
    options: BlockdevOptionsGenericCOWFormat,
) -> QmpResult<DriverSpec> {
    let BlockdevOptionsGenericCOWFormat { file, backing } = options;
    let mut format = FormatSpec::new(kind, child(file)?);
    format.backing = backing.map(self::backing).transpose()?;
    Ok(DriverSpec::Format(format))
}

/// Text without a name stands for none, as older clients say it.
fn backing(backing: BlockdevRefOrNull) -> QmpResult<BackingSpec> {
    Ok(match backing {
        BlockdevRefOrNull::Null => BackingSpec::Nothing,
        BlockdevRefOrNull::Reference(name) if name.is_empty() => BackingSpec::Nothing,
        BlockdevRefOrNull::Reference(name) => {
            BackingSpec::Node(Box::new(ChildSpec::Reference(name)))
        }
        BlockdevRefOrNull::Definition(options) => {
            BackingSpec::Node(Box::new(ChildSpec::Inline(node(*options)?)))
        }
    })
}

pub(super) fn qcow2(options: BlockdevOptionsQcow2) -> QmpResult<DriverSpec> {
    let BlockdevOptionsQcow2 {
        file,
        backing,
        lazy_refcounts,
        pass_discard_request,
        pass_discard_snapshot,
        pass_discard_other,
        discard_no_unref,
        overlap_check,
        cache_size,
        l2_cache_size,
        l2_cache_entry_size,
        refcount_cache_size,
        cache_clean_interval,
        encrypt,
        data_file,
    } = options;
    if encrypt.is_some() {
        return Err(QmpError::generic(
            "Encryption of qcow2 images is not supported",
        ));
    }
    let (overlap_check, overlap_flags) = overlap(overlap_check);
    Ok(DriverSpec::Format(FormatSpec {
        kind: FormatKind::Qcow2,
        file: Box::new(child(file)?),
        backing: backing.map(self::backing).transpose()?,
        data_file: data_file.map(child).transpose()?.map(Box::new),
        qcow2: Qcow2Options {
            lazy_refcounts,
            pass_discard_request,
            pass_discard_snapshot,
            pass_discard_other,
            discard_no_unref,
            overlap_check,
            overlap_flags,
            cache_size: bytes("cache-size", cache_size)?,
            l2_cache_size: bytes("l2-cache-size", l2_cache_size)?,
            l2_cache_entry_size: bytes("l2-cache-entry-size", l2_cache_entry_size)?,
            refcount_cache_size: bytes("refcount-cache-size", refcount_cache_size)?,
            cache_clean_interval: bytes("cache-clean-interval", cache_clean_interval)?,
        },
    }))
}

fn overlap(checks: Option<Qcow2OverlapChecks>) -> (Option<OverlapCheck>, OverlapFlags) {
    let flags = match checks {
        None => return (None, OverlapFlags::default()),
        Some(Qcow2OverlapChecks::Mode(mode)) => {
            return (Some(overlap_mode(mode)), OverlapFlags::default());
        }
        Some(Qcow2OverlapChecks::Flags(flags)) => *flags,
    };
    let Qcow2OverlapCheckFlags {
        template,
        main_header,
        active_l1,
        active_l2,
        refcount_table,
        refcount_block,
        snapshot_table,
        inactive_l1,
        inactive_l2,
        bitmap_directory,
    } = flags;
    let flags = OverlapFlags {
        main_header,
        active_l1,
        active_l2,
        refcount_table,
        refcount_block,
        snapshot_table,
        inactive_l1,
        inactive_l2,
        bitmap_directory,
    };
    (template.map(overlap_mode), flags)
}

fn overlap_mode(mode: Qcow2OverlapCheckMode) -> OverlapCheck {
    match mode {
        Qcow2OverlapCheckMode::None => OverlapCheck::None,
        Qcow2OverlapCheckMode::Constant => OverlapCheck::Constant,
        Qcow2OverlapCheckMode::Cached => OverlapCheck::Cached,
        Qcow2OverlapCheckMode::All => OverlapCheck::All,
    }
}

#[cfg(test)]
#[path = "format_test.rs"]
mod tests;
