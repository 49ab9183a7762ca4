//! A Neutron server as a control plane: this host is one of its Linux bridge agents.
//!
//! [`overlane_core::neutron::controller`] decides what to ask and what follows from answers; here is what takes time: calls,
//! notifications and reports. Reports are made by the same loop as everything else, and only while it can look at the host, so that
//! an agent that is stuck or helpless stops reporting, and the server takes it for dead.

mod ask;
mod events;
pub mod messaging;
mod patience;
mod report;

use std::{collections::HashMap, future::pending, time::Instant};

use overlane_core::{
    config::{Config, NeutronConfig},
    neutron::{
        controller::{Answer, Controller, Failure, HostView, Question, Settings},
        messages::{notification::Notification, report::ReportOutcome, resources},
    },
    update::Update,
};
use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinSet},
};

use crate::status::Status;
use events::{Cause, Events};
use messaging::{CallError, Incoming, Messaging, Subscriptions};
use report::Reporter;

/// Which task a question is asked by, and what came of it.
type Answered = Result<(Id, Result<Answer, Failure>), JoinError>;

/// The agent's side of a Neutron server.
pub struct Neutron {
    controller: Controller,
    messaging: Messaging,
    incoming: mpsc::Receiver<Incoming>,
    asker: ask::Asker,
    /// What is asked at the moment, and what it is asked under.
    asked: HashMap<Id, (Question, Cause)>,
    answers: JoinSet<Result<Answer, Failure>>,
    events: Events,
    reporter: Reporter,
    reports: JoinSet<Result<ReportOutcome, CallError>>,
    /// The broker that there is a connection to.
    broker: Option<String>,
}

impl Neutron {
    /// Begins to connect.
    pub fn start(neutron: &NeutronConfig, config: &Config) -> Self {
        let l2_population = config.vxlan.is_some() && config.multicast.is_none();
        let mut subscriptions = Subscriptions::new(&config.host).with_notifications();
        if l2_population {
            subscriptions = subscriptions.with_l2population();
        }
        for (kind, version) in pushed_kinds(neutron) {
            subscriptions = subscriptions.with_topic(&resources::push_topic(kind, version), false);
        }
        let (messaging, incoming) = Messaging::start(neutron.transport.clone(), subscriptions);
        let asker = ask::Asker::new(messaging.clone(), neutron, config);
        let controller = Controller::new(Settings {
            host: config.host.clone(),
            local_ip: config.local_ip(),
            l2_population,
            has_groups: neutron.has_groups,
            has_qos: neutron.has_qos,
            has_trunks: neutron.has_trunks,
            slice: neutron.slice,
        });
        Self {
            controller,
            messaging,
            incoming,
            reporter: Reporter::new(neutron, config, l2_population),
            asker,
            asked: HashMap::new(),
            answers: JoinSet::new(),
            events: Events::default(),
            reports: JoinSet::new(),
            broker: None,
        }
    }

    /// Waits until something else is desired than before; at first, for anything. Cancelling loses nothing.
    pub async fn update(&mut self) -> Update {
        loop {
            let now = Instant::now();
            let update = self.controller.update(now);
            for question in self.controller.questions(now) {
                let cause = Cause::of_our_own(now);
                let (asker, asked) = (self.asker.for_request(&cause), question.clone());
                let task = self.answers.spawn(async move { asker.ask(&asked).await });
                self.asked.insert(task.id(), (question, cause));
            }
            self.events.log(&self.controller.take_news(), None, now);
            if let Some(update) = update {
                return update;
            }
            self.wait().await;
        }
    }

