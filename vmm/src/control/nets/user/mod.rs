//! The back end `user`: a network that the host's network does not notice, played by a child
//! process of ours (`qvmd-usernet`); see the crate `usernet`.
//!
//! ```text
//! options --> Plan (pure) --> doors, taken in control --> open, on a worker --> Child, MessagePort
//! ```

mod child;
mod doors;
mod numbers;
mod plan;
mod program;
mod pump;
mod rules;
mod text;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock, Weak};

use api_spec::{NetdevUserOptions, QmpError, QmpResult};
use devices::backend::net::{MessagePort, NetTraits, Netdev, NetdevOptions};
use usernet::wire::{Failure, Started};

use super::{ControlLine, NetOpenCx, Opened};
use child::{Birth, Child, OnEnd};
pub use doors::Doors;
use plan::Plan;
use pump::Pump;

/// What lives as long as the netdev. In this order: the child has the other ends of the doors.
pub struct UserNet {
    child: Child,
    _doors: Doors,
}

/// Makes it.
///
/// # Errors
/// In QEMU's words when the options make no sense or the host refuses; when the child's program
/// is not installed.
pub fn open(id: &str, options: &NetdevUserOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let plan = Plan::new(options)?;
    let allowed = cx.launcher.check();
    allowed.map_err(|error| host(id, &error))?;
    let program = program::find()?;
    let mut doors = cx.take_doors();
    let (pumps, streams) = streams(id, &mut doors)?;
    let (port, frames) = MessagePort::pair().map_err(|error| host(id, &error))?;
    let description = plan.description.clone();
    let netdev = Arc::new(OnceLock::<Weak<Netdev>>::new());
    let birth = Birth {
        launcher: cx.launcher.clone(),
        program,
        config: plan.config.clone(),
        frames,
        streams,
        pumps,
    };
    let on_end = when_it_ends(id, netdev.clone(), cx.control.clone());
    let (child, started) =
        Child::start(id, birth, &cx.control, on_end).map_err(QmpError::generic)?;
    match started {
        Started::Ready => {}
        Started::Failed(failure) => return Err(refused(&plan, failure)),
    }
    let made = Netdev::new(NetdevOptions {
        id: id.to_owned(),
        kind: "user",
        description,
        traits: NetTraits::default(),
        ports: vec![Box::new(port)],
        vhost: None,
        link_up: true,
    });
    // Nobody else sets it.
    let _ = netdev.set(Arc::downgrade(&made));
    let keep = UserNet {
        child,
        _doors: doors,
    };
    Ok(Opened {
        netdev: made,
        keep: Box::new(keep),
    })
}

/// A stream for each door.
fn streams(id: &str, doors: &mut Doors) -> QmpResult<(Vec<Pump>, Vec<OwnedFd>)> {
    let (mut pumps, mut streams) = (Vec::new(), Vec::new());
    for front in doors.take_fronts() {
        let (near, far) = UnixStream::pair().map_err(|error| host(id, &error))?;
        pumps.push(Pump::new(front, near).map_err(|error| host(id, &error))?);
        streams.push(OwnedFd::from(far));
    }
    Ok((pumps, streams))
}

fn host(id: &str, error: &std::io::Error) -> QmpError {
    QmpError::generic(format!("Cannot start the network '{id}': {error}"))
}

fn refused(plan: &Plan, failure: Failure) -> QmpError {
    match failure {
        Failure::HostForward(index) => {
            let rule = plan.host_rules.get(index).map_or("", String::as_str);
            rules::host_forward_refused(rule)
        }
        Failure::GuestForward(index) => {
            let rule = plan
                .guest_rules
                .get(index)
                .map_or("", |(text, _)| text.as_str());
            rules::guest_forward_refused(rule)
        }
        Failure::Other(words) => QmpError::generic(words),
    }
}

/// The guest goes on without a network: its link is down.
fn when_it_ends(id: &str, netdev: Arc<OnceLock<Weak<Netdev>>>, control: ControlLine) -> OnEnd {
    let id = id.to_owned();
    Box::new(move |how| {
        log::error!("The network '{id}' has ended ({how}): its link is down");
        control.run(move |_| {
            if let Some(netdev) = netdev.get().and_then(Weak::upgrade) {
                netdev.set_connected(false);
            }
        });
    })
}
