//! How accesses of the guest reach devices: the device face and the address map.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::effect::Effect;

/// One access, relative to the region of the device it fell into. Its width is the length of the
/// data: 1, 2, 4 or 8 bytes for CPU accesses, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Which of the device's regions; the device numbered them when it was attached.
    pub region: u16,
    /// Byte offset in the region; offset + length never exceeds the region.
    pub offset: u64,
}

/// A device with registers in port or memory space.
///
/// Called by a vCPU (or the qtest server) with the device's lock held and no other; must not
/// block, panic, or take a lock of another device.
pub trait BusDevice: Send {
    /// Reads registers. Bytes that no register answers for are all ones.
    fn read(&mut self, access: Access, data: &mut [u8]);
    /// Writes registers.
    fn write(&mut self, access: Access, data: &[u8]) -> Effect;
    /// Back to the state after power-on.
    fn reset(&mut self);
    /// The device's saved state, if it has any.
    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        None
    }
    /// Everything else was restored as well, the interrupt controllers among it: from here on a
    /// line that rises is noticed. Called once after each restore.
    fn settle(&mut self) {}
}

/// A device shared between the address map and its owner. Its lock is a leaf: whoever holds it
/// takes no other device's lock.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// Takes a device's lock. A panic in the device is reported by the thread it happened on; others
/// go on with the state that it left.
pub fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}
