//! Commands about stop, go on, reset, end.

use api_spec::reply::Empty;
use api_spec::{
    CommandContext, QmpResult, Reply, RunStateCommands, SetActionArgs, ShutdownCause, StatusInfo,
    WatchdogSetActionArgs,
};

use crate::control::Control;
use crate::control::life::Input;

use super::{DONE, answer};

impl RunStateCommands for Control {
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

    fn watchdog_set_action(
        &mut self,
        _cx: &mut CommandContext,
        args: WatchdogSetActionArgs,
    ) -> QmpResult<Empty> {
        self.life.policy_mut().watchdog = args.action;
        DONE
    }
}
