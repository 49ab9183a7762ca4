//! DHCP servers, routers and the like: what is wanted and what is there.

use overlane_core::{
    config::Config,
    services::{
        ObservedServices, Services,
        plan::{self, ServicePlan},
    },
};

use crate::services;

/// One look at the services.
#[derive(Default)]
pub(crate) struct ServiceView {
    pub(super) wanted: Services,
    pub(super) found: ObservedServices,
    pub(super) plan: ServicePlan,
}

impl ServiceView {
    pub(super) async fn observe(wanted: Services, config: &Config) -> anyhow::Result<Self> {
        let found = services::look(&wanted, config).await?;
        let plan = plan::plan(&wanted, &found);
        Ok(Self { wanted, found, plan })
    }

    /// What there is to do, step by step, with the namespace that it is about.
    pub(super) fn steps(&self) -> impl Iterator<Item = String> {
        self.plan.steps.iter().flat_map(|(namespace, steps)| {
            let place = namespace.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            steps.iter().map(move |step| format!("{place}{step}"))
        })
    }
}
