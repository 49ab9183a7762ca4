//! A router's table of nf_tables: what Neutron's L3 agent has iptables do, in as few rules as possible. Floating IPs are
//! elements of maps: their number costs a packet nothing.

use std::{borrow::Cow, net::Ipv4Addr};

use nftables::{
    batch::Batch,
    expr::{BinaryOperation, CT, Expression, Map, Meta, MetaKey, NamedExpression, Payload, PayloadField},
    schema::{self, NfListObject, Rule, SetType, SetTypeValue, Table},
    stmt::{Match, NAT, NATFamily, NATFlag, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::{super::Ruleset, Gateway, METADATA_IPV4, METADATA_IPV6, Translations};
use crate::topology::ForwardedProtocol;

/// The table's name, in the `inet` family.
pub const TABLE: &str = "overlane";
/// Maps of floating IPs: to the addresses of machines, and back.
const FLOATING: &str = "floating";
const FIXED: &str = "fixed";
/// Where the metadata service listens in a router's namespace.
const METADATA_PORT: u32 = 9697;
const HTTP: u32 = 80;
/// `IPS_DST_NAT`, a bit of `ct status`: the destination is translated (uapi/linux/netfilter/nf_conntrack_common.h).
const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// Priorities of chains (uapi/linux/netfilter_ipv4.h): `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_FILTER` and `NF_IP_PRI_NAT_SRC`.
const BEFORE_ROUTING: i32 = -100;
const FILTER: i32 = 0;
const AFTER_ROUTING: i32 = 100;

/// The table of a router.
pub(super) fn ruleset(translations: Translations, is_replicated: bool) -> Ruleset {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(table()));
    let (json, mut rules) = (&mut batch, Rules::default());
    metadata(json, &mut rules);
    if is_replicated {
        silence(json, &mut rules);
    }
    if let Some(gateway) = &translations.gateway {
        destinations(json, &mut rules, &translations);
        sources(json, &mut rules, gateway, !translations.floating.is_empty());
    }
    batch.add_all(rules.0.into_iter().map(|rule| schema::NfObject::CmdObject(schema::NfCmd::Add(rule))));
    let json = serde_json::to_string(&batch.to_nftables()).expect("names and numbers are always JSON");
    Ruleset { table: TABLE.to_owned(), json, translations }
}

/// What follows the chains and maps that it needs.
#[derive(Default)]
struct Rules(Vec<NfListObject<'static>>);

impl Rules {
    fn add(&mut self, chain: &'static str, statements: Vec<Statement<'static>>) {
        self.0.push(NfListObject::Rule(Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: chain.into(),
            expr: statements.into(),
            ..Rule::default()
        }));
    }
}

fn table() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain(batch: &mut Batch<'static>, name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) {
    batch.add(NfListObject::Chain(schema::Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..schema::Chain::default()
    }));
}

/// Requests to the metadata service are led to who listens for them in the namespace, whom nobody else reaches.
fn metadata(batch: &mut Batch<'static>, rules: &mut Rules) {
    chain(batch, "prerouting", NfChainType::NAT, NfHook::Prerouting, BEFORE_ROUTING);
    for (protocol, address) in [("ip", METADATA_IPV4.to_string()), ("ip6", METADATA_IPV6.to_string())] {
        rules.add(
            "prerouting",
            vec![
                equal(meta(MetaKey::Iifname), text("qr-*")),
                equal(payload(protocol, "daddr"), text(address)),
                equal(payload("tcp", "dport"), number(HTTP)),
                Statement::Redirect(Some(nat(None, None, Some(number(METADATA_PORT)), false))),
            ],
        );
    }
    chain(batch, "input", NfChainType::Filter, NfHook::Input, FILTER);
    let refused = vec![
        equal(payload("tcp", "dport"), number(METADATA_PORT)),
        has_translated_destination(false),
        Statement::Drop(None),
    ];
    rules.add("input", refused);
}

/// Where a router of several hosts is not active it has no address, and still a kernel would tell, with no source address, which groups
/// it listens to: bridges would believe that the router has moved.
fn silence(batch: &mut Batch<'static>, rules: &mut Rules) {
    chain(batch, "silence", NfChainType::Filter, NfHook::Output, FILTER);
    rules.add("silence", vec![equal(payload("ip6", "saddr"), text("::")), Statement::Drop(None)]);
}

fn floating_maps(batch: &mut Batch<'static>, translations: &Translations) {
    let floating = translations.floating.iter();
    let inwards = floating.clone().map(|(outside, fixed)| pair(address(*outside), address(*fixed)));
    let outwards = floating.map(|(outside, fixed)| pair(address(*fixed), address(*outside)));
    let one = || SetTypeValue::Single(SetType::Ipv4Addr);
    map(batch, FLOATING, one(), SetType::Ipv4Addr, inwards.collect());
    map(batch, FIXED, one(), SetType::Ipv4Addr, outwards.collect());
}

/// Address and port are looked up one by one: Debian 12's `nft` cannot be told of a map to both of them by JSON.
fn forwarding_maps(batch: &mut Batch<'static>, translations: &Translations, protocol: ForwardedProtocol) -> bool {
    let of_protocol = translations.forwarded.iter().filter(|((other, _, _), _)| *other == protocol);
    let elements = of_protocol.map(|((_, outside, external), (fixed, internal))| {
        let key = concatenated(vec![address(*outside), number(*external)]);
        (pair(key.clone(), address(*fixed)), pair(key, number(*internal)))
    });
    let (addresses, ports): (Vec<_>, Vec<_>) = elements.unzip();
    if addresses.is_empty() {
        return false;
    }
    let key = || SetTypeValue::Concatenated(Cow::Borrowed(&[SetType::Ipv4Addr, SetType::InetService]));
    map(batch, forwarded(protocol, "address"), key(), SetType::Ipv4Addr, addresses);
    map(batch, forwarded(protocol, "port"), key(), SetType::InetService, ports);
    true
}

