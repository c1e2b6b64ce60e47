//! The device that tells the guest where its generation id is (Microsoft, "Virtual Machine
//! Generation ID"; event as in QEMU, whose own name for the device is no valid hardware id).

use acpi_tables::Aml;
use acpi_tables::aml::{Device, Method, Name, Notify, Package, Path, Return, Scope};

use super::TABLES_END;

/// The page that is kept for the id: the last one before the root pointer.
pub const PAGE: u64 = TABLES_END - 4096;
/// Where in it the id is. Firmware that hands such a page out keeps a header in front.
pub const ID: u64 = PAGE + 40;
/// The general purpose event that says that the id changed.
pub const EVENT: u8 = 5;
/// What the device is notified of.
const CHANGED: u8 = 0x80;

/// The device and its event.
pub fn add_to(body: &mut Vec<u8>) {
    let (low, high) = (ID as u32, (ID >> 32) as u32);
    let place = Package::new(vec![&low, &high]);
    let answer = Return::new(&place);
    let address = Method::new("ADDR".into(), 0, false, vec![&answer]);
    let hid = Name::new("_HID".into(), &"QEMU0003");
    let cid = Name::new("_CID".into(), &"VM_Gen_Counter");
    let ddn = Name::new("_DDN".into(), &"VM_Gen_Counter");
    let device = Device::new("VGEN".into(), vec![&hid, &cid, &ddn, &address]);
    Scope::new("\\_SB_".into(), vec![&device]).to_aml_bytes(body);
    let device = Path::new("\\_SB_.VGEN");
    let notify = Notify::new(&device, &CHANGED);
    let event = Method::new("_E05".into(), 0, false, vec![&notify]);
    Scope::new("\\_GPE".into(), vec![&event]).to_aml_bytes(body);
}
