//! What may be asked now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Instant,
};

use uuid::Uuid;

use super::{Controller, due::Kind, waiting};
use crate::{
    model::{NetworkId, PortId},
    neutron::messages::{
        Entries,
        devices::{DetailsAndFailures, DeviceListUpdated},
        objects::{QosPolicy, SubPort},
        ports::ApiPort,
        resources::Resource,
        security::SecurityGroupInfo,
    },
};

/// Reading objects in bulk is quick for the server.
pub(super) const BULK: usize = 200;

/// Something to ask the server, or to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which ports are bound to this host?
    List,
    /// What are these taps? (The server takes their ports for being built from now on.)
    Details(Vec<String>),
    /// How are these ports?
    Ports(Vec<PortId>),
    /// How are these networks?
    Networks(Vec<NetworkId>),
    /// What are these taps' groups?
    Security(Vec<String>),
    /// What is this QoS policy?
    Policy(Uuid),
    /// How some ports are now.
    Status(Status),
    /// Which trunks do these ports have?
    Trunks(Vec<PortId>),
    /// Which trunk does this port have? For servers that answer no question about many.
    Trunk(PortId),
    /// Subports that are to be bound to this host. (The server takes their trunk for being built from now on.)
    SubPorts(Vec<SubPort>),
    /// How a trunk is now.
    TrunkStatus {
        /// Its id.
        trunk: Uuid,
        /// `ACTIVE` or `DEGRADED`.
        status: &'static str,
    },
}

/// What the server is told of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// They work.
    pub up: Vec<PortId>,
    /// They do not any more.
    pub down: Vec<PortId>,
    /// Whether the server is to say who is where in the networks of those that work.
    pub refresh: bool,
}

/// What the server says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Question::List`].
    List(Entries<ApiPort>),
    /// To [`Question::Details`].
    Details(DetailsAndFailures),
    /// To [`Question::Ports`], [`Question::Networks`], [`Question::Trunks`] and [`Question::Trunk`].
    Objects(Entries<Resource>),
    /// To [`Question::Security`].
    Security(SecurityGroupInfo),
    /// To [`Question::Policy`]; `None` when there is none.
    Policy(Option<QosPolicy>),
    /// To [`Question::Status`].
    Status(DeviceListUpdated),
    /// To [`Question::SubPorts`]: those that are bound, by trunk.
    SubPorts(BTreeMap<Uuid, Entries<ApiPort>>),
    /// To [`Question::TrunkStatus`].
    TrunkStatus,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is gone.
    Lost,
    /// The server is too old for the question, or lacks the plugin for it.
    Unsupported(String),
    /// No answer in time, nobody who would answer, or a database that is busy or away: it says nothing about what was asked.
    Transient(String),
    /// Everything else: the server stumbled, or it is not understood.
    Other(String),
}

impl Question {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::List => Kind::List,
            Self::Details(_) => Kind::Details,
            Self::Ports(_) => Kind::Ports,
            Self::Networks(_) => Kind::Networks,
            Self::Security(_) => Kind::Security,
            Self::Policy(_) => Kind::Policy,
            Self::Status(_) => Kind::Status,
            Self::Trunks(_) | Self::Trunk(_) => Kind::Trunks,
            Self::SubPorts(_) => Kind::SubPorts,
            Self::TrunkStatus { .. } => Kind::TrunkStatus,
        }
    }

    /// How many things it is about.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::List | Self::Policy(_) | Self::Trunk(_) | Self::TrunkStatus { .. } => 1,
            Self::SubPorts(sub_ports) => sub_ports.len(),
            Self::Details(taps) | Self::Security(taps) => taps.len(),
            Self::Ports(ports) | Self::Trunks(ports) => ports.len(),
            Self::Networks(networks) => networks.len(),
            Self::Status(status) => status.up.len() + status.down.len(),
        }
    }
}

impl Question {
    /// The taps that it is about, as far as it is about what they are.
    pub(super) fn taps(&self) -> Vec<String> {
        match self {
            Self::Details(taps) | Self::Security(taps) => taps.clone(),
            Self::Ports(ports) => ports.iter().map(PortId::tap_name).collect(),
            Self::List
            | Self::Networks(_)
            | Self::Policy(_)
            | Self::Status(_)
            | Self::Trunks(_)
            | Self::Trunk(_)
            | Self::SubPorts(_)
            | Self::TrunkStatus { .. } => Vec::new(),
        }
    }

