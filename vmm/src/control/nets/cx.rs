//! What a back end may ask for while it is opened.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::thread::JoinHandle;

use api_spec::{Event, QmpError, QmpResult};
use devices::backend::net::NetAttachment;
use devices::bus::lock;

use super::NetService;
use super::user::Doors;
use crate::armour::launcher::Launcher;
use crate::control::Control;
use crate::control::chardevs::Loan;
use crate::event::{Mail, MailSender};
use crate::threads::{self, ThreadKind};

/// Who asks for a netdev; decides how refusals are worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetCaller {
    /// netdev_add of QMP.
    Command,
    /// netdev_add of the text monitor.
    Text,
    /// `-netdev`, `-nic`, `-net`.
    CommandLine,
}

/// What opening needs beside the options. What these name was taken before, in control: a worker
/// has it for itself.
pub struct NetOpenCx {
    /// Who asks.
    pub caller: NetCaller,
    /// The way to control, for what happens later.
    pub control: ControlLine,
    /// The net thread and the hubs.
    pub service: NetService,
    /// Starts programs.
    pub launcher: Launcher,
    pub(super) fds: Mutex<BTreeMap<String, OwnedFd>>,
    pub(super) netdev: Mutex<Option<NetAttachment>>,
    pub(super) loan: Mutex<Option<Loan>>,
    pub(super) doors: Mutex<Doors>,
}

impl NetOpenCx {
    /// For options that name nothing.
    pub fn new(
        caller: NetCaller,
        mail: MailSender,
        service: NetService,
        launcher: Launcher,
    ) -> Self {
        NetOpenCx {
            caller,
            control: ControlLine { mail },
            service,
            launcher,
            fds: Mutex::new(BTreeMap::new()),
            netdev: Mutex::new(None),
            loan: Mutex::new(None),
            doors: Mutex::default(),
        }
    }

    /// The descriptor that goes by this number, or by this name of getfd. Each can be had once.
    ///
    /// # Errors
    /// In QEMU's words, when there is none.
    pub fn take_fd(&self, name: &str) -> QmpResult<OwnedFd> {
        let found = lock(&self.fds).remove(name);
        found.ok_or_else(|| {
            let text = match is_number(name) {
                true => format!("Invalid file descriptor number '{name}'"),
                false => format!("File descriptor named '{name}' has not been found"),
            };
            QmpError::generic(text)
        })
    }

    /// The socket of the character device that the options name.
    pub fn take_loan(&self) -> Option<Loan> {
        lock(&self.loan).take()
    }

    /// The other netdev that the options name (`netdev=` of a hub's port), taken for this one.
    pub fn take_netdev(&self) -> Option<NetAttachment> {
        lock(&self.netdev).take()
    }

    /// The character devices that the options lead to (`guestfwd=` of a user network).
    pub fn take_doors(&self) -> Doors {
        std::mem::take(&mut *lock(&self.doors))
    }
}

/// Whether a descriptor's name is its number.
pub(super) fn is_number(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit())
}

/// The way to control from any thread.
#[derive(Clone)]
pub struct ControlLine {
    mail: MailSender,
}

impl ControlLine {
    /// The way to the owner of a mailbox.
    pub(super) fn new(mail: MailSender) -> Self {
        ControlLine { mail }
    }

    /// Has control do something, in order with everything else.
    pub fn run(&self, what: impl FnOnce(&mut Control) + Send + 'static) {
        self.mail.send(Mail::Done(Box::new(what)));
    }

    /// Has control emit an event.
    pub fn emit(&self, event: Event) {
        self.run(move |control| control.emit(event));
    }

    /// Starts a thread; when it panics, the program ends.
    ///
    /// # Errors
    /// When the host gives no thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        kind: ThreadKind,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<Option<T>>> {
        threads::spawn(kind, name, Some(self.mail.clone()), body)
    }
}
