//! Trunks of a topology file: ports behind the tap of another port, told apart by tags.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};

use uuid::Uuid;

use super::{SubPort, Topology, Trunk, check::Checker, table::Table};
use crate::{
    desired,
    model::{PortId, Vid},
};

pub(super) const TRUNK: &[&str] = &["id", "name", "description", "port_id", "sub_ports"];
const SUB_PORT: &[&str] = &["port_id", "segmentation_type", "segmentation_id"];

pub(super) fn trunk(table: Table) -> Option<Trunk> {
    let id = table.required::<Uuid>("id");
    table.optional::<String>("name");
    table.optional::<String>("description");
    let port_id = table.required::<Uuid>("port_id").map(PortId);
    let sub_ports = table.tables("sub_ports", "subport", SUB_PORT).into_iter().filter_map(sub_port).collect();
    Some(Trunk { line: table.line(), id: id?, port_id: port_id?, sub_ports })
}

fn sub_port(table: Table) -> Option<SubPort> {
    let port_id = table.required::<Uuid>("port_id").map(PortId);
    table.optional::<SegmentationType>("segmentation_type");
    table.require("segmentation_id");
    let vid = table.integer("segmentation_id", Vid::MIN.get().into(), Vid::MAX.get().into());
    let vid = vid.and_then(|number| Vid::try_from(number).ok());
    Some(SubPort { line: table.line(), port_id: port_id?, vid: vid? })
}

/// How subports are told apart: the only way that a Linux bridge has.
struct SegmentationType;

impl FromStr for SegmentationType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "vlan" { Ok(Self) } else { Err("expected vlan") }
    }
}

impl Topology {
    /// A subport is where its trunk is.
    pub(super) fn place_sub_ports(&mut self) {
        let host_of: HashMap<PortId, Option<String>> =
            self.ports.iter().map(|port| (port.id, port.host.clone())).collect();
        for trunk in &self.trunks {
            for sub_port in &trunk.sub_ports {
                let port = self.ports.iter_mut().find(|port| port.id == sub_port.port_id && port.host.is_none());
                if let (Some(port), Some(host)) = (port, host_of.get(&trunk.port_id)) {
                    port.host.clone_from(host);
                }
            }
        }
    }

    /// The subports on a host.
    pub(super) fn sub_ports_on(&self, host: &str) -> BTreeMap<PortId, desired::SubPort> {
        let is_here = |trunk: &&Trunk| {
            self.ports.iter().any(|port| port.id == trunk.port_id && port.host.as_deref() == Some(host))
        };
        let sub_ports = self.trunks.iter().filter(is_here).flat_map(|trunk| {
            let sub_port = |sub_port: &SubPort| desired::SubPort { parent: trunk.port_id, vid: sub_port.vid };
            trunk.sub_ports.iter().map(move |of_file| (of_file.port_id, sub_port(of_file)))
        });
        sub_ports.collect()
    }
}

/// A tag on the trunk of a port.
#[derive(PartialEq, Eq, Hash)]
struct Tag(PortId, Vid);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the trunk of port {}", self.1, self.0)
    }
}

impl Checker<'_> {
    pub(super) fn trunks(&mut self) {
        let trunks = &self.topology.trunks;
        self.distinct("trunk id", trunks.iter().map(|trunk| (trunk.line, trunk.id)));
        self.distinct("port_id of a trunk,", trunks.iter().map(|trunk| (trunk.line, trunk.port_id)));
        let sub_ports = || trunks.iter().flat_map(|trunk| trunk.sub_ports.iter().map(move |port| (trunk, port)));
        self.distinct("subport", sub_ports().map(|(_, port)| (port.line, port.port_id)));
        let tags = sub_ports().map(|(trunk, port)| (port.line, Tag(trunk.port_id, port.vid)));
        self.distinct("segmentation_id", tags);
        let parents: HashMap<PortId, &Trunk> = trunks.iter().map(|trunk| (trunk.port_id, trunk)).collect();
        let hosts: HashMap<PortId, Option<&str>> =
            self.topology.ports.iter().map(|port| (port.id, port.host.as_deref())).collect();
        for trunk in trunks.iter().filter(|trunk| !hosts.contains_key(&trunk.port_id)) {
            self.problem(trunk.line, format_args!("port_id {} is not among the ports", trunk.port_id));
        }
        for (trunk, SubPort { line, port_id, .. }) in sub_ports() {
            if let Some(other) = parents.get(port_id) {
                let message = format!("subport {port_id} is the port of the trunk in line {} itself", other.line);
                self.problem(*line, message);
            }
            let parent_host = hosts.get(&trunk.port_id).copied().flatten();
            match hosts.get(port_id) {
                None => self.problem(*line, format_args!("subport {port_id} is not among the ports")),
                Some(Some(host)) if parent_host != Some(*host) => {
                    let where_else = parent_host.map_or("on none".to_owned(), |host| format!("on {host:?}"));
                    let message = format!(
                        "subport {port_id} is on host {host:?}, the port of its trunk {where_else}: leave out the subport's host"
                    );
                    self.problem(*line, message);
                }
                Some(_) => (),
            }
        }
    }
}
