//! Between requests: when a better engine is made ready in the background.
//!
//! This is ski rental: a function that runs on a slower engine loses time with each request. When it has lost as much
//! as it costs to make the better engine ready, the better engine is made ready. This never costs more than twice what
//! would have been best in hindsight (Karlin, Manasse, Rudolph, Sleator: Competitive Snoopy Caching, 1988). Where
//! requests come so often that the next seconds will surely bring the loss, there is no reason to wait for it; and
//! where a core has nothing else to do, it is enough that they may bring it.

use std::fmt;

use remuda_model::{ArtifactState, EngineId, Observation};

use crate::scheduler::{Milliseconds, is_ready};
use crate::tuning::{
    COLD_NS, EXPECTED_MARGIN_BUSY, EXPECTED_MARGIN_IDLE, FIRST_LOSS_NS_MIN, HORIZON_NS, IDLE_LOSS_NS_MIN, MEAN_WEIGHT,
    RUNS_AHEAD_MIN,
};
use crate::{Candidate, Prediction, Scheduler, World};

/// An engine to be made ready in the background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierUp {
    /// The engine.
    pub engine: EngineId,
    /// The expected gain beyond the price, in nanoseconds: the larger it is, the sooner the engine should be made
    /// ready.
    pub worth_ns: f64,
    /// The reason.
    pub reason: TierUpReason,
}

/// The reason for which an engine is made ready in the background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TierUpReason {
    /// The function has lost more for want of the engine than making it ready costs.
    Lost {
        /// The time that the function has lost, in nanoseconds.
        lost_ns: u64,
        /// The cost of making the engine ready, in nanoseconds.
        price_ns: u64,
    },
    /// The next requests will gain more by the engine than making it ready costs.
    Expected {
        /// The time that the requests are expected to gain, in nanoseconds.
        gain_ns: u64,
        /// The cost of making the engine ready, in nanoseconds.
        price_ns: u64,
    },
}

impl fmt::Display for TierUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { lost_ns, price_ns } => write!(
                f,
                "requests have lost {} without it, and making it ready costs {}",
                Milliseconds(*lost_ns),
                Milliseconds(*price_ns)
            ),
            Self::Expected { gain_ns, price_ns } => write!(
                f,
                "the next requests should gain {} by it, and making it ready costs {}",
                Milliseconds(*gain_ns),
                Milliseconds(*price_ns)
            ),
        }
    }
}

/// The time that a function's requests have lost for want of an engine, engine by engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Losses {
    engines: Vec<(EngineId, Loss)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Loss {
    total_ns: f64,
    /// The time that a request loses on average, in nanoseconds; recent requests weigh more.
    mean_ns: f64,
}

impl Losses {
    /// Takes into account a request that was answered by another engine.
    pub(crate) fn observe(
        &mut self,
        scheduler: &Scheduler,
        observation: &Observation,
        candidates: &[Candidate],
        world: &World<'_>,
    ) {
        // The warm path: every engine is ready, and there is nothing to want.
        if candidates.iter().all(is_ready) {
            self.engines.clear();
            return;
        }
        let evidence = scheduler.evidence(candidates, world);
        let observed = scheduler.profile.observed(observation.input_bytes, &evidence);
        let predict =
            |candidate| scheduler.profile.predict_from(&observed, candidate, observation.input_bytes, 1, &evidence);
        let Some(ran_on) = candidates.iter().find(|candidate| candidate.engine == observation.engine) else { return };
        let usual_ns = predict(ran_on).execute_ns.max(1) as f64;
        // This very request, and not the usual one, would have been faster by the engines' usual ratio.
        self.note(observation, candidates, predict, |prediction| {
            observation.phases.execute_ns as f64 * prediction.execute_ns as f64 / usual_ns
        });
    }

    /// As [`observe`](Self::observe), for a request that has moved: what it would have taken elsewhere is what is
    /// predicted, since the profile has just learnt of the request.
    pub(crate) fn observe_moved(
        &mut self,
        scheduler: &Scheduler,
        observation: &Observation,
        candidates: &[Candidate],
        world: &World<'_>,
    ) {
        let evidence = scheduler.evidence(candidates, world);
        let observed = scheduler.profile.observed(observation.input_bytes, &evidence);
        let predict =
            |candidate| scheduler.profile.predict_from(&observed, candidate, observation.input_bytes, 1, &evidence);
        self.note(observation, candidates, predict, |prediction| prediction.execute_ns as f64);
    }

