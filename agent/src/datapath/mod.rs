//! The fast lane's user-space side: loads the programs, attaches them, fills and reads the maps. The only user of aya.
//!
//! Everything is pinned under `<bpffs>/v<ABI version>/`, so that forwarding goes on without the agent and the next
//! agent finds it: maps by name, links under `links/<hook>-<interface index>`.

mod alive;
mod counters;
mod error;
mod events;
mod flows;
mod links;
mod logs;
mod map_pins;
mod maps;
mod probe;
mod programs;
mod qos;
mod security;
mod stats;
mod table;
mod watch;
mod xdp;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::net::if_::if_indextoname;
use overlane_abi::{ABI_VERSION, Hook, Port};
use overlane_core::{
    action::{DatapathAction, MapEntry, MapKey},
    config::FlowConfig,
    observed::DatapathState,
    xdp::XdpDevice,
};

pub use error::DatapathError;
pub use events::Events;
pub use flows::{Flow, Side};
pub use maps::Maps;
pub use stats::{Counters, Drop, RuleHits, Stats};
pub use table::{Results, Table};
pub use watch::PinWatch;

use links::Links;
use map_pins::MapPins;
use programs::Programs;
use table::all_of;

/// Values that the programs are loaded with.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// This host's tunnel endpoint.
    pub local_vtep: IpAddr,
    /// UDP destination port of VXLAN.
    pub vxlan_port: u16,
    /// First and last UDP source port of encapsulated packets.
    pub source_ports: (u16, u16),
    /// Whether the control plane names every host, so that VXLAN from anybody else can be dropped.
    pub vteps_are_all: bool,
    /// Whether the programs log what they drop.
    pub logs: bool,
    /// Whether ports are forwarded for, rather than only filtered.
    pub forwards: bool,
    /// Whether a tap that has no entry in `ports` is closed.
    pub is_closed: bool,
    /// How flows are remembered and logged.
    pub flows: FlowConfig,
}

/// For how many ports programs stay that forward nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Ports that are held to their rules.
    pub filtered: usize,
    /// Ports whose packets are limited or marked.
    pub under_policy: usize,
    /// The devices of subports that have nothing else to send by, by name.
    pub sub_ports: Vec<String>,
}

/// The loaded programs and their maps.
pub struct Datapath {
    programs: Programs,
    maps: Maps,
    map_pins: MapPins,
    links: Links,
    other_versions: Vec<PathBuf>,
    events: Option<Events>,
}

impl Datapath {
    /// Loads the programs, adopting the maps and links that an earlier agent has pinned under `bpffs`.
    ///
    /// # Errors
    /// [`DatapathError`] when there is no BPF file system at `bpffs`, no permission, no embedded object, or when the
    /// kernel refuses the programs.
    pub fn open(bpffs: &Path, settings: &LoadSettings) -> Result<Self, DatapathError> {
        let directory = pin_directory(bpffs);
        error::require_bpf_file_system(bpffs)?;
        let other_versions = versions(bpffs)?.into_iter().filter(|version| *version != directory).collect::<Vec<_>>();
        let links = Links::open(&directory, &other_versions)?;
        let (mut programs, mut maps) = Programs::load(&directory, settings)?;
        let map_pins = MapPins::open(&directory)?;
        maps.begin()?;
        maps.note_room_helper(programs.test_room_helper())?;
        links.adopt(&mut programs)?;
        links.list()?.iter().try_for_each(|(_, ifindex)| maps.counters().give_slot(*ifindex))?;
        // Whoever only leaves the filters behind reads no events, and has no runtime to wait with.
        let events = tokio::runtime::Handle::try_current().is_ok().then(|| programs.take_events()).transpose()?;
        Ok(Self { programs, maps, map_pins, links, other_versions, events })
    }

    /// What is in the maps, and where programs are attached; the entries of the big maps are those that are `known`, if any. Pins
    /// of maps that somebody has removed are put back: the maps are still there.
    ///
    /// # Errors
    /// [`DatapathError`] when a map or the pin directory cannot be read.
    pub fn observe(&self, known: Option<DatapathState>) -> Result<DatapathState, DatapathError> {
        self.links.make_folder()?;
        self.map_pins.restore()?;
        self.maps.observe(&self.links, known)
    }

    /// What the programs tell as it happens; `None` when somebody listens already.
    pub fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Finds attachments that have been undone in a way that nobody is told of.
    ///
    /// # Errors
    /// [`DatapathError`] when the pin directory cannot be read or changed.
    pub fn look_for_dead_links(&mut self) -> Result<(), DatapathError> {
        self.links.drop_dead(&mut self.programs)
    }

