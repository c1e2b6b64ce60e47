//! Commands about machines that go and come.

use api_spec::reply::Empty;
use api_spec::{
    ClientMigrateInfoArgs, CommandContext, MigrateArgs, MigrateContinueArgs, MigrateIncomingArgs,
    MigrateRecoverArgs, MigrateSetCacheSizeArgs, MigrateSetCapabilitiesArgs,
    MigrateSetDowntimeArgs, MigrateSetParameters, MigrateSetSpeedArgs, MigrationCapabilityStatus,
    MigrationCommands, MigrationInfo, MigrationParameters, QmpResult, Reply,
};

use crate::control::Control;
use crate::control::migrate::{never, older};

use super::DONE;

impl MigrationCommands for Control {
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
}
