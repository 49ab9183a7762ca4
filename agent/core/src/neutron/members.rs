//! Who is where in one network, as l2population tells.
//!
//! Messages are repeated, arrive out of order, and are lost while there is no connection. So everything here is idempotent, an
//! entry is taken away only from the endpoint that the message names, and what a full list no longer has is taken away only
//! after a while: the server leaves out ports that are just being built anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::messages::fdb::{AddressChange, FdbEntry};
use crate::model::Mac;

/// Longer than another host's agent needs to have its ports built anew after it was started.
const SUSPICION: Duration = Duration::from_secs(60);
/// A full list comes before the answer to the question for it, or just after. The server sends none that is empty.
const LIST_WAIT: Duration = Duration::from_secs(5);

/// The members of a network that are on other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The endpoint that each MAC address is behind.
    macs: BTreeMap<Mac, IpAddr>,
    /// Who has each address, and the endpoint that it is behind.
    addresses: BTreeMap<IpAddr, (Mac, IpAddr)>,
    /// Endpoints that want the network's broadcast, unknown unicast and multicast.
    flood: BTreeSet<IpAddr>,
    /// What was not in the last full list, and until when that may be a mistake.
    suspects: BTreeMap<Suspect, Instant>,
    list: List,
    were_listed: bool,
}

/// Something that may be behind an endpoint no more. A MAC address is one by itself: it may be in use with other addresses than
/// before, and its addresses with other MAC addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suspect {
    Mac(IpAddr, Mac),
    Address(IpAddr, FdbEntry),
    Flood(IpAddr),
}

/// Whether it is known who all the members are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum List {
    /// Nobody has been asked since the connection was made.
    #[default]
    Unknown,
    /// The server has been asked; what it has told of meanwhile is no suspect.
    Asked { told: BTreeSet<(IpAddr, FdbEntry)>, answered: Option<Instant> },
    /// The list has come, or it is empty.
    Known,
}

/// What of a network is different now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// MAC addresses whose endpoint is.
    pub macs: BTreeSet<Mac>,
    /// Addresses whose owner is.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether the flood list is.
    pub flood: bool,
}

impl Changes {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Members {
    /// MAC addresses and the endpoint that each is behind.
    pub const fn macs(&self) -> &BTreeMap<Mac, IpAddr> {
        &self.macs
    }

    /// Addresses and the MAC address that each is at.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Mac)> {
        self.addresses.iter().map(|(address, (mac, _))| (*address, *mac))
    }

    /// The MAC address that an address is at.
    pub fn owner(&self, address: IpAddr) -> Option<Mac> {
        self.addresses.get(&address).map(|(mac, _)| *mac)
    }

    /// Endpoints that want what is for nobody in particular.
    pub const fn flood(&self) -> &BTreeSet<IpAddr> {
        &self.flood
    }

    /// Whether the server has said who all the members are. What it has changed later, it has told, or is asked again.
    pub const fn are_known(&self) -> bool {
        self.were_listed
    }

    /// Takes in members behind an endpoint.
    pub fn add(&mut self, vtep: IpAddr, entries: &[FdbEntry], changes: &mut Changes) {
        for entry in entries {
            self.confirm(vtep, *entry);
            if entry.is_flood() {
                changes.flood |= self.flood.insert(vtep);
                continue;
            }
            if self.macs.insert(entry.mac, vtep) != Some(vtep) {
                changes.macs.insert(entry.mac);
            }
            self.add_address(vtep, *entry, changes);
        }
    }

    fn confirm(&mut self, vtep: IpAddr, entry: FdbEntry) {
        if let List::Asked { told, .. } = &mut self.list {
            told.insert((vtep, entry));
        }
        if entry.is_flood() {
            self.suspects.remove(&Suspect::Flood(vtep));
        } else {
            self.suspects.remove(&Suspect::Mac(vtep, entry.mac));
            self.suspects.remove(&Suspect::Address(vtep, entry));
        }
    }

    fn add_address(&mut self, vtep: IpAddr, entry: FdbEntry, changes: &mut Changes) {
        let before = self.addresses.insert(entry.address, (entry.mac, vtep));
        if before.is_none_or(|(mac, _)| mac != entry.mac) {
            changes.addresses.insert(entry.address);
        }
    }

