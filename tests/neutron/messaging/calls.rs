//! Calls, answers and notifications.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use overlane::control::neutron::messaging::CallError;
use overlane_core::neutron::messages::{devices::UpdateDeviceUp, notification::Notification};
use overlane_tests::neutron::{LoneBroker, Peer};
use serde_json::{Map, json};

use super::agent::{HOST, PORT, PORTS, SETTINGS, with_agent};

#[test]
fn a_call_has_an_answer_a_failure_or_a_limit() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let _peer = Peer::start(&lone.broker, SETTINGS)?;
    with_agent(&lone.namespace, SETTINGS, async |mut agent| {
        let early = agent.call("echo", json!({})).await;
        ensure!(matches!(early, Err(CallError::Disconnected { .. })), "before there is a connection: {early:?}");
        agent.connected().await?;
        let sent = json!({ "text": "é\u{1f980}", "list": [1, null, true], "long": "x".repeat(300_000) });
        ensure!(agent.call("echo", sent.clone()).await? == sent, "the echo differs");
        let many = tokio::join!(agent.call("echo", json!({ "a": 1 })), agent.call("echo", json!({ "a": 2 })));
        ensure!((many.0?, many.1?) == (json!({ "a": 1 }), json!({ "a": 2 })), "answers are mixed up");

        let error = agent.call("fail", json!({})).await.err().context("it fails")?;
        let failure = error.failure().context("the server has failed")?;
        ensure!(failure.to_string() == "ValueError: there is no such port", "{failure}");
        let error = agent.call("no_such_thing", json!({})).await.err().context("it fails")?;
        ensure!(error.is_no_such_method() && !error.is_unsupported_version(), "{error:?}");
        let limit = Duration::from_secs(10);
        let newer = agent.messaging.call("q-plugin", "echo", "2.0", None, Map::new(), limit).await;
        ensure!(newer.as_ref().err().is_some_and(CallError::is_unsupported_version), "{newer:?}");
        let up = UpdateDeviceUp {
            device: PORT.to_owned(),
            agent_id: "a".to_owned(),
            host: HOST.to_owned(),
            refresh_tunnels: None,
        };
        let typed = agent.messaging.ask(&up, limit).await;
        ensure!(typed.as_ref().err().is_some_and(CallError::is_no_such_method), "{typed:?}");

        let begun = Instant::now();
        let nobody = agent.messaging.call("q-nobody", "echo", "1.0", None, Map::new(), limit).await;
        ensure!(matches!(nobody, Err(CallError::Unroutable { .. })), "{nobody:?}");
        ensure!(begun.elapsed() < limit / 2, "nobody is found out at once, not after {:?}", begun.elapsed());
        let late = agent.messaging.call("q-plugin", "wait", "1.9", None, Map::new(), Duration::from_millis(300)).await;
        ensure!(matches!(late, Err(CallError::Timeout { .. })), "{late:?}");
        ensure!(agent.call("echo", json!({})).await? == json!({}), "a call that takes too long holds up no other");
        Ok(())
    })
}

#[test]
fn what_is_told_to_all_or_to_this_host_arrives_and_what_is_not_understood_does_no_harm() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let _peer = Peer::start(&lone.broker, SETTINGS)?;
    with_agent(&lone.namespace, SETTINGS, async |mut agent| {
        agent.connected().await?;
        agent.hears_everything().await?;
        agent.have_said(PORTS, "port_update", "2.0", json!({ "port": { "id": PORT } })).await?;
        agent.have_said(PORTS, "port_explode", "1.0", json!({})).await?;
        agent.have_said(PORTS, "port_update", "1.0", json!({ "port": "?" })).await?;
        agent.have_said(PORTS, "network_delete", "1.0", json!({ "network_id": PORT })).await?;
        let heard = agent.notification().await?;
        ensure!(matches!(heard, Notification::NetworkDelete(_)), "what is not understood was passed on: {heard:?}");

        let ping =
            |method: &str| json!({ "topic": "q-agent-notifier-l2population-update", "method": method, "host": HOST });
        ensure!(agent.call("ask", ping("oslo_rpc_server_ping")).await? == "pong", "a ping is answered");
        ensure!(agent.call("ask", ping("anything")).await? == "NoSuchMethod", "other calls are refused");

        let queues = lone.broker.control("list_queues name")?;
        ensure!(queues.contains("q-agent-notifier-l2population-update.host1"), "{queues}");
        agent.messaging.stop().await;
        let queues = lone.broker.control("list_queues name")?;
        let left: Vec<&str> = queues.lines().filter(|line| line.contains("notifier")).collect();
        ensure!(left.is_empty(), "queues are left: {left:?}");
        Ok(())
    })
}
