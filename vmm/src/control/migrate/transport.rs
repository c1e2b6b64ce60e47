//! The ways out: from an address to an open channel. What a client handed over is taken at once,
//! everything that takes time happens on the thread of the migration.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use api_spec::{QmpError, QmpResult};
use devices::backend::socket::{Attempt, Dialer, InetAddress, SocketKind, UnixAddress};

use super::address::Address;
use super::program::{Order, Program, Side};
use super::wait::{self, Waited};
use crate::armour::launcher::Launcher;
use crate::control::addresses::{inet, unix};
use crate::control::fds::{FdStore, Opener};
use crate::migration::host::{Broken, Cancel, Channel, ChannelKind, MoreChannels};
use crate::migration::placed::{self, Use};
use crate::process::errno;
use crate::sys;
use crate::threads::{self, ThreadKind};

/// A host that does not answer is given up then, whatever the system thinks.
const CONNECT: Duration = Duration::from_secs(120);
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Files of saved machines are their owner's.
const MODE: u32 = 0o600;

/// A way out that is not open yet.
#[derive(Debug)]
pub(super) enum Route {
    /// To a port of a host.
    Tcp(InetAddress),
    /// To a socket in the file system.
    Unix(UnixAddress),
    /// Over what a client handed over.
    Fd(Channel),
    /// To a program.
    Exec(Order),
    /// Into a file.
    File(FileRoute),
}

/// A file, open already.
#[derive(Debug)]
pub(super) struct FileRoute {
    channel: Channel,
    path: String,
    opener: Opener,
}

/// An open way.
pub(super) struct Link {
    /// The first channel.
    pub main: Channel,
    /// Makes further ones.
    pub more: MoreChannels,
    /// Who is at the other end, where that is a program of ours.
    pub program: Option<Program>,
}

impl Link {
    fn single(main: Channel, why: &'static str) -> Self {
        Link {
            main,
            more: Box::new(move |_| Err(io::Error::new(io::ErrorKind::Unsupported, why))),
            program: None,
        }
    }
}

impl Route {
    /// Takes what the address names; files are opened.
    ///
    /// # Errors
    /// When a descriptor is not there, a file cannot be made, or no program may be started.
    pub fn outward(
        address: Address,
        fds: &mut FdStore,
        monitor: u32,
        launcher: &Launcher,
    ) -> QmpResult<Self> {
        Ok(match address {
            Address::Tcp(address) => Route::Tcp(inet(&address)),
            Address::Unix(address) => Route::Unix(unix(&address)),
            Address::Fd(name) => Route::Fd(channel_of(take_fd(fds, monitor, &name)?)?),
            Address::Exec(words) => Route::Exec(Order::new(words, launcher)?),
            Address::File { path, offset } => {
                let opener = fds.opener();
                let file = create(&opener, &path, offset)?;
                Route::File(FileRoute {
                    channel: Channel {
                        fd: file.into(),
                        kind: ChannelKind::File { offset },
                    },
                    path,
                    opener,
                })
            }
        })
    }

    /// Opens it. Blocks until it is there or cancelled.
    ///
    /// # Errors
    /// When nobody is there.
    pub fn open(self, cancel: &Cancel) -> Result<Link, Broken> {
        match self {
            Route::Tcp(address) => {
                let found = resolve(&address, cancel)?;
                let main = dial_inet(&address, &found, cancel)?;
                let more: MoreChannels =
                    Box::new(move |cancel| dial_inet(&address, &found, cancel).map_err(as_io));
                Ok(Link {
                    main,
                    more,
                    program: None,
                })
            }
            Route::Unix(address) => {
                let main = dial_unix(&address, cancel)?;
                Ok(Link {
                    main,
                    more: Box::new(move |cancel| dial_unix(&address, cancel).map_err(as_io)),
                    program: None,
                })
            }
            Route::Fd(channel) => Ok(Link::single(
                channel,
                "there is one descriptor and no way to a second one",
            )),
            Route::Exec(order) => {
                let started = Program::start(&order, Side::Input);
                let (program, fd) = started.map_err(Broken::Failed)?;
                let main = Channel {
                    fd,
                    kind: ChannelKind::OneWay,
                };
                let mut link = Link::single(main, "a program has one standard input");
                link.program = Some(program);
                Ok(link)
            }
            Route::File(file) => Ok(file.open(libc::O_WRONLY)),
        }
    }
}

