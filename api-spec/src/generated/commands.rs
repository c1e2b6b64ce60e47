//! Written by api-spec-gen; change `schema/` instead.
#![allow(clippy::large_enum_variant, clippy::too_many_lines)] // generated

use super::drivers::DeviceOptions;
use super::types::*;
use crate::decode::{At, Decode, DecodeMembers, Members, Mode};
use crate::encode::Members as Out;
use crate::reply::{CommandContext, Empty, RawJson, Reply, Responder};
use crate::tables::RateLimit;
use crate::{Object, QmpError, QmpResult, Value, to_json};
/// A command with its decoded arguments.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `query-status`
    QueryStatus,
    /// `set-action`
    SetAction(SetActionArgs),
    /// `stop`
    Stop,
    /// `cont`
    Cont,
    /// `system_reset`
    SystemReset,
    /// `system_powerdown`
    SystemPowerdown,
    /// `inject-nmi`
    InjectNmi,
    /// `quit`
    Quit,
    /// `query-version`
    QueryVersion,
    /// `query-commands`
    QueryCommands,
    /// `query-events`
    QueryEvents,
    /// `query-qmp-schema`
    QueryQmpSchema,
    /// `human-monitor-command`
    HumanMonitorCommand(HumanMonitorCommandArgs),
    /// `getfd`
    Getfd(GetfdArgs),
    /// `closefd`
    Closefd(ClosefdArgs),
    /// `add-fd`
    AddFd(AddFdArgs),
    /// `remove-fd`
    RemoveFd(RemoveFdArgs),
    /// `query-fdsets`
    QueryFdsets,
    /// `query-command-line-options`
    QueryCommandLineOptions(QueryCommandLineOptionsArgs),
    /// `query-name`
    QueryName,
    /// `query-uuid`
    QueryUuid,
    /// `query-kvm`
    QueryKvm,
    /// `query-target`
    QueryTarget,
    /// `query-machines`
    QueryMachines(QueryMachinesArgs),
    /// `query-cpus-fast`
    QueryCpusFast,
    /// `query-iothreads`
    QueryIothreads,
    /// `query-memdev`
    QueryMemdev,
    /// `query-memory-size-summary`
    QueryMemorySizeSummary,
    /// `query-pci`
    QueryPci,
    /// `qom-list`
    QomList(QomListArgs),
    /// `qom-get`
    QomGet(QomGetArgs),
    /// `qom-set`
    QomSet(QomSetArgs),
    /// `qom-list-types`
    QomListTypes(QomListTypesArgs),
    /// `device-list-properties`
    DeviceListProperties(DeviceListPropertiesArgs),
    /// `object-add`
    ObjectAdd(ObjectOptions),
    /// `object-del`
    ObjectDel(ObjectDelArgs),
    /// `blockdev-add`
    BlockdevAdd(BlockdevOptions),
    /// `blockdev-del`
    BlockdevDel(BlockdevDelArgs),
    /// `query-block`
    QueryBlock,
    /// `query-blockstats`
    QueryBlockstats(QueryBlockstatsArgs),
    /// `query-named-block-nodes`
    QueryNamedBlockNodes(QueryNamedBlockNodesArgs),
    /// `query-chardev`
    QueryChardev,
    /// `ringbuf-write`
    RingbufWrite(RingbufWriteArgs),
    /// `ringbuf-read`
    RingbufRead(RingbufReadArgs),
    /// `chardev-add`
    ChardevAdd(ChardevAddArgs),
    /// `chardev-change`
    ChardevChange(ChardevChangeArgs),
    /// `chardev-send-break`
    ChardevSendBreak(ChardevSendBreakArgs),
    /// `chardev-remove`
    ChardevRemove(ChardevRemoveArgs),
    /// `job-pause`
    JobPause(JobPauseArgs),
    /// `job-resume`
    JobResume(JobResumeArgs),
    /// `job-cancel`
    JobCancel(JobCancelArgs),
    /// `job-complete`
    JobComplete(JobCompleteArgs),
    /// `job-dismiss`
    JobDismiss(JobDismissArgs),
    /// `job-finalize`
    JobFinalize(JobFinalizeArgs),
    /// `query-jobs`
    QueryJobs,
    /// `block_set_io_throttle`
    BlockSetIoThrottle(BlockIOThrottle),
    /// `block-latency-histogram-set`
    BlockLatencyHistogramSet(BlockLatencyHistogramSetArgs),
    /// `block-set-write-threshold`
    BlockSetWriteThreshold(BlockSetWriteThresholdArgs),
    /// `blockdev-create`
    BlockdevCreate(BlockdevCreateArgs),
    /// `blockdev-check`
    BlockdevCheck(BlockdevCheckArgs),
    /// `eject`
    Eject(EjectArgs),
    /// `blockdev-open-tray`
    BlockdevOpenTray(BlockdevOpenTrayArgs),
    /// `blockdev-close-tray`
    BlockdevCloseTray(BlockdevCloseTrayArgs),
    /// `blockdev-remove-medium`
    BlockdevRemoveMedium(BlockdevRemoveMediumArgs),
    /// `blockdev-insert-medium`
    BlockdevInsertMedium(BlockdevInsertMediumArgs),
    /// `blockdev-change-medium`
    BlockdevChangeMedium(BlockdevChangeMediumArgs),
    /// `blockdev-reopen`
    BlockdevReopen(BlockdevReopenArgs),
    /// `blockdev-snapshot-sync`
    BlockdevSnapshotSync(BlockdevSnapshotSync),
    /// `blockdev-snapshot`
    BlockdevSnapshot(BlockdevSnapshot),
    /// `blockdev-snapshot-internal-sync`
    BlockdevSnapshotInternalSync(BlockdevSnapshotInternal),
    /// `blockdev-snapshot-delete-internal-sync`
    BlockdevSnapshotDeleteInternalSync(BlockdevSnapshotDeleteInternalSyncArgs),
    /// `transaction`
    Transaction(TransactionArgs),
    /// `change-backing-file`
    ChangeBackingFile(ChangeBackingFileArgs),
    /// `block_resize`
    BlockResize(BlockResizeArgs),
    /// `blockdev-snapshot-apply`
    BlockdevSnapshotApply(BlockdevSnapshotApplyArgs),
    /// `query-rx-filter`
    QueryRxFilter(QueryRxFilterArgs),
    /// `netdev_add`
    NetdevAdd(Netdev),
    /// `netdev_del`
    NetdevDel(NetdevDelArgs),
    /// `set_link`
    SetLink(SetLinkArgs),
    /// `announce-self`
    AnnounceSelf(AnnounceParameters),
    /// `device_add`
    DeviceAdd(DeviceOptions),
    /// `device_del`
    DeviceDel(DeviceDelArgs),
    /// `query-balloon`
    QueryBalloon,
    /// `balloon`
    Balloon(BalloonArgs),
    /// `watchdog-set-action`
    WatchdogSetAction(WatchdogSetActionArgs),
    /// `yank`
    Yank(YankArgs),
    /// `query-yank`
    QueryYank,
    /// `query-vm-generation-id`
    QueryVmGenerationId,
    /// `query-migrate`
    QueryMigrate,
    /// `migrate-set-capabilities`
    MigrateSetCapabilities(MigrateSetCapabilitiesArgs),
    /// `query-migrate-capabilities`
    QueryMigrateCapabilities,
    /// `migrate-set-parameters`
    MigrateSetParameters(MigrateSetParameters),
    /// `query-migrate-parameters`
    QueryMigrateParameters,
    /// `migrate_set_speed`
    MigrateSetSpeed(MigrateSetSpeedArgs),
    /// `migrate_set_downtime`
    MigrateSetDowntime(MigrateSetDowntimeArgs),
    /// `migrate-set-cache-size`
    MigrateSetCacheSize(MigrateSetCacheSizeArgs),
    /// `query-migrate-cache-size`
    QueryMigrateCacheSize,
    /// `migrate`
    Migrate(MigrateArgs),
    /// `migrate-incoming`
    MigrateIncoming(MigrateIncomingArgs),
    /// `migrate_cancel`
    MigrateCancel,
    /// `migrate-continue`
    MigrateContinue(MigrateContinueArgs),
    /// `migrate-start-postcopy`
    MigrateStartPostcopy,
    /// `migrate-pause`
    MigratePause,
    /// `migrate-recover`
    MigrateRecover(MigrateRecoverArgs),
    /// `client_migrate_info`
    ClientMigrateInfo(ClientMigrateInfoArgs),
    /// `snapshot-save`
    SnapshotSave(SnapshotSaveArgs),
    /// `snapshot-load`
    SnapshotLoad(SnapshotLoadArgs),
    /// `snapshot-delete`
    SnapshotDelete(SnapshotDeleteArgs),
    /// `dump-guest-memory`
    DumpGuestMemory(DumpGuestMemoryArgs),
    /// `query-dump`
    QueryDump,
    /// `query-dump-guest-memory-capability`
    QueryDumpGuestMemoryCapability,
    /// `memsave`
    Memsave(MemsaveArgs),
    /// `pmemsave`
    Pmemsave(PmemsaveArgs),
    /// `blockdev-set-active`
    BlockdevSetActive(BlockdevSetActiveArgs),
    /// `trace-event-get-state`
    TraceEventGetState(TraceEventGetStateArgs),
    /// `trace-event-set-state`
    TraceEventSetState(TraceEventSetStateArgs),
    /// `x-query-guest-errors`
    XQueryGuestErrors,
}
impl Command {
    /// The command's name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Command::QueryStatus => "query-status",
            Command::SetAction(_) => "set-action",
            Command::Stop => "stop",
            Command::Cont => "cont",
            Command::SystemReset => "system_reset",
            Command::SystemPowerdown => "system_powerdown",
            Command::InjectNmi => "inject-nmi",
            Command::Quit => "quit",
            Command::QueryVersion => "query-version",
            Command::QueryCommands => "query-commands",
            Command::QueryEvents => "query-events",
            Command::QueryQmpSchema => "query-qmp-schema",
            Command::HumanMonitorCommand(_) => "human-monitor-command",
            Command::Getfd(_) => "getfd",
            Command::Closefd(_) => "closefd",
            Command::AddFd(_) => "add-fd",
            Command::RemoveFd(_) => "remove-fd",
            Command::QueryFdsets => "query-fdsets",
            Command::QueryCommandLineOptions(_) => "query-command-line-options",
            Command::QueryName => "query-name",
            Command::QueryUuid => "query-uuid",
            Command::QueryKvm => "query-kvm",
            Command::QueryTarget => "query-target",
            Command::QueryMachines(_) => "query-machines",
            Command::QueryCpusFast => "query-cpus-fast",
            Command::QueryIothreads => "query-iothreads",
            Command::QueryMemdev => "query-memdev",
            Command::QueryMemorySizeSummary => "query-memory-size-summary",
            Command::QueryPci => "query-pci",
            Command::QomList(_) => "qom-list",
            Command::QomGet(_) => "qom-get",
            Command::QomSet(_) => "qom-set",
            Command::QomListTypes(_) => "qom-list-types",
            Command::DeviceListProperties(_) => "device-list-properties",
            Command::ObjectAdd(_) => "object-add",
            Command::ObjectDel(_) => "object-del",
            Command::BlockdevAdd(_) => "blockdev-add",
            Command::BlockdevDel(_) => "blockdev-del",
            Command::QueryBlock => "query-block",
            Command::QueryBlockstats(_) => "query-blockstats",
            Command::QueryNamedBlockNodes(_) => "query-named-block-nodes",
            Command::QueryChardev => "query-chardev",
            Command::RingbufWrite(_) => "ringbuf-write",
            Command::RingbufRead(_) => "ringbuf-read",
            Command::ChardevAdd(_) => "chardev-add",
            Command::ChardevChange(_) => "chardev-change",
            Command::ChardevSendBreak(_) => "chardev-send-break",
            Command::ChardevRemove(_) => "chardev-remove",
            Command::JobPause(_) => "job-pause",
            Command::JobResume(_) => "job-resume",
            Command::JobCancel(_) => "job-cancel",
            Command::JobComplete(_) => "job-complete",
            Command::JobDismiss(_) => "job-dismiss",
            Command::JobFinalize(_) => "job-finalize",
            Command::QueryJobs => "query-jobs",
            Command::BlockSetIoThrottle(_) => "block_set_io_throttle",
            Command::BlockLatencyHistogramSet(_) => "block-latency-histogram-set",
            Command::BlockSetWriteThreshold(_) => "block-set-write-threshold",
            Command::BlockdevCreate(_) => "blockdev-create",
            Command::BlockdevCheck(_) => "blockdev-check",
            Command::Eject(_) => "eject",
            Command::BlockdevOpenTray(_) => "blockdev-open-tray",
            Command::BlockdevCloseTray(_) => "blockdev-close-tray",
            Command::BlockdevRemoveMedium(_) => "blockdev-remove-medium",
            Command::BlockdevInsertMedium(_) => "blockdev-insert-medium",
            Command::BlockdevChangeMedium(_) => "blockdev-change-medium",
            Command::BlockdevReopen(_) => "blockdev-reopen",
            Command::BlockdevSnapshotSync(_) => "blockdev-snapshot-sync",
            Command::BlockdevSnapshot(_) => "blockdev-snapshot",
            Command::BlockdevSnapshotInternalSync(_) => "blockdev-snapshot-internal-sync",
            Command::BlockdevSnapshotDeleteInternalSync(_) => {
                "blockdev-snapshot-delete-internal-sync"
            }
            Command::Transaction(_) => "transaction",
            Command::ChangeBackingFile(_) => "change-backing-file",
            Command::BlockResize(_) => "block_resize",
            Command::BlockdevSnapshotApply(_) => "blockdev-snapshot-apply",
            Command::QueryRxFilter(_) => "query-rx-filter",
            Command::NetdevAdd(_) => "netdev_add",
            Command::NetdevDel(_) => "netdev_del",
            Command::SetLink(_) => "set_link",
            Command::AnnounceSelf(_) => "announce-self",
            Command::DeviceAdd(_) => "device_add",
            Command::DeviceDel(_) => "device_del",
            Command::QueryBalloon => "query-balloon",
            Command::Balloon(_) => "balloon",
            Command::WatchdogSetAction(_) => "watchdog-set-action",
            Command::Yank(_) => "yank",
            Command::QueryYank => "query-yank",
            Command::QueryVmGenerationId => "query-vm-generation-id",
            Command::QueryMigrate => "query-migrate",
            Command::MigrateSetCapabilities(_) => "migrate-set-capabilities",
            Command::QueryMigrateCapabilities => "query-migrate-capabilities",
            Command::MigrateSetParameters(_) => "migrate-set-parameters",
            Command::QueryMigrateParameters => "query-migrate-parameters",
            Command::MigrateSetSpeed(_) => "migrate_set_speed",
            Command::MigrateSetDowntime(_) => "migrate_set_downtime",
            Command::MigrateSetCacheSize(_) => "migrate-set-cache-size",
            Command::QueryMigrateCacheSize => "query-migrate-cache-size",
            Command::Migrate(_) => "migrate",
            Command::MigrateIncoming(_) => "migrate-incoming",
            Command::MigrateCancel => "migrate_cancel",
            Command::MigrateContinue(_) => "migrate-continue",
            Command::MigrateStartPostcopy => "migrate-start-postcopy",
            Command::MigratePause => "migrate-pause",
            Command::MigrateRecover(_) => "migrate-recover",
            Command::ClientMigrateInfo(_) => "client_migrate_info",
            Command::SnapshotSave(_) => "snapshot-save",
            Command::SnapshotLoad(_) => "snapshot-load",
            Command::SnapshotDelete(_) => "snapshot-delete",
            Command::DumpGuestMemory(_) => "dump-guest-memory",
            Command::QueryDump => "query-dump",
            Command::QueryDumpGuestMemoryCapability => "query-dump-guest-memory-capability",
            Command::Memsave(_) => "memsave",
            Command::Pmemsave(_) => "pmemsave",
            Command::BlockdevSetActive(_) => "blockdev-set-active",
            Command::TraceEventGetState(_) => "trace-event-get-state",
            Command::TraceEventSetState(_) => "trace-event-set-state",
            Command::XQueryGuestErrors => "x-query-guest-errors",
        }
    }
}
/// Decodes a command and its arguments.
///
/// # Errors
/// CommandNotFound for a name that does not exist; else what is wrong with the arguments.
pub fn decode_command(name: &str, arguments: Option<Object>) -> QmpResult<Command> {
    if name == "device_add" {
        let value = Value::Object(arguments.unwrap_or_default());
        return DeviceOptions::decode(value, &At::root(Mode::Lenient)).map(Command::DeviceAdd);
    }

    let at = At::root(Mode::Strict);
    let mut members = Members::arguments(arguments, &at);
    let command = match name {
        "query-status" => Command::QueryStatus,
        "set-action" => Command::SetAction(SetActionArgs::take(&mut members)?),
        "stop" => Command::Stop,
        "cont" => Command::Cont,
        "system_reset" => Command::SystemReset,
        "system_powerdown" => Command::SystemPowerdown,
        "inject-nmi" => Command::InjectNmi,
        "quit" => Command::Quit,
        "query-version" => Command::QueryVersion,
        "query-commands" => Command::QueryCommands,
        "query-events" => Command::QueryEvents,
        "query-qmp-schema" => Command::QueryQmpSchema,
        "human-monitor-command" => {
            Command::HumanMonitorCommand(HumanMonitorCommandArgs::take(&mut members)?)
        }
        "getfd" => Command::Getfd(GetfdArgs::take(&mut members)?),
        "closefd" => Command::Closefd(ClosefdArgs::take(&mut members)?),
        "add-fd" => Command::AddFd(AddFdArgs::take(&mut members)?),
        "remove-fd" => Command::RemoveFd(RemoveFdArgs::take(&mut members)?),
        "query-fdsets" => Command::QueryFdsets,
        "query-command-line-options" => {
            Command::QueryCommandLineOptions(QueryCommandLineOptionsArgs::take(&mut members)?)
        }
        "query-name" => Command::QueryName,
        "query-uuid" => Command::QueryUuid,
        "query-kvm" => Command::QueryKvm,
        "query-target" => Command::QueryTarget,
        "query-machines" => Command::QueryMachines(QueryMachinesArgs::take(&mut members)?),
        "query-cpus-fast" => Command::QueryCpusFast,
        "query-iothreads" => Command::QueryIothreads,
        "query-memdev" => Command::QueryMemdev,
        "query-memory-size-summary" => Command::QueryMemorySizeSummary,
        "query-pci" => Command::QueryPci,
        "qom-list" => Command::QomList(QomListArgs::take(&mut members)?),
        "qom-get" => Command::QomGet(QomGetArgs::take(&mut members)?),
        "qom-set" => Command::QomSet(QomSetArgs::take(&mut members)?),
        "qom-list-types" => Command::QomListTypes(QomListTypesArgs::take(&mut members)?),
        "device-list-properties" => {
            Command::DeviceListProperties(DeviceListPropertiesArgs::take(&mut members)?)
        }
        "object-add" => Command::ObjectAdd(ObjectOptions::take(&mut members)?),
        "object-del" => Command::ObjectDel(ObjectDelArgs::take(&mut members)?),
        "blockdev-add" => Command::BlockdevAdd(BlockdevOptions::take(&mut members)?),
        "blockdev-del" => Command::BlockdevDel(BlockdevDelArgs::take(&mut members)?),
        "query-block" => Command::QueryBlock,
        "query-blockstats" => Command::QueryBlockstats(QueryBlockstatsArgs::take(&mut members)?),
        "query-named-block-nodes" => {
            Command::QueryNamedBlockNodes(QueryNamedBlockNodesArgs::take(&mut members)?)
        }
        "query-chardev" => Command::QueryChardev,
        "ringbuf-write" => Command::RingbufWrite(RingbufWriteArgs::take(&mut members)?),
        "ringbuf-read" => Command::RingbufRead(RingbufReadArgs::take(&mut members)?),
        "chardev-add" => Command::ChardevAdd(ChardevAddArgs::take(&mut members)?),
        "chardev-change" => Command::ChardevChange(ChardevChangeArgs::take(&mut members)?),
        "chardev-send-break" => {
            Command::ChardevSendBreak(ChardevSendBreakArgs::take(&mut members)?)
        }
        "chardev-remove" => Command::ChardevRemove(ChardevRemoveArgs::take(&mut members)?),
        "job-pause" => Command::JobPause(JobPauseArgs::take(&mut members)?),
        "job-resume" => Command::JobResume(JobResumeArgs::take(&mut members)?),
        "job-cancel" => Command::JobCancel(JobCancelArgs::take(&mut members)?),
        "job-complete" => Command::JobComplete(JobCompleteArgs::take(&mut members)?),
        "job-dismiss" => Command::JobDismiss(JobDismissArgs::take(&mut members)?),
        "job-finalize" => Command::JobFinalize(JobFinalizeArgs::take(&mut members)?),
        "query-jobs" => Command::QueryJobs,
        "block_set_io_throttle" => {
            Command::BlockSetIoThrottle(BlockIOThrottle::take(&mut members)?)
        }
        "block-latency-histogram-set" => {
            Command::BlockLatencyHistogramSet(BlockLatencyHistogramSetArgs::take(&mut members)?)
        }
        "block-set-write-threshold" => {
            Command::BlockSetWriteThreshold(BlockSetWriteThresholdArgs::take(&mut members)?)
        }
        "blockdev-create" => Command::BlockdevCreate(BlockdevCreateArgs::take(&mut members)?),
        "blockdev-check" => Command::BlockdevCheck(BlockdevCheckArgs::take(&mut members)?),
        "eject" => Command::Eject(EjectArgs::take(&mut members)?),
        "blockdev-open-tray" => {
            Command::BlockdevOpenTray(BlockdevOpenTrayArgs::take(&mut members)?)
        }
        "blockdev-close-tray" => {
            Command::BlockdevCloseTray(BlockdevCloseTrayArgs::take(&mut members)?)
        }
        "blockdev-remove-medium" => {
            Command::BlockdevRemoveMedium(BlockdevRemoveMediumArgs::take(&mut members)?)
        }
        "blockdev-insert-medium" => {
            Command::BlockdevInsertMedium(BlockdevInsertMediumArgs::take(&mut members)?)
        }
        "blockdev-change-medium" => {
            Command::BlockdevChangeMedium(BlockdevChangeMediumArgs::take(&mut members)?)
        }
        "blockdev-reopen" => Command::BlockdevReopen(BlockdevReopenArgs::take(&mut members)?),
        "blockdev-snapshot-sync" => {
            Command::BlockdevSnapshotSync(BlockdevSnapshotSync::take(&mut members)?)
        }
        "blockdev-snapshot" => Command::BlockdevSnapshot(BlockdevSnapshot::take(&mut members)?),
        "blockdev-snapshot-internal-sync" => {
            Command::BlockdevSnapshotInternalSync(BlockdevSnapshotInternal::take(&mut members)?)
        }
        "blockdev-snapshot-delete-internal-sync" => Command::BlockdevSnapshotDeleteInternalSync(
            BlockdevSnapshotDeleteInternalSyncArgs::take(&mut members)?,
        ),
        "transaction" => Command::Transaction(TransactionArgs::take(&mut members)?),
        "change-backing-file" => {
            Command::ChangeBackingFile(ChangeBackingFileArgs::take(&mut members)?)
        }
        "block_resize" => Command::BlockResize(BlockResizeArgs::take(&mut members)?),
        "blockdev-snapshot-apply" => {
            Command::BlockdevSnapshotApply(BlockdevSnapshotApplyArgs::take(&mut members)?)
        }
        "query-rx-filter" => Command::QueryRxFilter(QueryRxFilterArgs::take(&mut members)?),
        "netdev_add" => Command::NetdevAdd(Netdev::take(&mut members)?),
        "netdev_del" => Command::NetdevDel(NetdevDelArgs::take(&mut members)?),
        "set_link" => Command::SetLink(SetLinkArgs::take(&mut members)?),
        "announce-self" => Command::AnnounceSelf(AnnounceParameters::take(&mut members)?),
        "device_del" => Command::DeviceDel(DeviceDelArgs::take(&mut members)?),
        "query-balloon" => Command::QueryBalloon,
        "balloon" => Command::Balloon(BalloonArgs::take(&mut members)?),
        "watchdog-set-action" => {
            Command::WatchdogSetAction(WatchdogSetActionArgs::take(&mut members)?)
        }
        "yank" => Command::Yank(YankArgs::take(&mut members)?),
        "query-yank" => Command::QueryYank,
        "query-vm-generation-id" => Command::QueryVmGenerationId,
        "query-migrate" => Command::QueryMigrate,
        "migrate-set-capabilities" => {
            Command::MigrateSetCapabilities(MigrateSetCapabilitiesArgs::take(&mut members)?)
        }
        "query-migrate-capabilities" => Command::QueryMigrateCapabilities,
        "migrate-set-parameters" => {
            Command::MigrateSetParameters(MigrateSetParameters::take(&mut members)?)
        }
        "query-migrate-parameters" => Command::QueryMigrateParameters,
        "migrate_set_speed" => Command::MigrateSetSpeed(MigrateSetSpeedArgs::take(&mut members)?),
        "migrate_set_downtime" => {
            Command::MigrateSetDowntime(MigrateSetDowntimeArgs::take(&mut members)?)
        }
        "migrate-set-cache-size" => {
            Command::MigrateSetCacheSize(MigrateSetCacheSizeArgs::take(&mut members)?)
        }
        "query-migrate-cache-size" => Command::QueryMigrateCacheSize,
        "migrate" => Command::Migrate(MigrateArgs::take(&mut members)?),
        "migrate-incoming" => Command::MigrateIncoming(MigrateIncomingArgs::take(&mut members)?),
        "migrate_cancel" => Command::MigrateCancel,
        "migrate-continue" => Command::MigrateContinue(MigrateContinueArgs::take(&mut members)?),
        "migrate-start-postcopy" => Command::MigrateStartPostcopy,
        "migrate-pause" => Command::MigratePause,
        "migrate-recover" => Command::MigrateRecover(MigrateRecoverArgs::take(&mut members)?),
        "client_migrate_info" => {
            Command::ClientMigrateInfo(ClientMigrateInfoArgs::take(&mut members)?)
        }
        "snapshot-save" => Command::SnapshotSave(SnapshotSaveArgs::take(&mut members)?),
        "snapshot-load" => Command::SnapshotLoad(SnapshotLoadArgs::take(&mut members)?),
        "snapshot-delete" => Command::SnapshotDelete(SnapshotDeleteArgs::take(&mut members)?),
        "dump-guest-memory" => Command::DumpGuestMemory(DumpGuestMemoryArgs::take(&mut members)?),
        "query-dump" => Command::QueryDump,
        "query-dump-guest-memory-capability" => Command::QueryDumpGuestMemoryCapability,
        "memsave" => Command::Memsave(MemsaveArgs::take(&mut members)?),
        "pmemsave" => Command::Pmemsave(PmemsaveArgs::take(&mut members)?),
        "blockdev-set-active" => {
            Command::BlockdevSetActive(BlockdevSetActiveArgs::take(&mut members)?)
        }
        "trace-event-get-state" => {
            Command::TraceEventGetState(TraceEventGetStateArgs::take(&mut members)?)
        }
        "trace-event-set-state" => {
            Command::TraceEventSetState(TraceEventSetStateArgs::take(&mut members)?)
        }
        "x-query-guest-errors" => Command::XQueryGuestErrors,

        _ => return Err(QmpError::command_not_found(name)),
    };
    members.finish()?;
    Ok(command)
}
/// The commands of the area `run-state`: one method each. A missing one does not compile.
pub trait RunStateCommands {
    /// Tells whether the machine runs, and in which state it is.
    ///
    /// # Errors
    /// What the client is told.
    fn query_status(&mut self, cx: &mut CommandContext) -> QmpResult<StatusInfo>;
    /// Sets what the machine does when its guest reboots, shuts down or panics, or when its
    /// watchdog expires. What is left out stays as it is.
    ///
    /// # Errors
    /// What the client is told.
    fn set_action(&mut self, cx: &mut CommandContext, args: SetActionArgs) -> QmpResult<Empty>;
    /// Pauses the machine: all processors are parked, disks are drained and flushed. Nothing
    /// happens where it is paused already.
    fn stop(&mut self, cx: &mut CommandContext, reply: Reply<Empty>);
    /// Lets a paused machine run again. Nothing happens where it runs already.
    fn cont(&mut self, cx: &mut CommandContext, reply: Reply<Empty>);
    /// Resets the machine as its reset button would.
    fn system_reset(&mut self, cx: &mut CommandContext, reply: Reply<Empty>);
    /// Presses the power button. What the guest does then is up to the guest.
    ///
    /// # Errors
    /// What the client is told.
    fn system_powerdown(&mut self, cx: &mut CommandContext) -> QmpResult<Empty>;
    /// Sends a non-maskable interrupt to every processor.
    ///
    /// # Errors
    /// What the client is told.
    fn inject_nmi(&mut self, cx: &mut CommandContext) -> QmpResult<Empty>;
    /// Ends the program, without asking the guest.
    fn quit(&mut self, cx: &mut CommandContext, reply: Reply<Empty>);
    /// Sets what an expired watchdog does, as set-action does.
    ///
    /// # Errors
    /// What the client is told.
    fn watchdog_set_action(
        &mut self,
        cx: &mut CommandContext,
        args: WatchdogSetActionArgs,
    ) -> QmpResult<Empty>;
}
/// The commands of the area `control`: one method each. A missing one does not compile.
pub trait ControlCommands {
    /// Tells the version.
    ///
    /// # Errors
    /// What the client is told.
    fn query_version(&mut self, cx: &mut CommandContext) -> QmpResult<VersionInfo>;
    /// Lists the commands.
    ///
    /// # Errors
    /// What the client is told.
    fn query_commands(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<CommandDescription>>;
    /// Lists the events.
    ///
    /// # Errors
    /// What the client is told.
    fn query_events(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<EventDescription>>;
    /// Describes every command and event with all their types: exactly what this program has.
    ///
    /// # Errors
    /// What the client is told.
    fn query_qmp_schema(&mut self, cx: &mut CommandContext) -> QmpResult<RawJson>;
    /// Runs a line of the text monitor and returns what it would print. It succeeds even where the
    /// line fails; the text says so.
    fn human_monitor_command(
        &mut self,
        cx: &mut CommandContext,
        args: HumanMonitorCommandArgs,
        reply: Reply<String>,
    );
    /// Takes the descriptor that came with the command and gives it a name. A name that is taken
    /// loses its old descriptor.
    ///
    /// # Errors
    /// What the client is told.
    fn getfd(&mut self, cx: &mut CommandContext, args: GetfdArgs) -> QmpResult<Empty>;
    /// Closes a named descriptor.
    ///
    /// # Errors
    /// What the client is told.
    fn closefd(&mut self, cx: &mut CommandContext, args: ClosefdArgs) -> QmpResult<Empty>;
    /// Puts the descriptor that came with the command into a set, a new one where none is named.
    /// `/dev/fdset/N` then opens it.
    ///
    /// # Errors
    /// What the client is told.
    fn add_fd(&mut self, cx: &mut CommandContext, args: AddFdArgs) -> QmpResult<AddfdInfo>;
    /// Takes a descriptor, or all of them, out of a set. The set lives on while something that was
    /// opened from it is in use.
    ///
    /// # Errors
    /// What the client is told.
    fn remove_fd(&mut self, cx: &mut CommandContext, args: RemoveFdArgs) -> QmpResult<Empty>;
    /// Lists the sets of descriptors.
    ///
    /// # Errors
    /// What the client is told.
    fn query_fdsets(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<FdsetInfo>>;
    /// Lists the options of the command line.
    ///
    /// # Errors
    /// What the client is told.
    fn query_command_line_options(
        &mut self,
        cx: &mut CommandContext,
        args: QueryCommandLineOptionsArgs,
    ) -> QmpResult<Vec<CommandLineOptionInfo>>;
    /// Breaks connections that hang: whoever waits for them goes on, as if the peer had left.
    /// Nothing is done when one of the instances is not known.
    ///
    /// # Errors
    /// What the client is told.
    fn yank(&mut self, cx: &mut CommandContext, args: YankArgs) -> QmpResult<Empty>;
    /// Lists what can be yanked.
    ///
    /// # Errors
    /// What the client is told.
    fn query_yank(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<YankInstance>>;
}
/// The commands of the area `machine`: one method each. A missing one does not compile.
pub trait MachineCommands {
    /// Tells the guest's name.
    ///
    /// # Errors
    /// What the client is told.
    fn query_name(&mut self, cx: &mut CommandContext) -> QmpResult<NameInfo>;
    /// Tells the guest's UUID.
    ///
    /// # Errors
    /// What the client is told.
    fn query_uuid(&mut self, cx: &mut CommandContext) -> QmpResult<UuidInfo>;
    /// Tells whether KVM is in use.
    ///
    /// # Errors
    /// What the client is told.
    fn query_kvm(&mut self, cx: &mut CommandContext) -> QmpResult<KvmInfo>;
    /// Tells the guest's architecture.
    ///
    /// # Errors
    /// What the client is told.
    fn query_target(&mut self, cx: &mut CommandContext) -> QmpResult<TargetInfo>;
    /// Lists the types of machine.
    ///
    /// # Errors
    /// What the client is told.
    fn query_machines(
        &mut self,
        cx: &mut CommandContext,
        args: QueryMachinesArgs,
    ) -> QmpResult<Vec<MachineInfo>>;
    /// Lists the processors without disturbing them.
    ///
    /// # Errors
    /// What the client is told.
    fn query_cpus_fast(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<CpuInfoFast>>;
    /// Lists the I/O threads that were made as objects.
    ///
    /// # Errors
    /// What the client is told.
    fn query_iothreads(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<IOThreadInfo>>;
    /// Lists the memory backends.
    ///
    /// # Errors
    /// What the client is told.
    fn query_memdev(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<Memdev>>;
    /// Tells how much memory the guest has.
    ///
    /// # Errors
    /// What the client is told.
    fn query_memory_size_summary(&mut self, cx: &mut CommandContext) -> QmpResult<MemoryInfo>;
    /// Lists what is on the PCI buses, as the guest has set it up.
    ///
    /// # Errors
    /// What the client is told.
    fn query_pci(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<PciInfo>>;
    /// Tells how much memory the balloon leaves to the guest.
    ///
    /// # Errors
    /// What the client is told.
    fn query_balloon(&mut self, cx: &mut CommandContext) -> QmpResult<BalloonInfo>;
    /// Asks the guest to give back memory, or to take it again, until it has so much. The answer
    /// does not wait for the guest: BALLOON_CHANGE and query-balloon tell how far it is. More than
    /// the machine has means all.
    ///
    /// # Errors
    /// What the client is told.
    fn balloon(&mut self, cx: &mut CommandContext, args: BalloonArgs) -> QmpResult<Empty>;
    /// Tells the guest's generation id.
    ///
    /// # Errors
    /// What the client is told.
    fn query_vm_generation_id(&mut self, cx: &mut CommandContext) -> QmpResult<GuidInfo>;
}
/// The commands of the area `objects`: one method each. A missing one does not compile.
pub trait ObjectsCommands {
    /// Lists the properties of an object.
    ///
    /// # Errors
    /// What the client is told.
    fn qom_list(
        &mut self,
        cx: &mut CommandContext,
        args: QomListArgs,
    ) -> QmpResult<Vec<ObjectPropertyInfo>>;
    /// Reads a property of an object.
    ///
    /// # Errors
    /// What the client is told.
    fn qom_get(&mut self, cx: &mut CommandContext, args: QomGetArgs) -> QmpResult<Value>;
    /// Sets a property of an object.
    ///
    /// # Errors
    /// What the client is told.
    fn qom_set(&mut self, cx: &mut CommandContext, args: QomSetArgs) -> QmpResult<Empty>;
    /// Lists the types of object.
    ///
    /// # Errors
    /// What the client is told.
    fn qom_list_types(
        &mut self,
        cx: &mut CommandContext,
        args: QomListTypesArgs,
    ) -> QmpResult<Vec<ObjectTypeInfo>>;
    /// Lists the properties of a type of device.
    ///
    /// # Errors
    /// What the client is told.
    fn device_list_properties(
        &mut self,
        cx: &mut CommandContext,
        args: DeviceListPropertiesArgs,
    ) -> QmpResult<Vec<ObjectPropertyInfo>>;
    /// Makes an object.
    fn object_add(&mut self, cx: &mut CommandContext, args: ObjectOptions, reply: Reply<Empty>);
    /// Removes an object that nothing uses.
    ///
    /// # Errors
    /// What the client is told.
    fn object_del(&mut self, cx: &mut CommandContext, args: ObjectDelArgs) -> QmpResult<Empty>;
    /// Makes a device and plugs it in. Its other properties are further arguments (see
    /// device-list-properties). A running guest is told; its driver takes the device then.
    ///
    /// # Errors
    /// What the client is told.
    fn device_add(&mut self, cx: &mut CommandContext, args: DeviceOptions) -> QmpResult<Empty>;
    /// Asks the guest to let go of a device. The device is gone, and all that it used is free,
    /// when DEVICE_DELETED says so, which is at the next reset at the latest.
    ///
    /// # Errors
    /// What the client is told.
    fn device_del(&mut self, cx: &mut CommandContext, args: DeviceDelArgs) -> QmpResult<Empty>;
}
/// The commands of the area `block`: one method each. A missing one does not compile.
pub trait BlockCommands {
    /// Makes a block node.
    ///
    /// # Errors
    /// What the client is told.
    fn blockdev_add(&mut self, cx: &mut CommandContext, args: BlockdevOptions) -> QmpResult<Empty>;
    /// Removes a block node that nothing uses.
    fn blockdev_del(&mut self, cx: &mut CommandContext, args: BlockdevDelArgs, reply: Reply<Empty>);
    /// Lists the block devices.
    ///
    /// # Errors
    /// What the client is told.
    fn query_block(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<BlockInfo>>;
    /// Tells what block devices, or nodes, have done.
    ///
    /// # Errors
    /// What the client is told.
    fn query_blockstats(
        &mut self,
        cx: &mut CommandContext,
        args: QueryBlockstatsArgs,
    ) -> QmpResult<Vec<BlockStats>>;
    /// Lists the block nodes.
    ///
    /// # Errors
    /// What the client is told.
    fn query_named_block_nodes(
        &mut self,
        cx: &mut CommandContext,
        args: QueryNamedBlockNodesArgs,
    ) -> QmpResult<Vec<BlockDeviceInfo>>;
    /// Limits a block device's requests, or lifts its limits.
    ///
    /// # Errors
    /// What the client is told.
    fn block_set_io_throttle(
        &mut self,
        cx: &mut CommandContext,
        args: BlockIOThrottle,
    ) -> QmpResult<Empty>;
    /// Counts a block device's requests by how long they take. Without boundaries it stops that.
    ///
    /// # Errors
    /// What the client is told.
    fn block_latency_histogram_set(
        &mut self,
        cx: &mut CommandContext,
        args: BlockLatencyHistogramSetArgs,
    ) -> QmpResult<Empty>;
    /// Tells of the first write that reaches beyond an offset of a node.
    ///
    /// # Errors
    /// What the client is told.
    fn block_set_write_threshold(
        &mut self,
        cx: &mut CommandContext,
        args: BlockSetWriteThresholdArgs,
    ) -> QmpResult<Empty>;
    /// Gives block nodes up for another program, or takes them again. What is below a node goes
    /// with it, unless an active node uses it.
    fn blockdev_set_active(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevSetActiveArgs,
        reply: Reply<Empty>,
    );
}
/// The commands of the area `chardev`: one method each. A missing one does not compile.
pub trait ChardevCommands {
    /// Lists the character devices.
    ///
    /// # Errors
    /// What the client is told.
    fn query_chardev(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<ChardevInfo>>;
    /// Puts bytes into a ring buffer device, for its front end.
    ///
    /// # Errors
    /// What the client is told.
    fn ringbuf_write(
        &mut self,
        cx: &mut CommandContext,
        args: RingbufWriteArgs,
    ) -> QmpResult<Empty>;
    /// Takes bytes out of a ring buffer device.
    ///
    /// # Errors
    /// What the client is told.
    fn ringbuf_read(&mut self, cx: &mut CommandContext, args: RingbufReadArgs)
    -> QmpResult<String>;
    /// Makes a character device.
    fn chardev_add(
        &mut self,
        cx: &mut CommandContext,
        args: ChardevAddArgs,
        reply: Reply<ChardevReturn>,
    );
    /// Gives a character device another host side; whoever uses it goes on with that.
    fn chardev_change(
        &mut self,
        cx: &mut CommandContext,
        args: ChardevChangeArgs,
        reply: Reply<ChardevReturn>,
    );
    /// Holds the line of a character device for a moment, which a serial port hears as a break.
    ///
    /// # Errors
    /// What the client is told.
    fn chardev_send_break(
        &mut self,
        cx: &mut CommandContext,
        args: ChardevSendBreakArgs,
    ) -> QmpResult<Empty>;
    /// Removes a character device that nothing uses.
    ///
    /// # Errors
    /// What the client is told.
    fn chardev_remove(
        &mut self,
        cx: &mut CommandContext,
        args: ChardevRemoveArgs,
    ) -> QmpResult<Empty>;
}
/// The commands of the area `jobs`: one method each. A missing one does not compile.
pub trait JobsCommands {
    /// Pauses a job where it next can.
    ///
    /// # Errors
    /// What the client is told.
    fn job_pause(&mut self, cx: &mut CommandContext, args: JobPauseArgs) -> QmpResult<Empty>;
    /// Lets a paused job go on.
    ///
    /// # Errors
    /// What the client is told.
    fn job_resume(&mut self, cx: &mut CommandContext, args: JobResumeArgs) -> QmpResult<Empty>;
    /// Ends a job as soon as it can, and undoes what it has done as far as the job says so.
    ///
    /// # Errors
    /// What the client is told.
    fn job_cancel(&mut self, cx: &mut CommandContext, args: JobCancelArgs) -> QmpResult<Empty>;
    /// Lets a job that is ready come to its end.
    ///
    /// # Errors
    /// What the client is told.
    fn job_complete(&mut self, cx: &mut CommandContext, args: JobCompleteArgs) -> QmpResult<Empty>;
    /// Forgets a job that has concluded.
    ///
    /// # Errors
    /// What the client is told.
    fn job_dismiss(&mut self, cx: &mut CommandContext, args: JobDismissArgs) -> QmpResult<Empty>;
    /// Lets a job do its last step that waits for it.
    ///
    /// # Errors
    /// What the client is told.
    fn job_finalize(&mut self, cx: &mut CommandContext, args: JobFinalizeArgs) -> QmpResult<Empty>;
    /// Lists the jobs, the newest first.
    ///
    /// # Errors
    /// What the client is told.
    fn query_jobs(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<JobInfo>>;
    /// Begins a job that makes an image. A format is written into a node that is there or is
    /// opened for it; what was in it is lost. The job stays until job-dismiss.
    ///
    /// # Errors
    /// What the client is told.
    fn blockdev_create(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevCreateArgs,
    ) -> QmpResult<Empty>;
    /// Looks for damage in an image, as qemu-img check does. Requests of devices wait for it
    /// unless the image is only read. QEMU does not have this command.
    fn blockdev_check(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevCheckArgs,
        reply: Reply<ImageCheck>,
    );
    /// Begins a job that keeps the whole machine under a name: the state of its RAM and devices in
    /// one disk's image, and the content of each disk in its own. The guest stands still
    /// meanwhile. All disks have it in the end, or none. The job stays until job-dismiss.
    ///
    /// # Errors
    /// What the client is told.
    fn snapshot_save(
        &mut self,
        cx: &mut CommandContext,
        args: SnapshotSaveArgs,
    ) -> QmpResult<Empty>;
    /// Begins a job that takes the whole machine back to a snapshot. It has to be made of the same
    /// parts as then. The guest runs on from there if it ran before. The job stays until
    /// job-dismiss.
    ///
    /// # Errors
    /// What the client is told.
    fn snapshot_load(
        &mut self,
        cx: &mut CommandContext,
        args: SnapshotLoadArgs,
    ) -> QmpResult<Empty>;
    /// Begins a job that forgets a snapshot on all disks that are named; those that do not have it
    /// do not matter. The job stays until job-dismiss.
    ///
    /// # Errors
    /// What the client is told.
    fn snapshot_delete(
        &mut self,
        cx: &mut CommandContext,
        args: SnapshotDeleteArgs,
    ) -> QmpResult<Empty>;
}
/// The commands of the area `media`: one method each. A missing one does not compile.
pub trait MediaCommands {
    /// Opens a device's tray and takes the medium out.
    fn eject(&mut self, cx: &mut CommandContext, args: EjectArgs, reply: Reply<Empty>);
    /// Opens a device's tray. Where the guest locked it, it is asked, and may open it later.
    fn blockdev_open_tray(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevOpenTrayArgs,
        reply: Reply<Empty>,
    );
    /// Closes a device's tray.
    fn blockdev_close_tray(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevCloseTrayArgs,
        reply: Reply<Empty>,
    );
    /// Takes the medium out of a device whose tray is open.
    fn blockdev_remove_medium(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevRemoveMediumArgs,
        reply: Reply<Empty>,
    );
    /// Puts a node into an empty device whose tray is open.
    fn blockdev_insert_medium(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevInsertMediumArgs,
        reply: Reply<Empty>,
    );
    /// Opens a file and puts it into a device in place of what is in it; the tray opens and
    /// closes.
    fn blockdev_change_medium(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevChangeMediumArgs,
        reply: Reply<Empty>,
    );
}
/// The commands of the area `graph`: one method each. A missing one does not compile.
pub trait GraphCommands {
    /// Gives nodes other options, all or none of them. What is not given is as if the node were
    /// made anew.
    fn blockdev_reopen(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevReopenArgs,
        reply: Reply<Empty>,
    );
    /// Puts an overlay in a file on top of a node, which is only read from then on.
    fn blockdev_snapshot_sync(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevSnapshotSync,
        reply: Reply<Empty>,
    );
    /// Puts an overlay on top of a node, which is only read from then on.
    fn blockdev_snapshot(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevSnapshot,
        reply: Reply<Empty>,
    );
    /// Keeps the present content of a disk inside of its image.
    fn blockdev_snapshot_internal_sync(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevSnapshotInternal,
        reply: Reply<Empty>,
    );
    /// Forgets a snapshot inside of an image, and tells what it was.
    fn blockdev_snapshot_delete_internal_sync(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevSnapshotDeleteInternalSyncArgs,
        reply: Reply<SnapshotInfo>,
    );
    /// Does several things at one moment, all or none of them.
    fn transaction(&mut self, cx: &mut CommandContext, args: TransactionArgs, reply: Reply<Empty>);
    /// Writes another name of its backing file into an image. What is read stays.
    fn change_backing_file(
        &mut self,
        cx: &mut CommandContext,
        args: ChangeBackingFileArgs,
        reply: Reply<Empty>,
    );
    /// Changes the size of a disk. The guest sees it at once.
    fn block_resize(&mut self, cx: &mut CommandContext, args: BlockResizeArgs, reply: Reply<Empty>);
    /// Goes back to a snapshot inside of an image, as qemu-img snapshot -a does, and tells what it
    /// is. No device may have the image. QEMU does not have this command.
    fn blockdev_snapshot_apply(
        &mut self,
        cx: &mut CommandContext,
        args: BlockdevSnapshotApplyArgs,
        reply: Reply<SnapshotInfo>,
    );
}
/// The commands of the area `net`: one method each. A missing one does not compile.
pub trait NetCommands {
    /// What network interfaces let through.
    ///
    /// # Errors
    /// What the client is told.
    fn query_rx_filter(
        &mut self,
        cx: &mut CommandContext,
        args: QueryRxFilterArgs,
    ) -> QmpResult<Vec<RxFilterInfo>>;
    /// Makes the host's side of a network interface.
    fn netdev_add(&mut self, cx: &mut CommandContext, args: Netdev, reply: Reply<Empty>);
    /// Removes the host's side of a network interface. The link of an interface that uses it goes
    /// down.
    fn netdev_del(&mut self, cx: &mut CommandContext, args: NetdevDelArgs, reply: Reply<Empty>);
    /// Pulls or plugs the cable of an interface or a netdev.
    ///
    /// # Errors
    /// What the client is told.
    fn set_link(&mut self, cx: &mut CommandContext, args: SetLinkArgs) -> QmpResult<Empty>;
    /// Makes interfaces tell the network where they are, as after a migration.
    ///
    /// # Errors
    /// What the client is told.
    fn announce_self(
        &mut self,
        cx: &mut CommandContext,
        args: AnnounceParameters,
    ) -> QmpResult<Empty>;
}
/// The commands of the area `migration`: one method each. A missing one does not compile.
pub trait MigrationCommands {
    /// Tells how far a migration is, or what became of the last one.
    ///
    /// # Errors
    /// What the client is told.
    fn query_migrate(&mut self, cx: &mut CommandContext) -> QmpResult<MigrationInfo>;
    /// Switches capabilities on and off: all of those, or none when something is wrong with one of
    /// them. These can be switched on: auto-converge, events, late-block-activate, mapped-ram,
    /// multifd, pause-before-switchover, return-path (a connection that can answers in any case)
    /// and x-ignore-shared.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_set_capabilities(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateSetCapabilitiesArgs,
    ) -> QmpResult<Empty>;
    /// Lists the capabilities.
    ///
    /// # Errors
    /// What the client is told.
    fn query_migrate_capabilities(
        &mut self,
        cx: &mut CommandContext,
    ) -> QmpResult<Vec<MigrationCapabilityStatus>>;
    /// Changes parameters: all of those, or none when something is wrong with one of them.
    /// Bandwidth, downtime and throttling act on a migration that is under way.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_set_parameters(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateSetParameters,
    ) -> QmpResult<Empty>;
    /// Tells all parameters.
    ///
    /// # Errors
    /// What the client is told.
    fn query_migrate_parameters(
        &mut self,
        cx: &mut CommandContext,
    ) -> QmpResult<MigrationParameters>;
    /// Sets max-bandwidth. Use migrate-set-parameters.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_set_speed(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateSetSpeedArgs,
    ) -> QmpResult<Empty>;
    /// Sets downtime-limit. Use migrate-set-parameters.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_set_downtime(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateSetDowntimeArgs,
    ) -> QmpResult<Empty>;
    /// Sets xbzrle-cache-size. Use migrate-set-parameters.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_set_cache_size(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateSetCacheSizeArgs,
    ) -> QmpResult<Empty>;
    /// Tells xbzrle-cache-size. Use query-migrate-parameters.
    ///
    /// # Errors
    /// What the client is told.
    fn query_migrate_cache_size(&mut self, cx: &mut CommandContext) -> QmpResult<i64>;
    /// Sends the machine to another process, or into a file. The answer does not wait for the end:
    /// query-migrate and the event MIGRATION tell of it. The guest runs on until the last moment.
    fn migrate(&mut self, cx: &mut CommandContext, args: MigrateArgs, reply: Reply<Empty>);
    /// Lets a machine that was started with -incoming defer be filled from another process or from
    /// a file. The answer does not wait for the end.
    fn migrate_incoming(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateIncomingArgs,
        reply: Reply<Empty>,
    );
    /// Cancels a migration under way; the machine runs on. Nothing when there is none.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_cancel(&mut self, cx: &mut CommandContext) -> QmpResult<Empty>;
    /// Lets a migration go on that waits because of the capability pause-before-switchover.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_continue(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateContinueArgs,
    ) -> QmpResult<Empty>;
    /// Lets the guest run on the other side before all of its RAM is there. It is always refused,
    /// as the capability postcopy-ram is.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_start_postcopy(&mut self, cx: &mut CommandContext) -> QmpResult<Empty>;
    /// Interrupts a migration in its postcopy phase; there is none here.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_pause(&mut self, cx: &mut CommandContext) -> QmpResult<Empty>;
    /// Goes on with a migration that was interrupted in its postcopy phase; there is none here.
    ///
    /// # Errors
    /// What the client is told.
    fn migrate_recover(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateRecoverArgs,
    ) -> QmpResult<Empty>;
    /// Tells the clients of a remote display where the machine goes. There are no displays here,
    /// so it is always refused.
    ///
    /// # Errors
    /// What the client is told.
    fn client_migrate_info(
        &mut self,
        cx: &mut CommandContext,
        args: ClientMigrateInfoArgs,
    ) -> QmpResult<Empty>;
}
/// The commands of the area `dump`: one method each. A missing one does not compile.
pub trait DumpCommands {
    /// Writes the guest's memory and what its processors hold into a file that gdb or crash open.
    /// The guest stands still meanwhile and goes on afterwards.
    fn dump_guest_memory(
        &mut self,
        cx: &mut CommandContext,
        args: DumpGuestMemoryArgs,
        reply: Reply<Empty>,
    );
    /// Tells how the last dump is.
    ///
    /// # Errors
    /// What the client is told.
    fn query_dump(&mut self, cx: &mut CommandContext) -> QmpResult<DumpQueryResult>;
    /// Tells which formats of dumps can be had.
    ///
    /// # Errors
    /// What the client is told.
    fn query_dump_guest_memory_capability(
        &mut self,
        cx: &mut CommandContext,
    ) -> QmpResult<DumpGuestMemoryCapability>;
    /// Writes guest memory at a virtual address into a file, as a processor sees it.
    fn memsave(&mut self, cx: &mut CommandContext, args: MemsaveArgs, reply: Reply<Empty>);
    /// Writes guest memory at a physical address into a file. What is no memory there reads as
    /// zeroes.
    fn pmemsave(&mut self, cx: &mut CommandContext, args: PmemsaveArgs, reply: Reply<Empty>);
}
/// The commands of the area `logs`: one method each. A missing one does not compile.
pub trait LogsCommands {
    /// Tells which trace points speak.
    ///
    /// # Errors
    /// What the client is told.
    fn trace_event_get_state(
        &mut self,
        cx: &mut CommandContext,
        args: TraceEventGetStateArgs,
    ) -> QmpResult<Vec<TraceEventInfo>>;
    /// Lets trace points speak, or no more: each says what happens there, in a line of the log or
    /// of the file of -trace.
    ///
    /// # Errors
    /// What the client is told.
    fn trace_event_set_state(
        &mut self,
        cx: &mut CommandContext,
        args: TraceEventSetStateArgs,
    ) -> QmpResult<Empty>;
    /// Tells what the guest did wrong, by device. All is counted; the log has it at a bounded
    /// rate. It is a command of this program.
    ///
    /// # Errors
    /// What the client is told.
    fn x_query_guest_errors(&mut self, cx: &mut CommandContext) -> QmpResult<Vec<GuestErrorInfo>>;
}
/// Who carries commands out, of all areas.
pub trait Commands:
    RunStateCommands
    + ControlCommands
    + MachineCommands
    + ObjectsCommands
    + BlockCommands
    + ChardevCommands
    + JobsCommands
    + MediaCommands
    + GraphCommands
    + NetCommands
    + MigrationCommands
    + DumpCommands
    + LogsCommands
{
}
impl<
    T: RunStateCommands
        + ControlCommands
        + MachineCommands
        + ObjectsCommands
        + BlockCommands
        + ChardevCommands
        + JobsCommands
        + MediaCommands
        + GraphCommands
        + NetCommands
        + MigrationCommands
        + DumpCommands
        + LogsCommands,
> Commands for T
{
}
/// Has a command carried out and answered.
pub fn dispatch(
    commands: &mut impl Commands,
    cx: &mut CommandContext,
    command: Command,
    responder: Responder,
) {
    match command {
        Command::QueryStatus => responder.send(commands.query_status(cx).map(|r| to_json(&r))),
        Command::SetAction(args) => {
            responder.send(commands.set_action(cx, args).map(|r| to_json(&r)))
        }
        Command::Stop => commands.stop(cx, Reply::new(responder)),
        Command::Cont => commands.cont(cx, Reply::new(responder)),
        Command::SystemReset => commands.system_reset(cx, Reply::new(responder)),
        Command::SystemPowerdown => {
            responder.send(commands.system_powerdown(cx).map(|r| to_json(&r)))
        }
        Command::InjectNmi => responder.send(commands.inject_nmi(cx).map(|r| to_json(&r))),
        Command::Quit => commands.quit(cx, Reply::new(responder)),
        Command::QueryVersion => responder.send(commands.query_version(cx).map(|r| to_json(&r))),
        Command::QueryCommands => responder.send(commands.query_commands(cx).map(|r| to_json(&r))),
        Command::QueryEvents => responder.send(commands.query_events(cx).map(|r| to_json(&r))),
        Command::QueryQmpSchema => {
            responder.send(commands.query_qmp_schema(cx).map(|r| to_json(&r)))
        }
        Command::HumanMonitorCommand(args) => {
            commands.human_monitor_command(cx, args, Reply::new(responder))
        }
        Command::Getfd(args) => responder.send(commands.getfd(cx, args).map(|r| to_json(&r))),
        Command::Closefd(args) => responder.send(commands.closefd(cx, args).map(|r| to_json(&r))),
        Command::AddFd(args) => responder.send(commands.add_fd(cx, args).map(|r| to_json(&r))),
        Command::RemoveFd(args) => {
            responder.send(commands.remove_fd(cx, args).map(|r| to_json(&r)))
        }
        Command::QueryFdsets => responder.send(commands.query_fdsets(cx).map(|r| to_json(&r))),
        Command::QueryCommandLineOptions(args) => responder.send(
            commands
                .query_command_line_options(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::QueryName => responder.send(commands.query_name(cx).map(|r| to_json(&r))),
        Command::QueryUuid => responder.send(commands.query_uuid(cx).map(|r| to_json(&r))),
        Command::QueryKvm => responder.send(commands.query_kvm(cx).map(|r| to_json(&r))),
        Command::QueryTarget => responder.send(commands.query_target(cx).map(|r| to_json(&r))),
        Command::QueryMachines(args) => {
            responder.send(commands.query_machines(cx, args).map(|r| to_json(&r)))
        }
        Command::QueryCpusFast => responder.send(commands.query_cpus_fast(cx).map(|r| to_json(&r))),
        Command::QueryIothreads => {
            responder.send(commands.query_iothreads(cx).map(|r| to_json(&r)))
        }
        Command::QueryMemdev => responder.send(commands.query_memdev(cx).map(|r| to_json(&r))),
        Command::QueryMemorySizeSummary => {
            responder.send(commands.query_memory_size_summary(cx).map(|r| to_json(&r)))
        }
        Command::QueryPci => responder.send(commands.query_pci(cx).map(|r| to_json(&r))),
        Command::QomList(args) => responder.send(commands.qom_list(cx, args).map(|r| to_json(&r))),
        Command::QomGet(args) => responder.send(commands.qom_get(cx, args).map(|r| to_json(&r))),
        Command::QomSet(args) => responder.send(commands.qom_set(cx, args).map(|r| to_json(&r))),
        Command::QomListTypes(args) => {
            responder.send(commands.qom_list_types(cx, args).map(|r| to_json(&r)))
        }
        Command::DeviceListProperties(args) => responder.send(
            commands
                .device_list_properties(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::ObjectAdd(args) => commands.object_add(cx, args, Reply::new(responder)),
        Command::ObjectDel(args) => {
            responder.send(commands.object_del(cx, args).map(|r| to_json(&r)))
        }
        Command::BlockdevAdd(args) => {
            responder.send(commands.blockdev_add(cx, args).map(|r| to_json(&r)))
        }
        Command::BlockdevDel(args) => commands.blockdev_del(cx, args, Reply::new(responder)),
        Command::QueryBlock => responder.send(commands.query_block(cx).map(|r| to_json(&r))),
        Command::QueryBlockstats(args) => {
            responder.send(commands.query_blockstats(cx, args).map(|r| to_json(&r)))
        }
        Command::QueryNamedBlockNodes(args) => responder.send(
            commands
                .query_named_block_nodes(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::QueryChardev => responder.send(commands.query_chardev(cx).map(|r| to_json(&r))),
        Command::RingbufWrite(args) => {
            responder.send(commands.ringbuf_write(cx, args).map(|r| to_json(&r)))
        }
        Command::RingbufRead(args) => {
            responder.send(commands.ringbuf_read(cx, args).map(|r| to_json(&r)))
        }
        Command::ChardevAdd(args) => commands.chardev_add(cx, args, Reply::new(responder)),
        Command::ChardevChange(args) => commands.chardev_change(cx, args, Reply::new(responder)),
        Command::ChardevSendBreak(args) => {
            responder.send(commands.chardev_send_break(cx, args).map(|r| to_json(&r)))
        }
        Command::ChardevRemove(args) => {
            responder.send(commands.chardev_remove(cx, args).map(|r| to_json(&r)))
        }
        Command::JobPause(args) => {
            responder.send(commands.job_pause(cx, args).map(|r| to_json(&r)))
        }
        Command::JobResume(args) => {
            responder.send(commands.job_resume(cx, args).map(|r| to_json(&r)))
        }
        Command::JobCancel(args) => {
            responder.send(commands.job_cancel(cx, args).map(|r| to_json(&r)))
        }
        Command::JobComplete(args) => {
            responder.send(commands.job_complete(cx, args).map(|r| to_json(&r)))
        }
        Command::JobDismiss(args) => {
            responder.send(commands.job_dismiss(cx, args).map(|r| to_json(&r)))
        }
        Command::JobFinalize(args) => {
            responder.send(commands.job_finalize(cx, args).map(|r| to_json(&r)))
        }
        Command::QueryJobs => responder.send(commands.query_jobs(cx).map(|r| to_json(&r))),
        Command::BlockSetIoThrottle(args) => responder.send(
            commands
                .block_set_io_throttle(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::BlockLatencyHistogramSet(args) => responder.send(
            commands
                .block_latency_histogram_set(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::BlockSetWriteThreshold(args) => responder.send(
            commands
                .block_set_write_threshold(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::BlockdevCreate(args) => {
            responder.send(commands.blockdev_create(cx, args).map(|r| to_json(&r)))
        }
        Command::BlockdevCheck(args) => commands.blockdev_check(cx, args, Reply::new(responder)),
        Command::Eject(args) => commands.eject(cx, args, Reply::new(responder)),
        Command::BlockdevOpenTray(args) => {
            commands.blockdev_open_tray(cx, args, Reply::new(responder))
        }
        Command::BlockdevCloseTray(args) => {
            commands.blockdev_close_tray(cx, args, Reply::new(responder))
        }
        Command::BlockdevRemoveMedium(args) => {
            commands.blockdev_remove_medium(cx, args, Reply::new(responder))
        }
        Command::BlockdevInsertMedium(args) => {
            commands.blockdev_insert_medium(cx, args, Reply::new(responder))
        }
        Command::BlockdevChangeMedium(args) => {
            commands.blockdev_change_medium(cx, args, Reply::new(responder))
        }
        Command::BlockdevReopen(args) => commands.blockdev_reopen(cx, args, Reply::new(responder)),
        Command::BlockdevSnapshotSync(args) => {
            commands.blockdev_snapshot_sync(cx, args, Reply::new(responder))
        }
        Command::BlockdevSnapshot(args) => {
            commands.blockdev_snapshot(cx, args, Reply::new(responder))
        }
        Command::BlockdevSnapshotInternalSync(args) => {
            commands.blockdev_snapshot_internal_sync(cx, args, Reply::new(responder))
        }
        Command::BlockdevSnapshotDeleteInternalSync(args) => {
            commands.blockdev_snapshot_delete_internal_sync(cx, args, Reply::new(responder))
        }
        Command::Transaction(args) => commands.transaction(cx, args, Reply::new(responder)),
        Command::ChangeBackingFile(args) => {
            commands.change_backing_file(cx, args, Reply::new(responder))
        }
        Command::BlockResize(args) => commands.block_resize(cx, args, Reply::new(responder)),
        Command::BlockdevSnapshotApply(args) => {
            commands.blockdev_snapshot_apply(cx, args, Reply::new(responder))
        }
        Command::QueryRxFilter(args) => {
            responder.send(commands.query_rx_filter(cx, args).map(|r| to_json(&r)))
        }
        Command::NetdevAdd(args) => commands.netdev_add(cx, args, Reply::new(responder)),
        Command::NetdevDel(args) => commands.netdev_del(cx, args, Reply::new(responder)),
        Command::SetLink(args) => responder.send(commands.set_link(cx, args).map(|r| to_json(&r))),
        Command::AnnounceSelf(args) => {
            responder.send(commands.announce_self(cx, args).map(|r| to_json(&r)))
        }
        Command::DeviceAdd(args) => {
            responder.send(commands.device_add(cx, args).map(|r| to_json(&r)))
        }
        Command::DeviceDel(args) => {
            responder.send(commands.device_del(cx, args).map(|r| to_json(&r)))
        }
        Command::QueryBalloon => responder.send(commands.query_balloon(cx).map(|r| to_json(&r))),
        Command::Balloon(args) => responder.send(commands.balloon(cx, args).map(|r| to_json(&r))),
        Command::WatchdogSetAction(args) => {
            responder.send(commands.watchdog_set_action(cx, args).map(|r| to_json(&r)))
        }
        Command::Yank(args) => responder.send(commands.yank(cx, args).map(|r| to_json(&r))),
        Command::QueryYank => responder.send(commands.query_yank(cx).map(|r| to_json(&r))),
        Command::QueryVmGenerationId => {
            responder.send(commands.query_vm_generation_id(cx).map(|r| to_json(&r)))
        }
        Command::QueryMigrate => responder.send(commands.query_migrate(cx).map(|r| to_json(&r))),
        Command::MigrateSetCapabilities(args) => responder.send(
            commands
                .migrate_set_capabilities(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::QueryMigrateCapabilities => {
            responder.send(commands.query_migrate_capabilities(cx).map(|r| to_json(&r)))
        }
        Command::MigrateSetParameters(args) => responder.send(
            commands
                .migrate_set_parameters(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::QueryMigrateParameters => {
            responder.send(commands.query_migrate_parameters(cx).map(|r| to_json(&r)))
        }
        Command::MigrateSetSpeed(args) => {
            responder.send(commands.migrate_set_speed(cx, args).map(|r| to_json(&r)))
        }
        Command::MigrateSetDowntime(args) => {
            responder.send(commands.migrate_set_downtime(cx, args).map(|r| to_json(&r)))
        }
        Command::MigrateSetCacheSize(args) => responder.send(
            commands
                .migrate_set_cache_size(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::QueryMigrateCacheSize => {
            responder.send(commands.query_migrate_cache_size(cx).map(|r| to_json(&r)))
        }
        Command::Migrate(args) => commands.migrate(cx, args, Reply::new(responder)),
        Command::MigrateIncoming(args) => {
            commands.migrate_incoming(cx, args, Reply::new(responder))
        }
        Command::MigrateCancel => responder.send(commands.migrate_cancel(cx).map(|r| to_json(&r))),
        Command::MigrateContinue(args) => {
            responder.send(commands.migrate_continue(cx, args).map(|r| to_json(&r)))
        }
        Command::MigrateStartPostcopy => {
            responder.send(commands.migrate_start_postcopy(cx).map(|r| to_json(&r)))
        }
        Command::MigratePause => responder.send(commands.migrate_pause(cx).map(|r| to_json(&r))),
        Command::MigrateRecover(args) => {
            responder.send(commands.migrate_recover(cx, args).map(|r| to_json(&r)))
        }
        Command::ClientMigrateInfo(args) => {
            responder.send(commands.client_migrate_info(cx, args).map(|r| to_json(&r)))
        }
        Command::SnapshotSave(args) => {
            responder.send(commands.snapshot_save(cx, args).map(|r| to_json(&r)))
        }
        Command::SnapshotLoad(args) => {
            responder.send(commands.snapshot_load(cx, args).map(|r| to_json(&r)))
        }
        Command::SnapshotDelete(args) => {
            responder.send(commands.snapshot_delete(cx, args).map(|r| to_json(&r)))
        }
        Command::DumpGuestMemory(args) => {
            commands.dump_guest_memory(cx, args, Reply::new(responder))
        }
        Command::QueryDump => responder.send(commands.query_dump(cx).map(|r| to_json(&r))),
        Command::QueryDumpGuestMemoryCapability => responder.send(
            commands
                .query_dump_guest_memory_capability(cx)
                .map(|r| to_json(&r)),
        ),
        Command::Memsave(args) => commands.memsave(cx, args, Reply::new(responder)),
        Command::Pmemsave(args) => commands.pmemsave(cx, args, Reply::new(responder)),
        Command::BlockdevSetActive(args) => {
            commands.blockdev_set_active(cx, args, Reply::new(responder))
        }
        Command::TraceEventGetState(args) => responder.send(
            commands
                .trace_event_get_state(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::TraceEventSetState(args) => responder.send(
            commands
                .trace_event_set_state(cx, args)
                .map(|r| to_json(&r)),
        ),
        Command::XQueryGuestErrors => {
            responder.send(commands.x_query_guest_errors(cx).map(|r| to_json(&r)))
        }
    }
}
/// Something that happened, told to every monitor.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The machine was shut down, or the program is about to end.
    Shutdown {
        /// Whether the guest caused it.
        guest: bool,
        /// Who did what.
        reason: ShutdownCause,
    },
    /// The power button was pressed.
    Powerdown,
    /// The machine was reset.
    Reset {
        /// Whether the guest caused it.
        guest: bool,
        /// Who did what.
        reason: ShutdownCause,
    },
    /// The machine was paused.
    Stop,
    /// The machine runs again.
    Resume,
    /// The guest told that it panicked.
    GuestPanicked {
        /// What the machine does about it.
        action: GuestPanicAction,
    },
    /// The guest told that it panicked and handles that itself.
    GuestCrashloaded {
        /// What the machine does about it.
        action: GuestPanicAction,
    },
    /// A program in the guest opened or closed a virtio-serial port.
    VserportChange {
        /// `id`.
        id: String,
        /// `open`.
        open: bool,
    },
    /// The guest set its real-time clock.
    RtcChange {
        /// Seconds between the guest's clock and the host's.
        offset: i64,
        /// The clock.
        qom_path: String,
    },
    /// A job got to another place.
    JobStatusChange {
        /// The job.
        id: String,
        /// Where it is now.
        status: JobStatus,
    },
    /// A write reached beyond a node's threshold, which is off from then on.
    BlockWriteThreshold {
        /// The node.
        node_name: String,
        /// By how many bytes.
        amount_exceeded: u64,
        /// The offset.
        write_threshold: u64,
    },
    /// A disk's request failed on the host.
    BlockIoError {
        /// The device.
        qom_path: String,
        /// The drive's name, or nothing.
        device: String,
        /// The node.
        node_name: Option<String>,
        /// Whether it was a read.
        operation: IoOperationType,
        /// What was done.
        action: BlockErrorAction,
        /// The host is out of space; where failures may stop the machine.
        nospace: Option<bool>,
        /// The host's words, for people.
        reason: String,
    },
    /// The tray of a device moved.
    DeviceTrayMoved {
        /// The drive's name, or nothing.
        device: String,
        /// The device's id, or its path.
        id: String,
        /// Whether it is open now.
        tray_open: bool,
    },
    /// An image was found damaged.
    BlockImageCorrupted {
        /// The drive's name, or nothing.
        device: String,
        /// The node.
        node_name: Option<String>,
        /// What is wrong, for people.
        msg: String,
        /// Where the access would have gone.
        offset: Option<i64>,
        /// Its bytes.
        size: Option<i64>,
        /// The image is not used any more.
        fatal: bool,
    },
    /// A stream netdev has a peer.
    NetdevStreamConnected {
        /// The netdev.
        netdev_id: String,
        /// The peer.
        addr: SocketAddress,
    },
    /// A stream netdev lost its peer.
    NetdevStreamDisconnected {
        /// The netdev.
        netdev_id: String,
    },
    /// A device is gone, with all that it used. Parts of devices are told of before the whole.
    DeviceDeleted {
        /// Its id, if it had one.
        device: Option<String>,
        /// Where the object tree had it.
        path: String,
    },
    /// The guest refused to let go of a device.
    DeviceUnplugGuestError {
        /// Its id, if it has one.
        device: Option<String>,
        /// Where the object tree has it.
        path: String,
    },
    /// The guest changed what an interface lets through. Told once until the next query-rx-filter.
    NicRxFilterChanged {
        /// The interface's id, if it has one.
        name: Option<String>,
        /// Its place in the object tree.
        path: String,
    },
    /// The guest gave back memory or took it again.
    BalloonChange {
        /// Bytes of memory that the guest has now.
        actual: i64,
    },
    /// The watchdog expired: the guest did not feed it in time. What is done about it comes after
    /// this event.
    Watchdog {
        /// What is done.
        action: WatchdogAction,
    },
    /// The guest told through pvpanic that it switches itself off. SHUTDOWN follows.
    GuestPvshutdown,
    /// A migration got to another place; with the capability events only.
    Migration {
        /// Where it is now.
        status: MigrationStatus,
    },
    /// A pass over RAM begins; with the capability events only.
    MigrationPass {
        /// Its number; the first is 1.
        pass: i64,
    },
    /// A dump came to its end.
    DumpCompleted {
        /// What became of it.
        result: DumpQueryResult,
        /// What went wrong.
        error: Option<String>,
    },
}
impl Event {
    /// The event's name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Shutdown { .. } => "SHUTDOWN",
            Event::Powerdown => "POWERDOWN",
            Event::Reset { .. } => "RESET",
            Event::Stop => "STOP",
            Event::Resume => "RESUME",
            Event::GuestPanicked { .. } => "GUEST_PANICKED",
            Event::GuestCrashloaded { .. } => "GUEST_CRASHLOADED",
            Event::VserportChange { .. } => "VSERPORT_CHANGE",
            Event::RtcChange { .. } => "RTC_CHANGE",
            Event::JobStatusChange { .. } => "JOB_STATUS_CHANGE",
            Event::BlockWriteThreshold { .. } => "BLOCK_WRITE_THRESHOLD",
            Event::BlockIoError { .. } => "BLOCK_IO_ERROR",
            Event::DeviceTrayMoved { .. } => "DEVICE_TRAY_MOVED",
            Event::BlockImageCorrupted { .. } => "BLOCK_IMAGE_CORRUPTED",
            Event::NetdevStreamConnected { .. } => "NETDEV_STREAM_CONNECTED",
            Event::NetdevStreamDisconnected { .. } => "NETDEV_STREAM_DISCONNECTED",
            Event::DeviceDeleted { .. } => "DEVICE_DELETED",
            Event::DeviceUnplugGuestError { .. } => "DEVICE_UNPLUG_GUEST_ERROR",
            Event::NicRxFilterChanged { .. } => "NIC_RX_FILTER_CHANGED",
            Event::BalloonChange { .. } => "BALLOON_CHANGE",
            Event::Watchdog { .. } => "WATCHDOG",
            Event::GuestPvshutdown => "GUEST_PVSHUTDOWN",
            Event::Migration { .. } => "MIGRATION",
            Event::MigrationPass { .. } => "MIGRATION_PASS",
            Event::DumpCompleted { .. } => "DUMP_COMPLETED",
        }
    }
    /// JSON text of `data`; events without a payload have none.
    pub fn data_json(&self) -> Option<String> {
        let mut text = String::new();
        let mut members = Out::open(&mut text);
        let out = &mut members;
        match self {
            Event::Shutdown { guest, reason } => {
                out.put("guest", guest);
                out.put("reason", reason);
            }
            Event::Powerdown => return None,
            Event::Reset { guest, reason } => {
                out.put("guest", guest);
                out.put("reason", reason);
            }
            Event::Stop => return None,
            Event::Resume => return None,
            Event::GuestPanicked { action } => {
                out.put("action", action);
            }
            Event::GuestCrashloaded { action } => {
                out.put("action", action);
            }
            Event::VserportChange { id, open } => {
                out.put("id", id);
                out.put("open", open);
            }
            Event::RtcChange { offset, qom_path } => {
                out.put("offset", offset);
                out.put("qom-path", qom_path);
            }
            Event::JobStatusChange { id, status } => {
                out.put("id", id);
                out.put("status", status);
            }
            Event::BlockWriteThreshold {
                node_name,
                amount_exceeded,
                write_threshold,
            } => {
                out.put("node-name", node_name);
                out.put("amount-exceeded", amount_exceeded);
                out.put("write-threshold", write_threshold);
            }
            Event::BlockIoError {
                qom_path,
                device,
                node_name,
                operation,
                action,
                nospace,
                reason,
            } => {
                out.put("qom-path", qom_path);
                out.put("device", device);
                out.put_some("node-name", node_name);
                out.put("operation", operation);
                out.put("action", action);
                out.put_some("nospace", nospace);
                out.put("reason", reason);
            }
            Event::DeviceTrayMoved {
                device,
                id,
                tray_open,
            } => {
                out.put("device", device);
                out.put("id", id);
                out.put("tray-open", tray_open);
            }
            Event::BlockImageCorrupted {
                device,
                node_name,
                msg,
                offset,
                size,
                fatal,
            } => {
                out.put("device", device);
                out.put_some("node-name", node_name);
                out.put("msg", msg);
                out.put_some("offset", offset);
                out.put_some("size", size);
                out.put("fatal", fatal);
            }
            Event::NetdevStreamConnected { netdev_id, addr } => {
                out.put("netdev-id", netdev_id);
                out.put("addr", addr);
            }
            Event::NetdevStreamDisconnected { netdev_id } => {
                out.put("netdev-id", netdev_id);
            }
            Event::DeviceDeleted { device, path } => {
                out.put_some("device", device);
                out.put("path", path);
            }
            Event::DeviceUnplugGuestError { device, path } => {
                out.put_some("device", device);
                out.put("path", path);
            }
            Event::NicRxFilterChanged { name, path } => {
                out.put_some("name", name);
                out.put("path", path);
            }
            Event::BalloonChange { actual } => {
                out.put("actual", actual);
            }
            Event::Watchdog { action } => {
                out.put("action", action);
            }
            Event::GuestPvshutdown => return None,
            Event::Migration { status } => {
                out.put("status", status);
            }
            Event::MigrationPass { pass } => {
                out.put("pass", pass);
            }
            Event::DumpCompleted { result, error } => {
                out.put("result", result);
                out.put_some("error", error);
            }
        }
        members.close();
        Some(text)
    }
    /// How often it may be sent, for events that a guest can cause.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        match self {
            Event::Shutdown { .. } => None,
            Event::Powerdown => None,
            Event::Reset { .. } => None,
            Event::Stop => None,
            Event::Resume => None,
            Event::GuestPanicked { .. } => None,
            Event::GuestCrashloaded { .. } => None,
            Event::VserportChange { id, .. } => Some(RateLimit {
                interval_ms: 1000,
                key: format!("{}:{}", self.name(), id),
            }),
            Event::RtcChange { .. } => Some(RateLimit {
                interval_ms: 1000,
                key: self.name().to_string(),
            }),
            Event::JobStatusChange { .. } => None,
            Event::BlockWriteThreshold { .. } => None,
            Event::BlockIoError { qom_path, .. } => Some(RateLimit {
                interval_ms: 1000,
                key: format!("{}:{}", self.name(), qom_path),
            }),
            Event::DeviceTrayMoved { .. } => None,
            Event::BlockImageCorrupted { .. } => None,
            Event::NetdevStreamConnected { .. } => None,
            Event::NetdevStreamDisconnected { .. } => None,
            Event::DeviceDeleted { .. } => None,
            Event::DeviceUnplugGuestError { .. } => None,
            Event::NicRxFilterChanged { .. } => None,
            Event::BalloonChange { .. } => Some(RateLimit {
                interval_ms: 1000,
                key: self.name().to_string(),
            }),
            Event::Watchdog { .. } => Some(RateLimit {
                interval_ms: 1000,
                key: self.name().to_string(),
            }),
            Event::GuestPvshutdown => None,
            Event::Migration { .. } => None,
            Event::MigrationPass { .. } => None,
            Event::DumpCompleted { .. } => None,
        }
    }
}
