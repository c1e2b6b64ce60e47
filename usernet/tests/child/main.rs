//! The child from outside, with a guest that is a TCP/IP stack of its own (smoltcp).

mod addresses;
mod guest;
mod life;
mod names;
mod network;
mod tftp;
mod transfer;
