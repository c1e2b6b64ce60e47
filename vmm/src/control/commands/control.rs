//! Commands about sessions, this interface itself, and what was passed with messages.

use std::borrow::Cow;

use api_spec::reply::{Empty, RawJson};
use api_spec::{
    AddFdArgs, AddfdInfo, COMMANDS, ClosefdArgs, CommandContext, CommandDescription, CommandInfo,
    CommandLineOptionInfo, ControlCommands, EVENTS, EventDescription, FdsetInfo, GetfdArgs,
    HumanMonitorCommandArgs, QmpResult, QueryCommandLineOptionsArgs, RemoveFdArgs, Reply,
    VersionInfo, YankArgs, YankInstance,
};

use crate::control::Control;

use super::info::version;
use super::{DONE, info, refused};

impl ControlCommands for Control {
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
        Ok(RawJson(Cow::Borrowed(api_spec::QUERY_QMP_SCHEMA_JSON)))
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

    fn yank(&mut self, _cx: &mut CommandContext, args: YankArgs) -> QmpResult<Empty> {
        self.published.yanks().yank(&args.instances)?;
        DONE
    }

    fn query_yank(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<YankInstance>> {
        Ok(self.published.yanks().query())
    }
}
