//! `vmgenid`: a number that changes when the guest begins a second life (a copy, an older state),
//! so that it draws new random numbers (Microsoft, "Virtual Machine Generation ID"). It has no
//! registers: the machine puts the number into memory and tells of it in its ACPI tables.

use std::sync::{Arc, Mutex};

use api_spec::{QmpError, QmpResult, VmgenidProps};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vmstate::{Snapshot, StateError};

use crate::bus::lock;

/// The number.
pub struct Generation {
    /// Protects the number alone; a leaf.
    id: Mutex<Uuid>,
}

impl Generation {
    /// From the properties: a UUID, or `auto` for a random one.
    ///
    /// # Errors
    /// QEMU's words for what is neither.
    pub fn build(props: &VmgenidProps) -> QmpResult<Arc<Self>> {
        let id = match props.guid.as_str() {
            "auto" => Uuid::new_v4(),
            text => Uuid::try_parse(text)
                .ok()
                .filter(|_| text.len() == 36)
                .ok_or_else(|| {
                    QmpError::generic(format!(
                        "Property 'vmgenid.guid' doesn't take value '{text}'"
                    ))
                })?,
        };
        Ok(Arc::new(Generation { id: Mutex::new(id) }))
    }

    /// The number now.
    pub fn id(&self) -> Uuid {
        *lock(&self.id)
    }

    /// Begins another life, with this number.
    pub fn set(&self, id: Uuid) {
        *lock(&self.id) = id;
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// The number, which is in the guest's memory as well: a machine that moved is the same one
    /// still, whatever number the one in which it arrived was given.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct VmgenidV1 {
        /// In its usual form.
        pub guid: String,
    }
}

/// The number as a thing with a state.
pub struct GenerationState(pub Arc<Generation>);

impl Snapshot for GenerationState {
    type State = state::VmgenidV1;
    const ID: &'static str = "vmgenid";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        state::VmgenidV1 {
            guid: self.0.id().to_string(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::VmgenidV1 { guid } = state;
        let id = Uuid::try_parse(&guid).map_err(|_| StateError::Body {
            id: Self::ID.into(),
            reason: format!("guid: '{guid}'"),
        })?;
        self.0.set(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_or_random() {
        let build = |guid: &str| Generation::build(&VmgenidProps { guid: guid.into() });
        let text = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87";
        let given = build(text).unwrap();
        assert_eq!(given.id().to_string(), text);
        let (one, other) = (build("auto").unwrap().id(), build("auto").unwrap().id());
        assert_ne!(one, other);
        given.set(one);
        assert_eq!(given.id(), one);
        for bad in ["", "xx", "324e6eafd1d14bf6bf41b9bb6c91fb87"] {
            let refused = build(bad).err().expect("no UUID").desc;
            let expected = format!("Property 'vmgenid.guid' doesn't take value '{bad}'");
            assert_eq!(refused, expected);
        }
    }
}
