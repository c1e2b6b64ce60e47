//! Device models that are not virtio: one device a file.

pub mod isa_serial;
pub mod serial;

#[cfg(test)]
mod serial_test;
