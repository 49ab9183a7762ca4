//! From Neutron's three fields to a segment.

use crate::model::{Segment, Vid, Vni};

use super::MessageError;

/// `network_type`, `physical_network` and `segmentation_id` as they stand in several messages.
#[derive(Clone, Copy)]
pub(super) struct SegmentFields<'a> {
    pub(super) network_type: &'a str,
    pub(super) physical_network: Option<&'a str>,
    pub(super) segmentation_id: Option<u32>,
}

impl SegmentFields<'_> {
    /// The segment that they describe.
    pub(super) fn segment(self) -> Result<Segment, MessageError> {
        let id = |what: &str| {
            self.segmentation_id
                .ok_or_else(|| MessageError::new("segmentation_id", format_args!("missing: the {what} of the network")))
        };
        let wrong_id = |error: &dyn std::fmt::Display| MessageError::new("segmentation_id", error);
        let physical_network = || {
            self.physical_network
                .map(str::to_owned)
                .ok_or_else(|| MessageError::new("physical_network", "missing: the label of the physical network"))
        };
        match self.network_type {
            "vxlan" => Ok(Segment::Vxlan(Vni::try_from(id("VNI")?).map_err(|error| wrong_id(&error))?)),
            "vlan" => Ok(Segment::Vlan {
                physical_network: physical_network()?,
                vid: Vid::try_from(id("VID")?).map_err(|error| wrong_id(&error))?,
            }),
            "flat" => Ok(Segment::Flat { physical_network: physical_network()? }),
            "local" => Ok(Segment::Local),
            other => Err(MessageError::new(
                "network_type",
                format_args!(
                    "networks of type {other:?} are not carried by this agent: vxlan, vlan, flat and local are"
                ),
            )),
        }
    }
}
