//! Written by api-spec-gen; change `schema/` instead.
#![allow(clippy::large_enum_variant, clippy::too_many_lines)] // generated

use crate::decode::{At, Decode, DecodeMembers, Members, not_accepted};
use crate::encode::{Encode, Members as Out};
use crate::{QmpResult, Value};

/// Writes its members into an object that may hold others' members too.
pub trait EncodeMembers {
    /// Appends its members.
    fn put(&self, out: &mut Out);
}

macro_rules! object {
    ($name:ident) => {
        impl Decode for $name {
            fn decode(value: Value, at: &At) -> QmpResult<Self> {
                let mut members = Members::open(value, at)?;
                let taken = Self::take(&mut members)?;
                members.finish()?;
                Ok(taken)
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut String) {
                let mut members = Out::open(out);
                self.put(&mut members);
                members.close();
            }
        }
    };
}

macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$variant),*];
            /// The value's name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
        impl Decode for $name {
            fn decode(value: Value, at: &At) -> QmpResult<Self> {
                let text = value.as_str().ok_or_else(|| at.wrong_type("string"))?;
                match text { $($text => Ok($name::$variant),)* _ => Err(not_accepted(at, text)) }
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut String) {
                self.name().encode(out);
            }
        }
    };
}

/// What the machine as a whole is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunState {
    /// `debug`
    Debug,
    /// `inmigrate`
    Inmigrate,
    /// `internal-error`
    InternalError,
    /// `io-error`
    IoError,
    /// `paused`
    Paused,
    /// `postmigrate`
    Postmigrate,
    /// `prelaunch`
    Prelaunch,
    /// `finish-migrate`
    FinishMigrate,
    /// `restore-vm`
    RestoreVm,
    /// `running`
    Running,
    /// `save-vm`
    SaveVm,
    /// `shutdown`
    Shutdown,
    /// `suspended`
    Suspended,
    /// `watchdog`
    Watchdog,
    /// `guest-panicked`
    GuestPanicked,
    /// `colo`
    Colo,
}
names!(RunState { Debug = "debug", Inmigrate = "inmigrate", InternalError = "internal-error", IoError = "io-error", Paused = "paused", Postmigrate = "postmigrate", Prelaunch = "prelaunch", FinishMigrate = "finish-migrate", RestoreVm = "restore-vm", Running = "running", SaveVm = "save-vm", Shutdown = "shutdown", Suspended = "suspended", Watchdog = "watchdog", GuestPanicked = "guest-panicked", Colo = "colo" });

/// Why the machine was shut down or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShutdownCause {
    /// `none`
    None,
    /// `host-error`
    HostError,
    /// `host-qmp-quit`
    HostQmpQuit,
    /// `host-qmp-system-reset`
    HostQmpSystemReset,
    /// `host-signal`
    HostSignal,
    /// `host-ui`
    HostUi,
    /// `guest-shutdown`
    GuestShutdown,
    /// `guest-reset`
    GuestReset,
    /// `guest-panic`
    GuestPanic,
    /// `subsystem-reset`
    SubsystemReset,
    /// `snapshot-load`
    SnapshotLoad,
}
names!(ShutdownCause { None = "none", HostError = "host-error", HostQmpQuit = "host-qmp-quit", HostQmpSystemReset = "host-qmp-system-reset", HostSignal = "host-signal", HostUi = "host-ui", GuestShutdown = "guest-shutdown", GuestReset = "guest-reset", GuestPanic = "guest-panic", SubsystemReset = "subsystem-reset", SnapshotLoad = "snapshot-load" });

/// The machine's run state.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusInfo {
    /// Whether the processors run.
    pub running: bool,
    /// The state by name.
    pub status: RunState,
}
impl DecodeMembers for StatusInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(StatusInfo {
            running: members.required("running")?,
            status: members.required("status")?,
        })
    }
}
impl EncodeMembers for StatusInfo {
    fn put(&self, out: &mut Out) {
        out.put("running", &self.running);
        out.put("status", &self.status);
    }
}
object!(StatusInfo);

/// What a guest's reboot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RebootAction {
    /// `reset`
    Reset,
    /// `shutdown`
    Shutdown,
}
names!(RebootAction { Reset = "reset", Shutdown = "shutdown" });

/// What a guest's shutdown does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShutdownAction {
    /// `poweroff`
    Poweroff,
    /// `pause`
    Pause,
}
names!(ShutdownAction { Poweroff = "poweroff", Pause = "pause" });

/// What a guest's panic does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PanicAction {
    /// `pause`
    Pause,
    /// `shutdown`
    Shutdown,
    /// `exit-failure`
    ExitFailure,
    /// `none`
    None,
}
names!(PanicAction { Pause = "pause", Shutdown = "shutdown", ExitFailure = "exit-failure", None = "none" });

/// What an expired watchdog does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchdogAction {
    /// `reset`
    Reset,
    /// `shutdown`
    Shutdown,
    /// `poweroff`
    Poweroff,
    /// `pause`
    Pause,
    /// `debug`
    Debug,
    /// `none`
    None,
    /// `inject-nmi`
    InjectNmi,
}
names!(WatchdogAction { Reset = "reset", Shutdown = "shutdown", Poweroff = "poweroff", Pause = "pause", Debug = "debug", None = "none", InjectNmi = "inject-nmi" });

/// What was done about a guest's panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuestPanicAction {
    /// `pause`
    Pause,
    /// `poweroff`
    Poweroff,
    /// `run`
    Run,
}
names!(GuestPanicAction { Pause = "pause", Poweroff = "poweroff", Run = "run" });

/// What a client can have switched on in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QMPCapability {
    /// `oob`
    Oob,
}
names!(QMPCapability { Oob = "oob" });

/// A version in three parts.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionTriple {
    /// `major`.
    pub major: i64,
    /// `minor`.
    pub minor: i64,
    /// `micro`.
    pub micro: i64,
}
impl DecodeMembers for VersionTriple {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VersionTriple {
            major: members.required("major")?,
            minor: members.required("minor")?,
            micro: members.required("micro")?,
        })
    }
}
impl EncodeMembers for VersionTriple {
    fn put(&self, out: &mut Out) {
        out.put("major", &self.major);
        out.put("minor", &self.minor);
        out.put("micro", &self.micro);
    }
}
object!(VersionTriple);

/// The version spoken and the program that speaks it.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionInfo {
    /// The version of the interface.
    pub qemu: VersionTriple,
    /// The program and its own version.
    pub package: String,
}
impl DecodeMembers for VersionInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VersionInfo {
            qemu: members.required("qemu")?,
            package: members.required("package")?,
        })
    }
}
impl EncodeMembers for VersionInfo {
    fn put(&self, out: &mut Out) {
        out.put("qemu", &self.qemu);
        out.put("package", &self.package);
    }
}
object!(VersionInfo);

/// A command that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandDescription {
    /// Its name.
    pub name: String,
}
impl DecodeMembers for CommandDescription {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(CommandDescription {
            name: members.required("name")?,
        })
    }
}
impl EncodeMembers for CommandDescription {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
    }
}
object!(CommandDescription);

/// An event that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDescription {
    /// Its name.
    pub name: String,
}
impl DecodeMembers for EventDescription {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(EventDescription {
            name: members.required("name")?,
        })
    }
}
impl EncodeMembers for EventDescription {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
    }
}
object!(EventDescription);

/// The kind of an entry of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaMetaType {
    /// `builtin`
    Builtin,
    /// `enum`
    Enum,
    /// `array`
    Array,
    /// `object`
    Object,
    /// `alternate`
    Alternate,
    /// `command`
    Command,
    /// `event`
    Event,
}
names!(SchemaMetaType { Builtin = "builtin", Enum = "enum", Array = "array", Object = "object", Alternate = "alternate", Command = "command", Event = "event" });

/// A type of JSON, with numbers split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JSONType {
    /// `string`
    String,
    /// `number`
    Number,
    /// `int`
    Int,
    /// `boolean`
    Boolean,
    /// `null`
    Null,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `value`
    Value,
}
names!(JSONType { String = "string", Number = "number", Int = "int", Boolean = "boolean", Null = "null", Object = "object", Array = "array", Value = "value" });

/// A type that needs no definition.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoBuiltin {
    /// `json-type`.
    pub json_type: JSONType,
}
impl DecodeMembers for SchemaInfoBuiltin {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoBuiltin {
            json_type: members.required("json-type")?,
        })
    }
}
impl EncodeMembers for SchemaInfoBuiltin {
    fn put(&self, out: &mut Out) {
        out.put("json-type", &self.json_type);
    }
}
object!(SchemaInfoBuiltin);

/// A value of an enumeration.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoEnumMember {
    /// `name`.
    pub name: String,
    /// `features`.
    pub features: Option<Vec<String>>,
}
impl DecodeMembers for SchemaInfoEnumMember {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoEnumMember {
            name: members.required("name")?,
            features: members.optional("features")?,
        })
    }
}
impl EncodeMembers for SchemaInfoEnumMember {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put_some("features", &self.features);
    }
}
object!(SchemaInfoEnumMember);

/// An enumeration.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoEnum {
    /// `members`.
    pub members: Vec<SchemaInfoEnumMember>,
    /// `values`.
    pub values: Vec<String>,
}
impl DecodeMembers for SchemaInfoEnum {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoEnum {
            members: members.required("members")?,
            values: members.required("values")?,
        })
    }
}
impl EncodeMembers for SchemaInfoEnum {
    fn put(&self, out: &mut Out) {
        out.put("members", &self.members);
        out.put("values", &self.values);
    }
}
object!(SchemaInfoEnum);

/// A list.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoArray {
    /// `element-type`.
    pub element_type: String,
}
impl DecodeMembers for SchemaInfoArray {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoArray {
            element_type: members.required("element-type")?,
        })
    }
}
impl EncodeMembers for SchemaInfoArray {
    fn put(&self, out: &mut Out) {
        out.put("element-type", &self.element_type);
    }
}
object!(SchemaInfoArray);

/// A member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoObjectMember {
    /// `name`.
    pub name: String,
    /// `type`.
    pub r#type: String,
    /// `default`.
    pub default: Option<Value>,
    /// `features`.
    pub features: Option<Vec<String>>,
}
impl DecodeMembers for SchemaInfoObjectMember {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoObjectMember {
            name: members.required("name")?,
            r#type: members.required("type")?,
            default: members.optional("default")?,
            features: members.optional("features")?,
        })
    }
}
impl EncodeMembers for SchemaInfoObjectMember {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("type", &self.r#type);
        out.put_some("default", &self.default);
        out.put_some("features", &self.features);
    }
}
object!(SchemaInfoObjectMember);

/// What a value of the tag adds to an object.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoObjectVariant {
    /// `case`.
    pub case: String,
    /// `type`.
    pub r#type: String,
}
impl DecodeMembers for SchemaInfoObjectVariant {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoObjectVariant {
            case: members.required("case")?,
            r#type: members.required("type")?,
        })
    }
}
impl EncodeMembers for SchemaInfoObjectVariant {
    fn put(&self, out: &mut Out) {
        out.put("case", &self.case);
        out.put("type", &self.r#type);
    }
}
object!(SchemaInfoObjectVariant);

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoObject {
    /// `members`.
    pub members: Vec<SchemaInfoObjectMember>,
    /// `tag`.
    pub tag: Option<String>,
    /// `variants`.
    pub variants: Option<Vec<SchemaInfoObjectVariant>>,
}
impl DecodeMembers for SchemaInfoObject {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoObject {
            members: members.required("members")?,
            tag: members.optional("tag")?,
            variants: members.optional("variants")?,
        })
    }
}
impl EncodeMembers for SchemaInfoObject {
    fn put(&self, out: &mut Out) {
        out.put("members", &self.members);
        out.put_some("tag", &self.tag);
        out.put_some("variants", &self.variants);
    }
}
object!(SchemaInfoObject);

/// One of the types that an alternate may have.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoAlternateMember {
    /// `type`.
    pub r#type: String,
}
impl DecodeMembers for SchemaInfoAlternateMember {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoAlternateMember {
            r#type: members.required("type")?,
        })
    }
}
impl EncodeMembers for SchemaInfoAlternateMember {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type);
    }
}
object!(SchemaInfoAlternateMember);

/// A value of one of several types.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoAlternate {
    /// `members`.
    pub members: Vec<SchemaInfoAlternateMember>,
}
impl DecodeMembers for SchemaInfoAlternate {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoAlternate {
            members: members.required("members")?,
        })
    }
}
impl EncodeMembers for SchemaInfoAlternate {
    fn put(&self, out: &mut Out) {
        out.put("members", &self.members);
    }
}
object!(SchemaInfoAlternate);

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoCommand {
    /// `arg-type`.
    pub arg_type: String,
    /// `ret-type`.
    pub ret_type: String,
    /// `allow-oob`.
    pub allow_oob: Option<bool>,
}
impl DecodeMembers for SchemaInfoCommand {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoCommand {
            arg_type: members.required("arg-type")?,
            ret_type: members.required("ret-type")?,
            allow_oob: members.optional("allow-oob")?,
        })
    }
}
impl EncodeMembers for SchemaInfoCommand {
    fn put(&self, out: &mut Out) {
        out.put("arg-type", &self.arg_type);
        out.put("ret-type", &self.ret_type);
        out.put_some("allow-oob", &self.allow_oob);
    }
}
object!(SchemaInfoCommand);

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoEvent {
    /// `arg-type`.
    pub arg_type: String,
}
impl DecodeMembers for SchemaInfoEvent {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SchemaInfoEvent {
            arg_type: members.required("arg-type")?,
        })
    }
}
impl EncodeMembers for SchemaInfoEvent {
    fn put(&self, out: &mut Out) {
        out.put("arg-type", &self.arg_type);
    }
}
object!(SchemaInfoEvent);

/// An entry of the schema. Names of types are numbers without a meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfo {
    /// `name`.
    pub name: String,
    /// `features`.
    pub features: Option<Vec<String>>,
    /// What `meta-type` says, with what belongs to it.
    pub meta_type: SchemaInfoBranch,
}
/// The branches of [`SchemaInfo`].
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaInfoBranch {
    /// `builtin`
    Builtin(SchemaInfoBuiltin),
    /// `enum`
    Enum(SchemaInfoEnum),
    /// `array`
    Array(SchemaInfoArray),
    /// `object`
    Object(SchemaInfoObject),
    /// `alternate`
    Alternate(SchemaInfoAlternate),
    /// `command`
    Command(SchemaInfoCommand),
    /// `event`
    Event(SchemaInfoEvent),
}
impl SchemaInfoBranch {
    /// The tag alone.
    pub const fn kind(&self) -> SchemaMetaType {
        match self {
            SchemaInfoBranch::Builtin(_) => SchemaMetaType::Builtin,
            SchemaInfoBranch::Enum(_) => SchemaMetaType::Enum,
            SchemaInfoBranch::Array(_) => SchemaMetaType::Array,
            SchemaInfoBranch::Object(_) => SchemaMetaType::Object,
            SchemaInfoBranch::Alternate(_) => SchemaMetaType::Alternate,
            SchemaInfoBranch::Command(_) => SchemaMetaType::Command,
            SchemaInfoBranch::Event(_) => SchemaMetaType::Event,
        }
    }
}
impl DecodeMembers for SchemaInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<SchemaMetaType>("meta-type")?;
        let name = members.required("name")?;
        let features = members.optional("features")?;

        let meta_type = match kind {
            SchemaMetaType::Builtin => SchemaInfoBranch::Builtin(SchemaInfoBuiltin::take(members)?),
            SchemaMetaType::Enum => SchemaInfoBranch::Enum(SchemaInfoEnum::take(members)?),
            SchemaMetaType::Array => SchemaInfoBranch::Array(SchemaInfoArray::take(members)?),
            SchemaMetaType::Object => SchemaInfoBranch::Object(SchemaInfoObject::take(members)?),
            SchemaMetaType::Alternate => {
                SchemaInfoBranch::Alternate(SchemaInfoAlternate::take(members)?)
            }
            SchemaMetaType::Command => SchemaInfoBranch::Command(SchemaInfoCommand::take(members)?),
            SchemaMetaType::Event => SchemaInfoBranch::Event(SchemaInfoEvent::take(members)?),
        };
        Ok(SchemaInfo {
            name,
            features,
            meta_type,
        })
    }
}
impl EncodeMembers for SchemaInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put_some("features", &self.features);

        out.put("meta-type", &self.meta_type.kind());
        match &self.meta_type {
            SchemaInfoBranch::Builtin(branch) => branch.put(out),
            SchemaInfoBranch::Enum(branch) => branch.put(out),
            SchemaInfoBranch::Array(branch) => branch.put(out),
            SchemaInfoBranch::Object(branch) => branch.put(out),
            SchemaInfoBranch::Alternate(branch) => branch.put(out),
            SchemaInfoBranch::Command(branch) => branch.put(out),
            SchemaInfoBranch::Event(branch) => branch.put(out),
        }
    }
}
object!(SchemaInfo);

/// A descriptor that was added to a set.
#[derive(Debug, Clone, PartialEq)]
pub struct AddfdInfo {
    /// The set.
    pub fdset_id: i64,
    /// The descriptor's number in the program.
    pub fd: i64,
}
impl DecodeMembers for AddfdInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AddfdInfo {
            fdset_id: members.required("fdset-id")?,
            fd: members.required("fd")?,
        })
    }
}
impl EncodeMembers for AddfdInfo {
    fn put(&self, out: &mut Out) {
        out.put("fdset-id", &self.fdset_id);
        out.put("fd", &self.fd);
    }
}
object!(AddfdInfo);

/// A descriptor of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct FdsetFdInfo {
    /// `fd`.
    pub fd: i64,
    /// `opaque`.
    pub opaque: Option<String>,
}
impl DecodeMembers for FdsetFdInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(FdsetFdInfo {
            fd: members.required("fd")?,
            opaque: members.optional("opaque")?,
        })
    }
}
impl EncodeMembers for FdsetFdInfo {
    fn put(&self, out: &mut Out) {
        out.put("fd", &self.fd);
        out.put_some("opaque", &self.opaque);
    }
}
object!(FdsetFdInfo);

/// A set of descriptors.
#[derive(Debug, Clone, PartialEq)]
pub struct FdsetInfo {
    /// `fdset-id`.
    pub fdset_id: i64,
    /// `fds`.
    pub fds: Vec<FdsetFdInfo>,
}
impl DecodeMembers for FdsetInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(FdsetInfo {
            fdset_id: members.required("fdset-id")?,
            fds: members.required("fds")?,
        })
    }
}
impl EncodeMembers for FdsetInfo {
    fn put(&self, out: &mut Out) {
        out.put("fdset-id", &self.fdset_id);
        out.put("fds", &self.fds);
    }
}
object!(FdsetInfo);

/// The type of a parameter of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandLineParameterType {
    /// `string`
    String,
    /// `boolean`
    Boolean,
    /// `number`
    Number,
    /// `size`
    Size,
}
names!(CommandLineParameterType { String = "string", Boolean = "boolean", Number = "number", Size = "size" });

/// A parameter of an option.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandLineParameterInfo {
    /// `name`.
    pub name: String,
    /// `type`.
    pub r#type: CommandLineParameterType,
    /// `help`.
    pub help: Option<String>,
    /// `default`.
    pub default: Option<String>,
}
impl DecodeMembers for CommandLineParameterInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(CommandLineParameterInfo {
            name: members.required("name")?,
            r#type: members.required("type")?,
            help: members.optional("help")?,
            default: members.optional("default")?,
        })
    }
}
impl EncodeMembers for CommandLineParameterInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("type", &self.r#type);
        out.put_some("help", &self.help);
        out.put_some("default", &self.default);
    }
}
object!(CommandLineParameterInfo);

/// An option of the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandLineOptionInfo {
    /// `option`.
    pub option: String,
    /// `parameters`.
    pub parameters: Vec<CommandLineParameterInfo>,
}
impl DecodeMembers for CommandLineOptionInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(CommandLineOptionInfo {
            option: members.required("option")?,
            parameters: members.required("parameters")?,
        })
    }
}
impl EncodeMembers for CommandLineOptionInfo {
    fn put(&self, out: &mut Out) {
        out.put("option", &self.option);
        out.put("parameters", &self.parameters);
    }
}
object!(CommandLineOptionInfo);

/// The guest's name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NameInfo {
    /// `name`.
    pub name: Option<String>,
}
impl DecodeMembers for NameInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NameInfo {
            name: members.optional("name")?,
        })
    }
}
impl EncodeMembers for NameInfo {
    fn put(&self, out: &mut Out) {
        out.put_some("name", &self.name);
    }
}
object!(NameInfo);

/// The guest's UUID; all zeroes where none was given.
#[derive(Debug, Clone, PartialEq)]
pub struct UuidInfo {
    /// `UUID`.
    pub uuid: String,
}
impl DecodeMembers for UuidInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(UuidInfo {
            uuid: members.required("UUID")?,
        })
    }
}
impl EncodeMembers for UuidInfo {
    fn put(&self, out: &mut Out) {
        out.put("UUID", &self.uuid);
    }
}
object!(UuidInfo);

/// Whether KVM is used, and could be.
#[derive(Debug, Clone, PartialEq)]
pub struct KvmInfo {
    /// The machine runs on it.
    pub enabled: bool,
    /// The program can use it.
    pub present: bool,
}
impl DecodeMembers for KvmInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(KvmInfo {
            enabled: members.required("enabled")?,
            present: members.required("present")?,
        })
    }
}
impl EncodeMembers for KvmInfo {
    fn put(&self, out: &mut Out) {
        out.put("enabled", &self.enabled);
        out.put("present", &self.present);
    }
}
object!(KvmInfo);

/// Architectures of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SysEmuTarget {
    /// `x86_64`
    X8664,
}
names!(SysEmuTarget { X8664 = "x86_64" });

/// The guest's architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetInfo {
    /// `arch`.
    pub arch: SysEmuTarget,
}
impl DecodeMembers for TargetInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TargetInfo {
            arch: members.required("arch")?,
        })
    }
}
impl EncodeMembers for TargetInfo {
    fn put(&self, out: &mut Out) {
        out.put("arch", &self.arch);
    }
}
object!(TargetInfo);

/// A type of machine.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineInfo {
    /// Its name.
    pub name: String,
    /// Another name that means this one.
    pub alias: Option<String>,
    /// Taken where none is named.
    pub is_default: Option<bool>,
    /// Most processors it can have.
    pub cpu_max: i64,
    /// `hotpluggable-cpus`.
    pub hotpluggable_cpus: bool,
    /// `numa-mem-supported`.
    pub numa_mem_supported: bool,
    /// `deprecated`.
    pub deprecated: bool,
    /// Its processor where none is named.
    pub default_cpu_type: Option<String>,
    /// The id of its memory.
    pub default_ram_id: Option<String>,
    /// `acpi`.
    pub acpi: bool,
}
impl DecodeMembers for MachineInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MachineInfo {
            name: members.required("name")?,
            alias: members.optional("alias")?,
            is_default: members.optional("is-default")?,
            cpu_max: members.required("cpu-max")?,
            hotpluggable_cpus: members.required("hotpluggable-cpus")?,
            numa_mem_supported: members.required("numa-mem-supported")?,
            deprecated: members.required("deprecated")?,
            default_cpu_type: members.optional("default-cpu-type")?,
            default_ram_id: members.optional("default-ram-id")?,
            acpi: members.required("acpi")?,
        })
    }
}
impl EncodeMembers for MachineInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put_some("alias", &self.alias);
        out.put_some("is-default", &self.is_default);
        out.put("cpu-max", &self.cpu_max);
        out.put("hotpluggable-cpus", &self.hotpluggable_cpus);
        out.put("numa-mem-supported", &self.numa_mem_supported);
        out.put("deprecated", &self.deprecated);
        out.put_some("default-cpu-type", &self.default_cpu_type);
        out.put_some("default-ram-id", &self.default_ram_id);
        out.put("acpi", &self.acpi);
    }
}
object!(MachineInfo);

/// Where a processor sits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CpuInstanceProperties {
    /// `node-id`.
    pub node_id: Option<i64>,
    /// `socket-id`.
    pub socket_id: Option<i64>,
    /// `die-id`.
    pub die_id: Option<i64>,
    /// `core-id`.
    pub core_id: Option<i64>,
    /// `thread-id`.
    pub thread_id: Option<i64>,
}
impl DecodeMembers for CpuInstanceProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(CpuInstanceProperties {
            node_id: members.optional("node-id")?,
            socket_id: members.optional("socket-id")?,
            die_id: members.optional("die-id")?,
            core_id: members.optional("core-id")?,
            thread_id: members.optional("thread-id")?,
        })
    }
}
impl EncodeMembers for CpuInstanceProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("node-id", &self.node_id);
        out.put_some("socket-id", &self.socket_id);
        out.put_some("die-id", &self.die_id);
        out.put_some("core-id", &self.core_id);
        out.put_some("thread-id", &self.thread_id);
    }
}
object!(CpuInstanceProperties);

/// A processor.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuInfoFast {
    /// Its number.
    pub cpu_index: i64,
    /// Its object.
    pub qom_path: String,
    /// The host's thread that runs it.
    pub thread_id: i64,
    /// Where it sits.
    pub props: Option<CpuInstanceProperties>,
    /// Its architecture.
    pub target: SysEmuTarget,
}
impl DecodeMembers for CpuInfoFast {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(CpuInfoFast {
            cpu_index: members.required("cpu-index")?,
            qom_path: members.required("qom-path")?,
            thread_id: members.required("thread-id")?,
            props: members.optional("props")?,
            target: members.required("target")?,
        })
    }
}
impl EncodeMembers for CpuInfoFast {
    fn put(&self, out: &mut Out) {
        out.put("cpu-index", &self.cpu_index);
        out.put("qom-path", &self.qom_path);
        out.put("thread-id", &self.thread_id);
        out.put_some("props", &self.props);
        out.put("target", &self.target);
    }
}
object!(CpuInfoFast);

/// An I/O thread.
#[derive(Debug, Clone, PartialEq)]
pub struct IOThreadInfo {
    /// `id`.
    pub id: String,
    /// `thread-id`.
    pub thread_id: i64,
    /// `poll-max-ns`.
    pub poll_max_ns: i64,
    /// `poll-grow`.
    pub poll_grow: i64,
    /// `poll-shrink`.
    pub poll_shrink: i64,
    /// `aio-max-batch`.
    pub aio_max_batch: i64,
}
impl DecodeMembers for IOThreadInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(IOThreadInfo {
            id: members.required("id")?,
            thread_id: members.required("thread-id")?,
            poll_max_ns: members.required("poll-max-ns")?,
            poll_grow: members.required("poll-grow")?,
            poll_shrink: members.required("poll-shrink")?,
            aio_max_batch: members.required("aio-max-batch")?,
        })
    }
}
impl EncodeMembers for IOThreadInfo {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put("thread-id", &self.thread_id);
        out.put("poll-max-ns", &self.poll_max_ns);
        out.put("poll-grow", &self.poll_grow);
        out.put("poll-shrink", &self.poll_shrink);
        out.put("aio-max-batch", &self.aio_max_batch);
    }
}
object!(IOThreadInfo);

/// Which host nodes memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostMemPolicy {
    /// `default`
    Default,
    /// `preferred`
    Preferred,
    /// `bind`
    Bind,
    /// `interleave`
    Interleave,
}
names!(HostMemPolicy { Default = "default", Preferred = "preferred", Bind = "bind", Interleave = "interleave" });

/// A memory backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Memdev {
    /// `id`.
    pub id: Option<String>,
    /// `size`.
    pub size: crate::decode::Size,
    /// `merge`.
    pub merge: bool,
    /// `dump`.
    pub dump: bool,
    /// `prealloc`.
    pub prealloc: bool,
    /// `share`.
    pub share: bool,
    /// `reserve`.
    pub reserve: Option<bool>,
    /// `host-nodes`.
    pub host_nodes: Vec<u16>,
    /// `policy`.
    pub policy: HostMemPolicy,
}
impl DecodeMembers for Memdev {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(Memdev {
            id: members.optional("id")?,
            size: members.required("size")?,
            merge: members.required("merge")?,
            dump: members.required("dump")?,
            prealloc: members.required("prealloc")?,
            share: members.required("share")?,
            reserve: members.optional("reserve")?,
            host_nodes: members.required("host-nodes")?,
            policy: members.required("policy")?,
        })
    }
}
impl EncodeMembers for Memdev {
    fn put(&self, out: &mut Out) {
        out.put_some("id", &self.id);
        out.put("size", &self.size);
        out.put("merge", &self.merge);
        out.put("dump", &self.dump);
        out.put("prealloc", &self.prealloc);
        out.put("share", &self.share);
        out.put_some("reserve", &self.reserve);
        out.put("host-nodes", &self.host_nodes);
        out.put("policy", &self.policy);
    }
}
object!(Memdev);

/// How much memory the guest has.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryInfo {
    /// From the start.
    pub base_memory: crate::decode::Size,
    /// Added since.
    pub plugged_memory: Option<crate::decode::Size>,
}
impl DecodeMembers for MemoryInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MemoryInfo {
            base_memory: members.required("base-memory")?,
            plugged_memory: members.optional("plugged-memory")?,
        })
    }
}
impl EncodeMembers for MemoryInfo {
    fn put(&self, out: &mut Out) {
        out.put("base-memory", &self.base_memory);
        out.put_some("plugged-memory", &self.plugged_memory);
    }
}
object!(MemoryInfo);

/// A range of addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct PciMemoryRange {
    /// `base`.
    pub base: i64,
    /// `limit`.
    pub limit: i64,
}
impl DecodeMembers for PciMemoryRange {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciMemoryRange {
            base: members.required("base")?,
            limit: members.required("limit")?,
        })
    }
}
impl EncodeMembers for PciMemoryRange {
    fn put(&self, out: &mut Out) {
        out.put("base", &self.base);
        out.put("limit", &self.limit);
    }
}
object!(PciMemoryRange);

/// A base address register.
#[derive(Debug, Clone, PartialEq)]
pub struct PciMemoryRegion {
    /// `bar`.
    pub bar: i64,
    /// `io` or `memory`.
    pub r#type: String,
    /// -1 where the guest has not placed it.
    pub address: i64,
    /// `size`.
    pub size: i64,
    /// `prefetch`.
    pub prefetch: Option<bool>,
    /// `mem_type_64`.
    pub mem_type_64: Option<bool>,
}
impl DecodeMembers for PciMemoryRegion {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciMemoryRegion {
            bar: members.required("bar")?,
            r#type: members.required("type")?,
            address: members.required("address")?,
            size: members.required("size")?,
            prefetch: members.optional("prefetch")?,
            mem_type_64: members.optional("mem_type_64")?,
        })
    }
}
impl EncodeMembers for PciMemoryRegion {
    fn put(&self, out: &mut Out) {
        out.put("bar", &self.bar);
        out.put("type", &self.r#type);
        out.put("address", &self.address);
        out.put("size", &self.size);
        out.put_some("prefetch", &self.prefetch);
        out.put_some("mem_type_64", &self.mem_type_64);
    }
}
object!(PciMemoryRegion);

/// The bus behind a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct PciBusInfo {
    /// `number`.
    pub number: i64,
    /// `secondary`.
    pub secondary: i64,
    /// `subordinate`.
    pub subordinate: i64,
    /// `io_range`.
    pub io_range: PciMemoryRange,
    /// `memory_range`.
    pub memory_range: PciMemoryRange,
    /// `prefetchable_range`.
    pub prefetchable_range: PciMemoryRange,
}
impl DecodeMembers for PciBusInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciBusInfo {
            number: members.required("number")?,
            secondary: members.required("secondary")?,
            subordinate: members.required("subordinate")?,
            io_range: members.required("io_range")?,
            memory_range: members.required("memory_range")?,
            prefetchable_range: members.required("prefetchable_range")?,
        })
    }
}
impl EncodeMembers for PciBusInfo {
    fn put(&self, out: &mut Out) {
        out.put("number", &self.number);
        out.put("secondary", &self.secondary);
        out.put("subordinate", &self.subordinate);
        out.put("io_range", &self.io_range);
        out.put("memory_range", &self.memory_range);
        out.put("prefetchable_range", &self.prefetchable_range);
    }
}
object!(PciBusInfo);

/// A bridge and what is behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct PciBridgeInfo {
    /// `bus`.
    pub bus: PciBusInfo,
    /// `devices`.
    pub devices: Option<Vec<PciDeviceInfo>>,
}
impl DecodeMembers for PciBridgeInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciBridgeInfo {
            bus: members.required("bus")?,
            devices: members.optional("devices")?,
        })
    }
}
impl EncodeMembers for PciBridgeInfo {
    fn put(&self, out: &mut Out) {
        out.put("bus", &self.bus);
        out.put_some("devices", &self.devices);
    }
}
object!(PciBridgeInfo);

/// A class code.
#[derive(Debug, Clone, PartialEq)]
pub struct PciDeviceClass {
    /// `desc`.
    pub desc: Option<String>,
    /// `class`.
    pub class: i64,
}
impl DecodeMembers for PciDeviceClass {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciDeviceClass {
            desc: members.optional("desc")?,
            class: members.required("class")?,
        })
    }
}
impl EncodeMembers for PciDeviceClass {
    fn put(&self, out: &mut Out) {
        out.put_some("desc", &self.desc);
        out.put("class", &self.class);
    }
}
object!(PciDeviceClass);

/// Who made a function, and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct PciDeviceId {
    /// `device`.
    pub device: i64,
    /// `vendor`.
    pub vendor: i64,
    /// `subsystem`.
    pub subsystem: Option<i64>,
    /// `subsystem-vendor`.
    pub subsystem_vendor: Option<i64>,
}
impl DecodeMembers for PciDeviceId {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciDeviceId {
            device: members.required("device")?,
            vendor: members.required("vendor")?,
            subsystem: members.optional("subsystem")?,
            subsystem_vendor: members.optional("subsystem-vendor")?,
        })
    }
}
impl EncodeMembers for PciDeviceId {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put("vendor", &self.vendor);
        out.put_some("subsystem", &self.subsystem);
        out.put_some("subsystem-vendor", &self.subsystem_vendor);
    }
}
object!(PciDeviceId);

/// A function on a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct PciDeviceInfo {
    /// `bus`.
    pub bus: i64,
    /// `slot`.
    pub slot: i64,
    /// `function`.
    pub function: i64,
    /// `class_info`.
    pub class_info: PciDeviceClass,
    /// `id`.
    pub id: PciDeviceId,
    /// `irq`.
    pub irq: Option<i64>,
    /// `irq_pin`.
    pub irq_pin: i64,
    /// `qdev_id`.
    pub qdev_id: String,
    /// `pci_bridge`.
    pub pci_bridge: Option<PciBridgeInfo>,
    /// `regions`.
    pub regions: Vec<PciMemoryRegion>,
}
impl DecodeMembers for PciDeviceInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciDeviceInfo {
            bus: members.required("bus")?,
            slot: members.required("slot")?,
            function: members.required("function")?,
            class_info: members.required("class_info")?,
            id: members.required("id")?,
            irq: members.optional("irq")?,
            irq_pin: members.required("irq_pin")?,
            qdev_id: members.required("qdev_id")?,
            pci_bridge: members.optional("pci_bridge")?,
            regions: members.required("regions")?,
        })
    }
}
impl EncodeMembers for PciDeviceInfo {
    fn put(&self, out: &mut Out) {
        out.put("bus", &self.bus);
        out.put("slot", &self.slot);
        out.put("function", &self.function);
        out.put("class_info", &self.class_info);
        out.put("id", &self.id);
        out.put_some("irq", &self.irq);
        out.put("irq_pin", &self.irq_pin);
        out.put("qdev_id", &self.qdev_id);
        out.put_some("pci_bridge", &self.pci_bridge);
        out.put("regions", &self.regions);
    }
}
object!(PciDeviceInfo);

