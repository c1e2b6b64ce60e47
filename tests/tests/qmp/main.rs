//! The monitor as its clients see it: no guest, no KVM.

mod block;
mod chardev;
mod clients;
mod events;
mod fds;
mod framing;
mod graph;
mod hotplug;
mod images;
mod limits;
mod manual;
mod media;
mod net;
mod netsock;
mod objects;
mod qom;
mod queries;
mod schema;
mod session;
mod snapshots;
mod spec;
mod text;
mod transports;
mod usernet;
mod yank;
