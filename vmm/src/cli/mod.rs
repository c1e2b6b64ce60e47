//! The command line: QEMU's options, each decoded into the same types as its QMP command.

pub mod args;
pub mod chardev;
pub mod decode;
pub mod opts;
pub mod plan;
