//! What the function, the workers of its queues and commands share: the driver's settings and the
//! state of the link.
//!
//! ```text
//! control queue, set_link, announce-self --> change() --> epoch + 1, members are woken
//! member (worker of a queue pair)        --> looks at its next turn, acts, says how far it is
//! control queue                          <-- woken when all are as far: only now it answers
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use api_spec::{RxFilterInfo, RxState};
use block::Waker;

use super::config::{ANNOUNCE, LINK_UP, feature, guest_offloads};
use super::filter::{MAX_VLAN, RxFilter};
use super::{Mac, announce, mac_text};
use crate::backend::net::{NetAttachment, Nic, Offloads, VhostBackend};
use crate::bus::lock;
use crate::cx::EffectSink;
use crate::effect::{Effect, Notice};
use crate::virtio::DeviceSignals;

/// A member that does not run is never waited for.
const AWAY: u64 = u64::MAX;

/// What the driver and commands change. Workers look at a copy that does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub mac: Mac,
    pub filter: RxFilter,
    pub link_up: bool,
    /// The driver is asked to announce where it is.
    pub announce: bool,
    /// Queue pairs in use.
    pub pairs: u16,
    /// Guest offloads that the driver chose; all that were agreed on where it did not.
    pub offloads: Option<u64>,
    /// Agreed on; 0 before the driver is ready.
    pub features: u64,
    /// Frames that the first pair is to announce the interface with, in all.
    pub announcements: u64,
}

impl Settings {
    pub fn new(mac: Mac, link_up: bool) -> Self {
        Settings {
            mac,
            filter: RxFilter::default(),
            link_up,
            announce: false,
            pairs: 1,
            offloads: None,
            features: 0,
            announcements: 0,
        }
    }

    /// Whether the driver chooses VLANs.
    pub fn by_vlan(&self) -> bool {
        self.features & feature::CTRL_VLAN != 0
    }

    /// What frames for the driver may need it to do.
    pub fn guest_offloads(&self) -> Offloads {
        let agreed = self.features & feature::GUEST_OFFLOADS;
        guest_offloads(self.offloads.map_or(agreed, |chosen| chosen & agreed))
    }

    /// As configuration space has it.
    pub fn status(&self) -> u16 {
        let bit = |on: bool, bit: u16| if on { bit } else { 0 };
        bit(self.link_up, LINK_UP) | bit(self.announce, ANNOUNCE)
    }
}

/// A worker of a queue pair, as others see it.
pub(super) struct Member {
    pub waker: Waker,
    /// How far it is.
    seen: AtomicU64,
}

/// Who works on the queues. Empty while nobody does.
#[derive(Default)]
struct Crew {
    members: Vec<Arc<Member>>,
    /// Wakes the control queue's worker.
    control: Option<Waker>,
    /// How the driver is told of changes.
    device: Option<Arc<dyn DeviceSignals>>,
}

/// See the module.
pub(super) struct Shared {
    id: Arc<str>,
    /// As clients call it.
    name: String,
    own_mac: Mac,
    pub netdev: Option<NetAttachment>,
    effects: Arc<dyn EffectSink>,
    /// Leaf, held for a look or a change.
    settings: Mutex<Arc<Settings>>,
    epoch: AtomicU64,
    /// Leaf.
    crew: Mutex<Crew>,
    /// NIC_RX_FILTER_CHANGED was told, and nobody asked since.
    told: AtomicBool,
    /// Another party serves the data queues, or did when they last ran.
    by_vhost: AtomicBool,
    /// The link is not what the driver saw where its state comes from: it is told when its queues
    /// start.
    link_untold: AtomicBool,
    /// Its state came from elsewhere, and the driver cannot be reached before its queues start.
    restored: AtomicBool,
}

/// The link in saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkState {
    /// What the driver saw last.
    pub seen_up: bool,
    /// Somebody pulled the plug: the peer is there.
    pub pulled: bool,
}