    /// Takes in that members are not behind an endpoint any more. Those that have come up behind another one stay.
    pub fn remove(&mut self, vtep: IpAddr, entries: &[FdbEntry], changes: &mut Changes) {
        for entry in entries {
            if entry.is_flood() {
                changes.flood |= self.flood.remove(&vtep);
                continue;
            }
            self.remove_mac(vtep, entry.mac, changes);
            self.remove_address(vtep, *entry, changes);
        }
    }

    fn remove_mac(&mut self, vtep: IpAddr, mac: Mac, changes: &mut Changes) {
        if self.macs.get(&mac) == Some(&vtep) {
            self.macs.remove(&mac);
            changes.macs.insert(mac);
        }
    }

    fn remove_address(&mut self, vtep: IpAddr, entry: FdbEntry, changes: &mut Changes) {
        if self.addresses.get(&entry.address) == Some(&(entry.mac, vtep)) {
            self.addresses.remove(&entry.address);
            changes.addresses.insert(entry.address);
        }
    }

    /// Takes in that members have other addresses.
    pub fn readdress(&mut self, vtep: IpAddr, change: &AddressChange, changes: &mut Changes) {
        for entry in change.before.good.iter().filter(|entry| !entry.is_flood()) {
            self.remove_address(vtep, *entry, changes);
        }
        for entry in change.after.good.iter().filter(|entry| !entry.is_flood()) {
            self.confirm(vtep, *entry);
            self.add_address(vtep, *entry, changes);
        }
    }

    /// The server is asked for a full list.
    pub fn ask(&mut self) {
        self.list = List::Asked { told: BTreeSet::new(), answered: None };
    }

    /// The server has answered, and so has sent the list or has none to send.
    pub fn answered(&mut self, now: Instant) {
        if let List::Asked { answered, .. } = &mut self.list {
            *answered = Some(now);
        }
    }

    /// The question was lost.
    pub fn forget_question(&mut self) {
        if matches!(self.list, List::Asked { .. }) {
            self.list = List::Unknown;
        }
    }

    /// What has come for this host alone is the full list, if one was asked for. Called after [`Self::add`].
    pub fn was_list(&mut self, now: Instant) {
        self.were_listed = true;
        let List::Asked { told, .. } = std::mem::replace(&mut self.list, List::Known) else {
            self.list = List::Known;
            return;
        };
        let until = now + SUSPICION;
        let told_macs: BTreeSet<(IpAddr, Mac)> = told.iter().map(|(vtep, entry)| (*vtep, entry.mac)).collect();
        let macs = self.macs.iter().filter(|(mac, vtep)| !told_macs.contains(&(**vtep, **mac)));
        let of_address =
            |(address, (mac, vtep)): (&IpAddr, &(Mac, IpAddr))| (*vtep, FdbEntry { mac: *mac, address: *address });
        let addresses = self.addresses.iter().map(of_address).filter(|entry| !told.contains(entry));
        let flood = self.flood.iter().filter(|vtep| !told.contains(&(**vtep, FdbEntry::FLOOD)));
        let suspects = macs.map(|(mac, vtep)| Suspect::Mac(*vtep, *mac));
        let suspects = suspects.chain(addresses.map(|(vtep, entry)| Suspect::Address(vtep, entry)));
        let suspects = suspects.chain(flood.map(|vtep| Suspect::Flood(*vtep)));
        self.suspects = suspects.map(|suspect| (suspect, until)).collect();
    }

    /// Takes away what has been a suspect for long enough, and settles for an empty list when none has come.
    pub fn tick(&mut self, now: Instant, changes: &mut Changes) {
        if let List::Asked { answered: Some(answered), .. } = &self.list
            && now >= *answered + LIST_WAIT
        {
            self.was_list(now);
        }
        let over: Vec<_> = self.suspects.extract_if(.., |_, until| now >= *until).collect();
        for (suspect, _) in over {
            match suspect {
                Suspect::Mac(vtep, mac) => self.remove_mac(vtep, mac, changes),
                Suspect::Address(vtep, entry) => self.remove_address(vtep, entry, changes),
                Suspect::Flood(vtep) => changes.flood |= self.flood.remove(&vtep),
            }
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let list = match &self.list {
            List::Asked { answered: Some(answered), .. } => Some(*answered + LIST_WAIT),
            _ => None,
        };
        self.suspects.values().copied().chain(list).min()
    }
}
