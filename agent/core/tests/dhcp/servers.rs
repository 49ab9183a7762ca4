//! Where there is a server, what is in its namespace, and with what dnsmasq is started.

use overlane_core::services::{OnChange, Services};

use crate::{
    FOLDER, NAMESPACE, NETWORK, SUBNET, arguments, cloud, config, dhcp_port, file, namespace, namespace_with, parse,
    port, problems, process, router_port, subnet,
};

fn of_router() -> String {
    let subnet = subnet("10.0.0.0/24", &format!("id = \"{SUBNET}\"\ngateway_ip = \"10.0.0.1\""));
    cloud(&subnet, &[dhcp_port(&["10.0.0.10"]), router_port(&["10.0.0.1"]), port(21, &["10.0.0.21"], "host = \"b\"")])
}

#[test]
fn a_network_with_a_dhcp_port_on_a_network_node_has_a_namespace_there_and_nowhere_else() {
    let topology = parse(&of_router());
    let names = |host| Services::of(&topology, &config(host, "")).namespaces.into_keys().collect::<Vec<_>>();
    assert_eq!(names("a"), [NAMESPACE]);
    assert!(names("b").is_empty());
    let without_dhcp = of_router().replace("gateway_ip", "enable_dhcp = false\ngateway_ip");
    assert!(Services::of(&parse(&without_dhcp), &config("a", "")).namespaces.is_empty());
}

#[test]
fn the_namespace_has_the_port_with_its_addresses_and_a_way_out() {
    let namespace = namespace(&of_router());
    let link = &namespace.links["ns-00000010-00"];
    assert_eq!(
        (link.mac.to_string().as_str(), link.mtu, link.tap().as_str()),
        ("fa:16:3e:00:00:10", 1450, "tap00000010-00")
    );
    assert!(link.finishes_checksums);
    let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.10/24"]);
    let routes: Vec<String> = namespace.routes.iter().map(|(to, route)| format!("{to} {route}")).collect();
    assert_eq!(routes, ["0.0.0.0/0 via 10.0.0.1 on ns-00000010-00"]);
    assert_eq!(namespace.sysctls["net/ipv6/conf/default/accept_ra"], "0");
}

#[test]
fn dnsmasq_is_started_as_neutrons_dhcp_agent_starts_it() {
    let namespace = namespace(&of_router());
    let expected = format!(
        "--keep-in-foreground --no-hosts --no-resolv --pid-file={FOLDER}/pid --dhcp-hostsfile={FOLDER}/host \
         --addn-hosts={FOLDER}/addn_hosts --dhcp-optsfile={FOLDER}/opts --dhcp-leasefile={FOLDER}/leases \
         --dhcp-match=set:ipxe,175 --dhcp-userclass=set:ipxe6,iPXE --local-service --bind-dynamic \
         --dhcp-range=set:subnet-{SUBNET},10.0.0.0,static,255.255.255.0,86400s --dhcp-option-force=option:mtu,1450 \
         --dhcp-lease-max=256 --conf-file=/dev/null --domain=openstacklocal"
    );
    assert_eq!(process(&namespace).args.join(" "), expected);
    assert_eq!(process(&namespace).folder.display().to_string(), FOLDER);
    let name = namespace.processes.keys().next().expect("dnsmasq");
    assert_eq!((name.program.as_str(), name.of.as_str()), ("dnsmasq", NETWORK));
}

#[test]
fn options_of_neutrons_dhcp_agent_become_arguments() {
    let options = "dhcp_lease_duration = -1\ndhcp_renewal_time = 60\ndhcp_rebinding_time = 90\ndns_domain =\n\
                   dnsmasq_dns_servers = 192.0.2.53\ndnsmasq_config_file = /etc/dnsmasq.more\ndnsmasq_lease_max = 100\n\
                   dhcp_broadcast_reply = True\ndnsmasq_local_resolv = True\ndns_domain = example.org.\n";
    let namespace = namespace_with(&of_router(), options);
    let wanted = [
        "--dhcp-range",
        "--dhcp-option-force=option:T",
        "--server",
        "--conf",
        "--dhcp-lease-max",
        "--dhcp-b",
        "--no-r",
        "--domain",
    ];
    assert_eq!(
        arguments(&namespace, &wanted),
        [
            &format!("--dhcp-range=set:subnet-{SUBNET},10.0.0.0,static,255.255.255.0,infinite"),
            "--dhcp-lease-max=100",
            "--dhcp-option-force=option:T1,60s",
            "--dhcp-option-force=option:T2,90s",
            "--conf-file=/etc/dnsmasq.more",
            "--server=192.0.2.53",
            "--domain=example.org",
            "--dhcp-broadcast",
        ]
    );
    assert!(file(&namespace, "host").contains(",host-10-0-0-21.example.org,"));
}

