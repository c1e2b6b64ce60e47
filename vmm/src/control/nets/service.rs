//! What socket netdevs share: the net thread, started with the first of them, and the hubs.

use std::sync::{Arc, Mutex};

use api_spec::{Event, QmpError, QmpResult};
use devices::backend::net::{
    Hubs, LinkNames, LinkNews, LinkTell, NetHandle, NetServer, Netdev, Way, open_link,
};
use devices::backend::socket::{Errand, Place, system_words};
use devices::bus::lock;

use super::{ControlLine, NetOpenCx, Opened};
use crate::control::{Control, addresses};
use crate::threads::ThreadKind;

/// Shared by all netdevs.
#[derive(Clone, Default)]
pub struct NetService(Arc<Parts>);

#[derive(Default)]
struct Parts {
    /// Held while the thread is started.
    handle: Mutex<Option<NetHandle>>,
    hubs: Mutex<Hubs>,
}

impl NetService {
    /// The net thread, which is started if it does not run.
    ///
    /// # Errors
    /// When the host is out of threads or descriptors.
    pub fn handle(&self, line: &ControlLine) -> QmpResult<NetHandle> {
        let mut handle = lock(&self.0.handle);
        if let Some(handle) = &*handle {
            return Ok(handle.clone());
        }
        let resolver = line.clone();
        let errands = move |errand: Errand| {
            resolver
                .spawn(ThreadKind::Worker, "worker", errand)
                .map(drop)
        };
        let (server, made) = NetServer::new(Arc::new(errands)).map_err(|error| refused(&error))?;
        line.spawn(ThreadKind::Net, "net", move || server.run())
            .map_err(|error| refused(&error))?;
        Ok(handle.insert(made).clone())
    }

    /// Does something with the hubs.
    pub fn hubs<T>(&self, act: impl FnOnce(&mut Hubs) -> T) -> T {
        act(&mut lock(&self.0.hubs))
    }

    /// Ends the thread.
    pub fn shut_down(&self) {
        if let Some(handle) = lock(&self.0.handle).take() {
            handle.shutdown();
        }
    }
}

/// What the host refused.
pub(super) fn refused(error: &std::io::Error) -> QmpError {
    QmpError::generic(format!(
        "Networks cannot be served: {}",
        system_words(error)
    ))
}

/// How a netdev with a connection shows what becomes of it.
pub(super) struct LinkStyle {
    /// Its type.
    pub kind: &'static str,
    /// As in `info network` while nobody is there.
    pub idle: &'static str,
    /// The same with a peer.
    pub connected: fn(&Place) -> String,
    /// Whether clients hear of it (NETDEV_STREAM_CONNECTED).
    pub events: bool,
}

/// Makes a netdev whose peer comes and goes.
///
/// # Errors
/// When the host is out of threads or descriptors.
pub(super) fn open_stream(
    id: &str,
    way: Way,
    style: LinkStyle,
    cx: &NetOpenCx,
) -> QmpResult<Opened> {
    let handle = cx.service.handle(&cx.control)?;
    let names = LinkNames {
        id: id.to_owned(),
        kind: style.kind,
        description: style.idle.to_owned(),
    };
    let again =
        matches!(&way, Way::Listen(_)) || matches!(&way, Way::Dial(dialer) if dialer.dials_again());
    let control = cx.control.clone();
    let told = id.to_owned();
    let tell: LinkTell = Box::new(move |netdev, news| {
        let Some(netdev) = netdev.upgrade() else {
            return;
        };
        let description = match &news {
            LinkNews::Connected(place) => (style.connected)(place),
            LinkNews::Disconnected if again => style.idle.to_owned(),
            LinkNews::Disconnected => String::new(),
            LinkNews::Failed(why) => format!("error: {why}"),
        };
        let event = match &news {
            LinkNews::Connected(place) if style.events => Some(Event::NetdevStreamConnected {
                netdev_id: told.clone(),
                addr: addresses::of_place(place),
            }),
            LinkNews::Disconnected if style.events => Some(Event::NetdevStreamDisconnected {
                netdev_id: told.clone(),
            }),
            LinkNews::Connected(_) | LinkNews::Disconnected | LinkNews::Failed(_) => None,
        };
        let change = LinkChange {
            netdev,
            connected: matches!(news, LinkNews::Connected(_)),
            description,
            event,
        };
        control.run(move |control| control.link_changed(change));
    });
    let (netdev, guard) = open_link(&handle, way, names, tell).map_err(|error| refused(&error))?;
    Ok(Opened {
        netdev,
        keep: Box::new(guard),
    })
}

/// What control does when a peer came or went.
struct LinkChange {
    netdev: Arc<Netdev>,
    connected: bool,
    description: String,
    event: Option<Event>,
}

impl Control {
    fn link_changed(&mut self, change: LinkChange) {
        if self.nets.is_reserved(change.netdev.id()) {
            // The worker's word that the netdev is made is on its way: the client hears of its
            // peer after that.
            let line = ControlLine::new(self.mail.clone());
            return line.run(move |control| control.link_changed(change));
        }
        let LinkChange {
            netdev,
            connected,
            description,
            event,
        } = change;
        if netdev.is_closed() {
            return;
        }
        netdev.describe(description);
        netdev.set_connected(connected);
        if let Some(event) = event {
            self.emit(event);
        }
    }
}
