use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost_user_backend::bitmap::BitmapMmapRegion;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use super::*;
use crate::effect::Effect;
use crate::ram::GuestRam;
use crate::testing::{Buffer, Driver, FakeGuest, RAM_HIGH, RAM_SIZE, Ring};
use crate::virtio::{VirtioDevice, VirtioPci, VirtioPciProps, VirtioTraits};
use crate::worker::QueueState;

type Memory = GuestMemoryAtomic<GuestMemoryMmap<BitmapMmapRegion>>;
type VringRwLock = vhost_user_backend::VringRwLock<Memory>;

const MRG_RXBUF: u64 = 1 << 15;
const OFFERED: u64 = feature::VERSION_1 | MRG_RXBUF | 1 << 30 | F_LOG_ALL;
const F_LOG_ALL: u64 = 1 << 26;
const MTU: u64 = 1 << 3;

/// Another's back end: what it gets from a transmit queue it puts into the receive queue before.
struct Loop {
    pairs: usize,
    memory: Option<Memory>,
}

impl Loop {
    fn pass(&self, from: &VringRwLock, to: &VringRwLock) -> Option<()> {
        let memory = self.memory.as_ref()?.memory();
        let mut any = false;
        loop {
            let mut from_queue = from.get_mut();
            let mut chains = from_queue.get_queue_mut().iter(memory.clone()).ok()?;
            let Some(chain) = chains.next() else { break };
            drop(from_queue);
            let head = chain.head_index();
            let mut frame = Vec::new();
            for piece in chain.readable() {
                let mut bytes = vec![0; piece.len() as usize];
                memory.read_slice(&mut bytes, piece.addr()).ok()?;
                frame.extend(bytes);
            }
            from.add_used(head, 0).ok()?;
            let mut to_queue = to.get_mut();
            let mut rooms = to_queue.get_queue_mut().iter(memory.clone()).ok()?;
            let room = rooms.next()?;
            drop(to_queue);
            let into = room.clone().writable().next()?;
            memory.write_slice(&frame, into.addr()).ok()?;
            to.add_used(room.head_index(), frame.len() as u32).ok()?;
            any = true;
        }
        if any {
            from.signal_used_queue().ok()?;
            to.signal_used_queue().ok()?;
        }
        Some(())
    }
}

impl VhostUserBackendMut for Loop {
    type Bitmap = BitmapMmapRegion;
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        2 * self.pairs
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        OFFERED
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::LOG_SHMFD
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC | EventFlag::NONBLOCK).ok()
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: u16,
        _set: EventSet,
        rings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let pair = usize::from(event / 2);
        if let (Some(rx), Some(tx)) = (rings.get(2 * pair), rings.get(2 * pair + 1)) {
            self.pass(tx, rx);
        }
        Ok(())
    }
}

type Daemon = VhostUserDaemon<Arc<RwLock<Loop>>>;

fn daemon(pairs: usize) -> Daemon {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let back_end = Arc::new(RwLock::new(Loop {
        pairs,
        memory: None,
    }));
    VhostUserDaemon::new("test".into(), back_end, memory).unwrap()
}

/// An interface as far as queues go.
struct Nic(UserNet);

impl VirtioDevice for Nic {
    fn traits(&self) -> VirtioTraits {
        VirtioTraits {
            device_type: 1,
            features: self.0.features() & (MRG_RXBUF | feature::VERSION_1 | MTU),
            queue_sizes: vec![256; 2 * usize::from(self.0.queue_pairs())],
            vectors: 0,
            class: 0,
            config_len: 0,
        }
    }

    fn config_read(&self, _offset: usize, _data: &mut [u8]) {}

    fn start(&mut self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        self.0.start(queues)
    }

    fn stopped(&mut self, _states: &[QueueState]) {}

    fn reset(&mut self) {}
}

fn shared_guest() -> FakeGuest {
    let mut guest = FakeGuest::new();
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * RAM_SIZE).unwrap();
    let file = Arc::new(file);
    let ranges = [(0, 0), (RAM_HIGH, RAM_SIZE)].map(|(at, offset)| {
        let file = FileOffset::from_arc(file.clone(), offset);
        (GuestAddress(at), RAM_SIZE as usize, Some(file))
    });
    let ram = GuestRam::from_ranges_with_files(ranges).unwrap();
    guest.ram = GuestMemoryAtomic::new(ram);
    guest
}

