//! Bridges, vxlan devices and taps: made, adopted, connected; never taken from somebody else.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    action::{KernelAction, VxlanSpec},
    config::{Dscp, VxlanConfig},
    desired::{Desired, Network},
    model::{NetworkId, PortId, vxlan_name},
    observed::{KernelState, Link, LinkKind},
    plan::{Plan, Subject},
};

/// Bytes that the outer headers add to an IP packet of the overlay.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;

/// What the kernel calls "copy the inner packet's" when it is told a TOS (`ip link add … tos inherit`).
const TOS_INHERIT: u8 = 1;

/// The devices of one network that exist and may be used.
#[derive(Debug)]
pub(super) struct NetworkDevices {
    /// Interface index of the bridge.
    pub(super) bridge: Option<u32>,
    /// Interface index of the vxlan device.
    pub(super) vxlan: Option<u32>,
    /// Interface indices of taps, by port.
    pub(super) taps: BTreeMap<PortId, u32>,
}

/// Plans the devices of every network, and returns those that are already there; nothing for a network that is blocked.
pub(super) fn plan(
    desired: &Desired,
    kernel: &KernelState,
    vxlan: &VxlanConfig,
    plan: &mut Plan,
) -> BTreeMap<NetworkId, NetworkDevices> {
    if kernel.local_vtep_link.is_none() && !desired.networks.is_empty() {
        let message = format!("no interface has the address {}, which [vxlan] local_ip names", vxlan.local_ip);
        plan.obstacle(Subject::Host, message);
    }
    let planned = desired.networks.iter().filter_map(|(id, network)| {
        let devices = NetworkPlan { id: *id, network, kernel, vxlan, plan: &mut *plan }.devices()?;
        Some((*id, devices))
    });
    planned.collect()
}

struct NetworkPlan<'a, 'p> {
    id: NetworkId,
    network: &'a Network,
    kernel: &'a KernelState,
    vxlan: &'a VxlanConfig,
    plan: &'p mut Plan,
}

/// A device has the right name but is not what it should be; the obstacle has been reported.
struct Unusable;

