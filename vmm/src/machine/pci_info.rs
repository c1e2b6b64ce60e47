//! query-pci and `info pci`: the buses as the guest has set them up.

use std::fmt::Write;

use api_spec::{
    PciBridgeInfo, PciBusInfo, PciDeviceClass, PciDeviceId, PciDeviceInfo, PciInfo, PciMemoryRange,
    PciMemoryRegion,
};
use devices::bus::lock;
use devices::pci::{BarKind, ConfigSpace, HeaderKind, Plugged, regs};

use super::Machine;

/// Class codes and what they are called (PCI Code and ID Assignment, 1.11).
const CLASSES: [(u16, &str); 10] = [
    (0x0100, "SCSI controller"),
    (0x0101, "IDE controller"),
    (0x0200, "Ethernet controller"),
    (0x0500, "RAM controller"),
    (0x0600, "Host bridge"),
    (0x0601, "ISA bridge"),
    (0x0604, "PCI bridge"),
    (0x0680, "Bridge"),
    (0x0780, "Communication controller"),
    (0x0c05, "SMBus"),
];

impl Machine {
    /// query-pci.
    pub fn pci_info(&self) -> Vec<PciInfo> {
        let devices = self.functions_behind(None, 0);
        vec![PciInfo { bus: 0, devices }]
    }

    fn functions_behind(&self, parent: Option<&str>, bus: u8) -> Vec<PciDeviceInfo> {
        let mut list: Vec<&Plugged> = self.pci.behind(parent).collect();
        list.sort_by_key(|plugged| plugged.devfn);
        list.into_iter()
            .map(|plugged| self.function_info(plugged, bus))
            .collect()
    }

    fn function_info(&self, plugged: &Plugged, bus: u8) -> PciDeviceInfo {
        let mut function = lock(&plugged.function);
        let config = function.config();
        let bridge = config.kind() == HeaderKind::Bridge;
        let class = config.word(regs::CLASS.saturating_add(1));
        let subsystem = |offset| (!bridge).then(|| i64::from(config.word(offset)));
        let pin = config.byte(regs::INTERRUPT_PIN);
        let secondary = config.byte(regs::SECONDARY_BUS);
        let info = PciDeviceInfo {
            bus: i64::from(bus),
            slot: i64::from(plugged.devfn.slot()),
            function: i64::from(plugged.devfn.function()),
            class_info: PciDeviceClass {
                desc: describe(class).map(str::to_owned),
                class: i64::from(class),
            },
            id: PciDeviceId {
                device: i64::from(config.word(regs::DEVICE)),
                vendor: i64::from(config.word(regs::VENDOR)),
                subsystem: subsystem(regs::SUBSYSTEM),
                subsystem_vendor: subsystem(regs::SUBSYSTEM_VENDOR),
            },
            irq: (pin != 0).then(|| i64::from(config.byte(regs::INTERRUPT_LINE))),
            irq_pin: i64::from(pin),
            qdev_id: match plugged.id.starts_with('/') {
                true => String::new(),
                false => plugged.id.to_string(),
            },
            pci_bridge: bridge.then(|| PciBridgeInfo {
                bus: bridge_info(config, bus),
                devices: None,
            }),
            regions: regions(config),
        };
        drop(function);
        self.with_devices_behind(info, plugged, secondary)
    }

    fn with_devices_behind(
        &self,
        mut info: PciDeviceInfo,
        plugged: &Plugged,
        secondary: u8,
    ) -> PciDeviceInfo {
        if let Some(bridge) = &mut info.pci_bridge
            && secondary != 0
        {
            bridge.devices = Some(self.functions_behind(Some(&plugged.id), secondary));
        }
        info
    }

    /// `info pci`.
    pub fn pci_text(&self) -> String {
        let mut text = String::new();
        for bus in self.pci_info() {
            for device in &bus.devices {
                device_text(device, &mut text);
            }
        }
        text
    }
}

fn describe(class: u16) -> Option<&'static str> {
    let found = CLASSES.iter().find(|(code, _)| *code == class);
    found.map(|(_, name)| *name)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn range(window: Option<(u64, u64)>) -> PciMemoryRange {
    // A closed window is shown with its limit below its base.
    let (base, limit) = window.unwrap_or((u64::from(u32::MAX), 0));
    PciMemoryRange {
        base: signed(base),
        limit: signed(limit),
    }
}

fn bridge_info(config: &ConfigSpace, bus: u8) -> PciBusInfo {
    let windows = config.bridge_windows();
    let byte = |offset| i64::from(config.byte(offset));
    PciBusInfo {
        number: i64::from(bus),
        secondary: byte(regs::SECONDARY_BUS),
        subordinate: byte(regs::SUBORDINATE_BUS),
        io_range: range(windows.and_then(|w| w.io)),
        memory_range: range(windows.and_then(|w| w.memory)),
        prefetchable_range: range(windows.and_then(|w| w.prefetchable)),
    }
}

