//! The tree that Amazon's EC2 has made the custom, as far as Nova serves it and this cloud knows it. Every version has the same.

use std::net::IpAddr;

use super::{
    answer::{Entry, Node},
    directory::Guest,
};

/// The versions that Nova lists, and the newest by its nickname.
const VERSIONS: [&str; 10] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
];

/// `/`.
pub(super) fn versions() -> Node {
    Node::Text(VERSIONS.join("\n"))
}

/// `/VERSION`.
pub(super) fn tree(version: &str, guest: Guest<'_>) -> Option<Node> {
    VERSIONS.contains(&version).then(|| {
        let user_data = guest.instance.user_data.clone().map(|bytes| Entry::new("user-data", Node::Bytes(bytes)));
        Node::Folder([Entry::new("meta-data", meta_data(guest))].into_iter().chain(user_data).collect())
    })
}

fn meta_data(Guest { instance, interface }: Guest<'_>) -> Node {
    let text = |name, text: &str| Entry::new(name, Node::Text(text.to_owned()));
    let mut entries = vec![
        text("ami-launch-index", "0"),
        text("hostname", &instance.hostname),
        text("instance-action", "none"),
        text("instance-id", &instance.id),
        text("local-hostname", &instance.hostname),
        text("public-hostname", &instance.hostname),
        text("security-groups", &instance.security_groups.join("\n")),
    ];
    let mut ipv4 = interface.fixed_ips.iter().filter(|fixed_ip| fixed_ip.address.is_ipv4());
    if let Some(first) = ipv4.clone().next() {
        entries.push(text("local-ipv4", &first.address.to_string()));
    }
    let floating_ip = ipv4.find_map(|fixed_ip| fixed_ip.floating_ip).filter(IpAddr::is_ipv4);
    // Nova has it empty where there is none, and cloud-init takes what is listed.
    entries.push(text("public-ipv4", &floating_ip.map(|address| address.to_string()).unwrap_or_default()));
    if let Some(zone) = &instance.availability_zone {
        entries.push(Entry::new("placement", Node::Folder(vec![text("availability-zone", zone)])));
    }
    if !instance.keys.is_empty() {
        let key = |(index, (name, key)): (usize, (&String, &String))| Entry {
            name: index.to_string(),
            // EC2 lists keys by number and name, and has a folder for each number.
            listed: format!("{index}={name}"),
            node: Node::Folder(vec![text("openssh-key", key)]),
        };
        let keys = instance.keys.iter().enumerate().map(key).collect();
        entries.push(Entry::new("public-keys", Node::Folder(keys)));
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Node::Folder(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::metadata::{Answer, Instance, directory::tests::instance};

    fn full() -> Instance {
        let mut instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        instance.keys.extend(
            [("a key", "ssh-ed25519 AAAA"), ("b", "ssh-rsa BBBB")].map(|(name, key)| (name.to_owned(), key.to_owned())),
        );
        instance.availability_zone = Some("nova".to_owned());
        instance.user_data = Some(vec![0, 1, 0xff]);
        instance.security_groups = vec!["default".to_owned(), "web".to_owned()];
        instance.interfaces[0].fixed_ips[0].floating_ip = "203.0.113.7".parse().ok();
        instance
    }

    fn get(instance: &Instance, target: &str) -> Answer {
        Answer::to("GET", target, Guest { instance, interface: &instance.interfaces[0] })
    }

    fn text(instance: &Instance, target: &str) -> String {
        let answer = get(instance, target);
        assert_eq!(answer.status, 200, "{target}");
        String::from_utf8(answer.body).expect("text")
    }

    #[test]
    fn folders_list_what_is_in_them() {
        let instance = full();
        assert!(text(&instance, "/").starts_with("1.0\n") && text(&instance, "/").ends_with("2009-04-04\nlatest"));
        assert_eq!(text(&instance, "/2009-04-04/"), "meta-data/\nuser-data");
        assert_eq!(
            text(&instance, "/latest/meta-data/"),
            "ami-launch-index\nhostname\ninstance-action\ninstance-id\nlocal-hostname\nlocal-ipv4\nplacement/\n\
             public-hostname\npublic-ipv4\npublic-keys/\nsecurity-groups"
        );
        assert_eq!(text(&instance, "/latest/meta-data/public-keys/"), "0=a key\n1=b");
        assert_eq!(text(&instance, "/latest/meta-data/public-keys/1"), "openssh-key");
    }

    #[test]
    fn everything_that_is_listed_can_be_read() {
        fn read(instance: &Instance, path: &str) {
            for line in text(instance, path).lines() {
                let name = line.split('=').next().expect("the first part");
                let child = format!("{path}{name}");
                assert_eq!(get(instance, &child).status, 200, "{child}");
                if line.ends_with('/') {
                    read(instance, &child);
                }
            }
        }
        read(&full(), "/latest/meta-data/");
    }

    #[test]
    fn values_are_those_of_the_machine() {
        let instance = full();
        let values = [
            "local-ipv4",
            "public-ipv4",
            "placement/availability-zone",
            "public-keys/0/openssh-key",
            "security-groups",
        ]
        .map(|name| text(&instance, &format!("/latest/meta-data/{name}")));
        assert_eq!(values, ["10.0.0.5", "203.0.113.7", "nova", "ssh-ed25519 AAAA", "default\nweb"]);
    }

    #[test]
    fn user_data_is_given_byte_by_byte_and_is_not_there_when_there_is_none() {
        let answer = get(&full(), "/latest/user-data");
        assert_eq!((answer.content_type, answer.body), ("application/octet-stream", vec![0, 1, 0xff]));
        let bare = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        assert_eq!(get(&bare, "/latest/user-data").status, 404);
        assert_eq!(text(&bare, "/latest"), "meta-data/");
    }

    #[test]
    fn an_unknown_version_is_not_found() {
        assert_eq!(get(&full(), "/2020-01-01/meta-data/").status, 404);
    }
}
