use remuda_model::{ArtifactState, EngineId, Observation};

use crate::nanoseconds::as_ns;
use crate::sizes::Sized;
use crate::tuning::{ALIKE, MAKING_UNSURE, NEGLIGIBLE, SIGMA_TRANSFER, SPEAK_FOR_THEMSELVES};
use crate::{Calibration, Candidate, Estimate, Features, SizeModel};

/// A summary of the observations of one function, engine by engine, and predictions for engines that have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionProfile {
    engines: Vec<(EngineId, EngineProfile)>,
}

/// A summary of the observations of one function on one engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineProfile {
    /// Time to make the artifact.
    pub compile: Estimate,
    /// Time to get the artifact from the store.
    pub load: Estimate,
    /// Time to make an instance.
    pub instantiate: Estimate,
    /// Time to run the function, by the size of its input.
    pub execute: SizeModel,
}

/// The expected cost of a request on one engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Time until an artifact is in memory, in nanoseconds.
    pub ready_ns: u64,
    /// Time to make an instance, in nanoseconds.
    pub instantiate_ns: u64,
    /// Time to run the guest, in nanoseconds: as likely to be exceeded as not.
    pub execute_ns: u64,
    /// How uncertain the execution time of one request is: the standard deviation of its natural logarithm.
    pub sigma: f32,
    /// How uncertain the usual execution time is: the standard error of its natural logarithm. For a function whose
    /// requests differ, this is much less than `sigma`.
    pub error: f32,
    /// The basis of the predicted execution.
    pub basis: Basis,
}

/// The basis of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Requests of this function on this engine.
    Observed {
        /// The number of these requests.
        count: u64,
    },
    /// Requests of this function on another engine, and the usual ratio of the two engines' speeds.
    Transferred {
        /// The other engine.
        from: EngineId,
    },
    /// The module's bytes and the host's calibration.
    Module,
}

impl Prediction {
    /// The total time, in nanoseconds.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.ready_ns.saturating_add(self.instantiate_ns).saturating_add(self.execute_ns)
    }

    /// The mean of the total time, in nanoseconds: an uncertain time costs more on average than it does usually,
    /// because it can be many times longer and only so much shorter. (The mean of a log-normal distribution.)
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        let sigma = f64::from(self.sigma);
        self.before_execution_ns() + self.execute_ns as f64 * (sigma * sigma / 2.0).exp()
    }

    /// The time before the execution, in nanoseconds.
    #[must_use]
    pub fn before_execution_ns(&self) -> f64 {
        self.ready_ns as f64 + self.instantiate_ns as f64
    }

    /// The execution time where it goes well (`deviations` negative) or badly, in nanoseconds.
    #[must_use]
    pub fn execute_quantile_ns(&self, deviations: f64) -> f64 {
        self.execute_ns as f64 * (deviations * f64::from(self.sigma)).exp()
    }
}

impl FunctionProfile {
    /// Everything that is known of one engine.
    #[must_use]
    pub fn engine(&self, id: EngineId) -> Option<&EngineProfile> {
        self.engines.iter().find(|(engine, _)| *engine == id).map(|(_, profile)| profile)
    }

    /// Everything that is known, engine by engine.
    pub fn engines(&self) -> impl Iterator<Item = (EngineId, &EngineProfile)> {
        self.engines.iter().map(|(engine, profile)| (*engine, profile))
    }

    /// Takes one more request into account.
    ///
    /// Requests that were cut short (interrupted, trapped, refused) tell how long an engine took to get ready, but not
    /// how long the function runs.
    pub fn observe(&mut self, observation: &Observation) {
        let profile = self.observe_ready(observation);
        if observation.outcome.is_success() {
            profile.instantiate.observe(observation.phases.instantiate_ns);
            profile.execute.observe(observation.input_bytes, observation.phases.execute_ns);
        }
    }

    /// Takes a request of the same module with other arguments into account: it tells how long the engine took to get
    /// ready, but not how long this function runs.
    pub fn observe_relative(&mut self, observation: &Observation) {
        let profile = self.observe_ready(observation);
        if observation.outcome.is_success() {
            profile.instantiate.observe(observation.phases.instantiate_ns);
        }
    }

    fn observe_ready(&mut self, observation: &Observation) -> &mut EngineProfile {
        let profile = self.entry(observation.engine);
        let phases = &observation.phases;
        for (estimate, ns) in [(&mut profile.compile, phases.compile_ns), (&mut profile.load, phases.load_ns)] {
            if ns > 0 {
                estimate.observe(ns);
            }
        }
        profile
    }

