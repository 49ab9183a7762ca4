//! oslo.messaging over AMQP 0.9.1: calls to the server, and what it says unasked.
//!
//! There is one connection, to one of several brokers. When it is lost, another one is made, with new queues: what was said in
//! between is lost, so whoever hears of [`Incoming::Connected`] asks for everything. It comes only when all queues are consumed,
//! so there is no half-subscribed agent. Calls that are under way when the connection is lost fail.
//!
//! This folder is the only user of lapin.

mod compression;
mod connect;
mod error;
mod queues;
mod replies;
mod retry;
mod session;
mod stream;
mod supervisor;
mod tls;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use overlane_core::{
    config::TransportConfig,
    neutron::{
        envelope::Request,
        messages::{
            Call,
            notification::{L2POPULATION_TOPIC, Notification, TOPICS},
            parse,
        },
    },
};
use serde_json::{Map, Value};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use error::{CallError, ConnectError, TlsProblem};

use session::Session;
use supervisor::Supervisor;

/// How much may wait to be taken in; the broker keeps the rest.
const INCOMING_MAX: usize = 256;
/// A broker that is short of memory takes nothing.
const CAST_LIMIT: Duration = Duration::from_secs(30);

/// What the agent wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriptions {
    /// This host's name, for messages to it alone.
    pub host: String,
    /// Topics.
    pub topics: Vec<Topic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Whether there are messages for one host, besides those for all.
    pub is_directed: bool,
}

/// What comes from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// There is a connection, and nothing is missed from here on. What was said before is lost: everything must be asked for.
    Connected {
        /// Host and port.
        broker: String,
    },
    /// The connection is lost. Another one is being made.
    Lost {
        /// Why, as far as that is known.
        reason: String,
    },
    /// The server says something.
    Notification {
        /// What.
        notification: Notification,
        /// Whether it was sent to this host alone.
        is_directed: bool,
        /// The request that it comes from, as the server's log has it.
        request_id: Option<String>,
    },
}

/// A handle on the connection. Clones share it.
#[derive(Clone)]
pub struct Messaging {
    shared: Arc<Shared>,
    request_id: Option<String>,
}

struct Shared {
    session: Mutex<Option<Arc<Session>>>,
    trouble: Mutex<Option<String>>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Subscriptions {
    /// Nothing yet, for a host.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), topics: Vec::new() }
    }

    /// What every agent listens to: ports, networks, bindings and security groups.
    #[must_use]
    pub fn with_notifications(self) -> Self {
        TOPICS.iter().fold(self, |subscriptions, topic| subscriptions.with_topic(topic, false))
    }

    /// Members of networks.
    #[must_use]
    pub fn with_l2population(self) -> Self {
        self.with_topic(L2POPULATION_TOPIC, true)
    }

    /// One topic more.
    #[must_use]
    pub fn with_topic(mut self, name: &str, is_directed: bool) -> Self {
        self.topics.push(Topic { name: name.to_owned(), is_directed });
        self
    }
}

impl Messaging {
    /// Starts to connect, on the runtime that this is called in. What comes is bounded: the broker waits for a slow receiver.
    pub fn start(config: TransportConfig, subscriptions: Subscriptions) -> (Self, mpsc::Receiver<Incoming>) {
        if config.tls.as_ref().is_some_and(|tls| tls.ca_file.is_none()) {
            tracing::warn!(
                "the message broker's certificate is not verified: [oslo_messaging_rabbit] ssl_ca_file is not set"
            );
        }
        let (incoming, receiver) = mpsc::channel(INCOMING_MAX);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            session: Mutex::new(None),
            trouble: Mutex::new(None),
            stop: stop.clone(),
            task: Mutex::new(None),
        });
        let supervisor = Supervisor { config, subscriptions, shared: shared.clone(), incoming, stop };
        *lock(&shared.task) = Some(tokio::spawn(supervisor.run()));
        (Self { shared, request_id: None }, receiver)
    }

    /// A handle whose calls belong to one request, under whose id they stand in the server's log. Else each has an id of its own.
    #[must_use]
    pub fn for_request(&self, request_id: Option<String>) -> Self {
        Self { shared: self.shared.clone(), request_id }
    }

    /// Why there is no connection, if there is none.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Calls a method, and waits for its answer at most `limit`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(
        &self,
        topic: &str,
        method: &str,
        version: &str,
        namespace: Option<&str>,
        args: Map<String, Value>,
        limit: Duration,
    ) -> Result<Value, CallError> {
        let request = self.request(method, version, namespace, args);
        let request_id = request.request_id.clone();
        let begun = Instant::now();
        let result = match self.shared.session() {
            Some(session) => {
                let seconds = limit.as_secs();
                let too_late = |_| CallError::Timeout { method: method.to_owned(), seconds };
                tokio::time::timeout(limit, session.call(topic, request, limit)).await.map_err(too_late).flatten()
            }
            None => Err(CallError::Disconnected { method: method.to_owned() }),
        };
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        let error = result.as_ref().err().map(ToString::to_string);
        tracing::debug!(method, request_id, millis, error, "called");
        result
    }

    /// As [`Messaging::call`], with types.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask<C: Call>(&self, call: &C, limit: Duration) -> Result<C::Reply, CallError> {
        self.ask_at(call, C::VERSION, limit).await
    }

    /// As [`Messaging::ask`], of another version of the server's interface.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask_at<C: Call>(&self, call: &C, version: &str, limit: Duration) -> Result<C::Reply, CallError> {
        let answer = self.call(C::TOPIC, C::METHOD, version, C::NAMESPACE, call.args(), limit).await?;
        parse(answer).map_err(|error| CallError::Malformed { method: C::METHOD.to_owned(), error })
    }

    /// Sends a request that is not answered.
    ///
    /// # Errors
    /// [`CallError`]: it has not arrived at any queue.
    pub async fn cast(
        &self,
        topic: &str,
        method: &str,
        version: &str,
        namespace: Option<&str>,
        args: Map<String, Value>,
    ) -> Result<(), CallError> {
        let request = self.request(method, version, namespace, args);
        let session = self.shared.session().ok_or_else(|| CallError::Disconnected { method: method.to_owned() })?;
        let seconds = CAST_LIMIT.as_secs();
        let too_late = |_| CallError::Timeout { method: method.to_owned(), seconds };
        tokio::time::timeout(CAST_LIMIT, session.send(topic, &request, None)).await.map_err(too_late).flatten()
    }

    /// Takes the agent's queues away, and closes the connection.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        let task = lock(&self.shared.task).take();
        if let Some(task) = task {
            // A panic in it has been reported by then.
            let _ = task.await;
        }
    }

    fn request(&self, method: &str, version: &str, namespace: Option<&str>, args: Map<String, Value>) -> Request {
        let request_id = self.request_id.clone().unwrap_or_else(|| format!("req-{}", Uuid::new_v4()));
        Request {
            method: method.to_owned(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            args,
            request_id: Some(request_id),
            reply_to: None,
            unique_id: Some(Uuid::new_v4().simple().to_string()),
        }
    }
}

impl Shared {
    fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone()
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        if session.is_some() {
            self.set_trouble(None);
        }
        *lock(&self.session) = session;
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }
}

/// A panic elsewhere leaves what is locked as good as it was: it is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
