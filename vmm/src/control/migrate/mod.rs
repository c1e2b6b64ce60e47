//! Migration: machines that go to another process or into a file, and come from there.
//!
//! ```text
//! migrate ---> Address ---> Route ---> migration thread: Link, Source --- SourceHost ---+
//!                                                                                      v
//! events, query-migrate <--- Outgoing (a pure state machine) <------------------- control: Life
//!                                                                                      ^
//! migrate-incoming ---> Address ---> Door ---> migration thread: Link, Target - TargetHost
//! ```
//! The threads ask control by mail and wait; control never waits for them but at the very end.

pub mod address;
mod ask;
mod disks;
mod listen;
pub mod never;
pub mod older;
mod program;
pub mod query;
pub mod settings;
mod source;
mod state;
mod target;
pub mod text;
mod transport;
mod wait;

use std::collections::VecDeque;
use std::time::Instant;

use api_spec::{MigrationCapabilityStatus, MigrationInfo, QmpError, QmpResult, RunState};

use super::Control;
use super::life::Life;
use crate::cli::migration::{Setting, SettingOrder};
use crate::migration::host::Cancel;
use crate::process::errno;
use query::Progress;
use settings::{Activity, Settings};
use source::Sending;
use state::Action;
use target::Receiving;

/// What there is about migration.
#[derive(Default)]
pub struct Migrate {
    /// What clients want of it.
    pub settings: Settings,
    /// How far it is.
    pub progress: Progress,
    sending: Option<Sending>,
    receiving: Receiving,
    /// What the machine did that comes, once its state is here.
    arriving: Option<RunState>,
    /// A machine has come and has not run yet.
    to_announce: bool,
    /// Why the machine that is on its way cannot go any more.
    spoiled: Option<String>,
    /// What the state machine said and what is not done yet.
    actions: VecDeque<Action>,
    /// An action is under way on another thread; the next ones wait for it.
    busy: bool,
    /// Numbers migrations.
    next: u64,
    /// The program ends. Made for the first migration.
    gone: Option<Cancel>,
}

impl Migrate {
    fn next_number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn gone(&mut self) -> QmpResult<Cancel> {
        if let Some(gone) = &self.gone {
            return Ok(gone.clone());
        }
        let gone = Cancel::new().map_err(|error| {
            QmpError::generic(format!("Cannot begin a migration: {}", errno(&error)))
        })?;
        self.gone = Some(gone.clone());
        Ok(gone)
    }

    /// Ends what is under way, and waits for it.
    pub(super) fn shut_down(&mut self) {
        if let Some(gone) = &self.gone {
            gone.cancel();
        }
        if let Some(sending) = &mut self.sending {
            sending.shut_down();
        }
        self.receiving.shut_down();
    }
}

impl Control {
    /// query-migrate.
    pub(super) fn migration_info(&self) -> MigrationInfo {
        let mut progress = self.migrate.progress.clone();
        if let Some(machine) = &self.machine {
            progress.blockers = machine.migration_blockers();
        }
        query::info(&progress, Instant::now())
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

    /// `-incoming`: the machine gets its state from elsewhere. To be called before disks are
    /// opened.
    pub fn expect_machine(&mut self) {
        let policy = *self.life.policy_mut();
        // `-S` is told by whether the machine is started.
        self.life = Life::incoming(policy, false);
        self.published.set_status(self.life.state());
        self.blockdevs.set_incoming();
    }

    /// Refuses what would change what the machine is made of, while it is on its way.
    ///
    /// # Errors
    /// In QEMU's words, with the command.
    pub(super) fn check_not_migrating(&self, command: &str) -> QmpResult<()> {
        match self.is_migrating() {
            true => Err(QmpError::generic(format!(
                "{command} not allowed while migrating"
            ))),
            false => Ok(()),
        }
    }
}
