//! The controller and its units under the fake guest.

mod commands;
mod device;
mod failures;
mod load;
mod tasks;

use std::sync::Arc;

use api_spec::{DeviceDriver, ScsiCdProps, ScsiHdProps, VirtioScsiPciProps};
use block::Attachment;

use super::build;
use crate::effect::Effect;
use crate::scsi::{ScsiBus, Unit, plug_cd, plug_disk};
use crate::testing::{Buffer, Driver, FakeGuest, Ring};
use crate::virtio::common::status;

const REQUEST: u64 = 0x8000;
const ANSWER: u64 = 0x9000;
const TMF: u64 = 0xa000;
const DATA: u64 = 0x10_0000;

const OK: u8 = 0;
const OVERRUN: u8 = 1;
const ABORTED: u8 = 2;
const BAD_TARGET: u8 = 3;
const RESET: u8 = 4;
const FAILURE: u8 = 9;

fn options(text: &str) -> DeviceDriver {
    let flags = api_spec::keyval::Flags::Refused;
    let options: api_spec::DeviceOptions =
        api_spec::keyval::decode_keyval(text, Some("driver"), flags).unwrap();
    options.driver
}

fn controller(text: &str) -> VirtioScsiPciProps {
    match options(&format!("virtio-scsi-pci{text}")) {
        DeviceDriver::VirtioScsiPci(props) => props,
        other => panic!("{other:?}"),
    }
}

fn hd(text: &str) -> ScsiHdProps {
    match options(&format!("scsi-hd{text}")) {
        DeviceDriver::ScsiHd(props) => props,
        other => panic!("{other:?}"),
    }
}

fn cd(text: &str) -> ScsiCdProps {
    match options(&format!("scsi-cd{text}")) {
        DeviceDriver::ScsiCd(props) => props,
        other => panic!("{other:?}"),
    }
}

fn add_hd(
    guest: &FakeGuest,
    bus: &ScsiBus,
    id: &str,
    node: &Arc<Attachment>,
    text: &str,
) -> Arc<Unit> {
    let mut cx = guest.cx(id);
    cx.node = Some(node.clone());
    plug_disk(&hd(text), bus, cx).unwrap()
}

fn add_cd(guest: &FakeGuest, bus: &ScsiBus, id: &str, node: Option<&Arc<Attachment>>) -> Arc<Unit> {
    let mut cx = guest.cx(id);
    cx.node = node.cloned();
    plug_cd(&cd(""), bus, cx).unwrap()
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    response: u8,
    status: u8,
    /// Sense key, additional code, qualifier; zeroes without sense data.
    sense: (u8, u8, u8),
    residual: u32,
    /// Bytes that the device says it wrote.
    written: u32,
}

const GOOD: (u8, u8, (u8, u8, u8)) = (OK, 0, (0, 0, 0));

impl Ended {
    fn outcome(&self) -> (u8, u8, (u8, u8, u8)) {
        (self.response, self.status, self.sense)
    }

    fn check(key: u8, asc: u8, ascq: u8) -> (u8, u8, (u8, u8, u8)) {
        (OK, 2, (key, asc, ascq))
    }
}

/// A controller with a driver that is ready.
struct Bench<'a> {
    guest: &'a FakeGuest,
    driver: Driver<'a>,
    bus: Arc<ScsiBus>,
    control: Ring,
    events: Ring,
    requests: Ring,
    /// Request queues beside the first one.
    more: Vec<Ring>,
    target: u8,
    lun: u16,
    tag: u64,
}

impl<'a> Bench<'a> {
    fn new(guest: &'a FakeGuest, plug: impl FnOnce(&ScsiBus)) -> Self {
        let mut bench = Self::cold(guest, "", u64::MAX, plug);
        // Power-on is told once to each unit.
        for unit in bench.bus.units() {
            (bench.target, bench.lun) = (unit.place().target, unit.place().lun);
            let first = bench.command(&[0; 6], &[]);
            assert_eq!(first.outcome(), Ended::check(6, 0x29, 0));
        }
        (bench.target, bench.lun) = (0, 0);
        bench
    }

