//! Changes of the block graph that wait for requests in flight, or write to images: done by a
//! worker thread.

use std::time::{SystemTime, UNIX_EPOCH};

use api_spec::{
    ActionCompletionMode, BlockResizeArgs, BlockdevOptions, BlockdevSnapshot,
    BlockdevSnapshotApplyArgs, BlockdevSnapshotDeleteInternalSyncArgs, BlockdevSnapshotInternal,
    BlockdevSnapshotSync, ChangeBackingFileArgs, NewImageMode, QmpError, QmpResult, SnapshotInfo,
    TransactionAction, TransactionActionBranch as Action, TransactionArgs, TransactionProperties,
};
use block::{
    BlockError, Changes, ChildSpec, FileCreate, FileOpener, FormatKind, Graph, NewFile, NodeSpec,
    NodeView, Perms, Preallocation, Qcow2Create, QedCreate, Removed, SnapshotView,
};

use super::{Blockdevs, ImageTurn, Refusal, convert, filename, query};
use crate::control::fds::Opener;

/// What a worker needs to change the graph.
pub struct GraphWork {
    pub(super) graph: Graph,
    pub(super) turn: ImageTurn,
    opener: Opener,
    /// The guest's clock in nanoseconds.
    guest_ns: u64,
}

/// A part of a transaction with all that is done before others have to wait.
enum Step {
    Abort,
    Snapshot(BlockdevSnapshot),
    Internal(BlockdevSnapshotInternal),
    /// The node or drive, and the overlay to open.
    Overlay(String, Box<NodeSpec>),
}

impl Blockdevs {
    /// What a worker needs. `guest_ns` is the guest's clock.
    pub fn work(&self, opener: Opener, guest_ns: u64) -> GraphWork {
        GraphWork {
            graph: self.graph.clone(),
            turn: self.turn.clone(),
            opener,
            guest_ns,
        }
    }

    /// Takes a node away for blockdev-del; dropping it closes images, for a worker thread.
    ///
    /// # Errors
    /// In QEMU's words, when the node is not there, is in use or was not made by blockdev-add.
    pub fn take_away(&mut self, node_name: &str) -> Result<Removed, Refusal> {
        Ok(self.graph.del(node_name)?)
    }

    /// The name of the drive right on top of a node, or nothing.
    pub fn drive_on(&self, node: &str) -> String {
        let has =
            |view: &block::BackendView| view.root.as_ref().is_some_and(|root| root.name == node);
        let found = self.graph.backends().into_iter().find(has);
        found.map_or_else(String::new, |view| view.name)
    }

    /// Work that waits for its turn is not done any more: the program ends.
    pub fn end_turns(&self) {
        self.turn.end();
    }

    /// Closes all images, whoever has them: the program ends. Blocks.
    pub fn close(&mut self) {
        drop(self.graph.close());
    }
}

impl GraphWork {
    fn change<T>(
        &mut self,
        names: &[&str],
        act: impl FnOnce(&mut Changes<'_>) -> Result<T, BlockError>,
    ) -> QmpResult<T> {
        let GraphWork {
            graph,
            turn,
            opener,
            ..
        } = self;
        let changed = turn.take(|| graph.change(names, opener, act));
        changed.map_err(refused)
    }

    /// blockdev-reopen.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn reopen(&mut self, options: Vec<BlockdevOptions>) -> QmpResult<()> {
        let specs: Vec<NodeSpec> = options
            .into_iter()
            .map(convert::node)
            .collect::<QmpResult<_>>()?;
        let names: Vec<String> = specs.iter().filter_map(|spec| spec.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.change(&names, |changes| changes.reopen(specs))
    }

    /// blockdev-snapshot.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn snapshot(&mut self, args: &BlockdevSnapshot) -> QmpResult<()> {
        let BlockdevSnapshot { node, overlay } = args;
        self.change(&[node, overlay], |changes| changes.snapshot(node, overlay))
    }

    /// blockdev-snapshot-sync.
    ///
    /// # Errors
    /// In QEMU's words. The overlay's file may be there then.
    pub fn snapshot_sync(&mut self, args: BlockdevSnapshotSync) -> QmpResult<()> {
        let (node, overlay) = self.overlay(args, &[])?;
        self.change(&[&node], |changes| {
            let overlay = changes.open(overlay)?;
            changes.snapshot(&node, &overlay)
        })
    }

