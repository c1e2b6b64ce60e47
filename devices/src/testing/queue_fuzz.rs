//! What a fuzz target does with the virtio devices: a driver that does anything, in any order. Nothing of that may
//! panic or hang, and a reset makes the device good.

use std::sync::{Arc, Mutex};

use api_spec::{DeviceDriver, DeviceOptions};
use block::{
    AttachOptions, Attachment, DriveOptions, DriverSpec, Graph, NodeSpec, NullSpec, Pool, Sharing,
    WriteCache,
};

use super::input::Input;
use super::{Driver, FakeChar, FakeGuest, Ring};
use crate::backend::rng::BuiltinEntropy;
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::scsi;
use crate::virtio::{VirtioPci, balloon, blk, layout, rng, scsi as scsi_controller, serial};

/// Where the rings are; each has as many bytes.
const RINGS: u64 = 0x10_0000;
const RING_STEP: u64 = 0x1000;
const SIZE: u16 = 16;
/// Rings that a run uses of those that the device has.
const MOST_RINGS: u16 = 8;
/// Where buffers are, mostly.
const DATA: u64 = 0x2_0000;
const DATA_LEN: u64 = 0x2_0000;
/// Bytes of a disk.
const DISK: u64 = 4 << 20;
/// Steps of one run.
const MOST_STEPS: usize = 200;

/// A device, and what it needs to go on working.
struct Subject {
    function: Arc<Mutex<VirtioPci>>,
    host: FakeChar,
    _kept: Box<dyn std::any::Any>,
}

fn options(text: &str) -> DeviceDriver {
    let flags = api_spec::keyval::Flags::Refused;
    let options: DeviceOptions =
        api_spec::keyval::decode_keyval(text, Some("driver"), flags).expect("options");
    options.driver
}

fn disk() -> (Graph, Arc<Attachment>) {
    let spawner: block::Spawner = Arc::new(|name, body| {
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder.spawn(body).map(drop)
    });
    let graph = Graph::new(Pool::new(spawner, 1));
    let node = NodeSpec::new(DriverSpec::Null(NullSpec {
        size: DISK,
        ..NullSpec::default()
    }));
    let cache = DriveOptions {
        write_cache: WriteCache::Back,
    };
    let closed = &mut |_: &str, _| Err(std::io::Error::other("no files"));
    graph
        .add_drive("d", Some(node), cache, closed)
        .expect("a drive");
    let how = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    let attached = graph.attach("d", "/machine/peripheral/d", how);
    (graph, Arc::new(attached.expect("a back end")))
}

/// The device of that number.
fn subject(number: u8, guest: &FakeGuest) -> Subject {
    let host = FakeChar::open();
    let mut cx: BuildCx = guest.cx("d");
    let (function, kept): (VirtioPci, Box<dyn std::any::Any>) = match number % 5 {
        0 => {
            cx.entropy = Some(Arc::new(BuiltinEntropy));
            let DeviceDriver::VirtioRngPci(props) = options("virtio-rng-pci") else {
                panic!("another driver");
            };
            (rng::build(&props, &cx).expect("a device"), Box::new(()))
        }
        1 => {
            let (graph, node) = disk();
            cx.node = Some(node);
            let DeviceDriver::VirtioBlkPci(props) = options("virtio-blk-pci,num-queues=2") else {
                panic!("another driver");
            };
            (blk::build(&props, &cx).expect("a device"), Box::new(graph))
        }
        2 => {
            let (graph, node) = disk();
            let DeviceDriver::VirtioScsiPci(props) = options("virtio-scsi-pci,num_queues=2") else {
                panic!("another driver");
            };
            let (function, bus) = scsi_controller::build(&props, &cx).expect("a device");
            let DeviceDriver::ScsiHd(props) = options("scsi-hd") else {
                panic!("another driver");
            };
            let mut inner = guest.cx("u");
            inner.node = Some(node);
            let unit = scsi::plug_disk(&props, &bus, inner).expect("a unit");
            (function, Box::new((graph, bus, unit)))
        }
        3 => {
            let DeviceDriver::VirtioSerialPci(props) = options("virtio-serial-pci,max_ports=3")
            else {
                panic!("another driver");
            };
            let (function, bus) = serial::build(&props, &cx).expect("a device");
            let DeviceDriver::Virtserialport(props) = options("virtserialport,nr=1,name=x") else {
                panic!("another driver");
            };
            let chardev = Some(host.frontend());
            bus.add_port((&props).into(), chardev, Some("p"), guest.cx("").effects)
                .expect("a port");
            (function, Box::new(bus))
        }
        _ => {
            let text = "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on";
            let DeviceDriver::VirtioBalloonPci(props) = options(text) else {
                panic!("another driver");
            };
            let (function, face) = balloon::build(&props, &cx).expect("a device");
            (function, Box::new(face))
        }
    };
    Subject {
        function: Arc::new(Mutex::new(function)),
        host,
        _kept: kept,
    }
}