    /// The objects that it is about, by which they are asked for again.
    pub(super) fn objects(&self) -> Vec<Uuid> {
        match self {
            Self::Networks(networks) => networks.iter().map(|network| network.0).collect(),
            Self::Trunks(ports) => ports.iter().map(|port| port.0).collect(),
            Self::Trunk(PortId(object)) | Self::Policy(object) | Self::TrunkStatus { trunk: object, .. } => {
                vec![*object]
            }
            Self::SubPorts(sub_ports) => sub_ports.iter().map(|sub_port| sub_port.port_id.0).collect(),
            Self::List | Self::Details(_) | Self::Ports(_) | Self::Security(_) | Self::Status(_) => Vec::new(),
        }
    }

    /// Whether there is another question, of older servers, for the same.
    pub(super) const fn has_substitute(&self) -> bool {
        matches!(self, Self::List | Self::Ports(_) | Self::Networks(_) | Self::Trunks(_))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |names: &[String]| match names {
            [one] => one.clone(),
            many => format!("{} taps", many.len()),
        };
        match self {
            Self::List => f.write_str("ask which ports this host has"),
            Self::Details(taps) => write!(f, "ask about {}", names(taps)),
            Self::Ports(ports) => write!(f, "read {} ports", ports.len()),
            Self::Networks(networks) => write!(f, "read {} networks", networks.len()),
            Self::Security(taps) => write!(f, "ask about the security groups of {}", names(taps)),
            Self::Policy(policy) => write!(f, "read QoS policy {policy}"),
            Self::Trunks(ports) => write!(f, "read the trunks of {} ports", ports.len()),
            Self::Trunk(port) => write!(f, "read the trunk of port {port}"),
            Self::SubPorts(sub_ports) => write!(f, "have {} subports bound", sub_ports.len()),
            Self::TrunkStatus { trunk, status } => write!(f, "tell that trunk {trunk} is {status}"),
            Self::Status(status) => {
                write!(f, "tell that {} ports are up and {} down", status.up.len(), status.down.len())
            }
        }
    }
}

impl Controller {
    /// What may be asked now. Each is answered by [`Controller::answered`] or [`Controller::failed`].
    pub fn questions(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        if self.connected.is_none() {
            return questions;
        }
        for tap in self.retry.over(now) {
            if self.taps.get(&tap).is_some_and(|known| known.port.is_none()) {
                self.ask_about(&tap);
            }
        }
        if std::mem::take(&mut self.due.list) {
            match self.room(Kind::List, 1, now) {
                Some(_) => questions.push(Question::List),
                None => self.due.list = true,
            }
        }
        if self.is_listed {
            questions.extend(self.about_taps(now));
            questions.extend(self.statuses(now));
            questions.extend(self.about_trunks(now));
        }
        if let Some(size) = self.room(Kind::Ports, BULK, now) {
            let retry = &self.retry;
            let ports = take(&mut self.due.ports, size, |port| retry.may_ask(&port.tap_name(), now));
            questions.extend((!ports.is_empty()).then_some(Question::Ports(ports)));
        }
        if let Some(size) = self.room(Kind::Networks, BULK, now) {
            let due = self.due.networks.iter().copied();
            let ready = self.retry.objects.ready(due, |network| (Kind::Networks, network.0), now);
            let networks = waiting::take(&mut self.due.networks, ready, size);
            questions.extend((!networks.is_empty()).then_some(Question::Networks(networks)));
        }
        questions.extend(self.about_policies(now));
        self.due.asked.extend(questions.iter().map(Question::kind));
        questions
    }

    /// How many things a question may be about; `None` if none of its kind may be asked now.
    pub(super) fn room(&self, kind: Kind, usual: usize, now: Instant) -> Option<usize> {
        if self.due.asked.contains(&kind) { None } else { self.retry.size(kind, usual, now) }
    }

    fn about_taps(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        let slice = self.settings.slice;
        let retry = &self.retry;
        let is_free = |kind| !self.due.asked.contains(&kind);
        let (details, security) = (is_free(Kind::Details), is_free(Kind::Security));
        if details && let Some(size) = retry.size(Kind::Details, slice, now) {
            let taps = take(&mut self.due.details, size, |tap| retry.may_ask(tap, now));
            questions.extend((!taps.is_empty()).then_some(Question::Details(taps)));
        }
        if security && let Some(size) = retry.size(Kind::Security, slice, now) {
            let taps = take(&mut self.due.security, size, |tap| retry.may_ask(tap, now));
            questions.extend((!taps.is_empty()).then_some(Question::Security(taps)));
        }
        questions
    }
}

fn take<T: Ord + Clone>(due: &mut BTreeSet<T>, at_most: usize, may: impl Fn(&T) -> bool) -> Vec<T> {
    let taken: Vec<T> = due.iter().filter(|item| may(item)).take(at_most).cloned().collect();
    for item in &taken {
        due.remove(item);
    }
    taken
}
