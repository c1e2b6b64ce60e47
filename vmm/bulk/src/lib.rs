//! Work on each byte of guest memory. It is a crate of its own to be built for speed, while `vmm`, most of which runs
//! once, is built to be small.

pub mod crc;
pub mod zero;
pub mod zstd;
