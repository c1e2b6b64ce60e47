//! announce-self: interfaces say where they are, several times. Each series of announcements has a
//! thread that sleeps between them and has control do each.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use api_spec::AnnounceParameters;
use devices::bus::lock;

use super::ControlLine;
use crate::control::Control;
use crate::threads::ThreadKind;

/// Clients may ask for no pause at all, and for any number of rounds.
const SHORTEST: Duration = Duration::from_millis(1);

/// The parameters unless a client says others.
pub fn default_announcement() -> AnnounceParameters {
    AnnounceParameters {
        initial: 50,
        max: 550,
        rounds: 5,
        step: 100,
        interfaces: None,
        id: None,
    }
}

/// Series that are under way, by their ids. Dropping one ends it.
#[derive(Default)]
pub struct Announcements(BTreeMap<String, Series>);

struct Series(Arc<Bell>);

#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    over: bool,
    /// Control was asked for an announcement, and has not come to it yet.
    asked: bool,
}

impl Drop for Series {
    fn drop(&mut self) {
        lock(&self.0.state).over = true;
        self.0.rung.notify_all();
    }
}

impl Bell {
    /// Sleeps, and longer where control has not done what it was asked for before. Whether the
    /// series goes on: then control is to be asked.
    fn sleep(&self, time: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self
            .rung
            .wait_timeout_while(state, time, |state| !state.over);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let waited = self
            .rung
            .wait_while(state, |state| state.asked && !state.over);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.asked = true;
        !state.over
    }

    /// Control has come to it. Whether the series goes on.
    fn answer(&self) -> bool {
        let mut state = lock(&self.state);
        state.asked = false;
        self.rung.notify_all();
        !state.over
    }
}

/// The pauses between announcements.
fn pauses(parameters: &AnnounceParameters) -> impl Iterator<Item = Duration> + use<> {
    let AnnounceParameters {
        initial,
        max,
        rounds,
        step,
        ..
    } = *parameters;
    let pause = move |round: i64| {
        let wait = initial.saturating_add(round.saturating_mul(step));
        let wait = if wait < 0 || wait > max { max } else { wait };
        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).max(SHORTEST)
    };
    (0..rounds.saturating_sub(1)).map(pause)
}

impl Control {
    /// Makes interfaces say where they are, now and later. A series of the same id ends.
    pub(in crate::control) fn announce(&mut self, parameters: AnnounceParameters) {
        let id = parameters.id.clone().unwrap_or_default();
        self.announcements.0.remove(&id);
        let stops = !id.is_empty() && parameters.interfaces.as_ref().is_some_and(Vec::is_empty);
        if stops || parameters.rounds <= 0 {
            return;
        }
        self.announce_once(parameters.interfaces.as_deref());
        let bell = Arc::new(Bell::default());
        let series = Series(bell.clone());
        let line = ControlLine::new(self.mail.clone());
        let later = line.clone();
        let body = move || {
            for pause in pauses(&parameters) {
                if !bell.sleep(pause) {
                    return;
                }
                let (bell, interfaces) = (bell.clone(), parameters.interfaces.clone());
                later.run(move |control| {
                    if bell.answer() {
                        control.announce_once(interfaces.as_deref());
                    }
                });
            }
        };
        match line.spawn(ThreadKind::Net, "announce", body) {
            Ok(_) => drop(self.announcements.0.insert(id, series)),
            Err(error) => log::warn!("Interfaces announce themselves only once: {error}"),
        }
    }

    fn announce_once(&self, interfaces: Option<&[String]>) {
        trace::point!(QEMU_ANNOUNCE_SELF_ITER);
        let named = |own: &str| interfaces.is_none_or(|list| list.iter().any(|name| name == own));
        let nics = self.machine.iter().flat_map(|machine| machine.nics());
        for (_, nic) in nics.filter(|(_, nic)| named(nic.name())) {
            nic.announce();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let millis = |parameters: AnnounceParameters| -> Vec<u128> {
            pauses(&parameters).map(|pause| pause.as_millis()).collect()
        };
        let default = default_announcement();
        assert_eq!(millis(default.clone()), [50, 150, 250, 350]);
        let steep = AnnounceParameters {
            step: 400,
            ..default.clone()
        };
        assert_eq!(millis(steep), [50, 450, 550, 550]);
        let once = AnnounceParameters {
            rounds: 1,
            ..default.clone()
        };
        assert!(millis(once).is_empty());
        let wild = AnnounceParameters {
            initial: i64::MAX,
            step: i64::MAX,
            max: -1,
            rounds: 3,
            ..default
        };
        assert_eq!(millis(wild), [1, 1]);
    }

    #[test]
    fn a_series_that_is_dropped_ends() {
        let bell = Arc::new(Bell::default());
        let series = Series(bell.clone());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| bell.sleep(Duration::from_secs(60)));
            drop(series);
            assert!(!sleeper.join().unwrap());
        });
    }

    #[test]
    fn control_is_asked_once_at_a_time() {
        let bell = Arc::new(Bell::default());
        assert!(bell.sleep(Duration::ZERO));
        let asked = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let goes_on = bell.sleep(Duration::ZERO);
                asked.store(true, std::sync::atomic::Ordering::SeqCst);
                goes_on
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!asked.load(std::sync::atomic::Ordering::SeqCst));
            assert!(bell.answer());
            assert!(sleeper.join().unwrap());
        });
        drop(Series(bell.clone()));
        assert!(!bell.answer());
    }
}
