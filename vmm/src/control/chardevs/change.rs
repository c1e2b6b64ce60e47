//! chardev-change, chardev-send-break, and the names that options mention.

use api_spec::{
    ChardevBackend, ChardevBackendBranch, ChardevBackendKind, ChardevReturn, QmpError, QmpResult,
    SocketAddressLegacyBranch,
};
use devices::backend::socket::InetAddress;

use super::open::Opening;
use super::{Caller, Chardevs, FdLookup, Found, host_error};
use crate::control::addresses::inet;

/// The host of these options whose name has to be looked up, which takes its time.
pub fn unknown_host(backend: &ChardevBackend) -> Option<InetAddress> {
    let ChardevBackendBranch::Socket(socket) = &backend.r#type else {
        return None;
    };
    let SocketAddressLegacyBranch::Inet(address) = &socket.data.addr.r#type else {
        return None;
    };
    let address = inet(&address.data);
    address.resolve_now().is_none().then_some(address)
}

impl Chardevs {
    /// Gives a character device another host side. Whoever uses it goes on with that. When it
    /// cannot be opened, nothing changes.
    ///
    /// # Errors
    /// When there is no such device, its user cannot go on with another one, or it cannot be
    /// opened.
    pub fn change(
        &mut self,
        id: &str,
        backend: &ChardevBackend,
        fds: FdLookup,
        found: Found,
    ) -> QmpResult<ChardevReturn> {
        let Some(entry) = self.entries.get(id) else {
            return Err(QmpError::generic(format!("Chardev '{id}' does not exist")));
        };
        if entry.is_lent() {
            return Err(QmpError::generic(
                "Chardev user does not support chardev hotswap",
            ));
        }
        let taken = entry.chardev.is_taken();
        let context = |error: QmpError| match taken {
            true => error,
            false => {
                let desc = format!("Failed to add chardev '{id}': {}", error.desc);
                QmpError::new(error.class, desc)
            }
        };
        let kind = backend.r#type.kind();
        if kind == ChardevBackendKind::Stdio && self.has(ChardevBackendKind::Stdio) {
            return Err(context(QmpError::generic(
                "cannot use stdio by multiple character devices",
            )));
        }
        let mut opening = Opening {
            opener: &self.opener,
            vault: &self.vault,
            fds,
            found,
            caller: Caller::Command,
        };
        let opened = opening.open(backend).map_err(context)?;
        let Some(mut entry) = self.entries.remove(id) else {
            return Err(QmpError::generic(format!("Chardev '{id}' does not exist")));
        };
        entry.yank = None;
        entry.lender = None;
        entry.chardev.change(opened.source, opened.log);
        entry.kind = kind;
        entry.wait = false;
        entry.insecure = opened.insecure;
        let yanker = entry.chardev.yanker();
        entry.yank = yanker.map(|yanker| self.yanks.add_chardev(id, yanker));
        let started = if self.begun || taken {
            self.start(&mut entry)
        } else {
            Ok(())
        };
        self.entries.insert(id.to_owned(), entry);
        started.map_err(|error| host_error(&error))?;
        Ok(ChardevReturn { pty: opened.pty })
    }

    /// Holds the line of a character device for a moment.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn send_break(&self, id: &str) -> QmpResult<()> {
        let entry = self.entries.get(id);
        let entry = entry.ok_or_else(|| QmpError::generic(format!("Chardev '{id}' not found")))?;
        entry.chardev.send_break();
        Ok(())
    }
}
