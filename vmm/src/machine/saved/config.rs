//! What a machine is made of, and what keeps another one's state out of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Machine;
use super::super::plug::Device;
use super::{DeviceConfig, MachineConfig};
use crate::migration::ram::RamBlock;

/// A guest counts its disk in these.
const LOGICAL: &str = "logical_block_size";

/// Properties that a guest sees and that its device's state does not carry, or that are said
/// better before than by what its state then does not fit into. Those of the host's side (drives,
/// netdevs, threads, policies) may differ.
const SEEN: [&str; 25] = [
    "bus-reserve",
    "channel",
    "chassis",
    "events",
    "hotplug",
    "iobase",
    "ioport",
    "iosize",
    "irq",
    LOGICAL,
    "lun",
    "max_ports",
    "mq",
    "multifunction",
    "nr",
    "num-queues",
    "num_queues",
    "port",
    "queue-size",
    "rx_queue_size",
    "scsi-id",
    "slot",
    "tx_queue_size",
    "vectors",
    "virtqueue_size",
];

impl Machine {
    /// What it is made of.
    pub fn config(&self) -> MachineConfig {
        let block = |block: RamBlock| (block.name, block.len);
        let topology = &self.spec.topology;
        MachineConfig {
            machine: self.spec.kind.name().to_owned(),
            accel: self.accel.kind().name().to_owned(),
            cpus: u32::try_from(self.cpu_count()).unwrap_or(u32::MAX),
            topology: [
                topology.sockets,
                topology.dies,
                topology.modules,
                topology.cores,
                topology.threads,
                topology.maxcpus,
            ],
            cpu: self.spec.cpu_text.clone(),
            kernel: self.boot.is_some(),
            uuid: self.uuid.map(|uuid| uuid.to_string()),
            ram: self.ram_view().blocks.into_iter().map(block).collect(),
            devices: self
                .devices
                .iter()
                .map(|device| self.describe(device))
                .collect(),
        }
    }

    fn describe(&self, device: &Device) -> DeviceConfig {
        let seen = self.property_values(device).into_iter();
        let seen = seen.filter(|(name, _, _)| SEEN.contains(name));
        let text = |name: &str, value: Value| match value {
            Value::String(text) => text,
            // What is left to the node turns out so.
            other if name == LOGICAL && other == 0 => block::SECTOR.to_string(),
            other => other.to_string(),
        };
        let properties: BTreeMap<String, String> = seen
            .map(|(name, _, value)| (name.to_owned(), text(name, value)))
            .collect();
        DeviceConfig {
            path: device.instance(),
            driver: device.options.driver.name().to_owned(),
            place: device.place(),
            properties,
        }
    }

    /// Refuses the state of a machine that is not made like this one.
    ///
    /// # Errors
    /// What differs; QEMU's words where it says so too.
    pub fn check_config(&self, received: &MachineConfig) -> Result<(), String> {
        self.config().check(received)
    }

    /// The same for the UUID, which differs without harm unless somebody says otherwise
    /// (`validate-uuid`).
    ///
    /// # Errors
    /// With both.
    pub fn check_uuid(&self, received: &MachineConfig) -> Result<(), String> {
        let own = self.config().uuid;
        let text = |uuid: &Option<String>| {
            uuid.clone()
                .unwrap_or_else(|| uuid::Uuid::nil().to_string())
        };
        differs("UUID", &text(&received.uuid), &text(&own))
    }
}

impl MachineConfig {
    /// Whether the state of a machine like `received` can be put into one like this.
    ///
    /// # Errors
    /// With the first thing that differs.
    pub fn check(&self, received: &MachineConfig) -> Result<(), String> {
        let MachineConfig {
            machine,
            accel,
            cpus,
            topology,
            cpu,
            kernel,
            // By itself.
            uuid: _,
            ram,
            devices,
        } = received;
        differs("Machine type", machine, &self.machine)?;
        differs("Accelerator", accel, &self.accel)?;
        differs("CPU model", cpu, &self.cpu)?;
        let number = |cpus: u32| cpus.to_string();
        differs("Number of CPUs", &number(*cpus), &number(self.cpus))?;
        let arranged = |[sockets, dies, modules, cores, threads, maxcpus]: [u32; 6]| {
            format!(
                "sockets={sockets},dies={dies},modules={modules},cores={cores},threads={threads},\
                 maxcpus={maxcpus}"
            )
        };
        differs(
            "CPU topology",
            &arranged(*topology),
            &arranged(self.topology),
        )?;
        self.check_ram(ram)?;
        let kernel_text = |has: bool| if has { "present" } else { "absent" };
        differs("Kernel", kernel_text(*kernel), kernel_text(self.kernel))?;
        self.check_devices(devices)
    }

    fn check_ram(&self, received: &[(String, u64)]) -> Result<(), String> {
        for (name, size) in received {
            let own = self.ram.iter().find(|(own, _)| own == name);
            let Some((_, own)) = own else {
                return Err(format!(
                    "Unknown ramblock \"{name}\", cannot accept migration"
                ));
            };
            if size != own {
                return Err(format!(
                    "Size mismatch: {name}: {size:#x} != {own:#x}: Invalid argument"
                ));
            }
        }
        let missing = |(name, _): &&(String, u64)| !received.iter().any(|(r, _)| r == name);
        match self.ram.iter().find(missing) {
            Some((name, _)) => Err(format!("The state has no RAM block \"{name}\"")),
            None if received.len() != self.ram.len() => Err("A RAM block is there twice".into()),
            None => Ok(()),
        }
    }

    fn check_devices(&self, received: &[DeviceConfig]) -> Result<(), String> {
        for device in received {
            let own = self.devices.iter().find(|own| own.path == device.path);
            let own = own.ok_or_else(|| {
                format!("Device {} ({}) is missing here", device.path, device.driver)
            })?;
            own.check(device)?;
        }
        let extra = |own: &&DeviceConfig| !received.iter().any(|r| r.path == own.path);
        match self.devices.iter().find(extra) {
            Some(own) => Err(format!(
                "Device {} ({}) is here, and the state has none",
                own.path, own.driver
            )),
            None if received.len() != self.devices.len() => Err("A device is there twice".into()),
            None => Ok(()),
        }
    }
}

impl DeviceConfig {
    fn check(&self, received: &DeviceConfig) -> Result<(), String> {
        let DeviceConfig {
            path,
            driver,
            place,
            properties,
        } = received;
        let of = |what: &str| format!("{what} of device {path}");
        differs(&of("Type"), driver, &self.driver)?;
        differs(&of("Place"), place, &self.place)?;
        // One that only one side knows of is for the state to tell.
        let both = properties
            .iter()
            .filter_map(|(name, value)| Some((name, value, self.properties.get(name)?)));
        for (name, value, own) in both {
            differs(&of(&format!("Property '{name}'")), value, own)?;
        }
        Ok(())
    }
}

fn differs(what: &str, received: &str, own: &str) -> Result<(), String> {
    match received == own {
        true => Ok(()),
        false => Err(format!(
            "{what} received is '{received}' and local is '{own}'"
        )),
    }
}
