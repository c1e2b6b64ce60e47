//! From the options of chardev-add to open files and sockets.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;

use api_spec::{
    ChardevBackend, ChardevBackendBranch, ChardevFile, ChardevRingbuf, ChardevSocket, QmpError,
    QmpResult, SocketAddressLegacyBranch,
};
use devices::backend::chardev::{
    Dialer, InetAddress, Listener, Pty, Source, Stdio, ringbuf_size, system_words,
};

use super::{Caller, FdLookup, Found};
use crate::control::addresses::{inet, retry_after, unix};
use crate::control::fds::Opener;

const MODE: u32 = 0o666;

/// What the options became.
pub(super) struct Opened {
    pub source: Source,
    pub log: Option<File>,
    /// The path of a terminal.
    pub pty: Option<String>,
    /// A client is to be waited for at the start.
    pub wait: bool,
}

/// What opening needs.
pub(super) struct Opening<'a, 'b> {
    pub opener: &'a Opener,
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
        let (mut pty, mut wait) = (None, false);
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
                self.open_socket(&socket.data)?
            }
        };
        Ok(Opened {
            source,
            log,
            pty,
            wait,
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
                Source::Server(Listener::unix(&unix(&address.data))?)
            }
            (SocketAddressLegacyBranch::Unix(address), false) => {
                Source::Client(Dialer::unix(unix(&address.data), again)?)
            }
            (SocketAddressLegacyBranch::Inet(address), true) => {
                let address = inet(&address.data);
                let found = self.addresses(&address)?;
                Source::Server(Listener::inet_at(&address, found, nodelay)?)
            }
            (SocketAddressLegacyBranch::Inet(address), false) => {
                let address = inet(&address.data);
                let found = self.addresses(&address)?;
                Source::Client(Dialer::inet_at(&address, found, nodelay, again)?)
            }
            (SocketAddressLegacyBranch::Fd(address), true) => {
                let name = &address.data.str;
                Source::Server(Listener::passed(self.find_fd(name)?, name, nodelay)?)
            }
            (SocketAddressLegacyBranch::Fd(address), false) => {
                let name = &address.data.str;
                Source::Client(Dialer::passed(self.find_fd(name)?, name, nodelay)?)
            }
        })
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
