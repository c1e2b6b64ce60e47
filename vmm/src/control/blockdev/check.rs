//! blockdev-check: looks for damage in images.

use std::sync::{Arc, Mutex};

use api_spec::{BlockdevCheckFix, ImageCheck};
use block::{BlockError, CheckReport, ChildSpec, FileOpener, Graph, Hold, Perms, Repair};
use devices::bus::lock;

use super::{Blockdevs, Refusal, query};

/// Work on images themselves, one at a time: [`block::Image`] asks for that. A leaf that is held
/// for the time of the work, by worker threads.
#[derive(Debug, Clone, Default)]
pub struct ImageTurn(Arc<Mutex<()>>);

impl ImageTurn {
    /// Waits until nobody else works on an image, and works.
    pub fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = lock(&self.0);
        work()
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
    /// Checks, while requests of devices wait. Blocks.
    ///
    /// # Errors
    /// When the format has no check, or the image cannot be read or mended.
    pub fn run(self) -> Result<ImageCheck, Refusal> {
        let report = self.turn.take(|| {
            let quiet = self.graph.drain(&[self.hold.name()])?;
            let node = self.hold.node();
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
