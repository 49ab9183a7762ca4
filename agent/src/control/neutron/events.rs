//! What operators follow in the log: one line for each event of a port, with the request that it belongs to.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use overlane_core::{model::PortId, neutron::controller::News};
use uuid::Uuid;

/// What an event follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The request, as the server's log has it.
    pub(super) request_id: Option<String>,
    /// When this agent asked, or heard of it.
    pub(super) since: Instant,
}

impl Cause {
    /// A request of this agent, under a new id.
    pub(super) fn of_our_own(now: Instant) -> Self {
        Self { request_id: Some(format!("req-{}", Uuid::new_v4())), since: now }
    }
}

/// Events of ports that the server has announced.
#[derive(Debug, Default)]
pub(super) struct Events {
    announced: BTreeMap<PortId, Cause>,
}

impl Events {
    /// What happens to a port next, happens because of this.
    pub(super) fn expect(&mut self, port: PortId, cause: Cause) {
        self.announced.insert(port, cause);
    }

    /// Writes a line for each piece of news. What somebody has asked the server for goes under that request, and all other news
    /// under `cause`.
    pub(super) fn log(&mut self, news: &[News], cause: Option<&Cause>, now: Instant) {
        for news in news {
            let announced = news.port().and_then(|port| self.announced.get(&port));
            let cause = announced.or(cause);
            let request_id = cause.and_then(|cause| cause.request_id.as_deref());
            let millis = cause.map(|cause| (now - cause.since).as_millis() as u64);
            if news.is_trouble() {
                tracing::warn!(request_id, millis, "{news}");
            } else if news.is_detail() {
                tracing::debug!(request_id, millis, "{news}");
            } else {
                tracing::info!(request_id, millis, "{news}");
            }
        }
        self.announced.retain(|_, cause| now < cause.since + FOLLOWS);
    }
}

/// What happens to a port later than this after an announcement has another cause.
const FOLLOWS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use overlane_core::model::NetworkId;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_names_port_network_duration_and_the_request_that_somebody_made() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (port, network) = (PortId(Uuid::from_bytes([1; 16])), NetworkId(Uuid::from_bytes([2; 16])));
            let since = Instant::now();
            let now = since + Duration::from_millis(30);
            let mut events = Events::default();
            let up = News::Up { port, network: Some(network), after: Some(Duration::from_millis(200)) };
            let ours = Cause { request_id: Some("req-ours".to_owned()), since };
            events.log(std::slice::from_ref(&up), Some(&ours), now);
            events.expect(port, Cause { request_id: Some("req-users".to_owned()), since });
            events.log(&[News::Down { port, network: Some(network) }], Some(&ours), now);
            events.log(&[up], Some(&ours), now + FOLLOWS);
            events.log(&[News::Changed { port, network }], Some(&ours), now + FOLLOWS);
        });
        let text = String::from_utf8(lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
        let port = "port 01010101-0101-0101-0101-010101010101";
        let network = "in network 02020202-0202-0202-0202-020202020202";
        assert_eq!(
            text.lines().map(str::trim).collect::<Vec<_>>(),
            [
                format!(
                    "INFO {port} is up, {network}, 200 ms after its tap appeared request_id=\"req-ours\" millis=30"
                ),
                format!("INFO {port} is down, {network} request_id=\"req-users\" millis=30"),
                format!(
                    "INFO {port} is up, {network}, 200 ms after its tap appeared request_id=\"req-users\" millis=10030"
                ),
                format!("INFO {port} is different now, {network} request_id=\"req-ours\" millis=10030"),
            ]
        );
    }
}
