//! Everything in the machine that has a state, with the name that its section goes by.

use std::sync::Arc;

use api_spec::DeviceDriver;
use devices::bus::{SharedDevice, lock};
use devices::model::{Generation, GenerationState};
use devices::pci::SharedFunction;
use vmstate::{Section, Snapshot, StateAccess, StateError};

use super::super::plug::{Branch, Device};
use super::super::{Fixed, Machine};

/// Drivers whose devices keep nothing that a guest could notice: all they have is how they were
/// configured.
pub(super) const STATELESS: [&str; 4] = [
    "pvpanic",
    "isa-debug-exit",
    // Shadow memory: RAM, and modes that the host bridge's registers give.
    "q35-pcihost",
    "i440FX-pcihost",
];

/// One thing with a state.
pub struct Part {
    /// Its section's instance.
    pub instance: String,
    kind: Kind,
}

enum Kind {
    Device(SharedDevice),
    Function(SharedFunction),
    Generation(Arc<Generation>),
}

impl Part {
    /// The kind of its section; `None` where it has no state.
    pub fn id(&self) -> Option<&'static str> {
        let id = |state: Option<&mut dyn StateAccess>| state.map(|state| state.section_id());
        match &self.kind {
            Kind::Device(device) => id(lock(device).state()),
            Kind::Function(function) => id(lock(function).state()),
            Kind::Generation(_) => Some(GenerationState::ID),
        }
    }

    /// Its state; `None` where there is none to be saved.
    pub fn save(&self) -> Option<Result<Section, StateError>> {
        let save = |state: Option<&mut dyn StateAccess>| {
            state.map(|state| state.save_section(&self.instance))
        };
        match &self.kind {
            Kind::Device(device) => save(lock(device).state()),
            Kind::Function(function) => save(lock(function).state()),
            Kind::Generation(generation) => save(Some(&mut GenerationState(generation.clone()))),
        }
    }

    /// All of the machine was restored.
    pub fn settle(&self) {
        match &self.kind {
            Kind::Device(device) => lock(device).settle(),
            Kind::Function(_) | Kind::Generation(_) => {}
        }
    }

    /// Puts its state in; nothing where it has none.
    ///
    /// # Errors
    /// What does not fit.
    pub fn restore(&self, section: &Section) -> Result<(), StateError> {
        let restore = |state: Option<&mut dyn StateAccess>| {
            state.map_or(Ok(()), |state| state.restore_section(section))
        };
        match &self.kind {
            Kind::Device(device) => restore(lock(device).state()),
            Kind::Function(function) => restore(lock(function).state()),
            Kind::Generation(generation) => restore(Some(&mut GenerationState(generation.clone()))),
        }
    }
}

impl Machine {
    /// Everything with a state, in the order in which it is restored: the chipset first, whose
    /// registers lead interrupts, and bridges before what is behind them.
    pub(super) fn parts(&self) -> Vec<Part> {
        let functions = self.pci.functions().iter().map(|plugged| Part {
            instance: self.instance_of(&plugged.id),
            kind: Kind::Function(plugged.function.clone()),
        });
        let stateful = |fixed: &&Fixed| !STATELESS.contains(&fixed.driver);
        let fixed = self.fixed.iter().filter(stateful).map(|fixed| Part {
            instance: self.instance_of(&fixed.key),
            kind: Kind::Device(fixed.device.clone()),
        });
        let generations = self.devices.iter().filter_map(|device| {
            let generation = device.face.generation()?.clone();
            Some(Part {
                instance: device.instance(),
                kind: Kind::Generation(generation),
            })
        });
        functions.chain(fixed).chain(generations).collect()
    }

    /// The instance of what has that key in address map or topology.
    pub(super) fn instance_of(&self, key: &str) -> String {
        let device = self.devices.iter().find(|device| *device.key == *key);
        match device {
            Some(device) => device.instance(),
            // Keys of the chipset's parts begin with a slash.
            None => format!("/machine/chipset{key}"),
        }
    }
}

impl Device {
    /// What its section goes by. Numbers of devices without an id follow from the order in which
    /// they came, which is another one where some have gone; their places do not.
    pub(super) fn instance(&self) -> String {
        match self.branch {
            Branch::Peripheral => self.branch.path(&self.key),
            Branch::Anonymous(_) | Branch::Unattached(_) => {
                format!("/machine/anonymous/{}", self.place())
            }
        }
    }

    /// Bus and place on it.
    pub(super) fn place(&self) -> String {
        let bus = &self.bus;
        if let Some(devfn) = self.devfn {
            return format!("{bus}/{:02x}.{:x}", devfn.slot(), devfn.function());
        }
        if let Some(nr) = self.nr {
            return format!("{bus}/{nr}");
        }
        if let Some(unit) = self.face.unit() {
            let place = unit.place();
            return format!("{bus}/{}:{}", place.target, place.lun);
        }
        match &self.options.driver {
            DeviceDriver::Pvpanic(props) => format!("{bus}/{:#x}", props.ioport),
            DeviceDriver::IsaDebugExit(props) => format!("{bus}/{:#x}", props.iobase),
            driver => match self.serial {
                Some(serial) => format!("{bus}/{:#x}", serial.port),
                None => format!("{bus}/{}", driver.name()),
            },
        }
    }
}
