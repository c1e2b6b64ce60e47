//! Serves the queues of all ports and the two that control them.
//!
//! Nothing is kept between two events but what the bus keeps: a buffer that the character device
//! took only a part of goes back to its queue, and the port remembers how far it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::bus::Shared;
use super::message::{self, Message, Topic};
use super::port::Port;
use crate::ram::GuestRam;
use crate::virtio::{ActiveQueues, Chain, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

/// Device to driver.
const CONTROL_IN: u16 = 2;
/// Driver to device.
const CONTROL_OUT: u16 = 3;
/// Not the index of a queue.
const WAKE: WatchToken = WatchToken(0x1_0000);
/// Bytes copied at once.
const CHUNK: usize = 4096;
/// Buffers of one queue before others have their turn.
const MOST_BUFFERS: usize = 256;
/// Bytes of one queue before others have their turn.
const MOST_BYTES: u64 = 1 << 20;

/// Virtio 1.2, section 5.3.2.
fn receive_queue(nr: u32) -> u16 {
    let after = if nr == 0 { 0 } else { 2 };
    u16::try_from(nr.saturating_mul(2).saturating_add(after)).unwrap_or(u16::MAX)
}

fn transmit_queue(nr: u32) -> u16 {
    receive_queue(nr).saturating_add(1)
}

/// The port that a queue belongs to.
fn port_of(queue: u16) -> u32 {
    u32::from(match queue {
        0..=3 => 0,
        _ => (queue - 2) / 2,
    })
}

pub(super) struct SerialWorker {
    shared: Arc<Shared>,
    ports: BTreeMap<u32, Arc<Port>>,
    generation: u64,
    queues: BTreeMap<u16, Virtqueue>,
    watched: BTreeSet<u16>,
    multiport: bool,
    chain: Chain,
    quiet: bool,
}

impl SerialWorker {
    pub fn new(shared: Arc<Shared>, active: ActiveQueues, multiport: bool) -> Self {
        let ActiveQueues {
            queues,
            ram,
            device,
            features: _,
            writers: _,
        } = active;
        let queues = queues
            .into_iter()
            .map(|queue| (queue.index, Virtqueue::new(queue, &ram, &device)));
        SerialWorker {
            shared,
            ports: BTreeMap::new(),
            generation: 0,
            queues: queues.collect(),
            watched: BTreeSet::new(),
            multiport,
            chain: Chain::new(),
            quiet: false,
        }
    }

    /// Takes note of ports that came or went.
    fn refresh(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        let generation = self.shared.generation();
        if generation == self.generation {
            return Ok(());
        }
        self.generation = generation;
        let ports = self.shared.ports();
        let seen = |port: &Arc<Port>| self.multiport || port.nr == 0;
        self.ports = ports
            .into_iter()
            .filter(seen)
            .map(|port| (port.nr, port))
            .collect();
        let mut wanted: BTreeSet<u16> = self
            .ports
            .keys()
            .flat_map(|nr| [receive_queue(*nr), transmit_queue(*nr)])
            .collect();
        if self.multiport {
            wanted.extend([CONTROL_IN, CONTROL_OUT]);
        }
        wanted.retain(|index| self.queues.contains_key(index));
        for (index, queue) in &self.queues {
            match (self.watched.contains(index), wanted.contains(index)) {
                (false, true) => {
                    watch.readable(queue.kick_fd(), WatchToken(u32::from(*index)))?;
                }
                (true, false) => watch.remove(queue.kick_fd()),
                (true, true) | (false, false) => {}
            }
        }
        self.watched = wanted;
        Ok(())
    }

    fn serve_all(&mut self) {
        if self.quiet {
            return;
        }
        if self.multiport {
            self.hear();
            self.tell();
        }
        let numbers: Vec<u32> = self.ports.keys().copied().collect();
        for nr in numbers {
            self.transmit(nr);
            self.receive(nr);
        }
    }

    /// Carries out what the driver says on the control queue.
    fn hear(&mut self) {
        let Some(queue) = self.queues.get_mut(&CONTROL_OUT) else {
            return;
        };
        let memory = queue.memory();
        // The last word of a batch counts, so that a guest cannot flood the watchers of ports.
        let mut opened = BTreeMap::new();
        let mut left = MOST_BUFFERS;
        while queue.pop(&memory, &mut self.chain) {
            let mut bytes = [0; message::LEN];
            let got = self.chain.readable.read(&memory, 0, &mut bytes);
            let message = Message::parse(bytes.get(..got).unwrap_or_default());
            if let Some(message) = message
                && let Some((nr, open)) = heard(&self.shared, &self.ports, message)
            {
                opened.insert(nr, open);
            }
            queue.complete(&memory, self.chain.head(), 0);
            left = left.saturating_sub(1);
            if left == 0 {
                queue.kick_self();
                break;
            }
        }
        queue.notify(&memory);
        for (nr, open) in opened {
            if let Some(port) = self.ports.get(&nr) {
                port.set_guest_open(open);
            }
            // Input may flow now.
            self.receive(nr);
        }
    }

    /// Tells the driver what it does not know, as far as it has buffers for it.
    fn tell(&mut self) {
        let Some(queue) = self.queues.get_mut(&CONTROL_IN) else {
            return;
        };
        let memory = queue.memory();
        while let Some(nr) = self.shared.next_removed() {
            let message = Message {
                port: nr,
                topic: Topic::PortRemove,
                value: 1,
            };
            if !post(queue, &memory, &mut self.chain, &message.bytes()) {
                return queue.notify(&memory);
            }
            self.shared.told_removed(nr);
        }
        for port in self.ports.values() {
            while let Some(message) = port.next_message() {
                let mut bytes = message.bytes().to_vec();
                if let (Topic::PortName, Some(name)) = (message.topic, &port.name) {
                    bytes.extend_from_slice(name.as_bytes());
                    bytes.push(0);
                }
                if !post(queue, &memory, &mut self.chain, &bytes) {
                    return queue.notify(&memory);
                }
                port.told(message);
            }
        }
        queue.notify(&memory);
    }

    /// Guest to host.
    fn transmit(&mut self, nr: u32) {
        let (Some(port), Some(queue)) = (
            self.ports.get(&nr),
            self.queues.get_mut(&transmit_queue(nr)),
        ) else {
            return;
        };
        let memory = queue.memory();
        let mut budget = MOST_BYTES;
        let mut sent = port.state().sent;
        let mut left = MOST_BUFFERS;
        while queue.pop(&memory, &mut self.chain) {
            match pass_on(port, &memory, &self.chain, &mut sent, &mut budget) {
                Passed::All => {
                    sent = 0;
                    queue.complete(&memory, self.chain.head(), 0);
                }
                // The character device wakes us when it has room.
                Passed::Full => {
                    queue.unpop();
                    break;
                }
                Passed::Enough => {
                    queue.unpop();
                    queue.kick_self();
                    break;
                }
            }
            left = left.saturating_sub(1);
            if left == 0 {
                queue.kick_self();
                break;
            }
        }
        port.update(|state| state.sent = sent);
        queue.notify(&memory);
    }

    /// Host to guest.
    fn receive(&mut self, nr: u32) {
        let (Some(port), Some(queue)) =
            (self.ports.get(&nr), self.queues.get_mut(&receive_queue(nr)))
        else {
            return;
        };
        if self.multiport && !port.state().guest_open {
            return;
        }
        let memory = queue.memory();
        let mut left = MOST_BUFFERS;
        while port.front(|front| front.readable()).unwrap_or(false)
            && queue.pop(&memory, &mut self.chain)
        {
            let written = fill(port, &memory, &self.chain);
            if written == 0 && !self.chain.writable.is_empty() {
                queue.unpop();
                break;
            }
            let written = u32::try_from(written).unwrap_or(u32::MAX);
            queue.complete(&memory, self.chain.head(), written);
            left = left.saturating_sub(1);
            if left == 0 {
                queue.kick_self();
                break;
            }
        }
        queue.notify(&memory);
    }
}

/// What came of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    All,
    /// The character device takes no more.
    Full,
    /// Others are to have their turn.
    Enough,
}

