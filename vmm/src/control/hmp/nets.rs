//! Text commands about networks, read into what they ask for.

use api_spec::{AnnounceParameters, Netdev};

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;
use crate::cli::net;

/// A command about networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// netdev_add.
    Add,
    /// netdev_del.
    Delete,
    /// set_link.
    SetLink,
    /// announce_self.
    Announce,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "announce_self",
        None,
        All::Net(Verb::Announce),
        "[interfaces] [id]",
        "let interfaces tell the network where they are",
    ),
    entry(
        "netdev_add",
        None,
        All::Net(Verb::Add),
        "[user|tap|...],id=str[,prop=value][,...]",
        "make the host's side of an interface",
    ),
    entry(
        "netdev_del",
        None,
        All::Net(Verb::Delete),
        "id",
        "remove the host's side of an interface",
    ),
    entry(
        "set_link",
        None,
        All::Net(Verb::SetLink),
        "name on|off",
        "plug or pull the cable of an interface or a netdev",
    ),
];

/// A whole command about networks.
#[derive(Debug, Clone, PartialEq)]
pub enum NetLine {
    /// Make a netdev.
    Add(Box<Netdev>),
    /// Which kinds there are.
    Kinds,
    /// Delete a netdev.
    Delete {
        /// Its id.
        id: String,
    },
    /// Pull or plug a cable.
    SetLink {
        /// Interface or netdev.
        name: String,
        /// Plug.
        up: bool,
    },
    /// Let interfaces announce themselves.
    Announce(AnnounceParameters),
}

impl NetLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Add => {
                let text = words.next().unwrap_or_default();
                match text.as_str() {
                    "help" | "?" => NetLine::Kinds,
                    _ => {
                        let made = net::netdev(&text);
                        let made = made.map_err(|error| format!("Error: {}\n", error.desc))?;
                        NetLine::Add(Box::new(made))
                    }
                }
            }
            Verb::Delete => NetLine::Delete {
                id: words.need("id")?,
            },
            Verb::SetLink => {
                let name = words.need("name")?;
                let up = match words.next().as_deref() {
                    Some("on") => true,
                    Some("off") => false,
                    _ => return Err(words.with_help("Expected 'on' or 'off'".into())),
                };
                NetLine::SetLink { name, up }
            }
            Verb::Announce => {
                let list = |text: String| text.split(',').map(str::to_owned).collect();
                NetLine::Announce(AnnounceParameters {
                    interfaces: words.next().map(list),
                    id: words.next(),
                    ..crate::control::nets::default_announcement()
                })
            }
        };
        words.end()?;
        Ok(line)
    }
}
