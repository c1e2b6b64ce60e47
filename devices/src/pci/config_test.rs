use vmstate::Snapshot;

use super::regs::*;
use super::{BarKind, ConfigSpace, Identity};

const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1042,
    revision: 1,
    class: 0x01_0000,
    subsystem_vendor: 0x1af4,
    subsystem: 2,
};

fn disk() -> ConfigSpace {
    let mut config = ConfigSpace::endpoint(IDENTITY);
    config.add_bar(0, BarKind::Io, 32);
    config.add_bar(1, BarKind::Memory32, 4096);
    config.add_bar(4, BarKind::Memory64 { prefetchable: true }, 16384);
    config.add_power_management();
    config
}

fn write32(config: &mut ConfigSpace, at: u16, value: u32) -> bool {
    config.write(at, &value.to_le_bytes()).decode
}

#[test]
fn sizing_by_all_ones() {
    let mut config = disk();
    for (at, expected) in [
        (0x10, 0xffff_ffe1),
        (0x14, 0xffff_f000),
        (0x18, 0),
        (0x20, 0xffff_c00c),
        (0x24, 0xffff_ffff),
    ] {
        assert!(!write32(&mut config, at, u32::MAX));
        assert_eq!(config.dword(at), expected, "{at:#x}");
    }
}

#[test]
fn the_high_half_of_a_bar_stays_zero_when_only_the_low_one_is_written() {
    let mut config = disk();
    let _ = write32(&mut config, 0x20, 0xe000_0000);
    let _ = config.write(COMMAND, &[2, 0]);
    let bar = config.active_bars().next().unwrap();
    assert_eq!((bar.index, bar.base, bar.size), (4, 0xe000_0000, 16384));
}

#[test]
fn decode_changes_are_seen_and_others_are_not() {
    let mut config = disk();
    assert!(!write32(&mut config, 0x14, 0xe000_0000), "decoding is off");
    assert!(config.write(COMMAND, &[7, 0]).decode);
    assert!(
        !config.write(COMMAND, &[3, 0]).decode,
        "only the master bit changed"
    );
    assert!(write32(&mut config, 0x14, 0xe001_0000));
    assert!(!write32(&mut config, 0x14, 0xe001_0000));
    assert!(!config.write(INTERRUPT_LINE, &[11]).decode);
    assert!(config.write(COMMAND, &[0, 0]).decode);
}

#[test]
fn command_bits_stick_on_a_function_without_bars() {
    let mut config = ConfigSpace::endpoint(IDENTITY);
    let _ = config.write(COMMAND, &0xffff_u16.to_le_bytes());
    assert_eq!(config.command(), 0x0547);
    assert_eq!(config.word(STATUS), 0);
}

#[test]
fn identity_is_read_only_and_space_ends() {
    let mut config = disk();
    let before = config.clone();
    for at in [
        VENDOR,
        DEVICE,
        REVISION,
        CLASS,
        SUBSYSTEM,
        CAPABILITIES,
        INTERRUPT_PIN,
    ] {
        let _ = config.write(at, &[0x5a, 0x5a]);
    }
    assert_eq!(config.bytes()[..4], before.bytes()[..4]);
    assert_eq!(config.byte(CAPABILITIES), before.byte(CAPABILITIES));
    let mut data = [0; 4];
    config.read(254, &mut data);
    assert_eq!(data[2..], [0xff, 0xff], "conventional space has 256 bytes");
    let _ = config.write(0xfffe, &[0; 8]);
}

#[test]
fn capabilities_are_linked() {
    let mut config = disk();
    config.add_capability(0x09, &[4, 1], &[]);
    assert_eq!(
        config.word(STATUS) & status::CAPABILITIES,
        status::CAPABILITIES
    );
    let first = u16::from(config.byte(CAPABILITIES));
    assert_eq!(config.byte(first), capability::POWER);
    let second = u16::from(config.byte(first + 1));
    assert_eq!((config.byte(second), config.byte(second + 1)), (0x09, 0));
    while config.add_capability(0x09, &[0; 14], &[]).is_some() {}
}

#[test]
fn bridge_windows_open_and_close() {
    let mut bridge = ConfigSpace::bridge(Identity {
        class: 0x06_0400,
        ..IDENTITY
    });
    let _ = write32(&mut bridge, PRIMARY_BUS, 0x0002_0100);
    let _ = write32(&mut bridge, MEMORY_BASE, 0xe010_e000);
    let _ = write32(&mut bridge, PREFETCH_BASE, 0x0001_fff1);
    assert_eq!(
        bridge.bridge_windows().unwrap().memory,
        None,
        "decoding is off"
    );
    assert!(bridge.write(COMMAND, &[3, 0]).decode);
    let windows = bridge.bridge_windows().unwrap();
    assert_eq!((windows.secondary, windows.subordinate), (1, 2));
    assert_eq!(windows.memory, Some((0xe000_0000, 0xe01f_ffff)));
    assert_eq!(windows.prefetchable, None, "the base is behind the limit");
    assert_eq!(windows.io, Some((0, 0xfff)));
}

#[test]
fn state_of_another_device_is_refused() {
    let mut config = disk();
    let _ = write32(&mut config, 0x14, 0xe000_0000);
    let state = config.save();
    let mut fresh = disk();
    fresh.restore(state.clone()).unwrap();
    assert_eq!(fresh.save(), state);
    let mut other = ConfigSpace::endpoint(IDENTITY);
    assert!(other.restore(state.clone()).is_err());
    let mut short = state;
    short.bytes.0.truncate(4);
    assert!(disk().restore(short).is_err());
}
