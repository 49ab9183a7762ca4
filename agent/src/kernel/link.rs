//! Network devices.

use std::{collections::BTreeMap, io, net::IpAddr};

use overlane_core::{
    action::VxlanSpec,
    model::{Mac, NetworkId, PortId, Vni},
    observed::{Link, LinkKind, Vxlan},
};
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        link::{
            BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags,
            LinkInfo, LinkLayerType, LinkMessage,
        },
    },
};

use super::{Kernel, KernelError, error::unless, qdisc, sysctl::disable_ipv6, vlan};

impl Kernel {
    pub(super) fn list_links(&self) -> Result<BTreeMap<u32, Link>, KernelError> {
        self.list_links_and_whether_any_is_limited().map(|(links, _)| links)
    }

    /// Lists links. Whether there is a token bucket filter at one of them they say by themselves; which, another listing does.
    pub(super) fn list_links_and_whether_any_is_limited(&self) -> Result<(BTreeMap<u32, Link>, bool), KernelError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let is_limit =
            |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Qdisc(kind) if kind == qdisc::TBF);
        let mut has_limits = false;
        let links = self.list(RouteNetlinkMessage::GetLink(request), |answer| match answer {
            RouteNetlinkMessage::NewLink(message) => {
                has_limits |= message.attributes.iter().any(is_limit);
                Some(parse(&message))
            }
            _ => None,
        });
        let links = links.map_err(KernelError::list("links"))?;
        Ok((links.into_iter().map(|link| (link.ifindex, link)).collect(), has_limits))
    }

    pub(super) async fn create_bridge(&self, name: &str, network: NetworkId) -> Result<(), KernelError> {
        // As os-vif makes them for Nova: whoever comes first, the bridge is the same.
        let data = InfoData::Bridge(vec![
            InfoBridge::ForwardDelay(0),
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::MulticastSnooping(false),
        ]);
        self.create(name, InfoKind::Bridge, Some(data), Vec::new(), network_mark(network))
            .await
            .map_err(KernelError::request("creating bridge", name))
    }

    pub(super) async fn create_vxlan(
        &self,
        name: &str,
        network: NetworkId,
        spec: &VxlanSpec,
    ) -> Result<(), KernelError> {
        let mut data = vec![InfoVxlan::Id(spec.vni.get()), InfoVxlan::Link(spec.underlay), InfoVxlan::Port(spec.port)];
        match spec.local {
            IpAddr::V4(local) => data.push(InfoVxlan::Local(local)),
            // The fast lane sends UDP over IPv6 without a checksum (RFC 6935); both lanes must agree.
            IpAddr::V6(local) => {
                data.extend([InfoVxlan::Local6(local), InfoVxlan::UDPZeroCsumTX(true), InfoVxlan::UDPZeroCsumRX(true)]);
            }
        }
        data.extend(spec.group.map(|group| match group {
            IpAddr::V4(group) => InfoVxlan::Group(group),
            IpAddr::V6(group) => InfoVxlan::Group6(group),
        }));
        data.extend(spec.source_ports.map(InfoVxlan::PortRange));
        data.extend(spec.ttl.map(InfoVxlan::Ttl));
        data.extend(spec.tos.map(InfoVxlan::Tos));
        let mtu = vec![LinkAttribute::Mtu(spec.mtu)];
        self.create(name, InfoKind::Vxlan, Some(InfoData::Vxlan(data)), mtu, network_mark(network))
            .await
            .map_err(KernelError::request("creating vxlan device", name))
    }

    /// Makes a device and, once it has no IPv6 of its own, marks it as Overlane's and sets it up.
    pub(super) async fn create(
        &self,
        name: &str,
        kind: InfoKind,
        data: Option<InfoData>,
        more: Vec<LinkAttribute>,
        mut mark: LinkMessage,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        let info = std::iter::once(LinkInfo::Kind(kind)).chain(data.map(LinkInfo::Data));
        message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(info.collect())];
        message.attributes.extend(more);
        let created = self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await;
        unless(io::ErrorKind::AlreadyExists, created)?;
        disable_ipv6(name)?;
        mark.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.change(RouteNetlinkMessage::SetLink(mark), 0).await
    }

    pub(super) async fn set_up(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set(message).await.map_err(KernelError::request("setting up", name))
    }

    pub(super) async fn set_down(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.change_mask = LinkFlags::Up;
        self.set(message).await.map_err(KernelError::request("setting down", name))
    }

    pub(super) async fn set_mtu(&self, ifindex: u32, name: &str, mtu: u32) -> Result<(), KernelError> {
        self.set_attribute(ifindex, LinkAttribute::Mtu(mtu))
            .await
            .map_err(KernelError::request("setting the MTU of", name))
    }

    pub(super) async fn set_master(&self, ifindex: u32, name: &str, bridge: u32) -> Result<(), KernelError> {
        self.set_attribute(ifindex, LinkAttribute::Controller(bridge))
            .await
            .map_err(KernelError::request("putting into its bridge", name))
    }

    /// Has a vxlan device send by `underlay`.
    pub(super) async fn set_vxlan_underlay(&self, ifindex: u32, name: &str, underlay: u32) -> Result<(), KernelError> {
        let data = InfoData::Vxlan(vec![InfoVxlan::Link(underlay)]);
        let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(data)];
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::LinkInfo(info));
        let result = self.change(RouteNetlinkMessage::NewLink(message), 0).await;
        result.map_err(KernelError::request("changing the underlay of", name))
    }

    pub(super) async fn delete_link(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let result = self.change(RouteNetlinkMessage::DelLink(message), 0).await;
        let result = if is_gone(&result) { Ok(()) } else { result };
        result.map_err(KernelError::request("deleting", name))
    }

    async fn set_attribute(&self, ifindex: u32, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(attribute);
        self.set(message).await
    }

    async fn set(&self, message: LinkMessage) -> io::Result<()> {
        self.change(RouteNetlinkMessage::SetLink(message), 0).await
    }
}

