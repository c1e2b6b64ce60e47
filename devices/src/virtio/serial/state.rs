//! Saved state of the bus and its ports.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::Serial;
use super::port::PortState;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The bus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VirtioSerialV1 {
    /// Most ports, to be compared.
    pub max_ports: u32,
    /// The driver is ready for ports.
    #[serde(skip_serializing_if = "is_default")]
    pub ready: bool,
    /// Numbers of ports that went, and the driver was not told.
    #[serde(skip_serializing_if = "is_default")]
    pub removed: Vec<u32>,
    /// The ports by number.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<PortV1>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortV1 {
    /// Its number.
    pub nr: u32,
    /// The driver is to be told of the port.
    #[serde(skip_serializing_if = "is_default")]
    pub add_due: bool,
    /// That it is a console.
    #[serde(skip_serializing_if = "is_default")]
    pub console_due: bool,
    /// Its name.
    #[serde(skip_serializing_if = "is_default")]
    pub name_due: bool,
    /// The driver has the port.
    #[serde(skip_serializing_if = "is_default")]
    pub ready: bool,
    /// What the driver was told last of the host's end.
    #[serde(skip_serializing_if = "is_default")]
    pub host_told: bool,
    /// A program in the guest has it open.
    #[serde(skip_serializing_if = "is_default")]
    pub guest_open: bool,
    /// Bytes of the transmit queue's next buffer that were passed on already.
    #[serde(skip_serializing_if = "is_default")]
    pub sent: u64,
}

impl Snapshot for Serial {
    type State = VirtioSerialV1;
    const ID: &'static str = "virtio-serial";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let shared = self.bus.shared();
        let ports = shared.ports();
        VirtioSerialV1 {
            max_ports: shared.max_ports,
            ready: shared.ready.load(Ordering::Acquire),
            removed: shared.removed(),
            ports: ports
                .iter()
                .map(|port| {
                    let PortState {
                        add_due,
                        console_due,
                        name_due,
                        ready,
                        host_told,
                        // Another process has other peers.
                        told_peer: _,
                        guest_open,
                        sent,
                    } = port.state();
                    PortV1 {
                        nr: port.nr,
                        add_due,
                        console_due,
                        name_due,
                        ready,
                        host_told,
                        guest_open,
                        sent,
                    }
                })
                .collect(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let VirtioSerialV1 {
            max_ports,
            ready,
            removed,
            ports,
        } = state;
        let shared = self.bus.shared();
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        if max_ports != shared.max_ports {
            let here = shared.max_ports;
            return Err(refuse(format!("max_ports: {max_ports}, {here} here")));
        }
        let numbers: Vec<u32> = ports.iter().map(|port| port.nr).collect();
        if numbers != self.bus.numbers() {
            let here = self.bus.numbers();
            return Err(refuse(format!("ports: {numbers:?}, {here:?} here")));
        }
        if let Some(nr) = removed.iter().find(|nr| **nr >= max_ports) {
            return Err(refuse(format!("removed: {nr} of {max_ports}")));
        }
        self.bus.reset();
        shared.ready.store(ready, Ordering::Release);
        shared.set_removed(removed);
        for (port, state) in shared.ports().iter().zip(ports) {
            let PortV1 {
                nr: _,
                add_due,
                console_due,
                name_due,
                ready,
                host_told,
                guest_open,
                sent,
            } = state;
            port.set_guest_open(guest_open);
            let told_peer = port.peer();
            port.update(|state| {
                *state = PortState {
                    add_due,
                    console_due,
                    name_due,
                    ready,
                    host_told,
                    told_peer,
                    guest_open,
                    sent,
                };
            });
        }
        Ok(())
    }
}
