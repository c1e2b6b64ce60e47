//! Text commands about character devices.

use api_spec::{ChardevAddArgs, ChardevReturn, MonitorId, QmpResult, Reply};

use super::text::said;
use crate::control::Control;
use crate::control::chardev_orders::{Change, ChardevOrder};
use crate::control::chardevs::Caller;
use crate::control::hmp::{self, ChardevLine};

impl Control {
    pub(super) fn run_chardev(
        &mut self,
        monitor: MonitorId,
        line: ChardevLine,
        reply: Reply<String>,
    ) {
        let (id, backend, change) = match line {
            ChardevLine::Add(ChardevAddArgs { id, backend }) => {
                (id, backend, Change::Add(Caller::CommandLine))
            }
            ChardevLine::Change(id, backend) => (id, backend, Change::Replace),
            ChardevLine::Remove(id) => return plain(reply, self.chardevs.remove(&id)),
            ChardevLine::SendBreak(id) => return plain(reply, self.chardevs.send_break(&id)),
        };
        let label = id.clone();
        let order = ChardevOrder {
            id,
            backend,
            change,
        };
        self.order_chardev(monitor, order, reply, move |made| {
            Ok(hmp::wire(&said(made.map(|made| redirected(&label, &made)))))
        });
    }
}

fn plain(reply: Reply<String>, result: QmpResult<()>) {
    reply.send(Ok(hmp::wire(&said(result.map(|()| String::new())))));
}

fn redirected(label: &str, made: &ChardevReturn) -> String {
    made.pty.as_ref().map_or(String::new(), |path| {
        format!("char device redirected to {path} (label {label})\n")
    })
}
