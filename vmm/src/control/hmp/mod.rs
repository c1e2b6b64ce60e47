//! The text commands of human-monitor-command: tables by area, for parsing and help.

pub mod chardevs;
pub mod devices;
pub mod disks;
pub mod expression;
pub mod forwards;
pub mod guest;
mod life;
pub mod logs;
pub mod memory;
pub mod migration;
pub mod nets;
pub mod snapshots;
mod table;
pub mod topics;
mod words;

pub use chardevs::ChardevLine;
pub use devices::DeviceLine;
pub use disks::{BlockQuery, DiskLine};
pub use forwards::ForwardLine;
pub use guest::GuestLine;
pub use logs::LogLine;
pub use memory::MemoryLine;
pub use migration::MigrationLine;
pub use nets::NetLine;
pub use snapshots::SnapshotLine;
use table::{Entry, find};
use topics::TOPICS;
pub use topics::{Topic, topics};
use words::Words;

/// One text command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `help [COMMAND]`.
    Help,
    /// `info TOPIC`.
    Info,
    /// stop.
    Stop,
    /// cont.
    Cont,
    /// quit.
    Quit,
    /// system_reset.
    SystemReset,
    /// system_powerdown.
    SystemPowerdown,
    /// inject-nmi.
    Nmi,
    /// A command about character devices.
    Chardev(chardevs::Verb),
    /// A command about disks.
    Disk(disks::Verb),
    /// A command about devices that come and go.
    Device(devices::Verb),
    /// A command about what the guest has and does.
    Guest(guest::Verb),
    /// A command about host forwards.
    Forward(forwards::Verb),
    /// A command about logs.
    Log(logs::Verb),
    /// A command about networks.
    Net(nets::Verb),
    /// A command about migration.
    Migration(migration::Verb),
    /// A command about memory and registers.
    Memory(memory::Verb),
    /// A command about snapshots of the machine.
    Snapshot(snapshots::Verb),
}

/// A parsed line.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Nothing on it.
    Empty,
    /// `help`, with the command asked about.
    Help(Option<String>),
    /// `info` about a topic with the words after it; `None` lists the topics.
    Info(Option<Topic>, Vec<String>),
    /// Any other command.
    Run(Verb),
    /// A command about character devices.
    Chardev(ChardevLine),
    /// A command about disks.
    Disk(DiskLine),
    /// A command about devices that come and go.
    Device(DeviceLine),
    /// A command about what the guest has and does.
    Guest(GuestLine),
    /// A command about host forwards.
    Forward(ForwardLine),
    /// A command about logs.
    Log(LogLine),
    /// A command about networks.
    Net(NetLine),
    /// A command about migration.
    Migration(MigrationLine),
    /// A command about memory and registers.
    Memory(MemoryLine),
    /// A command about snapshots of the machine.
    Snapshot(SnapshotLine),
    /// `info block`.
    InfoBlock(BlockQuery),
}

fn unknown(words: &str) -> String {
    format!("unknown command: '{words}'\n")
}

/// The command itself: of `info tlb` it is `tlb` that has something to say.
fn last_word(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
}

/// More words than the command takes.
pub fn extraneous(name: &str) -> String {
    format!(
        "{}: extraneous characters at the end of line\n\
         Try \"help {name}\" for more information\n",
        last_word(name)
    )
}

