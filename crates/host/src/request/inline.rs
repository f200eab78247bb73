//! Short requests run on the thread that brings them: handing a request to another thread, and its answer back, costs
//! several times as much as a guest that does little.
//!
//! A request runs here if its function has a [plan](super::plan): the engine that the scheduler has chosen for the requests
//! before, on which they were all short. Plans are made, and made anew, by requests that have run. Everything else is
//! declined, and goes into the queue.
//!
//! A guest that takes much longer than was foreseen holds up everything else that its thread has to do. The watchdog
//! stops it then (a component that would have to wait stops by itself), and the request begins anew on a thread for
//! guests. Nobody can tell that it has run before, because only functions without folders have plans: their guests can
//! only read their input, and write output that is held back until they have ended. The function is kept away from here
//! for a while after that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_engine::EngineError;
use remuda_model::{Observation, Outcome};
use remuda_scheduler::Decision;

use super::attempt::{Attempt, run_prepared};
use super::conclude::{conclude, observation};
use super::watchdog::{Watch, Watched};
use crate::artifact::make::Prepared;
use crate::call::{Answer, Call, CallError};
use crate::function::Function;
use crate::idle::{prewarm, tier_up};
use crate::panics::catching_panics;
use crate::shared::Shared;
use crate::time::nanoseconds;

/// The most requests of a function from which the host learns at once.
///
/// Source: chosen. Fewer, and learning costs more than the guests; more, and the choice goes by what is long past.
const BATCH_MAX: usize = 64;

/// How long the first request of a batch waits until the host learns from it, if more requests come meanwhile.
///
/// Source: chosen: with two hundred batches a second, choosing anew takes less than a thousandth of a core. Shorter, and it
/// takes more; longer, and a choice stands that is not good any more.
const BATCH_TIME: Duration = Duration::from_millis(5);

/// The time within which functions share a thread: what one of them takes beyond its part goes into the queue, where
/// functions take turns.
///
/// Source: chosen. Shorter, and single guests send a function to the queue; longer, and others wait that much longer
/// for a function with many connections.
const SHARED_TIME: Duration = Duration::from_millis(2);

/// What became of a request on a thread that may run it.
#[derive(Debug)]
pub enum Inline {
    /// It has run.
    Answered(Result<Answer, CallError>),
    /// It is to be [submitted](crate::Host::submit).
    Declined(Call),
}

/// A thread that brings requests and runs short ones itself. It belongs to the thread that made it.
pub struct InlineThread {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    watched: Arc<Watched>,
    /// Locked during a run.
    state: Arc<Mutex<State>>,
}

/// What one thread keeps from request to request.
#[derive(Default)]
struct State {
    /// The requests that the host has yet to learn from, by their functions.
    batches: Vec<Batch>,
    /// When functions began to share the thread's time, and what each has had since, in nanoseconds.
    sharing_since_ns: u64,
    had_ns: Vec<(u64, u64)>,
}

/// Requests of one function.
struct Batch {
    function: Arc<Function>,
    began_ns: u64,
    /// What was observed of each request, and when it came.
    requests: Vec<(Observation, u64)>,
}

