//! Interrupt links: where the pins of PCI functions lead.

use acpi_tables::aml::{
    And, Arg, CreateDWordField, EISAName, Field, FieldAccessType, FieldEntry, FieldLockRule,
    FieldUpdateRule, If, Interrupt, Local, Method, OpRegion, OpRegionSpace, Or, Package,
    PackageBuilder, ResourceTemplate, Return, Store,
};

use super::Raw;
use super::dsdt::{IntoBytes, device, name, path, refs};
use crate::layout::{self, Board};

/// The interrupt links A to H.
const LINKS: [&str; 8] = [
    "LNKA", "LNKB", "LNKC", "LNKD", "LNKE", "LNKF", "LNKG", "LNKH",
];
/// Their fields in the ISA bridge's configuration space.
const FIELDS: [[u8; 4]; 8] = [
    *b"PRQA", *b"PRQB", *b"PRQC", *b"PRQD", *b"PRQE", *b"PRQF", *b"PRQG", *b"PRQH",
];
/// A link of the i440FX that leads to the SCI and nowhere else.
const SCI_LINK: &str = "LNKS";
/// The slot whose first pin is the SCI: power management's.
const SCI_SLOT: u8 = 1;

/// The ISA bridge's place, and its registers that route links.
pub fn registers(board: Board) -> Vec<Raw> {
    let [a, b, c, d, e, f, g, h] = FIELDS.map(|field| FieldEntry::Named(field, 8));
    let (place, len, fields) = match board {
        Board::Q35 => {
            let gap = FieldEntry::Reserved(32);
            (0x001f_0000u32, 0xcu8, vec![a, b, c, d, gap, e, f, g, h])
        }
        Board::I440fx => (0x0001_0000, 4, vec![a, b, c, d]),
    };
    let field = Field::new(
        "PIRQ".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        fields,
    );
    vec![
        name("_ADR", &place),
        OpRegion::new("PIRQ".into(), OpRegionSpace::PCIConfig, &0x60u8, &len).into_bytes(),
        field.into_bytes(),
    ]
}

/// The links.
pub fn devices(board: Board) -> Vec<Raw> {
    let links = (0..board.links()).zip(LINKS).zip(FIELDS);
    let mut devices: Vec<Raw> = links
        .map(|((index, link), field)| link_device(board, index, link, &field))
        .collect();
    if board == Board::I440fx {
        devices.push(sci_link());
    }
    devices
}

/// Where interrupt pins lead (section 6.2.13). On q35 to links with the old controllers, straight
/// to the I/O APIC with the new; on i440FX to links with either.
pub fn routing(board: Board) -> Vec<Raw> {
    let mut by_link = PackageBuilder::new();
    let mut direct = PackageBuilder::new();
    for slot in 0u8..32 {
        for pin in 0u8..4 {
            let address = u32::from(slot) << 16 | 0xffff;
            let number = board.pirq(slot, pin);
            let link = match (board, slot, pin) {
                (Board::I440fx, SCI_SLOT, 0) => SCI_LINK,
                _ => LINKS.get(usize::from(number)).copied().unwrap_or("LNKA"),
            };
            by_link.add_element(&Package::new(vec![&address, &pin, &path(link), &0u8]));
            let gsi = layout::PIRQ_GSI.saturating_add(number);
            direct.add_element(&Package::new(vec![&address, &pin, &0u8, &gsi]));
        }
    }
    if board == Board::I440fx {
        return vec![name("_PRT", &by_link)];
    }
    let apic = Return::new(&path("PRTA")).into_bytes();
    let choice = [
        If::new(&path("PICF"), vec![&apic]).into_bytes(),
        Return::new(&path("PRTP")).into_bytes(),
    ];
    let method = Method::new("_PRT".into(), 0, false, refs(&choice)).into_bytes();
    vec![name("PRTP", &by_link), name("PRTA", &direct), method]
}

/// An interrupt link, set up through the ISA bridge (Intel ICH9, section 13.1.18; Intel 82371SB,
/// section 3.1.11).
fn link_device(board: Board, index: u8, link: &str, field: &[u8; 4]) -> Raw {
    /// IRQ 5, 10 and 11.
    const CHOICE: u16 = 1 << 5 | 1 << 10 | 1 << 11;
    const OFF: u8 = 0x80;
    let field = path(&format!(
        "\\_SB_.PCI0.ISA_.{}",
        String::from_utf8_lossy(field)
    ));
    let present = Return::new(&0xbu8).into_bytes();
    let absent = Return::new(&0x9u8).into_bytes();
    let off = And::new(&Local(0), &field, &OFF).into_bytes();
    let status = [off, If::new(&Local(0), vec![&absent]).into_bytes(), present];
    let switch_off = Or::new(&field, &field, &OFF).into_bytes();
    // The resource is an Interrupt descriptor: its number is in bytes 5 to 8.
    let current = Interrupt::new(true, false, active_low(board), true, 0);
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
    let choices: Vec<u32> = (0u32..16).filter(|irq| CHOICE >> irq & 1 == 1).collect();
    let choices = interrupt_list(board, &choices);
    device(
        link,
        &[
            name("_HID", &EISAName::new("PNP0C0F")),
            name("_UID", &index),
            name("_PRS", &ResourceTemplate::new(vec![&choices])),
            Method::new("_STA".into(), 0, false, refs(&status)).into_bytes(),
            Method::new("_DIS".into(), 0, false, vec![&switch_off]).into_bytes(),
            Method::new("_CRS".into(), 0, true, refs(&report)).into_bytes(),
            Method::new("_SRS".into(), 1, true, refs(&choose)).into_bytes(),
        ],
    )
}

/// The link that always leads to the SCI.
fn sci_link() -> Raw {
    let only = Interrupt::new(true, false, false, true, u32::from(layout::SCI));
    let present = Return::new(&0xbu8).into_bytes();
    device(
        SCI_LINK,
        &[
            name("_HID", &EISAName::new("PNP0C0F")),
            name("_UID", &Board::I440fx.links()),
            name("_PRS", &ResourceTemplate::new(vec![&only])),
            Method::new("_STA".into(), 0, false, vec![&present]).into_bytes(),
            Method::new("_DIS".into(), 0, false, Vec::new()).into_bytes(),
            name("_CRS", &ResourceTemplate::new(vec![&only])),
            Method::new("_SRS".into(), 1, false, Vec::new()).into_bytes(),
        ],
    )
}

/// On i440FX links share inputs with ISA interrupts, which the MADT says are active high.
const fn active_low(board: Board) -> bool {
    matches!(board, Board::Q35)
}

/// An extended interrupt descriptor with several choices: level, shared (section 6.4.3.6).
fn interrupt_list(board: Board, irqs: &[u32]) -> Raw {
    const CONSUMER_LEVEL_SHARED: u8 = 0x9;
    const LOW: u8 = 0x4;
    let len = u16::try_from(irqs.len())
        .unwrap_or(0)
        .saturating_mul(4)
        .saturating_add(2);
    let [low, high] = len.to_le_bytes();
    let count = u8::try_from(irqs.len()).unwrap_or(0);
    let flags = CONSUMER_LEVEL_SHARED | if active_low(board) { LOW } else { 0 };
    let mut bytes = vec![0x89, low, high, flags, count];
    bytes.extend(irqs.iter().flat_map(|irq| irq.to_le_bytes()));
    Raw(bytes)
}
