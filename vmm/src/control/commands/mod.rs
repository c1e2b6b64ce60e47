//! The commands: one method each, as short as can be; what they do is in the files beside this
//! one and in the parts of [`Control`].

mod chardev_text;
mod disk_text;
mod guest_text;
mod info;
mod migration_text;
mod net_text;
mod qom;
mod text;

use std::borrow::Cow;

use api_spec::reply::{Empty, RawJson};
use api_spec::*;

use super::Control;
use super::blockdev::media::Place;
use super::chardev_orders::{Change, ChardevOrder};
use super::chardevs::Caller;
use super::life::Input;
use super::migrate::{never, older};
use super::nets::NetCaller;

pub(super) use disk_text::human;
pub use info::version;

/// Empty answer of a command that worked.
const DONE: QmpResult<Empty> = Ok(Empty);

impl Commands for Control {
    fn query_status(&mut self, _cx: &mut CommandContext) -> QmpResult<StatusInfo> {
        Ok(self.published.status())
    }

    fn set_action(&mut self, _cx: &mut CommandContext, args: SetActionArgs) -> QmpResult<Empty> {
        self.life.policy_mut().set(&args);
        DONE
    }

    fn stop(&mut self, _cx: &mut CommandContext, reply: Reply<Empty>) {
        let ticket = self.ticket(answer(reply));
        self.feed(Input::Stop(ticket));
    }

    fn cont(&mut self, _cx: &mut CommandContext, reply: Reply<Empty>) {
        self.continue_machine(answer(reply));
    }

    fn system_reset(&mut self, _cx: &mut CommandContext, reply: Reply<Empty>) {
        let ticket = self.ticket(answer(reply));
        self.feed(Input::Reset(
            ShutdownCause::HostQmpSystemReset,
            Some(ticket),
        ));
    }

    fn system_powerdown(&mut self, _cx: &mut CommandContext) -> QmpResult<Empty> {
        self.power_button();
        DONE
    }

    fn inject_nmi(&mut self, _cx: &mut CommandContext) -> QmpResult<Empty> {
        self.nmi()?;
        DONE
    }

    fn quit(&mut self, _cx: &mut CommandContext, reply: Reply<Empty>) {
        let ticket = self.ticket(answer(reply));
        self.feed(Input::Shutdown(ShutdownCause::HostQmpQuit, 0, Some(ticket)));
    }

    fn query_version(&mut self, _cx: &mut CommandContext) -> QmpResult<VersionInfo> {
        Ok(version())
    }

