//! What CPUID tells a guest, which must not change under it.
//!
//! A guest keeps the CPUID it started with, so that its host's kernel may be newer, or its
//! processor a larger model. Refused is what cannot be kept: a feature that is not there, another
//! vendor, another place among the processors, another layout of XSAVE.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use crate::cpuid::features::{self, FEATURES, INVTSC_WORD, Register, SVM_WORD, VMX_WORD, Word};
use crate::mirror::is_default;

/// One answer of CPUID.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeafV1 {
    /// EAX of the question.
    pub leaf: u32,
    /// ECX of the question; absent where that does not matter.
    #[serde(skip_serializing_if = "is_default")]
    pub subleaf: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    pub eax: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub ebx: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub ecx: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub edx: u32,
}

impl LeafV1 {
    fn of(entry: &kvm_cpuid_entry2) -> Self {
        let kvm_cpuid_entry2 {
            function,
            index,
            flags,
            eax,
            ebx,
            ecx,
            edx,
            padding: _,
        } = *entry;
        let by_index = flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        LeafV1 {
            leaf: function,
            subleaf: by_index.then_some(index),
            eax,
            ebx,
            ecx,
            edx,
        }
    }

    fn entry(self) -> kvm_cpuid_entry2 {
        let LeafV1 {
            leaf,
            subleaf,
            eax,
            ebx,
            ecx,
            edx,
        } = self;
        kvm_cpuid_entry2 {
            function: leaf,
            index: subleaf.unwrap_or(0),
            flags: subleaf.map_or(0, |_| KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        }
    }

    #[cfg(test)]
    pub fn offers_sse2(&self) -> bool {
        self.leaf == 1 && self.edx >> 26 & 1 == 1
    }

    const fn get(&self, register: Register) -> u32 {
        match register {
            Register::Eax => self.eax,
            Register::Ebx => self.ebx,
            Register::Ecx => self.ecx,
            Register::Edx => self.edx,
        }
    }
}

/// The CPUID of a vCPU, as it was set last.
pub struct SharedCpuid(Mutex<CpuId>);

impl SharedCpuid {
    pub fn new(cpuid: CpuId) -> Self {
        SharedCpuid(Mutex::new(cpuid))
    }

    /// All leaves that say something.
    pub fn leaves(&self) -> Vec<LeafV1> {
        leaves(&self.lock())
    }

    /// Whether the guest may run guests.
    pub fn offers_nesting(&self) -> bool {
        let leaves = self.leaves();
        [VMX_WORD, SVM_WORD]
            .iter()
            .any(|&(word, bit)| get(&leaves, word) & bit != 0)
    }

    /// Whether the guest was promised a counter that never changes its pace.
    pub fn offers_invtsc(&self) -> bool {
        let (word, bit) = INVTSC_WORD;
        get(&self.leaves(), word) & bit != 0
    }