fn regions(config: &ConfigSpace) -> Vec<PciMemoryRegion> {
    let region = |bar: devices::pci::BarAddress| {
        let (io, wide, prefetch) = match bar.kind {
            BarKind::Io => (true, false, false),
            BarKind::Memory32 => (false, false, false),
            BarKind::Memory64 { prefetchable } => (false, true, prefetchable),
        };
        // Not placed, or not decoded: shown as all ones.
        let placed = config.active_bars().any(|active| active.index == bar.index);
        PciMemoryRegion {
            bar: i64::from(bar.index),
            r#type: if io { "io" } else { "memory" }.to_owned(),
            address: if placed { signed(bar.base) } else { -1 },
            size: signed(bar.size),
            prefetch: (!io).then_some(prefetch),
            mem_type_64: (!io).then_some(wide),
        }
    };
    config.bars().map(region).collect()
}

fn device_text(device: &PciDeviceInfo, text: &mut String) {
    let PciDeviceInfo {
        bus,
        slot,
        function,
        ..
    } = device;
    let _ = writeln!(text, "  Bus {bus:2}, device {slot:3}, function {function}:");
    let class = match &device.class_info.desc {
        Some(desc) => desc.clone(),
        None => format!("Class {:04}", device.class_info.class),
    };
    let id = &device.id;
    let _ = writeln!(
        text,
        "    {class}: PCI device {:04x}:{:04x}",
        id.vendor, id.device
    );
    if let (Some(vendor), Some(subsystem)) = (id.subsystem_vendor, id.subsystem) {
        let _ = writeln!(text, "      PCI subsystem {vendor:04x}:{subsystem:04x}");
    }
    if let Some(irq) = device.irq {
        let pin = char::from_u32(
            u32::try_from(device.irq_pin)
                .unwrap_or(1)
                .saturating_add(64),
        );
        let _ = writeln!(text, "      IRQ {irq}, pin {}", pin.unwrap_or('?'));
    }
    if let Some(bridge) = &device.pci_bridge {
        let bus = &bridge.bus;
        let _ = writeln!(text, "      BUS {}.", bus.number);
        let _ = writeln!(text, "      secondary bus {}.", bus.secondary);
        let _ = writeln!(text, "      subordinate bus {}.", bus.subordinate);
        for (name, range) in [
            ("IO", &bus.io_range),
            ("memory", &bus.memory_range),
            ("prefetchable memory", &bus.prefetchable_range),
        ] {
            let (base, limit) = (range.base, range.limit);
            let _ = writeln!(text, "      {name} range [{base:#010x}, {limit:#010x}]");
        }
    }
    for region in &device.regions {
        region_text(region, text);
    }
    let _ = writeln!(text, "      id \"{}\"", device.qdev_id);
    for behind in device
        .pci_bridge
        .iter()
        .filter_map(|b| b.devices.as_ref())
        .flatten()
    {
        device_text(behind, text);
    }
}

fn region_text(region: &PciMemoryRegion, text: &mut String) {
    let what = match (region.r#type.as_str(), region.mem_type_64, region.prefetch) {
        ("io", _, _) => "I/O",
        (_, Some(true), Some(true)) => "64 bit prefetchable memory",
        (_, Some(true), _) => "64 bit memory",
        (_, _, Some(true)) => "32 bit prefetchable memory",
        (_, _, _) => "32 bit memory",
    };
    let (first, last) = (
        region.address,
        region.address.saturating_add(region.size).saturating_sub(1),
    );
    let place = match region.r#type.as_str() {
        _ if first == -1 => "(not mapped)".to_owned(),
        "io" => format!("at {first:#06x} [{last:#06x}]"),
        _ => format!("at {first:#010x} [{last:#010x}]"),
    };
    let _ = writeln!(text, "      BAR{}: {what} {place}", region.bar);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_as_text() {
        let region = |r#type: &str, address, wide, prefetch| {
            let mut text = String::new();
            let region = PciMemoryRegion {
                bar: 4,
                r#type: r#type.to_owned(),
                address,
                size: 0x1000,
                prefetch,
                mem_type_64: wide,
            };
            region_text(&region, &mut text);
            text
        };
        for (text, expected) in [
            (region("io", 0xc000, None, None), "I/O at 0xc000 [0xcfff]"),
            (region("io", -1, None, None), "I/O (not mapped)"),
            (
                region("memory", 0xfe80_0000, Some(false), Some(false)),
                "32 bit memory at 0xfe800000 [0xfe800fff]",
            ),
            (
                region("memory", -1, Some(true), Some(true)),
                "64 bit prefetchable memory (not mapped)",
            ),
        ] {
            assert_eq!(text, format!("      BAR4: {expected}\n"));
        }
    }
}
