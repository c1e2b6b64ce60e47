//! State put into a machine that was made for it.

use std::collections::BTreeMap;

use vmstate::{Section, StateAccess};

use super::super::Machine;
use super::gather::MACHINE;
use super::own::Own;

/// Sections that nobody has taken yet, by kind and instance.
struct Sections(BTreeMap<(String, String), Section>);

impl Sections {
    fn new(sections: Vec<Section>) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for section in sections {
            let key = (section.id.clone(), section.instance.clone());
            if let Some(twice) = all.insert(key, section) {
                return Err(format!("{} is there twice", name(&twice)));
            }
        }
        Ok(Sections(all))
    }

    /// The section of that kind and instance.
    fn take(&mut self, id: &str, instance: &str) -> Result<Section, String> {
        let section = self.0.remove(&(id.to_owned(), instance.to_owned()));
        section.ok_or_else(|| format!("Section '{id}' of {instance} is missing"))
    }

    /// Everything has been fed: nothing may be left.
    fn done(self) -> Result<(), String> {
        match self.0.into_values().next() {
            Some(left) => Err(format!("{}: there is no such thing here", name(&left))),
            None => Ok(()),
        }
    }
}

fn name(section: &Section) -> String {
    format!("Section '{}' of {}", section.id, section.instance)
}

impl Machine {
    /// Puts the state of another machine, or an older one of this one, in. RAM is complete, the
    /// machine is quiet; it goes on from there when it is resumed.
    ///
    /// # Errors
    /// With the section and the field that does not fit, for sections that are missing, and for
    /// those that nobody takes. The machine is of no use then, except to be reset or restored
    /// again.
    pub fn restore(&mut self, sections: Vec<Section>) -> Result<(), String> {
        let mut sections = Sections::new(sections)?;
        self.reset_devices().map_err(|error| format!("{error:#}"))?;
        let own = sections.take(<Own<'_> as vmstate::Snapshot>::ID, MACHINE)?;
        let restored = Own(self).restore_section(&own);
        restored.map_err(|error| error.to_string())?;
        self.restore_clock(&mut |id, instance| sections.take(id, instance))?;
        for part in self.parts() {
            let id = part
                .id()
                .ok_or_else(|| super::gather::stateless(&part.instance))?;
            let section = sections.take(id, &part.instance)?;
            let restored = part.restore(&section);
            restored.map_err(|error| format!("Device {}: {error}", part.instance))?;
        }
        // Devices have driven their lines: what the controllers made of that, and what was on
        // its way to the processors, is overwritten with what it was.
        self.restore_processors(&mut |id, instance| sections.take(id, instance))?;
        sections.done()?;
        self.parts().iter().for_each(super::parts::Part::settle);
        self.remap();
        Ok(())
    }
}
