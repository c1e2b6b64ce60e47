//! What a guest may do to a whole machine, for fuzz targets: every device of the registry on both boards, under the
//! accelerator that runs no processor.

use devices::bus::lock;
use devices::map::Space;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use super::saved::rig::{DEVICES, PC, Q35, Rig};

const MOST_STEPS: usize = 48;
/// Rings of the devices that [`Rig::use_all`] drives: of the first one, and from one to the next.
const RINGS: u64 = 0x10_0000;
const DEVICE_STEP: u64 = 0x1_0000;
const QUEUE_STEP: u64 = 0x4000;
/// Ports with something behind them: interrupt controllers, timer, keyboard, clock, UART, configuration space, power
/// management, hot-plug, panics, and the devices' own.
const PORTS: [u16; 24] = [
    0x20, 0xa0, 0x40, 0x43, 0x60, 0x64, 0x61, 0x70, 0x71, 0x92, 0xb2, 0x3f8, 0x3fb, 0x4d0, 0x505,
    0x510, 0x511, 0x514, 0x600, 0x604, 0x620, 0xae00, 0xae08, 0xafe0,
];
/// Devices that come and go.
const COMERS: [&str; 9] = [
    "virtio-rng-pci,id=new0",
    "virtio-net-pci,id=new1",
    "virtio-scsi-pci,id=new2",
    "scsi-cd,id=new3,bus=scsi0.0,lun=5",
    "virtio-serial-pci,id=new4",
    "i6300esb,id=new5",
    "pvpanic-pci,id=new6",
    "virtio-rng-pci,id=new7,bus=rp1",
    "virtio-balloon-pci,id=new8,bus=rp1",
];

/// One case: the first byte says which board, and whether its devices are in use already; the rest is what is done.
pub fn machine(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let board = if mode & 1 == 0 { Q35 } else { PC };
    let mut rig = Rig::new(&[DEVICES, board]);
    if mode & 2 == 0 {
        rig.use_all();
    }
    for _ in 0..MOST_STEPS {
        if input.0.is_empty() {
            break;
        }
        step(&mut rig, &mut input);
    }
    let machine = rig.machine();
    machine.quiesce();
    // Whatever the guest did: its state can be had, and goes back in.
    if let Ok(sections) = machine.save() {
        drop(sections);
    }
    assert!(machine.reset().is_ok(), "a reset works always");
}

/// The bytes of a case; zeroes behind their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    /// One to eight bytes, as instructions have them.
    fn value(&mut self) -> ([u8; 8], usize) {
        let len = 1 << (self.byte() % 4);
        let mut bytes = [0; 8];
        for byte in bytes.iter_mut().take(len) {
            *byte = self.byte();
        }
        (bytes, len)
    }
}

fn step(rig: &mut Rig, input: &mut Input<'_>) {
    match input.byte() % 9 {
        0 => {
            let port = port(input);
            let (bytes, len) = input.value();
            access(rig, Space::Port, port.into(), &bytes[..len]);
        }
        1 => {
            let port = port(input);
            read(rig, Space::Port, port.into(), 1 << (input.byte() % 3));
        }
        2 => {
            let at = address(input);
            let (bytes, len) = input.value();
            access(rig, Space::Memory, at, &bytes[..len]);
        }
        3 => {
            let at = address(input);
            read(rig, Space::Memory, at, 1 << (input.byte() % 4));
        }
        4 => config(rig, input),
        5 => register(rig, input),
        6 => chain(rig, input),
        7 => come_or_go(rig, input),
        _ => {
            // The host's side of a pause.
            rig.machine().quiesce();
            rig.machine().resume();
        }
    }
}

fn port(input: &mut Input<'_>) -> u16 {
    match input.byte() {
        255 => input.word(),
        number => {
            let base = PORTS[usize::from(number) % PORTS.len()];
            base.wrapping_add(u16::from(number) / PORTS.len() as u16)
        }
    }
}

fn address(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.long(),
        1 => 0xfec0_0000 + u64::from(input.byte()),
        2 => 0xb000_0000 + (u64::from(input.word()) << 4),
        3 => 0xa_0000 + u64::from(input.word()),
        // BARs, as `use_all` places them.
        _ => {
            0xe000_0000
                + (u64::from(input.byte() % 16) << 20)
                + (u64::from(input.byte() % 6) << 16)
                + u64::from(input.word())
        }
    }
}

fn access(rig: &mut Rig, space: Space, at: u64, data: &[u8]) {
    let raised = rig.machine().map.load_full().write(space, at, data);
    for raised in raised {
        rig.act_on(&raised.source.id, raised.effect);
    }
}

