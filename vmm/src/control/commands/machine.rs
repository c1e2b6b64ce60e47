//! Commands about what the machine is made of.

use api_spec::reply::Empty;
use api_spec::{
    BalloonArgs, BalloonInfo, CommandContext, CpuInfoFast, GuidInfo, IOThreadInfo, KvmInfo,
    MachineCommands, MachineInfo, Memdev, MemoryInfo, NameInfo, PciInfo, QmpResult,
    QueryMachinesArgs, TargetInfo, UuidInfo, decode,
};

use crate::control::Control;
use crate::control::sink;

use super::{DONE, info};

impl MachineCommands for Control {
    fn query_name(&mut self, _cx: &mut CommandContext) -> QmpResult<NameInfo> {
        Ok(self.published.facts().name.clone())
    }

    fn query_uuid(&mut self, _cx: &mut CommandContext) -> QmpResult<UuidInfo> {
        Ok(self.published.facts().uuid.clone())
    }

    fn query_kvm(&mut self, _cx: &mut CommandContext) -> QmpResult<KvmInfo> {
        Ok(self.published.facts().kvm.clone())
    }

    fn query_target(&mut self, _cx: &mut CommandContext) -> QmpResult<TargetInfo> {
        Ok(sink::target())
    }

    fn query_machines(
        &mut self,
        _cx: &mut CommandContext,
        args: QueryMachinesArgs,
    ) -> QmpResult<Vec<MachineInfo>> {
        Ok(info::machines(&args))
    }

    fn query_cpus_fast(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<CpuInfoFast>> {
        Ok(self.cpus())
    }

    fn query_iothreads(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<IOThreadInfo>> {
        Ok(self.objects.io_threads())
    }

    fn query_memdev(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<Memdev>> {
        Ok(self.memory_backends())
    }

    fn query_memory_size_summary(&mut self, _cx: &mut CommandContext) -> QmpResult<MemoryInfo> {
        let size = self.machine.as_ref().map_or(0, |m| m.ram_size());
        Ok(MemoryInfo {
            base_memory: decode::Size(size),
            plugged_memory: Some(decode::Size(0)),
        })
    }

    fn query_pci(&mut self, _cx: &mut CommandContext) -> QmpResult<Vec<PciInfo>> {
        Ok(self
            .machine
            .as_ref()
            .map_or_else(Vec::new, |m| m.pci_info()))
    }

    fn query_balloon(&mut self, _cx: &mut CommandContext) -> QmpResult<BalloonInfo> {
        self.balloon_info()
    }

    fn balloon(&mut self, _cx: &mut CommandContext, args: BalloonArgs) -> QmpResult<Empty> {
        self.set_balloon(&args)?;
        DONE
    }

    fn query_vm_generation_id(&mut self, _cx: &mut CommandContext) -> QmpResult<GuidInfo> {
        self.generation_id()
    }
}
