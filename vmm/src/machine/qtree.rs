//! The machine in the object tree, and `info qtree`.

use std::fmt::Write;

use api_spec::{CpuInfoFast, CpuInstanceProperties, DRIVERS, DeviceDriver, SysEmuTarget};
use devices::bus::lock;
use devices::pci::{DevFn, regs};
use devices::scsi::{Kind, Unit};
use devices::virtio;
use serde_json::Value;

use super::Machine;
use super::chipset::Function;
use super::plug::{Branch, Bus, BusKind, Device, ISA_BUS, SYSTEM_BUS};
use super::properties::{add_live, live_value};
use super::qom::Node;
use crate::control::objects::memory_properties;

impl Machine {
    /// query-cpus-fast.
    pub fn cpus(&self) -> Vec<CpuInfoFast> {
        let threads = self.vcpus.thread_ids();
        let info = |(index, thread): (u32, i32)| CpuInfoFast {
            cpu_index: i64::from(index),
            qom_path: format!("/machine/unattached/device[{index}]"),
            thread_id: i64::from(thread),
            props: Some(self.cpu_place(index)),
            target: SysEmuTarget::X8664,
        };
        (0u32..).zip(threads).map(info).collect()
    }

    /// Which socket, die, core and thread a processor is.
    fn cpu_place(&self, index: u32) -> CpuInstanceProperties {
        let t = &self.spec.topology;
        let (threads, cores) = (t.threads.max(1), t.cores.max(1));
        let core = index / threads;
        let module = core / cores;
        let die = module / t.modules.max(1);
        CpuInstanceProperties {
            node_id: None,
            socket_id: Some(i64::from(die / t.dies.max(1))),
            die_id: (t.dies > 1).then(|| i64::from(die % t.dies.max(1))),
            core_id: Some(i64::from(core % cores)),
            thread_id: Some(i64::from(index % threads)),
        }
    }

    /// `/machine`.
    pub fn qom(&self) -> Node {
        let spec = &self.spec;
        let text = |path: &Option<std::path::PathBuf>| {
            path.as_ref()
                .map_or_else(String::new, |p| p.display().to_string())
        };
        let mut peripheral = Node::container();
        let mut anonymous = Node::container();
        let mut unattached = self.fixed_nodes();
        for device in &self.devices {
            let node = self.device_node(device);
            match &device.branch {
                Branch::Peripheral => peripheral = peripheral.child(device.key.to_string(), node),
                Branch::Anonymous(n) => anonymous = anonymous.child(format!("device[{n}]"), node),
                Branch::Unattached(n) => {
                    unattached = unattached.child(format!("device[{n}]"), node)
                }
            }
        }
        let names = self.chipset.names();
        let bus = self.buses.iter().find(|bus| bus.name == names.root_bus);
        let kind = bus.map_or("PCI", |bus| bus.kind.type_name());
        let root = Node::new(names.host).child(names.root_bus, Node::new(kind));
        let mut node = Node::new(spec.kind.type_name())
            .with("kernel", "string", text(&spec.kernel))
            .with("initrd", "string", text(&spec.initrd))
            .with("append", "string", spec.append.as_str())
            .with("mem-merge", "bool", spec.mem_merge)
            .with("dump-guest-core", "bool", spec.dump_guest_core)
            .with("i8042", "bool", spec.i8042)
            .with("memory-backend", "string", self.memory_path())
            .child(names.child, root)
            .child("peripheral", peripheral)
            .child("peripheral-anon", anonymous)
            .child("unattached", unattached);
        if let Some(own) = self.own_memory() {
            let ram = memory_properties(Node::new("memory-backend-ram"), own);
            node = node.child(own.id.clone(), ram);
        }
        node
    }

    fn memory_path(&self) -> String {
        let branch = if self.own_memory().is_some() {
            "machine"
        } else {
            "objects"
        };
        format!("/{branch}/{}", self.ram_backend.options().id)
    }

    /// The processors and the chipset's devices.
    fn fixed_nodes(&self) -> Node {
        let mut node = Node::container();
        let model = self.spec.cpu.model.name();
        for index in 0..self.cpu_count() {
            let apic_id = self.apic_ids.get(index).copied().unwrap_or(0);
            let cpu = Node::new(&format!("{model}-x86_64-cpu")).with("apic-id", "uint32", apic_id);
            node = node.child(format!("device[{index}]"), cpu);
        }
        for (index, device) in self.chipset.objects().iter().enumerate() {
            let number = self.cpu_count().saturating_add(index);
            let mut part = Node::new(device);
            if *device == self.chipset.names().isa_bridge {
                part = part.child(ISA_BUS, Node::new(BusKind::Isa.type_name()));
            }
            node = node.child(format!("device[{number}]"), part);
        }
        node
    }

    /// Where the object tree has the real-time clock.
    pub fn rtc_path(&self) -> String {
        self.chipset_path("mc146818rtc")
    }