fn read(rig: &mut Rig, space: Space, at: u64, len: usize) {
    let mut data = [0; 8];
    let map = rig.machine().map.load_full();
    map.read(space, at, &mut data[..len]);
}

/// The id of a PCI device, and its number among them.
fn function(rig: &mut Rig, input: &mut Input<'_>) -> Option<(String, u64)> {
    let number = usize::from(input.byte());
    let devices = &rig.machine().devices;
    let mut ids = devices.iter().filter(|device| device.devfn.is_some());
    let count = ids.clone().count().max(1);
    let device = ids.nth(number % count)?;
    Some((device.key.to_string(), (number % count) as u64))
}

fn config(rig: &mut Rig, input: &mut Input<'_>) {
    let Some((id, _)) = function(rig, input) else {
        return;
    };
    let offset = input.word() & 0xfff;
    let (bytes, len) = input.value();
    let len = len.min(4);
    let Some(found) = rig.machine().pci.find(&id) else {
        return;
    };
    let effect = lock(&found.function).config_write(offset & !(len as u16 - 1), &bytes[..len]);
    rig.act_on(&id, effect);
}

fn register(rig: &mut Rig, input: &mut Input<'_>) {
    let Some((id, _)) = function(rig, input) else {
        return;
    };
    let bar = [4, 0, 1, 2][usize::from(input.byte() % 4)];
    let offset = u64::from(input.word() & 0x3fff);
    let (mut bytes, len) = input.value();
    let is_read = input.byte() & 1 == 1;
    let Some(found) = rig.machine().pci.find(&id) else {
        return;
    };
    let shared = found.function.clone();
    if is_read {
        lock(&shared).bar_read(bar, offset, &mut bytes[..len]);
        return;
    }
    let effect = lock(&shared).bar_write(bar, offset, &bytes[..len]);
    rig.act_on(&id, effect);
}

/// A chain of descriptors in a ring, made available, and the kick for it.
fn chain(rig: &mut Rig, input: &mut Input<'_>) {
    let Some((id, number)) = function(rig, input) else {
        return;
    };
    let queue = u64::from(input.byte() % 4);
    let rings = RINGS + number * DEVICE_STEP + queue * QUEUE_STEP;
    let count = 1 + input.byte() % 4;
    let ram = rig.machine().ram.handle.memory();
    for index in 0..count {
        let kind = input.byte();
        let at = match kind & 12 {
            0 => input.long(),
            _ => 0x40_0000 + u64::from(input.word()),
        };
        let len = match kind & 16 {
            0 => u32::from(input.byte()),
            _ => u32::from(input.word()) << (kind >> 6),
        };
        // Mostly as a driver does it: there is a next one, up to the last.
        let linked = u16::from(index + 1 < count) ^ u16::from(kind & 32 == 32 && input.byte() == 0);
        let flags = linked | u16::from(kind & 3) << 1;
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&at.to_le_bytes());
        entry[8..12].copy_from_slice(&len.to_le_bytes());
        entry[12..14].copy_from_slice(&flags.to_le_bytes());
        entry[14..].copy_from_slice(&u16::from(index + 1).to_le_bytes());
        let _ = ram.write_slice(&entry, GuestAddress(rings + u64::from(index) * 16));
        let first = [input.byte(), input.byte(), 0, 0, input.byte(), 0, 0, 0];
        if at < 0x80_0000 {
            let _ = ram.write_slice(&first, GuestAddress(at));
        }
    }
    let available = GuestAddress(rings + 0x1002);
    let next: u16 = ram.read_obj(available).unwrap_or(0);
    let skipped = u16::from(input.byte() == 255) * input.word();
    let next = next.wrapping_add(1).wrapping_add(skipped);
    let _ = ram.write_obj(next, available);
    let Some(found) = rig.machine().pci.find(&id) else {
        return;
    };
    let shared = found.function.clone();
    let kick = 0x3000 + queue * 4;
    let effect = lock(&shared).bar_write(4, kick, &(queue as u16).to_le_bytes());
    rig.act_on(&id, effect);
}

fn come_or_go(rig: &mut Rig, input: &mut Input<'_>) {
    let what = input.byte();
    let comer = COMERS[usize::from(what) % COMERS.len()];
    if what & 128 == 0 {
        rig.try_plug(comer);
        return;
    }
    let Some((id, _)) = function(rig, input) else {
        return;
    };
    let _ = rig.machine().request_unplug(&id);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fuzzing_begins_with_does_no_harm() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/machine");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            machine(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 20, "{count} cases");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn no_guest_does_harm(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            machine(&data);
        }
    }
}
