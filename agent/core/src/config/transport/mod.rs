//! How to reach the message broker: `[DEFAULT] transport_url` and `[oslo_messaging_rabbit]`, with the meaning and the defaults
//! that oslo.messaging gives them (`oslo_messaging/transport.py`, `oslo_messaging/_drivers/impl_rabbit.py`).

mod secret;
mod url;

use std::{path::PathBuf, time::Duration};

use super::read::Reader;
use crate::{oslo_ini::Settings, problem::Problems};

pub use secret::Secret;
pub use url::{Broker, TransportUrl};

/// The options of `[oslo_messaging_rabbit]` that are used.
pub(super) const RABBIT_OPTIONS: &[&str] = &[
    "amqp_auto_delete",
    "amqp_durable_queues",
    "heartbeat_timeout_threshold",
    "kombu_reconnect_delay",
    "rabbit_ha_queues",
    "rabbit_interval_max",
    "rabbit_login_method",
    "rabbit_qos_prefetch_count",
    "rabbit_quorum_delivery_limit",
    "rabbit_quorum_max_memory_bytes",
    "rabbit_quorum_max_memory_length",
    "rabbit_quorum_queue",
    "rabbit_quroum_max_memory_bytes",
    "rabbit_quroum_max_memory_length",
    "rabbit_retry_backoff",
    "rabbit_retry_interval",
    "rabbit_transient_queues_ttl",
    "rabbit_transient_quorum_queue",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_enforce_hostname_verification",
    "ssl_key_file",
];
/// The options of `[DEFAULT]` that are used.
pub(super) const DEFAULT_OPTIONS: &[&str] =
    &["control_exchange", "rpc_response_max_timeout", "rpc_response_timeout", "transport_url"];

const RABBIT: &str = "oslo_messaging_rabbit";

/// How to reach the broker, and how its objects are declared. They are shared with the servers, which declare them in the same
/// way: what differs from theirs is refused by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// The brokers of one cluster, and the virtual host (`transport_url`).
    pub url: TransportUrl,
    /// TLS settings; `None` without `ssl`.
    pub tls: Option<TlsConfig>,
    /// How the password is sent (`rabbit_login_method`).
    pub login: LoginMethod,
    /// The exchange of all directed messages (`control_exchange`).
    pub exchange: String,
    /// How queues and exchanges are declared.
    pub queues: QueueConfig,
    /// How the connection is looked after.
    pub connection: ConnectionConfig,
    /// How long an answer is waited for at first, and once there has been one (`rpc_response_timeout`).
    pub response_timeout: Duration,
    /// How long at most, after answers to such questions have not come in time (`rpc_response_max_timeout`).
    pub response_max_timeout: Duration,
}

/// TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates of the authorities that may sign the broker's (`ssl_ca_file`). Without them it is not verified, as with the
    /// Linux bridge agent.
    pub ca_file: Option<PathBuf>,
    /// This host's certificate (`ssl_cert_file`) and key (`ssl_key_file`), for brokers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the broker's certificate must be for the name in the URL (`ssl_enforce_hostname_verification`).
    pub verify_hostname: bool,
}

/// How the password is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginMethod {
    /// In a table.
    #[default]
    AmqPlain,
    /// In a text.
    Plain,
    /// Not at all: the certificate says who we are.
    External,
}

/// How queues and exchanges are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The exchange and queues of directed messages outlive the broker (`amqp_durable_queues`, and `rabbit_quorum_queue`).
    pub durable: bool,
    /// They go with their last user (`amqp_auto_delete`).
    pub auto_delete: bool,
    /// Classic mirrored queues (`rabbit_ha_queues`).
    pub mirrored: bool,
    /// Queues of directed messages are quorum queues (`rabbit_quorum_queue`).
    pub quorum: Option<QuorumConfig>,
    /// So are fan-out and reply queues, and fan-out exchanges are durable (`rabbit_transient_quorum_queue`).
    pub transient_quorum: bool,
    /// How long fan-out and reply queues live without anybody who reads them (`rabbit_transient_queues_ttl`).
    pub transient_ttl: Duration,
    /// Messages that the broker sends ahead (`rabbit_qos_prefetch_count`); 0 leaves it to the agent.
    pub prefetch: u16,
}

/// Limits of quorum queues; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumConfig {
    /// Deliveries of one message (`rabbit_quorum_delivery_limit`).
    pub delivery_limit: u32,
    /// Messages in memory (`rabbit_quorum_max_memory_length`, also under its misspelt name).
    pub max_memory_length: u32,
    /// Bytes in memory (`rabbit_quorum_max_memory_bytes`, also under its misspelt name).
    pub max_memory_bytes: u32,
}

