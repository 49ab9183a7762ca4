//! The agent's exchanges and queues at the broker, declared as oslo.messaging declares them.

use lapin::{
    Channel, Connection, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use overlane_core::config::{QueueConfig, TransportConfig};
use uuid::Uuid;

use super::{
    Subscriptions, Topic,
    error::{ConnectError, is_mismatch, reason},
};

/// Messages that the broker sends ahead of what the agent has taken in, when the configuration leaves it to the agent.
const PREFETCH: u16 = 100;

/// What the names of exchanges for all agents end in.
pub(super) const FAN_OUT_SUFFIX: &str = "_fanout";

/// Names of the queues that are nobody else's. An attempt to connect that fails may leave them, and the next one finds them
/// again; once a connection was made, the next one has new ones.
#[derive(Clone)]
pub(super) struct OwnQueues {
    /// For answers to calls.
    pub(super) reply: String,
    /// For what is said to all, topic by topic.
    fan_out: Vec<String>,
}

/// What the agent listens to. From here on nothing is missed.
pub(super) struct Subscribed {
    /// Answers to calls.
    pub(super) replies: Consumer,
    /// Everything else, queue by queue.
    pub(super) notifications: Vec<Consumer>,
    /// Where that is read.
    pub(super) channel: Channel,
    /// Queues that bear this host's name.
    pub(super) directed: Vec<String>,
    /// What the broker has made differently from what the configuration asks for, in words.
    pub(super) mismatches: Vec<String>,
}

impl OwnQueues {
    /// New names.
    pub(super) fn new(subscriptions: &Subscriptions) -> Self {
        let fan_out = |topic: &Topic| format!("{}_{}", topic.fan_out_exchange(), Uuid::new_v4().simple());
        let reply = format!("reply_{}", Uuid::new_v4().simple());
        Self { reply, fan_out: subscriptions.topics.iter().map(fan_out).collect() }
    }

    /// All of them.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.fan_out.iter().chain([&self.reply])
    }
}

impl Topic {
    fn fan_out_exchange(&self) -> String {
        format!("{}{FAN_OUT_SUFFIX}", self.name)
    }
}

/// Makes queues for everything, and consumes them.
pub(super) async fn subscribe(
    connection: &Connection,
    config: &TransportConfig,
    subscriptions: &Subscriptions,
    own: &OwnQueues,
) -> Result<Subscribed, ConnectError> {
    let mut declarer = Declarer::new(connection).await?;
    let queues = &config.queues;
    let main =
        ExchangeDeclareOptions { durable: queues.durable, auto_delete: queues.auto_delete, ..Default::default() };
    declarer.exchange(&config.exchange, ExchangeKind::Topic, main).await?;

    declarer.queue(&own.reply, transient(queues), transient_arguments(queues)).await?;
    let mut directed = Vec::new();
    for (topic, queue) in subscriptions.topics.iter().zip(&own.fan_out) {
        let exchange = topic.fan_out_exchange();
        let fan_out =
            ExchangeDeclareOptions { durable: queues.transient_quorum, auto_delete: true, ..Default::default() };
        declarer.exchange(&exchange, ExchangeKind::Fanout, fan_out).await?;
        declarer.queue(queue, transient(queues), transient_arguments(queues)).await?;
        declarer.bind(queue, &exchange, &topic.name).await?;
        if topic.is_directed {
            let queue = format!("{}.{}", topic.name, subscriptions.host);
            declarer.queue(&queue, directed_options(queues), directed_arguments(queues)).await?;
            // What has waited there is older than what the server will answer.
            declarer.purge(&queue).await?;
            declarer.bind(&queue, &config.exchange, &queue).await?;
            directed.push(queue);
        }
    }
    let mismatches = declarer.mismatches;

    let replies = consume(&declarer.channel, &own.reply, true).await?;
    let channel = open_channel(connection).await?;
    let prefetch = if queues.prefetch == 0 { PREFETCH } else { queues.prefetch };
    let limiting = channel.basic_qos(prefetch, BasicQosOptions::default()).await;
    limiting.map_err(refused("to limit what it sends ahead"))?;
    let mut notifications = Vec::new();
    for queue in own.fan_out.iter().chain(&directed) {
        notifications.push(consume(&channel, queue, false).await?);
    }
    Ok(Subscribed { replies, notifications, channel, directed, mismatches })
}

/// Takes away what a connection that was lost has left. What cannot be taken away expires.
pub(super) async fn delete_stale(connection: &Connection, stale: &OwnQueues) -> Result<(), ConnectError> {
    // The broker closes the channel when it refuses something.
    let channel = open_channel(connection).await?;
    if let Err(error) = delete(&channel, stale, &[]).await {
        tracing::debug!(error = reason(&error), "queues of the last connection stay at the broker until they expire");
    }
    Ok(())
}

/// Deletes queues so that nothing piles up in them: those of the agent's own, and those of its host unless somebody else, such
/// as the agent that takes over, already reads them.
pub(super) async fn delete(channel: &Channel, own: &OwnQueues, directed: &[String]) -> Result<(), lapin::Error> {
    let all = own.names().map(|queue| (queue, false)).chain(directed.iter().map(|queue| (queue, true)));
    for (queue, if_unused) in all {
        let options = QueueDeleteOptions { if_unused, ..Default::default() };
        channel.queue_delete(queue.as_str().into(), options).await?;
    }
    Ok(())
}