    /// Notes how long a request would run on an engine, where that is known although no such run was observed.
    pub(crate) fn note_execution(&mut self, engine: EngineId, input_bytes: Option<u64>, ns: u64) {
        self.entry(engine).execute.observe(input_bytes, ns);
    }

    /// Notes how long a compile took that no request waited for.
    pub fn observe_compile(&mut self, engine: EngineId, ns: u64) {
        self.entry(engine).compile.observe(ns);
    }

    fn entry(&mut self, id: EngineId) -> &mut EngineProfile {
        let at = self.engines.iter().position(|(engine, _)| *engine == id).unwrap_or_else(|| {
            self.engines.push((id, EngineProfile::default()));
            self.engines.len() - 1
        });
        &mut self.engines[at].1
    }

    /// What a request would cost on `candidate` if it had `cores` idle cores to compile on. Each time is the observed
    /// one where there is one; otherwise it is transferred from another engine, or guessed from the module.
    #[must_use]
    pub fn predict(
        &self,
        candidate: &Candidate,
        input_bytes: Option<u64>,
        cores: usize,
        evidence: &Evidence<'_>,
    ) -> Prediction {
        self.predict_from(&self.observed(input_bytes, evidence), candidate, input_bytes, cores, evidence)
    }

    /// The observations of each of the known candidates for a size of input, and their number: the `observed` of
    /// [`predict_from`](Self::predict_from).
    pub(crate) fn observed(&self, input_bytes: Option<u64>, evidence: &Evidence<'_>) -> Vec<Option<(Sized, u64)>> {
        let of = |candidate: &Candidate| {
            let execute = &self.engine(candidate.engine)?.execute;
            Some((execute.predict(input_bytes)?, execute.count()))
        };
        evidence.candidates.iter().map(of).collect()
    }

    /// As [`predict`](Self::predict), for several candidates that are predicted for the same request.
    pub(crate) fn predict_from(
        &self,
        observed: &[Option<(Sized, u64)>],
        candidate: &Candidate,
        input_bytes: Option<u64>,
        cores: usize,
        evidence: &Evidence<'_>,
    ) -> Prediction {
        let own = self.engine(candidate.engine);
        let calibration = evidence.calibration.engine(candidate.engine, candidate.tier);
        let ready_ns = match candidate.artifact {
            ArtifactState::InMemory => 0.0,
            ArtifactState::OnDisk => own
                .and_then(|own| own.load.ns())
                .map_or_else(|| calibration.load_ns(evidence.features.code_bytes), as_float),
            ArtifactState::Absent => self.compile_ns(candidate, cores, evidence),
        };
        let ready_ns = candidate.making_since_ns.map_or(ready_ns, |since_ns| {
            // Nobody knows the end to the millisecond, and a load or compile that is late may take as long again.
            let elapsed = evidence.now_ns.saturating_sub(since_ns) as f64;
            if elapsed < ready_ns { (ready_ns - elapsed).max(ready_ns * MAKING_UNSURE) } else { elapsed }
        });
        // A guest that soon goes on in another engine's code runs as it does there.
        let goes_on_in =
            candidate.goes_on_in.and_then(|to| evidence.candidates.iter().find(|other| other.engine == to));
        let (execute, basis) = predict_execute(observed, goes_on_in.unwrap_or(candidate), input_bytes, evidence);
        Prediction {
            ready_ns: as_ns(ready_ns),
            instantiate_ns: own
                .and_then(|own| own.instantiate.ns())
                .unwrap_or_else(|| as_ns(calibration.instantiate_ns)),
            execute_ns: as_ns(execute.ns),
            sigma: execute.sigma,
            error: execute.error,
            basis,
        }
    }

    /// Time to compile for `candidate` on `cores` idle cores, in nanoseconds.
    #[must_use]
    pub fn compile_ns(&self, candidate: &Candidate, cores: usize, evidence: &Evidence<'_>) -> f64 {
        let observed = self.engine(candidate.engine).and_then(|own| own.compile.ns());
        let calibration = evidence.calibration.engine(candidate.engine, candidate.tier);
        observed.map_or_else(|| calibration.compile_ns(evidence.features.code_bytes, cores), as_float)
    }
}

