//! The way into the server from other threads: a queue, and who has a client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use api_spec::{Event, MonitorId};
use mio::Waker;

use super::{Endpoint, MonitorOptions};

pub(super) enum Message {
    Reply {
        monitor: MonitorId,
        generation: u64,
        oob: bool,
        text: String,
    },
    Event(Event, SystemTime),
    Add(MonitorId, Endpoint, MonitorOptions),
    Remove(MonitorId),
    DropClient(MonitorId),
    Shutdown,
}

pub(super) struct Shared {
    pub(super) queue: Mutex<VecDeque<Message>>,
    /// Set while the thread sleeps or is about to: only then must it be woken.
    pub(super) asleep: AtomicBool,
    pub(super) waker: Waker,
    /// Monitors that have had a client, and whether they have one now.
    pub(super) connected: Mutex<BTreeMap<MonitorId, bool>>,
    pub(super) connection_made: Condvar,
}

impl Shared {
    pub(super) fn post(&self, message: Message) {
        lock(&self.queue).push_back(message);
        if self.asleep.swap(false, Ordering::SeqCst) {
            let _ = self.waker.wake();
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Talks to the server from other threads.
#[derive(Clone)]
pub struct ServerHandle(pub(super) Arc<Shared>);

impl ServerHandle {
    /// Adds a monitor.
    pub fn add_monitor(&self, id: MonitorId, endpoint: Endpoint, options: MonitorOptions) {
        self.0.post(Message::Add(id, endpoint, options));
    }
    /// Takes a monitor away, and its client with it.
    pub fn remove_monitor(&self, id: MonitorId) {
        self.0.post(Message::Remove(id));
    }
    /// Parts a monitor from its client, as if that had left. What it was to be told is lost.
    pub fn drop_client(&self, id: MonitorId) {
        self.0.post(Message::DropClient(id));
    }
    /// Sends an event to every client that has negotiated.
    pub fn broadcast(&self, event: Event) {
        self.0.post(Message::Event(event, SystemTime::now()));
    }
    /// Sends what waits, closes everything, removes socket paths and ends the thread.
    pub fn shutdown(&self) {
        self.0.post(Message::Shutdown);
    }
    /// Whether a monitor has a client now.
    pub fn is_connected(&self, id: MonitorId) -> bool {
        lock(&self.0.connected).get(&id).copied().unwrap_or(false)
    }
    /// Waits until a monitor has had a client, and no longer than `time`; says whether it has.
    pub fn wait_connected(&self, id: MonitorId, time: Duration) -> bool {
        let nobody = |connected: &mut BTreeMap<MonitorId, bool>| !connected.contains_key(&id);
        let connected = lock(&self.0.connected);
        let waited = self
            .0
            .connection_made
            .wait_timeout_while(connected, time, nobody);
        let (connected, _) = waited.unwrap_or_else(PoisonError::into_inner);
        connected.contains_key(&id)
    }
}
