//! Commands about character devices.

use api_spec::reply::Empty;
use api_spec::{
    ChardevAddArgs, ChardevChangeArgs, ChardevCommands, ChardevInfo, ChardevRemoveArgs,
    ChardevReturn, ChardevSendBreakArgs, CommandContext, QmpResult, Reply, RingbufReadArgs,
    RingbufWriteArgs,
};

use crate::control::Control;
use crate::control::chardev_orders::{Change, ChardevOrder};
use crate::control::chardevs::Caller;

use super::DONE;

impl ChardevCommands for Control {
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
}
