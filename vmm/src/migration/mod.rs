//! A machine's state on its way: over a socket, into a file, into an image. The same
//! [`Section`](vmstate::Section)s travel on all of them.

mod ahead;
pub mod answers;
pub mod direct;
#[cfg(test)]
mod fake;
pub mod host;
pub mod link;
pub mod load;
pub mod pages;
pub mod placed;
pub mod ram;
pub mod records;
pub mod source;
mod splice;
pub mod still;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod untouched;
pub mod wire;
