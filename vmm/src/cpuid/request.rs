//! `-cpu`: a model and what is changed about it.

use super::features::{self, FEATURES, KVM_EAX, Word, X7_EDX};
use super::{CpuError, INVTSC, KVM64, QEMU64, model_word, of_kvm};

/// The models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// The host's processor.
    Host,
    /// All that the accelerator can do; under KVM the same.
    Max,
    /// An old AMD.
    Qemu64,
    /// An old Intel.
    Kvm64,
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 4] = [Model::Host, Model::Kvm64, Model::Max, Model::Qemu64];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Model::Host => "host",
            Model::Max => "max",
            Model::Qemu64 => "qemu64",
            Model::Kvm64 => "kvm64",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Model::Host => "processor with all features of the host's that KVM supports",
            Model::Max => "all features that the accelerator supports on this host",
            Model::Qemu64 => "QEMU Virtual CPU version 2.5+",
            Model::Kvm64 => "Common KVM processor",
        }
    }

    /// Whether it shows the host's own name and levels.
    pub const fn is_host(self) -> bool {
        matches!(self, Model::Host | Model::Max)
    }

    /// Its bits of a word, where the host has `host`.
    pub(super) fn features(self, word: Word, host: u32, migratable: bool) -> u32 {
        match self {
            Model::Host | Model::Max if word == X7_EDX && migratable => host & !INVTSC,
            Model::Host | Model::Max => host,
            Model::Qemu64 | Model::Kvm64 if word == KVM_EAX => {
                // Clock, no delay for ports, asynchronous page faults, steal time, EOI, stable.
                host & (0x1 | 0x8 | 0x2 | 0x10 | 0x20 | 0x40 | 1 << 24)
            }
            Model::Qemu64 | Model::Kvm64 if of_kvm(word) => 0,
            Model::Qemu64 => model_word(QEMU64, word),
            Model::Kvm64 => model_word(KVM64, word),
        }
    }
}

/// Name and levels of a model that is not the host's.
pub(super) struct Identity {
    pub level: u32,
    pub extended_level: u32,
    /// EBX, EDX, ECX of leaf 0.
    pub vendor: Option<[u32; 3]>,
    /// EAX of leaf 1.
    pub signature: Option<u32>,
    pub name: Option<String>,
}

/// What `-cpu` asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuRequest {
    /// The model.
    pub model: Model,
    /// Words with the bits switched on and off, in order.
    switches: Vec<(Word, u32, bool)>,
    /// Refuse what the host lacks instead of warning.
    pub enforce: bool,
    /// Only features that survive a migration.
    pub migratable: bool,
    /// Performance counters.
    pub pmu: bool,
    /// KVM shows itself.
    pub kvm: bool,
    /// Physical addresses as wide as the host's.
    pub host_phys_bits: bool,
    /// Width of physical addresses.
    pub phys_bits: Option<u64>,
    /// Family, as shown by tools.
    pub family: Option<u32>,
    /// Model number.
    pub model_number: Option<u32>,
    /// Stepping.
    pub stepping: Option<u32>,
    /// Highest leaf.
    pub level: Option<u32>,
    /// Highest extended leaf.
    pub xlevel: Option<u32>,
    /// Vendor of 12 characters.
    pub vendor: Option<[u8; 12]>,
    /// Name.
    pub model_id: Option<String>,
}

impl Default for CpuRequest {
    fn default() -> Self {
        CpuRequest::of(Model::Qemu64)
    }
}

impl CpuRequest {
    /// A model as it is.
    pub fn of(model: Model) -> Self {
        CpuRequest {
            model,
            switches: Vec::new(),
            enforce: false,
            migratable: true,
            pmu: model.is_host(),
            kvm: true,
            host_phys_bits: model.is_host(),
            phys_bits: None,
            family: None,
            model_number: None,
            stepping: None,
            level: None,
            xlevel: None,
            vendor: None,
            model_id: None,
        }
    }

