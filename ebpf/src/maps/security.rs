//! Who may send and receive what: sources, rules, and sets of remote addresses.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuHashMap, lpm_trie::Key},
    macros::btf_map,
};
use overlane_abi::{
    Member, MemberKey, PolicyName, RuleHitKey, RuleKey, RuleSet, SetName, Source, SourceKey, Tally, limits,
};

use super::ON_DEMAND;

#[btf_map(name = "sources")]
static SOURCES: HashMap<SourceKey, Source, { limits::SOURCES_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "source_prefixes")]
static SOURCE_PREFIXES: LpmTrie<SourceKey, Source, { limits::SOURCE_PREFIXES_MAX }> = LpmTrie::new();

#[btf_map(name = "rules")]
static RULES: LpmTrie<RuleKey, RuleSet, { limits::RULES_MAX }> = LpmTrie::new();

#[btf_map(name = "members")]
static MEMBERS: HashMap<MemberKey, Member, { limits::MEMBERS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "member_prefixes")]
static MEMBER_PREFIXES: LpmTrie<MemberKey, Member, { limits::MEMBER_PREFIXES_MAX }> = LpmTrie::new();

/// For user space only, like the next one.
#[btf_map(name = "sets")]
static SETS: HashMap<u32, SetName, { limits::SETS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "policies")]
static POLICIES: HashMap<u32, PolicyName, { limits::POLICIES_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "generation")]
static GENERATION: Array<u32, 1> = Array::new();

#[btf_map(name = "rule_hits")]
static RULE_HITS: PerCpuHashMap<RuleHitKey, Tally, { limits::RULE_HITS_MAX }, ON_DEMAND> = PerCpuHashMap::new();

/// A key that is looked up in a hash map and in a trie, where it counts with all of its bits.
#[repr(C)]
pub struct Lookup<K> {
    bits: u32,
    pub key: K,
}

impl<K> Lookup<K> {
    #[inline(always)]
    pub fn of(key: K) -> Self {
        const { assert!(align_of::<K>() <= align_of::<u32>(), "as the trie has it, without padding") }
        Self { bits: 8 * size_of::<K>() as u32, key }
    }

    /// The key as the trie wants it.
    #[inline(always)]
    fn prefix(&self) -> &Key<K> {
        // SAFETY: the same fields in the same order, without padding between them; only the alignment is less.
        unsafe { &*(&raw const *self).cast() }
    }
}

/// The entry that lets a port send from a pair of addresses.
#[inline(always)]
pub fn source(lookup: &Lookup<SourceKey>) -> Option<&'static Source> {
    let key = &lookup.key;
    // SAFETY: as in `maps::port`.
    unsafe { SOURCES.get(key) }.or_else(|| SOURCE_PREFIXES.get(lookup.prefix()))
}

/// What the rules of a policy ask of the remote address.
#[inline(always)]
pub fn rules(key: RuleKey) -> Option<&'static RuleSet> {
    RULES.get(Lookup::of(key).prefix())
}

/// The member of a set that an address is.
#[inline(always)]
pub fn member(lookup: &Lookup<MemberKey>) -> Option<&'static Member> {
    let key = &lookup.key;
    // SAFETY: as in `maps::port`.
    unsafe { MEMBERS.get(key) }.or_else(|| MEMBER_PREFIXES.get(lookup.prefix()))
}

/// Which generation of members is in force.
#[inline(always)]
pub fn generation() -> u32 {
    GENERATION.get(0).copied().unwrap_or_default()
}

/// Counts a frame that a rule has admitted.
#[inline(always)]
pub fn count_hit(policy: u32, rule: u16, bytes: u64) {
    let key = RuleHitKey { policy, rule: rule.into() };
    if RULE_HITS.get_ptr_mut(key).is_none() {
        let _ = RULE_HITS.insert(key, Tally { packets: 0, bytes: 0 }, BPF_NOEXIST.into());
    }
    if let Some(tally) = RULE_HITS.get_ptr_mut(key) {
        // SAFETY: as in `maps::count`.
        let tally = unsafe { &mut *tally };
        tally.packets += 1;
        tally.bytes += bytes;
    }
}