/// A root bus.
#[derive(Debug, Clone, PartialEq)]
pub struct PciInfo {
    /// `bus`.
    pub bus: i64,
    /// `devices`.
    pub devices: Vec<PciDeviceInfo>,
}
impl DecodeMembers for PciInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PciInfo {
            bus: members.required("bus")?,
            devices: members.required("devices")?,
        })
    }
}
impl EncodeMembers for PciInfo {
    fn put(&self, out: &mut Out) {
        out.put("bus", &self.bus);
        out.put("devices", &self.devices);
    }
}
object!(PciInfo);

/// A property of an object or a type.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectPropertyInfo {
    /// `name`.
    pub name: String,
    /// A plain type, `child<T>` for an object below, or `link<T>` for one elsewhere.
    pub r#type: String,
    /// `description`.
    pub description: Option<String>,
    /// `default-value`.
    pub default_value: Option<Value>,
}
impl DecodeMembers for ObjectPropertyInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ObjectPropertyInfo {
            name: members.required("name")?,
            r#type: members.required("type")?,
            description: members.optional("description")?,
            default_value: members.optional("default-value")?,
        })
    }
}
impl EncodeMembers for ObjectPropertyInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("type", &self.r#type);
        out.put_some("description", &self.description);
        out.put_some("default-value", &self.default_value);
    }
}
object!(ObjectPropertyInfo);

/// A type of object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectTypeInfo {
    /// `name`.
    pub name: String,
    /// `abstract`.
    pub r#abstract: Option<bool>,
    /// `parent`.
    pub parent: Option<String>,
}
impl DecodeMembers for ObjectTypeInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ObjectTypeInfo {
            name: members.required("name")?,
            r#abstract: members.optional("abstract")?,
            parent: members.optional("parent")?,
        })
    }
}
impl EncodeMembers for ObjectTypeInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put_some("abstract", &self.r#abstract);
        out.put_some("parent", &self.parent);
    }
}
object!(ObjectTypeInfo);

/// Types that object-add makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectType {
    /// `authz-list`
    AuthzList,
    /// `authz-list-file`
    AuthzListFile,
    /// `authz-simple`
    AuthzSimple,
    /// `iothread`
    Iothread,
    /// `memory-backend-file`
    MemoryBackendFile,
    /// `memory-backend-memfd`
    MemoryBackendMemfd,
    /// `memory-backend-ram`
    MemoryBackendRam,
    /// `rng-builtin`
    RngBuiltin,
    /// `rng-random`
    RngRandom,
    /// `throttle-group`
    ThrottleGroup,
    /// `tls-creds-x509`
    TlsCredsX509,
}
names!(ObjectType { AuthzList = "authz-list", AuthzListFile = "authz-list-file", AuthzSimple = "authz-simple", Iothread = "iothread", MemoryBackendFile = "memory-backend-file", MemoryBackendMemfd = "memory-backend-memfd", MemoryBackendRam = "memory-backend-ram", RngBuiltin = "rng-builtin", RngRandom = "rng-random", ThrottleGroup = "throttle-group", TlsCredsX509 = "tls-creds-x509" });

/// What all memory backends have.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryBackendProperties {
    /// In core dumps; on unless the machine says otherwise.
    pub dump: Option<bool>,
    /// Host nodes that the policy speaks of.
    pub host_nodes: Option<Vec<u16>>,
    /// May be merged with equal pages (KSM).
    pub merge: Option<bool>,
    /// Which host nodes it comes from.
    pub policy: Option<HostMemPolicy>,
    /// Taken from the host at once.
    pub prealloc: Option<bool>,
    /// Threads that do so.
    pub prealloc_threads: Option<u32>,
    /// Shared with other processes that map it.
    pub share: Option<bool>,
    /// Swap space is reserved.
    pub reserve: Option<bool>,
    /// Bytes.
    pub size: crate::decode::Size,
}
impl DecodeMembers for MemoryBackendProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MemoryBackendProperties {
            dump: members.optional("dump")?,
            host_nodes: members.optional("host-nodes")?,
            merge: members.optional("merge")?,
            policy: members.optional("policy")?,
            prealloc: members.optional("prealloc")?,
            prealloc_threads: members.optional("prealloc-threads")?,
            share: members.optional("share")?,
            reserve: members.optional("reserve")?,
            size: members.required("size")?,
        })
    }
}
impl EncodeMembers for MemoryBackendProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("dump", &self.dump);
        out.put_some("host-nodes", &self.host_nodes);
        out.put_some("merge", &self.merge);
        out.put_some("policy", &self.policy);
        out.put_some("prealloc", &self.prealloc);
        out.put_some("prealloc-threads", &self.prealloc_threads);
        out.put_some("share", &self.share);
        out.put_some("reserve", &self.reserve);
        out.put("size", &self.size);
    }
}
object!(MemoryBackendProperties);

/// Memory from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryBackendFileProperties {
    /// In core dumps; on unless the machine says otherwise.
    pub dump: Option<bool>,
    /// Host nodes that the policy speaks of.
    pub host_nodes: Option<Vec<u16>>,
    /// May be merged with equal pages (KSM).
    pub merge: Option<bool>,
    /// Which host nodes it comes from.
    pub policy: Option<HostMemPolicy>,
    /// Taken from the host at once.
    pub prealloc: Option<bool>,
    /// Threads that do so.
    pub prealloc_threads: Option<u32>,
    /// Shared with other processes that map it.
    pub share: Option<bool>,
    /// Swap space is reserved.
    pub reserve: Option<bool>,
    /// Bytes.
    pub size: crate::decode::Size,
    /// Alignment of the mapping.
    pub align: Option<crate::decode::Size>,
    /// Where in the file it begins.
    pub offset: Option<crate::decode::Size>,
    /// Contents need not be kept at exit.
    pub discard_data: Option<bool>,
    /// The file, or a directory in which a nameless one is made.
    pub mem_path: String,
    /// The file is opened for reading only.
    pub readonly: Option<bool>,
}
impl DecodeMembers for MemoryBackendFileProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MemoryBackendFileProperties {
            dump: members.optional("dump")?,
            host_nodes: members.optional("host-nodes")?,
            merge: members.optional("merge")?,
            policy: members.optional("policy")?,
            prealloc: members.optional("prealloc")?,
            prealloc_threads: members.optional("prealloc-threads")?,
            share: members.optional("share")?,
            reserve: members.optional("reserve")?,
            size: members.required("size")?,
            align: members.optional("align")?,
            offset: members.optional("offset")?,
            discard_data: members.optional("discard-data")?,
            mem_path: members.required("mem-path")?,
            readonly: members.optional("readonly")?,
        })
    }
}
impl EncodeMembers for MemoryBackendFileProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("dump", &self.dump);
        out.put_some("host-nodes", &self.host_nodes);
        out.put_some("merge", &self.merge);
        out.put_some("policy", &self.policy);
        out.put_some("prealloc", &self.prealloc);
        out.put_some("prealloc-threads", &self.prealloc_threads);
        out.put_some("share", &self.share);
        out.put_some("reserve", &self.reserve);
        out.put("size", &self.size);
        out.put_some("align", &self.align);
        out.put_some("offset", &self.offset);
        out.put_some("discard-data", &self.discard_data);
        out.put("mem-path", &self.mem_path);
        out.put_some("readonly", &self.readonly);
    }
}
object!(MemoryBackendFileProperties);

/// Memory from a memfd.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryBackendMemfdProperties {
    /// In core dumps; on unless the machine says otherwise.
    pub dump: Option<bool>,
    /// Host nodes that the policy speaks of.
    pub host_nodes: Option<Vec<u16>>,
    /// May be merged with equal pages (KSM).
    pub merge: Option<bool>,
    /// Which host nodes it comes from.
    pub policy: Option<HostMemPolicy>,
    /// Taken from the host at once.
    pub prealloc: Option<bool>,
    /// Threads that do so.
    pub prealloc_threads: Option<u32>,
    /// Shared with other processes that map it.
    pub share: Option<bool>,
    /// Swap space is reserved.
    pub reserve: Option<bool>,
    /// Bytes.
    pub size: crate::decode::Size,
    /// In huge pages.
    pub hugetlb: Option<bool>,
    /// Of this size.
    pub hugetlbsize: Option<crate::decode::Size>,
    /// Its size is sealed; on by default.
    pub seal: Option<bool>,
}
impl DecodeMembers for MemoryBackendMemfdProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MemoryBackendMemfdProperties {
            dump: members.optional("dump")?,
            host_nodes: members.optional("host-nodes")?,
            merge: members.optional("merge")?,
            policy: members.optional("policy")?,
            prealloc: members.optional("prealloc")?,
            prealloc_threads: members.optional("prealloc-threads")?,
            share: members.optional("share")?,
            reserve: members.optional("reserve")?,
            size: members.required("size")?,
            hugetlb: members.optional("hugetlb")?,
            hugetlbsize: members.optional("hugetlbsize")?,
            seal: members.optional("seal")?,
        })
    }
}
impl EncodeMembers for MemoryBackendMemfdProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("dump", &self.dump);
        out.put_some("host-nodes", &self.host_nodes);
        out.put_some("merge", &self.merge);
        out.put_some("policy", &self.policy);
        out.put_some("prealloc", &self.prealloc);
        out.put_some("prealloc-threads", &self.prealloc_threads);
        out.put_some("share", &self.share);
        out.put_some("reserve", &self.reserve);
        out.put("size", &self.size);
        out.put_some("hugetlb", &self.hugetlb);
        out.put_some("hugetlbsize", &self.hugetlbsize);
        out.put_some("seal", &self.seal);
    }
}
object!(MemoryBackendMemfdProperties);

/// An I/O thread.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IothreadProperties {
    /// How long to poll before sleeping, at most, in nanoseconds; 0 is never. Where it is not
    /// given, 32768 is told and nothing polled.
    pub poll_max_ns: Option<i64>,
    /// Factor by which polling time grows.
    pub poll_grow: Option<i64>,
    /// Divisor by which it shrinks.
    pub poll_shrink: Option<i64>,
    /// Requests per submission; 0 leaves it to the engine.
    pub aio_max_batch: Option<i64>,
    /// Worker threads kept; told, for one pool serves all.
    pub thread_pool_min: Option<i64>,
    /// Worker threads at most; told, for one pool serves all.
    pub thread_pool_max: Option<i64>,
}
impl DecodeMembers for IothreadProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(IothreadProperties {
            poll_max_ns: members.optional("poll-max-ns")?,
            poll_grow: members.optional("poll-grow")?,
            poll_shrink: members.optional("poll-shrink")?,
            aio_max_batch: members.optional("aio-max-batch")?,
            thread_pool_min: members.optional("thread-pool-min")?,
            thread_pool_max: members.optional("thread-pool-max")?,
        })
    }
}
impl EncodeMembers for IothreadProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("poll-max-ns", &self.poll_max_ns);
        out.put_some("poll-grow", &self.poll_grow);
        out.put_some("poll-shrink", &self.poll_shrink);
        out.put_some("aio-max-batch", &self.aio_max_batch);
        out.put_some("thread-pool-min", &self.thread_pool_min);
        out.put_some("thread-pool-max", &self.thread_pool_max);
    }
}
object!(IothreadProperties);

/// What all entropy sources have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RngProperties {
    /// `opened`.
    pub opened: Option<bool>,
}
impl DecodeMembers for RngProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(RngProperties {
            opened: members.optional("opened")?,
        })
    }
}
impl EncodeMembers for RngProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("opened", &self.opened);
    }
}
object!(RngProperties);

/// Entropy from a device of the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RngRandomProperties {
    /// `opened`.
    pub opened: Option<bool>,
    /// The device; /dev/urandom by default.
    pub filename: Option<String>,
}
impl DecodeMembers for RngRandomProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(RngRandomProperties {
            opened: members.optional("opened")?,
            filename: members.optional("filename")?,
        })
    }
}
impl EncodeMembers for RngRandomProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("opened", &self.opened);
        out.put_some("filename", &self.filename);
    }
}
object!(RngRandomProperties);

/// What a rule, or the end of a list, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QAuthZListPolicy {
    /// `deny`
    Deny,
    /// `allow`
    Allow,
}
names!(QAuthZListPolicy { Deny = "deny", Allow = "allow" });

/// How a rule compares names: equal, or with `*` and `?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QAuthZListFormat {
    /// `exact`
    Exact,
    /// `glob`
    Glob,
}
names!(QAuthZListFormat { Exact = "exact", Glob = "glob" });

/// One entry of an allow list.
#[derive(Debug, Clone, PartialEq)]
pub struct QAuthZListRule {
    /// A distinguished name, or a pattern.
    pub r#match: String,
    /// What follows.
    pub policy: QAuthZListPolicy,
    /// How they are compared; exact by default.
    pub format: Option<QAuthZListFormat>,
}
impl DecodeMembers for QAuthZListRule {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QAuthZListRule {
            r#match: members.required("match")?,
            policy: members.required("policy")?,
            format: members.optional("format")?,
        })
    }
}
impl EncodeMembers for QAuthZListRule {
    fn put(&self, out: &mut Out) {
        out.put("match", &self.r#match);
        out.put("policy", &self.policy);
        out.put_some("format", &self.format);
    }
}
object!(QAuthZListRule);

/// An allow list; the first rule that fits decides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZListProperties {
    /// Where no rule fits; deny by default.
    pub policy: Option<QAuthZListPolicy>,
    /// In their order.
    pub rules: Option<Vec<QAuthZListRule>>,
}
impl DecodeMembers for AuthZListProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AuthZListProperties {
            policy: members.optional("policy")?,
            rules: members.optional("rules")?,
        })
    }
}
impl EncodeMembers for AuthZListProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("policy", &self.policy);
        out.put_some("rules", &self.rules);
    }
}
object!(AuthZListProperties);

/// An allow list from a file, which holds the members of an authz-list.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthZListFileProperties {
    /// The file.
    pub filename: String,
    /// Follow changes of the file. It is read when the object is made; to read it again, make the
    /// object again.
    pub refresh: Option<bool>,
}
impl DecodeMembers for AuthZListFileProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AuthZListFileProperties {
            filename: members.required("filename")?,
            refresh: members.optional("refresh")?,
        })
    }
}
impl EncodeMembers for AuthZListFileProperties {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put_some("refresh", &self.refresh);
    }
}
object!(AuthZListFileProperties);

/// An allow list of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthZSimpleProperties {
    /// The distinguished name.
    pub identity: String,
}
impl DecodeMembers for AuthZSimpleProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AuthZSimpleProperties {
            identity: members.required("identity")?,
        })
    }
}
impl EncodeMembers for AuthZSimpleProperties {
    fn put(&self, out: &mut Out) {
        out.put("identity", &self.identity);
    }
}
object!(AuthZSimpleProperties);

/// Ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoTLSCredsEndpoint {
    /// `client`
    Client,
    /// `server`
    Server,
}
names!(QCryptoTLSCredsEndpoint { Client = "client", Server = "server" });

/// Certificates and keys for TLS.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsX509Properties {
    /// The peer must prove who it is; on by default.
    pub verify_peer: Option<bool>,
    /// Where ca-cert.pem, ca-crl.pem, server-cert.pem, server-key.pem, client-cert.pem and
    /// client-key.pem are.
    pub dir: Option<String>,
    /// The end they are for; client by default.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// NORMAL, and versions to leave out, as in NORMAL:-VERS-TLS1.2.
    pub priority: Option<String>,
    /// Look at the certificates before use; on by default.
    pub sanity_check: Option<bool>,
    /// A secret that opens the key; there are no secrets yet.
    pub passwordid: Option<String>,
}
impl DecodeMembers for TlsCredsX509Properties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TlsCredsX509Properties {
            verify_peer: members.optional("verify-peer")?,
            dir: members.optional("dir")?,
            endpoint: members.optional("endpoint")?,
            priority: members.optional("priority")?,
            sanity_check: members.optional("sanity-check")?,
            passwordid: members.optional("passwordid")?,
        })
    }
}
impl EncodeMembers for TlsCredsX509Properties {
    fn put(&self, out: &mut Out) {
        out.put_some("verify-peer", &self.verify_peer);
        out.put_some("dir", &self.dir);
        out.put_some("endpoint", &self.endpoint);
        out.put_some("priority", &self.priority);
        out.put_some("sanity-check", &self.sanity_check);
        out.put_some("passwordid", &self.passwordid);
    }
}
object!(TlsCredsX509Properties);

/// An object to make.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectOptions {
    /// Its name.
    pub id: String,
    /// What `qom-type` says, with what belongs to it.
    pub qom_type: ObjectOptionsBranch,
}
/// The branches of [`ObjectOptions`].
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectOptionsBranch {
    /// `authz-list`
    AuthzList(AuthZListProperties),
    /// `authz-list-file`
    AuthzListFile(AuthZListFileProperties),
    /// `authz-simple`
    AuthzSimple(AuthZSimpleProperties),
    /// `iothread`
    Iothread(IothreadProperties),
    /// `memory-backend-file`
    MemoryBackendFile(MemoryBackendFileProperties),
    /// `memory-backend-memfd`
    MemoryBackendMemfd(MemoryBackendMemfdProperties),
    /// `memory-backend-ram`
    MemoryBackendRam(MemoryBackendProperties),
    /// `rng-builtin`
    RngBuiltin(RngProperties),
    /// `rng-random`
    RngRandom(RngRandomProperties),
    /// `throttle-group`
    ThrottleGroup(ThrottleGroupProperties),
    /// `tls-creds-x509`
    TlsCredsX509(TlsCredsX509Properties),
}
impl ObjectOptionsBranch {
    /// The tag alone.
    pub const fn kind(&self) -> ObjectType {
        match self {
            ObjectOptionsBranch::AuthzList(_) => ObjectType::AuthzList,
            ObjectOptionsBranch::AuthzListFile(_) => ObjectType::AuthzListFile,
            ObjectOptionsBranch::AuthzSimple(_) => ObjectType::AuthzSimple,
            ObjectOptionsBranch::Iothread(_) => ObjectType::Iothread,
            ObjectOptionsBranch::MemoryBackendFile(_) => ObjectType::MemoryBackendFile,
            ObjectOptionsBranch::MemoryBackendMemfd(_) => ObjectType::MemoryBackendMemfd,
            ObjectOptionsBranch::MemoryBackendRam(_) => ObjectType::MemoryBackendRam,
            ObjectOptionsBranch::RngBuiltin(_) => ObjectType::RngBuiltin,
            ObjectOptionsBranch::RngRandom(_) => ObjectType::RngRandom,
            ObjectOptionsBranch::ThrottleGroup(_) => ObjectType::ThrottleGroup,
            ObjectOptionsBranch::TlsCredsX509(_) => ObjectType::TlsCredsX509,
        }
    }
}
impl DecodeMembers for ObjectOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<ObjectType>("qom-type")?;
        let id = members.required("id")?;

        let qom_type = match kind {
            ObjectType::AuthzList => {
                ObjectOptionsBranch::AuthzList(AuthZListProperties::take(members)?)
            }
            ObjectType::AuthzListFile => {
                ObjectOptionsBranch::AuthzListFile(AuthZListFileProperties::take(members)?)
            }
            ObjectType::AuthzSimple => {
                ObjectOptionsBranch::AuthzSimple(AuthZSimpleProperties::take(members)?)
            }
            ObjectType::Iothread => {
                ObjectOptionsBranch::Iothread(IothreadProperties::take(members)?)
            }
            ObjectType::MemoryBackendFile => {
                ObjectOptionsBranch::MemoryBackendFile(MemoryBackendFileProperties::take(members)?)
            }
            ObjectType::MemoryBackendMemfd => ObjectOptionsBranch::MemoryBackendMemfd(
                MemoryBackendMemfdProperties::take(members)?,
            ),
            ObjectType::MemoryBackendRam => {
                ObjectOptionsBranch::MemoryBackendRam(MemoryBackendProperties::take(members)?)
            }
            ObjectType::RngBuiltin => {
                ObjectOptionsBranch::RngBuiltin(RngProperties::take(members)?)
            }
            ObjectType::RngRandom => {
                ObjectOptionsBranch::RngRandom(RngRandomProperties::take(members)?)
            }
            ObjectType::ThrottleGroup => {
                ObjectOptionsBranch::ThrottleGroup(ThrottleGroupProperties::take(members)?)
            }
            ObjectType::TlsCredsX509 => {
                ObjectOptionsBranch::TlsCredsX509(TlsCredsX509Properties::take(members)?)
            }
        };
        Ok(ObjectOptions { id, qom_type })
    }
}
impl EncodeMembers for ObjectOptions {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);

        out.put("qom-type", &self.qom_type.kind());
        match &self.qom_type {
            ObjectOptionsBranch::AuthzList(branch) => branch.put(out),
            ObjectOptionsBranch::AuthzListFile(branch) => branch.put(out),
            ObjectOptionsBranch::AuthzSimple(branch) => branch.put(out),
            ObjectOptionsBranch::Iothread(branch) => branch.put(out),
            ObjectOptionsBranch::MemoryBackendFile(branch) => branch.put(out),
            ObjectOptionsBranch::MemoryBackendMemfd(branch) => branch.put(out),
            ObjectOptionsBranch::MemoryBackendRam(branch) => branch.put(out),
            ObjectOptionsBranch::RngBuiltin(branch) => branch.put(out),
            ObjectOptionsBranch::RngRandom(branch) => branch.put(out),
            ObjectOptionsBranch::ThrottleGroup(branch) => branch.put(out),
            ObjectOptionsBranch::TlsCredsX509(branch) => branch.put(out),
        }
    }
}
object!(ObjectOptions);

/// On, off, or as the program sees fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnOffAuto {
    /// `auto`
    Auto,
    /// `on`
    On,
    /// `off`
    Off,
}
names!(OnOffAuto { Auto = "auto", On = "on", Off = "off" });

/// Drivers of block nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDriver {
    /// `blkdebug`
    Blkdebug,
    /// `copy-on-read`
    CopyOnRead,
    /// `file`
    File,
    /// `host_device`
    HostDevice,
    /// `null-co`
    NullCo,
    /// `qcow2`
    Qcow2,
    /// `qed`
    Qed,
    /// `raw`
    Raw,
    /// `throttle`
    Throttle,
    /// `vhdx`
    Vhdx,
    /// `vmdk`
    Vmdk,
    /// `vpc`
    Vpc,
}
names!(BlockdevDriver { Blkdebug = "blkdebug", CopyOnRead = "copy-on-read", File = "file", HostDevice = "host_device", NullCo = "null-co", Qcow2 = "qcow2", Qed = "qed", Raw = "raw", Throttle = "throttle", Vhdx = "vhdx", Vmdk = "vmdk", Vpc = "vpc" });

/// What a node does with discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDiscardOptions {
    /// `ignore`
    Ignore,
    /// `unmap`
    Unmap,
}
names!(BlockdevDiscardOptions { Ignore = "ignore", Unmap = "unmap" });

/// What a node does with written zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDetectZeroesOptions {
    /// `off`
    Off,
    /// `on`
    On,
    /// `unmap`
    Unmap,
}
names!(BlockdevDetectZeroesOptions { Off = "off", On = "on", Unmap = "unmap" });

/// How requests reach the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevAioOptions {
    /// `threads`
    Threads,
    /// `native`
    Native,
    /// `io_uring`
    IoUring,
}
names!(BlockdevAioOptions { Threads = "threads", Native = "native", IoUring = "io_uring" });

/// What is done when the host fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevOnError {
    /// `report`
    Report,
    /// `ignore`
    Ignore,
    /// `enospc`
    Enospc,
    /// `stop`
    Stop,
    /// `auto`
    Auto,
}
names!(BlockdevOnError { Report = "report", Ignore = "ignore", Enospc = "enospc", Stop = "stop", Auto = "auto" });

/// How a node uses the host's cache.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCacheOptions {
    /// The page cache is passed by.
    pub direct: Option<bool>,
    /// Flushes are not carried out.
    pub no_flush: Option<bool>,
}
impl DecodeMembers for BlockdevCacheOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCacheOptions {
            direct: members.optional("direct")?,
            no_flush: members.optional("no-flush")?,
        })
    }
}
impl EncodeMembers for BlockdevCacheOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("direct", &self.direct);
        out.put_some("no-flush", &self.no_flush);
    }
}
object!(BlockdevCacheOptions);

/// A file or a host device.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsFile {
    /// Its path; `/dev/fdset/N` for a descriptor that was passed.
    pub filename: String,
    /// Not available here.
    pub pr_manager: Option<String>,
    /// Whether the image is locked against other programs.
    pub locking: Option<OnOffAuto>,
    /// How requests reach the host.
    pub aio: Option<BlockdevAioOptions>,
    /// Requests per submission.
    pub aio_max_batch: Option<i64>,
}
impl DecodeMembers for BlockdevOptionsFile {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsFile {
            filename: members.required("filename")?,
            pr_manager: members.optional("pr-manager")?,
            locking: members.optional("locking")?,
            aio: members.optional("aio")?,
            aio_max_batch: members.optional("aio-max-batch")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsFile {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put_some("pr-manager", &self.pr_manager);
        out.put_some("locking", &self.locking);
        out.put_some("aio", &self.aio);
        out.put_some("aio-max-batch", &self.aio_max_batch);
    }
}
object!(BlockdevOptionsFile);

/// No storage behind it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsNull {
    /// Bytes; 1 GiB by default.
    pub size: Option<i64>,
    /// How long a request takes.
    pub latency_ns: Option<u64>,
    /// Reads give zeroes rather than leave the buffer.
    pub read_zeroes: Option<bool>,
}
impl DecodeMembers for BlockdevOptionsNull {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsNull {
            size: members.optional("size")?,
            latency_ns: members.optional("latency-ns")?,
            read_zeroes: members.optional("read-zeroes")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsNull {
    fn put(&self, out: &mut Out) {
        out.put_some("size", &self.size);
        out.put_some("latency-ns", &self.latency_ns);
        out.put_some("read-zeroes", &self.read_zeroes);
    }
}
object!(BlockdevOptionsNull);

/// A node by name, or one to make.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRef {
    /// `definition`
    Definition(Box<BlockdevOptions>),
    /// `reference`
    Reference(String),
}
impl Decode for BlockdevRef {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::Object(_) => Decode::decode(value, at).map(BlockdevRef::Definition),
            Value::String(_) => Decode::decode(value, at).map(BlockdevRef::Reference),
            _ => Err(at.wrong_type("object or string")),
        }
    }
}
impl Encode for BlockdevRef {
    fn encode(&self, out: &mut String) {
        match self {
            BlockdevRef::Definition(inner) => inner.encode(out),
            BlockdevRef::Reference(inner) => inner.encode(out),
        }
    }
}

/// The bytes of a node as they are, or a window of them.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsRaw {
    /// The node below.
    pub file: BlockdevRef,
    /// Where the window begins.
    pub offset: Option<i64>,
    /// How large it is.
    pub size: Option<i64>,
}
impl DecodeMembers for BlockdevOptionsRaw {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsRaw {
            file: members.required("file")?,
            offset: members.optional("offset")?,
            size: members.optional("size")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsRaw {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
        out.put_some("offset", &self.offset);
        out.put_some("size", &self.size);
    }
}
object!(BlockdevOptionsRaw);

/// A node by name, one to make, or none.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRefOrNull {
    /// `definition`
    Definition(Box<BlockdevOptions>),
    /// `reference`
    Reference(String),
    /// `null`
    Null,
}
impl Decode for BlockdevRefOrNull {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::Object(_) => Decode::decode(value, at).map(BlockdevRefOrNull::Definition),
            Value::String(_) => Decode::decode(value, at).map(BlockdevRefOrNull::Reference),
            Value::Null => Ok(BlockdevRefOrNull::Null),
            _ => Err(at.wrong_type("object or string or null")),
        }
    }
}
impl Encode for BlockdevRefOrNull {
    fn encode(&self, out: &mut String) {
        match self {
            BlockdevRefOrNull::Definition(inner) => inner.encode(out),
            BlockdevRefOrNull::Reference(inner) => inner.encode(out),
            BlockdevRefOrNull::Null => ().encode(out),
        }
    }
}

/// An image format without options.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsGenericFormat {
    /// The node with the image.
    pub file: BlockdevRef,
}
impl DecodeMembers for BlockdevOptionsGenericFormat {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsGenericFormat {
            file: members.required("file")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsGenericFormat {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
    }
}
object!(BlockdevOptionsGenericFormat);

/// An image format with a backing file.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsGenericCOWFormat {
    /// The node with the image.
    pub file: BlockdevRef,
    /// The backing file; what the image says where it is not given, none where it is null.
    pub backing: Option<BlockdevRefOrNull>,
}
impl DecodeMembers for BlockdevOptionsGenericCOWFormat {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsGenericCOWFormat {
            file: members.required("file")?,
            backing: members.optional("backing")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsGenericCOWFormat {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
        out.put_some("backing", &self.backing);
    }
}
object!(BlockdevOptionsGenericCOWFormat);

/// Which metadata writes are checked against: none, what never changes its place, and what is
/// in memory, and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2OverlapCheckMode {
    /// `none`
    None,
    /// `constant`
    Constant,
    /// `cached`
    Cached,
    /// `all`
    All,
}
names!(Qcow2OverlapCheckMode { None = "none", Constant = "constant", Cached = "cached", All = "all" });

/// Metadata that writes are checked against, kind by kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2OverlapCheckFlags {
    /// What holds for kinds that are not given; cached by default.
    pub template: Option<Qcow2OverlapCheckMode>,
    /// The header.
    pub main_header: Option<bool>,
    /// The L1 table in use.
    pub active_l1: Option<bool>,
    /// L2 tables in use.
    pub active_l2: Option<bool>,
    /// The refcount table.
    pub refcount_table: Option<bool>,
    /// Refcount blocks.
    pub refcount_block: Option<bool>,
    /// The snapshot table.
    pub snapshot_table: Option<bool>,
    /// L1 tables of snapshots.
    pub inactive_l1: Option<bool>,
    /// L2 tables of snapshots.
    pub inactive_l2: Option<bool>,
    /// The directory of bitmaps.
    pub bitmap_directory: Option<bool>,
}
impl DecodeMembers for Qcow2OverlapCheckFlags {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(Qcow2OverlapCheckFlags {
            template: members.optional("template")?,
            main_header: members.optional("main-header")?,
            active_l1: members.optional("active-l1")?,
            active_l2: members.optional("active-l2")?,
            refcount_table: members.optional("refcount-table")?,
            refcount_block: members.optional("refcount-block")?,
            snapshot_table: members.optional("snapshot-table")?,
            inactive_l1: members.optional("inactive-l1")?,
            inactive_l2: members.optional("inactive-l2")?,
            bitmap_directory: members.optional("bitmap-directory")?,
        })
    }
}
impl EncodeMembers for Qcow2OverlapCheckFlags {
    fn put(&self, out: &mut Out) {
        out.put_some("template", &self.template);
        out.put_some("main-header", &self.main_header);
        out.put_some("active-l1", &self.active_l1);
        out.put_some("active-l2", &self.active_l2);
        out.put_some("refcount-table", &self.refcount_table);
        out.put_some("refcount-block", &self.refcount_block);
        out.put_some("snapshot-table", &self.snapshot_table);
        out.put_some("inactive-l1", &self.inactive_l1);
        out.put_some("inactive-l2", &self.inactive_l2);
        out.put_some("bitmap-directory", &self.bitmap_directory);
    }
}
object!(Qcow2OverlapCheckFlags);

/// Metadata that writes are checked against.
#[derive(Debug, Clone, PartialEq)]
pub enum Qcow2OverlapChecks {
    /// `flags`
    Flags(Box<Qcow2OverlapCheckFlags>),
    /// `mode`
    Mode(Qcow2OverlapCheckMode),
}
impl Decode for Qcow2OverlapChecks {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::Object(_) => Decode::decode(value, at).map(Qcow2OverlapChecks::Flags),
            Value::String(_) => Decode::decode(value, at).map(Qcow2OverlapChecks::Mode),
            _ => Err(at.wrong_type("object or string")),
        }
    }
}
impl Encode for Qcow2OverlapChecks {
    fn encode(&self, out: &mut String) {
        match self {
            Qcow2OverlapChecks::Flags(inner) => inner.encode(out),
            Qcow2OverlapChecks::Mode(inner) => inner.encode(out),
        }
    }
}

/// Kinds of encryption in qcow2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevQcow2EncryptionFormat {
    /// `aes`
    Aes,
    /// `luks`
    Luks,
}
names!(BlockdevQcow2EncryptionFormat { Aes = "aes", Luks = "luks" });

/// A key of the older kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QCryptoBlockOptionsQCow {
    /// The secret's id.
    pub key_secret: Option<String>,
}
impl DecodeMembers for QCryptoBlockOptionsQCow {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QCryptoBlockOptionsQCow {
            key_secret: members.optional("key-secret")?,
        })
    }
}
impl EncodeMembers for QCryptoBlockOptionsQCow {
    fn put(&self, out: &mut Out) {
        out.put_some("key-secret", &self.key_secret);
    }
}
object!(QCryptoBlockOptionsQCow);

/// A key of LUKS.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QCryptoBlockOptionsLUKS {
    /// The secret's id.
    pub key_secret: Option<String>,
}
impl DecodeMembers for QCryptoBlockOptionsLUKS {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QCryptoBlockOptionsLUKS {
            key_secret: members.optional("key-secret")?,
        })
    }
}
impl EncodeMembers for QCryptoBlockOptionsLUKS {
    fn put(&self, out: &mut Out) {
        out.put_some("key-secret", &self.key_secret);
    }
}
object!(QCryptoBlockOptionsLUKS);

/// Encryption, which is not available here.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevQcow2Encryption {
    /// What `format` says, with what belongs to it.
    pub format: BlockdevQcow2EncryptionBranch,
}
/// The branches of [`BlockdevQcow2Encryption`].
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevQcow2EncryptionBranch {
    /// `aes`
    Aes(QCryptoBlockOptionsQCow),
    /// `luks`
    Luks(QCryptoBlockOptionsLUKS),
}
impl BlockdevQcow2EncryptionBranch {
    /// The tag alone.
    pub const fn kind(&self) -> BlockdevQcow2EncryptionFormat {
        match self {
            BlockdevQcow2EncryptionBranch::Aes(_) => BlockdevQcow2EncryptionFormat::Aes,
            BlockdevQcow2EncryptionBranch::Luks(_) => BlockdevQcow2EncryptionFormat::Luks,
        }
    }
}
impl DecodeMembers for BlockdevQcow2Encryption {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<BlockdevQcow2EncryptionFormat>("format")?;

