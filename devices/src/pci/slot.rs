//! A hot-plug slot behind a port (PCI Express Base 3.0, section 6.7): what cards, the host and the
//! guest do to its registers. Pure: the port keeps the registers and drives the interrupt.
//!
//! ```text
//!           insert                    guest: power on
//!   empty ---------> card, no power -----------------> card in use
//!     ^                    |                              |
//!     |   host: unplug     |                              | host: unplug (attention button)
//!     +--------------------+                              v
//!     +------------------------------------------ the guest lets go of it
//!              guest: power and its indicator off
//! ```

/// Slot control (section 7.8.10).
pub mod control {
    #![allow(missing_docs)] // the names are the specification's
    pub const INTERRUPT: u16 = 1 << 5;
    pub const ATTENTION_INDICATOR_OFF: u16 = 3 << 6;
    pub const POWER_INDICATOR: u16 = 3 << 8;
    pub const POWER_INDICATOR_ON: u16 = 1 << 8;
    pub const POWER_INDICATOR_BLINK: u16 = 2 << 8;
    pub const POWER_INDICATOR_OFF: u16 = 3 << 8;
    pub const POWER_OFF: u16 = 1 << 10;
    pub const LINK_CHANGED_ENABLE: u16 = 1 << 12;
    /// Enables of the events that have the same bits in slot status.
    pub const EVENTS: u16 = 0x0f;
}

/// Slot status (section 7.8.11).
pub mod status {
    #![allow(missing_docs)] // the names are the specification's
    pub const ATTENTION: u16 = 1 << 0;
    pub const PRESENCE_CHANGED: u16 = 1 << 3;
    pub const PRESENT: u16 = 1 << 6;
    pub const LINK_CHANGED: u16 = 1 << 8;
}

/// What is done about a host that wants a card back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplug {
    /// The guest was told; it lets go of the card when it is ready to.
    Asked,
    /// The guest does not use it: it can go at once.
    AtOnce,
    /// The guest is about to switch the slot on or off.
    Busy,
    /// The slot is not made for it.
    Unsupported,
}

/// What a guest's write to slot control comes to, beyond the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commanded {
    /// Nothing.
    Nothing,
    /// The guest let go of the card.
    LetGo,
    /// The indicator stopped blinking with the power still on: the guest keeps the card, if the host
    /// wanted it back (section 6.7.1.5). The end of switching a card on looks the same.
    Kept,
}

/// The registers of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// Cards come and go.
    pub hot_plug: bool,
    /// Slot control.
    pub control: u16,
    /// Slot status.
    pub status: u16,
    /// Link status says that the data link layer is up.
    pub link: bool,
}

impl SlotState {
    /// After power-on or reset: a card that is there has power.
    pub fn new(hot_plug: bool, occupied: bool) -> Self {
        use control::*;
        let power = match occupied {
            true => POWER_INDICATOR_ON,
            false => POWER_INDICATOR_OFF | POWER_OFF,
        };
        SlotState {
            hot_plug,
            control: match hot_plug {
                true => ATTENTION_INDICATOR_OFF | power,
                false => 0,
            },
            status: if occupied { status::PRESENT } else { 0 },
            link: occupied,
        }
    }

    /// Whether a card is there.
    pub fn occupied(&self) -> bool {
        self.status & status::PRESENT != 0
    }

    /// Whether the card has power.
    pub fn powered(&self) -> bool {
        self.control & control::POWER_OFF == 0
    }

    /// Whether there is something to interrupt the guest for (section 6.7.3.4).
    pub fn wants_interrupt(&self) -> bool {
        let events = self.status & self.control & control::EVENTS != 0;
        let link = self.status & status::LINK_CHANGED != 0
            && self.control & control::LINK_CHANGED_ENABLE != 0;
        self.control & control::INTERRUPT != 0 && (events || link)
    }

