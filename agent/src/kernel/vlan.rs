//! `<nic>.<vid>` devices, and those of subports: the 8021q module's, or what stands in for them.

use overlane_core::{
    action::{Tagging, VlanSpec},
    model::{Mac, NetworkId, PortId, Vid},
    observed::{LinkKind, Vlan},
};
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        link::{
            InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol, VlanQosMapping,
        },
    },
};

use super::{
    Kernel, KernelError,
    link::{network_mark, trunk_mark},
};

/// The priorities that a tag has room for besides 0, which is what the kernel takes for everything that is not mapped.
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=7;

impl Kernel {
    /// Whether the kernel makes VLAN devices. It is asked for one that says neither its NIC nor its VID: a kernel that knows
    /// what that is, having loaded its module if need be, complains about what is missing.
    pub(super) async fn has_8021q(&self) -> bool {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]));
        let refusal = self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await;
        let unknown_kind = nix::errno::Errno::EOPNOTSUPP as i32;
        !refusal.is_err_and(|error| error.raw_os_error() == Some(unknown_kind))
    }

    pub(super) async fn create_vlan(&self, name: &str, network: NetworkId, spec: &VlanSpec) -> Result<(), KernelError> {
        self.create_tagged(name, spec, network_mark(network)).await
    }

    pub(super) async fn create_sub_port(&self, name: &str, parent: PortId, spec: &VlanSpec) -> Result<(), KernelError> {
        self.create_tagged(name, spec, trunk_mark(parent)).await
    }

    async fn create_tagged(&self, name: &str, spec: &VlanSpec, mark: LinkMessage) -> Result<(), KernelError> {
        let mut attributes = vec![LinkAttribute::Mtu(spec.mtu)];
        let (kind, data) = match spec.tagging {
            Tagging::Kernel => {
                attributes.push(LinkAttribute::Link(spec.nic));
                // The priority of a tag is the priority of its packet, in both directions, as the programs have it.
                let priorities = || PRIORITIES.map(|priority| VlanQosMapping::Mapping(priority, priority)).collect();
                let data = vec![
                    InfoVlan::Id(spec.vid.get()),
                    InfoVlan::EgressQos(priorities()),
                    InfoVlan::IngressQos(priorities()),
                ];
                (InfoKind::Vlan, Some(InfoData::Vlan(data)))
            }
            // An ifb has a carrier whatever happens, and no other end; its own way of sending, which drops, is never reached.
            Tagging::Programs => {
                attributes.extend(spec.mac.map(|Mac(mac)| LinkAttribute::Address(mac.to_vec())));
                (InfoKind::Ifb, None)
            }
        };
        let request = match spec.tagging {
            Tagging::Kernel => "creating VLAN device",
            Tagging::Programs => "creating, as an ifb, VLAN device",
        };
        let created = self.create(name, kind, data, attributes, mark).await;
        created.map_err(KernelError::request(request, name))
    }

    pub(super) async fn set_promiscuous(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Promisc;
        message.header.change_mask = LinkFlags::Promisc;
        let result = self.change(RouteNetlinkMessage::SetLink(message), 0).await;
        result.map_err(KernelError::request("making promiscuous", name))
    }
}

/// What a VLAN device is, `nic` being the link that the kernel names with it.
pub(super) fn parse(data: &[InfoVlan], nic: Option<u32>) -> LinkKind {
    let (mut vid, mut is_8021ad) = (None, false);
    for attribute in data {
        match attribute {
            InfoVlan::Id(id) => vid = Vid::try_from(u32::from(*id)).ok(),
            InfoVlan::Protocol(protocol) => is_8021ad = *protocol != VlanProtocol::Ieee8021Q,
            _ => (),
        }
    }
    match vid {
        Some(vid) => LinkKind::Vlan(Vlan { nic, vid, is_8021ad }),
        // VID 0 takes frames that have only a priority.
        None => LinkKind::Other("vlan".to_owned()),
    }
}
