//! Configuration files, as a deployment has them: the agent under test reads the same ones as the agent that it replaces.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::CONTROLLER;
use crate::lab::NIC;

/// The physical network that every host is connected to by [`NIC`].
pub const PHYSICAL_NETWORK: &str = "physnet1";

/// Writes `neutron.conf` and `ml2_conf.ini` for a host.
pub(super) fn write_common(folder: &Path, host: &str) -> Result<()> {
    let state = folder.join("state");
    fs::create_dir_all(state.join("lock")).with_context(|| format!("making {}", state.display()))?;
    let state = state.display();
    // What root runs needs no sudo in front. Neutron's agents do nothing else while they wait for an answer, which a server
    // that is restarted owes them for ever; and unless told otherwise they wait twice as long each time.
    let neutron = format!(
        "[DEFAULT]\nhost = {host}\nstate_path = {state}\n\
         transport_url = rabbit://guest:guest@{CONTROLLER}:5672/\n\
         core_plugin = ml2\nservice_plugins = router,qos,trunk\nauth_strategy = noauth\n\
         rpc_response_timeout = 15\nrpc_response_max_timeout = 15\n\
         notify_nova_on_port_status_changes = False\nnotify_nova_on_port_data_changes = False\n\
         [oslo_concurrency]\nlock_path = {state}/lock\n\
         [agent]\nreport_interval = 10\n\
         root_helper = neutron-rootwrap /etc/neutron/rootwrap.conf\n\
         root_helper_daemon = neutron-rootwrap-daemon /etc/neutron/rootwrap.conf\n\
         [experimental]\nlinuxbridge = True\n"
    );
    let ml2 = format!(
        "[ml2]\ntype_drivers = flat,vlan,vxlan,local\ntenant_network_types = vxlan\n\
         mechanism_drivers = linuxbridge,l2population\nextension_drivers = port_security,qos\n\
         [ml2_type_flat]\nflat_networks = {PHYSICAL_NETWORK}\n\
         [ml2_type_vlan]\nnetwork_vlan_ranges = {PHYSICAL_NETWORK}:100:199\n\
         [ml2_type_vxlan]\nvni_ranges = 1:2000\n\
         [securitygroup]\nenable_security_group = True\nenable_ipset = True\n"
    );
    write(folder, "neutron.conf", &neutron)?;
    write(folder, "ml2_conf.ini", &ml2)
}

/// Writes what only the server reads.
pub(super) fn write_server(folder: &Path) -> Result<()> {
    let database = folder.join("mysql.sock");
    // On a busy machine, a server or broker can be away for longer than the 75 s after which a silent agent counts as dead.
    let text = format!(
        "[DEFAULT]\nbind_host = {CONTROLLER}\nbind_port = 9696\nagent_down_time = 300\n\
         api_paste_config = /etc/neutron/api-paste.ini\n\
         api_workers = 1\nrpc_workers = 1\nrpc_state_report_workers = 0\n\
         [oslo_messaging_rabbit]\nrabbit_interval_max = 1\n\
         [database]\nconnection = mysql+pymysql://root@localhost/neutron?unix_socket={}&charset=utf8mb4\n\
         [quotas]\nquota_network = -1\nquota_subnet = -1\nquota_port = -1\n\
         quota_security_group = -1\nquota_security_group_rule = -1\n",
        database.display()
    );
    write(folder, "server.conf", &text)
}

/// Writes the files of the agents.
pub(super) fn write_agents(folder: &Path, local_ip: &str) -> Result<()> {
    let linux_bridge = format!(
        "[linux_bridge]\nphysical_interface_mappings = {PHYSICAL_NETWORK}:{NIC}\n\
         [vxlan]\nenable_vxlan = True\nlocal_ip = {local_ip}\nl2_population = True\n\
         [securitygroup]\nenable_security_group = True\nfirewall_driver = iptables\nenable_ipset = True\n\
         [agent]\nextensions = qos\npolling_interval = 2\n"
    );
    write(folder, "linuxbridge_agent.ini", &linux_bridge)?;
    write(folder, "dhcp_agent.ini", "[DEFAULT]\ninterface_driver = linuxbridge\nenable_isolated_metadata = False\n")?;
    // A test that ends keepalived does not wait a minute for it to come back.
    let l3 = "[DEFAULT]\ninterface_driver = linuxbridge\nagent_mode = legacy\nenable_metadata_proxy = False\n\
              [agent]\ncheck_child_processes_interval = 2\n";
    write(folder, "l3_agent.ini", l3)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))
}
