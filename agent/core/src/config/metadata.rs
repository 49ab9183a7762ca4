//! Nova's metadata service, which can answer instead of ours: the options of Neutron's metadata agent (`metadata_agent.ini`), with its
//! names and defaults.

use super::read::Reader;
use crate::services::metadata::{Protocol, Upstream};

pub(super) const OPTIONS: &[&str] =
    &["nova_metadata_host", "nova_metadata_port", "nova_metadata_protocol", "metadata_proxy_shared_secret"];

const PORT: u16 = 8775;
const SECRET: &str = "metadata_proxy_shared_secret";

impl Reader<'_> {
    /// Nova's metadata service; none unless `nova_metadata_host` says where it is.
    pub(super) fn nova_metadata(&mut self) -> Option<Upstream> {
        let host = self.text("DEFAULT", "nova_metadata_host")?;
        let port = self.parsed("DEFAULT", "nova_metadata_port", "a port number").unwrap_or(PORT);
        let protocol = self.text("DEFAULT", "nova_metadata_protocol").unwrap_or_else(|| "http".to_owned());
        if protocol != "http" {
            self.problem("DEFAULT", "nova_metadata_protocol", "only http is spoken with Nova's metadata service");
        }
        let secret = self.text("DEFAULT", SECRET).unwrap_or_default();
        if secret.is_empty() {
            self.secret_problem(
                "DEFAULT",
                SECRET,
                "missing: Nova believes nobody who does not have the secret that it has",
            );
        }
        Some(Upstream { protocol: Protocol::Http, host, port, shared_secret: secret.into() })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read::tests::{MINIMAL, read};

    #[test]
    fn novas_metadata_service_is_found_by_the_options_of_neutrons_metadata_agent() {
        let options =
            "nova_metadata_host = controller\nnova_metadata_port = 80\nmetadata_proxy_shared_secret = geheim\n";
        let (config, _) = read(&format!("[DEFAULT]\n{options}{MINIMAL}")).expect("valid");
        let nova = config.services.nova_metadata.expect("it is configured");
        assert_eq!((nova.host.as_str(), nova.port, nova.shared_secret.expose()), ("controller", 80, "geheim"));
        let (config, _) = read(MINIMAL).expect("valid");
        assert_eq!(config.services.nova_metadata, None);
    }

    #[test]
    fn without_the_secret_or_by_https_nova_is_not_to_be_had() {
        let options = "nova_metadata_host = controller\nnova_metadata_protocol = https\n";
        let problems = read(&format!("[DEFAULT]\n{options}{MINIMAL}")).expect_err("invalid");
        assert!(problems.iter().any(|problem| problem.contains("only http is spoken")), "{problems:?}");
        assert!(
            problems.iter().any(|problem| problem.contains("metadata_proxy_shared_secret: missing")),
            "{problems:?}"
        );
    }
}
