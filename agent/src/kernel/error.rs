//! What the kernel refuses, in words.

use std::io;

/// A netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no netlink connection to be had.
    #[error("opening a netlink socket")]
    Connect(#[source] io::Error),
    /// A listing failed.
    #[error("listing {what}{}", hint(.source))]
    List {
        /// What was to be listed.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A change was refused.
    #[error("{request} {subject}{}", hint(.source))]
    Request {
        /// What was to be done.
        request: &'static str,
        /// To what.
        subject: String,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
}

impl KernelError {
    pub(super) fn list(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::List { what, source }
    }

    pub(super) fn request<S: ToString + ?Sized>(
        request: &'static str,
        subject: &S,
    ) -> impl FnOnce(io::Error) -> Self + use<S> {
        let subject = subject.to_string();
        move |source| Self::Request { request, subject, source }
    }
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { " (needs CAP_NET_ADMIN, or root)" } else { "" }
}

/// Success when the kernel says that it is so already.
pub(super) fn unless(kind: io::ErrorKind, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        result => result,
    }
}

/// rtnetlink's errors carry the kernel's one inside.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
