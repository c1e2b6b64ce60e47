//! Guest RAM as a party is told of it.

use std::io;
use std::os::fd::AsRawFd;

use vhost::VhostUserMemoryRegionInfo;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use crate::ram::GuestRam;

/// A region of guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Guest physical address.
    pub guest: u64,
    /// Bytes.
    pub len: u64,
    /// Address in this process.
    pub host: u64,
    /// Descriptor of the file behind it and where in that it begins, when other processes can map
    /// the same memory. Valid as long as the RAM it was taken from.
    pub file: Option<(i32, u64)>,
}

/// All regions of guest RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTable(Vec<Region>);

impl MemoryTable {
    /// The table of this RAM.
    pub fn new(ram: &GuestRam) -> Self {
        let region = |region: &vm_memory::GuestRegionMmap<_>| {
            let shared = region.flags() & libc::MAP_SHARED != 0;
            let file = region.file_offset().filter(|_| shared);
            Region {
                guest: region.start_addr().raw_value(),
                len: region.len(),
                host: region.as_ptr() as u64,
                file: file.map(|file| (file.file().as_raw_fd(), file.start())),
            }
        };
        MemoryTable(ram.iter().map(region).collect())
    }

    /// Its regions, in order of guest addresses.
    pub fn regions(&self) -> &[Region] {
        &self.0
    }

    /// That other processes can map all of it.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check_shared(&self) -> io::Result<()> {
        match self.0.iter().all(|region| region.file.is_some()) {
            true => Ok(()),
            false => Err(io::Error::other(
                "Failed initializing vhost-user memory map, consider using -object \
                 memory-backend-file share=on",
            )),
        }
    }

    /// Address in this process of `len` bytes at a guest address.
    pub fn host(&self, guest: u64, len: u64) -> Option<u64> {
        let end = guest.checked_add(len)?;
        let region = self.0.iter().find(|region| {
            guest >= region.guest && end <= region.guest.saturating_add(region.len)
        })?;
        region.host.checked_add(guest - region.guest)
    }

    pub(super) fn for_kernel(&self) -> Vec<VhostUserMemoryRegionInfo> {
        let info = |region: &Region| VhostUserMemoryRegionInfo {
            guest_phys_addr: region.guest,
            memory_size: region.len,
            userspace_addr: region.host,
            mmap_offset: 0,
            mmap_handle: -1,
        };
        self.0.iter().map(info).collect()
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{FileOffset, GuestAddress};

    use super::*;

    #[test]
    fn private_memory_is_told_from_shared() {
        let private = GuestRam::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        let table = MemoryTable::new(&private);
        let error = table.check_shared().unwrap_err().to_string();
        assert!(error.starts_with("Failed initializing vhost-user memory map"));
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x3000).unwrap();
        let file = FileOffset::new(file, 0x1000);
        let fd = file.file().as_raw_fd();
        let shared =
            GuestRam::from_ranges_with_files([(GuestAddress(0x4000), 0x2000, Some(file))]).unwrap();
        let table = MemoryTable::new(&shared);
        table.check_shared().unwrap();
        let region = table.regions()[0];
        assert_eq!((region.guest, region.len), (0x4000, 0x2000));
        assert_eq!(region.file, Some((fd, 0x1000)));
    }

    #[test]
    fn addresses_are_found_within_one_region() {
        let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x8000), 0x1000)];
        let table = MemoryTable::new(&GuestRam::from_ranges(&ranges).unwrap());
        let second = table.regions()[1].host;
        assert_eq!(table.host(0x8010, 0xff0), Some(second + 0x10));
        assert_eq!(table.host(0x8010, 0xff1), None);
        assert_eq!(table.host(0x1000, 1), None);
        assert_eq!(table.host(u64::MAX, 2), None);
    }
}
