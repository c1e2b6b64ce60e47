//! Several queues and several units under load, while media are exchanged, units are reset and
//! change, and the machine stops and goes on: each request ends, once, and as it should.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use block::{AttachOptions, BackendName, DriveOptions, Graph, NullSpec, Sharing, Slot, WriteCache};

use super::*;
use crate::scsi::{Force, Media, Moved};
use crate::virtio::blk_test::{attach, dir, file_spec, image, null, opener, pool, small};

const SLOTS: u64 = 24;
/// Bytes of a slot's data.
const ROOM: u64 = 0x1000;
/// How often the medium is another one.
const MEDIA: u32 = 25;
/// Requests at least.
const REQUESTS: u32 = 3000;

const DISK: (u8, u16) = (0, 0);
const NULL: (u8, u16) = (0, 1);
const CD: (u8, u16) = (1, 0);

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

/// What a slot waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A write of blocks full of this to the slot's own place on the disk.
    Write(u8),
    /// A read from there.
    Read,
    /// Something of the disk that reads and writes nothing.
    Null,
    /// A block of the medium.
    Medium,
    /// What happened to the medium.
    Event,
    /// Anything else of the drive.
    Tray,
}

/// The guest's side.
struct Load<'a> {
    bench: Bench<'a>,
    dice: Dice,
    waiting: Vec<Option<Kind>>,
    /// What each slot's place on the disk holds.
    written: Vec<u8>,
    /// Requests by the heads of their chains, for each ring.
    heads: [std::collections::HashMap<u16, u64>; 3],
    ended: u32,
    media_seen: u32,
    /// The monitor wants the medium, and the drive is locked.
    asked: bool,
}

impl<'a> Load<'a> {
    fn new(bench: Bench<'a>) -> Self {
        Load {
            bench,
            dice: Dice(7),
            waiting: vec![None; SLOTS as usize],
            written: vec![0; SLOTS as usize],
            heads: Default::default(),
            ended: 0,
            media_seen: 0,
            asked: false,
        }
    }

    fn ring(&mut self, at: usize) -> &mut Ring {
        match at {
            0 => &mut self.bench.requests,
            at => &mut self.bench.more[at - 1],
        }
    }

    fn free_slot(&self) -> Option<u64> {
        let free = self.waiting.iter().position(Option::is_none);
        free.map(|slot| slot as u64)
    }

    fn put(&mut self, slot: u64, unit: (u8, u16), kind: Kind, block: &[u8], data: &[Buffer]) {
        (self.bench.target, self.bench.lun) = unit;
        let chain = self.bench.request_at(slot, block, data);
        let at = self.dice.below(3) as usize;
        let guest = self.bench.guest;
        let ring = self.ring(at);
        let head = ring.add(guest, &chain);
        let ring = ring.clone();
        assert_eq!(self.heads[at].insert(head, slot), None);
        self.waiting[slot as usize] = Some(kind);
        self.bench.driver.kick(&ring);
    }

    fn begin(&mut self, slot: u64) {
        let (at, dice) = (DATA + ROOM * slot, self.dice.below(12));
        let lba = slot as u32 * 8;
        match dice {
            0..3 => {
                let byte = self.dice.below(250) as u8 + 1;
                self.bench.guest.write(at, &[byte; ROOM as usize]);
                let data = [Buffer::Out(at, ROOM as u32)];
                self.put(slot, DISK, Kind::Write(byte), &ten(0x2a, lba, 8), &data);
            }
            3..6 => {
                self.bench.guest.write(at, &[0xff; ROOM as usize]);
                let data = [Buffer::In(at, ROOM as u32)];
                self.put(slot, DISK, Kind::Read, &ten(0x28, lba, 8), &data);
            }
            6 => self.put(slot, NULL, Kind::Null, &ten(0x35, 0, 0), &[]),
            7 => {
                let data = [Buffer::In(at, ROOM as u32)];
                self.put(slot, NULL, Kind::Null, &ten(0x28, lba, 8), &data);
            }
            8..10 => {
                self.bench.guest.write(at, &[0xff; 2048]);
                let data = [Buffer::In(at, 2048)];
                self.put(slot, CD, Kind::Medium, &ten(0x28, lba, 1), &data);
            }
            10 => {
                let poll = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];
                self.put(slot, CD, Kind::Event, &poll, &[Buffer::In(at, 8)]);
            }
            _ => {
                // It is locked, and unlocked when somebody wants the medium.
                let block = match (std::mem::take(&mut self.asked), self.dice.below(2)) {
                    (true, _) => [0x1e, 0, 0, 0, 0, 0],
                    (false, 0) => [0x1e, 0, 0, 0, 1, 0],
                    (false, _) => [0; 6],
                };
                self.put(slot, CD, Kind::Tray, &block, &[]);
            }
        }
    }

    /// Looks at what has ended.
    fn look(&mut self) {
        for at in 0..3 {
            let guest = self.bench.guest;
            while let Some((head, written)) = self.ring(at).take_used(guest) {
                let slot = self.heads[at]
                    .remove(&(head as u16))
                    .expect("one that runs");
                let kind = self.waiting[slot as usize].take().expect("one that runs");
                self.check(slot, kind, self.bench.ended_at(slot, written));
                self.ended += 1;
            }
        }
    }

    fn check(&mut self, slot: u64, kind: Kind, ended: Ended) {
        let at = DATA + ROOM * slot;
        let good = ended.outcome() == GOOD;
        let attention = ended.status == 2 && ended.sense.0 == 6;
        match kind {
            Kind::Write(byte) if good => self.written[slot as usize] = byte,
            Kind::Read if good => {
                let expected = self.written[slot as usize];
                let got = self.bench.guest.read(at, ROOM as usize);
                assert_eq!(got, [expected; ROOM as usize], "slot {slot}");
            }
            Kind::Write(_) | Kind::Read => assert_eq!(ended.sense, (6, 0x2a, 9), "{ended:?}"),
            Kind::Null => assert!(good || attention || ended.response == RESET, "{ended:?}"),
            Kind::Medium if good => {
                let got = self.bench.guest.read(at, 2048);
                assert!(got == [b'A'; 2048] || got == [b'B'; 2048], "{got:x?}");
                self.media_seen += 1;
            }
            Kind::Event => {
                assert!(good, "{ended:?}");
                self.asked |= self.bench.guest.read(at + 4, 1)[0] & 0xf == 1;
            }
            Kind::Medium | Kind::Tray => {
                // No medium; it was taken out; there is another one.
                let expected = [(2, 0x3a), (6, 0x3a), (6, 0x28)];
                let (key, code, _) = ended.sense;
                assert!(good || expected.contains(&(key, code)), "{ended:?}");
                // The unlocking may have been what told of another medium.
                self.asked |= kind == Kind::Tray && self.bench.locked();
            }
        }
    }

    /// Now and then something happens besides.
    fn disturb(&mut self) {
        match self.dice.below(60) {
            0 => self.bench.unit(DISK).capacity_changed(),
            1 => {
                // LOGICAL UNIT RESET.
                (self.bench.target, self.bench.lun) = NULL;
                assert_eq!(self.bench.tmf(5, 0), OK);
            }
            2 => {
                self.bench.driver.carry_out(Effect::StopQueues);
                self.look();
                assert!(self.waiting.iter().all(|kind| kind.is_none()), "all ended");
                self.bench.driver.carry_out(Effect::StartQueues);
            }
            _ => {}
        }
    }
}

