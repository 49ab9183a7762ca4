//! Questions as calls.

use overlane_core::{
    config::{Config, NeutronConfig},
    model::PortId,
    neutron::{
        controller::{Answer, Failure, Question, Status},
        messages::{
            Call, Entries,
            devices::{
                DetailsAndFailures, DeviceListUpdated, GetDevicesDetailsList, GetDevicesDetailsListAndFailedDevices,
                UpdateDeviceDown, UpdateDeviceList, UpdateDeviceUp,
            },
            ports::GetPortsByVnicTypeAndHost,
            resources::{BulkPull, KINDS, Pull, Resource},
            security::SecurityGroupInfoForDevices,
            trunk::{UpdateSubportBindings, UpdateTrunkStatus},
        },
    },
};
use serde::Serialize;

use super::{
    events::Cause,
    messaging::{CallError, Messaging},
    patience::{Limit, Patience},
};

/// How ports are plugged that bridges connect.
const NORMAL: &str = "normal";
/// What the names of taps begin with.
const TAP: &str = "tap";

const POLICY: &str = "QosPolicy";
const TRUNK: &str = "Trunk";

/// The oldest version of the plugin's interface that has the calls which older servers are asked with, in the form that they have
/// here.
const OLDEST: &str = "1.3";

/// The version of the interface for objects, and of trunks, that the first servers with trunks have.
const FIRST: &str = "1.0";

/// The version of a kind of objects that this agent understands.
fn version_of(kind: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("1.0", |(_, version)| version)
}

/// Asks the server.
#[derive(Clone)]
pub(super) struct Asker {
    messaging: Messaging,
    host: String,
    agent_id: String,
    patience: Patience,
}

/// Asks one question, in one call or several.
struct Asking<'a> {
    asker: &'a Asker,
    limit: Limit,
}

impl Asker {
    pub(super) fn new(messaging: Messaging, neutron: &NeutronConfig, config: &Config) -> Self {
        // The server writes it into its log, nothing more.
        let agent_id = format!("overlane-{}", config.host);
        let patience = Patience::new(neutron.transport.response_timeout, neutron.transport.response_max_timeout);
        Self { messaging, host: config.host.clone(), agent_id, patience }
    }

    /// One that asks under a request's id.
    pub(super) fn for_request(&self, cause: &Cause) -> Self {
        Self { messaging: self.messaging.for_request(cause.request_id.clone()), ..self.clone() }
    }

    /// Asks one question.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        Asking { asker: self, limit: self.patience.of(question) }.ask(question).await
    }
}

