//! Where a machine goes or comes from: URIs, and channels as objects.

use api_spec::keyval::parse_size;
use api_spec::{
    InetSocketAddress, MigrationAddressBranch, MigrationCapability, MigrationChannel,
    MigrationChannelType, MigrationRamLoad, QmpError, QmpResult, SocketAddressBranch,
    UnixSocketAddress,
};

use super::settings::Settings;

/// An address that makes sense; whether there is anything is seen when it is opened.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    /// A TCP connection: the source connects, the target listens.
    Tcp(InetSocketAddress),
    /// The same over a unix socket.
    Unix(UnixSocketAddress),
    /// A descriptor, by the name under which a client passed it, or by its number.
    Fd(String),
    /// A program and its arguments; never empty.
    Exec(Vec<String>),
    /// A file.
    File {
        /// Its path, or `/dev/fdset/N`.
        path: String,
        /// Where in the file the stream begins, in bytes.
        offset: u64,
    },
}

impl Address {
    /// What migrate and migrate-incoming name in one of two ways.
    ///
    /// # Errors
    /// When it is named in neither or both, and as [`Address::parse_uri`] and
    /// [`Address::from_channels`] say.
    pub fn of(uri: Option<&str>, channels: Option<&[MigrationChannel]>) -> QmpResult<Self> {
        match (uri, channels.unwrap_or_default()) {
            (Some(uri), []) => Address::parse_uri(uri),
            (None, channels @ [_, ..]) => Address::from_channels(channels),
            (None, []) | (Some(_), [_, ..]) => Err(QmpError::generic(
                "need either 'uri' or 'channels' argument",
            )),
        }
    }

    /// Reads `tcp:host:port`, `unix:path`, `fd:name`, `exec:command` or `file:path[,offset=N]`.
    ///
    /// # Errors
    /// In QEMU's words; also for vsock and RDMA, which there is none of here.
    pub fn parse_uri(uri: &str) -> QmpResult<Self> {
        let unknown = || QmpError::generic(format!("unknown migration protocol: {uri}"));
        let (protocol, rest) = uri.split_once(':').ok_or_else(unknown)?;
        match protocol {
            "tcp" => parse_inet(rest).map(Address::Tcp),
            "unix" if rest.is_empty() => Err(QmpError::generic("invalid Unix socket address")),
            "unix" => Ok(Address::Unix(UnixSocketAddress {
                path: rest.to_owned(),
                r#abstract: None,
                tight: None,
            })),
            "fd" => fd(rest),
            "exec" => Ok(Address::Exec(vec![
                "/bin/sh".to_owned(),
                "-c".to_owned(),
                rest.to_owned(),
            ])),
            "file" => parse_file(rest),
            "vsock" | "rdma" => Err(QmpError::generic(format!(
                "Migration protocol '{protocol}' is not supported"
            ))),
            _ => Err(unknown()),
        }
    }

