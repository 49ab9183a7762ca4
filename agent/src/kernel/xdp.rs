//! What devices can do with XDP: the kernel's generic netlink family `netdev` (Linux 6.3).
//!
//! Names and numbers are those of `uapi/linux/netdev.h` and `uapi/linux/genetlink.h`. Messages of generic netlink have the shape of
//! netfilter's: the command is where that has the family of addresses.

use std::{collections::BTreeMap, io};

use overlane_core::{observed::Link, offload::NicFeatures, xdp::XdpFeatures};
use rtnetlink::sys::{AsyncSocket as _, SocketAddr, TokioSocket, protocols::NETLINK_GENERIC};

use super::{
    ethtool,
    netfilter::{Attributes, Netfilter, find, values},
};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// The family, as the kernel has numbered it.
struct Family {
    id: u16,
    /// The group of changes.
    changes: Option<u32>,
}

/// What each of these devices can do; empty where the kernel does not tell.
pub(super) fn features(
    links: &BTreeMap<u32, Link>,
    nics: &BTreeMap<u32, Result<NicFeatures, String>>,
) -> BTreeMap<u32, XdpFeatures> {
    list()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(ifindex, bits)| {
            let link = links.get(&ifindex)?;
            let runs = bits & NETDEV_XDP_ACT_BASIC != 0;
            let features = XdpFeatures {
                runs,
                redirects: bits & NETDEV_XDP_ACT_REDIRECT != 0,
                sends: bits & NETDEV_XDP_ACT_NDO_XMIT != 0,
                hides_tags: hides_tags(nics.get(&ifindex)),
                driver: ethtool::driver(&link.name).unwrap_or_else(|_| "unknown".to_owned()),
            };
            Some((ifindex, features))
        })
        .collect()
}

/// Whether a NIC takes tags off; one that does not say may.
fn hides_tags(nic: Option<&Result<NicFeatures, String>>) -> bool {
    nic.is_some_and(|nic| nic.as_ref().map_or(true, |features| features.takes_tags_off))
}

/// Tells when devices can do more, or less.
///
/// # Errors
/// When the kernel has nothing to tell, or does not let this process listen.
pub(super) fn subscribe() -> io::Result<TokioSocket> {
    let group = Family::find()?.changes.ok_or(io::ErrorKind::NotFound)?;
    let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(group)?;
    Ok(socket)
}

fn list() -> io::Result<Vec<(u32, u64)>> {
    let family = Family::find()?;
    let devices =
        Netfilter::connect_by(NETLINK_GENERIC)?.list(family.id, NETDEV_CMD_DEV_GET, &Attributes::default())?;
    let device = |attributes: &Vec<u8>| {
        let ifindex = u32::from_ne_bytes(*find(attributes, NETDEV_A_DEV_IFINDEX)?.first_chunk()?);
        let features = u64::from_ne_bytes(*find(attributes, NETDEV_A_DEV_XDP_FEATURES)?.first_chunk()?);
        Some((ifindex, features))
    };
    Ok(devices.iter().filter_map(device).collect())
}

impl Family {
    fn find() -> io::Result<Self> {
        let name = Attributes::default().text(CTRL_ATTR_FAMILY_NAME, "netdev");
        let answer = Netfilter::connect_by(NETLINK_GENERIC)?.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)?;
        let id = find(&answer, CTRL_ATTR_FAMILY_ID).and_then(|id| id.first_chunk());
        let id = u16::from_ne_bytes(*id.ok_or(io::ErrorKind::NotFound)?);
        let groups = find(&answer, CTRL_ATTR_MCAST_GROUPS).unwrap_or_default();
        let changes = values(groups).find(|group| find(group, CTRL_ATTR_MCAST_GRP_NAME) == Some(b"mgmt\0"));
        let changes = changes.and_then(|group| find(group, CTRL_ATTR_MCAST_GRP_ID)?.first_chunk());
        Ok(Self { id, changes: changes.map(|id| u32::from_ne_bytes(*id)) })
    }
}
