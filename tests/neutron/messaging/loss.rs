//! Brokers that die, come back, hang, or are one of several.

use anyhow::{Context as _, Result, ensure};
use overlane::control::neutron::messaging::{CallError, Incoming};
use overlane_tests::{
    neutron::{Broker, LoneBroker, Peer},
    wait::PATIENCE,
};
use serde_json::json;

use super::{
    agent::{PORT, PORTS, SETTINGS, arguments, with_agent},
    relay::Relay,
};

#[test]
fn a_broker_that_was_killed_and_comes_back_finds_the_agent_listening_to_everything() -> Result<()> {
    let LoneBroker { broker, namespace, world: _world } = LoneBroker::start("")?;
    let _peer = Peer::start(&broker, SETTINGS)?;
    with_agent(&namespace, SETTINGS, async |mut agent| {
        agent.connected().await?;
        agent.hears_everything().await?;
        let messaging = agent.messaging.clone();
        let said = arguments(
            json!({ "topic": PORTS, "method": "network_delete", "version": "1.0", "arguments": { "network_id": PORT } }),
        );
        let (waiting, killed) = tokio::join!(messaging.call("q-plugin", "wait", "1.9", None, said, PATIENCE), async {
            agent.notification().await?;
            broker.kill()
        });
        killed?;
        ensure!(matches!(waiting, Err(CallError::Disconnected { .. })), "a call outlives the broker: {waiting:?}");
        agent.lost().await?;
        let refused = agent.call("echo", json!({})).await;
        ensure!(matches!(refused, Err(CallError::Disconnected { .. })), "without a broker: {refused:?}");
        broker.start_again()?;
        agent.connected().await?;
        agent.hears_everything_again().await
    })
}

#[test]
fn a_queue_that_the_broker_takes_away_is_replaced_with_all_others() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let _peer = Peer::start(&lone.broker, SETTINGS)?;
    with_agent(&lone.namespace, SETTINGS, async |mut agent| {
        agent.connected().await?;
        let queues = lone.broker.control("list_queues name")?;
        let queue = queues.lines().find(|name| name.starts_with("q-agent-notifier-network-update_fanout_"));
        lone.broker.control(&format!("delete_queue {}", queue.context("there is no such queue")?))?;
        let reason = agent.lost().await?;
        ensure!(reason.contains("has taken a queue away"), "{reason}");
        agent.connected().await?;
        agent.hears_everything().await?;
        ensure_that_nothing_is_left(&lone.broker)
    })
}

#[test]
fn of_several_brokers_the_next_one_takes_over_when_one_is_cut_off_or_hangs() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let _peer = Peer::start(&lone.broker, SETTINGS)?;
    // One is not there at all.
    let settings = "[DEFAULT]\ntransport_url = rabbit://guest:guest@127.0.0.2,127.0.0.3,127.0.0.4\n\
                    [oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 1\nkombu_reconnect_delay = 0.1\n";
    with_agent(&lone.namespace, settings, async |mut agent| {
        let relays = ["127.0.0.2:5672", "127.0.0.3:5672"].map(|from| Ok((from, Relay::start(from, "127.0.0.1:5672")?)));
        let relays: Vec<(&str, Relay)> = relays.into_iter().collect::<Result<_>>()?;
        let find = |broker: &str| relays.iter().find(|(from, _)| *from == broker).expect("one of the two").1.clone();
        let first = agent.connected().await?;
        agent.hears_everything().await?;
        find(&first).cut();
        agent.lost().await?;
        let second = agent.connected().await?;
        ensure!(second != first, "connected to {first} again");
        agent.hears_everything().await?;
        find(&second).hold_breath();
        let reason = agent.lost().await?;
        ensure!(reason.contains("heartbeat"), "{reason}");
        let trouble = agent.messaging.trouble();
        ensure!(trouble.is_some(), "there is no broker left, and no word about it");
        Ok(())
    })
}

#[test]
fn wherever_a_connection_is_cut_the_agent_is_never_half_subscribed() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let _peer = Peer::start(&lone.broker, SETTINGS)?;
    let settings = "[DEFAULT]\ntransport_url = rabbit://guest:guest@127.0.0.2\n[oslo_messaging_rabbit]\n\
                    rabbit_retry_interval = 0\nrabbit_interval_max = 0\n";
    let relay = lone.namespace.inside(|| Relay::start("127.0.0.2:5672", "127.0.0.1:5672"))?;
    relay.cut_ever_later(97);
    with_agent(&lone.namespace, settings, async |mut agent| {
        // Those that are cut while all is being declared are never heard of.
        agent.connected().await?;
        while agent.hears_everything().await.is_err() {
            let is_lost = agent.messaging.trouble().is_some();
            while is_lost && !matches!(agent.next().await?, Incoming::Connected { .. }) {}
        }
        ensure_that_nothing_is_left(&lone.broker)
    })
}

/// Connections that were lost, or did not come about, leave no queues in which messages pile up.
fn ensure_that_nothing_is_left(broker: &Broker) -> Result<()> {
    let queues = broker.control("list_queues name")?;
    let own = queues.lines().filter(|name| name.starts_with("q-agent-notifier-port-update_fanout_")).count();
    ensure!(own == 1, "queues are left: {queues}");
    Ok(())
}
