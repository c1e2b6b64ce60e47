//! Host sides of devices: character devices, entropy, networks.

pub mod chardev;
mod kernel_random;
pub mod net;
pub mod rng;
pub mod socket;