/// A link with its thread, and where peers go.
struct Bench {
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    ups: Arc<AtomicUsize>,
    downs: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(pairs: u16, peer: impl FnOnce(&PathBuf) -> Peer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (ups, downs) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (ups.clone(), downs.clone());
        let link = Link::new(LinkOptions {
            id: "n".into(),
            pairs,
            changed: Box::new(move |up| {
                let count = if up { &counts.0 } else { &counts.1 };
                count.fetch_add(1, Ordering::SeqCst);
            }),
        });
        let link = link.unwrap();
        let (peer, own) = (peer(&path), link.clone());
        Bench {
            link,
            thread: Some(std::thread::spawn(move || own.serve(peer))),
            path,
            ups,
            downs,
            _folder: folder,
        }
    }

    fn server(pairs: u16) -> Self {
        Self::new(pairs, |path| Peer {
            first: None,
            door: Door::Listen(Arc::new(UnixListener::bind(path).unwrap())),
        })
    }

    fn function(&self, guest: &FakeGuest, pairs: u16) -> VirtioPci {
        let nic = Nic(UserNet::new(self.link.clone(), pairs));
        let props = VirtioPciProps {
            event_idx: false,
            indirect_desc: false,
            ..VirtioPciProps::default()
        };
        VirtioPci::new(Box::new(nic), props, &guest.cx("nic")).unwrap()
    }

