//! Hubs: each frame goes to all other ports. Interfaces have a port of their own; netdevs are
//! served by the net thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, Weak};

use block::{Buffers, HostBuffer};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::framing::MOST_FRAME;
use super::server::{Cx, NetGuard, NetHandle, News, Part, Served, token};
use super::{HEADER, NetAttachment, NetPort, PortLease, Sent};
use crate::bus::lock;

/// Frames that wait for one port at most; those behind them are dropped.
const MOST_WAITING: usize = 512;
/// Frames that one netdev gives before others have their turn.
const MOST_STEPS: usize = 64;

/// A frame on its way, without a header.
type Frame = Arc<HostBuffer>;

/// A hub. Dropped with its last port.
pub struct Hub {
    id: i32,
    /// Leaf; the queues are locked one at a time behind it.
    lanes: Mutex<Vec<Arc<Lane>>>,
}

/// What waits for one port.
struct Lane {
    name: String,
    /// Leaf.
    queue: Mutex<VecDeque<Frame>>,
    bell: Bell,
}

/// Who is woken by the first frame.
enum Bell {
    /// Readable exactly while frames wait: rung and silenced with the queue locked.
    Port(EventFd),
    /// The net thread.
    Server(NetHandle, u64),
}

impl Hub {
    /// A hub without ports.
    pub fn new(id: i32) -> Arc<Self> {
        Arc::new(Hub {
            id,
            lanes: Mutex::default(),
        })
    }

    /// Its number.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The names of its ports, the newest first.
    pub fn ports(&self) -> Vec<String> {
        let lanes = lock(&self.lanes);
        lanes.iter().rev().map(|lane| lane.name.clone()).collect()
    }

    /// A port for an interface.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn port(self: &Arc<Self>, name: &str) -> io::Result<Box<dyn NetPort>> {
        let bell = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let fd = bell.as_raw_fd();
        let lane = self.join(name, Bell::Port(bell));
        Ok(Box::new(HubPort { lane, fd }))
    }

    /// Connects a netdev: it belongs to the hub until the guard is dropped. `None` when the
    /// netdev's frames do not come through a port (vhost-user).
    pub fn connect(
        self: &Arc<Self>,
        name: &str,
        netdev: NetAttachment,
        handle: &NetHandle,
    ) -> Option<NetGuard> {
        let port = netdev.port(0)?;
        let key = handle.new_key();
        let bridge = Bridge {
            key,
            port,
            header: netdev.netdev().traits().header,
            lane: self.join(name, Bell::Server(handle.clone(), key)),
            room: Buffers::owned(Arc::new(HostBuffer::new(HEADER + MOST_FRAME, 8))),
            watches_output: false,
            broken: false,
            _netdev: netdev,
        };
        Some(handle.serve(key, Served::Bridge(Box::new(bridge))))
    }

    fn join(self: &Arc<Self>, name: &str, bell: Bell) -> Member {
        let lane = Arc::new(Lane {
            name: name.to_owned(),
            queue: Mutex::default(),
            bell,
        });
        lock(&self.lanes).push(lane.clone());
        Member {
            lane,
            hub: self.clone(),
        }
    }
}

/// A place in a hub, given back when dropped.
struct Member {
    lane: Arc<Lane>,
    hub: Arc<Hub>,
}

impl Member {
    /// Gives a frame to all others.
    fn forward(&self, frame: &Frame) {
        let lanes = lock(&self.hub.lanes);
        for lane in lanes.iter().filter(|lane| !Arc::ptr_eq(lane, &self.lane)) {
            lane.push(frame.clone());
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        lock(&self.hub.lanes).retain(|lane| !Arc::ptr_eq(lane, &self.lane));
    }
}

impl Lane {
    fn push(&self, frame: Frame) {
        let mut queue = lock(&self.queue);
        if queue.len() >= MOST_WAITING {
            return;
        }
        queue.push_back(frame);
        if queue.len() == 1 {
            match &self.bell {
                // It counts to one at most.
                Bell::Port(bell) => drop(bell.write(1)),
                Bell::Server(handle, key) => handle.tell(*key, News::Frames),
            }
        }
    }

