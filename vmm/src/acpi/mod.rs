//! ACPI tables (ACPI 6.5): what firmware would leave in memory.
//!
//! The chipset behind them is an ICH9 or a PIIX4: PM block at [`layout::PM_BASE`], reset register
//! at [`layout::RESET_PORT`], ACPI mode through [`layout::SMI_COMMAND`]; SLP_TYP 0 is S5.

mod dsdt;
pub mod generation;
mod hotplug;
mod links;

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};

use crate::layout::{self, RamLayout, Window};

/// Six characters that name the maker of the tables.
const OEM: [u8; 6] = *b"QVMD  ";
/// Eight that name the machine.
const OEM_TABLE: [u8; 8] = *b"QVMDPC  ";
const REVISION: u32 = 1;

/// The root pointer: first thing in the area that guests search.
pub const RSDP: u64 = 0xf_0000;
/// SMBIOS follows.
pub const TABLES_END: u64 = RSDP;

/// A 16550 at its usual place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialPort {
    /// 0 to 3.
    pub index: u32,
    /// First of eight ports.
    pub port: u16,
    /// Its interrupt.
    pub irq: u8,
}

/// What the tables describe.
#[derive(Debug, Clone)]
pub struct AcpiConfig {
    /// Where RAM is.
    pub layout: RamLayout,
    /// APIC ids of the processors in order.
    pub apic_ids: Vec<u32>,
    /// Serial ports in order.
    pub serial: Vec<SerialPort>,
    /// The port of the pvpanic device.
    pub pvpanic: Option<u16>,
    /// Whether there is a generation id.
    pub generation: bool,
    /// Whether a keyboard controller answers more than reset.
    pub keyboard: bool,
    /// The highest bus number. Linux asks every slot of every bus up to it.
    pub last_bus: u8,
    /// The window for 64-bit BARs, where the processor reaches it.
    pub mmio64: Option<Window>,
    /// Slots of the root bus with bridges, a bit each: those stay.
    pub bridges: u32,
}

/// Tables and where they go.
pub struct AcpiTables {
    /// Address and bytes.
    pub parts: Vec<(u64, Vec<u8>)>,
}

