//! Character devices: the seam between a device (front end) and a socket, file or terminal
//! (back end). Both sides only touch two bounded byte rings; neither ever blocks.

use std::sync::Arc;

/// Wakes a front end: input may be there, output space may be there, or the peer came or went.
/// Called on the back end's thread with no lock held.
pub trait CharWaker: Send + Sync {
    /// Look again.
    fn wake(&self);
}

/// The device's half of a character device. Exclusive: one front end per chardev.
pub trait CharPort: Send + Sync {
    /// Queues bytes for the host side and returns how many were taken; the rest is for after a
    /// wake. A disconnected peer swallows everything.
    fn write(&self, data: &[u8]) -> usize;
    /// Takes bytes that came from the host side.
    fn read(&self, buffer: &mut [u8]) -> usize;
    /// Whether input is waiting.
    fn readable(&self) -> bool;
    /// Whether a peer is there (sockets come and go; files and null are always open).
    fn is_open(&self) -> bool;
    /// Says whom to wake; replaces an earlier waker.
    fn set_waker(&self, waker: Option<Arc<dyn CharWaker>>);
    /// Tells the host side that a program in the guest opened or closed its end.
    fn set_frontend_open(&self, open: bool);
}

/// What a device holds. Dropping it frees the chardev for another device.
pub type CharFrontend = Box<dyn CharPort>;
