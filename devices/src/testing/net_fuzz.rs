//! What a fuzz target does with an interface: its driver and its network do anything, in any order.
//! Nothing of that may panic or hang, and a reset makes the interface good.

use api_spec::{DeviceDriver, DeviceOptions};

use super::input::Input;
use super::{Buffer, Driver, FakeGuest, Ring, Wire, wire};
use crate::backend::net::{NetTraits, Netdev, NetdevOptions, Nic, Offloads};
use crate::effect::Effect;
use crate::virtio::{layout, net};

/// Where the rings are; each has as many bytes.
const RINGS: u64 = 0x1_0000;
const RING_STEP: u64 = 0x1000;
const SIZE: u16 = 16;
/// Where buffers are, mostly.
const DATA: u64 = 0x2_0000;
const DATA_LEN: u64 = 0x2_0000;
/// Steps of one run.
const MOST_STEPS: usize = 200;

struct Bench<'a> {
    guest: &'a FakeGuest,
    driver: Driver<'a>,
    nic: std::sync::Arc<dyn Nic>,
    wires: Vec<Wire>,
    rings: Vec<Ring>,
}

impl Bench<'_> {
    fn start(&mut self, features: u64) {
        self.driver.negotiate(features);
        let rings = RINGS..;
        self.rings = (0..self.driver.common16(0x12))
            .zip(rings.step_by(RING_STEP as usize))
            .map(|(index, at)| self.driver.queue(index, at, SIZE))
            .collect();
        self.driver.go();
    }

    fn ring(&mut self, number: u8) -> &mut Ring {
        let count = self.rings.len();
        &mut self.rings[usize::from(number) % count]
    }

    fn step(&mut self, input: &mut Input) {
        let guest = self.guest;
        match input.byte() % 12 {
            0..=3 => {
                let number = input.byte();
                let buffers: Vec<_> = (0..1 + number / 64)
                    .map(|_| input.buffer(DATA, DATA_LEN))
                    .collect();
                let table = DATA + u64::from(input.word() & 0xfff0);
                match number & 32 {
                    0 => self.ring(number).add(guest, &buffers),
                    _ => self.ring(number).add_indirect(guest, table, &buffers),
                };
                self.kick(number);
            }
            4 => {
                let at = DATA + u64::from(input.word());
                let bytes = input.bytes(512);
                guest.write(at, &bytes);
            }
            5 => {
                // Into the rings themselves.
                let at = RINGS + u64::from(input.word()) % (8 * RING_STEP);
                let bytes = input.bytes(16);
                guest.write(at, &bytes);
                self.kick(input.byte());
            }
            6 | 7 => {
                let number = usize::from(input.byte()) % self.wires.len();
                self.wires[number].offer(&input.bytes(5000));
            }
            8 => guest.thread.pass_timeouts(),
            9 => match input.byte() % 4 {
                0 => self.nic.announce(),
                up => self.nic.set_link(up > 1),
            },
            10 => {
                self.driver.carry_out(Effect::StopQueues);
                self.driver.carry_out(Effect::StartQueues);
            }
            _ => self.start(input.long()),
        }
        guest.thread.run();
        for wire in &self.wires {
            while wire.receive().is_some() {}
        }
    }

    fn kick(&mut self, number: u8) {
        let index = u64::from(self.ring(number).index);
        self.driver
            .write(layout::NOTIFY + index * layout::NOTIFY_STEP, &[0, 0]);
    }
}

/// Lets `data` decide what driver and network do.
///
/// # Panics
/// When the interface fails.
pub fn virtio_net(data: &[u8]) {
    let mut input = Input::new(data);
    let guest = FakeGuest::new();
    let header = input.byte() & 1 != 0;
    let (ports, wires) = (0..2).map(|_| wire()).unzip();
    let netdev = Netdev::new(NetdevOptions {
        id: "n".into(),
        kind: "test",
        description: String::new(),
        traits: NetTraits {
            header,
            offloads: Offloads {
                csum: true,
                tso4: true,
                ..Offloads::default()
            },
        },
        ports,
        vhost: None,
        link_up: true,
    });
    let mut cx = guest.cx("net0");
    cx.netdev = netdev.attach();
    let (function, nic) = net::build(&props(), &mut cx).expect("an interface");
    let mut bench = Bench {
        guest: &guest,
        driver: Driver::new(&guest, function),
        nic,
        wires,
        rings: Vec::new(),
    };
    bench.start(input.long());
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
    }
    // Now a driver that keeps the rules.
    bench.nic.set_link(true);
    bench.start(u64::MAX);
    let mut ring = bench.rings[1].clone();
    let at = DATA;
    guest.write(at, &[0x5a; 100]);
    bench.driver.request(&mut ring, &[Buffer::Out(at, 100)]);
    let got = bench.wires[0].receive().expect("a frame");
    assert_eq!(got.len(), if header { 100 } else { 88 });
}

fn props() -> api_spec::VirtioNetPciProps {
    let flags = api_spec::keyval::Flags::Refused;
    let text = "virtio-net-pci,mq=on";
    let options: DeviceOptions =
        api_spec::keyval::decode_keyval(text, Some("driver"), flags).expect("options");
    match options.driver {
        DeviceDriver::VirtioNetPci(props) => props,
        other => panic!("{other:?}"),
    }
}
