//! The bed itself: with Neutron's own agents, it does what a cloud does.

use anyhow::Result;
use overlane_tests::neutron::Cloud;
use serde_json::json;

#[test]
fn machines_on_two_hosts_reach_each_other() -> Result<()> {
    let cloud = Cloud::shared()?;
    let network = cloud.network(&json!({}))?;
    let ports = [cloud.port(&network, "bridge1", &json!({}))?, cloud.port(&network, "bridge2", &json!({}))?];
    let machines = [cloud.boot(&network, &ports[0])?, cloud.boot(&network, &ports[1])?];
    machines[0].wait_for(ports[1].ipv4())?;
    machines[1].wait_for(ports[0].ipv4())?;
    machines[1].wait_for(ports[0].ipv6())
}
