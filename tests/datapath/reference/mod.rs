//! The programs against the reference in plain Rust (`overlane_core::security::model`): the same rules, the same packets, the
//! same verdicts and reasons, for random ones of both, and while rules change under living flows.

mod host;

use overlane_core::security::model;
use overlane_tests::stories::{Step, any_story};
use proptest::prelude::*;

use host::Host;

#[test]
fn programs_and_reference_come_to_the_same_verdict_about_every_packet() {
    let mut host = Host::load();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    // One host lives through all stories: loading its programs takes longer than telling one.
    let host = std::cell::RefCell::new(&mut host);
    let told = runner.run(&any_story(), |story| {
        let mut host = host.borrow_mut();
        host.begin(&story.port);
        let mut memory = model::Memory::default();
        let mut groups = &story.groups[0];
        let mut port = story.port.clone();
        port.takes_up = host.change(groups);
        for (number, step) in story.steps.iter().enumerate() {
            match step {
                Step::Change(index) => {
                    groups = &story.groups[*index];
                    port.takes_up = host.change(groups);
                }
                Step::Packet(direction, packet) => {
                    let expected = model::admit(&port, groups, &mut memory, *direction, packet);
                    let found = host.judge(*direction, packet);
                    prop_assert_eq!(found, expected, "step {}: {:?} {:#?}", number, direction, packet);
                }
            }
        }
        Ok(())
    });
    if let Err(error) = told {
        panic!("{error}");
    }
}
