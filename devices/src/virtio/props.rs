//! The transport's part of a virtio driver's properties.

/// The transport's choices in the properties `$props` of a virtio-*-pci driver, whichever it is:
/// `QmpResult<VirtioPciProps>`. Refuses what the transport does not have.
#[macro_export]
macro_rules! virtio_pci_props {
    ($props:expr, $cx:expr) => {
        $crate::virtio::TransportChoice {
            disable_modern: $props.disable_modern,
            packed: $props.packed,
            iommu_platform: $props.iommu_platform,
            ats: $props.ats,
            vectors: $props.vectors,
            multifunction: $props.multifunction,
            indirect_desc: $props.indirect_desc,
            event_idx: $props.event_idx,
            ioeventfd: $props.ioeventfd,
        }
        .check($cx)
    };
}

use api_spec::{QmpError, QmpResult};

use super::VirtioPciProps;
use crate::cx::BuildCx;
use crate::pci::MAX_VECTORS;

/// What the properties say of the transport; made by [`virtio_pci_props!`](crate::virtio_pci_props).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // named after the properties
pub struct TransportChoice {
    pub disable_modern: bool,
    pub packed: bool,
    pub iommu_platform: bool,
    pub ats: bool,
    pub vectors: Option<u32>,
    pub multifunction: bool,
    pub indirect_desc: bool,
    pub event_idx: bool,
    pub ioeventfd: bool,
}

impl TransportChoice {
    /// # Errors
    /// For what the transport does not have.
    pub fn check(self, cx: &BuildCx) -> QmpResult<VirtioPciProps> {
        let refused = [
            (self.disable_modern, "disable-modern"),
            (self.packed, "packed"),
            (self.iommu_platform, "iommu_platform"),
            (self.ats, "ats"),
        ];
        if let Some((_, name)) = refused.iter().find(|(on, _)| *on) {
            return Err(QmpError::generic(format!(
                "Property '{name}' cannot be on: it is not supported"
            )));
        }
        let vectors = match self.vectors {
            // QEMU's way to say "leave it to the device".
            None | Some(u32::MAX) => None,
            Some(count) => Some(
                u16::try_from(count)
                    .ok()
                    .filter(|count| *count <= MAX_VECTORS)
                    .ok_or_else(|| {
                        QmpError::generic(format!(
                            "Property 'vectors' cannot be {count}: at most {MAX_VECTORS}"
                        ))
                    })?,
            ),
        };
        Ok(VirtioPciProps {
            vectors,
            express: cx.express,
            multifunction: self.multifunction,
            indirect_desc: self.indirect_desc,
            event_idx: self.event_idx,
            ioeventfd: self.ioeventfd,
        })
    }
}
