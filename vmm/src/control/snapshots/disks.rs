//! Which disks a snapshot of the machine is about, and which of them has the machine's state.

use block::SnapshotDisk;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All that are written; the first one takes the state.
    All,
    /// These nodes.
    Named {
        /// The one that has the state.
        vmstate: String,
        /// All of them.
        devices: Vec<String>,
    },
}

impl Wanted {
    pub fn named(vmstate: String, devices: Vec<String>) -> Self {
        Wanted::Named { vmstate, devices }
    }

    /// The nodes, where they are named.
    pub fn nodes(&self) -> Option<&[String]> {
        match self {
            Wanted::All => None,
            Wanted::Named { devices, .. } => Some(devices),
        }
    }

    /// The disk that has the machine's state.
    ///
    /// # Errors
    /// QEMU's words when there is none.
    pub fn state_disk<'a>(&self, disks: &'a [SnapshotDisk]) -> Result<&'a SnapshotDisk, String> {
        match self {
            Wanted::All => first_with_image(disks),
            Wanted::Named { vmstate, .. } => disks
                .iter()
                .find(|disk| disk.node == *vmstate)
                .ok_or_else(|| format!("vmstate block device '{vmstate}' does not exist")),
        }
    }
}

/// The disk that has the machine's state where nobody says which.
///
/// # Errors
/// QEMU's words when none can.
pub fn first_with_image(disks: &[SnapshotDisk]) -> Result<&SnapshotDisk, String> {
    let found = disks.iter().find(|disk| disk.image.is_some());
    found.ok_or_else(|| "no block device can store vmstate for snapshot".to_owned())
}

/// Refuses disks whose content cannot be kept.
///
/// # Errors
/// QEMU's words for the first one.
pub fn check_all_can(disks: &[SnapshotDisk]) -> Result<(), String> {
    match disks.iter().find(|disk| disk.image.is_none()) {
        None => Ok(()),
        Some(disk) => Err(format!(
            "Device '{}' is writable but does not support snapshots",
            disk.device
        )),
    }
}

/// Whether a disk has a snapshot of that name.
pub fn has(disk: &SnapshotDisk, tag: &str) -> bool {
    disk.snapshots.iter().any(|snapshot| snapshot.name == tag)
}

#[cfg(test)]
mod tests {
    use block::SnapshotView;

    use super::*;

    fn disk(name: &str, image: bool, tags: &[&str]) -> SnapshotDisk {
        let snapshot = |tag: &&str| SnapshotView {
            name: (*tag).to_owned(),
            ..SnapshotView::default()
        };
        SnapshotDisk {
            node: name.to_owned(),
            device: name.to_owned(),
            drive: String::new(),
            image: image.then(|| name.to_owned()),
            snapshots: tags.iter().map(snapshot).collect(),
        }
    }

    #[test]
    fn the_state_goes_to_the_first_that_can_or_the_one_named() {
        let disks = [
            disk("r", false, &[]),
            disk("a", true, &["s"]),
            disk("b", true, &[]),
        ];
        let node = |wanted: &Wanted| Ok(wanted.state_disk(&disks)?.node.clone());
        assert_eq!(node(&Wanted::All), Ok("a".to_owned()));
        let named = |vmstate: &str| Wanted::named(vmstate.to_owned(), Vec::new());
        assert_eq!(node(&named("b")), Ok("b".to_owned()));
        let none: Result<String, String> =
            Err("vmstate block device 'c' does not exist".to_owned());
        assert_eq!(node(&named("c")), none);
        let none = first_with_image(&disks[..1]).unwrap_err();
        assert_eq!(none, "no block device can store vmstate for snapshot");
        assert!(has(&disks[1], "s") && !has(&disks[2], "s"));
    }

    #[test]
    fn disks_that_cannot_are_named() {
        let disks = [disk("a", true, &[]), disk("r", false, &[])];
        assert_eq!(check_all_can(&disks[..1]), Ok(()));
        assert_eq!(
            check_all_can(&disks).unwrap_err(),
            "Device 'r' is writable but does not support snapshots"
        );
    }
}
