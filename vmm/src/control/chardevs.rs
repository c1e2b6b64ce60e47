//! All character devices by id: making, removing, listing them, and handing them to devices and
//! monitors.
//!
//! ```text
//! add --> idle -- take_frontend, wait_connected, begin --> served by the chardev thread
//!           |
//!           +---- take_endpoint --> served by the qmp thread, as a monitor
//! ```
//!
//! Until [`Chardevs::begin`] a device stays idle while nobody uses it, so that a monitor finds
//! its socket untouched. After it a new one is served at once.

mod change;
mod endpoint;
mod lend;
mod open;

pub use change::unknown_host;

#[cfg(test)]
#[path = "chardevs_test.rs"]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use api_spec::{
    ChardevBackend, ChardevBackendKind, ChardevInfo, ChardevReturn, DataFormat, QmpError,
    QmpResult, RingbufReadArgs, RingbufWriteArgs,
};
use devices::backend::chardev::{
    CharFrontend, Chardev, ChardevHandle, ChardevServer, system_words,
};
use qmp::server::Endpoint;

use lend::Lender;
pub use lend::{Lease, Loan};

use super::fds::Opener;
use super::objects::is_identifier;
use super::secure::Vault;
use super::yank::{YankPlace, Yanker, Yanks};
use crate::accel::words::{decode_base64, encode_base64};

/// Starts the thread whose body is [`ChardevServer::run`].
pub type SpawnChardev = Box<dyn FnMut(ChardevServer) -> io::Result<()> + Send>;

/// Finds the descriptor that goes by a name, and gives it away.
pub type FdLookup<'a> = &'a mut dyn FnMut(&str) -> Option<OwnedFd>;

/// What a name server said of the host that the options name, where it was asked before.
pub type Found = Option<QmpResult<Vec<SocketAddr>>>;

/// Who asks; decides how refusals are worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// chardev-add.
    Command,
    /// An option of the command line.
    CommandLine,
}

/// Why a device cannot have a front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontendError {
    /// There is no character device of that id.
    NotFound(String),
    /// Another device or a monitor has it.
    InUse(String),
    /// The host is out of threads or descriptors.
    Host(String),
}

impl FrontendError {
    /// What the user is told; `owner` is the type that has the property `chardev`: the driver,
    /// except for `serial` in `isa-serial`.
    pub fn describe(&self, owner: &str) -> QmpError {
        QmpError::generic(match self {
            FrontendError::NotFound(id) => {
                format!("Property '{owner}.chardev' can't find value '{id}'")
            }
            FrontendError::InUse(id) => format!(
                "Property '{owner}.chardev' can't take value '{id}': chardev '{id}' is already in use"
            ),
            FrontendError::Host(why) => why.clone(),
        })
    }
}

struct Entry {
    chardev: Chardev,
    kind: ChardevBackendKind,
    /// A server that is to have a client before the machine runs.
    wait: bool,
    /// May carry a monitor beyond this host without TLS.
    insecure: bool,
    monitor: bool,
    /// A socket's place among what can be yanked.
    yank: Option<YankPlace>,
    /// Its socket is for vhost-user netdevs.
    lender: Option<Lender>,
}

impl Entry {
    /// Whether something uses it that is no device.
    fn is_lent(&self) -> bool {
        self.monitor || self.lender.as_ref().is_some_and(Lender::is_busy)
    }
}

/// All character devices.
pub struct Chardevs {
    entries: BTreeMap<String, Entry>,
    opener: Opener,
    spawn: SpawnChardev,
    handle: Option<ChardevHandle>,
    begun: bool,
    yanks: Arc<Yanks>,
    vault: Vault,
}

impl Chardevs {
    /// None yet. `spawn` is called once, when the first device needs the thread.
    pub fn new(opener: Opener, spawn: SpawnChardev) -> Self {
        Chardevs {
            entries: BTreeMap::new(),
            opener,
            spawn,
            handle: None,
            begun: false,
            yanks: Arc::default(),
            vault: Vault::default(),
        }
    }

