use std::sync::{Arc, Mutex};

use crate::bus::{Access, BusDevice, SharedDevice, lock};
use crate::effect::{Effect, PowerEffect};
use crate::irq::NullInterrupt;
use crate::map::{AddressMap, MapBuilder, Space};
use crate::pci::{
    DevFn, HostBridge, PciFunction, PciTopology, PlugError, Plugged, Reserve, RootPort,
    RootPortProps, Windows, assign,
};
use crate::registry::Region;
use crate::testing::FakeIrqs;

/// Remembers writes; reads give the low byte of the offset.
#[derive(Default)]
struct Recorder(Vec<(u64, Vec<u8>)>);

impl BusDevice for Recorder {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        data.fill(access.offset as u8);
    }
    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        self.0.push((access.offset, data.to_vec()));
        match data.first() {
            Some(6) => Effect::Power(PowerEffect::Reset),
            _ => Effect::None,
        }
    }
    fn reset(&mut self) {}
}

fn plug(
    topology: &mut PciTopology,
    id: &str,
    parent: Option<&str>,
    slot: u8,
    function: impl PciFunction + 'static,
) {
    let plugged = Plugged {
        id: id.into(),
        parent: parent.map(Into::into),
        devfn: DevFn::new(slot, 0),
        function: Arc::new(Mutex::new(function)),
    };
    topology.plug(plugged).unwrap();
}

/// A port whose slot has power.
fn root_port(props: RootPortProps) -> RootPort {
    let pin = Arc::new(NullInterrupt);
    let mut port = RootPort::new(props, &FakeIrqs::default(), pin).unwrap();
    port.set_occupied(true);
    port
}

fn port() -> RootPort {
    root_port(RootPortProps::default())
}

fn topology() -> PciTopology {
    let mut topology = PciTopology::new();
    plug(&mut topology, "mch", None, 0, HostBridge::new());
    plug(&mut topology, "rp0", None, 3, port());
    plug(&mut topology, "rp1", Some("rp0"), 0, port());
    topology
}

fn map(topology: &PciTopology) -> AddressMap {
    let mut builder = MapBuilder::new();
    builder.pci(topology.see());
    builder.build()
}

fn config_read32(map: &AddressMap, address: u32) -> u32 {
    assert!(
        map.write(Space::Port, 0xcf8, &address.to_le_bytes())
            .is_empty()
    );
    let mut data = [0; 4];
    map.read(Space::Port, 0xcfc, &mut data);
    u32::from_le_bytes(data)
}

fn config_write(map: &AddressMap, address: u32, data: &[u8]) -> Vec<Effect> {
    assert!(
        map.write(Space::Port, 0xcf8, &address.to_le_bytes())
            .is_empty()
    );
    map.write(Space::Port, 0xcfc, data)
        .into_iter()
        .map(|raised| raised.effect)
        .collect()
}

#[test]
fn mechanism_one_reaches_functions() {
    let map = map(&topology());
    assert_eq!(config_read32(&map, 0x8000_0000), 0x29c0_8086);
    assert_eq!(config_read32(&map, 0x8000_1800), 0x000c_1b36);
    assert_eq!(config_read32(&map, 0x8000_2000), u32::MAX, "empty slot");
    assert_eq!(config_read32(&map, 0x0000_0000), u32::MAX, "not enabled");
    // The low bits of the address register count, and are OR-ed with the port's.
    assert_eq!(config_read32(&map, 0x8000_0002) & 0xffff, 0x29c0);
    let mut byte = [0];
    map.read(Space::Port, 0xcfd, &mut byte);
    assert_eq!(byte, [0x29]);
    let mut address = [0; 4];
    map.read(Space::Port, 0xcf8, &mut address);
    assert_eq!(u32::from_le_bytes(address), 0x8000_0002);
    map.read(Space::Port, 0xcf8, &mut byte);
    assert_eq!(byte, [0xff], "only 32-bit accesses are the register's");
}

