//! The DSDT: what the guest cannot find by itself.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable as Cache, And, Arg, CreateDWordField, Device, EISAName,
    Else, Equal, IO, If, Local, Memory32Fixed, Method, Name, NotEqual, Or, Package, Path,
    ResourceTemplate, Return, Scope, Store, Uuid,
};
use acpi_tables::sdt::Sdt;

use super::{
    AcpiConfig, OEM, OEM_TABLE, REVISION, Raw, SerialPort, bytes, generation, hotplug, links,
};
use crate::layout::{self, Board, Window};

/// The whole table.
pub fn build(config: &AcpiConfig) -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    let mut body = Vec::new();
    picture_mode().to_aml_bytes(&mut body);
    system_bus(config).to_aml_bytes(&mut body);
    if config.generation {
        generation::add_to(&mut body);
    }
    if config.layout.board == Board::I440fx {
        hotplug::event().to_aml_bytes(&mut body);
    }
    // SLP_TYP values for soft off (section 7.4.2).
    let values = Package::new(vec![&0u8, &0u8, &0u8, &0u8]);
    Name::new("_S5_".into(), &values).to_aml_bytes(&mut body);
    dsdt.append_slice(&body);
    dsdt.as_slice().to_vec()
}

/// The guest says which interrupt controllers it uses (section 5.8.1).
fn picture_mode() -> Raw {
    let mut body = bytes(&Name::new("PICF".into(), &0u8));
    let store = Store::new(&path("PICF"), &Arg(0)).into_bytes();
    let method = Method::new("_PIC".into(), 1, false, vec![&store]);
    method.to_aml_bytes(&mut body);
    Raw(body)
}

pub(super) fn path(name: &str) -> Path {
    Path::new(name)
}

pub(super) trait IntoBytes {
    fn into_bytes(self) -> Raw;
}

impl<T: Aml> IntoBytes for T {
    fn into_bytes(self) -> Raw {
        Raw(bytes(&self))
    }
}

pub(super) fn refs(list: &[Raw]) -> Vec<&dyn Aml> {
    list.iter().map(|item| item as &dyn Aml).collect()
}

pub(super) fn name(which: &str, value: &dyn Aml) -> Raw {
    Name::new(which.into(), value).into_bytes()
}

pub(super) fn device(which: &str, parts: &[Raw]) -> Raw {
    Device::new(which.into(), refs(parts)).into_bytes()
}

fn system_bus(config: &AcpiConfig) -> Raw {
    let mut parts = vec![root_bridge(config)];
    parts.extend(config.layout.board.ecam().map(reserved));
    parts.extend(links::devices(config.layout.board));
    parts.extend(
        (0u32..)
            .zip(&config.apic_ids)
            .map(|(uid, _)| processor(uid)),
    );
    Scope::new("\\_SB_".into(), refs(&parts)).into_bytes()
}

/// Memory that no device may be moved to: the configuration window.
fn reserved(ecam: Window) -> Raw {
    let low = |number: u64| u32::try_from(number).unwrap_or(0);
    let ecam = Memory32Fixed::new(true, low(ecam.base), low(ecam.len));
    device(
        "MRES",
        &[
            name("_HID", &EISAName::new("PNP0C02")),
            name("_UID", &"mcfg"),
            name("_CRS", &ResourceTemplate::new(vec![&ecam])),
        ],
    )
}

fn processor(uid: u32) -> Raw {
    let digits = format!("C{uid:03X}");
    device(&digits, &[name("_HID", &"ACPI0007"), name("_UID", &uid)])
}

fn root_bridge(config: &AcpiConfig) -> Raw {
    let board = config.layout.board;
    let mut parts = match board {
        Board::Q35 => vec![
            name("_HID", &EISAName::new("PNP0A08")),
            name("_CID", &EISAName::new("PNP0A03")),
            native_control(),
        ],
        Board::I440fx => vec![name("_HID", &EISAName::new("PNP0A03"))],
    };
    parts.extend([
        name("_SEG", &0u8),
        name("_BBN", &0u8),
        name("_UID", &0u8),
        windows(config),
    ]);
    parts.extend(links::routing(board));
    parts.push(isa_bridge(config));
    if board == Board::I440fx {
        parts.extend(hotplug::slots(!(layout::I440FX_SLOTS | config.bridges)));
    }
    device("PCI0", &parts)
}

