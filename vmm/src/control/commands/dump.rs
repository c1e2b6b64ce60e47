//! Commands about dumps of guest memory.

use api_spec::reply::Empty;
use api_spec::{
    CommandContext, DumpCommands, DumpGuestMemoryArgs, DumpGuestMemoryCapability, DumpQueryResult,
    MemsaveArgs, PmemsaveArgs, QmpResult, Reply,
};

use crate::control::Control;
use crate::control::dumps;

use super::empty;

impl DumpCommands for Control {
    fn dump_guest_memory(
        &mut self,
        cx: &mut CommandContext,
        args: DumpGuestMemoryArgs,
        reply: Reply<Empty>,
    ) {
        self.dump_memory(
            cx.monitor.0,
            &args,
            Box::new(|result| reply.send(empty(result))),
        );
    }

    fn query_dump(&mut self, _cx: &mut CommandContext) -> QmpResult<DumpQueryResult> {
        Ok(self.dumps.query())
    }

    fn query_dump_guest_memory_capability(
        &mut self,
        _cx: &mut CommandContext,
    ) -> QmpResult<DumpGuestMemoryCapability> {
        Ok(dumps::capability())
    }

    fn memsave(&mut self, _cx: &mut CommandContext, args: MemsaveArgs, reply: Reply<Empty>) {
        self.save_virtual(args, |result| reply.send(empty(result)));
    }

    fn pmemsave(&mut self, _cx: &mut CommandContext, args: PmemsaveArgs, reply: Reply<Empty>) {
        self.save_physical(args, |result| reply.send(empty(result)));
    }
}
