//! A flood of SYNs to one port: whether established flows of other ports notice.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use overlane_tests::lab::World;

use super::{
    labs::{Hosts, Ports, SERVICE, ends, take_one_cpu},
    rate::Path,
};
use crate::{
    figures::Figures,
    frames::{Conversations, Generator, Side, Sink},
};

/// Several times what all connection tables of a host have room for.
const SYNS: u32 = 2_000_000;
/// Established flows, and how many of them are answered at once: so few that no queue overflows, which the flood shares with
/// them.
const FLOWS: u32 = 256;
const AT_ONCE: u32 = 16;

const SYN: u8 = 2;

/// The flood comes from an open port, because others may not make up addresses, and goes to a port with many rules, which admit it.
/// It fills the tables of the left host, where only these tables admit the answers of the flows.
pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::private()?;
    let hosts = Hosts::with_overlane(world.part("overlane-")?, "")?;
    let mut flows = Path::with_flows(&hosts, Ports::Few, FLOWS)?;
    let [_, source] = hosts.machines(Ports::Open);
    let [target, _] = hosts.machines(Ports::Many);
    let syn = ends(source, target).numbered_segment([0, SERVICE], SYN, [1000, 0], &[]);
    let conversations = Conversations { side: Side::Source, first: 0, count: 1 << 16, is_endless: true };
    let [_, right] = hosts.namespaces();
    let flood = Generator::new(right, &source.port.tap(), syn, conversations)?;
    let mut sink = Sink::at(&target.namespace, "eth0")?;
    let (sent, time) = thread::scope(|scope| -> Result<_> {
        let flooding = scope.spawn(|| {
            right.inside(|| {
                take_one_cpu()?;
                flood.send(SYNS)
            })
        });
        let mut sent = 0;
        while !flooding.is_finished() {
            flows.answer(AT_ONCE)?;
            sent += AT_ONCE;
        }
        Ok((sent, flooding.join().map_err(|_| anyhow!("the flood has panicked"))??))
    })?;
    // Once round, in case some of them were not their turn's.
    for _ in 0..FLOWS / AT_ONCE {
        flows.answer(AT_ONCE)?;
    }
    let sent = u64::from(sent + FLOWS);
    let flooded = sink.take(&target.namespace)?;
    ensure!(flooded > u64::from(SYNS / 2), "only {flooded} of {SYNS} SYNs have arrived");
    figures.add("syn_flood_rate", "Mpps", vec![flooded as f64 / time.as_secs_f64() / 1e6]);
    figures.add("syn_flood_lost", "", vec![(sent - flows.answers()?) as f64]);
    figures.add("syn_flood_sent_meanwhile", "", vec![sent as f64]);
    Ok(())
}