fn forwarded(protocol: ForwardedProtocol, what: &str) -> String {
    format!("{protocol}_{what}")
}

fn map(
    batch: &mut Batch<'static>,
    name: impl Into<Cow<'static, str>>,
    key: SetTypeValue<'static>,
    value: SetType,
    elements: Vec<Expression<'static>>,
) {
    batch.add(NfListObject::Map(Box::new(schema::Map {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: key,
        map: SetTypeValue::Single(value),
        elem: (!elements.is_empty()).then(|| elements.into()),
        ..schema::Map::default()
    })));
}

/// Floating IPs and forwarded ports lead to machines, from outside, from inside, and from the router itself.
fn destinations(batch: &mut Batch<'static>, rules: &mut Rules, translations: &Translations) {
    let has_floating = !translations.floating.is_empty();
    if has_floating {
        floating_maps(batch, translations);
    }
    let protocols = [ForwardedProtocol::Tcp, ForwardedProtocol::Udp];
    let protocols = protocols.map(|protocol| forwarding_maps(batch, translations, protocol).then_some(protocol));
    if !has_floating && protocols.iter().all(Option::is_none) {
        return;
    }
    chain(batch, "output", NfChainType::NAT, NfHook::Output, BEFORE_ROUTING);
    for chain in ["prerouting", "output"] {
        if has_floating {
            let to = looked_up(payload("ip", "daddr"), FLOATING);
            rules.add(chain, vec![Statement::DNAT(Some(ipv4(to, false)))]);
        }
        for protocol in protocols.into_iter().flatten() {
            let name = || text(protocol.to_string());
            let key = || concatenated(vec![payload("ip", "daddr"), payload(protocol.to_string(), "dport")]);
            let to = looked_up(key(), &forwarded(protocol, "address"));
            let port = looked_up(key(), &forwarded(protocol, "port"));
            let translate = Statement::DNAT(Some(NAT { port: Some(port), ..ipv4(to, false) }));
            rules.add(chain, vec![equal(meta(MetaKey::L4proto), name()), translate]);
        }
    }
}

/// Machines reach the outside by their floating IP, or in the gateway's name. What comes back by the way it went, a machine's call
/// of another's floating IP, must come from somewhere else for the answers to pass here as well.
fn sources(batch: &mut Batch<'static>, rules: &mut Rules, gateway: &Gateway, has_floating: bool) {
    chain(batch, "postrouting", NfChainType::NAT, NfHook::Postrouting, AFTER_ROUTING);
    let link = || text(gateway.link.clone());
    let chain = "postrouting";
    let inside =
        vec![differs(meta(MetaKey::Oifname), link()), has_translated_destination(false), Statement::Accept(None)];
    rules.add(chain, inside);
    if has_floating {
        rules.add(chain, vec![Statement::SNAT(Some(ipv4(looked_up(payload("ip", "saddr"), FIXED), true)))]);
    }
    let Some(own) = gateway.address else { return };
    let in_its_name = || Statement::SNAT(Some(ipv4(address(own), true)));
    let back = vec![differs(meta(MetaKey::Iifname), link()), has_translated_destination(true), in_its_name()];
    rules.add(chain, back);
    if gateway.is_snat {
        rules.add(chain, vec![equal(meta(MetaKey::Oifname), link()), in_its_name()]);
    }
}

fn has_translated_destination(is_so: bool) -> Statement<'static> {
    let status = Expression::Named(NamedExpression::CT(CT { key: "status".into(), ..CT::default() }));
    let bit = BinaryOperation::AND(status, number(DESTINATION_TRANSLATED));
    let left = Expression::BinaryOperation(Box::new(bit));
    if is_so { differs(left, number(0_u32)) } else { equal(left, number(0_u32)) }
}

fn ipv4(to: Expression<'static>, is_random: bool) -> NAT<'static> {
    nat(Some(NATFamily::IP), Some(to), None, is_random)
}

/// With ports chosen at random, so that two CPUs that translate at once do not take the same.
fn nat(
    family: Option<NATFamily>,
    addr: Option<Expression<'static>>,
    port: Option<Expression<'static>>,
    is_random: bool,
) -> NAT<'static> {
    NAT { addr, family, port, flags: is_random.then(|| [NATFlag::FullyRandom].into()) }
}

fn equal(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn differs(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::NEQ })
}

fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

fn address(address: Ipv4Addr) -> Expression<'static> {
    text(address.to_string())
}

fn number(number: impl Into<u32>) -> Expression<'static> {
    Expression::Number(number.into())
}

fn pair(key: Expression<'static>, value: Expression<'static>) -> Expression<'static> {
    Expression::List(vec![key, value])
}

fn concatenated(parts: Vec<Expression<'static>>) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts))
}

fn looked_up(key: Expression<'static>, map: &str) -> Expression<'static> {
    Expression::Named(NamedExpression::Map(Box::new(Map { key, data: text(format!("@{map}")) })))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn payload(protocol: impl Into<Cow<'static, str>>, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}
