//! Where the virtio structures are: all four in one memory BAR, the vectors in another, and the
//! capabilities that say so (Virtio 1.2, section 4.1.4).

use crate::pci::regs::capability;
use crate::pci::{BarKind, ConfigSpace};

/// The BAR with the MSI-X table.
pub const MSIX_BAR: u8 = 1;
/// The BAR with the structures.
pub const BAR: u8 = 4;
/// Bytes of it.
const BAR_LEN: u64 = 0x4000;
/// Offset of common configuration.
pub const COMMON: u64 = 0x0000;
/// Offset of ISR status.
pub const ISR: u64 = 0x1000;
/// Offset of device configuration.
pub const DEVICE: u64 = 0x2000;
/// Offset of notifications.
pub const NOTIFY: u64 = 0x3000;
/// Bytes of each structure's room.
pub const ROOM: u64 = 0x1000;
/// Bytes between the notification addresses of two queues.
pub const NOTIFY_STEP: u64 = 4;
/// Most queues that have a notification address each.
pub const MAX_QUEUES: usize = (ROOM / NOTIFY_STEP) as usize;

const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_PCI: u8 = 5;

/// Adds BAR and capabilities; returns the offset of the window capability
/// (VIRTIO_PCI_CAP_PCI_CFG).
pub fn add_to(config: &mut ConfigSpace) -> Option<u16> {
    let kind = BarKind::Memory64 { prefetchable: true };
    config.add_bar(BAR, kind, BAR_LEN);
    structure(config, CFG_COMMON, COMMON, ROOM, &[])?;
    structure(config, CFG_ISR, ISR, ROOM, &[])?;
    structure(config, CFG_DEVICE, DEVICE, ROOM, &[])?;
    let step = (NOTIFY_STEP as u32).to_le_bytes();
    structure(config, CFG_NOTIFY, NOTIFY, ROOM, &step)?;
    let window = structure(config, CFG_PCI, 0, 0, &[0; 4])?;
    // The driver chooses BAR, offset and length of the window.
    config.allow(window.checked_add(4)?, &[0xff]);
    config.allow(window.checked_add(8)?, &[0xff; 8]);
    Some(window)
}

fn structure(
    config: &mut ConfigSpace,
    kind: u8,
    offset: u64,
    len: u64,
    extra: &[u8],
) -> Option<u16> {
    let bar = if kind == CFG_PCI { 0 } else { BAR };
    let cap_len = u8::try_from(16 + extra.len()).ok()?;
    let mut body = vec![cap_len, kind, bar, 0, 0, 0];
    body.extend_from_slice(&(offset as u32).to_le_bytes());
    body.extend_from_slice(&(len as u32).to_le_bytes());
    body.extend_from_slice(extra);
    config.add_capability(capability::VENDOR, &body, &[])
}

/// What the window capability leads to, as the driver set it: BAR, offset, length.
pub fn window_target(config: &ConfigSpace, window: u16) -> Option<(u8, u64, usize)> {
    let bar = config.byte(window.checked_add(4)?);
    let offset = config.dword(window.checked_add(8)?);
    let len = config.dword(window.checked_add(12)?);
    let aligned = matches!(len, 1 | 2 | 4) && offset.is_multiple_of(len);
    aligned.then_some((bar, offset.into(), len as usize))
}
