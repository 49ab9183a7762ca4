//! How long it takes from the moment that a tap appears until its machine has an answer from another host.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use overlane_tests::{
    lab::{Host, Machine, Process},
    wait::wait_until,
};

use crate::{
    deployment::{Deployment, PROBE},
    report::Report,
};

const ROUNDS: usize = 11;
const LIMIT_MILLIS: f64 = 50.0;

/// The name of the device before it becomes the port's tap.
const PREPARED: &str = "prepared";

/// Plugs and unplugs a port, and checks the median.
pub(crate) fn measure(deployment: &Deployment, report: &mut Report) {
    report.check_result("plug to first ping", times(deployment).map(|times| judge(&times)));
}

fn judge(times: &[f64]) -> (bool, String) {
    let (median, min, max) = (times[times.len() / 2], times[0], times[times.len() - 1]);
    let detail = format!(
        "median {median:.1} ms of {} (min {min:.1}, max {max:.1}) from the tap's appearance to an answer from another \
         host; the limit is {LIMIT_MILLIS} ms",
        times.len()
    );
    (median <= LIMIT_MILLIS, detail)
}

/// In milliseconds, sorted.
fn times(deployment: &Deployment) -> Result<Vec<f64>> {
    let target = deployment.machine("app2").port.ipv4();
    let probe = Machine::off(deployment.lab.world(), PROBE, &deployment.probe)?;
    let (host, tap) = (deployment.lab.host(&probe.port.host), probe.port.tap());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut ping = prepare(&probe, host, deployment.lab.world().folder(), target)?;
        let begun = now()?;
        host.run(&format!("ip link set {PREPARED} name {tap}"))?;
        ping.wait()?;
        times.push(first_answer(&ping.output()?)? - begun);
        // The measurement ends here; the next round starts from a host that is done with this one.
        let row = |key: &str, value: &str| {
            Ok(host.show("ports")?.iter().any(|row| row["tap"] == tap.as_str() && row[key] == value))
        };
        wait_until("the port is on the fast lane", || row("state", "active"))?;
        host.run(&format!("ip link delete {tap}"))?;
        wait_until("the port is gone", || row("lane", "kernel"))?;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Makes a machine that already runs and asks, behind a device that is not a tap of Overlane's yet: a guest boots
/// independently of what happens on its host.
fn prepare(probe: &Machine, host: &Host, folder: &Path, target: &str) -> Result<Process> {
    let (mac, name) = (&probe.port.mac_address, probe.namespace.name());
    host.run(&format!("ip link add {PREPARED} type veth peer name eth0 netns {name} address {mac}"))?;
    probe.run("ip link set eth0 mtu 1450 up")?;
    probe.run(&format!("ip address add {}/24 dev eth0", probe.port.ipv4()))?;
    // It asks again soon, so that its patience is not what is measured.
    for (parameter, value) in [("retrans_time_ms", "2"), ("mcast_solicit", "10000")] {
        probe.namespace.set_parameter(&format!("net/ipv4/neigh/eth0/{parameter}"), value)?;
    }
    // With -w, -c counts answers: the first one ends it.
    let ping = probe.namespace.start(&format!("ping -n -D -i 0.002 -w 10 -c 1 {target}"), &folder.join("probe.log"))?;
    wait_until("the guest asks", || Ok(!probe.run(&format!("ip neighbour show to {target}"))?.is_empty()))?;
    Ok(ping)
}

/// When the first answer came, in milliseconds of the system clock.
fn first_answer(output: &str) -> Result<f64> {
    let stamp = output.lines().find_map(|line| line.strip_prefix('[')?.split(']').next());
    let seconds: f64 = stamp.with_context(|| format!("no answer: {output}"))?.parse().context("ping's time stamp")?;
    Ok(seconds * 1000.0)
}

fn now() -> Result<f64> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("reading the clock")?;
    Ok(since_epoch.as_secs_f64() * 1000.0)
}