    fn connect(&self, daemon: &mut Daemon) {
        let path = self.path.to_str().unwrap();
        let before = self.ups.load(Ordering::SeqCst);
        daemon.start_client(path).unwrap();
        until(|| self.ups.load(Ordering::SeqCst) > before);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.link.end();
        let thread = self.thread.take().unwrap();
        let joined = thread.join();
        if !std::thread::panicking() {
            joined.unwrap();
        }
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The queues of one pair, with buffers of their own.
fn pair(driver: &Driver, pair: u16) -> (Ring, Ring) {
    let at = 0x1_0000 * u64::from(pair);
    let rx = driver.queue(2 * pair, 0x1000 + at, 8);
    let tx = driver.queue(2 * pair + 1, 0x4000 + at, 8);
    (rx, tx)
}

/// Sends a frame and gets it back.
fn round_trip(guest: &FakeGuest, driver: &Driver, rx: &mut Ring, tx: &mut Ring, text: &[u8]) {
    guest.write(RAM_HIGH + 0x100, text);
    guest.write(0x80_0000, &vec![0; text.len()]);
    rx.add(guest, &[Buffer::In(0x80_0000, 2048)]);
    tx.add(guest, &[Buffer::Out(RAM_HIGH + 0x100, text.len() as u32)]);
    driver.kick(rx);
    driver.kick(tx);
    let (mut came, mut sent) = (None, None);
    guest.thread.run_until(|| {
        came = came.or_else(|| rx.take_used(guest));
        sent = sent.or_else(|| tx.take_used(guest));
        came.is_some() && sent.is_some()
    });
    assert_eq!(came.unwrap().1 as usize, text.len());
    assert_eq!(guest.read(0x80_0000, text.len()), text);
    guest.thread.run_until(|| driver.isr() == 1);
}

#[test]
fn another_process_passes_frames_and_is_replaced() {
    let guest = shared_guest();
    let bench = Bench::server(2);
    let mut first = daemon(2);
    bench.connect(&mut first);
    assert_eq!(bench.link.features(), Some(OFFERED));
    let mut driver = Driver::new(&guest, bench.function(&guest, 2));
    driver.negotiate(u64::MAX);
    assert_eq!(driver.features & MRG_RXBUF, MRG_RXBUF);
    let mut pairs = [pair(&driver, 0), pair(&driver, 1)];
    driver.go();
    for (rx, tx) in &mut pairs {
        for _ in 0..20 {
            round_trip(&guest, &driver, rx, tx, b"something to say");
        }
    }
    // Stop and cont.
    driver.carry_out(Effect::StopQueues);
    assert!(guest.thread.is_empty());
    driver.carry_out(Effect::StartQueues);
    let (rx, tx) = &mut pairs[1];
    round_trip(&guest, &driver, rx, tx, b"after a stop");
    // The process dies, frames are left alone meanwhile, another one comes.
    first.request_shutdown();
    drop(first);
    until(|| bench.downs.load(Ordering::SeqCst) == 1);
    assert!(!bench.link.is_connected());
    tx.add(&guest, &[Buffer::Out(RAM_HIGH, 5)]);
    rx.add(&guest, &[Buffer::In(0x80_1000, 64)]);
    driver.kick(tx);
    let mut second = daemon(2);
    bench.connect(&mut second);
    guest.thread.run_until(|| rx.take_used(&guest).is_some());
    guest.thread.run_until(|| tx.take_used(&guest).is_some());
    guest.thread.run_until(|| driver.isr() == 1);
    round_trip(&guest, &driver, rx, tx, b"the second one");
    let (rx, tx) = &mut pairs[0];
    round_trip(&guest, &driver, rx, tx, b"the other pair");
    // A reset while it runs, and once more from the beginning.
    driver.negotiate(u64::MAX);
    let (mut rx, mut tx) = pair(&driver, 0);
    driver.go();
    round_trip(&guest, &driver, &mut rx, &mut tx, b"a new driver");
    driver.carry_out(Effect::StopQueues);
}

#[test]
fn queues_can_be_there_before_their_peer() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    assert!(!bench.link.wait_agreed(Duration::from_millis(1)));
    let mut driver = Driver::new(&guest, bench.function(&guest, 1));
    driver.negotiate(u64::MAX);
    let (mut rx, mut tx) = pair(&driver, 0);
    driver.go();
    driver.carry_out(Effect::StopQueues);
    driver.carry_out(Effect::StartQueues);
    let mut late = daemon(1);
    bench.connect(&mut late);
    assert!(bench.link.wait_any(Duration::from_secs(10)));
    round_trip(&guest, &driver, &mut rx, &mut tx, b"at last");
    driver.carry_out(Effect::StopQueues);
}

#[test]
fn a_client_connects_again() {
    let guest = shared_guest();
    let bench = Bench::new(1, |path| {
        let path = path.clone();
        Peer {
            first: None,
            door: Door::Dial {
                dial: Box::new(move || UnixStream::connect(&path)),
                again: Some(Duration::from_millis(10)),
            },
        }
    });
    let mut driver = Driver::new(&guest, bench.function(&guest, 1));
    driver.negotiate(u64::MAX);
    let (mut rx, mut tx) = pair(&driver, 0);
    driver.go();
    for round in 1..=2 {
        let mut listener = vhost::vhost_user::Listener::new(&bench.path, true).unwrap();
        let mut served = daemon(1);
        served.start(&mut listener).unwrap();
        until(|| bench.ups.load(Ordering::SeqCst) == round);
        round_trip(&guest, &driver, &mut rx, &mut tx, b"hello");
        served.request_shutdown();
        drop(served);
        until(|| bench.downs.load(Ordering::SeqCst) == round);
    }
    driver.carry_out(Effect::StopQueues);
}

#[test]
fn private_memory_cannot_be_served() {
    let guest = FakeGuest::new();
    let bench = Bench::server(1);
    let mut peer = daemon(1);
    bench.connect(&mut peer);
    let mut driver = Driver::new(&guest, bench.function(&guest, 1));
    driver.negotiate(u64::MAX);
    pair(&driver, 0);
    driver.go();
    assert_eq!(driver.status() & 0x40, 0x40);
}

#[test]
fn a_peer_with_too_few_queues_is_sent_away() {
    let bench = Bench::server(3);
    let mut peer = daemon(1);
    peer.start_client(bench.path.to_str().unwrap()).unwrap();
    peer.wait().ok();
    assert_eq!(bench.ups.load(Ordering::SeqCst), 0);
    assert_eq!(bench.link.features(), None);
}

/// A peer that speaks by itself.
struct Raw(UnixStream);

impl Raw {
    fn connect(bench: &Bench) -> Self {
        Raw(UnixStream::connect(&bench.path).unwrap())
    }

    /// The next message: request and payload.
    fn next(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; 12];
        self.0.read_exact(&mut header)?;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(8) as usize];
        self.0.read_exact(&mut payload)?;
        Ok((word(0), payload))
    }

    fn answer(&mut self, request: u32, payload: &[u8]) {
        for word in [request, 5, payload.len() as u32] {
            let _ = self.0.write_all(&word.to_ne_bytes());
        }
        let _ = self.0.write_all(payload);
    }

    /// Agrees on the least there is.
    fn agree(&mut self) {
        assert_eq!(self.next().unwrap().0, 1);
        self.answer(1, &(feature::VERSION_1 | MRG_RXBUF).to_ne_bytes());
        assert_eq!(self.next().unwrap().0, 3);
    }

    /// Reads until this request comes.
    fn read_to(&mut self, request: u32) {
        while self.next().unwrap().0 != request {}
    }
}