    fn query_commands(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<CommandDescription>> {
        let describe = |info: &CommandInfo| CommandDescription {
            name: info.name.to_owned(),
        };
        Ok(COMMANDS.iter().map(describe).collect())
    }

    fn query_events(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<EventDescription>> {
        let describe = |name: &&str| EventDescription {
            name: (*name).to_owned(),
        };
        Ok(EVENTS.iter().map(describe).collect())
    }

    fn query_qmp_schema(&mut self, _cx: &mut CommandContext) -> QmpResult<RawJson> {
        Ok(RawJson(Cow::Borrowed(QUERY_QMP_SCHEMA_JSON)))
    }

    fn human_monitor_command(
        &mut self,
        cx: &mut CommandContext,
        args: HumanMonitorCommandArgs,
        reply: Reply<String>,
    ) {
        self.text_command(cx, &args, reply);
    }

    fn getfd(&mut self, cx: &mut CommandContext, args: GetfdArgs) -> QmpResult<Empty> {
        let fds = std::mem::take(&mut cx.fds);
        self.fds
            .get_fd(cx.monitor.0, &args.fdname, fds)
            .map_err(refused)?;
        DONE
    }

    fn closefd(&mut self, cx: &mut CommandContext, args: ClosefdArgs) -> QmpResult<Empty> {
        self.fds.take(cx.monitor.0, &args.fdname).map_err(refused)?;
        DONE
    }

    fn add_fd(&mut self, cx: &mut CommandContext, args: AddFdArgs) -> QmpResult<AddfdInfo> {
        let fds = std::mem::take(&mut cx.fds);
        let (fdset_id, fd) = self
            .fds
            .add_fd(args.fdset_id, args.opaque, fds)
            .map_err(refused)?;
        Ok(AddfdInfo {
            fdset_id,
            fd: i64::from(fd),
        })
    }

    fn remove_fd(&mut self, _cx: &mut CommandContext, args: RemoveFdArgs) -> QmpResult<Empty> {
        self.fds
            .remove_fd(args.fdset_id, args.fd)
            .map_err(refused)?;
        DONE
    }

    fn query_fdsets(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<FdsetInfo>> {
        Ok(self.fd_sets())
    }

    fn query_command_line_options(
        &mut self,
        _cx: &mut CommandContext,
        args: QueryCommandLineOptionsArgs,
    ) -> QmpResult<Vec<CommandLineOptionInfo>> {
        info::command_line_options(args.option.as_deref())
    }

    fn query_name(&mut self, _cx: &mut CommandContext) -> QmpResult<NameInfo> {
        Ok(self.published.facts().name.clone())
    }

    fn query_uuid(&mut self, _cx: &mut CommandContext) -> QmpResult<UuidInfo> {
        Ok(self.published.facts().uuid.clone())
    }

    fn query_kvm(&mut self, _cx: &mut CommandContext) -> QmpResult<KvmInfo> {
        Ok(self.published.facts().kvm.clone())
    }

    fn query_target(&mut self, _cx: &mut CommandContext) -> QmpResult<TargetInfo> {
        Ok(super::sink::target())
    }

    fn query_machines(
        &mut self,
        _cx: &mut CommandContext,
        args: QueryMachinesArgs,
    ) -> QmpResult<Vec<MachineInfo>> {
        Ok(info::machines(&args))
    }

    fn query_cpus_fast(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<CpuInfoFast>> {
        Ok(self.cpus())
    }

    fn query_iothreads(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<IOThreadInfo>> {
        Ok(self.objects.io_threads())
    }

    fn query_memdev(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<Memdev>> {
        Ok(self.memory_backends())
    }

    fn query_memory_size_summary(&mut self, _cx: &mut CommandContext) -> QmpResult<MemoryInfo> {
        let size = self.machine.as_ref().map_or(0, |m| m.ram_size());
        Ok(MemoryInfo {
            base_memory: decode::Size(size),
            plugged_memory: Some(decode::Size(0)),
        })
    }

    fn query_pci(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<PciInfo>> {
        Ok(self
            .machine
            .as_ref()
            .map_or_else(Vec::new, |m| m.pci_info()))
    }

    fn qom_list(
        &mut self,
        _cx: &mut CommandContext,
        args: QomListArgs,
    ) -> QmpResult<Vec<ObjectPropertyInfo>> {
        self.list_object(&args.path)
    }

    fn qom_get(&mut self, _cx: &mut CommandContext, args: QomGetArgs) -> QmpResult<Value> {
        self.get_property(&args.path, &args.property)
    }

    fn qom_set(&mut self, _cx: &mut CommandContext, args: QomSetArgs) -> QmpResult<Empty> {
        self.set_property(&args)?;
        DONE
    }

    fn qom_list_types(
        &mut self,
        _cx: &mut CommandContext,
        args: QomListTypesArgs,
    ) -> QmpResult<Vec<ObjectTypeInfo>> {
        Ok(qom::types(&args))
    }

    fn device_list_properties(
        &mut self,
        _cx: &mut CommandContext,
        args: DeviceListPropertiesArgs,
    ) -> QmpResult<Vec<ObjectPropertyInfo>> {
        qom::driver_properties(&args.typename)
    }

    fn object_add(&mut self, _cx: &mut CommandContext, args: ObjectOptions, reply: Reply<Empty>) {
        self.add_object_slowly(args, reply);
    }

    fn object_del(&mut self, _cx: &mut CommandContext, args: ObjectDelArgs) -> QmpResult<Empty> {
        self.objects.remove(&args.id)?;
        DONE
    }

    fn blockdev_add(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevOptions,
    ) -> QmpResult<Empty> {
        self.add_block_node(args)?;
        DONE
    }

    fn blockdev_del(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevDelArgs,
        reply: Reply<Empty>,
    ) {
        self.delete_node(&args.node_name, reply, empty);
    }

    fn blockdev_reopen(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevReopenArgs,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, |graph| graph.reopen(args.options));
    }

    fn blockdev_set_active(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSetActiveArgs,
        reply: Reply<Empty>,
    ) {
        self.set_active(args, reply);
    }

    fn blockdev_snapshot(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSnapshot,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, move |graph| graph.snapshot(&args));
    }

    fn blockdev_snapshot_sync(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSnapshotSync,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, |graph| graph.snapshot_sync(args));
    }

    fn blockdev_snapshot_internal_sync(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSnapshotInternal,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, |graph| graph.snapshot_internal(args));
    }

    fn blockdev_snapshot_delete_internal_sync(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSnapshotDeleteInternalSyncArgs,
        reply: Reply<SnapshotInfo>,
    ) {
        self.change_graph(reply, move |graph| graph.delete_snapshot(&args));
    }

    fn blockdev_snapshot_apply(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSnapshotApplyArgs,
        reply: Reply<SnapshotInfo>,
    ) {
        self.change_graph(reply, move |graph| graph.apply_snapshot(&args));
    }

    fn snapshot_save(
        &mut self,
        _cx: &mut CommandContext,
        args: SnapshotSaveArgs,
    ) -> QmpResult<Empty> {
        self.save_snapshot(args)?;
        DONE
    }

    fn snapshot_load(
        &mut self,
        _cx: &mut CommandContext,
        args: SnapshotLoadArgs,
    ) -> QmpResult<Empty> {
        self.load_snapshot(args)?;
        DONE
    }

    fn snapshot_delete(
        &mut self,
        _cx: &mut CommandContext,
        args: SnapshotDeleteArgs,
    ) -> QmpResult<Empty> {
        self.delete_snapshot(args)?;
        DONE
    }

    fn transaction(
        &mut self,
        _cx: &mut CommandContext,
        args: TransactionArgs,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, |graph| graph.transaction(args));
    }

    fn change_backing_file(
        &mut self,
        _cx: &mut CommandContext,
        args: ChangeBackingFileArgs,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, move |graph| graph.change_backing_file(&args));
    }

    fn block_resize(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockResizeArgs,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, move |graph| graph.resize(&args));
    }

