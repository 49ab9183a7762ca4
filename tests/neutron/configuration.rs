//! The agent's configuration, where it matters to a cloud: a broker that refuses it, and variables that win over files.

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::Machine,
    neutron::{Agent, CONTROLLER, Cloud, Node},
    wait::wait_until,
};
use serde_json::json;

const SPARE: &str = "spare";

/// What is known of a machine's port without the server: its tap, and what kernel and maps have.
fn expect_unknown(node: &Node, machine: &Machine) -> Result<()> {
    let shown = node.shown_port(&machine.port.tap())?;
    let (state, lane, mac) = (&shown["state"], &shown["lane"], &shown["mac_address"]);
    ensure!(state == "unknown" && lane == "fast" && *mac == *machine.port.mac_address, "{shown}");
    ensure!(shown["security"] == "groups" && shown["secured"] == true, "{shown}");
    Ok(())
}

#[test]
fn a_wrong_password_disturbs_nobody_and_is_mended_by_the_environment() -> Result<()> {
    let cloud = Cloud::alone()?;
    let node = cloud.node(SPARE);
    node.start_agent(Agent::Overlane)?;
    cloud.wait_until_alive(SPARE, Agent::Overlane)?;
    let network = cloud.network(&json!({}))?;
    let boot = || cloud.boot(&network, &cloud.port(&network, SPARE, &json!({}))?);
    let [one, other] = [boot()?, boot()?];
    one.wait_for(other.port.ipv4())?;
    let checked = node.overlane("config check")?;
    ensure!(checked.contains(&format!("by {CONTROLLER}:5672")) && checked.contains("security groups on"), "{checked}");
    ensure!(!checked.contains("guest"), "{checked}");
    // Where no files are named, commands read those of the running agent.
    wait_until("everything is in order", || {
        Ok(node.overlane_without_files("verify")?.starts_with("Desired state, kernel and maps agree."))
    })?;
    node.stop_agent(Agent::Overlane, Signal::SIGTERM)?;
    let Err(error) = node.overlane_without_files("verify") else { bail!("whose files are these?") };
    ensure!(format!("{error:#}").contains("name them with --config-file"), "{error:#}");
    expect_unknown(node, &one)?;
    let old = node.edit("neutron.conf", "guest:guest", "guest:s3cret")?;
    let result = (|| {
        node.start_agent(Agent::Overlane)?;
        wait_until("the reason is told", || Ok(node.overlane("show agent")?.contains("it refuses user guest")))?;
        let log = node.log(Agent::Overlane)?;
        ensure!(log.contains("check user and password in transport_url") && !log.contains("s3cret"), "{log}");
        let Err(error) = node.overlane("verify") else { bail!("nobody has told what there is to verify") };
        let untold = "the control plane has not told everything yet: no connection to the message broker";
        ensure!(format!("{error:#}").contains(untold), "{error:#}");
        expect_unknown(node, &one)?;
        one.wait_for(other.port.ipv4())?;
        node.stop_agent(Agent::Overlane, Signal::SIGTERM)?;

        let (log_file, url) =
            (node.container().folder().join("overlane.log"), format!("rabbit://guest:guest@{CONTROLLER}"));
        let environment = [
            ("OS_DEFAULT__TRANSPORT_URL", url.as_str()),
            ("OS_DEFAULT__LOG_DIR", node.container().folder().to_str().unwrap_or_default()),
            ("OS_DEFAULT__USE_STDERR", "True"),
        ];
        node.start_agent_with(Agent::Overlane, &environment)?;
        boot()?.wait_for(one.port.ipv4())?;
        let log = std::fs::read_to_string(&log_file)?;
        ensure!(log == node.log(Agent::Overlane)? && log.contains("agent started"), "{log}");
        ensure!(!log.contains("guest:guest"), "{log}");
        Ok(())
    })();
    node.stop_agent(Agent::Overlane, Signal::SIGTERM)?;
    node.overlane("detach --purge")?;
    node.restore("neutron.conf", &old)?;
    result
}
