//! Commands about blocks of the medium (SBC-4).

use block::Unmap;

use super::{Action, DataOut, View, good};
use crate::scsi::cdb::{Command, Compare, Extent};
use crate::scsi::identity::Kind;
use crate::scsi::inquiry;
use crate::scsi::progress::Io;
use crate::scsi::sense::Sense;

/// Bytes in front of the descriptors of UNMAP.
const UNMAP_HEADER: usize = 8;
/// Bytes of each of them.
const UNMAP_DESCRIPTOR: usize = 16;

impl View<'_> {
    pub(super) fn blocks_command(
        &self,
        command: &Command,
        out: &dyn DataOut,
    ) -> Result<Action, Sense> {
        Ok(match *command {
            Command::Read { extent, force } => {
                self.ready()?;
                let (at, len) = self.transfer(extent)?;
                match (len, force) {
                    (0, _) => good(),
                    (_, true) => Action::Io(Io::FlushedRead { at, len }),
                    (_, false) => Action::Io(Io::Read { at, len }),
                }
            }
            Command::Write { extent, force, .. } => {
                self.writable()?;
                let (at, len) = self.transfer(extent)?;
                let durability = self.durability(force);
                match len {
                    0 => good(),
                    _ => Action::Io(Io::Write {
                        at,
                        len,
                        durability,
                    }),
                }
            }
            Command::Verify { extent, compare } => {
                self.ready()?;
                match compare {
                    Compare::Nothing => self.place(extent).map(|_| good())?,
                    Compare::Data => {
                        let (at, len) = self.transfer(extent)?;
                        Action::Io(Io::Compare { at, len })
                    }
                }
            }
            Command::Seek { lba } => {
                self.ready()?;
                self.place(Extent { lba, blocks: 1 }).map(|_| good())?
            }
            Command::Flush => {
                self.ready()?;
                Action::Io(Io::Flush)
            }
            Command::WriteSame {
                extent,
                unmap,
                no_data,
            } => self.write_same(extent, unmap, no_data, out)?,
            Command::Unmap { len } => self.unmap(len, out)?,
            _ => return Err(Sense::INVALID_OPCODE),
        })
    }

    fn write_same(
        &self,
        extent: Extent,
        unmap: bool,
        no_data: bool,
        out: &dyn DataOut,
    ) -> Result<Action, Sense> {
        if self.identity.kind == Kind::Cd {
            return Err(Sense::INVALID_OPCODE);
        }
        self.writable()?;
        if extent.blocks == 0 || unmap && self.identity.discard_granularity == 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let (at, len) = self.place(extent)?;
        let durability = self.durability(false);
        let mut pattern = vec![
            0;
            if no_data {
                0
            } else {
                self.identity.block as usize
            }
        ];
        if out.read(0, &mut pattern) < pattern.len() {
            return Err(Sense::INVALID_FIELD);
        }
        Ok(Action::Io(match pattern.iter().all(|byte| *byte == 0) {
            true => Io::Zero {
                at,
                len,
                unmap: match unmap {
                    true => Unmap::May,
                    false => Unmap::Keep,
                },
                durability,
            },
            false => Io::Fill {
                at,
                len,
                pattern: pattern.into(),
                durability,
            },
        }))
    }

    /// SBC-4, section 5.35.
    fn unmap(&self, len: u32, out: &dyn DataOut) -> Result<Action, Sense> {
        if self.identity.kind == Kind::Cd {
            return Err(Sense::INVALID_OPCODE);
        }
        self.writable()?;
        if self.identity.discard_granularity == 0 {
            return Err(Sense::INVALID_OPCODE);
        }
        if len == 0 {
            return Ok(good());
        }
        let mut list = vec![0; len as usize];
        let given = out.read(0, &mut list);
        if given < list.len() {
            return Err(Sense::PARAMETER_LENGTH);
        }
        let length = |at: usize| {
            let bytes = list.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
        };
        let described = length(2).ok_or(Sense::PARAMETER_LENGTH)?;
        let descriptors = list
            .get(UNMAP_HEADER..UNMAP_HEADER.saturating_add(described))
            .ok_or(Sense::PARAMETER_LENGTH)?;
        // What is left of a descriptor that was cut off does not count.
        let (descriptors, _) = descriptors.as_chunks::<UNMAP_DESCRIPTOR>();
        if descriptors.len() > inquiry::MAX_UNMAP_DESCRIPTORS as usize {
            return Err(Sense::INVALID_PARAMETER);
        }
        let mut ranges = Vec::with_capacity(descriptors.len());
        let mut total = 0u64;
        for descriptor in descriptors {
            let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *descriptor;
            let extent = Extent {
                lba: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                blocks: u32::from_be_bytes([i, j, k, l]),
            };
            total = total.saturating_add(extent.blocks.into());
            let range = self.place(extent)?;
            if range.1 > 0 {
                ranges.push(range);
            }
        }
        if total > u64::from(self.identity.max_unmap) {
            return Err(Sense::INVALID_PARAMETER);
        }
        Ok(match ranges.is_empty() {
            true => good(),
            false => Action::Io(Io::Discard(ranges)),
        })
    }
}
