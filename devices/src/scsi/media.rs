//! The handle on a drive whose medium can be taken out, for the monitor and for the guest's
//! commands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use block::{Attachment, MediaDevice, TrayLocked, TrayView};

use super::attention::Attention;
use super::sense::Sense;
use super::tray::{Force, Loaded, Locked, MediaEvent, Moved, Tray};
use crate::bus::lock;
use crate::cx::EffectSink;
use crate::effect::{Effect, Notice};

/// A drive's tray. Any thread; each call takes a leaf lock for a moment.
///
/// What the monitor moves is the value of the call, and the caller tells of it; what the guest
/// moves is raised as [`Notice::TrayMoved`].
pub struct Media {
    /// The device's key.
    id: String,
    /// Leaf lock, held for a look or a change.
    tray: Mutex<Tray>,
    /// Whether the tray is open, so that requests look without a lock.
    open: AtomicBool,
    attachment: Option<Arc<Attachment>>,
    attention: Arc<Attention>,
    effects: Arc<dyn EffectSink>,
}

impl Media {
    pub(super) fn new(
        id: &str,
        attachment: Option<Arc<Attachment>>,
        attention: Arc<Attention>,
        effects: Arc<dyn EffectSink>,
    ) -> Self {
        Media {
            id: id.to_owned(),
            tray: Mutex::default(),
            open: AtomicBool::new(false),
            attachment,
            attention,
            effects,
        }
    }

    fn loaded(&self) -> Loaded {
        match self.attachment.as_ref().is_some_and(|a| a.has_medium()) {
            true => Loaded::Medium,
            false => Loaded::Empty,
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tray) -> T) -> T {
        let mut tray = lock(&self.tray);
        let result = change(&mut tray);
        self.open.store(tray.open, Ordering::Release);
        result
    }

    /// The monitor opens the tray. The medium stays in the back end until it is taken out there.
    ///
    /// # Errors
    /// When the guest locked it and `force` does not say that this does not count. The guest is
    /// asked to eject then, and may do so later.
    pub fn open_tray(&self, force: Force) -> Result<Moved, Locked> {
        let moved = self.change(|tray| tray.open(force))?;
        if moved == Moved::Opened && self.loaded() == Loaded::Medium {
            self.attention.raise(Sense::MEDIUM_REMOVED);
        }
        Ok(moved)
    }

    /// The monitor closes the tray, with what the back end has now.
    pub fn close_tray(&self) -> Moved {
        let moved = self.change(Tray::close);
        if moved == Moved::Closed {
            self.announce();
        }
        moved
    }

    /// The tray is open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The guest locked the tray.
    pub fn is_locked(&self) -> bool {
        lock(&self.tray).locked
    }

    /// The back end has another medium, or none any more, and the tray did not move for it.
    pub fn medium_changed(&self) {
        self.change(Tray::medium_changed);
        if !self.is_open() {
            self.announce();
        }
    }

    /// Tells the guest of what is in the closed tray.
    fn announce(&self) {
        self.attention.raise(match self.loaded() {
            Loaded::Medium => Sense::MEDIUM_CHANGED,
            Loaded::Empty => Sense::MEDIUM_REMOVED,
        });
    }

    /// Its state.
    pub fn tray(&self) -> Tray {
        *lock(&self.tray)
    }

    pub(super) fn put_tray(&self, tray: Tray) {
        self.change(|own| *own = tray);
    }

    pub(super) fn guest_locks(&self, locked: bool) {
        self.change(|tray| tray.lock(locked));
    }

    pub(super) fn guest_ejects(&self) -> Result<(), Sense> {
        let loaded = self.loaded();
        let moved = self.change(|tray| tray.eject(loaded))?;
        self.tell(moved);
        Ok(())
    }

    /// There is no unit attention, as in QEMU: the guest knows that it did it. Linux, which closes
    /// the tray to mount what is in it, would take the medium for another and give up.
    pub(super) fn guest_loads(&self) {
        let moved = self.change(Tray::close);
        self.tell(moved);
    }

    pub(super) fn take_event(&self) -> (MediaEvent, Loaded) {
        let loaded = self.loaded();
        (self.change(|tray| tray.take_event(loaded)), loaded)
    }

    pub(super) fn reset(&self) {
        let moved = self.change(Tray::reset);
        self.tell(moved);
    }

    fn tell(&self, moved: Moved) {
        let open = match moved {
            Moved::Not => return,
            Moved::Opened => true,
            Moved::Closed => false,
        };
        let device = self.id.clone();
        let notice = Notice::TrayMoved { device, open };
        self.effects.raise(&self.id, Effect::Notice(notice));
    }
}

/// What the commands about media do to the drive.
impl MediaDevice for Media {
    fn tray(&self) -> Option<TrayView> {
        let Tray { open, locked, .. } = Media::tray(self);
        Some(TrayView { open, locked })
    }

    fn open_tray(&self, force: bool) -> Result<bool, TrayLocked> {
        let force = if force { Force::Yes } else { Force::No };
        match Media::open_tray(self, force) {
            Ok(moved) => Ok(moved == Moved::Opened),
            Err(Locked) => Err(TrayLocked),
        }
    }

    fn close_tray(&self) -> bool {
        Media::close_tray(self) == Moved::Closed
    }

    fn medium_changed(&self) {
        Media::medium_changed(self);
    }
}
