//! Laws of the plan for services: it reaches what is wanted from anywhere, and then there is nothing left to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use overlane_core::{
    model::{Mac, PortId},
    services::{
        Activity, FileSpec, LinkSpec, NamespaceSpec, NextHop, ObservedLink, ObservedNamespace, ObservedProcess,
        ObservedServices, OnChange, ProcessName, ProcessSpec, RouteSpec, Ruleset, ServiceAction as Action, Services,
        Translations,
        plan::{is_here, plan},
    },
};
use proptest::{collection::btree_map, prelude::*, sample::select};
use uuid::Uuid;

fn any_link() -> impl Strategy<Value = LinkSpec> {
    let addresses = proptest::collection::btree_set(select(vec!["10.0.0.1/24", "10.0.1.1/24", "fd00::1/64"]), 0..3);
    let moving = proptest::collection::btree_set(select(vec!["10.0.2.1/24", "10.0.3.1/32"]), 0..3);
    let parts = (0..3_u8, 0..2_u8, select(vec![1400, 1450]), addresses, moving);
    parts.prop_map(|(port, mac, mtu, addresses, moving)| LinkSpec {
        port: PortId(Uuid::from_u128(u128::from(port) << 96)),
        mac: Mac([2, 0, 0, 0, port, mac]),
        mtu,
        addresses: addresses.into_iter().map(|address| address.parse().expect("valid")).collect(),
        moving: moving.into_iter().map(|address| address.parse().expect("valid")).collect(),
        announces: true,
        finishes_checksums: false,
    })
}

fn any_process(program: &'static str) -> impl Strategy<Value = ProcessSpec> {
    let text = select(vec!["one", "two"]);
    let on_change = select(vec![OnChange::Reload, OnChange::Restart, OnChange::Nothing, OnChange::Keep]);
    let file =
        (text, on_change).prop_map(|(text, on_change)| FileSpec { text: text.to_owned(), on_change, is_secret: false });
    let files = btree_map(select(vec!["host".to_owned(), "opts".to_owned()]), file, 0..3);
    (files, select(vec!["-a", "-b"])).prop_map(move |(files, arg)| ProcessSpec {
        program: program.to_owned(),
        args: vec![arg.to_owned()],
        folder: PathBuf::from("/state").join(program),
        files,
    })
}

fn any_namespace(name: &'static str) -> impl Strategy<Value = NamespaceSpec> {
    let links = btree_map(select(vec!["qr-a".to_owned(), "qr-b".to_owned()]), any_link(), 0..3);
    let ruleset = proptest::option::of(select(vec!["{1}", "{2}"]));
    let sysctl = select(vec!["0", "1"]);
    (links, ruleset, sysctl, proptest::option::of(any_process(name)), any::<bool>()).prop_map(
        move |(mut links, ruleset, sysctl, process, moves)| {
            let hop = |link: &String| {
                let next_hops = [NextHop { via: Some([10, 0, 0, 9].into()), link: link.clone() }].into();
                ("0.0.0.0/0".parse().expect("valid"), RouteSpec { next_hops })
            };
            let routes = links.keys().take(1).map(hop).collect();
            let activity = moves.then(|| activity(&mut links));
            let name = |spec: &ProcessSpec| ProcessName { program: spec.program.clone(), of: "x".to_owned() };
            NamespaceSpec {
                sysctls: [("net/ipv4/ip_forward".to_owned(), sysctl.to_owned())].into(),
                routes,
                ruleset: ruleset.map(|json| Ruleset {
                    table: "overlane".to_owned(),
                    json: json.to_owned(),
                    translations: Translations::default(),
                }),
                processes: process.map(|spec| (name(&spec), spec)).into_iter().collect(),
                links,
                activity,
                reservations: None,
            }
        },
    )
}

/// Another link, with the address that says whether what moves is here.
fn activity(links: &mut BTreeMap<String, LinkSpec>) -> Activity {
    let activity = Activity { link: "ha-a".to_owned(), address: "169.254.0.1/32".parse().expect("valid") };
    let link = LinkSpec {
        port: PortId(Uuid::from_u128(9 << 96)),
        mac: Mac([2, 0, 0, 0, 9, 0]),
        mtu: 1450,
        addresses: ["169.254.192.7/18".parse().expect("valid")].into(),
        moving: [activity.address].into(),
        announces: false,
        finishes_checksums: false,
    };
    links.insert(activity.link.clone(), link);
    activity
}

