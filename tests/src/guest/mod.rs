//! A guest: a machine with a kernel of its own, in QEMU, behind a real tap with virtio-net and all its offloads. What it boots is
//! `xtask/src/guest.rs`'s.

mod shell;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use self::shell::Shell;
use crate::{
    lab::{Host, Port, Process},
    wait::wait_until,
};

/// What Nova gives a guest, which knows the MTU of its network from its device (virtio 1.2 §5.1.4).
const MTU: u16 = 1450;
/// Plenty for busybox and the files of tests, in MiB.
const MEMORY: u32 = 160;

/// A guest that runs. It ends when dropped.
pub struct Guest {
    shell: Shell,
    // Ends after the shell was closed.
    _qemu: Process,
}

/// The root with QEMU, kernel and busybox.
fn root() -> PathBuf {
    env::var_os("OVERLANE_GUEST_ROOT").expect("cargo xtask test guest sets OVERLANE_GUEST_ROOT").into()
}

/// A statically linked busybox, for what machines need and this one may not have.
pub fn busybox() -> PathBuf {
    root().join("usr/bin/busybox")
}

impl Guest {
    /// Boots a guest behind the tap of a port, and waits until it takes commands. Its interface is `eth0`, and down.
    ///
    /// # Errors
    /// When it does not boot in time, with what it has printed.
    pub fn boot(host: &Host, port: &Port) -> Result<Self> {
        let tap = port.tap();
        let file = |extension: &str| host.folder().join(&tap).with_extension(extension);
        let (socket, console) = (file("socket"), file("console"));
        let mut qemu = Process::start(&mut qemu(host, port, &socket, &console), &file("qemu.log"), false)?;
        wait_until("QEMU makes its tap", || {
            ensure!(qemu.ended()?.is_none(), "QEMU has ended: {}", qemu.output()?);
            Ok(host.run(&format!("ip link show {tap}")).is_ok())
        })?;
        // As libvirt does, which makes the tap itself.
        host.run(&format!("ip link set {tap} up"))?;
        let shell = Shell::connect(&socket).and_then(|shell| shell.wait_until_ready());
        let shell = shell.with_context(|| {
            let console = std::fs::read_to_string(&console).unwrap_or_default();
            format!("booting a guest; it has printed:\n{console}\n{}", qemu.output().unwrap_or_default())
        })?;
        Ok(Self { shell, _qemu: qemu })
    }

    /// Runs a shell script in the guest, and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with what it has printed.
    pub fn run(&self, script: &str) -> Result<String> {
        self.shell.run(script)
    }

    /// Gives `eth0` the addresses of its port, without asking anybody.
    ///
    /// # Errors
    /// When the guest refuses one.
    pub fn configure(&self, port: &Port) -> Result<()> {
        // Nobody else has them: waiting for objections would only take time.
        self.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up")?;
        for address in &port.fixed_ips {
            let prefix_len = if address.contains(':') { 64 } else { 24 };
            self.run(&format!("ip address add {address}/{prefix_len} dev eth0"))?;
        }
        Ok(())
    }

    /// Has `eth0` configured by a DHCP server.
    ///
    /// # Errors
    /// When none answers.
    pub fn lease(&self) -> Result<()> {
        let client = "LEASE=/tmp/lease udhcpc -i eth0 -n -q -t 20 -T 1 -s /bin/dhcp_client -O staticroutes";
        self.run(&format!("ip link set eth0 up && {client}")).map(drop)
    }

    /// Waits until `address` answers.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for(&self, address: &str) -> Result<()> {
        wait_until(&format!("the guest reaches {address}"), || {
            self.run(&format!("ping -c 1 -W 1 {address}")).map(|_| true)
        })
    }

    /// One of the counters of `eth0`, such as `tx_packets`: a superpacket counts once.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let count = self.run(&format!("cat /sys/class/net/eth0/statistics/{name}"))?;
        count.trim().parse().with_context(|| format!("the counter {name}"))
    }
}

/// QEMU, which needs nothing of this machine: its loader and libraries are in the root as well.
fn qemu(host: &Host, port: &Port, socket: &Path, console: &Path) -> Command {
    let root = root();
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = host.namespace.command(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .env("QEMU_MODULE_DIR", libraries.join("qemu"))
        .arg("--library-path")
        .arg(format!("{0}:{0}/pulseaudio", libraries.display()))
        .arg(root.join("usr/bin/qemu-system-x86_64"));
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(root.join(folder));
    }
    command.args(["-accel", "tcg", "-cpu", "max", "-m", &MEMORY.to_string()]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(root.join("kernel")).arg("-initrd").arg(root.join("initramfs"));
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.arg("-chardev").arg(format!("socket,id=shell,server=on,wait=off,path={}", socket.display()));
    command.args(["-serial", "chardev:shell"]);
    command.arg("-netdev").arg(format!("tap,id=port,ifname={},script=no,downscript=no", port.tap()));
    let mac = &port.mac_address;
    // Without a boot ROM, which would only look for something else to boot.
    command.arg("-device").arg(format!("virtio-net-pci,netdev=port,mac={mac},host_mtu={MTU},romfile="));
    command
}
