//! The machine in the object tree, and `info qtree`.

use std::fmt::Write;

use api_spec::{CpuInfoFast, CpuInstanceProperties, DRIVERS, SysEmuTarget};
use devices::pci::DevFn;
use serde_json::Value;

use super::Machine;
use super::plug::{Branch, BusKind, Device, ROOT_BUS};
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
            die_id: Some(i64::from(die % t.dies.max(1))),
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
        let mut node = Node::new(spec.kind.type_name())
            .with("kernel", "string", text(&spec.kernel))
            .with("initrd", "string", text(&spec.initrd))
            .with("append", "string", spec.append.as_str())
            .with("mem-merge", "bool", spec.mem_merge)
            .with("dump-guest-core", "bool", spec.dump_guest_core)
            .with("i8042", "bool", spec.i8042)
            .with("memory-backend", "string", self.memory_path())
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
            node = node.child(format!("device[{number}]"), Node::new(device));
        }
        node
    }

    /// Where the object tree has the real-time clock.
    pub fn rtc_path(&self) -> String {
        let index = self
            .chipset
            .objects()
            .iter()
            .position(|name| *name == "mc146818rtc");
        let number = self.cpu_count().saturating_add(index.unwrap_or(0));
        format!("/machine/unattached/device[{number}]")
    }

    /// A device with the values of its properties.
    fn device_node(&self, device: &Device) -> Node {
        let name = device.options.driver.name();
        let mut node = Node::new(name);
        let values = device.options.driver.properties_json();
        let values: serde_json::Map<String, Value> =
            serde_json::from_str(&values).unwrap_or_default();
        let info = DRIVERS.iter().find(|info| info.name == name);
        for property in info.map_or(&[][..], |info| info.properties) {
            let value = match (property.name, device.devfn) {
                ("addr", Some(DevFn(devfn))) => Value::from(devfn),
                _ => values
                    .get(property.name)
                    .cloned()
                    .unwrap_or_else(|| unset(property.kind)),
            };
            node.set(property.name, property.kind, value);
        }
        node.set(
            "parent_bus",
            "link<bus>",
            format!("/machine/{}", device.bus),
        );
        node.set("hotplugged", "bool", false);
        node.set("hotpluggable", "bool", device.devfn.is_some());
        node.set("realized", "bool", true);
        node
    }

    /// `info qtree`.
    pub fn qtree(&self) -> String {
        let mut text = String::from("bus: main-system-bus\n  type System\n");
        text.push_str("  dev: q35-pcihost, id \"\"\n");
        self.bus_text(ROOT_BUS, 4, &mut text);
        text
    }

    fn bus_text(&self, name: &str, indent: usize, text: &mut String) {
        let Some(bus) = self.buses.iter().find(|bus| bus.name == name) else {
            return;
        };
        let _ = writeln!(text, "{:indent$}bus: {name}", "");
        let _ = writeln!(text, "{:indent$}  type {}", "", bus.kind.type_name());
        if name == ROOT_BUS {
            for (driver, devfn) in self.chipset.functions() {
                let (slot, function) = (devfn.slot(), devfn.function());
                let _ = writeln!(text, "{:indent$}  dev: {driver}, id \"\"", "");
                let _ = writeln!(text, "{:indent$}    addr = {slot:02x}.{function:x}", "");
                if driver == "ICH9-LPC" {
                    self.bus_text(super::plug::ISA_BUS, indent + 4, text);
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
        for property in &self.device_node(device).properties {
            let value = match (&property.value, device.devfn) {
                (_, Some(at)) if property.name == "addr" => {
                    format!("{:02x}.{:x}", at.slot(), at.function())
                }
                (Value::String(text), _) => format!("\"{text}\""),
                (other, _) => other.to_string(),
            };
            let _ = writeln!(text, "{:indent$}  {} = {value}", "", property.name);
        }
        for bus in &self.buses {
            let below = match &bus.kind {
                BusKind::Pci { port, .. } => port.as_ref().map(|port| &port.key),
                BusKind::Serial { device, .. } => Some(device),
                BusKind::Isa => None,
            };
            if below.is_some_and(|key| *key == device.key) {
                self.bus_text(&bus.name, indent + 2, text);
            }
        }
    }
}

/// What a property without a value shows.
fn unset(kind: &str) -> Value {
    match kind {
        "str" | "string" => Value::from(""),
        "bool" => Value::from(false),
        kind if kind.contains("int") || kind == "size" => Value::from(0),
        _ => Value::from(""),
    }
}