    /// Notes for each engine that is not ready what it would have saved.
    fn note<'a>(
        &mut self,
        observation: &Observation,
        candidates: &'a [Candidate],
        predict: impl Fn(&'a Candidate) -> Prediction,
        would_run_ns: impl Fn(&Prediction) -> f64,
    ) {
        let phases = &observation.phases;
        for candidate in candidates {
            let loss = self.entry(candidate.engine);
            if is_ready(candidate) {
                *loss = Loss::default();
                continue;
            }
            let prediction = predict(candidate);
            let took_ns = (phases.instantiate_ns + phases.execute_ns) as f64;
            let cold_ns = if observation.artifact == ArtifactState::Absent { COLD_NS } else { 0.0 };
            let lost_ns = took_ns - prediction.instantiate_ns as f64 - would_run_ns(&prediction);
            let lost_ns = if lost_ns > 0.0 { (lost_ns - cold_ns).max(0.0) } else { lost_ns };
            let is_first = loss.total_ns <= 0.0 && loss.mean_ns <= 0.0;
            loss.mean_ns += (lost_ns - loss.mean_ns) * if is_first { 1.0 } else { MEAN_WEIGHT };
            loss.total_ns = (loss.total_ns + lost_ns).max(0.0);
        }
    }

    fn entry(&mut self, engine: EngineId) -> &mut Loss {
        let at = self.engines.iter().position(|(id, _)| *id == engine).unwrap_or_else(|| {
            self.engines.push((engine, Loss::default()));
            self.engines.len() - 1
        });
        &mut self.engines[at].1
    }

    fn of(&self, engine: EngineId) -> Loss {
        self.engines.iter().find(|(id, _)| *id == engine).map(|(_, loss)| *loss).unwrap_or_default()
    }
}

pub(crate) fn decide(scheduler: &Scheduler, candidates: &[Candidate], world: &World<'_>) -> Option<TierUp> {
    if !scheduler.policy.tiers_up() {
        return None;
    }
    let is_to_be_made = |candidate: &&Candidate| !is_ready(candidate) && candidate.making_since_ns.is_none();
    candidates.iter().find(is_to_be_made)?;
    let requests = scheduler.arrivals.expected(world.now_ns, HORIZON_NS);
    candidates
        .iter()
        .filter(is_to_be_made)
        .filter_map(|candidate| consider(scheduler, candidate, requests, candidates, world))
        .max_by(|a, b| a.worth_ns.total_cmp(&b.worth_ns))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and durations are not negative"
)]
fn consider(
    scheduler: &Scheduler,
    candidate: &Candidate,
    requests: f64,
    candidates: &[Candidate],
    world: &World<'_>,
) -> Option<TierUp> {
    let evidence = scheduler.evidence(candidates, world);
    let alone = match candidate.artifact {
        ArtifactState::InMemory => return None,
        ArtifactState::OnDisk => scheduler.profile.predict(candidate, None, 1, &evidence).ready_ns as f64,
        ArtifactState::Absent => scheduler.profile.compile_ns(candidate, 1, &evidence),
    };
    // On a busy host, making the engine ready takes that time away from others.
    let pressure = world.load.pressure();
    let price_ns = alone * (1.0 + pressure);
    let loss = scheduler.losses.of(candidate.engine);
    let margin_idle = if loss.mean_ns < IDLE_LOSS_NS_MIN { EXPECTED_MARGIN_BUSY } else { EXPECTED_MARGIN_IDLE };
    let margin = margin_idle + (EXPECTED_MARGIN_BUSY - margin_idle) * pressure;
    let gain_ns = loss.mean_ns * requests;
    let reason = if loss.total_ns >= price_ns && loss.mean_ns > 0.0 {
        TierUpReason::Lost { lost_ns: loss.total_ns as u64, price_ns: price_ns as u64 }
    } else if gain_ns >= margin * price_ns && gain_ns > 0.0 {
        TierUpReason::Expected { gain_ns: gain_ns as u64, price_ns: price_ns as u64 }
    } else {
        return None;
    };
    Some(TierUp { engine: candidate.engine, worth_ns: gain_ns.max(loss.total_ns) - price_ns, reason })
}

