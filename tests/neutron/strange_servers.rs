//! Servers that are older or newer than the agent, fail on a port, or have another clock: real ones, changed in one place.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Machine, Port},
    neutron::{Agent, Change, Cloud, Network, host_of},
    wait::wait_at_most,
};
use serde_json::json;

use crate::refused_ports::wait_for_reason;

/// Before 2015, servers knew one question for each thing, and failed on all devices if they failed on one.
const OLDER: Change = Change {
    module: "neutron.plugins.ml2.rpc",
    code: r#"
server = module.RpcCallbacks
server.target = module.oslo_messaging.Target(version='1.4')
for method in ('update_device_list', 'get_devices_details_list_and_failed_devices', 'get_ports_by_vnic_type_and_host'):
    delattr(server, method)
from neutron.api.rpc.handlers import resources_rpc
del resources_rpc.ResourcesPullRpcCallback.bulk_pull
details = server._get_device_details
def get_device_details(self, context, agent_id, host, device, port_context):
    if port_context.current['name'] == 'broken':
        raise ValueError('a broken row')
    return details(self, context, agent_id, host, device, port_context)
server._get_device_details = get_device_details
"#,
};

/// A version that nobody has seen yet.
const NEWER: Change = Change {
    module: "neutron.plugins.ml2.rpc",
    code: r#"
from neutron.api.rpc.handlers import resources_rpc, securitygroups_rpc
target = module.oslo_messaging.Target(version='2.0')
module.RpcCallbacks.target = target
securitygroups_rpc.SecurityGroupServerRpcCallback.target = target
resources_rpc.ResourcesPullRpcCallback.target = target
"#,
};

/// Objects of ports that are called so cannot be read, or have a field that nobody understands.
const STUMBLING: Change = Change {
    module: "neutron.api.rpc.handlers.resources_rpc",
    code: r#"
server = module.ResourcesPullRpcCallback
pull = server.bulk_pull
def bulk_pull(self, context, **args):
    objects = pull(self, context, **args)
    for fields in (each['versioned_object.data'] for each in objects):
        if fields.get('name') == 'broken':
            raise ValueError('a broken row')
        if fields.get('name') == 'garbled':
            fields['mac_address'] = 'nonsense'
    return objects
server.bulk_pull = bulk_pull
"#,
};

/// A server whose clock is so many hours ahead.
macro_rules! clock {
    ($hours:literal) => {
        Change {
            module: "oslo_utils.timeutils",
            code: concat!(
                "import datetime\nnow = module.utcnow\nahead = datetime.timedelta(hours=",
                $hours,
                ")\nmodule.utcnow = lambda with_timezone=False: now(with_timezone) + ahead\n",
                // What tests of Neutron's own would set.
                "module.utcnow.override_time = None\n",
            ),
        }
    };
}

/// A report is due (`report_interval`, 10 s), and two before it have gone where nobody answers (`rpc_response_timeout`, 15 s).
const REPORTED: Duration = Duration::from_secs(60);

/// A port of the host with Overlane, under a name.
fn named(cloud: &Cloud, network: &Network, name: &str) -> Result<Port> {
    cloud.port(network, host_of(Agent::Overlane), &json!({"name": name}))
}

/// Two machines on the host with Overlane.
fn neighbours(cloud: &Cloud, network: &Network) -> Result<[Machine; 2]> {
    let boot = || cloud.boot(network, &named(cloud, network, "fine")?);
    let machines = [boot()?, boot()?];
    machines[0].wait_for(machines[1].port.ipv4())?;
    Ok(machines)
}