    /// Carries out steps of a plan, in order; gone-already is success. The kernel is told of entries of one map together, and each step
    /// has its own result.
    pub fn apply(&mut self, actions: &[&DatapathAction]) -> Results {
        let mut results = Vec::with_capacity(actions.len());
        for group in actions.chunk_by(|one, next| one.joins(next)) {
            let begun = Instant::now();
            let of_group = self.apply_together(group);
            let micros = begun.elapsed().as_micros() as u64;
            for (action, _) in group.iter().zip(&of_group).filter(|(_, result)| result.is_ok()) {
                tracing::debug!(%action, micros, together = group.len(), "applied");
            }
            results.extend(of_group);
        }
        results
    }

    fn apply_together(&mut self, group: &[&DatapathAction]) -> Results {
        match group {
            // A device of XDP may need a program that is not loaded yet.
            [DatapathAction::Put(first), ..] if !matches!(first, MapEntry::XdpDevice(..)) => {
                let entries: Vec<MapEntry> = all_of!(group, DatapathAction::Put(entry) => *entry).collect();
                self.maps.put(&entries)
            }
            [DatapathAction::Delete(_), ..] => {
                let keys: Vec<MapKey> = all_of!(group, DatapathAction::Delete(key) => *key).collect();
                self.maps.delete(&keys)
            }
            _ => group.iter().map(|action| self.apply_one(action)).collect(),
        }
    }

    fn apply_one(&mut self, action: &DatapathAction) -> Result<(), DatapathError> {
        match action {
            DatapathAction::Put(entry) => {
                if let MapEntry::XdpDevice(_, XdpDevice::Admitted) = entry {
                    self.load_admission()?;
                }
                self.maps.put(&[*entry]).into_iter().collect()
            }
            DatapathAction::Delete(key) => self.maps.delete(&[*key]).into_iter().collect(),
            DatapathAction::Attach { hook, ifindex } => {
                self.maps.counters().give_slot(*ifindex)?;
                self.links.attach(&mut self.programs, *hook, *ifindex)
            }
            DatapathAction::Detach { hook, ifindex } => self.links.detach(*hook, *ifindex),
            DatapathAction::ForgetCounters { hook, ifindex } => self.maps.counters().forget(*hook, *ifindex),
        }
    }

    /// Loads what admits packets that XDP sends to taps, when that is first needed.
    fn load_admission(&mut self) -> Result<(), DatapathError> {
        if let Some(devices) = self.maps.xdp_devices().filter(|devices| devices.lacks_admission()) {
            let (program, id) = self.programs.admission_by_xdp()?;
            devices.admit_by(program, id);
        }
        Ok(())
    }

    /// Leaves programs only where they keep ports to their rules or QoS policies, or connect subports, and has these forward nothing
    /// else; returns for how many ports. None means that nothing was done.
    ///
    /// # Errors
    /// [`DatapathError`] when the kernel refuses; what is attached stays then.
    pub fn filter_only(bpffs: &Path, settings: &LoadSettings) -> Result<Kept, DatapathError> {
        let directory = pin_directory(bpffs);
        let state = match Maps::open_pinned(&directory) {
            Ok(maps) => maps.observe(&Links::at(&directory), None)?,
            Err(DatapathError::NothingPinned(_)) => return Ok(Kept::default()),
            Err(error) => return Err(error),
        };
        let DatapathState { ports, vlan_devices, .. } = &state;
        let count = |flag| ports.values().filter(|port| port.flags & flag != 0).count();
        let is_closed = count(Port::FILTERED) > 0 || !state.security.policies.is_empty();
        // An agent may have ended before it has opened a port: only its programs may keep it closed.
        let is_unopened = |ifindex: u32| state.has_both_programs(ifindex) && !ports.contains_key(&ifindex);
        let unopened = state.attached.iter().filter(|(hook, ifindex)| *hook == Hook::ToPort && is_unopened(*ifindex));
        let has = |flag, ifindex: u32| ports.get(&ifindex).is_some_and(|port| port.flags & flag != 0);
        let sub_ports = vlan_devices.keys().filter(|device| has(Port::SUBPORT, **device));
        let kept = Kept {
            filtered: if is_closed { count(Port::SECURED) + unopened.count() } else { 0 },
            under_policy: count(Port::QOS),
            sub_ports: sub_ports.filter_map(|device| if_indextoname(*device).ok()?.into_string().ok()).collect(),
        };
        if kept == Kept::default() {
            return Ok(kept);
        }
        let datapath = Self::open(bpffs, &LoadSettings { forwards: false, is_closed, ..settings.clone() })?;
        let is_secured = |ifindex| is_closed && (has(Port::SECURED, ifindex) || is_unopened(ifindex));
        let carries = |ifindex| vlan_devices.values().any(|vlan| vlan.nic == ifindex);
        let stays = |hook, ifindex| match hook {
            // Nothing else connects subports and VLANs without the kernel's 8021q module.
            Hook::FromPort => is_secured(ifindex) || has(Port::QOS, ifindex) || carries(ifindex),
            Hook::ToPort => is_secured(ifindex) || vlan_devices.contains_key(&ifindex),
            Hook::ToVlan => true,
            Hook::FromUplink => carries(ifindex),
            Hook::FromOverlay | Hook::FromPortXdp | Hook::FromUplinkXdp => false,
        };
        for (hook, ifindex) in datapath.links.list()? {
            if !stays(hook, ifindex) {
                datapath.links.detach(hook, ifindex)?;
            }
        }
        Ok(kept)
    }

