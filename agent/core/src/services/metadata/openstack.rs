//! OpenStack's documents, as Nova serves them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::{
    answer::{Entry, Node},
    directory::Guest,
    state::{Assignment, FixedIp, Instance, Interface},
};

/// The versions that Nova lists. Documents only ever got more: each version has what the newest has.
const VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];

/// `/openstack`.
pub(super) fn versions() -> Node {
    Node::Text(VERSIONS.join("\n"))
}

/// `/openstack/VERSION`.
pub(super) fn document(version: &str, Guest { instance, .. }: Guest<'_>) -> Option<Node> {
    VERSIONS.contains(&version).then(|| {
        let vendor_data = instance.vendor_data.clone().unwrap_or_else(|| json!({}));
        let mut entries = vec![Entry::new("meta_data.json", Node::Json(meta_data(instance)))];
        entries.extend(instance.user_data.clone().map(|bytes| Entry::new("user_data", Node::Bytes(bytes))));
        entries.push(Entry::new("vendor_data.json", Node::Json(vendor_data)));
        entries.push(Entry::new("network_data.json", Node::Json(network_data(instance))));
        Node::Folder(entries)
    })
}

fn meta_data(instance: &Instance) -> Value {
    let mut document = json!({
        "uuid": instance.id,
        "hostname": instance.hostname,
        "name": instance.name.as_ref().unwrap_or(&instance.hostname),
        "launch_index": 0,
        "availability_zone": instance.availability_zone,
        "devices": [],
    });
    let fields = document.as_object_mut().expect("it was made as an object");
    fields.extend(instance.project_id.iter().map(|project| ("project_id".to_owned(), json!(project))));
    if !instance.keys.is_empty() {
        let key = |(name, key): (&String, &String)| json!({"name": name, "type": "ssh", "data": key});
        fields.insert("public_keys".to_owned(), json!(instance.keys));
        fields.insert("keys".to_owned(), instance.keys.iter().map(key).collect());
    }
    if !instance.meta.is_empty() {
        fields.insert("meta".to_owned(), json!(instance.meta));
    }
    document
}

fn network_data(instance: &Instance) -> Value {
    let mut networks: Vec<Value> = Vec::new();
    let mut servers: Vec<IpAddr> = Vec::new();
    for interface in &instance.interfaces {
        for fixed_ip in &interface.fixed_ips {
            networks.push(network(networks.len(), interface, fixed_ip));
            servers.extend(&fixed_ip.dns_nameservers);
        }
    }
    let mut seen = std::collections::HashSet::new();
    servers.retain(|server| seen.insert(*server));
    let links: Vec<Value> = instance.interfaces.iter().map(link).collect();
    json!({"links": links, "networks": networks, "services": services(&servers)})
}

fn link(interface: &Interface) -> Value {
    json!({
        "id": interface.port_id.tap_name(),
        "vif_id": interface.port_id,
        "type": "bridge",
        "mtu": interface.mtu,
        "ethernet_mac_address": interface.mac,
    })
}

fn network(number: usize, interface: &Interface, fixed_ip: &FixedIp) -> Value {
    let mut document = Map::from_iter([
        ("id".to_owned(), json!(format!("network{number}"))),
        ("type".to_owned(), json!(kind(fixed_ip))),
        ("link".to_owned(), json!(interface.port_id.tap_name())),
        ("network_id".to_owned(), json!(interface.network_id)),
    ]);
    // By DHCP it learns all the rest, and nothing that was told here could go stale.
    if fixed_ip.assignment != Assignment::Dhcp {
        document.extend([
            ("ip_address".to_owned(), json!(fixed_ip.address)),
            ("netmask".to_owned(), json!(netmask(fixed_ip.address, fixed_ip.prefix_len))),
            ("routes".to_owned(), routes(fixed_ip)),
            ("services".to_owned(), services(&fixed_ip.dns_nameservers)),
        ]);
    }
    document.into()
}

fn kind(fixed_ip: &FixedIp) -> &'static str {
    match (fixed_ip.assignment, fixed_ip.address) {
        (Assignment::Static, IpAddr::V4(_)) => "ipv4",
        (Assignment::Static, IpAddr::V6(_)) => "ipv6",
        (Assignment::Dhcp, _) => "ipv4_dhcp",
        (Assignment::Slaac, _) => "ipv6_slaac",
        (Assignment::Dhcpv6Stateless, _) => "ipv6_dhcpv6-stateless",
        (Assignment::Dhcpv6Stateful, _) => "ipv6_dhcpv6-stateful",
    }
}

fn routes(fixed_ip: &FixedIp) -> Value {
    let any: IpAddr = match fixed_ip.address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let default = fixed_ip.gateway.map(|gateway| json!({"network": any, "netmask": any, "gateway": gateway}));
    let others = fixed_ip.routes.iter().map(|route| {
        let network = route.destination.network();
        let netmask = netmask(network, route.destination.prefix_len());
        json!({"network": network, "netmask": netmask, "gateway": route.nexthop})
    });
    default.into_iter().chain(others).collect()
}

