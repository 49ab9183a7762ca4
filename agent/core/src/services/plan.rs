//! The steps that lead from the services that are there to those that are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use ipnet::IpNet;

use super::{
    Activity, FileSpec, KEEPALIVED, LinkSpec, NamespaceSpec, ObservedLink, ObservedNamespace, ObservedProcess,
    ObservedServices, OnChange, ProcessName, ProcessSpec, Reservations, ServiceAction as Action, Services,
    router::ADDRESS_GENERATION,
};

/// What there is to do, and what only somebody else can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// Steps, in order, by the namespace that they are about; `None` for those in the host's own. What is to be done in one
    /// namespace does not wait for another.
    pub steps: BTreeMap<Option<String>, Vec<Action>>,
    /// What is in the way, in words, by namespace.
    pub obstacles: BTreeMap<String, String>,
}

impl ServicePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn add(&mut self, namespace: Option<&str>, steps: Vec<Action>) {
        if !steps.is_empty() {
            self.steps.entry(namespace.map(str::to_owned)).or_default().extend(steps);
        }
    }
}

/// Plans all of it.
pub fn plan(wanted: &Services, found: &ObservedServices) -> ServicePlan {
    let mut plan = ServicePlan::default();
    // Who has programs that are not wanted any more, by the namespace that they are about.
    let all = || wanted.namespaces.values().flat_map(|namespace| &namespace.processes).chain(&wanted.processes);
    let is_wanted = |name: &ProcessName| all().any(|(wanted, _)| wanted == name);
    let mut ending = Vec::new();
    for (name, running) in found.processes.iter().filter(|(name, _)| !is_wanted(name)) {
        ending.extend(running.iter().map(|process| stop(name, process)));
    }
    // Before anything else: they must not hold on to namespaces and addresses.
    plan.add(None, ending);
    for (name, spec) in &wanted.namespaces {
        namespace(name, spec, found, &mut plan);
    }
    for (name, namespace) in &found.namespaces {
        if namespace.is_ours && !wanted.namespaces.contains_key(name) {
            // Whoever still holds on to the namespace does not keep the taps.
            let links = namespace.links.keys().map(|link| Action::DeleteLink { name: link.clone() });
            plan.add(Some(name), links.chain([Action::DeleteNamespace]).collect());
        }
    }
    let mut steps = Vec::new();
    processes(&wanted.processes, None, found, &mut steps);
    steps.extend(found.stray_folders.iter().map(|folder| Action::RemoveFolder { folder: folder.clone() }));
    plan.add(None, steps);
    plan
}

