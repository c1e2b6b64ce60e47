//! Host sides of devices: character devices, entropy, and later networks.

pub mod chardev;
mod kernel_random;
pub mod net;
pub mod rng;