    /// blockdev-snapshot-internal-sync.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn snapshot_internal(&mut self, args: BlockdevSnapshotInternal) -> QmpResult<()> {
        let BlockdevSnapshotInternal { device, name } = args;
        let view = self.new_snapshot(name);
        self.change(&[&device], |changes| changes.take_snapshot(&device, &view))
    }

    /// blockdev-snapshot-delete-internal-sync.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn delete_snapshot(
        &mut self,
        args: &BlockdevSnapshotDeleteInternalSyncArgs,
    ) -> QmpResult<SnapshotInfo> {
        let BlockdevSnapshotDeleteInternalSyncArgs { device, id, name } = args;
        let (id, name) = (id.as_deref(), name.as_deref());
        let deleted = self.change(&[device], |changes| {
            changes.delete_snapshot(device, id, name)
        })?;
        Ok(query::snapshot_info(&deleted))
    }

    /// blockdev-snapshot-apply.
    ///
    /// # Errors
    /// In QEMU's words, or when a device has the image.
    pub fn apply_snapshot(&mut self, args: &BlockdevSnapshotApplyArgs) -> QmpResult<SnapshotInfo> {
        let BlockdevSnapshotApplyArgs { device, id, name } = args;
        let (id, name) = (id.as_deref(), name.as_deref());
        let applied = self.change(&[device], |changes| {
            changes.apply_snapshot(device, id, name)
        })?;
        Ok(query::snapshot_info(&applied))
    }

    /// transaction.
    ///
    /// # Errors
    /// In QEMU's words; then nothing was done, but files of overlays may be there.
    pub fn transaction(&mut self, args: TransactionArgs) -> QmpResult<()> {
        let TransactionArgs {
            actions,
            properties,
        } = args;
        check_properties(&actions, properties.as_ref())?;
        let mut steps: Vec<Step> = Vec::new();
        for action in actions {
            let step = self.prepare(action, &steps)?;
            steps.push(step);
        }
        let guest_ns = self.guest_ns;
        self.change(&[], |changes| {
            let mut steps = steps.into_iter();
            steps.try_for_each(|step| carry_out(changes, step, guest_ns))
        })
    }

    fn prepare(&mut self, action: TransactionAction, before: &[Step]) -> QmpResult<Step> {
        Ok(match action.r#type {
            Action::Abort(_) => Step::Abort,
            Action::BlockdevSnapshot(wrapper) => Step::Snapshot(wrapper.data),
            Action::BlockdevSnapshotInternalSync(wrapper) => Step::Internal(wrapper.data),
            Action::BlockdevSnapshotSync(wrapper) => {
                let (node, overlay) = self.overlay(wrapper.data, before)?;
                Step::Overlay(node, Box::new(overlay))
            }
        })
    }

    /// change-backing-file.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn change_backing_file(&mut self, args: &ChangeBackingFileArgs) -> QmpResult<()> {
        let ChangeBackingFileArgs {
            device,
            image_node_name,
            backing_file,
        } = args;
        self.change(&[device], |changes| {
            changes.rename_backing(device, image_node_name, backing_file)
        })
    }

    /// block_resize.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn resize(&mut self, args: &BlockResizeArgs) -> QmpResult<()> {
        let BlockResizeArgs {
            device,
            node_name,
            size,
        } = args;
        let GraphWork {
            graph,
            turn,
            opener,
            ..
        } = self;
        let (device, node) = (device.as_deref(), node_name.as_deref());
        let resized = turn.take(|| graph.resize(device, node, *size, opener));
        resized.map_err(refused)
    }

    fn new_snapshot(&self, name: String) -> SnapshotView {
        snapshot_now(name, self.guest_ns)
    }

    /// Makes the image for an overlay unless it is there; gives the name of what is below it, and
    /// its description. `before` is what is done before in the same transaction.
    fn overlay(
        &mut self,
        args: BlockdevSnapshotSync,
        before: &[Step],
    ) -> QmpResult<(String, NodeSpec)> {
        let BlockdevSnapshotSync {
            device,
            node_name,
            snapshot_file,
            snapshot_node_name,
            format,
            mode,
        } = args;
        let base = self
            .graph
            .overlay_base(device.as_deref(), node_name.as_deref())
            .map_err(refused)?;
        for step in before {
            if let Step::Overlay(node, overlay) = step
                && *node == base.name
            {
                return Err(refused(BlockError::Busy {
                    node: base.name,
                    overlay: overlay.name.clone().unwrap_or_default(),
                }));
            }
        }
        match &snapshot_node_name {
            None if node_name.is_some() => {
                return Err(QmpError::generic("New overlay node-name missing"));
            }
            Some(name) if self.graph.has_name(name) => {
                return Err(QmpError::generic("New overlay node-name already in use"));
            }
            Some(_) | None => {}
        }
        let format = format.as_deref().unwrap_or("qcow2");
        if mode != Some(NewImageMode::Existing) {
            self.make_overlay(&base, &snapshot_file, format)?;
        }
        let spec =
            filename::image(&snapshot_file, Some(format), &mut self.opener).map_err(refused)?;
        let spec = NodeSpec {
            name: snapshot_node_name,
            read_only: Some(base.info.read_only),
            direct: base.spec.direct,
            no_flush: base.spec.no_flush,
            discard: base.spec.discard,
            ..spec
        };
        Ok((base.name, block::without_backing(spec)))
    }

    fn make_overlay(&mut self, base: &NodeView, file: &str, format: &str) -> QmpResult<()> {
        if file == base.filename {
            return Err(QmpError::generic(
                "Error: Trying to create an image with the same filename as the backing file",
            ));
        }
        let size = base.info.size;
        let (backing_file, backing_format) =
            (Some(base.filename.clone()), Some(base.driver.to_owned()));
        match format {
            "qcow2" => {
                let options = Qcow2Create {
                    size,
                    backing_file,
                    backing_format,
                    ..Qcow2Create::default()
                };
                self.make_in(file, |node| block::create_qcow2(node, &options))
            }
            "qed" => {
                let options = QedCreate {
                    size,
                    backing_file,
                    backing_format,
                    cluster_size: None,
                    table_size: None,
                };
                self.make_in(file, |node| block::create_qed(node, &options))
            }
            "raw" => Err(QmpError::generic(
                "Backing file not supported for file format 'raw'",
            )),
            other if FormatKind::by_name(other).is_some() => Err(QmpError::generic(format!(
                "Format driver '{other}' does not support image creation"
            ))),
            other => Err(QmpError::generic(format!("Unknown file format '{other}'"))),
        }
    }

    /// Makes a file, and an image in it.
    fn make_in(
        &mut self,
        file: &str,
        make: impl FnOnce(&dyn block::BlockNode) -> Result<(), BlockError>,
    ) -> QmpResult<()> {
        let opener: &mut dyn FileOpener = &mut self.opener;
        let path = filename::path(file).map_err(refused)?.to_owned();
        if !filename::is_device(&path) {
            let plain = FileCreate {
                filename: path,
                size: 0,
                preallocation: Preallocation::Off,
                nocow: false,
                extent_size_hint: None,
            };
            let made = NewFile::open(plain, opener).and_then(|file| file.fill(&|| true));
            made.map_err(refused)?;
        }
        let spec = filename::file(file, opener).map_err(refused)?;
        let child = ChildSpec::Inline(spec);
        let hold = self.graph.hold(child, Perms::overwriter(), opener);
        let node = hold.map_err(refused)?.node();
        make(&*node).map_err(refused)
    }
}

