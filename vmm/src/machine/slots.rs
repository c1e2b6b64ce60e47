//! Which function sits where on a PCI bus; the wording of refusals is QEMU's.

use std::collections::BTreeMap;

use devices::pci::DevFn;
use thiserror::Error;

/// Why a device gets no place.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    /// Somebody sits there.
    #[error(
        "PCI: slot {} function {} not available for {driver}, in use by {owner},id={owner_id}",
        at.slot(), at.function()
    )]
    InUse {
        /// The place.
        at: DevFn,
        /// Who wants it.
        driver: String,
        /// The driver that has it.
        owner: String,
        /// Its id, `(null)` when it has none.
        owner_id: String,
    },
    /// Behind a port there is slot 0 only.
    #[error(
        "PCI: slot {} is not valid for {driver}, parent device only allows plugging into slot 0.",
        at.slot()
    )]
    OnlySlotZero {
        /// The place.
        at: DevFn,
        /// Who wants it.
        driver: String,
    },
    /// Function 0 says that there are no others.
    #[error(
        "PCI: single function device can't be populated in function {:x}.{:x}",
        at.slot(), at.function()
    )]
    SingleFunction {
        /// The place.
        at: DevFn,
    },
    /// Function 0 would say that there are no others, and there is one.
    #[error(
        "PCI: {:x}.0 indicates single function, but {:x}.{:x} is already populated.",
        other.slot(), other.slot(), other.function()
    )]
    OthersThere {
        /// Where one sits.
        other: DevFn,
    },
    /// Guests look for more functions only when function 0 comes.
    #[error(
        "PCI: slot {} function 0 already occupied by {owner}, new func {driver} cannot be exposed \
         to guest.",
        at.slot()
    )]
    Hidden {
        /// The place.
        at: DevFn,
        /// Who wants it.
        driver: String,
        /// The driver that has function 0.
        owner: String,
    },
    /// No slot is free.
    #[error("PCI: no slot/function available for {driver}, all in use or reserved")]
    Full {
        /// Who wants one.
        driver: String,
    },
}

/// Who sits in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its driver.
    pub driver: String,
    /// Its id, if the user gave one.
    pub id: Option<String>,
    /// Whether it says that its slot has more functions.
    pub multifunction: bool,
}

/// The slots of one bus.
#[derive(Debug, Default)]
pub struct SlotMap {
    taken: BTreeMap<DevFn, Tenant>,
    /// Behind a PCI Express port there is one slot.
    behind_port: bool,
}

impl SlotMap {
    /// A root bus: 32 slots.
    pub fn root() -> Self {
        SlotMap::default()
    }

    /// The bus behind a PCI Express port: slot 0 alone.
    pub fn behind_port() -> Self {
        SlotMap {
            behind_port: true,
            ..SlotMap::default()
        }
    }

    /// The same, while the guest may look: function 0 has to come last.
    ///
    /// # Errors
    /// When the place is taken or not there, or the guest would not look there.
    pub fn claim_hot(&mut self, at: Option<DevFn>, tenant: Tenant) -> Result<DevFn, SlotError> {
        let slot = match at {
            Some(at) => at.slot(),
            None if self.behind_port => 0,
            None => return self.claim(at, tenant),
        };
        let first = DevFn::new(slot, 0);
        if let Some(owner) = self.taken.get(&first).filter(|_| at != Some(first)) {
            return Err(SlotError::Hidden {
                at: first,
                driver: tenant.driver,
                owner: owner.driver.clone(),
            });
        }
        self.claim(at, tenant)
    }

    /// Gives `tenant` the place it asks for, or the first free slot.
    ///
    /// # Errors
    /// When the place is taken or not there.
    pub fn claim(&mut self, at: Option<DevFn>, tenant: Tenant) -> Result<DevFn, SlotError> {
        let at = match at {
            Some(at) => at,
            None => self.first_free(&tenant)?,
        };
        if self.behind_port && at.slot() != 0 {
            return Err(SlotError::OnlySlotZero {
                at,
                driver: tenant.driver,
            });
        }
        if let Some(owner) = self.taken.get(&at) {
            return Err(SlotError::InUse {
                at,
                driver: tenant.driver,
                owner: owner.driver.clone(),
                owner_id: owner.id.clone().unwrap_or_else(|| "(null)".into()),
            });
        }
        self.check_functions(at, &tenant)?;
        self.taken.insert(at, tenant);
        Ok(at)
    }

