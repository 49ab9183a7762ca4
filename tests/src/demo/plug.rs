//! From a tap's appearance to the first answer.

use overlane_tests::lab::{Machine, plug_times};

use crate::{
    deployment::{Deployment, PROBE},
    report::Report,
};

const ROUNDS: usize = 11;
const LIMIT_MILLIS: f64 = 50.0;

/// Plugs and unplugs a port, and checks the median.
pub(crate) fn measure(deployment: &Deployment, report: &mut Report) {
    let world = deployment.lab.world();
    let host = deployment.lab.host(&deployment.probe.host);
    let target = deployment.machine("app2").port.ipv4();
    let times = Machine::off(world, PROBE, &deployment.probe)
        .and_then(|probe| plug_times(&probe, host, world.folder(), target, ROUNDS));
    report.check_result("plug to first ping", times.map(judge));
}

fn judge(mut times: Vec<f64>) -> (bool, String) {
    times.sort_by(f64::total_cmp);
    let (median, min, max) = (times[times.len() / 2], times[0], times[times.len() - 1]);
    let detail = format!(
        "median {median:.1} ms of {} (min {min:.1}, max {max:.1}) from the tap's appearance to an answer from another \
         host; the limit is {LIMIT_MILLIS} ms",
        times.len()
    );
    (median <= LIMIT_MILLIS, detail)
}
