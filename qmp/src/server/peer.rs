//! Who a monitor's client is, for the log.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::connection::Stream;
use crate::sys;

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientPlace {
    /// On this host (SO_PEERCRED), as it was when it connected.
    Process {
        /// The process.
        pid: i32,
        /// Its user.
        uid: u32,
    },
    /// Anywhere.
    Address(SocketAddr),
    /// A terminal or pipe, or a socket that says nothing.
    Unknown,
}

/// A client of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where it is.
    pub place: ClientPlace,
    /// The distinguished name that it proved over TLS.
    pub identity: Option<String>,
}

impl Client {
    pub(super) fn of(stream: &Stream) -> Self {
        let tls = stream.tls.as_ref();
        let identity = tls.and_then(|session| session.identity());
        Client {
            place: place(&stream.input),
            identity: identity.map(str::to_owned),
        }
    }

    /// In words; `program` is what its process is called.
    pub fn describe(&self, program: Option<&str>) -> String {
        let place = match (&self.place, program) {
            (ClientPlace::Process { pid, uid }, Some(program)) => {
                format!("process {pid} ({}), user {uid}", program.escape_debug())
            }
            (place, _) => place.to_string(),
        };
        match &self.identity {
            Some(identity) => format!("{place}, {identity}"),
            None => place,
        }
    }
}

impl fmt::Display for ClientPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientPlace::Process { pid, uid } => write!(f, "process {pid}, user {uid}"),
            ClientPlace::Address(address) => write!(f, "{address}"),
            ClientPlace::Unknown => write!(f, "unknown"),
        }
    }
}

pub(super) fn describe(fd: &OwnedFd) -> String {
    place(fd).to_string()
}

fn place(fd: &OwnedFd) -> ClientPlace {
    // First, as it fails at once for what is no TCP socket.
    let address = fd.as_fd().try_clone_to_owned().ok();
    if let Some(Ok(address)) = address.map(|fd| TcpStream::from(fd).peer_addr()) {
        return ClientPlace::Address(address);
    }
    match sys::credentials(fd.as_raw_fd()) {
        Some((pid, uid)) => ClientPlace::Process { pid, uid },
        None => ClientPlace::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    #[test]
    fn clients_are_described() {
        let (a, _b) = UnixStream::pair().unwrap();
        let client = Client::of(&Stream::socket(a.into()));
        let pid = std::process::id();
        assert!(matches!(client.place, ClientPlace::Process { pid: p, .. } if p as u32 == pid));
        let text = client.describe(Some("a\nb"));
        assert!(
            text.starts_with(&format!("process {pid} (a\\nb), user ")),
            "{text}"
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut client = Client::of(&Stream::socket(listener.accept().unwrap().0.into()));
        client.identity = Some("CN=joe".into());
        let address = peer.local_addr().unwrap();
        assert_eq!(client.describe(None), format!("{address}, CN=joe"));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(describe(&null.into()), "unknown");
    }
}