    /// A card was put in. The button is pressed too: guests that have one wait for that.
    pub fn insert(&mut self) {
        self.status |= status::PRESENT | status::PRESENCE_CHANGED;
        if self.hot_plug {
            self.status |= status::ATTENTION;
        }
        self.train();
    }

    /// The card was taken out.
    pub fn remove(&mut self) {
        self.status &= !status::PRESENT;
        self.status |= status::PRESENCE_CHANGED;
        self.train();
    }

    /// The host wants the card back.
    pub fn request_unplug(&mut self) -> Unplug {
        if !self.hot_plug {
            return Unplug::Unsupported;
        }
        if self.control & control::POWER_INDICATOR == control::POWER_INDICATOR_BLINK {
            return Unplug::Busy;
        }
        if self.is_off(self.control) {
            return Unplug::AtOnce;
        }
        self.status |= status::ATTENTION;
        Unplug::Asked
    }

    /// The guest wrote slot control, which was `before`. Guests that only write again what is there
    /// do not let go of the card.
    pub fn commanded(&mut self, before: u16) -> Commanded {
        if !self.hot_plug {
            return Commanded::Nothing;
        }
        self.train();
        let indicator = |control| control & control::POWER_INDICATOR;
        let blinked = indicator(before) == control::POWER_INDICATOR_BLINK;
        let on = indicator(self.control) == control::POWER_INDICATOR_ON;
        if !self.occupied() {
            Commanded::Nothing
        } else if self.is_off(self.control) && !self.is_off(before) {
            Commanded::LetGo
        } else if blinked && on && self.powered() {
            Commanded::Kept
        } else {
            Commanded::Nothing
        }
    }

    fn is_off(&self, control: u16) -> bool {
        let indicator = control & control::POWER_INDICATOR;
        control & control::POWER_OFF != 0 && indicator == control::POWER_INDICATOR_OFF
    }

