//! A machine's state on its way: over a socket, into a file, into an image. The same
//! [`Section`](vmstate::Section)s travel on all of them.

pub mod host;
pub mod ram;
