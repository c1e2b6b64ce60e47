//! Saved state of the transport, with the device's own section inside.

use serde::{Deserialize, Serialize};
use vmstate::{Section, Snapshot, StateError};

use super::common::{CommonConfig, QueueSetup, status};
use super::signals::NO_VECTOR;
use super::transport::VirtioPci;
use crate::pci::{ConfigSpaceV1, MsixV1};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A queue between two runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueV1 {
    /// Entries.
    pub size: u16,
    /// MSI-X vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<u16>,
    /// Set up by the driver.
    #[serde(skip_serializing_if = "is_default")]
    pub enabled: bool,
    /// Descriptor table.
    #[serde(skip_serializing_if = "is_default")]
    pub desc: u64,
    /// Available ring.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: u64,
    /// Used ring.
    #[serde(skip_serializing_if = "is_default")]
    pub device: u64,
    /// Next available entry to take.
    #[serde(skip_serializing_if = "is_default")]
    pub next_avail: u16,
    /// Next used entry to fill.
    #[serde(skip_serializing_if = "is_default")]
    pub next_used: u16,
    /// Heads of chains that were taken and are to be taken again before others.
    #[serde(skip_serializing_if = "is_default")]
    pub again: Vec<u16>,
}

/// The function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtioPciV1 {
    /// Configuration space.
    pub config: ConfigSpaceV1,
    /// Vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msix: Option<MsixV1>,
    /// Features offered, for people who look why a state is refused.
    pub offered: u64,
    /// Features agreed on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub accepted: u64,
    /// Device status.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: u8,
    /// ISR status.
    #[serde(default, skip_serializing_if = "is_default")]
    pub isr: u8,
    /// Configuration generation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u8,
    /// Vector for configuration changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_vector: Option<u16>,
    /// Feature and queue selectors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub selectors: (u32, u32, u16),
    /// Queues, in order.
    pub queues: Vec<QueueV1>,
    /// The device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Section>,
}

fn save_vector(vector: u16) -> Option<u16> {
    (vector != NO_VECTOR).then_some(vector)
}

fn save_queue(queue: &QueueSetup) -> QueueV1 {
    let QueueSetup {
        max_size: _,
        size,
        vector,
        enabled,
        desc,
        driver,
        device,
        next_avail,
        next_used,
        again,
        kick: _,
    } = queue;
    QueueV1 {
        size: *size,
        vector: save_vector(vector.number()),
        enabled: *enabled,
        desc: *desc,
        driver: *driver,
        device: *device,
        next_avail: *next_avail,
        next_used: *next_used,
        again: again.clone(),
    }
}

fn restore_queue(queue: &mut QueueSetup, state: QueueV1) -> Result<(), String> {
    let QueueV1 {
        size,
        vector: _,
        enabled,
        desc,
        driver,
        device,
        next_avail,
        next_used,
        again,
    } = state;
    if !size.is_power_of_two() || size > queue.max_size {
        return Err(format!("size is {size}, at most {}", queue.max_size));
    }
    if let Some(head) = again.iter().find(|head| **head >= size) {
        return Err(format!("head {head} is outside the descriptor table"));
    }
    if again.len() > usize::from(size) {
        return Err(format!("{} heads are kept of {size}", again.len()));
    }
    *queue = QueueSetup {
        max_size: queue.max_size,
        size,
        vector: queue.vector.clone(),
        enabled,
        desc,
        driver,
        device,
        next_avail,
        next_used,
        again,
        kick: None,
    };
    Ok(())
}

impl Snapshot for VirtioPci {
    type State = VirtioPciV1;
    const ID: &'static str = "virtio-pci";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let CommonConfig {
            offered,
            accepted,
            status: _,
            queues,
            device_feature_select,
            driver_feature_select,
            queue_select,
            ..
        } = &self.common;
        VirtioPciV1 {
            config: self.config.save(),
            msix: self.msix.as_ref().map(Snapshot::save),
            offered: *offered,
            accepted: *accepted,
            status: self.common.shown_status(),
            isr: self.signals.isr(),
            generation: self.signals.generation(),
            config_vector: save_vector(self.signals.config_vector()),
            selectors: (
                *device_feature_select,
                *driver_feature_select,
                *queue_select,
            ),
            queues: queues.iter().map(save_queue).collect(),
            device: self.save_device(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let VirtioPciV1 {
            config,
            msix,
            offered: _,
            accepted,
            status: shown_status,
            isr,
            generation,
            config_vector,
            selectors,
            queues,
            device,
        } = state;
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        // What a driver asks for and does not get is refused by FEATURES_OK only.
        let missing = accepted & !self.common.offered;
        if missing != 0 && shown_status & status::FEATURES_OK != 0 {
            let allowed = self.common.offered;
            return Err(refuse(format!(
                "Features {accepted:#x} unsupported. Allowed features: {allowed:#x}"
            )));
        }
        if queues.len() != self.common.queues.len() {
            let lengths = (queues.len(), self.common.queues.len());
            return Err(refuse(format!("queues: {} of {}", lengths.0, lengths.1)));
        }
        self.config.restore(config)?;
        match (&mut self.msix, msix) {
            (Some(msix), Some(state)) => msix.restore(state)?,
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(refuse("msix".into())),
        }
        self.common.reset();
        for (index, (queue, state)) in self.common.queues.iter_mut().zip(queues).enumerate() {
            let vector = self
                .signals
                .existing_vector(state.vector.unwrap_or(NO_VECTOR));
            restore_queue(queue, state)
                .map_err(|reason| refuse(format!("queues.{index}: {reason}")))?;
            self.signals.move_queue(&queue.vector, vector);
        }
        let common = &mut self.common;
        common.accepted = accepted;
        common.status = shown_status & !status::NEEDS_RESET;
        (
            common.device_feature_select,
            common.driver_feature_select,
            common.queue_select,
        ) = selectors;
        let live = common.is_live();
        let vector = self
            .signals
            .existing_vector(config_vector.unwrap_or(NO_VECTOR));
        self.signals.set_config_vector(vector);
        self.signals.set_generation(generation);
        self.signals
            .set_broken(shown_status & status::NEEDS_RESET != 0);
        self.signals.set_driver_ok(live);
        self.after_restore();
        self.signals.set_isr(isr);
        self.restore_device(device)
    }
}

impl VirtioPci {
    fn save_device(&self) -> Option<Section> {
        // Devices encode plain structs, which cannot fail.
        self.device
            .state()
            .and_then(|state| state.save_section("").ok())
    }

    fn restore_device(&mut self, section: Option<Section>) -> Result<(), StateError> {
        let refuse = |reason: &str| StateError::Body {
            id: Self::ID.into(),
            reason: reason.into(),
        };
        match (self.device.state_mut(), section) {
            (Some(state), Some(section)) => state.restore_section(&section),
            (None, None) => Ok(()),
            (Some(_), None) => Err(refuse("device: missing")),
            (None, Some(_)) => Err(refuse("device: not expected")),
        }
    }
}
