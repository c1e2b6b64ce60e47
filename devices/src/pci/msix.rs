//! MSI-X (PCI Local Bus 3.0, section 6.8.2): table and pending bits in a BAR of their own.
//!
//! A vector is masked by its own bit, by the function's mask bit, or while MSI-X is off. The
//! combined mask and the pending bit of each vector live in one atomic byte, so that any thread
//! can signal without the device's lock:
//!
//! ```text
//!            signal: route fires            signal: stays
//!   open  --------------------> open   masked -> masked + pending
//!   open  -- guest masks -->  masked   masked + pending -- guest unmasks --> open, route fires
//! ```
//!
//! Eventfds of other parties (the kernel, other processes) are attached to the route while the
//! vector is open. While it is masked they are not: whoever watches them calls `signal`, and that
//! makes the vector pending.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;
use vmstate::{Blob, Snapshot, StateError};

use super::bar::BarKind;
use super::config::ConfigSpace;
use super::regs::capability;
use crate::bus::lock;
use crate::irq::{Interrupt, IrqProvider, MsiRoute};

/// Most vectors of a function.
pub const MAX_VECTORS: u16 = 2048;
/// Bytes of a table entry.
const ENTRY: usize = 16;
/// Smallest distance of the pending bits from the table's start.
const PBA_FLOOR: usize = 2048;
/// Offset of message control in the capability.
const CONTROL: u16 = 2;
const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;

const MASKED: u8 = 1;
const PENDING: u8 = 2;

/// One vector. Signals may come from any thread.
pub struct MsixVector {
    route: Arc<dyn MsiRoute>,
    state: AtomicU8,
    /// What else may signal the route. A leaf, but for what the route itself locks.
    direct: Mutex<Direct>,
}

/// Eventfds that reach the guest without this process.
#[derive(Default)]
struct Direct {
    events: Vec<Arc<EventFd>>,
    /// They are attached to the route: the vector is open.
    attached: bool,
}

impl MsixVector {
    fn new(route: Arc<dyn MsiRoute>) -> Self {
        MsixVector {
            route,
            state: AtomicU8::new(MASKED),
            direct: Mutex::default(),
        }
    }

    fn mask(&self) {
        self.state.fetch_or(MASKED, Ordering::AcqRel);
        let mut direct = lock(&self.direct);
        if std::mem::take(&mut direct.attached) {
            let events = direct.events.iter();
            events.for_each(|event| self.route.detach(event));
        }
    }

    fn unmask(&self) {
        if self.state.swap(0, Ordering::AcqRel) & PENDING != 0 {
            self.route.signal();
        }
        let mut direct = lock(&self.direct);
        if !std::mem::replace(&mut direct.attached, true) {
            let events = direct.events.iter();
            events.for_each(|event| self.attach(event));
        }
    }

    fn attach(&self, event: &EventFd) {
        if let Err(error) = self.route.attach(event) {
            // It is watched by a worker then, which is slower.
            log::debug!("An interrupt goes through this process: {error}");
        }
    }

    /// Lets `event` signal the vector without this process while it is open.
    pub fn add_direct(&self, event: &Arc<EventFd>) {
        let mut direct = lock(&self.direct);
        if direct.attached {
            self.attach(event);
        }
        direct.events.push(event.clone());
    }

    /// The end of that.
    pub fn remove_direct(&self, event: &Arc<EventFd>) {
        let mut direct = lock(&self.direct);
        if let Some(at) = direct.events.iter().position(|e| Arc::ptr_eq(e, event)) {
            let event = direct.events.swap_remove(at);
            if direct.attached {
                self.route.detach(&event);
            }
        }
    }

    fn pending(&self) -> bool {
        self.state.load(Ordering::Acquire) & PENDING != 0
    }

    fn set_pending(&self, pending: bool) {
        if pending {
            self.state.fetch_or(PENDING, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!PENDING, Ordering::AcqRel);
        }
    }
}

impl Interrupt for MsixVector {
    fn signal(&self) {
        let mut state = self.state.load(Ordering::Acquire);
        while state & MASKED != 0 {
            let next = state | PENDING;
            match self
                .state
                .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
        self.route.signal();
    }

    fn connect(&self, event: &Arc<EventFd>) {
        self.add_direct(event);
    }

    fn disconnect(&self) {
        let mut direct = lock(&self.direct);
        for event in std::mem::take(&mut direct.events) {
            if direct.attached {
                self.route.detach(&event);
            }
        }
    }
}

/// The table, the pending bits and the capability of one function.
pub struct Msix {
    capability: u16,
    bar: u8,
    pba: usize,
    table: Vec<u8>,
    vectors: Vec<Arc<MsixVector>>,
    /// What each route was last enabled with; routing updates are slow, so only changes go out.
    programmed: Vec<Option<(u64, u32)>>,
    enabled: bool,
    function_mask: bool,
}

impl Msix {
    /// Adds the capability and BAR `bar` with `count` vectors (1 to 2048) to `config`.
    ///
    /// # Errors
    /// When the accelerator has no routes left, or there is no room for the capability.
    pub fn new(
        config: &mut ConfigSpace,
        bar: u8,
        count: u16,
        irqs: &dyn IrqProvider,
    ) -> std::io::Result<Self> {
        let count = count.clamp(1, MAX_VECTORS);
        let table_bytes = usize::from(count) * ENTRY;
        let pba = table_bytes.next_power_of_two().max(PBA_FLOOR);
        let mut body = [0u8; 10];
        let (control, places) = body.split_at_mut(2);
        control.copy_from_slice(&(count - 1).to_le_bytes());
        let (table_at, pba_at) = places.split_at_mut(4);
        table_at.copy_from_slice(&u32::from(bar).to_le_bytes());
        let pba_place = u32::try_from(pba).unwrap_or(u32::MAX) | u32::from(bar);
        pba_at.copy_from_slice(&pba_place.to_le_bytes());
        let capability = config
            .add_capability(capability::MSIX, &body, &[0, 0xc0])
            .ok_or_else(|| std::io::Error::other("No room for the MSI-X capability"))?;
        let size = (pba * 2).max(4096) as u64;
        config.add_bar(bar, BarKind::Memory32, size);
        let vectors = (0..count)
            .map(|_| Ok(Arc::new(MsixVector::new(irqs.msi_route()?))))
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut msix = Msix {
            capability,
            bar,
            pba,
            table: vec![0; table_bytes],
            programmed: vec![None; vectors.len()],
            vectors,
            enabled: false,
            function_mask: false,
        };
        msix.clear_table();
        Ok(msix)
    }