fn services(servers: &[IpAddr]) -> Value {
    servers.iter().map(|server| json!({"type": "dns", "address": server})).collect()
}

/// The mask of a prefix: all ones, then zeroes.
fn netmask(address: IpAddr, prefix_len: u8) -> IpAddr {
    let prefix_len = u32::from(prefix_len);
    match address {
        IpAddr::V4(_) => {
            Ipv4Addr::from_bits(u32::MAX.checked_shl(32_u32.saturating_sub(prefix_len)).unwrap_or(0)).into()
        }
        IpAddr::V6(_) => {
            Ipv6Addr::from_bits(u128::MAX.checked_shl(128_u32.saturating_sub(prefix_len)).unwrap_or(0)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::metadata::{Answer, Route, directory::tests::instance};

    fn get(instance: &Instance, target: &str) -> Answer {
        Answer::to("GET", target, Guest { instance, interface: &instance.interfaces[0] })
    }

    fn json(instance: &Instance, target: &str) -> Value {
        let answer = get(instance, target);
        assert_eq!((answer.status, answer.content_type), (200, "application/json"), "{target}");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    #[test]
    fn versions_and_documents_are_listed() {
        let mut instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        let versions = String::from_utf8(get(&instance, "/openstack/").body).expect("text");
        assert!(versions.starts_with("2012-08-10\n") && versions.ends_with("\nlatest"));
        for version in versions.lines() {
            let listing = get(&instance, &format!("/openstack/{version}/")).body;
            assert_eq!(listing, b"meta_data.json\nvendor_data.json\nnetwork_data.json", "{version}");
        }
        instance.user_data = Some(vec![0xff]);
        assert_eq!(get(&instance, "/openstack/latest/user_data").body, [0xff]);
        assert_eq!(get(&instance, "/openstack/1999-01-01").status, 404);
    }

    #[test]
    fn metadata_says_who_the_machine_is() {
        let mut instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        instance.keys.insert("mine".to_owned(), "ssh-rsa A".to_owned());
        instance.project_id = Some("p".to_owned());
        instance.meta.insert("role".to_owned(), "web".to_owned());
        let expected = json!({
            "uuid": "i-1", "hostname": "i-1-host", "name": "i-1-host", "launch_index": 0, "availability_zone": null,
            "devices": [], "project_id": "p", "meta": {"role": "web"}, "public_keys": {"mine": "ssh-rsa A"},
            "keys": [{"name": "mine", "type": "ssh", "data": "ssh-rsa A"}],
        });
        assert_eq!(json(&instance, "/openstack/latest/meta_data.json"), expected);
        assert_eq!(json(&instance, "/openstack/latest/vendor_data.json"), json!({}));
    }

    #[test]
    fn network_data_leaves_to_dhcp_what_dhcp_says_and_spells_out_the_rest() {
        let mut instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        let mut address = instance.interfaces[0].fixed_ips[0].clone();
        address.assignment = Assignment::Static;
        address.address = "fd00::5".parse().expect("an address");
        address.prefix_len = 64;
        address.gateway = "fd00::1".parse().ok();
        let (destination, nexthop) = ("fd01::/48".parse().expect("a prefix"), "fd00::2".parse().expect("an address"));
        address.routes.push(Route { destination, nexthop });
        address.dns_nameservers.push("fd00::53".parse().expect("an address"));
        instance.interfaces[0].fixed_ips.push(address);
        instance.interfaces[0].mtu = Some(1450);
        let (port, net) = ("00000000-0000-0000-0000-000000000abc", "00000000-0000-0000-0000-000000000001");
        let dns = json!([{"type": "dns", "address": "fd00::53"}]);
        let expected = json!({
            "links": [{
                "id": "tap00000000-00", "vif_id": port, "type": "bridge", "mtu": 1450,
                "ethernet_mac_address": "fa:16:3e:00:00:01",
            }],
            "networks": [
                {"id": "network0", "type": "ipv4_dhcp", "link": "tap00000000-00", "network_id": net},
                {
                    "id": "network1", "type": "ipv6", "link": "tap00000000-00", "network_id": net,
                    "ip_address": "fd00::5", "netmask": "ffff:ffff:ffff:ffff::", "services": dns,
                    "routes": [
                        {"network": "::", "netmask": "::", "gateway": "fd00::1"},
                        {"network": "fd01::", "netmask": "ffff:ffff:ffff::", "gateway": "fd00::2"},
                    ],
                },
            ],
            "services": dns,
        });
        assert_eq!(json(&instance, "/openstack/latest/network_data.json"), expected);
    }

    #[test]
    fn the_mask_of_a_prefix_is_as_long_as_the_prefix() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let masks = [0, 1, 24, 32, 77].map(|length| netmask(address, length).to_string());
        assert_eq!(masks, ["0.0.0.0", "128.0.0.0", "255.255.255.0", "255.255.255.255", "255.255.255.255"]);
    }
}