/// What the bridge passes on (section 6.2.2).
fn windows(config: &AcpiConfig) -> Raw {
    let low = |number: u64| u32::try_from(number).unwrap_or(0);
    let bus = AddressSpace::new_bus_number(0u16, u16::from(config.last_bus));
    let config_ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let ports = AddressSpace::new_io(0u16, 0xcf7, None);
    let more_ports = AddressSpace::new_io(0xd00u16, 0xffff, None);
    let window = config.layout.mmio32();
    let (first, last) = (low(window.base), low(window.last()));
    let memory = AddressSpace::new_memory(Cache::NotCacheable, true, first, last, None);
    let mut list: Vec<&dyn Aml> = vec![&bus, &config_ports, &ports, &more_ports, &memory];
    let high = config.mmio64.map(|window| {
        AddressSpace::new_memory(Cache::Cacheable, true, window.base, window.last(), None)
    });
    list.extend(high.as_ref().map(|window| window as &dyn Aml));
    name("_CRS", &ResourceTemplate::new(list))
}

/// `_OSC`: gives the guest hot-plug, power events, error reports and the capability structure
/// (PCI Firmware 3.3, section 4.5.1).
fn native_control() -> Raw {
    const GRANTED: u8 = 0x1d;
    const BAD_UUID: u8 = 1 << 2;
    const BAD_REVISION: u8 = 1 << 3;
    const MASKED: u8 = 1 << 4;
    let (status, wanted) = (path("CDW1"), path("CDW3"));
    let add = |bit: u8| Or::new(&path("CDW1"), &path("CDW1"), &bit).into_bytes();
    let body = [
        CreateDWordField::new(&wanted, &Arg(3), &8u8).into_bytes(),
        And::new(&Local(0), &wanted, &GRANTED).into_bytes(),
        If::new(&NotEqual::new(&Arg(1), &1u8), vec![&add(BAD_REVISION)]).into_bytes(),
        If::new(&NotEqual::new(&wanted, &Local(0)), vec![&add(MASKED)]).into_bytes(),
        Store::new(&wanted, &Local(0)).into_bytes(),
    ];
    let uuid = Uuid::new("33DB4D5B-1FF7-401C-9657-7441C03DD766");
    let known = If::new(&Equal::new(&Arg(0), &uuid), refs(&body)).into_bytes();
    let unknown = Else::new(vec![&add(BAD_UUID)]).into_bytes();
    let parts = [
        CreateDWordField::new(&status, &Arg(3), &0u8).into_bytes(),
        known,
        unknown,
        Return::new(&Arg(3)).into_bytes(),
    ];
    Method::new("_OSC".into(), 4, true, refs(&parts)).into_bytes()
}

/// An ISA interrupt, edge-triggered.
fn edge_irq(irq: u8) -> Raw {
    let [low, high] = 1u16.checked_shl(u32::from(irq)).unwrap_or(0).to_le_bytes();
    Raw(vec![0x22, low, high])
}

fn isa_bridge(config: &AcpiConfig) -> Raw {
    let mut parts = links::registers(config.layout.board);
    parts.push(clock());
    parts.extend(
        (1u8..)
            .zip(&config.serial)
            .map(|(uid, port)| serial(uid, *port)),
    );
    parts.extend(config.pvpanic.map(pvpanic));
    if config.keyboard {
        parts.push(keyboard());
    }
    device("ISA_", &parts)
}

fn clock() -> Raw {
    let ports = IO::new(0x70, 0x70, 1, 8);
    let resources = ResourceTemplate::new(vec![&ports]);
    device(
        "RTC_",
        &[
            name("_HID", &EISAName::new("PNP0B00")),
            name("_CRS", &resources),
        ],
    )
}

fn serial(uid: u8, port: SerialPort) -> Raw {
    let ports = IO::new(port.port, port.port, 0, 8);
    let irq = edge_irq(port.irq);
    device(
        &format!("COM{}", uid % 10),
        &[
            name("_HID", &EISAName::new("PNP0501")),
            name("_UID", &uid),
            name("_STA", &0xfu8),
            name("_CRS", &ResourceTemplate::new(vec![&ports, &irq])),
        ],
    )
}

fn pvpanic(port: u16) -> Raw {
    let ports = IO::new(port, port, 0, 1);
    device(
        "PEVT",
        &[
            name("_HID", &"QEMU0001"),
            name("_STA", &0xfu8),
            name("_CRS", &ResourceTemplate::new(vec![&ports])),
        ],
    )
}

fn keyboard() -> Raw {
    let data = IO::new(0x60, 0x60, 1, 1);
    let command = IO::new(0x64, 0x64, 1, 1);
    let irq = edge_irq(1);
    device(
        "KBD_",
        &[
            name("_HID", &EISAName::new("PNP0303")),
            name("_STA", &0xfu8),
            name("_CRS", &ResourceTemplate::new(vec![&data, &command, &irq])),
        ],
    )
}
