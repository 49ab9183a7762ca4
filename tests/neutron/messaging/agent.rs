//! The agent's end of a connection, for as long as a test needs it.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use overlane::control::neutron::messaging::{CallError, Incoming, Messaging, Subscriptions};
use overlane_core::{
    config::TransportConfig,
    neutron::messages::notification::{L2POPULATION_TOPIC, Notification},
    oslo_ini::Settings,
};
use overlane_tests::{lab::Namespace, wait::PATIENCE};
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, time::timeout};

/// Between two looks at a condition.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The options of a broker that was just installed.
pub(crate) const SETTINGS: &str = "[DEFAULT]\ntransport_url = rabbit://guest:guest@127.0.0.1\n";
pub(crate) const HOST: &str = "host1";
pub(crate) const PORTS: &str = "q-agent-notifier-port-update";
pub(crate) const PORT: &str = "62a55f11-f0ab-484a-ad74-1350aab1203c";

/// A connection that is being kept, and what comes on it.
pub(crate) struct Agent {
    pub(crate) messaging: Messaging,
    incoming: mpsc::Receiver<Incoming>,
}

/// Runs `test` with an agent in a namespace.
pub(crate) fn with_agent<T: Send>(
    namespace: &Namespace,
    settings: &str,
    test: impl AsyncFnOnce(Agent) -> Result<T> + Send,
) -> Result<T> {
    namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
        runtime.block_on(async { test(Agent::start(settings)?).await })
    })
}

impl Agent {
    fn start(settings: &str) -> Result<Self> {
        let mut read = Settings::default();
        ensure!(read.add_file(Path::new("neutron.conf"), settings).is_empty(), "{settings} is not understood");
        let config = TransportConfig::from_settings(&read)?.context("there is no transport_url")?;
        let subscriptions = Subscriptions::new(HOST).with_notifications().with_l2population();
        let (messaging, incoming) = Messaging::start(config, subscriptions);
        Ok(Self { messaging, incoming })
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Result<Incoming> {
        // A broker that comes back takes longer than most things.
        match timeout(PATIENCE * 3, self.incoming.recv()).await {
            Ok(Some(incoming)) => Ok(incoming),
            Ok(None) => bail!("nothing will come any more"),
            Err(_) => bail!("nothing came: {:?}", self.messaging.trouble()),
        }
    }

    /// Waits for a connection, which must be the next thing to come, and returns the broker.
    pub(crate) async fn connected(&mut self) -> Result<String> {
        match self.next().await? {
            Incoming::Connected { broker } => Ok(broker),
            other => bail!("expected a connection, not {other:?}"),
        }
    }

    /// Waits for the loss of the connection, which must be the next thing to come, and returns the reason.
    pub(crate) async fn lost(&mut self) -> Result<String> {
        match self.next().await? {
            Incoming::Lost { reason } => Ok(reason),
            other => bail!("expected a loss, not {other:?}"),
        }
    }

    /// Waits for a notification, which must be the next thing to come.
    pub(crate) async fn notification(&mut self) -> Result<Notification> {
        match self.next().await? {
            Incoming::Notification { notification, .. } => Ok(notification),
            other => bail!("expected a notification, not {other:?}"),
        }
    }

    /// Calls the peer.
    pub(crate) async fn call(&self, method: &str, args: Value) -> Result<Value, CallError> {
        self.messaging.call("q-plugin", method, "1.9", None, arguments(args), PATIENCE).await
    }

    /// Has the peer tell everybody something.
    pub(crate) async fn have_said(&self, topic: &str, method: &str, version: &str, args: Value) -> Result<()> {
        let what = json!({ "topic": topic, "method": method, "version": version, "arguments": args });
        self.call("say", what).await.context("having something said")?;
        Ok(())
    }

    /// A notification to all agents and one to this one arrive: nothing is half-subscribed.
    pub(crate) async fn hears_everything(&mut self) -> Result<()> {
        self.have_said(PORTS, "port_update", "1.0", json!({ "port": { "id": PORT } })).await?;
        let heard = self.notification().await?;
        ensure!(matches!(&heard, Notification::PortUpdate(port) if port.id.to_string() == PORT), "{heard:?}");
        let entries = json!({ "fdb_entries": { PORT: { "segment_id": 5, "network_type": "vxlan", "ports": {} } } });
        let directed = json!({
            "topic": L2POPULATION_TOPIC, "method": "add_fdb_entries", "version": "1.0", "arguments": entries, "host": HOST,
        });
        self.call("say", directed).await.context("having something said to this host")?;
        let heard = self.next().await?;
        let is_directed = matches!(
            &heard,
            Incoming::Notification { notification: Notification::AddFdb(_), is_directed: true, request_id: _ }
        );
        ensure!(is_directed, "{heard:?}");
        Ok(())
    }

    /// As [`Agent::hears_everything`], with a peer that needs a while to find its broker again.
    pub(crate) async fn hears_everything_again(&mut self) -> Result<()> {
        let messaging = &self.messaging;
        let echo =
            async || messaging.call("q-plugin", "echo", "1.9", None, Map::new(), Duration::from_secs(1)).await.ok();
        look_for("the peer answers again", PATIENCE * 3, echo).await?;
        self.hears_everything().await
    }
}

/// Looks again and again until there is something, as `wait_at_most` does where nothing else has to go on meanwhile.
pub(crate) async fn look_for<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let looking = async {
        let mut looks = tokio::time::interval(BETWEEN_LOOKS);
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(limit, looking).await.with_context(|| format!("{what}: not within {limit:?}"))
}

pub(crate) fn arguments(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(arguments) => arguments,
        other => panic!("{other} are no arguments"),
    }
}
