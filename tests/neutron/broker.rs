//! What other tests take for granted: a broker that runs, stops, dies and comes back.

use std::net::TcpStream;

use anyhow::Result;
use overlane_tests::neutron::{Broker, LoneBroker};

fn answers(lone: &LoneBroker) -> bool {
    lone.namespace.inside(|| Ok(TcpStream::connect("127.0.0.1:5672")?)).is_ok()
}

#[test]
fn a_broker_keeps_its_users_through_a_stop_and_a_kill() -> Result<()> {
    let lone = LoneBroker::start("")?;
    lone.broker.control("add_user neutron secret")?;
    for end in [Broker::stop, Broker::kill] {
        assert!(answers(&lone));
        end(&lone.broker)?;
        assert!(!answers(&lone));
        lone.broker.start_again()?;
        assert!(lone.broker.control("list_users")?.contains("neutron"));
    }
    Ok(())
}
