//! Why a machine cannot be saved.

use super::super::Machine;

impl Machine {
    /// Why the machine cannot migrate and cannot be saved, for people; none for most.
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
}
