//! The service follows its file, and namespaces that come and go.

use anyhow::{Result, ensure};
use overlane_tests::wait::wait_until;

use super::{Clouds, curl, get, wire};

#[test]
fn a_change_of_the_file_is_served_at_once_and_a_broken_one_changes_nothing() -> Result<()> {
    let mut clouds = Clouds::new(&["one"], |_| ())?;
    clouds.change(|state| "renamed".clone_into(&mut state.instances[0].hostname))?;
    wait_until("the new name is served", || Ok(get(clouds.machine(), "/latest/meta-data/hostname")? == "renamed"))?;
    clouds.service.tell_text("{\"sockets\": [")?;
    clouds.service.wait_for_log("the last good one stays in force")?;
    ensure!(get(clouds.machine(), "/latest/meta-data/hostname")? == "renamed");
    clouds.change(|state| "again".clone_into(&mut state.instances[0].hostname))?;
    wait_until("a good one is served again", || Ok(get(clouds.machine(), "/latest/meta-data/hostname")? == "again"))
}

#[test]
fn sockets_that_leave_the_file_are_closed_and_others_are_not_disturbed() -> Result<()> {
    let mut clouds = Clouds::new(&["one", "two"], |_| ())?;
    let removed = clouds.state.sockets[0].clone();
    clouds.change(|state| state.sockets.retain(|socket| *socket != removed))?;
    wait_until("nobody listens there", || Ok(curl(clouds.machine(), "/", &[]).is_err()))?;
    ensure!(get(&clouds.machines[1], "/latest/meta-data/instance-id")? == "two");
    clouds.change(|state| state.sockets.push(removed))?;
    wait_until("it is served again", || Ok(get(clouds.machine(), "/latest/meta-data/instance-id")? == "one"))
}

#[test]
fn a_namespace_that_goes_and_comes_again_is_served_again() -> Result<()> {
    let mut clouds = Clouds::new(&["one", "two"], |_| ())?;
    // The name goes; what holds the namespace itself are sockets in it.
    drop(clouds.networks.remove(0));
    clouds.service.wait_for_log("no longer listening at 169.254.169.254:80 in qdhcp-1")?;
    wait_until("the namespace is gone, and so is the machine's wire", || {
        Ok(clouds.machine().run("ip link show eth0").is_err())
    })?;
    ensure!(get(&clouds.machines[1], "/latest/meta-data/instance-id")? == "two");
    let again = clouds.world.namespace("qdhcp-1")?;
    wire(&again, clouds.machine(), 1)?;
    wait_until("it is served again", || Ok(get(clouds.machine(), "/latest/meta-data/instance-id")? == "one"))
}

#[test]
fn an_interface_that_comes_again_is_listened_at_again() -> Result<()> {
    let clouds = Clouds::new(&["one"], |_| ())?;
    clouds.networks[0].run("ip link delete ns-1")?;
    clouds.service.wait_for_log("no longer listening at [fe80::a9fe:a9fe%ns-1]:80 in qdhcp-1")?;
    wire(&clouds.networks[0], clouds.machine(), 1)?;
    let url = format!("http://[{}%25eth0]/latest/meta-data/instance-id", super::LINK_LOCAL);
    wait_until("it is served again", || Ok(super::curl_url(clouds.machine(), &url, &[])? == "one\n200"))
}

#[test]
fn a_namespace_that_is_not_there_is_named_in_the_log_and_holds_up_no_other() -> Result<()> {
    let mut clouds = Clouds::new(&["one"], |_| ())?;
    clouds.change(|state| {
        let mut socket = state.sockets[0].clone();
        "qdhcp-missing".clone_into(&mut socket.key.namespace);
        state.sockets.push(socket);
    })?;
    clouds.service.wait_for_log("opening /run/netns/qdhcp-missing")?;
    ensure!(get(clouds.machine(), "/latest/meta-data/instance-id")? == "one");
    Ok(())
}