/// A channel.
pub(super) async fn open_channel(connection: &Connection) -> Result<Channel, ConnectError> {
    connection.create_channel().await.map_err(refused("a channel"))
}

fn refused(what: &str) -> impl FnOnce(lapin::Error) -> ConnectError {
    let what = what.to_owned();
    move |error| ConnectError::Declare { what, reason: reason(&error) }
}

/// AMQP's names are 255 bytes at most.
fn short(name: &str) -> Result<ShortString, ConnectError> {
    let too_long = |_| ConnectError::Protocol(format!("the name {name:?} is longer than 255 bytes"));
    ShortString::try_new(name).map_err(too_long)
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Result<Consumer, ConnectError> {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    let consuming = channel.basic_consume(short(queue)?, ShortString::default(), options, FieldTable::default()).await;
    consuming.map_err(refused(&format!("to be read from queue {queue}")))
}

fn transient(queues: &QueueConfig) -> QueueDeclareOptions {
    QueueDeclareOptions { durable: queues.transient_quorum, ..Default::default() }
}

fn directed_options(queues: &QueueConfig) -> QueueDeclareOptions {
    QueueDeclareOptions { durable: queues.durable, auto_delete: queues.auto_delete, ..Default::default() }
}

/// They go by themselves some time after the agent is gone.
fn transient_arguments(queues: &QueueConfig) -> FieldTable {
    let mut arguments = FieldTable::default();
    let expires = i64::try_from(queues.transient_ttl.as_millis()).unwrap_or(i64::MAX);
    if expires > 0 {
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expires));
    }
    if queues.transient_quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    } else if queues.mirrored {
        arguments.insert("x-ha-policy".into(), AMQPValue::LongString("all".into()));
    }
    arguments
}

fn directed_arguments(queues: &QueueConfig) -> FieldTable {
    let mut arguments = FieldTable::default();
    if let Some(quorum) = queues.quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let limits = [
            ("x-delivery-limit", quorum.delivery_limit),
            ("x-max-in-memory-length", quorum.max_memory_length),
            ("x-max-in-memory-bytes", quorum.max_memory_bytes),
        ];
        for (name, limit) in limits.into_iter().filter(|(_, limit)| *limit > 0) {
            arguments.insert(name.into(), AMQPValue::LongLongInt(limit.into()));
        }
    } else if queues.mirrored {
        arguments.insert("x-ha-policy".into(), AMQPValue::LongString("all".into()));
    }
    arguments
}

/// Declares things. The broker closes the channel when it refuses one.
struct Declarer<'a> {
    connection: &'a Connection,
    channel: Channel,
    mismatches: Vec<String>,
}

impl<'a> Declarer<'a> {
    async fn new(connection: &'a Connection) -> Result<Self, ConnectError> {
        Ok(Self { connection, channel: open_channel(connection).await?, mismatches: Vec::new() })
    }

    /// An exchange that exists with other properties is used as it is: to the agent they make no difference.
    async fn exchange(
        &mut self,
        name: &str,
        kind: ExchangeKind,
        options: ExchangeDeclareOptions,
    ) -> Result<(), ConnectError> {
        let what = format!("exchange {name}");
        let declare = |channel: Channel, name: ShortString, kind: ExchangeKind, passive| async move {
            let options = ExchangeDeclareOptions { passive, ..options };
            channel.exchange_declare(name, kind, options, FieldTable::default()).await
        };
        match declare(self.channel.clone(), short(name)?, kind.clone(), false).await {
            Err(error) if is_mismatch(&error) => {
                self.accept_mismatch(&error).await?;
                declare(self.channel.clone(), short(name)?, kind, true).await.map_err(refused(&what))
            }
            result => result.map_err(refused(&what)),
        }
    }

    /// As with exchanges.
    async fn queue(
        &mut self,
        name: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<(), ConnectError> {
        let what = format!("queue {name}");
        match self.channel.queue_declare(short(name)?, options, arguments).await {
            Err(error) if is_mismatch(&error) => {
                self.accept_mismatch(&error).await?;
                let passive = QueueDeclareOptions { passive: true, ..options };
                let declared = self.channel.queue_declare(short(name)?, passive, FieldTable::default()).await;
                declared.map(drop).map_err(refused(&what))
            }
            result => result.map(drop).map_err(refused(&what)),
        }
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), ConnectError> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let binding = self.channel.queue_bind(short(queue)?, short(exchange)?, short(key)?, options, arguments).await;
        binding.map_err(refused(&format!("to bind queue {queue} to exchange {exchange}")))
    }

    async fn purge(&self, queue: &str) -> Result<(), ConnectError> {
        let purging = self.channel.queue_purge(short(queue)?, QueuePurgeOptions::default()).await;
        purging.map(drop).map_err(refused(&format!("to empty queue {queue}")))
    }

    async fn accept_mismatch(&mut self, error: &lapin::Error) -> Result<(), ConnectError> {
        self.mismatches.push(reason(error));
        self.channel = open_channel(self.connection).await?;
        Ok(())
    }
}