impl Shared {
    pub fn new(
        id: &str,
        name: String,
        mac: Mac,
        netdev: Option<NetAttachment>,
        effects: Arc<dyn EffectSink>,
    ) -> Self {
        let link_up = netdev
            .as_ref()
            .is_none_or(|netdev| netdev.netdev().link_up());
        Shared {
            id: id.into(),
            name,
            own_mac: mac,
            netdev,
            effects,
            settings: Mutex::new(Arc::new(Settings::new(mac, link_up))),
            epoch: AtomicU64::new(1),
            crew: Mutex::default(),
            told: AtomicBool::new(false),
            by_vhost: AtomicBool::new(false),
            link_untold: AtomicBool::new(false),
            restored: AtomicBool::new(false),
        }
    }

    /// Whether somebody pulled the plug. A peer that is away may come back.
    fn is_pulled(&self) -> bool {
        let connected = |netdev: &NetAttachment| netdev.netdev().is_connected();
        !self.settings().link_up && self.netdev.as_ref().is_none_or(connected)
    }

    pub fn save_link(&self) -> LinkState {
        let up = self.settings().link_up;
        LinkState {
            seen_up: up != self.link_untold.load(Ordering::Acquire),
            pulled: self.is_pulled(),
        }
    }

    /// The plug is in or not as it was; whether there is a peer is this side's affair.
    pub fn restore_link(&self, state: LinkState) {
        let LinkState { seen_up, pulled } = state;
        let netdev = self.netdev.as_ref();
        let up = !pulled && netdev.is_none_or(|netdev| netdev.netdev().link_up());
        self.change(|settings| settings.link_up = up);
        self.link_untold.store(up != seen_up, Ordering::Release);
        self.restored.store(true, Ordering::Release);
    }

    pub fn settings(&self) -> Arc<Settings> {
        lock(&self.settings).clone()
    }

    /// The address that it has without its driver's doing.
    pub fn own_mac(&self) -> Mac {
        self.own_mac
    }

    /// Who is to serve the data queues in the ports' place. Nobody while somebody pulled the plug:
    /// frames go nowhere then, and others do not know. A peer that is away may come back to them.
    pub fn vhost(&self) -> Option<Arc<dyn VhostBackend>> {
        let netdev = self.netdev.as_ref()?;
        netdev.vhost().filter(|_| !self.is_pulled())
    }

    /// Says whether another party serves the data queues.
    pub fn set_by_vhost(&self, by_vhost: bool) {
        self.by_vhost.store(by_vhost, Ordering::Release);
    }

    /// The number of the latest change.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Changes settings, and has the members look at them.
    pub fn change<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        let result = change(Arc::make_mut(&mut *lock(&self.settings)));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for member in &lock(&self.crew).members {
            member.waker.wake();
        }
        result
    }

    /// The device begins to be served by these.
    pub fn begin(
        &self,
        members: Vec<Arc<Member>>,
        control: Option<Waker>,
        device: Arc<dyn DeviceSignals>,
    ) {
        *lock(&self.crew) = Crew {
            members,
            control,
            device: Some(device),
        };
        self.restored.store(false, Ordering::Release);
        if self.link_untold.swap(false, Ordering::AcqRel) {
            self.config_changed();
        }
    }

    /// Nobody serves the device any more; the driver may still be told of changes.
    pub fn end(&self) {
        let mut crew = lock(&self.crew);
        crew.members.clear();
        crew.control = None;
    }

    /// Back to the state after power-on, but for the link.
    pub fn reset(&self) {
        self.end();
        lock(&self.crew).device = None;
        self.link_untold.store(false, Ordering::Release);
        self.restored.store(false, Ordering::Release);
        self.change(|settings| *settings = Settings::new(self.own_mac, settings.link_up));
    }

    /// Whether all members have acted upon all changes up to `epoch`.
    pub fn all_saw(&self, epoch: u64) -> bool {
        let crew = lock(&self.crew);
        let behind = |member: &Arc<Member>| member.seen.load(Ordering::Acquire) < epoch;
        !crew.members.iter().any(behind)
    }

    /// Configuration space changed.
    fn config_changed(&self) {
        // A copy: the interrupt is raised without the lock.
        let device = lock(&self.crew).device.clone();
        if let Some(device) = device {
            device.config_changed();
        }
    }

    /// The driver changed the filter.
    pub fn filter_changed(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            let device = self.id.to_string();
            let notice = Notice::RxFilterChanged { device };
            self.effects.raise(&self.id, Effect::Notice(notice));
        }
    }
}

