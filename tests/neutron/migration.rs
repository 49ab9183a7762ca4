//! The bindings of a live migration, in the order in which Nova uses them.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::Port,
    neutron::{Agent, Bed, Cloud, host_of},
};
use serde_json::{Value, json};

expect_of_overlane! {
    a_machine_migrates_to_the_host
    a_machine_migrates_away_from_the_host
}

fn a_machine_migrates_to_the_host(subject: Agent) -> Result<()> {
    migrate(subject, 1, host_of(subject))
}

fn a_machine_migrates_away_from_the_host(subject: Agent) -> Result<()> {
    migrate(subject, 0, "network")
}

/// Migrates one machine of a bed to another host; the other one keeps reaching it.
fn migrate(subject: Agent, index: usize, target: &str) -> Result<()> {
    let cloud = Cloud::shared()?;
    let mut bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    let source = bed.ports[index].clone();
    let bindings = format!("/ports/{}/bindings", source.id);

    // The target's tap is there before its binding is active.
    cloud.post(&bindings, &json!({"binding": {"host": target}}))?;
    let moved = Port { host: target.to_owned(), ..source.clone() };
    let incoming = cloud.plug(&bed.network, &moved)?;
    cloud.put(&format!("{bindings}/{target}/activate"), &Value::Null)?;
    cloud.unplug(&source)?;
    cloud.delete(&format!("{bindings}/{}", source.host))?;

    bed.machines[index] = incoming;
    cloud.wait_for_status(&moved, "ACTIVE")?;
    bed.wait_until_connected()?;
    ensure!(cloud.show_port(&moved)?["binding:host_id"] == target);
    Ok(())
}
