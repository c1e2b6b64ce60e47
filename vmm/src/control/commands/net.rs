//! Commands about networks.

use api_spec::reply::Empty;
use api_spec::{
    AnnounceParameters, CommandContext, NetCommands, Netdev, NetdevDelArgs, QmpResult,
    QueryRxFilterArgs, Reply, RxFilterInfo, SetLinkArgs,
};

use crate::control::Control;
use crate::control::nets::NetCaller;

use super::{DONE, empty};

impl NetCommands for Control {
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
}
