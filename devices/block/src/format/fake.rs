//! A small image format for tests of what is done with formats. The header: a magic number, whether
//! the image is open, a name of a backing file, and a byte for each cluster that is in the image;
//! then the clusters in order.

use std::io;
use std::sync::{Arc, Mutex};

use super::{Below, Format, FormatNode, Linked, OpenFormat, Piece, Plan};
use crate::buffers::{Buffers, HostBuffer};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::gate::Screen;
use crate::image::{CheckReport, Image, ImageView, Repair, SnapshotView, Snapshots};
use crate::node::{BlockNode, Extent, ExtentKind, NodeExt};
use crate::request::Op;

pub(crate) const MAGIC: &[u8; 4] = b"FAKE";
/// Byte of the header: `D` while it is open for writing, `C` when it was closed.
pub(crate) const STATE: u64 = 4;
const NAME: u64 = 16;
const MAP: u64 = 256;
const CLUSTER: u64 = 4096;
const CLUSTERS: u64 = 16;
pub(crate) const SIZE: u64 = CLUSTERS * CLUSTER;

/// The bytes of a new image.
pub(crate) fn image(backing: &str) -> Vec<u8> {
    let mut bytes = vec![0; (CLUSTER + SIZE) as usize];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[STATE as usize] = b'C';
    bytes[NAME as usize..][..backing.len()].copy_from_slice(backing.as_bytes());
    bytes
}

fn header(storage: &dyn BlockNode) -> Option<Vec<u8>> {
    let mut header = vec![0; CLUSTER as usize];
    let there = storage.info().size >= CLUSTER;
    (there && storage.read_at(0, &mut header).is_ok() && header.starts_with(MAGIC))
        .then_some(header)
}

fn backing_in(header: &[u8]) -> Option<String> {
    let name = &header[NAME as usize..MAP as usize];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
    (end > 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
}

pub(crate) fn linked(storage: &dyn BlockNode) -> Option<Linked> {
    Some(Linked {
        backing: backing_in(&header(storage)?).map(|name| (name, Some("raw".to_owned()))),
        ..Linked::default()
    })
}

#[allow(clippy::result_large_err)] // what is given back goes to the next one
pub(crate) fn open(with: OpenFormat) -> Result<Arc<dyn BlockNode>, OpenFormat> {
    let storage = with.storage.node().unwrap();
    if header(&*storage).is_none() {
        return Err(with);
    }
    with.screen.set_size(SIZE);
    let fake = Fake {
        storage: with.storage,
        backing: with.backing,
        screen: with.screen,
        snapshots: Mutex::default(),
    };
    fake.mark(b'D').unwrap();
    Ok(Arc::new(FormatNode::new(fake, &with.pool)))
}

struct Fake {
    storage: Edge,
    backing: Option<Edge>,
    screen: Screen,
    snapshots: Mutex<Vec<SnapshotView>>,
}

impl Fake {
    fn mark(&self, state: u8) -> io::Result<()> {
        match self.screen.policy().read_only {
            true => Ok(()),
            false => self.storage.there()?.write_at(STATE, &[state]),
        }
    }

    fn has(&self, cluster: u64) -> io::Result<bool> {
        let mut byte = [0];
        self.storage.there()?.read_at(MAP + cluster, &mut byte)?;
        Ok(byte[0] != 0)
    }

    fn read(&self, cluster: u64) -> io::Result<Vec<u8>> {
        let mut data = vec![0; CLUSTER as usize];
        let at = cluster * CLUSTER;
        if self.has(cluster)? {
            self.storage.there()?.read_at(at + CLUSTER, &mut data)?;
        } else if let Some(backing) = &self.backing {
            backing.there()?.read_at(at, &mut data)?;
        }
        Ok(data)
    }
}

impl Format for Fake {
    type Keep = ();

    fn plan(&self, _op: Op, _buffers: &Buffers, _pieces: &mut Vec<Piece>) -> Plan<()> {
        Plan::Slow
    }

    fn ended(&self, _keep: (), result: io::Result<()>) -> io::Result<()> {
        result
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        let storage = self.storage.there()?;
        match op {
            Op::Read { offset } => {
                let mut data = Vec::new();
                for cluster in offset / CLUSTER..=(offset + buffers.len() - 1) / CLUSTER {
                    data.extend(self.read(cluster)?);
                }
                let skip = (offset % CLUSTER) as usize;
                buffers.write_at(0, &data[skip..][..buffers.len() as usize]);
                Ok(())
            }
            Op::Write { offset, .. } => {
                assert_eq!((offset % CLUSTER, buffers.len() % CLUSTER), (0, 0));
                let mut data = vec![0; buffers.len() as usize];
                buffers.read_at(0, &mut data);
                storage.write_at(offset + CLUSTER, &data)?;
                for cluster in offset / CLUSTER..(offset + buffers.len()) / CLUSTER {
                    storage.write_at(MAP + cluster, &[1])?;
                }
                Ok(())
            }
            _ => storage.perform(Op::Flush, &Buffers::owned(HostBuffer::from_bytes(&[], 1))),
        }
    }

    fn extent(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent {
            len,
            kind: ExtentKind::Data,
        })
    }

    fn resize(&self, _size: u64) -> Result<(), BlockError> {
        Err(BlockError::NoResize)
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        match below {
            Below::Storage | Below::Data => Some(&self.storage),
            Below::Extent(_) => None,
            Below::Backing => self.backing.as_ref(),
        }
    }

    fn screen(&self) -> &Screen {
        &self.screen
    }
}