        let format = match kind {
            BlockdevQcow2EncryptionFormat::Aes => {
                BlockdevQcow2EncryptionBranch::Aes(QCryptoBlockOptionsQCow::take(members)?)
            }
            BlockdevQcow2EncryptionFormat::Luks => {
                BlockdevQcow2EncryptionBranch::Luks(QCryptoBlockOptionsLUKS::take(members)?)
            }
        };
        Ok(BlockdevQcow2Encryption { format })
    }
}
impl EncodeMembers for BlockdevQcow2Encryption {
    fn put(&self, out: &mut Out) {
        out.put("format", &self.format.kind());
        match &self.format {
            BlockdevQcow2EncryptionBranch::Aes(branch) => branch.put(out),
            BlockdevQcow2EncryptionBranch::Luks(branch) => branch.put(out),
        }
    }
}
object!(BlockdevQcow2Encryption);

/// A qcow2 image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsQcow2 {
    /// The node with the image.
    pub file: BlockdevRef,
    /// The backing file; what the image says where it is not given, none where it is null.
    pub backing: Option<BlockdevRefOrNull>,
    /// Put off refcounts; what the image says where it is not given.
    pub lazy_refcounts: Option<bool>,
    /// Pass the guest's discards on to the file.
    pub pass_discard_request: Option<bool>,
    /// Pass on what deleting a snapshot frees.
    pub pass_discard_snapshot: Option<bool>,
    /// Pass on all else that is freed.
    pub pass_discard_other: Option<bool>,
    /// A discard keeps the cluster's place in the file.
    pub discard_no_unref: Option<bool>,
    /// Metadata that writes are checked against.
    pub overlap_check: Option<Qcow2OverlapChecks>,
    /// Most bytes of memory for all tables.
    pub cache_size: Option<i64>,
    /// Most bytes of memory for L2 tables.
    pub l2_cache_size: Option<i64>,
    /// Bytes of an entry of that cache.
    pub l2_cache_entry_size: Option<i64>,
    /// Most bytes of memory for refcount blocks.
    pub refcount_cache_size: Option<i64>,
    /// Seconds after which tables that are not used leave memory; 0 is never.
    pub cache_clean_interval: Option<i64>,
    /// Not available here.
    pub encrypt: Option<BlockdevQcow2Encryption>,
    /// The node with the data; what the image says where it is not given.
    pub data_file: Option<BlockdevRef>,
}
impl DecodeMembers for BlockdevOptionsQcow2 {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsQcow2 {
            file: members.required("file")?,
            backing: members.optional("backing")?,
            lazy_refcounts: members.optional("lazy-refcounts")?,
            pass_discard_request: members.optional("pass-discard-request")?,
            pass_discard_snapshot: members.optional("pass-discard-snapshot")?,
            pass_discard_other: members.optional("pass-discard-other")?,
            discard_no_unref: members.optional("discard-no-unref")?,
            overlap_check: members.optional("overlap-check")?,
            cache_size: members.optional("cache-size")?,
            l2_cache_size: members.optional("l2-cache-size")?,
            l2_cache_entry_size: members.optional("l2-cache-entry-size")?,
            refcount_cache_size: members.optional("refcount-cache-size")?,
            cache_clean_interval: members.optional("cache-clean-interval")?,
            encrypt: members.optional("encrypt")?,
            data_file: members.optional("data-file")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsQcow2 {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
        out.put_some("backing", &self.backing);
        out.put_some("lazy-refcounts", &self.lazy_refcounts);
        out.put_some("pass-discard-request", &self.pass_discard_request);
        out.put_some("pass-discard-snapshot", &self.pass_discard_snapshot);
        out.put_some("pass-discard-other", &self.pass_discard_other);
        out.put_some("discard-no-unref", &self.discard_no_unref);
        out.put_some("overlap-check", &self.overlap_check);
        out.put_some("cache-size", &self.cache_size);
        out.put_some("l2-cache-size", &self.l2_cache_size);
        out.put_some("l2-cache-entry-size", &self.l2_cache_entry_size);
        out.put_some("refcount-cache-size", &self.refcount_cache_size);
        out.put_some("cache-clean-interval", &self.cache_clean_interval);
        out.put_some("encrypt", &self.encrypt);
        out.put_some("data-file", &self.data_file);
    }
}
object!(BlockdevOptionsQcow2);

/// A node whose requests are limited by a group.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsThrottle {
    /// The object that has the limits.
    pub throttle_group: String,
    /// The node below.
    pub file: BlockdevRef,
}
impl DecodeMembers for BlockdevOptionsThrottle {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsThrottle {
            throttle_group: members.required("throttle-group")?,
            file: members.required("file")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsThrottle {
    fn put(&self, out: &mut Out) {
        out.put("throttle-group", &self.throttle_group);
        out.put("file", &self.file);
    }
}
object!(BlockdevOptionsThrottle);

/// What is read from the backing file is kept in the image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsCor {
    /// The image.
    pub file: BlockdevRef,
}
impl DecodeMembers for BlockdevOptionsCor {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsCor {
            file: members.required("file")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsCor {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
    }
}
object!(BlockdevOptionsCor);

/// What a node does to the one below; `none` is from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlkdebugEvent {
    /// `none`
    None,
    /// `l1_update`
    L1Update,
    /// `l2_load`
    L2Load,
    /// `l2_update`
    L2Update,
    /// `l2_alloc_cow_read`
    L2AllocCowRead,
    /// `l2_alloc_write`
    L2AllocWrite,
    /// `read_aio`
    ReadAio,
    /// `write_aio`
    WriteAio,
    /// `cow_read`
    CowRead,
    /// `reftable_update`
    ReftableUpdate,
    /// `refblock_load`
    RefblockLoad,
    /// `refblock_update_part`
    RefblockUpdatePart,
    /// `refblock_alloc`
    RefblockAlloc,
    /// `refblock_alloc_write_blocks`
    RefblockAllocWriteBlocks,
    /// `refblock_alloc_write_table`
    RefblockAllocWriteTable,
    /// `refblock_alloc_switch_table`
    RefblockAllocSwitchTable,
    /// `cluster_alloc`
    ClusterAlloc,
    /// `cluster_free`
    ClusterFree,
    /// `flush_to_os`
    FlushToOs,
    /// `flush_to_disk`
    FlushToDisk,
    /// `pwritev`
    Pwritev,
    /// `pwritev_zero`
    PwritevZero,
    /// `pwritev_done`
    PwritevDone,
}
names!(BlkdebugEvent { None = "none", L1Update = "l1_update", L2Load = "l2_load", L2Update = "l2_update", L2AllocCowRead = "l2_alloc_cow_read", L2AllocWrite = "l2_alloc_write", ReadAio = "read_aio", WriteAio = "write_aio", CowRead = "cow_read", ReftableUpdate = "reftable_update", RefblockLoad = "refblock_load", RefblockUpdatePart = "refblock_update_part", RefblockAlloc = "refblock_alloc", RefblockAllocWriteBlocks = "refblock_alloc_write_blocks", RefblockAllocWriteTable = "refblock_alloc_write_table", RefblockAllocSwitchTable = "refblock_alloc_switch_table", ClusterAlloc = "cluster_alloc", ClusterFree = "cluster_free", FlushToOs = "flush_to_os", FlushToDisk = "flush_to_disk", Pwritev = "pwritev", PwritevZero = "pwritev_zero", PwritevDone = "pwritev_done" });

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlkdebugIOType {
    /// `read`
    Read,
    /// `write`
    Write,
    /// `write-zeroes`
    WriteZeroes,
    /// `discard`
    Discard,
    /// `flush`
    Flush,
    /// `block-status`
    BlockStatus,
}
names!(BlkdebugIOType { Read = "read", Write = "write", WriteZeroes = "write-zeroes", Discard = "discard", Flush = "flush", BlockStatus = "block-status" });

/// Requests that fail from an event on.
#[derive(Debug, Clone, PartialEq)]
pub struct BlkdebugInjectErrorOptions {
    /// From when on.
    pub event: BlkdebugEvent,
    /// Only in that state; 0 is any.
    pub state: Option<i64>,
    /// Only requests of that kind; all but block-status by default.
    pub iotype: Option<BlkdebugIOType>,
    /// The error's number; EIO by default.
    pub errno: Option<i64>,
    /// Only requests that touch it.
    pub sector: Option<i64>,
    /// Only the first.
    pub once: Option<bool>,
    /// They end before their submission returns.
    pub immediately: Option<bool>,
}
impl DecodeMembers for BlkdebugInjectErrorOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlkdebugInjectErrorOptions {
            event: members.required("event")?,
            state: members.optional("state")?,
            iotype: members.optional("iotype")?,
            errno: members.optional("errno")?,
            sector: members.optional("sector")?,
            once: members.optional("once")?,
            immediately: members.optional("immediately")?,
        })
    }
}
impl EncodeMembers for BlkdebugInjectErrorOptions {
    fn put(&self, out: &mut Out) {
        out.put("event", &self.event);
        out.put_some("state", &self.state);
        out.put_some("iotype", &self.iotype);
        out.put_some("errno", &self.errno);
        out.put_some("sector", &self.sector);
        out.put_some("once", &self.once);
        out.put_some("immediately", &self.immediately);
    }
}
object!(BlkdebugInjectErrorOptions);

/// A change of state at an event. The first state is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct BlkdebugSetStateOptions {
    /// When.
    pub event: BlkdebugEvent,
    /// Only in that state; 0 is any.
    pub state: Option<i64>,
    /// The next one.
    pub new_state: i64,
}
impl DecodeMembers for BlkdebugSetStateOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlkdebugSetStateOptions {
            event: members.required("event")?,
            state: members.optional("state")?,
            new_state: members.required("new_state")?,
        })
    }
}
impl EncodeMembers for BlkdebugSetStateOptions {
    fn put(&self, out: &mut Out) {
        out.put("event", &self.event);
        out.put_some("state", &self.state);
        out.put("new_state", &self.new_state);
    }
}
object!(BlkdebugSetStateOptions);

/// A node that makes requests fail, for tests.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBlkdebug {
    /// The node below.
    pub image: BlockdevRef,
    /// A file with sections `[inject-error]` and `[set-state]`.
    pub config: Option<String>,
    /// What fails.
    pub inject_error: Option<Vec<BlkdebugInjectErrorOptions>>,
    /// What changes the state.
    pub set_state: Option<Vec<BlkdebugSetStateOptions>>,
}
impl DecodeMembers for BlockdevOptionsBlkdebug {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOptionsBlkdebug {
            image: members.required("image")?,
            config: members.optional("config")?,
            inject_error: members.optional("inject-error")?,
            set_state: members.optional("set-state")?,
        })
    }
}
impl EncodeMembers for BlockdevOptionsBlkdebug {
    fn put(&self, out: &mut Out) {
        out.put("image", &self.image);
        out.put_some("config", &self.config);
        out.put_some("inject-error", &self.inject_error);
        out.put_some("set-state", &self.set_state);
    }
}
object!(BlockdevOptionsBlkdebug);

/// A block node to make.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptions {
    /// Its name.
    pub node_name: Option<String>,
    /// What it does with discards.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How it uses the host's cache.
    pub cache: Option<BlockdevCacheOptions>,
    /// It cannot be written.
    pub read_only: Option<bool>,
    /// It falls back to read-only where it cannot be written.
    pub auto_read_only: Option<bool>,
    /// Others may write it while it is read here.
    pub force_share: Option<bool>,
    /// What it does with written zeroes.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// Whether it is used at once, or left to another program until it is activated; true by
    /// default, and always false while a migration is awaited.
    pub active: Option<bool>,
    /// What `driver` says, with what belongs to it.
    pub driver: BlockdevOptionsBranch,
}
/// The branches of [`BlockdevOptions`].
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevOptionsBranch {
    /// `blkdebug`
    Blkdebug(BlockdevOptionsBlkdebug),
    /// `copy-on-read`
    CopyOnRead(BlockdevOptionsCor),
    /// `file`
    File(BlockdevOptionsFile),
    /// `host_device`
    HostDevice(BlockdevOptionsFile),
    /// `null-co`
    NullCo(BlockdevOptionsNull),
    /// `qcow2`
    Qcow2(BlockdevOptionsQcow2),
    /// `qed`
    Qed(BlockdevOptionsGenericCOWFormat),
    /// `raw`
    Raw(BlockdevOptionsRaw),
    /// `throttle`
    Throttle(BlockdevOptionsThrottle),
    /// `vhdx`
    Vhdx(BlockdevOptionsGenericFormat),
    /// `vmdk`
    Vmdk(BlockdevOptionsGenericCOWFormat),
    /// `vpc`
    Vpc(BlockdevOptionsGenericFormat),
}
impl BlockdevOptionsBranch {
    /// The tag alone.
    pub const fn kind(&self) -> BlockdevDriver {
        match self {
            BlockdevOptionsBranch::Blkdebug(_) => BlockdevDriver::Blkdebug,
            BlockdevOptionsBranch::CopyOnRead(_) => BlockdevDriver::CopyOnRead,
            BlockdevOptionsBranch::File(_) => BlockdevDriver::File,
            BlockdevOptionsBranch::HostDevice(_) => BlockdevDriver::HostDevice,
            BlockdevOptionsBranch::NullCo(_) => BlockdevDriver::NullCo,
            BlockdevOptionsBranch::Qcow2(_) => BlockdevDriver::Qcow2,
            BlockdevOptionsBranch::Qed(_) => BlockdevDriver::Qed,
            BlockdevOptionsBranch::Raw(_) => BlockdevDriver::Raw,
            BlockdevOptionsBranch::Throttle(_) => BlockdevDriver::Throttle,
            BlockdevOptionsBranch::Vhdx(_) => BlockdevDriver::Vhdx,
            BlockdevOptionsBranch::Vmdk(_) => BlockdevDriver::Vmdk,
            BlockdevOptionsBranch::Vpc(_) => BlockdevDriver::Vpc,
        }
    }
}
impl DecodeMembers for BlockdevOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<BlockdevDriver>("driver")?;
        let node_name = members.optional("node-name")?;
        let discard = members.optional("discard")?;
        let cache = members.optional("cache")?;
        let read_only = members.optional("read-only")?;
        let auto_read_only = members.optional("auto-read-only")?;
        let force_share = members.optional("force-share")?;
        let detect_zeroes = members.optional("detect-zeroes")?;
        let active = members.optional("active")?;

        let driver = match kind {
            BlockdevDriver::Blkdebug => {
                BlockdevOptionsBranch::Blkdebug(BlockdevOptionsBlkdebug::take(members)?)
            }
            BlockdevDriver::CopyOnRead => {
                BlockdevOptionsBranch::CopyOnRead(BlockdevOptionsCor::take(members)?)
            }
            BlockdevDriver::File => {
                BlockdevOptionsBranch::File(BlockdevOptionsFile::take(members)?)
            }
            BlockdevDriver::HostDevice => {
                BlockdevOptionsBranch::HostDevice(BlockdevOptionsFile::take(members)?)
            }
            BlockdevDriver::NullCo => {
                BlockdevOptionsBranch::NullCo(BlockdevOptionsNull::take(members)?)
            }
            BlockdevDriver::Qcow2 => {
                BlockdevOptionsBranch::Qcow2(BlockdevOptionsQcow2::take(members)?)
            }
            BlockdevDriver::Qed => {
                BlockdevOptionsBranch::Qed(BlockdevOptionsGenericCOWFormat::take(members)?)
            }
            BlockdevDriver::Raw => BlockdevOptionsBranch::Raw(BlockdevOptionsRaw::take(members)?),
            BlockdevDriver::Throttle => {
                BlockdevOptionsBranch::Throttle(BlockdevOptionsThrottle::take(members)?)
            }
            BlockdevDriver::Vhdx => {
                BlockdevOptionsBranch::Vhdx(BlockdevOptionsGenericFormat::take(members)?)
            }
            BlockdevDriver::Vmdk => {
                BlockdevOptionsBranch::Vmdk(BlockdevOptionsGenericCOWFormat::take(members)?)
            }
            BlockdevDriver::Vpc => {
                BlockdevOptionsBranch::Vpc(BlockdevOptionsGenericFormat::take(members)?)
            }
        };
        Ok(BlockdevOptions {
            node_name,
            discard,
            cache,
            read_only,
            auto_read_only,
            force_share,
            detect_zeroes,
            active,
            driver,
        })
    }
}
impl EncodeMembers for BlockdevOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("node-name", &self.node_name);
        out.put_some("discard", &self.discard);
        out.put_some("cache", &self.cache);
        out.put_some("read-only", &self.read_only);
        out.put_some("auto-read-only", &self.auto_read_only);
        out.put_some("force-share", &self.force_share);
        out.put_some("detect-zeroes", &self.detect_zeroes);
        out.put_some("active", &self.active);

        out.put("driver", &self.driver.kind());
        match &self.driver {
            BlockdevOptionsBranch::Blkdebug(branch) => branch.put(out),
            BlockdevOptionsBranch::CopyOnRead(branch) => branch.put(out),
            BlockdevOptionsBranch::File(branch) => branch.put(out),
            BlockdevOptionsBranch::HostDevice(branch) => branch.put(out),
            BlockdevOptionsBranch::NullCo(branch) => branch.put(out),
            BlockdevOptionsBranch::Qcow2(branch) => branch.put(out),
            BlockdevOptionsBranch::Qed(branch) => branch.put(out),
            BlockdevOptionsBranch::Raw(branch) => branch.put(out),
            BlockdevOptionsBranch::Throttle(branch) => branch.put(out),
            BlockdevOptionsBranch::Vhdx(branch) => branch.put(out),
            BlockdevOptionsBranch::Vmdk(branch) => branch.put(out),
            BlockdevOptionsBranch::Vpc(branch) => branch.put(out),
        }
    }
}
object!(BlockdevOptions);

/// How a node uses the host's cache.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCacheInfo {
    /// `writeback`.
    pub writeback: bool,
    /// `direct`.
    pub direct: bool,
    /// `no-flush`.
    pub no_flush: bool,
}
impl DecodeMembers for BlockdevCacheInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCacheInfo {
            writeback: members.required("writeback")?,
            direct: members.required("direct")?,
            no_flush: members.required("no-flush")?,
        })
    }
}
impl EncodeMembers for BlockdevCacheInfo {
    fn put(&self, out: &mut Out) {
        out.put("writeback", &self.writeback);
        out.put("direct", &self.direct);
        out.put("no-flush", &self.no_flush);
    }
}
object!(BlockdevCacheInfo);

/// What an image is.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfo {
    /// `filename`.
    pub filename: String,
    /// `format`.
    pub format: String,
    /// `dirty-flag`.
    pub dirty_flag: Option<bool>,
    /// `actual-size`.
    pub actual_size: Option<i64>,
    /// `virtual-size`.
    pub virtual_size: i64,
    /// `cluster-size`.
    pub cluster_size: Option<i64>,
    /// `encrypted`.
    pub encrypted: Option<bool>,
    /// `compressed`.
    pub compressed: Option<bool>,
    /// `backing-filename`.
    pub backing_filename: Option<String>,
    /// `full-backing-filename`.
    pub full_backing_filename: Option<String>,
    /// `backing-filename-format`.
    pub backing_filename_format: Option<String>,
    /// `snapshots`.
    pub snapshots: Option<Vec<SnapshotInfo>>,
    /// `backing-image`.
    pub backing_image: Option<Box<ImageInfo>>,
    /// `format-specific`.
    pub format_specific: Option<ImageInfoSpecific>,
}
impl DecodeMembers for ImageInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfo {
            filename: members.required("filename")?,
            format: members.required("format")?,
            dirty_flag: members.optional("dirty-flag")?,
            actual_size: members.optional("actual-size")?,
            virtual_size: members.required("virtual-size")?,
            cluster_size: members.optional("cluster-size")?,
            encrypted: members.optional("encrypted")?,
            compressed: members.optional("compressed")?,
            backing_filename: members.optional("backing-filename")?,
            full_backing_filename: members.optional("full-backing-filename")?,
            backing_filename_format: members.optional("backing-filename-format")?,
            snapshots: members.optional("snapshots")?,
            backing_image: members.optional("backing-image")?,
            format_specific: members.optional("format-specific")?,
        })
    }
}
impl EncodeMembers for ImageInfo {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put("format", &self.format);
        out.put_some("dirty-flag", &self.dirty_flag);
        out.put_some("actual-size", &self.actual_size);
        out.put("virtual-size", &self.virtual_size);
        out.put_some("cluster-size", &self.cluster_size);
        out.put_some("encrypted", &self.encrypted);
        out.put_some("compressed", &self.compressed);
        out.put_some("backing-filename", &self.backing_filename);
        out.put_some("full-backing-filename", &self.full_backing_filename);
        out.put_some("backing-filename-format", &self.backing_filename_format);
        out.put_some("snapshots", &self.snapshots);
        out.put_some("backing-image", &self.backing_image);
        out.put_some("format-specific", &self.format_specific);
    }
}
object!(ImageInfo);

/// A node below another.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevChild {
    /// `child`.
    pub child: String,
    /// `node-name`.
    pub node_name: String,
}
impl DecodeMembers for BlockdevChild {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevChild {
            child: members.required("child")?,
            node_name: members.required("node-name")?,
        })
    }
}
impl EncodeMembers for BlockdevChild {
    fn put(&self, out: &mut Out) {
        out.put("child", &self.child);
        out.put("node-name", &self.node_name);
    }
}
object!(BlockdevChild);

/// A block node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceInfo {
    /// `file`.
    pub file: String,
    /// `node-name`.
    pub node_name: Option<String>,
    /// `ro`.
    pub ro: bool,
    /// `drv`.
    pub drv: String,
    /// `backing_file`.
    pub backing_file: Option<String>,
    /// `backing_file_depth`.
    pub backing_file_depth: i64,
    /// `encrypted`.
    pub encrypted: bool,
    /// `detect_zeroes`.
    pub detect_zeroes: BlockdevDetectZeroesOptions,
    /// `bps`.
    pub bps: i64,
    /// `bps_rd`.
    pub bps_rd: i64,
    /// `bps_wr`.
    pub bps_wr: i64,
    /// `iops`.
    pub iops: i64,
    /// `iops_rd`.
    pub iops_rd: i64,
    /// `iops_wr`.
    pub iops_wr: i64,
    /// `image`.
    pub image: ImageInfo,
    /// `bps_max`.
    pub bps_max: Option<i64>,
    /// `bps_rd_max`.
    pub bps_rd_max: Option<i64>,
    /// `bps_wr_max`.
    pub bps_wr_max: Option<i64>,
    /// `iops_max`.
    pub iops_max: Option<i64>,
    /// `iops_rd_max`.
    pub iops_rd_max: Option<i64>,
    /// `iops_wr_max`.
    pub iops_wr_max: Option<i64>,
    /// `bps_max_length`.
    pub bps_max_length: Option<i64>,
    /// `bps_rd_max_length`.
    pub bps_rd_max_length: Option<i64>,
    /// `bps_wr_max_length`.
    pub bps_wr_max_length: Option<i64>,
    /// `iops_max_length`.
    pub iops_max_length: Option<i64>,
    /// `iops_rd_max_length`.
    pub iops_rd_max_length: Option<i64>,
    /// `iops_wr_max_length`.
    pub iops_wr_max_length: Option<i64>,
    /// `iops_size`.
    pub iops_size: Option<i64>,
    /// `group`.
    pub group: Option<String>,
    /// `active`.
    pub active: Option<bool>,
    /// `cache`.
    pub cache: BlockdevCacheInfo,
    /// `write_threshold`.
    pub write_threshold: i64,
}
impl DecodeMembers for BlockDeviceInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockDeviceInfo {
            file: members.required("file")?,
            node_name: members.optional("node-name")?,
            ro: members.required("ro")?,
            drv: members.required("drv")?,
            backing_file: members.optional("backing_file")?,
            backing_file_depth: members.required("backing_file_depth")?,
            encrypted: members.required("encrypted")?,
            detect_zeroes: members.required("detect_zeroes")?,
            bps: members.required("bps")?,
            bps_rd: members.required("bps_rd")?,
            bps_wr: members.required("bps_wr")?,
            iops: members.required("iops")?,
            iops_rd: members.required("iops_rd")?,
            iops_wr: members.required("iops_wr")?,
            image: members.required("image")?,
            bps_max: members.optional("bps_max")?,
            bps_rd_max: members.optional("bps_rd_max")?,
            bps_wr_max: members.optional("bps_wr_max")?,
            iops_max: members.optional("iops_max")?,
            iops_rd_max: members.optional("iops_rd_max")?,
            iops_wr_max: members.optional("iops_wr_max")?,
            bps_max_length: members.optional("bps_max_length")?,
            bps_rd_max_length: members.optional("bps_rd_max_length")?,
            bps_wr_max_length: members.optional("bps_wr_max_length")?,
            iops_max_length: members.optional("iops_max_length")?,
            iops_rd_max_length: members.optional("iops_rd_max_length")?,
            iops_wr_max_length: members.optional("iops_wr_max_length")?,
            iops_size: members.optional("iops_size")?,
            group: members.optional("group")?,
            active: members.optional("active")?,
            cache: members.required("cache")?,
            write_threshold: members.required("write_threshold")?,
        })
    }
}
impl EncodeMembers for BlockDeviceInfo {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
        out.put_some("node-name", &self.node_name);
        out.put("ro", &self.ro);
        out.put("drv", &self.drv);
        out.put_some("backing_file", &self.backing_file);
        out.put("backing_file_depth", &self.backing_file_depth);
        out.put("encrypted", &self.encrypted);
        out.put("detect_zeroes", &self.detect_zeroes);
        out.put("bps", &self.bps);
        out.put("bps_rd", &self.bps_rd);
        out.put("bps_wr", &self.bps_wr);
        out.put("iops", &self.iops);
        out.put("iops_rd", &self.iops_rd);
        out.put("iops_wr", &self.iops_wr);
        out.put("image", &self.image);
        out.put_some("bps_max", &self.bps_max);
        out.put_some("bps_rd_max", &self.bps_rd_max);
        out.put_some("bps_wr_max", &self.bps_wr_max);
        out.put_some("iops_max", &self.iops_max);
        out.put_some("iops_rd_max", &self.iops_rd_max);
        out.put_some("iops_wr_max", &self.iops_wr_max);
        out.put_some("bps_max_length", &self.bps_max_length);
        out.put_some("bps_rd_max_length", &self.bps_rd_max_length);
        out.put_some("bps_wr_max_length", &self.bps_wr_max_length);
        out.put_some("iops_max_length", &self.iops_max_length);
        out.put_some("iops_rd_max_length", &self.iops_rd_max_length);
        out.put_some("iops_wr_max_length", &self.iops_wr_max_length);
        out.put_some("iops_size", &self.iops_size);
        out.put_some("group", &self.group);
        out.put_some("active", &self.active);
        out.put("cache", &self.cache);
        out.put("write_threshold", &self.write_threshold);
    }
}
object!(BlockDeviceInfo);

/// How a device's requests end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockDeviceIoStatus {
    /// `ok`
    Ok,
    /// `failed`
    Failed,
    /// `nospace`
    Nospace,
}
names!(BlockDeviceIoStatus { Ok = "ok", Failed = "failed", Nospace = "nospace" });

/// A block device.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockInfo {
    /// `device`.
    pub device: String,
    /// `qdev`.
    pub qdev: Option<String>,
    /// `type`.
    pub r#type: String,
    /// `removable`.
    pub removable: bool,
    /// `locked`.
    pub locked: bool,
    /// `inserted`.
    pub inserted: Option<BlockDeviceInfo>,
    /// `tray_open`.
    pub tray_open: Option<bool>,
    /// `io-status`.
    pub io_status: Option<BlockDeviceIoStatus>,
}
impl DecodeMembers for BlockInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockInfo {
            device: members.required("device")?,
            qdev: members.optional("qdev")?,
            r#type: members.required("type")?,
            removable: members.required("removable")?,
            locked: members.required("locked")?,
            inserted: members.optional("inserted")?,
            tray_open: members.optional("tray_open")?,
            io_status: members.optional("io-status")?,
        })
    }
}
impl EncodeMembers for BlockInfo {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put_some("qdev", &self.qdev);
        out.put("type", &self.r#type);
        out.put("removable", &self.removable);
        out.put("locked", &self.locked);
        out.put_some("inserted", &self.inserted);
        out.put_some("tray_open", &self.tray_open);
        out.put_some("io-status", &self.io_status);
    }
}
object!(BlockInfo);

/// What happened in an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceTimedStats {
    /// `interval_length`.
    pub interval_length: i64,
    /// `min_rd_latency_ns`.
    pub min_rd_latency_ns: i64,
    /// `max_rd_latency_ns`.
    pub max_rd_latency_ns: i64,
    /// `avg_rd_latency_ns`.
    pub avg_rd_latency_ns: i64,
    /// `min_wr_latency_ns`.
    pub min_wr_latency_ns: i64,
    /// `max_wr_latency_ns`.
    pub max_wr_latency_ns: i64,
    /// `avg_wr_latency_ns`.
    pub avg_wr_latency_ns: i64,
    /// `min_flush_latency_ns`.
    pub min_flush_latency_ns: i64,
    /// `max_flush_latency_ns`.
    pub max_flush_latency_ns: i64,
    /// `avg_flush_latency_ns`.
    pub avg_flush_latency_ns: i64,
    /// `avg_rd_queue_depth`.
    pub avg_rd_queue_depth: f64,
    /// `avg_wr_queue_depth`.
    pub avg_wr_queue_depth: f64,
}
impl DecodeMembers for BlockDeviceTimedStats {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockDeviceTimedStats {
            interval_length: members.required("interval_length")?,
            min_rd_latency_ns: members.required("min_rd_latency_ns")?,
            max_rd_latency_ns: members.required("max_rd_latency_ns")?,
            avg_rd_latency_ns: members.required("avg_rd_latency_ns")?,
            min_wr_latency_ns: members.required("min_wr_latency_ns")?,
            max_wr_latency_ns: members.required("max_wr_latency_ns")?,
            avg_wr_latency_ns: members.required("avg_wr_latency_ns")?,
            min_flush_latency_ns: members.required("min_flush_latency_ns")?,
            max_flush_latency_ns: members.required("max_flush_latency_ns")?,
            avg_flush_latency_ns: members.required("avg_flush_latency_ns")?,
            avg_rd_queue_depth: members.required("avg_rd_queue_depth")?,
            avg_wr_queue_depth: members.required("avg_wr_queue_depth")?,
        })
    }
}
impl EncodeMembers for BlockDeviceTimedStats {
    fn put(&self, out: &mut Out) {
        out.put("interval_length", &self.interval_length);
        out.put("min_rd_latency_ns", &self.min_rd_latency_ns);
        out.put("max_rd_latency_ns", &self.max_rd_latency_ns);
        out.put("avg_rd_latency_ns", &self.avg_rd_latency_ns);
        out.put("min_wr_latency_ns", &self.min_wr_latency_ns);
        out.put("max_wr_latency_ns", &self.max_wr_latency_ns);
        out.put("avg_wr_latency_ns", &self.avg_wr_latency_ns);
        out.put("min_flush_latency_ns", &self.min_flush_latency_ns);
        out.put("max_flush_latency_ns", &self.max_flush_latency_ns);
        out.put("avg_flush_latency_ns", &self.avg_flush_latency_ns);
        out.put("avg_rd_queue_depth", &self.avg_rd_queue_depth);
        out.put("avg_wr_queue_depth", &self.avg_wr_queue_depth);
    }
}
object!(BlockDeviceTimedStats);

