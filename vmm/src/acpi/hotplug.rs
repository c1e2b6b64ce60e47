//! Hot-plug of PCI functions on the root bus of the i440FX: the chipset's ports say what came and
//! what is to go, a general purpose event says that they say it.

use acpi_tables::aml::{
    Acquire, And, Arg, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, If,
    Method, MethodCall, Mutex, Notify, OpRegion, OpRegionSpace, Release, Scope, ShiftLeft, Store,
};

use super::Raw;
use super::dsdt::{IntoBytes, device, name, path, refs};

/// The ports.
const PORTS: u16 = 0xae00;
/// What a slot is told: look whether something is there.
const DEVICE_CHECK: u8 = 1;
/// What a slot is told: let go of what is there.
const EJECT_REQUEST: u8 = 3;
const FOREVER: u16 = 0xffff;

/// What the root bridge has for it; `slots` are those with hot-plug, a bit each.
pub fn slots(slots: u32) -> Vec<Raw> {
    let slots: Vec<u8> = (0u8..32).filter(|slot| slots >> slot & 1 != 0).collect();
    let mut parts = ports();
    parts.push(Mutex::new("BLCK".into(), 0).into_bytes());
    parts.push(eject());
    parts.extend(slots.iter().map(|slot| slot_device(*slot)));
    parts.push(tell_slots(&slots));
    parts.push(look());
    parts
}

/// `\_GPE._E01`: something came or is to go.
pub fn event() -> Raw {
    let mutex = || path("\\_SB_.PCI0.BLCK");
    let body = [
        Acquire::new(mutex(), FOREVER).into_bytes(),
        MethodCall::new(path("\\_SB_.PCI0.PCNT"), Vec::new()).into_bytes(),
        Release::new(mutex()).into_bytes(),
    ];
    let method = Method::new("_E01".into(), 0, false, refs(&body)).into_bytes();
    Scope::new("\\_GPE".into(), vec![&method]).into_bytes()
}

fn ports() -> Vec<Raw> {
    let dword = |field: &[u8; 4]| FieldEntry::Named(*field, 32);
    let field = |region: &str, fields| {
        Field::new(
            region.into(),
            FieldAccessType::DWord,
            FieldLockRule::NoLock,
            FieldUpdateRule::WriteAsZeroes,
            fields,
        )
        .into_bytes()
    };
    let region = |name: &str, offset: u16, len: u8| {
        let first = PORTS.saturating_add(offset);
        OpRegion::new(name.into(), OpRegionSpace::SystemIO, &first, &len).into_bytes()
    };
    vec![
        region("PCST", 0, 8),
        field("PCST", vec![dword(b"PCIU"), dword(b"PCID")]),
        region("SEJ_", 8, 4),
        field("SEJ_", vec![dword(b"B0EJ")]),
        region("BNMR", 16, 4),
        field("BNMR", vec![dword(b"BNUM")]),
    ]
}

/// The slot's number is the argument.
fn eject() -> Raw {
    let slot = ShiftLeft::new(&0u8, &1u8, &Arg(0)).into_bytes();
    let body = [
        Acquire::new("BLCK".into(), FOREVER).into_bytes(),
        Store::new(&path("BNUM"), &0u8).into_bytes(),
        Store::new(&path("B0EJ"), &slot).into_bytes(),
        Release::new("BLCK".into()).into_bytes(),
    ];
    Method::new("PCEJ".into(), 1, true, refs(&body)).into_bytes()
}

/// Called after the slot's first function, as bus addresses count: `S08_` is slot 1.
fn slot_name(slot: u8) -> String {
    format!("S{:02X}_", slot << 3)
}

fn slot_device(slot: u8) -> Raw {
    let call = MethodCall::new("PCEJ".into(), vec![&slot]).into_bytes();
    device(
        &slot_name(slot),
        &[
            name("_SUN", &slot),
            name("_ADR", &(u32::from(slot) << 16)),
            Method::new("_EJ0".into(), 1, false, vec![&call]).into_bytes(),
        ],
    )
}

/// Tells each slot whose bit is in the first argument what the second says.
fn tell_slots(slots: &[u8]) -> Raw {
    let tell = |slot: &u8| {
        let bit = 1u32.checked_shl(u32::from(*slot)).unwrap_or(0);
        let chosen = And::new(&0u8, &Arg(0), &bit).into_bytes();
        let notify = Notify::new(&path(&slot_name(*slot)), &Arg(1)).into_bytes();
        If::new(&chosen, vec![&notify]).into_bytes()
    };
    let body: Vec<Raw> = slots.iter().map(tell).collect();
    Method::new("DVNT".into(), 2, false, refs(&body)).into_bytes()
}

/// Looks what came and what is to go, and tells the slots.
fn look() -> Raw {
    let tell = |ports: &str, what: u8| {
        MethodCall::new("DVNT".into(), vec![&path(ports), &what]).into_bytes()
    };
    let body = [
        Store::new(&path("BNUM"), &0u8).into_bytes(),
        tell("PCIU", DEVICE_CHECK),
        tell("PCID", EJECT_REQUEST),
    ];
    Method::new("PCNT".into(), 0, false, refs(&body)).into_bytes()
}
