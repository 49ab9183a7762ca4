//! oslo.messaging's envelope: a JSON object with the message as a JSON text inside, and what belongs to every message.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// `content_type` of every message. Without it the server takes the body for raw bytes, and answers nothing.
pub const CONTENT_TYPE: &str = "application/json";
/// `content_encoding` of every message.
pub const CONTENT_ENCODING: &str = "utf-8";

/// The envelope's version that is sent; every 2.x is understood.
const VERSION: &str = "2.0";
const VERSION_KEY: &str = "oslo.version";
const MESSAGE_KEY: &str = "oslo.message";
/// The version of a message that does not say.
const DEFAULT_VERSION: &str = "1.0";

/// A body that is no message of oslo.messaging.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The body, or the text inside, is no JSON.
    #[error("{part} is no JSON: {reason}")]
    NotJson {
        /// Which of the two.
        part: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// A newer envelope than 2.x.
    #[error("the envelope has version {0}, this agent understands 2.x")]
    UnknownVersion(String),
    /// A field is missing or of another kind.
    #[error("`{field}` {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What about it.
        problem: &'static str,
    },
}

/// A method to be carried out by somebody else.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Version of the endpoint, such as `1.9`.
    pub version: String,
    /// Namespace of the endpoint; most have none.
    pub namespace: Option<String>,
    /// Arguments by name.
    pub args: Map<String, Value>,
    /// Names the request in the logs of everybody who takes part: `req-` and a UUID.
    pub request_id: Option<String>,
    /// Where an answer is to go; `None` when none is expected.
    pub reply_to: Option<ReplyTo>,
    /// Tells repeated deliveries apart from new messages: 32 hexadecimal digits.
    pub unique_id: Option<String>,
}

/// Where the answer to a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// Which call it answers.
    pub message_id: String,
    /// The caller's queue.
    pub queue: String,
}

/// An answer, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Which call it answers.
    pub message_id: String,
    /// What the method returned, or why it did not.
    pub outcome: Result<Value, Failure>,
    /// Whether it is the last part. Old servers send the result and the end apart; a part without a result says that the call is
    /// still being worked on.
    pub is_last: bool,
    /// As in [`Request::unique_id`].
    pub unique_id: Option<String>,
}

/// What can be in an envelope.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A call or a cast.
    Request(Request),
    /// The answer to a call.
    Reply(Reply),
}

/// What the server reads of the caller's context. It needs no more than `is_admin`; the id shows up in its log.
#[derive(Serialize)]
struct Context<'a> {
    _context_is_admin: bool,
    _context_is_admin_project: bool,
    _context_roles: [&'a str; 0],
    _context_user_identity: &'a str,
    _context_read_only: bool,
    _context_show_deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    _context_request_id: Option<&'a str>,
}

impl Request {
    /// The body of a message.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Map::new();
        message.insert("method".to_owned(), json!(self.method));
        message.insert("args".to_owned(), Value::Object(self.args.clone()));
        if let Some(namespace) = &self.namespace {
            message.insert("namespace".to_owned(), json!(namespace));
        }
        message.insert("version".to_owned(), json!(self.version));
        if let Some(ReplyTo { message_id, queue }) = &self.reply_to {
            message.insert("_msg_id".to_owned(), json!(message_id));
            message.insert("_reply_q".to_owned(), json!(queue));
            message.insert("_timeout".to_owned(), Value::Null);
        }
        if let Some(unique_id) = &self.unique_id {
            message.insert("_unique_id".to_owned(), json!(unique_id));
        }
        let context = Context {
            _context_is_admin: true,
            _context_is_admin_project: true,
            _context_roles: [],
            _context_user_identity: "- - - - -",
            _context_read_only: false,
            _context_show_deleted: false,
            _context_request_id: self.request_id.as_deref(),
        };
        if let Value::Object(context) = json!(context) {
            message.extend(context);
        }
        seal(&Value::Object(message))
    }
}