/// Reads a line.
///
/// # Errors
/// The text to answer with when the line is no command.
pub fn parse(line: &str) -> Result<Line, String> {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else {
        return Ok(Line::Empty);
    };
    if let Some((entry, verb, typed, rest)) = memory_command(line) {
        let name = match entry.alias {
            Some(alias) => format!("{}|{alias}", entry.name),
            None => entry.name.to_owned(),
        };
        return MemoryLine::read(verb, &name, typed, rest).map(Line::Memory);
    }
    let entry = find(first).ok_or_else(|| unknown(first))?;
    match entry.verb {
        Verb::Help => Ok(Line::Help(words.next().map(str::to_owned))),
        Verb::Info => {
            let Some(name) = words.next() else {
                return Ok(Line::Info(None, Vec::new()));
            };
            let topic = TOPICS.iter().find(|topic| topic.name == name);
            let topic = topic.ok_or_else(|| unknown(&format!("info {name}")))?;
            let rest: Vec<String> = words.map(str::to_owned).collect();
            if topic.args.is_empty() && !rest.is_empty() {
                return Err(extraneous(&format!("info {name}")));
            }
            if topic.topic == Topic::Block {
                let words = Words::new("info block", rest);
                return BlockQuery::read(words).map(Line::InfoBlock);
            }
            Ok(Line::Info(Some(topic.topic), rest))
        }
        Verb::Chardev(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            ChardevLine::read(verb, words).map(Line::Chardev)
        }
        Verb::Disk(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            DiskLine::read(verb, words).map(Line::Disk)
        }
        Verb::Device(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            DeviceLine::read(verb, words).map(Line::Device)
        }
        Verb::Guest(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            GuestLine::read(verb, words).map(Line::Guest)
        }
        Verb::Forward(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            ForwardLine::read(verb, words).map(Line::Forward)
        }
        Verb::Net(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            NetLine::read(verb, words).map(Line::Net)
        }
        Verb::Log(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            LogLine::read(verb, words).map(Line::Log)
        }
        Verb::Snapshot(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            SnapshotLine::read(verb, words).map(Line::Snapshot)
        }
        Verb::Migration(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            MigrationLine::read(verb, words).map(Line::Migration)
        }
        // Read above.
        Verb::Memory(_) => Ok(Line::Empty),
        verb => match words.next() {
            Some(_) => Err(extraneous(entry.name)),
            None => Ok(Line::Run(verb)),
        },
    }
}

/// A command about memory, which may have a format right behind its name: the command, its name as
/// it was typed, and what stands behind that.
fn memory_command(line: &str) -> Option<(&'static Entry, memory::Verb, &str, &str)> {
    let line = line.trim_start();
    let end = line.find(|c: char| c == '/' || c.is_whitespace());
    let (typed, rest) = line.split_at(end.unwrap_or(line.len()));
    let entry = find(typed)?;
    match entry.verb {
        Verb::Memory(verb) => Some((entry, verb, typed, rest)),
        _ => None,
    }
}

/// The text of `help`, for one command or all.
pub fn help(about: Option<&str>) -> String {
    match about {
        None => {
            let mut all: Vec<_> = table::all().collect();
            all.sort_by_key(|entry| entry.name);
            all.into_iter().map(describe).collect()
        }
        Some("info") => topics(),
        Some(word) => find(word).map_or_else(|| unknown(word), describe),
    }
}

fn describe(entry: &Entry) -> String {
    let alias = entry
        .alias
        .map(|alias| format!("|{alias}"))
        .unwrap_or_default();
    let space = if entry.args.is_empty() { "" } else { " " };
    format!(
        "{}{alias}{space}{} -- {}\n",
        entry.name, entry.args, entry.help
    )
}

/// Text as it goes to the client: lines end CRLF.
pub fn wire(text: &str) -> String {
    text.replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        for (line, expected) in [
            ("", Ok(Line::Empty)),
            ("  q ", Ok(Line::Run(Verb::Quit))),
            ("c", Ok(Line::Run(Verb::Cont))),
            ("system_reset", Ok(Line::Run(Verb::SystemReset))),
            ("info", Ok(Line::Info(None, vec![]))),
            ("info status", Ok(Line::Info(Some(Topic::Status), vec![]))),
            (
                "info registers 1",
                Ok(Line::Info(Some(Topic::Registers), vec!["1".into()])),
            ),
            ("help", Ok(Line::Help(None))),
            ("help info", Ok(Line::Help(Some("info".into())))),
            ("foo bar", Err("unknown command: 'foo'\n")),
            ("info foo", Err("unknown command: 'info foo'\n")),
            (
                "info tlb x",
                Err("tlb: extraneous characters at the end of line\n\
                     Try \"help info tlb\" for more information\n"),
            ),
            (
                "stop now",
                Err("stop: extraneous characters at the end of line\n\
                     Try \"help stop\" for more information\n"),
            ),
        ] {
            assert_eq!(parse(line), expected.map_err(str::to_owned), "{line}");
        }
    }

    #[test]
    fn help_names_every_command() {
        let text = help(None);
        for entry in table::all() {
            assert!(text.contains(entry.name));
            assert!(!help(Some(entry.name)).is_empty());
        }
        assert_eq!(help(Some("quit")), "quit|q -- end the program\n");
        assert_eq!(help(Some("xy")), "unknown command: 'xy'\n");
        assert_eq!(wire("a\nb\n"), "a\r\nb\r\n");
    }
}