    /// A device with the values of its properties, and what is inside it.
    fn device_node(&self, device: &Device) -> Node {
        let mut node = Node::new(device.options.driver.name());
        for (name, kind, value) in self.property_values(device) {
            node.set(name, kind, value);
        }
        node.set("parent_bus", "link<bus>", self.bus_path(&device.bus));
        node.set("hotplugged", "bool", device.hotplugged);
        let mut buses = self.buses.iter();
        let bus = buses.find(|bus| bus.name == device.bus);
        let hotpluggable = bus.is_some_and(|bus| bus.kind.hotplug());
        node.set("hotpluggable", "bool", hotpluggable);
        node.set("realized", "bool", true);
        add_live(&mut node, device);
        let buses = self.buses.iter().filter(|bus| is_below(bus, device));
        let buses: Vec<_> = buses
            .map(|bus| (bus.name.clone(), Node::new(bus.kind.type_name())))
            .collect();
        match virtio_backend(device) {
            Some(kind) => {
                let add = |node: Node, (name, bus)| node.child(name, bus);
                let mut inner = Node::new(&kind);
                add_live(&mut inner, device);
                let inner = buses.into_iter().fold(inner, add);
                node.child("virtio-backend", inner)
            }
            None => buses
                .into_iter()
                .fold(node, |node, (name, bus)| node.child(name, bus)),
        }
    }

    /// Where the object tree has a bus.
    fn bus_path(&self, name: &str) -> String {
        if let Some(bus) = self.buses.iter().find(|bus| bus.name == name)
            && let Some(device) = self.devices.iter().find(|device| is_below(bus, device))
        {
            let inside = match virtio_backend(device) {
                Some(_) => "/virtio-backend",
                None => "",
            };
            return format!("{}{inside}/{name}", device.branch.path(&device.key));
        }
        if name == SYSTEM_BUS {
            return String::new();
        }
        let names = self.chipset.names();
        if name == names.root_bus {
            return format!("/machine/{}/{name}", names.child);
        }
        format!("{}/{name}", self.chipset_path(names.isa_bridge))
    }

    /// Where the object tree has a part of the chipset.
    fn chipset_path(&self, wanted: &str) -> String {
        let mut objects = self.chipset.objects().iter();
        let index = objects.position(|name| *name == wanted);
        let number = self.cpu_count().saturating_add(index.unwrap_or(0));
        format!("/machine/unattached/device[{number}]")
    }

    /// Name, type and value of each property of a device's driver, as it turned out.
    pub(super) fn property_values(
        &self,
        device: &Device,
    ) -> Vec<(&'static str, &'static str, Value)> {
        let name = device.options.driver.name();
        let values = device.options.driver.properties_json();
        let values: serde_json::Map<String, Value> =
            serde_json::from_str(&values).unwrap_or_default();
        let info = DRIVERS.iter().find(|info| info.name == name);
        let value = |name: &str, kind: &str| {
            if let Some(chosen) = self.chosen(device, name) {
                return chosen;
            }
            match values.get(name) {
                Some(Value::String(id)) if is_object_link(kind) => {
                    Value::from(format!("/objects/{id}"))
                }
                Some(value) => value.clone(),
                None => unset(name, kind),
            }
        };
        let properties = info.map_or(&[][..], |info| info.properties);
        properties
            .iter()
            .map(|p| (p.name, p.kind, value(p.name, p.kind)))
            .collect()
    }

    /// What a property became that may be left to the program.
    fn chosen(&self, device: &Device, property: &str) -> Option<Value> {
        if let Some(live) = live_value(device, property) {
            return Some(live);
        }
        match (&device.options.driver, property) {
            (_, "addr") => device.devfn.map(|DevFn(devfn)| Value::from(devfn)),
            (DeviceDriver::IsaSerial(_), "index") => device.serial.map(|at| at.index.into()),
            (DeviceDriver::IsaSerial(_), "iobase") => device.serial.map(|at| at.port.into()),
            (DeviceDriver::IsaSerial(_), "irq") => device.serial.map(|at| at.irq.into()),
            (DeviceDriver::VirtioBlkPci(p), "num-queues") => Some(
                p.num_queues
                    .map_or_else(|| self.cpu_count().into(), Value::from),
            ),
            (DeviceDriver::VirtioScsiPci(p), "num_queues") => Some(
                p.num_queues
                    .filter(|count| *count != u32::MAX)
                    .map_or_else(|| self.cpu_count().into(), Value::from),
            ),
            (DeviceDriver::ScsiHd(_) | DeviceDriver::ScsiCd(_), name) => {
                unit_property(device.face.unit()?, name)
            }
            (DeviceDriver::VirtioNetPci(_), "mac") => {
                let mac = device.face.nic()?.mac()?;
                Some(Value::from(virtio::net::mac_text(mac)))
            }
            (_, "nr") => device.nr.map(Value::from),
            (_, "vectors") => self.vectors(device).map(Value::from),
            _ => None,
        }
    }

