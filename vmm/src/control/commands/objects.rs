//! Commands about objects, devices and their properties.

use api_spec::reply::Empty;
use api_spec::{
    CommandContext, DeviceDelArgs, DeviceListPropertiesArgs, DeviceOptions, ObjectDelArgs,
    ObjectOptions, ObjectPropertyInfo, ObjectTypeInfo, ObjectsCommands, QmpResult, QomGetArgs,
    QomListArgs, QomListTypesArgs, QomSetArgs, Reply, Value,
};

use crate::control::Control;

use super::{DONE, qom};

impl ObjectsCommands for Control {
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

    fn device_add(&mut self, _cx: &mut CommandContext, args: DeviceOptions) -> QmpResult<Empty> {
        Control::device_add(self, args)?;
        DONE
    }

    fn device_del(&mut self, _cx: &mut CommandContext, args: DeviceDelArgs) -> QmpResult<Empty> {
        Control::device_del(self, &args.id)?;
        DONE
    }
}
