//! Text commands about what the guest has and does.

use std::fmt::Write;

use api_spec::{BalloonArgs, QmpError};

use super::text::said;
use crate::control::Control;
use crate::control::hmp::GuestLine;

impl Control {
    pub(super) fn run_guest(&mut self, line: GuestLine) -> Result<String, QmpError> {
        match line {
            GuestLine::Balloon { value } => self.set_balloon(&BalloonArgs { value })?,
            GuestLine::Watchdog(action) => self.life.policy_mut().watchdog = action,
        }
        Ok(String::new())
    }

    pub(super) fn tell_io_threads(&self) -> String {
        let mut text = String::new();
        for info in self.objects.io_threads() {
            let _ = writeln!(text, "{}:", info.id);
            for (name, value) in [
                ("thread_id", info.thread_id),
                ("poll-max-ns", info.poll_max_ns),
                ("poll-grow", info.poll_grow),
                ("poll-shrink", info.poll_shrink),
                ("aio-max-batch", info.aio_max_batch),
            ] {
                let _ = writeln!(text, "  {name}={value}");
            }
        }
        text
    }

    pub(super) fn tell_balloon(&self) -> String {
        said(self.balloon_info().map(|info| {
            let mebibytes = info.actual >> 20;
            format!("balloon: actual={mebibytes}\n")
        }))
    }
}
