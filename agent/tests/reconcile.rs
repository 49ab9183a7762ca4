//! The loop over a host that does as it is told, but for what it is told to refuse.

#[expect(dead_code, reason = "shared with the tests of the plan")]
#[path = "../core/tests/plan/simulated.rs"]
mod simulated;

use std::{cell::RefCell, path::Path, rc::Rc};

use anyhow::Result;
use overlane::{
    kernel::{Changes, FdbChange},
    reconcile::{Host, Look, Reconciler},
};
use overlane_core::{
    action::{Action, DatapathAction},
    desired::Desired,
    observed::{DatapathState, FdbEntry, FdbTable, KernelState, LinkKind, Observed},
    topology::Topology,
    update::Update,
};
use simulated::{apply, config, link, local_ip};

const TOPOLOGY: &str = r#"
hosts = [{ name = "here", local_ip = "10.10.10.11" }]
networks = [{ id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3", network_type = "vxlan", segmentation_id = 10 }]

[[ports]]
id = "b1eaae00-e504-41f8-93a4-643687155bea"
network_id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
host = "here"
mac_address = "fa:16:3e:81:1b:37"
"#;

/// A host as data, which the test can change as well.
#[derive(Clone)]
struct Simulation(Rc<RefCell<State>>);

struct State {
    host: Observed,
    refuses_attachments: bool,
    hides: bool,
}

impl Host for Simulation {
    async fn observe(&mut self, _: &Desired, look: Look, observed: &mut Observed) -> Result<()> {
        assert!(look > Look::Nothing);
        *observed = Observed::default();
        anyhow::ensure!(!self.0.borrow().hides, "cannot be looked at");
        observed.clone_from(&self.0.borrow().host);
        Ok(())
    }

    async fn apply(&mut self, actions: &[&Action]) -> Vec<Result<()>> {
        let mut state = self.0.borrow_mut();
        let step = |action: &&Action| {
            let is_attachment = matches!(action, Action::Datapath(DatapathAction::Attach { .. }));
            anyhow::ensure!(!(state.refuses_attachments && is_attachment), "refused");
            apply(&mut state.host, action);
            Ok(())
        };
        actions.iter().map(step).collect()
    }

    async fn changed(&mut self) -> Changes {
        std::future::pending().await
    }

    fn changed_by_now(&mut self) -> Changes {
        Changes::default()
    }

    fn settled(&mut self) -> Result<()> {
        Ok(())
    }

    fn fast_path(&self) -> String {
        "on".to_owned()
    }

    fn is_degraded(&self) -> bool {
        false
    }

    fn look_closer(&mut self) {}
}

/// A host with an underlay and the port's tap.
fn bare_host() -> Simulation {
    let mut kernel = KernelState::default();
    kernel.addresses.insert(2, [local_ip()].into());
    kernel.links.insert(2, link(2, "eth1", LinkKind::Other(String::new())));
    kernel.links.insert(3, link(3, "tapb1eaae00-e5", LinkKind::Other("tun".to_owned())));
    let host = Observed { kernel, datapath: Some(DatapathState::default()), ..Observed::default() };
    Simulation(Rc::new(RefCell::new(State { host, refuses_attachments: false, hides: false })))
}

#[tokio::test]
async fn a_failed_step_is_tried_again_however_often_an_entry_has_to_be_repaired_meanwhile() -> Result<()> {
    let host = bare_host();
    let mut reconciler = Reconciler::new(host.clone(), config());
    let desired = Topology::parse(Path::new("t.toml"), TOPOLOGY)?.desired_for("here");
    reconciler.accept(Update::Whole(Box::new(desired)));
    let report = reconciler.reconcile().await?;
    assert_eq!((report.failed, report.left, reconciler.next_wake()), (0, 0, None));
    // From here on, an attachment is missing and cannot be made.
    {
        let mut state = host.0.borrow_mut();
        state.refuses_attachments = true;
        assert!(state.host.datapath.as_mut().is_some_and(|maps| maps.attached.pop_first().is_some()));
    }
    let entry = FdbEntry { ifindex: 3, mac: "fa:16:3e:81:1b:37".parse()?, table: FdbTable::Bridge };
    let is_gone = Changes { devices: true, fdb: vec![FdbChange::Delete(entry)], ..Changes::default() };
    for _ in 0..3 {
        assert!(host.0.borrow_mut().host.kernel.fdb.remove(&entry), "the entry was not repaired");
        reconciler.hear(&is_gone);
        let report = reconciler.reconcile().await?;
        assert_eq!(report.failed, 1);
        assert!(reconciler.next_wake().is_some(), "nobody would ever try again");
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_cannot_be_looked_at_has_not_lost_its_taps() -> Result<()> {
    let host = bare_host();
    let mut reconciler = Reconciler::new(host.clone(), config());
    for hides in [true, false, true, false] {
        host.0.borrow_mut().hides = hides;
        assert_eq!(reconciler.reconcile_fully().await.is_err(), hides);
        let taps = reconciler.host_view().map(|view| view.taps.len());
        assert_eq!(taps, (!hides).then_some(1));
    }
    Ok(())
}
