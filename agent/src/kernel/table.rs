//! A table of nf_tables that is put in place whole: which version of it is there, and whether anybody has changed it since.
//!
//! Both are written into the table, as names of empty chains, so that every agent and every operator can read them: what was
//! asked for (`version-…`), and a hash of what the kernel has made of it (`as-…`), which is there only when all is done.

use std::io;

use overlane_core::services::fingerprint_of;

use super::{
    netfilter::{Attributes, NFPROTO_INET, find, values},
    nftables::{CREATE, Nftables, Request},
};

/// What the names of the two chains begin with.
const VERSION: &str = "version-";
const SEAL: &str = "as-";

/// Attributes: the first of every object is its table; `NFTA_CHAIN_NAME`, `NFTA_SET_NAME`, `NFTA_SET_ELEM_LIST_SET` and
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const SET_NAME: u16 = 2;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;

/// A table as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableSeen {
    /// The version of this fingerprint, unchanged.
    Version(String),
    /// One that somebody has changed, or that was not finished.
    Other,
}

/// The name of the chain that tells the version of a table.
pub fn version_chain(fingerprint: &str) -> String {
    format!("{VERSION}{fingerprint}")
}

/// Looks at a table of the family `inet` in the namespace that the calling thread is in; `None` where there is no such table.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn look_at_table(table: &str) -> io::Result<Option<TableSeen>> {
    let Some(content) = Content::read(table)? else { return Ok(None) };
    let seal = content.hash();
    let seen = content.version.filter(|_| content.seal == Some(seal));
    Ok(Some(seen.map_or(TableSeen::Other, TableSeen::Version)))
}

/// Writes into a table that it is finished, and what it is now.
///
/// # Errors
/// When there is no such table, or the kernel refuses.
pub fn seal_table(table: &str) -> io::Result<()> {
    let content = Content::read(table)?.ok_or(io::ErrorKind::NotFound)?;
    let seal = format!("{SEAL}{}", content.hash());
    let chain = Attributes::default().text(TABLE, table).text(CHAIN_NAME, &seal);
    Nftables::connect(NFPROTO_INET)?.transact(&[(Request::NewChain, CREATE, chain)])
}

struct Content {
    version: Option<String>,
    seal: Option<String>,
    /// Everything else, in an order that the kernel does not choose.
    pieces: Vec<Vec<u8>>,
}

impl Content {
    fn read(table: &str) -> io::Result<Option<Self>> {
        let nftables = Nftables::connect(NFPROTO_INET)?;
        let of_table = |object: &Vec<u8>| text(object, TABLE).as_deref() == Some(table);
        let list = |request, filter: &Attributes| -> io::Result<Vec<Vec<u8>>> {
            Ok(nftables.list(request, filter)?.into_iter().filter(of_table).collect())
        };
        let (everything, filter) = (Attributes::default(), Attributes::default().text(TABLE, table));
        let chains = list(Request::GetChain, &everything)?;
        if chains.is_empty() {
            return Ok(None);
        }
        let mut content = Self { version: None, seal: None, pieces: Vec::new() };
        for chain in chains {
            let name = text(&chain, CHAIN_NAME).unwrap_or_default();
            match (name.strip_prefix(VERSION), name.strip_prefix(SEAL)) {
                (Some(version), _) => content.version = Some(version.to_owned()),
                (_, Some(seal)) => content.seal = Some(seal.to_owned()),
                _ => content.pieces.push(chain),
            }
        }
        let sets = list(Request::GetSet, &filter)?;
        for set in &sets {
            let Some(name) = text(set, SET_NAME) else { continue };
            let filter = Attributes::default().text(TABLE, table).text(ELEMENTS_SET, &name);
            let answers = list(Request::GetElement, &filter)?;
            let elements = answers.iter().filter_map(|answer| find(answer, ELEMENTS)).flat_map(values);
            let mut elements: Vec<Vec<u8>> = elements.map(<[u8]>::to_vec).collect();
            // A table of hashes grows when it likes to, and is in another order then.
            elements.sort_unstable();
            content.pieces.extend(elements);
        }
        content.pieces.extend(sets);
        content.pieces.extend(list(Request::GetRule, &filter)?);
        Ok(Some(content))
    }

    fn hash(&self) -> String {
        fingerprint_of(self.pieces.iter().map(Vec::as_slice))
    }
}

fn text(object: &[u8], kind: u16) -> Option<String> {
    let text = find(object, kind)?.strip_suffix(&[0])?;
    Some(String::from_utf8_lossy(text).into_owned())
}