impl<'a> NetworkPlan<'a, '_> {
    /// An unusable bridge or vxlan device keeps the whole network from being planned: half a network misleads.
    fn devices(mut self) -> Option<NetworkDevices> {
        let mtu = self.mtu();
        let (Ok(bridge), Ok(vxlan)) = (self.bridge(), self.vxlan_device(mtu)) else {
            return None;
        };
        if let (Some(bridge), Some(vxlan)) = (bridge, vxlan) {
            self.enslave(vxlan, bridge, Subject::Network(self.id));
        }
        let ports = self.network.local_ports.keys();
        let taps = ports.filter_map(|port| Some((*port, self.tap(*port, bridge, mtu)?))).collect();
        Some(NetworkDevices { bridge: bridge.map(|link| link.ifindex), vxlan: vxlan.map(|link| link.ifindex), taps })
    }

    /// The network's MTU, or what the underlay leaves room for; `None` while neither is known.
    fn mtu(&self) -> Option<u32> {
        let overhead = match self.vxlan.local_ip {
            IpAddr::V4(_) => OVERHEAD_V4,
            IpAddr::V6(_) => OVERHEAD_V6,
        };
        let underlay = self.kernel.local_vtep_link.and_then(|ifindex| self.kernel.links.get(&ifindex));
        self.network.mtu.map(u32::from).or(underlay.map(|link| link.mtu.saturating_sub(overhead)))
    }

    fn bridge(&mut self) -> Result<Option<&'a Link>, Unusable> {
        let name = self.id.bridge_name();
        match self.kernel.link_named(&name) {
            None => {
                self.plan.action(KernelAction::CreateBridge { name, network: self.id });
                Ok(None)
            }
            Some(link) if link.kind == LinkKind::Bridge => {
                self.set_up(link);
                Ok(Some(link))
            }
            Some(link) => Err(self.name_taken(link, "bridge")),
        }
    }

    fn vxlan_device(&mut self, mtu: Option<u32>) -> Result<Option<&'a Link>, Unusable> {
        let name = vxlan_name(self.network.vni);
        match self.kernel.link_named(&name) {
            None => self.create_vxlan(name, mtu),
            Some(link) => {
                let LinkKind::Vxlan(found) = &link.kind else {
                    return Err(self.name_taken(link, "vxlan device"));
                };
                if found.vni != self.network.vni {
                    let message = format!("{name} has VNI {}: rename it, the name is needed", found.vni);
                    return Err(self.unusable(message));
                }
                if found.port != self.vxlan.udp_dstport {
                    let message = format!(
                        "{name} uses UDP port {}, the configuration says {}: set [vxlan] udp_dstport = {0} on every host",
                        found.port, self.vxlan.udp_dstport
                    );
                    return Err(self.unusable(message));
                }
                if self.vxlan.local_ip.is_ipv6() && !found.udp6_zero_checksum_rx {
                    let message = format!(
                        "{name} refuses UDP over IPv6 without a checksum, which the other hosts send: delete it, and it is \
                         made anew"
                    );
                    return Err(self.unusable(message));
                }
                self.set_up(link);
                self.set_mtu(link, mtu);
                Ok(Some(link))
            }
        }
    }

    fn create_vxlan(&mut self, name: String, mtu: Option<u32>) -> Result<Option<&'a Link>, Unusable> {
        let same_vni = |link: &&Link| matches!(&link.kind, LinkKind::Vxlan(other) if other.vni == self.network.vni);
        if let Some(other) = self.kernel.links.values().find(same_vni) {
            let message =
                format!("VNI {} is used by {}: delete it, or rename it to {name}", self.network.vni, other.name);
            return Err(self.unusable(message));
        }
        // Without the underlay, which is an obstacle of the host, there is nothing to make the device on.
        if let (Some(underlay), Some(mtu)) = (self.kernel.local_vtep_link, mtu) {
            let spec = VxlanSpec {
                vni: self.network.vni,
                local: self.vxlan.local_ip,
                underlay,
                port: self.vxlan.udp_dstport,
                source_ports: self.vxlan.source_ports,
                ttl: self.vxlan.ttl,
                tos: match self.vxlan.dscp {
                    Dscp::Inherit => Some(TOS_INHERIT),
                    Dscp::Fixed(0) => None,
                    Dscp::Fixed(dscp) => Some(dscp << 2),
                },
                mtu,
            };
            self.plan.action(KernelAction::CreateVxlan { name, network: self.id, spec });
        }
        Ok(None)
    }

    /// The port's tap, if it is there and nobody else's.
    fn tap(&mut self, port: PortId, bridge: Option<&'a Link>, mtu: Option<u32>) -> Option<u32> {
        let tap = self.kernel.link_named(&port.tap_name())?;
        if !matches!(tap.kind, LinkKind::Other(_)) {
            let message = format!("{} is a {}, not a tap: rename it, the name is needed", tap.name, kind_name(tap));
            self.plan.obstacle(Subject::Port(port), message);
            return None;
        }
        self.set_mtu(tap, mtu);
        self.set_up(tap);
        if let Some(bridge) = bridge
            && !self.enslave(tap, bridge, Subject::Port(port))
        {
            return None;
        }
        Some(tap.ifindex)
    }

    /// Whether `link` is, or will be, a port of `bridge`: a link that is already part of something else stays there.
    fn enslave(&mut self, link: &Link, bridge: &Link, subject: Subject) -> bool {
        match link.master {
            Some(master) if master == bridge.ifindex => true,
            Some(master) => {
                let owner = self.kernel.links.get(&master).map_or("another device", |owner| owner.name.as_str());
                let message = format!(
                    "{} is part of {owner} and belongs into {1}: take it out with: ip link set {0} nomaster",
                    link.name, bridge.name
                );
                self.plan.obstacle(subject, message);
                false
            }
            None => {
                self.plan.action(KernelAction::SetMaster {
                    ifindex: link.ifindex,
                    name: link.name.clone(),
                    bridge: bridge.ifindex,
                    bridge_name: bridge.name.clone(),
                });
                true
            }
        }
    }

    fn set_up(&mut self, link: &Link) {
        if !link.up {
            self.plan.action(KernelAction::SetUp { ifindex: link.ifindex, name: link.name.clone() });
        }
    }

    fn set_mtu(&mut self, link: &Link, mtu: Option<u32>) {
        if let Some(mtu) = mtu.filter(|mtu| *mtu != link.mtu) {
            self.plan.action(KernelAction::SetMtu { ifindex: link.ifindex, name: link.name.clone(), mtu });
        }
    }

    fn name_taken(&mut self, link: &Link, wanted: &str) -> Unusable {
        let found = kind_name(link);
        self.unusable(format!(
            "{} is a {found}, but the name is needed for the {wanted}: rename or delete it",
            link.name
        ))
    }

    fn unusable(&mut self, message: String) -> Unusable {
        self.plan.obstacle(Subject::Network(self.id), message);
        Unusable
    }
}

fn kind_name(link: &Link) -> &str {
    match &link.kind {
        LinkKind::Bridge => "bridge",
        LinkKind::Vxlan(_) => "vxlan device",
        LinkKind::Other(kind) if kind.is_empty() => "physical device",
        LinkKind::Other(kind) => kind,
    }
}
