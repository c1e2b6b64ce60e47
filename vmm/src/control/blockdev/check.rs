//! blockdev-check: looks for damage in images.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use api_spec::{BlockdevCheckFix, ImageCheck};
use block::{BlockError, CheckReport, ChildSpec, FileOpener, Graph, Hold, Perms, Repair};
use devices::bus::lock;

use super::{Blockdevs, Refusal, query};

/// Work on images themselves, one at a time: [`block::Image`] asks for that. Held for the time of
/// the work, by worker threads.
#[derive(Debug, Clone, Default)]
pub struct ImageTurn(Arc<Turn>);

#[derive(Debug, Default)]
struct Turn {
    /// A leaf.
    state: Mutex<TurnState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TurnState {
    taken: bool,
    over: bool,
}

/// Gives the turn back, also when the work panics.
struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).taken = false;
        self.0.changed.notify_one();
    }
}

impl ImageTurn {
    /// Waits until nobody else works on an image, and works.
    ///
    /// # Errors
    /// Those of the work; and when the program ends before its turn comes.
    pub fn take<T>(&self, work: impl FnOnce() -> Result<T, BlockError>) -> Result<T, BlockError> {
        let state = lock(&self.0.state);
        let waited = self
            .0
            .changed
            .wait_while(state, |state| state.taken && !state.over);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.over {
            return Err(BlockError::Unsupported("The program ends".to_owned()));
        }
        state.taken = true;
        drop(state);
        let _taken = Taken(&self.0);
        work()
    }

    /// Nobody's turn comes any more.
    pub fn end(&self) {
        lock(&self.0.state).over = true;
        self.0.changed.notify_all();
    }
}

/// A check that can begin: nobody writes the image until it is dropped.
pub struct Check {
    graph: Graph,
    turn: ImageTurn,
    hold: Hold,
    repair: Repair,
    filename: String,
    format: &'static str,
}

impl Check {
    /// Checks. Blocks, for hours where an image is large. While it may change, requests of devices
    /// wait; one that is only read, such as what is below a running guest's overlay, stays in use.
    ///
    /// # Errors
    /// When the format has no check, or the image cannot be read or mended.
    pub fn run(self) -> Result<ImageCheck, Refusal> {
        let report = self.turn.take(|| {
            let node = self.hold.node();
            let quiet = match node.info().read_only {
                true => None,
                false => Some(self.graph.drain(&[self.hold.name()])?),
            };
            let image = node.image().ok_or_else(no_check)?;
            let report = image.check(self.repair);
            drop(quiet);
            report
        })?;
        for message in &report.messages {
            log::info!("Check of '{}': {message}", self.filename);
        }
        Ok(answer(&self.filename, self.format, &report))
    }
}

fn no_check() -> BlockError {
    BlockError::Unsupported("This image format does not support checks".to_owned())
}

impl Blockdevs {
    /// A check of the image in this node.
    ///
    /// # Errors
    /// When there is no such node, it cannot be checked, or somebody writes it.
    pub fn check(
        &self,
        node: &str,
        fix: BlockdevCheckFix,
        opener: &mut dyn FileOpener,
    ) -> Result<Check, Refusal> {
        let view = self.graph.node(node);
        let view = view.ok_or_else(|| BlockError::NoNode(node.to_owned()))?;
        let repair = match fix {
            BlockdevCheckFix::None => Repair::No,
            BlockdevCheckFix::Leaks => Repair::Leaks,
            BlockdevCheckFix::All => Repair::All,
        };
        let is_image = |hold: &Hold| hold.node().image().is_some();
        let child = ChildSpec::Reference(node.to_owned());
        let perms = Perms::storage(repair != Repair::No);
        let hold = self.graph.hold(child, perms, opener)?;
        if !is_image(&hold) {
            return Err(no_check().into());
        }
        Ok(Check {
            graph: self.graph.clone(),
            turn: self.turn.clone(),
            hold,
            repair,
            filename: view.filename,
            format: view.driver,
        })
    }
}

/// Members that say nothing are left out, as qemu-img does it.
fn answer(filename: &str, format: &str, report: &CheckReport) -> ImageCheck {
    let count = |value: u64| Some(value).filter(|value| *value > 0).map(query::number);
    let known = |value: Option<u64>| value.and_then(count);
    let CheckReport {
        check_errors,
        image_end_offset,
        corruptions,
        leaks,
        corruptions_fixed,
        leaks_fixed,
        total_clusters,
        allocated_clusters,
        fragmented_clusters,
        compressed_clusters,
        messages: _,
    } = report;
    ImageCheck {
        filename: filename.to_owned(),
        format: format.to_owned(),
        check_errors: query::number(*check_errors),
        image_end_offset: known(*image_end_offset),
        corruptions: count(*corruptions),
        leaks: count(*leaks),
        corruptions_fixed: count(*corruptions_fixed),
        leaks_fixed: count(*leaks_fixed),
        total_clusters: known(*total_clusters),
        allocated_clusters: known(*allocated_clusters),
        fragmented_clusters: known(*fragmented_clusters),
        compressed_clusters: known(*compressed_clusters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_turn_at_the_end() {
        let turn = ImageTurn::default();
        assert_eq!(turn.take(|| Ok(1)).unwrap(), 1);
        std::thread::scope(|scope| {
            let (begun, begins) = std::sync::mpsc::channel();
            let (end, ends) = std::sync::mpsc::channel::<()>();
            let other = turn.clone();
            let works = scope.spawn(move || {
                other.take(|| {
                    let _ = begun.send(());
                    let _ = ends.recv();
                    Ok(())
                })
            });
            begins.recv().unwrap();
            let waits = scope.spawn(|| turn.take(|| Ok(())));
            turn.end();
            assert!(waits.join().unwrap().is_err());
            end.send(()).unwrap();
            assert!(works.join().unwrap().is_ok());
        });
        assert!(turn.take(|| Ok(())).is_err());
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let clean = CheckReport {
            image_end_offset: Some(262_144),
            total_clusters: Some(16),
            allocated_clusters: Some(0),
            ..CheckReport::default()
        };
        let answered = api_spec::to_json(&answer("a", "qcow2", &clean));
        assert_eq!(
            answered,
            r#"{"filename": "a", "format": "qcow2", "check-errors": 0, "image-end-offset": 262144, "total-clusters": 16}"#
        );
        let damaged = CheckReport {
            check_errors: 1,
            corruptions: 2,
            leaks: 3,
            corruptions_fixed: 4,
            leaks_fixed: 5,
            ..CheckReport::default()
        };
        let answered = answer("a", "qcow2", &damaged);
        assert_eq!((answered.corruptions, answered.leaks), (Some(2), Some(3)));
        assert_eq!(answered.corruptions_fixed, Some(4));
        assert_eq!(answered.leaks_fixed, Some(5));
    }
}