    /// Nothing was told to the driver yet.
    fn cold(guest: &'a FakeGuest, text: &str, features: u64, plug: impl FnOnce(&ScsiBus)) -> Self {
        let (function, bus) = build(&controller(text), &guest.cx("scsi0")).unwrap();
        plug(&bus);
        let mut driver = Driver::new(guest, function);
        driver.negotiate(features);
        let control = driver.queue(0, 0x1000, 16);
        let events = driver.queue(1, 0x2000, 16);
        let requests = driver.queue(2, 0x3000, 64);
        let count = u32::from_le_bytes(driver.config(0)) as u16;
        let more = (1..count).map(|n| driver.queue(2 + n, 0x3000 + 0x1000 * u64::from(n), 64));
        let more = more.collect();
        driver.go();
        Bench {
            guest,
            driver,
            bus,
            control,
            events,
            requests,
            more,
            target: 0,
            lun: 0,
            tag: 1,
        }
    }

    fn address(&self) -> [u8; 8] {
        let [high, low] = self.lun.to_be_bytes();
        [1, self.target, 0x40 | high, low, 0, 0, 0, 0]
    }

    /// Puts a request at `slot` of guest memory; the chain that it is.
    fn request_at(&mut self, slot: u64, block: &[u8], data: &[Buffer]) -> Vec<Buffer> {
        let (at, answer) = (REQUEST + 0x40 * slot, ANSWER + 0x80 * slot);
        let mut request = self.address().to_vec();
        request.extend(self.tag.to_le_bytes());
        request.extend([0; 3]);
        request.extend(block);
        request.resize(51, 0);
        self.tag += 1;
        self.guest.write(at, &request);
        self.guest.write(answer, &[0xff; 108]);
        let out = data.iter().filter(|b| matches!(b, Buffer::Out(..)));
        let incoming = data.iter().filter(|b| matches!(b, Buffer::In(..)));
        let mut chain = vec![Buffer::Out(at, 51)];
        chain.extend(out);
        chain.push(Buffer::In(answer, 108));
        chain.extend(incoming);
        chain
    }

    fn ended_at(&self, slot: u64, written: u32) -> Ended {
        let answer = self.guest.read(ANSWER + 0x80 * slot, 108);
        let word = |at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
        let sense = &answer[12..];
        Ended {
            response: answer[11],
            status: answer[10],
            sense: match word(0) {
                0 => (0, 0, 0),
                len => {
                    assert_eq!((len, sense[0]), (18, 0x70));
                    (sense[2], sense[12], sense[13])
                }
            },
            residual: word(4),
            written,
        }
    }

    fn command(&mut self, block: &[u8], data: &[Buffer]) -> Ended {
        let chain = self.request_at(0, block, data);
        let written = self.driver.request(&mut self.requests, &chain);
        self.ended_at(0, written)
    }

    #[track_caller]
    fn read(&mut self, block: &[u8], len: u32) -> Vec<u8> {
        self.guest.write(DATA, &vec![0xee; len as usize]);
        let ended = self.command(block, &[Buffer::In(DATA, len)]);
        assert_eq!(ended.outcome(), GOOD);
        let got = len - ended.residual;
        assert_eq!(ended.written, 108 + got);
        self.guest.read(DATA, got as usize)
    }

    fn write(&mut self, block: &[u8], data: &[u8]) -> Ended {
        self.guest.write(DATA, data);
        self.command(block, &[Buffer::Out(DATA, data.len() as u32)])
    }

    fn ready(&mut self) -> (u8, u8, (u8, u8, u8)) {
        self.command(&[0; 6], &[]).outcome()
    }

    /// Task management; its response.
    fn tmf(&mut self, function: u32, tag: u64) -> u8 {
        let chain = self.tmf_chain(function, tag);
        self.driver.request(&mut self.control, &chain);
        self.guest.read(TMF + 0x40, 1)[0]
    }

    fn tmf_chain(&mut self, function: u32, tag: u64) -> Vec<Buffer> {
        let mut request = 0u32.to_le_bytes().to_vec();
        request.extend(function.to_le_bytes());
        request.extend(self.address());
        request.extend(tag.to_le_bytes());
        self.guest.write(TMF, &request);
        self.guest.write(TMF + 0x40, &[0xff]);
        vec![Buffer::Out(TMF, 24), Buffer::In(TMF + 0x40, 1)]
    }

    fn broken(&self) -> bool {
        self.driver.status() & status::NEEDS_RESET != 0
    }

    fn close(self) {
        self.driver.carry_out(Effect::StopQueues);
    }
}

/// READ(10) or WRITE(10) and the like: block and number of blocks.
fn ten(code: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let [a, b, c, d] = lba.to_be_bytes();
    let [high, low] = blocks.to_be_bytes();
    [code, 0, a, b, c, d, 0, high, low, 0]
}
