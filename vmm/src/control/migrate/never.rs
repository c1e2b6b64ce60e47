//! Commands for migrations of kinds that there are none of here: what QEMU answers when there is
//! none.

use api_spec::{ErrorClass, QmpError};

/// migrate-start-postcopy.
pub fn start_postcopy() -> QmpError {
    QmpError::generic("Enable postcopy with migrate_set_capability before the start of migration")
}

/// migrate-pause.
pub fn pause() -> QmpError {
    QmpError::generic(
        "migrate-pause is currently only supported during postcopy-active or postcopy-recover \
         state",
    )
}

/// migrate-recover.
pub fn recover() -> QmpError {
    QmpError::generic("Migrate recover can only be run when postcopy is paused.")
}

/// client_migrate_info.
pub fn client_info(protocol: &str) -> QmpError {
    match protocol {
        "spice" => QmpError::new(ErrorClass::DeviceNotActive, "SPICE is not in use"),
        _ => QmpError::wrong_value("protocol", "'spice'"),
    }
}
