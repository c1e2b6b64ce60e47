//! What the service manager hears of us (sd_notify(3)): a datagram of lines `VARIABLE=value`.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::process::errno;

/// How the process came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that was started.
    Started,
    /// It went to the background, and the one that was started ends.
    Background,
}

/// Tells the service manager, if there is one. Never blocks: what it has no room for is lost.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// What was told last.
    status: String,
}

impl Notifier {
    /// Of the socket that `NOTIFY_SOCKET` names: a path, or `@` and an abstract name. Connects at
    /// once, before the process gives up the right to do so.
    pub fn new(name: Option<OsString>) -> Self {
        let socket = name.and_then(|name| match connect(name.as_bytes()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let (name, why) = (name.to_string_lossy(), errno(&error));
                log::warn!("Cannot reach the service manager at '{name}': {why}");
                None
            }
        });
        Notifier {
            socket,
            status: String::new(),
        }
    }

    /// The machine is made and its monitors are served.
    pub fn ready(&mut self, standing: Standing, status: &str) {
        let main = match standing {
            Standing::Started => String::new(),
            Standing::Background => format!("MAINPID={}\n", std::process::id()),
        };
        self.send(&format!("{main}READY=1\nSTATUS={status}\n"));
        status.clone_into(&mut self.status);
    }

    /// A word on how the machine is, which `systemctl status` shows. Not before [`Self::ready`].
    pub fn status(&mut self, status: &str) {
        if !self.status.is_empty() && self.status != status {
            self.send(&format!("STATUS={status}\n"));
            status.clone_into(&mut self.status);
        }
    }

    /// The program ends. The first time counts.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\n");
        self.socket = None;
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // It may be gone, or have no room: then nobody listens.
            let _ = socket.send(text.as_bytes());
        }
    }
}

fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        _ => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(manager: &UnixDatagram) -> String {
        let mut text = [0; 256];
        let size = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..size]).into_owned()
    }

    #[test]
    fn each_change_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::new(Some(path.into()));
        notifier.status("too early");
        notifier.ready(Standing::Started, "running");
        assert_eq!(told(&manager), "READY=1\nSTATUS=running\n");
        notifier.status("running");
        notifier.status("paused");
        assert_eq!(told(&manager), "STATUS=paused\n");
        notifier.stopping();
        assert_eq!(told(&manager), "STOPPING=1\n");
        notifier.stopping();
        notifier.status("running");
        manager.set_nonblocking(true).unwrap();
        assert!(manager.recv(&mut [0; 8]).is_err());
    }

    #[test]
    fn a_process_in_the_background_says_who_it_is() {
        let name = format!("qvmd-notify-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&at).unwrap();
        let mut notifier = Notifier::new(Some(format!("@{name}").into()));
        notifier.ready(Standing::Background, "running");
        let id = std::process::id();
        let expected = format!("MAINPID={id}\nREADY=1\nSTATUS=running\n");
        assert_eq!(told(&manager), expected);
    }

    #[test]
    fn a_manager_that_is_not_there_is_no_harm() {
        for name in ["/no/such/socket", "vsock:2:1", "", "@"] {
            let mut notifier = Notifier::new(Some(name.into()));
            notifier.ready(Standing::Started, "running");
            notifier.stopping();
        }
        assert!(Notifier::new(None).socket.is_none());
    }
}
