//! One port: what is known of both ends.

use std::sync::{Arc, Mutex};

use super::bus::PortKind;
use super::message::{Message, Topic};
use crate::backend::chardev::{CharFrontend, CharPort};
use crate::bus::lock;
use crate::cx::EffectSink;
use crate::effect::{Effect, Notice};

/// What the driver knows of a port and the other way round; survives the worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PortState {
    /// The driver is to be told of the port.
    pub add_due: bool,
    /// That it is a console.
    pub console_due: bool,
    /// Its name.
    pub name_due: bool,
    /// The driver has the port.
    pub ready: bool,
    /// What the driver was told last of the host's end.
    pub host_told: bool,
    /// Which of the host's peers that was about.
    pub told_peer: u32,
    /// A program in the guest has it open.
    pub guest_open: bool,
    /// Bytes of the transmit queue's next buffer that were passed on already.
    pub sent: u64,
}

pub(super) struct Port {
    pub nr: u32,
    kind: PortKind,
    pub name: Option<String>,
    id: Option<String>,
    effects: Arc<dyn EffectSink>,
    /// Held for one call of the worker, or of a vCPU's emergency write. Leaf, as far as devices
    /// are concerned.
    front: Mutex<Option<CharFrontend>>,
    /// Leaf lock.
    state: Mutex<PortState>,
}

impl Port {
    pub fn new(
        nr: u32,
        kind: PortKind,
        name: Option<String>,
        id: Option<String>,
        front: Option<CharFrontend>,
        effects: Arc<dyn EffectSink>,
    ) -> Self {
        if let (PortKind::Console, Some(front)) = (kind, &front) {
            front.set_frontend_open(true);
        }
        Port {
            nr,
            kind,
            name,
            id,
            effects,
            front: Mutex::new(front),
            state: Mutex::default(),
        }
    }

    pub fn kind(&self) -> PortKind {
        self.kind
    }

    /// Calls `with` if there is a character device.
    pub fn front<T>(&self, with: impl FnOnce(&dyn CharPort) -> T) -> Option<T> {
        lock(&self.front).as_deref().map(with)
    }

    /// Lets go of the character device.
    pub fn release(&self) {
        let front = lock(&self.front).take();
        if let Some(front) = front {
            front.set_waker(None);
        }
    }

    /// Whether somebody is at the host's end. A console's output goes wherever its character
    /// device wants, also when nobody is connected to that.
    pub fn host_open(&self) -> bool {
        let open = match self.kind {
            PortKind::Console => self.front(|_| true),
            PortKind::Serial => self.front(|front| front.is_open()),
        };
        open.unwrap_or(false)
    }

    /// Which of its peers the host's end has now.
    pub fn peer(&self) -> u32 {
        match self.kind {
            PortKind::Console => 0,
            PortKind::Serial => self.front(|front| front.peers()).unwrap_or(0),
        }
    }

    pub fn state(&self) -> PortState {
        *lock(&self.state)
    }

    pub fn update(&self, change: impl FnOnce(&mut PortState)) {
        change(&mut lock(&self.state));
    }

    /// The driver has the port: it is to be told the rest.
    pub fn set_ready(&self) {
        let (console, name) = (self.kind == PortKind::Console, self.name.is_some());
        self.update(|state| {
            state.ready = true;
            state.console_due = console;
            state.name_due = name;
            state.host_told = false;
        });
    }

    /// A program in the guest opened or closed it.
    pub fn set_guest_open(&self, open: bool) {
        let was_open = {
            let mut state = lock(&self.state);
            std::mem::replace(&mut state.guest_open, open)
        };
        if was_open == open {
            return;
        }
        self.front(|front| front.set_frontend_open(open));
        if let (PortKind::Serial, Some(id)) = (self.kind, &self.id) {
            let notice = Notice::SerialPort {
                id: id.clone(),
                open,
            };
            self.effects.raise(id, Effect::Notice(notice));
        }
    }

    /// The next thing to tell the driver.
    pub fn next_message(&self) -> Option<Message> {
        let state = self.state();
        // A program in the guest learns of each new peer, also of one that came at once when
        // the one before had left.
        let same_peer = !state.host_told || state.told_peer == self.peer();
        let host_open = same_peer && self.host_open();
        let (topic, value) = if state.add_due {
            (Topic::PortAdd, 1)
        } else if state.console_due {
            (Topic::ConsolePort, 1)
        } else if state.name_due {
            (Topic::PortName, 1)
        } else if state.ready && state.host_told != host_open {
            (Topic::PortOpen, host_open.into())
        } else {
            return None;
        };
        Some(Message {
            port: self.nr,
            topic,
            value,
        })
    }

    /// It was told.
    pub fn told(&self, message: Message) {
        let peer = self.peer();
        self.update(|state| match message.topic {
            Topic::PortAdd => state.add_due = false,
            Topic::ConsolePort => state.console_due = false,
            Topic::PortName => state.name_due = false,
            Topic::PortOpen => {
                state.host_told = message.value != 0;
                state.told_peer = peer;
            }
            Topic::DeviceReady | Topic::PortReady | Topic::PortRemove => {}
        });
    }

    /// The driver reset the device.
    pub fn reset(&self) {
        self.set_guest_open(false);
        self.update(|state| *state = PortState::default());
    }
}
