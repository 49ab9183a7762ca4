//! Bridges, what carries networks between hosts, and taps: made, adopted, connected; never taken from somebody else.

mod compute;
mod physical;
mod trunk;
mod vlan;
mod vxlan;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    action::{Action, KernelAction},
    config::Config,
    desired::{Desired, Network},
    model::{NetworkId, PortId, Segment},
    observed::{DatapathState, KernelState, Link, LinkKind, Observed},
    plan::{
        Obstacle, Plan, Subject,
        claims::{self, Refused},
        opening,
    },
};

use vlan::Carrier;

pub use compute::taps_in_the_making;
pub use trunk::sub_ports_in_place;
pub(super) use trunk::{Place, places};

/// The devices of one network that exist and may be used.
#[derive(Debug)]
pub(super) struct NetworkDevices {
    /// Interface index of the bridge.
    pub(super) bridge: Option<u32>,
    /// Interface index of what leads to the other hosts: the vxlan device, the VLAN device, or the NIC.
    pub(super) segment: Option<u32>,
    /// Interface index of the NIC below a VLAN device.
    pub(super) nic: Option<u32>,
    /// Interface indices of taps, by port.
    pub(super) taps: BTreeMap<PortId, u32>,
    /// The largest IP packet that passes all of them, in bytes; `None` while nothing says.
    pub(super) mtu: Option<u32>,
}

/// Plans the devices of every network, and returns those that are already there; nothing for a network that is blocked.
pub(super) fn plan(
    desired: &Desired,
    observed: &Observed,
    config: &Config,
    plan: &mut Plan,
) -> BTreeMap<NetworkId, NetworkDevices> {
    let kernel = &observed.kernel;
    let datapath = observed.datapath.as_ref();
    let is_tunnelled = |network: &Network| network.segment.vni().is_some();
    if let Some(vxlan) = &config.vxlan
        && kernel.link_with_address(vxlan.local_ip).is_none()
        && desired.networks.values().any(is_tunnelled)
    {
        let message = format!("no interface has the address {}, which [vxlan] local_ip names", vxlan.local_ip);
        plan.obstacle(Subject::Host, message);
    }
    let refused = claims::settle(desired, kernel, config);
    trunk::plan(desired, observed, config, plan);
    let sub_ports = places(desired, kernel);
    let planned = desired.networks.iter().filter_map(|(id, network)| {
        let abandoned = &observed.abandoned;
        let refused = &refused;
        let plan = &mut *plan;
        let sub_ports = &sub_ports;
        let plan =
            NetworkPlan { id: *id, network, desired, kernel, datapath, abandoned, refused, sub_ports, config, plan };
        let devices = plan.devices()?;
        Some((*id, devices))
    });
    planned.collect()
}

/// Bridges of networks that have been deleted, and what connects them to other hosts. Somebody else may have made them.
pub(super) fn of_deleted_networks(desired: &Desired, kernel: &KernelState, config: &Config) -> BTreeSet<u32> {
    let gone = desired.deleted.iter().filter(|id| !desired.networks.contains_key(id));
    let own_bridge = |id: &NetworkId| kernel.link_named(&id.bridge_name()).filter(|link| link.kind == LinkKind::Bridge);
    let is_mapped = |name: &str| config.physical_networks.values().any(|device| device.bridge.as_deref() == Some(name));
    let mut devices = BTreeSet::new();
    for bridge in gone.filter_map(own_bridge).filter(|bridge| !is_mapped(&bridge.name)) {
        let is_segment = |port: &&Link| {
            let is_made = port.made_for.is_some() || matches!(port.kind, LinkKind::Vxlan(_) | LinkKind::Vlan(_));
            let leads_out = is_made && !PortId::is_tap_name(&port.name);
            port.master == Some(bridge.ifindex) && leads_out
        };
        devices.extend(kernel.links.values().filter(is_segment).map(|port| port.ifindex));
        devices.insert(bridge.ifindex);
    }
    devices
}

/// Plans the end of devices that no network has needed for longer than the grace period. A tap that is still there,
/// whoever left it, keeps its bridge.
pub(super) fn retire(retired: &BTreeSet<u32>, kernel: &KernelState, config: &Config, plan: &mut Plan) {
    let is_needed = |bridge: &Link| {
        let ports = kernel.links.values().filter(|port| port.master == Some(bridge.ifindex));
        let mut others = ports.filter(|port| !retired.contains(&port.ifindex));
        others.any(|port| !physical::is_mapped_interface(config, &port.name))
    };
    let end: BTreeSet<u32> = retired
        .iter()
        .copied()
        .filter(|ifindex| {
            kernel.links.get(ifindex).is_some_and(|link| link.kind != LinkKind::Bridge || !is_needed(link))
        })
        .collect();
    remove(&end, kernel, config, plan);
}

