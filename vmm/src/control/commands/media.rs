//! Commands about media in trays.

use api_spec::reply::Empty;
use api_spec::{
    BlockdevChangeMediumArgs, BlockdevCloseTrayArgs, BlockdevInsertMediumArgs,
    BlockdevOpenTrayArgs, BlockdevRemoveMediumArgs, CommandContext, EjectArgs, MediaCommands,
    Reply,
};

use crate::control::Control;
use crate::control::blockdev::media::Place;

use super::empty;

impl MediaCommands for Control {
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
