//! A Neutron server and a host, as far as the controller can tell: answers have the form that real ones have.

mod security;
mod status;
mod trunks;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use overlane_core::{
    desired::Desired,
    model::{NetworkId, PortId},
    neutron::{
        controller::{Answer, Controller, Failure, HostView, News, Question, Settings, Tap},
        envelope::Request,
        messages::{notification::Notification, parse},
    },
    update::Update,
};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use trunks::SimulatedTrunk;

pub(crate) const HOST: &str = "host1";
pub(crate) const GROUP: &str = "7758f993-c8f9-45b7-b099-da72c790f6ec";

pub(crate) fn port(number: u8) -> PortId {
    PortId(Uuid::from_bytes([number; 16]))
}

pub(crate) fn network(number: u8) -> NetworkId {
    NetworkId(Uuid::from_bytes([0xa0 + number; 16]))
}

/// A port, as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedPort {
    pub(crate) network: NetworkId,
    pub(crate) status: &'static str,
    pub(crate) host: &'static str,
    pub(crate) admin_state_up: bool,
    pub(crate) revision: u64,
    pub(crate) address: IpAddr,
    pub(crate) group: &'static str,
    /// Allowed address pairs, with its own MAC address.
    pub(crate) pairs: Vec<&'static str>,
    pub(crate) policy: Option<Uuid>,
    pub(crate) owner: &'static str,
}

impl SimulatedPort {
    pub(crate) fn new(number: u8, in_network: u8) -> Self {
        Self {
            network: network(in_network),
            status: "DOWN",
            host: HOST,
            admin_state_up: true,
            revision: 1,
            address: IpAddr::from([10, 0, in_network, number]),
            group: GROUP,
            pairs: Vec::new(),
            policy: None,
            owner: "compute:nova",
        }
    }

    fn mac(&self) -> String {
        let IpAddr::V4(address) = self.address else { unreachable!("IPv4 only") };
        let [_, _, network, number] = address.octets();
        format!("fa:16:3e:00:{network:02x}:{number:02x}")
    }
}

