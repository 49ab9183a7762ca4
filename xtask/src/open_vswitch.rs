//! Open vSwitch, which `cargo xtask bench datapath` measures as well: Debian's packages, unpacked below `target` and never installed.

use anyhow::Result;

use crate::{
    packages::{Need, Recipe, Root},
    workspace::Workspace,
};

/// What is unpacked, with all that it depends on.
const PACKAGES: [&str; 1] = ["openvswitch-switch"];

/// The root.
pub(crate) const NEED: Need = Need { whose: "Open vSwitch's", variable: "OVERLANE_OPEN_VSWITCH_ROOT", prepare };

/// Makes the root, unless one of the same recipe is there. Its programs run as they are, with its own loader and libraries.
fn prepare(workspace: &Workspace) -> Result<Root> {
    let recipe = Recipe { name: "open-vswitch", whose: NEED.whose, packages: &PACKAGES, rest: "" };
    recipe.prepare(workspace, |_| Ok(()))
}
