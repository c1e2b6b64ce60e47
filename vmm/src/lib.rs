//! The program: command line, control loop, machine, accelerators and boot.
//!
//! `control` is the main thread and the sole owner of the machine. Everything reaches it as mail
//! ([`event::Mail`]): commands from the `qmp` thread, events from vCPUs, timers and devices.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests may start threads

pub mod accel;
pub mod acpi;
pub mod armour;
pub mod boot;
pub mod cli;
pub mod clock;
pub mod control;
pub mod cpuid;
pub mod dump;
pub mod event;
pub mod layout;
pub mod logging;
pub mod machine;
pub mod memory;
pub mod migration;
mod mirror;
mod own_code;
mod own_process;
pub mod process;
pub mod service;
pub mod smbios;
pub mod startup;
pub mod sys;
pub mod threads;
pub mod vcpu;