    /// Entries of the MSI-X table of a PCI function (PCI Local Bus 3.0, section 6.8.2.3).
    fn vectors(&self, device: &Device) -> Option<u16> {
        let plugged = self.pci.find(&device.key)?;
        let mut function = lock(&plugged.function);
        let config = function.config();
        let mut at = config.byte(regs::CAPABILITIES);
        // A capability has four bytes at least.
        for _ in 0..0x40 {
            let offset = u16::from(at);
            if at == 0 {
                break;
            }
            if config.byte(offset) == regs::capability::MSIX {
                let control = config.word(offset.saturating_add(2));
                return Some((control & 0x7ff).saturating_add(1));
            }
            at = config.byte(offset.saturating_add(1));
        }
        Some(0)
    }

    /// `info qtree`.
    pub fn qtree(&self) -> String {
        let mut text = String::from("bus: main-system-bus\n  type System\n");
        let names = self.chipset.names();
        let _ = writeln!(text, "  dev: {}, id \"\"", names.host);
        self.bus_text(names.root_bus, 4, &mut text);
        text
    }

    fn bus_text(&self, name: &str, indent: usize, text: &mut String) {
        let Some(bus) = self.buses.iter().find(|bus| bus.name == name) else {
            return;
        };
        let _ = writeln!(text, "{:indent$}bus: {name}", "");
        let _ = writeln!(text, "{:indent$}  type {}", "", bus.kind.type_name());
        let names = self.chipset.names();
        if name == names.root_bus {
            for Function { driver, devfn, .. } in self.chipset.functions() {
                let (slot, function) = (devfn.slot(), devfn.function());
                let _ = writeln!(text, "{:indent$}  dev: {driver}, id \"\"", "");
                let _ = writeln!(text, "{:indent$}    addr = {slot:02x}.{function:x}", "");
                if driver == names.isa_bridge {
                    self.bus_text(ISA_BUS, indent + 4, text);
                }
            }
        }
        for device in self.devices.iter().filter(|device| device.bus == name) {
            self.device_text(device, indent + 2, text);
        }
    }

    fn device_text(&self, device: &Device, indent: usize, text: &mut String) {
        let id = device.options.id.as_deref().unwrap_or_default();
        let name = device.options.driver.name();
        let _ = writeln!(text, "{:indent$}dev: {name}, id \"{id}\"", "");
        for (property, _, value) in self.property_values(device) {
            let value = match (value, device.devfn) {
                (_, Some(at)) if property == "addr" => {
                    format!("{:02x}.{:x}", at.slot(), at.function())
                }
                (Value::String(text), _) => format!("\"{text}\""),
                (Value::Number(number), _) => match number.as_i64() {
                    Some(signed) => format!("{signed} ({signed:#x})"),
                    None => number.to_string(),
                },
                (other, _) => other.to_string(),
            };
            let _ = writeln!(text, "{:indent$}  {property} = {value}", "");
        }
        for bus in self.buses.iter().filter(|bus| is_below(bus, device)) {
            self.bus_text(&bus.name, indent + 2, text);
        }
    }
}

/// Whether `device` provides the bus.
fn is_below(bus: &Bus, device: &Device) -> bool {
    bus.kind.is_of(&device.key)
}

/// What a logical unit's property became that may be left to the program.
fn unit_property(unit: &Unit, name: &str) -> Option<Value> {
    let identity = unit.identity();
    Some(match name {
        "scsi-id" => unit.place().target.into(),
        "lun" => unit.place().lun.into(),
        "vendor" => identity.vendor.as_str().into(),
        "product" => identity.product.as_str().into(),
        "ver" => identity.version.as_str().into(),
        "device_id" => identity.device_id.as_deref()?.into(),
        "discard_granularity" if identity.kind == Kind::Disk => identity.discard_granularity.into(),
        _ => return None,
    })
}

/// The type of what is inside a virtio device's PCI function.
pub(super) fn virtio_backend(device: &Device) -> Option<String> {
    let name = device.options.driver.name();
    let kind = name.strip_suffix("-pci")?;
    kind.starts_with("virtio-")
        .then(|| format!("{kind}-device"))
}

/// Whether values of this type name an object of object-add.
fn is_object_link(kind: &str) -> bool {
    matches!(kind, "link<iothread>" | "link<rng-backend>")
}

/// What a property without a value shows.
fn unset(name: &str, kind: &str) -> Value {
    match name {
        "bootindex" => return Value::from(-1),
        "rerror" | "werror" => return Value::from("auto"),
        "discard_granularity" => return Value::from(u32::MAX),
        _ => {}
    }
    match kind {
        "str" | "string" => Value::from(""),
        "bool" => Value::from(false),
        kind if kind.contains("int") || kind == "size" => Value::from(0),
        _ => Value::from(""),
    }
}
