//! Everything the guest can see or touch.
//!
//! Device models know neither QMP nor KVM. They are driven through [`bus`], ask for what they may
//! use through [`cx::BuildCx`], and say what has to happen next with an [`effect::Effect`].

#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests may start threads

pub mod backend;
pub mod bus;
pub mod clock;
pub mod cx;
pub mod discard;
mod disk;
mod disk_failure;
pub mod effect;
pub mod guest_errors;
pub mod irq;
pub mod map;
pub mod model;
pub mod pci;
pub mod ram;
pub mod registry;
pub mod scsi;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vhost;
pub mod virtio;
pub mod worker;
pub mod written;

#[cfg(test)]
mod map_test;
