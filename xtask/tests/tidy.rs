//! Rules of the tree that no compiler checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file that is longer is about more than one thing.
const LINES_MAX: usize = 400;

/// Crates that only one folder may know, so that everything else speaks our own types.
const ONLY_USERS: [(&str, &[&str]); 6] = [
    ("rtnetlink::", &["agent/src/kernel"]),
    (
        "aya::",
        &[
            "agent/src/datapath",
            "agent/build.rs",
            "ebpf/abi/src/lib.rs",
            "tests/datapath/harness",
            "tests/src/lab/host.rs",
            "tests/src/bench/datapath/programs.rs",
            "tests/src/verifier",
            "tests/lab/full_maps.rs",
        ],
    ),
    ("lapin::", &["agent/src/control/neutron/messaging"]),
    ("notify::", &["agent/src/control/file.rs"]),
    ("/proc/sys", &["agent/src/kernel", "tests/src/guest", "tests/src/lab/namespace.rs"]),
    ("thread::sleep", &["tests/src/wait.rs"]),
];

/// Only running out of memory causes this one.
const UNTESTABLE: &str = "RewriteFailed";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_owned()
}

/// Rust files by their path in the checkout, with their text.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for folder in ["agent", "ebpf", "tests", "xtask"] {
        collect(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 50, "the search does not find the sources");
    sources
}

fn collect(folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the checkout") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            sources.push((name, fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Variants of an enum with explicit numbers, in the order of the file.
fn variants(path: &str) -> Vec<String> {
    let text = read(path);
    let variant = |line: &str| {
        let (name, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
        number.parse::<u32>().ok().map(|_| name.to_owned())
    };
    let variants: Vec<String> = text.lines().filter_map(variant).collect();
    assert!(!variants.is_empty(), "{path} has no numbered variants");
    variants
}

/// As the names are shown and documented: `UnknownVtep` is `unknown-vtep`.
fn kebab_case(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(character.to_lowercase());
    }
    text
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path} has no //! comment at its top");
    }
}

#[test]
fn no_file_is_too_long() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines, more than {LINES_MAX}");
    }
}

#[test]
fn what_has_only_one_user_keeps_it() {
    for (path, text) in sources().iter().filter(|(path, _)| path != "xtask/tests/tidy.rs") {
        for (word, users) in ONLY_USERS {
            let is_user = users.iter().any(|user| path.starts_with(user));
            // `overlane_core::` must not count as `core::`.
            let uses = text
                .match_indices(word)
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            assert!(is_user || !uses, "{path} uses {word}, which is for {users:?} only");
        }
    }
}

#[test]
fn only_the_map_files_of_the_programs_name_maps() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("ebpf/src/")) {
        assert!(path.starts_with("ebpf/src/maps") || !text.contains("btf_map"), "{path} declares a map");
    }
}

#[test]
fn every_drop_reason_and_outcome_is_documented() {
    let documentation = read("docs/datapath.md");
    for path in ["ebpf/abi/src/drop_reason.rs", "ebpf/abi/src/outcome.rs"] {
        for name in variants(path).iter().map(|name| kebab_case(name)) {
            assert!(documentation.contains(&format!("`{name}`")), "docs/datapath.md does not explain `{name}`");
        }
    }
}

#[test]
fn every_drop_reason_has_a_test() {
    let tests: String =
        sources().into_iter().filter(|(path, _)| path.starts_with("tests/datapath")).map(|(_, text)| text).collect();
    for reason in variants("ebpf/abi/src/drop_reason.rs").iter().filter(|reason| *reason != UNTESTABLE) {
        assert!(tests.contains(&format!("DropReason::{reason}")), "no datapath test expects {reason}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/datapath.md",
        "docs/development.md",
        "docs/security.md",
    ];
    for document in documents {
        let text = read(document);
        let folder = root().join(document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap_or_default();
            let found = folder.parent().expect("a document is in a folder").join(path);
            assert!(found.exists(), "{document} links to {target}, which is not there");
        }
    }
}