impl Reply {
    /// The body of a message.
    pub fn encode(&self) -> Vec<u8> {
        let (result, failure) = match &self.outcome {
            Ok(result) => (result.clone(), Value::Null),
            Err(failure) => {
                let Failure { class, module, message } = failure;
                (Value::Null, json!(json!({ "class": class, "module": module, "message": message }).to_string()))
            }
        };
        seal(&json!({
            "result": result,
            "failure": failure,
            "ending": self.is_last,
            "_msg_id": self.message_id,
            "_unique_id": self.unique_id,
        }))
    }
}

impl Message {
    /// Reads a body. One without an envelope is the message itself, as it was in old releases.
    ///
    /// # Errors
    /// [`EnvelopeError`]: what is wrong with it.
    pub fn decode(body: &[u8]) -> Result<Self, EnvelopeError> {
        let not_json =
            |part| move |error: serde_json::Error| EnvelopeError::NotJson { part, reason: error.to_string() };
        let body: Map<String, Value> = serde_json::from_slice(body).map_err(not_json("the body"))?;
        let mut fields = match (body.get(VERSION_KEY), body.get(MESSAGE_KEY)) {
            (Some(version), Some(message)) => {
                let version = version.as_str().unwrap_or_default();
                if version.split('.').next() != Some("2") {
                    return Err(EnvelopeError::UnknownVersion(version.to_owned()));
                }
                let text =
                    message.as_str().ok_or(EnvelopeError::Field { field: MESSAGE_KEY, problem: "is no text" })?;
                serde_json::from_str(text).map_err(not_json("the message in the envelope"))?
            }
            _ => body,
        };
        if fields.contains_key("method") { request(&mut fields) } else { reply(&mut fields) }
    }
}

/// Puts a message into an envelope.
fn seal(message: &Value) -> Vec<u8> {
    json!({ VERSION_KEY: VERSION, MESSAGE_KEY: message.to_string() }).to_string().into_bytes()
}

fn request(fields: &mut Map<String, Value>) -> Result<Message, EnvelopeError> {
    let method = text(fields, "method")?.ok_or(EnvelopeError::Field { field: "method", problem: "is null" })?;
    let args = match fields.remove("args") {
        Some(Value::Object(args)) => args,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err(EnvelopeError::Field { field: "args", problem: "is no object" }),
    };
    let reply_to = match (text(fields, "_msg_id")?, text(fields, "_reply_q")?) {
        (Some(message_id), Some(queue)) => Some(ReplyTo { message_id, queue }),
        _ => None,
    };
    Ok(Message::Request(Request {
        method,
        version: text(fields, "version")?.unwrap_or_else(|| DEFAULT_VERSION.to_owned()),
        namespace: text(fields, "namespace")?,
        args,
        request_id: text(fields, "_context_request_id")?,
        reply_to,
        unique_id: text(fields, "_unique_id")?,
    }))
}

fn reply(fields: &mut Map<String, Value>) -> Result<Message, EnvelopeError> {
    let message_id = text(fields, "_msg_id")?.ok_or(EnvelopeError::Field {
        field: "_msg_id",
        problem: "is missing, and so is `method`: neither reply nor request",
    })?;
    let outcome = match fields.remove("failure") {
        None | Some(Value::Null) => Ok(fields.remove("result").unwrap_or_default()),
        Some(Value::String(failure)) => Err(Failure::parse(&failure)),
        Some(other) => Err(Failure::parse(&other.to_string())),
    };
    let is_last = fields.get("ending").and_then(Value::as_bool).unwrap_or(true);
    Ok(Message::Reply(Reply { message_id, outcome, is_last, unique_id: text(fields, "_unique_id")? }))
}

/// Takes a text out; null counts as missing.
fn text(fields: &mut Map<String, Value>, field: &'static str) -> Result<Option<String>, EnvelopeError> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(EnvelopeError::Field { field, problem: "is no text" }),
    }
}