/// Plans the end of devices, whatever is still connected to them: first what leads to other hosts, then the bridges, whose
/// NICs get back what is theirs.
pub(super) fn remove(end: &BTreeSet<u32>, kernel: &KernelState, config: &Config, plan: &mut Plan) {
    let links = || end.iter().filter_map(|ifindex| kernel.links.get(ifindex));
    links().filter(|link| link.kind != LinkKind::Bridge).for_each(|link| delete(plan, link));
    for bridge in links().filter(|link| link.kind == LinkKind::Bridge) {
        let is_its_nic =
            |port: &&Link| port.master == Some(bridge.ifindex) && physical::is_mapped_interface(config, &port.name);
        if let Some(nic) = kernel.links.values().find(is_its_nic) {
            plan.action(KernelAction::GiveBack {
                ifindex: nic.ifindex,
                name: nic.name.clone(),
                bridge: bridge.ifindex,
                bridge_name: bridge.name.clone(),
            });
        }
        delete(plan, bridge);
    }
}

/// Plans the end of a device; once, whatever number of networks have a reason for it.
fn delete(plan: &mut Plan, link: &Link) {
    let action = Action::from(KernelAction::DeleteLink { ifindex: link.ifindex, name: link.name.clone() });
    if !plan.actions.contains(&action) {
        plan.action(action);
    }
}

struct NetworkPlan<'a, 'p> {
    id: NetworkId,
    network: &'a Network,
    desired: &'a Desired,
    kernel: &'a KernelState,
    datapath: Option<&'a DatapathState>,
    abandoned: &'a BTreeSet<u32>,
    refused: &'a Refused,
    /// Subports whose devices are there.
    sub_ports: &'a BTreeMap<PortId, Place>,
    config: &'a Config,
    plan: &'p mut Plan,
}

/// A device has the right name but is not what it should be, or there is none; the obstacle has been reported.
struct Unusable;

/// A device that should be there: `None` while it is yet to be made.
type Planned<'a> = Result<Option<&'a Link>, Unusable>;

/// What connects the ports of a network, as far as it is there.
#[derive(Default)]
struct Connection<'a> {
    bridge: Option<&'a Link>,
    /// What leads to the other hosts.
    segment: Option<&'a Link>,
    /// The NIC below a VLAN device.
    nic: Option<&'a Link>,
    /// The network's MTU, if anything says what it is.
    mtu: Option<u32>,
}

