//! Runs a program on one frame by `BPF_PROG_TEST_RUN` and compares everything that it did with what was expected.

mod counted;
pub(crate) mod tables;
mod tick;

use std::{collections::BTreeSet, env, fmt::Debug, fs, mem, net::IpAddr, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        Array, HashMap, MapData, PerCpuHashMap, RingBuf,
        lpm_trie::{Key, LpmTrie},
        xdp::DevMapHash,
    },
    programs::{Program, ProgramError, TestRun as _, TestRunOptions, TestRunResult},
};
use overlane_abi::{Address, DropReason, FlowEvent, FlowState, Hook, Meta, Outcome, RuleHitKey, Tally, names};
use overlane_tests::packet::{Frame, write_pcap};
use zerocopy::FromBytes as _;

use counted::Counted;

/// The interface that test runs happen on: the loopback of whoever runs them.
pub(crate) const IFINDEX: u32 = 1;

/// Room for what a program adds.
const HEADROOM: usize = 256;

/// What a host's programs are loaded with.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Whether `from_port` forwards what it admits.
    pub(crate) forwarding: bool,
    /// Whether taps without an entry are closed.
    pub(crate) closed: bool,
    /// Milliseconds, by flow state.
    pub(crate) timeouts: [u32; FlowState::COUNT],
    /// Events per second.
    pub(crate) log_rate: u32,
    /// Whether the programs log what they drop.
    pub(crate) debug: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { forwarding: true, closed: false, timeouts: FlowState::DEFAULT_TIMEOUTS, log_rate: 0, debug: false }
    }
}

/// Flows that the tables of a test have room for.
pub(crate) const FLOWS_MAX: u32 = 2048;

/// Counters likewise: they are read as often as packets are sent.
const COUNTERS_MAX: u32 = 64;

/// Programs with empty maps.
pub(crate) struct Datapath {
    ebpf: Ebpf,
    loaded: BTreeSet<Hook>,
    /// Whether maps have changed that programs ask once in a tick.
    has_changed: bool,
}

/// What a program is to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave it, unmodified, to the kernel, for this reason.
    Pass(Outcome),
    /// Send it out of an interface.
    Redirect(Outcome),
    /// Drop it.
    Drop(DropReason),
    /// At an XDP hook: leave it, unmodified and uncounted, to the programs at the TC hooks.
    Leave,
}

impl Verdict {
    /// Values of the kernel's `TC_ACT_UNSPEC`, `TC_ACT_REDIRECT` and `TC_ACT_SHOT`, or of `XDP_PASS`, `XDP_REDIRECT` and `XDP_DROP`.
    fn action(self, hook: Hook) -> i32 {
        match (self, hook.is_xdp()) {
            (Self::Pass(_) | Self::Leave, false) => -1,
            (Self::Redirect(_), false) => 7,
            (Self::Drop(_), false) | (Self::Pass(_) | Self::Leave, true) => 2,
            (Self::Redirect(_), true) => 4,
            (Self::Drop(_), true) => 1,
        }
    }

    fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Pass(outcome) | Self::Redirect(outcome) => Some(outcome),
            Self::Drop(_) => Some(Outcome::Dropped),
            Self::Leave => None,
        }
    }
}

impl Datapath {
    /// Loads the programs of a host with the tunnel endpoint `local_vtep`.
    pub(crate) fn load(local_vtep: IpAddr) -> Self {
        Self::load_with(local_vtep, Load::default())
    }

    /// As `load`, with other values than the default ones.
    pub(crate) fn load_with(local_vtep: IpAddr, load: Load) -> Self {
        let object = env::var_os("OVERLANE_EBPF_OBJECT").expect("cargo xtask test sets OVERLANE_EBPF_OBJECT");
        let object = fs::read(PathBuf::from(&object)).expect("cargo xtask test builds the object");
        let local_vtep = Address::from(local_vtep).octets;
        // As `debug!` of aya-log has it.
        let log_level: u8 = if load.debug { 4 } else { 0 };
        let (forwarding, closed) = (u8::from(load.forwarding), u8::from(load.closed));
        let mut loader = EbpfLoader::new();
        for table in [names::CONNTRACK4, names::CONNTRACK6, names::CONNTRACK_NEW4, names::CONNTRACK_NEW6] {
            loader.map_max_entries(table, FLOWS_MAX);
        }
        let ebpf = loader
            .map_max_entries(names::COUNTERS, COUNTERS_MAX)
            .map_max_entries(names::DROPS, COUNTERS_MAX)
            .override_global(names::LOCAL_VTEP, &local_vtep, true)
            .override_global(names::FORWARDING, &forwarding, true)
            .override_global(names::CLOSED, &closed, true)
            .override_global(names::FLOW_TIMEOUTS, &load.timeouts, true)
            .override_global(names::LOG_RATE, &load.log_rate, true)
            .override_global("AYA_LOG_LEVEL", &log_level, true)
            .load(&object)
            .expect("the object loads");
        Self { ebpf, loaded: BTreeSet::new(), has_changed: false }
    }

