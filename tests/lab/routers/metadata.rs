//! Metadata by the routers that Overlane makes, and the process that the agent keeps for it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_tests::{
    lab::{Agent, Instance, Machine, Routed, overlane_binary},
    wait::{wait_for, wait_until},
};

const BY_IPV4: &str = "http://169.254.169.254";
const BY_IPV6: &str = "http://[fe80::a9fe:a9fe%25eth0]";
const NAME: &str = "latest/meta-data/local-hostname";

/// Two machines that have names.
fn named() -> Result<Routed> {
    Routed::running_with(|routed| {
        for (number, port) in routed.ports.iter().enumerate() {
            let id = format!("1a000000-0000-4000-8000-00000000000{number}");
            let name = format!("app{number}");
            routed.topology.instances.push(Instance { id: id.clone(), name, ..Instance::default() });
            let known = routed.topology.ports.iter_mut().find(|known| known.id == port.id);
            known.context("a port of the topology")?.device_id = id;
        }
        Ok(())
    })
}

fn ask(machine: &Machine, service: &str, path: &str) -> Result<String> {
    machine.run(&format!("curl --silent --show-error --fail --max-time 5 --globoff --noproxy * {service}/{path}"))
}

#[test]
fn machines_of_every_network_of_a_router_are_told_about_themselves_by_both_families() -> Result<()> {
    let routed = named()?;
    for (number, machine) in routed.machines.iter().enumerate() {
        for service in [BY_IPV4, BY_IPV6] {
            wait_until(&format!("app{number} knows its name by {service}"), || {
                Ok(ask(machine, service, NAME)?.starts_with(&format!("app{number}")))
            })?;
        }
    }
    // Where it really listens is nobody's business but the router's.
    for service in ["http://10.0.10.1:9697", "http://[fe80::a9fe:a9fe%25eth0]:9697", "http://[fd00:10::1]:9697"] {
        ensure!(ask(&routed.machines[0], service, NAME).is_err(), "{service} answers");
    }
    Ok(())
}

/// Who listens for the machines of the router.
fn server(routed: &Routed) -> Result<Option<Pid>> {
    let sockets = routed.in_router("ss --no-header --listening --numeric --processes --tcp sport = :9697")?;
    let pid = sockets.split("pid=").nth(1).and_then(|rest| rest.split(',').next());
    pid.map(|pid| pid.parse().map(Pid::from_raw).context("a process id")).transpose()
}

#[test]
fn the_process_is_started_again_although_a_package_has_replaced_the_program() -> Result<()> {
    let mut routed = named()?;
    let (program, next) = (routed.folder().join("overlane"), routed.folder().join("overlane.next"));
    for file in [&program, &next] {
        fs::copy(overlane_binary(), file).context("copying a program")?;
    }
    routed.agents.remove(0).stop(Signal::SIGTERM)?;
    let agent = Agent::launch_from(routed.node(), &program)?;
    agent.wait_for_log("ready: ")?;
    routed.agents.insert(0, agent);
    let before = wait_for("the process listens", || server(&routed))?;
    // As a package manager does, and then as one does that removes it.
    fs::rename(&next, &program).context("replacing a program")?;
    kill(before, Signal::SIGKILL).context("killing the process")?;
    let after = wait_for("another one listens", || Ok(server(&routed)?.filter(|pid| *pid != before)))?;
    fs::remove_file(&program).context("removing a program")?;
    kill(after, Signal::SIGKILL).context("killing the process")?;
    wait_for("a third one listens", || Ok(server(&routed)?.filter(|pid| ![before, after].contains(pid))))?;
    wait_until("it answers", || Ok(ask(&routed.machines[0], BY_IPV4, NAME)?.starts_with("app0")))
}
