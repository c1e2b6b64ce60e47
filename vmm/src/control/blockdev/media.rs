//! Trays and media: what the commands about them do, step by step.

use std::sync::{Arc, Mutex};

use api_spec::{BlockdevChangeReadOnlyMode as Mode, QmpError, QmpResult};
use block::{BackendName, ChildSpec, FileOpener, Hold, NodeSpec, Perms, Slot, TrayLocked};
use devices::bus::lock;

use super::{Blockdevs, Refusal, filename};

/// Which device a command is about, from the two members of which it has one.
///
/// # Errors
/// When there are none or both.
pub fn backend_name<'a>(
    device: Option<&'a str>,
    id: Option<&'a str>,
) -> QmpResult<BackendName<'a>> {
    match (device, id) {
        (Some(name), None) => Ok(BackendName::Drive(name)),
        (None, Some(id)) => Ok(BackendName::Device(id)),
        (None, None) | (Some(_), Some(_)) => {
            Err(QmpError::generic("Need exactly one of 'device' and 'id'"))
        }
    }
}

/// Where the object tree has the device of that id.
pub fn device_path(id: &str) -> String {
    match id.starts_with('/') {
        true => id.to_owned(),
        false => format!("/machine/peripheral/{id}"),
    }
}

/// The id of the device with that path, or the path where it has none; parts inside of devices
/// have none.
pub(super) fn device_id(path: &str) -> &str {
    let id = path.strip_prefix("/machine/peripheral/");
    id.filter(|id| !id.contains('/')).unwrap_or(path)
}

/// A tray that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrayMoved {
    /// The drive's name, or nothing.
    pub drive: String,
    /// The device's id or path.
    pub device: String,
    /// It is open now.
    pub open: bool,
}

/// A medium to put in. Its node is there already.
pub struct NewMedium(Hold);

/// A device's place for a medium, while something is done with it. The steps block, and are for a
/// worker thread.
pub struct Place {
    slot: Slot,
    /// The device in the client's words.
    words: String,
    /// Commands about media are done one after the other: none sees the steps of another.
    turn: Arc<Mutex<()>>,
    /// What the tray did so far.
    pub moved: Vec<TrayMoved>,
}

/// Why a tray does not open.
enum Stuck {
    NotRemovable,
    NoTray,
    Locked,
}

impl Place {
    /// Waits until nobody else does something with a medium, and does it.
    pub fn in_turn<T>(&mut self, act: impl FnOnce(&mut Place) -> T) -> T {
        let turn = self.turn.clone();
        let _turn = lock(&turn);
        act(self)
    }

