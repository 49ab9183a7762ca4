//! Networks of which it is not known yet who is in them on other hosts.

use std::collections::BTreeSet;

use overlane_abi as abi;
use overlane_core::{model::Vni, observed::LinkKind};
use proptest::prelude::*;

use crate::{
    laws::{any_desired, any_host, vtep},
    simulated::reconcile,
};

proptest! {
    #[test]
    fn only_what_leads_to_members_that_are_not_known_yet_stays_when_all_else_is_told(
        mut desired in any_desired(),
        mut host in any_host(),
    ) {
        desired.complete = true;
        desired.networks.values_mut().for_each(|network| network.has_unknown_members = network.segment.vni().is_some());
        let vnis: BTreeSet<Vni> = desired.networks.values().filter_map(|network| network.segment.vni()).collect();
        if let Some(maps) = &mut host.datapath {
            let unresolved = abi::Vtep { ifindex: 0, mtu: 0, header_len: 0, flags: 0, pad: 0, header: [0; abi::HEADER_MAX] };
            maps.vteps.insert(vtep(9).into(), unresolved);
        }
        let before = host.clone();
        reconcile(&desired, &mut host);
        for entry in &before.kernel.fdb {
            let vni = match &before.kernel.links[&entry.ifindex].kind {
                LinkKind::Vxlan(vxlan) => Some(vxlan.vni),
                _ => None,
            };
            if vni.is_some_and(|vni| vnis.contains(&vni)) {
                prop_assert!(host.kernel.fdb.contains(entry), "{entry:?} is gone");
            }
        }
        let (Some(maps), Some(after)) = (&before.datapath, &host.datapath) else { return Ok(()) };
        prop_assert_eq!(after.vteps.contains_key(&vtep(9).into()), !vnis.is_empty());
        let kept = maps.networks.values().filter(|network| vnis.iter().any(|vni| vni.get() == network.vni));
        let kept: BTreeSet<u32> = kept.map(|network| network.index).collect();
        for (key, entry) in &maps.fdb {
            let device_was_gone = entry.ifindex != 0 && !before.kernel.links.contains_key(&entry.ifindex);
            prop_assert!(device_was_gone || !kept.contains(&key.network) || after.fdb.contains_key(key), "{key:?} is gone");
        }
        desired.networks.values_mut().for_each(|network| network.has_unknown_members = false);
        reconcile(&desired, &mut host);
        let remote: usize = desired.networks.values().map(|network| network.remote_macs.len()).sum();
        let Some(maps) = &host.datapath else { return Ok(()) };
        prop_assert_eq!(maps.fdb.len(), remote + maps.ports.len());
    }
}
