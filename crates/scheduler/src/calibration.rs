//! A host's calibration: what making code and running it costs on each engine, before any function was seen.

use remuda_model::{EngineId, Tier};
use serde::{Deserialize, Serialize};

/// The costs of one engine on this host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineCalibration {
    /// Time to compile the smallest module, in nanoseconds.
    pub compile_fixed_ns: f64,
    /// Time that each byte of a module's code adds to that on one core, in nanoseconds.
    pub compile_ns_per_code_byte: f64,
    /// How many times sooner a compile is done if it may use every core of an idle host; at least 1.
    pub compile_parallelism: f64,
    /// Time to load the smallest artifact from disk, in nanoseconds.
    pub load_fixed_ns: f64,
    /// Time that each byte of the module's code adds to that, in nanoseconds.
    pub load_ns_per_code_byte: f64,
    /// Time to make and drop an instance of the smallest module, in nanoseconds.
    pub instantiate_ns: f64,
    /// How long code of this engine runs, as a multiple of the same code on the fastest engine; geometric mean over the
    /// calibration's kernels.
    pub slowdown: f64,
    /// The costs of the engine's parts of modules; `None` if it makes no parts.
    pub parts: Option<PartCosts>,
}

/// The cost of compiling a part of a module, in which a guest of another engine is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartCosts {
    /// Time to compile the smallest part, in nanoseconds.
    pub fixed_ns: f64,
    /// Time that each byte of the part's code adds to that, in nanoseconds.
    pub ns_per_code_byte: f64,
}

impl PartCosts {
    /// The costs for hosts that have not been calibrated. They are taken from what parts took in the log of requests
    /// that moved, on the host of [`EngineCalibration::shipped`], with Winch for the baseline compilers.
    #[must_use]
    pub fn shipped(tier: Tier) -> Self {
        match tier {
            Tier::Interpreter | Tier::Baseline | Tier::Dynamic => Self { fixed_ns: 1e6, ns_per_code_byte: 350.0 },
            Tier::Optimizing | Tier::Peak => Self { fixed_ns: 1e6, ns_per_code_byte: 2_000.0 },
        }
    }

    /// Time to compile a part with `code_bytes` of code on one core, in nanoseconds.
    #[must_use]
    pub fn compile_ns(&self, code_bytes: u64) -> f64 {
        self.fixed_ns + self.ns_per_code_byte * code_bytes as f64
    }
}

impl EngineCalibration {
    /// The costs of an engine of this tier on a common server, for hosts that have not been calibrated.
    ///
    /// They were measured by `remuda calibrate` on an AMD EPYC of family 26 with 2 cores and rounded, with Winch for
    /// the baseline compilers. How well compiling goes in parallel is a guess for 2 cores. Those of tier `peak` are from
    /// `remuda run --explain` with `wasmer.llvm` on 50 guests and an AMD EPYC of family 25 with 2 cores, where the compiler
    /// always uses both.
    #[must_use]
    pub fn shipped(tier: Tier) -> Self {
        match tier {
            Tier::Interpreter => Self {
                compile_fixed_ns: 17e3,
                compile_ns_per_code_byte: 7.0,
                compile_parallelism: 1.0,
                load_fixed_ns: 0.0,
                load_ns_per_code_byte: 0.0,
                instantiate_ns: 1.6e3,
                slowdown: 7.5,
                parts: None,
            },
            Tier::Baseline => Self {
                compile_fixed_ns: 1.2e6,
                compile_ns_per_code_byte: 130.0,
                compile_parallelism: 1.6,
                load_fixed_ns: 40e3,
                load_ns_per_code_byte: 3.1,
                instantiate_ns: 2.8e3,
                slowdown: 2.0,
                parts: Some(PartCosts::shipped(tier)),
            },
            Tier::Dynamic => Self {
                compile_fixed_ns: 0.3e6,
                compile_ns_per_code_byte: 20.0,
                compile_parallelism: 1.0,
                load_fixed_ns: 0.0,
                load_ns_per_code_byte: 0.0,
                instantiate_ns: 60e3,
                slowdown: 1.5,
                parts: None,
            },
            Tier::Optimizing => Self {
                compile_fixed_ns: 3.6e6,
                compile_ns_per_code_byte: 850.0,
                compile_parallelism: 1.7,
                load_fixed_ns: 40e3,
                load_ns_per_code_byte: 2.0,
                instantiate_ns: 2.8e3,
                slowdown: 1.0,
                parts: Some(PartCosts::shipped(tier)),
            },
            Tier::Peak => Self {
                compile_fixed_ns: 240e6,
                compile_ns_per_code_byte: 65e3,
                compile_parallelism: 1.7,
                load_fixed_ns: 0.6e6,
                load_ns_per_code_byte: 40.0,
                instantiate_ns: 60e3,
                slowdown: 0.9,
                parts: None,
            },
        }
    }

