//! The tray of a drive with media that can be taken out.
//!
//! ```text
//!            eject (guest, unless locked; monitor)
//!   closed ------------------------------------------> open
//!      ^  <-------------------------------------------  |
//!      |     load (guest), close (monitor), reset
//!      +-- lock, unlock (guest); a monitor that does not use force only asks a guest that locked
//!          it, through GET EVENT STATUS NOTIFICATION
//! ```

use super::sense::Sense;

/// Whether a lock of the guest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It does: the guest is asked.
    No,
    /// It does not.
    Yes,
}

/// Whether there is something in the tray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// Nothing.
    Empty,
    /// A medium.
    Medium,
}

/// What the tray did (DEVICE_TRAY_MOVED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "somebody is to be told"]
pub enum Moved {
    /// Nothing.
    Not,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

/// The guest locked the tray: it was asked to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked;

/// What a guest learns of the medium that polls for events (MMC-6, table 305).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaEvent {
    /// Nothing new.
    #[default]
    None,
    /// Somebody wants it out.
    EjectRequest,
    /// It is there now.
    New,
    /// It was taken out.
    Removed,
}

impl MediaEvent {
    /// As the standard numbers it.
    pub const fn code(self) -> u8 {
        match self {
            MediaEvent::None => 0,
            MediaEvent::EjectRequest => 1,
            MediaEvent::New => 2,
            MediaEvent::Removed => 3,
        }
    }
}

/// State of a tray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tray {
    /// It is open.
    pub open: bool,
    /// The guest does not want it to open.
    pub locked: bool,
    /// Somebody asked the guest to open it.
    pub eject_asked: bool,
    /// The medium changed since the guest last asked.
    pub changed: bool,
}

impl Tray {
    /// PREVENT ALLOW MEDIUM REMOVAL.
    pub fn lock(&mut self, locked: bool) {
        self.locked = locked;
    }

    /// START STOP UNIT with eject.
    ///
    /// # Errors
    /// What the guest is told when the tray is locked.
    pub fn eject(&mut self, loaded: Loaded) -> Result<Moved, Sense> {
        if self.open {
            return Ok(Moved::Not);
        }
        if self.locked {
            return Err(match loaded {
                Loaded::Medium => Sense::REMOVAL_PREVENTED,
                Loaded::Empty => Sense::EMPTY_REMOVAL_PREVENTED,
            });
        }
        self.open = true;
        self.changed = true;
        self.eject_asked = false;
        Ok(Moved::Opened)
    }

    /// START STOP UNIT with load, or the monitor closes the tray.
    pub fn close(&mut self) -> Moved {
        if !self.open {
            return Moved::Not;
        }
        self.open = false;
        self.changed = true;
        Moved::Closed
    }

    /// The monitor opens the tray, or asks for it.
    ///
    /// # Errors
    /// When the guest locked it; it is asked then.
    pub fn open(&mut self, force: Force) -> Result<Moved, Locked> {
        if self.open {
            return Ok(Moved::Not);
        }
        if self.locked && force == Force::No {
            self.eject_asked = true;
            return Err(Locked);
        }
        *self = Tray {
            open: true,
            locked: false,
            eject_asked: false,
            changed: true,
        };
        Ok(Moved::Opened)
    }

    /// The medium is another, or there is none any more.
    pub fn medium_changed(&mut self) {
        self.changed = true;
    }

    /// What the guest has not heard yet.
    pub fn take_event(&mut self, loaded: Loaded) -> MediaEvent {
        if std::mem::take(&mut self.eject_asked) {
            return MediaEvent::EjectRequest;
        }
        if !std::mem::take(&mut self.changed) {
            return MediaEvent::None;
        }
        match (self.open, loaded) {
            (false, Loaded::Medium) => MediaEvent::New,
            (true, _) | (false, Loaded::Empty) => MediaEvent::Removed,
        }
    }

    /// Why there is no medium, if there is none.
    pub fn check_ready(&self, loaded: Loaded) -> Result<(), Sense> {
        match (self.open, loaded) {
            (true, _) => Err(Sense::NO_MEDIUM_TRAY_OPEN),
            (false, Loaded::Empty) => Err(Sense::NO_MEDIUM_TRAY_CLOSED),
            (false, Loaded::Medium) => Ok(()),
        }
    }

    /// Power-on or a reset.
    pub fn reset(&mut self) -> Moved {
        let moved = self.close();
        *self = Tray::default();
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_opens_and_closes() {
        let mut tray = Tray::default();
        assert_eq!(tray.eject(Loaded::Medium), Ok(Moved::Opened));
        assert_eq!(tray.eject(Loaded::Medium), Ok(Moved::Not));
        assert_eq!(
            tray.check_ready(Loaded::Medium),
            Err(Sense::NO_MEDIUM_TRAY_OPEN)
        );
        assert_eq!(tray.take_event(Loaded::Medium), MediaEvent::Removed);
        assert_eq!(tray.take_event(Loaded::Medium), MediaEvent::None);
        assert_eq!(tray.close(), Moved::Closed);
        assert_eq!(tray.close(), Moved::Not);
        assert_eq!(tray.check_ready(Loaded::Medium), Ok(()));
        assert_eq!(
            tray.check_ready(Loaded::Empty),
            Err(Sense::NO_MEDIUM_TRAY_CLOSED)
        );
        assert_eq!(tray.take_event(Loaded::Medium), MediaEvent::New);
    }

    #[test]
    fn a_lock_holds_until_force() {
        let mut tray = Tray::default();
        tray.lock(true);
        assert_eq!(tray.eject(Loaded::Medium), Err(Sense::REMOVAL_PREVENTED));
        assert_eq!(
            tray.eject(Loaded::Empty),
            Err(Sense::EMPTY_REMOVAL_PREVENTED)
        );
        assert_eq!(tray.open(Force::No), Err(Locked));
        assert_eq!(tray.take_event(Loaded::Medium), MediaEvent::EjectRequest);
        assert_eq!(tray.take_event(Loaded::Medium), MediaEvent::None);
        assert!(!tray.open);
        // What a guest does that was asked.
        tray.lock(false);
        assert_eq!(tray.eject(Loaded::Medium), Ok(Moved::Opened));
        assert_eq!(tray.close(), Moved::Closed);
        tray.lock(true);
        assert_eq!(tray.open(Force::Yes), Ok(Moved::Opened));
        assert_eq!(tray.open(Force::No), Ok(Moved::Not));
        assert!(!tray.locked);
    }

    #[test]
    fn a_reset_closes_and_unlocks() {
        let mut tray = Tray::default();
        tray.lock(true);
        assert_eq!(tray.reset(), Moved::Not);
        assert_eq!(tray.open(Force::No), Ok(Moved::Opened));
        tray.medium_changed();
        assert_eq!(tray.reset(), Moved::Closed);
        assert_eq!(tray, Tray::default());
    }
}
