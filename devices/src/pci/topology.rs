//! Which functions are plugged where, and what they decode at this moment.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::bar::{BarAddress, BarKind};
use super::config::BridgeWindows;
use super::{BarIoEvent, Decode, DevFn, SharedFunction};
use crate::bus::lock;

/// A function in its place.
#[derive(Clone)]
pub struct Plugged {
    /// The device's id, unique in the machine.
    pub id: Arc<str>,
    /// Id of the bridge it is behind; `None` on the root bus.
    pub parent: Option<Arc<str>>,
    /// Slot and function.
    pub devfn: DevFn,
    /// The function.
    pub function: SharedFunction,
}

/// Why a function cannot be plugged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlugError {
    /// Another function is there.
    #[error("Slot {slot:02x}.{function} is in use by '{by}'")]
    Taken {
        /// Slot.
        slot: u8,
        /// Function.
        function: u8,
        /// The other one's id.
        by: String,
    },
    /// The id is in use.
    #[error("Duplicate device ID '{0}'")]
    Duplicate(String),
    /// No bridge of that id.
    #[error("Bus of '{0}' not found")]
    NoBridge(String),
}

/// All functions of the machine. Owned by the control thread.
#[derive(Default)]
pub struct PciTopology {
    /// Bridges stand before what is behind them.
    functions: Vec<Plugged>,
    address: Arc<AtomicU32>,
}

impl PciTopology {
    /// An empty bus 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function.
    ///
    /// # Errors
    /// When its place or id is taken, or its bridge is not there.
    pub fn plug(&mut self, plugged: Plugged) -> Result<(), PlugError> {
        if self.find(&plugged.id).is_some() {
            return Err(PlugError::Duplicate(plugged.id.to_string()));
        }
        if let Some(parent) = &plugged.parent
            && self.find(parent).is_none()
        {
            return Err(PlugError::NoBridge(parent.to_string()));
        }
        if let Some(other) = self.at(plugged.parent.as_deref(), plugged.devfn) {
            return Err(PlugError::Taken {
                slot: plugged.devfn.slot(),
                function: plugged.devfn.function(),
                by: other.id.to_string(),
            });
        }
        self.functions.push(plugged);
        Ok(())
    }

    /// Takes a function out. What is behind a bridge has to go first, or it becomes unreachable.
    pub fn unplug(&mut self, id: &str) -> Option<Plugged> {
        let index = self
            .functions
            .iter()
            .position(|plugged| &*plugged.id == id)?;
        Some(self.functions.remove(index))
    }

    /// The function of that id.
    pub fn find(&self, id: &str) -> Option<&Plugged> {
        self.functions.iter().find(|plugged| &*plugged.id == id)
    }

    /// The function in that place.
    pub fn at(&self, parent: Option<&str>, devfn: DevFn) -> Option<&Plugged> {
        self.behind(parent).find(|plugged| plugged.devfn == devfn)
    }

    /// The functions on one bus: the root bus, or the one behind a bridge.
    pub fn behind(&self, parent: Option<&str>) -> impl Iterator<Item = &Plugged> {
        self.functions
            .iter()
            .filter(move |plugged| plugged.parent.as_deref() == parent)
    }

    /// All functions; bridges stand before what is behind them.
    pub fn functions(&self) -> &[Plugged] {
        &self.functions
    }

    /// CONFIG_ADDRESS of configuration mechanism #1.
    pub fn config_address(&self) -> &Arc<AtomicU32> {
        &self.address
    }

    /// Looks at every function's registers; takes their locks one after the other.
    pub fn see(&self) -> Seen {
        let mut seen: Vec<SeenFunction> = Vec::with_capacity(self.functions.len());
        for plugged in &self.functions {
            let parent = plugged.parent.as_deref();
            let reach = match parent {
                None => Reach::root(),
                Some(id) => seen
                    .iter()
                    .find(|bridge| &*bridge.id == id)
                    .map_or_else(Reach::nowhere, SeenFunction::reach_behind),
            };
            seen.push(SeenFunction::look(plugged, reach));
        }
        Seen {
            functions: seen,
            address: self.address.clone(),
        }
    }
}

/// What the functions decode at one moment.
pub struct Seen {
    /// In the topology's order.
    pub functions: Vec<SeenFunction>,
    /// CONFIG_ADDRESS.
    pub address: Arc<AtomicU32>,
}

/// What one function decodes at one moment.
pub struct SeenFunction {
    /// The device's id.
    pub id: Arc<str>,
    /// Its bus number; `None` while no bus number leads to it.
    pub bus: Option<u8>,
    /// Slot and function.
    pub devfn: DevFn,
    /// The function.
    pub function: SharedFunction,
    /// BARs that answer and that the bridges above let through.
    pub bars: Vec<BarAddress>,
    /// What it decodes beside them.
    pub decodes: Vec<Decode>,
    /// Short cuts in its BARs.
    pub io_events: Vec<BarIoEvent>,
    bridge: Option<BridgeWindows>,
    reach: Reach,
}

impl SeenFunction {
    fn look(plugged: &Plugged, reach: Reach) -> Self {
        let mut function = lock(&plugged.function);
        let config = function.config();
        let bars = config
            .active_bars()
            .filter(|bar| reach.lets_through(*bar))
            .collect();
        let bridge = config.bridge_windows();
        SeenFunction {
            id: plugged.id.clone(),
            bus: reach.bus,
            devfn: plugged.devfn,
            function: plugged.function.clone(),
            bars,
            bridge,
            decodes: function.decodes(),
            io_events: function.io_events(),
            reach,
        }
    }

    fn reach_behind(&self) -> Reach {
        let Some(bridge) = self.bridge.filter(|bridge| !bridge.cut_off) else {
            return Reach::nowhere();
        };
        Reach {
            bus: self
                .bus
                .and((bridge.secondary != 0).then_some(bridge.secondary)),
            io: within(self.reach.io, bridge.io),
            memory: [
                within_any(&self.reach.memory, bridge.memory),
                within_any(&self.reach.memory, bridge.prefetchable),
            ],
        }
    }
}

type Span = (u64, u64);

/// What the bridges above let through.
#[derive(Debug, Clone, Copy)]
struct Reach {
    bus: Option<u8>,
    io: Option<Span>,
    memory: [Option<Span>; 2],
}

impl Reach {
    fn root() -> Self {
        Reach {
            bus: Some(0),
            io: Some((0, u64::MAX)),
            memory: [Some((0, u64::MAX)), None],
        }
    }

    fn nowhere() -> Self {
        Reach {
            bus: None,
            io: None,
            memory: [None; 2],
        }
    }

    fn lets_through(&self, bar: BarAddress) -> bool {
        let inside =
            |span: &Option<Span>| span.is_some_and(|(a, b)| a <= bar.base && bar.last() <= b);
        match bar.kind {
            BarKind::Io => inside(&self.io),
            BarKind::Memory32 | BarKind::Memory64 { .. } => self.memory.iter().any(inside),
        }
    }
}

fn within(outer: Option<Span>, inner: Option<Span>) -> Option<Span> {
    let (outer, inner) = (outer?, inner?);
    let span = (outer.0.max(inner.0), outer.1.min(inner.1));
    (span.0 <= span.1).then_some(span)
}

fn within_any(outer: &[Option<Span>], inner: Option<Span>) -> Option<Span> {
    outer.iter().find_map(|span| within(*span, inner))
}
