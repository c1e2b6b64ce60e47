//! The ports of one function.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use api_spec::{QmpError, QmpResult, VirtconsoleProps, VirtserialportProps};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::port::Port;
use crate::backend::chardev::{CharFrontend, CharWaker};
use crate::bus::lock;
use crate::cx::EffectSink;

/// Kinds of port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// `virtconsole`.
    Console,
    /// `virtserialport`.
    Serial,
}

/// What can be chosen of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOptions {
    /// Its kind.
    pub kind: PortKind,
    /// Its number; the lowest free one by default.
    pub nr: Option<u32>,
    /// The name that the guest sees.
    pub name: Option<String>,
}

impl From<&VirtconsoleProps> for PortOptions {
    fn from(props: &VirtconsoleProps) -> Self {
        PortOptions {
            kind: PortKind::Console,
            nr: props.nr,
            name: props.name.clone(),
        }
    }
}

impl From<&VirtserialportProps> for PortOptions {
    fn from(props: &VirtserialportProps) -> Self {
        PortOptions {
            kind: PortKind::Serial,
            nr: props.nr,
            name: props.name.clone(),
        }
    }
}

/// Wakes the worker, from any thread.
pub(super) struct Wake {
    event: EventFd,
    called: AtomicBool,
}

impl Wake {
    pub fn call(&self) {
        if !self.called.swap(true, Ordering::AcqRel) {
            // Fails only when the counter is full, and then it is readable already.
            let _ = self.event.write(1);
        }
    }

    /// Before the worker looks.
    pub fn take(&self) {
        // Fails only when nobody called.
        let _ = self.event.read();
        // A swap, not a store: whoever called in between and was let off is seen by the look, which
        // a processor could otherwise begin before others see the flag fall.
        self.called.swap(false, Ordering::AcqRel);
    }

    pub fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

impl CharWaker for Wake {
    fn wake(&self) {
        self.call();
    }
}

/// What the bus and its worker share.
pub(super) struct Shared {
    pub max_ports: u32,
    /// Leaf lock, held for a look-up or a copy.
    ports: Mutex<BTreeMap<u32, Arc<Port>>>,
    /// Numbers of ports that the driver still believes in. Leaf lock.
    removed: Mutex<BTreeSet<u32>>,
    /// Rises when ports come or go.
    generation: AtomicU64,
    /// The driver is ready for ports.
    pub ready: AtomicBool,
    pub wake: Arc<Wake>,
}

impl Shared {
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn ports(&self) -> Vec<Arc<Port>> {
        lock(&self.ports).values().cloned().collect()
    }

    /// The next removal that the driver does not know of.
    pub fn next_removed(&self) -> Option<u32> {
        lock(&self.removed).first().copied()
    }

    /// All removals that it does not know of.
    pub fn removed(&self) -> Vec<u32> {
        lock(&self.removed).iter().copied().collect()
    }

    /// Puts them back, for restoring saved state.
    pub fn set_removed(&self, numbers: impl IntoIterator<Item = u32>) {
        *lock(&self.removed) = numbers.into_iter().collect();
    }

    pub fn told_removed(&self, nr: u32) {
        lock(&self.removed).remove(&nr);
    }

    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
        for port in self.ports() {
            port.update(|state| state.add_due = true);
        }
    }
}

/// The bus: takes ports, before the machine starts and later.
pub struct SerialBus {
    shared: Arc<Shared>,
}

