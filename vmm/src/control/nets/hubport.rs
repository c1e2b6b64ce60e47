//! The back end `hubport`: a place in a hub, for an interface or for another netdev.

use api_spec::{NetdevHubPortOptions, QmpError, QmpResult};
use devices::backend::net::{NetTraits, Netdev, NetdevOptions};

use super::service::refused;
use super::{NetOpenCx, Opened};

/// Makes it.
///
/// # Errors
/// When the other netdev cannot be in a hub, or the host is out of descriptors.
pub fn open(id: &str, options: &NetdevHubPortOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let hub = cx.service.hubs(|hubs| hubs.get(options.hubid));
    let mut netdev = NetdevOptions {
        id: id.to_owned(),
        kind: "hubport",
        description: format!("hub={}", options.hubid),
        traits: NetTraits::default(),
        ports: Vec::new(),
        vhost: None,
        link_up: true,
    };
    let Some(other) = cx.take_netdev() else {
        let port = hub.port(id).map_err(|error| refused(&error))?;
        netdev.ports.push(port);
        return Ok(Opened {
            netdev: Netdev::new(netdev),
            keep: Box::new(()),
        });
    };
    let name = other.netdev().id().to_owned();
    let handle = cx.service.handle(&cx.control)?;
    let member = hub.connect(id, other, &handle).ok_or_else(|| {
        QmpError::generic(format!("netdev '{name}' cannot be connected to a hub"))
    })?;
    let netdev = Netdev::new(netdev);
    // There is nothing behind it for an interface.
    let taken = netdev.attach();
    Ok(Opened {
        netdev,
        keep: Box::new(HubMember {
            other: name,
            hub: hub.id(),
            _member: member,
            _taken: taken,
        }),
    })
}

/// Keeps another netdev in its hub.
pub(super) struct HubMember {
    /// The other netdev's id.
    pub other: String,
    hub: i32,
    _member: devices::backend::net::NetGuard,
    _taken: Option<devices::backend::net::NetAttachment>,
}

impl HubMember {
    /// The hub's number, when it is that of the netdev `id`.
    pub(super) fn hub_of(&self, id: &str) -> Option<i32> {
        (self.other == id).then_some(self.hub)
    }
}
