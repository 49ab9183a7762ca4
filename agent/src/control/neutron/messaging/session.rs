//! One connection whose queues are all consumed, until it is lost.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, Event,
    message::Delivery,
    options::{BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use overlane_core::{
    config::{Broker, TransportConfig},
    neutron::{
        envelope::{CONTENT_ENCODING, CONTENT_TYPE, Message, Reply, ReplyTo, Request},
        failure::Failure,
        messages::notification::{Notification, NotificationError},
    },
};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{
    Incoming, Subscriptions, compression,
    connect::{Link, connect},
    error::{CallError, ConnectError, reason},
    queues::{self, OwnQueues, Subscribed},
    replies::{Replies, Seen},
};

/// A broker that declares queues for all agents of a cloud at once takes its time.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for the last words.
const GOODBYE: Duration = Duration::from_secs(2);
/// Complaints about messages that are remembered, so that each is made once.
const COMPLAINTS_MAX: usize = 100;
/// How many characters of one are shown: it quotes what the message says.
const COMPLAINT_LENGTH_MAX: usize = 500;
/// What oslo.messaging's `ping` calls; operators use it to look for agents that do not listen.
const PING: &str = "oslo_rpc_server_ping";
const PING_LIMIT: Duration = Duration::from_secs(5);

/// A connection, as those who call see it.
pub(super) struct Session {
    publisher: Channel,
    exchange: ShortString,
    reply_queue: String,
    replies: Replies,
    /// Why the connection is of no more use.
    ended: watch::Sender<Option<String>>,
    seen: Mutex<Seen>,
    complaints: Mutex<BTreeSet<String>>,
}

/// What arrives on a connection.
pub(super) struct Feed {
    link: Link,
    replies: Consumer,
    notifications: Vec<Consumer>,
    channel: Channel,
    own: OwnQueues,
    directed: Vec<String>,
    /// What the broker has made differently from what the configuration asks for, in words.
    pub(super) mismatches: Vec<String>,
}

/// Connects to a broker and listens. Nothing is missed afterwards. Queues of the connection before, `stale`, are taken away if
/// they are still there.
pub(super) async fn open(
    config: &TransportConfig,
    broker: &Broker,
    subscriptions: &Subscriptions,
    own: &OwnQueues,
    stale: Option<&OwnQueues>,
) -> Result<(Session, Feed), ConnectError> {
    let link = connect(config, broker).await?;
    let subscribing = async {
        if let Some(stale) = stale {
            queues::delete_stale(&link.connection, stale).await?;
        }
        queues::subscribe(&link.connection, config, subscriptions, own).await
    };
    let too_late = |_| ConnectError::Timeout("declaring queues", SUBSCRIBE_TIMEOUT.as_secs());
    let subscribed = tokio::time::timeout(SUBSCRIBE_TIMEOUT, subscribing).await.map_err(too_late)??;
    let Subscribed { replies, notifications, channel, directed, mismatches } = subscribed;
    let publisher = queues::open_channel(&link.connection).await?;
    let confirming = publisher.confirm_select(ConfirmSelectOptions::default()).await;
    confirming.map_err(|error| ConnectError::Protocol(reason(&error)))?;
    let session = Session {
        publisher,
        exchange: config.exchange.as_str().into(),
        reply_queue: own.reply.clone(),
        replies: Replies::default(),
        ended: watch::Sender::new(None),
        seen: Mutex::default(),
        complaints: Mutex::default(),
    };
    Ok((session, Feed { link, replies, notifications, channel, own: own.clone(), directed, mismatches }))
}

impl Feed {
    /// Takes the queues away and says good-bye.
    pub(super) async fn close(self, session: &Session) {
        let deleting = async {
            // A queue that is read is in use.
            self.channel.close(200, "the agent stops".into()).await?;
            queues::delete(&session.publisher, &self.own, &self.directed).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(GOODBYE, deleting).await {
            tracing::debug!(error = reason(&error), "queues of this agent stay at the broker until they expire");
        }
        self.link.close(GOODBYE).await;
    }
}

impl Session {
    /// Takes in what arrives, until the connection is lost; returns why it is.
    pub(super) async fn run(&self, feed: &mut Feed, incoming: &mpsc::Sender<Incoming>) -> String {
        let mut ended = self.ended.subscribe();
        let events = feed.link.connection.events_listener();
        let Feed { replies, notifications, .. } = feed;
        tokio::select! {
            reason = self.take_replies(replies) => reason,
            reason = self.take_notifications(std::mem::take(notifications), incoming) => reason,
            reason = watch_over(events) => reason,
            reason = ended.wait_for(Option::is_some) => reason.ok().and_then(|reason| reason.clone()).unwrap_or_default(),
        }
    }

    /// Calls a method and waits for the answer as long as the connection lasts.
    pub(super) async fn call(
        &self,
        topic: &str,
        mut request: Request,
        limit: Duration,
    ) -> Result<serde_json::Value, CallError> {
        let mut ended = self.ended.subscribe();
        let message_id = Uuid::new_v4().simple().to_string();
        request.reply_to = Some(ReplyTo { message_id: message_id.clone(), queue: self.reply_queue.clone() });
        let mut expected = self.replies.expect(&message_id);
        let answer = async {
            self.send(topic, &request, Some(limit)).await?;
            expected.answer().await.map_err(|failure| CallError::Remote { method: request.method.clone(), failure })
        };
        tokio::select! {
            result = answer => result,
            _ = ended.wait_for(Option::is_some) => Err(CallError::Disconnected { method: request.method.clone() }),
        }
    }

    /// Lets nobody wait any longer.
    pub(super) fn end(&self, reason: &str) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(reason.to_owned());
            }
            is_first
        });
    }

    /// Sends a request, and learns whether there is a queue for it.
    pub(super) async fn send(&self, topic: &str, request: &Request, limit: Option<Duration>) -> Result<(), CallError> {
        let method = || request.method.clone();
        let key = ShortString::try_new(topic).map_err(|_| CallError::Disconnected { method: method() })?;
        let mut properties = properties();
        if let Some(limit) = limit {
            properties = properties.with_expiration(limit.as_millis().to_string().into());
        }
        match self.publish(self.exchange.clone(), key, &request.encode(), properties).await {
            Some(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(()),
            Some(Confirmation::Ack(Some(_))) => {
                Err(CallError::Unroutable { method: method(), topic: topic.to_owned() })
            }
            Some(Confirmation::Nack(_)) => Err(CallError::Refused { method: method(), topic: topic.to_owned() }),
            None => Err(CallError::Disconnected { method: method() }),
        }
    }

    async fn publish(
        &self,
        exchange: ShortString,
        key: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Option<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let published = match self.publisher.basic_publish(exchange, key, options, body, properties).await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        // The channel is closed, perhaps as the exchange is gone: everything is made anew.
        published.inspect_err(|error| self.end(&reason(error))).ok()
    }

    async fn take_replies(&self, replies: &mut Consumer) -> String {
        loop {
            let delivery = match replies.next().await {
                Some(Ok(delivery)) => delivery,
                end => return end_of(end.transpose().err()),
            };
            match decode(&delivery) {
                Ok(Message::Reply(reply)) => {
                    let message_id = reply.message_id.clone();
                    if !self.replies.resolve(reply) {
                        tracing::debug!(message_id, "an answer came too late");
                    }
                }
                Ok(Message::Request(request)) => {
                    self.complain(&format!("{} came to a queue for answers", request.method));
                }
                Err(error) => self.complain(&format!("an answer of the server is not understood: {error}")),
            }
        }
    }

    async fn take_notifications(&self, consumers: Vec<Consumer>, incoming: &mpsc::Sender<Incoming>) -> String {
        // Of several streams the end of one would go unnoticed.
        let with_end = |consumer: Consumer| consumer.map(Some).chain(stream::once(std::future::ready(None)));
        let mut all = stream::select_all(consumers.into_iter().map(with_end));
        while let Some(Some(delivery)) = all.next().await {
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => return end_of(Some(error)),
            };
            if let Some(news) = self.understand(&delivery).await
                && incoming.send(news).await.is_err()
            {
                return "nobody listens to what the server says".to_owned();
            }
            // Acknowledged when there is room for it: until then the broker keeps what follows.
            if let Err(error) = delivery.ack(BasicAckOptions::default()).await {
                return end_of(Some(error));
            }
        }
        end_of(None)
    }

    /// What a message has to say, if it is understood.
    async fn understand(&self, delivery: &Delivery) -> Option<Incoming> {
        let request = match decode(delivery) {
            Ok(Message::Request(request)) => request,
            Ok(Message::Reply(_)) => return None,
            Err(error) => {
                let from =
                    if delivery.exchange.as_str().is_empty() { &delivery.routing_key } else { &delivery.exchange };
                self.complain(&format!("a message from {from} is not understood: {error}"));
                return None;
            }
        };
        let is_repetition =
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_repetition(request.unique_id.clone());
        if is_repetition {
            return None;
        }
        if let Some(reply_to) = request.reply_to.clone() {
            self.answer(&request, reply_to).await;
            return None;
        }
        let request_id = request.request_id.clone();
        tracing::debug!(method = request.method, request_id, "notification");
        match Notification::parse(request) {
            Ok(notification) => {
                let is_directed = !delivery.exchange.as_str().ends_with(queues::FAN_OUT_SUFFIX);
                Some(Incoming::Notification { notification, is_directed, request_id })
            }
            Err(NotificationError::UnknownMethod { method }) => {
                tracing::debug!(method, "a notification of no use");
                None
            }
            Err(error) => {
                self.complain(&format!("a notification is ignored: {:#}", anyhow::Error::new(error)));
                None
            }
        }
    }

    /// Nobody calls an agent but to find out whether it listens.
    async fn answer(&self, request: &Request, reply_to: ReplyTo) {
        let Ok(queue) = ShortString::try_new(reply_to.queue.as_str()) else { return };
        let outcome = if request.method == PING {
            Ok(json!("pong"))
        } else {
            let message = format!("Endpoint does not support RPC method {}", request.method);
            let module = "oslo_messaging.rpc.dispatcher".to_owned();
            Err(Failure { class: "NoSuchMethod".to_owned(), module, message })
        };
        let unique_id = Some(Uuid::new_v4().simple().to_string());
        let reply = Reply { message_id: reply_to.message_id, outcome, is_last: true, unique_id };
        // A broker that takes nothing at the moment must not keep notifications waiting.
        let body = reply.encode();
        let _ =
            tokio::time::timeout(PING_LIMIT, self.publish(ShortString::default(), queue, &body, properties())).await;
    }

    /// Warns of something, once.
    fn complain(&self, complaint: &str) {
        let complaint: String = complaint.chars().take(COMPLAINT_LENGTH_MAX).collect();
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_MAX && complaints.insert(complaint.clone()) {
            tracing::warn!("{complaint}");
        } else {
            tracing::debug!("{complaint}");
        }
    }
}

/// Reports what the connection itself has to say, until it ends.
async fn watch_over(events: impl Stream<Item = Event>) -> String {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "the message broker takes no messages: it is short of memory or disk space");
            }
            Event::ConnectionUnblocked => tracing::info!("the message broker takes messages again"),
            Event::Error(error) => return reason(&error),
            _ => (),
        }
    }
    end_of(None)
}

fn end_of(error: Option<lapin::Error>) -> String {
    error.map_or_else(|| "the broker has taken a queue away".to_owned(), |error| reason(&error))
}

fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_content_encoding(CONTENT_ENCODING.into())
        .with_delivery_mode(2)
        .with_priority(0)
}

/// What a message says, or why it is not understood.
fn decode(delivery: &Delivery) -> Result<Message, String> {
    let body = compression::unpack(&delivery.data, delivery.properties.headers())?;
    Message::decode(&body).map_err(|error| error.to_string())
}
