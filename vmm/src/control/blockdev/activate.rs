//! Disks that are given up for another program, and taken again: the two sides of a migration have
//! the same images open, and one of them uses them.

use api_spec::reply::Empty;
use api_spec::{BlockdevSetActiveArgs, QmpError, QmpResult, Reply};
use block::BlockError;

use super::{Blockdevs, GraphWork, Refusal};
use crate::control::Control;

impl Blockdevs {
    /// From now on images are opened for a machine that is still elsewhere: they are not locked,
    /// not written, and read anew when they are activated. To be called before the first one is
    /// opened; it ends with [`Self::activate`].
    pub fn set_incoming(&self) {
        self.graph.set_incoming(true);
    }

    /// Work for a thread that may block: writes out all that is held back of all images, and lets
    /// go of their locks. Nothing writes them afterwards. The guest stands still. See
    /// [`Control::give_up_disks`], which looks for jobs as well.
    ///
    /// # Errors
    /// In words. All images are as they were then.
    pub fn deactivate(&mut self) -> impl FnOnce() -> QmpResult<()> + Send + use<> {
        let (graph, turn) = (self.graph.clone(), self.turn.clone());
        move || turn.take(|| graph.deactivate(None)).map_err(refused)
    }

    /// Work for a thread that may block: locks all images, and reads anew what may have changed.
    ///
    /// # Errors
    /// In words, when another program has one, or it cannot be read. None is taken then that was
    /// not before.
    pub fn activate(&mut self) -> impl FnOnce() -> QmpResult<()> + Send + use<> {
        let (graph, turn) = (self.graph.clone(), self.turn.clone());
        move || {
            turn.take(|| graph.activate(None)).map_err(refused)?;
            graph.set_incoming(false);
            Ok(())
        }
    }

    /// Whether there is no image at all.
    pub fn has_none(&self) -> bool {
        self.graph.nodes().is_empty()
    }

    /// Whether some image is left to another program, or one that was opened now would be.
    pub fn any_inactive(&self) -> bool {
        self.graph.any_inactive()
    }
}

impl Control {
    /// As [`Blockdevs::deactivate`], unless a job is at work.
    ///
    /// # Errors
    /// When there is such a job, by name.
    pub(in crate::control) fn give_up_disks(
        &mut self,
    ) -> QmpResult<impl FnOnce() -> QmpResult<()> + Send + use<>> {
        self.check_no_jobs()?;
        Ok(self.blockdevs.deactivate())
    }

    /// blockdev-set-active.
    pub(in crate::control) fn set_active(
        &mut self,
        args: BlockdevSetActiveArgs,
        reply: Reply<Empty>,
    ) {
        let BlockdevSetActiveArgs { node_name, active } = args;
        if !active && node_name.is_none() {
            return match self.give_up_disks() {
                Ok(work) => self.answer_slowly(reply, work, |_, given| given.map(|()| Empty)),
                Err(error) => reply.send(Err(error)),
            };
        }
        self.alter_graph(reply, move |graph| {
            graph.set_active(node_name.as_deref(), active)
        });
    }

    /// Refuses to go on while a job is at work: it may write.
    ///
    /// # Errors
    /// The job's name.
    pub(in crate::control) fn check_no_jobs(&self) -> QmpResult<()> {
        match self.jobs.at_work() {
            None => Ok(()),
            Some(id) => Err(QmpError::generic(format!(
                "Job '{id}' is running: block nodes cannot be inactivated"
            ))),
        }
    }
}

impl GraphWork {
    /// blockdev-set-active.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn set_active(&mut self, node: Option<&str>, active: bool) -> QmpResult<()> {
        let GraphWork { graph, turn, .. } = self;
        let set = turn.take(|| match active {
            true => graph.activate(node),
            false => graph.deactivate(node),
        });
        set.map_err(refused)
    }
}

fn refused(error: BlockError) -> QmpError {
    Refusal::from(error).into()
}
