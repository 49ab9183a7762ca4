//! Bodies that have an end, in size and in time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is too long.
    TooLong,
    /// It takes too long.
    TooSlow,
    /// It breaks off, or is not what was announced.
    Broken,
}

/// Reads a body whole.
pub(super) async fn read(body: Incoming, length_max: usize, patience: Duration) -> Result<Bytes, BodyError> {
    // One that says it is too long need not be read.
    if body.size_hint().lower() > length_max as u64 {
        return Err(BodyError::TooLong);
    }
    match timeout(patience, Limited::new(body, length_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLong),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}