    fn query_block(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<BlockInfo>> {
        Ok(self.blockdevs.query_block())
    }

    fn query_blockstats(
        &mut self,
        _cx: &mut CommandContext,
        args: QueryBlockstatsArgs,
    ) -> QmpResult<Vec<BlockStats>> {
        Ok(self
            .blockdevs
            .query_blockstats(args.query_nodes.unwrap_or(false)))
    }

    fn query_named_block_nodes(
        &mut self,
        _cx: &mut CommandContext,
        args: QueryNamedBlockNodesArgs,
    ) -> QmpResult<Vec<BlockDeviceInfo>> {
        Ok(self
            .blockdevs
            .query_named_block_nodes(args.flat.unwrap_or(false)))
    }

    fn block_set_io_throttle(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockIOThrottle,
    ) -> QmpResult<Empty> {
        self.blockdevs.set_io_throttle(&args)?;
        DONE
    }

    fn block_latency_histogram_set(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockLatencyHistogramSetArgs,
    ) -> QmpResult<Empty> {
        self.blockdevs.set_histograms(&args)?;
        DONE
    }

    fn block_set_write_threshold(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockSetWriteThresholdArgs,
    ) -> QmpResult<Empty> {
        let BlockSetWriteThresholdArgs {
            node_name,
            write_threshold,
        } = args;
        self.blockdevs
            .set_write_threshold(&node_name, write_threshold)?;
        DONE
    }

    fn device_add(&mut self, _cx: &mut CommandContext, args: DeviceOptions) -> QmpResult<Empty> {
        Control::device_add(self, args)?;
        DONE
    }

    fn device_del(&mut self, _cx: &mut CommandContext, args: DeviceDelArgs) -> QmpResult<Empty> {
        Control::device_del(self, &args.id)?;
        DONE
    }

    fn query_balloon(&mut self, _cx: &mut CommandContext) -> QmpResult<BalloonInfo> {
        self.balloon_info()
    }

    fn balloon(&mut self, _cx: &mut CommandContext, args: BalloonArgs) -> QmpResult<Empty> {
        self.set_balloon(&args)?;
        DONE
    }

    fn query_vm_generation_id(&mut self, _cx: &mut CommandContext) -> QmpResult<GuidInfo> {
        self.generation_id()
    }

    fn watchdog_set_action(
        &mut self,
        _cx: &mut CommandContext,
        args: WatchdogSetActionArgs,
    ) -> QmpResult<Empty> {
        self.life.policy_mut().watchdog = args.action;
        DONE
    }

    fn query_rx_filter(
        &mut self,
        _cx: &mut CommandContext,
        args: QueryRxFilterArgs,
    ) -> QmpResult<Vec<RxFilterInfo>> {
        self.rx_filters(args.name.as_deref())
    }

    fn netdev_add(&mut self, cx: &mut CommandContext, args: Netdev, reply: Reply<Empty>) {
        self.add_netdev_for(cx.monitor, NetCaller::Command, args, reply, empty);
    }

    fn netdev_del(&mut self, _cx: &mut CommandContext, args: NetdevDelArgs, reply: Reply<Empty>) {
        self.delete_netdev(&args.id, reply, empty);
    }

    fn set_link(&mut self, _cx: &mut CommandContext, args: SetLinkArgs) -> QmpResult<Empty> {
        self.move_link(&args.name, args.up)?;
        DONE
    }

    fn announce_self(
        &mut self,
        _cx: &mut CommandContext,
        args: AnnounceParameters,
    ) -> QmpResult<Empty> {
        self.announce(args);
        DONE
    }

    fn yank(&mut self, _cx: &mut CommandContext, args: YankArgs) -> QmpResult<Empty> {
        self.published.yanks().yank(&args.instances)?;
        DONE
    }

    fn query_yank(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<YankInstance>> {
        Ok(self.published.yanks().query())
    }

    fn query_chardev(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<ChardevInfo>> {
        Ok(self.list_chardevs())
    }

    fn ringbuf_write(
        &mut self,
        _cx: &mut CommandContext,
        args: RingbufWriteArgs,
    ) -> QmpResult<Empty> {
        self.chardevs.ringbuf_write(&args)?;
        DONE
    }

    fn ringbuf_read(
        &mut self,
        _cx: &mut CommandContext,
        args: RingbufReadArgs,
    ) -> QmpResult<String> {
        self.chardevs.ringbuf_read(&args)
    }

    fn chardev_add(
        &mut self,
        cx: &mut CommandContext,
        args: ChardevAddArgs,
        reply: Reply<ChardevReturn>,
    ) {
        let ChardevAddArgs { id, backend } = args;
        let change = Change::Add(Caller::Command);
        let order = ChardevOrder {
            id,
            backend,
            change,
        };
        self.order_chardev(cx.monitor, order, reply, |result| result);
    }

    fn chardev_change(
        &mut self,
        cx: &mut CommandContext,
        args: ChardevChangeArgs,
        reply: Reply<ChardevReturn>,
    ) {
        let ChardevChangeArgs { id, backend } = args;
        let change = Change::Replace;
        let order = ChardevOrder {
            id,
            backend,
            change,
        };
        self.order_chardev(cx.monitor, order, reply, |result| result);
    }

    fn chardev_send_break(
        &mut self,
        _cx: &mut CommandContext,
        args: ChardevSendBreakArgs,
    ) -> QmpResult<Empty> {
        self.chardevs.send_break(&args.id)?;
        DONE
    }

    fn chardev_remove(
        &mut self,
        _cx: &mut CommandContext,
        args: ChardevRemoveArgs,
    ) -> QmpResult<Empty> {
        self.chardevs.remove(&args.id)?;
        DONE
    }

    fn query_jobs(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<JobInfo>> {
        Ok(self.jobs.query())
    }

    fn job_pause(&mut self, _cx: &mut CommandContext, args: JobPauseArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Pause)?;
        DONE
    }

    fn job_resume(&mut self, _cx: &mut CommandContext, args: JobResumeArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Resume)?;
        DONE
    }

    fn job_cancel(&mut self, _cx: &mut CommandContext, args: JobCancelArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Cancel)?;
        DONE
    }

    fn job_complete(
        &mut self,
        _cx: &mut CommandContext,
        args: JobCompleteArgs,
    ) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Complete)?;
        DONE
    }

    fn job_dismiss(&mut self, _cx: &mut CommandContext, args: JobDismissArgs) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Dismiss)?;
        DONE
    }

    fn job_finalize(
        &mut self,
        _cx: &mut CommandContext,
        args: JobFinalizeArgs,
    ) -> QmpResult<Empty> {
        self.job_verb(&args.id, JobVerb::Finalize)?;
        DONE
    }

    fn blockdev_create(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevCreateArgs,
    ) -> QmpResult<Empty> {
        self.create_image(args)?;
        DONE
    }

    fn blockdev_check(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevCheckArgs,
        reply: Reply<ImageCheck>,
    ) {
        self.check_image(&args, reply);
    }

    fn migrate(&mut self, cx: &mut CommandContext, args: MigrateArgs, reply: Reply<Empty>) {
        reply.send(self.migrate_out(cx.monitor.0, args).map(|()| Empty));
    }

    fn migrate_incoming(
        &mut self,
        cx: &mut CommandContext,
        args: MigrateIncomingArgs,
        reply: Reply<Empty>,
    ) {
        reply.send(self.migrate_in(cx.monitor.0, args).map(|()| Empty));
    }

    fn migrate_cancel(&mut self, _cx: &mut CommandContext) -> QmpResult<Empty> {
        self.cancel_migration();
        DONE
    }

    fn migrate_continue(
        &mut self,
        _cx: &mut CommandContext,
        args: MigrateContinueArgs,
    ) -> QmpResult<Empty> {
        self.continue_migration(args.state)?;
        DONE
    }

    fn query_migrate(&mut self, _cx: &mut CommandContext) -> QmpResult<MigrationInfo> {
        Ok(self.migration_info())
    }

    fn migrate_set_capabilities(
        &mut self,
        _cx: &mut CommandContext,
        args: MigrateSetCapabilitiesArgs,
    ) -> QmpResult<Empty> {
        self.set_migration_capabilities(&args.capabilities)?;
        DONE
    }

    fn query_migrate_capabilities(
        &mut self,
        _cx: &mut CommandContext,
    ) -> QmpResult<Vec<MigrationCapabilityStatus>> {
        Ok(self.migrate.settings.capabilities().list())
    }

    fn migrate_set_parameters(
        &mut self,
        _cx: &mut CommandContext,
        args: MigrateSetParameters,
    ) -> QmpResult<Empty> {
        self.migrate.settings.set_parameters(args)?;
        DONE
    }

    fn query_migrate_parameters(
        &mut self,
        _cx: &mut CommandContext,
    ) -> QmpResult<MigrationParameters> {
        Ok(self.migrate.settings.parameters().list())
    }

    fn migrate_set_speed(
        &mut self,
        _cx: &mut CommandContext,
        args: MigrateSetSpeedArgs,
    ) -> QmpResult<Empty> {
        let change = older::speed(args.value);
        self.migrate.settings.set_parameters(change)?;
        DONE
    }

    fn migrate_set_downtime(
        &mut self,
        _cx: &mut CommandContext,
        args: MigrateSetDowntimeArgs,
    ) -> QmpResult<Empty> {
        let change = older::downtime(args.value)?;
        self.migrate.settings.set_parameters(change)?;
        DONE
    }

    fn migrate_set_cache_size(
        &mut self,
        _cx: &mut CommandContext,
        args: MigrateSetCacheSizeArgs,
    ) -> QmpResult<Empty> {
        let change = older::cache_size(args.value);
        self.migrate.settings.set_parameters(change)?;
        DONE
    }

    fn query_migrate_cache_size(&mut self, _cx: &mut CommandContext) -> QmpResult<i64> {
        let size = self.migrate.settings.parameters().xbzrle_cache_size;
        Ok(i64::try_from(size).unwrap_or(i64::MAX))
    }

    fn migrate_start_postcopy(&mut self, _cx: &mut CommandContext) -> QmpResult<Empty> {
        Err(never::start_postcopy())
    }

    fn migrate_pause(&mut self, _cx: &mut CommandContext) -> QmpResult<Empty> {
        Err(never::pause())
    }

    fn migrate_recover(
        &mut self,
        _cx: &mut CommandContext,
        _args: MigrateRecoverArgs,
    ) -> QmpResult<Empty> {
        Err(never::recover())
    }

    fn client_migrate_info(
        &mut self,
        _cx: &mut CommandContext,
        args: ClientMigrateInfoArgs,
    ) -> QmpResult<Empty> {
        Err(never::client_info(&args.protocol))
    }

    fn eject(&mut self, _cx: &mut CommandContext, args: EjectArgs, reply: Reply<Empty>) {
        let place = self.place(args.device.as_deref(), args.id.as_deref());
        let force = args.force.unwrap_or(false);
        self.with_place(place, reply, empty, move |place| place.eject(force));
    }

    fn blockdev_open_tray(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevOpenTrayArgs,
        reply: Reply<Empty>,
    ) {
        let place = self.place(args.device.as_deref(), args.id.as_deref());
        let force = args.force.unwrap_or(false);
        self.with_place(place, reply, empty, move |place| place.open(force));
    }

    fn blockdev_close_tray(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevCloseTrayArgs,
        reply: Reply<Empty>,
    ) {
        let place = self.place(args.device.as_deref(), args.id.as_deref());
        self.with_place(place, reply, empty, Place::close);
    }

    fn blockdev_remove_medium(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevRemoveMediumArgs,
        reply: Reply<Empty>,
    ) {
        let place = self.place(None, Some(&args.id));
        self.with_place(place, reply, empty, Place::remove);
    }

    fn blockdev_insert_medium(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevInsertMediumArgs,
        reply: Reply<Empty>,
    ) {
        self.insert_medium(&args.id, args.node_name, reply);
    }

    fn blockdev_change_medium(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevChangeMediumArgs,
        reply: Reply<Empty>,
    ) {
        self.change_medium(args, reply, empty);
    }
}

/// Nothing, as commands without a result answer.
pub(in crate::control) fn empty(result: QmpResult<()>) -> QmpResult<Empty> {
    result.map(|()| Empty)
}

/// Answers with nothing, or with what went wrong.
fn answer(reply: Reply<Empty>) -> super::Waiter {
    Box::new(move |result| reply.send(result.map(|()| Empty)))
}

fn refused(error: impl std::fmt::Display) -> QmpError {
    QmpError::generic(error.to_string())
}
