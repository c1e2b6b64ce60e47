//! What fails when: a small state machine over events.

use super::event::Event;

/// Kinds of requests that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // they say it
pub enum IoType {
    Read,
    Write,
    WriteZeroes,
    Discard,
    Flush,
    /// Questions of how bytes are stored.
    BlockStatus,
}

impl IoType {
    const ALL: [IoType; 6] = [
        IoType::Read,
        IoType::Write,
        IoType::WriteZeroes,
        IoType::Discard,
        IoType::Flush,
        IoType::BlockStatus,
    ];

    /// Its name in options.
    pub const fn name(self) -> &'static str {
        match self {
            IoType::Read => "read",
            IoType::Write => "write",
            IoType::WriteZeroes => "write-zeroes",
            IoType::Discard => "discard",
            IoType::Flush => "flush",
            IoType::BlockStatus => "block-status",
        }
    }

    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Requests fail from an event on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InjectError {
    /// From when on.
    pub event: Event,
    /// Only in that state; 0 is any.
    pub state: u64,
    /// Only requests of that kind; all but block-status without it.
    pub io_type: Option<IoType>,
    /// The error.
    pub errno: i32,
    /// Only requests that touch this sector (512 bytes).
    pub sector: Option<u64>,
    /// Only the first such request.
    pub once: bool,
    /// The request ends in the call that submits it rather than later.
    pub immediately: bool,
}

/// The state changes at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetState {
    /// At which.
    pub event: Event,
    /// Only in that state; 0 is any.
    pub state: u64,
    /// The next one.
    pub new_state: u64,
}

/// A request as rules see it: kind, first byte, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub io_type: IoType,
    pub offset: u64,
    pub len: u64,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub errno: i32,
    pub immediately: bool,
}

/// The machine. Its first state is 1.
#[derive(Debug)]
pub(super) struct Rules {
    /// `None` for one that was to hit once, and has.
    inject: Vec<Option<InjectError>>,
    set: Vec<SetState>,
    state: u64,
    /// Those of the last event that had any, by index.
    active: Vec<usize>,
}

impl Rules {
    pub fn new(inject: Vec<InjectError>, set: Vec<SetState>) -> Self {
        let mut rules = Rules {
            inject: inject.into_iter().map(Some).collect(),
            set,
            state: 1,
            active: Vec::new(),
        };
        rules.event(Event::None);
        rules
    }

    /// Something happens. All rules look at the state that was there before.
    pub fn event(&mut self, event: Event) {
        let state = self.state;
        let holds = |at: Event, wanted: u64| at == event && (wanted == 0 || wanted == state);
        let matching = self.inject.iter().enumerate();
        let active: Vec<usize> = matching
            .filter(|(_, rule)| rule.is_some_and(|rule| holds(rule.event, rule.state)))
            .map(|(index, _)| index)
            .collect();
        if !active.is_empty() {
            self.active = active;
        }
        let mut set = self.set.iter().rev();
        if let Some(rule) = set.find(|rule| holds(rule.event, rule.state)) {
            self.state = rule.new_state;
        }
    }

    /// What becomes of a request; `None` when it goes on.
    pub fn check(&mut self, asked: Asked) -> Option<Fault> {
        let hit = |index: &usize| {
            let rule = self.inject.get(*index).copied().flatten();
            rule.is_some_and(|rule| rule.hits(asked))
        };
        let at = self.active.iter().position(hit)?;
        let place = self.inject.get_mut(*self.active.get(at)?)?;
        let rule = (*place)?;
        if rule.once {
            *place = None;
            self.active.remove(at);
        }
        (rule.errno != 0).then_some(Fault {
            errno: rule.errno,
            immediately: rule.immediately,
        })
    }
}

impl InjectError {
    /// All requests fail with EIO from `event` on.
    pub const fn new(event: Event) -> Self {
        InjectError {
            event,
            state: 0,
            io_type: None,
            errno: libc::EIO,
            sector: None,
            once: false,
            immediately: false,
        }
    }

    fn hits(&self, asked: Asked) -> bool {
        let kind = match self.io_type {
            Some(io_type) => io_type == asked.io_type,
            None => asked.io_type != IoType::BlockStatus,
        };
        let place = self.sector.is_none_or(|sector| {
            let offset = sector.saturating_mul(512);
            let end = asked.offset.saturating_add(asked.len);
            (asked.offset..end).contains(&offset)
        });
        kind && place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> InjectError {
        InjectError {
            event: Event::None,
            state: 0,
            io_type: None,
            errno: 5,
            sector: None,
            once: false,
            immediately: false,
        }
    }

    fn asked(io_type: IoType, sector: u64) -> Asked {
        Asked {
            io_type,
            offset: sector * 512,
            len: 4096,
        }
    }

    #[test]
    fn rules_of_no_event_hold_from_the_start() {
        let mut rules = Rules::new(vec![rule()], vec![]);
        for io_type in [IoType::Read, IoType::Write, IoType::Discard, IoType::Flush] {
            assert_eq!(rules.check(asked(io_type, 0)).unwrap().errno, 5);
        }
        assert!(rules.check(asked(IoType::BlockStatus, 0)).is_none());
    }

    #[test]
    fn kind_sector_and_once_narrow_them() {
        let narrow = InjectError {
            io_type: Some(IoType::Write),
            sector: Some(9),
            once: true,
            ..rule()
        };
        let mut rules = Rules::new(vec![narrow], vec![]);
        assert!(rules.check(asked(IoType::Read, 9)).is_none());
        assert!(
            rules.check(asked(IoType::Write, 1)).is_none(),
            "ends before"
        );
        assert!(rules.check(asked(IoType::Write, 10)).is_none());
        assert!(rules.check(asked(IoType::Write, 2)).is_some());
        assert!(rules.check(asked(IoType::Write, 2)).is_none(), "only once");
        rules.event(Event::None);
        let again = rules.check(asked(IoType::Write, 2));
        assert!(again.is_none(), "at no event to come, either");
    }

    #[test]
    fn states_follow_events() {
        let inject = InjectError {
            event: Event::L2Update,
            state: 2,
            ..rule()
        };
        let set = [
            (Event::ClusterAlloc, 1, 2),
            (Event::L2Update, 2, 3),
            (Event::FlushToDisk, 0, 1),
        ]
        .map(|(event, state, new_state)| SetState {
            event,
            state,
            new_state,
        });
        let mut rules = Rules::new(vec![inject], set.to_vec());
        let write = asked(IoType::Write, 0);
        rules.event(Event::L2Update);
        assert!(rules.check(write).is_none(), "another state");
        rules.event(Event::ClusterAlloc);
        assert!(rules.check(write).is_none(), "no such event yet");
        rules.event(Event::L2Update);
        assert!(rules.check(write).is_some());
        assert_eq!(rules.state, 3);
        rules.event(Event::FlushToDisk);
        assert_eq!(rules.state, 1);
    }
}
