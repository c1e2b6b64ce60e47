//! From the options of chardev-add to open files and sockets.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use api_spec::{
    ChardevBackend, ChardevBackendBranch, ChardevFile, ChardevRingbuf, ChardevSocket, QmpError,
    QmpResult, SocketAddressLegacyBranch,
};
use devices::backend::chardev::{
    Access, Dialer, InetAddress, Listener, Pty, Source, Stdio, ringbuf_size, system_words,
};

use tls::{Gate, Role};

use super::{Caller, FdLookup, Found};
use crate::control::addresses::{inet, retry_after, unix};
use crate::control::fds::Opener;
use crate::control::secure::Vault;

const MODE: u32 = 0o666;

/// What the options became.
pub(super) struct Opened {
    pub source: Source,
    pub log: Option<File>,
    /// The path of a terminal.
    pub pty: Option<String>,
    /// A client is to be waited for at the start.
    pub wait: bool,
    /// May carry a monitor beyond this host without TLS.
    pub insecure: bool,
}

/// What opening needs.
pub(super) struct Opening<'a, 'b> {
    pub opener: &'a Opener,
    pub vault: &'a Vault,
    pub fds: FdLookup<'b>,
    /// Taken by the first host.
    pub found: Found,
    pub caller: Caller,
}

impl Opening<'_, '_> {
    pub fn open(&mut self, backend: &ChardevBackend) -> QmpResult<Opened> {
        let common = match &backend.r#type {
            ChardevBackendBranch::File(file) => (&file.data.logfile, file.data.logappend),
            ChardevBackendBranch::Pty(common) | ChardevBackendBranch::Null(common) => {
                (&common.data.logfile, common.data.logappend)
            }
            ChardevBackendBranch::Socket(socket) => (&socket.data.logfile, socket.data.logappend),
            ChardevBackendBranch::Stdio(stdio) => (&stdio.data.logfile, stdio.data.logappend),
            ChardevBackendBranch::Ringbuf(ring) | ChardevBackendBranch::Memory(ring) => {
                (&ring.data.logfile, ring.data.logappend)
            }
        };
        let log = match common {
            (Some(path), append) => Some(self.open_log(path, append.unwrap_or(false))?),
            (None, _) => None,
        };
        let (mut pty, mut wait, mut insecure) = (None, false, false);
        let source = match &backend.r#type {
            ChardevBackendBranch::Null(_) => Source::Null,
            ChardevBackendBranch::Ringbuf(ring) | ChardevBackendBranch::Memory(ring) => {
                let ChardevRingbuf { size, .. } = &ring.data;
                Source::Ringbuf {
                    size: ringbuf_size(*size)?,
                }
            }
            ChardevBackendBranch::File(file) => self.open_file(&file.data)?,
            ChardevBackendBranch::Stdio(stdio) => {
                Source::Stdio(Stdio::open(stdio.data.signal.unwrap_or(true))?)
            }
            ChardevBackendBranch::Pty(_) => {
                let terminal = Pty::open()?;
                pty = Some(terminal.path().to_owned());
                Source::Pty(terminal)
            }
            ChardevBackendBranch::Socket(socket) => {
                wait = socket.data.wait.unwrap_or(false);
                insecure = socket.data.insecure.unwrap_or(false);
                self.open_socket(&socket.data)?
            }
        };
        Ok(Opened {
            source,
            log,
            pty,
            wait,
            insecure,
        })
    }

    fn open_log(&self, path: &str, append: bool) -> QmpResult<File> {
        self.opener
            .open(path, writing(append), MODE)
            .map_err(|error| refused(&format!("Could not create '{path}'"), &error))
    }

    fn open_file(&self, options: &ChardevFile) -> QmpResult<Source> {
        let ChardevFile {
            logfile: _,
            logappend: _,
            r#in,
            out,
            append,
        } = options;
        let fail = |path: &str| {
            let what = format!("Could not open '{path}'");
            move |error: io::Error| refused(&what, &error)
        };
        let flags = writing(append.unwrap_or(false)) | libc::O_NONBLOCK;
        let output = self.opener.open(out, flags, MODE).map_err(fail(out))?;
        let input = match r#in {
            Some(path) => Some(self.open_input(path).map_err(fail(path))?),
            None => None,
        };
        Ok(Source::File { output, input })
    }

    /// A pipe is opened for writing as well, or it would end when its first writer leaves.
    fn open_input(&self, path: &str) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let file = self.opener.open(path, flags, 0)?;
        if file.metadata()?.file_type().is_fifo() {
            let flags = libc::O_RDWR | libc::O_NONBLOCK;
            return Ok(self.opener.open(path, flags, 0).unwrap_or(file));
        }
        Ok(file)
    }

    fn open_socket(&mut self, options: &ChardevSocket) -> QmpResult<Source> {
        let ChardevSocket {
            logfile: _,
            logappend: _,
            addr,
            server,
            wait,
            nodelay,
            telnet,
            tn3270,
            websocket,
            reconnect,
            reconnect_ms,
            tls_creds: _,
            tls_authz: _,
            mode,
            group,
            insecure: _,
        } = options;
        let server = server.unwrap_or(true);
        let again = retry_after(*reconnect, *reconnect_ms)?;
        let refuse = |text: &str| Err(QmpError::generic(text));
        if matches!(addr.r#type, SocketAddressLegacyBranch::Fd(_)) && reconnect.is_some() {
            return refuse("'reconnect' option is incompatible with 'fd' address type");
        }
        if server && reconnect.is_some() {
            return refuse("'reconnect' option is incompatible with socket in server listen mode");
        }
        if !server && *websocket == Some(true) {
            return refuse("Websocket client is not implemented");
        }
        if !server && wait.is_some() {
            return refuse("'wait' option is incompatible with socket in client connect mode");
        }
        let gate = self.gate(options, server)?;
        let access = Access {
            mode: mode.as_deref().map(octal).transpose()?,
            group: group.as_deref().map(|name| self.group(name)).transpose()?,
        };
        let has_file = match &addr.r#type {
            SocketAddressLegacyBranch::Unix(a) => server && a.data.r#abstract != Some(true),
            _ => false,
        };
        if !has_file && access != Access::default() {
            return refuse("'mode' and 'group' are options of a listening unix socket with a path");
        }
        for (asked, name) in [
            (telnet, "telnet"),
            (tn3270, "tn3270"),
            (websocket, "websocket"),
        ] {
            if *asked == Some(true) {
                return Err(QmpError::generic(format!(
                    "'{name}' option is not supported"
                )));
            }
        }
        let nodelay = nodelay.unwrap_or(false);
        Ok(match (&addr.r#type, server) {
            (SocketAddressLegacyBranch::Unix(address), true) => {
                Source::Server(Listener::unix_for(&unix(&address.data), &access)?)
            }
            (SocketAddressLegacyBranch::Unix(address), false) => {
                Source::Client(Dialer::unix(unix(&address.data), again)?)
            }
            (SocketAddressLegacyBranch::Inet(address), true) => {
                let address = inet(&address.data);
                let found = self.addresses(&address)?;
                let listener = Listener::inet_at(&address, found, nodelay)?;
                Source::Server(listener.secured(gate))
            }
            (SocketAddressLegacyBranch::Inet(address), false) => {
                let address = inet(&address.data);
                let found = self.addresses(&address)?;
                let dialer = Dialer::inet_at(&address, found, nodelay, again)?;
                Source::Client(dialer.secured(gate))
            }
            (SocketAddressLegacyBranch::Fd(address), true) => {
                let name = &address.data.str;
                let listener = Listener::passed(self.find_fd(name)?, name, nodelay)?;
                Source::Server(listener.secured(gate))
            }
            (SocketAddressLegacyBranch::Fd(address), false) => {
                let name = &address.data.str;
                let dialer = Dialer::passed(self.find_fd(name)?, name, nodelay)?;
                Source::Client(dialer.secured(gate))
            }
        })
    }

    /// What TLS needs, where it is asked for.
    fn gate(&self, options: &ChardevSocket, server: bool) -> QmpResult<Option<Arc<Gate>>> {
        let refuse = |text: &str| Err(QmpError::generic(text));
        let Some(credentials) = &options.tls_creds else {
            return match &options.tls_authz {
                Some(_) => refuse("'tls_authz' option requires 'tls_creds' option"),
                None => Ok(None),
            };
        };
        let host = match &options.addr.r#type {
            SocketAddressLegacyBranch::Unix(_) => {
                return refuse("'tls_creds' option is incompatible with 'unix' address type");
            }
            SocketAddressLegacyBranch::Inet(address) => Some(address.data.host.as_str()),
            SocketAddressLegacyBranch::Fd(_) => None,
        };
        let role = if server { Role::Server } else { Role::Client };
        let list = options.tls_authz.as_deref();
        self.vault.gate(credentials, list, role, host).map(Some)
    }

    /// A group's number, from /etc/group where it is a name.
    fn group(&self, name: &str) -> QmpResult<u32> {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let unknown = || QmpError::generic(format!("Group '{name}' is not known"));
        let mut text = String::new();
        let mut file = self.opener.open("/etc/group", libc::O_RDONLY, 0);
        let file = file.as_mut().map_err(|_| unknown())?;
        file.read_to_string(&mut text).map_err(|_| unknown())?;
        let mut groups = text.lines().map(|line| line.split(':'));
        let number = groups.find_map(|mut fields| {
            let found = fields.next() == Some(name);
            found.then(|| fields.nth(1)?.parse().ok()).flatten()
        });
        number.ok_or_else(unknown)
    }

    fn addresses(&mut self, address: &InetAddress) -> QmpResult<Vec<SocketAddr>> {
        match self.found.take() {
            Some(found) => found,
            None => address.resolve(),
        }
    }

    fn find_fd(&mut self, name: &str) -> QmpResult<OwnedFd> {
        (self.fds)(name).ok_or_else(|| {
            QmpError::generic(match self.caller {
                Caller::Command => format!("File descriptor named '{name}' has not been found"),
                Caller::CommandLine => format!("File descriptor '{name}' is not a socket"),
            })
        })
    }
}

/// Permission bits, as chmod(1) has them.
fn octal(text: &str) -> QmpResult<u32> {
    let bits = u32::from_str_radix(text, 8)
        .ok()
        .filter(|bits| *bits <= 0o777);
    bits.ok_or_else(|| QmpError::wrong_value("mode", "permission bits in octal, such as 0660"))
}

fn writing(append: bool) -> i32 {
    let rest = if append {
        libc::O_APPEND
    } else {
        libc::O_TRUNC
    };
    libc::O_WRONLY | libc::O_CREAT | rest
}

fn refused(what: &str, error: &io::Error) -> QmpError {
    QmpError::generic(format!("{what}: {}", system_words(error)))
}