impl Image for Fake {
    fn view(&self) -> ImageView {
        let header = self.storage.node().and_then(|node| header(&*node));
        let backing_file = header.as_deref().and_then(backing_in);
        ImageView {
            cluster_size: Some(CLUSTER),
            backing_format: backing_file.as_ref().map(|_| "raw".to_owned()),
            backing_file,
            ..ImageView::default()
        }
    }

    fn check(&self, _repair: Repair) -> Result<CheckReport, BlockError> {
        Ok(CheckReport::default())
    }

    fn change_backing(&self, file: Option<&str>, _format: Option<&str>) -> Result<(), BlockError> {
        let mut name = [0; (MAP - NAME) as usize];
        let file = file.unwrap_or("").as_bytes();
        name[..file.len()].copy_from_slice(file);
        let storage = self.storage.there().unwrap();
        storage
            .write_at(NAME, &name)
            .map_err(|error| BlockError::host("Could not write", error))
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn close(&self) -> Result<(), BlockError> {
        self.mark(b'C')
            .map_err(|error| BlockError::host("Could not close", error))
    }

    fn reopen(&self, _read_only: bool) -> Result<(), BlockError> {
        self.mark(b'D')
            .map_err(|error| BlockError::host("Could not open", error))
    }
}

impl Snapshots for Fake {
    fn list(&self) -> Vec<SnapshotView> {
        self.snapshots.lock().unwrap().clone()
    }

    fn create(&self, view: &SnapshotView) -> Result<String, BlockError> {
        let mut snapshots = self.snapshots.lock().unwrap();
        let id = (snapshots.len() + 1).to_string();
        snapshots.push(SnapshotView {
            id: id.clone(),
            ..view.clone()
        });
        Ok(id)
    }

    fn apply(&self, _id: &str) -> Result<(), BlockError> {
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<(), BlockError> {
        self.snapshots.lock().unwrap().retain(|view| view.id != id);
        Ok(())
    }

    fn write_vm_state(&self, _offset: u64, _data: &Buffers) -> Result<(), BlockError> {
        Err(BlockError::Empty)
    }

    fn drop_vm_state(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn read_vm_state(&self, _id: &str) -> Result<Box<dyn io::Read + '_>, BlockError> {
        Err(BlockError::Empty)
    }
}
