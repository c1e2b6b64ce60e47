//! The text commands of human-monitor-command: one table for parsing and help.

pub mod chardevs;
pub mod devices;
pub mod disks;
pub mod forwards;
pub mod guest;
pub mod migration;
pub mod nets;
pub mod snapshots;
mod words;

pub use chardevs::ChardevLine;
pub use devices::DeviceLine;
pub use disks::{BlockQuery, DiskLine};
pub use forwards::ForwardLine;
pub use guest::GuestLine;
pub use migration::MigrationLine;
pub use nets::NetLine;
pub use snapshots::SnapshotLine;
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
    /// A command about networks.
    Net(nets::Verb),
    /// A command about snapshots of the machine.
    Snapshot(snapshots::Verb),
    /// A command about migration.
    Migration(migration::Verb),
}

/// What `info` tells about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Run state.
    Status,
    /// Version of the program.
    Version,
    /// The guest's name.
    Name,
    /// The guest's UUID.
    Uuid,
    /// Whether KVM is there and used.
    Kvm,
    /// The vCPUs and their threads.
    Cpus,
    /// Registers of one vCPU or all.
    Registers,
    /// PCI functions.
    Pci,
    /// Devices and their properties.
    Qtree,
    /// Disks.
    Block,
    /// What disks have done.
    BlockStats,
    /// Snapshots inside of images.
    Snapshots,
    /// Hubs, netdevs and interfaces.
    Network,
    /// Character devices.
    Chardev,
    /// Connections of user networks.
    Usernet,
    /// The balloon.
    Balloon,
    /// The generation id.
    Generation,
    /// I/O threads.
    IoThreads,
    /// How far a migration is.
    Migrate,
    /// What migrations are asked to do.
    MigrateCapabilities,
    /// How they do it.
    MigrateParameters,
    /// One of those, as it was asked for once.
    MigrateCacheSize,
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
    /// A command about networks.
    Net(NetLine),
    /// A command about snapshots of the machine.
    Snapshot(SnapshotLine),
    /// A command about migration.
    Migration(MigrationLine),
    /// `info block`.
    InfoBlock(BlockQuery),
}

struct Entry {
    name: &'static str,
    alias: Option<&'static str>,
    verb: Verb,
    args: &'static str,
    help: &'static str,
}

const fn entry(
    name: &'static str,
    alias: Option<&'static str>,
    verb: Verb,
    args: &'static str,
    help: &'static str,
) -> Entry {
    Entry {
        name,
        alias,
        verb,
        args,
        help,
    }
}

