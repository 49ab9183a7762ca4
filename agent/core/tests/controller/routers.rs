//! Ports of routers that have a standby: they are on several hosts, and in use on one.

use overlane_core::{desired::Network, model::Mac, neutron::controller::Question};
use serde_json::json;

use crate::{
    running,
    simulated::{HOST, SimulatedPort, World, fdb, network, port},
};

const INTERFACE: &str = "network:ha_router_replicated_interface";
const GATEWAY: &str = "network:router_gateway";
const ELSEWHERE: &str = "host2";

/// [`running`], with a port of a router besides.
fn with_router(owner: &'static str, host: &'static str) -> World {
    let mut world = running();
    world.ports.insert(port(3), SimulatedPort { owner, host, ..SimulatedPort::new(3, 1) });
    world.plug(port(3));
    world.settle();
    world
}

fn blue(world: &World) -> &Network {
    &world.desired.networks[&network(1)]
}

fn mac(world: &World) -> Mac {
    blue(world).local_ports[&port(3)].mac
}

#[test]
fn the_port_of_a_router_with_a_standby_is_connected_on_both_hosts() {
    let mut world = with_router(INTERFACE, ELSEWHERE);
    assert!(blue(&world).local_ports.contains_key(&port(3)));
    world.notify("port_update", json!({ "port": { "id": port(3) } }), false);
    world.settle();
    assert!(blue(&world).local_ports.contains_key(&port(3)));
}

#[test]
fn where_a_router_with_a_standby_is_in_use_is_learned_wherever_it_is_bound() {
    for host in [HOST, ELSEWHERE] {
        let mut world = with_router(INTERFACE, host);
        assert_eq!(blue(&world).moving_macs, [mac(&world)].into());
        let address = world.ports[&port(3)].address;
        assert!(!blue(&world).neighbors.contains_key(&address), "the router itself answers, and is learned by that");
        world.notify("port_update", json!({ "port": { "id": port(3) } }), false);
        world.settle();
        assert_eq!(blue(&world).moving_macs, [mac(&world)].into());
        // Whatever the server tells of its place may be over already.
        let ports = json!({ "192.0.2.10": [[mac(&world).to_string(), address]] });
        world.notify("add_fdb_entries", fdb(network(1), &ports), false);
        world.settle();
        assert!(!blue(&world).remote_macs.contains_key(&mac(&world)));
        assert!(!blue(&world).neighbors.contains_key(&address));
        world.taps.remove(&port(3).tap_name());
        world.settle();
        assert!(blue(&world).moving_macs.is_empty());
    }
}

#[test]
fn the_gateway_of_a_router_is_followed_as_long_as_it_is_bound_to_another_host() {
    let mut world = with_router(GATEWAY, ELSEWHERE);
    for (host, moves) in [(ELSEWHERE, true), (HOST, false), (ELSEWHERE, true)] {
        world.ports.get_mut(&port(3)).expect("a port").host = host;
        world.notify("port_update", json!({ "port": { "id": port(3) } }), false);
        world.settle();
        assert_eq!(blue(&world).moving_macs.contains(&mac(&world)), moves);
    }
}

#[test]
fn to_which_host_a_gateway_is_bound_is_asked_for_as_details_do_not_say_it() {
    let mut world = running();
    world.ports.insert(port(3), SimulatedPort { owner: GATEWAY, host: ELSEWHERE, ..SimulatedPort::new(3, 1) });
    world.plug(port(3));
    let asked = world.settle();
    assert!(asked.contains(&Question::Ports(vec![port(3)])), "{asked:?}");
    assert_eq!(blue(&world).moving_macs, [mac(&world)].into());
}
