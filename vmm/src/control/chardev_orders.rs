//! chardev-add and chardev-change: names of hosts are looked up by a worker, so that control waits
//! for no name server.

use api_spec::{ChardevBackend, ChardevReturn, Encode, MonitorId, QmpResult, Reply};

use super::Control;
use super::chardevs::{Caller, Found, unknown_host};

/// What is to become of a character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is to be made, for somebody who hears of it in these words.
    Add(Caller),
    /// It is to have another host side.
    Replace,
}

/// A character device and its host side.
pub(super) struct ChardevOrder {
    pub id: String,
    pub backend: ChardevBackend,
    pub change: Change,
}

impl Control {
    /// Carries an order of a client of `monitor` out.
    pub(super) fn order_chardev<R: Encode + 'static>(
        &mut self,
        monitor: MonitorId,
        order: ChardevOrder,
        reply: Reply<R>,
        answer: impl FnOnce(QmpResult<ChardevReturn>) -> QmpResult<R> + Send + 'static,
    ) {
        match unknown_host(&order.backend) {
            None => reply.send(answer(self.make_chardev(monitor, &order, None))),
            Some(host) => self.answer_later(
                reply,
                move || host.resolve(),
                move |control, found| answer(control.make_chardev(monitor, &order, Some(found))),
            ),
        }
    }

    fn make_chardev(
        &mut self,
        monitor: MonitorId,
        order: &ChardevOrder,
        found: Found,
    ) -> QmpResult<ChardevReturn> {
        let ChardevOrder {
            id,
            backend,
            change,
        } = order;
        let sockets = &mut self.service.sockets;
        let mut named = |name: &str| {
            let own = self.fds.take(monitor.0, name).ok();
            own.or_else(|| sockets.claim(name))
        };
        match change {
            Change::Add(caller) => self
                .chardevs
                .add_at(*caller, id, backend, &mut named, found),
            Change::Replace => self.chardevs.change(id, backend, &mut named, found),
        }
    }
}
