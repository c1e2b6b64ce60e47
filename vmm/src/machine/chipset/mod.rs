//! The chipset and the devices that every PC has: what is where without being asked for.

mod i440fx;
mod q35;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use devices::bus::{BusDevice, lock};
use devices::cx::BuildCx;
use devices::irq::{IrqLine, IrqProvider, NullInterrupt};
use devices::map::Space;
use devices::model::shadow::{self, Modes, Run, ShadowRam};
use devices::model::{CmosMemory, FwCfg, FwCfgMachine, I8042, Port61, Port92, Rtc};
use devices::pci::{DevFn, InterruptRouter, PciTopology, Plugged, SharedFunction};
use devices::ram::RamHandle;
use devices::registry::Region;

use super::Fixed;
use super::slots::{SlotMap, Tenant};
use super::spec::MachineSpec;
use crate::accel::AccelKind;
use crate::clock::{ClockTimers, GuestClock};
use crate::event::MailSender;
use crate::layout::{Board, RamLayout};

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

/// One of the chipset's PCI functions.
pub struct Function {
    /// Its type's name.
    pub driver: &'static str,
    /// Slot and function.
    pub devfn: DevFn,
    /// Whether it says that its slot has more functions.
    pub multifunction: bool,
    /// The function.
    pub function: SharedFunction,
}

impl Function {
    fn alone(driver: &'static str, devfn: DevFn, function: SharedFunction) -> Self {
        Function {
            driver,
            devfn,
            multifunction: false,
            function,
        }
    }
}

/// What one board has that another has not.
trait Hardware: Send {
    /// Its PCI functions: host bridge and ISA bridge first.
    fn functions(&self) -> Vec<Function>;
    /// The host bridge's attribute map of shadow memory.
    fn attributes(&self) -> [u8; 7];
    /// Does what firmware does to it.
    fn set_up(&self);
    /// The old interrupt of a pin (0 for INTA) of a function on the root bus.
    fn isa_irq(&self, at: DevFn, pin: u8) -> u8;
    /// Presses the power button.
    fn power_button(&self);
    /// See [`Chipset::general_event`].
    fn general_event(&self, index: u8);
    /// See [`Chipset::announce_plug`].
    fn announce_plug(&self, slot: u8);
    /// See [`Chipset::request_eject`].
    fn request_eject(&self, slot: u8);
}

/// What the parts of a board are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The type of what is around the host bridge.
    pub host: &'static str,
    /// What that is called in the object tree, below the machine.
    pub child: &'static str,
    /// The type of the ISA bridge.
    pub isa_bridge: &'static str,
    /// The root bus.
    pub root_bus: &'static str,
}

impl Names {
    /// Those of `board`.
    pub const fn of(board: Board) -> Self {
        match board {
            Board::Q35 => Names {
                host: "q35-pcihost",
                child: "q35",
                isa_bridge: "ICH9-LPC",
                root_bus: "pcie.0",
            },
            Board::I440fx => Names {
                host: "i440FX-pcihost",
                child: "i440fx",
                isa_bridge: "PIIX3",
                root_bus: "pci.0",
            },
        }
    }
}

/// The parts of the chipset that the machine speaks to.
pub struct Chipset {
    board: Board,
    hardware: Box<dyn Hardware>,
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
            writers: Default::default(),
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
        let board = parts.layout.board;
        let (router, hardware): (_, Box<dyn Hardware>) = match board {
            Board::Q35 => {
                let router = InterruptRouter::new(&*parts.irqs);
                (router.clone(), Box::new(q35::Q35::new(parts, router)))
            }
            Board::I440fx => {
                let router = InterruptRouter::old_only(&*parts.irqs);
                (router.clone(), Box::new(i440fx::I440fx::new(parts, router)))
            }
        };
        let mut objects = vec![Names::of(board).host];
        for function in hardware.functions() {
            let tenant = Tenant {
                driver: function.driver.to_owned(),
                id: None,
                multifunction: function.multifunction,
            };
            slots.claim(Some(function.devfn), tenant)?;
            pci.plug(Plugged {
                id: format!("/{}", function.driver).into(),
                parent: None,
                devfn: function.devfn,
                function: function.function,
            })?;
            objects.push(function.driver);
        }
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
            driver: Names::of(board).host,
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
            board,
            hardware,
            router,
            shadow,
            objects,
        })
    }

    /// Type names in the order of the object tree.
    pub fn objects(&self) -> &[&'static str] {
        &self.objects
    }

    /// PCI functions with their places.
    pub fn functions(&self) -> Vec<Function> {
        self.hardware.functions()
    }

    /// What its parts are called.
    pub const fn names(&self) -> Names {
        Names::of(self.board)
    }

    /// A new source on the line of a pin (0 for INTA) of a slot on the root bus.
    pub fn intx(&self, slot: u8, pin: u8) -> Arc<dyn IrqLine> {
        self.router.pin(self.board.pirq(slot, pin))
    }

    /// The old interrupt of that pin of a function, for guests without ACPI.
    pub fn isa_irq(&self, at: DevFn, pin: u8) -> u8 {
        self.hardware.isa_irq(at, pin)
    }

    /// Shadow memory as the host bridge has it now; tells the device behind it.
    pub fn shadow_runs(&self) -> Vec<Run> {
        let modes = Modes::from_attributes(self.hardware.attributes());
        lock(&self.shadow).set_modes(modes);
        modes.runs()
    }

    /// Does what firmware does to the chipset.
    pub fn set_up(&self) {
        self.hardware.set_up();
    }

    /// Tells the guest by ACPI that something is in this slot of the bus with such hot-plug. A
    /// chipset that has no such bus is not asked.
    pub fn announce_plug(&self, slot: u8) {
        self.hardware.announce_plug(slot);
    }

    /// Asks the guest by ACPI to let go of what is in this slot; [`Effect::EjectSlots`] answers.
    ///
    /// [`Effect::EjectSlots`]: devices::effect::Effect::EjectSlots
    pub fn request_eject(&self, slot: u8) {
        self.hardware.request_eject(slot);
    }

    /// Raises a general purpose event (ACPI 6.5, section 4.8.4.1).
    pub fn general_event(&self, index: u8) {
        self.hardware.general_event(index);
    }

    /// Presses the power button.
    pub fn power_button(&self) {
        self.hardware.power_button();
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
