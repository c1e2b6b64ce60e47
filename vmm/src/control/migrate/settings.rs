//! What clients want of migrations: capabilities and parameters, always checked, and what follows
//! from them for whoever sends a machine.

mod capabilities;
mod parameters;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api_spec::{
    AnnounceParameters, MigrateSetParameters, MigrationCapability, MigrationCapabilityStatus,
    MultiFDCompression, QmpError, QmpResult, ZeroPageDetection,
};

use crate::control::nets::default_announcement;
use crate::migration::host::{SendOptions, Tunables};

pub use capabilities::Capabilities;
pub use parameters::Parameters;

/// More channels than this are of no use to one machine.
const MOST_CHANNELS: u8 = 16;

/// Whether a migration is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// None is.
    Idle,
    /// This machine is being sent: its capabilities are settled.
    Sending,
    /// A machine is awaited, or comes.
    Receiving,
}

/// Capabilities and parameters.
#[derive(Debug)]
pub struct Settings {
    capabilities: Capabilities,
    parameters: Parameters,
    tunables: Arc<Tunables>,
}

impl Default for Settings {
    fn default() -> Self {
        let settings = Settings {
            capabilities: Capabilities::default(),
            parameters: Parameters::default(),
            tunables: Arc::default(),
        };
        settings.tune();
        settings
    }
}

impl Settings {
    /// Which capabilities are on.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Whether one capability is on.
    pub fn has(&self, capability: MigrationCapability) -> bool {
        self.capabilities.has(capability)
    }

    /// migrate-set-capabilities: all of them or none.
    ///
    /// # Errors
    /// While the machine is being sent; when one is to be switched on that does not work here, or
    /// too late.
    pub fn set_capabilities(
        &mut self,
        changes: &[MigrationCapabilityStatus],
        activity: Activity,
    ) -> QmpResult<()> {
        if activity == Activity::Sending {
            let text = "There's a migration process in progress";
            return Err(QmpError::generic(text));
        }
        let new = self.capabilities.with(changes)?;
        let multifd = MigrationCapability::Multifd;
        let late = new.has(multifd) && !self.has(multifd);
        if activity == Activity::Receiving && late {
            let text = "Multifd must be set before incoming starts";
            return Err(QmpError::generic(text));
        }
        self.capabilities = new;
        Ok(())
    }

    /// migrate-set-parameters: all of them or none. Those that a migration under way looks at act
    /// at once.
    ///
    /// # Errors
    /// When one is out of bounds, does not work here, or contradicts a capability.
    pub fn set_parameters(&mut self, changes: MigrateSetParameters) -> QmpResult<()> {
        let new = self.parameters.with(changes)?;
        check_together(&self.capabilities, &new)?;
        self.parameters = new;
        self.tune();
        Ok(())
    }

    /// How a machine is to be sent that begins now.
    ///
    /// # Errors
    /// When capabilities and parameters contradict each other.
    pub fn send_options(&self) -> QmpResult<SendOptions> {
        use MigrationCapability as C;
        check_together(&self.capabilities, &self.parameters)?;
        let zstd = self.parameters.multifd_compression == MultiFDCompression::Zstd;
        let multifd = self.has(C::Multifd);
        let mapped_ram = self.has(C::MappedRam);
        let channels = self.parameters.multifd_channels;
        if multifd && channels > MOST_CHANNELS {
            // QEMU has clients that ask for more, and they are no worse off.
            log::warn!("multifd-channels is {channels}: {MOST_CHANNELS} of them are used");
        }
        Ok(SendOptions {
            multifd: multifd.then_some(channels.min(MOST_CHANNELS)),
            zstd: (multifd && zstd).then_some(self.parameters.multifd_zstd_level.into()),
            mapped_ram,
            ignore_shared: self.has(C::XIgnoreShared),
            auto_converge: self.has(C::AutoConverge),
            zeroes_unseen: self.parameters.zero_page_detection == ZeroPageDetection::None,
            direct_io: mapped_ram && self.parameters.direct_io,
        })
    }

    /// What a migration under way looks at; kept up to date.
    pub fn tunables(&self) -> Arc<Tunables> {
        self.tunables.clone()
    }

    /// How interfaces are announced once the machine runs in another place.
    pub fn announcement(&self) -> AnnounceParameters {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        AnnounceParameters {
            initial: number(self.parameters.announce_initial),
            max: number(self.parameters.announce_max),
            rounds: number(self.parameters.announce_rounds),
            step: number(self.parameters.announce_step),
            ..default_announcement()
        }
    }

    fn tune(&self) {
        let (from, to) = (&self.parameters, &self.tunables);
        to.max_bandwidth
            .store(from.max_bandwidth, Ordering::Relaxed);
        to.downtime_limit
            .store(from.downtime_limit, Ordering::Relaxed);
        to.switchover_bandwidth
            .store(from.avail_switchover_bandwidth, Ordering::Relaxed);
        to.throttle_tailslow
            .store(from.cpu_throttle_tailslow, Ordering::Relaxed);
        let percents = [
            (&to.throttle_trigger, from.throttle_trigger_threshold),
            (&to.throttle_initial, from.cpu_throttle_initial),
            (&to.throttle_increment, from.cpu_throttle_increment),
            (&to.throttle_max, from.max_cpu_throttle),
        ];
        for (place, percent) in percents {
            place.store(percent.into(), Ordering::Relaxed);
        }
    }
}

/// Each page has its place in the file, so it must have its length.
fn check_together(capabilities: &Capabilities, parameters: &Parameters) -> QmpResult<()> {
    let compressed = parameters.multifd_compression != MultiFDCompression::None;
    if capabilities.has(MigrationCapability::MappedRam) && compressed {
        return Err(QmpError::generic(
            "Mapped-ram only available for non-compressed non-TLS multifd migration",
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "settings_test.rs"]
mod tests;