impl Member {
    pub fn new(waker: Waker) -> Self {
        Member {
            waker,
            seen: AtomicU64::new(AWAY),
        }
    }

    /// It has acted upon all changes up to `epoch`, of which the control queue is told.
    pub fn saw(&self, epoch: u64, shared: &Shared) {
        self.seen.store(epoch, Ordering::Release);
        if let Some(control) = &lock(&shared.crew).control {
            control.wake();
        }
    }

    /// It stops.
    pub fn leave(&self, shared: &Shared) {
        self.saw(AWAY, shared);
    }
}

impl Nic for Shared {
    fn name(&self) -> &str {
        &self.name
    }

    fn set_link(&self, up: bool) {
        if self.settings().link_up != up {
            self.change(|settings| settings.link_up = up);
            // A driver that cannot be reached yet is told later, unless it is as it saw it again.
            let untold = !self.link_untold.load(Ordering::Acquire);
            let later = untold && self.restored.load(Ordering::Acquire);
            self.link_untold.store(later, Ordering::Release);
            self.config_changed();
        }
    }

    fn wants_restart(&self) -> bool {
        self.vhost().is_some() != self.by_vhost.load(Ordering::Acquire)
    }

    fn rx_filter(&self) -> Option<RxFilterInfo> {
        let settings = self.settings();
        let filter = &settings.filter;
        let state = |none: bool, all: bool| match (none, all) {
            (true, _) => RxState::None,
            (false, true) => RxState::All,
            (false, false) => RxState::Normal,
        };
        let texts = |macs: &[Mac]| macs.iter().copied().map(mac_text).collect();
        let vlans: Vec<i64> = match settings.by_vlan() {
            true => filter.vlans.ids().map(i64::from).collect(),
            false => (0..MAX_VLAN).map(i64::from).collect(),
        };
        self.told.store(false, Ordering::Release);
        Some(RxFilterInfo {
            name: self.name.clone(),
            promiscuous: filter.promisc,
            multicast: state(filter.no_multi, filter.all_multi),
            unicast: state(filter.no_uni, filter.all_uni),
            vlan: state(vlans.is_empty(), !settings.by_vlan()),
            broadcast_allowed: !filter.no_broadcast,
            multicast_overflow: filter.multicast.overflow,
            unicast_overflow: filter.unicast.overflow,
            main_mac: mac_text(settings.mac),
            vlan_table: vlans,
            unicast_table: texts(&filter.unicast.macs),
            multicast_table: texts(&filter.multicast.macs),
        })
    }

    fn announce(&self) {
        let features = self.settings().features;
        let both = feature::GUEST_ANNOUNCE | feature::CTRL_VQ;
        let by_driver = features & both == both;
        self.change(|settings| {
            settings.announce |= by_driver;
            settings.announcements = settings.announcements.wrapping_add(1);
        });
        if by_driver {
            self.config_changed();
        }
        if !by_driver
            && self.by_vhost.load(Ordering::Acquire)
            && let Some(vhost) = self.vhost()
        {
            vhost.announce(self.own_mac);
        }
        // Where no worker has the port, it is here.
        if let Some(netdev) = self
            .netdev
            .as_ref()
            .filter(|netdev| netdev.netdev().link_up())
            && let Some(mut port) = netdev.port(0)
        {
            announce::send(&mut *port, netdev.netdev().traits().header, self.own_mac);
        }
    }

    fn mac(&self) -> Option<Mac> {
        Some(self.own_mac)
    }

    fn describe(&self) -> String {
        format!("model=virtio-net-pci,macaddr={}", mac_text(self.own_mac))
    }
}
