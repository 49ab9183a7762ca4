//! What can go wrong between the agent and the broker, in words that say what to do.

use std::{fmt, io, path::PathBuf};

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use overlane_core::neutron::{failure::Failure, messages::MessageError};

/// A call that brought no answer, or another one than was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no answer yet. The server may have carried out the call all the same.
    #[error("{method}: no answer within {seconds} s: neutron-server is busy, stuck or gone")]
    Timeout {
        /// What was called.
        method: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There is no broker at the moment, or it went away while the call was under way.
    #[error("{method}: there is no connection to the message broker")]
    Disconnected {
        /// What was called.
        method: String,
    },
    /// Nobody has a queue for it.
    #[error("{method}: nobody listens on {topic}: neutron-server does not run, or uses another broker or virtual host")]
    Unroutable {
        /// What was called.
        method: String,
        /// Where.
        topic: String,
    },
    /// The broker does not take it, for want of room or by a policy for the queue.
    #[error(
        "{method}: the message broker refuses messages for {topic}: look at its alarms (rabbitmq-diagnostics alarms) and at the \
         policies of that queue (rabbitmqctl list_policies)"
    )]
    Refused {
        /// What was called.
        method: String,
        /// Where.
        topic: String,
    },
    /// The server could not do it.
    #[error("{method} failed in the server")]
    Remote {
        /// What was called.
        method: String,
        /// Why.
        #[source]
        failure: Failure,
    },
    /// The answer is not understood.
    #[error("the server's answer to {method} is not understood")]
    Malformed {
        /// What was called.
        method: String,
        /// Where and why.
        #[source]
        error: MessageError,
    },
}

impl CallError {
    /// Why the server could not do it, if it has answered so.
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Remote { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// Whether the server has no endpoint of this version.
    pub fn is_unsupported_version(&self) -> bool {
        self.failure().is_some_and(Failure::is_unsupported_version)
    }

    /// Whether the server has no such method.
    pub fn is_no_such_method(&self) -> bool {
        self.failure().is_some_and(Failure::is_no_such_method)
    }

    /// Whether the server lacks the plugin for the kind of object that was asked for.
    pub fn is_not_provided(&self) -> bool {
        self.failure().is_some_and(Failure::is_not_provided)
    }

    /// Whether the same call may well succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Disconnected { .. } | Self::Unroutable { .. } | Self::Refused { .. } => true,
            Self::Remote { failure, .. } => failure.is_transient(),
            Self::Malformed { .. } => false,
        }
    }
}

/// Why there is no connection to a broker.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("its name has no address ({0}): check transport_url and the name servers")]
    Resolve(io::Error),
    /// Nothing takes connections there.
    #[error("{0}: check that RabbitMQ runs there, and the port in transport_url")]
    Tcp(io::Error),
    /// Nothing answers.
    #[error("{0} takes longer than {1} s: check the network, firewalls, and the broker's load")]
    Timeout(&'static str, u64),
    /// A file of certificates or keys.
    #[error("{}: {reason}: check the ssl options of [oslo_messaging_rabbit]", file.display())]
    TlsFile {
        /// Which.
        file: PathBuf,
        /// What about it.
        reason: String,
    },
    /// There is no TLS to be had.
    #[error("TLS: {0}")]
    Tls(TlsProblem),
    /// It hangs up before it has said anything.
    #[error("it hangs up at once: check the port, and whether [oslo_messaging_rabbit] ssl must be true")]
    HungUp,
    /// It hangs up when TLS is set up.
    #[error(
        "it hangs up after the TLS handshake: it may want a certificate, in ssl_cert_file and ssl_key_file, or another one"
    )]
    HungUpInTls,
    /// User or password.
    #[error("it refuses user {user}: check user and password in transport_url, and rabbitmqctl list_users ({reason})")]
    Login {
        /// Whom the agent wants to be.
        user: String,
        /// What the broker says.
        reason: String,
    },
    /// The virtual host.
    #[error(
        "it does not let user {user} into virtual host {virtual_host:?}: check transport_url, rabbitmqctl list_vhosts and \
         list_permissions -p {virtual_host} ({reason})"
    )]
    VirtualHost {
        /// Whom the agent is.
        user: String,
        /// Where it wants to.
        virtual_host: String,
        /// What the broker says.
        reason: String,
    },
    /// Queues or exchanges.
    #[error("it refuses {what}: {reason}{}", hint(.reason))]
    Declare {
        /// What was to be made.
        what: String,
        /// What the broker says.
        reason: String,
    },
    /// Anything else.
    #[error("{0}")]
    Protocol(String),
}

/// Why there is no TLS to be had.
#[derive(Debug)]
pub enum TlsProblem {
    /// Signed by somebody else.
    UnknownIssuer,
    /// Too old.
    Expired,
    /// For another host.
    WrongName,
    /// No TLS.
    NotTls,
    /// The broker does not want ours.
    Refused(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str("its certificate is signed by nobody in ssl_ca_file"),
            Self::Expired => f.write_str("its certificate has expired, or this host's clock is wrong"),
            Self::WrongName => f.write_str(
                "its certificate is for another name than the one in transport_url (ssl_enforce_hostname_verification is true)",
            ),
            Self::NotTls => f.write_str("it does not speak TLS on this port: check the port, or set ssl = False"),
            Self::Refused(alert) => {
                write!(f, "it refuses this host ({alert}): it may want a certificate, in ssl_cert_file and ssl_key_file")
            }
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

fn hint(reason: &str) -> &'static str {
    if reason.contains("PRECONDITION_FAILED") {
        ": the options of [oslo_messaging_rabbit] about durable, quorum and mirrored queues must be those of the servers"
    } else if reason.contains("ACCESS_REFUSED") {
        ": see rabbitmqctl list_permissions; the agent needs configure, write and read"
    } else {
        ""
    }
}

/// What the broker says, without lapin's words around it.
pub(super) fn reason(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Whether something exists, but is not as it was asked for.
pub(super) fn is_mismatch(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::PRECONDITIONFAILED)
}

/// Whether the login or the right to do something was refused.
pub(super) fn is_refused(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::ACCESSREFUSED)
}

/// Whether the virtual host is not there, or closed to the user.
pub(super) fn is_not_allowed(error: &lapin::Error) -> bool {
    let kind = match error.kind() {
        ErrorKind::ProtocolError(error) => error.kind(),
        _ => return false,
    };
    matches!(kind, AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH))
}

fn is_soft(error: &lapin::Error, expected: &AMQPSoftError) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => matches!(error.kind(), AMQPErrorKind::Soft(kind) if kind == expected),
        _ => false,
    }
}
