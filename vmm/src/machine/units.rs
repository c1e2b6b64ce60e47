//! Logical units of SCSI buses, as clients name them.

use std::sync::Arc;

use devices::backend::net::Nic;
use devices::scsi::{Media, Unit};
use devices::virtio;

use super::Machine;
use super::plug::{Branch, Device};

impl Machine {
    /// The logical unit that a client calls by its device's id or by its path in the object tree.
    pub fn unit(&self, name: &str) -> Option<&Arc<Unit>> {
        let is = |device: &&Device| {
            let by_id = device.branch == Branch::Peripheral && *device.key == *name;
            by_id || device.branch.path(&device.key) == name
        };
        self.devices.iter().find(is)?.face.unit()
    }

    /// The same, where its medium can be taken out.
    pub fn media(&self, name: &str) -> Option<&Arc<Media>> {
        self.unit(name)?.media()
    }

    /// The network interfaces, with their keys, in the order in which they were plugged.
    pub fn nics(&self) -> impl Iterator<Item = (&str, &Arc<dyn Nic>)> {
        self.devices
            .iter()
            .filter_map(|device| Some((&*device.key, device.face.nic()?)))
    }

    /// The last byte of the first address that no interface has, of those that are given out by
    /// default (52:54:00:12:34:56 and on).
    pub fn free_mac(&self) -> u8 {
        let taken = |last: &u8| {
            let mac = virtio::net::default_mac(*last);
            self.nics().any(|(_, nic)| nic.mac() == Some(mac))
        };
        let first = virtio::net::FIRST_MAC;
        (first..=u8::MAX).find(|last| !taken(last)).unwrap_or(first)
    }

    /// Where the object tree has the device of that key.
    pub fn path_of(&self, key: &str) -> Option<String> {
        let device = self.devices.iter().find(|device| *device.key == *key)?;
        Some(device.branch.path(&device.key))
    }
}