impl Bench<'_> {
    fn unit(&self, (target, lun): (u8, u16)) -> Arc<Unit> {
        let units = self.bus.units();
        let place = crate::scsi::Place { target, lun };
        units
            .into_iter()
            .find(|unit| unit.place() == place)
            .unwrap()
    }

    /// The guest keeps the drive shut although somebody asked for the medium.
    fn locked(&self) -> bool {
        let unit = self.unit(CD);
        let tray = unit.media().unwrap().tray();
        tray.locked && tray.eject_asked
    }
}

/// A drive without a medium, and two media for it.
fn drive(dir: &std::path::Path) -> (Graph, Arc<Attachment>, Slot) {
    let graph = Graph::new(pool());
    for name in ["A", "B"] {
        let path = dir.join(name);
        std::fs::write(&path, name.repeat(1 << 20)).unwrap();
        let mut spec = file_spec(&path, block::Aio::Threads, false);
        spec.name = Some(name.into());
        spec.read_only = Some(true);
        graph.add(spec, &mut opener).unwrap();
    }
    let write_cache = WriteCache::Back;
    graph
        .add_drive("cd", None, DriveOptions { write_cache }, &mut opener)
        .unwrap();
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: true,
    };
    let path = "/machine/peripheral/cd";
    let attached = graph.attach_removable(Some("cd"), path, options).unwrap();
    let slot = graph.slot(BackendName::Drive("cd")).unwrap();
    (graph, Arc::new(attached), slot)
}

/// The monitor's side: another medium, again and again, as soon as the guest gives the old one.
fn exchange(media: &Media, slot: &Slot) {
    for round in 0..MEDIA {
        while media.open_tray(Force::No).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let quiet = slot.drain();
        drop(slot.take_out(&quiet).unwrap());
        let name = if round % 2 == 0 { "A" } else { "B" };
        slot.put_in(name, &quiet).unwrap();
        drop(quiet);
        assert_eq!(media.close_tray(), Moved::Closed);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn no_request_is_lost_while_all_changes() {
    let dir = dir();
    let path = image(&dir);
    std::fs::write(&path, vec![0; 4 << 20]).unwrap();
    let (_disk, disk) = attach(
        file_spec(&path, block::Aio::Threads, false),
        WriteCache::Back,
    );
    let slow = null(NullSpec {
        latency_ns: 300_000,
        ..small()
    });
    let (_media, cd, slot) = drive(dir.path());
    let guest = FakeGuest::new();
    let bench = Bench::cold(&guest, ",num_queues=3", u64::MAX, |bus| {
        add_hd(&guest, bus, "disk", &disk, ",scsi-id=0,lun=0");
        add_hd(&guest, bus, "null", &slow, ",scsi-id=0,lun=1");
        add_cd(&guest, bus, "cd", Some(&cd));
    });
    let mut load = Load::new(bench);
    for unit in [DISK, NULL, CD] {
        (load.bench.target, load.bench.lun) = unit;
        load.bench.ready();
    }
    let media = load.bench.unit(CD).media().unwrap().clone();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            exchange(&media, &slot);
            over.store(true, Ordering::Release);
        });
        while load.ended < REQUESTS || !over.load(Ordering::Acquire) {
            while let Some(slot) = load.free_slot() {
                load.begin(slot);
            }
            load.disturb();
            guest.thread.run_until(|| true);
            guest.thread.run();
            load.look();
        }
    });
    load.bench.driver.carry_out(Effect::StopQueues);
    load.look();
    assert!(load.waiting.iter().all(Option::is_none));
    assert!(load.media_seen > 0);
    let data = std::fs::read(&path).unwrap();
    for (slot, byte) in load.written.iter().enumerate() {
        assert!(data[slot * 4096..][..4096].iter().all(|b| b == byte));
    }
}