/// What somebody who moves things does where they are to be.
fn take_over(found: &mut ObservedServices, wanted: &Services) {
    for (name, spec) in &wanted.namespaces {
        let inner = found.namespaces.get_mut(name).expect("it is there");
        for (name, link) in spec.links.iter().filter(|_| spec.activity.is_some()) {
            inner.links.get_mut(name).expect("it is there").addresses.extend(&link.moving);
        }
        if spec.activity.is_some() {
            inner.routes.extend(spec.routes.clone());
        }
    }
}

fn is_active(spec: &NamespaceSpec, found: &ObservedServices, name: &str) -> bool {
    spec.activity.as_ref().is_none_or(|activity| is_here(activity, &found.namespaces[name]))
}

fn any_services() -> impl Strategy<Value = Services> {
    let namespaces = (proptest::option::of(any_namespace("dnsmasq")), proptest::option::of(any_namespace("radvd")));
    (namespaces, proptest::option::of(any_process("metadata"))).prop_map(|((one, two), process)| {
        let one = one.map(|spec| ("qdhcp-1".to_owned(), spec));
        let two = two.map(|spec| ("qrouter-1".to_owned(), spec));
        let name = |spec: &ProcessSpec| ProcessName { program: spec.program.clone(), of: "host".to_owned() };
        Services {
            namespaces: one.into_iter().chain(two).collect(),
            processes: process.map(|spec| (name(&spec), spec)).into_iter().collect(),
        }
    })
}

/// No process id is used twice.
static NEXT_PID: AtomicU32 = AtomicU32::new(1);

/// Does to the state what the kernel would.
fn apply(found: &mut ObservedServices, namespace: Option<&String>, action: &Action) {
    match action {
        Action::CreateNamespace => {
            let made = ObservedNamespace { is_ours: true, ..ObservedNamespace::default() };
            let earlier = found.namespaces.insert(namespace.expect("named").clone(), made);
            assert_eq!(earlier, None, "made twice");
        }
        Action::DeleteNamespace => drop(found.namespaces.remove(namespace.expect("named"))),
        Action::WriteFile { path, text, .. } => drop(found.files.insert(path.clone(), text.clone())),
        Action::Start { name, spec } => {
            let process =
                ObservedProcess { pid: NEXT_PID.fetch_add(1, Ordering::Relaxed), fingerprint: spec.fingerprint() };
            found.processes.entry(name.clone()).or_default().push(process);
        }
        Action::Stop { name, pid } => {
            let running = found.processes.get_mut(name).expect("it runs");
            running.retain(|process| process.pid != *pid);
            if running.is_empty() {
                found.processes.remove(name);
            }
        }
        Action::Reload { name, pid } => assert!(found.processes[name].iter().any(|process| process.pid == *pid)),
        Action::RemoveFolder { folder } => drop(found.stray_folders.remove(folder)),
        _ => apply_inside(found, namespace.expect("named"), action),
    }
}

fn apply_inside(found: &mut ObservedServices, namespace: &String, action: &Action) {
    let inner = found.namespaces.get_mut(namespace).expect("it is there");
    match action {
        Action::SetParameter { name, value } => drop(inner.sysctls.insert(name.clone(), value.clone())),
        Action::CreateLink { name, spec } => {
            let (mac, mtu) = (Some(spec.mac), spec.mtu);
            inner.links.insert(name.clone(), ObservedLink { mac, mtu, up: true, addresses: [].into() });
            found.host_links.insert(spec.tap());
        }
        Action::DeleteLink { name } => {
            inner.links.remove(name).expect("it is there");
            inner.routes.retain(|_, route| route.next_hops.iter().all(|hop| hop.link != *name));
        }
        Action::SetUp { name } => inner.links.get_mut(name).expect("it is there").up = true,
        Action::SetMtu { name, mtu, .. } => inner.links.get_mut(name).expect("it is there").mtu = *mtu,
        Action::AddAddress { link, address, .. } => {
            assert!(inner.links.get_mut(link).expect("it is there").addresses.insert(*address), "added twice");
        }
        Action::DeleteAddress { link, address } => {
            assert!(inner.links.get_mut(link).expect("it is there").addresses.remove(address), "not there");
        }
        Action::SetRoute { destination, route, .. } => {
            assert!(route.next_hops.iter().all(|hop| inner.links.contains_key(&hop.link)), "a link before its routes");
            inner.routes.insert(*destination, route.clone());
        }
        Action::DeleteRoute { destination } => drop(inner.routes.remove(destination).expect("it is there")),
        Action::SetRuleset(ruleset) => inner.ruleset = Some(ruleset.fingerprint()),
        Action::DeleteRuleset => inner.ruleset = None,
        _ => unreachable!("not inside"),
    }
}

