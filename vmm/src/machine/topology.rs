//! From `-smp` to a full processor topology. Missing numbers are worked out as QEMU does since
//! 6.2 (cores before sockets); the wording of refusals is QEMU's.

use thiserror::Error;

/// What `-smp` said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SmpRequest {
    /// vCPUs present at start.
    pub cpus: Option<u64>,
    /// vCPUs at most.
    pub maxcpus: Option<u64>,
    /// Sockets.
    pub sockets: Option<u64>,
    /// Dies in a socket.
    pub dies: Option<u64>,
    /// Modules in a die.
    pub modules: Option<u64>,
    /// Cores in a module.
    pub cores: Option<u64>,
    /// Threads in a core.
    pub threads: Option<u64>,
}

/// A topology whose product is `maxcpus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// vCPUs present at start.
    pub cpus: u32,
    /// vCPUs at most.
    pub maxcpus: u32,
    /// Sockets.
    pub sockets: u32,
    /// Dies in a socket.
    pub dies: u32,
    /// Modules in a die.
    pub modules: u32,
    /// Cores in a module.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

impl Default for Topology {
    fn default() -> Self {
        Topology {
            cpus: 1,
            maxcpus: 1,
            sockets: 1,
            dies: 1,
            modules: 1,
            cores: 1,
            threads: 1,
        }
    }
}

/// Why a topology is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TopologyError {
    /// A zero was given.
    #[error("Invalid CPU topology: CPU topology parameters must be greater than zero")]
    Zero,
    /// The product does not fit.
    #[error(
        "Invalid CPU topology: product of the hierarchy must match maxcpus: \
         {levels} != maxcpus ({maxcpus})"
    )]
    Product {
        /// All levels with their numbers.
        levels: String,
        /// vCPUs at most.
        maxcpus: u64,
    },
    /// More present than possible.
    #[error(
        "Invalid CPU topology: maxcpus must be equal to or greater than smp: \
         {levels} == maxcpus ({maxcpus}) < smp_cpus ({cpus})"
    )]
    TooFew {
        /// All levels with their numbers.
        levels: String,
        /// vCPUs at most.
        maxcpus: u64,
        /// vCPUs present.
        cpus: u64,
    },
    /// More than the machine takes.
    #[error("Invalid SMP CPUs {maxcpus}. The max CPUs supported by machine '{machine}' is {max}")]
    TooMany {
        /// vCPUs at most.
        maxcpus: u64,
        /// The machine's name.
        machine: String,
        /// Its limit.
        max: u32,
    },
}

impl SmpRequest {
    /// Works out what was left open and checks the whole.
    ///
    /// # Errors
    /// When the numbers contradict each other or exceed `max`, the limit of `machine`.
    pub fn resolve(&self, machine: &str, max: u32) -> Result<Topology, TopologyError> {
        let given = [
            self.cpus,
            self.maxcpus,
            self.sockets,
            self.dies,
            self.modules,
            self.cores,
            self.threads,
        ];
        if given.contains(&Some(0)) {
            return Err(TopologyError::Zero);
        }
        let (dies, modules) = (self.dies.unwrap_or(1), self.modules.unwrap_or(1));
        let (mut sockets, mut cores, mut threads) = (self.sockets, self.cores, self.threads);
        let wanted = self.maxcpus.or(self.cpus);
        if let Some(wanted) = wanted {
            let rest = |parts: [u64; 4]| wanted / product(&parts).max(1);
            if cores.is_none() {
                let (s, t) = (*sockets.get_or_insert(1), *threads.get_or_insert(1));
                cores = Some(rest([s, dies, modules, t]));
            } else if sockets.is_none() {
                let t = *threads.get_or_insert(1);
                sockets = Some(rest([dies, modules, cores.unwrap_or(1), t]));
            }
            if threads.is_none() {
                let (s, c) = (sockets.unwrap_or(1), cores.unwrap_or(1));
                threads = Some(rest([s, dies, modules, c]));
            }
        }
        let (sockets, cores, threads) = (
            sockets.unwrap_or(1),
            cores.unwrap_or(1),
            threads.unwrap_or(1),
        );
        let total = product(&[sockets, dies, modules, cores, threads]);
        let maxcpus = wanted.unwrap_or(total);
        let cpus = self.cpus.unwrap_or(maxcpus);
        let levels = || {
            format!(
                "sockets ({sockets}) * dies ({dies}) * modules ({modules}) * cores ({cores}) * \
                 threads ({threads})"
            )
        };
        if total != maxcpus {
            return Err(TopologyError::Product {
                levels: levels(),
                maxcpus,
            });
        }
        if maxcpus < cpus {
            return Err(TopologyError::TooFew {
                levels: levels(),
                maxcpus,
                cpus,
            });
        }
        if maxcpus > u64::from(max) {
            return Err(TopologyError::TooMany {
                maxcpus,
                machine: machine.to_owned(),
                max,
            });
        }
        // All factors of a number below u32::MAX are below it too.
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Topology {
            cpus: small(cpus),
            maxcpus: small(maxcpus),
            sockets: small(sockets),
            dies: small(dies),
            modules: small(modules),
            cores: small(cores),
            threads: small(threads),
        })
    }
}

