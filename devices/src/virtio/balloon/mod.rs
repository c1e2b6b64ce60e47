//! `virtio-balloon-pci`: the guest gives memory back to the host (Virtio 1.2, section 5.5).
//!
//! One worker serves all queues: pages that go in (inflate) and come out (deflate), statistics,
//! free page hints for a migration, and reports of free pages. What outlives it is [`Balloon`],
//! which commands reach the device by. Pages go back to the host through
//! [`crate::discard::Discarder`], which knows what RAM is.

mod face;
mod hint;
mod partial;
mod state;
mod stats;
mod worker;

#[cfg(test)]
#[path = "balloon_test.rs"]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use api_spec::{QmpError, QmpResult, VirtioBalloonPciProps};

pub use face::{Balloon, FreePages};
pub use hint::{Hinting, Phase as HintPhase};
pub use state::BalloonV1;
pub use stats::GuestStats;

use super::{ActiveQueues, PlacedWorker, VirtioDevice, VirtioPci, VirtioTraits};
use crate::cx::BuildCx;
use crate::effect::{Effect, Notice};
use crate::virtio_pci_props;
use crate::worker::QueueState;
use worker::{BalloonWorker, Role};

const DEVICE_TYPE: u16 = 5;
/// PCI class "other".
const CLASS: u32 = 0xff_0000;
const QUEUE_SIZE: u16 = 128;
const F_STATS_VQ: u64 = 1 << 1;
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
const F_FREE_PAGE_HINT: u64 = 1 << 3;
const F_PAGE_POISON: u64 = 1 << 4;
const F_REPORTING: u64 = 1 << 5;
/// Offsets in configuration space (section 5.5.4); the target comes first.
const ACTUAL: usize = 4;
const POISON: usize = 12;
const CONFIG_LEN: usize = 16;

/// Builds the function, and what commands reach it by.
///
/// # Errors
/// For properties that need another, for what the transport does not have, and when the host is
/// out of descriptors or interrupt routes.
pub fn build(props: &VirtioBalloonPciProps, cx: &BuildCx) -> QmpResult<(VirtioPci, Arc<Balloon>)> {
    if props.free_page_hint && props.iothread.is_none() {
        return Err(QmpError::generic(
            "'free-page-hint' requires 'iothread' to be set",
        ));
    }
    let pci = virtio_pci_props!(props, cx)?;
    let host = |error: io::Error| QmpError::generic(error.to_string());
    let balloon = Balloon::new(&cx.clock, &*cx.timers, props.free_page_hint).map_err(host)?;
    balloon.set_polling_interval(props.guest_stats_polling_interval)?;
    let balloon = Arc::new(balloon);
    let device = Device {
        balloon: balloon.clone(),
        choice: Choice {
            deflate_on_oom: props.deflate_on_oom,
            hint: props.free_page_hint,
            poison: props.page_poison,
            reporting: props.free_page_reporting,
            whole_config: props.qemu_4_0_config_size,
        },
    };
    let function = VirtioPci::new(Box::new(device), pci, cx).map_err(host)?;
    Ok((function, balloon))
}

/// What is offered.
#[derive(Debug, Clone, Copy)]
struct Choice {
    deflate_on_oom: bool,
    hint: bool,
    poison: bool,
    reporting: bool,
    /// Configuration space has all fields, whatever is offered.
    whole_config: bool,
}

impl Choice {
    fn features(self) -> u64 {
        let offered = [
            (true, F_STATS_VQ),
            (self.deflate_on_oom, F_DEFLATE_ON_OOM),
            (self.hint, F_FREE_PAGE_HINT),
            (self.poison, F_PAGE_POISON),
            (self.reporting, F_REPORTING),
        ];
        let bit = |(on, bit): (bool, u64)| if on { bit } else { 0 };
        offered.into_iter().map(bit).fold(0, |all, bit| all | bit)
    }

    /// What the queues are for, in order. Queues of features that are not offered do not exist,
    /// and those behind them move up.
    fn roles(self) -> Vec<Role> {
        let hint = self.hint.then_some(Role::Hint);
        let report = self.reporting.then_some(Role::Report);
        let first = [Role::Inflate, Role::Deflate, Role::Stats];
        first.into_iter().chain(hint).chain(report).collect()
    }

    fn config_len(self) -> usize {
        match (self.whole_config || self.poison, self.hint) {
            (true, _) => CONFIG_LEN,
            (false, true) => POISON,
            (false, false) => POISON - 4,
        }
    }
}

/// The device behind the function.
struct Device {
    balloon: Arc<Balloon>,
    choice: Choice,
}

impl VirtioDevice for Device {
    fn traits(&self) -> VirtioTraits {
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: self.choice.features(),
            queue_sizes: vec![QUEUE_SIZE; self.choice.roles().len()],
            vectors: 2,
            class: CLASS,
            config_len: self.choice.config_len(),
        }
    }

    fn config_read(&self, offset: usize, data: &mut [u8]) {
        let balloon = &self.balloon;
        let words = [
            balloon.target.load(Ordering::Acquire),
            balloon.actual(),
            balloon.hint_command(),
            balloon.poison.load(Ordering::Acquire),
        ];
        let image = words.into_iter().flat_map(u32::to_le_bytes);
        for (byte, value) in data.iter_mut().zip(image.skip(offset)) {
            *byte = value;
        }
    }

    fn config_write(&mut self, offset: usize, data: &[u8]) -> Effect {
        if self.choice.poison {
            replace(&self.balloon.poison, POISON, offset, data);
        }
        let (old, new) = replace(&self.balloon.actual, ACTUAL, offset, data);
        if old == new {
            return Effect::None;
        }
        Effect::Notice(Notice::BalloonChanged { pages: new })
    }

    fn start(&mut self, active: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        if active.features & F_PAGE_POISON == 0 {
            self.balloon.poison.store(0, Ordering::Release);
        }
        self.balloon.set_signals(active.device.clone());
        let worker = BalloonWorker::new(&self.balloon, active, &self.choice.roles());
        Ok(vec![PlacedWorker {
            thread: 0,
            worker: Box::new(worker),
        }])
    }

    fn stopped(&mut self, _states: &[QueueState]) {}

    fn reset(&mut self) {
        self.balloon.reset();
    }

    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        Some(self)
    }

    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Writes the bytes that fall into the 32 bits at `at`; what they were, and what they are.
fn replace(word: &AtomicU32, at: usize, offset: usize, data: &[u8]) -> (u32, u32) {
    let old = word.load(Ordering::Acquire);
    let mut bytes = old.to_le_bytes();
    for (place, value) in (offset..).zip(data) {
        let byte = place.checked_sub(at).and_then(|index| bytes.get_mut(index));
        if let Some(byte) = byte {
            *byte = *value;
        }
    }
    let new = u32::from_le_bytes(bytes);
    word.store(new, Ordering::Release);
    (old, new)
}
