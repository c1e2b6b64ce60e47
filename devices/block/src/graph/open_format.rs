//! Opening image formats: what they are in, what is below them.

use std::path::Path;
use std::sync::Arc;

use super::open::Opening;
use super::{
    BackingSpec, Child, ChildSpec, DriverSpec, FormatKind, FormatSpec, NodeId, NodeSpec, Perms,
    Role,
};
use crate::error::BlockError;
use crate::file::{Aio, FileSpec, Locking};
use crate::format::{self, Linked, OpenFormat};
use crate::gate::{Discard, Screen};
use crate::node::{BlockNode, NodeExt};
use crate::notice::Reporter;
use crate::raw::RawWindow;
use crate::stats::Stats;

impl Opening<'_> {
    /// Replaces a driver that is to be found out by the one that the first bytes say; gives the
    /// node that was opened to look.
    pub(super) fn probe(&mut self, spec: &mut NodeSpec) -> Result<Option<NodeId>, BlockError> {
        let DriverSpec::Probe { file } = &spec.driver else {
            return Ok(None);
        };
        let child = self.child(spec, file, Role::Filtered)?;
        let found = self.look(&child);
        let format = match found {
            Ok(format) => format,
            Err(error) => {
                self.close(&[child]);
                return Err(error);
            }
        };
        let entry = self.graph.nodes.get(&child.id);
        let name = entry.map(|entry| entry.name.clone()).unwrap_or_default();
        let file = Box::new(ChildSpec::Reference(name));
        spec.driver = match FormatKind::by_name(format) {
            Some(kind) => DriverSpec::Format(FormatSpec::new(kind, *file)),
            None if format == "raw" => DriverSpec::Raw {
                file,
                window: RawWindow::default(),
                probed: true,
            },
            None => {
                self.close(&[child]);
                return Err(BlockError::UnknownDriver(format.to_owned()));
            }
        };
        Ok(Some(child.id))
    }

    fn look(&self, child: &Child) -> Result<&'static str, BlockError> {
        let read = |node: &dyn BlockNode| {
            let len = node.info().size.min(format::probe::PROBED as u64) as usize;
            let mut start = vec![0; len];
            node.read_at(0, &mut start).map(|()| start)
        };
        let start = child.edge.there().and_then(|node| read(&*node));
        start
            .map(|start| format::probe::format_of(&start))
            .map_err(|error| {
                BlockError::host("Could not read image for determining its format", error)
            })
    }

    pub(super) fn format(
        &mut self,
        spec: &NodeSpec,
        format: &FormatSpec,
        name: &str,
        stats: &Arc<Stats>,
    ) -> Result<(Arc<dyn BlockNode>, Vec<Child>), BlockError> {
        let mut children = Vec::new();
        match self.format_with(spec, format, name, stats, &mut children) {
            Ok(node) => Ok((node, children)),
            Err(error) => {
                self.close(&children);
                Err(error)
            }
        }
    }

    fn format_with(
        &mut self,
        spec: &NodeSpec,
        format: &FormatSpec,
        name: &str,
        stats: &Arc<Stats>,
        children: &mut Vec<Child>,
    ) -> Result<Arc<dyn BlockNode>, BlockError> {
        let child = self.child(spec, &format.file, Role::Storage)?;
        let (id, storage) = (child.id, child.edge.clone());
        children.push(child);
        let mut policy = spec.policy();
        let falls_back = spec.auto_read_only.unwrap_or(false);
        let cannot_write = !format.kind.is_writable() || storage.info().read_only;
        policy.read_only |= falls_back && cannot_write;
        if !policy.read_only && !format.kind.is_writable() {
            return Err(BlockError::Unsupported(format!(
                "Driver '{}' can only be used for read-only devices",
                format.kind.name()
            )));
        }
        if !policy.read_only && storage.info().read_only {
            return Err(BlockError::ReadOnly);
        }
        // Before its tables are read: others may be writing them.
        self.claim(id, name, !policy.read_only)?;
        let node = storage.node().ok_or(BlockError::Empty)?;
        let linked = format::linked(format.kind, &*node)?;
        let data = match (&format.data_file, &linked.data_file) {
            (Some(asked), _) => Some(self.child(spec, asked, Role::Data)?),
            (None, Some(file)) => {
                let file = self.beside(spec, id, file, None)?;
                Some(self.child(spec, &ChildSpec::Inline(file), Role::Data)?)
            }
            (None, None) => None,
        };
        let data_edge = data.as_ref().map(|child| child.edge.clone());
        children.extend(data);
        let mut extents = Vec::new();
        for file in &linked.extents {
            let file = ChildSpec::Inline(self.file_beside(spec, id, file)?);
            let extent = self.child(spec, &file, Role::Extent)?;
            extents.push(extent.edge.clone());
            children.push(extent);
        }
        let backing = self.backing(spec, format, id, &linked)?;
        let backing_edge = backing.as_ref().map(|child| child.edge.clone());
        children.extend(backing);
        format::open(
            format.kind,
            OpenFormat {
                storage,
                data: data_edge,
                extents,
                backing: backing_edge,
                screen: Screen::new(policy, 0, stats.clone()),
                pool: self.host.pool.clone(),
                reporter: Reporter {
                    node: name.into(),
                    sink: self.host.notices.clone(),
                },
                qcow2: format.qcow2,
                activity: self.activity(spec),
            },
        )
    }

    /// Gets the permissions for a format's tables.
    fn claim(&mut self, id: NodeId, name: &str, writes: bool) -> Result<(), BlockError> {
        let who = format!("node '{name}'");
        let who = self.graph.as_child(id, &who, Role::Storage.name());
        let entry = self.graph.nodes.get(&id);
        let shares = entry.is_some_and(|entry| entry.spec.force_share == Some(true));
        let perms = match shares {
            true => Perms::storage(writes).sharing_all(),
            false => Perms::storage(writes),
        };
        self.graph.agree_with(id, perms, who)
    }

    fn backing(
        &mut self,
        spec: &NodeSpec,
        format: &FormatSpec,
        storage: NodeId,
        linked: &Linked,
    ) -> Result<Option<Child>, BlockError> {
        let child = match (&format.backing, &linked.backing) {
            (Some(BackingSpec::Nothing), _) | (None, None) => return Ok(None),
            (Some(BackingSpec::Node(child)), _) => {
                let mut child = (**child).clone();
                if let ChildSpec::Inline(below) = &mut child {
                    only_read(below);
                }
                child
            }
            (None, Some((file, format))) => {
                let mut below = self.beside(spec, storage, file, format.as_deref())?;
                only_read(&mut below);
                ChildSpec::Inline(below)
            }
        };
        self.child(spec, &child, Role::Backing).map(Some)
    }

    /// The description of an image that another one, in the node `storage`, names.
    fn beside(
        &mut self,
        above: &NodeSpec,
        storage: NodeId,
        name: &str,
        format: Option<&str>,
    ) -> Result<NodeSpec, BlockError> {
        if let Some(json) = name.strip_prefix("json:") {
            return self.opener.json(json);
        }
        let file = Box::new(ChildSpec::Inline(self.file_beside(above, storage, name)?));
        let driver = match format {
            None => DriverSpec::Probe { file },
            Some("raw" | "file" | "host_device") => DriverSpec::Raw {
                file,
                window: RawWindow::default(),
                probed: false,
            },
            Some(other) => match FormatKind::by_name(other) {
                Some(kind) => DriverSpec::Format(FormatSpec::new(kind, *file)),
                None => return Err(BlockError::UnknownDriver(other.to_owned())),
            },
        };
        Ok(NodeSpec::new(driver))
    }

    /// The description of a file that an image in the node `storage` names.
    fn file_beside(
        &mut self,
        above: &NodeSpec,
        storage: NodeId,
        name: &str,
    ) -> Result<NodeSpec, BlockError> {
        let entry = self.graph.nodes.get(&storage);
        let base = entry.map(|entry| self.graph.filename(entry));
        let aio = entry.and_then(|entry| match &entry.spec.driver {
            DriverSpec::File(file) | DriverSpec::HostDevice(file) => Some(file.aio),
            _ => None,
        });
        let filename = resolve(base.as_deref().unwrap_or(""), name)?;
        let device = is_device(&filename);
        let file = FileSpec {
            filename,
            // Linux AIO depends on an option of the node that is handed down.
            aio: aio
                .filter(|_| above.direct == Some(true))
                .unwrap_or(Aio::Threads),
            locking: Locking::Auto,
        };
        Ok(NodeSpec::new(match device {
            true => DriverSpec::HostDevice(file),
            false => DriverSpec::File(file),
        }))
    }
}