    /// Guests look at functions 1 to 7 only where function 0 tells of them (PCI Local Bus 3.0,
    /// section 6.2.1).
    fn check_functions(&self, at: DevFn, tenant: &Tenant) -> Result<(), SlotError> {
        let first = DevFn::new(at.slot(), 0);
        if at != first {
            return match self.taken.get(&first) {
                Some(first) if !first.multifunction => Err(SlotError::SingleFunction { at }),
                _ => Ok(()),
            };
        }
        let other = (1..8)
            .map(|function| DevFn::new(at.slot(), function))
            .find(|other| self.taken.contains_key(other));
        match other {
            Some(other) if !tenant.multifunction => Err(SlotError::OthersThere { other }),
            _ => Ok(()),
        }
    }

    /// Frees a place.
    pub fn release(&mut self, at: DevFn) {
        self.taken.remove(&at);
    }

    fn first_free(&self, tenant: &Tenant) -> Result<DevFn, SlotError> {
        let slots = if self.behind_port { 0..1 } else { 0..32 };
        slots
            .map(|slot| DevFn::new(slot, 0))
            .find(|at| !self.taken.contains_key(at))
            .ok_or_else(|| SlotError::Full {
                driver: tenant.driver.clone(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(driver: &str, id: Option<&str>) -> Tenant {
        Tenant {
            driver: driver.into(),
            id: id.map(Into::into),
            multifunction: false,
        }
    }

    #[test]
    fn functions_are_told_of_by_the_first() {
        let mut slots = SlotMap::root();
        let many = || Tenant {
            multifunction: true,
            ..tenant("m", None)
        };
        let at = |slot, function| Some(DevFn::new(slot, function));
        slots.claim(at(2, 0), tenant("a", None)).unwrap();
        let error = slots.claim(at(2, 1), tenant("b", None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PCI: single function device can't be populated in function 2.1"
        );
        slots.claim(at(3, 0), many()).unwrap();
        slots.claim(at(3, 1), tenant("b", None)).unwrap();
        // In the other order.
        slots.claim(at(0x1e, 7), tenant("b", None)).unwrap();
        let error = slots.claim(at(0x1e, 0), tenant("a", None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PCI: 1e.0 indicates single function, but 1e.7 is already populated."
        );
        slots.claim(at(0x1e, 0), many()).unwrap();
    }

    #[test]
    fn slots_are_given_once() {
        let mut slots = SlotMap::root();
        slots
            .claim(Some(DevFn::new(0, 0)), tenant("mch", None))
            .unwrap();
        slots
            .claim(Some(DevFn::new(4, 0)), tenant("a", Some("x")))
            .unwrap();
        assert_eq!(slots.claim(None, tenant("b", None)), Ok(DevFn::new(1, 0)));
        let error = slots
            .claim(Some(DevFn::new(4, 0)), tenant("c", None))
            .unwrap_err();
        let text = "PCI: slot 4 function 0 not available for c, in use by a,id=x";
        assert_eq!(error.to_string(), text);
        slots.release(DevFn::new(4, 0));
        slots
            .claim(Some(DevFn::new(4, 0)), tenant("c", None))
            .unwrap();
        for _ in 0..29 {
            slots.claim(None, tenant("d", None)).unwrap();
        }
        let error = slots
            .claim(None, tenant("e", None))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "PCI: no slot/function available for e, all in use or reserved"
        );
    }

    #[test]
    fn the_first_function_comes_last() {
        let mut slots = SlotMap::behind_port();
        let many = || Tenant {
            multifunction: true,
            ..tenant("m", None)
        };
        let at = |function| Some(DevFn::new(0, function));
        slots.claim_hot(at(1), tenant("a", None)).unwrap();
        slots.claim_hot(at(0), many()).unwrap();
        let hidden = |owner: &str| {
            format!(
                "PCI: slot 0 function 0 already occupied by {owner}, new func b cannot be exposed \
                 to guest."
            )
        };
        for place in [at(2), None] {
            let error = slots.claim_hot(place, tenant("b", None)).unwrap_err();
            assert_eq!(error.to_string(), hidden("m"));
        }
        let error = slots.claim_hot(at(0), tenant("b", None)).unwrap_err();
        let taken = "PCI: slot 0 function 0 not available for b, in use by m,id=(null)";
        assert_eq!(error.to_string(), taken);
        let mut root = SlotMap::root();
        assert_eq!(root.claim_hot(None, tenant("a", None)).unwrap().slot(), 0);
        assert_eq!(root.claim_hot(None, tenant("a", None)).unwrap().slot(), 1);
    }

    #[test]
    fn a_port_has_one_slot() {
        let mut slots = SlotMap::behind_port();
        let refused = slots
            .claim(Some(DevFn::new(1, 0)), tenant("a", None))
            .unwrap_err();
        let text =
            "PCI: slot 1 is not valid for a, parent device only allows plugging into slot 0.";
        assert_eq!(refused.to_string(), text);
        slots.claim(None, tenant("a", None)).unwrap();
        assert!(slots.claim(None, tenant("a", None)).is_err());
    }
}
