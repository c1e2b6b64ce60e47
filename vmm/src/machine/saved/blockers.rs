//! Why a machine cannot be saved, and what `-only-migratable` refuses.

use api_spec::{QmpError, QmpResult};
use devices::bus::lock;
use devices::registry::Attachable;

use super::super::Machine;
use super::parts::STATELESS;

impl Machine {
    /// Why the machine cannot migrate and cannot be saved, for people; none for most. Network
    /// connections of the host's side (`-netdev user`) do not keep it: they end.
    pub fn migration_blockers(&self) -> Vec<String> {
        let stateless = |part: super::parts::Part| match part.id() {
            Some(_) => None,
            None => Some(super::gather::stateless(&part.instance)),
        };
        let mut blockers = self.processor_blockers();
        blockers.extend(self.parts().into_iter().filter_map(stateless));
        blockers.extend(self.writers.blockers());
        blockers
    }

    /// With `-only-migratable`: refuses a new device of the driver `driver` that would keep the
    /// machine from migrating. `before` are the blockers from before it was made.
    ///
    /// # Errors
    /// In QEMU's words.
    pub(in super::super) fn check_migratable(
        &self,
        driver: &str,
        built: &Attachable,
        before: &[String],
    ) -> QmpResult<()> {
        if !self.spec.only_migratable {
            return Ok(());
        }
        let has_state = match built {
            Attachable::Pci { function, .. } | Attachable::Bus { function, .. } => {
                lock(function).state().is_some()
            }
            Attachable::Isa { device, .. } => {
                STATELESS.contains(&driver) || lock(device).state().is_some()
            }
            Attachable::RootPort(_)
            | Attachable::Plain(_)
            | Attachable::Port
            | Attachable::Unit(_) => true,
        };
        if !has_state {
            return Err(QmpError::generic(format!(
                "Device {driver} is not migratable, but --only-migratable was specified"
            )));
        }
        let now = self.writers.blockers();
        match now.iter().find(|why| !before.contains(why)) {
            Some(why) => Err(QmpError::generic(disallowed(why))),
            None => Ok(()),
        }
    }

    /// The same for what the machine is made of before any device comes.
    ///
    /// # Errors
    /// In QEMU's words.
    pub(in super::super) fn check_processors_migratable(&self) -> Result<(), String> {
        match self.processor_blockers().first() {
            Some(why) if self.spec.only_migratable => Err(disallowed(why)),
            _ => Ok(()),
        }
    }
}

fn disallowed(why: &str) -> String {
    format!("disallowing migration blocker (--only-migratable) for: {why}")
}