    /// The one channel of a list.
    ///
    /// # Errors
    /// When it is not exactly one main channel, or its address is empty.
    pub fn from_channels(channels: &[MigrationChannel]) -> QmpResult<Self> {
        let is_main = |c: &&MigrationChannel| c.channel_type == MigrationChannelType::Main;
        if channels.iter().filter(is_main).count() > 1 {
            return Err(QmpError::generic(
                "Channel list has more than one main entry",
            ));
        }
        let other = channels.iter().find(|channel| !is_main(channel));
        if let Some(other) = other {
            let name = other.channel_type.name();
            let text = format!("Migration channel type '{name}' is not supported");
            return Err(QmpError::generic(text));
        }
        let channel = channels
            .first()
            .ok_or_else(|| QmpError::generic("Channel list has no main entry"))?;
        match &channel.addr.transport {
            MigrationAddressBranch::Socket(socket) => match &socket.r#type {
                SocketAddressBranch::Inet(inet) => Ok(Address::Tcp(inet.clone())),
                SocketAddressBranch::Unix(unix) => Ok(Address::Unix(unix.clone())),
                SocketAddressBranch::Fd(name) => fd(&name.str),
            },
            MigrationAddressBranch::Exec(exec) if exec.args.is_empty() => {
                Err(QmpError::wrong_value("args", "a program and its arguments"))
            }
            MigrationAddressBranch::Exec(exec) => Ok(Address::Exec(exec.args.clone())),
            MigrationAddressBranch::File(file) => Ok(Address::File {
                path: file.filename.clone(),
                offset: file.offset,
            }),
        }
    }

    /// Whether RAM can be loaded so.
    ///
    /// # Errors
    /// When it is to be taken out of a file while the guest runs, and this is no file.
    pub fn check_ram_load(&self, ram_load: MigrationRamLoad) -> QmpResult<()> {
        match (ram_load, self) {
            (MigrationRamLoad::Read, _) | (_, Address::File { .. }) => Ok(()),
            (MigrationRamLoad::Map, _) => Err(QmpError::generic(
                "Parameter 'ram-load' can only be 'map' for files",
            )),
        }
    }

    /// Whether a stream as the capabilities want it can go there.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn check(&self, settings: &Settings) -> QmpResult<()> {
        let mapped_ram = settings.has(MigrationCapability::MappedRam);
        let (seekable, several) = match self {
            Address::Tcp(_) | Address::Unix(_) => (false, true),
            Address::Fd(_) | Address::Exec(_) => (false, false),
            Address::File { .. } => (true, mapped_ram),
        };
        if mapped_ram && !seekable {
            return Err(QmpError::generic(
                "Migration requires seekable transport (e.g. file)",
            ));
        }
        if settings.has(MigrationCapability::Multifd) && !several {
            return Err(QmpError::generic(
                "Migration requires multi-channel URIs (e.g. tcp)",
            ));
        }
        Ok(())
    }
}

fn fd(name: &str) -> QmpResult<Address> {
    match name {
        "" => Err(QmpError::generic("invalid file descriptor address")),
        _ => Ok(Address::Fd(name.to_owned())),
    }
}

fn parse_file(text: &str) -> QmpResult<Address> {
    let (path, offset) = match text.split_once(",offset=") {
        None => (text, 0),
        Some((path, offset)) => (path, file_offset(offset)?),
    };
    Ok(Address::File {
        path: path.to_owned(),
        offset,
    })
}

fn file_offset(text: &str) -> QmpResult<u64> {
    // Lengths and offsets of files are signed.
    let fits = |offset: &u64| i64::try_from(*offset).is_ok();
    let bad = || QmpError::generic(format!("file URI has bad offset {text}: Invalid argument"));
    parse_size(text).filter(fits).ok_or_else(bad)
}

/// `host:port` with options. A host that has colons stands in brackets.
fn parse_inet(text: &str) -> QmpResult<InetSocketAddress> {
    let (address, options) = match text.split_once(',') {
        Some((address, options)) => (address, Some(options)),
        None => (text, None),
    };
    let parts = match address.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").filter(|(host, _)| !host.is_empty()),
        None => address.split_once(':'),
    };
    let Some((host, port)) = parts.filter(|(_, port)| !port.is_empty()) else {
        return Err(QmpError::generic(match address {
            _ if address.starts_with(':') => format!("error parsing port in address '{text}'"),
            _ if address.starts_with('[') => format!("error parsing IPv6 address '{text}'"),
            _ => format!("error parsing address '{text}'"),
        }));
    };
    let mut inet = InetSocketAddress {
        host: host.to_owned(),
        port: port.to_owned(),
        numeric: None,
        to: None,
        ipv4: None,
        ipv6: None,
        keep_alive: None,
    };
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        inet_option(&mut inet, option)?;
    }
    Ok(inet)
}

fn inet_option(inet: &mut InetSocketAddress, option: &str) -> QmpResult<()> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let place = match name {
        "to" => {
            let to = value.and_then(|value| value.parse().ok());
            let bad = || QmpError::generic("error parsing to= argument");
            inet.to = Some(to.ok_or_else(bad)?);
            return Ok(());
        }
        "ipv4" => &mut inet.ipv4,
        "ipv6" => &mut inet.ipv6,
        "keep-alive" => &mut inet.keep_alive,
        _ => return Err(QmpError::generic(format!("Invalid parameter '{name}'"))),
    };
    *place = Some(match value {
        None | Some("on") => true,
        Some("off") => false,
        Some(other) => {
            let text = format!("error parsing '{name}' flag '={other}'");
            return Err(QmpError::generic(text));
        }
    });
    Ok(())
}

#[cfg(test)]
#[path = "address_test.rs"]
mod tests;
