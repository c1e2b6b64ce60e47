//! Host sides of devices: character devices, entropy, and later networks.

pub mod chardev;
pub mod rng;