fn namespace(name: &str, spec: &NamespaceSpec, found: &ObservedServices, plan: &mut ServicePlan) {
    let missing = ObservedNamespace { is_ours: true, ..ObservedNamespace::default() };
    let mut steps = Vec::new();
    // Programs of a namespace that is made anew are those of the old one, which they keep alive, and its taps with it.
    let is_new = !found.namespaces.contains_key(name);
    for process in spec.processes.keys().filter(|_| is_new).filter_map(|process| found.processes.get_key_value(process))
    {
        steps.extend(process.1.iter().map(|running| stop(process.0, running)));
    }
    let there = found.namespaces.get(name).unwrap_or_else(|| {
        steps.push(Action::CreateNamespace);
        &missing
    });
    if !there.is_ours {
        let message =
            format!("namespace {name} is there already, and Overlane has not made it: delete it, or stop who uses it");
        plan.obstacles.insert(name.to_owned(), message);
        return;
    }
    let link_of =
        |parameter: &str| spec.links.keys().find(|link| parameter.split('/').any(|part| part == link.as_str()));
    let (of_links, general): (Vec<_>, Vec<_>) =
        spec.sysctls.iter().partition(|(parameter, _)| link_of(parameter).is_some());
    steps.extend(general.into_iter().filter_map(|parameter| set_parameter(parameter, there)));
    // It also keeps a link from speaking that is of no use here yet.
    let keeps_silent = spec.activity.is_some();
    if keeps_silent {
        steps.extend(ruleset(spec, there));
    }
    // A link that is not wanted may have an address that another one needs.
    let unwanted = there.links.keys().filter(|link| !spec.links.contains_key(*link));
    steps.extend(unwanted.map(|link| Action::DeleteLink { name: link.clone() }));
    // Of a router that begins or ceases to be on several hosts: its links have got, or lack, addresses that nobody else can take or give.
    let generation = |sysctls: &BTreeMap<String, String>| sysctls.get(ADDRESS_GENERATION).cloned();
    let is_renewed =
        generation(&there.sysctls).is_some_and(|found| generation(&spec.sysctls).is_some_and(|wanted| wanted != found));
    // What is set on a link goes with it.
    let remains = |name: &str| {
        let (link, wanted) = (there.links.get(name)?, spec.links.get(name)?);
        let is_right = link.mac == Some(wanted.mac) && !is_renewed;
        (is_right && found.host_links.contains(&wanted.tap())).then_some(link)
    };
    for (name, wanted) in &spec.links {
        link(name, wanted, there.links.contains_key(name), remains(name), &mut steps);
    }
    let nothing = ObservedNamespace::default();
    let set_of_link = |(parameter, value): (&String, &String)| {
        let is_new = link_of(parameter).is_some_and(|link| remains(link).is_none());
        set_parameter((parameter, value), if is_new { &nothing } else { there })
    };
    steps.extend(of_links.into_iter().filter_map(set_of_link));
    let is_active =
        spec.activity.as_ref().is_none_or(|activity| remains(&activity.link).is_some() && is_here(activity, there));
    for (name, wanted) in &spec.links {
        addresses(name, wanted, is_active, remains(name), &mut steps);
    }
    routes((spec, is_active), there, |link| remains(link).is_none(), &mut steps);
    if !keeps_silent {
        steps.extend(ruleset(spec, there));
    }
    let mut wanted = spec.processes.clone();
    // Who cannot hear the other hosts yet would believe itself alone.
    let to_others = spec.activity.as_ref().and_then(|activity| spec.links.get(&activity.link));
    if to_others.is_some_and(|link| !found.connected.contains(&link.tap())) {
        wanted.retain(|name, _| name.program != KEEPALIVED || found.processes.contains_key(name) && !is_new);
    }
    if is_new {
        let without = ObservedServices { processes: BTreeMap::new(), ..found.clone() };
        processes(&wanted, spec.reservations.as_ref(), &without, &mut steps);
    } else {
        processes(&wanted, spec.reservations.as_ref(), found, &mut steps);
        // A server that is only about to be started does not listen yet.
        let will_listen = !steps.iter().any(|step| matches!(step, Action::Start { .. }));
        steps.extend(spec.reservations.as_ref().filter(|_| will_listen).and_then(|from| stale_leases(from, found)));
    }
    plan.add(Some(name), steps);
}

fn ruleset(spec: &NamespaceSpec, there: &ObservedNamespace) -> Option<Action> {
    match &spec.ruleset {
        Some(ruleset) if there.ruleset.as_ref() != Some(&ruleset.fingerprint()) => {
            Some(Action::SetRuleset(ruleset.clone()))
        }
        None if there.ruleset.is_some() => Some(Action::DeleteRuleset),
        _ => None,
    }
}

fn set_parameter((name, value): (&String, &String), there: &ObservedNamespace) -> Option<Action> {
    let is_set = there.sysctls.get(name) == Some(value);
    (!is_set).then(|| Action::SetParameter { name: name.clone(), value: value.clone() })
}

/// `is_there` says whether there is a link of the name, `remains` that it is the one that is wanted.
fn link(name: &str, wanted: &LinkSpec, is_there: bool, remains: Option<&ObservedLink>, steps: &mut Vec<Action>) {
    let name = || name.to_owned();
    let Some(link) = remains else {
        if is_there {
            steps.push(Action::DeleteLink { name: name() });
        }
        steps.push(Action::CreateLink { name: name(), spec: wanted.clone() });
        return;
    };
    if link.mtu != wanted.mtu {
        steps.push(Action::SetMtu { name: name(), tap: wanted.tap(), mtu: wanted.mtu });
    }
    if !link.up {
        steps.push(Action::SetUp { name: name() });
    }
}

/// Whether what moves is in this namespace, as far as whoever moves it says.
pub fn is_here(activity: &Activity, there: &ObservedNamespace) -> bool {
    there.links.get(&activity.link).is_some_and(|link| link.addresses.contains(&activity.address))
}

/// What moves comes and goes with the address that says where it is. Whoever moves it begins with that one, so that what is missing
/// here has been taken, and what is here too much has been left.
fn addresses(link: &str, wanted: &LinkSpec, is_active: bool, there: Option<&ObservedLink>, steps: &mut Vec<Action>) {
    let none = BTreeSet::new();
    let there = there.map_or(&none, |there| &there.addresses);
    let announce = wanted.announces;
    let moving = wanted.moving.iter().filter(|_| is_active);
    let wanted: BTreeSet<IpNet> = wanted.addresses.iter().chain(moving).copied().collect();
    let gone = there.difference(&wanted);
    steps.extend(gone.map(|address| Action::DeleteAddress { link: link.to_owned(), address: *address }));
    let new = wanted.difference(there);
    steps.extend(new.map(|address| Action::AddAddress { link: link.to_owned(), address: *address, announce }));
}

