//! Entropy sources: rng-random and rng-builtin objects.

/// A source of random bytes. May be shared by several devices.
pub trait Entropy: Send + Sync {
    /// Fills the front of `buffer` and returns how much; 0 when none is at hand right now.
    /// Never blocks.
    ///
    /// # Errors
    /// When the source failed for good.
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<usize>;
    /// A descriptor that is readable when bytes are at hand, for sources that can run dry.
    fn event_fd(&self) -> Option<std::os::fd::RawFd> {
        None
    }
}
