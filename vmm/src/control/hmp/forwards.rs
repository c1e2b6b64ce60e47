//! Text commands about host forwards of user networks, read into what they ask for.

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;

/// A command about host forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// hostfwd_add.
    Add,
    /// hostfwd_remove.
    Remove,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "hostfwd_add",
        None,
        All::Forward(Verb::Add),
        "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
        "let a port of the host lead into the guest (user networks)",
    ),
    entry(
        "hostfwd_remove",
        None,
        All::Forward(Verb::Remove),
        "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
        "let it no longer do so",
    ),
];

/// A whole command about host forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardLine {
    /// hostfwd_add.
    Add {
        /// Of this netdev, or the first one.
        netdev: Option<String>,
        /// The rule.
        rule: String,
    },
    /// hostfwd_remove.
    Remove {
        /// Of this netdev, or the first one.
        netdev: Option<String>,
        /// The host's end.
        end: String,
    },
}

impl ForwardLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let first = words.need("string")?;
        let (netdev, rule) = match words.next() {
            Some(rule) => (Some(first), rule),
            None => (None, first),
        };
        words.end()?;
        Ok(match verb {
            Verb::Add => ForwardLine::Add { netdev, rule },
            Verb::Remove => ForwardLine::Remove { netdev, end: rule },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    #[test]
    fn the_netdev_may_be_left_out() {
        let read = |verb, text: &str| ForwardLine::read(verb, Words::new("x", split(text)));
        assert_eq!(
            read(Verb::Add, "tcp::1-:1"),
            Ok(ForwardLine::Add {
                netdev: None,
                rule: "tcp::1-:1".into()
            })
        );
        assert_eq!(
            read(Verb::Remove, "n tcp::1"),
            Ok(ForwardLine::Remove {
                netdev: Some("n".into()),
                end: "tcp::1".into()
            })
        );
        assert!(
            read(Verb::Add, "")
                .unwrap_err()
                .starts_with("x: string expected\n")
        );
        assert!(
            read(Verb::Add, "a b c")
                .unwrap_err()
                .starts_with("x: extraneous characters")
        );
    }
}