impl FileRoute {
    /// A file that is there, from `offset` on.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn inward(path: String, offset: u64, opener: Opener) -> QmpResult<Self> {
        // Control does not wait for the other end of a pipe, which is no file anyway.
        let file = opener.open(&path, libc::O_RDONLY | libc::O_NONBLOCK, 0);
        let file = file.map_err(|error| cannot("open", &path, &error))?;
        Ok(FileRoute {
            channel: Channel {
                fd: file.into(),
                kind: ChannelKind::File { offset },
            },
            path,
            opener,
        })
    }

    /// Every further channel is the same file, opened anew: each has its own place in it.
    pub fn open(self, flags: i32) -> Link {
        let FileRoute {
            channel,
            path,
            opener,
        } = self;
        let kind = channel.kind;
        Link {
            main: channel,
            more: Box::new(move |_| {
                let fd = opener.open(&path, flags, 0)?.into();
                Ok(Channel { fd, kind })
            }),
            program: None,
        }
    }
}

/// What a descriptor that a client handed over is good for.
///
/// # Errors
/// When it is no stream.
pub(super) fn channel_of(fd: OwnedFd) -> QmpResult<Channel> {
    let file = File::from(fd);
    let refuse = |error: io::Error| {
        QmpError::generic(format!("Cannot use the file descriptor: {}", errno(&error)))
    };
    let kind = file.metadata().map_err(refuse)?.file_type();
    let fd = OwnedFd::from(file);
    let kind = if kind.is_socket() {
        match SocketKind::of(&fd).map_err(refuse)? {
            SocketKind::Stream => ChannelKind::Duplex,
            SocketKind::Datagrams | SocketKind::Other => {
                return Err(QmpError::generic("The socket does not carry a stream"));
            }
        }
    } else if kind.is_file() {
        ChannelKind::File { offset: 0 }
    } else if kind.is_fifo() || kind.is_char_device() {
        ChannelKind::OneWay
    } else {
        return Err(QmpError::generic("The file descriptor carries no stream"));
    };
    Ok(Channel { fd, kind })
}

/// The descriptor that goes by a name of getfd, by its number in a set, or by the number under
/// which our parent handed it down.
///
/// # Errors
/// In QEMU's words, when there is none.
pub(super) fn take_fd(fds: &mut FdStore, monitor: u32, name: &str) -> QmpResult<OwnedFd> {
    let Ok(number) = name.parse::<i32>() else {
        let taken = fds.take(monitor, name);
        return taken.map_err(|_| {
            let text = format!("File descriptor named '{name}' has not been found");
            QmpError::generic(text)
        });
    };
    let in_a_set = fds.sets().into_iter().flat_map(|set| set.fds);
    let found = match in_a_set.into_iter().any(|(fd, _)| fd == number) {
        true => sys::duplicate(number),
        false => sys::adopt(number),
    };
    found.map_err(|_| QmpError::generic(format!("Invalid file descriptor number '{name}'")))
}

/// What is in the file before `offset` stays. A file that somebody reads, or has mapped as a
/// machine's memory, stays as it is.
fn create(opener: &Opener, path: &str, offset: u64) -> QmpResult<File> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NONBLOCK;
    let file = opener.open(path, flags, MODE);
    let file = file.map_err(|error| cannot("create", path, &error))?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Ok(file);
    }
    placed::lock(&file, offset, Use::Write)
        .map_err(|why| QmpError::generic(format!("Could not create '{path}': {why}")))?;
    if let Err(error) = file.set_len(offset) {
        let text = format!(
            "failed to truncate migration file to offset {offset:x}: {}",
            errno(&error)
        );
        return Err(QmpError::generic(text));
    }
    Ok(file)
}

