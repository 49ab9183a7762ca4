//! What is removed of the Linux bridge agent's rules, and what stays.

use std::collections::BTreeSet;

use overlane_core::leftovers::{
    are_limit, ebtables_commands, iptables_script, marks_script, taps_with_ingress, unused_sets,
};

/// Two ports of the agent's, and rules of somebody else's.
const IPTABLES: &str = r#"*raw
:PREROUTING ACCEPT [10:100]
:neutron-linuxbri-PREROUTING - [0:0]
-A PREROUTING -j neutron-linuxbri-PREROUTING
-A neutron-linuxbri-PREROUTING -m physdev --physdev-in brq9825bda8-87 -m comment --comment "Set zone for 7ab04c7-1e" -j CT --zone 4097
-A neutron-linuxbri-PREROUTING -m physdev --physdev-in tap37ab04c7-1e -m comment --comment "Set zone for 7ab04c7-1e" -j CT --zone 4097
-A neutron-linuxbri-PREROUTING -i brq9825bda8-87 -m comment --comment "Set zone for 46eb521-02" -j CT --zone 4097
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:mine - [0:0]
:neutron-filter-top - [0:0]
:neutron-linuxbri-FORWARD - [0:0]
:neutron-linuxbri-i37ab04c7-1 - [0:0]
:neutron-linuxbri-i446eb521-0 - [0:0]
:neutron-linuxbri-local - [0:0]
:neutron-linuxbri-o37ab04c7-1 - [0:0]
:neutron-linuxbri-sg-chain - [0:0]
:neutron-linuxbri-sg-fallback - [0:0]
-A INPUT -i lo -j mine
-A FORWARD -m physdev --physdev-in tap37ab04c7-1e -j mine
-A FORWARD -j neutron-filter-top
-A FORWARD -j neutron-linuxbri-FORWARD
-A neutron-filter-top -j neutron-linuxbri-local
-A neutron-linuxbri-FORWARD -m physdev --physdev-out tap37ab04c7-1e --physdev-is-bridged -m comment --comment "Direct traffic from the VM interface to the security group chain." -j neutron-linuxbri-sg-chain
-A neutron-linuxbri-FORWARD -m physdev --physdev-out tap446eb521-02 --physdev-is-bridged -j neutron-linuxbri-sg-chain
-A neutron-linuxbri-i37ab04c7-1 -p icmp -j RETURN
-A neutron-linuxbri-i37ab04c7-1 -j neutron-linuxbri-sg-fallback
-A neutron-linuxbri-i446eb521-0 -j neutron-linuxbri-sg-fallback
-A neutron-linuxbri-sg-chain -m physdev --physdev-out tap37ab04c7-1e --physdev-is-bridged -j neutron-linuxbri-i37ab04c7-1
-A neutron-linuxbri-sg-chain -m physdev --physdev-out tap446eb521-02 --physdev-is-bridged -j neutron-linuxbri-i446eb521-0
-A neutron-linuxbri-sg-chain -j ACCEPT
-A neutron-linuxbri-sg-fallback -j DROP
COMMIT
"#;

fn taps(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn one_ports_chains_and_jumps_go_and_the_other_ports_stay() {
    let script = iptables_script(IPTABLES, &taps(&["tap37ab04c7-1e"])).expect("there is something");
    assert_eq!(
        script,
        "*raw\n\
         -D neutron-linuxbri-PREROUTING -m physdev --physdev-in brq9825bda8-87 -m comment --comment \"Set zone for 7ab04c7-1e\" -j CT --zone 4097\n\
         -D neutron-linuxbri-PREROUTING -m physdev --physdev-in tap37ab04c7-1e -m comment --comment \"Set zone for 7ab04c7-1e\" -j CT --zone 4097\n\
         COMMIT\n\
         *filter\n\
         :neutron-linuxbri-i37ab04c7-1 - [0:0]\n\
         :neutron-linuxbri-o37ab04c7-1 - [0:0]\n\
         -D neutron-linuxbri-FORWARD -m physdev --physdev-out tap37ab04c7-1e --physdev-is-bridged -m comment --comment \"Direct traffic from the VM interface to the security group chain.\" -j neutron-linuxbri-sg-chain\n\
         -D neutron-linuxbri-sg-chain -m physdev --physdev-out tap37ab04c7-1e --physdev-is-bridged -j neutron-linuxbri-i37ab04c7-1\n\
         -X neutron-linuxbri-i37ab04c7-1\n\
         -X neutron-linuxbri-o37ab04c7-1\n\
         COMMIT\n"
    );
}

#[test]
fn with_the_last_port_everything_of_the_agents_goes_and_nobody_elses() {
    let script = iptables_script(IPTABLES, &taps(&["tap37ab04c7-1e", "tap446eb521-02"])).expect("there is something");
    for gone in ["sg-chain", "sg-fallback", "local", "FORWARD", "PREROUTING", "i446eb521-0"] {
        assert!(script.contains(&format!("-X neutron-linuxbri-{gone}\n")), "{gone} stays:\n{script}");
    }
    assert!(script.contains("-D FORWARD -j neutron-linuxbri-FORWARD\n"), "{script}");
    assert!(script.contains("-D FORWARD -j neutron-filter-top\n-"), "{script}");
    assert!(script.contains("-X neutron-filter-top\n"), "{script}");
    assert!(!script.contains("mine"), "{script}");
}

#[test]
fn a_chain_of_agents_of_other_kinds_stays() {
    let shared = IPTABLES
        .replace("-A neutron-filter-top -j", "-A neutron-filter-top -j neutron-meter-local\n-A neutron-filter-top -j");
    let script = iptables_script(&shared, &taps(&["tap37ab04c7-1e", "tap446eb521-02"])).expect("there is something");
    assert!(script.contains("-D neutron-filter-top -j neutron-linuxbri-local\n"), "{script}");
    assert!(
        !script.contains("-X neutron-filter-top") && !script.contains("-D FORWARD -j neutron-filter-top"),
        "{script}"
    );
}

#[test]
fn a_host_without_leftovers_is_left_alone() {
    assert_eq!(iptables_script(IPTABLES, &taps(&["tapffffffff-ff"])), None);
    assert_eq!(iptables_script("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", &taps(&["tap37ab04c7-1e"])), None);
}

#[test]
fn a_chain_that_another_port_with_a_similar_id_needs_stays() {
    let twin = IPTABLES.replace("tap446eb521-02", "tap37ab04c7-1f").replace("i446eb521-0", "i37ab04c7-1");
    let script = iptables_script(&twin, &taps(&["tap37ab04c7-1e"])).expect("there is something");
    assert!(!script.contains("-X neutron-linuxbri-i37ab04c7-1\n"), "{script}");
}

#[test]
fn ebtables_chains_are_emptied_before_they_are_deleted() {
    let save = "*nat\n:PREROUTING ACCEPT\n:neutronARP-tap37ab04c7-1e DROP\n:neutronMAC-tap446eb521-02 DROP\n\
                -A PREROUTING -p ARP -i tap37ab04c7-1e -j neutronARP-tap37ab04c7-1e\n\
                -A PREROUTING -i tap446eb521-02 -j neutronMAC-tap446eb521-02\n\
                -A neutronARP-tap37ab04c7-1e -j DROP\n";
    let commands: Vec<String> =
        ebtables_commands(save, &taps(&["tap37ab04c7-1e"])).iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        commands,
        [
            "--concurrent -t nat -D PREROUTING -p ARP -i tap37ab04c7-1e -j neutronARP-tap37ab04c7-1e",
            "--concurrent -t nat -F neutronARP-tap37ab04c7-1e",
            "--concurrent -t nat -X neutronARP-tap37ab04c7-1e",
        ]
    );
}

