//! What every message has in common.

use overlane_core::neutron::envelope::{EnvelopeError, Message, ReplyTo, Request};
use serde_json::{Map, Value, json};

use crate::captures::{body, request};

fn decode(body: &Value) -> Result<Message, EnvelopeError> {
    Message::decode(body.to_string().as_bytes())
}

fn sealed(message: &Value) -> Value {
    json!({ "oslo.version": "2.0", "oslo.message": message.to_string() })
}

#[test]
fn a_call_carries_where_its_answer_goes_and_a_context_that_the_server_accepts() {
    let call = Request {
        method: "report_state".to_owned(),
        version: "1.2".to_owned(),
        namespace: None,
        args: Map::new(),
        request_id: Some("req-1".to_owned()),
        reply_to: Some(ReplyTo { message_id: "m".to_owned(), queue: "reply_q".to_owned() }),
        unique_id: Some("u".to_owned()),
    };
    let body: Value = serde_json::from_slice(&call.encode()).expect("JSON");
    assert_eq!(body["oslo.version"], "2.0");
    let message: Value = serde_json::from_str(body["oslo.message"].as_str().expect("a text")).expect("JSON");
    let expected = json!({
        "method": "report_state", "args": {}, "version": "1.2",
        "_msg_id": "m", "_reply_q": "reply_q", "_timeout": null, "_unique_id": "u",
        "_context_is_admin": true, "_context_is_admin_project": true, "_context_roles": [],
        "_context_user_identity": "- - - - -", "_context_read_only": false, "_context_show_deleted": false,
        "_context_request_id": "req-1",
    });
    assert_eq!(message, expected);
}

#[test]
fn what_arrives_names_the_request_that_it_belongs_to() {
    let request_id = request("port_update.fanout").request_id.expect("in every context");
    assert!(request_id.starts_with("req-"), "{request_id}");
}

#[test]
fn a_message_without_envelope_and_one_without_version_are_old_but_valid() {
    let message = json!({ "method": "m", "args": null });
    let Ok(Message::Request(request)) = decode(&message) else { panic!("not understood") };
    assert_eq!((request.method.as_str(), request.version.as_str(), request.args.len()), ("m", "1.0", 0));
    assert_eq!(decode(&sealed(&message)), Ok(Message::Request(request)));
}

#[test]
fn an_answer_in_two_parts_and_a_failure_are_told_apart() {
    let part = |more: Value| {
        let mut message = json!({ "_msg_id": "m", "result": null, "failure": null });
        message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        match decode(&sealed(&message)) {
            Ok(Message::Reply(reply)) => reply,
            other => panic!("{other:?}"),
        }
    };
    assert!(!part(json!({ "result": 1, "ending": false })).is_last);
    assert!(part(json!({})).is_last);
    let failure = part(json!({ "failure": "{\"class\": \"NoSuchMethod\", \"message\": \"none\"}" })).outcome;
    assert!(failure.expect_err("a failure").is_no_such_method());
    let strange = part(json!({ "failure": { "class": "InvalidInput" } })).outcome;
    assert_eq!(strange.expect_err("a failure").class, "InvalidInput");
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let refused = |body: &Value| decode(body).expect_err("invalid").to_string();
    assert_eq!(
        refused(&json!({ "oslo.version": "3.0", "oslo.message": "{}" })),
        "the envelope has version 3.0, this agent understands 2.x"
    );
    assert_eq!(refused(&json!({ "oslo.version": "2.0", "oslo.message": {} })), "`oslo.message` is no text");
    assert_eq!(refused(&sealed(&json!({ "method": 1 }))), "`method` is no text");
    assert_eq!(refused(&sealed(&json!({ "method": "m", "args": [] }))), "`args` is no object");
    assert!(refused(&sealed(&json!({}))).contains("neither reply nor request"));
    assert!(refused(&json!([])).starts_with("the body is no JSON: invalid type: sequence"));
}

#[test]
fn a_truncated_message_is_refused_wherever_it_ends() {
    let whole = body("security_group_info_for_devices.call.reply");
    for end in (0..whole.len()).step_by(61) {
        assert!(matches!(Message::decode(&whole[..end]), Err(EnvelopeError::NotJson { .. })), "{end}");
    }
}
