//! From a broker's name to a connection that is logged in.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, ErrorKind,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism},
};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use overlane_core::config::{Broker, LoginMethod, TransportConfig};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{
    error::{ConnectError, is_not_allowed, is_refused, reason},
    stream::{Stream, runtime, stream},
    tls,
};

/// Another broker is tried after this long without a TCP connection.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// A broker that is busy starting up takes its time.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// What was sent must be acknowledged by the broker's kernel within this time, or the connection is dead.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(15);
/// Largest frame in bytes, the least that RabbitMQ accepts: lapin sets 32 of them aside for each direction. Larger messages take
/// several.
const FRAME_MAX: u32 = 8 * 1024;
/// The agent uses a handful.
const CHANNELS_MAX: u16 = 16;

/// A connection that is logged in. It is cut when this is dropped.
pub(super) struct Link {
    pub(super) connection: Connection,
    socket: Socket,
}

/// A handle on a socket that lapin's thread owns. Without it, a thread would wait for a broker that hangs.
struct Socket(OwnedFd);

impl Drop for Socket {
    fn drop(&mut self) {
        // An error means that it is closed already.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

impl Link {
    /// Says good-bye, as long as the broker listens.
    pub(super) async fn close(self, patience: Duration) {
        let _ = timeout(patience, self.connection.close(200, "the agent stops".into())).await;
        drop(self.socket);
    }
}

/// Connects to a broker and logs in.
pub(super) async fn connect(config: &TransportConfig, broker: &Broker) -> Result<Link, ConnectError> {
    let tcp = tcp(broker).await?;
    let socket = Socket(tcp.as_fd().try_clone_to_owned().map_err(ConnectError::Tcp)?);
    let login = async {
        let stream = match &config.tls {
            Some(tls) => stream(tls::wrap(tls, &broker.host, tcp).await?),
            None => stream(tcp),
        };
        log_in(config, broker, stream).await
    };
    let too_late = |_| ConnectError::Timeout("logging in", LOGIN_TIMEOUT.as_secs());
    let connection = timeout(LOGIN_TIMEOUT, login).await.map_err(too_late)??;
    Ok(Link { connection, socket })
}

async fn tcp(broker: &Broker) -> Result<TcpStream, ConnectError> {
    let connecting = async {
        let addresses = lookup_host((broker.host.as_str(), broker.port)).await.map_err(ConnectError::Resolve)?;
        let mut last = ConnectError::Resolve(io::ErrorKind::NotFound.into());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = ConnectError::Tcp(error),
            }
        }
        Err(last)
    };
    let too_late = |_| ConnectError::Timeout("connecting", TCP_TIMEOUT.as_secs());
    let tcp = timeout(TCP_TIMEOUT, connecting).await.map_err(too_late)??;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let limit = u32::try_from(ACKNOWLEDGED_WITHIN.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&tcp, sockopt::TcpUserTimeout, &limit).map_err(|errno| ConnectError::Tcp(errno.into()))?;
    Ok(tcp)
}

async fn log_in(config: &TransportConfig, broker: &Broker, stream: Stream) -> Result<Connection, ConnectError> {
    // lapin would connect again by itself; the agent does so with new queues.
    let stream = Mutex::new(Some(stream));
    let connect = async move |_, _| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.map(AsyncTcpStream::Plain).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted).into())
    };
    let connecting = Connection::connector(uri(config, broker), runtime(), connect, properties());
    connecting.await.map_err(|error| {
        let (user, reason) = (broker.user.clone(), reason(&error));
        match error.kind() {
            _ if is_refused(&error) => ConnectError::Login { user, reason },
            _ if is_not_allowed(&error) => {
                ConnectError::VirtualHost { user, virtual_host: config.url.virtual_host.clone(), reason }
            }
            ErrorKind::IOError(error) if tls::is_tls(error) => ConnectError::Tls(tls::problem(error)),
            // Whether the broker's own words arrive before the end of the connection is a matter of luck.
            ErrorKind::IOError(_) if config.tls.is_some() => ConnectError::HungUpInTls,
            ErrorKind::IOError(_) | ErrorKind::ParsingError(_) => ConnectError::HungUp,
            _ => ConnectError::Protocol(reason),
        }
    })
}

/// TLS is done already, so for lapin it is always plain.
fn uri(config: &TransportConfig, broker: &Broker) -> AMQPUri {
    let userinfo = AMQPUserInfo { username: broker.user.clone(), password: broker.password.expose().to_owned() };
    AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority { userinfo, host: broker.host.clone(), port: broker.port },
        vhost: config.url.virtual_host.clone(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_MAX),
            channel_max: Some(CHANNELS_MAX),
            heartbeat: Some(config.connection.heartbeat_secs),
            connection_timeout: None,
            auth_mechanism: Some(match config.login {
                LoginMethod::AmqPlain => SASLMechanism::AMQPlain,
                LoginMethod::Plain => SASLMechanism::Plain,
                LoginMethod::External => SASLMechanism::External,
            }),
        },
    }
}

/// What `rabbitmqctl list_connections client_properties` shows.
fn properties() -> ConnectionProperties {
    let name = format!("overlane:{}:{}", std::process::id(), uuid::Uuid::new_v4());
    ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "overlane".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
}