    /// Waits until something happens, and takes it in.
    async fn wait(&mut self) {
        let wake = self.controller.next_wake(Instant::now());
        let report = self.reporter.next(Instant::now()).filter(|_| self.broker.is_some() && self.reports.is_empty());
        tokio::select! {
            Some(answered) = self.answers.join_next_with_id() => self.take_answer(answered),
            Some(outcome) = self.reports.join_next() => self.take_outcome(outcome),
            Some(incoming) = self.incoming.recv() => {
                self.take_in(incoming);
                // What has come together is acted on together.
                while let Ok(more) = self.incoming.try_recv() {
                    self.take_in(more);
                }
            }
            () = sleep_until(wake) => (),
            () = sleep_until(report) => {
                let (messaging, report) = (self.messaging.clone(), self.reporter.report(self.controller.devices()));
                let patience = self.reporter.interval();
                self.reports.spawn(async move { messaging.ask(&report, patience).await });
            }
        }
    }

    fn take_in(&mut self, incoming: Incoming) {
        let now = Instant::now();
        match incoming {
            Incoming::Connected { broker } => {
                self.broker = Some(broker);
                self.reporter.report_now();
                self.controller.connected(now);
            }
            Incoming::Lost { .. } => {
                self.broker = None;
                self.controller.lost();
            }
            Incoming::Notification { notification, is_directed, request_id } => {
                let cause = Cause { request_id, since: now };
                if let Notification::PortUpdate(port) = &notification
                    && self.controller.has(port.id)
                {
                    self.events.expect(port.id, cause.clone());
                }
                self.controller.notified(notification, is_directed, now);
                self.events.log(&self.controller.take_news(), Some(&cause), now);
            }
        }
    }

    fn take_answer(&mut self, answered: Answered) {
        let now = Instant::now();
        let (task, result) = answered.unwrap_or_else(|error| {
            tracing::error!(%error, "a question to the server ended in a panic");
            (error.id(), Err(Failure::Other(format!("this agent has a bug: {error}"))))
        });
        let Some((question, cause)) = self.asked.remove(&task) else { return };
        match result {
            Ok(answer) => self.controller.answered(question, answer, now),
            Err(failure) => self.controller.failed(question, failure, now),
        }
        self.events.log(&self.controller.take_news(), Some(&cause), now);
    }

    fn take_outcome(&mut self, outcome: Result<Result<ReportOutcome, CallError>, JoinError>) {
        let Ok(outcome) = outcome else { return };
        if self.reporter.take_outcome(&outcome) {
            self.controller.resync();
        }
    }

    /// Takes in how the host is.
    pub fn host_changed(&mut self, view: &HostView) {
        let now = Instant::now();
        self.reporter.host_was_seen(now);
        self.controller.host_changed(view, now);
    }

    /// Adds to what the agent says of itself.
    pub fn tell(&self, status: &mut Status) {
        status.control = match (&self.broker, self.messaging.trouble()) {
            (Some(broker), _) => format!("Neutron server, by the message broker at {broker}"),
            (None, Some(trouble)) => format!("no connection to the message broker: {trouble}"),
            (None, None) => "connecting to the message broker".to_owned(),
        };
        if let Some(trouble) = self.reporter.trouble().filter(|_| self.broker.is_some()) {
            status.control = format!("{}; {trouble}", status.control);
        }
        let reasons = self.controller.reasons().into_iter();
        status.not_here = reasons.map(|(tap, reason)| (tap.to_owned(), reason)).collect();
    }

    /// Closes the connection. Ports stay as they are, here and in the server.
    pub async fn stop(self) {
        self.messaging.stop().await;
    }
}

/// The kinds of objects that this agent has to hear of.
fn pushed_kinds(neutron: &NeutronConfig) -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_wanted = |kind: &str| match kind {
        "AddressGroup" => neutron.has_groups,
        "QosPolicy" => neutron.has_qos,
        "Trunk" | "SubPort" => neutron.has_trunks,
        // What happens to ports and networks of this host is told otherwise; what happens to all others is no concern.
        _ => false,
    };
    resources::KINDS.into_iter().filter(move |(kind, _)| is_wanted(kind))
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => pending().await,
    }
}
