//! A guest, interrupt controllers, I/O threads and clocks for tests, all in one thread.

mod irqs;

pub use irqs::{FakeIrqs, FakeRoute};