/// Passes on what was not sent of a buffer yet.
fn pass_on(
    port: &Port,
    memory: &GuestRam,
    chain: &Chain,
    sent: &mut u64,
    budget: &mut u64,
) -> Passed {
    let mut buffer = [0; CHUNK];
    let total = chain.readable.len();
    while *sent < total {
        if !port.host_open() {
            // With nobody there, data goes nowhere.
            return Passed::All;
        }
        if *budget == 0 {
            return Passed::Enough;
        }
        let got = chain.readable.read(memory, *sent, &mut buffer);
        let Some(data) = buffer.get(..got).filter(|data| !data.is_empty()) else {
            return Passed::All;
        };
        let taken = port.front(|front| front.write(data)).unwrap_or(got);
        *sent = sent.saturating_add(taken as u64);
        *budget = budget.saturating_sub(taken as u64);
        if taken < got {
            return Passed::Full;
        }
    }
    Passed::All
}

/// Fills a buffer with what the character device has; returns how many bytes.
fn fill(port: &Port, memory: &GuestRam, chain: &Chain) -> u64 {
    let mut buffer = [0; CHUNK];
    let room = chain.writable.len().min(MOST_BYTES);
    let mut done = 0u64;
    while done < room {
        let left = usize::try_from(room.saturating_sub(done)).unwrap_or(CHUNK);
        let part = buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
        let got = port.front(|front| front.read(part)).unwrap_or(0);
        let Some(data) = part.get(..got).filter(|data| !data.is_empty()) else {
            break;
        };
        chain.writable.write(memory, done, data);
        done = done.saturating_add(got as u64);
    }
    done
}