fn apply_all(found: &mut ObservedServices, wanted: &Services) {
    for (namespace, steps) in &plan(wanted, found).steps {
        steps.iter().for_each(|step| apply(found, namespace.as_ref(), step));
    }
}

/// What each program has read of its files, by its process id.
type Read = BTreeMap<u32, BTreeMap<PathBuf, String>>;

/// Takes so many steps and no more, as an agent does that is killed.
fn apply_some(found: &mut ObservedServices, read: &mut Read, wanted: &Services, steps_max: usize) {
    let steps = plan(wanted, found).steps;
    let all = steps.iter().flat_map(|(namespace, steps)| steps.iter().map(move |step| (namespace, step)));
    for (namespace, step) in all.take(steps_max) {
        apply(found, namespace.as_ref(), step);
        let pid = match step {
            Action::Start { name, .. } => found.processes[name].last().expect("just started").pid,
            Action::Reload { pid, .. } => *pid,
            _ => continue,
        };
        read.insert(pid, found.files.clone());
    }
}

fn made(wanted: &Services) -> ObservedServices {
    let mut found = ObservedServices::default();
    apply_all(&mut found, wanted);
    found
}

proptest! {
    #[test]
    fn applying_a_plan_reaches_what_is_wanted_and_leaves_nothing_to_do(before in any_services(), wanted in any_services()) {
        let mut found = ObservedServices::default();
        apply_all(&mut found, &before);
        apply_all(&mut found, &wanted);
        let left = plan(&wanted, &found);
        prop_assert!(left.is_empty(), "left: {:?}", left.steps);
        prop_assert_eq!(found.namespaces.keys().collect::<Vec<_>>(), wanted.namespaces.keys().collect::<Vec<_>>());
        for (name, namespace) in &wanted.namespaces {
            let inner = &found.namespaces[name];
            prop_assert!(namespace.activity.is_none() || !is_active(namespace, &found, name), "nobody has taken it over");
            let routes = if namespace.activity.is_none() { namespace.routes.clone() } else { BTreeMap::new() };
            prop_assert_eq!(&inner.routes, &routes);
            prop_assert_eq!(&inner.sysctls, &namespace.sysctls);
            let moving = |link: &LinkSpec| if namespace.activity.is_none() { link.moving.clone() } else { [].into() };
            let there: BTreeMap<_, _> =
                inner.links.iter().map(|(name, link)| (name, link.addresses.clone())).collect();
            let meant: BTreeMap<_, BTreeSet<_>> =
                namespace.links.iter().map(|(name, link)| (name, &link.addresses | &moving(link))).collect();
            prop_assert_eq!(there, meant);
        }
        let running: usize = found.processes.values().map(Vec::len).sum();
        let meant = wanted.namespaces.values().map(|namespace| namespace.processes.len()).sum::<usize>();
        prop_assert_eq!(running, meant + wanted.processes.len());
    }

    #[test]
    fn whenever_an_agent_is_killed_the_next_one_leaves_no_program_with_files_that_it_has_not_read(
        wanted in any_services(),
        killed_after in 0..8_usize,
    ) {
        // The same, but for what programs are to read.
        let mut before = wanted.clone();
        let of_namespaces = before.namespaces.values_mut().flat_map(|namespace| namespace.processes.values_mut());
        for spec in of_namespaces.chain(before.processes.values_mut()) {
            let told = spec.files.values_mut().filter(|file| file.on_change == OnChange::Reload);
            told.for_each(|file| "before".clone_into(&mut file.text));
        }
        let (mut found, mut read) = (ObservedServices::default(), Read::new());
        apply_some(&mut found, &mut read, &before, usize::MAX);
        apply_some(&mut found, &mut read, &wanted, killed_after);
        apply_some(&mut found, &mut read, &wanted, usize::MAX);
        let left = plan(&wanted, &found);
        prop_assert!(left.is_empty(), "left: {:?}", left.steps);
        let of_namespaces = wanted.namespaces.values().flat_map(|namespace| &namespace.processes);
        for (name, spec) in of_namespaces.chain(&wanted.processes) {
            let [process] = &found.processes[name][..] else { panic!("one of each kind") };
            for (file, meant) in spec.files.iter().filter(|(_, file)| file.on_change == OnChange::Reload) {
                prop_assert_eq!(read[&process.pid].get(&spec.folder.join(file)), Some(&meant.text), "{} of {}", file, name);
            }
        }
    }

    #[test]
    fn what_is_taken_over_is_left_alone_and_what_is_missing_of_it_is_put_back(
        wanted in any_services(),
        missing in 0..12_usize,
    ) {
        let mut found = made(&wanted);
        take_over(&mut found, &wanted);
        let left = plan(&wanted, &found);
        prop_assert!(left.is_empty(), "left: {:?}", left.steps);
        let whole = found.clone();
        // Everything that moves, one after the other, but for what says where it is.
        let of_links = wanted.namespaces.iter().filter(|(_, spec)| spec.activity.is_some()).flat_map(|(name, spec)| {
            let moving = spec.links.iter().flat_map(|(link, of_link)| of_link.moving.iter().map(move |address| (link, address)));
            moving.filter(|(link, _)| *link != "ha-a").map(move |(link, address)| (name, link, address))
        });
        if let Some((name, link, address)) = of_links.collect::<Vec<_>>().get(missing) {
            let inner = found.namespaces.get_mut(*name).expect("it is there");
            inner.links.get_mut(*link).expect("it is there").addresses.remove(*address);
            inner.routes.clear();
            apply_all(&mut found, &wanted);
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn what_is_left_where_nothing_is_taken_over_is_removed(wanted in any_services()) {
        let before = made(&wanted);
        let mut found = before.clone();
        take_over(&mut found, &wanted);
        for inner in found.namespaces.values_mut() {
            if let Some(link) = inner.links.get_mut("ha-a") {
                link.addresses.retain(|address| address.prefix_len() != 32);
            }
        }
        apply_all(&mut found, &wanted);
        prop_assert_eq!(found, before);
    }

    #[test]
    fn a_namespace_that_somebody_deletes_comes_back_with_its_programs(wanted in any_services()) {
        let mut found = ObservedServices::default();
        apply_all(&mut found, &wanted);
        let old: Vec<u32> = found.processes.values().flatten().map(|process| process.pid).collect();
        found.namespaces.clear();
        found.host_links.clear();
        apply_all(&mut found, &wanted);
        prop_assert!(plan(&wanted, &found).is_empty());
        for namespace in wanted.namespaces.values() {
            for name in namespace.processes.keys() {
                prop_assert!(found.processes[name].iter().all(|process| !old.contains(&process.pid)), "it is in the old one");
            }
        }
    }
}

#[test]
fn a_namespace_that_is_somebody_elses_is_left_alone_and_the_others_are_made() {
    let wanted = Services {
        namespaces: [
            ("qdhcp-1".to_owned(), NamespaceSpec::default()),
            ("qdhcp-2".to_owned(), NamespaceSpec::default()),
        ]
        .into(),
        ..Services::default()
    };
    let foreign = ObservedNamespace::default();
    let found =
        ObservedServices { namespaces: [("qdhcp-1".to_owned(), foreign)].into(), ..ObservedServices::default() };
    let plan = plan(&wanted, &found);
    assert!(plan.obstacles["qdhcp-1"].contains("Overlane has not made it"), "{:?}", plan.obstacles);
    assert_eq!(plan.steps, [(Some("qdhcp-2".to_owned()), vec![Action::CreateNamespace])].into());
}