#[test]
fn only_sets_of_the_agents_that_nobody_uses_go() {
    let list = "Name: NIPv4641c1bc0-356c-4f3c-b3ce-\nType: hash:net\nReferences: 0\n\n\
                Name: NIPv6641c1bc0-356c-4f3c-b3ce-\nReferences: 1\n\nName: mine\nReferences: 0\n";
    assert_eq!(unused_sets(list), ["NIPv4641c1bc0-356c-4f3c-b3ce-"]);
}

#[test]
fn the_chain_that_marks_what_a_port_sends_goes_and_with_the_last_one_the_agents_others() {
    let save = "*mangle\n:POSTROUTING ACCEPT [0:0]\n:neutron-linuxbri-POSTROUTING - [0:0]\n:neutron-linuxbri-qos-o37ab04 - [0:0]\n\
                :neutron-linuxbri-qos-o446eb5 - [0:0]\n-A POSTROUTING -j neutron-linuxbri-POSTROUTING\n\
                -A neutron-linuxbri-POSTROUTING -m physdev --physdev-in tap37ab04c7-1e --physdev-is-bridged -j neutron-linuxbri-qos-o37ab04\n\
                -A neutron-linuxbri-POSTROUTING -m physdev --physdev-in tap446eb521-02 --physdev-is-bridged -j neutron-linuxbri-qos-o446eb5\n\
                -A neutron-linuxbri-qos-o37ab04 -j DSCP --set-dscp 0x1a\nCOMMIT\n";
    let script = iptables_script(save, &taps(&["tap37ab04c7-1e"])).expect("there is something");
    assert!(script.contains("-X neutron-linuxbri-qos-o37ab04\n") && !script.contains("qos-o446eb5"), "{script}");
    assert!(!script.contains("-X neutron-linuxbri-POSTROUTING\n"), "{script}");
    let both = taps(&["tap37ab04c7-1e", "tap446eb521-02"]);
    let script = iptables_script(save, &both).expect("there is something");
    assert_eq!(
        marks_script(&format!("{IPTABLES}{save}"), &both),
        Some(script.clone()),
        "other tables are others' to see to"
    );
    for gone in ["qos-o37ab04", "qos-o446eb5", "POSTROUTING"] {
        assert!(script.contains(&format!("-X neutron-linuxbri-{gone}\n")), "{gone} stays:\n{script}");
    }
}

#[test]
fn only_the_agents_own_limit_of_what_a_machine_sends_goes() {
    let list = "qdisc noqueue 0: dev lo root refcnt 2 \nqdisc tbf 8001: dev tap37ab04c7-1e root refcnt 2 rate 1Mbit\n\
                qdisc ingress ffff: dev tap37ab04c7-1e parent ffff:fff1 ---------------- \n\
                qdisc ingress ffff: dev tap446eb521-02 parent ffff:fff1 ---------------- \n";
    assert_eq!(taps_with_ingress(list, &taps(&["tap37ab04c7-1e"])), ["tap37ab04c7-1e"]);
    let own = "filter protocol all pref 49 basic chain 0 \nfilter protocol all pref 49 basic chain 0 handle 0x1 \n\
               \taction order 1:  police 0x1 rate 10Mbit burst 100000b mtu 64Kb action drop overhead 0b \n";
    assert!(are_limit(own));
    assert!(!are_limit(""), "nobody limits anything");
    assert!(!are_limit(&format!("{own}filter protocol ip pref 50 u32 chain 0 \n")), "somebody else's is there as well");
}