fn running<'a>(bench: &Bench, guest: &'a FakeGuest) -> Driver<'a> {
    let mut driver = Driver::new(guest, bench.function(guest, 1));
    driver.negotiate(u64::MAX);
    pair(&driver, 0);
    driver.go();
    driver
}

#[test]
fn a_peer_that_does_not_answer_holds_nobody_up() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    let mut peer = Raw::connect(&bench);
    peer.agree();
    let driver = running(&bench, &guest);
    // The transmit queue's kick is the last but two messages.
    peer.read_to(12);
    let begin = Instant::now();
    driver.carry_out(Effect::StopQueues);
    let took = begin.elapsed();
    assert!(took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
    assert!(guest.thread.is_empty());
    until(|| bench.downs.load(Ordering::SeqCst) == 1);
    // Another one is welcome.
    let mut other = Raw::connect(&bench);
    other.agree();
    until(|| bench.ups.load(Ordering::SeqCst) == 2);
}

#[test]
fn a_peer_uses_the_pairs_that_the_driver_uses() {
    const F_PROTOCOL: u64 = 1 << 30;
    const ENABLE: u32 = 18;
    let guest = shared_guest();
    let bench = Bench::server(2);
    let mut peer = Raw::connect(&bench);
    assert_eq!(peer.next().unwrap().0, 1);
    let features = feature::VERSION_1 | MRG_RXBUF | F_PROTOCOL;
    peer.answer(1, &features.to_ne_bytes());
    peer.read_to(15);
    // Several queues.
    peer.answer(15, &1u64.to_ne_bytes());
    peer.read_to(17);
    peer.answer(17, &2u64.to_ne_bytes());
    bench.link.use_pairs(1);
    let mut driver = Driver::new(&guest, bench.function(&guest, 2));
    driver.negotiate(u64::MAX);
    pair(&driver, 0);
    pair(&driver, 1);
    driver.go();
    let enabled = |peer: &mut Raw| {
        let one = |peer: &mut Raw| {
            let (mut request, mut payload) = (0, Vec::new());
            while request != ENABLE {
                (request, payload) = peer.next().unwrap();
            }
            (payload[0], payload[4])
        };
        [(); 4].map(|()| one(peer))
    };
    assert_eq!(enabled(&mut peer), [(0, 1), (1, 1), (2, 0), (3, 0)]);
    bench.link.use_pairs(2);
    assert_eq!(enabled(&mut peer), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    bench.link.use_pairs(1);
    assert_eq!(enabled(&mut peer), [(0, 1), (1, 1), (2, 0), (3, 0)]);
    drop(peer);
    driver.carry_out(Effect::StopQueues);
}

#[test]
fn the_end_waits_for_no_peer() {
    let bench = Bench::server(1);
    let mut peer = Raw::connect(&bench);
    assert_eq!(peer.next().unwrap().0, 1);
    let begin = Instant::now();
    drop(bench);
    assert!(begin.elapsed() < Duration::from_millis(500));
}

#[test]
fn lies_are_the_end_of_a_peer() {
    let guest = shared_guest();
    type Lie = fn(&mut Raw);
    let wrong: [(&str, Lie); 5] = [
        ("another request", |peer| peer.answer(2, &[0; 8])),
        ("too long", |peer| peer.answer(1, &[0; 9])),
        ("too short", |peer| peer.answer(1, &[0; 4])),
        ("huge", |peer| {
            for word in [1u32, 5, u32::MAX] {
                peer.0.write_all(&word.to_ne_bytes()).unwrap();
            }
        }),
        ("no answer at all", |peer| peer.0.write_all(b"?").unwrap()),
    ];
    for (what, lie) in wrong {
        let bench = Bench::server(1);
        let mut peer = Raw::connect(&bench);
        assert_eq!(peer.next().unwrap().0, 1);
        lie(&mut peer);
        if what == "no answer at all" {
            drop(peer);
        } else {
            assert!(peer.next().is_err(), "{what}");
        }
        assert_eq!(bench.ups.load(Ordering::SeqCst), 0, "{what}");
    }
    // Said without being asked.
    let bench = Bench::server(1);
    let mut peer = Raw::connect(&bench);
    peer.agree();
    until(|| bench.ups.load(Ordering::SeqCst) == 1);
    peer.answer(1, &[0; 8]);
    assert!(peer.next().is_err());
    // The base of another ring.
    let mut peer = Raw::connect(&bench);
    peer.agree();
    let driver = running(&bench, &guest);
    peer.read_to(12);
    let liar = std::thread::spawn(move || {
        peer.read_to(11);
        peer.answer(11, &[9, 0, 0, 0, 7, 0, 0, 0]);
        assert!(peer.next().is_err());
    });
    driver.carry_out(Effect::StopQueues);
    liar.join().unwrap();
}

#[test]
fn a_peer_without_the_features_in_use_is_sent_away() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    let driver = running(&bench, &guest);
    let mut peer = Raw::connect(&bench);
    assert_eq!(peer.next().unwrap().0, 1);
    peer.answer(1, &feature::VERSION_1.to_ne_bytes());
    assert_eq!(peer.next().unwrap().0, 3);
    assert!(peer.next().is_err());
    driver.carry_out(Effect::StopQueues);
}