impl InlineThread {
    pub(crate) fn new(shared: &Arc<Shared>, watch: &Arc<Watch>) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let learn_all = {
            let (shared, state) = (Arc::clone(shared), Arc::clone(&state));
            move || {
                // If the state is locked, there is a run, and the thread is not idle.
                if let Some(mut state) = state.try_lock() {
                    state.learn_all(&shared);
                }
            }
        };
        Self { shared: Arc::clone(shared), watch: Arc::clone(watch), watched: watch.this_thread(learn_all), state }
    }

    /// Runs a request, if it is expected to be short and nothing speaks against running it here. `began` is when it was
    /// brought.
    pub fn run(&self, function: &Arc<Function>, call: Call, began: Instant) -> Inline {
        let shared = &self.shared;
        let began_ns = shared.cores.at_ns(began);
        // Another thread has the state only if it learns from requests of a time when there was nothing else to do.
        let Some(mut state) = self.state.try_lock() else { return Inline::Declined(call) };
        let Some(plan) = function.inlining.plan_for(&call).filter(|_| state.may_run(function.id, began_ns)) else {
            return Inline::Declined(call);
        };
        let Some(artifact) = function.engine(plan.decision.engine).slot.use_in_memory() else {
            function.inlining.forget();
            return Inline::Declined(call);
        };
        let busy = shared.cores.work();
        let run = self.watched.begin(&self.watch);
        let attempt = catching_panics(function.name(), call.id, || {
            let prepared = Prepared::in_memory(artifact);
            run_prepared(function, plan.decision.engine, &call, &call.context, run.interrupt(), prepared, |_, _| ())
        });
        let was_stopped = run.end();
        drop(busy);
        let would_wait = matches!(&attempt, Ok(Attempt::Broken(CallError::Engine(EngineError::WouldWait { .. }))));
        let mut answer = match attempt {
            Ok(Attempt::Answered(answer)) if !was_stopped || !is_interrupted(&answer) => answer,
            Ok(Attempt::Broken(error)) | Err(error) if !would_wait => {
                function.inlining.forget();
                return Inline::Answered(Err(error));
            }
            Ok(_) | Err(_) => {
                function.inlining.forget();
                if was_stopped || would_wait {
                    shared.counters.inline_overruns.add_one();
                    let away = function.inlining.keep_away(shared.cores.now_ns());
                    tracing::info!(request = %call.id, function = function.name(), ?away,
                        "the guest took unexpectedly long or has to wait, and begins anew on a thread for guests; the \
                         function's requests are queued for a while");
                }
                return Inline::Declined(call);
            }
        };
        shared.counters.inline.add_one();
        // The client gets its answer in any case; a panic has been reported.
        let _ = catching_panics(function.name(), call.id, || {
            if answer.stays.is_empty() {
                answer.reason = Arc::clone(&plan.reason);
                let now_ns = shared.cores.now_ns();
                state.note_time(function.id, now_ns.saturating_sub(began_ns));
                if let Some(observation) = observation(function, &call, &answer) {
                    state.note(function, observation, began_ns, now_ns);
                }
                state.learn(shared, now_ns);
            } else {
                conclude(shared, function, &call, Duration::ZERO, &plan.decision, &mut answer);
            }
        });
        Inline::Answered(Ok(*answer))
    }
}

/// Has the host learn from the thread's last requests.
impl Drop for InlineThread {
    fn drop(&mut self) {
        self.state.lock().learn_all(&self.shared);
    }
}

/// Whether a guest was stopped before it had an answer.
fn is_interrupted(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Interrupted { .. })
}

impl State {
    /// Whether a function may have more of the thread's time. As long as it is the only one, it may.
    fn may_run(&mut self, function: u64, now_ns: u64) -> bool {
        let shared_ns = nanoseconds(SHARED_TIME);
        if now_ns.saturating_sub(self.sharing_since_ns) >= shared_ns {
            self.sharing_since_ns = now_ns;
            self.had_ns.clear();
        }
        let functions = self.had_ns.len() as u64;
        let had_ns = self.had_ns.iter().find(|(id, _)| *id == function).map_or(0, |(_, ns)| *ns);
        functions <= 1 || had_ns.saturating_mul(functions) <= shared_ns
    }

    /// Notes that a function has had the thread for so long.
    fn note_time(&mut self, function: u64, ns: u64) {
        match self.had_ns.iter_mut().find(|(id, _)| *id == function) {
            Some((_, had_ns)) => *had_ns += ns,
            None => self.had_ns.push((function, ns)),
        }
    }

    /// Notes what was observed of a request that came at `came_ns`.
    fn note(&mut self, function: &Arc<Function>, observation: Observation, came_ns: u64, now_ns: u64) {
        let request = (observation, came_ns);
        if let Some(batch) = self.batches.iter_mut().find(|batch| Arc::ptr_eq(&batch.function, function)) {
            batch.requests.push(request);
            return;
        }
        // After a while without requests, the host learns from the first one at once. So what is seldom called is
        // learnt when it is called.
        let learnt_ns = function.inlining.learnt_ns();
        let is_alone = now_ns.saturating_sub(learnt_ns) >= nanoseconds(BATCH_TIME);
        let began_ns = if is_alone { learnt_ns } else { now_ns };
        self.batches.push(Batch { function: Arc::clone(function), began_ns, requests: vec![request] });
    }

    /// Has the host learn from the batches that are due.
    fn learn(&mut self, shared: &Arc<Shared>, now_ns: u64) {
        let is_due = |batch: &mut Batch| {
            batch.requests.len() >= BATCH_MAX || now_ns.saturating_sub(batch.began_ns) >= nanoseconds(BATCH_TIME)
        };
        for batch in self.batches.extract_if(.., is_due) {
            batch.learn(shared);
        }
    }

