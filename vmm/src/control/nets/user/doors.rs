//! The character devices that guest forwards lead to, taken by control before a worker opens the
//! network.

use api_spec::{ChardevBackend, Mode, NetdevUserOptions, QmpError, QmpResult, decode_value};
use devices::backend::chardev::CharFrontend;

use super::super::{ControlLine, NetCaller};
use super::plan::Plan;
use super::rules::{GuestRule, GuestTarget};
use crate::cli::chardev::{ShortForm, short_form};
use crate::control::Control;
use crate::control::chardevs::Caller;

/// Front ends, and the devices that were made for them and go with them.
#[derive(Default)]
pub struct Doors {
    fronts: Vec<CharFrontend>,
    made: Vec<String>,
    control: Option<ControlLine>,
}

impl Doors {
    /// The front ends, one for each guest forward into a character device, in the order in which
    /// the network makes them.
    pub fn take_fronts(&mut self) -> Vec<CharFrontend> {
        std::mem::take(&mut self.fronts)
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.fronts.clear();
        let Some(control) = self.control.take().filter(|_| !self.made.is_empty()) else {
            return;
        };
        let made = std::mem::take(&mut self.made);
        control.run(move |control| {
            for id in made {
                // Somebody may have removed it.
                let _ = control.chardevs.remove(&id);
            }
        });
    }
}

impl Control {
    /// Takes what the options lead to; checks them first, so that errors come in QEMU's order.
    ///
    /// # Errors
    /// In QEMU's words.
    pub(in crate::control::nets) fn take_doors(
        &mut self,
        caller: NetCaller,
        options: &NetdevUserOptions,
        line: &ControlLine,
    ) -> QmpResult<Doors> {
        let plan = Plan::new(options)?;
        let mut doors = Doors::default();
        doors.control = Some(line.clone());
        for (_, rule) in &plan.guest_rules {
            let GuestTarget::Chardev(device) = &rule.to else {
                continue;
            };
            self.take_door(rule, device, caller, &mut doors)?;
        }
        Ok(doors)
    }

    fn take_door(
        &mut self,
        rule: &GuestRule,
        device: &str,
        caller: NetCaller,
        doors: &mut Doors,
    ) -> QmpResult<()> {
        let own = rule.chardev_id();
        let refused =
            || QmpError::generic(format!("Could not open guest forwarding device '{own}'"));
        let id = match short_form(device) {
            Ok(ShortForm::Existing(id)) => id,
            Ok(ShortForm::New {
                backend,
                mux: false,
            }) => {
                let backend: ChardevBackend = decode_value(backend, Mode::Lenient)?;
                let caller = match caller {
                    NetCaller::CommandLine => Caller::CommandLine,
                    NetCaller::Command | NetCaller::Text => Caller::Command,
                };
                let added = self.chardevs.add(caller, &own, &backend, &mut |_| None);
                added.map_err(|error| {
                    log::error!("{}", error.desc);
                    refused()
                })?;
                doors.made.push(own.clone());
                own.clone()
            }
            Ok(ShortForm::None | ShortForm::New { .. }) => return Err(refused()),
            Err(why) => {
                log::error!("{why}");
                return Err(refused());
            }
        };
        let front = self.chardevs.take_frontend(&id);
        doors.fronts.push(front.map_err(|error| {
            log::debug!("{}", error.describe("netdev").desc);
            refused()
        })?);
        Ok(())
    }
}
