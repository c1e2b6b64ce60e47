//! The back end `vhost-user`: another process serves the queues.

use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use api_spec::{NetdevVhostUserOptions, QmpError, QmpResult};
use devices::backend::net::{NetTraits, Netdev, NetdevOptions, Offloads};
use devices::vhost::user::{Link, LinkOptions, MAX_PAIRS, UserNet};

use super::{NetCaller, NetOpenCx, Opened};
use crate::control::chardevs::Lease;
use crate::process;
use crate::threads::ThreadKind;

/// How long a peer that is there may take to say what it can do.
const FIRST_WORDS: Duration = Duration::from_secs(3);

/// The link, its thread and its socket; all end with it.
struct Keep {
    link: Arc<Link>,
    thread: Option<JoinHandle<Option<()>>>,
    /// Goes last: the socket is free then.
    _lease: Arc<Lease>,
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.link.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes it. The command line waits for the peer, as QEMU does; a command waits only for one that
/// is there, and without one the interface has no link until it comes.
///
/// # Errors
/// In QEMU's words, when there is no such socket, the number of queues makes no sense, or the peer
/// that is there does not serve them.
pub fn open(id: &str, options: &NetdevVhostUserOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let NetdevVhostUserOptions {
        chardev,
        vhostforce: _,
        queues,
    } = options;
    let loan = cx.take_loan();
    let loan = loan.ok_or_else(|| QmpError::generic(format!("chardev \"{chardev}\" not found")))?;
    let pairs = check_pairs(queues.unwrap_or(1))?;
    let netdev: Arc<OnceLock<Weak<Netdev>>> = Arc::default();
    let (told, control) = (netdev.clone(), cx.control.clone());
    let lease = Arc::downgrade(&loan.lease);
    let changed = move |connected| {
        if let Some(lease) = lease.upgrade() {
            lease.set_connected(connected);
        }
        if let Some(netdev) = told.get().and_then(Weak::upgrade) {
            // Interfaces hear of it from control.
            control.run(move |control| {
                netdev.set_connected(connected);
                if let Some(nic) = netdev.nic() {
                    control.follow_link(&nic);
                }
            });
        }
    };
    let host = |error: std::io::Error| {
        let why = process::errno(&error);
        QmpError::generic(format!("vhost-user netdev '{id}': {why}"))
    };
    let link = Link::new(LinkOptions {
        id: id.to_owned(),
        pairs,
        changed: Box::new(changed),
    });
    let link = link.map_err(host)?;
    let yanked = Arc::downgrade(&link);
    loan.lease.set_yanker(Box::new(move || {
        if let Some(link) = yanked.upgrade() {
            link.yank();
        }
    }));
    let here = loan.peer.first.is_some();
    let (served, peer) = (link.clone(), loan.peer);
    let body = move || served.serve(peer);
    let name = format!("vhost-user {id}");
    let thread = cx.control.spawn(ThreadKind::Worker, &name, body);
    let keep = Keep {
        thread: Some(thread.map_err(host)?),
        link: link.clone(),
        _lease: loan.lease,
    };
    if cx.caller == NetCaller::CommandLine && !loan.only {
        if !here {
            eprintln!(
                "qvmd: -netdev vhost-user,id={id},chardev={chardev}: info: waiting for connection \
                 on: {}",
                loan.name
            );
        }
        process::interruptibly(|time| link.wait_any(time))
            .map_err(|signal| QmpError::generic(signal.to_string()))?;
    } else if here && !link.wait_agreed(FIRST_WORDS) && loan.only {
        return Err(QmpError::generic("failed to init vhost_net for queue 0"));
    }
    let made = Netdev::new(NetdevOptions {
        id: id.to_owned(),
        kind: "vhost-user",
        description: format!("vhost-user0 to {chardev}"),
        traits: NetTraits {
            header: true,
            // What the peer does not do is taken away by its features.
            offloads: Offloads::ALL,
        },
        ports: Vec::new(),
        vhost: Some(Arc::new(UserNet::new(link.clone(), pairs))),
        link_up: link.is_connected(),
    });
    let _ = netdev.set(Arc::downgrade(&made));
    // It may have changed before there was anybody to tell.
    made.set_connected(link.is_connected());
    Ok(Opened {
        netdev: made,
        keep: Box::new(keep),
    })
}

fn check_pairs(pairs: i64) -> QmpResult<u16> {
    let pairs = u16::try_from(pairs).ok();
    pairs
        .filter(|pairs| (1..=MAX_PAIRS).contains(pairs))
        .ok_or_else(|| {
            QmpError::generic(format!(
                "vhost-user number of queues must be in range [1, {MAX_PAIRS}]"
            ))
        })
}
