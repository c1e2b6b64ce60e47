//! Saved state of the interface beyond the transport's.

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::config::feature;
use super::filter::{MAX_MACS, MacList, RxFilter, Vlans};
use super::shared::{LinkState, Settings};
use super::{Mac, Net};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_one(pairs: &u16) -> bool {
    *pairs == 1
}

/// The interface. What the driver did not change is as [`Default`] has it, but for the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VirtioNetV1 {
    /// Its address now.
    pub mac: Mac,
    /// The driver is asked to announce where it is.
    #[serde(skip_serializing_if = "is_default")]
    pub announce: bool,
    /// The driver saw the link down.
    #[serde(skip_serializing_if = "is_default")]
    pub link_down: bool,
    /// Somebody pulled the plug.
    #[serde(skip_serializing_if = "is_default")]
    pub unplugged: bool,
    /// Queue pairs in use.
    #[serde(skip_serializing_if = "is_one")]
    pub pairs: u16,
    /// Guest offloads that the driver chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offloads: Option<u64>,
    /// All frames are wanted.
    pub promisc: bool,
    /// All frames to groups are wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub all_multi: bool,
    /// All frames to one interface are wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub all_uni: bool,
    /// No frames to groups are wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub no_multi: bool,
    /// No frames to one interface are wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub no_uni: bool,
    /// No broadcasts are wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub no_broadcast: bool,
    /// Further addresses.
    #[serde(skip_serializing_if = "is_default")]
    pub unicast: Vec<Mac>,
    /// There were too many of them.
    #[serde(skip_serializing_if = "is_default")]
    pub unicast_overflow: bool,
    /// Groups.
    #[serde(skip_serializing_if = "is_default")]
    pub multicast: Vec<Mac>,
    /// There were too many of them.
    #[serde(skip_serializing_if = "is_default")]
    pub multicast_overflow: bool,
    /// VLANs.
    #[serde(skip_serializing_if = "is_default")]
    pub vlans: Vec<u16>,
}

impl Default for VirtioNetV1 {
    fn default() -> Self {
        VirtioNetV1 {
            mac: [0; 6],
            announce: false,
            link_down: false,
            unplugged: false,
            pairs: 1,
            offloads: None,
            promisc: true,
            all_multi: false,
            all_uni: false,
            no_multi: false,
            no_uni: false,
            no_broadcast: false,
            unicast: Vec::new(),
            unicast_overflow: false,
            multicast: Vec::new(),
            multicast_overflow: false,
            vlans: Vec::new(),
        }
    }
}

impl Snapshot for Net {
    type State = VirtioNetV1;
    const ID: &'static str = "virtio-net";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let settings = self.shared.settings();
        let Settings {
            mac,
            filter:
                RxFilter {
                    promisc,
                    all_multi,
                    all_uni,
                    no_multi,
                    no_uni,
                    no_broadcast,
                    unicast,
                    multicast,
                    vlans,
                },
            // Below.
            link_up: _,
            announce,
            pairs,
            offloads,
            // The transport's.
            features: _,
            announcements: _,
        } = &*settings;
        let LinkState { seen_up, pulled } = self.shared.save_link();
        VirtioNetV1 {
            mac: *mac,
            announce: *announce,
            link_down: !seen_up,
            unplugged: pulled,
            pairs: *pairs,
            offloads: *offloads,
            promisc: *promisc,
            all_multi: *all_multi,
            all_uni: *all_uni,
            no_multi: *no_multi,
            no_uni: *no_uni,
            no_broadcast: *no_broadcast,
            unicast: unicast.macs.clone(),
            unicast_overflow: unicast.overflow,
            multicast: multicast.macs.clone(),
            multicast_overflow: multicast.overflow,
            vlans: vlans.ids().collect(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let VirtioNetV1 {
            mac,
            announce,
            link_down,
            unplugged,
            pairs,
            offloads,
            promisc,
            all_multi,
            all_uni,
            no_multi,
            no_uni,
            no_broadcast,
            unicast,
            unicast_overflow,
            multicast,
            multicast_overflow,
            vlans,
        } = state;
        let refuse = |reason: String| {
            Err(StateError::Body {
                id: Self::ID.into(),
                reason,
            })
        };
        if pairs == 0 || pairs > self.choice.pairs {
            return refuse(format!("pairs: {pairs}, {} here", self.choice.pairs));
        }
        if let Some(bits) = offloads.filter(|bits| bits & !feature::GUEST_OFFLOADS != 0) {
            return refuse(format!("offloads: {bits:#x}"));
        }
        let macs = unicast.len().saturating_add(multicast.len());
        if macs > MAX_MACS {
            return refuse(format!("unicast, multicast: {macs} addresses"));
        }
        let mut numbers = Vlans::default();
        for id in vlans {
            if !numbers.set(id, true) {
                return refuse(format!("vlans: {id}"));
            }
        }
        let list = |macs, overflow| MacList { macs, overflow };
        self.shared.change(|settings| {
            *settings = Settings {
                mac,
                filter: RxFilter {
                    promisc,
                    all_multi,
                    all_uni,
                    no_multi,
                    no_uni,
                    no_broadcast,
                    unicast: list(unicast, unicast_overflow),
                    multicast: list(multicast, multicast_overflow),
                    vlans: numbers,
                },
                link_up: settings.link_up,
                announce,
                pairs,
                offloads,
                features: settings.features,
                announcements: settings.announcements,
            };
        });
        self.shared.restore_link(LinkState {
            seen_up: !link_down,
            pulled: unplugged,
        });
        Ok(())
    }
}
