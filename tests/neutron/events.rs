//! What an operator follows in the log: one line for each event of a port.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    neutron::{Agent, Bed, Cloud},
    wait::{wait_for, wait_until},
};
use serde_json::json;

/// The lines at `INFO` that hold all of `words`.
fn lines(bed: &Bed<'_>, words: &[&str]) -> Result<Vec<String>> {
    let log = bed.cloud.node(bed.host()).log(Agent::Overlane)?;
    let lines = log.lines().filter(|line| line.contains(" INFO ") && words.iter().all(|word| line.contains(word)));
    Ok(lines.map(str::to_owned).collect())
}

/// The request id of a line.
fn request_of(line: &str) -> Result<&str> {
    let id = line.split_once("request_id=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(id, _)| id);
    id.filter(|id| id.starts_with("req-")).with_context(|| format!("no request id: {line}"))
}

#[test]
fn each_event_of_a_port_is_a_line_with_request_port_network_and_duration() -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, Agent::Overlane)?;
    let (port, network) = (bed.ports[0].id.clone(), format!("in network {}", bed.network.id));
    let up = format!("port {port} is up");
    wait_until("the port is reported up", || Ok(!lines(&bed, &[&up, &network, "after its tap appeared"])?.is_empty()))?;
    let found = lines(&bed, &[&port])?;
    let [line] = &found[..] else { anyhow::bail!("one event is one line: {found:#?}") };
    ensure!(line.contains("millis="), "{line}");
    request_of(line)?;

    // What a user has asked for is found under the same id in the log of the server and in ours.
    cloud.update_port(&bed.ports[0], &json!({"admin_state_up": false}))?;
    let down = format!("port {port} is down");
    let line = wait_for("the port is reported down", || Ok(lines(&bed, &[&down, &network, "millis="])?.pop()))?;
    let request = request_of(&line)?;
    let put = format!("PUT /v2.0/ports/{port}");
    let log = cloud.server.log()?;
    ensure!(log.lines().any(|line| line.contains(request) && line.contains(&put)), "{put} is not {request}");
    Ok(())
}