fn bitmap(guest: &FakeGuest) -> (crate::vhost::DirtyLog, std::sync::Arc<std::fs::File>) {
    let _ = guest;
    let len = (RAM_HIGH + RAM_SIZE) / 4096 / 8;
    let file = Arc::new(tempfile::tempfile().unwrap());
    file.set_len(len).unwrap();
    let log = crate::vhost::DirtyLog {
        address: 0,
        len,
        file: file.clone(),
    };
    (log, file)
}

/// Whether the page at a guest address is marked.
fn is_marked(file: &std::fs::File, address: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let page = address / 4096;
    let mut byte = [0];
    file.read_exact_at(&mut byte, page / 8).unwrap();
    byte[0] >> (page % 8) & 1 == 1
}

#[test]
fn another_process_marks_the_pages_it_writes() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    let mut peer = daemon(1);
    let net = UserNet::new(bench.link.clone(), 1);
    assert_eq!(net.migration_blocker(), None);
    bench.connect(&mut peer);
    assert_eq!(net.migration_blocker(), None);
    let mut driver = Driver::new(&guest, bench.function(&guest, 1));
    driver.negotiate(u64::MAX);
    let (mut rx, mut tx) = pair(&driver, 0);
    driver.go();
    round_trip(&guest, &driver, &mut rx, &mut tx, b"unseen");
    let (log, file) = bitmap(&guest);
    guest.writers.set_log(Some(log)).unwrap();
    assert!(!is_marked(&file, 0x80_0000));
    round_trip(&guest, &driver, &mut rx, &mut tx, b"seen");
    assert!(is_marked(&file, 0x80_0000), "the buffer");
    assert!(!is_marked(&file, RAM_HIGH + 0x100), "it was only read");
    assert!(!is_marked(&file, 0x10_0000));
    // Also after a stop, and by another process that comes meanwhile.
    driver.carry_out(Effect::StopQueues);
    file.set_len(0).unwrap();
    file.set_len((RAM_HIGH + RAM_SIZE) / 4096 / 8).unwrap();
    driver.carry_out(Effect::StartQueues);
    round_trip(&guest, &driver, &mut rx, &mut tx, b"again");
    assert!(is_marked(&file, 0x80_0000));
    peer.request_shutdown();
    drop(peer);
    until(|| bench.downs.load(Ordering::SeqCst) == 1);
    file.set_len(0).unwrap();
    file.set_len((RAM_HIGH + RAM_SIZE) / 4096 / 8).unwrap();
    let mut second = daemon(1);
    bench.connect(&mut second);
    round_trip(&guest, &driver, &mut rx, &mut tx, b"the second");
    assert!(is_marked(&file, 0x80_0000));
    guest.writers.set_log(None).unwrap();
    round_trip(&guest, &driver, &mut rx, &mut tx, b"no more");
    driver.carry_out(Effect::StopQueues);
}

/// Agrees on protocol features; the peer serves one pair.
fn agree_on(peer: &mut Raw, protocol: u64) {
    assert_eq!(peer.next().unwrap().0, 1);
    let features = feature::VERSION_1 | MRG_RXBUF | MTU | F_LOG_ALL | 1 << 30;
    peer.answer(1, &features.to_ne_bytes());
    peer.read_to(15);
    peer.answer(15, &protocol.to_ne_bytes());
    peer.read_to(16);
}

