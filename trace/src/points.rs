//! The table of all trace points. Names are QEMU's where the same thing exists there.

use crate::TracePoint;

macro_rules! points {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub static $constant: TracePoint = TracePoint::new($name);)*

        /// All of them, by name.
        pub static ALL: &[&TracePoint] = &[$(&$constant),*];
    };
}

points! {
    /// An event of hot-plug and the like is raised.
    ACPI_GENERAL_EVENT = "acpi_general_event";
    /// The power button is pressed.
    ACPI_POWER_BUTTON = "acpi_power_button";
    /// A node is closed.
    BDRV_CLOSE = "bdrv_close";
    /// A node is opened.
    BDRV_OPEN_COMMON = "bdrv_open_common";
    /// A device is to be plugged in.
    DEVICE_ADD = "device_add";
    /// The guest is asked to let go of a device.
    DEVICE_DEL = "device_del";
    /// A device asks control for something.
    DEVICE_EFFECT = "device_effect";
    /// A request for a file on the host.
    FILE_SUBMIT = "file_submit";
    /// An item of fw_cfg is chosen.
    FW_CFG_SELECT = "fw_cfg_select";
    /// The guest did something wrong.
    GUEST_ERROR = "guest_error";
    /// The guest asks for a reset, a shutdown or the like.
    GUEST_POWER = "guest_power";
    /// A command of a client.
    HANDLE_QMP_COMMAND = "handle_qmp_command";
    /// A request for an image in a format.
    IMAGE_SUBMIT = "image_submit";
    /// A job is in another state.
    JOB_STATE_TRANSITION = "job_state_transition";
    /// A vector is signalled by an eventfd.
    KVM_IRQCHIP_ADD_IRQFD = "kvm_irqchip_add_irqfd";
    /// A vector is given an address and data.
    KVM_IRQCHIP_UPDATE_MSI_ROUTE = "kvm_irqchip_update_msi_route";
    /// A processor leaves the guest.
    KVM_RUN_EXIT = "kvm_run_exit";
    /// A message-signalled interrupt is sent.
    KVM_SEND_MSI = "kvm_send_msi";
    /// An interrupt line changes its level.
    KVM_SET_IRQ = "kvm_set_irq";
    /// The map of addresses is made anew.
    MACHINE_REMAP = "machine_remap";
    /// A driver is ready: queues are handed out.
    MACHINE_START_QUEUES = "machine_start_queues";
    /// A port or device memory is read.
    MEMORY_REGION_OPS_READ = "memory_region_ops_read";
    /// A port or device memory is written.
    MEMORY_REGION_OPS_WRITE = "memory_region_ops_write";
    /// A migration is given up.
    MIGRATE_CANCEL = "migrate_cancel";
    /// A migration is in another state.
    MIGRATE_SET_STATE = "migrate_set_state";
    /// A migration goes over RAM once more.
    MIGRATION_PASS = "migration_pass";
    /// An event goes to the monitors.
    MONITOR_PROTOCOL_EVENT_EMIT = "monitor_protocol_event_emit";
    /// A command is refused.
    MONITOR_QMP_ERROR = "monitor_qmp_error";
    /// A command is answered.
    MONITOR_QMP_RESPOND = "monitor_qmp_respond";
    /// The table of vectors is written.
    MSIX_WRITE = "msix_write";
    /// Configuration space is read.
    PCI_CFG_READ = "pci_cfg_read";
    /// Configuration space is written.
    PCI_CFG_WRITE = "pci_cfg_write";
    /// The guest tells of its panic.
    PVPANIC_EVENT = "pvpanic_event";
    /// Tables are written out.
    QCOW2_CACHE_FLUSH = "qcow2_cache_flush";
    /// Data is written that needs clusters.
    QCOW2_WRITEV_START_REQ = "qcow2_writev_start_req";
    /// Interfaces tell the network where they are.
    QEMU_ANNOUNCE_SELF_ITER = "qemu_announce_self_iter";
    /// The machine is in another state.
    RUNSTATE_SET = "runstate_set";
    /// A register of a UART is read.
    SERIAL_READ = "serial_read";
    /// A register of a UART is written.
    SERIAL_WRITE = "serial_write";
    /// A client presses the power button.
    SYSTEM_POWERDOWN_REQUEST = "system_powerdown_request";
    /// Timers of devices are looked through.
    TIMERLIST_RUN = "timerlist_run";
    /// A page is given back to the host.
    VIRTIO_BALLOON_HANDLE_OUTPUT = "virtio_balloon_handle_output";
    /// The balloon is to be of another size.
    VIRTIO_BALLOON_TO_TARGET = "virtio_balloon_to_target";
    /// A request for the node: a read, a write, or zeroes.
    VIRTIO_BLK_HANDLE_RW = "virtio_blk_handle_rw";
    /// A request is answered.
    VIRTIO_BLK_REQ_COMPLETE = "virtio_blk_req_complete";
    /// A request is refused without asking the node.
    VIRTIO_BLK_REQ_REFUSED = "virtio_blk_req_refused";
    /// The node has done a request.
    VIRTIO_BLK_RW_COMPLETE = "virtio_blk_rw_complete";
    /// A device needs a reset by its driver.
    VIRTIO_ERROR = "virtio_error";
    /// A command on the control queue.
    VIRTIO_NET_HANDLE_CTRL = "virtio_net_handle_ctrl";
    /// A frame goes to the driver.
    VIRTIO_NET_RECEIVE = "virtio_net_receive";
    /// A queue interrupts its driver.
    VIRTIO_NOTIFY = "virtio_notify";
    /// A device tells of its changed configuration.
    VIRTIO_NOTIFY_CONFIG = "virtio_notify_config";
    /// Queues are handed to their workers.
    VIRTIO_PCI_START_QUEUES = "virtio_pci_start_queues";
    /// Queues are taken back from their workers.
    VIRTIO_PCI_STOP_QUEUES = "virtio_pci_stop_queues";
    /// A driver kicked a queue, which is now looked at.
    VIRTIO_QUEUE_NOTIFY = "virtio_queue_notify";
    /// A command for a unit.
    VIRTIO_SCSI_CMD_REQ = "virtio_scsi_cmd_req";
    /// A driver writes the status of its device.
    VIRTIO_SET_STATUS = "virtio_set_status";
    /// A driver broke the rules of a queue.
    VIRTQUEUE_BROKEN = "virtqueue_broken";
    /// A chain is given back.
    VIRTQUEUE_FILL = "virtqueue_fill";
}
