//! A netdev and who uses it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::{NetPort, NetTraits, Nic, VhostBackend};
use crate::bus::lock;

/// The ports of a netdev, in order of queue pairs; `None` where one is out on lease.
pub type PortStore = Arc<Mutex<Vec<Option<Box<dyn NetPort>>>>>;

/// What a netdev is made of.
pub struct NetdevOptions {
    /// Its id.
    pub id: String,
    /// Its type, as in `type=`.
    pub kind: &'static str,
    /// As in `info network`, behind the type: `ifname=tap0,script=no,downscript=no`.
    pub description: String,
    /// Fixed facts.
    pub traits: NetTraits,
    /// One for each queue pair.
    pub ports: Vec<Box<dyn NetPort>>,
    /// Serves the queues in the ports' place, when its device can do without them.
    pub vhost: Option<Arc<dyn VhostBackend>>,
    /// Whether its other side is there from the start.
    pub link_up: bool,
}

/// Is told that an interface came to a netdev, or left. Does not block, and takes no lock of the
/// netdev's.
pub type NetWatcher = Box<dyn Fn() + Send + Sync>;

/// The host's side of a network, with an id.
pub struct Netdev {
    id: String,
    kind: &'static str,
    traits: NetTraits,
    pairs: usize,
    ports: PortStore,
    /// Leaf.
    vhost: Mutex<Option<Arc<dyn VhostBackend>>>,
    /// What `info network` shows. Leaf.
    description: Mutex<String>,
    /// Told when an interface comes or leaves. Leaf.
    watcher: Mutex<Option<NetWatcher>>,
    /// Who is on the other side. Leaf.
    nic: Mutex<Option<Weak<dyn Nic>>>,
    attached: AtomicBool,
    /// The back end has a peer (stream, vhost-user); always so for others.
    connected: AtomicBool,
    /// set_link on the netdev's own name.
    plugged_in: AtomicBool,
    /// It was deleted.
    closed: Arc<AtomicBool>,
}

impl Netdev {
    /// A netdev that nobody uses.
    pub fn new(options: NetdevOptions) -> Arc<Self> {
        let NetdevOptions {
            id,
            kind,
            description,
            traits,
            ports,
            vhost,
            link_up,
        } = options;
        let served = vhost.as_ref().map_or(0, |vhost| vhost.queue_pairs());
        Arc::new(Netdev {
            id,
            kind,
            traits,
            pairs: ports.len().max(usize::from(served)),
            ports: Arc::new(Mutex::new(ports.into_iter().map(Some).collect())),
            vhost: Mutex::new(vhost),
            description: Mutex::new(description),
            watcher: Mutex::new(None),
            nic: Mutex::new(None),
            attached: AtomicBool::new(false),
            connected: AtomicBool::new(link_up),
            plugged_in: AtomicBool::new(true),
            closed: Arc::default(),
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its type.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// As `info network` shows it, behind the type.
    pub fn description(&self) -> String {
        lock(&self.description).clone()
    }

    /// Changes what `info network` shows (a peer came or went).
    pub fn describe(&self, description: String) {
        *lock(&self.description) = description;
    }

    /// Fixed facts.
    pub fn traits(&self) -> NetTraits {
        self.traits
    }

    /// How many queue pairs it has.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether a NIC uses it.
    pub fn in_use(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// The interface that uses it.
    pub fn nic(&self) -> Option<Arc<dyn Nic>> {
        lock(&self.nic).as_ref().and_then(Weak::upgrade)
    }

    /// Whether frames can pass.
    pub fn link_up(&self) -> bool {
        self.connected.load(Ordering::Acquire)
            && self.plugged_in.load(Ordering::Acquire)
            && !self.is_closed()
    }

    /// Whether it has a peer, where it has such things at all.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Whether it was deleted while a NIC has it.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// It is deleted: its ports are dropped, those on lease when they come back, the NIC's link
    /// goes down and stays so. Its workers are to be started anew, without ports.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for port in &mut *lock(&self.ports) {
            *port = None;
        }
        *lock(&self.vhost) = None;
        self.tell_nic();
    }

    /// The back end's peer came or went. Any thread.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
        self.tell_nic();
    }

    /// set_link on the netdev.
    pub fn set_plugged_in(&self, plugged_in: bool) {
        self.plugged_in.store(plugged_in, Ordering::Release);
        self.tell_nic();
    }

    fn tell_nic(&self) {
        if let Some(nic) = self.nic() {
            nic.set_link(self.link_up());
        }
    }

    /// Says who is told when an interface comes or leaves.
    pub fn set_watcher(&self, watcher: NetWatcher) {
        *lock(&self.watcher) = Some(watcher);
    }

    fn tell_watcher(&self) {
        if let Some(watcher) = &*lock(&self.watcher) {
            watcher();
        }
    }

    /// Lets `act` use a port that is not out on lease. A worker that starts meanwhile waits for
    /// it, so it must be short.
    pub fn with_idle_port(&self, pair: usize, act: impl FnOnce(&mut dyn NetPort)) {
        if let Some(Some(port)) = lock(&self.ports).get_mut(pair) {
            act(&mut **port);
        }
    }

    /// Takes the netdev for one NIC; `None` when another one has it.
    pub fn attach(self: &Arc<Self>) -> Option<NetAttachment> {
        let free = !self.attached.swap(true, Ordering::AcqRel);
        if free {
            self.tell_watcher();
        }
        free.then(|| NetAttachment {
            netdev: self.clone(),
        })
    }
}

/// What a NIC holds. Dropping it frees the netdev for another one.
pub struct NetAttachment {
    netdev: Arc<Netdev>,
}

impl NetAttachment {
    /// The netdev itself.
    pub fn netdev(&self) -> &Arc<Netdev> {
        &self.netdev
    }

