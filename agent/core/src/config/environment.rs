//! Options that environment variables stand for.

use super::read::{Reader, is_known};
use crate::oslo_ini::{Entry, Place};

impl Reader<'_> {
    /// Environment variables that stand for options which are used.
    pub(super) fn environment(&self) -> Vec<String> {
        let entries = self.settings.entries().iter().filter(|entry| is_known(entry));
        let name = |entry: &Entry| match &entry.place {
            Place::Variable(name) => Some(name.clone()),
            Place::Line { .. } => None,
        };
        entries.filter_map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{
        config::{Config, Control, SystemDefaults, read::tests::MINIMAL},
        oslo_ini::Settings,
    };

    #[test]
    fn the_environment_wins_and_is_named_where_it_counts_or_is_wrong() {
        let read = |variables: &[(&str, &str)]| {
            let mut settings = Settings::default();
            assert_eq!(settings.add_file(Path::new("/etc/o/a.ini"), MINIMAL), []);
            settings.add_environment(variables.iter().copied());
            Config::from_settings(&settings, &SystemDefaults::default())
        };
        let variables = [("OS_VXLAN__TTL", "9"), ("OS_OVERLANE__TOPOLOGY", "u.toml"), ("OS_DATABASE__CONNECTION", "x")];
        let (config, notes) = read(&variables).expect("valid");
        assert_eq!(config.vxlan.expect("on").ttl, Some(9));
        // A relative path begins where the program was started, as there is no file that it could stand in.
        assert_eq!(config.control, Control::File("u.toml".into()));
        assert_eq!(config.environment, ["OS_VXLAN__TTL", "OS_OVERLANE__TOPOLOGY"]);
        assert_eq!(
            notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["environment variable OS_DATABASE__CONNECTION: [database] connection is not used"]
        );
        let secret = ("OS_DEFAULT__TRANSPORT_URL", "rabbit://u:s3cret@h:no");
        let problems = read(&[("OS_VXLAN__TTL", "300"), ("OS_OVERLANE__CONTROL", "neutron"), secret]);
        let problems = problems.expect_err("invalid").to_string();
        assert!(problems.contains("environment variable OS_VXLAN__TTL: [vxlan] ttl = 300: expected"), "{problems}");
        assert!(problems.contains("environment variable OS_DEFAULT__TRANSPORT_URL: ") && !problems.contains("s3cret"));
    }
}
