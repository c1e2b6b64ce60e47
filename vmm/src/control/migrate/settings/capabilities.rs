//! Which capabilities are on. All of QEMU's names are known, since clients switch off what they
//! do not want; those that do not work here cannot be switched on.

use std::collections::BTreeSet;

use api_spec::{MigrationCapability, MigrationCapabilityStatus, QmpError, QmpResult};

/// A set of capabilities that work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<MigrationCapability>);

impl Capabilities {
    /// Whether one is on.
    pub fn has(&self, capability: MigrationCapability) -> bool {
        self.0.contains(&capability)
    }

    /// These with changes, in the order of the list.
    ///
    /// # Errors
    /// When one is to be switched on that does not work here.
    pub fn with(&self, changes: &[MigrationCapabilityStatus]) -> QmpResult<Self> {
        let mut new = self.clone();
        for change in changes {
            if !change.state {
                new.0.remove(&change.capability);
            } else if works(change.capability) {
                new.0.insert(change.capability);
            } else {
                return Err(refusal(change.capability));
            }
        }
        Ok(new)
    }

    /// query-migrate-capabilities.
    pub fn list(&self) -> Vec<MigrationCapabilityStatus> {
        let status = |&capability: &MigrationCapability| MigrationCapabilityStatus {
            capability,
            state: self.has(capability),
        };
        MigrationCapability::ALL.iter().map(status).collect()
    }
}

/// Whether it can be switched on.
const fn works(capability: MigrationCapability) -> bool {
    use MigrationCapability as C;
    match capability {
        C::Events
        | C::ReturnPath
        | C::AutoConverge
        | C::Multifd
        | C::PauseBeforeSwitchover
        | C::MappedRam
        | C::XIgnoreShared
        | C::LateBlockActivate => true,
        C::Xbzrle
        | C::RdmaPinAll
        | C::ZeroBlocks
        | C::PostcopyRam
        | C::XColo
        | C::ReleaseRam
        | C::DirtyBitmaps
        | C::PostcopyBlocktime
        | C::ValidateUuid
        | C::BackgroundSnapshot
        | C::ZeroCopySend
        | C::PostcopyPreempt
        | C::SwitchoverAck
        | C::DirtyLimit => false,
    }
}

fn refusal(capability: MigrationCapability) -> QmpError {
    let name = capability.name();
    QmpError::generic(format!("Migration capability '{name}' is not supported"))
}