/// What a block device has done.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceStats {
    /// `rd_bytes`.
    pub rd_bytes: i64,
    /// `wr_bytes`.
    pub wr_bytes: i64,
    /// `zone_append_bytes`.
    pub zone_append_bytes: i64,
    /// `unmap_bytes`.
    pub unmap_bytes: i64,
    /// `rd_operations`.
    pub rd_operations: i64,
    /// `wr_operations`.
    pub wr_operations: i64,
    /// `zone_append_operations`.
    pub zone_append_operations: i64,
    /// `flush_operations`.
    pub flush_operations: i64,
    /// `unmap_operations`.
    pub unmap_operations: i64,
    /// `rd_total_time_ns`.
    pub rd_total_time_ns: i64,
    /// `wr_total_time_ns`.
    pub wr_total_time_ns: i64,
    /// `zone_append_total_time_ns`.
    pub zone_append_total_time_ns: i64,
    /// `flush_total_time_ns`.
    pub flush_total_time_ns: i64,
    /// `unmap_total_time_ns`.
    pub unmap_total_time_ns: i64,
    /// `wr_highest_offset`.
    pub wr_highest_offset: i64,
    /// `rd_merged`.
    pub rd_merged: i64,
    /// `wr_merged`.
    pub wr_merged: i64,
    /// `zone_append_merged`.
    pub zone_append_merged: i64,
    /// `unmap_merged`.
    pub unmap_merged: i64,
    /// `idle_time_ns`.
    pub idle_time_ns: Option<i64>,
    /// `failed_rd_operations`.
    pub failed_rd_operations: i64,
    /// `failed_wr_operations`.
    pub failed_wr_operations: i64,
    /// `failed_zone_append_operations`.
    pub failed_zone_append_operations: i64,
    /// `failed_flush_operations`.
    pub failed_flush_operations: i64,
    /// `failed_unmap_operations`.
    pub failed_unmap_operations: i64,
    /// `invalid_rd_operations`.
    pub invalid_rd_operations: i64,
    /// `invalid_wr_operations`.
    pub invalid_wr_operations: i64,
    /// `invalid_zone_append_operations`.
    pub invalid_zone_append_operations: i64,
    /// `invalid_flush_operations`.
    pub invalid_flush_operations: i64,
    /// `invalid_unmap_operations`.
    pub invalid_unmap_operations: i64,
    /// `account_invalid`.
    pub account_invalid: bool,
    /// `account_failed`.
    pub account_failed: bool,
    /// `timed_stats`.
    pub timed_stats: Vec<BlockDeviceTimedStats>,
    /// `rd_latency_histogram`.
    pub rd_latency_histogram: Option<BlockLatencyHistogramInfo>,
    /// `wr_latency_histogram`.
    pub wr_latency_histogram: Option<BlockLatencyHistogramInfo>,
    /// `zone_append_latency_histogram`.
    pub zone_append_latency_histogram: Option<BlockLatencyHistogramInfo>,
    /// `flush_latency_histogram`.
    pub flush_latency_histogram: Option<BlockLatencyHistogramInfo>,
}
impl DecodeMembers for BlockDeviceStats {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockDeviceStats {
            rd_bytes: members.required("rd_bytes")?,
            wr_bytes: members.required("wr_bytes")?,
            zone_append_bytes: members.required("zone_append_bytes")?,
            unmap_bytes: members.required("unmap_bytes")?,
            rd_operations: members.required("rd_operations")?,
            wr_operations: members.required("wr_operations")?,
            zone_append_operations: members.required("zone_append_operations")?,
            flush_operations: members.required("flush_operations")?,
            unmap_operations: members.required("unmap_operations")?,
            rd_total_time_ns: members.required("rd_total_time_ns")?,
            wr_total_time_ns: members.required("wr_total_time_ns")?,
            zone_append_total_time_ns: members.required("zone_append_total_time_ns")?,
            flush_total_time_ns: members.required("flush_total_time_ns")?,
            unmap_total_time_ns: members.required("unmap_total_time_ns")?,
            wr_highest_offset: members.required("wr_highest_offset")?,
            rd_merged: members.required("rd_merged")?,
            wr_merged: members.required("wr_merged")?,
            zone_append_merged: members.required("zone_append_merged")?,
            unmap_merged: members.required("unmap_merged")?,
            idle_time_ns: members.optional("idle_time_ns")?,
            failed_rd_operations: members.required("failed_rd_operations")?,
            failed_wr_operations: members.required("failed_wr_operations")?,
            failed_zone_append_operations: members.required("failed_zone_append_operations")?,
            failed_flush_operations: members.required("failed_flush_operations")?,
            failed_unmap_operations: members.required("failed_unmap_operations")?,
            invalid_rd_operations: members.required("invalid_rd_operations")?,
            invalid_wr_operations: members.required("invalid_wr_operations")?,
            invalid_zone_append_operations: members.required("invalid_zone_append_operations")?,
            invalid_flush_operations: members.required("invalid_flush_operations")?,
            invalid_unmap_operations: members.required("invalid_unmap_operations")?,
            account_invalid: members.required("account_invalid")?,
            account_failed: members.required("account_failed")?,
            timed_stats: members.required("timed_stats")?,
            rd_latency_histogram: members.optional("rd_latency_histogram")?,
            wr_latency_histogram: members.optional("wr_latency_histogram")?,
            zone_append_latency_histogram: members.optional("zone_append_latency_histogram")?,
            flush_latency_histogram: members.optional("flush_latency_histogram")?,
        })
    }
}
impl EncodeMembers for BlockDeviceStats {
    fn put(&self, out: &mut Out) {
        out.put("rd_bytes", &self.rd_bytes);
        out.put("wr_bytes", &self.wr_bytes);
        out.put("zone_append_bytes", &self.zone_append_bytes);
        out.put("unmap_bytes", &self.unmap_bytes);
        out.put("rd_operations", &self.rd_operations);
        out.put("wr_operations", &self.wr_operations);
        out.put("zone_append_operations", &self.zone_append_operations);
        out.put("flush_operations", &self.flush_operations);
        out.put("unmap_operations", &self.unmap_operations);
        out.put("rd_total_time_ns", &self.rd_total_time_ns);
        out.put("wr_total_time_ns", &self.wr_total_time_ns);
        out.put("zone_append_total_time_ns", &self.zone_append_total_time_ns);
        out.put("flush_total_time_ns", &self.flush_total_time_ns);
        out.put("unmap_total_time_ns", &self.unmap_total_time_ns);
        out.put("wr_highest_offset", &self.wr_highest_offset);
        out.put("rd_merged", &self.rd_merged);
        out.put("wr_merged", &self.wr_merged);
        out.put("zone_append_merged", &self.zone_append_merged);
        out.put("unmap_merged", &self.unmap_merged);
        out.put_some("idle_time_ns", &self.idle_time_ns);
        out.put("failed_rd_operations", &self.failed_rd_operations);
        out.put("failed_wr_operations", &self.failed_wr_operations);
        out.put(
            "failed_zone_append_operations",
            &self.failed_zone_append_operations,
        );
        out.put("failed_flush_operations", &self.failed_flush_operations);
        out.put("failed_unmap_operations", &self.failed_unmap_operations);
        out.put("invalid_rd_operations", &self.invalid_rd_operations);
        out.put("invalid_wr_operations", &self.invalid_wr_operations);
        out.put(
            "invalid_zone_append_operations",
            &self.invalid_zone_append_operations,
        );
        out.put("invalid_flush_operations", &self.invalid_flush_operations);
        out.put("invalid_unmap_operations", &self.invalid_unmap_operations);
        out.put("account_invalid", &self.account_invalid);
        out.put("account_failed", &self.account_failed);
        out.put("timed_stats", &self.timed_stats);
        out.put_some("rd_latency_histogram", &self.rd_latency_histogram);
        out.put_some("wr_latency_histogram", &self.wr_latency_histogram);
        out.put_some(
            "zone_append_latency_histogram",
            &self.zone_append_latency_histogram,
        );
        out.put_some("flush_latency_histogram", &self.flush_latency_histogram);
    }
}
object!(BlockDeviceStats);

/// What a block device or node has done, and those below it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStats {
    /// `device`.
    pub device: Option<String>,
    /// `qdev`.
    pub qdev: Option<String>,
    /// `node-name`.
    pub node_name: Option<String>,
    /// `stats`.
    pub stats: BlockDeviceStats,
    /// `driver-specific`.
    pub driver_specific: Option<BlockStatsSpecific>,
    /// `parent`.
    pub parent: Option<Box<BlockStats>>,
    /// `backing`.
    pub backing: Option<Box<BlockStats>>,
}
impl DecodeMembers for BlockStats {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockStats {
            device: members.optional("device")?,
            qdev: members.optional("qdev")?,
            node_name: members.optional("node-name")?,
            stats: members.required("stats")?,
            driver_specific: members.optional("driver-specific")?,
            parent: members.optional("parent")?,
            backing: members.optional("backing")?,
        })
    }
}
impl EncodeMembers for BlockStats {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("qdev", &self.qdev);
        out.put_some("node-name", &self.node_name);
        out.put("stats", &self.stats);
        out.put_some("driver-specific", &self.driver_specific);
        out.put_some("parent", &self.parent);
        out.put_some("backing", &self.backing);
    }
}
object!(BlockStats);

/// A character device.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevInfo {
    /// `label`.
    pub label: String,
    /// What it is connected to.
    pub filename: String,
    /// `frontend-open`.
    pub frontend_open: bool,
}
impl DecodeMembers for ChardevInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevInfo {
            label: members.required("label")?,
            filename: members.required("filename")?,
            frontend_open: members.required("frontend-open")?,
        })
    }
}
impl EncodeMembers for ChardevInfo {
    fn put(&self, out: &mut Out) {
        out.put("label", &self.label);
        out.put("filename", &self.filename);
        out.put("frontend-open", &self.frontend_open);
    }
}
object!(ChardevInfo);

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataFormat {
    /// `utf8`
    Utf8,
    /// `base64`
    Base64,
}
names!(DataFormat { Utf8 = "utf8", Base64 = "base64" });

/// What all character devices have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChardevCommon {
    /// All output is also written here.
    pub logfile: Option<String>,
    /// Keep what is in the log file.
    pub logappend: Option<bool>,
}
impl DecodeMembers for ChardevCommon {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevCommon {
            logfile: members.optional("logfile")?,
            logappend: members.optional("logappend")?,
        })
    }
}
impl EncodeMembers for ChardevCommon {
    fn put(&self, out: &mut Out) {
        out.put_some("logfile", &self.logfile);
        out.put_some("logappend", &self.logappend);
    }
}
object!(ChardevCommon);

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevFile {
    /// All output is also written here.
    pub logfile: Option<String>,
    /// Keep what is in the log file.
    pub logappend: Option<bool>,
    /// `in`.
    pub r#in: Option<String>,
    /// `out`.
    pub out: String,
    /// `append`.
    pub append: Option<bool>,
}
impl DecodeMembers for ChardevFile {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevFile {
            logfile: members.optional("logfile")?,
            logappend: members.optional("logappend")?,
            r#in: members.optional("in")?,
            out: members.required("out")?,
            append: members.optional("append")?,
        })
    }
}
impl EncodeMembers for ChardevFile {
    fn put(&self, out: &mut Out) {
        out.put_some("logfile", &self.logfile);
        out.put_some("logappend", &self.logappend);
        out.put_some("in", &self.r#in);
        out.put("out", &self.out);
        out.put_some("append", &self.append);
    }
}
object!(ChardevFile);

/// A terminal or port of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevHostdev {
    /// All output is also written here.
    pub logfile: Option<String>,
    /// Keep what is in the log file.
    pub logappend: Option<bool>,
    /// `device`.
    pub device: String,
}
impl DecodeMembers for ChardevHostdev {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevHostdev {
            logfile: members.optional("logfile")?,
            logappend: members.optional("logappend")?,
            device: members.required("device")?,
        })
    }
}
impl EncodeMembers for ChardevHostdev {
    fn put(&self, out: &mut Out) {
        out.put_some("logfile", &self.logfile);
        out.put_some("logappend", &self.logappend);
        out.put("device", &self.device);
    }
}
object!(ChardevHostdev);

/// A TCP address.
#[derive(Debug, Clone, PartialEq)]
pub struct InetSocketAddress {
    /// `host`.
    pub host: String,
    /// `port`.
    pub port: String,
    /// `numeric`.
    pub numeric: Option<bool>,
    /// `to`.
    pub to: Option<u16>,
    /// `ipv4`.
    pub ipv4: Option<bool>,
    /// `ipv6`.
    pub ipv6: Option<bool>,
    /// `keep-alive`.
    pub keep_alive: Option<bool>,
}
impl DecodeMembers for InetSocketAddress {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(InetSocketAddress {
            host: members.required("host")?,
            port: members.required("port")?,
            numeric: members.optional("numeric")?,
            to: members.optional("to")?,
            ipv4: members.optional("ipv4")?,
            ipv6: members.optional("ipv6")?,
            keep_alive: members.optional("keep-alive")?,
        })
    }
}
impl EncodeMembers for InetSocketAddress {
    fn put(&self, out: &mut Out) {
        out.put("host", &self.host);
        out.put("port", &self.port);
        out.put_some("numeric", &self.numeric);
        out.put_some("to", &self.to);
        out.put_some("ipv4", &self.ipv4);
        out.put_some("ipv6", &self.ipv6);
        out.put_some("keep-alive", &self.keep_alive);
    }
}
object!(InetSocketAddress);

/// A path.
#[derive(Debug, Clone, PartialEq)]
pub struct UnixSocketAddress {
    /// `path`.
    pub path: String,
    /// `abstract`.
    pub r#abstract: Option<bool>,
    /// `tight`.
    pub tight: Option<bool>,
}
impl DecodeMembers for UnixSocketAddress {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(UnixSocketAddress {
            path: members.required("path")?,
            r#abstract: members.optional("abstract")?,
            tight: members.optional("tight")?,
        })
    }
}
impl EncodeMembers for UnixSocketAddress {
    fn put(&self, out: &mut Out) {
        out.put("path", &self.path);
        out.put_some("abstract", &self.r#abstract);
        out.put_some("tight", &self.tight);
    }
}
object!(UnixSocketAddress);

/// A descriptor that was passed or inherited, by name or number.
#[derive(Debug, Clone, PartialEq)]
pub struct FdSocketAddress {
    /// `str`.
    pub str: String,
}
impl DecodeMembers for FdSocketAddress {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(FdSocketAddress {
            str: members.required("str")?,
        })
    }
}
impl EncodeMembers for FdSocketAddress {
    fn put(&self, out: &mut Out) {
        out.put("str", &self.str);
    }
}
object!(FdSocketAddress);

/// Kinds of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketAddressType {
    /// `inet`
    Inet,
    /// `unix`
    Unix,
    /// `fd`
    Fd,
}
names!(SocketAddressType { Inet = "inet", Unix = "unix", Fd = "fd" });

/// An address.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketAddress {
    /// What `type` says, with what belongs to it.
    pub r#type: SocketAddressBranch,
}
/// The branches of [`SocketAddress`].
#[derive(Debug, Clone, PartialEq)]
pub enum SocketAddressBranch {
    /// `inet`
    Inet(InetSocketAddress),
    /// `unix`
    Unix(UnixSocketAddress),
    /// `fd`
    Fd(FdSocketAddress),
}
impl SocketAddressBranch {
    /// The tag alone.
    pub const fn kind(&self) -> SocketAddressType {
        match self {
            SocketAddressBranch::Inet(_) => SocketAddressType::Inet,
            SocketAddressBranch::Unix(_) => SocketAddressType::Unix,
            SocketAddressBranch::Fd(_) => SocketAddressType::Fd,
        }
    }
}
impl DecodeMembers for SocketAddress {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<SocketAddressType>("type")?;

        let r#type = match kind {
            SocketAddressType::Inet => SocketAddressBranch::Inet(InetSocketAddress::take(members)?),
            SocketAddressType::Unix => SocketAddressBranch::Unix(UnixSocketAddress::take(members)?),
            SocketAddressType::Fd => SocketAddressBranch::Fd(FdSocketAddress::take(members)?),
        };
        Ok(SocketAddress { r#type })
    }
}
impl EncodeMembers for SocketAddress {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type.kind());
        match &self.r#type {
            SocketAddressBranch::Inet(branch) => branch.put(out),
            SocketAddressBranch::Unix(branch) => branch.put(out),
            SocketAddressBranch::Fd(branch) => branch.put(out),
        }
    }
}
object!(SocketAddress);

/// A TCP address, wrapped.
#[derive(Debug, Clone, PartialEq)]
pub struct InetSocketAddressWrapper {
    /// `data`.
    pub data: InetSocketAddress,
}
impl DecodeMembers for InetSocketAddressWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(InetSocketAddressWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for InetSocketAddressWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(InetSocketAddressWrapper);

/// A path, wrapped.
#[derive(Debug, Clone, PartialEq)]
pub struct UnixSocketAddressWrapper {
    /// `data`.
    pub data: UnixSocketAddress,
}
impl DecodeMembers for UnixSocketAddressWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(UnixSocketAddressWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for UnixSocketAddressWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(UnixSocketAddressWrapper);

/// A descriptor, wrapped.
#[derive(Debug, Clone, PartialEq)]
pub struct FdSocketAddressWrapper {
    /// `data`.
    pub data: FdSocketAddress,
}
impl DecodeMembers for FdSocketAddressWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(FdSocketAddressWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for FdSocketAddressWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(FdSocketAddressWrapper);

/// An address in the older, wrapped notation.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketAddressLegacy {
    /// What `type` says, with what belongs to it.
    pub r#type: SocketAddressLegacyBranch,
}
/// The branches of [`SocketAddressLegacy`].
#[derive(Debug, Clone, PartialEq)]
pub enum SocketAddressLegacyBranch {
    /// `inet`
    Inet(InetSocketAddressWrapper),
    /// `unix`
    Unix(UnixSocketAddressWrapper),
    /// `fd`
    Fd(FdSocketAddressWrapper),
}
impl SocketAddressLegacyBranch {
    /// The tag alone.
    pub const fn kind(&self) -> SocketAddressType {
        match self {
            SocketAddressLegacyBranch::Inet(_) => SocketAddressType::Inet,
            SocketAddressLegacyBranch::Unix(_) => SocketAddressType::Unix,
            SocketAddressLegacyBranch::Fd(_) => SocketAddressType::Fd,
        }
    }
}
impl DecodeMembers for SocketAddressLegacy {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<SocketAddressType>("type")?;

        let r#type = match kind {
            SocketAddressType::Inet => {
                SocketAddressLegacyBranch::Inet(InetSocketAddressWrapper::take(members)?)
            }
            SocketAddressType::Unix => {
                SocketAddressLegacyBranch::Unix(UnixSocketAddressWrapper::take(members)?)
            }
            SocketAddressType::Fd => {
                SocketAddressLegacyBranch::Fd(FdSocketAddressWrapper::take(members)?)
            }
        };
        Ok(SocketAddressLegacy { r#type })
    }
}
impl EncodeMembers for SocketAddressLegacy {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type.kind());
        match &self.r#type {
            SocketAddressLegacyBranch::Inet(branch) => branch.put(out),
            SocketAddressLegacyBranch::Unix(branch) => branch.put(out),
            SocketAddressLegacyBranch::Fd(branch) => branch.put(out),
        }
    }
}
object!(SocketAddressLegacy);

/// A stream socket.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevSocket {
    /// All output is also written here.
    pub logfile: Option<String>,
    /// Keep what is in the log file.
    pub logappend: Option<bool>,
    /// `addr`.
    pub addr: SocketAddressLegacy,
    /// Listen; on by default.
    pub server: Option<bool>,
    /// A server waits for its first client at the start.
    pub wait: Option<bool>,
    /// Send small packets at once.
    pub nodelay: Option<bool>,
    /// `telnet`.
    pub telnet: Option<bool>,
    /// `tn3270`.
    pub tn3270: Option<bool>,
    /// `websocket`.
    pub websocket: Option<bool>,
    /// Seconds until a client tries again.
    pub reconnect: Option<i64>,
    /// Milliseconds until a client tries again.
    pub reconnect_ms: Option<i64>,
    /// Speak TLS with these credentials.
    pub tls_creds: Option<String>,
    /// Only peers whose certificate's name is on this list may come in.
    pub tls_authz: Option<String>,
    /// Of a listening unix socket's file, in octal: who may connect. Not in QEMU.
    pub mode: Option<String>,
    /// Of a listening unix socket's file, by name or number. Not in QEMU.
    pub group: Option<String>,
    /// A monitor may be reached from other hosts without TLS. Not in QEMU.
    pub insecure: Option<bool>,
}
impl DecodeMembers for ChardevSocket {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevSocket {
            logfile: members.optional("logfile")?,
            logappend: members.optional("logappend")?,
            addr: members.required("addr")?,
            server: members.optional("server")?,
            wait: members.optional("wait")?,
            nodelay: members.optional("nodelay")?,
            telnet: members.optional("telnet")?,
            tn3270: members.optional("tn3270")?,
            websocket: members.optional("websocket")?,
            reconnect: members.optional("reconnect")?,
            reconnect_ms: members.optional("reconnect-ms")?,
            tls_creds: members.optional("tls-creds")?,
            tls_authz: members.optional("tls-authz")?,
            mode: members.optional("mode")?,
            group: members.optional("group")?,
            insecure: members.optional("insecure")?,
        })
    }
}
impl EncodeMembers for ChardevSocket {
    fn put(&self, out: &mut Out) {
        out.put_some("logfile", &self.logfile);
        out.put_some("logappend", &self.logappend);
        out.put("addr", &self.addr);
        out.put_some("server", &self.server);
        out.put_some("wait", &self.wait);
        out.put_some("nodelay", &self.nodelay);
        out.put_some("telnet", &self.telnet);
        out.put_some("tn3270", &self.tn3270);
        out.put_some("websocket", &self.websocket);
        out.put_some("reconnect", &self.reconnect);
        out.put_some("reconnect-ms", &self.reconnect_ms);
        out.put_some("tls-creds", &self.tls_creds);
        out.put_some("tls-authz", &self.tls_authz);
        out.put_some("mode", &self.mode);
        out.put_some("group", &self.group);
        out.put_some("insecure", &self.insecure);
    }
}
object!(ChardevSocket);

/// Standard input and output.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChardevStdio {
    /// All output is also written here.
    pub logfile: Option<String>,
    /// Keep what is in the log file.
    pub logappend: Option<bool>,
    /// Control-C ends the program.
    pub signal: Option<bool>,
}
impl DecodeMembers for ChardevStdio {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevStdio {
            logfile: members.optional("logfile")?,
            logappend: members.optional("logappend")?,
            signal: members.optional("signal")?,
        })
    }
}
impl EncodeMembers for ChardevStdio {
    fn put(&self, out: &mut Out) {
        out.put_some("logfile", &self.logfile);
        out.put_some("logappend", &self.logappend);
        out.put_some("signal", &self.signal);
    }
}
object!(ChardevStdio);

/// A ring buffer in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChardevRingbuf {
    /// All output is also written here.
    pub logfile: Option<String>,
    /// Keep what is in the log file.
    pub logappend: Option<bool>,
    /// Bytes, a power of two; 65536 by default.
    pub size: Option<i64>,
}
impl DecodeMembers for ChardevRingbuf {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevRingbuf {
            logfile: members.optional("logfile")?,
            logappend: members.optional("logappend")?,
            size: members.optional("size")?,
        })
    }
}
impl EncodeMembers for ChardevRingbuf {
    fn put(&self, out: &mut Out) {
        out.put_some("logfile", &self.logfile);
        out.put_some("logappend", &self.logappend);
        out.put_some("size", &self.size);
    }
}
object!(ChardevRingbuf);

/// Kinds of character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChardevBackendKind {
    /// `file`
    File,
    /// `pty`
    Pty,
    /// `null`
    Null,
    /// `socket`
    Socket,
    /// `stdio`
    Stdio,
    /// `ringbuf`
    Ringbuf,
    /// `memory`
    Memory,
}
names!(ChardevBackendKind { File = "file", Pty = "pty", Null = "null", Socket = "socket", Stdio = "stdio", Ringbuf = "ringbuf", Memory = "memory" });

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevFileWrapper {
    /// `data`.
    pub data: ChardevFile,
}
impl DecodeMembers for ChardevFileWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevFileWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ChardevFileWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ChardevFileWrapper);

/// A stream socket.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevSocketWrapper {
    /// `data`.
    pub data: ChardevSocket,
}
impl DecodeMembers for ChardevSocketWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevSocketWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ChardevSocketWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ChardevSocketWrapper);

/// A kind without options of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevCommonWrapper {
    /// `data`.
    pub data: ChardevCommon,
}
impl DecodeMembers for ChardevCommonWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevCommonWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ChardevCommonWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ChardevCommonWrapper);

/// Standard input and output.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevStdioWrapper {
    /// `data`.
    pub data: ChardevStdio,
}
impl DecodeMembers for ChardevStdioWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevStdioWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ChardevStdioWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ChardevStdioWrapper);

/// A ring buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevRingbufWrapper {
    /// `data`.
    pub data: ChardevRingbuf,
}
impl DecodeMembers for ChardevRingbufWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevRingbufWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ChardevRingbufWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ChardevRingbufWrapper);

/// The host side of a character device.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevBackend {
    /// What `type` says, with what belongs to it.
    pub r#type: ChardevBackendBranch,
}
/// The branches of [`ChardevBackend`].
#[derive(Debug, Clone, PartialEq)]
pub enum ChardevBackendBranch {
    /// `file`
    File(ChardevFileWrapper),
    /// `pty`
    Pty(ChardevCommonWrapper),
    /// `null`
    Null(ChardevCommonWrapper),
    /// `socket`
    Socket(ChardevSocketWrapper),
    /// `stdio`
    Stdio(ChardevStdioWrapper),
    /// `ringbuf`
    Ringbuf(ChardevRingbufWrapper),
    /// `memory`
    Memory(ChardevRingbufWrapper),
}
impl ChardevBackendBranch {
    /// The tag alone.
    pub const fn kind(&self) -> ChardevBackendKind {
        match self {
            ChardevBackendBranch::File(_) => ChardevBackendKind::File,
            ChardevBackendBranch::Pty(_) => ChardevBackendKind::Pty,
            ChardevBackendBranch::Null(_) => ChardevBackendKind::Null,
            ChardevBackendBranch::Socket(_) => ChardevBackendKind::Socket,
            ChardevBackendBranch::Stdio(_) => ChardevBackendKind::Stdio,
            ChardevBackendBranch::Ringbuf(_) => ChardevBackendKind::Ringbuf,
            ChardevBackendBranch::Memory(_) => ChardevBackendKind::Memory,
        }
    }
}
impl DecodeMembers for ChardevBackend {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<ChardevBackendKind>("type")?;

        let r#type = match kind {
            ChardevBackendKind::File => {
                ChardevBackendBranch::File(ChardevFileWrapper::take(members)?)
            }
            ChardevBackendKind::Pty => {
                ChardevBackendBranch::Pty(ChardevCommonWrapper::take(members)?)
            }
            ChardevBackendKind::Null => {
                ChardevBackendBranch::Null(ChardevCommonWrapper::take(members)?)
            }
            ChardevBackendKind::Socket => {
                ChardevBackendBranch::Socket(ChardevSocketWrapper::take(members)?)
            }
            ChardevBackendKind::Stdio => {
                ChardevBackendBranch::Stdio(ChardevStdioWrapper::take(members)?)
            }
            ChardevBackendKind::Ringbuf => {
                ChardevBackendBranch::Ringbuf(ChardevRingbufWrapper::take(members)?)
            }
            ChardevBackendKind::Memory => {
                ChardevBackendBranch::Memory(ChardevRingbufWrapper::take(members)?)
            }
        };
        Ok(ChardevBackend { r#type })
    }
}
impl EncodeMembers for ChardevBackend {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type.kind());
        match &self.r#type {
            ChardevBackendBranch::File(branch) => branch.put(out),
            ChardevBackendBranch::Pty(branch) => branch.put(out),
            ChardevBackendBranch::Null(branch) => branch.put(out),
            ChardevBackendBranch::Socket(branch) => branch.put(out),
            ChardevBackendBranch::Stdio(branch) => branch.put(out),
            ChardevBackendBranch::Ringbuf(branch) => branch.put(out),
            ChardevBackendBranch::Memory(branch) => branch.put(out),
        }
    }
}
object!(ChardevBackend);

/// What making a character device gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChardevReturn {
    /// The terminal to open.
    pub pty: Option<String>,
}
impl DecodeMembers for ChardevReturn {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevReturn {
            pty: members.optional("pty")?,
        })
    }
}
impl EncodeMembers for ChardevReturn {
    fn put(&self, out: &mut Out) {
        out.put_some("pty", &self.pty);
    }
}
object!(ChardevReturn);

/// Kinds of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobType {
    /// `commit`
    Commit,
    /// `stream`
    Stream,
    /// `mirror`
    Mirror,
    /// `backup`
    Backup,
    /// `create`
    Create,
    /// `amend`
    Amend,
    /// `snapshot-load`
    SnapshotLoad,
    /// `snapshot-save`
    SnapshotSave,
    /// `snapshot-delete`
    SnapshotDelete,
}
names!(JobType { Commit = "commit", Stream = "stream", Mirror = "mirror", Backup = "backup", Create = "create", Amend = "amend", SnapshotLoad = "snapshot-load", SnapshotSave = "snapshot-save", SnapshotDelete = "snapshot-delete" });

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobStatus {
    /// `undefined`
    Undefined,
    /// `created`
    Created,
    /// `running`
    Running,
    /// `paused`
    Paused,
    /// `ready`
    Ready,
    /// `standby`
    Standby,
    /// `waiting`
    Waiting,
    /// `pending`
    Pending,
    /// `aborting`
    Aborting,
    /// `concluded`
    Concluded,
    /// `null`
    Null,
}
names!(JobStatus { Undefined = "undefined", Created = "created", Running = "running", Paused = "paused", Ready = "ready", Standby = "standby", Waiting = "waiting", Pending = "pending", Aborting = "aborting", Concluded = "concluded", Null = "null" });

/// What can be asked of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobVerb {
    /// `cancel`
    Cancel,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `set-speed`
    SetSpeed,
    /// `complete`
    Complete,
    /// `dismiss`
    Dismiss,
    /// `finalize`
    Finalize,
    /// `change`
    Change,
}
names!(JobVerb { Cancel = "cancel", Pause = "pause", Resume = "resume", SetSpeed = "set-speed", Complete = "complete", Dismiss = "dismiss", Finalize = "finalize", Change = "change" });

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInfo {
    /// Its name.
    pub id: String,
    /// What it does.
    pub r#type: JobType,
    /// Where it is.
    pub status: JobStatus,
    /// Steps done.
    pub current_progress: i64,
    /// Steps that are known to be done in all.
    pub total_progress: i64,
    /// Why it failed.
    pub error: Option<String>,
}
impl DecodeMembers for JobInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobInfo {
            id: members.required("id")?,
            r#type: members.required("type")?,
            status: members.required("status")?,
            current_progress: members.required("current-progress")?,
            total_progress: members.required("total-progress")?,
            error: members.optional("error")?,
        })
    }
}
impl EncodeMembers for JobInfo {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put("type", &self.r#type);
        out.put("status", &self.status);
        out.put("current-progress", &self.current_progress);
        out.put("total-progress", &self.total_progress);
        out.put_some("error", &self.error);
    }
}
object!(JobInfo);

/// What requests are limited to: bytes and requests per second, in bursts, and seconds that a
/// burst may last. 0 is no limit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleLimits {
    /// `iops-total`.
    pub iops_total: Option<i64>,
    /// `iops-total-max`.
    pub iops_total_max: Option<i64>,
    /// `iops-total-max-length`.
    pub iops_total_max_length: Option<i64>,
    /// `iops-read`.
    pub iops_read: Option<i64>,
    /// `iops-read-max`.
    pub iops_read_max: Option<i64>,
    /// `iops-read-max-length`.
    pub iops_read_max_length: Option<i64>,
    /// `iops-write`.
    pub iops_write: Option<i64>,
    /// `iops-write-max`.
    pub iops_write_max: Option<i64>,
    /// `iops-write-max-length`.
    pub iops_write_max_length: Option<i64>,
    /// `bps-total`.
    pub bps_total: Option<i64>,
    /// `bps-total-max`.
    pub bps_total_max: Option<i64>,
    /// `bps-total-max-length`.
    pub bps_total_max_length: Option<i64>,
    /// `bps-read`.
    pub bps_read: Option<i64>,
    /// `bps-read-max`.
    pub bps_read_max: Option<i64>,
    /// `bps-read-max-length`.
    pub bps_read_max_length: Option<i64>,
    /// `bps-write`.
    pub bps_write: Option<i64>,
    /// `bps-write-max`.
    pub bps_write_max: Option<i64>,
    /// `bps-write-max-length`.
    pub bps_write_max_length: Option<i64>,
    /// A request counts once for each so many bytes.
    pub iops_size: Option<i64>,
}
impl DecodeMembers for ThrottleLimits {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ThrottleLimits {
            iops_total: members.optional("iops-total")?,
            iops_total_max: members.optional("iops-total-max")?,
            iops_total_max_length: members.optional("iops-total-max-length")?,
            iops_read: members.optional("iops-read")?,
            iops_read_max: members.optional("iops-read-max")?,
            iops_read_max_length: members.optional("iops-read-max-length")?,
            iops_write: members.optional("iops-write")?,
            iops_write_max: members.optional("iops-write-max")?,
            iops_write_max_length: members.optional("iops-write-max-length")?,
            bps_total: members.optional("bps-total")?,
            bps_total_max: members.optional("bps-total-max")?,
            bps_total_max_length: members.optional("bps-total-max-length")?,
            bps_read: members.optional("bps-read")?,
            bps_read_max: members.optional("bps-read-max")?,
            bps_read_max_length: members.optional("bps-read-max-length")?,
            bps_write: members.optional("bps-write")?,
            bps_write_max: members.optional("bps-write-max")?,
            bps_write_max_length: members.optional("bps-write-max-length")?,
            iops_size: members.optional("iops-size")?,
        })
    }
}
impl EncodeMembers for ThrottleLimits {
    fn put(&self, out: &mut Out) {
        out.put_some("iops-total", &self.iops_total);
        out.put_some("iops-total-max", &self.iops_total_max);
        out.put_some("iops-total-max-length", &self.iops_total_max_length);
        out.put_some("iops-read", &self.iops_read);
        out.put_some("iops-read-max", &self.iops_read_max);
        out.put_some("iops-read-max-length", &self.iops_read_max_length);
        out.put_some("iops-write", &self.iops_write);
        out.put_some("iops-write-max", &self.iops_write_max);
        out.put_some("iops-write-max-length", &self.iops_write_max_length);
        out.put_some("bps-total", &self.bps_total);
        out.put_some("bps-total-max", &self.bps_total_max);
        out.put_some("bps-total-max-length", &self.bps_total_max_length);
        out.put_some("bps-read", &self.bps_read);
        out.put_some("bps-read-max", &self.bps_read_max);
        out.put_some("bps-read-max-length", &self.bps_read_max_length);
        out.put_some("bps-write", &self.bps_write);
        out.put_some("bps-write-max", &self.bps_write_max);
        out.put_some("bps-write-max-length", &self.bps_write_max_length);
        out.put_some("iops-size", &self.iops_size);
    }
}
object!(ThrottleLimits);

/// Limits that several disks share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleGroupProperties {
    /// The limits.
    pub limits: Option<ThrottleLimits>,
    /// `x-iops-total`.
    pub x_iops_total: Option<i64>,
    /// `x-iops-total-max`.
    pub x_iops_total_max: Option<i64>,
    /// `x-iops-total-max-length`.
    pub x_iops_total_max_length: Option<i64>,
    /// `x-iops-read`.
    pub x_iops_read: Option<i64>,
    /// `x-iops-read-max`.
    pub x_iops_read_max: Option<i64>,
    /// `x-iops-read-max-length`.
    pub x_iops_read_max_length: Option<i64>,
    /// `x-iops-write`.
    pub x_iops_write: Option<i64>,
    /// `x-iops-write-max`.
    pub x_iops_write_max: Option<i64>,
    /// `x-iops-write-max-length`.
    pub x_iops_write_max_length: Option<i64>,
    /// `x-bps-total`.
    pub x_bps_total: Option<i64>,
    /// `x-bps-total-max`.
    pub x_bps_total_max: Option<i64>,
    /// `x-bps-total-max-length`.
    pub x_bps_total_max_length: Option<i64>,
    /// `x-bps-read`.
    pub x_bps_read: Option<i64>,
    /// `x-bps-read-max`.
    pub x_bps_read_max: Option<i64>,
    /// `x-bps-read-max-length`.
    pub x_bps_read_max_length: Option<i64>,
    /// `x-bps-write`.
    pub x_bps_write: Option<i64>,
    /// `x-bps-write-max`.
    pub x_bps_write_max: Option<i64>,
    /// `x-bps-write-max-length`.
    pub x_bps_write_max_length: Option<i64>,
    /// `x-iops-size`.
    pub x_iops_size: Option<i64>,
}
impl DecodeMembers for ThrottleGroupProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ThrottleGroupProperties {
            limits: members.optional("limits")?,
            x_iops_total: members.optional("x-iops-total")?,
            x_iops_total_max: members.optional("x-iops-total-max")?,
            x_iops_total_max_length: members.optional("x-iops-total-max-length")?,
            x_iops_read: members.optional("x-iops-read")?,
            x_iops_read_max: members.optional("x-iops-read-max")?,
            x_iops_read_max_length: members.optional("x-iops-read-max-length")?,
            x_iops_write: members.optional("x-iops-write")?,
            x_iops_write_max: members.optional("x-iops-write-max")?,
            x_iops_write_max_length: members.optional("x-iops-write-max-length")?,
            x_bps_total: members.optional("x-bps-total")?,
            x_bps_total_max: members.optional("x-bps-total-max")?,
            x_bps_total_max_length: members.optional("x-bps-total-max-length")?,
            x_bps_read: members.optional("x-bps-read")?,
            x_bps_read_max: members.optional("x-bps-read-max")?,
            x_bps_read_max_length: members.optional("x-bps-read-max-length")?,
            x_bps_write: members.optional("x-bps-write")?,
            x_bps_write_max: members.optional("x-bps-write-max")?,
            x_bps_write_max_length: members.optional("x-bps-write-max-length")?,
            x_iops_size: members.optional("x-iops-size")?,
        })
    }
}
impl EncodeMembers for ThrottleGroupProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("limits", &self.limits);
        out.put_some("x-iops-total", &self.x_iops_total);
        out.put_some("x-iops-total-max", &self.x_iops_total_max);
        out.put_some("x-iops-total-max-length", &self.x_iops_total_max_length);
        out.put_some("x-iops-read", &self.x_iops_read);
        out.put_some("x-iops-read-max", &self.x_iops_read_max);
        out.put_some("x-iops-read-max-length", &self.x_iops_read_max_length);
        out.put_some("x-iops-write", &self.x_iops_write);
        out.put_some("x-iops-write-max", &self.x_iops_write_max);
        out.put_some("x-iops-write-max-length", &self.x_iops_write_max_length);
        out.put_some("x-bps-total", &self.x_bps_total);
        out.put_some("x-bps-total-max", &self.x_bps_total_max);
        out.put_some("x-bps-total-max-length", &self.x_bps_total_max_length);
        out.put_some("x-bps-read", &self.x_bps_read);
        out.put_some("x-bps-read-max", &self.x_bps_read_max);
        out.put_some("x-bps-read-max-length", &self.x_bps_read_max_length);
        out.put_some("x-bps-write", &self.x_bps_write);
        out.put_some("x-bps-write-max", &self.x_bps_write_max);
        out.put_some("x-bps-write-max-length", &self.x_bps_write_max_length);
        out.put_some("x-iops-size", &self.x_iops_size);
    }
}
object!(ThrottleGroupProperties);

