//! SCSI: the side of the target. Command blocks become decisions here ([`target`], pure), which
//! [`Unit`] carries out as far as they concern its own state; a controller (virtio-scsi) moves
//! the data.
//!
//! ```text
//! block -> Command::decode -> Unit::begin -> Action -> Progress -> steps for the block layer
//! ```

mod attention;
mod bus;
pub(crate) mod cdb;
mod disc;
mod identity;
mod inquiry;
mod media;
mod mode;
pub(crate) mod progress;
mod props;
mod reply;
pub(crate) mod sense;
mod state;
pub(crate) mod target;
mod tray;
mod unit;

#[cfg(test)]
mod scsi_test;

pub(crate) use bus::{BusEvent, Shared};
pub use bus::{BusLimits, Place, ScsiBus};
pub use identity::{Identity, Kind, Wanted};
pub use media::Media;
pub use props::{plug_cd, plug_disk};
pub use state::{TrayV1, UnitV1};
pub use tray::{Force, Locked, Moved, Tray};
pub use unit::Unit;
