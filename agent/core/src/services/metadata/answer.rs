//! From a request to an answer.

use std::fmt::Display;

use super::{directory::Guest, ec2, openstack, path};

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code (RFC 9110 §15).
    pub status: u16,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A thing in the tree that guests read.
pub(super) enum Node {
    /// A line or several.
    Text(String),
    /// A document.
    Json(serde_json::Value),
    /// Something of the owner's.
    Bytes(Vec<u8>),
    /// Other things by name, and how each is listed.
    Folder(Vec<Entry>),
}

/// A thing in a folder.
pub(super) struct Entry {
    /// What it is asked for by.
    pub(super) name: String,
    /// How the folder lists it.
    pub(super) listed: String,
    /// The thing.
    pub(super) node: Node,
}

impl Entry {
    /// A thing that is listed by its name; folders with a slash, as EC2 has it.
    pub(super) fn new(name: &str, node: Node) -> Self {
        let slash = if matches!(node, Node::Folder(_)) { "/" } else { "" };
        Self { name: name.to_owned(), listed: format!("{name}{slash}"), node }
    }
}

impl Answer {
    /// A sentence for people, with a status that says the same to programs.
    pub fn sentence(status: u16, sentence: impl Display) -> Self {
        Self { status, content_type: TEXT, body: format!("{sentence}\n").into_bytes() }
    }

    /// Answers a request of `guest` for `target`, the path as it was sent.
    pub fn to(method: &str, target: &str, guest: Guest<'_>) -> Self {
        if !matches!(method, "GET" | "HEAD") {
            return Self::sentence(405, "Metadata can only be read: GET or HEAD.");
        }
        let segments = match path::segments(target) {
            Ok(segments) => segments,
            Err(reason) => return Self::sentence(400, reason),
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let node = match &segments[..] {
            ["openstack"] => Some(openstack::versions()),
            ["openstack", version, rest @ ..] => openstack::document(version, guest).and_then(|node| find(node, rest)),
            [] | ["ec2"] => Some(ec2::versions()),
            ["ec2", version, rest @ ..] | [version, rest @ ..] => {
                ec2::tree(version, guest).and_then(|node| find(node, rest))
            }
        };
        node.map_or_else(|| Self::sentence(404, "There is no such metadata."), Self::from)
    }
}

fn find(node: Node, segments: &[&str]) -> Option<Node> {
    let [first, rest @ ..] = segments else { return Some(node) };
    let Node::Folder(entries) = node else { return None };
    find(entries.into_iter().find(|entry| entry.name == *first)?.node, rest)
}

impl From<Node> for Answer {
    fn from(node: Node) -> Self {
        let (content_type, body) = match node {
            Node::Text(text) => (TEXT, text.into_bytes()),
            Node::Json(value) => (JSON, value.to_string().into_bytes()),
            Node::Bytes(bytes) => (BYTES, bytes),
            Node::Folder(entries) => {
                let lines: Vec<String> = entries.into_iter().map(|entry| entry.listed).collect();
                (TEXT, lines.join("\n").into_bytes())
            }
        };
        Self { status: 200, content_type, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::metadata::directory::tests::instance;

    fn get(target: &str) -> (u16, String) {
        ask("GET", target)
    }

    fn ask(method: &str, target: &str) -> (u16, String) {
        let instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        let guest = Guest { instance: &instance, interface: &instance.interfaces[0] };
        let answer = Answer::to(method, target, guest);
        (answer.status, String::from_utf8(answer.body).expect("text"))
    }

    #[test]
    fn every_way_to_write_a_path_leads_to_the_same_thing() {
        for target in [
            "/latest/meta-data/instance-id",
            "//latest/meta-data/instance%2did/?x=1",
            "/ec2/2009-04-04/meta-data/instance-id",
        ] {
            assert_eq!(get(target), (200, "i-1".to_owned()), "{target}");
        }
    }

    #[test]
    fn nothing_is_found_by_climbing() {
        for target in
            ["/latest/../../etc/passwd", "/latest/meta-data/%2e%2e/%2e%2e/etc/passwd", "/latest/meta-data/hostname/x"]
        {
            assert_eq!(get(target).0, 404, "{target}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_reason() {
        assert_eq!(get("/latest/%zz").0, 400);
        for method in ["PUT", "POST", "DELETE", "CONNECT", "get"] {
            assert_eq!(ask(method, "/latest/api/token").0, 405, "{method}");
        }
    }
}
