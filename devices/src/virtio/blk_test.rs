//! A disk under the fake guest, on files with each engine and on null nodes.

mod device;
pub(super) mod failures;
mod requests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_spec::{DeviceDriver, VirtioBlkPciProps};
use block::{
    Aio, AttachOptions, Attachment, ChildSpec, Discard, DriveOptions, DriverSpec, FileSpec, Graph,
    Locking, NodeSpec, NullSpec, Pool, RawWindow, Sharing, WriteCache,
};
use tempfile::TempDir;

use super::blk::build;
use super::common::status;
use crate::testing::{Buffer, Driver, FakeGuest, Ring};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

const HEADER: u64 = 0x8000;
const STATUS: u64 = 0x9000;
const DATA: u64 = 0x10_0000;

pub(super) const SIZE: u64 = 4 << 20;

pub(super) fn opener(path: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(flags & libc::O_ACCMODE == libc::O_RDWR)
        .custom_flags(flags & !libc::O_ACCMODE)
        .open(path)
}

pub(super) fn pool() -> Pool {
    let spawner: block::Spawner = Arc::new(|name, body| {
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder.spawn(body).map(drop)
    });
    Pool::new(spawner, 4)
}

fn props(change: impl FnOnce(&mut VirtioBlkPciProps)) -> VirtioBlkPciProps {
    let flags = api_spec::keyval::Flags::Refused;
    let options: api_spec::DeviceOptions =
        api_spec::keyval::decode_keyval("virtio-blk-pci", Some("driver"), flags).unwrap();
    let DeviceDriver::VirtioBlkPci(mut props) = options.driver else {
        panic!("another driver");
    };
    change(&mut props);
    props
}

/// A directory beside the test program: unlike /tmp, a file system with direct I/O.
pub(super) fn dir() -> TempDir {
    TempDir::new_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
}

pub(super) fn image(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("a.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    path
}

pub(super) fn file_spec(path: &Path, aio: Aio, direct: bool) -> NodeSpec {
    let file = NodeSpec::new(DriverSpec::File(FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio,
        locking: Locking::Auto,
    }));
    let mut spec = NodeSpec::new(DriverSpec::Raw {
        file: Box::new(ChildSpec::Inline(file)),
        window: RawWindow::default(),
        probed: false,
    });
    spec.direct = Some(direct);
    spec.discard = Some(Discard::Unmap);
    spec
}

pub(super) fn attach(spec: NodeSpec, write_cache: WriteCache) -> (Graph, Arc<Attachment>) {
    let graph = Graph::new(pool());
    let options = DriveOptions { write_cache };
    graph
        .add_drive("d", Some(spec), options, &mut opener)
        .unwrap();
    let options = AttachOptions {
        sharing: Sharing::Exclusive,
        read_only: false,
    };
    let attachment = graph.attach("d", "/machine/peripheral/d", options).unwrap();
    (graph, Arc::new(attachment))
}

pub(super) fn null(spec: NullSpec) -> Arc<Attachment> {
    attach(NodeSpec::new(DriverSpec::Null(spec)), WriteCache::Back).1
}

pub(super) fn small() -> NullSpec {
    NullSpec {
        size: SIZE,
        ..NullSpec::default()
    }
}

/// A disk that is ready, with its first queue.
struct Disk<'a> {
    guest: &'a FakeGuest,
    driver: Driver<'a>,
    ring: Ring,
}

impl<'a> Disk<'a> {
    fn new(guest: &'a FakeGuest, node: &Arc<Attachment>) -> Self {
        Self::with(guest, node, props(|_| {}), u64::MAX)
    }

    fn with(
        guest: &'a FakeGuest,
        node: &Arc<Attachment>,
        props: VirtioBlkPciProps,
        features: u64,
    ) -> Self {
        let mut cx = guest.cx("disk0");
        cx.node = Some(node.clone());
        let mut driver = Driver::new(guest, build(&props, &cx).unwrap());
        driver.negotiate(features);
        let ring = driver.queue(0, 0x1000, 64);
        driver.go();
        Disk {
            guest,
            driver,
            ring,
        }
    }

    fn header(&self, kind: u32, sector: u64) {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.guest.write(HEADER, &header);
        self.guest.write(STATUS, &[0xff]);
    }

    /// Sends a request; its status and how many bytes the device says it wrote.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        self.header(kind, sector);
        let first = [Buffer::Out(HEADER, 16)];
        let last = [Buffer::In(STATUS, 1)];
        let chain = [&first[..], data, &last].concat();
        let len = self.driver.request(&mut self.ring, &chain);
        (self.guest.read(STATUS, 1)[0], len)
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.guest.write(DATA, data);
        self.request(OUT, sector, &[Buffer::Out(DATA, data.len() as u32)])
            .0
    }

    fn read(&mut self, sector: u64, len: u32) -> Vec<u8> {
        let answer = self.request(IN, sector, &[Buffer::In(DATA, len)]);
        assert_eq!(answer, (OK, len + 1));
        self.guest.read(DATA, len as usize)
    }

    fn segment(&mut self, kind: u32, sector: u64, count: u32, flags: u32) -> u8 {
        let (count, flags) = (count.to_le_bytes(), flags.to_le_bytes());
        let segment = [&sector.to_le_bytes()[..], &count, &flags].concat();
        self.guest.write(DATA, &segment);
        self.request(kind, 0, &[Buffer::Out(DATA, 16)]).0
    }

    /// Stops it as an unplug does.
    fn close(self) {
        self.driver.carry_out(crate::effect::Effect::StopQueues);
    }

    fn broken(&self) -> bool {
        self.driver.status() & status::NEEDS_RESET != 0
    }
}

pub(super) fn engines() -> impl Iterator<Item = (Aio, bool)> {
    [
        (Aio::Threads, false),
        (Aio::Threads, true),
        (Aio::Native, true),
        (Aio::IoUring, false),
        (Aio::IoUring, true),
    ]
    .into_iter()
}
