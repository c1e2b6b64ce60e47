//! `scsi-hd` and `scsi-cd`: from properties to logical units on a bus.

use std::sync::Arc;

use api_spec::{BlockdevOnError, QmpError, QmpResult, ScsiCdProps, ScsiHdProps};

use super::bus::{Newcomer, ScsiBus};
use super::identity::{Identity, Wanted};
use super::unit::Unit;
use crate::cx::BuildCx;
use crate::disk_failure::{self, Failures};

/// Puts a disk on the bus.
///
/// # Errors
/// In QEMU's words where it refuses the properties, too.
pub fn plug_disk(props: &ScsiHdProps, bus: &ScsiBus, cx: BuildCx) -> QmpResult<Arc<Unit>> {
    let Some(node) = &cx.node else {
        return Err(QmpError::generic("drive property not set"));
    };
    if !props.removable && !node.has_medium() {
        return Err(QmpError::generic("Device needs media, but drive is empty"));
    }
    let checked = Identity::disk(props, cx.drive_name.as_deref())?;
    plug(checked, bus, cx, (props.rerror, props.werror))
}

/// Puts an optical drive on the bus; `cx.node` need not be there.
///
/// # Errors
/// As for disks.
pub fn plug_cd(props: &ScsiCdProps, bus: &ScsiBus, cx: BuildCx) -> QmpResult<Arc<Unit>> {
    let checked = Identity::cd(props, cx.drive_name.as_deref())?;
    plug(checked, bus, cx, (props.rerror, props.werror))
}

fn plug(
    (identity, wanted): (Identity, Wanted),
    bus: &ScsiBus,
    cx: BuildCx,
    (rerror, werror): (BlockdevOnError, BlockdevOnError),
) -> QmpResult<Arc<Unit>> {
    let failures = cx.node.as_ref().map(|node| {
        disk_failure::set_policy(node, rerror, werror);
        Failures::new(node, &cx)
    });
    bus.add(Newcomer {
        wanted,
        id: cx.id,
        identity,
        attachment: cx.node,
        failures,
        effects: cx.effects,
    })
}