/// Bytes of a table.
fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Places tables one behind the other.
struct Area {
    next: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Area {
    fn add(&mut self, bytes: Vec<u8>) -> u64 {
        let at = self.next;
        // The FACS wants 64; the others do not mind.
        let end = at.saturating_add(bytes.len() as u64);
        self.next = end.div_ceil(64).saturating_mul(64);
        self.parts.push((at, bytes));
        at
    }
}

/// Makes all tables. `None` when they do not fit: more processors than a PC has.
pub fn build(config: &AcpiConfig) -> Option<AcpiTables> {
    let mut area = Area {
        next: layout::TABLES.base,
        parts: Vec::new(),
    };
    let facs = area.add(bytes(&FACS::new()));
    let dsdt = area.add(dsdt::build(config));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(area.add(bytes(&fadt(config, facs, dsdt))));
    xsdt.add_entry(area.add(madt(&config.apic_ids)));
    if let Some(ecam) = config.layout.board.ecam() {
        let mut mcfg = MCFG::new(OEM, OEM_TABLE, REVISION);
        mcfg.add_ecam(ecam.base, 0, 0, config.last_bus);
        xsdt.add_entry(area.add(bytes(&mcfg)));
    }
    xsdt.add_entry(area.add(waet()));
    let xsdt = area.add(bytes(&xsdt));
    let end = match config.generation {
        true => generation::PAGE,
        false => TABLES_END,
    };
    if area.next > end {
        return None;
    }
    area.parts.push((RSDP, bytes(&Rsdp::new(OEM, xsdt))));
    Some(AcpiTables { parts: area.parts })
}

fn fadt(config: &AcpiConfig, facs: u64, dsdt: u64) -> acpi_tables::fadt::FADT {
    const LEGACY_DEVICES: u16 = 1;
    const KEYBOARD: u16 = 1 << 1;
    const NO_VGA: u16 = 1 << 2;
    const CENTURY_BYTE: u8 = 0x32;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .preferred_pm_profile(PmProfile::Unspecified);
    let low = |addr: u64| u32::try_from(addr).unwrap_or(0);
    fadt.firmware_ctrl = low(facs).into();
    fadt.dsdt = low(dsdt).into();
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = u16::from(layout::SCI).into();
    fadt.smi_cmd = u32::from(layout::SMI_COMMAND).into();
    let ports = config.layout.board.pm_ports();
    fadt.acpi_enable = ports.acpi_enable;
    fadt.acpi_disable = ports.acpi_disable;
    fadt.pm1a_evt_blk = u32::from(layout::PM1A_EVENT).into();
    fadt.pm1a_cnt_blk = u32::from(layout::PM1A_CONTROL).into();
    fadt.pm_tmr_blk = u32::from(layout::PM_TIMER).into();
    fadt.gpe0_blk = u32::from(ports.gpe0).into();
    (fadt.pm1_evt_len, fadt.pm1_cnt_len, fadt.pm_tmr_len) = (4, 2, 4);
    fadt.gpe0_blk_len = ports.gpe0_len;
    let port = |address: u16, bits: u8| {
        GAS::new(
            AddressSpace::SystemIo,
            bits,
            0,
            AccessSize::Undefined,
            u64::from(address),
        )
    };
    fadt.x_pm1a_evt_blk = port(layout::PM1A_EVENT, 32);
    fadt.x_pm1a_cnt_blk = port(layout::PM1A_CONTROL, 16);
    fadt.x_pm_tmr_blk = port(layout::PM_TIMER, 32);
    fadt.x_gpe0_blk = port(ports.gpe0, ports.gpe0_len.saturating_mul(8));
    // No processor states beyond C1.
    (fadt.p_lvl2_lat, fadt.p_lvl3_lat) = (0xfff.into(), 0xfff.into());
    fadt.century = CENTURY_BYTE;
    let keyboard = if config.keyboard { KEYBOARD } else { 0 };
    fadt.iapc_boot_arch = (LEGACY_DEVICES | NO_VGA | keyboard).into();
    fadt.reset_reg = port(layout::RESET_PORT, 8);
    fadt.reset_value = layout::RESET_VALUE;
    fadt.finalize()
}

/// The interrupt controllers (section 5.2.12).
fn madt(apic_ids: &[u32]) -> Vec<u8> {
    const PC_COMPATIBLE: u32 = 1;
    const ENABLED: u32 = 1;
    const LEVEL_HIGH: u16 = 0xd;
    const ALL_PROCESSORS: u8 = 0xff;
    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM, OEM_TABLE, REVISION);
    madt.append(u32::try_from(layout::LAPIC.base).unwrap_or(0).to_le_bytes());
    madt.append(PC_COMPATIBLE.to_le_bytes());
    for (uid, &apic_id) in (0u32..).zip(apic_ids) {
        match (u8::try_from(uid), u8::try_from(apic_id)) {
            (Ok(uid), Ok(apic_id)) if apic_id != u8::MAX => {
                madt.append_slice(&[0, 8, uid, apic_id]);
                madt.append(ENABLED.to_le_bytes());
            }
            _ => {
                madt.append_slice(&[9, 16, 0, 0]);
                for number in [apic_id, ENABLED, uid] {
                    madt.append(number.to_le_bytes());
                }
            }
        }
    }
    madt.append_slice(&[1, 12, 0, 0]);
    madt.append(u32::try_from(layout::IOAPIC).unwrap_or(0).to_le_bytes());
    madt.append(0u32.to_le_bytes());
    // The timer is at input 2; the others that PCI links and the SCI may use are level-triggered.
    let overrides = [
        (0u8, 2u32, 0u16),
        (5, 5, LEVEL_HIGH),
        (layout::SCI, 9, LEVEL_HIGH),
    ];
    let more = [(10u8, 10u32, LEVEL_HIGH), (11, 11, LEVEL_HIGH)];
    for (irq, gsi, flags) in overrides.into_iter().chain(more) {
        madt.append_slice(&[2, 10, 0, irq]);
        madt.append(gsi.to_le_bytes());
        madt.append(flags.to_le_bytes());
    }
    // NMI at local input 1 of all.
    madt.append_slice(&[4, 6, ALL_PROCESSORS, 0, 0, 1]);
    madt.as_slice().to_vec()
}

/// Tells Windows that RTC and PM timer need no double reads.
fn waet() -> Vec<u8> {
    const PM_TIMER_GOOD: u32 = 1 << 1;
    let mut waet = Sdt::new(*b"WAET", 36, 1, OEM, OEM_TABLE, REVISION);
    waet.append(PM_TIMER_GOOD.to_le_bytes());
    waet.as_slice().to_vec()
}

/// Bytes made elsewhere.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

#[cfg(test)]
#[path = "acpi_test.rs"]
mod tests;