    /// Adds a map entry.
    pub(crate) fn put<K: Pod + Debug, V: Pod>(&mut self, map: &str, key: K, value: V) {
        self.has_changed |= tick::is_kept(map);
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = HashMap::<&mut MapData, K, V>::try_from(map).expect("the map has these types");
        map.insert(key, value, 0).expect("the map has room");
    }

    /// Gives the interface of test runs a place in the array of counters.
    pub(crate) fn give_counter_slot(&mut self) {
        let map = self.ebpf.map_mut(names::COUNTER_SLOTS).expect("the map exists");
        let mut owners = Array::<&mut MapData, u32>::try_from(map).expect("its type");
        owners.set(IFINDEX, IFINDEX, 0).expect("it has this place");
    }

    /// Lets XDP send by an interface. (The device is the loopback: nothing is sent in a test run.)
    pub(crate) fn send_by_xdp(&mut self, ifindex: u32) {
        let map = self.ebpf.map_mut(names::XDP_DEVICES).expect("the map exists");
        let mut map = DevMapHash::try_from(map).expect("it is a map of devices");
        map.insert(ifindex, IFINDEX, None, 0).expect("the map has room");
    }

    /// Removes a map entry.
    pub(crate) fn remove<K: Pod, V: Pod>(&mut self, map: &str, key: K) {
        self.has_changed |= tick::is_kept(map);
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = HashMap::<&mut MapData, K, V>::try_from(map).expect("the map has these types");
        map.remove(&key).expect("the entry exists");
    }

    /// Adds an entry to a longest-prefix-match trie.
    pub(crate) fn put_prefix<K: Pod, V: Pod>(&mut self, map: &str, bits: u32, key: K, value: V) {
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = LpmTrie::<&mut MapData, K, V>::try_from(map).expect("the map has these types");
        map.insert(&Key::new(bits, key), value, 0).expect("the map has room");
    }

    /// Removes an entry from a longest-prefix-match trie.
    pub(crate) fn remove_prefix<K: Pod, V: Pod>(&mut self, map: &str, bits: u32, key: K) {
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = LpmTrie::<&mut MapData, K, V>::try_from(map).expect("the map has these types");
        map.remove(&Key::new(bits, key)).expect("the entry exists");
    }

    /// Sets the value of a map that has one.
    pub(crate) fn set<V: Pod>(&mut self, map: &str, value: V) {
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = Array::<&mut MapData, V>::try_from(map).expect("the map has this type");
        map.set(0, value, 0).expect("an array has all of its entries");
    }

    /// Every entry of a map.
    pub(crate) fn entries<K: Pod, V: Pod>(&self, map: &str) -> Vec<(K, V)> {
        let map = self.ebpf.map(map).expect("the map exists");
        let map = HashMap::<&MapData, K, V>::try_from(map).expect("the map has these types");
        map.iter().collect::<Result<_, _>>().expect("the map can be read")
    }

    /// What a rule has admitted: packets and bytes.
    pub(crate) fn hits(&self, policy: u32, rule: u32) -> (u64, u64) {
        let map = self.ebpf.map(names::RULE_HITS).expect("the map exists");
        let map = PerCpuHashMap::<&MapData, RuleHitKey, Tally>::try_from(map).expect("its types");
        let Ok(tallies) = map.get(&RuleHitKey { policy, rule }, 0) else { return (0, 0) };
        tallies.iter().fold((0, 0), |sum, cpu| (sum.0 + cpu.packets, sum.1 + cpu.bytes))
    }

