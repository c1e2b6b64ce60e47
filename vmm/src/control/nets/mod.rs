//! Networks: netdevs by id, and how they come and go.
//!
//! ```text
//! netdev_add --> Nets::reserve --> open, on a worker --> Nets::complete
//! device_add --> Nets::attach ---> the NIC
//! netdev_del --> Nets::remove ---> Netdev::close, the NIC's queues start anew --> dropped, on a worker
//! ```
//!
//! Each kind of back end has a file of its own here with one function, which makes it from its
//! options: `open(id, options, cx)`. It may block, and knows of control only what
//! [`NetOpenCx`] has.

mod add;
mod announce;
mod bridge;
mod cx;
mod dgram;
mod hubport;
mod link;
mod program;
mod rx_filter;
mod service;
mod socket;
mod stream;
mod tap;
mod text;
mod user;
mod vhost_user;

use std::any::Any;
use std::sync::Arc;

use api_spec::{Netdev as NetdevOptions, NetdevBranch as Branch, QmpError, QmpResult};
use devices::backend::net::{NetAttachment, Netdev};

pub use announce::{Announcements, default_announcement};
pub use cx::{ControlLine, NetCaller, NetOpenCx};
pub use service::NetService;

/// What the options of a netdev became.
pub struct Opened {
    /// The netdev.
    pub netdev: Arc<Netdev>,
    /// What lives as long as it does: a thread's handle, a child. Dropped on a worker; that may
    /// block for a short time. Found again by [`Nets::kept`].
    pub keep: Box<dyn Any + Send>,
}

/// Makes a netdev. Blocks; knows nothing of control but what `cx` has.
///
/// # Errors
/// In QEMU's words, when the options make no sense or the host refuses.
pub fn open(options: &NetdevOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let id = &options.id;
    match &options.r#type {
        Branch::User(user) => user::open(id, user, cx),
        Branch::Tap(tap) => tap::open(id, tap, cx),
        Branch::Socket(socket) => socket::open(id, socket, cx),
        Branch::Stream(stream) => stream::open(id, stream, cx),
        Branch::Dgram(dgram) => dgram::open(id, dgram, cx),
        Branch::Bridge(bridge) => bridge::open(id, bridge, cx),
        Branch::Hubport(port) => hubport::open(id, port, cx),
        Branch::VhostUser(vhost) => vhost_user::open(id, vhost, cx),
    }
}

/// All netdevs, in the order in which they were made.
#[derive(Default)]
pub struct Nets {
    list: Vec<Opened>,
    /// Ids of those under way.
    reserved: Vec<String>,
    /// What those with sockets share.
    pub(super) service: NetService,
}

impl Nets {
    /// Keeps an id for a netdev that is being made.
    ///
    /// # Errors
    /// When it is taken, or is none.
    pub fn reserve(&mut self, id: &str, caller: NetCaller) -> QmpResult<()> {
        super::objects::check_id(id)?;
        if self.find(id).is_some() || self.reserved.iter().any(|other| other == id) {
            return Err(QmpError::generic(match caller {
                NetCaller::Command => format!("Duplicate ID '{id}'"),
                NetCaller::CommandLine | NetCaller::Text => {
                    format!("Duplicate ID '{id}' for netdev")
                }
            }));
        }
        self.reserved.push(id.to_owned());
        Ok(())
    }

    /// Whether a netdev of that id is being made.
    pub fn is_reserved(&self, id: &str) -> bool {
        self.reserved.iter().any(|other| other == id)
    }

    /// Frees a reserved id.
    pub fn give_up(&mut self, id: &str) {
        self.reserved.retain(|other| other != id);
    }

    /// Puts what became of a netdev with a reserved id into its place.
    ///
    /// # Errors
    /// The one that making it ended with.
    pub fn complete(&mut self, id: &str, opened: QmpResult<Opened>) -> QmpResult<()> {
        self.give_up(id);
        self.list.push(opened?);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Netdev>> {
        self.list.iter().map(|opened| &opened.netdev)
    }

    /// The netdev of that id.
    pub fn find(&self, id: &str) -> Option<&Arc<Netdev>> {
        self.iter().find(|netdev| netdev.id() == id)
    }

    /// What a back end keeps for the netdev `id`, where it is of that type.
    pub fn kept<T: 'static>(&self, id: &str) -> Option<&T> {
        let opened = self.list.iter().find(|opened| opened.netdev.id() == id)?;
        opened.keep.downcast_ref()
    }

    /// All that back ends keep of that type, with the netdevs' ids.
    pub fn all_kept<T: 'static>(&self) -> impl Iterator<Item = (&str, &T)> {
        self.list
            .iter()
            .filter_map(|opened| Some((opened.netdev.id(), opened.keep.downcast_ref()?)))
    }

    /// Takes the netdev `id` for a NIC; `owner` is the type that has the property `netdev`.
    ///
    /// # Errors
    /// When there is none of that id, or another NIC has it.
    pub fn attach(&self, id: &str, owner: &str) -> QmpResult<NetAttachment> {
        let netdev = self.find(id).ok_or_else(|| {
            QmpError::generic(format!("Property '{owner}.netdev' can't find value '{id}'"))
        })?;
        netdev.attach().ok_or_else(|| {
            QmpError::generic(format!(
                "Property '{owner}.netdev' can't take value '{id}', it's in use"
            ))
        })
    }

    /// Takes the netdev `id` off the list.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn remove(&mut self, id: &str) -> QmpResult<Opened> {
        let index = self.list.iter().position(|net| net.netdev.id() == id);
        let index = index.ok_or_else(|| QmpError::device_not_found(id))?;
        Ok(self.list.remove(index))
    }

    /// Takes the netdev `id` out of the hub it is in.
    fn leave_hub(&mut self, id: &str) {
        let members = self.list.iter_mut();
        members
            .filter_map(|opened| opened.keep.downcast_mut::<hubport::HubMember>())
            .filter(|member| member.other == id)
            .for_each(hubport::HubMember::let_go);
    }

    /// Takes all of them off the list, for the end.
    pub fn take_all(&mut self) -> Vec<Opened> {
        std::mem::take(&mut self.list)
    }
}
