//! What the command line asks for, read and checked as far as that is possible without touching
//! the host.

use std::path::PathBuf;

use api_spec::Command;
use api_spec::globals::Global;
use serde_json::{Map, Value};

use super::args::Arg;
use crate::armour::plan::SandboxPlan;
use crate::control::life::Policy;
use crate::machine::topology::SmpRequest;
use crate::sys::MemoryLock;

/// Everything that was asked for. Lists keep the order of the command line.
#[derive(Debug, Default)]
pub struct Plan {
    /// `-name`, `-uuid`.
    pub identity: Identity,
    /// `-machine`, `-accel`, `-cpu`, `-smp`, `-m`, `-kernel` and the like, `-rtc`.
    pub machine: MachinePlan,
    /// `-object`.
    pub objects: Vec<Arg>,
    /// `-chardev`: arguments of chardev-add.
    pub chardevs: Vec<(Arg, Map<String, Value>)>,
    /// `-serial`.
    pub serials: Vec<Arg>,
    /// `-qmp`, `-qmp-pretty`, `-mon`.
    pub monitors: Vec<MonitorPlan>,
    /// `-blockdev` and `-drive`.
    pub disks: Vec<DiskPlan>,
    /// `-snapshot`: drives are not written unless they say so.
    pub snapshot: bool,
    /// `-device`.
    pub devices: Vec<Arg>,
    /// `-netdev`.
    pub netdevs: Vec<Arg>,
    /// `-nic`.
    pub nics: Vec<Arg>,
    /// `-net`.
    pub nets: Vec<Arg>,
    /// `-global`.
    pub globals: Vec<Global>,
    /// `-incoming`: the last one.
    pub incoming: Option<Arg>,
    /// `-add-fd`.
    pub fds: Vec<FdPlan>,
    /// How the process behaves.
    pub process: ProcessPlan,
    /// `-action`, `-no-reboot`, `-no-shutdown`.
    pub policy: Policy,
    /// `-qtest`, `-qtest-log`.
    pub qtest: QtestPlan,
    /// `-nodefaults`.
    pub nodefaults: bool,
    /// `-nographic`.
    pub nographic: bool,
}

/// `-name`, `-uuid`.
#[derive(Debug, Default)]
pub struct Identity {
    /// The guest's name.
    pub guest: Option<String>,
    /// The process's name.
    pub process: Option<String>,
    /// Whether threads get telling names; the default is ours to choose.
    pub debug_threads: Option<bool>,
    /// The guest's UUID.
    pub uuid: Option<uuid::Uuid>,
}

/// The machine as such.
#[derive(Debug, Default)]
pub struct MachinePlan {
    /// The type's name as given.
    pub kind: Option<(String, Arg)>,
    /// Properties of `-machine` in order.
    pub properties: Vec<(String, String, Arg)>,
    /// `-accel`, or the parts of `-machine accel=`: name and properties.
    pub accels: Vec<(String, Arg)>,
    /// `-cpu`.
    pub cpu: Option<Arg>,
    /// `-smp`.
    pub smp: SmpRequest,
    /// `-m`: bytes.
    pub memory: Option<(u64, Arg)>,
    /// `-kernel`.
    pub kernel: Option<PathBuf>,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// `-append`.
    pub append: Option<String>,
    /// `-rtc`.
    pub rtc: RtcPlan,
    /// `-only-migratable`.
    pub only_migratable: bool,
}

/// `-rtc`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RtcPlan {
    /// What the clock shows at start.
    pub base: RtcBase,
    /// `clock=vm`: it stands still with the guest.
    pub virtual_clock: bool,
}

/// What the RTC shows at start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum RtcBase {
    /// Universal time.
    #[default]
    Utc,
    /// The host's local time.
    LocalTime,
    /// This date, in seconds since 1970.
    At(i64),
}

/// One monitor.
#[derive(Debug)]
pub struct MonitorPlan {
    /// The option that asks for it.
    pub arg: Arg,
    /// What carries it.
    pub over: MonitorOver,
    /// Whether answers are indented.
    pub pretty: bool,
}

/// What carries a monitor.
#[derive(Debug, PartialEq)]
pub enum MonitorOver {
    /// The character device of this id.
    Chardev(String),
    /// A character device made for it: the `backend` of chardev-add.
    New(Value),
}

/// One disk option.
#[derive(Debug)]
pub enum DiskPlan {
    /// `-blockdev`.
    Blockdev(Arg),
    /// `-drive`.
    Drive(Arg),
}

/// One `-add-fd`.
#[derive(Debug)]
pub struct FdPlan {
    /// The option.
    pub arg: Arg,
    /// The inherited descriptor.
    pub fd: i32,
    /// The set it goes to.
    pub set: i64,
    /// A note for query-fdsets.
    pub opaque: Option<String>,
}

/// How the process behaves.
#[derive(Debug, Default)]
pub struct ProcessPlan {
    /// `-S`.
    pub stopped: bool,
    /// `-loadvm`: the snapshot's name.
    pub loadvm: Option<Arg>,
    /// `-daemonize`.
    pub daemonize: bool,
    /// `-pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `-D`.
    pub log_file: Option<PathBuf>,
    /// `-d`.
    pub log_levels: Vec<Arg>,
    /// `-overcommit mem-lock=`: all memory of the process stays in RAM.
    pub mem_lock: Option<MemoryLock>,
    /// How it is confined.
    pub sandbox: SandboxPlan,
    /// `-msg timestamp=on`.
    pub timestamp: bool,
    /// `-msg guest-name=on`.
    pub log_guest_name: bool,
}

/// `-qtest`, `-qtest-log`.
#[derive(Debug, Default)]
pub struct QtestPlan {
    /// The socket: the `backend` of chardev-add.
    pub socket: Option<(Value, Arg)>,
    /// Where the protocol is written to; `none` is nowhere.
    pub log: Option<PathBuf>,
}

impl Plan {
    /// `-action`: one of the policies by name.
    ///
    /// # Errors
    /// QEMU's wording for an unknown policy or action.
    pub fn set_policy(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
        let mut arguments = Map::new();
        arguments.insert(key.to_owned(), Value::String(value.to_owned()));
        match api_spec::decode_command("set-action", Some(arguments)) {
            Ok(Command::SetAction(args)) => policy.set(&args),
            Ok(_) => {}
            Err(error) => return Err(error.desc),
        }
        Ok(())
    }
}
