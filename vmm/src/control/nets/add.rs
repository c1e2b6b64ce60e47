//! netdev_add and netdev_del.

use std::os::fd::OwnedFd;

use api_spec::{
    MonitorId, Netdev as NetdevOptions, NetdevBranch as Branch, NetdevTapOptions, QmpError,
    QmpResult, Reply, SocketAddress, SocketAddressBranch,
};
use devices::bus::lock;

use super::cx::is_number;
use super::{ControlLine, NetCaller, NetOpenCx, open};
use crate::control::Control;
use crate::sys;

/// A reserved id, given up when nobody makes the netdev: there was no thread for it.
struct Reserved {
    id: Option<String>,
    control: ControlLine,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.control.run(move |control| control.nets.give_up(&id));
        }
    }
}

impl Control {
    /// netdev_add by a client of `monitor`: opened by a worker, which may take its time.
    pub(in crate::control) fn add_netdev_for<R: api_spec::Encode + 'static>(
        &mut self,
        monitor: MonitorId,
        caller: NetCaller,
        options: NetdevOptions,
        reply: Reply<R>,
        answer: fn(QmpResult<()>) -> QmpResult<R>,
    ) {
        let cx = match self.net_open_cx(Some(monitor), caller, &options) {
            Ok(cx) => cx,
            Err(error) => return reply.send(answer(Err(error))),
        };
        let mut reserved = Reserved {
            id: Some(options.id.clone()),
            control: cx.control.clone(),
        };
        let work = move || open(&options, &cx);
        self.answer_later(reply, work, move |control, opened| {
            let id = reserved.id.take().unwrap_or_default();
            answer(control.nets.complete(&id, opened))
        });
    }

    /// `-netdev`. Blocks.
    ///
    /// # Errors
    /// As netdev_add, in the words of the command line.
    pub fn add_netdev(&mut self, options: &NetdevOptions) -> QmpResult<()> {
        let cx = self.net_open_cx(None, NetCaller::CommandLine, options)?;
        let opened = open(options, &cx);
        self.nets.complete(&options.id, opened)
    }

    /// Keeps the id, and takes what the options name.
    fn net_open_cx(
        &mut self,
        monitor: Option<MonitorId>,
        caller: NetCaller,
        options: &NetdevOptions,
    ) -> QmpResult<NetOpenCx> {
        let cx = NetOpenCx::new(
            caller,
            self.mail.clone(),
            self.nets.service.clone(),
            self.launcher.clone(),
        );
        if let Branch::Hubport(port) = &options.r#type
            && let Some(other) = &port.netdev
        {
            let found = self.nets.find(other);
            let found =
                found.ok_or_else(|| QmpError::generic(format!("netdev '{other}' not found")))?;
            let taken = found.attach();
            let taken =
                taken.ok_or_else(|| QmpError::generic(format!("netdev '{other}' is in use")))?;
            *lock(&cx.netdev) = Some(taken);
        }
        if let Branch::VhostUser(user) = &options.r#type {
            *lock(&cx.loan) = Some(self.chardevs.lend_socket(&user.chardev)?);
        }
        self.nets.reserve(&options.id, caller)?;
        for name in fd_names(options) {
            if let Some(fd) = self.passed_fd(monitor, name) {
                lock(&cx.fds).insert(name.to_owned(), fd);
            }
        }
        if let Branch::User(user) = &options.r#type {
            match self.take_doors(caller, user, &cx.control) {
                Ok(doors) => *lock(&cx.doors) = doors,
                Err(error) => {
                    self.nets.give_up(&options.id);
                    return Err(error);
                }
            }
        }
        Ok(cx)
    }

    /// An inherited descriptor by number, or one of getfd by name.
    fn passed_fd(&mut self, monitor: Option<MonitorId>, name: &str) -> Option<OwnedFd> {
        match monitor {
            _ if is_number(name) => sys::adopt(name.parse().ok()?).ok(),
            Some(monitor) => self.fds.take(monitor.0, name).ok(),
            None => None,
        }
    }

    /// netdev_del: an interface that uses it has its link down from now on.
    pub(in crate::control) fn delete_netdev<R: api_spec::Encode + 'static>(
        &mut self,
        id: &str,
        reply: Reply<R>,
        answer: fn(QmpResult<()>) -> QmpResult<R>,
    ) {
        match self.nets.remove(id) {
            Err(error) => reply.send(answer(Err(error))),
            Ok(opened) => {
                self.part_netdev(&opened.netdev);
                self.answer_slowly(reply, move || drop(opened), move |_, ()| answer(Ok(())));
            }
        }
    }

    /// Takes a netdev away from the interface that uses it.
    fn part_netdev(&mut self, netdev: &devices::backend::net::Netdev) {
        netdev.close();
        self.nets.leave_hub(netdev.id());
        if let Some(nic) = netdev.nic() {
            // Its workers find it closed.
            self.restart_nic(&nic);
        }
    }
}

/// What the options call descriptors.
fn fd_names(options: &NetdevOptions) -> Vec<&str> {
    match &options.r#type {
        Branch::Tap(tap) => tap_fd_names(tap),
        Branch::Socket(socket) => socket.fd.iter().map(String::as_str).collect(),
        Branch::Stream(stream) => address_fd(&stream.addr).into_iter().collect(),
        Branch::Dgram(dgram) => {
            let addresses = dgram.local.iter().chain(&dgram.remote);
            addresses.filter_map(address_fd).collect()
        }
        Branch::User(_) | Branch::Bridge(_) | Branch::Hubport(_) | Branch::VhostUser(_) => {
            Vec::new()
        }
    }
}

fn tap_fd_names(tap: &NetdevTapOptions) -> Vec<&str> {
    let single = tap.fd.iter().chain(&tap.vhostfd).map(String::as_str);
    let lists = tap.fds.iter().chain(&tap.vhostfds);
    single
        .chain(lists.flat_map(|list| list.split(':')))
        .collect()
}

fn address_fd(address: &SocketAddress) -> Option<&str> {
    match &address.r#type {
        SocketAddressBranch::Fd(fd) => Some(&fd.str),
        SocketAddressBranch::Inet(_) | SocketAddressBranch::Unix(_) => None,
    }
}
