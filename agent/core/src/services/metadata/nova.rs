//! What Nova's metadata service wants to hear with a request (`nova/api/metadata/handler.py`): who asks, signed with the secret that
//! it shares with us.

use std::{fmt::Write as _, net::IpAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{directory::Guest, state::Upstream};

/// A request to Nova on behalf of a guest. Of what the guest has sent, only method, path and body get this far: whatever it says
/// of itself in headers is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NovaRequest {
    /// Headers that say who asks.
    pub headers: [(&'static str, String); 4],
}

impl NovaRequest {
    /// Speaks for `guest`, whose address is `source`.
    ///
    /// # Errors
    /// A sentence about what is missing.
    pub fn new(upstream: &Upstream, guest: Guest<'_>, source: IpAddr) -> Result<Self, String> {
        let instance = guest.instance;
        let Some(project) = &instance.project_id else {
            return Err(format!("The instance {} has no project id, which Nova asks for.", instance.id));
        };
        let headers = [
            ("X-Forwarded-For", source.to_string()),
            ("X-Instance-ID", instance.id.clone()),
            ("X-Tenant-ID", project.clone()),
            ("X-Instance-ID-Signature", sign(upstream.shared_secret.expose(), &instance.id)),
        ];
        Ok(Self { headers })
    }
}

/// HMAC-SHA256 (RFC 2104) in hexadecimal.
fn sign(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::metadata::{Protocol, directory::tests::instance};

    fn upstream() -> Upstream {
        let shared_secret = "Jefe".to_owned().into();
        Upstream { protocol: Protocol::Http, host: "nova".to_owned(), port: 8775, shared_secret }
    }

    #[test]
    fn the_signature_is_hmac_sha256() {
        // RFC 4231, test case 2.
        assert_eq!(
            sign("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn nova_is_told_instance_project_and_address_and_the_signature_of_the_instance() {
        let mut instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        instance.project_id = Some("p".to_owned());
        let source = "10.0.0.5".parse().expect("an address");
        let request =
            NovaRequest::new(&upstream(), Guest { instance: &instance, interface: &instance.interfaces[0] }, source);
        let signature = sign("Jefe", "i-1");
        let expected = ["10.0.0.5", "i-1", "p", &signature].map(str::to_owned);
        assert_eq!(request.expect("complete").headers.map(|(_, value)| value), expected);
    }

    #[test]
    fn an_instance_without_a_project_is_not_asked_about() {
        let instance = instance("i-1", 1, "10.0.0.5", "fa:16:3e:00:00:01");
        let guest = Guest { instance: &instance, interface: &instance.interfaces[0] };
        let reason = NovaRequest::new(&upstream(), guest, "10.0.0.5".parse().expect("an address"));
        assert!(reason.is_err_and(|reason| reason.contains("i-1")));
    }
}
