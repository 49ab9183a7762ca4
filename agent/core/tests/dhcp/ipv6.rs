//! DHCPv6, and the advertisements of networks without a router.

use crate::{SUBNET, arguments, cloud, dhcp_port, file, namespace, port, router_port, subnet};

const V6: [&str; 3] = ["--dhcp-range", "--enable-ra", "--ra-param"];

fn network(modes: &str, ports: &[String]) -> String {
    cloud(&subnet("fd00:7::/64", &format!("id = \"{SUBNET}\"\ngateway_ip = \"fd00:7::1\"\n{modes}")), ports)
}

fn modes(address: Option<&str>, ra: Option<&str>) -> String {
    let line = |key, mode: Option<&str>| mode.map_or_else(String::new, |mode| format!("{key} = \"{mode}\"\n"));
    line("ipv6_address_mode", address) + &line("ipv6_ra_mode", ra)
}

fn ranges(modes: &str, has_router: bool) -> Vec<String> {
    let router = has_router.then(|| router_port(&["fd00:7::1"]));
    let ports: Vec<String> = [dhcp_port(&["fd00:7::10"])].into_iter().chain(router).collect();
    let namespace = namespace(&network(modes, &ports));
    let all = arguments(&namespace, &V6).into_iter();
    all.map(|arg| arg.replace(&format!("--dhcp-range=set:subnet-{SUBNET},fd00:7::,"), "")).collect()
}

#[test]
fn dhcpv6_is_for_stateful_and_stateless_subnets_and_for_those_that_do_not_say() {
    assert_eq!(ranges("", true), ["static,64,86400s"]);
    for mode in ["dhcpv6-stateful", "dhcpv6-stateless"] {
        assert_eq!(ranges(&modes(Some(mode), Some(mode)), true), ["static,64,86400s"]);
    }
    assert!(ranges(&modes(Some("slaac"), Some("slaac")), true).is_empty());
    assert!(ranges(&modes(None, Some("dhcpv6-stateful")), true).is_empty());
}

#[test]
fn where_no_router_advertises_the_dhcp_server_does_without_being_a_router() {
    let ra = "--ra-param=ns-00000010-00,60,0";
    assert_eq!(ranges(&modes(Some("slaac"), Some("slaac")), false), ["ra-only,64,86400s", ra]);
    let stateless = Some("dhcpv6-stateless");
    assert_eq!(ranges(&modes(stateless, stateless), false), ["ra-stateless,64,86400s", ra]);
    let stateful = Some("dhcpv6-stateful");
    assert_eq!(ranges(&modes(stateful, stateful), false), ["static,64,86400s", "--enable-ra", ra]);
    assert_eq!(ranges(&modes(stateful, None), false), ["static,64,86400s"]);
}

#[test]
fn a_machine_has_one_reservation_for_all_its_addresses_of_ipv6() {
    let stateful = modes(Some("dhcpv6-stateful"), None);
    let option = "extra_dhcp_opts = [{ opt_name = \"ntp-server\", opt_value = \"[fd00::7]\", ip_version = 6 }]";
    let ports = [dhcp_port(&["fd00:7::10"]), port(21, &["fd00:7::21", "fd00:7::22"], option)];
    let namespace = namespace(&network(&stateful, &ports));
    let expected = "fa:16:3e:00:00:21,tag:dhcpv6,host-fd00-7--21.openstacklocal,[fd00:7::21],[fd00:7::22],\
                    set:port-00000021-0000-4000-8000-000000000000\n";
    assert!(file(&namespace, "host").contains(expected), "{}", file(&namespace, "host"));
    assert!(file(&namespace, "addn_hosts").contains("fd00:7::22\thost-fd00-7--22.openstacklocal host-fd00-7--22\n"));
    let opts = file(&namespace, "opts");
    assert!(opts.contains(&format!("tag:subnet-{SUBNET},option6:domain-search,openstacklocal\n")), "{opts}");
    assert!(opts.contains("tag:port-00000021-0000-4000-8000-000000000000,option6:ntp-server,[fd00::7]\n"), "{opts}");
}

#[test]
fn a_stateless_subnet_has_options_and_no_reservations_of_addresses() {
    let stateless = Some("dhcpv6-stateless");
    let option = "extra_dhcp_opts = [{ opt_name = \"ntp-server\", opt_value = \"[fd00::7]\", ip_version = 6 }]";
    let name_server = "dns_nameservers = [\"fd00::53\"]\n";
    let ports = [dhcp_port(&["fd00:7::10"]), port(21, &["fd00:7::21"], option), port(22, &["fd00:7::22"], "")];
    let namespace = namespace(&network(&(name_server.to_owned() + &modes(stateless, stateless)), &ports));
    assert_eq!(
        file(&namespace, "host"),
        "fa:16:3e:00:00:21,tag:dhcpv6,set:port-00000021-0000-4000-8000-000000000000\n"
    );
    assert!(file(&namespace, "opts").contains(&format!("tag:subnet-{SUBNET},option6:dns-server,[fd00::53]\n")));
}
