//! The messages between a Neutron server and its Linux bridge agents, as types.
//!
//! What the agent does not use is ignored, what a release leaves out has the value that it means, and one broken entry of a list
//! does not lose the others ([`Entries`]). Everything else that is not understood is an error that names the field.

mod address;
pub mod devices;
pub mod fdb;
mod lenient;
pub mod notification;
pub mod objects;
pub mod ports;
pub mod profile;
pub mod report;
pub mod resources;
pub mod security;
mod segment;
pub mod trunk;

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use address::{AllowedAddressPair, FixedIp};
pub use lenient::{BadEntry, Entries, Table};

/// A message that is not understood, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// The field, such as `fixed_ips[0].ip_address`; `.` is the message as a whole.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl MessageError {
    pub(crate) fn new(field: &str, problem: impl fmt::Display) -> Self {
        Self { field: field.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "." => f.write_str(&self.problem),
            field => write!(f, "{field}: {}", self.problem),
        }
    }
}

impl std::error::Error for MessageError {}

/// Reads a value.
///
/// # Errors
/// [`MessageError`] with the field that is wrong.
pub fn parse<T: DeserializeOwned>(value: Value) -> Result<T, MessageError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        MessageError { field, problem: error.into_inner().to_string() }
    })
}

/// A method of the server's, with its arguments.
pub trait Call: Serialize {
    /// The topic, which is the routing key.
    const TOPIC: &str = PLUGIN_TOPIC;
    /// The method.
    const METHOD: &str;
    /// The oldest version of the endpoint that has it in this form.
    const VERSION: &str;
    /// The endpoint's namespace.
    const NAMESPACE: Option<&str> = None;
    /// What it returns.
    type Reply: DeserializeOwned;

    /// The arguments by name.
    fn args(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(args)) => args,
            // Arguments are structures of texts, numbers, lists and tables with text keys.
            _ => Map::new(),
        }
    }
}

/// Most methods are the plugin's.
pub const PLUGIN_TOPIC: &str = "q-plugin";
