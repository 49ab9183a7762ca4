//! Attachments: tcx and XDP links that are pinned, so that they outlive the agent and the next one can swap their program
//! without a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{
    LinkOrder, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::{XdpLink, XdpMode},
};
use nix::net::if_::if_indextoname;
use overlane_abi::Hook;

use super::{
    DatapathError,
    alive::{self, Side},
    programs::Programs,
};

/// Where links are pinned, below the folder of their version.
pub(super) const FOLDER: &str = "links";

/// The folder with the pinned links.
pub(super) struct Links {
    directory: PathBuf,
    /// Folders of agents that speak another version of the ABI: their attachments are taken over one by one, each when
    /// the maps that the new program reads are filled.
    others: Vec<PathBuf>,
}

impl Links {
    /// The links pinned below `directory`, which need not exist.
    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.join(FOLDER), others: Vec::new() }
    }

    /// As `at`, making the folder, with the links of `other_versions` to be taken over.
    pub(super) fn open(directory: &Path, other_versions: &[PathBuf]) -> Result<Self, DatapathError> {
        let mut links = Self::at(directory);
        links.others = other_versions.iter().map(|directory| directory.join(FOLDER)).collect();
        links.make_folder()?;
        Ok(links)
    }

    /// Makes the folder, if it is not there (any more).
    pub(super) fn make_folder(&self) -> Result<(), DatapathError> {
        fs::create_dir_all(&self.directory).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => DatapathError::NoPermission,
            _ => DatapathError::Pins { path: self.directory.clone(), source },
        })
    }

    /// Removes the pins of attachments that are none any more, so that they are made anew.
    pub(super) fn drop_dead(&self, programs: &mut Programs) -> Result<(), DatapathError> {
        let classifiers = Hook::ALL.into_iter().filter(|hook| !hook.is_xdp());
        let ids: BTreeMap<Hook, u32> =
            classifiers.map(|hook| Ok((hook, programs.id(hook)?))).collect::<Result<_, DatapathError>>()?;
        for (hook, ifindex) in self.list()? {
            let is_attached = match side(hook) {
                Some(side) => alive::is_attached(ifindex, side, ids[&hook]),
                None => alive::is_xdp_attached(&self.pin(hook, ifindex)),
            };
            if !is_attached.map_err(DatapathError::pins(&self.pin(hook, ifindex)))? {
                tracing::warn!(
                    hook = hook.name(),
                    ifindex,
                    "somebody has detached a program, or its interface is gone"
                );
                self.detach(hook, ifindex)?;
            }
        }
        Ok(())
    }

    /// Which programs are attached where.
    pub(super) fn list(&self) -> Result<BTreeSet<(Hook, u32)>, DatapathError> {
        let error = DatapathError::pins(&self.directory);
        match fs::read_dir(&self.directory) {
            Ok(entries) => entries
                .map(|entry| Ok(parse_pin(&entry?.file_name().to_string_lossy())))
                .filter_map(Result::transpose)
                .collect::<io::Result<_>>()
                .map_err(error),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(source) => Err(error(source)),
        }
    }

    /// Puts the just loaded programs in the place of those that an earlier agent attached, and removes the pins whose
    /// interfaces are gone.
    pub(super) fn adopt(&self, programs: &mut Programs) -> Result<(), DatapathError> {
        for (hook, ifindex) in self.list()? {
            if let Err(error) = self.replace_program(programs, hook, ifindex) {
                tracing::debug!(hook = hook.name(), ifindex, error = %error, "dropping the pin of a dead link");
                self.detach(hook, ifindex)?;
            }
        }
        Ok(())
    }

    fn replace_program(
        &self,
        programs: &mut Programs,
        hook: Hook,
        ifindex: u32,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let pinned = PinnedLink::from_pin(self.pin(hook, ifindex))?;
        // Taken out of aya's hands: the pin keeps it attached, and nothing detaches it when the agent stops.
        drop(swap_program(programs, hook, pinned.into())?);
        Ok(())
    }

    /// Attaches a program and pins the attachment.
    pub(super) fn attach(&self, programs: &mut Programs, hook: Hook, ifindex: u32) -> Result<(), DatapathError> {
        self.try_attach(programs, hook, ifindex).map_err(|source| DatapathError::Attach {
            program: hook.name(),
            ifindex,
            source,
        })
    }

    fn try_attach(
        &self,
        programs: &mut Programs,
        hook: Hook,
        ifindex: u32,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for pin in
            self.others.iter().map(|directory| directory.join(pin_name(hook, ifindex))).filter(|pin| pin.exists())
        {
            match self.take_over(programs, hook, ifindex, &pin) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(hook = hook.name(), ifindex, error = %error, "dropping the pin of a dead link");
                    fs::remove_file(&pin)?;
                }
            }
        }
        let link: FdLink = match side(hook) {
            Some(side) => {
                let side = match side {
                    Side::Egress => TcAttachType::Egress,
                    Side::Ingress => TcAttachType::Ingress,
                };
                let interface = if_indextoname(ifindex)?.into_string()?;
                let options = TcAttachOptions::TcxOrder(LinkOrder::default());
                let program = programs.classifier(hook)?;
                let id = program.attach_with_options(&interface, side, options)?;
                program.take_link(id)?.try_into()?
            }
            None => {
                // In the driver or not at all: the kernel's generic XDP is slower than the TC lane.
                let program = programs.xdp(hook)?;
                let id = program.attach_to_if_index(ifindex, XdpMode::Driver)?;
                program.take_link(id)?.try_into()?
            }
        };
        link.pin(self.pin(hook, ifindex))?;
        Ok(())
    }

    /// Swaps the program of another version's attachment, and makes the attachment ours; no packet passes in between.
    fn take_over(
        &self,
        programs: &mut Programs,
        hook: Hook,
        ifindex: u32,
        pin: &Path,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let link = swap_program(programs, hook, PinnedLink::from_pin(pin)?.into())?;
        link.pin(self.pin(hook, ifindex))?;
        fs::remove_file(pin)?;
        Ok(())
    }

    /// Removes a pin, and with it the attachment.
    pub(super) fn detach(&self, hook: Hook, ifindex: u32) -> Result<(), DatapathError> {
        let pin = self.pin(hook, ifindex);
        match fs::remove_file(&pin) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DatapathError::Pins { path: pin, source }),
            _ => Ok(()),
        }
    }

    fn pin(&self, hook: Hook, ifindex: u32) -> PathBuf {
        self.directory.join(pin_name(hook, ifindex))
    }
}

