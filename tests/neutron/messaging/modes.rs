//! The ways in which brokers are set up.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::World,
    neutron::{Broker, Container, LoneBroker, Peer},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{
    agent::{SETTINGS, with_agent},
    refusals::trouble,
};

#[test]
fn durable_mirrored_and_quorum_queues_are_declared_as_the_servers_declare_them() -> Result<()> {
    let lone = LoneBroker::start("")?;
    for (name, mode, kind) in [
        ("durable", "amqp_durable_queues = True", "classic"),
        ("mirrored", "amqp_durable_queues = True\nrabbit_ha_queues = True", "classic"),
        ("compressed", "amqp_durable_queues = True\nkombu_compression = gzip", "classic"),
        ("quorum", "rabbit_quorum_queue = True\nrabbit_quorum_delivery_limit = 3", "quorum"),
    ] {
        lone.broker.control(&format!("add_vhost {name}"))?;
        lone.broker.control(&format!("set_permissions -p {name} guest .* .* .*"))?;
        let settings = format!(
            "[DEFAULT]\ntransport_url = rabbit://guest:guest@127.0.0.1/{name}\n[oslo_messaging_rabbit]\n{mode}\n"
        );
        let _peer = Peer::start(&lone.broker, &settings)?;
        with_agent(&lone.namespace, &settings, async |mut agent| {
            agent.connected().await?;
            agent.hears_everything().await
        })
        .context(name)?;
        let queues = lone.broker.control(&format!("list_queues -p {name} name durable type"))?;
        for queue in ["q-plugin", "q-agent-notifier-l2population-update.host1"] {
            ensure!(queues.contains(&format!("{queue}\ttrue\t{kind}")), "{name}: {queues}");
        }
    }
    Ok(())
}

#[test]
fn an_agent_whose_options_differ_from_the_servers_uses_what_is_there() -> Result<()> {
    let lone = LoneBroker::start("")?;
    let _peer = Peer::start(&lone.broker, SETTINGS)?;
    // One that dies leaves the queue with its host's name.
    with_agent(&lone.namespace, SETTINGS, async |mut agent| agent.connected().await)?;
    let settings = format!("{SETTINGS}[oslo_messaging_rabbit]\namqp_durable_queues = True\n");
    with_agent(&lone.namespace, &settings, async |mut agent| {
        agent.connected().await?;
        agent.hears_everything().await
    })?;
    let queues = lone.broker.control("list_queues name durable")?;
    ensure!(queues.contains("q-agent-notifier-l2population-update.host1\tfalse"), "{queues}");
    Ok(())
}

#[test]
fn tls_is_verified_as_far_as_the_options_ask_for_it() -> Result<()> {
    let world = World::private()?;
    let namespace = world.namespace("broker")?;
    let host = Arc::new(Container::start(&world, &namespace, "broker")?);
    let folder = host.folder();
    let ours = authority(folder, "ca")?;
    authority(folder, "other")?;
    certificate(folder, "broker", &ours)?;
    certificate(folder, "agent", &ours)?;
    let at = folder.display();
    let _broker = Broker::start(
        &host,
        "127.0.0.1",
        &format!(
            "listeners.ssl.1 = 127.0.0.1:5671\nssl_options.cacertfile = {at}/ca.pem\n\
             ssl_options.certfile = {at}/broker.pem\nssl_options.keyfile = {at}/broker.key\n\
             ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        ),
    )?;
    let identity = format!("ssl_cert_file = {at}/agent.pem\nssl_key_file = {at}/agent.key\n");
    let settings =
        |more: &str| format!("rabbit://guest:guest@127.0.0.1:5671\n[oslo_messaging_rabbit]\nssl = True\n{more}");
    for accepted in [format!("{identity}ssl_ca_file = {at}/ca.pem\n"), identity.clone()] {
        let settings = format!("[DEFAULT]\ntransport_url = {}", settings(&accepted));
        with_agent(&namespace, &settings, async |mut agent| agent.connected().await).context(accepted)?;
    }
    for (refused, expected) in [
        (format!("{identity}ssl_ca_file = {at}/other.pem\n"), "its certificate is signed by nobody in ssl_ca_file"),
        (
            format!("{identity}ssl_ca_file = {at}/ca.pem\nssl_enforce_hostname_verification = True\n"),
            "its certificate is for another name than the one in transport_url",
        ),
        (format!("ssl_ca_file = {at}/none.pem\n"), "none.pem: No such file or directory"),
        (format!("ssl_ca_file = {at}/ca.pem\n"), "it may want a certificate, in ssl_cert_file and ssl_key_file"),
    ] {
        let trouble = trouble(&namespace, &settings(&refused))?;
        ensure!(trouble.contains(expected), "{refused}: {trouble}");
    }
    let plain = "rabbit://guest:guest@127.0.0.1:5671\n";
    ensure!(trouble(&namespace, plain)?.contains("whether [oslo_messaging_rabbit] ssl must be true"), "without TLS");
    let wrong_port = "rabbit://guest:guest@127.0.0.1:5672\n[oslo_messaging_rabbit]\nssl = True\n";
    let trouble = trouble(&namespace, wrong_port)?;
    ensure!(trouble.contains("it does not speak TLS on this port"), "{trouble}");
    Ok(())
}

/// Makes an authority, and a file with its certificate.
fn authority(folder: &Path, name: &str) -> Result<Issuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().context("making a key")?;
    let certificate = parameters.self_signed(&key).context("making an authority")?;
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).context("writing a certificate")?;
    Ok(Issuer::new(parameters, key))
}

/// Makes a certificate for the name, and files with it and its key.
fn certificate(folder: &Path, name: &str, issuer: &Issuer<'static, KeyPair>) -> Result<()> {
    let parameters = CertificateParams::new([format!("{name}.example")]).context("a name")?;
    let key = KeyPair::generate().context("making a key")?;
    let certificate = parameters.signed_by(&key, issuer).context("making a certificate")?;
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).context("writing a certificate")?;
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).context("writing a key")
}