    /// The link comes up with a card that has power.
    fn train(&mut self) {
        let link = self.occupied() && self.powered();
        if link != self.link {
            self.link = link;
            self.status |= status::LINK_CHANGED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::control::*;
    use super::status::*;
    use super::*;

    const OFF: u16 = ATTENTION_INDICATOR_OFF | POWER_INDICATOR_OFF | POWER_OFF;
    const ON: u16 = ATTENTION_INDICATOR_OFF | POWER_INDICATOR_ON;
    const BLINK: u16 = ATTENTION_INDICATOR_OFF | POWER_INDICATOR_BLINK;

    enum Step {
        Insert,
        Remove,
        Request(Unplug),
        /// Slot control, and what that comes to.
        Write(u16, Commanded),
        /// Ones are written to slot status.
        Clear(u16),
    }
    use Commanded::{Kept, LetGo, Nothing};
    use Step::*;

    fn run(mut slot: SlotState, steps: &[(Step, u16, bool)]) {
        for (index, (step, status, link)) in steps.iter().enumerate() {
            match step {
                Insert => slot.insert(),
                Remove => slot.remove(),
                Request(answer) => assert_eq!(slot.request_unplug(), *answer, "step {index}"),
                Write(control, answer) => {
                    let before = std::mem::replace(&mut slot.control, *control);
                    assert_eq!(slot.commanded(before), *answer, "step {index}");
                }
                Clear(bits) => slot.status &= !bits,
            }
            assert_eq!((slot.status, slot.link), (*status, *link), "step {index}");
        }
    }

    const ALL: u16 = ATTENTION | PRESENCE_CHANGED | LINK_CHANGED;

    #[test]
    fn a_card_comes_and_goes() {
        let inserted = PRESENT | PRESENCE_CHANGED | ATTENTION;
        let powered = PRESENT | LINK_CHANGED;
        let off = PRESENT | LINK_CHANGED;
        run(
            SlotState::new(true, false),
            &[
                (Insert, inserted, false),
                (Clear(ALL), PRESENT, false),
                (Write(BLINK | POWER_OFF, Nothing), PRESENT, false),
                (Request(Unplug::Busy), PRESENT, false),
                (Clear(ALL), PRESENT, false),
                (Write(BLINK, Nothing), powered, true),
                (Clear(ALL), PRESENT, true),
                (Write(ON, Kept), PRESENT, true),
                (Clear(ALL), PRESENT, true),
                (Request(Unplug::Asked), PRESENT | ATTENTION, true),
                (Clear(ALL), PRESENT, true),
                (Write(BLINK, Nothing), PRESENT, true),
                (Request(Unplug::Busy), PRESENT, true),
                (Clear(ALL), PRESENT, true),
                (Write(BLINK | POWER_OFF, Nothing), off, false),
                (Write(OFF, LetGo), off, false),
                (Remove, LINK_CHANGED | PRESENCE_CHANGED, false),
                (Clear(ALL), 0, false),
                (Write(OFF, Nothing), 0, false),
            ],
        );
    }

    #[test]
    fn a_request_that_the_guest_cancels_can_be_made_again() {
        run(
            SlotState::new(true, true),
            &[
                (Request(Unplug::Asked), PRESENT | ATTENTION, true),
                (Clear(ALL), PRESENT, true),
                (Write(BLINK, Nothing), PRESENT, true),
                (Write(ON, Kept), PRESENT, true),
                (Write(ON, Nothing), PRESENT, true),
                (Clear(ALL), PRESENT, true),
                (Request(Unplug::Asked), PRESENT | ATTENTION, true),
            ],
        );
    }

    #[test]
    fn a_card_without_power_goes_at_once() {
        let there = PRESENT | PRESENCE_CHANGED | ATTENTION;
        run(
            SlotState::new(true, false),
            &[
                (Insert, there, false),
                (Request(Unplug::AtOnce), there, false),
                (Remove, PRESENCE_CHANGED | ATTENTION, false),
            ],
        );
    }

    #[test]
    fn a_slot_that_was_switched_on_early_has_a_link_at_once() {
        run(
            SlotState::new(true, false),
            &[
                (Write(ON, Nothing), 0, false),
                (Clear(ALL), 0, false),
                (Insert, ALL | PRESENT, true),
                (Remove, ALL, false),
            ],
        );
    }

    #[test]
    fn what_was_off_already_is_not_let_go_again() {
        run(
            SlotState::new(true, false),
            &[
                (Insert, PRESENT | PRESENCE_CHANGED | ATTENTION, false),
                (Clear(ALL), PRESENT, false),
                (Write(OFF | INTERRUPT, Nothing), PRESENT, false),
            ],
        );
    }

    #[test]
    fn a_fixed_slot_does_nothing() {
        run(
            SlotState::new(false, true),
            &[
                (Request(Unplug::Unsupported), PRESENT, true),
                (Write(OFF, Nothing), PRESENT, true),
            ],
        );
        assert!(SlotState::new(false, false).powered());
    }

    #[test]
    fn interrupts_need_their_enables() {
        for (control, status, wanted) in [
            (0, ALL, false),
            (INTERRUPT, ALL, false),
            (INTERRUPT | ATTENTION, ATTENTION, true),
            (ATTENTION, ATTENTION, false),
            (INTERRUPT | ATTENTION, PRESENCE_CHANGED, false),
            (INTERRUPT | PRESENCE_CHANGED, PRESENCE_CHANGED, true),
            (INTERRUPT | LINK_CHANGED_ENABLE, LINK_CHANGED, true),
            (INTERRUPT | LINK_CHANGED_ENABLE, ATTENTION, false),
            (INTERRUPT | EVENTS, LINK_CHANGED, false),
        ] {
            let slot = SlotState {
                control,
                status,
                ..SlotState::new(true, true)
            };
            assert_eq!(slot.wants_interrupt(), wanted, "{control:#x} {status:#x}");
        }
    }
}
