//! Security groups in front of a guest's own kernel.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{Lanes, Rule},
    wait::wait_until,
};

use crate::bed::Bed;

#[test]
fn a_guest_is_reached_only_where_its_groups_admit_it_and_gets_the_answers_to_what_it_asks() -> Result<()> {
    let bed = Bed::configured(Lanes::Both, |topology, [guest, _]| {
        let rules = Rule::both("ingress", Some("tcp")).map(|rule| rule.port(8080)).into_iter();
        let group = topology.add_group("guest", rules.chain(Rule::both("egress", None)));
        topology.set_groups(&guest.id, &[&group]);
    })?;
    let [guest, machine] = bed.pair.ports.clone();
    // What it sends is admitted, and so are the answers.
    bed.guest.wait_for(machine.ipv4())?;
    bed.guest.wait_for(machine.ipv6())?;
    bed.guest.run("echo hello >/tmp/hello && httpd -p 8080 -h /tmp && httpd -p 8081 -h /tmp")?;
    let fetch = |port: u16| {
        let url = format!("http://{}:{port}/hello", guest.ipv4());
        bed.machine().run(&format!("curl --silent --fail --max-time 2 {url}"))
    };
    wait_until("a rule admits it", || Ok(fetch(8080)? == "hello\n"))?;
    ensure!(fetch(8081).is_err(), "no rule admits it");
    ensure!(!bed.machine().reaches(guest.ipv4()), "no rule admits a ping");
    Ok(())
}

#[test]
fn a_guest_that_uses_an_address_of_others_is_not_heard() -> Result<()> {
    let bed = Bed::configured(Lanes::Both, |_, _| ())?;
    let [_, machine] = bed.pair.ports.clone();
    bed.guest.wait_for(machine.ipv4())?;
    bed.guest.run("ip address add 10.0.10.77/24 dev eth0")?;
    let ping = |source: &str| bed.guest.run(&format!("ping -c 2 -W 1 -I {source} {}", machine.ipv4()));
    ensure!(ping("10.0.10.77").is_err(), "it was heard");
    ping(bed.pair.ports[0].ipv4()).map(drop)
}