struct Bench<'a> {
    guest: &'a FakeGuest,
    driver: Driver<'a>,
    host: FakeChar,
    rings: Vec<Ring>,
}

impl Bench<'_> {
    fn start(&mut self, features: u64) {
        self.driver.negotiate(features);
        self.rings = (0..self.driver.common16(0x12).min(MOST_RINGS))
            .zip((RINGS..).step_by(RING_STEP as usize))
            .map(|(index, at)| self.driver.queue(index, at, SIZE))
            .collect();
        self.driver.go();
    }

    fn ring(&mut self, number: u8) -> &mut Ring {
        let count = self.rings.len();
        &mut self.rings[usize::from(number) % count]
    }

    fn kick(&mut self, number: u8) {
        let index = u64::from(self.ring(number).index);
        self.driver
            .write(layout::NOTIFY + index * layout::NOTIFY_STEP, &[0, 0]);
    }

    fn step(&mut self, input: &mut Input) {
        let guest = self.guest;
        match input.byte() % 12 {
            0..=4 => {
                let number = input.byte();
                let count = 1 + number / 64;
                let buffers: Vec<_> = (0..count).map(|_| input.buffer(DATA, DATA_LEN)).collect();
                let table = DATA + u64::from(input.word() & 0xfff0);
                match number & 32 {
                    0 => self.ring(number).add(guest, &buffers),
                    _ => self.ring(number).add_indirect(guest, table, &buffers),
                };
                self.kick(number);
            }
            5 | 6 => {
                let at = DATA + u64::from(input.word());
                guest.write(at, &input.bytes(512));
            }
            7 => {
                // Into the rings themselves.
                let at = RINGS + u64::from(input.word()) % (8 * RING_STEP);
                guest.write(at, &input.bytes(16));
                self.kick(input.byte());
            }
            8 => match input.byte() % 3 {
                0 => guest.thread.pass_timeouts(),
                1 => self.host.send(&input.bytes(2000)),
                _ => self.host.set_open(input.byte() & 1 != 0),
            },
            9 => {
                let at = u64::from(input.byte());
                self.driver.write(layout::DEVICE + at, &input.bytes(8));
            }
            10 => {
                self.driver.carry_out(Effect::StopQueues);
                self.driver.carry_out(Effect::StartQueues);
            }
            _ => self.start(input.long()),
        }
        guest.thread.run();
    }
}

/// Lets `data` decide which device there is, and what its driver does.
///
/// # Panics
/// When the device fails.
pub fn virtio_queues(data: &[u8]) {
    let mut input = Input::new(data);
    let guest = FakeGuest::new();
    let Subject {
        function,
        host,
        _kept: kept,
    } = subject(input.byte(), &guest);
    let mut bench = Bench {
        guest: &guest,
        driver: Driver::from_shared(&guest, function),
        host,
        rings: Vec::new(),
    };
    bench.start(input.long());
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
    }
    // A driver that keeps the rules finds it as new.
    bench.start(u64::MAX);
    assert_eq!(bench.driver.status() & 0x40, 0, "it needs a reset");
    drop(kept);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fuzzing_begins_with_does_no_harm() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/corpus/virtio_queues"
        );
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            virtio_queues(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 10, "{count} cases");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_driver_does_harm(data in proptest::collection::vec(any::<u8>(), 0..500)) {
            virtio_queues(&data);
        }
    }
}
