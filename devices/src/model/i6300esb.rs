//! `i6300esb`: the watchdog of Intel's 6300ESB I/O controller hub (Intel 6300ESB datasheet,
//! chapter 22). Two stages, each a 20-bit count of ticks on the guest's clock: the first one
//! could interrupt the guest, which QEMU does not do either; the second one barks.

use std::sync::{Arc, Mutex};

use api_spec::{I6300esbProps, QmpError, QmpResult};
use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::timed::{Timed, with_timer};
use crate::clock::{Clock, Timer};
use crate::cx::{BuildCx, EffectSink};
use crate::effect::{Effect, PowerEffect};
use crate::pci::{BarKind, ConfigSpace, ConfigSpaceV1, Identity, PciFunction};

const BAR: u8 = 0;
const BAR_SIZE: u64 = 16;
/// Configuration: interrupt type, prescaler, whether the output is off.
const CONFIG: u16 = 0x60;
const SLOW_PRESCALER_OFF: u8 = 1 << 2;
const OUTPUT_OFF: u8 = 1 << 5;
/// Lock register.
const LOCK: u16 = 0x68;
const LOCKED: u8 = 1 << 0;
const ENABLED: u8 = 1 << 1;
const FREE_RUNNING: u8 = 1 << 2;
/// Registers in memory: the stages' counts, and the reload register.
const PRELOAD_1: u64 = 0;
const PRELOAD_2: u64 = 4;
const RELOAD: u64 = 0xc;
/// Writes to the reload register.
const RELOAD_NOW: u16 = 1 << 8;
const TIMED_OUT: u16 = 1 << 9;
/// What the reload register reads as after a bark.
const AFTER_TIMEOUT: u16 = 0x1200;
/// 20 bits.
const MOST_TICKS: u32 = 0xf_ffff;
/// The clock that the prescaler divides.
const HERTZ: u128 = 33_000_000;
const NS_PER_SECOND: u128 = 1_000_000_000;
/// No stage is shorter: one that begins anew by itself would keep the host busy.
const SHORTEST_NS: u64 = 100_000;

/// Bits of the unlock sequence that were seen: 0x80, then 0x86 to the reload register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Unlock {
    #[default]
    Locked,
    Half,
    Open,
}

/// Which stage runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    First,
    Second,
}

/// 8086:25ab.
pub struct I6300esb {
    config: ConfigSpace,
    preload: [u32; 2],
    stage: Stage,
    unlock: Unlock,
    /// The guest was reset by a bark; it survives that.
    barked: bool,
    deadline: Option<u64>,
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    effects: Arc<dyn EffectSink>,
    id: String,
}

/// Builds the function.
///
/// # Errors
/// For what such a function does not have.
pub fn build(props: &I6300esbProps, cx: &BuildCx) -> QmpResult<Arc<Mutex<I6300esb>>> {
    if let Some(file) = props.romfile.as_ref().filter(|file| !file.is_empty()) {
        return Err(QmpError::generic(format!(
            "Property 'i6300esb.romfile' cannot be '{file}': not supported"
        )));
    }
    let make = |timer| I6300esb::new(timer, cx, props.multifunction);
    Ok(with_timer(&*cx.timers, make))
}