#[test]
fn the_reset_register_lies_inside_config_address() {
    let device = Arc::new(Mutex::new(Recorder::default()));
    let shared: SharedDevice = device.clone();
    let mut builder = MapBuilder::new();
    let region = Region {
        region: 0,
        base: 0xcf9,
        len: 1,
    };
    builder
        .device(&"lpc".into(), Space::Port, region, &shared)
        .unwrap();
    builder.pci(topology().see());
    let map = builder.build();
    assert!(
        map.write(Space::Port, 0xcf8, &0x8000_0606_u32.to_le_bytes())
            .is_empty()
    );
    assert!(lock(&device).0.is_empty());
    let raised = map.write(Space::Port, 0xcf9, &[6]);
    assert_eq!(raised[0].effect, Effect::Power(PowerEffect::Reset));
    assert_eq!(&*raised[0].source.id, "lpc");
}

#[test]
fn accesses_across_an_edge_are_split() {
    let device = Arc::new(Mutex::new(Recorder::default()));
    let shared: SharedDevice = device.clone();
    let mut builder = MapBuilder::new();
    for (number, base) in [(0, 0x1000), (1, 0x1006)] {
        let region = Region {
            region: number,
            base,
            len: 2,
        };
        builder
            .device(&"x".into(), Space::Memory, region, &shared)
            .unwrap();
        assert!(
            builder
                .device(&"y".into(), Space::Memory, region, &shared)
                .is_err()
        );
    }
    let map = builder.build();
    let mut data = [0; 8];
    map.read(Space::Memory, 0x1001, &mut data);
    assert_eq!(data, [1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff]);
    assert!(map.write(Space::Memory, 0xfff, &[1, 2, 3, 4]).is_empty());
    assert_eq!(lock(&device).0, [(0, vec![2, 3])]);
    map.read(Space::Memory, u64::MAX - 1, &mut data);
    assert_eq!(data, [0xff; 8]);
    assert!(map.claims(Space::Memory, 0x1007) && !map.claims(Space::Memory, 0x1008));
}

#[test]
fn firmware_assignment_reaches_everything() {
    let topology = topology();
    let windows = Windows {
        io: (0xc000, 0xffff),
        memory: (0xc000_0000, 0xfebf_ffff),
        prefetchable: (0x1_0000_0000, 0x8_ffff_ffff),
    };
    assign(&topology, &windows, &|slot, pin| slot.slot() + pin);
    let map = map(&topology);
    // rp1 is on bus 1, and its BAR is inside rp0's window.
    assert_eq!(config_read32(&map, 0x8001_0000), 0x000c_1b36);
    assert_eq!(config_read32(&map, 0x8000_1818) & 0xff_ffff, 0x02_0100);
    let seen = topology.see();
    assert!(
        seen.functions
            .iter()
            .skip(1)
            .all(|seen| seen.bars.len() == 1)
    );
    for function in &seen.functions {
        for bar in &function.bars {
            assert!(map.claims(Space::Memory, bar.base), "{}", function.id);
            assert_eq!(bar.base % bar.size, 0);
        }
    }
    assert_eq!(
        config_read32(&map, 0x8001_003c) & 0xffff,
        0x0104,
        "line of slot 3, pin A"
    );
    // Closing the upper window hides what is behind.
    assert_eq!(config_write(&map, 0x8000_1804, &[0, 0]), [Effect::Remap]);
    assert_eq!(topology.see().functions[2].bars, []);
}