pub(super) fn is_gone(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32))
}

/// Begins the alias of what Overlane makes for a network; its id follows.
const NETWORK_MARK: &str = "overlane network=";
/// Begins the alias of what Overlane makes for a subport; the id of the trunk's port follows.
const TRUNK_MARK: &str = "overlane trunk=";

/// Marks a device as a network's, and sets it up.
pub(super) fn network_mark(network: NetworkId) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfAlias(format!("{NETWORK_MARK}{network}")));
    message
}

/// Marks a device as a subport's.
pub(super) fn trunk_mark(parent: PortId) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfAlias(format!("{TRUNK_MARK}{parent}")));
    message
}

fn parse_mark(alias: &str, mark: &str) -> Option<uuid::Uuid> {
    alias.strip_prefix(mark)?.parse().ok()
}

fn parse(message: &LinkMessage) -> Link {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        kind: LinkKind::Other(String::new()),
        master: None,
        up: message.header.flags.contains(LinkFlags::Up),
        promiscuous: message.header.flags.contains(LinkFlags::Promisc),
        mtu: 0,
        mac: None,
        made_for: None,
        made_for_trunk: None,
    };
    let (mut lower, mut info) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => {
                link.made_for = parse_mark(alias, NETWORK_MARK).map(NetworkId);
                link.made_for_trunk = parse_mark(alias, TRUNK_MARK).map(PortId);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(master) => link.master = Some(*master),
            LinkAttribute::Address(address) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = <[u8; 6]>::try_from(address.as_slice()).ok().map(Mac);
            }
            LinkAttribute::Link(ifindex) => lower = Some(*ifindex),
            LinkAttribute::LinkInfo(found) => info = Some(found),
            _ => (),
        }
    }
    // Its index means nothing here when it is in another namespace.
    let is_here = |attribute: &LinkAttribute| !matches!(attribute, LinkAttribute::LinkNetNsId(_));
    let lower = lower.filter(|_| message.attributes.iter().all(is_here));
    if let Some(info) = info {
        link.kind = parse_kind(info, lower);
    }
    link
}

fn parse_kind(info: &[LinkInfo], lower: Option<u32>) -> LinkKind {
    let kind = info.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None });
    let data = info.iter().find_map(|info| if let LinkInfo::Data(data) = info { Some(data) } else { None });
    match (kind, data) {
        (Some(InfoKind::Bridge), _) => LinkKind::Bridge,
        (Some(InfoKind::Vxlan), Some(InfoData::Vxlan(data))) => match parse_vxlan(data) {
            Some(vxlan) => LinkKind::Vxlan(vxlan),
            // A device that takes its VNI from metadata belongs to somebody else.
            None => LinkKind::Other("vxlan".to_owned()),
        },
        (Some(InfoKind::Vlan), Some(InfoData::Vlan(data))) => vlan::parse(data, lower),
        (Some(kind), _) => LinkKind::Other(kind.to_string()),
        (None, _) => LinkKind::Other(String::new()),
    }
}

fn parse_vxlan(data: &[InfoVxlan]) -> Option<Vxlan> {
    let mut vni = None;
    let (mut local, mut underlay, mut port, mut udp6_zero_checksum_rx) = (None, None, 0, false);
    let mut group = None;
    for attribute in data {
        match attribute {
            InfoVxlan::Id(id) => vni = Vni::try_from(*id).ok(),
            InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
            InfoVxlan::Group(address) => group = Some(IpAddr::V4(*address)),
            InfoVxlan::Group6(address) => group = Some(IpAddr::V6(*address)),
            InfoVxlan::Link(ifindex) => underlay = Some(*ifindex).filter(|ifindex| *ifindex != 0),
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::UDPZeroCsumRX(on) => udp6_zero_checksum_rx = *on,
            InfoVxlan::CollectMetadata(true) => return None,
            _ => (),
        }
    }
    Some(Vxlan { vni: vni?, local, underlay, port, group, udp6_zero_checksum_rx })
}