fn cannot(what: &str, path: &str, error: &io::Error) -> QmpError {
    QmpError::generic(format!("Could not {what} '{path}': {}", errno(error)))
}

/// Names may have to be asked of servers that do not answer: that happens on a thread that is
/// left to itself when it is cancelled.
fn resolve(address: &InetAddress, cancel: &Cancel) -> Result<Vec<SocketAddr>, Broken> {
    let said = |error: QmpError| Broken::Failed(error.desc);
    if let Some(found) = address.resolve_now() {
        return found.map_err(said);
    }
    let (sender, found) = channel();
    let asked = address.clone();
    let body = move || {
        // Nobody may wait any more.
        let _ = sender.send(asked.resolve());
    };
    threads::spawn(ThreadKind::Worker, "resolve", None, body)
        .map_err(wait::failed("Cannot start a thread"))?;
    loop {
        match found.recv_timeout(Duration::ZERO) {
            Ok(found) => return found.map_err(said),
            Err(RecvTimeoutError::Timeout) => wait::pause(LOOK, cancel)?,
            Err(RecvTimeoutError::Disconnected) => {
                let text = format!("Cannot find out where '{}' is", address.host);
                return Err(Broken::Failed(text));
            }
        }
    }
}

/// The first of a host's addresses that answers.
fn dial_inet(
    address: &InetAddress,
    found: &[SocketAddr],
    cancel: &Cancel,
) -> Result<Channel, Broken> {
    let what = format!("Failed to connect to '{}:{}'", address.host, address.port);
    let mut last = Broken::Failed(format!("{what}: it has no address"));
    for at in found {
        let dialer = Dialer::inet_at(address, vec![*at], true, None);
        match dialer {
            Ok(dialer) => match finish(dialer, &what, cancel) {
                Err(Broken::Failed(why)) => last = Broken::Failed(why),
                other => return other,
            },
            Err(error) => last = Broken::Failed(error.desc),
        }
    }
    Err(last)
}

/// A socket whose owner has too many callers waiting is tried again.
fn dial_unix(address: &UnixAddress, cancel: &Cancel) -> Result<Channel, Broken> {
    let what = format!("Failed to connect to '{}'", address.path);
    let mut dialer =
        Dialer::unix_later(address.clone(), None).map_err(|error| Broken::Failed(error.desc))?;
    loop {
        match dialer.connect() {
            Ok(fd) => return Ok(duplex(fd)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait::pause(LOOK, cancel)?,
            Err(error) => return Err(wait::failed(what)(error)),
        }
    }
}

fn finish(dialer: Dialer, what: &str, cancel: &Cancel) -> Result<Channel, Broken> {
    let fd = match dialer.into_parts().1 {
        Some(Attempt::Connected(fd)) => return Ok(duplex(fd)),
        Some(Attempt::UnderWay(fd)) => fd,
        None => return Err(Broken::Failed(what.to_owned())),
    };
    if wait::ready(&fd, libc::POLLOUT, Some(CONNECT), cancel)? == Waited::Late {
        let late = io::Error::from_raw_os_error(libc::ETIMEDOUT);
        return Err(wait::failed(what)(late));
    }
    let stream = TcpStream::from(fd);
    match stream.take_error() {
        Ok(None) => Ok(duplex(stream.into())),
        Ok(Some(error)) | Err(error) => Err(wait::failed(what)(error)),
    }
}

pub(super) fn duplex(fd: OwnedFd) -> Channel {
    Channel {
        fd,
        kind: ChannelKind::Duplex,
    }
}

pub(super) fn as_io(broken: Broken) -> io::Error {
    match broken {
        Broken::Cancelled => io::ErrorKind::Interrupted.into(),
        Broken::Failed(why) => io::Error::other(why),
    }
}

#[cfg(test)]
#[path = "transport_test.rs"]
mod tests;