impl SerialBus {
    /// An empty one.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub(super) fn new(max_ports: u32) -> io::Result<Self> {
        let wake = Wake {
            event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            called: AtomicBool::new(false),
        };
        Ok(SerialBus {
            shared: Arc::new(Shared {
                max_ports,
                ports: Mutex::default(),
                removed: Mutex::default(),
                generation: AtomicU64::new(1),
                ready: AtomicBool::new(false),
                wake: Arc::new(wake),
            }),
        })
    }

    /// Most ports.
    pub fn max_ports(&self) -> u32 {
        self.shared.max_ports
    }

    /// The numbers in use.
    pub fn numbers(&self) -> Vec<u32> {
        lock(&self.shared.ports).keys().copied().collect()
    }

    /// Puts a port on the bus and returns its number. What becomes of its guest's end is said to
    /// `effects` under `id`, if it has one.
    ///
    /// # Errors
    /// When the number or name is taken, or there is none left.
    pub fn add_port(
        &self,
        options: PortOptions,
        front: Option<CharFrontend>,
        id: Option<&str>,
        effects: Arc<dyn EffectSink>,
    ) -> QmpResult<u32> {
        let PortOptions { kind, nr, name } = options;
        let mut ports = lock(&self.shared.ports);
        let nr = self.choose(&ports, kind, nr, name.as_deref())?;
        let waker: Arc<Wake> = self.shared.wake.clone();
        if let Some(front) = &front {
            front.set_waker(Some(waker));
        }
        let port = Port::new(nr, kind, name, id.map(str::to_owned), front, effects);
        let ready = self.shared.ready.load(Ordering::Acquire);
        port.update(|state| state.add_due = ready);
        ports.insert(nr, Arc::new(port));
        drop(ports);
        self.changed();
        Ok(nr)
    }

    fn choose(
        &self,
        ports: &BTreeMap<u32, Arc<Port>>,
        kind: PortKind,
        nr: Option<u32>,
        name: Option<&str>,
    ) -> QmpResult<u32> {
        let refuse = |text: String| Err(QmpError::generic(text));
        let same_name = |port: &Arc<Port>| name.is_some() && port.name.as_deref() == name;
        if let (Some(name), true) = (name, ports.values().any(same_name)) {
            return refuse(format!(
                "virtio-serial-bus: A port already exists by name {name}"
            ));
        }
        let chosen = match nr.filter(|nr| *nr != u32::MAX) {
            Some(0) if kind == PortKind::Serial => {
                return refuse(
                    "Port number 0 on virtio-serial devices reserved for virtconsole devices \
                     for backward compatibility."
                        .into(),
                );
            }
            Some(nr) => nr,
            None if kind == PortKind::Console && !ports.contains_key(&0) => 0,
            // Number 0 is kept for a console, which drivers without multiport see. Numbers are
            // looked for in whole words of 32, and the last of them may be out of range.
            None => match (1..self.max_ports().next_multiple_of(32))
                .find(|nr| !ports.contains_key(nr))
            {
                Some(nr) => nr,
                None => {
                    return refuse(
                        "virtio-serial-bus: Maximum port limit for this device reached".into(),
                    );
                }
            },
        };
        if ports.contains_key(&chosen) {
            return refuse(format!(
                "virtio-serial-bus: A port already exists at id {chosen}"
            ));
        }
        if chosen >= self.max_ports() {
            let most = self.max_ports().saturating_sub(1);
            return refuse(format!(
                "virtio-serial-bus: Out-of-range port id specified, max. allowed: {most}"
            ));
        }
        Ok(chosen)
    }

    /// Takes a port off the bus, and frees its character device. Whether there was one.
    pub fn remove_port(&self, nr: u32) -> bool {
        let Some(port) = lock(&self.shared.ports).remove(&nr) else {
            return false;
        };
        port.release();
        if self.shared.ready.load(Ordering::Acquire) && !port.state().add_due {
            lock(&self.shared.removed).insert(nr);
        }
        self.changed();
        true
    }

    fn changed(&self) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        self.shared.wake.call();
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// A character for the first console, from a driver that is not ready yet or not any more.
    pub(super) fn emergency_write(&self, character: u8) {
        let ports = self.shared.ports();
        let mut consoles = ports
            .iter()
            .filter(|port| port.kind() == PortKind::Console && port.host_open());
        if let Some(port) = consoles.next() {
            port.front(|front| front.write(&[character]));
        }
    }

    /// The driver reset the device.
    pub(super) fn reset(&self) {
        self.shared.ready.store(false, Ordering::Release);
        lock(&self.shared.removed).clear();
        for port in self.shared.ports() {
            port.reset();
        }
    }
}