static COMMANDS: &[Entry] = &[
    entry(
        "balloon",
        None,
        Verb::Guest(guest::Verb::Balloon),
        "target",
        "ask the guest to keep so much memory (MiB)",
    ),
    entry(
        "block_resize",
        None,
        Verb::Disk(disks::Verb::Resize),
        "device size",
        "change the size of a disk (MiB unless it has a suffix)",
    ),
    entry(
        "block_set_io_throttle",
        None,
        Verb::Disk(disks::Verb::Throttle),
        "device bps bps_rd bps_wr iops iops_rd iops_wr",
        "limit a disk; 0 is no limit",
    ),
    entry(
        "chardev-add",
        None,
        Verb::Chardev(chardevs::Verb::Add),
        "args",
        "make a character device",
    ),
    entry(
        "chardev-change",
        None,
        Verb::Chardev(chardevs::Verb::Change),
        "id args",
        "give a character device another host side",
    ),
    entry(
        "chardev-remove",
        None,
        Verb::Chardev(chardevs::Verb::Remove),
        "id",
        "remove a character device",
    ),
    entry(
        "chardev-send-break",
        None,
        Verb::Chardev(chardevs::Verb::SendBreak),
        "id",
        "send a break to a character device",
    ),
    entry(
        "client_migrate_info",
        None,
        Verb::Migration(migration::Verb::ClientInfo),
        "protocol hostname [port [tls-port [cert-subject]]]",
        "refused: there are no displays to follow the machine",
    ),
    entry("cont", Some("c"), Verb::Cont, "", "let the guest run"),
    entry(
        "delvm",
        None,
        Verb::Snapshot(snapshots::Verb::Delete),
        "tag",
        "forget a snapshot of the machine",
    ),
    entry(
        "change",
        None,
        Verb::Disk(disks::Verb::Change),
        "[-f] device filename [format [read-only-mode]]",
        "put another medium into a device (-f: also a locked one)",
    ),
    entry(
        "device_add",
        None,
        Verb::Device(devices::Verb::Add),
        "driver[,prop=value][,...]",
        "make a device and plug it in (help: what there is)",
    ),
    entry(
        "device_del",
        None,
        Verb::Device(devices::Verb::Del),
        "device",
        "ask the guest to let go of a device",
    ),
    entry(
        "drive_add",
        None,
        Verb::Disk(disks::Verb::DriveAdd),
        "[-n] [[<domain>:]<bus>:]<slot> [file=file][,if=none][,id=name][,...]",
        "make a drive without a device (-n: a node)",
    ),
    entry(
        "drive_del",
        None,
        Verb::Disk(disks::Verb::DriveDel),
        "device",
        "take a drive away; a device that has it stays without",
    ),
    entry(
        "eject",
        None,
        Verb::Disk(disks::Verb::Eject),
        "[-f] device",
        "take the medium out of a device (-f: also out of a locked one)",
    ),
    entry(
        "help",
        Some("?"),
        Verb::Help,
        "[cmd]",
        "tell what can be typed here",
    ),
    entry(
        "hostfwd_add",
        None,
        Verb::Forward(forwards::Verb::Add),
        "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
        "let a port of the host lead into the guest (user networks)",
    ),
    entry(
        "hostfwd_remove",
        None,
        Verb::Forward(forwards::Verb::Remove),
        "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
        "let it no longer do so",
    ),
    entry(
        "info",
        None,
        Verb::Info,
        "[subcommand]",
        "tell about the machine",
    ),
    entry(
        "loadvm",
        None,
        Verb::Snapshot(snapshots::Verb::Load),
        "tag",
        "take the machine back to a snapshot",
    ),
    entry(
        "migrate",
        None,
        Verb::Migration(migration::Verb::Migrate),
        "[-d] [-r] uri",
        "send the machine there (the prompt comes back at once, with -d or not)",
    ),
    entry(
        "migrate_cancel",
        None,
        Verb::Migration(migration::Verb::Cancel),
        "",
        "give up sending the machine",
    ),
    entry(
        "migrate_continue",
        None,
        Verb::Migration(migration::Verb::Continue),
        "state",
        "let a migration go on that waits in this state",
    ),
    entry(
        "migrate_incoming",
        None,
        Verb::Migration(migration::Verb::Incoming),
        "uri",
        "fill a machine that was started with -incoming defer",
    ),
    entry(
        "migrate_pause",
        None,
        Verb::Migration(migration::Verb::Pause),
        "",
        "refused: there is no postcopy",
    ),
    entry(
        "migrate_recover",
        None,
        Verb::Migration(migration::Verb::Recover),
        "uri",
        "refused: there is no postcopy",
    ),
    entry(
        "migrate_set_cache_size",
        None,
        Verb::Migration(migration::Verb::SetCacheSize),
        "value",
        "replaced by migrate_set_parameter xbzrle-cache-size",
    ),
    entry(
        "migrate_set_capability",
        None,
        Verb::Migration(migration::Verb::SetCapability),
        "capability on|off",
        "switch a capability of migrations",
    ),
    entry(
        "migrate_set_downtime",
        None,
        Verb::Migration(migration::Verb::SetDowntime),
        "value",
        "replaced by migrate_set_parameter downtime-limit; in seconds",
    ),
    entry(
        "migrate_set_parameter",
        None,
        Verb::Migration(migration::Verb::SetParameter),
        "parameter value",
        "change a parameter of migrations",
    ),
    entry(
        "migrate_set_speed",
        None,
        Verb::Migration(migration::Verb::SetSpeed),
        "value",
        "replaced by migrate_set_parameter max-bandwidth; in MiB",
    ),
    entry(
        "migrate_start_postcopy",
        None,
        Verb::Migration(migration::Verb::StartPostcopy),
        "",
        "refused: there is no postcopy",
    ),
    entry(
        "nmi",
        None,
        Verb::Nmi,
        "",
        "send a non-maskable interrupt to every vCPU",
    ),
    entry(
        "pci_add",
        None,
        Verb::Device(devices::Verb::PciAdd),
        "",
        "replaced by device_add",
    ),
    entry(
        "pci_del",
        None,
        Verb::Device(devices::Verb::PciDel),
        "",
        "replaced by device_del",
    ),
    entry(
        "announce_self",
        None,
        Verb::Net(nets::Verb::Announce),
        "[interfaces] [id]",
        "let interfaces tell the network where they are",
    ),
    entry(
        "netdev_add",
        None,
        Verb::Net(nets::Verb::Add),
        "[user|tap|...],id=str[,prop=value][,...]",
        "make the host's side of an interface",
    ),
    entry(
        "netdev_del",
        None,
        Verb::Net(nets::Verb::Delete),
        "id",
        "remove the host's side of an interface",
    ),
    entry(
        "set_link",
        None,
        Verb::Net(nets::Verb::SetLink),
        "name on|off",
        "plug or pull the cable of an interface or a netdev",
    ),
    entry("quit", Some("q"), Verb::Quit, "", "end the program"),
    entry(
        "savevm",
        None,
        Verb::Snapshot(snapshots::Verb::Save),
        "[tag]",
        "keep the machine as a snapshot (without a name: the time)",
    ),
    entry(
        "snapshot_blkdev",
        None,
        Verb::Disk(disks::Verb::Snapshot),
        "[-n] device [new-image-file] [format]",
        "put an overlay on top of a disk (-n: it is there already)",
    ),
    entry(
        "snapshot_blkdev_internal",
        None,
        Verb::Disk(disks::Verb::InternalSnapshot),
        "device name",
        "keep a disk's content inside of its image",
    ),
    entry(
        "snapshot_delete_blkdev_internal",
        None,
        Verb::Disk(disks::Verb::DeleteSnapshot),
        "device name [id]",
        "forget what was kept so",
    ),
    entry("stop", Some("s"), Verb::Stop, "", "hold the guest"),
    entry(
        "system_powerdown",
        None,
        Verb::SystemPowerdown,
        "",
        "press the power button",
    ),
    entry(
        "system_reset",
        None,
        Verb::SystemReset,
        "",
        "press the reset button",
    ),
    entry(
        "watchdog_action",
        None,
        Verb::Guest(guest::Verb::Watchdog),
        "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
        "say what an expired watchdog does",
    ),
];

