//! The machine as configured: what is plugged where, and by which path QOM names it.

pub mod qom;
pub mod slots;
pub mod topology;
