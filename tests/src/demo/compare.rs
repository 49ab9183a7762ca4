//! The same deployment with and without the fast path, round by round in one run.

use anyhow::{Context as _, Result};
use overlane_tests::lab::Lanes;

use crate::{deployment::Deployment, report::Report};

const ROUNDS: usize = 3;
const PINGS: u32 = 200;
const IPERF_SECS: u32 = 2;

/// What one lane has reached.
#[derive(Default)]
struct Figures {
    ping_micros: Vec<f64>,
    gbits: Vec<f64>,
}

/// Measures both lanes in turns and leaves the fast path on.
pub(crate) fn compare(deployment: &mut Deployment, report: &mut Report) -> Result<()> {
    let (mut fast, mut kernel) = (Figures::default(), Figures::default());
    for round in 1..=ROUNDS {
        for (lanes, figures) in [(Lanes::KernelOnly, &mut kernel), (Lanes::Both, &mut fast)] {
            deployment.restart_agents(lanes)?;
            measure(deployment, figures).with_context(|| format!("round {round}, {lanes:?}"))?;
        }
    }
    report.say(&format!("{:<28} {:>12} {:>12}", "app1 to app2, median (spread)", "ping, µs", "TCP, Gbit/s"));
    for (name, figures) in [("fast_path = auto", &mut fast), ("fast_path = off", &mut kernel)] {
        report.say(&format!("{name:<28} {:>12} {:>12}", spread(&mut figures.ping_micros), spread(&mut figures.gbits)));
    }
    let detail = format!(
        "{ROUNDS} rounds each; ping {:.2} times as fast, TCP {:.2} times",
        median(&kernel.ping_micros) / median(&fast.ping_micros),
        median(&fast.gbits) / median(&kernel.gbits)
    );
    report.check("comparison with fast_path = off", true, detail);
    Ok(())
}

fn measure(deployment: &Deployment, figures: &mut Figures) -> Result<()> {
    let (from, to) = (deployment.machine("app1"), deployment.machine("app2"));
    from.wait_for(to.port.ipv4())?;
    let output = from.run(&format!("ping -n -c {PINGS} -i 0.002 {}", to.port.ipv4()))?;
    figures.ping_micros.push(average_micros(&output)?);
    let _server = to.serve_iperf(deployment.lab.world().folder())?;
    figures.gbits.push(from.iperf(to.port.ipv4(), IPERF_SECS)? / 1e9);
    Ok(())
}

/// The average of `rtt min/avg/max/mdev = 0.107/0.222/0.447/0.158 ms`.
pub(crate) fn average_micros(output: &str) -> Result<f64> {
    let line = output.lines().find(|line| line.starts_with("rtt ")).context("ping's summary")?;
    let average = line.split(['=', '/']).nth(5).context("ping's average")?;
    let millis: f64 = average.trim().parse().context("ping's average")?;
    Ok(millis * 1000.0)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1}–{:.1})", median(values), values[0], values[values.len() - 1])
}
