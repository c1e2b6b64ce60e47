//! Sockets that a service manager opened for us (sd_listen_fds(3)): descriptors from 3 on, with
//! names.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sys;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// More than anybody passes.
const MOST: usize = 1024;
/// What a socket without a name is called.
const NO_NAME: &str = "unknown";

/// The sockets that nobody has asked for yet, in the order in which they were passed.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(String, OwnedFd)>);

impl PassedSockets {
    /// Takes over what `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` tell of. What is meant for
    /// another process is left alone.
    pub fn take(pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Self {
        let Some(count) = count else {
            return PassedSockets::default();
        };
        if pid.and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return PassedSockets::default();
        }
        let Some(count) = count.parse().ok().filter(|count| *count <= MOST) else {
            log::warn!("LISTEN_FDS is no number of descriptors: '{count}'");
            return PassedSockets::default();
        };
        let mut names = names.unwrap_or_default().split(':');
        let mut sockets = Vec::new();
        for number in (FIRST..).take(count) {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or(NO_NAME).to_owned();
            match sys::adopt(number) {
                Ok(fd) => sockets.push((name, fd)),
                Err(_) => log::warn!("LISTEN_FDS counts descriptor {number}, which is not open"),
            }
        }
        PassedSockets(sockets)
    }

    /// Gives the socket of this name, or number, away. Of several with one name it is the first
    /// that is left.
    pub fn claim(&mut self, name: &str) -> Option<OwnedFd> {
        let wanted = |(own, fd): &(String, OwnedFd)| match name.parse::<RawFd>() {
            Ok(number) => fd.as_raw_fd() == number,
            Err(_) => own == name,
        };
        let at = self.0.iter().position(wanted)?;
        Some(self.0.remove(at).1)
    }

    /// The names of those that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pid: u32, count: &str, names: Option<&str>) -> PassedSockets {
        PassedSockets::take(Some(&pid.to_string()), Some(count), names)
    }

    #[test]
    fn what_is_for_others_or_makes_no_sense_is_left() {
        let own = std::process::id();
        assert_eq!(take(own.wrapping_add(1), "1", None).names().count(), 0);
        assert_eq!(take(own, "-1", None).names().count(), 0);
        assert_eq!(take(own, "99999999", None).names().count(), 0);
        assert_eq!(take(own, "0", Some("a:b")).names().count(), 0);
        let nobody = PassedSockets::take(None, Some("1"), None);
        assert_eq!(nobody.names().count(), 0);
        let none = PassedSockets::take(Some(&own.to_string()), None, None);
        assert_eq!(none.names().count(), 0);
    }

    #[test]
    fn sockets_are_claimed_by_name_or_number() {
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let (first, second) = (fd(), fd());
        let numbers = [first.as_raw_fd(), second.as_raw_fd()];
        let mut sockets = PassedSockets(vec![("qmp".into(), first), ("qmp".into(), second)]);
        assert!(sockets.claim("other").is_none());
        assert!(sockets.claim("99999").is_none());
        let by_number = sockets.claim(&numbers[1].to_string()).unwrap();
        assert_eq!(by_number.as_raw_fd(), numbers[1]);
        assert_eq!(sockets.names().collect::<Vec<_>>(), ["qmp"]);
        assert_eq!(sockets.claim("qmp").unwrap().as_raw_fd(), numbers[0]);
        assert!(sockets.claim("qmp").is_none());
    }
}
