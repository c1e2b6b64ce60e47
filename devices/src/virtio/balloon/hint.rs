//! Free page hints (Virtio 1.2, section 5.5.6.4): the driver names pages that are free while a
//! migration asks for them. Which round is under way is a small state machine.
//!
//! ```text
//!            start              driver repeats the id
//!  Stopped --------> Requested ----------------------> Running
//!     ^                 |                                 |
//!     +---- stop -------+------ stop, another id ---------+
//!     any --- done ---> Done
//! ```

/// What the driver reads while nothing is asked for.
pub const CMD_ID_STOP: u32 = 0;
/// What it reads when the hinted pages may be used again.
pub const CMD_ID_DONE: u32 = 1;
/// Rounds are numbered from here.
const FIRST_ID: u32 = 0x8000_0000;

/// Where hinting is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is asked for.
    #[default]
    Stopped,
    /// A round is asked for; the driver has not begun.
    Requested,
    /// The driver names pages.
    Running,
    /// The pages named so far may be used again.
    Done,
}

/// The state of hinting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hinting {
    phase: Phase,
    id: u32,
}

impl Default for Hinting {
    fn default() -> Self {
        Hinting {
            phase: Phase::Stopped,
            id: FIRST_ID,
        }
    }
}

impl Hinting {
    /// A state that was saved.
    pub fn new(phase: Phase, id: u32) -> Self {
        let id = id.max(FIRST_ID);
        Hinting { phase, id }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the newest round.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What the driver reads from configuration space.
    pub fn command(&self) -> u32 {
        match self.phase {
            Phase::Stopped => CMD_ID_STOP,
            Phase::Requested | Phase::Running => self.id,
            Phase::Done => CMD_ID_DONE,
        }
    }

    /// Asks for a new round.
    pub fn start(&mut self) {
        self.id = match self.id {
            u32::MAX => FIRST_ID,
            id => id.saturating_add(1).max(FIRST_ID),
        };
        self.phase = Phase::Requested;
    }

    /// Ends the round; whether it changed anything.
    pub fn stop(&mut self) -> bool {
        let was = std::mem::replace(&mut self.phase, Phase::Stopped);
        was != Phase::Stopped
    }

    /// The pages may be used again.
    pub fn finish(&mut self) {
        self.phase = Phase::Done;
    }

    /// The driver sent a number: it begins the round of that number, or ends one.
    pub fn driver_says(&mut self, id: u32) {
        match self.phase {
            Phase::Requested if id == self.id => self.phase = Phase::Running,
            Phase::Running => self.phase = Phase::Stopped,
            Phase::Stopped | Phase::Requested | Phase::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round() {
        let mut hinting = Hinting::default();
        assert_eq!(hinting.command(), CMD_ID_STOP);
        assert!(!hinting.stop());
        hinting.driver_says(FIRST_ID);
        assert_eq!(hinting.phase(), Phase::Stopped);
        hinting.start();
        assert_eq!(hinting.command(), FIRST_ID + 1);
        hinting.driver_says(FIRST_ID);
        assert_eq!(hinting.phase(), Phase::Requested, "an old round's");
        hinting.driver_says(FIRST_ID + 1);
        assert_eq!(hinting.phase(), Phase::Running);
        assert_eq!(hinting.command(), FIRST_ID + 1);
        hinting.driver_says(CMD_ID_STOP);
        assert_eq!(hinting.command(), CMD_ID_STOP);
        hinting.finish();
        assert_eq!(hinting.command(), CMD_ID_DONE);
        assert!(hinting.stop());
    }

    #[test]
    fn numbers_begin_again() {
        let mut hinting = Hinting::new(Phase::Done, u32::MAX);
        hinting.start();
        assert_eq!(hinting.command(), FIRST_ID);
        let mut hinting = Hinting::new(Phase::Stopped, 5);
        hinting.start();
        assert_eq!(hinting.command(), FIRST_ID + 1);
    }
}
