//! Loading the embedded object.

use std::{fs, io, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use overlane_abi::{Address, Hook, names};
use overlane_core::offload::RoomHelper;

use super::{DatapathError, Events, LoadSettings, Maps, logs, probe};

/// The object that the build script embeds; empty when it was built without one.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/overlane.bpf.o"));

/// The program that the kernel runs before it gives a tap what XDP sends there.
const TO_PORT_XDP: &str = "to_port_xdp";

/// The loaded programs: one per hook, and one for the map of devices that XDP may send by.
pub(super) struct Programs {
    ebpf: Ebpf,
    log_forwarder: Option<tokio::task::JoinHandle<()>>,
}

impl Programs {
    /// Loads the programs with maps pinned in `directory`, and takes the maps out.
    pub(super) fn load(directory: &Path, settings: &LoadSettings) -> Result<(Self, Maps), DatapathError> {
        if OBJECT.is_empty() {
            return Err(DatapathError::NoObject);
        }
        fs::create_dir_all(directory).map_err(DatapathError::pins(directory))?;
        let local_vtep = Address::from(settings.local_vtep).octets;
        let (source_port_min, source_port_max) = settings.source_ports;
        let source_port_end = u32::from(source_port_max) + 1;
        let pins = names::MAPS.map(|name| (name, directory.join(name)));
        let mut loader = EbpfLoader::new();
        loader
            // The object depends on none of the kernel's types (it has no CO-RE relocations), so they make room before it is taken apart.
            .btf(None)
            .override_global(names::LOCAL_VTEP, &local_vtep, true)
            .override_global(names::VXLAN_PORT, &settings.vxlan_port, true)
            .override_global(names::SOURCE_PORT_MIN, &source_port_min, true)
            .override_global(names::SOURCE_PORT_END, &source_port_end, true);
        let (forwarding, closed) = (u8::from(settings.forwards), u8::from(settings.is_closed));
        loader
            .override_global(names::FORWARDING, &forwarding, true)
            .override_global(names::CLOSED, &closed, true)
            .override_global(names::FLOW_TIMEOUTS, settings.flows.timeouts.as_slice(), true)
            .override_global(names::LOG_RATE, &settings.flows.log_rate, true)
            .map_max_entries(names::CONNTRACK4, settings.flows.max)
            .map_max_entries(names::CONNTRACK6, settings.flows.max);
        let log_level = logs::level(settings.logs);
        loader.override_global(aya_log::LEVEL, &log_level, true);
        for (name, pin) in &pins {
            loader.map_pin_path(name, pin);
        }
        let mut ebpf = loader.load(OBJECT).map_err(DatapathError::load)?;
        let maps = Maps::take(&mut ebpf, settings.vteps_are_all)?;
        // The others are loaded when somebody wants them: older kernels do not have all that they need.
        for hook in Hook::ALL.into_iter().filter(|hook| !hook.is_xdp()) {
            classifier(&mut ebpf, hook)?.load().map_err(DatapathError::program(hook.name()))?;
        }
        let log_forwarder = if settings.logs { start_log_forwarder(&mut ebpf) } else { None };
        Ok((Self { ebpf, log_forwarder }, maps))
    }

    /// The events that the programs write.
    pub(super) fn take_events(&mut self) -> Result<Events, DatapathError> {
        Events::take(&mut self.ebpf)
    }

    /// What the kernel's helper for outer headers does; an agent that cannot find out goes on without.
    pub(super) fn test_room_helper(&mut self) -> RoomHelper {
        let tested = probe::room_helper(&mut self.ebpf);
        tested.unwrap_or_else(|error| {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "could not test what the kernel does with outer headers");
            RoomHelper::default()
        })
    }

    /// The id by which the kernel knows the program for a TC hook.
    pub(super) fn id(&mut self, hook: Hook) -> Result<u32, DatapathError> {
        let info = self.classifier(hook)?.info();
        info.map(|info| info.id()).map_err(DatapathError::program(hook.name()))
    }

    /// The program for a TC hook.
    pub(super) fn classifier(&mut self, hook: Hook) -> Result<&mut SchedClassifier, DatapathError> {
        classifier(&mut self.ebpf, hook)
    }

    /// The program for an XDP hook, loaded.
    pub(super) fn xdp(&mut self, hook: Hook) -> Result<&mut Xdp, DatapathError> {
        self.loaded_xdp(hook.name())
    }

    /// What admits packets that XDP sends to taps, and its id.
    pub(super) fn admission_by_xdp(&mut self) -> Result<(ProgramFd, u32), DatapathError> {
        let program = self.loaded_xdp(TO_PORT_XDP)?;
        let info = program.info().map_err(DatapathError::program(TO_PORT_XDP))?;
        let copied = program.fd().map_err(DatapathError::program(TO_PORT_XDP))?.try_clone();
        let copied = copied.map_err(|error| DatapathError::program(TO_PORT_XDP)(ProgramError::IOError(error)))?;
        Ok((copied, info.id()))
    }

    fn loaded_xdp(&mut self, name: &'static str) -> Result<&mut Xdp, DatapathError> {
        let program: &mut Xdp = program(&mut self.ebpf, name)?.try_into().map_err(DatapathError::program(name))?;
        if program.fd().is_err() {
            program.load().map_err(DatapathError::program(name))?;
        }
        Ok(program)
    }
}

impl std::ops::Drop for Programs {
    fn drop(&mut self) {
        if let Some(forwarder) = self.log_forwarder.take() {
            forwarder.abort();
        }
    }
}

/// Packets matter more than words about them: without its log the datapath still works.
fn start_log_forwarder(ebpf: &mut Ebpf) -> Option<tokio::task::JoinHandle<()>> {
    logs::forward(ebpf).inspect_err(|error| tracing::warn!(error = %error, "no log from the eBPF programs")).ok()
}

fn classifier(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, DatapathError> {
    program(ebpf, hook.name())?.try_into().map_err(DatapathError::program(hook.name()))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, DatapathError> {
    let missing = || DatapathError::program(name)(ProgramError::IOError(io::ErrorKind::NotFound.into()));
    ebpf.program_mut(name).ok_or_else(missing)
}