    /// Time to compile a module with `code_bytes` of code on `cores` idle cores, in nanoseconds.
    #[must_use]
    pub fn compile_ns(&self, code_bytes: u64, cores: usize) -> f64 {
        let one_core = self.compile_fixed_ns + self.compile_ns_per_code_byte * code_bytes as f64;
        if cores > 1 { one_core / self.compile_parallelism.max(1.0) } else { one_core }
    }

    /// Time to load the artifact of a module with `code_bytes` of code, in nanoseconds.
    #[must_use]
    pub fn load_ns(&self, code_bytes: u64) -> f64 {
        self.load_fixed_ns + self.load_ns_per_code_byte * code_bytes as f64
    }

    /// Whether every figure is a finite number within its plausible range.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let Self {
            compile_fixed_ns,
            compile_ns_per_code_byte,
            compile_parallelism,
            load_fixed_ns,
            load_ns_per_code_byte,
            instantiate_ns,
            slowdown,
            parts,
        } = *self;
        let costs = [compile_fixed_ns, compile_ns_per_code_byte, load_fixed_ns, load_ns_per_code_byte, instantiate_ns];
        let of_parts = parts.iter().flat_map(|parts| [&parts.fixed_ns, &parts.ns_per_code_byte]);
        costs.iter().chain(of_parts).all(|ns| (0.0..1e12).contains(ns))
            && (1.0..1024.0).contains(&compile_parallelism)
            && (0.5..1e4).contains(&slowdown)
    }
}

/// The costs of all engines of a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    engines: Vec<(EngineId, EngineCalibration)>,
}

impl Calibration {
    /// A calibration with these engines; others cost what is [shipped](EngineCalibration::shipped) for their tier.
    #[must_use]
    pub fn new(engines: Vec<(EngineId, EngineCalibration)>) -> Self {
        Self { engines }
    }

    /// The costs of an engine.
    #[must_use]
    pub fn engine(&self, engine: EngineId, tier: Tier) -> EngineCalibration {
        let measured = self.engines.iter().find(|(id, _)| *id == engine).map(|(_, calibration)| *calibration);
        measured.unwrap_or_else(|| EngineCalibration::shipped(tier))
    }

    /// The engines that were measured.
    pub fn measured(&self) -> impl Iterator<Item = (EngineId, EngineCalibration)> {
        self.engines.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_plausible() {
        for tier in [Tier::Interpreter, Tier::Baseline, Tier::Dynamic, Tier::Optimizing, Tier::Peak] {
            assert!(EngineCalibration::shipped(tier).is_plausible(), "{tier:?}");
        }
    }

    #[test]
    fn engines_that_were_not_measured_cost_what_their_tier_does() {
        let id = EngineId::new("a");
        let slow = EngineCalibration { slowdown: 77.0, ..EngineCalibration::shipped(Tier::Baseline) };
        let calibration = Calibration::new(vec![(id, slow)]);
        assert_eq!(calibration.engine(id, Tier::Baseline), slow);
        let other = calibration.engine(EngineId::new("b"), Tier::Optimizing);
        assert_eq!(other, EngineCalibration::shipped(Tier::Optimizing));
    }
}