/// The engine whose code should be finished for the next process, after this one has run the module once.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and durations are not negative"
)]
pub(crate) fn after_one_call(
    scheduler: &Scheduler,
    input_bytes: Option<u64>,
    candidates: &[Candidate],
    world: &World<'_>,
) -> Option<TierUp> {
    if !scheduler.policy.tiers_up() {
        return None;
    }
    let evidence = scheduler.evidence(candidates, world);
    let observed = scheduler.profile.observed(input_bytes, &evidence);
    let total_ns = |candidate: &Candidate, artifact: ArtifactState| {
        let candidate = Candidate { artifact, making_since_ns: None, ..*candidate };
        scheduler.profile.predict_from(&observed, &candidate, input_bytes, 1, &evidence).total_ns() as f64
    };
    let keeps_artifacts = |candidate: &&Candidate| candidate.tier.keeps_artifacts();
    // The time of the next process on its best engine, with the artifacts that it will find.
    let next_ns = candidates
        .iter()
        .filter_map(|candidate| match candidate.artifact {
            _ if !keeps_artifacts(&candidate) => Some(total_ns(candidate, ArtifactState::Absent)),
            ArtifactState::InMemory | ArtifactState::OnDisk => Some(total_ns(candidate, ArtifactState::OnDisk)),
            ArtifactState::Absent => None,
        })
        .fold(f64::INFINITY, f64::min);
    let runs: u64 = scheduler.profile.engines().map(|(_, profile)| profile.execute.count()).sum();
    let consider = |candidate: &Candidate| {
        let gain_ns = next_ns - total_ns(candidate, ArtifactState::OnDisk);
        let price_ns = scheduler.profile.compile_ns(candidate, 1, &evidence);
        let expected_ns = gain_ns * runs.max(RUNS_AHEAD_MIN) as f64;
        let gain_ns_min = if runs > 1 { IDLE_LOSS_NS_MIN } else { FIRST_LOSS_NS_MIN };
        (gain_ns.is_finite() && gain_ns >= gain_ns_min && expected_ns > price_ns).then_some(TierUp {
            engine: candidate.engine,
            worth_ns: expected_ns - price_ns,
            reason: TierUpReason::Expected { gain_ns: expected_ns as u64, price_ns: price_ns as u64 },
        })
    };
    candidates
        .iter()
        .filter(|candidate| candidate.artifact == ArtifactState::Absent)
        .filter(keeps_artifacts)
        .filter_map(consider)
        .max_by(|a, b| a.worth_ns.total_cmp(&b.worth_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use crate::testing::{BASELINE, Case, HOUR, INTERPRETER, MS, OPTIMIZING};

    /// A function with two engines: one is ready and runs for `ready_ns`; the other takes `compile_ns` to compile and
    /// runs for `better_ns`.
    fn case(ready_ns: u64, compile_ns: u64, better_ns: u64) -> Case {
        let mut case = Case::new(Policy::Adaptive, 2);
        case.candidates.retain(|candidate| candidate.engine != INTERPRETER);
        case.ready(&[BASELINE, OPTIMIZING]);
        case.scheduler.observe_compile(OPTIMIZING, compile_ns);
        for _ in 0..15 {
            case.observe(BASELINE, ready_ns);
            case.observe(OPTIMIZING, better_ns);
        }
        case.candidate(OPTIMIZING).artifact = ArtifactState::Absent;
        case
    }

    /// The number of requests, `idle_ns` apart, after which the better engine is compiled.
    fn requests_until(case: &mut Case, ready_ns: u64, idle_ns: u64) -> Option<(usize, TierUpReason)> {
        for count in 1..=100 {
            case.now_ns += idle_ns;
            case.scheduler.arrived(case.now_ns);
            case.observe(BASELINE, ready_ns);
            if let Some(tier_up) = case.scheduler.tier_up(&case.candidates, &case.world()) {
                assert_eq!(tier_up.engine, OPTIMIZING);
                return Some((count, tier_up.reason));
            }
        }
        None
    }

    #[test]
    fn a_rare_function_is_compiled_when_it_has_lost_the_price() {
        for (ready_ns, compile_ns, better_ns, expected) in
            [(20 * MS, 95 * MS, 10 * MS, 10), (100 * MS, 95 * MS, MS, 1), (11 * MS, 95 * MS, 10 * MS, 96)]
        {
            let (count, reason) = requests_until(&mut case(ready_ns, compile_ns, better_ns), ready_ns, HOUR).unwrap();
            assert!(count.abs_diff(expected) <= 1, "after {count} requests instead of {expected}");
            assert!(matches!(reason, TierUpReason::Lost { .. }), "{reason}");
        }
        assert_eq!(requests_until(&mut case(10 * MS, MS, 10 * MS), 10 * MS, HOUR), None, "there is nothing to gain");
    }

    #[test]
    fn a_busy_function_does_not_wait_until_it_has_lost_the_price() {
        let (count, reason) = requests_until(&mut case(20 * MS, 1_000 * MS, 10 * MS), 20 * MS, 25 * MS).unwrap();
        assert!(count < 60, "after {count} requests, instead of 100");
        assert!(matches!(reason, TierUpReason::Expected { .. }), "{reason}");
    }

    #[test]
    fn on_a_busy_host_compiling_is_dearer() {
        let mut busy = case(20 * MS, 95 * MS, 10 * MS);
        busy.load.busy = 2;
        let (count, _) = requests_until(&mut busy, 20 * MS, HOUR).unwrap();
        assert!((18..=20).contains(&count), "after {count} requests");
    }

    #[test]
    fn what_only_a_first_request_takes_is_no_reason_to_compile() {
        let mut case = Case::new(Policy::Adaptive, 2);
        for (artifact, instantiate_ns, execute_ns) in
            [(ArtifactState::Absent, 100_000, 40_000)].into_iter().chain([(ArtifactState::InMemory, 2_000, 200); 50])
        {
            case.now_ns += 60_000;
            case.scheduler.arrived(case.now_ns);
            case.ready(&[INTERPRETER]);
            case.observe_phases(INTERPRETER, artifact, instantiate_ns, execute_ns);
            assert_eq!(case.scheduler.tier_up(&case.candidates, &case.world()), None);
        }
    }

    #[test]
    fn after_a_single_call_better_code_is_finished_if_twenty_runs_pay_for_it() {
        // The optimizing compiler takes 81 ms for the module, and the baseline 25.
        for (runs, execute_ns, expected) in [
            (2, MS / 10, None),
            (1, 3 * MS, None),
            (2, 3 * MS, Some(BASELINE)),
            (1, 50 * MS, Some(OPTIMIZING)),
            (2, 50 * MS, Some(OPTIMIZING)),
        ] {
            let mut case = Case::new(Policy::Hedged, 2);
            for _ in 0..runs {
                case.observe(INTERPRETER, execute_ns);
            }
            let after = case.scheduler.after_one_call(case.input_bytes, &case.candidates, &case.world());
            assert_eq!(after.map(|tier_up| tier_up.engine), expected, "{runs} of {execute_ns}");
        }
        // An artifact that is there need not be made, and an engine that is hardly better is not worth it.
        let mut case = Case::new(Policy::Hedged, 2);
        for _ in 0..3 {
            case.observe(BASELINE, MS);
        }
        case.candidate(BASELINE).artifact = ArtifactState::OnDisk;
        assert_eq!(case.scheduler.after_one_call(case.input_bytes, &case.candidates, &case.world()), None);
        // For a module that is run all the time, a little gain is enough.
        for _ in 0..1000 {
            case.observe(BASELINE, MS);
        }
        let after = case.scheduler.after_one_call(case.input_bytes, &case.candidates, &case.world());
        assert_eq!(after.map(|tier_up| tier_up.engine), Some(OPTIMIZING));
        case.candidate(OPTIMIZING).artifact = ArtifactState::InMemory;
        assert_eq!(case.scheduler.after_one_call(case.input_bytes, &case.candidates, &case.world()), None);
    }

    #[test]
    fn nothing_is_compiled_twice_or_for_policies_that_do_not() {
        let mut making = case(100 * MS, MS, MS);
        making.candidate(OPTIMIZING).making_since_ns = Some(HOUR);
        assert_eq!(requests_until(&mut making, 100 * MS, HOUR), None);
        let mut fixed = case(100 * MS, MS, MS);
        fixed.scheduler.policy = Policy::Profile;
        assert_eq!(requests_until(&mut fixed, 100 * MS, HOUR), None);
    }

    #[test]
    fn it_never_costs_more_than_twice_what_hindsight_would_have_paid() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |from: u64, to: u64| {
            // Xorshift (Marsaglia 2003); evenly on a logarithmic scale.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed >> 11) as f64 / (1_u64 << 53) as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two numbers")]
            let value = (from as f64 * (to as f64 / from as f64).powf(at)) as u64;
            value
        };
        for table in 0..300 {
            let (ready_ns, compile_ns, better_ns) =
                (random(MS / 100, 1_000 * MS), random(MS, 5_000 * MS), random(MS / 100, 1_000 * MS));
            let mut case = case(ready_ns, compile_ns, better_ns);
            let (mut paid_ns, mut is_compiled) = (0, false);
            for count in 1..200 {
                case.now_ns += HOUR;
                case.scheduler.arrived(case.now_ns);
                let engine = case.decide().engine;
                if engine == OPTIMIZING && !is_compiled {
                    // Compiled in the foreground.
                    is_compiled = true;
                    paid_ns += compile_ns;
                    case.ready(&[OPTIMIZING]);
                }
                let run_ns = if engine == OPTIMIZING { better_ns } else { ready_ns };
                paid_ns += run_ns;
                case.observe(engine, run_ns);
                if case.scheduler.tier_up(&case.candidates, &case.world()).is_some() {
                    assert!(!is_compiled);
                    is_compiled = true;
                    paid_ns += compile_ns;
                    case.ready(&[OPTIMIZING]);
                }
                let hindsight_ns = (count * ready_ns).min(compile_ns + count * better_ns);
                // A single request is the smallest step, and predictions may be a few percent off.
                let allowed_ns = 2 * hindsight_ns + hindsight_ns / 10 + ready_ns + MS;
                assert!(
                    paid_ns <= allowed_ns,
                    "table {table} ({ready_ns}, {compile_ns}, {better_ns}): {paid_ns} for {count} requests, {hindsight_ns} \
                     in hindsight"
                );
            }
        }
    }
}
