//! The q35 chipset and the devices that every PC has: what is where without being asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use devices::bus::{BusDevice, lock};
use devices::cx::BuildCx;
use devices::irq::{IrqLine, IrqProvider, NullInterrupt};
use devices::map::Space;
use devices::model::shadow::{self, Modes, Run, ShadowRam};
use devices::model::{
    CmosMemory, FwCfg, FwCfgMachine, I8042, Lpc, LpcSetup as Setup, Port61, Port92, Rtc,
};
use devices::pci::{DevFn, HostBridge, InterruptRouter, PciTopology, Plugged, SharedFunction};
use devices::ram::RamHandle;
use devices::registry::Region;

use super::Fixed;
use super::slots::{SlotMap, Tenant};
use super::spec::MachineSpec;
use crate::accel::AccelKind;
use crate::clock::{ClockTimers, GuestClock};
use crate::event::MailSender;
use crate::layout::{self, RamLayout};

/// Where the host bridge is.
const HOST_BRIDGE: DevFn = DevFn::new(0, 0);
/// Where the ISA bridge is.
const LPC: DevFn = DevFn::new(31, 0);

/// What the chipset is made of.
pub struct Parts<'a> {
    /// The machine.
    pub spec: &'a MachineSpec,
    /// The machine's UUID.
    pub uuid: Option<uuid::Uuid>,
    /// Where RAM is.
    pub layout: RamLayout,
    /// Guest RAM.
    pub ram: &'a RamHandle,
    /// Interrupts.
    pub irqs: Arc<dyn IrqProvider>,
    /// The accelerator; KVM brings some of the devices along.
    pub accel: AccelKind,
    /// The virtual clock.
    pub clock: &'a Arc<GuestClock>,
    /// Timers on it.
    pub timers: &'a Arc<ClockTimers>,
    /// Where effects go.
    pub mail: &'a MailSender,
}

/// The parts of the chipset that the machine speaks to.
pub struct Chipset {
    host: Arc<Mutex<HostBridge>>,
    lpc: Arc<Mutex<Lpc>>,
    router: Arc<InterruptRouter>,
    shadow: Arc<Mutex<ShadowRam>>,
    /// Type names in the order of the object tree.
    objects: Vec<&'static str>,
}

impl Parts<'_> {
    fn cx(&self, id: &str) -> BuildCx {
        BuildCx {
            id: id.to_owned(),
            ram: self.ram.clone(),
            irqs: self.irqs.clone(),
            intx: Arc::new(NullInterrupt),
            express: false,
            clock: self.clock.clone(),
            timers: self.timers.clone(),
            effects: Arc::new(self.mail.clone()),
            iothreads: Vec::new(),
            chardev: None,
            node: None,
            drive_name: None,
            entropy: None,
            netdev: None,
            vhost: None,
            hints: HashMap::new(),
        }
    }
}

impl Chipset {
    /// Makes all of it and puts it in its places.
    ///
    /// # Errors
    /// Never on an empty machine.
    pub fn build(
        parts: &Parts<'_>,
        slots: &mut SlotMap,
        pci: &mut PciTopology,
        fixed: &mut Vec<Fixed>,
    ) -> Result<Self> {
        let router = InterruptRouter::new(&*parts.irqs);
        let host = Arc::new(Mutex::new(HostBridge::new()));
        let lpc = Lpc::new(&parts.cx("/ICH9-LPC"), router.clone());
        let mut place = |name: &str, devfn, function: SharedFunction| -> Result<()> {
            let tenant = Tenant {
                driver: name.to_owned(),
                id: None,
                multifunction: false,
            };
            slots.claim(Some(devfn), tenant)?;
            Ok(pci.plug(Plugged {
                id: format!("/{name}").into(),
                parent: None,
                devfn,
                function,
            })?)
        };
        place("mch", HOST_BRIDGE, host.clone())?;
        place("ICH9-LPC", LPC, lpc.clone())?;
        let mut objects = vec!["q35-pcihost", "mch", "ICH9-LPC"];
        for (driver, device, regions) in ports(parts) {
            objects.push(driver);
            let region = |region: &Region| (Space::Port, *region);
            fixed.push(Fixed {
                key: format!("/{driver}").into(),
                driver,
                device,
                regions: regions.iter().map(region).collect(),
            });
        }
        let shadow = Arc::new(Mutex::new(ShadowRam::new(parts.ram.clone())));
        fixed.push(Fixed {
            key: "/shadow".into(),
            driver: "mch",
            device: shadow.clone(),
            regions: vec![(
                Space::Memory,
                Region {
                    region: 0,
                    base: shadow::BASE,
                    len: shadow::LEN,
                },
            )],
        });
        Ok(Chipset {
            shadow,
            host,
            lpc,
            router,
            objects,
        })
    }