fn product(parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(1, |total, part| total.saturating_mul(*part))
}

impl Topology {
    /// Socket, die, module, core and thread number of the vCPU `index`.
    pub fn place(&self, index: u32) -> [u32; 5] {
        let split = |value: u32, size: u32| (value / size.max(1), value % size.max(1));
        let (rest, thread) = split(index, self.threads);
        let (rest, core) = split(rest, self.cores);
        let (rest, module) = split(rest, self.modules);
        let (socket, die) = split(rest, self.dies);
        [socket, die, module, core, thread]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> SmpRequest {
        let mut request = SmpRequest::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap();
            let value = Some(value.parse().unwrap());
            match key {
                "cpus" => request.cpus = value,
                "maxcpus" => request.maxcpus = value,
                "sockets" => request.sockets = value,
                "dies" => request.dies = value,
                "modules" => request.modules = value,
                "cores" => request.cores = value,
                _ => request.threads = value,
            }
        }
        request
    }

    #[test]
    fn what_is_missing_is_worked_out() {
        // request, cpus, maxcpus, sockets, dies, cores, threads
        for (text, expected) in [
            ("", [1, 1, 1, 1, 1, 1]),
            ("cpus=4", [4, 4, 1, 1, 4, 1]),
            ("cpus=4,sockets=2", [4, 4, 2, 1, 2, 1]),
            ("cpus=8,cores=2", [8, 8, 4, 1, 2, 1]),
            ("cpus=8,sockets=2,cores=2", [8, 8, 2, 1, 2, 2]),
            ("cpus=2,maxcpus=8", [2, 8, 1, 1, 8, 1]),
            ("sockets=2,cores=3,threads=2", [12, 12, 2, 1, 3, 2]),
            ("cpus=8,dies=2", [8, 8, 1, 2, 4, 1]),
        ] {
            let t = request(text).resolve("m", 255).unwrap();
            let found = [t.cpus, t.maxcpus, t.sockets, t.dies, t.cores, t.threads];
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, message) in [
            (
                "cpus=0",
                "Invalid CPU topology: CPU topology parameters must be greater than zero",
            ),
            (
                "cpus=4,sockets=3",
                "Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (3) * \
                 dies (1) * modules (1) * cores (1) * threads (1) != maxcpus (4)",
            ),
            (
                "cpus=4,maxcpus=2",
                "Invalid CPU topology: maxcpus must be equal to or greater than smp: sockets (1) \
                 * dies (1) * modules (1) * cores (2) * threads (1) == maxcpus (2) < smp_cpus (4)",
            ),
            (
                "cpus=300",
                "Invalid SMP CPUs 300. The max CPUs supported by machine 'm' is 255",
            ),
        ] {
            assert_eq!(
                request(text).resolve("m", 255).unwrap_err().to_string(),
                message
            );
        }
        let huge = request("sockets=4294967296,cores=4294967296,threads=4294967296");
        assert!(huge.resolve("m", 255).is_err());
    }

    #[test]
    fn places_count_threads_first() {
        let topology = request("sockets=2,cores=3,threads=2")
            .resolve("m", 255)
            .unwrap();
        assert_eq!(topology.place(0), [0, 0, 0, 0, 0]);
        assert_eq!(topology.place(1), [0, 0, 0, 0, 1]);
        assert_eq!(topology.place(5), [0, 0, 0, 2, 1]);
        assert_eq!(topology.place(6), [1, 0, 0, 0, 0]);
    }
}