    /// Says who uses it, from now on told of its link.
    pub fn set_nic(&self, nic: &Arc<dyn Nic>) {
        *lock(&self.netdev.nic) = Some(Arc::downgrade(nic));
    }

    /// The port of a queue pair, for a worker that is about to run; comes back when dropped.
    /// `None` also when the netdev was deleted in the meantime.
    pub fn port(&self, pair: usize) -> Option<PortLease> {
        let port = lock(&self.netdev.ports).get_mut(pair)?.take()?;
        Some(PortLease {
            port: Some(port),
            pair,
            home: self.netdev.ports.clone(),
            closed: self.netdev.closed.clone(),
        })
    }

    /// Who serves the data queues in the ports' place. To be asked each time that queues start:
    /// when the netdev was deleted there is nobody any more.
    pub fn vhost(&self) -> Option<Arc<dyn VhostBackend>> {
        lock(&self.netdev.vhost).clone()
    }
}

impl Drop for NetAttachment {
    fn drop(&mut self) {
        *lock(&self.netdev.nic) = None;
        self.netdev.attached.store(false, Ordering::Release);
        self.netdev.tell_watcher();
    }
}

/// A port while a worker owns it.
pub struct PortLease {
    /// Always there but in `drop`.
    port: Option<Box<dyn NetPort>>,
    pair: usize,
    home: PortStore,
    closed: Arc<AtomicBool>,
}

impl Deref for PortLease {
    type Target = dyn NetPort;

    fn deref(&self) -> &Self::Target {
        match &self.port {
            Some(port) => &**port,
            None => &Nowhere,
        }
    }
}

impl DerefMut for PortLease {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut **self.port.get_or_insert_with(|| Box::new(Nowhere))
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut home = lock(&self.home);
        if let Some(home) = home.get_mut(self.pair)
            && !self.closed.load(Ordering::Acquire)
        {
            *home = self.port.take();
        }
    }
}

/// Swallows everything.
struct Nowhere;

impl NetPort for Nowhere {
    fn fd(&self) -> std::os::fd::RawFd {
        -1
    }

    fn receive(&mut self, _room: &block::Buffers) -> std::io::Result<Option<usize>> {
        Ok(None)
    }

    fn send(&mut self, _frame: &block::Buffers) -> super::Sent {
        super::Sent::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netdev() -> Arc<Netdev> {
        Netdev::new(NetdevOptions {
            id: "n".into(),
            kind: "test",
            description: String::new(),
            traits: NetTraits::default(),
            ports: vec![Box::new(Nowhere)],
            vhost: None,
            link_up: true,
        })
    }

    #[test]
    fn one_nic_at_a_time_has_a_netdev() {
        let netdev = netdev();
        let first = netdev.attach().unwrap();
        assert!(netdev.in_use());
        assert!(netdev.attach().is_none());
        drop(first);
        assert!(!netdev.in_use());
        assert!(netdev.attach().is_some());
    }

    #[test]
    fn a_port_comes_back_from_its_worker() {
        let netdev = netdev();
        let attachment = netdev.attach().unwrap();
        let lease = attachment.port(0).unwrap();
        assert!(attachment.port(0).is_none());
        assert!(attachment.port(1).is_none());
        drop(lease);
        assert!(attachment.port(0).is_some());
    }

    #[test]
    fn a_netdev_that_is_closed_keeps_nothing() {
        let netdev = netdev();
        let attachment = netdev.attach().unwrap();
        let lease = attachment.port(0).unwrap();
        netdev.close();
        drop(lease);
        assert!(attachment.port(0).is_none());
        assert!(netdev.is_closed() && !netdev.link_up());
        netdev.set_plugged_in(true);
        assert!(!netdev.link_up());
    }

    #[test]
    fn the_link_is_up_while_peer_and_plug_are_there() {
        let netdev = netdev();
        netdev.set_connected(false);
        netdev.set_plugged_in(false);
        netdev.set_connected(true);
        assert!(!netdev.link_up());
        netdev.set_plugged_in(true);
        assert!(netdev.link_up());
    }
}