impl Asking<'_> {
    async fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        match question {
            Question::List => {
                let list = GetPortsByVnicTypeAndHost { vnic_type: NORMAL.to_owned(), host: self.asker.host.clone() };
                self.call(&list).await.map(Answer::List)
            }
            Question::Details(taps) => self.details(taps).await.map(Answer::Details),
            Question::Ports(ports) => self.pull("Port", ports).await,
            Question::Networks(networks) => self.pull("Network", networks).await,
            Question::Security(taps) => {
                self.call(&SecurityGroupInfoForDevices::new(taps.clone())).await.map(Answer::Security)
            }
            Question::Policy(policy) => {
                let pull = Pull {
                    resource_type: POLICY.to_owned(),
                    version: version_of(POLICY).to_owned(),
                    resource_id: *policy,
                };
                let policy = self.call(&pull).await?.and_then(|resource| match resource {
                    Resource::QosPolicy(policy) => Some(policy),
                    _ => None,
                });
                Ok(Answer::Policy(policy))
            }
            Question::Trunks(ports) => {
                let pull = BulkPull::by("port_id", TRUNK, version_of(TRUNK), ports);
                self.call(&pull).await.map(Answer::Objects)
            }
            Question::Trunk(port) => self.trunk(*port).await,
            Question::SubPorts(sub_ports) => {
                self.call(&UpdateSubportBindings { subports: sub_ports.clone() }).await.map(Answer::SubPorts)
            }
            Question::TrunkStatus { trunk, status } => {
                let update = UpdateTrunkStatus { trunk_id: *trunk, status: (*status).to_owned() };
                self.call(&update).await.map(|()| Answer::TrunkStatus)
            }
            Question::Status(status) => self.tell(status).await.map(Answer::Status),
        }
    }

    /// Old servers are told of one port after the other.
    async fn tell(&self, status: &Status) -> Result<DeviceListUpdated, Failure> {
        let names = |ports: &[PortId]| ports.iter().map(ToString::to_string).collect();
        let update = UpdateDeviceList {
            devices_up: names(&status.up),
            devices_down: names(&status.down),
            agent_id: self.asker.agent_id.clone(),
            host: self.asker.host.clone(),
            refresh_tunnels: status.refresh.then_some(true),
        };
        match self.call(&update).await {
            Err(Failure::Unsupported(_)) => self.tell_one_by_one(update).await,
            result => result,
        }
    }

    async fn tell_one_by_one(&self, update: UpdateDeviceList) -> Result<DeviceListUpdated, Failure> {
        let mut updated = DeviceListUpdated::default();
        let UpdateDeviceList { devices_up, devices_down, agent_id, host, refresh_tunnels } = update;
        for device in devices_up {
            let (agent_id, host) = (agent_id.clone(), host.clone());
            let up = UpdateDeviceUp { device: device.clone(), agent_id, host, refresh_tunnels };
            match self.call_at(&up, OLDEST).await {
                Ok(()) => updated.devices_up.push(device),
                Err(Failure::Other(_) | Failure::Transient(_)) => updated.failed_devices_up.push(device),
                Err(failure) => return Err(failure),
            }
        }
        for device in devices_down {
            let (agent_id, host) = (agent_id.clone(), host.clone());
            let down = UpdateDeviceDown { device: device.clone(), agent_id, host };
            match self.call_at(&down, OLDEST).await {
                Ok(down) => updated.devices_down.good.push(down),
                Err(Failure::Other(_) | Failure::Transient(_)) => updated.failed_devices_down.push(device),
                Err(failure) => return Err(failure),
            }
        }
        Ok(updated)
    }

    /// Old servers know only the call that fails as a whole. The other one takes the beginning of an id for a name, but no tap's
    /// name.
    async fn details(&self, taps: &[String]) -> Result<DetailsAndFailures, Failure> {
        let (agent_id, host) = (self.asker.agent_id.clone(), self.asker.host.clone());
        let devices = taps.iter().map(|tap| tap.trim_start_matches(TAP).to_owned()).collect();
        let list = GetDevicesDetailsList { devices, agent_id, host };
        let mut details = match self.call(&GetDevicesDetailsListAndFailedDevices(list.clone())).await {
            Err(Failure::Unsupported(_)) => {
                let devices = self.call_at(&list, OLDEST).await?;
                DetailsAndFailures { devices, failed_devices: Vec::new() }
            }
            result => result?,
        };
        let tap_name = |id: &str| format!("{TAP}{id}");
        details.devices.good.iter_mut().for_each(|device| device.rename(tap_name));
        details.devices.bad.iter_mut().for_each(|bad| bad.name = tap_name(&bad.name));
        Ok(details)
    }

    /// Of servers that do not know [`BulkPull`] yet. Those that have no trunks do not know the kind.
    async fn trunk(&self, port: PortId) -> Result<Answer, Failure> {
        let pull = Pull { resource_type: TRUNK.to_owned(), version: FIRST.to_owned(), resource_id: port.0 };
        let trunk = self.call_at(&pull, FIRST).await?;
        Ok(Answer::Objects(Entries { good: trunk.into_iter().collect(), bad: Vec::new() }))
    }

    async fn pull<T: Serialize>(&self, kind: &str, ids: &[T]) -> Result<Answer, Failure> {
        self.call(&BulkPull::by_ids(kind, version_of(kind), ids)).await.map(Answer::Objects)
    }

    async fn call<C: Call>(&self, question: &C) -> Result<C::Reply, Failure> {
        self.call_at(question, C::VERSION).await
    }

    /// As `call`, of a version that older servers have.
    async fn call_at<C: Call>(&self, question: &C, version: &str) -> Result<C::Reply, Failure> {
        let result = self.asker.messaging.ask_at(question, version, self.limit.time()).await;
        match &result {
            Err(CallError::Timeout { .. }) => self.limit.was_too_short(),
            Err(CallError::Disconnected { .. } | CallError::Unroutable { .. } | CallError::Refused { .. }) => (),
            Ok(_) | Err(CallError::Remote { .. } | CallError::Malformed { .. }) => self.limit.was_enough(),
        }
        result.map_err(|error| {
            let is_unsupported = error.is_unsupported_version() || error.is_no_such_method() || error.is_not_provided();
            let (is_lost, is_transient) = (matches!(error, CallError::Disconnected { .. }), error.is_transient());
            let reason = format!("{:#}", anyhow::Error::from(error));
            match (is_lost, is_unsupported, is_transient) {
                (true, ..) => Failure::Lost,
                (_, true, _) => Failure::Unsupported(reason),
                (.., true) => Failure::Transient(reason),
                _ => Failure::Other(reason),
            }
        })
    }
}
