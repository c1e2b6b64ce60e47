//! The commands that QEMU had before migrate-set-parameters.

use api_spec::decode::Size;
use api_spec::{MigrateSetParameters, QmpError, QmpResult};

/// migrate_set_speed: bytes in a second; below 0 is 0.
pub fn speed(value: i64) -> MigrateSetParameters {
    MigrateSetParameters {
        max_bandwidth: Some(Size(u64::try_from(value).unwrap_or(0))),
        ..MigrateSetParameters::default()
    }
}

/// migrate_set_downtime: seconds.
///
/// # Errors
/// When it is no time, or longer than any downtime may be.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within bounds
pub fn downtime(seconds: f64) -> QmpResult<MigrateSetParameters> {
    if !(0.0..=2000.0).contains(&seconds) {
        let range = "a number in the range of 0 to 2000 seconds";
        return Err(QmpError::wrong_value("value", range));
    }
    Ok(MigrateSetParameters {
        downtime_limit: Some((seconds * 1000.0).round() as u64),
        ..MigrateSetParameters::default()
    })
}

/// migrate-set-cache-size: bytes.
pub fn cache_size(value: i64) -> MigrateSetParameters {
    MigrateSetParameters {
        xbzrle_cache_size: Some(Size(u64::try_from(value).unwrap_or(0))),
        ..MigrateSetParameters::default()
    }
}
