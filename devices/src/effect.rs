//! What a register write asks for, as plain data.

/// The consequence of a guest's write. Whoever made the access carries it out, after it has let
/// go of the device's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an effect must be carried out by the caller"]
pub enum Effect {
    /// Nothing beyond the device itself.
    None,
    /// BARs, bridge windows or decode enables changed: the address map must be rebuilt before the
    /// guest goes on.
    Remap,
    /// The virtio driver set DRIVER_OK: hand the queues to their workers, then rebuild the map
    /// as for [`Effect::Remap`], because the kicks' short cuts are there only now.
    StartQueues,
    /// The virtio driver reset the device: take the workers back before the guest goes on, then
    /// rebuild the map, because the short cuts are gone.
    StopQueues,
    /// The guest let go of what is in this port's slot (hot-unplug).
    Ejected,
    /// The guest keeps what is in this port's slot, if it was asked for it.
    Kept,
    /// The guest let go of what is in these slots of the bus with ACPI hot-plug: a bit for each.
    EjectSlots(u32),
    /// The machine as a whole is to change its state.
    Power(PowerEffect),
    /// Something that only watchers care about.
    Notice(Notice),
    /// A disk's request failed on the host, and that was done about it. The machine stops where
    /// the request waits for that.
    DiskFailed(DiskFailure),
}

/// A request that failed on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFailure {
    /// The disk's QOM path.
    pub qom_path: String,
    /// Whether it was a read.
    pub failed: block::Failed,
    /// What was done about it.
    pub action: block::ErrorAction,
    /// The host's error number; 0 where it had none.
    pub errno: i32,
}

impl Effect {
    /// Whether there is nothing to carry out.
    pub fn is_none(&self) -> bool {
        *self == Effect::None
    }
}

/// A change of the whole machine that the guest asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerEffect {
    /// ACPI S5 or an equivalent: the guest switched itself off.
    Shutdown,
    /// Reset register 0xcf9, i8042 pulse, FADT reset.
    Reset,
    /// isa-debug-exit: end the process with this status.
    Exit(u8),
    /// pvpanic: the guest panicked.
    Panicked,
    /// pvpanic: the guest switches itself off.
    PvShutdown,
    /// A watchdog expired.
    Watchdog,
    /// pvpanic: the guest panicked and a crash kernel is loaded.
    CrashLoaded,
}

/// Guest actions that become events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The guest set its clock; offset in seconds from the host's clock (RTC_CHANGE).
    RtcChange {
        /// Seconds between the guest's RTC and the base it was started with.
        offset: i64,
    },
    /// A guest program opened or closed a virtio-serial port (VSERPORT_CHANGE).
    SerialPort {
        /// The port's device id.
        id: String,
        /// Whether it is open now.
        open: bool,
    },
    /// The guest changed what an interface lets through (NIC_RX_FILTER_CHANGED).
    RxFilterChanged {
        /// The interface's key, as in [`crate::cx::BuildCx::id`].
        device: String,
    },
    /// A drive's tray moved, as the guest wanted it or because of a reset (DEVICE_TRAY_MOVED).
    TrayMoved {
        /// The drive's key, as in [`crate::cx::BuildCx::id`].
        device: String,
        /// Whether it is open now.
        open: bool,
    },
    /// The driver of the balloon says how much is in it (BALLOON_CHANGE).
    BalloonChanged {
        /// Pages of 4 KiB.
        pages: u32,
    },
}
