//! Brokers that will not have the agent: each reason is told apart, and told so that it can be mended.

use std::{net::TcpListener, thread};

use anyhow::{Context as _, Result, bail, ensure};
use overlane_tests::{
    lab::Namespace,
    neutron::LoneBroker,
    wait::{PATIENCE, wait_at_most},
};

use super::agent::{look_for, with_agent};

/// Why an agent with this URL gets no connection.
pub(crate) fn trouble(namespace: &Namespace, url: &str) -> Result<String> {
    let settings = format!("[DEFAULT]\ntransport_url = {url}\n");
    with_agent(namespace, &settings, async |mut agent| {
        let messaging = agent.messaging.clone();
        tokio::select! {
            trouble = look_for("a word about the trouble", PATIENCE, async || messaging.trouble()) => trouble,
            broker = agent.connected() => bail!("connected to {broker:?}"),
        }
    })
}

#[test]
fn a_wrong_password_virtual_host_port_or_name_is_told_apart_and_mended_without_a_restart() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let deaf = lone.namespace.inside(|| TcpListener::bind("127.0.0.9:5672").context("listening"))?;
    // Takes connections, and hangs up.
    thread::spawn(move || deaf.incoming().for_each(drop));
    for (url, expected) in [
        ("rabbit://guest:wrong@127.0.0.1", "it refuses user guest: check user and password in transport_url"),
        ("rabbit://guest:guest@127.0.0.1/cloud", "it does not let user guest into virtual host \"cloud\""),
        ("rabbit://127.0.0.1:5673", "Connection refused (os error 111): check that RabbitMQ runs there"),
        ("rabbit://no.such.host.invalid", "its name has no address"),
        (
            "rabbit://127.0.0.9",
            "it hangs up at once: check the port, and whether [oslo_messaging_rabbit] ssl must be true",
        ),
    ] {
        let trouble = trouble(&lone.namespace, url)?;
        ensure!(trouble.contains(expected) && !trouble.contains("wrong"), "{url}: {trouble}");
    }
    let settings = "transport_url = rabbit://neutron:s3cret@127.0.0.1/cloud\n";
    with_agent(&lone.namespace, settings, async |mut agent| {
        let steps = ["add_user neutron s3cret", "add_vhost cloud", "set_permissions -p cloud neutron .* .* .*"];
        for step in steps {
            wait_at_most(PATIENCE, step, || lone.broker.control(step).map(Some))?;
        }
        agent.connected().await.map(drop)
    })
}