/// How the connection is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// The connection is given up after this time without a sign of life (`heartbeat_timeout_threshold`, in seconds; 0 is never).
    pub heartbeat_secs: u16,
    /// The pause after a loss is up to this long (`kombu_reconnect_delay`).
    pub reconnect_delay: Duration,
    /// The pause after all brokers have refused, which grows by `retry_backoff` each time up to `retry_max`
    /// (`rabbit_retry_interval`, `rabbit_retry_backoff`, `rabbit_interval_max`).
    pub retry_interval: Duration,
    /// What the pause grows by.
    pub retry_backoff: Duration,
    /// How long the pause may be.
    pub retry_max: Duration,
}

impl TransportConfig {
    /// How to reach the message broker, if the settings name one.
    ///
    /// # Errors
    /// [`Problems`]: all of them.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, Problems> {
        let mut reader = Reader::new(settings);
        let transport = reader.transport();
        if reader.problems.is_empty() { Ok(transport) } else { Err(Problems(reader.problems)) }
    }
}

impl Reader<'_> {
    /// How to reach the broker, if `transport_url` says where it is.
    pub(super) fn transport(&mut self) -> Option<TransportConfig> {
        let text = self.text("DEFAULT", "transport_url")?;
        let url = match TransportUrl::parse(&text) {
            Ok(url) => url,
            Err(message) => {
                self.secret_problem("DEFAULT", "transport_url", &message);
                return None;
            }
        };
        let quorum = self.boolean(RABBIT, "rabbit_quorum_queue", false);
        let queues = QueueConfig {
            durable: self.boolean(RABBIT, "amqp_durable_queues", false) || quorum,
            auto_delete: self.boolean(RABBIT, "amqp_auto_delete", false),
            mirrored: self.boolean(RABBIT, "rabbit_ha_queues", false),
            quorum: quorum.then(|| self.quorum_limits()),
            transient_quorum: self.boolean(RABBIT, "rabbit_transient_quorum_queue", false),
            transient_ttl: self.seconds(RABBIT, "rabbit_transient_queues_ttl", 1800.0),
            prefetch: self.parsed(RABBIT, "rabbit_qos_prefetch_count", "a number of messages").unwrap_or(0),
        };
        let retry_interval = self.seconds(RABBIT, "rabbit_retry_interval", 1.0);
        let connection = ConnectionConfig {
            heartbeat_secs: self.parsed(RABBIT, "heartbeat_timeout_threshold", "a number of seconds").unwrap_or(60),
            reconnect_delay: self.seconds(RABBIT, "kombu_reconnect_delay", 1.0),
            retry_interval,
            retry_backoff: self.seconds(RABBIT, "rabbit_retry_backoff", 2.0),
            retry_max: self.seconds(RABBIT, "rabbit_interval_max", 30.0).max(retry_interval),
        };
        let tls = self.tls(&url);
        let login = self.login_method();
        let exchange = self.text("DEFAULT", "control_exchange").unwrap_or_else(|| "neutron".to_owned());
        let response_timeout = self.seconds("DEFAULT", "rpc_response_timeout", 60.0);
        let response_max_timeout = self.seconds("DEFAULT", "rpc_response_max_timeout", 600.0).max(response_timeout);
        Some(TransportConfig { url, tls, login, exchange, queues, connection, response_timeout, response_max_timeout })
    }

    fn tls(&mut self, url: &TransportUrl) -> Option<TlsConfig> {
        // What the URL says wins, as in oslo.messaging.
        let enabled = self.boolean(RABBIT, "ssl", false);
        let file = |reader: &Self, name| reader.text(RABBIT, name).map(PathBuf::from);
        let ca_file = file(self, "ssl_ca_file");
        let verify_hostname = self.boolean(RABBIT, "ssl_enforce_hostname_verification", false);
        let identity = match (file(self, "ssl_cert_file"), file(self, "ssl_key_file")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            // A file with both is common.
            (Some(certificate), None) => Some((certificate.clone(), certificate)),
            (None, Some(_)) => {
                self.problem(RABBIT, "ssl_key_file", "needs ssl_cert_file, the certificate that the key is for");
                None
            }
            (None, None) => None,
        };
        let tls = TlsConfig { ca_file, identity, verify_hostname };
        url.ssl.unwrap_or(enabled).then(|| url.tls_over(tls))
    }

    fn quorum_limits(&mut self) -> QuorumConfig {
        let mut limit = |names: &[&str]| {
            let given = names.iter().rfind(|name| self.text(RABBIT, name).is_some());
            given.and_then(|name| self.parsed(RABBIT, name, "a number; 0 is no limit")).unwrap_or(0)
        };
        QuorumConfig {
            delivery_limit: limit(&["rabbit_quorum_delivery_limit"]),
            max_memory_length: limit(&["rabbit_quroum_max_memory_length", "rabbit_quorum_max_memory_length"]),
            max_memory_bytes: limit(&["rabbit_quroum_max_memory_bytes", "rabbit_quorum_max_memory_bytes"]),
        }
    }

    fn login_method(&mut self) -> LoginMethod {
        match self.text(RABBIT, "rabbit_login_method").as_deref() {
            None | Some("AMQPLAIN") => LoginMethod::AmqPlain,
            Some("PLAIN") => LoginMethod::Plain,
            Some("EXTERNAL") => LoginMethod::External,
            Some(_) => {
                self.problem(RABBIT, "rabbit_login_method", "expected AMQPLAIN, PLAIN or EXTERNAL");
                LoginMethod::default()
            }
        }
    }

    fn seconds(&mut self, section: &str, name: &str, default: f64) -> Duration {
        let expected = "a number of seconds";
        let seconds = self.parsed(section, name, expected).unwrap_or(default);
        Duration::try_from_secs_f64(seconds).unwrap_or_else(|_| {
            self.problem(section, name, format_args!("expected {expected}"));
            Duration::ZERO
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<TransportConfig, Vec<String>> {
        let mut settings = Settings::default();
        assert_eq!(settings.add_file(Path::new("n.conf"), text), []);
        TransportConfig::from_settings(&settings)
            .map(|config| config.expect("there is a URL"))
            .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_options_everything_is_as_in_oslo_messaging() {
        let config = read("[DEFAULT]\ntransport_url = rabbit://u:p@h\n").expect("valid");
        assert_eq!(
            (config.exchange.as_str(), config.login, config.tls.clone()),
            ("neutron", LoginMethod::AmqPlain, None)
        );
        assert!(!config.queues.durable && !config.queues.mirrored && config.queues.quorum.is_none());
        assert_eq!(config.queues.transient_ttl, Duration::from_secs(1800));
        assert_eq!((config.response_timeout.as_secs(), config.connection.heartbeat_secs), (60, 60));
        assert_eq!(config.connection.retry_max, Duration::from_secs(30));
    }

    #[test]
    fn modes_of_the_broker_are_read_under_all_their_names() {
        let text = "transport_url = rabbit://h\n[OSLO_MESSAGING_RABBIT]\nrabbit_quorum_queue = True\n\
                    rabbit_quroum_max_memory_length = 5\nrabbit_quorum_max_memory_bytes = 6\nrabbit_ha_queues = yes\n\
                    rabbit_login_method = PLAIN\nkombu_reconnect_delay = 0.5\n";
        let config = read(text).expect("valid");
        let limits = QuorumConfig { delivery_limit: 0, max_memory_length: 5, max_memory_bytes: 6 };
        assert!(config.queues.durable && config.queues.mirrored);
        assert_eq!((config.queues.quorum, config.login), (Some(limits), LoginMethod::Plain));
        assert_eq!(config.connection.reconnect_delay, Duration::from_millis(500));
    }

    #[test]
    fn tls_is_switched_on_by_an_option_or_by_the_url() {
        let options = "ssl_ca_file = /ca.pem\nssl_cert_file = /both.pem\n";
        let tls = |url: &str, ssl: &str| {
            let text = format!("transport_url = {url}\n[oslo_messaging_rabbit]\nssl = {ssl}\n{options}");
            read(&text).expect("valid").tls
        };
        let expected = TlsConfig {
            ca_file: Some("/ca.pem".into()),
            identity: Some(("/both.pem".into(), "/both.pem".into())),
            verify_hostname: false,
        };
        assert_eq!(tls("rabbit://h", "True"), Some(expected.clone()));
        assert_eq!(tls("rabbit://h/?ssl=1", "False"), Some(expected));
        assert_eq!(tls("rabbit://h/?ssl=0", "True"), None);
    }

    #[test]
    fn every_problem_is_named_and_no_password_with_it() {
        let text = "transport_url = rabbit://h\nrpc_response_timeout = -1\n[oslo_messaging_rabbit]\nssl = maybe\n\
                    rabbit_login_method = KERBEROS\nssl_key_file = /k\n";
        let problems = read(text).expect_err("invalid");
        assert_eq!(problems.len(), 4, "{problems:?}");
        let problems = read("transport_url = rabbit://u:secret@h:port/\n").expect_err("invalid").concat();
        assert!(problems.contains("n.conf:1: [DEFAULT] transport_url: ") && !problems.contains("secret"), "{problems}");
    }

    #[test]
    fn what_is_printed_of_a_configuration_holds_no_password() {
        let config = read("transport_url = rabbit://user:s3cret@h,other:s3cret2@i/v\n").expect("valid");
        let printed = format!("{config:?} {} {}", config.url, config.url.brokers[0]);
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}
