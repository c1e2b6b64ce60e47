//! Devices that come and go while the program runs.

use api_spec::keyval::{Flags, decode_keyval};
use api_spec::{DeviceOptions, ErrorClass, Event, QmpError, QmpResult};

use super::{Control, flush};
use crate::event::Done;
use crate::machine::{Gone, Removed};

impl Control {
    /// device_add.
    ///
    /// # Errors
    /// As `-device`; nothing is left of it then.
    pub(super) fn device_add(&mut self, options: DeviceOptions) -> QmpResult<()> {
        trace::point!(DEVICE_ADD, driver = options.driver.name());
        self.check_not_migrating("device_add")?;
        Ok(self.plug(options, false)?)
    }

    /// device_add as text.
    ///
    /// # Errors
    /// The same, and what is wrong with the text.
    pub(super) fn add_by_text(&mut self, text: &str) -> QmpResult<()> {
        let options = decode_keyval(text, Some("driver"), Flags::Refused)?;
        self.device_add(options)
    }

    /// device_del: asks the guest, where it has the device.
    ///
    /// # Errors
    /// In QEMU's words, when the device is not there or has to stay.
    pub(super) fn device_del(&mut self, name: &str) -> QmpResult<()> {
        trace::point!(DEVICE_DEL, id = name);
        self.check_not_migrating("device_del")?;
        let Some(machine) = &mut self.machine else {
            return Err(QmpError::device_not_found(name));
        };
        let removed = machine.request_unplug(name).map_err(|error| {
            let is_there = name.starts_with('/') && self.list_object(name).is_ok();
            match error.class {
                ErrorClass::DeviceNotFound if is_there => {
                    QmpError::generic(format!("{name} is not a device"))
                }
                _ => error,
            }
        })?;
        self.free_removed(removed, None);
        Ok(())
    }

    /// The guest let go of what is in the slot of this port, and waits for `done`.
    pub(super) fn ejected(&mut self, port: &str, done: Option<Done>) {
        let removed = self.machine.as_mut();
        let removed = removed.and_then(|machine| machine.eject_behind(port));
        self.free_removed(removed, done);
    }

    /// The guest does not let go of what is in the slot of the port `port`: what was asked of it
    /// has failed.
    pub(super) fn kept(&mut self, port: &str) {
        let machine = self.machine.as_mut();
        let kept = machine.map(|machine| machine.call_off_behind(port));
        for Gone { id, path } in kept.unwrap_or_default() {
            self.emit(Event::DeviceUnplugGuestError { device: id, path });
        }
    }

    /// The guest let go of what is in these slots of the bus with ACPI hot-plug, and waits for
    /// `done`.
    pub(super) fn ejected_slots(&mut self, slots: u32, done: Option<Done>) {
        let removed = self.machine.as_mut();
        let removed = removed.and_then(|machine| machine.eject_slots(slots));
        self.free_removed(removed, done);
    }

    /// The machine is about to be reset.
    pub(super) fn complete_unplugs(&mut self) {
        let removed = self.machine.as_mut();
        let removed = removed.and_then(|machine| machine.complete_unplugs());
        self.free_removed(removed, None);
    }

    /// Frees what devices used that are out of their places, on a worker thread, and tells
    /// watchers then. What the guest wrote is durable before.
    ///
    /// A guest that waits does so until their requests are done, because the memory is its own
    /// again then; control does not, because the host may take any time with a request.
    fn free_removed(&mut self, removed: Option<Removed>, waiting: Option<Done>) {
        let Some(removed) = removed else {
            return;
        };
        self.migration_fails("The guest let a device go while the machine was on its way");
        if waiting.is_none() {
            // The machine may be stopped, or begin anew, as soon as this returns.
            removed.stop_queues();
        }
        let (gone, ticket) = (removed.gone.clone(), removed.ticket);
        let paths: Vec<&str> = gone.iter().map(|gone| gone.path.as_str()).collect();
        let nodes = self.blockdevs.written_by(&paths);
        let underway = self.unfinished.begin();
        let told = gone.clone();
        let mut removed = removed;
        let work = move || {
            removed.stop_queues();
            drop(waiting);
            removed.settle();
            flush(nodes);
            removed.free();
            drop(underway);
        };
        let started = self.do_slowly(work, move |control, ()| control.are_gone(ticket, told));
        if let Err(error) = started {
            // What they used was freed right here, with the work.
            log::warn!("No thread to close what a device used: {error}");
            self.are_gone(ticket, gone);
        }
    }

    fn are_gone(&mut self, ticket: u64, gone: Vec<Gone>) {
        if let Some(machine) = &mut self.machine {
            machine.has_left(ticket);
        }
        for Gone { id, path } in gone {
            self.emit(Event::DeviceDeleted { device: id, path });
        }
    }
}