    /// Takes every program off its interface and removes every pin: the kernel lane carries everything from now on.
    ///
    /// # Errors
    /// [`DatapathError`] when a pin cannot be removed.
    pub fn remove(bpffs: &Path) -> Result<(), DatapathError> {
        versions(bpffs)?.iter().try_for_each(|version| links::remove_all(version))
    }

    /// As `remove`, but where the kernel has no 8021q module, what carries a VLAN is the programs: those stay, with nothing to do
    /// but that. Returns the names of the VLAN devices that this is for.
    ///
    /// # Errors
    /// [`DatapathError`] when a map cannot be changed or a pin cannot be removed, or when maps that cannot be read carry VLANs.
    pub fn remove_but_vlans(bpffs: &Path) -> Result<Vec<String>, DatapathError> {
        let directory = pin_directory(bpffs);
        let others: Vec<PathBuf> = versions(bpffs)?.into_iter().filter(|version| *version != directory).collect();
        for version in &others {
            if Links::at(version).list()?.iter().any(|(hook, _)| *hook == Hook::ToVlan) {
                return Err(DatapathError::OtherVersion(version.clone()));
            }
        }
        let mut maps = match Maps::open_pinned(&directory) {
            Err(DatapathError::NothingPinned(_)) => return Self::remove(bpffs).map(|()| Vec::new()),
            maps => maps?,
        };
        let links = Links::at(&directory);
        let DatapathState { vlan_devices, attached, .. } = maps.observe(&links, None)?;
        let carried: Vec<(u32, u32, String)> = vlan_devices
            .iter()
            .filter(|(device, _)| attached.contains(&(Hook::ToVlan, **device)))
            .filter_map(|(device, vlan)| Some((*device, vlan.nic, if_indextoname(*device).ok()?.into_string().ok()?)))
            .collect();
        if carried.is_empty() {
            return Self::remove(bpffs).map(|()| Vec::new());
        }
        let stays = |(hook, ifindex): &(Hook, u32)| {
            carried.iter().any(|(device, nic, _)| {
                (*hook, *ifindex) == (Hook::ToVlan, *device) || (*hook, *ifindex) == (Hook::FromUplink, *nic)
            })
        };
        attached.iter().filter(|link| !stays(link)).try_for_each(|(hook, ifindex)| links.detach(*hook, *ifindex))?;
        maps.keep_only_vlans()?;
        others.iter().try_for_each(|version| links::remove_all(version))?;
        Ok(carried.into_iter().map(|(.., name)| name).collect())
    }

    /// Everything that is desired is in place: removes what agents with another version of the ABI have pinned, whose
    /// attachments have been taken over by now.
    ///
    /// # Errors
    /// [`DatapathError`] when a pin cannot be removed, or a map not written to.
    pub fn settle(&mut self) -> Result<(), DatapathError> {
        self.maps.tell_whether_vteps_fit()?;
        while let Some(version) = self.other_versions.pop() {
            links::remove_all(&version)?;
            tracing::info!(version = %version.display(), "maps of another version are replaced");
        }
        Ok(())
    }

    /// The connection table.
    ///
    /// # Errors
    /// As for [`Self::observe_pinned`].
    pub fn flows(bpffs: &Path) -> Result<Vec<Flow>, DatapathError> {
        flows::read(&pin_directory(bpffs))
    }

    /// What rules have admitted.
    ///
    /// # Errors
    /// As for [`Self::observe_pinned`].
    pub fn rule_hits(bpffs: &Path) -> Result<RuleHits, DatapathError> {
        stats::rule_hits(&pin_directory(bpffs))
    }

    /// Reads what pinned maps of a running or stopped agent hold, without loading anything.
    ///
    /// # Errors
    /// [`DatapathError`] when nothing is pinned under `bpffs`, or it cannot be read.
    pub fn observe_pinned(bpffs: &Path) -> Result<(DatapathState, Stats), DatapathError> {
        let directory = pin_directory(bpffs);
        let maps = Maps::open_pinned(&directory)?;
        let links = Links::at(&directory);
        Ok((maps.observe(&links, None)?, maps.stats()?))
    }
}

/// The pin directories of every ABI version that there is.
fn versions(bpffs: &Path) -> Result<Vec<PathBuf>, DatapathError> {
    let entries = match fs::read_dir(bpffs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(DatapathError::Pins { path: bpffs.to_owned(), source }),
    };
    let is_version = |name: &str| name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    Ok(names.filter(|name| is_version(name)).map(|name| bpffs.join(name)).collect())
}

/// Where the objects of this ABI version are pinned.
pub fn pin_directory(bpffs: &Path) -> PathBuf {
    bpffs.join(format!("v{ABI_VERSION}"))
}