    /// Has the host learn from everything, when a thread has nothing to do.
    fn learn_all(&mut self, shared: &Arc<Shared>) {
        self.batches.drain(..).for_each(|batch| batch.learn(shared));
    }
}

impl Batch {
    /// Has the host learn from these requests, and choose for the next ones.
    fn learn(self, shared: &Arc<Shared>) {
        let Self { function, requests, .. } = self;
        let function = &function;
        function.inlining.note_learnt(shared.cores.now_ns());
        let Some((last, _)) = requests.last() else { return };
        prewarm::answered(shared, function, last.engine, last.artifact, last.phases.total_ns());
        let useful_ns = requests.iter().map(|(observation, _)| observation.phases.total_ns()).sum();
        shared.cores.earn(Duration::from_nanos(useful_ns));
        let input_bytes = requests.iter().filter_map(|(observation, _)| observation.input_bytes).max();
        shared.observe(requests.iter().map(|(observation, _)| observation.clone()).collect());

        let candidates = function.candidates(&shared.cores);
        let request = function.request_when_served(input_bytes, &candidates);
        let learnt = shared.with_world(|world| function.scheduler.observe_batch(requests, &request, world));
        // If another thread has the scheduler, it learns later, and the plan stays.
        let Some(learnt) = learnt else { return };
        let decision = learnt.short.filter(|decision| may_plan(shared, function, decision));
        function.inlining.set(decision, &request);
        if let Some(tier_up) = learnt.tier_up {
            tier_up::start(shared, function, &tier_up);
        }
    }
}

/// Whether requests that run as `decision` says may run on the threads that bring them.
fn may_plan(shared: &Shared, function: &Function, decision: &Decision) -> bool {
    shared.inline
        // This thread would wait for another process.
        && !function.engine(decision.engine).known.has_workers()
        && decision.look_again_after_ns.is_none()
        && function.spec.preopens.is_empty()
        // Its guests wait for other servers.
        && function.spec.outbound.is_none()
        && !function.inlining.is_kept_away(shared.cores.now_ns())
}

