//! A guest, interrupt controllers, I/O threads and clocks for tests, all in one thread.

mod chardev;
mod clock;
pub mod conformance;
mod driver;
#[cfg(test)]
#[path = "../../../tests/golden/vmstate.rs"]
pub mod golden;
mod guest;
mod input;
mod io_thread;
mod irqs;
mod net;
mod net_fuzz;
mod queue_fuzz;

pub use chardev::FakeChar;
pub use clock::FakeTimers;
pub use driver::{Buffer, Driver, Ring};
pub use guest::{FakeGuest, RAM_HIGH, RAM_SIZE};
pub use io_thread::InlineThread;
pub use irqs::{FakeIrqs, FakeRoute};
pub use net::{Told, Wire, wire};
pub use net_fuzz::virtio_net;
pub use queue_fuzz::virtio_queues;
