//! Asking an existing Nova metadata service instead of answering.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
    http::request::Parts,
};
use hyper_util::rt::TokioIo;
use overlane_core::services::metadata::{Answer, Guest, NovaRequest, Protocol, Upstream};
use tokio::{net::TcpStream, time::timeout};

use super::{body, once::Once, server::respond};

/// How long Nova may take, all in all: less than a connection may last.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 4 << 20;
const WRONG_SECRET: &str = "Nova refuses the signature: metadata_proxy_shared_secret is not the one in the [neutron] section of its configuration";

/// Asks Nova, and remembers what was said about it.
#[derive(Default)]
pub(super) struct Nova {
    complaints: Once<String>,
}

impl Nova {
    /// Asks on behalf of a guest. Nothing of the guest's own headers gets through.
    pub(super) async fn ask(
        &self,
        upstream: &Upstream,
        guest: Guest<'_>,
        source: IpAddr,
        head: &Parts,
        body: Bytes,
    ) -> Response<Full<Bytes>> {
        let request = match NovaRequest::new(upstream, guest, source) {
            Ok(request) => request,
            Err(reason) => {
                self.complain(&reason);
                return respond(Answer::sentence(500, reason));
            }
        };
        match timeout(PATIENCE, exchange(upstream, &request, head, body)).await {
            Ok(Ok(response)) => {
                if response.status() == StatusCode::FORBIDDEN {
                    self.complain(WRONG_SECRET);
                } else {
                    self.complaints.forget();
                }
                response
            }
            Ok(Err(error)) => self.fail(&format!("{error:#}"), 502),
            Err(_) => self.fail(&format!("Nova has not answered within {} s", PATIENCE.as_secs()), 504),
        }
    }

    fn fail(&self, reason: &str, status: u16) -> Response<Full<Bytes>> {
        self.complain(reason);
        respond(Answer::sentence(status, "The metadata service cannot be reached now."))
    }

    fn complain(&self, complaint: &str) {
        if self.complaints.is_new(complaint.to_owned()) {
            tracing::warn!("{complaint}");
        }
    }
}

async fn exchange(
    upstream: &Upstream,
    request: &NovaRequest,
    head: &Parts,
    body: Bytes,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let Upstream { protocol: Protocol::Http, host, port, .. } = upstream;
    let doing = || format!("asking Nova's metadata service at {host}:{port}");
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut asked = Request::builder().method(&head.method).uri(target).header(HOST, format!("{host}:{port}"));
    for (name, value) in &request.headers {
        asked = asked.header(*name, value);
    }
    let asked = asked.body(Full::<Bytes>::from(body)).with_context(doing)?;
    let stream = TcpStream::connect((host.as_str(), *port)).await.with_context(doing)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(doing)?;
    // Both are dropped, and so the connection closed, when this ends.
    let answer = async {
        let response = sender.send_request(asked).await.with_context(doing)?;
        let (head, body) = response.into_parts();
        let read = body::read(body, ANSWER_MAX, PATIENCE).await;
        let body = read.map_err(|error| anyhow!("{}: the answer is {error:?}", doing()))?;
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = head.status;
        if let Some(kind) = head.headers.get(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        Ok(response)
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may end because everything has come: the answer has the last word.
        _ = connection => answer.await,
    }
}