struct TopicEntry {
    name: &'static str,
    topic: Topic,
    args: &'static str,
    help: &'static str,
}

const fn topic(
    name: &'static str,
    topic: Topic,
    args: &'static str,
    help: &'static str,
) -> TopicEntry {
    TopicEntry {
        name,
        topic,
        args,
        help,
    }
}

static TOPICS: &[TopicEntry] = &[
    topic(
        "balloon",
        Topic::Balloon,
        "",
        "what the balloon leaves to the guest",
    ),
    topic(
        "block",
        Topic::Block,
        "[-n] [-v] [device]",
        "disks and what backs them (-n: all nodes, -v: more of images)",
    ),
    topic("blockstats", Topic::BlockStats, "", "what disks have done"),
    topic("chardev", Topic::Chardev, "", "character devices"),
    topic("cpus", Topic::Cpus, "", "vCPUs and their threads"),
    topic("iothreads", Topic::IoThreads, "", "I/O threads"),
    topic("kvm", Topic::Kvm, "", "whether KVM is in use"),
    topic("migrate", Topic::Migrate, "", "how far a migration is"),
    topic(
        "migrate_cache_size",
        Topic::MigrateCacheSize,
        "",
        "replaced by info migrate_parameters",
    ),
    topic(
        "migrate_capabilities",
        Topic::MigrateCapabilities,
        "",
        "what migrations are asked to do",
    ),
    topic(
        "migrate_parameters",
        Topic::MigrateParameters,
        "",
        "how migrations do it",
    ),
    topic("name", Topic::Name, "", "the guest's name"),
    topic(
        "network",
        Topic::Network,
        "",
        "hubs, netdevs and interfaces",
    ),
    topic("pci", Topic::Pci, "", "PCI functions"),
    topic(
        "qtree",
        Topic::Qtree,
        "",
        "buses, devices and their properties",
    ),
    topic(
        "registers",
        Topic::Registers,
        "[-a|vcpu]",
        "registers of a vCPU (-a: of all)",
    ),
    topic(
        "snapshots",
        Topic::Snapshots,
        "",
        "snapshots of the machine, and inside of images",
    ),
    topic("status", Topic::Status, "", "whether the guest runs"),
    topic(
        "usernet",
        Topic::Usernet,
        "",
        "connections of user networks",
    ),
    topic("uuid", Topic::Uuid, "", "the guest's UUID"),
    topic(
        "vm-generation-id",
        Topic::Generation,
        "",
        "the guest's generation id",
    ),
    topic("version", Topic::Version, "", "the version of this program"),
];

fn find(word: &str) -> Option<&'static Entry> {
    COMMANDS
        .iter()
        .find(|entry| entry.name == word || entry.alias == Some(word))
}

fn unknown(words: &str) -> String {
    format!("unknown command: '{words}'\n")
}

fn extraneous(name: &str) -> String {
    format!(
        "{name}: extraneous characters at the end of line\n\
         Try \"help {name}\" for more information\n"
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
        Verb::Snapshot(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            SnapshotLine::read(verb, words).map(Line::Snapshot)
        }
        Verb::Migration(verb) => {
            let words = Words::new(entry.name, words::split(line).into_iter().skip(1));
            MigrationLine::read(verb, words).map(Line::Migration)
        }
        verb => match words.next() {
            Some(_) => Err(extraneous(entry.name)),
            None => Ok(Line::Run(verb)),
        },
    }
}

/// The text of `help`, for one command or all.
pub fn help(about: Option<&str>) -> String {
    match about {
        None => COMMANDS.iter().map(describe).collect(),
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

/// The text of `info` alone.
pub fn topics() -> String {
    let line = |topic: &TopicEntry| {
        let space = if topic.args.is_empty() { "" } else { " " };
        format!(
            "info {}{space}{} -- {}\n",
            topic.name, topic.args, topic.help
        )
    };
    TOPICS.iter().map(line).collect()
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
        for entry in COMMANDS {
            assert!(text.contains(entry.name));
            assert!(!help(Some(entry.name)).is_empty());
        }
        assert_eq!(help(Some("quit")), "quit|q -- end the program\n");
        assert_eq!(help(Some("x")), "unknown command: 'x'\n");
        assert_eq!(wire("a\nb\n"), "a\r\nb\r\n");
    }
}
