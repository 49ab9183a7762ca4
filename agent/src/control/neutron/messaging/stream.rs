//! A connection's bytes, plain or in TLS, in the form that lapin wants.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// The runtime that lapin gets: tokio, whose streams may be in TLS.
pub(super) type LapinRuntime = Runtime<RuntimeParts<Tokio, Connected>>;

/// A stream that is connected already.
pub(super) type Stream = Compat<Box<dyn Duplex>>;

/// Bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Makes a stream of lapin's of one of tokio's.
pub(super) fn stream(duplex: impl Duplex + 'static) -> Stream {
    let boxed: Box<dyn Duplex> = Box::new(duplex);
    boxed.compat()
}

/// The runtime that this is called in, for lapin.
pub(super) fn runtime() -> LapinRuntime {
    Runtime::new(RuntimeParts::new(Tokio::current(), Connected(Tokio::current())))
}

/// A reactor that makes no streams of its own: what is connected to, and how, is decided before.
#[derive(Clone, Debug)]
pub(super) struct Connected(Tokio);

impl Reactor for Connected {
    type TcpStream = Stream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static> {
        Err::<Stream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl futures_util::Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Stream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