/// Routes go with their link, and come anew with it.
fn routes(
    (spec, is_active): (&NamespaceSpec, bool),
    there: &ObservedNamespace,
    is_new: impl Fn(&str) -> bool,
    steps: &mut Vec<Action>,
) {
    let is_wanted = |destination| is_active && spec.routes.contains_key(destination);
    let gone = there.routes.iter().filter(|(destination, _)| !is_wanted(*destination));
    let remains = gone.filter(|(_, route)| route.next_hops.iter().all(|hop| !is_new(&hop.link)));
    steps.extend(remains.map(|(destination, _)| Action::DeleteRoute { destination: *destination }));
    let moves = spec.activity.is_some();
    for (destination, route) in spec.routes.iter().filter(|_| is_active) {
        let is_there = there.routes.get(destination) == Some(route);
        if !is_there || route.next_hops.iter().any(|hop| is_new(&hop.link)) {
            steps.push(Action::SetRoute { destination: *destination, route: route.clone(), moves });
        }
    }
}

fn processes(
    wanted: &BTreeMap<ProcessName, ProcessSpec>,
    reservations: Option<&Reservations>,
    found: &ObservedServices,
    steps: &mut Vec<Action>,
) {
    for (name, spec) in wanted {
        let (files_read, meant) = (spec.files_read(), spec.files_fingerprint());
        let has_read_them = meant.is_none() || found.files.get(&files_read) == meant.as_ref();
        let mut must_reload = !has_read_them;
        for (file, wanted) in &spec.files {
            let path = spec.folder.join(file);
            let text = found.files.get(&path);
            if text == Some(&wanted.text) || (wanted.on_change == OnChange::Keep && text.is_some()) {
                continue;
            }
            must_reload |= wanted.on_change == OnChange::Reload;
            steps.push(Action::WriteFile { path, text: wanted.text.clone(), is_secret: wanted.is_secret });
        }
        let running = found.processes.get(name).map(Vec::as_slice).unwrap_or_default();
        let fingerprint = spec.fingerprint();
        let current = running.iter().find(|process| process.fingerprint == fingerprint);
        let others = running.iter().filter(|process| current.is_none_or(|current| current.pid != process.pid));
        steps.extend(others.map(|process| stop(name, process)));
        match current {
            None => {
                let leases = reservations.filter(|from| from.leases.parent() == Some(spec.folder.as_path()));
                steps.extend(leases.and_then(|from| nobodys_leases(from, found)));
                steps.push(Action::Start { name: name.clone(), spec: spec.clone() });
            }
            Some(process) if must_reload => steps.push(Action::Reload { name: name.clone(), pid: process.pid }),
            Some(_) => (),
        }
        // Last, so that whoever is interrupted tells it again.
        if let Some(meant) = meant.filter(|_| !has_read_them) {
            steps.push(Action::WriteFile { path: files_read, text: meant, is_secret: false });
        }
    }
}

/// A server that is about to be started would refuse to with more leases than addresses, and hears nothing of those in subnets that are
/// not its own any more.
fn nobodys_leases(from: &Reservations, found: &ObservedServices) -> Option<Action> {
    from.without_nobodys(found.files.get(&from.leases)?)?;
    Some(Action::DropLeases { from: from.clone() })
}

fn stale_leases(from: &Reservations, found: &ObservedServices) -> Option<Action> {
    let leases = from.releasable(found.files.get(&from.leases)?);
    (!leases.is_empty()).then(|| Action::ReleaseLeases { from: from.clone(), leases })
}

fn stop(name: &ProcessName, process: &ObservedProcess) -> Action {
    Action::Stop { name: name.clone(), pid: process.pid }
}

/// The files that are wanted, and whether each is its program's own to change: what has to be looked at.
pub fn files(wanted: &Services) -> BTreeMap<PathBuf, bool> {
    let of = |process: &ProcessSpec| {
        let file = |(name, file): (&String, &FileSpec)| (process.folder.join(name), file.on_change == OnChange::Keep);
        let files_read = process.files_fingerprint().map(|_| (process.files_read(), false));
        process.files.iter().map(file).chain(files_read).collect::<Vec<_>>()
    };
    wanted.programs().flat_map(of).collect()
}
