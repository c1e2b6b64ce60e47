//! Saved state of the clocks.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use vmstate::Section;

use super::{GuestClock, RUNNING, TIME, WallSource};
use crate::mirror::is_default;

const VERSION: u32 = 1;
const SECOND: i128 = 1_000_000_000;

/// The virtual clock goes on from where it stood; so does what the wall clock shows, unless it
/// follows the host's: then its distance from that is kept, and time that passes on the way
/// counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClockV1 {
    /// Nanoseconds of the virtual clock.
    #[serde(skip_serializing_if = "is_default")]
    virtual_ns: u64,
    /// What the wall clock follows: `host`, `rt` or `vm`.
    source: String,
    /// Seconds: for the host's clock, what is added to it; for others, what is shown now.
    #[serde(skip_serializing_if = "is_default")]
    wall_seconds: i64,
    /// Nanoseconds beside them.
    #[serde(skip_serializing_if = "is_default")]
    wall_ns: u32,
}

impl WallSource {
    const fn name(self) -> &'static str {
        match self {
            WallSource::Host => "host",
            WallSource::Rt => "rt",
            WallSource::Vm => "vm",
        }
    }
}

impl GuestClock {
    /// Id and instance of its section.
    pub const SECTION: (&str, &str) = ("clock", "/machine");

    /// The clocks by value. They stand still.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn save(&self) -> Result<Section, String> {
        let mut wall = *self.wall_base();
        if self.wall_source != WallSource::Host {
            wall += self.wall_since();
        }
        let (id, instance) = Self::SECTION;
        let state = ClockV1 {
            virtual_ns: self.state.load(Ordering::Acquire) & TIME,
            source: self.wall_source.name().to_owned(),
            wall_seconds: i64::try_from(wall.div_euclid(SECOND)).unwrap_or(0),
            wall_ns: u32::try_from(wall.rem_euclid(SECOND)).unwrap_or(0),
        };
        Section::pack(id, instance, VERSION, &state).map_err(|error| error.to_string())
    }

    /// Sets the clocks, which stand still. To be called before devices are restored: they set
    /// their timers anew by these clocks. Those that are the host's business, and no device's
    /// state, ring after the time that was left of them.
    ///
    /// # Errors
    /// When the section is of another kind, version or shape, or clocks follow something else
    /// here.
    pub fn restore(&self, section: &Section) -> Result<(), String> {
        let (id, _) = Self::SECTION;
        let state: ClockV1 = section
            .unpack(id, VERSION)
            .map_err(|error| error.to_string())?;
        let ClockV1 {
            virtual_ns,
            source,
            wall_seconds,
            wall_ns,
        } = state;
        if source != self.wall_source.name() {
            return Err(format!(
                "Section '{id}': source: the real-time clock follows '{source}', and '{}' here",
                self.wall_source.name()
            ));
        }
        if virtual_ns & RUNNING != 0 || i128::from(wall_ns) >= SECOND {
            return Err(format!("Section '{id}': a time that is none"));
        }
        let before = self.state.swap(virtual_ns, Ordering::AcqRel) & TIME;
        let mut wall = i128::from(wall_seconds) * SECOND + i128::from(wall_ns);
        if self.wall_source != WallSource::Host {
            wall -= self.wall_since();
        }
        *self.wall_base() = wall;
        let mut queue = self.queue();
        queue.shift(before, virtual_ns);
        self.set_alarm(&mut queue);
        Ok(())
    }
}
