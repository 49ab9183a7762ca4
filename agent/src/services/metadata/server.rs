//! Serving connections of machines, whatever they send.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use overlane_core::services::metadata::{Answer, Directory, SocketKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    admission::Admission,
    body::{self, BodyError},
    nova::Nova,
    once::Once,
};

/// How long a machine may take for the head of a request, and for its body.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever happens on it.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// How long a machine may go on sending what nobody reads, so that it sees the answer before the end of the connection.
const LINGER: Duration = Duration::from_secs(1);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// The longest body of a request, in bytes. Only Nova reads one: passwords that machines leave there.
const BODY_MAX: usize = 64 << 10;
/// When no connection could be taken in, for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";

/// What all sockets share.
pub(super) struct Service {
    directory: watch::Receiver<Arc<Directory>>,
    connections: Arc<AtomicUsize>,
    nova: Nova,
    strangers: Once<(SocketKey, IpAddr)>,
    crowds: Once<(SocketKey, IpAddr)>,
}

impl Service {
    /// Serves what `directory` has at the time of a request.
    pub(super) fn new(directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self {
            directory,
            connections: Arc::default(),
            nova: Nova::default(),
            strangers: Once::default(),
            crowds: Once::default(),
        }
    }

    /// Takes connections in, for ever. When it is dropped, so are they.
    pub(super) async fn serve(self: Arc<Self>, socket: Arc<TcpListener>, key: SocketKey) {
        let admission = Admission::new(Arc::clone(&self.connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((stream, source)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let source = source.ip();
            let Some(ticket) = admission.admit(source) else {
                if self.crowds.is_new((key.clone(), source)) {
                    tracing::warn!(%source, "too many connections at {key}: some are turned away");
                }
                // It fits into the socket's buffer, or the machine does without.
                let _ = stream.try_write(TOO_MANY);
                continue;
            };
            let (service, key) = (Arc::clone(&self), key.clone());
            connections.spawn(async move {
                let _ticket = ticket;
                // A machine that gets nothing said in time is cut off.
                let _ = timeout(CONNECTION_MAX, service.connection(stream, &key, source)).await;
            });
        }
    }

    async fn connection(&self, stream: TcpStream, key: &SocketKey, source: IpAddr) {
        let answer = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request, key, source).await) });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_PATIENCE)
            .max_buf_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            // Who has said everything may close that direction, and still gets the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), answer);
        let result = (&mut connection).await;
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        // Who has not begun to ask gets no answer.
        if result.is_err_and(|error| error.is_timeout()) && !parts.read_buf.is_empty() {
            let _ = stream.write_all(TOO_SLOW).await;
        }
        linger(stream).await;
    }

    async fn answer(&self, request: Request<Incoming>, key: &SocketKey, source: IpAddr) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = match body::read(body, BODY_MAX, REQUEST_PATIENCE).await {
            Ok(body) => body,
            Err(error) => return respond(refuse(&error)),
        };
        let directory = self.directory.borrow().clone();
        let guest = match directory.guest(key, source) {
            Ok(guest) => guest,
            Err(stranger) => {
                if self.strangers.is_new((key.clone(), source)) {
                    tracing::warn!("a request at {key}: {stranger}");
                }
                return respond(Answer::sentence(404, stranger));
            }
        };
        match directory.upstream() {
            Some(upstream) => self.nova.ask(upstream, guest, source, &head, body).await,
            None => respond(Answer::to(head.method.as_str(), head.uri.path(), guest)),
        }
    }
}

/// What a machine is told whose body was not taken.
fn refuse(error: &BodyError) -> Answer {
    match error {
        BodyError::TooLong => Answer::sentence(413, format!("A request may have no more than {BODY_MAX} bytes.")),
        BodyError::TooSlow => Answer::sentence(408, "The request did not come to an end in time."),
        BodyError::Broken => Answer::sentence(400, "The body is not what its head has announced."),
    }
}

/// An answer as HTTP.
pub(super) fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if answer.status == 405 {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Ends a connection in a way that lets the other end read what was sent: closing with something unread would reset it (RFC 9112
/// §9.6).
async fn linger(mut stream: TcpStream) {
    let drain = async {
        let _ = stream.shutdown().await;
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    };
    let _ = timeout(LINGER, drain).await;
}