/// A backing file is never written, whatever is done above; discards do not reach it.
fn only_read(spec: &mut NodeSpec) {
    spec.read_only = spec.read_only.or(Some(true));
    spec.auto_read_only = spec.auto_read_only.or(Some(false));
    spec.discard = spec.discard.or(Some(Discard::Ignore));
}

fn is_device(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::metadata(path).map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_block_device())
}

/// A name in an image, as seen from the image's own place.
///
/// # Errors
/// When it has a protocol, which none here has.
pub(super) fn resolve(base: &str, name: &str) -> Result<String, BlockError> {
    let plain = name.strip_prefix("file:").unwrap_or(name);
    let protocol = plain
        .split_once(':')
        .filter(|(protocol, _)| plain == name && !protocol.contains('/'));
    if let Some((protocol, _)) = protocol {
        return Err(BlockError::Unsupported(format!(
            "Unknown protocol '{protocol}'"
        )));
    }
    if Path::new(plain).is_absolute() || base.is_empty() {
        return Ok(plain.to_owned());
    }
    if base.starts_with("json:") {
        return Err(BlockError::Unsupported(format!(
            "Cannot generate a base directory for '{base}', which '{name}' is relative to"
        )));
    }
    let directory = base
        .rfind('/')
        .map_or("", |end| base.get(..=end).unwrap_or(""));
    Ok(format!("{directory}{plain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_image() {
        for (base, name, full) in [
            ("/a/b.qcow2", "c.img", "/a/c.img"),
            ("/a/b.qcow2", "../c.img", "/a/../c.img"),
            ("/a/b.qcow2", "/c.img", "/c.img"),
            ("b.qcow2", "c.img", "c.img"),
            ("d/b.qcow2", "file:c.img", "d/c.img"),
            ("/a/b.qcow2", "x/y:z.img", "/a/x/y:z.img"),
        ] {
            assert_eq!(resolve(base, name).unwrap(), full);
        }
        let error = resolve("/a/b", "nbd:unix:x").unwrap_err().to_string();
        assert_eq!(error, "Unknown protocol 'nbd'");
        assert!(resolve("json:{}", "c.img").is_err());
    }
}
