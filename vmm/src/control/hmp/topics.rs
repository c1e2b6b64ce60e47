//! What `info` can tell about.

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
    /// The last dump.
    Dump,
    /// What is mapped, with which rights.
    Mem,
    /// Each page that is mapped.
    Tlb,
    /// What the guest did wrong.
    GuestErrors,
    /// Trace points.
    TraceEvents,
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

/// A topic, as it is typed and shown.
pub(super) struct TopicEntry {
    pub name: &'static str,
    pub topic: Topic,
    pub args: &'static str,
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

/// The topics, by name.
pub(super) static TOPICS: &[TopicEntry] = &[
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
    topic("dump", Topic::Dump, "", "how the last dump is"),
    topic(
        "guest-errors",
        Topic::GuestErrors,
        "",
        "what the guest did wrong, by device",
    ),
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
    topic("mem", Topic::Mem, "", "virtual memory that is mapped"),
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
    topic("tlb", Topic::Tlb, "", "pages that are mapped"),
    topic(
        "trace-events",
        Topic::TraceEvents,
        "[name] [vcpu]",
        "trace points, and whether they speak",
    ),
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
