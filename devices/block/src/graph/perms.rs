//! What the users of a node do with it, and what they let others do.

/// A permission; the numbers are those of QEMU's lock bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Perm {
    /// Read data that makes sense.
    ConsistentRead,
    /// Write.
    Write,
    /// Write what is there already.
    WriteUnchanged,
    /// Change the size.
    Resize,
}

impl Perm {
    /// All of them.
    pub const ALL: [Perm; 4] = [
        Perm::ConsistentRead,
        Perm::Write,
        Perm::WriteUnchanged,
        Perm::Resize,
    ];

    /// Its number.
    pub const fn index(self) -> u64 {
        match self {
            Perm::ConsistentRead => 0,
            Perm::Write => 1,
            Perm::WriteUnchanged => 2,
            Perm::Resize => 3,
        }
    }

    const fn bit(self) -> u8 {
        1 << self.index()
    }

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Perm::ConsistentRead => "consistent read",
            Perm::Write => "write",
            Perm::WriteUnchanged => "write unchanged",
            Perm::Resize => "resize",
        }
    }
}

const ALL: u8 = 0b1111;

/// A child's part in its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What a filter, or raw, passes requests on to.
    Filtered,
    /// The same, where what is read is written as well.
    Copied,
    /// The image of a fault-injecting node.
    Image,
    /// What a format's tables are in, and its data unless there is a data file.
    Storage,
    /// A format's data apart from its tables.
    Data,
    /// One of several files that a format's data are in.
    Extent,
    /// Where what is not in an image is read from.
    Backing,
}

impl Role {
    /// Its name in the interface.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Filtered | Role::Copied | Role::Storage => "file",
            Role::Image => "image",
            Role::Data => "data-file",
            Role::Extent => "extents",
            Role::Backing => "backing",
        }
    }

    /// What a parent does with such a child, whose own users do `above` together.
    pub(super) const fn perms(self, above: Perms, read_only: bool) -> Perms {
        match self {
            Role::Filtered | Role::Image => above,
            Role::Copied => above.writing_unchanged(),
            Role::Storage | Role::Data | Role::Extent => Perms::storage(!read_only),
            Role::Backing => above.backing(),
        }
    }
}

/// What a user does, and what others may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perms {
    used: u8,
    shared: u8,
}

impl Perms {
    /// Nothing is done and all is allowed.
    pub const NONE: Perms = Perms {
        used: 0,
        shared: ALL,
    };

    /// A guest's disk: it reads, perhaps writes, and others may write only if they are told to
    /// share. A change of the size is announced to the guest.
    pub const fn device(writes: bool, share_writes: bool) -> Self {
        let write = if writes { Perm::Write.bit() } else { 0 };
        let forbidden = if share_writes { 0 } else { Perm::Write.bit() };
        Perms {
            used: Perm::ConsistentRead.bit() | write,
            shared: ALL & !forbidden,
        }
    }

    /// Whoever makes an image out of a file: nobody else changes its size meanwhile.
    pub const fn maker() -> Self {
        Perms {
            used: Perm::Write.bit() | Perm::Resize.bit(),
            shared: ALL & !Perm::Resize.bit(),
        }
    }

    /// Whoever writes a new image into a node, and leaves it to the node's other users whether
    /// they can live with that.
    pub const fn overwriter() -> Self {
        Perms {
            used: Perm::Write.bit() | Perm::Resize.bit(),
            shared: ALL,
        }
    }

    /// Whoever changes a node's size and leaves its bytes alone.
    pub const fn resizer() -> Self {
        Perms {
            used: Perm::Resize.bit(),
            shared: ALL,
        }
    }

    /// What a format does with the file it is in: it alone writes and resizes it, for its own
    /// tables as well as for data, also while nobody uses the format.
    pub const fn storage(writes: bool) -> Self {
        let write = match writes {
            true => Perm::Write.bit() | Perm::Resize.bit(),
            false => 0,
        };
        Perms {
            used: Perm::ConsistentRead.bit() | write,
            shared: Perm::ConsistentRead.bit() | Perm::WriteUnchanged.bit(),
        }
    }

    /// What a node whose users do this does with its backing file: it reads, and whoever can live
    /// with changes above can live with changes below.
    pub const fn backing(self) -> Self {
        let shared = match self.shares(Perm::Write) {
            true => ALL,
            false => Perm::ConsistentRead.bit() | Perm::WriteUnchanged.bit(),
        };
        Perms {
            used: self.used & Perm::ConsistentRead.bit(),
            shared,
        }
    }

    /// The same, and writes what is there already.
    const fn writing_unchanged(self) -> Perms {
        Perms {
            used: self.used | Perm::WriteUnchanged.bit(),
            shared: self.shared,
        }
    }

    /// Whether the permission is used.
    pub const fn uses(self, perm: Perm) -> bool {
        self.used & perm.bit() != 0
    }

    /// Whether others may use it.
    pub const fn shares(self, perm: Perm) -> bool {
        self.shared & perm.bit() != 0
    }

    /// Two users taken as one.
    pub const fn and_also(self, other: Perms) -> Perms {
        Perms {
            used: self.used | other.used,
            shared: self.shared & other.shared,
        }
    }

    /// The same, but others may do all.
    pub const fn sharing_all(self) -> Perms {
        Perms {
            used: self.used,
            shared: ALL,
        }
    }

    /// Whether it does anything at all.
    pub const fn is_used(self) -> bool {
        self.used != 0
    }

    /// What it does, in words.
    pub fn used_names(self) -> String {
        let used = Perm::ALL.into_iter().filter(|perm| self.uses(*perm));
        used.map(Perm::name).collect::<Vec<_>>().join(", ")
    }

    /// Whether it changes anything.
    pub const fn writes(self) -> bool {
        self.used & (Perm::Write.bit() | Perm::WriteUnchanged.bit() | Perm::Resize.bit()) != 0
    }

    /// What `other` does that this one does not allow, in words; `None` when they get along.
    pub fn refused(self, other: Perms) -> Option<String> {
        let bad = |perm: &Perm| other.uses(*perm) && !self.shares(*perm);
        let names: Vec<_> = Perm::ALL.into_iter().filter(bad).map(Perm::name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_exclude_each_other_unless_they_share() {
        let writer = Perms::device(true, false);
        let sharer = Perms::device(true, true);
        let reader = Perms::device(false, true);
        assert_eq!(writer.refused(sharer).as_deref(), Some("write"));
        assert_eq!(sharer.refused(writer), None);
        assert_eq!(sharer.refused(sharer), None);
        assert_eq!(writer.refused(reader), None);
        assert_eq!(Perms::NONE.refused(writer), None);
        let both = sharer.and_also(writer);
        assert_eq!(both, writer);
        assert!(both.writes() && !reader.writes());
        assert!(both.sharing_all().shares(Perm::Write));
    }
}
