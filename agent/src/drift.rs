//! Telling repairs from work: a step on something that was in order, though nothing else has been asked for since, undoes
//! what somebody else has done.

use std::collections::{BTreeMap, BTreeSet};

use overlane_abi::NetworkKey;
use overlane_core::{
    action::{Action, DatapathAction, KernelAction, MapEntry, MapKey, SecurityEntry},
    model::Mac,
    observed::{Learned, Link, LinkKind, Observed},
};

/// What was in order, and how often it had to be put in order again.
#[derive(Default)]
pub(crate) struct Drift {
    /// Interfaces by index, when everything was in order; `None` while it is not known to have been.
    in_order: Option<BTreeMap<u32, String>>,
    /// What is learned, and followed rather than repaired.
    learned: Learned,
    total: u64,
}

impl Drift {
    /// Everything is as it should be. A tap that nobody has connected yet is not in order, though nothing is to be done about
    /// it.
    pub(crate) fn in_order(&mut self, observed: &Observed, learned: Learned) {
        self.learned = learned;
        let attached = observed.datapath.iter().flat_map(|maps| &maps.attached).map(|(_, ifindex)| *ifindex);
        let attached: BTreeSet<u32> = attached.collect();
        let is_used = |link: &&Link| {
            let is_of_network = link.master.is_some() || !matches!(link.kind, LinkKind::Other(_));
            is_of_network || attached.contains(&link.ifindex)
        };
        let links = observed.kernel.links.values().filter(is_used);
        self.in_order = Some(links.map(|link| (link.ifindex, link.name.clone())).collect());
    }

    /// Something else is asked for.
    pub(crate) fn new_wish(&mut self) {
        self.in_order = None;
    }

    /// Whether a step is a repair.
    pub(crate) fn is_repair(&self, action: &Action) -> bool {
        let Some(known) = &self.in_order else { return false };
        let was_there = |ifindex: &u32| known.contains_key(ifindex);
        match action {
            Action::Kernel(action) => match action {
                KernelAction::CreateBridge { name, .. }
                | KernelAction::CreateVxlan { name, .. }
                | KernelAction::CreateVlan { name, .. }
                | KernelAction::CreateSubPort { name, .. } => known.values().any(|known| known == name),
                KernelAction::SetUp { ifindex, .. }
                | KernelAction::SetDown { ifindex, .. }
                | KernelAction::SetMtu { ifindex, .. }
                | KernelAction::SetPromiscuous { ifindex, .. }
                | KernelAction::SetMaster { ifindex, .. }
                | KernelAction::MoveIntoBridge { ifindex, .. } => was_there(ifindex),
                KernelAction::AddFdb(entry) | KernelAction::DeleteFdb(entry) => was_there(&entry.ifindex),
                KernelAction::CreateGuard { .. } | KernelAction::RemoveGuard => true,
                KernelAction::Release { ifindex, .. }
                | KernelAction::SetLimit { ifindex, .. }
                | KernelAction::RemoveLimit { ifindex, .. } => was_there(ifindex),
                // The underlay, taps that go and what is no longer wanted are followed, not repaired.
                KernelAction::Close { .. }
                | KernelAction::GiveBack { .. }
                | KernelAction::SetVxlanUnderlay { .. }
                | KernelAction::DeleteLink { .. }
                | KernelAction::ResolveNeighbor { .. } => false,
            },
            Action::Datapath(action) => match action {
                DatapathAction::Put(
                    MapEntry::Port(ifindex, _) | MapEntry::VlanDevice(ifindex, _) | MapEntry::Qos(ifindex, _),
                )
                | DatapathAction::Attach { ifindex, .. } => was_there(ifindex),
                DatapathAction::Put(MapEntry::Vlan(key, vlan)) => {
                    was_there(&key.nic) && (vlan.device == 0 || was_there(&vlan.device))
                }
                DatapathAction::Put(MapEntry::Network(key, _)) => key.kind == NetworkKey::VNI || was_there(&key.id),
                DatapathAction::Put(MapEntry::Fdb(key, entry)) => {
                    let is_remote = entry.ifindex == 0;
                    let is_learned =
                        self.learned.macs.contains(&Mac(key.mac)) || is_remote && self.learned.from_tunnels;
                    !is_learned && (is_remote || was_there(&entry.ifindex))
                }
                DatapathAction::Put(MapEntry::Security(entry)) => match entry {
                    SecurityEntry::Source(ifindex, ..) => was_there(ifindex),
                    _ => true,
                },
                DatapathAction::Put(MapEntry::Neighbor(..)) | DatapathAction::Delete(MapKey::Neighbor(_)) => true,
                // What they can do is for others to say.
                DatapathAction::Put(MapEntry::Vtep(..) | MapEntry::XdpDevice(..))
                | DatapathAction::Delete(_)
                | DatapathAction::Detach { .. }
                | DatapathAction::ForgetCounters { .. } => false,
            },
        }
    }