impl<'a> NetworkPlan<'a, '_> {
    /// An unusable bridge or vxlan device keeps the whole network from being planned: half a network misleads.
    fn devices(mut self) -> Option<NetworkDevices> {
        let Connection { bridge, segment, nic, mtu } = self.connection().ok()?;
        self.remove_former(segment);
        let ports = self.network.local_ports.keys();
        let taps = ports.filter_map(|port| Some((*port, self.tap(*port, bridge, mtu)?))).collect();
        let index = |link: Option<&Link>| link.map(|link| link.ifindex);
        // What a device is to have is not what it takes now. A bridge has the least MTU of its ports.
        let limits = mtu.into_iter().chain(segment.or(bridge).map(|link| link.mtu));
        let mtu = limits.min();
        Some(NetworkDevices { bridge: index(bridge), segment: index(segment), nic: index(nic), taps, mtu })
    }

    fn connection(&mut self) -> Result<Connection<'a>, Unusable> {
        let refused = self.refused.networks.get(&self.id).cloned();
        if let Some(reason) = self.config.why_unusable(&self.network.segment).or(refused) {
            return Err(self.unusable(reason));
        }
        let own_mtu = self.network.mtu.map(u32::from);
        match &self.network.segment {
            Segment::Vxlan(vni) => {
                let (vxlan, underlay) = self.underlay()?;
                let mtu = own_mtu.or(underlay.map(|link| vxlan::room(vxlan, link)));
                let bridge = self.own_bridge()?;
                let device = self.vxlan_device(*vni, vxlan, underlay, mtu)?;
                if let (Some(bridge), Some(device)) = (bridge, device) {
                    self.enslave(device, bridge, Subject::Network(self.id));
                }
                Ok(Connection { bridge, segment: device, mtu, ..Connection::default() })
            }
            Segment::Flat { physical_network } => {
                let (bridge, nic) = self.physical(physical_network)?;
                let mtu = own_mtu.or(nic.map(|nic| nic.mtu));
                Ok(Connection { bridge, segment: nic, mtu, ..Connection::default() })
            }
            Segment::Vlan { physical_network, vid } => {
                let Carrier { nic, device, mtu } = self.vlan(physical_network, *vid)?;
                let bridge = self.own_bridge()?;
                if let (Some(bridge), Some(device)) = (bridge, device) {
                    self.enslave(device, bridge, Subject::Network(self.id));
                }
                Ok(Connection { bridge, segment: device, nic: Some(nic), mtu: Some(mtu) })
            }
            Segment::Local => Ok(Connection { bridge: self.own_bridge()?, mtu: own_mtu, ..Connection::default() }),
        }
    }

    /// What was made for the network when it had another segment must not go on connecting it to that one.
    fn remove_former(&mut self, segment: Option<&Link>) {
        let is_former = |link: &&Link| {
            let is_segment = segment.is_some_and(|segment| segment.ifindex == link.ifindex);
            link.made_for == Some(self.id) && link.kind != LinkKind::Bridge && !is_segment
        };
        if self.desired.complete {
            self.kernel.links.values().filter(is_former).for_each(|link| delete(self.plan, link));
        }
    }

    fn own_bridge(&mut self) -> Planned<'a> {
        let name = self.id.bridge_name();
        match self.kernel.link_named(&name) {
            None => {
                self.plan.action(KernelAction::CreateBridge { name, network: self.id });
                Ok(None)
            }
            Some(link) if link.kind == LinkKind::Bridge => match self.foreign_user(link) {
                Some(message) => Err(self.unusable(message)),
                None => {
                    self.set_up(link);
                    Ok(Some(link))
                }
            },
            Some(link) => Err(self.name_taken(link, "bridge")),
        }
    }

    /// Whether a bridge, although it has the right name, carries another network. Nova's and the Linux bridge agent's bridges
    /// cannot be told from anybody else's, but what leads out of them can.
    fn foreign_user(&self, bridge: &Link) -> Option<String> {
        if let Some(other) = bridge.made_for.filter(|other| *other != self.id) {
            return Some(format!("{} has been made for network {other}: delete it if that is gone", bridge.name));
        }
        let own = self.network.segment.vni()?;
        let ports = self.kernel.links.values().filter(|port| port.master == Some(bridge.ifindex));
        let mut tunnels = ports.filter_map(|port| match &port.kind {
            // What was made for this network when it had another segment is taken away.
            LinkKind::Vxlan(vxlan) if vxlan.vni != own && port.made_for != Some(self.id) => {
                Some((&port.name, vxlan.vni))
            }
            _ => None,
        });
        let (port, vni) = tunnels.next()?;
        Some(format!(
            "{} carries another network, with VNI {vni} by {port}: take that out with: ip link set {port} nomaster",
            bridge.name
        ))
    }

    /// The port's tap, if it is there and nobody else's.
    fn tap(&mut self, port: PortId, bridge: Option<&'a Link>, mtu: Option<u32>) -> Option<u32> {
        let tap = self.kernel.link_named(&port.tap_name())?;
        let place = self.sub_ports.get(&port);
        // What keeps a subport from having its device has been reported.
        if place.is_none() && (self.desired.sub_ports.contains_key(&port) || self.is_former_sub_port(tap)) {
            return None;
        }
        if let Some(reason) = self.refused.ports.get(&port) {
            self.plan.obstacle(Subject::Port(port), reason);
            return None;
        }
        if !tap.kind.is_plain() {
            let message = format!("{} is a {}, not a tap: rename it, the name is needed", tap.name, kind_name(tap));
            self.plan.obstacle(Subject::Port(port), message);
            return None;
        }
        if place.is_none()
            && let Some(reason) =
                compute::why_left_alone(tap, &self.network.local_ports[&port], self.abandoned, self.config)
        {
            self.plan.waiting.push(Obstacle { subject: Subject::Port(port), message: reason });
            return None;
        }
        let mtu = place.map_or(mtu, |place| self.sub_port_mtu(port, *place, mtu));
        self.set_mtu(tap, mtu);
        if tap.master.is_none() && !self.may_be_connected(port, tap) {
            return Some(tap.ifindex);
        }
        if self.network.local_ports[&port].admin_state_up {
            if self.parent_is_up(port) {
                self.set_up(tap);
            }
        } else if tap.up {
            self.plan.action(KernelAction::SetDown { ifindex: tap.ifindex, name: tap.name.clone() });
        }
        if let Some(bridge) = bridge
            && !self.enslave(tap, bridge, Subject::Port(port))
        {
            return None;
        }
        Some(tap.ifindex)
    }

    /// A port with security groups is connected once its programs are attached.
    fn may_be_connected(&self, port: PortId, tap: &Link) -> bool {
        opening::may_begin(self.desired, self.datapath, &self.network.local_ports[&port], tap.ifindex)
    }

    /// Whether `link` is, or will be, a port of `bridge`: a link that is already part of something else stays there.
    fn enslave(&mut self, link: &Link, bridge: &Link, subject: Subject) -> bool {
        match link.master {
            Some(master) if master == bridge.ifindex => true,
            Some(master) => {
                let message = self.belongs_elsewhere(link, master, bridge);
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

    fn belongs_elsewhere(&self, link: &Link, master: u32, bridge: &Link) -> String {
        let owner = self.kernel.links.get(&master).map_or("another device", |owner| owner.name.as_str());
        format!(
            "{} is part of {owner} and belongs into {1}: take it out with: ip link set {0} nomaster",
            link.name, bridge.name
        )
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
        let message =
            format!("{} is a {found}, but the name is needed for the {wanted}: rename or delete it", link.name);
        self.unusable(message)
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
        LinkKind::Vlan(_) => "VLAN device",
        LinkKind::Other(kind) if kind.is_empty() => "physical device",
        LinkKind::Other(kind) if kind == LinkKind::IFB => "device of kind ifb",
        LinkKind::Other(kind) => kind,
    }
}