/// Makes a plan after a request that a thread for guests ran, if there is none that holds and the next requests will be
/// short.
pub(super) fn plan(shared: &Shared, function: &Function, call: &Call, decision: &Decision) {
    let inlining = &function.inlining;
    if !may_plan(shared, function, decision) || inlining.plan_for(call).is_some() {
        return;
    }
    let candidates = function.candidates(&shared.cores);
    let request = function.request(call, &candidates);
    if shared.with_world(|world| function.scheduler.is_short(decision.engine, &request, world)) {
        inlining.set(Some(decision.clone()), &request);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;

    use remuda_model::{Entry, GuestContext, GuestLimits, Preopen, Sink};
    use remuda_scheduler::Policy;
    use tempfile::TempDir;

    use super::*;
    use crate::request::plan::TIMEOUT_MIN;
    use crate::{FunctionSpec, Host, HostConfig};

    /// A host, and a function on the mock engine.
    fn host(spec: impl FnOnce(&Path, FunctionSpec) -> FunctionSpec) -> (TempDir, Host, Arc<Function>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.wat");
        std::fs::write(&path, "(module (func (export \"_start\")))").unwrap();
        let config =
            HostConfig { policy: Policy::Hedged, workers: 1, queue_max: 10, inline: true, ..HostConfig::default() };
        let host = Host::open(&config).unwrap();
        let engines = Some(vec!["mock".to_owned()]);
        let spec = spec(dir.path(), FunctionSpec { engines, ..FunctionSpec::of_module(&path) });
        let function = host.deploy(spec, None).unwrap();
        (dir, host, function)
    }

    /// A call that has the mock engine do `args`.
    fn call(host: &Host, function: &Function, args: &[&str]) -> Call {
        let context = GuestContext {
            args: std::iter::once("f").chain(args.iter().copied()).map(str::to_owned).collect(),
            stdout: Sink::Capture { bytes_max: 100 },
            preopens: function.spec().preopens.clone(),
            ..GuestContext::default()
        };
        Call { id: host.next_request_id(), entry: Entry::Command, context, limits: function.spec().limits }
    }

    /// Has a thread of the host run a call.
    fn submit(host: &Host, function: &Arc<Function>, call: Call) -> Answer {
        let (done, told) = channel();
        let ticket = host.submit(function, call, Instant::now(), move |answer| done.send(answer).unwrap()).unwrap();
        let answer = told.recv().unwrap().unwrap();
        drop(ticket);
        answer
    }

    fn runs_here(thread: &InlineThread, function: &Arc<Function>, call: Call) -> bool {
        match thread.run(function, call, Instant::now()) {
            Inline::Answered(answer) => {
                assert_eq!(answer.unwrap().outcome, Outcome::Returned);
                true
            }
            Inline::Declined(_) => false,
        }
    }

    /// Has the function called until its requests run on the thread that brings them.
    fn warm(host: &Host, thread: &InlineThread, function: &Arc<Function>) {
        while !runs_here(thread, function, call(host, function, &[])) {
            submit(host, function, call(host, function, &[]));
        }
    }

    #[test]
    fn what_was_short_runs_here_from_then_on_and_the_host_learns_from_it() {
        let (_dir, host, function) = host(|_, spec| spec);
        let thread = host.inline_thread().unwrap();
        assert!(!runs_here(&thread, &function, call(&host, &function, &[])), "nothing is known of it");
        warm(&host, &thread, &function);
        let known = |function: &Function| {
            function.scheduler.with(|scheduler| scheduler.profile().engines().map(|(_, own)| own.execute.count()).sum())
        };
        thread.state.lock().learn_all(host.shared());
        let before: u64 = known(&function);
        for _ in 0..1000 {
            if !runs_here(&thread, &function, call(&host, &function, &[])) {
                submit(&host, &function, call(&host, &function, &[]));
            }
        }
        drop(thread);
        // What could not be learnt at once is learnt with the next request.
        submit(&host, &function, call(&host, &function, &[]));
        assert_eq!(known(&function), before + 1001);
        assert!(host.counters().inline.get() > 0);
    }

    #[test]
    fn who_runs_away_is_stopped_and_begins_anew_elsewhere() {
        let (_dir, host, function) = host(|_, spec| spec);
        let thread = host.inline_thread().unwrap();
        warm(&host, &thread, &function);
        let spin = call(&host, &function, &["--spin"]);
        let Inline::Declined(spin) = thread.run(&function, spin, Instant::now()) else { panic!("it ended") };
        assert_eq!(host.counters().inline_overruns.get(), 1);
        // Others go on while it spins on the host's only thread for guests, but this function is kept away.
        let (done, told) = channel();
        let ticket = host.submit(&function, spin, Instant::now(), move |answer| done.send(answer).unwrap()).unwrap();
        assert!(!runs_here(&thread, &function, call(&host, &function, &[])), "it is kept away");
        drop(ticket);
        let outcome = told.recv().unwrap().unwrap().outcome;
        assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome}");
        submit(&host, &function, call(&host, &function, &[]));
        assert!(!runs_here(&thread, &function, call(&host, &function, &[])), "a short request changes nothing");
    }

    #[test]
    fn who_may_open_files_or_has_little_time_does_not_run_here() {
        let with_folder = |dir: &Path, spec| {
            let preopens = vec![Preopen { host: dir.to_owned(), guest: "/".into(), writable: false }];
            FunctionSpec { preopens, ..spec }
        };
        let hurried = |_: &Path, spec: FunctionSpec| {
            let limits = GuestLimits { timeout: TIMEOUT_MIN / 2, ..spec.limits };
            FunctionSpec { limits, ..spec }
        };
        for (_dir, host, function) in [host(with_folder), host(hurried)] {
            let thread = host.inline_thread().unwrap();
            for _ in 0..20 {
                submit(&host, &function, call(&host, &function, &[]));
                assert!(!runs_here(&thread, &function, call(&host, &function, &[])));
            }
        }
    }

    #[test]
    fn functions_share_a_thread() {
        let shared_ns = nanoseconds(SHARED_TIME);
        let mut state = State::default();
        state.may_run(1, shared_ns);
        state.note_time(1, shared_ns * 10);
        assert!(state.may_run(1, shared_ns), "it is alone");
        state.note_time(2, 10);
        assert!(!state.may_run(1, shared_ns), "it has had its half");
        assert!(state.may_run(2, shared_ns) && state.may_run(3, shared_ns));
        assert!(state.may_run(1, shared_ns * 2), "another span of time");
    }
}