/// Limits of a block device. 0 is no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockIOThrottle {
    /// The drive's name.
    pub device: Option<String>,
    /// The device's id or QOM path.
    pub id: Option<String>,
    /// Bytes per second.
    pub bps: i64,
    /// Bytes read.
    pub bps_rd: i64,
    /// Bytes written.
    pub bps_wr: i64,
    /// Requests per second.
    pub iops: i64,
    /// Reads.
    pub iops_rd: i64,
    /// Writes.
    pub iops_wr: i64,
    /// In bursts, as the others that end so.
    pub bps_max: Option<i64>,
    /// `bps_rd_max`.
    pub bps_rd_max: Option<i64>,
    /// `bps_wr_max`.
    pub bps_wr_max: Option<i64>,
    /// `iops_max`.
    pub iops_max: Option<i64>,
    /// `iops_rd_max`.
    pub iops_rd_max: Option<i64>,
    /// `iops_wr_max`.
    pub iops_wr_max: Option<i64>,
    /// Seconds that a burst may last, as the others that end so.
    pub bps_max_length: Option<i64>,
    /// `bps_rd_max_length`.
    pub bps_rd_max_length: Option<i64>,
    /// `bps_wr_max_length`.
    pub bps_wr_max_length: Option<i64>,
    /// `iops_max_length`.
    pub iops_max_length: Option<i64>,
    /// `iops_rd_max_length`.
    pub iops_rd_max_length: Option<i64>,
    /// `iops_wr_max_length`.
    pub iops_wr_max_length: Option<i64>,
    /// A request counts once for each so many bytes.
    pub iops_size: Option<i64>,
    /// The group that it shares the limits with; one of its own by default.
    pub group: Option<String>,
}
impl DecodeMembers for BlockIOThrottle {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockIOThrottle {
            device: members.optional("device")?,
            id: members.optional("id")?,
            bps: members.required("bps")?,
            bps_rd: members.required("bps_rd")?,
            bps_wr: members.required("bps_wr")?,
            iops: members.required("iops")?,
            iops_rd: members.required("iops_rd")?,
            iops_wr: members.required("iops_wr")?,
            bps_max: members.optional("bps_max")?,
            bps_rd_max: members.optional("bps_rd_max")?,
            bps_wr_max: members.optional("bps_wr_max")?,
            iops_max: members.optional("iops_max")?,
            iops_rd_max: members.optional("iops_rd_max")?,
            iops_wr_max: members.optional("iops_wr_max")?,
            bps_max_length: members.optional("bps_max_length")?,
            bps_rd_max_length: members.optional("bps_rd_max_length")?,
            bps_wr_max_length: members.optional("bps_wr_max_length")?,
            iops_max_length: members.optional("iops_max_length")?,
            iops_rd_max_length: members.optional("iops_rd_max_length")?,
            iops_wr_max_length: members.optional("iops_wr_max_length")?,
            iops_size: members.optional("iops_size")?,
            group: members.optional("group")?,
        })
    }
}
impl EncodeMembers for BlockIOThrottle {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("id", &self.id);
        out.put("bps", &self.bps);
        out.put("bps_rd", &self.bps_rd);
        out.put("bps_wr", &self.bps_wr);
        out.put("iops", &self.iops);
        out.put("iops_rd", &self.iops_rd);
        out.put("iops_wr", &self.iops_wr);
        out.put_some("bps_max", &self.bps_max);
        out.put_some("bps_rd_max", &self.bps_rd_max);
        out.put_some("bps_wr_max", &self.bps_wr_max);
        out.put_some("iops_max", &self.iops_max);
        out.put_some("iops_rd_max", &self.iops_rd_max);
        out.put_some("iops_wr_max", &self.iops_wr_max);
        out.put_some("bps_max_length", &self.bps_max_length);
        out.put_some("bps_rd_max_length", &self.bps_rd_max_length);
        out.put_some("bps_wr_max_length", &self.bps_wr_max_length);
        out.put_some("iops_max_length", &self.iops_max_length);
        out.put_some("iops_rd_max_length", &self.iops_rd_max_length);
        out.put_some("iops_wr_max_length", &self.iops_wr_max_length);
        out.put_some("iops_size", &self.iops_size);
        out.put_some("group", &self.group);
    }
}
object!(BlockIOThrottle);

/// How many requests took how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockLatencyHistogramInfo {
    /// Nanoseconds where one bin ends and the next begins.
    pub boundaries: Vec<u64>,
    /// Requests in each; one more than boundaries.
    pub bins: Vec<u64>,
}
impl DecodeMembers for BlockLatencyHistogramInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockLatencyHistogramInfo {
            boundaries: members.required("boundaries")?,
            bins: members.required("bins")?,
        })
    }
}
impl EncodeMembers for BlockLatencyHistogramInfo {
    fn put(&self, out: &mut Out) {
        out.put("boundaries", &self.boundaries);
        out.put("bins", &self.bins);
    }
}
object!(BlockLatencyHistogramInfo);

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IoOperationType {
    /// `read`
    Read,
    /// `write`
    Write,
}
names!(IoOperationType { Read = "read", Write = "write" });

/// What was done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockErrorAction {
    /// `ignore`
    Ignore,
    /// `report`
    Report,
    /// `stop`
    Stop,
}
names!(BlockErrorAction { Ignore = "ignore", Report = "report", Stop = "stop" });

/// Whether storage is there before something is written: not, that of a format's tables, kept
/// free, or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PreallocMode {
    /// `off`
    Off,
    /// `metadata`
    Metadata,
    /// `falloc`
    Falloc,
    /// `full`
    Full,
}
names!(PreallocMode { Off = "off", Metadata = "metadata", Falloc = "falloc", Full = "full" });

/// A file to make.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsFile {
    /// Its path.
    pub filename: String,
    /// Bytes.
    pub size: crate::decode::Size,
    /// Whether storage is there; off by default. Not metadata.
    pub preallocation: Option<PreallocMode>,
    /// On file systems that copy on write: overwrite in place.
    pub nocow: Option<bool>,
    /// Bytes that the file system is told to allocate at a time; 1 MiB by default, 0 for its own
    /// choice.
    pub extent_size_hint: Option<crate::decode::Size>,
}
impl DecodeMembers for BlockdevCreateOptionsFile {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCreateOptionsFile {
            filename: members.required("filename")?,
            size: members.required("size")?,
            preallocation: members.optional("preallocation")?,
            nocow: members.optional("nocow")?,
            extent_size_hint: members.optional("extent-size-hint")?,
        })
    }
}
impl EncodeMembers for BlockdevCreateOptionsFile {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put("size", &self.size);
        out.put_some("preallocation", &self.preallocation);
        out.put_some("nocow", &self.nocow);
        out.put_some("extent-size-hint", &self.extent_size_hint);
    }
}
object!(BlockdevCreateOptionsFile);

/// Versions of qcow2: that of QEMU 0.10, and that of QEMU 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevQcow2Version {
    /// `v2`
    V2,
    /// `v3`
    V3,
}
names!(BlockdevQcow2Version { V2 = "v2", V3 = "v3" });

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2CompressionType {
    /// `zlib`
    Zlib,
    /// `zstd`
    Zstd,
}
names!(Qcow2CompressionType { Zlib = "zlib", Zstd = "zstd" });

/// A qcow2 image to make.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsQcow2 {
    /// The node that it is written into.
    pub file: BlockdevRef,
    /// The node that data go to.
    pub data_file: Option<BlockdevRef>,
    /// The data file can be read as a raw image.
    pub data_file_raw: Option<bool>,
    /// Clusters have subclusters.
    pub extended_l2: Option<bool>,
    /// Bytes of the disk.
    pub size: crate::decode::Size,
    /// v3 by default.
    pub version: Option<BlockdevQcow2Version>,
    /// The name of the backing file.
    pub backing_file: Option<String>,
    /// The backing file's format.
    pub backing_fmt: Option<BlockdevDriver>,
    /// Bytes of a cluster; 64 KiB by default.
    pub cluster_size: Option<crate::decode::Size>,
    /// Whether storage is there; off by default.
    pub preallocation: Option<PreallocMode>,
    /// Refcounts are put off.
    pub lazy_refcounts: Option<bool>,
    /// Bits of a refcount; 16 by default.
    pub refcount_bits: Option<i64>,
    /// How clusters are compressed; zlib by default.
    pub compression_type: Option<Qcow2CompressionType>,
}
impl DecodeMembers for BlockdevCreateOptionsQcow2 {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCreateOptionsQcow2 {
            file: members.required("file")?,
            data_file: members.optional("data-file")?,
            data_file_raw: members.optional("data-file-raw")?,
            extended_l2: members.optional("extended-l2")?,
            size: members.required("size")?,
            version: members.optional("version")?,
            backing_file: members.optional("backing-file")?,
            backing_fmt: members.optional("backing-fmt")?,
            cluster_size: members.optional("cluster-size")?,
            preallocation: members.optional("preallocation")?,
            lazy_refcounts: members.optional("lazy-refcounts")?,
            refcount_bits: members.optional("refcount-bits")?,
            compression_type: members.optional("compression-type")?,
        })
    }
}
impl EncodeMembers for BlockdevCreateOptionsQcow2 {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
        out.put_some("data-file", &self.data_file);
        out.put_some("data-file-raw", &self.data_file_raw);
        out.put_some("extended-l2", &self.extended_l2);
        out.put("size", &self.size);
        out.put_some("version", &self.version);
        out.put_some("backing-file", &self.backing_file);
        out.put_some("backing-fmt", &self.backing_fmt);
        out.put_some("cluster-size", &self.cluster_size);
        out.put_some("preallocation", &self.preallocation);
        out.put_some("lazy-refcounts", &self.lazy_refcounts);
        out.put_some("refcount-bits", &self.refcount_bits);
        out.put_some("compression-type", &self.compression_type);
    }
}
object!(BlockdevCreateOptionsQcow2);

/// A qed image to make.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsQed {
    /// The node that it is written into.
    pub file: BlockdevRef,
    /// Bytes of the disk.
    pub size: crate::decode::Size,
    /// The name of the backing file.
    pub backing_file: Option<String>,
    /// The backing file's format.
    pub backing_fmt: Option<BlockdevDriver>,
    /// Bytes of a cluster; 64 KiB by default.
    pub cluster_size: Option<crate::decode::Size>,
    /// Clusters of a table; 4 by default.
    pub table_size: Option<i64>,
}
impl DecodeMembers for BlockdevCreateOptionsQed {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCreateOptionsQed {
            file: members.required("file")?,
            size: members.required("size")?,
            backing_file: members.optional("backing-file")?,
            backing_fmt: members.optional("backing-fmt")?,
            cluster_size: members.optional("cluster-size")?,
            table_size: members.optional("table-size")?,
        })
    }
}
impl EncodeMembers for BlockdevCreateOptionsQed {
    fn put(&self, out: &mut Out) {
        out.put("file", &self.file);
        out.put("size", &self.size);
        out.put_some("backing-file", &self.backing_file);
        out.put_some("backing-fmt", &self.backing_fmt);
        out.put_some("cluster-size", &self.cluster_size);
        out.put_some("table-size", &self.table_size);
    }
}
object!(BlockdevCreateOptionsQed);

/// An image to make.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptions {
    /// What `driver` says, with what belongs to it.
    pub driver: BlockdevCreateOptionsBranch,
}
/// The branches of [`BlockdevCreateOptions`].
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevCreateOptionsBranch {
    /// `blkdebug`
    Blkdebug,
    /// `copy-on-read`
    CopyOnRead,
    /// `file`
    File(BlockdevCreateOptionsFile),
    /// `host_device`
    HostDevice,
    /// `null-co`
    NullCo,
    /// `qcow2`
    Qcow2(BlockdevCreateOptionsQcow2),
    /// `qed`
    Qed(BlockdevCreateOptionsQed),
    /// `raw`
    Raw,
    /// `throttle`
    Throttle,
    /// `vhdx`
    Vhdx,
    /// `vmdk`
    Vmdk,
    /// `vpc`
    Vpc,
}
impl BlockdevCreateOptionsBranch {
    /// The tag alone.
    pub const fn kind(&self) -> BlockdevDriver {
        match self {
            BlockdevCreateOptionsBranch::Blkdebug => BlockdevDriver::Blkdebug,
            BlockdevCreateOptionsBranch::CopyOnRead => BlockdevDriver::CopyOnRead,
            BlockdevCreateOptionsBranch::File(_) => BlockdevDriver::File,
            BlockdevCreateOptionsBranch::HostDevice => BlockdevDriver::HostDevice,
            BlockdevCreateOptionsBranch::NullCo => BlockdevDriver::NullCo,
            BlockdevCreateOptionsBranch::Qcow2(_) => BlockdevDriver::Qcow2,
            BlockdevCreateOptionsBranch::Qed(_) => BlockdevDriver::Qed,
            BlockdevCreateOptionsBranch::Raw => BlockdevDriver::Raw,
            BlockdevCreateOptionsBranch::Throttle => BlockdevDriver::Throttle,
            BlockdevCreateOptionsBranch::Vhdx => BlockdevDriver::Vhdx,
            BlockdevCreateOptionsBranch::Vmdk => BlockdevDriver::Vmdk,
            BlockdevCreateOptionsBranch::Vpc => BlockdevDriver::Vpc,
        }
    }
}
impl DecodeMembers for BlockdevCreateOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<BlockdevDriver>("driver")?;

        let driver = match kind {
            BlockdevDriver::Blkdebug => BlockdevCreateOptionsBranch::Blkdebug,
            BlockdevDriver::CopyOnRead => BlockdevCreateOptionsBranch::CopyOnRead,
            BlockdevDriver::File => {
                BlockdevCreateOptionsBranch::File(BlockdevCreateOptionsFile::take(members)?)
            }
            BlockdevDriver::HostDevice => BlockdevCreateOptionsBranch::HostDevice,
            BlockdevDriver::NullCo => BlockdevCreateOptionsBranch::NullCo,
            BlockdevDriver::Qcow2 => {
                BlockdevCreateOptionsBranch::Qcow2(BlockdevCreateOptionsQcow2::take(members)?)
            }
            BlockdevDriver::Qed => {
                BlockdevCreateOptionsBranch::Qed(BlockdevCreateOptionsQed::take(members)?)
            }
            BlockdevDriver::Raw => BlockdevCreateOptionsBranch::Raw,
            BlockdevDriver::Throttle => BlockdevCreateOptionsBranch::Throttle,
            BlockdevDriver::Vhdx => BlockdevCreateOptionsBranch::Vhdx,
            BlockdevDriver::Vmdk => BlockdevCreateOptionsBranch::Vmdk,
            BlockdevDriver::Vpc => BlockdevCreateOptionsBranch::Vpc,
        };
        Ok(BlockdevCreateOptions { driver })
    }
}
impl EncodeMembers for BlockdevCreateOptions {
    fn put(&self, out: &mut Out) {
        out.put("driver", &self.driver.kind());
        match &self.driver {
            BlockdevCreateOptionsBranch::Blkdebug => {}
            BlockdevCreateOptionsBranch::CopyOnRead => {}
            BlockdevCreateOptionsBranch::File(branch) => branch.put(out),
            BlockdevCreateOptionsBranch::HostDevice => {}
            BlockdevCreateOptionsBranch::NullCo => {}
            BlockdevCreateOptionsBranch::Qcow2(branch) => branch.put(out),
            BlockdevCreateOptionsBranch::Qed(branch) => branch.put(out),
            BlockdevCreateOptionsBranch::Raw => {}
            BlockdevCreateOptionsBranch::Throttle => {}
            BlockdevCreateOptionsBranch::Vhdx => {}
            BlockdevCreateOptionsBranch::Vmdk => {}
            BlockdevCreateOptionsBranch::Vpc => {}
        }
    }
}
object!(BlockdevCreateOptions);

/// How far a check mends what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevCheckFix {
    /// `none`
    None,
    /// `leaks`
    Leaks,
    /// `all`
    All,
}
names!(BlockdevCheckFix { None = "none", Leaks = "leaks", All = "all" });

/// What a check of an image found.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageCheck {
    /// The image.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Errors of the check itself.
    pub check_errors: i64,
    /// Where the last used byte of the file ends.
    pub image_end_offset: Option<i64>,
    /// Damage that is there.
    pub corruptions: Option<i64>,
    /// Clusters that are allocated and not used.
    pub leaks: Option<i64>,
    /// Damage that was mended.
    pub corruptions_fixed: Option<i64>,
    /// Leaks that were mended.
    pub leaks_fixed: Option<i64>,
    /// Clusters of the disk.
    pub total_clusters: Option<i64>,
    /// Of them with data.
    pub allocated_clusters: Option<i64>,
    /// Of these not where they would follow each other.
    pub fragmented_clusters: Option<i64>,
    /// Of these compressed.
    pub compressed_clusters: Option<i64>,
}
impl DecodeMembers for ImageCheck {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageCheck {
            filename: members.required("filename")?,
            format: members.required("format")?,
            check_errors: members.required("check-errors")?,
            image_end_offset: members.optional("image-end-offset")?,
            corruptions: members.optional("corruptions")?,
            leaks: members.optional("leaks")?,
            corruptions_fixed: members.optional("corruptions-fixed")?,
            leaks_fixed: members.optional("leaks-fixed")?,
            total_clusters: members.optional("total-clusters")?,
            allocated_clusters: members.optional("allocated-clusters")?,
            fragmented_clusters: members.optional("fragmented-clusters")?,
            compressed_clusters: members.optional("compressed-clusters")?,
        })
    }
}
impl EncodeMembers for ImageCheck {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put("format", &self.format);
        out.put("check-errors", &self.check_errors);
        out.put_some("image-end-offset", &self.image_end_offset);
        out.put_some("corruptions", &self.corruptions);
        out.put_some("leaks", &self.leaks);
        out.put_some("corruptions-fixed", &self.corruptions_fixed);
        out.put_some("leaks-fixed", &self.leaks_fixed);
        out.put_some("total-clusters", &self.total_clusters);
        out.put_some("allocated-clusters", &self.allocated_clusters);
        out.put_some("fragmented-clusters", &self.fragmented_clusters);
        out.put_some("compressed-clusters", &self.compressed_clusters);
    }
}
object!(ImageCheck);

/// Whether a new medium can be written: as the one before, not, or it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevChangeReadOnlyMode {
    /// `retain`
    Retain,
    /// `read-only`
    ReadOnly,
    /// `read-write`
    ReadWrite,
}
names!(BlockdevChangeReadOnlyMode { Retain = "retain", ReadOnly = "read-only", ReadWrite = "read-write" });

/// What a file has done.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStatsSpecificFile {
    /// Discards that were done.
    pub discard_nb_ok: u64,
    /// Discards that failed.
    pub discard_nb_failed: u64,
    /// Bytes that were given back.
    pub discard_bytes_ok: u64,
}
impl DecodeMembers for BlockStatsSpecificFile {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockStatsSpecificFile {
            discard_nb_ok: members.required("discard-nb-ok")?,
            discard_nb_failed: members.required("discard-nb-failed")?,
            discard_bytes_ok: members.required("discard-bytes-ok")?,
        })
    }
}
impl EncodeMembers for BlockStatsSpecificFile {
    fn put(&self, out: &mut Out) {
        out.put("discard-nb-ok", &self.discard_nb_ok);
        out.put("discard-nb-failed", &self.discard_nb_failed);
        out.put("discard-bytes-ok", &self.discard_bytes_ok);
    }
}
object!(BlockStatsSpecificFile);

/// What only some drivers count.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStatsSpecific {
    /// What `driver` says, with what belongs to it.
    pub driver: BlockStatsSpecificBranch,
}
/// The branches of [`BlockStatsSpecific`].
#[derive(Debug, Clone, PartialEq)]
pub enum BlockStatsSpecificBranch {
    /// `blkdebug`
    Blkdebug,
    /// `copy-on-read`
    CopyOnRead,
    /// `file`
    File(BlockStatsSpecificFile),
    /// `host_device`
    HostDevice(BlockStatsSpecificFile),
    /// `null-co`
    NullCo,
    /// `qcow2`
    Qcow2,
    /// `qed`
    Qed,
    /// `raw`
    Raw,
    /// `throttle`
    Throttle,
    /// `vhdx`
    Vhdx,
    /// `vmdk`
    Vmdk,
    /// `vpc`
    Vpc,
}
impl BlockStatsSpecificBranch {
    /// The tag alone.
    pub const fn kind(&self) -> BlockdevDriver {
        match self {
            BlockStatsSpecificBranch::Blkdebug => BlockdevDriver::Blkdebug,
            BlockStatsSpecificBranch::CopyOnRead => BlockdevDriver::CopyOnRead,
            BlockStatsSpecificBranch::File(_) => BlockdevDriver::File,
            BlockStatsSpecificBranch::HostDevice(_) => BlockdevDriver::HostDevice,
            BlockStatsSpecificBranch::NullCo => BlockdevDriver::NullCo,
            BlockStatsSpecificBranch::Qcow2 => BlockdevDriver::Qcow2,
            BlockStatsSpecificBranch::Qed => BlockdevDriver::Qed,
            BlockStatsSpecificBranch::Raw => BlockdevDriver::Raw,
            BlockStatsSpecificBranch::Throttle => BlockdevDriver::Throttle,
            BlockStatsSpecificBranch::Vhdx => BlockdevDriver::Vhdx,
            BlockStatsSpecificBranch::Vmdk => BlockdevDriver::Vmdk,
            BlockStatsSpecificBranch::Vpc => BlockdevDriver::Vpc,
        }
    }
}
impl DecodeMembers for BlockStatsSpecific {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<BlockdevDriver>("driver")?;

        let driver = match kind {
            BlockdevDriver::Blkdebug => BlockStatsSpecificBranch::Blkdebug,
            BlockdevDriver::CopyOnRead => BlockStatsSpecificBranch::CopyOnRead,
            BlockdevDriver::File => {
                BlockStatsSpecificBranch::File(BlockStatsSpecificFile::take(members)?)
            }
            BlockdevDriver::HostDevice => {
                BlockStatsSpecificBranch::HostDevice(BlockStatsSpecificFile::take(members)?)
            }
            BlockdevDriver::NullCo => BlockStatsSpecificBranch::NullCo,
            BlockdevDriver::Qcow2 => BlockStatsSpecificBranch::Qcow2,
            BlockdevDriver::Qed => BlockStatsSpecificBranch::Qed,
            BlockdevDriver::Raw => BlockStatsSpecificBranch::Raw,
            BlockdevDriver::Throttle => BlockStatsSpecificBranch::Throttle,
            BlockdevDriver::Vhdx => BlockStatsSpecificBranch::Vhdx,
            BlockdevDriver::Vmdk => BlockStatsSpecificBranch::Vmdk,
            BlockdevDriver::Vpc => BlockStatsSpecificBranch::Vpc,
        };
        Ok(BlockStatsSpecific { driver })
    }
}
impl EncodeMembers for BlockStatsSpecific {
    fn put(&self, out: &mut Out) {
        out.put("driver", &self.driver.kind());
        match &self.driver {
            BlockStatsSpecificBranch::Blkdebug => {}
            BlockStatsSpecificBranch::CopyOnRead => {}
            BlockStatsSpecificBranch::File(branch) => branch.put(out),
            BlockStatsSpecificBranch::HostDevice(branch) => branch.put(out),
            BlockStatsSpecificBranch::NullCo => {}
            BlockStatsSpecificBranch::Qcow2 => {}
            BlockStatsSpecificBranch::Qed => {}
            BlockStatsSpecificBranch::Raw => {}
            BlockStatsSpecificBranch::Throttle => {}
            BlockStatsSpecificBranch::Vhdx => {}
            BlockStatsSpecificBranch::Vmdk => {}
            BlockStatsSpecificBranch::Vpc => {}
        }
    }
}
object!(BlockStatsSpecific);

/// A snapshot inside of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotInfo {
    /// Its number, in text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Bytes of the machine's state in it.
    pub vm_state_size: i64,
    /// When it was made, in seconds of the epoch.
    pub date_sec: i64,
    /// And nanoseconds.
    pub date_nsec: i64,
    /// The guest's clock then, in seconds.
    pub vm_clock_sec: i64,
    /// And nanoseconds.
    pub vm_clock_nsec: i64,
    /// Instructions counted then.
    pub icount: Option<i64>,
}
impl DecodeMembers for SnapshotInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SnapshotInfo {
            id: members.required("id")?,
            name: members.required("name")?,
            vm_state_size: members.required("vm-state-size")?,
            date_sec: members.required("date-sec")?,
            date_nsec: members.required("date-nsec")?,
            vm_clock_sec: members.required("vm-clock-sec")?,
            vm_clock_nsec: members.required("vm-clock-nsec")?,
            icount: members.optional("icount")?,
        })
    }
}
impl EncodeMembers for SnapshotInfo {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put("name", &self.name);
        out.put("vm-state-size", &self.vm_state_size);
        out.put("date-sec", &self.date_sec);
        out.put("date-nsec", &self.date_nsec);
        out.put("vm-clock-sec", &self.vm_clock_sec);
        out.put("vm-clock-nsec", &self.vm_clock_nsec);
        out.put_some("icount", &self.icount);
    }
}
object!(SnapshotInfo);

/// What is known of a bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2BitmapInfoFlags {
    /// `in-use`
    InUse,
    /// `auto`
    Auto,
}
names!(Qcow2BitmapInfoFlags { InUse = "in-use", Auto = "auto" });

/// A bitmap in a qcow2 image.
#[derive(Debug, Clone, PartialEq)]
pub struct Qcow2BitmapInfo {
    /// `name`.
    pub name: String,
    /// `granularity`.
    pub granularity: u32,
    /// `flags`.
    pub flags: Vec<Qcow2BitmapInfoFlags>,
}
impl DecodeMembers for Qcow2BitmapInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(Qcow2BitmapInfo {
            name: members.required("name")?,
            granularity: members.required("granularity")?,
            flags: members.required("flags")?,
        })
    }
}
impl EncodeMembers for Qcow2BitmapInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("granularity", &self.granularity);
        out.put("flags", &self.flags);
    }
}
object!(Qcow2BitmapInfo);

/// What is special about a qcow2 image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificQCow2 {
    /// `compat`.
    pub compat: String,
    /// `data-file`.
    pub data_file: Option<String>,
    /// `data-file-raw`.
    pub data_file_raw: Option<bool>,
    /// `extended-l2`.
    pub extended_l2: Option<bool>,
    /// `lazy-refcounts`.
    pub lazy_refcounts: Option<bool>,
    /// `corrupt`.
    pub corrupt: Option<bool>,
    /// `refcount-bits`.
    pub refcount_bits: i64,
    /// `bitmaps`.
    pub bitmaps: Option<Vec<Qcow2BitmapInfo>>,
    /// `compression-type`.
    pub compression_type: Qcow2CompressionType,
}
impl DecodeMembers for ImageInfoSpecificQCow2 {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfoSpecificQCow2 {
            compat: members.required("compat")?,
            data_file: members.optional("data-file")?,
            data_file_raw: members.optional("data-file-raw")?,
            extended_l2: members.optional("extended-l2")?,
            lazy_refcounts: members.optional("lazy-refcounts")?,
            corrupt: members.optional("corrupt")?,
            refcount_bits: members.required("refcount-bits")?,
            bitmaps: members.optional("bitmaps")?,
            compression_type: members.required("compression-type")?,
        })
    }
}
impl EncodeMembers for ImageInfoSpecificQCow2 {
    fn put(&self, out: &mut Out) {
        out.put("compat", &self.compat);
        out.put_some("data-file", &self.data_file);
        out.put_some("data-file-raw", &self.data_file_raw);
        out.put_some("extended-l2", &self.extended_l2);
        out.put_some("lazy-refcounts", &self.lazy_refcounts);
        out.put_some("corrupt", &self.corrupt);
        out.put("refcount-bits", &self.refcount_bits);
        out.put_some("bitmaps", &self.bitmaps);
        out.put("compression-type", &self.compression_type);
    }
}
object!(ImageInfoSpecificQCow2);

/// A file of a vmdk image.
#[derive(Debug, Clone, PartialEq)]
pub struct VmdkExtentInfo {
    /// `filename`.
    pub filename: String,
    /// `format`.
    pub format: String,
    /// `virtual-size`.
    pub virtual_size: i64,
    /// `cluster-size`.
    pub cluster_size: Option<i64>,
    /// `compressed`.
    pub compressed: Option<bool>,
}
impl DecodeMembers for VmdkExtentInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VmdkExtentInfo {
            filename: members.required("filename")?,
            format: members.required("format")?,
            virtual_size: members.required("virtual-size")?,
            cluster_size: members.optional("cluster-size")?,
            compressed: members.optional("compressed")?,
        })
    }
}
impl EncodeMembers for VmdkExtentInfo {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put("format", &self.format);
        out.put("virtual-size", &self.virtual_size);
        out.put_some("cluster-size", &self.cluster_size);
        out.put_some("compressed", &self.compressed);
    }
}
object!(VmdkExtentInfo);

/// What is special about a vmdk image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificVmdk {
    /// `create-type`.
    pub create_type: String,
    /// `cid`.
    pub cid: i64,
    /// `parent-cid`.
    pub parent_cid: i64,
    /// `extents`.
    pub extents: Vec<VmdkExtentInfo>,
}
impl DecodeMembers for ImageInfoSpecificVmdk {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfoSpecificVmdk {
            create_type: members.required("create-type")?,
            cid: members.required("cid")?,
            parent_cid: members.required("parent-cid")?,
            extents: members.required("extents")?,
        })
    }
}
impl EncodeMembers for ImageInfoSpecificVmdk {
    fn put(&self, out: &mut Out) {
        out.put("create-type", &self.create_type);
        out.put("cid", &self.cid);
        out.put("parent-cid", &self.parent_cid);
        out.put("extents", &self.extents);
    }
}
object!(ImageInfoSpecificVmdk);

/// What is special about a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInfoSpecificFile {
    /// `extent-size-hint`.
    pub extent_size_hint: Option<crate::decode::Size>,
}
impl DecodeMembers for ImageInfoSpecificFile {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfoSpecificFile {
            extent_size_hint: members.optional("extent-size-hint")?,
        })
    }
}
impl EncodeMembers for ImageInfoSpecificFile {
    fn put(&self, out: &mut Out) {
        out.put_some("extent-size-hint", &self.extent_size_hint);
    }
}
object!(ImageInfoSpecificFile);

/// Drivers with something special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageInfoSpecificKind {
    /// `qcow2`
    Qcow2,
    /// `vmdk`
    Vmdk,
    /// `file`
    File,
}
names!(ImageInfoSpecificKind { Qcow2 = "qcow2", Vmdk = "vmdk", File = "file" });

/// Of a qcow2 image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificQCow2Wrapper {
    /// `data`.
    pub data: ImageInfoSpecificQCow2,
}
impl DecodeMembers for ImageInfoSpecificQCow2Wrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfoSpecificQCow2Wrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ImageInfoSpecificQCow2Wrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ImageInfoSpecificQCow2Wrapper);

/// Of a vmdk image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificVmdkWrapper {
    /// `data`.
    pub data: ImageInfoSpecificVmdk,
}
impl DecodeMembers for ImageInfoSpecificVmdkWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfoSpecificVmdkWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ImageInfoSpecificVmdkWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ImageInfoSpecificVmdkWrapper);

/// Of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificFileWrapper {
    /// `data`.
    pub data: ImageInfoSpecificFile,
}
impl DecodeMembers for ImageInfoSpecificFileWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ImageInfoSpecificFileWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for ImageInfoSpecificFileWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(ImageInfoSpecificFileWrapper);

/// What only one driver knows of its images.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecific {
    /// What `type` says, with what belongs to it.
    pub r#type: ImageInfoSpecificBranch,
}
/// The branches of [`ImageInfoSpecific`].
#[derive(Debug, Clone, PartialEq)]
pub enum ImageInfoSpecificBranch {
    /// `qcow2`
    Qcow2(ImageInfoSpecificQCow2Wrapper),
    /// `vmdk`
    Vmdk(ImageInfoSpecificVmdkWrapper),
    /// `file`
    File(ImageInfoSpecificFileWrapper),
}
impl ImageInfoSpecificBranch {
    /// The tag alone.
    pub const fn kind(&self) -> ImageInfoSpecificKind {
        match self {
            ImageInfoSpecificBranch::Qcow2(_) => ImageInfoSpecificKind::Qcow2,
            ImageInfoSpecificBranch::Vmdk(_) => ImageInfoSpecificKind::Vmdk,
            ImageInfoSpecificBranch::File(_) => ImageInfoSpecificKind::File,
        }
    }
}
impl DecodeMembers for ImageInfoSpecific {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<ImageInfoSpecificKind>("type")?;

        let r#type = match kind {
            ImageInfoSpecificKind::Qcow2 => {
                ImageInfoSpecificBranch::Qcow2(ImageInfoSpecificQCow2Wrapper::take(members)?)
            }
            ImageInfoSpecificKind::Vmdk => {
                ImageInfoSpecificBranch::Vmdk(ImageInfoSpecificVmdkWrapper::take(members)?)
            }
            ImageInfoSpecificKind::File => {
                ImageInfoSpecificBranch::File(ImageInfoSpecificFileWrapper::take(members)?)
            }
        };
        Ok(ImageInfoSpecific { r#type })
    }
}
impl EncodeMembers for ImageInfoSpecific {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type.kind());
        match &self.r#type {
            ImageInfoSpecificBranch::Qcow2(branch) => branch.put(out),
            ImageInfoSpecificBranch::Vmdk(branch) => branch.put(out),
            ImageInfoSpecificBranch::File(branch) => branch.put(out),
        }
    }
}
object!(ImageInfoSpecific);

/// Whether an image is there already, or is made with the name of the one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NewImageMode {
    /// `existing`
    Existing,
    /// `absolute-paths`
    AbsolutePaths,
}
names!(NewImageMode { Existing = "existing", AbsolutePaths = "absolute-paths" });

