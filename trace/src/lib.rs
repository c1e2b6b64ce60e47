//! Trace points: places in the program that say what they do when somebody wants to know. One that
//! is off costs a relaxed load. All are declared in one table ([`points`]); what they say goes to
//! the one [`Sink`] of the process.
//!
//! ```
//! let (vdev, vq) = ("disk0", 0);
//! trace::point!(VIRTIO_NOTIFY, vdev = vdev, vq = vq);
//! ```

pub mod pattern;
pub mod points;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub use points::ALL;

/// A place that can be watched.
#[derive(Debug)]
pub struct TracePoint {
    name: &'static str,
    on: AtomicBool,
}

impl TracePoint {
    /// A point that is off.
    pub const fn new(name: &'static str) -> Self {
        TracePoint {
            name,
            on: AtomicBool::new(false),
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether somebody wants to know.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Switches it, for all threads; each notices soon.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }
}

/// Takes what points say: which one, and its values as ` key=value` each. It is called on any
/// thread, with locks held, and must not wait.
pub type Sink = fn(&'static TracePoint, fmt::Arguments<'_>);

static SINK: OnceLock<Sink> = OnceLock::new();

/// Where it goes from now on; the first call decides.
pub fn set_sink(sink: Sink) {
    let _ = SINK.set(sink);
}

/// Says it; called by [`point!`] only.
#[cold]
#[inline(never)]
pub fn emit(point: &'static TracePoint, values: fmt::Arguments<'_>) {
    if let Some(sink) = SINK.get() {
        sink(point, values);
    }
}

/// A number in hexadecimal.
#[derive(Debug, Clone, Copy)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Bytes as a number that has its lowest byte first; of more than eight, the first eight.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = [0; 8];
        number
            .iter_mut()
            .zip(self.0)
            .for_each(|(to, from)| *to = *from);
        write!(f, "{:#x}", u64::from_le_bytes(number))
    }
}

/// The point of a name.
pub fn find(name: &str) -> Option<&'static TracePoint> {
    ALL.iter().copied().find(|point| point.name == name)
}

/// The points that a pattern fits, in their order.
pub fn matching(pattern: &str) -> impl Iterator<Item = &'static TracePoint> {
    ALL.iter()
        .copied()
        .filter(move |point| pattern::fits(pattern, point.name))
}

/// Says something at a point, when it is on; values are not looked at otherwise.
#[macro_export]
macro_rules! point {
    ($point:ident $(, $key:ident = $value:expr)* $(,)?) => {
        if $crate::points::$point.is_on() {
            $crate::emit(
                &$crate::points::$point,
                format_args!(concat!("", $(" ", stringify!($key), "={}"),*) $(, $value)*),
            );
        }
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn what_is_on_is_said() {
        set_sink(|point, values| {
            SAID.lock()
                .unwrap()
                .push(format!("{}{values}", point.name()));
        });
        let looked = std::cell::Cell::new(0);
        let look = || {
            looked.set(looked.get() + 1);
            Hex(0x1f)
        };
        point!(PCI_CFG_READ, dev = "00:1f.0", offset = look());
        points::PCI_CFG_READ.set(true);
        point!(PCI_CFG_READ, dev = "00:1f.0", offset = look());
        points::PCI_CFG_READ.set(false);
        point!(PCI_CFG_READ, dev = "00:1f.0", offset = look());
        assert_eq!(looked.get(), 1);
        let said = SAID.lock().unwrap();
        assert_eq!(*said, ["pci_cfg_read dev=00:1f.0 offset=0x1f"]);
    }

    #[test]
    fn names_are_unique_and_found() {
        for point in ALL {
            assert!(std::ptr::eq(find(point.name()).unwrap(), *point));
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(point.name().chars().all(plain), "{}", point.name());
        }
        assert!(find("nosuch").is_none());
        assert_eq!(matching("pci_cfg_*").count(), 2);
        assert_eq!(matching("*").count(), ALL.len());
        assert_eq!(matching("nosuch*").count(), 0);
    }
}