/// Puts a message into a buffer of the driver; false when it gave none.
fn post(queue: &mut Virtqueue, memory: &GuestRam, chain: &mut Chain, bytes: &[u8]) -> bool {
    if !queue.pop(memory, chain) {
        return false;
    }
    let written = chain.writable.write(memory, 0, bytes);
    let written = u32::try_from(written).unwrap_or(u32::MAX);
    queue.complete(memory, chain.head(), written);
    true
}

/// Carries a message out. Which port was opened or closed, which is for later.
fn heard(
    shared: &Shared,
    ports: &BTreeMap<u32, Arc<Port>>,
    message: Message,
) -> Option<(u32, bool)> {
    if message.topic == Topic::DeviceReady {
        if message.value != 0 {
            shared.set_ready();
        }
        return None;
    }
    let Some(port) = ports.get(&message.port) else {
        log::debug!("The driver speaks of serial port {}", message.port);
        return None;
    };
    match message.topic {
        Topic::PortReady if message.value != 0 => port.set_ready(),
        Topic::PortReady => log::debug!("The driver could not add serial port {}", port.nr),
        Topic::PortOpen => return Some((port.nr, message.value != 0)),
        Topic::DeviceReady
        | Topic::PortAdd
        | Topic::PortRemove
        | Topic::ConsolePort
        | Topic::PortName => {}
    }
    None
}

impl QueueWorker for SerialWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        watch.readable(self.shared.wake.fd(), WAKE)?;
        self.refresh(watch)?;
        self.serve_all();
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch) {
        if self.quiet {
            return;
        }
        if token == WAKE {
            self.shared.wake.take();
            if let Err(error) = self.refresh(watch) {
                log::error!("The queues of a serial port cannot be watched: {error}");
            }
            return self.serve_all();
        }
        let index = u16::try_from(token.0).unwrap_or(u16::MAX);
        if let Some(queue) = self.queues.get(&index) {
            queue.take_kick();
        }
        match index {
            CONTROL_IN => self.tell(),
            CONTROL_OUT => {
                self.hear();
                self.tell();
            }
            _ if index % 2 == 0 => self.receive(port_of(index)),
            _ => self.transmit(port_of(index)),
        }
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if std::mem::replace(&mut self.quiet, true) {
            return;
        }
        watch.remove(self.shared.wake.fd());
        for index in std::mem::take(&mut self.watched) {
            if let Some(queue) = self.queues.get(&index) {
                watch.remove(queue.kick_fd());
            }
        }
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        self.queues.values().map(Virtqueue::state).collect()
    }
}
