//! Neutron's API, as a user of the cloud speaks it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{CONTROLLER, Cloud};

impl Cloud {
    /// `GET`: a path such as `/networks`, with the query.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None)
    }

    /// `POST`: makes something; the answer describes it.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, Some(body))
    }

    /// `PUT`: changes something; the answer describes it. `null` is sent as no body, which is not the same to Neutron.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("PUT", path, Some(body).filter(|body| !body.is_null()))
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.call("DELETE", path, None).map(drop)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("http://{CONTROLLER}:9696/v2.0{path}");
        let request = || -> Result<(u16, String)> {
            let agent =
                ureq::Agent::new_with_config(ureq::config::Config::builder().http_status_as_error(false).build());
            let request =
                ureq::http::Request::builder().method(method).uri(&url).header("Content-Type", "application/json");
            let mut response = agent.run(request.body(body.map(Value::to_string).unwrap_or_default())?)?;
            Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
        };
        let answer = self.controller().inside(request);
        let (status, text) = answer.with_context(|| format!("{method} {path}"))?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {text}");
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context("reading JSON") }
    }
}
