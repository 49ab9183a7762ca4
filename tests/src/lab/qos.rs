//! QoS policies of a topology file, and how fast machines are under them.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::{Machine, Topology};

/// `[[qos_policies]]`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct QosPolicy {
    pub id: String,
    pub rules: Vec<QosRule>,
}

/// `[[qos_policies.rules]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct QosRule {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_kbps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_burst_kbps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp_mark: Option<u8>,
}

impl QosRule {
    /// A limit in a direction. What is sent has the burst that goes without saying; what is received would have one of 4 ms, and lose
    /// a part of its rate whenever others have the processor for longer.
    pub fn limit(direction: &str, max_kbps: u32) -> Self {
        Self {
            kind: "bandwidth_limit".to_owned(),
            direction: Some(direction.to_owned()),
            max_kbps: Some(max_kbps),
            max_burst_kbps: (direction == "ingress").then_some(max_kbps / 5),
            ..Self::default()
        }
    }

    /// A mark of what the machine sends.
    pub fn mark(dscp: u8) -> Self {
        Self { kind: "dscp_marking".to_owned(), dscp_mark: Some(dscp), ..Self::default() }
    }
}

impl Topology {
    /// Puts a port under a policy of its own with these rules, in the place of the one that it has.
    ///
    /// # Panics
    /// When there is no such port: a mistake in the test.
    pub fn set_qos(&mut self, port: &str, rules: impl IntoIterator<Item = QosRule>) {
        let id = format!("{}-0905-4000-8000-000000000000", &port[..8]);
        let port = self.ports.iter_mut().find(|other| other.id == port).expect("the test names a port of its topology");
        port.qos_policy_id = Some(id.clone());
        self.qos_policies.retain(|policy| policy.id != id);
        self.qos_policies.push(QosPolicy { id, rules: rules.into_iter().collect() });
    }
}

impl Machine {
    /// Sends to an iperf3 server as `options` say, and returns how fast that arrives, in bits per second, once the first burst is
    /// over.
    ///
    /// # Errors
    /// When iperf3 fails.
    pub fn steady_rate(&self, address: &str, options: &str) -> Result<f64> {
        let command = format!("iperf3 --client {address} --omit 2 --time 3 --json --connect-timeout 5000 {options}");
        let report: Value = serde_json::from_str(self.run(&command)?.trim()).context("reading iperf3's report")?;
        let end = &report["end"];
        let received = end.get("sum_received").unwrap_or(&end["sum"]);
        received["bits_per_second"].as_f64().context("finding the rate in iperf3's report")
    }
}