/// What happens between a server, the controller and a host.
pub(crate) struct World {
    pub(crate) ports: BTreeMap<PortId, SimulatedPort>,
    /// Ports that the server fails on whenever it is asked about them.
    pub(crate) broken: BTreeSet<PortId>,
    /// Ports whose status the server fails to note, as it says.
    pub(crate) refused: BTreeSet<PortId>,
    /// Ports whose status the server takes too long to note, so that there is no answer at all.
    pub(crate) hung: BTreeSet<PortId>,
    /// Other questions that it fails on.
    pub(crate) stumbles: fn(&Question) -> bool,
    /// Whether the server knows none of the questions.
    pub(crate) is_of_another_age: bool,
    /// Whether the server knows how to be asked without side effects.
    pub(crate) can_pull: bool,
    /// Whether the server knows trunks.
    pub(crate) has_trunks: bool,
    /// Rules of groups, beside those that all have.
    pub(crate) rules: BTreeMap<&'static str, Vec<Value>>,
    /// Address groups.
    pub(crate) address_groups: BTreeMap<&'static str, Vec<&'static str>>,
    /// QoS policies.
    pub(crate) policies: BTreeMap<Uuid, Value>,
    /// Those that the server does not tell, and why.
    pub(crate) untold: BTreeMap<Uuid, Failure>,
    /// Trunks, by their own ports.
    pub(crate) trunks: BTreeMap<PortId, SimulatedTrunk>,
    /// Ports that the server can bind to no host.
    pub(crate) unbindable: BTreeSet<PortId>,
    /// Whether the server does not get round to binding subports.
    pub(crate) is_busy: bool,
    /// Members of each network on other hosts, sent as the full list.
    pub(crate) elsewhere: BTreeMap<NetworkId, Value>,
    pub(crate) taps: BTreeMap<String, Tap>,
    /// Subports whose devices the host has made.
    pub(crate) made: BTreeSet<PortId>,
    /// Subports whose devices it cannot make.
    pub(crate) blocked: BTreeSet<PortId>,
    /// Ports that it cannot have work as they should.
    pub(crate) out_of_place: BTreeSet<PortId>,
    pub(crate) controller: Controller,
    pub(crate) desired: Desired,
    pub(crate) asked: Vec<Question>,
    pub(crate) news: Vec<News>,
    pub(crate) now: Instant,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(true)
    }

    /// Of an agent whose configuration has no trunks.
    pub(crate) fn without_trunks() -> Self {
        Self::with(false)
    }

    fn with(has_trunks: bool) -> Self {
        let settings = Settings {
            host: HOST.to_owned(),
            local_ip: Some(IpAddr::from([192, 0, 2, 1])),
            l2_population: true,
            has_groups: true,
            has_qos: true,
            has_trunks,
            slice: 20,
        };
        Self {
            ports: BTreeMap::new(),
            broken: BTreeSet::new(),
            refused: BTreeSet::new(),
            hung: BTreeSet::new(),
            stumbles: |_| false,
            is_of_another_age: false,
            can_pull: true,
            has_trunks: true,
            rules: BTreeMap::new(),
            address_groups: BTreeMap::new(),
            policies: BTreeMap::new(),
            untold: BTreeMap::new(),
            trunks: BTreeMap::new(),
            unbindable: BTreeSet::new(),
            is_busy: false,
            elsewhere: BTreeMap::new(),
            taps: BTreeMap::new(),
            made: BTreeSet::new(),
            blocked: BTreeSet::new(),
            out_of_place: BTreeSet::new(),
            controller: Controller::new(settings),
            desired: Desired::default(),
            asked: Vec::new(),
            news: Vec::new(),
            now: Instant::now(),
        }
    }

    /// Makes a port's tap, as a hypervisor does.
    pub(crate) fn plug(&mut self, port: PortId) {
        let ifindex = self.taps.values().map(|tap| tap.ifindex).max().unwrap_or(10) + 1;
        self.taps.insert(port.tap_name(), Tap { ifindex, is_connected: false, has_programs: false });
    }

    pub(crate) fn connect(&mut self) {
        self.controller.connected(self.now);
    }

    /// Goes on until nobody has anything to say, and returns what was asked meanwhile.
    pub(crate) fn settle(&mut self) -> Vec<Question> {
        self.asked.clear();
        for _ in 0..100 {
            self.host_follows();
            let questions = self.controller.questions(self.now);
            let is_quiet = questions.is_empty();
            for question in questions {
                self.asked.push(question.clone());
                match self.answer(&question) {
                    Ok(answer) => self.controller.answered(question, answer, self.now),
                    Err(failure) => self.controller.failed(question, failure, self.now),
                }
            }
            if !self.take_update() && is_quiet {
                self.news.extend(self.controller.take_news());
                return std::mem::take(&mut self.asked);
            }
        }
        panic!("no end of questions: {:?}", self.asked);
    }

    /// Lets time pass, with everything that is due.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Question> {
        let until = self.now + time;
        let mut asked = Vec::new();
        while let Some(wake) = self.controller.next_wake(self.now).filter(|wake| *wake <= until) {
            self.now = wake;
            asked.extend(self.settle());
        }
        self.now = until;
        asked.extend(self.settle());
        asked
    }

    pub(crate) fn take_update(&mut self) -> bool {
        let Some(update) = self.controller.update(self.now) else { return false };
        match update {
            Update::Whole(desired) => self.desired = *desired,
            update => drop(update.apply(&mut self.desired)),
        }
        true
    }

    /// The host becomes what is desired.
    pub(crate) fn host_follows(&mut self) {
        let desired: BTreeSet<PortId> =
            self.desired.networks.values().flat_map(|network| network.local_ports.keys().copied()).collect();
        let is_possible = |port: &PortId| self.taps.contains_key(&port.tap_name()) && !self.out_of_place.contains(port);
        let in_place: BTreeSet<PortId> = desired.into_iter().filter(is_possible).collect();
        let made = self.make_sub_ports();
        for port in &in_place {
            if let Some(tap) = self.taps.get_mut(&port.tap_name()) {
                (tap.is_connected, tap.has_programs) = (true, true);
            }
        }
        self.controller.host_changed(&HostView { taps: self.taps.clone(), in_place, sub_ports: made }, self.now);
    }

    /// The server tells something.
    pub(crate) fn notify(&mut self, method: &str, args: Value, is_directed: bool) {
        let Value::Object(args) = args else { panic!("arguments have names") };
        let request = Request {
            method: method.to_owned(),
            version: "1.0".to_owned(),
            namespace: None,
            args,
            request_id: None,
            reply_to: None,
            unique_id: None,
        };
        let notification = Notification::parse(request).expect("a notification");
        self.controller.notified(notification, is_directed, self.now);
    }

    fn named(&self, name: &str) -> Option<(PortId, SimulatedPort)> {
        let mut ports = self.ports.iter();
        ports.find(|(id, _)| id.tap_name() == name || id.to_string() == name).map(|(id, port)| (*id, port.clone()))
    }

    /// What the server says to a question.
    pub(crate) fn answer(&mut self, question: &Question) -> Result<Answer, Failure> {
        let is_about_broken = |names: &[String]| {
            names.iter().any(|name| self.named(name).is_some_and(|(id, _)| self.broken.contains(&id)))
        };
        let unsupported = || Failure::Unsupported("no such method".to_owned());
        match question {
            _ if self.is_of_another_age => Err(unsupported()),
            _ if (self.stumbles)(question) => Err(Failure::Other("AttributeError".to_owned())),
            Question::List if self.can_pull => {
                let ours = self.ports.iter().filter(|(_, port)| port.host == HOST);
                Ok(Answer::List(understood(ours.map(|(id, port)| api_port(*id, port)).collect())))
            }
            Question::Ports(ids) if ids.iter().any(|id| self.broken.contains(id)) => {
                Err(Failure::Other("ValueError".to_owned()))
            }
            Question::Ports(ids) if self.can_pull => {
                let known = ids.iter().filter_map(|id| Some((*id, self.ports.get(id)?)));
                Ok(Answer::Objects(understood(known.map(|(id, port)| object(id, port)).collect())))
            }
            Question::Networks(ids) if self.can_pull => {
                Ok(Answer::Objects(understood(ids.iter().map(network_object).collect())))
            }
            Question::List | Question::Ports(_) | Question::Networks(_) => Err(unsupported()),
            Question::Details(taps) if is_about_broken(taps) => Err(Failure::Other("KeyError".to_owned())),
            Question::Details(taps) => {
                let details = taps.iter().map(|tap| self.details(tap)).collect::<Vec<_>>();
                Ok(Answer::Details(understood(json!({ "devices": details, "failed_devices": [] }))))
            }
            Question::Policy(id) if self.untold.contains_key(id) => Err(self.untold[id].clone()),
            Question::Policy(id) => Ok(Answer::Policy(self.policies.get(id).cloned().map(understood))),
            Question::Trunks(_) if !self.has_trunks || !self.can_pull => Err(unsupported()),
            Question::Trunks(ids) => {
                let known = ids.iter().filter_map(|id| Some(self.trunks.get(id)?.object(*id)));
                Ok(Answer::Objects(understood(known.collect())))
            }
            Question::Trunk(_) if !self.has_trunks => Err(unsupported()),
            Question::Trunk(id) => {
                let known = self.trunks.get(id).map(|trunk| trunk.object(*id));
                Ok(Answer::Objects(understood(known.into_iter().collect())))
            }
            Question::SubPorts(_) if self.is_busy => Err(Failure::Other("no answer".to_owned())),
            Question::SubPorts(sub_ports) => Ok(self.bind(sub_ports)),
            Question::TrunkStatus { trunk, status } => Ok(self.take_status(*trunk, status)),
            Question::Security(taps) => Ok(Answer::Security(understood(self.security(taps)))),
            Question::Status(status) => self.note(status),
        }
    }

    /// With the side effect that it has.
    fn details(&mut self, tap: &str) -> Value {
        let Some((id, port)) = self.named(tap) else { return json!({ "device": tap }) };
        if port.host != HOST && port.owner.starts_with("compute:") {
            return json!({ "device": tap, "no_active_binding": true });
        }
        self.ports.get_mut(&id).expect("known").status = if port.admin_state_up { "BUILD" } else { "DOWN" };
        json!({
            "device": tap, "port_id": id, "network_id": port.network, "mac_address": port.mac(),
            "admin_state_up": port.admin_state_up, "network_type": "vxlan", "segmentation_id": vni(port.network),
            "physical_network": null, "mtu": 1450, "fixed_ips": [{ "subnet_id": null, "ip_address": port.address }],
            "device_owner": port.owner, "allowed_address_pairs": port.pairs(), "port_security_enabled": true,
            "qos_policy_id": port.policy, "qos_network_policy_id": null,
        })
    }
}