/// Puts a just loaded program in the place of the one that is attached by a link.
fn swap_program(
    programs: &mut Programs,
    hook: Hook,
    link: FdLink,
) -> Result<FdLink, Box<dyn std::error::Error + Send + Sync>> {
    if hook.is_xdp() {
        let program = programs.xdp(hook)?;
        let id = program.attach_to_link(XdpLink::try_from(link)?)?;
        return Ok(program.take_link(id)?.try_into()?);
    }
    let program = programs.classifier(hook)?;
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    Ok(program.take_link(id)?.try_into()?)
}

/// The side of an interface that a TC hook is at.
fn side(hook: Hook) -> Option<Side> {
    match hook {
        Hook::ToPort | Hook::ToVlan => Some(Side::Egress),
        Hook::FromPort | Hook::FromUplink | Hook::FromOverlay => Some(Side::Ingress),
        Hook::FromPortXdp | Hook::FromUplinkXdp => None,
    }
}

fn pin_name(hook: Hook, ifindex: u32) -> String {
    format!("{}-{ifindex}", hook.name())
}

fn parse_pin(name: &str) -> Option<(Hook, u32)> {
    let (hook, ifindex) = name.rsplit_once('-')?;
    let hook = Hook::ALL.into_iter().find(|candidate| candidate.name() == hook)?;
    Some((hook, ifindex.parse().ok()?))
}

/// Removes every pin below `directory`; the links go first, so that no program ever runs without its maps.
pub(super) fn remove_all(directory: &Path) -> Result<(), DatapathError> {
    for folder in [directory.join(FOLDER), directory.to_owned()] {
        match fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(DatapathError::Pins { path: folder, source });
            }
            _ => (),
        }
    }
    Ok(())
}
