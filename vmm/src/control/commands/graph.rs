//! Commands about changes of the block graph.

use api_spec::reply::Empty;
use api_spec::{
    BlockResizeArgs, BlockdevReopenArgs, BlockdevSnapshot, BlockdevSnapshotApplyArgs,
    BlockdevSnapshotDeleteInternalSyncArgs, BlockdevSnapshotInternal, BlockdevSnapshotSync,
    ChangeBackingFileArgs, CommandContext, GraphCommands, Reply, SnapshotInfo, TransactionArgs,
};

use crate::control::Control;

impl GraphCommands for Control {
    fn blockdev_reopen(
        &mut self,
        _cx: &mut CommandContext,
        args: BlockdevReopenArgs,
        reply: Reply<Empty>,
    ) {
        self.alter_graph(reply, |graph| graph.reopen(args.options));
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
}