    /// Gives the vCPU the CPUID that its guest knows.
    ///
    /// # Errors
    /// With what this host or this machine's model lacks.
    pub fn adopt(&self, fd: &VcpuFd, saved: &[LeafV1]) -> Result<(), String> {
        let mut own = self.lock();
        let here = leaves(&own);
        if here == saved {
            return Ok(());
        }
        check(&here, saved)?;
        let entries: Vec<_> = saved.iter().map(|leaf| leaf.entry()).collect();
        let new = CpuId::from_entries(&entries)
            .map_err(|_| format!("cpuid: {} entries are too many", entries.len()))?;
        fd.set_cpuid2(&new)
            .map_err(|error| format!("KVM_SET_CPUID2: {error}"))?;
        *own = new;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, CpuId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leaves(cpuid: &CpuId) -> Vec<LeafV1> {
    let said = |leaf: &LeafV1| (leaf.eax | leaf.ebx | leaf.ecx | leaf.edx) != 0;
    let all = cpuid.as_slice().iter().map(LeafV1::of);
    all.filter(said).collect()
}

fn get(leaves: &[LeafV1], word: Word) -> u32 {
    let place =
        |leaf: &&LeafV1| (leaf.leaf, leaf.subleaf.unwrap_or(0)) == (word.function, word.index);
    leaves
        .iter()
        .find(place)
        .map_or(0, |leaf| leaf.get(word.register))
}

const REGISTERS: [Register; 4] = [Register::Eax, Register::Ebx, Register::Ecx, Register::Edx];
/// Where features are that may have no names yet (Intel SDM 2A, CPUID; AMD APM 3, appendix E).
const FEATURE_LEAVES: [u32; 4] = [7, 0x19, 0x24, 0x8000_0021];
/// Which processor it is among others.
const PLACES: [u32; 3] = [0xb, 0x1f, 0x8000_001e];
/// XSAVE.
const XSTATE: u32 = 0xd;
/// Widths of addresses.
const WIDTHS: u32 = 0x8000_0008;

fn check(here: &[LeafV1], saved: &[LeafV1]) -> Result<(), String> {
    let missing = missing_features(here, saved);
    if !missing.is_empty() {
        return Err(format!(
            "cpuid: the guest uses features of its processor that are not there: {}",
            missing.join(", ")
        ));
    }
    let same = |word: Word, what: &str| match (get(here, word), get(saved, word)) {
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!(
            "cpuid: {what} was {b:#010x} and is {a:#010x} here ({})",
            name(word)
        )),
    };
    let at = |function, index, register| Word {
        function,
        index,
        register,
    };
    for register in [Register::Ebx, Register::Ecx, Register::Edx] {
        same(at(0, 0, register), "the processor's vendor")?;
    }
    same(at(1, 0, Register::Ebx), "the processor's place")?;
    for leaf in here.iter().chain(saved) {
        let index = leaf.subleaf.unwrap_or(0);
        if PLACES.contains(&leaf.leaf) {
            for register in REGISTERS {
                same(at(leaf.leaf, index, register), "the processor's place")?;
            }
        }
        // State that is not there for the guest has no place either.
        let kept = saved
            .iter()
            .any(|own| (own.leaf, own.subleaf) == (leaf.leaf, leaf.subleaf));
        if leaf.leaf == XSTATE && index > 1 && kept {
            same(at(XSTATE, index, Register::Eax), "the size of state")?;
            same(at(XSTATE, index, Register::Ebx), "the place of state")?;
        }
    }
    let width = |leaves| get(leaves, at(WIDTHS, 0, Register::Eax)) & 0xff;
    if width(saved) > width(here) {
        return Err(format!(
            "cpuid: physical addresses had {} bits and have {} here ({})",
            width(saved),
            width(here),
            name(at(WIDTHS, 0, Register::Eax))
        ));
    }
    Ok(())
}

/// Bits that are there in `saved` only, by their names.
fn missing_features(here: &[LeafV1], saved: &[LeafV1]) -> Vec<String> {
    let mut words: Vec<Word> = FEATURES.iter().map(|(word, _)| *word).collect();
    for leaf in saved {
        let unnamed = REGISTERS.iter().filter_map(|&register| {
            let word = Word {
                function: leaf.leaf,
                index: leaf.subleaf.unwrap_or(0),
                register,
            };
            // EAX of the first counts subleaves.
            let counts = word.index == 0 && register == Register::Eax && leaf.leaf != 0x8000_0021;
            let known = words.contains(&word) || counts;
            (FEATURE_LEAVES.contains(&leaf.leaf) && !known).then_some(word)
        });
        let unnamed: Vec<Word> = unnamed.collect();
        words.extend(unnamed);
    }
    // Components of the state that XSAVE keeps.
    for register in [Register::Eax, Register::Edx] {
        words.push(Word {
            function: XSTATE,
            index: 0,
            register,
        });
    }
    let mut missing = Vec::new();
    for word in words {
        let bits = get(saved, word) & !get(here, word);
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            let feature = features::name_of(word, bit).map(|name| format!(".{name}"));
            let feature = feature.unwrap_or_default();
            missing.push(format!("{}{feature} [bit {bit}]", name(word)));
        }
    }
    missing
}

fn name(word: Word) -> String {
    match word.index {
        0 => features::describe(word),
        index => format!("{} of subleaf {index}", features::describe(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn leaf(leaf: u32, subleaf: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) -> LeafV1 {
        LeafV1 {
            leaf,
            subleaf,
            eax,
            ebx,
            ecx,
            edx,
        }
    }

    fn processor() -> Vec<LeafV1> {
        vec![
            leaf(0, None, [0xd, 1, 2, 3]),
            leaf(1, None, [0x600, 0x0100_0800, 1 << 23, 0x0781_abfd]),
            leaf(7, Some(0), [2, 1 << 5, 0, 0]),
            leaf(7, Some(1), [1 << 4, 0, 0, 0]),
            leaf(0xd, Some(0), [7, 0, 0, 0]),
            leaf(0xd, Some(2), [0x100, 0x240, 0, 0]),
            leaf(0x8000_0008, None, [0x3028, 0, 0, 0]),
        ]
    }

    /// What is said when `change` made the difference between source and target.
    fn refused(change: impl FnOnce(&mut Vec<LeafV1>)) -> Option<String> {
        let mut here = processor();
        change(&mut here);
        check(&here, &processor()).err()
    }

    #[test]
    fn what_a_guest_would_miss_is_named() {
        assert_eq!(refused(|_| {}), None);
        let avx2 = refused(|here| here[2].ebx = 0).unwrap();
        assert!(avx2.contains("CPUID.07H:EBX.avx2 [bit 5]"), "{avx2}");
        let unnamed = refused(|here| here[3].eax = 1 << 20).unwrap();
        assert!(unnamed.contains("CPUID.07H:EAX of subleaf 1"), "{unnamed}");
        let both = refused(|here| {
            here[1].ecx = 0;
            here[1].edx &= !1;
        });
        let both = both.unwrap();
        assert!(
            both.contains("CPUID.01H:EDX.fpu [bit 0], CPUID.01H:ECX.popcnt [bit 23]"),
            "{both}"
        );
        let vendor = refused(|here| here[0].ecx = 5).unwrap();
        assert!(
            vendor.contains("vendor was 0x00000002 and is 0x00000005"),
            "{vendor}"
        );
        let place = refused(|here| here[1].ebx = 0x0200_0800).unwrap();
        assert!(place.contains("place"), "{place}");
        let layout = refused(|here| here[5].ebx = 0x340).unwrap();
        assert!(layout.contains("CPUID.0DH:EBX of subleaf 2"), "{layout}");
        let component = refused(|here| here[4].eax = 3).unwrap();
        assert!(component.contains("CPUID.0DH:EAX [bit 2]"), "{component}");
        let width = refused(|here| here[6].eax = 0x3024).unwrap();
        assert!(width.contains("had 40 bits and have 36 here"), "{width}");
    }

    #[test]
    fn a_larger_processor_will_do() {
        let larger = refused(|here| {
            here[1].ecx |= 1 << 28;
            here[2].ebx |= 1 << 16;
            here[4].eax = 0xe7;
            here.push(leaf(0xd, Some(5), [0x40, 0x440, 0, 0]));
            here[6].eax = 0x3030;
        });
        assert_eq!(larger, None);
    }
}