/// An overlay in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotSync {
    /// The drive that writes to it from then on.
    pub device: Option<String>,
    /// The node whose users do.
    pub node_name: Option<String>,
    /// The file.
    pub snapshot_file: String,
    /// The overlay's name.
    pub snapshot_node_name: Option<String>,
    /// Its format; qcow2 by default.
    pub format: Option<String>,
    /// Whether it is made; absolute-paths by default.
    pub mode: Option<NewImageMode>,
}
impl DecodeMembers for BlockdevSnapshotSync {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotSync {
            device: members.optional("device")?,
            node_name: members.optional("node-name")?,
            snapshot_file: members.required("snapshot-file")?,
            snapshot_node_name: members.optional("snapshot-node-name")?,
            format: members.optional("format")?,
            mode: members.optional("mode")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotSync {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("node-name", &self.node_name);
        out.put("snapshot-file", &self.snapshot_file);
        out.put_some("snapshot-node-name", &self.snapshot_node_name);
        out.put_some("format", &self.format);
        out.put_some("mode", &self.mode);
    }
}
object!(BlockdevSnapshotSync);

/// An overlay in a node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshot {
    /// The drive or node whose users write to the overlay from then on.
    pub node: String,
    /// The node to put on top of it.
    pub overlay: String,
}
impl DecodeMembers for BlockdevSnapshot {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshot {
            node: members.required("node")?,
            overlay: members.required("overlay")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshot {
    fn put(&self, out: &mut Out) {
        out.put("node", &self.node);
        out.put("overlay", &self.overlay);
    }
}
object!(BlockdevSnapshot);

/// A snapshot inside of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotInternal {
    /// The drive or node.
    pub device: String,
    /// The snapshot's name.
    pub name: String,
}
impl DecodeMembers for BlockdevSnapshotInternal {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotInternal {
            device: members.required("device")?,
            name: members.required("name")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotInternal {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put("name", &self.name);
    }
}
object!(BlockdevSnapshotInternal);

/// What transactions are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransactionActionKind {
    /// `abort`
    Abort,
    /// `blockdev-snapshot`
    BlockdevSnapshot,
    /// `blockdev-snapshot-internal-sync`
    BlockdevSnapshotInternalSync,
    /// `blockdev-snapshot-sync`
    BlockdevSnapshotSync,
}
names!(TransactionActionKind { Abort = "abort", BlockdevSnapshot = "blockdev-snapshot", BlockdevSnapshotInternalSync = "blockdev-snapshot-internal-sync", BlockdevSnapshotSync = "blockdev-snapshot-sync" });

/// Whether jobs that a transaction begins end one by one or together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActionCompletionMode {
    /// `individual`
    Individual,
    /// `grouped`
    Grouped,
}
names!(ActionCompletionMode { Individual = "individual", Grouped = "grouped" });

/// How a transaction is carried out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TransactionProperties {
    /// `completion-mode`.
    pub completion_mode: Option<ActionCompletionMode>,
}
impl DecodeMembers for TransactionProperties {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TransactionProperties {
            completion_mode: members.optional("completion-mode")?,
        })
    }
}
impl EncodeMembers for TransactionProperties {
    fn put(&self, out: &mut Out) {
        out.put_some("completion-mode", &self.completion_mode);
    }
}
object!(TransactionProperties);

/// Nothing; the transaction fails.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Abort {}
impl DecodeMembers for Abort {
    fn take(_members: &mut Members) -> QmpResult<Self> {
        Ok(Abort {})
    }
}
impl EncodeMembers for Abort {
    fn put(&self, _out: &mut Out) {}
}
object!(Abort);

/// A failure.
#[derive(Debug, Clone, PartialEq)]
pub struct AbortWrapper {
    /// `data`.
    pub data: Abort,
}
impl DecodeMembers for AbortWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AbortWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for AbortWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(AbortWrapper);

/// An overlay in a node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotWrapper {
    /// `data`.
    pub data: BlockdevSnapshot,
}
impl DecodeMembers for BlockdevSnapshotWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(BlockdevSnapshotWrapper);

/// A snapshot inside of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotInternalWrapper {
    /// `data`.
    pub data: BlockdevSnapshotInternal,
}
impl DecodeMembers for BlockdevSnapshotInternalWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotInternalWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotInternalWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(BlockdevSnapshotInternalWrapper);

/// An overlay in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotSyncWrapper {
    /// `data`.
    pub data: BlockdevSnapshotSync,
}
impl DecodeMembers for BlockdevSnapshotSyncWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotSyncWrapper {
            data: members.required("data")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotSyncWrapper {
    fn put(&self, out: &mut Out) {
        out.put("data", &self.data);
    }
}
object!(BlockdevSnapshotSyncWrapper);

/// A part of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionAction {
    /// What `type` says, with what belongs to it.
    pub r#type: TransactionActionBranch,
}
/// The branches of [`TransactionAction`].
#[derive(Debug, Clone, PartialEq)]
pub enum TransactionActionBranch {
    /// `abort`
    Abort(AbortWrapper),
    /// `blockdev-snapshot`
    BlockdevSnapshot(BlockdevSnapshotWrapper),
    /// `blockdev-snapshot-internal-sync`
    BlockdevSnapshotInternalSync(BlockdevSnapshotInternalWrapper),
    /// `blockdev-snapshot-sync`
    BlockdevSnapshotSync(BlockdevSnapshotSyncWrapper),
}
impl TransactionActionBranch {
    /// The tag alone.
    pub const fn kind(&self) -> TransactionActionKind {
        match self {
            TransactionActionBranch::Abort(_) => TransactionActionKind::Abort,
            TransactionActionBranch::BlockdevSnapshot(_) => TransactionActionKind::BlockdevSnapshot,
            TransactionActionBranch::BlockdevSnapshotInternalSync(_) => {
                TransactionActionKind::BlockdevSnapshotInternalSync
            }
            TransactionActionBranch::BlockdevSnapshotSync(_) => {
                TransactionActionKind::BlockdevSnapshotSync
            }
        }
    }
}
impl DecodeMembers for TransactionAction {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<TransactionActionKind>("type")?;

        let r#type = match kind {
            TransactionActionKind::Abort => {
                TransactionActionBranch::Abort(AbortWrapper::take(members)?)
            }
            TransactionActionKind::BlockdevSnapshot => {
                TransactionActionBranch::BlockdevSnapshot(BlockdevSnapshotWrapper::take(members)?)
            }
            TransactionActionKind::BlockdevSnapshotInternalSync => {
                TransactionActionBranch::BlockdevSnapshotInternalSync(
                    BlockdevSnapshotInternalWrapper::take(members)?,
                )
            }
            TransactionActionKind::BlockdevSnapshotSync => {
                TransactionActionBranch::BlockdevSnapshotSync(BlockdevSnapshotSyncWrapper::take(
                    members,
                )?)
            }
        };
        Ok(TransactionAction { r#type })
    }
}
impl EncodeMembers for TransactionAction {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type.kind());
        match &self.r#type {
            TransactionActionBranch::Abort(branch) => branch.put(out),
            TransactionActionBranch::BlockdevSnapshot(branch) => branch.put(out),
            TransactionActionBranch::BlockdevSnapshotInternalSync(branch) => branch.put(out),
            TransactionActionBranch::BlockdevSnapshotSync(branch) => branch.put(out),
        }
    }
}
object!(TransactionAction);

/// Which frames of a kind an interface takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RxState {
    /// `normal`
    Normal,
    /// `none`
    None,
    /// `all`
    All,
}
names!(RxState { Normal = "normal", None = "none", All = "all" });

/// What an interface lets through.
#[derive(Debug, Clone, PartialEq)]
pub struct RxFilterInfo {
    /// The interface's name.
    pub name: String,
    /// It takes everything.
    pub promiscuous: bool,
    /// Frames to groups.
    pub multicast: RxState,
    /// Frames to one interface.
    pub unicast: RxState,
    /// Frames of VLANs.
    pub vlan: RxState,
    /// It takes broadcasts.
    pub broadcast_allowed: bool,
    /// The table of groups is too small.
    pub multicast_overflow: bool,
    /// The table of addresses is too small.
    pub unicast_overflow: bool,
    /// The interface's address.
    pub main_mac: String,
    /// VLANs it is in.
    pub vlan_table: Vec<i64>,
    /// Further addresses.
    pub unicast_table: Vec<String>,
    /// Groups.
    pub multicast_table: Vec<String>,
}
impl DecodeMembers for RxFilterInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(RxFilterInfo {
            name: members.required("name")?,
            promiscuous: members.required("promiscuous")?,
            multicast: members.required("multicast")?,
            unicast: members.required("unicast")?,
            vlan: members.required("vlan")?,
            broadcast_allowed: members.required("broadcast-allowed")?,
            multicast_overflow: members.required("multicast-overflow")?,
            unicast_overflow: members.required("unicast-overflow")?,
            main_mac: members.required("main-mac")?,
            vlan_table: members.required("vlan-table")?,
            unicast_table: members.required("unicast-table")?,
            multicast_table: members.required("multicast-table")?,
        })
    }
}
impl EncodeMembers for RxFilterInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("promiscuous", &self.promiscuous);
        out.put("multicast", &self.multicast);
        out.put("unicast", &self.unicast);
        out.put("vlan", &self.vlan);
        out.put("broadcast-allowed", &self.broadcast_allowed);
        out.put("multicast-overflow", &self.multicast_overflow);
        out.put("unicast-overflow", &self.unicast_overflow);
        out.put("main-mac", &self.main_mac);
        out.put("vlan-table", &self.vlan_table);
        out.put("unicast-table", &self.unicast_table);
        out.put("multicast-table", &self.multicast_table);
    }
}
object!(RxFilterInfo);

/// A text, wrapped.
#[derive(Debug, Clone, PartialEq)]
pub struct StringWrapper {
    /// The text.
    pub str: String,
}
impl DecodeMembers for StringWrapper {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(StringWrapper {
            str: members.required("str")?,
        })
    }
}
impl EncodeMembers for StringWrapper {
    fn put(&self, out: &mut Out) {
        out.put("str", &self.str);
    }
}
object!(StringWrapper);

/// Kinds of network back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetClientDriver {
    /// `user`
    User,
    /// `tap`
    Tap,
    /// `socket`
    Socket,
    /// `stream`
    Stream,
    /// `dgram`
    Dgram,
    /// `bridge`
    Bridge,
    /// `hubport`
    Hubport,
    /// `vhost-user`
    VhostUser,
}
names!(NetClientDriver { User = "user", Tap = "tap", Socket = "socket", Stream = "stream", Dgram = "dgram", Bridge = "bridge", Hubport = "hubport", VhostUser = "vhost-user" });

/// A network of the program's own, with a router that speaks for the guest through the host's
/// sockets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetdevUserOptions {
    /// What DHCP calls the guest.
    pub hostname: Option<String>,
    /// The guest reaches nothing but what is forwarded.
    pub restrict: Option<bool>,
    /// `ipv4`.
    pub ipv4: Option<bool>,
    /// `ipv6`.
    pub ipv6: Option<bool>,
    /// An older name of `net`.
    pub ip: Option<String>,
    /// The network, as address/bits or address/mask; 10.0.2.0/24 by default.
    pub net: Option<String>,
    /// The router's address; 10.0.2.2 by default.
    pub host: Option<String>,
    /// A folder that is served by TFTP.
    pub tftp: Option<String>,
    /// The file that DHCP names for booting.
    pub bootfile: Option<String>,
    /// The first address that DHCP gives away.
    pub dhcpstart: Option<String>,
    /// The address of the name server.
    pub dns: Option<String>,
    /// Domains to search names in.
    pub dnssearch: Option<Vec<StringWrapper>>,
    /// The guest's domain.
    pub domainname: Option<String>,
    /// The network's IPv6 prefix; fec0:: by default.
    pub ipv6_prefix: Option<String>,
    /// Its length; 64 by default.
    pub ipv6_prefixlen: Option<i64>,
    /// The router's IPv6 address.
    pub ipv6_host: Option<String>,
    /// The name server's IPv6 address.
    pub ipv6_dns: Option<String>,
    /// A folder that is shared by SMB.
    pub smb: Option<String>,
    /// The SMB server's address.
    pub smbserver: Option<String>,
    /// Ports of the host that lead into the guest:
    /// [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport.
    pub hostfwd: Option<Vec<StringWrapper>>,
    /// Addresses of the guest's network that lead to something of the host's.
    pub guestfwd: Option<Vec<StringWrapper>>,
    /// What DHCP calls the TFTP server.
    pub tftp_server_name: Option<String>,
}
impl DecodeMembers for NetdevUserOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevUserOptions {
            hostname: members.optional("hostname")?,
            restrict: members.optional("restrict")?,
            ipv4: members.optional("ipv4")?,
            ipv6: members.optional("ipv6")?,
            ip: members.optional("ip")?,
            net: members.optional("net")?,
            host: members.optional("host")?,
            tftp: members.optional("tftp")?,
            bootfile: members.optional("bootfile")?,
            dhcpstart: members.optional("dhcpstart")?,
            dns: members.optional("dns")?,
            dnssearch: members.optional("dnssearch")?,
            domainname: members.optional("domainname")?,
            ipv6_prefix: members.optional("ipv6-prefix")?,
            ipv6_prefixlen: members.optional("ipv6-prefixlen")?,
            ipv6_host: members.optional("ipv6-host")?,
            ipv6_dns: members.optional("ipv6-dns")?,
            smb: members.optional("smb")?,
            smbserver: members.optional("smbserver")?,
            hostfwd: members.optional("hostfwd")?,
            guestfwd: members.optional("guestfwd")?,
            tftp_server_name: members.optional("tftp-server-name")?,
        })
    }
}
impl EncodeMembers for NetdevUserOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("hostname", &self.hostname);
        out.put_some("restrict", &self.restrict);
        out.put_some("ipv4", &self.ipv4);
        out.put_some("ipv6", &self.ipv6);
        out.put_some("ip", &self.ip);
        out.put_some("net", &self.net);
        out.put_some("host", &self.host);
        out.put_some("tftp", &self.tftp);
        out.put_some("bootfile", &self.bootfile);
        out.put_some("dhcpstart", &self.dhcpstart);
        out.put_some("dns", &self.dns);
        out.put_some("dnssearch", &self.dnssearch);
        out.put_some("domainname", &self.domainname);
        out.put_some("ipv6-prefix", &self.ipv6_prefix);
        out.put_some("ipv6-prefixlen", &self.ipv6_prefixlen);
        out.put_some("ipv6-host", &self.ipv6_host);
        out.put_some("ipv6-dns", &self.ipv6_dns);
        out.put_some("smb", &self.smb);
        out.put_some("smbserver", &self.smbserver);
        out.put_some("hostfwd", &self.hostfwd);
        out.put_some("guestfwd", &self.guestfwd);
        out.put_some("tftp-server-name", &self.tftp_server_name);
    }
}
object!(NetdevUserOptions);

/// A TAP device of the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetdevTapOptions {
    /// The device's name; the host finds one by default.
    pub ifname: Option<String>,
    /// An open TAP device: a number, or a name from getfd.
    pub fd: Option<String>,
    /// One for each queue pair, with colons between them.
    pub fds: Option<String>,
    /// Program that sets the device up, called with its name; `no` for none.
    pub script: Option<String>,
    /// Program that is called in the end; `no` for none.
    pub downscript: Option<String>,
    /// The bridge that the helper is to use; br0 by default.
    pub br: Option<String>,
    /// Program that opens a device on a bridge and passes it on.
    pub helper: Option<String>,
    /// Bytes that may be on their way; no limit by default.
    pub sndbuf: Option<crate::decode::Size>,
    /// Whether frames carry offload headers; as the device can by default.
    pub vnet_hdr: Option<bool>,
    /// Let the kernel serve the queues.
    pub vhost: Option<bool>,
    /// An open vhost-net device.
    pub vhostfd: Option<String>,
    /// One for each queue pair.
    pub vhostfds: Option<String>,
    /// Older way to say vhost=on.
    pub vhostforce: Option<bool>,
    /// Queue pairs; one by default.
    pub queues: Option<u32>,
    /// Microseconds that the kernel polls before it sleeps.
    pub poll_us: Option<u32>,
}
impl DecodeMembers for NetdevTapOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevTapOptions {
            ifname: members.optional("ifname")?,
            fd: members.optional("fd")?,
            fds: members.optional("fds")?,
            script: members.optional("script")?,
            downscript: members.optional("downscript")?,
            br: members.optional("br")?,
            helper: members.optional("helper")?,
            sndbuf: members.optional("sndbuf")?,
            vnet_hdr: members.optional("vnet_hdr")?,
            vhost: members.optional("vhost")?,
            vhostfd: members.optional("vhostfd")?,
            vhostfds: members.optional("vhostfds")?,
            vhostforce: members.optional("vhostforce")?,
            queues: members.optional("queues")?,
            poll_us: members.optional("poll-us")?,
        })
    }
}
impl EncodeMembers for NetdevTapOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("ifname", &self.ifname);
        out.put_some("fd", &self.fd);
        out.put_some("fds", &self.fds);
        out.put_some("script", &self.script);
        out.put_some("downscript", &self.downscript);
        out.put_some("br", &self.br);
        out.put_some("helper", &self.helper);
        out.put_some("sndbuf", &self.sndbuf);
        out.put_some("vnet_hdr", &self.vnet_hdr);
        out.put_some("vhost", &self.vhost);
        out.put_some("vhostfd", &self.vhostfd);
        out.put_some("vhostfds", &self.vhostfds);
        out.put_some("vhostforce", &self.vhostforce);
        out.put_some("queues", &self.queues);
        out.put_some("poll-us", &self.poll_us);
    }
}
object!(NetdevTapOptions);

/// A TAP device on a bridge of the host, opened by a privileged helper.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetdevBridgeOptions {
    /// The bridge; br0 by default.
    pub br: Option<String>,
    /// The program.
    pub helper: Option<String>,
}
impl DecodeMembers for NetdevBridgeOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevBridgeOptions {
            br: members.optional("br")?,
            helper: members.optional("helper")?,
        })
    }
}
impl EncodeMembers for NetdevBridgeOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("br", &self.br);
        out.put_some("helper", &self.helper);
    }
}
object!(NetdevBridgeOptions);

/// Frames through a socket, in the older notation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetdevSocketOptions {
    /// An open socket.
    pub fd: Option<String>,
    /// [host]:port to wait for one peer at.
    pub listen: Option<String>,
    /// host:port of a peer that listens.
    pub connect: Option<String>,
    /// group:port, shared by any number.
    pub mcast: Option<String>,
    /// Address of the host's interface for mcast, or [host]:port to receive at for udp.
    pub localaddr: Option<String>,
    /// host:port to send to.
    pub udp: Option<String>,
}
impl DecodeMembers for NetdevSocketOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevSocketOptions {
            fd: members.optional("fd")?,
            listen: members.optional("listen")?,
            connect: members.optional("connect")?,
            mcast: members.optional("mcast")?,
            localaddr: members.optional("localaddr")?,
            udp: members.optional("udp")?,
        })
    }
}
impl EncodeMembers for NetdevSocketOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("fd", &self.fd);
        out.put_some("listen", &self.listen);
        out.put_some("connect", &self.connect);
        out.put_some("mcast", &self.mcast);
        out.put_some("localaddr", &self.localaddr);
        out.put_some("udp", &self.udp);
    }
}
object!(NetdevSocketOptions);

/// A port of a hub, which passes each frame on to all its other ports.
#[derive(Debug, Clone, PartialEq)]
pub struct NetdevHubPortOptions {
    /// The hub.
    pub hubid: i32,
    /// A netdev to connect, where no interface is to use the port.
    pub netdev: Option<String>,
}
impl DecodeMembers for NetdevHubPortOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevHubPortOptions {
            hubid: members.required("hubid")?,
            netdev: members.optional("netdev")?,
        })
    }
}
impl EncodeMembers for NetdevHubPortOptions {
    fn put(&self, out: &mut Out) {
        out.put("hubid", &self.hubid);
        out.put_some("netdev", &self.netdev);
    }
}
object!(NetdevHubPortOptions);

/// Frames through a stream socket, each behind its length in four bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct NetdevStreamOptions {
    /// Where to connect or to listen.
    pub addr: SocketAddress,
    /// Listen; off by default.
    pub server: Option<bool>,
    /// Seconds until a client tries again; not at all by default.
    pub reconnect: Option<i64>,
    /// The same in milliseconds.
    pub reconnect_ms: Option<i64>,
}
impl DecodeMembers for NetdevStreamOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevStreamOptions {
            addr: members.required("addr")?,
            server: members.optional("server")?,
            reconnect: members.optional("reconnect")?,
            reconnect_ms: members.optional("reconnect-ms")?,
        })
    }
}
impl EncodeMembers for NetdevStreamOptions {
    fn put(&self, out: &mut Out) {
        out.put("addr", &self.addr);
        out.put_some("server", &self.server);
        out.put_some("reconnect", &self.reconnect);
        out.put_some("reconnect-ms", &self.reconnect_ms);
    }
}
object!(NetdevStreamOptions);

/// One frame in each datagram.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetdevDgramOptions {
    /// Where to receive.
    pub local: Option<SocketAddress>,
    /// Where to send, or the group to join.
    pub remote: Option<SocketAddress>,
}
impl DecodeMembers for NetdevDgramOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevDgramOptions {
            local: members.optional("local")?,
            remote: members.optional("remote")?,
        })
    }
}
impl EncodeMembers for NetdevDgramOptions {
    fn put(&self, out: &mut Out) {
        out.put_some("local", &self.local);
        out.put_some("remote", &self.remote);
    }
}
object!(NetdevDgramOptions);

/// Another process serves the queues.
#[derive(Debug, Clone, PartialEq)]
pub struct NetdevVhostUserOptions {
    /// A unix socket.
    pub chardev: String,
    /// Always so.
    pub vhostforce: Option<bool>,
    /// Queue pairs; one by default.
    pub queues: Option<i64>,
}
impl DecodeMembers for NetdevVhostUserOptions {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevVhostUserOptions {
            chardev: members.required("chardev")?,
            vhostforce: members.optional("vhostforce")?,
            queues: members.optional("queues")?,
        })
    }
}
impl EncodeMembers for NetdevVhostUserOptions {
    fn put(&self, out: &mut Out) {
        out.put("chardev", &self.chardev);
        out.put_some("vhostforce", &self.vhostforce);
        out.put_some("queues", &self.queues);
    }
}
object!(NetdevVhostUserOptions);

/// The host's side of a network interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Netdev {
    /// Its name.
    pub id: String,
    /// What `type` says, with what belongs to it.
    pub r#type: NetdevBranch,
}
/// The branches of [`Netdev`].
#[derive(Debug, Clone, PartialEq)]
pub enum NetdevBranch {
    /// `user`
    User(NetdevUserOptions),
    /// `tap`
    Tap(NetdevTapOptions),
    /// `socket`
    Socket(NetdevSocketOptions),
    /// `stream`
    Stream(NetdevStreamOptions),
    /// `dgram`
    Dgram(NetdevDgramOptions),
    /// `bridge`
    Bridge(NetdevBridgeOptions),
    /// `hubport`
    Hubport(NetdevHubPortOptions),
    /// `vhost-user`
    VhostUser(NetdevVhostUserOptions),
}
impl NetdevBranch {
    /// The tag alone.
    pub const fn kind(&self) -> NetClientDriver {
        match self {
            NetdevBranch::User(_) => NetClientDriver::User,
            NetdevBranch::Tap(_) => NetClientDriver::Tap,
            NetdevBranch::Socket(_) => NetClientDriver::Socket,
            NetdevBranch::Stream(_) => NetClientDriver::Stream,
            NetdevBranch::Dgram(_) => NetClientDriver::Dgram,
            NetdevBranch::Bridge(_) => NetClientDriver::Bridge,
            NetdevBranch::Hubport(_) => NetClientDriver::Hubport,
            NetdevBranch::VhostUser(_) => NetClientDriver::VhostUser,
        }
    }
}
impl DecodeMembers for Netdev {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<NetClientDriver>("type")?;
        let id = members.required("id")?;

        let r#type = match kind {
            NetClientDriver::User => NetdevBranch::User(NetdevUserOptions::take(members)?),
            NetClientDriver::Tap => NetdevBranch::Tap(NetdevTapOptions::take(members)?),
            NetClientDriver::Socket => NetdevBranch::Socket(NetdevSocketOptions::take(members)?),
            NetClientDriver::Stream => NetdevBranch::Stream(NetdevStreamOptions::take(members)?),
            NetClientDriver::Dgram => NetdevBranch::Dgram(NetdevDgramOptions::take(members)?),
            NetClientDriver::Bridge => NetdevBranch::Bridge(NetdevBridgeOptions::take(members)?),
            NetClientDriver::Hubport => NetdevBranch::Hubport(NetdevHubPortOptions::take(members)?),
            NetClientDriver::VhostUser => {
                NetdevBranch::VhostUser(NetdevVhostUserOptions::take(members)?)
            }
        };
        Ok(Netdev { id, r#type })
    }
}
impl EncodeMembers for Netdev {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);

        out.put("type", &self.r#type.kind());
        match &self.r#type {
            NetdevBranch::User(branch) => branch.put(out),
            NetdevBranch::Tap(branch) => branch.put(out),
            NetdevBranch::Socket(branch) => branch.put(out),
            NetdevBranch::Stream(branch) => branch.put(out),
            NetdevBranch::Dgram(branch) => branch.put(out),
            NetdevBranch::Bridge(branch) => branch.put(out),
            NetdevBranch::Hubport(branch) => branch.put(out),
            NetdevBranch::VhostUser(branch) => branch.put(out),
        }
    }
}
object!(Netdev);

/// When interfaces say where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnounceParameters {
    /// Milliseconds until the second announcement.
    pub initial: i64,
    /// Milliseconds between two at most.
    pub max: i64,
    /// How many.
    pub rounds: i64,
    /// Milliseconds that each pause is longer than the one before.
    pub step: i64,
    /// Which ones; all by default. An empty list together with `id` ends what goes by that name.
    pub interfaces: Option<Vec<String>>,
    /// A name for this series, so that it can be changed or ended.
    pub id: Option<String>,
}
impl DecodeMembers for AnnounceParameters {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AnnounceParameters {
            initial: members.required("initial")?,
            max: members.required("max")?,
            rounds: members.required("rounds")?,
            step: members.required("step")?,
            interfaces: members.optional("interfaces")?,
            id: members.optional("id")?,
        })
    }
}
impl EncodeMembers for AnnounceParameters {
    fn put(&self, out: &mut Out) {
        out.put("initial", &self.initial);
        out.put("max", &self.max);
        out.put("rounds", &self.rounds);
        out.put("step", &self.step);
        out.put_some("interfaces", &self.interfaces);
        out.put_some("id", &self.id);
    }
}
object!(AnnounceParameters);

/// What the balloon leaves to the guest.
#[derive(Debug, Clone, PartialEq)]
pub struct BalloonInfo {
    /// Bytes of memory that the guest has.
    pub actual: i64,
}
impl DecodeMembers for BalloonInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BalloonInfo {
            actual: members.required("actual")?,
        })
    }
}
impl EncodeMembers for BalloonInfo {
    fn put(&self, out: &mut Out) {
        out.put("actual", &self.actual);
    }
}
object!(BalloonInfo);

/// What can be yanked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum YankInstanceType {
    /// `block-node`
    BlockNode,
    /// `chardev`
    Chardev,
    /// `migration`
    Migration,
}
names!(YankInstanceType { BlockNode = "block-node", Chardev = "chardev", Migration = "migration" });

/// A block node.
#[derive(Debug, Clone, PartialEq)]
pub struct YankInstanceBlockNode {
    /// Its name.
    pub node_name: String,
}
impl DecodeMembers for YankInstanceBlockNode {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(YankInstanceBlockNode {
            node_name: members.required("node-name")?,
        })
    }
}
impl EncodeMembers for YankInstanceBlockNode {
    fn put(&self, out: &mut Out) {
        out.put("node-name", &self.node_name);
    }
}
object!(YankInstanceBlockNode);

/// A character device.
#[derive(Debug, Clone, PartialEq)]
pub struct YankInstanceChardev {
    /// Its id.
    pub id: String,
}
impl DecodeMembers for YankInstanceChardev {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(YankInstanceChardev {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for YankInstanceChardev {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(YankInstanceChardev);

/// Something with a connection that can be yanked.
#[derive(Debug, Clone, PartialEq)]
pub struct YankInstance {
    /// What `type` says, with what belongs to it.
    pub r#type: YankInstanceBranch,
}
/// The branches of [`YankInstance`].
#[derive(Debug, Clone, PartialEq)]
pub enum YankInstanceBranch {
    /// `block-node`
    BlockNode(YankInstanceBlockNode),
    /// `chardev`
    Chardev(YankInstanceChardev),
    /// `migration`
    Migration,
}
impl YankInstanceBranch {
    /// The tag alone.
    pub const fn kind(&self) -> YankInstanceType {
        match self {
            YankInstanceBranch::BlockNode(_) => YankInstanceType::BlockNode,
            YankInstanceBranch::Chardev(_) => YankInstanceType::Chardev,
            YankInstanceBranch::Migration => YankInstanceType::Migration,
        }
    }
}
impl DecodeMembers for YankInstance {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<YankInstanceType>("type")?;

        let r#type = match kind {
            YankInstanceType::BlockNode => {
                YankInstanceBranch::BlockNode(YankInstanceBlockNode::take(members)?)
            }
            YankInstanceType::Chardev => {
                YankInstanceBranch::Chardev(YankInstanceChardev::take(members)?)
            }
            YankInstanceType::Migration => YankInstanceBranch::Migration,
        };
        Ok(YankInstance { r#type })
    }
}
impl EncodeMembers for YankInstance {
    fn put(&self, out: &mut Out) {
        out.put("type", &self.r#type.kind());
        match &self.r#type {
            YankInstanceBranch::BlockNode(branch) => branch.put(out),
            YankInstanceBranch::Chardev(branch) => branch.put(out),
            YankInstanceBranch::Migration => {}
        }
    }
}
object!(YankInstance);

/// The guest's generation id.
#[derive(Debug, Clone, PartialEq)]
pub struct GuidInfo {
    /// The UUID.
    pub guid: String,
}
impl DecodeMembers for GuidInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(GuidInfo {
            guid: members.required("guid")?,
        })
    }
}
impl EncodeMembers for GuidInfo {
    fn put(&self, out: &mut Out) {
        out.put("guid", &self.guid);
    }
}
object!(GuidInfo);

/// A text, or none.
#[derive(Debug, Clone, PartialEq)]
pub enum StrOrNull {
    /// `s`
    S(String),
    /// `n`
    N,
}
impl Decode for StrOrNull {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::String(_) => Decode::decode(value, at).map(StrOrNull::S),
            Value::Null => Ok(StrOrNull::N),
            _ => Err(at.wrong_type("string or null")),
        }
    }
}
impl Encode for StrOrNull {
    fn encode(&self, out: &mut String) {
        match self {
            StrOrNull::S(inner) => inner.encode(out),
            StrOrNull::N => ().encode(out),
        }
    }
}

/// Where a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationStatus {
    /// `none`
    None,
    /// `setup`
    Setup,
    /// `cancelling`
    Cancelling,
    /// `cancelled`
    Cancelled,
    /// `active`
    Active,
    /// `postcopy-active`
    PostcopyActive,
    /// `postcopy-paused`
    PostcopyPaused,
    /// `postcopy-recover-setup`
    PostcopyRecoverSetup,
    /// `postcopy-recover`
    PostcopyRecover,
    /// `completed`
    Completed,
    /// `failed`
    Failed,
    /// `colo`
    Colo,
    /// `pre-switchover`
    PreSwitchover,
    /// `device`
    Device,
    /// `wait-unplug`
    WaitUnplug,
}
names!(MigrationStatus { None = "none", Setup = "setup", Cancelling = "cancelling", Cancelled = "cancelled", Active = "active", PostcopyActive = "postcopy-active", PostcopyPaused = "postcopy-paused", PostcopyRecoverSetup = "postcopy-recover-setup", PostcopyRecover = "postcopy-recover", Completed = "completed", Failed = "failed", Colo = "colo", PreSwitchover = "pre-switchover", Device = "device", WaitUnplug = "wait-unplug" });

/// RAM as it travels.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationStats {
    /// Bytes that went over.
    pub transferred: i64,
    /// Bytes that are still to go.
    pub remaining: i64,
    /// Bytes of all RAM.
    pub total: i64,
    /// Pages that were all zeroes.
    pub duplicate: i64,
    /// Pages that were sent whole.
    pub normal: i64,
    /// Their bytes.
    pub normal_bytes: i64,
    /// Pages that the guest writes in a second.
    pub dirty_pages_rate: i64,
    /// Megabits in a second.
    pub mbps: f64,
    /// Passes over RAM.
    pub dirty_sync_count: i64,
    /// Pages that the other side asked for; always 0.
    pub postcopy_requests: i64,
    /// Bytes of a page.
    pub page_size: i64,
    /// Bytes that went over further channels.
    pub multifd_bytes: u64,
    /// Pages in a second.
    pub pages_per_second: u64,
    /// Bytes that went over while the guest ran.
    pub precopy_bytes: u64,
    /// Bytes that went over while the guest stood still.
    pub downtime_bytes: u64,
    /// Always 0.
    pub postcopy_bytes: u64,
    /// Always 0.
    pub dirty_sync_missed_zero_copy: u64,
}
impl DecodeMembers for MigrationStats {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrationStats {
            transferred: members.required("transferred")?,
            remaining: members.required("remaining")?,
            total: members.required("total")?,
            duplicate: members.required("duplicate")?,
            normal: members.required("normal")?,
            normal_bytes: members.required("normal-bytes")?,
            dirty_pages_rate: members.required("dirty-pages-rate")?,
            mbps: members.required("mbps")?,
            dirty_sync_count: members.required("dirty-sync-count")?,
            postcopy_requests: members.required("postcopy-requests")?,
            page_size: members.required("page-size")?,
            multifd_bytes: members.required("multifd-bytes")?,
            pages_per_second: members.required("pages-per-second")?,
            precopy_bytes: members.required("precopy-bytes")?,
            downtime_bytes: members.required("downtime-bytes")?,
            postcopy_bytes: members.required("postcopy-bytes")?,
            dirty_sync_missed_zero_copy: members.required("dirty-sync-missed-zero-copy")?,
        })
    }
}
impl EncodeMembers for MigrationStats {
    fn put(&self, out: &mut Out) {
        out.put("transferred", &self.transferred);
        out.put("remaining", &self.remaining);
        out.put("total", &self.total);
        out.put("duplicate", &self.duplicate);
        out.put("normal", &self.normal);
        out.put("normal-bytes", &self.normal_bytes);
        out.put("dirty-pages-rate", &self.dirty_pages_rate);
        out.put("mbps", &self.mbps);
        out.put("dirty-sync-count", &self.dirty_sync_count);
        out.put("postcopy-requests", &self.postcopy_requests);
        out.put("page-size", &self.page_size);
        out.put("multifd-bytes", &self.multifd_bytes);
        out.put("pages-per-second", &self.pages_per_second);
        out.put("precopy-bytes", &self.precopy_bytes);
        out.put("downtime-bytes", &self.downtime_bytes);
        out.put("postcopy-bytes", &self.postcopy_bytes);
        out.put(
            "dirty-sync-missed-zero-copy",
            &self.dirty_sync_missed_zero_copy,
        );
    }
}
object!(MigrationStats);

