//! How long it takes from the moment that a tap appears until its machine has an answer from another host.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use super::{Host, Machine, Process};
use crate::wait::wait_until;

/// A machine that already runs and asks, behind a device that is not a tap of Overlane's yet: a guest boots independently of
/// what happens on its host.
pub struct Waiting {
    device: String,
    tap: String,
    ping: Process,
}

impl Waiting {
    /// Starts such a machine on `host`, asking for `target`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(machine: &Machine, host: &Host, folder: &Path, target: &str) -> Result<Self> {
        let (tap, mac, name) = (machine.port.tap(), &machine.port.mac_address, machine.namespace.name());
        let device = tap.replacen("tap", "new", 1);
        host.run(&format!("ip link add {device} type veth peer name eth0 netns {name} address {mac}"))?;
        machine.run("ip link set eth0 mtu 1450 up")?;
        machine.run(&format!("ip address add {}/24 dev eth0", machine.port.ipv4()))?;
        // It asks again soon, so that its patience is not what is measured.
        for (parameter, value) in [("retrans_time_ms", "2"), ("mcast_solicit", "10000")] {
            machine.namespace.set_parameter(&format!("net/ipv4/neigh/eth0/{parameter}"), value)?;
        }
        // With -w, -c counts answers: the first one ends it.
        let ping = format!("ping -n -D -i 0.002 -w 20 -c 1 {target}");
        let ping = machine.namespace.start(&ping, &folder.join(format!("{device}.log")))?;
        wait_until("the guest asks", || Ok(!machine.run(&format!("ip neighbour show to {target}"))?.is_empty()))?;
        Ok(Self { device, tap, ping })
    }

    /// Puts the device into the bridge that its tap will be in, as libvirt does before anybody else sees the tap.
    ///
    /// # Errors
    /// When there is no such bridge.
    pub fn connect(&self, host: &Host, bridge: &str) -> Result<()> {
        host.run(&format!("ip link set {} master {bridge}", self.device)).map(drop)
    }

    /// A line for `ip -batch` that makes the tap appear.
    pub fn appear(&self) -> String {
        format!("link set {} name {} up\n", self.device, self.tap)
    }

    /// When the first answer came, in milliseconds of the system clock.
    ///
    /// # Errors
    /// When none came.
    pub fn first_answer(mut self) -> Result<f64> {
        self.ping.wait()?;
        first_answer(&self.ping.output()?)
    }
}

/// When the first answer came that `ping -D` has printed, in milliseconds of the system clock.
///
/// # Errors
/// When none came.
pub fn first_answer(output: &str) -> Result<f64> {
    let stamp = output.lines().find_map(|line| line.strip_prefix('[')?.split(']').next());
    let seconds: f64 = stamp.with_context(|| format!("no answer: {output}"))?.parse().context("ping's time stamp")?;
    Ok(seconds * 1000.0)
}

/// Makes a port's tap appear and disappear `rounds` times, and returns how long each first answer took, in milliseconds.
///
/// # Errors
/// When an answer does not come.
pub fn plug_times(machine: &Machine, host: &Host, folder: &Path, target: &str, rounds: usize) -> Result<Vec<f64>> {
    let tap = machine.port.tap();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let waiting = Waiting::prepare(machine, host, folder, target)?;
        let begun = now()?;
        host.run(&format!("ip {}", waiting.appear()))?;
        times.push(waiting.first_answer()? - begun);
        // The measurement ends here; the next round starts from a host that is done with this one.
        let row = |key: &str, value: &str| {
            Ok(host.show("ports")?.iter().any(|row| row["tap"] == tap.as_str() && row[key] == value))
        };
        wait_until("the port is on the fast lane", || row("state", "active"))?;
        host.run(&format!("ip link delete {tap}"))?;
        wait_until("the port is gone", || row("lane", "kernel"))?;
    }
    Ok(times)
}

/// The system clock in milliseconds.
///
/// # Errors
/// When it stands before 1970.
pub fn now() -> Result<f64> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("reading the clock")?;
    Ok(since_epoch.as_secs_f64() * 1000.0)
}
