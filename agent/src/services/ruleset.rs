//! The nf_tables tables of routers. Everything here happens in the namespace that the calling thread is in.

use anyhow::Context as _;
use nftables::{
    helper::{self, DEFAULT_ARGS, DEFAULT_NFT, NftablesError},
    schema::{Chain, NfCmd, NfListObject, NfObject, Nftables, Table},
    types::NfFamily,
};
use overlane_core::services::{ROUTER_TABLE, Ruleset};

use crate::kernel::{TableSeen, cut, look_at_table, seal_table, version_chain};

/// What stands for a table that has to be put in place again, whatever it is: no fingerprint is like it.
const CHANGED: &str = "changed";

/// The fingerprint of the table that is there.
pub(super) fn fingerprint() -> anyhow::Result<Option<String>> {
    let seen = look_at_table(ROUTER_TABLE).context("asking nf_tables")?;
    Ok(seen.map(|seen| match seen {
        TableSeen::Version(fingerprint) => fingerprint,
        TableSeen::Other => CHANGED.to_owned(),
    }))
}

/// Puts a table in the place of the one that is there, in one transaction, and cuts the connections that it would not have
/// translated as they are. Only then is it finished: an agent that dies in between is followed by one that begins again.
pub(super) fn put(ruleset: &Ruleset) -> anyhow::Result<()> {
    let wanted: Nftables<'_> = serde_json::from_str(&ruleset.json).context("reading the table that is wanted")?;
    let mut objects = removal(&ruleset.table).to_vec();
    objects.extend(wanted.objects.iter().cloned());
    objects.push(add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: ruleset.table.clone().into(),
        name: version_chain(&ruleset.fingerprint()).into(),
        ..Chain::default()
    })));
    apply(objects)?;
    let n_cut = cut(|connection| !ruleset.translations.hold_for(connection)).context("cutting connections")?;
    if n_cut > 0 {
        tracing::info!(connections = n_cut, "cut what is translated to other addresses now");
    }
    seal_table(&ruleset.table).context("marking the table as finished")
}

/// Removes the table that is there.
pub(super) fn remove() -> anyhow::Result<()> {
    apply(removal(ROUTER_TABLE).to_vec())
}

/// What deletes a table whether or not it is there: adding one that is there changes nothing.
fn removal(table: &str) -> [NfObject<'static>; 2] {
    let table = NfListObject::Table(Table { family: NfFamily::INet, name: table.to_owned().into(), handle: None });
    [add(table.clone()), NfObject::CmdObject(NfCmd::Delete(table))]
}

const fn add(object: NfListObject<'_>) -> NfObject<'_> {
    NfObject::CmdObject(NfCmd::Add(object))
}

fn apply(objects: Vec<NfObject<'_>>) -> anyhow::Result<()> {
    let ruleset = Nftables { objects: objects.into() };
    helper::apply_ruleset_with_args(&ruleset, DEFAULT_NFT, DEFAULT_ARGS).map_err(|error| match error {
        NftablesError::NftExecution { inner, .. } if inner.kind() == std::io::ErrorKind::NotFound => {
            anyhow::anyhow!("nft is not installed (on Debian: apt-get install nftables)")
        }
        NftablesError::NftFailed { stderr, .. } => anyhow::anyhow!("nft refuses: {}", stderr.trim()),
        error => error.into(),
    })
}
