//! `info network`.

use std::fmt::Write;

use devices::backend::net::{Netdev, Nic};

use super::hubport::HubMember;
use crate::control::Control;

/// An interface or netdev as one line, for one of its queue pairs.
fn line(name: &str, pair: usize, kind: &str, description: &str) -> String {
    format!("{name}: index={pair},type={kind},{description}\n")
}

fn netdev_line(netdev: &Netdev, pair: usize) -> String {
    line(netdev.id(), pair, netdev.kind(), &netdev.description())
}

fn nic_line(nic: &dyn Nic, pair: usize) -> String {
    line(nic.name(), pair, "nic", &nic.describe())
}

impl Control {
    /// Hubs with their ports, then netdevs that nobody uses, then interfaces, each with the
    /// netdev it uses.
    pub(in crate::control) fn tell_networks(&self) -> String {
        let mut text = String::new();
        for hub in self.nets.service.hubs(|hubs| hubs.all()) {
            let _ = writeln!(text, "hub {}", hub.id());
            for port in hub.ports() {
                let peer = self.hub_peer(&port);
                let gap = if peer.is_empty() { "\n" } else { ": " };
                let _ = write!(text, " \\ {port}{gap}{peer}");
            }
        }
        for netdev in self.nets.iter().filter(|netdev| !netdev.in_use()) {
            if netdev.kind() != "hubport" {
                for pair in 0..netdev.pairs() {
                    text.push_str(&netdev_line(netdev, pair));
                }
            }
        }
        for (_, nic) in self.machine.iter().flat_map(|machine| machine.nics()) {
            let netdev = self.nets.iter().find(|netdev| uses(&**nic, netdev));
            if netdev.is_some_and(|netdev| netdev.kind() == "hubport") {
                // Shown with its hub.
                continue;
            }
            for pair in 0..netdev.map_or(1, |netdev| netdev.pairs()) {
                text.push_str(&nic_line(&**nic, pair));
                if let Some(netdev) = netdev {
                    let _ = write!(text, " \\ {}", netdev_line(netdev, pair));
                }
            }
        }
        text
    }

    /// What is at a hub's port.
    fn hub_peer(&self, port: &str) -> String {
        if let Some(member) = self.nets.kept::<HubMember>(port) {
            let other = self.nets.find(&member.other);
            return other.map_or_else(String::new, |other| netdev_line(other, 0));
        }
        let Some(netdev) = self.nets.find(port) else {
            return String::new();
        };
        let mut nics = self.machine.iter().flat_map(|machine| machine.nics());
        let nic = nics.find(|(_, nic)| uses(&***nic, netdev));
        nic.map_or_else(String::new, |(_, nic)| nic_line(&**nic, 0))
    }
}

/// Whether it is this interface that has the netdev.
fn uses(nic: &dyn Nic, netdev: &Netdev) -> bool {
    let address = |nic: &dyn Nic| std::ptr::from_ref(nic).addr();
    netdev
        .nic()
        .is_some_and(|user| address(&*user) == address(nic))
}