#[test]
fn firmware_keeps_what_bridges_reserve() {
    let mut topology = PciTopology::new();
    let reserve = |reserve| {
        let props = RootPortProps {
            reserve,
            ..RootPortProps::default()
        };
        root_port(props)
    };
    let roomy = Reserve {
        buses: Some(3),
        io: Some(0x1800),
        memory: Some(5 << 20),
        prefetchable: Some(8 << 30),
    };
    let endless = Reserve {
        buses: Some(u32::MAX - 1),
        io: Some(u64::MAX - 1),
        memory: Some(u32::MAX - 1),
        prefetchable: Some(u64::MAX - 1),
    };
    plug(&mut topology, "roomy", None, 3, reserve(roomy));
    plug(&mut topology, "plain", None, 4, port());
    plug(&mut topology, "endless", None, 5, reserve(endless));
    let windows = Windows {
        io: (0xc000, 0xffff),
        memory: (0xc000_0000, 0xfebf_ffff),
        prefetchable: (0x1_0000_0000, 0x8_ffff_ffff),
    };
    assign(&topology, &windows, &|_, _| 0);
    let bridges = topology.functions().iter().map(|plugged| {
        let mut function = lock(&plugged.function);
        function.config().bridge_windows().unwrap()
    });
    let size = |window: Option<(u64, u64)>| window.map_or(0, |(first, last)| last - first + 1);
    let found: Vec<_> = bridges
        .map(|bridge| {
            (
                (bridge.secondary, bridge.subordinate),
                [bridge.io, bridge.memory, bridge.prefetchable].map(size),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ((1, 4), [0x2000, 5 << 20, 8 << 30]),
            ((5, 5), [0, 2 << 20, 2 << 20]),
            ((6, 6), [0, 0, 0]),
        ]
    );
}

#[test]
fn the_ecam_window_opens_where_the_guest_puts_it() {
    let mut topology = PciTopology::new();
    plug(&mut topology, "mch", None, 0, HostBridge::new());
    plug(&mut topology, "rp0", None, 3, port());
    let before = map(&topology);
    assert!(!before.claims(Space::Memory, 0xb000_0000));
    assert_eq!(
        config_write(&before, 0x8000_0060, &0xb000_0001_u32.to_le_bytes()),
        [Effect::Remap]
    );
    let map = map(&topology);
    let mut data = [0; 8];
    map.read(Space::Memory, 0xb000_0000 + (3 << 15), &mut data[..4]);
    assert_eq!(data[..4], [0x36, 0x1b, 0x0c, 0x00]);
    // Across the edge of a function, and extended space of conventional and express functions.
    map.read(Space::Memory, 0xb000_0ffc, &mut data);
    assert_eq!(data, [0xff; 8]);
    map.read(Space::Memory, 0xb000_0100 + (3 << 15), &mut data[..4]);
    assert_eq!(data[..4], [0; 4]);
}

#[test]
fn a_bar_cannot_hide_a_fixed_device() {
    let topology = topology();
    let before = map(&topology);
    let _ = config_write(&before, 0x8000_1810, &0xfec0_0000_u32.to_le_bytes());
    let _ = config_write(&before, 0x8000_1804, &[2, 0]);
    let device: SharedDevice = Arc::new(Mutex::new(Recorder::default()));
    let mut builder = MapBuilder::new();
    let region = Region {
        region: 9,
        base: 0xfec0_0000,
        len: 0x20,
    };
    builder
        .device(&"ioapic".into(), Space::Memory, region, &device)
        .unwrap();
    builder.pci(topology.see());
    let mut data = [0; 1];
    let map = builder.build();
    map.read(Space::Memory, 0xfec0_0004, &mut data);
    assert_eq!(data, [4]);
    map.read(Space::Memory, 0xfec0_0024, &mut data);
    assert_eq!(data, [0xff], "the whole BAR is left out");
}

#[test]
fn plugging_is_refused_where_something_is() {
    let mut topology = topology();
    let mut try_plug = |id: &str, parent: Option<&str>, slot| {
        topology
            .plug(Plugged {
                id: id.into(),
                parent: parent.map(Into::into),
                devfn: DevFn::new(slot, 0),
                function: Arc::new(Mutex::new(HostBridge::new())),
            })
            .unwrap_err()
    };
    assert!(matches!(
        try_plug("a", None, 3),
        PlugError::Taken { slot: 3, .. }
    ));
    assert!(matches!(try_plug("mch", None, 4), PlugError::Duplicate(_)));
    assert!(matches!(
        try_plug("a", Some("none"), 4),
        PlugError::NoBridge(_)
    ));
}
