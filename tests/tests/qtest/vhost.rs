//! An interface whose queues another process serves (vhost-user), by its rings. The process is a
//! thread of the test, with a crate for such processes that no one here wrote.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use serde_json::json;
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{Vm, VmBuilder, binary, seconds};
use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES.
const OFFERED: u64 = 1 << 15 | 1 << 32 | 1 << 30;
/// VIRTIO_NET_F_STATUS.
const STATUS: u64 = 1 << 16;
/// Bytes before a frame.
const HEADER: usize = 12;

/// What it gets from the guest it gives back.
#[derive(Default)]
struct Loop(Option<Memory>);

impl Loop {
    fn pass(&self, from: &VringRwLock, to: &VringRwLock) -> Option<()> {
        let memory = self.0.as_ref()?.memory();
        loop {
            let mut queue = from.get_mut();
            let next = queue.get_queue_mut().iter(memory.clone()).ok()?.next();
            drop(queue);
            let Some(chain) = next else { break };
            let head = chain.head_index();
            let mut frame = Vec::new();
            for piece in chain.readable() {
                let mut bytes = vec![0; piece.len() as usize];
                memory.read_slice(&mut bytes, piece.addr()).ok()?;
                frame.extend(bytes);
            }
            from.add_used(head, 0).ok()?;
            let mut queue = to.get_mut();
            let room = queue.get_queue_mut().iter(memory.clone()).ok()?.next()?;
            drop(queue);
            let head = room.head_index();
            let into = room.writable().next()?;
            memory.write_slice(&frame, into.addr()).ok()?;
            to.add_used(head, frame.len() as u32).ok()?;
        }
        from.signal_used_queue().ok()?;
        to.signal_used_queue().ok()
    }
}

impl VhostUserBackendMut for Loop {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        OFFERED
    }

    fn protocol_features(&self) -> Protocol {
        Protocol::MQ | Protocol::REPLY_ACK
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC | EventFlag::NONBLOCK).ok()
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.0 = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: u16,
        _set: EventSet,
        rings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        if let ([rx, tx], 1) = (rings, event) {
            self.pass(tx, rx);
        }
        Ok(())
    }
}

type Daemon = VhostUserDaemon<Arc<RwLock<Loop>>>;