#[test]
fn every_port_but_routers_has_a_reservation_and_a_name_wherever_it_is() {
    let namespace = namespace(&of_router());
    assert_eq!(
        file(&namespace, "host"),
        "fa:16:3e:00:00:10,host-10-0-0-10.openstacklocal,10.0.0.10\n\
         fa:16:3e:00:00:21,host-10-0-0-21.openstacklocal,10.0.0.21\n"
    );
    assert_eq!(
        file(&namespace, "addn_hosts"),
        "10.0.0.10\thost-10-0-0-10.openstacklocal host-10-0-0-10\n\
         10.0.0.21\thost-10-0-0-21.openstacklocal host-10-0-0-21\n"
    );
}

#[test]
fn a_change_of_ports_is_a_reload_and_one_of_subnets_a_restart() {
    let before = namespace(&of_router());
    let changed_port = namespace(&of_router().replace("10.0.0.21", "10.0.0.22"));
    assert_eq!(process(&before).fingerprint(), process(&changed_port).fingerprint());
    assert_eq!(process(&changed_port).files["host"].on_change, OnChange::Reload);
    assert_ne!(file(&before, "host"), file(&changed_port, "host"));
    let more = format!("{}\n[[networks.subnets]]\ncidr = \"11.0.0.0/24\"\n[[ports]]", subnet("12.0.0.0/24", ""));
    let changed_subnets = namespace(&of_router().replacen("[[ports]]", &more, 1));
    assert_ne!(process(&before).fingerprint(), process(&changed_subnets).fingerprint());
}

#[test]
fn a_network_has_its_own_domain_and_a_machine_its_own_name() {
    let text = of_router().replace("segmentation_id", "dns_domain = \"apps.example.\"\nsegmentation_id");
    let namespace = namespace(&text.replace("host = \"b\"\n", "host = \"b\"\ndns_name = \"web\"\n"));
    assert!(file(&namespace, "host").contains("fa:16:3e:00:00:21,web.apps.example,10.0.0.21\n"));
    assert!(file(&namespace, "addn_hosts").contains("10.0.0.21\tweb.apps.example web\n"));
    assert_eq!(arguments(&namespace, &["--domain"]), ["--domain=apps.example"]);
}

#[test]
fn a_subnet_in_which_the_server_has_no_address_is_served_all_the_same() {
    let subnets = subnet("10.0.0.0/24", "") + &subnet("11.0.0.0/24", "id = \"4c68eacb-bf3e-408a-a941-94e93eddb22b\"");
    let namespace = namespace(&cloud(&subnets, &[dhcp_port(&["10.0.0.10"]), port(21, &["11.0.0.21"], "")]));
    assert_eq!(arguments(&namespace, &["--shared-network"]), ["--shared-network=ns-00000010-00,11.0.0.0"]);
    let routes: Vec<String> = namespace.routes.iter().map(|(to, route)| format!("{to} {route}")).collect();
    assert_eq!(routes, ["11.0.0.0/24 on ns-00000010-00"]);
    assert!(file(&namespace, "host").contains("11.0.0.21\n"));
}

#[test]
fn a_server_without_an_address_of_ipv4_cannot_serve_a_subnet_of_it() {
    let subnets = subnet("10.0.0.0/24", "") + &subnet("fd00:7::/64", "");
    for addresses in [&["fd00:7::10"][..], &[]] {
        let text = cloud(&subnets, &[dhcp_port(addresses)]);
        let line = text[..text.find("[[ports]]").expect("a port")].matches('\n').count() + 1;
        let message = format!(
            "t.toml:{line}: a network:dhcp port without an IPv4 address, but subnet 10.0.0.0/24 (line 13) of network n has \
             enable_dhcp: give the port an address in a subnet of IPv4"
        );
        assert_eq!(problems(&text), [message]);
    }
    // Elsewhere, somebody else makes the servers.
    let text = cloud(&subnets, &[dhcp_port(&[]).replace("\"a\"", "\"b\"")]);
    assert_eq!(parse(&text).ports.len(), 1);
    let text = cloud(&subnets.replacen("\n", "\nenable_dhcp = false\n", 1), &[dhcp_port(&["fd00:7::10"])]);
    assert_eq!(parse(&text).ports.len(), 1);
}