    /// The BAR with table and pending bits.
    pub fn bar(&self) -> u8 {
        self.bar
    }

    /// The vectors, by index; they live as long as the function.
    pub fn vectors(&self) -> &[Arc<MsixVector>] {
        &self.vectors
    }

    /// Whether the guest switched MSI-X on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Takes over what the guest wrote to message control; call after every write to
    /// configuration space.
    pub fn config_written(&mut self, config: &ConfigSpace) {
        let control = config.word(self.capability.saturating_add(CONTROL));
        let enabled = control & CONTROL_ENABLE != 0;
        let function_mask = control & CONTROL_FUNCTION_MASK != 0;
        if (enabled, function_mask) != (self.enabled, self.function_mask) {
            (self.enabled, self.function_mask) = (enabled, function_mask);
            (0..self.vectors.len()).for_each(|index| self.update(index));
        }
        if !enabled {
            self.take_routes_back();
        }
    }

    /// Reads the BAR.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = self.byte(start.saturating_add(index));
        }
    }

    fn byte(&self, at: usize) -> u8 {
        if let Some(byte) = self.table.get(at) {
            return *byte;
        }
        let Some(first) = at.checked_sub(self.pba).map(|byte| byte.saturating_mul(8)) else {
            return 0;
        };
        (0..8u8)
            .filter(|bit| {
                let index = first.saturating_add(usize::from(*bit));
                self.vectors
                    .get(index)
                    .is_some_and(|vector| vector.pending())
            })
            .fold(0, |byte, bit| byte | 1 << bit)
    }

    /// Writes the table; the pending bits are read-only.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        trace::point!(
            MSIX_WRITE,
            offset = trace::Hex(offset),
            val = trace::Bytes(data)
        );
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, value) in data.iter().enumerate() {
            if let Some(byte) = self.table.get_mut(start.saturating_add(index)) {
                *byte = *value;
            }
        }
        let end = start.saturating_add(data.len().saturating_sub(1));
        for index in start / ENTRY..=end / ENTRY {
            self.update(index);
        }
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        (self.enabled, self.function_mask) = (false, false);
        self.clear_table();
        for (index, vector) in self.vectors.iter().enumerate() {
            let _ = index;
            vector.mask();
            vector.set_pending(false);
        }
        self.take_routes_back();
    }

    fn clear_table(&mut self) {
        for entry in self.table.chunks_exact_mut(ENTRY) {
            entry.fill(0);
            if let Some(control) = entry.get_mut(12) {
                *control = 1;
            }
        }
    }

    fn take_routes_back(&mut self) {
        for (vector, programmed) in self.vectors.iter().zip(&mut self.programmed) {
            if programmed.take().is_some() {
                vector.mask();
                vector.route.disable();
            }
        }
    }

    /// Brings one vector in line with table and function mask.
    fn update(&mut self, index: usize) {
        let Some(vector) = self.vectors.get(index) else {
            return;
        };
        let start = index.saturating_mul(ENTRY);
        let field = |at: usize| {
            let bytes = self.table.get(start + at..start + at + 4);
            bytes
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        if !self.enabled || self.function_mask || field(12) & 1 != 0 {
            vector.mask();
            return;
        }
        let message = (
            u64::from(field(4)) << 32 | u64::from(field(0) & !3),
            field(8),
        );
        if let Some(programmed) = self.programmed.get_mut(index)
            && *programmed != Some(message)
        {
            vector.route.enable(message.0, message.1);
            *programmed = Some(message);
        }
        vector.unmask();
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// Table and pending bits; message control is in configuration space.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct MsixV1 {
        /// The table's bytes.
        pub table: Blob,
        /// Indexes of the vectors that are pending.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub pending: Vec<u16>,
        /// MSI-X is on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub enabled: bool,
        /// All vectors are masked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub function_mask: bool,
    }
}

impl Snapshot for Msix {
    type State = state::MsixV1;
    const ID: &'static str = "pci-msix";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let pending = (0u16..).zip(&self.vectors);
        state::MsixV1 {
            table: Blob(self.table.clone()),
            pending: pending
                .filter(|(_, v)| v.pending())
                .map(|(index, _)| index)
                .collect(),
            enabled: self.enabled,
            function_mask: self.function_mask,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::MsixV1 {
            table,
            pending,
            enabled,
            function_mask,
        } = state;
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        if table.0.len() != self.table.len() {
            let vectors = (table.0.len() / ENTRY, self.vectors.len());
            return Err(refuse(format!(
                "table: {} vectors of {}",
                vectors.0, vectors.1
            )));
        }
        self.reset();
        self.table = table.0;
        for index in pending {
            let vector = self.vectors.get(usize::from(index));
            vector
                .ok_or_else(|| refuse(format!("pending: vector {index}")))?
                .set_pending(true);
        }
        (self.enabled, self.function_mask) = (enabled, function_mask);
        (0..self.vectors.len()).for_each(|index| self.update(index));
        Ok(())
    }
}
