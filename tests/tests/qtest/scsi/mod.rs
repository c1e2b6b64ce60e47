//! virtio-scsi by its rings (virtio 1.2, section 5.6).

mod changes;
mod commands;

use std::path::PathBuf;

use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, disk, iso};

const SLOT: u8 = 4;
const SECTORS: u64 = 2048;

/// Bytes of requests and answers without data.
const REQUEST: u32 = 51;
const ANSWER: u32 = 108;

const OK: u8 = 0;
const BAD_TARGET: u8 = 3;
const GOOD: u8 = 0;
const CHECK: u8 = 2;

/// A controller with a disk at target 0 and an optical drive at target 1, unit 2.
struct Bus {
    t: Qtest,
    device: Device,
    control: Queue,
    events: Queue,
    requests: Queue,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    response: u8,
    status: u8,
    /// Sense key, additional code, qualifier.
    sense: [u8; 3],
    data: Vec<u8>,
}

/// A request that runs.
struct Pending {
    head: u16,
    answer: u64,
    input: u64,
    length: u32,
}

impl Bus {
    fn start(controller: &str) -> Self {
        Self::start_with(controller, u64::MAX, &[])
    }

    /// With these features as far as they are offered, and these arguments besides.
    fn start_with(controller: &str, features: u64, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = disk::numbered(directory.path(), "disk.img", SECTORS);
        let iso = iso::file(directory.path(), "cd.iso", "TEST", "FILE.TXT", b"words");
        let builder = VmBuilder::new()
            .idle()
            .args(["-object", "iothread,id=io0"])
            .arg("-blockdev")
            .arg(format!("file,node-name=f,filename={}", path.display()))
            .arg("-blockdev")
            .arg(format!(
                "file,node-name=c,filename={},read-only=on",
                iso.display()
            ))
            .arg("-device")
            .arg(format!("virtio-scsi-pci,id=scsi0,addr=4.0{controller}"))
            .args(["-device", "scsi-hd,bus=scsi0.0,drive=f,serial=abc"])
            .args(["-device", "scsi-cd,drive=c,scsi-id=1,lun=2,id=cd0"]);
        let mut t = Qtest::start_with(builder, more);
        let mut device = Device::find(&mut t, SLOT);
        device.negotiate(&mut t, features);
        let control = device.queue(&mut t, 0, None);
        let events = device.queue(&mut t, 1, None);
        let requests = device.queue(&mut t, 2, None);
        device.drive(&mut t);
        Bus {
            t,
            device,
            control,
            events,
            requests,
            path,
            _directory: directory,
        }
    }

    /// One command; `data` goes to the device, `length` bytes come from it.
    fn command(&mut self, unit: (u8, u8), block: &[u8], data: &[u8], length: u32) -> Ended {
        let pending = self.put(unit, block, data, length);
        let (done, _) = self.requests.wait(&mut self.t);
        assert_eq!(done, pending.head);
        self.ended(&pending)
    }

    /// Puts a command into the ring.
    fn put(&mut self, (target, lun): (u8, u8), block: &[u8], data: &[u8], length: u32) -> Pending {
        let t = &mut self.t;
        let at = t.alloc(0x1000 + data.len() as u64 + u64::from(length));
        let (answer, out) = (at + 0x100, at + 0x200);
        let input = out + data.len() as u64;
        let mut request = vec![1, target, 0x40, lun];
        request.resize(19, 0);
        request.extend(block);
        request.resize(REQUEST as usize, 0);
        t.write(at, &request);
        t.write(answer, &[0xff; ANSWER as usize]);
        let mut chain = vec![(at, REQUEST, false)];
        if !data.is_empty() {
            t.write(out, data);
            chain.push((out, data.len() as u32, false));
        }
        chain.push((answer, ANSWER, true));
        if length > 0 {
            chain.push((input, length, true));
        }
        let head = self.requests.add(t, &chain);
        self.requests.kick(t);
        Pending {
            head,
            answer,
            input,
            length,
        }
    }

    /// The answer to a command that has ended.
    fn ended(&mut self, pending: &Pending) -> Ended {
        let t = &mut self.t;
        let head = t.read(pending.answer, ANSWER as usize);
        let residual = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let sense = match head[0] {
            0 => [0; 3],
            _ => [head[12 + 2], head[12 + 12], head[12 + 13]],
        };
        let got = match pending.length {
            0 => 0,
            length => length.saturating_sub(residual),
        };
        Ended {
            response: head[11],
            status: head[10],
            sense,
            data: t.read(pending.input, got as usize),
        }
    }

    /// Sets the controller up once more, after a reset.
    fn drive_again(&mut self) {
        self.device = Device::find(&mut self.t, SLOT);
        self.device.negotiate(&mut self.t, u64::MAX);
        self.control = self.device.queue(&mut self.t, 0, None);
        self.events = self.device.queue(&mut self.t, 1, None);
        self.requests = self.device.queue(&mut self.t, 2, None);
        self.device.drive(&mut self.t);
    }

    fn read(&mut self, unit: (u8, u8), block: &[u8], length: u32) -> Vec<u8> {
        let ended = self.command(unit, block, &[], length);
        assert_eq!((ended.response, ended.status), (OK, GOOD), "{ended:?}");
        ended.data
    }

    /// After power-on each unit has something to tell.
    fn settle(&mut self, unit: (u8, u8)) {
        let ended = self.command(unit, &[0; 6], &[], 0);
        assert_eq!(ended.status, CHECK);
        assert_eq!(ended.sense[..2], [6, 0x29]);
        assert_eq!(self.command(unit, &[0; 6], &[], 0).status, GOOD);
    }
}

const DISK: (u8, u8) = (0, 0);
const CD: (u8, u8) = (1, 2);

fn ten(code: u8, lba: u8, blocks: u8) -> [u8; 10] {
    [code, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}