impl I6300esb {
    fn new(timer: Box<dyn Timer>, cx: &BuildCx, multifunction: bool) -> Self {
        let mut config = ConfigSpace::endpoint(Identity {
            vendor: 0x8086,
            device: 0x25ab,
            revision: 0,
            class: 0x08_8000,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        if multifunction {
            config.multifunction();
        }
        config.add_bar(BAR, BarKind::Memory32, BAR_SIZE);
        config.allow(CONFIG, &[3 | SLOW_PRESCALER_OFF | OUTPUT_OFF]);
        config.allow(LOCK, &[LOCKED | ENABLED | FREE_RUNNING]);
        I6300esb {
            config,
            preload: [MOST_TICKS; 2],
            stage: Stage::First,
            unlock: Unlock::Locked,
            barked: false,
            deadline: None,
            clock: cx.clock.clone(),
            timer,
            effects: cx.effects.clone(),
            id: cx.id.clone(),
        }
    }

    fn enabled(&self) -> bool {
        self.config.byte(LOCK) & ENABLED != 0
    }

    fn restart(&mut self, stage: Stage) {
        if !self.enabled() {
            return;
        }
        self.stage = stage;
        let now = self.clock.now_ns();
        let [first, second] = self.preload;
        let ticks = match stage {
            Stage::First => first,
            Stage::Second => second,
        };
        let shift = match self.config.byte(CONFIG) & SLOW_PRESCALER_OFF {
            0 => 15,
            _ => 5,
        };
        let after = (u128::from(ticks) << shift).saturating_mul(NS_PER_SECOND) / HERTZ;
        let after = u64::try_from(after).unwrap_or(u64::MAX).max(SHORTEST_NS);
        self.set_deadline(Some(now.saturating_add(after)));
    }

    fn set_deadline(&mut self, deadline: Option<u64>) {
        self.deadline = deadline;
        match deadline {
            Some(at) => self.timer.arm(at),
            None => self.timer.cancel(),
        }
    }

    /// All but what a bark leaves.
    fn reset_timers(&mut self) {
        self.config.set(CONFIG, &[0]);
        self.config.set(LOCK, &[0]);
        self.preload = [MOST_TICKS; 2];
        self.stage = Stage::First;
        self.unlock = Unlock::Locked;
        self.set_deadline(None);
    }

    fn bark(&mut self) {
        let free_running = self.config.byte(LOCK) & FREE_RUNNING != 0;
        if self.config.byte(CONFIG) & OUTPUT_OFF == 0 {
            self.barked = true;
            self.reset_timers();
            let bark = Effect::Power(PowerEffect::Watchdog);
            self.effects.raise(&self.id, bark);
        } else if free_running {
            self.restart(Stage::First);
        }
    }

    /// The lock register was written.
    fn lock_written(&mut self, before: u8) {
        if before & LOCKED != 0 {
            self.config.set(LOCK, &[before]);
            return;
        }
        match (before & ENABLED != 0, self.enabled()) {
            (false, true) => self.restart(Stage::First),
            (true, false) => self.set_deadline(None),
            (false, false) | (true, true) => {}
        }
    }

    /// Whether the write was a step of the unlock sequence.
    fn unlock(&mut self, offset: u64, value: u32) -> bool {
        let next = match (offset, value, self.unlock) {
            (RELOAD, 0x80, _) => Unlock::Half,
            (RELOAD, 0x86, Unlock::Half) => Unlock::Open,
            _ => return false,
        };
        self.unlock = next;
        true
    }
}

impl Timed for I6300esb {
    fn timer_expired(&mut self) {
        // It may have been set anew meanwhile, or switched off.
        let due = self.deadline.is_some_and(|at| at <= self.clock.now_ns());
        if !due || !self.enabled() {
            return;
        }
        self.deadline = None;
        match self.stage {
            Stage::First => self.restart(Stage::Second),
            Stage::Second => self.bark(),
        }
    }
}

impl PciFunction for I6300esb {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let before = self.config.byte(LOCK);
        let changed = self.config.write(offset, data);
        let end = usize::from(offset).saturating_add(data.len());
        if offset <= LOCK && usize::from(LOCK) < end {
            self.lock_written(before);
        }
        match changed.decode {
            true => Effect::Remap,
            false => Effect::None,
        }
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if (bar, offset, data.len()) == (BAR, RELOAD, 2) {
            self.unlock = Unlock::Locked;
            let value = if self.barked { AFTER_TIMEOUT } else { 0 };
            data.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        let mut bytes = [0; 4];
        bytes
            .iter_mut()
            .zip(data)
            .for_each(|(to, from)| *to = *from);
        let value = u32::from_le_bytes(bytes);
        if bar != BAR || data.len() > 4 || self.unlock(offset, value) {
            return Effect::None;
        }
        if self.unlock != Unlock::Open {
            return Effect::None;
        }
        match (offset, data.len()) {
            (RELOAD, 2) => {
                let value = value as u16;
                if value & RELOAD_NOW != 0 {
                    self.restart(Stage::First);
                }
                if value & (TIMED_OUT | AFTER_TIMEOUT) != 0 {
                    self.barked = false;
                }
                self.unlock = Unlock::Locked;
            }
            (PRELOAD_1 | PRELOAD_2, 4) => {
                let [first, second] = &mut self.preload;
                let place = if offset == PRELOAD_1 { first } else { second };
                *place = value & MOST_TICKS;
                self.unlock = Unlock::Locked;
            }
            (_, 4) => self.unlock = Unlock::Locked,
            _ => {}
        }
        Effect::None
    }

    fn reset(&mut self) {
        self.config.reset();
        self.reset_timers();
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I6300esbV1 {
    /// Configuration space, where two of the registers are.
    pub config: ConfigSpaceV1,
    /// Ticks of the stages.
    pub preload: [u32; 2],
    /// The second stage runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub second_stage: bool,
    /// Steps of the unlock sequence that were done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unlock: u8,
    /// It barked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub barked: bool,
    /// When the stage ends, on the virtual clock.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deadline: Option<u64>,
}

impl Snapshot for I6300esb {
    type State = I6300esbV1;
    const ID: &'static str = "i6300esb";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        I6300esbV1 {
            config: self.config.save(),
            preload: self.preload,
            second_stage: self.stage == Stage::Second,
            unlock: match self.unlock {
                Unlock::Locked => 0,
                Unlock::Half => 1,
                Unlock::Open => 2,
            },
            barked: self.barked,
            deadline: self.deadline,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let I6300esbV1 {
            config,
            preload,
            second_stage,
            unlock,
            barked,
            deadline,
        } = state;
        let refuse = |reason: String| StateError::Body {
            id: Self::ID.into(),
            reason,
        };
        let unlock = match unlock {
            0 => Unlock::Locked,
            1 => Unlock::Half,
            2 => Unlock::Open,
            other => return Err(refuse(format!("unlock: {other}"))),
        };
        if preload.iter().any(|ticks| *ticks > MOST_TICKS) {
            return Err(refuse(format!("preload: {preload:?}")));
        }
        self.config.restore(config)?;
        self.preload = preload;
        self.stage = match second_stage {
            true => Stage::Second,
            false => Stage::First,
        };
        self.unlock = unlock;
        self.barked = barked;
        self.set_deadline(deadline);
        Ok(())
    }
}

#[cfg(test)]
#[path = "i6300esb_test.rs"]
mod tests;
