//! TLS with the broker, verified as far as the configuration asks for it.

use std::{fs::File, io::BufReader, path::Path, sync::Arc};

use overlane_core::config::TlsConfig;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use super::error::{ConnectError, TlsProblem};

/// Wraps a connection to `host` in TLS.
pub(super) async fn wrap(config: &TlsConfig, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, ConnectError> {
    let client = client_config(config)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ConnectError::Tls(TlsProblem::Other("the host is neither a name nor an address".to_owned())))?;
    TlsConnector::from(Arc::new(client)).connect(name, tcp).await.map_err(|error| ConnectError::Tls(problem(&error)))
}

/// Files are read each time, so that a certificate that was renewed is found.
fn client_config(config: &TlsConfig) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let versions = rustls::DEFAULT_VERSIONS;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
    let builder = builder.map_err(|error| ConnectError::Tls(TlsProblem::Other(error.to_string())))?;
    let verifier =
        Verifier { chain: chain_verifier(config, &provider)?, verify_hostname: config.verify_hostname, provider };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = &config.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| unreadable(key, &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unreadable(certificate, &error))
}

fn chain_verifier(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, ConnectError> {
    let Some(file) = &config.ca_file else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unreadable(file, &error))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map(Some).map_err(|error| unreadable(file, &error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(file)?).collect();
    let certificates = certificates.map_err(|error| unreadable(file, &error))?;
    if certificates.is_empty() { Err(unreadable(file, &"there is no certificate in it")) } else { Ok(certificates) }
}

fn open(file: &Path) -> Result<BufReader<File>, ConnectError> {
    File::open(file).map(BufReader::new).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::TlsFile { file: file.to_owned(), reason: error.to_string() }
}

/// Whether TLS is why a connection was lost. A broker may refuse a certificate when the handshake is over for this end.
pub(super) fn is_tls(error: &std::io::Error) -> bool {
    rustls_error(error).is_some()
}

fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// What it failed for.
pub(super) fn problem(error: &std::io::Error) -> TlsProblem {
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::UnknownIssuer => TlsProblem::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsProblem::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::WrongName
            }
            other => TlsProblem::Other(other.to_string()),
        },
        Some(rustls::Error::InvalidMessage(_)) => TlsProblem::NotTls,
        Some(rustls::Error::AlertReceived(alert)) => TlsProblem::Refused(format!("{alert:?}")),
        _ => TlsProblem::Other(error.to_string()),
    }
}

/// Verifies what the configuration asks to be verified, as oslo.messaging does: the chain where there are authorities, and the
/// name where that is asked for. Whoever it is, the broker must have the key of its certificate.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    verify_hostname: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // Webpki looks at the name last: everything else is in order.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.verify_hostname => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
