//! Keeps a connection to one of the brokers.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use overlane_core::config::TransportConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Incoming, Shared, Subscriptions,
    queues::OwnQueues,
    retry::Retry,
    session::{Feed, Session, open},
};

/// Everything that the task needs.
pub(super) struct Supervisor {
    pub(super) config: TransportConfig,
    pub(super) subscriptions: Subscriptions,
    pub(super) shared: Arc<Shared>,
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) stop: CancellationToken,
}

impl Supervisor {
    /// Runs until it is told to stop, or nobody listens any more.
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        let mut retry = Retry::new(self.config.connection, self.config.url.brokers.len(), luck());
        let mut said = Said::default();
        let (mut own, mut stale) = (OwnQueues::new(&self.subscriptions), None);
        while !stop.is_cancelled() && !self.incoming.is_closed() {
            let broker = &self.config.url.brokers[retry.broker()];
            let attempt = tokio::select! {
                attempt = open(&self.config, broker, &self.subscriptions, &own, stale.as_ref()) => attempt,
                () = stop.cancelled() => break,
                () = self.incoming.closed() => break,
            };
            let pause = match attempt {
                Ok((session, feed)) => {
                    tracing::info!(broker = %broker, "connected to the message broker");
                    for mismatch in said.new_mismatches(&feed.mismatches) {
                        tracing::warn!(
                            "{mismatch}: the options of [oslo_messaging_rabbit] are not those of the servers; what is there is used"
                        );
                    }
                    stale = Some(std::mem::replace(&mut own, OwnQueues::new(&self.subscriptions)));
                    let begun = Instant::now();
                    self.use_up(Arc::new(session), feed, &broker.to_string()).await;
                    retry.lost(begun.elapsed(), luck())
                }
                Err(error) => {
                    let complaint = error.to_string();
                    if said.is_new_complaint(&broker.to_string(), &complaint) {
                        tracing::warn!(broker = %broker, "no connection to the message broker: {complaint}; it is tried again and again");
                    }
                    self.shared.set_trouble(Some(format!("{broker}: {complaint}")));
                    retry.refused(luck())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => (),
                () = stop.cancelled() => (),
                () = self.incoming.closed() => (),
            }
        }
    }

    /// Uses a connection until it is lost, or the agent stops.
    async fn use_up(&self, session: Arc<Session>, mut feed: Feed, broker: &str) {
        self.shared.set_session(Some(session.clone()));
        // It may take the receiver a while to make room.
        let running = async {
            if self.incoming.send(Incoming::Connected { broker: broker.to_owned() }).await.is_err() {
                return "nobody listens to what the server says".to_owned();
            }
            session.run(&mut feed, &self.incoming).await
        };
        let reason = tokio::select! {
            reason = running => Some(reason),
            () = self.stop.cancelled() => None,
            () = self.incoming.closed() => None,
        };
        self.shared.set_session(None);
        session.end(reason.as_deref().unwrap_or("the agent stops"));
        match reason {
            Some(reason) => {
                tracing::warn!(broker, reason, "lost the message broker; forwarding goes on, changes wait");
                self.shared.set_trouble(Some(format!("{broker}: {reason}")));
                tokio::select! {
                    // Nobody may listen any more, which ends the loop.
                    _ = self.incoming.send(Incoming::Lost { reason }) => (),
                    () = self.stop.cancelled() => (),
                }
            }
            None => feed.close(&session).await,
        }
    }
}

/// What the log has said, so that it is not said again with every attempt.
#[derive(Default)]
struct Said {
    complaints: BTreeMap<String, String>,
    mismatches: Vec<String>,
}

impl Said {
    /// Whether it is new that a broker cannot be used for this reason.
    fn is_new_complaint(&mut self, broker: &str, complaint: &str) -> bool {
        self.complaints.insert(broker.to_owned(), complaint.to_owned()).as_deref() != Some(complaint)
    }

    /// Those of the broker's differences from the configuration that are new. What was wrong before is over.
    fn new_mismatches<'a>(&mut self, mismatches: &'a [String]) -> &'a [String] {
        self.complaints.clear();
        if self.mismatches == mismatches {
            return &[];
        }
        self.mismatches = mismatches.to_vec();
        mismatches
    }
}

/// A random number from 0 to 1.
fn luck() -> f64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    (high >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_made_once_for_each_broker_and_again_when_it_has_changed_or_was_over() {
        let mut said = Said::default();
        let complaints = [("a", "refused"), ("b", "refused"), ("a", "refused"), ("a", "reset"), ("b", "refused")]
            .map(|(broker, complaint)| said.is_new_complaint(broker, complaint));
        assert_eq!(complaints, [true, true, false, true, false]);
        said.new_mismatches(&[]);
        assert!(said.is_new_complaint("a", "reset"));
    }

    #[test]
    fn a_difference_from_the_configuration_is_told_once() {
        let mut said = Said::default();
        let mismatches = ["durable".to_owned()];
        assert_eq!([said.new_mismatches(&mismatches).len(), said.new_mismatches(&mismatches).len()], [1, 0]);
    }
}