/// What became of the last migration, or how far it is. Empty before the first one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationInfo {
    /// Where it is.
    pub status: Option<MigrationStatus>,
    /// RAM as it travels; while a machine is sent, and afterwards.
    pub ram: Option<MigrationStats>,
    /// Milliseconds since it began, or that it took.
    pub total_time: Option<i64>,
    /// Milliseconds that the guest would stand still if it were stopped now.
    pub expected_downtime: Option<i64>,
    /// Milliseconds that the guest stood still.
    pub downtime: Option<i64>,
    /// Milliseconds before RAM began to travel.
    pub setup_time: Option<i64>,
    /// How much processors are held back, in percent of their time; only while they are.
    pub cpu_throttle_percentage: Option<i64>,
    /// Why it failed.
    pub error_desc: Option<String>,
    /// Why this machine cannot be sent at present.
    pub blocked_reasons: Option<Vec<String>>,
    /// Where this side listens.
    pub socket_address: Option<Vec<SocketAddress>>,
}
impl DecodeMembers for MigrationInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrationInfo {
            status: members.optional("status")?,
            ram: members.optional("ram")?,
            total_time: members.optional("total-time")?,
            expected_downtime: members.optional("expected-downtime")?,
            downtime: members.optional("downtime")?,
            setup_time: members.optional("setup-time")?,
            cpu_throttle_percentage: members.optional("cpu-throttle-percentage")?,
            error_desc: members.optional("error-desc")?,
            blocked_reasons: members.optional("blocked-reasons")?,
            socket_address: members.optional("socket-address")?,
        })
    }
}
impl EncodeMembers for MigrationInfo {
    fn put(&self, out: &mut Out) {
        out.put_some("status", &self.status);
        out.put_some("ram", &self.ram);
        out.put_some("total-time", &self.total_time);
        out.put_some("expected-downtime", &self.expected_downtime);
        out.put_some("downtime", &self.downtime);
        out.put_some("setup-time", &self.setup_time);
        out.put_some("cpu-throttle-percentage", &self.cpu_throttle_percentage);
        out.put_some("error-desc", &self.error_desc);
        out.put_some("blocked-reasons", &self.blocked_reasons);
        out.put_some("socket-address", &self.socket_address);
    }
}
object!(MigrationInfo);

/// What a migration can be asked to do. All names that clients know are there. Those that do
/// not work here can only be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationCapability {
    /// `xbzrle`
    Xbzrle,
    /// `rdma-pin-all`
    RdmaPinAll,
    /// `auto-converge`
    AutoConverge,
    /// `zero-blocks`
    ZeroBlocks,
    /// `events`
    Events,
    /// `postcopy-ram`
    PostcopyRam,
    /// `x-colo`
    XColo,
    /// `release-ram`
    ReleaseRam,
    /// `return-path`
    ReturnPath,
    /// `pause-before-switchover`
    PauseBeforeSwitchover,
    /// `multifd`
    Multifd,
    /// `dirty-bitmaps`
    DirtyBitmaps,
    /// `postcopy-blocktime`
    PostcopyBlocktime,
    /// `late-block-activate`
    LateBlockActivate,
    /// `x-ignore-shared`
    XIgnoreShared,
    /// `validate-uuid`
    ValidateUuid,
    /// `background-snapshot`
    BackgroundSnapshot,
    /// `zero-copy-send`
    ZeroCopySend,
    /// `postcopy-preempt`
    PostcopyPreempt,
    /// `switchover-ack`
    SwitchoverAck,
    /// `dirty-limit`
    DirtyLimit,
    /// `mapped-ram`
    MappedRam,
}
names!(MigrationCapability { Xbzrle = "xbzrle", RdmaPinAll = "rdma-pin-all", AutoConverge = "auto-converge", ZeroBlocks = "zero-blocks", Events = "events", PostcopyRam = "postcopy-ram", XColo = "x-colo", ReleaseRam = "release-ram", ReturnPath = "return-path", PauseBeforeSwitchover = "pause-before-switchover", Multifd = "multifd", DirtyBitmaps = "dirty-bitmaps", PostcopyBlocktime = "postcopy-blocktime", LateBlockActivate = "late-block-activate", XIgnoreShared = "x-ignore-shared", ValidateUuid = "validate-uuid", BackgroundSnapshot = "background-snapshot", ZeroCopySend = "zero-copy-send", PostcopyPreempt = "postcopy-preempt", SwitchoverAck = "switchover-ack", DirtyLimit = "dirty-limit", MappedRam = "mapped-ram" });

/// A capability, on or off.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationCapabilityStatus {
    /// Which.
    pub capability: MigrationCapability,
    /// Whether it is on.
    pub state: bool,
}
impl DecodeMembers for MigrationCapabilityStatus {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrationCapabilityStatus {
            capability: members.required("capability")?,
            state: members.required("state")?,
        })
    }
}
impl EncodeMembers for MigrationCapabilityStatus {
    fn put(&self, out: &mut Out) {
        out.put("capability", &self.capability);
        out.put("state", &self.state);
    }
}
object!(MigrationCapabilityStatus);

/// How multifd's channels compress pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MultiFDCompression {
    /// `none`
    None,
    /// `zlib`
    Zlib,
    /// `zstd`
    Zstd,
}
names!(MultiFDCompression { None = "none", Zlib = "zlib", Zstd = "zstd" });

/// What a migration is for. Only normal works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigMode {
    /// `normal`
    Normal,
    /// `cpr-reboot`
    CprReboot,
    /// `cpr-transfer`
    CprTransfer,
}
names!(MigMode { Normal = "normal", CprReboot = "cpr-reboot", CprTransfer = "cpr-transfer" });

/// Who looks for pages that are all zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ZeroPageDetection {
    /// `none`
    None,
    /// `legacy`
    Legacy,
    /// `multifd`
    Multifd,
}
names!(ZeroPageDetection { None = "none", Legacy = "legacy", Multifd = "multifd" });

/// What becomes of a bitmap on its way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BitmapMigrationBitmapAliasTransform {
    /// It is kept in the image on the other side.
    pub persistent: Option<bool>,
}
impl DecodeMembers for BitmapMigrationBitmapAliasTransform {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BitmapMigrationBitmapAliasTransform {
            persistent: members.optional("persistent")?,
        })
    }
}
impl EncodeMembers for BitmapMigrationBitmapAliasTransform {
    fn put(&self, out: &mut Out) {
        out.put_some("persistent", &self.persistent);
    }
}
object!(BitmapMigrationBitmapAliasTransform);

/// A bitmap's name on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct BitmapMigrationBitmapAlias {
    /// Here.
    pub name: String,
    /// On the way.
    pub alias: String,
    /// What becomes of it.
    pub transform: Option<BitmapMigrationBitmapAliasTransform>,
}
impl DecodeMembers for BitmapMigrationBitmapAlias {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BitmapMigrationBitmapAlias {
            name: members.required("name")?,
            alias: members.required("alias")?,
            transform: members.optional("transform")?,
        })
    }
}
impl EncodeMembers for BitmapMigrationBitmapAlias {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("alias", &self.alias);
        out.put_some("transform", &self.transform);
    }
}
object!(BitmapMigrationBitmapAlias);

/// A node's name on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct BitmapMigrationNodeAlias {
    /// Here.
    pub node_name: String,
    /// On the way.
    pub alias: String,
    /// Its bitmaps.
    pub bitmaps: Vec<BitmapMigrationBitmapAlias>,
}
impl DecodeMembers for BitmapMigrationNodeAlias {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BitmapMigrationNodeAlias {
            node_name: members.required("node-name")?,
            alias: members.required("alias")?,
            bitmaps: members.required("bitmaps")?,
        })
    }
}
impl EncodeMembers for BitmapMigrationNodeAlias {
    fn put(&self, out: &mut Out) {
        out.put("node-name", &self.node_name);
        out.put("alias", &self.alias);
        out.put("bitmaps", &self.bitmaps);
    }
}
object!(BitmapMigrationNodeAlias);

/// Parameters to change; those that are not there stay as they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrateSetParameters {
    /// Milliseconds before the guest's addresses are announced a second time.
    pub announce_initial: Option<crate::decode::Size>,
    /// Milliseconds between two announcements, at most.
    pub announce_max: Option<crate::decode::Size>,
    /// How often they are announced.
    pub announce_rounds: Option<crate::decode::Size>,
    /// Milliseconds by which the time between two announcements grows.
    pub announce_step: Option<crate::decode::Size>,
    /// Percent of a pass that the guest may write anew before processors are held back; 1 to 100.
    pub throttle_trigger_threshold: Option<u8>,
    /// Percent by which they are held back at first; 1 to 99.
    pub cpu_throttle_initial: Option<u8>,
    /// Percent that are added each time; 1 to 99.
    pub cpu_throttle_increment: Option<u8>,
    /// Add less near the end.
    pub cpu_throttle_tailslow: Option<bool>,
    /// Must be empty: there is no encryption here.
    pub tls_creds: Option<StrOrNull>,
    /// Kept; of no use without encryption.
    pub tls_hostname: Option<StrOrNull>,
    /// Kept; of no use without encryption.
    pub tls_authz: Option<StrOrNull>,
    /// Bytes in a second; 0 is no limit.
    pub max_bandwidth: Option<crate::decode::Size>,
    /// Bytes in a second to reckon with once the guest is stopped; 0 is what was measured.
    pub avail_switchover_bandwidth: Option<crate::decode::Size>,
    /// Milliseconds that the guest may stand still; at most 2000000.
    pub downtime_limit: Option<u64>,
    /// Kept; of no use here.
    pub x_checkpoint_delay: Option<u32>,
    /// Further channels; 1 to 255, of which no more than 16 are opened.
    pub multifd_channels: Option<u8>,
    /// Kept; of no use here. A power of two, at least a page.
    pub xbzrle_cache_size: Option<crate::decode::Size>,
    /// Kept; of no use here.
    pub max_postcopy_bandwidth: Option<crate::decode::Size>,
    /// Percent by which processors are held back, at most; 1 to 99.
    pub max_cpu_throttle: Option<u8>,
    /// How further channels compress; zlib is refused.
    pub multifd_compression: Option<MultiFDCompression>,
    /// Kept; of no use here. 0 to 9.
    pub multifd_zlib_level: Option<u8>,
    /// Kept; of no use here. 1 to 9.
    pub multifd_qatzip_level: Option<u8>,
    /// 0 to 20; there is one way of compressing here, which all of them choose.
    pub multifd_zstd_level: Option<u8>,
    /// Kept; of no use here.
    pub block_bitmap_mapping: Option<Vec<BitmapMigrationNodeAlias>>,
    /// Kept; of no use here. Milliseconds, 1 to 1000.
    pub x_vcpu_dirty_limit_period: Option<u64>,
    /// Kept; of no use here. Megabytes in a second, at least 1.
    pub vcpu_dirty_limit: Option<u64>,
    /// What it is for; only normal.
    pub mode: Option<MigMode>,
    /// Who looks for pages of zeroes: none is nobody, legacy and multifd is whoever sends a page.
    pub zero_page_detection: Option<ZeroPageDetection>,
    /// Files are written past the page cache; with mapped-ram only.
    pub direct_io: Option<bool>,
}
impl DecodeMembers for MigrateSetParameters {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateSetParameters {
            announce_initial: members.optional("announce-initial")?,
            announce_max: members.optional("announce-max")?,
            announce_rounds: members.optional("announce-rounds")?,
            announce_step: members.optional("announce-step")?,
            throttle_trigger_threshold: members.optional("throttle-trigger-threshold")?,
            cpu_throttle_initial: members.optional("cpu-throttle-initial")?,
            cpu_throttle_increment: members.optional("cpu-throttle-increment")?,
            cpu_throttle_tailslow: members.optional("cpu-throttle-tailslow")?,
            tls_creds: members.optional("tls-creds")?,
            tls_hostname: members.optional("tls-hostname")?,
            tls_authz: members.optional("tls-authz")?,
            max_bandwidth: members.optional("max-bandwidth")?,
            avail_switchover_bandwidth: members.optional("avail-switchover-bandwidth")?,
            downtime_limit: members.optional("downtime-limit")?,
            x_checkpoint_delay: members.optional("x-checkpoint-delay")?,
            multifd_channels: members.optional("multifd-channels")?,
            xbzrle_cache_size: members.optional("xbzrle-cache-size")?,
            max_postcopy_bandwidth: members.optional("max-postcopy-bandwidth")?,
            max_cpu_throttle: members.optional("max-cpu-throttle")?,
            multifd_compression: members.optional("multifd-compression")?,
            multifd_zlib_level: members.optional("multifd-zlib-level")?,
            multifd_qatzip_level: members.optional("multifd-qatzip-level")?,
            multifd_zstd_level: members.optional("multifd-zstd-level")?,
            block_bitmap_mapping: members.optional("block-bitmap-mapping")?,
            x_vcpu_dirty_limit_period: members.optional("x-vcpu-dirty-limit-period")?,
            vcpu_dirty_limit: members.optional("vcpu-dirty-limit")?,
            mode: members.optional("mode")?,
            zero_page_detection: members.optional("zero-page-detection")?,
            direct_io: members.optional("direct-io")?,
        })
    }
}
impl EncodeMembers for MigrateSetParameters {
    fn put(&self, out: &mut Out) {
        out.put_some("announce-initial", &self.announce_initial);
        out.put_some("announce-max", &self.announce_max);
        out.put_some("announce-rounds", &self.announce_rounds);
        out.put_some("announce-step", &self.announce_step);
        out.put_some(
            "throttle-trigger-threshold",
            &self.throttle_trigger_threshold,
        );
        out.put_some("cpu-throttle-initial", &self.cpu_throttle_initial);
        out.put_some("cpu-throttle-increment", &self.cpu_throttle_increment);
        out.put_some("cpu-throttle-tailslow", &self.cpu_throttle_tailslow);
        out.put_some("tls-creds", &self.tls_creds);
        out.put_some("tls-hostname", &self.tls_hostname);
        out.put_some("tls-authz", &self.tls_authz);
        out.put_some("max-bandwidth", &self.max_bandwidth);
        out.put_some(
            "avail-switchover-bandwidth",
            &self.avail_switchover_bandwidth,
        );
        out.put_some("downtime-limit", &self.downtime_limit);
        out.put_some("x-checkpoint-delay", &self.x_checkpoint_delay);
        out.put_some("multifd-channels", &self.multifd_channels);
        out.put_some("xbzrle-cache-size", &self.xbzrle_cache_size);
        out.put_some("max-postcopy-bandwidth", &self.max_postcopy_bandwidth);
        out.put_some("max-cpu-throttle", &self.max_cpu_throttle);
        out.put_some("multifd-compression", &self.multifd_compression);
        out.put_some("multifd-zlib-level", &self.multifd_zlib_level);
        out.put_some("multifd-qatzip-level", &self.multifd_qatzip_level);
        out.put_some("multifd-zstd-level", &self.multifd_zstd_level);
        out.put_some("block-bitmap-mapping", &self.block_bitmap_mapping);
        out.put_some("x-vcpu-dirty-limit-period", &self.x_vcpu_dirty_limit_period);
        out.put_some("vcpu-dirty-limit", &self.vcpu_dirty_limit);
        out.put_some("mode", &self.mode);
        out.put_some("zero-page-detection", &self.zero_page_detection);
        out.put_some("direct-io", &self.direct_io);
    }
}
object!(MigrateSetParameters);

/// All parameters; MigrateSetParameters tells what they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrationParameters {
    /// `announce-initial`.
    pub announce_initial: Option<crate::decode::Size>,
    /// `announce-max`.
    pub announce_max: Option<crate::decode::Size>,
    /// `announce-rounds`.
    pub announce_rounds: Option<crate::decode::Size>,
    /// `announce-step`.
    pub announce_step: Option<crate::decode::Size>,
    /// `throttle-trigger-threshold`.
    pub throttle_trigger_threshold: Option<u8>,
    /// `cpu-throttle-initial`.
    pub cpu_throttle_initial: Option<u8>,
    /// `cpu-throttle-increment`.
    pub cpu_throttle_increment: Option<u8>,
    /// `cpu-throttle-tailslow`.
    pub cpu_throttle_tailslow: Option<bool>,
    /// `tls-creds`.
    pub tls_creds: Option<String>,
    /// `tls-hostname`.
    pub tls_hostname: Option<String>,
    /// `tls-authz`.
    pub tls_authz: Option<String>,
    /// `max-bandwidth`.
    pub max_bandwidth: Option<crate::decode::Size>,
    /// `avail-switchover-bandwidth`.
    pub avail_switchover_bandwidth: Option<crate::decode::Size>,
    /// `downtime-limit`.
    pub downtime_limit: Option<u64>,
    /// `x-checkpoint-delay`.
    pub x_checkpoint_delay: Option<u32>,
    /// `multifd-channels`.
    pub multifd_channels: Option<u8>,
    /// `xbzrle-cache-size`.
    pub xbzrle_cache_size: Option<crate::decode::Size>,
    /// `max-postcopy-bandwidth`.
    pub max_postcopy_bandwidth: Option<crate::decode::Size>,
    /// `max-cpu-throttle`.
    pub max_cpu_throttle: Option<u8>,
    /// `multifd-compression`.
    pub multifd_compression: Option<MultiFDCompression>,
    /// `multifd-zlib-level`.
    pub multifd_zlib_level: Option<u8>,
    /// `multifd-qatzip-level`.
    pub multifd_qatzip_level: Option<u8>,
    /// `multifd-zstd-level`.
    pub multifd_zstd_level: Option<u8>,
    /// `block-bitmap-mapping`.
    pub block_bitmap_mapping: Option<Vec<BitmapMigrationNodeAlias>>,
    /// `x-vcpu-dirty-limit-period`.
    pub x_vcpu_dirty_limit_period: Option<u64>,
    /// `vcpu-dirty-limit`.
    pub vcpu_dirty_limit: Option<u64>,
    /// `mode`.
    pub mode: Option<MigMode>,
    /// `zero-page-detection`.
    pub zero_page_detection: Option<ZeroPageDetection>,
    /// `direct-io`.
    pub direct_io: Option<bool>,
}
impl DecodeMembers for MigrationParameters {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrationParameters {
            announce_initial: members.optional("announce-initial")?,
            announce_max: members.optional("announce-max")?,
            announce_rounds: members.optional("announce-rounds")?,
            announce_step: members.optional("announce-step")?,
            throttle_trigger_threshold: members.optional("throttle-trigger-threshold")?,
            cpu_throttle_initial: members.optional("cpu-throttle-initial")?,
            cpu_throttle_increment: members.optional("cpu-throttle-increment")?,
            cpu_throttle_tailslow: members.optional("cpu-throttle-tailslow")?,
            tls_creds: members.optional("tls-creds")?,
            tls_hostname: members.optional("tls-hostname")?,
            tls_authz: members.optional("tls-authz")?,
            max_bandwidth: members.optional("max-bandwidth")?,
            avail_switchover_bandwidth: members.optional("avail-switchover-bandwidth")?,
            downtime_limit: members.optional("downtime-limit")?,
            x_checkpoint_delay: members.optional("x-checkpoint-delay")?,
            multifd_channels: members.optional("multifd-channels")?,
            xbzrle_cache_size: members.optional("xbzrle-cache-size")?,
            max_postcopy_bandwidth: members.optional("max-postcopy-bandwidth")?,
            max_cpu_throttle: members.optional("max-cpu-throttle")?,
            multifd_compression: members.optional("multifd-compression")?,
            multifd_zlib_level: members.optional("multifd-zlib-level")?,
            multifd_qatzip_level: members.optional("multifd-qatzip-level")?,
            multifd_zstd_level: members.optional("multifd-zstd-level")?,
            block_bitmap_mapping: members.optional("block-bitmap-mapping")?,
            x_vcpu_dirty_limit_period: members.optional("x-vcpu-dirty-limit-period")?,
            vcpu_dirty_limit: members.optional("vcpu-dirty-limit")?,
            mode: members.optional("mode")?,
            zero_page_detection: members.optional("zero-page-detection")?,
            direct_io: members.optional("direct-io")?,
        })
    }
}
impl EncodeMembers for MigrationParameters {
    fn put(&self, out: &mut Out) {
        out.put_some("announce-initial", &self.announce_initial);
        out.put_some("announce-max", &self.announce_max);
        out.put_some("announce-rounds", &self.announce_rounds);
        out.put_some("announce-step", &self.announce_step);
        out.put_some(
            "throttle-trigger-threshold",
            &self.throttle_trigger_threshold,
        );
        out.put_some("cpu-throttle-initial", &self.cpu_throttle_initial);
        out.put_some("cpu-throttle-increment", &self.cpu_throttle_increment);
        out.put_some("cpu-throttle-tailslow", &self.cpu_throttle_tailslow);
        out.put_some("tls-creds", &self.tls_creds);
        out.put_some("tls-hostname", &self.tls_hostname);
        out.put_some("tls-authz", &self.tls_authz);
        out.put_some("max-bandwidth", &self.max_bandwidth);
        out.put_some(
            "avail-switchover-bandwidth",
            &self.avail_switchover_bandwidth,
        );
        out.put_some("downtime-limit", &self.downtime_limit);
        out.put_some("x-checkpoint-delay", &self.x_checkpoint_delay);
        out.put_some("multifd-channels", &self.multifd_channels);
        out.put_some("xbzrle-cache-size", &self.xbzrle_cache_size);
        out.put_some("max-postcopy-bandwidth", &self.max_postcopy_bandwidth);
        out.put_some("max-cpu-throttle", &self.max_cpu_throttle);
        out.put_some("multifd-compression", &self.multifd_compression);
        out.put_some("multifd-zlib-level", &self.multifd_zlib_level);
        out.put_some("multifd-qatzip-level", &self.multifd_qatzip_level);
        out.put_some("multifd-zstd-level", &self.multifd_zstd_level);
        out.put_some("block-bitmap-mapping", &self.block_bitmap_mapping);
        out.put_some("x-vcpu-dirty-limit-period", &self.x_vcpu_dirty_limit_period);
        out.put_some("vcpu-dirty-limit", &self.vcpu_dirty_limit);
        out.put_some("mode", &self.mode);
        out.put_some("zero-page-detection", &self.zero_page_detection);
        out.put_some("direct-io", &self.direct_io);
    }
}
object!(MigrationParameters);

/// Kinds of ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationAddressType {
    /// `socket`
    Socket,
    /// `exec`
    Exec,
    /// `file`
    File,
}
names!(MigrationAddressType { Socket = "socket", Exec = "exec", File = "file" });

/// A program: it reads the stream from its standard input, or writes it to its standard
/// output.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationExecCommand {
    /// The program and its arguments.
    pub args: Vec<String>,
}
impl DecodeMembers for MigrationExecCommand {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrationExecCommand {
            args: members.required("args")?,
        })
    }
}
impl EncodeMembers for MigrationExecCommand {
    fn put(&self, out: &mut Out) {
        out.put("args", &self.args);
    }
}
object!(MigrationExecCommand);

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileMigrationArgs {
    /// Its path, or /dev/fdset/N.
    pub filename: String,
    /// Bytes from its beginning on.
    pub offset: u64,
}
impl DecodeMembers for FileMigrationArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(FileMigrationArgs {
            filename: members.required("filename")?,
            offset: members.required("offset")?,
        })
    }
}
impl EncodeMembers for FileMigrationArgs {
    fn put(&self, out: &mut Out) {
        out.put("filename", &self.filename);
        out.put("offset", &self.offset);
    }
}
object!(FileMigrationArgs);

/// A way for a machine's state.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationAddress {
    /// What `transport` says, with what belongs to it.
    pub transport: MigrationAddressBranch,
}
/// The branches of [`MigrationAddress`].
#[derive(Debug, Clone, PartialEq)]
pub enum MigrationAddressBranch {
    /// `socket`
    Socket(SocketAddress),
    /// `exec`
    Exec(MigrationExecCommand),
    /// `file`
    File(FileMigrationArgs),
}
impl MigrationAddressBranch {
    /// The tag alone.
    pub const fn kind(&self) -> MigrationAddressType {
        match self {
            MigrationAddressBranch::Socket(_) => MigrationAddressType::Socket,
            MigrationAddressBranch::Exec(_) => MigrationAddressType::Exec,
            MigrationAddressBranch::File(_) => MigrationAddressType::File,
        }
    }
}
impl DecodeMembers for MigrationAddress {
    fn take(members: &mut Members) -> QmpResult<Self> {
        let kind = members.required::<MigrationAddressType>("transport")?;

        let transport = match kind {
            MigrationAddressType::Socket => {
                MigrationAddressBranch::Socket(SocketAddress::take(members)?)
            }
            MigrationAddressType::Exec => {
                MigrationAddressBranch::Exec(MigrationExecCommand::take(members)?)
            }
            MigrationAddressType::File => {
                MigrationAddressBranch::File(FileMigrationArgs::take(members)?)
            }
        };
        Ok(MigrationAddress { transport })
    }
}
impl EncodeMembers for MigrationAddress {
    fn put(&self, out: &mut Out) {
        out.put("transport", &self.transport.kind());
        match &self.transport {
            MigrationAddressBranch::Socket(branch) => branch.put(out),
            MigrationAddressBranch::Exec(branch) => branch.put(out),
            MigrationAddressBranch::File(branch) => branch.put(out),
        }
    }
}
object!(MigrationAddress);

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationChannelType {
    /// `main`
    Main,
    /// `cpr`
    Cpr,
}
names!(MigrationChannelType { Main = "main", Cpr = "cpr" });

/// A channel.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationChannel {
    /// What it is for; only main works here.
    pub channel_type: MigrationChannelType,
    /// Where it leads.
    pub addr: MigrationAddress,
}
impl DecodeMembers for MigrationChannel {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrationChannel {
            channel_type: members.required("channel-type")?,
            addr: members.required("addr")?,
        })
    }
}
impl EncodeMembers for MigrationChannel {
    fn put(&self, out: &mut Out) {
        out.put("channel-type", &self.channel_type);
        out.put("addr", &self.addr);
    }
}
object!(MigrationChannel);

/// How RAM comes out of a file. An addition of qvmd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MigrationRamLoad {
    /// `read`
    Read,
    /// `map`
    Map,
}
names!(MigrationRamLoad { Read = "read", Map = "map" });

/// How a dump is laid out: an ELF core; kdump-compressed in makedumpfile's flattened form,
/// with one of three compressions; the same as it is (raw); a crash dump for Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DumpGuestMemoryFormat {
    /// `elf`
    Elf,
    /// `kdump-zlib`
    KdumpZlib,
    /// `kdump-lzo`
    KdumpLzo,
    /// `kdump-snappy`
    KdumpSnappy,
    /// `kdump-raw-zlib`
    KdumpRawZlib,
    /// `kdump-raw-lzo`
    KdumpRawLzo,
    /// `kdump-raw-snappy`
    KdumpRawSnappy,
    /// `win-dmp`
    WinDmp,
}
names!(DumpGuestMemoryFormat { Elf = "elf", KdumpZlib = "kdump-zlib", KdumpLzo = "kdump-lzo", KdumpSnappy = "kdump-snappy", KdumpRawZlib = "kdump-raw-zlib", KdumpRawLzo = "kdump-raw-lzo", KdumpRawSnappy = "kdump-raw-snappy", WinDmp = "win-dmp" });

/// How the last dump is: there was none, it is under way, it is whole, it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DumpStatus {
    /// `none`
    None,
    /// `active`
    Active,
    /// `completed`
    Completed,
    /// `failed`
    Failed,
}
names!(DumpStatus { None = "none", Active = "active", Completed = "completed", Failed = "failed" });

/// How far a dump is.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpQueryResult {
    /// What became of it.
    pub status: DumpStatus,
    /// Bytes of memory that are done.
    pub completed: i64,
    /// Bytes of memory that are to be done.
    pub total: i64,
}
impl DecodeMembers for DumpQueryResult {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(DumpQueryResult {
            status: members.required("status")?,
            completed: members.required("completed")?,
            total: members.required("total")?,
        })
    }
}
impl EncodeMembers for DumpQueryResult {
    fn put(&self, out: &mut Out) {
        out.put("status", &self.status);
        out.put("completed", &self.completed);
        out.put("total", &self.total);
    }
}
object!(DumpQueryResult);

/// What dumps can be.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpGuestMemoryCapability {
    /// The formats that can be had.
    pub formats: Vec<DumpGuestMemoryFormat>,
}
impl DecodeMembers for DumpGuestMemoryCapability {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(DumpGuestMemoryCapability {
            formats: members.required("formats")?,
        })
    }
}
impl EncodeMembers for DumpGuestMemoryCapability {
    fn put(&self, out: &mut Out) {
        out.put("formats", &self.formats);
    }
}
object!(DumpGuestMemoryCapability);

/// Whether a trace point speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TraceEventState {
    /// `unavailable`
    Unavailable,
    /// `disabled`
    Disabled,
    /// `enabled`
    Enabled,
}
names!(TraceEventState { Unavailable = "unavailable", Disabled = "disabled", Enabled = "enabled" });

/// A trace point.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEventInfo {
    /// Its name.
    pub name: String,
    /// Whether it speaks; none is ever unavailable.
    pub state: TraceEventState,
}
impl DecodeMembers for TraceEventInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TraceEventInfo {
            name: members.required("name")?,
            state: members.required("state")?,
        })
    }
}
impl EncodeMembers for TraceEventInfo {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("state", &self.state);
    }
}
object!(TraceEventInfo);

/// What a guest did wrong. needs-reset: its driver broke the rules of virtqueues, and the
/// device waits for a reset. bad-request: a request made no sense. bad-register: a register
/// was used in a way that it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuestErrorKind {
    /// `needs-reset`
    NeedsReset,
    /// `bad-request`
    BadRequest,
    /// `bad-register`
    BadRegister,
}
names!(GuestErrorKind { NeedsReset = "needs-reset", BadRequest = "bad-request", BadRegister = "bad-register" });

