//! The control thread: sole owner of the machine. It takes commands and machine events in order,
//! never blocks, and publishes replies and events through one queue, so that their order holds.

pub mod chardevs;
pub mod blockdev;
pub mod fds;
pub mod hmp;
pub mod life;