    /// Finds TLS credentials there.
    pub fn with_vault(mut self, vault: Vault) -> Self {
        self.vault = vault;
        self
    }

    /// Puts sockets on this list of what can be yanked.
    pub fn with_yanks(mut self, yanks: Arc<Yanks>) -> Self {
        self.yanks = yanks;
        self
    }

    /// Makes a character device.
    ///
    /// # Errors
    /// When the id is taken, the options make no sense or the host refuses.
    pub fn add(
        &mut self,
        caller: Caller,
        id: &str,
        backend: &ChardevBackend,
        fds: FdLookup,
    ) -> QmpResult<ChardevReturn> {
        self.add_at(caller, id, backend, fds, None)
    }

    /// The same with the addresses of the host in the options.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_at(
        &mut self,
        caller: Caller,
        id: &str,
        backend: &ChardevBackend,
        fds: FdLookup,
        found: Found,
    ) -> QmpResult<ChardevReturn> {
        self.check_id(caller, id)?;
        let context = |error: QmpError| match caller {
            Caller::CommandLine => error,
            Caller::Command => {
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
        let mut opening = open::Opening {
            opener: &self.opener,
            vault: &self.vault,
            fds,
            found,
            caller,
        };
        let opened = opening.open(backend).map_err(context)?;
        let mut entry = Entry {
            chardev: Chardev::new(opened.source, opened.log),
            kind,
            wait: opened.wait,
            insecure: opened.insecure,
            monitor: false,
            yank: None,
            lender: None,
        };
        if let Some(yanker) = entry.chardev.yanker() {
            entry.yank = Some(self.yanks.add_chardev(id, yanker));
        }
        if self.begun {
            self.start(&mut entry)
                .map_err(|error| context(host_error(&error)))?;
        }
        self.entries.insert(id.to_owned(), entry);
        Ok(ChardevReturn { pty: opened.pty })
    }

    fn check_id(&self, caller: Caller, id: &str) -> QmpResult<()> {
        let taken = self.entries.contains_key(id);
        match caller {
            Caller::CommandLine if !is_identifier(id) => {
                Err(QmpError::wrong_value("id", "an identifier"))
            }
            Caller::CommandLine if taken => Err(QmpError::generic(format!(
                "Duplicate ID '{id}' for chardev"
            ))),
            Caller::Command if taken => Err(QmpError::generic(format!(
                "Chardev with id '{id}' already exists"
            ))),
            Caller::Command | Caller::CommandLine => Ok(()),
        }
    }

    fn has(&self, kind: ChardevBackendKind) -> bool {
        self.entries.values().any(|entry| entry.kind == kind)
    }

    /// Removes a character device that nothing uses.
    ///
    /// # Errors
    /// When there is none, or it is in use.
    pub fn remove(&mut self, id: &str) -> QmpResult<()> {
        let Some(entry) = self.entries.get(id) else {
            return Err(QmpError::generic(format!("Chardev '{id}' not found")));
        };
        if entry.is_lent() || entry.chardev.is_taken() {
            return Err(QmpError::generic(format!("Chardev '{id}' is busy")));
        }
        self.entries.remove(id);
        Ok(())
    }

    /// The devices in order of their ids. `monitor_connected` says whether the monitor on a
    /// device has a client now.
    pub fn query(&self, monitor_connected: &dyn Fn(&str) -> bool) -> Vec<ChardevInfo> {
        let info = |(id, entry): (&String, &Entry)| {
            let filename = match (entry.kind, entry.monitor) {
                _ if entry.lender.is_some() => {
                    let lender = entry.lender.as_ref();
                    let connected = lender.is_some_and(Lender::is_connected);
                    entry.chardev.filename_of(connected)
                }
                (ChardevBackendKind::Memory, _) => "memory".into(),
                (_, true) => entry.chardev.filename_of(monitor_connected(id)),
                (_, false) => entry.chardev.filename(),
            };
            ChardevInfo {
                label: id.clone(),
                filename,
                frontend_open: entry.is_lent() || entry.chardev.frontend_open(),
            }
        };
        self.entries.iter().map(info).collect()
    }

    /// Takes bytes out of a ring buffer.
    ///
    /// # Errors
    /// When there is no such device, it is no ring buffer, or the size is not positive.
    pub fn ringbuf_read(&self, args: &RingbufReadArgs) -> QmpResult<String> {
        let entry = self.ringbuf(&args.device)?;
        let size = usize::try_from(args.size).ok().filter(|size| *size > 0);
        let size = size.ok_or_else(|| QmpError::generic("size must be greater than zero"))?;
        let data = entry
            .chardev
            .read_memory(size)
            .ok_or_else(|| no_ringbuf(&args.device))?;
        Ok(match args.format.unwrap_or(DataFormat::Utf8) {
            DataFormat::Base64 => encode_base64(&data),
            DataFormat::Utf8 => String::from_utf8_lossy(&data).into_owned(),
        })
    }

    /// Puts bytes into a ring buffer, as its front end would.
    ///
    /// # Errors
    /// When there is no such device, it is no ring buffer, or the text is not base64.
    pub fn ringbuf_write(&self, args: &RingbufWriteArgs) -> QmpResult<()> {
        let entry = self.ringbuf(&args.device)?;
        let written = match args.format.unwrap_or(DataFormat::Utf8) {
            DataFormat::Utf8 => entry.chardev.write_memory(args.data.as_bytes()),
            DataFormat::Base64 => {
                let data = decode_base64(&args.data)
                    .ok_or_else(|| QmpError::generic("Base64 data contains invalid characters"))?;
                entry.chardev.write_memory(&data)
            }
        };
        written.ok_or_else(|| no_ringbuf(&args.device))
    }

    fn ringbuf(&self, id: &str) -> QmpResult<&Entry> {
        let entry = self.entries.get(id).ok_or_else(|| {
            // Not of the class DeviceNotFound.
            QmpError::generic(format!("Device '{id}' not found"))
        })?;
        match entry.kind {
            ChardevBackendKind::Ringbuf | ChardevBackendKind::Memory => Ok(entry),
            _ => Err(no_ringbuf(id)),
        }
    }

    /// A device's half of a character device.
    ///
    /// # Errors
    /// When there is none of that id, or something uses it already.
    pub fn take_frontend(&mut self, id: &str) -> Result<CharFrontend, FrontendError> {
        let entry = self.entries.get(id);
        let entry = entry.ok_or_else(|| FrontendError::NotFound(id.into()))?;
        if entry.monitor || entry.lender.is_some() {
            return Err(FrontendError::InUse(id.into()));
        }
        let front = entry.chardev.take_frontend();
        let front = front.ok_or_else(|| FrontendError::InUse(id.into()))?;
        self.start_by_id(id)
            .map_err(|error| FrontendError::Host(host_error(&error).desc))?;
        Ok(front)
    }

    /// Turns an idle character device into a monitor's endpoint. It stays in the list, in use.
    ///
    /// # Errors
    /// When there is none of that id, something uses it, or it cannot carry a monitor.
    pub fn take_endpoint(&mut self, id: &str) -> QmpResult<Endpoint> {
        let Some(entry) = self.entries.get_mut(id) else {
            return Err(QmpError::generic(format!("chardev \"{id}\" not found")));
        };
        if entry.monitor || entry.lender.is_some() || entry.chardev.is_taken() {
            return Err(QmpError::generic(format!(
                "chardev '{id}' is already in use"
            )));
        }
        let log = entry.chardev.take_log();
        let endpoint = endpoint::make(id, entry.kind, entry.chardev.take_source(), entry.insecure)?;
        entry.monitor = true;
        Ok(match log {
            Some(log) => Endpoint::Logged(Box::new(endpoint), log),
            None => endpoint,
        })
    }

    /// Says how the connection is broken while somebody else has it, if that can be.
    pub fn set_yanker(&mut self, id: &str, yanker: Yanker) {
        if let Some(entry) = self.entries.get_mut(id)
            && entry.yank.is_some()
        {
            // The old one goes first.
            entry.yank = None;
            entry.yank = Some(self.yanks.add_chardev(id, yanker));
        }
    }

    /// Lends a unix socket to a vhost-user netdev.
    ///
    /// # Errors
    /// QEMU's words when there is none of that id, it is no unix socket, or in use.
    pub fn lend_socket(&mut self, id: &str) -> QmpResult<Loan> {
        let entry = self.entries.get_mut(id);
        let entry =
            entry.ok_or_else(|| QmpError::generic(format!("chardev \"{id}\" not found")))?;
        if entry.is_lent() || entry.chardev.is_taken() {
            return Err(QmpError::generic(format!(
                "chardev '{id}' is already in use"
            )));
        }
        let mut connection = None;
        let lender = match &mut entry.lender {
            Some(lender) => lender,
            none => {
                let (lender, now) = Lender::new(id, &mut entry.chardev)?;
                connection = now;
                none.insert(lender)
            }
        };
        // The netdev waits for the client.
        entry.wait = false;
        let loan = lender.lend(id, entry.chardev.filename_of(false), connection)?;
        let lease = Arc::downgrade(&loan.lease);
        let yanker = move || {
            if let Some(lease) = lease.upgrade() {
                lease.yank();
            }
        };
        self.set_yanker(id, Box::new(yanker));
        Ok(loan)
    }

    /// The servers that are to have a client before the machine runs, as (id, name to show,
    /// whether it is a monitor's). A monitor's clients are waited for at the qmp server.
    pub fn waiting(&self) -> Vec<(String, String, bool)> {
        let waiting = self.entries.iter().filter(|(_, entry)| entry.wait);
        let name = |(id, entry): (&String, &Entry)| {
            let name = entry.chardev.filename_of(false);
            (id.clone(), name, entry.monitor)
        };
        waiting.map(name).collect()
    }

    /// Waits until a device that is served and no monitor has had a peer, and no longer than
    /// `time`; says whether it has. For the start only.
    pub fn wait_connected(&self, id: &str, time: Duration) -> bool {
        let entry = self.entries.get(id).filter(|entry| !entry.monitor);
        entry.is_none_or(|entry| entry.chardev.wait_open(time))
    }

    /// All options were seen: the devices that nobody took are served as well, and new ones at
    /// once.
    ///
    /// # Errors
    /// When the host is out of threads.
    pub fn begin(&mut self) -> QmpResult<()> {
        self.begun = true;
        let ids: Vec<String> = self.entries.keys().cloned().collect();
        for id in ids {
            self.start_by_id(&id).map_err(|error| host_error(&error))?;
        }
        Ok(())
    }

    /// Sends what waits, as far as peers take it, and closes everything. Takes half a second for
    /// peers that do not read.
    pub fn shutdown(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown();
        }
        self.entries.clear();
    }

    fn start_by_id(&mut self, id: &str) -> io::Result<()> {
        // Out of the map for a moment, because the thread may have to be started.
        let Some((id, mut entry)) = self.entries.remove_entry(id) else {
            return Ok(());
        };
        let result = if entry.monitor {
            Ok(())
        } else {
            self.start(&mut entry)
        };
        self.entries.insert(id, entry);
        result
    }

    fn start(&mut self, entry: &mut Entry) -> io::Result<()> {
        if !entry.chardev.needs_start() {
            return Ok(());
        }
        let handle = match &self.handle {
            Some(handle) => handle,
            None => {
                let (server, handle) = ChardevServer::new()?;
                (self.spawn)(server)?;
                self.handle.insert(handle)
            }
        };
        entry.chardev.start(handle);
        Ok(())
    }
}

fn no_ringbuf(id: &str) -> QmpError {
    QmpError::generic(format!("{id} is not a ringbuf device"))
}

fn host_error(error: &io::Error) -> QmpError {
    QmpError::generic(format!(
        "Character devices cannot be served: {}",
        system_words(error)
    ))
}