    /// Reads the argument of `-cpu`: `model[,+feature][,-feature][,property[=value]]...`.
    ///
    /// # Errors
    /// For unknown models, features and properties, and for values that are none.
    pub fn parse(text: &str) -> Result<Self, CpuError> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let model = Model::ALL.into_iter().find(|model| model.name() == name);
        let model = model.ok_or_else(|| CpuError::UnknownModel(name.to_owned()))?;
        let mut request = CpuRequest::of(model);
        // As in QEMU, +x and -x come after all properties and the minus wins.
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for part in parts.filter(|part| !part.is_empty()) {
            if let Some(name) = part.strip_prefix('+') {
                plus.push(name);
            } else if let Some(name) = part.strip_prefix('-') {
                minus.push(name);
            } else {
                let (name, value) = part.split_once('=').unwrap_or((part, "on"));
                request.set(name, value)?;
            }
        }
        for name in plus {
            request.set(name, "on")?;
        }
        for name in minus {
            request.set(name, "off")?;
        }
        Ok(request)
    }

    /// Sets one property.
    ///
    /// # Errors
    /// As [`CpuRequest::parse`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), CpuError> {
        let name = name.replace('_', "-");
        let found = features::find(&name);
        if !found.is_empty() {
            let on = switch(&name, value)?;
            self.switches
                .extend(found.into_iter().map(|(word, bits)| (word, bits, on)));
            return Ok(());
        }
        let small = || {
            let number = number(&name, value)?;
            u32::try_from(number).map_err(|_| CpuError::NotANumber(name.clone()))
        };
        match name.as_str() {
            "enforce" => self.enforce = switch(&name, value)?,
            "migratable" => self.migratable = switch(&name, value)?,
            "pmu" => self.pmu = switch(&name, value)?,
            "kvm" => self.kvm = switch(&name, value)?,
            "host-phys-bits" => self.host_phys_bits = switch(&name, value)?,
            // Warnings are always given; caches are always the host's.
            "check" | "host-cache-info" | "l3-cache" | "legacy-cache" => {
                switch(&name, value)?;
            }
            "phys-bits" => self.phys_bits = Some(number(&name, value)?).filter(|bits| *bits > 0),
            "family" => self.family = Some(small()?),
            "model" => self.model_number = Some(small()?),
            "stepping" => self.stepping = Some(small()?),
            "level" => self.level = Some(small()?),
            "xlevel" => self.xlevel = Some(small()?),
            "vendor" => {
                let bytes = value.as_bytes().try_into().map_err(|_| CpuError::Vendor)?;
                self.vendor = Some(bytes);
            }
            "model-id" => self.model_id = Some(value.to_owned()),
            _ => {
                return Err(CpuError::UnknownProperty {
                    model: self.model.name(),
                    name,
                });
            }
        }
        Ok(())
    }

    /// Bits of a word that were switched on and off; the last word counts.
    pub(super) fn switched(&self, word: Word) -> (u32, u32) {
        let (mut on, mut off) = (0, 0);
        for (_, bits, up) in self.switches.iter().filter(|(other, ..)| *other == word) {
            (on, off) = match up {
                true => (on | bits, off & !bits),
                false => (on & !bits, off | bits),
            };
        }
        (on, off)
    }

    pub(super) fn features_off(&self, word: Word, bits: u32) -> bool {
        self.switched(word).1 & bits != 0
    }

    /// Name and levels, where they are not the host's.
    pub(super) fn identity(&self) -> Option<Identity> {
        let (level, extended_level, signature, name) = match self.model {
            // The vendor stays the host's: SYSCALL and SYSENTER depend on it.
            Model::Qemu64 => (
                0xd,
                0x8000_000a,
                Some(0x0006_0fb1),
                Some(self.model.description()),
            ),
            Model::Kvm64 => (
                0xd,
                0x8000_0008,
                Some(0x0000_0f61),
                Some(self.model.description()),
            ),
            Model::Host | Model::Max => (u32::MAX, u32::MAX, None, None),
        };
        let changed = self.level.is_some() || self.xlevel.is_some() || self.vendor.is_some();
        if self.model.is_host() && !changed && self.model_id.is_none() {
            return None;
        }
        let vendor = self.vendor.map(|bytes| {
            let mut words = bytes.chunks_exact(4).map(|four| {
                four.first_chunk()
                    .map_or(0, |four| u32::from_le_bytes(*four))
            });
            let mut next = || words.next().unwrap_or(0);
            [next(), next(), next()]
        });
        Some(Identity {
            level: self.level.unwrap_or(level),
            extended_level: self.xlevel.unwrap_or(extended_level),
            vendor,
            signature,
            name: self.model_id.clone().or(name.map(str::to_owned)),
        })
    }
}

fn switch(name: &str, value: &str) -> Result<bool, CpuError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(CpuError::NotASwitch(name.to_owned())),
    }
}

fn number(name: &str, value: &str) -> Result<u64, CpuError> {
    let parsed = match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| CpuError::NotANumber(name.to_owned()))
}

/// The text of `-cpu help`.
pub fn help() -> String {
    let mut text = String::from("Available CPUs:\n");
    for model in Model::ALL {
        text.push_str(&format!(
            "  {:<20}  {}\n",
            model.name(),
            model.description()
        ));
    }
    text.push_str("\nRecognized CPUID flags:\n");
    let mut names: Vec<&str> = FEATURES
        .iter()
        .flat_map(|(_, bits)| bits.iter().map(|(_, name)| *name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut line = String::from(" ");
    for name in names {
        if line.len() + name.len() + 1 > 75 {
            text.push_str(&line);
            text.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    text.push_str(&line);
    text.push('\n');
    text
}