    /// Repairs since the agent started.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Logs repairs, and how many there have been since the agent started.
    pub(crate) fn report(&mut self, repairs: &[&Action]) {
        self.total += repairs.len() as u64;
        if let Some(first) = repairs.first() {
            let (repaired, total) = (repairs.len(), self.total);
            tracing::warn!(repaired, total, "something else had changed this host; repaired, first: {first}");
        }
    }
}

#[cfg(test)]
mod tests {
    use overlane_abi as abi;
    use overlane_core::observed::KernelState;

    use super::*;

    fn create(name: &str) -> Action {
        KernelAction::CreateBridge {
            name: name.to_owned(),
            network: "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
                .parse()
                .map(overlane_core::model::NetworkId)
                .expect("valid"),
        }
        .into()
    }

    /// A bridge, and a tap that may be part of it.
    fn host(master: Option<u32>) -> Observed {
        let link = |ifindex, name: &str, kind, master| Link {
            ifindex,
            name: name.to_owned(),
            kind,
            master,
            up: true,
            mtu: 1500,
            ..Link::default()
        };
        let bridge = link(3, "brq971ffda2-e5", LinkKind::Bridge, None);
        let tap = link(4, "tapb1eaae00-e5", LinkKind::Other("tun".to_owned()), master);
        let kernel = KernelState { links: [(3, bridge), (4, tap)].into(), ..KernelState::default() };
        Observed { kernel, ..Observed::default() }
    }

    #[test]
    fn connecting_a_tap_is_a_repair_only_if_it_was_connected() {
        let connect = KernelAction::SetMaster {
            ifindex: 4,
            name: "tapb1eaae00-e5".to_owned(),
            bridge: 3,
            bridge_name: "brq971ffda2-e5".to_owned(),
        };
        let mut drift = Drift::default();
        drift.in_order(&host(None), Learned::default());
        assert!(!drift.is_repair(&connect.clone().into()));
        drift.in_order(&host(Some(3)), Learned::default());
        assert!(drift.is_repair(&connect.into()));
    }

    #[test]
    fn following_what_is_learned_is_no_repair() {
        let mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);
        let remote = abi::FdbEntry::remote(std::net::IpAddr::from([10, 10, 10, 12]).into());
        let put: Action = DatapathAction::Put(MapEntry::Fdb(abi::FdbKey::new(1, mac.0), remote)).into();
        let mut drift = Drift::default();
        drift.in_order(&host(None), Learned { macs: [mac].into(), ..Learned::default() });
        assert!(!drift.is_repair(&put));
        drift.in_order(&host(None), Learned { from_tunnels: true, ..Learned::default() });
        assert!(!drift.is_repair(&put));
        drift.in_order(&host(None), Learned::default());
        assert!(drift.is_repair(&put));
    }

    #[test]
    fn making_again_what_was_in_order_is_a_repair_until_something_else_is_asked_for() {
        let mut drift = Drift::default();
        assert!(!drift.is_repair(&create("brq971ffda2-e5")), "nothing was in order yet");
        drift.in_order(&host(None), Learned::default());
        assert!(drift.is_repair(&create("brq971ffda2-e5")));
        assert!(!drift.is_repair(&create("brq00000000-00")), "it has never been there");
        drift.new_wish();
        assert!(!drift.is_repair(&create("brq971ffda2-e5")));
    }
}
