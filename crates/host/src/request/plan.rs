//! What a function knows of running its requests on the threads that bring them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use remuda_scheduler::{Decision, Request};

use crate::call::Call;
use crate::time::nanoseconds;

/// How long a function is kept away after its guest had to be stopped: this long after the first time, and twice as
/// long each time after that.
///
/// Source: chosen. Shorter, and a function whose requests are sometimes long holds up others again and again; longer,
/// and a function pays longer for a guest that something else held up.
const KEPT_AWAY: Duration = Duration::from_secs(1);
/// The most times that [`KEPT_AWAY`] is doubled: to more than an hour.
const DOUBLINGS_MAX: u32 = 12;

/// A request must have at least this much time until its deadline to be run here, where only the watchdog keeps time.
///
/// Source: some times as long as the watchdog waits at most. Shorter, and a deadline may be missed by as much.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// What a function knows of running its requests on threads that bring them.
#[derive(Default)]
pub(crate) struct Inlining {
    plan: ArcSwapOption<Plan>,
    /// Until this time on the scheduler's clock, in nanoseconds, there are no plans.
    kept_away_until_ns: AtomicU64,
    /// How often a guest had to be stopped.
    overruns: AtomicU32,
    /// When the host has learnt from these requests for the last time.
    learnt_ns: AtomicU64,
}

/// How the function's next requests run, as long as nothing else is decided.
pub(super) struct Plan {
    pub(super) decision: Decision,
    /// The decision's reason, for people.
    pub(super) reason: Arc<str>,
    /// The most input for which the plan holds, in bytes.
    input_bytes_max: u64,
}

impl Inlining {
    /// The plan that holds for a call, if there is one.
    pub(super) fn plan_for(&self, call: &Call) -> Option<Arc<Plan>> {
        let plan = self.plan.load_full()?;
        let holds = call.input_bytes().is_some_and(|bytes| bytes <= plan.input_bytes_max)
            && call.limits.timeout >= TIMEOUT_MIN
            && call.context.preopens.is_empty()
            && !call.context.reads_coming_body();
        holds.then_some(plan)
    }

    pub(super) fn forget(&self) {
        self.plan.store(None);
    }

    pub(super) fn set(&self, decision: Option<Decision>, request: &Request<'_>) {
        let plan = decision.zip(request.input_bytes).map(|(decision, input_bytes_max)| {
            Arc::new(Plan { reason: decision.reason.to_string().into(), decision, input_bytes_max })
        });
        self.plan.store(plan);
    }

    /// When the host has learnt from these requests for the last time.
    pub(super) fn learnt_ns(&self) -> u64 {
        self.learnt_ns.load(Ordering::Relaxed)
    }

    /// Notes that the host learns from these requests now.
    pub(super) fn note_learnt(&self, now_ns: u64) {
        self.learnt_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Whether the function is to be kept away.
    pub(super) fn is_kept_away(&self, now_ns: u64) -> bool {
        now_ns < self.kept_away_until_ns.load(Ordering::Relaxed)
    }

    /// Keeps the function away from now on. Returns for how long.
    pub(super) fn keep_away(&self, now_ns: u64) -> Duration {
        let before = self.overruns.fetch_add(1, Ordering::Relaxed);
        let away = KEPT_AWAY * (1 << before.min(DOUBLINGS_MAX));
        self.kept_away_until_ns.store(now_ns.saturating_add(nanoseconds(away)), Ordering::Relaxed);
        away
    }
}
