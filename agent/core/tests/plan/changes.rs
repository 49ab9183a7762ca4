//! A plan that looks at what has changed comes to the same as one that looks at everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use overlane_abi as abi;
use overlane_core::{
    action::{Action, DatapathAction, MapEntry},
    desired::{Desired, EntryKey, Neighbor},
    observed::Observed,
    offload::NicFeatures,
    plan::{self, Placement, Scope},
    update::{EntryChange, Update},
};
use proptest::prelude::*;

use crate::{
    groups::any_security,
    laws::{any_desired, any_host, mac, vtep},
    simulated::{apply, config, reconcile},
};

/// Changes of entries, of networks that may be there or not.
fn any_changes(desired: &Desired) -> impl Strategy<Value = Vec<EntryChange>> + use<> {
    let networks: Vec<_> = desired.networks.keys().copied().collect();
    let change = (any::<prop::sample::Index>(), 0..120_u8, prop::option::of(0..4_u8), any::<bool>());
    prop::collection::vec(change, 0..8).prop_map(move |changes| {
        let change = |(network, number, host, is_mac): (prop::sample::Index, u8, Option<u8>, bool)| {
            let network = *networks.get(network.index(networks.len().max(1)))?;
            Some(if is_mac {
                EntryChange::RemoteMac(network, mac(number), host.map(vtep))
            } else {
                let neighbor = host.map(|_| Neighbor { mac: mac(number), is_router: false });
                EntryChange::Neighbor(network, IpAddr::from([10, 0, 9, number]), neighbor)
            })
        };
        changes.into_iter().filter_map(change).collect()
    })
}

fn desired_and_changes() -> impl Strategy<Value = (Desired, Vec<EntryChange>)> {
    any_desired().prop_flat_map(|desired| {
        let changes = any_changes(&desired);
        (Just(desired), changes)
    })
}

fn placements(desired: &Desired, host: &Observed) -> BTreeMap<overlane_core::model::NetworkId, Placement> {
    plan::plan(desired, host, &config()).placements
}

fn nothing_left(desired: &Desired, host: &Observed) -> Vec<Action> {
    plan::plan(desired, host, &config()).actions
}

proptest! {
    #[test]
    fn a_nic_that_stops_segmenting_tunnels_changes_nothing_but_how_other_hosts_are_reached(
        desired in any_desired(),
        mut host in any_host(),
    ) {
        reconcile(&desired, &mut host);
        let nic = NicFeatures { segments_tcp: true, puts_together: true, ..NicFeatures::default() };
        let uplinks: BTreeSet<u32> = host.kernel.paths.values().map(|path| path.uplink).collect();
        host.kernel.nics = uplinks.into_iter().map(|uplink| (uplink, Ok(nic.clone()))).collect();
        for action in nothing_left(&desired, &host) {
            let is_as_it_should_be = |entry: &abi::Vtep| entry.flags & abi::Vtep::SUPERPACKETS_BY_KERNEL != 0;
            let is_flag = matches!(
                &action,
                Action::Datapath(DatapathAction::Put(MapEntry::Vtep(_, entry))) if is_as_it_should_be(entry)
            );
            prop_assert!(is_flag, "{action}");
            apply(&mut host, &action);
        }
        prop_assert_eq!(nothing_left(&desired, &host), []);
        let resolved = host.datapath.iter().flat_map(|maps| maps.vteps.values()).filter(|entry| entry.ifindex != 0);
        for entry in resolved {
            prop_assert!(entry.flags & abi::Vtep::SUPERPACKETS_BY_KERNEL != 0, "{entry:?}");
        }
    }

    #[test]
    fn changed_entries_alone_lead_to_what_is_desired(
        (mut desired, changes) in desired_and_changes(),
        mut host in any_host(),
    ) {
        reconcile(&desired, &mut host);
        let placements = placements(&desired, &host);
        let keys: BTreeSet<EntryKey> = changes.iter().map(|change| change.apply(&mut desired)).collect();
        for action in plan::plan_entries(&desired, &host, &placements, &keys) {
            apply(&mut host, &action);
        }
        // A host that is new to this one must be found first: that is no matter of entries.
        let left = nothing_left(&desired, &host);
        let is_of_a_path = |action: &Action| action.to_string().contains("vteps") || action.to_string().contains("next hop");
        prop_assert!(left.iter().all(is_of_a_path), "{left:?}");
    }

    #[test]
    fn changed_rules_alone_lead_to_what_is_desired(
        desired in any_desired(),
        security in any_security(),
        mut host in any_host(),
    ) {
        reconcile(&desired, &mut host);
        // Rules and members of the groups change; ports have the groups that they had.
        let rulebook = security.rulebook_for(&desired);
        let desired = Desired { rulebook, ..desired };
        for action in plan::plan_rules(&desired, &host, &placements(&desired, &host)) {
            apply(&mut host, &action);
        }
        let left = nothing_left(&desired, &host);
        prop_assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn after_a_change_of_devices_only_their_networks_need_a_look(
        first in any_desired(),
        second in any_desired(),
        mut host in any_host(),
    ) {
        reconcile(&first, &mut host);
        let settled = placements(&first, &host);
        // What was desired of entries has not changed where the network has not.
        let mut second = second;
        for (id, network) in &mut second.networks {
            if let Some(before) = first.networks.get(id) {
                (network.remote_macs, network.flood) = (before.remote_macs.clone(), before.flood.clone());
                network.neighbors.clone_from(&before.neighbors);
            }
        }
        second.complete = first.complete;
        let entries = BTreeSet::new();
        let scope = Scope::Changes { settled: &settled, entries: &entries };
        let within = plan::plan_within(&second, &host, &config(), scope);
        prop_assert_eq!(within, plan::plan(&second, &host, &config()));
    }

    #[test]
    fn an_update_leads_from_one_state_to_the_other(
        (first, changes) in desired_and_changes(),
        second in any_desired(),
        is_small in any::<bool>(),
    ) {
        let rulebook = Arc::clone(&second.rulebook);
        let mut target = if is_small { Desired { rulebook, ..first.clone() } } else { second };
        for change in &changes {
            change.apply(&mut target);
        }
        let mut desired = first.clone();
        match Update::between(&first, &target) {
            None => prop_assert_eq!(&first, &target),
            Some(Update::Whole(whole)) => {
                prop_assert!(!is_small, "a change of entries and rules only is told as such");
                desired = *whole;
            }
            Some(update) => drop(update.apply(&mut desired)),
        }
        prop_assert_eq!(desired, target);
    }
}
