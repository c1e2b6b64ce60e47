//! The DSDT: what the guest cannot find by itself.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable as Cache, And, Arg, CreateDWordField, Device, EISAName,
    Else, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If,
    Interrupt, Local, Memory32Fixed, Method, Name, NotEqual, OpRegion, OpRegionSpace, Or, Package,
    PackageBuilder, Path, ResourceTemplate, Return, Scope, Store, Uuid,
};
use acpi_tables::sdt::Sdt;

use super::{AcpiConfig, OEM, OEM_TABLE, REVISION, Raw, SerialPort, bytes, generation};
use crate::layout::{self, ECAM, MMIO32};

/// The interrupt links A to H.
const LINKS: [&str; 8] = [
    "LNKA", "LNKB", "LNKC", "LNKD", "LNKE", "LNKF", "LNKG", "LNKH",
];
/// Their fields in the ISA bridge's configuration space.
const LINK_FIELDS: [[u8; 4]; 8] = [
    *b"PRQA", *b"PRQB", *b"PRQC", *b"PRQD", *b"PRQE", *b"PRQF", *b"PRQG", *b"PRQH",
];

/// The whole table.
pub fn build(config: &AcpiConfig) -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    let mut body = Vec::new();
    picture_mode().to_aml_bytes(&mut body);
    system_bus(config).to_aml_bytes(&mut body);
    if config.generation {
        generation::add_to(&mut body);
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

fn path(name: &str) -> Path {
    Path::new(name)
}

trait IntoBytes {
    fn into_bytes(self) -> Raw;
}

impl<T: Aml> IntoBytes for T {
    fn into_bytes(self) -> Raw {
        Raw(bytes(&self))
    }
}

fn refs(list: &[Raw]) -> Vec<&dyn Aml> {
    list.iter().map(|item| item as &dyn Aml).collect()
}

fn name(which: &str, value: &dyn Aml) -> Raw {
    Name::new(which.into(), value).into_bytes()
}

fn device(which: &str, parts: &[Raw]) -> Raw {
    Device::new(which.into(), refs(parts)).into_bytes()
}

fn system_bus(config: &AcpiConfig) -> Raw {
    let mut parts = vec![root_bridge(config), reserved()];
    parts.extend(
        (0u8..)
            .zip(LINKS)
            .map(|(index, link)| link_device(index, link)),
    );
    parts.extend(
        (0u32..)
            .zip(&config.apic_ids)
            .map(|(uid, _)| processor(uid)),
    );
    Scope::new("\\_SB_".into(), refs(&parts)).into_bytes()
}

/// Memory that no device may be moved to: the configuration window.
fn reserved() -> Raw {
    let low = |number: u64| u32::try_from(number).unwrap_or(0);
    let ecam = Memory32Fixed::new(true, low(ECAM.base), low(ECAM.len));
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
    let mut parts = vec![
        name("_HID", &EISAName::new("PNP0A08")),
        name("_CID", &EISAName::new("PNP0A03")),
        name("_SEG", &0u8),
        name("_BBN", &0u8),
        name("_UID", &0u8),
        windows(config),
        native_control(),
    ];
    parts.extend(routing());
    parts.push(isa_bridge(config));
    device("PCI0", &parts)
}

/// What the bridge passes on (section 6.2.2).
fn windows(config: &AcpiConfig) -> Raw {
    let low = |number: u64| u32::try_from(number).unwrap_or(0);
    let bus = AddressSpace::new_bus_number(0u16, u16::from(config.last_bus));
    let config_ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let ports = AddressSpace::new_io(0u16, 0xcf7, None);
    let more_ports = AddressSpace::new_io(0xd00u16, 0xffff, None);
    let (first, last) = (low(MMIO32.base), low(MMIO32.last()));
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

/// Where interrupt pins lead (section 6.2.13): to links with the old controllers, straight to the
/// I/O APIC with the new.
fn routing() -> [Raw; 3] {
    let mut by_link = PackageBuilder::new();
    let mut direct = PackageBuilder::new();
    for slot in 0u8..32 {
        for pin in 0u8..4 {
            let address = u32::from(slot) << 16 | 0xffff;
            let link = LINKS.get(usize::from(layout::pirq(slot, pin))).copied();
            let link = path(link.unwrap_or("LNKA"));
            by_link.add_element(&Package::new(vec![&address, &pin, &link, &0u8]));
            let gsi = layout::intx_gsi(slot, pin);
            direct.add_element(&Package::new(vec![&address, &pin, &0u8, &gsi]));
        }
    }
    let apic = Return::new(&path("PRTA")).into_bytes();
    let choice = [
        If::new(&path("PICF"), vec![&apic]).into_bytes(),
        Return::new(&path("PRTP")).into_bytes(),
    ];
    let method = Method::new("_PRT".into(), 0, false, refs(&choice)).into_bytes();
    [name("PRTP", &by_link), name("PRTA", &direct), method]
}

/// An ISA interrupt, edge-triggered.
fn edge_irq(irq: u8) -> Raw {
    let [low, high] = 1u16.checked_shl(u32::from(irq)).unwrap_or(0).to_le_bytes();
    Raw(vec![0x22, low, high])
}

/// An interrupt link, set up through the ISA bridge (Intel ICH9, section 13.1.18).
fn link_device(index: u8, link: &str) -> Raw {
    /// IRQ 5, 10 and 11.
    const CHOICE: u16 = 1 << 5 | 1 << 10 | 1 << 11;
    const OFF: u8 = 0x80;
    let field = LINK_FIELDS
        .get(usize::from(index))
        .copied()
        .unwrap_or(*b"PRQA");
    let field = path(&format!(
        "\\_SB_.PCI0.ISA_.{}",
        String::from_utf8_lossy(&field)
    ));
    let present = Return::new(&0xbu8).into_bytes();
    let absent = Return::new(&0x9u8).into_bytes();
    let off = And::new(&Local(0), &field, &OFF).into_bytes();
    let status = [off, If::new(&Local(0), vec![&absent]).into_bytes(), present];
    let switch_off = Or::new(&field, &field, &OFF).into_bytes();
    // The resource is an Interrupt descriptor: its number is in bytes 5 to 8.
    let current = Interrupt::new(true, false, true, true, 0);
    let number = CreateDWordField::new(&path("IRQN"), &path("BUFF"), &5u8).into_bytes();
    let low_bits = And::new(&Local(0), &field, &0xfu8).into_bytes();
    let report = [
        name("BUFF", &ResourceTemplate::new(vec![&current])),
        number,
        low_bits,
        Store::new(&path("IRQN"), &Local(0)).into_bytes(),
        Return::new(&path("BUFF")).into_bytes(),
    ];
    let choose = [
        CreateDWordField::new(&path("IRQN"), &Arg(0), &5u8).into_bytes(),
        Store::new(&field, &path("IRQN")).into_bytes(),
    ];
    let mut choices = Vec::new();
    for irq in (0u8..16).filter(|irq| CHOICE >> irq & 1 == 1) {
        choices.push(u32::from(irq));
    }
    device(
        link,
        &[
            name("_HID", &EISAName::new("PNP0C0F")),
            name("_UID", &index),
            name(
                "_PRS",
                &ResourceTemplate::new(vec![&interrupt_list(&choices)]),
            ),
            Method::new("_STA".into(), 0, false, refs(&status)).into_bytes(),
            Method::new("_DIS".into(), 0, false, vec![&switch_off]).into_bytes(),
            Method::new("_CRS".into(), 0, true, refs(&report)).into_bytes(),
            Method::new("_SRS".into(), 1, true, refs(&choose)).into_bytes(),
        ],
    )
}

/// An extended interrupt descriptor with several choices: level, active low, shared (section
/// 6.4.3.6).
fn interrupt_list(irqs: &[u32]) -> Raw {
    const CONSUMER_LEVEL_LOW_SHARED: u8 = 0xd;
    let len = u16::try_from(irqs.len())
        .unwrap_or(0)
        .saturating_mul(4)
        .saturating_add(2);
    let [low, high] = len.to_le_bytes();
    let count = u8::try_from(irqs.len()).unwrap_or(0);
    let mut bytes = vec![0x89, low, high, CONSUMER_LEVEL_LOW_SHARED, count];
    bytes.extend(irqs.iter().flat_map(|irq| irq.to_le_bytes()));
    Raw(bytes)
}

fn isa_bridge(config: &AcpiConfig) -> Raw {
    let [a, b, c, d, e, f, g, h] = LINK_FIELDS.map(|field| FieldEntry::Named(field, 8));
    let fields = vec![a, b, c, d, FieldEntry::Reserved(32), e, f, g, h];
    let mut parts = vec![
        name("_ADR", &0x001f_0000u32),
        OpRegion::new("PIRQ".into(), OpRegionSpace::PCIConfig, &0x60u8, &0xcu8).into_bytes(),
        Field::new(
            "PIRQ".into(),
            FieldAccessType::Byte,
            FieldLockRule::NoLock,
            FieldUpdateRule::Preserve,
            fields,
        )
        .into_bytes(),
        clock(),
    ];
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
