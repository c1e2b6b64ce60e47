use std::sync::{Arc, Mutex};

use super::fw_cfg::key;
use super::{FwCfg, FwCfgError, FwCfgMachine};
use crate::bus::{Access, BusDevice};
use crate::effect::Effect;
use crate::testing::{FakeGuest, RAM_HIGH, RAM_SIZE, conformance};

const AT: u64 = 0x1000;
const TO: u64 = 0x2000;

fn device(guest: &FakeGuest) -> FwCfg {
    let machine = FwCfgMachine {
        ram_size: 0x1_2345_6789,
        cpus: 2,
        max_cpus: 8,
        uuid: *b"0123456789abcdef",
    };
    let mut device = FwCfg::new(guest.ram.clone(), &machine);
    device.add_file("opt/b", b"second".to_vec()).unwrap();
    device.add_file("etc/a", b"first file".to_vec()).unwrap();
    device
}

fn select(device: &mut FwCfg, key: u16) {
    let at = Access {
        region: 0,
        offset: 0,
    };
    assert_eq!(device.write(at, &key.to_le_bytes()), Effect::None);
}

fn read(device: &mut FwCfg, len: usize) -> Vec<u8> {
    let at = Access {
        region: 0,
        offset: 1,
    };
    let mut bytes = vec![0; len];
    for byte in &mut bytes {
        device.read(at, std::slice::from_mut(byte));
    }
    bytes
}

/// Makes a request as drivers do, in two halves, and returns the control word afterwards.
fn dma(guest: &FakeGuest, device: &mut FwCfg, at: u64, control: u32, len: u32, to: u64) -> u32 {
    let mut request = control.to_be_bytes().to_vec();
    request.extend(len.to_be_bytes());
    request.extend(to.to_be_bytes());
    guest.write(at, &request);
    start(device, at);
    u32::from_be_bytes(guest.read(at, 4).try_into().unwrap())
}

fn start(device: &mut FwCfg, at: u64) {
    for (offset, half) in (0..8).step_by(4).zip(at.to_be_bytes().chunks(4)) {
        let access = Access { region: 1, offset };
        assert_eq!(device.write(access, half), Effect::None);
    }
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    conformance::bus_device(FwCfg::PORTS, conformance::AfterReset::Fresh, || {
        Arc::new(Mutex::new(device(&guest)))
    });
}

#[test]
fn items_read_through_the_port() {
    let guest = FakeGuest::new();
    let mut device = device(&guest);
    for (key, expected) in [
        (key::SIGNATURE, b"QEMU\0\0".to_vec()),
        (key::ID, vec![3, 0, 0, 0, 0]),
        (key::UUID, b"0123456789abcdef\0".to_vec()),
        (key::RAM_SIZE, vec![0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0]),
        (key::CPUS, vec![2, 0]),
        (key::MAX_CPUS, vec![8, 0]),
        (key::MAX_CPUS | 0x4000, vec![8, 0]),
        (0x20, b"first file\0\0".to_vec()),
        (0x21, b"second\0".to_vec()),
        (0x22, vec![0; 4]),
        (0x3fff, vec![0; 4]),
        (0xffff, vec![0; 4]),
    ] {
        select(&mut device, key);
        assert_eq!(read(&mut device, expected.len()), expected, "{key:#x}");
    }
    // A write of another width selects nothing.
    select(&mut device, key::SIGNATURE);
    for width in [1, 4, 8] {
        let at = Access {
            region: 0,
            offset: 0,
        };
        let _ = device.write(at, &[5; 8][..width]);
    }
    assert_eq!(read(&mut device, 1), b"Q");
}

#[test]
fn the_directory_names_the_files() {
    let guest = FakeGuest::new();
    let mut device = device(&guest);
    select(&mut device, key::FILE_DIR);
    let bytes = read(&mut device, 4 + 2 * 64);
    assert_eq!(bytes[..4], [0, 0, 0, 2]);
    assert_eq!(bytes[4..12], [0, 0, 0, 10, 0, 0x20, 0, 0]);
    assert_eq!(&bytes[12..18], b"etc/a\0");
    assert_eq!(bytes[68..76], [0, 0, 0, 6, 0, 0x21, 0, 0]);
    assert_eq!(&bytes[76..82], b"opt/b\0");
    assert_eq!(device.files().collect::<Vec<_>>(), ["etc/a", "opt/b"]);
}