fn carry_out(changes: &mut Changes<'_>, step: Step, guest_ns: u64) -> Result<(), BlockError> {
    match step {
        Step::Abort => Err(BlockError::Unsupported(
            "Transaction aborted using Abort action".to_owned(),
        )),
        Step::Snapshot(BlockdevSnapshot { node, overlay }) => changes.snapshot(&node, &overlay),
        Step::Internal(BlockdevSnapshotInternal { device, name }) => {
            changes.take_snapshot(&device, &snapshot_now(name, guest_ns))
        }
        Step::Overlay(node, overlay) => {
            let overlay = changes.open(*overlay)?;
            changes.snapshot(&node, &overlay)
        }
    }
}

/// Only jobs can end together, and none of the actions here begins one.
fn check_properties(
    actions: &[TransactionAction],
    properties: Option<&TransactionProperties>,
) -> QmpResult<()> {
    let mode = properties.and_then(|properties| properties.completion_mode);
    let first = actions
        .first()
        .filter(|_| mode == Some(ActionCompletionMode::Grouped));
    let Some(action) = first else {
        return Ok(());
    };
    let name = match &action.r#type {
        Action::Abort(_) => "abort",
        Action::BlockdevSnapshot(_) => "blockdev-snapshot",
        Action::BlockdevSnapshotInternalSync(_) => "blockdev-snapshot-internal-sync",
        Action::BlockdevSnapshotSync(_) => "blockdev-snapshot-sync",
    };
    Err(QmpError::generic(format!(
        "Action '{name}' does not support transaction property completion-mode = grouped"
    )))
}

fn snapshot_now(name: String, guest_ns: u64) -> SnapshotView {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    SnapshotView {
        name,
        date_sec: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
        date_nsec: now.subsec_nanos(),
        vm_clock_nsec: guest_ns,
        ..SnapshotView::default()
    }
}

fn refused(error: BlockError) -> QmpError {
    Refusal::from(error).into()
}
