//! What the machine itself keeps beside its devices' registers.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::super::Machine;
use super::super::plug::Asked;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The machine's own state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineV1 {
    /// CONFIG_ADDRESS of configuration mechanism #1 (PCI Local Bus 3.0, section 3.2.2.3.2).
    #[serde(skip_serializing_if = "is_default")]
    pub config_address: u32,
    /// Devices that came or are to go, in order of their names.
    #[serde(skip_serializing_if = "is_default")]
    pub devices: Vec<PluggedV1>,
}

/// How it stands with a device that came or is to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluggedV1 {
    /// Its section's instance.
    pub path: String,
    /// It came while the machine was there.
    #[serde(skip_serializing_if = "is_default")]
    pub hotplugged: bool,
    /// The guest was asked to let go of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplug: Option<UnplugV1>,
}

/// The guest was asked to let go of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnplugV1 {
    /// When it can be asked again, in the guest's time; never where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
}

/// The machine, as a thing with a state.
pub struct Own<'m>(pub &'m mut Machine);

impl Snapshot for Own<'_> {
    type State = MachineV1;
    const ID: &'static str = "machine";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let machine = &*self.0;
        let mut devices: Vec<PluggedV1> = machine
            .devices
            .iter()
            .filter(|device| device.hotplugged || device.unplug.is_some())
            .map(|device| PluggedV1 {
                path: device.instance(),
                hotplugged: device.hotplugged,
                unplug: device.unplug.map(|Asked { again }| UnplugV1 { again }),
            })
            .collect();
        devices.sort_by(|one, other| one.path.cmp(&other.path));
        MachineV1 {
            config_address: machine.pci.config_address().load(Ordering::Acquire),
            devices,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let MachineV1 {
            config_address,
            devices,
        } = state;
        let machine = &mut *self.0;
        let address = machine.pci.config_address();
        address.store(config_address, Ordering::Release);
        for device in &mut machine.devices {
            (device.hotplugged, device.unplug) = (false, None);
        }
        for PluggedV1 {
            path,
            hotplugged,
            unplug,
        } in devices
        {
            let mut here = machine.devices.iter_mut();
            let device = here.find(|device| device.instance() == path);
            let device = device.ok_or_else(|| StateError::Body {
                id: Self::ID.into(),
                reason: format!("devices: there is no {path}"),
            })?;
            device.hotplugged = hotplugged;
            device.unplug = unplug.map(|UnplugV1 { again }| Asked { again });
        }
        Ok(())
    }
}