#[test]
fn files_are_refused() {
    let guest = FakeGuest::new();
    let mut device = device(&guest);
    let long = "n".repeat(56);
    for (name, error) in [
        ("", FwCfgError::NoName),
        (long.as_str(), FwCfgError::NameTooLong),
        ("etc/a", FwCfgError::Duplicate("etc/a".into())),
    ] {
        assert_eq!(device.add_file(name, Vec::new()), Err(error));
    }
    for number in 2..0x20 {
        device.add_file(&format!("{number}"), Vec::new()).unwrap();
    }
    assert_eq!(device.add_file("x", Vec::new()), Err(FwCfgError::Full));
    assert_eq!(
        FwCfgError::NameTooLong.to_string(),
        "name too long (max. 55 char)"
    );
}

#[test]
fn dma_reads_skips_and_refuses() {
    const SELECT_FILE: u32 = 0x20 << 16 | 8;
    let guest = FakeGuest::new();
    let mut device = device(&guest);
    let mut signature = [0; 8];
    let at = Access {
        region: 1,
        offset: 0,
    };
    device.read(at, &mut signature);
    assert_eq!(&signature, b"QEMU CFG");
    // Control, length, result, and what arrived in memory that was full of 0xee.
    for (control, len, result, bytes) in [
        (SELECT_FILE, 0, 0, &[0xee; 4][..]),
        (2, 5, 0, b"first\xee"),
        (4, 1, 0, &[0xee; 4]),
        (2, 6, 0, b"file\0\0\xee"),
        (2, 4, 0, b"\0\0\0\0\xee"),
        (SELECT_FILE | 2, 3, 0, b"fir\xee"),
        (SELECT_FILE | 4, 6, 0, &[0xee; 4]),
        (2, 2, 0, b"fi\xee"),
        (0, 9, 0, &[0xee; 4]),
        (16, 1, 1, &[0xee; 4]),
        (0x3000 << 16 | 8 | 2, 3, 0, b"\0\0\0\xee"),
    ] {
        guest.write(TO, &[0xee; 16]);
        let done = dma(&guest, &mut device, AT, control, len, TO);
        assert_eq!(done, result, "{control:#x}");
        assert_eq!(guest.read(TO, bytes.len()), bytes, "{control:#x} {len}");
    }
    // The same above 4 GiB.
    assert_eq!(
        dma(
            &guest,
            &mut device,
            RAM_HIGH,
            SELECT_FILE | 2,
            5,
            RAM_HIGH + 64
        ),
        0
    );
    assert_eq!(guest.read(RAM_HIGH + 64, 5), b"first");
}

#[test]
fn dma_outside_of_ram_is_an_error() {
    const READ_FILE: u32 = 0x20 << 16 | 8 | 2;
    let guest = FakeGuest::new();
    let mut device = device(&guest);
    for (len, to) in [
        (8, RAM_SIZE),
        (8, RAM_SIZE - 4),
        (8, u64::MAX - 2),
        (u32::MAX, RAM_SIZE - 0x8000),
    ] {
        let done = dma(&guest, &mut device, AT, READ_FILE, len, to);
        assert_eq!(done, 1, "{len} {to:#x}");
    }
    // A request that is not in RAM, or only its beginning: nothing to do but to go on.
    for at in [RAM_SIZE, u64::MAX, u64::MAX - 4] {
        start(&mut device, at);
    }
    guest.write(RAM_SIZE - 8, &[0; 8]);
    start(&mut device, RAM_SIZE - 8);
    assert_eq!(guest.read(RAM_SIZE - 8, 4), [0, 0, 0, 1]);
}

#[test]
fn the_upper_half_of_the_address_is_used_once() {
    let guest = FakeGuest::new();
    let mut device = device(&guest);
    let high = Access {
        region: 1,
        offset: 0,
    };
    let low = Access {
        region: 1,
        offset: 4,
    };
    guest.write(RAM_HIGH, &[0xff; 16]);
    let _ = device.write(high, &[0, 0, 0, 1]);
    let _ = device.write(low, &[0; 4]);
    assert_eq!(guest.read(RAM_HIGH, 4), [0, 0, 0, 1]);
    guest.write(0, &[0xff; 16]);
    let _ = device.write(low, &[0; 4]);
    assert_eq!(guest.read(0, 4), [0, 0, 0, 1]);
    // Part of the lower half starts nothing.
    guest.write(0, &[0xff; 16]);
    let _ = device.write(low, &[0; 2]);
    assert_eq!(guest.read(0, 4), [0xff; 4]);
}
