//! A flood of SYNs to one port: whether established flows of other ports notice.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use overlane_tests::lab::World;

use crate::{
    cpu::{Cpu, take},
    figures::Figures,
    frames::{Conversations, Entrance, Generator, Side, Sink},
    hosts::{Hosts, Ports, SERVICE, ends},
    path::{Load, Path},
};

/// Several times what all connection tables of a host have room for.
const SYNS: u32 = 2_000_000;
/// Established flows, and how many of them are answered at once: so few that no queue overflows, which the flood shares with
/// them.
const FLOWS: u32 = 256;
const AT_ONCE: u32 = 16;

/// How often it is tried, when something is lost in a queue: that says nothing about the connection table.
const ATTEMPTS: usize = 5;

const SYN: u8 = 2;

/// The flood comes from an open port, because others may not make up addresses, and goes to a port with many rules, which admit it.
/// It fills the tables of the left host, where only these tables admit the answers of the flows.
pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::private()?;
    let hosts = Hosts::with_overlane(world.part("overlane-")?, "")?;
    let mut flows = Path::new(&hosts, Ports::Few, Load { flows: FLOWS, ..Load::SMALL })?;
    let [_, source] = hosts.machines(Ports::Open);
    let [target, _] = hosts.machines(Ports::Many);
    let syn = ends(source, target).numbered_segment([0, SERVICE], SYN, [1000, 0], &[]);
    let conversations = Conversations { side: Side::Source, first: 0, count: 1 << 16, is_endless: true };
    let [_, right] = hosts.namespaces();
    let flood = Generator::new(right, &source.port.tap(), Entrance::Received, syn, conversations)?;
    let mut sink = Sink::at(&target.namespace, "eth0")?;
    for attempt in 1..=ATTEMPTS {
        let before = refused(&hosts)?;
        let (answered, time) = thread::scope(|scope| -> Result<_> {
            let flooding = scope.spawn(|| {
                right.inside(|| {
                    take(Cpu::Last)?;
                    flood.send(SYNS)
                })
            });
            let mut answered = 0;
            while !flooding.is_finished() {
                flows.answer(AT_ONCE)?;
                answered += AT_ONCE;
            }
            Ok((answered, flooding.join().map_err(|_| anyhow!("the flood has panicked"))??))
        })?;
        // Once round, so that every flow has had its turn.
        for _ in 0..FLOWS / AT_ONCE {
            flows.answer(AT_ONCE)?;
        }
        let answered = u64::from(answered + FLOWS);
        let flooded = sink.take(&target.namespace)?;
        ensure!(flooded > u64::from(SYNS / 2), "only {flooded} of {SYNS} SYNs have arrived");
        let (refused, lost) = (refused(&hosts)? - before, answered - flows.answers()?);
        if lost > refused && attempt < ATTEMPTS {
            continue;
        }
        figures.add("syn_flood_rate", "Mpps", vec![flooded as f64 / time.as_secs_f64() / 1e6]);
        figures.add("syn_flood_answers", "", vec![answered as f64]);
        figures.add("syn_flood_refused", "", vec![refused as f64]);
        figures.add("syn_flood_lost", "", vec![lost as f64]);
        break;
    }
    Ok(())
}

/// Packets that the client's port has not let in: answers whose flow was forgotten. What else gets lost does so in a queue.
fn refused(hosts: &Hosts) -> Result<u64> {
    let [client, _] = hosts.machines(Ports::Few);
    let rows = hosts.pair.host(&client.port.host).show(&format!("drops --port {}", client.port.id))?;
    Ok(rows.iter().filter_map(|row| row["packets"].as_u64()).sum())
}
