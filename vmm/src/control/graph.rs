//! Commands that change the block graph: each is done by a worker, and answered then.

use api_spec::reply::Empty;
use api_spec::{Encode, QmpError, QmpResult, Reply};

use super::Control;
use super::blockdev::GraphWork;

impl Control {
    /// Changes the graph on a worker thread, and answers.
    pub(super) fn change_graph<R: Encode + Send + 'static>(
        &mut self,
        reply: Reply<R>,
        work: impl FnOnce(&mut GraphWork) -> QmpResult<R> + Send + 'static,
    ) {
        let machine = self.machine.as_ref();
        let guest_ns = machine.map_or(0, |machine| {
            devices::clock::Clock::now_ns(&**machine.clock())
        });
        let mut graph = self.blockdevs.work(self.fds.opener(), guest_ns);
        self.answer_slowly(reply, move || work(&mut graph), |_, result| result);
    }

    /// The same, where the answer is empty.
    pub(super) fn alter_graph(
        &mut self,
        reply: Reply<Empty>,
        work: impl FnOnce(&mut GraphWork) -> QmpResult<()> + Send + 'static,
    ) {
        self.change_graph(reply, move |graph| work(graph).map(|()| Empty));
    }

    /// blockdev-del: images are closed by a worker.
    pub(super) fn delete_node<R: Encode + Send + 'static>(
        &mut self,
        node_name: &str,
        reply: Reply<R>,
        answer: fn(QmpResult<()>) -> QmpResult<R>,
    ) {
        match self.blockdevs.take_away(node_name) {
            Err(refusal) => reply.send(answer(Err(QmpError::from(refusal)))),
            Ok(removed) => {
                self.answer_slowly(reply, move || drop(removed), move |_, ()| answer(Ok(())));
            }
        }
    }
}