/// What l2population tells of one network.
pub(crate) fn fdb(network: NetworkId, ports: &Value) -> Value {
    let entries =
        json!({ network.to_string(): { "segment_id": vni(network), "network_type": "vxlan", "ports": ports } });
    json!({ "fdb_entries": entries })
}

fn understood<T: serde::de::DeserializeOwned>(value: Value) -> T {
    parse(value).expect("a message that the controller understands")
}

fn vni(network: NetworkId) -> u8 {
    network.0.as_bytes()[0]
}

fn api_port(id: PortId, port: &SimulatedPort) -> Value {
    json!({
        "id": id, "network_id": port.network, "mac_address": port.mac(), "admin_state_up": port.admin_state_up,
        "status": port.status, "device_owner": port.owner, "fixed_ips": [{ "ip_address": port.address }],
        "binding:host_id": port.host, "binding:vif_type": "bridge", "revision_number": port.revision,
        "security_groups": [port.group],
    })
}

/// A versioned object.
pub(crate) fn wrapped(name: &str, data: &Value) -> Value {
    json!({ "versioned_object.name": name, "versioned_object.version": "1.0", "versioned_object.data": data })
}

fn object(id: PortId, port: &SimulatedPort) -> Value {
    let segment = wrapped(
        "NetworkSegment",
        &json!({ "network_id": port.network, "network_type": "vxlan", "segmentation_id": vni(port.network) }),
    );
    let level = json!({ "host": port.host, "level": 0, "driver": "linuxbridge", "segment": segment });
    let pairs = port.pairs();
    let binding = json!({ "host": port.host, "vif_type": "bridge", "status": "ACTIVE" });
    wrapped(
        "Port",
        &json!({
            "id": id, "network_id": port.network, "mac_address": port.mac(), "admin_state_up": port.admin_state_up,
            "device_owner": port.owner, "status": port.status, "revision_number": port.revision,
            "fixed_ips": [wrapped("IPAllocation", &json!({ "ip_address": port.address }))],
            "security_group_ids": [port.group], "qos_policy_id": port.policy,
            "allowed_address_pairs": pairs.iter().map(|pair| wrapped("AllowedAddressPair", pair)).collect::<Vec<_>>(),
            "bindings": [wrapped("PortBinding", &binding)],
            "binding_levels": [wrapped("PortBindingLevel", &level)],
        }),
    )
}

fn network_object(id: &NetworkId) -> Value {
    wrapped("Network", &json!({ "id": id, "name": "blue", "mtu": 1450 }))
}
