//! Commands about disks and their nodes.

use api_spec::reply::Empty;
use api_spec::{
    BlockCommands, BlockDeviceInfo, BlockIOThrottle, BlockInfo, BlockLatencyHistogramSetArgs,
    BlockSetWriteThresholdArgs, BlockStats, BlockdevDelArgs, BlockdevOptions,
    BlockdevSetActiveArgs, CommandContext, QmpResult, QueryBlockstatsArgs,
    QueryNamedBlockNodesArgs, Reply,
};

use crate::control::Control;

use super::{DONE, empty};

impl BlockCommands for Control {
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

    fn blockdev_set_active(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevSetActiveArgs,
        reply: Reply<Empty>,
    ) {
        self.set_active(args, reply);
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
}