    /// eject.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn eject(&mut self, force: bool) -> QmpResult<()> {
        self.make_open(force)?;
        self.remove()
    }

    /// blockdev-open-tray. A guest that locked the tray is asked, and that is all.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn open(&mut self, force: bool) -> QmpResult<()> {
        match self.open_tray(force) {
            Ok(()) | Err(Stuck::NoTray | Stuck::Locked) => Ok(()),
            Err(stuck @ Stuck::NotRemovable) => Err(self.refusal(&stuck)),
        }
    }

    /// blockdev-close-tray.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn close(&mut self) -> QmpResult<()> {
        if !self.slot.is_removable() {
            return Err(self.refusal(&Stuck::NotRemovable));
        }
        if self.slot.media().is_some_and(|media| media.close_tray()) {
            self.moved(false);
        }
        Ok(())
    }

    /// blockdev-remove-medium.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn remove(&mut self) -> QmpResult<()> {
        if !self.slot.is_removable() {
            return Err(self.refusal(&Stuck::NotRemovable));
        }
        if self.is_shut() {
            let text = format!("Tray of device '{}' is not open", self.words);
            return Err(QmpError::generic(text));
        }
        let had = self.slot.medium().is_some();
        let quiet = self.slot.drain();
        let removed = self.slot.take_out(&quiet).map_err(Refusal::from)?;
        drop(quiet);
        drop(removed);
        if had {
            self.tell_trayless();
        }
        Ok(())
    }

    /// blockdev-insert-medium.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn insert(&mut self, node: &str) -> QmpResult<()> {
        if !self.slot.is_removable() {
            return Err(QmpError::generic("Device is not removable"));
        }
        if self.is_shut() {
            return Err(QmpError::generic("Tray of the device is not open"));
        }
        let quiet = self.slot.drain();
        self.slot.put_in(node, &quiet).map_err(Refusal::from)?;
        drop(quiet);
        self.tell_trayless();
        Ok(())
    }

    /// blockdev-change-medium. Where the new medium does not fit after all, the old one is put in
    /// again.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn change(&mut self, medium: &NewMedium, force: bool) -> QmpResult<()> {
        let former = self.slot.keep();
        self.make_open(force)?;
        self.remove()?;
        let inserted = self.insert(medium.0.name());
        if inserted.is_err()
            && let Some(former) = former
            && let Err(error) = self.insert(former.name())
        {
            log::error!("Could not put a medium in again: {error}");
        }
        self.close()?;
        inserted
    }

    /// drive_del: the device, if there is one, is left without a medium.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn abandon(&mut self) -> QmpResult<()> {
        let quiet = self.slot.drain();
        let removed = self.slot.abandon(&quiet).map_err(Refusal::from)?;
        drop(quiet);
        drop(removed);
        Ok(())
    }

    /// Opens the tray if there is one.
    fn make_open(&mut self, force: bool) -> QmpResult<()> {
        match self.open_tray(force) {
            Ok(()) | Err(Stuck::NoTray) => Ok(()),
            Err(stuck) => Err(self.refusal(&stuck)),
        }
    }

    fn open_tray(&mut self, force: bool) -> Result<(), Stuck> {
        if !self.slot.is_removable() {
            return Err(Stuck::NotRemovable);
        }
        let media = self.slot.media();
        let media = media.filter(|media| media.tray().is_some());
        match media.ok_or(Stuck::NoTray)?.open_tray(force) {
            Ok(true) => self.moved(true),
            Ok(false) => {}
            Err(TrayLocked) => return Err(Stuck::Locked),
        }
        Ok(())
    }

    fn refusal(&self, stuck: &Stuck) -> QmpError {
        let words = &self.words;
        QmpError::generic(match stuck {
            Stuck::NotRemovable => format!("Device '{words}' is not removable"),
            Stuck::NoTray => format!("Device '{words}' does not have a tray"),
            Stuck::Locked => format!(
                "Device '{words}' is locked and force was not specified, wait for tray to open \
                 and try again"
            ),
        })
    }

    fn is_shut(&self) -> bool {
        let tray = self.slot.media().and_then(|media| media.tray());
        tray.is_some_and(|tray| !tray.open)
    }

    /// Devices with a tray learn of a medium when it closes.
    fn tell_trayless(&self) {
        if let Some(media) = self.slot.media()
            && media.tray().is_none()
        {
            media.medium_changed();
        }
    }

    fn moved(&mut self, open: bool) {
        self.moved.push(TrayMoved {
            drive: self.slot.drive().to_owned(),
            device: device_id(self.slot.device().unwrap_or("")).to_owned(),
            open,
        });
    }
}

impl Blockdevs {
    /// The place of a device's or a drive's medium.
    pub fn place(&self, name: BackendName<'_>) -> Option<Place> {
        Some(Place {
            slot: self.graph.slot(name)?,
            words: name.text().to_owned(),
            turn: self.media_turn.clone(),
            moved: Vec::new(),
        })
    }

    /// Refuses nodes that cannot be put in.
    ///
    /// # Errors
    /// When there is none of that name, or a device or a job has it.
    pub fn check_free(&self, node: &str) -> Result<(), Refusal> {
        match self.graph.is_in_use(node)? {
            true => {
                let text = format!("Node '{node}' is already in use");
                Err(QmpError::generic(text).into())
            }
            false => Ok(()),
        }
    }

    /// Opens a file for blockdev-change-medium.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new_medium(
        &self,
        place: &Place,
        file: &str,
        format: Option<&str>,
        mode: Mode,
        opener: &mut dyn FileOpener,
    ) -> Result<NewMedium, Refusal> {
        let habits = place.slot.habits();
        let read_only = match mode {
            Mode::Retain => habits.read_only,
            Mode::ReadOnly => true,
            Mode::ReadWrite => false,
        };
        let spec = NodeSpec {
            read_only: Some(read_only),
            auto_read_only: Some(false),
            direct: Some(habits.direct),
            no_flush: Some(habits.no_flush),
            detect_zeroes: habits.detect_zeroes,
            ..filename::image(file, format, opener)?
        };
        let child = ChildSpec::Inline(spec);
        let hold = self.graph.hold(child, Perms::NONE, opener)?;
        self.warn_of_guess(hold.name(), file);
        Ok(NewMedium(hold))
    }

    /// As in [`Self::attach`], for a device that can live without a medium.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn attach_removable(
        &self,
        drive: Option<&str>,
        device: &str,
        options: block::AttachOptions,
        owner: &str,
    ) -> Result<Arc<block::Attachment>, Refusal> {
        let attached = self.graph.attach_removable(drive, device, options);
        attached
            .map(Arc::new)
            .map_err(|error| super::for_owner(error, owner))
    }
}

#[cfg(test)]
#[path = "media_test.rs"]
mod tests;
