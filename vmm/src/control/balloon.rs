//! The balloon: how much memory the guest has.

use std::sync::Arc;

use api_spec::{BalloonArgs, BalloonInfo, ErrorClass, Event, QmpError, QmpResult};
use devices::discard::GUEST_PAGE;
use devices::virtio::balloon::Balloon;

use super::Control;

impl Control {
    fn balloon_device(&self) -> QmpResult<&Arc<Balloon>> {
        let found = self.machine.as_ref().and_then(|machine| machine.balloon());
        found.ok_or_else(|| {
            QmpError::new(
                ErrorClass::DeviceNotActive,
                "No balloon device has been activated",
            )
        })
    }

    /// balloon: asks the guest to keep `value` bytes.
    ///
    /// # Errors
    /// When there is no balloon, or the size is none.
    pub(super) fn set_balloon(&mut self, args: &BalloonArgs) -> QmpResult<()> {
        let balloon = self.balloon_device()?;
        let wanted = u64::try_from(args.value).ok().filter(|value| *value > 0);
        let wanted = wanted.ok_or_else(|| QmpError::wrong_value("value", "a size"))?;
        let pages = self.ram_size().saturating_sub(wanted) / GUEST_PAGE;
        balloon.set_target(u32::try_from(pages).unwrap_or(u32::MAX));
        Ok(())
    }

    /// query-balloon.
    ///
    /// # Errors
    /// When there is no balloon.
    pub(super) fn balloon_info(&self) -> QmpResult<BalloonInfo> {
        let pages = self.balloon_device()?.actual();
        Ok(BalloonInfo {
            actual: self.left_by_balloon(pages),
        })
    }

    /// The driver says that so many pages are in the balloon.
    pub(super) fn balloon_changed(&mut self, pages: u32) {
        let actual = self.left_by_balloon(pages);
        self.emit(Event::BalloonChange { actual });
    }

    /// Bytes that are left to the guest; what a driver says may make no sense.
    fn left_by_balloon(&self, pages: u32) -> i64 {
        let size = i64::try_from(self.ram_size()).unwrap_or(i64::MAX);
        let inside = i64::from(pages).saturating_mul(GUEST_PAGE as i64);
        size.saturating_sub(inside)
    }

    fn ram_size(&self) -> u64 {
        self.machine
            .as_ref()
            .map_or(0, |machine| machine.ram_size())
    }
}