fn predict_execute(
    observed: &[Option<(Sized, u64)>],
    candidate: &Candidate,
    input_bytes: Option<u64>,
    evidence: &Evidence<'_>,
) -> (Sized, Basis) {
    let slowdown = |candidate: &Candidate| evidence.calibration.engine(candidate.engine, candidate.tier).slowdown;
    let mut own = None;
    // The observation of another engine that is surest.
    let mut surest: Option<(&Candidate, Sized, u64)> = None;
    for (other, seen) in evidence.candidates.iter().zip(observed) {
        match seen {
            Some(seen) if other.engine == candidate.engine => own = Some(*seen),
            Some((seen, count)) if surest.is_none_or(|(_, best, _)| seen.error < best.error) => {
                surest = Some((other, *seen, *count));
            }
            _ => {}
        }
    }
    let transferred = surest.map(|(other, seen, count)| {
        (other.engine, Sized { ns: seen.ns * slowdown(candidate) / slowdown(other), ..seen }, count)
    });
    match (own, transferred) {
        (Some((own, count)), None) => (own, Basis::Observed { count }),
        (Some((own, count)), Some((_, other, other_count))) => {
            (own.sharpened(count, &other, other_count), Basis::Observed { count })
        }
        (None, Some((from, other, _))) => {
            let (sigma, error) = (other.sigma.hypot(SIGMA_TRANSFER), other.error.hypot(SIGMA_TRANSFER));
            (Sized { sigma, error, ..other }, Basis::Transferred { from })
        }
        (None, None) => {
            let native = evidence.features.execute_guess(input_bytes);
            (Sized { ns: native.ns * slowdown(candidate), ..native }, Basis::Module)
        }
    }
}

impl Sized {
    /// What an engine was observed to take, in the light of what other engines' observations say of it; each weighs by
    /// its precision, as in Bayes' rule for normal distributions.
    ///
    /// Where all requests are alike, this changes nothing. Where they differ and nobody knows beforehand how, two
    /// engines have seen different requests, and the difference between their medians is as likely to come from the
    /// requests as from the engines; what is known of engines in general then keeps a slow one from looking fast by
    /// chance. How much requests differ is a property of the function: an engine that has seen few of them must not
    /// take them all to be like these. If the two engines are further apart than engines are, it is the requests that
    /// differ, at least as much as that, unless there have been so many that they speak for themselves.
    fn sharpened(self, count: u64, other: &Self, other_count: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "only small numbers matter")]
        let doubt = |count: u64| ((SPEAK_FOR_THEMSELVES - count as f32) / (SPEAK_FOR_THEMSELVES - 1.0)).clamp(0.0, 1.0);
        let precision = |error: f32| 1.0 / f64::from(error).powi(2);
        let ratio = self.ns.max(1.0) / other.ns.max(1.0);
        let (own, other) = if (1.0 / ALIKE..=ALIKE).contains(&ratio) {
            let error = self.error * (other.sigma / self.sigma).max(1.0);
            (Self { error, ..self }, *other)
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "logarithms of 64-bit numbers are small")]
            let apart = (ratio.ln().abs() - ALIKE.ln()) as f32;
            (self.spread_by(apart * doubt(count)), other.spread_by(apart * doubt(other_count)))
        };
        let own_precision = precision(own.error);
        let transferred = precision(other.error.hypot(SIGMA_TRANSFER));
        if own_precision > transferred * NEGLIGIBLE {
            // The logarithms below cost more than they would change.
            return Self { error: self.error, ..own };
        }
        let sum = own_precision + transferred;
        let logarithm = (own.ns.max(1.0).ln() * own_precision + other.ns.max(1.0).ln() * transferred) / sum;
        #[expect(clippy::cast_possible_truncation, reason = "it lies between the two")]
        let error = (1.0 / sum.sqrt()) as f32;
        Self { ns: logarithm.exp(), error, ..own }
    }

    /// The same observations, if requests are known to differ by at least `sigma`.
    fn spread_by(self, sigma: f32) -> Self {
        if sigma <= self.sigma { self } else { Self { sigma, error: self.error * sigma / self.sigma, ..self } }
    }
}

/// The knowledge from which predictions are made, beside a function's own observations.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The module's features.
    pub features: &'a Features,
    /// The host's calibration.
    pub calibration: &'a Calibration,
    /// The engines whose observations may be transferred.
    pub candidates: &'a [Candidate],
    /// The present time, on the clock of [`Candidate::making_since_ns`].
    pub now_ns: u64,
}

fn as_float(ns: u64) -> f64 {
    ns as f64
}