    /// The events that have been written since the last call.
    pub(crate) fn events(&mut self) -> Vec<FlowEvent> {
        let map = self.ebpf.map_mut(names::EVENTS).expect("the map exists");
        let mut ring = RingBuf::try_from(map).expect("it is a ring buffer");
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            events.push(FlowEvent::read_from_bytes(&item).expect("an event's size"));
        }
        events
    }

    /// Runs the program of `hook` on a frame, and says whether it was dropped.
    pub(crate) fn drops(&mut self, hook: Hook, frame: &Frame) -> bool {
        self.execute(hook, frame, &[]).0 == Verdict::Drop(DropReason::RewriteFailed).action(hook)
    }

    /// Runs the program of `hook` on a frame, and returns why it was dropped, if it was.
    pub(crate) fn judge(&mut self, hook: Hook, frame: &Frame) -> Result<(), DropReason> {
        let before = self.counted().drops;
        self.execute(hook, frame, &[]);
        let after = self.counted().drops;
        let dropped = after.iter().find(|(key, tally)| before.get(key) != Some(tally)).map(|((_, reason), _)| *reason);
        match dropped {
            None => Ok(()),
            Some(dropped) => Err(DropReason::ALL[dropped as usize]),
        }
    }

    /// Writes the one entry of `meta`.
    pub(crate) fn set_meta(&mut self, meta: Meta) {
        let map = self.ebpf.map_mut(names::META).expect("the map exists");
        Array::<&mut MapData, Meta>::try_from(map).expect("its type").set(0, meta, 0).expect("it has an entry");
    }

    /// Runs the program of `hook` on `frame`, expects `verdict`, and returns the frame that came out.
    ///
    /// All counters are compared: this packet, by its outcome, and nothing else.
    pub(crate) fn expect(&mut self, hook: Hook, frame: &Frame, verdict: Verdict) -> Frame {
        self.run(hook, frame, &[], verdict)
    }

    /// As `expect`, for a packet that is passed on; it must come out as it went in.
    pub(crate) fn expect_pass(&mut self, hook: Hook, frame: &Frame, outcome: Outcome) {
        let verdict = Verdict::Pass(outcome);
        let output = self.run(hook, frame, &[], verdict);
        check(hook, verdict, (frame, &output), &output, frame, "the frame was changed");
    }

    /// As `expect_pass`, at an XDP hook.
    pub(crate) fn expect_left(&mut self, hook: Hook, frame: &Frame) {
        let output = self.run(hook, frame, &[], Verdict::Leave);
        check(hook, Verdict::Leave, (frame, &output), &output, frame, "the frame was changed");
    }

    /// As `expect`, for a superpacket with segments of `segment_size` bytes of payload.
    pub(crate) fn expect_superpacket(
        &mut self,
        hook: Hook,
        frame: &Frame,
        segment_size: u32,
        verdict: Verdict,
    ) -> Frame {
        // Offsets of `gso_segs` and `gso_size` in the kernel's `struct __sk_buff`, and its length.
        const SEGMENTS: usize = 164;
        const SEGMENT_SIZE: usize = 176;
        let mut context = [0; 192];
        context[SEGMENTS..SEGMENTS + 4].copy_from_slice(&2_u32.to_ne_bytes());
        context[SEGMENT_SIZE..SEGMENT_SIZE + 4].copy_from_slice(&segment_size.to_ne_bytes());
        self.run(hook, frame, &context, verdict)
    }

    /// The priority that the program of `hook` leaves a packet with; before, it is 0.
    pub(crate) fn priority(&mut self, hook: Hook, frame: &Frame) -> u32 {
        // Offset of `priority` in the kernel's `struct __sk_buff`, and its length.
        const PRIORITY: usize = 32;
        let (mut output, mut context) = (vec![0; frame.0.len() + HEADROOM], [0; 192]);
        let options = TestRunOptions {
            data_in: Some(&frame.0),
            data_out: Some(&mut output),
            ctx_in: Some(&[0; 192]),
            ctx_out: Some(&mut context),
            ..TestRunOptions::default()
        };
        self.test_run(hook, options).expect("the kernel runs the program");
        context[PRIORITY..].first_chunk().copied().map_or(0, u32::from_ne_bytes)
    }

    /// Runs the program of `hook` on a frame that may mean anything: it is counted once, but for what XDP leaves to others, and what
    /// is passed on is unchanged.
    pub(crate) fn survives(&mut self, hook: Hook, frame: &Frame) {
        let before = self.counted();
        let (action, output) = self.execute(hook, frame, &[]);
        let after = self.counted();
        let packets = |counted: &Counted| counted.counters.values().map(|(packets, ..)| *packets).sum::<u64>();
        let outcomes = |counted: &Counted| counted.counters.values().flat_map(|(.., outcomes)| outcomes).sum::<u64>();
        let is_passed = action == Verdict::Leave.action(hook);
        let is_counted = !(is_passed && hook.is_xdp());
        assert_eq!(packets(&after), packets(&before) + u64::from(is_counted), "{frame:?}");
        assert_eq!(outcomes(&after), packets(&after), "{frame:?}");
        assert!(!is_passed || output == *frame, "{frame:?} became {output:?}");
    }

    /// Runs the program of a hook; it is loaded when it is needed, because the verifier takes its time.
    fn test_run(&mut self, hook: Hook, options: TestRunOptions<'_>) -> Result<TestRunResult, ProgramError> {
        if mem::take(&mut self.has_changed) {
            tick::wait();
        }
        let program = self.ebpf.program_mut(hook.name()).expect("there is a program per hook");
        let is_new = self.loaded.insert(hook);
        let loaded = |result: Result<(), ProgramError>| {
            result.unwrap_or_else(|error| panic!("{}: {error:?}", hook.name()));
        };
        match program {
            Program::SchedClassifier(program) => {
                if is_new {
                    loaded(program.load());
                }
                program.test_run(options)
            }
            Program::Xdp(program) => {
                if is_new {
                    loaded(program.load());
                }
                program.test_run(options)
            }
            _ => panic!("{} is of another kind", hook.name()),
        }
    }

    fn execute(&mut self, hook: Hook, frame: &Frame, context: &[u8]) -> (i32, Frame) {
        let mut output = vec![0; frame.0.len() + HEADROOM];
        let options = TestRunOptions {
            data_in: Some(&frame.0),
            data_out: Some(&mut output),
            ctx_in: (!context.is_empty()).then_some(context),
            ..TestRunOptions::default()
        };
        let result = self.test_run(hook, options).expect("the kernel runs the program");
        output.truncate(result.data_size_out as usize);
        (result.return_value as i32, Frame(output))
    }

    fn run(&mut self, hook: Hook, frame: &Frame, context: &[u8], verdict: Verdict) -> Frame {
        let before = self.counted();
        let (action, output) = self.execute(hook, frame, context);
        let mut expected = before;
        let length = frame.0.len() as u64;
        if let Some(outcome) = verdict.outcome() {
            let (packets, bytes, outcomes) = expected.counters.entry((IFINDEX, hook as u32)).or_default();
            (*packets, *bytes) = (*packets + 1, *bytes + length);
            outcomes[outcome as usize] += 1;
        }
        if let Verdict::Drop(reason) = verdict {
            let (packets, bytes) = expected.drops.entry((IFINDEX, reason as u32)).or_default();
            (*packets, *bytes) = (*packets + 1, *bytes + length);
        }
        let frames = (frame, &output);
        check(hook, verdict, frames, &self.counted(), &expected, "the counters are wrong");
        check(hook, verdict, frames, &action, &verdict.action(hook), "the action is wrong");
        output
    }

    /// Packets that the hash of counters has.
    pub(crate) fn counted_in_hash(&self) -> u64 {
        Counted::in_hash(&self.ebpf).counters.values().map(|(packets, ..)| packets).sum()
    }

    fn counted(&self) -> Counted {
        Counted::read(&self.ebpf)
    }
}

/// Fails with both frames taken apart, and leaves them in a capture file.
pub(crate) fn check<T: PartialEq + Debug>(
    hook: Hook,
    verdict: Verdict,
    (input, output): (&Frame, &Frame),
    found: &T,
    expected: &T,
    what: &str,
) {
    if found == expected {
        return;
    }
    let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
    let capture = env::temp_dir().join(format!("overlane-{test}.pcap"));
    let capture = match write_pcap(&capture, &[input, output]) {
        Ok(()) => capture.display().to_string(),
        Err(error) => format!("no capture: {error:#}"),
    };
    panic!(
        "{}, {verdict:?}: {what}\nfound    {found:?}\nexpected {expected:?}\n\
         frame in:  {input:?}\nframe out: {output:?}\nboth frames: {capture}",
        hook.name()
    );
}