    fn pop(&self) -> Option<Frame> {
        let mut queue = lock(&self.queue);
        let frame = queue.pop_front();
        if queue.is_empty()
            && frame.is_some()
            && let Bell::Port(bell) = &self.bell
        {
            let _ = bell.read();
        }
        frame
    }
}

/// An interface's place.
struct HubPort {
    lane: Member,
    fd: RawFd,
}

impl NetPort for HubPort {
    fn fd(&self) -> RawFd {
        self.fd
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        while let Some(frame) = self.lane.lane.pop() {
            if frame.len() as u64 <= room.len() {
                return Ok(Some(room.write_at(0, &frame.to_vec())));
            }
        }
        Ok(None)
    }

    fn send(&mut self, frame: &Buffers) -> Sent {
        if let Some(frame) = copy(frame, 0) {
            self.lane.forward(&frame);
        }
        Sent::Done
    }
}

/// A frame of one's own; the first `skip` bytes are left out.
fn copy(frame: &Buffers, skip: u64) -> Option<Frame> {
    let len = usize::try_from(frame.len().checked_sub(skip)?).ok()?;
    if len == 0 || len > MOST_FRAME {
        return None;
    }
    let mut bytes = vec![0; len];
    frame.read_at(skip, &mut bytes);
    Some(HostBuffer::from_bytes(&bytes, 1))
}

/// A netdev in a hub, run by the net thread.
pub(super) struct Bridge {
    key: u64,
    /// Goes before the netdev is free for others.
    port: PortLease,
    /// The netdev's frames have a header, which no hub passes on.
    header: bool,
    lane: Member,
    room: Buffers,
    watches_output: bool,
    broken: bool,
    _netdev: NetAttachment,
}

impl Bridge {
    pub fn begin(&mut self, cx: &Cx) {
        let token = token(self.key, Part::Frames);
        if let Err(error) = cx.epoll.add(self.port.fd(), libc::EPOLLIN, token) {
            log::error!("A netdev of a hub cannot be watched: {error}");
            self.broken = true;
        }
        self.turn(cx);
    }

    pub fn end(&mut self, cx: &Cx) {
        cx.epoll.remove(self.port.fd());
    }

    /// Moves frames both ways.
    pub fn turn(&mut self, cx: &Cx) {
        if !self.broken {
            self.take_in(cx);
        }
        self.give_out(cx);
    }

    fn take_in(&mut self, cx: &Cx) {
        let skip = if self.header { HEADER as u64 } else { 0 };
        for _ in 0..MOST_STEPS {
            match self.port.receive(&self.room) {
                Ok(Some(len)) => {
                    if let Some(frame) = copy(&self.room.slice(0, len as u64), skip) {
                        self.lane.forward(&frame);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    log::error!("A netdev of a hub is broken: {error}");
                    self.broken = true;
                    cx.epoll.remove(self.port.fd());
                    return;
                }
            }
        }
        // The descriptor need not tell again of what the port has read already.
        cx.handle.tell(self.key, News::Frames);
    }

    fn give_out(&mut self, cx: &Cx) {
        let mut full = false;
        while let Some(frame) = self.next() {
            full = self.port.send(&frame) == Sent::Full;
            if full {
                break;
            }
            self.lane.lane.pop();
        }
        if full != self.watches_output && !self.broken {
            self.watches_output = full;
            let output = if full { libc::EPOLLOUT } else { 0 };
            let token = token(self.key, Part::Frames);
            let _ = cx
                .epoll
                .change(self.port.fd(), libc::EPOLLIN | output, token);
        }
    }

    /// The oldest frame that waits, with a header if there has to be one. It stays.
    fn next(&self) -> Option<Buffers> {
        let frame = lock(&self.lane.lane.queue).front().cloned()?;
        if !self.header {
            return Some(Buffers::owned(frame));
        }
        // No offloads: the bytes after the header are the whole frame.
        let mut bytes = vec![0; HEADER];
        bytes.extend(frame.to_vec());
        Some(Buffers::owned(HostBuffer::from_bytes(&bytes, 1)))
    }
}

/// Hubs by number, as long as they have ports.
#[derive(Default)]
pub struct Hubs(Vec<Weak<Hub>>);

impl Hubs {
    /// The hub of a number, made if there is none.
    pub fn get(&mut self, id: i32) -> Arc<Hub> {
        self.0.retain(|hub| hub.strong_count() > 0);
        let found = self.all().into_iter().find(|hub| hub.id == id);
        found.unwrap_or_else(|| {
            let hub = Hub::new(id);
            self.0.push(Arc::downgrade(&hub));
            hub
        })
    }

    /// Those that there are, the newest first.
    pub fn all(&self) -> Vec<Arc<Hub>> {
        self.0.iter().rev().filter_map(Weak::upgrade).collect()
    }
}
