//! `transport_url`: `rabbit://user:password@host:port,user:password@host:port/virtual_host?option=value`.

use std::{fmt, path::PathBuf};

use super::{Secret, TlsConfig};

const DEFAULT_PORT: u16 = 5672;
/// Whom a broker that was just installed knows.
const DEFAULT_USER: &str = "guest";
const DEFAULT_VIRTUAL_HOST: &str = "/";
/// AMQP's names are no longer, in bytes.
const NAME_MAX: usize = 255;
/// Names of the RabbitMQ driver.
const SCHEMES: [&str; 2] = ["rabbit", "kombu"];

/// The brokers of one cluster, what is spoken with them about, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportUrl {
    /// At least one.
    pub brokers: Vec<Broker>,
    /// The broker's separate world for this cloud.
    pub virtual_host: String,
    /// Whether the URL asks for TLS; `None` when it does not say.
    pub ssl: Option<bool>,
    /// TLS options of the URL.
    tls: TlsOptions,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Name or address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// The password for it.
    pub password: Secret,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TlsOptions {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    verify_hostname: Option<bool>,
}

impl TransportUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, in words that hold none of its text but host names.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("expected rabbit://user:password@host:port/virtual_host")?;
        if !SCHEMES.contains(&scheme.split('+').next().unwrap_or_default()) {
            return Err("only RabbitMQ is supported: expected a URL that begins with rabbit://".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let virtual_host = match decode(path).ok_or("the virtual host is no valid percent-encoded text")? {
            empty if empty.is_empty() => DEFAULT_VIRTUAL_HOST.to_owned(),
            long if long.len() > NAME_MAX => return Err(format!("the virtual host is longer than {NAME_MAX} bytes")),
            virtual_host => virtual_host,
        };
        let (ssl, tls) = options(query)?;
        Ok(Self { brokers: brokers(authority)?, virtual_host, ssl, tls })
    }

    /// The TLS options of the URL, and for others those of the configuration.
    pub(super) fn tls_over(&self, configured: TlsConfig) -> TlsConfig {
        let TlsOptions { ca_file, cert_file, key_file, verify_hostname } = self.tls.clone();
        let identity = cert_file.map(|certificate| (certificate.clone(), key_file.unwrap_or(certificate)));
        TlsConfig {
            ca_file: ca_file.or(configured.ca_file),
            identity: identity.or(configured.identity),
            verify_hostname: verify_hostname.unwrap_or(configured.verify_hostname),
        }
    }
}

fn brokers(authority: &str) -> Result<Vec<Broker>, String> {
    let mut brokers: Vec<Broker> = Vec::new();
    // Who is named once is meant for those that follow.
    let (mut user, mut password) = (DEFAULT_USER.to_owned(), Secret::from(DEFAULT_USER.to_owned()));
    for (index, part) in authority.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
        let place = format!("broker {}", index + 1);
        let (login, address) = part.rsplit_once('@').map_or((None, part), |(login, address)| (Some(login), address));
        if let Some(login) = login {
            let (name, secret) = login.split_once(':').unwrap_or((login, ""));
            let not_encoded = || format!("{place}: the user or password is no valid percent-encoded text");
            user = decode(name).ok_or_else(not_encoded)?;
            password = decode(secret).ok_or_else(not_encoded)?.into();
        }
        let (host, port) = address_of(address).ok_or_else(|| {
            // What stands before a forgotten `@` may be the password.
            format!("{place}: expected user:password@host:port, with an IPv6 address in brackets and : / , @ ? of a password encoded as %3A %2F %2C %40 %3F")
        })?;
        brokers.push(Broker { host, port, user: user.clone(), password: password.clone() });
    }
    if brokers.is_empty() {
        let host = "localhost".to_owned();
        brokers.push(Broker { host, port: DEFAULT_PORT, user, password });
    }
    Ok(brokers)
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`.
fn address_of(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return None;
    }
    // A port that is left empty is the default one, as in any URL.
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => DEFAULT_PORT,
    };
    Some((host.to_owned(), port))
}

fn options(query: &str) -> Result<(Option<bool>, TlsOptions), String> {
    let mut ssl = None;
    let mut tls = TlsOptions::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or("an option behind the ? is no valid percent-encoded text")?;
        let boolean = || match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("ssl options behind the ? are 1 or 0".to_owned()),
        };
        match name {
            "ssl" => ssl = Some(boolean()?),
            "ssl_ca_file" => tls.ca_file = Some(value.into()),
            "ssl_cert_file" => tls.cert_file = Some(value.into()),
            "ssl_key_file" => tls.key_file = Some(value.into()),
            "ssl_enforce_hostname_verification" => tls.verify_hostname = Some(boolean()?),
            // What else there is changes nothing about how the broker is reached.
            _ => (),
        }
    }
    Ok((ssl, tls))
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Where the brokers are, without saying who logs in.
impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brokers: Vec<String> = self.brokers.iter().map(ToString::to_string).collect();
        write!(f, "{} (virtual host {:?})", brokers.join(", "), self.virtual_host)
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Broker by broker who logs in where, and the virtual host.
    fn read(text: &str) -> (Vec<String>, String) {
        let url = TransportUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let described = |broker: &Broker| format!("{} {} at {broker}", broker.user, broker.password.expose());
        (url.brokers.iter().map(described).collect(), url.virtual_host)
    }

    #[test]
    fn several_brokers_each_have_their_own_user_or_that_of_the_one_before() {
        let (brokers, virtual_host) = read("rabbit://a:b@h1:5673,h2,c:d@[fd00::1]:5674,[fd00::2]/cloud");
        assert_eq!(brokers, ["a b at h1:5673", "a b at h2:5672", "c d at [fd00::1]:5674", "c d at [fd00::2]:5672"]);
        assert_eq!(virtual_host, "cloud");
    }

    #[test]
    fn any_character_may_be_in_a_password_or_virtual_host() {
        let (brokers, virtual_host) = read("rabbit://us%40er:p%3A%2F%2C%25%C3%A9@h/%2Fa%20b");
        assert_eq!((brokers[0].as_str(), virtual_host.as_str()), ("us@er p:/,%é at h:5672", "/a b"));
        assert_eq!(read("rabbit://u:p@ss@h//").1, "/");
    }

    #[test]
    fn what_is_left_out_is_what_a_new_broker_has() {
        for url in ["rabbit://", "rabbit:///", "kombu://guest:guest@localhost:/", "rabbit+pool://,"] {
            assert_eq!(read(url), (vec!["guest guest at localhost:5672".to_owned()], "/".to_owned()), "{url}");
        }
        assert_eq!(read("rabbit://u@h").0, ["u  at h:5672"]);
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_text() {
        for url in [
            "",
            "h",
            "amqp://u:secret@h",
            "rabbit://u:secret@h:port",
            "rabbit://u:secret@h:0",
            "rabbit://u:secret@[fd00::1",
            "rabbit://u:secret@[h]",
            "rabbit://u:secret%2@h",
            "rabbit://u:secret@h/%ff",
            "rabbit://u:secret",
            "rabbit://u:secret@",
            "rabbit://u:secret@h/?ssl=maybe",
            "rabbit://u:sec?ret@h",
        ] {
            let error = TransportUrl::parse(url).expect_err(url);
            assert!(!error.contains("secret") && !error.contains("sec"), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(rabbit://)?[a-c0-9:@/,\\[\\]%?&=. é]{0,40}") {
            _ = TransportUrl::parse(&text);
        }
    }
}