    /// Type names in the order of the object tree.
    pub fn objects(&self) -> &[&'static str] {
        &self.objects
    }

    /// PCI functions with their places.
    pub fn functions(&self) -> [(&'static str, DevFn); 2] {
        [("mch", HOST_BRIDGE), ("ICH9-LPC", LPC)]
    }

    /// A new source on the line of a pin (0 for INTA) of a slot on the root bus.
    pub fn intx(&self, slot: u8, pin: u8) -> Arc<dyn IrqLine> {
        self.router.pin(layout::pirq(slot, pin))
    }

    /// The old interrupt of that pin, for guests without ACPI.
    pub fn isa_irq(&self, slot: u8, pin: u8) -> u8 {
        let link = usize::from(layout::pirq(slot, pin));
        Setup::DEFAULT.links.get(link).copied().unwrap_or(0)
    }

    /// Shadow memory as the host bridge has it now; tells the device behind it.
    pub fn shadow_runs(&self) -> Vec<Run> {
        let modes = Modes::from_attributes(lock(&self.host).attributes());
        lock(&self.shadow).set_modes(modes);
        modes.runs()
    }

    /// Does what firmware does to the chipset.
    pub fn set_up(&self, ecam: u64) {
        lock(&self.host).set_up(ecam);
        lock(&self.lpc).set_up(&Setup::DEFAULT);
    }

    /// Tells the guest by ACPI that something is in this slot of the bus with such hot-plug. A
    /// chipset that has no such bus is not asked.
    pub fn announce_plug(&self, _slot: u8) {}

    /// Asks the guest by ACPI to let go of what is in this slot; [`Effect::EjectSlots`] answers.
    ///
    /// [`Effect::EjectSlots`]: devices::effect::Effect::EjectSlots
    pub fn request_eject(&self, _slot: u8) {}

    /// Raises a general purpose event (ACPI 6.5, section 4.8.4.1).
    pub fn general_event(&self, index: u8) {
        lock(&self.lpc).general_event(index);
    }

    /// Presses the power button.
    pub fn power_button(&self) {
        lock(&self.lpc).power_button();
    }
}

type Port = (&'static str, devices::bus::SharedDevice, &'static [Region]);

fn shared(device: impl BusDevice + 'static) -> devices::bus::SharedDevice {
    Arc::new(Mutex::new(device))
}

/// The devices with fixed ports.
fn ports(parts: &Parts<'_>) -> Vec<Port> {
    let (layout, topology) = (parts.layout, &parts.spec.topology);
    let memory = CmosMemory {
        below_4g: layout.below_4g,
        above_4g: layout.above_4g,
        cpus: topology.cpus,
    };
    let rtc = Rtc::new(&parts.cx("/mc146818rtc"), memory);
    let short = |count| u16::try_from(count).unwrap_or(u16::MAX);
    let machine = FwCfgMachine {
        ram_size: layout.size(),
        cpus: short(topology.cpus),
        max_cpus: short(topology.maxcpus),
        uuid: parts.uuid.unwrap_or_default().into_bytes(),
    };
    let fw_cfg = FwCfg::new(parts.ram.clone(), &machine);
    let mut ports: Vec<Port> = vec![
        ("mc146818rtc", rtc, Rtc::PORTS),
        ("fw_cfg_io", shared(fw_cfg), FwCfg::PORTS),
        ("port92", shared(Port92::new()), Port92::PORTS),
    ];
    if parts.spec.i8042 {
        let i8042 = I8042::new(&parts.cx("/i8042"));
        ports.push(("i8042", shared(i8042), I8042::PORTS));
    }
    if parts.accel == AccelKind::Qtest {
        // KVM's timer answers there itself.
        ports.push((
            "isa-pcspk",
            shared(Port61::new(&parts.cx("/isa-pcspk"))),
            Port61::PORTS,
        ));
    }
    ports
}