#[test]
fn an_older_server_is_asked_as_it_understands_and_one_broken_port_holds_back_no_other() -> Result<()> {
    let cloud = Cloud::alone()?;
    let network = cloud.network(&json!({}))?;
    let old = neighbours(&cloud, &network)?;
    cloud.with_changed_server(&OLDER, || {
        // One agent has known a newer server before, the next one has not.
        let broken = named(&cloud, &network, "broken")?;
        let _broken = cloud.plug(&network, &broken)?;
        let new = neighbours(&cloud, &network)?;
        wait_for_reason(&cloud, &broken, "refused", "the server failed on its port")?;
        restart_agent(&cloud)?;
        let [newest, _] = neighbours(&cloud, &network)?;
        newest.wait_for(old[0].port.ipv4())?;
        newest.wait_for(new[0].port.ipv4())
    })?;
    // It asks as that server understands for as long as it lives, and other tests share it.
    restart_agent(&cloud)
}

fn restart_agent(cloud: &Cloud) -> Result<()> {
    let node = cloud.node(host_of(Agent::Overlane));
    node.stop_agent(Agent::Overlane, Signal::SIGTERM)?;
    node.start_agent(Agent::Overlane)
}

#[test]
fn a_newer_server_is_named_as_the_reason_until_there_is_one_of_this_age() -> Result<()> {
    let cloud = Cloud::alone()?;
    let network = cloud.network(&json!({}))?;
    let machines = neighbours(&cloud, &network)?;
    let port = named(&cloud, &network, "late")?;
    let late = cloud.with_changed_server(&NEWER, || {
        let late = cloud.plug(&network, &port)?;
        wait_for_reason(&cloud, &port, "refused", "older or newer than this agent")?;
        machines[0].wait_for(machines[1].port.ipv4())?;
        Ok(late)
    })?;
    cloud.wait_for_status(&port, "ACTIVE")?;
    late.wait_for(machines[0].port.ipv4())
}

#[test]
fn a_port_that_cannot_be_read_and_one_that_is_not_understood_hold_back_no_other() -> Result<()> {
    let cloud = Cloud::alone()?;
    let network = cloud.network(&json!({}))?;
    let [broken, garbled] = ["broken", "garbled"].map(|name| named(&cloud, &network, name));
    let (broken, garbled) = (broken?, garbled?);
    let machines = cloud.with_changed_server(&STUMBLING, || {
        let bad = [cloud.plug(&network, &broken)?, cloud.plug(&network, &garbled)?];
        neighbours(&cloud, &network)?;
        wait_for_reason(&cloud, &broken, "refused", "the server failed on its port, and its log says why")?;
        wait_for_reason(&cloud, &garbled, "refused", "what the server says of its port is not understood")?;
        Ok(bad)
    })?;
    for port in [&broken, &garbled] {
        cloud.wait_for_status(port, "ACTIVE")?;
    }
    machines[0].wait_for(garbled.ipv4())
}

#[test]
fn a_clock_that_differs_is_told_of_and_ports_work() -> Result<()> {
    let cloud = Cloud::alone()?;
    let node = cloud.node(host_of(Agent::Overlane));
    let network = cloud.network(&json!({}))?;
    // A server that ignores the reports of an agent binds no port to its host.
    let port = named(&cloud, &network, "bound before")?;
    let trouble = "this host's clock is behind the server's";
    let machine = cloud.with_changed_server(&clock!("1"), || {
        let machine = cloud.boot(&network, &port)?;
        wait_at_most(REPORTED, "the log tells of the clock", || {
            Ok(node.log(Agent::Overlane)?.contains(trouble).then_some(()))
        })?;
        let shown = node.overlane("show agent")?;
        ensure!(shown.contains(trouble) && shown.contains("timedatectl"), "{shown}");
        Ok(machine)
    })?;
    wait_at_most(REPORTED, "the trouble is over", || {
        Ok((!node.overlane("show agent")?.contains(trouble)).then_some(()))
    })?;
    cloud.with_changed_server(&clock!("-1"), || {
        let other = cloud.boot(&network, &named(&cloud, &network, "fine")?)?;
        other.wait_for(machine.port.ipv4()).context("with a server whose clock is behind")
    })
}
