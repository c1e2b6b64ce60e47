//! What the process may still do once the guest runs.
//!
//! A guest is hostile code. Should it break out of a device model, it finds itself in a process
//! that has no privileges ([`plan`]), may make only the system calls that the thread needs, and
//! reaches only the files it was told of.

pub mod calls;
mod capabilities;
pub mod files;
pub mod launcher;
pub mod names;
pub mod plan;
pub mod privileges;
#[cfg(debug_assertions)]
mod provoke;
pub mod seccomp;
pub mod trap;
mod user;

#[cfg(debug_assertions)]
pub use provoke::provoke;
