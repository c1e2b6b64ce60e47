//! User-mode networking (`netdev user`), outside of the monitor.
//!
//! The C library that plays the network never runs in the monitor's process. A child of it does,
//! `qvmd-usernet`, with few rights and two sockets:
//!
//! ```text
//! monitor --- control: lines of JSON (module wire), in order ------------> qvmd-usernet --- host's
//!         \-- frames: bare Ethernet, one in each message (SEQPACKET) ----/    (libslirp)     network
//! ```
//!
//! This library is what both sides have in common; the rest is in the program.

pub mod landlock;
pub mod wire;
