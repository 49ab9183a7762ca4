//! What a server could not do, as oslo.messaging tells its caller: a JSON text inside the JSON text of the reply.

use std::fmt;

use serde::Deserialize;

/// Longer messages are cut: a failed database call brings its whole statement.
const MESSAGE_MAX: usize = 300;

/// An exception in the server. Its traceback is the server's, and left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// Name of the exception's class, such as `UnsupportedVersion`.
    #[serde(default)]
    pub class: String,
    /// The Python module that has the class.
    #[serde(default)]
    pub module: String,
    /// What the server says, which may be long.
    #[serde(default)]
    pub message: String,
}

impl Failure {
    /// Reads the text in a reply's `failure`. Whatever it is, it is a failure.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            class: "Exception".to_owned(),
            module: String::new(),
            message: text.to_owned(),
        })
    }

    /// Whether the server has no endpoint of the version that was asked for: it is older, or newer.
    pub fn is_unsupported_version(&self) -> bool {
        self.class == "UnsupportedVersion"
    }

    /// Whether the server's endpoint has no such method.
    pub fn is_no_such_method(&self) -> bool {
        self.class == "NoSuchMethod"
    }

    /// Whether nobody in the server provides the kind of object that was pulled, as the plugin for it is not in use.
    pub fn is_not_provided(&self) -> bool {
        self.class == "CallbackNotFound"
    }

    /// Whether the same call may well succeed a moment later: the server's database was busy or away.
    pub fn is_transient(&self) -> bool {
        matches!(self.class.as_str(), "DBDeadlock" | "DBConnectionError" | "RetryRequest" | "StaleDataError")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.message.lines().next().unwrap_or_default();
        let end = line.char_indices().nth(MESSAGE_MAX).map_or(line.len(), |(index, _)| index);
        write!(f, "{}: {}", self.class, &line[..end])?;
        if end < self.message.len() { f.write_str(" …") } else { Ok(()) }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_class_and_a_message_without_the_traceback() {
        let failure = Failure::parse(
            r#"{"class": "UnsupportedVersion", "module": "oslo_messaging.rpc.dispatcher", "message": "Endpoint does not support RPC version 2.0. Attempted method: get_devices_details_list", "tb": ["Traceback (most recent call last):\n", "secret"], "args": [], "kwargs": {}}"#,
        );
        assert!(failure.is_unsupported_version() && !failure.is_no_such_method());
        assert_eq!(
            failure.to_string(),
            "UnsupportedVersion: Endpoint does not support RPC version 2.0. Attempted method: get_devices_details_list"
        );
    }

    #[test]
    fn a_long_message_is_cut_to_a_line_and_a_strange_one_is_kept() {
        let long = Failure { message: format!("{}\nSELECT", "é".repeat(400)), ..Failure::parse("{}") };
        assert_eq!(long.to_string(), format!(": {} …", "é".repeat(MESSAGE_MAX)));
        assert_eq!(Failure::parse("[oops").to_string(), "Exception: [oops");
        assert_eq!(Failure::parse(r#"{"class": 5}"#).class, "Exception");
    }
}