/// A process that connects as soon as somebody listens.
fn connect(path: &Path) -> Daemon {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("test".into(), Arc::default(), memory).expect("a daemon");
    let path = path.to_str().expect("a path");
    for _ in 0..2000 {
        if daemon.start_client(path).is_ok() {
            return daemon;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("nobody listens at {path}");
}

fn end(daemon: Daemon) {
    daemon.request_shutdown();
    drop(daemon);
}

const SHARED: [&str; 6] = [
    "-m",
    "64",
    "-object",
    "memory-backend-memfd,id=mem,size=64M,share=on",
    "-machine",
    "memory-backend=mem",
];

fn frame(t: &mut Qtest, rx: &mut Queue, tx: &mut Queue, text: &[u8]) {
    let (out, into) = (t.alloc(2048), t.alloc(2048));
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(text);
    t.write(out, &bytes);
    rx.add(t, &[(into, 2048, true)]);
    rx.kick(t);
    tx.add(t, &[(out, bytes.len() as u32, false)]);
    tx.kick(t);
    assert_eq!(tx.wait(t).1, 0);
    assert_eq!(rx.wait(t).1 as usize, bytes.len());
    assert_eq!(t.read(into, bytes.len()), bytes);
}

/// Device status of the interface: whether it has a link.
fn has_link(t: &mut Qtest, device: &Device) -> bool {
    t.readw(device.config() + 6) & 1 == 1
}

#[test]
fn another_process_serves_and_is_replaced() {
    let builder = VmBuilder::new().idle();
    let path = builder.path("net.sock");
    let chardev = format!("socket,id=c,path={},server=on,wait=off", path.display());
    let socket = path.clone();
    // The program waits for it.
    #[allow(clippy::disallowed_methods)] // tests may start threads
    let first = std::thread::spawn(move || connect(&socket));
    let mut args = SHARED.to_vec();
    args.extend(["-chardev", &chardev, "-netdev", "vhost-user,id=n,chardev=c"]);
    args.extend(["-device", "virtio-net-pci,id=nic,netdev=n,addr=4.0"]);
    let mut t = Qtest::start_with(builder, &args);
    let first = first.join().expect("a process");
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, OFFERED | STATUS);
    let mut rx = device.queue(&mut t, 0, None);
    let mut tx = device.queue(&mut t, 1, None);
    device.drive(&mut t);
    assert!(has_link(&mut t, &device));
    for round in 0..20u8 {
        frame(&mut t, &mut rx, &mut tx, &[round; 700]);
    }
    t.vm.query("stop");
    t.vm.query("cont");
    frame(&mut t, &mut rx, &mut tx, b"after a stop");

    // Whoever pulls the plug takes the queues from the process, which knows nothing of links.
    for name in ["n", "nic"] {
        let link = |up: bool| json!({"name": name, "up": up});
        t.vm.qmp().exec("set_link", link(false));
        assert!(!has_link(&mut t, &device));
        let out = t.alloc(2048);
        tx.add(&mut t, &[(out, 100, false)]);
        tx.kick(&mut t);
        assert_eq!(tx.wait(&mut t).1, 0);
        t.vm.qmp().exec("set_link", link(true));
        assert!(has_link(&mut t, &device));
        frame(&mut t, &mut rx, &mut tx, name.as_bytes());
    }

    end(first);
    t.until("the link is down", |t| !has_link(t, &device));
    let second = connect(&path);
    t.until("the link is up", |t| has_link(t, &device));
    frame(&mut t, &mut rx, &mut tx, b"from the second process");
    // A driver that begins anew.
    device.negotiate(&mut t, OFFERED | STATUS);
    let mut rx = device.queue(&mut t, 0, None);
    let mut tx = device.queue(&mut t, 1, None);
    device.drive(&mut t);
    frame(&mut t, &mut rx, &mut tx, b"from the second driver");
    t.vm.query("system_reset");
    end(second);
}

fn connected(vm: &mut Vm) -> bool {
    let chardevs = vm.query("query-chardev");
    let mut all = chardevs.as_array().into_iter().flatten();
    all.any(|chardev| {
        let name = chardev["filename"].as_str().unwrap_or_default();
        chardev["label"] == "c" && name.starts_with("unix:")
    })
}

#[test]
fn a_netdev_comes_and_goes_at_run_time() {
    if binary::skip_on_stand_in("the reference blocks until somebody connects") {
        return;
    }
    let builder = VmBuilder::new().idle();
    let path = builder.path("net.sock");
    let mut vm = builder.args(SHARED).start();
    let addr = json!({"type": "unix", "data": {"path": path}});
    let backend = json!({"type": "socket", "data": {"addr": addr, "server": true, "wait": false}});
    vm.qmp()
        .exec("chardev-add", json!({"id": "c", "backend": backend}));
    // Somebody may be there before the netdev is.
    let waiting = UnixStream::connect(&path).expect("it listens");
    drop(waiting);
    let netdev = json!({"type": "vhost-user", "id": "n", "chardev": "c"});
    for _ in 0..3 {
        vm.qmp().exec("netdev_add", netdev.clone());
        let other = json!({"type": "vhost-user", "id": "n2", "chardev": "c"});
        let refused = vm.qmp().refused("netdev_add", other);
        assert_eq!(refused.desc, "chardev 'c' is already in use");
        let refused = vm.qmp().refused("chardev-remove", json!({"id": "c"}));
        assert_eq!(refused.desc, "Chardev 'c' is busy");
        let process = connect(&path);
        let limit = Instant::now() + seconds(10);
        while !connected(&mut vm) {
            assert!(Instant::now() < limit, "no peer in time");
        }
        // The process is sent away, though it does nothing wrong.
        let instances = json!([{"type": "chardev", "id": "c"}]);
        vm.qmp().exec("yank", json!({"instances": instances}));
        while connected(&mut vm) {
            assert!(Instant::now() < limit, "the peer stays");
        }
        vm.qmp().exec("netdev_del", json!({"id": "n"}));
        end(process);
    }
    vm.qmp().exec("chardev-remove", json!({"id": "c"}));
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_is_refused() {
    let builder = VmBuilder::new().idle();
    let path = builder.path("net.sock");
    let mut vm = builder
        .args(["-chardev", "null,id=null"])
        .arg("-chardev")
        .arg(format!(
            "socket,id=c,path={},server=on,wait=off",
            path.display()
        ))
        .args([
            "-chardev",
            "socket,id=tcp,port=0,host=127.0.0.1,server=on,wait=off",
        ])
        .start();
    let mut refuse = |chardev: &str, queues: i64| {
        let netdev = json!({"type": "vhost-user", "id": "n", "chardev": chardev, "queues": queues});
        vm.qmp().refused("netdev_add", netdev).desc
    };
    assert_eq!(refuse("x", 1), "chardev \"x\" not found");
    assert_eq!(refuse("null", 1), "chardev \"null\" is not reconnectable");
    let text = "chardev \"tcp\" does not support FD passing";
    assert_eq!(refuse("tcp", 1), text);
    for queues in [0, -1, 1025] {
        let text = "vhost-user number of queues must be in range [1, 1024]";
        assert_eq!(refuse("c", queues), text);
    }
}
