//! Migration: machines that go to another process or into a file, and come from there.

pub mod address;
pub mod never;
pub mod older;
pub mod query;
pub mod settings;
pub mod text;

use std::time::Instant;

use api_spec::{MigrationCapabilityStatus, MigrationInfo, QmpError, QmpResult};

use super::Control;
use crate::cli::migration::{Setting, SettingOrder};
use query::Progress;
use settings::{Activity, Settings};

/// What there is about migration.
#[derive(Debug, Default)]
pub struct Migrate {
    /// What clients want of it.
    pub settings: Settings,
    /// How far it is.
    pub progress: Progress,
}

impl Control {
    /// query-migrate.
    pub(super) fn migration_info(&self) -> MigrationInfo {
        query::info(&self.migrate.progress, Instant::now())
    }

    /// migrate-set-capabilities.
    pub(super) fn set_migration_capabilities(
        &mut self,
        changes: &[MigrationCapabilityStatus],
    ) -> QmpResult<()> {
        let activity = self.migrate.progress.activity();
        self.migrate.settings.set_capabilities(changes, activity)
    }

    /// `-global` for migration.
    ///
    /// # Errors
    /// When the value makes no sense.
    pub fn set_migration(&mut self, order: SettingOrder) -> QmpResult<()> {
        let settings = &mut self.migrate.settings;
        let done = match order.setting {
            Setting::Capability(change) => settings.set_capabilities(&[change], Activity::Idle),
            Setting::Parameter(change) => settings.set_parameters(*change),
        };
        done.map_err(|error| order.global.refuse(&error))
    }
}

/// What comes instead of migrations for now.
pub(super) fn not_ready() -> QmpError {
    QmpError::generic("Migration is not ready")
}
