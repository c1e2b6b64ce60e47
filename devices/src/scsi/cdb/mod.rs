//! From command blocks to commands. A block is copied once and decided on then.
//!
//! Sections are those of SPC-5 (primary commands), SBC-4 (disks) and MMC-6 (optical drives).

mod decode;

/// Blocks of a logical unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first one.
    pub lba: u64,
    /// How many.
    pub blocks: u32,
}

/// What is compared by VERIFY and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Nothing: the blocks are to be readable.
    Nothing,
    /// The blocks with what the initiator sends.
    Data,
}

/// Which values of mode pages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageControl {
    /// Those in force.
    Current,
    /// Ones where bits can be changed.
    Changeable,
    /// Those after power-on.
    Default,
}

/// MODE SENSE and MODE SELECT come in two forms with other headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeForm {
    /// Four bytes of header.
    Six,
    /// Eight bytes of header.
    Ten,
}

/// What an initiator asks for. Lengths are in bytes unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named after the fields of the standard
pub enum Command {
    TestUnitReady,
    RequestSense {
        descriptor: bool,
        room: u32,
    },
    Inquiry {
        /// A page of vital product data.
        page: Option<u8>,
        room: u32,
    },
    ModeSense {
        form: ModeForm,
        control: PageControl,
        page: u8,
        subpage: u8,
        /// Without block descriptors.
        bare: bool,
        room: u32,
    },
    ModeSelect {
        form: ModeForm,
        len: u32,
    },
    /// RESERVE and RELEASE: there is one initiator, which has the unit at all times.
    Reserve,
    StartStop {
        start: bool,
        /// The tray is to move.
        load_eject: bool,
        /// Power conditions other than start and stop.
        power: u8,
    },
    PreventRemoval {
        prevent: bool,
    },
    ReadCapacity10,
    ReadCapacity16 {
        room: u32,
    },
    Read {
        extent: Extent,
        /// From the medium itself.
        force: bool,
    },
    Write {
        extent: Extent,
        /// Durable when it is done.
        force: bool,
        /// WRITE AND VERIFY.
        verify: bool,
    },
    Verify {
        extent: Extent,
        compare: Compare,
    },
    Seek {
        lba: u64,
    },
    Flush,
    WriteSame {
        extent: Extent,
        unmap: bool,
        /// No block comes along: zeroes are meant.
        no_data: bool,
    },
    Unmap {
        len: u32,
    },
    ReportLuns {
        select: u8,
        room: u32,
    },
    ReadToc {
        minutes: bool,
        format: u8,
        track: u8,
        room: u32,
    },
    GetConfiguration {
        /// Which features: all, current ones, one.
        request: u8,
        first: u16,
        room: u32,
    },
    GetEventStatus {
        polled: bool,
        classes: u8,
        room: u32,
    },
    ReadDiscInformation {
        kind: u8,
        room: u32,
    },
    MechanismStatus {
        room: u32,
    },
}

/// Data that goes with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    None,
    /// At most so many bytes to the initiator.
    In(u64),
    /// So many bytes from the initiator.
    Out(u64),
}

impl Command {
    /// The data that goes with it, for blocks of so many bytes.
    pub fn transfer(&self, block: u32) -> Transfer {
        let bytes = |extent: &Extent| u64::from(extent.blocks).saturating_mul(block.into());
        let incoming = |room: u32| Transfer::In(room.into());
        match self {
            Command::TestUnitReady
            | Command::Reserve
            | Command::StartStop { .. }
            | Command::PreventRemoval { .. }
            | Command::Seek { .. }
            | Command::Flush
            | Command::Verify {
                compare: Compare::Nothing,
                ..
            } => Transfer::None,
            Command::WriteSame { no_data: true, .. } => Transfer::None,
            Command::WriteSame { no_data: false, .. } => Transfer::Out(block.into()),
            Command::ReadCapacity10 => Transfer::In(8),
            Command::RequestSense { room, .. }
            | Command::Inquiry { room, .. }
            | Command::ModeSense { room, .. }
            | Command::ReadCapacity16 { room }
            | Command::ReportLuns { room, .. }
            | Command::ReadToc { room, .. }
            | Command::GetConfiguration { room, .. }
            | Command::GetEventStatus { room, .. }
            | Command::ReadDiscInformation { room, .. }
            | Command::MechanismStatus { room } => incoming(*room),
            Command::Read { extent, .. } => Transfer::In(bytes(extent)),
            Command::Write { extent, .. } | Command::Verify { extent, .. } => {
                Transfer::Out(bytes(extent))
            }
            Command::ModeSelect { len, .. } | Command::Unmap { len } => {
                Transfer::Out((*len).into())
            }
        }
    }

    /// Whether it is answered although the unit wants attention (SPC-5, section 5.3; MMC-6,
    /// section 4.1.6).
    pub fn ignores_attention(&self) -> bool {
        matches!(
            self,
            Command::Inquiry { .. }
                | Command::ReportLuns { .. }
                | Command::RequestSense { .. }
                | Command::GetConfiguration { .. }
                | Command::GetEventStatus { .. }
        )
    }
}