#[test]
fn logs_go_on_and_off_in_the_protocols_words() {
    const LOG_SHMFD: u64 = 1 << 1;
    let guest = shared_guest();
    let bench = Bench::server(1);
    let mut peer = Raw::connect(&bench);
    agree_on(&mut peer, LOG_SHMFD);
    let _driver = running(&bench, &guest);
    peer.read_to(18);
    peer.read_to(18);
    let (log, _file) = bitmap(&guest);
    let len = log.len;
    std::thread::scope(|scope| {
        let switched = scope.spawn(|| guest.writers.set_log(Some(log)));
        let (request, payload) = peer.next().unwrap();
        assert_eq!(request, 6);
        assert_eq!(payload[..8], len.to_ne_bytes());
        assert_eq!(payload[8..], [0; 8]);
        peer.answer(6, &[0; 8]);
        switched.join().unwrap().unwrap();
    });
    let (request, payload) = peer.next().unwrap();
    let features = u64::from_ne_bytes(payload.try_into().unwrap());
    assert_eq!((request, features & F_LOG_ALL), (2, F_LOG_ALL));
    let address = |peer: &mut Raw| {
        let (request, payload) = peer.next().unwrap();
        assert_eq!(request, 9);
        let word = |at: usize| u32::from_ne_bytes(payload[at..at + 4].try_into().unwrap());
        let log = u64::from_ne_bytes(payload[32..40].try_into().unwrap());
        (word(0), word(4), log != 0)
    };
    assert_eq!(address(&mut peer), (0, 1, true));
    assert_eq!(address(&mut peer), (1, 1, true));
    guest.writers.set_log(None).unwrap();
    let (request, payload) = peer.next().unwrap();
    let features = u64::from_ne_bytes(payload.try_into().unwrap());
    assert_eq!((request, features & F_LOG_ALL), (2, 0));
    assert_eq!(address(&mut peer), (0, 0, false));
    assert_eq!(address(&mut peer), (1, 0, false));
}

#[test]
fn a_peer_that_cannot_log_keeps_the_machine_here() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    let net = UserNet::new(bench.link.clone(), 1);
    let mut peer = Raw::connect(&bench);
    agree_on(&mut peer, 0);
    let _driver = running(&bench, &guest);
    peer.read_to(18);
    assert_eq!(
        net.migration_blocker().unwrap(),
        "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature."
    );
    let (log, _file) = bitmap(&guest);
    let refused = guest.writers.set_log(Some(log)).unwrap_err().to_string();
    assert_eq!(refused, "the back end cannot log what it writes");
    drop(peer);
    until(|| bench.downs.load(Ordering::SeqCst) == 1);
    assert_eq!(net.migration_blocker(), None);
    // One that comes while others log is not let in.
    let (log, _file) = bitmap(&guest);
    guest.writers.set_log(Some(log)).unwrap();
    let mut other = Raw::connect(&bench);
    agree_on(&mut other, 0);
    while other.next().is_ok() {}
    until(|| bench.downs.load(Ordering::SeqCst) == 2);
}

#[test]
fn a_peer_that_does_not_answer_to_a_log_holds_nobody_up() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    let mut peer = Raw::connect(&bench);
    agree_on(&mut peer, 1 << 1);
    let driver = running(&bench, &guest);
    peer.read_to(18);
    let (log, _file) = bitmap(&guest);
    let begin = Instant::now();
    let refused = guest.writers.set_log(Some(log)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    assert!(begin.elapsed() < PATIENCE * 3);
    driver.carry_out(Effect::StopQueues);
}

#[test]
fn peers_hear_of_mtu_and_tell_where_the_guest_is() {
    let guest = shared_guest();
    let bench = Bench::server(1);
    let net = UserNet::new(bench.link.clone(), 1);
    net.set_mtu(9000);
    let mut peer = Raw::connect(&bench);
    agree_on(&mut peer, 1 << 2 | 1 << 4);
    // It has to take that in before the driver looks.
    let begin = Instant::now();
    while net.features() & MTU == 0 && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _driver = running(&bench, &guest);
    peer.read_to(2);
    let (request, payload) = peer.next().unwrap();
    assert_eq!((request, &payload[..]), (20, &9000u64.to_ne_bytes()[..]));
    peer.read_to(18);
    peer.read_to(18);
    net.announce([0x52, 0x54, 0, 1, 2, 3]);
    let (request, payload) = peer.next().unwrap();
    assert_eq!(request, 19);
    assert_eq!(payload, [0x52, 0x54, 0, 1, 2, 3, 0, 0]);
}