/// How often a guest did something wrong with a device.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestErrorInfo {
    /// The device's id, or its driver; * for all beyond the first thousand.
    pub device: String,
    /// What was wrong.
    pub kind: GuestErrorKind,
    /// How often, since the start of the program.
    pub count: i64,
    /// What was said of one of the last.
    pub last: String,
}
impl DecodeMembers for GuestErrorInfo {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(GuestErrorInfo {
            device: members.required("device")?,
            kind: members.required("kind")?,
            count: members.required("count")?,
            last: members.required("last")?,
        })
    }
}
impl EncodeMembers for GuestErrorInfo {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put("kind", &self.kind);
        out.put("count", &self.count);
        out.put("last", &self.last);
    }
}
object!(GuestErrorInfo);
/// Arguments of `set-action`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SetActionArgs {
    /// On a guest's reboot.
    pub reboot: Option<RebootAction>,
    /// On a guest's shutdown.
    pub shutdown: Option<ShutdownAction>,
    /// On a guest's panic.
    pub panic: Option<PanicAction>,
    /// On an expired watchdog.
    pub watchdog: Option<WatchdogAction>,
}
impl DecodeMembers for SetActionArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SetActionArgs {
            reboot: members.optional("reboot")?,
            shutdown: members.optional("shutdown")?,
            panic: members.optional("panic")?,
            watchdog: members.optional("watchdog")?,
        })
    }
}
impl EncodeMembers for SetActionArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("reboot", &self.reboot);
        out.put_some("shutdown", &self.shutdown);
        out.put_some("panic", &self.panic);
        out.put_some("watchdog", &self.watchdog);
    }
}
object!(SetActionArgs);
/// Arguments of `qmp_capabilities`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QmpCapabilitiesArgs {
    /// Capabilities to switch on.
    pub enable: Option<Vec<QMPCapability>>,
}
impl DecodeMembers for QmpCapabilitiesArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QmpCapabilitiesArgs {
            enable: members.optional("enable")?,
        })
    }
}
impl EncodeMembers for QmpCapabilitiesArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("enable", &self.enable);
    }
}
object!(QmpCapabilitiesArgs);
/// Arguments of `human-monitor-command`.
#[derive(Debug, Clone, PartialEq)]
pub struct HumanMonitorCommandArgs {
    /// The line.
    pub command_line: String,
    /// The processor that lines on registers look at.
    pub cpu_index: Option<i64>,
}
impl DecodeMembers for HumanMonitorCommandArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(HumanMonitorCommandArgs {
            command_line: members.required("command-line")?,
            cpu_index: members.optional("cpu-index")?,
        })
    }
}
impl EncodeMembers for HumanMonitorCommandArgs {
    fn put(&self, out: &mut Out) {
        out.put("command-line", &self.command_line);
        out.put_some("cpu-index", &self.cpu_index);
    }
}
object!(HumanMonitorCommandArgs);
/// Arguments of `getfd`.
#[derive(Debug, Clone, PartialEq)]
pub struct GetfdArgs {
    /// The name; it must not begin with a digit.
    pub fdname: String,
}
impl DecodeMembers for GetfdArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(GetfdArgs {
            fdname: members.required("fdname")?,
        })
    }
}
impl EncodeMembers for GetfdArgs {
    fn put(&self, out: &mut Out) {
        out.put("fdname", &self.fdname);
    }
}
object!(GetfdArgs);
/// Arguments of `closefd`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosefdArgs {
    /// The name.
    pub fdname: String,
}
impl DecodeMembers for ClosefdArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ClosefdArgs {
            fdname: members.required("fdname")?,
        })
    }
}
impl EncodeMembers for ClosefdArgs {
    fn put(&self, out: &mut Out) {
        out.put("fdname", &self.fdname);
    }
}
object!(ClosefdArgs);
/// Arguments of `add-fd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddFdArgs {
    /// The set.
    pub fdset_id: Option<i64>,
    /// Text that query-fdsets gives back.
    pub opaque: Option<String>,
}
impl DecodeMembers for AddFdArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(AddFdArgs {
            fdset_id: members.optional("fdset-id")?,
            opaque: members.optional("opaque")?,
        })
    }
}
impl EncodeMembers for AddFdArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("fdset-id", &self.fdset_id);
        out.put_some("opaque", &self.opaque);
    }
}
object!(AddFdArgs);
/// Arguments of `remove-fd`.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoveFdArgs {
    /// The set.
    pub fdset_id: i64,
    /// The descriptor.
    pub fd: Option<i64>,
}
impl DecodeMembers for RemoveFdArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(RemoveFdArgs {
            fdset_id: members.required("fdset-id")?,
            fd: members.optional("fd")?,
        })
    }
}
impl EncodeMembers for RemoveFdArgs {
    fn put(&self, out: &mut Out) {
        out.put("fdset-id", &self.fdset_id);
        out.put_some("fd", &self.fd);
    }
}
object!(RemoveFdArgs);
/// Arguments of `query-command-line-options`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryCommandLineOptionsArgs {
    /// Only this one.
    pub option: Option<String>,
}
impl DecodeMembers for QueryCommandLineOptionsArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QueryCommandLineOptionsArgs {
            option: members.optional("option")?,
        })
    }
}
impl EncodeMembers for QueryCommandLineOptionsArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("option", &self.option);
    }
}
object!(QueryCommandLineOptionsArgs);
/// Arguments of `query-machines`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryMachinesArgs {
    /// Accepted; no type has any here.
    pub compat_props: Option<bool>,
}
impl DecodeMembers for QueryMachinesArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QueryMachinesArgs {
            compat_props: members.optional("compat-props")?,
        })
    }
}
impl EncodeMembers for QueryMachinesArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("compat-props", &self.compat_props);
    }
}
object!(QueryMachinesArgs);
/// Arguments of `qom-list`.
#[derive(Debug, Clone, PartialEq)]
pub struct QomListArgs {
    /// The object; a part of a path is enough where it is unique.
    pub path: String,
}
impl DecodeMembers for QomListArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QomListArgs {
            path: members.required("path")?,
        })
    }
}
impl EncodeMembers for QomListArgs {
    fn put(&self, out: &mut Out) {
        out.put("path", &self.path);
    }
}
object!(QomListArgs);
/// Arguments of `qom-get`.
#[derive(Debug, Clone, PartialEq)]
pub struct QomGetArgs {
    /// `path`.
    pub path: String,
    /// `property`.
    pub property: String,
}
impl DecodeMembers for QomGetArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QomGetArgs {
            path: members.required("path")?,
            property: members.required("property")?,
        })
    }
}
impl EncodeMembers for QomGetArgs {
    fn put(&self, out: &mut Out) {
        out.put("path", &self.path);
        out.put("property", &self.property);
    }
}
object!(QomGetArgs);
/// Arguments of `qom-set`.
#[derive(Debug, Clone, PartialEq)]
pub struct QomSetArgs {
    /// `path`.
    pub path: String,
    /// `property`.
    pub property: String,
    /// `value`.
    pub value: Value,
}
impl DecodeMembers for QomSetArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QomSetArgs {
            path: members.required("path")?,
            property: members.required("property")?,
            value: members.required("value")?,
        })
    }
}
impl EncodeMembers for QomSetArgs {
    fn put(&self, out: &mut Out) {
        out.put("path", &self.path);
        out.put("property", &self.property);
        out.put("value", &self.value);
    }
}
object!(QomSetArgs);
/// Arguments of `qom-list-types`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListTypesArgs {
    /// Only those that are this type or below it.
    pub implements: Option<String>,
    /// Whether types without instances are listed too.
    pub r#abstract: Option<bool>,
}
impl DecodeMembers for QomListTypesArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QomListTypesArgs {
            implements: members.optional("implements")?,
            r#abstract: members.optional("abstract")?,
        })
    }
}
impl EncodeMembers for QomListTypesArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("implements", &self.implements);
        out.put_some("abstract", &self.r#abstract);
    }
}
object!(QomListTypesArgs);
/// Arguments of `device-list-properties`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceListPropertiesArgs {
    /// `typename`.
    pub typename: String,
}
impl DecodeMembers for DeviceListPropertiesArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(DeviceListPropertiesArgs {
            typename: members.required("typename")?,
        })
    }
}
impl EncodeMembers for DeviceListPropertiesArgs {
    fn put(&self, out: &mut Out) {
        out.put("typename", &self.typename);
    }
}
object!(DeviceListPropertiesArgs);
/// Arguments of `object-del`.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectDelArgs {
    /// `id`.
    pub id: String,
}
impl DecodeMembers for ObjectDelArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ObjectDelArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for ObjectDelArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(ObjectDelArgs);
/// Arguments of `blockdev-del`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevDelArgs {
    /// `node-name`.
    pub node_name: String,
}
impl DecodeMembers for BlockdevDelArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevDelArgs {
            node_name: members.required("node-name")?,
        })
    }
}
impl EncodeMembers for BlockdevDelArgs {
    fn put(&self, out: &mut Out) {
        out.put("node-name", &self.node_name);
    }
}
object!(BlockdevDelArgs);
/// Arguments of `query-blockstats`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryBlockstatsArgs {
    /// Ask for nodes rather than devices.
    pub query_nodes: Option<bool>,
}
impl DecodeMembers for QueryBlockstatsArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QueryBlockstatsArgs {
            query_nodes: members.optional("query-nodes")?,
        })
    }
}
impl EncodeMembers for QueryBlockstatsArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("query-nodes", &self.query_nodes);
    }
}
object!(QueryBlockstatsArgs);
/// Arguments of `query-named-block-nodes`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryNamedBlockNodesArgs {
    /// Leave out what is below each.
    pub flat: Option<bool>,
}
impl DecodeMembers for QueryNamedBlockNodesArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QueryNamedBlockNodesArgs {
            flat: members.optional("flat")?,
        })
    }
}
impl EncodeMembers for QueryNamedBlockNodesArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("flat", &self.flat);
    }
}
object!(QueryNamedBlockNodesArgs);
/// Arguments of `ringbuf-write`.
#[derive(Debug, Clone, PartialEq)]
pub struct RingbufWriteArgs {
    /// `device`.
    pub device: String,
    /// `data`.
    pub data: String,
    /// `format`.
    pub format: Option<DataFormat>,
}
impl DecodeMembers for RingbufWriteArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(RingbufWriteArgs {
            device: members.required("device")?,
            data: members.required("data")?,
            format: members.optional("format")?,
        })
    }
}
impl EncodeMembers for RingbufWriteArgs {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put("data", &self.data);
        out.put_some("format", &self.format);
    }
}
object!(RingbufWriteArgs);
/// Arguments of `ringbuf-read`.
#[derive(Debug, Clone, PartialEq)]
pub struct RingbufReadArgs {
    /// `device`.
    pub device: String,
    /// `size`.
    pub size: i64,
    /// `format`.
    pub format: Option<DataFormat>,
}
impl DecodeMembers for RingbufReadArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(RingbufReadArgs {
            device: members.required("device")?,
            size: members.required("size")?,
            format: members.optional("format")?,
        })
    }
}
impl EncodeMembers for RingbufReadArgs {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put("size", &self.size);
        out.put_some("format", &self.format);
    }
}
object!(RingbufReadArgs);
/// Arguments of `chardev-add`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevAddArgs {
    /// `id`.
    pub id: String,
    /// `backend`.
    pub backend: ChardevBackend,
}
impl DecodeMembers for ChardevAddArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevAddArgs {
            id: members.required("id")?,
            backend: members.required("backend")?,
        })
    }
}
impl EncodeMembers for ChardevAddArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put("backend", &self.backend);
    }
}
object!(ChardevAddArgs);
/// Arguments of `chardev-change`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevChangeArgs {
    /// `id`.
    pub id: String,
    /// `backend`.
    pub backend: ChardevBackend,
}
impl DecodeMembers for ChardevChangeArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevChangeArgs {
            id: members.required("id")?,
            backend: members.required("backend")?,
        })
    }
}
impl EncodeMembers for ChardevChangeArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put("backend", &self.backend);
    }
}
object!(ChardevChangeArgs);
/// Arguments of `chardev-send-break`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevSendBreakArgs {
    /// The device.
    pub id: String,
}
impl DecodeMembers for ChardevSendBreakArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevSendBreakArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for ChardevSendBreakArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(ChardevSendBreakArgs);
/// Arguments of `chardev-remove`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChardevRemoveArgs {
    /// `id`.
    pub id: String,
}
impl DecodeMembers for ChardevRemoveArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChardevRemoveArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for ChardevRemoveArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(ChardevRemoveArgs);
/// Arguments of `job-pause`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPauseArgs {
    /// The job.
    pub id: String,
}
impl DecodeMembers for JobPauseArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobPauseArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for JobPauseArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(JobPauseArgs);
/// Arguments of `job-resume`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobResumeArgs {
    /// The job.
    pub id: String,
}
impl DecodeMembers for JobResumeArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobResumeArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for JobResumeArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(JobResumeArgs);
/// Arguments of `job-cancel`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobCancelArgs {
    /// The job.
    pub id: String,
}
impl DecodeMembers for JobCancelArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobCancelArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for JobCancelArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(JobCancelArgs);
/// Arguments of `job-complete`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobCompleteArgs {
    /// The job.
    pub id: String,
}
impl DecodeMembers for JobCompleteArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobCompleteArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for JobCompleteArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(JobCompleteArgs);
/// Arguments of `job-dismiss`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDismissArgs {
    /// The job.
    pub id: String,
}
impl DecodeMembers for JobDismissArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobDismissArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for JobDismissArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(JobDismissArgs);
/// Arguments of `job-finalize`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFinalizeArgs {
    /// The job.
    pub id: String,
}
impl DecodeMembers for JobFinalizeArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(JobFinalizeArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for JobFinalizeArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(JobFinalizeArgs);
/// Arguments of `block-latency-histogram-set`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockLatencyHistogramSetArgs {
    /// The device.
    pub id: String,
    /// Nanoseconds, for all kinds of requests.
    pub boundaries: Option<Vec<u64>>,
    /// For reads.
    pub boundaries_read: Option<Vec<u64>>,
    /// For writes.
    pub boundaries_write: Option<Vec<u64>>,
    /// For appends to zones.
    pub boundaries_zap: Option<Vec<u64>>,
    /// For flushes.
    pub boundaries_flush: Option<Vec<u64>>,
}
impl DecodeMembers for BlockLatencyHistogramSetArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockLatencyHistogramSetArgs {
            id: members.required("id")?,
            boundaries: members.optional("boundaries")?,
            boundaries_read: members.optional("boundaries-read")?,
            boundaries_write: members.optional("boundaries-write")?,
            boundaries_zap: members.optional("boundaries-zap")?,
            boundaries_flush: members.optional("boundaries-flush")?,
        })
    }
}
impl EncodeMembers for BlockLatencyHistogramSetArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put_some("boundaries", &self.boundaries);
        out.put_some("boundaries-read", &self.boundaries_read);
        out.put_some("boundaries-write", &self.boundaries_write);
        out.put_some("boundaries-zap", &self.boundaries_zap);
        out.put_some("boundaries-flush", &self.boundaries_flush);
    }
}
object!(BlockLatencyHistogramSetArgs);
/// Arguments of `block-set-write-threshold`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSetWriteThresholdArgs {
    /// The node.
    pub node_name: String,
    /// The offset; 0 switches it off.
    pub write_threshold: u64,
}
impl DecodeMembers for BlockSetWriteThresholdArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockSetWriteThresholdArgs {
            node_name: members.required("node-name")?,
            write_threshold: members.required("write-threshold")?,
        })
    }
}
impl EncodeMembers for BlockSetWriteThresholdArgs {
    fn put(&self, out: &mut Out) {
        out.put("node-name", &self.node_name);
        out.put("write-threshold", &self.write_threshold);
    }
}
object!(BlockSetWriteThresholdArgs);
/// Arguments of `blockdev-create`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateArgs {
    /// The job's name.
    pub job_id: String,
    /// The image.
    pub options: BlockdevCreateOptions,
}
impl DecodeMembers for BlockdevCreateArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCreateArgs {
            job_id: members.required("job-id")?,
            options: members.required("options")?,
        })
    }
}
impl EncodeMembers for BlockdevCreateArgs {
    fn put(&self, out: &mut Out) {
        out.put("job-id", &self.job_id);
        out.put("options", &self.options);
    }
}
object!(BlockdevCreateArgs);
/// Arguments of `blockdev-check`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCheckArgs {
    /// The image's node.
    pub node_name: String,
    /// How far what is found is mended; none by default.
    pub fix: Option<BlockdevCheckFix>,
}
impl DecodeMembers for BlockdevCheckArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCheckArgs {
            node_name: members.required("node-name")?,
            fix: members.optional("fix")?,
        })
    }
}
impl EncodeMembers for BlockdevCheckArgs {
    fn put(&self, out: &mut Out) {
        out.put("node-name", &self.node_name);
        out.put_some("fix", &self.fix);
    }
}
object!(BlockdevCheckArgs);
/// Arguments of `eject`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EjectArgs {
    /// The drive's name.
    pub device: Option<String>,
    /// The device's id or path.
    pub id: Option<String>,
    /// A lock of the guest does not count.
    pub force: Option<bool>,
}
impl DecodeMembers for EjectArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(EjectArgs {
            device: members.optional("device")?,
            id: members.optional("id")?,
            force: members.optional("force")?,
        })
    }
}
impl EncodeMembers for EjectArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("id", &self.id);
        out.put_some("force", &self.force);
    }
}
object!(EjectArgs);
/// Arguments of `blockdev-open-tray`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOpenTrayArgs {
    /// The drive's name.
    pub device: Option<String>,
    /// The device's id or path.
    pub id: Option<String>,
    /// A lock of the guest does not count.
    pub force: Option<bool>,
}
impl DecodeMembers for BlockdevOpenTrayArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevOpenTrayArgs {
            device: members.optional("device")?,
            id: members.optional("id")?,
            force: members.optional("force")?,
        })
    }
}
impl EncodeMembers for BlockdevOpenTrayArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("id", &self.id);
        out.put_some("force", &self.force);
    }
}
object!(BlockdevOpenTrayArgs);
/// Arguments of `blockdev-close-tray`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCloseTrayArgs {
    /// The drive's name.
    pub device: Option<String>,
    /// The device's id or path.
    pub id: Option<String>,
}
impl DecodeMembers for BlockdevCloseTrayArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevCloseTrayArgs {
            device: members.optional("device")?,
            id: members.optional("id")?,
        })
    }
}
impl EncodeMembers for BlockdevCloseTrayArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("id", &self.id);
    }
}
object!(BlockdevCloseTrayArgs);
/// Arguments of `blockdev-remove-medium`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevRemoveMediumArgs {
    /// The device's id or path.
    pub id: String,
}
impl DecodeMembers for BlockdevRemoveMediumArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevRemoveMediumArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for BlockdevRemoveMediumArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(BlockdevRemoveMediumArgs);
/// Arguments of `blockdev-insert-medium`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevInsertMediumArgs {
    /// The device's id or path.
    pub id: String,
    /// The node.
    pub node_name: String,
}
impl DecodeMembers for BlockdevInsertMediumArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevInsertMediumArgs {
            id: members.required("id")?,
            node_name: members.required("node-name")?,
        })
    }
}
impl EncodeMembers for BlockdevInsertMediumArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
        out.put("node-name", &self.node_name);
    }
}
object!(BlockdevInsertMediumArgs);
/// Arguments of `blockdev-change-medium`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevChangeMediumArgs {
    /// The drive's name.
    pub device: Option<String>,
    /// The device's id or path.
    pub id: Option<String>,
    /// The file.
    pub filename: String,
    /// Its format; found out where it is not given.
    pub format: Option<String>,
    /// A lock of the guest does not count.
    pub force: Option<bool>,
    /// Whether it can be written; retain by default.
    pub read_only_mode: Option<BlockdevChangeReadOnlyMode>,
}
impl DecodeMembers for BlockdevChangeMediumArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevChangeMediumArgs {
            device: members.optional("device")?,
            id: members.optional("id")?,
            filename: members.required("filename")?,
            format: members.optional("format")?,
            force: members.optional("force")?,
            read_only_mode: members.optional("read-only-mode")?,
        })
    }
}
impl EncodeMembers for BlockdevChangeMediumArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("id", &self.id);
        out.put("filename", &self.filename);
        out.put_some("format", &self.format);
        out.put_some("force", &self.force);
        out.put_some("read-only-mode", &self.read_only_mode);
    }
}
object!(BlockdevChangeMediumArgs);
/// Arguments of `blockdev-reopen`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevReopenArgs {
    /// The nodes' options; `node-name` says which.
    pub options: Vec<BlockdevOptions>,
}
impl DecodeMembers for BlockdevReopenArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevReopenArgs {
            options: members.required("options")?,
        })
    }
}
impl EncodeMembers for BlockdevReopenArgs {
    fn put(&self, out: &mut Out) {
        out.put("options", &self.options);
    }
}
object!(BlockdevReopenArgs);
/// Arguments of `blockdev-snapshot-delete-internal-sync`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotDeleteInternalSyncArgs {
    /// The drive or node.
    pub device: String,
    /// The snapshot's id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
}
impl DecodeMembers for BlockdevSnapshotDeleteInternalSyncArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotDeleteInternalSyncArgs {
            device: members.required("device")?,
            id: members.optional("id")?,
            name: members.optional("name")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotDeleteInternalSyncArgs {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put_some("id", &self.id);
        out.put_some("name", &self.name);
    }
}
object!(BlockdevSnapshotDeleteInternalSyncArgs);
/// Arguments of `transaction`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionArgs {
    /// What is done, in order.
    pub actions: Vec<TransactionAction>,
    /// How.
    pub properties: Option<TransactionProperties>,
}
impl DecodeMembers for TransactionArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TransactionArgs {
            actions: members.required("actions")?,
            properties: members.optional("properties")?,
        })
    }
}
impl EncodeMembers for TransactionArgs {
    fn put(&self, out: &mut Out) {
        out.put("actions", &self.actions);
        out.put_some("properties", &self.properties);
    }
}
object!(TransactionArgs);
/// Arguments of `change-backing-file`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeBackingFileArgs {
    /// The drive or node on top.
    pub device: String,
    /// The image.
    pub image_node_name: String,
    /// The name.
    pub backing_file: String,
}
impl DecodeMembers for ChangeBackingFileArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ChangeBackingFileArgs {
            device: members.required("device")?,
            image_node_name: members.required("image-node-name")?,
            backing_file: members.required("backing-file")?,
        })
    }
}
impl EncodeMembers for ChangeBackingFileArgs {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put("image-node-name", &self.image_node_name);
        out.put("backing-file", &self.backing_file);
    }
}
object!(ChangeBackingFileArgs);
/// Arguments of `block_resize`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockResizeArgs {
    /// The drive.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// Bytes.
    pub size: i64,
}
impl DecodeMembers for BlockResizeArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockResizeArgs {
            device: members.optional("device")?,
            node_name: members.optional("node-name")?,
            size: members.required("size")?,
        })
    }
}
impl EncodeMembers for BlockResizeArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("device", &self.device);
        out.put_some("node-name", &self.node_name);
        out.put("size", &self.size);
    }
}
object!(BlockResizeArgs);
/// Arguments of `blockdev-snapshot-apply`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSnapshotApplyArgs {
    /// The drive or node.
    pub device: String,
    /// The snapshot's id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
}
impl DecodeMembers for BlockdevSnapshotApplyArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSnapshotApplyArgs {
            device: members.required("device")?,
            id: members.optional("id")?,
            name: members.optional("name")?,
        })
    }
}
impl EncodeMembers for BlockdevSnapshotApplyArgs {
    fn put(&self, out: &mut Out) {
        out.put("device", &self.device);
        out.put_some("id", &self.id);
        out.put_some("name", &self.name);
    }
}
object!(BlockdevSnapshotApplyArgs);
/// Arguments of `query-rx-filter`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryRxFilterArgs {
    /// One interface; all by default.
    pub name: Option<String>,
}
impl DecodeMembers for QueryRxFilterArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(QueryRxFilterArgs {
            name: members.optional("name")?,
        })
    }
}
impl EncodeMembers for QueryRxFilterArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("name", &self.name);
    }
}
object!(QueryRxFilterArgs);
/// Arguments of `netdev_del`.
#[derive(Debug, Clone, PartialEq)]
pub struct NetdevDelArgs {
    /// `id`.
    pub id: String,
}
impl DecodeMembers for NetdevDelArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(NetdevDelArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for NetdevDelArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(NetdevDelArgs);
/// Arguments of `set_link`.
#[derive(Debug, Clone, PartialEq)]
pub struct SetLinkArgs {
    /// The interface or netdev.
    pub name: String,
    /// Plugged.
    pub up: bool,
}
impl DecodeMembers for SetLinkArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SetLinkArgs {
            name: members.required("name")?,
            up: members.required("up")?,
        })
    }
}
impl EncodeMembers for SetLinkArgs {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("up", &self.up);
    }
}
object!(SetLinkArgs);
/// Arguments of `device_del`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceDelArgs {
    /// The device's id, or its path in the object tree.
    pub id: String,
}
impl DecodeMembers for DeviceDelArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(DeviceDelArgs {
            id: members.required("id")?,
        })
    }
}
impl EncodeMembers for DeviceDelArgs {
    fn put(&self, out: &mut Out) {
        out.put("id", &self.id);
    }
}
object!(DeviceDelArgs);
/// Arguments of `balloon`.
#[derive(Debug, Clone, PartialEq)]
pub struct BalloonArgs {
    /// Bytes that the guest is to have.
    pub value: i64,
}
impl DecodeMembers for BalloonArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BalloonArgs {
            value: members.required("value")?,
        })
    }
}
impl EncodeMembers for BalloonArgs {
    fn put(&self, out: &mut Out) {
        out.put("value", &self.value);
    }
}
object!(BalloonArgs);
/// Arguments of `watchdog-set-action`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogSetActionArgs {
    /// What is to be done.
    pub action: WatchdogAction,
}
impl DecodeMembers for WatchdogSetActionArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(WatchdogSetActionArgs {
            action: members.required("action")?,
        })
    }
}
impl EncodeMembers for WatchdogSetActionArgs {
    fn put(&self, out: &mut Out) {
        out.put("action", &self.action);
    }
}
object!(WatchdogSetActionArgs);
/// Arguments of `yank`.
#[derive(Debug, Clone, PartialEq)]
pub struct YankArgs {
    /// Whose connections.
    pub instances: Vec<YankInstance>,
}
impl DecodeMembers for YankArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(YankArgs {
            instances: members.required("instances")?,
        })
    }
}
impl EncodeMembers for YankArgs {
    fn put(&self, out: &mut Out) {
        out.put("instances", &self.instances);
    }
}
object!(YankArgs);
/// Arguments of `migrate-set-capabilities`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateSetCapabilitiesArgs {
    /// What to switch.
    pub capabilities: Vec<MigrationCapabilityStatus>,
}
impl DecodeMembers for MigrateSetCapabilitiesArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateSetCapabilitiesArgs {
            capabilities: members.required("capabilities")?,
        })
    }
}
impl EncodeMembers for MigrateSetCapabilitiesArgs {
    fn put(&self, out: &mut Out) {
        out.put("capabilities", &self.capabilities);
    }
}
object!(MigrateSetCapabilitiesArgs);
/// Arguments of `migrate_set_speed`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateSetSpeedArgs {
    /// Bytes in a second; 0 is no limit.
    pub value: i64,
}
impl DecodeMembers for MigrateSetSpeedArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateSetSpeedArgs {
            value: members.required("value")?,
        })
    }
}
impl EncodeMembers for MigrateSetSpeedArgs {
    fn put(&self, out: &mut Out) {
        out.put("value", &self.value);
    }
}
object!(MigrateSetSpeedArgs);
/// Arguments of `migrate_set_downtime`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateSetDowntimeArgs {
    /// Seconds, with fractions.
    pub value: f64,
}
impl DecodeMembers for MigrateSetDowntimeArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateSetDowntimeArgs {
            value: members.required("value")?,
        })
    }
}
impl EncodeMembers for MigrateSetDowntimeArgs {
    fn put(&self, out: &mut Out) {
        out.put("value", &self.value);
    }
}
object!(MigrateSetDowntimeArgs);
/// Arguments of `migrate-set-cache-size`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateSetCacheSizeArgs {
    /// Bytes.
    pub value: i64,
}
impl DecodeMembers for MigrateSetCacheSizeArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateSetCacheSizeArgs {
            value: members.required("value")?,
        })
    }
}
impl EncodeMembers for MigrateSetCacheSizeArgs {
    fn put(&self, out: &mut Out) {
        out.put("value", &self.value);
    }
}
object!(MigrateSetCacheSizeArgs);
/// Arguments of `migrate`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrateArgs {
    /// Where to: tcp:host:port, unix:path, fd:name, exec:command or file:path[,offset=N].
    pub uri: Option<String>,
    /// Where to, as an object. Exactly one channel, instead of a URI.
    pub channels: Option<Vec<MigrationChannel>>,
    /// Makes no difference.
    pub detach: Option<bool>,
    /// Go on with a migration that stood still; there are none here.
    pub resume: Option<bool>,
}
impl DecodeMembers for MigrateArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateArgs {
            uri: members.optional("uri")?,
            channels: members.optional("channels")?,
            detach: members.optional("detach")?,
            resume: members.optional("resume")?,
        })
    }
}
impl EncodeMembers for MigrateArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("uri", &self.uri);
        out.put_some("channels", &self.channels);
        out.put_some("detach", &self.detach);
        out.put_some("resume", &self.resume);
    }
}
object!(MigrateArgs);
/// Arguments of `migrate-incoming`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigrateIncomingArgs {
    /// Where from, as for migrate; tcp and unix listen.
    pub uri: Option<String>,
    /// Where from, as an object. Exactly one channel, instead of a URI.
    pub channels: Option<Vec<MigrationChannel>>,
    /// Whether the program ends when it fails; on by default.
    pub exit_on_error: Option<bool>,
    /// read copies all of RAM out of the file before the guest runs. map lets the guest run at
    /// once, and takes each page out of the file when it is first touched: for files that were
    /// written with mapped-ram, which must not change while the machine lives. An addition of
    /// qvmd; read by default.
    pub ram_load: Option<MigrationRamLoad>,
}
impl DecodeMembers for MigrateIncomingArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateIncomingArgs {
            uri: members.optional("uri")?,
            channels: members.optional("channels")?,
            exit_on_error: members.optional("exit-on-error")?,
            ram_load: members.optional("ram-load")?,
        })
    }
}
impl EncodeMembers for MigrateIncomingArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("uri", &self.uri);
        out.put_some("channels", &self.channels);
        out.put_some("exit-on-error", &self.exit_on_error);
        out.put_some("ram-load", &self.ram_load);
    }
}
object!(MigrateIncomingArgs);
/// Arguments of `migrate-continue`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateContinueArgs {
    /// Where it waits: pre-switchover.
    pub state: MigrationStatus,
}
impl DecodeMembers for MigrateContinueArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateContinueArgs {
            state: members.required("state")?,
        })
    }
}
impl EncodeMembers for MigrateContinueArgs {
    fn put(&self, out: &mut Out) {
        out.put("state", &self.state);
    }
}
object!(MigrateContinueArgs);
/// Arguments of `migrate-recover`.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrateRecoverArgs {
    /// Where to listen.
    pub uri: String,
}
impl DecodeMembers for MigrateRecoverArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MigrateRecoverArgs {
            uri: members.required("uri")?,
        })
    }
}
impl EncodeMembers for MigrateRecoverArgs {
    fn put(&self, out: &mut Out) {
        out.put("uri", &self.uri);
    }
}
object!(MigrateRecoverArgs);
/// Arguments of `client_migrate_info`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientMigrateInfoArgs {
    /// spice
    pub protocol: String,
    /// Where the display will be.
    pub hostname: String,
    /// Its port.
    pub port: Option<i64>,
    /// Its port for encrypted connections.
    pub tls_port: Option<i64>,
    /// Whom its certificate must name.
    pub cert_subject: Option<String>,
}
impl DecodeMembers for ClientMigrateInfoArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ClientMigrateInfoArgs {
            protocol: members.required("protocol")?,
            hostname: members.required("hostname")?,
            port: members.optional("port")?,
            tls_port: members.optional("tls-port")?,
            cert_subject: members.optional("cert-subject")?,
        })
    }
}
impl EncodeMembers for ClientMigrateInfoArgs {
    fn put(&self, out: &mut Out) {
        out.put("protocol", &self.protocol);
        out.put("hostname", &self.hostname);
        out.put_some("port", &self.port);
        out.put_some("tls-port", &self.tls_port);
        out.put_some("cert-subject", &self.cert_subject);
    }
}
object!(ClientMigrateInfoArgs);
/// Arguments of `snapshot-save`.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotSaveArgs {
    /// The job's name.
    pub job_id: String,
    /// The snapshot's name, which no disk has yet.
    pub tag: String,
    /// The node whose image takes the machine's state; one of the disks.
    pub vmstate: String,
    /// The disks' nodes: written, and of a format with snapshots.
    pub devices: Vec<String>,
}
impl DecodeMembers for SnapshotSaveArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SnapshotSaveArgs {
            job_id: members.required("job-id")?,
            tag: members.required("tag")?,
            vmstate: members.required("vmstate")?,
            devices: members.required("devices")?,
        })
    }
}
impl EncodeMembers for SnapshotSaveArgs {
    fn put(&self, out: &mut Out) {
        out.put("job-id", &self.job_id);
        out.put("tag", &self.tag);
        out.put("vmstate", &self.vmstate);
        out.put("devices", &self.devices);
    }
}
object!(SnapshotSaveArgs);
/// Arguments of `snapshot-load`.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotLoadArgs {
    /// The job's name.
    pub job_id: String,
    /// The snapshot's name, which all disks have.
    pub tag: String,
    /// The node whose image has the machine's state; one of the disks.
    pub vmstate: String,
    /// The disks' nodes.
    pub devices: Vec<String>,
}
impl DecodeMembers for SnapshotLoadArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SnapshotLoadArgs {
            job_id: members.required("job-id")?,
            tag: members.required("tag")?,
            vmstate: members.required("vmstate")?,
            devices: members.required("devices")?,
        })
    }
}
impl EncodeMembers for SnapshotLoadArgs {
    fn put(&self, out: &mut Out) {
        out.put("job-id", &self.job_id);
        out.put("tag", &self.tag);
        out.put("vmstate", &self.vmstate);
        out.put("devices", &self.devices);
    }
}
object!(SnapshotLoadArgs);
/// Arguments of `snapshot-delete`.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotDeleteArgs {
    /// The job's name.
    pub job_id: String,
    /// The snapshot's name.
    pub tag: String,
    /// The disks' nodes.
    pub devices: Vec<String>,
}
impl DecodeMembers for SnapshotDeleteArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(SnapshotDeleteArgs {
            job_id: members.required("job-id")?,
            tag: members.required("tag")?,
            devices: members.required("devices")?,
        })
    }
}
impl EncodeMembers for SnapshotDeleteArgs {
    fn put(&self, out: &mut Out) {
        out.put("job-id", &self.job_id);
        out.put("tag", &self.tag);
        out.put("devices", &self.devices);
    }
}
object!(SnapshotDeleteArgs);
/// Arguments of `dump-guest-memory`.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpGuestMemoryArgs {
    /// Memory is found at the guest's virtual addresses; of ELF cores only. The guest makes its
    /// page tables, so this can take long and fail.
    pub paging: bool,
    /// Where it goes: file:PATH, or fd:NAME for a descriptor that was handed over.
    pub protocol: String,
    /// The answer does not wait for the end, which DUMP_COMPLETED and query-dump tell.
    pub detach: Option<bool>,
    /// The first guest physical address of the part to dump; with length, and not of kdump
    /// formats.
    pub begin: Option<i64>,
    /// Bytes of that part.
    pub length: Option<i64>,
    /// elf by default.
    pub format: Option<DumpGuestMemoryFormat>,
}
impl DecodeMembers for DumpGuestMemoryArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(DumpGuestMemoryArgs {
            paging: members.required("paging")?,
            protocol: members.required("protocol")?,
            detach: members.optional("detach")?,
            begin: members.optional("begin")?,
            length: members.optional("length")?,
            format: members.optional("format")?,
        })
    }
}
impl EncodeMembers for DumpGuestMemoryArgs {
    fn put(&self, out: &mut Out) {
        out.put("paging", &self.paging);
        out.put("protocol", &self.protocol);
        out.put_some("detach", &self.detach);
        out.put_some("begin", &self.begin);
        out.put_some("length", &self.length);
        out.put_some("format", &self.format);
    }
}
object!(DumpGuestMemoryArgs);
/// Arguments of `memsave`.
#[derive(Debug, Clone, PartialEq)]
pub struct MemsaveArgs {
    /// The virtual address.
    pub val: i64,
    /// Bytes.
    pub size: i64,
    /// The file, which is made anew.
    pub filename: String,
    /// The processor; the first by default.
    pub cpu_index: Option<i64>,
}
impl DecodeMembers for MemsaveArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(MemsaveArgs {
            val: members.required("val")?,
            size: members.required("size")?,
            filename: members.required("filename")?,
            cpu_index: members.optional("cpu-index")?,
        })
    }
}
impl EncodeMembers for MemsaveArgs {
    fn put(&self, out: &mut Out) {
        out.put("val", &self.val);
        out.put("size", &self.size);
        out.put("filename", &self.filename);
        out.put_some("cpu-index", &self.cpu_index);
    }
}
object!(MemsaveArgs);
/// Arguments of `pmemsave`.
#[derive(Debug, Clone, PartialEq)]
pub struct PmemsaveArgs {
    /// The guest physical address.
    pub val: i64,
    /// Bytes.
    pub size: i64,
    /// The file, which is made anew.
    pub filename: String,
}
impl DecodeMembers for PmemsaveArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PmemsaveArgs {
            val: members.required("val")?,
            size: members.required("size")?,
            filename: members.required("filename")?,
        })
    }
}
impl EncodeMembers for PmemsaveArgs {
    fn put(&self, out: &mut Out) {
        out.put("val", &self.val);
        out.put("size", &self.size);
        out.put("filename", &self.filename);
    }
}
object!(PmemsaveArgs);
/// Arguments of `blockdev-set-active`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevSetActiveArgs {
    /// The node; all nodes where it is not given.
    pub node_name: Option<String>,
    /// Whether they are used by this program.
    pub active: bool,
}
impl DecodeMembers for BlockdevSetActiveArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(BlockdevSetActiveArgs {
            node_name: members.optional("node-name")?,
            active: members.required("active")?,
        })
    }
}
impl EncodeMembers for BlockdevSetActiveArgs {
    fn put(&self, out: &mut Out) {
        out.put_some("node-name", &self.node_name);
        out.put("active", &self.active);
    }
}
object!(BlockdevSetActiveArgs);
/// Arguments of `trace-event-get-state`.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEventGetStateArgs {
    /// The name of one, or a pattern: * stands for any characters, ? for one.
    pub name: String,
}
impl DecodeMembers for TraceEventGetStateArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TraceEventGetStateArgs {
            name: members.required("name")?,
        })
    }
}
impl EncodeMembers for TraceEventGetStateArgs {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
    }
}
object!(TraceEventGetStateArgs);
/// Arguments of `trace-event-set-state`.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEventSetStateArgs {
    /// The name of one, or a pattern: * stands for any characters, ? for one.
    pub name: String,
    /// Whether they speak.
    pub enable: bool,
    /// Accepted; none is ever unavailable.
    pub ignore_unavailable: Option<bool>,
}
impl DecodeMembers for TraceEventSetStateArgs {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(TraceEventSetStateArgs {
            name: members.required("name")?,
            enable: members.required("enable")?,
            ignore_unavailable: members.optional("ignore-unavailable")?,
        })
    }
}
impl EncodeMembers for TraceEventSetStateArgs {
    fn put(&self, out: &mut Out) {
        out.put("name", &self.name);
        out.put("enable", &self.enable);
        out.put_some("ignore-unavailable", &self.ignore_unavailable);
    }
}
object!(TraceEventSetStateArgs);
