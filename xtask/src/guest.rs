//! What the tier `guest` boots: QEMU, Debian's kernel for clouds and busybox, from packages that are unpacked below `target`, and an
//! initial file system with a shell in it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    packages::{Need, Recipe, Root, remove},
    workspace::Workspace,
};

const PACKAGES: [&str; 3] = ["busybox-static", "linux-image-cloud-amd64", "qemu-system-x86"];

/// Drivers that the kernel has as modules, each after those it needs. Nothing else is kept of the kernel's modules.
const MODULES: [&str; 8] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// The guest's first process.
const INIT: &str = include_str!("guest/init.sh");
/// What a DHCP client calls, in machines of the lab and here.
const DHCP_CLIENT: &str = include_str!("../../tests/src/lab/dhcp_client.sh");

/// The root; in it are `kernel` and `initramfs`.
pub(crate) const NEED: Need = Need { whose: "the guest's", variable: "OVERLANE_GUEST_ROOT", prepare };

/// Makes the root, unless one of the same recipe is there, and the initial file system.
fn prepare(workspace: &Workspace) -> Result<Root> {
    let rest = MODULES.join("\n");
    let recipe = Recipe { name: "guest", whose: NEED.whose, packages: &PACKAGES, rest: &rest };
    let root = recipe.prepare(workspace, keep_the_needed)?;
    if let Root::Ready(root) = &root {
        pack(root, &workspace.target("guest-initramfs"))?;
    }
    Ok(root)
}

/// Puts kernel and modules where they are found, and removes the rest of both.
fn keep_the_needed(root: &Path) -> Result<()> {
    let kernels = fs::read_dir(root.join("boot")).context("looking for the kernel")?;
    let mut kernels = kernels.filter_map(|entry| Some(entry.ok()?.path()));
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    fs::rename(kernels.find(is_kernel).context("the packages have no kernel")?, root.join("kernel"))?;
    let versions = root.join("usr/lib/modules");
    let version = fs::read_dir(&versions)?.next().context("the packages have no modules")??.path();
    fs::create_dir(root.join("modules"))?;
    for module in MODULES {
        let file = version.join("kernel").join(module).with_extension("ko");
        let name = file.file_name().context("a module has a name")?;
        fs::copy(&file, root.join("modules").join(name)).with_context(|| format!("copying {}", file.display()))?;
    }
    remove(&versions)?;
    remove(&root.join("boot"))
}

/// Packs the initial file system (kernel `Documentation/driver-api/early-userspace/buffer-format.rst`).
fn pack(root: &Path, folder: &Path) -> Result<()> {
    remove(folder)?;
    for name in ["bin", "dev", "etc", "modules", "proc", "sys", "tmp"] {
        fs::create_dir_all(folder.join(name)).context("laying out the guest's files")?;
    }
    fs::copy(root.join("usr/bin/busybox"), folder.join("bin/busybox")).context("copying busybox")?;
    for entry in fs::read_dir(root.join("modules")).context("listing modules")? {
        let module = entry?.path();
        fs::copy(&module, folder.join("modules").join(module.file_name().context("a module has a name")?))?;
    }
    let names = MODULES.map(|module| module.rsplit('/').next().unwrap_or(module)).join("\n");
    fs::write(folder.join("modules/order"), names + "\n").context("writing the order of modules")?;
    for (name, text) in [("init", INIT), ("bin/dhcp_client", DHCP_CLIENT)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {name}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(|| format!("writing {name}"))?;
    }
    // Replaced in one step: another run may be reading it.
    let partial = root.join("initramfs.partial");
    let busybox = root.join("usr/bin/busybox");
    let mut find = Command::new(&busybox).args(["find", "."]).current_dir(folder).stdout(Stdio::piped()).spawn()?;
    let mut cpio = Command::new(&busybox);
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(folder).stderr(Stdio::null());
    cpio.stdin(find.stdout.take().context("listing the guest's files")?).stdout(fs::File::create(&partial)?);
    let packed = cpio.status().context("packing the guest's files")?;
    ensure!(packed.success() && find.wait()?.success(), "packing the guest's files: {packed}");
    fs::rename(&partial, root.join("initramfs")).context("renaming the guest's files")
}
